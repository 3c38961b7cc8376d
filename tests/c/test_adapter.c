/* test_adapter.c - adapters in C: a dense sum is what they add, several at once are as each alone on every instruction
 * set, what is wrong is refused, a failed allocation or a cancel leaves everything as before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "check.h"
#include "model/low_rank.h"
#include "tiny_model.h"

static const char *const PATH = "test_adapter.tmp";

/* Inputs wider than a segment, so that partial products are added up. */
enum { ROWS = 9, TOKENS = 8, CONTEXT = 300, HIDDEN = 64, FFN = 2080, LAYERS = 2, MOST_RANK = 37 };

static tiny_spec small_spec(uint32_t type) {
    tiny_spec spec = {.architecture = "qwen2",
                      .layers = LAYERS,
                      .hidden = HIDDEN,
                      .ffn = FFN,
                      .heads = 4,
                      .kv_heads = 2,
                      .head_dim = 32,
                      .context = CONTEXT,
                      .tokens = TOKENS,
                      .rows = ROWS,
                      .vector_type = PQ_F32,
                      .untied = 1,
                      .rope_scaling = "none",
                      .rope_factor = 1,
                      .rope_original = CONTEXT,
                      .seed = 3};
    for (int i = 0; i < TINY_MATRICES; i++)
        spec.types[i] = type;
    return spec;
}

static void write_model(uint32_t type) {
    const tiny_spec spec = small_spec(type);
    FILE *out = fopen(PATH, "wb");
    CHECK(out != NULL);
    tiny_write(out, &spec);
    fclose(out);
}

typedef struct opened {
    pq_file *file;
    pq_model *model;
    pq_session *session;
} opened;

static void close_all(opened *o) {
    pq_session_close(o->session);
    pq_model_close(o->model);
    pq_file_close(o->file);
    *o = (opened){NULL, NULL, NULL};
}

static opened open_all(const char *isa, int exact, uint32_t threads, uint32_t sequences) {
    const pq_model_options options = {.threads = threads, .isa = isa, .exact = exact};
    const pq_kv_type kv_type = exact ? PQ_KV_F32 : PQ_KV_F16;
    const pq_session_options session = {
        .threads = threads, .sequences = sequences, .key_type = kv_type, .value_type = kv_type};
    pq_error err = {.text = ""};
    opened o = {NULL, NULL, NULL};
    if (pq_file_open(&o.file, PATH, PQ_LOAD_MMAP, &err) != PQ_OK ||
        pq_model_open(&o.model, o.file, &options, &err) != PQ_OK ||
        pq_session_open(&o.session, o.model, &session, &err) != PQ_OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(0);
        exit(check_result());
    }
    return o;
}

/* ----------------------------------------------------------------------------------- making adapters */

typedef struct shape {
    const char *name;
    size_t rows, cols;
} shape;

static const shape SHAPES[] = {{"attn_q", 128, HIDDEN},   {"attn_k", 64, HIDDEN},
                               {"attn_v", 64, HIDDEN},    {"attn_output", HIDDEN, 128},
                               {"ffn_gate", FFN, HIDDEN}, {"ffn_up", FFN, HIDDEN},
                               {"ffn_down", HIDDEN, FFN}};
enum { N_SHAPES = sizeof SHAPES / sizeof *SHAPES };

static float noise(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 40) / (1 << 23) - 1.0);
}

static float *make_values(uint64_t *state, size_t n, float spread) {
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; values && i < n; i++)
        values[i] = spread * noise(state);
    return values;
}

/* Adapts the matrices in `mask` of all layers. */
static pq_status make_adapter(pq_adapter **out, const pq_model *model, uint64_t seed, uint32_t rank,
                              unsigned mask, pq_error *err) {
    static char names[LAYERS * N_SHAPES][64];
    pq_adapter_tensor tensors[LAYERS * N_SHAPES];
    size_t kinds[LAYERS * N_SHAPES];
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (size_t i = 0; i < N_SHAPES; i++)
            if (mask >> i & 1) {
                snprintf(names[n], sizeof names[n], "blk.%u.%s.weight", layer, SHAPES[i].name);
                tensors[n] = (pq_adapter_tensor){names[n], rank, 0.5};
                kinds[n++] = i;
            }
    pq_adapter *adapter = NULL;
    pq_status st = pq_adapter_open(&adapter, model, tensors, n, err);
    for (uint32_t i = 0; st == PQ_OK && i < n; i++) {
        const shape *s = &SHAPES[kinds[i]];
        float *a = make_values(&seed, rank * s->cols, 0.1f);
        float *b = make_values(&seed, s->rows * rank, 0.02f);
        st = a && b ? pq_adapter_fill(adapter, i, PQ_F32, a, rank * s->cols * sizeof *a, PQ_F32, b,
                                      s->rows * rank * sizeof *b, err)
                    : PQ_ERR_MEMORY;
        free(a);
        free(b);
    }
    if (st == PQ_OK)
        *out = adapter;
    else
        pq_adapter_close(adapter);
    return st;
}

static pq_adapter *adapter_or_report(const pq_model *model, uint64_t seed, uint32_t rank,
                                     unsigned mask) {
    pq_error err = {.text = ""};
    pq_adapter *adapter = NULL;
    if (make_adapter(&adapter, model, seed, rank, mask, &err) != PQ_OK) {
        fprintf(stderr, "%s\n", err.text);
        CHECK(0);
        exit(check_result());
    }
    return adapter;
}

/* Appends n tokens, the last with output. */
static pq_status feed(pq_session *s, uint32_t sequence, uint32_t n, pq_error *err) {
    static pq_row rows[CONTEXT];
    const uint32_t at = pq_session_length(s, sequence);
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (pq_row){(int32_t)((at + i) * 5 % TOKENS), sequence, i + 1 == n};
    return pq_session_eval(s, rows, n, err);
}

/* ------------------------------------------------------------------------- several at once, every set */

enum { SEQUENCES = 16, ADAPTERS = 4 };

typedef struct choice {
    uint32_t n;
    uint32_t which[2];
    float scale[2];
} choice;

/* Neighbors with the same, several of one sequence, other factors, none between them. */
static const choice CHOICES[SEQUENCES] = {
    {0, {0}, {0}},       {1, {0}, {1}},          {1, {0}, {1}}, {1, {1}, {-0.5f}},
    {2, {0, 1}, {1, 2}}, {2, {1, 2}, {1, 0.5f}}, {1, {3}, {1}}, {0, {0}, {0}},
    {1, {3}, {1}},       {1, {3}, {0.25f}},      {1, {2}, {1}}, {1, {2}, {1}},
    {2, {0, 3}, {1, 1}}, {1, {1}, {-0.5f}},      {0, {0}, {0}}, {1, {0}, {3}}};

static void choose(pq_session *s, uint32_t sequence, pq_adapter *const *adapters) {
    const choice *c = &CHOICES[sequence];
    const pq_adapter *with[2] = {adapters[c->which[0]], adapters[c->which[1]]};
    pq_error err;
    CHECK(pq_session_set_adapters(s, sequence, with, c->scale, c->n, &err) == PQ_OK);
}

static uint32_t length_of(uint32_t sequence) {
    return 1 + sequence * 7 % 11;
}

/* Logits (SEQUENCES, ROWS) after the prompts, each alone or all at once, and after one token more. */
static void run(const char *isa, uint32_t threads, int together, float *logits) {
    opened o = open_all(isa, 0, threads, SEQUENCES);
    pq_session *s = o.session;
    pq_error err;
    pq_adapter *adapters[ADAPTERS] = {
        adapter_or_report(o.model, 1, 16, 0x7F), adapter_or_report(o.model, 2, 3, 0x09),
        adapter_or_report(o.model, 3, MOST_RANK, 0x52), adapter_or_report(o.model, 4, 8, 0x7F)};
    static pq_row rows[SEQUENCES * 16];
    uint32_t n = 0;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        choose(s, i, adapters);
        if (!together) {
            CHECK(feed(s, i, length_of(i), &err) == PQ_OK);
            CHECK(feed(s, i, 1, &err) == PQ_OK);
            CHECK(pq_session_logits(s, 0, 1, logits + i * ROWS, &err) == PQ_OK);
        }
        for (uint32_t k = 0; k < length_of(i); k++)
            rows[n++] = (pq_row){(int32_t)(k * 5 % TOKENS), i, 0};
    }
    if (together) {
        CHECK(pq_session_eval(s, rows, n, &err) == PQ_OK);
        for (uint32_t i = 0; i < SEQUENCES; i++)
            rows[i] = (pq_row){(int32_t)(length_of(i) * 5 % TOKENS), i, 1};
        CHECK(pq_session_eval(s, rows, SEQUENCES, &err) == PQ_OK);
        CHECK(pq_session_logits(s, 0, SEQUENCES, logits, &err) == PQ_OK);
    }
    pq_session_close(s);
    o.session = NULL;
    for (int i = 0; i < ADAPTERS; i++)
        pq_adapter_close(adapters[i]);
    close_all(&o);
}

static void test_together_is_as_alone(void) {
    static float expected[SEQUENCES * ROWS], got[SEQUENCES * ROWS];
    run("scalar", 1, 0, expected);
    CHECK(isfinite(expected[0]) && memcmp(expected, expected + ROWS, ROWS * sizeof(float)) != 0);
    for (uint32_t i = 0; pq_isa_name(i); i++) {
        if (!pq_isa_available(pq_isa_name(i)))
            continue;
        for (int together = 0; together < 2; together++)
            for (uint32_t threads = 1; threads <= 1u + 3u * (uint32_t)together; threads += 3) {
                run(pq_isa_name(i), threads, together, got);
                CHECK(memcmp(expected, got, sizeof got) == 0);
            }
    }
}

/* ------------------------------------------------------------------------------- memory is as planned */

static void test_plan(void) {
    for (int exact = 0; exact < 2; exact++) {
        opened o = open_all(NULL, exact, 1, 1);
        const pq_model_options options = {.threads = 1, .exact = exact};
        const pq_adapter_tensor tensors[] = {{"blk.0.ffn_down.weight", 5, 1.0},
                                             {"blk.1.attn_q.weight", 3, 1.0},
                                             {"blk.1.attn_v.weight", 4, 1.0}};
        pq_adapter_plan plan;
        pq_adapter *adapter;
        pq_error err;
        CHECK(pq_plan_adapter(&plan, o.file, &options, tensors, 3, &err) == PQ_OK);
        CHECK(pq_adapter_open(&adapter, o.model, tensors, 3, &err) == PQ_OK);
        CHECK(plan.weights == pq_adapter_bytes(adapter));
        CHECK(plan.per_row == adapter->width * sizeof(float));
        CHECK(adapter->width == 5 * 2); /* two segments of ffn_down are more than q and v */
        pq_adapter_close(adapter);
        close_all(&o);
    }
}

/* --------------------------------------------------------------------------------- what is refused */

static void test_refusals(void) {
    opened o = open_all(NULL, 0, 1, 2), other = open_all(NULL, 0, 1, 1);
    pq_error err = {.text = ""};
    pq_adapter *adapter = NULL;
    const pq_adapter_tensor bad[] = {{"blk.2.attn_q.weight", 4, 1.0},
                                     {"blk.0.attn_norm.weight", 4, 1.0},
                                     {"token_embd.weight", 4, 1.0},
                                     {"output.weight", 4, 1.0},
                                     {"blk.0.attn_q.bias", 4, 1.0},
                                     {"", 4, 1.0},
                                     {"blk.0.attn_q.weight", 0, 1.0},
                                     {"blk.0.attn_q.weight", PQ_MAX_ADAPTER_RANK + 1, 1.0},
                                     {"blk.0.attn_q.weight", 4, (double)NAN},
                                     {"blk.00.attn_q.weight", 4, 1.0},
                                     {NULL, 4, 1.0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(pq_adapter_open(&adapter, o.model, &bad[i], 1, &err) != PQ_OK && !adapter);
        CHECK(err.text[0] != '\0');
    }
    const pq_adapter_tensor twice[] = {{"blk.0.attn_q.weight", 4, 1.0},
                                       {"blk.0.attn_q.weight", 4, 1.0}};
    CHECK(pq_adapter_open(&adapter, o.model, twice, 2, &err) == PQ_ERR_FORMAT);
    CHECK(pq_adapter_open(&adapter, o.model, twice, 0, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_adapter_open(&adapter, NULL, twice, 1, &err) == PQ_ERR_ARGUMENT);

    static float a[4 * HIDDEN], b[128 * 4];
    const float one = 1.0f;
    CHECK(pq_adapter_open(&adapter, o.model, twice, 1, &err) == PQ_OK);
    CHECK(pq_session_set_adapters(o.session, 0, (const pq_adapter *const *)&adapter, &one, 1,
                                  &err) == PQ_ERR_ARGUMENT); /* nothing is filled */
    CHECK(pq_adapter_fill(adapter, 1, PQ_F32, a, sizeof a, PQ_F32, b, sizeof b, &err) ==
          PQ_ERR_ARGUMENT);
    CHECK(pq_adapter_fill(adapter, 0, PQ_F32, a, sizeof a - 4, PQ_F32, b, sizeof b, &err) ==
          PQ_ERR_FORMAT);
    CHECK(pq_adapter_fill(adapter, 0, PQ_Q8_0, a, sizeof a, PQ_Q8_0, b, sizeof b, &err) != PQ_OK);
    CHECK(pq_adapter_fill(adapter, 0, 9999, a, sizeof a, PQ_F32, b, sizeof b, &err) ==
          PQ_ERR_UNSUPPORTED);
    b[17] = NAN;
    CHECK(pq_adapter_fill(adapter, 0, PQ_F32, a, sizeof a, PQ_F32, b, sizeof b, &err) ==
          PQ_ERR_NUMERIC);
    b[17] = INFINITY;
    CHECK(pq_adapter_fill(adapter, 0, PQ_F32, a, sizeof a, PQ_F32, b, sizeof b, &err) ==
          PQ_ERR_NUMERIC);
    b[17] = 1e38f; /* far beyond float16, which keeps it by a power of two */
    a[0] = 1e-38f;
    CHECK(pq_adapter_fill(adapter, 0, PQ_F32, a, sizeof a, PQ_F32, b, sizeof b, &err) == PQ_OK);
    CHECK(pq_adapter_fill(adapter, 0, PQ_F32, a, sizeof a, PQ_F32, b, sizeof b, &err) ==
          PQ_ERR_ARGUMENT); /* once only */

    const pq_adapter *many[PQ_MAX_SEQUENCE_ADAPTERS + 1];
    float scales[PQ_MAX_SEQUENCE_ADAPTERS + 1];
    for (int i = 0; i <= PQ_MAX_SEQUENCE_ADAPTERS; i++) {
        many[i] = adapter;
        scales[i] = 1.0f;
    }
    CHECK(pq_session_set_adapters(o.session, 0, many, scales, PQ_MAX_SEQUENCE_ADAPTERS + 1, &err) ==
          PQ_ERR_ARGUMENT);
    CHECK(pq_session_set_adapters(o.session, 2, many, scales, 1, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_set_adapters(other.session, 0, many, scales, 1, &err) == PQ_ERR_ARGUMENT);
    scales[0] = INFINITY;
    CHECK(pq_session_set_adapters(o.session, 0, many, scales, 1, &err) == PQ_ERR_ARGUMENT);
    scales[0] = 1.0f;
    CHECK(pq_session_set_adapters(o.session, 0, NULL, scales, 1, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_set_adapters(o.session, 1, NULL, NULL, 0, &err) == PQ_OK);
    CHECK(pq_session_set_adapters(o.session, 0, many, scales, 1, &err) == PQ_OK);
    float logits[ROWS];
    CHECK(feed(o.session, 0, 3, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, logits, &err) == PQ_OK && isfinite(logits[0]));
    close_all(&other);
    pq_session_close(o.session);
    o.session = NULL;
    pq_adapter_close(adapter);
    pq_adapter_close(NULL);
    close_all(&o);
}

static void test_cancelled_is_as_before(void) {
    opened o = open_all(NULL, 0, 3, 1);
    pq_adapter *adapter = adapter_or_report(o.model, 5, 16, 0x7F);
    const float one = 1.0f;
    pq_error err;
    float expected[ROWS], got[ROWS];
    CHECK(pq_session_set_adapters(o.session, 0, (const pq_adapter *const *)&adapter, &one, 1,
                                  &err) == PQ_OK);
    CHECK(feed(o.session, 0, 9, &err) == PQ_OK && feed(o.session, 0, 2, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, expected, &err) == PQ_OK);
    CHECK(pq_session_rewind(o.session, 0, 9, &err) == PQ_OK);
    pq_session_cancel(o.session, 1);
    CHECK(feed(o.session, 0, 2, &err) == PQ_ERR_CANCELLED);
    pq_session_cancel(o.session, 0);
    CHECK(feed(o.session, 0, 2, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, got, &err) == PQ_OK);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    pq_session_close(o.session);
    o.session = NULL;
    pq_adapter_close(adapter);
    close_all(&o);
}

/* -------------------------------------------------------------------------- failing allocations */

#ifdef PQ_WRAPPED_MALLOC
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
int __real_posix_memalign(void **p, size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
int __wrap_posix_memalign(void **p, size_t alignment, size_t bytes);

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
int __wrap_posix_memalign(void **p, size_t alignment, size_t bytes) {
    return ++allocations == failing ? 12 : __real_posix_memalign(p, alignment, bytes);
}

/* A leak shows under the address sanitizer. */
static void test_failing_allocations(void) {
    opened o = open_all(NULL, 0, 1, 2);
    const pq_model_options options = {.threads = 1};
    const pq_adapter_tensor tensor = {"blk.0.attn_q.weight", 4, 1.0};
    const float one = 1.0f;
    pq_error err;
    float plain[ROWS], got[ROWS];
    CHECK(feed(o.session, 0, 3, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, plain, &err) == PQ_OK);
    int failures = 0;
    for (int which = 1;; which++) {
        pq_adapter_plan plan;
        pq_adapter *adapter = NULL;
        allocations = 0;
        failing = which;
        pq_status st = pq_plan_adapter(&plan, o.file, &options, &tensor, 1, &err);
        if (st == PQ_OK)
            st = make_adapter(&adapter, o.model, 6, 4, 0x09, &err);
        if (st == PQ_OK)
            st = pq_session_set_adapters(o.session, 0, (const pq_adapter *const *)&adapter, &one, 1,
                                         &err);
        const int reached = allocations >= which;
        failing = 0;
        CHECK(st == PQ_OK || st == PQ_ERR_MEMORY);
        if (st != PQ_OK) { /* the sequence runs as before */
            failures++;
            CHECK(pq_session_rewind(o.session, 0, 0, &err) == PQ_OK);
            CHECK(feed(o.session, 0, 3, &err) == PQ_OK);
            CHECK(pq_session_logits(o.session, 0, 1, got, &err) == PQ_OK);
            CHECK(memcmp(plain, got, sizeof got) == 0);
        }
        CHECK(pq_session_set_adapters(o.session, 0, NULL, NULL, 0, &err) == PQ_OK);
        pq_adapter_close(adapter);
        if (!reached)
            break;
    }
    CHECK(failures > 10);
    close_all(&o);
}
#endif

int main(void) {
    write_model(PQ_Q8_0);
    test_together_is_as_alone();
    test_plan();
    test_refusals();
    test_cancelled_is_as_before();
#ifdef PQ_WRAPPED_MALLOC
    test_failing_allocations();
#endif
    remove(PATH);
    return check_result();
}
