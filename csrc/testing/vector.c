/* vector.c - pq_test_vector: the vector kernels by name. */
#include "../kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

#include "../base/status.h"
#include "../pyqwen_test.h"

static const float TEST_EPS = 1e-6f;

static pq_status round_trip_f16(const pq_kernels *kernels, const float *a, size_t n, float *out,
                                pq_error *err) {
    uint16_t *half = malloc(n * sizeof *half);
    if (!half)
        return pq_fail_memory(err, "float16", n * sizeof *half);
    kernels->to_f16(a, n, half);
    kernels->from_f16(half, n, out);
    free(half);
    return PQ_OK;
}

pq_status pq_test_vector(const char *isa, const char *kernel, const float *a, const float *b,
                         size_t n, float *out, pq_error *err) {
    const pq_kernels *kernels;
    const pq_status status = pq_kernels_select(&kernels, isa, err);
    if (status != PQ_OK)
        return status;
    if (n == 0)
        return pq_fail(err, PQ_ERR_ARGUMENT, "n must be at least 1");

    if (strcmp(kernel, "exp") == 0) {
        kernels->exp(a, n, out);
    } else if (strcmp(kernel, "f16") == 0) {
        return round_trip_f16(kernels, a, n, out, err);
    } else if (strcmp(kernel, "logsumexp") == 0) {
        *out = kernels->logsumexp(a, n);
    } else if (strcmp(kernel, "silu_mul") == 0) {
        kernels->silu_mul(a, b, n, out);
    } else if (strcmp(kernel, "rms_norm") == 0) {
        if (n % 16)
            return pq_fail(err, PQ_ERR_ARGUMENT, "rms_norm: n must be a multiple of 16");
        kernels->rms_norm(a, b, TEST_EPS, n, out);
    } else if (strcmp(kernel, "add") == 0) {
        memcpy(out, a, n * sizeof *out);
        kernels->add(b, n, out);
    } else if (strcmp(kernel, "rope_neox") == 0 || strcmp(kernel, "rope_pairs") == 0) {
        if (n % 2)
            return pq_fail(err, PQ_ERR_ARGUMENT, "%s: n must be even", kernel);
        memcpy(out, a, n * sizeof *out);
        kernels->rope(out, b, b + n / 2, n, strcmp(kernel, "rope_neox") == 0, 1.0f);
    } else {
        return pq_fail(err, PQ_ERR_ARGUMENT, "unknown vector kernel '%.40s'", kernel);
    }
    return PQ_OK;
}
