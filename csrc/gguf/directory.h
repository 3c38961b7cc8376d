/* directory.h - what an open GGUF file consists of; private to csrc/gguf.
 *
 * A shard is one file on disk. Its header (everything before the tensor data) is read into memory
 * that nobody else can write, and all keys and names point into that. Only tensor data is ever
 * mapped.
 */
#ifndef PQ_DIRECTORY_H
#define PQ_DIRECTORY_H

#include "../base/mapfile.h"
#include "gguf.h"

typedef struct pq_shard {
    pq_map map;
    char *name;      /* base name */
    uint8_t *header; /* (header_bytes) */
    uint64_t header_bytes;
    uint32_t version;
    uint64_t alignment;
    pq_key *keys; /* (n_keys) in the file's order */
    uint32_t *keys_by_name;
    uint64_t n_keys;
    pq_tensor *tensors; /* (n_tensors) */
    uint64_t n_tensors;
} pq_shard;

struct pq_file {
    pq_shard *shards; /* (n_shards); the first one's keys are the model's */
    uint32_t n_shards;
    pq_tensor *tensors; /* (n_tensors) of all shards */
    uint32_t *tensors_by_name;
    uint64_t n_tensors;
    uint64_t tensor_bytes;
};

/* --- parse.c --- */
/* Opens one file and reads its header. On failure nothing is left open. */
pq_status pq_shard_open(pq_shard *out, const char *path, pq_load load, pq_error *err);
void pq_shard_close(pq_shard *shard);

/* --- foreign.c --- */
/* What a file that begins with these bytes is instead of GGUF, and what to do about it, as
 * "a ZIP archive ...; unpack it ...". NULL if nothing is recognized. */
const char *pq_foreign_kind(const uint8_t *bytes, size_t n);

/* --- split.c --- */
/* Opens `path` and, if it is a shard of a split model, all the others beside it, in order. */
pq_status pq_open_shards(pq_shard **out, uint32_t *n, const char *path, pq_load load,
                         pq_error *err);
void pq_close_shards(pq_shard *shards, uint32_t n);

/* --- order.c --- */
/* Less than, equal or greater: how items a and b of `items` compare. */
typedef int (*pq_compare_fn)(const void *items, uint32_t a, uint32_t b);
/* The numbers 0 .. n - 1 ordered so that the items ascend, in n log n steps whatever they hold
 * (qsort promises no bound); NULL without memory. The caller frees it. */
uint32_t *pq_order(const void *items, uint32_t n, pq_compare_fn compare);

int pq_compare_keys(const void *keys, uint32_t a, uint32_t b);
int pq_compare_tensor_names(const void *tensors, uint32_t a, uint32_t b);
int pq_compare_tensor_places(const void *tensors, uint32_t a, uint32_t b);

/* --- values.c --- */
/* Bytes of one element of a value type; 0 for strings, arrays and unknown types. */
uint32_t pq_value_bytes(uint32_t type);
const char *pq_value_type_name(uint32_t type);
const pq_key *pq_shard_find_key(const pq_shard *shard, const char *name);
pq_status pq_shard_get_u32(const pq_shard *shard, const char *key, uint32_t min, uint32_t max,
                           uint32_t *out, int required, pq_error *err);

#endif
