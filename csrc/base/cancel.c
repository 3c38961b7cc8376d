/* cancel.c - see pyqwen.h. */
#include "cancel.h"

#include <stdlib.h>

#include "status.h"

pq_status pq_cancel_open(pq_cancel **out, pq_error *err) {
    pq_cancel *cancel = malloc(sizeof *cancel);
    if (!cancel)
        return pq_fail_memory(err, "a cancel flag", sizeof *cancel);
    atomic_init(&cancel->flag, 0);
    *out = cancel;
    return PQ_OK;
}

void pq_cancel_close(pq_cancel *cancel) {
    free(cancel);
}

void pq_cancel_set(pq_cancel *cancel, int value) {
    atomic_store(&cancel->flag, value != 0);
}
