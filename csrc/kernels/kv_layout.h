/* kv_layout.h - where a number stands in a block of the KV cache; kernels.h describes the layout. */
#ifndef PQ_KV_LAYOUT_H
#define PQ_KV_LAYOUT_H

#include "kernels.h"

/* Changes whenever the same positions would be stored as other bytes. */
enum { PQ_KV_LAYOUT_VERSION = 1 };

enum {
    PQ_KV_SCALE_DIMS = 32, /* dimensions that share a scale in an int8 cache */
    PQ_ATTEND_TILE = 12    /* query rows whose scores are in the scratch memory at once */
};

/* Bytes of 16 interleaved keys, and of one position's value. */
size_t pq_kv_key_group_bytes(pq_kv_type type, size_t head_dim);
size_t pq_kv_value_row_bytes(pq_kv_type type, size_t head_dim);

/* A number for the layout of blocks of this type and head size: equal ones hold the same bytes. */
uint64_t pq_kv_layout_id(pq_kv_type type, size_t head_dim);

#endif
