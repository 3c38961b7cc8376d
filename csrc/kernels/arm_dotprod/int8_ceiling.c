/* int8_ceiling.c - see int8_products.h. */
#include "int8_products.h"

#define pq_dot vdotq_s32
PQ_INT8_PRODUCTS(dotprod, 1)
