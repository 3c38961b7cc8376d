/* packed.c - see packed.h. Writing is the caller's: pq_model_packed_layout says what, in which pieces. */
#include "packed.h"

#include <stdatomic.h>
#include <string.h>

#include "../base/checksum.h"
#include "../base/pool.h"

enum {
    PIECE = 4 << 20,          /* bytes of one checksum */
    ALIGNMENT = 2 << 20,      /* of the image: that of huge pages */
    PIECES_BETWEEN_STEPS = 64 /* 256 MB */
};

static const char MAGIC[8] = {'P', 'Q', 'P', 'A', 'C', 'K', '\r', '\n'};

typedef struct header {
    char magic[8];
    pq_packed_id id;
    uint64_t pieces;
    uint64_t sums; /* checksum of the checksums */
    uint64_t self; /* checksum of all that stands before */
} header;

static uint64_t pieces_of(uint64_t image_bytes) {
    return (image_bytes + PIECE - 1) / PIECE;
}

static uint64_t header_bytes(uint64_t image_bytes) {
    return sizeof(header) + pieces_of(image_bytes) * sizeof(uint64_t);
}

uint64_t pq_packed_offset(uint64_t image_bytes) {
    return (header_bytes(image_bytes) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static header make_header(const pq_packed_id *id, const uint64_t *sums) {
    header h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, MAGIC, sizeof MAGIC);
    h.id = *id;
    h.pieces = pieces_of(id->image_bytes);
    h.sums = pq_checksum(0, sums, (size_t)h.pieces * sizeof *sums);
    h.self = pq_checksum(0, &h, offsetof(header, self));
    return h;
}

/* ------------------------------------------------------------------------------------------- reading */

typedef struct verification {
    const uint8_t *image;
    const uint8_t *sums;
    uint64_t bytes;
    size_t first;             /* piece of chunk 0 */
    atomic_uint_fast64_t bad; /* one more than a piece that is not as it was written, or 0 */
} verification;

static void verify_piece(void *arg, size_t chunk, unsigned thread) {
    verification *v = arg;
    (void)thread;
    const uint64_t piece = v->first + chunk, at = piece * PIECE;
    const uint64_t n = v->bytes - at < PIECE ? v->bytes - at : PIECE;
    uint64_t expected;
    memcpy(&expected, v->sums + piece * sizeof expected, sizeof expected);
    if (pq_checksum(piece, v->image + at, (size_t)n) != expected)
        atomic_store(&v->bad, piece + 1);
}

static pq_status verify(const pq_map *map, const pq_packed_id *id, uint32_t threads,
                        int (*step)(void *arg, uint64_t bytes), void *arg, pq_error *err) {
    verification v = {.image = map->data + pq_packed_offset(id->image_bytes),
                      .sums = map->data + sizeof(header),
                      .bytes = id->image_bytes};
    const size_t pieces = (size_t)pieces_of(id->image_bytes);
    while (v.first < pieces) {
        const size_t left = pieces - v.first;
        const size_t n = left < PIECES_BETWEEN_STEPS ? left : PIECES_BETWEEN_STEPS;
        const pq_status st = pq_pool_run(threads, n, verify_piece, &v, NULL, err);
        if (st != PQ_OK)
            return st;
        if (atomic_load(&v.bad) != 0)
            return pq_fail(err, PQ_ERR_FORMAT, "the %u MB from byte %llu on are damaged",
                           PIECE >> 20,
                           (unsigned long long)(pq_packed_offset(id->image_bytes) +
                                                (atomic_load(&v.bad) - 1) * PIECE));
        v.first += n;
        const uint64_t done = (uint64_t)v.first * PIECE;
        if (step && step(arg, done < v.bytes ? done : v.bytes) != 0)
            return pq_fail(err, PQ_ERR_CANCELLED, "loading was cancelled");
    }
    return PQ_OK;
}

static pq_status check_header(const pq_map *map, const pq_packed_id *id, pq_error *err) {
    header h;
    if (map->bytes < sizeof h)
        return pq_fail(err, PQ_ERR_FORMAT, "it ends after %llu bytes",
                       (unsigned long long)map->bytes);
    memcpy(&h, map->data, sizeof h);
    if (memcmp(h.magic, MAGIC, sizeof MAGIC) != 0 ||
        h.self != pq_checksum(0, &h, offsetof(header, self)))
        return pq_fail(err, PQ_ERR_FORMAT, "its header is damaged, or it is another kind of file");
    if (h.id.version != id->version || h.id.lanes != id->lanes ||
        h.id.image_bytes != id->image_bytes)
        return pq_fail(err, PQ_ERR_FORMAT, "it holds weights in another layout");
    if (memcmp(h.id.source, id->source, sizeof h.id.source) != 0)
        return pq_fail(err, PQ_ERR_FORMAT, "it was made from another file");
    const uint64_t bytes = pq_packed_offset(id->image_bytes) + id->image_bytes;
    if (map->bytes != bytes)
        return pq_fail(err, PQ_ERR_FORMAT, "it has %llu bytes and not %llu",
                       (unsigned long long)map->bytes, (unsigned long long)bytes);
    if (h.pieces != pieces_of(id->image_bytes) ||
        h.sums != pq_checksum(0, map->data + sizeof h, (size_t)h.pieces * sizeof(uint64_t)))
        return pq_fail(err, PQ_ERR_FORMAT, "its table of checksums is damaged");
    return PQ_OK;
}

pq_status pq_packed_map(pq_map *out, const char *path, const pq_packed_id *id, uint32_t threads,
                        int (*step)(void *arg, uint64_t bytes), void *arg, pq_error *err) {
    pq_map map;
    pq_status st = pq_map_open(&map, path, "the packed weights", 1, err);
    if (st != PQ_OK)
        return st;
    pq_map_ask_for_huge_pages(&map); /* decoding out of small pages is a tenth slower */
    st = check_header(&map, id, err);
    if (st == PQ_OK)
        st = verify(&map, id, threads, step, arg, err);
    if (st == PQ_OK)
        *out = map;
    else
        pq_map_close(&map);
    return st;
}

/* ------------------------------------------------------------------------------------------- writing */

void pq_model_packed_layout(const pq_model *m, pq_packed_layout *out) {
    *out = (pq_packed_layout){.data = m->image,
                              .bytes = m->packs ? m->image_bytes : 0,
                              .offset = pq_packed_offset(m->image_bytes),
                              .header_bytes = header_bytes(m->image_bytes),
                              .piece = PIECE,
                              .pieces = pieces_of(m->image_bytes)};
}

uint64_t pq_packed_checksum(uint64_t piece, const void *data, size_t bytes) {
    return pq_checksum(piece, data, bytes);
}

pq_status pq_model_packed_header(const pq_model *m, const uint64_t *sums, void *dst,
                                 pq_error *err) {
    if (!m || !sums || !dst || !m->packs)
        return pq_fail(err, PQ_ERR_ARGUMENT,
                       "pq_model_packed_header: a NULL argument, or weights that are not packed");
    pq_packed_id id = {
        .image_bytes = m->image_bytes, .lanes = m->kernels->lanes, .version = PQ_PACKED_VERSION};
    const pq_status st = pq_file_identity(m->file, id.source, err);
    if (st != PQ_OK)
        return st;
    const header h = make_header(&id, sums);
    memcpy(dst, &h, sizeof h);
    memcpy((uint8_t *)dst + sizeof h, sums, (size_t)h.pieces * sizeof *sums);
    return PQ_OK;
}
