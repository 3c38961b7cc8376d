/* types.c - the table of tensor types: names, and how many elements and bytes make a block. */
#include "types.h"

#include "../pyqwen.h"

#include <stddef.h>

typedef struct type_row {
    const char *name;
    uint16_t block; /* elements; 0: was removed from ggml before it got a layout in GGUF */
    uint16_t bytes;
    uint8_t supported;
} type_row;

/* Numbers, names and sizes as in ggml (ggml.h, ggml-common.h). */
static const type_row TYPES[] = {
    [PQ_F32] = {"F32", 1, 4, 1},
    [PQ_F16] = {"F16", 1, 2, 1},
    [PQ_Q4_0] = {"Q4_0", 32, 18, 1},
    [PQ_Q4_1] = {"Q4_1", 32, 20, 1},
    [4] = {"Q4_2", 0, 0, 0},
    [5] = {"Q4_3", 0, 0, 0},
    [PQ_Q5_0] = {"Q5_0", 32, 22, 1},
    [PQ_Q5_1] = {"Q5_1", 32, 24, 1},
    [PQ_Q8_0] = {"Q8_0", 32, 34, 1},
    [9] = {"Q8_1", 32, 36, 0},
    [PQ_Q2_K] = {"Q2_K", 256, 84, 1},
    [PQ_Q3_K] = {"Q3_K", 256, 110, 1},
    [PQ_Q4_K] = {"Q4_K", 256, 144, 1},
    [PQ_Q5_K] = {"Q5_K", 256, 176, 1},
    [PQ_Q6_K] = {"Q6_K", 256, 210, 1},
    [15] = {"Q8_K", 256, 292, 0},
    [16] = {"IQ2_XXS", 256, 66, 0},
    [17] = {"IQ2_XS", 256, 74, 0},
    [18] = {"IQ3_XXS", 256, 98, 0},
    [19] = {"IQ1_S", 256, 50, 0},
    [PQ_IQ4_NL] = {"IQ4_NL", 32, 18, 1},
    [21] = {"IQ3_S", 256, 110, 0},
    [22] = {"IQ2_S", 256, 82, 0},
    [PQ_IQ4_XS] = {"IQ4_XS", 256, 136, 1},
    [24] = {"I8", 1, 1, 0},
    [25] = {"I16", 1, 2, 0},
    [26] = {"I32", 1, 4, 0},
    [27] = {"I64", 1, 8, 0},
    [28] = {"F64", 1, 8, 0},
    [29] = {"IQ1_M", 256, 56, 0},
    [PQ_BF16] = {"BF16", 1, 2, 1},
    [31] = {"Q4_0_4_4", 32, 18, 0},
    [32] = {"Q4_0_4_8", 32, 18, 0},
    [33] = {"Q4_0_8_8", 32, 18, 0},
    [34] = {"TQ1_0", 256, 54, 0},
    [35] = {"TQ2_0", 256, 66, 0},
    [36] = {"IQ4_NL_4_4", 32, 18, 0},
    [37] = {"IQ4_NL_4_8", 32, 18, 0},
    [38] = {"IQ4_NL_8_8", 32, 18, 0},
    [39] = {"MXFP4", 32, 17, 0},
    [40] = {"NVFP4", 64, 36, 0},
    [41] = {"Q1_0", 128, 18, 0},
};

static const type_row *known(uint32_t type) {
    return type < sizeof TYPES / sizeof TYPES[0] ? &TYPES[type] : NULL;
}

static const type_row *supported(uint32_t type) {
    const type_row *row = known(type);
    return row && row->supported ? row : NULL;
}

const char *pq_type_name(uint32_t type) {
    const type_row *row = supported(type);
    return row ? row->name : NULL;
}

const char *pq_type_known_name(uint32_t type) {
    const type_row *row = known(type);
    return row ? row->name : NULL;
}

uint32_t pq_type_block(uint32_t type) {
    const type_row *row = supported(type);
    return row ? row->block : 0;
}

uint32_t pq_type_bytes(uint32_t type) {
    const type_row *row = supported(type);
    return row ? row->bytes : 0;
}

int pq_type_layout(uint32_t type, uint32_t *block, uint32_t *bytes) {
    const type_row *row = known(type);
    if (!row || row->block == 0)
        return 0;
    *block = row->block;
    *bytes = row->bytes;
    return 1;
}
