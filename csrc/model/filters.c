/* filters.c - see filters.h. Sums are in double, in the order of the candidates. */
#include "filters.h"

#include <math.h>

#include "../kernels/scalar/exp.h"

void pq_weigh(pq_candidate *c, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = c[i].key > max ? c[i].key : max;
    for (size_t i = 0; i < n; i++)
        c[i].weight = pq_exp(c[i].key - max);
}

double pq_weight_sum(const pq_candidate *c, size_t n) {
    double total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += c[i].weight;
    return total;
}

size_t pq_keep_top_k(pq_candidate *c, size_t n, size_t k) {
    for (size_t i = 0; i < n; i++)
        c[i].weight = 1.0f;
    return k < n ? pq_candidates_reach(c, n, (double)k) : n;
}

size_t pq_keep_top_p(pq_candidate *c, size_t n, double p) {
    return pq_candidates_reach(c, n, p * pq_weight_sum(c, n));
}

/* The likeliest always stays; its weight is 1. */
size_t pq_keep_min_p(pq_candidate *c, size_t n, float p) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (c[i].weight >= p)
            c[kept++] = c[i];
    }
    return kept;
}

/* The candidates whose surprise, -log p, is nearest to the entropy. As log p is key - log(total), the distance
 * is that of the key from the mean key. */
size_t pq_keep_typical(pq_candidate *c, size_t n, double p) {
    const double total = pq_weight_sum(c, n);
    double mean = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (c[i].weight > 0.0f) /* its key may be -infinity */
            mean += c[i].weight / total * c[i].key;
    }
    for (size_t i = 0; i < n; i++) {
        c[i].kept_key = c[i].key;
        c[i].key = (float)-fabs(c[i].key - mean);
    }
    const size_t kept = pq_candidates_reach(c, n, p * total);
    for (size_t i = 0; i < kept; i++)
        c[i].key = c[i].kept_key;
    return kept;
}

size_t pq_keep_xtc(pq_candidate *c, size_t n, double threshold) {
    const double least = threshold * pq_weight_sum(c, n);
    size_t likely = 0, last = 0;
    for (size_t i = 0; i < n; i++) {
        if (c[i].weight < least)
            continue;
        if (likely++ == 0 || c[i].weight < c[last].weight ||
            (c[i].weight == c[last].weight && c[i].token > c[last].token))
            last = i;
    }
    if (likely < 2)
        return n;
    const int32_t stays = c[last].token;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (c[i].weight < least || c[i].token == stays)
            c[kept++] = c[i];
    }
    return kept;
}

size_t pq_keep_top_n_sigma(pq_candidate *c, size_t n, float n_sigma) {
    double sum = 0.0, squares = 0.0;
    float max = -INFINITY;
    size_t possible = 0, kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (c[i].key == -INFINITY)
            continue;
        possible++;
        sum += c[i].key;
        max = c[i].key > max ? c[i].key : max;
    }
    const double mean = sum / (double)possible;
    for (size_t i = 0; i < n; i++) {
        if (c[i].key != -INFINITY)
            squares += (c[i].key - mean) * (c[i].key - mean);
    }
    const double least = max - n_sigma * sqrt(squares / (double)possible);
    for (size_t i = 0; i < n; i++) {
        if (c[i].key >= least)
            c[kept++] = c[i];
    }
    return kept;
}

/* Adds up (x - center)^power, power 1 or 2, of the logits above -infinity, in eight lanes; *possible counts
 * them. */
static double moment(const float *logits, size_t n, const float *maxima, double center, int power,
                     size_t *possible) {
    double lanes[8] = {0}, total = 0.0;
    size_t count = 0;
    for (size_t start = 0; start < n; start += PQ_LOGIT_CHUNK) {
        if (maxima[start / PQ_LOGIT_CHUNK] == -INFINITY)
            continue;
        const size_t end = n - start < PQ_LOGIT_CHUNK ? n : start + PQ_LOGIT_CHUNK;
        for (size_t i = start; i < end; i++) {
            const int counts = logits[i] != -INFINITY;
            const double d = counts ? logits[i] - center : 0.0;
            lanes[i % 8] += power == 1 ? d : d * d;
            count += (size_t)counts;
        }
    }
    for (size_t l = 0; l < 8; l++)
        total += lanes[l];
    *possible = count;
    return total;
}

void pq_cut_top_n_sigma(float *logits, size_t n, float *maxima, float max, float n_sigma) {
    size_t possible;
    double mean = moment(logits, n, maxima, 0.0, 1, &possible);
    mean /= (double)possible;
    const double squares = moment(logits, n, maxima, mean, 2, &possible);
    const double least = max - n_sigma * sqrt(squares / (double)possible);
    for (size_t start = 0; start < n; start += PQ_LOGIT_CHUNK) {
        float *largest = &maxima[start / PQ_LOGIT_CHUNK];
        if (*largest < least) {
            *largest = -INFINITY; /* nobody reads these logits any more */
            continue;
        }
        const size_t end = n - start < PQ_LOGIT_CHUNK ? n : start + PQ_LOGIT_CHUNK;
        for (size_t i = start; i < end; i++) {
            if (logits[i] < least)
                logits[i] = -INFINITY;
        }
    }
}
