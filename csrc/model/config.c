/* config.c - hyperparameters from metadata, and the tensors that the architecture must have.
 *
 * Everything that later code relies on is established here: ranges before any division, and for every
 * tensor its name, shape and type. Later code may index without looking back.
 */
#include "model.h"

#include <stdio.h>
#include <string.h>

enum {
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 20,
    MAX_HEADS = 1024,
    MAX_CONTEXT = 1 << 24,
    MAX_VOCAB = 1 << 22
};

/* A key of the file's own architecture: "qwen2.block_count". */
typedef struct reader {
    const pq_file *file;
    const char *arch;
    char key[96];
    pq_error *err;
} reader;

static const char *arch_key(reader *r, const char *suffix) {
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return r->key;
}

static pq_status read_u32(reader *r, const char *suffix, uint32_t min, uint32_t max, uint32_t *out,
                          int required) {
    return pq_file_get_u32(r->file, arch_key(r, suffix), min, max, out, required, r->err);
}

static pq_status read_f32(reader *r, const char *suffix, double min, double max, float *out,
                          int required) {
    return pq_file_get_f32(r->file, arch_key(r, suffix), min, max, out, required, r->err);
}

/* "a, b and c" */
static void list_architectures(char *dst, size_t bytes) {
    size_t used = 0;
    const pq_architecture *a;
    for (uint32_t i = 0; (a = pq_architecture_at(i)) != NULL && used < bytes; i++) {
        const char *before = i == 0 ? "" : pq_architecture_at(i + 1) ? ", " : " and ";
        used += (size_t)snprintf(dst + used, bytes - used, "%s%s", before, a->name);
    }
}

/* What llama.cpp calls models that only embed, and attend both ways. */
static int is_encoder(const char *architecture) {
    return strstr(architecture, "bert") || strcmp(architecture, "t5encoder") == 0 ||
           strcmp(architecture, "gemma-embedding") == 0 || strcmp(architecture, "llama-embed") == 0;
}

static pq_status read_architecture(const pq_file *file, pq_config *c, pq_error *err) {
    char name[64] = "";
    if (pq_file_get_text(file, "general.type", name, sizeof name, 0, NULL) == PQ_OK &&
        strcmp(name, "adapter") == 0)
        return pq_fail_at(err, PQ_ERR_UNSUPPORTED, "general.type", -1,
                          "%s: the file is an adapter (LoRA), no model; open its base model, and "
                          "give it this file as an adapter",
                          pq_file_name(file));
    pq_status st = pq_file_get_text(file, "general.architecture", name, sizeof name, 1, err);
    if (st != PQ_OK)
        return st;
    const pq_architecture *known = pq_architecture_named(name);
    if (!known && is_encoder(name))
        return pq_fail_at(err, PQ_ERR_UNSUPPORTED, "general.architecture", -1,
                          "%s: '%s' is an encoder, and encoders are not supported; for embeddings "
                          "take a decoder such as Qwen3-Embedding",
                          pq_file_name(file), name);
    if (!known) {
        char names[128];
        list_architectures(names, sizeof names);
        return pq_fail_at(err, PQ_ERR_UNSUPPORTED, "general.architecture", -1,
                          "%s: architecture '%s' is not supported; this version runs %s",
                          pq_file_name(file), name, names);
    }
    strcpy(c->architecture, known->name); /* those of the table fit */
    c->rope_neox = known->rope_neox;
    return PQ_OK;
}

/* The key is rare: decoders are causal unless they were made encoders (gte-Qwen2 and others). */
static pq_status check_causal(reader *r) {
    const pq_key *key = pq_file_find_key(r->file, arch_key(r, "attention.causal"));
    if (!key)
        return PQ_OK;
    if (key->type != PQ_VALUE_BOOL)
        return pq_fail_at(r->err, PQ_ERR_FORMAT, r->key, (int64_t)key->offset,
                          "%s: the key '%s' is neither true nor false", pq_file_name(r->file),
                          r->key);
    if (*(const uint8_t *)key->data)
        return PQ_OK;
    return pq_fail_at(r->err, PQ_ERR_UNSUPPORTED, r->key, (int64_t)key->offset,
                      "%s: '%s' is false: each token of this model sees those after it, too, which "
                      "is not supported; for embeddings take a causal model such as "
                      "Qwen3-Embedding",
                      pq_file_name(r->file), r->key);
}

static pq_status read_heads(reader *r, pq_config *c) {
    pq_status st = read_u32(r, "attention.head_count", 1, MAX_HEADS, &c->heads, 1);
    if (st != PQ_OK)
        return st;
    c->kv_heads = c->heads;
    if ((st = read_u32(r, "attention.head_count_kv", 1, c->heads, &c->kv_heads, 0)) != PQ_OK)
        return st;
    if (c->heads % c->kv_heads != 0 || c->heads / c->kv_heads > PQ_MAX_HEAD_GROUP)
        return pq_fail_at(
            r->err, PQ_ERR_FORMAT, r->key, -1,
            "%s: %u query heads cannot share %u key/value heads (a whole number of at "
            "most %d each)",
            pq_file_name(r->file), c->heads, c->kv_heads, PQ_MAX_HEAD_GROUP);
    c->head_dim = 0;
    if ((st = read_u32(r, "attention.key_length", 1, PQ_MAX_HEAD_DIM, &c->head_dim, 0)) != PQ_OK)
        return st;
    uint32_t value_length = c->head_dim;
    if ((st = read_u32(r, "attention.value_length", 1, PQ_MAX_HEAD_DIM, &value_length, 0)) != PQ_OK)
        return st;
    if (c->head_dim == 0) {
        if (c->hidden % c->heads != 0)
            return pq_fail_at(r->err, PQ_ERR_FORMAT, r->key, -1,
                              "%s: embedding_length %u is not a multiple of head_count %u",
                              pq_file_name(r->file), c->hidden, c->heads);
        c->head_dim = c->hidden / c->heads;
        if (value_length == 0)
            value_length = c->head_dim;
    }
    if (value_length != c->head_dim || c->head_dim % 32 != 0 || c->head_dim > PQ_MAX_HEAD_DIM)
        return pq_fail_at(
            r->err, PQ_ERR_UNSUPPORTED, r->key, -1,
            "%s: attention heads of %u (keys) and %u (values) are not supported; both "
            "must be equal, a multiple of 32 and at most %d",
            pq_file_name(r->file), c->head_dim, value_length, PQ_MAX_HEAD_DIM);
    return PQ_OK;
}

/* Qwen2.5's checkpoints that ask for YaRN give the length from before as context_length. */
static uint32_t yarn_context(const pq_config *c) {
    const double stretched = (double)c->yarn_original_context * c->rope_scale_factor;
    if (stretched <= c->context)
        return c->context;
    return stretched < MAX_CONTEXT ? (uint32_t)stretched : MAX_CONTEXT;
}

static pq_status read_rope(reader *r, pq_config *c) {
    pq_status st;
    c->rope_base = 10000.0f;
    if ((st = read_f32(r, "rope.freq_base", 1.0, 1e12, &c->rope_base, 0)) != PQ_OK)
        return st;
    c->rope_dim = c->head_dim;
    if ((st = read_u32(r, "rope.dimension_count", 2, PQ_MAX_HEAD_DIM, &c->rope_dim, 0)) != PQ_OK)
        return st;
    if (c->rope_dim != c->head_dim)
        return pq_fail_at(r->err, PQ_ERR_UNSUPPORTED, r->key, -1,
                          "%s: rotary embedding of %u of a head's %u dimensions is not supported",
                          pq_file_name(r->file), c->rope_dim, c->head_dim);
    c->rope_scale_factor = 1.0f;
    c->yarn = 0;
    c->yarn_original_context = c->context;
    char kind[32] = "none";
    if ((st = pq_file_get_text(r->file, arch_key(r, "rope.scaling.type"), kind, sizeof kind, 0,
                               r->err)) != PQ_OK)
        return st;
    if (strcmp(kind, "none") == 0)
        return PQ_OK;
    if (strcmp(kind, "linear") != 0 && strcmp(kind, "yarn") != 0)
        return pq_fail_at(r->err, PQ_ERR_UNSUPPORTED, r->key, -1,
                          "%s: RoPE scaling '%s' is not supported; this version knows none, linear "
                          "and yarn",
                          pq_file_name(r->file), kind);
    c->yarn = strcmp(kind, "yarn") == 0;
    if ((st = read_f32(r, "rope.scaling.factor", 1e-3, 1e6, &c->rope_scale_factor, 1)) != PQ_OK)
        return st;
    if ((st = read_u32(r, "rope.scaling.original_context_length", 1, MAX_CONTEXT,
                       &c->yarn_original_context, 0)) != PQ_OK)
        return st;
    if (c->yarn)
        c->context = yarn_context(c);
    return PQ_OK;
}

/* Token types of GGUF; padding entries at the end of the vocabulary carry the last one. */
enum { TOKEN_UNUSED = 5 };

static int32_t token_type(const pq_key *types, uint64_t i) {
    int32_t value;
    memcpy(&value, (const uint8_t *)types->data + 4 * i, 4);
    return value;
}

static pq_status read_vocabulary(const pq_file *file, pq_config *c, pq_error *err) {
    const pq_key *tokens = pq_file_find_key(file, "tokenizer.ggml.tokens");
    const pq_key *types = pq_file_find_key(file, "tokenizer.ggml.token_type");
    if (!tokens || tokens->type != PQ_VALUE_ARRAY || tokens->element != PQ_VALUE_STRING)
        return pq_fail_at(err, PQ_ERR_FORMAT, "tokenizer.ggml.tokens", -1,
                          "%s: the key 'tokenizer.ggml.tokens' (an array of strings) is missing; "
                          "convert the model again with its tokenizer",
                          pq_file_name(file));
    if (tokens->count < 1 || tokens->count > MAX_VOCAB)
        return pq_fail_at(err, PQ_ERR_FORMAT, "tokenizer.ggml.tokens", (int64_t)tokens->offset,
                          "%s: a vocabulary of %llu tokens is outside 1..%d", pq_file_name(file),
                          (unsigned long long)tokens->count, MAX_VOCAB);
    c->vocab = (uint32_t)tokens->count;
    c->real_tokens = c->vocab;
    if (!types || types->type != PQ_VALUE_ARRAY || types->count != tokens->count ||
        (types->element != PQ_VALUE_I32 && types->element != PQ_VALUE_U32))
        return PQ_OK; /* no types: nothing marks padding */
    while (c->real_tokens > 1 && token_type(types, c->real_tokens - 1) == TOKEN_UNUSED)
        c->real_tokens--;
    return PQ_OK;
}

static pq_status wrong_shape(const pq_file *file, const pq_tensor *t, uint64_t cols, uint64_t rows,
                             pq_error *err) {
    return pq_fail_at(err, PQ_ERR_FORMAT, t->name, (int64_t)t->offset,
                      "%s: tensor '%s' has shape [%llu, %llu], but the hyperparameters ask for "
                      "[%llu, %llu]; the file is damaged or was converted wrongly",
                      pq_file_name(file), t->name, (unsigned long long)t->dims[0],
                      (unsigned long long)t->dims[1], (unsigned long long)cols,
                      (unsigned long long)rows);
}

static pq_status check_type(const pq_file *file, const pq_tensor *t, pq_error *err) {
    if (pq_type_name(t->type))
        return PQ_OK;
    const char *known = pq_type_known_name(t->type);
    return pq_fail_at(err, PQ_ERR_UNSUPPORTED, t->name, (int64_t)t->offset,
                      "%s: tensor '%s' has type %s, which this version cannot run; quantize the "
                      "model to a supported type such as Q4_K_M or Q8_0",
                      pq_file_name(file), t->name, known ? known : "unknown");
}

/* The tensor of a role; NULL if the architecture has none, or the file. */
static const pq_tensor *find_role(const pq_file *file, const pq_config *c, const char *role) {
    pq_tensor_spec spec;
    for (uint32_t i = 0; pq_tensor_spec_at(&spec, c, i); i++)
        if (strcmp(spec.is.role, role) == 0)
            return pq_file_find_tensor(file, spec.is.name);
    return NULL;
}

pq_status pq_find_tensor(const pq_tensor **out, const pq_file *file, const pq_config *c,
                         const pq_architecture_tensor *spec, uint32_t layer, pq_error *err) {
    char name[PQ_TENSOR_NAME_BYTES];
    pq_tensor_name(name, spec, layer);
    const pq_tensor *t = pq_file_find_tensor(file, name);
    if (!t && spec->tied_to)
        t = find_role(file, c, spec->tied_to);
    *out = t;
    if (!t)
        return spec->required ? pq_fail_at(err, PQ_ERR_FORMAT, name, -1,
                                           "%s: tensor '%s' is missing; the file is incomplete or "
                                           "was converted for another architecture",
                                           pq_file_name(file), name)
                              : PQ_OK;
    if (t->dims[0] != spec->cols || t->dims[1] != spec->rows || t->dims[2] != 1 || t->dims[3] != 1)
        return wrong_shape(file, t, spec->cols, spec->rows, err);
    return check_type(file, t, err);
}

/* Every tensor of the architecture is there and fits, and no other: one that we would silently leave out
 * changes what the model computes. */
static pq_status check_tensors(const pq_file *file, pq_config *c, pq_error *err) {
    pq_tensor_spec spec;
    for (uint32_t i = 0; pq_tensor_spec_at(&spec, c, i); i++) {
        const uint32_t layers = spec.is.in_layer ? c->layers : 1;
        for (uint32_t layer = 0; layer < layers; layer++) {
            const pq_tensor *t;
            const pq_status st = pq_find_tensor(&t, file, c, &spec.is, layer, err);
            if (st != PQ_OK)
                return st;
            if (spec.is.tied_to)
                c->tied = strcmp(t->name, spec.is.name) != 0;
        }
    }
    const pq_tensor *t;
    for (uint64_t i = 0; (t = pq_file_tensor(file, i)) != NULL; i++)
        if (!pq_tensor_is_known(t->name, c))
            return pq_fail_at(err, PQ_ERR_UNSUPPORTED, t->name, (int64_t)t->offset,
                              "%s: tensor '%s' is not part of the %s architecture as this version "
                              "runs it; leaving it out would change the answers",
                              pq_file_name(file), t->name, c->architecture);
    return PQ_OK;
}

pq_status pq_config_read(pq_config *out, const pq_file *file, pq_error *err) {
    pq_config c;
    memset(&c, 0, sizeof c);
    pq_status st = read_architecture(file, &c, err);
    if (st != PQ_OK)
        return st;
    reader r = {.file = file, .arch = c.architecture, .err = err};
    if ((st = check_causal(&r)) != PQ_OK ||
        (st = read_u32(&r, "block_count", 1, MAX_LAYERS, &c.layers, 1)) != PQ_OK ||
        (st = read_u32(&r, "embedding_length", 32, MAX_WIDTH, &c.hidden, 1)) != PQ_OK ||
        (st = read_u32(&r, "feed_forward_length", 32, MAX_WIDTH, &c.ffn, 1)) != PQ_OK ||
        (st = read_u32(&r, "context_length", 1, MAX_CONTEXT, &c.context, 1)) != PQ_OK ||
        (st = read_f32(&r, "attention.layer_norm_rms_epsilon", 1e-12, 1e-2, &c.norm_eps, 1)) !=
            PQ_OK ||
        (st = read_heads(&r, &c)) != PQ_OK || (st = read_rope(&r, &c)) != PQ_OK ||
        (st = read_vocabulary(file, &c, err)) != PQ_OK)
        return st;
    if (c.hidden % 32 != 0 || c.ffn % 32 != 0)
        return pq_fail(err, PQ_ERR_UNSUPPORTED, "%s: widths %u and %u must be multiples of 32",
                       pq_file_name(file), c.hidden, c.ffn);
    pq_tensor_spec lookup;
    pq_tensor_spec_of_kind(&lookup, &c, PQ_TENSOR_LOOKUP);
    const pq_tensor *embedding = pq_file_find_tensor(file, lookup.is.name);
    if (!embedding)
        return pq_fail_at(err, PQ_ERR_FORMAT, lookup.is.name, -1,
                          "%s: tensor '%s' is missing; the file holds no model (a vocabulary or an "
                          "adapter?)",
                          pq_file_name(file), lookup.is.name);
    if (embedding->dims[1] < c.vocab || embedding->dims[1] > MAX_VOCAB)
        return pq_fail_at(
            err, PQ_ERR_FORMAT, embedding->name, (int64_t)embedding->offset,
            "%s: the embedding has %llu rows for a vocabulary of %u tokens; tokenizer "
            "and weights do not belong together",
            pq_file_name(file), (unsigned long long)embedding->dims[1], c.vocab);
    c.vocab_rows = (uint32_t)embedding->dims[1];
    if ((st = check_tensors(file, &c, err)) != PQ_OK)
        return st;
    *out = c;
    return PQ_OK;
}
