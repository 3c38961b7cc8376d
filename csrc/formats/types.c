/* types.c - the table of tensor types, and what is known of those that are not supported. */
#include "types.h"

#include "../pyqwen.h"
#include "format.h"

extern const pq_format pq_format_f32, pq_format_f16, pq_format_bf16;
extern const pq_format pq_format_q4_0, pq_format_q4_1, pq_format_q5_0, pq_format_q5_1;
extern const pq_format pq_format_q8_0, pq_format_iq4_nl;
extern const pq_format pq_format_q2_k, pq_format_q3_k, pq_format_q4_k, pq_format_q5_k;
extern const pq_format pq_format_q6_k, pq_format_iq4_xs;

/* Numbers, names and sizes as in ggml (ggml.h, ggml-common.h). */
static const pq_format *const FORMATS[PQ_TYPE_COUNT] = {
    [PQ_F32] = &pq_format_f32,   [PQ_F16] = &pq_format_f16,   [PQ_BF16] = &pq_format_bf16,
    [PQ_Q4_0] = &pq_format_q4_0, [PQ_Q4_1] = &pq_format_q4_1, [PQ_Q5_0] = &pq_format_q5_0,
    [PQ_Q5_1] = &pq_format_q5_1, [PQ_Q8_0] = &pq_format_q8_0, [PQ_IQ4_NL] = &pq_format_iq4_nl,
    [PQ_Q2_K] = &pq_format_q2_k, [PQ_Q3_K] = &pq_format_q3_k, [PQ_Q4_K] = &pq_format_q4_k,
    [PQ_Q5_K] = &pq_format_q5_k, [PQ_Q6_K] = &pq_format_q6_k, [PQ_IQ4_XS] = &pq_format_iq4_xs,
};

static const struct {
    const char *name;
    uint16_t block, bytes; /* 0: was removed from ggml before it got a layout in GGUF */
} UNSUPPORTED[] = {
    [4] = {"Q4_2", 0, 0},          [5] = {"Q4_3", 0, 0},          [9] = {"Q8_1", 32, 36},
    [15] = {"Q8_K", 256, 292},     [16] = {"IQ2_XXS", 256, 66},   [17] = {"IQ2_XS", 256, 74},
    [18] = {"IQ3_XXS", 256, 98},   [19] = {"IQ1_S", 256, 50},     [21] = {"IQ3_S", 256, 110},
    [22] = {"IQ2_S", 256, 82},     [24] = {"I8", 1, 1},           [25] = {"I16", 1, 2},
    [26] = {"I32", 1, 4},          [27] = {"I64", 1, 8},          [28] = {"F64", 1, 8},
    [29] = {"IQ1_M", 256, 56},     [31] = {"Q4_0_4_4", 32, 18},   [32] = {"Q4_0_4_8", 32, 18},
    [33] = {"Q4_0_8_8", 32, 18},   [34] = {"TQ1_0", 256, 54},     [35] = {"TQ2_0", 256, 66},
    [36] = {"IQ4_NL_4_4", 32, 18}, [37] = {"IQ4_NL_4_8", 32, 18}, [38] = {"IQ4_NL_8_8", 32, 18},
    [39] = {"MXFP4", 32, 17},      [40] = {"NVFP4", 64, 36},      [41] = {"Q1_0", 128, 18},
};

enum { KNOWN = sizeof UNSUPPORTED / sizeof UNSUPPORTED[0] };

const pq_format *pq_type_format(uint32_t type) {
    return type < PQ_TYPE_COUNT ? FORMATS[type] : NULL;
}

pq_family pq_type_family(uint32_t type) {
    const pq_format *format = pq_type_format(type);
    return format ? format->family : PQ_FAMILY_FLOAT;
}

const char *pq_type_name(uint32_t type) {
    const pq_format *format = pq_type_format(type);
    return format ? format->name : NULL;
}

const char *pq_type_known_name(uint32_t type) {
    const char *name = pq_type_name(type);
    return name ? name : type < KNOWN ? UNSUPPORTED[type].name : NULL;
}

uint32_t pq_type_block(uint32_t type) {
    const pq_format *format = pq_type_format(type);
    return format ? format->block : 0;
}

uint32_t pq_type_bytes(uint32_t type) {
    const pq_format *format = pq_type_format(type);
    return format ? format->bytes : 0;
}

int pq_type_layout(uint32_t type, uint32_t *block, uint32_t *bytes) {
    const pq_format *format = pq_type_format(type);
    if (!format && (type >= KNOWN || UNSUPPORTED[type].block == 0))
        return 0;
    *block = format ? format->block : UNSUPPORTED[type].block;
    *bytes = format ? format->bytes : UNSUPPORTED[type].bytes;
    return 1;
}
