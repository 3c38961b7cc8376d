/* limits.h - the largest numbers accepted in a GGUF file; real files stay far below. */
#ifndef PQ_LIMITS_H
#define PQ_LIMITS_H

enum {
    PQ_MAX_KEYS = 65536,      /* a model has 20 to 60 */
    PQ_MAX_TENSORS = 65536,   /* the largest published mixtures of experts have some thousands */
    PQ_MAX_SHARDS = 512,      /* each is an open file */
    PQ_MAX_KEY_BYTES = 65535, /* the specification's own limit */
    PQ_MAX_TENSOR_NAME_BYTES = 63,   /* ggml holds 64 with the NUL */
    PQ_MAX_STRING_BYTES = 64 << 20,  /* chat templates and tokenizers in JSON reach 20 MiB */
    PQ_MAX_ARRAY = 16 << 20,         /* vocabularies have up to 262,144 entries, merges as many */
    PQ_MAX_DIMS = 4,                 /* as in ggml */
    PQ_MAX_HEADER_BYTES = 256 << 20, /* keys and tensor table, in memory; real ones: 2 to 30 MiB */
    PQ_DEFAULT_ALIGNMENT = 32,       /* where general.alignment is absent */
    PQ_MIN_ALIGNMENT = 8,
    PQ_MAX_ALIGNMENT = 1 << 20 /* padding beyond that is an attack and not a layout */
};

#endif
