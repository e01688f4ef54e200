/* kernels_wasm.h - the set "wasm": fixed-width SIMD of WebAssembly, known at compile time (-msimd128). */
/* docs/KERNELS.md: */
/* i32x4.dot_i16x8_s multiplies int16 and adds pairs, 8 multiply-adds (pmaddwd on x86, smull and addp on ARM), so panels
   are widened to int16 once a call as in kernels_avx2.h; one row alone widens as it goes. A tile is 2 rows x 1 panel:
   8 accumulators, what engines can keep in the 16 registers of x86. No fused multiply-add: float sums round twice.
   Relaxed SIMD, which multiplies bytes and fuses, is kernels_wasm_relaxed.h's. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_WASM_H
#define KALM__KERNELS_WASM_H

#include "ops.h"
#include "kernels_tiles.h"

#if KALM__WASM

#include <wasm_simd128.h>

enum { KALM__WASM_TILE = 2, KALM__WASM_DIRECT = 1 };

/* ---- activations --------------------------------------------------------------------------------------- */

/* Four floats at x + k, zeros behind cols, which is not read. */
KALM__INLINE v128_t kalm__load_wasm(const float *x, size_t k, size_t cols)
{
    float some[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
    if (k + 4 <= cols) return wasm_v128_load(x + k);
    if (k < cols) memcpy(some, x + k, (cols - k) * sizeof(float));
    return wasm_v128_load(some);
}

KALM__FN float kalm__one_scale_wasm(const float *x, size_t cols, float limit, float *inverse)
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
    return kalm__scale_of_four(largest, limit, inverse);
}

/* Nearest, ties to even, in the low half of each lane: adding 1.5 * 2^23 pushes the fraction out. */
KALM__INLINE v128_t kalm__round_wasm(v128_t x, v128_t inverse)
{
    v128_t v = wasm_f32x4_add(wasm_f32x4_mul(x, inverse), wasm_f32x4_splat(12582912.0f));
    return wasm_i32x4_sub(v, wasm_i32x4_splat(0x4b400000));
}

KALM__FN void kalm__row_scales_wasm(kalm__four_rows *f, float limit)
{
    size_t i;
    for (i = 0; i < f->n; i++) f->scale[i] = kalm__one_scale_wasm(f->x[i], f->cols, limit, &f->inverse[i]);
}

/* Rows as int16 into a tile, [cols32 / 2][height][2] */
KALM__FN void kalm__pack_int16_wasm(const kalm__four_rows *f)
{
    size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
    for (i = 0; i < f->n; i++) {
        const float *x = f->x[i];
        v128_t by = wasm_f32x4_splat(f->inverse[i]);
        unsigned char *out = f->tile + 4 * (f->first + i);
        for (k = 0; k < cols32; k += 8, out += 16 * height) {
            v128_t q = wasm_i16x8_narrow_i32x4(kalm__round_wasm(kalm__load_wasm(x, k, cols), by),
                                               kalm__round_wasm(kalm__load_wasm(x, k + 4, cols), by));
            if (height == 1) wasm_v128_store(out, q);
            else {
                wasm_v128_store32_lane(out, q, 0);
                wasm_v128_store32_lane(out + 4 * height, q, 1);
                wasm_v128_store32_lane(out + 8 * height, q, 2);
                wasm_v128_store32_lane(out + 12 * height, q, 3);
            }
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

/* Two rows x one panel of int16 [cols32 / 2][16][2]: q16, or q8 widened */
KALM__FN void kalm__int16_2x1_wasm(const kalm__tile_job *job)
{
    const unsigned char *a = job->acts, *b = job->weights;
    size_t step, steps = job->steps;
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
    size_t step, steps = job->steps;
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

/* A q8 panel as int16 [cols32 / 2][16][2] */
KALM__FN void kalm__widen_wasm(const unsigned char *panel, size_t n, unsigned char *out)
{
    size_t i;
    for (; n; n--, panel += 64, out += 128)
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

KALM__FN void kalm__unpack_q4_wasm(uint32_t type, const void *panel, size_t cols, void *out)
{
    size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, i;
    const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
    unsigned char *q = (unsigned char *)out;
    v128_t codebook = wasm_v128_load(kalm__q4_codebook);
    (void)type;
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

/* ---- the set --------------------------------------------------------------------------------------------- */

static const kalm__tile_fn kalm__q8_tiles_wasm[KALM__WASM_DIRECT] = { kalm__q8_1x1_wasm };
static const kalm__tile_fn kalm__int16_tiles_wasm[KALM__WASM_TILE] = { KALM__TILES_2(kalm__int16_, x1_wasm) };
static const kalm__tile_fn kalm__f32_tiles_wasm[KALM__WASM_TILE] = { KALM__TILES_2(kalm__f32_, x1_wasm) };

static const kalm__tiles kalm__tiles_f32_wasm = {
    KALM__WASM_TILE, 0, 0,
    KALM__F32, KALM__F32, 4, 0, 0,
    NULL, kalm__pack_floats, kalm__unpack_half_wasm, NULL,
    NULL, kalm__f32_tiles_wasm, NULL, NULL
};
static const kalm__tiles kalm__tiles_q8_wasm = {
    KALM__WASM_TILE, 0, KALM__WASM_DIRECT,
    KALM__Q8, KALM__Q16, 2, 0, 0,
    kalm__row_scales_wasm, kalm__pack_int16_wasm, kalm__unpack_q4_wasm, kalm__widen_wasm,
    kalm__q8_tiles_wasm, kalm__int16_tiles_wasm, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_wasm = {
    KALM__WASM_TILE, 0, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    kalm__row_scales_wasm, kalm__pack_int16_wasm, NULL, NULL,
    NULL, kalm__int16_tiles_wasm, NULL, NULL
};
static const kalm__kernels kalm__kernels_wasm = {
    "wasm", &kalm__table_wasm,
    { &kalm__tiles_f32_wasm, &kalm__tiles_f32_wasm, &kalm__tiles_f32_wasm,
      &kalm__tiles_q8_wasm, &kalm__tiles_q8_wasm, &kalm__tiles_q16_wasm },
    NULL, NULL
};

#endif
#endif
