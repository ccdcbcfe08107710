/* Max pooling of images (N, H, W, C), channels last; lengths and strides count elements. */
#include "kernels.h"

/* The taps [first, last) of a window of `size` that begins at `start` lie within 0 .. n - 1. */
INLINE void inside(index_t start, index_t size, index_t n, index_t *first, index_t *last)
{
    *first = start < 0 ? -start : 0;
    *last = n - start < size ? n - start : size;
}

/* As many whole numbers or bytes as a register has floats. */
typedef int32_t whole __attribute__((vector_size(4 * WIDTH)));
typedef unsigned char bytes __attribute__((vector_size(WIDTH), aligned(1), may_alias));

/* Taps [top, bottom) x [left, right) of a window of this width, of rows and columns so many elements apart. */
typedef struct { index_t top, bottom, left, right, width, row, column; } Seen;

/* The largest of each channel over the taps seen, and which tap it was, p width + q: the first of several. NaN beats all,
   the first one. */
INLINE void channels_maxima(const float *x, const Seen *s, float *y, unsigned char *winner)
{
    const float *first = x + s->top * s->row + s->left * s->column;
    vector best = *(const vector *)first;
    whole won = (whole){0} + (int)(s->top * s->width + s->left);
    for (index_t p = s->top; p < s->bottom; p++)
        for (index_t q = s->left; q < s->right; q++) {
            vector tap = *(const vector *)(x + p * s->row + q * s->column);
            whole better = (tap > best) | ((tap != tap) & (best == best)), number = (whole){0} + (int)(p * s->width + q);
            best = (vector)(((whole)tap & better) | ((whole)best & ~better));
            won = (number & better) | (won & ~better);
        }
    *(vector *)y = best;
    *(bytes *)winner = __builtin_convertvector(won, bytes);
}

INLINE void channel_maximum(const float *x, const Seen *s, float *y, unsigned char *winner)
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

/* y[i, r, j, c] = the largest x[i, r down - top + p, j right - left + q, c] of height x width taps within the image, and
   `winner` its tap. Each window has one. */
void max_pool(const float *x, index_t x_image, index_t x_row, index_t x_column, index_t images, index_t rows,
              index_t columns, index_t channels, float *y, unsigned char *winner, index_t out_rows, index_t out_columns,
              index_t height, index_t width, index_t down, index_t right, index_t top, index_t left)
{
    PARALLEL(images * out_rows * out_columns * channels > 4096)
    for (index_t row = 0; row < images * out_rows; row++) {
        index_t i = row / out_rows, begin = row % out_rows * down - top;
        Seen seen = {.width = width, .row = x_row, .column = x_column};
        inside(begin, height, rows, &seen.top, &seen.bottom);
        for (index_t j = 0; j < out_columns; j++) {
            index_t start = j * right - left, at = (row * out_columns + j) * channels, c = 0;
            inside(start, width, columns, &seen.left, &seen.right);
            const float *window = x + i * x_image + begin * x_row + start * x_column;
            for (; c + WIDTH <= channels; c += WIDTH) channels_maxima(window + c, &seen, y + at + c, winner + at + c);
            for (; c < channels; c++) channel_maximum(window + c, &seen, y + at + c, winner + at + c);
        }
    }
}

/* gx = for each pixel the sum of gy over the windows that it won; dense. */
void max_pool_backward(const float *gy, const unsigned char *winner, float *gx, index_t images, index_t rows,
                       index_t columns, index_t channels, index_t out_rows, index_t out_columns, index_t height,
                       index_t width, index_t down, index_t right, index_t top, index_t left)
{
    PARALLEL(images > 1 && images * rows * columns * channels > 4096)
    for (index_t i = 0; i < images; i++) {
        float *image = gx + i * rows * columns * channels;
        memset(image, 0, rows * columns * channels * sizeof(float));
        for (index_t r = 0; r < out_rows; r++) {
            index_t begin = r * down - top, p, p_end, first, last;
            inside(begin, height, rows, &p, &p_end);
            for (index_t j = 0; j < out_columns; j++) {
                index_t start = j * right - left, at = ((i * out_rows + r) * out_columns + j) * channels;
                const float *g = gy + at;
                const unsigned char *won = winner + at;
                inside(start, width, columns, &first, &last);
                for (index_t a = p; a < p_end; a++)
                    for (index_t b = first; b < last; b++) {
                        float *to = image + ((begin + a) * columns + start + b) * channels;
                        int number = (int)(a * width + b);
                        for (index_t c = 0; c < channels; c++) to[c] += won[c] == number ? g[c] : 0;
                    }
            }
        }
    }
}
