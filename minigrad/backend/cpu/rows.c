/* Operations along the last axis of a (rows, columns) matrix: a row is read again while it is in the first-level cache. */
#include "kernels.h"

/* exp(x) / sum(exp(x)); of a row of -inf zeros; of a row with +inf these share the whole. */
void softmax(const float *xs, float *ys, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float *y = ys + r * columns;
        float top = largest(x, columns), total = 0;
        if (top == -INFINITY) top = 0;
        REDUCE(+, total) for (index_t i = 0; i < columns; i++) total += y[i] = exponential(below(x[i], top));
        float scale = total == 0 ? 0.0f : 1 / total;
        for (index_t i = 0; i < columns; i++) y[i] *= scale;
    }
}

/* dx = y (g - sum(g y)) */
void softmax_backward(const float *gs, const float *ys, float *dxs, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *g = gs + r * columns, *y = ys + r * columns;
        float *dx = dxs + r * columns;
        float dot = 0;
        REDUCE(+, dot) for (index_t i = 0; i < columns; i++) dot += g[i] * y[i];
        for (index_t i = 0; i < columns; i++) dx[i] = y[i] * (g[i] - dot);
    }
}

/* x - log(sum(exp(x))); a row of -inf gives NaN, in one with +inf these share the whole. */
void log_softmax(const float *xs, float *ys, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float *y = ys + r * columns;
        float top = largest(x, columns), total = 0;
        if (top == -INFINITY) top = 0;
        REDUCE(+, total) for (index_t i = 0; i < columns; i++) total += exponential(y[i] = below(x[i], top));
        total = logf(total);
        for (index_t i = 0; i < columns; i++) y[i] -= total;
    }
}

/* dx = g - exp(y) sum(g) */
void log_softmax_backward(const float *gs, const float *ys, float *dxs, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *g = gs + r * columns, *y = ys + r * columns;
        float *dx = dxs + r * columns;
        float total = 0;
        REDUCE(+, total) for (index_t i = 0; i < columns; i++) total += g[i];
        for (index_t i = 0; i < columns; i++) dx[i] = g[i] - exponential(y[i]) * total;
    }
}

/* log(sum(exp(x))) - x[label], with smoothing e for (1 - e) of x[label] and e of the mean of x; 0 where the label is `ignored`.
   The log-sum-exp stays in two parts for the gradient, the row's largest element and the rest. */
void cross_entropy(const float *xs, const index_t *labels, float *losses, float *tops, float *rests, index_t rows,
                   index_t columns, float smoothing, index_t ignored)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float top = largest(x, columns), total = 0, all = 0;
        if (top == -INFINITY) top = 0;
        REDUCE(+, total) for (index_t i = 0; i < columns; i++) total += exponential(below(x[i], top));
        if (smoothing) REDUCE(+, all) for (index_t i = 0; i < columns; i++) all += below(x[i], top);
        tops[r] = top;
        rests[r] = logf(total);
        float picked = labels[r] == ignored ? 0 : below(x[labels[r]], top);
        if (smoothing) picked = (1 - smoothing) * picked + smoothing * all / columns;
        losses[r] = labels[r] == ignored ? 0 : rests[r] - picked;
    }
}

/* dx = g (softmax(x) - e / columns - (1 - e) [at the label]), 0 where the label is `ignored`, whatever stands there. */
void cross_entropy_backward(const float *gs, const float *xs, const index_t *labels, const float *tops, const float *rests,
                            float *dxs, index_t rows, index_t columns, float smoothing, index_t ignored)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float *dx = dxs + r * columns, g = gs[r], even = smoothing / columns;
        if (labels[r] == ignored) {
            for (index_t i = 0; i < columns; i++) dx[i] = 0;
            continue;
        }
        for (index_t i = 0; i < columns; i++) dx[i] = exponential(below(x[i], tops[r]) - rests[r]) - even;
        dx[labels[r]] -= 1 - smoothing; /* before the factor: exact where the probability is near 1 */
        for (index_t i = 0; i < columns; i++) dx[i] *= g;
    }
}

/* Asks for n floats before they are needed: the next row, while this one is in the cache. Beyond an array it does nothing. */
#define FETCH(from, n) for (index_t i = 0; i < (n); i += 16) __builtin_prefetch((from) + i)

enum { RUN = 2048, FAR = 1024 }; /* elements summed in float32; mean^2 over variance from where on a rounded mean is corrected */

/* The sum of a register's elements, in halves. */
INLINE double across(vector v)
{
    double part[WIDTH];
    for (int k = 0; k < WIDTH; k++) part[k] = v[k];
    UNROLL for (int half = WIDTH / 2; half; half /= 2)
        for (int k = 0; k < half; k++) part[k] += part[k + half];
    return part[0];
}

/* The sum of x - centre, or of its square, of at most RUN elements, in four registers: none waits for another. */
INLINE double sum_of_run(float centre, int squared, const float *x, index_t n)
{
    vector sum[4] = {{0}};
    index_t i = 0;
    for (; i + 4 * WIDTH <= n; i += 4 * WIDTH)
        UNROLL for (int k = 0; k < 4; k++) {
            vector d = *(const vector *)(x + i + k * WIDTH) - centre;
            if (squared) d *= d;
            sum[k] += d;
        }
    for (; i + WIDTH <= n; i += WIDTH) {
        vector d = *(const vector *)(x + i) - centre;
        if (squared) d *= d;
        sum[0] += d;
    }
    float rest = 0;
    for (; i < n; i++) {
        float d = x[i] - centre;
        rest += squared ? d * d : d;
    }
    return across((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

INLINE double sum_around(float centre, int squared, const float *x, index_t n)
{
    double total = 0;
    for (index_t i = 0; i < n; i += RUN) total += sum_of_run(centre, squared, x + i, n - i < RUN ? n - i : RUN);
    return total;
}

/* y = weight (x - mean) / sqrt(var + eps) + bias; without `mean` RMS norm, whose mean is 0; weight and bias may be
   missing. */
void layer_norm(const float *xs, const float *weight, const float *bias, float *ys, float *mean, float *inv_std,
                index_t rows, index_t columns, float eps)
{
    double share = 1.0 / columns; /* a division for each row takes longer */
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float *y = ys + r * columns;
        FETCH(x + columns, columns);
        float mu = mean ? (float)(sum_around(0, 0, x, columns) * share) : 0;
        double var = sum_around(mu, 1, x, columns) * share;
        if (mean) {
            if ((double)mu * mu > FAR * var) {
                double error = sum_around(mu, 0, x, columns) * share;
                var = var < error * error ? 0 : var - error * error; /* of equal elements, by rounding */
                mu += (float)error;
            }
            mean[r] = mu;
        }
        float inv = inv_std[r] = 1 / sqrtf((float)var + eps);
        if (weight && bias)
            for (index_t i = 0; i < columns; i++) y[i] = (x[i] - mu) * inv * weight[i] + bias[i];
        else if (weight)
            for (index_t i = 0; i < columns; i++) y[i] = (x[i] - mu) * inv * weight[i];
        else
            for (index_t i = 0; i < columns; i++) y[i] = (x[i] - mu) * inv;
    }
}

/* With xhat = (x - mean) inv_std and h = g weight: dx = inv_std (h - mean(h) - xhat mean(h xhat)); RMS norm has no mean(h).
   dweight += sum over rows of g xhat, dbias += sum over rows of g; each of `most` threads has its own. */
void layer_norm_backward(const float *gs, const float *xs, const float *weight, const float *mean, const float *inv_std,
                         float *dxs, float *dweights, float *dbiases, index_t most, index_t rows, index_t columns)
{
    PARALLEL_BY(most, rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *g = gs + r * columns, *x = xs + r * columns;
        float *dx = dxs + r * columns, *dweight = dweights + THREAD * columns, *dbias = dbiases + THREAD * columns;
        FETCH(g + columns, columns);
        FETCH(x + columns, columns);
        float mu = mean ? mean[r] : 0, inv = inv_std[r], total = 0, dot = 0;
        REDUCE(+, total, dot) for (index_t i = 0; i < columns; i++) {
            float xhat = (x[i] - mu) * inv, h = g[i] * weight[i];
            total += h;
            dot += h * xhat;
        }
        for (index_t i = 0; i < columns; i++) {
            dweight[i] += g[i] * (x[i] - mu) * inv;
            dbias[i] += g[i];
        }
        float shift = mean ? inv * total / columns : 0, scale = inv * inv * dot / columns;
        for (index_t i = 0; i < columns; i++) dx[i] = inv * g[i] * weight[i] - shift - (x[i] - mu) * scale;
    }
}

enum { STRETCH = 16384, SHORT = 32 * WIDTH }; /* elements summed by one thread, and in float32 */

/* The sums of the stretches of each row, whoever adds them up; if `known`, of what is not NaN. */
void stretch_sums(const float *xs, double *sums, index_t rows, index_t columns, int known)
{
    index_t count = pieces(columns, STRETCH);
    PARALLEL(rows * columns > 65536)
    for (index_t i = 0; i < rows * count; i++) {
        index_t row = i / count, first = i % count * STRETCH;
        index_t n = columns - first < STRETCH ? columns - first : STRETCH;
        const float *x = xs + row * columns + first;
        double total = 0;
        for (index_t k = 0; k < n; k += SHORT) {
            index_t count = n - k < SHORT ? n - k : SHORT;
            float part[SHORT];
            for (index_t c = 0; known && c < count; c++) part[c] = x[k + c] == x[k + c] ? x[k + c] : 0;
            total += sum_of_run(0, 0, known ? part : x + k, count);
        }
        sums[i] = total;
    }
}

/* The sums of the stretches of (x - to)^2, or with a width of the distances that it rounds, whoever adds them up. */
void distance_sums(const float *x, const float *to, double *sums, index_t n, float width)
{
    PARALLEL(n > 65536)
    for (index_t stretch = 0; stretch < pieces(n, STRETCH); stretch++) {
        index_t first = stretch * STRETCH, end = n - first < STRETCH ? n : first + STRETCH;
        double total = 0;
        for (index_t k = first; k < end; k += SHORT) {
            index_t count = end - k < SHORT ? end - k : SHORT;
            float d[SHORT];
            for (index_t i = 0; i < count; i++) d[i] = x[k + i] - to[k + i];
            for (index_t i = 0; width && i < count; i++) d[i] = rounded_off(d[i], width);
            total += width ? sum_of_run(0, 0, d, count) : sum_of_run(0, 1, d, count);
        }
        sums[stretch] = total;
    }
}

/* Of each pair of rows x y, x^2 and y^2, added up: (rows, 3). */
void inner_products(const float *xs, const float *ys, double *sums, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns, *y = ys + r * columns;
        double both = 0, left = 0, right = 0;
        REDUCE(+, both, left, right) for (index_t i = 0; i < columns; i++) {
            double a = x[i], b = y[i];
            both += a * b;
            left += a * a;
            right += b * b;
        }
        sums[3 * r] = both;
        sums[3 * r + 1] = left;
        sums[3 * r + 2] = right;
    }
}

/* p y - q x of rows, for a p and a q of each: what is left of nearly equal products has all its digits. */
void combined_rows(const float *xs, const float *ys, const double *p, const double *q, float *out, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++)
        for (index_t i = r * columns; i < (r + 1) * columns; i++) out[i] = p[r] * ys[i] - q[r] * xs[i];
}

enum { ROWS = 64, STRIP = 512 }; /* of a column, elements summed in float32; columns at a time */

/* sums += the sum over at most ROWS rows of a strip of a matrix. */
INLINE void add_rows_of_strip(const float *x, index_t rows, index_t columns, index_t width, double *sums)
{
    float part[STRIP];
    index_t r = 0;
    for (index_t i = 0; i < width; i++) part[i] = 0;
    for (; r + 4 <= rows; r += 4) {
        const float *a = x + r * columns, *b = a + columns, *c = b + columns, *d = c + columns;
        for (index_t i = 0; i < width; i++) part[i] += (a[i] + b[i]) + (c[i] + d[i]);
    }
    for (; r < rows; r++)
        for (index_t i = 0; i < width; i++) part[i] += x[r * columns + i];
    for (index_t i = 0; i < width; i++) sums[i] += part[i];
}

/* sums += the sum over the rows; each of `most` threads has its own. */
void column_sums(const float *x, double *sums, index_t most, index_t rows, index_t columns)
{
    PARALLEL_BY(most, rows * columns > 65536)
    for (index_t chunk = 0; chunk < pieces(rows, ROWS); chunk++) {
        index_t row = chunk * ROWS, count = rows - row < ROWS ? rows - row : ROWS;
        for (index_t first = 0; first < columns; first += STRIP)
            add_rows_of_strip(x + row * columns + first, count, columns, columns - first < STRIP ? columns - first : STRIP,
                              sums + THREAD * columns + first);
    }
}

/* The sums along the middle axis of (outer, n, inner). */
void axis_sums(const float *xs, float *ys, index_t outer, index_t n, index_t inner)
{
    index_t strips = pieces(inner, STRIP);
    PARALLEL(outer * n * inner > 65536)
    for (index_t i = 0; i < outer * strips; i++) {
        index_t first = i % strips * STRIP, width = inner - first < STRIP ? inner - first : STRIP;
        double sum[STRIP];
        for (index_t k = 0; k < width; k++) sum[k] = 0;
        for (index_t row = 0; row < n; row += ROWS)
            add_rows_of_strip(xs + (i / strips * n + row) * inner + first, n - row < ROWS ? n - row : ROWS, inner, width, sum);
        for (index_t k = 0; k < width; k++) ys[i / strips * inner + first + k] = sum[k];
    }
}

enum { BESIDE = 4 }; /* rows at a time: an addition need not wait for the one before it */

INLINE void run_along_rows(const float *x, float *y, index_t rows, index_t n, int back, int multiply)
{
    index_t first = back ? n - 1 : 0, step = back ? -1 : 1;
    float start = multiply ? 1.0f : -0.0f;
    if (rows == BESIDE) {
        float all[BESIDE] = {start, start, start, start};
        for (index_t i = 0, at = first; i < n; i++, at += step)
            UNROLL for (int k = 0; k < BESIDE; k++)
                y[k * n + at] = all[k] = multiply ? all[k] * x[k * n + at] : all[k] + x[k * n + at];
    } else {
        for (; rows > 0; rows--, x += n, y += n) {
            float all = start;
            for (index_t i = 0, at = first; i < n; i++, at += step) y[at] = all = multiply ? all * x[at] : all + x[at];
        }
    }
}

INLINE void run_along_strip(const float *x, float *y, index_t n, index_t inner, index_t width, int back, int multiply)
{
    index_t first = back ? n - 1 : 0, step = back ? -1 : 1;
    float all[STRIP];
    for (index_t c = 0; c < width; c++) all[c] = multiply ? 1.0f : -0.0f;
    for (index_t i = 0, at = first * inner; i < n; i++, at += step * inner)
        for (index_t c = 0; c < width; c++) y[at + c] = all[c] = multiply ? all[c] * x[at + c] : all[c] + x[at + c];
}

/* Along the middle axis of (outer, n, inner) each sum, or product, of what stands before and here, or, `back`, here and behind.
   Sums begin with -0, which leaves a first -0 as it is. */
void running(const float *xs, float *ys, index_t outer, index_t n, index_t inner, int back, int multiply)
{
    index_t strips = inner == 1 ? 1 : pieces(inner, STRIP), blocks = inner == 1 ? pieces(outer, BESIDE) : outer * strips;
    PARALLEL(outer * n * inner > 65536)
    for (index_t block = 0; block < blocks; block++) {
        if (inner == 1) {
            index_t row = block * BESIDE, rows = outer - row < BESIDE ? outer - row : BESIDE;
            if (multiply) run_along_rows(xs + row * n, ys + row * n, rows, n, back, 1);
            else run_along_rows(xs + row * n, ys + row * n, rows, n, back, 0);
        } else {
            index_t from = block % strips * STRIP, at = block / strips * n * inner + from;
            index_t width = inner - from < STRIP ? inner - from : STRIP;
            if (multiply) run_along_strip(xs + at, ys + at, n, inner, width, back, 1);
            else run_along_strip(xs + at, ys + at, n, inner, width, back, 0);
        }
    }
}

/* x[o, index[i]] += values[o, i], rows of this width, one after the other: an index may name a row twice. */
void add_rows(float *xs, const index_t *index, const float *values, index_t outer, index_t among, index_t n, index_t width)
{
    PARALLEL(outer * n * width > 65536)
    for (index_t o = 0; o < outer; o++) {
        float *x = xs + o * among * width;
        const float *from = values + o * n * width;
        for (index_t i = 0; width == 1 && i < n; i++) x[index[i]] += from[i];
        for (index_t i = 0; width > 1 && i < n; i++, from += width)
            for (index_t c = 0; c < width; c++) x[index[i] * width + c] += from[c];
    }
}

enum { TAKE, ADD, PUT };

/* Each of (count, inner) numbers of `values` is taken from, added to or put into the place in its column of x, (n, inner), that
   its index names, from the end if that is negative; each row may have its own x, a `step` further. Whether all named one. */
INLINE int go_along(float *x, const index_t *index, float *values, index_t count, index_t n, index_t inner, index_t step, int how)
{
    int wrong = 0;
    for (; count > 0; count--, x += step, index += inner, values += inner)
        for (index_t i = 0; i < inner; i++) {
            index_t place = index[i] + (index[i] < 0 ? n : 0);
            int there = (uint64_t)place < (uint64_t)n;
            float *at = x + (there ? place : 0) * inner + i;
            wrong |= !there;
            if (how == TAKE) values[i] = *at;
            else if (how == ADD) *at += values[i];
            else if (there) *at = values[i];
        }
    return !wrong;
}

INLINE void all_along(float *xs, const index_t *index, float *ys, index_t *wrong, index_t outer, index_t n, index_t m,
                      index_t inner, int how)
{
    index_t step = m == 1 ? n * inner : 0, rows = m == 1 ? outer : m, parts = outer * m / rows;
    index_t height = how != TAKE && !step ? rows : RUN, blocks = pieces(rows, height);
    PARALLEL(outer * m * inner > 65536)
    for (index_t block = 0; block < parts * blocks; block++) {
        index_t part = block / blocks, first = block % blocks * height, at = (part * rows + first) * inner;
        index_t count = rows - first < height ? rows - first : height;
        float *x = xs + part * n * inner + first * step;
        int fine = inner == 1 ? go_along(x, index + at, ys + at, count, n, 1, step, how)
                              : go_along(x, index + at, ys + at, count, n, inner, step, how);
        if (!fine) *wrong = 1;
    }
}

/* y[o, j, i] = x[o, index[o, j, i], i], x being (outer, n, inner), y and index (outer, m, inner); `wrong` becomes 1 where an
   index names nothing. */
void take_along(const float *x, const index_t *index, float *y, index_t *wrong, index_t outer, index_t n, index_t m,
                index_t inner)
{
    all_along((float *)x, index, y, wrong, outer, n, m, inner, TAKE);
}

/* x[o, index[o, j, i], i] += y[o, j, i], one after the other. */
void add_along(float *x, const index_t *index, const float *y, index_t *wrong, index_t outer, index_t n, index_t m,
               index_t inner)
{
    all_along(x, index, (float *)y, wrong, outer, n, m, inner, ADD);
}

/* x[o, index[o, j, i], i] = y[o, j, i], one after the other: of several for a place the last stays. */
void put_along(float *x, const index_t *index, const float *y, index_t *wrong, index_t outer, index_t n, index_t m,
               index_t inner)
{
    all_along(x, index, (float *)y, wrong, outer, n, m, inner, PUT);
}

/* One number of a heap, of which none is better than those below it, sinks to its place: better is larger, or equal and first. */
INLINE void sink(float *values, index_t *places, index_t at, index_t n)
{
    float value = values[at];
    index_t place = places[at];
    for (index_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        if (child + 1 < n && (values[child + 1] < values[child] ||
                              (values[child + 1] == values[child] && places[child + 1] > places[child]))) child++;
        if (value < values[child] || (value == values[child] && place > places[child])) break;
        values[at] = values[child];
        places[at] = places[child];
        at = child;
    }
    values[at] = value;
    places[at] = place;
}

enum { SAMPLE = 32 }; /* one of so many blocks is looked at before the others */

/* Of each row the k <= columns largest numbers, multiplied by `sign`, and their places, best first; -1 at the first place of a
   row with NaN. */
void best_of_rows(const float *xs, float *all_values, index_t *all_places, index_t rows, index_t columns, index_t k, float sign)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float *values = all_values + r * k;
        index_t *places = all_places + r * k;
        int unordered = 0;
        for (index_t i = 0; i < k; i++) {
            values[i] = sign * x[i];
            places[i] = i;
            unordered |= x[i] != x[i];
        }
        for (index_t i = k / 2; i-- > 0;) sink(values, places, i, k);
        for (int sample = 1; sample >= 0; sample--) /* some first: of a row in order all would be the best so far */
            for (index_t i = k, block = 0; i < columns; i += ROWS, block++) {
                if ((block % SAMPLE == 0) != sample) continue;
                index_t end = i + ROWS < columns ? i + ROWS : columns;
                float least = values[0];
                int found = 0; /* better ones, or NaN */
                if (i > places[0]) REDUCE(|, found) for (index_t j = i; j < end; j++) found |= !(sign * x[j] <= least);
                else REDUCE(|, found) for (index_t j = i; j < end; j++) found |= !(sign * x[j] < least);
                for (index_t j = i; found && j < end; j++) {
                    float value = sign * x[j];
                    unordered |= value != value;
                    if (value > values[0] || (value == values[0] && j < places[0])) {
                        values[0] = value;
                        places[0] = j;
                        sink(values, places, 0, k);
                    }
                }
            }
        for (index_t n = k - 1; n > 0; n--) { /* the worst goes to the end */
            float value = values[0];
            index_t place = places[0];
            values[0] = values[n];
            places[0] = places[n];
            values[n] = value;
            places[n] = place;
            sink(values, places, 0, n);
        }
        if (unordered) places[0] = -1;
    }
}

enum { NARROW = 64, SIDE = 64 }; /* rows of fewer numbers are turned into columns, so many at a time */

/* A strip of columns along the middle axis of (outer, n, inner), or with inner = 1 of rows that are turned: where it begins in
   the array and among the sums along that axis, its width, and how far apart the numbers of a column are. */
typedef struct { index_t at, first, width, step; } Strip;

INLINE index_t strips_of(index_t outer, index_t inner) { return inner > 1 ? outer * pieces(inner, STRIP) : pieces(outer, SIDE); }

INLINE Strip strip_of(index_t number, index_t outer, index_t n, index_t inner)
{
    index_t strips = pieces(inner, STRIP), from = number % strips * STRIP, part = number / strips, row = number * SIDE;
    if (inner == 1) return (Strip){row * n, row, outer - row < SIDE ? outer - row : SIDE, SIDE};
    return (Strip){part * n * inner + from, part * inner + from, inner - from < STRIP ? inner - from : STRIP, inner};
}

/* The strip of x: where it stands, or turned, in `place`. */
INLINE const float *columns_of(const float *x, Strip s, index_t n, index_t inner, float *place)
{
    if (inner > 1) return x + s.at;
    for (index_t i = 0; i < n; i++)
        for (index_t c = 0; c < s.width; c++) place[i * SIDE + c] = x[s.at + c * n + i];
    return place;
}

/* Turned back into the rows of y. */
INLINE void put_rows(const float *place, Strip s, index_t n, float *y)
{
    for (index_t c = 0; c < s.width; c++)
        for (index_t i = 0; i < n; i++) y[s.at + c * n + i] = place[i * SIDE + c];
}

/* The largest number of each column, 0 for one of -inf only. */
INLINE void strip_tops(const float *x, index_t n, index_t step, index_t width, float *top)
{
    for (index_t c = 0; c < width; c++) top[c] = -INFINITY;
    for (index_t i = 0; i < n; i++)
        for (index_t c = 0; c < width; c++) top[c] = x[i * step + c] > top[c] ? x[i * step + c] : top[c];
    for (index_t c = 0; c < width; c++) top[c] = top[c] == -INFINITY ? 0.0f : top[c];
}

/* Of each column exp(x - top), or that under the exponential, into y unless it is missing, and the sum of exp(x - top). */
INLINE void strip_exponentials(const float *x, float *y, index_t n, index_t step, index_t width, const float *top, float *sums,
                               int logarithms)
{
    double total[STRIP];
    for (index_t c = 0; c < width; c++) total[c] = 0;
    for (index_t row = 0; row < n; row += ROWS) {
        float sum[STRIP];
        for (index_t c = 0; c < width; c++) sum[c] = 0;
        for (index_t i = row; i < n && i < row + ROWS; i++)
            for (index_t c = 0; c < width; c++) {
                float under = below(x[i * step + c], top[c]), part = exponential(under);
                if (y) y[i * step + c] = logarithms ? under : part;
                sum[c] += part;
            }
        for (index_t c = 0; c < width; c++) total[c] += sum[c];
    }
    for (index_t c = 0; c < width; c++) sums[c] = total[c];
}

/* softmax, or its logarithm, along the middle axis of (outer, n, inner): as above, a strip of rows side by side. */
INLINE void strip_softmax(const float *x, float *y, index_t n, index_t step, index_t width, int logarithms)
{
    float top[STRIP], scale[STRIP];
    strip_tops(x, n, step, width, top);
    strip_exponentials(x, y, n, step, width, top, scale, logarithms);
    for (index_t c = 0; c < width; c++) scale[c] = logarithms ? logarithm(scale[c]) : scale[c] == 0 ? 0.0f : 1 / scale[c];
    for (index_t i = 0; i < n; i++)
        for (index_t c = 0; c < width; c++)
            y[i * step + c] = logarithms ? y[i * step + c] - scale[c] : y[i * step + c] * scale[c];
}

INLINE void strip_softmax_backward(const float *g, const float *y, float *dx, index_t n, index_t inner, index_t width,
                                   int logarithm)
{
    float of_all[STRIP];
    double total[STRIP] = {0};
    for (index_t row = 0; row < n; row += ROWS) {
        float sum[STRIP] = {0};
        for (index_t i = row; i < n && i < row + ROWS; i++)
            for (index_t c = 0; c < width; c++) sum[c] += logarithm ? g[i * inner + c] : g[i * inner + c] * y[i * inner + c];
        for (index_t c = 0; c < width; c++) total[c] += sum[c];
    }
    for (index_t c = 0; c < width; c++) of_all[c] = total[c];
    for (index_t i = 0; i < n; i++)
        for (index_t c = 0; c < width; c++) {
            float out = y[i * inner + c], in = g[i * inner + c];
            dx[i * inner + c] = logarithm ? in - exponential(out) * of_all[c] : out * (in - of_all[c]);
        }
}

void softmax_between(const float *xs, float *ys, index_t outer, index_t n, index_t inner, int logarithms)
{
    PARALLEL(outer * n * inner > 65536)
    for (index_t strip = 0; strip < strips_of(outer, inner); strip++) {
        float given[NARROW * SIDE], made[NARROW * SIDE];
        Strip s = strip_of(strip, outer, n, inner);
        const float *x = columns_of(xs, s, n, inner, given);
        float *y = inner > 1 ? ys + s.at : made;
        if (logarithms) strip_softmax(x, y, n, s.step, s.width, 1);
        else strip_softmax(x, y, n, s.step, s.width, 0);
        if (inner == 1) put_rows(y, s, n, ys);
    }
}

/* log(sum(exp(x))) along the middle axis of (outer, n, inner). */
void logsumexp_between(const float *xs, float *ys, index_t outer, index_t n, index_t inner)
{
    PARALLEL(outer * n * inner > 65536)
    for (index_t strip = 0; strip < strips_of(outer, inner); strip++) {
        float given[NARROW * SIDE], top[STRIP], sum[STRIP];
        Strip s = strip_of(strip, outer, n, inner);
        const float *x = columns_of(xs, s, n, inner, given);
        strip_tops(x, n, s.step, s.width, top);
        strip_exponentials(x, 0, n, s.step, s.width, top, sum, 0);
        for (index_t c = 0; c < s.width; c++) ys[s.first + c] = top[c] + logarithm(sum[c]);
    }
}

/* The same of rows. */
void logsumexp(const float *xs, float *ys, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        float top = largest(x, columns);
        double total = 0;
        for (index_t first = 0; first < columns; first += RUN) {
            index_t end = columns - first < RUN ? columns : first + RUN;
            float part = 0;
            REDUCE(+, part) for (index_t i = first; i < end; i++) part += exponential(below(x[i], top));
            total += part;
        }
        ys[r] = top + logf(total);
    }
}

/* As `cross_entropy` above, along the middle axis of (outer, n, inner). */
void cross_entropy_between(const float *xs, const index_t *labels, float *losses, float *tops, float *rests, index_t outer,
                           index_t n, index_t inner, float smoothing, index_t ignored)
{
    PARALLEL(outer * n * inner > 65536)
    for (index_t strip = 0; strip < strips_of(outer, inner); strip++) {
        float given[NARROW * SIDE], all[STRIP];
        Strip s = strip_of(strip, outer, n, inner);
        const float *x = columns_of(xs, s, n, inner, given);
        const index_t *label = labels + s.first;
        float *loss = losses + s.first, *top = tops + s.first, *rest = rests + s.first;
        strip_tops(x, n, s.step, s.width, top);
        strip_exponentials(x, 0, n, s.step, s.width, top, rest, 0);
        for (index_t c = 0; c < s.width; c++) {
            all[c] = 0;
            rest[c] = logarithm(rest[c]);
        }
        for (index_t i = 0; smoothing && i < n; i++)
            for (index_t c = 0; c < s.width; c++) all[c] += below(x[i * s.step + c], top[c]);
        for (index_t c = 0; c < s.width; c++) {
            float picked = label[c] == ignored ? 0 : below(x[label[c] * s.step + c], top[c]);
            if (smoothing) picked = (1 - smoothing) * picked + smoothing * all[c] / n;
            loss[c] = label[c] == ignored ? 0 : rest[c] - picked;
        }
    }
}

void cross_entropy_between_backward(const float *gs, const float *xs, const index_t *labels, const float *tops,
                                    const float *rests, float *dxs, index_t outer, index_t n, index_t inner, float smoothing,
                                    index_t ignored)
{
    PARALLEL(outer * n * inner > 65536)
    for (index_t strip = 0; strip < strips_of(outer, inner); strip++) {
        float given[NARROW * SIDE], made[NARROW * SIDE], g[STRIP], even = smoothing / n;
        Strip s = strip_of(strip, outer, n, inner);
        const float *x = columns_of(xs, s, n, inner, given), *top = tops + s.first, *rest = rests + s.first;
        const index_t *label = labels + s.first;
        float *dx = inner > 1 ? dxs + s.at : made;
        for (index_t c = 0; c < s.width; c++) g[c] = gs[s.first + c];
        for (index_t i = 0; i < n; i++)
            for (index_t c = 0; c < s.width; c++)
                dx[i * s.step + c] = exponential(below(x[i * s.step + c], top[c]) - rest[c]) - even;
        for (index_t c = 0; c < s.width; c++)
            if (label[c] != ignored) dx[label[c] * s.step + c] -= 1 - smoothing;
        for (index_t i = 0; i < n; i++)
            for (index_t c = 0; c < s.width; c++) dx[i * s.step + c] *= g[c];
        for (index_t c = 0; c < s.width; c++)
            for (index_t i = 0; label[c] == ignored && i < n; i++) dx[i * s.step + c] = 0;
        if (inner == 1) put_rows(dx, s, n, dxs);
    }
}

void softmax_between_backward(const float *g, const float *y, float *dx, index_t outer, index_t n, index_t inner, int logarithm)
{
    index_t strips = pieces(inner, STRIP);
    PARALLEL(outer * n * inner > 65536)
    for (index_t strip = 0; strip < outer * strips; strip++) {
        index_t from = strip % strips * STRIP, at = strip / strips * n * inner + from;
        index_t width = inner - from < STRIP ? inner - from : STRIP;
        if (logarithm) strip_softmax_backward(g + at, y + at, dx + at, n, inner, width, 1);
        else strip_softmax_backward(g + at, y + at, dx + at, n, inner, width, 0);
    }
}

/* The product of each row, in double precision, which neither overflows soon nor is rounded again and again. */
void row_products(const float *xs, float *ys, index_t rows, index_t columns)
{
    PARALLEL(rows * columns > 65536)
    for (index_t r = 0; r < rows; r++) {
        const float *x = xs + r * columns;
        double product = 1;
        REDUCE(*, product) for (index_t i = 0; i < columns; i++) product *= x[i];
        ys[r] = product;
    }
}
