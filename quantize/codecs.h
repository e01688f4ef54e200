/* codecs.h - floats to the bytes of the model file: panels of matrices and rows of the embedding table, in every type.
   How scales are chosen is decided here and nowhere else; where the numbers lie is drawn in blocks.h, kernels.h and
   embedding.h. Converter only: nothing here runs when a model does.

   Scales minimise the squared error of the weights, row by row:
     q8   the largest weight of a row becomes +-127; then the scale is set to what fits the rounded row best.
     q4   every group of 32 gets the step that fits it best, the row's scale is searched so that all steps are close to
          a whole multiple of it (1 to 15), then each multiplier is searched, and the scale fitted to the result.
   Rounding is to nearest, ties to even, and sums have one order: the file does not depend on the threads that made it. */
#ifndef KALM__CODECS_H
#define KALM__CODECS_H

#include "../src/base.h"
#include "../src/kernels.h"
#include "../src/embedding.h"
#include "blocks.h"

/* What rounding did to some weights: both sums of squares. */
typedef struct kalm__loss {
    double change, weight;
} kalm__loss;

/* Nearest integer, ties to even, of |x| < 2^22: the addition pushes the fraction out of the mantissa. */
KALM__INLINE float kalm__nearest(float x) { return (x + 12582912.0f) - 12582912.0f; }

KALM__INLINE float kalm__clamp(float x, float low, float high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

KALM__FN float kalm__largest(const float *w, size_t n)
{
    float m = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        float a = fabsf(w[i]);
        m = a > m ? a : m;
    }
    return m;
}

/* Weights below this count as zero: steps must stay far from subnormal numbers. */
#define KALM__TINY_WEIGHT 1e-30f

/* ---- 8 bits ---------------------------------------------------------------------------------------------------- */

/* q [cols] from w [cols]; returns the scale, 0 for a row of zeros. */
KALM__FN float kalm__q8_row(const float *w, size_t cols, int8_t *q)
{
    float m = kalm__largest(w, cols), inverse;
    double wq = 0, qq = 0;
    size_t i;
    if (m < KALM__TINY_WEIGHT) {
        memset(q, 0, cols);
        return 0;
    }
    inverse = 127.0f / m;
    for (i = 0; i < cols; i++) {
        float v = kalm__nearest(w[i] * inverse);
        q[i] = (int8_t)v;
        wq += (double)w[i] * (double)v;
        qq += (double)v * (double)v;
    }
    return (float)(wq / qq);           /* least squares: never worse than m / 127 */
}

/* ---- 4 bits ---------------------------------------------------------------------------------------------------- */

/* Squared error of 32 weights rounded to step * (-8 ... 7); step may be negative, not tiny. Eight sums in a fixed order,
   so that a compiler may use vectors. */
KALM__FN float kalm__q4_cost(const float *w, float step)
{
    float sum[8] = { 0, 0, 0, 0, 0, 0, 0, 0 }, inverse = 1.0f / step;
    size_t i, j;
    for (i = 0; i < KALM__GROUP; i += 8)
        for (j = 0; j < 8; j++) {
            float x = w[i + j] * inverse;
            float d = w[i + j] - step * kalm__nearest(kalm__clamp(x, -8.0f, 7.0f));
            sum[j] += d * d;
        }
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* The step that rounds 32 weights best, or 0 when they are zeros. With `negative` it may be below zero, which turns the
   range around to 8 ... -7. */
KALM__FN float kalm__q4_step(const float *w, int negative, float *cost)
{
    float high = 0, low = 0, best = 0;
    int turn, c;
    size_t i;
    for (i = 0; i < KALM__GROUP; i++) {
        high = w[i] > high ? w[i] : high;
        low = w[i] < low ? w[i] : low;
    }
    *cost = 0;
    if (high < KALM__TINY_WEIGHT && -low < KALM__TINY_WEIGHT) return 0;
    for (turn = 0; turn <= negative; turn++) {
        float base = turn ? (high > -low * (8.0f / 7.0f) ? high / 8.0f : -low / 7.0f)
                          : (-low > high * (8.0f / 7.0f) ? -low / 8.0f : high / 7.0f);
        for (c = 0; c < 10; c++) {     /* from clipping a third of the range to leaving some room */
            float step = base * (0.66f + 0.04f * (float)c), now;
            if (turn) step = -step;
            now = kalm__q4_cost(w, step);
            if (best == 0 || now < *cost) {
                best = step;
                *cost = now;
            }
        }
    }
    return best;
}

/* q [cols32] as whole numbers m * (v - 8), m [cols32 / 32] multipliers; w [cols32] with zeros behind the last column;
   steps [cols32 / 32] is scratch. Returns the scale, 0 for a row of zeros. */
KALM__FN float kalm__q4_row(const float *w, size_t cols32, int8_t *q, uint8_t *m, float *steps)
{
    static const float tries[8] = { 1.0f, 0.80f, 0.86f, 0.92f, 0.96f, 1.04f, 1.08f, 1.16f };
    size_t groups = cols32 / KALM__GROUP, g, i;
    float top = 0, scale = 0, cost;
    double best = 0, wq = 0, qq = 0;
    int t;
    for (g = 0; g < groups; g++) {
        steps[g] = kalm__q4_step(w + g * KALM__GROUP, 0, &cost);
        top = steps[g] > top ? steps[g] : top;
    }
    memset(q, 0, cols32);
    memset(m, 0, groups);
    if (top < KALM__TINY_WEIGHT) return 0;
    for (t = 0; t < 8; t++) {
        float s = top / (float)KALM__Q4_MAX_MULTIPLIER * tries[t];
        double total = 0;
        for (g = 0; g < groups; g++)
            if (steps[g] > 0)
                total += (double)kalm__q4_cost(w + g * KALM__GROUP,
                                               s * kalm__clamp(kalm__nearest(steps[g] / s), 1, KALM__Q4_MAX_MULTIPLIER));
        if (!t || total < best) {
            best = total;
            scale = s;
        }
    }
    for (g = 0; g < groups; g++) {
        float middle = kalm__clamp(kalm__nearest(steps[g] / scale), 1, KALM__Q4_MAX_MULTIPLIER), chosen = middle, least;
        if (steps[g] <= 0) continue;
        least = kalm__q4_cost(w + g * KALM__GROUP, scale * middle);
        for (t = -2; t <= 2; t++) {
            float x = middle + (float)t;
            if (!t || x < 1 || x > (float)KALM__Q4_MAX_MULTIPLIER) continue;
            cost = kalm__q4_cost(w + g * KALM__GROUP, scale * x);
            if (cost < least) {
                least = cost;
                chosen = x;
            }
        }
        m[g] = (uint8_t)chosen;
        for (i = 0; i < KALM__GROUP; i++) {
            float x = w[g * KALM__GROUP + i] / (scale * chosen);
            float v = chosen * kalm__nearest(kalm__clamp(x, -8.0f, 7.0f));
            q[g * KALM__GROUP + i] = (int8_t)v;
            wq += (double)w[g * KALM__GROUP + i] * (double)v;
            qq += (double)v * (double)v;
        }
    }
    return qq > 0 ? (float)(wq / qq) : 0;
}

/* ---- panels ---------------------------------------------------------------------------------------------------- */

/* Bytes that kalm__encode_panel needs to work in. */
KALM__FN size_t kalm__encode_scratch(size_t cols)
{
    size_t c = kalm__cols32(cols);
    return kalm__add(kalm__mul(c, KALM__PANEL), kalm__add(kalm__mul(c / KALM__GROUP, KALM__PANEL),
                                                          kalm__mul(c / KALM__GROUP, 4)));
}

/* One panel of `type` from rows [16][cols32] of floats, zeros behind the last row and column. panel:
   kalm__panel_bytes(type, cols) bytes; scale and sum [16] are written for q8 and q4; scratch is 4-byte aligned. */
KALM__FN void kalm__encode_panel(uint32_t type, const float *rows, size_t cols, unsigned char *panel, float *scale,
                                 int32_t *sum, kalm__loss *loss, void *scratch)
{
    size_t cols32 = kalm__cols32(cols), groups = cols32 / KALM__GROUP, k, g, b, t;
    float *steps = (float *)scratch;                               /* [groups] */
    int8_t *q = (int8_t *)(steps + groups);                        /* [16][cols32] */
    uint8_t *m = (uint8_t *)(q + cols32 * KALM__PANEL);            /* [16][groups] */
    unsigned j;
    double change = 0, weight = 0;
    switch (type) {
    case KALM__F32:
        for (k = 0; k < cols; k++)
            for (j = 0; j < KALM__PANEL; j++) kalm__put_f32(panel + (k * KALM__PANEL + j) * 4, rows[j * cols32 + k]);
        break;
    case KALM__F16: case KALM__BF16:
        memset(panel + kalm__panel_bytes(type, cols) - 64, 0, 64);
        for (k = 0; k < cols; k++)
            for (j = 0; j < KALM__PANEL; j++) {
                float w = rows[j * cols32 + k], back;
                uint16_t h = type == KALM__F16 ? kalm__to_f16(w) : kalm__to_bf16(w);
                back = type == KALM__F16 ? kalm__from_f16(h) : kalm__from_bf16(h);
                panel[(k * KALM__PANEL + j) * 2] = (unsigned char)h;
                panel[(k * KALM__PANEL + j) * 2 + 1] = (unsigned char)(h >> 8);
                change += ((double)w - (double)back) * ((double)w - (double)back);
                weight += (double)w * (double)w;
            }
        break;
    default:
        for (j = 0; j < KALM__PANEL; j++) {
            const float *w = rows + j * cols32;
            int8_t *row = q + j * cols32;
            int32_t total = 0;
            scale[j] = type == KALM__Q8 ? kalm__q8_row(w, cols32, row) : kalm__q4_row(w, cols32, row, m + j * groups, steps);
            for (k = 0; k < cols32; k++) {
                double d = (double)w[k] - (double)(scale[j] * (float)row[k]);
                total += row[k];
                change += d * d;
                weight += (double)w[k] * (double)w[k];
            }
            sum[j] = total;
        }
        if (type == KALM__Q8) {
            for (k = 0; k < cols32; k += 4)
                for (j = 0; j < KALM__PANEL; j++) memcpy(panel + k * KALM__PANEL + j * 4, q + j * cols32 + k, 4);
            break;
        }
        memset(panel, 0, kalm__panel_bytes(type, cols));
        for (g = 0; g < groups; g++) {
            unsigned char *lines = panel + g * 256, *multipliers = panel + groups * 256 + g * KALM__PANEL;
            for (t = 0; t < 4; t++)
                for (b = 0; b < 64; b++) {                         /* byte b: output b / 4, input 4 t + b % 4 */
                    size_t out = b / 4, at = out * cols32 + g * KALM__GROUP + 4 * t + b % 4;
                    int of = m[out * groups + g], low = of ? q[at] / of + 8 : 8, high = of ? q[at + 16] / of + 8 : 8;
                    lines[t * 64 + b] = (unsigned char)(low | high << 4);
                }
            for (j = 0; j < KALM__PANEL; j++) multipliers[j] = m[j * groups + g];
        }
        break;
    }
    loss->change = change;
    loss->weight = weight;
}

/* ---- rows of the embedding table --------------------------------------------------------------------------------- */

/* One row of kalm__embedding_row_bytes(type, hidden) from w [round_up(hidden, 32)], zeros behind the last; work has the
   same size and gets what the row reads back as. 0 when a scale does not fit f16. */
KALM__FN int kalm__encode_row(uint32_t type, const float *w, size_t hidden, unsigned char *row, float *work, kalm__loss *loss)
{
    size_t padded = kalm__round_up(hidden, KALM__EMBEDDING_BLOCK), blocks = padded / KALM__EMBEDDING_BLOCK, b, i;
    unsigned char *q = row + 2 * blocks;
    int fits = 1;
    if (type == KALM__F32)
        for (i = 0; i < hidden; i++) kalm__put_f32(row + 4 * i, w[i]);
    else if (type == KALM__F16 || type == KALM__BF16)
        for (i = 0; i < hidden; i++) {
            uint16_t h = type == KALM__F16 ? kalm__to_f16(w[i]) : kalm__to_bf16(w[i]);
            row[2 * i] = (unsigned char)h;
            row[2 * i + 1] = (unsigned char)(h >> 8);
        }
    else
        for (b = 0; b < blocks; b++) {
            const float *x = w + b * KALM__EMBEDDING_BLOCK;
            float cost, limit = type == KALM__Q8 ? 127.0f : 8.0f, scale, inverse;
            uint16_t h;
            scale = type == KALM__Q8 ? kalm__largest(x, KALM__EMBEDDING_BLOCK) / 127.0f : kalm__q4_step(x, 1, &cost);
            h = kalm__to_f16(scale);
            scale = kalm__from_f16(h);
            if (!(fabsf(scale) <= 65504.0f)) fits = 0;
            inverse = scale != 0 && fits ? 1.0f / scale : 0;
            row[2 * b] = (unsigned char)h;
            row[2 * b + 1] = (unsigned char)(h >> 8);
            for (i = 0; i < KALM__EMBEDDING_BLOCK; i++) {
                int v = (int)kalm__nearest(kalm__clamp(x[i] * inverse, type == KALM__Q8 ? -limit : -8.0f,
                                                       type == KALM__Q8 ? limit : 7.0f));
                if (type == KALM__Q8) q[b * 32 + i] = (unsigned char)v;
                else if (i % 2) q[b * 16 + i / 2] = (unsigned char)(q[b * 16 + i / 2] | (v + 8) << 4);
                else q[b * 16 + i / 2] = (unsigned char)(v + 8);
            }
        }
    loss->change = loss->weight = 0;
    if (type != KALM__F32) {
        kalm__embedding_row(type, row, hidden, work);
        for (i = 0; i < hidden; i++) {
            loss->change += ((double)w[i] - (double)work[i]) * ((double)w[i] - (double)work[i]);
            loss->weight += (double)w[i] * (double)w[i];
        }
    }
    return fits;
}

#endif
