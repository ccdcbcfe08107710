// Activations y = f(x + bias) and their gradients: x, y (rows, columns), bias (columns,) or null.
//
// One thread works on EACH elements, all of which it reads before it writes the first, so that many reads are under way.
// `kind` is the same for all threads, so choosing by it costs next to nothing. Python reads the names from the list below; one
// without its case gives NaN. `setting` is the slope of the leaky ReLU below 0, and where the limited ReLU ends.

enum Kind { RELU, LIMITED_RELU, GELU, GELU_TANH, SILU, LEAKY_RELU, SOFTPLUS, SOFTSIGN };

constexpr int EACH = 4;

// x within [-1000, 1000], where all but softsign have come to their limits; NaN stays. Infinity times 0 is not a number.
static __device__ real bounded(real x) { return x > 1000 ? real(1000) : x < -1000 ? real(-1000) : x; }
static __device__ real bounded_below(real x) { return x < -1000 ? real(-1000) : x; }

// f(x).
static __device__ real value(int kind, real x, real setting) {
    switch (kind) {
        case RELU: return x <= 0 ? real(0) : x;
        case LIMITED_RELU: return x <= 0 ? real(0) : x >= setting ? setting : x;
        case GELU: return bounded_below(x) * (real(0.5) * (1 + erf(x * real(0.7071067811865476))));
        case GELU_TANH:
            return bounded_below(x) * (real(0.5) * (1 + tanh(real(0.7978845608028654) * (x + real(0.044715) * x * x * x))));
        case SILU: return bounded_below(x) * logistic(x);
        case LEAKY_RELU: return x > 0 ? x : setting * x;
        case SOFTPLUS: return fmax(x, real(0)) + log1p(exp(-fabs(x)));  // log(1 + exp(x))
        case SOFTSIGN: return isinf(x) ? (x > 0 ? real(1) : real(-1)) : x / (1 + fabs(x));
        default: return NAN;
    }
}

// f'(x), but for those that are 0 or 1.
static __device__ real derivative(int kind, real x, real setting) {
    switch (kind) {
        case GELU: {
            x = bounded(x);
            real density = real(0.3989422804014327) * exp(x * x * real(-0.5));
            return real(0.5) * (1 + erf(x * real(0.7071067811865476))) + x * density;
        }
        case GELU_TANH: {
            x = bounded(x);
            real t = tanh(real(0.7978845608028654) * (x + real(0.044715) * x * x * x));
            real slope_inside = real(0.7978845608028654) * (1 + 3 * real(0.044715) * x * x);
            return real(0.5) * (1 + t) + real(0.5) * x * (1 - t * t) * slope_inside;
        }
        case SILU: {
            x = bounded(x);
            return logistic(x) * (1 + x * (1 - logistic(x)));
        }
        case LEAKY_RELU: return x > 0 ? real(1) : setting;
        case SOFTPLUS: return logistic(x);
        case SOFTSIGN: return 1 / ((1 + fabs(x)) * (1 + fabs(x)));
        default: return NAN;
    }
}

// g f'(x); of the two ReLUs 0 where they are flat, whatever g is, as that place had no part in them.
static __device__ real gradient(int kind, real g, real x, real setting) {
    switch (kind) {
        case RELU: return x > 0 ? g : real(0);
        case LIMITED_RELU: return x <= 0 || x >= setting ? real(0) : g;
        default: return g * derivative(kind, x, setting);
    }
}

// x + bias at place i of n, 0 behind the last.
static __device__ real input(const item* x, const item* bias, index_t i, index_t n, int columns) {
    return i >= n ? real(0) : bias ? x[i] + bias[i % columns] : real(x[i]);
}

extern "C" __global__ void activation_forward(int kind, const item* x, const item* bias, item* y, index_t n, int columns,
                                              real setting) {
    index_t first = (index_t)blockIdx.x * blockDim.x * EACH + threadIdx.x;
    real own[EACH];
    for (int k = 0; k < EACH; k++) own[k] = input(x, bias, first + k * blockDim.x, n, columns);
    for (int k = 0; k < EACH; k++) {
        index_t i = first + k * blockDim.x;
        if (i < n) y[i] = value(kind, own[k], setting);
    }
}

extern "C" __global__ void activation_backward(int kind, const item* g, const item* x, const item* bias, item* dx, index_t n,
                                               int columns, real setting) {
    index_t first = (index_t)blockIdx.x * blockDim.x * EACH + threadIdx.x;
    real own[EACH], own_g[EACH];
    for (int k = 0; k < EACH; k++) {
        index_t i = first + k * blockDim.x;
        own[k] = input(x, bias, i, n, columns);
        own_g[k] = i >= n ? real(0) : real(g[i]);
    }
    for (int k = 0; k < EACH; k++) {
        index_t i = first + k * blockDim.x;
        if (i < n) dx[i] = gradient(kind, own_g[k], own[k], setting);
    }
}
