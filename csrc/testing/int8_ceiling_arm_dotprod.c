/* int8_ceiling_arm_dotprod.c - see int8_ceiling_arm_dotprod.h. */
#include "int8_ceiling_arm_dotprod.h"

PQ_INT8_PRODUCTS(dotprod, vdotq_s32, 1)
