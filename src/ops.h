/* ops.h - the float work between matmuls (norms, rotary, GeGLU, softmax pieces, dots), for every instruction set: the
   vector vocabularies, and the choice of one table. The algorithms stand in ops_template.h. */
#ifndef KALM__OPS_H
#define KALM__OPS_H

#include "base.h"
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
    void  (*rms_norm)(float *y, const float *x, const float *gain, size_t n, float eps);
    void  (*add_norm)(float *x, const float *y, const float *gain, size_t n, float eps);
    void  (*norm_rotate)(float *y, const float *x, const float *gain, size_t dim, float eps, float scale,
                         const float *cosine, const float *sine);
    void  (*geglu)(float *h, const float *gate, const float *up, size_t n);
    float (*row_max)(const float *x, size_t n);
    float (*exp_sum)(float *p, const float *s, size_t n, float top);
    void  (*scale_add)(float *y, float scale, const float *x, size_t n);
    void  (*scale_row)(float *y, const float *x, float scale, size_t n);
    float (*dot)(const float *a, const float *b, size_t n);
    void  (*hadamard)(float *x, size_t n);
    float (*quantise)(int8_t *q, const float *x, size_t n);
    void  (*rounding_loss)(float *y, const float *x, size_t n);
    float (*split)(float *high, float *low, const float *p, const float *scale, size_t n);
    void  (*add_planes)(float *y, float scale, float unit, const float *high, const float *low, size_t n);
} kalm__ops;

/* Rotation. Quantised matrices see their input rows through a blockwise orthonormal Walsh-Hadamard transform: one
   outlying channel then spreads over its block instead of setting the scale of the whole row, and the matrix was
   rotated the same way when it was made, so the product is unchanged. Measured on the tiny model at r = 4 / 32, Kendall
   tau to float32: one scale a row .985 / .977, with groups of 32 .991 / .985, with this .994 / .992.
   Blocks of 64, then the rest in the largest powers of two (96 = 64 + 32, 18 = 16 + 2). Its own inverse. */
#define KALM__ROTATION 64u

/* One block of n = 2^k <= 64 numbers. */
KALM__FN void kalm__hadamard_block(float *x, size_t n)
{
    size_t half, i, j;
    float scale = 1.0f / sqrtf((float)n);
    for (half = 1; half < n; half *= 2)
        for (i = 0; i < n; i += 2 * half)
            for (j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
    for (i = 0; i < n; i++) x[i] *= scale;
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

/* ---- plain C --------------------------------------------------------------------------------------------------- */

KALM__INLINE float kalm__exp2i(float n)
{
    uint32_t u = (uint32_t)((int32_t)n + 127) << 23;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
KALM__INLINE float kalm__store1(float *p, float v) { return *p = v; }

#define KALM__V(name) kalm__##name##_scalar
#define KALM__VT
#define VF float
#define V_W 1
#define V_LOAD(p) (*(p))
#define V_STORE(p, v) (void)kalm__store1(p, v)
#define V_SET(x) (x)
#define V_ADD(a, b) ((a) + (b))
#define V_SUB(a, b) ((a) - (b))
#define V_MUL(a, b) ((a) * (b))
#define V_DIV(a, b) ((a) / (b))
#define V_MIN(a, b) ((a) < (b) ? (a) : (b))
#define V_MAX(a, b) ((a) > (b) ? (a) : (b))
#define V_FMA(a, b, c) ((a) * (b) + (c))
#define V_ROUND(a) floorf((a) + 0.5f)
#define V_EXP2I(a) kalm__exp2i(a)
#define V_SUM(a) (a)
#define V_HMAX(a) (a)
#define V_HADAMARD(a) (a)
#define V_STORE8(p, v) (void)(*(p) = (int8_t)(v))
#include "ops_template.h"

/* ---- AVX2 with FMA, AVX-512 ---------------------------------------------------------------------------------------- */

#if KALM__X86

#define KALM__VT KALM__TARGET("avx2,fma")
KALM__VT KALM__INLINE float kalm__sum_avx2(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
KALM__VT KALM__INLINE float kalm__hmax_avx2(__m256 v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
/* Stage by stage: the partner lanes in one vector, the signs of the own lanes in another. */
KALM__VT KALM__INLINE __m256 kalm__lanes_avx2(__m256 v)
{
    const __m256 s1 = _mm256_setr_ps(1, -1, 1, -1, 1, -1, 1, -1), s2 = _mm256_setr_ps(1, 1, -1, -1, 1, 1, -1, -1);
    const __m256 s4 = _mm256_setr_ps(1, 1, 1, 1, -1, -1, -1, -1);
    v = _mm256_fmadd_ps(v, s1, _mm256_permute_ps(v, 0xb1));
    v = _mm256_fmadd_ps(v, s2, _mm256_permute_ps(v, 0x4e));
    return _mm256_fmadd_ps(v, s4, _mm256_permute2f128_ps(v, v, 1));
}
KALM__VT KALM__INLINE void kalm__store8_avx2(int8_t *p, __m256 v)
{
    __m256i w = _mm256_cvtps_epi32(v);
    __m128i s = _mm_packs_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(s, s));
}
#define KALM__V(name) kalm__##name##_avx2
#define VF __m256
#define V_W 8
#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps(p, v)
#define V_SET(x) _mm256_set1_ps(x)
#define V_ADD(a, b) _mm256_add_ps(a, b)
#define V_SUB(a, b) _mm256_sub_ps(a, b)
#define V_MUL(a, b) _mm256_mul_ps(a, b)
#define V_DIV(a, b) _mm256_div_ps(a, b)
#define V_MIN(a, b) _mm256_min_ps(a, b)
#define V_MAX(a, b) _mm256_max_ps(a, b)
#define V_FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define V_ROUND(a) _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_EXP2I(a) _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23))
#define V_SUM(a) kalm__sum_avx2(a)
#define V_HMAX(a) kalm__hmax_avx2(a)
#define V_HADAMARD(a) kalm__lanes_avx2(a)
#define V_STORE8(p, v) kalm__store8_avx2(p, v)
#include "ops_template.h"

#if KALM__HAVE_AVX512
#define KALM__VT KALM__TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
KALM__VT KALM__INLINE float kalm__sum_avx512(__m512 v)
{
    __m256 w = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
KALM__VT KALM__INLINE float kalm__hmax_avx512(__m512 v)
{
    __m256 w = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
KALM__VT KALM__INLINE __m512 kalm__lanes_avx512(__m512 v)
{
    const __m512 s1 = _mm512_setr_ps(1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1);
    const __m512 s2 = _mm512_setr_ps(1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1);
    const __m512 s4 = _mm512_setr_ps(1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1);
    const __m512 s8 = _mm512_setr_ps(1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1);
    v = _mm512_fmadd_ps(v, s1, _mm512_permute_ps(v, 0xb1));
    v = _mm512_fmadd_ps(v, s2, _mm512_permute_ps(v, 0x4e));
    v = _mm512_fmadd_ps(v, s4, _mm512_shuffle_f32x4(v, v, 0xb1));
    return _mm512_fmadd_ps(v, s8, _mm512_shuffle_f32x4(v, v, 0x4e));
}
/* 1 / v for v in 1..2^126, to about a unit in the last place: vdivps takes 16 cycles where these take four. The start, from
   the bits of v, is within 12%; each Newton step squares the error. Not vrcp14ps, whose digits differ between makers. */
KALM__VT KALM__INLINE __m512 kalm__recip_avx512(__m512 v)
{
    const __m512 two = _mm512_set1_ps(2.0f);
    __m512 r = _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(0x7ef311c7), _mm512_castps_si512(v)));
    r = _mm512_mul_ps(r, _mm512_fnmadd_ps(v, r, two));
    r = _mm512_mul_ps(r, _mm512_fnmadd_ps(v, r, two));
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(v, r, two));
}
#define KALM__V(name) kalm__##name##_avx512
#define VF __m512
#define V_W 16
#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps(p, v)
#define V_SET(x) _mm512_set1_ps(x)
#define V_ADD(a, b) _mm512_add_ps(a, b)
#define V_SUB(a, b) _mm512_sub_ps(a, b)
#define V_MUL(a, b) _mm512_mul_ps(a, b)
#define V_DIV(a, b) _mm512_mul_ps(a, kalm__recip_avx512(b))
#define V_MIN(a, b) _mm512_min_ps(a, b)
#define V_MAX(a, b) _mm512_max_ps(a, b)
#define V_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define V_ROUND(a) _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define V_EXP2I(a) _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23))
#define V_SUM(a) kalm__sum_avx512(a)
#define V_HMAX(a) kalm__hmax_avx512(a)
#define V_HADAMARD(a) kalm__lanes_avx512(a)
#define V_STORE8(p, v) _mm_storeu_si128((__m128i *)(void *)(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)))
#include "ops_template.h"
#endif
#endif /* KALM__X86 */

/* ---- NEON ---------------------------------------------------------------------------------------------------------- */

#if KALM__NEON
#if KALM__NEON64
#define KALM__NEON_FMA(a, b, c) vfmaq_f32(c, a, b)
#define KALM__NEON_DIV(a, b) vdivq_f32(a, b)
#define KALM__NEON_ROUND(a) vrndnq_f32(a)
#else
/* ARMv7: no division and no rounding to nearest; the fused multiply-add came with VFPv4, which is not asked for here */
#define KALM__NEON_FMA(a, b, c) vmlaq_f32(c, a, b)
KALM__INLINE float32x4_t kalm__div_neon(float32x4_t a, float32x4_t b)
{
    float x[4], y[4];
    vst1q_f32(x, a);
    vst1q_f32(y, b);
    x[0] /= y[0], x[1] /= y[1], x[2] /= y[2], x[3] /= y[3];
    return vld1q_f32(x);
}
#define KALM__NEON_DIV(a, b) kalm__div_neon(a, b)
/* |a| < 2^22: adding and taking away 1.5 * 2^23 leaves the nearest whole number */
KALM__INLINE float32x4_t kalm__nearest_neon(float32x4_t a)
{
    float32x4_t magic = vdupq_n_f32(12582912.0f);
    return vsubq_f32(vaddq_f32(a, magic), magic);
}
#define KALM__NEON_ROUND(a) kalm__nearest_neon(a)
#endif
KALM__INLINE float kalm__sum_neon(float32x4_t v)
{
    float32x2_t s = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(s, 0) + vget_lane_f32(s, 1);
}
KALM__INLINE float kalm__hmax_neon(float32x4_t v)
{
    float32x2_t s = vmax_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(s, 0) > vget_lane_f32(s, 1) ? vget_lane_f32(s, 0) : vget_lane_f32(s, 1);
}
KALM__INLINE float32x4_t kalm__lanes_neon(float32x4_t v)
{
    static const float signs[8] = { 1, -1, 1, -1, 1, 1, -1, -1 };
    v = vaddq_f32(vmulq_f32(v, vld1q_f32(signs)), vrev64q_f32(v));
    return vaddq_f32(vmulq_f32(v, vld1q_f32(signs + 4)), vextq_f32(v, v, 2));
}
KALM__INLINE void kalm__store8_neon(int8_t *p, float32x4_t v)
{
    int16x4_t w = vmovn_s32(vcvtq_s32_f32(v));
    int8x8_t b = vmovn_s16(vcombine_s16(w, w));
    vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(b), 0);
}
#define KALM__V(name) kalm__##name##_neon
#define KALM__VT
#define VF float32x4_t
#define V_W 4
#define V_LOAD(p) vld1q_f32(p)
#define V_STORE(p, v) vst1q_f32(p, v)
#define V_SET(x) vdupq_n_f32(x)
#define V_ADD(a, b) vaddq_f32(a, b)
#define V_SUB(a, b) vsubq_f32(a, b)
#define V_MUL(a, b) vmulq_f32(a, b)
#define V_DIV(a, b) KALM__NEON_DIV(a, b)
#define V_MIN(a, b) vminq_f32(a, b)
#define V_MAX(a, b) vmaxq_f32(a, b)
#define V_FMA(a, b, c) KALM__NEON_FMA(a, b, c)
#define V_ROUND(a) KALM__NEON_ROUND(a)
#define V_EXP2I(a) vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127)), 23))
#define V_SUM(a) kalm__sum_neon(a)
#define V_HMAX(a) kalm__hmax_neon(a)
#define V_HADAMARD(a) kalm__lanes_neon(a)
#define V_STORE8(p, v) kalm__store8_neon(p, v)
#include "ops_template.h"
#endif

/* ---- WebAssembly --------------------------------------------------------------------------------------------------- */

#if KALM__WASM
KALM__INLINE float kalm__sum_wasm(v128_t v)
{
    return (wasm_f32x4_extract_lane(v, 0) + wasm_f32x4_extract_lane(v, 2)) +
           (wasm_f32x4_extract_lane(v, 1) + wasm_f32x4_extract_lane(v, 3));
}
KALM__INLINE float kalm__hmax_wasm(v128_t v)
{
    v128_t s = wasm_f32x4_max(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    s = wasm_f32x4_max(s, wasm_i32x4_shuffle(s, s, 1, 0, 3, 2));
    return wasm_f32x4_extract_lane(s, 0);
}
KALM__INLINE v128_t kalm__lanes_wasm(v128_t v)
{
    v = wasm_f32x4_add(wasm_f32x4_mul(v, wasm_f32x4_make(1, -1, 1, -1)), wasm_i32x4_shuffle(v, v, 1, 0, 3, 2));
    return wasm_f32x4_add(wasm_f32x4_mul(v, wasm_f32x4_make(1, 1, -1, -1)), wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
}
KALM__INLINE void kalm__store8_wasm(int8_t *p, v128_t v)
{
    v128_t w = wasm_i32x4_trunc_sat_f32x4(v);
    w = wasm_i16x8_narrow_i32x4(w, w);
    wasm_v128_store32_lane(p, wasm_i8x16_narrow_i16x8(w, w), 0);
}
#define KALM__V(name) kalm__##name##_wasm
#define KALM__VT
#define VF v128_t
#define V_W 4
#define V_LOAD(p) wasm_v128_load(p)
#define V_STORE(p, v) wasm_v128_store(p, v)
#define V_SET(x) wasm_f32x4_splat(x)
#define V_ADD(a, b) wasm_f32x4_add(a, b)
#define V_SUB(a, b) wasm_f32x4_sub(a, b)
#define V_MUL(a, b) wasm_f32x4_mul(a, b)
#define V_DIV(a, b) wasm_f32x4_div(a, b)
#define V_MIN(a, b) wasm_f32x4_min(a, b)
#define V_MAX(a, b) wasm_f32x4_max(a, b)
#define V_FMA(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
#define V_ROUND(a) wasm_f32x4_nearest(a)
#define V_EXP2I(a) wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(a), wasm_i32x4_splat(127)), 23)
#define V_SUM(a) kalm__sum_wasm(a)
#define V_HMAX(a) kalm__hmax_wasm(a)
#define V_HADAMARD(a) kalm__lanes_wasm(a)
#define V_STORE8(p, v) kalm__store8_wasm(p, v)
#include "ops_template.h"
#endif

/* The table that goes with a kernel set, by the beginning of the set's name. */
KALM__FN const kalm__ops *kalm__pick_ops(const kalm__kernels *kernels)
{
    const char *name = kernels->name;
#if KALM__X86
#if KALM__HAVE_AVX512
    if (!strncmp(name, "avx512", 6) || !strncmp(name, "amx", 3)) return &kalm__table_avx512;
#endif
    if (!strncmp(name, "avx", 3)) return &kalm__table_avx2;
#endif
#if KALM__NEON
    if (strcmp(name, "scalar") != 0) return &kalm__table_neon;      /* neon, dotprod, i8mm */
#endif
#if KALM__WASM
    if (!strncmp(name, "wasm", 4)) return &kalm__table_wasm;
#endif
    (void)name;
    return &kalm__table_scalar;
}

#endif
