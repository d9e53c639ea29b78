/* What the C sources of this folder that take float32 and bfloat16 have in common: to and from
 * float32, e^x, and stores past the cache.
 */
#ifndef FLOATS_H
#define FLOATS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

static inline float bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t word(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }

static inline float load_f32(float x) { return x; }
static inline float store_f32(float x) { return x; }
static inline float load_bf16(uint16_t x) { return bits((uint32_t)x << 16); }
static inline uint16_t store_bf16(float x) { /* nearest, ties to even; a NaN stays one */
    uint32_t u = word(x);
    uint16_t rounded = (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
    return x == x ? rounded : (uint16_t)0x7fc0;
}

/* e^x to 2e-7: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2]; a NaN stays one. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = __builtin_rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * bits((uint32_t)((int32_t)n + 127) << 23);
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

enum { CHUNK = 512 }; /* numbers made in cache before they are put where they belong */

/* memcpy, but not by way of the cache, where processor and place allow it: a large result is gone
 * from there before anyone reads it, and fetching lines to overwrite them costs as much as writing */
static inline void put_past_cache(void *to, const void *from, size_t bytes) {
#ifdef __AVX512F__
    if (((uintptr_t)to | bytes) % 64 == 0) {
        for (size_t i = 0; i < bytes; i += 64)
            _mm512_stream_si512((__m512i *)((char *)to + i),
                                _mm512_loadu_si512((const char *)from + i));
        return;
    }
#endif
    memcpy(to, from, bytes);
}

static inline void end_puts(void) { /* before another core reads what went past the cache */
#ifdef __AVX512F__
    _mm_sfence();
#endif
}

#endif
