/* pyqwen_quantize.h - the public interface of making model files, on top of pyqwen.h and by its rules: what a
 * model is made of, weights to smaller types, and what that costs.
 */
#ifndef PYQWEN_QUANTIZE_H
#define PYQWEN_QUANTIZE_H

#include "pyqwen.h"

/* ------------------------------------------------------------------------------------ architectures */

/* A way of building a transformer, of which models have different sizes. */
typedef struct pq_architecture {
    const char *name;             /* general.architecture */
    const char *checkpoint_class; /* in config.json of a Hugging Face checkpoint */
    uint32_t rope_neox;           /* 1: rotates halves of a head, 0: interleaved pairs */
    uint32_t head_dim;            /* where a checkpoint does not say; 0: hidden / heads */
} pq_architecture;

/* One after the other; NULL past the last. */
const pq_architecture *pq_architecture_at(uint32_t index);

/* What matrices are multiplied with, told by those that share it. */
typedef enum pq_imatrix_input {
    PQ_IMATRIX_QKV = 0,
    PQ_IMATRIX_ATTENTION_OUTPUT = 1,
    PQ_IMATRIX_GATE_UP = 2,
    PQ_IMATRIX_DOWN = 3,
    PQ_IMATRIX_OUTPUT = 4, /* the output matrix; for rows with `output` only */
    PQ_IMATRIX_NONE = 5    /* of a tensor that nothing is multiplied with */
} pq_imatrix_input;

typedef enum pq_tensor_kind {
    PQ_TENSOR_LOOKUP = 0, /* a matrix whose rows are looked up */
    PQ_TENSOR_MATRIX = 1, /* a matrix that activations are multiplied with */
    PQ_TENSOR_NORM = 2,   /* a vector: the weights of a norm */
    PQ_TENSOR_BIAS = 3,   /* a vector that is added to a product */
    PQ_TENSOR_FACTORS = 4 /* a vector: divisors of the rotary frequencies */
} pq_tensor_kind;

/* One tensor of an architecture, for the sizes of one model. */
typedef struct pq_architecture_tensor {
    const char *role;       /* what it is to the model, such as "query" or "ffn_norm" */
    const char *name;       /* in a file; of a layer's tensor what follows "blk.N." */
    const char *checkpoint; /* in a Hugging Face checkpoint, after "model.layers.N."; or NULL */
    const char *tied_to;    /* the role of what serves where this is missing; or NULL */
    pq_tensor_kind kind;
    pq_imatrix_input input; /* of a PQ_TENSOR_MATRIX */
    uint32_t in_layer;      /* 1: every layer has one */
    uint32_t required;      /* 0: a file may come without it */
    uint32_t reordered;     /* 1: its rows stand in interleaved pairs, in a checkpoint in halves */
    uint64_t rows, cols;    /* a vector has one row */
} pq_architecture_tensor;

/* Tensor `index` of config->architecture, in the order in which files are written: what comes before the layers,
 * one layer, what comes after. Of the config, only architecture, hidden, ffn, heads, kv_heads, head_dim and
 * vocab_rows count. PQ_ERR_NOT_FOUND past the last, PQ_ERR_UNSUPPORTED for an unknown architecture. */
pq_status pq_architecture_tensor_at(const pq_config *config, uint32_t index,
                                    pq_architecture_tensor *out, pq_error *err);

/* --------------------------------------------------------------------------------------- quantizing */

/* Quantizes x (rows, cols) to any type that can be read; cols is a multiple of its block, dst receives
 * rows * cols / pq_type_block * pq_type_bytes bytes. Scales and integers are searched that make the squared
 * error small or, with importance (cols; the mean square of the activations that meet each column), the
 * error that it weights. The bytes are the same for any number of threads on any machine.
 * PQ_ERR_NUMERIC for a weight that is not finite or, but for F32 and BF16, beyond f16 (65504), naming row
 * and column; dst is then, as after a cancel, written in part. isa: as in pq_isa_name; NULL: the best. */
pq_status pq_quantize_weights(const char *isa, uint32_t type, const float *x, size_t rows,
                              size_t cols, const float *importance, void *dst, uint32_t threads,
                              const pq_cancel *cancel, pq_error *err);

/* GPTQ of one panel of columns, at most 256, whole blocks: those of x (rows, x_stride) are quantized
 * to `type` into dst (rows, dst_stride bytes). factor (cols, cols): the panel's diagonal block of U, the upper
 * Cholesky factor of the inverse of the inputs' second moments (of all columns of the matrix). errors (rows, cols)
 * receives what the caller takes off the columns right of the panel: x[:, right] -= errors * U[panel, right];
 * the sum of its squares is the expected squared error of the outputs. isa, threads and cancel as above. PQ_ERR_NUMERIC
 * where the diagonal is not positive. (Frantar et al., arXiv 2210.17323.) */
pq_status pq_gptq_panel(const char *isa, uint32_t type, const float *x, size_t x_stride,
                        size_t rows, size_t cols, const float *factor, void *dst, size_t dst_stride,
                        float *errors, uint32_t threads, const pq_cancel *cancel, pq_error *err);

/* Sums over a tensor x that was quantized to y. */
typedef struct pq_quantization_error {
    double error;           /* (y - x)^2 */
    double energy;          /* x^2 */
    double weighted_error;  /* importance of the column * (y - x)^2; without importances as above */
    double weighted_energy; /* importance of the column * x^2 */
    double worst;           /* of the blocks: the largest error, relative to its weights */
    uint64_t worst_row;     /* where that block begins */
    uint64_t worst_column;
} pq_quantization_error;

/* Compares `data`, rows of `type`, with x (rows, cols). importance (cols) may be NULL. */
pq_status pq_measure_quantization(uint32_t type, const void *data, const float *x, size_t rows,
                                  size_t cols, const float *importance, uint32_t threads,
                                  const pq_cancel *cancel, pq_quantization_error *out,
                                  pq_error *err);

/* ---------------------------------------------------------------------------------------- measuring */

/* How the distribution of a model differs from that of a reference at one position. */
typedef struct pq_divergence {
    double kld;               /* Kullback-Leibler divergence from the reference, in nats, >= 0 */
    double reference_logprob; /* natural log of the probability that it gives the target */
    double logprob;           /* the same of the model */
    uint32_t same_top;        /* 1: both find the same token likeliest */
} pq_divergence;

/* Compares outputs first .. first + n - 1 of two sessions, which evaluated the same tokens with two models
 * of one vocabulary, over the real tokens; targets and out hold n. The logits are made and dropped a few
 * rows at a time; `session` gives the threads, and cancelling either stops it. */
pq_status pq_session_compare(pq_session *reference, pq_session *session, uint32_t first, uint32_t n,
                             const int32_t *targets, pq_divergence *out, pq_error *err);

/* Begins (1) to collect an importance matrix, with nothing added up yet, or stops (0), which forgets the
 * sums. While it is on, every evaluation adds the squares of the inputs of all matrices up, per column: in
 * float64 and in the order of the rows, so that the sums depend neither on threads nor on how a text was cut
 * into evaluations. One that fails adds nothing. */
pq_status pq_session_collect_imatrix(pq_session *session, int on, pq_error *err);
/* Copies the sums of one input (`columns` of them, which must be its width) and says over how many rows they
 * go. layer is 0 for PQ_IMATRIX_OUTPUT. PQ_ERR_ARGUMENT where nothing is collected. */
pq_status pq_session_imatrix(const pq_session *session, pq_imatrix_input input, uint32_t layer,
                             double *sums, size_t columns, uint64_t *rows, pq_error *err);

#endif
