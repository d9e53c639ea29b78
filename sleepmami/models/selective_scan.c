/* The selective scan of ssm.py, forward and backward; selective_scan.py is its twin in torch.
 *
 * A task is one night and GROUP channels. It goes through the night CHUNK steps at a time, in each
 * chunk through its channels LANES at a time, and with those through their states TOGETHER at a time,
 * which stay in registers over the chunk. What does not depend on the states is computed before, for
 * all steps of the chunk: in the loop over time only what has to wait for the step before.
 * The forward pass stores the states before each chunk; the backward pass computes those in between
 * again.
 * Sums over nights and channels are made of parts whose size does not depend on the number of
 * threads, added in a fixed order, so that any number of threads gives the same bits.
 *
 * scan_kernel.py compiles this with STATES, CHUNK and GROUP, a multiple of LANES.
 */
#include "lanes.h"

#define BLOCKS (GROUP / LANES)
#define LOG2_E 1.44269504f
#if STATES % 4 == 0
#define TOGETHER 4
#elif STATES % 2 == 0
#define TOGETHER 2
#else
#define TOGETHER 1
#endif

struct sequence { /* of one row per step; numbers of a row lie side by side */
    const float *at;
    ptrdiff_t per_night, per_step; /* from one to the next, in numbers */
};

struct scan { /* scan_kernel.py has the same fields; results of sequences have no gaps */
    struct sequence u, delta, z, B, C, gradient;
    const float *A_NI, *skip_I, *bias_I;
    const int64_t *length_B; /* NULL: all nights are `steps` long */
    float *state_BNI;        /* in: before the first step; out: after the last one of each night */
    float *starts_BKNI;      /* NULL: no backward pass is to follow */
    float *out_BLI;
    float *u_gradient_BLI, *delta_gradient_BLI, *z_gradient_BLI;
    float *B_gradient_BGLN, *C_gradient_BGLN;                     /* parts, by group of channels */
    float *A_gradient_BNI, *skip_gradient_BI, *bias_gradient_BI; /* parts, by night */
    float *scratch;                                               /* backward, per thread */
    ptrdiff_t nights, steps, inner, threads;
};

INLINE const float *row(const struct sequence *s, ptrdiff_t night, ptrdiff_t step) {
    return s->at + night * s->per_night + step * s->per_step;
}
INLINE ptrdiff_t groups_of(const struct scan *s) { return (s->inner + GROUP - 1) / GROUP; }
INLINE ptrdiff_t chunks_of(const struct scan *s) { return (s->steps + CHUNK - 1) / CHUNK; }
INLINE ptrdiff_t length_of(const struct scan *s, ptrdiff_t night) {
    ptrdiff_t length = s->length_B ? (ptrdiff_t)s->length_B[night] : s->steps;
    return length < 0 ? 0 : smaller(length, s->steps); /* never outside of what is there */
}

/* Rows of padding: zeros. */
static void clear_rows(float *to_BLI, const struct scan *s, ptrdiff_t night, ptrdiff_t channel,
                       ptrdiff_t count) {
    for (ptrdiff_t t = length_of(s, night); t < s->steps; t++)
        memset(to_BLI + (night * s->steps + t) * s->inner + channel, 0, sizeof(float) * count);
}

/* Where we are: one night, some steps, at most LANES channels. */
struct place {
    ptrdiff_t night, from, to, channel, count;
};

INLINE lanes get(const struct sequence *s, const struct place *p, ptrdiff_t t) {
    return load(row(s, p->night, t) + p->channel, p->count);
}
INLINE void put(const struct scan *s, float *to_BLI, const struct place *p, ptrdiff_t t, lanes x) {
    store(to_BLI + (p->night * s->steps + t) * s->inner + p->channel, x, p->count);
}
INLINE ptrdiff_t start_of(const struct scan *s, const struct place *p) { /* in starts_BKNI */
    return (p->night * chunks_of(s) + p->from / CHUNK) * STATES * s->inner + p->channel;
}

/* Rows that the next place will need. A night's rows lie pages apart, where no processor guesses the
 * next one; asked for a little at a time during the arithmetic they cost nothing. */
struct ahead {
    int count;
    struct sequence rows[8];
};

INLINE void look_ahead(struct ahead *a, const struct sequence *s, const struct place *next) {
    a->rows[a->count++] = (struct sequence){row(s, next->night, next->from) + next->channel, 0,
                                            s->per_step};
}
INLINE void look_ahead_out(struct ahead *a, const struct scan *s, const float *out_BLI,
                           const struct place *next) {
    struct sequence out = {out_BLI, s->steps * s->inner, s->inner};
    look_ahead(a, &out, next);
}
/* Row r of every part-th sequence, so that the parts together ask for all. */
INLINE void fetch(const struct ahead *a, int part, int parts, ptrdiff_t r) {
    for (int i = part; i < a->count; i += parts)
        __builtin_prefetch(a->rows[i].at + r * a->rows[i].per_step, 0, 2);
}

/* --------------------------------------------------------------------------------- forward */

struct steps { /* of one place; index 0 is its first step */
    lanes u[CHUNK], step[CHUNK], drive[CHUNK], y[CHUNK];
    lanes gate[CHUNK];  /* sigmoid(z) */
    lanes slope[CHUNK]; /* of the softplus */
};

/* All of the steps that does not depend on the states. */
INLINE void prepare(const struct scan *s, const struct place *p, struct steps *w) {
    lanes skip = load(s->skip_I + p->channel, p->count);
    lanes bias = load(s->bias_I + p->channel, p->count);
    for (ptrdiff_t t = p->from, r = 0; t < p->to; t++, r++) {
        lanes u = get(&s->u, p, t), x = get(&s->delta, p, t) + bias;
        lanes e = exponential(-absolute(x)), step = softplus_from(x, e);
        w->u[r] = u;
        w->step[r] = step;
        w->slope[r] = sigmoid_from(x, e);
        w->drive[r] = step * u;
        w->y[r] = skip * u;
        w->gate[r] = sigmoid(get(&s->z, p, t));
    }
}

/* States n..n + TOGETHER - 1 over the steps, added to y; the states and decays are kept if wanted. */
INLINE void advance(const struct scan *s, const struct place *p, const struct ahead *ahead,
                    struct steps *w, int n, lanes *h, lanes (*kept_h)[TOGETHER], lanes (*kept_decay)[TOGETHER]) {
    lanes a[TOGETHER];
    UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++)
        a[i] = load(s->A_NI + (n + i) * s->inner + p->channel, p->count) * LOG2_E;
    for (ptrdiff_t t = p->from, r = 0; t < p->to; t++, r++) {
        const float *B = row(&s->B, p->night, t) + n, *C = row(&s->C, p->night, t) + n;
        lanes step = w->step[r], drive = w->drive[r], y = w->y[r];
        fetch(ahead, n / TOGETHER, STATES / TOGETHER, r);
        UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++) {
            lanes decay = power_of_2(step * a[i]);
            if (kept_h) kept_h[r][i] = h[i];
            if (kept_decay) kept_decay[r][i] = decay;
            h[i] = decay * h[i] + drive * B[i];
            y += h[i] * C[i];
        }
        w->y[r] = y;
    }
}

static void forward_block(const struct scan *s, const struct place *p, const struct place *next) {
    struct steps w;
    struct ahead ahead = {0};
    look_ahead(&ahead, &s->u, next);
    look_ahead(&ahead, &s->delta, next);
    look_ahead(&ahead, &s->z, next);
    look_ahead_out(&ahead, s, s->out_BLI, next);
    prepare(s, p, &w);
    for (int n = 0; n < STATES; n += TOGETHER) {
        float *state_NI = s->state_BNI + (p->night * STATES + n) * s->inner + p->channel;
        lanes h[TOGETHER];
        UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++) {
            h[i] = load(state_NI + i * s->inner, p->count);
            if (s->starts_BKNI)
                store(s->starts_BKNI + start_of(s, p) + (n + i) * s->inner, h[i], p->count);
        }
        advance(s, p, &ahead, &w, n, h, NULL, NULL);
        UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++)
            store(state_NI + i * s->inner, h[i], p->count);
    }
    for (ptrdiff_t t = p->from, r = 0; t < p->to; t++, r++)
        put(s, s->out_BLI, p, t, w.y[r] * w.gate[r] * get(&s->z, p, t));
}

static void forward_task(const void *job, ptrdiff_t task, ptrdiff_t thread) {
    const struct scan *s = job;
    ptrdiff_t night = task / groups_of(s), first = task % groups_of(s) * GROUP;
    ptrdiff_t end = smaller(first + GROUP, s->inner), length = length_of(s, night);
    (void)thread;
    for (ptrdiff_t from = 0; from < length; from += CHUNK)
        for (ptrdiff_t channel = first; channel < end; channel += LANES) {
            struct place p = {night, from, smaller(from + CHUNK, length), channel,
                              smaller(LANES, end - channel)};
            struct place next = p;
            if (channel + LANES < end) {
                next.channel += LANES;
            } else {
                next.from += CHUNK;
                next.channel = first;
            }
            forward_block(s, &p, &next);
        }
    clear_rows(s->out_BLI, s, night, first, end - first);
}

void scan_forward(const struct scan *s) {
    share_tasks(forward_task, s, s->nights * groups_of(s), s->threads);
}

/* -------------------------------------------------------------------------------- backward */

struct work { /* of one thread, for the chunk and the group that it is at */
    struct steps steps;
    lanes h[CHUNK + 1][TOGETHER], decay[CHUNK][TOGETHER];
    lanes y_gradient[CHUNK], step_gradient[CHUNK], drive_gradient[CHUNK];
    lanes B_gradient[STATES][CHUNK], C_gradient[STATES][CHUNK]; /* summed over blocks */
    lanes carry[BLOCKS][STATES]; /* decay_{t+1} g_{t+1}, where g is the gradient of a state */
    lanes A_gradient[BLOCKS][STATES], skip_gradient[BLOCKS], bias_gradient[BLOCKS];
};

ptrdiff_t scan_scratch_bytes(void) { return sizeof(struct work); }

/* g_t = C_t y'_t + decay_{t+1} g_{t+1}, last step first, and what follows from it, for some states
 * whose way through the chunk is in w. */
INLINE void retreat(const struct scan *s, const struct place *p, struct work *w, int n, int block) {
    lanes a[TOGETHER], carry[TOGETHER], A_gradient[TOGETHER], later[TOGETHER];
    ptrdiff_t last = p->to - 1 - p->from;
    UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++) {
        a[i] = load(s->A_NI + (n + i) * s->inner + p->channel, p->count);
        carry[i] = w->carry[block][n + i];
        A_gradient[i] = w->A_gradient[block][n + i];
        later[i] = w->h[last + 1][i];
    }
    for (ptrdiff_t t = p->to - 1, r = last; r >= 0; t--, r--) {
        const float *B = row(&s->B, p->night, t) + n, *C = row(&s->C, p->night, t) + n;
        lanes y_gradient = w->y_gradient[r], step = w->steps.step[r], drive = w->steps.drive[r];
        lanes step_gradient = w->step_gradient[r], drive_gradient = w->drive_gradient[r];
        UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++) {
            lanes g = carry[i] + y_gradient * C[i], h = w->h[r][i];
            w->C_gradient[n + i][r] += later[i] * y_gradient;
            w->B_gradient[n + i][r] += g * drive;
            drive_gradient += g * B[i];
            carry[i] = g * w->decay[r][i];
            lanes exponent = carry[i] * h; /* gradient of step times A */
            step_gradient += exponent * a[i];
            A_gradient[i] += exponent * step;
            later[i] = h;
        }
        w->step_gradient[r] = step_gradient;
        w->drive_gradient[r] = drive_gradient;
    }
    UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++) {
        w->carry[block][n + i] = carry[i];
        w->A_gradient[block][n + i] = A_gradient[i];
    }
}

static void backward_block(const struct scan *s, struct work *w, const struct place *p,
                           const struct place *next, int block) {
    struct steps *k = &w->steps;
    struct ahead ahead = {0};
    look_ahead(&ahead, &s->u, next);
    look_ahead(&ahead, &s->delta, next);
    look_ahead(&ahead, &s->z, next);
    look_ahead(&ahead, &s->gradient, next);
    look_ahead_out(&ahead, s, s->u_gradient_BLI, next);
    look_ahead_out(&ahead, s, s->delta_gradient_BLI, next);
    look_ahead_out(&ahead, s, s->z_gradient_BLI, next);
    struct sequence starts = {s->starts_BKNI + start_of(s, next), 0, s->inner};
    ahead.rows[ahead.count++] = starts; /* STATES rows; those beyond do no harm */
    prepare(s, p, k);
    for (ptrdiff_t t = p->from, r = 0; t < p->to; t++, r++) {
        w->y_gradient[r] = get(&s->gradient, p, t) * get(&s->z, p, t) * k->gate[r];
        w->step_gradient[r] = w->drive_gradient[r] = (lanes){0.0f};
    }
    for (int n = 0; n < STATES; n += TOGETHER) {
        lanes h[TOGETHER];
        UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++)
            h[i] = load(s->starts_BKNI + start_of(s, p) + (n + i) * s->inner, p->count);
        advance(s, p, &ahead, k, n, h, w->h, w->decay);
        UNROLL(TOGETHER) for (int i = 0; i < TOGETHER; i++) w->h[p->to - p->from][i] = h[i];
        retreat(s, p, w, n, block);
    }
    lanes skip = load(s->skip_I + p->channel, p->count);
    lanes skip_gradient = w->skip_gradient[block], bias_gradient = w->bias_gradient[block];
    for (ptrdiff_t t = p->to - 1, r = t - p->from; r >= 0; t--, r--) {
        lanes z = get(&s->z, p, t), gate = k->gate[r], gradient = get(&s->gradient, p, t);
        lanes delta = (w->step_gradient[r] + w->drive_gradient[r] * k->u[r]) * k->slope[r];
        skip_gradient += w->y_gradient[r] * k->u[r];
        bias_gradient += delta;
        put(s, s->delta_gradient_BLI, p, t, delta);
        put(s, s->u_gradient_BLI, p, t, w->drive_gradient[r] * k->step[r] + w->y_gradient[r] * skip);
        put(s, s->z_gradient_BLI, p, t, gradient * k->y[r] * gate * (1.0f + z * (1.0f - gate)));
    }
    w->skip_gradient[block] = skip_gradient;
    w->bias_gradient[block] = bias_gradient;
}

static void backward_task(const void *job, ptrdiff_t task, ptrdiff_t thread) {
    const struct scan *s = job;
    struct work *w = (struct work *)s->scratch + thread;
    ptrdiff_t night = task / groups_of(s), first = task % groups_of(s) * GROUP;
    ptrdiff_t end = smaller(first + GROUP, s->inner), length = length_of(s, night);
    float *B_gradient_LN = s->B_gradient_BGLN + task * s->steps * STATES;
    float *C_gradient_LN = s->C_gradient_BGLN + task * s->steps * STATES;
    memset(w->carry, 0, sizeof w->carry);
    memset(w->A_gradient, 0, sizeof w->A_gradient);
    memset(w->skip_gradient, 0, sizeof w->skip_gradient);
    memset(w->bias_gradient, 0, sizeof w->bias_gradient);
    for (ptrdiff_t chunk = (length + CHUNK - 1) / CHUNK - 1; chunk >= 0; chunk--) {
        ptrdiff_t from = chunk * CHUNK, to = smaller(from + CHUNK, length);
        int block = 0;
        memset(w->B_gradient, 0, sizeof w->B_gradient);
        memset(w->C_gradient, 0, sizeof w->C_gradient);
        for (ptrdiff_t channel = first; channel < end; channel += LANES, block++) {
            struct place p = {night, from, to, channel, smaller(LANES, end - channel)};
            struct place next = p;
            if (channel + LANES < end) {
                next.channel += LANES;
            } else {
                next.from -= CHUNK;
                next.channel = first;
            }
            backward_block(s, w, &p, &next, block);
        }
        for (ptrdiff_t t = from; t < to; t++)
            for (int n = 0; n < STATES; n++) {
                B_gradient_LN[t * STATES + n] = sum_of(w->B_gradient[n][t - from]);
                C_gradient_LN[t * STATES + n] = sum_of(w->C_gradient[n][t - from]);
            }
    }
    for (ptrdiff_t channel = first, block = 0; channel < end; channel += LANES, block++) {
        ptrdiff_t count = smaller(LANES, end - channel), place = night * s->inner + channel;
        store(s->skip_gradient_BI + place, w->skip_gradient[block], count);
        store(s->bias_gradient_BI + place, w->bias_gradient[block], count);
        for (int n = 0; n < STATES; n++)
            store(s->A_gradient_BNI + (night * STATES + n) * s->inner + channel,
                  w->A_gradient[block][n], count);
    }
    clear_rows(s->u_gradient_BLI, s, night, first, end - first);
    clear_rows(s->delta_gradient_BLI, s, night, first, end - first);
    clear_rows(s->z_gradient_BLI, s, night, first, end - first);
    ptrdiff_t padding = sizeof(float) * STATES * (s->steps - length);
    memset(B_gradient_LN + length * STATES, 0, padding);
    memset(C_gradient_LN + length * STATES, 0, padding);
}

/* Each night's first group, and the first night, then hold the sums. */
void scan_backward(const struct scan *s) {
    ptrdiff_t groups = groups_of(s), width = s->steps * STATES;
    share_tasks(backward_task, s, s->nights * groups, s->threads);
    for (ptrdiff_t night = 0; night < s->nights; night++) {
        fold(s->B_gradient_BGLN + night * groups * width, groups, width);
        fold(s->C_gradient_BGLN + night * groups * width, groups, width);
    }
    fold(s->A_gradient_BNI, s->nights, STATES * s->inner);
    fold(s->skip_gradient_BI, s->nights, s->inner);
    fold(s->bias_gradient_BI, s->nights, s->inner);
}
