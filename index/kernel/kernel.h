/* Exact Hamming search over packed codes: what the files of this folder share.
 *
 * Codes lie in planes of 64-bit words: word w of entry i is planes[w * count + i], unused high bits are zero.
 * An entry is a row, or (where starts is given) a distinct code with the rows that share it:
 * rows[starts[c] .. starts[c + 1]), ascending. Answers are exact in the total order (distance, row).
 */
#ifndef CROSSBIT_KERNEL_H
#define CROSSBIT_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define MAX_BITS 512
#define MAX_WORDS (MAX_BITS / 64)
#define MAX_TABLES 32

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define X86 1
#endif

enum level { PORTABLE, POPCNT, AVX2, AVX512, NEON };

typedef struct {
    int64_t count;          /* entries */
    int32_t bits, words;
    int32_t level;          /* enum level of the instructions to use */
    const uint64_t *planes; /* words x count */
    const uint32_t *ids;    /* (count) code that each entry stands for, ascending; NULL: entry i is code i */
    const uint32_t *starts; /* (codes + 1) NULL: every code is the row of the same number */
    const uint32_t *rows;   /* posting lists */
    const uint32_t *live;   /* (codes) rows of each code that may be found; NULL: all */
    const uint8_t *mask;    /* (rows) 1 where a row may be found; NULL: all */
} segment;

/* Multi-index hashing: table t lists the codes by the value of their t-th substring. */
typedef struct {
    int32_t tables;
    int32_t first[MAX_TABLES + 1];       /* first bit of each substring, and the end of the last */
    const uint32_t *heads[MAX_TABLES];   /* (2^width + 1) where the codes of each value start in list */
    const uint32_t *lists[MAX_TABLES];   /* (codes) */
} mih;

typedef struct { uint32_t distance, code; } candidate;

/* The nearest `limit` rows so far. Counts say at which distance the limit is reached (`keep`), so nothing is sorted
 * while scanning, and nothing farther than `accept` need be looked at. */
typedef struct {
    int64_t limit;
    int64_t below;          /* rows at distances < keep */
    int32_t keep;           /* smallest distance within which there are `limit` rows; farther codes are not stored */
    int32_t accept;         /* entries beyond it change nothing: keep, or the radius where all within it are counted */
    bool counts_all;        /* a radius search, whose totals go beyond the limit */
    bool in_order;          /* entries come as single rows, ascending: a full tie need only be counted */
    bool failed;            /* out of memory */
    int64_t stored, capacity;
    candidate *candidates;
    int64_t histogram[MAX_BITS + 1];
} selection;

/* select.c */
bool selection_open(selection *s, int64_t limit, int32_t radius, bool counts_all, bool in_order);
void selection_reset(selection *s, int32_t radius, bool in_order);
void selection_close(selection *s);
void selection_take(selection *s, const segment *g, int64_t entry, int32_t distance);
int64_t selection_finish(selection *s, const segment *g, int64_t *rows, int32_t *distances);

/* scan.c: offers the entries [low, high) to the selections of `queries` queries of g->words words each */
void scan(const segment *g, int64_t low, int64_t high, const uint64_t *queries, selection *s, int32_t count);

/* mih.c: true if the selection is complete within the budget; adds to *work, in units of one scanned entry */
bool mih_search(const mih *m, const segment *g, const uint64_t *query, int64_t budget, selection *s,
                int64_t *candidates, int64_t *work);

#endif
