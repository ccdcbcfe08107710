/* Connectionist temporal classification. Definition: `ctc_loss` in minigrad/ops/ctc.py, where a[t, s] is explained. */
#include "kernels.h"

/* log(exp(x) + exp(y) + exp(z)); of -infinity only, that. */
INLINE float logarithm_of_sum(float x, float y, float z)
{
    float top = x > y ? x : y;
    top = top > z ? top : z;
    float sum = exponential(below(x, top)) + exponential(below(y, top)) + exponential(below(z, top));
    int large = sum > 1.5f;
    return top + ((large ? 0.693147181f : 0.0f) + logarithm_of_1_and((large ? 0.5f * sum : sum) - 1));
}

/* Whether the state may follow the one two before: 1 or 0, the latter for two more states too. */
INLINE void find_leaps(const index_t *labels, float *leaps, index_t states, index_t blank)
{
    for (index_t s = 0; s < states + 2; s++)
        leaps[s] = s > 1 && s < states && labels[s] != blank && labels[s] != labels[s - 2];
}

/* Of each of n sequences the loss, and into `before` (n, times, states + 2) the logarithm of what reaches each state from the
   time before, a[t, s] - log_p[t, labels[s]], with two zeros behind, and zeros at times that do not count. log_p (times, n,
   classes), labels (n, states), and `scratch` (n, 2, states + 2). A target has (states - 1) / 2 labels or fewer. */
void ctc_losses(const float *log_p, const index_t *labels, const index_t *lengths, const index_t *targets, float *before,
                float *scratch, float *losses, index_t times, index_t n, index_t classes, index_t states, index_t blank)
{
    PARALLEL(n * times * states > 4096)
    for (index_t i = 0; i < n; i++) {
        const index_t *own = labels + i * states;
        float *a = scratch + i * 2 * (states + 2), *leaps = a + states + 2; /* a of the states with two more in front */
        find_leaps(own, leaps, states, blank);
        for (index_t s = 0; s < states + 2; s++) a[s] = s == 2 ? 0.0f : -INFINITY;
        for (index_t t = 0; t < lengths[i]; t++) {
            const float *p = log_p + (t * n + i) * classes;
            float *now = before + (i * times + t) * (states + 2);
            PRAGMA(omp simd)
            for (index_t s = 0; s < states; s++)
                now[s] = logarithm_of_sum(a[s + 2], a[s + 1], leaps[s] ? a[s] : -INFINITY);
            now[states] = now[states + 1] = 0;
            for (index_t s = 0; s < states; s++) a[s + 2] = p[own[s]] + now[s];
        }
        memset(before + (i * times + lengths[i]) * (states + 2), 0, (times - lengths[i]) * (states + 2) * sizeof(float));
        losses[i] = -logarithm_of_sum(a[2 * targets[i] + 2], a[2 * targets[i] + 1], -INFINITY);
    }
}

/* The gradient in log_p for that of the losses, added to the zeros in dlog_p: each state passes its share on to those it was
   reached from, in proportion to what they brought. */
void ctc_losses_backward(const float *g, const float *losses, const float *log_p, const index_t *labels, const index_t *lengths,
                         const index_t *targets, const float *before, float *scratch, float *dlog_p, index_t times, index_t n,
                         index_t classes, index_t states, index_t blank)
{
    PARALLEL(n * times * states > 4096)
    for (index_t i = 0; i < n; i++) {
        const index_t *own = labels + i * states, end = 2 * targets[i];
        float *share = scratch + i * 3 * (states + 2), *leaps = share + states + 2, *a = leaps + states + 2;
        find_leaps(own, leaps, states, blank);
        for (index_t s = 0; s < states + 2; s++) share[s] = 0;
        for (index_t t = lengths[i] - 1; t >= 0; t--) {
            const float *p = log_p + (t * n + i) * classes, *now = before + (i * times + t) * (states + 2);
            const float *next = now + states + 2;
            float *dp = dlog_p + (t * n + i) * classes, blanks = 0;
            for (index_t s = 0; s < states; s++) a[s] = p[own[s]] + now[s];
            if (t == lengths[i] - 1) {
                for (index_t s = end > 0 ? end - 1 : end; s <= end; s++)
                    share[s] = a[s] == -INFINITY ? 0.0f : -g[i] * exponential(a[s] + losses[i]);
            } else {
                PRAGMA(omp simd)
                for (index_t s = 0; s < states; s++) {
                    float on = exponential(a[s] - next[s]), step = exponential(a[s] - next[s + 1]);
                    float leap = exponential(a[s] - next[s + 2]) * leaps[s + 2];
                    float passed = share[s] * on + share[s + 1] * step + share[s + 2] * leap;
                    a[s] = a[s] == -INFINITY ? 0.0f : passed;
                }
                memcpy(share, a, states * sizeof(float));
            }
            REDUCE(+, blanks) for (index_t s = 0; s < states; s += 2) blanks += share[s];
            dp[blank] += blanks;
            for (index_t s = 1; s < states; s += 2) dp[own[s]] += share[s];
        }
    }
}
