// Depthwise convolution: x (N, C, H, W), w (O, kh, kw), y (N, O, rows, columns); output channel o sees input channel
// o / (O / C) alone. Element (a, b) of the window of output (i, j) lies at row i sh - ph + a dh, column j sw - pw + b dw.

// One block works on one output plane, blockIdx.x = image * O + o; its threads stride over the plane.
extern "C" __global__ void depthwise_forward(const item* x, const item* w, item* y, int outputs, int multiplier,
                                             int height, int width, int rows, int columns, int kh, int kw, int sh, int sw,
                                             int ph, int pw, int dh, int dw) {
    const item* plane = x + (index_t)(blockIdx.x / multiplier) * height * width;
    const item* filter = w + blockIdx.x % outputs * kh * kw;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        real sum = 0;
        for (int a = 0; a < kh; a++)
            for (int b = 0; b < kw; b++) {
                int row = i / columns * sh - ph + a * dh, column = i % columns * sw - pw + b * dw;
                if (row >= 0 && row < height && column >= 0 && column < width)
                    sum += filter[a * kw + b] * plane[row * width + column];
            }
        y[(index_t)blockIdx.x * rows * columns + i] = sum;
    }
}

// The gradient in x. One block works on one input plane, blockIdx.x = image * C + c; a thread collects for its pixel.
extern "C" __global__ void depthwise_input_backward(const item* g, const item* w, item* dx, int channels, int multiplier,
                                                    int height, int width, int rows, int columns, int kh, int kw, int sh,
                                                    int sw, int ph, int pw, int dh, int dw) {
    for (int pixel = threadIdx.x; pixel < height * width; pixel += blockDim.x) {
        real sum = 0;
        for (int m = 0; m < multiplier; m++)
            for (int a = 0; a < kh; a++)
                for (int b = 0; b < kw; b++) {
                    int i = pixel / width + ph - a * dh, j = pixel % width + pw - b * dw;
                    if (i < 0 || j < 0 || i % sh || j % sw || i / sh >= rows || j / sw >= columns) continue;
                    index_t plane = (index_t)blockIdx.x * multiplier + m;
                    real weight = w[((blockIdx.x % channels * multiplier + m) * kh + a) * kw + b];
                    sum += weight * g[(plane * rows + i / sh) * columns + j / sw];
                }
        dx[(index_t)blockIdx.x * height * width + pixel] = sum;
    }
}

// The gradient in w. One block works on one weight, blockIdx.x = (o kh + a) kw + b; its threads stride over the outputs of
// all images.
extern "C" __global__ void depthwise_weight_backward(const item* g, const item* x, item* dw_, int images, int outputs,
                                                     int multiplier, int height, int width, int rows, int columns, int kh,
                                                     int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    int b = blockIdx.x % kw, a = blockIdx.x / kw % kh, o = blockIdx.x / kw / kh;
    real sum = 0;
    for (int k = threadIdx.x; k < images * rows * columns; k += blockDim.x) {
        int j = k % columns, i = k / columns % rows;
        index_t plane = (index_t)(k / columns / rows) * outputs + o;  // of g; that of x is this over the multiplier
        int row = i * sh - ph + a * dh, column = j * sw - pw + b * dw;
        if (row >= 0 && row < height && column >= 0 && column < width)
            sum += g[(plane * rows + i) * columns + j] * x[(plane / multiplier * height + row) * width + column];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) dw_[blockIdx.x] = sum;
}
