// Max and average pooling: x (N, C, H, W), y (N, C, rows, columns), windows of kh x kw every sh x sw pixels, ph and pw rows
// and columns of padding on each side.
//
// One block works on one plane (one channel of one image), its threads stride over the pixels that they write. Windows may
// overlap, so in the backward passes a thread collects for its pixel what all windows over it send: no atomics.

// winner (N, C, rows, columns) is the position in the window, row by row, of the value that won; padding never does.
extern "C" __global__ void max_pool_forward(const item* x, item* y, int* winner, int height, int width, int rows,
                                            int columns, int kh, int kw, int sh, int sw, int ph, int pw) {
    const item* plane = x + (index_t)blockIdx.x * height * width;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        int top = i / columns * sh - ph, left = i % columns * sw - pw, place = -1;
        real best = -INFINITY;
        for (int a = max(0, -top); a < min(kh, height - top); a++)
            for (int b = max(0, -left); b < min(kw, width - left); b++) {
                real value = plane[(top + a) * width + left + b];
                if (place < 0 || value > best || (isnan(value) && !isnan(best))) {  // the first of equals; NaN beats all
                    best = value;
                    place = a * kw + b;
                }
            }
        y[(index_t)blockIdx.x * rows * columns + i] = best;
        winner[(index_t)blockIdx.x * rows * columns + i] = place;
    }
}

// The sum over the windows above pixel (row, column) of what they send: g times `share`, or, where winner is not null, g to
// the winner only.
static __device__ real collect(const item* g, const int* winner, real share, int row, int column, int rows, int columns,
                               int kh, int kw, int sh, int sw, int ph, int pw) {
    real sum = 0;
    int first_i = max(0, (row + ph - kh + sh) / sh), first_j = max(0, (column + pw - kw + sw) / sw);
    for (int i = first_i; i < rows && i * sh - ph <= row; i++)
        for (int j = first_j; j < columns && j * sw - pw <= column; j++) {
            int place = (row - i * sh + ph) * kw + column - j * sw + pw;
            if (!winner || winner[i * columns + j] == place) sum += share * g[i * columns + j];
        }
    return sum;
}

extern "C" __global__ void max_pool_backward(const item* g, const int* winner, item* dx, int height, int width, int rows,
                                             int columns, int kh, int kw, int sh, int sw, int ph, int pw) {
    index_t window = (index_t)blockIdx.x * rows * columns;
    for (int i = threadIdx.x; i < height * width; i += blockDim.x)
        dx[(index_t)blockIdx.x * height * width + i] = collect(g + window, winner + window, 1, i / width, i % width, rows,
                                                               columns, kh, kw, sh, sw, ph, pw);
}

// The mean of each window, the zeros of the padding counted.
extern "C" __global__ void avg_pool_forward(const item* x, item* y, int height, int width, int rows, int columns, int kh,
                                            int kw, int sh, int sw, int ph, int pw) {
    const item* plane = x + (index_t)blockIdx.x * height * width;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        int top = i / columns * sh - ph, left = i % columns * sw - pw;
        real sum = 0;
        for (int a = max(0, -top); a < min(kh, height - top); a++)
            for (int b = max(0, -left); b < min(kw, width - left); b++) sum += plane[(top + a) * width + left + b];
        y[(index_t)blockIdx.x * rows * columns + i] = sum / (kh * kw);
    }
}

extern "C" __global__ void avg_pool_backward(const item* g, item* dx, int height, int width, int rows, int columns, int kh,
                                             int kw, int sh, int sw, int ph, int pw) {
    const item* windows = g + (index_t)blockIdx.x * rows * columns;
    for (int i = threadIdx.x; i < height * width; i += blockDim.x)
        dx[(index_t)blockIdx.x * height * width + i] = collect(windows, nullptr, real(1) / (kh * kw), i / width, i % width,
                                                               rows, columns, kh, kw, sh, sw, ph, pw);
}
