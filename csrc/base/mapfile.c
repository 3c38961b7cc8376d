/* mapfile.c - see mapfile.h. One half per operating system; only this file knows either. */
#define _FILE_OFFSET_BITS 64 /* large files on 32-bit systems */
#include "mapfile.h"

#include <stdlib.h>
#include <string.h>

static pq_status fail_changed(const char *name, pq_error *err) {
    return pq_fail(err, PQ_ERR_CHANGED,
                   "%s: the file was changed on disk while it was open; open it again, or use "
                   "load=\"copy\" if it is meant to change",
                   name);
}

static pq_status fail_too_large(const char *name, uint64_t bytes, pq_error *err) {
    return pq_fail(err, PQ_ERR_UNSUPPORTED,
                   "%s: %llu bytes do not fit this system's address space; use load=\"copy\"", name,
                   (unsigned long long)bytes);
}

#ifdef _WIN32
/* -------------------------------------------------------------------------------------- Windows */

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

static HANDLE handle_of(const pq_map *map) {
    return (HANDLE)map->handle;
}

static pq_status fail_system(const char *name, const char *what, DWORD code, pq_error *err) {
    char reason[160] = "";
    DWORD n = FormatMessageA(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, code,
                             0, reason, sizeof reason - 1, NULL);
    while (n > 0 && (unsigned char)reason[n - 1] <= ' ')
        n--;
    reason[n] = '\0';
    const pq_status status = code == ERROR_NOT_ENOUGH_MEMORY ? PQ_ERR_MEMORY : PQ_ERR_IO;
    return pq_fail(err, status, "%s: cannot be %s: %s (Windows error %lu)", name, what, reason,
                   (unsigned long)code);
}

static wchar_t *wide_path(const char *path) {
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *wide = n > 0 ? malloc((size_t)n * sizeof *wide) : NULL;
    if (wide)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, n);
    return wide;
}

static int64_t joined(DWORD high, DWORD low) {
    return (int64_t)(((uint64_t)high << 32) | low);
}

static pq_status open_handle(HANDLE *out, const char *path, const char *name, pq_error *err) {
    wchar_t *wide = wide_path(path);
    if (!wide)
        return pq_fail(err, PQ_ERR_ARGUMENT, "%s: the path is not valid UTF-8", name);
    DWORD attributes = GetFileAttributesW(wide);
    HANDLE handle = INVALID_HANDLE_VALUE;
    DWORD code = attributes == INVALID_FILE_ATTRIBUTES ? GetLastError() : 0;
    int directory = !code && (attributes & FILE_ATTRIBUTE_DIRECTORY);
    if (!code && !directory) {
        handle = CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL,
                             OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
        if (handle == INVALID_HANDLE_VALUE)
            code = GetLastError();
    }
    free(wide);
    if (directory)
        return pq_fail(err, PQ_ERR_IO, "%s: is a directory; name the model file inside it", name);
    if (code == ERROR_FILE_NOT_FOUND || code == ERROR_PATH_NOT_FOUND)
        return pq_fail(err, PQ_ERR_NOT_FOUND, "%s: no such file", name);
    if (code)
        return fail_system(name, "opened", code, err);
    if (GetFileType(handle) != FILE_TYPE_DISK) {
        CloseHandle(handle);
        return pq_fail(err, PQ_ERR_IO, "%s: is a pipe or device, not a regular file", name);
    }
    *out = handle;
    return PQ_OK;
}

static pq_status map_view(pq_map *map, const char *name, pq_error *err) {
    if (map->bytes > SIZE_MAX)
        return fail_too_large(name, map->bytes, err);
    HANDLE mapping = CreateFileMappingW(handle_of(map), NULL, PAGE_READONLY, 0, 0, NULL);
    if (!mapping)
        return fail_system(name, "mapped", GetLastError(), err);
    map->data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, (SIZE_T)map->bytes);
    DWORD code = map->data ? 0 : GetLastError();
    CloseHandle(mapping); /* the view keeps the mapping alive */
    return code ? fail_system(name, "mapped", code, err) : PQ_OK;
}

pq_status pq_map_open(pq_map *out, const char *path, const char *name, int mapped, pq_error *err) {
    HANDLE handle = INVALID_HANDLE_VALUE;
    pq_status status = open_handle(&handle, path, name, err);
    if (status != PQ_OK)
        return status;
    pq_map map = {.handle = (intptr_t)handle};
    BY_HANDLE_FILE_INFORMATION info;
    if (GetFileInformationByHandle(handle, &info)) {
        map.bytes = (uint64_t)joined(info.nFileSizeHigh, info.nFileSizeLow);
        map.modified =
            joined(info.ftLastWriteTime.dwHighDateTime, info.ftLastWriteTime.dwLowDateTime);
    } else {
        status = fail_system(name, "examined", GetLastError(), err);
    }
    if (status == PQ_OK && mapped && map.bytes > 0)
        status = map_view(&map, name, err);
    if (status != PQ_OK) {
        pq_map_close(&map);
        return status;
    }
    *out = map;
    return PQ_OK;
}

void pq_map_close(pq_map *map) {
    if (map->data)
        UnmapViewOfFile(map->data);
    CloseHandle(handle_of(map));
    map->data = NULL;
}

void pq_map_ask_for_huge_pages(const pq_map *map) {
    (void)map;
}

pq_status pq_map_read(const pq_map *map, const char *name, uint64_t offset, uint64_t bytes,
                      void *dst, pq_error *err) {
    uint8_t *to = dst;
    while (bytes > 0) {
        OVERLAPPED at = {0};
        at.Offset = (DWORD)offset;
        at.OffsetHigh = (DWORD)(offset >> 32);
        DWORD n = 0;
        DWORD ask = bytes > (1u << 30) ? 1u << 30 : (DWORD)bytes;
        if (!ReadFile(handle_of(map), to, ask, &n, &at) && GetLastError() != ERROR_HANDLE_EOF)
            return fail_system(name, "read", GetLastError(), err);
        if (n == 0)
            return fail_changed(name, err);
        to += n;
        offset += n;
        bytes -= n;
    }
    return PQ_OK;
}

pq_status pq_map_check(const pq_map *map, const char *name, pq_error *err) {
    BY_HANDLE_FILE_INFORMATION info;
    if (!GetFileInformationByHandle(handle_of(map), &info))
        return fail_system(name, "examined", GetLastError(), err);
    int same = (uint64_t)joined(info.nFileSizeHigh, info.nFileSizeLow) == map->bytes &&
               joined(info.ftLastWriteTime.dwHighDateTime, info.ftLastWriteTime.dwLowDateTime) ==
                   map->modified;
    return same ? PQ_OK : fail_changed(name, err);
}

#else
/* ---------------------------------------------------------------------------------------- POSIX */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static pq_status fail_system(const char *name, const char *what, int code, pq_error *err) {
    if (code == ENOENT || code == ENOTDIR)
        return pq_fail(err, PQ_ERR_NOT_FOUND, "%s: no such file", name);
    const pq_status status = code == ENOMEM ? PQ_ERR_MEMORY : PQ_ERR_IO;
    return pq_fail(err, status, "%s: cannot be %s: %s", name, what, strerror(code));
}

static pq_status require_regular(const struct stat *st, const char *name, pq_error *err) {
    if (S_ISREG(st->st_mode))
        return PQ_OK;
    if (S_ISDIR(st->st_mode))
        return pq_fail(err, PQ_ERR_IO, "%s: is a directory; name the model file inside it", name);
    const char *kind = S_ISFIFO(st->st_mode)   ? "a pipe"
                       : S_ISSOCK(st->st_mode) ? "a socket"
                                               : "a device";
    return pq_fail(err, PQ_ERR_IO, "%s: is %s, not a regular file", name, kind);
}

static int64_t modification_time(const struct stat *st) {
#ifdef __APPLE__
    return (int64_t)st->st_mtimespec.tv_sec * 1000000000 + st->st_mtimespec.tv_nsec;
#else
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
#endif
}

/* Looks before opening, because opening a device can have effects; and again at what was opened. */
static pq_status open_regular(int *out, struct stat *st, const char *path, const char *name,
                              pq_error *err) {
    if (stat(path, st) != 0)
        return fail_system(name, "opened", errno, err);
    pq_status status = require_regular(st, name, err);
    if (status != PQ_OK)
        return status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_system(name, "opened", errno, err);
    status = fstat(fd, st) == 0 ? require_regular(st, name, err)
                                : fail_system(name, "examined", errno, err);
    if (status != PQ_OK) {
        close(fd);
        return status;
    }
    *out = fd;
    return PQ_OK;
}

pq_status pq_map_open(pq_map *out, const char *path, const char *name, int mapped, pq_error *err) {
    struct stat st;
    int fd = -1;
    pq_status status = open_regular(&fd, &st, path, name, err);
    if (status != PQ_OK)
        return status;
    pq_map map = {.bytes = (uint64_t)st.st_size, .handle = fd, .modified = modification_time(&st)};
    if (mapped && map.bytes > SIZE_MAX) {
        status = fail_too_large(name, map.bytes, err);
    } else if (mapped && map.bytes > 0) {
        void *data = mmap(NULL, (size_t)map.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data != MAP_FAILED)
            map.data = data;
        else
            status = fail_system(name, "mapped (load=\"copy\" needs no mapping)", errno, err);
    }
    if (status != PQ_OK) {
        close(fd);
        return status;
    }
    *out = map;
    return PQ_OK;
}

void pq_map_close(pq_map *map) {
    if (map->data)
        munmap((void *)(uintptr_t)map->data, (size_t)map->bytes);
    close((int)map->handle);
    map->data = NULL;
}

void pq_map_ask_for_huge_pages(const pq_map *map) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (map->data)
        madvise((void *)(uintptr_t)map->data, (size_t)map->bytes, MADV_HUGEPAGE);
#else
    (void)map;
#endif
}

pq_status pq_map_read(const pq_map *map, const char *name, uint64_t offset, uint64_t bytes,
                      void *dst, pq_error *err) {
    uint8_t *to = dst;
    while (bytes > 0) {
        size_t ask = bytes > (1u << 30) ? 1u << 30 : (size_t)bytes; /* some systems refuse 2 GiB */
        ssize_t n = pread((int)map->handle, to, ask, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_system(name, "read", errno, err);
        if (n == 0)
            return fail_changed(name, err);
        to += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return PQ_OK;
}

pq_status pq_map_check(const pq_map *map, const char *name, pq_error *err) {
    struct stat st;
    if (fstat((int)map->handle, &st) != 0)
        return fail_system(name, "examined", errno, err);
    int same = (uint64_t)st.st_size == map->bytes && modification_time(&st) == map->modified;
    return same ? PQ_OK : fail_changed(name, err);
}

#endif
