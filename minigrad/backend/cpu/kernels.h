/* What the kernels share. Arrays are float32 and dense along their last axis; lengths and strides count elements. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t index_t;

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

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* The loop behind it sums (or takes the maximum) into these variables, in any order, so that vectors can. */
#define REDUCE(operator, ...) PRAGMA(omp simd reduction(operator : __VA_ARGS__))

/* The iterations of the loop behind it are shared by all threads, each a stretch of them, if this is true. */
#define PARALLEL(enough) PRAGMA(omp parallel for schedule(static) num_threads(threads) if(parallel : (enough) && threads > 1))
/* The same for independent elements, which vectors may take together, where there is so much work: about an element's copy each. */
#define EACH(work) PRAGMA(omp parallel for simd schedule(static) num_threads(threads) if(parallel : (work) > 262144 && threads > 1))
#define PRAGMA(...) _Pragma(#__VA_ARGS__)

/* exp(x) = 2^n exp(r) with n = round(x / ln 2): n goes into the exponent's bits, exp(r) is a polynomial, |r| <= ln 2 / 2.
   Below the smallest normal number 0; infinity and NaN as they should be. The error is at most two units in the last place. */
INLINE float exponential(float x)
{
    float in = x > 89.0f ? 89.0f : x < -87.0f ? -87.0f : x;
    float n = rintf(in * 1.44269504f);
    float r = in - n * 0.693145752f - n * 1.42860677e-6f; /* ln 2 in two parts, the first of which is short: n times it is exact */
    float p = 1.38889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union { int32_t bits; float value; } half = {((int32_t)n + 126) << 23}; /* 2^(n - 1), since 2^128 is too large */
    float y = p * half.value * 2.0f;
    y = x < -87.0f ? 0.0f : y;
    return x != x ? x : y;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
