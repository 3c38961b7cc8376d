/* foreign.c - recognizes what people open by mistake for a GGUF file, to tell them what it is. */
#include "directory.h"

#include <string.h>

typedef struct signature {
    const char *bytes;
    size_t n;
    const char *kind;
} signature;

#define STARTS_WITH(text) text, sizeof(text) - 1
#define OLD_GGML "a GGML file of 2023, older than GGUF; download the model again as GGUF"
#define ARCHIVE "; unpack it first"

static const signature SIGNATURES[] = {
    {STARTS_WITH("PK\x03\x04"),
     "a ZIP archive, probably a PyTorch checkpoint; download the model as GGUF, or convert it"},
    {STARTS_WITH("\x80\x02"), "a Python pickle, which is never loaded; download the model as GGUF"},
    {STARTS_WITH("\x80\x03"), "a Python pickle, which is never loaded; download the model as GGUF"},
    {STARTS_WITH("\x80\x04"), "a Python pickle, which is never loaded; download the model as GGUF"},
    {STARTS_WITH("\x80\x05"), "a Python pickle, which is never loaded; download the model as GGUF"},
    {STARTS_WITH("lmgg"), OLD_GGML},
    {STARTS_WITH("fmgg"), OLD_GGML},
    {STARTS_WITH("tjgg"), OLD_GGML},
    {STARTS_WITH("algg"), "a GGML adapter of 2023, older than GGUF; convert it to GGUF first"},
    {STARTS_WITH("FUGG"),
     "a GGUF file in big-endian byte order; convert it to little-endian first"},
    {STARTS_WITH("version https://git-lfs"),
     "a Git LFS pointer and not the model itself; run `git lfs pull`, or download the file"},
    {STARTS_WITH("\x1f\x8b"), "a gzip archive" ARCHIVE},
    {STARTS_WITH("\x28\xb5\x2f\xfd"), "a Zstandard archive" ARCHIVE},
    {STARTS_WITH("\xfd"
                 "7zXZ"),
     "an XZ archive" ARCHIVE},
    {STARTS_WITH("7z\xbc\xaf\x27\x1c"), "a 7-Zip archive" ARCHIVE},
    {STARTS_WITH("\x89HDF"), "an HDF5 file; download the model as GGUF"},
    {STARTS_WITH("\0\0\0\0\0\0\0\0"),
     "empty at its beginning (zero bytes), as an unfinished download "
     "is; download it again"},
};

static int starts_with_ignoring_case(const uint8_t *bytes, size_t n, const char *lower) {
    size_t i = 0;
    for (; lower[i] != '\0'; i++) {
        if (i >= n || (bytes[i] >= 'A' && bytes[i] <= 'Z' ? bytes[i] + 32 : bytes[i]) != lower[i])
            return 0;
    }
    return 1;
}

static const char *text_kind(const uint8_t *bytes, size_t n) {
    while (n > 0 && (*bytes == ' ' || *bytes == '\t' || *bytes == '\r' || *bytes == '\n')) {
        bytes++;
        n--;
    }
    if (starts_with_ignoring_case(bytes, n, "<!doctype") ||
        starts_with_ignoring_case(bytes, n, "<html") ||
        starts_with_ignoring_case(bytes, n, "<?xml"))
        return "a web page, probably the server's error message; download the file again";
    if (n > 0 && bytes[0] == '{')
        return "JSON text and not a model; name the model's .gguf file";
    return NULL;
}

const char *pq_foreign_kind(const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i < sizeof SIGNATURES / sizeof SIGNATURES[0]; i++) {
        if (n >= SIGNATURES[i].n && memcmp(bytes, SIGNATURES[i].bytes, SIGNATURES[i].n) == 0)
            return SIGNATURES[i].kind;
    }
    /* safetensors: the length of its JSON header in 8 bytes, then the header. */
    if (n >= 9 && bytes[8] == '{' && bytes[5] == 0 && bytes[6] == 0 && bytes[7] == 0)
        return "a safetensors file; download the model as GGUF, or convert its folder";
    return text_kind(bytes, n);
}
