/* lane_select.c - which of the compiled searches serves an instruction set. */
#include "lanes.h"

#include <string.h>

#include "../kernels/kernels.h"

extern const pq_lane_search pq_lane_search_scalar;
extern const pq_lane_search pq_lane_search_avx2;
extern const pq_lane_search pq_lane_search_avx512vnni;
extern const pq_lane_search pq_lane_search_neon;

static const struct {
    const char *isa;
    const pq_lane_search *search;
} SEARCHES[] = {
#ifdef PQ_HAVE_X86_AVX512VNNI
    {"avx512vnni", &pq_lane_search_avx512vnni},
    {"amx", &pq_lane_search_avx512vnni},
#endif
#ifdef PQ_HAVE_X86_AVX2
    {"avx2", &pq_lane_search_avx2},
    {"avxvnni", &pq_lane_search_avx2},
#endif
#ifdef PQ_HAVE_ARM_NEON
    {"neon", &pq_lane_search_neon},
    {"dotprod", &pq_lane_search_neon},
    {"i8mm", &pq_lane_search_neon},
#endif
    {"scalar", &pq_lane_search_scalar},
};

pq_status pq_lane_search_select(const pq_lane_search **out, const char *isa, pq_error *err) {
    const pq_kernels *kernels;
    const pq_status status = pq_kernels_select(&kernels, isa, err);
    if (status != PQ_OK)
        return status;
    *out = &pq_lane_search_scalar; /* finds the same, for a set without a search of its own */
    for (size_t i = 0; i < sizeof SEARCHES / sizeof SEARCHES[0]; i++) {
        if (strcmp(SEARCHES[i].isa, kernels->isa) == 0)
            *out = SEARCHES[i].search;
    }
    return PQ_OK;
}
