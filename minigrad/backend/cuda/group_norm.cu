// Group norm of x (N, C, P): the C channels of an image in groups of `members`, each group by its own mean and variance.
//
//     y = w (x - mean) inv_std + b,   inv_std = 1 / sqrt(var + eps);   w, b (C,), mean, inv_std (N, C / members)
//
// In the first two kernels one block works on one group of one image, blockIdx.x = image * groups + group, its threads
// stride over the group's values, which lie side by side: value j belongs to the group's channel j / pixels.

extern "C" __global__ void group_norm_forward(const item* x, const item* w, const item* b, item* y, real* mean,
                                              real* inv_std, int groups, int members, int pixels, real eps) {
    int first = blockIdx.x % groups * members, n = members * pixels;  // the group's first channel, its number of values
    index_t group = (index_t)blockIdx.x * n;
    real m = 0, squares = 0;
    for (int j = threadIdx.x; j < n; j += blockDim.x) m += x[group + j];
    m = block_sum(m) / n;
    for (int j = threadIdx.x; j < n; j += blockDim.x) squares += (x[group + j] - m) * (x[group + j] - m);
    real scale = 1 / sqrt(block_sum(squares) / n + eps);
    for (int j = threadIdx.x; j < n; j += blockDim.x)
        y[group + j] = w[first + j / pixels] * (x[group + j] - m) * scale + b[first + j / pixels];
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = m;
    inv_std[blockIdx.x] = scale;
}

// With xhat = (x - mean) inv_std and h = w g:  dx = inv_std (h - mean of h - xhat mean of (h xhat)), means over the group.
extern "C" __global__ void group_norm_backward(const item* g, const item* x, const item* w, const real* mean,
                                               const real* inv_std, item* dx, int groups, int members, int pixels) {
    int first = blockIdx.x % groups * members, n = members * pixels;
    index_t group = (index_t)blockIdx.x * n;
    real m = mean[blockIdx.x], scale = inv_std[blockIdx.x], sum = 0, dot = 0;
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        real h = w[first + j / pixels] * g[group + j];
        sum += h;
        dot += h * (x[group + j] - m) * scale;
    }
    sum = block_sum(sum) / n;
    dot = block_sum(dot) / n;
    for (int j = threadIdx.x; j < n; j += blockDim.x)
        dx[group + j] = scale * (w[first + j / pixels] * g[group + j] - sum - (x[group + j] - m) * scale * dot);
}

// For each plane the sums of g and of g xhat: (N, C). Summed over the images they are db and dw. One block works on one
// plane (one channel of one image), blockIdx.x = image * C + channel = (image * groups + group) * members + member.
extern "C" __global__ void group_norm_sums(const item* g, const item* x, const real* mean, const real* inv_std, real* db,
                                           real* dw, int members, int pixels) {
    index_t plane = (index_t)blockIdx.x * pixels;
    real m = mean[blockIdx.x / members], sum = 0, dot = 0;
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        sum += g[plane + i];
        dot += g[plane + i] * (x[plane + i] - m);
    }
    sum = block_sum(sum);
    dot = block_sum(dot);
    if (threadIdx.x > 0) return;
    db[blockIdx.x] = sum;
    dw[blockIdx.x] = dot * inv_std[blockIdx.x / members];
}
