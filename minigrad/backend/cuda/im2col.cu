// A convolution as a matrix product: the windows of images x (N, C, H, W) become the columns of a matrix
// (C kh kw, N rows columns), zeros where a window reaches into the padding. Then y = weight (O, C kh kw) @ matrix.
//
// The window of output (i, j) has its element (a, b) at row i sh - ph + a dh, column j sw - pw + b dw of the image.
//
// Threads stand side by side as the windows (or pixels) of all images do, so what they read and write together lies together.
// The blocks of a channel follow each other: blockIdx.x = channel * blocks + block.

// The image and the place in it of the `index`-th of all windows or pixels. Division of 64 bits is slow and seldom needed.
struct Place { int image, within; };

static __device__ Place place(index_t index, int size) {
    if (index <= 0x7fffffff) return {(int)index / size, (int)index % size};
    return {(int)(index / size), (int)(index % size)};
}

// A thread copies rows blockIdx.y, blockIdx.y + gridDim.y, ... of one window of one channel.
extern "C" __global__ void im2col(const item* x, item* matrix, int images, int channels, int height, int width, int rows,
                                  int columns, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    int blocks = gridDim.x / channels, c = blockIdx.x / blocks;
    index_t windows = (index_t)images * rows * columns, window = (index_t)(blockIdx.x % blocks) * blockDim.x + threadIdx.x;
    if (window >= windows) return;
    Place at = place(window, rows * columns);
    int top = at.within / columns * sh - ph, left = at.within % columns * sw - pw;
    const item* plane = x + ((index_t)at.image * channels + c) * height * width;
    for (int a = blockIdx.y; a < kh; a += gridDim.y) {
        int row = top + a * dh;
        bool row_inside = row >= 0 && row < height;
        item* to = matrix + (index_t)(c * kh + a) * kw * windows + window;
        for (int b = 0; b < kw; b++, to += windows) {
            int column = left + b * dw;
            *to = row_inside && column >= 0 && column < width ? plane[row * width + column] : real(0);
        }
    }
}

// The transpose: every pixel of x gets the sum of the matrix elements that im2col copies it to. A thread works on one pixel
// of one channel, and visits the windows above it.
extern "C" __global__ void col2im(const item* matrix, item* x, int images, int channels, int height, int width, int rows,
                                  int columns, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    int blocks = gridDim.x / channels, c = blockIdx.x / blocks, size = height * width;
    index_t pixels = (index_t)images * size, pixel = (index_t)(blockIdx.x % blocks) * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    Place at = place(pixel, size);
    int bottom = at.within / width + ph, right = at.within % width + pw;
    index_t windows = (index_t)images * rows * columns;
    real sum = 0;
    for (int a = 0; a < kh; a++) {
        int i = bottom - a * dh;  // sh times the window's row
        if (i < 0 || (sh > 1 && i % sh)) continue;
        if (sh > 1) i /= sh;
        if (i >= rows) continue;
        const item* from = matrix + (index_t)(c * kh + a) * kw * windows + ((index_t)at.image * rows + i) * columns;
        for (int b = 0; b < kw; b++, from += windows) {
            int j = right - b * dw;
            if (j < 0 || (sw > 1 && j % sw)) continue;
            if (sw > 1) j /= sw;
            if (j < columns) sum += from[j];
        }
    }
    x[((index_t)at.image * channels + c) * size + at.within] = sum;
}

// y (second, first, size) from x (first, second, size): planes change places. A thread copies one element.
extern "C" __global__ void swap_planes(const item* x, item* y, int first, int second, int size) {
    index_t i = thread_index();
    if (i >= (index_t)first * second * size) return;
    Place at = place(i, size);
    y[i] = x[((index_t)(at.image % first) * second + at.image / first) * size + at.within];
}
