/* matcher.c - see matcher.h. */
#include "matcher.h"

#include <stdlib.h>
#include <string.h>

#include "buffer.h"
#include "limits.h"

enum { FEW_TEXTS = 32, CANCEL_BYTES = 1 << 16 };

/* What the construction needs beside the automaton. */
typedef struct builder {
    const pq_pieces *pieces;
    uint32_t *texts;  /* (n_texts) tokens; those below one node are neighbors */
    uint32_t *sorted; /* (n_texts) scratch */
    uint32_t n_texts;
    uint32_t *begin; /* (nodes) which of `texts` are below a node: from here ... */
    uint32_t *end;   /* (nodes) ... to there */
} builder;

/* The byte of a text at a depth, counted from its end. */
static uint8_t byte_at(const builder *b, uint32_t text, uint32_t depth) {
    uint32_t bytes;
    const char *piece = pq_piece(b->pieces, b->texts[text], &bytes);
    return (uint8_t)piece[bytes - 1 - depth];
}

/* Orders texts begin .. end - 1, all longer than depth, by their byte at depth. */
static void order_by_byte(builder *b, uint32_t begin, uint32_t end, uint32_t depth) {
    if (end - begin <= FEW_TEXTS) {
        for (uint32_t i = begin + 1; i < end; i++) {
            const uint32_t text = b->texts[i];
            const uint8_t byte = byte_at(b, i, depth);
            uint32_t j = i;
            for (; j > begin && byte_at(b, j - 1, depth) > byte; j--)
                b->texts[j] = b->texts[j - 1];
            b->texts[j] = text;
        }
        return;
    }
    uint32_t places[257] = {0};
    for (uint32_t i = begin; i < end; i++)
        places[byte_at(b, i, depth) + 1]++;
    for (unsigned c = 0; c < 256; c++)
        places[c + 1] += places[c];
    for (uint32_t i = begin; i < end; i++)
        b->sorted[places[byte_at(b, i, depth)]++] = b->texts[i];
    memcpy(b->texts + begin, b->sorted, (end - begin) * sizeof *b->texts);
}

static uint32_t child_of(const pq_matcher *m, uint32_t node, uint8_t byte) {
    if (node == 0)
        return m->root[byte];
    uint32_t low = m->first[node], high = m->first[node + 1];
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (m->byte[middle] == byte)
            return middle;
        if (m->byte[middle] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static uint32_t step(const pq_matcher *m, uint32_t node, uint8_t byte) {
    uint32_t next = child_of(m, node, byte);
    while (next == 0 && node != 0) {
        node = m->shorter[node];
        next = child_of(m, node, byte);
    }
    return next;
}

/* Makes all nodes, level by level: a node's children are made when its turn comes, so that they lie
 * together and all shorter beginnings are complete. */
static void make_nodes(pq_matcher *m, builder *b) {
    uint32_t made = 1, level_end = 1, depth = 0;
    m->token[0] = -1;
    m->shorter[0] = 0;
    m->byte[0] = 0;
    b->begin[0] = 0;
    b->end[0] = b->n_texts;
    for (uint32_t node = 0; node < made; node++) {
        if (node == level_end) {
            level_end = made;
            depth++;
        }
        uint32_t begin = b->begin[node], end = b->end[node];
        m->token[node] = node == 0 ? -1 : m->token[m->shorter[node]];
        for (uint32_t i = begin; i < end; i++) {
            const uint32_t token = b->texts[i];
            uint32_t bytes;
            pq_piece(b->pieces, token, &bytes);
            if (bytes == depth) { /* at most one, for no text is there twice */
                m->token[node] = (int32_t)token;
                b->texts[i] = b->texts[begin];
                b->texts[begin++] = token;
                break;
            }
        }
        m->first[node] = made;
        order_by_byte(b, begin, end, depth);
        while (begin < end) {
            const uint8_t byte = byte_at(b, begin, depth);
            uint32_t next = begin + 1;
            while (next < end && byte_at(b, next, depth) == byte)
                next++;
            m->byte[made] = byte;
            b->begin[made] = begin;
            b->end[made] = next;
            m->shorter[made] = node == 0 ? 0 : step(m, m->shorter[node], byte);
            if (node == 0)
                m->root[byte] = made;
            made++;
            begin = next;
        }
    }
    m->nodes = made;
    m->first[made] = made;
}

static pq_status allocate(pq_matcher *m, builder *b, uint32_t nodes, pq_error *err) {
    m->first = malloc((nodes + (size_t)1) * sizeof *m->first);
    m->byte = malloc(nodes);
    m->shorter = malloc(nodes * sizeof *m->shorter);
    m->token = malloc(nodes * sizeof *m->token);
    b->texts = malloc(b->n_texts * sizeof *b->texts);
    b->sorted = malloc(b->n_texts * sizeof *b->sorted);
    b->begin = malloc(nodes * sizeof *b->begin);
    b->end = malloc(nodes * sizeof *b->end);
    if (!m->first || !m->byte || !m->shorter || !m->token || !b->texts || !b->sorted || !b->begin ||
        !b->end)
        return pq_fail_memory(err, "the automaton of control texts", nodes * UINT64_C(25));
    return PQ_OK;
}

static int is_one_character(const char *piece, uint32_t bytes) {
    uint32_t characters = 0;
    for (uint32_t i = 0; i < bytes && characters < 2; i++)
        characters += ((unsigned char)piece[i] & 0xC0) != 0x80;
    return characters < 2;
}

/* Counts the texts and their bytes, and notes their tokens unless texts is NULL. */
static pq_status choose(const pq_pieces *pieces, const char *source, int (*wanted)(uint8_t kind),
                        int single, uint32_t *texts, uint32_t *n, uint32_t *total, pq_error *err) {
    *n = *total = 0;
    for (uint32_t i = 0; i < pieces->count; i++) {
        uint32_t bytes;
        const char *piece = pq_piece(pieces, i, &bytes);
        if (!wanted(pieces->kinds[i]) || (!single && is_one_character(piece, bytes)))
            continue;
        if (bytes > PQ_MAX_MATCHED_BYTES || *total + bytes > PQ_MAX_ALL_MATCHED_BYTES)
            return pq_fail_at(err, PQ_ERR_FORMAT, "tokenizer.ggml.tokens", -1,
                              "%stokenizer.ggml.tokens has control or user-defined tokens that are "
                              "too long: '%s' at %lu has %lu bytes (at most %d, and %d for all); "
                              "the file is damaged or was made to do harm",
                              source, pq_show(piece, bytes).text, (unsigned long)i,
                              (unsigned long)bytes, PQ_MAX_MATCHED_BYTES, PQ_MAX_ALL_MATCHED_BYTES);
        if (*n >= PQ_MAX_MATCHED_TOKENS)
            return pq_fail_at(err, PQ_ERR_FORMAT, "tokenizer.ggml.tokens", -1,
                              "%stokenizer.ggml.tokens has more than %d control or user-defined "
                              "tokens; the file is damaged or was made to do harm",
                              source, PQ_MAX_MATCHED_TOKENS);
        *total += bytes;
        if (texts)
            texts[*n] = i;
        ++*n;
    }
    return PQ_OK;
}

pq_status pq_matcher_open(pq_matcher *out, const pq_pieces *pieces, const char *source,
                          int (*wanted)(uint8_t kind), int single, pq_error *err) {
    pq_matcher m = {0};
    builder b = {.pieces = pieces};
    uint32_t total;
    pq_status st = choose(pieces, source, wanted, single, NULL, &b.n_texts, &total, err);
    if (st == PQ_OK && b.n_texts > 0) {
        st = allocate(&m, &b, total + 1, err);
        if (st == PQ_OK)
            st = choose(pieces, source, wanted, single, b.texts, &b.n_texts, &total, err);
        if (st == PQ_OK)
            make_nodes(&m, &b);
        free(b.texts);
        free(b.sorted);
        free(b.begin);
        free(b.end);
    }
    if (st == PQ_OK)
        *out = m;
    else
        pq_matcher_close(&m);
    return st;
}

void pq_matcher_close(pq_matcher *m) {
    free(m->first);
    free(m->byte);
    free(m->shorter);
    free(m->token);
    *m = (pq_matcher){0};
}

pq_status pq_matcher_find(const pq_matcher *m, const pq_pieces *pieces, const char *text,
                          size_t bytes, const size_t *cuts, size_t n_cuts, pq_matches *out,
                          const atomic_int *cancel, pq_error *err) {
    out->count = 0;
    if (m->nodes == 0)
        return PQ_OK;
    uint32_t node = 0;
    for (size_t i = bytes; i-- > 0;) {
        if (i % CANCEL_BYTES == 0 && cancel && atomic_load_explicit(cancel, memory_order_relaxed))
            return pq_fail(err, PQ_ERR_CANCELLED, "cancelled while control texts were looked for");
        for (; n_cuts > 0 && cuts[n_cuts - 1] > i; n_cuts--)
            node = 0;
        node = step(m, node, (uint8_t)text[i]);
        if (node == 0 || m->token[node] < 0)
            continue;
        const pq_status st = pq_grow(&out->items, &out->room, out->count + 1, sizeof *out->items,
                                     "places of control texts", err);
        if (st != PQ_OK)
            return st;
        uint32_t length;
        pq_piece(pieces, (uint32_t)m->token[node], &length);
        out->items[out->count++] = (pq_match){.begin = i, .bytes = length, .token = m->token[node]};
    }
    return PQ_OK;
}
