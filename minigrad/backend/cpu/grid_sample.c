/* Bilinear sampling of x (samples, channels, height, width) at the points of grid (samples, points, 2): y (samples, channels,
   points). Definition: `_grid_sample` in minigrad/ops/resample.py.

   A point (u, v) has -1 and 1 at the image's edges: at the centres of the border pixels if `corners`, else at their outer sides.
   Outside there are zeros, or, if `border`, the nearest pixel. */
#include "kernels.h"

/* Between the pixels `low` and `low` + 1; the slope of the position in u. */
typedef struct { index_t low; float fraction, slope; } Place;

static Place locate(float u, index_t size, int corners, int border)
{
    float near = u > -4 ? u < 4 ? u : 4 : -4; /* both are outside, and so is NaN */
    float at = corners ? (near + 1) / 2 * (size - 1) : ((near + 1) * size - 1) / 2, slope = (corners ? size - 1 : size) / 2.0f;
    float least = border ? 0 : -1, most = border ? size - 1 : size; /* one pixel beyond the border all is 0 */
    if (near != u || !(border ? at > least : at >= least) || !(at < most)) slope = 0;
    at = at < least ? least : at > most ? most : at;
    float low = floorf(at);
    return (Place){(index_t)low, at - low, slope};
}

/* Of the four pixels around a point those that are inside: where, and how much of them. Returns how many. */
static int around(const Place *h, const Place *v, index_t height, index_t width, index_t *at, float *vertical, float *horizontal,
                  float *right, float *down)
{
    int found = 0;
    for (int k = 0; k < 4; k++) {
        index_t row = v->low + k / 2, column = h->low + k % 2;
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        at[found] = row * width + column;
        vertical[found] = k / 2 ? v->fraction : 1 - v->fraction;
        horizontal[found] = k % 2 ? h->fraction : 1 - h->fraction;
        down[found] = k / 2 ? 1 : -1;
        right[found++] = k % 2 ? 1 : -1;
    }
    return found;
}

void grid_sample(const float *x, const float *grid, float *y, index_t samples, index_t channels, index_t height, index_t width,
                 index_t points, int corners, int border)
{
    PARALLEL(samples * channels * points > 1 << 13)
    for (index_t i = 0; i < samples * points; i++) {
        Place h = locate(grid[2 * i], width, corners, border), v = locate(grid[2 * i + 1], height, corners, border);
        int lost = isnan(grid[2 * i]) || isnan(grid[2 * i + 1]);
        index_t at[4], sample = i / points;
        float vertical[4], horizontal[4], right[4], down[4];
        int found = around(&h, &v, height, width, at, vertical, horizontal, right, down);
        for (index_t c = 0; c < channels; c++) {
            const float *plane = x + (sample * channels + c) * height * width;
            float sum = 0;
            for (int k = 0; k < found; k++) {
                float weight = vertical[k] * horizontal[k];
                if (weight != 0) sum += weight * plane[at[k]]; /* 0 hides NaN and infinity */
            }
            y[(sample * channels + c) * points + i % points] = lost ? NAN : sum;
        }
    }
}

/* dx, zeros before, is added to; dgrid is written. */
void grid_sample_backward(const float *g, const float *x, const float *grid, float *dx, float *dgrid, index_t samples,
                          index_t channels, index_t height, index_t width, index_t points, int corners, int border)
{
    PARALLEL(samples * channels * points > 1 << 13)
    for (index_t sample = 0; sample < samples; sample++)
        for (index_t p = 0; p < points; p++) {
            const float *point = grid + 2 * (sample * points + p);
            float du = 0, dv = 0, *to = dgrid + 2 * (sample * points + p);
            to[0] = to[1] = 0;
            if (isnan(point[0]) || isnan(point[1])) continue; /* moves no pixel */
            Place h = locate(point[0], width, corners, border), v = locate(point[1], height, corners, border);
            index_t at[4];
            float vertical[4], horizontal[4], right[4], down[4];
            int found = around(&h, &v, height, width, at, vertical, horizontal, right, down);
            for (index_t c = 0; c < channels; c++) {
                index_t plane = (sample * channels + c) * height * width;
                float cotangent = g[(sample * channels + c) * points + p];
                for (int k = 0; k < found; k++) {
                    if (vertical[k] * horizontal[k] != 0) dx[plane + at[k]] += cotangent * vertical[k] * horizontal[k];
                    du += cotangent * x[plane + at[k]] * vertical[k] * right[k];
                    dv += cotangent * x[plane + at[k]] * horizontal[k] * down[k];
                }
            }
            if (h.slope != 0) to[0] = du * h.slope; /* a point that stands still hides NaN and infinity */
            if (v.slope != 0) to[1] = dv * v.slope;
        }
}
