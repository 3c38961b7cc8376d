/* kv_layout.c - names and sizes of the KV cache's types; and the scratch memory of attention. */
#include "kv_layout.h"

const char *pq_kv_type_name(uint32_t type) {
    return type < sizeof PQ_KV_TYPES / sizeof PQ_KV_TYPES[0] ? PQ_KV_TYPES[type].name : NULL;
}

int pq_kv_is_integer(pq_kv_type type) {
    return PQ_KV_TYPES[type].is_integer;
}

size_t pq_kv_group_bytes(pq_kv_type type, size_t head_dim) {
    const pq_kv_facts *facts = &PQ_KV_TYPES[type];
    return PQ_KV_LANES * head_dim * facts->bits / 8 +
           (facts->is_integer ? pq_kv_scale_bytes(type) : 0);
}

size_t pq_kv_block_part(pq_kv_type type, size_t head_dim) {
    return PQ_KV_GROUPS * pq_kv_group_bytes(type, head_dim);
}

size_t pq_attend_scratch(size_t n) {
    (void)n;
    return PQ_ATTEND_TILE *
           (PQ_KV_BLOCK * sizeof(float) + PQ_MAX_HEAD_DIM * (sizeof(int32_t) + sizeof(int16_t)));
}
