/* pyqwen_tokenizer.h - the public interface of tokenizers, on top of pyqwen.h and by its rules: text to
 * tokens and back.
 */
#ifndef PYQWEN_TOKENIZER_H
#define PYQWEN_TOKENIZER_H

#include "pyqwen.h"

typedef struct pq_vocabulary {
    const char *source;   /* what messages begin with, or NULL */
    const char *pre;      /* tokenizer.ggml.pre; NULL: not byte-level BPE, nothing can be encoded */
    pq_strings tokens;    /* tokenizer.ggml.tokens, as pq_file_strings gives them */
    const uint8_t *kinds; /* (tokens.count) tokenizer.ggml.token_type; NULL: all are normal */
    pq_strings merges;    /* tokenizer.ggml.merges; unread without pre */
    pq_strings control;   /* texts that are control tokens whatever kinds says */
} pq_vocabulary;

typedef struct pq_match { /* where a control token's text begins: the longest that does */
    size_t begin;
    uint32_t bytes;
    int32_t token;
} pq_match;

typedef struct pq_tokenizer pq_tokenizer; /* immutable, may be shared by threads */

/* Copies what it needs. PQ_ERR_FORMAT for contradictions, PQ_ERR_UNSUPPORTED for another `pre`. */
pq_status pq_tokenizer_open(pq_tokenizer **out, const pq_vocabulary *v, pq_error *err);
void pq_tokenizer_close(pq_tokenizer *t);
/* (tokens.count) the kinds that count: "[PAD<id>]" is unused, and v->control are control tokens. */
const uint8_t *pq_tokenizer_kinds(const pq_tokenizer *t);
/* The token as the file spells it, without a NUL at its end; NULL for an id that is none. */
const char *pq_tokenizer_piece(const pq_tokenizer *t, int32_t token, size_t *bytes);
/* The token of exactly this spelling that is not padding, or -1. */
int32_t pq_tokenizer_find(const pq_tokenizer *t, const char *piece, size_t bytes);
/* Tokens of a text; the caller frees *ids (n). control 1: control tokens are recognized, but not across one of
 * the cuts (n_cuts byte positions, ascending). User-defined ones always are. A byte that is not UTF-8 is a
 * symbol, encoded as it is. */
pq_status pq_tokenizer_encode(const pq_tokenizer *t, const char *text, size_t bytes, int control,
                              const size_t *cuts, size_t n_cuts, int32_t **ids, size_t *n,
                              const pq_cancel *cancel, pq_error *err);
/* What tokens stand for: *bytes bytes, written to dst unless they are more than `room`. */
pq_status pq_tokenizer_decode(const pq_tokenizer *t, const int32_t *ids, size_t n, char *dst,
                              size_t room, size_t *bytes, pq_error *err);
/* (tokens.count) how many bytes each token stands for: together what decoding all of them in order gives. */
void pq_tokenizer_lengths(const pq_tokenizer *t, uint32_t *lengths);
/* All places where texts of control tokens begin, in descending order; the caller frees *matches (n). */
pq_status pq_tokenizer_match(const pq_tokenizer *t, const char *text, size_t bytes,
                             pq_match **matches, size_t *n, pq_error *err);
void pq_tokenizer_free(void *ids_or_matches);

#endif
