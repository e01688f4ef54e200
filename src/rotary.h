/* rotary.h - rotary position embedding: a token's place in its text enters attention by rotating pairs of a query's or key's
   numbers by angles that grow with the position. This part has the cosines and sines of those angles. The rotation by
   position p = 64 a + b is the rotation by 64 a and then that by b, so two short tables, computed in double precision, serve
   every position. */
#ifndef KALM__ROTARY_H
#define KALM__ROTARY_H

#include "base.h"
#include "exact.h"
#include "ops.h"

#define KALM__ROTARY_FINE 64u

typedef struct kalm__rotary {
    float  theta, factor;              /* angle = position / factor * theta^(-2 i / head_dim) */
    size_t head_dim, positions;
    float *fine, *coarse;              /* [64] and [positions / 64] rows of head_dim: head_dim / 2 cosines, then sines */
} kalm__rotary;

KALM__FN void kalm__rotary_plan(kalm__rotary *r, kalm__arena *a)
{
    size_t row = kalm__mul(r->head_dim, sizeof(float));
    r->fine = (float *)kalm__take(a, kalm__mul(KALM__ROTARY_FINE, row));
    r->coarse = (float *)kalm__take(a, kalm__mul((r->positions + KALM__ROTARY_FINE - 1) / KALM__ROTARY_FINE, row));
}

KALM__FN void kalm__rotary_rows(const kalm__rotary *r, float *table, size_t rows, size_t step)
{
    size_t half = r->head_dim / 2, i, p;
    double log_theta = kalm__log((double)r->theta);
    for (i = 0; i < half; i++) {
        double power = kalm__over_double(-2.0 * (double)i, (double)r->head_dim);
        double frequency = kalm__over_double(kalm__exp(kalm__times_double(power, log_theta)), (double)r->factor);
        for (p = 0; p < rows; p++) {
            double sine, cosine;
            kalm__sine_cosine(kalm__times_double((double)(p * step), frequency), &sine, &cosine);
            table[p * r->head_dim + i] = (float)cosine;
            table[p * r->head_dim + half + i] = (float)sine;
        }
    }
}

KALM__FN void kalm__rotary_fill(const kalm__rotary *r)
{
    kalm__rotary_rows(r, r->fine, KALM__ROTARY_FINE, 1);
    kalm__rotary_rows(r, r->coarse, (r->positions + KALM__ROTARY_FINE - 1) / KALM__ROTARY_FINE, KALM__ROTARY_FINE);
}

/* out [head_dim]: the cosines of position p, then its sines. */
KALM__INLINE void kalm__rotary_at(const kalm__rotary *r, const kalm__ops *ops, size_t p, float *out)
{
    ops->add_angles(out, r->fine + p % KALM__ROTARY_FINE * r->head_dim, r->coarse + p / KALM__ROTARY_FINE * r->head_dim,
              r->head_dim / 2);
}

#endif
