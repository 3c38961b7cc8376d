/* status.c - see status.h. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts at a character boundary, so that the text stays valid UTF-8. */
static void copy_text(char *dst, size_t room, const char *src) {
    size_t n = strlen(src);
    if (n >= room) {
        n = room - 1;
        while (n > 0 && ((unsigned char)src[n] & 0xC0) == 0x80)
            n--;
    }
    memcpy(dst, src, n);
    dst[n] = '\0';
}

static void fill(pq_error *err, const char *field, int64_t offset, const char *format,
                 va_list args) {
    char text[2 * sizeof err->text];
    vsnprintf(text, sizeof text, format, args);
    copy_text(err->text, sizeof err->text, text);
    copy_text(err->field, sizeof err->field, field ? field : "");
    err->offset = offset;
}

pq_status pq_fail(pq_error *err, pq_status status, const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, NULL, -1, format, args);
        va_end(args);
    }
    return status;
}

pq_status pq_fail_at(pq_error *err, pq_status status, const char *field, int64_t offset,
                     const char *format, ...) {
    if (err) {
        va_list args;
        va_start(args, format);
        fill(err, field, offset, format, args);
        va_end(args);
    }
    return status;
}

pq_status pq_fail_memory(pq_error *err, const char *what, uint64_t bytes) {
    return pq_fail(err, PQ_ERR_MEMORY, "out of memory: %s needs %llu bytes", what,
                   (unsigned long long)bytes);
}
