/* levels.c - see levels.h. */
#include "levels.h"

#include "../formats/blocks.h"

void pq_nonlinear_levels(signed char nearest[PQ_NEAREST]) {
    static const int8_t VALUES[16] = PQ_IQ4_VALUES;
    for (int i = 0; i < PQ_NEAREST; i++) {
        int k = 0; /* two levels' border is half their sum */
        while (k < 15 && i - 256 >= VALUES[k] + VALUES[k + 1])
            k++;
        nearest[i] = VALUES[k];
    }
}
