/* kernels_amx.h - the set "amx" (Sapphire Rapids on, 64-bit Linux): avx512vnni, but tiles of 13 to 48 q8 or q4 rows by tdpbusd. */
/* docs/KERNELS.md: */
/* tdpbusd adds 16 rows x 64 inputs of unsigned bytes times 64 inputs x 16 outputs of signed ones to 16 x 16 dwords: 1024
   multiply-adds a cycle, eight times what two vpdpbusd do. 16 lines of a panel are the right factor as they lie. The left one has
   64 inputs of a row side by side: rows are packed [inputs / 64][height][64], behind that perhaps [height][32], for which zeros stand
   in for the lines that the panel lacks. Activations and sums are those of avx512vnni. Accumulators are tiles 0 to 2, for 16 rows
   each, and 3 to 5, of the second panel; the last 16 rows may overlap those before them, and are stored twice. A product costs 16
   cycles, a step of 6 products and 7 loads 122 (Sapphire Rapids, rows and weights in the first two caches) where 96 would be the peak. To turn
   sums into floats takes a fifth of a tile of 640 inputs, so the next tile of the call does it between its products. ldtilecfg costs
   150 cycles, a tenth of such a tile: a call of the driver has one (`frame`), and it ends with tilerelease, behind which signals and
   switches of threads need not save eight kilobytes. tests/test_amx.c runs this file with the instructions in C where there are
   none. */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_AMX_H
#define KALM__KERNELS_AMX_H

#include "kernels_avx512.h"

#if KALM__HAVE_AMX

#define KALM__AMX KALM__TARGET(KALM__AVX512F ",avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c,popcnt,amx-tile,amx-int8")

enum { KALM__AMX_TILE = 48, KALM__AMX_DIRECT = 12 };

#ifndef KALM__TILE_DOT                 /* tests have them in C */
#  define KALM__TILE_CONFIG(p) __asm__ volatile("ldtilecfg %0" : : "m"(*(p)))
#  define KALM__TILE_RELEASE() __asm__ volatile("tilerelease")
#  define KALM__TILE_ZERO(t) __asm__ volatile("tilezero {%%tmm" #t "|tmm" #t "}" : :);
#  define KALM__TILE_LOAD(t, p) \
    __asm__ volatile("tileloadd {(%0,%1,1), %%tmm" #t "|tmm" #t ", [%0+%1]}" : : "r"(p), "r"((size_t)64) : "memory");
#  define KALM__TILE_STORE(t, p) \
    __asm__ volatile("tilestored {%%tmm" #t ", (%0,%1,1)|[%0+%1], tmm" #t "}" : : "r"(p), "r"((size_t)64) : "memory");
#  define KALM__TILE_DOT(t) __asm__ volatile("tdpbusd {%%tmm7, %%tmm6, %%tmm" #t "|tmm" #t ", tmm6, tmm7}" : :);  /* t += 6 * 7 */
#endif

/* Four rows of bytes into a tile; of split16 rows the low ones, and the high ones row by row. Rows that are not there write to the
   first one's place before it does. */
#define KALM__AMX_PUT(v, r) \
    if (split) _mm_storeu_si128((__m128i *)(void *)(f->high + (r < n ? r * KALM__SPLIT16_COLS : 0) + k), \
                                _mm512_cvtepi32_epi8(_mm512_srli_epi32(v, 8))); \
    _mm_storeu_si128((__m128i *)(void *)(out + (r < n ? r * wide : 0)), split ? _mm512_cvtepi32_epi8(v) \
                     : _mm_xor_si128(_mm512_cvtsepi32_epi8(v), _mm_set1_epi8('\x80')));
KALM__AMX KALM__INLINE void kalm__pack_amx(const kalm__four_rows *f, int split)
{
    KALM__512_ROWS
    for (k = 0; k < cols32; k += 16) {
        size_t begin = k / 64 * 64, wide = kalm__min(64, cols32 - begin);
        unsigned char *out = f->tile + begin * height + f->first * wide + k - begin;
        KALM__512_FOUR
        KALM__AMX_PUT(d, 3) KALM__AMX_PUT(c, 2) KALM__AMX_PUT(b, 1) KALM__AMX_PUT(a, 0)
    }
}
KALM__AMX KALM__FN void kalm__pack_q8_amx(const kalm__four_rows *f)
{
    if (f->height <= KALM__AMX_DIRECT) kalm__pack_q8_avx512(f);
    else kalm__pack_amx(f, 0);
}
KALM__AMX KALM__FN void kalm__pack_split16_amx(const kalm__four_rows *f)
{
    if (f->height <= KALM__AMX_DIRECT) kalm__pack_split16_avx512(f);
    else kalm__pack_amx(f, 1);
}

/* Seven tiles of so many rows, and one of 16 lines of weights; 0: the thread has none any more, and little to keep. */
KALM__AMX KALM__FN void kalm__shape_amx(size_t rows)
{
    KALM__ALIGNED(64) unsigned char config[64] = { 1 };
    size_t t;
    for (t = 0; t < 8; t++) config[16 + 2 * t] = 64, config[48 + t] = (unsigned char)(t < 7 ? rows : 16);
    if (rows) KALM__TILE_CONFIG(&config);
    else KALM__TILE_RELEASE();
}

/* A tile's sums, whose rows from r on the next tile stores while its products are made. */
typedef struct kalm__amx_late {
    int32_t sums[2 * KALM__AMX_TILE * 16];
    kalm__tile_job job;
    size_t second, r;                  /* 1: of two panels                                  */
} kalm__amx_late;

KALM__AMX KALM__INLINE void kalm__store_late_amx(kalm__amx_late *late, size_t rows)
{
    const kalm__tile_job *job = &late->job;
    size_t second = late->second, r = late->r, end = kalm__min(r + rows, job->height);
    KALM__512_RESULTS1
    __m512 scale1 = _mm512_loadu_ps(job->scale + 16 * second);
    __m512i start0 = kalm__start_512(job, 0), start1 = kalm__start_512(job, second);
    __mmask16 some1 = kalm__outputs_512(job, second);
    for (y += r * stride; r < end; r++, y += stride) {
        const int32_t *sum = late->sums + 16 * r;
        kalm__store_512(y, some0, _mm512_add_epi32(start0, _mm512_load_si512(sum)), scale0, row_scale[r]);
        sum += 16 * KALM__AMX_TILE * second;
        kalm__store_512(y + 16 * second, some1, _mm512_add_epi32(start1, _mm512_load_si512(sum)), scale1, row_scale[r]);
    }
    late->r = end;
}
KALM__AMX KALM__FN void kalm__frame_amx(void *memory, int begin)
{
    kalm__amx_late *late = (kalm__amx_late *)memory;
    if (begin) late->r = late->job.height = 0;
    else if (late->r < late->job.height) kalm__store_late_amx(late, KALM__AMX_TILE);
    kalm__shape_amx(begin ? 16 : 0);
}

#define KALM__AMX_SECOND(t) if (panels == 2) KALM__TILE_DOT(t);
#define KALM__AMX_SUMS(t, u, row) \
    KALM__TILE_STORE(t, late->sums + (row) * 16); KALM__TILE_STORE(u, late->sums + (KALM__AMX_TILE + (row)) * 16);
KALM__AMX KALM__INLINE void kalm__tile_amx(const kalm__tile_job *job, size_t panels)
{
    KALM__ALIGNED(64) unsigned char rest[80 * 64];         /* 48 rows, 2 * 16 lines */
    kalm__amx_late *late = (kalm__amx_late *)job->late;
    const unsigned char *a = job->acts, *b = job->weights, *ahead = job->ahead;
    size_t second = panels - 1, panel = second * job->panel, left, height = job->height, r;
    size_t middle = kalm__min(16, height - kalm__min(16, height)), last = height - kalm__min(16, height);
    size_t pace = (KALM__AMX_TILE * 16 + job->steps - 1) / job->steps;
    if (height < 16) kalm__shape_amx(height);
    KALM__TILE_ZERO(0) KALM__TILE_ZERO(1) KALM__TILE_ZERO(2) KALM__TILE_ZERO(3) KALM__TILE_ZERO(4) KALM__TILE_ZERO(5)
    for (left = job->steps; left; left -= kalm__min(16, left), a += 64 * height, b += 1024) {
        if (left < 16) {
            memset(rest, 0, sizeof rest);
            for (r = 0; r < height; r++) memcpy(rest + 64 * r, a + 32 * r, 32);
            for (r = 0; r < panels; r++) memcpy(rest + 3072 + 1024 * r, b + r * panel, 512);
            a = rest, b = rest + 3072, panel = 1024 * second;
        }
        for (r = 0; r < 16; r++, ahead += job->ahead_step) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
        KALM__TILE_LOAD(6, a) KALM__TILE_LOAD(7, b) KALM__TILE_DOT(0)
        KALM__TILE_LOAD(7, b + panel) KALM__AMX_SECOND(3)
        if (height > 16) {
            KALM__TILE_LOAD(6, a + 64 * middle) KALM__AMX_SECOND(4)
            KALM__TILE_LOAD(7, b) KALM__TILE_DOT(1)
        }
        if (height > 32) {
            KALM__TILE_LOAD(6, a + 64 * last) KALM__TILE_DOT(2)
            KALM__TILE_LOAD(7, b + panel) KALM__AMX_SECOND(5)
        }
        if (late->r < late->job.height) kalm__store_late_amx(late, pace);
    }
    KALM__AMX_SUMS(0, 3, 0)
    if (height > 16) { KALM__AMX_SUMS(1, 4, middle) }
    if (height > 32) { KALM__AMX_SUMS(2, 5, last) }
    if (height < 16) kalm__shape_amx(16);
    late->job = *job;
    late->second = second;
    late->r = 0;
}
KALM__AMX KALM__FN void kalm__q8_x1_amx(const kalm__tile_job *job) { kalm__tile_amx(job, 1); }
KALM__AMX KALM__FN void kalm__q8_x2_amx(const kalm__tile_job *job) { kalm__tile_amx(job, 2); }

/* One function for all heights. */
#define KALM__AMX_X1(i) kalm__q8_x1_amx, kalm__q8_x1_amx, kalm__q8_x1_amx, kalm__q8_x1_amx,
#define KALM__AMX_X2(i) kalm__q8_x2_amx, kalm__q8_x2_amx, kalm__q8_x2_amx, kalm__q8_x2_amx,
static const kalm__tile_fn kalm__q8_tiles_amx[2][KALM__AMX_TILE] = { { KALM__REP_12(KALM__AMX_X1) }, { KALM__REP_12(KALM__AMX_X2) } };
static const kalm__tiles kalm__tiles_q8_amx = {
    KALM__AMX_TILE, 0, KALM__AMX_DIRECT,
    KALM__Q8, KALM__Q8, 1, 1, (sizeof(kalm__amx_late) + 63) / 64,
    kalm__row_scales_avx512, kalm__pack_q8_amx, kalm__unpack_q4_avx512, NULL,
    kalm__q8_tiles_avx512[0], kalm__q8_tiles_amx[0], kalm__q8_tiles_amx[1], kalm__frame_amx
};
static const kalm__kernels kalm__kernels_amx = {
    "amx", &kalm__table_avx512,
    { &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512, &kalm__tiles_f32_avx512,
      &kalm__tiles_q8_amx, &kalm__tiles_q8_amx, &kalm__tiles_q16_avx512 },
    kalm__pack_split16_amx, kalm__multiply_high_avx512
};

#endif
#endif
