/* The planar scan: each build compares whole vectors of entries with the thresholds of its queries, and only what
 * passes goes to the selection. Queries are taken four at a time, so that every loaded word is used four times. */
#include "kernel.h"

/* Where every threshold of a group lies below this, few first words can pass and the others need not be looked at. */
#define EARLY_LIMIT 18

static int32_t widest(const selection *s, int32_t count) {
    int32_t accept = 0;
    for (int32_t a = 0; a < count; a++) accept = s[a].accept > accept ? s[a].accept : accept;
    return accept;
}

/* Instantiates one build: the constant number of words lets the compiler unroll, early abandon is a constant too. */
#define WIDTHS(name, ...)                                               \
    switch (g->words) {                                                 \
    case 1: name(1, false, __VA_ARGS__); break;                         \
    case 2: if (early) name(2, true, __VA_ARGS__); else name(2, false, __VA_ARGS__); break; \
    case 4: if (early) name(4, true, __VA_ARGS__); else name(4, false, __VA_ARGS__); break; \
    default: name(g->words, early, __VA_ARGS__);                        \
    }

/* ---- any machine ---- */

INLINE void scan_words(const int32_t words, const bool early, const segment *g, int64_t low, int64_t high,
                       const uint64_t *query, selection *s) {
    for (int64_t i = low; i < high; i++) {
        int32_t far = __builtin_popcountll(g->planes[i] ^ query[0]);
        if (early && far > s->accept) continue;
        for (int32_t w = 1; w < words; w++) far += __builtin_popcountll(g->planes[w * g->count + i] ^ query[w]);
        if (__builtin_expect(far <= s->accept, 0)) selection_take(s, g, i, far);
    }
}

static void scan_portable(const segment *g, int64_t low, int64_t high, const uint64_t *queries, selection *s,
                          int32_t count) {
    for (int32_t q = 0; q < count; q++) {
        const bool early = s[q].accept < EARLY_LIMIT * (g->words > 1);
        WIDTHS(scan_words, g, low, high, queries + q * g->words, s + q)
    }
}

#ifdef X86
#include <immintrin.h>

/* ---- popcnt ---- */

__attribute__((target("popcnt"))) static void scan_popcnt(const segment *g, int64_t low, int64_t high,
                                                          const uint64_t *queries, selection *s, int32_t count) {
    for (int32_t q = 0; q < count; q++) {
        const bool early = s[q].accept < EARLY_LIMIT * (g->words > 1);
        WIDTHS(scan_words, g, low, high, queries + q * g->words, s + q)
    }
}

/* ---- AVX2: bits counted by nibbles (Mula, Kurz, Lemire 2016) ---- */

#define TARGET_AVX2 __attribute__((target("avx2,popcnt")))

INLINE TARGET_AVX2 __m256i count_bytes(__m256i x) {
    const __m256i nibbles = _mm256_set1_epi8(15);
    const __m256i bits = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                                          0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    __m256i low = _mm256_shuffle_epi8(bits, _mm256_and_si256(x, nibbles));
    return _mm256_add_epi8(low, _mm256_shuffle_epi8(bits, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibbles)));
}

/* Scans for `group` queries, four entries at a time; returns the first entry not looked at. */
INLINE TARGET_AVX2 void avx2_words(const int32_t words, const bool early, const int32_t group, const segment *g,
                                   int64_t low, int64_t high, const uint64_t *queries, selection *s) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i accept[4], far[4] = {zero, zero, zero, zero};
    for (int32_t a = 0; a < group; a++) accept[a] = _mm256_set1_epi64x(s[a].accept);
    int64_t i = low;
    for (; i + 4 <= high; i += 4) {
        __m256i beyond = _mm256_set1_epi64x(-1);
        for (int32_t w = 0; w < words; w++) {
            __m256i x = _mm256_loadu_si256((const __m256i *)(g->planes + w * g->count + i));
            for (int32_t a = 0; a < group; a++) {
                __m256i q = _mm256_set1_epi64x((int64_t)queries[a * words + w]);
                __m256i bytes = count_bytes(_mm256_xor_si256(x, q));
                far[a] = w ? _mm256_add_epi8(far[a], bytes) : bytes; /* at most 8 x 8 in a byte */
            }
            if (early && !w && words > 1) {
                for (int32_t a = 0; a < group; a++)
                    beyond = _mm256_and_si256(beyond, _mm256_cmpgt_epi64(_mm256_sad_epu8(far[a], zero), accept[a]));
                if (_mm256_movemask_epi8(beyond) == -1) goto next;
                beyond = _mm256_set1_epi64x(-1);
            }
        }
        for (int32_t a = 0; a < group; a++) {
            far[a] = _mm256_sad_epu8(far[a], zero);
            beyond = _mm256_and_si256(beyond, _mm256_cmpgt_epi64(far[a], accept[a]));
        }
        if (__builtin_expect(_mm256_movemask_epi8(beyond) != -1, 0))
            for (int32_t a = 0; a < group; a++) {
                uint64_t lanes[4];
                _mm256_storeu_si256((__m256i *)lanes, far[a]);
                for (int32_t lane = 0; lane < 4; lane++)
                    if ((int32_t)lanes[lane] <= s[a].accept) selection_take(s + a, g, i + lane, (int32_t)lanes[lane]);
                accept[a] = _mm256_set1_epi64x(s[a].accept);
            }
    next:;
    }
    for (int32_t a = 0; a < group; a++) scan_words(words, early, g, i, high, queries + a * words, s + a);
}

TARGET_AVX2 static void scan_avx2(const segment *g, int64_t low, int64_t high, const uint64_t *queries, selection *s,
                                  int32_t count) {
    int32_t q = 0;
    for (; q + 4 <= count; q += 4) {
        const bool early = widest(s + q, 4) < EARLY_LIMIT * (g->words > 1);
        WIDTHS(avx2_words, 4, g, low, high, queries + q * g->words, s + q)
    }
    for (; q < count; q++) {
        const bool early = s[q].accept < EARLY_LIMIT * (g->words > 1);
        WIDTHS(avx2_words, 1, g, low, high, queries + q * g->words, s + q)
    }
}

/* ---- AVX-512 with VPOPCNTDQ ---- */

#define TARGET_AVX512 __attribute__((target("avx512f,avx512dq,avx512vpopcntdq,popcnt")))

/* Hands over the lanes of one vector that pass. */
TARGET_AVX512 static __attribute__((noinline)) void take_lanes(selection *s, const segment *g, int64_t first,
                                                               __m512i far, uint32_t mask) {
    uint64_t lanes[8];
    _mm512_storeu_si512(lanes, far);
    for (; mask; mask &= mask - 1) {
        int32_t lane = __builtin_ctz(mask);
        selection_take(s, g, first + lane, (int32_t)lanes[lane]);
    }
}

/* One step: `vectors` x 8 entries from i on, against `group` queries. A distance below the limit makes their
 * difference negative, so one test of the signs covers all. `valid` are the lanes that exist, of a single vector. */
INLINE TARGET_AVX512 void avx512_step(const int32_t words, const bool early, const int32_t group,
                                      const int32_t vectors, const segment *g, int64_t i, const __mmask8 valid,
                                      __m512i query[4][MAX_WORDS], __m512i *limit, selection *s) {
    __m512i far[4][4];
    for (int32_t a = 0; a < group; a++)
        for (int32_t v = 0; v < vectors; v++) far[a][v] = _mm512_setzero_si512();
    for (int32_t w = 0; w < words; w++) {
        for (int32_t v = 0; v < vectors; v++) {
            __m512i x = _mm512_maskz_loadu_epi64(valid, g->planes + w * g->count + i + 8 * v);
            for (int32_t a = 0; a < group; a++) {
                __m512i ones = _mm512_popcnt_epi64(_mm512_xor_si512(x, query[a][w]));
                far[a][v] = _mm512_add_epi64(far[a][v], ones);
            }
        }
        if (w + 1 < words && (w || !early)) continue;
        __m512i signs = _mm512_setzero_si512();
        for (int32_t a = 0; a < group; a++)
            for (int32_t v = 0; v < vectors; v += 2) {
                __m512i one = _mm512_sub_epi64(far[a][v], limit[a]);
                __m512i other = v + 1 < vectors ? _mm512_sub_epi64(far[a][v + 1], limit[a]) : one;
                signs = _mm512_ternarylogic_epi64(signs, one, other, 0xFE); /* or of the three */
            }
        if (__builtin_expect(!_mm512_movepi64_mask(signs), 1)) return;
    }
    for (int32_t a = 0; a < group; a++) {
        for (int32_t v = 0; v < vectors; v++) {
            uint32_t mask = _mm512_cmplt_epi64_mask(far[a][v], limit[a]) & valid;
            if (mask) take_lanes(s + a, g, i + 8 * v, far[a][v], mask);
        }
        limit[a] = _mm512_set1_epi64(s[a].accept + 1);
    }
}

INLINE TARGET_AVX512 void avx512_words(const int32_t words, const bool early, const int32_t group,
                                       const int32_t vectors, const segment *g, int64_t low, int64_t high,
                                       const uint64_t *queries, selection *s) {
    __m512i limit[4], query[4][MAX_WORDS];
    for (int32_t a = 0; a < group; a++) {
        limit[a] = _mm512_set1_epi64(s[a].accept + 1);
        for (int32_t w = 0; w < words; w++) query[a][w] = _mm512_set1_epi64((int64_t)queries[a * words + w]);
    }
    int64_t i = low;
    for (; i + 8 * vectors <= high; i += 8 * vectors)
        avx512_step(words, early, group, vectors, g, i, 255, query, limit, s);
    for (; i < high; i += 8) {
        __mmask8 valid = high - i >= 8 ? 255 : (__mmask8)((1 << (high - i)) - 1);
        avx512_step(words, early, group, 1, g, i, valid, query, limit, s);
    }
}

TARGET_AVX512 static void scan_avx512(const segment *g, int64_t low, int64_t high, const uint64_t *queries,
                                      selection *s, int32_t count) {
    int32_t q = 0;
    for (; q + 4 <= count; q += 4) {
        const bool early = widest(s + q, 4) < EARLY_LIMIT * (g->words > 1);
        WIDTHS(avx512_words, 4, 2, g, low, high, queries + q * g->words, s + q)
    }
    for (; q < count; q++) {
        const bool early = s[q].accept < EARLY_LIMIT * (g->words > 1);
        WIDTHS(avx512_words, 1, 4, g, low, high, queries + q * g->words, s + q)
    }
}
#endif

/* ---- NEON ---- */

#ifdef __aarch64__
#include <arm_neon.h>

INLINE void neon_words(const int32_t words, const bool early, const segment *g, int64_t low, int64_t high,
                       const uint64_t *query, selection *s) {
    int64_t i = low;
    for (; i + 2 <= high; i += 2) {
        uint8x16_t bytes = vdupq_n_u8(0);
        for (int32_t w = 0; w < words; w++) {
            uint64x2_t x = veorq_u64(vld1q_u64(g->planes + w * g->count + i), vdupq_n_u64(query[w]));
            bytes = vaddq_u8(bytes, vcntq_u8(vreinterpretq_u8_u64(x))); /* at most 8 x 8 in a byte */
        }
        uint64x2_t far = vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes)));
        for (int32_t lane = 0; lane < 2; lane++) {
            int32_t distance = (int32_t)(lane ? vgetq_lane_u64(far, 1) : vgetq_lane_u64(far, 0));
            if (__builtin_expect(distance <= s->accept, 0)) selection_take(s, g, i + lane, distance);
        }
    }
    scan_words(words, early, g, i, high, query, s);
}

static void scan_neon(const segment *g, int64_t low, int64_t high, const uint64_t *queries, selection *s,
                      int32_t count) {
    for (int32_t q = 0; q < count; q++) {
        const bool early = false;
        WIDTHS(neon_words, g, low, high, queries + q * g->words, s + q)
    }
}
#endif

void scan(const segment *g, int64_t low, int64_t high, const uint64_t *queries, selection *s, int32_t count) {
    switch (g->level) {
#ifdef X86
    case AVX512: scan_avx512(g, low, high, queries, s, count); return;
    case AVX2: scan_avx2(g, low, high, queries, s, count); return;
    case POPCNT: scan_popcnt(g, low, high, queries, s, count); return;
#endif
#ifdef __aarch64__
    case NEON: scan_neon(g, low, high, queries, s, count); return;
#endif
    default: scan_portable(g, low, high, queries, s, count);
    }
}
