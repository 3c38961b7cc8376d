/* exp.h - v_exp: scalar/exp.h in vectors, bit for bit. A template over a folder's vectors.h. */
#ifndef PQ_TEMPLATES_EXP_H
#define PQ_TEMPLATES_EXP_H

#include "../scalar/exp.h"

PQ_INLINE pq_vec v_exp(pq_vec x) {
    const pq_vec round = v_all(PQ_EXP_ROUND), one = v_all(1.0f);
    const pq_vec t = v_fma(x, v_all(PQ_EXP_LOG2E), round);
    const pq_vec n = v_sub(t, round);
    pq_vec r = v_fnma(n, v_all(PQ_EXP_LN2_HIGH), x);
    r = v_fnma(n, v_all(PQ_EXP_LN2_LOW), r);
    pq_vec p = v_fma(v_all(PQ_EXP_C6), r, v_all(PQ_EXP_C5));
    p = v_fma(p, r, v_all(PQ_EXP_C4));
    p = v_fma(p, r, v_all(PQ_EXP_C3));
    p = v_fma(p, r, v_all(PQ_EXP_C2));
    p = v_fma(p, r, one);
    p = v_fma(p, r, one);
    p = v_where(v_at_least(x, v_all(PQ_EXP_LOWEST)), v_scale_exponent(p, t));
    const pq_mask ordinary = v_at_least(v_all(PQ_EXP_HIGHEST), x); /* not NaN */
    return v_select(ordinary, p, v_mul(x, v_all(INFINITY)));
}

#endif
