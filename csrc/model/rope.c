/* rope.c - the angle per position of each rotary pair, with linear and YaRN scaling. */
#include "model.h"

#include <math.h>

/* Where in 0 .. dim/2 the wave makes `rotations` turns within the original context (YaRN, eq. 17). */
static double yarn_pair(const pq_config *c, double rotations) {
    const double two_pi = 6.283185307179586;
    return c->head_dim * log(c->yarn_original_context / (rotations * two_pi)) /
           (2.0 * log((double)c->rope_base));
}

static double clamp(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

/* Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", arXiv 2309.00071: fast
 * waves keep their angle, slow ones are interpolated, those between are blended; beta 32 and 1. */
void pq_rope_frequencies(const pq_config *c, const float *factors, double *freqs, float *scale) {
    const uint32_t pairs = c->head_dim / 2;
    const double shrink = 1.0 / c->rope_scale_factor;
    const double low = clamp(floor(yarn_pair(c, 32.0)), 0.0, c->head_dim - 1.0);
    const double high = clamp(ceil(yarn_pair(c, 1.0)), 0.0, c->head_dim - 1.0);
    const double width = high - low > 1e-3 ? high - low : 1e-3;
    for (uint32_t i = 0; i < pairs; i++) {
        double freq = pow((double)c->rope_base, -2.0 * i / c->head_dim);
        if (factors)
            freq /= factors[i];
        const double slow = c->yarn ? clamp((i - low) / width, 0.0, 1.0) : 1.0;
        freqs[i] = freq * (slow * shrink + (1.0 - slow));
    }
    *scale = c->yarn ? (float)(1.0 + 0.1 * log((double)c->rope_scale_factor)) : 1.0f;
}
