/* Element-wise layers of the Micro-Encoder in one pass each, for one thread. fused.py has the twins.
 *
 * Compiled once per type of number (T = float, or bf16 as uint16_t); arithmetic is float32.
 * Rows lie one after another unless a stride says otherwise.
 */
#include "floats.h"

#define KERNELS(NAME, T)                                                                          \
    /* y = x / rms(x) * scale; every `rows_per_scale` rows share one scale. Unless delta is NULL, \
     * x + delta goes to `total` and is what is divided. */                                       \
    void rms_forward_##NAME(const T *restrict x, const T *restrict delta,                         \
                            const float *restrict scale, T *restrict total, T *restrict y,        \
                            float *restrict inverse, ptrdiff_t rows, ptrdiff_t dim,               \
                            ptrdiff_t rows_per_scale, float eps) {                                \
        for (ptrdiff_t i = 0; i < rows; i++) {                                                    \
            const T *xi = x + i * dim;                                                            \
            if (delta) {                                                                          \
                _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++) total[i * dim + j] =      \
                    store_##NAME(load_##NAME(xi[j]) + load_##NAME(delta[i * dim + j]));           \
                xi = total + i * dim;                                                             \
            }                                                                                     \
            const float *s = scale + i / rows_per_scale * dim;                                    \
            T *yi = y + i * dim;                                                                  \
            float sum = 0.0f;                                                                     \
            _Pragma("omp simd reduction(+ : sum)") for (ptrdiff_t j = 0; j < dim; j++) {          \
                float v = load_##NAME(xi[j]);                                                     \
                sum += v * v;                                                                     \
            }                                                                                     \
            float r = 1.0f / sqrtf(sum / (float)dim + eps);                                       \
            inverse[i] = r;                                                                       \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++)                               \
                yi[j] = store_##NAME(load_##NAME(xi[j]) * r * s[j]);                              \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* gx, to which `more` is added unless NULL, and gscale added to what is there */             \
    void rms_backward_##NAME(const T *restrict g, const T *restrict more, const T *restrict x,    \
                             const float *restrict scale, const float *restrict inverse,          \
                             T *restrict gx, float *restrict gscale, ptrdiff_t rows,              \
                             ptrdiff_t dim, ptrdiff_t rows_per_scale) {                           \
        for (ptrdiff_t i = 0; i < rows; i++) {                                                    \
            const T *gi = g + i * dim, *xi = x + i * dim;                                         \
            const float *s = scale + i / rows_per_scale * dim;                                    \
            float *gs = gscale + i / rows_per_scale * dim;                                        \
            T *gxi = gx + i * dim;                                                                \
            float r = inverse[i], dot = 0.0f;                                                     \
            _Pragma("omp simd reduction(+ : dot)") for (ptrdiff_t j = 0; j < dim; j++) {          \
                float t = load_##NAME(gi[j]) * load_##NAME(xi[j]);                                \
                dot += t * s[j];                                                                  \
                gs[j] += t * r;                                                                   \
            }                                                                                     \
            float c = dot * r * r / (float)dim;                                                   \
            if (!more) {                                                                          \
                _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++)                           \
                    gxi[j] = store_##NAME(                                                        \
                        r * (load_##NAME(gi[j]) * s[j] - c * load_##NAME(xi[j])));                \
                continue;                                                                         \
            }                                                                                     \
            const T *mi = more + i * dim;                                                         \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++)                               \
                gxi[j] = store_##NAME(                                                            \
                    load_##NAME(mi[j]) +                                                          \
                    r * (load_##NAME(gi[j]) * s[j] - c * load_##NAME(xi[j])));                    \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* y = silu(gate) * up of rows [gate, up] */                                                  \
    void swiglu_forward_##NAME(const T *restrict h, T *restrict y, ptrdiff_t rows,                \
                               ptrdiff_t width, ptrdiff_t past_cache) {                           \
        T made[CHUNK];                                                                            \
        for (ptrdiff_t i = 0; i < rows; i++)                                                      \
            for (ptrdiff_t from = 0; from < width; from += CHUNK) {                               \
                ptrdiff_t size = width - from < CHUNK ? width - from : CHUNK;                     \
                const T *gate = h + 2 * i * width + from, *up = gate + width;                     \
                T *yi = y + i * width + from, *to = past_cache ? made : yi;                       \
                _Pragma("omp simd") for (ptrdiff_t j = 0; j < size; j++) {                        \
                    float a = load_##NAME(gate[j]);                                               \
                    to[j] = store_##NAME(a * sigmoid(a) * load_##NAME(up[j]));                    \
                }                                                                                 \
                if (past_cache) put_past_cache(yi, made, sizeof(T) * size);                       \
            }                                                                                     \
        end_puts();                                                                               \
    }                                                                                             \
                                                                                                  \
    void swiglu_backward_##NAME(const T *restrict g, const T *restrict h, T *restrict gh,         \
                                ptrdiff_t rows, ptrdiff_t width, ptrdiff_t past_cache) {          \
        T made[2][CHUNK];                                                                         \
        for (ptrdiff_t i = 0; i < rows; i++)                                                      \
            for (ptrdiff_t from = 0; from < width; from += CHUNK) {                               \
                ptrdiff_t size = width - from < CHUNK ? width - from : CHUNK;                     \
                const T *gi = g + i * width + from;                                               \
                const T *gate = h + 2 * i * width + from, *up = gate + width;                     \
                T *to = gh + 2 * i * width + from;                                                \
                T *ggate = past_cache ? made[0] : to, *gup = past_cache ? made[1] : to + width;   \
                _Pragma("omp simd") for (ptrdiff_t j = 0; j < size; j++) {                        \
                    float a = load_##NAME(gate[j]), gj = load_##NAME(gi[j]);                      \
                    float s = sigmoid(a), t = a * s;                                              \
                    gup[j] = store_##NAME(gj * t);                                                \
                    ggate[j] = store_##NAME(gj * load_##NAME(up[j]) * (s + t - t * s));           \
                }                                                                                 \
                if (!past_cache) continue;                                                        \
                put_past_cache(to, made[0], sizeof(T) * size);                                    \
                put_past_cache(to + width, made[1], sizeof(T) * size);                            \
            }                                                                                     \
        end_puts();                                                                               \
    }                                                                                             \
                                                                                                  \
    static inline __attribute__((always_inline)) void rotate_head_##NAME(                         \
        const T *restrict x, const float *restrict c, const float *restrict s, T *restrict y,     \
        ptrdiff_t half, float sign) {                                                             \
        _Pragma("omp simd") for (ptrdiff_t j = 0; j < half; j++) {                                \
            float first = load_##NAME(x[j]), second = load_##NAME(x[half + j]);                   \
            float sj = sign * s[j];                                                               \
            y[j] = store_##NAME(first * c[j] - second * sj);                                      \
            y[half + j] = store_##NAME(second * c[j] + first * sj);                               \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* turn pairs (c, c + half) of every head; token i takes angle i mod num_angles; elements from\
     * one sequence, token and head to the next are given for x and y */                          \
    void rotate_##NAME(const T *restrict x, const float *restrict cosine,                         \
                       const float *restrict sine, T *restrict y, ptrdiff_t sequences,            \
                       ptrdiff_t tokens, ptrdiff_t heads, ptrdiff_t half, ptrdiff_t num_angles,   \
                       ptrdiff_t x_sequence, ptrdiff_t x_token, ptrdiff_t x_head,                 \
                       ptrdiff_t y_sequence, ptrdiff_t y_token, ptrdiff_t y_head, float sign) {   \
        ptrdiff_t angle = 0;                                                                      \
        for (ptrdiff_t i = 0; i < sequences * tokens; i++) {                                      \
            const float *c = cosine + angle * half, *s = sine + angle * half;                     \
            angle = angle + 1 == num_angles ? 0 : angle + 1;                                      \
            const T *xi = x + i / tokens * x_sequence + i % tokens * x_token;                     \
            T *yi = y + i / tokens * y_sequence + i % tokens * y_token;                           \
            for (ptrdiff_t k = 0; k < heads; k++) {                                               \
                const T *xk = xi + k * x_head;                                                    \
                T *yk = yi + k * y_head;                                                          \
                if (half == 8) /* the paper's widths, known to the compiler */                    \
                    rotate_head_##NAME(xk, c, s, yk, 8, sign);                                    \
                else if (half == 24)                                                              \
                    rotate_head_##NAME(xk, c, s, yk, 24, sign);                                   \
                else                                                                              \
                    rotate_head_##NAME(xk, c, s, yk, half, sign);                                 \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* y[n] = sum over j of gate[n, j] x[place[n, j]], added to base[n] unless that is NULL */    \
    void combine_forward_##NAME(const T *restrict base, const T *restrict x,                      \
                                const float *restrict gate, const int64_t *restrict place,        \
                                T *restrict y, ptrdiff_t tokens, ptrdiff_t times,                 \
                                ptrdiff_t dim) {                                                  \
        for (ptrdiff_t n = 0; n < tokens; n++) {                                                  \
            T *yn = y + n * dim;                                                                  \
            _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++) {                             \
                float sum = base ? load_##NAME(base[n * dim + j]) : 0.0f;                         \
                for (ptrdiff_t k = 0; k < times; k++)                                             \
                    sum += gate[n * times + k] * load_##NAME(x[place[n * times + k] * dim + j]);  \
                yn[j] = store_##NAME(sum);                                                        \
            }                                                                                     \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    void combine_backward_##NAME(const T *restrict g, const T *restrict x,                        \
                                 const float *restrict gate, const int64_t *restrict place,       \
                                 T *restrict gx, float *restrict ggate, ptrdiff_t tokens,         \
                                 ptrdiff_t times, ptrdiff_t dim) {                                \
        for (ptrdiff_t a = 0; a < tokens * times; a++) {                                          \
            const T *gn = g + a / times * dim, *xa = x + place[a] * dim;                          \
            T *gxa = gx + place[a] * dim;                                                         \
            float weight = gate[a], dot = 0.0f;                                                   \
            _Pragma("omp simd reduction(+ : dot)") for (ptrdiff_t j = 0; j < dim; j++) {          \
                float gj = load_##NAME(gn[j]);                                                    \
                dot += gj * load_##NAME(xa[j]);                                                   \
                gxa[j] = store_##NAME(weight * gj);                                               \
            }                                                                                     \
            ggate[a] = dot;                                                                       \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* Token v at patch p = index[v] lies  in cell (p + left) / stride                            \
     * at tap (p + left) mod stride, is weighed by that tap for the merged token of its cell, and \
     * by the tap one stride later for the one before. */                                         \
    void merge_forward_##NAME(const T *restrict x, const T *restrict weight,                      \
                              const int64_t *restrict index, T *restrict y,                       \
                              float *restrict sum, ptrdiff_t segments, ptrdiff_t tokens,          \
                              ptrdiff_t merged, ptrdiff_t dim, ptrdiff_t stride,                  \
                              ptrdiff_t segments_per_weight) {                                    \
        for (ptrdiff_t b = 0; b < segments; b++) {                                                \
            const T *w = weight + b / segments_per_weight * 2 * stride * dim;                     \
            memset(sum, 0, sizeof(float) * merged * dim);                                         \
            for (ptrdiff_t v = 0; v < tokens; v++) {                                              \
                ptrdiff_t at = index[b * tokens + v] + stride / 2;                                \
                ptrdiff_t cell = at / stride;                                                     \
                const T *xv = x + (b * tokens + v) * dim, *wv = w + at % stride * dim;            \
                for (ptrdiff_t half = 0; half < 2; half++, wv += stride * dim) {                  \
                    if (cell - half < 0 || cell - half >= merged) continue;                       \
                    float *s = sum + (cell - half) * dim;                                         \
                    _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++)                       \
                        s[j] += load_##NAME(xv[j]) * load_##NAME(wv[j]);                          \
                }                                                                                 \
            }                                                                                     \
            for (ptrdiff_t j = 0; j < merged * dim; j++)                                          \
                y[b * merged * dim + j] = store_##NAME(sum[j]);                                   \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    /* gx, and gweight added to what is there */                                                  \
    void merge_backward_##NAME(const T *restrict g, const T *restrict x,                          \
                               const T *restrict weight, const int64_t *restrict index,           \
                               T *restrict gx, float *restrict gweight, ptrdiff_t segments,       \
                               ptrdiff_t tokens, ptrdiff_t merged, ptrdiff_t dim,                 \
                               ptrdiff_t stride, ptrdiff_t segments_per_weight) {                 \
        for (ptrdiff_t b = 0; b < segments; b++) {                                                \
            ptrdiff_t first = b / segments_per_weight * 2 * stride * dim;                         \
            for (ptrdiff_t v = 0; v < tokens; v++) {                                              \
                ptrdiff_t at = index[b * tokens + v] + stride / 2;                                \
                ptrdiff_t cell = at / stride, tap = first + at % stride * dim;                    \
                ptrdiff_t token = (b * tokens + v) * dim;                                         \
                int here = cell < merged, before = cell > 0;                                      \
                const T *xv = x + token, *gh = g + (b * merged + cell) * dim, *gb = gh - dim;     \
                const T *wh = weight + tap, *wb = wh + stride * dim;                              \
                float *gwh = gweight + tap, *gwb = gwh + stride * dim;                            \
                T *gxv = gx + token;                                                              \
                if (here && before) {                                                             \
                    _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++) {                     \
                        float xj = load_##NAME(xv[j]);                                            \
                        float h = load_##NAME(gh[j]), e = load_##NAME(gb[j]);                     \
                        gxv[j] = store_##NAME(h * load_##NAME(wh[j]) + e * load_##NAME(wb[j]));   \
                        gwh[j] += xj * h;                                                         \
                        gwb[j] += xj * e;                                                         \
                    }                                                                             \
                } else {                                                                          \
                    const T *gi = here ? gh : gb, *wi = here ? wh : wb;                           \
                    float *gwi = here ? gwh : gwb;                                                \
                    _Pragma("omp simd") for (ptrdiff_t j = 0; j < dim; j++) {                     \
                        gxv[j] = store_##NAME(load_##NAME(gi[j]) * load_##NAME(wi[j]));           \
                        gwi[j] += load_##NAME(xv[j]) * load_##NAME(gi[j]);                        \
                    }                                                                             \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
    }

KERNELS(f32, float)
KERNELS(bf16, uint16_t)
