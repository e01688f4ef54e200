/* kernels_avx2.h - the ymm sets "avx2" and "avxvnni", which share packing, float tiles and q4. */
/* docs/KERNELS.md: */
/* avx2: the byte product vpmaddubsw adds two products in 16 bits and saturates with full-range weights (255 * 127 * 2),
   so exact sums take int16: vpmaddwd and vpaddd for 16 multiply-adds, 24 a cycle on three vector ports. (vpsignb and
   vpmaddubsw, |w| * (+-a), are exact too, and no faster.) A panel is widened to
   int16 once a call, into scratch; up to three rows are not worth that and widen each line as they go.
   avxvnni: vpdpbusd on ymm, VEX encoded, 32 multiply-adds an instruction, two a cycle, on processors without AVX-512
   (Alder Lake and later, Sierra Forest). Activations are bytes q + 128 and accumulators start from -128 * sum(q_w), as
   in kernels_avx512.h.
   In both a tile of 6 rows x 1 panel (two ymm) takes 12 accumulators of 16 registers. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_AVX2_H
#define KALM__KERNELS_AVX2_H

#include "ops.h"
#include "kernels_tiles.h"

#if KALM__X86

#include <immintrin.h>

#define KALM__256 KALM__TARGET("avx2,fma,f16c")

enum { KALM__256_TILE = 6, KALM__256_DIRECT = 3 };

/* ---- activations --------------------------------------------------------------------------------------- */

/* The first n of eight lanes, n from 0 to 8. */
KALM__256 KALM__INLINE __m256i kalm__first_256(size_t n)
{
    static const int32_t mask[16] = { -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0 };
    return _mm256_loadu_si256((const __m256i *)(const void *)(mask + 8 - n));
}

/* Eight floats at x + k, zeros behind cols, which is not read. */
KALM__256 KALM__INLINE __m256 kalm__load_256(const float *x, size_t k, size_t cols)
{
    if (k + 8 <= cols) return _mm256_loadu_ps(x + k);
    if (k >= cols) return _mm256_setzero_ps();
    return _mm256_maskload_ps(x + k, kalm__first_256(cols - k));
}

KALM__256 KALM__INLINE float kalm__largest_256(__m256 m)
{
    __m128 v = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_shuffle_ps(v, v, 1)));
}

/* Four rows' scales at once, two chains a row to hide the latency of max. */
#define KALM__256_MAX2(r) \
    m##r = _mm256_max_ps(_mm256_and_ps(bits, _mm256_loadu_ps(x[r] + k)), m##r); \
    n##r = _mm256_max_ps(_mm256_and_ps(bits, _mm256_loadu_ps(x[r] + k + 8)), n##r);
#define KALM__256_MAX1(r) m##r = _mm256_max_ps(_mm256_and_ps(bits, kalm__load_256(x[r], k, cols)), m##r);
#define KALM__256_SCALE(r) f->scale[r] = kalm__row_scale(kalm__largest_256(_mm256_max_ps(m##r, n##r)), limit, &f->inverse[r]);
KALM__256 KALM__FN void kalm__row_scales_avx2(kalm__four_rows *f, float limit)
{
    const __m256 bits = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
    __m256 m0 = _mm256_setzero_ps(), m1 = m0, m2 = m0, m3 = m0, n0 = m0, n1 = m0, n2 = m0, n3 = m0;
    size_t k, cols = f->cols;
    for (k = 0; k + 16 <= cols; k += 16) {
        KALM__REP_4(KALM__256_MAX2)
    }
    for (; k < cols; k += 8) {
        KALM__REP_4(KALM__256_MAX1)
    }
    KALM__REP_4(KALM__256_SCALE)
}

/* The first n dwords of v. No masked store: gcc folds it with an extract into a masked vextracti32x4, which faults on bytes
   that the mask excludes. */
KALM__TARGET("avx2") KALM__INLINE void kalm__store_dwords_avx2(void *out, size_t n, __m128i v)
{
    if (n == 4) {
        _mm_storeu_si128((__m128i *)out, v);
        return;
    }
    if (n >= 2) _mm_storel_epi64((__m128i *)out, v);
    if (n != 2) {
        int32_t odd = n == 1 ? _mm_cvtsi128_si32(v) : _mm_extract_epi32(v, 2);
        memcpy((unsigned char *)out + 4 * (n - 1), &odd, 4);
    }
}

KALM__256 KALM__INLINE __m256i kalm__quantise_256(__m256 x, __m256 inverse)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
}

/* Four rows into a tile, 8 inputs of each at a time: as int16, dwords of two inputs [cols32 / 2][height][2] or, for direct tiles, qwords
   of four [cols32 / 4][height][4]; or for vpdpbusd, which takes them unsigned, as bytes [cols32 / 4][height][4]: q + 128, or the low
   ones of split16 rows, the high ones row by row. */
enum { KALM__256_PAIRS, KALM__256_FOURS, KALM__256_BYTES, KALM__256_SPLIT };
KALM__256 KALM__INLINE void kalm__pack_256(const kalm__four_rows *f, int as)
{
    size_t height = f->height, n = f->n, cols = f->cols, cols32 = kalm__cols32(cols), further = f->further, k, j;
    const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
    unsigned char *out = f->tile + 4 * f->first;
    __m256 i0 = _mm256_set1_ps(f->inverse[0]), i1 = _mm256_set1_ps(f->inverse[1]);
    __m256 i2 = _mm256_set1_ps(f->inverse[2]), i3 = _mm256_set1_ps(f->inverse[3]);
    for (k = 0; k < cols32; k += 8, out += (as >= KALM__256_BYTES ? 8 : 16) * height) {
        __m256i a = _mm256_packs_epi32(kalm__quantise_256(kalm__load_256(x[0], k, cols), i0),
                                       kalm__quantise_256(kalm__load_256(x[1], k, cols), i1));
        __m256i b = _mm256_packs_epi32(kalm__quantise_256(kalm__load_256(x[2], k, cols), i2),
                                       kalm__quantise_256(kalm__load_256(x[3], k, cols), i3));
        if ((k & 15) == 0) {
            KALM__PREFETCH(x[0] + further + k), KALM__PREFETCH(x[1] + further + k);
            KALM__PREFETCH(x[2] + further + k), KALM__PREFETCH(x[3] + further + k);
        }
        if (as >= KALM__256_BYTES) {
            __m256i q = _mm256_xor_si256(_mm256_packs_epi16(a, b), _mm256_set1_epi8('\x80'));
            if (as == KALM__256_SPLIT) {
                const __m256i low = _mm256_set1_epi16(255);
                unsigned char h[32];
                _mm256_storeu_si256((__m256i *)(void *)h, _mm256_packus_epi16(_mm256_srli_epi16(a, 8), _mm256_srli_epi16(b, 8)));
                for (j = 0; j < n; j++) {
                    memcpy(f->high + j * KALM__SPLIT16_COLS + k, h + 4 * j, 4);
                    memcpy(f->high + j * KALM__SPLIT16_COLS + k + 4, h + 16 + 4 * j, 4);
                }
                q = _mm256_packus_epi16(_mm256_and_si256(a, low), _mm256_and_si256(b, low));
            }
            kalm__store_dwords_avx2(out, n, _mm256_castsi256_si128(q));
            kalm__store_dwords_avx2(out + 4 * height, n, _mm256_extracti128_si256(q, 1));
        } else if (as == KALM__256_FOURS) {                /* a: 4 inputs of row 0, of row 1; the next 4 of both; b: rows 2, 3 */
            __m128i b0 = _mm256_castsi256_si128(b), b1 = _mm256_extracti128_si256(b, 1);
            kalm__store_dwords_avx2(out, n >= 2 ? 4 : 2, _mm256_castsi256_si128(a));
            if (n == 3) _mm_storel_epi64((__m128i *)(void *)(out + 16), b0);
            kalm__store_dwords_avx2(out + 8 * height, n >= 2 ? 4 : 2, _mm256_extracti128_si256(a, 1));
            if (n == 3) _mm_storel_epi64((__m128i *)(void *)(out + 8 * height + 16), b1);
        } else {
            __m256 fa = _mm256_castsi256_ps(a), fb = _mm256_castsi256_ps(b);
            __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(fa, fb, 0x88));
            __m256i odd = _mm256_castps_si256(_mm256_shuffle_ps(fa, fb, 0xdd));
            kalm__store_dwords_avx2(out, n, _mm256_castsi256_si128(even));
            kalm__store_dwords_avx2(out + 4 * height, n, _mm256_castsi256_si128(odd));
            kalm__store_dwords_avx2(out + 8 * height, n, _mm256_extracti128_si256(even, 1));
            kalm__store_dwords_avx2(out + 12 * height, n, _mm256_extracti128_si256(odd, 1));
        }
    }
}

KALM__256 KALM__FN void kalm__pack_q8_avx2(const kalm__four_rows *f)
{
    if (f->height <= KALM__256_DIRECT) kalm__pack_256(f, KALM__256_FOURS);
    else kalm__pack_256(f, KALM__256_PAIRS);
}
KALM__256 KALM__FN void kalm__pack_q16_avx2(const kalm__four_rows *f) { kalm__pack_256(f, KALM__256_PAIRS); }
KALM__256 KALM__FN void kalm__pack_bytes_avx2(const kalm__four_rows *f) { kalm__pack_256(f, KALM__256_BYTES); }
KALM__256 KALM__FN void kalm__pack_split16_avx2(const kalm__four_rows *f) { kalm__pack_256(f, KALM__256_SPLIT); }

/* Four float rows into a tile [cols][height] */
KALM__256 KALM__FN void kalm__pack_floats_avx2(const kalm__four_rows *f)
{
    float *out = (float *)(void *)f->tile + f->first;
    const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
    size_t height = f->height, n = f->n, cols = f->cols, k = 0, i;
    if (n == 4)
        for (; k + 4 <= cols; k += 4) {
            __m128 a = _mm_loadu_ps(x[0] + k), b = _mm_loadu_ps(x[1] + k);
            __m128 c = _mm_loadu_ps(x[2] + k), d = _mm_loadu_ps(x[3] + k);
            __m128 ab = _mm_unpacklo_ps(a, b), cd = _mm_unpacklo_ps(c, d);
            __m128 ef = _mm_unpackhi_ps(a, b), gh = _mm_unpackhi_ps(c, d);
            _mm_storeu_ps(out + k * height, _mm_movelh_ps(ab, cd));
            _mm_storeu_ps(out + (k + 1) * height, _mm_movehl_ps(cd, ab));
            _mm_storeu_ps(out + (k + 2) * height, _mm_movelh_ps(ef, gh));
            _mm_storeu_ps(out + (k + 3) * height, _mm_movehl_ps(gh, ef));
        }
    for (i = 0; i < n; i++) {
        const float *row = f->x[i];
        size_t at;
        for (at = k; at < cols; at++) out[at * height + i] = row[at];
    }
}

/* ---- results ------------------------------------------------------------------------------------------- */

/* Eight outputs from `first` on, of which those below job->outputs are written. */
KALM__256 KALM__INLINE void kalm__write_256(const kalm__tile_job *job, size_t r, size_t first, __m256 v)
{
    float *y = job->y + r * job->stride + first;
    if (job->outputs >= first + 8) _mm256_storeu_ps(y, v);
    else if (job->outputs > first) _mm256_maskstore_ps(y, kalm__first_256(job->outputs - first), v);
}

KALM__256 KALM__INLINE void kalm__store_256(const kalm__tile_job *job, size_t r, size_t first, __m256i acc)
{
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(job->scale + first));
    KALM__FENCE_V(v);
    kalm__write_256(job, r, first, _mm256_mul_ps(v, _mm256_set1_ps(job->row_scale[r])));
}

/* ---- int16 tiles --------------------------------------------------------------------------------- */

KALM__256 KALM__INLINE __m256i kalm__broadcast4_256(const unsigned char *p)
{
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

KALM__256 KALM__INLINE __m256i kalm__broadcast8_256(const unsigned char *p)
{
    int64_t v;
    memcpy(&v, p, 8);
    return _mm256_set1_epi64x(v);
}

/* acc + two products in each dword. In asm because 12 accumulators, two weights, x and the products are just the 16
   registers there are, and gcc 12 spills: 66% of the peak with intrinsics. */
KALM__256 KALM__INLINE __m256i kalm__madd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
    __m256i products;
    __asm__("vpmaddwd {%3, %2, %1|%1, %2, %3}\n\tvpaddd {%1, %0, %0|%0, %0, %1}"
            : "+x"(acc), "=&x"(products) : "x"(x), "x"(w));
    return acc;
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
#endif
}

/* A tile of n rows by one panel, two accumulators a row. The macros whose names begin with `kind` say what is done: M int16 by vpmaddwd,
   F float, V q8 and W int16 by VNNI. BEGIN and ZERO: what sums begin with; STEP: what a row adds; STORE: where the sums go. */
#define KALM__256_X1(target, kind, vector, load, name, n) \
    target KALM__FN void name(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
        size_t step, steps = job->steps, ahead_step = job->ahead_step; \
        vector w0, w1, x; \
        KALM__256_##kind##BEGIN \
        KALM__REP_##n(KALM__256_##kind##ZERO) \
        for (step = 0; step < steps; step++, a += 4 * n, b += 64, ahead += ahead_step) { \
            w0 = load(b); \
            w1 = load(b + 32); \
            KALM__PREFETCH(ahead); \
            KALM__REP_##n(KALM__256_##kind##STEP) \
        } \
        KALM__REP_##n(KALM__256_##kind##STORE) \
    }

/* int16 [cols32 / 2][16][2]: q16, or q8 prepared */
#define KALM__256_MBEGIN
#define KALM__256_MZERO(r) __m256i c##r = _mm256_setzero_si256(), d##r = _mm256_setzero_si256();
#define KALM__256_MLOAD(at) _mm256_load_si256((const __m256i *)(const void *)(at))
#define KALM__256_MSTEP(r) \
    x = kalm__broadcast4_256(a + 4 * r); \
    c##r = kalm__madd_256(c##r, x, w0); \
    d##r = kalm__madd_256(d##r, x, w1);
#define KALM__256_MSTORE(r) kalm__store_256(job, r, 0, c##r); kalm__store_256(job, r, 8, d##r);
#define KALM__256_INT16(n) KALM__256_X1(KALM__256, M, __m256i, KALM__256_MLOAD, kalm__int16_##n##x1_avx2, n)
KALM__256_INT16(1) KALM__256_INT16(2) KALM__256_INT16(3) KALM__256_INT16(4) KALM__256_INT16(5) KALM__256_INT16(6)

static const kalm__tile_fn kalm__int16_tiles_avx2[KALM__256_TILE] = {
    KALM__TILES_6(kalm__int16_, x1_avx2)
};

/* Up to three rows x one q8 panel, widened line by line: four accumulators a row, each with the two halves of the sums
   of four outputs side by side. */
#define KALM__256_DZERO(r) \
    __m256i c##r = _mm256_setzero_si256(), d##r = _mm256_setzero_si256(), e##r = c##r, f##r = c##r;
#define KALM__256_DMADD(r) \
    x = kalm__broadcast8_256(a + 8 * r); \
    c##r = kalm__madd_256(c##r, x, w0); \
    d##r = kalm__madd_256(d##r, x, w1); \
    e##r = kalm__madd_256(e##r, x, w2); \
    f##r = kalm__madd_256(f##r, x, w3);
/* hadd leaves outputs 0 1 4 5 | 2 3 6 7 */
#define KALM__256_DSTORE(r) \
    kalm__store_256(job, r, 0, _mm256_permute4x64_epi64(_mm256_hadd_epi32(c##r, d##r), 0xd8)); \
    kalm__store_256(job, r, 8, _mm256_permute4x64_epi64(_mm256_hadd_epi32(e##r, f##r), 0xd8));
#define KALM__256_LINE(at) _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(const void *)(at)))
#define KALM__256_DIRECT_TILE(n) \
    KALM__256 KALM__FN void kalm__q8_##n##x1_avx2(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
        size_t step, steps = job->steps, ahead_step = job->ahead_step; \
        __m256i w0, w1, w2, w3, x; \
        KALM__REP_##n(KALM__256_DZERO) \
        for (step = 0; step < steps; step++, a += 8 * n, b += 64, ahead += ahead_step) { \
            w0 = KALM__256_LINE(b); \
            w1 = KALM__256_LINE(b + 16); \
            w2 = KALM__256_LINE(b + 32); \
            w3 = KALM__256_LINE(b + 48); \
            KALM__PREFETCH(ahead); \
            KALM__REP_##n(KALM__256_DMADD) \
        } \
        KALM__REP_##n(KALM__256_DSTORE) \
    }
KALM__256_DIRECT_TILE(1) KALM__256_DIRECT_TILE(2) KALM__256_DIRECT_TILE(3)

static const kalm__tile_fn kalm__q8_tiles_avx2[KALM__256_DIRECT] = { KALM__TILES_3(kalm__q8_, x1_avx2) };

/* A q8 panel as int16 [cols32 / 2][16][2]; out may not be the panel */
KALM__256 KALM__FN void kalm__widen_avx2(const unsigned char *panel, size_t n, unsigned char *out)
{
    /* of four outputs' 4 inputs: the first two of each, then the last two */
    const __m128i halves = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    for (; n; n--, panel += 64, out += 128) {
        const __m128i *line = (const __m128i *)(const void *)panel;
        __m256i *to = (__m256i *)(void *)out;
        __m256i a = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line), halves));
        __m256i b = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line + 1), halves));
        __m256i c = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line + 2), halves));
        __m256i d = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_load_si128(line + 3), halves));
        _mm256_store_si256(to, _mm256_permute2x128_si256(a, b, 0x20));
        _mm256_store_si256(to + 1, _mm256_permute2x128_si256(c, d, 0x20));
        _mm256_store_si256(to + 2, _mm256_permute2x128_si256(a, b, 0x31));
        _mm256_store_si256(to + 3, _mm256_permute2x128_si256(c, d, 0x31));
    }
}

/* ---- q4 ------------------------------------------------------------------------------------------------ */

/* 32 nibbles in bytes: codebook entries times their outputs' multipliers, rounded (see blocks.h). */
KALM__256 KALM__INLINE __m256i kalm__q4_bytes_256(__m256i nibbles, __m256i codebook, __m256i twice)
{
    const __m256i high = _mm256_set1_epi16(-256);
    __m256i v = _mm256_shuffle_epi8(codebook, nibbles);
    __m256i odd = _mm256_mulhrs_epi16(_mm256_and_si256(v, high), twice);
    __m256i even = _mm256_mulhrs_epi16(_mm256_slli_epi16(v, 8), twice);
    return _mm256_or_si256(_mm256_slli_epi16(odd, 8), _mm256_andnot_si256(high, even));
}

KALM__256 KALM__FN void kalm__unpack_q4_avx2(uint32_t type, const void *panel, size_t cols, void *out)
{
    size_t groups = kalm__cols32(cols) / KALM__GROUP, g, t;
    const unsigned char *nibbles = (const unsigned char *)panel, *m = kalm__q4_panel_multipliers(panel, cols);
    unsigned char *q = (unsigned char *)out;
    const __m256i low = _mm256_set1_epi8(15);
    const __m128i levels = _mm_loadu_si128((const __m128i *)(const void *)kalm__q4_codebook);
    const __m256i codebook = _mm256_broadcastsi128_si256(levels);
    (void)type;
    for (g = 0; g < groups; g++, m += 16, nibbles += 256, q += 512) {
        __m128i bytes = _mm_load_si128((const __m128i *)(const void *)m);
        __m256i m0 = _mm256_cvtepu8_epi32(bytes), m1 = _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8));
        m0 = _mm256_or_si256(_mm256_slli_epi32(m0, 1), _mm256_slli_epi32(m0, 17));
        m1 = _mm256_or_si256(_mm256_slli_epi32(m1, 1), _mm256_slli_epi32(m1, 17));
        for (t = 0; t < 4; t++) {
            __m256i v0 = _mm256_load_si256((const __m256i *)(const void *)(nibbles + 64 * t));
            __m256i v1 = _mm256_load_si256((const __m256i *)(const void *)(nibbles + 64 * t + 32));
            __m256i *to = (__m256i *)(void *)(q + 64 * t), *to4 = (__m256i *)(void *)(q + 64 * (t + 4));
            _mm256_store_si256(to, kalm__q4_bytes_256(_mm256_and_si256(v0, low), codebook, m0));
            _mm256_store_si256(to + 1, kalm__q4_bytes_256(_mm256_and_si256(v1, low), codebook, m1));
            _mm256_store_si256(to4, kalm__q4_bytes_256(_mm256_and_si256(_mm256_srli_epi16(v0, 4), low), codebook, m0));
            _mm256_store_si256(to4 + 1,
                               kalm__q4_bytes_256(_mm256_and_si256(_mm256_srli_epi16(v1, 4), low), codebook, m1));
        }
    }
}

/* ---- float tiles: one fma chain an output, along all inputs -------------------------------------------- */

#define KALM__256_FBEGIN
#define KALM__256_FZERO(r) __m256 c##r = _mm256_setzero_ps(), d##r = _mm256_setzero_ps();
#define KALM__256_FLOAD(at) _mm256_load_ps((const float *)(const void *)(at))
#define KALM__256_FSTEP(r) \
    x = _mm256_broadcast_ss((const float *)(const void *)a + r); \
    c##r = _mm256_fmadd_ps(x, w0, c##r); \
    d##r = _mm256_fmadd_ps(x, w1, d##r);
#define KALM__256_FSTORE(r) kalm__write_256(job, r, 0, c##r); kalm__write_256(job, r, 8, d##r);
#define KALM__256_FTILE(n) KALM__256_X1(KALM__256, F, __m256, KALM__256_FLOAD, kalm__f32_##n##x1_avx2, n)
KALM__256_FTILE(1) KALM__256_FTILE(2) KALM__256_FTILE(3) KALM__256_FTILE(4) KALM__256_FTILE(5) KALM__256_FTILE(6)

static const kalm__tile_fn kalm__f32_tiles_avx2[KALM__256_TILE] = {
    KALM__TILES_6(kalm__f32_, x1_avx2)
};

KALM__256 KALM__FN void kalm__unpack_half_avx2(uint32_t type, const void *panel, size_t cols, void *out)
{
    const uint16_t *half = (const uint16_t *)panel;
    float *v = (float *)out;
    size_t k;
    if (type == KALM__F16)
        for (k = 0; k < 16 * cols; k += 8)
            _mm256_store_ps(v + k, _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)(half + k))));
    else
        for (k = 0; k < 16 * cols; k += 8) {
            __m256i dwords = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(const void *)(half + k)));
            _mm256_store_ps(v + k, _mm256_castsi256_ps(_mm256_slli_epi32(dwords, 16)));
        }
}

/* ---- the set --------------------------------------------------------------------------------------------- */

static const kalm__tiles kalm__tiles_f32_avx2 = {
    KALM__256_TILE, 1, 0,                                   /* most, even, direct */
    KALM__F32, KALM__F32, 4, 0, 0,                          /* form, prepared, input_bytes, sums, late */
    NULL, kalm__pack_floats_avx2, kalm__unpack_half_avx2, NULL,
    NULL, kalm__f32_tiles_avx2, NULL, NULL                  /* direct_tiles, one, two, frame */
};
static const kalm__tiles kalm__tiles_q8_avx2 = {
    KALM__256_TILE, 1, KALM__256_DIRECT,
    KALM__Q8, KALM__Q16, 2, 0, 0,
    kalm__row_scales_avx2, kalm__pack_q8_avx2, kalm__unpack_q4_avx2, kalm__widen_avx2,
    kalm__q8_tiles_avx2, kalm__int16_tiles_avx2, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_avx2 = {
    KALM__256_TILE, 1, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    kalm__row_scales_avx2, kalm__pack_q16_avx2, NULL, NULL,
    NULL, kalm__int16_tiles_avx2, NULL, NULL
};
static const kalm__kernels kalm__kernels_avx2 = {
    "avx2", &kalm__table_avx2,
    { &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2,
      &kalm__tiles_q8_avx2, &kalm__tiles_q8_avx2, &kalm__tiles_q16_avx2 },
    NULL, NULL
};

/* ---- avxvnni ------------------------------------------------------------------------------------------- */

#if KALM__HAVE_AVXVNNI

#define KALM__VNNI KALM__TARGET("avx2,fma,f16c,avxvnni")

/* acc + four products in each dword; in asm for the reason given in kernels_avx512.h */
KALM__VNNI KALM__INLINE __m256i kalm__dpbusd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
    __asm__(KALM__VEX "vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
#else
    return _mm256_dpbusd_avx_epi32(acc, x, w);
#endif
}

/* acc + two products of int16 in each dword */
KALM__VNNI KALM__INLINE __m256i kalm__dpwssd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
    __asm__(KALM__VEX "vpdpwssd {%2, %1, %0|%0, %1, %2}" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
#else
    return _mm256_dpwssd_avx_epi32(acc, x, w);
#endif
}

KALM__VNNI KALM__FN int kalm__multiply_high_avxvnni(const kalm__matrix *w, const uint8_t *high, float *y)
{
    uint8_t live[KALM__SPLIT16_COLS / 4];
    size_t count = kalm__find_lines(high, kalm__cols32(w->cols), live), p, l, bytes = kalm__panel_stride(w);
    kalm__tile_job job;
    float ones[16];
    if (!count) return 0;
    memset(&job, 0, sizeof job);
    for (l = 0; l < 16; l++) ones[l] = 1.0f;
    job.row_scale = job.scale = ones;
    for (p = 0; 16 * p < w->rows; p++) {
        const unsigned char *panel = (const unsigned char *)w->data + p * bytes;
        __m256i a = _mm256_setzero_si256(), b = a;
        for (l = 0; l < count; l++) {
            __m256i x = kalm__broadcast4_256(high + 4 * live[l]);
            const unsigned char *line = panel + 64 * (size_t)live[l];
            a = kalm__dpbusd_256(a, x, _mm256_load_si256((const __m256i *)(const void *)line));
            b = kalm__dpbusd_256(b, x, _mm256_load_si256((const __m256i *)(const void *)(line + 32)));
        }
        job.y = y + 16 * p;
        job.outputs = w->rows - 16 * p;
        kalm__store_256(&job, 0, 0, a);
        kalm__store_256(&job, 0, 8, b);
    }
    return 1;
}

KALM__VNNI KALM__INLINE __m256i kalm__start_256(const kalm__tile_job *job, size_t first)
{
    __m256i sum = _mm256_loadu_si256((const __m256i *)(const void *)(job->sum + first));
    return _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum, 7));
}

#define KALM__256_VBEGIN __m256i start0 = kalm__start_256(job, 0), start1 = kalm__start_256(job, 8);
#define KALM__256_VZERO(r) __m256i c##r = start0, d##r = start1;
#define KALM__256_VSTEP(r) \
    x = kalm__broadcast4_256(a + 4 * r); \
    c##r = kalm__dpbusd_256(c##r, x, w0); \
    d##r = kalm__dpbusd_256(d##r, x, w1);
#define KALM__256_VSTORE KALM__256_MSTORE
#define KALM__VNNI_TILE(n) KALM__256_X1(KALM__VNNI, V, __m256i, KALM__256_MLOAD, kalm__q8_##n##x1_avxvnni, n)
KALM__VNNI_TILE(3) KALM__VNNI_TILE(4) KALM__VNNI_TILE(5) KALM__VNNI_TILE(6)

/* Direct tiles: lines in two phases with accumulators of their own, for the latency. */
#define KALM__VNNI_DECLARE2(r) \
    __m256i c##r = start0, d##r = start1, e##r = _mm256_setzero_si256(), f##r = _mm256_setzero_si256();
#define KALM__VNNI_STEP2(r) \
    c##r = kalm__dpbusd_256(c##r, kalm__broadcast4_256(a + 4 * r), w0); \
    d##r = kalm__dpbusd_256(d##r, kalm__broadcast4_256(a + 4 * r), w1); \
    e##r = kalm__dpbusd_256(e##r, kalm__broadcast4_256(a + row + 4 * r), w2); \
    f##r = kalm__dpbusd_256(f##r, kalm__broadcast4_256(a + row + 4 * r), w3);
#define KALM__VNNI_STORE2(r) \
    kalm__store_256(job, r, 0, _mm256_add_epi32(c##r, e##r)); \
    kalm__store_256(job, r, 8, _mm256_add_epi32(d##r, f##r));
#define KALM__VNNI_TILE2(n) \
    KALM__VNNI KALM__FN void kalm__q8_##n##x1_avxvnni(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead; \
        size_t step, steps = job->steps, ahead_step = job->ahead_step; \
        __m256i start0 = kalm__start_256(job, 0), start1 = kalm__start_256(job, 8), w0, w1, w2, w3; \
        enum { row = 4 * n }; \
        KALM__REP_##n(KALM__VNNI_DECLARE2) \
        for (step = 0; step < steps; step += 2, a += 2 * row, b += 128, ahead += 2 * ahead_step) { \
            w0 = KALM__256_MLOAD(b); \
            w1 = KALM__256_MLOAD(b + 32); \
            w2 = KALM__256_MLOAD(b + 64); \
            w3 = KALM__256_MLOAD(b + 96); \
            KALM__PREFETCH(ahead); \
            KALM__PREFETCH(ahead + ahead_step); \
            KALM__REP_##n(KALM__VNNI_STEP2) \
        } \
        KALM__REP_##n(KALM__VNNI_STORE2) \
    }
KALM__VNNI_TILE2(1) KALM__VNNI_TILE2(2)

#define KALM__256_WBEGIN
#define KALM__256_WZERO KALM__256_MZERO
#define KALM__256_WSTEP(r) \
    x = kalm__broadcast4_256(a + 4 * r); \
    c##r = kalm__dpwssd_256(c##r, x, w0); \
    d##r = kalm__dpwssd_256(d##r, x, w1);
#define KALM__256_WSTORE KALM__256_MSTORE
#define KALM__VNNI_INT16(n) KALM__256_X1(KALM__VNNI, W, __m256i, KALM__256_MLOAD, kalm__int16_##n##x1_avxvnni, n)
KALM__VNNI_INT16(1) KALM__VNNI_INT16(2) KALM__VNNI_INT16(3) KALM__VNNI_INT16(4) KALM__VNNI_INT16(5) KALM__VNNI_INT16(6)

static const kalm__tile_fn kalm__int16_tiles_avxvnni[KALM__256_TILE] = {
    KALM__TILES_6(kalm__int16_, x1_avxvnni)
};

static const kalm__tile_fn kalm__q8_tiles_avxvnni[KALM__256_TILE] = {
    KALM__TILES_6(kalm__q8_, x1_avxvnni)
};

enum { KALM__VNNI_DIRECT = 2 };
static const kalm__tiles kalm__tiles_q8_avxvnni = {
    KALM__256_TILE, 1, KALM__VNNI_DIRECT,
    KALM__Q8, KALM__Q8, 1, 1, 0,
    kalm__row_scales_avx2, kalm__pack_bytes_avx2, kalm__unpack_q4_avx2, NULL,
    kalm__q8_tiles_avxvnni, kalm__q8_tiles_avxvnni, NULL, NULL
};
static const kalm__tiles kalm__tiles_q16_avxvnni = {
    KALM__256_TILE, 1, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    kalm__row_scales_avx2, kalm__pack_q16_avx2, NULL, NULL,
    NULL, kalm__int16_tiles_avxvnni, NULL, NULL
};
static const kalm__kernels kalm__kernels_avxvnni = {
    "avxvnni", &kalm__table_avx2,
    { &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2, &kalm__tiles_f32_avx2,
      &kalm__tiles_q8_avxvnni, &kalm__tiles_q8_avxvnni, &kalm__tiles_q16_avxvnni },
    kalm__pack_split16_avx2, kalm__multiply_high_avxvnni
};

#endif

#endif
#endif
