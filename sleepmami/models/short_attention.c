/* Attention over short sequences, for one thread. attention.py has the plain twin.
 *
 * Attention, one head of one sequence at a time: its rows, turned, in float32 and side by side, and
 * all that becomes of them stay in cache. Tokens and widths are padded with zeros to whole BLOCKs.
 *
 * Compiled once per type of number (T = float, or bf16 as uint16_t); arithmetic is float32.
 */
#include "floats.h"

enum { BLOCK = 16, LINE = 64 }; /* numbers; bytes of a line of cache */
#if defined(__AVX512F__)
#define LANES_ARE_16 1
enum { LANES = 16 };
#define STRIPS(STRIP) STRIP(16, 1) STRIP(12, 2) STRIP(8, 3) STRIP(6, 4) /* rows, for 32 registers */
#else
enum { LANES = 8 };
#define STRIPS(STRIP) STRIP(8, 1) STRIP(6, 2) STRIP(4, 3) STRIP(3, 4) /* for 16 */
#endif
typedef int32_t wholes __attribute__((vector_size(4 * LANES)));
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct { /* element (i, k) at at[i * row + k * column] */
    const float *at;
    ptrdiff_t row, column;
} matrix;

/* `height` rows of a times `width` vectors of columns of b: constants where this is inlined */
static inline __attribute__((always_inline)) void tile(matrix a, const float *b, float *c,
                                                       ptrdiff_t step, ptrdiff_t inner,
                                                       const int height, const int width) {
    lanes sum[16][4];
#pragma GCC unroll 16
    for (int i = 0; i < height; i++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) sum[i][j] = (lanes){0};
    for (ptrdiff_t k = 0; k < inner; k++) {
        lanes right[4];
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) right[j] = *(const lanes *)(b + k * step + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < height; i++) {
            float left = a.at[i * a.row + k * a.column];
#pragma GCC unroll 4
            for (int j = 0; j < width; j++) sum[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < height; i++)
#pragma GCC unroll 4
        for (int j = 0; j < width; j++) *(lanes *)(c + i * step + j * LANES) = sum[i][j];
}

/* c = a b; rows of b and c are `columns` long, whole BLOCKs */
static void multiply(matrix a, const float *b, float *c, ptrdiff_t rows, ptrdiff_t inner,
                     ptrdiff_t columns) {
    ptrdiff_t left = columns / LANES;
    for (ptrdiff_t width; left > 0; left -= width, b += width * LANES, c += width * LANES) {
        ptrdiff_t parts = (left + 3) / 4, i = 0;
        width = (left + parts - 1) / parts;
        switch (width) {
#define STRIP(HEIGHT, WIDTH)                                                                      \
    case WIDTH:                                                                                   \
        for (; i + HEIGHT <= rows; i += HEIGHT)                                                   \
            tile((matrix){a.at + i * a.row, a.row, a.column}, b, c + i * columns, columns, inner, \
                 HEIGHT, WIDTH);                                                                  \
        for (; i < rows; i++)                                                                     \
            tile((matrix){a.at + i * a.row, a.row, a.column}, b, c + i * columns, columns, inner, \
                 1, WIDTH);                                                                       \
        break;
            STRIPS(STRIP)
        }
    }
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define ZIPS
#endif
#endif
#if LANES_ARE_16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#else
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#endif

/* y = x' of x [rows, columns], both whole BLOCKs. Zipping the first half of LANES vectors with the
 * second log2(LANES) times turns rows into columns. */
static void transpose(const float *restrict x, float *restrict y, ptrdiff_t rows,
                      ptrdiff_t columns) {
#ifdef ZIPS
    for (ptrdiff_t i = 0; i < rows; i += LANES)
        for (ptrdiff_t j = 0; j < columns; j += LANES) {
            lanes from[LANES], to[LANES];
#pragma GCC unroll 16
            for (int k = 0; k < LANES; k++) from[k] = *(const lanes *)(x + (i + k) * columns + j);
#pragma GCC unroll 4
            for (int stage = 1; stage < LANES; stage *= 2) {
#pragma GCC unroll 8
                for (int k = 0; k < LANES / 2; k++) {
                    to[2 * k] = __builtin_shufflevector(from[k], from[k + LANES / 2], LOW);
                    to[2 * k + 1] = __builtin_shufflevector(from[k], from[k + LANES / 2], HIGH);
                }
#pragma GCC unroll 16
                for (int k = 0; k < LANES; k++) from[k] = to[k];
            }
#pragma GCC unroll 16
            for (int k = 0; k < LANES; k++) *(lanes *)(y + (j + k) * rows + i) = from[k];
        }
#else
    for (ptrdiff_t j = 0; j < columns; j++)
        for (ptrdiff_t i = 0; i < rows; i++) y[j * rows + i] = x[i * columns + j];
#endif
}

/* `exponential` of numbers up to 0, and 0 below -86 */
static inline __attribute__((always_inline)) lanes exponentials(lanes x) {
    lanes shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the integer is its last bits */
    lanes n = shifted - 12582912.0f;
    lanes r = x - n * 0.693359375f + n * 2.12194440e-4f;
    lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    lanes power = (lanes)(((wholes)shifted + 127) << 23);
    return (lanes)((wholes)(p * power) & ~(x < -86.0f));
}

static inline __attribute__((always_inline)) lanes larger(lanes a, lanes b) {
    wholes first = a > b;
    return (lanes)(((wholes)a & first) | ((wholes)b & ~first));
}

/* in place, of scores + hidden: 0 for keys that are seen, -infinity for others. `height` is a
 * constant where this is inlined: rows at once, as one alone waits for itself */
static inline __attribute__((always_inline)) void softmax_rows(float *score, const float *hidden,
                                                               ptrdiff_t columns,
                                                               const int height) {
    lanes most[4], sum[4];
#pragma GCC unroll 4
    for (int i = 0; i < height; i++) {
        most[i] = (lanes){0} - INFINITY;
        sum[i] = (lanes){0};
    }
    for (ptrdiff_t j = 0; j < columns; j += LANES)
#pragma GCC unroll 4
        for (int i = 0; i < height; i++) {
            lanes *s = (lanes *)(score + i * columns + j);
            *s += *(const lanes *)(hidden + j);
            most[i] = larger(*s, most[i]);
        }
#pragma GCC unroll 4
    for (int i = 0; i < height; i++) {
        float one = most[i][0];
        for (int k = 1; k < LANES; k++) one = most[i][k] > one ? most[i][k] : one;
        most[i] = (lanes){0} + one;
    }
    for (ptrdiff_t j = 0; j < columns; j += LANES)
#pragma GCC unroll 4
        for (int i = 0; i < height; i++) {
            lanes *s = (lanes *)(score + i * columns + j);
            *s = exponentials(*s - most[i]);
            sum[i] += *s;
        }
#pragma GCC unroll 4
    for (int i = 0; i < height; i++) {
        float all = sum[i][0];
        for (int k = 1; k < LANES; k++) all += sum[i][k];
        sum[i] = (lanes){0} + 1.0f / all;
    }
    for (ptrdiff_t j = 0; j < columns; j += LANES)
#pragma GCC unroll 4
        for (int i = 0; i < height; i++) *(lanes *)(score + i * columns + j) *= sum[i];
}

static void softmax(float *score, const float *hidden, ptrdiff_t rows, ptrdiff_t columns) {
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4) softmax_rows(score + i * columns, hidden, columns, 4);
    for (; i < rows; i++) softmax_rows(score + i * columns, hidden, columns, 1);
}

/* g = weight * (g - sum of weight * g), the way back through softmax */
static void softmax_backward(const float *restrict weight, float *restrict g, ptrdiff_t rows,
                             ptrdiff_t columns) {
    for (ptrdiff_t i = 0; i < rows; i++, weight += columns, g += columns) {
        float dot = 0.0f;
        _Pragma("omp simd reduction(+ : dot)") for (ptrdiff_t j = 0; j < columns; j++)
            dot += weight[j] * g[j];
        _Pragma("omp simd") for (ptrdiff_t j = 0; j < columns; j++)
            g[j] = weight[j] * (g[j] - dot);
    }
}

static inline ptrdiff_t whole_blocks(ptrdiff_t size) { return (size + BLOCK - 1) / BLOCK * BLOCK; }

typedef struct { /* [tokens][wide] each, [wide][long] where transposed (T), scores [tokens][long] */
    float *query, *key, *value, *out, *key_T, *value_T, *score, *score_gradient, *hidden;
} scratch;

/* `memory` holds attention_scratch(tokens, width) numbers */
static scratch divide(float *memory, ptrdiff_t tokens, ptrdiff_t wide, ptrdiff_t length) {
    float *at = memory;
    scratch s;
    float **rows[] = {&s.query, &s.key, &s.value, &s.out}, **turned[] = {&s.key_T, &s.value_T};
    for (int i = 0; i < 4; i++, at += length * wide) *rows[i] = at;
    for (int i = 0; i < 2; i++, at += wide * length) *turned[i] = at;
    s.score = at;
    s.score_gradient = at + tokens * length;
    s.hidden = at + 2 * tokens * length;
    memset(memory, 0, sizeof(float) * (at + (2 * tokens + 1) * length - memory));
    return s;
}

#define ATTENTION(NAME, T)                                                                        \
    /* rows of one head, turned by its angle where there is one, times scale; those of the same   \
     * head `ahead` rows on are called into the cache */                                          \
    static void take_##NAME(const T *restrict x, ptrdiff_t step, const float *restrict c,         \
                            const float *restrict s, ptrdiff_t angle, ptrdiff_t angles,           \
                            float *restrict y, ptrdiff_t wide, ptrdiff_t tokens, ptrdiff_t half,  \
                            float scale, ptrdiff_t ahead) {                                       \
        for (ptrdiff_t i = 0; i < tokens; i++, x += step, y += wide) {                            \
            for (ptrdiff_t j = 0; j < 2 * half; j += LINE / sizeof(T))                            \
                __builtin_prefetch(x + ahead * step + j);                                         \
            if (!c) {                                                                             \
                _Pragma("omp simd") for (ptrdiff_t j = 0; j < 2 * half; j++)                      \
                    y[j] = load_##NAME(x[j]) * scale;                                             \
                continue;                                                                         \
            }                                                                                     \
            const float *ci = c + angle * half, *si = s + angle * half;                           \
            angle = angle + 1 == angles ? 0 : angle + 1;                                          \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < half; j++) {                            \
                float first = load_##NAME(x[j]), second = load_##NAME(x[half + j]);               \
                y[j] = scale * (first * ci[j] - second * si[j]);                                  \
                y[half + j] = scale * (second * ci[j] + first * si[j]);                           \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* the way back: rows of one head, turned by -angle where there is one */                     \
    static void put_##NAME(const float *restrict x, ptrdiff_t wide, const float *restrict c,      \
                           const float *restrict s, ptrdiff_t angle, ptrdiff_t angles,            \
                           T *restrict y, ptrdiff_t step, ptrdiff_t tokens, ptrdiff_t half,       \
                           float scale, ptrdiff_t ahead) {                                        \
        for (ptrdiff_t i = 0; i < tokens; i++, x += wide, y += step) {                            \
            for (ptrdiff_t j = 0; j < 2 * half; j += LINE / sizeof(T))                            \
                __builtin_prefetch(y + ahead * step + j, 1);                                      \
            if (!c) {                                                                             \
                _Pragma("omp simd") for (ptrdiff_t j = 0; j < 2 * half; j++)                      \
                    y[j] = store_##NAME(x[j] * scale);                                            \
                continue;                                                                         \
            }                                                                                     \
            const float *ci = c + angle * half, *si = s + angle * half;                           \
            angle = angle + 1 == angles ? 0 : angle + 1;                                          \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < half; j++) {                            \
                y[j] = store_##NAME(scale * (x[j] * ci[j] + x[half + j] * si[j]));                \
                y[half + j] = store_##NAME(scale * (x[half + j] * ci[j] - x[j] * si[j]));         \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* g is NULL: out = softmax(q k' / sqrt(C)) v of queries [sequences, tokens, heads, C] and    \
     * keys and values [sequences, tokens, 2, heads, C]; else g, of `out`, becomes gq and gkv.    \
     * seen is NULL or says of each token whether it may be attended to. */                       \
    void attention_##NAME(const T *restrict q, const T *restrict kv, const float *restrict c,     \
                          const float *restrict s, const uint8_t *restrict seen,                  \
                          const T *restrict g, T *restrict out, T *restrict gq, T *restrict gkv,  \
                          float *restrict memory, ptrdiff_t sequences, ptrdiff_t tokens,          \
                          ptrdiff_t heads, ptrdiff_t half, ptrdiff_t angles) {                    \
        ptrdiff_t width = 2 * half, dim = heads * width, wide = whole_blocks(width);              \
        ptrdiff_t length = whole_blocks(tokens), n = tokens;                                      \
        float scale = 1.0f / sqrtf((float)width);                                                 \
        scratch m = divide(memory, tokens, wide, length);                                         \
        for (ptrdiff_t b = 0; b < sequences; b++) {                                               \
            ptrdiff_t next = b + 1 < sequences ? tokens : 0;                                      \
            for (ptrdiff_t i = 0; i < length; i++)                                                \
                m.hidden[i] =                                                                     \
                    i < tokens && (!seen || seen[b * tokens + i]) ? 0.0f : -INFINITY;             \
            for (ptrdiff_t h = 0; h < heads; h++) {                                               \
                ptrdiff_t at = b * tokens * dim + h * width, angle = b * tokens % angles;         \
                ptrdiff_t key = 2 * at - h * width, value = key + dim;                            \
                take_##NAME(q + at, dim, c, s, angle, angles, m.query, wide, n, half, scale, next);\
                take_##NAME(kv + key, 2 * dim, c, s, angle, angles, m.key, wide, n, half, 1, next);\
                take_##NAME(kv + value, 2 * dim, 0, 0, 0, 1, m.value, wide, n, half, 1.0f, next); \
                transpose(m.key, m.key_T, length, wide);                                          \
                multiply((matrix){m.query, wide, 1}, m.key_T, m.score, n, width, length);         \
                softmax(m.score, m.hidden, n, length);                                            \
                if (!g) {                                                                         \
                    multiply((matrix){m.score, length, 1}, m.value, m.out, n, n, wide);           \
                    put_##NAME(m.out, wide, 0, 0, 0, 1, out + at, dim, n, half, 1.0f, next);      \
                    continue;                                                                     \
                }                                                                                 \
                transpose(m.value, m.value_T, length, wide);                                      \
                take_##NAME(g + at, dim, 0, 0, 0, 1, m.value, wide, n, half, 1.0f, next);         \
                multiply((matrix){m.score, 1, length}, m.value, m.out, n, n, wide);               \
                put_##NAME(m.out, wide, 0, 0, 0, 1, gkv + value, 2 * dim, n, half, 1.0f, next);   \
                multiply((matrix){m.value, wide, 1}, m.value_T, m.score_gradient, n, width,       \
                         length);                                                                 \
                softmax_backward(m.score, m.score_gradient, n, length);                           \
                multiply((matrix){m.score_gradient, length, 1}, m.key, m.out, n, n, wide);        \
                put_##NAME(m.out, wide, c, s, angle, angles, gq + at, dim, n, half, scale, next); \
                multiply((matrix){m.score_gradient, 1, length}, m.query, m.out, n, n, wide);      \
                put_##NAME(m.out, wide, c, s, angle, angles, gkv + key, 2 * dim, n, half, 1, next);\
            }                                                                                     \
        }                                                                                         \
    }

ATTENTION(f32, float)
ATTENTION(bf16, uint16_t)
