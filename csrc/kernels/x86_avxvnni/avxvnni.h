/* avxvnni.h - the matrix kernels for AVX-VNNI (Alder Lake, Zen 5 and later). All else is as in
 * AVX2, whose functions this table shares: AVX-VNNI adds nothing to them. */
#ifndef PQ_AVXVNNI_H
#define PQ_AVXVNNI_H

#include "../kernels.h"

extern const pq_gemm_fn pq_gemm_table_avxvnni[PQ_TYPE_COUNT];

#endif
