/* f16.h - IEEE 754 binary16 to and from float32, in integer arithmetic: exact, no hardware needed.
 *
 * Rounds to nearest even; overflow is infinity; a NaN stays one, made quiet, with the upper bits of
 * its payload (as the F16C instructions do).
 */
#ifndef PQ_F16_H
#define PQ_F16_H

#include <stdint.h>
#include <string.h>

static inline float pq_f16_to_f32(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t magnitude = h & 0x7FFF;
    uint32_t bits;
    if (magnitude >= 0x7C00) { /* infinity, NaN */
        bits = 0x7F800000 | (magnitude & 0x3FF) << 13;
        bits |= magnitude > 0x7C00 ? 0x400000 : 0;
    } else if (magnitude >= 0x400) {
        bits = (magnitude << 13) + ((127 - 15) << 23);
    } else { /* zero, subnormal: an integer times 2^-24 */
        const float value = (float)magnitude * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    }
    bits |= sign;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline uint16_t pq_f32_to_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7FFFFFFF;
    uint32_t half;
    if (magnitude > 0x7F800000) { /* NaN */
        half = 0x7E00 | (magnitude >> 13 & 0x3FF);
    } else if (magnitude >= 0x477FF000) { /* rounds to 2^16 or more */
        half = 0x7C00;
    } else if (magnitude >= 0x38800000) { /* normal: the carry of rounding runs into the exponent */
        const uint32_t rebiased = magnitude - ((127 - 15) << 23);
        half = (rebiased + 0xFFF + (rebiased >> 13 & 1)) >> 13;
    } else { /* subnormal: 0.5f has units of 2^-24 in its last place, so the addition rounds */
        float value;
        memcpy(&value, &magnitude, sizeof value);
        value += 0.5f;
        memcpy(&half, &value, sizeof half);
        half -= 0x3F000000;
    }
    return (uint16_t)(sign | half);
}

#endif
