// What the kernel files share; the loader puts this text in front of each of them.
//
// Arrays hold items: float, double, half or bfloat16. real is what is computed in, and what sums and statistics are kept in:
// float for the types of 16 bits, else the item's own type. Array offsets are index_t, lengths of one axis are int.
// A kernel that reduces is launched with whole warps of 32 threads.

#pragma nv_diag_suppress 177  // "declared but never referenced": no file uses all of this

// A number of 16 bits (IEEE 754 binary16) in memory; read or written it is a float. Where another compiler than NVRTC reads
// this, the conversions are declared before.
#ifdef __CUDACC_RTC__
static __device__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

static __device__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

struct half {
    unsigned short bits;
    __device__ operator float() const { return half_to_float(bits); }
    __device__ half& operator=(float value) { bits = float_to_half(value); return *this; }
};

// The upper half of a float's bits. Rounded to the nearest, of two equally near the even one.
struct bfloat16 {
    unsigned short bits;
    __device__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
    __device__ bfloat16& operator=(float value) {
        unsigned whole = __float_as_uint(value);
        bits = isnan(value) ? whole >> 16 | 64 : (whole + 0x7fff + (whole >> 16 & 1)) >> 16;
        return *this;
    }
};

typedef ITEM item;
typedef REAL real;
typedef long long index_t;

#define FULL_WARP 0xffffffffu

// N items that are read or written at once, as memory likes it; views of arrays need not begin where that is possible.
template <int N> struct alignas(N * sizeof(item)) Items { item of[N]; };

template <int N> static __device__ bool aligned(const item* x) { return (index_t)x % sizeof(Items<N>) == 0; }

// Arguments by value: up to LIST arrays, and their lengths. Five such lists fit into the 4 KB that a kernel may take.
struct Arrays { real* of[LIST]; };
struct Lengths { index_t of[LIST]; };

#ifndef INFINITY  // these are math.h's, and NVRTC has no headers
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

// The offset of this thread among all threads of a one-dimensional grid.
static __device__ index_t thread_index() { return (index_t)blockIdx.x * blockDim.x + threadIdx.x; }

// The sum of v over the 32 threads of a warp, on each of them.
static __device__ real warp_sum(real v) {
    for (int distance = 16; distance > 0; distance /= 2) v += __shfl_xor_sync(FULL_WARP, v, distance);
    return v;
}

// x minus the largest number of its row: 0 where that stands, although infinity minus itself is NaN.
static __device__ real below(real x, real top) { return x == top ? real(0) : x - top; }

static __device__ real logistic(real x) { return 1 / (1 + exp(-x)); }

// The largest v among the 32 threads of a warp, on each of them.
static __device__ real warp_max(real v) {
    for (int distance = 16; distance > 0; distance /= 2) v = fmax(v, __shfl_xor_sync(FULL_WARP, v, distance));
    return v;
}

// The sum of v over all threads of a one-dimensional block, on each of them.
static __device__ real block_sum(real v) {
    __shared__ real of_warp[32];
    int lane = threadIdx.x % 32;
    v = warp_sum(v);
    __syncthreads();  // whoever still reads an earlier sum is done
    if (lane == 0) of_warp[threadIdx.x / 32] = v;
    __syncthreads();
    return warp_sum(lane < blockDim.x / 32 ? of_warp[lane] : real(0));
}

// The largest v among all threads of a one-dimensional block, on each of them.
static __device__ real block_max(real v) {
    __shared__ real of_warp[32];
    int lane = threadIdx.x % 32;
    v = warp_max(v);
    __syncthreads();
    if (lane == 0) of_warp[threadIdx.x / 32] = v;
    __syncthreads();
    return warp_max(lane < blockDim.x / 32 ? of_warp[lane] : real(-INFINITY));
}
