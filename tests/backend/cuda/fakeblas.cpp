// What `minigrad.backend.cuda.cublas` calls of libcublas, on the CPU, after its manual: matrices are stored by columns.
#include <stddef.h>

static void *set_stream, *set_workspace;
static size_t set_size;

template <class T, class Sum>
static void product(int turned_a, int turned_b, int m, int n, int k, const T* a, long lda, const T* b, long ldb, T* c,
                    long ldc) {
    for (int j = 0; j < n; j++)
        for (int i = 0; i < m; i++) {
            Sum sum = 0;
            for (int l = 0; l < k; l++)
                sum += (Sum)a[turned_a ? i * lda + l : l * lda + i] * b[turned_b ? l * ldb + j : j * ldb + l];
            c[j * ldc + i] = sum;
        }
}

extern "C" {

int cublasCreate_v2(void** handle) { *handle = (void*)0xb1a5; return 0; }

int cublasDestroy_v2(void* handle) { set_workspace = nullptr; return handle == (void*)0xb1a5 ? 0 : 1; }

int cublasSetStream_v2(void* handle, void* stream) {
    set_stream = stream, set_workspace = nullptr;  // the manual: a new stream means the library's own workspace again
    return handle == (void*)0xb1a5 ? 0 : 1;
}

int cublasSetWorkspace_v2(void* handle, void* workspace, size_t size) {
    set_workspace = workspace, set_size = size;
    return handle == (void*)0xb1a5 && (size_t)workspace % 256 == 0 ? 0 : 7;
}

void* stream() { return set_stream; }
size_t workspace() { return set_workspace ? set_size : 0; }

// 7 is CUBLAS_STATUS_INVALID_VALUE, 15 CUBLAS_STATUS_NOT_SUPPORTED.
int cublasGemmStridedBatchedEx(void* handle, int ta, int tb, int m, int n, int k, const void* alpha, const void* a, int kind_a,
                               int lda, long long stride_a, const void* b, int kind_b, int ldb, long long stride_b,
                               const void* beta, void* c, int kind_c, int ldc, long long stride_c, int count, int compute,
                               int algorithm) {
    if (handle != (void*)0xb1a5 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m || lda < 1 || ldb < 1) return 7;
    if (kind_a != kind_b || kind_b != kind_c || compute != (kind_c == 1 ? 70 : 68) || algorithm != -1) return 15;
    if (kind_c == 1 ? *(double*)alpha != 1 || *(double*)beta != 0 : *(float*)alpha != 1 || *(float*)beta != 0) return 7;
    for (int i = 0; i < count; i++) {
        if (kind_c == 1)
            product<double, double>(ta, tb, m, n, k, (double*)a + i * stride_a, lda, (double*)b + i * stride_b, ldb,
                                    (double*)c + i * stride_c, ldc);
        else if (kind_c == 0)
            product<float, float>(ta, tb, m, n, k, (float*)a + i * stride_a, lda, (float*)b + i * stride_b, ldb,
                                  (float*)c + i * stride_c, ldc);
        else if (kind_c == 2)
            product<_Float16, float>(ta, tb, m, n, k, (_Float16*)a + i * stride_a, lda, (_Float16*)b + i * stride_b, ldb,
                                     (_Float16*)c + i * stride_c, ldc);
        else
            return 15;
    }
    return 0;
}

}  // extern "C"
