// Sums over the rows of x (rows, columns): partial sums (chunks, columns), one for each run of `per_chunk` rows.
//
// A block of 32 x 8 threads works on 32 columns of one chunk. Neighbouring threads read neighbouring columns, each of the 8
// takes every eighth row, and their 8 sums are added up in shared memory. Without atomics the result is always the same.
extern "C" __global__ void column_sum(const item* x, real* sums, index_t rows, int columns, index_t per_chunk) {
    __shared__ real of_thread[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    index_t first = blockIdx.y * per_chunk, last = min(rows, first + per_chunk);
    real sum = 0;
    if (column < columns)
        for (index_t row = first + threadIdx.y; row < last; row += 8) sum += x[row * columns + column];
    of_thread[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || column >= columns) return;
    for (int k = 1; k < 8; k++) sum += of_thread[k][threadIdx.x];
    sums[(index_t)blockIdx.y * columns + column] = sum;
}

// The sum of each row of x (rows, columns). A block works on one row, its threads stride over the columns.
extern "C" __global__ void row_sum(const item* x, real* sums, int columns) {
    real sum = 0;
    for (int j = threadIdx.x; j < columns; j += blockDim.x) sum += x[(index_t)blockIdx.x * columns + j];
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
