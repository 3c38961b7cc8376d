/* select.c - the tables of kernels that were compiled in, and the choice among them. Knows what the
 * processor and the operating system allow; knows nothing of what the kernels do. */
#include "kernels.h"

#include <stdio.h>
#include <string.h>

#include "../base/status.h"
#include "scalar/scalar.h"

static const pq_kernels pq_kernels_scalar = {
    .isa = "scalar",
    .summary = "plain C, runs everywhere",
    .lanes = 1,
    .quantize = pq_quantize_scalar,
    .gemm = pq_gemm_table_scalar,
    .gemm_exact = pq_gemm_exact_scalar,
    .kv_store = pq_kv_store_scalar,
    .attend = pq_attend_scalar,
    .attend_merge = pq_attend_merge_scalar,
    .rms_norm = pq_rms_norm_scalar,
    .add = pq_add_scalar,
    .silu_mul = pq_silu_mul_scalar,
    .rope = pq_rope_scalar,
    .exp = pq_exp_scalar,
    .logsumexp = pq_logsumexp_scalar,
    .to_f16 = pq_to_f16_scalar,
    .from_f16 = pq_from_f16_scalar,
};

static int always(void) {
    return 1;
}

/* Best first. */
static const struct {
    const pq_kernels *table;
    int (*available)(void);
} choices[] = {
    {&pq_kernels_scalar, always},
};

enum { CHOICES = sizeof choices / sizeof choices[0] };

const char *pq_isa_name(uint32_t index) {
    return index < CHOICES ? choices[index].table->isa : NULL;
}

int pq_isa_available(const char *name) {
    for (size_t i = 0; name && i < CHOICES; i++) {
        if (strcmp(choices[i].table->isa, name) == 0)
            return choices[i].available();
    }
    return 0;
}

pq_status pq_kernels_select(const pq_kernels **out, const char *isa, pq_error *err) {
    char names[128] = "";
    size_t used = 0;
    int compiled_in = 0;
    for (size_t i = 0; i < CHOICES; i++) {
        const pq_kernels *table = choices[i].table;
        const int named = isa && strcmp(table->isa, isa) == 0;
        compiled_in |= named;
        if (!choices[i].available())
            continue;
        if (named || !isa) {
            *out = table;
            return PQ_OK;
        }
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                 table->isa);
    }
    return pq_fail(err, PQ_ERR_ARGUMENT,
                   compiled_in
                       ? "instruction set '%.40s' is not supported by this processor or its "
                         "operating system; there are: %s"
                       : "unknown instruction set '%.40s'; there are: %s",
                   isa, names);
}
