/* vocabulary.c - see vocabulary.h. */
#include "vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "limits.h"
#include "unicode.h"

#define TOKENS "tokenizer.ggml.tokens"
#define REMEDY "the file is damaged or was converted wrongly: download or convert it again"

enum { SHOWN_BYTES = 60 };

pq_shown pq_show(const char *text, size_t bytes) {
    pq_shown shown;
    char *dst = shown.text;
    size_t cut = bytes <= SHOWN_BYTES ? bytes : SHOWN_BYTES;
    while (cut < bytes && cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80)
        cut--; /* not inside a character */
    for (size_t i = 0; i < cut; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != 0x7F)
            *dst++ = (char)c;
        else
            dst += snprintf(dst, 5, "\\x%02X", c);
    }
    *dst = '\0';
    return shown;
}

static pq_status copy_text(pq_pieces *p, const pq_vocabulary *v, pq_error *err) {
    const pq_strings *tokens = &v->tokens;
    if (tokens->count > PQ_MAX_TOKENS)
        return pq_fail_at(err, PQ_ERR_FORMAT, TOKENS, -1,
                          "%s" TOKENS " has %llu entries, more than %d; " REMEDY, v->source,
                          (unsigned long long)tokens->count, PQ_MAX_TOKENS);
    const uint64_t bytes = tokens->bounds[tokens->count];
    if (bytes > PQ_MAX_VOCABULARY_BYTES)
        return pq_fail_at(err, PQ_ERR_FORMAT, TOKENS, -1,
                          "%s" TOKENS " has %llu bytes, more than %d; " REMEDY, v->source,
                          (unsigned long long)bytes, PQ_MAX_VOCABULARY_BYTES);
    p->count = (uint32_t)tokens->count;
    p->text = malloc((size_t)bytes + 1);
    p->bounds = malloc((p->count + (size_t)1) * sizeof *p->bounds);
    p->kinds = malloc(p->count + (size_t)1);
    if (!p->text || !p->bounds || !p->kinds)
        return pq_fail_memory(err, "a vocabulary", bytes + 5 * (p->count + (uint64_t)1));
    memcpy(p->text, tokens->text, (size_t)bytes);
    for (uint32_t i = 0; i <= p->count; i++) {
        p->bounds[i] = (uint32_t)tokens->bounds[i];
        if (i > 0 && p->bounds[i] - p->bounds[i - 1] > p->longest)
            p->longest = p->bounds[i] - p->bounds[i - 1];
    }
    return PQ_OK;
}

/* Converters fill the vocabulary up to the rows of the embedding with "[PAD<id>]". */
static int is_padding(const pq_pieces *p, uint32_t token) {
    uint32_t bytes;
    const char *piece = pq_piece(p, token, &bytes);
    if (bytes < 5 || memcmp(piece, "[PAD", 4) != 0)
        return 0;
    char expected[24];
    const int n = snprintf(expected, sizeof expected, "[PAD%lu]", (unsigned long)token);
    return (uint32_t)n == bytes && memcmp(piece, expected, bytes) == 0;
}

static pq_status read_kinds(pq_pieces *p, const pq_vocabulary *v, pq_error *err) {
    for (uint32_t i = 0; i < p->count; i++) {
        const uint8_t kind = v->kinds ? v->kinds[i] : PQ_KIND_NORMAL;
        if (kind < PQ_KIND_NORMAL || kind > PQ_KIND_BYTE)
            return pq_fail_at(err, PQ_ERR_FORMAT, "tokenizer.ggml.token_type", -1,
                              "%stokenizer.ggml.token_type gives token %lu the unknown type "
                              "%u; " REMEDY,
                              v->source, (unsigned long)i, kind);
        p->kinds[i] = is_padding(p, i) ? PQ_KIND_UNUSED : kind;
    }
    return PQ_OK;
}

#define TOKEN(slot) ((uint32_t)(slot) - 1)

/* The slot of the token of this text, or the free one where it belongs. */
static uint64_t *slot_of(const pq_pieces *p, const char *text, size_t bytes, uint64_t hash) {
    uint32_t at = (uint32_t)hash & p->mask;
    for (; p->slots[at] != 0; at = (at + 1) & p->mask) {
        if (p->slots[at] >> 32 != hash >> 32)
            continue;
        uint32_t length;
        const char *piece = pq_piece(p, TOKEN(p->slots[at]), &length);
        if (length == bytes && memcmp(piece, text, bytes) == 0)
            break;
    }
    return &p->slots[at];
}

int32_t pq_pieces_find(const pq_pieces *p, const char *text, size_t bytes) {
    if (bytes > p->longest)
        return -1;
    return (int32_t)TOKEN(*slot_of(p, text, bytes, pq_hash(&p->key, text, bytes)));
}

static pq_status index_pieces(pq_pieces *p, const pq_vocabulary *v, pq_error *err) {
    uint32_t slots = 64;
    while (slots < p->count + p->count / 2)
        slots *= 2;
    p->mask = slots - 1;
    p->slots = calloc(slots, sizeof *p->slots);
    if (!p->slots)
        return pq_fail_memory(err, "the table of tokens", slots * (uint64_t)sizeof *p->slots);
    p->key = pq_new_hash_key();
    for (uint32_t i = 0; i < p->count; i++) {
        if (p->kinds[i] == PQ_KIND_UNUSED)
            continue;
        uint32_t bytes;
        const char *piece = pq_piece(p, i, &bytes);
        if (bytes == 0)
            return pq_fail_at(err, PQ_ERR_FORMAT, TOKENS, -1,
                              "%s" TOKENS " has an empty token at %lu; " REMEDY, v->source,
                              (unsigned long)i);
        const uint64_t hash = pq_hash(&p->key, piece, bytes);
        uint64_t *slot = slot_of(p, piece, bytes, hash);
        if (*slot != 0)
            return pq_fail_at(err, PQ_ERR_FORMAT, TOKENS, -1,
                              "%s" TOKENS " has '%s' twice, at %lu and at %lu; " REMEDY, v->source,
                              pq_show(piece, bytes).text, (unsigned long)TOKEN(*slot),
                              (unsigned long)i);
        *slot = hash >> 32 << 32 | (i + 1);
    }
    return PQ_OK;
}

pq_status pq_pieces_open(pq_pieces *out, const pq_vocabulary *v, pq_error *err) {
    pq_pieces p = {0};
    pq_status st = copy_text(&p, v, err);
    if (st == PQ_OK)
        st = read_kinds(&p, v, err);
    if (st == PQ_OK)
        st = index_pieces(&p, v, err);
    for (uint64_t i = 0; i < v->control.count && st == PQ_OK; i++) {
        const uint64_t begin = v->control.bounds[i];
        const int32_t token =
            pq_pieces_find(&p, v->control.text + begin, (size_t)(v->control.bounds[i + 1] - begin));
        if (token >= 0)
            p.kinds[token] = PQ_KIND_CONTROL;
    }
    if (st == PQ_OK)
        *out = p;
    else
        pq_pieces_close(&p);
    return st;
}

void pq_pieces_close(pq_pieces *p) {
    free(p->text);
    free(p->bounds);
    free(p->kinds);
    free(p->slots);
    *p = (pq_pieces){0};
}

/* ------------------------------------------------------------------------------- the byte alphabet */

/* Bytes 0x00..0x20, 0x7F..0xA0 and 0xAD stand as U+0100 and on, in this order; all others as themselves. */
unsigned pq_byte_to_alphabet(uint8_t byte, char *dst) {
    uint32_t point = byte;
    if (byte <= 0x20)
        point = 0x100u + byte;
    else if (byte >= 0x7F && byte <= 0xA0)
        point = 0x121u + (byte - 0x7Fu);
    else if (byte == 0xAD)
        point = 0x143;
    return pq_encode(point, (uint8_t *)dst);
}

/* The byte of a character of the alphabet, or -1. */
static int alphabet_to_byte(uint32_t point) {
    if (point >= 0x100)
        return point <= 0x120   ? (int)(point - 0x100)
               : point <= 0x142 ? (int)(point - 0x121 + 0x7F)
               : point == 0x143 ? 0xAD
                                : -1;
    return point <= 0x20 || (point >= 0x7F && point <= 0xA0) || point == 0xAD ? -1 : (int)point;
}

size_t pq_piece_meaning(const pq_pieces *p, uint32_t token, char *dst) {
    uint32_t bytes;
    const uint8_t *piece = (const uint8_t *)pq_piece(p, token, &bytes);
    const uint8_t kind = p->kinds[token];
    if (kind == PQ_KIND_UNUSED)
        return 0;
    size_t made = 0;
    unsigned length;
    for (uint32_t i = 0; i < bytes; i += length) {
        const int byte = kind == PQ_KIND_NORMAL || kind == PQ_KIND_BYTE
                             ? alphabet_to_byte(pq_decode(piece + i, bytes - i, &length))
                             : -1;
        if (byte < 0) { /* the whole piece is meant literally, as Hugging Face has it */
            if (dst)
                memcpy(dst, piece, bytes);
            return bytes;
        }
        if (dst)
            dst[made] = (char)byte;
        made++;
    }
    return made;
}
