/* Convolution without a matrix of columns: the sums of a tile of outputs stay in registers while the taps pass by.

   Images are (image, row, pixel, channel). A tap is a position of the window, `tap[t]` its distance in memory from the
   window's first pixel; behind it lie `run` channels in a row. Positions outside the image are zeros that the caller has
   put around it. Lane o of a vector is output channel o. */
#include "kernels.h"

#ifdef __AVX512F__
enum { TILE = 8 }; /* pairs of vectors whose sums fit the registers */
#else
enum { TILE = 3 };
#endif

/* R rows of P pixels of V vectors of channels: y (+)= sum over taps and channels of x w. */
INLINE void tile(int R, int P, int V, const float *x, index_t row, index_t pixel, const float *w, const index_t *tap, index_t taps,
                 index_t run, float *y, index_t y_row, index_t y_pixel, int add)
{
    vector sum[R][P][V];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int v = 0; v < V; v++)
                sum[r][p][v] = add ? *(vector *)(y + r * y_row + p * y_pixel + v * LANES) : (vector){0};
    for (index_t t = 0; t < taps; t++) {
        const float *in = x + tap[t];
        for (index_t c = 0; c < run; c++, w += V * LANES)
            UNROLL for (int v = 0; v < V; v++) {
                vector weight = *(const vector *)(w + v * LANES);
                UNROLL for (int r = 0; r < R; r++)
                    UNROLL for (int p = 0; p < P; p++) sum[r][p][v] += in[r * row + p * pixel + c] * weight;
            }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int v = 0; v < V; v++) *(vector *)(y + r * y_row + p * y_pixel + v * LANES) = sum[r][p][v];
}

/* The filters w[o, c, h, v] in the order in which `correlate` reads them: (blocks of 2 LANES outputs and a last one of LANES,
   height, width, inputs, outputs of the block), zero beyond `outputs`; `channels` is that number rounded up to whole vectors. */
void pack(const float *w, float *panels, index_t outputs, index_t channels, index_t inputs, index_t height, index_t width,
          index_t w_output, index_t w_input, index_t w_height, index_t w_width)
{
    for (index_t o = 0; o < channels; o += 2 * LANES) {
        index_t lanes = o + LANES < channels ? 2 * LANES : LANES, full = outputs - o < lanes ? outputs - o : lanes;
        float *panel = panels + height * width * inputs * o;
        if (full < lanes) memset(panel, 0, height * width * inputs * lanes * sizeof(float));
        for (index_t c = 0; c < inputs; c++)
            for (index_t h = 0; h < height; h++)
                for (index_t v = 0; v < width; v++)
                    for (index_t lane = 0; lane < full; lane++)
                        panel[((h * width + v) * inputs + c) * lanes + lane]
                            = w[(o + lane) * w_output + c * w_input + h * w_height + v * w_width];
    }
}

/* y[i, r, p, o] = sum over t and c of x[i, r, p + tap[t], c] w[t, c, o], for `images` x `rows` x `pixels` outputs of
   `groups` x `channels` (a multiple of LANES); a group sees its own `run` channels and has its own packed filters. */
void correlate(const float *x, const float *w, float *y, const index_t *tap, index_t taps, index_t run, index_t groups, index_t channels,
               index_t images, index_t rows, index_t pixels, index_t x_image, index_t x_row, index_t x_pixel, index_t y_image,
               index_t y_row, index_t y_pixel)
{
    index_t tiles = (pixels + TILE - 1) / TILE, most = 1024 / run > 1 ? 1024 / run : 1; /* so many taps' weights stay in the cache */
    for (index_t g = 0; g < groups; g++, x += run, y += channels, w += taps * run * channels)
        for (index_t o = 0; o < channels; o += 2 * LANES) {
            int wide = o + LANES < channels;
            const float *panel = w + taps * run * o;
            for (index_t t = 0; t < taps; t += most) {
                index_t n = taps - t < most ? taps - t : most;
                const float *part = panel + t * run * (wide ? 2 : 1) * LANES;
                for (index_t i = 0; i < images; i++)
                    for (index_t r = 0, height; r < rows; r += height) {
                        height = 2 * pixels <= TILE && r + 1 < rows ? 2 : 1; /* two rows, where one is too short for the registers */
                        for (index_t k = 0; k < tiles; k++) {
                            index_t first = pixels * k / tiles, width = pixels * (k + 1) / tiles - first;
                            const float *in = x + i * x_image + r * x_row + first * x_pixel;
                            float *out = y + i * y_image + r * y_row + first * y_pixel + o;
#define TILE(R, P, V) tile(R, P, V, in, x_row, x_pixel, part, tap + t, n, run, out, y_row, y_pixel, t > 0); break;
#define WIDTHS(R, V) case 1: TILE(R, 1, V) case 2: TILE(R, 2, V) case 3: TILE(R, 3, V) case 4: TILE(R, 4, V)
#define MORE(V) case 5: TILE(1, 5, V) case 6: TILE(1, 6, V) case 7: TILE(1, 7, V) case 8: TILE(1, 8, V)
                            if (height == 2)
                                if (wide) switch (width) { WIDTHS(2, 2) }
                                else switch (width) { WIDTHS(2, 1) }
                            else
                                if (wide) switch (width) { WIDTHS(1, 2) MORE(2) }
                                else switch (width) { WIDTHS(1, 1) MORE(1) }
                        }
                    }
            }
        }
}

/* P channels of x by V vectors of g: sum[c, o] += sum over images, rows and pixels of x[c] g[o]. */
INLINE void outer(int P, int V, const float *x, const float *g, index_t images, index_t rows, index_t pixels, index_t x_image, index_t x_row,
                  index_t x_pixel, index_t g_image, index_t g_row, index_t g_pixel, float *total, index_t channels)
{
    vector sum[P][V];
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) sum[p][v] = *(vector *)(total + p * channels + v * LANES);
    for (index_t i = 0; i < images; i++)
        for (index_t r = 0; r < rows; r++) {
            const float *left = x + i * x_image + r * x_row, *right = g + i * g_image + r * g_row;
            for (index_t j = 0; j < pixels; j++, left += x_pixel, right += g_pixel)
                UNROLL for (int v = 0; v < V; v++) {
                    vector lanes = *(const vector *)(right + v * LANES);
                    UNROLL for (int p = 0; p < P; p++) sum[p][v] += left[p] * lanes;
                }
        }
    UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int v = 0; v < V; v++) *(vector *)(total + p * channels + v * LANES) = sum[p][v];
}

/* total[group, t, c, o] += sum over images, rows and pixels of x[i, r, p + tap[t], c] g[i, r, p, o]. */
void correlate_weights(const float *x, const float *g, float *total, const index_t *tap, index_t taps, index_t run, index_t groups,
                       index_t channels, index_t images, index_t rows, index_t pixels, index_t x_image, index_t x_row, index_t x_pixel,
                       index_t g_image, index_t g_row, index_t g_pixel)
{
    index_t tiles = (run + TILE - 1) / TILE;
    for (index_t group = 0; group < groups; group++, x += run, g += channels, total += taps * run * channels)
        for (index_t o = 0; o < channels; o += 2 * LANES) {
            int wide = o + LANES < channels;
            for (index_t t = 0; t < taps; t++)
                for (index_t k = 0; k < tiles; k++) {
                    index_t c = run * k / tiles, width = run * (k + 1) / tiles - c;
                    float *to = total + (t * run + c) * channels + o;
#define OUTER(P, V) case P: outer(P, V, x + tap[t] + c, g + o, images, rows, pixels, x_image, x_row, x_pixel, g_image, g_row, \
                                  g_pixel, to, channels); break;
#define OUTERS(V) OUTER(1, V) OUTER(2, V) OUTER(3, V) OUTER(4, V) OUTER(5, V) OUTER(6, V) OUTER(7, V) OUTER(8, V)
                    if (wide) switch (width) { OUTERS(2) }
                    else switch (width) { OUTERS(1) }
                }
        }
}
