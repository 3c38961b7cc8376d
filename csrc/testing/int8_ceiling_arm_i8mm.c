/* int8_ceiling_arm_i8mm.c - see int8_ceiling_arm_dotprod.h; each byte meets two rows. */
#include "int8_ceiling_arm_dotprod.h"

PQ_INT8_PRODUCTS(i8mm, vmmlaq_s32, 2)
