/* attention.c - pq_test_attention: the attention kernels driven as the model drives
 * them, over a cache of one layer that is built here and thrown away. */
#include "../kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/status.h"
#include "../pyqwen_test.h"

enum { TOKENS_AT_ONCE = 32 };

typedef struct shape {
    pq_kv_type key_type, value_type;
    size_t heads, kv_heads, head_dim;
    size_t queries, keys;
} shape;

/* Memory of one KV head and up to TOKENS_AT_ONCE tokens; carved from one allocation. */
typedef struct workspace {
    uint8_t *key_blocks, *value_blocks;
    float *scratch;
    float *q, *block_out, *out; /* (rows, head_dim) */
    pq_softmax *block_state, *state;
    uint32_t *visible;
} workspace;

static size_t blocks_of(const shape *s) {
    return (s->keys + PQ_KV_BLOCK - 1) / PQ_KV_BLOCK;
}

static size_t rows_at_most(const shape *s) {
    return s->heads / s->kv_heads * TOKENS_AT_ONCE;
}

/* Hands out the next `bytes` of the allocation, or only counts them while base is NULL. */
static void *carve(uint8_t *base, size_t *used, size_t bytes) {
    void *at = base ? base + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return at;
}

static size_t lay_out(workspace *w, const shape *s, uint8_t *base) {
    const size_t rows = rows_at_most(s), row_bytes = s->head_dim * sizeof(float);
    size_t used = 0;
    w->key_blocks = carve(base, &used, blocks_of(s) * pq_kv_block_part(s->key_type, s->head_dim));
    w->value_blocks =
        carve(base, &used, blocks_of(s) * pq_kv_block_part(s->value_type, s->head_dim));
    w->scratch = carve(base, &used, pq_attend_scratch(rows));
    w->q = carve(base, &used, rows * row_bytes);
    w->block_out = carve(base, &used, rows * row_bytes);
    w->out = carve(base, &used, rows * row_bytes);
    w->block_state = carve(base, &used, rows * sizeof(pq_softmax));
    w->state = carve(base, &used, rows * sizeof(pq_softmax));
    w->visible = carve(base, &used, rows * sizeof(uint32_t));
    return used;
}

static void fill_cache(const pq_kernels *kernels, const shape *s, size_t kv_head, const float *k,
                       const float *v, const workspace *w) {
    const size_t key_bytes = pq_kv_block_part(s->key_type, s->head_dim);
    const size_t value_bytes = pq_kv_block_part(s->value_type, s->head_dim);
    memset(w->key_blocks, 0, blocks_of(s) * key_bytes);
    memset(w->value_blocks, 0, blocks_of(s) * value_bytes);
    for (size_t j = 0; j < s->keys; j++) {
        const size_t block = j / PQ_KV_BLOCK, at = (j * s->kv_heads + kv_head) * s->head_dim;
        kernels->kv_store_key(s->key_type, s->head_dim, j % PQ_KV_BLOCK, k + at,
                              w->key_blocks + block * key_bytes);
        kernels->kv_store_value(s->value_type, s->head_dim, j % PQ_KV_BLOCK, v + at,
                                w->value_blocks + block * value_bytes);
    }
}

/* The tokens first .. first + n - 1 against every block they see. Rows are ordered by token, then
 * head, so that those which see a block are the last ones. */
static void attend_tokens(const pq_kernels *kernels, const shape *s, size_t kv_head, const float *q,
                          size_t first, size_t n, const workspace *w, float *out) {
    const size_t group = s->heads / s->kv_heads, dim = s->head_dim, rows = n * group;
    const size_t first_position = s->keys - s->queries + first;
    const size_t key_bytes = pq_kv_block_part(s->key_type, dim);
    const float scale = 1.0f / sqrtf((float)dim);
    for (size_t r = 0; r < rows; r++) {
        const size_t head = kv_head * group + r % group, token = first + r / group;
        for (size_t d = 0; d < dim; d++)
            w->q[r * dim + d] = q[(token * s->heads + head) * dim + d] * scale;
        w->state[r] = (pq_softmax){.max = -INFINITY};
    }
    for (size_t block = 0; block * PQ_KV_BLOCK < first_position + n; block++) {
        const size_t start = block * PQ_KV_BLOCK;
        const size_t blind = start > first_position ? (start - first_position) * group : 0;
        for (size_t r = blind; r < rows; r++) {
            const size_t seen = first_position + r / group + 1 - start;
            w->visible[r] = (uint32_t)(seen < PQ_KV_BLOCK ? seen : PQ_KV_BLOCK);
        }
        const uint8_t *keys = w->key_blocks + block * key_bytes;
        const pq_kv_view view = {
            .key_type = s->key_type,
            .value_type = s->value_type,
            .head_dim = dim,
            .keys = keys,
            .values = w->value_blocks + block * pq_kv_block_part(s->value_type, dim),
            .next_keys = start + PQ_KV_BLOCK < first_position + n ? keys + key_bytes : NULL};
        kernels->attend(&view, w->q + blind * dim, dim, rows - blind, w->visible + blind,
                        w->block_state + blind, w->block_out + blind * dim, dim, w->scratch);
        for (size_t r = blind; r < rows; r++)
            kernels->attend_merge(dim, &w->state[r], w->out + r * dim, &w->block_state[r],
                                  w->block_out + r * dim);
    }
    for (size_t r = 0; r < rows; r++) {
        const size_t head = kv_head * group + r % group, token = first + r / group;
        const float inverse = 1.0f / w->state[r].sum;
        for (size_t d = 0; d < dim; d++)
            out[(token * s->heads + head) * dim + d] = w->out[r * dim + d] * inverse;
    }
}

static pq_status check_shape(const shape *s, pq_error *err) {
    if (!pq_kv_type_name((uint32_t)s->key_type) || !pq_kv_type_name((uint32_t)s->value_type))
        return pq_fail(err, PQ_ERR_ARGUMENT, "there are no cache types %d, %d", (int)s->key_type,
                       (int)s->value_type);
    if (s->head_dim == 0 || s->head_dim % 32 || s->head_dim > PQ_MAX_HEAD_DIM)
        return pq_fail(err, PQ_ERR_ARGUMENT, "head_dim %u is not a multiple of 32 up to %d",
                       (unsigned)s->head_dim, PQ_MAX_HEAD_DIM);
    if (s->kv_heads == 0 || s->heads == 0 || s->heads % s->kv_heads || s->heads > 1024)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u heads cannot share %u KV heads evenly",
                       (unsigned)s->heads, (unsigned)s->kv_heads);
    if (s->queries == 0 || s->keys < s->queries || s->keys > 1u << 24)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u queries cannot be the last of %u keys",
                       (unsigned)s->queries, (unsigned)s->keys);
    return PQ_OK;
}

pq_status pq_test_attention(const char *isa, pq_kv_type key_type, pq_kv_type value_type,
                            uint32_t heads, uint32_t kv_heads, uint32_t head_dim, const float *q,
                            uint32_t queries, const float *k, const float *v, uint32_t keys,
                            float *out, pq_error *err) {
    const shape s = {key_type, value_type, heads, kv_heads, head_dim, queries, keys};
    const pq_kernels *kernels;
    pq_status status = pq_kernels_select(&kernels, isa, err);
    if (status == PQ_OK)
        status = check_shape(&s, err);
    if (status != PQ_OK)
        return status;

    workspace w;
    const size_t bytes = lay_out(&w, &s, NULL) + 63;
    uint8_t *memory = malloc(bytes);
    if (!memory)
        return pq_fail_memory(err, "attention", bytes);
    lay_out(&w, &s, memory + (64 - (uintptr_t)memory % 64) % 64);
    for (size_t kv_head = 0; kv_head < kv_heads; kv_head++) {
        fill_cache(kernels, &s, kv_head, k, v, &w);
        for (size_t first = 0; first < queries; first += TOKENS_AT_ONCE) {
            const size_t left = queries - first;
            attend_tokens(kernels, &s, kv_head, q, first,
                          left < TOKENS_AT_ONCE ? left : TOKENS_AT_ONCE, &w, out);
        }
    }
    free(memory);
    return PQ_OK;
}
