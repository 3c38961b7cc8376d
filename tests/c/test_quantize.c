/* Quantized bytes are the same on every machine: the hashes below were printed on x86-64 and are compared
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
    {PQ_Q4_0, 0x29B2F3D062105AF6, 0xF83F8B8C53857CBB},
    {PQ_Q4_1, 0xA9F8FA5C0060F120, 0x6EBACDF681ACCBDE},
    {PQ_Q5_0, 0x3B5DDEF875C40FFF, 0x961D7BAAEAD9761C},
    {PQ_Q5_1, 0x746597B870B9F681, 0x90B2503D615B4652},
    {PQ_Q8_0, 0xA5D87E2A13A499D7, 0xA5D87E2A13A499D7},
    {PQ_IQ4_NL, 0x01F36B83640C465F, 0x1EECB85CC7188549},
    {PQ_Q2_K, 0x150E47E3BEA797B8, 0xEA4444BDD353D0E7},
    {PQ_Q3_K, 0x24A222A0C2EFB2F1, 0x5F7FDB2A8495118C},
    {PQ_Q4_K, 0x80D19080D2BBC795, 0x59C72BB3B331AC35},
    {PQ_Q5_K, 0xB1E47D3775831AD2, 0x469AD7C164253AE2},
    {PQ_Q6_K, 0x92C7223253CF1655, 0xB1903811D090E8B5},
    {PQ_IQ4_XS, 0x6FE682DC5CEDF76B, 0x8C9A9CE98F3A8CFB},
};

int main(void) {
    static float x[ROWS * COLS], importance[COLS];
    static uint8_t data[MOST_BYTES];
    fill(x, importance);
    for (size_t i = 0; i < sizeof EXPECTED / sizeof EXPECTED[0]; i++) {
        const uint32_t type = EXPECTED[i].type;
        const size_t bytes = ROWS * COLS / pq_type_block(type) * pq_type_bytes(type);
        CHECK(!pq_quantize_rows(type, x, ROWS, COLS, NULL, data, 1, NULL, NULL));
        const uint64_t plain = hash(data, bytes);
        CHECK(!pq_quantize_rows(type, x, ROWS, COLS, importance, data, 2, NULL, NULL));
        const uint64_t weighted = hash(data, bytes);
        if (plain != EXPECTED[i].plain || weighted != EXPECTED[i].weighted) {
            fprintf(stderr, "{PQ_%s, 0x%016llX, 0x%016llX},\n", pq_type_name(type),
                    (unsigned long long)plain, (unsigned long long)weighted);
            check_failures++;
        }
    }
    return check_result();
}
