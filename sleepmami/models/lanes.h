/* What the C sources of this folder that share their work between threads have in common: a few
 * floats side by side, as many as one register holds, and tasks that any number of threads works off.
 */
#ifndef LANES_H
#define LANES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define MAX_THREADS 256
#define INLINE static inline __attribute__((always_inline))
#define PRAGMA(x) _Pragma(#x)
#define UNROLL(times) PRAGMA(GCC unroll times)

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t words __attribute__((vector_size(4 * LANES)));

/* ------------------------------------------------------------------- a vector and the memory */

/* `count` numbers, at most LANES, of any alignment; zeros in the lanes beyond. */
INLINE lanes load(const float *from, ptrdiff_t count) {
    lanes x = {0.0f};
    if (count >= LANES)
        memcpy(&x, from, sizeof x);
    else
        memcpy(&x, from, sizeof(float) * (size_t)count);
    return x;
}

INLINE void store(float *to, lanes x, ptrdiff_t count) {
    if (count >= LANES)
        memcpy(to, &x, sizeof x);
    else
        memcpy(to, &x, sizeof(float) * (size_t)count);
}

INLINE float sum_of(lanes x) {
    float part[LANES];
    memcpy(part, &x, sizeof x);
    for (int half = LANES / 2; half; half /= 2) /* a tree: always the same order */
        for (int i = 0; i < half; i++) part[i] += part[i + half];
    return part[0];
}

/* ------------------------------------------------------------------------------- functions */

INLINE lanes choose(words mask, lanes yes, lanes no) {
    return (lanes)((mask & (words)yes) | (~mask & (words)no));
}

/* The greater of x and the bound; a NaN in x stays one, which x86 promises of its second argument. */
INLINE lanes at_least(float bound, lanes x) {
#if defined(__AVX512F__)
    return _mm512_max_ps(_mm512_set1_ps(bound), x);
#elif defined(__AVX__)
    return _mm256_max_ps(_mm256_set1_ps(bound), x);
#elif defined(__SSE__)
    return _mm_max_ps(_mm_set1_ps(bound), x);
#else
    return choose(x < bound, (lanes){0.0f} + bound, x);
#endif
}

INLINE lanes absolute(lanes x) { return (lanes)((words)x & 0x7fffffff); }

/* 2^x for x <= 126, to 2e-7; 0 from about -126 down; 1 at 0; a NaN stays one. 2^n times a polynomial
 * on [-1/2, 1/2] that is 1 at 0 and off by 9e-8 of the value at most (found by linear programming). */
INLINE lanes power_of_2(lanes x) {
    const float shift = 12582912.0f + 127.0f; /* 1.5 * 2^23: the last bits of a sum count ones */
    x = at_least(-127.0f, x);
    lanes shifted = x + shift, r = x - (shifted - shift);
    lanes p = r * 0.0013264601584523916f + 0.009671511128544807f;
    p = p * r + 0.05550733953714371f;
    p = p * r + 0.24022242426872253f;
    p = p * r + 0.6931470036506653f;
    p = p * r + 1.0f;
    return p * (lanes)((words)shifted << 23);
}

INLINE lanes exponential(lanes x) { return power_of_2(x * 1.44269504f); }

/* 1 / (1 + e^-x), from e = e^-|x|, which cannot overflow */
INLINE lanes sigmoid_from(lanes x, lanes e) {
    lanes inverse = 1.0f / (1.0f + e);
    return choose(x < 0.0f, e * inverse, inverse);
}

INLINE lanes sigmoid(lanes x) { return sigmoid_from(x, exponential(-absolute(x))); }

/* ln(1 + e^x) from e = e^-|x|: max(x, 0) + ln(1 + e), the logarithm as 2 artanh(e / (2 + e)) */
INLINE lanes softplus_from(lanes x, lanes e) {
    lanes r = e / (2.0f + e), q = r * r;
    lanes s = q * (1.0f / 13.0f) + 1.0f / 11.0f;
    s = s * q + 1.0f / 9.0f;
    s = s * q + 1.0f / 7.0f;
    s = s * q + 1.0f / 5.0f;
    s = s * q + 1.0f / 3.0f;
    s = s * q + 1.0f;
    return at_least(0.0f, x) + 2.0f * r * s;
}

/* ----------------------------------------------------------------------------------- tasks */

INLINE ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Add rows 1.. of a table to its row 0. */
static void fold(float *table, ptrdiff_t rows, ptrdiff_t width) {
    for (ptrdiff_t i = 1; i < rows; i++)
        for (ptrdiff_t j = 0; j < width; j++) table[j] += table[i * width + j];
}

typedef void (*task_function)(const void *job, ptrdiff_t task, ptrdiff_t thread);

struct shared_work {
    task_function function;
    const void *job;
    ptrdiff_t num_tasks;
    atomic_ptrdiff_t next_task, next_thread;
};

/* Numbers below 1e-38 count as zero in this thread until `restore_small`. A gradient that decays
 * backwards through a night gets there, and x86 takes a hundred times as long for such numbers. */
INLINE uintptr_t drop_small(void) {
#if defined(__SSE__)
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* flush to zero, denormals are zero */
    return before;
#elif defined(__aarch64__)
    uintptr_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (uintptr_t)1 << 24));
    return before;
#else
    return 0;
#endif
}

INLINE void restore_small(uintptr_t before) {
#if defined(__SSE__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

static void *work_off(void *pointer) {
    struct shared_work *work = pointer;
    uintptr_t before = drop_small();
    ptrdiff_t thread = atomic_fetch_add(&work->next_thread, 1), task;
    while ((task = atomic_fetch_add(&work->next_task, 1)) < work->num_tasks)
        work->function(work->job, task, thread);
    restore_small(before);
    return NULL;
}

/* Run tasks 0..num_tasks - 1, each once, on at most `num_threads` threads, this one among them.
 * What a task computes must not depend on which thread has it, nor on what other tasks did. */
static void share_tasks(task_function function, const void *job, ptrdiff_t num_tasks,
                        ptrdiff_t num_threads) {
    struct shared_work work = {.function = function, .job = job, .num_tasks = num_tasks};
    pthread_t others[MAX_THREADS];
    ptrdiff_t most = num_threads < num_tasks ? num_threads : num_tasks, started = 0;
    while (started < most - 1 && started < MAX_THREADS &&
           !pthread_create(&others[started], NULL, work_off, &work))
        started++; /* where a thread cannot be had, those that are there do its work */
    work_off(&work);
    while (started) pthread_join(others[--started], NULL);
}

#endif
