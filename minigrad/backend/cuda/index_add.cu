// out[index[i], :] += updates[i, :], the gradient of taking rows (an embedding). out (rows, columns), index (n,), updates
// (n, columns). A thread works on one element of the updates. Rows may repeat, so the additions are atomic and their order,
// and with it the last bits of the sum, differ from run to run. A negative index counts from the end; one outside the rows
// is skipped, as nothing could be added there.
extern "C" __global__ void index_add(real* out, const index_t* index, const item* updates, index_t n, int columns,
                                     index_t rows) {
    index_t i = thread_index();
    if (i >= n * columns) return;
    index_t row = index[i / columns];
    if (row < 0) row += rows;
    if (row >= 0 && row < rows) atomicAdd(out + row * columns + i % columns, real(updates[i]));
}
