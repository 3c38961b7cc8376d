/* pre_tokenizer.c - see pre_tokenizer.h. */
#include "pre_tokenizer.h"

#include <string.h>

#include "unicode.h"

static const pq_pre_tokenizer PRE_TOKENIZERS[] = {
    /* Qwen normalizes to form C. llama.cpp does not; the checkpoint's own tokenizer is our rule. */
    {.name = "qwen2", .rule = PQ_WORDS_QWEN2, .compose = 1},
    {.name = "llama-bpe", .rule = PQ_WORDS_LLAMA3, .whole_words = 1},
    {.name = "llama3", .rule = PQ_WORDS_LLAMA3, .whole_words = 1},
    {.name = "smollm", .rule = PQ_WORDS_GPT2, .isolate_digits = 1},
    {.name = "gpt-2", .rule = PQ_WORDS_GPT2},
    {.name = "default", .rule = PQ_WORDS_GPT2},
    /* DeepSeek's distillations into Qwen2.5 have its words without the normalizer. */
    {.name = "deepseek-r1-qwen", .rule = PQ_WORDS_QWEN2},
};

enum { N_PRE_TOKENIZERS = sizeof PRE_TOKENIZERS / sizeof *PRE_TOKENIZERS };

const pq_pre_tokenizer *pq_find_pre_tokenizer(const char *name) {
    for (unsigned i = 0; i < N_PRE_TOKENIZERS; i++)
        if (strcmp(PRE_TOKENIZERS[i].name, name) == 0)
            return &PRE_TOKENIZERS[i];
    return NULL;
}

const char *pq_pre_tokenizer_name(unsigned index) {
    return index < N_PRE_TOKENIZERS ? PRE_TOKENIZERS[index].name : NULL;
}

/* --------------------------------------------------------------------------------- characters and runs */

typedef struct character {
    uint32_t point;
    unsigned properties;
    unsigned bytes; /* 0 at the end of the part */
} character;

static const uint8_t ASCII[128] = {
    ['\t'] = PQ_SPACE, ['\n'] = PQ_SPACE, ['\v'] = PQ_SPACE, ['\f'] = PQ_SPACE, ['\r'] = PQ_SPACE,
    [' '] = PQ_SPACE,
#define NUMBER(c) [c] = PQ_NUMBER | PQ_DIGIT
    NUMBER('0'),       NUMBER('1'),       NUMBER('2'),       NUMBER('3'),       NUMBER('4'),
    NUMBER('5'),       NUMBER('6'),       NUMBER('7'),       NUMBER('8'),       NUMBER('9'),
#undef NUMBER
#define LETTER(c) [c] = PQ_LETTER, [c - 'a' + 'A'] = PQ_LETTER
    LETTER('a'),       LETTER('b'),       LETTER('c'),       LETTER('d'),       LETTER('e'),
    LETTER('f'),       LETTER('g'),       LETTER('h'),       LETTER('i'),       LETTER('j'),
    LETTER('k'),       LETTER('l'),       LETTER('m'),       LETTER('n'),       LETTER('o'),
    LETTER('p'),       LETTER('q'),       LETTER('r'),       LETTER('s'),       LETTER('t'),
    LETTER('u'),       LETTER('v'),       LETTER('w'),       LETTER('x'),       LETTER('y'),
    LETTER('z'),
#undef LETTER
};

static character look(pq_words *w, size_t at) {
    if (at >= w->part_end)
        return (character){0};
    const uint8_t byte = w->text[at];
    if (byte < 0x80)
        return (character){.point = byte, .properties = ASCII[byte], .bytes = 1};
    character c;
    c.point = pq_decode(w->text + at, w->part_end - at, &c.bytes);
    c.properties = pq_properties_of(c.point, &w->hint);
    return c;
}

static int is(character c, unsigned class) {
    return c.bytes > 0 && (c.properties & PQ_CLASS_MASK) == class;
}

static int is_line_end(character c) {
    return c.bytes > 0 && (c.point == '\n' || c.point == '\r');
}

/* Where the run of characters of this class ends that begins at `at`. */
static size_t run(pq_words *w, size_t at, unsigned class) {
    for (;;) {
        while (at < w->part_end && w->text[at] < 0x80 &&
               (ASCII[w->text[at]] & PQ_CLASS_MASK) == class)
            at++;
        const character c = look(w, at);
        if (!is(c, class))
            return at;
        at += c.bytes;
    }
}

static size_t line_ends(const pq_words *w, size_t at) {
    while (at < w->part_end && (w->text[at] == '\n' || w->text[at] == '\r'))
        at++;
    return at;
}

/* ----------------------------------------------------------------------------------------- the rules */

/* 's|'t|'re|'ve|'m|'ll|'d at `at`, where an apostrophe is: bytes, or 0. With any_case also in capitals, and the
 * long s, which is an s to a regular expression that ignores case. */
static size_t contraction(const pq_words *w, size_t at, int any_case) {
    const uint8_t *p = w->text + at + 1;
    const size_t left = w->part_end - at - 1;
    if (any_case && left >= 2 && p[0] == 0xC5 && p[1] == 0xBF)
        return 3;
    const unsigned fold = any_case ? 0x20 : 0;
    const unsigned a = left >= 1 && p[0] < 0x80 ? p[0] | fold : 0;
    const unsigned b = left >= 2 && p[1] < 0x80 ? p[1] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd')
        return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+: the last space of a run belongs to the word after it. */
static size_t spaces(pq_words *w, size_t at) {
    const size_t end = run(w, at, PQ_SPACE);
    if (end == w->part_end)
        return end;
    size_t last = end - 1;
    while ((w->text[last] & 0xC0) == 0x80)
        last--;
    return last > at ? last : end;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2_word(pq_words *w, size_t at) {
    character c = look(w, at);
    if (c.point == '\'') {
        const size_t bytes = contraction(w, at, 0);
        if (bytes > 0)
            return at + bytes;
    }
    const size_t next = c.point == ' ' ? at + 1 : at;
    const character d = next == at ? c : look(w, next);
    if (d.bytes == 0 || is(d, PQ_SPACE))
        return spaces(w, at);
    return run(w, next, d.properties & PQ_CLASS_MASK);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+
 * |\s+(?!\S)|\s+, and for Llama 3 with \p{N}{1,3} */
static size_t qwen2_word(pq_words *w, size_t at, unsigned most_numbers) {
    const character c = look(w, at);
    if (c.point == '\'') {
        const size_t bytes = contraction(w, at, 1);
        if (bytes > 0)
            return at + bytes;
    }
    if (is(c, PQ_LETTER))
        return run(w, at, PQ_LETTER);
    if (is(c, PQ_NUMBER)) {
        for (character d = c; most_numbers > 0 && is(d, PQ_NUMBER); most_numbers--) {
            at += d.bytes;
            d = look(w, at);
        }
        return at;
    }
    const size_t next = at + c.bytes;
    const character d = look(w, next);
    if (!is_line_end(c) && is(d, PQ_LETTER))
        return run(w, next, PQ_LETTER);
    if (is(c, PQ_OTHER) || (c.point == ' ' && is(d, PQ_OTHER)))
        return line_ends(w, run(w, next, PQ_OTHER));
    const size_t end = run(w, at, PQ_SPACE);
    for (size_t i = end; i > at; i--)
        if (w->text[i - 1] == '\n' || w->text[i - 1] == '\r')
            return i; /* \s*[\r\n]+ takes all up to the last line end */
    return spaces(w, at);
}

pq_words pq_words_over(const pq_pre_tokenizer *rules, const uint8_t *text, size_t bytes) {
    return (pq_words){.rules = rules, .text = text, .bytes = bytes};
}

/* Where the next digit is that is cut out, from `at` on. */
static size_t next_digit(pq_words *w, size_t at) {
    w->part_end = w->bytes;
    for (character c; (c = look(w, at)).bytes > 0; at += c.bytes)
        if (c.properties & PQ_DIGIT)
            break;
    return at;
}

int pq_next_word(pq_words *w, size_t *begin) {
    if (w->at >= w->bytes)
        return 0;
    *begin = w->at;
    if (w->at >= w->part_end) {
        w->part_end = w->rules->isolate_digits ? next_digit(w, w->at) : w->bytes;
        if (w->part_end == w->at) {
            unsigned bytes;
            pq_decode(w->text + w->at, w->bytes - w->at, &bytes);
            w->at = w->part_end = w->at + bytes;
            return 1;
        }
    }
    w->at = w->rules->rule == PQ_WORDS_GPT2
                ? gpt2_word(w, w->at)
                : qwen2_word(w, w->at, w->rules->rule == PQ_WORDS_LLAMA3 ? 3 : 1);
    return 1;
}
