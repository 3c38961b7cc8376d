/* model.h - a loaded model: hyperparameters and the table of weights. Immutable once open. */
#ifndef PQ_MODEL_H
#define PQ_MODEL_H

#include "../base/mapfile.h"
#include "../base/status.h"
#include "../gguf/gguf.h"
#include "../kernels/kernels.h"
#include "architecture.h"

/* Most query heads that share a key/value head: an attention tile holds at least one such group. */
enum { PQ_MAX_HEAD_GROUP = 64 };

/* Shapes are (rows, cols): a matrix maps cols inputs to rows outputs. hd = head_dim. */
typedef struct pq_layer {
    float *attn_norm;                /* (hidden) */
    pq_matrix q;                     /* (heads * hd, hidden) */
    pq_matrix k, v;                  /* (kv_heads * hd, hidden) */
    pq_matrix o;                     /* (hidden, heads * hd) */
    float *q_bias, *k_bias, *v_bias; /* as many as rows, or NULL */
    float *q_norm, *k_norm;          /* (hd) of each head, or NULL */
    float *ffn_norm;                 /* (hidden) */
    pq_matrix gate, up;              /* (ffn, hidden) */
    pq_matrix down;                  /* (hidden, ffn) */
} pq_layer;

struct pq_model {
    pq_config config;
    const pq_kernels *kernels;
    int exact;            /* float32 activations through kernels->gemm_exact */
    int coarse;           /* activations in the blocks of their weights, even of 256 */
    const pq_file *file;  /* borrowed; matrices that are not packed may point into it */
    int mapped;           /* 1: some do */
    pq_layer *layers;     /* (config.layers) */
    pq_matrix embedding;  /* (vocab_rows, hidden): rows to look up */
    pq_matrix output;     /* (vocab_rows, hidden): the same matrix when tied */
    float *output_norm;   /* (hidden) */
    float *rope_factors;  /* (hd / 2) divisors of the frequencies, or NULL */
    double *rope_freqs;   /* (hd / 2) angle per position */
    float rope_scale;     /* of cosines and sines: YaRN's attention factor, else 1 */
    const uint8_t *image; /* (image_bytes) what the pointers above point into, but for the tables */
    size_t image_bytes;
    int packs;                /* 1: the image was packed here, and could be stored */
    pq_map packed;            /* where the image is mapped from, if packed.data */
    char packed_problem[256]; /* why it is not, though there is such a file */
    uint64_t mapped_bytes;    /* of matrices that point into the file */
};

/* The tensor that a file has for `spec`, in layer number `layer` if that is in layers, its shape and type
 * checked. Where it is missing: what it is tied to, else NULL, or an error if it is required. */
pq_status pq_find_tensor(const pq_tensor **out, const pq_file *file, const pq_config *config,
                         const pq_architecture_tensor *spec, uint32_t layer, pq_error *err);

/* The angle per position of each pair, and the factor of YaRN: `factors` (hd / 2) divide the frequencies, may
 * be NULL. freqs: (hd / 2). */
void pq_rope_frequencies(const pq_config *config, const float *factors, double *freqs,
                         float *scale);

/* PQ_ERR_CHANGED if a file that weights are mapped from was written to. */
pq_status pq_model_check_unchanged(const pq_model *model, pq_error *err);

/* What pq_model_weight_bytes will say of a model for a kernel table with so many lanes. */
pq_status pq_loaded_bytes(uint64_t *out, const pq_file *file, const pq_config *config,
                          uint32_t lanes, pq_error *err);

#endif
