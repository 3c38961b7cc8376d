/* parse.c - the bytes of one GGUF file -> its keys and tensors, or the first rule they break.
 *
 * Layout (GGUF specification, versions 2 and 3; integers are little-endian):
 *   header    "GGUF", u32 version, u64 number of tensors, u64 number of keys
 *   keys      string name, u32 type, value; a string is u64 length and text, an array is u32
 *             element type, u64 count and the elements
 *   tensors   string name, u32 n_dims, u64 dims[n_dims], u32 type, u64 offset in the data
 *   data      begins at the next multiple of general.alignment; so does every tensor in it
 *
 * The file is hostile until proven otherwise. A length is compared with the bytes that are left
 * before it is believed, so no allocation is larger than the file justifies, and every step
 * consumes bytes, so nothing takes longer than reading them.
 */
#include "directory.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/reader.h"
#include "../formats/types.h"
#include "limits.h"

enum {
    FIRST_READ_BYTES = 64 << 10,
    MIN_KEY_BYTES = 8 + 1 + 4 + 1,            /* a name of one byte and a u8 */
    MIN_TENSOR_BYTES = 8 + 1 + 4 + 8 + 4 + 8, /* a name of one byte and one dimension */
    STRING_OVERHEAD = 8,
    MAX_FILE_NAME_BYTES = 255
};

typedef struct parser {
    pq_reader in; /* over shard->header */
    pq_shard *shard;
    pq_error *err;
} parser;

typedef unsigned long long ull; /* for %llu */

static uint64_t file_bytes(const parser *p) {
    return p->shard->map.bytes;
}

/* The reader ran out of bytes. If the file has more, the caller reads them and parses again, and
 * this message is forgotten. */
static pq_status fail_short(const parser *p, const char *field, const char *what) {
    return pq_fail_at(
        p->err, PQ_ERR_FORMAT, field, (int64_t)p->in.pos,
        "%s: the file ends at byte %llu, inside %s%s%.100s%s that begins at byte %llu; the "
        "download is probably incomplete",
        p->shard->name, (ull)file_bytes(p), what, field ? " '" : "", field ? field : "",
        field ? "'" : "", (ull)p->in.pos);
}

/* ------------------------------------------------------------------------------------- preamble */

static pq_status check_magic(const parser *p) {
    const uint8_t *bytes = p->shard->header;
    size_t n = (size_t)p->in.size;
    const char *name = p->shard->name;
    if (n >= 4 && memcmp(bytes, "GGUF", 4) == 0)
        return PQ_OK;
    if (n == 0)
        return pq_fail_at(p->err, PQ_ERR_FORMAT, NULL, 0,
                          "%s: the file is empty (0 bytes); download it again", name);
    const char *kind = pq_foreign_kind(bytes, n);
    if (kind)
        return pq_fail_at(p->err, PQ_ERR_FORMAT, NULL, 0, "%s: not a GGUF file but %s", name, kind);
    if (n < 4)
        return pq_fail_at(p->err, PQ_ERR_FORMAT, NULL, 0,
                          "%s: the file has only %llu bytes; the download is probably incomplete",
                          name, (ull)n);
    return pq_fail_at(
        p->err, PQ_ERR_FORMAT, NULL, 0,
        "%s: not a GGUF file: it begins with the bytes %02x %02x %02x %02x and not with "
        "47 47 55 46",
        name, bytes[0], bytes[1], bytes[2], bytes[3]);
}

static pq_status check_version(const parser *p, uint32_t version) {
    if (version == 2 || version == 3)
        return PQ_OK;
    if (version != 0 && (version & 0xFFFF) == 0)
        return pq_fail_at(
            p->err, PQ_ERR_UNSUPPORTED, NULL, 4,
            "%s: a GGUF file in big-endian byte order; convert it to little-endian first",
            p->shard->name);
    return pq_fail_at(p->err, PQ_ERR_UNSUPPORTED, NULL, 4,
                      "%s: GGUF version %lu at byte 4 is not supported, only 2 and 3; %s",
                      p->shard->name, (unsigned long)version,
                      version > 3 ? "a newer pyqwen may read it" : "download the model again");
}

/* A count is believed only if that many records can fit what is left of the file. */
static pq_status check_count(const parser *p, const char *what, uint64_t count, uint64_t limit,
                             uint64_t min_bytes) {
    uint64_t left = file_bytes(p) - p->in.pos;
    if (count <= limit && count <= left / min_bytes)
        return PQ_OK;
    return pq_fail_at(
        p->err, PQ_ERR_FORMAT, NULL, (int64_t)p->in.pos,
        "%s: the header claims %llu %s, but at most %llu can follow; the file is damaged, "
        "download it again",
        p->shard->name, (ull)count, what,
        (ull)(left / min_bytes < limit ? left / min_bytes : limit));
}

static pq_status parse_preamble(parser *p, uint64_t *n_keys, uint64_t *n_tensors) {
    pq_status status = check_magic(p);
    if (status != PQ_OK)
        return status;
    pq_reader_bytes(&p->in, 4);
    uint32_t version = pq_reader_u32(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, NULL, "the header");
    if ((status = check_version(p, version)) != PQ_OK)
        return status;
    p->shard->version = version;
    *n_tensors = pq_reader_u64(&p->in);
    *n_keys = pq_reader_u64(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, NULL, "the header");
    if ((status = check_count(p, "keys", *n_keys, PQ_MAX_KEYS, MIN_KEY_BYTES)) != PQ_OK)
        return status;
    return check_count(p, "tensors", *n_tensors, PQ_MAX_TENSORS, MIN_TENSOR_BYTES);
}

/* ---------------------------------------------------------------------------------------- names */

/* Length of the well-formed UTF-8 character (RFC 3629) at s, or 0. */
static size_t utf8_character(const uint8_t *s, size_t left) {
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : 0;
    if (s[0] >= 0xF0 && s[0] <= 0xF4)
        n = 4;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    }
    int overlong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xF0 && s[1] < 0x90);
    int surrogate = s[0] == 0xED && s[1] > 0x9F;
    int too_large = s[0] == 0xF4 && s[1] > 0x8F;
    return overlong || surrogate || too_large ? 0 : n;
}

/* Names are printed, compared and NUL-terminated: UTF-8 without control characters. */
static int is_clean_text(const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t step = utf8_character(s + i, n - i);
        if (step == 0 || s[i] < 0x20 || s[i] == 0x7F)
            return 0;
        i += step;
    }
    return 1;
}

/* Reads the name of record `index`. *end is the byte behind it, where the caller puts the NUL once
 * it has read what stands there. */
static pq_status parse_name(parser *p, const char *what, uint64_t index, uint64_t limit,
                            const char **name, uint8_t **end) {
    uint64_t at = p->in.pos;
    uint64_t n = pq_reader_u64(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, NULL, what);
    if (n == 0 || n > limit)
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, NULL, (int64_t)at,
            "%s: the name of %s %llu at byte %llu is %llu bytes long, outside the range 1 "
            "to %llu; the file is damaged, download it again",
            p->shard->name, what, (ull)index, (ull)at, (ull)n, (ull)limit);
    const uint8_t *text = pq_reader_bytes(&p->in, n);
    if (!text)
        return fail_short(p, NULL, what);
    if (!is_clean_text(text, (size_t)n))
        return pq_fail_at(p->err, PQ_ERR_FORMAT, NULL, (int64_t)at,
                          "%s: the name of %s %llu at byte %llu is not UTF-8 text without control "
                          "characters; the file is damaged, download it again",
                          p->shard->name, what, (ull)index, (ull)at);
    *name = (const char *)text;
    *end = p->shard->header + p->in.pos;
    return PQ_OK;
}

/* ----------------------------------------------------------------------------------------- keys */

static pq_status check_bools(const parser *p, const pq_key *key) {
    const uint8_t *values = key->data;
    for (uint64_t i = 0; i < key->bytes; i++) {
        if (values[i] > 1)
            return pq_fail_at(
                p->err, PQ_ERR_FORMAT, key->name, (int64_t)key->offset,
                "%s: the bool in key '%.100s' at byte %llu is %u and should be 0 or 1; the file "
                "is damaged, download it again",
                p->shard->name, key->name, (ull)key->offset, values[i]);
    }
    return PQ_OK;
}

static pq_status parse_text(parser *p, const pq_key *key, const uint8_t **text, uint64_t *n) {
    uint64_t at = p->in.pos;
    *n = pq_reader_u64(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, key->name, "the key");
    uint64_t left = file_bytes(p) - p->in.pos;
    if (*n > PQ_MAX_STRING_BYTES || *n > left)
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, key->name, (int64_t)at,
            "%s: a string in key '%.100s' at byte %llu claims %llu bytes, but at most %llu can "
            "follow; the file is damaged or its download incomplete",
            p->shard->name, key->name, (ull)at, (ull)*n,
            (ull)(left < PQ_MAX_STRING_BYTES ? left : PQ_MAX_STRING_BYTES));
    *text = pq_reader_bytes(&p->in, *n);
    return *text ? PQ_OK : fail_short(p, key->name, "the key");
}

static pq_status parse_string_elements(parser *p, pq_key *key) {
    for (uint64_t i = 0; i < key->count; i++) {
        const uint8_t *text;
        uint64_t n;
        pq_status status = parse_text(p, key, &text, &n);
        if (status != PQ_OK)
            return status;
        key->bytes += n; /* at most the header's own length */
    }
    return PQ_OK;
}

static pq_status parse_elements(parser *p, pq_key *key) {
    uint64_t size = pq_value_bytes(key->element);
    if (!pq_checked_mul(key->count, size, &key->bytes))
        key->bytes = UINT64_MAX;
    key->data = pq_reader_bytes(&p->in, key->bytes);
    if (!key->data)
        return fail_short(p, key->name, "the key");
    return key->element == PQ_VALUE_BOOL ? check_bools(p, key) : PQ_OK;
}

static pq_status parse_array(parser *p, pq_key *key) {
    key->element = pq_reader_u32(&p->in);
    key->count = pq_reader_u64(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, key->name, "the key");
    if (key->element == PQ_VALUE_ARRAY)
        return pq_fail_at(
            p->err, PQ_ERR_UNSUPPORTED, key->name, (int64_t)key->offset,
            "%s: the key '%.100s' at byte %llu holds an array of arrays, which no model "
            "needs and this version does not read",
            p->shard->name, key->name, (ull)key->offset);
    if (!pq_value_type_name(key->element))
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, key->name, (int64_t)key->offset,
            "%s: the array in key '%.100s' at byte %llu has elements of the unknown type %lu; "
            "the file is damaged, download it again",
            p->shard->name, key->name, (ull)key->offset, (unsigned long)key->element);
    uint64_t size =
        key->element == PQ_VALUE_STRING ? STRING_OVERHEAD : pq_value_bytes(key->element);
    uint64_t room = (file_bytes(p) - p->in.pos) / size;
    if (key->count > PQ_MAX_ARRAY || key->count > room)
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, key->name, (int64_t)key->offset,
            "%s: the array in key '%.100s' at byte %llu claims %llu elements, but at most %llu "
            "can follow; the file is damaged or its download incomplete",
            p->shard->name, key->name, (ull)key->offset, (ull)key->count,
            (ull)(room < PQ_MAX_ARRAY ? room : PQ_MAX_ARRAY));
    return key->element == PQ_VALUE_STRING ? parse_string_elements(p, key) : parse_elements(p, key);
}

static pq_status parse_value(parser *p, pq_key *key) {
    key->element = key->type;
    if (key->type == PQ_VALUE_ARRAY)
        return parse_array(p, key);
    key->count = 1;
    if (key->type == PQ_VALUE_STRING) {
        const uint8_t *text = NULL;
        pq_status status = parse_text(p, key, &text, &key->bytes);
        key->data = text;
        return status;
    }
    if (pq_value_bytes(key->type) == 0)
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, key->name, (int64_t)key->offset - 4,
            "%s: the key '%.100s' at byte %llu has the unknown type %lu; the file is damaged, "
            "download it again",
            p->shard->name, key->name, (ull)key->offset - 4, (unsigned long)key->type);
    return parse_elements(p, key);
}

static pq_status parse_key(parser *p, pq_key *key, uint64_t index) {
    uint8_t *end;
    pq_status status = parse_name(p, "key", index, PQ_MAX_KEY_BYTES, &key->name, &end);
    if (status != PQ_OK)
        return status;
    key->type = pq_reader_u32(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, NULL, "a key");
    *end = '\0';
    key->offset = p->in.pos;
    return parse_value(p, key);
}

static pq_status parse_keys(parser *p, uint64_t n) {
    pq_shard *shard = p->shard;
    shard->keys = calloc((size_t)n + 1, sizeof *shard->keys);
    if (!shard->keys)
        return pq_fail_memory(p->err, "the metadata", n * sizeof *shard->keys);
    for (uint64_t i = 0; i < n; i++) {
        pq_status status = parse_key(p, &shard->keys[i], i);
        if (status != PQ_OK)
            return status;
    }
    shard->n_keys = n;
    shard->keys_by_name = pq_order(shard->keys, (uint32_t)n, pq_compare_keys);
    if (!shard->keys_by_name)
        return pq_fail_memory(p->err, "the index of keys", n * sizeof(uint32_t));
    for (uint64_t i = 1; i < n; i++) {
        const pq_key *a = &shard->keys[shard->keys_by_name[i - 1]];
        const pq_key *b = &shard->keys[shard->keys_by_name[i]];
        if (strcmp(a->name, b->name) == 0)
            return pq_fail_at(
                p->err, PQ_ERR_FORMAT, b->name, (int64_t)b->offset,
                "%s: the key '%.100s' is there twice, at bytes %llu and %llu; the file is "
                "damaged, download it again",
                shard->name, b->name, (ull)a->offset, (ull)b->offset);
    }
    return PQ_OK;
}

static pq_status read_alignment(parser *p) {
    uint32_t alignment = PQ_DEFAULT_ALIGNMENT;
    pq_status status = pq_shard_get_u32(p->shard, "general.alignment", PQ_MIN_ALIGNMENT,
                                        PQ_MAX_ALIGNMENT, &alignment, 0, p->err);
    if (status != PQ_OK)
        return status;
    if ((alignment & (alignment - 1)) != 0)
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, "general.alignment", -1,
            "%s: the key 'general.alignment' is %lu, which is not a power of two; the file is "
            "damaged, download it again",
            p->shard->name, (unsigned long)alignment);
    p->shard->alignment = alignment;
    return PQ_OK;
}

/* -------------------------------------------------------------------------------------- tensors */

/* Damage in the tensor's own record, which begins at byte `at`. */
static pq_status fail_tensor(const parser *p, const pq_tensor *t, uint64_t at,
                             const char *problem) {
    return pq_fail_at(p->err, PQ_ERR_FORMAT, t->name, (int64_t)at,
                      "%s: tensor '%s' at byte %llu %s; the file is damaged, download it again",
                      p->shard->name, t->name, (ull)at, problem);
}

static pq_status measure_tensor(const parser *p, pq_tensor *t, uint64_t at) {
    const char *type = pq_type_known_name(t->type);
    uint32_t block;
    uint32_t block_bytes;
    if (!pq_type_layout(t->type, &block, &block_bytes))
        return pq_fail_at(
            p->err, PQ_ERR_UNSUPPORTED, t->name, (int64_t)at,
            "%s: tensor '%s' at byte %llu has the %s type %lu%s%s; download the model in "
            "another quantization",
            p->shard->name, t->name, (ull)at, type ? "removed" : "unknown", (unsigned long)t->type,
            type ? " " : "", type ? type : "");
    uint64_t elements = 1;
    for (unsigned i = 0; i < PQ_MAX_DIMS; i++) {
        if (t->dims[i] == 0 || t->dims[i] > INT64_MAX)
            return fail_tensor(p, t, at, "has a dimension of 0 or beyond 63 bits");
        if (!pq_checked_mul(elements, t->dims[i], &elements))
            return fail_tensor(p, t, at, "has more elements than 64 bits can count");
    }
    if (t->dims[0] % block != 0)
        return pq_fail_at(
            p->err, PQ_ERR_FORMAT, t->name, (int64_t)at,
            "%s: tensor '%s' at byte %llu has rows of %llu elements, which is not a multiple "
            "of the block of %s, %lu; the file was not made correctly",
            p->shard->name, t->name, (ull)at, (ull)t->dims[0], type, (unsigned long)block);
    if (!pq_checked_mul(elements / block, block_bytes, &t->bytes))
        return fail_tensor(p, t, at, "has more bytes than 64 bits can count");
    return PQ_OK;
}

static pq_status parse_tensor(parser *p, pq_tensor *t, uint64_t index) {
    uint64_t at = p->in.pos;
    uint8_t *end;
    pq_status status = parse_name(p, "tensor", index, PQ_MAX_TENSOR_NAME_BYTES, &t->name, &end);
    if (status != PQ_OK)
        return status;
    t->n_dims = pq_reader_u32(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, NULL, "a tensor's record");
    *end = '\0';
    if (t->n_dims < 1 || t->n_dims > PQ_MAX_DIMS)
        return fail_tensor(p, t, at, "does not have 1 to 4 dimensions");
    for (unsigned i = 0; i < PQ_MAX_DIMS; i++)
        t->dims[i] = i < t->n_dims ? pq_reader_u64(&p->in) : 1;
    t->type = pq_reader_u32(&p->in);
    t->offset = pq_reader_u64(&p->in);
    if (pq_reader_failed(&p->in))
        return fail_short(p, t->name, "the record of tensor");
    if (t->offset % p->shard->alignment != 0)
        return fail_tensor(p, t, at, "has an offset that is not a multiple of the alignment");
    return measure_tensor(p, t, at);
}

/* Writes 4831838208 as 4,831,838,208. */
static const char *grouped(uint64_t value, char text[32]) {
    char *c = text + 31;
    *c = '\0';
    for (int digits = 0; digits == 0 || value > 0; digits++, value /= 10) {
        if (digits > 0 && digits % 3 == 0)
            *--c = ',';
        *--c = (char)('0' + value % 10);
    }
    return c;
}

/* The commonest damage: a download that was broken off. */
static pq_status fail_beyond_end(const parser *p, const pq_tensor *t, uint64_t end) {
    char end_text[32];
    char size_text[32];
    return pq_fail_at(p->err, PQ_ERR_FORMAT, t->name, (int64_t)file_bytes(p),
                      "%s: tensor '%s' ends at byte %s but the file has %s bytes; the download is "
                      "probably incomplete",
                      p->shard->name, t->name, grouped(end, end_text),
                      grouped(file_bytes(p), size_text));
}

/* Turns offsets within the data into offsets within the file, and finds all data inside it. */
static pq_status place_tensors(parser *p) {
    pq_shard *shard = p->shard;
    uint64_t data = 0; /* aligning cannot overflow: the header ends below 2^28 */
    pq_checked_align(p->in.pos, shard->alignment, &data);
    for (uint64_t i = 0; i < shard->n_tensors; i++) {
        pq_tensor *t = &shard->tensors[i];
        uint64_t end;
        if (!pq_checked_add(t->offset, data, &t->offset) ||
            !pq_checked_add(t->offset, t->bytes, &end))
            end = UINT64_MAX;
        if (end > file_bytes(p))
            return fail_beyond_end(p, t, end);
    }
    return PQ_OK;
}

static pq_status check_overlap(const parser *p) {
    const pq_shard *shard = p->shard;
    uint32_t *order =
        pq_order(shard->tensors, (uint32_t)shard->n_tensors, pq_compare_tensor_places);
    if (!order)
        return pq_fail_memory(p->err, "the order of tensors", shard->n_tensors * sizeof(uint32_t));
    pq_status status = PQ_OK;
    for (uint64_t i = 1; i < shard->n_tensors && status == PQ_OK; i++) {
        const pq_tensor *a = &shard->tensors[order[i - 1]];
        const pq_tensor *b = &shard->tensors[order[i]];
        if (b->offset - a->offset < a->bytes)
            status = pq_fail_at(
                p->err, PQ_ERR_FORMAT, b->name, (int64_t)b->offset,
                "%s: the data of tensors '%s' and '%s' overlap at byte %llu; the file is "
                "damaged, download it again",
                shard->name, a->name, b->name, (ull)b->offset);
    }
    free(order);
    return status;
}

static pq_status parse_tensors(parser *p, uint64_t n) {
    pq_shard *shard = p->shard;
    shard->tensors = calloc((size_t)n + 1, sizeof *shard->tensors);
    if (!shard->tensors)
        return pq_fail_memory(p->err, "the tensor table", n * sizeof *shard->tensors);
    for (uint64_t i = 0; i < n; i++) {
        pq_status status = parse_tensor(p, &shard->tensors[i], i);
        if (status != PQ_OK)
            return status;
    }
    shard->n_tensors = n;
    pq_status status = place_tensors(p);
    return status == PQ_OK ? check_overlap(p) : status;
}

/* --------------------------------------------------------------------------------- whole files */

static pq_status parse(parser *p) {
    uint64_t n_keys = 0;
    uint64_t n_tensors = 0;
    pq_status status = parse_preamble(p, &n_keys, &n_tensors);
    if (status == PQ_OK)
        status = parse_keys(p, n_keys);
    if (status == PQ_OK)
        status = read_alignment(p);
    if (status == PQ_OK)
        status = parse_tensors(p, n_tensors);
    return status;
}

static void forget_directory(pq_shard *shard) {
    free(shard->header);
    free(shard->keys);
    free(shard->keys_by_name);
    free(shard->tensors);
    shard->header = NULL;
    shard->keys = NULL;
    shard->keys_by_name = NULL;
    shard->tensors = NULL;
    shard->n_keys = 0;
    shard->n_tensors = 0;
}

/* Parses the first `bytes` bytes. *wanted is 0, or how many are needed to come further. */
static pq_status parse_beginning(pq_shard *shard, uint64_t bytes, uint64_t *wanted, pq_error *err) {
    *wanted = 0;
    shard->header = malloc((size_t)bytes + 1);
    if (!shard->header)
        return pq_fail_memory(err, "the metadata", bytes);
    shard->header_bytes = bytes;
    pq_status status = pq_map_read(&shard->map, shard->name, 0, bytes, shard->header, err);
    if (status != PQ_OK)
        return status;
    parser p = {.in = pq_reader_over(shard->header, bytes), .shard = shard, .err = err};
    status = parse(&p);
    *wanted = p.in.wanted;
    return status;
}

static pq_status read_directory(pq_shard *shard, pq_error *err) {
    uint64_t bytes = FIRST_READ_BYTES;
    for (;;) {
        if (bytes > shard->map.bytes)
            bytes = shard->map.bytes;
        uint64_t wanted;
        pq_status status = parse_beginning(shard, bytes, &wanted, err);
        if (status == PQ_OK)
            return PQ_OK;
        if (wanted == 0 || wanted > shard->map.bytes)
            return status;
        if (wanted > PQ_MAX_HEADER_BYTES)
            return pq_fail_at(
                err, PQ_ERR_UNSUPPORTED, NULL, (int64_t)bytes,
                "%s: the metadata is larger than %lu bytes; the file is damaged, or made "
                "for something else",
                shard->name, (unsigned long)PQ_MAX_HEADER_BYTES);
        forget_directory(shard);
        bytes = wanted > 2 * bytes ? wanted : 2 * bytes;
        if (bytes > PQ_MAX_HEADER_BYTES)
            bytes = PQ_MAX_HEADER_BYTES;
    }
}

/* No longer than file names are, so that a message has room for what it says. */
static char *copy_base_name(const char *path) {
    const char *base = path;
    for (const char *c = path; *c != '\0'; c++) {
        int separator = *c == '/';
#ifdef _WIN32
        separator |= *c == '\\' || *c == ':';
#endif
        if (separator && c[1] != '\0')
            base = c + 1;
    }
    size_t n = strlen(base);
    if (n > MAX_FILE_NAME_BYTES)
        n = MAX_FILE_NAME_BYTES;
    char *copy = calloc(n + 1, 1);
    if (copy)
        memcpy(copy, base, n);
    return copy;
}

pq_status pq_shard_open(pq_shard *out, const char *path, pq_load load, pq_error *err) {
    pq_shard shard = {.name = copy_base_name(path)};
    if (!shard.name)
        return pq_fail_memory(err, "the file name", strlen(path) + 1);
    pq_status status = pq_map_open(&shard.map, path, shard.name, load == PQ_LOAD_MMAP, err);
    if (status != PQ_OK) {
        free(shard.name);
        return status;
    }
    status = read_directory(&shard, err);
    if (status != PQ_OK) {
        pq_shard_close(&shard);
        return status;
    }
    *out = shard;
    return PQ_OK;
}

void pq_shard_close(pq_shard *shard) {
    forget_directory(shard);
    pq_map_close(&shard->map);
    free(shard->name);
}
