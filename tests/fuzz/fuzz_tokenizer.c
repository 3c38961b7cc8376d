/* fuzz_tokenizer.c - a vocabulary and a text, both made of the input: opening, encoding, decoding.
 *
 * The first byte chooses the family and whether the vocabulary is sound. A sound one has all bytes and
 * merges of tokens that are there, and so it must be accepted, and text must come back. Any other is lines of
 * the input as they are. What follows an empty line is the text. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/vocabulary.h"

enum { MOST = 640, MOST_MERGES = 256, ROOM = 1 << 17 };

typedef struct list {
    char text[ROOM];
    uint64_t bounds[MOST + 1];
    uint64_t count;
} list;

static list tokens, merges;
static uint8_t kinds[MOST];

/* Failures of promises that need no sanitizer to check. */
static void require(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "fuzz_tokenizer: %s\n", what);
        abort();
    }
}

static int add(list *l, const void *text, size_t bytes) {
    const uint64_t at = l->bounds[l->count];
    if (l->count >= MOST || at + bytes > ROOM)
        return 0;
    if (bytes > 0)
        memcpy(l->text + at, text, bytes);
    l->bounds[++l->count] = at + bytes;
    return 1;
}

static pq_strings strings(const list *l) {
    return (pq_strings){.text = l->text, .bounds = l->bounds, .count = l->count};
}

/* The token of this text, or -1. */
static int find(const char *text, size_t bytes) {
    for (uint64_t i = 0; i < tokens.count; i++)
        if (tokens.bounds[i + 1] - tokens.bounds[i] == bytes &&
            memcmp(tokens.text + tokens.bounds[i], text, bytes) == 0)
            return (int)i;
    return -1;
}

static void add_bytes(void) {
    for (unsigned byte = 0; byte < 256; byte++) {
        char piece[PQ_ALPHABET_BYTES];
        kinds[tokens.count] = PQ_KIND_NORMAL;
        add(&tokens, piece, pq_byte_to_alphabet((uint8_t)byte, piece));
    }
}

/* The merge of two tokens, by their numbers: their product becomes a token if it is none. */
static void add_merge(uint8_t a, uint8_t b) {
    char joined[128];
    const uint64_t left = (a * (uint64_t)5 + 32) % tokens.count;
    const uint64_t right = (b * (uint64_t)3 + 32) % tokens.count;
    const size_t n = (size_t)(tokens.bounds[left + 1] - tokens.bounds[left]);
    const size_t m = (size_t)(tokens.bounds[right + 1] - tokens.bounds[right]);
    if (n + m + 1 > sizeof joined || kinds[left] != PQ_KIND_NORMAL ||
        kinds[right] != PQ_KIND_NORMAL)
        return;
    memcpy(joined, tokens.text + tokens.bounds[left], n);
    memcpy(joined + n, tokens.text + tokens.bounds[right], m);
    const int product = find(joined, n + m);
    if (product >= 0 && kinds[product] == PQ_KIND_CONTROL)
        return; /* no text can become it */
    if (product < 0) {
        kinds[tokens.count] = PQ_KIND_NORMAL;
        if (!add(&tokens, joined, n + m))
            return;
    }
    memmove(joined + n + 1, joined + n, m);
    joined[n] = ' ';
    add(&merges, joined, n + m + 1);
}

/* One line of a sound vocabulary: a control or user-defined token, or merges by number. */
static void use_line(const uint8_t *line, size_t n) {
    if (n > 2 && n < 64 && (line[0] == 'C' || line[0] == 'U')) {
        if (find((const char *)line + 1, n - 1) < 0) {
            kinds[tokens.count] = line[0] == 'C' ? PQ_KIND_CONTROL : PQ_KIND_USER_DEFINED;
            add(&tokens, line + 1, n - 1);
        }
        return;
    }
    for (size_t i = 0; i + 1 < n && merges.count < MOST_MERGES; i += 2)
        add_merge(line[i], line[i + 1]);
}

/* One line of any other: its first byte says what it is. */
static void use_raw_line(const uint8_t *line, size_t n) {
    if (line[0] == 'M') {
        add(&merges, line + 1, n - 1);
    } else {
        kinds[tokens.count] = line[0] % 8;
        add(&tokens, line + 1, n - 1);
    }
}

typedef struct result {
    int32_t *ids;
    size_t n;
} result;

static result encoded(const pq_tokenizer *t, const void *text, size_t bytes, int control,
                      const size_t *cuts, size_t n_cuts) {
    result r = {0};
    pq_error err;
    require(pq_tokenizer_encode(t, text, bytes, control, cuts, n_cuts, &r.ids, &r.n, NULL, &err) ==
                PQ_OK,
            "a text was refused");
    return r;
}

static int same(result a, result b) {
    return a.n == b.n && (a.n == 0 || memcmp(a.ids, b.ids, a.n * sizeof *a.ids) == 0);
}

static void use(const pq_tokenizer *t, const uint8_t *text, size_t n, int sound, int composes) {
    const size_t cuts[] = {n / 3, n / 2};
    pq_error err;
    for (int control = 0; control < 2; control++) {
        const result once = encoded(t, text, n, control, cuts, 2);
        const result again = encoded(t, text, n, control, cuts, 2);
        require(same(once, again), "two runs differ");
        size_t bytes, more;
        require(pq_tokenizer_decode(t, once.ids, once.n, NULL, 0, &bytes, &err) == PQ_OK,
                "tokens of its own are refused");
        char *back = malloc(bytes + 1);
        require(back && pq_tokenizer_decode(t, once.ids, once.n, back, bytes, &more, &err) == PQ_OK,
                "decoding fails");
        require(bytes == more, "decoding makes another number of bytes");
        if (sound && !composes)
            require(bytes == n && (n == 0 || memcmp(back, text, n) == 0),
                    "the text does not come back");
        free(back);
        pq_tokenizer_free(once.ids);
        pq_tokenizer_free(again.ids);
    }
    pq_match *matches;
    size_t found, last = n;
    require(pq_tokenizer_match(t, (const char *)text, n, &matches, &found, &err) == PQ_OK,
            "no matches");
    for (size_t i = 0; i < found; i++) {
        size_t length;
        const char *piece = pq_tokenizer_piece(t, matches[i].token, &length);
        require(piece && length == matches[i].bytes && length <= n - matches[i].begin &&
                    memcmp(piece, text + matches[i].begin, length) == 0,
                "a match is none");
        require(matches[i].begin < last, "matches do not descend");
        last = matches[i].begin;
    }
    pq_tokenizer_free(matches);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const FAMILIES[] = {"qwen2", "deepseek-r1-qwen", "llama-bpe", "smollm",
                                           "gpt-2"};
    if (n == 0)
        return 0;
    const char *pre = FAMILIES[data[0] / 2 % 5];
    const int sound = data[0] % 2;
    tokens.count = merges.count = 0;
    if (sound)
        add_bytes();
    size_t at = 1;
    while (at < n) {
        const uint8_t *end = memchr(data + at, '\n', n - at);
        const size_t length = end ? (size_t)(end - (data + at)) : n - at;
        const uint8_t *line = data + at;
        at += length + 1;
        if (length == 0)
            break;
        if (tokens.count + 1 >= MOST)
            continue;
        if (sound)
            use_line(line, length);
        else
            use_raw_line(line, length);
    }
    const pq_vocabulary v = {.source = "fuzz: ",
                             .pre = pre,
                             .tokens = strings(&tokens),
                             .kinds = kinds,
                             .merges = strings(&merges)};
    pq_tokenizer *t;
    pq_error err = {.text = ""};
    const pq_status st = pq_tokenizer_open(&t, &v, &err);
    require(st == PQ_OK || err.text[0] != '\0', "a failure without a message");
    require(st == PQ_OK || !sound, err.text);
    if (st == PQ_OK) {
        use(t, data + (at < n ? at : n), at < n ? n - at : 0, sound, strcmp(pre, "qwen2") == 0);
        pq_tokenizer_close(t);
    }
    return 0;
}
