/* test_tokenizer.c - byte-level BPE: words of each family, normalization, merging, control texts, vocabularies that
 * are wrong, and failing allocations. Equality with `tokenizers` is tested in tests/tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "base/cancel.h"
#include "check.h"
#include "tokenizer/limits.h"
#include "tokenizer/matcher.h"
#include "tokenizer/merges.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pre_tokenizer.h"

/* ----------------------------------------------------------------------------------- vocabularies */

enum { ROOM = 1 << 16, MOST = 4096 };

/* A list of strings under construction. */
typedef struct list {
    char text[ROOM];
    uint64_t bounds[MOST + 1];
    uint64_t count;
} list;

static void add(list *l, const char *text, size_t bytes) {
    const uint64_t at = l->bounds[l->count];
    if (l->count >= MOST || at + bytes > ROOM)
        abort();
    memcpy(l->text + at, text, bytes);
    l->bounds[++l->count] = at + bytes;
}

static void add_text(list *l, const char *text) {
    add(l, text, strlen(text));
}

static pq_strings strings(const list *l) {
    return (pq_strings){.text = l->text, .bounds = l->bounds, .count = l->count};
}

/* All bytes, some merges of "hello world", control and user-defined tokens, padding. */
typedef struct small {
    list tokens, merges;
    uint8_t kinds[MOST];
} small;

enum { FIRST_WORD = 256 };
static const char *const WORDS[] = {"he", "ll",         "hell",      "hello",
                                    "wo", "\xC4\xA0wo", "\xC4\xA0w", NULL}; /* U+0120: a space */
static const char *const MERGES[] = {"h e", "l l",         "he ll",      "hell o",
                                     "w o", "\xC4\xA0 wo", "\xC4\xA0 w", NULL};

static void add_kind(small *s, const char *text, uint8_t kind) {
    s->kinds[s->tokens.count] = kind;
    add_text(&s->tokens, text);
}

static small *new_small(void) {
    small *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    for (unsigned byte = 0; byte < 256; byte++) {
        char piece[PQ_ALPHABET_BYTES];
        s->kinds[byte] = PQ_KIND_NORMAL;
        add(&s->tokens, piece, pq_byte_to_alphabet((uint8_t)byte, piece));
    }
    for (int i = 0; WORDS[i]; i++)
        add_kind(s, WORDS[i], PQ_KIND_NORMAL);
    for (int i = 0; MERGES[i]; i++)
        add_text(&s->merges, MERGES[i]);
    add_kind(s, "<|im_end|>", PQ_KIND_CONTROL);
    add_kind(s, "<|im_end|><|im_end|>", PQ_KIND_CONTROL);
    add_kind(s, "<tool>", PQ_KIND_USER_DEFINED);
    char padding[16];
    snprintf(padding, sizeof padding, "[PAD%d]", (int)s->tokens.count);
    add_kind(s, padding, PQ_KIND_NORMAL);
    return s;
}

static pq_vocabulary vocabulary(const small *s, const char *pre) {
    return (pq_vocabulary){.source = "t: ",
                           .pre = pre,
                           .tokens = strings(&s->tokens),
                           .kinds = s->kinds,
                           .merges = strings(&s->merges)};
}

static pq_tokenizer *opened(const small *s, const char *pre) {
    const pq_vocabulary v = vocabulary(s, pre);
    pq_tokenizer *t = NULL;
    pq_error err;
    if (pq_tokenizer_open(&t, &v, &err) != PQ_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return t;
}

/* The tokens of a text as spelled in the file, each followed by '/'. */
static const char *spelled(const pq_tokenizer *t, const char *text, size_t bytes, int control,
                           const size_t *cuts, size_t n_cuts) {
    static char out[4096];
    int32_t *ids;
    size_t n, at = 0;
    pq_error err;
    if (pq_tokenizer_encode(t, text, bytes, control, cuts, n_cuts, &ids, &n, NULL, &err) != PQ_OK)
        return err.text[0] ? "failed" : "failed without a message";
    for (size_t i = 0; i < n; i++) {
        size_t length;
        const char *piece = pq_tokenizer_piece(t, ids[i], &length);
        if (!piece || at + length + 2 > sizeof out)
            abort();
        memcpy(out + at, piece, length);
        at += length;
        out[at++] = '/';
    }
    out[at] = '\0';
    pq_tokenizer_free(ids);
    return out;
}

static int is_spelled(const pq_tokenizer *t, const char *text, int control, const char *expected) {
    const char *found = spelled(t, text, strlen(text), control, NULL, 0);
    if (strcmp(found, expected) != 0)
        fprintf(stderr, "'%s' gives %s and not %s\n", text, found, expected);
    return strcmp(found, expected) == 0;
}

/* ------------------------------------------------------------------------------------------ words */

static int cut_into(const char *pre, const char *text, const char *expected) {
    const pq_pre_tokenizer *rules = pq_find_pre_tokenizer(pre);
    pq_words words = pq_words_over(rules, (const uint8_t *)text, strlen(text));
    char found[512];
    size_t at = 0, begin;
    while (pq_next_word(&words, &begin)) {
        memcpy(found + at, text + begin, words.at - begin);
        at += words.at - begin;
        found[at++] = '|';
    }
    found[at] = '\0';
    if (strcmp(found, expected) != 0)
        fprintf(stderr, "%s: '%s' is cut into '%s' and not '%s'\n", pre, text, found, expected);
    return strcmp(found, expected) == 0;
}

static void test_words(void) {
    CHECK(cut_into("qwen2", "", ""));
    CHECK(cut_into("qwen2", "Hello world's", "Hello| world|'s|"));
    CHECK(cut_into("qwen2", "I'LL'Tx'x", "I|'LL|'T|x|'x|"));
    CHECK(cut_into("qwen2", "'\xC5\xBFo", "'\xC5\xBF|o|")); /* a long s is an s */
    CHECK(cut_into("qwen2", "123 45", "1|2|3| |4|5|"));
    CHECK(cut_into("qwen2", "a  b\n\n c", "a| | b|\n\n| c|"));
    CHECK(cut_into("qwen2", "a \n \n  b", "a| \n \n| | b|"));
    CHECK(cut_into("qwen2", "x!!\n\ny", "x|!!\n\n|y|"));
    CHECK(cut_into("qwen2", " !x\ty\t", " !|x|\ty|\t|"));
    CHECK(cut_into("qwen2", "end   ", "end|   |"));
    CHECK(cut_into("qwen2", "\xC2\xA0\xC2\xA0x", "\xC2\xA0|\xC2\xA0x|"));  /* no-break spaces */
    CHECK(cut_into("qwen2", "\xFF\xFEz\xE2\x82", "\xFF\xFE|z|\xE2\x82|")); /* not UTF-8 */
    CHECK(cut_into("llama-bpe", "12345 6789'S", "123|45| |678|9|'S|"));
    CHECK(cut_into("gpt-2", "Hello world's 123'S", "Hello| world|'s| 123|'|S|"));
    CHECK(cut_into("gpt-2", "a\n\n b  ", "a|\n\n| b|  |"));
    CHECK(cut_into("gpt-2", "don't...\n", "don|'t|...|\n|"));
    CHECK(cut_into("smollm", "a  12 b", "a|  |1|2| b|"));
    CHECK(cut_into("smollm", "\xC2\xBDx", "\xC2\xBD|x|"));
    CHECK(pq_find_pre_tokenizer("no such") == NULL);
}

/* --------------------------------------------------------------------------------- normalization */

static int becomes(const char *text, const char *expected) {
    pq_normalizer n = {0};
    const uint8_t *out;
    size_t bytes;
    pq_error err;
    const pq_status st =
        pq_normalize(&n, (const uint8_t *)text, strlen(text), &out, &bytes, NULL, &err);
    const int same = st == PQ_OK && bytes == strlen(expected) && memcmp(out, expected, bytes) == 0;
    pq_normalizer_free(&n);
    return same;
}

static void test_normalize(void) {
    CHECK(becomes("", "") && becomes("plain", "plain"));
    CHECK(becomes("e\xCC\x81x", "\xC3\xA9x"));
    CHECK(becomes("a\xC3\xA9", "a\xC3\xA9"));
    CHECK(becomes("\xCC\x81", "\xCC\x81"));                     /* a mark with nothing before it */
    CHECK(becomes("q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"));   /* marks in their order */
    CHECK(becomes("\xC3\xA9\xCC\xA3", "\xE1\xBA\xB9\xCC\x81")); /* the lower mark goes first */
    CHECK(becomes("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C")); /* Hangul */
    CHECK(becomes("\xED\x95\x98\xE1\x86\xAB", "\xED\x95\x9C"));
    CHECK(becomes("\xE2\x84\xAB", "\xC3\x85")); /* Angstrom is A with a ring */
    CHECK(becomes("\xF0\x9D\x85\x9E", "\xF0\x9D\x85\x97\xF0\x9D\x85\xA5")); /* never composed */
    CHECK(becomes("\x80\xFF"
                  "e\x80\xCC\x81",
                  "\x80\xFF"
                  "e\x80\xCC\x81")); /* not UTF-8 */

    /* A run of marks in the worst order, longer than what is sorted by insertion. */
    enum { PAIRS = 50000 };
    char *text = malloc(4 * PAIRS + 1), *expected = malloc(4 * PAIRS + 1);
    if (!text || !expected)
        abort();
    for (int i = 0; i < PAIRS; i++) {
        memcpy(text + 4 * i, "\xCC\x87\xCC\xA3", 4);
        memcpy(expected + 2 * i, "\xCC\xA3", 2);
        memcpy(expected + 2 * (PAIRS + i), "\xCC\x87", 2);
    }
    text[4 * PAIRS] = expected[4 * PAIRS] = '\0';
    CHECK(becomes(text, expected));
    free(text);
    free(expected);
}

/* ------------------------------------------------------------------------------ encoding, decoding */

static void test_encode(void) {
    small *s = new_small();
    pq_tokenizer *t = opened(s, "gpt-2");
    CHECK(is_spelled(t, "", 0, ""));
    CHECK(is_spelled(t, "hello world", 0, "hello/\xC4\xA0wo/r/l/d/"));
    CHECK(is_spelled(t, "hellll", 0, "hell/ll/"));
    CHECK(is_spelled(t, "a<|im_end|>", 0, "a/</|/i/m/_/e/n/d/|/>/"));
    CHECK(is_spelled(t, "a<|im_end|>b", 1, "a/<|im_end|>/b/"));
    CHECK(is_spelled(t, "<|im_end|><|im_end|><|im_end|>", 1, "<|im_end|><|im_end|>/<|im_end|>/"));
    CHECK(is_spelled(t, "<<tool>", 0, "</<tool>/"));
    CHECK(is_spelled(t, "[PAD266]", 1, "[/P/A/D/2/6/6/]/"));
    const size_t inside[] = {3}, at_end[] = {0, 10, 10};
    CHECK(strcmp(spelled(t, "<|im_end|>h", 11, 1, inside, 1), "</|/i/m/_/e/n/d/|/>/h/") == 0);
    CHECK(strcmp(spelled(t, "<|im_end|>h", 11, 1, at_end, 3), "<|im_end|>/h/") == 0);
    CHECK(strcmp(spelled(t, "h\0e", 3, 0, NULL, 0), "h/\xC4\x80/e/") == 0);

    size_t bytes;
    pq_error err;
    char text[64];
    const int32_t ids[] = {FIRST_WORD + 3, FIRST_WORD + 5, 10, FIRST_WORD + 7, FIRST_WORD + 9, 266};
    CHECK(pq_tokenizer_decode(t, ids, 6, text, sizeof text, &bytes, &err) == PQ_OK);
    CHECK(bytes == 25 && memcmp(text, "hello wo\n<|im_end|><tool>", 25) == 0);
    CHECK(pq_tokenizer_decode(t, ids, 6, NULL, 0, &bytes, &err) == PQ_OK && bytes == 25);
    const int32_t wrong[] = {267}, negative[] = {-1};
    CHECK(pq_tokenizer_decode(t, wrong, 1, text, 64, &bytes, &err) == PQ_ERR_ARGUMENT);
    CHECK(strstr(err.text, "267") != NULL);
    CHECK(pq_tokenizer_decode(t, negative, 1, text, 64, &bytes, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_tokenizer_piece(t, 267, &bytes) == NULL && pq_tokenizer_piece(t, -1, &bytes) == NULL);
    CHECK(pq_tokenizer_kinds(t)[266] == PQ_KIND_UNUSED);
    CHECK(pq_tokenizer_find(t, "hello", 5) == FIRST_WORD + 3);
    CHECK(pq_tokenizer_find(t, "[PAD266]", 8) == -1 && pq_tokenizer_find(t, "", 0) == -1);
    pq_tokenizer_close(t);
    pq_tokenizer_close(NULL);
    free(s);
}

/* Every byte, and every sequence of two, comes back; so do marks where nothing is normalized. */
static void test_round_trip(void) {
    small *s = new_small();
    pq_tokenizer *t = opened(s, "deepseek-r1-qwen");
    enum { N = 2 * 65536 };
    char *text = malloc(N), *back = malloc(N);
    if (!text || !back)
        abort();
    for (int i = 0; i < 65536; i++) {
        text[2 * i] = (char)(i >> 8);
        text[2 * i + 1] = (char)i;
    }
    int32_t *ids;
    size_t n, bytes;
    pq_error err;
    CHECK(pq_tokenizer_encode(t, text, N, 1, NULL, 0, &ids, &n, NULL, &err) == PQ_OK);
    CHECK(pq_tokenizer_decode(t, ids, n, back, N, &bytes, &err) == PQ_OK);
    CHECK(bytes == N && memcmp(text, back, N) == 0);
    pq_tokenizer_free(ids);
    free(text);
    free(back);
    pq_tokenizer_close(t);
    free(s);
}

/* Llama 3 takes a word that is a token, whatever the merges say. */
static void test_whole_words(void) {
    small *s = new_small();
    add_kind(s, "unmerged", PQ_KIND_NORMAL);
    add_kind(s, "control", PQ_KIND_CONTROL);
    pq_tokenizer *llama = opened(s, "llama-bpe"), *gpt2 = opened(s, "gpt-2");
    CHECK(is_spelled(llama, "unmerged", 0, "unmerged/"));
    CHECK(is_spelled(llama, "control", 0, "c/o/n/t/r/o/l/"));
    CHECK(is_spelled(gpt2, "unmerged", 0, "u/n/m/e/r/g/e/d/"));
    pq_tokenizer_close(llama);
    pq_tokenizer_close(gpt2);
    free(s);
}

/* A byte without a token is dropped, as the reference does. */
static void test_missing_bytes(void) {
    list l = {.count = 0};
    add_text(&l, "a");
    add_text(&l, "b");
    const pq_vocabulary v = {.pre = "gpt-2", .tokens = strings(&l)};
    pq_tokenizer *t;
    CHECK(pq_tokenizer_open(&t, &v, NULL) == PQ_OK);
    CHECK(is_spelled(t, "axbx", 0, "a/b/"));
    CHECK(is_spelled(t, "xxxx", 0, ""));
    char text[101];
    memset(text, 'x', 100);
    text[100] = '\0';
    CHECK(is_spelled(t, text, 0, ""));
    pq_tokenizer_close(t);
}

/* ---------------------------------------------------------------------------------------- merging */

/* The definition: the lowest rank, of equal ones the leftmost, again and again. */
static size_t merge_plainly(const pq_merges *m, const uint8_t *word, size_t n, uint32_t *tokens) {
    for (size_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)m->byte_tokens[word[i]];
    for (;;) {
        const pq_merge *best = NULL;
        size_t place = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (size_t slot = 0; slot < (size_t)1 << m->bits; slot++) {
                const pq_merge *pair = &m->slots[slot];
                if (pair->rank != UINT32_MAX && pair->left == tokens[i] &&
                    pair->right == tokens[i + 1] && (!best || pair->rank < best->rank)) {
                    best = pair;
                    place = i;
                }
            }
        if (!best)
            return n;
        tokens[place] = best->product;
        memmove(tokens + place + 1, tokens + place + 2, (n - place - 2) * sizeof *tokens);
        n--;
    }
}

/* Words over two letters, of lengths around where the way of merging changes. */
static void test_merges(void) {
    static const char *const RULES[] = {"a a",   "b a",  "aa a", "a b",  "aa ba",
                                        "ab aa", "ba b", "b b",  "aa aa"};
    small *s = new_small();
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++) {
        char product[16] = "";
        for (const char *p = RULES[i]; *p; p++)
            if (*p != ' ')
                strncat(product, p, 1);
        int known = 0;
        for (uint64_t k = 0; k < s->tokens.count; k++)
            known |= s->tokens.bounds[k + 1] - s->tokens.bounds[k] == strlen(product) &&
                     memcmp(s->tokens.text + s->tokens.bounds[k], product, strlen(product)) == 0;
        if (!known)
            add_kind(s, product, PQ_KIND_NORMAL);
        add_text(&s->merges, RULES[i]);
    }
    const pq_vocabulary v = vocabulary(s, "gpt-2");
    pq_pieces pieces;
    pq_merges merges;
    pq_merger scratch = {0};
    pq_error err;
    CHECK(pq_pieces_open(&pieces, &v, &err) == PQ_OK);
    CHECK(pq_merges_open(&merges, &v, &pieces, &err) == PQ_OK);
    uint32_t random = 1, expected[128];
    for (int round = 0; round < 300; round++) {
        uint8_t word[128];
        const size_t length = round < 8 ? (size_t)(45 + round) : 1 + (size_t)round % 100;
        for (size_t i = 0; i < length; i++) {
            random = random * 1664525 + 1013904223;
            word[i] = random >> 31 ? 'a' : 'b';
        }
        const size_t n = merge_plainly(&merges, word, length, expected);
        pq_ids ids = {0};
        CHECK(pq_merge_word(&merges, &scratch, word, length, &ids, NULL, &err) == PQ_OK);
        int same = ids.count == n;
        for (size_t i = 0; same && i < n; i++)
            same = (uint32_t)ids.items[i] == expected[i];
        CHECK(same);
        free(ids.items);
    }
    pq_merger_free(&scratch);
    pq_merges_close(&merges);
    pq_pieces_close(&pieces);
    free(s);
}

/* ---------------------------------------------------------------------------------- control texts */

static void test_matches(void) {
    static const char *const TEXTS[] = {"<a>", "<a><b>", "b><a", "x", "\xC3\xA9", "aaa", "aa"};
    list l = {.count = 0};
    uint8_t kinds[8];
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        kinds[i] = i == 3 ? PQ_KIND_UNKNOWN : PQ_KIND_CONTROL;
        add_text(&l, TEXTS[i]);
    }
    const pq_vocabulary v = {.tokens = strings(&l), .kinds = kinds};
    pq_tokenizer *t;
    pq_match *found;
    size_t n;
    pq_error err;
    CHECK(pq_tokenizer_open(&t, &v, &err) == PQ_OK);
    /* At 0 the longer one; at 4 one that overlaps; one character is no control text. */
    CHECK(pq_tokenizer_match(t, "<a><b><a>x\xC3\xA9", 12, &found, &n, &err) == PQ_OK);
    CHECK(n == 3 && found[2].begin == 0 && found[2].bytes == 6 && found[2].token == 1);
    CHECK(n == 3 && found[1].begin == 4 && found[1].bytes == 4 && found[1].token == 2);
    CHECK(n == 3 && found[0].begin == 6 && found[0].bytes == 3 && found[0].token == 0);
    pq_tokenizer_free(found);
    CHECK(pq_tokenizer_match(t, "aaaa", 4, &found, &n, &err) == PQ_OK);
    CHECK(n == 3 && found[2].bytes == 3 && found[1].bytes == 3 && found[0].bytes == 2);
    pq_tokenizer_free(found);
    CHECK(pq_tokenizer_match(t, "", 0, &found, &n, &err) == PQ_OK && n == 0);
    pq_tokenizer_free(found);
    int32_t *ids;
    CHECK(pq_tokenizer_encode(t, "a", 1, 0, NULL, 0, &ids, &n, NULL, &err) == PQ_ERR_ARGUMENT);
    pq_tokenizer_close(t);
}

/* All texts of three letters out of 40: nodes with more children than are ordered by insertion. */
static void test_many_control_texts(void) {
    enum { LETTERS = 12 };
    list *l = calloc(1, sizeof *l);
    uint8_t *kinds = malloc(MOST);
    if (!l || !kinds)
        abort();
    memset(kinds, PQ_KIND_CONTROL, MOST);
    for (int i = 0; i < LETTERS * LETTERS * LETTERS; i++) {
        const char text[] = {(char)('A' + i % LETTERS), (char)('A' + i / LETTERS % LETTERS),
                             (char)('A' + i / LETTERS / LETTERS)};
        add(l, text, 3);
    }
    const pq_vocabulary v = {.tokens = strings(l), .kinds = kinds};
    pq_tokenizer *t;
    pq_match *found;
    size_t n;
    pq_error err;
    CHECK(pq_tokenizer_open(&t, &v, &err) == PQ_OK);
    CHECK(pq_tokenizer_match(t, "xBCDAy", 6, &found, &n, &err) == PQ_OK && n == 2);
    CHECK(n == 2 && found[1].begin == 1 &&
          found[1].token == 1 + 2 * LETTERS + 3 * LETTERS * LETTERS);
    CHECK(n == 2 && found[0].begin == 2 && found[0].token == 2 + 3 * LETTERS);
    pq_tokenizer_free(found);
    pq_tokenizer_close(t);
    free(l);
    free(kinds);
}

/* ------------------------------------------------------------------------- vocabularies that are wrong */

static int refused(const pq_vocabulary *v, pq_status status, const char *field,
                   const char *problem) {
    pq_tokenizer *t = NULL;
    pq_error err = {.text = ""};
    const pq_status st = pq_tokenizer_open(&t, v, &err);
    const int right = st == status && strstr(err.text, problem) && strcmp(err.field, field) == 0;
    if (!right)
        fprintf(stderr, "status %d, field '%s': %s\n", st, err.field, err.text);
    if (st == PQ_OK)
        pq_tokenizer_close(t);
    return right;
}

static void test_merges_refused(const char *merge, const char *problem) {
    small *s = new_small();
    add_text(&s->merges, merge);
    const pq_vocabulary v = vocabulary(s, "qwen2");
    CHECK(refused(&v, PQ_ERR_FORMAT, "tokenizer.ggml.merges", problem));
    free(s);
}

static void test_tokens_refused(const char *token, size_t bytes, uint8_t kind, const char *field,
                                const char *problem) {
    small *s = new_small();
    s->kinds[s->tokens.count] = kind;
    add(&s->tokens, token, bytes);
    const pq_vocabulary v = vocabulary(s, "qwen2");
    CHECK(refused(&v, PQ_ERR_FORMAT, field, problem));
    free(s);
}

static void test_refusals(void) {
    static char longest[PQ_MAX_MATCHED_BYTES + 1];
    memset(longest, 'a', sizeof longest);
    test_merges_refused("hell",
                        "t: tokenizer.ggml.merges: entry 7, 'hell', names '', which is not");
    test_merges_refused("", "names ''");
    test_merges_refused(" ", "names ''");
    test_merges_refused("h  e", "names ' e'");
    test_merges_refused("zz e", "names 'zz'");
    test_merges_refused("e h", "makes 'eh'");
    test_merges_refused("<|im_end|> h",
                        "names '<|im_end|>'");    /* control tokens are not made of text */
    test_merges_refused("h \x1B[2J", "\\x1B[2J"); /* nothing that a terminal obeys */
    const char *const tokens = "tokenizer.ggml.tokens";
    test_tokens_refused("", 0, PQ_KIND_NORMAL, tokens, "has an empty token at 267");
    test_tokens_refused("hello", 5, PQ_KIND_NORMAL, tokens, "has 'hello' twice, at 259 and at 267");
    test_tokens_refused("x1", 2, 9, "tokenizer.ggml.token_type", "token 267 the unknown type 9");
    test_tokens_refused("x1", 2, 0, "tokenizer.ggml.token_type", "token 267 the unknown type 0");
    test_tokens_refused(longest, sizeof longest, PQ_KIND_CONTROL, tokens, "too long");
    test_tokens_refused(longest, sizeof longest, PQ_KIND_USER_DEFINED, tokens, "too long");

    small *s = new_small();
    pq_vocabulary v = vocabulary(s, "no such");
    CHECK(refused(&v, PQ_ERR_UNSUPPORTED, "tokenizer.ggml.pre", "'no such'"));
    CHECK(refused(&v, PQ_ERR_UNSUPPORTED, "tokenizer.ggml.pre", "it knows qwen2, llama-bpe"));
    CHECK(refused(NULL, PQ_ERR_ARGUMENT, "", "no vocabulary"));
    v = vocabulary(s, "qwen2");
    s->tokens.bounds[7] = s->tokens.bounds[9];
    CHECK(refused(&v, PQ_ERR_ARGUMENT, "", "do not ascend"));
    free(s);
}

/* As many bytes, and as many tokens, of control texts as are let in, and one more. */
static void test_limits(void) {
    enum {
        WORD = 512,
        WORDS_ALLOWED = PQ_MAX_ALL_MATCHED_BYTES / WORD,
        N = PQ_MAX_MATCHED_TOKENS + 1
    };
    char *text = malloc(PQ_MAX_ALL_MATCHED_BYTES + WORD);
    uint64_t *bounds = malloc((N + 1) * sizeof *bounds);
    uint8_t *kinds = malloc(N);
    pq_tokenizer *t;
    pq_error err;
    if (!text || !bounds || !kinds)
        abort();
    memset(kinds, PQ_KIND_CONTROL, N);
    memset(text, 'x', PQ_MAX_ALL_MATCHED_BYTES + WORD);
    for (uint64_t i = 0; i <= WORDS_ALLOWED + 1; i++) {
        bounds[i] = WORD * i;
        if (i <= WORDS_ALLOWED)
            memcpy(text + WORD * i, &i, sizeof i);
    }
    pq_vocabulary v = {.kinds = kinds};
    v.tokens = (pq_strings){.text = text, .bounds = bounds, .count = WORDS_ALLOWED};
    CHECK(pq_tokenizer_open(&t, &v, &err) == PQ_OK);
    pq_tokenizer_close(t);
    v.tokens.count++;
    CHECK(refused(&v, PQ_ERR_FORMAT, "tokenizer.ggml.tokens", "too long"));
    for (uint32_t i = 0; i < N; i++) {
        bounds[i] = 4 * (uint64_t)i;
        memcpy(text + 4 * (size_t)i, &(uint32_t){i * 257 + 1}, 4);
    }
    bounds[N] = 4 * (uint64_t)N;
    v.tokens.count = N - 1;
    CHECK(pq_tokenizer_open(&t, &v, &err) == PQ_OK);
    pq_tokenizer_close(t);
    v.tokens.count = N;
    CHECK(refused(&v, PQ_ERR_FORMAT, "tokenizer.ggml.tokens", "more than 262144"));
    free(text);
    free(bounds);
    free(kinds);
}

/* Control texts of the caller's own count whatever the file says; empty vocabularies are none. */
static void test_control_list(void) {
    small *s = new_small();
    list always = {.count = 0};
    add_text(&always, "hello");
    add_text(&always, "not there");
    pq_vocabulary v = vocabulary(s, "gpt-2");
    v.control = strings(&always);
    pq_tokenizer *t;
    pq_error err;
    CHECK(refused(&v, PQ_ERR_FORMAT, "tokenizer.ggml.merges", "makes 'hello'"));
    v.merges.count = 3;
    CHECK(pq_tokenizer_open(&t, &v, &err) == PQ_OK);
    CHECK(is_spelled(t, "hello", 0, "hell/o/") && is_spelled(t, "hello", 1, "hello/"));
    pq_tokenizer_close(t);
    const pq_vocabulary nothing = {.pre = "qwen2"};
    CHECK(pq_tokenizer_open(&t, &nothing, &err) == PQ_OK);
    CHECK(is_spelled(t, "hello", 1, "") && pq_tokenizer_find(t, "h", 1) == -1);
    pq_tokenizer_close(t);
    free(s);
}

/* ------------------------------------------------------------------------- long texts, and cancelling */

static void test_cancel(void) {
    small *s = new_small();
    pq_tokenizer *t = opened(s, "qwen2");
    enum { N = 1 << 20 };
    char *text = malloc(N);
    pq_cancel *cancel;
    pq_error err;
    CHECK(text && pq_cancel_open(&cancel, &err) == PQ_OK);
    int32_t *ids;
    size_t n;
    const char *const units[] = {"l", " ", "7", "h e", "e\xCC\x81"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        const size_t unit = strlen(units[i]);
        for (size_t k = 0; k < N; k++)
            text[k] = units[i][k % unit];
        pq_cancel_set(cancel, 1);
        CHECK(pq_tokenizer_encode(t, text, N, 1, NULL, 0, &ids, &n, cancel, &err) ==
              PQ_ERR_CANCELLED);
        CHECK(pq_tokenizer_encode(t, text, N, 0, NULL, 0, &ids, &n, cancel, &err) ==
              PQ_ERR_CANCELLED);
        pq_cancel_set(cancel, 0);
        CHECK(pq_tokenizer_encode(t, text, N, 1, NULL, 0, &ids, &n, cancel, &err) == PQ_OK);
        pq_tokenizer_free(ids);
    }
    pq_cancel_close(cancel);
    free(text);
    pq_tokenizer_close(t);
    free(s);
}

/* -------------------------------------------------------------------------- failing allocations */

#ifdef PQ_WRAPPED_MALLOC
/* The linker sends the core's allocations here: the one numbered `failing` finds no memory. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);

static int allocations;
static int failing;

void *__wrap_malloc(size_t bytes) {
    return ++allocations == failing ? NULL : __real_malloc(bytes);
}
void *__wrap_calloc(size_t n, size_t bytes) {
    return ++allocations == failing ? NULL : __real_calloc(n, bytes);
}
void *__wrap_realloc(void *p, size_t bytes) {
    return ++allocations == failing ? NULL : __real_realloc(p, bytes);
}

static pq_status open_and_encode(const pq_vocabulary *v, const char *text, size_t bytes,
                                 pq_error *err) {
    pq_tokenizer *t;
    pq_match *found;
    int32_t *ids;
    size_t n;
    pq_status st = pq_tokenizer_open(&t, v, err);
    if (st != PQ_OK)
        return st;
    st = pq_tokenizer_encode(t, text, bytes, 1, NULL, 0, &ids, &n, NULL, err);
    if (st == PQ_OK) {
        pq_tokenizer_free(ids);
        st = pq_tokenizer_match(t, text, bytes, &found, &n, err);
    }
    if (st == PQ_OK)
        pq_tokenizer_free(found);
    pq_tokenizer_close(t);
    return st;
}

static void test_no_memory(const char *pre, int least) {
    small *s = new_small();
    /* Long and short words, marks, control and user-defined tokens, enough to make buffers grow. */
    enum { REPEAT = 40, UNIT = 256 };
    char *text = calloc(REPEAT, UNIT);
    if (!text)
        abort();
    for (int i = 0; i < REPEAT; i++) {
        strcat(text, "<|im_end|>hello world <tool>e\xCC\x81\xCC\xA3 ");
        memset(text + strlen(text), "hlx"[i % 3], 100);
    }
    for (int i = 0; i < 100; i++) /* a run that is sorted by counting */
        memcpy(text + REPEAT * UNIT - 300 + 2 * i, "\xCC\xA3", 2);
    const pq_vocabulary v = vocabulary(s, pre);
    pq_status st = PQ_ERR_MEMORY;
    pq_error err;
    for (failing = 1; st != PQ_OK && failing < 300; failing++) {
        allocations = 0;
        err.text[0] = '\0';
        st = open_and_encode(&v, text, REPEAT * UNIT, &err);
        CHECK(st == PQ_OK || (st == PQ_ERR_MEMORY && strstr(err.text, "out of memory")));
    }
    CHECK(st == PQ_OK && failing > least);
    failing = 0;
    free(text);
    free(s);
}
#else
static void test_no_memory(const char *pre, int least) {
    (void)pre;
    (void)least;
}
#endif

int main(void) {
    test_words();
    test_normalize();
    test_encode();
    test_round_trip();
    test_whole_words();
    test_missing_bytes();
    test_merges();
    test_matches();
    test_many_control_texts();
    test_refusals();
    test_limits();
    test_control_list();
    test_cancel();
    test_no_memory("qwen2", 25);
    test_no_memory("llama-bpe", 25);
    return check_result();
}
