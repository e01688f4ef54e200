/* kernels_avxvnni.h - the set "avxvnni": vpdpbusd on ymm, VEX encoded, 32 multiply-adds an instruction, two a cycle, on
   processors without AVX-512 (Alder Lake and later, Sierra Forest). Activations are bytes q + 128 and accumulators start
   from -128 * sum(q_w), as in kernels_avx512.h. A tile of 6 rows x 1 panel (two ymm): 12 accumulators of 16 registers. */
#ifndef KALM__KERNELS_AVXVNNI_H
#define KALM__KERNELS_AVXVNNI_H

#include "kernels_avx2.h"

#if KALM__HAVE_AVXVNNI

#define KALM__VNNI KALM__TARGET("avx2,fma,f16c,avxvnni")

/* acc + four products in each dword; in asm for the reason given in kernels_avx512.h */
KALM__VNNI KALM__INLINE __m256i kalm__dpbusd_256(__m256i acc, __m256i x, __m256i w)
{
#if defined(__GNUC__)
    __asm__("%{vex%} vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
#else
    return _mm256_dpbusd_avx_epi32(acc, x, w);
#endif
}

KALM__FN void kalm__pack_acts_avxvnni(uint32_t type, void *acts, size_t rows, size_t row0, size_t n, const float *x,
                                      size_t stride, size_t cols)
{
    kalm__pack_acts_256(type, acts, rows, row0, n, x, stride, cols, 1);
}

KALM__VNNI KALM__INLINE __m256i kalm__start_256(const kalm__tile_job *job, size_t first)
{
    return _mm256_mullo_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(job->sum + first)), _mm256_set1_epi32(-128));
}

#define KALM__VNNI_LINE(at) _mm256_load_si256((const __m256i *)(const void *)(at))

/* R rows x one panel */
#define KALM__VNNI_DECLARE(r) __m256i c##r = start0, d##r = start1;
#define KALM__VNNI_STEP(r) \
    x = kalm__broadcast4_256(a + 4 * r); \
    c##r = kalm__dpbusd_256(c##r, x, w0); \
    d##r = kalm__dpbusd_256(d##r, x, w1);
#define KALM__VNNI_STORE(r) kalm__store_256(job, r, 0, c##r); kalm__store_256(job, r, 8, d##r);
#define KALM__VNNI_TILE(R) \
    KALM__VNNI KALM__FN void kalm__q8_##R##x1_avxvnni(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps; \
        __m256i start0 = kalm__start_256(job, 0), start1 = kalm__start_256(job, 8), w0, w1, x; \
        KALM__REP_##R(KALM__VNNI_DECLARE) \
        for (step = 0; step < steps; step++, a += 4 * R, b += 64) { \
            w0 = KALM__VNNI_LINE(b); \
            w1 = KALM__VNNI_LINE(b + 32); \
            KALM__REP_##R(KALM__VNNI_STEP) \
        } \
        KALM__REP_##R(KALM__VNNI_STORE) \
    }
KALM__VNNI_TILE(3) KALM__VNNI_TILE(4) KALM__VNNI_TILE(5) KALM__VNNI_TILE(6)

/* One or two rows: lines in two phases with accumulators of their own, for the latency, and prefetched: the weights come
   from memory. */
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
#define KALM__VNNI_TILE2(R) \
    KALM__VNNI KALM__FN void kalm__q8_##R##x1_avxvnni(const kalm__tile_job *job) \
    { \
        const unsigned char *a = job->acts, *b = job->weights; \
        size_t step, steps = job->steps; \
        __m256i start0 = kalm__start_256(job, 0), start1 = kalm__start_256(job, 8), w0, w1, w2, w3; \
        enum { row = 4 * R }; \
        KALM__REP_##R(KALM__VNNI_DECLARE2) \
        for (step = 0; step < steps; step += 2, a += 2 * row, b += 128) { \
            w0 = KALM__VNNI_LINE(b); \
            w1 = KALM__VNNI_LINE(b + 32); \
            w2 = KALM__VNNI_LINE(b + 64); \
            w3 = KALM__VNNI_LINE(b + 96); \
            KALM__PREFETCH(b + 2048); \
            KALM__PREFETCH(b + 2112); \
            KALM__REP_##R(KALM__VNNI_STEP2) \
        } \
        KALM__REP_##R(KALM__VNNI_STORE2) \
    }
KALM__VNNI_TILE2(1) KALM__VNNI_TILE2(2)

static const kalm__tile_fn kalm__q8_tiles_avxvnni[KALM__256_TILE] = {
    kalm__q8_1x1_avxvnni, kalm__q8_2x1_avxvnni, kalm__q8_3x1_avxvnni, kalm__q8_4x1_avxvnni, kalm__q8_5x1_avxvnni,
    kalm__q8_6x1_avxvnni
};

KALM__FN void kalm__matmul_avxvnni(const kalm__matrix *w, const void *acts, size_t rows, size_t row0, size_t n,
                                   size_t panel0, size_t panels, float *y, size_t stride, void *scratch)
{
    size_t p, r, R, cols32 = kalm__cols32(w->cols), bytes = kalm__panel_stride(w);
    const unsigned char *tiles = (const unsigned char *)acts + kalm__scales_bytes(rows);
    kalm__tile_job job;
    if (!kalm__is_quantised(w->type)) {
        kalm__matmul_float_avx2(w, acts, rows, row0, n, panel0, panels, y, stride, scratch);
        return;
    }
    memset(&job, 0, sizeof job);
    job.steps = cols32 / 4;
    job.stride = stride;
    for (p = panel0; p < panel0 + panels; p++) {
        job.weights = (const unsigned char *)w->data + p * bytes;
        if (w->type == KALM__Q4) {
            kalm__unpack_q4_avx2(job.weights, w->cols, scratch);
            job.weights = (const unsigned char *)scratch;
        }
        job.sum = w->sum + 16 * p;
        job.scale = w->scale + 16 * p;
        job.outputs = w->rows - 16 * p;
        for (r = row0; r < row0 + n; r += R) {
            R = kalm__tile_rows(rows, r, KALM__256_STEP, KALM__256_TILE);
            job.acts = tiles + r * cols32;
            job.row_scale = (const float *)acts + r;
            job.y = y + (r - row0) * stride + 16 * (p - panel0);
            kalm__q8_tiles_avxvnni[R - 1](&job);
        }
    }
}

static const kalm__kernels kalm__kernels_avxvnni = {
    "avxvnni", kalm__acts_bytes_scalar, KALM__256_STEP, kalm__pack_acts_avxvnni, kalm__matmul_scratch_scalar,
    kalm__matmul_avxvnni
};

#endif
#endif
