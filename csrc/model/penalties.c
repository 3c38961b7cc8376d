/* penalties.c - see penalties.h: a hash table of the tokens that are treated specially. */
#include "penalties.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    int32_t token;      /* -1: free */
    uint32_t generated; /* times it was generated */
    uint32_t in_text;   /* 1: it stands in the prompt or the output */
    float bias;
    float raw; /* its logit before the last application */
} entry;

struct pq_penalties {
    float repetition, presence, frequency;
    uint32_t real_tokens;
    const uint32_t *unpenalized; /* NULL, or a bit for each token that is not counted */
    int counting;                /* 0: no penalty is on, texts need not be counted */
    entry *entries;
    size_t capacity; /* a power of two, at most half used */
    size_t used;
};

enum { FIRST_CAPACITY = 64 };

/* ------------------------------------------------------------------------------------ the table */

/* The entry of a token, or the free one where it belongs. */
static entry *find(entry *entries, size_t capacity, int32_t token) {
    size_t at = (uint32_t)token * 2654435769u >> 7; /* Knuth's multiplicative hash */
    for (;; at++) {
        entry *e = &entries[at & (capacity - 1)];
        if (e->token == token || e->token < 0)
            return e;
    }
}

static pq_status resize(pq_penalties *p, size_t capacity, pq_error *err) {
    entry *entries = malloc(capacity * sizeof *entries);
    if (!entries)
        return pq_fail_memory(err, "token penalties", capacity * sizeof *entries);
    for (size_t i = 0; i < capacity; i++)
        entries[i] = (entry){.token = -1};
    for (size_t i = 0; i < p->capacity; i++) {
        if (p->entries[i].token >= 0)
            *find(entries, capacity, p->entries[i].token) = p->entries[i];
    }
    free(p->entries);
    p->entries = entries;
    p->capacity = capacity;
    return PQ_OK;
}

pq_status pq_penalties_reserve(pq_penalties *p, pq_error *err) {
    return 2 * (p->used + 1) <= p->capacity ? PQ_OK : resize(p, 2 * p->capacity, err);
}

/* Makes sure that a token has an entry; a new one has no effect yet. */
static pq_status add(pq_penalties *p, int32_t token, pq_error *err) {
    if (find(p->entries, p->capacity, token)->token == token)
        return PQ_OK;
    const pq_status status = pq_penalties_reserve(p, err);
    if (status != PQ_OK)
        return status;
    *find(p->entries, p->capacity, token) = (entry){.token = token};
    p->used++;
    return PQ_OK;
}

/* ---------------------------------------------------------------------------- opening, counting */

static pq_status add_bias(pq_penalties *p, const pq_sampler_options *options, pq_error *err) {
    for (uint32_t i = 0; i < options->n_bias; i++) {
        const pq_status status = add(p, options->bias_tokens[i], err);
        if (status != PQ_OK)
            return status;
        find(p->entries, p->capacity, options->bias_tokens[i])->bias += options->bias_values[i];
    }
    return PQ_OK;
}

pq_status pq_penalties_open(pq_penalties **out, uint32_t real_tokens,
                            const pq_sampler_options *options, pq_error *err) {
    pq_penalties *p = calloc(1, sizeof *p);
    if (!p)
        return pq_fail_memory(err, "token penalties", sizeof *p);
    p->repetition = options->repetition_penalty;
    p->presence = options->presence_penalty;
    p->frequency = options->frequency_penalty;
    p->counting = p->repetition != 1.0f || p->presence != 0.0f || p->frequency != 0.0f;
    p->real_tokens = real_tokens;
    p->unpenalized = options->unpenalized;
    pq_status status = resize(p, FIRST_CAPACITY, err);
    if (status == PQ_OK)
        status = add_bias(p, options, err);
    if (status != PQ_OK) {
        pq_penalties_close(p);
        return status;
    }
    *out = p;
    return PQ_OK;
}

void pq_penalties_close(pq_penalties *p) {
    if (p)
        free(p->entries);
    free(p);
}

static int counts(const pq_penalties *p, int32_t token) {
    if ((uint32_t)token >= p->real_tokens)
        return 0;
    return !p->unpenalized || (p->unpenalized[token / 32] >> token % 32 & 1) == 0;
}

pq_status pq_penalties_accept(pq_penalties *p, const int32_t *tokens, size_t n, int generated,
                              pq_error *err) {
    if (!p->counting)
        return PQ_OK;
    for (size_t i = 0; i < n; i++) {
        const pq_status status = counts(p, tokens[i]) ? add(p, tokens[i], err) : PQ_OK;
        if (status != PQ_OK)
            return status;
    }
    for (size_t i = 0; i < n; i++) {
        if (!counts(p, tokens[i]))
            continue;
        entry *e = find(p->entries, p->capacity, tokens[i]);
        e->in_text = 1;
        e->generated += generated != 0;
    }
    return PQ_OK;
}

int pq_penalties_in_text(const pq_penalties *p, int32_t token) {
    const entry *e = find(p->entries, p->capacity, token);
    return e->token == token && e->in_text;
}

/* The entry stays: one without effect changes no logit. */
void pq_penalties_retract(pq_penalties *p, int32_t token, int generated, int in_text) {
    entry *e = find(p->entries, p->capacity, token);
    if (e->token != token || !p->counting || !counts(p, token))
        return;
    e->in_text = in_text != 0;
    e->generated -= generated != 0;
}

/* ---------------------------------------------------------------------------------- application */

/* Keeps a penalty of absurd size from making an infinity. */
static float clamp(float x) {
    return fmaxf(-FLT_MAX, fminf(FLT_MAX, x));
}

static float penalized(const pq_penalties *p, const entry *e, float x) {
    if (e->in_text)
        x = clamp(x > 0.0f ? x / p->repetition : x * p->repetition);
    if (e->generated > 0)
        x = clamp(x - p->presence - p->frequency * (float)e->generated);
    return x;
}

int pq_penalties_apply(pq_penalties *p, float *logits, int with_penalties) {
    int forbade = 0;
    for (size_t i = 0; i < p->capacity; i++) {
        entry *e = &p->entries[i];
        if (e->token < 0)
            continue;
        e->raw = logits[e->token];
        if (!isfinite(e->raw))
            continue; /* nothing changes it, and a NaN must be found */
        if (e->bias == -INFINITY) {
            logits[e->token] = -INFINITY;
            forbade = 1;
        } else {
            const float x = with_penalties ? penalized(p, e, e->raw) : e->raw;
            logits[e->token] = clamp(x + e->bias);
        }
    }
    return forbade;
}

float pq_penalties_penalized(const pq_penalties *p, int32_t token, float logit) {
    const entry *e = find(p->entries, p->capacity, token);
    return e->token == token && isfinite(logit) ? penalized(p, e, logit) : logit;
}

float pq_penalties_raw(const pq_penalties *p, int32_t token, float logit) {
    const entry *e = find(p->entries, p->capacity, token);
    return e->token == token ? e->raw : logit;
}
