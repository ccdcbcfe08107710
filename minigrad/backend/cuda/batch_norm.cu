// Batch norm of x (N, C, P): each channel by its mean and variance over N images of P pixels.
//
//     y = w (x - mean) inv_std + b,   inv_std = 1 / sqrt(var + eps);   w, b, mean, var (C,)
//
// A plane is the P pixels of one channel in one image. Except in merge_moments one block works on one plane, its threads
// stride over the pixels, and blockIdx.x = image * C + channel.

// The mean and the sum of squared deviations of each plane: (N, C).
extern "C" __global__ void plane_moments(const item* x, real* mean, real* squares, int pixels) {
    const item* plane = x + (index_t)blockIdx.x * pixels;
    real sum = 0, sum_of_squares = 0;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) sum += plane[i];
    real m = block_sum(sum) / pixels;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) sum_of_squares += (plane[i] - m) * (plane[i] - m);
    sum_of_squares = block_sum(sum_of_squares);
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = m;
    squares[blockIdx.x] = sum_of_squares;
}

// Mean and variance of each channel from those of its planes, which are equally large. One block works on one channel. The
// deviations of the planes' means from the mean of all count for every pixel; nothing cancels, however far from 0 x is.
extern "C" __global__ void merge_moments(const real* plane_mean, const real* squares, real* mean, real* var, int images,
                                         int channels, int pixels) {
    real sum = 0, spread = 0;
    for (int n = threadIdx.x; n < images; n += blockDim.x) sum += plane_mean[(index_t)n * channels + blockIdx.x];
    real m = block_sum(sum) / images;
    for (int n = threadIdx.x; n < images; n += blockDim.x) {
        index_t i = (index_t)n * channels + blockIdx.x;
        spread += squares[i] / pixels + (plane_mean[i] - m) * (plane_mean[i] - m);
    }
    spread = block_sum(spread) / images;
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = m;
    var[blockIdx.x] = spread;
}

extern "C" __global__ void batch_norm_apply(const item* x, const item* w, const item* b, const real* mean, const real* var,
                                            item* y, int channels, int pixels, real eps, int relu) {
    int c = blockIdx.x % channels;
    real scale = w[c] / sqrt(var[c] + eps);
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        index_t at = (index_t)blockIdx.x * pixels + i;
        real value = (x[at] - mean[c]) * scale + b[c];
        y[at] = relu && value < 0 ? real(0) : value;
    }
}

// For each plane the sums of g and of g (x - mean) inv_std: (N, C). Summed over the images they are db and dw. Where y is
// not null a ReLU followed, and g counts only where y > 0.
extern "C" __global__ void batch_norm_sums(const item* g, const item* x, const item* y, const real* mean,
                                           const real* inv_std, real* db, real* dw, int channels, int pixels) {
    int c = blockIdx.x % channels;
    real sum = 0, dot = 0;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        index_t at = (index_t)blockIdx.x * pixels + i;
        real passed = !y || y[at] > 0 ? g[at] : real(0);
        sum += passed;
        dot += passed * (x[at] - mean[c]);
    }
    sum = block_sum(sum);
    dot = block_sum(dot);
    if (threadIdx.x > 0) return;
    db[blockIdx.x] = sum;
    dw[blockIdx.x] = dot * inv_std[c];
}

// dx = w inv_std (g - db / n - xhat dw / n), n = N P values a channel.
extern "C" __global__ void batch_norm_backward(const item* g, const item* x, const item* y, const item* w, const real* mean,
                                               const real* inv_std, const real* db, const real* dw, item* dx, int channels,
                                               int pixels, real n) {
    int c = blockIdx.x % channels;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        index_t at = (index_t)blockIdx.x * pixels + i;
        real passed = !y || y[at] > 0 ? g[at] : real(0), xhat = (x[at] - mean[c]) * inv_std[c];
        dx[at] = w[c] * inv_std[c] * (passed - db[c] / n - xhat * dw[c] / n);
    }
}

// The gradient in x of the dx above for its cotangent h: with the sums dw of g xhat and hw of h xhat, dh = the dx of h
// instead of g, and s = sum of (g - db / n - xhat dw / n) h,
//     in_x = -inv_std (dh dw / n + dx hw / n + w inv_std xhat s / n).
extern "C" __global__ void batch_norm_double_backward(const item* dh, const item* dx, const item* x, const item* w,
                                                      const real* mean, const real* inv_std, const real* dw, const real* hw,
                                                      const real* s, item* in_x, int channels, int pixels, real n) {
    int c = blockIdx.x % channels;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        index_t at = (index_t)blockIdx.x * pixels + i;
        real xhat = (x[at] - mean[c]) * inv_std[c];
        in_x[at] = -inv_std[c] / n * (dh[at] * dw[c] + dx[at] * hw[c] + w[c] * inv_std[c] * xhat * s[c]);
    }
}

// 1 / sqrt(var + eps)
extern "C" __global__ void inverse_std(const real* var, real* y, int channels, real eps) {
    index_t c = thread_index();
    if (c < channels) y[c] = 1 / sqrt(var[c] + eps);
}

// The running statistics move towards those of a batch, the variance towards its unbiased form.
extern "C" __global__ void move_running(const real* mean, const real* var, real* running_mean, real* running_var, int channels,
                                        real momentum, real unbiased) {
    index_t c = thread_index();
    if (c >= channels) return;
    running_mean[c] += momentum * (mean[c] - running_mean[c]);
    running_var[c] += momentum * (var[c] * unbiased - running_var[c]);
}

// Batch norm with fixed statistics as part of the convolution before it, a filter being `each` numbers of the weight:
// scaled = s weight and shift = b - s mean, where s = w / sqrt(var + eps).
extern "C" __global__ void fold_norm(const item* weight, const item* w, const item* b, const item* mean, const item* var,
                                     item* scaled, item* shift, index_t n, int each, real eps) {
    index_t i = thread_index();
    if (i >= n) return;
    int c = i / each;
    real s = real(w[c]) * (1 / sqrt(real(var[c]) + eps));
    scaled[i] = real(weight[i]) * s;
    if (i % each == 0) shift[c] = real(b[c]) - real(mean[c]) * s;
}
