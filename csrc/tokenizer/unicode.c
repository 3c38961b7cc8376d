/* unicode.c - see unicode.h. */
#include "unicode.h"

#include "unicode_tables.h"

uint32_t pq_decode(const uint8_t *p, size_t left, unsigned *bytes) {
    const uint32_t a = p[0];
    *bytes = 1;
    if (a < 0x80)
        return a;
    const unsigned n = a >= 0xF0 ? 4 : a >= 0xE0 ? 3 : 2;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (a < 0xC2 || a > 0xF4 || left < n)
        return PQ_NOT_UTF8 | a;
    uint32_t point = a & (0x7Fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return PQ_NOT_UTF8 | a;
        point = point << 6 | (p[i] & 0x3Fu);
    }
    if (point < least[n] || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000))
        return PQ_NOT_UTF8 | a;
    *bytes = n;
    return point;
}

unsigned pq_encode(uint32_t point, uint8_t *dst) {
    if (point < 0x80 || point >= PQ_NOT_UTF8) {
        dst[0] = (uint8_t)point;
        return 1;
    }
    const unsigned n = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i > 0; i--, point >>= 6)
        dst[i] = (uint8_t)(0x80 | (point & 0x3F));
    dst[0] = (uint8_t)(0xF00u >> n | point); /* n leading ones: 0xC0, 0xE0, 0xF0 */
    return n;
}

/* The place of the run of `point` in a table of runs. */
static uint32_t find_run(const uint32_t *runs, uint32_t count, uint32_t point) {
    uint32_t low = 0, high = count;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (runs[middle] >> 8 <= point)
            low = middle;
        else
            high = middle;
    }
    return low;
}

unsigned pq_properties_of(uint32_t point, uint32_t *hint) {
    const uint32_t count = pq_properties_count, at = *hint;
    if (pq_properties[at] >> 8 > point || (at + 1 < count && pq_properties[at + 1] >> 8 <= point))
        *hint = find_run(pq_properties, count, point);
    return pq_properties[*hint] & 0xFF;
}

unsigned pq_combining_class(uint32_t point) {
    return pq_combining_classes[find_run(pq_combining_classes, pq_combining_classes_count, point)] &
           0xFF;
}

/* Hangul syllables are made by arithmetic (The Unicode Standard, section 3.12). */
enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7 };
enum { L_COUNT = 19, V_COUNT = 21, T_COUNT = 28, S_COUNT = L_COUNT * V_COUNT * T_COUNT };

int pq_decompose(uint32_t point, uint32_t *first, uint32_t *second) {
    if (point - S_BASE < S_COUNT) {
        const uint32_t s = point - S_BASE, t = s % T_COUNT;
        *first = t ? point - t : L_BASE + s / (V_COUNT * T_COUNT);
        *second = t ? T_BASE + t : V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT;
        return 1;
    }
    uint32_t low = 0, high = pq_decompositions_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const pq_decomposition *found = &pq_decompositions[middle];
        if (found->point == point) {
            *first = found->first;
            *second = found->second;
            return 1;
        }
        if (found->point < point)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

uint32_t pq_compose(uint32_t first, uint32_t second) {
    if (first - L_BASE < L_COUNT && second - V_BASE < V_COUNT)
        return S_BASE + ((first - L_BASE) * V_COUNT + (second - V_BASE)) * T_COUNT;
    if (first - S_BASE < S_COUNT && (first - S_BASE) % T_COUNT == 0 && second > T_BASE &&
        second < T_BASE + T_COUNT)
        return first + (second - T_BASE);
    const uint64_t wanted = (uint64_t)first << 32 | second;
    uint32_t low = 0, high = pq_compositions_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const pq_decomposition *found = &pq_decompositions[pq_compositions[middle]];
        const uint64_t pair = (uint64_t)found->first << 32 | found->second;
        if (pair == wanted)
            return found->point;
        if (pair < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}
