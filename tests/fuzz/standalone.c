/* standalone.c - runs a fuzz target on the files named as arguments, without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        return 0;
    long n = ftell(file);
    rewind(file);
    /* As large as the input to the byte, so that a sanitizer sees every read beyond it. */
    uint8_t *data = n >= 0 ? malloc((size_t)n + !n) : NULL;
    int whole = data && fread(data, 1, (size_t)n, file) == (size_t)n;
    fclose(file);
    if (whole)
        LLVMFuzzerTestOneInput(data, (size_t)n);
    free(data);
    return whole;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (!replay(argv[i])) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 1;
        }
    }
    printf("%d files replayed\n", argc - 1);
    return 0;
}
