/* kernels_wasm.h - the set "wasm": fixed-width SIMD of WebAssembly, known at compile time (-msimd128).

   i32x4.dot_i16x8_s multiplies words and adds pairs, 8 multiply-adds (pmaddwd on x86, smull and addp on ARM), so panels
   are widened to words once a call as in kernels_avx2.h; one row alone widens as it goes. A tile is 2 rows x 1 panel:
   8 accumulators, what engines can keep in the 16 registers of x86. No fused multiply-add: float sums round twice.
   Relaxed SIMD, which multiplies bytes and fuses, is kernels_wasm_relaxed.h's. */
#ifndef KALM__KERNELS_WASM_H
#define KALM__KERNELS_WASM_H

#include "kernels_scalar.h"
#include "kernels_tiles.h"

#if KALM__WASM

#include <wasm_simd128.h>

enum { KALM__WASM_TILE = 2, KALM__WASM_STEP = 48 };

/* ---- activations --------------------------------------------------------------------------------------- */

/* quantised types: words, [cols32 / 2][height][2] */
KALM__FN size_t kalm__acts_bytes_wasm(uint32_t type, size_t rows, size_t cols)
{
    return kalm__acts_room_of(type, rows, cols, 1);
}

/* Four floats at x + k, zeros behind cols, which is not read. */
KALM__INLINE v128_t kalm__load_wasm(const float *x, size_t k, size_t cols)
{
    float some[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
    if (k + 4 <= cols) return wasm_v128_load(x + k);
    if (k < cols) memcpy(some, x + k, (cols - k) * sizeof(float));
    return wasm_v128_load(some);
}

KALM__FN float kalm__row_scale_wasm(const float *x, size_t cols, float limit, float *inverse)
{
    v128_t m = wasm_f32x4_splat(0.0f), n = m;
    size_t k;
    float largest[4];
    /* pmax(a, b) is a < b ? b : a, one instruction where max, which must order zeros and NaN, takes many */
    for (k = 0; k + 8 <= cols; k += 8) {
        m = wasm_f32x4_pmax(m, wasm_f32x4_abs(wasm_v128_load(x + k)));
        n = wasm_f32x4_pmax(n, wasm_f32x4_abs(wasm_v128_load(x + k + 4)));
    }
    for (; k < cols; k += 4) m = wasm_f32x4_pmax(m, wasm_f32x4_abs(kalm__load_wasm(x, k, cols)));
    wasm_v128_store(largest, wasm_f32x4_pmax(m, n));
    largest[0] = largest[1] > largest[0] ? largest[1] : largest[0];
    largest[2] = largest[3] > largest[2] ? largest[3] : largest[2];
    return kalm__row_scale(largest[2] > largest[0] ? largest[2] : largest[0], limit, inverse);
}

/* Nearest, ties to even, in the low word of each lane: adding 1.5 * 2^23 pushes the fraction out. */
KALM__INLINE v128_t kalm__round_wasm(v128_t x, v128_t inverse)
{
    v128_t v = wasm_f32x4_add(wasm_f32x4_mul(x, inverse), wasm_f32x4_splat(12582912.0f));
    return wasm_i32x4_sub(v, wasm_i32x4_splat(0x4b400000));
}

KALM__FN void kalm__pack_row_wasm(unsigned char *out, size_t height, const float *x, float inverse, size_t cols)
{
    size_t cols32 = kalm__cols32(cols), k;
    v128_t i = wasm_f32x4_splat(inverse);
    for (k = 0; k < cols32; k += 8, out += 16 * height) {
        v128_t q = wasm_i16x8_narrow_i32x4(kalm__round_wasm(kalm__load_wasm(x, k, cols), i),
                                           kalm__round_wasm(kalm__load_wasm(x, k + 4, cols), i));
        if (height == 1) wasm_v128_store(out, q);
        else {
            wasm_v128_store32_lane(out, q, 0);
            wasm_v128_store32_lane(out + 4 * height, q, 1);
            wasm_v128_store32_lane(out + 8 * height, q, 2);
            wasm_v128_store32_lane(out + 12 * height, q, 3);
        }
    }
}

KALM__FN void kalm__pack_acts_wasm(uint32_t type, void *acts, size_t rows, size_t row0, size_t n, const float *x,
                                   size_t stride, size_t cols)
{
    size_t r, height, i, k, cols32 = kalm__cols32(cols);
    float limit = type == KALM__Q16 ? (float)kalm__int16_limit(cols) : 127.0f;
    for (r = row0; r < row0 + n; r += height, x += height * stride) {
        height = kalm__tile_rows(rows, r, KALM__WASM_STEP, KALM__WASM_TILE);
        for (i = 0; i < height; i++) {
            const float *row = x + i * stride;
            if (kalm__is_quantised(type) || type == KALM__Q16) {
                unsigned char *out = (unsigned char *)acts + kalm__scales_bytes(rows) + 2 * r * cols32 + 4 * i;
                float inverse;
                ((float *)acts)[r + i] = kalm__row_scale_wasm(row, cols, limit, &inverse);
                kalm__pack_row_wasm(out, height, row, inverse, cols);
            } else {
                float *out = (float *)acts + r * cols + i;
                for (k = 0; k < cols; k++) out[k * height] = row[k];
            }
        }
    }
}

KALM__FN void kalm__pack_split16_wasm(void *acts, uint8_t *high, size_t n, const float *x, size_t stride, const float *inverse,
                                   size_t cols)
{
    size_t r, height, i;
    (void)high;
    for (r = 0; r < n; r += height) {
        height = kalm__tile_rows(n, r, KALM__WASM_STEP, KALM__WASM_TILE);
        for (i = 0; i < height; i++) {
            ((float *)acts)[r + i] = 1.0f;
            kalm__pack_row_wasm((unsigned char *)acts + kalm__scales_bytes(n) + 2 * r * kalm__cols32(cols) + 4 * i, height,
                                x + (r + i) * stride, inverse[r + i], cols);
        }
    }
}

/* ---- results ------------------------------------------------------------------------------------------- */

KALM__INLINE void kalm__write_wasm(const kalm__tile_job *job, size_t r, v128_t a, v128_t b, v128_t c, v128_t d)
{
    float *y = job->y + r * job->stride, all[16];
    int whole = job->outputs >= 16;
    float *to = whole ? y : all;
    wasm_v128_store(to, a), wasm_v128_store(to + 4, b), wasm_v128_store(to + 8, c), wasm_v128_store(to + 12, d);
    if (!whole) memcpy(y, all, job->outputs * sizeof(float));
}

KALM__INLINE v128_t kalm__scaled_wasm(v128_t acc, const float *scale, v128_t s)
{
    v128_t v = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), wasm_v128_load(scale));
    KALM__FENCE_V(v);
    return wasm_f32x4_mul(v, s);
}

KALM__INLINE void kalm__store_wasm(const kalm__tile_job *job, size_t r, v128_t a, v128_t b, v128_t c, v128_t d)
{
    v128_t s = wasm_f32x4_splat(job->row_scale[r]);
    kalm__write_wasm(job, r, kalm__scaled_wasm(a, job->scale, s), kalm__scaled_wasm(b, job->scale + 4, s),
                     kalm__scaled_wasm(c, job->scale + 8, s), kalm__scaled_wasm(d, job->scale + 12, s));
}

/* ---- q8 tiles ------------------------------------------------------------------------------------------ */

KALM__INLINE v128_t kalm__dot16_wasm(v128_t acc, v128_t x, v128_t w)
{
    return wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(x, w));
}

/* Two rows x one panel of words [cols32 / 2][16][2]: q16, or q8 widened */
KALM__FN void kalm__int16_2x1_wasm(const kalm__tile_job *job)
{
    const unsigned char *a = job->acts, *b = job->weights;
    size_t step, steps = 2 * job->steps;
    v128_t c0 = wasm_i32x4_splat(0), d0 = c0, e0 = c0, f0 = c0, c1 = c0, d1 = c0, e1 = c0, f1 = c0, w;
    for (step = 0; step < steps; step++, a += 8, b += 64) {
        v128_t x = wasm_v128_load32_splat(a), z = wasm_v128_load32_splat(a + 4);
        w = wasm_v128_load(b), c0 = kalm__dot16_wasm(c0, x, w), c1 = kalm__dot16_wasm(c1, z, w);
        w = wasm_v128_load(b + 16), d0 = kalm__dot16_wasm(d0, x, w), d1 = kalm__dot16_wasm(d1, z, w);
        w = wasm_v128_load(b + 32), e0 = kalm__dot16_wasm(e0, x, w), e1 = kalm__dot16_wasm(e1, z, w);
        w = wasm_v128_load(b + 48), f0 = kalm__dot16_wasm(f0, x, w), f1 = kalm__dot16_wasm(f1, z, w);
    }
    kalm__store_wasm(job, 0, c0, d0, e0, f0);
    kalm__store_wasm(job, 1, c1, d1, e1, f1);
}

/* One row */
KALM__FN void kalm__int16_1x1_wasm(const kalm__tile_job *job)
{
    const unsigned char *a = job->acts, *b = job->weights;
    size_t step, steps = 2 * job->steps;
    v128_t c = wasm_i32x4_splat(0), d = c, e = c, f = c;
    for (step = 0; step < steps; step++, a += 4, b += 64) {
        v128_t x = wasm_v128_load32_splat(a);
        c = kalm__dot16_wasm(c, x, wasm_v128_load(b)), d = kalm__dot16_wasm(d, x, wasm_v128_load(b + 16));
        e = kalm__dot16_wasm(e, x, wasm_v128_load(b + 32)), f = kalm__dot16_wasm(f, x, wasm_v128_load(b + 48));
    }
    kalm__store_wasm(job, 0, c, d, e, f);
}

/* The sums of a's and b's neighbouring lanes */
KALM__INLINE v128_t kalm__add_pairs_wasm(v128_t a, v128_t b)
{
    return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* One row x one q8 panel, widened as it goes: each accumulator has two halves of the sums of two outputs. */
KALM__FN void kalm__q8_1x1_wasm(const kalm__tile_job *job)
{
    const unsigned char *a = job->acts, *b = job->weights;
    size_t step, steps = job->steps;
    v128_t c = wasm_i32x4_splat(0), d = c, e = c, f = c, g = c, h = c, i = c, j = c, w;
    for (step = 0; step < steps; step++, a += 8, b += 64) {
        v128_t x = wasm_v128_load64_splat(a);
        w = wasm_v128_load(b);
        c = kalm__dot16_wasm(c, x, wasm_i16x8_extend_low_i8x16(w)), d = kalm__dot16_wasm(d, x, wasm_i16x8_extend_high_i8x16(w));
        w = wasm_v128_load(b + 16);
        e = kalm__dot16_wasm(e, x, wasm_i16x8_extend_low_i8x16(w)), f = kalm__dot16_wasm(f, x, wasm_i16x8_extend_high_i8x16(w));
        w = wasm_v128_load(b + 32);
        g = kalm__dot16_wasm(g, x, wasm_i16x8_extend_low_i8x16(w)), h = kalm__dot16_wasm(h, x, wasm_i16x8_extend_high_i8x16(w));
        w = wasm_v128_load(b + 48);
        i = kalm__dot16_wasm(i, x, wasm_i16x8_extend_low_i8x16(w)), j = kalm__dot16_wasm(j, x, wasm_i16x8_extend_high_i8x16(w));
    }
    kalm__store_wasm(job, 0, kalm__add_pairs_wasm(c, d), kalm__add_pairs_wasm(e, f), kalm__add_pairs_wasm(g, h),
                     kalm__add_pairs_wasm(i, j));
}

/* A q8 panel as words [cols32 / 2][16][2] */
KALM__FN void kalm__widen_wasm(const unsigned char *panel, size_t steps, unsigned char *out)
{
    size_t step, i;
    for (step = 0; step < steps; step++, panel += 64, out += 128)
        for (i = 0; i < 4; i++) {
            v128_t w = wasm_v128_load(panel + 16 * i);
            v128_t halves = wasm_i8x16_shuffle(w, w, 0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
            wasm_v128_store(out + 16 * i, wasm_i16x8_extend_low_i8x16(halves));
            wasm_v128_store(out + 64 + 16 * i, wasm_i16x8_extend_high_i8x16(halves));
        }
}

/* ---- q4 ------------------------------------------------------------------------------------------------ */

/* 16 nibbles in bytes: codebook entries times their outputs' multipliers, rounded (see blocks.h). */
KALM__INLINE v128_t kalm__q4_bytes_wasm(v128_t nibbles, v128_t codebook, v128_t m)
{
    v128_t v = wasm_i8x16_swizzle(codebook, nibbles), half = wasm_i16x8_splat(32);
    v128_t low = wasm_i16x8_shr(wasm_i16x8_add(wasm_i16x8_extmul_low_i8x16(v, m), half), 6);
    v128_t high = wasm_i16x8_shr(wasm_i16x8_add(wasm_i16x8_extmul_high_i8x16(v, m), half), 6);
    return wasm_i8x16_narrow_i16x8(low, high);
}

KALM__FN void kalm__unpack_q4_wasm(const void *panel, size_t cols, void *out)
{
    size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, i;
    const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
    unsigned char *q = (unsigned char *)out;
    v128_t codebook = wasm_v128_load(kalm__q4_codebook);
    for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
        v128_t all = wasm_v128_load(m), of[4];
        of[0] = wasm_i8x16_shuffle(all, all, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        of[1] = wasm_i8x16_shuffle(all, all, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7);
        of[2] = wasm_i8x16_shuffle(all, all, 8, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 11);
        of[3] = wasm_i8x16_shuffle(all, all, 12, 12, 12, 12, 13, 13, 13, 13, 14, 14, 14, 14, 15, 15, 15, 15);
        for (t = 0; t < 4; t++)
            for (i = 0; i < 4; i++) {
                v128_t v = wasm_v128_load(nibbles + 64 * t + 16 * i);
                wasm_v128_store(q + 64 * t + 16 * i,
                                kalm__q4_bytes_wasm(wasm_v128_and(v, wasm_i8x16_splat(15)), codebook, of[i]));
                wasm_v128_store(q + 64 * (t + 4) + 16 * i, kalm__q4_bytes_wasm(wasm_u8x16_shr(v, 4), codebook, of[i]));
            }
    }
}

/* ---- float tiles --------------------------------------------------------------------------------------- */

KALM__INLINE v128_t kalm__multiply_add_wasm(v128_t acc, v128_t x, v128_t w)
{
    return wasm_f32x4_add(acc, wasm_f32x4_mul(x, w));
}

KALM__FN void kalm__f32_2x1_wasm(const kalm__tile_job *job)
{
    const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights;
    size_t step, steps = job->steps;
    v128_t c0 = wasm_f32x4_splat(0.0f), d0 = c0, e0 = c0, f0 = c0, c1 = c0, d1 = c0, e1 = c0, f1 = c0, w;
    for (step = 0; step < steps; step++, a += 2, b += 16) {
        v128_t x = wasm_v128_load32_splat(a), z = wasm_v128_load32_splat(a + 1);
        w = wasm_v128_load(b), c0 = kalm__multiply_add_wasm(c0, x, w), c1 = kalm__multiply_add_wasm(c1, z, w);
        w = wasm_v128_load(b + 4), d0 = kalm__multiply_add_wasm(d0, x, w), d1 = kalm__multiply_add_wasm(d1, z, w);
        w = wasm_v128_load(b + 8), e0 = kalm__multiply_add_wasm(e0, x, w), e1 = kalm__multiply_add_wasm(e1, z, w);
        w = wasm_v128_load(b + 12), f0 = kalm__multiply_add_wasm(f0, x, w), f1 = kalm__multiply_add_wasm(f1, z, w);
    }
    kalm__write_wasm(job, 0, c0, d0, e0, f0);
    kalm__write_wasm(job, 1, c1, d1, e1, f1);
}

KALM__FN void kalm__f32_1x1_wasm(const kalm__tile_job *job)
{
    const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights;
    size_t step, steps = job->steps;
    v128_t c = wasm_f32x4_splat(0.0f), d = c, e = c, f = c;
    for (step = 0; step < steps; step++, a++, b += 16) {
        v128_t x = wasm_v128_load32_splat(a);
        c = kalm__multiply_add_wasm(c, x, wasm_v128_load(b)), d = kalm__multiply_add_wasm(d, x, wasm_v128_load(b + 4));
        e = kalm__multiply_add_wasm(e, x, wasm_v128_load(b + 8)), f = kalm__multiply_add_wasm(f, x, wasm_v128_load(b + 12));
    }
    kalm__write_wasm(job, 0, c, d, e, f);
}

KALM__FN void kalm__unpack_half_wasm(uint32_t type, const void *panel, size_t cols, void *out)
{
    const uint16_t *half = (const uint16_t *)panel;
    float *v = (float *)out;
    size_t k;
    if (type == KALM__BF16)
        for (k = 0; k < 16 * cols; k += 4)
            wasm_v128_store(v + k, wasm_i32x4_shl(wasm_u32x4_load16x4(half + k), 16));
    else
        for (k = 0; k < 16 * cols; k++) v[k] = kalm__from_f16(half[k]);
}

/* ---- matmul -------------------------------------------------------------------------------------------- */

/* q8 bytes of a q4 panel, then the panel widened to words */
KALM__FN size_t kalm__matmul_scratch_wasm(uint32_t type, size_t cols)
{
    if (!kalm__is_quantised(type)) return kalm__matmul_scratch_scalar(type, cols);
    return kalm__mul(type == KALM__Q4 ? 3 : 2, kalm__q8_panel_bytes(cols));
}

/* one, two: the float tiles of one row and of two */
KALM__INLINE void kalm__matmul_int16_wasm(const kalm__matrix *w, const void *acts, size_t rows, size_t row0, size_t n,
                                          size_t panel0, size_t panels, float *y, size_t stride, void *scratch,
                                          kalm__tile_fn one, kalm__tile_fn two)
{
    size_t p, r, height, cols = w->cols, cols32 = kalm__cols32(cols), bytes = kalm__panel_stride(w);
    const unsigned char *tiles = (const unsigned char *)acts + kalm__scales_bytes(rows);
    int quantised = kalm__is_quantised(w->type), words = w->type == KALM__Q16;
    kalm__tile_job job;
    memset(&job, 0, sizeof job);
    job.steps = quantised || words ? cols32 / 4 : cols;
    job.stride = stride;
    for (p = panel0; p < panel0 + panels; p++) {
        const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
        unsigned char *wide = (unsigned char *)scratch;
        if (w->type == KALM__Q4) {
            wide += 16 * cols32;
            kalm__unpack_q4_wasm(panel, cols, scratch);
            panel = (const unsigned char *)scratch;
        } else if (w->type == KALM__F16 || w->type == KALM__BF16) {
            kalm__unpack_half_wasm(w->type, panel, cols, scratch);
            panel = (const unsigned char *)scratch;
        }
        if (quantised && n > 1) kalm__widen_wasm(panel, job.steps, wide);
        if (w->scale) job.scale = w->scale + 16 * p;
        job.outputs = w->rows - 16 * p;
        for (r = row0; r < row0 + n; r += height) {
            height = kalm__tile_rows(rows, r, KALM__WASM_STEP, KALM__WASM_TILE);
            job.y = y + (r - row0) * stride + 16 * (p - panel0);
            if (quantised || words) {
                job.acts = tiles + 2 * r * cols32;
                job.row_scale = (const float *)acts + r;
                job.weights = words || height == 1 ? panel : wide;
                if (height > 1) kalm__int16_2x1_wasm(&job);
                else if (words) kalm__int16_1x1_wasm(&job);
                else kalm__q8_1x1_wasm(&job);
            } else {
                job.acts = (const unsigned char *)((const float *)acts + r * cols);
                job.weights = panel;
                if (height == 1) one(&job);
                else two(&job);
            }
        }
    }
}

KALM__FN void kalm__matmul_wasm(const kalm__matrix *w, const void *acts, size_t rows, size_t row0, size_t n,
                                size_t panel0, size_t panels, float *y, size_t stride, void *scratch)
{
    kalm__matmul_int16_wasm(w, acts, rows, row0, n, panel0, panels, y, stride, scratch, kalm__f32_1x1_wasm, kalm__f32_2x1_wasm);
}

static const kalm__kernels kalm__kernels_wasm = {
    "wasm", kalm__acts_bytes_wasm, KALM__WASM_STEP, kalm__pack_acts_wasm, kalm__matmul_scratch_wasm, kalm__matmul_wasm,
    kalm__pack_split16_wasm, NULL
};

#endif
#endif
