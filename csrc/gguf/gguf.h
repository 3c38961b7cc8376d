/* gguf.h - what the core may ask of an open GGUF file, beside the functions in pyqwen.h. */
#ifndef PQ_GGUF_H
#define PQ_GGUF_H

#include "../base/status.h"

/* The first file's name without its folder, for messages. */
const char *pq_file_name(const pq_file *file);
/* The name of the file that holds the tensor. */
const char *pq_file_shard_name(const pq_file *file, const pq_tensor *tensor);

/* (tensor->bytes) inside the mapping, or NULL if the file was opened with PQ_LOAD_COPY. Aligned as
 * the file says, which is at least 8. */
const uint8_t *pq_file_tensor_map(const pq_file *file, const pq_tensor *tensor);
int pq_file_is_mapped(const pq_file *file);
/* PQ_ERR_CHANGED if a file was written to or truncated since it was opened. */
pq_status pq_file_check_unchanged(const pq_file *file, pq_error *err);
/* Two numbers that another file, and this one after a change, will not have: made from the size, the time of
 * change, the header and samples of the tensors of all shards. */
pq_status pq_file_identity(const pq_file *file, uint64_t out[2], pq_error *err);

/* Typed access to the metadata. Where the key is absent: PQ_OK and *out unchanged, or PQ_ERR_FORMAT
 * if it is required. A value of another type or outside the range is PQ_ERR_FORMAT. */

/* Any integer type whose value is in min .. max. */
pq_status pq_file_get_u32(const pq_file *file, const char *key, uint32_t min, uint32_t max,
                          uint32_t *out, int required, pq_error *err);
/* F32 or F64, finite and in min .. max. */
pq_status pq_file_get_f32(const pq_file *file, const char *key, double min, double max, float *out,
                          int required, pq_error *err);
pq_status pq_file_get_f64(const pq_file *file, const char *key, double min, double max, double *out,
                          int required, pq_error *err);
/* The text, which the file owns: `bytes` long, without a NUL at its end. */
pq_status pq_file_get_string(const pq_file *file, const char *key, const char **text,
                             uint64_t *bytes, int required, pq_error *err);
/* The same copied into dst (room), with a NUL. PQ_ERR_FORMAT if it does not fit or holds a NUL. */
pq_status pq_file_get_text(const pq_file *file, const char *key, char *dst, size_t room,
                           int required, pq_error *err);

#endif
