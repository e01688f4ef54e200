/* ops.h - the float work between matmuls (norms, rotary, GeGLU, softmax pieces, dots), for every instruction set: the
   vector vocabularies, and the choice of one table. The algorithms stand in ops_template.h; all tables give the same bits. */
/* docs/KERNELS.md: */
/* The vocabulary that is defined here for each set:
     KALM__V(name)           the function `name` of this set           KALM__VT   what stands before its functions
     KALM__VF                a vector of KALM__W floats, 4, 8 or 16
     KALM__LOAD(p), KALM__STORE(p, v), KALM__SET(x): x in every lane
     KALM__SHORT(what)       how load_some and store_some take less than a vector: KALM__BUFFER_##what, or masks
     KALM__ADD, KALM__SUB    each rounded here, whatever the compiler's flags allow it to fold
     KALM__MUL               rounded before it goes into a sum
     KALM__MIN, KALM__MAX    of (v, l): l where v is NaN
     KALM__BELOW(v, l)       v where it is below l, else 0
     KALM__NEAREST(v)        the whole number nearest to v, ties to even, for |v| < 2^22
     KALM__STORE8(p, v), KALM__STORE16(p, v)   whole numbers within the type, as int8, as int16
     KALM__SCALE2(v, m)      the bits of v plus 2^23 times the last bits of m
     KALM__BITS(c, v)        the whole number c minus the bits of v
     KALM__SUM(v)            the upper half of the lanes is added to the lower until one is left
     KALM__HMAX(v)           the largest lane
     KALM__INTERLEAVED       the table's function interleave, which may be another set's
     KALM__HADAMARD(v)       butterflies between lanes: lane i becomes the Walsh-Hadamard sum i of them

   Every set leaves the same bits: operations are IEEE's, none is fused, and a sum has 32 lanes, of which lane l adds
   elements l, l + 32, ..., and then l + 16, l + 8, l + 4, l + 2, l + 1 are added to it. So a row gives the same wherever it
   stands, on any machine. (ARMv7's vectors take subnormal numbers for zero. None of 2^-100 and more depends on one.) */
/* end of docs/KERNELS.md */
#ifndef KALM__OPS_H
#define KALM__OPS_H

#include "base.h"
#include "exact.h"
#include "kernels.h"

#if KALM__X86
#  include <immintrin.h>
#endif
#if KALM__NEON
#  include <arm_neon.h>
#endif
#if KALM__WASM
#  include <wasm_simd128.h>
#endif

/* Contracts at the functions' definitions in ops_template.h. */
typedef struct kalm__ops {
    void  (*rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps, size_t rows);
    void  (*add_norm)(float *x, const float *y, const float *gain, size_t n, float eps, size_t rows);
    void  (*norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale, const float *angles,
                      size_t heads);
    void  (*add_angles)(float *out, const float *a, const float *b, size_t half);
    void  (*geglu)(float *h, const float *gate, const float *up, size_t n);
    float (*row_max)(const float *x, size_t n);
    float (*exp_sum)(float *p, size_t n, float top, const float *scale, float *most);
    float (*sum_below)(const float *p, size_t n, float limit, float *all);
    void  (*scale_add)(float *y, float scale, const float *x, size_t n);
    void  (*scale_row)(float *y, const float *x, float scale, size_t n);
    float (*dot)(const float *x, const float *y, size_t n);
    void  (*hadamard)(float *y, const float *x, size_t n);
    float (*quantise)(int8_t *q, const float *x, size_t n);
    float (*quantise_int16)(int16_t *q, const float *x, size_t n, float most);
    void  (*rounding_loss)(float *y, const float *x, size_t n);
    void  (*interleave)(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d);
    void  (*add_split16)(float *out, const float *y, float scale, float unit, const float *high, const float *low, float finish,
                      size_t n);
    void  (*trellis)(float *cost, int16_t *floors, int16_t *from, const float *y, const float *unit, const float *rate,
                     const uint8_t *classes, size_t n, size_t rows);
} kalm__ops;

enum {
    KALM__TRELLIS = 16,                /* rows of a trellis, a multiple of every KALM__W */
    KALM__NORMED = 4                   /* rows normed side by side */
};

/* docs/KERNELS.md: */
/* Rotation. The input rows of quantised matrices go through a blockwise orthonormal Walsh-Hadamard transform: one
   outlying channel then spreads over its block instead of setting the scale of the whole row, and the matrix was rotated
   as well when it was made, so the product is unchanged. Measured on the tiny model at r = 4 / 32, Kendall
   tau to float32: one scale a row .985 / .977, with groups of 32 .991 / .985, with this .994 / .992.
   Blocks of 64, then the rest in the largest powers of two (96 = 64 + 32, 18 = 16 + 2). Its own inverse. */
/* end of docs/KERNELS.md */
#define KALM__ROTATION 64u

/* One block of n = 2^k <= 64 numbers. */
KALM__FN void kalm__hadamard_block(float *x, size_t n)
{
    size_t half, i, j;
    float scale = kalm__over(1.0f, kalm__root((float)n));
    for (half = 1; half < n; half *= 2)
        for (i = 0; i < n; i += 2 * half)
            for (j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = kalm__plus(a, b);
                x[j + half] = kalm__plus(a, -b);
            }
    for (i = 0; i < n; i++) x[i] = kalm__times(x[i], scale);
}
KALM__FN void kalm__hadamard_rest(float *x, size_t n)
{
    while (n) {
        size_t block = KALM__ROTATION;
        while (block > n) block /= 2;
        kalm__hadamard_block(x, block);
        x += block;
        n -= block;
    }
}

/* ---- plain C: four floats at a time, so that the lanes are those of the other sets ------------------------------------ */

typedef struct kalm__four {
    float v[4];
} kalm__four;

KALM__INLINE kalm__four kalm__four_of(float a, float b, float c, float d)
{
    kalm__four r;
    r.v[0] = a, r.v[1] = b, r.v[2] = c, r.v[3] = d;
    return r;
}
KALM__INLINE kalm__four kalm__load_four(const float *p) { return kalm__four_of(p[0], p[1], p[2], p[3]); }
KALM__INLINE void kalm__store_four(float *p, kalm__four a)
{
    p[0] = a.v[0], p[1] = a.v[1], p[2] = a.v[2], p[3] = a.v[3];
}
#define KALM__FOUR(name, expression) \
    KALM__INLINE float kalm__lane_##name(float x, float y) { return expression; } \
    KALM__INLINE kalm__four kalm__##name##_four(kalm__four a, kalm__four b) \
    { \
        return kalm__four_of(kalm__lane_##name(a.v[0], b.v[0]), kalm__lane_##name(a.v[1], b.v[1]), \
                             kalm__lane_##name(a.v[2], b.v[2]), kalm__lane_##name(a.v[3], b.v[3])); \
    }
KALM__FOUR(add, kalm__plus(x, y))
KALM__FOUR(sub, kalm__plus(x, -y))
KALM__FOUR(mul, kalm__times(x, y))
KALM__FOUR(min, x < y ? x : y)
KALM__FOUR(max, x > y ? x : y)
KALM__FOUR(below, x < y ? x : 0.0f)
KALM__INLINE uint32_t kalm__bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
KALM__INLINE float kalm__of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
KALM__FOUR(scale2, kalm__of_bits(kalm__bits(x) + (kalm__bits(y) << 23)))
KALM__FOUR(bits, kalm__of_bits(kalm__bits(x) - kalm__bits(y)))
KALM__INLINE float kalm__sum_four(kalm__four a)
{
    return kalm__plus(kalm__plus(a.v[0], a.v[2]), kalm__plus(a.v[1], a.v[3]));
}
KALM__INLINE float kalm__hmax_four(kalm__four a)
{
    return kalm__lane_max(kalm__lane_max(a.v[0], a.v[1]), kalm__lane_max(a.v[2], a.v[3]));
}
KALM__INLINE kalm__four kalm__lanes_four(kalm__four a)
{
    float p = kalm__plus(a.v[0], a.v[1]), m = kalm__plus(a.v[0], -a.v[1]);
    float q = kalm__plus(a.v[2], a.v[3]), n = kalm__plus(a.v[2], -a.v[3]);
    return kalm__four_of(kalm__plus(p, q), kalm__plus(m, n), kalm__plus(p, -q), kalm__plus(m, -n));
}
/* NaN, which a conversion must not get, is caught by the comparisons of the callers' limits: it became one of them. */
KALM__INLINE void kalm__store8_four(int8_t *p, kalm__four a)
{
    p[0] = (int8_t)a.v[0], p[1] = (int8_t)a.v[1], p[2] = (int8_t)a.v[2], p[3] = (int8_t)a.v[3];
}
KALM__INLINE void kalm__store16_four(int16_t *p, kalm__four a)
{
    p[0] = (int16_t)a.v[0], p[1] = (int16_t)a.v[1], p[2] = (int16_t)a.v[2], p[3] = (int16_t)a.v[3];
}

KALM__FN void kalm__interleave_scalar(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d)
{
    size_t i;
    for (i = 0; i < 16; i++, line += 4) {
        line[0] = (unsigned char)a[i], line[1] = (unsigned char)b[i];
        line[2] = (unsigned char)c[i], line[3] = (unsigned char)d[i];
    }
}

#define KALM__V(name) kalm__##name##_scalar
#define KALM__INTERLEAVED kalm__interleave_scalar
#define KALM__VT
#define KALM__VF kalm__four
#define KALM__W 4
#define KALM__LOAD(p) kalm__load_four(p)
#define KALM__STORE(p, v) kalm__store_four(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) kalm__four_of(x, x, x, x)
#define KALM__ADD(a, b) kalm__add_four(a, b)
#define KALM__SUB(a, b) kalm__sub_four(a, b)
#define KALM__MUL(a, b) kalm__mul_four(a, b)
#define KALM__MIN(a, b) kalm__min_four(a, b)
#define KALM__MAX(a, b) kalm__max_four(a, b)
#define KALM__SCALE2(v, m) kalm__scale2_four(v, m)
#define KALM__BITS(c, v) kalm__bits_four(KALM__SET(kalm__of_bits(c)), v)
#define KALM__BELOW(v, l) kalm__below_four(v, l)
#define KALM__SUM(a) kalm__sum_four(a)
#define KALM__HMAX(a) kalm__hmax_four(a)
#define KALM__HADAMARD(a) kalm__lanes_four(a)
#define KALM__STORE8(p, v) kalm__store8_four(p, v)
#define KALM__STORE16(p, v) kalm__store16_four(p, v)
#include "ops_template.h"

/* An operation on vectors, rounded here: see KALM__FENCE. */
#define KALM__FENCED(name, type, operation) \
    KALM__VT KALM__INLINE type kalm__##name(type a, type b) \
    { \
        a = operation(a, b); \
        KALM__FENCE_V(a); \
        return a; \
    }

/* ---- AVX2 ------------------------------------------------------------------------------------------------------------ */

#if KALM__X86

#define KALM__VT KALM__TARGET("avx2")
KALM__FENCED(add_avx2, __m256, _mm256_add_ps)
KALM__FENCED(sub_avx2, __m256, _mm256_sub_ps)
KALM__FENCED(mul_avx2, __m256, _mm256_mul_ps)
KALM__VT KALM__INLINE float kalm__sum_avx2(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    KALM__FENCE_V(s);
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    KALM__FENCE_V(s);
    return kalm__rounded(_mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s))));
}
KALM__VT KALM__INLINE float kalm__hmax_avx2(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* Stage by stage: the partner lanes in one vector, the own ones with their signs in another. */
KALM__VT KALM__INLINE __m256 kalm__lanes_avx2(__m256 v)
{
    const __m256 flip1 = _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
    const __m256 flip2 = _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
    const __m256 flip4 = _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
    v = kalm__add_avx2(_mm256_xor_ps(v, flip1), _mm256_permute_ps(v, 0xb1));
    v = kalm__add_avx2(_mm256_xor_ps(v, flip2), _mm256_permute_ps(v, 0x4e));
    return kalm__add_avx2(_mm256_xor_ps(v, flip4), _mm256_permute2f128_ps(v, v, 1));
}
KALM__VT KALM__INLINE __m128i kalm__int16_avx2(__m256 v)
{
    __m256i w = _mm256_cvtps_epi32(v);
    return _mm_packs_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
}
KALM__VT KALM__FN void kalm__interleave_avx2(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c,
                                             const int8_t *d)
{
    __m128i va = _mm_loadu_si128((const __m128i *)(const void *)a), vb = _mm_loadu_si128((const __m128i *)(const void *)b);
    __m128i vc = _mm_loadu_si128((const __m128i *)(const void *)c), vd = _mm_loadu_si128((const __m128i *)(const void *)d);
    __m128i ab = _mm_unpacklo_epi8(va, vb), cd = _mm_unpacklo_epi8(vc, vd), *out = (__m128i *)(void *)line;
    _mm_storeu_si128(out, _mm_unpacklo_epi16(ab, cd));
    _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(ab, cd));
    ab = _mm_unpackhi_epi8(va, vb), cd = _mm_unpackhi_epi8(vc, vd);
    _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(ab, cd));
    _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(ab, cd));
}
#define KALM__V(name) kalm__##name##_avx2
#define KALM__INTERLEAVED kalm__interleave_avx2
#define KALM__VF __m256
#define KALM__W 8
#define KALM__LOAD(p) _mm256_loadu_ps(p)
#define KALM__STORE(p, v) _mm256_storeu_ps(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) _mm256_set1_ps(x)
#define KALM__ADD(a, b) kalm__add_avx2(a, b)
#define KALM__SUB(a, b) kalm__sub_avx2(a, b)
#define KALM__MUL(a, b) kalm__mul_avx2(a, b)
#define KALM__MIN(a, b) _mm256_min_ps(a, b)
#define KALM__MAX(a, b) _mm256_max_ps(a, b)
#define KALM__SCALE2(v, m) \
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_castps_si256(m), 23)))
#define KALM__BITS(c, v) _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(c), _mm256_castps_si256(v)))
#define KALM__BELOW(v, l) _mm256_and_ps(_mm256_cmp_ps(v, l, _CMP_LT_OQ), v)
#define KALM__SUM(a) kalm__sum_avx2(a)
#define KALM__HMAX(a) kalm__hmax_avx2(a)
#define KALM__HADAMARD(a) kalm__lanes_avx2(a)
#define KALM__STORE8(p, v) \
    _mm_storel_epi64((__m128i *)(void *)(p), _mm_packs_epi16(kalm__int16_avx2(v), _mm_setzero_si128()))
#define KALM__STORE16(p, v) _mm_storeu_si128((__m128i *)(void *)(p), kalm__int16_avx2(v))
#endif /* KALM__X86 */

/* ---- NEON ---------------------------------------------------------------------------------------------------------- */

#if KALM__NEON
#define KALM__VT
KALM__FENCED(add_neon, float32x4_t, vaddq_f32)
KALM__FENCED(sub_neon, float32x4_t, vsubq_f32)
KALM__FENCED(mul_neon, float32x4_t, vmulq_f32)
KALM__INLINE float kalm__sum_neon(float32x4_t v)
{
    float32x2_t s = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    KALM__FENCE_V(s);
    return kalm__plus(vget_lane_f32(s, 0), vget_lane_f32(s, 1));
}
KALM__INLINE float kalm__hmax_neon(float32x4_t v)
{
    float32x2_t s = vmax_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(s, 0) > vget_lane_f32(s, 1) ? vget_lane_f32(s, 0) : vget_lane_f32(s, 1);
}
KALM__INLINE float32x4_t kalm__lanes_neon(float32x4_t v)
{
    static const uint32_t signs[8] = { 0, 0x80000000u, 0, 0x80000000u, 0, 0, 0x80000000u, 0x80000000u };
    v = kalm__add_neon(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(signs))), vrev64q_f32(v));
    return kalm__add_neon(vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(v), vld1q_u32(signs + 4))), vextq_f32(v, v, 2));
}
KALM__INLINE void kalm__store8_neon(int8_t *p, float32x4_t v)
{
    int16x4_t w = vmovn_s32(vcvtq_s32_f32(v));
    int8x8_t b = vmovn_s16(vcombine_s16(w, w));
    vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(b), 0);
}
KALM__FN void kalm__interleave_neon(unsigned char *line, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d)
{
    int8x16x4_t all;
    all.val[0] = vld1q_s8(a), all.val[1] = vld1q_s8(b), all.val[2] = vld1q_s8(c), all.val[3] = vld1q_s8(d);
    vst4q_s8((int8_t *)line, all);
}
#define KALM__V(name) kalm__##name##_neon
#define KALM__INTERLEAVED kalm__interleave_neon
#define KALM__VF float32x4_t
#define KALM__W 4
#define KALM__LOAD(p) vld1q_f32(p)
#define KALM__STORE(p, v) vst1q_f32(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) vdupq_n_f32(x)
#define KALM__ADD(a, b) kalm__add_neon(a, b)
#define KALM__SUB(a, b) kalm__sub_neon(a, b)
#define KALM__MUL(a, b) kalm__mul_neon(a, b)
#define KALM__MIN(a, b) vminq_f32(a, b)
#define KALM__MAX(a, b) vmaxq_f32(a, b)
#define KALM__SCALE2(v, m) \
    vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(v), vshlq_n_u32(vreinterpretq_u32_f32(m), 23)))
#define KALM__BITS(c, v) vreinterpretq_f32_u32(vsubq_u32(vdupq_n_u32(c), vreinterpretq_u32_f32(v)))
#define KALM__BELOW(v, l) vreinterpretq_f32_u32(vandq_u32(vcltq_f32(v, l), vreinterpretq_u32_f32(v)))
#define KALM__SUM(a) kalm__sum_neon(a)
#define KALM__HMAX(a) kalm__hmax_neon(a)
#define KALM__HADAMARD(a) kalm__lanes_neon(a)
#define KALM__STORE8(p, v) kalm__store8_neon(p, v)
#define KALM__STORE16(p, v) vst1_s16(p, vmovn_s32(vcvtq_s32_f32(v)))
#endif

/* ---- WebAssembly --------------------------------------------------------------------------------------------------- */

#if KALM__WASM
#define KALM__VT
KALM__FENCED(add_wasm, v128_t, wasm_f32x4_add)
KALM__FENCED(sub_wasm, v128_t, wasm_f32x4_sub)
KALM__FENCED(mul_wasm, v128_t, wasm_f32x4_mul)
KALM__INLINE float kalm__sum_wasm(v128_t v)
{
    return kalm__plus(kalm__plus(wasm_f32x4_extract_lane(v, 0), wasm_f32x4_extract_lane(v, 2)),
                      kalm__plus(wasm_f32x4_extract_lane(v, 1), wasm_f32x4_extract_lane(v, 3)));
}
KALM__INLINE float kalm__hmax_wasm(v128_t v)
{
    v128_t s = wasm_f32x4_pmax(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    s = wasm_f32x4_pmax(s, wasm_i32x4_shuffle(s, s, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(s, 0);
}
KALM__INLINE v128_t kalm__lanes_wasm(v128_t v)
{
    const v128_t flip1 = wasm_f32x4_make(0.0f, -0.0f, 0.0f, -0.0f), flip2 = wasm_f32x4_make(0.0f, 0.0f, -0.0f, -0.0f);
    v = kalm__add_wasm(wasm_v128_xor(v, flip1), wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
    return kalm__add_wasm(wasm_v128_xor(v, flip2), wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
}
KALM__INLINE v128_t kalm__int16_wasm(v128_t v)
{
    v = wasm_i32x4_trunc_sat_f32x4(v);
    return wasm_i16x8_narrow_i32x4(v, v);
}
#define KALM__V(name) kalm__##name##_wasm
#define KALM__INTERLEAVED kalm__interleave_scalar
#define KALM__VF v128_t
#define KALM__W 4
#define KALM__LOAD(p) wasm_v128_load(p)
#define KALM__STORE(p, v) wasm_v128_store(p, v)
#define KALM__SHORT(what) KALM__BUFFER_##what
#define KALM__SET(x) wasm_f32x4_splat(x)
#define KALM__ADD(a, b) kalm__add_wasm(a, b)
#define KALM__SUB(a, b) kalm__sub_wasm(a, b)
#define KALM__MUL(a, b) kalm__mul_wasm(a, b)
/* one instruction each, where min and max, which must order zeros and NaN, take many */
#define KALM__MIN(a, b) wasm_f32x4_pmin(b, a)
#define KALM__MAX(a, b) wasm_f32x4_pmax(b, a)
#define KALM__SCALE2(v, m) wasm_i32x4_add(v, wasm_i32x4_shl(m, 23))
#define KALM__BITS(c, v) wasm_i32x4_sub(wasm_i32x4_splat(c), v)
#define KALM__BELOW(v, l) wasm_v128_and(wasm_f32x4_lt(v, l), v)
#define KALM__SUM(a) kalm__sum_wasm(a)
#define KALM__HMAX(a) kalm__hmax_wasm(a)
#define KALM__HADAMARD(a) kalm__lanes_wasm(a)
#define KALM__STORE8(p, v) wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(kalm__int16_wasm(v), kalm__int16_wasm(v)), 0)
#define KALM__STORE16(p, v) wasm_v128_store64_lane(p, kalm__int16_wasm(v), 0)
#endif

/* What the target has of these: none, or one. */
#ifdef KALM__VF
#include "ops_template.h"
#endif

/* ---- AVX-512 ---------------------------------------------------------------------------------------------------------- */

#if KALM__HAVE_AVX512
#define KALM__VT KALM__TARGET(KALM__AVX512F ",avx512bw,avx512vl,avx512dq,avx2")
KALM__FENCED(add_avx512, __m512, _mm512_add_ps)
KALM__FENCED(sub_avx512, __m512, _mm512_sub_ps)
KALM__FENCED(mul_avx512, __m512, _mm512_mul_ps)
KALM__VT KALM__INLINE float kalm__sum_avx512(__m512 v)
{
    return kalm__sum_avx2(kalm__add_avx2(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)));
}
KALM__VT KALM__INLINE float kalm__hmax_avx512(__m512 v)
{
    __m256 w = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* A product with 1 or -1 is exact: here fusing changes nothing. */
KALM__VT KALM__INLINE __m512 kalm__lanes_avx512(__m512 v)
{
    const __m512 flip1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1);
    const __m512 flip2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1);
    const __m512 flip4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
    const __m512 flip8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
    v = _mm512_fmadd_ps(v, flip1, _mm512_permute_ps(v, 0xb1));
    v = _mm512_fmadd_ps(v, flip2, _mm512_permute_ps(v, 0x4e));
    v = _mm512_fmadd_ps(v, flip4, _mm512_shuffle_f32x4(v, v, 0xb1));
    return _mm512_fmadd_ps(v, flip8, _mm512_shuffle_f32x4(v, v, 0x4e));
}
#define KALM__V(name) kalm__##name##_avx512
#define KALM__INTERLEAVED kalm__interleave_avx2
#define KALM__VF __m512
#define KALM__W 16
#define KALM__LOAD(p) _mm512_loadu_ps(p)
#define KALM__STORE(p, v) _mm512_storeu_ps(p, v)
#define KALM__SHORT(what) KALM__MASK_##what
#define KALM__MASK_loading _mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)((1u << n) - 1), p)
#define KALM__MASK_storing _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v)
#define KALM__SET(x) _mm512_set1_ps(x)
#define KALM__ADD(a, b) kalm__add_avx512(a, b)
#define KALM__SUB(a, b) kalm__sub_avx512(a, b)
#define KALM__MUL(a, b) kalm__mul_avx512(a, b)
#define KALM__MIN(a, b) _mm512_min_ps(a, b)
#define KALM__MAX(a, b) _mm512_max_ps(a, b)
#define KALM__SCALE2(v, m) \
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32(_mm512_castps_si512(m), 23)))
#define KALM__BITS(c, v) _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(c), _mm512_castps_si512(v)))
#define KALM__BELOW(v, l) _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, l, _CMP_LT_OQ), v)
#define KALM__SUM(a) kalm__sum_avx512(a)
#define KALM__HMAX(a) kalm__hmax_avx512(a)
#define KALM__HADAMARD(a) kalm__lanes_avx512(a)
#define KALM__STORE8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)))
#define KALM__STORE16(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)))
#include "ops_template.h"
#endif

#endif
