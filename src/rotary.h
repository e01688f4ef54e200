/* rotary.h - cosines and sines of rotary positions. Position p = 64 a + b is the rotation by 64 a after that by b, so two
   short tables, computed in double precision, serve any position: 64 + positions / 64 rows instead of one a position. */
#ifndef KALM__ROTARY_H
#define KALM__ROTARY_H

#include "base.h"

#define KALM__ROTARY_FINE 64u

typedef struct kalm__rotary {
    float  theta, factor;              /* angle = position / factor * theta^(-2 i / head_dim) */
    size_t head_dim, positions;
    float *fine, *coarse;              /* [64], [positions / 64] rows of head_dim: head_dim / 2 cosines, then sines */
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
    for (i = 0; i < half; i++) {
        double frequency = pow((double)r->theta, -2.0 * (double)i / (double)r->head_dim) / (double)r->factor;
        for (p = 0; p < rows; p++) {
            double angle = (double)(p * step) * frequency;
            table[p * r->head_dim + i] = (float)cos(angle);
            table[p * r->head_dim + half + i] = (float)sin(angle);
        }
    }
}

KALM__FN void kalm__rotary_fill(const kalm__rotary *r)
{
    kalm__rotary_rows(r, r->fine, KALM__ROTARY_FINE, 1);
    kalm__rotary_rows(r, r->coarse, (r->positions + KALM__ROTARY_FINE - 1) / KALM__ROTARY_FINE, KALM__ROTARY_FINE);
}

/* out [head_dim]: the cosines of position p, then its sines. */
KALM__FN void kalm__rotary_at(const kalm__rotary *r, size_t p, float *out)
{
    const float *f = r->fine + p % KALM__ROTARY_FINE * r->head_dim, *c = r->coarse + p / KALM__ROTARY_FINE * r->head_dim;
    size_t half = r->head_dim / 2, i;
    for (i = 0; i < half; i++) {
        out[i] = f[i] * c[i] - f[half + i] * c[half + i];
        out[half + i] = f[half + i] * c[i] + f[i] * c[half + i];
    }
}

#endif
