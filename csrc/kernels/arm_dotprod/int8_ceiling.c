/* int8_ceiling.c - see int8_ceiling.h. */
#include "int8_ceiling.h"

PQ_INT8_PRODUCTS(dotprod, vdotq_s32, 1)
