/* test_model.c - a whole model in C: evaluations that fail leave everything as before, allocations fail one by
 * one without a leak, split attention has the bits of the walk, the plan is what is allocated, kept blocks go on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/pool.h"
#include "check.h"
#include "tiny_model.h"

static const char *const PATH = "test_model.tmp";

enum { ROWS = 9, TOKENS = 8, CONTEXT = 700 };

static tiny_spec small_spec(void) {
    return (tiny_spec){
        .architecture = "qwen2",
        .layers = 2,
        .hidden = 64,
        .ffn = 96,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 32,
        .context = CONTEXT,
        .tokens = TOKENS,
        .rows = ROWS,
        .types = {PQ_Q8_0, PQ_F16, PQ_Q4_0, PQ_Q8_0, PQ_Q5_1, PQ_Q8_0, PQ_F32, PQ_Q8_0, PQ_Q8_0},
        .vector_type = PQ_F32,
        .untied = 1,
        .rope_scaling = "none",
        .rope_factor = 4,
        .rope_original = 350,
        .seed = 1};
}

static void write_model(const tiny_spec *spec) {
    FILE *out = fopen(PATH, "wb");
    CHECK(out != NULL);
    tiny_write(out, spec);
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

static pq_status open_all(opened *o, pq_load load, const pq_model_options *options,
                          const pq_session_options *session, pq_error *err) {
    *o = (opened){NULL, NULL, NULL};
    pq_status st = pq_file_open(&o->file, PATH, load, err);
    if (st == PQ_OK)
        st = pq_model_open(&o->model, o->file, options, err);
    if (st == PQ_OK)
        st = pq_session_open(&o->session, o->model, session, err);
    return st;
}

static opened open_or_report(const pq_session_options *session) {
    const pq_model_options options = {.threads = 2};
    pq_error err = {.text = ""};
    opened o;
    const pq_status st = open_all(&o, PQ_LOAD_MMAP, &options, session, &err);
    CHECK(st == PQ_OK);
    if (st != PQ_OK) {
        fprintf(stderr, "%s\n", err.text);
        exit(check_result());
    }
    return o;
}

/* Appends n tokens, the last with output. */
static pq_status feed(pq_session *s, uint32_t sequence, uint32_t n, pq_error *err) {
    static pq_row rows[CONTEXT];
    const uint32_t at = pq_session_length(s, sequence);
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (pq_row){(int32_t)((at + i) * 5 % TOKENS), sequence, i + 1 == n};
    return pq_session_eval(s, rows, n, err);
}

/* ------------------------------------------------------------------------- arguments, the plan */

static void test_arguments(void) {
    const pq_session_options session = {.sequences = 2, .threads = 2};
    opened o = open_or_report(&session);
    pq_session *s = o.session;
    pq_error err;
    float logits[ROWS];
    pq_row row = {.token = 1, .sequence = 0, .output = 1};
    CHECK(pq_session_eval(s, &row, 0, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_eval(s, NULL, 1, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_eval(s, &row, pq_session_batch(s) + 1, &err) == PQ_ERR_ARGUMENT);
    const pq_row bad[] = {{-1, 0, 0}, {ROWS, 0, 0}, {1, 2, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(pq_session_eval(s, &bad[i], 1, NULL) == PQ_ERR_ARGUMENT);
    const pq_row scattered[] = {{1, 0, 1}, {1, 1, 1}, {1, 0, 1}};
    CHECK(pq_session_eval(s, scattered, 3, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_length(s, 0) == 0 && pq_session_kv_bytes(s) == 0);
    CHECK(pq_session_logits(s, 0, 1, logits, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_eval(s, &row, 1, &err) == PQ_OK && pq_session_outputs(s) == 1);
    CHECK(pq_session_logits(s, 0, 0, NULL, &err) == PQ_OK);
    CHECK(pq_session_logits(s, 0, 1, NULL, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_logits(s, 0, 2, logits, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_logits(s, UINT32_MAX, 2, logits, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_logprobs(s, 0, 1, NULL, logits, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_logprobs(s, 0, 0, NULL, NULL, &err) == PQ_OK);
    const int32_t beyond = ROWS;
    pq_divergence difference;
    CHECK(pq_session_compare(s, s, 0, 1, &beyond, &difference, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_logprobs(s, 0, 1, &beyond, logits, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_fork(s, 0, 0, 1, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_fork(s, 0, 1, 2, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_rewind(s, 2, 0, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_plan(NULL, o.file, NULL, &session, &err) == PQ_ERR_ARGUMENT);
    close_all(&o);
    close_all(&o); /* NULLs */
    CHECK(pq_default_threads() >= 1 && pq_default_threads() <= PQ_MAX_THREADS);
}

static void test_plan(void) {
    for (int exact = 0; exact < 2; exact++) {
        const pq_model_options options = {.threads = 1, .exact = exact};
        const pq_session_options session = {
            .sequences = 2, .threads = 1, .key_type = PQ_KV_Q8_0, .value_type = PQ_KV_Q5_1};
        pq_memory_plan plan;
        pq_error err;
        opened o;
        CHECK(open_all(&o, PQ_LOAD_COPY, &options, &session, &err) == PQ_OK);
        CHECK(pq_plan(&plan, o.file, &options, &session, &err) == PQ_OK);
        CHECK(plan.weights == pq_model_weight_bytes(o.model));
        CHECK(feed(o.session, 0, 1, &err) == PQ_OK);
        const uint64_t block = pq_session_kv_bytes(o.session);
        CHECK(plan.kv == 2 * (CONTEXT + 127) / 128 * block && plan.kv_per_token == block / 128);
        close_all(&o);
    }
}

/* The plan of what nobody can allocate is a plan, and opening it is refused. */
static void test_sizes_beyond_memory(void) {
    pq_arena arena = {.base = NULL};
    CHECK(pq_arena_take(&arena, UINT64_C(1) << 63, 4) == NULL && arena.bytes == SIZE_MAX);
    CHECK(pq_arena_take(&arena, 1, 1) == NULL && arena.bytes == SIZE_MAX);
    CHECK(pq_aligned_alloc(arena.bytes) == NULL);
}

static void test_yarn_stretches_the_context(void) {
    tiny_spec spec = small_spec();
    spec.rope_scaling = "yarn";
    write_model(&spec);
    const pq_session_options session = {.sequences = 1};
    opened o = open_or_report(&session);
    CHECK(pq_model_config(o.model)->context == 1400 && pq_session_context(o.session) == 1400);
    close_all(&o);
    spec = small_spec();
    write_model(&spec);
}

static uint64_t reported, announced;

static int note_progress(void *arg, uint64_t done, uint64_t total) {
    (void)arg;
    CHECK(done >= reported);
    reported = done;
    announced = total;
    return 0;
}

static void test_progress_reaches_the_end(void) {
    const pq_model_options options = {.threads = 1, .progress = note_progress};
    const pq_session_options session = {.sequences = 1};
    opened o;
    reported = 0;
    CHECK(open_all(&o, PQ_LOAD_MMAP, &options, &session, NULL) == PQ_OK);
    CHECK(reported == announced && reported > 0);
    close_all(&o);
}

/* ------------------------------------------------------------------------------- the same bits */

/* Logits after 300 positions in sequence 0, decoded one by one from position 130 on. */
static void decode(uint32_t threads, const pq_kv_type types[2], float *logits) {
    const pq_session_options session = {
        .sequences = 2, .threads = threads, .key_type = types[0], .value_type = types[1]};
    opened o = open_or_report(&session);
    pq_error err;
    CHECK(feed(o.session, 0, 130, &err) == PQ_OK);
    for (int i = 0; i < 170; i++) {
        CHECK(feed(o.session, 0, 1, &err) == PQ_OK);
        CHECK(pq_session_logits(o.session, 0, 1, logits + i * ROWS, &err) == PQ_OK);
    }
    close_all(&o);
}

/* One token over several blocks of keys: one thread walks them, several split them. */
static void test_split_attention(void) {
    static float walked[170 * ROWS], split[170 * ROWS];
    const pq_kv_type types[][2] = {{PQ_KV_F16, PQ_KV_F16},
                                   {PQ_KV_Q8_0, PQ_KV_Q8_0},
                                   {PQ_KV_F32, PQ_KV_F32},
                                   {PQ_KV_Q4_0, PQ_KV_Q5_1},
                                   {PQ_KV_F16, PQ_KV_Q4_0}};
    for (int t = 0; t < 5; t++) {
        decode(1, types[t], walked);
        for (uint32_t threads = 2; threads <= 5; threads += 3) {
            decode(threads, types[t], split);
            CHECK(memcmp(walked, split, sizeof walked) == 0);
        }
        CHECK(isfinite(walked[0]) && walked[0] != walked[ROWS]);
    }
}

/* A decoding row beside a prompt of another sequence, against both alone. */
static void test_mixed_batch(void) {
    const pq_session_options session = {.sequences = 2, .threads = 3};
    opened o = open_or_report(&session);
    pq_error err;
    float alone[2][ROWS], together[2][ROWS];
    static pq_row rows[151];
    CHECK(feed(o.session, 0, 200, &err) == PQ_OK && feed(o.session, 0, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, alone[0], &err) == PQ_OK);
    CHECK(feed(o.session, 1, 150, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, alone[1], &err) == PQ_OK);
    CHECK(pq_session_rewind(o.session, 0, 200, &err) == PQ_OK);
    CHECK(pq_session_rewind(o.session, 1, 0, &err) == PQ_OK);
    rows[0] = (pq_row){200 * 5 % TOKENS, 0, 1};
    for (int i = 0; i < 150; i++)
        rows[1 + i] = (pq_row){i * 5 % TOKENS, 1, i == 149};
    CHECK(pq_session_eval(o.session, rows, 151, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 2, together[0], &err) == PQ_OK);
    CHECK(memcmp(alone, together, sizeof alone) == 0);
    close_all(&o);
}

/* --------------------------------------------------------------- evaluations that do not happen */

static void test_failure_changes_nothing(void) {
    const pq_session_options session = {.sequences = 3, .threads = 2, .context = 300};
    opened o = open_or_report(&session);
    pq_session *s = o.session;
    pq_error err;
    float expected[ROWS], got[ROWS];
    CHECK(feed(s, 0, 256, &err) == PQ_OK && feed(s, 0, 1, &err) == PQ_OK);
    CHECK(pq_session_fork(s, 0, 1, 200, &err) == PQ_OK);
    CHECK(feed(s, 1, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(s, 0, 1, expected, &err) == PQ_OK);
    CHECK(pq_session_rewind(s, 1, 200, &err) == PQ_OK);
    const uint64_t bytes = pq_session_kv_bytes(s);

    static pq_row rows[160]; /* 100 of a new sequence fit, 60 of the old one do not */
    for (int i = 0; i < 160; i++)
        rows[i] = (pq_row){1, i < 100 ? 2 : 0, 1};
    CHECK(pq_session_eval(s, rows, 160, &err) == PQ_ERR_CONTEXT);
    CHECK(pq_session_length(s, 2) == 0 && pq_session_length(s, 0) == 257);
    CHECK(pq_session_kv_bytes(s) == bytes && pq_session_outputs(s) == 0);

    pq_session_cancel(s, 1);
    CHECK(feed(s, 1, 50, &err) == PQ_ERR_CANCELLED);
    CHECK(pq_session_length(s, 1) == 200);
    pq_session_cancel(s, 0);
    CHECK(feed(s, 1, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(s, 0, 1, got, &err) == PQ_OK);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    close_all(&o);
}

/* Rewound into a block that another sequence shares, a sequence writes into a copy. */
static void test_shared_blocks_are_copied(void) {
    const pq_session_options session = {.sequences = 2, .threads = 1};
    opened o = open_or_report(&session);
    pq_session *s = o.session;
    pq_error err;
    float expected[ROWS], got[ROWS];
    CHECK(feed(s, 0, 256, &err) == PQ_OK && feed(s, 0, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(s, 0, 1, expected, &err) == PQ_OK);
    CHECK(pq_session_fork(s, 0, 1, 256, &err) == PQ_OK);
    CHECK(pq_session_rewind(s, 0, 70, &err) == PQ_OK);
    const pq_row other[] = {{7, 0, 0}, {7, 0, 0}, {7, 0, 1}};
    CHECK(pq_session_eval(s, other, 3, &err) == PQ_OK);
    CHECK(feed(s, 1, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(s, 0, 1, got, &err) == PQ_OK);
    CHECK(memcmp(expected, got, sizeof got) == 0);
    CHECK(pq_session_rewind(s, 0, 0, &err) == PQ_OK && pq_session_rewind(s, 1, 0, &err) == PQ_OK);
    CHECK(pq_session_kv_bytes(s) == 0);
    close_all(&o);
}

/* --------------------------------------------------------------------------------- kept blocks */

/* What a sequence left in kept blocks, or their bytes written to another session, goes on with the same bits. */
static void test_kept_blocks(pq_kv_type type) {
    const pq_session_options session = {
        .sequences = 2, .threads = 1, .key_type = type, .value_type = type};
    opened o = open_or_report(&session), p = open_or_report(&session);
    pq_error err;
    uint32_t kept[3], written[3];
    float expected[ROWS], got[ROWS];
    const size_t bytes = (size_t)pq_session_block_bytes(o.session);
    uint8_t *data = malloc(bytes), *again = malloc(bytes);
    CHECK(data && again && pq_session_block_positions() == 128);
    CHECK(feed(o.session, 0, 250, &err) == PQ_OK && feed(o.session, 0, 20, &err) == PQ_OK);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(pq_session_keep(o.session, 0, i, &kept[i], &err) == PQ_OK);
    CHECK(pq_session_keep(o.session, 0, 3, &kept[0], &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_keep(o.session, 2, 0, &kept[0], &err) == PQ_ERR_ARGUMENT);
    CHECK(feed(o.session, 0, 1, &err) == PQ_OK); /* into a copy */
    CHECK(pq_session_logits(o.session, 0, 1, expected, &err) == PQ_OK);
    CHECK(pq_session_kv_bytes(o.session) == 4 * bytes);
    CHECK(pq_session_rewind(o.session, 0, 0, &err) == PQ_OK);
    CHECK(pq_session_kv_bytes(o.session) == 3 * bytes);

    CHECK(pq_session_adopt(o.session, 1, kept, 3, 270, &err) == PQ_OK);
    CHECK(feed(o.session, 1, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(o.session, 0, 1, got, &err) == PQ_OK);
    CHECK(memcmp(expected, got, sizeof got) == 0);

    for (uint32_t i = 0; i < 3; i++) {
        CHECK(pq_session_read_block(o.session, kept[i], i < 2 ? 128 : 14, data, &err) == PQ_OK);
        CHECK(pq_session_write_block(p.session, data, &written[i], &err) == PQ_OK);
        CHECK(pq_session_read_block(p.session, written[i], 128, again, &err) == PQ_OK);
        CHECK(memcmp(data, again, bytes) == 0);
    }
    CHECK(pq_session_adopt(p.session, 0, written, 3, 270, &err) == PQ_OK);
    CHECK(feed(p.session, 0, 1, &err) == PQ_OK);
    CHECK(pq_session_logits(p.session, 0, 1, got, &err) == PQ_OK);
    CHECK(memcmp(expected, got, sizeof got) == 0);

    /* what a text that was given up left in a block does not get out */
    CHECK(pq_session_rewind(o.session, 0, 0, &err) == PQ_OK &&
          feed(o.session, 0, 14, &err) == PQ_OK);
    CHECK(pq_session_keep(o.session, 0, 0, &written[0], &err) == PQ_OK);
    CHECK(pq_session_read_block(o.session, written[0], 14, again, &err) == PQ_OK);
    CHECK(pq_session_read_block(o.session, kept[0], 14, data, &err) == PQ_OK);
    CHECK(memcmp(data, again, bytes) == 0);

    const uint32_t unknown[] = {kept[0], 1u << 20};
    CHECK(pq_session_adopt(o.session, 1, unknown, 2, 130, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_adopt(o.session, 1, kept, 3, 256, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_adopt(o.session, 1, kept, 3, CONTEXT + 1, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_adopt(o.session, 2, kept, 3, 270, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_length(o.session, 1) == 271);
    CHECK(pq_session_read_block(o.session, kept[0], 129, data, &err) == PQ_ERR_ARGUMENT);
    pq_session_drop(o.session, kept[0]);
    pq_session_drop(o.session, kept[0]);
    pq_session_drop(o.session, UINT32_MAX);
    CHECK(pq_session_read_block(o.session, kept[0], 128, data, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_session_length(o.session, 1) == 271); /* has it still */
    CHECK(pq_session_keep(o.session, 1, 0, &written[0], &err) == PQ_OK && written[0] == kept[0]);

    uint64_t a[3], b[3];
    CHECK(pq_session_identity(o.session, a, &err) == PQ_OK);
    CHECK(pq_session_identity(p.session, b, &err) == PQ_OK && memcmp(a, b, sizeof a) == 0);
    free(data);
    free(again);
    close_all(&o);
    close_all(&p);
}

static void test_identities_differ(void) {
    uint64_t seen[4][3];
    for (int i = 0; i < 4; i++) {
        const pq_session_options session = {
            .sequences = 1, .key_type = (pq_kv_type)(i % 3), .value_type = (pq_kv_type)(i % 3)};
        const pq_model_options options = {.threads = 1, .exact = i == 3};
        opened o;
        CHECK(open_all(&o, PQ_LOAD_MMAP, &options, &session, NULL) == PQ_OK);
        CHECK(pq_session_identity(o.session, seen[i], NULL) == PQ_OK);
        close_all(&o);
        CHECK(memcmp(seen[i], seen[0], 2 * sizeof(uint64_t)) == 0);
        for (int j = 0; j < i; j++)
            CHECK(seen[i][2] != seen[j][2]);
    }
}

/* -------------------------------------------------------------------------- failing allocations */

#ifdef PQ_WRAPPED_MALLOC
/* The linker sends the core's allocations here: the one numbered `failing` finds no memory. */
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

static pq_status sample_one(pq_session *s, pq_error *err) {
    const pq_sampler_options options = {
        .temperature = 1, .top_k = 5, .top_p = 0.9f, .typical_p = 1, .repetition_penalty = 1.1f};
    const pq_draw draw = {.output = 0, .next = -1};
    pq_sample sample;
    pq_run run = {.draws = &draw, .n = 1, .want_logprob = 1, .n_top = 3, .samples = &sample};
    pq_status st = pq_sampler_open(&run.sampler, TOKENS, &options, err);
    if (st == PQ_OK)
        st = pq_session_sample(s, &run, 1, err);
    if (st == PQ_OK && run.status != PQ_OK)
        *err = run.error;
    pq_sampler_close(run.sampler);
    return st == PQ_OK ? run.status : st;
}

/* Everything from the file to a token. An evaluation that found no memory is repeated: it must go through. */
/* Two sessions of one model that read the same, one of them collecting an importance matrix. */
static pq_status compare_collecting(opened *o, pq_error *err) {
    const pq_session_options options = {.sequences = 1, .threads = 2};
    const int32_t target = 3;
    pq_session *other = NULL;
    pq_divergence difference = {.kld = -1};
    double sums[96];
    uint64_t rows = 0;
    pq_status st = pq_session_open(&other, o->model, &options, err);
    if (st == PQ_OK && (st = pq_session_collect_imatrix(other, 1, err)) != PQ_OK)
        CHECK(pq_session_imatrix(other, PQ_IMATRIX_DOWN, 1, sums, 96, &rows, NULL) != PQ_OK);
    if (st == PQ_OK && (st = pq_session_rewind(o->session, 0, 0, err)) == PQ_OK &&
        (st = feed(o->session, 0, 70, err)) == PQ_OK && (st = feed(other, 0, 70, err)) == PQ_OK &&
        (st = pq_session_compare(o->session, other, 0, 1, &target, &difference, err)) == PQ_OK) {
        CHECK(difference.kld == 0 && difference.same_top == 1);
        CHECK(difference.logprob < 0 && difference.logprob == difference.reference_logprob);
        st = pq_session_imatrix(other, PQ_IMATRIX_DOWN, 1, sums, 96, &rows, err);
        CHECK(st == PQ_OK && rows == 70 && sums[95] > 0);
    }
    pq_session_close(other);
    return st;
}

/* Ends with what sample_one needs: an output. */
static pq_status keep_and_adopt(pq_session *s, pq_error *err) {
    static uint8_t data[1 << 20];
    uint32_t kept = 0, written = 0;
    CHECK(pq_session_block_bytes(s) <= sizeof data);
    pq_status st = pq_session_keep(s, 1, 0, &kept, err);
    if (st == PQ_OK && (st = pq_session_read_block(s, kept, 100, data, err)) == PQ_OK)
        st = pq_session_write_block(s, data, &written, err);
    if (st == PQ_OK && (st = pq_session_adopt(s, 1, &written, 1, 100, err)) == PQ_OK &&
        (st = feed(s, 1, 1, err)) != PQ_OK)
        CHECK(pq_session_length(s, 1) == 100);
    return st;
}

static pq_status whole_walk(const pq_model_options *options, pq_load load, pq_error *err) {
    const pq_session_options session = {.sequences = 2, .threads = 2};
    opened o;
    pq_status st = open_all(&o, load, options, &session, err);
    CHECK(st == PQ_OK || o.session == NULL);
    CHECK(o.model != NULL || o.session == NULL);
    if (st == PQ_OK && (st = feed(o.session, 0, 200, err)) != PQ_OK) {
        CHECK(pq_session_length(o.session, 0) == 0 && pq_session_kv_bytes(o.session) == 0);
        CHECK(feed(o.session, 0, 200, NULL) == PQ_OK);
    }
    if (st == PQ_OK && (st = pq_session_fork(o.session, 0, 1, 140, err)) != PQ_OK)
        CHECK(pq_session_length(o.session, 1) == 0);
    if (st == PQ_OK && (st = pq_session_rewind(o.session, 0, 100, err)) == PQ_OK &&
        (st = feed(o.session, 0, 150, err)) != PQ_OK) /* copies the shared block, makes another */
        CHECK(pq_session_length(o.session, 0) == 100);
    if (st == PQ_OK)
        st = keep_and_adopt(o.session, err);
    if (st == PQ_OK)
        st = sample_one(o.session, err);
    if (st == PQ_OK)
        st = compare_collecting(&o, err);
    close_all(&o);
    return st;
}

/* The leak checker of a sanitizer build watches. */
static void test_no_memory(int exact, pq_load load) {
    const pq_model_options options = {.threads = 2, .exact = exact};
    pq_status st = PQ_ERR_MEMORY;
    for (failing = 1; st != PQ_OK && failing < 2000; failing++) {
        pq_error err = {.text = ""};
        allocations = 0;
        st = whole_walk(&options, load, &err);
        CHECK(st == PQ_OK || st == PQ_ERR_MEMORY);
        CHECK(st == PQ_OK || strstr(err.text, "out of memory: ") == err.text);
    }
    CHECK(st == PQ_OK && failing > 40);
    failing = 0;
}
#endif

int main(void) {
    const tiny_spec spec = small_spec();
    write_model(&spec);
    test_arguments();
    test_plan();
    test_sizes_beyond_memory();
    test_yarn_stretches_the_context();
    test_progress_reaches_the_end();
    test_split_attention();
    test_mixed_batch();
    test_failure_changes_nothing();
    test_shared_blocks_are_copied();
    test_kept_blocks(PQ_KV_F16);
    test_kept_blocks(PQ_KV_Q8_0);
    test_kept_blocks(PQ_KV_F32);
    test_kept_blocks(PQ_KV_Q4_0);
    test_kept_blocks(PQ_KV_Q5_1);
    test_identities_differ();
#ifdef PQ_WRAPPED_MALLOC
    test_no_memory(0, PQ_LOAD_COPY);
    test_no_memory(0, PQ_LOAD_MMAP);
    test_no_memory(1, PQ_LOAD_MMAP);
#endif
    remove(PATH);
    return check_result();
}
