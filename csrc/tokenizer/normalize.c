/* normalize.c - normalization form C (Unicode Standard Annex 15): decompose, order marks, compose.
 *
 * Nearly all text is in form C. It is copied as it is, but for stretches around characters that may
 * compose: each begins with the character before them, and ends before one that combines with nothing.
 */
#include "normalize.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "unicode.h"

enum { FEW_MARKS = 16, CANCEL_BYTES = 1 << 16 };

#define POINT(mark) ((uint32_t)(mark))
#define CLASS(mark) ((unsigned)((mark) >> 32))

static pq_status append(pq_normalizer *n, const uint8_t *text, size_t bytes, pq_error *err) {
    const pq_status st = pq_grow(&n->text, &n->room, n->bytes + bytes, 1, "normalized text", err);
    if (st == PQ_OK && bytes > 0) {
        memcpy(n->text + n->bytes, text, bytes);
        n->bytes += bytes;
    }
    return st;
}

enum { LONGEST_DECOMPOSITION = 4 }; /* of one character; three marks in the whole standard */

/* Appends the full canonical decomposition of `point`. */
static pq_status decompose(pq_normalizer *n, size_t *count, uint32_t point, pq_error *err) {
    const pq_status st = pq_grow(&n->marks, &n->marks_room, *count + LONGEST_DECOMPOSITION + 1,
                                 sizeof *n->marks, "combining characters", err);
    if (st != PQ_OK)
        return st;
    uint32_t seconds[LONGEST_DECOMPOSITION], first, second;
    unsigned depth = 0;
    while (depth < LONGEST_DECOMPOSITION && pq_decompose(point, &first, &second)) {
        point = first;
        if (second)
            seconds[depth++] = second;
    }
    for (unsigned i = depth + 1; i > 0; i--) {
        const uint32_t next = i == depth + 1 ? point : seconds[i - 1];
        n->marks[(*count)++] = (uint64_t)pq_combining_class(next) << 32 | next;
    }
    return PQ_OK;
}

/* Orders marks by class, equal ones as they stood. */
static pq_status order(pq_normalizer *n, uint64_t *marks, size_t count, pq_error *err) {
    if (count <= FEW_MARKS) {
        for (size_t i = 1; i < count; i++) {
            const uint64_t mark = marks[i];
            size_t j = i;
            for (; j > 0 && CLASS(marks[j - 1]) > CLASS(mark); j--)
                marks[j] = marks[j - 1];
            marks[j] = mark;
        }
        return PQ_OK;
    }
    const pq_status st =
        pq_grow(&n->sorted, &n->sorted_room, count, sizeof *n->sorted, "combining characters", err);
    if (st != PQ_OK)
        return st;
    size_t begins[257] = {0};
    for (size_t i = 0; i < count; i++)
        begins[CLASS(marks[i]) + 1]++;
    for (unsigned c = 0; c < 256; c++)
        begins[c + 1] += begins[c];
    for (size_t i = 0; i < count; i++)
        n->sorted[begins[CLASS(marks[i])]++] = marks[i];
    memcpy(marks, n->sorted, count * sizeof *marks);
    return PQ_OK;
}

/* Composes in place and returns how many are left. */
static size_t compose(uint64_t *marks, size_t count) {
    size_t kept = 0, starter = SIZE_MAX;
    unsigned last = 0; /* the class of the last kept one after the starter; 0: there is none */
    for (size_t i = 0; i < count; i++) {
        const unsigned class = CLASS(marks[i]);
        if (starter != SIZE_MAX && (last < class || last == 0)) {
            const uint32_t made = pq_compose(POINT(marks[starter]), POINT(marks[i]));
            if (made) {
                marks[starter] = made;
                continue;
            }
        }
        if (class == 0)
            starter = kept;
        last = class;
        marks[kept++] = marks[i];
    }
    return kept;
}

/* Appends the normalized text[0 .. bytes). */
static pq_status normalize_stretch(pq_normalizer *n, const uint8_t *text, size_t bytes,
                                   pq_error *err) {
    size_t count = 0;
    unsigned length;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < bytes && st == PQ_OK; i += length)
        st = decompose(n, &count, pq_decode(text + i, bytes - i, &length), err);
    for (size_t i = 0; i < count && st == PQ_OK; i++) {
        const size_t begin = i;
        while (i < count && CLASS(n->marks[i]) != 0)
            i++;
        st = order(n, n->marks + begin, i - begin, err);
    }
    if (st != PQ_OK)
        return st;
    count = compose(n->marks, count);
    for (size_t i = 0; i < count && st == PQ_OK; i++) {
        uint8_t character[4];
        st = append(n, character, pq_encode(POINT(n->marks[i]), character), err);
    }
    return st;
}

pq_status pq_normalize(pq_normalizer *n, const uint8_t *text, size_t bytes, const uint8_t **out,
                       size_t *out_bytes, const atomic_int *cancel, pq_error *err) {
    size_t copied = 0, before = 0, watched = 0; /* before: where the last character begins */
    uint32_t hint = 0;
    n->bytes = 0;
    for (size_t i = 0; i < bytes;) {
        if (i - watched >= CANCEL_BYTES) {
            watched = i;
            if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
                return pq_fail(err, PQ_ERR_CANCELLED, "cancelled while a text was normalized");
        }
        unsigned length = 1;
        if (text[i] < 0xCC || /* below U+0300 nothing composes with what stands before */
            !(pq_properties_of(pq_decode(text + i, bytes - i, &length), &hint) & PQ_COMPOSING)) {
            before = i; /* or inside it, which does for what is skipped */
            i += length;
            continue;
        }
        while (before > copied && (text[before] & 0xC0) == 0x80)
            before--;
        size_t end = i;
        while (end < bytes) {
            const uint32_t point = pq_decode(text + end, bytes - end, &length);
            if (!(pq_properties_of(point, &hint) & PQ_COMPOSING))
                break;
            end += length;
        }
        if (i == copied) /* nothing stands between the last stretch and this one: it begins here */
            before = i;
        pq_status st = append(n, text + copied, before - copied, err);
        if (st == PQ_OK)
            st = normalize_stretch(n, text + before, end - before, err);
        if (st != PQ_OK)
            return st;
        copied = before = i = end;
    }
    *out = text;
    *out_bytes = bytes;
    if (copied == 0)
        return PQ_OK;
    const pq_status st = append(n, text + copied, bytes - copied, err);
    *out = n->text;
    *out_bytes = n->bytes;
    return st;
}

void pq_normalizer_free(pq_normalizer *n) {
    free(n->text);
    free(n->marks);
    free(n->sorted);
    *n = (pq_normalizer){0};
}
