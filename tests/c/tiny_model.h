/* tiny_model.h - writes small but complete models: valid GGUF files of any tensor types and shape, with
 * weights from a random seed. For tests that need a model and nothing but C. */
#ifndef PQ_TINY_MODEL_H
#define PQ_TINY_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "pyqwen_quantize.h"
#include "pyqwen_sampling.h"
#include "formats/types.h"

enum { TINY_MATRICES = 9 }; /* q k v o gate up down, embedding, output */

typedef struct tiny_spec {
    const char *architecture;
    uint32_t layers, hidden, ffn, heads, kv_heads, head_dim, context;
    uint32_t tokens, rows;         /* of the vocabulary and of its matrices */
    uint32_t types[TINY_MATRICES]; /* in the order above; the last counts if untied */
    uint32_t vector_type;          /* of norms and biases */
    int untied;
    const char *rope_scaling; /* "none", "linear", "yarn" */
    float rope_factor;
    uint32_t rope_original;
    uint64_t seed;
} tiny_spec;

typedef struct tiny_tensor {
    char name[64];
    uint32_t type;
    uint64_t cols, rows; /* rows 0: a vector */
} tiny_tensor;

static void tiny_put(FILE *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        fputc((int)(value >> (8 * i) & 0xFF), out);
}

static void tiny_text(FILE *out, const char *text) {
    tiny_put(out, strlen(text), 8);
    fwrite(text, 1, strlen(text), out);
}

static void tiny_key(FILE *out, const tiny_spec *spec, const char *name, pq_value_type type) {
    char key[96];
    const int ours = strncmp(name, "general.", 8) != 0 && strncmp(name, "tokenizer.", 10) != 0;
    snprintf(key, sizeof key, "%s%s%s", ours ? spec->architecture : "", ours ? "." : "", name);
    tiny_text(out, key);
    tiny_put(out, type, 4);
}

static void tiny_integer(FILE *out, const tiny_spec *spec, const char *name, uint32_t value) {
    tiny_key(out, spec, name, PQ_VALUE_U32);
    tiny_put(out, value, 4);
}

static void tiny_real(FILE *out, const tiny_spec *spec, const char *name, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    tiny_key(out, spec, name, PQ_VALUE_F32);
    tiny_put(out, bits, 4);
}

enum { TINY_KEYS = 15 };

static void tiny_keys(FILE *out, const tiny_spec *spec) {
    tiny_key(out, spec, "general.architecture", PQ_VALUE_STRING);
    tiny_text(out, spec->architecture);
    tiny_integer(out, spec, "block_count", spec->layers);
    tiny_integer(out, spec, "embedding_length", spec->hidden);
    tiny_integer(out, spec, "feed_forward_length", spec->ffn);
    tiny_integer(out, spec, "context_length", spec->context);
    tiny_integer(out, spec, "attention.head_count", spec->heads);
    tiny_integer(out, spec, "attention.head_count_kv", spec->kv_heads);
    tiny_integer(out, spec, "attention.key_length", spec->head_dim);
    tiny_integer(out, spec, "attention.value_length", spec->head_dim);
    tiny_real(out, spec, "attention.layer_norm_rms_epsilon", 1e-6f);
    tiny_real(out, spec, "rope.freq_base", 1e4f);
    tiny_key(out, spec, "rope.scaling.type", PQ_VALUE_STRING);
    tiny_text(out, spec->rope_scaling);
    tiny_real(out, spec, "rope.scaling.factor", spec->rope_factor);
    tiny_integer(out, spec, "rope.scaling.original_context_length", spec->rope_original);
    tiny_key(out, spec, "tokenizer.ggml.tokens", PQ_VALUE_ARRAY);
    tiny_put(out, PQ_VALUE_STRING, 4);
    tiny_put(out, spec->tokens, 8);
    for (uint32_t i = 0; i < spec->tokens; i++)
        tiny_text(out, "t");
}

enum { TINY_MAX_LAYERS = 4, TINY_MAX_TENSORS = 16 * TINY_MAX_LAYERS + 3 };

/* One tensor of a layer or of the model, in its type; matrices of a layer count on `matrix`. */
static tiny_tensor tiny_of(const tiny_spec *s, const pq_architecture_tensor *t, uint32_t layer,
                           uint32_t *matrix) {
    tiny_tensor out = {.type = s->vector_type, .cols = t->cols};
    if (t->in_layer)
        snprintf(out.name, sizeof out.name, "blk.%u.%.40s", (unsigned)layer, t->name);
    else
        snprintf(out.name, sizeof out.name, "%.40s", t->name);
    if (t->kind == PQ_TENSOR_LOOKUP)
        out.type = s->types[7];
    else if (t->kind == PQ_TENSOR_MATRIX)
        out.type = s->types[t->in_layer ? (*matrix)++ : 8];
    else
        return out;
    out.rows = t->rows;
    return out;
}

static uint32_t tiny_tensors(const tiny_spec *s, tiny_tensor *list) {
    pq_config c = {.hidden = s->hidden,
                   .ffn = s->ffn,
                   .heads = s->heads,
                   .kv_heads = s->kv_heads,
                   .head_dim = s->head_dim,
                   .vocab_rows = s->rows};
    snprintf(c.architecture, sizeof c.architecture, "%s", s->architecture);
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < s->layers; layer++) {
        pq_architecture_tensor t;
        uint32_t matrix = 0;
        for (uint32_t i = 0; pq_architecture_tensor_at(&c, i, &t, NULL) == PQ_OK; i++)
            if ((t.in_layer || layer == 0) && t.kind != PQ_TENSOR_FACTORS &&
                (!t.tied_to || s->untied))
                list[n++] = tiny_of(s, &t, layer, &matrix);
    }
    return n;
}

static uint64_t tiny_bytes(const tiny_tensor *t) {
    return t->cols / pq_type_block(t->type) * pq_type_bytes(t->type) * (t->rows ? t->rows : 1);
}

/* The f16 numbers of a block (offset + 1; 0: none), which random bytes would make infinite. */
static const uint8_t TINY_SCALES[PQ_TYPE_COUNT][2] = {
    [PQ_F16] = {1},     [PQ_Q4_0] = {1},    [PQ_Q4_1] = {1, 3},   [PQ_Q5_0] = {1},
    [PQ_Q5_1] = {1, 3}, [PQ_Q8_0] = {1},    [PQ_Q2_K] = {81, 83}, [PQ_Q3_K] = {109},
    [PQ_Q4_K] = {1, 3}, [PQ_Q5_K] = {1, 3}, [PQ_Q6_K] = {209},    [PQ_IQ4_NL] = {1},
    [PQ_IQ4_XS] = {1},
};

static uint8_t tiny_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint8_t)(*state >> 56);
}

/* A random block whose numbers are of the size of real weights. */
static void tiny_block(uint32_t type, uint8_t *block, uint64_t *state) {
    const uint32_t n = pq_type_bytes(type);
    for (uint32_t i = 0; i < n; i++)
        block[i] = tiny_random(state);
    for (int i = 0; i < 2 && TINY_SCALES[type][i]; i++) { /* about 2^-9; of F16 2^-4 */
        uint8_t *high = &block[TINY_SCALES[type][i]];
        *high = (uint8_t)((*high & 0x83) | (type == PQ_F16 ? 0x2C : 0x18));
    }
    if (type == PQ_F32 || type == PQ_BF16) /* 2^-4 to 2^-3 */
        block[n - 1] = (uint8_t)((block[n - 1] & 0x80) | 0x3D), block[n - 2] &= 0x7F;
}

static void tiny_data(FILE *out, const tiny_tensor *t, uint64_t *state) {
    const uint32_t n = pq_type_bytes(t->type);
    uint8_t blocks[4096]; /* each call of fwrite costs more than a small block */
    size_t used = 0;
    for (uint64_t left = tiny_bytes(t); left > 0; left -= n) {
        tiny_block(t->type, blocks + used, state);
        used += n;
        if (used + n > sizeof blocks || left == n) {
            fwrite(blocks, 1, used, out);
            used = 0;
        }
    }
}

/* The file's bytes before its tensors' data. */
static long tiny_write(FILE *out, const tiny_spec *spec) {
    static tiny_tensor list[TINY_MAX_TENSORS];
    const uint32_t n = tiny_tensors(spec, list);
    fputs("GGUF", out);
    tiny_put(out, 3, 4);
    tiny_put(out, n, 8);
    tiny_put(out, TINY_KEYS, 8);
    tiny_keys(out, spec);
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        tiny_text(out, list[i].name);
        tiny_put(out, list[i].rows ? 2 : 1, 4);
        tiny_put(out, list[i].cols, 8);
        if (list[i].rows)
            tiny_put(out, list[i].rows, 8);
        tiny_put(out, list[i].type, 4);
        tiny_put(out, at, 8);
        at += (tiny_bytes(&list[i]) + 31) / 32 * 32;
    }
    const long header = ftell(out);
    uint64_t state = spec->seed;
    for (uint32_t i = 0; i < n; i++) {
        while (ftell(out) % 32 != 0)
            fputc(0, out);
        tiny_data(out, &list[i], &state);
    }
    return header;
}

#endif
