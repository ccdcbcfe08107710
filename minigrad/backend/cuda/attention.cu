// Attention without the matrix of scores: q (heads, queries, width), k, v (heads, keys, width), y like q. "heads" counts
// batch and heads together, width is at most 128.
//
//     s[i, j] = scale q[i] . k[j] + mask[i, j],   p[i, :] = softmax(s[i, :]),   y[i] = sum over j of p[i, j] v[j]
//
// and backward, for g like y,
//
//     delta[i] = g[i] . y[i],   dp[i, j] = g[i] . v[j],   ds = scale p (dp - delta)
//     dq[i] = sum over j of ds[i, j] k[j],   dk[j] = sum over i of ds[i, j] q[i],   dv[j] = sum over i of p[i, j] g[i]
//
// (Dao, Fu, Ermon, Rudra and Re, FlashAttention, 2022, arXiv:2205.14135; the online softmax is Milakov and Gimelshein's,
// 2018, arXiv:1805.02867.) A block works on one tile of rows of one head, its own rows, and walks over the other side in tiles
// of as many rows, all in shared memory. Its 64 threads are 8 down and 8 across. With R = ROWS / 8, a thread has the R x R
// scores of its own rows down, down + 8, ... and the tile's rows across, across + 8, ...; of a sum over the tile, it has the
// same own rows and four columns of every 32. So each number that is read from shared memory is multiplied R times, or more.
//
// There is a kernel for heads up to 32, 64 and 128 wide, W, which takes a row as that wide, with zeros behind it.
//
// Query i sees key j if j <= i + reach. mask is null or (batch, heads, queries, keys) with any strides, 0 where broadcast.
// A query that sees nothing gets 0 and sends no gradient.

constexpr int MOST = 128, THREADS = 64, ROWS_OF_FLOAT = 32, ROWS_OF_DOUBLE = 16;

// The rows of a tile: what fits into 48 KB. Python has the same rule.
template <int W> constexpr int ROWS = (sizeof(real) == sizeof(float) ? ROWS_OF_FLOAT : ROWS_OF_DOUBLE) / (W == MOST ? 2 : 1);
template <int W> constexpr int R = ROWS<W> / 8;

// What the kernels take as `sizes`, in this order; the masks' are strides.
enum Size { HEADS_OF_ONE, QUERIES, KEYS, WIDTH, REACH, MASK_N, MASK_H, MASK_I, MASK_J };

struct alignas(16) Four { real of[4]; };

// Rows in fours of columns, and four numbers of padding, which put the rows that are read together into different banks.
template <int W> struct Tile { Four of[ROWS<W>][W / 4 + 1]; };

// Factors of a sum over the rows of a tile: [row][down], R own rows together.
template <int W> struct alignas(R<W> * sizeof(real)) Part { real of[R<W>]; };
template <int W> struct Factors { Part<W> of[ROWS<W>][8 + 1]; };

template <int W> struct Forward { Tile<W> q, k, v; Factors<W> p; };
template <int W> struct Backward { Tile<W> own_a, own_b, a, b; Factors<W> ds, p; };

// This thread's place. Sixteen lanes in a row are 2 down and 8 across, such that lanes 2 apart, or 1 apart, read the same:
// then shared memory serves them at once.
static __device__ int down() { return threadIdx.x / 16 * 2 + threadIdx.x % 2; }
static __device__ int across() { return threadIdx.x / 2 % 8; }

// The largest x, and the sum, over the threads across.
static __device__ real max_across(real x) {
    for (int distance = 2; distance < 16; distance *= 2) x = fmax(x, __shfl_xor_sync(FULL_WARP, x, distance));
    return x;
}
static __device__ real sum_across(real x) {
    for (int distance = 2; distance < 16; distance *= 2) x += __shfl_xor_sync(FULL_WARP, x, distance);
    return x;
}

// Where this thread begins in a tile of which threads share rows N columns at a time.
template <int W, int N>
struct Share {
    static constexpr unsigned ACROSS = W / N < 32 ? W / N : 32, DOWN = THREADS / ACROSS;
    unsigned row = threadIdx.x / ACROSS, column = threadIdx.x % ACROSS * N;
};

template <int N, int W>
static __device__ void load_by(Tile<W>& tile, const item* x, int rows, int width) {
    Share<W, N> mine;
    x += (index_t)mine.row * width + mine.column;
    #pragma unroll 4
    for (int down = 0; down < ROWS<W>; down += mine.DOWN, x += mine.DOWN * width)
        for (int c = 0; c < W; c += N * mine.ACROSS) {
            int row = mine.row + down;
            Items<N> items = {};
            if (row < rows && mine.column + c < width) items = *(const Items<N>*)(x + c);
            for (int n = 0; n < N; n++)
                tile.of[row][(mine.column + c) / 4].of[N == 4 ? n : mine.column % 4] = items.of[n];
        }
}

// Rows start, start + 1, ... of x (rows, width) to a tile, zeros behind the last row and column.
template <int W>
static __device__ void load(Tile<W>& tile, const item* x, int start, int rows, int width) {
    x += (index_t)start * width;
    if (width % 4 == 0 && aligned<4>(x)) load_by<4>(tile, x, rows - start, width);
    else load_by<1>(tile, x, rows - start, width);
}

// sums, through a tile, to rows first, first + 1, ... of x (rows, width).
template <int W>
static __device__ void store(item* x, Tile<W>& tile, real (*sums)[W / 8], int first, int rows, int width) {
    __syncthreads();  // whoever reads the old tile is done
    for (int r = 0; r < R<W>; r++)
        for (int c = 0; c < W / 8; c++) tile.of[down() + 8 * r][across() + c / 4 * 8].of[c % 4] = sums[r][c];
    __syncthreads();
    Share<W, 1> mine;
    x += (index_t)(first + mine.row) * width + mine.column;
    for (int row = mine.row; row < min(ROWS<W>, rows - first); row += mine.DOWN, x += mine.DOWN * width)
        for (int c = 0; c < W; c += mine.ACROSS)
            if (mine.column + c < width) x[c] = tile.of[row][(mine.column + c) / 4].of[mine.column % 4];
}

// s[r][c] = own row r of this thread . row c of this thread of the tile
template <int W>
static __device__ void dots(real (*s)[R<W>], const Tile<W>& own, const Tile<W>& tile) {
    for (int r = 0; r < R<W>; r++)
        for (int c = 0; c < R<W>; c++) s[r][c] = 0;
    #pragma unroll 4
    for (int d = 0; d < W / 4; d++) {
        Four x[R<W>], y[R<W>];
        for (int r = 0; r < R<W>; r++) x[r] = own.of[down() + 8 * r][d], y[r] = tile.of[across() + 8 * r][d];
        for (int k = 0; k < 4; k++)
            for (int r = 0; r < R<W>; r++)
                for (int c = 0; c < R<W>; c++) s[r][c] += x[r].of[k] * y[c].of[k];
    }
}

// sums[r] += sum over the tile's rows of the factor of own row r and that row, times the row
template <int W>
static __device__ void add_rows(real (*sums)[W / 8], Factors<W>& factors, real (*s)[R<W>], const Tile<W>& tile, int rows) {
    for (int c = 0; c < R<W>; c++) {
        Part<W> part;
        for (int r = 0; r < R<W>; r++) part.of[r] = s[r][c];
        factors.of[across() + 8 * c][down()] = part;
    }
    __syncwarp();  // all threads with the same own rows are of one warp
    for (int start = 0; start < min(rows, ROWS<W>); start += 4)
        for (int j = start; j < start + 4; j++) {
            Part<W> part = factors.of[j][down()];
            for (int piece = 0; piece < W / 32; piece++) {
                Four x = tile.of[j][across() + 8 * piece];
                for (int r = 0; r < R<W>; r++)
                    for (int k = 0; k < 4; k++) sums[r][4 * piece + k] += part.of[r] * x.of[k];
            }
        }
}

// Dot products become scores, minus infinity where i does not see j. s[r][c] is that of i + 8 r and j + 8 c, or, if the own
// rows are KEYS, of i + 8 c and j + 8 r.
template <int W, bool OF_KEYS>
static __device__ void score(real (*s)[R<W>], real scale, const item* mask, const Lengths& sizes, int i, int j) {
    int queries = sizes.of[QUERIES], keys = sizes.of[KEYS], reach = sizes.of[REACH];
    auto at_each = [&](auto change) {
        for (int r = 0; r < R<W>; r++)
            for (int c = 0; c < R<W>; c++) {
                int query = i + 8 * (OF_KEYS ? c : r), key = j + 8 * (OF_KEYS ? r : c);
                change(s[r][c], query, key, query < queries && key < min(keys, query + reach + 1));
            }
    };
    if (mask)
        at_each([&](real& s, index_t query, index_t key, bool sees) {
            real added = sees ? real(mask[query * sizes.of[MASK_I] + key * sizes.of[MASK_J]]) : real(-INFINITY);
            s = added == -INFINITY ? added : scale * s + added;  // what is masked may be NaN
        });
    else
        at_each([&](real& s, int, int, bool sees) { s = sees ? scale * s : real(-INFINITY); });
}

// exp(s - lse) of a query that sees something, lse in two parts (see softmax.cu).
static __device__ real share(real s, real top, real rest) {
    real e = exp(below(s, top) - rest);
    return s == -INFINITY ? real(0) : e;
}

// The mask of a head, or null.
static __device__ const item* mask_of(const item* mask, int head, const Lengths& sizes) {
    int n = head / (int)sizes.of[HEADS_OF_ONE], h = head % (int)sizes.of[HEADS_OF_ONE];
    return mask ? mask + n * sizes.of[MASK_N] + h * sizes.of[MASK_H] : mask;
}

// y, and the log-sum-exp of s[i, :], from which the backward pass gets p without another softmax: lse (2, heads, queries), the
// largest score, and the rest.
template <int W>
static __device__ void forward(Forward<W>& shared, const item* q, const item* k, const item* v, const item* mask, item* y,
                               real* lse, real scale, const Lengths& sizes) {
    int queries = sizes.of[QUERIES], keys = sizes.of[KEYS], width = sizes.of[WIDTH];
    int blocks = (queries + ROWS<W> - 1) / ROWS<W>, head = blockIdx.x / blocks, first = blockIdx.x % blocks * ROWS<W>;
    int end = min(keys, first + ROWS<W> + (int)sizes.of[REACH]);
    real s[R<W>][R<W>], sums[R<W>][W / 8] = {}, largest[R<W>], total[R<W>] = {};  // each thread's part of the total
    q += (index_t)head * queries * width, k += (index_t)head * keys * width, v += (index_t)head * keys * width;
    mask = mask_of(mask, head, sizes);
    for (int r = 0; r < R<W>; r++) largest[r] = -INFINITY;
    load(shared.q, q, first, queries, width);
    for (int start = 0; start < end; start += ROWS<W>) {
        __syncthreads();  // whoever reads the old tiles is done
        load(shared.k, k, start, keys, width);
        load(shared.v, v, start, keys, width);
        __syncthreads();
        dots(s, shared.q, shared.k);
        score<W, false>(s, scale, mask, sizes, first + down(), start + across());
        for (int r = 0; r < R<W>; r++) {
            real larger = largest[r];
            for (int c = 0; c < R<W>; c++) larger = fmax(larger, s[r][c]);
            larger = max_across(larger);
            real shrink = share(largest[r], larger, 0);  // the sums so far were relative to it
            total[r] *= shrink;
            for (int c = 0; c < R<W>; c++) total[r] += s[r][c] = share(s[r][c], larger, 0);
            for (int c = 0; c < W / 8; c++) sums[r][c] *= shrink;
            largest[r] = larger;
        }
        add_rows(sums, shared.p, s, shared.v, end - start);
    }
    for (int r = 0; r < R<W>; r++) {
        int i = first + down() + 8 * r;
        total[r] = sum_across(total[r]);
        if (across() == 0 && i < queries) {
            index_t at = (index_t)head * queries + i;
            lse[at] = largest[r];
            lse[at + (index_t)(gridDim.x / blocks) * queries] = log(total[r]);
        }
        real inverse = 1 / total[r];
        for (int c = 0; c < W / 8; c++) sums[r][c] = total[r] == 0 ? real(0) : sums[r][c] * inverse;
    }
    store(y + (index_t)head * queries * width, shared.q, sums, first, queries, width);
}

// Own rows are those of block `block` of this head: of k and v with gradients da = dk and db = dv, or of q and g with da = dq.
// a and b are the other two, from which s and dp come. lse and delta are this head's.
template <int W, bool OF_KEYS>
static __device__ void backward(Backward<W>& shared, int block, const item* own_a, const item* own_b, const item* a,
                                const item* b, const item* mask, const real* top, const real* rest, const real* delta,
                                item* da, item* db, real scale, const Lengths& sizes) {
    int queries = sizes.of[QUERIES], keys = sizes.of[KEYS], width = sizes.of[WIDTH], reach = sizes.of[REACH];
    int first = block * ROWS<W>, own_rows = OF_KEYS ? keys : queries, rows = OF_KEYS ? queries : keys;
    int begin = OF_KEYS ? max(0, first - reach) / ROWS<W> * ROWS<W> : 0;
    int end = OF_KEYS ? queries : min(keys, first + ROWS<W> + reach);
    real ds[R<W>][R<W>], dp[R<W>][R<W>], da_sums[R<W>][W / 8] = {}, db_sums[R<W>][W / 8] = {};
    real i_top[R<W>], i_rest[R<W>], i_delta[R<W>];  // of queries i, i + 8, ...
    auto read_queries = [&](int i) {
        for (int r = 0; r < R<W>; r++) {
            int at = min(i + 8 * r, queries - 1);
            i_top[r] = top[at], i_rest[r] = rest[at], i_delta[r] = delta[at];
        }
    };
    load(shared.own_a, own_a, first, own_rows, width);
    load(shared.own_b, own_b, first, own_rows, width);
    if (!OF_KEYS) read_queries(first + down());
    for (int start = begin; start < end; start += ROWS<W>) {
        int i = OF_KEYS ? start + across() : first + down(), j = OF_KEYS ? first + down() : start + across();
        if (OF_KEYS) read_queries(i);
        __syncthreads();  // whoever reads the old tiles is done
        load(shared.a, a, start, rows, width);
        load(shared.b, b, start, rows, width);
        __syncthreads();
        dots(ds, shared.own_a, shared.a);
        dots(dp, shared.own_b, shared.b);
        score<W, OF_KEYS>(ds, scale, mask, sizes, i, j);
        for (int r = 0; r < R<W>; r++)
            for (int c = 0; c < R<W>; c++) {
                int query = OF_KEYS ? c : r;
                real s = ds[r][c], p = share(s, i_top[query], i_rest[query]);
                ds[r][c] = s == -INFINITY ? real(0) : p * (dp[r][c] - i_delta[query]) * scale;
                dp[r][c] = p;  // in the place of what is used up
            }
        add_rows(da_sums, shared.ds, ds, shared.a, end - start);
        if (OF_KEYS) add_rows(db_sums, shared.p, dp, shared.b, end - start);
    }
    store(da, shared.own_a, da_sums, first, own_rows, width);
    if (OF_KEYS) store(db, shared.own_b, db_sums, first, own_rows, width);
}

// The blocks of a head are those of its keys, then those of its queries.
template <int W>
static __device__ void backward(Backward<W>& shared, const item* g, const item* q, const item* k, const item* v,
                                const item* mask, const real* lse, const real* delta, item* dq, item* dk, item* dv, real scale,
                                const Lengths& sizes) {
    int queries = sizes.of[QUERIES], keys = sizes.of[KEYS], width = sizes.of[WIDTH];
    int of_keys = (keys + ROWS<W> - 1) / ROWS<W>, blocks = of_keys + (queries + ROWS<W> - 1) / ROWS<W>;
    int head = blockIdx.x / blocks, block = blockIdx.x % blocks;
    index_t row = (index_t)head * queries, at = row * width, key_at = (index_t)head * keys * width;
    const real *top = lse + row, *rest = top + (index_t)(gridDim.x / blocks) * queries;
    mask = mask_of(mask, head, sizes), delta += row;
    if (block < of_keys)
        backward<W, true>(shared, block, k + key_at, v + key_at, q + at, g + at, mask, top, rest, delta, dk + key_at,
                          dv + key_at, scale, sizes);
    else
        backward<W, false>(shared, block - of_keys, q + at, g + at, k + key_at, v + key_at, mask, top, rest, delta, dq + at,
                           nullptr, scale, sizes);
}

// delta of rows of g, y (rows, width), one warp for each.
extern "C" __global__ void attention_delta(const item* g, const item* y, real* delta, index_t rows, int width) {
    index_t row = thread_index() / 32;
    if (row >= rows) return;
    real sum = 0;
    for (int d = threadIdx.x % 32; d < width; d += 32) sum += g[row * width + d] * y[row * width + d];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_32(
    const item* q, const item* k, const item* v, const item* mask, item* y, real* lse, real scale, const Lengths sizes) {
    __shared__ Forward<32> shared;
    forward(shared, q, k, v, mask, y, lse, scale, sizes);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_64(
    const item* q, const item* k, const item* v, const item* mask, item* y, real* lse, real scale, const Lengths sizes) {
    __shared__ Forward<64> shared;
    forward(shared, q, k, v, mask, y, lse, scale, sizes);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_128(
    const item* q, const item* k, const item* v, const item* mask, item* y, real* lse, real scale, const Lengths sizes) {
    __shared__ Forward<128> shared;
    forward(shared, q, k, v, mask, y, lse, scale, sizes);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_32(
    const item* g, const item* q, const item* k, const item* v, const item* mask, const real* lse, const real* delta, item* dq,
    item* dk, item* dv, real scale, const Lengths sizes) {
    __shared__ Backward<32> shared;
    backward(shared, g, q, k, v, mask, lse, delta, dq, dk, dv, scale, sizes);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_64(
    const item* g, const item* q, const item* k, const item* v, const item* mask, const real* lse, const real* delta, item* dq,
    item* dk, item* dv, real scale, const Lengths sizes) {
    __shared__ Backward<64> shared;
    backward(shared, g, q, k, v, mask, lse, delta, dq, dk, dv, scale, sizes);
}

extern "C" __global__ void __launch_bounds__(THREADS) attention_backward_128(
    const item* g, const item* q, const item* k, const item* v, const item* mask, const real* lse, const real* delta, item* dq,
    item* dk, item* dv, real scale, const Lengths sizes) {
    __shared__ Backward<128> shared;
    backward(shared, g, q, k, v, mask, lse, delta, dq, dk, dv, scale, sizes);
}
