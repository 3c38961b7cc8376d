/* super_scales.h - which of an instruction set's functions takes the scales of a type's super-blocks apart.
 *
 * Included behind these functions, scales_q2_k and its like, and their super_scales. */
#ifndef PQ_TEMPLATES_SUPER_SCALES_H
#define PQ_TEMPLATES_SUPER_SCALES_H

PQ_INLINE void super_scales_of(const uint32_t type, const uint8_t *group, super_scales *out) {
    switch (type) {
    case PQ_Q2_K:
        scales_q2_k(group, out);
        break;
    case PQ_Q3_K:
        scales_q3_k(group, out);
        break;
    case PQ_Q4_K:
    case PQ_Q5_K:
        scales_q4_k(group, out);
        break;
    case PQ_Q6_K:
        scales_q6_k(group, out);
        break;
    default:
        scales_iq4_xs(group, out);
        break;
    }
}

#endif
