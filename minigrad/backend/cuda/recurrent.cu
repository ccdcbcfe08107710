// One time of a recurrent unit: the n numbers of its states, `size` for each sample, from the states before; and backward.
//
// A thread works on one number, neighbouring threads on neighbours in memory; it reads everything before it writes. Sums are
// what the weights make of the state before; gx is the input's part, in which each sample has its gates side by side. Backward,
// dnext is the part of the state's gradient that comes through the weights of the time after, null at the last time, dy the part
// that comes from outside.

// y = f(gx + sums), f being tanh or, if `rectified`, what is above 0.
extern "C" __global__ void rnn_forward(const real* sums, const real* gx, real* y, index_t n, int rectified) {
    index_t i = thread_index();
    if (i >= n) return;
    real x = gx[i] + sums[i];
    y[i] = rectified ? (x < 0 ? real(0) : x) : tanh(x);  // NaN stays
}

extern "C" __global__ void rnn_backward(const real* dnext, const real* dy, const real* y, real* dgx, index_t n, int rectified) {
    index_t i = thread_index();
    if (i >= n) return;
    real d = dy[i] + (dnext ? dnext[i] : real(0));
    dgx[i] = rectified ? (y[i] > 0 ? d : real(0)) : d * (1 - y[i] * y[i]);
}

// cell = f before + i g;  y = o tanh(cell). Gates: i, f, g and o.
extern "C" __global__ void lstm_forward(const real* sums, const real* gx, const real* before, real* gates, real* cell, real* y,
                                        index_t n, int size) {
    index_t k = thread_index(), at = k + k / size * 3 * size;
    if (k >= n) return;
    real i = logistic(gx[at] + sums[at]), f = logistic(gx[at + size] + sums[at + size]);
    real g = tanh(gx[at + 2 * size] + sums[at + 2 * size]), o = logistic(gx[at + 3 * size] + sums[at + 3 * size]);
    real now = f * before[k] + i * g;
    gates[at] = i;
    gates[at + size] = f;
    gates[at + 2 * size] = g;
    gates[at + 3 * size] = o;
    cell[k] = now;
    y[k] = o * tanh(now);
}

// dy may be null. dcell is the gradient in the cell of this time, and becomes that in the one before.
extern "C" __global__ void lstm_backward(const real* dnext, const real* dy, const real* before, const real* gates,
                                         const real* cell, real* dcell, real* dgates, index_t n, int size) {
    index_t k = thread_index(), at = k + k / size * 3 * size;
    if (k >= n) return;
    real i = gates[at], f = gates[at + size], g = gates[at + 2 * size], o = gates[at + 3 * size];
    real was = before[k], out = tanh(cell[k]);
    real d = (dy ? dy[k] : real(0)) + (dnext ? dnext[k] : real(0)), inside = dcell[k] + d * o * (1 - out * out);
    dgates[at] = inside * g * i * (1 - i);
    dgates[at + size] = inside * was * f * (1 - f);
    dgates[at + 2 * size] = inside * i * (1 - g * g);
    dgates[at + 3 * size] = d * out * o * (1 - o);
    dcell[k] = inside * f;
}

// hidden = what the weights and the bias, which may be null, make of n;  y = n + z (before - n), n = tanh(gx + r hidden).
// Gates: r, z and n.
extern "C" __global__ void gru_forward(const real* sums, const real* bias, const real* gx, const real* before, real* gates,
                                       real* hidden, real* y, index_t n, int size) {
    index_t k = thread_index(), row = k / size, column = k - row * size, at = k + row * 2 * size;
    if (k >= n) return;
    real sum[3];
    for (int gate = 0; gate < 3; gate++)
        sum[gate] = sums[at + gate * size] + (bias ? bias[column + gate * size] : real(0));
    real r = logistic(gx[at] + sum[0]), z = logistic(gx[at + size] + sum[1]);
    real candidate = tanh(gx[at + 2 * size] + r * sum[2]), now = candidate + z * (before[k] - candidate);
    gates[at] = r;
    gates[at + size] = z;
    gates[at + 2 * size] = candidate;
    hidden[k] = sum[2];
    y[k] = now;
}

// The gradients in gx and in what the weights and the bias add to it (dsums). past is the part of the state's gradient that
// comes past the weights: that of this time, unless dnext is null, becomes that of the time before.
extern "C" __global__ void gru_backward(const real* dnext, const real* dy, const real* before, const real* gates,
                                        const real* hidden, real* past, real* dgx, real* dsums, index_t n, int size) {
    index_t k = thread_index(), at = k + k / size * 2 * size;
    if (k >= n) return;
    real r = gates[at], z = gates[at + size], candidate = gates[at + 2 * size], was = before[k], part = hidden[k];
    real d = dy[k] + (dnext ? dnext[k] + past[k] : real(0));
    real inside = d * (1 - z) * (1 - candidate * candidate);
    dgx[at] = dsums[at] = inside * part * r * (1 - r);
    dgx[at + size] = dsums[at + size] = d * (was - candidate) * z * (1 - z);
    dgx[at + 2 * size] = inside;
    dsums[at + 2 * size] = inside * r;
    past[k] = d * z;
}
