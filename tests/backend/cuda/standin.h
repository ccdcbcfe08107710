// What CUDA builds in, for a C++ compiler: a kernel file compiled behind this header runs on the CPU.
//
// The threads of a block are fibers: each runs until it waits at a barrier or in a shuffle, then the next one has its turn.
// Stricter than a GPU, so that mistakes show: shared memory starts every block as NaNs (or, backwards, huge numbers), blocks
// and threads take turns in either order, each warp running as far ahead of the others as it can, and a barrier or shuffle
// that not all threads reach is an error, as is a touch of a protected page. Where kernels compute in float, subnormal floats
// are 0, read and written, as CuPy has NVRTC compile them (-ftz=true).
#pragma once
#include <signal.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <utility>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(from, bytes)
#endif

using std::erf, std::exp, std::expm1, std::fabs, std::floor, std::fmax, std::fmin, std::isinf, std::isnan, std::log1p;
using std::sqrt, std::tanh;
static inline float log(float x) { return std::log(x == 0 ? 0.0f : x); }  // std::log looks at the bits of a subnormal number
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline long long min(long long a, long long b) { return a < b ? a : b; }
static inline long long max(long long a, long long b) { return a > b ? a : b; }

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("shared_memory")))

struct uint3 { unsigned x, y, z; };
static uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace standin {

constexpr int MOST_THREADS = 1024, STACK_BYTES = 1 << 16;

// -- fibers ---------------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
typedef void* Context;  // the stack pointer; the registers that a call must keep lie on the stack
extern "C" __attribute__((visibility("hidden"))) void standin_switch(Context* save, Context* load);
asm(R"(
.text
.hidden standin_switch
.globl standin_switch
standin_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
static void make(Context* context, char* stack, void (*entry)()) {
    void** top = (void**)(stack + STACK_BYTES) - 2;  // after the return into entry, the stack is aligned as after a call
    top[0] = (void*)entry, top[1] = nullptr;
    *context = top - 6;
    memset(*context, 0, 6 * sizeof(void*));
}
#else
#include <ucontext.h>
typedef ucontext_t Context;
static void standin_switch(Context* save, Context* load) { swapcontext(save, load); }
static void make(Context* context, char* stack, void (*entry)()) {
    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = STACK_BYTES;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
}
#endif

struct Barrier { int arrived; unsigned generation; };

struct Fiber {
    Context context;
    uint3 thread;
    bool done;
    Barrier* at;  // the barrier it waits at, and the generation that it came in
    unsigned generation;
};

static Fiber fibers[MOST_THREADS], *running;
static char* stacks;
static Context scheduler;
static std::function<void()> body;
static Barrier of_block, of_warp[MOST_THREADS / 32];
static uint64_t exchange[MOST_THREADS];
static const char* error;

static void entry() {
    body();
    running->done = true;
    standin_switch(&running->context, &scheduler);
}

static void wait(Barrier& barrier, int expected) {
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        barrier.generation++;
        return;
    }
    running->at = &barrier, running->generation = barrier.generation;
    standin_switch(&running->context, &scheduler);
}

static int threads() { return blockDim.x * blockDim.y * blockDim.z; }
static int thread() { return running - fibers; }

// -- blocks ---------------------------------------------------------------------------------------------------------

extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared_memory[], __stop_shared_memory[];

// Runs the threads of a warp until all of them are done or wait for other warps; how often one of them was given a turn.
static int run_warp(int warp, bool backwards, int& alive) {
    int first = warp * 32, last = threads() < first + 32 ? threads() : first + 32, steps = 0, before;
    do {
        before = steps;
        for (int i = first; i < last && !error; i++) {
            Fiber& fiber = fibers[backwards ? first + last - 1 - i : i];
            if (fiber.done || (fiber.at && fiber.at->generation == fiber.generation)) continue;
            fiber.at = nullptr, running = &fiber, threadIdx = fiber.thread;
            standin_switch(&scheduler, &fiber.context);
            alive -= fiber.done;
            steps++;
        }
    } while (steps > before && !error);
    return steps;
}

static void run_block(bool backwards) {
    char* shared = __start_shared_memory;
    if (shared) memset(shared, backwards ? 0x7f : 0xff, __stop_shared_memory - shared);
    of_block = {};
    memset(of_warp, 0, sizeof of_warp);
    int alive = threads();
    ASAN_UNPOISON_MEMORY_REGION(stacks, (size_t)alive * STACK_BYTES);  // marked by fibers that an error stopped
    for (int i = 0; i < alive; i++) {
        fibers[i].thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        fibers[i].done = false, fibers[i].at = nullptr;
        make(&fibers[i].context, stacks + (size_t)i * STACK_BYTES, entry);
    }
    int warps = (alive + 31) / 32;
    while (alive && !error) {
        int steps = 0;
        for (int i = 0; i < warps; i++) steps += run_warp(backwards ? warps - 1 - i : i, backwards, alive);
        if (!steps) error = "a barrier or shuffle that not all threads reach";
    }
}

static void crashed(int) {
    error = "an access outside an array";
    standin_switch(&running->context, &scheduler);  // never to come back
}

// Subnormal floats become 0, before and after arithmetic, until this is destroyed.
struct FlushToZero {
#if defined(__SSE__)
    unsigned before = __builtin_ia32_stmxcsr();
    FlushToZero() { if (sizeof(REAL) == sizeof(float)) __builtin_ia32_ldmxcsr(before | 0x8040); }
    ~FlushToZero() { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
    unsigned before = __builtin_aarch64_get_fpcr();
    FlushToZero() { if (sizeof(REAL) == sizeof(float)) __builtin_aarch64_set_fpcr(before | 1 << 24); }
    ~FlushToZero() { __builtin_aarch64_set_fpcr(before); }
#endif
};

static void run_blocks(bool backwards) {
    long long blocks = (long long)gridDim.x * gridDim.y * gridDim.z;
    for (long long i = 0; i < blocks && !error; i++) {
        long long b = backwards ? blocks - 1 - i : i;
        blockIdx = {unsigned(b % gridDim.x), unsigned(b / gridDim.x % gridDim.y), unsigned(b / gridDim.x / gridDim.y)};
        run_block(backwards);
    }
}

template <class... A, size_t... I>
static const char* launch(void (*kernel)(A...), const unsigned* sizes, void** arguments, int backwards,
                          std::index_sequence<I...>) {
    gridDim = {sizes[0], sizes[1], sizes[2]}, blockDim = {sizes[3], sizes[4], sizes[5]};
    error = nullptr;
    if (threads() > MOST_THREADS) return "more than 1024 threads in a block";
    if (gridDim.x > 0x7fffffff || gridDim.y > 0xffff || gridDim.z > 0xffff) return "more blocks than an axis of a grid has";
    if (!stacks) stacks = (char*)aligned_alloc(4096, (size_t)MOST_THREADS * STACK_BYTES);
    FlushToZero arithmetic;
    body = [&] { kernel(*(A*)arguments[I]...); };
    struct sigaction action = {}, before;
    action.sa_handler = crashed, action.sa_flags = SA_NODEFER;  // as the handler does not return
    sigaction(SIGSEGV, &action, &before);
    run_blocks(backwards);
    sigaction(SIGSEGV, &before, nullptr);
    return error;
}

template <class... A>
static const char* launch(void (*kernel)(A...), const unsigned* sizes, void** arguments, int backwards) {
    return launch(kernel, sizes, arguments, backwards, std::index_sequence_for<A...>());
}

}  // namespace standin

// -- built-in functions ---------------------------------------------------------------------------------------------

static inline void __syncthreads() { standin::wait(standin::of_block, standin::threads()); }

static inline void __syncwarp(unsigned = ~0u) {
    if (standin::threads() % 32) standin::error = "a block that is not made of whole warps";
    standin::wait(standin::of_warp[standin::thread() / 32], 32);
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int lane) {
    using namespace standin;
    static_assert(sizeof(T) <= sizeof(uint64_t));
    if (mask != ~0u) error = "a shuffle that not the whole warp takes part in";
    memcpy(&exchange[thread()], &value, sizeof value);
    __syncwarp();
    memcpy(&value, &exchange[thread() / 32 * 32 + lane % 32], sizeof value);
    __syncwarp();  // before anyone overwrites what others still read
    return value;
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int distance) {
    return __shfl_sync(mask, value, (standin::thread() % 32) ^ distance);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, int distance) {
    int lane = standin::thread() % 32;
    return __shfl_sync(mask, value, lane + distance < 32 ? lane + distance : lane);
}

template <class T>
static inline T atomicAdd(T* at, T value) {
    T before = *at;
    *at += value;
    return before;
}

template <class T>
static inline T __ldg(const T* at) { return *at; }

// 1 bit of sign, 5 of exponent, 10 of mantissa.
static inline float half_to_float(unsigned short bits) {
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float magnitude = exponent == 31 ? (mantissa ? NAN : INFINITY)
                    : exponent == 0 ? std::ldexp(float(mantissa), -24) : std::ldexp(float(1024 + mantissa), exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

// To the nearest, of two equally near the even one.
static inline unsigned short float_to_half(float value) {
    int exponent, sign = std::signbit(value) << 15;
    float magnitude = std::fabs(value), fraction = std::frexp(magnitude, &exponent);  // in [0.5, 1)
    if (isnan(value)) return sign | 0x7e00;
    if (magnitude >= 65520) return sign | 0x7c00;  // infinity
    if (magnitude < std::ldexp(1.0f, -14)) return sign | int(std::nearbyint(std::ldexp(magnitude, 24)));
    return sign | (((exponent + 14) << 10) + int(std::nearbyint(std::ldexp(fraction, 11))) - 1024);
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
