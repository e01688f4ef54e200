/* kernels_avx512bf16.h - the set "avx512bf16": avx512vnni, but for bf16 weights, whose products vdpbf16ps makes in pairs, 32
   multiply-adds an instruction, twice the rate of fused multiply-adds on zmm. */
/* docs/KERNELS.md: */
/* It wants both sides in bf16, so activations are rounded to 8 bits of mantissa. Tiny model, Kendall tau to float32 and mean
   change of a margin at r = 4 / 32: .9974 / .9965 and .006 / .010, where float activations have 1 and .000002, and q8, twice
   as fast again, .9943 / .9929 and .017 / .022. The published code computes so on a GPU. Who takes bf16 weights for their
   exactness expects otherwise, so the set is never chosen by itself: kalm_config.kernels asks for it by name. vdpbf16ps adds a pair unrounded, to odd, and flushes subnormal numbers; its results are those of no other set.

   A panel lies input by input in the file; pairs of inputs are brought together once a call, into scratch. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_AVX512BF16_H
#define KALM__KERNELS_AVX512BF16_H

#include "kernels_avx512.h"

#if KALM__HAVE_AVX512BF16

#define KALM__BF16_512 KALM__TARGET(KALM__AVX512F ",avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma,f16c,popcnt")

/* Sixteen floats as bf16, to nearest, ties to even */
KALM__BF16_512 KALM__INLINE __m256i kalm__halves_avx512bf16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16));
}

/* Four rows as bf16 into a tile, [cols32 / 2][height][2] */
KALM__BF16_512 KALM__FN void kalm__pack_halves_avx512bf16(const kalm__four_rows *f)
{
    size_t height = f->height, n = f->n, cols = f->cols, cols32 = kalm__cols32(cols), k, l;
    const float *const x[4] = { f->x[0], f->x[1], f->x[2], f->x[3] };
    unsigned char *out = f->tile + 4 * f->first;
    for (k = 0; k < cols32; k += 16, out += 32 * height) {
        size_t at = kalm__min(k, cols);
        __mmask16 in = kalm__inside_512(k, cols);
        KALM__ALIGNED(64) uint32_t pairs[4][8], row[8][4];
        for (l = 0; l < 4; l++)
            _mm256_store_si256((__m256i *)(void *)pairs[l], kalm__halves_avx512bf16(_mm512_maskz_loadu_ps(in, x[l] + at)));
        for (l = 0; l < 8; l++) {
            row[l][0] = pairs[0][l], row[l][1] = pairs[1][l];
            row[l][2] = pairs[2][l], row[l][3] = pairs[3][l];
        }
        for (l = 0; l < 8; l++)
            kalm__store_dwords_avx2(out + 4 * height * l, n, _mm_load_si128((const __m128i *)(const void *)row[l]));
    }
}

/* A panel [cols][16] as [cols32 / 2][16][2], zeros behind cols */
KALM__BF16_512 KALM__FN void kalm__pair_avx512bf16(uint32_t type, const void *from, size_t cols, void *to)
{
    const unsigned char *panel = (const unsigned char *)from;
    unsigned char *out = (unsigned char *)to;
    const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    size_t k, cols32 = kalm__cols32(cols);
    (void)type;
    for (k = 0; k + 2 <= cols; k += 2, panel += 64, out += 64)
        _mm512_store_si512(out, _mm512_permutexvar_epi16(pairs, _mm512_loadu_si512(panel)));
    for (; k < cols32; k += 2, out += 64)
        _mm512_store_si512(out, k >= cols ? _mm512_setzero_si512() :
                                _mm512_permutexvar_epi16(pairs, _mm512_maskz_loadu_epi32(0xff, panel)));
}

/* acc + two products in each dword; in asm, since compilers differ in the types its intrinsic takes */
KALM__BF16_512 KALM__INLINE __m512 kalm__dpbf16_512(__m512 acc, __m512i x, __m512i w)
{
    __asm__("vdpbf16ps {%2, %1, %0|%0, %1, %2}" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

#define KALM__512_BAHEAD KALM__PREFETCH(ahead);
#define KALM__512_BBEGIN2
#define KALM__512_BZERO1 KALM__512_FZERO1
#define KALM__512_BZERO2 KALM__512_FZERO2
#define KALM__512_BSTEP1(r) c##r = kalm__dpbf16_512(c##r, kalm__broadcast4_512(a + 4 * r), w0);
#define KALM__512_BSTEP2(r) \
    x = kalm__broadcast4_512(a + 4 * r); \
    c##r = kalm__dpbf16_512(c##r, x, w0); \
    d##r = kalm__dpbf16_512(d##r, x, w1);
#define KALM__512_BRESULTS1
#define KALM__512_BRESULTS2
#define KALM__512_BSTORE1 KALM__512_FSTORE1
#define KALM__512_BSTORE2 KALM__512_FSTORE2
#define KALM__BF16_TILE(n) \
    KALM__512_X1(KALM__BF16_512, B, __m512i, _mm512_load_si512, kalm__bf16_##n##x1_avx512bf16, n) \
    KALM__512_X2(KALM__BF16_512, B, __m512i, _mm512_load_si512, kalm__bf16_##n##x2_avx512bf16, n)
KALM__BF16_TILE(1) KALM__BF16_TILE(2) KALM__BF16_TILE(3) KALM__BF16_TILE(4) KALM__BF16_TILE(5) KALM__BF16_TILE(6)

static const kalm__tile_fn kalm__bf16_tiles_avx512bf16[2][KALM__512_SHORT] = {
    { KALM__TILES_6(kalm__bf16_, x1_avx512bf16) },
    { KALM__TILES_6(kalm__bf16_, x2_avx512bf16) }
};

/* Two bf16 take the room of two int16: a panel of pairs has the bytes of one of q16. */
static const kalm__tiles kalm__tiles_bf16_avx512bf16 = {
    KALM__512_SHORT, 1, 0,
    KALM__Q16, KALM__Q16, 2, 0, 0,
    NULL, kalm__pack_halves_avx512bf16, kalm__pair_avx512bf16, NULL,
    NULL, kalm__bf16_tiles_avx512bf16[0], kalm__bf16_tiles_avx512bf16[1], NULL
};
static const kalm__kernels kalm__kernels_avx512bf16 = {
    "avx512bf16", &kalm__table_avx512,
    { &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512, &kalm__tiles_bf16_avx512bf16,
      &kalm__tiles_q8_avx512, &kalm__tiles_q8_avx512, &kalm__tiles_q16_avx512 },
    kalm__pack_split16_avx512, kalm__multiply_high_avx512
};

#endif
#endif
