/* Euclidean distances of rows from rows. Definition: `cdist` in minigrad/ops/linalg.py. */
#include "conv.h"

/* Doubles of a register; rows of x in a tile, whose sums registers hold, and in a block. */
enum { HALF = WIDTH / 2, SIDE = TILE < 8 ? 4 : 8, HEIGHT = 64 };
typedef double wide __attribute__((vector_size(4 * WIDTH), aligned(8), may_alias));

/* |x - y|, summed in double: large numbers' squares do not overflow, small ones' do not vanish. */
INLINE double distance(const float *x, const float *y, index_t width)
{
    double sum = 0;
    REDUCE(+, sum) for (index_t k = 0; k < width; k++) {
        double part = (double)x[k] - y[k];
        sum += part * part;
    }
    return sqrt(sum);
}

/* Those of `rows` rows of x, SIDE at most, from WIDTH rows of y, of which `columns` count: x and y are turned, SIDE and WIDTH
   numbers of each place side by side. */
INLINE void tile_of_distances(const double *x, const double *y, float *d, index_t rows, index_t columns, index_t n, index_t width)
{
    wide sum[SIDE][2] = {{{0}}};
    for (index_t k = 0; k < width; k++, x += SIDE, y += WIDTH)
        UNROLL for (int r = 0; r < SIDE; r++) {
            wide left = x[r] - *(const wide *)y, right = x[r] - *(const wide *)(y + HALF);
            sum[r][0] += left * left;
            sum[r][1] += right * right;
        }
    for (index_t r = 0; r < rows; r++) {
        double square[WIDTH];
        float root[WIDTH];
        memcpy(square, sum[r], sizeof square);
        for (int c = 0; c < WIDTH; c++) root[c] = (float)sqrt(square[c]);
        memcpy(d + r * n, root, columns * sizeof(float));
    }
}

/* Of `rows` rows the numbers of each place side by side, `most` of them: zeros where there are no more rows. */
INLINE void turn(const float *x, double *y, index_t rows, index_t most, index_t width)
{
    for (index_t k = 0; k < width; k++)
        for (index_t r = 0; r < most; r++) y[k * most + r] = r < rows ? x[r * width + k] : 0;
}

/* d[b, i, j] = |x[b, i] - y[b, j]|. */
void distances(const float *xs, const float *ys, float *ds, index_t batch, index_t m, index_t n, index_t width)
{
    index_t blocks = pieces(m, HEIGHT);
    if (2 * n < WIDTH) { /* most of a panel would be empty */
        PARALLEL(batch * m * n * width > 1 << 15)
        for (index_t i = 0; i < batch * m; i++)
            for (index_t j = 0; j < n; j++)
                ds[i * n + j] = (float)distance(xs + i * width, ys + (i / m * n + j) * width, width);
        return;
    }
    PARALLEL(batch * m * n * width > 1 << 15)
    for (index_t block = 0; block < batch * blocks; block++) {
        index_t b = block / blocks, first = block % blocks * HEIGHT, rows = m - first < HEIGHT ? m - first : HEIGHT;
        double *y = (double *)scratch(0, 2 * WIDTH * width), *x = (double *)scratch(1, 2 * HEIGHT * width);
        for (index_t i = 0; i < rows; i += SIDE)
            turn(xs + (b * m + first + i) * width, x + i * width, rows - i < SIDE ? rows - i : SIDE, SIDE, width);
        for (index_t j = 0; j < n; j += WIDTH) {
            index_t columns = n - j < WIDTH ? n - j : WIDTH;
            turn(ys + (b * n + j) * width, y, columns, WIDTH, width);
            for (index_t i = 0; i < rows; i += SIDE)
                tile_of_distances(x + i * width, y, ds + (b * m + first + i) * n + j, rows - i < SIDE ? rows - i : SIDE, columns,
                                  n, width);
        }
    }
}

/* The sums over n rows of weight (own - row) for R rows of their own, which have n weights each, V registers of each. */
INLINE void add_differences(int R, int V, const float *own, const float *row, const float *weight, float *to, index_t n,
                            index_t width)
{
    vector sum[R][V];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) sum[r][v] = (vector){0};
    for (index_t j = 0; j < n; j++, row += width, weight++)
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int v = 0; v < V; v++) {
                vector apart = *(const vector *)(own + r * width + v * WIDTH) - *(const vector *)(row + v * WIDTH);
                sum[r][v] += weight[r * n] * apart;
            }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int v = 0; v < V; v++) *(vector *)(to + r * width + v * WIDTH) = sum[r][v];
}

/* The same for R rows of any width. */
INLINE void add_all_differences(int R, const float *own, const float *row, const float *weight, float *to, index_t n,
                                index_t width)
{
    index_t k = 0;
    for (; k + 2 * WIDTH <= width; k += 2 * WIDTH) add_differences(R, 2, own + k, row + k, weight, to + k, n, width);
    for (; k + WIDTH <= width; k += WIDTH) add_differences(R, 1, own + k, row + k, weight, to + k, n, width);
    for (; k < width; k++)
        for (index_t r = 0; r < R; r++) {
            float sum = 0;
            for (index_t j = 0; j < n; j++) sum += weight[r * n + j] * (own[r * width + k] - row[j * width + k]);
            to[r * width + k] = sum;
        }
}

/* dx[b, i] = sum over j of g[b, i, j] (x[b, i] - y[b, j]) / d[b, i, j]; at a distance of 0 the slope is 0. A quotient by a very
   small one would overflow, by a very large one vanish: so distance and differences are scaled, in a term by itself. A small one
   is computed again, as below the normal numbers it has few digits. */
void distances_backward(const float *g, const float *d, const float *xs, const float *ys, float *dxs, index_t batch, index_t m,
                        index_t n, index_t width)
{
    index_t groups = pieces(m, SIDE);
    PARALLEL(batch * m * n * width > 1 << 15)
    for (index_t group = 0; group < batch * groups; group++) {
        index_t b = group / groups, first = b * m + group % groups * SIDE, left = (b + 1) * m - first;
        index_t rows = left < SIDE ? left : SIDE;
        const float *own = xs + first * width, *other = ys + b * n * width, *apart = d + first * n, *slope = g + first * n;
        float *sum = dxs + first * width, *weight = scratch(0, SIDE * n);
        int usual = 1;
        for (index_t i = 0; i < rows * n; i++) {
            int fine = apart[i] >= 0x1p-60f && apart[i] <= 0x1p60f;
            weight[i] = fine ? slope[i] / apart[i] : 0;
            usual &= fine;
        }
        if (rows == SIDE) add_all_differences(SIDE, own, other, weight, sum, n, width);
        for (index_t r = 0; rows < SIDE && r < rows; r++)
            add_all_differences(1, own + r * width, other, weight + r * n, sum + r * width, n, width);
        for (index_t i = 0; !usual && i < rows * n; i++) {
            if (apart[i] >= 0x1p-60f && apart[i] <= 0x1p60f) continue;
            const float *x = own + i / n * width, *y = other + i % n * width;
            double exact = apart[i] < 1 ? distance(x, y, width) : apart[i];
            float scale = apart[i] < 1 ? 0x1p64f : 0x1p-64f;
            float share = exact > 0 ? (float)(slope[i] / (exact * scale)) : 0;
            for (index_t k = 0; k < width; k++) sum[i / n * width + k] += share * (scale * (x[k] - y[k]));
        }
    }
}
