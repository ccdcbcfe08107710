// A convolution as a matrix product: the windows of images x (N, C, H, W) become the columns of a matrix
// (C kh kw, N rows columns), zeros where a window reaches into the padding. Then y = weight (O, C kh kw) @ matrix.
//
// The window of output (i, j) has its element (a, b) at row i sh - ph + a dh, column j sw - pw + b dw of the image.

// One block works on one row of the matrix for one image, so on one element (c, a, b) of all windows; its threads stride
// over the windows. blockIdx.x = ((c kh + a) kw + b) N + image.
extern "C" __global__ void im2col(const item* x, item* matrix, int images, int channels, int height, int width, int rows,
                                  int columns, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    int n = blockIdx.x % images, element = blockIdx.x / images;
    int b = element % kw, a = element / kw % kh, c = element / kw / kh;
    const item* plane = x + ((index_t)n * channels + c) * height * width;
    for (int i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        int row = i / columns * sh - ph + a * dh, column = i % columns * sw - pw + b * dw;
        bool inside = row >= 0 && row < height && column >= 0 && column < width;
        matrix[(index_t)blockIdx.x * rows * columns + i] = inside ? plane[row * width + column] : real(0);
    }
}

// The transpose: every pixel of x gets the sum of the matrix elements that im2col copies it to. One block works on one
// plane, blockIdx.x = image * C + c; its threads stride over the pixels and each visits the windows above its own.
extern "C" __global__ void col2im(const item* matrix, item* x, int images, int channels, int height, int width, int rows,
                                  int columns, int kh, int kw, int sh, int sw, int ph, int pw, int dh, int dw) {
    int n = blockIdx.x / channels, c = blockIdx.x % channels;
    for (int pixel = threadIdx.x; pixel < height * width; pixel += blockDim.x) {
        real sum = 0;
        for (int a = 0; a < kh; a++)
            for (int b = 0; b < kw; b++) {
                int i = pixel / width + ph - a * dh, j = pixel % width + pw - b * dw;  // sh and sw times the window's place
                if (i < 0 || j < 0 || i % sh || j % sw || i / sh >= rows || j / sw >= columns) continue;
                index_t element = ((index_t)(c * kh + a) * kw + b) * images + n;
                sum += matrix[(element * rows + i / sh) * columns + j / sw];
            }
        x[(index_t)blockIdx.x * height * width + pixel] = sum;
    }
}
