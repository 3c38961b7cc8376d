/* vocabulary.h - the tokens of a file: their texts, their kinds, and a table from text to token. */
#ifndef PQ_VOCABULARY_H
#define PQ_VOCABULARY_H

#include "../base/status.h"
#include "../pyqwen_tokenizer.h"
#include "hash.h"

/* tokenizer.ggml.token_type */
enum {
    PQ_KIND_NORMAL = 1,
    PQ_KIND_UNKNOWN = 2,
    PQ_KIND_CONTROL = 3,
    PQ_KIND_USER_DEFINED = 4,
    PQ_KIND_UNUSED = 5,
    PQ_KIND_BYTE = 6
};

typedef struct pq_pieces {
    char *text;       /* of all tokens, back to back, as the file spells them */
    uint32_t *bounds; /* (count + 1) where each begins in it */
    uint8_t *kinds;   /* (count) */
    uint32_t count;
    uint32_t longest; /* bytes */
    uint64_t *slots; /* (mask + 1) upper half of the text's hash, and token + 1; 0 for a free one */
    uint32_t mask;
    pq_hash_key key;
} pq_pieces;

/* Copies and checks the tokens of `v`, and decides their kinds. Messages begin with v->source. On failure
 * nothing is left. */
pq_status pq_pieces_open(pq_pieces *out, const pq_vocabulary *v, pq_error *err);
void pq_pieces_close(pq_pieces *pieces);

static inline const char *pq_piece(const pq_pieces *pieces, uint32_t token, uint32_t *bytes) {
    *bytes = pieces->bounds[token + 1] - pieces->bounds[token];
    return pieces->text + pieces->bounds[token];
}

/* The token that is not padding and of exactly this text, or -1. */
int32_t pq_pieces_find(const pq_pieces *pieces, const char *text, size_t bytes);

/* 1 if text can become the token by merging: it is normal, user-defined or a byte. */
static inline int pq_is_ordinary(uint8_t kind) {
    return kind == PQ_KIND_NORMAL || kind == PQ_KIND_USER_DEFINED || kind == PQ_KIND_BYTE;
}

/* --- the byte alphabet: GPT-2's printable stand-in for each byte (openai/gpt-2, encoder.py) --- */

enum { PQ_ALPHABET_BYTES = 2 }; /* the most that the UTF-8 of one stand-in has */

/* Writes 1 or 2 bytes and returns how many. */
unsigned pq_byte_to_alphabet(uint8_t byte, char *dst);
/* The bytes that a piece stands for, written to dst (as many bytes as the piece, or NULL); returns how many.
 * Pieces with a character outside the alphabet, and all but normal and byte tokens, stand for their own
 * text; padding stands for nothing. */
size_t pq_piece_meaning(const pq_pieces *pieces, uint32_t token, char *dst);

/* A text from a file for a message: at most 60 bytes, control characters as \xNN. */
typedef struct pq_shown {
    char text[256];
} pq_shown;
pq_shown pq_show(const char *text, size_t bytes);

#endif
