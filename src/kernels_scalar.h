/* kernels_scalar.h - the reference kernels in plain C: the oracle of every test, and the fallback of machines without
   vectors. Written to be read; nothing here is tuned. */
#ifndef KALM__KERNELS_SCALAR_H
#define KALM__KERNELS_SCALAR_H

#include "kernels.h"
#include "ops.h"

/* Rows packed for quantised types: float scale [rows] rounded up to 64 bytes, then int16 [rows][cols32]; for float types: float
   [rows][cols]. The scales come first in every set's activations. */
KALM__INLINE size_t kalm__scales_bytes(size_t rows) { return kalm__round_up(kalm__mul(4, rows), 64); }

/* Room for rows packed so. */
KALM__FN size_t kalm__acts_bytes_scalar(uint32_t type, size_t rows, size_t cols)
{
    if (!kalm__is_quantised(type) && type != KALM__Q16) return kalm__mul(kalm__mul(4, rows), cols);
    return kalm__add(kalm__scales_bytes(rows), kalm__mul(kalm__mul(2, rows), kalm__cols32(cols)));
}

/* Nearest, ties to even, by the addition that pushes the fraction out of the mantissa; within low..limit, |v| < 2^22. NaN
   becomes low. */
KALM__INLINE int16_t kalm__round_to_int16(float v, float low, float limit)
{
    const float shift = 12582912.0f;   /* 1.5 * 2^23 = 0x4b400000 */
    float t;
    uint32_t u;
    if (!(v >= low)) v = low;
    if (v > limit) v = limit;
    t = kalm__rounded(v + shift);
    memcpy(&u, &t, 4);
    return (int16_t)((int32_t)u - 0x4b400000);
}

KALM__FN void kalm__pack_acts_scalar(uint32_t type, void *acts, size_t rows, size_t row0, size_t n, const float *x,
                                     size_t stride, size_t cols)
{
    size_t r, k, cols32 = kalm__cols32(cols);
    float limit = type == KALM__Q16 ? (float)kalm__int16_limit(cols) : 127.0f;
    if (!kalm__is_quantised(type) && type != KALM__Q16) {
        for (r = 0; r < n; r++) memcpy((float *)acts + (row0 + r) * cols, x + r * stride, cols * sizeof(float));
        return;
    }
    for (r = 0; r < n; r++) {
        const float *row = x + r * stride;
        void *at = (unsigned char *)acts + kalm__scales_bytes(rows);
        int16_t *q = (int16_t *)at + (row0 + r) * cols32;
        float m = 0.0f, inverse;
        for (k = 0; k < cols; k++) {
            float a = fabsf(row[k]);
            if (a > m) m = a;
        }
        ((float *)acts)[row0 + r] = kalm__row_scale(m, limit, &inverse);
        for (k = 0; k < cols; k++) q[k] = kalm__round_to_int16(kalm__times(row[k], inverse), -limit, limit);
        for (; k < cols32; k++) q[k] = 0;
    }
}

KALM__FN void kalm__pack_split16_scalar(void *acts, size_t n, const float *x, size_t stride, const float *inverse, size_t cols)
{
    size_t r, k, cols32 = kalm__cols32(cols);
    void *at = (unsigned char *)acts + kalm__scales_bytes(n);
    int16_t *q = (int16_t *)at;
    for (r = 0; r < n; r++, x += stride, q += cols32) {
        ((float *)acts)[r] = 1.0f;
        for (k = 0; k < cols; k++) q[k] = kalm__round_to_int16(kalm__times(x[k], inverse[r]), 0.0f, (float)KALM__SPLIT16_MAX);
        for (; k < cols32; k++) q[k] = 0;
    }
}

/* A q4 panel as the q8 panel it stands for. */
KALM__FN void kalm__unpack_q4_scalar(const void *panel, size_t cols, void *out)
{
    size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, b;
    const uint8_t *nibbles = (const uint8_t *)panel, *multiplier = kalm__q4_panel_multipliers(panel, cols);
    int8_t *q = (int8_t *)out;
    for (g = 0; g < groups; g++, multiplier += 16, nibbles += 256, q += 512)
        for (t = 0; t < 4; t++)
            for (b = 0; b < 64; b++) {
                unsigned v = nibbles[64 * t + b], m = multiplier[b / 4];
                q[64 * t + b] = kalm__q4_value(v & 15, m);
                q[64 * (t + 4) + b] = kalm__q4_value(v >> 4, m);
            }
}

KALM__FN size_t kalm__matmul_scratch_scalar(uint32_t type, size_t cols)
{
    if (type == KALM__Q4) return kalm__q8_panel_bytes(cols);
    return type == KALM__F16 || type == KALM__BF16 ? kalm__panel_bytes(KALM__F32, cols) : 0;
}

/* An f16 or bf16 panel as the f32 panel it stands for. */
KALM__FN const float *kalm__float_panel_scalar(uint32_t type, const void *panel, size_t cols, void *scratch)
{
    const uint16_t *half = (const uint16_t *)panel;
    float *out = (float *)scratch;
    size_t i;
    if (type == KALM__F32) return (const float *)panel;
    for (i = 0; i < 16 * cols; i++) out[i] = type == KALM__F16 ? kalm__from_f16(half[i]) : kalm__from_bf16(half[i]);
    return out;
}

KALM__INLINE float kalm__fma(float a, float b, float c)
{
#if defined(__FP_FAST_FMAF)
    return fmaf(a, b, c);
#else
    return c + kalm__times(a, b);
#endif
}

/* acc[j] += row . weights of output j, panels of int8 or of int16. Modulo 2^32: no sum of a sane model overflows, and
   weights come from strangers. */
KALM__FN void kalm__sum_int8_scalar(uint32_t acc[16], const int16_t *a, const int8_t *q, size_t cols32)
{
    size_t k, j;
    for (k = 0; k < cols32; k += 4, a += 4)
        for (j = 0; j < 16; j++, q += 4) acc[j] += (uint32_t)(a[0] * q[0] + a[1] * q[1] + a[2] * q[2] + a[3] * q[3]);
}
KALM__FN void kalm__sum_int16_scalar(uint32_t acc[16], const int16_t *a, const int16_t *q, size_t cols32)
{
    size_t k, j;
    for (k = 0; k < cols32; k += 2, a += 2)
        for (j = 0; j < 16; j++, q += 2) acc[j] += (uint32_t)(a[0] * q[0]) + (uint32_t)(a[1] * q[1]);
}

/* Panel p of w, read from `panel`, times row r: 16 outputs, of which those that w has are written. */
KALM__FN void kalm__dot_integers_scalar(const kalm__matmul_job *m, const void *panel, size_t p, size_t r)
{
    const kalm__matrix *w = m->w;
    size_t cols32 = kalm__cols32(w->cols), outputs = kalm__min(16, w->rows - 16 * p), j;
    const void *at = (const unsigned char *)m->acts + kalm__scales_bytes(m->rows);
    const int16_t *a = (const int16_t *)at + r * cols32;
    float s = ((const float *)m->acts)[r], *out = m->y + (r - m->row0) * m->stride + 16 * (p - m->panel0);
    uint32_t acc[16] = {0};
    if (w->type == KALM__Q16) kalm__sum_int16_scalar(acc, a, (const int16_t *)panel, cols32);
    else kalm__sum_int8_scalar(acc, a, (const int8_t *)panel, cols32);
    for (j = 0; j < outputs; j++)
        out[j] = kalm__times(kalm__times(kalm__rounded((float)(int32_t)acc[j]), w->scale[16 * p + j]), s);
}
KALM__FN void kalm__dot_floats_scalar(const kalm__matmul_job *m, const float *panel, size_t p, size_t r)
{
    size_t cols = m->w->cols, outputs = kalm__min(16, m->w->rows - 16 * p), k, j;
    const float *a = (const float *)m->acts + r * cols;
    float acc[16] = {0}, *out = m->y + (r - m->row0) * m->stride + 16 * (p - m->panel0);
    for (k = 0; k < cols; k++)
        for (j = 0; j < 16; j++) acc[j] = kalm__fma(a[k], panel[16 * k + j], acc[j]);
    for (j = 0; j < outputs; j++) out[j] = acc[j];
}

KALM__FN void kalm__matmul_scalar(const kalm__matmul_job *m)
{
    const kalm__matrix *w = m->w;
    size_t p, r, bytes = kalm__panel_stride(w);
    for (p = m->panel0; p < m->panel0 + m->panels; p++) {
        const void *panel = (const unsigned char *)w->data + p * bytes;
        if (w->type == KALM__Q4) {
            kalm__unpack_q4_scalar(panel, w->cols, m->scratch);
            panel = m->scratch;
        }
        if (kalm__is_quantised(w->type) || w->type == KALM__Q16) {
            for (r = m->row0; r < m->row0 + m->n; r++) kalm__dot_integers_scalar(m, panel, p, r);
        } else {
            const float *v = kalm__float_panel_scalar(w->type, panel, w->cols, m->scratch);
            for (r = m->row0; r < m->row0 + m->n; r++) kalm__dot_floats_scalar(m, v, p, r);
        }
    }
}

static const kalm__kernels kalm__kernels_scalar = {
    "scalar", &kalm__table_scalar, { NULL, NULL, NULL, NULL, NULL, NULL }, NULL, NULL
};

#endif
