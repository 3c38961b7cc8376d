/* test_gguf.c - what only C sees of a GGUF file: typed getters, the mapping, and failing allocations. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "gguf/gguf.h"

/* ------------------------------------------------------------------------- a file, byte by byte */

static const char *const PATH = "test_gguf.tmp";
static FILE *out;

static void put(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        fputc((int)(value >> (8 * i) & 0xFF), out);
}

static void put_text(const char *text, size_t n) {
    put(n, 8);
    fwrite(text, 1, n, out);
}

static void put_key(const char *name, pq_value_type type) {
    put_text(name, strlen(name));
    put(type, 4);
}

static void put_integer(const char *name, pq_value_type type, uint64_t value, int bytes) {
    put_key(name, type);
    put(value, bytes);
}

static void put_double(const char *name, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_integer(name, PQ_VALUE_F64, bits, 8);
}

static void put_float(const char *name, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_integer(name, PQ_VALUE_F32, bits, 4);
}

static void write_model(void) {
    out = fopen(PATH, "wb");
    CHECK(out != NULL);
    fputs("GGUF", out);
    put(3, 4);
    put(2, 8);
    put(16, 8);
    put_integer("u8", PQ_VALUE_U8, 200, 1);
    put_integer("i8", PQ_VALUE_I8, 100, 1);
    put_integer("i8 negative", PQ_VALUE_I8, 0xFF, 1);
    put_integer("u16", PQ_VALUE_U16, 65535, 2);
    put_integer("i32 negative", PQ_VALUE_I32, (uint32_t)-5, 4);
    put_integer("u64", PQ_VALUE_U64, 1000, 8);
    put_integer("u64 large", PQ_VALUE_U64, UINT64_C(1) << 32, 8);
    put_integer("i64", PQ_VALUE_I64, 7, 8);
    put_float("f32", 0.5f);
    put_double("f64", 1e300);
    put_float("nan", NAN);
    put_double("inf", INFINITY);
    put_integer("bool", PQ_VALUE_BOOL, 1, 1);
    put_key("string", PQ_VALUE_STRING);
    put_text("hello", 5);
    put_key("string with NUL", PQ_VALUE_STRING);
    put_text("a\0b", 3);
    put_key("strings", PQ_VALUE_ARRAY);
    put(PQ_VALUE_STRING, 4);
    put(2, 8);
    put_text("ab", 2);
    put_text("c", 1);
    for (int i = 0; i < 2; i++) { /* two tensors of 8192 floats */
        put_text(i == 0 ? "a" : "b", 1);
        put(1, 4);
        put(8192, 8);
        put(0, 4);
        put((uint64_t)i * 32768, 8);
    }
    while (ftell(out) % 32 != 0)
        fputc(0, out);
    for (int i = 0; i < 65536; i++)
        fputc(i * 7 % 251, out);
    fclose(out);
}

/* -------------------------------------------------------------------------------------- getters */

static void test_u32(const pq_file *file) {
    pq_error err;
    uint32_t n = 99;
    CHECK(pq_file_get_u32(file, "absent", 0, 10, &n, 0, &err) == PQ_OK && n == 99);
    CHECK(pq_file_get_u32(file, "absent", 0, 10, &n, 1, &err) == PQ_ERR_FORMAT);
    CHECK(strstr(err.text, "test_gguf.tmp: the key 'absent' is missing") != NULL);
    CHECK(strcmp(err.field, "absent") == 0);
    CHECK(pq_file_get_u32(file, "u8", 0, 200, &n, 1, &err) == PQ_OK && n == 200);
    CHECK(pq_file_get_u32(file, "u8", 0, 199, &n, 1, &err) == PQ_ERR_FORMAT && n == 200);
    CHECK(strstr(err.text, "is 200, outside the range 0 to 199") != NULL);
    CHECK(pq_file_get_u32(file, "u8", 201, 300, &n, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_u32(file, "i8", 0, 200, &n, 1, &err) == PQ_OK && n == 100);
    CHECK(pq_file_get_u32(file, "i8 negative", 0, UINT32_MAX, &n, 1, &err) == PQ_ERR_FORMAT);
    CHECK(strstr(err.text, "is -1, outside") != NULL);
    CHECK(pq_file_get_u32(file, "i32 negative", 0, UINT32_MAX, &n, 1, &err) == PQ_ERR_FORMAT);
    CHECK(strstr(err.text, "is -5, outside") != NULL);
    CHECK(pq_file_get_u32(file, "u16", 0, 65535, &n, 1, &err) == PQ_OK && n == 65535);
    CHECK(pq_file_get_u32(file, "u64", 0, UINT32_MAX, &n, 1, &err) == PQ_OK && n == 1000);
    CHECK(pq_file_get_u32(file, "u64 large", 0, UINT32_MAX, &n, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_u32(file, "i64", 0, 10, &n, 1, &err) == PQ_OK && n == 7);
    CHECK(pq_file_get_u32(file, "f32", 0, 10, &n, 1, &err) == PQ_ERR_FORMAT);
    CHECK(strstr(err.text, "is of type f32 and should be an integer") != NULL);
    CHECK(pq_file_get_u32(file, "bool", 0, 10, &n, 1, &err) == PQ_ERR_FORMAT && n == 7);
}

static void test_real_and_bool(const pq_file *file) {
    pq_error err;
    float single = -1;
    double real = -1;
    CHECK(pq_file_get_f32(file, "absent", 0, 1, &single, 0, &err) == PQ_OK && single == -1);
    CHECK(pq_file_get_f32(file, "absent", 0, 1, &single, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_f32(file, "f32", 0, 1, &single, 1, &err) == PQ_OK && single == 0.5f);
    CHECK(pq_file_get_f32(file, "f32", 0.6, 1, &single, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_f64(file, "f64", 0, 1e301, &real, 1, &err) == PQ_OK && real == 1e300);
    CHECK(pq_file_get_f64(file, "nan", -1e9, 1e9, &real, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_f64(file, "inf", 0, INFINITY, &real, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_f64(file, "u8", 0, 300, &real, 1, &err) == PQ_ERR_FORMAT && real == 1e300);
    CHECK(strstr(err.text, "should be a floating-point number") != NULL);
}

static void test_texts(const pq_file *file) {
    pq_error err;
    char text[6] = "?";
    const char *where = NULL;
    uint64_t bytes = 0;
    CHECK(pq_file_get_text(file, "absent", text, sizeof text, 0, &err) == PQ_OK && text[0] == '?');
    CHECK(pq_file_get_text(file, "string", text, 5, 1, &err) == PQ_ERR_FORMAT && text[0] == '?');
    CHECK(pq_file_get_text(file, "string", text, 6, 1, &err) == PQ_OK);
    CHECK(strcmp(text, "hello") == 0);
    CHECK(pq_file_get_text(file, "string with NUL", text, 6, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_text(file, "u8", text, 6, 1, &err) == PQ_ERR_FORMAT);
    CHECK(pq_file_get_string(file, "string with NUL", &where, &bytes, 1, &err) == PQ_OK);
    CHECK(bytes == 3 && memcmp(where, "a\0b", 3) == 0);

    const pq_key *strings = pq_file_find_key(file, "strings");
    uint64_t bounds[3];
    CHECK(strings && strings->bytes == 3 && strings->count == 2);
    CHECK(pq_file_strings(file, strings, NULL, bounds, &err) == PQ_OK);
    CHECK(bounds[0] == 0 && bounds[1] == 2 && bounds[2] == 3);
    CHECK(pq_file_strings(file, strings, text, bounds, &err) == PQ_OK);
    CHECK(memcmp(text, "abc", 3) == 0);
    CHECK(pq_file_strings(file, pq_file_key(file, 0), text, bounds, &err) == PQ_ERR_ARGUMENT);
    pq_key foreign = *strings;
    CHECK(pq_file_strings(file, &foreign, text, bounds, &err) == PQ_ERR_ARGUMENT);
}

static void test_tensors(const pq_file *file, pq_load load) {
    pq_error err;
    uint8_t bytes[100];
    const pq_tensor *b = pq_file_find_tensor(file, "b");
    CHECK(b && b == pq_file_tensor(file, 1) && !pq_file_find_tensor(file, "c"));
    CHECK(!pq_file_tensor(file, 2) && !pq_file_key(file, 16));
    CHECK(pq_file_read(file, b, 32768 - 100, 100, bytes, &err) == PQ_OK);
    for (int i = 0; i < 100; i++)
        CHECK(bytes[i] == (65536 - 100 + i) * 7 % 251);
    CHECK(pq_file_read(file, b, 32768, 0, NULL, &err) == PQ_OK);
    CHECK(pq_file_read(file, b, 32768, 1, bytes, &err) == PQ_ERR_ARGUMENT);
    CHECK(pq_file_read(file, b, 1, UINT64_MAX, bytes, &err) == PQ_ERR_ARGUMENT);
    pq_tensor foreign = *b;
    CHECK(pq_file_read(file, &foreign, 0, 1, bytes, &err) == PQ_ERR_ARGUMENT);
    const uint8_t *map = pq_file_tensor_map(file, b);
    CHECK((map != NULL) == (load == PQ_LOAD_MMAP));
    CHECK((uintptr_t)map % 32 == 0);
    CHECK(!map || memcmp(map + 32768 - 100, bytes, 100) == 0);
    CHECK(pq_file_check_unchanged(file, &err) == PQ_OK);
}

static void test_file(pq_load load) {
    pq_file *file = NULL;
    pq_error err = {.text = ""};
    CHECK(pq_file_open(&file, PATH, load, &err) == PQ_OK);
    if (!file) {
        fprintf(stderr, "%s\n", err.text);
        return;
    }
    CHECK(strcmp(pq_file_name(file), PATH) == 0);
    test_u32(file);
    test_real_and_bool(file);
    test_texts(file);
    test_tensors(file, load);
    pq_file_close(file);
    pq_file_close(NULL);
}

/* -------------------------------------------------------------------------- failing allocations */

#ifdef PQ_WRAPPED_MALLOC
/* The linker sends the core's allocations here: the one numbered `failing` finds no memory. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);

static int allocations;
static int failing;

void *__wrap_malloc(size_t bytes) {
    return ++allocations == failing ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes) {
    return ++allocations == failing ? NULL : __real_calloc(n, bytes);
}

/* Each allocation of an open fails in turn. What was allocated before is freed: the leak checker of a
 * sanitizer build watches. */
static void test_no_memory(pq_load load) {
    pq_file *file = NULL;
    pq_status status = PQ_ERR_MEMORY;
    for (failing = 1; status != PQ_OK && failing < 100; failing++) {
        pq_error err = {.text = ""};
        allocations = 0;
        status = pq_file_open(&file, PATH, load, &err);
        CHECK(status == PQ_OK || status == PQ_ERR_MEMORY);
        CHECK(status == PQ_OK || strstr(err.text, "out of memory: ") == err.text);
        CHECK(status == PQ_OK || file == NULL);
    }
    failing = 0;
    CHECK(status == PQ_OK && allocations >= 8);
    pq_file_close(file);
}
#endif

int main(void) {
    write_model();
    test_file(PQ_LOAD_MMAP);
    test_file(PQ_LOAD_COPY);
#ifdef PQ_WRAPPED_MALLOC
    test_no_memory(PQ_LOAD_MMAP);
    test_no_memory(PQ_LOAD_COPY);
#endif
    remove(PATH);
    return check_result();
}
