/* architecture.c - see architecture.h. A new dense architecture is one row of ARCHITECTURES; a tensor that no
 * other has is one of TENSORS. What computes with it is forward.c's.
 */
#include "architecture.h"

#include <stdio.h>
#include <string.h>

#include "model.h"

/* Whether the models of an architecture have tensors of a kind. */
typedef enum presence { ABSENT, OPTIONAL, REQUIRED } presence;

typedef struct architecture {
    pq_architecture is;
    presence qkv_bias, qk_norm;
} architecture;

static const architecture ARCHITECTURES[] = {
    /* Without its biases qwen2 would run, and answer nonsense. */
    {{.name = "qwen2", .checkpoint_class = "Qwen2ForCausalLM", .rope_neox = 1},
     .qkv_bias = REQUIRED},
    {{.name = "qwen3", .checkpoint_class = "Qwen3ForCausalLM", .rope_neox = 1, .head_dim = 128},
     .qk_norm = REQUIRED},
    {{.name = "llama", .checkpoint_class = "LlamaForCausalLM"}, .qkv_bias = OPTIONAL},
};

/* Which architectures have a tensor. */
typedef enum condition { ALWAYS, MAYBE, UNLESS_TIED, WITH_QKV_BIAS, WITH_QK_NORM } condition;

/* Whether rows are rotated by position, so that their order within a head matters. */
typedef enum order { AS_IT_IS, ROTATED } order;

/* What rows and columns are as many as. */
typedef enum size { ONE, HIDDEN, FFN, ALL_HEADS, KV_HEADS, HEAD, ROPE_PAIRS, VOCABULARY } size;

typedef struct row {
    const char *role, *name, *checkpoint;
    pq_tensor_kind kind;
    pq_imatrix_input input;
    uint32_t in_layer;
    size_t member;
    size rows, cols;
    order order;
    condition condition;
} row;

#define OF_MODEL(field) 0, offsetof(pq_model, field)
#define OF_LAYER(field) 1, offsetof(pq_layer, field)
#define MATRIX(input) PQ_TENSOR_MATRIX, PQ_IMATRIX_##input
#define LOOKUP PQ_TENSOR_LOOKUP, PQ_IMATRIX_NONE
#define NORM PQ_TENSOR_NORM, PQ_IMATRIX_NONE
#define BIAS PQ_TENSOR_BIAS, PQ_IMATRIX_NONE
#define FACTORS PQ_TENSOR_FACTORS, PQ_IMATRIX_NONE

/* In the order in which files are written, the embedding first: before the layers, of a layer, after the layers.
 * Role, name in a file and in a checkpoint; kind (and input), member, rows, columns, order, condition. */
/* clang-format off */
static const row TENSORS[] = {
    {"embedding", "token_embd.weight", "model.embed_tokens.weight",
     LOOKUP, OF_MODEL(embedding), VOCABULARY, HIDDEN, AS_IT_IS, ALWAYS},

    {"attention_norm", "attn_norm.weight", "input_layernorm.weight",
     NORM, OF_LAYER(attn_norm), ONE, HIDDEN, AS_IT_IS, ALWAYS},
    {"query", "attn_q.weight", "self_attn.q_proj.weight",
     MATRIX(QKV), OF_LAYER(q), ALL_HEADS, HIDDEN, ROTATED, ALWAYS},
    {"query_bias", "attn_q.bias", "self_attn.q_proj.bias",
     BIAS, OF_LAYER(q_bias), ONE, ALL_HEADS, ROTATED, WITH_QKV_BIAS},
    {"query_norm", "attn_q_norm.weight", "self_attn.q_norm.weight",
     NORM, OF_LAYER(q_norm), ONE, HEAD, ROTATED, WITH_QK_NORM},
    {"key", "attn_k.weight", "self_attn.k_proj.weight",
     MATRIX(QKV), OF_LAYER(k), KV_HEADS, HIDDEN, ROTATED, ALWAYS},
    {"key_bias", "attn_k.bias", "self_attn.k_proj.bias",
     BIAS, OF_LAYER(k_bias), ONE, KV_HEADS, ROTATED, WITH_QKV_BIAS},
    {"key_norm", "attn_k_norm.weight", "self_attn.k_norm.weight",
     NORM, OF_LAYER(k_norm), ONE, HEAD, ROTATED, WITH_QK_NORM},
    {"value", "attn_v.weight", "self_attn.v_proj.weight",
     MATRIX(QKV), OF_LAYER(v), KV_HEADS, HIDDEN, AS_IT_IS, ALWAYS},
    {"value_bias", "attn_v.bias", "self_attn.v_proj.bias",
     BIAS, OF_LAYER(v_bias), ONE, KV_HEADS, AS_IT_IS, WITH_QKV_BIAS},
    {"attention_output", "attn_output.weight", "self_attn.o_proj.weight",
     MATRIX(ATTENTION_OUTPUT), OF_LAYER(o), HIDDEN, ALL_HEADS, AS_IT_IS, ALWAYS},
    {"ffn_norm", "ffn_norm.weight", "post_attention_layernorm.weight",
     NORM, OF_LAYER(ffn_norm), ONE, HIDDEN, AS_IT_IS, ALWAYS},
    {"gate", "ffn_gate.weight", "mlp.gate_proj.weight",
     MATRIX(GATE_UP), OF_LAYER(gate), FFN, HIDDEN, AS_IT_IS, ALWAYS},
    {"up", "ffn_up.weight", "mlp.up_proj.weight",
     MATRIX(GATE_UP), OF_LAYER(up), FFN, HIDDEN, AS_IT_IS, ALWAYS},
    {"down", "ffn_down.weight", "mlp.down_proj.weight",
     MATRIX(DOWN), OF_LAYER(down), HIDDEN, FFN, AS_IT_IS, ALWAYS},

    {"output_norm", "output_norm.weight", "model.norm.weight",
     NORM, OF_MODEL(output_norm), ONE, HIDDEN, AS_IT_IS, ALWAYS},
    {"output", "output.weight", "lm_head.weight",
     MATRIX(OUTPUT), OF_MODEL(output), VOCABULARY, HIDDEN, AS_IT_IS, UNLESS_TIED},
    {"rope_factors", "rope_freqs.weight", NULL,
     FACTORS, OF_MODEL(rope_factors), ONE, ROPE_PAIRS, AS_IT_IS, MAYBE},
};
/* clang-format on */

enum {
    N_ARCHITECTURES = sizeof ARCHITECTURES / sizeof *ARCHITECTURES,
    N_TENSORS = sizeof TENSORS / sizeof *TENSORS
};

/* ---------------------------------------------------------------------------------- reading the table */

const pq_architecture *pq_architecture_at(uint32_t index) {
    return index < N_ARCHITECTURES ? &ARCHITECTURES[index].is : NULL;
}

static const architecture *find(const char *name) {
    for (size_t i = 0; i < N_ARCHITECTURES; i++)
        if (strcmp(ARCHITECTURES[i].is.name, name) == 0)
            return &ARCHITECTURES[i];
    return NULL;
}

const pq_architecture *pq_architecture_named(const char *name) {
    const architecture *found = find(name);
    return found ? &found->is : NULL;
}

static presence presence_of(const row *r, const architecture *a) {
    switch (r->condition) {
    case WITH_QKV_BIAS:
        return a->qkv_bias;
    case WITH_QK_NORM:
        return a->qk_norm;
    case MAYBE:
    case UNLESS_TIED:
        return OPTIONAL;
    default:
        return REQUIRED;
    }
}

static uint64_t count(const pq_config *c, size s) {
    switch (s) {
    case HIDDEN:
        return c->hidden;
    case FFN:
        return c->ffn;
    case ALL_HEADS:
        return (uint64_t)c->heads * c->head_dim;
    case KV_HEADS:
        return (uint64_t)c->kv_heads * c->head_dim;
    case HEAD:
        return c->head_dim;
    case ROPE_PAIRS:
        return c->head_dim / 2;
    case VOCABULARY:
        return c->vocab_rows;
    default:
        return 1;
    }
}

int pq_tensor_spec_at(pq_tensor_spec *out, const pq_config *c, uint32_t index) {
    const architecture *a = find(c->architecture);
    for (const row *r = TENSORS; a && r < TENSORS + N_TENSORS; r++) {
        const presence present = presence_of(r, a);
        if (present == ABSENT || index-- > 0)
            continue;
        const int tied = r->condition == UNLESS_TIED; /* to the embedding, which comes first */
        out->member = r->member;
        out->is = (pq_architecture_tensor){.role = r->role,
                                           .name = r->name,
                                           .checkpoint = r->checkpoint,
                                           .tied_to = tied ? TENSORS[0].role : NULL,
                                           .kind = r->kind,
                                           .input = r->input,
                                           .in_layer = r->in_layer,
                                           .required = present == REQUIRED,
                                           .reordered = r->order == ROTATED && !a->is.rope_neox,
                                           .rows = count(c, r->rows),
                                           .cols = count(c, r->cols)};
        return 1;
    }
    return 0;
}

pq_status pq_architecture_tensor_at(const pq_config *config, uint32_t index,
                                    pq_architecture_tensor *out, pq_error *err) {
    pq_tensor_spec spec;
    if (!config || !out)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_architecture_tensor_at: a NULL argument");
    if (!pq_architecture_named(config->architecture))
        return pq_fail(err, PQ_ERR_UNSUPPORTED, "there is no architecture '%.15s'",
                       config->architecture);
    if (!pq_tensor_spec_at(&spec, config, index))
        return pq_fail(err, PQ_ERR_NOT_FOUND, "%s has no tensor %u", config->architecture, index);
    *out = spec.is;
    return PQ_OK;
}

void pq_tensor_spec_of_kind(pq_tensor_spec *out, const pq_config *c, pq_tensor_kind kind) {
    for (uint32_t i = 0; pq_tensor_spec_at(out, c, i) && out->is.kind != kind;)
        i++;
}

size_t pq_input_columns(const pq_config *c, pq_imatrix_input input) {
    pq_tensor_spec spec;
    for (uint32_t i = 0; pq_tensor_spec_at(&spec, c, i); i++)
        if (spec.is.input == input)
            return (size_t)spec.is.cols;
    return 0;
}

/* ---------------------------------------------------------------------------------------------- names */

void pq_tensor_name(char *dst, const pq_architecture_tensor *tensor, uint32_t layer) {
    if (tensor->in_layer)
        snprintf(dst, PQ_TENSOR_NAME_BYTES, "blk.%u.%s", layer, tensor->name);
    else
        snprintf(dst, PQ_TENSOR_NAME_BYTES, "%s", tensor->name);
}

int pq_tensor_is_known(const char *name, const pq_config *c) {
    pq_tensor_spec spec;
    unsigned layer = 0;
    int prefix = 0;
    if (sscanf(name, "blk.%4u.%n", &layer, &prefix) != 1 || prefix == 0 || layer >= c->layers)
        layer = 0, prefix = 0;
    for (uint32_t i = 0; pq_tensor_spec_at(&spec, c, i); i++) {
        char known[PQ_TENSOR_NAME_BYTES];
        pq_tensor_name(known, &spec.is, layer); /* "blk.01." is none that would be loaded */
        if (strcmp(name, known) == 0)
            return 1;
    }
    return 0;
}
