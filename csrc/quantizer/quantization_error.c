/* quantization_error.c - what quantizing a tensor lost, for reports and for choosing types. See pyqwen.h. */
#include <math.h>
#include <stdlib.h>

#include "../base/cancel.h"
#include "../base/checked.h"
#include "../base/pool.h"
#include "../base/status.h"
#include "../formats/format.h"
#include "../formats/dequantize.h"
#include "../formats/types.h"
#include "../pyqwen_quantize.h"

/* One chunk is one row; its sums are kept apart and added in order, so that threads do not change them. */
typedef struct error_job {
    uint32_t type;
    const uint8_t *data;
    const float *x, *importance;
    size_t cols, row_bytes;
    float *scratch;              /* (threads, cols): the row as the file has it */
    pq_quantization_error *rows; /* (rows) */
} error_job;

/* Sums of one block: lane i % LANES takes element i, which compilers turn into vectors. */
enum { LANES = 32 };

typedef struct lane_sums {
    double error[LANES], energy[LANES];
} lane_sums;

/* w: how much each element counts; NULL: 1. n <= LANES. */
static inline void add_elements(const float *x, const float *y, const float *w, size_t n,
                                lane_sums *sums) {
    for (size_t i = 0; i < n; i++) {
        const double value = x[i], e = (double)y[i] - value, weight = w ? w[i] : 1.0;
        sums->error[i] += weight * (e * e);
        sums->energy[i] += weight * (value * value);
    }
}

static inline void add_all(const float *x, const float *y, const float *w, size_t n,
                           lane_sums *sums) {
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        add_elements(x + i, y + i, w ? w + i : NULL, LANES, sums);
    add_elements(x + i, y + i, w ? w + i : NULL, n - i, sums);
}

static double sum_lanes(double *x) {
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++)
            x[i] += x[i + half];
    }
    return x[0];
}

static void add_block(const float *x, const float *y, const float *importance, size_t n,
                      size_t column, pq_quantization_error *sum) {
    lane_sums plain = {{0}, {0}};
    add_all(x, y, NULL, n, &plain);
    const double error = sum_lanes(plain.error), energy = sum_lanes(plain.energy);
    sum->error += error;
    sum->energy += energy;
    if (importance) {
        lane_sums weighted = {{0}, {0}};
        add_all(x, y, importance, n, &weighted);
        sum->weighted_error += sum_lanes(weighted.error);
        sum->weighted_energy += sum_lanes(weighted.energy);
    }
    if (energy > 0.0 && error > sum->worst * energy) {
        sum->worst = error / energy;
        sum->worst_column = column;
    }
}

static void measure_row(void *arg, size_t row, unsigned thread) {
    const error_job *job = arg;
    const size_t block = pq_type_block(job->type) > 1 ? pq_type_block(job->type) : job->cols;
    const float *x = job->x + row * job->cols;
    float *y = job->scratch + thread * job->cols;
    pq_quantization_error sum = {.worst_row = row};
    pq_dequantize_row(job->type, job->data + row * job->row_bytes, job->cols, y);
    for (size_t i = 0; i < job->cols; i += block)
        add_block(x + i, y + i, job->importance ? job->importance + i : NULL, block, i, &sum);
    if (!job->importance) { /* all columns count 1 */
        sum.weighted_error = sum.error;
        sum.weighted_energy = sum.energy;
    }
    job->rows[row] = sum;
}

static void add_row(const pq_quantization_error *row, pq_quantization_error *out) {
    out->error += row->error;
    out->energy += row->energy;
    out->weighted_error += row->weighted_error;
    out->weighted_energy += row->weighted_energy;
    if (row->worst > out->worst) {
        out->worst = row->worst;
        out->worst_row = row->worst_row;
        out->worst_column = row->worst_column;
    }
}

pq_status pq_measure_quantization(uint32_t type, const void *data, const float *x, size_t rows,
                                  size_t cols, const float *importance, uint32_t threads,
                                  const pq_cancel *cancel, pq_quantization_error *out,
                                  pq_error *err) {
    size_t scratch_bytes, row_bytes;
    pq_quantization_error total = {0};
    if (pq_type_block(type) == 0 || cols % pq_type_block(type) != 0)
        return pq_fail(err, PQ_ERR_ARGUMENT, "rows of %zu elements cannot be of tensor type %u",
                       cols, (unsigned)type);
    if (threads < 1 || threads > PQ_MAX_THREADS)
        return pq_fail(err, PQ_ERR_ARGUMENT, "threads must be 1 to %d, not %u", PQ_MAX_THREADS,
                       (unsigned)threads);
    if (rows == 0 || cols == 0) {
        *out = total;
        return PQ_OK;
    }
    if (!data || !x)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_measure_quantization: data and x are needed");
    if (!pq_checked_size(cols, threads * sizeof(float), &scratch_bytes) ||
        !pq_checked_size(rows, sizeof *out, &row_bytes))
        return pq_fail_memory(err, "measuring the error of a tensor", UINT64_MAX);
    error_job job = {.type = type,
                     .data = data,
                     .x = x,
                     .importance = importance,
                     .cols = cols,
                     .row_bytes = cols / pq_type_block(type) * pq_type_bytes(type),
                     .scratch = malloc(scratch_bytes),
                     .rows = malloc(row_bytes)};
    pq_status status;
    if (job.scratch && job.rows)
        status = pq_pool_run(threads, rows, measure_row, &job, pq_cancel_flag(cancel), err);
    else
        status = pq_fail_memory(err, "measuring the error of a tensor", scratch_bytes + row_bytes);
    if (status == PQ_OK) {
        for (size_t row = 0; row < rows; row++)
            add_row(&job.rows[row], &total);
        total.worst = sqrt(total.worst);
        *out = total;
    }
    free(job.scratch);
    free(job.rows);
    return status;
}
