/* gguf.c - an open GGUF file: its shards joined into one directory, and the tensors' bytes. */
#include "directory.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/checksum.h"

static pq_status join_tensors(pq_file *file, pq_error *err) {
    for (uint32_t s = 0; s < file->n_shards; s++)
        file->n_tensors += file->shards[s].n_tensors;
    size_t bytes;
    if (!pq_checked_size(file->n_tensors + 1, sizeof *file->tensors, &bytes) ||
        file->n_tensors > UINT32_MAX || !(file->tensors = malloc(bytes)))
        return pq_fail_memory(err, "the tensor table", file->n_tensors * sizeof *file->tensors);
    pq_tensor *next = file->tensors;
    for (uint32_t s = 0; s < file->n_shards; s++) {
        for (uint64_t i = 0; i < file->shards[s].n_tensors; i++) {
            *next = file->shards[s].tensors[i];
            next->shard = s;
            file->tensor_bytes += next->bytes; /* no overlaps: at most the files' size */
            next++;
        }
    }
    return PQ_OK;
}

static pq_status index_tensors(pq_file *file, pq_error *err) {
    file->tensors_by_name =
        pq_order(file->tensors, (uint32_t)file->n_tensors, pq_compare_tensor_names);
    if (!file->tensors_by_name)
        return pq_fail_memory(err, "the index of tensors", file->n_tensors * sizeof(uint32_t));
    for (uint64_t i = 1; i < file->n_tensors; i++) {
        const pq_tensor *a = &file->tensors[file->tensors_by_name[i - 1]];
        const pq_tensor *b = &file->tensors[file->tensors_by_name[i]];
        if (strcmp(a->name, b->name) == 0)
            return pq_fail_at(
                err, PQ_ERR_FORMAT, b->name, (int64_t)b->offset,
                "%s: the tensor '%s' is there twice; the file is damaged, download it again",
                pq_file_shard_name(file, b), b->name);
    }
    return PQ_OK;
}

pq_status pq_file_open(pq_file **out, const char *path, pq_load load, pq_error *err) {
    if (!out || !path || (load != PQ_LOAD_MMAP && load != PQ_LOAD_COPY))
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_file_open: no path, or no such way of loading");
    pq_file *file = calloc(1, sizeof *file);
    if (!file)
        return pq_fail_memory(err, "a file", sizeof *file);
    pq_status status = pq_open_shards(&file->shards, &file->n_shards, path, load, err);
    if (status == PQ_OK)
        status = join_tensors(file, err);
    if (status == PQ_OK)
        status = index_tensors(file, err);
    if (status != PQ_OK) {
        pq_file_close(file);
        return status;
    }
    *out = file;
    return PQ_OK;
}

void pq_file_close(pq_file *file) {
    if (!file)
        return;
    pq_close_shards(file->shards, file->n_shards);
    free(file->tensors);
    free(file->tensors_by_name);
    free(file);
}

void pq_file_describe(const pq_file *file, pq_file_info *out) {
    const pq_shard *first = &file->shards[0];
    *out = (pq_file_info){.version = first->version,
                          .shards = file->n_shards,
                          .alignment = first->alignment,
                          .keys = first->n_keys,
                          .tensors = file->n_tensors,
                          .tensor_bytes = file->tensor_bytes};
    for (uint32_t s = 0; s < file->n_shards; s++)
        out->file_bytes += file->shards[s].map.bytes;
}

const pq_key *pq_file_key(const pq_file *file, uint64_t index) {
    return index < file->shards[0].n_keys ? &file->shards[0].keys[index] : NULL;
}

const pq_tensor *pq_file_tensor(const pq_file *file, uint64_t index) {
    return index < file->n_tensors ? &file->tensors[index] : NULL;
}

const pq_tensor *pq_file_find_tensor(const pq_file *file, const char *name) {
    uint64_t low = 0;
    uint64_t high = file->n_tensors;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const pq_tensor *tensor = &file->tensors[file->tensors_by_name[middle]];
        int order = strcmp(name, tensor->name);
        if (order == 0)
            return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *pq_file_name(const pq_file *file) {
    return file->shards[0].name;
}

const char *pq_file_shard_name(const pq_file *file, const pq_tensor *tensor) {
    return file->shards[tensor->shard].name;
}

pq_status pq_file_read(const pq_file *file, const pq_tensor *tensor, uint64_t offset,
                       uint64_t bytes, void *dst, pq_error *err) {
    int ours = tensor >= file->tensors && tensor < file->tensors + file->n_tensors;
    if (!ours || (!dst && bytes > 0))
        return pq_fail(err, PQ_ERR_ARGUMENT, "%s: not a tensor of this file, or nowhere to copy it",
                       pq_file_name(file));
    if (offset > tensor->bytes || bytes > tensor->bytes - offset)
        return pq_fail_at(err, PQ_ERR_ARGUMENT, tensor->name, -1,
                          "%s: tensor '%s' has %llu bytes; %llu at %llu are not all inside",
                          pq_file_shard_name(file, tensor), tensor->name,
                          (unsigned long long)tensor->bytes, (unsigned long long)bytes,
                          (unsigned long long)offset);
    const pq_shard *shard = &file->shards[tensor->shard];
    return pq_map_read(&shard->map, shard->name, tensor->offset + offset, bytes, dst, err);
}

const uint8_t *pq_file_tensor_map(const pq_file *file, const pq_tensor *tensor) {
    const uint8_t *data = file->shards[tensor->shard].map.data;
    return data ? data + tensor->offset : NULL;
}

int pq_file_is_mapped(const pq_file *file) {
    return file->shards[0].map.data != NULL;
}

pq_status pq_file_check_unchanged(const pq_file *file, pq_error *err) {
    pq_status status = PQ_OK;
    for (uint32_t s = 0; s < file->n_shards && status == PQ_OK; s++)
        status = pq_map_check(&file->shards[s].map, file->shards[s].name, err);
    return status;
}

enum { SAMPLES = 32, SAMPLE_BYTES = 256 };

/* Two fine-tunes of one model may have the same size, header and, unpacked from an archive, the same time. */
static pq_status sample_shard(const pq_shard *shard, uint8_t *samples, pq_error *err) {
    const uint64_t first = shard->header_bytes, room = shard->map.bytes - first;
    for (uint64_t i = 0; i < SAMPLES && room > SAMPLE_BYTES; i++) {
        const uint64_t at = first + (room - SAMPLE_BYTES) / SAMPLES * (i + 1);
        const pq_status st = pq_map_read(&shard->map, shard->name, at, SAMPLE_BYTES,
                                         samples + i * SAMPLE_BYTES, err);
        if (st != PQ_OK)
            return st;
    }
    return PQ_OK;
}

pq_status pq_file_identity(const pq_file *file, uint64_t out[2], pq_error *err) {
    uint64_t sums[2] = {1, 2};
    for (uint32_t s = 0; s < file->n_shards; s++) {
        const pq_shard *shard = &file->shards[s];
        uint8_t samples[SAMPLES * SAMPLE_BYTES] = {0};
        const uint64_t facts[] = {shard->map.bytes, (uint64_t)shard->map.modified};
        const pq_status st = sample_shard(shard, samples, err);
        if (st != PQ_OK)
            return st;
        for (int i = 0; i < 2; i++) {
            sums[i] = pq_checksum(sums[i], facts, sizeof facts);
            sums[i] = pq_checksum(sums[i], shard->header, (size_t)shard->header_bytes);
            sums[i] = pq_checksum(sums[i], samples, sizeof samples);
        }
    }
    const pq_status st = pq_file_check_unchanged(file, err);
    if (st == PQ_OK)
        memcpy(out, sums, sizeof sums);
    return st;
}
