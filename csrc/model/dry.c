/* dry.c - see dry.h, and pq_breakers. */
#include "dry.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"

/* ------------------------------------------------------------------------------------- breakers */

/* An automaton over bytes (Aho and Corasick, CACM 18(6), 1975), which knows where a breaker ends. */
struct pq_breakers {
    uint16_t (*next)[256]; /* (states) */
    uint8_t *ends;         /* (states) 1: a breaker ends here */
    uint32_t states;
    char *text;       /* of all tokens */
    uint64_t *bounds; /* (count + 1) */
    uint64_t count;
};

static pq_status check_breakers(const pq_strings *breakers, pq_error *err) {
    for (uint64_t i = 0; i < breakers->count; i++) {
        if (breakers->bounds[i] == breakers->bounds[i + 1])
            return pq_fail_at(err, PQ_ERR_ARGUMENT, "dry_breakers", -1,
                              "dry_breakers has an empty text");
    }
    if (breakers->count > 0 && breakers->bounds[breakers->count] > PQ_MAX_BREAKER_BYTES)
        return pq_fail_at(
            err, PQ_ERR_ARGUMENT, "dry_breakers", -1, "dry_breakers has %llu bytes; the most is %d",
            (unsigned long long)breakers->bounds[breakers->count], PQ_MAX_BREAKER_BYTES);
    return PQ_OK;
}

/* A trie; 0, the root, where there is no edge. */
static void insert(pq_breakers *b, const uint8_t *text, size_t n) {
    uint32_t state = 0;
    for (size_t i = 0; i < n; i++) {
        if (b->next[state][text[i]] == 0)
            b->next[state][text[i]] = (uint16_t)b->states++;
        state = b->next[state][text[i]];
    }
    b->ends[state] = 1;
}

/* Completes the trie, breadth first, so that every byte leads on. fallback, queue: (states). */
static void link_states(pq_breakers *b, uint16_t *fallback, uint16_t *queue) {
    uint32_t first = 0, last = 0;
    for (uint32_t byte = 0; byte < 256; byte++) {
        if (b->next[0][byte])
            queue[last++] = b->next[0][byte];
    }
    for (; first < last; first++) {
        const uint32_t state = queue[first], other = fallback[state];
        b->ends[state] |= b->ends[other];
        for (uint32_t byte = 0; byte < 256; byte++) {
            const uint16_t child = b->next[state][byte];
            if (child == 0) {
                b->next[state][byte] = b->next[other][byte];
            } else {
                fallback[child] = b->next[other][byte];
                queue[last++] = child;
            }
        }
    }
}

static pq_status build(pq_breakers *b, const pq_strings *breakers, pq_error *err) {
    const size_t bytes = breakers->count > 0 ? (size_t)breakers->bounds[breakers->count] : 0;
    b->next = calloc(bytes + 1, sizeof *b->next);
    b->ends = calloc(bytes + 1, 1);
    uint16_t *work = calloc(2 * (bytes + 1), sizeof *work);
    if (!b->next || !b->ends || !work) {
        free(work);
        return pq_fail_memory(err, "dry_breakers", (bytes + 1) * sizeof *b->next);
    }
    b->states = 1;
    for (uint64_t i = 0; i < breakers->count; i++)
        insert(b, (const uint8_t *)breakers->text + breakers->bounds[i],
               (size_t)(breakers->bounds[i + 1] - breakers->bounds[i]));
    link_states(b, work, work + bytes + 1);
    free(work);
    return PQ_OK;
}

static pq_status copy_tokens(pq_breakers *b, const pq_strings *tokens, pq_error *err) {
    const uint64_t bytes = tokens->count > 0 ? tokens->bounds[tokens->count] : 0;
    size_t size;
    if (!pq_checked_size(tokens->count + 1, sizeof *b->bounds, &size) || bytes > PTRDIFF_MAX)
        return pq_fail_memory(err, "the texts of tokens", bytes);
    b->bounds = calloc(1, size);
    b->text = malloc((size_t)bytes + 1);
    if (!b->bounds || !b->text)
        return pq_fail_memory(err, "the texts of tokens", bytes + size);
    if (tokens->count > 0) {
        memcpy(b->bounds, tokens->bounds, size);
        memcpy(b->text, tokens->text, (size_t)bytes);
    }
    b->count = tokens->count;
    return PQ_OK;
}

pq_status pq_breakers_open(pq_breakers **out, const pq_strings *tokens, const pq_strings *breakers,
                           pq_error *err) {
    pq_status status = check_breakers(breakers, err);
    if (status != PQ_OK)
        return status;
    pq_breakers *b = calloc(1, sizeof *b);
    if (!b)
        return pq_fail_memory(err, "dry_breakers", sizeof *b);
    status = build(b, breakers, err);
    if (status == PQ_OK)
        status = copy_tokens(b, tokens, err);
    if (status != PQ_OK) {
        pq_breakers_close(b);
        return status;
    }
    *out = b;
    return PQ_OK;
}

void pq_breakers_close(pq_breakers *b) {
    if (!b)
        return;
    free(b->next);
    free(b->ends);
    free(b->text);
    free(b->bounds);
    free(b);
}

/* The state after a token; *breaks: whether a breaker ended in it. */
static uint16_t advance(const pq_breakers *b, uint16_t state, int32_t token, int *breaks) {
    *breaks = 0;
    if (!b || (uint64_t)token >= b->count)
        return state;
    for (uint64_t i = b->bounds[token]; i < b->bounds[token + 1]; i++) {
        state = b->next[state][(uint8_t)b->text[i]];
        *breaks |= b->ends[state];
    }
    return state;
}

/* ---------------------------------------------------------------------------------- the text */

typedef struct word {
    int32_t token;
    uint16_t state; /* of the breakers, after it */
    uint8_t breaks; /* whether a breaker ended in it */
} word;

typedef struct found {
    int32_t token;
    uint32_t run; /* tokens at the end of the text that it follows elsewhere, too: the longest */
    float before; /* its logit before the last application */
} found;

struct pq_dry {
    float multiplier, base;
    uint32_t allowed;
    uint32_t real_tokens;
    const uint32_t *unpenalized; /* NULL, or a bit for each token that is spared */
    const pq_breakers *breakers;
    word *text;
    uint32_t *runs; /* (room) */
    found *found;   /* (room) */
    size_t n, n_found, room;
    uint32_t *places; /* (real_tokens) 1 + where a token stands in found; 0: it does not */
};

pq_status pq_dry_open(pq_dry **out, uint32_t real_tokens, const pq_sampler_options *o,
                      pq_error *err) {
    pq_dry *dry = calloc(1, sizeof *dry);
    if (!dry)
        return pq_fail_memory(err, "a DRY penalty", sizeof *dry);
    *dry = (pq_dry){.multiplier = o->dry_multiplier,
                    .base = o->dry_base,
                    .allowed = (uint32_t)o->dry_allowed_length,
                    .real_tokens = real_tokens,
                    .unpenalized = o->unpenalized,
                    .breakers = o->dry_breakers,
                    .places = calloc(real_tokens, sizeof *dry->places)};
    if (!dry->places) {
        pq_dry_close(dry);
        return pq_fail_memory(err, "a DRY penalty", real_tokens * sizeof *dry->places);
    }
    *out = dry;
    return PQ_OK;
}

void pq_dry_close(pq_dry *dry) {
    if (!dry)
        return;
    free(dry->text);
    free(dry->runs);
    free(dry->found);
    free(dry->places);
    free(dry);
}

/* Room for `room` elements in *array, whose contents stay. */
static int grow(void **array, size_t room, size_t size) {
    void *larger = realloc(*array, room * size);
    if (larger)
        *array = larger;
    return larger != NULL;
}

pq_status pq_dry_reserve(pq_dry *dry, size_t n, pq_error *err) {
    if (n <= dry->room - dry->n)
        return PQ_OK;
    const size_t room = dry->n + n > UINT32_MAX / 2 ? 0 : dry->n + n + dry->n / 2 + 64;
    if (room == 0 || !grow((void **)&dry->text, room, sizeof *dry->text) ||
        !grow((void **)&dry->runs, room, sizeof *dry->runs) ||
        !grow((void **)&dry->found, room, sizeof *dry->found))
        return pq_fail_memory(err, "the text of a DRY penalty", room * sizeof *dry->found);
    dry->room = room;
    return PQ_OK;
}

void pq_dry_accept(pq_dry *dry, const int32_t *tokens, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const uint16_t before = dry->n > 0 ? dry->text[dry->n - 1].state : 0;
        int breaks;
        const uint16_t state = advance(dry->breakers, before, tokens[i], &breaks);
        dry->text[dry->n++] = (word){.token = tokens[i], .state = state, .breaks = (uint8_t)breaks};
    }
}

void pq_dry_retract(pq_dry *dry) {
    if (dry->n > 0)
        dry->n--;
}

/* --------------------------------------------------------------------------------- penalties */

/* Notes that `token` followed a run that stands at the end of the text, too. */
static void note(pq_dry *dry, int32_t token, uint32_t run) {
    if ((uint32_t)token >= dry->real_tokens ||
        (dry->unpenalized && dry->unpenalized[token / 32] >> token % 32 & 1))
        return;
    uint32_t *place = &dry->places[token];
    if (*place > 0) {
        found *f = &dry->found[*place - 1];
        f->run = run > f->run ? run : f->run;
        return;
    }
    int breaks;
    (void)advance(dry->breakers, 0, token, &breaks);
    if (breaks)
        return; /* it ends a run, it does not continue one */
    dry->found[dry->n_found++] = (found){.token = token, .run = run, .before = NAN};
    *place = (uint32_t)dry->n_found;
}

/* Gusfield's Z algorithm from the end of the text on: runs[k] is how many of the newest tokens stand `k` tokens
 * earlier, too, at most `most`. Each comparison that succeeds moves `right`, so there are 2 n at most. */
static void find_runs(pq_dry *dry, uint32_t most) {
    const uint32_t n = (uint32_t)dry->n;
    const word *end = dry->text + n - 1;
    uint32_t left = 0, right = 0;
    for (uint32_t k = 1; k < n; k++) {
        uint32_t run = 0;
        if (k < right)
            run = right - k < dry->runs[k - left] ? right - k : dry->runs[k - left];
        while (run < most && k + run < n &&
               end[-(ptrdiff_t)run].token == end[-(ptrdiff_t)(k + run)].token)
            run++;
        dry->runs[k] = run;
        if (k + run > right) {
            left = k;
            right = k + run;
        }
    }
}

void pq_dry_find(pq_dry *dry) {
    for (size_t i = 0; i < dry->n_found; i++)
        dry->places[dry->found[i].token] = 0;
    dry->n_found = 0;
    uint32_t most = 0; /* a run does not go back behind a breaker */
    while (most < dry->n && !dry->text[dry->n - 1 - most].breaks)
        most++;
    if (most < dry->allowed)
        return;
    find_runs(dry, most);
    for (uint32_t k = 1; k < (uint32_t)dry->n; k++) {
        if (dry->runs[k] >= dry->allowed)
            note(dry, dry->text[dry->n - k].token, dry->runs[k]);
    }
}

/* multiplier * base^exponent, at most the largest float. */
static float penalty(const pq_dry *dry, uint32_t exponent) {
    double result = dry->multiplier, power = dry->base;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1)
            result *= power;
        power *= power;
    }
    return result < FLT_MAX ? (float)result : FLT_MAX;
}

static float reduced(const pq_dry *dry, const found *f, float logit) {
    return isfinite(logit) ? fmaxf(-FLT_MAX, logit - penalty(dry, f->run - dry->allowed)) : logit;
}

float pq_dry_penalized(const pq_dry *dry, int32_t token, float logit) {
    const uint32_t place = dry->places[token];
    return place > 0 ? reduced(dry, &dry->found[place - 1], logit) : logit;
}

void pq_dry_apply(pq_dry *dry, float *logits) {
    for (size_t i = 0; i < dry->n_found; i++) {
        found *f = &dry->found[i];
        f->before = logits[f->token];
        logits[f->token] = reduced(dry, f, f->before);
    }
}

float pq_dry_raw(const pq_dry *dry, int32_t token, float logit) {
    const uint32_t place = dry->places[token];
    return place > 0 ? dry->found[place - 1].before : logit;
}
