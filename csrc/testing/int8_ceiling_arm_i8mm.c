/* int8_ceiling_arm_i8mm.c - see int8_ceiling_arm_dotprod.h; each byte meets two rows. */
#include "int8_ceiling_arm_dotprod.h"

#define pq_dot vmmlaq_s32
PQ_INT8_PRODUCTS(i8mm, 2)
