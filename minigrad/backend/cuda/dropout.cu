// Dropout: y = x / (1 - p) with probability 1 - p, else 0. x, y: n elements.
//
// The random numbers come from Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3,
// SC 2011): a function of a key (the seed) and a counter, so no state is kept, every thread draws its own, and the backward
// pass draws the same mask again. A thread works on 4 neighbouring elements, one for each word of one counter.

struct Words { unsigned w[4]; };

static __device__ Words philox(unsigned long long counter, unsigned long long seed) {
    Words c = {{(unsigned)counter, (unsigned)(counter >> 32), 0, 0}};
    unsigned key0 = (unsigned)seed, key1 = (unsigned)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, c.w[0]), low0 = 0xD2511F53u * c.w[0];
        unsigned high1 = __umulhi(0xCD9E8D57u, c.w[2]), low1 = 0xCD9E8D57u * c.w[2];
        c = {{high1 ^ c.w[1] ^ key0, low1, high0 ^ c.w[3] ^ key1, low0}};
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return c;
}

// The seed comes as a number, or, where seed_at is not null, from device memory, so that a captured graph draws new masks.

// The words of counters first, first + 1, ...: a thread writes four of the n.
extern "C" __global__ void philox_words(real* words, index_t n, unsigned long long seed, const unsigned long long* seed_at,
                                        unsigned long long first) {
    index_t i = thread_index() * 4;
    Words random = philox(first + thread_index(), seed_at ? *seed_at : seed);
    for (int k = 0; k < 4 && i + k < n; k++) words[i + k] = random.w[k];
}

extern "C" __global__ void dropout(const item* x, item* y, index_t n, real p, unsigned long long seed,
                                   const unsigned long long* seed_at) {
    index_t i = thread_index() * 4;
    if (i >= n) return;
    Words random = philox(thread_index(), seed_at ? *seed_at : seed);
    Items<4> four;
    bool whole = i + 4 <= n && aligned<4>(x) && aligned<4>(y);
    if (whole) four = *(const Items<4>*)(x + i);
    for (int k = 0; k < 4 && i + k < n; k++) {
        real uniform = (random.w[k] >> 8) * real(1.0 / (1 << 24));  // in [0, 1), exact in float
        real value = uniform >= p ? (whole ? four.of[k] : x[i + k]) / (1 - p) : real(0);
        if (whole) four.of[k] = value;
        else y[i + k] = value;
    }
    if (whole) *(Items<4>*)(y + i) = four;
}
