/* Quantized bytes are the same on every machine and with every instruction set: the hashes below were printed on x86-64 and are compared
 * wherever this test is built, also under emulation. A change of the search changes them; then the new ones
 * belong here, once the qualities measured by tests/kernels/test_quantize.py are seen to hold. */
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "pyqwen.h"
#include "quant/types.h"

enum { ROWS = 12, COLS = 1024, MOST_BYTES = ROWS * COLS * 4 };

/* Numbers that any machine makes alike: by integer arithmetic and one exact division. */
static float random_number(uint32_t *state) {
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) {
        *state = *state * 1664525u + 1013904223u;
        sum += (int32_t)(*state >> 16) - 32768;
    }
    return (float)sum / 65536.0f; /* near to normal, within -2 .. 2 */
}

static uint64_t hash(const uint8_t *data, size_t n) { /* FNV-1a */
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ data[i]) * 0x100000001B3u;
    return h;
}

/* Rows of several sizes, with outliers and zeros among them. */
static void fill(float *x, float *importance) {
    uint32_t state = 1;
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t col = 0; col < COLS; col++) {
            const float number = random_number(&state);
            float value = number * 0.03f / (float)(1u << 2 * row);
            value *= col % 97 == 5 ? 12.0f : 1.0f;
            x[row * COLS + col] = col / 32 % 11 == 3 ? 0.0f : value * number;
        }
    }
    for (size_t col = 0; col < COLS; col++) {
        const float number = random_number(&state);
        importance[col] = number * number + (col % 61 == 7 ? 40.0f : 0.0f);
    }
}

typedef struct expected {
    uint32_t type;
    uint64_t plain, weighted;
} expected;

static const expected EXPECTED[] = {
    {PQ_F16, 0xAB5F337914ECF593, 0xAB5F337914ECF593},
    {PQ_BF16, 0xEF19D32C1F18081E, 0xEF19D32C1F18081E},
    {PQ_Q4_0, 0x29B2F3D062105AF6, 0x48A1AE672A77FC34},
    {PQ_Q4_1, 0x0ECE5D99B6C29122, 0xA6F43EB22B798912},
    {PQ_Q5_0, 0x647B86DBE358D84C, 0x75C3DC2865CEEC71},
    {PQ_Q5_1, 0x4EAA18F8744B6AA3, 0x83922E67CA057541},
    {PQ_Q8_0, 0x5E374895B96D348F, 0x5E374895B96D348F},
    {PQ_IQ4_NL, 0x01F36B83640C465F, 0xB34D4E45C85500EC},
    {PQ_Q2_K, 0x88BD5EE7017FD817, 0x747FD629145BDC2D},
    {PQ_Q3_K, 0xF5453E4987EF4226, 0x93C5306F32B880A0},
    {PQ_Q4_K, 0x54D29D0A6775635E, 0x8161A570D4E50EFB},
    {PQ_Q5_K, 0x8F06DA07A521B218, 0xE87260BA3A2B79C5},
    {PQ_Q6_K, 0xBA85DAC7F3818339, 0xEA1E5613B3F16FF8},
    {PQ_IQ4_XS, 0x19DE26656F15DF66, 0x25D77D89EF965B56},
};

static void check_isa(const char *isa, const float *x, const float *importance) {
    static uint8_t data[MOST_BYTES];
    for (size_t i = 0; i < sizeof EXPECTED / sizeof EXPECTED[0]; i++) {
        const uint32_t type = EXPECTED[i].type;
        const size_t bytes = ROWS * COLS / pq_type_block(type) * pq_type_bytes(type);
        CHECK(!pq_quantize_rows(isa, type, x, ROWS, COLS, NULL, data, 1, NULL, NULL));
        const uint64_t plain = hash(data, bytes);
        CHECK(!pq_quantize_rows(isa, type, x, ROWS, COLS, importance, data, 2, NULL, NULL));
        const uint64_t weighted = hash(data, bytes);
        if (plain != EXPECTED[i].plain || weighted != EXPECTED[i].weighted) {
            fprintf(stderr, "%s: {PQ_%s, 0x%016llX, 0x%016llX},\n", isa, pq_type_name(type),
                    (unsigned long long)plain, (unsigned long long)weighted);
            check_failures++;
        }
    }
}

int main(void) {
    static float x[ROWS * COLS], importance[COLS];
    fill(x, importance);
    for (uint32_t i = 0; pq_isa_name(i); i++) {
        if (pq_isa_available(pq_isa_name(i)))
            check_isa(pq_isa_name(i), x, importance);
    }
    return check_result();
}
