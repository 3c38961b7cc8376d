/* fuzz_model.c - bytes -> a small model, damage to it, and a program of evaluations. The bytes choose the shape
 * and the tensor types, so that nearly every input is a file that loads; then they overwrite some of its
 * bytes, the weights included. The program runs twice, by other kernels, threads, chunks and ways of loading,
 * and must come to the same bits. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../c/tiny_model.h"

static char temporary[] = "fuzz-model-XXXXXX";

static void remove_temporary(void) {
    remove(temporary);
}

/* Failures of the harness itself and of promises that need no sanitizer to check. */
static void require(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "fuzz_model: %s\n", what);
        abort();
    }
}

typedef struct input {
    const uint8_t *next, *end;
} input;

static uint8_t take(input *in) {
    return in->next < in->end ? *in->next++ : 0;
}

static uint32_t choose(input *in, const uint32_t *from, size_t n) {
    return from[take(in) % n];
}
#define CHOOSE(in, array) choose(in, array, sizeof(array) / sizeof *(array))

/* --------------------------------------------------------------------------------------- the model */

static const uint32_t TYPES[] = {PQ_Q8_0, PQ_F32,  PQ_F16,  PQ_BF16,   PQ_Q4_0,
                                 PQ_Q4_1, PQ_Q5_0, PQ_Q5_1, PQ_Q2_K,   PQ_Q3_K,
                                 PQ_Q4_K, PQ_Q5_K, PQ_Q6_K, PQ_IQ4_NL, PQ_IQ4_XS};

/* Products of one row with all matrices of the layers. */
static uint32_t products(uint32_t layers, uint32_t hidden, uint32_t attended, uint32_t ffn) {
    return layers * hidden * (2 * attended + 3 * ffn);
}

/* Evaluating is what takes the time, above all by the scalar kernels. So 13 of 16 models are made narrow, two are
 * made of a medium size, in which types with blocks of 256 have a place, and one may be wide; and the rows that a
 * program reads cost no more than a budget: of narrow models up to 80. */
enum { NARROW_PRODUCTS = 12000, MEDIUM_PRODUCTS = 92000 };
enum { FEW_PRODUCTS = 900000, MANY_PRODUCTS = 1 << 20 };

/* Ends, because the narrowest model, with three heads for one of keys, has 11,264 products. */
static void make_narrow(tiny_spec *s, uint32_t most) {
    while (products(s->layers, s->hidden, (s->heads + s->kv_heads) * s->head_dim, s->ffn) > most) {
        if (s->layers > 1) {
            s->layers = 1;
        } else if (s->ffn > 32 && 3 * s->ffn >= 2 * (s->heads + s->kv_heads) * s->head_dim) {
            s->ffn = 32;
        } else if (s->kv_heads > 1) { /* as many heads share one as before */
            s->heads /= s->kv_heads;
            s->kv_heads = 1;
        } else if (s->hidden > 32) {
            s->hidden = 32;
        } else if (s->head_dim > 32) {
            s->head_dim = 32;
        } else {
            s->ffn = 32;
        }
    }
}

static tiny_spec take_spec(input *in, int *wide) {
    static const uint32_t widths[] = {32, 64, 96, 256}, head_dims[] = {32, 32, 64, 96, 256},
                          vector_types[] = {PQ_F32, PQ_F16, PQ_BF16, PQ_Q8_0};
    static const char *const scalings[] = {"none", "linear", "yarn"};
    static const char *const architectures[] = {"qwen2", "llama", "qwen3"};
    tiny_spec s = {.architecture = architectures[take(in) % 3], .rope_original = 16};
    s.layers = 1 + take(in) % 4 / 3;
    s.hidden = CHOOSE(in, widths);
    s.ffn = CHOOSE(in, widths);
    s.kv_heads = 1 + take(in) % 3;
    s.heads = s.kv_heads * (1 + take(in) % 3);
    s.head_dim = CHOOSE(in, head_dims);
    s.context = 1 + 3u * take(in);
    s.tokens = 1 + take(in) % 40;
    s.rows = s.tokens + take(in) % 9;
    s.untied = take(in) % 2;
    s.vector_type = CHOOSE(in, vector_types);
    s.rope_scaling = scalings[take(in) % 3];
    s.rope_factor = 0.25f * (float)(1 + take(in) % 32);
    s.seed = take(in);
    *wide = s.seed % 16 == 15;
    if (!*wide)
        make_narrow(&s, s.seed % 16 >= 13 ? MEDIUM_PRODUCTS : NARROW_PRODUCTS);
    for (int i = 0; i < TINY_MATRICES; i++) {
        const uint32_t cols = i == 3 ? s.heads * s.head_dim : i == 6 ? s.ffn : s.hidden;
        s.types[i] = CHOOSE(in, TYPES);
        if (cols % pq_type_block(s.types[i]) != 0)
            s.types[i] = PQ_Q8_0;
    }
    return s;
}

/* Returns whether the model may be wide. */
static int write_model(input *in, FILE *out) {
    int wide;
    const tiny_spec spec = take_spec(in, &wide);
    rewind(out);
    const long header = tiny_write(out, &spec);
    const long end = ftell(out);
    for (int edits = take(in) % 4; edits > 0; edits--) {
        long place = take(in);
        place = place << 8 | take(in);
        place = place << 8 | take(in);
        fseek(out, place % (edits == 3 ? header : end), SEEK_SET);
        fputc(take(in), out);
    }
    require(fflush(out) == 0 && ftruncate(fileno(out), end) == 0, "the file is not writable");
    return wide;
}

/* ------------------------------------------------------------------------------------- the program */

typedef struct setup {
    pq_load load;
    const char *isa;
    uint32_t threads;
    int one_by_one; /* every row in an evaluation of its own */
} setup;

enum { MAX_BATCH = 200, MAX_ROWS = 64, MAX_OPERATIONS = 12 };

/* What a run came to: numbers as bits, every NaN alike. */
typedef struct trace {
    uint32_t *values;
    size_t n, room;
} trace;

static void record(trace *t, uint32_t value) {
    if (t->n == t->room) {
        t->room = 2 * t->room + 1024;
        t->values = realloc(t->values, t->room * sizeof *t->values);
        require(t->values != NULL, "out of memory");
    }
    t->values[t->n++] = value;
}

static void record_floats(trace *t, const float *values, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0x7FC00000;
        if (!isnan(values[i]))
            memcpy(&bits, &values[i], sizeof bits);
        record(t, bits);
    }
}

typedef struct run {
    pq_session *session;
    const pq_config *config;
    const setup *how;
    uint32_t sequences;
    uint32_t budget; /* products that rows beyond the first of an evaluation may still cost */
    trace *trace;
} run;

static void record_outputs(run *r) {
    static float logits[MAX_ROWS];
    pq_error err;
    for (uint32_t i = 0; i < pq_session_outputs(r->session); i++) {
        require(pq_session_logits(r->session, i, 1, logits, &err) == PQ_OK, "no logits");
        record_floats(r->trace, logits, r->config->vocab_rows);
    }
}

/* Takes from the budget what `wanted` rows cost, and returns how many it was enough for, at least 1. */
static uint32_t affordable_rows(run *r, uint32_t wanted) {
    const pq_config *c = r->config;
    const uint32_t each =
        products(c->layers, c->hidden, (c->heads + c->kv_heads) * c->head_dim, c->ffn);
    const uint32_t most = 1 + r->budget / each, n = wanted < most ? wanted : most;
    r->budget -= (n - 1) * each;
    return n;
}

static void evaluate(run *r, input *in) {
    static pq_row rows[MAX_BATCH];
    const uint32_t wanted = 1 + take(in), most = pq_session_batch(r->session);
    const uint32_t n = affordable_rows(r, wanted < most ? wanted : most);
    const uint32_t first = take(in) % r->sequences;
    const uint32_t second = take(in) % r->sequences, cut = take(in) % (n + 1);
    const uint32_t outputs = take(in), step = 1 + take(in);
    pq_error err;
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (pq_row){.token = (int32_t)((i * step + outputs) % r->config->vocab_rows),
                           .sequence = i < cut ? first : second,
                           .output = i + 1 == n || i % 16 == outputs % 16};
    uint32_t before[2] = {pq_session_length(r->session, first),
                          pq_session_length(r->session, second)};
    const uint32_t context = pq_session_context(r->session);
    const int fits = before[0] + n <= context && before[1] + n <= context;
    if (r->how->one_by_one && fits) {
        record(r->trace, PQ_OK);
        for (uint32_t i = 0; i < n; i++) {
            require(pq_session_eval(r->session, &rows[i], 1, &err) == PQ_OK, "a row is refused");
            record_outputs(r);
        }
        return;
    }
    const pq_status st = pq_session_eval(r->session, rows, n, &err);
    record(r->trace, st);
    if (st == PQ_OK)
        record_outputs(r);
    else
        require(pq_session_length(r->session, first) == before[0] &&
                    pq_session_length(r->session, second) == before[1],
                "a failed evaluation changed a sequence");
}

static void sample(run *r, input *in) {
    pq_sampler_options o = {.temperature = 0.1f * (float)(take(in) % 20),
                            .top_k = take(in) % 8,
                            .top_p = (float)take(in) / 255.0f,
                            .min_p = (float)(take(in) % 64) / 255.0f,
                            .typical_p = (float)(1 + take(in)) / 256.0f,
                            .repetition_penalty = 1.1f,
                            .presence_penalty = 0.5f,
                            .seed = take(in)};
    const uint8_t further = take(in);
    if (further & 1) {
        o.dry_multiplier = 0.5f;
        o.dry_base = 1.0f + (float)take(in) / 255.0f;
        o.dry_allowed_length = 1;
    }
    if (further & 2) {
        o.xtc_probability = (float)take(in) / 255.0f;
        o.xtc_threshold = 0.05f;
    }
    o.top_n_sigma = (float)(further >> 4) / 4.0f;
    static const uint8_t order[] = {PQ_FILTER_XTC, PQ_FILTER_DRY, PQ_FILTER_TOP_N_SIGMA,
                                    PQ_FILTER_TYPICAL_P, PQ_FILTER_PENALTIES};
    if (further & 4) {
        o.order = order;
        o.n_order = sizeof order;
    }
    const uint8_t want = take(in) % 2, n_top = take(in) % (PQ_MAX_TOP_LOGPROBS + 1);
    /* one by one, only the last output is left */
    const pq_draw draw = {.output = pq_session_outputs(r->session) - 1, .next = -1};
    pq_sample drawn;
    pq_run one = {.draws = &draw, .n = 1, .want_logprob = want, .n_top = n_top, .samples = &drawn};
    pq_error err;
    if (draw.output == UINT32_MAX)
        return;
    require(pq_sampler_open(&one.sampler, r->config->real_tokens, &o, &err) == PQ_OK, "no sampler");
    require(pq_session_sample(r->session, &one, 1, &err) == PQ_OK, "sampling failed");
    record(r->trace, one.status);
    if (one.status == PQ_OK) {
        require(drawn.token >= 0 && (uint32_t)drawn.token < r->config->real_tokens,
                "a token outside the vocabulary");
        record(r->trace, (uint32_t)drawn.token);
        if (want)
            record_floats(r->trace, drawn.top_logprobs, drawn.n_top);
    } else {
        require(one.status == PQ_ERR_NUMERIC, "sampling failed, but not for the numbers");
    }
    pq_sampler_close(one.sampler);
}

static void logprobs(run *r, input *in) {
    static float values[MAX_BATCH];
    static int32_t targets[MAX_BATCH];
    pq_error err;
    const uint32_t outputs = pq_session_outputs(r->session), n = outputs > 0;
    targets[0] = take(in) % (int32_t)r->config->real_tokens;
    const pq_status st = pq_session_logprobs(r->session, outputs - n, n, targets, values, &err);
    record(r->trace, st);
    if (st == PQ_OK)
        record_floats(r->trace, values, n);
}

static void operate(run *r, input *in) {
    pq_error err;
    const uint8_t what = take(in);
    const uint32_t a = take(in) % r->sequences, b = take(in) % r->sequences;
    const uint32_t length = take(in) * 4u;
    switch (what % 8) {
    case 0:
        record(r->trace, pq_session_rewind(r->session, a, length, &err));
        break;
    case 1:
        record(r->trace, pq_session_fork(r->session, a, b, length, &err));
        break;
    case 2:
        sample(r, in);
        break;
    case 3:
        logprobs(r, in);
        break;
    default:
        evaluate(r, in);
    }
}

static void run_program(const pq_model *model, const setup *how, int wide, input in, trace *t) {
    pq_session_options o = {.sequences = 1 + take(&in) % 3,
                            .threads = how->threads,
                            .batch = 1 + take(&in) % MAX_BATCH,
                            .key_type = (pq_kv_type)(take(&in) % 5)};
    o.value_type = o.batch % 2 ? o.key_type : (pq_kv_type)(take(&in) % 5);
    pq_error err;
    run r = {.config = pq_model_config(model),
             .how = how,
             .sequences = o.sequences,
             .budget = wide ? MANY_PRODUCTS : FEW_PRODUCTS,
             .trace = t};
    require(pq_session_open(&r.session, model, &o, &err) == PQ_OK, "no session");
    for (int i = 0; i < MAX_OPERATIONS && in.next < in.end; i++)
        operate(&r, &in);
    pq_session_close(r.session);
}

static void open_and_run(const setup *how, int exact, int wide, input in, trace *t) {
    pq_error err = {.text = ""};
    pq_file *file = NULL;
    pq_model *model = NULL;
    const pq_model_options o = {.isa = how->isa, .threads = how->threads, .exact = exact};
    pq_status st = pq_file_open(&file, temporary, how->load, &err);
    if (st == PQ_OK)
        st = pq_model_open(&model, file, &o, &err);
    require(st == PQ_OK || err.text[0] != '\0', "a failure without a message");
    record(t, st);
    if (st == PQ_OK && pq_model_config(model)->vocab_rows <= MAX_ROWS &&
        pq_model_config(model)->context < 8192)
        run_program(model, how, wide, in, t);
    pq_model_close(model);
    pq_file_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static FILE *out;
    if (!out) {
        int fd = mkstemp(temporary);
        out = fd >= 0 ? fdopen(fd, "wb") : NULL;
        require(out != NULL, "no temporary file");
        atexit(remove_temporary);
    }
    input in = {data, data + n};
    const int wide = write_model(&in, out);
    const uint8_t bits = take(&in);
    const setup plain = {PQ_LOAD_COPY, "scalar", 1, 0};
    const int one_by_one = bits >> 1 & 1;
    /* A thread that waits for the next job spins: for single rows it would take longer than the work. */
    const setup other = {PQ_LOAD_MMAP, NULL, one_by_one ? 1 : 2, one_by_one};
    trace expected = {0}, got = {0};
    open_and_run(&plain, bits & 1, wide, in, &expected);
    open_and_run(&other, bits & 1, wide, in, &got);
    require(got.n == expected.n, "two runs of one program took different ways");
    require(memcmp(got.values, expected.values, got.n * sizeof *got.values) == 0,
            "two runs of one program came to different numbers");
    free(expected.values);
    free(got.values);
    return 0;
}
