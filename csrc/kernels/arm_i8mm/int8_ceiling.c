/* int8_ceiling.c - see arm_dotprod/int8_ceiling.h; each byte meets two rows. */
#include "../arm_dotprod/int8_ceiling.h"

PQ_INT8_PRODUCTS(i8mm, vmmlaq_s32, 2)
