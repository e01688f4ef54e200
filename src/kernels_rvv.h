/* kernels_rvv.h - the set "rvv": the RISC-V vector extension 1.0, any register length from 128 bits on. Known at compile time
   (-march=rv64gcv and the like): the compilers that have its intrinsics do not yet let a single function ask for it. */
/* docs/KERNELS.md: */
/* There is no dot product of bytes, but a widening multiply-add of an int16 from a scalar register with a vector of int16, which
   needs no layout but input by input: 16 multiply-adds an instruction. A q8 panel is widened so once a call, into scratch; up to
   two rows read it as it lies and take the four inputs of a line apart by shifts (segment loads are slow on many processors). A
   vector of 16 int32 is a group of four registers of 128 bits, so a tile of 6 rows has 24 of the 32 registers for its sums. The
   float operations between products are those of plain C. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_RVV_H
#define KALM__KERNELS_RVV_H

#include "ops.h"
#include "kernels_tiles.h"

#if KALM__RVV

#include <riscv_vector.h>

enum { KALM__RVV_TILE = 6, KALM__RVV_DIRECT = 2 };

/* ---- activations: int16 [cols32][height], floats [cols][height] ----------------------------------------- */

KALM__FN void kalm__row_scales_rvv(kalm__four_rows *f, float limit)
{
    size_t i, k, vl;
    for (i = 0; i < f->n; i++) {
        vfloat32m1_t largest = __riscv_vfmv_s_f_f32m1(0.0f, 1);
        for (k = 0; k < f->cols; k += vl) {
            vl = __riscv_vsetvl_e32m8(f->cols - k);
            largest = __riscv_vfredmax_vs_f32m8_f32m1(__riscv_vfabs_v_f32m8(__riscv_vle32_v_f32m8(f->x[i] + k, vl), vl), largest, vl);
        }
        f->scale[i] = kalm__row_scale(__riscv_vfmv_f_s_f32m1_f32(largest), limit, &f->inverse[i]);
    }
}

KALM__FN void kalm__pack_int16_rvv(const kalm__four_rows *f)
{
    size_t cols32 = kalm__cols32(f->cols), i, k, vl;
    for (i = 0; i < f->n; i++) {
        void *tile = f->tile;
        int16_t *out = (int16_t *)tile + f->first + i;
        for (k = 0; k < f->cols; k += vl, out += vl * f->height) {
            vfloat32m8_t v;
            vl = __riscv_vsetvl_e32m8(f->cols - k);
            v = __riscv_vfmul_vf_f32m8(__riscv_vle32_v_f32m8(f->x[i] + k, vl), f->inverse[i], vl);
            /* to nearest, ties to even: the rounding of this thread, as in every C program that does not change it */
            __riscv_vsse16_v_i16m4(out, (ptrdiff_t)(2 * f->height), __riscv_vfncvt_x_f_w_i16m4(v, vl), vl);
        }
        for (; k < cols32; k++, out += f->height) *out = 0;
    }
}

KALM__FN void kalm__pack_floats_rvv(const kalm__four_rows *f)
{
    size_t i, k, vl;
    for (i = 0; i < f->n; i++) {
        void *tile = f->tile;
        float *out = (float *)tile + f->first + i;
        for (k = 0; k < f->cols; k += vl, out += vl * f->height) {
            vl = __riscv_vsetvl_e32m8(f->cols - k);
            __riscv_vsse32_v_f32m8(out, (ptrdiff_t)(4 * f->height), __riscv_vle32_v_f32m8(f->x[i] + k, vl), vl);
        }
    }
}

/* ---- panels --------------------------------------------------------------------------------------------- */

/* Of 16 pairs of int16: the first ones, the second ones */
#define KALM__RVV_FIRST(pairs) __riscv_vnsra_wx_i16m2(pairs, 0, 16)
#define KALM__RVV_SECOND(pairs) __riscv_vnsra_wx_i16m2(pairs, 16, 16)
/* Of 16 pairs of int8, as int16 */
#define KALM__RVV_LOW(pairs) __riscv_vsra_vx_i16m2(__riscv_vsll_vx_i16m2(pairs, 8, 16), 8, 16)
#define KALM__RVV_HIGH(pairs) __riscv_vsra_vx_i16m2(pairs, 8, 16)
KALM__INLINE vint32m4_t kalm__line_rvv(const unsigned char *line)
{
    return __riscv_vle32_v_i32m4((const int32_t *)(const void *)line, 16);
}

/* A q8 panel, or a q4 panel unpacked to one, as int16 [cols32][16] */
KALM__FN void kalm__widen_rvv(const unsigned char *panel, size_t n, unsigned char *to)
{
    void *at = to;
    int16_t *out = (int16_t *)at;
    for (; n; n--, panel += 64, out += 64) {
        vint32m4_t line = kalm__line_rvv(panel);
        vint16m2_t first = KALM__RVV_FIRST(line), second = KALM__RVV_SECOND(line);
        __riscv_vse16_v_i16m2(out, KALM__RVV_LOW(first), 16);
        __riscv_vse16_v_i16m2(out + 16, KALM__RVV_HIGH(first), 16);
        __riscv_vse16_v_i16m2(out + 32, KALM__RVV_LOW(second), 16);
        __riscv_vse16_v_i16m2(out + 48, KALM__RVV_HIGH(second), 16);
    }
}

/* f16 and bf16 panels as f32, q4 as q8: once a call, so plain C will do */
KALM__FN void kalm__unpack_rvv(uint32_t type, const void *panel, size_t cols, void *out)
{
    if (type == KALM__Q4) kalm__unpack_q4_scalar(panel, cols, out);
    else (void)kalm__float_panel_scalar(type, panel, cols, out);
}

/* ---- tiles ---------------------------------------------------------------------------------------------- */

KALM__INLINE void kalm__store_rvv(const kalm__tile_job *job, size_t r, vint32m4_t acc)
{
    vfloat32m4_t v = __riscv_vfmul_vv_f32m4(__riscv_vfcvt_f_x_v_f32m4(acc, 16), __riscv_vle32_v_f32m4(job->scale, 16), 16);
    __asm__("" : "+vr"(v));            /* the products in this order: see KALM__FENCE */
    __riscv_vse32_v_f32m4(job->y + r * job->stride, __riscv_vfmul_vf_f32m4(v, job->row_scale[r], 16), kalm__min(16, job->outputs));
}

#define KALM__RVV_ZERO(r) vint32m4_t c##r = __riscv_vmv_v_x_i32m4(0, 16);
#define KALM__RVV_MADD(r) c##r = __riscv_vwmacc_vx_i32m4(c##r, a[r], w, 16);
#define KALM__RVV_PUT(r) kalm__store_rvv(job, r, c##r);

/* n rows x one widened panel: a line of 64 bytes is two inputs */
#define KALM__RVV_TILE_OF(n) \
    KALM__FN void kalm__int16_##n##x1_rvv(const kalm__tile_job *job) \
    { \
        const int16_t *a = (const int16_t *)(const void *)job->acts, *b = (const int16_t *)(const void *)job->weights; \
        size_t step, steps = 2 * job->steps; \
        KALM__REP_##n(KALM__RVV_ZERO) \
        for (step = 0; step < steps; step++, a += n, b += 16) { \
            vint16m2_t w = __riscv_vle16_v_i16m2(b, 16); \
            KALM__REP_##n(KALM__RVV_MADD) \
        } \
        KALM__REP_##n(KALM__RVV_PUT) \
    } \
    /* n rows x one q16 panel [cols32 / 2][16][2] */ \
    KALM__FN void kalm__q16_##n##x1_rvv(const kalm__tile_job *job) \
    { \
        const int16_t *a = (const int16_t *)(const void *)job->acts; \
        const unsigned char *b = job->weights; \
        size_t step, steps = job->steps; \
        KALM__REP_##n(KALM__RVV_ZERO) \
        for (step = 0; step < steps; step++, a += n, b += 64) { \
            vint32m4_t line = kalm__line_rvv(b); \
            vint16m2_t w = KALM__RVV_FIRST(line); \
            KALM__REP_##n(KALM__RVV_MADD) \
            w = KALM__RVV_SECOND(line); \
            a += n; \
            KALM__REP_##n(KALM__RVV_MADD) \
        } \
        KALM__REP_##n(KALM__RVV_PUT) \
    } \
    /* n rows x one float panel */ \
    KALM__FN void kalm__f32_##n##x1_rvv(const kalm__tile_job *job) \
    { \
        const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights; \
        size_t step, steps = job->steps, outputs = kalm__min(16, job->outputs); \
        KALM__REP_##n(KALM__RVV_FZERO) \
        for (step = 0; step < steps; step++, a += n, b += 16) { \
            vfloat32m4_t w = __riscv_vle32_v_f32m4(b, 16); \
            KALM__REP_##n(KALM__RVV_FMADD) \
        } \
        KALM__REP_##n(KALM__RVV_FPUT) \
    }
#define KALM__RVV_FZERO(r) vfloat32m4_t c##r = __riscv_vfmv_v_f_f32m4(0.0f, 16);
#define KALM__RVV_FMADD(r) c##r = __riscv_vfmacc_vf_f32m4(c##r, a[r], w, 16);
#define KALM__RVV_FPUT(r) __riscv_vse32_v_f32m4(job->y + r * job->stride, c##r, outputs);
KALM__RVV_TILE_OF(1) KALM__RVV_TILE_OF(2) KALM__RVV_TILE_OF(3) KALM__RVV_TILE_OF(4) KALM__RVV_TILE_OF(5) KALM__RVV_TILE_OF(6)

/* One or two rows x one q8 panel as it lies */
#define KALM__RVV_INPUT(n, input) w = input; KALM__REP_##n(KALM__RVV_MADD) a += n;
#define KALM__RVV_DIRECT_OF(n) \
    KALM__FN void kalm__q8_##n##x1_rvv(const kalm__tile_job *job) \
    { \
        const int16_t *a = (const int16_t *)(const void *)job->acts; \
        const unsigned char *b = job->weights, *ahead = job->ahead; \
        size_t step, steps = job->steps, ahead_step = job->ahead_step; \
        KALM__REP_##n(KALM__RVV_ZERO) \
        for (step = 0; step < steps; step++, b += 64, ahead += ahead_step) { \
            vint32m4_t line = kalm__line_rvv(b); \
            vint16m2_t first = KALM__RVV_FIRST(line), second = KALM__RVV_SECOND(line), w; \
            KALM__PREFETCH(ahead); \
            KALM__RVV_INPUT(n, KALM__RVV_LOW(first)) KALM__RVV_INPUT(n, KALM__RVV_HIGH(first)) \
            KALM__RVV_INPUT(n, KALM__RVV_LOW(second)) KALM__RVV_INPUT(n, KALM__RVV_HIGH(second)) \
        } \
        KALM__REP_##n(KALM__RVV_PUT) \
    }
KALM__RVV_DIRECT_OF(1) KALM__RVV_DIRECT_OF(2)

/* ---- the set -------------------------------------------------------------------------------------------- */

static const kalm__tile_fn kalm__q8_tiles_rvv[KALM__RVV_DIRECT] = { KALM__TILES_2(kalm__q8_, x1_rvv) };
static const kalm__tile_fn kalm__int16_tiles_rvv[KALM__RVV_TILE] = { KALM__TILES_6(kalm__int16_, x1_rvv) };
static const kalm__tile_fn kalm__q16_tiles_rvv[KALM__RVV_TILE] = { KALM__TILES_6(kalm__q16_, x1_rvv) };
static const kalm__tile_fn kalm__f32_tiles_rvv[KALM__RVV_TILE] = { KALM__TILES_6(kalm__f32_, x1_rvv) };

static const kalm__tiles kalm__tiles_f32_rvv = {
    KALM__RVV_TILE, 0, 0,
    KALM__F32, KALM__F32, 4, 0, 0,
    NULL, kalm__pack_floats_rvv, kalm__unpack_rvv, NULL,
    NULL, kalm__f32_tiles_rvv, NULL, NULL
};
static const kalm__tiles kalm__tiles_q8_rvv = {
    KALM__RVV_TILE, 0, KALM__RVV_DIRECT,
    KALM__Q8, KALM__Q16, 2, 0, 0,
    kalm__row_scales_rvv, kalm__pack_int16_rvv, kalm__unpack_rvv, kalm__widen_rvv,
    kalm__q8_tiles_rvv, kalm__int16_tiles_rvv, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_rvv = {
    KALM__RVV_TILE, 0, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    kalm__row_scales_rvv, kalm__pack_int16_rvv, NULL, NULL,
    NULL, kalm__q16_tiles_rvv, NULL, NULL
};
static const kalm__kernels kalm__kernels_rvv = {
    "rvv", &kalm__table_scalar,
    { &kalm__tiles_f32_rvv, &kalm__tiles_f32_rvv, &kalm__tiles_f32_rvv,
      &kalm__tiles_q8_rvv, &kalm__tiles_q8_rvv, &kalm__tiles_q16_rvv },
    NULL, NULL
};

#endif
#endif
