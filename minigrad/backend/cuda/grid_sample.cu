// Bilinear sampling of x (N, C, H, W) at the points of grid (N, points, 2): y (N, C, points).
//
// A point (u, v) has -1 and 1 at the image's edges: at the centres of the border pixels if `corners`, else at their outer
// sides. Outside there are zeros, or, if `border`, the nearest pixel. One thread works on one point, for all channels.

struct Place { int low; real fraction, slope; };  // between pixels low and low + 1; the derivative of the position in u

static __device__ Place locate(real u, int size, int corners, int border) {
    real near = fmin(fmax(u, real(-4)), real(4));  // both are outside, and so is NaN
    real at = corners ? (near + 1) / 2 * (size - 1) : ((near + 1) * size - 1) / 2, slope = real(corners ? size - 1 : size) / 2;
    real least = border ? 0 : -1, most = border ? size - 1 : size;  // one pixel beyond the border all is 0
    if (near != u || !(border ? at > least : at >= least) || !(at < most)) slope = 0;
    at = fmin(fmax(at, least), most);
    real low = floor(at);
    return {(int)low, at - low, slope};
}

extern "C" __global__ void grid_sample_forward(const item* x, const item* grid, item* y, index_t n, int channels, int height,
                                               int width, int points, int corners, int border) {
    index_t i = thread_index();
    if (i >= n) return;
    Place h = locate(grid[2 * i], width, corners, border), v = locate(grid[2 * i + 1], height, corners, border);
    bool lost = isnan(real(grid[2 * i])) || isnan(real(grid[2 * i + 1]));
    for (int c = 0; c < channels; c++) {
        index_t plane = i / points * channels + c;
        real sum = 0;
        for (int k = 0; k < 4; k++) {  // the four pixels around the point
            int row = v.low + k / 2, column = h.low + k % 2;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            real weight = (k / 2 ? v.fraction : 1 - v.fraction) * (k % 2 ? h.fraction : 1 - h.fraction);
            if (weight != 0) sum += weight * x[(plane * height + row) * width + column];  // 0 hides NaN and infinity
        }
        y[plane * points + i % points] = lost ? real(NAN) : sum;
    }
}

// dx is added to (points may share pixels, so atomically); dgrid is written.
extern "C" __global__ void grid_sample_backward(const item* g, const item* x, const item* grid, real* dx, item* dgrid,
                                                index_t n, int channels, int height, int width, int points, int corners,
                                                int border) {
    index_t i = thread_index();
    if (i >= n) return;
    Place h = locate(grid[2 * i], width, corners, border), v = locate(grid[2 * i + 1], height, corners, border);
    if (isnan(real(grid[2 * i])) || isnan(real(grid[2 * i + 1]))) {  // moves no pixel
        dgrid[2 * i] = dgrid[2 * i + 1] = 0;
        return;
    }
    real du = 0, dv = 0;
    for (int c = 0; c < channels; c++) {
        index_t plane = i / points * channels + c;
        real cotangent = g[plane * points + i % points];
        for (int k = 0; k < 4; k++) {
            int row = v.low + k / 2, column = h.low + k % 2;
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            real vertical = k / 2 ? v.fraction : 1 - v.fraction, horizontal = k % 2 ? h.fraction : 1 - h.fraction;
            index_t at = (plane * height + row) * width + column;
            if (vertical * horizontal != 0) atomicAdd(dx + at, cotangent * vertical * horizontal);
            du += cotangent * x[at] * vertical * (k % 2 ? 1 : -1);
            dv += cotangent * x[at] * horizontal * (k / 2 ? 1 : -1);
        }
    }
    dgrid[2 * i] = h.slope != 0 ? du * h.slope : real(0);  // a point that stands still hides NaN and infinity
    dgrid[2 * i + 1] = v.slope != 0 ? dv * v.slope : real(0);
}
