/* Depthwise convolution: each channel has one filter of its own (definition: minigrad/ops/conv.py). Arrays are dense, images
   (N, height, width, channels) and filters (taps down, taps across, channels).

   Which positions meet is given in groups (conv_depthwise.py makes them): of group i the members are pairs[2 k] and
   pairs[2 k + 1] for starts[i] <= k < starts[i + 1]. */
#include "kernels.h"
#include <string.h>

typedef struct {
    const index_t *starts, *pairs;
} Groups;

/* Four registers of channels at a time, then one; then a channel at a time. */
#define CHANNELS(several, one) do { \
        index_t c = 0; \
        for (; c + 4 * WIDTH <= channels; c += 4 * WIDTH) several(4, c); \
        for (; c + WIDTH <= channels; c += WIDTH) several(1, c); \
        for (; c < channels; c++) one(c); \
    } while (0)

/* V registers of channels of one pixel: the sum over the taps and positions of its row and of its column. */
INLINE void pixel(int V, const float *x, const float *w, float *y, Groups down, index_t i, Groups across, index_t j,
                  index_t width, index_t channels, index_t taps_across)
{
    vector sum[4];
    UNROLL for (int v = 0; v < V; v++) sum[v] = (vector){0};
    for (index_t a = down.starts[i]; a < down.starts[i + 1]; a++)
        for (index_t b = across.starts[j]; b < across.starts[j + 1]; b++) {
            const float *in = x + (down.pairs[2 * a + 1] * width + across.pairs[2 * b + 1]) * channels;
            const float *weight = w + (down.pairs[2 * a] * taps_across + across.pairs[2 * b]) * channels;
            UNROLL for (int v = 0; v < V; v++) sum[v] += *(vector *)(in + v * WIDTH) * *(vector *)(weight + v * WIDTH);
        }
    UNROLL for (int v = 0; v < V; v++) *(vector *)(y + v * WIDTH) = sum[v];
}

/* The same for one channel. */
static float pixel_of_one(const float *x, const float *w, Groups down, index_t i, Groups across, index_t j, index_t width,
                          index_t channels, index_t taps_across)
{
    float sum = 0;
    for (index_t a = down.starts[i]; a < down.starts[i + 1]; a++)
        for (index_t b = across.starts[j]; b < across.starts[j + 1]; b++)
            sum += x[(down.pairs[2 * a + 1] * width + across.pairs[2 * b + 1]) * channels]
                   * w[(down.pairs[2 * a] * taps_across + across.pairs[2 * b]) * channels];
    return sum;
}

/* y[n, i, j] = sum of x[n, r, s] w[p, q] over the pairs (p, r) of row i and (q, s) of column j, for each channel. */
void depthwise(const float *x, const float *w, float *y, const index_t *row_starts, const index_t *row_pairs,
               const index_t *column_starts, const index_t *column_pairs, index_t images, index_t height, index_t width,
               index_t rows, index_t columns, index_t channels, index_t taps_across)
{
    Groups down = {row_starts, row_pairs}, across = {column_starts, column_pairs};
    PARALLEL(images * rows * columns * channels > 16384)
    for (index_t row = 0; row < images * rows; row++) {
        const float *image = x + row / rows * height * width * channels;
        for (index_t j = 0; j < columns; j++) {
            float *out = y + (row * columns + j) * channels;
            index_t i = row % rows;
#define PIXEL(V, c) pixel(V, image + (c), w + (c), out + (c), down, i, across, j, width, channels, taps_across)
#define PIXEL_OF_ONE(c) out[c] = pixel_of_one(image + (c), w + (c), down, i, across, j, width, channels, taps_across)
            CHANNELS(PIXEL, PIXEL_OF_ONE);
        }
    }
}

enum { PADDED = 16384 };  /* numbers of a plane that are worked on at a time, with the zeros beside its rows */

/* `depthwise` of images (N, channels, height, width) and filters (channels, taps down, taps across), where the stride across is 1
   and there are WIDTH columns or more. `gap` lies between the taps across. Of `block` rows at a time what they see is copied. */
void depthwise_planes(const float *x, const float *w, float *y, const index_t *row_starts, const index_t *row_pairs,
                      index_t planes, index_t channels, index_t height, index_t width, index_t rows, index_t columns,
                      index_t taps_down, index_t taps_across, index_t padding, index_t gap, index_t block)
{
    index_t line = width + 2 * padding;
    PARALLEL(planes * rows * columns > 16384)
    for (index_t plane = 0; plane < planes; plane++) {
        const float *image = x + plane * height * width, *filter = w + plane % channels * taps_down * taps_across;
        float padded[PADDED];
        for (index_t begin = 0; begin < rows; begin += block) {
            index_t end = begin + block < rows ? begin + block : rows, from = row_starts[begin], to = row_starts[end];
            index_t top = height, bottom = -1; /* of the rows seen: with dilation neither the first pair's nor the last's */
            for (index_t a = from; a < to; a++) {
                top = row_pairs[2 * a + 1] < top ? row_pairs[2 * a + 1] : top;
                bottom = row_pairs[2 * a + 1] > bottom ? row_pairs[2 * a + 1] : bottom;
            }
            for (index_t r = top; r <= bottom; r++) {
                float *in = padded + (r - top) * line;
                for (index_t j = 0; j < padding; j++) in[j] = in[line - 1 - j] = 0;
                memcpy(in + padding, image + r * width, width * sizeof(float));
            }
            for (index_t i = begin; i < end; i++)
                for (index_t j = 0; j < columns; j += WIDTH) {
                    index_t at = j + WIDTH <= columns ? j : columns - WIDTH;  /* some twice rather than one by one */
                    vector sum = {0};
                    for (index_t a = row_starts[i]; a < row_starts[i + 1]; a++) {
                        const float *in = padded + (row_pairs[2 * a + 1] - top) * line + at;
                        const float *weights = filter + row_pairs[2 * a] * taps_across;
                        for (index_t q = 0; q < taps_across; q++) sum += *(vector *)(in + q * gap) * weights[q];
                    }
                    *(vector *)(y + (plane * rows + i) * columns + at) = sum;
                }
        }
    }
}

/* V registers of channels of one tap: to `total` is added what two rows give for the tap's pairs of columns. */
INLINE void tap(int V, const float *g, const float *x, float *total, Groups across, index_t q, index_t channels)
{
    vector sum[4];
    UNROLL for (int v = 0; v < V; v++) sum[v] = *(vector *)(total + v * WIDTH);
    for (index_t b = across.starts[q]; b < across.starts[q + 1]; b++) {
        const float *left = g + across.pairs[2 * b] * channels, *right = x + across.pairs[2 * b + 1] * channels;
        UNROLL for (int v = 0; v < V; v++) sum[v] += *(vector *)(left + v * WIDTH) * *(vector *)(right + v * WIDTH);
    }
    UNROLL for (int v = 0; v < V; v++) *(vector *)(total + v * WIDTH) = sum[v];
}

/* totals[part, p, q] = sum of g[n, i, j] x[n, r, s] over the part's rows (n, i), the pairs (p, r) of row i and the pairs
   (j, s) of tap q, for each channel. */
void depthwise_weights(const float *g, const float *x, float *totals, const index_t *row_starts, const index_t *row_pairs,
                       const index_t *tap_starts, const index_t *tap_pairs, index_t parts, index_t images, index_t height,
                       index_t width, index_t rows, index_t columns, index_t channels, index_t taps_down,
                       index_t taps_across)
{
    Groups across = {tap_starts, tap_pairs};
    PARALLEL(parts > 1)
    for (index_t part = 0; part < parts; part++) {
        float *total = totals + part * taps_down * taps_across * channels;
        memset(total, 0, taps_down * taps_across * channels * sizeof(float));
        for (index_t row = images * rows * part / parts; row < images * rows * (part + 1) / parts; row++)
            for (index_t a = row_starts[row % rows]; a < row_starts[row % rows + 1]; a++)
                for (index_t q = 0; q < taps_across; q++) {
                    const float *left = g + row * columns * channels;
                    const float *right = x + (row / rows * height + row_pairs[2 * a + 1]) * width * channels;
                    float *sum = total + (row_pairs[2 * a] * taps_across + q) * channels;
#define TAP(V, c) tap(V, left + (c), right + (c), sum + (c), across, q, channels)
#define TAP_OF_ONE(c) \
    for (index_t b = tap_starts[q]; b < tap_starts[q + 1]; b++) \
        sum[c] += left[tap_pairs[2 * b] * channels + (c)] * right[tap_pairs[2 * b + 1] * channels + (c)]
                    CHANNELS(TAP, TAP_OF_ONE);
                }
    }
}
