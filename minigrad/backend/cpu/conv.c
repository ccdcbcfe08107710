/* Convolution without a matrix of columns: the sums of a tile of outputs stay in registers while the taps pass by. Where a
   product of matrices serves better, `columns` makes one.

   Read the plain definition first (minigrad/ops/conv.py); a tap is a position (p, q) of the window:

       y[n, o, i, j] = sum over c, p, q of  x[n, c, i*sh + p*dh - ph, j*sw + q*dw - pw] * w[o, c, p, q]

   Images lie in memory as (N, H, W, C), channels last: the numbers of a pixel side by side, then the next pixel of the row.

       C = 4    | c0 c1 c2 c3 | c0 c1 c2 c3 | ...             W pixels, then the next row
                  pixel (0,0)   pixel (0,1)

   Filters are packed into panels, each of PANEL output channels (two registers of them on x86), in the order in which the
   inner loop reads them: a line for each tap and input channel.

       panel of o = 0 .. 31           tap (0,0)   c0   | w0 w1 ... w31 |
                                                  c1   | w0 w1 ... w31 |
                                                  ...
                                      tap (0,1)   c0   | w0 w1 ... w31 |   ...

   A tile is the sums of some pixels (TILE at most) for the channels of a panel, all in registers. The pixels may lie
   anywhere: where is looked up in a table (`places`), so maps narrower than a tile fill it as well.

                     o = 0 .. 15   o = 16 .. 31               for each tap, for each input channel c:
       pixel 0      |  sum[0][0]  |  sum[0][1]  |                 line = the panel's next line
       pixel 1      |  sum[1][0]  |  sum[1][1]  |                 for each pixel p of the tile:
       ...                                                            sum[p] += x[what pixel p sees there, c] * line
       pixel 7      |  sum[7][0]  |  sum[7][1]  |

   So a line of the panel is loaded once for all pixels, and a number of x once for all channels of the panel.

   The loops, from the outside in:

       correlate         groups and blocks, shared by threads. A block is some images, or some rows of one; it is copied where
                         channels are not side by side
       correlate_block   panels; taps whose filters stay in the cache together; pixels that see the same taps; tiles
       tile              taps and their input channels; pixels and registers, unrolled

   The gradient in the filters (correlate_weights, weights_block, outer) turns this inside out: its tile is sums of some
   input channels by the outputs of a panel for one tap, and pixels pass by. The gradient in the images is `correlate` again,
   with mirrored filters (conv_direct.py). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "conv.h"

/* A thread's memory, freed when it ends. */
typedef struct { float *block[4]; index_t size[4]; } Memory;

static pthread_key_t memory_key;

static void free_memory(void *of_thread)
{
    Memory *memory = of_thread;
    for (int i = 0; i < 4; i++) free(memory->block[i]);
    free(memory);
}

__attribute__((constructor)) static void make_memory_key(void) { pthread_key_create(&memory_key, free_memory); }

float *scratch(int which, index_t n)
{
    static _Thread_local Memory *mine;
    if (!mine) pthread_setspecific(memory_key, mine = calloc(1, sizeof *mine));
    if (mine && mine->size[which] < n) {
        free(mine->block[which]);
        mine->block[which] = aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64);
        mine->size[which] = n;
    }
    if (!mine || !mine->block[which]) { /* nobody above could free any */
        fprintf(stderr, "minigrad: a convolution found no memory for a block of %lld floats\n", (long long)n);
        abort();
    }
    return mine->block[which];
}

enum { SOME = 8 }; /* channels at a time, where they lie apart: lines of so many stay in the cache */

/* Pixels [top, top + height) x [left, left + width) of some images side by side in `out`, zeros outside the images; the
   first c channels, and zeros up to `channels`. */
static void copy(const float *x, const Images *s, index_t images, index_t top, index_t left, index_t height, index_t width,
                 index_t c, index_t channels, float *out)
{
    index_t first = left < 0 ? -left : 0, last = s->columns - left < width ? s->columns - left : width;
    for (index_t i = 0; i < images; i++)
        for (index_t r = 0; r < height; r++, out += width * channels) {
            index_t row = top + r;
            if (row < 0 || row >= s->rows || first >= last) {
                memset(out, 0, width * channels * sizeof(float));
                continue;
            }
            const float *from = x + i * s->image + row * s->row + (left + first) * s->column;
            memset(out, 0, first * channels * sizeof(float));
            memset(out + last * channels, 0, (width - last) * channels * sizeof(float));
            float *to = out + first * channels;
            index_t n = last - first;
            if (s->channel == 1 && s->column == c && channels == c)
                memcpy(to, from, n * c * sizeof(float));
            else if (s->channel == 1 && channels == c && c <= SOME)
                switch (c) {
#define PIXELS(N) case N: for (index_t j = 0; j < n; j++) memcpy(to + j * N, from + j * s->column, N * sizeof(float)); break;
                    PIXELS(1) PIXELS(2) PIXELS(3) PIXELS(4) PIXELS(5) PIXELS(6) PIXELS(7) PIXELS(8)
                }
            else if (s->channel == 1 && channels == PANEL && c == PANEL) /* of a known length: no calls */
                for (index_t j = 0; j < n; j++) memcpy(to + j * PANEL, from + j * s->column, PANEL * sizeof(float));
            else if (s->channel == 1 && c >= LANES)
                for (index_t j = 0; j < n; j++) {
                    memcpy(to + j * channels, from + j * s->column, c * sizeof(float));
                    memset(to + j * channels + c, 0, (channels - c) * sizeof(float));
                }
            else
                for (index_t k = 0; k < channels; k += SOME)
                    for (index_t j = 0; j < n; j++) {
                        const float *in = from + j * s->column + k * s->channel;
                        float *into = to + j * channels + k;
                        if (k + SOME <= c)
                            UNROLL for (int i = 0; i < SOME; i++) into[i] = in[i * s->channel];
                        else
                            for (index_t i = 0; i < SOME && k + i < channels; i++)
                                into[i] = k + i < c ? in[i * s->channel] : 0;
                    }
        }
}

/* What the windows of a block of outputs cover, in memory with dense channels: its first pixel (which a window may see
   outside the image), and the strides. */
typedef struct { const float *x; index_t image, row, column; } Input;

/* A part of the work: some rows of some images, of a group's channels. */
typedef struct { index_t group, image, row, images, rows; } Part;

/* The part that is number b of all groups' blocks. */
static Part part(index_t b, const Job *job)
{
    const Images *ys = &job->outputs;
    const Block *block = &job->block;
    index_t across = pieces(ys->images, block->images), down = pieces(ys->rows, block->rows);
    Part p = {.group = b / (across * down), .image = b / down % across * block->images, .row = b % down * block->rows};
    p.images = ys->images - p.image < block->images ? ys->images - p.image : block->images;
    p.rows = ys->rows - p.row < block->rows ? ys->rows - p.row : block->rows;
    return p;
}

/* The number of parts of one group. */
static index_t parts(const Job *job)
{
    return pieces(job->outputs.images, job->block.images) * pieces(job->outputs.rows, job->block.rows);
}

/* What the windows of a part cover of an image: some of it may lie outside. */
typedef struct { index_t top, left, height, width; } Region;

static Region region(const Window *w, const Part *p, index_t columns)
{
    return (Region){w->top + p->row * w->down, w->left, (p->rows - 1) * w->down + (w->height - 1) * w->row_gap + 1,
                    (columns - 1) * w->right + (w->width - 1) * w->column_gap + 1};
}

/* The images themselves, where channels are dense and no window reaches over their edge (or what lies there is not read),
   else a copy with zeros around it. */
static Input input_of(const float *x, const Images *s, const Window *w, const Part *p, index_t columns, int within)
{
    Region r = region(w, p, columns);
    index_t channels = s->channels / w->groups;
    within = within || (r.top >= 0 && r.left >= 0 && r.top + r.height <= s->rows && r.left + r.width <= s->columns);
    x += p->image * s->image + p->group * channels * s->channel;
    if (s->channel == 1 && within)
        return (Input){x + r.top * s->row + r.left * s->column, s->image, s->row, s->column};
    float *out = scratch(0, p->images * r.height * r.width * channels);
    copy(x, s, p->images, r.top, r.left, r.height, r.width, channels, channels, out);
    return (Input){out, r.height * r.width * channels, r.width * channels, channels};
}

/* The same in strips of a tile's channels, one after another, counted in pixels. */
static Input strips_of(const float *x, const Images *s, const Window *w, const Part *p, index_t columns)
{
    Region r = region(w, p, columns);
    index_t channels = s->channels / w->groups, all = p->images * r.height * r.width;
    Tiles strips = tiles_of(channels);
    float *out = scratch(0, all * channels);
    x += p->image * s->image + p->group * channels * s->channel;
    for (index_t i = 0; i < p->images * r.height; i++) /* a row of pixels stays in the cache for all strips */
        for (index_t k = 0, c = 0, n; k < strips.number; k++, c += n) {
            n = width_of(&strips, k);
            copy(x + i / r.height * s->image + c * s->channel, s, 1, r.top + i % r.height, r.left, 1, r.width, n, n,
                 out + c * all + i * r.width * n);
        }
    return (Input){out, r.height * r.width, r.width, 1};
}

/* Outputs [first, last) along an axis see the taps [low, high) of their windows, and beyond those lies no image. */
typedef struct { index_t first, last, low, high; } Stretch;

enum { MAX_STRETCHES = 2 * MAX_TAPS + 1 };

/* All outputs of an axis in stretches: the window of the first begins at `at`, and images have this length. Returns their
   number: from an output to the next both ends move towards the first tap, by all taps together. */
static index_t stretches_of(index_t outputs, index_t at, index_t step, index_t gap, index_t taps, index_t length, Stretch *all)
{
    index_t number = 0, low = taps, high = taps;
    for (index_t i = 0; i < outputs; i++, at += step) {
        while (low > 0 && at + (low - 1) * gap >= 0) low--;
        while (high > 0 && at + (high - 1) * gap >= length) high--;
        Stretch one = {i, i + 1, low < high ? low : 0, low < high ? high : 0};
        if (number && all[number - 1].low == one.low && all[number - 1].high == one.high) all[number - 1].last = i + 1;
        else all[number++] = one;
    }
    return number;
}

/* Taps side by side may lie side by side in memory, and then are one run. */
static int joined(const Input *input, const Window *w, index_t channels)
{
    return w->column_gap == 1 && input->column == channels && w->width * channels <= 512;
}

/* Of the window's runs [first, last) those that some outputs see. */
static Taps taps_of(const Input *input, const Window *w, index_t channels, const Stretch *rows, const Stretch *columns,
                    index_t first, index_t last)
{
    int one = joined(input, w, channels);
    Taps taps;
    taps.number = 0, taps.run = one ? (columns->high - columns->low) * channels : channels;
    for (index_t t = first; t < last; t++) {
        index_t a = one ? t : t / w->width, b = one ? columns->low : t % w->width;
        if (a < rows->low || a >= rows->high || b < columns->low || b >= columns->high) continue;
        taps.offset[taps.number] = a * w->row_gap * input->row + b * w->column_gap * input->column;
        taps.line[taps.number++] = (a * w->width + b) * channels;
    }
    return taps;
}

/* Whether all n numbers are finite: others times 0 are NaN. */
static int all_finite(const float *x, index_t n)
{
    float zero = 0;
    REDUCE(+, zero) for (index_t i = 0; i < n; i++) zero += 0 * x[i];
    return zero == 0;
}

/* A block of filters in the order in which `correlate` reads them: (groups, blocks of PANEL outputs and a last one of
   LANES if that is enough, height, width, inputs, outputs of the block), zero beyond the outputs. Returns whether they are
   finite. */
static int pack_block(const float *w, float *panels, const Filters *f, index_t group, index_t block)
{
    index_t o = block * PANEL, lanes = f->channels - o < PANEL ? LANES : PANEL, taps = f->height * f->width;
    index_t full = f->outputs - o < lanes ? f->outputs - o : lanes, offset[MAX_TAPS];
    index_t some = taps < MAX_TAPS / 2 ? MAX_TAPS / 2 / taps : 1;
    float part[MAX_TAPS * PANEL]; /* some inputs' filters: where they go lies too far apart for the cache */
    w += f->start + group * f->group + o * f->output;
    panels += f->panels + taps * f->inputs * (group * f->channels + o);
    for (index_t t = 0; t < taps; t++) offset[t] = t / f->width * f->down + t % f->width * f->right;
    int finite = 1;
    if (full < lanes) memset(part, 0, sizeof part);
    for (index_t first = 0, n; first < f->inputs; first += n) {
        n = f->inputs - first < some ? f->inputs - first : some;
        for (index_t lane = 0; lane < full; lane++)
            for (index_t c = 0; c < n; c++) {
                const float *in = w + lane * f->output + (first + c) * f->input;
                float *out = part + c * lanes + lane;
                for (index_t t = 0; t < taps; t++) out[t * n * lanes] = in[offset[t]];
            }
        for (index_t t = 0; t < taps; t++)
            memcpy(panels + (t * f->inputs + first) * lanes, part + t * n * lanes, n * lanes * sizeof(float));
        finite &= all_finite(part, taps * n * lanes);
    }
    return finite;
}

static index_t blocks_of(const Filters *f) { return f->groups * pieces(f->channels, PANEL); }

int pack(const float *w, float *panels, const Filters *filters, index_t several)
{
    index_t work = 0, size = 0;
    int finite = 1;
    for (index_t k = 0; k < several; k++) {
        work += blocks_of(filters + k);
        size += filters[k].groups * filters[k].channels * filters[k].inputs * filters[k].height * filters[k].width;
    }
    PARALLEL(size > 16384)
    for (index_t b = 0; b < work; b++) {
        const Filters *f = filters;
        index_t rest = b;
        while (rest >= blocks_of(f)) rest -= blocks_of(f), f++;
        if (!pack_block(w, panels, f, rest % f->groups, rest / f->groups))
            PRAGMA(omp atomic write) finite = 0;
    }
    return finite;
}

/* The outputs of one group: `channels` is a multiple of LANES. Tiles take pixels across the ends of rows and images, but all
   of a tile see the same taps: `within` says that what lies outside the images is not multiplied. */
static void correlate_block(Input input, const Images *xs, const Window *window, const float *w, float *y, const Images *ys,
                            const Part *p, index_t channels, int within)
{
    index_t pixels = p->images * p->rows * ys->columns, inputs = xs->channels / window->groups;
    index_t *places_of_x = places(2 * pixels), *places_of_y = places_of_x + pixels;
    Stretch rows[MAX_STRETCHES], columns[MAX_STRETCHES];
    index_t down = 1, across = 1;
    rows[0] = (Stretch){0, p->rows, 0, window->height}, columns[0] = (Stretch){0, ys->columns, 0, window->width};
    if (within) {
        down = stretches_of(p->rows, window->top + p->row * window->down, window->down, window->row_gap, window->height,
                            xs->rows, rows);
        across = stretches_of(ys->columns, window->left, window->right, window->column_gap, window->width, xs->columns, columns);
    }
    index_t *from = places_of_x, *to = places_of_y, row = window->down * input.row, column = window->right * input.column;
    for (Stretch *r = rows; r < rows + down; r++)
        for (Stretch *c = columns; c < columns + across; c++) {
            index_t height = r->last - r->first, width = c->last - c->first;
            from = fill_places(from, r->first * row + c->first * column, input.image, row, column, p->images, height, width);
            to = fill_places(to, r->first * ys->row + c->first * ys->column, ys->image, ys->row, ys->column, p->images, height,
                             width);
        }
    index_t taps = window->height * window->width, runs = joined(&input, window, inputs) ? window->height : taps;
    index_t most = 1024 * runs / (taps * inputs) > 1 ? 1024 * runs / (taps * inputs) : 1; /* whose filters stay in the cache */
    for (index_t o = 0; o < channels; o += PANEL) {
        index_t lanes = channels - o < PANEL ? LANES : PANEL;
        const float *panel = w + taps * inputs * o;
        for (index_t t = 0; t < runs; t += most) {
            from = places_of_x, to = places_of_y;
            for (index_t s = 0; s < down * across; s++) {
                Stretch *r = rows + s / across, *c = columns + s % across;
                Taps seen = taps_of(&input, window, inputs, r, c, t, t + most < runs ? t + most : runs);
                Tiles tiles = tiles_of(p->images * (r->last - r->first) * (c->last - c->first));
                for (index_t k = 0, width; k < tiles.number; k++, from += width, to += width) {
                    width = width_of(&tiles, k);
                    tile(width, lanes, input.x, from, panel, &seen, y + o, to, t > 0);
                }
            }
        }
    }
}

static index_t rounded(index_t channels) { return pieces(channels, LANES) * LANES; }

/* y[i, r, p, o] = sum over taps and channels c of x[i, what (r, p) sees, c] w[o, c, tap]; several such, of the same images
   and of parts of the same filters and outputs. A window has at most MAX_TAPS taps. Outside the images lie zeros, which make
   NaN of filters that are not finite, or nothing. */
void correlate(const float *x, const index_t *x_images, const float *w, const index_t *filters, float *panels, float *y,
               const index_t *the_jobs, index_t jobs, int zeros)
{
    const Images *xs = (const Images *)x_images;
    const Job *first = (const Job *)the_jobs;
    int finite = pack(w, panels, (const Filters *)filters, jobs);
    index_t work = 0;
    for (index_t k = 0; k < jobs; k++) work += first[k].window.groups * parts(first + k);
    PARALLEL(work > 1)
    for (index_t b = 0; b < work; b++) {
        const Job *job = first;
        index_t rest = b;
        while (rest >= job->window.groups * parts(job)) rest -= job->window.groups * parts(job), job++;
        Part p = part(rest, job);
        const Images *ys = &job->outputs;
        const Window *window = &job->window;
        index_t inputs = xs->channels / window->groups, outputs = ys->channels / window->groups, columns = ys->columns;
        index_t channels = rounded(outputs), taps = window->height * window->width, size = taps * inputs * channels;
        int within = finite ? p.images * p.rows * columns >= 3 * taps /* fewer do not fill tiles of the same taps */ : !zeros;
        Input input = input_of(x, xs, window, &p, columns, within);
        const float *panel = panels + job->w + p.group * size;
        float *to = y + job->y + p.image * ys->image + p.row * ys->row + p.group * outputs * ys->channel;
        if (channels == outputs && ys->channel == 1) {
            correlate_block(input, xs, window, panel, to, ys, &p, channels, within);
            continue;
        }
        float *out = scratch(1, p.images * p.rows * columns * channels);
        Images dense = {.columns = columns, .image = p.rows * columns * channels, .row = columns * channels, .column = channels};
        correlate_block(input, xs, window, panel, out, &dense, &p, channels, within);
        for (index_t i = 0; i < p.images; i++)
            for (index_t r = 0; r < p.rows; r++)
                for (index_t j = 0; j < columns; j++, out += channels)
                    for (index_t o = 0; o < outputs; o++)
                        to[i * ys->image + r * ys->row + j * ys->column + o * ys->channel] = out[o];
    }
}

/* columns[output, c, tap] = what each output sees ("im2col"); one group. */
void columns(const float *x, const index_t *x_images, float *columns, const index_t *the_job)
{
    const Images *xs = (const Images *)x_images;
    const Job *job = (const Job *)the_job;
    const Window *window = &job->window;
    index_t channels = xs->channels, taps = window->height * window->width, across = job->outputs.columns;
    PARALLEL(1)
    for (index_t b = 0; b < parts(job); b++) {
        Part p = part(b, job);
        Input input = input_of(x, xs, window, &p, across, 0);
        for (index_t i = 0; i < p.images * p.rows * across; i++) {
            index_t image = i / across / p.rows, row = i / across % p.rows, column = i % across;
            const float *corner = input.x + image * input.image + row * window->down * input.row
                                  + column * window->right * input.column;
            index_t output = ((p.image + image) * job->outputs.rows + p.row + row) * across + column;
            float *out = columns + output * channels * taps;
            for (index_t t = 0; t < taps; t++) {
                const float *in = corner + t / window->width * window->row_gap * input.row
                                  + t % window->width * window->column_gap * input.column;
                for (index_t c = 0; c < channels; c++) out[c * taps + t] = in[c];
            }
        }
    }
}

enum { PASSING = 4096 }; /* floats of g that pass by many tiles, and stay in the first cache meanwhile */

/* Outputs [first, last) along an axis. */
typedef struct { index_t first, last; } Range;

/* Those of n outputs that see the images' `length` pixels through a tap, through which the first sees the place `at`. */
static Range seeing(index_t n, index_t at, index_t step, index_t length)
{
    index_t first = at < 0 ? pieces(-at, step) : 0, last = at < length ? pieces(length - at, step) : 0;
    if (last > n) last = n;
    return (Range){first < last ? first : last, last};
}

/* Of the output channels [first, last); the sums begin at 0 or go on. What many tiles read is copied such that it lies in
   order and fills its lines of the cache: x in strips of a tile's channels, one after another, and g in panels. Pixels are in
   the order of rows, images and columns, so those whose tap lies in a row of the image are neighbours. */
static void weights_block(const float *x, const Images *xs, const Part *p, const float *g, const Images *gs,
                          const Window *window, float *sum, index_t row, index_t first, index_t last, int add)
{
    index_t outputs = gs->channels / window->groups, inputs = xs->channels / window->groups, columns = gs->columns;
    int strips = inputs >= LANES && window->height * window->width * pieces(last - first, PANEL) >= 8;
    Input in = strips ? strips_of(x, xs, window, p, columns) : input_of(x, xs, window, p, columns, 0);
    Stretch height = {.high = window->height}, width = {.high = window->width};
    int one = joined(&in, window, inputs);
    Taps taps = taps_of(&in, window, inputs, &height, &width, 0, window->height * (one ? 1 : window->width));
    Tiles tiles = tiles_of(taps.run);
    index_t all = p->images * in.image, in_row = p->images * columns, pixels = p->rows * in_row;
    index_t *from = places(2 * pixels), *to = from + pixels, seen_from[PASSING / LANES], seen_to[PASSING / LANES];
    fill_places(from, 0, window->down * in.row, in.image, window->right * in.column, p->rows, p->images, columns);
    int dense = rounded(outputs) == outputs && gs->channel == 1; /* of one panel they lie in order already */
    int panels = !dense || (taps.number * tiles.number > 4 && gs->column > PANEL);
    float *panel = panels ? scratch(1, pixels * PANEL) : NULL;
    g += p->image * gs->image + p->group * outputs * gs->channel;
    for (index_t o = first; o < last; o += PANEL) {
        index_t lanes = last - o < PANEL ? LANES : PANEL, some = PASSING / lanes;
        const float *right = panels ? panel : g + p->row * gs->row + o;
        if (panels) {
            index_t n = outputs - o < lanes ? outputs - o : lanes;
            for (index_t r = 0; r < p->rows; r++)
                copy(g + o * gs->channel, gs, p->images, p->row + r, 0, 1, columns, n, lanes, panel + r * in_row * lanes);
            fill_places(to, 0, 0, 0, lanes, 1, 1, pixels);
        } else fill_places(to, 0, gs->row, gs->image, gs->column, p->rows, p->images, columns);
        int within = 1; /* else what lies outside the images is multiplied, too */
        index_t line = panels || gs->column == lanes ? columns : 1;
        for (index_t k = 0; k < pixels; k += line) within &= all_finite(right + to[k], line * lanes);
        for (index_t k = 0; k < pixels; k += some)
            for (index_t t = 0; t < taps.number; t++) {
                index_t a = one ? t : t / window->width, b = one ? 0 : t % window->width;
                Range rows = {0, p->rows}, across = {0, columns};
                if (within)
                    rows = seeing(p->rows, window->top + p->row * window->down + a * window->row_gap, window->down, xs->rows);
                if (within && !one)
                    across = seeing(columns, window->left + b * window->column_gap, window->right, xs->columns);
                index_t begin = rows.first * in_row > k ? rows.first * in_row : k, n = 0;
                index_t end = rows.last * in_row < k + some ? rows.last * in_row : k + some;
                for (index_t i = begin / columns * columns; i < end; i += columns) {
                    index_t low = i + across.first < begin ? begin : i + across.first;
                    index_t high = i + across.last > end ? end : i + across.last;
                    for (index_t j = low; j < high; j++) seen_from[n] = from[j], seen_to[n++] = to[j];
                }
                for (index_t i = 0, c = 0, width; i < tiles.number; i++, c += width) {
                    width = width_of(&tiles, i);
                    index_t unit = strips ? width : 1;
                    const float *left = in.x + taps.offset[t] * unit + (strips ? c * all : c);
                    float *out = sum + (t * taps.run + c) * row + o;
                    outer(width, lanes, left, seen_from, unit, right, seen_to, n, out, row, add || k > 0);
                }
            }
    }
}

/* total[copy, tap, c, group, o] = sum over images, rows and pixels of x[i, what (r, p) sees, c] g[i, r, p, o], o up to a
   multiple of LANES. With one copy, threads share the output channels; otherwise each thread has its own copy, zero at
   first, and a share of the blocks, so that the rounding depends on the number of threads. */
void correlate_weights(const float *x, const index_t *x_images, const float *g, float *total, index_t copies,
                       const index_t *the_job)
{
    const Images *xs = (const Images *)x_images;
    const Job *job = (const Job *)the_job;
    const Images *gs = &job->outputs;
    const Window *window = &job->window;
    index_t channels = rounded(gs->channels / window->groups), row = window->groups * channels;
    index_t size = window->height * window->width * (xs->channels / window->groups) * row, blocks = parts(job);
    if (copies > 1) {
        PARALLEL_BY(copies, 1)
        for (index_t b = 0; b < window->groups * blocks; b++) {
            Part p = part(b, job);
            weights_block(x, xs, &p, g, gs, window, total + THREAD * size + p.group * channels, row, 0, channels, 1);
        }
        return;
    }
    index_t panels = pieces(channels, PANEL), shares = panels < threads ? panels : threads;
    PARALLEL(window->groups * shares > 1)
    for (index_t share = 0; share < window->groups * shares; share++) {
        index_t group = share / shares, k = share % shares, end = panels * (k + 1) / shares * PANEL;
        for (index_t b = 0; b < blocks; b++) {
            Part p = part(group * blocks + b, job);
            weights_block(x, xs, &p, g, gs, window, total + group * channels, row, panels * k / shares * PANEL,
                          end < channels ? end : channels, b > 0);
        }
    }
}

/* w[group, o, c, tap] = the sum of all copies of total[copy, tap, c, group, o], whose outputs are filled up to
   `channels`. */
void unpack(const float *total, index_t copies, float *w, index_t groups, index_t outputs, index_t channels, index_t inputs,
            index_t taps)
{
    index_t blocks = pieces(outputs, LANES), row = groups * channels, some = taps < MAX_TAPS ? MAX_TAPS / taps : 1;
    PARALLEL(groups * outputs * inputs * taps > 16384)
    for (index_t b = 0; b < groups * blocks; b++) {
        index_t group = b / blocks, o = b % blocks * LANES, lanes = outputs - o < LANES ? outputs - o : LANES;
        float part[MAX_TAPS * LANES], *to = w + (group * outputs + o) * inputs * taps; /* some inputs' filters, as above */
        for (index_t first = 0, n; first < inputs; first += n) {
            n = inputs - first < some ? inputs - first : some;
            for (index_t t = 0; t < taps; t++)
                for (index_t c = 0; c < n; c++) {
                    const float *from = total + (t * inputs + first + c) * row + group * channels + o;
                    float *sum = part + (c * taps + t) * LANES;
                    for (int lane = 0; lane < LANES; lane++) sum[lane] = from[lane];
                    for (index_t k = 1; k < copies; k++)
                        for (int lane = 0; lane < LANES; lane++) sum[lane] += from[k * taps * inputs * row + lane];
                }
            for (index_t lane = 0; lane < lanes; lane++)
                for (index_t i = 0; i < n * taps; i++) to[(lane * inputs + first) * taps + i] = part[i * LANES + lane];
        }
    }
}
