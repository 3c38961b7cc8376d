/* test_sampler.c - samplers of random settings and orders: none reads or writes what it may not (sanitizers see to
 * that), each draws a possible token, and one that goes back and forth draws what its twin does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../csrc/pyqwen_sampling.h"
#include "check.h"

enum {
    SAMPLERS = 1500,
    DRAWS = 12,
    MOST_TOKENS = 300,
    MOST_PROMPT = 200,
    WORDS = (MOST_TOKENS + 31) / 32
};

static uint32_t random_below(uint32_t n) {
    static uint64_t state = 11;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

/* Up to `count` texts of up to `longest` bytes, at least `shortest`, in memory of exactly their size. */
static char *random_texts(uint64_t *bounds, uint32_t count, uint32_t shortest, uint32_t longest) {
    char texts[MOST_TOKENS * 4];
    uint64_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        bounds[i] = size;
        for (uint32_t n = shortest + random_below(longest - shortest + 1); n > 0; n--)
            texts[size++] = "abc\n"[random_below(4)];
    }
    bounds[count] = size;
    char *copy = malloc((size_t)size + 1);
    if (copy)
        memcpy(copy, texts, (size_t)size);
    return copy;
}

static pq_breakers *random_breakers(uint32_t tokens) {
    uint64_t token_bounds[MOST_TOKENS + 1], bounds[6];
    const uint32_t count = random_below(5);
    char *token_texts = random_texts(token_bounds, tokens, 0, 3);
    char *texts = random_texts(bounds, count, 1, 4);
    const pq_strings of_tokens = {token_texts, token_bounds, tokens};
    const pq_strings strings = {texts, bounds, count};
    pq_breakers *breakers = NULL;
    pq_error err;
    CHECK(token_texts && texts && pq_breakers_open(&breakers, &of_tokens, &strings, &err) == PQ_OK);
    free(token_texts);
    free(texts);
    return breakers;
}

static void shuffle(uint8_t *order) {
    for (uint32_t i = 0; i < PQ_FILTERS; i++)
        order[i] = (uint8_t)i;
    for (uint32_t i = PQ_FILTERS - 1; i > 0; i--) {
        const uint32_t j = random_below(i + 1);
        const uint8_t other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
}

static pq_sampler_options random_options(const pq_breakers *breakers, const uint8_t *order,
                                         const uint32_t *unpenalized) {
    static const float temperatures[] = {0, 0.5f, 1, 3, 1e-30f, 1e30f};
    return (pq_sampler_options){.temperature = temperatures[random_below(6)],
                                .top_k = (int32_t)random_below(20),
                                .top_p = random_below(2) ? 1 : 0.9f,
                                .min_p = random_below(2) ? 0 : 0.1f,
                                .typical_p = random_below(2) ? 1 : 0.8f,
                                .repetition_penalty = random_below(2) ? 1 : 1.2f,
                                .presence_penalty = random_below(2) ? 0 : 0.4f,
                                .unpenalized = random_below(2) ? unpenalized : NULL,
                                .dry_multiplier = random_below(3) ? 0.8f : 0,
                                .dry_base = 1 + (float)random_below(3),
                                .dry_allowed_length = 1 + (int32_t)random_below(3),
                                .dry_breakers = random_below(2) ? breakers : NULL,
                                .xtc_probability = random_below(2) ? 0.5f : 0,
                                .xtc_threshold = 0.05f * (float)random_below(12),
                                .top_n_sigma = random_below(2) ? 0 : (float)random_below(4),
                                .order = random_below(2) ? order : NULL,
                                .n_order = random_below(PQ_FILTERS + 1),
                                .seed = random_below(1000)};
}

/* Draws from a copy of logits (n), of exactly its size. */
static pq_status draw(pq_sampler *sampler, const float *logits, uint32_t n, pq_sample *out) {
    float *copy = malloc(n * sizeof *copy);
    pq_error err;
    if (!copy)
        return PQ_ERR_MEMORY;
    memcpy(copy, logits, n * sizeof *copy);
    const pq_status status = pq_sampler_sample(sampler, copy, n, NULL, 1, 3, out, &err);
    free(copy);
    return status;
}

/* `restless` draws from other logits, and goes back, before it draws what its twin draws. */
static void compare(pq_sampler *restless, pq_sampler *twin, uint32_t n) {
    float logits[MOST_TOKENS], others[MOST_TOKENS];
    pq_sample sample, expected;
    pq_error err;
    for (uint32_t i = 0; i < n; i++) {
        logits[i] = random_below(8) ? (float)random_below(1000) / 100 - 5 : -INFINITY;
        others[i] = (float)random_below(1000) / 50;
    }
    logits[random_below(n)] = 3;
    pq_sampler_mark(restless, 1);
    for (uint32_t ahead = random_below(4); ahead > 0; ahead--)
        CHECK(draw(restless, others, n, &sample) == PQ_OK);
    CHECK(pq_sampler_rewind(restless, 0, &err) == PQ_OK);
    pq_sampler_mark(restless, (int)random_below(2));
    CHECK(draw(twin, logits, n, &expected) == PQ_OK);
    CHECK(draw(restless, logits, n, &sample) == PQ_OK);
    CHECK(sample.token == expected.token && sample.logprob == expected.logprob);
    CHECK(sample.token >= 0 && (uint32_t)sample.token < n && logits[sample.token] > -INFINITY);
}

int main(void) {
    for (int i = 0; i < SAMPLERS && check_failures == 0; i++) {
        const uint32_t n = 1 + random_below(MOST_TOKENS), n_prompt = random_below(MOST_PROMPT);
        const uint32_t unpenalized[WORDS] = {random_below(65536)};
        int32_t prompt[MOST_PROMPT];
        uint8_t order[PQ_FILTERS];
        pq_sampler *restless = NULL, *twin = NULL;
        pq_error err;
        pq_breakers *breakers = random_breakers(n);
        shuffle(order);
        const pq_sampler_options options = random_options(breakers, order, unpenalized);
        CHECK(pq_sampler_open(&restless, n, &options, &err) == PQ_OK);
        CHECK(pq_sampler_open(&twin, n, &options, &err) == PQ_OK);
        for (uint32_t j = 0; j < n_prompt; j++)
            prompt[j] = (int32_t)random_below(n + 3); /* the last three are padding */
        CHECK(pq_sampler_accept(restless, prompt, n_prompt, 0, &err) == PQ_OK);
        CHECK(pq_sampler_accept(twin, prompt, n_prompt, 0, &err) == PQ_OK);
        for (int k = 0; k < DRAWS && check_failures == 0; k++)
            compare(restless, twin, n);
        pq_sampler_close(restless);
        pq_sampler_close(twin);
        pq_breakers_close(breakers);
    }
    return check_result();
}
