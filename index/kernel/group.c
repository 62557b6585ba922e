/* Sorting codes, so that equal ones lie together with their rows ascending. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

/* One stable pass over the byte at `shift` of keys and their rows. */
static bool pass(const uint64_t *keys, const uint32_t *order, uint64_t *keys_out, uint32_t *order_out, int64_t n,
                 int32_t shift) {
    int64_t place[257] = {0};
    for (int64_t i = 0; i < n; i++) place[(keys[i] >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++)
        if (place[b + 1] == n) return false; /* one value only: nothing moves */
    for (int b = 0; b < 256; b++) place[b + 1] += place[b];
    for (int64_t i = 0; i < n; i++) {
        int64_t to = place[keys[i] >> shift & 255]++;
        keys_out[to] = keys[i];
        order_out[to] = order[i];
    }
    return true;
}

/* The stable order of n codes by their planes, the last plane first in rank; false where memory ran out. */
EXPORT bool crossbit_sort(const uint64_t *planes, int64_t n, int32_t words, uint32_t *order) {
    size_t size = (size_t)n + 1;
    uint64_t *keys = malloc(8 * size), *keys_out = malloc(8 * size);
    uint32_t *from = malloc(4 * size), *to = malloc(4 * size);
    bool ok = keys && keys_out && from && to;
    for (int64_t i = 0; ok && i < n; i++) from[i] = (uint32_t)i;
    for (int32_t w = 0; ok && w < words; w++) {
        for (int64_t i = 0; i < n; i++) keys[i] = planes[w * n + from[i]];
        for (int32_t shift = 0; shift < 64; shift += 8)
            if (pass(keys, from, keys_out, to, n, shift)) {
                uint64_t *swap_keys = keys;
                uint32_t *swap = from;
                keys = keys_out, keys_out = swap_keys;
                from = to, to = swap;
            }
    }
    if (ok) memcpy(order, from, 4 * (size_t)n);
    free(to), free(from), free(keys_out), free(keys);
    return ok;
}
