/* gemm_super.c - matrix products of the types with super-blocks of 256: Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_XS. See
 * gemm_tile.h.
 *
 * A scale for 32 columns multiplies their sum, in float32 and still exact. Scales for 16 columns are
 * multiplied into the weights, so that 32 columns make one sum here too:
 *   Q2_K  0 .. 45, a byte
 *   Q3_K  -124 .. 128, which is a byte with the sign changed
 *   Q6_K  -4,064 .. 4,096, two bytes
 */
#include "../x86_avx512vnni/vectors.h"

#include "../templates/x86/scales_super.h"
#include "gemm_tile.h"

/* 1: the sums are of values, yet without the scale of their 32 columns. */
PQ_INLINE int is_scaled_later(const uint32_t type) {
    return sub_vectors(type) == VECTORS_32;
}

PQ_INLINE size_t bytes_of(const uint32_t type) {
    return type == PQ_Q6_K ? 2 : 1;
}

#define unpacked_bytes(type) ((type) == PQ_Q6_K ? PQ_AMX_UNPACKED_TWICE : PQ_AMX_UNPACKED)

/* ------------------------------------------------------------------------------------ unpacking */

/* 16-bit products of the even or the odd bytes, signed, with their row's scale. */
PQ_INLINE pq_ints scaled_bytes(pq_ints quants, const int odd, const int offset, pq_ints scale) {
    const pq_ints q = odd ? _mm512_srli_epi16(quants, 8) : pq_and(quants, pq_all_words(255));
    return _mm512_mullo_epi16(_mm512_sub_epi16(q, pq_all_words(offset)), scale);
}

PQ_INLINE pq_ints join_bytes(pq_ints even, pq_ints odd) {
    return pq_or(pq_and(even, pq_all_words(255)), _mm512_slli_epi16(odd, 8));
}

/* Both bytes of 16-bit numbers. */
PQ_INLINE pq_ints high_byte(pq_ints x) {
    return _mm512_srai_epi16(_mm512_add_epi16(x, pq_all_words(1 << (PQ_AMX_HIGH - 1))),
                             PQ_AMX_HIGH);
}

PQ_INLINE pq_ints low_byte(pq_ints x, pq_ints high) {
    return _mm512_sub_epi16(x, _mm512_slli_epi16(high, PQ_AMX_HIGH));
}

/* One vector of a type whose scales go into the weights. */
PQ_INLINE void unpack_scaled(const uint32_t type, pq_ints quants, pq_vec factor, uint8_t *out) {
    const pq_ints one = _mm512_cvtps_epi32(factor);
    const pq_ints both = pq_or(pq_and(one, pq_all_ints(0xFFFF)), pq_left(one, 16));
    const pq_ints scale = type == PQ_Q3_K ? _mm512_sub_epi16(pq_zero(), both) : both;
    const pq_ints even = scaled_bytes(quants, 0, offset_of(type), scale);
    const pq_ints odd = scaled_bytes(quants, 1, offset_of(type), scale);
    if (bytes_of(type) == 1) {
        pq_store_ints(out, join_bytes(even, odd));
        return;
    }
    const pq_ints high_even = high_byte(even), high_odd = high_byte(odd);
    pq_store_ints(out, join_bytes(high_even, high_odd));
    pq_store_ints(out + PQ_AMX_BYTES,
                  join_bytes(low_byte(even, high_even), low_byte(odd, high_odd)));
}

/* The 32 columns 128 h + 32 s .. of all rows. */
PQ_INLINE void unpack_32(const uint32_t type, const uint8_t *group, size_t h, const int s,
                         const super_scales *scale, uint8_t *out) {
    PQ_UNROLL
    for (int j = 0; j < VECTORS_32; j++) {
        const pq_ints quants = super_quants(type, group, h, s, j);
        if (is_scaled_later(type))
            pq_store_ints(out + j * PQ_VECTOR_BYTES,
                          _mm512_sub_epi8(quants, pq_all_bytes(offset_of(type))));
        else
            unpack_scaled(type, quants, scale->factor[8 * h + 2 * (size_t)s + (size_t)(j / 4)],
                          out + j * PQ_VECTOR_BYTES);
    }
}

PQ_INLINE void unpack(const uint32_t type, const uint8_t *group, size_t blocks, uint8_t *out) {
    for (size_t first = 0; first < blocks; first += PQ_AMX_BLOCKS) {
        super_scales all;
        super_scales_of(type, group, &all);
        for (size_t h = 0; h < 2; h++)
            PQ_EACH(s, 4,
                    { unpack_32(type, group, h, s, &all, out + (4 * h + s) * PQ_AMX_QUANTS); });
        pq_amx_scales *kept = (pq_amx_scales *)(void *)(out + bytes_of(type) * PQ_AMX_BYTES);
        kept->d = all.d;
        if (has_min(type))
            kept->dmin = all.dmin;
        for (int i = 0; i < PQ_AMX_BLOCKS; i++) {
            if (is_scaled_later(type))
                kept->factor[i] = all.factor[i];
            if (has_min(type))
                kept->min[i] = pq_as_floats(all.min[i]);
        }
        group += PQ_LANES * block_bytes(type);
        out += unpacked_bytes(type);
    }
}

/* -------------------------------------------------------------------------------------- scaling */

/* The exact sum of 32 columns with their scales; of Q3_K, with the sign changed. */
PQ_INLINE pq_vec sum_of_32(const uint32_t type, const pq_amx_group *g, pq_vec factor, size_t token,
                           size_t b) {
    if (bytes_of(type) == 2) {
        const pq_ints high = pq_load_ints(g->sums->at[0][b][token]);
        const pq_ints low = pq_load_ints(g->sums->at[1][b][token]);
        return pq_to_float(_mm512_add_epi32(pq_left(high, PQ_AMX_HIGH), low));
    }
    const pq_vec sum = pq_amx_sum(g->sums, g->panel, b, token);
    return is_scaled_later(type) ? v_mul(factor, sum) : sum;
}

/* The minimum of 32 columns times their activations, added. */
PQ_INLINE pq_vec add_minimum(const uint32_t type, const pq_amx_group *g, pq_vec min, size_t at,
                             pq_vec minima) {
    if (type != PQ_Q2_K)
        return v_fma(min, v_all(g->s[at]), minima);
    const pq_ints sums = pq_broadcast(g->act_sums + 2 * at);
    const pq_vec m = pq_to_float(pq_dot_words(pq_zero(), pq_as_ints(min), sums));
    return v_fma(m, v_all(g->d[at]), minima);
}

PQ_INLINE void scale_tokens(const uint32_t type, const int n, const pq_amx_group *g, size_t token,
                            pq_vec *acc) {
    const pq_amx_scales *scales = g->scales;
    pq_vec total[PQ_EACH_MOST], minima[PQ_EACH_MOST];
    PQ_EACH(t, n, { total[t] = minima[t] = v_all(0.0f); });
    PQ_EACH(b, PQ_AMX_BLOCKS, {
        const pq_vec factor = is_scaled_later(type) ? scales->factor[b] : scales->d;
        const pq_vec min = has_min(type) ? scales->min[b] : scales->d;
        PQ_EACH(t, n, {
            const size_t at = (token + t) * (g->cols / 32) + b;
            const pq_vec sum = sum_of_32(type, g, factor, token + t, b);
            const pq_vec d = v_all(g->d[at]);
            total[t] = type == PQ_Q3_K ? v_fnma(d, sum, total[t]) : v_fma(d, sum, total[t]);
            if (has_min(type))
                minima[t] = add_minimum(type, g, min, at, minima[t]);
        });
    });
    PQ_EACH(t, n, {
        acc[t] = v_fma(scales->d, total[t], acc[t]);
        if (has_min(type))
            acc[t] = v_fnma(scales->dmin, minima[t], acc[t]);
    });
}

#include "gemm_run.h"

PQ_AMX_TYPE(q2_k, PQ_Q2_K)
PQ_AMX_TYPE(q3_k, PQ_Q3_K)
PQ_AMX_TYPE(q4_k, PQ_Q4_K)
PQ_AMX_TYPE(q5_k, PQ_Q5_K)
PQ_AMX_TYPE(q6_k, PQ_Q6_K)
PQ_AMX_TYPE(iq4_xs, PQ_IQ4_XS)
