/* Euclidean distances of rows from rows. Definition: `cdist` in minigrad/ops/linalg.py. */
#include "kernels.h"

/* d[b, i, j] = |x[b, i] - y[b, j]|, summed in double: large numbers' squares do not overflow, small ones' do not vanish. */
void distances(const float *x, const float *y, float *d, index_t batch, index_t m, index_t n, index_t width)
{
    PARALLEL(batch * m * n * width > 1 << 15)
    for (index_t i = 0; i < batch * m; i++) {
        const float *own = x + i * width, *other = y + i / m * n * width;
        for (index_t j = 0; j < n; j++, other += width) {
            double sum = 0;
            REDUCE(+, sum) for (index_t k = 0; k < width; k++) {
                double part = (double)own[k] - other[k];
                sum += part * part;
            }
            d[i * n + j] = (float)sqrt(sum);
        }
    }
}

/* dx[b, i] = sum over j of g[b, i, j] (x[b, i] - y[b, j]) / d[b, i, j]; at a distance of 0 the slope is 0. */
void distances_backward(const float *g, const float *d, const float *x, const float *y, float *dx, index_t batch, index_t m,
                        index_t n, index_t width)
{
    PARALLEL(batch * m * n * width > 1 << 15)
    for (index_t i = 0; i < batch * m; i++) {
        const float *own = x + i * width, *other = y + i / m * n * width;
        float *sum = dx + i * width;
        memset(sum, 0, width * sizeof(float));
        for (index_t j = 0; j < n; j++, other += width) {
            float weight = d[i * n + j] > 0 ? g[i * n + j] / d[i * n + j] : 0;
            for (index_t k = 0; k < width; k++) sum[k] += weight * (own[k] - other[k]);
        }
    }
}
