/* encode.h - the integers and scales of one block back into its bytes: the inverse of decode.h. */
#ifndef PQ_ENCODE_H
#define PQ_ENCODE_H

#include "decode.h"

/* Packs `in`, whose members are as pq_decode_block fills them: d and m are numbers that f16 holds exactly,
 * values and scales lie in the type's range (IQ4: values are those of its table), scales that cover 32
 * elements appear twice. */
void pq_encode_block(uint32_t type, const pq_decoded *in, uint8_t *block);

#endif
