/* values.c - typed access to metadata: type and range are checked where a value is asked for. */
#include "directory.h"

#include <math.h>
#include <string.h>

#include "../base/reader.h"

static const struct {
    const char *name;
    uint32_t bytes;
} VALUE_TYPES[] = {
    [PQ_VALUE_U8] = {"u8", 1},         [PQ_VALUE_I8] = {"i8", 1},
    [PQ_VALUE_U16] = {"u16", 2},       [PQ_VALUE_I16] = {"i16", 2},
    [PQ_VALUE_U32] = {"u32", 4},       [PQ_VALUE_I32] = {"i32", 4},
    [PQ_VALUE_F32] = {"f32", 4},       [PQ_VALUE_BOOL] = {"bool", 1},
    [PQ_VALUE_STRING] = {"string", 0}, [PQ_VALUE_ARRAY] = {"array", 0},
    [PQ_VALUE_U64] = {"u64", 8},       [PQ_VALUE_I64] = {"i64", 8},
    [PQ_VALUE_F64] = {"f64", 8},
};

enum { N_VALUE_TYPES = sizeof VALUE_TYPES / sizeof VALUE_TYPES[0] };

uint32_t pq_value_bytes(uint32_t type) {
    return type < N_VALUE_TYPES ? VALUE_TYPES[type].bytes : 0;
}

const char *pq_value_type_name(uint32_t type) {
    return type < N_VALUE_TYPES ? VALUE_TYPES[type].name : NULL;
}

const pq_key *pq_shard_find_key(const pq_shard *shard, const char *name) {
    uint64_t low = 0;
    uint64_t high = shard->n_keys;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const pq_key *key = &shard->keys[shard->keys_by_name[middle]];
        int order = strcmp(name, key->name);
        if (order == 0)
            return key;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const pq_key *pq_file_find_key(const pq_file *file, const char *name) {
    return pq_shard_find_key(&file->shards[0], name);
}

/* PQ_OK with *out NULL if the key is absent and need not be there. */
static pq_status find(const pq_shard *shard, const char *name, int required, const pq_key **out,
                      pq_error *err) {
    *out = pq_shard_find_key(shard, name);
    if (*out || !required)
        return PQ_OK;
    return pq_fail_at(
        err, PQ_ERR_FORMAT, name, -1,
        "%s: the key '%.100s' is missing; the file was not made completely, convert or "
        "download it again",
        shard->name, name);
}

static pq_status fail_type(const pq_shard *shard, const pq_key *key, const char *wanted,
                           pq_error *err) {
    return pq_fail_at(err, PQ_ERR_FORMAT, key->name, (int64_t)key->offset,
                      "%s: the key '%.100s' at byte %llu is of type %s and should be %s",
                      shard->name, key->name, (unsigned long long)key->offset,
                      pq_value_type_name(key->type), wanted);
}

/* Integers as their sign and magnitude, so that all widths compare alike; 0 if it is no integer. */
static int integer_of(const pq_key *key, int *negative, uint64_t *magnitude) {
    uint64_t bits;
    switch (key->type) {
    case PQ_VALUE_U8:
    case PQ_VALUE_U16:
    case PQ_VALUE_U32:
    case PQ_VALUE_U64:
        *negative = 0;
        *magnitude = pq_little_endian(key->data, (unsigned)key->bytes);
        return 1;
    case PQ_VALUE_I8:
    case PQ_VALUE_I16:
    case PQ_VALUE_I32:
    case PQ_VALUE_I64:
        bits = pq_little_endian(key->data, (unsigned)key->bytes);
        *negative = (int)(bits >> (8 * key->bytes - 1));
        if (*negative && key->bytes < 8)
            bits |= UINT64_MAX << (8 * key->bytes); /* sign extension */
        *magnitude = *negative ? 0 - bits : bits;
        return 1;
    default:
        return 0;
    }
}

pq_status pq_shard_get_u32(const pq_shard *shard, const char *name, uint32_t min, uint32_t max,
                           uint32_t *out, int required, pq_error *err) {
    const pq_key *key;
    pq_status status = find(shard, name, required, &key, err);
    if (status != PQ_OK || !key)
        return status;
    int negative;
    uint64_t magnitude;
    if (!integer_of(key, &negative, &magnitude))
        return fail_type(shard, key, "an integer", err);
    if ((negative && magnitude > 0) || magnitude < min || magnitude > max)
        return pq_fail_at(
            err, PQ_ERR_FORMAT, name, (int64_t)key->offset,
            "%s: the key '%.100s' at byte %llu is %s%llu, outside the range %lu to %lu",
            shard->name, name, (unsigned long long)key->offset, negative ? "-" : "",
            (unsigned long long)magnitude, (unsigned long)min, (unsigned long)max);
    *out = (uint32_t)magnitude;
    return PQ_OK;
}

pq_status pq_file_get_u32(const pq_file *file, const char *key, uint32_t min, uint32_t max,
                          uint32_t *out, int required, pq_error *err) {
    return pq_shard_get_u32(&file->shards[0], key, min, max, out, required, err);
}

static int real_of(const pq_key *key, double *out) {
    if (key->type == PQ_VALUE_F32) {
        uint32_t bits = (uint32_t)pq_little_endian(key->data, 4);
        float single;
        memcpy(&single, &bits, sizeof single);
        *out = single;
        return 1;
    }
    if (key->type == PQ_VALUE_F64) {
        uint64_t bits = pq_little_endian(key->data, 8);
        memcpy(out, &bits, sizeof *out);
        return 1;
    }
    return 0;
}

pq_status pq_file_get_f64(const pq_file *file, const char *name, double min, double max,
                          double *out, int required, pq_error *err) {
    const pq_shard *shard = &file->shards[0];
    const pq_key *key;
    pq_status status = find(shard, name, required, &key, err);
    if (status != PQ_OK || !key)
        return status;
    double value;
    if (!real_of(key, &value))
        return fail_type(shard, key, "a floating-point number", err);
    if (!isfinite(value) || value < min || value > max)
        return pq_fail_at(err, PQ_ERR_FORMAT, name, (int64_t)key->offset,
                          "%s: the key '%.100s' at byte %llu is %g, outside the range %g to %g",
                          shard->name, name, (unsigned long long)key->offset, value, min, max);
    *out = value;
    return PQ_OK;
}

pq_status pq_file_get_f32(const pq_file *file, const char *key, double min, double max, float *out,
                          int required, pq_error *err) {
    double value = NAN; /* stays where the key is absent */
    pq_status status = pq_file_get_f64(file, key, min, max, &value, required, err);
    if (status == PQ_OK && !isnan(value))
        *out = (float)value;
    return status;
}

pq_status pq_file_get_string(const pq_file *file, const char *name, const char **text,
                             uint64_t *bytes, int required, pq_error *err) {
    const pq_shard *shard = &file->shards[0];
    const pq_key *key;
    pq_status status = find(shard, name, required, &key, err);
    if (status != PQ_OK || !key)
        return status;
    if (key->type != PQ_VALUE_STRING)
        return fail_type(shard, key, "a string", err);
    *text = key->data;
    *bytes = key->bytes;
    return PQ_OK;
}

pq_status pq_file_get_text(const pq_file *file, const char *name, char *dst, size_t room,
                           int required, pq_error *err) {
    const char *text = NULL;
    uint64_t bytes = 0;
    pq_status status = pq_file_get_string(file, name, &text, &bytes, required, err);
    if (status != PQ_OK || !text)
        return status;
    if (bytes >= room || memchr(text, '\0', (size_t)bytes))
        return pq_fail_at(
            err, PQ_ERR_FORMAT, name, -1,
            "%s: the text of key '%.100s' is %llu bytes long and should be at most %llu, "
            "without NUL",
            file->shards[0].name, name, (unsigned long long)bytes, (unsigned long long)(room - 1));
    memcpy(dst, text, (size_t)bytes);
    dst[bytes] = '\0';
    return PQ_OK;
}

pq_status pq_file_strings(const pq_file *file, const pq_key *key, char *text, uint64_t *bounds,
                          pq_error *err) {
    const pq_shard *shard = &file->shards[0];
    int ours = key >= shard->keys && key < shard->keys + shard->n_keys;
    if (!ours || !bounds || key->type != PQ_VALUE_ARRAY || key->element != PQ_VALUE_STRING)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%s: not an array of strings of this file",
                       shard->name);
    /* Past the element type and the count; every length was checked when the file was opened. */
    const uint8_t *p = shard->header + key->offset + 4 + 8;
    uint64_t at = 0;
    for (uint64_t i = 0; i < key->count; i++) {
        uint64_t n = pq_little_endian(p, 8);
        bounds[i] = at;
        if (text)
            memcpy(text + at, p + 8, (size_t)n);
        at += n;
        p += 8 + n;
    }
    bounds[key->count] = at;
    return PQ_OK;
}
