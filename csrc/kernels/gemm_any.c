/* gemm_any.c - the matrix product of a type that an instruction set has no kernel for: rows leave their panel and meet
 * the scalar kernel. So a new type runs everywhere at once, with the same bits. */
#include "gemm_any.h"

#include "scalar/scalar.h"

PQ_GEMM_HEAD(pq_gemm_any) {
    if (w->lanes == 1) {
        pq_gemm_scalar(w, panel0, panel1, x, token0, token1, y, y_stride, scratch);
        return;
    }
    const size_t first = panel0 * w->lanes, last = panel1 * w->lanes;
    for (size_t row = first; row < last && row < w->rows; row++) {
        pq_unpack_row(w, row, scratch);
        const pq_matrix one = {
            .type = w->type, .lanes = 1, .rows = 1, .cols = w->cols, .data = scratch};
        pq_gemm_scalar(&one, 0, 1, x, token0, token1, y + row, y_stride, NULL);
    }
}

pq_gemm_fn pq_gemm_for(const pq_kernels *kernels, uint32_t type) {
    return kernels->gemm[type] ? kernels->gemm[type] : pq_gemm_any;
}
