/* matcher.h - finds the texts of certain tokens in a text, all at once and in linear time.
 *
 * An automaton (Aho and Corasick 1975) over the texts spelled backwards reads the text from its end: at
 * each place it knows the longest text that begins there, which is what "leftmost, then longest" needs.
 */
#ifndef PQ_MATCHER_H
#define PQ_MATCHER_H

#include <stdatomic.h>

#include "vocabulary.h"

typedef struct pq_matcher {
    uint32_t *first; /* (nodes + 1) children of v are the nodes first[v] .. first[v + 1] - 1 ... */
    uint8_t *byte;   /* (nodes) ... by the byte that leads there, ascending */
    uint32_t *shorter;  /* (nodes) the longest other beginning that this one ends with */
    int32_t *token;     /* (nodes) the longest text that ends here, or -1 */
    uint32_t root[256]; /* the root's children, 0 for none */
    uint32_t nodes;     /* 0: there are no texts to find */
} pq_matcher;

typedef struct pq_matches {
    pq_match *items; /* (count) from the end of the text to its beginning */
    size_t count, room;
} pq_matches;

/* Over the tokens of these kinds whose text has two characters or more, or (single) one. */
pq_status pq_matcher_open(pq_matcher *out, const pq_pieces *pieces, const char *source,
                          int (*wanted)(uint8_t kind), int single, pq_error *err);
void pq_matcher_close(pq_matcher *matcher);

/* Of every place where a text begins, the longest; overlapping ones, too. No match goes across one of the
 * `cuts` (n_cuts, ascending). */
pq_status pq_matcher_find(const pq_matcher *matcher, const pq_pieces *pieces, const char *text,
                          size_t bytes, const size_t *cuts, size_t n_cuts, pq_matches *out,
                          const atomic_int *cancel, pq_error *err);

#endif
