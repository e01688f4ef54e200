/* compensate.h - panels of q8 and q4 weights for inputs whose statistics are known. Weights are rounded input by input, and each
   weight first takes over what the rounding errors before it would change in the output, as far as its input can make up for
   them. The bytes are those that kalm__encode_panel of codecs.h writes for unknown inputs, with other numbers in them.

   Let a row of weights w be rounded to v, and H be the second moments of the inputs (moments.h). The squared change of the
   output, summed over the calibration rows, is (w - v) H (w - v)^T. With H = (I + U) D (I + U)^T it becomes the sum over k of
   D[k] e[k]^2, where

       e[k] = t[k] - v[k],      t[k] = w[k] + sum over j < k of (w[j] - v[j]) U[j][k].

   t[k] depends only on inputs before k. So taking the inputs in order, the best that can be done for input k is to round t[k]
   instead of w[k]. For q4 the multiplier of a group of 32 inputs is chosen when the group is reached, as the one with the least
   sum of D e^2 in the group; the scale of the row is chosen as codecs.h does. (Published as GPTQ, arXiv 2210.17323, and in this
   form as LDLQ, arXiv 2307.13304.)

   What it gains, and what was tried beside it, stands in calibrate.h. */
#ifndef KALM__COMPENSATE_H
#define KALM__COMPENSATE_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/kernels.h"
#include "../src/blocks.h"
#include "codecs.h"
#include "moments.h"

/* Bytes that kalm__compensate_panel needs to work in. */
KALM__FN size_t kalm__compensate_scratch(size_t cols)
{
    return kalm__add(kalm__mul(kalm__cols32(cols), KALM__PANEL * sizeof(float)), kalm__encode_scratch(cols));
}

/* A group of 32 inputs of one row: what is to be rounded, and how the inputs depend on each other. */
typedef struct kalm__group {
    float u[KALM__GROUP][KALM__GROUP];             /* u[i][j] = U[j][i], for inputs j < i of the group */
    float d[KALM__GROUP];              /* D */
    float w[KALM__GROUP];              /* the weights */
    float t[KALM__GROUP];              /* t above with the errors of earlier groups, not yet with those of this one */
} kalm__group;

/* x [32][16]: for each input of group g and each of 16 rows, the sum over inputs j of earlier groups of e[j] U[j][input], where
   e [inputs][16] holds the errors w - v of the inputs so far. */
KALM__FN void kalm__feedback(const kalm__moments *f, size_t g, const float *e, float *x)
{
    size_t first = kalm__moment_first(f, g * KALM__GROUP), i, j, r;
    for (i = 0; i < KALM__GROUP; i += 2) {         /* two inputs at a time, so that e is read once for both */
        const double *u = kalm__moment_row(f, g * KALM__GROUP + i), *v = kalm__moment_row(f, g * KALM__GROUP + i + 1);
        float a[KALM__PANEL], b[KALM__PANEL];
        for (r = 0; r < KALM__PANEL; r++) a[r] = b[r] = 0;
        for (j = 0; first + j < g * KALM__GROUP; j++) {
            const float *row = e + (first + j) * KALM__PANEL;
            float p = (float)u[j], q = (float)v[j];
            for (r = 0; r < KALM__PANEL; r++) {
                a[r] += p * row[r];
                b[r] += q * row[r];
            }
        }
        memcpy(x + i * KALM__PANEL, a, sizeof a);
        memcpy(x + (i + 1) * KALM__PANEL, b, sizeof b);
    }
}

/* t of input i, with the errors of the inputs before it in its group. */
KALM__INLINE float kalm__group_target(const kalm__group *p, const float *error, size_t i)
{
    float t = p->t[i];
    size_t j;
    for (j = 0; j < i; j++) t += error[j] * p->u[i][j];
    return t;
}

/* Round a q4 group with multiplier m: its nibbles [32] and errors w - v [32]. Returns the sum of D e^2. */
KALM__FN float kalm__group_q4(const kalm__group *p, float scale, unsigned m, int8_t *nibble, float *error)
{
    float level[16], middle[15], inverse = 1.0f / scale, loss = 0;
    size_t i, v;
    kalm__q4_levels(m, level);
    for (v = 0; v < 15; v++) middle[v] = 0.5f * (level[v] + level[v + 1]);
    for (i = 0; i < KALM__GROUP; i++) {
        float t = kalm__group_target(p, error, i), x = t * inverse, rest;
        int32_t n = 0;
        for (v = 0; v < 15; v++) n += x > middle[v];
        nibble[i] = (int8_t)n;
        error[i] = p->w[i] - scale * level[n];
        rest = t - scale * level[n];
        loss += p->d[i] * (rest * rest);
    }
    return loss;
}

/* Round a q4 group with the best of three multipliers around the one that fits its step. Returns the multiplier. */
KALM__FN uint8_t kalm__group_search(const kalm__group *p, float scale, int8_t *nibble, float *error)
{
    const float most = (float)KALM__Q4_MAX_MULTIPLIER;
    float step = kalm__q4_step(p->t), least = 0;
    float from = kalm__clamp(kalm__nearest(kalm__clamp(step / scale * most, 0, most)), 1, most);
    uint8_t m = 0;
    int t;
    if (step <= 0) {
        memset(nibble, 0, KALM__GROUP);
        memcpy(error, p->w, sizeof p->w);
        return 0;
    }
    for (t = -1; t <= 1; t++) {
        int8_t chosen[KALM__GROUP];
        float c = from + (float)t, after[KALM__GROUP], loss;
        if (c < 1 || c > most) continue;
        loss = kalm__group_q4(p, scale, (unsigned)c, chosen, after);
        if (m && loss >= least) continue;
        least = loss;
        m = (uint8_t)c;
        memcpy(nibble, chosen, sizeof chosen);
        memcpy(error, after, sizeof after);
    }
    return m;
}

KALM__FN void kalm__group_q8(const kalm__group *p, float scale, int8_t *q, float *error)
{
    float inverse = 1.0f / scale;
    size_t i;
    for (i = 0; i < KALM__GROUP; i++) {
        float x = kalm__group_target(p, error, i) * inverse, v = kalm__nearest(kalm__clamp(x, -127.0f, 127.0f));
        if (!(v >= -127.0f)) v = 0;    /* a NaN */
        q[i] = (int8_t)v;
        error[i] = p->w[i] - scale * v;
    }
}

/* As kalm__encode_panel, for q8 or q4. f: usable factors of kalm__cols32(cols) inputs. scratch: kalm__compensate_scratch(cols)
   bytes, 4-byte aligned. */
KALM__FN void kalm__compensate_panel(uint32_t type, const float *rows, size_t cols, const kalm__moments *f, unsigned char *panel,
                                     float *scale, int32_t *sum, kalm__loss *loss, void *scratch)
{
    size_t cols32 = kalm__cols32(cols), groups = cols32 / KALM__GROUP, g, i, j, r;
    float *e = (float *)scratch;                                   /* [cols32][16] */
    float *steps = e + cols32 * KALM__PANEL;                       /* [groups] */
    int8_t *q = (int8_t *)(steps + groups);                        /* [16][cols32] */
    uint8_t *m = (uint8_t *)(q + cols32 * KALM__PANEL);            /* [16][groups] */
    for (r = 0; r < KALM__PANEL; r++) {
        const float *w = rows + r * cols32;
        float top = kalm__largest(w, cols32);
        scale[r] = type == KALM__Q4 ? kalm__q4_scale(w, groups, steps) : top < KALM__TINY_WEIGHT ? 0.0f : top / 127.0f;
    }
    memset(q, 0, cols32 * KALM__PANEL);
    memset(m, 0, groups * KALM__PANEL);
    for (g = 0; g < groups; g++) {
        kalm__group p;
        float x[KALM__GROUP * KALM__PANEL], error[KALM__GROUP];
        size_t first = kalm__moment_first(f, g * KALM__GROUP), at = g * KALM__GROUP;
        kalm__feedback(f, g, e, x);
        for (i = 0; i < KALM__GROUP; i++) {
            const double *u = kalm__moment_row(f, at + i) + (at - first);
            for (j = 0; j < i; j++) p.u[i][j] = (float)u[j];
            p.d[i] = (float)u[i];
        }
        for (r = 0; r < KALM__PANEL; r++) {
            memcpy(p.w, rows + r * cols32 + at, sizeof p.w);
            memcpy(error, p.w, sizeof error);
            for (i = 0; i < KALM__GROUP; i++) {
                p.t[i] = p.w[i] + x[i * KALM__PANEL + r];
                if (!(fabsf(p.t[i]) <= 1e15f)) p.t[i] = p.w[i];    /* the limit of kalm__q4_step; a NaN fails too */
            }
            if (scale[r] <= 0) {
            } else if (type == KALM__Q8) kalm__group_q8(&p, scale[r], q + r * cols32 + at, error);
            else m[r * groups + g] = kalm__group_search(&p, scale[r], q + r * cols32 + at, error);
            for (i = 0; i < KALM__GROUP; i++) e[(at + i) * KALM__PANEL + r] = error[i];
        }
    }
    kalm__lay_panel(type, rows, cols, q, m, panel, scale, sum, loss);
}

#endif
