/* Pooling of images (N, H, W, C), channels last; lengths and strides count elements.

   Where windows lie along an axis is a table of three rows: the pixel at which each begins, perhaps before the first, and
   its first tap within the image, and the one after the last. */
#include "kernels.h"

/* As many whole numbers or bytes as a register has floats. */
typedef int32_t whole __attribute__((vector_size(4 * WIDTH)));
typedef unsigned char bytes __attribute__((vector_size(WIDTH), aligned(1), may_alias));

/* Taps [top, bottom) x [left, right) of a window of this width, of rows and columns so many elements apart. */
typedef struct { index_t top, bottom, left, right, width, row, column; } Seen;

/* WIDTH numbers that lie `stride` apart. */
INLINE vector apart(const float *x, index_t stride)
{
    if (stride == 1) return *(const vector *)x;
    float lanes[WIDTH];
    for (index_t k = 0; k < WIDTH; k++) lanes[k] = x[k * stride];
    return *(const vector *)lanes;
}

/* The largest over the taps seen, and which tap it was, p width + q: the first of several. NaN beats all, the first one. Of WIDTH
   channels, or with another stride than 1 of as many windows in a row. */
INLINE void several_maxima(const float *x, index_t stride, const Seen *s, float *y, unsigned char *winner)
{
    vector best = apart(x + s->top * s->row + s->left * s->column, stride);
    whole won = (whole){0} + (int)(s->top * s->width + s->left);
    for (index_t p = s->top; p < s->bottom; p++)
        for (index_t q = s->left; q < s->right; q++) {
            vector tap = apart(x + p * s->row + q * s->column, stride);
            whole better = (tap > best) | ((tap != tap) & (best == best)), number = (whole){0} + (int)(p * s->width + q);
            best = (vector)(((whole)tap & better) | ((whole)best & ~better));
            won = (number & better) | (won & ~better);
        }
    *(vector *)y = best;
    *(bytes *)winner = __builtin_convertvector(won, bytes);
}

INLINE void one_maximum(const float *x, const Seen *s, float *y, unsigned char *winner)
{
    float best = x[s->top * s->row + s->left * s->column];
    index_t won = s->top * s->width + s->left;
    for (index_t p = s->top; p < s->bottom; p++)
        for (index_t q = s->left; q < s->right; q++) {
            float tap = x[p * s->row + q * s->column];
            if (tap > best || (tap != tap && best == best)) best = tap, won = p * s->width + q;
        }
    *y = best;
    *winner = (unsigned char)won;
}

/* `share` times the sum of n channels over the taps seen; of each row first, as many terms of one sum round more. */
INLINE void channels_means(index_t n, const float *x, const Seen *s, float share, float *y)
{
    float total[WIDTH] = {0};
    for (index_t p = s->top; p < s->bottom; p++) {
        float line[WIDTH] = {0};
        for (index_t q = s->left; q < s->right; q++)
            for (index_t c = 0; c < n; c++) line[c] += x[p * s->row + q * s->column + c];
        for (index_t c = 0; c < n; c++) total[c] += line[c];
    }
    for (index_t c = 0; c < n; c++) y[c] = total[c] * share;
}

/* What each of a window's pixels counts in its mean over so many taps, or over those seen if `taps` is 0. */
INLINE float share_of(const Seen *s, index_t taps)
{
    return (float)(1.0 / (taps ? taps : (s->bottom - s->top) * (s->right - s->left)));
}

/* y = the largest number of each window and channel, and `winner` its tap, p width + q; the mean if there is no `winner`. The
   taps are step_down rows and step_right columns apart. Each window has one within the image. */
void pool(const float *x, index_t x_image, index_t x_row, index_t x_column, index_t images, index_t channels, float *y,
          unsigned char *winner, const index_t *down, index_t out_rows, const index_t *across, index_t out_columns,
          index_t width, index_t step_down, index_t step_right, index_t taps)
{
    PARALLEL(images * out_rows * out_columns * channels > 4096)
    for (index_t row = 0; row < images * out_rows; row++) {
        index_t i = row / out_rows, r = row % out_rows;
        Seen seen = {.top = down[out_rows + r], .bottom = down[2 * out_rows + r], .width = width, .row = step_down * x_row,
                     .column = step_right * x_column};
        for (index_t j = 0; j < out_columns; j++) {
            index_t at = (row * out_columns + j) * channels, c = 0;
            const float *window = x + i * x_image + down[r] * x_row + across[j] * x_column;
            seen.left = across[out_columns + j], seen.right = across[2 * out_columns + j];
            if (winner) {
                for (; c + WIDTH <= channels; c += WIDTH) several_maxima(window + c, 1, &seen, y + at + c, winner + at + c);
                for (; c < channels; c++) one_maximum(window + c, &seen, y + at + c, winner + at + c);
            } else {
                float share = share_of(&seen, taps);
                for (; c + WIDTH <= channels; c += WIDTH) channels_means(WIDTH, window + c, &seen, share, y + at + c);
                for (; c < channels; c++) channels_means(1, window + c, &seen, share, y + at + c);
            }
        }
    }
}

/* gx = for each pixel the sum of gy over the windows that it won, or without `winner` its share of those that it lies in;
   dense. */
void pool_backward(const float *gy, const unsigned char *winner, float *gx, index_t images, index_t rows, index_t columns,
                   index_t channels, const index_t *down, index_t out_rows, const index_t *across, index_t out_columns,
                   index_t width, index_t step_down, index_t step_right, index_t taps)
{
    index_t places[256]; /* of each tap, behind that of the first */
    for (index_t k = 0; k < 256; k++) places[k] = (k / width * step_down * columns + k % width * step_right) * channels;
    PARALLEL(images > 1 && images * rows * columns * channels > 4096)
    for (index_t i = 0; i < images; i++) {
        float *image = gx + i * rows * columns * channels;
        memset(image, 0, rows * columns * channels * sizeof(float));
        for (index_t r = 0; r < out_rows; r++)
            for (index_t j = 0; j < out_columns; j++) {
                index_t at = ((i * out_rows + r) * out_columns + j) * channels;
                if (winner && channels < WIDTH) {
                    index_t first = (down[r] * columns + across[j]) * channels;
                    for (index_t c = 0; c < channels; c++) image[first + places[winner[at + c]] + c] += gy[at + c];
                    continue;
                }
                Seen seen = {.top = down[out_rows + r], .bottom = down[2 * out_rows + r], .left = across[out_columns + j],
                             .right = across[2 * out_columns + j]};
                float share = share_of(&seen, taps);
                const float *g = gy + at;
                for (index_t p = seen.top; p < seen.bottom; p++)
                    for (index_t q = seen.left; q < seen.right; q++) {
                        float *to = image + ((down[r] + p * step_down) * columns + across[j] + q * step_right) * channels;
                        int number = (int)(p * width + q);
                        if (winner)
                            PRAGMA(omp simd) for (index_t c = 0; c < channels; c++) to[c] += winner[at + c] == number ? g[c] : 0;
                        else
                            PRAGMA(omp simd) for (index_t c = 0; c < channels; c++) to[c] += g[c] * share;
                    }
            }
    }
}

/* The same as `pool` of rows of n elements, each an image of one row and one channel. */
void max_pool_rows(const float *x, index_t rows, index_t n, float *y, unsigned char *winner, const index_t *across, index_t out,
                   index_t width, index_t stride, index_t step)
{
    index_t low = 0, high = out; /* the windows without padding, where they fill a register */
    while (low < out && across[low] < 0) low++;
    while (high > low && across[2 * out + high - 1] < width) high--;
    if (high - low < WIDTH) high = low;
    PARALLEL(rows * out > 4096)
    for (index_t r = 0; r < rows; r++) {
        const float *row = x + r * n;
        float *top = y + r * out;
        unsigned char *won = winner + r * out;
        for (index_t j = low; j < high; j += WIDTH) {
            index_t at = j + WIDTH <= high ? j : high - WIDTH;
            Seen seen = {.bottom = 1, .right = width, .column = step};
            if (stride == 1) several_maxima(row + across[at], 1, &seen, top + at, won + at);
            else if (stride == 2) several_maxima(row + across[at], 2, &seen, top + at, won + at);
            else several_maxima(row + across[at], stride, &seen, top + at, won + at);
        }
        for (index_t j = low ? 0 : high; j < out; j = j + 1 == low ? high : j + 1) {
            Seen seen = {.bottom = 1, .left = across[out + j], .right = across[2 * out + j], .column = step};
            one_maximum(row + across[j], &seen, top + j, won + j);
        }
    }
}

/* The gradient of `max_pool_rows`. */
void max_pool_rows_backward(const float *gy, const unsigned char *winner, float *gx, index_t rows, index_t n,
                            const index_t *across, index_t out, index_t step)
{
    memset(gx, 0, rows * n * sizeof(float));
    PARALLEL(rows * out > 4096)
    for (index_t r = 0; r < rows; r++)
        for (index_t j = 0; j < out; j++) gx[r * n + across[j] + winner[r * out + j] * step] += gy[r * out + j];
}
