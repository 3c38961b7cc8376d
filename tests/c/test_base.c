/* test_base.c - the version, checked sizes, the bounded reader, and files read or mapped. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/mapfile.h"
#include "base/memory.h"
#include "base/reader.h"
#include "check.h"

static void test_version(void) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", PQ_VERSION_MAJOR, PQ_VERSION_MINOR, PQ_VERSION_PATCH);
    CHECK(strcmp(pq_version(), text) == 0);
}

static void test_checked(void) {
    uint64_t n = 7;
    CHECK(pq_checked_add(UINT64_MAX - 1, 1, &n) && n == UINT64_MAX);
    n = 7;
    CHECK(!pq_checked_add(UINT64_MAX, 1, &n) && n == 7);
    CHECK(!pq_checked_add(1, UINT64_MAX, &n));
    CHECK(pq_checked_mul(UINT32_MAX, UINT32_MAX, &n) && n == UINT64_C(0xFFFFFFFE00000001));
    CHECK(pq_checked_mul(0, UINT64_MAX, &n) && n == 0);
    CHECK(pq_checked_mul(UINT64_MAX, 1, &n) && n == UINT64_MAX);
    CHECK(!pq_checked_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &n));
    CHECK(!pq_checked_mul(4, (UINT64_C(1) << 62) + 1, &n)); /* would wrap to 4 */
    CHECK(pq_checked_align(33, 32, &n) && n == 64);
    CHECK(pq_checked_align(64, 32, &n) && n == 64);
    CHECK(pq_checked_align(0, 8, &n) && n == 0);
    CHECK(!pq_checked_align(UINT64_MAX - 5, 32, &n));
    size_t size;
    CHECK(pq_checked_size(10, 8, &size) && size == 80);
    CHECK(pq_checked_size(PTRDIFF_MAX, 1, &size) && size == PTRDIFF_MAX);
    CHECK(!pq_checked_size((uint64_t)PTRDIFF_MAX + 1, 1, &size));
    CHECK(!pq_checked_size(UINT64_C(1) << 61, 8, &size));
}

static void test_reader(void) {
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 255};
    pq_reader r = pq_reader_over(bytes, sizeof bytes);
    CHECK(pq_reader_u32(&r) == 0x04030201);
    CHECK(pq_reader_u64(&r) == UINT64_C(0x0C0B0A0908070605));
    CHECK(!pq_reader_failed(&r) && r.pos == 12);
    CHECK(pq_reader_bytes(&r, 0) == bytes + 12);

    /* A failed read moves nothing, says what it needs, and all later ones fail, the small ones too. */
    CHECK(pq_reader_u32(&r) == 0);
    CHECK(pq_reader_failed(&r) && r.wanted == 16 && r.pos == 12);
    CHECK(pq_reader_bytes(&r, 1) == NULL && r.wanted == 16);

    r = pq_reader_over(bytes, sizeof bytes);
    CHECK(pq_reader_bytes(&r, 13) == bytes);
    CHECK(pq_reader_bytes(&r, 0) == bytes + 13);
    CHECK(pq_reader_bytes(&r, UINT64_MAX) == NULL && r.wanted == UINT64_MAX);

    r = pq_reader_over(NULL, 0);
    CHECK(pq_reader_u64(&r) == 0 && r.wanted == 8);
}

static const char *const PATH = "test_base.tmp";

static void write_file(size_t n, const char *mode) {
    FILE *file = fopen(PATH, mode);
    CHECK(file != NULL);
    for (size_t i = 0; file && i < n; i++)
        fputc((int)(i * 31 % 251), file);
    if (file)
        fclose(file);
}

static void test_map(int mapped) {
    enum { BYTES = 100000 };
    write_file(BYTES, "wb");
    pq_map map;
    pq_error err;
    CHECK(pq_map_open(&map, PATH, "name", mapped, &err) == PQ_OK);
    CHECK(map.bytes == BYTES && (map.data != NULL) == mapped);

    uint8_t part[1000];
    CHECK(pq_map_read(&map, "name", 50000, sizeof part, part, &err) == PQ_OK);
    for (size_t i = 0; i < sizeof part; i++)
        CHECK(part[i] == (50000 + i) * 31 % 251);

    CHECK(!map.data || memcmp(map.data + 50000, part, sizeof part) == 0);
    CHECK(pq_map_check(&map, "name", &err) == PQ_OK);
#ifndef _WIN32 /* there, a file that is being read cannot be written */
    write_file(1, "ab");
    CHECK(pq_map_check(&map, "name", &err) == PQ_ERR_CHANGED);
    CHECK(strstr(err.text, "name: ") == err.text);
    write_file(10, "wb");
    CHECK(pq_map_read(&map, "name", 50000, sizeof part, part, &err) == PQ_ERR_CHANGED);
#endif
    pq_map_close(&map);
    remove(PATH);
}

static void test_map_refuses(void) {
    pq_map map;
    pq_error err;
    CHECK(pq_map_open(&map, "no/such/file", "file", 1, &err) == PQ_ERR_NOT_FOUND);
    CHECK(pq_map_open(&map, "no/such/file", "file", 1, NULL) == PQ_ERR_NOT_FOUND);
    CHECK(pq_map_open(&map, ".", "here", 1, &err) == PQ_ERR_IO);
    CHECK(strstr(err.text, "directory") != NULL);
    write_file(0, "wb");
    CHECK(pq_map_open(&map, PATH, "empty", 1, &err) == PQ_OK && map.bytes == 0 && !map.data);
    pq_map_close(&map);
    remove(PATH);
}

/* Small ones, and those in pages of their own, whole and in part. */
static void test_large_blocks(void) {
    const size_t sizes[] = {
        1, 100000, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, (4 << 20) + 5000, (9 << 20) - 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint8_t *block = pq_large_alloc(sizes[i]);
        CHECK(block != NULL && (uintptr_t)block % PQ_ALIGN == 0);
        if (block) {
            memset(block, 7, sizes[i]);
            CHECK(block[0] == 7 && block[sizes[i] - 1] == 7);
        }
        pq_large_free(block, sizes[i]);
        uint8_t *zeros = pq_large_calloc(sizes[i]);
        CHECK(zeros && zeros[0] == 0 && memcmp(zeros, zeros + 1, sizes[i] - 1) == 0);
        pq_large_free(zeros, sizes[i]);
    }
    CHECK(pq_large_alloc(SIZE_MAX) == NULL && pq_large_alloc(SIZE_MAX / 2) == NULL);
    pq_large_free(NULL, 1);
    pq_large_free(NULL, SIZE_MAX / 4);
}

int main(void) {
    test_version();
    test_checked();
    test_reader();
    test_map(0);
    test_map(1);
    test_map_refuses();
    test_large_blocks();
    return check_result();
}
