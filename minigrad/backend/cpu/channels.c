/* Statistics and affine maps of channels, for arrays (outer, channels, inner): with inner = 1 the channels are last. */
#include "kernels.h"

enum { STRIP = 512, CHUNK = 64, RUN = 2048 }; /* channels side by side; rows, and elements of one, summed in float32 */

/* Takes n elements of mean m, whose squared distances from m sum to s, into a channel of `count` elements
   (Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979). */
INLINE void join(double *mean, double *squares, double count, double n, double m, double s)
{
    double d = m - *mean;
    *mean += d * n / (count + n);
    *squares += s + d * d * count * n / (count + n);
}

/* Of each channel the mean, and the sum of the squared distances from it; `parts` times, of stretches of the outer axis. A
   chunk is measured around its own mean, so that a large common offset costs no digits. */
void moments_of_parts(const float *xs, double *means, double *all_squares, index_t parts, index_t outer, index_t channels,
                      index_t inner)
{
    PARALLEL(parts > 1)
    for (index_t part = 0; part < parts; part++) {
        index_t begin = outer * part / parts, rows = outer * (part + 1) / parts - begin;
        const float *x = xs + begin * channels * inner;
        double *mean = means + part * channels, *squares = all_squares + part * channels;
        for (index_t c = 0; c < channels; c++) mean[c] = squares[c] = 0;
        for (index_t first = 0; inner == 1 && first < channels; first += STRIP) {
            index_t width = channels - first < STRIP ? channels - first : STRIP;
            for (index_t row = 0; row < rows; row += CHUNK) {
                index_t n = rows - row < CHUNK ? rows - row : CHUNK;
                const float *block = x + row * channels + first;
                float centre[STRIP], error[STRIP], square[STRIP];
                for (index_t c = 0; c < width; c++) centre[c] = error[c] = square[c] = 0;
                for (index_t r = 0; r < n; r++)
                    for (index_t c = 0; c < width; c++) centre[c] += block[r * channels + c];
                for (index_t c = 0; c < width; c++) centre[c] /= n;
                for (index_t r = 0; r < n; r++)
                    for (index_t c = 0; c < width; c++) {
                        float d = block[r * channels + c] - centre[c];
                        error[c] += d;
                        square[c] += d * d;
                    }
                for (index_t c = 0; c < width; c++) {
                    double e = (double)error[c] / n;
                    join(mean + first + c, squares + first + c, row, n, centre[c] + e, square[c] - n * e * e);
                }
            }
        }
        for (index_t c = 0; inner > 1 && c < channels; c++)
            for (index_t o = 0; o < rows; o++)
                for (index_t i = 0; i < inner; i += RUN) {
                    index_t n = inner - i < RUN ? inner - i : RUN;
                    const float *run = x + (o * channels + c) * inner + i;
                    float centre = 0, error = 0, square = 0;
                    REDUCE(+, centre) for (index_t k = 0; k < n; k++) centre += run[k];
                    centre /= n;
                    REDUCE(+, error, square) for (index_t k = 0; k < n; k++) {
                        float d = run[k] - centre;
                        error += d;
                        square += d * d;
                    }
                    double e = (double)error / n;
                    join(mean + c, squares + c, o * inner + i, n, centre + e, square - n * e * e);
                }
    }
}

/* Mean and sum of squared distances of the channels, which stand `columns / channels` times side by side. The two are
   (parts, columns); their first elements are the result. */
void moments(const float *x, double *mean, double *squares, index_t parts, index_t outer, index_t columns, index_t inner,
             index_t channels)
{
    double count = 0;
    moments_of_parts(x, mean, squares, parts, outer, columns, inner);
    for (index_t part = 0; part < parts; part++) {
        double n = (double)(outer * (part + 1) / parts - outer * part / parts) * inner;
        for (index_t k = 0; k < columns; k += channels, count += n)
            for (index_t c = 0, from = part * columns + k; from && c < channels; c++)
                join(mean + c, squares + c, count, n, mean[from + c], squares[from + c]);
    }
}

/* Of each channel sum(g) and sum(g (x - mean)), in parts like the moments; the means of the next part are `step` further. */
void sums_of_parts(const float *gs, const float *xs, const float *means, double *totals, double *dots, index_t parts,
                   index_t outer, index_t channels, index_t inner, index_t step)
{
    PARALLEL(parts > 1)
    for (index_t part = 0; part < parts; part++) {
        index_t begin = outer * part / parts, rows = outer * (part + 1) / parts - begin;
        const float *g = gs + begin * channels * inner, *x = xs + begin * channels * inner, *mean = means + part * step;
        double *total = totals + part * channels, *dot = dots + part * channels;
        for (index_t c = 0; c < channels; c++) total[c] = dot[c] = 0;
        for (index_t first = 0; inner == 1 && first < channels; first += STRIP) {
            index_t width = channels - first < STRIP ? channels - first : STRIP;
            for (index_t row = 0; row < rows; row += CHUNK) {
                index_t n = rows - row < CHUNK ? rows - row : CHUNK;
                const float *left = g + row * channels + first, *right = x + row * channels + first;
                float t[STRIP], d[STRIP];
                for (index_t c = 0; c < width; c++) t[c] = d[c] = 0;
                for (index_t r = 0; r < n; r++)
                    for (index_t c = 0; c < width; c++) {
                        t[c] += left[r * channels + c];
                        d[c] += left[r * channels + c] * (right[r * channels + c] - mean[first + c]);
                    }
                for (index_t c = 0; c < width; c++) {
                    total[first + c] += t[c];
                    dot[first + c] += d[c];
                }
            }
        }
        for (index_t o = 0; inner > 1 && o < rows; o++)
            for (index_t c = 0; c < channels; c++)
                for (index_t i = 0; i < inner; i += RUN) {
                    index_t n = inner - i < RUN ? inner - i : RUN, at = (o * channels + c) * inner + i;
                    float t = 0, d = 0;
                    REDUCE(+, t, d) for (index_t k = 0; k < n; k++) {
                        t += g[at + k];
                        d += g[at + k] * (x[at + k] - mean[c]);
                    }
                    total[c] += t;
                    dot[c] += d;
                }
    }
}

/* sum(g) and sum(g (x - mean)) of the channels, with `mean` (columns,); otherwise as the moments. */
void norm_sums(const float *g, const float *x, const float *mean, double *total, double *dot, index_t parts, index_t outer,
               index_t columns, index_t inner, index_t channels)
{
    sums_of_parts(g, x, mean, total, dot, parts, outer, columns, inner, 0);
    for (index_t from = channels; from < parts * columns; from += channels)
        for (index_t c = 0; c < channels; c++) {
            total[c] += total[from + c];
            dot[c] += dot[from + c];
        }
}

/* y = (x - centre) scale + shift, centre 0 if there is none, and then max(0, .) if `relu`; `each` rows of the outer axis share
   the channels' numbers. */
void scale_and_shift(const float *x, const float *centres, const float *scales, const float *shifts, float *y, index_t outer,
                     index_t channels, index_t inner, index_t each, int relu)
{
    float least = relu ? 0 : -INFINITY;
    PARALLEL(outer * channels * inner > 65536)
    for (index_t o = 0; o < outer; o++) {
        index_t set = o / each * channels;
        const float *centre = centres ? centres + set : 0, *scale = scales + set, *shift = shifts + set;
        if (inner == 1)
            for (index_t c = 0; c < channels; c++) {
                float v = (x[o * channels + c] - (centre ? centre[c] : 0)) * scale[c] + shift[c];
                y[o * channels + c] = v < least ? least : v;
            }
        else
            for (index_t c = 0; c < channels; c++)
                for (index_t i = 0, at = (o * channels + c) * inner; i < inner; i++, at++) {
                    float v = (x[at] - (centre ? centre[c] : 0)) * scale[c] + shift[c];
                    y[at] = v < least ? least : v;
                }
    }
}

/* y becomes min(max(y + bias, 0), most); y (pixels, channels). */
void bias_relu(float *y, const float *bias, index_t pixels, index_t channels, float most)
{
    PARALLEL(pixels * channels > 65536)
    for (index_t p = 0; p < pixels; p++)
        for (index_t c = 0; c < channels; c++) {
            float v = y[p * channels + c] + bias[c];
            v = v < 0 ? 0.0f : v;
            y[p * channels + c] = v > most ? most : v;
        }
}

/* dx = a g + b x + c for each channel's a, b and c, which `each` rows of the outer axis share. */
void combine(const float *g, const float *x, const float *all_a, const float *all_b, const float *all_c, float *dx,
             index_t outer, index_t channels, index_t inner, index_t each)
{
    PARALLEL(outer * channels * inner > 65536)
    for (index_t o = 0; o < outer; o++) {
        index_t set = o / each * channels;
        const float *a = all_a + set, *b = all_b + set, *c = all_c + set;
        if (inner == 1)
            for (index_t k = 0, at = o * channels; k < channels; k++, at++) dx[at] = a[k] * g[at] + b[k] * x[at] + c[k];
        else
            for (index_t k = 0; k < channels; k++)
                for (index_t i = 0, at = (o * channels + k) * inner; i < inner; i++, at++)
                    dx[at] = a[k] * g[at] + b[k] * x[at] + c[k];
    }
}

/* Images (N, channels, pixels) as (N, pixels, channels), a square of both at a time. */
void channels_last(const float *x, float *y, index_t images, index_t channels, index_t pixels)
{
    index_t across = pieces(pixels, 16);
    PARALLEL(images * channels * pixels > 65536)
    for (index_t block = 0; block < images * across; block++) {
        index_t n = block / across, p = block % across * 16, width = pixels - p < 16 ? pixels - p : 16;
        for (index_t c = 0; c < channels; c += 16) {
            const float *from = x + (n * channels + c) * pixels + p;
            float *to = y + (n * pixels + p) * channels + c;
            index_t height = channels - c < 16 ? channels - c : 16;
            for (index_t i = 0; i < width; i++)
                for (index_t k = 0; k < height; k++) to[i * channels + k] = from[k * pixels + i];
        }
    }
}
