/* test_runs.c - runs of drafted, masked and forced tokens against sampling token by token: the same samples, the
 * same state of the sampler and the same sequence afterwards, also where a call fails, finds no memory or is
 * cancelled in the middle. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tiny_model.h"

static const char *const PATH = "test_runs.tmp";

enum {
    TOKENS = 77,
    ROWS = 96,
    HIDDEN = 64,
    CONTEXT = 300,
    LENGTH = 70,     /* tokens of an answer that are compared */
    MOST_DRAFT = 24, /* more than there are rows in a group of logits */
    N_SETTINGS = 8,
    WORDS = (ROWS + 31) / 32
};

static const int32_t BIASED[] = {3, 70};
static const float BIASES[] = {1.5f, -INFINITY};

static const uint8_t ORDER[] = {PQ_FILTER_XTC, PQ_FILTER_TOP_P, PQ_FILTER_DRY,
                                PQ_FILTER_TEMPERATURE, PQ_FILTER_TOP_N_SIGMA};

static const pq_sampler_options SETTINGS[N_SETTINGS] = {
    {.temperature = 0, .top_p = 1, .typical_p = 1, .repetition_penalty = 1},
    {.temperature = 0, .top_p = 1, .typical_p = 1, .repetition_penalty = 1.3f, .seed = 1},
    {.temperature = 1, .top_p = 1, .typical_p = 1, .repetition_penalty = 1, .seed = 2},
    {.temperature = 0.8f,
     .top_k = 20,
     .top_p = 0.9f,
     .typical_p = 1,
     .repetition_penalty = 1.1f,
     .presence_penalty = 0.4f,
     .frequency_penalty = 0.3f,
     .seed = 3},
    {.temperature = 1.2f,
     .top_p = 0.95f,
     .min_p = 0.05f,
     .typical_p = 0.9f,
     .repetition_penalty = 1,
     .frequency_penalty = 0.7f,
     .seed = 4,
     .bias_tokens = BIASED,
     .bias_values = BIASES,
     .n_bias = 2},
    {.temperature = 0.5f, .top_p = 1, .min_p = 0.1f, .typical_p = 1, .repetition_penalty = 1.2f},
    {.temperature = 1,
     .top_p = 1,
     .typical_p = 1,
     .repetition_penalty = 1.1f,
     .dry_multiplier = 0.8f,
     .dry_base = 1.75f,
     .dry_allowed_length = 1,
     .xtc_probability = 0.5f,
     .xtc_threshold = 0.05f,
     .top_n_sigma = 2.5f,
     .seed = 6},
    {.temperature = 1.3f,
     .top_p = 0.9f,
     .typical_p = 1,
     .repetition_penalty = 1,
     .dry_multiplier = 1.5f,
     .dry_base = 1.1f,
     .dry_allowed_length = 2,
     .xtc_probability = 0.4f,
     .xtc_threshold = 0.1f,
     .top_n_sigma = 2,
     .order = ORDER,
     .n_order = sizeof ORDER,
     .seed = 7},
};

static uint32_t next_random(void) {
    static uint64_t state = 7;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

/* ------------------------------------------------------------------------------------- the model */

typedef struct opened {
    pq_file *file;
    pq_model *model;
    pq_session *session;
} opened;

static void write_model(void) {
    const tiny_spec spec = {
        .architecture = "qwen2",
        .layers = 2,
        .hidden = HIDDEN,
        .ffn = 96,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 32,
        .context = CONTEXT,
        .tokens = TOKENS,
        .rows = ROWS,
        .types = {PQ_Q8_0, PQ_F16, PQ_Q4_0, PQ_Q8_0, PQ_Q5_1, PQ_Q8_0, PQ_F32, PQ_Q8_0, PQ_F32},
        .vector_type = PQ_F32,
        .untied = 1,
        .rope_scaling = "none",
        .rope_factor = 4,
        .rope_original = 350,
        .seed = 1};
    FILE *out = fopen(PATH, "wb");
    CHECK(out != NULL);
    tiny_write(out, &spec);
    fclose(out);
}

static opened open_model(uint32_t sequences, uint32_t batch) {
    const pq_model_options options = {.threads = 2};
    const pq_session_options session = {.sequences = sequences, .threads = 2, .batch = batch};
    pq_error err = {.text = ""};
    opened o = {NULL, NULL, NULL};
    if (pq_file_open(&o.file, PATH, PQ_LOAD_COPY, &err) != PQ_OK ||
        pq_model_open(&o.model, o.file, &options, &err) != PQ_OK ||
        pq_session_open(&o.session, o.model, &session, &err) != PQ_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    return o;
}

static void close_model(opened *o) {
    pq_session_close(o->session);
    pq_model_close(o->model);
    pq_file_close(o->file);
}

/* ----------------------------------------------------------------------------------- the stories */

/* What is asked of token i of an answer, whoever writes it. */
typedef struct rules {
    int masked, forced;
    uint32_t want_logprob, n_top;
} rules;

static const uint32_t *mask_of(const rules *how, uint32_t i) {
    static uint32_t masks[3][WORDS];
    for (uint32_t t = 0; t < 3 * ROWS; t++) /* bits from TOKENS on are set: they do not count */
        if (t % ROWS % 3 == t / ROWS || t % ROWS >= TOKENS)
            masks[t / ROWS][t % ROWS / 32] |= UINT32_C(1) << t % 32;
    return how->masked && i % 5 < 3 ? masks[i % 3] : NULL;
}

static int32_t forced_at(const rules *how, uint32_t i) {
    return how->forced && i % 7 >= 5 ? (int32_t)(i * 11 % TOKENS) : -1;
}

/* A prompt and what is written after it. */
typedef struct story {
    pq_sampler *sampler;
    pq_sample samples[LENGTH];
    uint32_t n;
    float logits[ROWS]; /* after the last token */
} story;

static uint32_t prompt_length(uint32_t sequence) {
    return 5 + 30 * sequence;
}

static pq_sampler *open_sampler(const pq_sampler_options *options, uint32_t sequence) {
    pq_sampler *sampler = NULL;
    CHECK(pq_sampler_open(&sampler, TOKENS, options, NULL) == PQ_OK);
    for (uint32_t i = 0; i < prompt_length(sequence); i++) {
        const int32_t token = (int32_t)(i * 7 % TOKENS);
        CHECK(pq_sampler_accept(sampler, &token, 1, 0, NULL) == PQ_OK);
    }
    return sampler;
}

/* Reads the prompt of a sequence up to its last token. */
static void read_prompt(pq_session *s, uint32_t sequence) {
    static pq_row rows[CONTEXT];
    const uint32_t n = prompt_length(sequence) - 1;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (pq_row){(int32_t)(i * 7 % TOKENS), sequence, 0};
    CHECK(pq_session_rewind(s, sequence, 0, NULL) == PQ_OK);
    CHECK(pq_session_eval(s, rows, n, NULL) == PQ_OK);
}

/* The token that is run next. */
static int32_t pending(const story *st, uint32_t sequence) {
    return st->n ? st->samples[st->n - 1].token
                 : (int32_t)((prompt_length(sequence) - 1) * 7 % TOKENS);
}

static pq_draw rule_of(const rules *how, uint32_t i) {
    const int32_t forced = forced_at(how, i);
    return (pq_draw){.mask = mask_of(how, i), .next = forced, .forced = forced >= 0};
}

/* Evaluates and samples one token. */
static void write_one(pq_session *s, uint32_t sequence, story *st, const rules *how) {
    const pq_row row = {pending(st, sequence), sequence, 1};
    const pq_draw draw = rule_of(how, st->n);
    pq_run run = {.sampler = st->sampler,
                  .draws = &draw,
                  .n = 1,
                  .want_logprob = how->want_logprob,
                  .n_top = how->n_top,
                  .samples = &st->samples[st->n]};
    CHECK(pq_session_eval(s, &row, 1, NULL) == PQ_OK);
    CHECK(pq_session_sample(s, &run, 1, NULL) == PQ_OK);
    CHECK(run.status == PQ_OK && run.sampled == 1);
    st->n++;
}

static void finish(pq_session *s, uint32_t sequence, story *st) {
    const pq_row row = {pending(st, sequence), sequence, 1};
    CHECK(pq_session_eval(s, &row, 1, NULL) == PQ_OK);
    CHECK(pq_session_logits(s, 0, 1, st->logits, NULL) == PQ_OK);
    pq_sampler_close(st->sampler);
    st->sampler = NULL;
}

static void write_alone(pq_session *s, uint32_t sequence, story *st, const rules *how) {
    *st = (story){.sampler = open_sampler(&SETTINGS[sequence % N_SETTINGS], sequence)};
    read_prompt(s, sequence);
    while (st->n < LENGTH)
        write_one(s, sequence, st, how);
    finish(s, sequence, st);
}

static int same_sample(const pq_sample *a, const pq_sample *b) {
    return a->token == b->token && memcmp(&a->logprob, &b->logprob, sizeof a->logprob) == 0 &&
           a->n_top == b->n_top &&
           memcmp(a->top_tokens, b->top_tokens, a->n_top * sizeof *a->top_tokens) == 0 &&
           memcmp(a->top_logprobs, b->top_logprobs, a->n_top * sizeof *a->top_logprobs) == 0;
}

static void check_same(const story *expected, const story *got) {
    CHECK(expected->n == got->n);
    for (uint32_t i = 0; i < got->n; i++)
        CHECK(same_sample(&expected->samples[i], &got->samples[i]));
    CHECK(memcmp(expected->logits, got->logits, sizeof got->logits) == 0);
}

/* --------------------------------------------------------------------------------------- drafts */

typedef enum drafting { NONE, TRUE_ONES, WRONG_ONES, MIXED } drafting;

static int32_t draft(drafting kind, const story *truth, uint32_t i) {
    const int right = kind == TRUE_ONES || (kind == MIXED && next_random() % 8 > 0);
    return right ? truth->samples[i].token : (truth->samples[i].token + 1) % TOKENS;
}

/* One run: the pending token and a draft, as rows and draws. */
typedef struct attempt {
    pq_row rows[1 + MOST_DRAFT];
    pq_draw draws[1 + MOST_DRAFT];
    uint32_t n;
} attempt;

static void plan(attempt *a, uint32_t sequence, const story *st, const story *truth,
                 const rules *how, drafting kind, uint32_t *output) {
    const uint32_t left = LENGTH - st->n, most = kind == NONE ? 0 : next_random() % MOST_DRAFT;
    a->n = 0;
    int32_t token = pending(st, sequence);
    for (uint32_t i = 0; i <= most && i < left; i++, a->n++) {
        pq_draw *d = &a->draws[i];
        *d = rule_of(how, st->n + i);
        const uint32_t reads = !d->forced || how->want_logprob;
        a->rows[i] = (pq_row){token, sequence, reads};
        d->output = reads ? (*output)++ : UINT32_MAX; /* not looked at */
        if (!d->forced)
            d->next = i < most && i + 1 < left ? draft(kind, truth, st->n + i) : -1;
        token = d->next;
    }
}

/* All sequences in one batch, until every answer is complete. */
static void write_together(pq_session *s, uint32_t n, story *stories, const story *truths,
                           const rules *how, drafting kind) {
    static attempt attempts[2 * N_SETTINGS];
    static pq_row rows[2 * N_SETTINGS * (1 + MOST_DRAFT)];
    static pq_run runs[2 * N_SETTINGS];
    uint32_t owner[2 * N_SETTINGS];
    for (uint32_t i = 0; i < n; i++) {
        stories[i] = (story){.sampler = open_sampler(&SETTINGS[i % N_SETTINGS], i)};
        read_prompt(s, i);
    }
    for (;;) {
        uint32_t n_rows = 0, n_runs = 0, output = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (stories[i].n == LENGTH)
                continue;
            attempt *a = &attempts[n_runs];
            plan(a, i, &stories[i], &truths[i], how, kind, &output);
            memcpy(rows + n_rows, a->rows, a->n * sizeof *rows);
            runs[n_runs] = (pq_run){.sampler = stories[i].sampler,
                                    .draws = a->draws,
                                    .n = a->n,
                                    .want_logprob = how->want_logprob,
                                    .n_top = how->n_top,
                                    .samples = stories[i].samples + stories[i].n};
            owner[n_runs++] = i;
            n_rows += a->n;
        }
        if (n_runs == 0)
            break;
        CHECK(pq_session_eval(s, rows, n_rows, NULL) == PQ_OK);
        CHECK(pq_session_sample(s, runs, n_runs, NULL) == PQ_OK);
        for (uint32_t r = 0; r < n_runs; r++) {
            const uint32_t i = owner[r], sampled = runs[r].sampled;
            CHECK(runs[r].status == PQ_OK && sampled >= 1 && sampled <= runs[r].n);
            if (kind == TRUE_ONES)
                CHECK(sampled == runs[r].n);
            const uint32_t length = pq_session_length(s, i) - (runs[r].n - sampled);
            CHECK(pq_session_rewind(s, i, length, NULL) == PQ_OK);
            stories[i].n += sampled;
        }
    }
    for (uint32_t i = 0; i < n; i++)
        finish(s, i, &stories[i]);
}

static void test_drafts(uint32_t batch) {
    static story truths[N_SETTINGS], stories[N_SETTINGS];
    const rules hows[] = {{.want_logprob = 1, .n_top = 5},
                          {.masked = 1},
                          {.forced = 1},
                          {.masked = 1, .forced = 1, .want_logprob = 1, .n_top = 20}};
    opened o = open_model(N_SETTINGS, batch);
    for (size_t h = 0; h < sizeof hows / sizeof *hows; h++) {
        for (uint32_t i = 0; i < N_SETTINGS; i++)
            write_alone(o.session, i, &truths[i], &hows[h]);
        CHECK(truths[2].samples[3].token != truths[2].samples[4].token);
        for (drafting kind = NONE; kind <= MIXED; kind++) {
            write_together(o.session, N_SETTINGS, stories, truths, &hows[h], kind);
            for (uint32_t i = 0; i < N_SETTINGS; i++)
                check_same(&truths[i], &stories[i]);
        }
    }
    close_model(&o);
}

/* More runs than rows in a group of logits. */
static void test_many_runs(void) {
    enum { MANY = 40 };
    static pq_row rows[MANY];
    static pq_run runs[MANY];
    static pq_draw draws[MANY];
    static pq_sample samples[MANY];
    opened o = open_model(MANY, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        rows[i] = (pq_row){(int32_t)i, i, 1};
        draws[i] = (pq_draw){.output = i, .next = -1};
        runs[i] = (pq_run){.draws = &draws[i], .n = 1, .samples = &samples[i]};
        CHECK(pq_sampler_open(&runs[i].sampler, TOKENS, &SETTINGS[2], NULL) == PQ_OK);
    }
    CHECK(pq_session_eval(o.session, rows, MANY, NULL) == PQ_OK);
    CHECK(pq_session_sample(o.session, runs, MANY, NULL) == PQ_OK);
    for (uint32_t i = 0; i < MANY; i++) {
        float logits[ROWS];
        pq_sampler *twin;
        pq_sample expected;
        CHECK(runs[i].status == PQ_OK && runs[i].sampled == 1);
        CHECK(pq_sampler_open(&twin, TOKENS, &SETTINGS[2], NULL) == PQ_OK);
        CHECK(pq_session_logits(o.session, i, 1, logits, NULL) == PQ_OK);
        CHECK(pq_sampler_sample(twin, logits, ROWS, NULL, 0, 0, &expected, NULL) == PQ_OK);
        CHECK(expected.token == samples[i].token);
        pq_sampler_close(twin);
        pq_sampler_close(runs[i].sampler);
    }
    close_model(&o);
}

/* ------------------------------------------------------------------------ going back to a mark */

static void random_logits(float *logits) {
    for (int i = 0; i < ROWS; i++)
        logits[i] = (float)(next_random() % 1000) / 200.0f;
}

static int32_t draw_one(pq_sampler *sampler, const float *logits) {
    float copy[ROWS];
    pq_sample sample;
    memcpy(copy, logits, sizeof copy);
    CHECK(pq_sampler_sample(sampler, copy, ROWS, NULL, 0, 0, &sample, NULL) == PQ_OK);
    return sample.token;
}

static void test_marks(void) {
    enum { STEPS = 40 };
    static float logits[STEPS][ROWS];
    int32_t tokens[STEPS];
    pq_error err;
    for (int i = 0; i < STEPS; i++)
        random_logits(logits[i]);
    for (uint32_t k = 0; k < N_SETTINGS; k++) {
        pq_sampler *sampler = open_sampler(&SETTINGS[k], 0);
        CHECK(pq_sampler_rewind(sampler, 0, &err) == PQ_ERR_ARGUMENT);
        pq_sampler_mark(sampler, 1);
        for (int i = 0; i < STEPS; i++)
            tokens[i] = draw_one(sampler, logits[i]);
        CHECK(pq_sampler_rewind(sampler, STEPS + 1, &err) == PQ_ERR_ARGUMENT);
        for (int kept = STEPS; kept >= 0; kept -= 1 + kept / 5) {
            const int32_t given[] = {7, 7, TOKENS + 2, 8};
            CHECK(pq_sampler_rewind(sampler, (size_t)kept, &err) == PQ_OK);
            CHECK(pq_sampler_accept(sampler, given, 4, 1, &err) == PQ_OK);
            draw_one(sampler, logits[0]);
            CHECK(pq_sampler_rewind(sampler, (size_t)kept + 3, &err) == PQ_OK);
            CHECK(pq_sampler_rewind(sampler, (size_t)kept, &err) == PQ_OK);
            for (int i = kept; i < STEPS; i++)
                CHECK(draw_one(sampler, logits[i]) == tokens[i]);
        }
        pq_sampler_mark(sampler, 0);
        CHECK(pq_sampler_rewind(sampler, 0, &err) == PQ_ERR_ARGUMENT);
        pq_sampler_close(sampler);
    }
}

/* ----------------------------------------------------------------------------- calls that fail */

/* Two runs of 24 drafts that are true, planned once for tests of what becomes of them. */
typedef struct scene {
    opened o;
    rules how;
    story truths[2], stories[2];
    attempt attempts[2];
    pq_run runs[2];
    pq_row rows[2 * (1 + MOST_DRAFT)];
} scene;

static scene *open_scene(void) {
    static scene sc;
    sc = (scene){.o = open_model(2, 0), .how = {.want_logprob = 1, .n_top = 3}};
    uint32_t output = 0, n_rows = 0;
    for (uint32_t i = 0; i < 2; i++) {
        story *st = &sc.stories[i];
        write_alone(sc.o.session, i, &sc.truths[i], &sc.how);
        st->sampler = open_sampler(&SETTINGS[i], i);
        st->n = 0;
        read_prompt(sc.o.session, i);
        attempt *a = &sc.attempts[i];
        do {
            output = i * MOST_DRAFT;
            plan(a, i, st, &sc.truths[i], &sc.how, TRUE_ONES, &output);
        } while (a->n != MOST_DRAFT);
        memcpy(sc.rows + n_rows, a->rows, a->n * sizeof *sc.rows);
        n_rows += a->n;
        sc.runs[i] = (pq_run){.sampler = st->sampler,
                              .draws = a->draws,
                              .n = a->n,
                              .want_logprob = 1,
                              .n_top = 3,
                              .samples = st->samples};
    }
    CHECK(pq_session_eval(sc.o.session, sc.rows, n_rows, NULL) == PQ_OK);
    return &sc;
}

/* Goes on from what was sampled, token by token: all must be as if nothing had happened. */
static void close_scene(scene *sc) {
    for (uint32_t i = 0; i < 2; i++) {
        story *st = &sc->stories[i];
        st->n = sc->runs[i].sampled;
        const uint32_t length = prompt_length(i) - 1 + st->n;
        CHECK(pq_session_rewind(sc->o.session, i, length, NULL) == PQ_OK);
        while (st->n < LENGTH)
            write_one(sc->o.session, i, st, &sc->how);
        finish(sc->o.session, i, st);
        check_same(&sc->truths[i], st);
    }
    close_model(&sc->o);
}

static void test_a_failing_draw_keeps_those_before_it(void) {
    static const uint32_t nothing[WORDS] = {0, 0, UINT32_C(1) << (TOKENS - 64)}; /* padding only */
    scene *sc = open_scene();
    sc->attempts[0].draws[19].mask = nothing;
    sc->attempts[1].draws[2].forced = 1;
    sc->attempts[1].draws[2].next = TOKENS;
    CHECK(pq_session_sample(sc->o.session, sc->runs, 2, NULL) == PQ_OK);
    CHECK(sc->runs[0].status == PQ_ERR_ARGUMENT && sc->runs[0].sampled == 19);
    CHECK(strcmp(sc->runs[0].error.text, "the mask allows no token") == 0);
    CHECK(sc->runs[1].status == PQ_ERR_ARGUMENT && sc->runs[1].sampled == 2);
    CHECK(strstr(sc->runs[1].error.text, "token 77 is forced") != NULL);
    close_scene(sc);
}

static void test_arguments(void) {
    scene *sc = open_scene();
    pq_session *s = sc->o.session;
    float hidden[HIDDEN];
    pq_error err;
    CHECK(pq_session_sample(s, NULL, 0, &err) == PQ_OK);
    CHECK(pq_session_sample(s, NULL, 1, &err) == PQ_ERR_ARGUMENT);
    pq_run bad[] = {sc->runs[0], sc->runs[0], sc->runs[0], sc->runs[0]};
    bad[0].n = 0;
    bad[1].sampler = NULL;
    bad[2].draws = NULL;
    bad[3].samples = NULL;
    for (int i = 0; i < 4; i++)
        CHECK(pq_session_sample(s, &bad[i], 1, &err) == PQ_ERR_ARGUMENT);
    sc->attempts[1].draws[20].output = 2 * MOST_DRAFT;
    CHECK(pq_session_sample(s, sc->runs, 2, &err) == PQ_ERR_ARGUMENT);
    sc->attempts[1].draws[20].output = MOST_DRAFT + 20;
    sc->runs[0].n_top = PQ_MAX_TOP_LOGPROBS + 1;
    CHECK(pq_session_sample(s, sc->runs, 1, &err) == PQ_OK);
    CHECK(sc->runs[0].status == PQ_ERR_ARGUMENT && sc->runs[0].sampled == 0);
    CHECK(pq_session_hidden(s, 0, 1, NULL, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_hidden(s, 2 * MOST_DRAFT, 1, hidden, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_hidden(s, 0, 0, NULL, &err) == PQ_OK);
    double sum[HIDDEN] = {0};
    CHECK(pq_session_add_hidden(s, 0, 1, NULL, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_add_hidden(s, 2 * MOST_DRAFT, 1, sum, &err) == PQ_ERR_ARGUMENT);
    CHECK(sum[0] == 0);
    sc->runs[1].sampled = 0;
    close_scene(sc);
}

static void test_cancelled_before(void) {
    scene *sc = open_scene();
    pq_session_cancel(sc->o.session, 1);
    CHECK(pq_session_sample(sc->o.session, sc->runs, 2, NULL) == PQ_ERR_CANCELLED);
    CHECK(sc->runs[0].sampled == 0 && sc->runs[1].sampled == 0);
    pq_session_cancel(sc->o.session, 0);
    CHECK(pq_session_sample(sc->o.session, sc->runs, 2, NULL) == PQ_OK);
    CHECK(sc->runs[0].sampled == MOST_DRAFT && sc->runs[1].sampled == MOST_DRAFT);
    close_scene(sc);
}

/* The logits are the hidden states times the output matrix, whose numbers are F32 here. */
static void test_hidden(void) {
    scene *sc = open_scene();
    float hidden[3][HIDDEN], logits[3][ROWS];
    CHECK(pq_session_hidden(sc->o.session, 5, 3, hidden[0], NULL) == PQ_OK);
    CHECK(pq_session_logits(sc->o.session, 5, 3, logits[0], NULL) == PQ_OK);
    const pq_tensor *output = pq_file_find_tensor(sc->o.file, "output.weight");
    static float weights[ROWS * HIDDEN];
    CHECK(pq_file_read(sc->o.file, output, 0, sizeof weights, weights, NULL) == PQ_OK);
    for (int i = 0; i < 3; i++) {
        for (int row = 0; row < ROWS; row++) {
            double sum = 0;
            for (int j = 0; j < HIDDEN; j++)
                sum += (double)hidden[i][j] * weights[row * HIDDEN + j];
            CHECK(fabs(sum - logits[i][row]) < 1e-4);
        }
    }
    double sum[HIDDEN] = {0}, pieces[HIDDEN] = {0};
    CHECK(pq_session_add_hidden(sc->o.session, 5, 3, sum, NULL) == PQ_OK);
    CHECK(pq_session_add_hidden(sc->o.session, 5, 1, pieces, NULL) == PQ_OK);
    CHECK(pq_session_add_hidden(sc->o.session, 6, 2, pieces, NULL) == PQ_OK);
    for (int j = 0; j < HIDDEN; j++)
        CHECK(sum[j] == (double)hidden[0][j] + hidden[1][j] + hidden[2][j] && sum[j] == pieces[j]);
    sc->runs[0].sampled = sc->runs[1].sampled = 0;
    close_scene(sc);
}

/* ---------------------------------------------------------------- in the middle of the sampling */

#ifdef PQ_WRAPPED_MALLOC
/* The linker sends the core's allocations here: the one numbered `failing` finds no memory, and at the one
 * numbered `cancelling` someone cancels the session. */
void *__real_malloc(size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);

static atomic_int allocations; /* several threads sample */
static int failing, cancelling;
static pq_session *victim;

static int is_refused(void) {
    const int number = atomic_fetch_add(&allocations, 1) + 1;
    if (number == cancelling)
        pq_session_cancel(victim, 1);
    return number == failing;
}

void *__wrap_malloc(size_t bytes) {
    return is_refused() ? NULL : __real_malloc(bytes);
}
void *__wrap_realloc(void *p, size_t bytes) {
    return is_refused() ? NULL : __real_realloc(p, bytes);
}

static void test_cancelled_between_groups(void) {
    int cancelled = 0, done = 0;
    for (int at = 1; at < 200 && !done; at++) {
        scene *sc = open_scene();
        pq_sampler_mark(sc->runs[1].sampler, 1); /* is still there afterwards */
        allocations = 0;
        victim = sc->o.session;
        cancelling = at;
        const pq_status st = pq_session_sample(sc->o.session, sc->runs, 2, NULL);
        cancelling = 0;
        pq_session_cancel(sc->o.session, 0);
        CHECK(st == PQ_OK || st == PQ_ERR_CANCELLED);
        cancelled += st != PQ_OK;
        done = allocations < at;
        CHECK(sc->runs[0].sampled == (st == PQ_OK ? MOST_DRAFT : 0));
        CHECK(sc->runs[1].sampled == (st == PQ_OK ? MOST_DRAFT : 0));
        if (st == PQ_OK) {
            CHECK(pq_sampler_rewind(sc->runs[1].sampler, 9, NULL) == PQ_OK);
            sc->runs[1].sampled = 9;
        }
        close_scene(sc);
    }
    CHECK(cancelled > 0 && done);
}

static void test_no_memory(void) {
    int refused = 0, done = 0;
    for (int at = 1; at < 200 && !done; at++) {
        scene *sc = open_scene();
        allocations = 0;
        failing = at;
        const pq_status st = pq_session_sample(sc->o.session, sc->runs, 2, NULL);
        failing = 0;
        done = allocations < at;
        CHECK(st == PQ_OK || st == PQ_ERR_MEMORY);
        for (int i = 0; i < 2; i++) {
            const pq_run *run = &sc->runs[i];
            CHECK(run->status == PQ_OK || run->status == PQ_ERR_MEMORY);
            CHECK(st == PQ_OK || run->sampled == 0);
            CHECK(st != PQ_OK || run->status != PQ_OK || run->sampled == MOST_DRAFT);
            refused += run->status == PQ_ERR_MEMORY && run->sampled > 0;
        }
        close_scene(sc);
    }
    CHECK(refused > 0 && done);
}

/* Accepting many tokens after a mark is all or nothing, too. */
static void test_accepting_without_memory(void) {
    float logits[ROWS];
    int32_t tokens[60];
    pq_status st = PQ_ERR_MEMORY;
    random_logits(logits);
    pq_sampler *twin = open_sampler(&SETTINGS[1], 0);
    const int32_t drawn = draw_one(twin, logits);
    pq_sampler_close(twin);
    for (int i = 0; i < 60; i++)
        tokens[i] = i;
    for (int at = 1; st != PQ_OK && at < 20; at++) {
        pq_sampler *sampler = open_sampler(&SETTINGS[1], 0);
        pq_sampler_mark(sampler, 1);
        allocations = 0;
        failing = at;
        st = pq_sampler_accept(sampler, tokens, 60, 1, NULL);
        failing = 0;
        CHECK(st == PQ_OK || st == PQ_ERR_MEMORY);
        CHECK(st != PQ_OK || at > 2);
        CHECK((pq_sampler_rewind(sampler, 1, NULL) == PQ_OK) == (st == PQ_OK));
        CHECK(pq_sampler_rewind(sampler, 0, NULL) == PQ_OK);
        CHECK(draw_one(sampler, logits) == drawn);
        pq_sampler_close(sampler);
    }
    CHECK(st == PQ_OK);
}
#endif

int main(void) {
    write_model();
    test_drafts(0);
    test_many_runs();
    test_marks();
    test_a_failing_draw_keeps_those_before_it();
    test_arguments();
    test_cancelled_before();
    test_hidden();
#ifdef PQ_WRAPPED_MALLOC
    test_cancelled_between_groups();
    test_no_memory();
    test_accepting_without_memory();
#endif
    remove(PATH);
    return check_result();
}
