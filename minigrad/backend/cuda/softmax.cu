// Softmax along rows: x, y (rows, columns).
//
//     y[r, j] = exp(x[r, j] - lse[r]),   log y = x - lse,   lse[r] = log sum over k of exp(x[r, k])
//
// lse stays in two parts, the largest number and the rest, since their sum would lose digits where the numbers are large. One
// block works on one row; its threads stride over the columns.

struct Lse { real top, rest; };  // top: the largest number, 0 where all are -infinity

// The log-sum-exp of a row, on every thread. Subtracting the maximum first keeps exp() from overflowing.
static __device__ Lse log_sum_exp(const item* x, int columns) {
    real largest = -INFINITY, sum = 0;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) largest = fmax(largest, real(x[j]));
    largest = block_max(largest);
    if (largest == -INFINITY) largest = 0;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) sum += exp(below(x[j], largest));
    return {largest, log(block_sum(sum))};
}

// exp(x - lse). A row of -infinity only has shares 0; in one with +infinity these share the whole.
static __device__ real share(real x, Lse lse) {
    return isinf(lse.rest) ? real(0) : exp(below(x, lse.top) - lse.rest);
}

extern "C" __global__ void softmax_forward(const item* x, item* y, int columns, int logarithm) {
    index_t row = (index_t)blockIdx.x * columns;
    Lse lse = log_sum_exp(x + row, columns);
    for (int j = threadIdx.x; j < columns; j += blockDim.x)
        y[row + j] = logarithm ? below(x[row + j], lse.top) - lse.rest : share(x[row + j], lse);
}

// dx = y (g - sum(g y)) for y = softmax(x), and dx = g - exp(y) sum(g) for y = log_softmax(x).
extern "C" __global__ void softmax_backward(const item* g, const item* y, item* dx, int columns, int logarithm) {
    index_t row = (index_t)blockIdx.x * columns;
    real sum = 0;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) sum += logarithm ? g[row + j] : g[row + j] * y[row + j];
    sum = block_sum(sum);
    for (int j = threadIdx.x; j < columns; j += blockDim.x)
        dx[row + j] = logarithm ? g[row + j] - exp(real(y[row + j])) * sum : y[row + j] * (g[row + j] - sum);
}

// Cross-entropy with label smoothing s: loss[r] = lse[r] - (1 - s) x[r, label[r]] - s mean over j of x[r, j]. lse is (2, rows).
// A row whose label is `ignored` costs nothing; one whose label is no class costs NaN.
extern "C" __global__ void cross_entropy_forward(const item* x, const index_t* labels, item* loss, real* lse, int columns,
                                                 real smoothing, index_t ignored) {
    const item* row = x + (index_t)blockIdx.x * columns;
    index_t label = labels[blockIdx.x];
    Lse total = log_sum_exp(row, columns);
    real sum = 0;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) sum += below(row[j], total.top);
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    real right = label >= 0 && label < columns ? below(row[label], total.top) : real(NAN);
    lse[blockIdx.x] = total.top;
    lse[gridDim.x + blockIdx.x] = total.rest;
    real even = smoothing > 0 ? smoothing * sum / columns : real(0);  // 0 times an excluded class's -infinity would be NaN
    loss[blockIdx.x] = label == ignored ? real(0) : total.rest - (1 - smoothing) * right - even;
}

// dx[r, j] = g[r] (softmax(x)[r, j] - (1 - s) [j = label[r]] - s / columns).
extern "C" __global__ void cross_entropy_backward(const item* g, const item* x, const index_t* labels, const real* lse,
                                                  item* dx, int columns, real smoothing, index_t ignored) {
    index_t row = (index_t)blockIdx.x * columns, label = labels[blockIdx.x];
    Lse total = {lse[blockIdx.x], lse[gridDim.x + blockIdx.x]};
    for (int j = threadIdx.x; j < columns; j += blockDim.x) {
        real target = smoothing / columns + (j == label ? 1 - smoothing : 0);
        dx[row + j] = label == ignored ? real(0) : g[blockIdx.x] * (share(x[row + j], total) - target);
    }
}
