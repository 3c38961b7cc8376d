/* test_architecture.c - the table of architectures: names that are told apart, shapes of a model, ties. */
#include <string.h>

#include "check.h"
#include "model/architecture.h"

/* Every size is another, so that none can stand for another. */
static pq_config sizes(const char *architecture) {
    pq_config c = {.layers = 2,
                   .hidden = 96,
                   .ffn = 160,
                   .heads = 6,
                   .kv_heads = 2,
                   .head_dim = 32,
                   .vocab_rows = 320};
    strcpy(c.architecture, architecture);
    return c;
}

static int find(const pq_config *c, const char *role, pq_architecture_tensor *out) {
    pq_error err;
    for (uint32_t i = 0; pq_architecture_tensor_at(c, i, out, &err) == PQ_OK; i++)
        if (strcmp(out->role, role) == 0)
            return 1;
    return 0;
}

static int has_shape(const pq_config *c, const char *role, uint64_t rows, uint64_t cols) {
    pq_architecture_tensor t;
    return find(c, role, &t) && t.rows == rows && t.cols == cols;
}

/* No name and no role twice; what a layer has stands together; each name is known, in its layers only. */
static void check_rows(const pq_config *c) {
    pq_architecture_tensor a, b;
    pq_error err;
    uint32_t n = 0, changes = 0, last = 0;
    for (; pq_architecture_tensor_at(c, n, &a, &err) == PQ_OK; n++) {
        char name[PQ_TENSOR_NAME_BYTES];
        for (uint32_t j = 0; j < n; j++) {
            CHECK(pq_architecture_tensor_at(c, j, &b, &err) == PQ_OK);
            CHECK(strcmp(a.role, b.role) != 0 && strcmp(a.name, b.name) != 0);
            CHECK(!a.checkpoint || !b.checkpoint || strcmp(a.checkpoint, b.checkpoint) != 0);
        }
        changes += n > 0 && a.in_layer != last;
        last = a.in_layer;
        pq_tensor_name(name, &a, 1);
        CHECK(pq_tensor_is_known(name, c));
        pq_tensor_name(name, &a, 2);
        CHECK(pq_tensor_is_known(name, c) == !a.in_layer);
        CHECK((a.kind == PQ_TENSOR_MATRIX) == (a.input != PQ_IMATRIX_NONE));
        CHECK(a.rows == 1 || a.kind == PQ_TENSOR_MATRIX || a.kind == PQ_TENSOR_LOOKUP);
        CHECK(!a.tied_to || (find(c, a.tied_to, &b) && b.rows == a.rows && b.cols == a.cols));
    }
    CHECK(n > 0 && changes == 2);
    CHECK(pq_architecture_tensor_at(c, n, &a, &err) == PQ_ERR_NOT_FOUND);
    CHECK(!pq_tensor_is_known("blk.01.attn_q.weight", c));
    CHECK(!pq_tensor_is_known("attn_q.weight", c) && !pq_tensor_is_known("blk.0.", c));
}

static void check_shapes(const pq_config *c) {
    const uint64_t q = (uint64_t)c->heads * c->head_dim, kv = (uint64_t)c->kv_heads * c->head_dim;
    CHECK(has_shape(c, "embedding", c->vocab_rows, c->hidden));
    CHECK(has_shape(c, "query", q, c->hidden) && has_shape(c, "key", kv, c->hidden));
    CHECK(has_shape(c, "attention_output", c->hidden, q));
    CHECK(has_shape(c, "gate", c->ffn, c->hidden) && has_shape(c, "down", c->hidden, c->ffn));
    CHECK(has_shape(c, "ffn_norm", 1, c->hidden));
    CHECK(pq_input_columns(c, PQ_IMATRIX_QKV) == c->hidden);
    CHECK(pq_input_columns(c, PQ_IMATRIX_ATTENTION_OUTPUT) == q);
    CHECK(pq_input_columns(c, PQ_IMATRIX_DOWN) == c->ffn);
    CHECK(pq_input_columns(c, PQ_IMATRIX_OUTPUT) == c->hidden);
}

static void check_differences(void) {
    const pq_config qwen2 = sizes("qwen2"), qwen3 = sizes("qwen3"), llama = sizes("llama");
    pq_architecture_tensor t;
    CHECK(find(&qwen2, "query_bias", &t) && t.required && !t.reordered && t.cols == 192);
    CHECK(!find(&qwen3, "query_bias", &t) && !find(&qwen2, "query_norm", &t));
    CHECK(find(&qwen3, "query_norm", &t) && t.required && t.kind == PQ_TENSOR_NORM && t.cols == 32);
    CHECK(find(&qwen3, "key_norm", &t) && strcmp(t.name, "attn_k_norm.weight") == 0);
    CHECK(find(&llama, "query_bias", &t) && !t.required && t.reordered);
    CHECK(find(&llama, "key", &t) && t.reordered);
    CHECK(find(&llama, "value", &t) && !t.reordered);
    CHECK(find(&llama, "output", &t) && !t.required && strcmp(t.tied_to, "embedding") == 0);
}

static void check_unknown(void) {
    const pq_config none = sizes("mamba");
    pq_architecture_tensor t;
    pq_error err;
    CHECK(!pq_architecture_named("mamba") && pq_architecture_named("llama"));
    CHECK(pq_architecture_tensor_at(&none, 0, &t, &err) == PQ_ERR_UNSUPPORTED);
    CHECK(strstr(err.text, "mamba") != NULL);
    CHECK(pq_architecture_tensor_at(NULL, 0, &t, &err) == PQ_ERR_ARGUMENT);
}

int main(void) {
    const pq_architecture *a;
    uint32_t n = 0;
    for (; (a = pq_architecture_at(n)) != NULL; n++) {
        const pq_config c = sizes(a->name);
        CHECK(pq_architecture_named(a->name) == a);
        check_rows(&c);
        check_shapes(&c);
    }
    CHECK(n >= 2);
    check_differences();
    check_unknown();
    return check_result();
}
