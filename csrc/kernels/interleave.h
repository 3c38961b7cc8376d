/* interleave.h - squares of units turned from rows into lanes, with the vectors that every processor of an
 * architecture has; elsewhere in plain C. Packing moves each byte of a model once, so that how fast this is
 * decides how long a model takes to load.
 */
#ifndef PQ_INTERLEAVE_H
#define PQ_INTERLEAVE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define PQ_INTERLEAVE_SSE2
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
#define PQ_INTERLEAVE_NEON
#endif

/* Units of 4 bytes: unit i of source r becomes unit r of destination i, for 4 sources and 4 destinations. The
 * sources are `src_step` bytes apart, the destinations `dst_step`. */
static inline void pq_interleave_4x4(const uint8_t *src, size_t src_step, uint8_t *dst,
                                     size_t dst_step) {
#if defined(PQ_INTERLEAVE_SSE2)
    __m128i row[4], pair[4];
    for (size_t i = 0; i < 4; i++)
        row[i] = _mm_loadu_si128((const __m128i *)(const void *)(src + i * src_step));
    pair[0] = _mm_unpacklo_epi32(row[0], row[1]);
    pair[1] = _mm_unpackhi_epi32(row[0], row[1]);
    pair[2] = _mm_unpacklo_epi32(row[2], row[3]);
    pair[3] = _mm_unpackhi_epi32(row[2], row[3]);
    for (size_t i = 0; i < 2; i++) {
        uint8_t *to = dst + 2 * i * dst_step;
        _mm_storeu_si128((__m128i *)(void *)to, _mm_unpacklo_epi64(pair[i], pair[i + 2]));
        _mm_storeu_si128((__m128i *)(void *)(to + dst_step),
                         _mm_unpackhi_epi64(pair[i], pair[i + 2]));
    }
#elif defined(PQ_INTERLEAVE_NEON)
    uint32x4_t row[4];
    for (size_t i = 0; i < 4; i++)
        row[i] = vreinterpretq_u32_u8(vld1q_u8(src + i * src_step));
    const uint32x4x2_t even = vtrnq_u32(row[0], row[1]), odd = vtrnq_u32(row[2], row[3]);
    for (size_t i = 0; i < 2; i++) {
        const uint32x4_t a = even.val[i], b = odd.val[i];
        vst1q_u8(dst + i * dst_step,
                 vreinterpretq_u8_u32(vcombine_u32(vget_low_u32(a), vget_low_u32(b))));
        vst1q_u8(dst + (i + 2) * dst_step,
                 vreinterpretq_u8_u32(vcombine_u32(vget_high_u32(a), vget_high_u32(b))));
    }
#else
    for (size_t i = 0; i < 4; i++)
        for (size_t r = 0; r < 4; r++)
            memcpy(dst + i * dst_step + 4 * r, src + r * src_step + 4 * i, 4);
#endif
}

/* Units of 2 bytes: the same for 8 sources and 8 destinations. */
static inline void pq_interleave_8x8(const uint8_t *src, size_t src_step, uint8_t *dst,
                                     size_t dst_step) {
#if defined(PQ_INTERLEAVE_SSE2)
    __m128i a[8], b[8];
    for (size_t i = 0; i < 8; i++)
        a[i] = _mm_loadu_si128((const __m128i *)(const void *)(src + i * src_step));
    for (size_t i = 0; i < 4; i++) {
        b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
    }
    for (size_t half = 0; half < 2; half++) { /* rows 0 .. 3, then 4 .. 7: columns in pairs */
        const __m128i *from = b + 4 * half;
        a[4 * half] = _mm_unpacklo_epi32(from[0], from[2]);
        a[4 * half + 1] = _mm_unpackhi_epi32(from[0], from[2]);
        a[4 * half + 2] = _mm_unpacklo_epi32(from[1], from[3]);
        a[4 * half + 3] = _mm_unpackhi_epi32(from[1], from[3]);
    }
    for (size_t i = 0; i < 4; i++) {
        uint8_t *to = dst + 2 * i * dst_step;
        _mm_storeu_si128((__m128i *)(void *)to, _mm_unpacklo_epi64(a[i], a[i + 4]));
        _mm_storeu_si128((__m128i *)(void *)(to + dst_step), _mm_unpackhi_epi64(a[i], a[i + 4]));
    }
#else
    for (size_t i = 0; i < 8; i++)
        for (size_t r = 0; r < 8; r++)
            memcpy(dst + i * dst_step + 2 * r, src + r * src_step + 2 * i, 2);
#endif
}

#endif
