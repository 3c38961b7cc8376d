/* cancel.h - what is behind the pq_cancel of pyqwen.h: the flag that pq_pool_run reads. */
#ifndef PQ_CANCEL_H
#define PQ_CANCEL_H

#include <stdatomic.h>

#include "../pyqwen.h"

struct pq_cancel {
    atomic_int flag;
};

/* The flag, or NULL for no cancel. */
static inline const atomic_int *pq_cancel_flag(const pq_cancel *cancel) {
    return cancel ? &cancel->flag : NULL;
}

#endif
