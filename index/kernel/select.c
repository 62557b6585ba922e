/* Keeping the nearest rows: a running threshold taken from a histogram of distances. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

bool selection_open(selection *s, int64_t limit, int32_t radius, bool counts_all, bool in_order) {
    s->limit = limit;
    s->counts_all = counts_all;
    s->failed = false;
    s->capacity = limit < 480 ? 2 * limit + 64 : 1024;
    s->candidates = malloc(sizeof(candidate) * (size_t)s->capacity);
    selection_reset(s, radius, in_order);
    return s->candidates != NULL;
}

void selection_reset(selection *s, int32_t radius, bool in_order) {
    s->below = s->stored = 0;
    s->keep = s->accept = radius;
    s->in_order = in_order;
    memset(s->histogram, 0, sizeof s->histogram);
}

void selection_close(selection *s) { free(s->candidates); }

/* Drop what the threshold has left behind; grow where that frees little. */
static void make_room(selection *s) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->stored; i++)
        if ((int32_t)s->candidates[i].distance <= s->keep) s->candidates[kept++] = s->candidates[i];
    s->stored = kept;
    if (kept <= s->capacity / 2) return;
    candidate *grown = realloc(s->candidates, sizeof(candidate) * 2 * (size_t)s->capacity);
    if (!grown) {
        s->failed = true;
        s->stored = 0;
        return;
    }
    s->candidates = grown;
    s->capacity *= 2;
}

void selection_take(selection *s, const segment *g, int64_t entry, int32_t distance) {
    if (distance > s->accept) return;
    uint32_t code = g->ids ? g->ids[entry] : (uint32_t)entry;
    int64_t weight = g->live ? g->live[code] : g->starts ? g->starts[code + 1] - g->starts[code] : g->mask ? g->mask[code] : 1;
    if (!weight) return;
    int64_t before = s->histogram[distance];
    s->histogram[distance] = before + weight;
    if (distance > s->keep || (distance == s->keep && s->in_order && s->below + before >= s->limit)) return;
    if (s->stored == s->capacity) make_room(s);
    s->candidates[s->stored++] = (candidate){(uint32_t)distance, code};
    if (distance == s->keep) return;
    s->below += weight;
    while (s->below >= s->limit) s->below -= s->histogram[--s->keep];
    if (!s->counts_all) s->accept = s->keep;
}

/* Stable sort by the lowest `bits` bits; `keys` and `other` hold n each, the result is in the one returned. */
static uint64_t *sort_keys(uint64_t *keys, uint64_t *other, int64_t n, int32_t bits) {
    if (n <= 48) {
        for (int64_t i = 1; i < n; i++) {
            uint64_t key = keys[i];
            int64_t j = i;
            for (; j > 0 && keys[j - 1] > key; j--) keys[j] = keys[j - 1];
            keys[j] = key;
        }
        return keys;
    }
    for (int32_t shift = 0; shift < bits; shift += 8) {
        int64_t place[257] = {0};
        for (int64_t i = 0; i < n; i++) place[(keys[i] >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++) place[b + 1] += place[b];
        for (int64_t i = 0; i < n; i++) other[place[keys[i] >> shift & 255]++] = keys[i];
        uint64_t *swap = keys;
        keys = other;
        other = swap;
    }
    return keys;
}

/* Keep the `room` smallest of all keys offered, as a heap with the largest on top. */
static void offer(uint64_t *heap, int64_t *size, int64_t room, uint64_t key) {
    int64_t at;
    if (*size < room) {
        for (at = (*size)++; at > 0 && heap[(at - 1) / 2] < key; at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    } else {
        at = 0;
        for (int64_t child; (child = 2 * at + 1) < room; at = child) {
            if (child + 1 < room && heap[child + 1] > heap[child]) child++;
            if (heap[child] <= key) break;
            heap[at] = heap[child];
        }
    }
    heap[at] = key;
}

static int32_t width_of(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }

/* The rows of the candidates up to `keep`, its tie cut at the lowest rows, as keys distance << 32 | row. */
static int64_t expand(const selection *s, const segment *g, uint64_t *keys) {
    int64_t n = 0, ties = 0, room = s->limit - s->below;
    for (int64_t i = 0; i < s->stored; i++) {
        candidate c = s->candidates[i];
        if ((int32_t)c.distance >= s->keep) continue;
        uint64_t high = (uint64_t)c.distance << 32;
        if (!g->starts) keys[n++] = high | c.code;
        else
            for (uint32_t p = g->starts[c.code]; p < g->starts[c.code + 1]; p++)
                if (!g->mask || g->mask[g->rows[p]]) keys[n++] = high | g->rows[p];
    }
    uint64_t *heap = keys + n, high = (uint64_t)s->keep << 32;
    for (int64_t i = 0; i < s->stored; i++) {
        candidate c = s->candidates[i];
        if ((int32_t)c.distance != s->keep) continue;
        uint32_t p = g->starts ? g->starts[c.code] : 0, end = g->starts ? g->starts[c.code + 1] : 1;
        for (; p < end; p++) {
            uint32_t row = g->starts ? g->rows[p] : c.code;
            if (g->mask && !g->mask[row]) continue;
            if (ties == room && (high | row) > heap[0]) break; /* lists ascend */
            offer(heap, &ties, room, high | row);
        }
    }
    return n + ties;
}

/* Candidates that came in row order need no sort: each goes to the next place of its distance. */
static int64_t place_in_order(const selection *s, int64_t *rows, int32_t *distances) {
    int64_t place[MAX_BITS + 1], total = 0;
    for (int32_t d = 0; d <= s->keep; d++) {
        place[d] = total;
        total += s->histogram[d];
    }
    for (int64_t i = 0; i < s->stored; i++) {
        candidate c = s->candidates[i];
        if ((int32_t)c.distance > s->keep || place[c.distance] >= s->limit) continue;
        distances[place[c.distance]] = (int32_t)c.distance;
        rows[place[c.distance]++] = c.code;
    }
    return total < s->limit ? total : s->limit;
}

/* Writes the rows and distances, at most `limit` of each, and clears the histogram beyond the last.
 * Returns how many, or -1 where memory ran out. */
int64_t selection_finish(selection *s, const segment *g, int64_t *rows, int32_t *distances) {
    if (s->failed) return -1;
    int64_t n, reached = s->below + s->histogram[s->keep];
    if (s->in_order) {
        n = place_in_order(s, rows, distances);
    } else {
        n = reached < s->limit ? reached : s->limit;
        uint64_t *keys = malloc(sizeof(uint64_t) * 2 * (size_t)(n + 1));
        if (!keys) return -1;
        n = expand(s, g, keys);
        uint32_t widest = 0;
        for (int64_t i = 0; i < n; i++) widest |= (uint32_t)keys[i];
        int32_t bits = width_of(widest);
        for (int64_t i = 0; i < n; i++) keys[i] = (keys[i] >> 32) << bits | (uint32_t)keys[i];
        uint64_t *sorted = sort_keys(keys, keys + n, n, bits + width_of((uint64_t)s->keep));
        for (int64_t i = 0; i < n; i++) {
            distances[i] = (int32_t)(sorted[i] >> bits);
            rows[i] = (int64_t)(sorted[i] & ((1ull << bits) - 1));
        }
        free(keys);
    }
    int32_t last = n ? distances[n - 1] : -1;
    memset(s->histogram + last + 1, 0, sizeof(int64_t) * (size_t)(MAX_BITS - last));
    return n;
}
