/* gemm_block.c - matrix products of the types with blocks of 32: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL. See gemm_tile.h. */
#include "../x86_avx512vnni/vectors.h"

#include "../templates/x86/quants_block.h"
#include "gemm_tile.h"

PQ_INLINE size_t bytes_of(const uint32_t type) {
    (void)type;
    return 1;
}

#define unpacked_bytes(type) PQ_AMX_UNPACKED

PQ_INLINE void add_block(const uint32_t type, const int n, const pq_amx_group *g, size_t token,
                         size_t b, pq_vec *acc) {
    const pq_vec factor = g->scales->factor[b];
    const pq_vec min = has_min(type) ? g->scales->min[b] : factor;
    PQ_EACH(t, n, {
        const size_t at = (token + t) * (g->cols / 32) + b;
        const pq_vec d = v_mul(factor, v_all(g->d[at]));
        acc[t] = v_fma(d, pq_amx_sum(g->sums, g->panel, b, token + t), acc[t]);
        if (has_min(type))
            acc[t] = v_fma(min, v_all(g->s[at]), acc[t]);
    });
}

PQ_INLINE void scale_tokens(const uint32_t type, const int n, const pq_amx_group *g, size_t token,
                            pq_vec *acc) {
    pq_vec sum[PQ_EACH_MOST];
    PQ_EACH(t, n, { sum[t] = acc[t]; });
    if (g->blocks == PQ_AMX_BLOCKS) {
        PQ_EACH(b, PQ_AMX_BLOCKS, { add_block(type, n, g, token, b, sum); });
    } else {
        for (size_t b = 0; b < g->blocks; b++)
            add_block(type, n, g, token, b, sum);
    }
    PQ_EACH(t, n, { acc[t] = sum[t]; });
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    const pq_ints offset = pq_all_bytes(offset_of(type));
    for (size_t b = 0; b < blocks; b++) {
        const size_t i = b % PQ_AMX_BLOCKS;
        pq_amx_scales *scales = (pq_amx_scales *)(void *)(out + PQ_AMX_BLOCKS * PQ_AMX_QUANTS);
        const block_scales s = block_scales_of(type, group);
        scales->factor[i] = s.d;
        scales->min[i] = s.m;
        PQ_UNROLL
        for (int j = 0; j < 8; j++)
            pq_store_ints(out + i * PQ_AMX_QUANTS + (size_t)j * PQ_VECTOR_BYTES,
                          _mm512_sub_epi8(block_quants(type, group, j), offset));
        group += PQ_LANES * block_bytes(type);
        if (i == PQ_AMX_BLOCKS - 1)
            out = (uint8_t *)(scales + 1);
    }
}

#include "gemm_run.h"

PQ_AMX_TYPE(q4_0, PQ_Q4_0)
PQ_AMX_TYPE(q4_1, PQ_Q4_1)
PQ_AMX_TYPE(q5_0, PQ_Q5_0)
PQ_AMX_TYPE(q5_1, PQ_Q5_1)
PQ_AMX_TYPE(q8_0, PQ_Q8_0)
PQ_AMX_TYPE(iq4_nl, PQ_IQ4_NL)
