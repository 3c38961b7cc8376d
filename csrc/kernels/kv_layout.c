/* kv_layout.c - the table of the KV cache's types: names and sizes; and the scratch memory of attention. */
#include "kv_layout.h"

#include <string.h>

#include "../base/checksum.h"

typedef struct kv_type_row {
    const char *name;
    uint8_t number_bytes;
    uint8_t scales; /* 1: PQ_KV_SCALE_DIMS neighbors share a float32 */
} kv_type_row;

static const kv_type_row TYPES[] = {
    [PQ_KV_F16] = {"f16", 2, 0},
    [PQ_KV_Q8_0] = {"q8_0", 1, 1},
    [PQ_KV_F32] = {"f32", 4, 0},
};

const char *pq_kv_type_name(uint32_t type) {
    return type < sizeof TYPES / sizeof TYPES[0] ? TYPES[type].name : NULL;
}

/* Bytes of one position's key or value of head_dim numbers. */
static size_t position_bytes(pq_kv_type type, size_t head_dim) {
    const kv_type_row *row = &TYPES[type];
    const size_t scales = row->scales ? head_dim / PQ_KV_SCALE_DIMS : 0;
    return head_dim * row->number_bytes + scales * sizeof(float);
}

size_t pq_kv_value_row_bytes(pq_kv_type type, size_t head_dim) {
    return position_bytes(type, head_dim);
}

size_t pq_kv_key_group_bytes(pq_kv_type type, size_t head_dim) {
    return PQ_KV_LANES * position_bytes(type, head_dim);
}

size_t pq_kv_key_bytes(pq_kv_type type, size_t head_dim) {
    return PQ_KV_BLOCK * position_bytes(type, head_dim);
}

size_t pq_kv_value_bytes(pq_kv_type type, size_t head_dim) {
    return PQ_KV_BLOCK * position_bytes(type, head_dim);
}

uint64_t pq_kv_layout_id(pq_kv_type type, size_t head_dim) {
    const uint64_t facts[] = {PQ_KV_LAYOUT_VERSION,
                              PQ_KV_BLOCK,
                              PQ_KV_LANES,
                              head_dim,
                              pq_kv_key_bytes(type, head_dim),
                              pq_kv_value_bytes(type, head_dim)};
    const char *name = pq_kv_type_name(type);
    return pq_checksum(pq_checksum(0, name, strlen(name)), facts, sizeof facts);
}

size_t pq_attend_scratch(size_t n) {
    const size_t rows = n < PQ_ATTEND_TILE ? n : PQ_ATTEND_TILE;
    return rows * PQ_KV_BLOCK * sizeof(float);
}
