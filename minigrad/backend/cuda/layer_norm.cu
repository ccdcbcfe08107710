// Layer norm and RMS norm of the rows of x (rows, columns), with weight w and bias b (columns,).
//
//     layer norm: y = w (x - mean) inv_std + b,   inv_std = 1 / sqrt(var + eps)
//     RMS norm:   the same with mean = 0 and b = 0, so var is the mean square
//
// One block works on one row; its threads stride over the columns. w and b may be null for 1 and 0.

extern "C" __global__ void layer_norm_forward(const item* x, const item* w, const item* b, item* y, real* mean,
                                              real* inv_std, int columns, real eps, int centre) {
    const item* row = x + (index_t)blockIdx.x * columns;
    real m = 0, squares = 0;
    if (centre) {
        for (int j = threadIdx.x; j < columns; j += blockDim.x) m += row[j];
        m = block_sum(m) / columns;
    }
    // A second pass over the row, which lies in the cache: E[x^2] - mean^2 would cancel.
    for (int j = threadIdx.x; j < columns; j += blockDim.x) squares += (row[j] - m) * (row[j] - m);
    real scale = 1 / sqrt(block_sum(squares) / columns + eps);
    for (int j = threadIdx.x; j < columns; j += blockDim.x)
        y[(index_t)blockIdx.x * columns + j] = (w ? w[j] : real(1)) * (row[j] - m) * scale + (b ? b[j] : real(0));
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = m;
    inv_std[blockIdx.x] = scale;
}

// With xhat = (x - mean) inv_std and h = w g:  dx = inv_std (h - mean of h - xhat mean of (h xhat)).
// RMS norm does without the mean of h.
extern "C" __global__ void layer_norm_backward(const item* g, const item* x, const item* w, const real* mean,
                                               const real* inv_std, item* dx, int columns, int centre) {
    index_t row = (index_t)blockIdx.x * columns;
    real m = mean[blockIdx.x], scale = inv_std[blockIdx.x], sum = 0, dot = 0;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) {
        real h = (w ? w[j] : real(1)) * g[row + j];
        sum += h;
        dot += h * (x[row + j] - m) * scale;
    }
    sum = centre ? block_sum(sum) / columns : real(0);
    dot = block_sum(dot) / columns;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) {
        real h = (w ? w[j] : real(1)) * g[row + j];
        dx[row + j] = scale * (h - sum - (x[row + j] - m) * scale * dot);
    }
}

// The gradients of w and b: sums of g xhat and of g over the rows, as partial sums (chunks, columns) of `per_chunk` rows.
// A block of 32 x 8 threads works on 32 columns of one chunk, as in column_sum.
extern "C" __global__ void layer_norm_affine_backward(const item* g, const item* x, const real* mean, const real* inv_std,
                                                      real* dw, real* db, index_t rows, int columns, index_t per_chunk) {
    __shared__ real w_sums[8][32], b_sums[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    index_t first = blockIdx.y * per_chunk, last = min(rows, first + per_chunk);
    real w_sum = 0, b_sum = 0;
    if (column < columns)
        for (index_t row = first + threadIdx.y; row < last; row += 8) {
            index_t i = row * columns + column;
            w_sum += g[i] * (x[i] - mean[row]) * inv_std[row];
            b_sum += g[i];
        }
    w_sums[threadIdx.y][threadIdx.x] = w_sum;
    b_sums[threadIdx.y][threadIdx.x] = b_sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= columns) return;
    for (int k = 1; k < 8; k++) {
        w_sum += w_sums[k][threadIdx.x];
        b_sum += b_sums[k][threadIdx.x];
    }
    dw[(index_t)blockIdx.y * columns + column] = w_sum;
    db[(index_t)blockIdx.y * columns + column] = b_sum;
}
