// Activations y = f(x + bias) and their gradients: x, y (rows, columns), bias (columns,) or null.
//
// One thread works on one element. `kind` is the same for all threads, so choosing by it costs next to nothing. Python reads
// the names from the list below; one without its case gives NaN.

enum Kind { RELU, GELU, GELU_TANH, SILU, LEAKY_RELU, SOFTPLUS, SOFTSIGN };

static __device__ real logistic(real x) { return 1 / (1 + exp(-x)); }

// x within [-1000, 1000], where all but softsign have come to their limits; NaN stays. Infinity times 0 is not a number.
static __device__ real bounded(real x) { return x > 1000 ? real(1000) : x < -1000 ? real(-1000) : x; }
static __device__ real bounded_below(real x) { return x < -1000 ? real(-1000) : x; }

// f(x). `slope` is that of the leaky ReLU below 0.
static __device__ real value(int kind, real x, real slope) {
    switch (kind) {
        case RELU: return x > 0 ? x : real(0);
        case GELU: return bounded_below(x) * (real(0.5) * (1 + erf(x * real(0.7071067811865476))));
        case GELU_TANH: return bounded_below(x) * (real(0.5) * (1 + tanh(real(0.7978845608028654) * (x + real(0.044715) * x * x * x))));
        case SILU: return bounded_below(x) * logistic(x);
        case LEAKY_RELU: return x > 0 ? x : slope * x;
        case SOFTPLUS: return fmax(x, real(0)) + log1p(exp(-fabs(x)));  // log(1 + exp(x))
        case SOFTSIGN: return isinf(x) ? (x > 0 ? real(1) : real(-1)) : x / (1 + fabs(x));
        default: return NAN;
    }
}

// f'(x).
static __device__ real derivative(int kind, real x, real slope) {
    switch (kind) {
        case RELU: return x > 0 ? real(1) : real(0);
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
        case LEAKY_RELU: return x > 0 ? real(1) : slope;
        case SOFTPLUS: return logistic(x);
        case SOFTSIGN: return 1 / ((1 + fabs(x)) * (1 + fabs(x)));
        default: return NAN;
    }
}

extern "C" __global__ void activation_forward(int kind, const item* x, const item* bias, item* y, index_t n, int columns,
                                              real slope) {
    index_t i = thread_index();
    if (i < n) y[i] = value(kind, bias ? x[i] + bias[i % columns] : x[i], slope);
}

extern "C" __global__ void activation_backward(int kind, const item* g, const item* x, const item* bias, item* dx, index_t n,
                                               int columns, real slope) {
    index_t i = thread_index();
    if (i < n) dx[i] = g[i] * derivative(kind, bias ? x[i] + bias[i % columns] : x[i], slope);
}
