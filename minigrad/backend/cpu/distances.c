/* Euclidean distances of rows from rows. Definition: `cdist` in minigrad/ops/linalg.py. */
#include "kernels.h"

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

/* d[b, i, j] = |x[b, i] - y[b, j]|. */
void distances(const float *x, const float *y, float *d, index_t batch, index_t m, index_t n, index_t width)
{
    PARALLEL(batch * m * n * width > 1 << 15)
    for (index_t i = 0; i < batch * m; i++)
        for (index_t j = 0; j < n; j++)
            d[i * n + j] = (float)distance(x + i * width, y + (i / m * n + j) * width, width);
}

/* dx[b, i] = sum over j of g[b, i, j] (x[b, i] - y[b, j]) / d[b, i, j]; at a distance of 0 the slope is 0. A quotient by a very
   small one would overflow, by a very large one vanish: so distance and differences are scaled. A small one is computed again,
   as below the normal numbers it has few digits. */
void distances_backward(const float *g, const float *d, const float *x, const float *y, float *dx, index_t batch, index_t m,
                        index_t n, index_t width)
{
    PARALLEL(batch * m * n * width > 1 << 15)
    for (index_t i = 0; i < batch * m; i++) {
        const float *own = x + i * width, *other = y + i / m * n * width;
        float *sum = dx + i * width;
        memset(sum, 0, width * sizeof(float));
        for (index_t j = 0; j < n; j++, other += width) {
            int small = d[i * n + j] < 0x1p-60f;
            double apart = small ? distance(own, other, width) : d[i * n + j];
            float scale = small ? 0x1p64f : apart > 0x1p60 ? 0x1p-64f : 1;
            float weight = apart > 0 ? (float)(g[i * n + j] / (apart * scale)) : 0;
            for (index_t k = 0; k < width; k++) sum[k] += weight * (scale * (own[k] - other[k]));
        }
    }
}
