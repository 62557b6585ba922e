/* Multi-index hashing (Norouzi, Punjani, Fleet 2012) over distinct codes: a code within distance R of the query lies
 * within R / tables of it in one of the substrings, so buckets near the query's substrings are looked up, nearest
 * first, until the selection can gain nothing more. One table of whole codes is a plain table of buckets. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

/* Costs, in units of one entry of a blocked scan. */
#define PROBE_COST 6
#define CANDIDATE_COST(words) (32 * (words) - 16) /* each word is a cache line of its own */
#define BUCKETS 64 /* read together */
#define CODES 128 /* compared together */

INLINE uint32_t substring(const uint64_t *words, int64_t stride, int32_t first, int32_t width) {
    int32_t shift = first & 63;
    uint64_t value = words[(first >> 6) * stride] >> shift;
    if (shift + width > 64) value |= words[((first >> 6) + 1) * stride] << (64 - shift);
    return (uint32_t)(value & ((1ull << width) - 1));
}

/* Fills one table: heads (2^width + 1), list (count); a counting sort. */
EXPORT void crossbit_mih_table(const uint64_t *planes, int64_t count, int32_t first, int32_t width, uint32_t *heads,
                        uint32_t *list) {
    size_t values = (size_t)1 << width;
    memset(heads, 0, sizeof(uint32_t) * (values + 1));
    for (int64_t i = 0; i < count; i++) heads[substring(planes + i, count, first, width)]++;
    uint32_t sum = 0;
    for (size_t v = 0; v <= values; v++) {
        uint32_t here = heads[v];
        heads[v] = sum;
        sum += here;
    }
    for (int64_t i = 0; i < count; i++) list[heads[substring(planes + i, count, first, width)]++] = (uint32_t)i;
    memmove(heads + 1, heads, sizeof(uint32_t) * values); /* each head has moved on to the next one's place */
    heads[0] = 0;
}

typedef struct {
    const mih *m;
    const segment *g;
    const uint64_t *query;
    int64_t candidates, budget, work;
    selection *s;
    int32_t waiting;             /* buckets found but not read yet, so that their cache misses overlap */
    uint32_t from[BUCKETS], to[BUCKETS];
} search;

/* Whether an earlier look-up has met this code: another substring of it is nearer, or as near in an earlier table. */
INLINE bool was_met(const search *x, const uint64_t *flips, int32_t table, int32_t radius) {
    const mih *m = x->m;
    for (int32_t t = 0; t < m->tables; t++) {
        int32_t ones = __builtin_popcount(substring(flips, 1, m->first[t], m->first[t + 1] - m->first[t]));
        if (t < table ? ones <= radius : t > table && ones < radius) return true;
    }
    return false;
}

INLINE void compare_codes(search *x, int32_t table, int32_t radius, const uint32_t *codes, int32_t n) {
    const segment *g = x->g;
    for (int32_t i = 0; i < n; i++) {
        uint64_t flips[MAX_WORDS];
        int32_t far = 0;
        for (int32_t w = 0; w < g->words; w++) {
            flips[w] = g->planes[w * g->count + codes[i]] ^ x->query[w];
            far += __builtin_popcountll(flips[w]);
        }
        if (far <= x->s->accept && !was_met(x, flips, table, radius)) selection_take(x->s, g, codes[i], far);
    }
}

#ifdef X86
__attribute__((target("popcnt"))) static void compare_popcnt(search *x, int32_t table, int32_t radius,
                                                             const uint32_t *codes, int32_t n) {
    compare_codes(x, table, radius, codes, n);
}
#endif

static void compare(search *x, int32_t table, int32_t radius, const uint32_t *codes, int32_t n) {
#ifdef X86
    if (x->g->level != PORTABLE) {
        compare_popcnt(x, table, radius, codes, n);
        return;
    }
#endif
    compare_codes(x, table, radius, codes, n);
}

/* Reads the waiting buckets and asks for the codes in them, some at a time, before it compares any of these. */
static void drain(search *x, int32_t table, int32_t radius) {
    const segment *g = x->g;
    uint32_t codes[CODES];
    int32_t n = 0;
    for (int32_t b = 0; b < x->waiting; b++)
        for (uint32_t p = x->from[b]; p < x->to[b]; p++) {
            uint32_t code = x->m->lists[table][p];
            for (int32_t w = 0; w < g->words; w++) __builtin_prefetch(g->planes + w * g->count + code);
            codes[n++] = code;
            if (n < CODES) continue;
            compare(x, table, radius, codes, n);
            n = 0;
        }
    compare(x, table, radius, codes, n);
    x->waiting = 0;
}

static inline void look_up(search *x, int32_t table, int32_t radius, uint32_t value) {
    const uint32_t *heads = x->m->heads[table] + value;
    uint32_t size = heads[1] - heads[0];
    x->work += PROBE_COST + (int64_t)CANDIDATE_COST(x->g->words) * size;
    if (!size || x->work > x->budget) return;
    x->candidates += size;
    __builtin_prefetch(x->m->lists[table] + heads[0]);
    x->from[x->waiting] = heads[0];
    x->to[x->waiting] = heads[1];
    if (++x->waiting == BUCKETS) drain(x, table, radius);
}

/* Every value at exactly `radius` flips from the query's substring, in ascending order of the flipped bits. */
static bool probe(search *x, int32_t table, int32_t radius) {
    const mih *m = x->m;
    int32_t width = m->first[table + 1] - m->first[table];
    if (radius > width) return true;
    uint32_t own = substring(x->query, 1, m->first[table], width);
    uint64_t flips = (1ull << radius) - 1, end = 1ull << width;
    while (flips < end) {
        look_up(x, table, radius, own ^ (uint32_t)flips);
        if (x->work > x->budget) return false;
        if (!flips) break;
        uint64_t lowest = flips & -flips, ripple = flips + lowest; /* Gosper's hack */
        flips = (((ripple ^ flips) >> 2) / lowest) | ripple;
    }
    drain(x, table, radius);
    return true;
}

bool mih_search(const mih *m, const segment *g, const uint64_t *query, int64_t budget, selection *s,
                int64_t *candidates, int64_t *work) {
    search x = {.m = m, .g = g, .query = query, .budget = budget, .s = s};
    bool complete = false, within = true;
    for (int32_t radius = 0; within && !complete; radius++)
        for (int32_t table = 0; table < m->tables && within && !complete; table++) {
            within = probe(&x, table, radius);
            /* every code at a distance of up to radius x tables + table has been met */
            complete = within && radius * m->tables + table >= s->accept;
        }
    *candidates += x.candidates;
    *work += x.work;
    return complete;
}
