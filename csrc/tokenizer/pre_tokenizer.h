/* pre_tokenizer.h - how model families cut text into words before merging, written by hand: each is what the
 * regular expression of its tokenizer.json matches, on any bytes and in linear time. */
#ifndef PQ_PRE_TOKENIZER_H
#define PQ_PRE_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

typedef enum pq_word_rule { PQ_WORDS_GPT2, PQ_WORDS_QWEN2, PQ_WORDS_LLAMA3 } pq_word_rule;

typedef struct pq_pre_tokenizer {
    const char *name; /* as tokenizer.ggml.pre has it */
    pq_word_rule rule;
    uint8_t
        isolate_digits;  /* each digit is cut out first, and the rule sees what is between them */
    uint8_t compose;     /* text is brought to normalization form C first */
    uint8_t whole_words; /* a word that is a token is taken as it is, whatever the merges say */
} pq_pre_tokenizer;

/* NULL for an unknown name. */
const pq_pre_tokenizer *pq_find_pre_tokenizer(const char *name);
/* The names, best known first; NULL past the end. */
const char *pq_pre_tokenizer_name(unsigned index);

typedef struct pq_words {
    const pq_pre_tokenizer *rules;
    const uint8_t *text;
    size_t bytes;
    size_t at; /* where the next word begins */
    size_t
        part_end; /* what the rule sees ends here: at a digit that is cut out, or with the text */
    uint32_t hint;
} pq_words;

pq_words pq_words_over(const pq_pre_tokenizer *rules, const uint8_t *text, size_t bytes);
/* The next word is text[*begin .. words->at). 0 at the end. */
int pq_next_word(pq_words *words, size_t *begin);

#endif
