/* kernels_tiles.h - the one driver of all vector sets: it packs rows and walks through panels and rows, calling for each register
   tile the function that the set's table names. A set is tiles, packers and tables of them alone; kernels_scalar.h,
   the oracle of their tests, shares nothing with it. */
/* docs/KERNELS.md: */
/* Packed activations: first, where the type has them, the row scales, float [rows] rounded up to 64 bytes, then the rows in TILES
   of at most `most` rows, a tile being [inputs / unit][height][unit], so that a kernel walks weights and activations forwards in
   step. A tile that begins with row r lies r rows behind the first, whatever the tile heights. Blocks are cut every
   KALM__ACTS_STEP rows; what is between two cuts is split evenly: 16 rows become 8 + 8, not 12 + 4.

   Direct tiles read weights from memory and prefetch KALM__FAR_AHEAD bytes ahead: a page, which hardware does not look beyond. One
   row, of the rate of reading alone (Zen 4): 1 KB ahead 76%, 2 KB 80%, 4 KB 87%, 8 KB 86%. Higher tiles find their panels in the
   cache and prefetch the next ones, evenly over three quarters of a call's tiles: line buffers are few, and a burst takes them from
   the tile at work (AVX-512 VNNI, 240 rows, weights from L3: 90% of the peak when the first two tiles fetch all, 95% so). */
/* end of docs/KERNELS.md */
#ifndef KALM__KERNELS_TILES_H
#define KALM__KERNELS_TILES_H

#include "kernels.h"
#include "kernels_scalar.h"

/* ---- what a set says of itself ------------------------------------------------------------------------------------- */

/* What every tile of a call needs. */
typedef struct kalm__tile_job {
    const unsigned char *weights;      /* the first panel                                              */
    size_t               panel;        /* bytes from a panel to the next                               */
    size_t               steps;        /* lines of 64 bytes in a panel                                 */
    const int32_t       *sum;          /* [panels * 16] of these panels, or NULL                       */
    const float         *scale;        /* [panels * 16] of these panels, or NULL                       */
    const unsigned char *acts;         /* the tile                                                     */
    const float         *row_scale;    /* [height]                                                     */
    size_t               height;       /* rows of the tile                                             */
    float               *y;            /* the tile's first row, the first panel's first output         */
    size_t               stride;       /* floats from a row of y to the next                           */
    size_t               outputs;      /* valid outputs from there on, at most 16 a panel are written  */
    const unsigned char *ahead;        /* what to prefetch, ...                                        */
    size_t               ahead_step;   /* ... this many bytes further at every step; may be 0          */
    void                *late;         /* [kalm__tiles.late] lines, the call's                         */
} kalm__tile_job;
typedef void (*kalm__tile_fn)(const kalm__tile_job *job);

/* Up to four rows on their way into a tile. */
typedef struct kalm__four_rows {
    unsigned char *tile;
    size_t         height, first, n;   /* rows of the tile; rows [first, first + n) of it are these, n from 1 to 4 */
    const float   *x[4];               /* [cols] each; behind the n-th the last one again                          */
    float          scale[4];
    float          inverse[4];         /* what to multiply the rows by                                             */
    size_t         cols;
    size_t         further;            /* floats from a row to the one four rows on, to prefetch                   */
    uint8_t       *high;               /* pack_split16: [n][KALM__SPLIT16_COLS]                                    */
} kalm__four_rows;

/* How a set multiplies matrices of one type. (kernels_avx2.h has a table of it with the names of the fields beside.) */
typedef struct kalm__tiles {
    uint8_t most;                      /* rows of the highest tile: a divisor of KALM__ACTS_STEP                      */
    uint8_t even;                      /* 1: tiles are cut in pairs of rows, so only a block's last one can be odd     */
    uint8_t direct;                    /* Tiles of at most so many rows are `direct`: they read a panel as it lies in
                                          memory, from where it comes while they work; others find it in the cache.   */
    uint8_t form;                      /* the type as which direct tiles read panels: F32, Q8 or Q16. unpack makes it
                                          of other types.                                                             */
    uint8_t prepared;                  /* the type whose size the panels of other tiles have; == form: the same panels */
    uint8_t input_bytes;               /* of a packed input                                                            */
    uint8_t sums;                      /* 1: the tiles begin from the matrix' sums                                     */
    uint8_t late;                      /* lines of 64 bytes for sums that tiles store later                           */
    /* scale and inverse of rows; NULL: rows have none */
    void (*row_scales)(kalm__four_rows *f, float limit);
    void (*pack)(const kalm__four_rows *f);
    void (*unpack)(uint32_t type, const void *panel, size_t cols, void *out);        /* NULL: no type but `form`       */
    void (*prepare)(const unsigned char *panel, size_t n, unsigned char *out);    /* NULL: prepared == form            */
    const kalm__tile_fn *direct_tiles; /* [direct]: one panel                                                          */
    const kalm__tile_fn *one;          /* [most]: one panel                                                            */
    const kalm__tile_fn *two;          /* [most]: two panels at once, or NULL                                          */
    void (*frame)(void *late, int begin);        /* NULL, or called before (1) and behind (0) tiles above `direct`     */
} kalm__tiles;

#if KALM__NEON || KALM__WASM           /* sets of four lanes */
KALM__FN void kalm__pack_floats(const kalm__four_rows *f)
{
    size_t height = f->height, cols = f->cols, k, i;
    for (i = 0; i < f->n; i++) {
        float *out = (float *)(void *)f->tile + f->first + i;
        const float *x = f->x[i];
        for (k = 0; k < cols; k++) out[k * height] = x[k];
    }
}

/* largest: magnitudes in four lanes of a row */
KALM__FN float kalm__scale_of_four(float *largest, float limit, float *inverse)
{
    largest[0] = largest[1] > largest[0] ? largest[1] : largest[0];
    largest[2] = largest[3] > largest[2] ? largest[3] : largest[2];
    return kalm__row_scale(largest[2] > largest[0] ? largest[2] : largest[0], limit, inverse);
}
#endif

/* ---- tiles --------------------------------------------------------------------------------------------------------- */

/* Rows of the tile that begins at row r of a block; r must be 0 or the end of another tile. */
KALM__INLINE size_t kalm__tile_rows(size_t rows, size_t r, size_t step, size_t most)
{
    size_t cut = r / step * step, at = cut;
    unsigned between = (unsigned)kalm__min(step, rows - cut), tiles = (between + (unsigned)most - 1) / (unsigned)most;
    for (;; tiles--) {
        unsigned tile = (between + tiles - 1) / tiles;
        if (at >= r) return tile;
        at += tile;
        between -= tile;
    }
}

KALM__INLINE size_t kalm__tile_height(const kalm__tiles *t, size_t rows, size_t r)
{
    if (r / KALM__ACTS_STEP * KALM__ACTS_STEP + KALM__ACTS_STEP <= rows) return t->most;       /* a whole step has whole tiles */
    if (!t->even) return kalm__tile_rows(rows, r, KALM__ACTS_STEP, t->most);
    return kalm__min(rows - r, 2 * kalm__tile_rows((rows + 1) / 2, r / 2, KALM__ACTS_STEP / 2, t->most / 2u));
}

/* Inputs of a packed row. */
KALM__INLINE size_t kalm__tile_inputs(const kalm__tiles *t, size_t cols)
{
    return t->form == KALM__F32 ? cols : kalm__cols32(cols);
}
KALM__INLINE size_t kalm__tile_scales(const kalm__tiles *t, size_t rows) { return t->row_scales ? kalm__scales_bytes(rows) : 0; }

/* Bytes for `rows` packed rows of `cols` for a matrix of `type`. A tile in pairs of rows may have one more. */
KALM__FN size_t kalm__acts_bytes(const kalm__kernels *k, uint32_t type, size_t rows, size_t cols)
{
    const kalm__tiles *t = k->tiles[type];
    if (!t) return kalm__acts_bytes_scalar(type, rows, cols);
    return kalm__add(kalm__tile_scales(t, rows), kalm__mul(kalm__mul(t->input_bytes, kalm__add(rows, rows & t->even)),
                                                           kalm__tile_inputs(t, cols)));
}

/* Scratch bytes that one call of kalm__matmul needs; the same for every call of a matrix. */
KALM__FN size_t kalm__matmul_scratch(const kalm__kernels *k, uint32_t type, size_t cols)
{
    const kalm__tiles *t = k->tiles[type];
    size_t bytes = 0;
    if (!t) return kalm__matmul_scratch_scalar(type, cols);
    if (t->form != type) bytes = kalm__panel_bytes(t->form, cols);
    if (t->prepare) bytes = kalm__add(bytes, kalm__panel_bytes(t->prepared, cols));
    return kalm__add((size_t)64 * t->late, kalm__mul(t->two ? 2 : 1, bytes));
}

/* ---- packing ------------------------------------------------------------------------------------------------------- */

/* Tile by tile, four rows at a time. split, inverse [rows], high [rows][KALM__SPLIT16_COLS]: for split16 rows; else NULL. */
KALM__FN void kalm__pack_tiles(const kalm__tiles *t, const kalm__block *b, size_t row0, size_t n, const float *x, size_t stride,
                               void (*split)(const kalm__four_rows *f), const float *inverse, uint8_t *high)
{
    float limit = b->type == KALM__Q16 ? (float)kalm__int16_limit(b->cols) : 127.0f, *scales = (float *)b->acts;
    size_t r, j, height, row_bytes = kalm__tile_inputs(t, b->cols) * t->input_bytes;
    kalm__four_rows f;
    f.high = high;
    f.cols = b->cols;
    f.further = 4 * stride;
    for (r = row0; r < row0 + n; r += height) {
        height = kalm__tile_height(t, b->rows, r);
        f.tile = (unsigned char *)b->acts + kalm__tile_scales(t, b->rows) + r * row_bytes;
        f.height = height;
        for (f.first = 0; f.first < height; f.first += 4) {
            size_t row = r + f.first;
            f.n = kalm__min(4, height - f.first);
            for (j = 0; j < 4; j++) f.x[j] = x + (row - row0 + kalm__min(j, f.n - 1)) * stride;
            if (inverse)
                for (j = 0; j < 4; j++) f.scale[j] = 1.0f, f.inverse[j] = inverse[row + kalm__min(j, f.n - 1)];
            else if (t->row_scales) t->row_scales(&f, limit);
            for (j = 0; t->row_scales && j < f.n; j++) scales[row + j] = f.scale[j];
            if (split) {
                f.high = high + row * KALM__SPLIT16_COLS;
                split(&f);
            } else t->pack(&f);
        }
    }
}

/* Pack rows [row0, row0 + n) of a block; x is the row `row0`, rows `stride` floats apart. */
KALM__FN void kalm__pack(const kalm__kernels *k, kalm__block b, size_t row0, size_t n, const float *x, size_t stride)
{
    const kalm__tiles *t = k->tiles[b.type];
    if (t) kalm__pack_tiles(t, &b, row0, n, x, stride, NULL, NULL, NULL);
    else kalm__pack_acts_scalar(b.type, b.acts, b.rows, row0, n, x, stride, b.cols);
}

/* Pack a whole block of split16 rows; inverse [rows]. Room: that of q8. high [rows][KALM__SPLIT16_COLS] gets the high bytes, and
   zeros up to cols32, where the set has multiply_high. */
KALM__FN void kalm__pack_split16(const kalm__kernels *k, kalm__block b, uint8_t *high, const float *x, size_t stride,
                                 const float *inverse)
{
    const kalm__tiles *t = k->tiles[b.type];
    if (t) kalm__pack_tiles(t, &b, 0, b.rows, x, stride, k->pack_split16, inverse, high);
    else kalm__pack_split16_scalar(b.acts, b.rows, x, stride, inverse, b.cols);
}

/* ---- products ------------------------------------------------------------------------------------------------------ */

/* Direct tiles get their weights from memory, and ask for them a page ahead. */
enum { KALM__FAR_AHEAD = 4096 };

/* Which part of the next panels a call's tile number `tile` of `tiles` prefetches, a little at every step. */
KALM__INLINE void kalm__look_ahead(kalm__tile_job *job, size_t tile, size_t tiles, const unsigned char *next, size_t bytes)
{
    size_t spread = tiles < 4 ? tiles : tiles * 3 / 4, share = bytes / spread;
    job->ahead = tile < spread ? next + tile * share : next;
    job->ahead_step = tile < spread ? share / job->steps : 0;
}

/* Lines of 64 bytes in a panel of a type that tiles read. */
KALM__INLINE size_t kalm__tile_lines(unsigned form, size_t cols)
{
    return form == KALM__F32 ? cols : form == KALM__Q8 ? kalm__cols32(cols) / 4 : kalm__cols32(cols) / 2;
}

/* A tile of one panel, on each of two. */
KALM__INLINE void kalm__one_by_one(kalm__tile_fn tile, const kalm__tile_job *of)
{
    kalm__tile_job job = *of;
    tile(&job);
    job.weights += job.panel;
    if (job.sum) job.sum += 16;
    if (job.scale) job.scale += 16;
    job.y += 16;
    job.outputs -= 16;
    tile(&job);
}

KALM__FN void kalm__matmul_tiles(const kalm__tiles *t, const kalm__matmul_job *m)
{
    const kalm__matrix *w = m->w;
    size_t cols = w->cols, bytes = kalm__panel_stride(w), row_bytes = kalm__tile_inputs(t, cols) * t->input_bytes;
    size_t form_lines = kalm__tile_lines(t->form, cols), form_bytes = w->type == t->form ? bytes : 64 * form_lines;
    size_t prepared_lines = kalm__tile_lines(t->prepared, cols), prepared_bytes = 64 * prepared_lines;
    size_t tiles = (m->n + t->most - 1) / t->most, end = m->row0 + m->n, p, count, i, r, height, tile;
    /* with few rows no panel is used twice, so there is no reason to hold two in the cache */
    size_t together = t->two && m->n > t->direct ? 2 : 1;
    int high = kalm__tile_height(t, m->rows, m->row0) > t->direct, prepare = high && t->prepare;   /* the first tile is the highest */
    const unsigned char *rows = (const unsigned char *)m->acts + kalm__tile_scales(t, m->rows);
    kalm__tile_job job;
    memset(&job, 0, sizeof job);
    job.stride = m->stride;
    job.late = m->scratch;
    if (high && t->frame) t->frame(job.late, 1);
    for (p = m->panel0; p < m->panel0 + m->panels; p += count) {
        const unsigned char *source = (const unsigned char *)w->data + p * bytes, *panel = source, *ready;
        const unsigned char *next = (const unsigned char *)m->next;
        unsigned char *scratch = (unsigned char *)job.late + (size_t)64 * t->late;
        count = kalm__min(together, m->panel0 + m->panels - p);
        if (!next || p + count < m->panel0 + m->panels) next = source + count * bytes;
        if (w->type != t->form) {
            for (i = 0; i < count; i++) t->unpack(w->type, source + i * bytes, cols, scratch + i * form_bytes);
            panel = scratch;
            scratch += count * form_bytes;
        }
        ready = panel;
        if (prepare) {
            for (i = 0; i < count; i++) t->prepare(panel + i * form_bytes, form_lines, scratch + i * prepared_bytes);
            ready = scratch;
        }
        if (t->sums) job.sum = w->sum + 16 * p;
        if (t->row_scales) job.scale = w->scale + 16 * p;
        job.outputs = w->rows - 16 * p;
        for (r = m->row0, tile = 0; r < end; r += height, tile++) {
            height = kalm__tile_height(t, m->rows, r);
            job.height = height;
            job.acts = rows + r * row_bytes;
            job.row_scale = (const float *)m->acts + r;
            job.y = m->y + (r - m->row0) * m->stride + 16 * (p - m->panel0);
            if (height <= t->direct) {
                job.weights = panel;
                job.panel = form_bytes;
                job.steps = form_lines;
                if (next != source + bytes)            /* nobody else asks for what a worker begins with */
                    for (i = 0; i < KALM__FAR_AHEAD; i += 64) KALM__PREFETCH(next + i);
                job.ahead = source + KALM__FAR_AHEAD;
                job.ahead_step = 64;
                if (count == 2) kalm__one_by_one(t->direct_tiles[height - 1], &job);
                else t->direct_tiles[height - 1](&job);
            } else {
                job.weights = ready;
                job.panel = prepare ? prepared_bytes : form_bytes;
                job.steps = prepared_lines;
                kalm__look_ahead(&job, tile, tiles, next, count * bytes);
                if (count == 2) t->two[height - 1](&job);
                else t->one[height - 1](&job);
            }
        }
    }
    if (high && t->frame) t->frame(job.late, 0);
}

KALM__INLINE void kalm__matmul(const kalm__kernels *k, const kalm__matmul_job *job)
{
    const kalm__tiles *t = k->tiles[job->w->type];
    if (t) kalm__matmul_tiles(t, job);
    else kalm__matmul_scalar(job);
}

/* All rows of a block times all panels of w. */
KALM__FN void kalm__multiply_block(const kalm__kernels *k, const kalm__matrix *w, const kalm__block *b, float *y, size_t stride,
                                   void *scratch)
{
    kalm__matmul_job m;
    m.w = w;
    m.acts = b->acts;
    m.rows = m.n = b->rows;
    m.row0 = m.panel0 = 0;
    m.panels = ((size_t)w->rows + 15) / 16;
    m.y = y;
    m.stride = stride;
    m.scratch = scratch;
    m.next = NULL;
    kalm__matmul(k, &m);
}

/* ---- what tiles are written with ------------------------------------------------------------------------------------- */

/* The lines of 4 inputs of high[cols32] that are not all zero, and how many they are. */
KALM__INLINE size_t kalm__find_lines(const uint8_t *high, size_t cols32, uint8_t live[KALM__SPLIT16_COLS / 4])
{
    size_t i, count = 0;
    for (i = 0; i < cols32; i += 8) {
        uint64_t two;
        memcpy(&two, high + i, 8);
        if (!two) continue;
        if (high[i] | high[i + 1] | high[i + 2] | high[i + 3]) live[count++] = (uint8_t)(i / 4);
        if (high[i + 4] | high[i + 5] | high[i + 6] | high[i + 7]) live[count++] = (uint8_t)(i / 4 + 1);
    }
    return count;
}

/* KALM__TILES_n(a, b): a1b, a2b, ... anb, the tiles of 1 to n rows */
#define KALM__TILES_1(a, b) a##1##b
#define KALM__TILES_2(a, b) KALM__TILES_1(a, b), a##2##b
#define KALM__TILES_3(a, b) KALM__TILES_2(a, b), a##3##b
#define KALM__TILES_4(a, b) KALM__TILES_3(a, b), a##4##b
#define KALM__TILES_6(a, b) KALM__TILES_4(a, b), a##5##b, a##6##b
#define KALM__TILES_12(a, b) KALM__TILES_6(a, b), a##7##b, a##8##b, a##9##b, a##10##b, a##11##b, a##12##b

#endif
