/* Recurrent units over whole sequences. Read the plain definition first (minigrad/ops/recurrent.py).

   Arrays are dense: of `steps` times, `samples` and, side by side, the gates' `size` numbers each. A thread takes some samples
   through all the times, since samples know nothing of each other: it never waits for another. At each time the states are
   multiplied with the weights, and one pass over the sums makes the gates and the next states.

   The weights are packed once for all times, into panels (the memory is given) as in `conv.c`: of PANEL outputs, a line for
   each input. */
#include "kernels.h"

/* The weights of `outputs` for `inputs`, zeros beyond: w (outputs, inputs), or stored as its transpose. That is read and written
   in blocks of PANEL x PANEL, which stay in the first cache. */
static void pack(const float *w, int transposed, index_t outputs, index_t inputs, float *panels)
{
    index_t number = pieces(outputs, PANEL);
    PARALLEL(outputs * inputs > 1 << 16)
    for (index_t p = 0; p < number; p++) {
        index_t full = outputs - p * PANEL < PANEL ? outputs - p * PANEL : PANEL;
        const float *from = w + p * PANEL * (transposed ? 1 : inputs);
        float *to = panels + p * PANEL * inputs;
        if (full < PANEL) memset(to, 0, PANEL * inputs * sizeof(float));
        for (index_t first = 0; first < inputs; first += PANEL) {
            index_t last = first + PANEL < inputs ? first + PANEL : inputs;
            if (transposed)
                for (index_t k = first; k < last; k++) memcpy(to + k * PANEL, from + k * outputs, full * sizeof(float));
            else
                for (index_t o = 0; o < full; o++)
                    for (index_t k = first; k < last; k++) to[k * PANEL + o] = from[o * inputs + k];
        }
    }
}

/* P rows of x, `inputs` numbers each, by a panel: `full` numbers of as many rows of `out`, which are added to those of `start`,
   `stride` apart, if there is one. The inputs go to S sums in turn: a product need not wait for the one before it. */
INLINE void tile(int P, int S, const float *x, const float *line, index_t inputs, const float *start, index_t stride, float *out,
                 index_t outputs, index_t full)
{
    enum { V = PANEL / WIDTH };
    UNROLL for (int p = 0; p < P; p++) /* by the time the sums are done, these are in the cache */
        UNROLL for (int v = 0; v < PANEL; v += LANES) {
            if (start) __builtin_prefetch(start + p * stride + v);
            __builtin_prefetch(out + p * outputs + v, 1);
        }
    vector sum[S][P][V];
    UNROLL for (int s = 0; s < S; s++)
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int v = 0; v < V; v++) sum[s][p][v] = (vector){0};
    index_t k = 0;
    for (; k + S <= inputs; k += S)
        UNROLL for (int s = 0; s < S; s++, line += PANEL) {
            vector kept[V];
            UNROLL for (int v = 0; v < V; v++) {
                vector part = *(const vector *)(line + v * WIDTH);
                KEEP(part);
                kept[v] = part;
            }
            UNROLL for (int p = 0; p < P; p++)
                UNROLL for (int v = 0; v < V; v++) sum[s][p][v] += x[p * inputs + k + s] * kept[v];
        }
    for (; k < inputs; k++, line += PANEL)
        UNROLL for (int p = 0; p < P; p++)
            UNROLL for (int v = 0; v < V; v++) sum[0][p][v] += x[p * inputs + k] * *(const vector *)(line + v * WIDTH);
    UNROLL for (int p = 0; p < P; p++) {
        const float *from = start ? start + p * stride : 0;
        float *to = out + p * outputs;
        UNROLL for (int v = 0; v < V; v++) {
            UNROLL for (int s = 1; s < S; s++) sum[0][p][v] += sum[s][p][v];
            if (full == PANEL) {
                if (from) sum[0][p][v] += *(const vector *)(from + v * WIDTH);
                *(vector *)(to + v * WIDTH) = sum[0][p][v];
            } else
                for (int i = 0, at = v * WIDTH; i < WIDTH && at < full; i++, at++)
                    to[at] = sum[0][p][v][i] + (from ? from[at] : 0);
        }
    }
}

/* out (rows, outputs) = start + x (rows, inputs) by the packed weights. The rows of `start`, which may be missing, are `stride`
   apart. */
static void product_of(const float *x, const float *panels, index_t rows, index_t inputs, index_t outputs, const float *start,
                       index_t stride, float *out)
{
    Tiles tiles = tiles_of(rows);
    for (index_t o = 0; o < outputs; o += PANEL, panels += PANEL * inputs) {
        index_t full = outputs - o < PANEL ? outputs - o : PANEL;
        for (index_t k = 0, row = 0; k < tiles.number; row += width_of(&tiles, k++)) {
            const float *in = x + row * inputs, *from = start ? start + row * stride + o : 0;
            float *to = out + row * outputs + o;
#define TILED(P, S) case P: if (P <= TILE) tile(P, S, in, panels, inputs, from, stride, to, outputs, full); break;
            switch (width_of(&tiles, k)) {
                TILED(1, 4) TILED(2, 2) TILED(3, 1) TILED(4, 1) TILED(5, 1) TILED(6, 1) TILED(7, 1) TILED(8, 1)
            }
        }
    }
}

/* How many threads share the samples. */
INLINE index_t team_of(index_t steps, index_t samples, index_t size)
{
    return steps * samples * size * size > 1 << 16 ? at_most(samples) : 1;
}

/* The time of step s. */
INLINE index_t time_of(index_t s, index_t steps, int reverse) { return reverse ? steps - 1 - s : s; }

/* y (steps, samples, size), the states: tanh of the sums, or what of them is above 0 if `rectified`. */
void rnn(const float *gx, const float *h, const float *weight, float *panels, float *y, index_t steps, index_t samples,
         index_t size, int rectified, int reverse)
{
    pack(weight, 0, size, size, panels);
    index_t team = team_of(steps, samples, size);
    PARALLEL_BY(team, 1)
    for (index_t part = 0; part < team; part++) {
        index_t first = samples * part / team, rows = samples * (part + 1) / team - first;
        const float *state = h + first * size;
        for (index_t s = 0; s < steps; s++) {
            index_t at = time_of(s, steps, reverse) * samples + first;
            float *next = y + at * size;
            product_of(state, panels, rows, size, size, gx + at * size, size, next);
            if (rectified)
                PRAGMA(omp simd) for (index_t j = 0; j < rows * size; j++) next[j] = next[j] < 0 ? 0.0f : next[j]; /* NaN stays */
            else
                PRAGMA(omp simd) for (index_t j = 0; j < rows * size; j++) next[j] = hyperbolic_tangent(next[j]);
            state = next;
        }
    }
}

/* The gradients in gx and h for that of y. */
void rnn_backward(const float *dy, const float *weight, float *panels, const float *y, float *dgx, float *dh, index_t steps,
                  index_t samples, index_t size, int rectified, int reverse)
{
    pack(weight, 1, size, size, panels);
    index_t team = team_of(steps, samples, size);
    PARALLEL_BY(team, 1)
    for (index_t part = 0; part < team; part++) {
        index_t first = samples * part / team, rows = samples * (part + 1) / team - first;
        float *dstate = dh + first * size;
        memset(dstate, 0, rows * size * sizeof(float));
        for (index_t s = steps - 1; s >= 0; s--) {
            index_t at = (time_of(s, steps, reverse) * samples + first) * size;
            PRAGMA(omp simd) for (index_t j = 0; j < rows * size; j++) {
                float d = dstate[j] + dy[at + j], out = y[at + j];
                dgx[at + j] = rectified ? out > 0 ? d : 0 : d * (1 - out * out);
            }
            product_of(dgx + at, panels, rows, size, size, 0, 0, dstate);
        }
    }
}

/* y (steps, samples, size), the states; cells alike; gates (steps, samples, 4 size): i, f, g and o. */
void lstm(const float *gx, const float *h, const float *c, const float *weight, float *panels, float *y, float *cells,
          float *gates, index_t steps, index_t samples, index_t size, int reverse)
{
    pack(weight, 0, 4 * size, size, panels);
    index_t team = team_of(steps, samples, size);
    PARALLEL_BY(team, 1)
    for (index_t part = 0; part < team; part++) {
        index_t first = samples * part / team, rows = samples * (part + 1) / team - first;
        const float *state = h + first * size, *cell = c + first * size;
        for (index_t s = 0; s < steps; s++) {
            index_t at = time_of(s, steps, reverse) * samples + first;
            float *sums = gates + 4 * at * size, *next = y + at * size, *next_cell = cells + at * size;
            product_of(state, panels, rows, size, 4 * size, gx + 4 * at * size, 4 * size, sums);
            for (index_t r = 0; r < rows; r++) {
                float *i = sums + 4 * r * size, *f = i + size, *g = f + size, *o = g + size;
                PRAGMA(omp simd) for (index_t j = 0; j < size; j++) {
                    i[j] = sigmoid(i[j]);
                    f[j] = sigmoid(f[j]);
                    g[j] = hyperbolic_tangent(g[j]);
                    o[j] = sigmoid(o[j]);
                    float now = f[j] * cell[r * size + j] + i[j] * g[j];
                    next_cell[r * size + j] = now;
                    next[r * size + j] = o[j] * hyperbolic_tangent(now);
                }
            }
            state = next;
            cell = next_cell;
        }
    }
}

/* The gradients in gx (dgates), h and c for those of y, which may be missing (NULL), and of the last cell, which is in dc. */
void lstm_backward(const float *dy, const float *c, const float *weight, float *panels, const float *cells,
                   const float *gates, float *dgates, float *dh, float *dc, index_t steps, index_t samples, index_t size,
                   int reverse)
{
    pack(weight, 1, size, 4 * size, panels);
    index_t team = team_of(steps, samples, size);
    PARALLEL_BY(team, 1)
    for (index_t part = 0; part < team; part++) {
        index_t first = samples * part / team, rows = samples * (part + 1) / team - first;
        float *dstate = dh + first * size, *dcell = dc + first * size;
        memset(dstate, 0, rows * size * sizeof(float));
        for (index_t s = steps - 1; s >= 0; s--) {
            index_t at = time_of(s, steps, reverse) * samples + first;
            const float *before = s ? cells + (time_of(s - 1, steps, reverse) * samples + first) * size : c + first * size;
            for (index_t r = 0; r < rows; r++) {
                const float *i = gates + 4 * (at + r) * size, *f = i + size, *g = f + size, *o = g + size;
                float *di = dgates + 4 * (at + r) * size, *df = di + size, *dg = df + size, *d_o = dg + size;
                if (dy)
                    for (index_t j = 0; j < size; j++) dstate[r * size + j] += dy[(at + r) * size + j];
                PRAGMA(omp simd) for (index_t j = 0; j < size; j++) {
                    float out = hyperbolic_tangent(cells[(at + r) * size + j]), d = dstate[r * size + j];
                    float inside = dcell[r * size + j] + d * o[j] * (1 - out * out);
                    d_o[j] = d * out * o[j] * (1 - o[j]);
                    di[j] = inside * g[j] * i[j] * (1 - i[j]);
                    df[j] = inside * before[r * size + j] * f[j] * (1 - f[j]);
                    dg[j] = inside * i[j] * (1 - g[j] * g[j]);
                    dcell[r * size + j] = inside * f[j];
                }
            }
            product_of(dgates + 4 * at * size, panels, rows, 4 * size, size, 0, 0, dstate);
        }
    }
}

/* y (steps, samples, size), the states; gates (steps, samples, 3 size): r, z and n; hidden (steps, samples, size), what r is
   multiplied by. */
void gru(const float *gx, const float *h, const float *weight, const float *bias, float *panels, float *y, float *gates,
         float *hidden, index_t steps, index_t samples, index_t size, int reverse)
{
    pack(weight, 0, 3 * size, size, panels);
    index_t team = team_of(steps, samples, size);
    PARALLEL_BY(team, 1)
    for (index_t part = 0; part < team; part++) {
        index_t first = samples * part / team, rows = samples * (part + 1) / team - first;
        const float *state = h + first * size;
        for (index_t s = 0; s < steps; s++) {
            index_t at = time_of(s, steps, reverse) * samples + first;
            float *sums = gates + 3 * at * size, *next = y + at * size;
            product_of(state, panels, rows, size, 3 * size, bias, 0, sums);
            for (index_t row = 0; row < rows; row++) {
                const float *given = gx + 3 * (at + row) * size;
                float *r = sums + 3 * row * size, *z = r + size, *n = z + size;
                PRAGMA(omp simd) for (index_t j = 0; j < size; j++) {
                    hidden[(at + row) * size + j] = n[j];
                    r[j] = sigmoid(given[j] + r[j]);
                    z[j] = sigmoid(given[size + j] + z[j]);
                    n[j] = hyperbolic_tangent(given[2 * size + j] + r[j] * n[j]);
                    next[row * size + j] = n[j] + z[j] * (state[row * size + j] - n[j]);
                }
            }
            state = next;
        }
    }
}

/* The gradients in gx, in what the weights add to it (dsums) and in h, for that of y. */
void gru_backward(const float *dy, const float *h, const float *weight, float *panels, const float *y, const float *gates,
                  const float *hidden, float *dgx, float *dsums, float *dh, index_t steps, index_t samples, index_t size,
                  int reverse)
{
    pack(weight, 1, size, 3 * size, panels);
    index_t team = team_of(steps, samples, size);
    PARALLEL_BY(team, 1)
    for (index_t part = 0; part < team; part++) {
        index_t first = samples * part / team, rows = samples * (part + 1) / team - first;
        float *dstate = dh + first * size;
        memset(dstate, 0, rows * size * sizeof(float));
        for (index_t s = steps - 1; s >= 0; s--) {
            index_t at = time_of(s, steps, reverse) * samples + first;
            const float *before = s ? y + (time_of(s - 1, steps, reverse) * samples + first) * size : h + first * size;
            for (index_t row = 0; row < rows; row++) {
                const float *r = gates + 3 * (at + row) * size, *z = r + size, *n = z + size;
                float *given = dgx + 3 * (at + row) * size, *added = dsums + 3 * (at + row) * size;
                PRAGMA(omp simd) for (index_t j = 0; j < size; j++) {
                    float d = dstate[row * size + j] + dy[(at + row) * size + j];
                    float dn = d * (1 - z[j]) * (1 - n[j] * n[j]);
                    given[j] = added[j] = dn * hidden[(at + row) * size + j] * r[j] * (1 - r[j]);
                    given[size + j] = added[size + j] = d * (before[row * size + j] - n[j]) * z[j] * (1 - z[j]);
                    given[2 * size + j] = dn;
                    added[2 * size + j] = dn * r[j];
                    dstate[row * size + j] = d * z[j];
                }
            }
            product_of(dsums + 3 * at * size, panels, rows, 3 * size, size, dstate, size, dstate);
        }
    }
}
