/* pyqwen.h - the public interface of the core: files, models, sessions. pyqwen_tokenizer.h, pyqwen_sampling.h
 * and pyqwen_quantize.h stand on it. (pyqwen_test.h is for tests and benchmarks of the core.)
 *
 * The walk of a request: pq_file (bytes -> directory of keys and tensors) -> pq_model (weights in the
 * layout the kernels stream) -> pq_session (KV cache; evaluates rows of tokens) -> logits -> pq_sampler.
 * Beside it pq_tokenizer turns text into tokens and back.
 *
 * Rules that hold for every function:
 *   - The core never prints, aborts or exits. What can fail returns a pq_status and, on failure, fills
 *     *err (which may be NULL). Outputs are written on success only.
 *   - Handles are opaque. Each _open has a _close, which accepts NULL. `const` means borrowed.
 *   - Sizes are in elements unless the name says bytes. Token ids are int32_t, never negative.
 *   - Text is UTF-8 and NUL-terminated unless a length is passed with it.
 *   - A pq_file and a pq_model are immutable and may be shared by threads. A pq_session or pq_sampler
 *     belongs to one thread at a time; only pq_session_cancel may be called from another.
 *
 * The Python binding is generated from these files (cmake/make_ffi.py): keep to plain declarations.
 */
#ifndef PYQWEN_H
#define PYQWEN_H

#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------------------------------ version */

#define PQ_VERSION_MAJOR 0
#define PQ_VERSION_MINOR 1
#define PQ_VERSION_PATCH 0

/* "0.1.0": of the library that is linked, where the macros are of the header that was compiled against. */
const char *pq_version(void);

/* ------------------------------------------------------------------------------------------- status */

typedef enum pq_status {
    PQ_OK = 0,
    PQ_ERR_ARGUMENT,    /* the caller's mistake: a range, a NULL, an unknown name */
    PQ_ERR_NOT_FOUND,   /* no such file */
    PQ_ERR_IO,          /* the operating system refused to open or read */
    PQ_ERR_FORMAT,      /* the bytes break the rules of the file format */
    PQ_ERR_UNSUPPORTED, /* well-formed, but not something this version runs */
    PQ_ERR_MEMORY,      /* an allocation failed; everything is as before the call */
    PQ_ERR_CONTEXT,     /* a sequence would grow beyond the context */
    PQ_ERR_NUMERIC,     /* not a number, or too large: a weight, or what came of it */
    PQ_ERR_CANCELLED,   /* by pq_session_cancel (the sequences are as before) or pq_cancel */
    PQ_ERR_CHANGED,     /* a mapped file is no longer what it was when it was opened */
    PQ_ERR_FORKED       /* the process was forked: threads and sessions stayed with the parent */
} pq_status;

typedef struct pq_error {
    char text[640];  /* what is wrong, where, and what to do */
    char field[128]; /* the key or tensor concerned, or "" */
    int64_t offset;  /* byte position in the file, or -1 */
} pq_error;

/* A flag that stops a long call: any thread may set it, and the call returns PQ_ERR_CANCELLED within
 * milliseconds. Functions accept NULL for none. */
typedef struct pq_cancel pq_cancel;

pq_status pq_cancel_open(pq_cancel **out, pq_error *err);
/* No call may be using it any more. */
void pq_cancel_close(pq_cancel *cancel);
void pq_cancel_set(pq_cancel *cancel, int value);

/* --------------------------------------------------------------------------------------- GGUF files */

typedef struct pq_file pq_file;

typedef enum pq_load {
    PQ_LOAD_MMAP = 0, /* map the file, for matrices that are used as they are */
    PQ_LOAD_COPY = 1  /* read it: nothing stays mapped, nobody can change the weights under us */
} pq_load;

/* Value types as numbered by the GGUF specification. */
typedef enum pq_value_type {
    PQ_VALUE_U8 = 0,
    PQ_VALUE_I8 = 1,
    PQ_VALUE_U16 = 2,
    PQ_VALUE_I16 = 3,
    PQ_VALUE_U32 = 4,
    PQ_VALUE_I32 = 5,
    PQ_VALUE_F32 = 6,
    PQ_VALUE_BOOL = 7,
    PQ_VALUE_STRING = 8,
    PQ_VALUE_ARRAY = 9,
    PQ_VALUE_U64 = 10,
    PQ_VALUE_I64 = 11,
    PQ_VALUE_F64 = 12
} pq_value_type;

/* One metadata entry. `data` points at little-endian bytes owned by the file and valid until it closes:
 * a scalar's or a numeric array's elements back to back (unaligned), or a string's text. Arrays of
 * strings have data = NULL: pq_file_strings gives them. */
typedef struct pq_key {
    const char *name; /* NUL-terminated UTF-8 */
    uint32_t type;    /* pq_value_type; PQ_VALUE_ARRAY for arrays */
    uint32_t element; /* the elements' type: of an array, else equal to type */
    uint64_t count;   /* elements: 1 for scalars and strings */
    uint64_t offset;  /* of the value in the (first) file */
    const void *data;
    uint64_t bytes; /* at data */
} pq_key;

typedef struct pq_tensor {
    const char *name;
    uint32_t type;    /* as numbered by ggml; pq_type_name names it */
    uint32_t n_dims;  /* 1..4 */
    uint64_t dims[4]; /* fastest first: dims[0] is a row's length; absent ones are 1 */
    uint64_t bytes;
    uint32_t shard;  /* which file of a split model */
    uint64_t offset; /* of the data in that file */
} pq_tensor;

typedef struct pq_file_info {
    uint32_t version, shards;
    uint64_t alignment, keys, tensors;
    uint64_t file_bytes;   /* all shards */
    uint64_t tensor_bytes; /* the sum over tensors */
} pq_file_info;

/* Opens and validates the file at `path`; of a split model any shard, and the others are found beside it. */
pq_status pq_file_open(pq_file **out, const char *path, pq_load load, pq_error *err);
void pq_file_close(pq_file *file);
void pq_file_describe(const pq_file *file, pq_file_info *out);
/* Index < keys or tensors, else NULL. Valid until the file closes. */
const pq_key *pq_file_key(const pq_file *file, uint64_t index);
const pq_key *pq_file_find_key(const pq_file *file, const char *name);
const pq_tensor *pq_file_tensor(const pq_file *file, uint64_t index);
const pq_tensor *pq_file_find_tensor(const pq_file *file, const char *name);
/* An array of strings as one run of bytes: text (key->bytes long; may be NULL to ask only for bounds)
 * receives all strings back to back, bounds (count + 1 entries) where each begins and ends. For such a
 * key, key->bytes is the total length of the texts. */
pq_status pq_file_strings(const pq_file *file, const pq_key *key, char *text, uint64_t *bounds,
                          pq_error *err);
/* Copies `bytes` bytes at `offset` inside a tensor's data. */
pq_status pq_file_read(const pq_file *file, const pq_tensor *tensor, uint64_t offset,
                       uint64_t bytes, void *dst, pq_error *err);

/* Texts one after the other, as pq_file_strings gives them. */
typedef struct pq_strings { /* number i is text[bounds[i]] .. text[bounds[i + 1] - 1] */
    const char *text;
    const uint64_t *bounds; /* (count + 1), ascending from 0 */
    uint64_t count;
} pq_strings;

/* ---------------------------------------------------------------------------------- tensor types */

/* NULL for a type this version cannot read; names as in "Q4_K". */
const char *pq_type_name(uint32_t type);
/* Also names types that exist but are not supported, else NULL. */
const char *pq_type_known_name(uint32_t type);
/* Elements per block and bytes per block; 0 for types this version cannot read. */
uint32_t pq_type_block(uint32_t type);
uint32_t pq_type_bytes(uint32_t type);
/* n must be a multiple of the block. src need not be aligned. */
pq_status pq_dequantize(uint32_t type, const void *src, size_t n, float *dst, pq_error *err);

/* ------------------------------------------------------------------------------------------- models */

typedef struct pq_model pq_model;

typedef struct pq_model_options {
    const char *isa;  /* an instruction set by name, or NULL for the best one here */
    uint32_t threads; /* used while loading; 0: pq_default_threads() */
    int exact;        /* 1: float32 activations, the reference path */
    /* 1: quantize what meets types with blocks of 256 in such blocks too, as llama.cpp does, to measure what
     * it would; worse than 0, and not for running. */
    int coarse;
    /* Called now and then while loading, from the calling thread: nonzero cancels. May be NULL. */
    int (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_arg;
    /* A file of packed weights to map instead of packing, or NULL. One that is not whole and of this very
     * model is not used, and that is no error. */
    const char *packed;
} pq_model_options;

typedef struct pq_config {
    char architecture[16]; /* the name of a pq_architecture */
    uint32_t layers, hidden, ffn, heads, kv_heads, head_dim, rope_dim;
    uint32_t context;     /* longest sequence: as trained, or as YaRN stretches it */
    uint32_t vocab;       /* tokens in the vocabulary */
    uint32_t vocab_rows;  /* rows of the output matrix, padding included */
    uint32_t real_tokens; /* that may be sampled: vocab without its padding entries at the end */
    uint32_t tied;        /* 1: one matrix for look-up and output */
    uint32_t rope_neox;   /* 1: halves, 0: interleaved pairs */
    float rope_base;
    float rope_scale_factor; /* 1 when none */
    uint32_t yarn;           /* 1: YaRN scaling with the factor above */
    uint32_t yarn_original_context;
    float norm_eps;
} pq_config;

/* Reads the hyperparameters and checks every tensor against them. Cheap: no weights are touched. */
pq_status pq_config_read(pq_config *out, const pq_file *file, pq_error *err);

/* Loads the weights. The model keeps using `file`, which must stay open until the model is closed. */
pq_status pq_model_open(pq_model **out, const pq_file *file, const pq_model_options *options,
                        pq_error *err);
void pq_model_close(pq_model *model);
const pq_config *pq_model_config(const pq_model *model);
const char *pq_model_isa(const pq_model *model);
uint64_t pq_model_weight_bytes(const pq_model *model);
/* "" if there was no options.packed or it was mapped; else why it is not used. */
const char *pq_model_packed_problem(const pq_model *model);

/* ---------------------------------------------------------------------------------- packed weights */

/* What packing makes of a file, as a file that a later pq_model_open maps. The caller writes it: all pieces of
 * the image, `piece` bytes each but for the last, from `offset` on; what is in front stays zero but for
 * the header, which comes last, at 0. So a file that is not whole has no header. */
typedef struct pq_packed_layout {
    const void *data; /* (bytes) the image; lives as long as the model */
    uint64_t bytes;   /* 0: this model packs nothing, or its weights are mapped from such a file */
    uint64_t offset;  /* of the image in the file */
    uint64_t header_bytes; /* <= offset */
    uint64_t piece, pieces;
} pq_packed_layout;

enum { PQ_PACKED_KEY_BYTES = 48 };

/* Names the packed form of a file for these options: key (PQ_PACKED_KEY_BYTES) receives letters, digits and a
 * dash. Another key comes of any other size, time of change, header or sample of the tensors, and of another
 * layout. *bytes: how large the file will be. "" and 0 where nothing would be packed: rows are used as they
 * are, or the file was opened with PQ_LOAD_COPY. */
pq_status pq_packed_key(const pq_file *file, const pq_model_options *options, char *key,
                        uint64_t *bytes, pq_error *err);
void pq_model_packed_layout(const pq_model *model, pq_packed_layout *out);
/* Of piece number `piece`; of session files, too. */
uint64_t pq_packed_checksum(uint64_t piece, const void *data, size_t bytes);
/* dst (header_bytes) from the checksums of all pieces (pieces). Fails if the source was changed meanwhile. */
pq_status pq_model_packed_header(const pq_model *model, const uint64_t *sums, void *dst,
                                 pq_error *err);

/* ----------------------------------------------------------------------------------------- sessions */

typedef struct pq_session pq_session;

typedef enum pq_kv_type { PQ_KV_F16, PQ_KV_Q8_0, PQ_KV_F32, PQ_KV_Q4_0, PQ_KV_Q5_1 } pq_kv_type;
/* "f16" and so on; NULL where the numbers end. */
const char *pq_kv_type_name(uint32_t type);

typedef struct pq_session_options {
    uint32_t context;                /* longest sequence; 0: as trained */
    uint32_t sequences;              /* how many may be alive at once, >= 1 */
    uint32_t threads;                /* 0: pq_default_threads() */
    uint32_t batch;                  /* most rows of one evaluation; 0: 256 */
    pq_kv_type key_type, value_type; /* of the cache */
} pq_session_options;

/* Bytes, as pq_session_open and its use will allocate them. */
typedef struct pq_memory_plan {
    uint64_t weights;      /* resident after loading */
    uint64_t kv_per_token; /* one position of one sequence */
    uint64_t kv;           /* all sequences at full context; grows as it is used */
    uint64_t compute;      /* activations, scratch and logits */
} pq_memory_plan;

pq_status pq_plan(pq_memory_plan *out, const pq_file *file, const pq_model_options *model,
                  const pq_session_options *session, pq_error *err);

/* One row of a batch: one token of one sequence. Its position is the sequence's length at that moment;
 * rows of one sequence follow each other in the order of their positions. */
typedef struct pq_row {
    int32_t token;
    uint32_t sequence;
    uint32_t output; /* 1: keep this row's final hidden state, for logits */
} pq_row;

/* The model must outlive the session. */
pq_status pq_session_open(pq_session **out, const pq_model *model,
                          const pq_session_options *options, pq_error *err);
void pq_session_close(pq_session *session);

uint32_t pq_session_context(const pq_session *session);
uint32_t pq_session_threads(const pq_session *session);
uint32_t pq_session_batch(const pq_session *session);
uint64_t pq_session_kv_bytes(const pq_session *session); /* allocated now */
/* Names the layout of the cache's blocks, which is the same on every machine and instruction set: blocks of one session
 * mean the same to another if and only if these are equal and the weights are. Lives as long as the session. */
const char *pq_session_kv_format(const pq_session *session);

uint32_t pq_session_length(const pq_session *session, uint32_t sequence);
/* Forgets the positions from `length` on. */
pq_status pq_session_rewind(pq_session *session, uint32_t sequence, uint32_t length, pq_error *err);
/* Makes `to` (emptied first) begin with the first `length` positions of `from`; whole blocks are shared. */
pq_status pq_session_fork(pq_session *session, uint32_t from, uint32_t to, uint32_t length,
                          pq_error *err);

/* Kept blocks: the keys and values of pq_session_block_positions() neighboring positions, the first a multiple of
 * that, which stay, whatever becomes of the sequence that filled them, until they are dropped. They are never
 * written to: a sequence that goes on in the middle of one gets a copy. */
uint32_t pq_session_block_positions(void);
uint64_t pq_session_block_bytes(const pq_session *session);
/* Keeps block number `block` of a sequence, the last of which may be held in part, under the number *kept. */
pq_status pq_session_keep(pq_session *session, uint32_t sequence, uint32_t block, uint32_t *kept,
                          pq_error *err);
/* Nothing happens for numbers under which no block is kept. */
void pq_session_drop(pq_session *session, uint32_t kept);
/* Makes a sequence hold `length` positions, those of the n kept blocks in their order: as many blocks as that
 * needs. Which tokens they were computed from, and at which positions, is for the caller to know. */
pq_status pq_session_adopt(pq_session *session, uint32_t sequence, const uint32_t *kept, uint32_t n,
                           uint32_t length, pq_error *err);
/* Copies the first `positions` of a kept block to dst (block_bytes), with zeros for the rest of it. */
pq_status pq_session_read_block(const pq_session *session, uint32_t kept, uint32_t positions,
                                void *dst, pq_error *err);
/* Keeps a block of what pq_session_read_block gave, in a session of the same identity, under the number *kept.
 * Any bytes are safe: wrong ones give wrong numbers, or PQ_ERR_NUMERIC, and no more. */
pq_status pq_session_write_block(pq_session *session, const void *src, uint32_t *kept,
                                 pq_error *err);
/* What the bytes of a block depend on besides its tokens: out[0] and out[1] the model's file, as for
 * pq_packed_key, out[2] type and layout of the cache, and how it is computed. */
pq_status pq_session_identity(const pq_session *session, uint64_t out[3], pq_error *err);

/* Runs n <= batch rows through the transformer and appends them to their sequences. On failure, also by
 * cancelling, every sequence is as it was. The rows with `output` can then be asked for logits, numbered
 * 0.. in their order, until the next evaluation. */
pq_status pq_session_eval(pq_session *session, const pq_row *rows, uint32_t n, pq_error *err);
uint32_t pq_session_outputs(const pq_session *session);
/* Raw logits of outputs first .. first + n - 1: dst is (n, vocab_rows). */
pq_status pq_session_logits(pq_session *session, uint32_t first, uint32_t n, float *dst,
                            pq_error *err);
/* Final hidden states, after the last norm, of the same outputs: dst is (n, hidden). */
pq_status pq_session_hidden(pq_session *session, uint32_t first, uint32_t n, float *dst,
                            pq_error *err);
/* Adds the same states to sum (hidden), in their order: cut into calls anywhere, the sum is the same. */
pq_status pq_session_add_hidden(pq_session *session, uint32_t first, uint32_t n, double *sum,
                                pq_error *err);
/* Natural-log probability of targets[i] after output first + i, over the real tokens; the logits are
 * made and dropped a few rows at a time. */
pq_status pq_session_logprobs(pq_session *session, uint32_t first, uint32_t n,
                              const int32_t *targets, float *dst, pq_error *err);

/* Sets (1) or clears (0) the flag that makes a running or later evaluation stop within milliseconds with
 * PQ_ERR_CANCELLED. Any thread, any time until the session is closed. */
void pq_session_cancel(pq_session *session, int cancel);

/* ----------------------------------------------------------------------------------------- adapters */

/* A low-rank adapter (LoRA): to what a matrix makes of a row x it adds  scale * B (A x). */
typedef struct pq_adapter pq_adapter;

enum { PQ_MAX_ADAPTER_RANK = 1024, PQ_MAX_SEQUENCE_ADAPTERS = 8 };

typedef struct pq_adapter_tensor {
    const char
        *name;     /* of the matrix in a file, such as blk.0.attn_q.weight: of a layer, once each */
    uint32_t rank; /* 1 .. PQ_MAX_ADAPTER_RANK, and no more than the widest matrix has columns */
    double scale;
} pq_adapter_tensor;

/* Bytes, as pq_adapter_open and sessions that use the adapter will allocate them. */
typedef struct pq_adapter_plan {
    uint64_t weights;
    uint64_t per_row; /* for each row of a session's batch; adapters of one sequence add up */
} pq_adapter_plan;

pq_status pq_plan_adapter(pq_adapter_plan *out, const pq_file *file, const pq_model_options *model,
                          const pq_adapter_tensor *tensors, uint32_t n, pq_error *err);

/* Makes room for an adapter of n matrices; the model must outlive it. All must then be filled, by their
 * indices, with A (rank, columns of the matrix) and B (rows of the matrix, rank): row after row, in types that
 * pq_dequantize takes, the bytes of all of it. PQ_ERR_NUMERIC for what is no finite number. One thread at a time
 * until then; afterwards it is immutable. */
pq_status pq_adapter_open(pq_adapter **out, const pq_model *model, const pq_adapter_tensor *tensors,
                          uint32_t n, pq_error *err);
pq_status pq_adapter_fill(pq_adapter *adapter, uint32_t index, uint32_t a_type, const void *a,
                          uint64_t a_bytes, uint32_t b_type, const void *b, uint64_t b_bytes,
                          pq_error *err);
void pq_adapter_close(pq_adapter *adapter);
uint64_t pq_adapter_bytes(const pq_adapter *adapter);

/* What a sequence is run with from now on, each adapter with a factor, in this order; n 0: none. What it holds
 * already stays as it was computed. They must outlive the session or this choice. */
pq_status pq_session_set_adapters(pq_session *session, uint32_t sequence,
                                  const pq_adapter *const *adapters, const float *scales,
                                  uint32_t n, pq_error *err);

/* ------------------------------------------------------------------------------------------ machine */

typedef struct pq_machine {
    char cpu[64];               /* brand, or "" */
    uint32_t logical_cores;     /* that this process may run on */
    uint32_t performance_cores; /* physical, the fast kind, within affinity and quota */
    float cpu_quota;            /* cores by cgroup quota; 0: none */
    uint64_t memory_bytes;      /* installed, or the cgroup's limit */
    uint64_t available_bytes;
} pq_machine;

void pq_machine_describe(pq_machine *out);
uint32_t pq_default_threads(void);
/* The instruction sets compiled in, best first; NULL past the end. */
const char *pq_isa_name(uint32_t index);
/* 1 if the processor and the operating system allow it. */
int pq_isa_available(const char *name);
/* What it is and where it was run, in one line; NULL for an unknown name. */
const char *pq_isa_summary(const char *name);
/* What is used unless another is named: the best that is available, of those that ran on a processor and not
 * in an emulator only (on Arm: neon). */
const char *pq_isa_default(void);
/* Reads `bytes` of memory with `threads` threads, several times: the best rate in bytes per second. */
pq_status pq_measure_bandwidth(uint32_t threads, uint64_t bytes, double *out, pq_error *err);
/* Multiplies int8 numbers that are in the first-level cache, with `isa`'s fastest instruction and nothing
 * else: the best rate of several passes in products per second, which no matrix product with that isa can
 * exceed. PQ_ERR_ARGUMENT where isa is not available or, as scalar, has no such instruction. */
pq_status pq_measure_int8(const char *isa, uint32_t threads, double *out, pq_error *err);

#endif
