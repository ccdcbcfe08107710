/* What convolutions share: how Python describes one, a thread's memory, panels of filters, and the two tiles. conv.c has a
   picture of them. */
#include "kernels.h"

enum { MAX_TAPS = 256 }; /* of a window */

/* Python fills these structs, to Filters, by the names that it reads here (declarations.py): index_t only. */

/* Lengths of the axes of images in memory, and the strides. */
typedef struct { index_t images, rows, columns, channels, image, row, column, channel; } Images;

/* Which pixels output (i, j) sees: (top + i down + a row_gap, left + j right + b column_gap) for the taps (a, b) of
   height x width. Channels are in groups that see each other. */
typedef struct { index_t height, width, top, left, down, right, row_gap, column_gap, groups; } Window;

/* Blocks of `images`, or of `rows` of one image. */
typedef struct { index_t images, rows; } Block;

/* A convolution: where its outputs and its packed filters begin, counted from those of the first. */
typedef struct { index_t y, w; Images outputs; Window window; Block block; } Job;

/* Filters w[group, o, c, h, v] from `start` on, and where their panels begin; channels: the outputs, rounded up to LANES. */
typedef struct {
    index_t start, panels, groups, outputs, channels, inputs, height, width, group, output, input, down, right;
} Filters;

/* A calling thread's memory number `which`, one of four, of at least n floats. */
float *scratch(int which, index_t n);

/* Filters in the order in which tiles read them; returns whether they are finite. */
int pack(const float *w, float *panels, const Filters *filters, index_t several);

/* This thread's memory for the places of n pixels. */
static index_t *places(index_t n) { return (index_t *)scratch(3, 2 * n); }

/* Where the pixels of a block lie that has these strides; returns where the next ones' places go. */
static index_t *fill_places(index_t *place, index_t first, index_t image, index_t row, index_t column, index_t images,
                            index_t rows, index_t columns)
{
    for (index_t i = 0; i < images; i++)
        for (index_t r = 0; r < rows; r++)
            for (index_t j = 0; j < columns; j++) *place++ = first + i * image + r * row + j * column;
    return place;
}

/* Taps as runs of channels: their number, their length, the distance of each from the window's first pixel, and which line
   of a panel is its first. */
typedef struct { index_t number, run, offset[MAX_TAPS], line[MAX_TAPS]; } Taps;

/* P pixels, at these places of x and y, of V registers of channels: y (+)= sum over taps and channels of x w. */
INLINE void tile_of(int P, int V, const float *x, const index_t *from, const float *w, const Taps *taps, float *y,
                    const index_t *to, int add)
{
    vector sum[P][V], line[V];
    UNROLL for (int p = 0; p < P; p++) /* by the time the sums are done, their places are in the cache */
        UNROLL for (int v = 0; v < V * WIDTH; v += LANES) __builtin_prefetch(y + to[p] + v, 1);
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) sum[p][v] = add ? *(vector *)(y + to[p] + v * WIDTH) : (vector){0};
    for (index_t t = 0; t < taps->number; t++) {
        const float *in[P], *lines = w + taps->line[t] * V * WIDTH;
        UNROLL for (int p = 0; p < P; p++) in[p] = x + (from[p] + taps->offset[t]);
        for (index_t c = 0; c < taps->run; c++, lines += V * WIDTH) {
            UNROLL for (int v = 0; v < V; v++) {
                vector kept = *(const vector *)(lines + v * WIDTH);
                KEEP(kept);
                line[v] = kept;
            }
            UNROLL for (int p = 0; p < P; p++)
                UNROLL for (int v = 0; v < V; v++) sum[p][v] += in[p][c] * line[v];
        }
    }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) *(vector *)(y + to[p] + v * WIDTH) = sum[p][v];
}

/* `tile_of` for P = pixels and the registers of so many channels, PANEL or LANES. */
INLINE void tile(index_t pixels, index_t lanes, const float *x, const index_t *from, const float *w, const Taps *taps, float *y,
                 const index_t *to, int add)
{
#define EACH_WIDTH(N) OF(1, N) OF(2, N) OF(3, N) OF(4, N) OF(5, N) OF(6, N) OF(7, N) OF(8, N)
#define OF(P, N) case P: if (P <= TILE) tile_of(P, (N) / WIDTH, x, from, w, taps, y, to, add); break;
    if (lanes == PANEL) switch (pixels) { EACH_WIDTH(PANEL) }
    else switch (pixels) { EACH_WIDTH(LANES) }
#undef OF
}

/* P channels of x by V registers of g: total[c, o] (+)= sum over pixels of x[c] g[o]. The pixels lie `unit` times `from`
   floats behind x, and `to` floats behind g. */
INLINE void outer_of(int P, int V, const float *x, const index_t *from, index_t unit, const float *g, const index_t *to,
                     index_t pixels, float *total, index_t channels, int add)
{
    vector sum[P][V], line[V];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) sum[p][v] = add ? *(vector *)(total + p * channels + v * WIDTH) : (vector){0};
    for (index_t k = 0; k < pixels; k++) {
        const float *left = x + from[k] * unit, *right = g + to[k];
        UNROLL for (int v = 0; v < V; v++) {
            vector kept = *(const vector *)(right + v * WIDTH);
            KEEP(kept);
            line[v] = kept;
        }
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int v = 0; v < V; v++) sum[p][v] += left[p] * line[v];
    }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) *(vector *)(total + p * channels + v * WIDTH) = sum[p][v];
}

/* `outer_of` for P = inputs and the registers of so many channels, PANEL or LANES. */
INLINE void outer(index_t inputs, index_t lanes, const float *x, const index_t *from, index_t unit, const float *g,
                  const index_t *to, index_t pixels, float *total, index_t channels, int add)
{
#define OF(P, N) case P: if (P <= TILE) outer_of(P, (N) / WIDTH, x, from, unit, g, to, pixels, total, channels, add); break;
    if (lanes == PANEL) switch (inputs) { EACH_WIDTH(PANEL) }
    else switch (inputs) { EACH_WIDTH(LANES) }
#undef OF
}
