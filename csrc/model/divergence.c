/* divergence.c - see divergence.h.
 *
 * With r, q the two rows of logits, and R, Q the logarithms of the sums of their exponentials:
 *   KL(r || q) = sum of exp(r - R) * ((r - R) - (q - Q)) = (sum of exp(r - R) * (r - q)) + (Q - R)
 * so that two passes over the rows are enough, and equal rows give exactly 0. Exponentials are float32;
 * sums are float64, in LANES lanes added up in order, so that they are the same on every machine.
 */
#include "divergence.h"

#include <math.h>

enum { LANES = 16, BLOCK = 512 };

typedef struct largest {
    float value;
    size_t index; /* the lowest that has it */
} largest;

static largest find_largest(const float *x, size_t n) {
    float lanes[LANES];
    for (size_t l = 0; l < LANES; l++)
        lanes[l] = -INFINITY;
    for (size_t i = 0; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (size_t i = n - n % LANES; i < n; i++)
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    largest out = {.value = lanes[0]};
    for (size_t l = 1; l < LANES; l++)
        out.value = lanes[l] > out.value ? lanes[l] : out.value;
    while (out.index + 1 < n && x[out.index] != out.value)
        out.index++;
    return out;
}

/* exponentials (n) = exp(x - max) */
static void exponentials(const pq_kernels *kernels, const float *x, float max, size_t n,
                         float *out) {
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] - max;
    kernels->exp(out, n, out);
}

static double add_lanes(const double *lanes) {
    double sum = 0.0;
    for (size_t l = 0; l < LANES; l++)
        sum += lanes[l];
    return sum;
}

/* lanes[i % LANES] += a[i] * (b[i] - c[i]), or a[i] without b and c; n <= BLOCK. */
static void add_to_lanes(const float *a, const float *b, const float *c, size_t n, double *lanes) {
    double terms[BLOCK];
    for (size_t i = 0; i < n; i++)
        terms[i] = b ? (double)a[i] * ((double)b[i] - (double)c[i]) : (double)a[i];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++)
            lanes[l] += terms[i + l];
    for (; i < n; i++)
        lanes[i % LANES] += terms[i];
}

void pq_diverge(const pq_kernels *kernels, const float *reference, const float *logits, size_t n,
                int32_t target, pq_divergence *out) {
    const largest r = find_largest(reference, n), q = find_largest(logits, n);
    double r_lanes[LANES] = {0}, q_lanes[LANES] = {0}, cross_lanes[LANES] = {0};
    float e[BLOCK];
    for (size_t i = 0; i < n; i += BLOCK) {
        const size_t count = n - i < BLOCK ? n - i : BLOCK;
        exponentials(kernels, logits + i, q.value, count, e);
        add_to_lanes(e, NULL, NULL, count, q_lanes);
        exponentials(kernels, reference + i, r.value, count, e);
        add_to_lanes(e, NULL, NULL, count, r_lanes);
        add_to_lanes(e, reference + i, logits + i, count, cross_lanes);
    }
    const double r_sum = add_lanes(r_lanes);
    const double r_log = r.value + log(r_sum), q_log = q.value + log(add_lanes(q_lanes));
    const double kld = add_lanes(cross_lanes) / r_sum + (q_log - r_log);
    out->kld = kld < 0.0 ? 0.0 : kld; /* which only rounding can make it */
    out->reference_logprob = reference[target] - r_log;
    out->logprob = logits[target] - q_log;
    out->same_top = r.index == q.index;
}
