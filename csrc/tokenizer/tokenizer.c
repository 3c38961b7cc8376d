/* tokenizer.c - text to tokens and back: what pyqwen_tokenizer.h promises, from the parts in this folder. */
#include <stdlib.h>
#include <string.h>

#include "../base/cancel.h"
#include "buffer.h"
#include "limits.h"
#include "matcher.h"
#include "merges.h"
#include "normalize.h"
#include "pre_tokenizer.h"

struct pq_tokenizer {
    pq_pieces pieces;
    const pq_pre_tokenizer *rules; /* NULL: nothing can be encoded */
    pq_merges merges;
    pq_matcher control, user_defined;
};

/* --------------------------------------------------------------------------------- opening and closing */

static pq_status find_rules(pq_tokenizer *t, const pq_vocabulary *v, pq_error *err) {
    if (!v->pre || (t->rules = pq_find_pre_tokenizer(v->pre)) != NULL)
        return PQ_OK;
    char known[160] = "";
    for (unsigned i = 0; pq_pre_tokenizer_name(i); i++) {
        const size_t used = strlen(known), bytes = strlen(pq_pre_tokenizer_name(i));
        if (used + bytes + 3 > sizeof known)
            break;
        strcat(strcat(known, i > 0 ? ", " : ""), pq_pre_tokenizer_name(i));
    }
    return pq_fail_at(err, PQ_ERR_UNSUPPORTED, "tokenizer.ggml.pre", -1,
                      "%stokenizer.ggml.pre is '%s', which this version does not know; it knows %s",
                      v->source, pq_show(v->pre, strlen(v->pre)).text, known);
}

static int is_control(uint8_t kind) {
    return kind == PQ_KIND_CONTROL || kind == PQ_KIND_UNKNOWN;
}

static int is_user_defined(uint8_t kind) {
    return kind == PQ_KIND_USER_DEFINED;
}

static int is_ascending(const pq_strings *s) {
    if (s->count > PTRDIFF_MAX / sizeof *s->bounds || !s->bounds || s->bounds[0] != 0)
        return 0;
    for (uint64_t i = 0; i < s->count; i++)
        if (s->bounds[i + 1] < s->bounds[i])
            return 0;
    return s->text != NULL || s->bounds[s->count] == 0;
}

/* An absent list becomes an empty one. */
static int complete(pq_strings *s) {
    static const uint64_t nothing[] = {0};
    if (s->count == 0)
        *s = (pq_strings){.text = "", .bounds = nothing};
    return is_ascending(s);
}

pq_status pq_tokenizer_open(pq_tokenizer **out, const pq_vocabulary *vocabulary, pq_error *err) {
    if (!out || !vocabulary)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_tokenizer_open: no vocabulary");
    pq_vocabulary v = *vocabulary;
    v.source = v.source ? v.source : "";
    if (!complete(&v.tokens) || !complete(&v.merges) || !complete(&v.control))
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_tokenizer_open: bounds that do not ascend");
    pq_tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return pq_fail_memory(err, "a tokenizer", sizeof *t);
    pq_status st = find_rules(t, &v, err);
    if (st == PQ_OK)
        st = pq_pieces_open(&t->pieces, &v, err);
    if (st == PQ_OK)
        st = pq_matcher_open(&t->control, &t->pieces, v.source, is_control, 0, err);
    if (st == PQ_OK && t->rules) {
        st = pq_matcher_open(&t->user_defined, &t->pieces, v.source, is_user_defined, 1, err);
        if (st == PQ_OK)
            st = pq_merges_open(&t->merges, &v, &t->pieces, err);
    }
    if (st == PQ_OK)
        *out = t;
    else
        pq_tokenizer_close(t);
    return st;
}

void pq_tokenizer_close(pq_tokenizer *t) {
    if (!t)
        return;
    pq_merges_close(&t->merges);
    pq_matcher_close(&t->user_defined);
    pq_matcher_close(&t->control);
    pq_pieces_close(&t->pieces);
    free(t);
}

/* ------------------------------------------------------------------------------------ single tokens */

const uint8_t *pq_tokenizer_kinds(const pq_tokenizer *t) {
    return t->pieces.kinds;
}

static int has_token(const pq_tokenizer *t, int32_t token) {
    return token >= 0 && (uint32_t)token < t->pieces.count;
}

const char *pq_tokenizer_piece(const pq_tokenizer *t, int32_t token, size_t *bytes) {
    if (!has_token(t, token))
        return NULL;
    uint32_t length;
    const char *piece = pq_piece(&t->pieces, (uint32_t)token, &length);
    *bytes = length;
    return piece;
}

int32_t pq_tokenizer_find(const pq_tokenizer *t, const char *piece, size_t bytes) {
    return pq_pieces_find(&t->pieces, piece, bytes);
}

pq_status pq_tokenizer_decode(const pq_tokenizer *t, const int32_t *ids, size_t n, char *dst,
                              size_t room, size_t *bytes, pq_error *err) {
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (!has_token(t, ids[i]))
            return pq_fail(err, PQ_ERR_ARGUMENT,
                           "token id %ld is outside this vocabulary of %lu tokens", (long)ids[i],
                           (unsigned long)t->pieces.count);
        total += pq_piece_meaning(&t->pieces, (uint32_t)ids[i], NULL);
    }
    if (total > PTRDIFF_MAX)
        return pq_fail_memory(err, "the text of tokens", total);
    for (size_t i = 0; i < n && dst && total <= room; i++)
        dst += pq_piece_meaning(&t->pieces, (uint32_t)ids[i], dst);
    *bytes = (size_t)total;
    return PQ_OK;
}

void pq_tokenizer_lengths(const pq_tokenizer *t, uint32_t *lengths) {
    for (uint32_t i = 0; i < t->pieces.count; i++)
        lengths[i] = (uint32_t)pq_piece_meaning(&t->pieces, i, NULL);
}

/* ------------------------------------------------------------------------------------------ encoding */

/* What one call needs. */
typedef struct encoder {
    const pq_tokenizer *tokenizer;
    const atomic_int *cancel;
    pq_error *err;
    pq_ids ids;
    pq_matches control, user_defined;
    pq_normalizer normalizer;
    pq_merger merger;
    char *piece; /* (2 * the longest token's bytes) a word spelled as the file does */
} encoder;

enum { CANCEL_WORDS = 4096 };

static pq_status push(encoder *e, int32_t token) {
    pq_ids *ids = &e->ids;
    const pq_status st =
        pq_grow(&ids->items, &ids->room, ids->count + 1, sizeof *ids->items, "tokens", e->err);
    if (st == PQ_OK)
        ids->items[ids->count++] = token;
    return st;
}

/* The token that is this word as a whole, or -1. */
static int32_t whole_word(const encoder *e, const uint8_t *word, size_t bytes) {
    const pq_pieces *pieces = &e->tokenizer->pieces;
    if (bytes > pieces->longest)
        return -1;
    size_t spelled = 0;
    for (size_t i = 0; i < bytes; i++)
        spelled += pq_byte_to_alphabet(word[i], e->piece + spelled);
    const int32_t token = pq_pieces_find(pieces, e->piece, spelled);
    return token >= 0 && pq_is_ordinary(pieces->kinds[token]) ? token : -1;
}

/* Text without control or user-defined tokens. */
static pq_status encode_plain(encoder *e, const char *text, size_t bytes) {
    const pq_pre_tokenizer *rules = e->tokenizer->rules;
    const uint8_t *plain = (const uint8_t *)text;
    pq_status st = PQ_OK;
    if (rules->compose)
        st = pq_normalize(&e->normalizer, plain, bytes, &plain, &bytes, e->cancel, e->err);
    pq_words words = pq_words_over(rules, plain, bytes);
    size_t begin;
    for (uint32_t n = 1; st == PQ_OK && pq_next_word(&words, &begin); n++) {
        if (n % CANCEL_WORDS == 0 && e->cancel &&
            atomic_load_explicit(e->cancel, memory_order_relaxed))
            return pq_fail(e->err, PQ_ERR_CANCELLED, "cancelled while a text was tokenized");
        const uint8_t *word = plain + begin;
        const size_t length = words.at - begin;
        const int32_t whole = rules->whole_words ? whole_word(e, word, length) : -1;
        st = whole >= 0 ? push(e, whole)
                        : pq_merge_word(&e->tokenizer->merges, &e->merger, word, length, &e->ids,
                                        e->cancel, e->err);
    }
    return st;
}

typedef pq_status encode_fn(encoder *e, const char *text, size_t bytes);

/* The leftmost match becomes a token, then the leftmost after it; `between` encodes the rest. */
static pq_status encode_around(encoder *e, const pq_matches *matches, const char *text,
                               size_t bytes, encode_fn *between) {
    pq_status st = PQ_OK;
    size_t at = 0;
    for (size_t i = matches->count; i-- > 0 && st == PQ_OK;) {
        const pq_match *match = &matches->items[i];
        if (match->begin < at)
            continue;
        if (match->begin > at)
            st = between(e, text + at, match->begin - at);
        if (st == PQ_OK)
            st = push(e, match->token);
        at = match->begin + match->bytes;
    }
    return st == PQ_OK && at < bytes ? between(e, text + at, bytes - at) : st;
}

static pq_status encode_ordinary(encoder *e, const char *text, size_t bytes) {
    const pq_tokenizer *t = e->tokenizer;
    const pq_status st = pq_matcher_find(&t->user_defined, &t->pieces, text, bytes, NULL, 0,
                                         &e->user_defined, e->cancel, e->err);
    return st == PQ_OK ? encode_around(e, &e->user_defined, text, bytes, encode_plain) : st;
}

static pq_status check_text(const char *text, size_t bytes, pq_error *err) {
    if (bytes > PQ_MAX_TEXT_BYTES)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "the text has %llu bytes, more than %d: cut it into several",
                       (unsigned long long)bytes, PQ_MAX_TEXT_BYTES);
    return text || bytes == 0 ? PQ_OK : pq_fail(err, PQ_ERR_ARGUMENT, "no text");
}

pq_status pq_tokenizer_encode(const pq_tokenizer *t, const char *text, size_t bytes, int control,
                              const size_t *cuts, size_t n_cuts, int32_t **ids, size_t *n,
                              const pq_cancel *cancel, pq_error *err) {
    pq_status st = check_text(text, bytes, err);
    if (st != PQ_OK)
        return st;
    if (!t->rules)
        return pq_fail(err, PQ_ERR_ARGUMENT, "this vocabulary was opened without merges");
    encoder e = {.tokenizer = t, .cancel = pq_cancel_flag(cancel), .err = err};
    if (t->rules->whole_words && !(e.piece = malloc(2 * (size_t)t->pieces.longest + 1)))
        st = pq_fail_memory(err, "a word", 2 * (uint64_t)t->pieces.longest);
    if (st == PQ_OK && control)
        st = pq_matcher_find(&t->control, &t->pieces, text, bytes, cuts, n_cuts, &e.control,
                             e.cancel, err);
    if (st == PQ_OK)
        st = encode_around(&e, &e.control, text, bytes, encode_ordinary);
    free(e.piece);
    free(e.control.items);
    free(e.user_defined.items);
    pq_normalizer_free(&e.normalizer);
    pq_merger_free(&e.merger);
    if (st != PQ_OK) {
        free(e.ids.items);
        return st;
    }
    *ids = e.ids.items;
    *n = e.ids.count;
    return PQ_OK;
}

pq_status pq_tokenizer_match(const pq_tokenizer *t, const char *text, size_t bytes,
                             pq_match **matches, size_t *n, pq_error *err) {
    pq_status st = check_text(text, bytes, err);
    pq_matches found = {0};
    if (st == PQ_OK)
        st = pq_matcher_find(&t->control, &t->pieces, text, bytes, NULL, 0, &found, NULL, err);
    if (st != PQ_OK) {
        free(found.items);
        return st;
    }
    *matches = found.items;
    *n = found.count;
    return PQ_OK;
}

void pq_tokenizer_free(void *result) {
    free(result);
}
