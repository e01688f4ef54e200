/* kernels_wasm_relaxed.h - relaxed SIMD of WebAssembly, known at compile time (-mrelaxed-simd): "wasmdot", "wasmvnni8" and
   "wasmvnni" multiply bytes, "wasmfma" multiplies int16 as kernels_wasm.h does; float weights are fused in all four. */
/* docs/KERNELS.md: */
/* i32x4.relaxed_dot_i8x16_i7x16_add_s(w, x, acc) is 16 multiply-adds. The standard fixes its result only while no byte of x has
   its eighth bit set. Where one has, engines differ:
       ARM                    x is signed: sdot, or smull, smull2, addp, saddlp with pairs in 16 bits, in which products of
                              -127..127 fit
       x86, AVX-VNNI-INT8     x is signed: vpdpbssd
       x86, AVX-VNNI          x is unsigned: vpdpbusd. So x is stored as q + 128, and sums start from -128 * sum(q_w)
       other x86              pmaddubsw, which saturates the sum of two products, then pmaddwd, paddd and, in V8, two more
   "wasmfma", which is for the other x86, therefore multiplies int16: seven bits at a time are slower (docs/SPEED.md).
   Which engine it is cpu.h finds out. The standard says that each engine chooses once and for all, but V8 on ARM adds pairs in 16
   bits until it has optimised a function. So every tile asks again, before its loop and, with the sums that came out, behind
   it, and is done again with instructions that leave nothing open if the answer is another one. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_WASM_RELAXED_H
#define KALM__KERNELS_WASM_RELAXED_H

#include "cpu.h"
#include "kernels_wasm.h"

#if KALM__WASM_RELAXED

/* rows of a tile of bytes: accumulators for 32 registers, for 16 */
enum { KALM__WASM_DOT_ROWS = 4, KALM__WASM_VNNI_ROWS = 2 };

/* ---- float tiles --------------------------------------------------------------------------------------- */

KALM__INLINE v128_t kalm__fma_wasm(v128_t acc, v128_t x, v128_t w)
{
#if __clang_major__ >= 17
    return wasm_f32x4_relaxed_madd(x, w, acc);
#else
    return (v128_t)__builtin_wasm_relaxed_madd_f32x4((__f32x4)x, (__f32x4)w, (__f32x4)acc);
#endif
}

#define KALM__WASM_ZERO(r) v128_t c##r = wasm_i32x4_splat(0), d##r = c##r, e##r = c##r, f##r = c##r;
#define KALM__WASM_FMA(r) \
    x = wasm_v128_load32_splat(a + r); \
    c##r = kalm__fma_wasm(c##r, x, w0), d##r = kalm__fma_wasm(d##r, x, w1); \
    e##r = kalm__fma_wasm(e##r, x, w2), f##r = kalm__fma_wasm(f##r, x, w3);
#define KALM__WASM_FPUT(r) kalm__write_wasm(job, r, c##r, d##r, e##r, f##r);
#define KALM__WASM_FMA_TILE(n) \
    KALM__FN void kalm__f32_##n##x1_wasmfma(const kalm__tile_job *job) \
    { \
        const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights; \
        size_t step, steps = job->steps; \
        KALM__REP_##n(KALM__WASM_ZERO) \
        for (step = 0; step < steps; step++, a += n, b += 16) { \
            v128_t w0 = wasm_v128_load(b), w1 = wasm_v128_load(b + 4); \
            v128_t w2 = wasm_v128_load(b + 8), w3 = wasm_v128_load(b + 12), x; \
            KALM__REP_##n(KALM__WASM_FMA) \
        } \
        KALM__REP_##n(KALM__WASM_FPUT) \
    }
KALM__WASM_FMA_TILE(1) KALM__WASM_FMA_TILE(2)

static const kalm__tile_fn kalm__f32_tiles_wasmfma[KALM__WASM_TILE] = { KALM__TILES_2(kalm__f32_, x1_wasmfma) };
static const kalm__tiles kalm__tiles_f32_wasmfma = {
    KALM__WASM_TILE, 0, 0,
    KALM__F32, KALM__F32, 4, 0, 0,
    NULL, kalm__pack_floats, kalm__unpack_half_wasm, NULL,
    NULL, kalm__f32_tiles_wasmfma, NULL, NULL
};
static const kalm__kernels kalm__kernels_wasmfma = {
    "wasmfma", &kalm__table_wasm,
    { &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma,
      &kalm__tiles_q8_wasm, &kalm__tiles_q8_wasm, &kalm__tiles_q16_wasm },
    NULL, NULL
};

/* ---- activations of q8 and q4: bytes, [cols32 / 4][height][4] ------------------------------------------------ */

/* Rows into a tile, with their signs or + 128. high: the rows are split16, and these are their high bytes: rounded where the low
   ones have a sign. */
KALM__INLINE void kalm__pack_bytes_wasm(const kalm__four_rows *f, int with_sign, uint8_t *high)
{
    size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
    v128_t flip = wasm_i16x8_splat(with_sign ? 0 : 128);
    for (i = 0; i < f->n; i++) {
        const float *x = f->x[i];
        v128_t by = wasm_f32x4_splat(f->inverse[i]);
        unsigned char *out = f->tile + 4 * (f->first + i);
        for (k = 0; k < cols32; k += 8, out += 8 * height) {
            v128_t u = wasm_i16x8_narrow_i32x4(kalm__round_wasm(kalm__load_wasm(x, k, cols), by),
                                               kalm__round_wasm(kalm__load_wasm(x, k + 4, cols), by));
            if (high) {
                v128_t h = wasm_i16x8_shr(with_sign ? wasm_i16x8_add(u, wasm_i16x8_splat(128)) : u, 8);
                wasm_v128_store64_lane(high + i * KALM__SPLIT16_COLS + k, wasm_u8x16_narrow_i16x8(h, h), 0);
                u = wasm_i16x8_sub(u, wasm_i16x8_shl(h, 8));
            } else u = wasm_i16x8_add(u, flip);
            u = with_sign ? wasm_i8x16_narrow_i16x8(u, u) : wasm_u8x16_narrow_i16x8(u, u);
            if (height == 1) wasm_v128_store64_lane(out, u, 0);
            else {
                wasm_v128_store32_lane(out, u, 0);
                wasm_v128_store32_lane(out + 4 * height, u, 1);
            }
        }
    }
}
KALM__FN void kalm__pack_signed_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 1, NULL); }
KALM__FN void kalm__pack_unsigned_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 0, NULL); }
KALM__FN void kalm__split_signed_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 1, f->high); }
KALM__FN void kalm__split_unsigned_wasm(const kalm__four_rows *f) { kalm__pack_bytes_wasm(f, 0, f->high); }

/* ---- q8 tiles ------------------------------------------------------------------------------------------ */

/* Does the instruction, here and now, multiply as it was when it was tried? One more product onto a sum that is there, of the
   bytes in which engines differ. job->sum: bytes are without a sign. */
KALM__INLINE int kalm__dot_holds(const kalm__tile_job *job, v128_t acc)
{
    v128_t more = kalm__relaxed_dot(acc, wasm_i8x16_splat(127), wasm_i8x16_splat(job->sum ? -1 : -127));
    return wasm_i32x4_extract_lane(wasm_i32x4_sub(more, acc), 0) == (job->sum ? 4 * 127 * 255 : -4 * 127 * 127);
}

/* The same sum from instructions that leave nothing open */
KALM__INLINE v128_t kalm__plain_dot_wasm(const kalm__tile_job *job, v128_t acc, v128_t w, v128_t x)
{
    v128_t low = job->sum ? wasm_u16x8_extend_low_u8x16(x) : wasm_i16x8_extend_low_i8x16(x);
    return wasm_i32x4_add(acc, kalm__add_pairs_wasm(wasm_i32x4_dot_i16x8(low, wasm_i16x8_extend_low_i8x16(w)),
                                                    wasm_i32x4_dot_i16x8(low, wasm_i16x8_extend_high_i8x16(w))));
}

/* What four outputs' sums begin with: bytes + 128 give 128 times the sum of the weights too much */
KALM__INLINE v128_t kalm__begin_wasm(const kalm__tile_job *job, size_t at)
{
    return job->sum ? wasm_i32x4_neg(wasm_i32x4_shl(wasm_v128_load(job->sum + at), 7)) : wasm_i32x4_splat(0);
}

/* A tile of height rows, row by row: for engines that were not what they seemed */
KALM__NOINLINE KALM__FN void kalm__q8_plainly_wasm(const kalm__tile_job *job, size_t height)
{
    size_t r, step;
    for (r = 0; r < height; r++) {
        const unsigned char *a = job->acts + 4 * r, *b = job->weights;
        v128_t c = kalm__begin_wasm(job, 0), d = kalm__begin_wasm(job, 4);
        v128_t e = kalm__begin_wasm(job, 8), f = kalm__begin_wasm(job, 12);
        for (step = 0; step < job->steps; step++, a += 4 * height, b += 64) {
            v128_t x = wasm_v128_load32_splat(a);
            c = kalm__plain_dot_wasm(job, c, wasm_v128_load(b), x);
            d = kalm__plain_dot_wasm(job, d, wasm_v128_load(b + 16), x);
            e = kalm__plain_dot_wasm(job, e, wasm_v128_load(b + 32), x);
            f = kalm__plain_dot_wasm(job, f, wasm_v128_load(b + 48), x);
        }
        kalm__store_wasm(job, r, c, d, e, f);
    }
}

#define KALM__WASM_BEGIN(r) v128_t c##r = c, d##r = d, e##r = e, f##r = f;
#define KALM__WASM_DOTS(r) \
    c##r = kalm__relaxed_dot(c##r, w0, x), d##r = kalm__relaxed_dot(d##r, w1, x); \
    e##r = kalm__relaxed_dot(e##r, w2, x), f##r = kalm__relaxed_dot(f##r, w3, x);
#define KALM__WASM_DOT(r) x = wasm_v128_load32_splat(a + 4 * r); KALM__WASM_DOTS(r)
/* Four rows' inputs in one load: then a dup each, where V8 makes two additions and a load of a load32_splat */
#define KALM__WASM_DOT_OF4(r) x = wasm_i32x4_shuffle(four, four, r, r, r, r); KALM__WASM_DOTS(r)
#define KALM__WASM_PUT(r) kalm__store_wasm(job, r, c##r, d##r, e##r, f##r);
#define KALM__WASM_DOT_TILE(n, load, each_row) \
    KALM__FN void kalm__q8_##n##x1_relaxed(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps; \
        v128_t c = kalm__begin_wasm(job, 0), d = kalm__begin_wasm(job, 4); \
        v128_t e = kalm__begin_wasm(job, 8), f = kalm__begin_wasm(job, 12); \
        int held = kalm__dot_holds(job, c); \
        KALM__REP_##n(KALM__WASM_BEGIN) \
        for (step = 0; step < steps; step++, a += 4 * n, b += 64) { \
            v128_t w0 = wasm_v128_load(b), w1 = wasm_v128_load(b + 16); \
            v128_t w2 = wasm_v128_load(b + 32), w3 = wasm_v128_load(b + 48), x load; \
            each_row \
        } \
        if (!KALM__LIKELY(held && kalm__dot_holds(job, c0))) { \
            kalm__q8_plainly_wasm(job, n); \
            return; \
        } \
        KALM__REP_##n(KALM__WASM_PUT) \
    }
#define KALM__WASM_FOUR , four = wasm_v128_load(a)
KALM__WASM_DOT_TILE(1, , KALM__REP_1(KALM__WASM_DOT))
KALM__WASM_DOT_TILE(2, , KALM__REP_2(KALM__WASM_DOT))
KALM__WASM_DOT_TILE(3, , KALM__REP_3(KALM__WASM_DOT))
KALM__WASM_DOT_TILE(4, KALM__WASM_FOUR, KALM__REP_4(KALM__WASM_DOT_OF4))

static const kalm__tile_fn kalm__q8_tiles_relaxed[KALM__WASM_DOT_ROWS] = {
    KALM__TILES_4(kalm__q8_, x1_relaxed)
};

/* High bytes have seven bits: here the instruction is exact as it is promised. */
KALM__FN int kalm__multiply_high_relaxed(const kalm__matrix *w, const uint8_t *high, float *y)
{
    uint8_t live[KALM__SPLIT16_COLS / 4];
    size_t count = kalm__find_lines(high, kalm__cols32(w->cols), live), p, l, bytes = kalm__panel_stride(w);
    if (!count) return 0;
    for (p = 0; 16 * p < w->rows; p++) {
        v128_t c = wasm_i32x4_splat(0), d = c, e = c, f = c;
        float all[16];
        for (l = 0; l < count; l++) {
            const unsigned char *b = (const unsigned char *)w->data + p * bytes + 64 * (size_t)live[l];
            v128_t x = wasm_v128_load32_splat(high + 4 * (size_t)live[l]);
            c = kalm__relaxed_dot(c, wasm_v128_load(b), x), d = kalm__relaxed_dot(d, wasm_v128_load(b + 16), x);
            e = kalm__relaxed_dot(e, wasm_v128_load(b + 32), x), f = kalm__relaxed_dot(f, wasm_v128_load(b + 48), x);
        }
        wasm_v128_store(all, wasm_f32x4_convert_i32x4(c)), wasm_v128_store(all + 4, wasm_f32x4_convert_i32x4(d));
        wasm_v128_store(all + 8, wasm_f32x4_convert_i32x4(e)), wasm_v128_store(all + 12, wasm_f32x4_convert_i32x4(f));
        memcpy(y + 16 * p, all, kalm__min(16, w->rows - 16 * p) * sizeof *y);
    }
    return 1;
}

/* ---- the sets -------------------------------------------------------------------------------------------- */

#define KALM__RELAXED_SET(name, most, sums, sign) \
    static const kalm__tiles kalm__tiles_q8_##name = { \
        most, 0, 0, \
        KALM__Q8, KALM__Q8, 1, sums, 0, \
        kalm__row_scales_wasm, kalm__pack_##sign##_wasm, kalm__unpack_q4_wasm, NULL, \
        NULL, kalm__q8_tiles_relaxed, NULL, NULL \
    }; \
    static const kalm__kernels kalm__kernels_##name = { \
        #name, &kalm__table_wasm, \
        { &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma, &kalm__tiles_f32_wasmfma, \
          &kalm__tiles_q8_##name, &kalm__tiles_q8_##name, &kalm__tiles_q16_wasm }, \
        kalm__split_##sign##_wasm, kalm__multiply_high_relaxed \
    };
KALM__RELAXED_SET(wasmdot, KALM__WASM_DOT_ROWS, 0, signed)
KALM__RELAXED_SET(wasmvnni8, KALM__WASM_VNNI_ROWS, 0, signed)
KALM__RELAXED_SET(wasmvnni, KALM__WASM_VNNI_ROWS, 1, unsigned)

#endif
#endif
