/* kernels_avx512.h - the set "avx512vnni": vpdpbusd on zmm, 64 multiply-adds an instruction, two a cycle. */
/* docs/KERNELS.md: */
/* vpdpbusd multiplies unsigned by signed bytes. Weights are signed, so the activations are stored as q + 128 and the
   accumulators start from -128 * sum(q_w), which the matrix brings along: sum((q_x + 128) q_w) - 128 sum(q_w) is exact.
   A tile of 12 rows x 2 panels holds 24 accumulators; a step costs 2 weight loads and 12 broadcast loads for 24
   multiply-adds, so the load ports (2 a cycle) idle half of the time and the panels may come from L2. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_AVX512_H
#define KALM__KERNELS_AVX512_H

#include "ops.h"
#include "kernels_tiles.h"
#include "kernels_avx2.h"

#if KALM__HAVE_AVX512

#include <immintrin.h>

#define KALM__512 KALM__TARGET(KALM__AVX512F ",avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,popcnt")

enum {
    KALM__512_TILE = 12,
    KALM__512_SHORT = 6,               /* rows of a tile of q16, and of bf16 pairs: they hide the latency, with half the code */
    KALM__512_DIRECT = 4
};

/* ---- activations --------------------------------------------------------------------------------------- */

/* Mask of the floats of a vector that begins at k and are inside cols. */
KALM__512 KALM__INLINE __mmask16 kalm__inside_512(size_t k, size_t cols)
{
    return (__mmask16)(k + 16 <= cols ? 0xffffu : k < cols ? (1u << (cols - k)) - 1u : 0u);
}

/* max(|m|, |x|) in one instruction: vrangeps with 3 = larger magnitude, 8 = sign cleared */
KALM__512 KALM__INLINE __m512 kalm__max_abs_512(__m512 m, __m512 x)
{
    return _mm512_range_ps(m, x, 11);
}

/* Four rows' scales at once. Two chains a row, to hide the latency of 4. */
#define KALM__512_MAX2(r) \
    m##r = kalm__max_abs_512(m##r, _mm512_loadu_ps(x[r] + k)); \
    n##r = kalm__max_abs_512(n##r, _mm512_loadu_ps(x[r] + k + 16));
#define KALM__512_MAX1(r) m##r = kalm__max_abs_512(m##r, _mm512_maskz_loadu_ps(in, x[r] + k));
#define KALM__512_SCALE(r) f->scale[r] = kalm__row_scale(_mm512_reduce_max_ps(_mm512_max_ps(m##r, n##r)), limit, &f->inverse[r]);
KALM__512 KALM__FN void kalm__row_scales_avx512(kalm__four_rows *f, float limit)
{
    const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
    __m512 m0 = _mm512_setzero_ps(), m1 = m0, m2 = m0, m3 = m0, n0 = m0, n1 = m0, n2 = m0, n3 = m0;
    size_t k, cols = f->cols;
    for (k = 0; k + 32 <= cols; k += 32) {
        KALM__REP_4(KALM__512_MAX2)
    }
    for (; k < cols; k += 16) {
        __mmask16 in = kalm__inside_512(k, cols);
        KALM__REP_4(KALM__512_MAX1)
    }
    KALM__REP_4(KALM__512_SCALE)
}

/* What packers begin with, and the next 16 inputs of four rows as dwords a, b, c, d, zeros behind cols, which is not read. */
#define KALM__512_ROWS \
    size_t height = f->height, n = f->n, cols = f->cols, cols32 = kalm__cols32(cols), k; \
    const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] }; \
    const __m512 i0 = _mm512_set1_ps(f->inverse[0]), i1 = _mm512_set1_ps(f->inverse[1]); \
    const __m512 i2 = _mm512_set1_ps(f->inverse[2]), i3 = _mm512_set1_ps(f->inverse[3]);
#define KALM__512_LOAD(v, r, from) v = _mm512_cvtps_epi32(_mm512_mul_ps(from, i##r));
#define KALM__512_NEXT(v, r) KALM__512_LOAD(v, r, _mm512_maskz_loadu_ps(in, x[r] + at))
#define KALM__512_MASKED KALM__512_NEXT(a, 0) KALM__512_NEXT(b, 1) KALM__512_NEXT(c, 2) KALM__512_NEXT(d, 3)
#define KALM__512_FOUR \
    size_t at = kalm__min(k, cols); \
    __mmask16 in = kalm__inside_512(k, cols); \
    __m512i a, b, c, d; \
    KALM__512_MASKED
#define KALM__512_OUT(four_rows) \
    a = four_rows; \
    kalm__store_dwords_avx2(out, n, _mm512_castsi512_si128(a)); \
    kalm__store_dwords_avx2(out + 4 * height, n, _mm512_extracti32x4_epi32(a, 1)); \
    kalm__store_dwords_avx2(out + 8 * height, n, _mm512_extracti32x4_epi32(a, 2)); \
    kalm__store_dwords_avx2(out + 12 * height, n, _mm512_extracti32x4_epi32(a, 3));

/* Four rows into a tile. Packing the dwords of four rows into int16 and bytes leaves, in each 128-bit lane, 4 inputs of row 0, of
   row 1, 2 and 3: a tile's order without a shuffle. The next four rows are prefetched. */
KALM__512 KALM__FN void kalm__pack_q8_avx512(const kalm__four_rows *f)
{
    KALM__512_ROWS
    size_t further = f->further;
    unsigned char *out = f->tile + 4 * f->first;
    const __m512i to_unsigned = _mm512_set1_epi8('\x80');
    for (k = 0; k < cols32; k += 16, out += 16 * height) {
        size_t at = kalm__min(k, cols);
        __mmask16 in = kalm__inside_512(k, cols);
        __m512i a, b, c, d;
        if (k + 16 <= cols) {          /* a tenth faster than with a mask */
            KALM__512_LOAD(a, 0, _mm512_loadu_ps(x[0] + k)) KALM__512_LOAD(b, 1, _mm512_loadu_ps(x[1] + k))
            KALM__512_LOAD(c, 2, _mm512_loadu_ps(x[2] + k)) KALM__512_LOAD(d, 3, _mm512_loadu_ps(x[3] + k))
        } else {
            KALM__512_MASKED
        }
        KALM__PREFETCH(x[0] + further + k), KALM__PREFETCH(x[1] + further + k);
        KALM__PREFETCH(x[2] + further + k), KALM__PREFETCH(x[3] + further + k);
        a = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        KALM__512_OUT(_mm512_xor_si512(a, to_unsigned))
    }
}

/* The low bytes of four split16 rows into a tile, and the high ones row by row; vpdpbusd takes both unsigned as they are. */
KALM__512 KALM__FN void kalm__pack_split16_avx512(const kalm__four_rows *f)
{
    KALM__512_ROWS
    unsigned char *out = f->tile + 4 * f->first;
    uint8_t *high = f->high;
    const __m512i low = _mm512_set1_epi32(255);
    uint8_t *h1 = high + (n > 1 ? KALM__SPLIT16_COLS : 0), *h2 = high + (n > 2 ? 2 * KALM__SPLIT16_COLS : 0);
    uint8_t *h3 = high + (n > 3 ? 3 * KALM__SPLIT16_COLS : 0);
    for (k = 0; k < cols32; k += 16, out += 16 * height) {
        KALM__512_FOUR
        /* rows that are not there write to the first one's place before it does */
        _mm_storeu_si128((__m128i *)(void *)(h3 + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(d, 8)));
        _mm_storeu_si128((__m128i *)(void *)(h2 + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(c, 8)));
        _mm_storeu_si128((__m128i *)(void *)(h1 + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(b, 8)));
        _mm_storeu_si128((__m128i *)(void *)(high + k), _mm512_cvtepi32_epi8(_mm512_srli_epi32(a, 8)));
        a = _mm512_packs_epi32(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
        c = _mm512_packs_epi32(_mm512_and_si512(c, low), _mm512_and_si512(d, low));
        KALM__512_OUT(_mm512_packus_epi16(a, c))
    }
}

/* ---- q8 tiles ------------------------------------------------------------------------------------------ */

KALM__512 KALM__INLINE __m512i kalm__broadcast4_512(const unsigned char *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
}

KALM__512 KALM__INLINE __mmask16 kalm__outputs_512(const kalm__tile_job *job, size_t panel)
{
    size_t left = job->outputs - 16 * panel;
    return (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1u);
}

KALM__512 KALM__INLINE void kalm__store_512(float *y, __mmask16 outputs, __m512i acc, __m512 scale, float row_scale)
{
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
    KALM__FENCE_V(v);
    _mm512_mask_storeu_ps(y, outputs, _mm512_mul_ps(v, _mm512_set1_ps(row_scale)));
}

/* What the stores of a tile need, read before the first of them: behind a store the compiler would read it again. */
#define KALM__512_RESULTS1 \
    float *y = job->y; \
    const float *row_scale = job->row_scale; \
    size_t stride = job->stride; \
    __m512 scale0 = _mm512_loadu_ps(job->scale); \
    __mmask16 some0 = kalm__outputs_512(job, 0);
#define KALM__512_RESULTS2 \
    KALM__512_RESULTS1 \
    __m512 scale1 = _mm512_loadu_ps(job->scale + 16); \
    __mmask16 some1 = kalm__outputs_512(job, 1);

KALM__512 KALM__INLINE __m512i kalm__start_512(const kalm__tile_job *job, size_t panel)
{
    return _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(_mm512_loadu_si512(job->sum + 16 * panel), 7));
}

/* acc + four products in each dword. In asm: gcc 12 spills accumulators around the intrinsic. */
KALM__512 KALM__INLINE __m512i kalm__dpbusd_512(__m512i acc, __m512i x, __m512i w)
{
#if defined(__GNUC__)
    __asm__("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
#else
    return _mm512_dpbusd_epi32(acc, x, w);
#endif
}

/* A tile of n rows by one panel (X1) or two (X2), one accumulator a row and panel. The macros whose names begin with `kind` say what is
   done: Q q8, W q16, F float, B bf16 (kernels_avx512bf16.h). BEGIN and ZERO: what sums begin with;
   AHEAD: what is prefetched; STEP: what a row adds; RESULTS and STORE: where the sums go. */
#define KALM__512_X1(target, kind, vector, load, name, n) \
    target KALM__FN void name(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps; \
        vector w0; \
        KALM__REP_##n(KALM__512_##kind##ZERO1) \
        for (step = 0; step < steps; step++, a += 4 * n, b += 64) { \
            w0 = load(b); \
            KALM__REP_##n(KALM__512_##kind##STEP1) \
        } \
        { \
            KALM__512_##kind##RESULTS1 \
            KALM__REP_##n(KALM__512_##kind##STORE1) \
        } \
    }
#define KALM__512_X2(target, kind, vector, load, name, n) \
    target KALM__FN void name(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
        size_t panel = job->panel, step, steps = job->steps, ahead_step = job->ahead_step; \
        vector w0, w1, x; \
        KALM__512_##kind##BEGIN2 \
        KALM__REP_##n(KALM__512_##kind##ZERO2) \
        for (step = 0; step < steps; step++, a += 4 * n, b += 64, ahead += ahead_step) { \
            w0 = load(b); \
            w1 = load(b + panel); \
            KALM__512_##kind##AHEAD \
            KALM__REP_##n(KALM__512_##kind##STEP2) \
        } \
        { \
            KALM__512_##kind##RESULTS2 \
            KALM__REP_##n(KALM__512_##kind##STORE2) \
        } \
    }

#define KALM__512_QAHEAD KALM__PREFETCH(ahead);
#define KALM__512_QBEGIN2 __m512i start0 = kalm__start_512(job, 0), start1 = kalm__start_512(job, 1);
#define KALM__512_QZERO2(r) __m512i c##r = start0, d##r = start1;
#define KALM__512_QSTEP2(r) \
    x = kalm__broadcast4_512(a + 4 * r); \
    c##r = kalm__dpbusd_512(c##r, x, w0); \
    d##r = kalm__dpbusd_512(d##r, x, w1);
#define KALM__512_QRESULTS2 KALM__512_RESULTS2
#define KALM__512_QSTORE2(r) \
    kalm__store_512(y + r * stride, some0, c##r, scale0, row_scale[r]); \
    kalm__store_512(y + r * stride + 16, some1, d##r, scale1, row_scale[r]);
#define KALM__512_TILE2(n) KALM__512_X2(KALM__512, Q, __m512i, _mm512_load_si512, kalm__q8_##n##x2_avx512, n)
KALM__512_TILE2(5) KALM__512_TILE2(6) KALM__512_TILE2(7) KALM__512_TILE2(8)
KALM__512_TILE2(9) KALM__512_TILE2(10) KALM__512_TILE2(11) KALM__512_TILE2(12)

/* One panel, n rows. Lines are taken in two or (few rows) four phases with accumulators of their own, so that there are
   enough of them to hide the latency of vpdpbusd; whole numbers, so the order does not matter. A panel has a multiple
   of 8 lines. */
#define KALM__512_PHASE(p, acc, r) acc##r = kalm__dpbusd_512(acc##r, kalm__broadcast4_512(a + p * row + 4 * r), w##p);
#define KALM__512_LINE(p) w##p = _mm512_load_si512(b + 64 * p);
#define KALM__512_ASK(p) KALM__PREFETCH(ahead + p * ahead_step);
#define KALM__512_PZERO2(r) __m512i c##r = start0, d##r = _mm512_setzero_si512();
#define KALM__512_PSTEP2(r) KALM__512_PHASE(0, c, r) KALM__512_PHASE(1, d, r)
#define KALM__512_PSUM2(r) _mm512_add_epi32(c##r, d##r)
#define KALM__512_PSTORE2(r) kalm__store_512(y + r * stride, some0, KALM__512_PSUM2(r), scale0, row_scale[r]);
#define KALM__512_PZERO4(r) KALM__512_PZERO2(r) __m512i e##r = d##r, f##r = d##r;
#define KALM__512_PSTEP4(r) KALM__512_PSTEP2(r) KALM__512_PHASE(2, e, r) KALM__512_PHASE(3, f, r)
#define KALM__512_PSTORE4(r) \
    kalm__store_512(y + r * stride, some0, _mm512_add_epi32(KALM__512_PSUM2(r), _mm512_add_epi32(e##r, f##r)), scale0, row_scale[r]);
#define KALM__512_PHASES(phases, n) \
    KALM__512 KALM__FN void kalm__q8_##n##x1_avx512(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
        size_t step, steps = job->steps, ahead_step = job->ahead_step; \
        __m512i start0 = kalm__start_512(job, 0), KALM__512_W##phases; \
        enum { row = 4 * n }; \
        KALM__REP_##n(KALM__512_PZERO##phases) \
        for (step = 0; step < steps; step += phases, a += phases * row, b += phases * 64, ahead += phases * ahead_step) { \
            KALM__REP_##phases(KALM__512_LINE) \
            KALM__REP_##phases(KALM__512_ASK) \
            KALM__REP_##n(KALM__512_PSTEP##phases) \
        } \
        { \
            KALM__512_RESULTS1 \
            KALM__REP_##n(KALM__512_PSTORE##phases) \
        } \
    }
#define KALM__512_W2 w0, w1
#define KALM__512_W4 w0, w1, w2, w3
KALM__512_PHASES(4, 1) KALM__512_PHASES(4, 2) KALM__512_PHASES(4, 3) KALM__512_PHASES(4, 4)
KALM__512_PHASES(2, 5) KALM__512_PHASES(2, 6) KALM__512_PHASES(2, 7) KALM__512_PHASES(2, 8)
KALM__512_PHASES(2, 9) KALM__512_PHASES(2, 10) KALM__512_PHASES(2, 11) KALM__512_PHASES(2, 12)

static const kalm__tile_fn kalm__q8_tiles_avx512[2][KALM__512_TILE] = {
    { KALM__TILES_12(kalm__q8_, x1_avx512) },
    { NULL, NULL, NULL, NULL, kalm__q8_5x2_avx512, kalm__q8_6x2_avx512, kalm__q8_7x2_avx512, kalm__q8_8x2_avx512,
      kalm__q8_9x2_avx512, kalm__q8_10x2_avx512, kalm__q8_11x2_avx512, kalm__q8_12x2_avx512 }
};

/* ---- the high bytes of a split16 row ----------------------------------------------------------------------- */

/* Eight panels at a time, so that their sums do not wait for each other; what is left one by one. */
#define KALM__512_HIGH_ZERO(i) __m512i c##i = _mm512_setzero_si512();
#define KALM__512_HIGH_STEP(i) c##i = kalm__dpbusd_512(c##i, x, _mm512_load_si512(line + i * bytes));
#define KALM__512_HIGH_STORE(i) _mm512_storeu_ps(y + 16 * (p + i), _mm512_cvtepi32_ps(c##i));
KALM__512 KALM__FN int kalm__multiply_high_avx512(const kalm__matrix *w, const uint8_t *high, float *y)
{
    const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint8_t live[KALM__SPLIT16_COLS / 4 + 16];
    size_t count = 0, cols32 = kalm__cols32(w->cols), p, l, bytes = kalm__panel_stride(w);
    for (l = 0; l < cols32; l += 64) {
        __mmask64 in = cols32 - l >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (cols32 - l)) - 1;
        __m512i v = _mm512_maskz_loadu_epi8(in, high + l), all = _mm512_add_epi32(number, _mm512_set1_epi32((int)(l / 4)));
        __mmask16 some = _mm512_test_epi32_mask(v, v);
        _mm_storeu_si128((__m128i *)(void *)(live + count), _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(some, all)));
        count += (size_t)_mm_popcnt_u32(some);
    }
    if (!count) return 0;
    for (p = 0; 16 * (p + 8) <= w->rows; p += 8) {
        const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
        KALM__REP_8(KALM__512_HIGH_ZERO)
        for (l = 0; l < count; l++) {
            __m512i x = kalm__broadcast4_512(high + 4 * live[l]);
            const unsigned char *line = panel + 64 * (size_t)live[l];
            KALM__REP_8(KALM__512_HIGH_STEP)
        }
        KALM__REP_8(KALM__512_HIGH_STORE)
    }
    for (; 16 * p < w->rows; p++) {
        const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
        size_t left = w->rows - 16 * p;
        __m512i c = _mm512_setzero_si512();
        for (l = 0; l < count; l++)
            c = kalm__dpbusd_512(c, kalm__broadcast4_512(high + 4 * live[l]), _mm512_load_si512(panel + 64 * (size_t)live[l]));
        _mm512_mask_storeu_ps(y + 16 * p, (__mmask16)(left >= 16 ? 0xffffu : (1u << left) - 1u), _mm512_cvtepi32_ps(c));
    }
    return 1;
}

/* ---- q16 tiles: vpdpwssd, two products of int16 in each dword ------------------------------------------- */

KALM__512 KALM__INLINE __m512i kalm__dpwssd_512(__m512i acc, __m512i x, __m512i w)
{
#if defined(__GNUC__)
    __asm__("vpdpwssd {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
#else
    return _mm512_dpwssd_epi32(acc, x, w);
#endif
}

#define KALM__512_WAHEAD (void)ahead;
#define KALM__512_WBEGIN2
#define KALM__512_WZERO1(r) __m512i c##r = _mm512_setzero_si512();
#define KALM__512_WZERO2(r) __m512i c##r = _mm512_setzero_si512(), d##r = _mm512_setzero_si512();
#define KALM__512_WSTEP1(r) c##r = kalm__dpwssd_512(c##r, kalm__broadcast4_512(a + 4 * r), w0);
#define KALM__512_WSTEP2(r) \
    x = kalm__broadcast4_512(a + 4 * r); \
    c##r = kalm__dpwssd_512(c##r, x, w0); \
    d##r = kalm__dpwssd_512(d##r, x, w1);
#define KALM__512_WRESULTS1 KALM__512_RESULTS1
#define KALM__512_WRESULTS2 KALM__512_RESULTS2
#define KALM__512_WSTORE1(r) kalm__store_512(y + r * stride, some0, c##r, scale0, row_scale[r]);
#define KALM__512_WSTORE2 KALM__512_QSTORE2
#define KALM__512_WTILE(n) \
    KALM__512_X1(KALM__512, W, __m512i, _mm512_load_si512, kalm__int16_##n##x1_avx512, n) \
    KALM__512_X2(KALM__512, W, __m512i, _mm512_load_si512, kalm__int16_##n##x2_avx512, n)
KALM__512_WTILE(1) KALM__512_WTILE(2) KALM__512_WTILE(3) KALM__512_WTILE(4) KALM__512_WTILE(5) KALM__512_WTILE(6)

static const kalm__tile_fn kalm__int16_tiles_avx512[2][KALM__512_SHORT] = {
    { KALM__TILES_6(kalm__int16_, x1_avx512) },
    { KALM__TILES_6(kalm__int16_, x2_avx512) }
};

/* ---- float tiles: one fma chain an output, along all inputs -------------------------------------------- */

KALM__512 KALM__INLINE __m512 kalm__one_512(const unsigned char *a, size_t r)
{
    return _mm512_set1_ps(((const float *)(const void *)a)[r]);
}

KALM__512 KALM__INLINE void kalm__store_floats_512(const kalm__tile_job *job, size_t r, size_t panel, __m512 acc)
{
    _mm512_mask_storeu_ps(job->y + r * job->stride + 16 * panel, kalm__outputs_512(job, panel), acc);
}

#define KALM__512_FAHEAD KALM__PREFETCH(ahead);
#define KALM__512_FBEGIN2
#define KALM__512_FZERO1(r) __m512 c##r = _mm512_setzero_ps();
#define KALM__512_FZERO2(r) __m512 c##r = _mm512_setzero_ps(), d##r = _mm512_setzero_ps();
#define KALM__512_FSTEP1(r) c##r = _mm512_fmadd_ps(kalm__one_512(a, r), w0, c##r);
#define KALM__512_FSTEP2(r) \
    x = kalm__one_512(a, r); \
    c##r = _mm512_fmadd_ps(x, w0, c##r); \
    d##r = _mm512_fmadd_ps(x, w1, d##r);
#define KALM__512_FRESULTS1
#define KALM__512_FRESULTS2
#define KALM__512_FSTORE1(r) kalm__store_floats_512(job, r, 0, c##r);
#define KALM__512_FSTORE2(r) kalm__store_floats_512(job, r, 0, c##r); kalm__store_floats_512(job, r, 1, d##r);
#define KALM__512_FTILE(n) \
    KALM__512_X1(KALM__512, F, __m512, _mm512_load_ps, kalm__f32_##n##x1_avx512, n) \
    KALM__512_X2(KALM__512, F, __m512, _mm512_load_ps, kalm__f32_##n##x2_avx512, n)
KALM__512_FTILE(1) KALM__512_FTILE(2) KALM__512_FTILE(3) KALM__512_FTILE(4) KALM__512_FTILE(5) KALM__512_FTILE(6)
KALM__512_FTILE(7) KALM__512_FTILE(8) KALM__512_FTILE(9) KALM__512_FTILE(10) KALM__512_FTILE(11) KALM__512_FTILE(12)

static const kalm__tile_fn kalm__f32_tiles_avx512[2][KALM__512_TILE] = {
    { KALM__TILES_12(kalm__f32_, x1_avx512) },
    { KALM__TILES_12(kalm__f32_, x2_avx512) }
};

KALM__512 KALM__FN void kalm__unpack_half_avx512(uint32_t type, const void *panel, size_t cols, void *out)
{
    const uint16_t *half = (const uint16_t *)panel;
    float *v = (float *)out;
    size_t k;
    if (type == KALM__F16)
        for (k = 0; k < 16 * cols; k += 16)
            _mm512_store_ps(v + k, _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)(half + k))));
    else
        for (k = 0; k < 16 * cols; k += 16) {
            __m512i dwords = _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)(const void *)(half + k)));
            _mm512_store_ps(v + k, _mm512_castsi512_ps(_mm512_slli_epi32(dwords, 16)));
        }
}

/* ---- q4 ------------------------------------------------------------------------------------------------ */

/* 64 bytes of levels (codebook entries in the high bytes of words) times their outputs' multipliers, rounded: see
   blocks.h. */
KALM__512 KALM__INLINE __m512i kalm__q4_line_512(__m512i nibbles, __m512i codebook, __m512i multiplier)
{
    const __m512i high = _mm512_set1_epi16(-256);
    __m512i v = _mm512_shuffle_epi8(codebook, nibbles);
    __m512i odd = _mm512_mulhrs_epi16(_mm512_and_si512(v, high), multiplier);
    __m512i even = _mm512_mulhrs_epi16(_mm512_slli_epi16(v, 8), multiplier);
    return _mm512_mask_blend_epi8(0x5555555555555555u, _mm512_slli_epi16(odd, 8), even);
}

KALM__512 KALM__FN void kalm__unpack_q4_avx512(uint32_t type, const void *panel, size_t cols, void *out)
{
    size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t;
    const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
    unsigned char *q = (unsigned char *)out;
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i codebook = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)kalm__q4_codebook));
    (void)type;
    for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
        __m512i dwords = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)m));
        __m512i twice = _mm512_or_si512(_mm512_slli_epi32(dwords, 1), _mm512_slli_epi32(dwords, 17));
        for (t = 0; t < 4; t++) {
            __m512i v = _mm512_load_si512(nibbles + 64 * t);
            _mm512_store_si512(q + 64 * t, kalm__q4_line_512(_mm512_and_si512(v, low), codebook, twice));
            _mm512_store_si512(q + 64 * (t + 4),
                               kalm__q4_line_512(_mm512_and_si512(_mm512_srli_epi16(v, 4), low), codebook, twice));
        }
    }
}

/* ---- the set --------------------------------------------------------------------------------------------- */

static const kalm__tiles kalm__tiles_f32_avx512 = {
    KALM__512_TILE, 1, 0,
    KALM__F32, KALM__F32, 4, 0, 0,
    NULL, kalm__pack_floats_avx2, kalm__unpack_half_avx512, NULL,
    NULL, kalm__f32_tiles_avx512[0], kalm__f32_tiles_avx512[1], NULL
};
static const kalm__tiles kalm__tiles_q8_avx512 = {
    KALM__512_TILE, 1, KALM__512_DIRECT,
    KALM__Q8, KALM__Q8, 1, 1, 0,
    kalm__row_scales_avx512, kalm__pack_q8_avx512, kalm__unpack_q4_avx512, NULL,
    kalm__q8_tiles_avx512[0], kalm__q8_tiles_avx512[0], kalm__q8_tiles_avx512[1], NULL
};
static const kalm__tiles kalm__tiles_q16_avx512 = {
    KALM__512_SHORT, 1, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    kalm__row_scales_avx512, kalm__pack_q16_avx2, NULL, NULL,
    NULL, kalm__int16_tiles_avx512[0], kalm__int16_tiles_avx512[1], NULL
};
static const kalm__kernels kalm__kernels_avx512vnni = {
    "avx512vnni", &kalm__table_avx512,
    { &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512,
      &kalm__tiles_q8_avx512, &kalm__tiles_q8_avx512, &kalm__tiles_q16_avx512 },
    kalm__pack_split16_avx512, kalm__multiply_high_avx512
};

#endif
#endif
