/* kv_layout.c - the table of the KV cache's types: names and sizes; and the scratch memory of attention. */
#include "kv_layout.h"

typedef struct kv_type_row {
    const char *name;
    uint8_t bits; /* of a number */
    uint8_t integer;
} kv_type_row;

static const kv_type_row TYPES[] = {
    [PQ_KV_F16] = {"f16", 16, 0},  [PQ_KV_Q8_0] = {"q8_0", 8, 1}, [PQ_KV_F32] = {"f32", 32, 0},
    [PQ_KV_Q4_0] = {"q4_0", 4, 1}, [PQ_KV_Q5_1] = {"q5_1", 5, 1},
};

const char *pq_kv_type_name(uint32_t type) {
    return type < sizeof TYPES / sizeof TYPES[0] ? TYPES[type].name : NULL;
}

int pq_kv_is_integer(pq_kv_type type) {
    return TYPES[type].integer;
}

size_t pq_kv_group_bytes(pq_kv_type type, size_t head_dim) {
    const kv_type_row *row = &TYPES[type];
    return PQ_KV_LANES * head_dim * row->bits / 8 + (row->integer ? pq_kv_scale_bytes(type) : 0);
}

size_t pq_kv_block_part(pq_kv_type type, size_t head_dim) {
    return PQ_KV_GROUPS * pq_kv_group_bytes(type, head_dim);
}

size_t pq_attend_scratch(size_t n) {
    (void)n;
    const pq_attend_memory m = pq_attend_lay_out(NULL);
    return (size_t)((uint8_t *)(m.x + PQ_ATTEND_TILE * PQ_MAX_HEAD_DIM) - (uint8_t *)m.w);
}
