/* architecture.h - the table of architectures: the tensors of each, their shapes, and what they are for.
 *
 * Nothing else knows the name of a tensor. What checks, loads, measures or converts a model walks over this
 * table; so does Python, through pq_architecture_tensor_at.
 */
#ifndef PQ_ARCHITECTURE_H
#define PQ_ARCHITECTURE_H

#include <stddef.h>

#include "../pyqwen_quantize.h"

/* A tensor of an architecture, with the sizes of one model. */
typedef struct pq_tensor_spec {
    pq_architecture_tensor is;
    size_t member; /* offset of its pq_matrix or float * in pq_layer (is.in_layer) or in pq_model */
} pq_tensor_spec;

/* NULL if there is none of that name. */
const pq_architecture *pq_architecture_named(const char *name);

/* The tensors of config->architecture, one after the other: 0 past the last. */
int pq_tensor_spec_at(pq_tensor_spec *out, const pq_config *config, uint32_t index);
/* The first of a kind; all architectures have one of PQ_TENSOR_LOOKUP. */
void pq_tensor_spec_of_kind(pq_tensor_spec *out, const pq_config *config, pq_tensor_kind kind);
/* How many columns the matrices have that are multiplied with an input. */
size_t pq_input_columns(const pq_config *config, pq_imatrix_input input);

/* The name of a tensor in a file, where layers have numbers: dst (PQ_TENSOR_NAME_BYTES). */
enum { PQ_TENSOR_NAME_BYTES = 64 };
void pq_tensor_name(char *dst, const pq_architecture_tensor *tensor, uint32_t layer);
/* 1 if it is the name of a tensor of config->architecture, in one of the config's layers. */
int pq_tensor_is_known(const char *name, const pq_config *config);

#endif
