/* The causal depthwise convolution and SiLU of ssm.py; causal_conv.py has the twin in torch.
 *
 *     p_t = bias + sum over k of weight_k x_{t - (TAPS - 1) + k}        u_t = p_t sigmoid(p_t)
 *
 * A task is one night and GROUP channels, LANES at a time; selective_scan.c says why in chunks of
 * time. causal_conv.py compiles this with TAPS, CHUNK and GROUP, a multiple of LANES.
 */
#include "lanes.h"

#define BLOCKS (GROUP / LANES)

struct conv { /* causal_conv.py has the same fields */
    const float *x_BLI, *tail_BKI; /* the TAPS - 1 rows before the first; NULL: zeros */
    const float *weight_KI, *bias_I;
    float *out_BLI;
    const float *gradient_BLI;
    float *x_gradient_BLI, *weight_gradient_BKI, *bias_gradient_BI; /* the last two: parts */
    ptrdiff_t nights, steps, inner, threads;
    ptrdiff_t x_per_night, x_per_step, gradient_per_night, gradient_per_step;
};

INLINE ptrdiff_t groups_of(const struct conv *s) { return (s->inner + GROUP - 1) / GROUP; }

INLINE lanes x_at(const struct conv *s, ptrdiff_t night, ptrdiff_t t, ptrdiff_t channel,
                  ptrdiff_t count) {
    if (t >= 0)
        return load(s->x_BLI + night * s->x_per_night + t * s->x_per_step + channel, count);
    if (!s->tail_BKI) return (lanes){0.0f};
    ptrdiff_t place = night * (TAPS - 1) + TAPS - 1 + t;
    return load(s->tail_BKI + place * s->inner + channel, count);
}

static void forward_block(const struct conv *s, ptrdiff_t night, ptrdiff_t from, ptrdiff_t to,
                          ptrdiff_t channel, ptrdiff_t count) {
    lanes weight[TAPS], x[TAPS], bias = load(s->bias_I + channel, count);
    UNROLL(TAPS) for (int k = 0; k < TAPS; k++) {
        weight[k] = load(s->weight_KI + k * s->inner + channel, count);
        x[k] = k ? x_at(s, night, from - TAPS + k, channel, count) : (lanes){0.0f};
    }
    for (ptrdiff_t t = from; t < to; t++) {
        lanes p = bias;
        UNROLL(TAPS) for (int k = 0; k < TAPS; k++) {
            x[k] = k + 1 < TAPS ? x[k + 1] : x_at(s, night, t, channel, count);
            p += weight[k] * x[k];
        }
        store(s->out_BLI + (night * s->steps + t) * s->inner + channel, p * sigmoid(p), count);
    }
}

static void forward_task(const void *job, ptrdiff_t task, ptrdiff_t thread) {
    const struct conv *s = job;
    ptrdiff_t night = task / groups_of(s), first = task % groups_of(s) * GROUP;
    ptrdiff_t end = smaller(first + GROUP, s->inner);
    (void)thread;
    for (ptrdiff_t from = 0; from < s->steps; from += CHUNK)
        for (ptrdiff_t channel = first; channel < end; channel += LANES)
            forward_block(s, night, from, smaller(from + CHUNK, s->steps), channel,
                          smaller(LANES, end - channel));
}

void conv_forward(const struct conv *s) {
    share_tasks(forward_task, s, s->nights * groups_of(s), s->threads);
}

struct sums { /* of one block, from the end of the night to where we are */
    lanes later[TAPS]; /* gradients of p at the TAPS steps from here on */
    lanes weight_gradient[TAPS], bias_gradient;
};

static void backward_block(const struct conv *s, struct sums *sums, ptrdiff_t night,
                           ptrdiff_t from, ptrdiff_t to, ptrdiff_t channel, ptrdiff_t count) {
    lanes weight[TAPS], x[TAPS], later[TAPS], weight_gradient[TAPS];
    lanes bias = load(s->bias_I + channel, count), bias_gradient = sums->bias_gradient;
    UNROLL(TAPS) for (int k = 0; k < TAPS; k++) {
        weight[k] = load(s->weight_KI + k * s->inner + channel, count);
        x[k] = k + 1 < TAPS ? x_at(s, night, to - TAPS + 1 + k, channel, count) : (lanes){0.0f};
        later[k] = sums->later[k];
        weight_gradient[k] = sums->weight_gradient[k];
    }
    for (ptrdiff_t t = to - 1; t >= from; t--) {
        UNROLL(TAPS) for (int k = TAPS - 1; k > 0; k--) {
            x[k] = x[k - 1];
            later[k] = later[k - 1];
        }
        x[0] = x_at(s, night, t - TAPS + 1, channel, count);
        lanes p = bias;
        UNROLL(TAPS) for (int k = 0; k < TAPS; k++) p += weight[k] * x[k];
        lanes gate = sigmoid(p);
        const float *gradient = s->gradient_BLI + night * s->gradient_per_night +
                                t * s->gradient_per_step + channel;
        later[0] = load(gradient, count) * gate * (1.0f + p * (1.0f - gate));
        lanes x_gradient = {0.0f};
        UNROLL(TAPS) for (int k = 0; k < TAPS; k++) {
            x_gradient += weight[TAPS - 1 - k] * later[k];
            weight_gradient[k] += later[0] * x[k];
        }
        bias_gradient += later[0];
        store(s->x_gradient_BLI + (night * s->steps + t) * s->inner + channel, x_gradient, count);
    }
    UNROLL(TAPS) for (int k = 0; k < TAPS; k++) {
        sums->later[k] = later[k];
        sums->weight_gradient[k] = weight_gradient[k];
    }
    sums->bias_gradient = bias_gradient;
}

static void backward_task(const void *job, ptrdiff_t task, ptrdiff_t thread) {
    const struct conv *s = job;
    ptrdiff_t night = task / groups_of(s), first = task % groups_of(s) * GROUP;
    ptrdiff_t end = smaller(first + GROUP, s->inner);
    struct sums sums[BLOCKS];
    (void)thread;
    memset(sums, 0, sizeof sums);
    for (ptrdiff_t chunk = (s->steps + CHUNK - 1) / CHUNK - 1; chunk >= 0; chunk--) {
        ptrdiff_t from = chunk * CHUNK, to = smaller(from + CHUNK, s->steps), block = 0;
        for (ptrdiff_t channel = first; channel < end; channel += LANES, block++)
            backward_block(s, &sums[block], night, from, to, channel,
                           smaller(LANES, end - channel));
    }
    for (ptrdiff_t channel = first, block = 0; channel < end; channel += LANES, block++) {
        ptrdiff_t count = smaller(LANES, end - channel);
        store(s->bias_gradient_BI + night * s->inner + channel, sums[block].bias_gradient, count);
        for (int k = 0; k < TAPS; k++)
            store(s->weight_gradient_BKI + (night * TAPS + k) * s->inner + channel,
                  sums[block].weight_gradient[k], count);
    }
}

/* The first night of the parts then holds their sums. */
void conv_backward(const struct conv *s) {
    share_tasks(backward_task, s, s->nights * groups_of(s), s->threads);
    fold(s->weight_gradient_BKI, s->nights, TAPS * s->inner);
    fold(s->bias_gradient_BI, s->nights, s->inner);
}
