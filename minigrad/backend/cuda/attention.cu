// Attention without the matrix of scores: q (heads, queries, width), k, v (heads, keys, width), y like q. "heads" counts
// batch and heads together, width is at most 128.
//
//     s[i, j] = scale q[i] . k[j] + mask[i, j],   p[i, :] = softmax(s[i, :]),   y[i] = sum over j of p[i, j] v[j]
//
// (Dao, Fu, Ermon, Rudra and Re, FlashAttention, 2022, arXiv:2205.14135; the online softmax is Milakov and Gimelshein's,
// 2018, arXiv:1805.02867.) A block of 4 warps works on 4 x ROWS rows of one head, its own rows. It walks over the other
// side in tiles of 32 rows, which lie in shared memory. In a score, lane j of a warp stands for row j of the tile; in a sum
// over the tile, the lane stands for columns lane, lane + 32, ... of the result, which stays in registers. What all lanes read
// together, own rows and the factors of a sum, is read four numbers at a time.
//
// Query i sees key j if j <= i + reach. mask is null or (batch, heads, queries, keys) with any strides, 0 where broadcast.
// A query that sees nothing gets 0 and sends no gradient.

constexpr int MOST = 128, PIECES = MOST / 32, WARPS = 4, ROWS_OF_FLOAT = 4, ROWS_OF_DOUBLE = 1;
constexpr int ROWS = sizeof(real) == sizeof(float) ? ROWS_OF_FLOAT : ROWS_OF_DOUBLE, OWN = WARPS * ROWS;

struct alignas(16) Four { real of[4]; };
typedef Four OwnRow[MOST / 4];

// The width with the zeros behind it that make it a multiple of four.
static __device__ int padded(int width) { return (width + 3) / 4 * 4; }

// Rows start ... start + 31 of x (rows, width) to shared memory, zeros behind the last row and column. One column of padding
// puts the elements of a column into different banks.
static __device__ void load_tile(real (*tile)[MOST + 1], const item* x, int start, int rows, int width) {
    int columns = padded(width);
    __syncthreads();  // whoever reads the old tile is done
    for (int i = threadIdx.x; i < 32 * columns; i += blockDim.x) {
        int row = start + i / columns, column = i % columns;
        tile[i / columns][column] = row < rows && column < width ? x[(index_t)row * width + column] : real(0);
    }
    __syncthreads();
}

// The block's own rows, first ... first + OWN - 1 of x (rows, width), to shared memory.
static __device__ void load_own(OwnRow* own, const item* x, int first, int rows, int width) {
    int columns = padded(width);
    for (int i = threadIdx.x; i < OWN * columns; i += blockDim.x) {
        int row = first + i / columns, column = i % columns;
        own[i / columns][column / 4].of[column % 4] =
            row < rows && column < width ? x[(index_t)row * width + column] : real(0);
    }
}

// dots[r] = own row r of this warp . row `lane` of the tile
static __device__ void dots_with_tile(real* dots, OwnRow* own, real (*tile)[MOST + 1], int width) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int r = 0; r < ROWS; r++) dots[r] = 0;
    for (int d = 0; d < width; d += 4) {
        real x[4] = {tile[lane][d], tile[lane][d + 1], tile[lane][d + 2], tile[lane][d + 3]};
        for (int r = 0; r < ROWS; r++) {
            Four y = own[warp * ROWS + r][d / 4];
            for (int k = 0; k < 4; k++) dots[r] += y.of[k] * x[k];
        }
    }
}

// sums[r] += sum over j of factor[r] of lane j times row j of the tile
static __device__ void add_tile_rows(real (*sums)[PIECES], const real* factor, real (*tile)[MOST + 1], int width) {
    __shared__ Four factors[WARPS][ROWS][8];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncwarp();  // whoever reads the old factors is done
    for (int r = 0; r < ROWS; r++) factors[warp][r][lane / 4].of[lane % 4] = factor[r];
    __syncwarp();
    for (int j = 0; j < 8; j++) {
        Four f[ROWS];
        for (int r = 0; r < ROWS; r++) f[r] = factors[warp][r][j];
        for (int piece = 0; piece < PIECES; piece++)
            if (32 * piece < width)
                for (int k = 0; k < 4; k++) {
                    real x = tile[4 * j + k][lane + 32 * piece];
                    for (int r = 0; r < ROWS; r++) sums[r][piece] += f[r].of[k] * x;
                }
    }
}

// This warp's rows of a result to x (rows, width).
static __device__ void store_own(item* x, real (*sums)[PIECES], int first, int rows, int width) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int r = 0; r < ROWS; r++)
        for (int piece = 0; piece < PIECES; piece++) {  // bounds known to the compiler keep `sums` in registers
            int row = first + warp * ROWS + r, column = lane + 32 * piece;
            if (row < rows && column < width) x[(index_t)row * width + column] = sums[r][piece];
        }
}

// s[i, j] from the dot product, minus infinity where i does not see j.
static __device__ real score(real dot, real scale, const item* mask, int i, int j, int queries, int keys, int reach,
                             index_t mask_i, index_t mask_j) {
    if (i >= queries || j >= keys || j > i + reach) return -INFINITY;
    real added = mask ? real(mask[i * mask_i + j * mask_j]) : real(0);
    return added == -INFINITY ? added : scale * dot + added;  // what is masked may be NaN
}

// exp(s - lse) of a query that sees something, lse in two parts (see softmax.cu).
static __device__ real share(real s, real top, real rest) {
    return s == -INFINITY ? real(0) : exp(below(s, top) - rest);
}

// y, and the log-sum-exp of s[i, :], from which the backward pass gets p without another softmax: lse (2, heads, queries), the
// largest score, and the rest.
extern "C" __global__ void attention_forward(const item* q, const item* k, const item* v, const item* mask, item* y,
                                             real* lse, int heads_of_one, int queries, int keys, int width, real scale,
                                             int reach, index_t mask_n, index_t mask_h, index_t mask_i, index_t mask_j) {
    __shared__ real tile[32][MOST + 1];
    __shared__ OwnRow own_q[OWN];
    int blocks = (queries + OWN - 1) / OWN, head = blockIdx.x / blocks, first = blockIdx.x % blocks * OWN;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    real sums[ROWS][PIECES] = {}, largest[ROWS], total[ROWS], p[ROWS];
    if (mask) mask += head / heads_of_one * mask_n + head % heads_of_one * mask_h;
    for (int r = 0; r < ROWS; r++) largest[r] = -INFINITY, total[r] = 0;
    load_own(own_q, q + (index_t)head * queries * width, first, queries, width);
    for (int start = 0; start < min(keys, first + OWN + reach); start += 32) {
        load_tile(tile, k + (index_t)head * keys * width, start, keys, width);
        dots_with_tile(p, own_q, tile, width);
        load_tile(tile, v + (index_t)head * keys * width, start, keys, width);
        for (int r = 0; r < ROWS; r++) {
            real s = score(p[r], scale, mask, first + warp * ROWS + r, start + lane, queries, keys, reach, mask_i, mask_j);
            real larger = fmax(largest[r], warp_max(s));
            real shrink = share(largest[r], larger, 0);  // the sums so far were relative to it
            p[r] = share(s, larger, 0);
            total[r] = total[r] * shrink + warp_sum(p[r]);
            for (int piece = 0; piece < PIECES; piece++) sums[r][piece] *= shrink;
            largest[r] = larger;
        }
        add_tile_rows(sums, p, tile, width);
    }
    for (int r = 0; r < ROWS; r++) {
        int i = first + warp * ROWS + r;
        if (lane == 0 && i < queries) {
            index_t at = (index_t)head * queries + i;
            lse[at] = largest[r];
            lse[at + (index_t)(gridDim.x / blocks) * queries] = log(total[r]);
        }
        for (int piece = 0; piece < PIECES; piece++) sums[r][piece] = total[r] == 0 ? real(0) : sums[r][piece] / total[r];
    }
    store_own(y + (index_t)head * queries * width, sums, first, queries, width);
}

// delta[i] = g[i] . y[i] = sum over j of p[i, j] dp[i, j]. One warp works on one row of g, y (rows, width).
extern "C" __global__ void attention_delta(const item* g, const item* y, real* delta, index_t rows, int width) {
    index_t row = thread_index() / 32;
    if (row >= rows) return;
    real sum = 0;
    for (int d = threadIdx.x % 32; d < width; d += 32) sum += g[row * width + d] * y[row * width + d];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}

// With dp[i, j] = g[i] . v[j] and ds = p (dp - delta):  dq[i] = scale sum over j of ds[i, j] k[j]. Own rows are queries.
extern "C" __global__ void attention_backward_q(const item* g, const item* q, const item* k, const item* v, const item* mask,
                                                const real* lse, const real* delta, item* dq, int heads_of_one, int queries,
                                                int keys, int width, real scale, int reach, index_t mask_n, index_t mask_h,
                                                index_t mask_i, index_t mask_j) {
    __shared__ real tile[32][MOST + 1];
    __shared__ OwnRow own_q[OWN], own_g[OWN];
    int blocks = (queries + OWN - 1) / OWN, head = blockIdx.x / blocks, first = blockIdx.x % blocks * OWN;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    real sums[ROWS][PIECES] = {}, dp[ROWS], ds[ROWS];
    const real* rest = lse + (index_t)(gridDim.x / blocks) * queries;
    if (mask) mask += head / heads_of_one * mask_n + head % heads_of_one * mask_h;
    load_own(own_q, q + (index_t)head * queries * width, first, queries, width);
    load_own(own_g, g + (index_t)head * queries * width, first, queries, width);
    for (int start = 0; start < min(keys, first + OWN + reach); start += 32) {
        load_tile(tile, v + (index_t)head * keys * width, start, keys, width);
        dots_with_tile(dp, own_g, tile, width);
        load_tile(tile, k + (index_t)head * keys * width, start, keys, width);
        dots_with_tile(ds, own_q, tile, width);
        for (int r = 0; r < ROWS; r++) {
            int i = first + warp * ROWS + r;
            real s = score(ds[r], scale, mask, i, start + lane, queries, keys, reach, mask_i, mask_j);
            index_t at = (index_t)head * queries + i;
            ds[r] = s == -INFINITY ? real(0) : share(s, lse[at], rest[at]) * (dp[r] - delta[at]) * scale;
        }
        add_tile_rows(sums, ds, tile, width);
    }
    store_own(dq + (index_t)head * queries * width, sums, first, queries, width);
}

// dv[j] = sum over i of p[i, j] g[i],  dk[j] = scale sum over i of ds[i, j] q[i]. Own rows are keys, a lane is a query.
extern "C" __global__ void attention_backward_kv(const item* g, const item* q, const item* k, const item* v,
                                                 const item* mask, const real* lse, const real* delta, item* dk, item* dv,
                                                 int heads_of_one, int queries, int keys, int width, real scale, int reach,
                                                 index_t mask_n, index_t mask_h, index_t mask_i, index_t mask_j) {
    __shared__ real tile[32][MOST + 1];
    __shared__ OwnRow own_k[OWN], own_v[OWN];
    int blocks = (keys + OWN - 1) / OWN, head = blockIdx.x / blocks, first = blockIdx.x % blocks * OWN;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    real dk_sums[ROWS][PIECES] = {}, dv_sums[ROWS][PIECES] = {}, p[ROWS], dp[ROWS], ds[ROWS];
    const real* rest = lse + (index_t)(gridDim.x / blocks) * queries;
    if (mask) mask += head / heads_of_one * mask_n + head % heads_of_one * mask_h;
    const item *head_g = g + (index_t)head * queries * width, *head_q = q + (index_t)head * queries * width;
    load_own(own_k, k + (index_t)head * keys * width, first, keys, width);
    load_own(own_v, v + (index_t)head * keys * width, first, keys, width);
    for (int start = max(0, first - reach) / 32 * 32; start < queries; start += 32) {
        load_tile(tile, head_g, start, queries, width);
        dots_with_tile(dp, own_v, tile, width);
        load_tile(tile, head_q, start, queries, width);
        dots_with_tile(ds, own_k, tile, width);
        for (int r = 0; r < ROWS; r++) {
            int i = start + lane;
            real s = score(ds[r], scale, mask, i, first + warp * ROWS + r, queries, keys, reach, mask_i, mask_j);
            index_t at = (index_t)head * queries + i;
            p[r] = s == -INFINITY ? real(0) : share(s, lse[at], rest[at]);  // behind the last query nothing is read
            ds[r] = s == -INFINITY ? real(0) : p[r] * (dp[r] - delta[at]) * scale;
        }
        add_tile_rows(dk_sums, ds, tile, width);
        load_tile(tile, head_g, start, queries, width);
        add_tile_rows(dv_sums, p, tile, width);
    }
    store_own(dk + (index_t)head * keys * width, dk_sums, first, keys, width);
    store_own(dv + (index_t)head * keys * width, dv_sums, first, keys, width);
}
