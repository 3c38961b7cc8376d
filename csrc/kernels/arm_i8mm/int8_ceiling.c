/* int8_ceiling.c - see ../arm_dotprod/int8_products.h; each byte meets two rows. */
#include "../arm_dotprod/int8_products.h"

#define pq_dot vmmlaq_s32
PQ_INT8_PRODUCTS(i8mm, 2)
