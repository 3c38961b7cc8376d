/* quantize_row.c - see quantize_row.h: plain numbers are rounded, everything else goes block by block. */
#include "quantize_row.h"

#include <math.h>
#include <string.h>

#include "../formats/format.h"
#include "../formats/f16.h"
#include "../formats/types.h"
#include "../pyqwen_quantize.h"

/* ------------------------------------------------------------------------------------ plain numbers */

static void to_f16(const float *x, size_t n, uint8_t *dst) {
    for (size_t i = 0; i < n; i++, dst += 2) {
        const uint16_t h = pq_f32_to_f16(x[i]);
        dst[0] = (uint8_t)h;
        dst[1] = (uint8_t)(h >> 8);
    }
}

/* Rounds the lower half of the float32 away, to nearest even. */
static void to_bf16(const float *x, size_t n, uint8_t *dst) {
    for (size_t i = 0; i < n; i++, dst += 2) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits += 0x7FFF + (bits >> 16 & 1);
        dst[0] = (uint8_t)(bits >> 16);
        dst[1] = (uint8_t)(bits >> 24);
    }
}

float pq_quantizer_limit(uint32_t type) {
    if (type == PQ_F32)
        return 0x1.fffffep127f;
    if (type == PQ_BF16)
        return 0x1.fep127f;
    return 65504.0f; /* of f16; scales are that, too */
}

/* ------------------------------------------------------------------------------- weights of errors */

static float mean_square(const float *x, size_t n) {
    float lane[32] = {0};
    double sum = 0.0;
    for (size_t i = 0; i < n; i += 32) {
        for (size_t j = 0; j < 32; j++)
            lane[j] += x[i + j] * x[i + j];
    }
    for (size_t j = 0; j < 32; j++)
        sum += lane[j];
    return (float)(sum / (double)n);
}

/* How much the squared error of each weight counts, where there are importances:
 * importance * sqrt(2 s + x^2), s the row's mean square, as ggml's K-quants have it: large weights count
 * a little more, which was found to serve perplexity better than the importance alone (ik_llama.cpp,
 * discussion 140). Divided by sqrt(s), so that the unit of x does not matter. */
static void error_weights(const pq_quantizer *quantizer, const float *x, float *w) {
    const size_t n = quantizer->cols;
    const float *importance = quantizer->importance;
    const float square = mean_square(x, n);
    const float inverse = square > 0x1p-100f ? 1.0f / square : 0.0f;
    for (size_t i = 0; i < n; i++)
        w[i] = importance[i] * sqrtf(2.0f + x[i] * x[i] * inverse);
}

/* ------------------------------------------------------------------------------------------- blocks */

void pq_quantizer_init(pq_quantizer *out, uint32_t type, size_t cols, const float *importance) {
    const pq_format *format = pq_type_format(type);
    out->type = type;
    out->cols = cols;
    out->importance = type == PQ_Q8_0 ? NULL : importance; /* it is not searched */
    out->levels.low = format->low;
    out->levels.high = format->high;
    out->levels.spacing = 1.0f;
    out->levels.nearest = NULL;
    if (format->nonlinear) {
        pq_nonlinear_levels(out->nearest);
        out->levels.nearest = out->nearest;
        out->levels.spacing = (out->levels.high - out->levels.low) / 15.0f;
    }
}

static void quantize_blocks(const pq_quantizer *quantizer, const float *x, float *scratch,
                            uint8_t *dst) {
    const uint32_t type = quantizer->type;
    const pq_format *format = pq_type_format(type);
    const size_t n = quantizer->cols, elements = format->block;
    pq_decoded block[PQ_GROUPS];
    const float *w = NULL;
    if (quantizer->importance) {
        error_weights(quantizer, x, scratch);
        w = scratch;
    }
    for (size_t i = 0, count; i < n; i += count * elements) {
        count = (n - i) / elements < PQ_GROUPS ? (n - i) / elements : PQ_GROUPS;
        quantizer->search(type, &quantizer->levels, x + i, elements, w ? w + i : NULL, elements,
                          count, block);
        for (size_t b = 0; b < count; b++, dst += format->bytes)
            format->encode(&block[b], dst);
    }
}

void pq_quantize_weight_row(const pq_quantizer *quantizer, const float *x, float *scratch,
                            uint8_t *dst) {
    const uint32_t type = quantizer->type;
    const size_t n = quantizer->cols;
    if (type == PQ_F32) {
        memcpy(dst, x, n * sizeof *x);
    } else if (type == PQ_F16) {
        to_f16(x, n, dst);
    } else if (type == PQ_BF16) {
        to_bf16(x, n, dst);
    } else {
        quantize_blocks(quantizer, x, scratch, dst);
    }
}
