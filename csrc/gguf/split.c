/* split.c - models split into several files, which llama-gguf-split names name-00001-of-00003.gguf.
 *
 * Every shard is a GGUF file with the keys split.no (from 0), split.count and split.tensors.count;
 * the first one has the model's metadata, each has its own tensors.
 */
#include "directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"

#define SUFFIX "-00001-of-00003.gguf"

enum { SUFFIX_BYTES = sizeof SUFFIX - 1, DIGITS = 5, NUMBER_AT = 1, COUNT_AT = 10 };

typedef struct split {
    uint32_t no;    /* from 0 */
    uint32_t count; /* 1: not split */
} split;

/* Value of the five digits at s, or 0: no shard has that number. */
static uint32_t five_digits(const char *s) {
    uint32_t value = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (s[i] < '0' || s[i] > '9')
            return 0;
        value = value * 10 + (uint32_t)(s[i] - '0');
    }
    return value;
}

/* Where in `path` the suffix begins that belongs to that shard, or NULL. */
static const char *find_suffix(const char *path, split s) {
    size_t n = strlen(path);
    if (n < SUFFIX_BYTES)
        return NULL;
    const char *suffix = path + n - SUFFIX_BYTES;
    int matches = suffix[0] == '-' && five_digits(suffix + NUMBER_AT) == s.no + 1 &&
                  memcmp(suffix + NUMBER_AT + DIGITS, "-of-", 4) == 0 &&
                  five_digits(suffix + COUNT_AT) == s.count &&
                  strcmp(suffix + COUNT_AT + DIGITS, ".gguf") == 0;
    return matches ? suffix : NULL;
}

static pq_status read_split(const pq_shard *shard, split *out, pq_error *err) {
    out->no = 0;
    out->count = 1;
    pq_status status =
        pq_shard_get_u32(shard, "split.count", 0, PQ_MAX_SHARDS, &out->count, 0, err);
    if (status != PQ_OK || out->count <= 1) {
        out->count = 1;
        return status;
    }
    return pq_shard_get_u32(shard, "split.no", 0, out->count - 1, &out->no, 1, err);
}

static pq_status open_sibling(pq_shard *out, const char *path, split wanted, const pq_shard *first,
                              pq_load load, pq_error *err) {
    pq_status status = pq_shard_open(out, path, load, err);
    if (status == PQ_ERR_NOT_FOUND) {
        const char *name = path + strlen(path);
        while (name > path && name[-1] != '/' && name[-1] != '\\')
            name--;
        return pq_fail(
            err, status,
            "%s: not found beside %s: file %lu of a model in %lu files; download all of them "
            "into one folder",
            name, first->name, (unsigned long)wanted.no + 1, (unsigned long)wanted.count);
    }
    if (status != PQ_OK)
        return status;
    split found;
    status = read_split(out, &found, err);
    if (status == PQ_OK && (found.no != wanted.no || found.count != wanted.count))
        status =
            pq_fail_at(err, PQ_ERR_FORMAT, "split.no", -1,
                       "%s: says that it is file %lu of %lu and not %lu of %lu as its name does; "
                       "download the model again",
                       out->name, (unsigned long)found.no + 1, (unsigned long)found.count,
                       (unsigned long)wanted.no + 1, (unsigned long)wanted.count);
    if (status != PQ_OK)
        pq_shard_close(out);
    return status;
}

static pq_status check_total(const pq_shard *shards, uint32_t n, pq_error *err) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += shards[i].n_tensors;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t claimed = (uint32_t)total;
        pq_status status =
            pq_shard_get_u32(&shards[i], "split.tensors.count", 0, UINT32_MAX, &claimed, 0, err);
        if (status != PQ_OK)
            return status;
        if (claimed != total)
            return pq_fail_at(
                err, PQ_ERR_FORMAT, "split.tensors.count", -1,
                "%s: the model should have %lu tensors, but its %lu files hold %llu; they "
                "do not belong together, download all of them again",
                shards[i].name, (unsigned long)claimed, (unsigned long)n,
                (unsigned long long)total);
    }
    return PQ_OK;
}

/* Opens all shards but `opened`, which stays the caller's until this succeeds. */
static pq_status open_siblings(pq_shard *shards, const pq_shard *opened, split s, const char *path,
                               const char *suffix, pq_load load, pq_error *err) {
    size_t path_bytes = strlen(path) + 1;
    char *sibling = malloc(path_bytes);
    if (!sibling)
        return pq_fail_memory(err, "the path of a split file", path_bytes);
    memcpy(sibling, path, path_bytes);
    char *number = sibling + (suffix - path) + NUMBER_AT;
    uint32_t done = 0;
    pq_status status = PQ_OK;
    for (; done < s.count; done++) {
        if (done == s.no) {
            shards[done] = *opened;
            continue;
        }
        char digits[DIGITS + 6];
        snprintf(digits, sizeof digits, "%05lu", (unsigned long)done + 1);
        memcpy(number, digits, DIGITS);
        status = open_sibling(&shards[done], sibling, (split){done, s.count}, opened, load, err);
        if (status != PQ_OK)
            break;
    }
    if (status == PQ_OK)
        status = check_total(shards, s.count, err);
    if (status != PQ_OK) {
        for (uint32_t i = 0; i < done; i++) {
            if (i != s.no)
                pq_shard_close(&shards[i]);
        }
    }
    free(sibling);
    return status;
}

pq_status pq_open_shards(pq_shard **out, uint32_t *n, const char *path, pq_load load,
                         pq_error *err) {
    pq_shard opened;
    split s = {0, 1};
    pq_status status = pq_shard_open(&opened, path, load, err);
    if (status != PQ_OK)
        return status;
    status = read_split(&opened, &s, err);
    const char *suffix = status == PQ_OK && s.count > 1 ? find_suffix(path, s) : NULL;
    if (status == PQ_OK && s.count > 1 && !suffix)
        status =
            pq_fail_at(err, PQ_ERR_FORMAT, "split.no", -1,
                       "%s: is file %lu of a model in %lu files, but its name does not end in "
                       "-%05lu-of-%05lu.gguf; give all files the names they were published under",
                       opened.name, (unsigned long)s.no + 1, (unsigned long)s.count,
                       (unsigned long)s.no + 1, (unsigned long)s.count);
    pq_shard *shards = status == PQ_OK ? calloc(s.count, sizeof *shards) : NULL;
    if (status == PQ_OK && !shards)
        status = pq_fail_memory(err, "the list of files", s.count * sizeof *shards);
    if (status == PQ_OK && s.count == 1)
        shards[0] = opened;
    else if (status == PQ_OK)
        status = open_siblings(shards, &opened, s, path, suffix, load, err);
    if (status != PQ_OK) {
        free(shards);
        pq_shard_close(&opened);
        return status;
    }
    *out = shards;
    *n = s.count;
    return PQ_OK;
}

void pq_close_shards(pq_shard *shards, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        pq_shard_close(&shards[i]);
    free(shards);
}
