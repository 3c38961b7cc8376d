/* order.c - sorted indexes of keys and tensors, to look up and to find duplicates and overlaps. */
#include "directory.h"

#include <stdlib.h>
#include <string.h>

static void merge(const void *items, pq_compare_fn compare, const uint32_t *from, uint32_t *to,
                  size_t begin, size_t middle, size_t end) {
    size_t a = begin;
    size_t b = middle;
    for (size_t i = begin; i < end; i++) {
        int take_a = b == end || (a < middle && compare(items, from[a], from[b]) <= 0);
        to[i] = take_a ? from[a++] : from[b++];
    }
}

/* Bottom-up merge sort. */
uint32_t *pq_order(const void *items, uint32_t n, pq_compare_fn compare) {
    uint32_t *from = malloc(((size_t)n + 1) * sizeof *from);
    uint32_t *to = malloc(((size_t)n + 1) * sizeof *to);
    if (!from || !to) {
        free(from);
        free(to);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++)
        from[i] = i;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = begin + width < n ? begin + width : n;
            size_t end = begin + 2 * width < n ? begin + 2 * width : n;
            merge(items, compare, from, to, begin, middle, end);
        }
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    free(to);
    return from;
}

int pq_compare_keys(const void *keys, uint32_t a, uint32_t b) {
    const pq_key *k = keys;
    return strcmp(k[a].name, k[b].name);
}

int pq_compare_tensor_names(const void *tensors, uint32_t a, uint32_t b) {
    const pq_tensor *t = tensors;
    return strcmp(t[a].name, t[b].name);
}

/* Within one shard. */
int pq_compare_tensor_places(const void *tensors, uint32_t a, uint32_t b) {
    const pq_tensor *t = tensors;
    return (t[a].offset > t[b].offset) - (t[a].offset < t[b].offset);
}
