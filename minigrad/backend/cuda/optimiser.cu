// One step of an optimiser, in place, on all of its parameters p, with gradients g and state, in one launch.
//
// A block works on CHUNK neighbouring elements of one parameter. The learning rate and the step number come as numbers, or,
// where lr_at and t_at are not null, from device memory: a captured CUDA graph keeps its arguments, but reads the memory
// anew at every replay.

constexpr index_t CHUNK = 2048;

struct Part { int parameter; index_t first, last; };  // the elements of one parameter that a thread strides over

// The blocks are dealt out to the parameters in order, each gets as many as it has chunks.
static __device__ Part own_part(const Lengths& lengths) {
    index_t block = blockIdx.x;
    int k = 0;
    for (index_t count; block >= (count = (lengths.of[k] + CHUNK - 1) / CHUNK); k++) block -= count;
    return {k, block * CHUNK + threadIdx.x, min((block + 1) * CHUNK, lengths.of[k])};
}

// v = momentum v + g;  p = p - lr v, or with Nesterov p - lr (g + momentum v). The v are null without momentum.
extern "C" __global__ void sgd_step(Arrays p, const Arrays g, Arrays v, const Lengths lengths, real lr, const real* lr_at,
                                    real momentum, real decay, int nesterov) {
    Part part = own_part(lengths);
    real *param = p.of[part.parameter], *grad = g.of[part.parameter], *velocity = v.of[part.parameter];
    for (index_t i = part.first; i < part.last; i += blockDim.x) {
        real step = decay != 0 ? grad[i] + decay * param[i] : grad[i];  // 0 times infinity is not a number
        if (velocity) {
            velocity[i] = momentum * velocity[i] + step;
            step = nesterov ? step + momentum * velocity[i] : velocity[i];
        }
        param[i] -= (lr_at ? *lr_at : lr) * step;
    }
}

// m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p = p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
// Weight decay is added to the gradient, or, if decoupled, taken from p. The betas come as a = 1 - b and log b, computed in
// double, because 1 - 0.999^t from a float 0.999 would lose four digits.
extern "C" __global__ void adam_step(Arrays p, const Arrays g, Arrays m, Arrays v, const Lengths lengths, real lr,
                                     const real* lr_at, real a1, real log_b1, real a2, real log_b2, real eps, real decay,
                                     int decoupled, int t, const int* t_at) {
    Part part = own_part(lengths);
    real *param = p.of[part.parameter], *mean = m.of[part.parameter], *square = v.of[part.parameter];
    real rate = lr_at ? *lr_at : lr, steps = t_at ? *t_at : t;
    real correction1 = -expm1(steps * log_b1), correction2 = -expm1(steps * log_b2);
    for (index_t i = part.first; i < part.last; i += blockDim.x) {
        real grad = g.of[part.parameter][i];
        if (decay != 0 && decoupled)
            param[i] -= rate * decay * param[i];
        else if (decay != 0)
            grad += decay * param[i];
        mean[i] = (1 - a1) * mean[i] + a1 * grad;
        square[i] = (1 - a2) * square[i] + a2 * grad * grad;  // infinity stays infinity
        param[i] -= rate * (mean[i] / correction1) / (sqrt(square[i] / correction2) + eps);
    }
}

// Exponential moving average: average = decay average + (1 - decay) p.
extern "C" __global__ void ema_step(Arrays average, const Arrays p, const Lengths lengths, real decay,
                                    const real* decay_at) {
    Part part = own_part(lengths);
    real *mean = average.of[part.parameter], *value = p.of[part.parameter], keep = decay_at ? *decay_at : decay;
    for (index_t i = part.first; i < part.last; i += blockDim.x)
        mean[i] += (1 - keep) * (value[i] - (isinf(mean[i]) ? 0 : mean[i]));  // infinity less itself is not a number
}
