/* kv_layout.c - sizes of the blocks of the KV cache and of the scratch memory of attention. */
#include "kv_layout.h"

/* Bytes of one position's key or value of head_dim numbers. */
static size_t position_bytes(pq_kv_type type, size_t head_dim) {
    switch (type) {
    case PQ_KV_F16:
        return head_dim * sizeof(uint16_t);
    case PQ_KV_Q8_0:
        return head_dim + head_dim / PQ_KV_SCALE_DIMS * sizeof(float);
    case PQ_KV_F32:
        break;
    }
    return head_dim * sizeof(float);
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

size_t pq_attend_scratch(size_t n) {
    const size_t rows = n < PQ_ATTEND_TILE ? n : PQ_ATTEND_TILE;
    return rows * PQ_KV_BLOCK * sizeof(float);
}
