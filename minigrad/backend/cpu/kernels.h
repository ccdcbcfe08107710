/* What the kernels share. Arrays are float32 and dense along their last axis; lengths and strides count elements. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t index_t;
typedef void (*function_t)(void);

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

extern int threads; /* how many may share a kernel's work */

/* LANES channels are treated as one; a register holds WIDTH floats. */
#if defined(__AVX512F__)
enum { LANES = 16, WIDTH = 16 };
#elif defined(__AVX__)
enum { LANES = 16, WIDTH = 8 };
#else
enum { LANES = 16, WIDTH = 4 };
#endif

/* A register's floats, at any address. */
typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

/* A panel's channels; how many rows (or pixels) of sums of those fit the registers, beside its line and one number. */
#if defined(__AVX512F__)
enum { PANEL = 2 * LANES, TILE = 8 };
#elif defined(__AVX__)
enum { PANEL = LANES, TILE = 6 };
#elif defined(__aarch64__)
enum { PANEL = LANES, TILE = 5 };
#else
enum { PANEL = LANES, TILE = 3 };
#endif

/* The value stays in a register: compilers would rather read it from memory with each product that it takes part in. */
#if defined(__x86_64__)
#define KEEP(value) __asm__("" : "+x"(value))
#elif defined(__aarch64__)
#define KEEP(value) __asm__("" : "+w"(value))
#else
#define KEEP(value)
#endif

#define INLINE static inline __attribute__((always_inline))

/* How many pieces of this size cover n. */
INLINE index_t pieces(index_t n, index_t size) { return (n + size - 1) / size; }

/* n things in tiles of TILE at most: the first are `larger`, by one. */
typedef struct { index_t number, least, larger; } Tiles;

INLINE Tiles tiles_of(index_t n)
{
    index_t number = pieces(n, TILE);
    return (Tiles){number, n / number, n % number};
}

INLINE index_t width_of(const Tiles *tiles, index_t k) { return tiles->least + (k < tiles->larger); }

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* The loop behind it sums (or takes the maximum) into these variables, in any order, so that vectors can. */
#define REDUCE(operator, ...) PRAGMA(omp simd reduction(operator : __VA_ARGS__))

/* The iterations of the loop behind it are shared by all threads, each a stretch of them, if this is true. */
#define PARALLEL(enough) SHARED(parallel for, threads, enough)
/* The same by at most `most` threads: THREAD is below that. */
#define PARALLEL_BY(most, enough) SHARED(parallel for, at_most(most), enough)
/* As PARALLEL, for independent elements, which vectors may take together; `work` counts copies of an element. */
#define EACH(work) SHARED(parallel for simd, threads, (work) > 65536)
#define SHARED(how, team, enough) PRAGMA(omp how schedule(static) num_threads(team) if(parallel : (enough) && threads > 1))
#define PRAGMA(...) _Pragma(#__VA_ARGS__)

/* Another thread of Python may change the number at any time. */
INLINE int at_most(index_t most)
{
    int now = *(volatile int *)&threads;
    return now < most ? now : (int)most;
}

/* x within [-limit, limit]; NaN stays. */
INLINE float bounded(float x, float limit)
{
    float above = x < -limit ? -limit : x;
    return above > limit ? limit : above;
}

/* |d| - width / 2, and d^2 / (2 width) within the width. */
INLINE float rounded_off(float d, float width)
{
    float within = bounded(d / width, 1.0f);
    return within * (d - 0.5f * width * within);
}

/* exp(x) for |x| <= 88: 2^n exp(r) with n = round(x / ln 2). n goes into the exponent's bits, (exp(r) - 1) / r is a polynomial,
   |r| <= ln 2 / 2. The error is some units in the last place. NaN stays, which no int holds: n is read from the last bits of its
   sum with 1.5 2^23. */
INLINE float exponential_parts(float in, float *r, float *power)
{
    union { float value; uint32_t bits; } sum = {in * 1.44269504f + 12582912.0f};
    float n = sum.value - 12582912.0f;
    *r = in - n * 0.693145752f - n * 1.42860677e-6f; /* ln 2 in two parts; n times the first, a short one, is exact */
    float p = 1.38889e-3f;
    p = p * *r + 8.33333333e-3f;
    p = p * *r + 4.16666667e-2f;
    p = p * *r + 1.66666667e-1f;
    p = p * *r + 0.5f;
    p = p * *r + 1.0f;
    sum.bits = (sum.bits + 127) << 23;
    *power = sum.value;
    return p;
}

INLINE float exponential_within(float in)
{
    float r, power, p = exponential_parts(in, &r, &power);
    p = p * r + 1.0f;
    return p * power;
}

/* The same, and beyond 88 and -88 the value there. */
INLINE float bounded_exponential(float x) { return exponential_within(bounded(x, 88.0f)); }

/* exp(x) for x <= 88, 0 below the smallest normal number. */
INLINE float exponential(float x)
{
    float y = bounded_exponential(x);
    return x < -87.0f ? 0.0f : y;
}

/* exp(x) - 1 for x <= 88, of small x too to all digits. */
INLINE float exponential_less_1(float x)
{
    float r, power, p = exponential_parts(bounded(x, 88.0f), &r, &power);
    return p * r * power + (power - 1);
}

/* 0 below -87, where a bound would leave something that a large factor brings back. */
INLINE float sigmoid(float x)
{
    float y = 1.0f / (1.0f + bounded_exponential(-x));
    return x < -87.0f ? 0.0f : y;
}

/* log(1 + u) = 2 artanh(u / (2 + u)) by its series, -1/2 <= u <= 1. */
INLINE float logarithm_of_1_and(float u)
{
    float s = u / (2.0f + u), q = s * s, p = 1.0f / 15;
    UNROLL for (int k = 13; k > 0; k -= 2) p = p * q + 1.0f / k;
    return 2 * s * p;
}

/* log(x) of 0 and of normal numbers from there; infinity and NaN stay. The exponent is read from the bits, so that the rest lies
   between sqrt(1/2) and sqrt(2). */
INLINE float logarithm(float x)
{
    union { float value; uint32_t bits; } rest = {x};
    int32_t power = (int32_t)(rest.bits - 0x3f3504f3u) >> 23;
    rest.bits -= (uint32_t)power << 23;
    float y = power * 0.693145752f + (power * 1.42860677e-6f + logarithm_of_1_and(rest.value - 1));
    y = x == 0 ? -INFINITY : y;
    return x < INFINITY ? y : x;
}

/* tanh(x) as x P(x^2) / Q(x^2), fitted so that the largest relative error is smallest, 3e-7 with the rounding; 1 beyond 9. */
INLINE float hyperbolic_tangent(float x)
{
    float in = bounded(x, 9.0f), s = in * in, p = 1.33543161e-08f, q = 7.77641783e-07f;
    p = p * s + 2.06088358e-05f;
    p = p * s + 3.49557321e-03f;
    p = p * s + 1.33810131e-01f;
    p = p * s + 1.0f;
    q = q * s + 3.28561039e-04f;
    q = q * s + 2.58769255e-02f;
    q = q * s + 4.67143287e-01f;
    q = q * s + 1.0f;
    return bounded(in * p / q, 1.0f);
}

/* x - top for a row's largest element `top`: 0 there, although infinity minus itself is NaN. */
INLINE float below(float x, float top) { return x == top ? 0.0f : x - top; }

/* The largest element, NaN left out. */
INLINE float largest(const float *x, index_t n)
{
    float top = -INFINITY;
    REDUCE(max, top) for (index_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}
