/* pyqwen_test.h - single kernels, for tests and benchmarks: what csrc/testing holds.
 *
 * No library that users get has these functions. Builds with -DPYQWEN_TEST_EXTENSION=ON reach them from Python as
 * pyqwen._ffi_test, which holds a core of its own. The rules of pyqwen.h hold.
 */
#ifndef PYQWEN_TEST_H
#define PYQWEN_TEST_H

#include "pyqwen.h"

/* y (n, rows) = x (n, cols) times the transpose of w (rows, cols), w in `type`'s file format: packed,
 * activations quantized and multiplied exactly as a model does with that isa (NULL: best). */
pq_status pq_test_matmul(const char *isa, int exact, uint32_t type, const void *w, size_t rows,
                         size_t cols, const float *x, size_t n, float *y, uint32_t threads,
                         pq_error *err);
/* The same product `rounds` times, each over `copies` copies of w one after the other (enough of them
 * exceed the caches, as in decoding): seconds[i] (rounds) is what round i took, without packing and
 * quantizing. */
pq_status pq_time_matmul(const char *isa, int exact, uint32_t type, const void *w, size_t rows,
                         size_t cols, size_t copies, const float *x, size_t n, uint32_t threads,
                         uint32_t rounds, double *seconds, pq_error *err);
/* Packs w for that isa and takes it apart again into `out`, which must come out equal to w. */
pq_status pq_test_repack(const char *isa, uint32_t type, const void *w, size_t rows, size_t cols,
                         void *out, pq_error *err);
/* The quantization of one row of activations in blocks of 32: q (n), d (n / 32), sums (n / 16) and
 * s (n / 32), d times the sum of the block. */
pq_status pq_test_quantize_activations(const char *isa, const float *x, size_t n, int8_t *q,
                                       float *d, int16_t *sums, float *s, pq_error *err);
/* Attention of `queries` rows (queries, heads, head_dim), the last of which stands at position
 * `keys` - 1, over k and v (keys, kv_heads, head_dim) through a cache of these types; out like q. Nothing is
 * transformed or centered. */
pq_status pq_test_attention(const char *isa, pq_kv_type key_type, pq_kv_type value_type,
                            uint32_t heads, uint32_t kv_heads, uint32_t head_dim, const float *q,
                            uint32_t queries, const float *k, const float *v, uint32_t keys,
                            float *out, pq_error *err);
/* One vector kernel by name on a (n), b (n) -> out: "rms_norm" (b: weights), "silu_mul", "add", "exp",
 * "rope_neox", "rope_pairs" (b: n/2 cosines, n/2 sines), "f16" (round trip), "logsumexp" (out: 1). */
pq_status pq_test_vector(const char *isa, const char *kernel, const float *a, const float *b,
                         size_t n, float *out, pq_error *err);

#endif
