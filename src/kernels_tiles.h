/* kernels_tiles.h - what the vector sets share: how the rows of a block are cut into register tiles, and repetition
   macros that unroll a tile's code at every optimisation level. No instructions here.

   Acts of a vector set: the row scales as in kernels_scalar.h, then the rows in TILES of height <= most rows, a tile being
   [inputs / unit][height][unit], so that a kernel walks weights and activations forwards in step. A tile of rows r0 ... lies
   r0 rows behind the first, whatever the tile sizes. Blocks are cut every `step` rows (the set's acts_step), what is
   between two cuts is split evenly: 16 rows become 8 + 8, not 12 + 4. */
#ifndef KALM__KERNELS_TILES_H
#define KALM__KERNELS_TILES_H

#include "kernels.h"
#include "kernels_scalar.h"

/* Rows of the tile that begins at row r of a block; r must be 0 or the end of another tile. */
KALM__INLINE size_t kalm__tile_rows(size_t rows, size_t r, size_t step, size_t most)
{
    size_t cut = r / step * step, between = kalm__min(step, rows - cut), tiles = (between + most - 1) / most;
    size_t tile, at = cut;
    for (;; tiles--) {
        tile = (between + tiles - 1) / tiles;
        if (at >= r) return tile;
        at += tile;
        between -= tile;
    }
}

/* The same in pairs of rows: only a block's last tile can be odd. A whole step has whole tiles. */
KALM__INLINE size_t kalm__even_tile_rows(size_t rows, size_t r, size_t step, size_t most)
{
    if (step % most == 0 && r / step * step + step <= rows) return most;
    return kalm__min(rows - r, 2 * kalm__tile_rows((rows + 1) / 2, r / 2, step / 2, most / 2));
}

/* pack_split16 (kernels.h) of sets whose tiles hold the low bytes unsigned: four rows at a time through `low`, which is given a
   tile of height, of four rows (the last repeated where there are fewer than four) the n to write, and their inverse scales. */
typedef void (*kalm__pack_low_fn)(unsigned char *out, uint8_t *high, size_t height, size_t n, const float *const x[4],
                                  const float inverse[4], size_t cols);
KALM__FN void kalm__pack_split16_tiles(kalm__pack_low_fn low, size_t step, size_t most, void *acts, uint8_t *high, size_t n,
                                    const float *x, size_t stride, const float *inverse, size_t cols)
{
    unsigned char *out = (unsigned char *)acts + kalm__scales_bytes(n);
    size_t r, height, i, j;
    for (r = 0; r < n; r += height) {
        height = kalm__even_tile_rows(n, r, step, most);
        for (i = 0; i < height; i += 4) {
            const float *row[4];
            float by[4];
            size_t some = kalm__min(4, height - i);
            for (j = 0; j < 4; j++) {
                size_t from = r + i + kalm__min(j, some - 1);
                row[j] = x + from * stride, by[j] = inverse[from], ((float *)acts)[from] = 1.0f;
            }
            low(out + r * kalm__cols32(cols) + 4 * i, high + (r + i) * KALM__SPLIT16_COLS, height, some, row, by, cols);
        }
    }
}

/* The lines of 4 inputs of high[cols32] that are not all zero, and how many they are. */
KALM__INLINE size_t kalm__find_lines(const uint8_t *high, size_t cols32, uint8_t lines[KALM__SPLIT16_COLS / 4])
{
    size_t i, count = 0;
    for (i = 0; i < cols32; i += 8) {
        uint64_t two;
        memcpy(&two, high + i, 8);
        if (!two) continue;
        if (high[i] | high[i + 1] | high[i + 2] | high[i + 3]) lines[count++] = (uint8_t)(i / 4);
        if (high[i + 4] | high[i + 5] | high[i + 6] | high[i + 7]) lines[count++] = (uint8_t)(i / 4 + 1);
    }
    return count;
}

/* KALM__REP_n(each): each(0) each(1) ... each(n - 1) */
#define KALM__REP_1(each) each(0)
#define KALM__REP_2(each) KALM__REP_1(each) each(1)
#define KALM__REP_3(each) KALM__REP_2(each) each(2)
#define KALM__REP_4(each) KALM__REP_3(each) each(3)
#define KALM__REP_5(each) KALM__REP_4(each) each(4)
#define KALM__REP_6(each) KALM__REP_5(each) each(5)
#define KALM__REP_7(each) KALM__REP_6(each) each(6)
#define KALM__REP_8(each) KALM__REP_7(each) each(7)
#define KALM__REP_9(each) KALM__REP_8(each) each(8)
#define KALM__REP_10(each) KALM__REP_9(each) each(9)
#define KALM__REP_11(each) KALM__REP_10(each) each(10)
#define KALM__REP_12(each) KALM__REP_11(each) each(11)

/* What every tile of a call needs; the tile adds its rows. */
typedef struct kalm__tile_job {
    const unsigned char *weights;      /* the first panel                                              */
    size_t               panel;        /* bytes from a panel to the next                               */
    size_t               steps;        /* lines of 64 bytes in a panel                                 */
    const int32_t       *sum;          /* [panels * 16] of these panels, or NULL                       */
    const float         *scale;        /* [panels * 16] of these panels, or NULL                       */
    const unsigned char *acts;         /* the tile                                                     */
    const float         *row_scale;    /* [height]                                                          */
    float               *y;            /* the tile's first row, the first panel's first output         */
    size_t               stride;       /* floats from a row of y to the next                           */
    size_t               outputs;      /* valid outputs from there on, at most 16 a panel are written  */
    const unsigned char *ahead;        /* what to prefetch, ...                                        */
    size_t               ahead_step;   /* ... this many bytes further at every step; may be 0          */
} kalm__tile_job;

typedef void (*kalm__tile_fn)(const kalm__tile_job *job);

/* With few rows the weights come from memory, and are asked for this many bytes ahead: a page, which hardware does not look
   beyond. One row, of the rate of reading alone (Zen 4): 1 KB ahead 76%, 2 KB 80%, 4 KB 87%, 8 KB 86%. */
enum { KALM__FAR_AHEAD = 4096 };

/* Which part of the next panels a call's tile number `tile` of `tiles` prefetches, a little at every step. Evenly over
   three quarters of the tiles: line buffers are few, and a burst takes them from the tile at work (AVX-512 VNNI, 240
   rows, weights from L3: 90% of the peak when the first two tiles fetch all, 95% so). */
KALM__INLINE void kalm__look_ahead(kalm__tile_job *job, size_t tile, size_t tiles, const unsigned char *next, size_t bytes)
{
    size_t spread = tiles < 4 ? tiles : tiles * 3 / 4, share = bytes / spread;
    job->ahead = tile < spread ? next + tile * share : next;
    job->ahead_step = tile < spread ? share / job->steps : 0;
}

#endif
