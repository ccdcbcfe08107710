/* Products of matrices, and attention, by BLAS in the threads of these kernels. */
#include "kernels.h"
#ifdef _OPENMP /* otherwise BLAS's own threads are faster */

enum { CALLERS = 128 }; /* for so many threads at a time OpenBLAS has memory */

typedef void (*sgemm_t)(int order, int x_transposed, int y_transposed, index_t m, index_t n, index_t k, float scale,
                        const float *x, index_t x_stride, const float *y, index_t y_stride, float beta, float *out,
                        index_t out_stride);
static sgemm_t sgemm;

void use_blas(function_t product)
{
    sgemm = (sgemm_t)product;
}

/* out = scale x y + beta out, with x (m, k) or stored as its transpose (k, m), and y (k, n) or (n, k). */
INLINE void multiply(int x_transposed, int y_transposed, index_t m, index_t n, index_t k, float scale, const float *x,
                     index_t x_stride, const float *y, index_t y_stride, float beta, float *out, index_t out_stride)
{
    enum { ROWS = 101, AS_IS = 111, TRANSPOSED = 112 };
    sgemm(ROWS, x_transposed ? TRANSPOSED : AS_IS, y_transposed ? TRANSPOSED : AS_IS, m, n, k, scale, x, x_stride, y,
          y_stride, beta, out, out_stride);
}

/* Where piece i of several begins: n cut into nearly equal pieces of whole registers. */
INLINE index_t cut(index_t n, index_t i, index_t several)
{
    index_t at = n * i / several / 16 * 16;
    return i == several ? n : at;
}

/* out = x y + bias of `batch` matrices, which begin at these elements of x and y. A thread makes whole matrices or, of few,
   a tile of each; of all ways to cut a matrix into as many tiles, the one whose tiles read least. */
void product(const float *x, const float *y, const float *bias, float *out, const index_t *x_starts, const index_t *y_starts,
             index_t batch, index_t m, index_t n, index_t k, index_t x_stride, index_t y_stride, int x_transposed,
             int y_transposed)
{
    index_t large = batch * m * n * k > 1 << 20, team = large ? at_most(CALLERS) : 1;
    index_t tiles = batch < 4 * team ? team : 1, down = 1;
    for (index_t d = 1; d <= tiles; d++)
        if (tiles % d == 0 && m / d + n / (tiles / d) < m / down + n / (tiles / down)) down = d;
    index_t across = tiles / down;
    PARALLEL_BY(team, large)
    for (index_t i = 0; i < batch * tiles; i++) {
        index_t matrix = i / tiles, row = i % tiles / across, column = i % across;
        index_t top = cut(m, row, down), rows = cut(m, row + 1, down) - top;
        index_t left = cut(n, column, across), columns = cut(n, column + 1, across) - left;
        float *tile = out + (matrix * m + top) * n + left;
        if (rows == 0 || columns == 0) continue;
        if (bias)
            for (index_t r = 0; r < rows; r++) memcpy(tile + r * n, bias + left, columns * sizeof(float));
        multiply(x_transposed, y_transposed, rows, columns, k, 1, x + x_starts[matrix] + top * (x_transposed ? 1 : x_stride),
                 x_stride, y + y_starts[matrix] + left * (y_transposed ? y_stride : 1), y_stride, bias ? 1 : 0, tile, n);
    }
}

/* Arrays of attention are (samples, heads, rows, width) with three strides each: the last is 1. The mask, if there is one,
   is added to the scores, or says which of them count; it has four strides, some of them 0. */
typedef struct {
    const float *q, *k, *added;
    const unsigned char *visible;
    const index_t *q_strides, *k_strides, *mask_strides;
    index_t keys, width, causal;
    float scale;
} Scores;

INLINE index_t at(const index_t *strides, index_t sample, index_t head, index_t row)
{
    return sample * strides[0] + head * strides[1] + row * strides[2];
}

/* How many keys query i sees, as far as the mask lets it. */
INLINE index_t visible(const Scores *a, index_t i)
{
    return i + a->causal + 1 < a->keys ? i + a->causal + 1 : a->keys;
}

/* scale q k^T + mask of `rows` queries, and of the keys that one of them sees; returns how many keys these are. */
static index_t scores(const Scores *a, index_t sample, index_t head, index_t first, index_t rows, float *s)
{
    index_t keys = visible(a, first + rows - 1), step = a->mask_strides[3];
    multiply(0, 1, rows, keys, a->width, a->scale, a->q + at(a->q_strides, sample, head, first), a->q_strides[2],
             a->k + at(a->k_strides, sample, head, 0), a->k_strides[2], 0, s, keys);
    for (index_t r = 0; r < rows; r++, s += keys) {
        index_t mask = at(a->mask_strides, sample, head, first + r);
        if (a->added)
            for (index_t j = 0; j < keys; j++) s[j] += a->added[mask + j * step];
        if (a->visible)
            for (index_t j = 0; j < keys; j++) s[j] = a->visible[mask + j * step] ? s[j] : -INFINITY;
        for (index_t j = visible(a, first + r); j < keys; j++) s[j] = -INFINITY;
    }
    return keys;
}

/* s - inf in place, 0 of +inf; returns the log-sum-exp of that, and 0 for a row without +inf. */
static float below_infinity(float *s, index_t n)
{
    float count = 0;
    for (index_t j = 0; j < n; j++) {
        count += s[j] == INFINITY;
        s[j] = below(s[j], INFINITY);
    }
    return logf(count > 1 ? count : 1);
}

/* softmax of a row in place: zeros for one of -inf, and +inf share the whole. Returns the log-sum-exp, infinite for both. */
static float softmax_row(float *s, index_t n)
{
    float top = largest(s, n), shift = isinf(top) ? 0 : top, total = 0;
    if (top == INFINITY) below_infinity(s, n);
    REDUCE(+, total) for (index_t j = 0; j < n; j++) total += s[j] = exponential(s[j] - shift);
    if (total == 0) return INFINITY;
    float scale = 1 / total;
    for (index_t j = 0; j < n; j++) s[j] *= scale;
    return top + logf(total);
}

/* y = softmax(scale q k^T + mask) v, and each query's log-sum-exp. `strides` of q, k, v, y and the mask. Query i sees the
   keys up to i + causal, which is not negative. Each of `most` threads takes `block` queries at a time; scratch
   (most, block keys). */
void attention(const float *q, const float *k, const float *v, float *y, float *lse, const float *added,
               const unsigned char *visible, float *scratch, const index_t *strides, index_t most, index_t samples,
               index_t heads, index_t queries, index_t keys, index_t width, index_t v_width, index_t causal, index_t block,
               float scale)
{
    const index_t *v_strides = strides + 6, *y_strides = strides + 9;
    Scores a = {q, k, added, visible, strides, strides + 3, strides + 12, keys, width, causal, scale};
    index_t blocks = pieces(queries, block);
    PARALLEL_BY(most, 1)
    for (index_t i = 0; i < samples * heads * blocks; i++) {
        index_t sample = i / blocks / heads, head = i / blocks % heads, first = i % blocks * block;
        index_t rows = first + block < queries ? block : queries - first;
        float *p = scratch + THREAD * block * keys;
        index_t n = scores(&a, sample, head, first, rows, p);
        for (index_t r = 0; r < rows; r++) lse[i / blocks * queries + first + r] = softmax_row(p + r * n, n);
        multiply(0, 0, rows, v_width, n, 1, p, n, v + at(v_strides, sample, head, 0), v_strides[2], 0,
                 y + at(y_strides, sample, head, first), y_strides[2]);
    }
}

/* With p the attention weights: dv = p^T g, ds = p (g v^T - sum(g y)), dq = scale ds k, dk = scale ds^T q. `strides` of q,
   k, v, y, the mask, g, dq, dk and dv; scratch (most, 2, block keys). */
void attention_backward(const float *q, const float *k, const float *v, const float *y, const float *lse, const float *added,
                        const unsigned char *visible, const float *g, float *dq, float *dk, float *dv, float *scratch,
                        const index_t *strides, index_t most, index_t samples, index_t heads, index_t queries, index_t keys,
                        index_t width, index_t v_width, index_t causal, index_t block, float scale)
{
    const index_t *v_strides = strides + 6, *y_strides = strides + 9, *g_strides = strides + 16, *dq_strides = strides + 19;
    const index_t *dk_strides = strides + 22, *dv_strides = strides + 25;
    Scores a = {q, k, added, visible, strides, strides + 3, strides + 12, keys, width, causal, scale};
    PARALLEL_BY(most, 1)
    for (index_t i = 0; i < samples * heads; i++) {
        index_t sample = i / heads, head = i % heads;
        float *p = scratch + THREAD * 2 * block * keys, *ds = p + block * keys;
        const float *ks = k + at(a.k_strides, sample, head, 0), *vs = v + at(v_strides, sample, head, 0);
        float *dks = dk + at(dk_strides, sample, head, 0), *dvs = dv + at(dv_strides, sample, head, 0);
        for (index_t j = 0; j < keys; j++) {
            memset(dks + j * dk_strides[2], 0, width * sizeof(float));
            memset(dvs + j * dv_strides[2], 0, v_width * sizeof(float));
        }
        for (index_t first = 0; first < queries; first += block) {
            index_t rows = first + block < queries ? block : queries - first;
            const float *gs = g + at(g_strides, sample, head, first), *ys = y + at(y_strides, sample, head, first);
            index_t n = scores(&a, sample, head, first, rows, p);
            multiply(0, 1, rows, n, v_width, 1, gs, g_strides[2], vs, v_strides[2], 0, ds, n);
            for (index_t r = 0; r < rows; r++) {
                const float *g_row = gs + r * g_strides[2], *y_row = ys + r * y_strides[2];
                float *p_row = p + r * n, *ds_row = ds + r * n, dot = 0, shift = lse[i * queries + first + r];
                REDUCE(+, dot) for (index_t c = 0; c < v_width; c++) dot += g_row[c] * y_row[c];
                if (shift == INFINITY) shift = below_infinity(p_row, n);
                for (index_t j = 0; j < n; j++) {
                    p_row[j] = exponential(p_row[j] - shift);
                    ds_row[j] = p_row[j] * (ds_row[j] - dot);
                }
            }
            multiply(1, 0, n, v_width, rows, 1, p, n, gs, g_strides[2], 1, dvs, dv_strides[2]);
            multiply(0, 0, rows, width, n, scale, ds, n, ks, a.k_strides[2], 0, dq + at(dq_strides, sample, head, first),
                     dq_strides[2]);
            multiply(1, 0, n, width, rows, scale, ds, n, q + at(a.q_strides, sample, head, first), a.q_strides[2], 1, dks,
                     dk_strides[2]);
        }
    }
}
#endif
