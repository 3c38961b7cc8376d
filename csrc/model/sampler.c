/* sampler.c - from logits to a token.
 *
 * In this order, which as far as it goes is that of Hugging Face's generate: the mask; penalties and bias;
 * DRY; top-n-sigma; temperature; top-k; top-p; min-p; typical; XTC; a draw from what is left, renormalized.
 * Differences: of tokens that tie at the border of top-k or typical, the lower ids are kept and not all;
 * greedy choices see the penalties too. Another order (options.order) takes the long way: a list of all
 * candidates goes through one filter after the other.
 *
 * Portable: no function of libm but sqrt decides a draw, sums are in double in a fixed order, and the
 * random numbers are SplitMix64 (Steele, Lea and Flood 2014), one per drawn token and one for its XTC. Its
 * state is a counter, the seed plus a constant for each number drawn, so that going back is setting it to
 * what it was.
 */
#include <math.h>
#include <stdlib.h>

#include "../base/status.h"
#include "../kernels/kernels.h"
#include "../kernels/scalar/exp.h"
#include "candidates.h"
#include "dry.h"
#include "filters.h"
#include "penalties.h"
#include "sampler.h"

/* What it takes to take an accepted token back. */
typedef struct accepted {
    uint64_t random; /* state before it */
    int32_t token;
    uint8_t generated;
    uint8_t in_text; /* whether it stood in the text already */
} accepted;

struct pq_sampler {
    pq_sampler_options
        options; /* of filters that are left out, off; without the bias and the order */
    uint8_t order[PQ_FILTERS]; /* those that do something, in order */
    size_t n_order;
    size_t leading; /* of these that change logits before any token is left out */
    int bias_first; /* the bias comes before all, not after the penalties */
    int is_usual;   /* the order is the default */
    size_t real_tokens;
    const pq_kernels *kernels;
    pq_penalties *penalties;
    pq_dry *dry;   /* NULL: off */
    float *maxima; /* per chunk of logits */
    pq_candidate *candidates;
    size_t room, n; /* of candidates: allocated, in use */
    uint64_t random;
    accepted *log; /* of all tokens since the mark, or since pq_sampler_hold */
    size_t log_room, n_log, held_at;
    int marked, held; /* one of them: tokens are logged */
};

/* ------------------------------------------------------------------------------- open and close */

static pq_status check_range(const char *name, float value, int valid, const char *range,
                             pq_error *err) {
    if (isfinite(value) && valid)
        return PQ_OK;
    return pq_fail_at(err, PQ_ERR_ARGUMENT, name, -1, "%s must be %s, not %g", name, range,
                      (double)value);
}

static pq_status check_bias(uint32_t real_tokens, const pq_sampler_options *o, pq_error *err) {
    if (o->n_bias > 0 && (!o->bias_tokens || !o->bias_values))
        return pq_fail_at(err, PQ_ERR_ARGUMENT, "logit_bias", -1, "logit_bias has no values");
    for (uint32_t i = 0; i < o->n_bias; i++) {
        if (o->bias_tokens[i] < 0 || (uint32_t)o->bias_tokens[i] >= real_tokens)
            return pq_fail_at(err, PQ_ERR_ARGUMENT, "logit_bias", -1,
                              "logit_bias names token %d; the vocabulary has 0 to %u",
                              (int)o->bias_tokens[i], (unsigned)(real_tokens - 1));
        if (isnan(o->bias_values[i]) || o->bias_values[i] == INFINITY)
            return pq_fail_at(err, PQ_ERR_ARGUMENT, "logit_bias", -1,
                              "logit_bias of token %d must be finite or -infinity, not %g",
                              (int)o->bias_tokens[i], (double)o->bias_values[i]);
    }
    return PQ_OK;
}

static pq_status check_order(const pq_sampler_options *o, pq_error *err) {
    uint32_t seen = 0;
    for (uint32_t i = 0; o->order && i < o->n_order; i++) {
        if (o->order[i] >= PQ_FILTERS)
            return pq_fail_at(err, PQ_ERR_ARGUMENT, "samplers", -1, "samplers has no filter %u",
                              (unsigned)o->order[i]);
        if (seen & 1u << o->order[i])
            return pq_fail_at(err, PQ_ERR_ARGUMENT, "samplers", -1,
                              "samplers has filter %u more than once", (unsigned)o->order[i]);
        seen |= 1u << o->order[i];
    }
    return PQ_OK;
}

static pq_status check_options(const pq_sampler_options *o, pq_error *err) {
    const int dries = o->dry_multiplier != 0.0f;
    const struct {
        const char *name;
        float value;
        int valid;
        const char *range;
    } rules[] = {
        {"temperature", o->temperature, o->temperature >= 0, "a finite number, 0 or more"},
        {"top_k", (float)o->top_k, o->top_k >= 0, "0 (off) or more"},
        {"top_p", o->top_p, o->top_p >= 0 && o->top_p <= 1, "from 0 to 1"},
        {"min_p", o->min_p, o->min_p >= 0 && o->min_p <= 1, "from 0 to 1"},
        {"typical_p", o->typical_p, o->typical_p > 0 && o->typical_p <= 1, "above 0, at most 1"},
        {"repetition_penalty", o->repetition_penalty, o->repetition_penalty > 0,
         "a finite number above 0"},
        {"presence_penalty", o->presence_penalty, 1, "a finite number"},
        {"frequency_penalty", o->frequency_penalty, 1, "a finite number"},
        {"dry_multiplier", o->dry_multiplier, o->dry_multiplier >= 0, "a finite number, 0 or more"},
        {"dry_base", o->dry_base, !dries || o->dry_base >= 1, "a finite number, 1 or more"},
        {"dry_allowed_length", (float)o->dry_allowed_length, !dries || o->dry_allowed_length >= 1,
         "1 or more"},
        {"xtc_probability", o->xtc_probability, o->xtc_probability >= 0 && o->xtc_probability <= 1,
         "from 0 to 1"},
        {"xtc_threshold", o->xtc_threshold, o->xtc_threshold >= 0 && o->xtc_threshold <= 1,
         "from 0 to 1"},
        {"top_n_sigma", o->top_n_sigma, o->top_n_sigma >= 0, "a finite number, 0 or more"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const pq_status status =
            check_range(rules[i].name, rules[i].value, rules[i].valid, rules[i].range, err);
        if (status != PQ_OK)
            return status;
    }
    return check_order(o, err);
}

/* Whether a filter does anything. */
static int is_on(const pq_sampler_options *o, uint8_t filter) {
    switch (filter) {
    case PQ_FILTER_PENALTIES:
        return o->repetition_penalty != 1.0f || o->presence_penalty != 0.0f ||
               o->frequency_penalty != 0.0f;
    case PQ_FILTER_DRY:
        return o->dry_multiplier != 0.0f;
    default:
        break;
    }
    if (o->temperature == 0.0f)
        return 0; /* the likeliest token is taken */
    switch (filter) {
    case PQ_FILTER_TOP_N_SIGMA:
        return o->top_n_sigma != 0.0f;
    case PQ_FILTER_TEMPERATURE:
        return o->temperature != 1.0f;
    case PQ_FILTER_TOP_K:
        return o->top_k > 0;
    case PQ_FILTER_TOP_P:
        return o->top_p < 1.0f;
    case PQ_FILTER_MIN_P:
        return o->min_p > 0.0f;
    case PQ_FILTER_TYPICAL_P:
        return o->typical_p < 1.0f;
    default: /* no two tokens are likelier than 0.5 */
        return o->xtc_probability > 0.0f && o->xtc_threshold <= 0.5f;
    }
}

/* Turns off what the order leaves out. */
static void turn_off(pq_sampler_options *o, uint32_t in_order) {
    const pq_sampler_options off = {
        .temperature = 1.0f, .top_p = 1.0f, .typical_p = 1.0f, .repetition_penalty = 1.0f};
    if (!(in_order & 1u << PQ_FILTER_PENALTIES)) {
        o->repetition_penalty = off.repetition_penalty;
        o->presence_penalty = o->frequency_penalty = 0.0f;
    }
    if (!(in_order & 1u << PQ_FILTER_DRY))
        o->dry_multiplier = 0.0f;
    if (!(in_order & 1u << PQ_FILTER_TOP_N_SIGMA))
        o->top_n_sigma = 0.0f;
    if (!(in_order & 1u << PQ_FILTER_TEMPERATURE) && o->temperature != 0.0f)
        o->temperature = off.temperature;
    if (!(in_order & 1u << PQ_FILTER_TOP_K))
        o->top_k = 0;
    if (!(in_order & 1u << PQ_FILTER_TOP_P))
        o->top_p = off.top_p;
    if (!(in_order & 1u << PQ_FILTER_MIN_P))
        o->min_p = 0.0f;
    if (!(in_order & 1u << PQ_FILTER_TYPICAL_P))
        o->typical_p = off.typical_p;
    if (!(in_order & 1u << PQ_FILTER_XTC))
        o->xtc_probability = 0.0f;
}

static void set_order(pq_sampler *s, const pq_sampler_options *options) {
    const uint32_t n = options->order ? options->n_order : PQ_FILTERS;
    uint32_t in_order = 0;
    for (uint32_t i = 0; i < n; i++)
        in_order |= 1u << (options->order ? options->order[i] : i);
    turn_off(&s->options, in_order);
    s->is_usual = 1;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t filter = options->order ? options->order[i] : (uint8_t)i;
        if (!is_on(&s->options, filter))
            continue;
        if (s->n_order > 0 && filter < s->order[s->n_order - 1])
            s->is_usual = 0;
        s->order[s->n_order++] = filter;
    }
    while (s->leading < s->n_order && s->order[s->leading] <= PQ_FILTER_DRY)
        s->leading++;
    s->bias_first = 1;
    for (size_t i = 0; i < s->leading; i++)
        s->bias_first &= s->order[i] != PQ_FILTER_PENALTIES;
}

static size_t chunks(size_t n) {
    return (n + PQ_LOGIT_CHUNK - 1) / PQ_LOGIT_CHUNK;
}

/* Room for n candidates; those there are may be lost. */
static pq_status make_room(pq_sampler *s, size_t n, pq_error *err) {
    if (n <= s->room)
        return PQ_OK;
    pq_candidate *c = malloc(n * sizeof *c);
    if (!c)
        return pq_fail_memory(err, "sampling", n * sizeof *c);
    free(s->candidates);
    s->candidates = c;
    s->room = n;
    return PQ_OK;
}

static pq_status allocate(pq_sampler *s, const pq_sampler_options *options, pq_error *err) {
    const size_t bytes = chunks(s->real_tokens) * sizeof *s->maxima;
    s->maxima = malloc(bytes);
    if (!s->maxima)
        return pq_fail_memory(err, "sampling", bytes);
    pq_status status = make_room(s, PQ_MAX_TOP_LOGPROBS, err);
    if (status == PQ_OK)
        status = pq_kernels_select(&s->kernels, NULL, err);
    pq_sampler_options penalties = s->options;
    penalties.bias_tokens = options->bias_tokens;
    penalties.bias_values = options->bias_values;
    if (status == PQ_OK)
        status = pq_penalties_open(&s->penalties, (uint32_t)s->real_tokens, &penalties, err);
    if (status == PQ_OK && s->options.dry_multiplier != 0.0f)
        status = pq_dry_open(&s->dry, (uint32_t)s->real_tokens, &s->options, err);
    return status;
}

pq_status pq_sampler_open(pq_sampler **out, uint32_t real_tokens, const pq_sampler_options *options,
                          pq_error *err) {
    if (real_tokens == 0 || real_tokens > INT32_MAX)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%u tokens cannot be sampled from",
                       (unsigned)real_tokens);
    pq_status status = check_options(options, err);
    if (status == PQ_OK)
        status = check_bias(real_tokens, options, err);
    if (status != PQ_OK)
        return status;
    pq_sampler *s = calloc(1, sizeof *s);
    if (!s)
        return pq_fail_memory(err, "a sampler", sizeof *s);
    s->options = *options;
    s->options.bias_tokens = NULL;
    s->options.bias_values = NULL;
    s->options.order = NULL;
    set_order(s, options);
    s->real_tokens = real_tokens;
    s->random = options->seed;
    status = allocate(s, options, err);
    if (status != PQ_OK) {
        pq_sampler_close(s);
        return status;
    }
    *out = s;
    return PQ_OK;
}

void pq_sampler_close(pq_sampler *s) {
    if (!s)
        return;
    pq_penalties_close(s->penalties);
    pq_dry_close(s->dry);
    free(s->candidates);
    free(s->maxima);
    free(s->log);
    free(s);
}

/* ------------------------------------------------------------------------------- what was accepted
 */

static int is_logging(const pq_sampler *s) {
    return s->marked || s->held;
}

/* Makes room so that accepting one token cannot fail. */
static pq_status reserve(pq_sampler *s, pq_error *err) {
    if (is_logging(s) && s->n_log == s->log_room) {
        const size_t room = 2 * s->log_room + 16;
        accepted *log = realloc(s->log, room * sizeof *log);
        if (!log)
            return pq_fail_memory(err, "the history of a sampler", room * sizeof *log);
        s->log = log;
        s->log_room = room;
    }
    const pq_status status = s->dry ? pq_dry_reserve(s->dry, 1, err) : PQ_OK;
    return status == PQ_OK ? pq_penalties_reserve(s->penalties, err) : status;
}

/* Room for it is reserved; `random` is the state before it was drawn. */
static void accept(pq_sampler *s, int32_t token, int generated, uint64_t random) {
    if (is_logging(s))
        s->log[s->n_log++] = (accepted){.random = random,
                                        .token = token,
                                        .generated = generated != 0,
                                        .in_text = pq_penalties_in_text(s->penalties, token) != 0};
    (void)pq_penalties_accept(s->penalties, &token, 1, generated, NULL);
    if (s->dry)
        pq_dry_accept(s->dry, &token, 1);
}

/* Takes back the newest tokens until n are left in the log. */
static void take_back(pq_sampler *s, size_t n) {
    while (s->n_log > n) {
        const accepted *a = &s->log[--s->n_log];
        pq_penalties_retract(s->penalties, a->token, a->generated, a->in_text);
        if (s->dry)
            pq_dry_retract(s->dry);
        s->random = a->random;
    }
}

void pq_sampler_mark(pq_sampler *s, int on) {
    s->marked = on != 0;
    s->n_log = 0;
}

pq_status pq_sampler_rewind(pq_sampler *s, size_t n, pq_error *err) {
    if (!s->marked)
        return pq_fail(err, PQ_ERR_ARGUMENT, "the sampler has no mark to go back to");
    if (n > s->n_log)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "the sampler accepted %llu tokens after its mark, not %llu",
                       (unsigned long long)s->n_log, (unsigned long long)n);
    take_back(s, n);
    return PQ_OK;
}

void pq_sampler_hold(pq_sampler *s) {
    if (!s->marked)
        s->n_log = 0;
    s->held_at = s->n_log;
    s->held = 1;
}

void pq_sampler_release(pq_sampler *s, int undo) {
    if (undo)
        take_back(s, s->held_at);
    s->held = 0;
}

pq_status pq_sampler_accept(pq_sampler *s, const int32_t *tokens, size_t n, int generated,
                            pq_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0)
            return pq_fail(err, PQ_ERR_ARGUMENT,
                           "token ids are not negative, but number %llu is %d",
                           (unsigned long long)i, (int)tokens[i]);
    }
    if (!is_logging(s)) {
        pq_status status = s->dry ? pq_dry_reserve(s->dry, n, err) : PQ_OK;
        if (status == PQ_OK)
            status = pq_penalties_accept(s->penalties, tokens, n, generated, err);
        if (status == PQ_OK && s->dry)
            pq_dry_accept(s->dry, tokens, n);
        return status;
    }
    const size_t before = s->n_log;
    for (size_t i = 0; i < n; i++) {
        const pq_status status = reserve(s, err);
        if (status != PQ_OK) {
            take_back(s, before);
            return status;
        }
        accept(s, tokens[i], generated, s->random);
    }
    return PQ_OK;
}

/* ---------------------------------------------------------------------------- what may be drawn */

/* A multiple of 2^-53 in [0, 1). */
static double next_random(pq_sampler *s) {
    uint64_t z = s->random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

/* XTC: by chance. */
static void exclude_top_choices(pq_sampler *s) {
    if (next_random(s) < s->options.xtc_probability)
        s->n = pq_keep_xtc(s->candidates, s->n, s->options.xtc_threshold);
}

/* Keys of the logits relative to the largest, by temperature; dst may be logits. */
static void scale_keys(const pq_sampler *s, const float *logits, size_t n, float max, float *dst) {
    for (size_t i = 0; i < n; i++)
        dst[i] = (logits[i] - max) / s->options.temperature;
}

/* The sum of all tokens' weights; those without a possible token add nothing and are not looked at. */
static double total_weight(const pq_sampler *s, const float *logits, float max) {
    double lanes[8] = {0};
    for (size_t start = 0; start < s->real_tokens; start += PQ_LOGIT_CHUNK) {
        float w[PQ_LOGIT_CHUNK] = {0};
        if (s->maxima[start / PQ_LOGIT_CHUNK] == -INFINITY)
            continue;
        const size_t left = s->real_tokens - start;
        const size_t n = left < PQ_LOGIT_CHUNK ? left : PQ_LOGIT_CHUNK;
        scale_keys(s, logits + start, n, max, w);
        s->kernels->exp(w, n, w);
        for (size_t i = 0; i < PQ_LOGIT_CHUNK; i += 8) {
            for (size_t l = 0; l < 8; l++)
                lanes[l] += w[i + l];
        }
    }
    double total = 0.0;
    for (size_t l = 0; l < 8; l++)
        total += lanes[l];
    return total;
}

static pq_status grow(pq_sampler *s, pq_error *err) {
    const size_t room = 2 * s->room + PQ_LOGIT_CHUNK;
    pq_candidate *c = realloc(s->candidates, room * sizeof *c);
    if (!c)
        return pq_fail_memory(err, "sampling", room * sizeof *c);
    s->candidates = c;
    s->room = room;
    return PQ_OK;
}

/* All tokens of a weight that is above 0 and not below `least`. */
static pq_status collect(pq_sampler *s, const float *logits, float max, float least,
                         pq_error *err) {
    s->n = 0;
    for (size_t start = 0; start < s->real_tokens; start += PQ_LOGIT_CHUNK) {
        float best = s->maxima[start / PQ_LOGIT_CHUNK], keys[PQ_LOGIT_CHUNK], w[PQ_LOGIT_CHUNK];
        scale_keys(s, &best, 1, max, &best);
        best = pq_exp(best);
        if (best < least || best == 0.0f)
            continue;
        const size_t left = s->real_tokens - start;
        const size_t n = left < PQ_LOGIT_CHUNK ? left : PQ_LOGIT_CHUNK;
        scale_keys(s, logits + start, n, max, keys);
        s->kernels->exp(keys, n, w);
        const pq_status status = s->room - s->n < n ? grow(s, err) : PQ_OK;
        if (status != PQ_OK)
            return status;
        for (size_t i = 0; i < n; i++) {
            if (w[i] >= least && w[i] > 0.0f)
                s->candidates[s->n++] =
                    (pq_candidate){.key = keys[i], .weight = w[i], .token = (int32_t)(start + i)};
        }
    }
    return PQ_OK;
}

static pq_status keep_top_k(pq_sampler *s, const float *logits, float max, pq_error *err) {
    const size_t k = (size_t)s->options.top_k;
    const pq_status status = make_room(s, k, err);
    if (status != PQ_OK)
        return status;
    const size_t found = pq_candidates_best(logits, s->real_tokens, s->maxima, k, s->candidates);
    s->n = 0;
    for (size_t i = 0; i < found; i++) {
        pq_candidate *c = &s->candidates[i];
        scale_keys(s, &c->key, 1, max, &c->key);
        c->weight = pq_exp(c->key);
        s->n += c->weight > 0.0f; /* best first: those without weight are the last */
    }
    return PQ_OK;
}

/* Fills the candidates from which the token is drawn: at least one, each with a weight above 0. */
static pq_status choose_candidates(pq_sampler *s, const float *logits, float max, pq_error *err) {
    const pq_sampler_options *o = &s->options;
    double total = 0.0;
    pq_status status;
    if (o->top_k > 0 && (size_t)o->top_k < s->real_tokens) {
        status = keep_top_k(s, logits, max, err);
        total = pq_weight_sum(s->candidates, s->n);
    } else {
        /* All the tokens below this weight together are less than what top-p cuts off. */
        float least = o->min_p;
        if (o->top_p < 1.0f) {
            total = total_weight(s, logits, max);
            least =
                fmaxf(least, (float)((1.0 - o->top_p) * total / (double)s->real_tokens) * 0.99f);
        }
        status = collect(s, logits, max, least, err);
    }
    if (status != PQ_OK)
        return status;
    if (o->top_p < 1.0f)
        s->n = pq_candidates_reach(s->candidates, s->n, o->top_p * total);
    if (o->min_p > 0.0f)
        s->n = pq_keep_min_p(s->candidates, s->n, o->min_p);
    if (o->typical_p < 1.0f)
        s->n = pq_keep_typical(s->candidates, s->n, o->typical_p);
    if (is_on(o, PQ_FILTER_XTC))
        exclude_top_choices(s);
    return PQ_OK;
}

/* Every possible token, its logit the key; the best k where that is the first filter. */
static pq_status list_candidates(pq_sampler *s, const float *logits, pq_error *err) {
    if (s->leading < s->n_order && s->order[s->leading] == PQ_FILTER_TOP_K &&
        (size_t)s->options.top_k < s->real_tokens) {
        const size_t k = (size_t)s->options.top_k;
        const pq_status status = make_room(s, k, err);
        if (status == PQ_OK)
            s->n = pq_candidates_best(logits, s->real_tokens, s->maxima, k, s->candidates);
        return status;
    }
    const pq_status status = make_room(s, s->real_tokens, err);
    if (status != PQ_OK)
        return status;
    s->n = 0;
    for (size_t i = 0; i < s->real_tokens; i++) {
        if (s->maxima[i / PQ_LOGIT_CHUNK] > -INFINITY && logits[i] > -INFINITY)
            s->candidates[s->n++] = (pq_candidate){.key = logits[i], .token = (int32_t)i};
    }
    return PQ_OK;
}

static void apply_filter(pq_sampler *s, uint8_t filter) {
    const pq_sampler_options *o = &s->options;
    pq_candidate *c = s->candidates;
    float max = -INFINITY;
    switch (filter) {
    case PQ_FILTER_PENALTIES:
        for (size_t i = 0; i < s->n; i++)
            c[i].key = pq_penalties_penalized(s->penalties, c[i].token, c[i].key);
        return;
    case PQ_FILTER_DRY:
        for (size_t i = 0; i < s->n; i++)
            c[i].key = pq_dry_penalized(s->dry, c[i].token, c[i].key);
        return;
    case PQ_FILTER_TOP_N_SIGMA:
        s->n = pq_keep_top_n_sigma(c, s->n, o->top_n_sigma);
        return;
    case PQ_FILTER_TEMPERATURE:
        for (size_t i = 0; i < s->n; i++)
            max = c[i].key > max ? c[i].key : max;
        for (size_t i = 0; i < s->n; i++)
            c[i].key = (c[i].key - max) / o->temperature;
        return;
    case PQ_FILTER_TOP_K:
        s->n = pq_keep_top_k(c, s->n, (size_t)o->top_k);
        return;
    default:
        break;
    }
    pq_weigh(c, s->n);
    if (filter == PQ_FILTER_TOP_P)
        s->n = pq_keep_top_p(c, s->n, o->top_p);
    else if (filter == PQ_FILTER_MIN_P)
        s->n = pq_keep_min_p(c, s->n, o->min_p);
    else if (filter == PQ_FILTER_TYPICAL_P)
        s->n = pq_keep_typical(c, s->n, o->typical_p);
    else
        exclude_top_choices(s);
}

/* The same as choose_candidates in the order that was asked for. */
static pq_status filter_in_order(pq_sampler *s, const float *logits, pq_error *err) {
    const pq_status status = list_candidates(s, logits, err);
    if (status != PQ_OK)
        return status;
    for (size_t i = s->leading; i < s->n_order; i++)
        apply_filter(s, s->order[i]);
    pq_weigh(s->candidates, s->n);
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->candidates[i].weight > 0.0f)
            s->candidates[kept++] = s->candidates[i];
    }
    s->n = kept;
    return PQ_OK;
}

/* ------------------------------------------------------------------------------------- the draw */

static int32_t draw(pq_sampler *s) {
    double left = next_random(s) * pq_weight_sum(s->candidates, s->n);
    for (size_t i = 0; i + 1 < s->n; i++) {
        left -= s->candidates[i].weight;
        if (left < 0.0)
            return s->candidates[i].token;
    }
    return s->candidates[s->n - 1].token;
}

/* Fills the likeliest tokens of the raw distribution; returns its log-sum-exp. */
static float report_top(pq_sampler *s, const float *logits, uint32_t n_top, pq_sample *out) {
    const float log_total = s->kernels->logsumexp(logits, s->real_tokens);
    out->n_top = 0;
    if (n_top == 0)
        return log_total;
    out->n_top =
        (uint32_t)pq_candidates_best(logits, s->real_tokens, s->maxima, n_top, s->candidates);
    for (uint32_t i = 0; i < out->n_top; i++) {
        out->top_tokens[i] = s->candidates[i].token;
        out->top_logprobs[i] = s->candidates[i].key - log_total;
    }
    return log_total;
}

/* Whether the largest logit is a finite number. */
static pq_status check_largest(float max, pq_error *err) {
    if (isfinite(max))
        return PQ_OK;
    return pq_fail(err, PQ_ERR_NUMERIC,
                   "the model's output is not a distribution: its largest logit is %s; the weights "
                   "are probably damaged",
                   isnan(max) ? "not a number"
                   : max > 0  ? "infinite"
                              : "-infinity");
}

/* The same of the logits that mask and bias left. */
static pq_status check_possible(const pq_sampler *s, float max, const uint32_t *mask, int forbade,
                                pq_error *err) {
    if (max == -INFINITY && mask && !pq_mask_allows_any(mask, s->real_tokens))
        return pq_fail_at(err, PQ_ERR_ARGUMENT, "mask", -1, "the mask allows no token");
    if (max == -INFINITY && mask)
        return pq_fail_at(err, PQ_ERR_ARGUMENT, "mask", -1,
                          "the mask allows only tokens that are impossible or that logit_bias "
                          "forbids");
    if (max == -INFINITY && forbade)
        return pq_fail_at(err, PQ_ERR_ARGUMENT, "logit_bias", -1,
                          "logit_bias forbids every token that was possible");
    return check_largest(max, err);
}

static pq_status check_call(const pq_sampler *s, size_t n_logits, uint32_t n_top, pq_error *err) {
    if (n_logits < s->real_tokens)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%llu logits for %llu tokens",
                       (unsigned long long)n_logits, (unsigned long long)s->real_tokens);
    if (n_top > PQ_MAX_TOP_LOGPROBS)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "at most %d top log-probabilities can be reported, not %u",
                       PQ_MAX_TOP_LOGPROBS, (unsigned)n_top);
    return PQ_OK;
}

/* Changes logits by what comes before tokens are left out; returns 1 if the bias forbade a possible one. */
static int change_logits(pq_sampler *s, float *logits) {
    int forbade = s->bias_first ? pq_penalties_apply(s->penalties, logits, 0) : 0;
    if (s->dry)
        pq_dry_find(s->dry);
    for (size_t i = 0; i < s->leading; i++) {
        if (s->order[i] == PQ_FILTER_DRY)
            pq_dry_apply(s->dry, logits);
        else
            forbade = pq_penalties_apply(s->penalties, logits, 1);
    }
    return forbade;
}

/* The model's own logit of a token: change_logits undone. */
static float raw_logit(const pq_sampler *s, const float *logits, int32_t token) {
    float x = logits[token];
    for (size_t i = s->leading; i-- > 0;)
        x = s->order[i] == PQ_FILTER_DRY ? pq_dry_raw(s->dry, token, x)
                                         : pq_penalties_raw(s->penalties, token, x);
    return s->bias_first ? pq_penalties_raw(s->penalties, token, x) : x;
}

/* Describes the raw distribution; *log_total is its log-sum-exp. */
static pq_status report(pq_sampler *s, const float *logits, uint32_t n_top, pq_sample *out,
                        float *log_total, pq_error *err) {
    const float max = pq_logit_maxima(logits, s->real_tokens, s->maxima);
    const pq_status status = check_largest(max, err);
    if (status == PQ_OK)
        *log_total = report_top(s, logits, n_top, out);
    return status;
}

pq_status pq_sampler_sample(pq_sampler *s, float *logits, size_t n_logits, const uint32_t *mask,
                            int want_logprob, uint32_t n_top, pq_sample *out, pq_error *err) {
    float log_total = 0.0f;
    pq_sample sample = {0};
    pq_status status = check_call(s, n_logits, n_top, err);
    if (status == PQ_OK)
        status = reserve(s, err);
    if (status == PQ_OK && want_logprob)
        status = report(s, logits, n_top, &sample, &log_total, err);
    if (status != PQ_OK)
        return status;

    const int forbade = change_logits(s, logits);
    const float max = mask ? pq_masked_maxima(logits, s->real_tokens, mask, s->maxima)
                           : pq_logit_maxima(logits, s->real_tokens, s->maxima);
    status = check_possible(s, max, mask, forbade, err);
    if (status != PQ_OK)
        return status;
    const uint64_t random = s->random;
    if (s->options.temperature == 0.0f) {
        pq_candidates_best(logits, s->real_tokens, s->maxima, 1, s->candidates);
        sample.token = s->candidates[0].token;
    } else {
        if (s->is_usual && s->options.top_n_sigma != 0.0f)
            pq_cut_top_n_sigma(logits, s->real_tokens, s->maxima, max, s->options.top_n_sigma);
        status =
            s->is_usual ? choose_candidates(s, logits, max, err) : filter_in_order(s, logits, err);
        if (status != PQ_OK)
            return status;
        sample.token = draw(s);
    }
    if (want_logprob)
        sample.logprob = raw_logit(s, logits, sample.token) - log_total;
    accept(s, sample.token, 1, random);
    *out = sample;
    return PQ_OK;
}

pq_status pq_sampler_force(pq_sampler *s, int32_t token, const float *logits, size_t n_logits,
                           uint32_t n_top, pq_sample *out, pq_error *err) {
    float log_total = 0.0f;
    pq_sample sample = {.token = token};
    pq_status status = logits ? check_call(s, n_logits, n_top, err) : PQ_OK;
    if (status == PQ_OK && (token < 0 || (size_t)token >= s->real_tokens))
        status = pq_fail(err, PQ_ERR_ARGUMENT, "token %d is forced; the vocabulary has 0 to %llu",
                         (int)token, (unsigned long long)(s->real_tokens - 1));
    if (status == PQ_OK)
        status = reserve(s, err);
    if (status == PQ_OK && logits)
        status = report(s, logits, n_top, &sample, &log_total, err);
    if (status != PQ_OK)
        return status;
    if (logits)
        sample.logprob = logits[token] - log_total;
    accept(s, token, 1, s->random);
    *out = sample;
    return PQ_OK;
}
