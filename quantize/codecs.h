/* codecs.h - turns floats into the bytes of the model file, in every type: panels of matrices, and rows of the embedding table.
   How scales are chosen is decided here and nowhere else; where the bytes lie is drawn in blocks.h, kernels.h and embedding.h.
   Only the converter uses this; nothing here runs when a model does.

   Scales are chosen so that the squared error of the weights is small, row by row:
     q8   The largest weight of a row becomes 127 or -127 and the others are rounded; then the scale is the one that fits the
          rounded row best, by least squares.
     q4   Every group of 32 weights gets the step that fits it best. The row's scale is that of the group with the widest step, or
          less where that helps the others more than it hurts this one. Then each group's multiplier is chosen among three, and
          the scale is fitted to the result as for q8.
   Where texts say what the inputs look like (--calibrate), compensate.h takes the place of the rows of q8 and q4 here.
   Rounding is to the nearest, ties to even, and sums are taken in one order, so no byte depends on the threads. */
#ifndef KALM__CODECS_H
#define KALM__CODECS_H

#include "bf16.h"
#include "../src/base.h"
#include "../src/kernels.h"
#include "../src/embedding.h"
#include "../src/blocks.h"

/* What rounding did to some weights: the sum of squares of the changes, and that of the weights. */
typedef struct kalm__loss {
    double change, weight;
} kalm__loss;

KALM__INLINE void kalm__count_loss(kalm__loss *loss, float before, float after)
{
    double d = (double)before - (double)after;
    loss->change += d * d;
    loss->weight += (double)before * (double)before;
}

/* The nearest integer, ties to even, for |x| < 2^22. Adding 1.5 * 2^23 leaves no room for a fraction in a float's 24 bits. Where
   floats are computed with more (x87), the sum is stored, or the fraction would survive and later be cut off. */
KALM__INLINE float kalm__nearest(float x)
{
#if KALM__WIDE_FLOATS
    volatile float sum = x + 12582912.0f;
    return sum - 12582912.0f;
#else
    return (x + 12582912.0f) - 12582912.0f;
#endif
}

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

/* The largest weight that kalm__encode_panel takes. For float types it is the largest that rounds to a finite number; for q8 and
   q4 it is far above any sensible weight, and small enough that sums and squares stay finite. */
KALM__FN float kalm__largest_weight(uint32_t type)
{
    switch (type) {
    case KALM__F32: return 3.402823466e38f;
    case KALM__F16: return 65519.996f;
    case KALM__BF16: return 3.3961775e38f;         /* 0x7f7f7fff */
    default: return 1e15f;
    }
}

/* Rows and groups whose weights are all below this count as zeros, so that no step is a subnormal number. */
#define KALM__TINY_WEIGHT 1e-30f

/* ---- 8 bits ---------------------------------------------------------------------------------------------------- */

/* One row: q [cols] from w [cols]. Returns the scale, 0 for a row of zeros. */
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

/* The magnitude in kalm__q4_codebook that is nearest to a >= 0. Written as a sum over the steps between magnitudes, each taken
   when a is above the middle of its two: a search with branches would keep the compiler from using vectors. */
KALM__INLINE float kalm__q4_nearest(float a)
{
    return 6.0f + (a > 12.0f ? 12.0f : 0.0f) + (a > 24.5f ? 13.0f : 0.0f) + (a > 38.0f ? 14.0f : 0.0f)
           + (a > 52.5f ? 15.0f : 0.0f) + (a > 68.5f ? 17.0f : 0.0f) + (a > 87.5f ? 21.0f : 0.0f)
           + (a > 112.5f ? 29.0f : 0.0f);
}

/* The sum of squared errors if 32 weights w become step * (a value of the codebook). Also what a better step follows from: with
   l the chosen values, *along = sum of (w / step) l and *square = sum of l^2, and step * along / square fits best. Each sum is
   eight partial sums in a fixed order, so that a compiler may use vectors. */
KALM__FN float kalm__q4_cost(const float *w, float step, float *along, float *square)
{
    float e[8], wl[8], ll[8], inverse = 1.0f / step;
    size_t i, j;
    for (j = 0; j < 8; j++) e[j] = wl[j] = ll[j] = 0;
    for (i = 0; i < KALM__GROUP; i += 8)
        for (j = 0; j < 8; j++) {
            float a = fabsf(w[i + j]) * inverse, l = kalm__q4_nearest(a), d = a - l;
            e[j] += d * d;
            wl[j] += a * l;
            ll[j] += l * l;
        }
    *along = ((wl[0] + wl[4]) + (wl[1] + wl[5])) + ((wl[2] + wl[6]) + (wl[3] + wl[7]));
    *square = ((ll[0] + ll[4]) + (ll[1] + ll[5])) + ((ll[2] + ll[6]) + (ll[3] + ll[7]));
    return (((e[0] + e[4]) + (e[1] + e[5])) + ((e[2] + e[6]) + (e[3] + e[7]))) * step * step;
}

/* The step that fits 32 weights best, or 0 when they are zeros. From four starting steps, rounding and fitting alternate twice;
   the best of them goes on for two rounds more. */
KALM__FN float kalm__q4_step(const float *w)
{
    static const float begin[4] = { 0.80f, 0.88f, 0.96f, 1.06f };
    float top = kalm__largest(w, KALM__GROUP), best = 0, next = 0, least = 0;
    int b, turn;
    if (top < KALM__TINY_WEIGHT) return 0;
    for (b = 0; b < 6; b++) {
        float step = b < 4 ? top * (1.0f / 127.0f) * begin[b] : next, along, square, cost;
        for (turn = 0; turn < (b < 4 ? 2 : 1); turn++) {
            cost = kalm__q4_cost(w, step, &along, &square);
            if (best == 0 || cost < least) {
                least = cost;
                best = step;
                next = step * along / square;
            }
            step *= along / square;
        }
    }
    return best;
}

/* The 16 values that a nibble can stand for in a group with multiplier m, in rising order. */
KALM__FN void kalm__q4_levels(unsigned m, float *level)
{
    unsigned v;
    for (v = 0; v < 16; v++) level[v] = (float)kalm__q4_value(v, m);
}

/* nibble [32]: the levels nearest to x [32], found by counting the middles below x. Returns the sum of squared differences. */
KALM__FN float kalm__q4_choose(const float *x, const float *level, uint8_t *nibble)
{
    int32_t count[KALM__GROUP];
    float sum[4] = { 0, 0, 0, 0 };
    size_t i, v;
    for (i = 0; i < KALM__GROUP; i++) count[i] = 0;
    for (v = 0; v < 15; v++) {
        float middle = 0.5f * (level[v] + level[v + 1]);
        for (i = 0; i < KALM__GROUP; i++) count[i] += x[i] > middle;
    }
    for (i = 0; i < KALM__GROUP; i++) {
        float d = x[i] - level[count[i]];
        sum[i % 4] += d * d;
        nibble[i] = (uint8_t)count[i];
    }
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

/* The best step of each group of a row of groups * 32 weights, and, returned, the scale of the row: the step that multiplier 64
   stands for. 0 for a row of zeros. */
KALM__FN float kalm__q4_scale(const float *w, size_t groups, float *steps)
{
    /* With the first scale the group of the widest step has multiplier 64. A smaller scale clips that group, and the multipliers
       of the others come closer to the steps that fit them. */
    static const float tries[4] = { 1.0f, 0.85f, 0.7f, 0.55f };
    const float most = (float)KALM__Q4_MAX_MULTIPLIER;
    float top = 0, mean = 0, scale, along, square;
    double best = 0;
    size_t g;
    int t;
    for (g = 0; g < groups; g++) {
        steps[g] = kalm__q4_step(w + g * KALM__GROUP);
        top = steps[g] > top ? steps[g] : top;
    }
    if (top < KALM__TINY_WEIGHT) return 0;
    for (g = 0; g < groups; g++) mean += steps[g] / (float)groups;
    scale = top;
    for (t = 0; t < 4 && mean < 0.4f * top; t++) {         /* groups that are alike gain nothing */
        float s = top * tries[t];
        double total = 0;
        for (g = 0; g < groups; g++)
            if (steps[g] > 0)
                total += (double)kalm__q4_cost(w + g * KALM__GROUP, s / most
                                               * kalm__clamp(kalm__nearest(steps[g] / s * most), 1, most), &along, &square);
        if (!t || total < best) {
            best = total;
            scale = s;
        }
    }
    return scale;
}

/* One row: nibbles [cols32] and multipliers m [cols32 / 32] from w [cols32], which is zeros behind column `cols`. steps
   [cols32 / 32] is scratch. Returns the scale, 0 for a row of zeros. */
KALM__FN float kalm__q4_row(const float *w, size_t cols, int8_t *nibble, uint8_t *m, float *steps)
{
    const float most = (float)KALM__Q4_MAX_MULTIPLIER;
    size_t cols32 = kalm__cols32(cols), groups = cols32 / KALM__GROUP, g, i;
    float scale = kalm__q4_scale(w, groups, steps);
    double wq = 0, qq = 0;
    int t;
    for (g = 0; g < groups; g++) {
        const float *group = w + g * KALM__GROUP;
        float x[KALM__GROUP], level[16], least = 0, from;
        m[g] = 0;
        memset(nibble + g * KALM__GROUP, 0, KALM__GROUP);
        if (steps[g] <= 0 || scale <= 0) continue;
        from = kalm__clamp(kalm__nearest(steps[g] / scale * most), 1, most);
        for (i = 0; i < KALM__GROUP; i++) x[i] = group[i] * (1.0f / scale);
        for (t = -1; t <= 1; t++) {    /* the multiplier beside may round to better whole numbers */
            uint8_t chosen[KALM__GROUP];
            float c = from + (float)t, cost;
            if (c < 1 || c > most) continue;
            kalm__q4_levels((unsigned)c, level);
            cost = kalm__q4_choose(x, level, chosen);
            if (m[g] && cost >= least) continue;
            least = cost;
            m[g] = (uint8_t)c;
            memcpy(nibble + g * KALM__GROUP, chosen, sizeof chosen);
        }
        kalm__q4_levels(m[g], level);
        for (i = 0; i < KALM__GROUP && g * KALM__GROUP + i < cols; i++) {
            float l = level[nibble[g * KALM__GROUP + i]];
            wq += (double)group[i] * (double)l;
            qq += (double)l * (double)l;
        }
    }
    return qq > 0 ? (float)(wq / qq) : 0;
}

/* ---- panels ---------------------------------------------------------------------------------------------------- */

/* Write a q8 or q4 panel, and sum [16], from q [16][cols32] (q8 values, or q4 nibbles), multipliers m [16][groups] and scale
   [16]. *loss: against the weights, rows [16][cols32]. */
KALM__FN void kalm__lay_panel(uint32_t type, const float *rows, size_t cols, const int8_t *q, const uint8_t *m,
                              unsigned char *panel, const float *scale, int32_t *sum, kalm__loss *loss)
{
    size_t cols32 = kalm__cols32(cols), groups = cols32 / KALM__GROUP, k, g, b, t;
    unsigned j;
    loss->change = loss->weight = 0;
    for (j = 0; j < KALM__PANEL; j++) {
        const int8_t *row = q + j * cols32;
        int32_t total = 0;
        for (k = 0; k < cols32; k++) {             /* the sum is that of the unpacked panel, its padding included */
            int v = type == KALM__Q8 ? row[k] : kalm__q4_value((unsigned)row[k], m[j * groups + k / KALM__GROUP]);
            total += v;
            if (k < cols) kalm__count_loss(loss, rows[j * cols32 + k], scale[j] * (float)v);
        }
        sum[j] = total;
    }
    if (type == KALM__Q8) {
        for (k = 0; k < cols32; k += 4)
            for (j = 0; j < KALM__PANEL; j++) memcpy(panel + k * KALM__PANEL + j * 4, q + j * cols32 + k, 4);
        return;
    }
    memset(panel, 0, kalm__panel_bytes(type, cols));
    for (g = 0; g < groups; g++) {
        unsigned char *lines = panel + g * sizeof(kalm__q4_lines);
        for (t = 0; t < 4; t++)
            for (b = 0; b < 64; b++) {             /* byte b: output b / 4, inputs 4 t + b % 4 and 16 + 4 t + b % 4 */
                size_t at = b / 4 * cols32 + g * KALM__GROUP + 4 * t + b % 4;
                lines[t * 64 + b] = (unsigned char)((unsigned)q[at] | (unsigned)q[at + 16] << 4);
            }
        for (j = 0; j < KALM__PANEL; j++)
            panel[groups * sizeof(kalm__q4_lines) + g * KALM__PANEL + j] = m[j * groups + g];
    }
}

/* Bytes of working memory that kalm__encode_panel needs. */
KALM__FN size_t kalm__encode_scratch(size_t cols)
{
    size_t c = kalm__cols32(cols);
    return kalm__add(kalm__mul(c, KALM__PANEL), kalm__add(kalm__mul(c / KALM__GROUP, KALM__PANEL),
                                                          kalm__mul(c / KALM__GROUP, 4)));
}

/* Code one panel of `type` from rows [16][cols32] of floats, which are zeros behind the last row and column. panel:
   kalm__panel_bytes(type, cols) bytes. scale [16] and sum [16] are written for q8 and q4. scratch: 4-byte aligned. */
KALM__FN void kalm__encode_panel(uint32_t type, const float *rows, size_t cols, unsigned char *panel, float *scale,
                                 int32_t *sum, kalm__loss *loss, void *scratch)
{
    size_t cols32 = kalm__cols32(cols), groups = cols32 / KALM__GROUP, k;
    float *steps = (float *)scratch;                               /* [groups] */
    int8_t *q = (int8_t *)(steps + groups);                        /* [16][cols32]: q8 values, or q4 nibbles */
    uint8_t *m = (uint8_t *)(q + cols32 * KALM__PANEL);            /* [16][groups] */
    unsigned j;
    loss->change = loss->weight = 0;
    switch (type) {
    case KALM__F32:
        for (k = 0; k < cols; k++)
            for (j = 0; j < KALM__PANEL; j++) kalm__put_f32(panel + (k * KALM__PANEL + j) * 4, rows[j * cols32 + k]);
        return;
    case KALM__F16: case KALM__BF16:
        memset(panel + kalm__panel_bytes(type, cols) - 64, 0, 64);
        for (k = 0; k < cols; k++)
            for (j = 0; j < KALM__PANEL; j++) {
                float w = rows[j * cols32 + k];
                uint16_t h = type == KALM__F16 ? kalm__to_f16(w) : kalm__to_bf16(w);
                panel[(k * KALM__PANEL + j) * 2] = (unsigned char)h;
                panel[(k * KALM__PANEL + j) * 2 + 1] = (unsigned char)(h >> 8);
                kalm__count_loss(loss, w, type == KALM__F16 ? kalm__from_f16(h) : kalm__from_bf16(h));
            }
        return;
    default: break;
    }
    for (j = 0; j < KALM__PANEL; j++) {
        const float *w = rows + j * cols32;
        scale[j] = type == KALM__Q8 ? kalm__q8_row(w, cols32, q + j * cols32)
                                    : kalm__q4_row(w, cols, q + j * cols32, m + j * groups, steps);
    }
    kalm__lay_panel(type, rows, cols, q, m, panel, scale, sum, loss);
}

/* ---- rows of the embedding table --------------------------------------------------------------------------------- */

/* Code one row of the table, kalm__embedding_row_bytes(type, hidden) bytes, from w [hidden rounded up to 32], which is zeros
   behind the last number. work: of the same size, gets what the row reads back as. Returns 0 when a number, or a scale in f16,
   would be infinite. */
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
            if (!(fabsf(w[i]) <= kalm__largest_weight(type))) fits = 0;
            row[2 * i] = (unsigned char)h;
            row[2 * i + 1] = (unsigned char)(h >> 8);
        }
    else
        for (b = 0; b < blocks; b++) {
            const float *x = w + b * KALM__EMBEDDING_BLOCK;
            uint16_t h = kalm__to_f16(type == KALM__Q8 ? kalm__largest(x, KALM__EMBEDDING_BLOCK) / 127.0f : kalm__q4_step(x));
            float scale = kalm__from_f16(h), inverse;
            if (!(scale <= 65504.0f)) fits = 0;
            inverse = scale > 0 && fits ? 1.0f / scale : 0;
            row[2 * b] = (unsigned char)h;
            row[2 * b + 1] = (unsigned char)(h >> 8);
            for (i = 0; i < KALM__EMBEDDING_BLOCK; i++) {
                if (type == KALM__Q8)
                    q[b * 32 + i] = (unsigned char)(int)kalm__nearest(kalm__clamp(x[i] * inverse, -127.0f, 127.0f));
                else {
                    float l = kalm__q4_nearest(fabsf(x[i]) * inverse);
                    unsigned v = 0;
                    while ((float)kalm__q4_codebook[v] < (x[i] < 0 ? -l : l)) v++;
                    if (i % 2) q[b * 16 + i / 2] = (unsigned char)(q[b * 16 + i / 2] | v << 4);
                    else q[b * 16 + i / 2] = (unsigned char)v;
                }
            }
        }
    loss->change = loss->weight = 0;
    if (type != KALM__F32) {
        kalm__embedding_row(type, row, hidden, work);
        for (i = 0; i < hidden; i++) kalm__count_loss(loss, w[i], work[i]);
    }
    return fits;
}

#endif
