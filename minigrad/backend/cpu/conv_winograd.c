/* Convolution with windows of 3 x 3 and stride 1 by fewer products: F(2x2, 3x3) of Lavin and Gray, Fast Algorithms for
   Convolutional Neural Networks (2016), after Winograd.

   Two neighbours along an axis are y0 = d0 g0 + d1 g1 + d2 g2 and y1 = d1 g0 + d2 g1 + d3 g2. Of six products four are enough:

       m0 = (d0 - d2) g0                    y0 = m0 + m1 + m2
       m1 = (d1 + d2) (g0 + g1 + g2) / 2    y1 = m1 - m2 - m3
       m2 = (d2 - d1) (g0 - g1 + g2) / 2
       m3 = (d1 - d3) g2

   Along both axes: 16 products for 2 x 2 outputs, instead of 36. They are sums over channels too, so each of the 16 is a
   product of matrices, made by the tiles of conv.h. "Seen" are the 4 x 4 pixels that 2 x 2 outputs (here a square) see:

       seen[position][square][channel]          the first factors, from `see`
       filters[panel][position][channel][lane]  the second ones, from `transform_filters`
       sums[position][square][lane]             the m, of one panel

   The gradient in the filters is the transpose of all this: both gradients are linear in the products. What is seen meets
   the transposed sums, and 16 matrices (channel, output) become the 9 of the taps at the end.

   y0 holds no product of d3, and y1 none of d0: an output depends on nothing that it does not see. But of infinities, and of
   numbers whose sum overflows, it may become NaN. So each kernel says whether all that it wrote is finite; otherwise the
   convolution is made again, by the definition (conv_winograd.py). */
#include "conv.h"

enum { POSITIONS = 16 };
enum { MOST = 64 }; /* squares of a block: more leave a core's cache, fewer read the filters too often */

/* The squares of 2 x 2 outputs: their number down and across an image, and of all images; those of a block. */
typedef struct { index_t down, across, all, block; } Squares;

/* The first output of a square. */
typedef struct { index_t image, row, column; } Corner;

/* All threads get as many blocks, if there are squares enough. */
static Squares squares_of(const Images *ys)
{
    index_t down = pieces(ys->rows, 2), across = pieces(ys->columns, 2), all = ys->images * down * across;
    index_t blocks = pieces(pieces(all, MOST), threads) * threads;
    return (Squares){down, across, all, pieces(all, blocks)};
}

static Corner corner(const Squares *s, index_t k)
{
    return (Corner){k / (s->down * s->across), k / s->across % s->down * 2, k % s->across * 2};
}

/* Read and written are registers of floats at any address. */
INLINE vector get(const float *x) { return *(const vector *)x; }
INLINE void put(float *x, vector value) { *(vector *)x = value; }

/* From one position to the next in memory: a line of the cache more than there is, else all would want the same place in it. */
INLINE index_t plane(index_t squares, index_t channels) { return squares * channels + LANES; }

/* seen = B^T d B for n squares from `first` on; zeros lie outside the images. */
static void see(const float *x, const Images *xs, const Window *window, const Squares *squares, index_t first, index_t n,
                const float *zeros, float *seen)
{
    index_t step = plane(squares->block, xs->channels);
    for (index_t k = 0; k < n; k++, seen += xs->channels) {
        Corner at = corner(squares, first + k);
        const float *d[4][4];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                index_t row = at.row + window->top + i, column = at.column + window->left + j;
                int inside = row >= 0 && row < xs->rows && column >= 0 && column < xs->columns;
                d[i][j] = inside ? x + at.image * xs->image + row * xs->row + column * xs->column : zeros;
            }
        for (index_t c = 0; c < xs->channels; c += WIDTH) {
            vector half[4][4];
            UNROLL for (int j = 0; j < 4; j++) {
                vector d0 = get(d[0][j] + c), d1 = get(d[1][j] + c), d2 = get(d[2][j] + c), d3 = get(d[3][j] + c);
                half[0][j] = d0 - d2, half[1][j] = d1 + d2, half[2][j] = d2 - d1, half[3][j] = d1 - d3;
            }
            UNROLL for (int i = 0; i < 4; i++) {
                float *out = seen + 4 * i * step + c;
                put(out, half[i][0] - half[i][2]), put(out + step, half[i][1] + half[i][2]);
                put(out + 2 * step, half[i][2] - half[i][1]), put(out + 3 * step, half[i][1] - half[i][3]);
            }
        }
    }
}

/* to[position] = G g G^T for the registers of one line of a panel, g[tap]. */
INLINE void transform_filter(const float *g, float *to, index_t line)
{
    vector half[4][3];
    UNROLL for (int j = 0; j < 3; j++) {
        vector g0 = get(g + j * line), g1 = get(g + (3 + j) * line), g2 = get(g + (6 + j) * line);
        vector ends = 0.5f * (g0 + g2), middle = 0.5f * g1;
        half[0][j] = g0, half[1][j] = ends + middle, half[2][j] = ends - middle, half[3][j] = g2;
    }
    UNROLL for (int i = 0; i < 4; i++, to += 4 * line) {
        vector ends = 0.5f * (half[i][0] + half[i][2]), middle = 0.5f * half[i][1];
        put(to, half[i][0]), put(to + line, ends + middle), put(to + 2 * line, ends - middle), put(to + 3 * line, half[i][2]);
    }
}

static void transform_filters(const float *panels, index_t inputs, index_t channels, float *filters)
{
    PARALLEL(inputs * channels > 4096)
    for (index_t k = 0; k < pieces(channels, PANEL) * inputs; k++) {
        index_t o = k / inputs * PANEL, c = k % inputs, lanes = channels - o < PANEL ? LANES : PANEL;
        for (index_t v = 0; v < lanes; v += WIDTH)
            transform_filter(panels + 9 * inputs * o + c * lanes + v, filters + POSITIONS * inputs * o + c * lanes + v,
                             inputs * lanes);
    }
}

/* y = A^T m A for n squares from `first` on, and a panel's channels from o on. Returns 0 if y is finite, else NaN. */
static float outputs(const float *sums, const Squares *squares, index_t first, index_t n, index_t lanes, float *y,
                     const Images *ys)
{
    index_t step = plane(squares->block, lanes);
    vector zero = {0};
    float all = 0;
    for (index_t k = 0; k < n; k++, sums += lanes) {
        Corner at = corner(squares, first + k);
        float *out = y + at.image * ys->image + at.row * ys->row + at.column * ys->column;
        int below = at.row + 1 < ys->rows, beside = at.column + 1 < ys->columns;
        for (index_t v = 0; v < lanes; v += WIDTH) {
            vector half[2][4];
            UNROLL for (int j = 0; j < 4; j++) {
                const float *m = sums + j * step + v;
                vector m0 = get(m), m1 = get(m + 4 * step), m2 = get(m + 8 * step), m3 = get(m + 12 * step);
                half[0][j] = m0 + m1 + m2, half[1][j] = m1 - m2 - m3;
            }
            UNROLL for (int i = 0; i < 2; i++) {
                vector y0 = half[i][0] + half[i][1] + half[i][2], y1 = half[i][1] - half[i][2] - half[i][3];
                zero += 0 * y0 + 0 * y1;
                if (i && !below) continue;
                put(out + i * ys->row + v, y0);
                if (beside) put(out + i * ys->row + ys->column + v, y1);
            }
        }
    }
    for (int i = 0; i < WIDTH; i++) all += zero[i];
    return all;
}

/* y[i, r, p, o] = sum over the 9 taps and channels c of x[i, what (r, p) sees, c] w[o, c, tap], of one group; inputs and
   outputs are multiples of LANES side by side in memory. `panels` has memory for filters of 9 + POSITIONS taps. */
void winograd(const float *x, const index_t *x_images, const float *w, const index_t *the_filters, float *panels, float *y,
              const index_t *the_job, index_t *finite)
{
    const Images *xs = (const Images *)x_images;
    const Filters *f = (const Filters *)the_filters;
    const Job *job = (const Job *)the_job;
    const Images *ys = &job->outputs;
    index_t inputs = f->inputs, channels = f->channels;
    Squares squares = squares_of(ys);
    float *filters = panels + 9 * inputs * channels;
    if (!pack(w, panels, f, 1)) {
        *finite = 0;
        return;
    }
    transform_filters(panels, inputs, channels, filters);
    Taps all = {.number = 1, .run = inputs};
    PARALLEL(1)
    for (index_t b = 0; b < pieces(squares.all, squares.block); b++) {
        index_t first = b * squares.block, n = squares.all - first < squares.block ? squares.all - first : squares.block;
        index_t seen_plane = plane(squares.block, inputs), *from = places(2 * squares.block), *to = from + squares.block;
        float *seen = scratch(0, POSITIONS * seen_plane), *sums = scratch(1, POSITIONS * plane(squares.block, PANEL));
        float *zeros = memset(scratch(2, inputs), 0, inputs * sizeof(float)), zero = 0;
        see(x, xs, &job->window, &squares, first, n, zeros, seen);
        fill_places(from, 0, 0, 0, inputs, 1, 1, n);
        Tiles tiles = tiles_of(n);
        for (index_t o = 0; o < channels; o += PANEL) {
            index_t lanes = channels - o < PANEL ? LANES : PANEL, sums_plane = plane(squares.block, lanes);
            fill_places(to, 0, 0, 0, lanes, 1, 1, n);
            for (index_t p = 0; p < POSITIONS; p++)
                for (index_t k = 0, i = 0, width; k < tiles.number; k++, i += width) {
                    width = width_of(&tiles, k);
                    tile(width, lanes, seen + p * seen_plane, from + i, filters + inputs * (POSITIONS * o + p * lanes), &all,
                         sums + p * sums_plane, to + i, 0);
                }
            zero += outputs(sums, &squares, first, n, lanes, y + o, ys);
        }
        if (zero != 0)
            PRAGMA(omp atomic write) *finite = 0;
    }
}

/* seen = A g A^T for n squares from `first` on, of a panel's channels; zeros lie outside the outputs. */
static void see_gradient(const float *g, const Images *gs, const Squares *squares, index_t first, index_t n, index_t lanes,
                         const float *zeros, float *seen)
{
    index_t step = plane(squares->block, lanes);
    for (index_t k = 0; k < n; k++, seen += lanes) {
        Corner at = corner(squares, first + k);
        const float *from = g + at.image * gs->image + at.row * gs->row + at.column * gs->column;
        int below = at.row + 1 < gs->rows, beside = at.column + 1 < gs->columns;
        const float *in[2][2] = {{from, beside ? from + gs->column : zeros},
                                 {below ? from + gs->row : zeros, below && beside ? from + gs->row + gs->column : zeros}};
        for (index_t v = 0; v < lanes; v += WIDTH) {
            vector half[4][2];
            UNROLL for (int j = 0; j < 2; j++) {
                vector a = get(in[0][j] + v), b = get(in[1][j] + v);
                half[0][j] = a, half[1][j] = a + b, half[2][j] = a - b, half[3][j] = -b;
            }
            UNROLL for (int i = 0; i < 4; i++) {
                float *out = seen + 4 * i * step + v;
                put(out, half[i][0]), put(out + step, half[i][0] + half[i][1]);
                put(out + 2 * step, half[i][0] - half[i][1]), put(out + 3 * step, -half[i][1]);
            }
        }
    }
}

/* The first 9 planes of total[tap, c, o] = G^T s G for the sum s of all copies of total[copy, position, c, o]. Returns whether
   they are finite. */
static int gradient_of_filters(float *total, index_t copies, index_t size)
{
    int finite = 1;
    PARALLEL(size > 4096)
    for (index_t k = 0; k < size; k += WIDTH) {
        vector s[4][4], half[3][4], zero = {0};
        float all = 0;
        for (int p = 0; p < POSITIONS; p++) {
            vector sum = get(total + p * size + k);
            for (index_t copy = 1; copy < copies; copy++) sum += get(total + (copy * POSITIONS + p) * size + k);
            s[p / 4][p % 4] = sum;
        }
        for (int j = 0; j < 4; j++) {
            vector ends = 0.5f * (s[1][j] + s[2][j]);
            half[0][j] = s[0][j] + ends, half[1][j] = 0.5f * (s[1][j] - s[2][j]), half[2][j] = ends + s[3][j];
        }
        for (int i = 0; i < 3; i++) {
            vector ends = 0.5f * (half[i][1] + half[i][2]), taps[3];
            taps[0] = half[i][0] + ends, taps[1] = 0.5f * (half[i][1] - half[i][2]), taps[2] = ends + half[i][3];
            for (int j = 0; j < 3; j++) put(total + (3 * i + j) * size + k, taps[j]), zero += 0 * taps[j];
        }
        for (int i = 0; i < WIDTH; i++) all += zero[i];
        if (all != 0)
            PRAGMA(omp atomic write) finite = 0;
    }
    return finite;
}

/* total[tap, c, o] = sum over images, rows and pixels of x[i, what (r, p) sees, c] g[i, r, p, o], under the conditions of
   `winograd`. Each thread adds to its own copy of total[copy, position, c, o], zero at first. */
void winograd_weights(const float *x, const index_t *x_images, const float *g, float *total, index_t copies,
                      const index_t *the_job, index_t *finite)
{
    const Images *xs = (const Images *)x_images;
    const Job *job = (const Job *)the_job;
    const Images *gs = &job->outputs;
    index_t inputs = xs->channels, channels = gs->channels, size = inputs * channels;
    Squares squares = squares_of(gs);
    Tiles tiles = tiles_of(inputs);
    PARALLEL_BY(copies, 1)
    for (index_t b = 0; b < pieces(squares.all, squares.block); b++) {
        index_t first = b * squares.block, n = squares.all - first < squares.block ? squares.all - first : squares.block;
        index_t seen_plane = plane(squares.block, inputs), *from = places(2 * squares.block), *to = from + squares.block;
        float *seen = scratch(0, POSITIONS * seen_plane), *gradient = scratch(1, POSITIONS * plane(squares.block, PANEL));
        float *zeros = memset(scratch(2, inputs + PANEL), 0, (inputs + PANEL) * sizeof(float));
        float *mine = total + THREAD * POSITIONS * size;
        see(x, xs, &job->window, &squares, first, n, zeros, seen);
        fill_places(from, 0, 0, 0, inputs, 1, 1, n);
        for (index_t o = 0; o < channels; o += PANEL) {
            index_t lanes = channels - o < PANEL ? LANES : PANEL, gradient_plane = plane(squares.block, lanes);
            see_gradient(g + o, gs, &squares, first, n, lanes, zeros, gradient);
            fill_places(to, 0, 0, 0, lanes, 1, 1, n);
            for (index_t p = 0; p < POSITIONS; p++)
                for (index_t k = 0, c = 0, width; k < tiles.number; k++, c += width) {
                    width = width_of(&tiles, k);
                    outer(width, lanes, seen + p * seen_plane + c, from, 1, gradient + p * gradient_plane, to, n,
                          mine + (p * inputs + c) * channels + o, channels, 1);
                }
        }
    }
    *finite = gradient_of_filters(total, copies, size);
}
