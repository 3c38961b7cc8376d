/* fuzz_gguf.c - bytes -> GGUF directory -> every accessor. The bytes go through a file, as users' do. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf/gguf.h"

/* The result of every access ends here, so that none is optimized away. */
static volatile uint64_t sink;

static char temporary[] = "fuzz-gguf-XXXXXX"; /* in the working directory, which may be in memory */

static void remove_temporary(void) {
    remove(temporary);
}

/* Failures of the harness itself and of promises that need no sanitizer to check. */
static void require(int condition, const char *what) {
    if (!condition) {
        fprintf(stderr, "fuzz_gguf: %s\n", what);
        abort();
    }
}

static void touch(const void *data, uint64_t n) {
    const uint8_t *bytes = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum += bytes[i];
    sink += sum;
}

static void use_strings(const pq_file *file, const pq_key *key) {
    char *text = malloc((size_t)key->bytes + 1);
    uint64_t *bounds = malloc(((size_t)key->count + 1) * sizeof *bounds);
    require(text && bounds, "out of memory");
    pq_error err;
    require(pq_file_strings(file, key, text, bounds, &err) == PQ_OK, "strings refused");
    require(bounds[key->count] == key->bytes, "strings of another length than promised");
    touch(text, key->bytes);
    free(text);
    free(bounds);
}

static void use_key(const pq_file *file, const pq_key *key) {
    pq_error err;
    uint32_t integer = 0;
    double real = 0;
    char text[32];
    require(pq_file_find_key(file, key->name) == key, "a key is not found by its name");
    if (key->type == PQ_VALUE_ARRAY && key->element == PQ_VALUE_STRING)
        use_strings(file, key);
    else
        touch(key->data, key->bytes);
    sink += (uint64_t)pq_file_get_u32(file, key->name, 1, 1000, &integer, 1, &err) + integer;
    if (pq_file_get_f64(file, key->name, -1e9, 1e9, &real, 1, &err) == PQ_OK)
        require(real >= -1e9 && real <= 1e9, "a number outside its range");
    if (pq_file_get_text(file, key->name, text, sizeof text, 1, &err) == PQ_OK)
        require(strlen(text) == key->bytes, "a text of another length");
}

static void use_tensor(const pq_file *file, const pq_tensor *tensor) {
    pq_error err;
    uint8_t part[64];
    uint64_t n = tensor->bytes < sizeof part ? tensor->bytes : sizeof part;
    require(pq_file_find_tensor(file, tensor->name) == tensor, "a tensor is not found by its name");
    require(pq_file_read(file, tensor, 0, n, part, &err) == PQ_OK, "the beginning is not readable");
    require(pq_file_read(file, tensor, tensor->bytes - n, n, part, &err) == PQ_OK,
            "the end is not readable");
    const uint8_t *map = pq_file_tensor_map(file, tensor);
    if (map) {
        require(memcmp(map + tensor->bytes - n, part, (size_t)n) == 0, "map and read differ");
        touch(map, tensor->bytes);
    }
}

static void open_and_use(const char *path, pq_load load) {
    pq_file *file;
    pq_error err = {.text = ""};
    if (pq_file_open(&file, path, load, &err) != PQ_OK) {
        require(err.text[0] != '\0', "a failure without a message");
        return;
    }
    pq_file_info info;
    pq_file_describe(file, &info);
    require(info.tensor_bytes <= info.file_bytes, "more tensor bytes than file");
    for (uint64_t i = 0; i < info.keys; i++)
        use_key(file, pq_file_key(file, i));
    for (uint64_t i = 0; i < info.tensors; i++)
        use_tensor(file, pq_file_tensor(file, i));
    require(pq_file_check_unchanged(file, &err) == PQ_OK, "the file is thought to have changed");
    pq_file_close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static FILE *out;
    if (!out) {
        int fd = mkstemp(temporary);
        out = fd >= 0 ? fdopen(fd, "wb") : NULL;
        require(out != NULL, "no temporary file");
        atexit(remove_temporary);
    }
    rewind(out);
    int written = fwrite(data, 1, n, out) == n && fflush(out) == 0;
    require(written && ftruncate(fileno(out), (off_t)n) == 0, "the temporary file is not writable");
    open_and_use(temporary, PQ_LOAD_MMAP);
    open_and_use(temporary, PQ_LOAD_COPY);
    return 0;
}
