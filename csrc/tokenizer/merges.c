/* merges.c - see merges.h. Byte-pair encoding after Sennrich et al. 2016, in the order of `tokenizers`. */
#include "merges.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "limits.h"

#define MERGES "tokenizer.ggml.merges"
#define REMEDY "the file is damaged or was converted wrongly: download or convert it again"

enum { SHORT_WORD = 48, CANCEL_STEPS = 1 << 14 };
static const uint32_t NONE = UINT32_MAX;

/* ------------------------------------------------------------------------------------------ the table */

static uint32_t place_of(const pq_merges *m, uint32_t left, uint32_t right) {
    uint64_t h = m->factors[0] * left + m->factors[1] * right;
    h = (h ^ h >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(h >> (64 - m->bits));
}

/* The slot of a pair, or the free one where it belongs. */
static pq_merge *slot_of(const pq_merges *m, uint32_t left, uint32_t right) {
    const uint32_t mask = (UINT32_C(1) << m->bits) - 1;
    uint32_t at = place_of(m, left, right);
    while (m->slots[at].rank != NONE && (m->slots[at].left != left || m->slots[at].right != right))
        at = (at + 1) & mask;
    return &m->slots[at];
}

static pq_status check_size(const pq_vocabulary *v, pq_error *err) {
    const uint64_t count = v->merges.count, bytes = v->merges.bounds[count];
    if (count > PQ_MAX_MERGES || bytes > PQ_MAX_VOCABULARY_BYTES)
        return pq_fail_at(err, PQ_ERR_FORMAT, MERGES, -1,
                          "%s" MERGES
                          " has %llu entries of %llu bytes, more than %d of %d; " REMEDY,
                          v->source, (unsigned long long)count, (unsigned long long)bytes,
                          PQ_MAX_MERGES, PQ_MAX_VOCABULARY_BYTES);
    return PQ_OK;
}

static int32_t find_ordinary(const pq_pieces *pieces, const char *text, size_t bytes) {
    const int32_t token = pq_pieces_find(pieces, text, bytes);
    return token >= 0 && pq_is_ordinary(pieces->kinds[token]) ? token : -1;
}

static pq_status fail_unknown(const pq_vocabulary *v, uint64_t rank, const char *merge,
                              size_t bytes, const char *verb, const char *text, size_t n,
                              pq_error *err) {
    return pq_fail_at(err, PQ_ERR_FORMAT, MERGES, -1,
                      "%s" MERGES ": entry %llu, '%s', %s '%s', which is not a token; " REMEDY,
                      v->source, (unsigned long long)rank, pq_show(merge, bytes).text, verb,
                      pq_show(text, n).text);
}

/* The ordinary token of this text, or -1. In most files merges are in the order of the tokens they make, so
 * that the one after the last is it, and need not be searched. */
static int32_t find_product(const pq_pieces *pieces, int32_t last, const char *text, size_t bytes) {
    uint32_t length;
    if ((uint32_t)last + 1 < pieces->count && pq_is_ordinary(pieces->kinds[last + 1])) {
        const char *piece = pq_piece(pieces, (uint32_t)last + 1, &length);
        if (length == bytes && memcmp(piece, text, bytes) == 0)
            return last + 1;
    }
    return find_ordinary(pieces, text, bytes);
}

/* joined: scratch for the longest entry. *last: the product of the entry before, then of this one. */
static pq_status read_merge(pq_merges *m, const pq_vocabulary *v, const pq_pieces *pieces,
                            uint64_t rank, char *joined, int32_t *last, pq_error *err) {
    const char *merge = v->merges.text + v->merges.bounds[rank];
    const size_t bytes = (size_t)(v->merges.bounds[rank + 1] - v->merges.bounds[rank]);
    const char *space = bytes > 0 ? memchr(merge, ' ', bytes) : NULL;
    const size_t left_bytes = space ? (size_t)(space - merge) : bytes;
    const size_t right_bytes = space ? bytes - left_bytes - 1 : 0;
    const int32_t left = find_ordinary(pieces, merge, left_bytes);
    if (left < 0)
        return fail_unknown(v, rank, merge, bytes, "names", merge, left_bytes, err);
    const char *second = space ? space + 1 : merge + bytes;
    const int32_t right = find_ordinary(pieces, second, right_bytes);
    if (right < 0)
        return fail_unknown(v, rank, merge, bytes, "names", second, right_bytes, err);
    memcpy(joined, merge, left_bytes);
    memcpy(joined + left_bytes, second, right_bytes);
    const int32_t product = find_product(pieces, *last, joined, left_bytes + right_bytes);
    if (product < 0)
        return fail_unknown(v, rank, merge, bytes, "makes", joined, left_bytes + right_bytes, err);
    *last = product;
    *slot_of(m, (uint32_t)left, (uint32_t)right) = (pq_merge){.left = (uint32_t)left,
                                                              .right = (uint32_t)right,
                                                              .rank = (uint32_t)rank,
                                                              .product = (uint32_t)product};
    return PQ_OK;
}

static pq_status read_all(pq_merges *m, const pq_vocabulary *v, const pq_pieces *pieces,
                          pq_error *err) {
    size_t longest = 0;
    for (uint64_t i = 0; i < v->merges.count; i++) {
        const size_t bytes = (size_t)(v->merges.bounds[i + 1] - v->merges.bounds[i]);
        longest = bytes > longest ? bytes : longest;
    }
    char *joined = malloc(longest + 1);
    if (!joined)
        return pq_fail_memory(err, "a merge", longest);
    pq_status st = PQ_OK;
    int32_t last = -1;
    for (uint64_t i = 0; i < v->merges.count && st == PQ_OK; i++)
        st = read_merge(m, v, pieces, i, joined, &last, err);
    free(joined);
    return st;
}

pq_status pq_merges_open(pq_merges *out, const pq_vocabulary *v, const pq_pieces *pieces,
                         pq_error *err) {
    pq_merges m = {.bits = 6};
    pq_status st = check_size(v, err);
    if (st != PQ_OK)
        return st;
    while ((UINT64_C(1) << m.bits) < v->merges.count + v->merges.count / 2)
        m.bits++;
    const size_t slots = (size_t)1 << m.bits;
    m.slots = malloc(slots * sizeof *m.slots);
    if (!m.slots)
        return pq_fail_memory(err, "the table of merges", slots * (uint64_t)sizeof *m.slots);
    for (size_t i = 0; i < slots; i++)
        m.slots[i].rank = NONE;
    const pq_hash_key key = pq_new_hash_key();
    m.factors[0] = key.a | 1;
    m.factors[1] = key.b | 1;
    for (unsigned byte = 0; byte < 256; byte++) {
        char piece[PQ_ALPHABET_BYTES];
        const unsigned bytes = pq_byte_to_alphabet((uint8_t)byte, piece);
        m.byte_tokens[byte] = find_ordinary(pieces, piece, bytes);
    }
    st = read_all(&m, v, pieces, err);
    if (st == PQ_OK)
        *out = m;
    else
        pq_merges_close(&m);
    return st;
}

void pq_merges_close(pq_merges *m) {
    free(m->slots);
    *m = (pq_merges){0};
}

/* ------------------------------------------------------------------------------------- short words */

/* Looks for the lowest rank again after each merge: for a few symbols nothing is faster. */
static void merge_short(const pq_merges *m, const uint32_t *tokens, uint32_t count, int32_t *out,
                        size_t *written) {
    uint32_t symbols[SHORT_WORD];
    const pq_merge
        *pairs[SHORT_WORD]; /* of each symbol with the next; free slots have the highest rank */
    memcpy(symbols, tokens, count * sizeof *symbols);
    for (uint32_t i = 0; i + 1 < count; i++)
        pairs[i] = slot_of(m, symbols[i], symbols[i + 1]);
    while (count > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < count; i++)
            if (pairs[i]->rank < pairs[best]->rank)
                best = i;
        if (pairs[best]->rank == NONE)
            break;
        symbols[best] = pairs[best]->product;
        count--;
        for (uint32_t i = best + 1; i < count; i++)
            symbols[i] = symbols[i + 1];
        for (uint32_t i = best; i + 1 < count; i++)
            pairs[i] = pairs[i + 1];
        if (best > 0)
            pairs[best - 1] = slot_of(m, symbols[best - 1], symbols[best]);
        if (best + 1 < count)
            pairs[best] = slot_of(m, symbols[best], symbols[best + 1]);
    }
    for (uint32_t i = 0; i < count; i++)
        out[i] = (int32_t)symbols[i];
    *written = count;
}

/* -------------------------------------------------------------------------------------- long words */

static void sift_down(uint64_t *heap, size_t count, size_t i) {
    const uint64_t item = heap[i];
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= item)
            break;
        heap[i] = heap[child];
    }
    heap[i] = item;
}

static void sift_up(uint64_t *heap, size_t i) {
    const uint64_t item = heap[i];
    for (; i > 0 && heap[(i - 1) / 2] > item; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

/* The merge of a symbol with the next, or NULL. */
static const pq_merge *merge_at(const pq_merges *m, const pq_symbol *symbols, uint32_t i) {
    if (i == NONE || symbols[i].after == NONE)
        return NULL;
    const pq_merge *found = slot_of(m, symbols[i].token, symbols[symbols[i].after].token);
    return found->rank == NONE ? NULL : found;
}

/* The queue has an entry for every pair there is, and for some that are no more: those are known by a rank that
 * differs from the pair's own, or a symbol that was merged into the one before it. */
static pq_status merge_long(const pq_merges *m, pq_merger *s, uint32_t count,
                            const atomic_int *cancel, pq_error *err) {
    size_t queued = 0;
    pq_symbol *symbols = s->symbols;
    uint64_t *queue = s->queue;
    for (uint32_t i = 0; i + 1 < count; i++) {
        const pq_merge *pair = merge_at(m, symbols, i);
        if (pair)
            queue[queued++] = (uint64_t)pair->rank << 32 | i;
    }
    for (size_t i = queued / 2; i-- > 0;)
        sift_down(queue, queued, i);
    for (uint64_t steps = 0; queued > 0; steps++) {
        if (steps % CANCEL_STEPS == 0 && cancel &&
            atomic_load_explicit(cancel, memory_order_relaxed))
            return pq_fail(err, PQ_ERR_CANCELLED, "cancelled while a text was tokenized");
        const uint64_t top = queue[0];
        queue[0] = queue[--queued];
        if (queued > 0)
            sift_down(queue, queued, 0);
        const uint32_t i = (uint32_t)top;
        const pq_merge *pair = symbols[i].token == NONE ? NULL : merge_at(m, symbols, i);
        if (!pair || pair->rank != top >> 32)
            continue;
        const uint32_t right = symbols[i].after;
        symbols[i].token = pair->product;
        symbols[i].after = symbols[right].after;
        symbols[right].token = NONE;
        if (symbols[i].after != NONE)
            symbols[symbols[i].after].before = i;
        const uint32_t changed[] = {symbols[i].before, i};
        for (int k = 0; k < 2; k++) {
            pair = merge_at(m, symbols, changed[k]);
            if (!pair)
                continue;
            queue[queued] = (uint64_t)pair->rank << 32 | changed[k];
            sift_up(queue, queued++);
        }
    }
    return PQ_OK;
}

pq_status pq_merge_word(const pq_merges *m, pq_merger *s, const uint8_t *word, size_t bytes,
                        pq_ids *out, const atomic_int *cancel, pq_error *err) {
    pq_status st =
        pq_grow(&out->items, &out->room, out->count + bytes, sizeof *out->items, "tokens", err);
    if (st != PQ_OK)
        return st;
    if (bytes <= SHORT_WORD) {
        uint32_t tokens[SHORT_WORD], count = 0;
        for (size_t i = 0; i < bytes; i++)
            if (m->byte_tokens[word[i]] >= 0)
                tokens[count++] = (uint32_t)m->byte_tokens[word[i]];
        size_t written;
        merge_short(m, tokens, count, out->items + out->count, &written);
        out->count += written;
        return PQ_OK;
    }
    st = pq_grow(&s->symbols, &s->symbols_room, bytes, sizeof *s->symbols, "a long word", err);
    if (st == PQ_OK) /* every merge takes one entry out, and may put two in */
        st = pq_grow(&s->queue, &s->queue_room, 2 * bytes, sizeof *s->queue, "a long word", err);
    if (st != PQ_OK)
        return st;
    uint32_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        if (m->byte_tokens[word[i]] >= 0) {
            s->symbols[count] =
                (pq_symbol){(uint32_t)m->byte_tokens[word[i]], count - 1, count + 1};
            count++;
        }
    if (count == 0)
        return PQ_OK;
    s->symbols[count - 1].after = NONE; /* the first has before == (uint32_t)-1, which is NONE */
    st = merge_long(m, s, count, cancel, err);
    for (uint32_t i = 0; i != NONE && st == PQ_OK; i = s->symbols[i].after)
        out->items[out->count++] = (int32_t)s->symbols[i].token;
    return st;
}

void pq_merger_free(pq_merger *s) {
    free(s->symbols);
    free(s->queue);
    *s = (pq_merger){0};
}
