/* dequantize.c - see dequantize.h. Rounds as ggml's reference does: d * scale first, then times the
 * value, then the minimum; each step in float32. */
#include "dequantize.h"

#include <string.h>

#include "../base/status.h"
#include "blocks.h"
#include "format.h"
#include "types.h"

static void from_f16(const uint8_t *src, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++)
        dst[i] = pq_load_f16(src + 2 * i);
}

/* BF16 is the upper half of a float32. */
static void from_bf16(const uint8_t *src, size_t n, float *dst) {
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, src + 2 * i, sizeof half); /* little-endian, as all of the file */
        const uint32_t bits = (uint32_t)half << 16;
        memcpy(&dst[i], &bits, sizeof bits);
    }
}

static void floats(uint32_t type, const uint8_t *src, size_t n, float *dst) {
    if (type == PQ_F32)
        memcpy(dst, src, n * sizeof *dst);
    else if (type == PQ_F16)
        from_f16(src, n, dst);
    else
        from_bf16(src, n, dst);
}

static void block(pq_family family, const pq_decoded *b, float *dst) {
    for (size_t k = 0; k < 32; k++)
        dst[k] = b->d * (float)b->value[k];
    if (family == PQ_FAMILY_BLOCK_MIN) {
        for (size_t k = 0; k < 32; k++)
            dst[k] += b->m;
    }
}

static void super_block(pq_family family, const pq_decoded *b, float *dst) {
    for (size_t s = 0; s < PQ_SUPER / PQ_SUB; s++, dst += PQ_SUB) {
        const float scale = b->d * (float)b->scale[s];
        for (size_t k = 0; k < PQ_SUB; k++)
            dst[k] = scale * (float)b->value[s * PQ_SUB + k];
        if (family != PQ_FAMILY_SUPER_MIN)
            continue;
        const float minimum = b->m * (float)b->min[s];
        for (size_t k = 0; k < PQ_SUB; k++)
            dst[k] -= minimum;
    }
}

void pq_dequantize_row(uint32_t type, const uint8_t *src, size_t n, float *dst) {
    const pq_format *format = pq_type_format(type);
    if (format->family == PQ_FAMILY_FLOAT) {
        floats(type, src, n, dst);
        return;
    }
    const size_t elements = format->block;
    pq_decoded decoded;
    for (size_t i = 0; i < n / elements; i++) {
        format->decode(src + i * format->bytes, &decoded);
        if (elements == PQ_SUPER)
            super_block(format->family, &decoded, dst + i * elements);
        else
            block(format->family, &decoded, dst + i * elements);
    }
}

pq_status pq_dequantize(uint32_t type, const void *src, size_t n, float *dst, pq_error *err) {
    const size_t elements = pq_type_block(type);
    if (elements == 0) {
        const char *name = pq_type_known_name(type);
        return pq_fail(err, PQ_ERR_ARGUMENT, "cannot dequantize tensor type %u%s%s%s",
                       (unsigned)type, name ? " (" : "", name ? name : "", name ? ")" : "");
    }
    if (n % elements != 0)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "cannot dequantize %zu elements of %s: it comes in blocks of %zu", n,
                       pq_type_name(type), elements);
    if (n > 0 && (!src || !dst))
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_dequantize: src and dst must not be NULL");
    pq_dequantize_row(type, src, n, dst);
    return PQ_OK;
}
