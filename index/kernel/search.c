/* The way of a batch: buckets first where they promise to pay, then one blocked scan for every query that is left. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#define GROUP 32               /* queries that share a pass over the codes */
#define BLOCK_BYTES (128 << 10) /* codes that stay in the cache while a group passes over them */

/* The account of the buckets, in units of one scanned entry: scans pay in a little, lookups that fail take out what
 * they cost, lookups that succeed put in what they saved. So lookups cost at most a small share of all scans. */
#define SHARE 25 /* one part in so many */
#define CEILING 40 /* scans' worth */

enum strategy { SCAN, LOOKUP, FALLBACK };

typedef struct {
    const uint64_t *queries; /* (count, words) */
    int64_t count, limit;
    int32_t radius;
    int64_t everyone;    /* rows that may be found; -1: count those within the radius */
    int64_t *credit;
    int64_t *offsets;    /* (count + 1) while searching, offsets[q + 1] is how many rows query q has */
    int64_t *totals;     /* (count) */
    int64_t *candidates; /* (count) codes whose distance a lookup counted */
    int64_t *histogram;  /* (count, bits + 1) */
    int64_t *rows;       /* (count, limit) */
    int32_t *distances;  /* (count, limit) */
    uint8_t *strategies; /* (count) */
} batch;

/* Where each part of the answer lies in `out`: library.py reads them in this order. */
static void lay_out(batch *b, int32_t bits, int64_t *out) {
    b->offsets = out;
    b->totals = b->offsets + b->count + 1;
    b->candidates = b->totals + b->count;
    b->histogram = b->candidates + b->count;
    b->rows = b->histogram + b->count * (bits + 1);
    b->distances = (int32_t *)(b->rows + b->count * b->limit);
    b->strategies = (uint8_t *)(b->distances + b->count * b->limit);
    memset(b->candidates, 0, sizeof(int64_t) * (size_t)b->count);
    memset(b->strategies, SCAN, (size_t)b->count);
}

/* Brings the rows and distances of all queries together, without gaps, and turns their numbers into offsets. */
static void close_gaps(const batch *b) {
    b->offsets[0] = 0;
    for (int64_t q = 0; q < b->count; q++) {
        int64_t to = b->offsets[q], from = q * b->limit, n = b->offsets[q + 1];
        if (to != from) {
            memmove(b->rows + to, b->rows + from, sizeof(int64_t) * (size_t)n);
            memmove(b->distances + to, b->distances + from, sizeof(int32_t) * (size_t)n);
        }
        b->offsets[q + 1] = to + n;
    }
}

/* (count, bits / 8) packed codes as whole words, unused high bits zero. */
static void to_words(const batch *b, const segment *g, const uint8_t *packed, uint64_t *words) {
    size_t bytes = (size_t)g->bits / 8;
    for (int64_t q = 0; q < b->count; q++) {
        words[(q + 1) * g->words - 1] = 0;
        memcpy(words + q * g->words, packed + (size_t)q * bytes, bytes);
    }
}

static bool finish(const batch *b, const segment *g, int64_t query, selection *s) {
    int64_t bins = g->bits + 1, within = 0;
    for (int64_t d = 0; d < bins; d++) within += s->histogram[d];
    b->totals[query] = b->everyone < 0 ? within : b->everyone;
    int64_t n = selection_finish(s, g, b->rows + query * b->limit, b->distances + query * b->limit);
    if (n < 0) return false;
    b->offsets[query + 1] = n;
    memcpy(b->histogram + query * bins, s->histogram, sizeof(int64_t) * (size_t)bins);
    return true;
}

/* Answers what lookups can answer; `left` gets the queries that they cannot, and how many is returned. */
static int64_t look_up_all(const batch *b, const segment *g, const mih *m, int64_t *left, selection *s) {
    int64_t remaining = 0, most = CEILING * g->count;
    for (int64_t q = 0; q < b->count; q++) {
        int64_t credit = __atomic_load_n(b->credit, __ATOMIC_RELAXED), work = 0, budget = g->count / 2 + 4096;
        bool complete = false;
        if (credit > 0) {
            if (budget > credit) budget = credit;
            selection_reset(s, b->radius, false);
            complete = mih_search(m, g, b->queries + q * g->words, budget, s, b->candidates + q, &work);
            b->strategies[q] = complete ? LOOKUP : FALLBACK;
        }
        int64_t gain = complete ? g->count - work : g->count / SHARE - work;
        credit = credit + gain < most ? credit + gain : most;
        __atomic_store_n(b->credit, credit, __ATOMIC_RELAXED);
        if (!complete) left[remaining++] = q;
        else if (!finish(b, g, q, s)) return -1;
    }
    return remaining;
}

static bool scan_group(const batch *b, const segment *g, const int64_t *which, int32_t count, selection *s,
                       uint64_t *queries) {
    for (int32_t a = 0; a < count; a++) {
        selection_reset(s + a, b->radius, !g->starts);
        memcpy(queries + a * g->words, b->queries + which[a] * g->words, sizeof(uint64_t) * (size_t)g->words);
    }
    int64_t block = count == 1 ? g->count : BLOCK_BYTES / 8 / g->words;
    for (int64_t low = 0; low < g->count; low += block)
        scan(g, low, low + block < g->count ? low + block : g->count, queries, s, count);
    for (int32_t a = 0; a < count; a++)
        if (!finish(b, g, which[a], s + a)) return false;
    return true;
}

static bool run(const batch *b, const segment *g, const mih *m, int64_t *left, uint64_t *queries, selection *s) {
    int64_t remaining = b->count;
    if (m) {
        remaining = look_up_all(b, g, m, left, s);
        if (remaining < 0) return false;
    } else
        for (int64_t q = 0; q < b->count; q++) left[q] = q;
    for (int64_t at = 0; at < remaining; at += GROUP) {
        int32_t count = remaining - at < GROUP ? (int32_t)(remaining - at) : GROUP;
        if (!scan_group(b, g, left + at, count, s, queries)) return false;
    }
    return true;
}

/* Answers (count, bits / 8) packed queries; false where memory ran out. `m` may be NULL. */
EXPORT bool crossbit_search_packed(const segment *g, const mih *m, const uint8_t *packed, int64_t count, int64_t limit,
                            int32_t radius, int64_t everyone, int64_t *credit, int64_t *out) {
    int32_t group = count < GROUP ? (int32_t)count : GROUP, opened = 0;
    int64_t *left = malloc(sizeof(int64_t) * (size_t)(count + 1));
    uint64_t *queries = malloc(sizeof(uint64_t) * GROUP * MAX_WORDS);
    uint64_t *words = malloc(sizeof(uint64_t) * (size_t)(count * g->words + 1));
    selection *s = malloc(sizeof(selection) * (size_t)(group + 1));
    batch b = {.queries = words, .count = count, .limit = limit, .radius = radius, .everyone = everyone, .credit = credit};
    lay_out(&b, g->bits, out);
    bool ok = left && queries && words && s;
    if (ok) to_words(&b, g, packed, words);
    for (; ok && opened < group; opened++) ok = selection_open(s + opened, limit, radius, everyone < 0, false);
    ok = ok && run(&b, g, m, left, queries, s);
    if (ok) close_gaps(&b);
    for (int32_t a = 0; s && a < opened; a++) selection_close(s + a);
    free(s);
    free(words);
    free(queries);
    free(left);
    return ok;
}

/* Rows of each code that a mask leaves; starts NULL: every code is one row. */
EXPORT void crossbit_live(int64_t codes, const uint32_t *starts, const uint32_t *rows, const uint8_t *mask, uint32_t *live) {
    for (int64_t c = 0; c < codes; c++) {
        uint32_t n = 0;
        for (uint32_t p = starts[c]; p < starts[c + 1]; p++) n += mask[rows[p]];
        live[c] = n;
    }
}

/* The best level that this processor runs, of the levels that this library was compiled with. */
EXPORT int32_t crossbit_best_level(void) {
#ifdef X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512dq")) return AVX512;
    if (__builtin_cpu_supports("avx2")) return AVX2;
    if (__builtin_cpu_supports("popcnt")) return POPCNT;
#endif
#ifdef __aarch64__
    return NEON;
#endif
    return PORTABLE;
}
