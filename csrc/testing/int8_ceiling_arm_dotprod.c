/* int8_ceiling_arm_dotprod.c - see int8_ceiling_arm_dotprod.h. */
#include "int8_ceiling_arm_dotprod.h"

#define pq_dot vdotq_s32
PQ_INT8_PRODUCTS(dotprod, 1)
