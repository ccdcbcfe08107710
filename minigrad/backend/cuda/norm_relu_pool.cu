// The block of a small convolutional net after its convolution, max_pool(relu(batch_norm(x)), size), in one pass over x.
//
// x (N, C, H, W); y and winner (N, C, H / size, W / size) with winner the position in the window, row by row, of its largest
// value. Rows and columns at the end that fill no window count in the statistics but not in y. One block works on one plane
// (one channel of one image), its threads stride over the pixels; blockIdx.x = image * C + channel. The statistics are
// those of batch_norm.cu.

extern "C" __global__ void norm_relu_pool_forward(const item* x, const item* w, const item* b, const real* mean,
                                                  const real* var, item* y, int* winner, int channels, int height, int width,
                                                  int size, real eps) {
    int c = blockIdx.x % channels, rows = height / size, columns = width / size;
    real scale = w[c] / sqrt(var[c] + eps);
    const item* plane = x + (index_t)blockIdx.x * height * width;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        const item* window = plane + i / columns * size * width + i % columns * size;
        real best = -INFINITY;
        int place = 0;
        for (int k = 0; k < size * size; k++) {
            real value = (window[k / size * width + k % size] - mean[c]) * scale + b[c];
            if (value > best || (isnan(value) && !isnan(best))) {  // the first of equals; NaN beats all
                best = value;
                place = k;
            }
        }
        index_t at = (index_t)blockIdx.x * rows * columns + i;
        y[at] = best <= 0 ? real(0) : best;
        winner[at] = place;
    }
}

// For each plane the sums of g and of g xhat over the winners that the ReLU let through: (N, C).
extern "C" __global__ void norm_relu_pool_sums(const item* g, const item* x, const item* y, const int* winner,
                                               const real* mean, const real* inv_std, real* db, real* dw, int channels,
                                               int height, int width, int size) {
    int c = blockIdx.x % channels, rows = height / size, columns = width / size;
    const item* plane = x + (index_t)blockIdx.x * height * width;
    real sum = 0, dot = 0;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        index_t at = (index_t)blockIdx.x * rows * columns + i;
        if (y[at] > 0) {
            int k = winner[at], row = i / columns * size + k / size, column = i % columns * size + k % size;
            sum += g[at];
            dot += g[at] * (plane[row * width + column] - mean[c]);
        }
    }
    sum = block_sum(sum);
    dot = block_sum(dot);
    if (threadIdx.x > 0) return;
    db[blockIdx.x] = sum;
    dw[blockIdx.x] = dot * inv_std[c];
}

// dx = w inv_std (h - db / n - xhat dw / n), where h is g at the winners that the ReLU let through and 0 elsewhere.
extern "C" __global__ void norm_relu_pool_backward(const item* g, const item* x, const item* y, const int* winner,
                                                   const item* w, const real* mean, const real* inv_std, const real* db,
                                                   const real* dw, item* dx, int channels, int height, int width, int size,
                                                   real n) {
    int c = blockIdx.x % channels, rows = height / size, columns = width / size;
    for (int i = threadIdx.x; i < height * width; i += blockDim.x) {
        int row = i / width, column = i % width, k = row % size * size + column % size;
        real h = 0;
        if (row / size < rows && column / size < columns) {
            index_t window = ((index_t)blockIdx.x * rows + row / size) * columns + column / size;
            if (winner[window] == k && y[window] > 0) h = g[window];
        }
        index_t at = (index_t)blockIdx.x * height * width + i;
        dx[at] = w[c] * inv_std[c] * (h - db[c] / n - (x[at] - mean[c]) * inv_std[c] * dw[c] / n);
    }
}
