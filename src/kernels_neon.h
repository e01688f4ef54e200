/* kernels_neon.h - the ARM sets "i8mm", "dotprod" and "neon" (AArch64, and ARMv7 in half the registers). */
/* docs/KERNELS.md: */
/* dotprod: sdot by element, 16 multiply-adds an instruction. A q8 line is four registers of 4 outputs x 4 inputs, one
   register of activations holds 4 inputs of 4 rows: 6 rows x 1 panel, 24 accumulators, and nothing but loads and sdot
   in the loop.
   i8mm: smmla, 2 outputs x 2 rows x 8 inputs = 32 multiply-adds. It wants 8 inputs of an output side by side, so a panel
   is zipped so once a call, into scratch; 6 rows x 1 panel again 24 accumulators. Up to 3 rows use sdot instead.
   neon: smull and smlal make products of bytes in 16 bits, of which two fit (2 * 127 * 127 < 2^15), sadalp adds pairs of
   them to 32 bits: three instructions for 16 multiply-adds. 2 rows x 1 panel (ARMv7: 1 row), 8 accumulators of two outputs a row.
   sdot and smmla are asm in functions with a target attribute of their own: no -march is needed, and clang before 16
   hides the intrinsics. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_NEON_H
#define KALM__KERNELS_NEON_H

#include "ops.h"
#include "kernels_tiles.h"

#if KALM__NEON

#include <arm_neon.h>

/* Which compilers know sdot and smmla, and what a function needs to use them. GCC inlines only what asks for no more than the caller,
   so there the attribute must add to what the file is compiled for: nothing if it has the instruction already, a feature from ARMv8.1
   on (known by its QRDMX; 8.1 itself then fails in the assembler: compile for 8 or 8.2), a whole architecture below. */
#if !KALM__NEON64
#  define KALM__HAVE_DOT 0
#  define KALM__HAVE_MM 0
#elif !defined(__GNUC__)
#  define KALM__HAVE_DOT 1
#  define KALM__HAVE_MM 1
#  define KALM__DOT
#  define KALM__MM
#elif defined(__clang__)
#  define KALM__HAVE_DOT (__clang_major__ >= 7)
#  define KALM__HAVE_MM (__clang_major__ >= 11)
#  define KALM__DOT __attribute__((__target__("dotprod")))
#  define KALM__MM __attribute__((__target__("i8mm")))
#else
#  define KALM__HAVE_DOT (__GNUC__ >= 8)
#  define KALM__HAVE_MM (__GNUC__ >= 10)
#  if defined(__ARM_FEATURE_QRDMX)
#    define KALM__ARM(feature) __attribute__((__target__(feature)))
#  else
#    define KALM__ARM(feature) __attribute__((__target__("arch=armv8.2-a" feature)))
#  endif
#  ifdef __ARM_FEATURE_DOTPROD
#    define KALM__DOT
#  else
#    define KALM__DOT KALM__ARM("+dotprod")
#  endif
#  ifdef __ARM_FEATURE_MATMUL_INT8
#    define KALM__MM
#  else
#    define KALM__MM KALM__ARM("+i8mm")
#  endif
#endif

enum {
    KALM__DOT_TILE = 6,                /* sdot, smmla: 24 accumulators */
#if KALM__NEON64
    KALM__NEON_TILE = 2,               /* 16 accumulators */
    KALM__NEON_WTILE = 4,
    KALM__NEON_FTILE = 6,
#else
    KALM__NEON_TILE = 1,
    KALM__NEON_WTILE = 2,
    KALM__NEON_FTILE = 2,
#endif
    KALM__MM_DIRECT = 3                /* tiles that i8mm leaves to sdot */
};

/* ---- activations --------------------------------------------------------------------------------------- */

/* Four floats at x + k, zeros behind cols, which is not read. */
KALM__INLINE float32x4_t kalm__load_neon(const float *x, size_t k, size_t cols)
{
    float some[4] = { 0.0f, 0.0f, 0.0f, 0.0f };
    if (k + 4 <= cols) return vld1q_f32(x + k);
    if (k < cols) memcpy(some, x + k, (cols - k) * sizeof(float));
    return vld1q_f32(some);
}

KALM__FN float kalm__one_scale_neon(const float *x, size_t cols, float limit, float *inverse)
{
    float32x4_t m = vdupq_n_f32(0.0f), n = m, o = m, p = m;
    size_t k;
    float largest[4];
    for (k = 0; k + 16 <= cols; k += 16) {
        m = vmaxq_f32(m, vabsq_f32(vld1q_f32(x + k)));
        n = vmaxq_f32(n, vabsq_f32(vld1q_f32(x + k + 4)));
        o = vmaxq_f32(o, vabsq_f32(vld1q_f32(x + k + 8)));
        p = vmaxq_f32(p, vabsq_f32(vld1q_f32(x + k + 12)));
    }
    for (; k < cols; k += 4) m = vmaxq_f32(m, vabsq_f32(kalm__load_neon(x, k, cols)));
    vst1q_f32(largest, vmaxq_f32(vmaxq_f32(m, n), vmaxq_f32(o, p)));
    return kalm__scale_of_four(largest, limit, inverse);
}

KALM__FN void kalm__row_scales_neon(kalm__four_rows *f, float limit)
{
    size_t i;
    for (i = 0; i < f->n; i++) f->scale[i] = kalm__one_scale_neon(f->x[i], f->cols, limit, &f->inverse[i]);
}

/* Nearest, ties to even. ARMv7 has no such conversion: adding 1.5 * 2^23 leaves the number in the low bits. */
KALM__INLINE int16x4_t kalm__round_neon(float32x4_t x, float32x4_t inverse)
{
#if KALM__NEON64
    return vmovn_s32(vcvtnq_s32_f32(vmulq_f32(x, inverse)));
#else
    return vmovn_s32(vreinterpretq_s32_f32(vaddq_f32(vmulq_f32(x, inverse), vdupq_n_f32(12582912.0f))));
#endif
}

/* A row, eight inputs at a time, as bytes: 4 and 4 to out, `half` bytes apart, then `apart` bytes on. Of a split16 row these
   are the low bytes, signed, and high gets the others, rounded accordingly; NULL for a row of bytes. */
KALM__FN void kalm__pack_row_neon(unsigned char *out, size_t half, size_t apart, const float *x, float inverse, size_t cols,
                                  uint8_t *high)
{
    size_t cols32 = kalm__cols32(cols), k;
    float32x4_t i = vdupq_n_f32(inverse);
    for (k = 0; k < cols32; k += 8, out += apart) {
        int16x8_t w = vcombine_s16(kalm__round_neon(kalm__load_neon(x, k, cols), i),
                                   kalm__round_neon(kalm__load_neon(x, k + 4, cols), i));
        int8x8_t q = vmovn_s16(w);
        if (high) vst1_u8(high + k, vreinterpret_u8_s8(vrshrn_n_s16(w, 8)));
        if (half == 4) vst1_s8((int8_t *)out, q);
        else {
            uint32_t pair[2];
            vst1_u32(pair, vreinterpret_u32_s8(q));
            memcpy(out, &pair[0], 4);
            memcpy(out + half, &pair[1], 4);
        }
    }
}

/* Four rows as int16 into a tile, [cols32 / 2][height][2] */
KALM__FN void kalm__pack_q16_neon(const kalm__four_rows *f)
{
    size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
    for (i = 0; i < f->n; i++) {
        const float *x = f->x[i];
        float32x4_t by = vdupq_n_f32(f->inverse[i]);
        unsigned char *out = f->tile + 4 * (f->first + i);
        for (k = 0; k < cols32; k += 4, out += 8 * height) {
            uint32_t pair[2];
            vst1_u32(pair, vreinterpret_u32_s16(kalm__round_neon(kalm__load_neon(x, k, cols), by)));
            memcpy(out, &pair[0], 4);
            memcpy(out + 4 * height, &pair[1], 4);
        }
    }
}

/* Four rows as bytes into a tile, [cols32 / 4][height][4] */
KALM__FN void kalm__pack_q8_neon(const kalm__four_rows *f)
{
    size_t height = f->height, cols = f->cols, cols32 = kalm__cols32(cols), k, i;
    const float *x0 = f->x[0], *x1 = f->x[1], *x2 = f->x[2], *x3 = f->x[3];
    float32x4_t i0 = vdupq_n_f32(f->inverse[0]), i1 = vdupq_n_f32(f->inverse[1]);
    float32x4_t i2 = vdupq_n_f32(f->inverse[2]), i3 = vdupq_n_f32(f->inverse[3]);
    unsigned char *out = f->tile + 4 * f->first;
    if (f->n < 4) {
        for (i = 0; i < f->n; i++) kalm__pack_row_neon(out + 4 * i, 4 * height, 8 * height, f->x[i], f->inverse[i], cols, NULL);
        return;
    }
    for (k = 0; k < cols32; k += 4, out += 4 * height) {
        int16x8_t a = vcombine_s16(kalm__round_neon(kalm__load_neon(x0, k, cols), i0),
                                   kalm__round_neon(kalm__load_neon(x1, k, cols), i1));
        int16x8_t b = vcombine_s16(kalm__round_neon(kalm__load_neon(x2, k, cols), i2),
                                   kalm__round_neon(kalm__load_neon(x3, k, cols), i3));
        vst1q_s8((int8_t *)out, vcombine_s8(vmovn_s16(a), vmovn_s16(b)));
    }
}

/* The low bytes of four split16 rows into such a tile, and the high ones row by row */
KALM__FN void kalm__pack_split16_neon(const kalm__four_rows *f)
{
    size_t i;
    for (i = 0; i < f->n; i++)
        kalm__pack_row_neon(f->tile + 4 * (f->first + i), 4 * f->height, 8 * f->height, f->x[i], f->inverse[i], f->cols,
                            f->high + i * KALM__SPLIT16_COLS);
}

#if KALM__HAVE_MM
/* For smmla: [cols32 / 8][height, made even][8], zeros for the row that is not there; high NULL: rows of bytes */
KALM__FN void kalm__pack_pairs_neon(const kalm__four_rows *f, uint8_t *high)
{
    size_t even = f->height + (f->height & 1), i, k;
    for (i = 0; i < f->n; i++)
        kalm__pack_row_neon(f->tile + 8 * (f->first + i), 4, 8 * even, f->x[i], f->inverse[i], f->cols,
                            high ? high + i * KALM__SPLIT16_COLS : NULL);
    if (even > f->height && f->first + f->n == f->height)
        for (k = 0; k < kalm__cols32(f->cols) / 8; k++) memset(f->tile + (k * even + f->height) * 8, 0, 8);
}
KALM__FN void kalm__pack_q8_i8mm(const kalm__four_rows *f)
{
    if (f->height <= KALM__MM_DIRECT) kalm__pack_q8_neon(f);
    else kalm__pack_pairs_neon(f, NULL);
}
KALM__FN void kalm__pack_split16_i8mm(const kalm__four_rows *f)
{
    if (f->height <= KALM__MM_DIRECT) kalm__pack_split16_neon(f);
    else kalm__pack_pairs_neon(f, f->high);
}
#endif

/* The sums of neighbours, of a and then of b */
KALM__INLINE int32x4_t kalm__pairs_neon(int32x4_t a, int32x4_t b)
{
    return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
}

/* Rows of high bytes are few and short: the plain products, four inputs of four outputs at a time. */
KALM__FN int kalm__multiply_high_neon(const kalm__matrix *w, const uint8_t *high, float *y)
{
    uint8_t live[KALM__SPLIT16_COLS / 4];
    size_t count = kalm__find_lines(high, kalm__cols32(w->cols), live), p, l, i, bytes = kalm__panel_stride(w);
    if (!count) return 0;
    for (p = 0; 16 * p < w->rows; p++) {
        const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
        int32x4_t sum[4];
        float all[16];
        for (i = 0; i < 4; i++) sum[i] = vdupq_n_s32(0);
        for (l = 0; l < count; l++) {
            int32_t four;
            int8x8_t x;
            memcpy(&four, high + 4 * (size_t)live[l], 4);
            x = vreinterpret_s8_s32(vdup_n_s32(four));
            for (i = 0; i < 4; i++) {
                int8x16_t v = vld1q_s8((const int8_t *)panel + 64 * (size_t)live[l] + 16 * i);
                sum[i] = vaddq_s32(sum[i], kalm__pairs_neon(vpaddlq_s16(vmull_s8(vget_low_s8(v), x)),
                                                            vpaddlq_s16(vmull_s8(vget_high_s8(v), x))));
            }
        }
        for (i = 0; i < 4; i++) vst1q_f32(all + 4 * i, vcvtq_f32_s32(sum[i]));
        memcpy(y + 16 * p, all, kalm__min(16, w->rows - 16 * p) * sizeof *y);
    }
    return 1;
}

/* ---- results ------------------------------------------------------------------------------------------- */

/* Row r of a tile, 16 outputs, of which those below job->outputs are written. */
KALM__INLINE void kalm__write_neon(const kalm__tile_job *job, size_t r, float32x4_t a, float32x4_t b, float32x4_t c,
                                   float32x4_t d)
{
    float *y = job->y + r * job->stride, all[16];
    int whole = job->outputs >= 16;
    float *to = whole ? y : all;
    vst1q_f32(to, a), vst1q_f32(to + 4, b), vst1q_f32(to + 8, c), vst1q_f32(to + 12, d);
    if (!whole) memcpy(y, all, job->outputs * sizeof(float));
}

KALM__INLINE float32x4_t kalm__scaled_neon(int32x4_t acc, const float *scale, float32x4_t s)
{
    float32x4_t v = vmulq_f32(vcvtq_f32_s32(acc), vld1q_f32(scale));
    KALM__FENCE_V(v);
    return vmulq_f32(v, s);
}

KALM__INLINE void kalm__store_neon(const kalm__tile_job *job, size_t r, int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    float32x4_t s = vdupq_n_f32(job->row_scale[r]);
    kalm__write_neon(job, r, kalm__scaled_neon(a, job->scale, s), kalm__scaled_neon(b, job->scale + 4, s),
                     kalm__scaled_neon(c, job->scale + 8, s), kalm__scaled_neon(d, job->scale + 12, s));
}

KALM__INLINE int8x16_t kalm__bytes_neon(const unsigned char *p) { return vld1q_s8((const int8_t *)p); }

/* ---- plain tiles --------------------------------------------------------------------------------------- */

#define KALM__NEON_ZERO(r) int32x4_t c##r = vdupq_n_s32(0), d##r = c##r, e##r = c##r, f##r = c##r;
#define KALM__NEON_ZERO8(r) KALM__NEON_ZERO(r) int32x4_t g##r = c##r, h##r = c##r, i##r = c##r, j##r = c##r;
#define KALM__NEON_PUT(r) kalm__store_neon(job, r, c##r, d##r, e##r, f##r);

/* Two lines a pass: products of the first by x, to which those of the second by y are added, two registers of each at a time. The order
   is for cores that keep it, as Cortex-A53 does: what needs a product comes eight instructions behind it, loads before sums that wait
   for nothing. In asm, since compilers change it. */
#if KALM__NEON64 && defined(__GNUC__)
#  define KALM__SMULL(t, u, w, x) \
    __asm__ volatile("smull %0.8h, %2.8b, %3.8b\n\tsmull2 %1.8h, %2.16b, %3.16b" : "=&w"(t), "=w"(u) : "w"(w), "w"(x));
#  define KALM__SMLAL(t, u, w, x) \
    __asm__ volatile("smlal %0.8h, %2.8b, %3.8b\n\tsmlal2 %1.8h, %2.16b, %3.16b" : "+w"(t), "+w"(u) : "w"(w), "w"(x));
#  define KALM__SADALP(acc, t) __asm__ volatile("sadalp %0.4s, %1.8h" : "+w"(acc) : "w"(t));
#  define KALM__NEON_W(v, w, at) __asm__ volatile("ldp %q0, %q1, [%2, " #at "]" : "=w"(v), "=w"(w) : "r"(b) : "memory");
#  define KALM__NEON_X(x, lane) __asm__ volatile("dup %0.4s, %1.s[" #lane "]" : "=w"(x) : "w"(raw));
#else
#  define KALM__SMULL(t, u, w, x) t = vmull_s8(vget_low_s8(w), vget_low_s8(x)), u = vmull_s8(vget_high_s8(w), vget_high_s8(x));
#  define KALM__SMLAL(t, u, w, x) t = vmlal_s8(t, vget_low_s8(w), vget_low_s8(x)), u = vmlal_s8(u, vget_high_s8(w), vget_high_s8(x));
#  define KALM__SADALP(acc, t) acc = vpadalq_s16(acc, t);
#  define KALM__NEON_W(v, w, at) v = kalm__bytes_neon(b + at), w = kalm__bytes_neon(b + at + 16);
#  define KALM__NEON_X(x, lane) x = vreinterpretq_s8_s32(vdupq_n_s32(vgetq_lane_s32(vreinterpretq_s32_s8(raw), lane)));
#endif
#define KALM__NEON_DECLARE(r) int8x16_t x##r, y##r; int16x8_t k##r, l##r, m##r, n##r;
#define KALM__NEON_FIRST(r) KALM__SMULL(k##r, l##r, w0, x##r) KALM__SMULL(m##r, n##r, w1, x##r)
#define KALM__NEON_SECOND(r) KALM__SMLAL(k##r, l##r, w2, y##r) KALM__SMLAL(m##r, n##r, w3, y##r)
#define KALM__NEON_LOW(r) KALM__SADALP(c##r, k##r) KALM__SADALP(d##r, l##r) KALM__SADALP(e##r, m##r) KALM__SADALP(f##r, n##r)
#define KALM__NEON_HIGH(r) KALM__SADALP(g##r, k##r) KALM__SADALP(h##r, l##r) KALM__SADALP(i##r, m##r) KALM__SADALP(j##r, n##r)
#define KALM__NEON_RAW_1 raw = vcombine_s8(vld1_s8((const int8_t *)a), vdup_n_s8(0));
#define KALM__NEON_RAW_2 raw = kalm__bytes_neon(a);
#define KALM__NEON_XY_1 KALM__NEON_X(x0, 0) KALM__NEON_X(y0, 1)
#define KALM__NEON_XY_2 KALM__NEON_X(x0, 0) KALM__NEON_X(x1, 1) KALM__NEON_X(y0, 2) KALM__NEON_X(y1, 3)
#define KALM__NEON_LINES(n) KALM__NEON_RAW_##n KALM__NEON_W(w0, w1, 0) KALM__NEON_W(w2, w3, 64) KALM__NEON_XY_##n
#define KALM__NEON_PUT8(r) \
    kalm__store_neon(job, r, kalm__pairs_neon(c##r, d##r), kalm__pairs_neon(e##r, f##r), kalm__pairs_neon(g##r, h##r), \
                     kalm__pairs_neon(i##r, j##r));
#define KALM__NEON_PLAIN_TILE(n) \
    KALM__FN void kalm__q8_##n##x1_neon(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t steps = job->steps; \
        int8x16_t w0, w1, w2, w3, raw; \
        KALM__REP_##n(KALM__NEON_ZERO8) \
        KALM__REP_##n(KALM__NEON_DECLARE) \
        KALM__NEON_LINES(n) \
        do { \
            steps -= 2; \
            KALM__REP_##n(KALM__NEON_FIRST) KALM__REP_##n(KALM__NEON_SECOND) \
            KALM__NEON_W(w0, w1, 32) KALM__NEON_W(w2, w3, 96) \
            KALM__REP_##n(KALM__NEON_LOW) \
            KALM__REP_##n(KALM__NEON_FIRST) KALM__REP_##n(KALM__NEON_SECOND) \
            if (steps) a += 8 * n, b += 128;               /* the last lines are read twice */ \
            KALM__NEON_LINES(n) \
            KALM__REP_##n(KALM__NEON_HIGH) \
        } while (steps); \
        KALM__REP_##n(KALM__NEON_PUT8) \
    }
KALM__NEON_PLAIN_TILE(1)
#if KALM__NEON64
KALM__NEON_PLAIN_TILE(2)
#endif

static const kalm__tile_fn kalm__q8_tiles_neon[KALM__NEON_TILE] = {
    kalm__q8_1x1_neon
#if KALM__NEON64
    , kalm__q8_2x1_neon
#endif
};

/* ---- int16 tiles: smlal, 4 multiply-adds an instruction on every machine ------------------------------ */

#define KALM__WMLA_low(acc, w, lane) acc = vmlal_lane_s16(acc, vget_low_s16(w), x, lane);
#if KALM__NEON64
#  define KALM__WMLA_high(acc, w, lane) acc = vmlal_high_lane_s16(acc, w, x, lane);
#else
#  define KALM__WMLA_high(acc, w, lane) acc = vmlal_lane_s16(acc, vget_high_s16(w), x, lane);
#endif
/* x: two inputs of two rows, or of one row and the two behind them. u, v: input 0 and input 1 of outputs 0 to 7 and 8 to 15 */
#define KALM__INT16_X(i) x = vld1_s16((const int16_t *)(const void *)(a + 8 * (i)));
#define KALM__INT16_W(i) \
    u = vld2q_s16((const int16_t *)(const void *)(b + 64 * (i))); \
    v = vld2q_s16((const int16_t *)(const void *)(b + 64 * (i) + 32));
#define KALM__INT16_INPUT(r, i, lane) \
    KALM__WMLA_low(c##r, u.val[i], lane) KALM__WMLA_high(d##r, u.val[i], lane) \
    KALM__WMLA_low(e##r, v.val[i], lane) KALM__WMLA_high(f##r, v.val[i], lane)
#define KALM__INT16_FIRST(r) KALM__INT16_INPUT(r, 0, 0) KALM__INT16_INPUT(r, 1, 1)
#define KALM__INT16_SECOND(r) KALM__INT16_INPUT(r, 0, 2) KALM__INT16_INPUT(r, 1, 3)
#define KALM__NEON_INT16_TILE(n, at_once, body) \
    KALM__FN void kalm__int16_##n##x1_neon(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps; \
        KALM__REP_##n(KALM__NEON_ZERO) \
        for (step = 0; step < steps; step += at_once, a += 4 * n * at_once, b += 64 * at_once) { \
            int16x8x2_t u, v; \
            int16x4_t x; \
            body \
        } \
        KALM__REP_##n(KALM__NEON_PUT) \
    }

KALM__NEON_INT16_TILE(1, 2,
    KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0)
                     KALM__INT16_W(1) KALM__INT16_SECOND(0))
KALM__NEON_INT16_TILE(2, 1,
    KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0) KALM__INT16_SECOND(1))
#if KALM__NEON64
KALM__NEON_INT16_TILE(3, 2,
    KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0) KALM__INT16_SECOND(1)
    KALM__INT16_X(1)                  KALM__INT16_FIRST(2)
                     KALM__INT16_W(1) KALM__INT16_SECOND(0)
    KALM__INT16_X(2)                  KALM__INT16_FIRST(1) KALM__INT16_SECOND(2))
KALM__NEON_INT16_TILE(4, 1,
    KALM__INT16_X(0) KALM__INT16_W(0) KALM__INT16_FIRST(0) KALM__INT16_SECOND(1)
    KALM__INT16_X(1)                  KALM__INT16_FIRST(2) KALM__INT16_SECOND(3))
#endif

static const kalm__tile_fn kalm__int16_tiles_neon[KALM__NEON_WTILE] = {
    KALM__TILES_2(kalm__int16_, x1_neon)
#if KALM__NEON64
    , kalm__int16_3x1_neon, kalm__int16_4x1_neon
#endif
};

/* ---- sdot tiles ---------------------------------------------------------------------------------------- */

#if KALM__HAVE_DOT

/* acc + four products in each dword, the four inputs being dword `lane` (0..3) of x */
#if defined(__GNUC__)
#  define KALM__SDOT(acc, w, x, lane) \
    __asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(acc) : "w"(w), "w"(x))
#else
#  define KALM__SDOT(acc, w, x, lane) acc = vdotq_laneq_s32(acc, w, x, lane)
#endif

/* Rows are packed dword by dword, so one pass of the loop takes as many inputs as fill whole registers: x holds the four dwords at hand. */
#define KALM__DOT_X(i) x = kalm__bytes_neon(a + 16 * (i));
#define KALM__DOT_W(i) \
    w0 = kalm__bytes_neon(b + 64 * (i)), w1 = kalm__bytes_neon(b + 64 * (i) + 16); \
    w2 = kalm__bytes_neon(b + 64 * (i) + 32), w3 = kalm__bytes_neon(b + 64 * (i) + 48);
#define KALM__DOT_ROW(r, lane) \
    KALM__SDOT(c##r, w0, x, lane); KALM__SDOT(d##r, w1, x, lane); \
    KALM__SDOT(e##r, w2, x, lane); KALM__SDOT(f##r, w3, x, lane);
#define KALM__DOT_TILE_OF(n, at_once, body) \
    KALM__DOT KALM__FN void kalm__q8_##n##x1_dot(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps; \
        KALM__REP_##n(KALM__NEON_ZERO) \
        for (step = 0; step < steps; step += at_once, a += 4 * n * at_once, b += 64 * at_once) { \
            int8x16_t w0, w1, w2, w3, x; \
            body \
        } \
        KALM__REP_##n(KALM__NEON_PUT) \
    }

KALM__DOT_TILE_OF(1, 4,
    KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0)
                   KALM__DOT_W(1) KALM__DOT_ROW(0, 1)
                   KALM__DOT_W(2) KALM__DOT_ROW(0, 2)
                   KALM__DOT_W(3) KALM__DOT_ROW(0, 3))
KALM__DOT_TILE_OF(2, 2,
    KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1)
                   KALM__DOT_W(1) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3))
KALM__DOT_TILE_OF(3, 4,
    KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2)
                   KALM__DOT_W(1) KALM__DOT_ROW(0, 3)
    KALM__DOT_X(1)                KALM__DOT_ROW(1, 0) KALM__DOT_ROW(2, 1)
                   KALM__DOT_W(2) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3)
    KALM__DOT_X(2)                KALM__DOT_ROW(2, 0)
                   KALM__DOT_W(3) KALM__DOT_ROW(0, 1) KALM__DOT_ROW(1, 2) KALM__DOT_ROW(2, 3))
KALM__DOT_TILE_OF(4, 1,
    KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2) KALM__DOT_ROW(3, 3))
KALM__DOT_TILE_OF(5, 4,
    KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2) KALM__DOT_ROW(3, 3)
    KALM__DOT_X(1)                KALM__DOT_ROW(4, 0)
                   KALM__DOT_W(1) KALM__DOT_ROW(0, 1) KALM__DOT_ROW(1, 2) KALM__DOT_ROW(2, 3)
    KALM__DOT_X(2)                KALM__DOT_ROW(3, 0) KALM__DOT_ROW(4, 1)
                   KALM__DOT_W(2) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3)
    KALM__DOT_X(3)                KALM__DOT_ROW(2, 0) KALM__DOT_ROW(3, 1) KALM__DOT_ROW(4, 2)
                   KALM__DOT_W(3) KALM__DOT_ROW(0, 3)
    KALM__DOT_X(4)                KALM__DOT_ROW(1, 0) KALM__DOT_ROW(2, 1) KALM__DOT_ROW(3, 2) KALM__DOT_ROW(4, 3))
KALM__DOT_TILE_OF(6, 2,
    KALM__DOT_X(0) KALM__DOT_W(0) KALM__DOT_ROW(0, 0) KALM__DOT_ROW(1, 1) KALM__DOT_ROW(2, 2) KALM__DOT_ROW(3, 3)
    KALM__DOT_X(1)                KALM__DOT_ROW(4, 0) KALM__DOT_ROW(5, 1)
                   KALM__DOT_W(1) KALM__DOT_ROW(0, 2) KALM__DOT_ROW(1, 3)
    KALM__DOT_X(2)                KALM__DOT_ROW(2, 0) KALM__DOT_ROW(3, 1) KALM__DOT_ROW(4, 2) KALM__DOT_ROW(5, 3))

static const kalm__tile_fn kalm__q8_tiles_dot[KALM__DOT_TILE] = {
    KALM__TILES_6(kalm__q8_, x1_dot)
};

#endif

/* ---- smmla tiles --------------------------------------------------------------------------------------- */

#if KALM__HAVE_MM

/* acc [2 rows][2 outputs] + x [2 rows][8 inputs] times w [2 outputs][8 inputs] */
#if defined(__GNUC__)
#  define KALM__SMMLA(acc, x, w) \
    __asm__("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(x), "w"(w))
#else
#  define KALM__SMMLA(acc, x, w) acc = vmmlaq_s32(acc, x, w)
#endif

/* Eight accumulators a pair of rows, each 2 rows x 2 outputs; pair 0 is x0, c0..j0, and so on. */
#define KALM__MM_LOAD(r) x##r = kalm__bytes_neon(a + 16 * r);
#define KALM__MM_DECLARE(r) int8x16_t x##r;
#define KALM__MM_W_2(v, at) w = kalm__bytes_neon(b + at); KALM__SMMLA(v##0, x0, w); KALM__SMMLA(v##1, x1, w);
#define KALM__MM_W_3(v, at) KALM__MM_W_2(v, at) KALM__SMMLA(v##2, x2, w);
#define KALM__MM_JOIN(half, a, b) \
    vreinterpretq_s32_s64(vcombine_s64(vget_##half##_s64(vreinterpretq_s64_s32(a)), \
                                       vget_##half##_s64(vreinterpretq_s64_s32(b))))
#define KALM__MM_PUT(r) \
    kalm__store_neon(job, 2 * r, KALM__MM_JOIN(low, c##r, d##r), KALM__MM_JOIN(low, e##r, f##r), \
                     KALM__MM_JOIN(low, g##r, h##r), KALM__MM_JOIN(low, i##r, j##r)); \
    if (2 * r + 1 < rows) \
        kalm__store_neon(job, 2 * r + 1, KALM__MM_JOIN(high, c##r, d##r), KALM__MM_JOIN(high, e##r, f##r), \
                         KALM__MM_JOIN(high, g##r, h##r), KALM__MM_JOIN(high, i##r, j##r));
#define KALM__MM_TILE(pairs) \
    KALM__MM KALM__FN void kalm__q8_##pairs##x1_i8mm(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps, rows = job->height; \
        KALM__REP_##pairs(KALM__NEON_ZERO8) \
        for (step = 0; step < steps; step += 2, a += 16 * pairs, b += 128) { \
            int8x16_t w; \
            KALM__REP_##pairs(KALM__MM_DECLARE) \
            KALM__REP_##pairs(KALM__MM_LOAD) \
            KALM__MM_W_##pairs(c, 0) KALM__MM_W_##pairs(d, 16) KALM__MM_W_##pairs(e, 32) KALM__MM_W_##pairs(f, 48) \
            KALM__MM_W_##pairs(g, 64) KALM__MM_W_##pairs(h, 80) KALM__MM_W_##pairs(i, 96) KALM__MM_W_##pairs(j, 112) \
        } \
        KALM__REP_##pairs(KALM__MM_PUT) \
    }
KALM__MM_TILE(2) KALM__MM_TILE(3)

/* by rows; those of up to KALM__MM_DIRECT are sdot's */
static const kalm__tile_fn kalm__q8_tiles_i8mm[KALM__DOT_TILE] = {
    NULL, NULL, NULL, kalm__q8_2x1_i8mm, kalm__q8_3x1_i8mm, kalm__q8_3x1_i8mm
};

/* A q8 panel [cols32 / 4][16][4] as [cols32 / 8][16][8] */
KALM__FN void kalm__zip_neon(const unsigned char *panel, size_t n, unsigned char *out)
{
    size_t line, i;
    for (line = 0; line < n; line += 2, panel += 128, out += 128)
        for (i = 0; i < 4; i++) {
            int32x4_t a = vreinterpretq_s32_s8(kalm__bytes_neon(panel + 16 * i));
            int32x4_t b = vreinterpretq_s32_s8(kalm__bytes_neon(panel + 64 + 16 * i));
            vst1q_s32((int32_t *)(void *)(out + 32 * i), vzip1q_s32(a, b));
            vst1q_s32((int32_t *)(void *)(out + 32 * i + 16), vzip2q_s32(a, b));
        }
}
#endif

/* ---- q4 ------------------------------------------------------------------------------------------------ */

/* 16 nibbles in bytes: codebook entries times their outputs' multipliers; vrshrn is the rounding blocks.h asks for. */
KALM__INLINE void kalm__q4_bytes_neon(unsigned char *out, uint8x16_t nibbles, int8x16_t codebook, int8x16_t m)
{
    int8x16_t v;
#if KALM__NEON64
    v = vqtbl1q_s8(codebook, nibbles);
#else
    int8x8x2_t table;
    table.val[0] = vget_low_s8(codebook), table.val[1] = vget_high_s8(codebook);
    v = vcombine_s8(vtbl2_s8(table, vreinterpret_s8_u8(vget_low_u8(nibbles))),
                    vtbl2_s8(table, vreinterpret_s8_u8(vget_high_u8(nibbles))));
#endif
    vst1q_s8((int8_t *)out, vcombine_s8(vrshrn_n_s16(vmull_s8(vget_low_s8(v), vget_low_s8(m)), 6),
                                        vrshrn_n_s16(vmull_s8(vget_high_s8(v), vget_high_s8(m)), 6)));
}

KALM__FN void kalm__unpack_q4_neon(uint32_t type, const void *panel, size_t cols, void *out)
{
    size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t, i;
    const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
    unsigned char *q = (unsigned char *)out;
    int8x16_t codebook = vld1q_s8(kalm__q4_codebook);
    (void)type;
    for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
        uint8x16_t bytes = vld1q_u8(m);
        uint8x16x2_t twice = vzipq_u8(bytes, bytes);
        uint16x8x2_t low = vzipq_u16(vreinterpretq_u16_u8(twice.val[0]), vreinterpretq_u16_u8(twice.val[0]));
        uint16x8x2_t high = vzipq_u16(vreinterpretq_u16_u8(twice.val[1]), vreinterpretq_u16_u8(twice.val[1]));
        int8x16_t of[4];
        of[0] = vreinterpretq_s8_u16(low.val[0]), of[1] = vreinterpretq_s8_u16(low.val[1]);
        of[2] = vreinterpretq_s8_u16(high.val[0]), of[3] = vreinterpretq_s8_u16(high.val[1]);
        for (t = 0; t < 4; t++)
            for (i = 0; i < 4; i++) {
                uint8x16_t v = vld1q_u8(nibbles + 64 * t + 16 * i);
                kalm__q4_bytes_neon(q + 64 * t + 16 * i, vandq_u8(v, vdupq_n_u8(15)), codebook, of[i]);
                kalm__q4_bytes_neon(q + 64 * (t + 4) + 16 * i, vshrq_n_u8(v, 4), codebook, of[i]);
            }
    }
}

/* ---- float tiles --------------------------------------------------------------------------------------- */

KALM__INLINE float32x4_t kalm__fma_neon(float32x4_t acc, float32x4_t x, float32x4_t w)
{
#if KALM__NEON64
    return vfmaq_f32(acc, x, w);
#else
    return vmlaq_f32(acc, x, w);
#endif
}

#define KALM__NEON_FZERO(r) float32x4_t c##r = vdupq_n_f32(0.0f), d##r = c##r, e##r = c##r, f##r = c##r;
#define KALM__NEON_FSTEP(r) \
    x = vld1q_dup_f32(a + r); \
    c##r = kalm__fma_neon(c##r, x, w0); \
    d##r = kalm__fma_neon(d##r, x, w1); \
    e##r = kalm__fma_neon(e##r, x, w2); \
    f##r = kalm__fma_neon(f##r, x, w3);
#define KALM__NEON_FPUT(r) kalm__write_neon(job, r, c##r, d##r, e##r, f##r);
#define KALM__NEON_FTILE_OF(n) \
    KALM__FN void kalm__f32_##n##x1_neon(const kalm__tile_job *job) \
    { \
        const float *a = (const float *)(const void *)job->acts, *b = (const float *)(const void *)job->weights; \
        size_t step, steps = job->steps; \
        KALM__REP_##n(KALM__NEON_FZERO) \
        for (step = 0; step < steps; step++, a += n, b += 16) { \
            float32x4_t w0 = vld1q_f32(b), w1 = vld1q_f32(b + 4), w2 = vld1q_f32(b + 8), w3 = vld1q_f32(b + 12), x; \
            KALM__REP_##n(KALM__NEON_FSTEP) \
        } \
        KALM__REP_##n(KALM__NEON_FPUT) \
    }
KALM__NEON_FTILE_OF(1) KALM__NEON_FTILE_OF(2)
#if KALM__NEON64
KALM__NEON_FTILE_OF(3) KALM__NEON_FTILE_OF(4) KALM__NEON_FTILE_OF(5) KALM__NEON_FTILE_OF(6)
#endif

static const kalm__tile_fn kalm__f32_tiles_neon[KALM__NEON_FTILE] = {
    KALM__TILES_2(kalm__f32_, x1_neon)
#if KALM__NEON64
    , kalm__f32_3x1_neon, kalm__f32_4x1_neon, kalm__f32_5x1_neon, kalm__f32_6x1_neon
#endif
};

KALM__FN void kalm__unpack_half_neon(uint32_t type, const void *panel, size_t cols, void *out)
{
    const uint16_t *half = (const uint16_t *)panel;
    float *v = (float *)out;
    size_t k;
    if (type == KALM__BF16)
        for (k = 0; k < 16 * cols; k += 4)
            vst1q_f32(v + k, vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(vld1_u16(half + k)), 16)));
    else
        for (k = 0; k < 16 * cols; k += 4) {
#if KALM__NEON64
            vst1q_f32(v + k, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half + k))));
#else                                  /* the conversion is an extension there */
            v[k] = kalm__from_f16(half[k]), v[k + 1] = kalm__from_f16(half[k + 1]);
            v[k + 2] = kalm__from_f16(half[k + 2]), v[k + 3] = kalm__from_f16(half[k + 3]);
#endif
        }
}

/* ---- the sets -------------------------------------------------------------------------------------------- */

static const kalm__tiles kalm__tiles_f32_neon = {
    KALM__NEON_FTILE, 0, 0,
    KALM__F32, KALM__F32, 4, 0, 0,
    NULL, kalm__pack_floats, kalm__unpack_half_neon, NULL,
    NULL, kalm__f32_tiles_neon, NULL, NULL
};
static const kalm__tiles kalm__tiles_q8_neon = {
    KALM__NEON_TILE, 0, 0,
    KALM__Q8, KALM__Q8, 1, 0, 0,
    kalm__row_scales_neon, kalm__pack_q8_neon, kalm__unpack_q4_neon, NULL,
    NULL, kalm__q8_tiles_neon, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_neon = {
    KALM__NEON_WTILE, 0, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    kalm__row_scales_neon, kalm__pack_q16_neon, NULL, NULL,
    NULL, kalm__int16_tiles_neon, NULL, NULL
};
static const kalm__kernels kalm__kernels_neon = {
    "neon", &kalm__table_neon,
    { &kalm__tiles_f32_neon, &kalm__tiles_f32_neon, &kalm__tiles_f32_neon,
      &kalm__tiles_q8_neon, &kalm__tiles_q8_neon, &kalm__tiles_q16_neon },
    kalm__pack_split16_neon, kalm__multiply_high_neon
};

#if KALM__HAVE_DOT
static const kalm__tiles kalm__tiles_q8_dotprod = {
    KALM__DOT_TILE, 0, 0,
    KALM__Q8, KALM__Q8, 1, 0, 0,
    kalm__row_scales_neon, kalm__pack_q8_neon, kalm__unpack_q4_neon, NULL,
    NULL, kalm__q8_tiles_dot, NULL, NULL
};
static const kalm__kernels kalm__kernels_dotprod = {
    "dotprod", &kalm__table_neon,
    { &kalm__tiles_f32_neon, &kalm__tiles_f32_neon, &kalm__tiles_f32_neon,
      &kalm__tiles_q8_dotprod, &kalm__tiles_q8_dotprod, &kalm__tiles_q16_neon },
    kalm__pack_split16_neon, kalm__multiply_high_neon
};
#endif

#if KALM__HAVE_DOT && KALM__HAVE_MM
static const kalm__tiles kalm__tiles_q8_i8mm = {
    KALM__DOT_TILE, 1, KALM__MM_DIRECT,
    KALM__Q8, KALM__Q8, 1, 0, 0,
    kalm__row_scales_neon, kalm__pack_q8_i8mm, kalm__unpack_q4_neon, kalm__zip_neon,
    kalm__q8_tiles_dot, kalm__q8_tiles_i8mm, NULL, NULL
};
static const kalm__kernels kalm__kernels_i8mm = {
    "i8mm", &kalm__table_neon,
    { &kalm__tiles_f32_neon, &kalm__tiles_f32_neon, &kalm__tiles_f32_neon,
      &kalm__tiles_q8_i8mm, &kalm__tiles_q8_i8mm, &kalm__tiles_q16_neon },
    kalm__pack_split16_i8mm, kalm__multiply_high_neon
};
#endif

#endif
#endif
