/* candidates.c - see candidates.h. */
#include "candidates.h"

#include <math.h>

/* The largest of n <= PQ_LOGIT_CHUNK logits; sets *nan if one of them is not a number. */
static float chunk_maximum(const float *x, size_t n, int *nan) {
    float lanes[8], max = -INFINITY;
    int nans[8] = {0};
    for (int l = 0; l < 8; l++)
        lanes[l] = -INFINITY;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) { /* in lanes, for the compiler to vectorize */
        for (size_t l = 0; l < 8; l++) {
            lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
            nans[l] |= x[i + l] != x[i + l];
        }
    }
    for (; i < n; i++) {
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
        nans[0] |= x[i] != x[i];
    }
    for (int l = 0; l < 8; l++) {
        max = lanes[l] > max ? lanes[l] : max;
        *nan |= nans[l];
    }
    return max;
}

float pq_logit_maxima(const float *logits, size_t n, float *maxima) {
    float all = -INFINITY;
    int nan = 0;
    for (size_t start = 0; start < n; start += PQ_LOGIT_CHUNK) {
        const size_t size = n - start < PQ_LOGIT_CHUNK ? n - start : PQ_LOGIT_CHUNK;
        const float max = chunk_maximum(logits + start, size, &nan);
        maxima[start / PQ_LOGIT_CHUNK] = max;
        all = max > all ? max : all;
    }
    return nan ? NAN : all;
}

/* Makes those of n <= 32 logits impossible whose bits are 0. By a table, for the compiler to vectorize: x86-64
 * has no shift by lane. */
static inline void mask_word(float *x, size_t n, uint32_t bits) {
    static const uint32_t BIT[32] = {
        0x1,       0x2,       0x4,       0x8,       0x10,       0x20,       0x40,       0x80,
        0x100,     0x200,     0x400,     0x800,     0x1000,     0x2000,     0x4000,     0x8000,
        0x10000,   0x20000,   0x40000,   0x80000,   0x100000,   0x200000,   0x400000,   0x800000,
        0x1000000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80000000};
    for (size_t i = 0; i < n; i++) {
        const float logit = x[i];
        x[i] = bits & BIT[i] ? logit : -INFINITY;
    }
}

static void mask_chunk(float *x, size_t n, const uint32_t *mask) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        if (mask[i / 32] != UINT32_MAX)
            mask_word(x + i, 32, mask[i / 32]);
    if (i < n)
        mask_word(x + i, n - i, mask[i / 32]);
}

float pq_masked_maxima(float *logits, size_t n, const uint32_t *mask, float *maxima) {
    float all = -INFINITY;
    int nan = 0;
    for (size_t start = 0; start < n; start += PQ_LOGIT_CHUNK) {
        const size_t size = n - start < PQ_LOGIT_CHUNK ? n - start : PQ_LOGIT_CHUNK;
        const uint32_t *words = mask + start / 32;
        float max = -INFINITY;
        if (words[0] != 0 || (size > 32 && words[1] != 0)) {
            mask_chunk(logits + start, size, words);
            max = chunk_maximum(logits + start, size, &nan);
        }
        maxima[start / PQ_LOGIT_CHUNK] = max;
        all = max > all ? max : all;
    }
    return nan ? NAN : all;
}

int pq_mask_allows_any(const uint32_t *mask, size_t n) {
    uint32_t any = 0;
    for (size_t start = 0; start < n && !any; start += 32)
        any = mask[start / 32] & UINT32_MAX >> (n - start < 32 ? 32 - (n - start) : 0);
    return any != 0;
}

static int before(const pq_candidate *a, const pq_candidate *b) {
    return a->key > b->key || (a->key == b->key && a->token < b->token);
}

static void swap(pq_candidate *a, pq_candidate *b) {
    const pq_candidate t = *a;
    *a = *b;
    *b = t;
}

/* ----------------------------------------------------------------------------------- the best k */

/* Restores the heap, whose root is the worst candidate, after the one at `at` became worse or
 * better. */
static void sift_down(pq_candidate *heap, size_t n, size_t at) {
    for (;;) {
        size_t worst = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++) {
            if (before(&heap[worst], &heap[child]))
                worst = child;
        }
        if (worst == at)
            return;
        swap(&heap[at], &heap[worst]);
        at = worst;
    }
}

static void sift_up(pq_candidate *heap, size_t at) {
    for (; at > 0 && before(&heap[(at - 1) / 2], &heap[at]); at = (at - 1) / 2)
        swap(&heap[at], &heap[(at - 1) / 2]);
}

/* Tokens come in ascending order, so one that equals the worst of a full heap loses against it. */
size_t pq_candidates_best(const float *logits, size_t n, const float *maxima, size_t k,
                          pq_candidate *out) {
    size_t found = 0;
    float bar = -INFINITY; /* only what is above it gets in */
    for (size_t start = 0; start < n; start += PQ_LOGIT_CHUNK) {
        if (!(maxima[start / PQ_LOGIT_CHUNK] > bar))
            continue;
        const size_t end = n - start < PQ_LOGIT_CHUNK ? n : start + PQ_LOGIT_CHUNK;
        for (size_t i = start; i < end; i++) {
            if (!(logits[i] > bar))
                continue;
            const pq_candidate new = {.key = logits[i], .token = (int32_t)i};
            if (found < k) {
                out[found] = new;
                sift_up(out, found++);
            } else {
                out[0] = new;
                sift_down(out, k, 0);
            }
            if (found == k)
                bar = out[0].key;
        }
    }
    for (size_t left = found; left > 1; left--) { /* the worst goes to the end */
        swap(&out[0], &out[left - 1]);
        sift_down(out, left - 1, 0);
    }
    return found;
}

/* -------------------------------------------------------------------------------- the best mass */

/* Puts those of c (n) that stand before the pivot first, then the pivot; returns where it is. The
 * pivot is the median of three. */
static size_t partition(pq_candidate *c, size_t n) {
    pq_candidate *a = &c[0], *b = &c[n / 2], *last = &c[n - 1];
    if (before(b, a))
        swap(a, b);
    if (before(last, b))
        swap(last, b);
    if (before(b, a))
        swap(a, b);
    swap(b, last);
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        if (before(&c[i], last))
            swap(&c[at++], &c[i]);
    }
    swap(&c[at], last);
    return at;
}

/* Quickselect by weight: only the side on which the mass is reached is looked at further. */
size_t pq_candidates_reach(pq_candidate *c, size_t n, double mass) {
    size_t low = 0, high = n; /* c[low..high) is undecided; all before it is in */
    while (low < high) {
        const size_t pivot = low + partition(c + low, high - low);
        double better = 0.0;
        for (size_t i = low; i < pivot; i++)
            better += c[i].weight;
        if (better >= mass) {
            high = pivot;
            continue;
        }
        mass -= better + c[pivot].weight;
        low = pivot + 1;
        if (mass <= 0.0)
            break;
    }
    return low > 0 ? low : 1;
}
