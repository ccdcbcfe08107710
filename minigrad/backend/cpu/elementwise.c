/* Functions of one element, and the optimisers' steps: one pass over n elements. */
#include "kernels.h"

int threads = 1;

void use_threads(int n) { threads = n; }

enum { ADD = 0, SUBTRACT = 1, MULTIPLY = 2, DIVIDE = 3, MAXIMUM = 4, MINIMUM = 5, REMAINDER = 6, FLOOR_DIVIDE = 7, HYPOT = 8,
       LOGADDEXP = 9, COSINE = 10, SIGMOID_SHARE = 11, SPAN = 8192 }; /* operations; elements of a row at a time */

/* fmod(a, b), exact since the double quotient of two floats is never rounded to a whole number that it is not, and the product
   with that has 53 bits at most. NaN where the quotient has more than 28 bits, or something is infinite or NaN. */
INLINE float left_of(float a, float b)
{
    double whole = trunc((double)a / b), left = a - whole * b;
    return fabs(whole) < 0x1p28 ? (float)left : NAN;
}

/* NumPy's remainder and floor_divide, for left = fmod(a, b). */
INLINE float remainder_for(float a, float b, float left)
{
    float turned = (b < 0) != (left < 0) ? left + b : left;
    return left == 0 ? copysignf(0.0f, b) : turned;
}

INLINE float quotient_for(float a, float b, float left)
{
    float whole = (a - left) / b, less = (b < 0) != (left < 0) ? whole - 1 : whole;
    whole = left == 0 ? whole : less;
    float floor = floorf(whole), nearest = whole - floor > 0.5f ? floor + 1 : floor, quotient = a / b;
    nearest = whole == 0 ? copysignf(0.0f, quotient) : nearest;
    return b == 0 ? quotient : nearest;
}

/* Of the two what `left_of` made NaN, one by one. */
static void by_fmod(const float *x, index_t x_step, const float *y, index_t y_step, float *to, index_t n, int operation)
{
    index_t unknown = 0;
    REDUCE(+, unknown) for (index_t i = 0; i < n; i++) unknown += to[i] != to[i];
    if (unknown) for (index_t i = 0; i < n; i++) if (to[i] != to[i]) {
        float a = x[i * x_step], b = y[i * y_step], left = fmodf(a, b);
        to[i] = operation == REMAINDER ? remainder_for(a, b, left) : quotient_for(a, b, left);
    }
}

/* In double precision, whose squares do not overflow. */
INLINE float length_of(float a, float b)
{
    float length = (float)sqrt((double)a * a + (double)b * b);
    return fabsf(a) == INFINITY || fabsf(b) == INFINITY ? INFINITY : length; /* beside NaN, too */
}

/* a / b, where b = length_of(a, something): 0 at the origin, and the limits at infinity. */
INLINE float cosine_of(float a, float b)
{
    float ratio = a / b, at_infinity = fabsf(a) == INFINITY ? copysignf(1.0f, a) : 0.0f;
    return b == 0 || b == INFINITY ? at_infinity : ratio;
}

/* exp(x), -700 <= x <= 0, with some digits more than float has: as `exponential_within`, the polynomial being the series. */
INLINE double precise_exponential(double x)
{
    union { double value; uint64_t bits; } sum = {x * 1.4426950408889634 + 0x1.8p52};
    double r = x - (sum.value - 0x1.8p52) * 0.6931471805599453, term = 1.0 / 40320, p = term;
    UNROLL for (int k = 8; k > 0; k--) {
        term *= k;
        p = p * r + term;
    }
    sum.bits = (sum.bits + 1023) << 52;
    return p * sum.value;
}

/* In double precision, since little may be left of a and the logarithm, which is as in `logarithm_of_1_and`. */
INLINE float log_of_sum(float a, float b)
{
    double apart = a == b ? 0 : -fabs((double)a - b); /* infinity less itself is not a number */
    double u = precise_exponential(apart < -700 ? -700 : apart), s = u / (2 + u), q = s * s, p = 1.0 / 15;
    UNROLL for (int k = 13; k > 0; k -= 2) p = p * q + 1.0 / k;
    return (float)((a > b ? a : b) + 2 * s * p);
}

/* exp(a) / (exp(a) + exp(b)), 0 where both are 0. */
INLINE float share_of(float a, float b)
{
    float apart = a == -INFINITY ? -INFINITY : 0.0f;
    return sigmoid(a == b ? apart : a - b);
}

/* Of two arrays, along the axes (outer, middle, inner) of `layout`; then follow the steps of x and those of y along these, along
   the last 0 or 1. */
void arithmetic(const float *xs, const float *ys, float *out, const index_t *layout, int operation)
{
    index_t outer = layout[0], middle = layout[1], inner = layout[2];
    const index_t *x_steps = layout + 3, *y_steps = layout + 6;
    SHARED(parallel for collapse(3), threads, outer * middle * inner > 65536)
    for (index_t o = 0; o < outer; o++)
        for (index_t m = 0; m < middle; m++)
            for (index_t from = 0; from < inner; from += SPAN) {
                const float *x = xs + o * x_steps[0] + m * x_steps[1] + from * x_steps[2];
                const float *y = ys + o * y_steps[0] + m * y_steps[1] + from * y_steps[2];
                float *to = out + (o * middle + m) * inner + from;
                index_t n = inner - from < SPAN ? inner - from : SPAN;
#define PAIRS(first, second, value) \
    PRAGMA(omp simd) for (index_t i = 0; i < n; i++) { float a = first, b = second; to[i] = value; }
#define CASE(name, value) case name: \
    if (!x_steps[2]) { float of_all = *x; PAIRS(of_all, y[i], value) } \
    else if (!y_steps[2]) { float of_all = *y; PAIRS(x[i], of_all, value) } \
    else PAIRS(x[i], y[i], value) \
    break;
                switch (operation) {
                    CASE(ADD, a + b)
                    CASE(SUBTRACT, a - b)
                    CASE(MULTIPLY, a * b)
                    CASE(DIVIDE, a / b)
                    CASE(MAXIMUM, a > b || a != a ? a : b)
                    CASE(MINIMUM, a < b || a != a ? a : b)
                    CASE(REMAINDER, remainder_for(a, b, left_of(a, b)))
                    CASE(FLOOR_DIVIDE, quotient_for(a, b, left_of(a, b)))
                    CASE(HYPOT, length_of(a, b))
                    CASE(LOGADDEXP, log_of_sum(a, b))
                    CASE(COSINE, cosine_of(a, b))
                    CASE(SIGMOID_SHARE, share_of(a, b))
                }
                if (operation == REMAINDER || operation == FLOOR_DIVIDE) by_fmod(x, x_steps[2], y, y_steps[2], to, n, operation);
#undef CASE
#undef PAIRS
            }
}

/* x where the mask is not 0, else y; each is n numbers, or one for all. */
void choose(const unsigned char *mask, const float *x, const float *y, float *out, index_t n, int one_x, int one_y)
{
#define CHOICE(a, b) EACH(n) for (index_t i = 0; i < n; i++) { float p = a, q = b; out[i] = mask[i] ? p : q; }
    float first_x = x[0], first_y = y[0];
    if (one_x && one_y) { CHOICE(first_x, first_y) }
    else if (one_x) { CHOICE(first_x, y[i]) }
    else if (one_y) { CHOICE(x[i], first_y) }
    else { CHOICE(x[i], y[i]) }
#undef CHOICE
}

/* Written so that NaN stays NaN. */
void relu(const float *x, float *y, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) y[i] = x[i] < 0 ? 0.0f : x[i];
}

void relu_backward(const float *g, const float *y, float *dx, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) dx[i] = y[i] > 0 ? g[i] : 0.0f;
}

/* min(max(x, least), most), and its gradient for the output y. */
void limited(const float *x, float *y, index_t n, float least, float most)
{
    EACH(n) for (index_t i = 0; i < n; i++) {
        float v = x[i] < least ? least : x[i];
        y[i] = v > most ? most : v;
    }
}

void limited_backward(const float *g, const float *y, float *dx, index_t n, float least, float most)
{
    EACH(n) for (index_t i = 0; i < n; i++) dx[i] = y[i] <= least || y[i] >= most ? 0.0f : g[i];
}

void leaky_relu(const float *x, float *y, index_t n, float slope)
{
    EACH(n) for (index_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : slope * x[i];
}

void leaky_relu_backward(const float *g, const float *x, float *dx, index_t n, float slope)
{
    EACH(n) for (index_t i = 0; i < n; i++) dx[i] = x[i] > 0 ? g[i] : slope * g[i];
}

void hardswish(const float *x, float *y, index_t n)
{
    EACH(2 * n) for (index_t i = 0; i < n; i++) {
        float inside = x[i] * (x[i] + 3) / 6, above = x[i] >= 3 ? x[i] : inside;
        y[i] = x[i] <= -3 ? 0.0f : above;
    }
}

void hardswish_backward(const float *g, const float *x, float *dx, index_t n)
{
    EACH(2 * n) for (index_t i = 0; i < n; i++) {
        float inside = g[i] * (2 * x[i] + 3) / 6, above = x[i] >= 3 ? g[i] : inside;
        dx[i] = x[i] <= -3 ? 0.0f : above;
    }
}

void elu(const float *x, float *y, index_t n, float alpha)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float below = alpha * exponential_less_1(x[i] > 0 ? 0.0f : x[i]);
        y[i] = x[i] > 0 ? x[i] : below;
    }
}

void elu_backward(const float *g, const float *x, float *dx, index_t n, float alpha)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float below = alpha * g[i] * exponential(x[i] > 0 ? 0.0f : x[i]);
        dx[i] = x[i] > 0 ? g[i] : below;
    }
}

/* g where x > 0, else w g, one w for each of the middle axis of (outer, channels, inner). */
void prelu(const float *g, const float *x, const float *w, float *y, index_t outer, index_t channels, index_t inner)
{
    if (channels == 1) {
        float slope = *w;
        EACH(outer * inner) for (index_t i = 0; i < outer * inner; i++) y[i] = x[i] > 0 ? g[i] : slope * g[i];
    } else if (inner == 1) {
        PARALLEL(outer * channels > 65536)
        for (index_t k = 0; k < outer; k++)
            for (index_t c = 0, i = k * channels; c < channels; c++, i++) y[i] = x[i] > 0 ? g[i] : w[c] * g[i];
    } else {
        PARALLEL(outer * channels * inner > 65536)
        for (index_t k = 0; k < outer * channels; k++) {
            float slope = w[k % channels];
            for (index_t i = k * inner; i < (k + 1) * inner; i++) y[i] = x[i] > 0 ? g[i] : slope * g[i];
        }
    }
}

/* Of the gradient in the weights of `prelu` what each element brings. */
void prelu_terms(const float *g, const float *x, float *terms, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) terms[i] = x[i] > 0 ? 0.0f : g[i] * x[i];
}

void softsign(const float *x, float *y, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) {
        float in = bounded(x[i], 1e30f); /* infinity over infinity is not a number */
        y[i] = in / (1 + fabsf(in));
    }
}

void softsign_backward(const float *g, const float *x, float *dx, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) {
        float below = 1 + fabsf(x[i]);
        dx[i] = g[i] / (below * below);
    }
}

/* x^(twice / 2) in double precision, so rounded once; as pow's are the powers of -0 and -infinity. */
INLINE double half_power(float x, int twice)
{
    int steps = twice < 0 ? -twice : twice;
    double v = x, y = 1;
    if (steps % 2) {
        v = x == -INFINITY ? INFINITY : v + 0.0;
        y = sqrt(v);
    }
    UNROLL for (int i = 0; i < steps / 2; i++) y *= v;
    return twice < 0 ? 1 / y : y;
}

void half_powers(const float *x, float *y, index_t n, index_t twice)
{
#define POWER(k) case k: EACH(4 * n) for (index_t i = 0; i < n; i++) y[i] = (float)half_power(x[i], k); break;
    switch (twice) { /* the loops know their exponent */
        case 1: EACH(2 * n) for (index_t i = 0; i < n; i++) y[i] = sqrtf(x[i]); break; /* -0 of -0, as NumPy's */
        POWER(-6) POWER(-5) POWER(-4) POWER(-3) POWER(-2) POWER(-1) POWER(2) POWER(3) POWER(4) POWER(5) POWER(6) POWER(8)
    }
#undef POWER
}

/* g times the slope of x^(twice / 2), in double precision but where it is a root or its inverse, which is 0 at 0. */
INLINE float along_half_power(float g, float x, int twice)
{
    if (twice == 1) return g * (x == 0 ? 0.0f : 0.5f / sqrtf(x == -INFINITY ? INFINITY : x));
    if (twice == 3) return g * (1.5f * sqrtf(x));
    return g * (float)(0.5 * twice * half_power(x, twice - 2));
}

void half_powers_backward(const float *g, const float *x, float *dx, index_t n, index_t twice)
{
#define SLOPE(k) case k: EACH(4 * n) for (index_t i = 0; i < n; i++) dx[i] = along_half_power(g[i], x[i], k); break;
    switch (twice) {
        SLOPE(-6) SLOPE(-5) SLOPE(-4) SLOPE(-3) SLOPE(-2) SLOPE(-1) SLOPE(1) SLOPE(2) SLOPE(3) SLOPE(4) SLOPE(5) SLOPE(6) SLOPE(8)
    }
#undef SLOPE
}

/* For the square root y. */
void root_backward(const float *g, const float *y, float *dx, index_t n)
{
    EACH(2 * n) for (index_t i = 0; i < n; i++) dx[i] = g[i] * (y[i] == 0 ? 0.0f : 0.5f / y[i]);
}

void rounded_distance(const float *x, const float *to, float *y, index_t n, float width)
{
    EACH(n) for (index_t i = 0; i < n; i++) y[i] = rounded_off(x[i] - to[i], width);
}

void rounded_distance_backward(const float *g, const float *x, const float *to, float *dx, index_t n, float width)
{
    EACH(n) for (index_t i = 0; i < n; i++) dx[i] = g[i] * bounded((x[i] - to[i]) / width, 1.0f);
}

/* The slopes of the terms of `distance_sums`, times g. */
void distance_slopes(const float *x, const float *to, float *dx, index_t n, float g, float width)
{
    if (width) EACH(n) for (index_t i = 0; i < n; i++) dx[i] = g * bounded((x[i] - to[i]) / width, 1.0f);
    else EACH(n) for (index_t i = 0; i < n; i++) dx[i] = g * (2 * (x[i] - to[i]));
}

/* x sigmoid(u), x and u of one sign; 0 at -infinity. */
INLINE float times_sigmoid(float x, float u)
{
    float y = x / (1.0f + bounded_exponential(-u));
    return u < -87.0f ? 0.0f : y;
}

void silu(const float *x, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) y[i] = times_sigmoid(x[i], x[i]);
}

void silu_backward(const float *g, const float *x, float *dx, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float in = bounded(x[i], 88.0f), s = 1.0f / (1.0f + exponential_within(-in));
        s = x[i] < -87.0f ? 0.0f : s; /* as in `sigmoid` */
        dx[i] = g[i] * s * (1 + in * (1 - s));
    }
}

void logistic(const float *x, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) y[i] = sigmoid(x[i]);
}

/* For the output y. */
void logistic_backward(const float *g, const float *y, float *dx, index_t n)
{
    EACH(2 * n) for (index_t i = 0; i < n; i++) dx[i] = g[i] * y[i] * (1 - y[i]);
}

void softplus(const float *x, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++)
        y[i] = (x[i] > 0 ? x[i] : 0.0f) + logarithm_of_1_and(exponential(-fabsf(x[i])));
}

void softplus_backward(const float *g, const float *x, float *dx, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) dx[i] = g[i] * sigmoid(x[i]);
}

/* p softplus(-x) + q softplus(x) */
void logistic_loss(const float *x, const float *p, const float *q, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float rest = logarithm_of_1_and(exponential(-fabsf(x[i])));
        y[i] = p[i] * ((x[i] < 0 ? -x[i] : 0.0f) + rest) + q[i] * ((x[i] > 0 ? x[i] : 0.0f) + rest);
    }
}

/* dx = g (q sigmoid(x) - p sigmoid(-x)) */
void logistic_loss_backward(const float *g, const float *x, const float *p, const float *q, float *dx, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float small = exponential(-fabsf(x[i])), large = 1 / (1 + small);
        small *= large;
        dx[i] = g[i] * (q[i] * (x[i] > 0 ? large : small) - p[i] * (x[i] > 0 ? small : large));
    }
}

/* erf(x): x + x P(x^2) up to 0.92, beyond 1 - exp(|x| Q(|x|)), which at 4 rounds to 1; fitted to errors below 1e-9. */
void error_function(const float *x, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        double a = bounded(fabsf(x[i]), 4.0f), s = a * a, p = 8.18522531e-05, q = -1.04330156e-05;
        p = p * s - 8.09774268e-04;
        p = p * s + 5.19695645e-03;
        p = p * s - 2.68577076e-02;
        p = p * s + 1.12836644e-01;
        p = p * s - 3.76126319e-01;
        p = p * s + 1.28379166e-01;
        q = q * a + 3.14857141e-04;
        q = q * a - 3.61033808e-03;
        q = q * a + 2.36945581e-02;
        q = q * a - 1.06159039e-01;
        q = q * a - 6.35198057e-01;
        q = q * a - 1.128637075;
        p = a < 0.92 ? a + a * p : 1 - precise_exponential(a * q);
        y[i] = copysignf((float)p, x[i]);
    }
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|), where Phi(-a) = P(a)^-8 needs no exponential. P is a polynomial fitted to a < 7 so
   that the largest error of the product is smallest, 9e-8; P(0)^8 = 2. Beyond a = 60 the quotient is 0. */
void gelu(const float *x, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float a = x[i] > 0 ? x[i] : -x[i], p = 3.32843043e-06f;
        a = a > 60.0f ? 60.0f : a; /* NaN stays */
        p = p * a - 1.99141599e-05f;
        p = p * a + 1.14844936e-04f;
        p = p * a + 9.90728359e-05f;
        p = p * a + 1.10236499e-03f;
        p = p * a + 9.34257810e-03f;
        p = p * a + 4.88533361e-02f;
        p = p * a + 1.08757404e-01f;
        p = p * a + 1.09050773e+00f;
        p *= p;
        p *= p;
        y[i] = (x[i] > 0 ? x[i] : 0) - a / (p * p);
    }
}

/* d/dx x Phi(x) = 1/2 + x P(x^2) / Q(x^2), fitted to |x| < 6; the largest error is 1.4e-7. */
void gelu_backward(const float *g, const float *x, float *dx, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float in = bounded(x[i], 6.0f), s = in * in;
        float p = 1.90882914e-07f, q = 8.88740925e-06f;
        p = p * s + 3.58504757e-05f;
        p = p * s + 2.41902052e-05f;
        p = p * s + 1.42091498e-02f;
        p = p * s - 3.07431392e-02f;
        p = p * s + 7.97884531e-01f;
        q = q * s + 1.93521779e-04f;
        q = q * s + 3.52877018e-03f;
        q = q * s + 4.10648038e-02f;
        q = q * s + 2.94806067e-01f;
        q = q * s + 1.0f;
        dx[i] = g[i] * (0.5f + in * p / q);
    }
}

/* tanh(u) = 2 sigmoid(2 u) - 1 with 2 u = 2 sqrt(2 / pi) (x + 0.044715 x^3). */
void gelu_tanh(const float *x, float *y, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++)
        y[i] = times_sigmoid(x[i], 1.59576912f * x[i] * (1 + 0.044715f * x[i] * x[i]));
}

void gelu_tanh_backward(const float *g, const float *x, float *dx, index_t n)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float in = bounded(x[i], 1e3f); /* beyond, the slope is 1 or 0 */
        float s = sigmoid(1.59576912f * in * (1 + 0.044715f * in * in));
        dx[i] = g[i] * s * (1 + in * (1 - s) * 1.59576912f * (1 + 0.134145f * in * in));
    }
}

void dropout(const float *x, const unsigned char *keep, float *y, index_t n, float scale)
{
    EACH(n) for (index_t i = 0; i < n; i++) y[i] = keep[i] ? x[i] * scale : 0; /* no product: x may be infinite or NaN */
}

typedef union { float value; uint32_t bits; } Bits;

/* Numbers rounded to the nearest of 16 bits: of ties to the even one, beyond the largest to infinity. The exponent is less by
   112, and rounding may carry into it; the sum of a number below the normal ones with 1/2 has their last bit as its own. */
void halves(const float *x, unsigned short *y, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) {
        Bits in = {x[i]}, small = {fabsf(x[i]) + 0.5f};
        uint32_t size = in.bits & 0x7fffffff, half = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
        half = size < 0x38800000 ? small.bits - 0x3f000000 : half;
        half = size >= 0x47800000 ? 0x7c00 : half;
        half = size > 0x7f800000 ? 0x7e00 : half;
        y[i] = half | (in.bits >> 16 & 0x8000);
    }
}

/* The way back. A number below the normal ones gets their least exponent, and so 2^-14 too much. */
void floats_of_halves(const unsigned short *x, float *y, index_t n)
{
    EACH(n) for (index_t i = 0; i < n; i++) {
        uint32_t size = (uint32_t)(x[i] & 0x7fff) << 13;
        Bits out = {.bits = size + 0x38000000}, small = {.bits = size + 0x38800000};
        small.value -= 0x1p-14f;
        out.bits = size < 0x00800000 ? small.bits : size >= 0x0f800000 ? size | 0x7f800000 : out.bits;
        out.bits |= (uint32_t)(x[i] & 0x8000) << 16;
        y[i] = out.value;
    }
}

/* g += decay p; v = momentum v + g; p -= rate v, or p -= rate (g + momentum v). Without v: p -= rate g. */
void sgd_step(float *p, float *v, const float *g, index_t n, float rate, float momentum, float decay, int nesterov)
{
#define DIRECTION (decay != 0 ? g[i] + decay * p[i] : g[i]) /* 0 times infinity is not a number */
    if (!v) EACH(n) for (index_t i = 0; i < n; i++) p[i] -= rate * DIRECTION;
    else EACH(2 * n) for (index_t i = 0; i < n; i++) {
        float d = DIRECTION;
        v[i] = momentum * v[i] + d;
        p[i] -= rate * (nesterov ? d + momentum * v[i] : v[i]);
    }
#undef DIRECTION
}

/* average += share (p - average), but infinity, which less itself is not a number, stays. */
void ema_step(float *average, const float *p, index_t n, float share)
{
    EACH(n) for (index_t i = 0; i < n; i++) average[i] += share * (p[i] - (fabsf(average[i]) == INFINITY ? 0.0f : average[i]));
}

/* p = shrink p; g += decay p; m = b1 m + c1 g; v = b2 v + c2 g^2; p -= rate m / (sqrt(v) / root + eps). c = 1 - b has few digits
   left where it is computed in float. */
void adam_step(float *p, float *m, float *v, const float *g, index_t n, float rate, float b1, float c1, float b2, float c2,
               float root, float eps, float decay, float shrink)
{
    EACH(8 * n) for (index_t i = 0; i < n; i++) {
        float d = decay != 0 ? g[i] + decay * p[i] : g[i];
        m[i] = b1 * m[i] + c1 * d;
        v[i] = b2 * v[i] + c2 * d * d;
        p[i] = shrink * p[i] - rate * m[i] / (sqrtf(v[i]) / root + eps);
    }
}

/* Steps of `count` parameters: of each the addresses of its arrays, 0 for one that is not there, and their length. */
void sgd_steps(const index_t *rows, index_t count, float rate, float momentum, float decay, int nesterov)
{
    for (const index_t *row = rows; row < rows + 4 * count; row += 4)
        sgd_step((float *)row[0], (float *)row[1], (const float *)row[2], row[3], rate, momentum, decay, nesterov);
}

void adam_steps(const index_t *rows, index_t count, float rate, float b1, float c1, float b2, float c2, float root, float eps,
                float decay, float shrink)
{
    for (const index_t *row = rows; row < rows + 5 * count; row += 5)
        adam_step((float *)row[0], (float *)row[1], (float *)row[2], (const float *)row[3], row[4],
                  rate, b1, c1, b2, c2, root, eps, decay, shrink);
}

void ema_steps(const index_t *rows, index_t count, float share)
{
    for (const index_t *row = rows; row < rows + 3 * count; row += 3)
        ema_step((float *)row[0], (const float *)row[1], row[2], share);
}
