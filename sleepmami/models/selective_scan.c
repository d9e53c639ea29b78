/* The selective scan of ssm.py, forward and backward; selective_scan.py is its twin in torch.
 *
 * A task is one night and GROUP channels. It goes through the night CHUNK steps at a time, in each
 * chunk through its channels LANES at a time, with their STATES states in registers. The forward
 * pass stores the states before each chunk; the backward pass computes those in between again.
 * Sums over nights and channels are made of parts whose size does not depend on the number of
 * threads, added in a fixed order, so that any number of threads gives the same bits.
 *
 * scan_kernel.py compiles this with STATES, CHUNK and GROUP, a multiple of LANES.
 */
#include "lanes.h"

#define BLOCKS (GROUP / LANES)
#define LOG2_E 1.44269504f
#define LN_2 0.69314718f

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
    return s->length_B ? (ptrdiff_t)s->length_B[night] : s->steps;
}

/* Rows of padding: zeros. */
static void clear_rows(float *to_BLI, const struct scan *s, ptrdiff_t night, ptrdiff_t channel,
                       ptrdiff_t count) {
    for (ptrdiff_t t = length_of(s, night); t < s->steps; t++)
        memset(to_BLI + (night * s->steps + t) * s->inner + channel, 0, sizeof(float) * count);
}

/* --------------------------------------------------------------------------------- forward */

static void forward_block(const struct scan *s, ptrdiff_t night, ptrdiff_t from, ptrdiff_t to,
                          ptrdiff_t channel, ptrdiff_t count) {
    float *state_N = s->state_BNI + night * STATES * s->inner + channel;
    float *start_N = NULL;
    if (s->starts_BKNI) {
        ptrdiff_t chunk = night * chunks_of(s) + from / CHUNK;
        start_N = s->starts_BKNI + chunk * STATES * s->inner + channel;
    }
    lanes h[STATES], a[STATES];
    lanes skip = load(s->skip_I + channel, count), bias = load(s->bias_I + channel, count);
    UNROLL(STATES) for (int n = 0; n < STATES; n++) {
        a[n] = load(s->A_NI + n * s->inner + channel, count) * LOG2_E;
        h[n] = load(state_N + n * s->inner, count);
        if (start_N) store(start_N + n * s->inner, h[n], count);
    }
    for (ptrdiff_t t = from; t < to; t++) {
        const float *B = row(&s->B, night, t), *C = row(&s->C, night, t);
        lanes u = load(row(&s->u, night, t) + channel, count);
        lanes z = load(row(&s->z, night, t) + channel, count);
        lanes x = load(row(&s->delta, night, t) + channel, count) + bias;
        lanes step = softplus_from(x, exponential(-absolute(x)));
        lanes drive = step * u, y = skip * u;
        UNROLL(STATES) for (int n = 0; n < STATES; n++) {
            h[n] = power_of_2(step * a[n]) * h[n] + drive * B[n];
            y += h[n] * C[n];
        }
        store(s->out_BLI + (night * s->steps + t) * s->inner + channel, y * z * sigmoid(z), count);
    }
    UNROLL(STATES) for (int n = 0; n < STATES; n++) store(state_N + n * s->inner, h[n], count);
}

static void forward_task(const void *job, ptrdiff_t task, ptrdiff_t thread) {
    const struct scan *s = job;
    ptrdiff_t night = task / groups_of(s), first = task % groups_of(s) * GROUP;
    ptrdiff_t end = smaller(first + GROUP, s->inner), length = length_of(s, night);
    (void)thread;
    for (ptrdiff_t from = 0; from < length; from += CHUNK)
        for (ptrdiff_t channel = first; channel < end; channel += LANES)
            forward_block(s, night, from, smaller(from + CHUNK, length), channel,
                          smaller(LANES, end - channel));
    clear_rows(s->out_BLI, s, night, first, end - first);
}

void scan_forward(const struct scan *s) {
    share_tasks(forward_task, s, s->nights * groups_of(s), s->threads);
}

/* -------------------------------------------------------------------------------- backward */

struct work { /* of one thread, for the chunk and the group that it is at */
    lanes h[CHUNK + 1][STATES], decay[CHUNK][STATES];
    lanes step[CHUNK], slope[CHUNK], y[CHUNK];
    lanes B_gradient[CHUNK][STATES], C_gradient[CHUNK][STATES]; /* summed over blocks */
    lanes carry[BLOCKS][STATES]; /* decay_{t+1} g_{t+1}, where g is the gradient of a state */
    lanes A_gradient[BLOCKS][STATES], skip_gradient[BLOCKS], bias_gradient[BLOCKS];
};

ptrdiff_t scan_scratch_bytes(void) { return sizeof(struct work); }

/* What the forward pass computed in this chunk and block. */
static void recompute(const struct scan *s, struct work *w, ptrdiff_t night, ptrdiff_t from,
                      ptrdiff_t to, ptrdiff_t channel, ptrdiff_t count) {
    ptrdiff_t chunk = night * chunks_of(s) + from / CHUNK;
    const float *start_N = s->starts_BKNI + chunk * STATES * s->inner + channel;
    lanes h[STATES], a[STATES];
    lanes skip = load(s->skip_I + channel, count), bias = load(s->bias_I + channel, count);
    UNROLL(STATES) for (int n = 0; n < STATES; n++) {
        a[n] = load(s->A_NI + n * s->inner + channel, count) * LOG2_E;
        w->h[0][n] = h[n] = load(start_N + n * s->inner, count);
    }
    for (ptrdiff_t t = from, r = 0; t < to; t++, r++) {
        const float *B = row(&s->B, night, t), *C = row(&s->C, night, t);
        lanes u = load(row(&s->u, night, t) + channel, count);
        lanes x = load(row(&s->delta, night, t) + channel, count) + bias;
        lanes e = exponential(-absolute(x)), step = softplus_from(x, e);
        lanes drive = step * u, y = skip * u;
        UNROLL(STATES) for (int n = 0; n < STATES; n++) {
            lanes decay = power_of_2(step * a[n]);
            h[n] = decay * h[n] + drive * B[n];
            y += h[n] * C[n];
            w->decay[r][n] = decay;
            w->h[r + 1][n] = h[n];
        }
        w->step[r] = step;
        w->slope[r] = sigmoid_from(x, e);
        w->y[r] = y;
    }
}

/* g_t = C_t y'_t + decay_{t+1} g_{t+1}, last step first, and all gradients that follow from it. */
static void backward_block(const struct scan *s, struct work *w, ptrdiff_t night, ptrdiff_t from,
                           ptrdiff_t to, ptrdiff_t channel, ptrdiff_t count, ptrdiff_t block) {
    lanes carry[STATES];
    lanes *A_gradient = w->A_gradient[block], a[STATES];
    lanes skip = load(s->skip_I + channel, count);
    lanes skip_gradient = w->skip_gradient[block], bias_gradient = w->bias_gradient[block];
    UNROLL(STATES) for (int n = 0; n < STATES; n++) {
        a[n] = load(s->A_NI + n * s->inner + channel, count);
        carry[n] = w->carry[block][n];
    }
    for (ptrdiff_t t = to - 1, r = to - 1 - from; t >= from; t--, r--) {
        const float *B = row(&s->B, night, t), *C = row(&s->C, night, t);
        ptrdiff_t place = (night * s->steps + t) * s->inner + channel;
        lanes gradient = load(row(&s->gradient, night, t) + channel, count);
        lanes z = load(row(&s->z, night, t) + channel, count), gate = sigmoid(z);
        lanes u = load(row(&s->u, night, t) + channel, count);
        lanes y_gradient = gradient * z * gate, step = w->step[r], drive = step * u;
        lanes step_gradient = {0.0f}, drive_gradient = {0.0f};
        UNROLL(STATES) for (int n = 0; n < STATES; n++) {
            lanes g = carry[n] + y_gradient * C[n];
            w->C_gradient[r][n] += w->h[r + 1][n] * y_gradient;
            w->B_gradient[r][n] += g * drive;
            drive_gradient += g * B[n];
            carry[n] = g * w->decay[r][n];
            lanes exponent = carry[n] * w->h[r][n]; /* gradient of step times A */
            step_gradient += exponent * a[n];
            A_gradient[n] += exponent * step;
        }
        lanes delta_gradient = (step_gradient + drive_gradient * u) * w->slope[r];
        skip_gradient += y_gradient * u;
        bias_gradient += delta_gradient;
        store(s->u_gradient_BLI + place, drive_gradient * step + y_gradient * skip, count);
        store(s->delta_gradient_BLI + place, delta_gradient, count);
        store(s->z_gradient_BLI + place,
              gradient * w->y[r] * gate * (1.0f + z * (1.0f - gate)), count);
    }
    UNROLL(STATES) for (int n = 0; n < STATES; n++) w->carry[block][n] = carry[n];
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
        ptrdiff_t from = chunk * CHUNK, to = smaller(from + CHUNK, length), block = 0;
        memset(w->B_gradient, 0, sizeof w->B_gradient);
        memset(w->C_gradient, 0, sizeof w->C_gradient);
        for (ptrdiff_t channel = first; channel < end; channel += LANES, block++) {
            ptrdiff_t count = smaller(LANES, end - channel);
            recompute(s, w, night, from, to, channel, count);
            backward_block(s, w, night, from, to, channel, count, block);
        }
        for (ptrdiff_t t = from; t < to; t++)
            for (int n = 0; n < STATES; n++) {
                B_gradient_LN[t * STATES + n] = sum_of(w->B_gradient[t - from][n]);
                C_gradient_LN[t * STATES + n] = sum_of(w->C_gradient[t - from][n]);
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
