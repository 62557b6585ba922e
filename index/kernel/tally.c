/* Counting for evaluation: how many rows lie at each distance from a query and share how many labels with it, and the
 * average precision of the ranking that leaves ties in row order. */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t count; /* rows */
    int32_t words, label_words;
    int32_t width, most; /* distances 0..width - 1, shared labels 0..most */
    const uint64_t *codes;  /* (words, count) */
    const uint64_t *labels; /* (label_words, count) */
} tally;

/* Distance and shared labels of each row; both fit, because codes and labels are limited to thousands of bits. */
INLINE void measure(const tally *t, const uint64_t *query, const uint64_t *own, uint16_t *restrict far,
                    uint16_t *restrict shared) {
    for (int64_t i = 0; i < t->count; i++) far[i] = (uint16_t)__builtin_popcountll(t->codes[i] ^ query[0]);
    for (int32_t w = 1; w < t->words; w++)
        for (int64_t i = 0; i < t->count; i++)
            far[i] += (uint16_t)__builtin_popcountll(t->codes[w * t->count + i] ^ query[w]);
    for (int64_t i = 0; i < t->count; i++) shared[i] = (uint16_t)__builtin_popcountll(t->labels[i] & own[0]);
    for (int32_t w = 1; w < t->label_words; w++)
        for (int64_t i = 0; i < t->count; i++)
            shared[i] += (uint16_t)__builtin_popcountll(t->labels[w * t->count + i] & own[w]);
}

static void measure_portable(const tally *t, const uint64_t *query, const uint64_t *own, uint16_t *far,
                             uint16_t *shared) {
    measure(t, query, own, far, shared);
}

#ifdef X86
__attribute__((target("popcnt"))) static void measure_popcnt(const tally *t, const uint64_t *query,
                                                             const uint64_t *own, uint16_t *far, uint16_t *shared) {
    measure(t, query, own, far, shared);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vpopcntdq,popcnt"))) static void
measure_avx512(const tally *t, const uint64_t *query, const uint64_t *own, uint16_t *far, uint16_t *shared) {
    measure(t, query, own, far, shared);
}
#endif

static void measure_best(const tally *t, const uint64_t *query, const uint64_t *own, uint16_t *far, uint16_t *shared) {
#ifdef X86
    if (__builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return measure_avx512(t, query, own, far, shared);
    if (__builtin_cpu_supports("popcnt")) return measure_popcnt(t, query, own, far, shared);
#endif
    measure_portable(t, query, own, far, shared);
}

/* What is known of a distance while its rows pass: the rank of the next row, and that among relevant rows. */
typedef struct {
    uint32_t rank, relevant;
} place;

/* Sum of precisions at the relevant rows; `places` holds what lies at smaller distances. */
static double precisions(const tally *t, const uint16_t *far, const uint16_t *shared, place *places,
                         const double *inverse) {
    double sums[2] = {0, 0};
    for (int64_t i = 0; i < t->count; i++) {
        place *p = places + far[i];
        uint32_t is = shared[i] != 0;
        uint32_t rank = ++p->rank, relevant = p->relevant += is;
        sums[i & 1] += (double)(relevant & -is) * inverse[rank];
    }
    return sums[0] + sums[1];
}

static void tally_query(const tally *t, const uint64_t *query, const uint64_t *own, const double *inverse,
                        uint16_t *far, uint16_t *shared, place *places, int64_t *joint, double *sum) {
    int64_t columns = t->most + 1;
    measure_best(t, query, own, far, shared);
    for (int64_t i = 0; i < t->count; i++) joint[far[i] * columns + shared[i]]++;
    place before = {0, 0};
    for (int32_t d = 0; d < t->width; d++) {
        places[d] = before;
        for (int64_t s = 0; s < columns; s++) {
            before.rank += (uint32_t)joint[d * columns + s];
            if (s) before.relevant += (uint32_t)joint[d * columns + s];
        }
    }
    *sum = precisions(t, far, shared, places, inverse);
}

/* Fills joint (queries, width, most + 1), which is zero before, and sums (queries); false where memory ran out. */
EXPORT bool crossbit_tally(const tally *t, int64_t queries, const uint64_t *codes, const uint64_t *labels,
                           int64_t *joint, double *sums) {
    size_t rows = (size_t)t->count + 1;
    uint16_t *far = malloc(sizeof(uint16_t) * rows), *shared = malloc(sizeof(uint16_t) * rows);
    double *inverse = malloc(sizeof(double) * rows);
    place *places = malloc(sizeof(place) * (size_t)t->width);
    bool ok = far && shared && inverse && places;
    for (int64_t rank = 1; ok && rank <= t->count; rank++) inverse[rank] = 1.0 / (double)rank;
    for (int64_t q = 0; ok && q < queries; q++)
        tally_query(t, codes + q * t->words, labels + q * t->label_words, inverse, far, shared, places,
                    joint + q * t->width * (t->most + 1), sums + q);
    free(places), free(inverse), free(shared), free(far);
    return ok;
}
