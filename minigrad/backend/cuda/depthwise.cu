// Depthwise convolution: x (N, C, H, W), w (O, kh, kw), y (N, O, rows, columns); output channel o sees input channel
// o / (O / C) alone. Element (a, b) of the window of output (i, j) lies at row i sh - ph + a dh, column j sw - pw + b dw.

// One block works on one output plane, blockIdx.x = image * O + o; its threads stride over the plane.
extern "C" __global__ void depthwise_forward(const item* x, const item* w, item* y, int outputs, int multiplier,
                                             int height, int width, int rows, int columns, int kh, int kw, int sh, int sw,
                                             int ph, int pw, int dh, int dw) {
    const item* plane = x + (index_t)(blockIdx.x / multiplier) * height * width;
    const item* filter = w + blockIdx.x % outputs * kh * kw;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        int top = i / columns * sh - ph, left = i % columns * sw - pw;
        real sum = 0;
        for (int a = 0; a < kh; a++)
            for (int b = 0; b < kw; b++) {
                int row = top + a * dh, column = left + b * dw;
                if (row >= 0 && row < height && column >= 0 && column < width)
                    sum += filter[a * kw + b] * plane[row * width + column];
            }
        y[(index_t)blockIdx.x * rows * columns + i] = sum;
    }
}

// Divides n, not negative, by the stride, if that leaves no rest. Divisions are slow, and most strides are 1.
static __device__ bool divided(int& n, int stride) {
    if (stride == 1) return true;
    int quotient = n / stride;
    bool whole = quotient * stride == n;
    n = quotient;
    return whole;
}

// The gradient in x. One block works on one input plane, blockIdx.x = image * C + c; a thread collects for its pixel.
extern "C" __global__ void depthwise_input_backward(const item* g, const item* w, item* dx, int channels, int multiplier,
                                                    int height, int width, int rows, int columns, int kh, int kw, int sh,
                                                    int sw, int ph, int pw, int dh, int dw) {
    for (int pixel = threadIdx.x; pixel < height * width; pixel += blockDim.x) {
        int bottom = pixel / width + ph, right = pixel % width + pw;
        real sum = 0;
        for (int m = 0; m < multiplier; m++) {
            const item* plane = g + ((index_t)blockIdx.x * multiplier + m) * rows * columns;
            const item* filter = w + (blockIdx.x % channels * multiplier + m) * kh * kw;
            for (int a = 0; a < kh; a++) {
                int i = bottom - a * dh;
                if (i < 0 || !divided(i, sh) || i >= rows) continue;
                for (int b = 0; b < kw; b++) {
                    int j = right - b * dw;
                    if (j < 0 || !divided(j, sw) || j >= columns) continue;
                    sum += filter[a * kw + b] * plane[i * columns + j];
                }
            }
        }
        dx[(index_t)blockIdx.x * height * width + pixel] = sum;
    }
}

// The gradient in w, of some images alone: dw (parts, O, kh kw), whose sum over the parts is it. One block works on TAPS weights
// of one output channel, blockIdx.x = channel * pieces + piece, and on the images part, part + parts, ..., part = blockIdx.y; its
// threads stride over their outputs.
constexpr int TAPS = 9;

extern "C" __global__ void depthwise_weight_backward(const item* g, const item* x, real* dw_, int images, int outputs,
                                                     int multiplier, int height, int width, int rows, int columns, int kh,
                                                     int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    int pieces = (kh * kw + TAPS - 1) / TAPS, o = blockIdx.x / pieces, first = blockIdx.x % pieces * TAPS;
    real sums[TAPS] = {};
    for (int n = blockIdx.y; n < images; n += gridDim.y) {
        const item* g_plane = g + ((index_t)n * outputs + o) * rows * columns;
        const item* x_plane = x + (((index_t)n * outputs + o) / multiplier) * height * width;
        for (int k = threadIdx.x; k < rows * columns; k += blockDim.x) {
            int top = k / columns * sh - ph, left = k % columns * sw - pw;
            real own = g_plane[k];
            int a = first / kw, b = first % kw;
            for (int t = 0; t < TAPS; t++) {  // bounds known to the compiler keep `sums` in registers
                int row = top + a * dh, column = left + b * dw;
                bool inside = a < kh && row >= 0 && row < height && column >= 0 && column < width;
                if (inside) sums[t] += own * x_plane[row * width + column];
                if (++b == kw) a++, b = 0;
            }
        }
    }
    for (int t = 0; t < TAPS; t++) {
        real sum = block_sum(sums[t]);
        if (threadIdx.x == 0 && first + t < kh * kw) dw_[((index_t)blockIdx.y * outputs + o) * kh * kw + first + t] = sum;
    }
}
