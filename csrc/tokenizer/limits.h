/* limits.h - the most that a vocabulary may bring; published ones stay far below. */
#ifndef PQ_TOKENIZER_LIMITS_H
#define PQ_TOKENIZER_LIMITS_H

enum {
    PQ_MAX_TOKENS = 4 << 20, /* the largest published vocabularies have 262,144 */
    PQ_MAX_MERGES = 4 << 20,
    PQ_MAX_VOCABULARY_BYTES = 256 << 20, /* of all tokens, of all merges; real ones: 2 to 4 MiB */
    /* Texts of control and user-defined tokens are looked for at every place of a text. */
    PQ_MAX_MATCHED_BYTES = 1024,        /* of one; the longest published have about 40 */
    PQ_MAX_ALL_MATCHED_BYTES = 4 << 20, /* 17 bytes of memory for each */
    PQ_MAX_MATCHED_TOKENS = 256 << 10,  /* some have a hundred thousand, for sounds */
    PQ_MAX_TEXT_BYTES = 1 << 30 /* of one call; normalized it may have three times as many */
};

#endif
