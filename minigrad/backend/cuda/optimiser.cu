// One step of an optimiser, in place: parameter p, gradient g and state, all of n elements. A thread works on one element.
//
// The learning rate and the step number come as numbers, or, where lr_at and t_at are not null, from device memory: a
// captured CUDA graph keeps its arguments, but reads the memory anew at every replay.

// v = momentum v + g;  p = p - lr v, or with Nesterov p - lr (g + momentum v). v is null without momentum.
extern "C" __global__ void sgd_step(real* p, const real* g, real* v, index_t n, real lr, const real* lr_at, real momentum,
                                    real decay, int nesterov) {
    index_t i = thread_index();
    if (i >= n) return;
    real step = g[i] + decay * p[i];
    if (v) {
        v[i] = momentum * v[i] + step;
        step = nesterov ? step + momentum * v[i] : v[i];
    }
    p[i] -= (lr_at ? *lr_at : lr) * step;
}

// m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
// Weight decay is added to the gradient, or, if decoupled, taken from p. The betas come as a = 1 - b and log b, computed in
// double, because 1 - 0.999^t from a float 0.999 would lose four digits.
extern "C" __global__ void adam_step(real* p, const real* g, real* m, real* v, index_t n, real lr, const real* lr_at,
                                     real a1, real log_b1, real a2, real log_b2, real eps, real decay, int decoupled, int t,
                                     const int* t_at) {
    index_t i = thread_index();
    if (i >= n) return;
    real rate = lr_at ? *lr_at : lr, steps = t_at ? *t_at : t, grad = g[i];
    real correction1 = -expm1(steps * log_b1), correction2 = -expm1(steps * log_b2);
    if (decoupled)
        p[i] -= rate * decay * p[i];
    else
        grad += decay * p[i];
    m[i] += a1 * (grad - m[i]);
    v[i] += a2 * (grad * grad - v[i]);
    p[i] -= rate * (m[i] / correction1) / (sqrt(v[i] / correction2) + eps);
}

// Exponential moving average: average = decay average + (1 - decay) p.
extern "C" __global__ void ema_step(real* average, const real* p, index_t n, real decay, const real* decay_at) {
    index_t i = thread_index();
    if (i < n) average[i] += (1 - (decay_at ? *decay_at : decay)) * (p[i] - average[i]);
}
