/* What the machine can do at most: exclusive or and counted bits, nothing selected. Benchmarks divide by it. */
#include "kernel.h"

INLINE uint64_t count_words(const uint64_t *words, int64_t n, int64_t rounds) {
    uint64_t total = 0;
    for (int64_t r = 0; r < rounds; r++) {
        uint64_t sum = 0;
        for (int64_t i = 0; i < n; i++) sum += (uint64_t)__builtin_popcountll(words[i] ^ (uint64_t)r);
        __asm__ volatile("" : "+r"(sum) : : "memory"); /* no round may be skipped or merged */
        total += sum;
    }
    return total;
}

#ifdef X86
__attribute__((target("popcnt"))) static uint64_t count_popcnt(const uint64_t *words, int64_t n, int64_t rounds) {
    return count_words(words, n, rounds);
}

__attribute__((target("avx512f,avx512dq,avx512vpopcntdq"))) static uint64_t count_avx512(const uint64_t *words,
                                                                                         int64_t n, int64_t rounds) {
    return count_words(words, n, rounds);
}
#endif

/* Counted bits of `rounds` passes over n words. The plain popcnt loop stands for AVX2 too. */
EXPORT uint64_t crossbit_count(const uint64_t *words, int64_t n, int64_t rounds, int32_t level) {
#ifdef X86
    if (level == AVX512) return count_avx512(words, n, rounds);
    if (level != PORTABLE) return count_popcnt(words, n, rounds);
#endif
    (void)level;
    return count_words(words, n, rounds);
}
