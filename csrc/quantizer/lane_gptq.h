/* lane_gptq.h - GPTQ: what rounding one weight costs, later weights of its row make up for. 16 rows at a time,
 * one in each lane; see lanes.h and pq_gptq_panel in pyqwen.h.
 *
 * With U the upper Cholesky factor of the inverse of H = X X^T, X the inputs of the matrix, rounding column k of a
 * row by e * U[k][k] costs e^2 of the squared error of its output if the columns j > k are lowered by e * U[k][j]
 * (Frantar et al., GPTQ, arXiv 2210.17323). The scales of a block are searched when its turn comes, for the
 * weights as they are then, and those of a sub-block once more when its own turn comes.
 */
#ifndef PQ_LANE_GPTQ_H
#define PQ_LANE_GPTQ_H

#include "lane_blocks.h"

/* Columns of 16 rows on their way: x changes as errors are fed to it. */
typedef struct gptq_lanes {
    const pq_gptq_columns *panel;
    float x[PQ_GPTQ_COLS][PQ_GROUPS], error[PQ_GPTQ_COLS][PQ_GROUPS];
} gptq_lanes;

/* Rounds n columns from k on to scale * level - min, and feeds their errors to all columns right of each. */
static void round_columns(gptq_lanes *lanes, size_t k, int n, const float *scale, const float *min,
                          float (*q)[PQ_GROUPS]) {
    const pq_levels *levels = lanes->panel->levels;
    const int nonlinear = levels->nearest != NULL;
    const size_t cols = lanes->panel->cols;
    for (int lane = 0; lane < PQ_GROUPS; lane += PQ_VEC) {
        const pq_vec s = v_load(scale + lane), m = v_load(min + lane), inverse = inverse_of(s);
        for (size_t i = k; i < k + (size_t)n; i++) {
            const float *u = lanes->panel->factor + i * cols;
            const pq_vec x = v_load(lanes->x[i] + lane);
            const pq_vec level = level_at(nonlinear, v_mul(v_add(x, m), inverse),
                                          v_all(levels->low), v_all(levels->high));
            const pq_vec held = v_sub(v_mul(s, level), m);
            const pq_vec e = v_div(v_sub(x, held), v_all(u[i]));
            v_store(q[i - k] + lane, level);
            v_store(lanes->error[i] + lane, e);
            for (size_t j = i + 1; j < cols; j++)
                v_store(lanes->x[j] + lane,
                        v_sub(v_load(lanes->x[j] + lane), v_mul(e, v_all(u[j]))));
        }
    }
}

/* Sub-scales and sub-minima around those that suit n columns as they are now best, d and m given; taken where they are
 * better than the ones there are. Scales come in and go out as integers. */
static void refit_sub_blocks(const gptq_lanes *lanes, supers *b, size_t k, const float *d,
                             const float *m, const float *unit, float *scale, float *min) {
    lane_groups *g = &b->groups;
    for (int i = 0; i < g->n; i++) {
        for (int lane = 0; lane < PQ_GROUPS; lane++) {
            g->x[i][lane] = lanes->x[k + (size_t)i][lane] / unit[lane];
            g->w[i][lane] = lanes->panel->weights[k + (size_t)i];
        }
    }
    complete(g, PQ_GROUPS);
    for (int lane = 0; lane < PQ_GROUPS; lane += PQ_VEC) {
        held_lanes held = {v_load(d + lane), v_load(m + lane), v_load(scale + lane),
                           v_load(min + lane), v_all(0.0f)};
        if (g->has_min)
            search_range(g, 0, lane, &b->fit);
        else
            search_scale(g, lane, &b->fit);
        held.error = error_at(g, lane, v_mul(held.d, held.scale), v_mul(held.m, held.min));
        const pq_vec near = v_round(quotient(v_load(b->fit.scale + lane), held.d));
        const pq_vec low = v_round(quotient(v_load(b->fit.min + lane), held.m));
        for (int i = -1; i <= 1; i++) {
            for (int j = -1; j <= 1; j++) {
                if (j == 0 || g->has_min)
                    try_sub(b, lane, &held, v_add(near, v_all((float)i)),
                            v_add(low, v_all((float)j)));
            }
        }
        v_store(scale + lane, held.scale);
        v_store(min + lane, held.min);
    }
}

static void take_values(float (*q)[PQ_GROUPS], int first, int n, pq_decoded *block, size_t stride) {
    for (int lane = 0; lane < PQ_GROUPS; lane++) {
        for (int i = 0; i < n; i++)
            block[(size_t)lane * stride].value[first + i] = (int8_t)q[i][lane];
    }
}

/* A super-block's integers; block + lane * stride is that of a lane's row, d, m and scales are set. */
static void round_super_block(gptq_lanes *lanes, supers *b, size_t k, const float *unit,
                              pq_decoded *block, size_t stride) {
    const int n = b->groups.n, copies = n / PQ_SUB;
    float d[PQ_GROUPS], m[PQ_GROUPS], scale[PQ_GROUPS], min[PQ_GROUPS], q[PQ_GROUP_MAX][PQ_GROUPS];
    for (int sub = 0; sub < b->subs; sub++) {
        for (int lane = 0; lane < PQ_GROUPS; lane++) {
            const pq_decoded *z = block + (size_t)lane * stride;
            d[lane] = z->d / unit[lane];
            m[lane] = b->groups.has_min ? z->m / unit[lane] : 0.0f;
            scale[lane] = (float)z->scale[sub * copies];
            min[lane] = b->groups.has_min ? (float)z->min[sub * copies] : 0.0f;
        }
        refit_sub_blocks(lanes, b, k + (size_t)(sub * n), d, m, unit, scale, min);
        for (int lane = 0; lane < PQ_GROUPS; lane++) {
            pq_decoded *z = block + (size_t)lane * stride;
            for (int c = sub * copies; c < (sub + 1) * copies; c++) {
                z->scale[c] = (int8_t)scale[lane];
                z->min[c] = (uint8_t)min[lane];
            }
            scale[lane] *= z->d;
            min[lane] = b->groups.has_min ? min[lane] * z->m : 0.0f;
        }
        round_columns(lanes, k + (size_t)(sub * n), n, scale, min, q);
        take_values(q, sub * n, n, block, stride);
    }
}

/* The weights of one block of all rows as they are now, for the search. */
static void gather_rows(const gptq_lanes *lanes, size_t k, size_t n, float (*rows)[PQ_SUPER]) {
    for (size_t i = 0; i < n; i++) {
        for (int lane = 0; lane < PQ_GROUPS; lane++)
            rows[lane][i] = lanes->x[k + i][lane];
    }
}

/* What is not searched: the farthest weight becomes the last level. */
static void whole_ranges(float (*rows)[PQ_SUPER], int n, const pq_levels *levels,
                         pq_decoded *found) {
    for (int lane = 0; lane < PQ_GROUPS; lane++) {
        const float unit = pq_block_unit(rows[lane], n);
        float top = 0.0f;
        for (int i = 0; i < n; i++)
            top = fabsf(rows[lane][i]) > top ? fabsf(rows[lane][i]) : top;
        found[lane].d = pq_f16_scale(top / unit / levels->high, unit) * unit;
    }
}

static void round_blocks(gptq_lanes *lanes, pq_decoded *out) {
    const pq_gptq_columns *p = lanes->panel;
    const size_t elements = pq_type_block(p->type), stride = p->cols / elements;
    float rows[PQ_GROUPS][PQ_SUPER], unit[PQ_GROUPS], q[PQ_GROUP_MAX][PQ_GROUPS];
    float scale[PQ_GROUPS], min[PQ_GROUPS];
    pq_decoded found[PQ_GROUPS];
    supers b;
    memset(&b, 0, sizeof b);
    b.groups.levels = p->levels;
    b.groups.weighted = 1;
    if (elements == PQ_SUPER)
        describe(p->type, &b);
    for (size_t k = 0, block = 0; k < p->cols; k += elements, block++) {
        memset(found, 0, sizeof found);
        gather_rows(lanes, k, elements, rows);
        if (p->type == PQ_Q8_0)
            whole_ranges(rows, (int)elements, p->levels, found);
        else
            search_blocks(p->type, p->levels, rows[0], PQ_SUPER, p->weights + k, 0, PQ_GROUPS,
                          found);
        for (size_t lane = 0; lane < PQ_GROUPS; lane++) {
            unit[lane] = pq_block_unit(rows[lane], (int)elements);
            scale[lane] = found[lane].d;
            min[lane] = -found[lane].m;
            out[lane * stride + block] = found[lane];
        }
        if (elements == PQ_SUPER) {
            round_super_block(lanes, &b, k, unit, out + block, stride);
        } else {
            round_columns(lanes, k, (int)elements, scale, min, q);
            take_values(q, 0, (int)elements, out + block, stride);
        }
    }
}

static void gptq_panel(const pq_gptq_columns *panel, const float *x, size_t x_stride, size_t rows,
                       float *errors, pq_decoded *out) {
    gptq_lanes lanes;
    lanes.panel = panel;
    for (size_t k = 0; k < panel->cols; k++) {
        for (size_t lane = 0; lane < PQ_GROUPS; lane++)
            lanes.x[k][lane] = lane < rows ? x[lane * x_stride + k] : 0.0f;
    }
    round_blocks(&lanes, out);
    for (size_t lane = 0; lane < rows; lane++) {
        for (size_t k = 0; k < panel->cols; k++)
            errors[lane * panel->cols + k] = lanes.error[k][lane];
    }
}

#endif
