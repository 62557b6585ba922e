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
    const uint64_t *queries;
    int64_t count, limit;
    int32_t radius;
    bool counts_all;
    int64_t *credit;
    int64_t *rows;       /* (count, limit) */
    int32_t *distances;  /* (count, limit) */
    int64_t *lengths;    /* (count) */
    int64_t *histogram;  /* (count, bits + 1) */
    int64_t *totals;     /* (count) rows seen within the radius */
    uint8_t *strategies; /* (count) */
    int64_t *candidates; /* (count) codes whose distance a lookup counted */
} batch;

static bool finish(const batch *b, const segment *g, int64_t query, selection *s) {
    int64_t bins = g->bits + 1, total = 0;
    for (int64_t d = 0; d < bins; d++) total += s->histogram[d];
    b->totals[query] = total;
    int64_t n = selection_finish(s, g, b->rows + query * b->limit, b->distances + query * b->limit);
    if (n < 0) return false;
    b->lengths[query] = n;
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

/* Answers a batch; false where memory ran out. `m` may be NULL. */
EXPORT bool crossbit_search(const batch *b, const segment *g, const mih *m) {
    int32_t group = b->count < GROUP ? (int32_t)b->count : GROUP, opened = 0;
    int64_t *left = malloc(sizeof(int64_t) * (size_t)(b->count + 1));
    uint64_t *queries = malloc(sizeof(uint64_t) * GROUP * MAX_WORDS);
    selection *s = malloc(sizeof(selection) * (size_t)(group + 1));
    bool ok = left && queries && s;
    for (; ok && opened < group; opened++) ok = selection_open(s + opened, b->limit, b->radius, b->counts_all, false);
    ok = ok && run(b, g, m, left, queries, s);
    for (int32_t a = 0; s && a < opened; a++) selection_close(s + a);
    free(s);
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
