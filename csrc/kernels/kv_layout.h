/* kv_layout.h - where a number stands in a block of the KV cache; kernels.h describes the layout. */
#ifndef PQ_KV_LAYOUT_H
#define PQ_KV_LAYOUT_H

#include "kernels.h"

enum {
    PQ_ATTEND_TILE = 12,                     /* query rows that the scratch memory has room for */
    PQ_KV_UNIT = 2 * PQ_KV_LANES,            /* numbers of a unit, and bytes of a line */
    PQ_KV_UNITS = 8,                         /* of a square */
    PQ_KV_GROUPS = PQ_KV_BLOCK / PQ_KV_LANES /* of 16 positions */
};

/* What a type is. In this header, so that it is a constant where the type is one. */
typedef struct pq_kv_facts {
    const char *name;
    uint8_t bits;       /* of a stored number */
    uint8_t is_integer; /* the rest is of these only */
    uint8_t minimum;    /* 1: there is an m */
    uint8_t
        offset; /* what stored numbers are above n: sums of products with them are too large by as much
                         * times the sum of their factors */
} pq_kv_facts;

static const pq_kv_facts PQ_KV_TYPES[] = {
    [PQ_KV_F16] = {"f16", 16, 0, 0, 0},  [PQ_KV_Q8_0] = {"q8_0", 8, 1, 0, 0},
    [PQ_KV_F32] = {"f32", 32, 0, 0, 0},  [PQ_KV_Q4_0] = {"q4_0", 4, 1, 0, 8},
    [PQ_KV_Q5_1] = {"q5_1", 5, 1, 1, 0},
};

/* Bytes of 16 neighboring keys, or of 16 values: interleaved, but for values of the float types. */
size_t pq_kv_group_bytes(pq_kv_type type, size_t head_dim);

static inline size_t pq_kv_square_bytes(pq_kv_type type) {
    return (size_t)PQ_KV_TYPES[type].bits * PQ_KV_UNIT;
}

static inline int pq_kv_has_minimum(pq_kv_type type) {
    return PQ_KV_TYPES[type].minimum;
}

/* Bytes of the numbers d and m in front of a group's squares. */
static inline size_t pq_kv_scale_bytes(pq_kv_type type) {
    return (pq_kv_has_minimum(type) ? 2 : 1) * PQ_KV_LANES * sizeof(float);
}

static inline int pq_kv_offset(pq_kv_type type) {
    return PQ_KV_TYPES[type].offset;
}

/* The scratch memory of attention for a tile, each array by rows. */
typedef struct pq_attend_memory {
    float *w; /* (rows, PQ_KV_BLOCK) scores, then weights */
    int32_t *
        sums; /* (rows, PQ_MAX_HEAD_DIM) products of integers; of keys only the first PQ_KV_BLOCK are used */
    int16_t *x; /* (rows, PQ_MAX_HEAD_DIM) query rows, then weights, as integers */
} pq_attend_memory;

static inline pq_attend_memory pq_attend_lay_out(void *scratch) {
    pq_attend_memory m = {.w = scratch};
    m.sums = (int32_t *)(m.w + PQ_ATTEND_TILE * PQ_KV_BLOCK);
    m.x = (int16_t *)(m.sums + PQ_ATTEND_TILE * PQ_MAX_HEAD_DIM);
    return m;
}

#endif
