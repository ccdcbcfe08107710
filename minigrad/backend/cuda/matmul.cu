// The matrix product c = x y for a batch of matrices: x (batch, m, k), y (batch, k, n), c (batch, m, n).
//
// For captured steps where cuBLAS is not to be had; it is faster. x and y are read through their strides (in
// elements; 0 along the batch repeats one matrix), so transposed ones need no copy.
//
// A block of 256 threads works on a TILE x TILE tile of c, blockIdx.x = (batch * (tiles of rows) + tile of rows) * (tiles of
// columns) + tile of columns: only the first axis of a grid has more than 65,535 blocks. It walks along k in slices of DEEP,
// which lie in shared memory; a thread keeps every 16th row and column of the tile in registers, so each number that it reads
// from shared memory enters EACH products.

constexpr int TILE = 64, DEEP = 16, EACH = TILE / 16;

// Rows first ... first + TILE - 1 and columns start ... start + DEEP - 1 of a matrix, zeros beyond its end. Neighbouring
// threads take neighbours in memory, be they of one row or of one column.
static __device__ void load(real (*slice)[TILE + 1], const item* matrix, int first, int start, int rows, int columns,
                            index_t row_stride, index_t column_stride) {
    for (int e = threadIdx.x; e < TILE * DEEP; e += blockDim.x) {
        int i = column_stride == 1 ? e / DEEP : e % TILE, j = column_stride == 1 ? e % DEEP : e / TILE;
        bool inside = first + i < rows && start + j < columns;
        slice[j][i] = inside ? matrix[(first + i) * row_stride + (start + j) * column_stride] : real(0);
    }
}

extern "C" __global__ void matmul(const item* x, const item* y, item* c, int m, int k, int n, index_t x_batch,
                                  index_t x_row, index_t x_column, index_t y_batch, index_t y_row, index_t y_column) {
    __shared__ real x_slice[DEEP][TILE + 1], y_slice[DEEP][TILE + 1];  // one column of padding: other banks
    int down = (m + TILE - 1) / TILE, across = (n + TILE - 1) / TILE, batch = blockIdx.x / across / down;  // tiles
    int top = blockIdx.x / across % down * TILE, left = blockIdx.x % across * TILE;
    int row = threadIdx.x / 16, column = threadIdx.x % 16;
    real sums[EACH][EACH] = {};
    for (int start = 0; start < k; start += DEEP) {
        load(x_slice, x + batch * x_batch, top, start, m, k, x_row, x_column);
        load(y_slice, y + batch * y_batch, left, start, n, k, y_column, y_row);  // y transposed
        __syncthreads();
        for (int d = 0; d < DEEP; d++)
            for (int a = 0; a < EACH; a++)
                for (int b = 0; b < EACH; b++) sums[a][b] += x_slice[d][row + 16 * a] * y_slice[d][column + 16 * b];
        __syncthreads();
    }
    for (int a = 0; a < EACH; a++)
        for (int b = 0; b < EACH; b++) {
            int i = top + row + 16 * a, j = left + column + 16 * b;
            if (i < m && j < n) c[((index_t)batch * m + i) * n + j] = sums[a][b];
        }
}
