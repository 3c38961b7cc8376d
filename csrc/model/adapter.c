/* adapter.c - see adapter.h. */
#include "adapter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/float_env.h"
#include "../base/memory.h"

/* ------------------------------------------------------------------------------------ matrices by name */

/* The matrices of a layer, in the order of the table of architectures. */
typedef struct matrix_table {
    uint32_t n;
    pq_tensor_spec specs[PQ_LAYER_MATRICES];
} matrix_table;

static void list_matrices(matrix_table *out, const pq_config *c) {
    pq_tensor_spec spec;
    out->n = 0;
    for (uint32_t i = 0; pq_tensor_spec_at(&spec, c, i) && out->n < PQ_LAYER_MATRICES; i++)
        if (spec.is.in_layer && spec.is.kind == PQ_TENSOR_MATRIX)
            out->specs[out->n++] = spec;
}

/* The place of a name: layer * PQ_LAYER_MATRICES + index in the table. */
static pq_status find_matrix(uint32_t *place, const matrix_table *table, const pq_config *c,
                             const char *name, pq_error *err) {
    for (uint32_t layer = 0; layer < c->layers; layer++)
        for (uint32_t i = 0; i < table->n; i++) {
            char known[PQ_TENSOR_NAME_BYTES];
            pq_tensor_name(known, &table->specs[i].is, layer);
            if (strcmp(name, known) == 0) {
                *place = layer * PQ_LAYER_MATRICES + i;
                return PQ_OK;
            }
        }
    return pq_fail_at(err, PQ_ERR_UNSUPPORTED, name, -1,
                      "'%.80s' is no matrix of a layer of this model: it has %u layers, and "
                      "embeddings, the output matrix, norms and biases cannot be adapted",
                      name, c->layers);
}

/* Columns of the widest matrix: what the kernels' scratch memory is made for. */
static uint64_t widest_input(const matrix_table *table) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < table->n; i++)
        most = table->specs[i].is.cols > most ? table->specs[i].is.cols : most;
    return most;
}

static pq_status check_tensor(const pq_adapter_tensor *t, const matrix_table *table,
                              pq_error *err) {
    const uint64_t most = widest_input(table);
    const uint64_t limit = most < PQ_MAX_ADAPTER_RANK ? most : PQ_MAX_ADAPTER_RANK;
    if (t->rank < 1 || t->rank > limit)
        return pq_fail_at(err, PQ_ERR_UNSUPPORTED, t->name, -1,
                          "'%.80s' is adapted with rank %u; 1 to %u are possible with this model",
                          t->name, t->rank, (unsigned)limit);
    if (!isfinite(t->scale))
        return pq_fail_at(err, PQ_ERR_NUMERIC, t->name, -1,
                          "'%.80s' is adapted with a scale that is not a finite number", t->name);
    return PQ_OK;
}

/* --------------------------------------------------------------------------------------------- layout */

/* How the kernels want it. */
typedef struct layout {
    uint32_t type, lanes;
} layout;

static layout layout_of(int exact, const pq_kernels *kernels) {
    return (layout){exact ? PQ_F32 : PQ_F16, exact ? 1 : kernels->lanes};
}

static pq_matrix take_matrix(pq_arena *image, layout l, size_t rows, size_t cols) {
    pq_matrix m = {.type = l.type, .lanes = l.lanes, .rows = rows, .cols = cols};
    m.panel_bytes = pq_panel_bytes(l.type, cols, l.lanes);
    m.data = pq_arena_take(image, (rows + l.lanes - 1) / l.lanes, m.panel_bytes);
    return m;
}

static pq_low_rank take_change(pq_arena *image, layout l, const pq_adapter_tensor *t,
                               const pq_architecture_tensor *is) {
    const size_t parts = ((size_t)is->cols + PQ_ADAPTER_SEGMENT - 1) / PQ_ADAPTER_SEGMENT;
    pq_low_rank change = {.rank = t->rank, .parts = (uint32_t)parts, .scale = t->scale};
    change.a = take_matrix(image, l, t->rank, (size_t)is->cols);
    change.b = take_matrix(image, l, (size_t)is->rows, t->rank);
    return change;
}

/* The most floats that a row takes while the matrices of one input run. */
static size_t measure_width(const pq_low_rank *changes, const matrix_table *table,
                            uint32_t layers) {
    size_t most = 0;
    for (uint32_t layer = 0; layer < layers; layer++)
        for (uint32_t i = 0; i < table->n; i++) {
            size_t width = 0; /* of the group that matrix i is of */
            for (uint32_t j = 0; j < table->n; j++) {
                const pq_low_rank *change = &changes[layer * PQ_LAYER_MATRICES + j];
                if (table->specs[j].is.input == table->specs[i].is.input)
                    width += (size_t)change->rank * change->parts;
            }
            most = width > most ? width : most;
        }
    return most;
}

/* Places all matrices in `image`; with no base it only adds up. `changes` (layers, PQ_LAYER_MATRICES) zeroed,
 * `places` (n). */
static pq_status place_all(pq_arena *image, layout l, const matrix_table *table, const pq_config *c,
                           const pq_adapter_tensor *tensors, uint32_t n, pq_low_rank *changes,
                           uint32_t *places, pq_error *err) {
    for (uint32_t i = 0; i < n; i++) {
        pq_status st = tensors[i].name ? find_matrix(&places[i], table, c, tensors[i].name, err)
                                       : pq_fail(err, PQ_ERR_ARGUMENT, "a tensor has no name");
        if (st == PQ_OK)
            st = check_tensor(&tensors[i], table, err);
        if (st != PQ_OK)
            return st;
        pq_low_rank *change = &changes[places[i]];
        if (change->rank > 0 && !image->base)
            return pq_fail_at(err, PQ_ERR_FORMAT, tensors[i].name, -1,
                              "'%.80s' is adapted twice by one adapter", tensors[i].name);
        *change =
            take_change(image, l, &tensors[i], &table->specs[places[i] % PQ_LAYER_MATRICES].is);
    }
    return PQ_OK;
}

static pq_status check_count(uint32_t n, const pq_adapter_tensor *tensors, pq_error *err) {
    if (n > 0 && tensors)
        return PQ_OK;
    return pq_fail(err, PQ_ERR_ARGUMENT, "an adapter changes at least one matrix");
}

pq_status pq_plan_adapter(pq_adapter_plan *out, const pq_file *file, const pq_model_options *model,
                          const pq_adapter_tensor *tensors, uint32_t n, pq_error *err) {
    pq_config c;
    const pq_kernels *kernels;
    matrix_table table;
    if (!out || !file || !model)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_plan_adapter: a NULL argument");
    pq_status st = check_count(n, tensors, err);
    if (st != PQ_OK || (st = pq_config_read(&c, file, err)) != PQ_OK ||
        (st = pq_kernels_select(&kernels, model->isa, err)) != PQ_OK)
        return st;
    list_matrices(&table, &c);
    const size_t count = (size_t)c.layers * PQ_LAYER_MATRICES;
    pq_low_rank *changes = calloc(count, sizeof *changes);
    uint32_t *places = calloc(n, sizeof *places);
    pq_arena image = {NULL, 0};
    st = changes && places ? place_all(&image, layout_of(model->exact, kernels), &table, &c,
                                       tensors, n, changes, places, err)
                           : pq_fail_memory(err, "the plan of an adapter", count * sizeof *changes);
    if (st == PQ_OK) {
        out->weights = image.bytes + count * sizeof *changes;
        out->per_row = measure_width(changes, &table, c.layers) * sizeof(float);
    }
    free(changes);
    free(places);
    return st;
}

/* ------------------------------------------------------------------------------------- open and close */

static pq_status make_room(pq_adapter *a, const pq_adapter_tensor *tensors, uint32_t n,
                           pq_error *err) {
    const pq_config *c = &a->model->config;
    const size_t count = (size_t)c->layers * PQ_LAYER_MATRICES;
    const layout l = layout_of(a->model->exact, a->model->kernels);
    matrix_table table;
    pq_arena image = {NULL, 0};
    list_matrices(&table, c);
    a->n_members = table.n;
    for (uint32_t i = 0; i < table.n; i++)
        a->members[i] = table.specs[i].member;
    a->n = n;
    a->changes = calloc(count, sizeof *a->changes);
    a->places = calloc(n, sizeof *a->places);
    a->filled = calloc(n, 1);
    if (!a->changes || !a->places || !a->filled)
        return pq_fail_memory(err, "an adapter", count * sizeof *a->changes);
    pq_status st = place_all(&image, l, &table, c, tensors, n, a->changes, a->places, err);
    if (st != PQ_OK)
        return st;
    a->width = measure_width(a->changes, &table, c->layers);
    a->image_bytes = image.bytes;
    a->image = pq_large_calloc(image.bytes);
    if (!a->image)
        return pq_fail_memory(err, "an adapter", image.bytes);
    image = (pq_arena){a->image, 0};
    return place_all(&image, l, &table, c, tensors, n, a->changes, a->places, err);
}

pq_status pq_adapter_open(pq_adapter **out, const pq_model *model, const pq_adapter_tensor *tensors,
                          uint32_t n, pq_error *err) {
    if (!out || !model)
        return pq_fail(err, PQ_ERR_ARGUMENT, "pq_adapter_open: a NULL argument");
    pq_status st = check_count(n, tensors, err);
    if (st != PQ_OK)
        return st;
    pq_adapter *a = calloc(1, sizeof *a);
    if (!a)
        return pq_fail_memory(err, "an adapter", sizeof *a);
    a->model = model;
    st = make_room(a, tensors, n, err);
    if (st != PQ_OK) {
        pq_adapter_close(a);
        return st;
    }
    *out = a;
    return PQ_OK;
}

void pq_adapter_close(pq_adapter *a) {
    if (!a)
        return;
    pq_large_free(a->image, a->image_bytes);
    free(a->changes);
    free(a->places);
    free(a->filled);
    free(a);
}

uint64_t pq_adapter_bytes(const pq_adapter *a) {
    return a->image_bytes +
           (uint64_t)a->model->config.layers * PQ_LAYER_MATRICES * sizeof *a->changes;
}

const pq_low_rank *pq_adapter_change(const pq_adapter *a, uint32_t layer, size_t member) {
    for (uint32_t i = 0; i < a->n_members; i++)
        if (a->members[i] == member) {
            const pq_low_rank *change = &a->changes[layer * PQ_LAYER_MATRICES + i];
            return change->rank > 0 ? change : NULL;
        }
    return NULL;
}

pq_status pq_adapter_check(const pq_adapter *a, const pq_model *model, pq_error *err) {
    if (!a || a->model != model)
        return pq_fail(err, PQ_ERR_ARGUMENT, "an adapter was made for another model");
    for (uint32_t i = 0; i < a->n; i++)
        if (!a->filled[i])
            return pq_fail(err, PQ_ERR_ARGUMENT, "an adapter was not filled: matrix %u is missing",
                           i);
    return PQ_OK;
}

/* --------------------------------------------------------------------------------------------- values */

/* Widens (rows, cols) numbers of a tensor type to float32. */
static pq_status widen(const char *which, const pq_matrix *m, uint32_t type, const void *data,
                       uint64_t bytes, float *values, pq_error *err) {
    const uint32_t block = pq_type_block(type);
    if (!data || block == 0 || m->cols % block != 0)
        return pq_fail(err, PQ_ERR_UNSUPPORTED,
                       "%s: rows of %zu numbers cannot be of tensor type %u", which, m->cols, type);
    const uint64_t needed = (uint64_t)m->rows * (m->cols / block) * pq_type_bytes(type);
    if (bytes != needed)
        return pq_fail(err, PQ_ERR_FORMAT, "%s: %llu bytes were given, %zu x %zu numbers take %llu",
                       which, (unsigned long long)bytes, m->rows, m->cols,
                       (unsigned long long)needed);
    return pq_dequantize(type, data, m->rows * m->cols, values, err);
}

static pq_status find_largest(const char *which, const pq_matrix *m, const float *values,
                              float *largest, pq_error *err) {
    *largest = 0;
    for (size_t i = 0; i < m->rows * m->cols; i++) {
        if (!isfinite(values[i]))
            return pq_fail(err, PQ_ERR_NUMERIC, "%s holds %s at [%zu, %zu]", which,
                           isnan(values[i]) ? "NaN" : "an infinity", i / m->cols, i % m->cols);
        const float size = fabsf(values[i]);
        *largest = size > *largest ? size : *largest;
    }
    return PQ_OK;
}

/* Below 2^15, where float16 has most room for what is smaller; the largest one is 65504. */
enum { TOP = 14 };

/* Stores a panel's rows; float16 times 2^shift. `row` (cols) floats of room. */
static void store_rows(const pq_model *model, const pq_matrix *m, const float *values, int shift,
                       float *row, uint8_t *rows, uint8_t *dst) {
    const size_t row_bytes = m->cols * pq_type_bytes(m->type);
    for (size_t first = 0; first < m->rows; first += m->lanes) {
        const size_t n = m->rows - first < m->lanes ? m->rows - first : m->lanes;
        for (size_t r = 0; r < n; r++) {
            const float *src = values + (first + r) * m->cols;
            if (m->type == PQ_F32) {
                memcpy(rows + r * row_bytes, src, row_bytes);
                continue;
            }
            for (size_t k = 0; k < m->cols; k++)
                row[k] = ldexpf(src[k], shift);
            model->kernels->to_f16(row, m->cols, (uint16_t *)(void *)(rows + r * row_bytes));
        }
        uint8_t *panel = dst + first / m->lanes * m->panel_bytes;
        if (m->lanes == 1)
            memcpy(panel, rows, row_bytes);
        else
            pq_pack_panel(m->type, m->cols, m->lanes, rows, n, panel);
    }
}

/* Fills one matrix; *shift: the power of two that its values were multiplied with. */
static pq_status fill_matrix(const pq_model *model, const char *which, const pq_matrix *m,
                             uint32_t type, const void *data, uint64_t bytes, int *shift,
                             pq_error *err) {
    size_t values_bytes, row_bytes, rows_bytes;
    float *values = NULL, *row = NULL;
    uint8_t *rows = NULL;
    float largest = 0;
    pq_status st = PQ_OK;
    if (pq_checked_size((uint64_t)m->rows * m->cols, sizeof *values, &values_bytes) &&
        pq_checked_size(m->cols, sizeof *row, &row_bytes) &&
        pq_checked_size(m->lanes, row_bytes, &rows_bytes)) {
        values = malloc(values_bytes);
        row = malloc(row_bytes);
        rows = malloc(rows_bytes);
    }
    if (!values || !row || !rows)
        st = pq_fail_memory(err, "the values of an adapter",
                            (uint64_t)m->rows * m->cols * sizeof *values);
    if (st == PQ_OK)
        st = widen(which, m, type, data, bytes, values, err);
    if (st == PQ_OK)
        st = find_largest(which, m, values, &largest, err);
    if (st == PQ_OK) {
        *shift = m->type == PQ_F16 && largest > 0 ? TOP - ilogbf(largest) : 0;
        store_rows(model, m, values, *shift, row, rows, (uint8_t *)(uintptr_t)m->data);
    }
    free(values);
    free(row);
    free(rows);
    return st;
}

pq_status pq_adapter_fill(pq_adapter *a, uint32_t index, uint32_t a_type, const void *a_data,
                          uint64_t a_bytes, uint32_t b_type, const void *b_data, uint64_t b_bytes,
                          pq_error *err) {
    if (!a || index >= a->n || a->filled[index])
        return pq_fail(err, PQ_ERR_ARGUMENT, "there is no matrix %u to fill", index);
    pq_low_rank *change = &a->changes[a->places[index]];
    int of_a = 0, of_b = 0;
    const pq_float_env env = pq_float_env_enter();
    pq_status st = fill_matrix(a->model, "A", &change->a, a_type, a_data, a_bytes, &of_a, err);
    if (st == PQ_OK)
        st = fill_matrix(a->model, "B", &change->b, b_type, b_data, b_bytes, &of_b, err);
    pq_float_env_write(env);
    if (st != PQ_OK)
        return st;
    change->scale = ldexp(change->scale, -(of_a + of_b));
    a->filled[index] = 1;
    return PQ_OK;
}
