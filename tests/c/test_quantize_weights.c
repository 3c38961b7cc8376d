/* Quantized bytes are the same on every machine and with every instruction set: the hashes below were printed on x86-64 and are compared
 * wherever this test is built, also under emulation. A change of the search changes them; then the new ones
 * belong here, once the qualities measured by tests/kernels/test_quantize_weights.py are seen to hold. */
#include <stdint.h>
#include <stdlib.h>

#include "check.h"
#include "pyqwen_quantize.h"
#include "formats/types.h"

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
    {PQ_Q4_0, 0x7CDDA989C9DF562E, 0xE91A0401D8C4658D},
    {PQ_Q4_1, 0x9A134586EAC426D3, 0x9D676CB5A8A1F415},
    {PQ_Q5_0, 0x6A3519ADD0067185, 0x3A8EBFE175981AD4},
    {PQ_Q5_1, 0x8FA31428C5ADD615, 0x5C38AA7083E15A50},
    {PQ_Q8_0, 0x5E374895B96D348F, 0x5E374895B96D348F},
    {PQ_IQ4_NL, 0x957ED34EDE8384B8, 0x756CA3DB2C6A5228},
    {PQ_Q2_K, 0xCEA654612930CB0D, 0x699E1965D48BE5F0},
    {PQ_Q3_K, 0x2FD208180A25CF17, 0x1509060320B4B3A5},
    {PQ_Q4_K, 0x01A51082D2C63C4D, 0x8D25D72881C4B29B},
    {PQ_Q5_K, 0xD7E88EB73F3E6EA8, 0xB467DBC9C7AC4792},
    {PQ_Q6_K, 0x7B8CE0B3FA337071, 0x9ADF7D20DE2166AF},
    {PQ_IQ4_XS, 0x19DE26656F15DF66, 0xEBF40E32AE0268FD},
};

static void check_isa(const char *isa, const float *x, const float *importance) {
    static uint8_t data[MOST_BYTES];
    for (size_t i = 0; i < sizeof EXPECTED / sizeof EXPECTED[0]; i++) {
        const uint32_t type = EXPECTED[i].type;
        const size_t bytes = ROWS * COLS / pq_type_block(type) * pq_type_bytes(type);
        CHECK(!pq_quantize_weights(isa, type, x, ROWS, COLS, NULL, data, 1, NULL, NULL));
        const uint64_t plain = hash(data, bytes);
        CHECK(!pq_quantize_weights(isa, type, x, ROWS, COLS, importance, data, 2, NULL, NULL));
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
