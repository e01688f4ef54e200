/* moments.h - what the rows that a matrix multiplies look like: their second moments H[i][j] = sum over rows x of x[i] x[j], and
   the factors H = (I + U) D (I + U)^T, where U is strictly upper triangular and D diagonal. From the factors compensate.h reads
   how the rounding error of one input can be made up for by others. This part knows nothing of weights.

   H is symmetric, so only its lower triangle is kept: doubles, row behind row, 420 MB for 10240 inputs. For a matrix with more
   inputs only blocks of 10240 along the diagonal are kept, and moments between inputs of different blocks count as zero.

   The sums are made by the engine's product of int16 matrices: of 256 rows at a time each input's 256 values are quantised with
   one scale to integers of at most 2896, whose products add up exactly in 32 bits. Everything after that is one IEEE operation
   behind another in a fixed order. So the moments have the same bits on every machine, with every kernel set and any number of
   threads, at the speed of the set's matrix products. */
#ifndef KALM__MOMENTS_H
#define KALM__MOMENTS_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/exact.h"
#include "../src/kernels.h"
#include "../src/matmul.h"
#include "../src/threads.h"

enum {
    KALM__MOMENT_ROWS = 256,           /* rows multiplied together */
    KALM__MOMENT_BLOCK = 10240,        /* a multiple of KALM__FACTOR_BLOCK */
    KALM__MOMENT_TILE = 64,            /* rows of H that a task computes, rounded up to the kernel set's step ... */
    KALM__MOMENT_PANELS = 16,          /* ... and how many panels of 16 columns at a time */
    KALM__FACTOR_BLOCK = 32,           /* columns eliminated together */
    KALM__FACTOR_STRIP = 64            /* rows that a task eliminates them from */
};

typedef struct kalm__moments {
    size_t cols, block;                /* cols: a multiple of 32; block: columns of a block */
    size_t room;                       /* numbers that h has room for */
    size_t fill;                       /* rows in `rows` that are not yet in h */
    float  *rows;                      /* [MOMENT_ROWS][cols] */
    double *h;                         /* row i holds H[first][i] ... H[i][i], where `first` is the first input of its block.
                                          After kalm__moments_factor: U[first][i] ... U[i - 1][i], then D[i] */
    int    usable;                     /* 1: h holds factors. 0: it does not, or the rows were all zeros or not numbers */
} kalm__moments;

KALM__INLINE size_t kalm__triangle(size_t n) { return n % 2 ? kalm__mul((n + 1) / 2, n) : kalm__mul(n / 2, n + 1); }

/* The first input of the block that input i is in. */
KALM__INLINE size_t kalm__moment_first(const kalm__moments *m, size_t i) { return i / m->block * m->block; }

/* Row i of h: see there. */
KALM__INLINE double *kalm__moment_row(const kalm__moments *m, size_t i)
{
    return m->h + i / m->block * kalm__triangle(m->block) + kalm__triangle(i % m->block);
}

KALM__FN size_t kalm__moments_room(size_t cols, size_t block)
{
    return kalm__add(kalm__mul(cols / block, kalm__triangle(block)), kalm__triangle(cols % block));
}

KALM__FN void kalm__moments_end(kalm__moments *m)
{
    free(m->rows);
    free(m->h);
    memset(m, 0, sizeof *m);
}

/* Get memory for rows of up to `most` numbers. kalm__moments_end is due even after a failure. */
KALM__FN kalm_result kalm__moments_begin(kalm__moments *m, size_t most, size_t block, kalm_error *err)
{
    size_t bytes = kalm__add(kalm__mul(kalm__moments_room(most, block), sizeof(double)),
                             kalm__mul(most, KALM__MOMENT_ROWS * sizeof(float)));
    memset(m, 0, sizeof *m);
    m->block = block;
    m->room = kalm__moments_room(most, block);
    m->h = bytes < SIZE_MAX ? (double *)malloc(m->room * sizeof(double)) : NULL;
    m->rows = m->h ? (float *)malloc(most * KALM__MOMENT_ROWS * sizeof(float)) : NULL;
    if (!m->rows)
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of the statistics of %z inputs", bytes, most);
    return KALM_OK;
}

/* Start anew, for rows of `cols` numbers. */
KALM__FN void kalm__moments_clear(kalm__moments *m, size_t cols)
{
    m->cols = cols;
    m->fill = 0;
    m->usable = 0;
    memset(m->h, 0, kalm__moments_room(cols, m->block) * sizeof(double));
}

/* ---- summing ------------------------------------------------------------------------------------------------------ */

/* Working memory of the products. One serves all moments, one after the other. */
typedef struct kalm__moment_work {
    const kalm__backend *backend;
    const kalm__moments *m;            /* those being summed */
    size_t   tile;                     /* rows of H that a task computes */
    float   *turned;                   /* [cols][MOMENT_ROWS]: the rows, transposed */
    void    *block, *acts;             /* the same as activations of the product */
    int16_t *panels;                   /* the same as its matrix, [cols / 16][MOMENT_ROWS / 2][16][2] */
    float   *scale;                    /* [cols rounded up to 16] */
    float   *y;                        /* [threads][tile][MOMENT_PANELS * 16] */
    unsigned char *scratch;            /* [threads][scratch_size] */
    size_t   scratch_size;
} kalm__moment_work;

KALM__FN void kalm__moment_work_end(kalm__moment_work *w)
{
    free(w->block);
    memset(w, 0, sizeof *w);
}

/* Get memory for rows of up to `most` numbers, a multiple of 32. backend: must stay alive. kalm__moment_work_end is due even
   after a failure. */
KALM__FN kalm_result kalm__moment_work_begin(kalm__moment_work *w, const kalm__backend *backend, size_t most, kalm_error *err)
{
    const kalm__kernels *k = backend->kernels;
    unsigned threads = backend->pool->size, pass;
    kalm__arena a;
    memset(w, 0, sizeof *w);
    memset(&a, 0, sizeof a);
    w->backend = backend;
    w->tile = kalm__round_up(KALM__MOMENT_TILE, KALM__ACTS_STEP);
    w->scratch_size = kalm__round_up(kalm__matmul_scratch(k, KALM__Q16, KALM__MOMENT_ROWS), 64);
    for (pass = 0; pass < 2; pass++) {
        w->turned = (float *)kalm__take(&a, kalm__mul(most, KALM__MOMENT_ROWS * sizeof(float)));
        w->acts = kalm__take(&a, kalm__acts_bytes(k, KALM__Q16, most, KALM__MOMENT_ROWS));
        w->panels = (int16_t *)kalm__take(&a, kalm__mul(most, KALM__MOMENT_ROWS * sizeof(int16_t)));
        w->scale = (float *)kalm__take(&a, kalm__mul(most, sizeof(float)));
        w->y = (float *)kalm__take(&a, kalm__mul(threads, w->tile * KALM__MOMENT_PANELS * 16 * sizeof(float)));
        w->scratch = (unsigned char *)kalm__take(&a, kalm__mul(threads, w->scratch_size));
        if (pass) break;
        w->block = a.taken < SIZE_MAX - 64 ? malloc(a.taken + 64) : NULL;
        if (!w->block) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z bytes of products", a.taken);
        a.base = kalm__align64(w->block);
        a.size = a.taken;
        a.taken = 0;
    }
    return KALM_OK;
}

/* Transpose the values of 16 inputs, and quantise each input's to int16: panel i. */
KALM__FN void kalm__moment_rotate_task(void *arg, size_t i, unsigned worker)
{
    const kalm__moment_work *w = (const kalm__moment_work *)arg;
    int16_t *panel = w->panels + i * 16 * KALM__MOMENT_ROWS, q[KALM__MOMENT_ROWS];
    size_t j, t;
    (void)worker;
    for (t = 0; t < KALM__MOMENT_ROWS; t++)
        for (j = 0; j < 16; j++)
            w->turned[(16 * i + j) * KALM__MOMENT_ROWS + t] = w->m->rows[t * w->m->cols + 16 * i + j];
    for (j = 0; j < 16; j++) {
        w->scale[16 * i + j] = w->backend->ops->quantise_int16(q, w->turned + (16 * i + j) * KALM__MOMENT_ROWS, KALM__MOMENT_ROWS,
                                                               (float)kalm__int16_limit(KALM__MOMENT_ROWS));
        for (t = 0; t < KALM__MOMENT_ROWS; t++) panel[t / 2 * 32 + 2 * j + t % 2] = q[t];
    }
}

KALM__FN void kalm__moment_pack_task(void *arg, size_t i, unsigned worker)
{
    const kalm__moment_work *w = (const kalm__moment_work *)arg;
    size_t step = KALM__ROW_STEP, first = i * step;
    (void)worker;
    kalm__pack(w->backend->kernels, kalm__block_of(KALM__Q16, w->m->cols, KALM__MOMENT_ROWS, w->acts), first,
               kalm__min(step, w->m->cols - first), w->turned + first * KALM__MOMENT_ROWS, KALM__MOMENT_ROWS);
}

/* Add to rows [i * tile, (i + 1) * tile) of H what the waiting rows give; only the kept part is computed. */
KALM__FN void kalm__moment_product_task(void *arg, size_t i, unsigned worker)
{
    const kalm__moment_work *w = (const kalm__moment_work *)arg;
    const kalm__moments *m = w->m;
    size_t row0 = i * w->tile, n = kalm__min(w->tile, m->cols - row0), tile_width = KALM__MOMENT_PANELS * 16, panel, r, j;
    float *y = w->y + worker * w->tile * tile_width;
    kalm__matrix x;
    kalm__matmul_job p;
    memset(&x, 0, sizeof x);
    x.type = KALM__Q16;
    x.rows = (uint32_t)m->cols;
    x.cols = KALM__MOMENT_ROWS;
    x.data = w->panels;
    x.scale = w->scale;
    p.w = &x;
    p.acts = w->acts;
    p.rows = m->cols;
    p.row0 = row0;
    p.n = n;
    p.y = y;
    p.stride = tile_width;
    p.scratch = w->scratch + worker * w->scratch_size;
    p.next = NULL;
    for (panel = kalm__moment_first(m, row0) / 16; panel * 16 < row0 + n; panel += KALM__MOMENT_PANELS) {
        size_t left = (row0 + n + 15) / 16 - panel, col0 = panel * 16;
        p.panel0 = panel;
        p.panels = kalm__min(left, KALM__MOMENT_PANELS);
        kalm__matmul(w->backend->kernels, &p);
        for (r = 0; r < n; r++) {
            size_t row = row0 + r, first = kalm__moment_first(m, row), end = kalm__min(col0 + tile_width, row + 1);
            double *h = kalm__moment_row(m, row);
            for (j = kalm__max(first, col0); j < end; j++) h[j - first] += (double)y[r * tile_width + j - col0];
        }
    }
}

/* Add the waiting rows to H; missing ones of the 256 count as zeros. */
KALM__FN void kalm__moments_flush(kalm__moments *m, kalm__moment_work *w)
{
    size_t step = KALM__ROW_STEP;
    if (!m->fill) return;
    memset(m->rows + m->fill * m->cols, 0, (KALM__MOMENT_ROWS - m->fill) * m->cols * sizeof(float));
    m->fill = 0;
    w->m = m;
    kalm__parallel(w->backend->pool, m->cols / 16, kalm__moment_rotate_task, w);
    kalm__parallel(w->backend->pool, (m->cols + step - 1) / step, kalm__moment_pack_task, w);
    kalm__parallel(w->backend->pool, (m->cols + w->tile - 1) / w->tile, kalm__moment_product_task, w);
}

/* ---- factors ------------------------------------------------------------------------------------------------------ */

typedef struct kalm__elimination {
    const kalm__moments *m;
    size_t origin, low, high;          /* in the block that begins at input `origin`, subtract what columns [low, high) explain
                                          from all columns before them */
} kalm__elimination;

/* For the rows i of one strip: H[i][j] -= sum over c of U[i][c] D[c] U[j][c]. Eight j at a time, so that their part of U stays in
   the first-level cache, and two rows i at a time, so that it is read once for both. */
KALM__FN void kalm__eliminate_task(void *arg, size_t strip, unsigned worker)
{
    const kalm__elimination *e = (const kalm__elimination *)arg;
    const kalm__moments *m = e->m;
    size_t i0 = strip * KALM__FACTOR_STRIP, i1 = kalm__min(i0 + KALM__FACTOR_STRIP, e->low), count = e->high - e->low, i, j, c, v;
    double by[KALM__FACTOR_STRIP][KALM__FACTOR_BLOCK], tile[KALM__FACTOR_BLOCK][8];
    (void)worker;
    for (c = 0; c < count; c++) {
        const double *u = kalm__moment_row(m, e->origin + e->low + c);
        for (i = i0; i < i1; i++) by[i - i0][c] = u[i] * u[e->low + c];
    }
    for (j = 0; j < i1; j += 8) {
        for (c = 0; c < count; c++) memcpy(tile[c], kalm__moment_row(m, e->origin + e->low + c) + j, sizeof tile[c]);
        for (i = kalm__max(i0, j); i < i1; i += 2) {               /* i0, i1 and j are even */
            const double *a = by[i - i0], *b = by[i + 1 - i0];
            double x[8], y[8], *h = kalm__moment_row(m, e->origin + i);
            for (v = 0; v < 8; v++) x[v] = y[v] = 0;
            for (c = 0; c < count; c++)
                for (v = 0; v < 8; v++) {
                    x[v] += a[c] * tile[c][v];
                    y[v] += b[c] * tile[c][v];
                }
            for (v = 0; v < 8 && j + v <= i; v++) h[j + v] -= x[v];
            h = kalm__moment_row(m, e->origin + i + 1);
            for (v = 0; v < 8 && j + v <= i + 1; v++) h[j + v] -= y[v];
        }
    }
}

/* Replace H by the factors of H + damping * (mean of H's diagonal) * I. Without the damping, errors would be shifted to inputs
   that hardly ever vary in the calibration texts, and then vary elsewhere. It also keeps every D above zero. */
KALM__FN void kalm__moments_factor(kalm__moments *m, kalm__pool *pool, double damping)
{
    double mean = 0, least;
    size_t i, k, c, j;
    m->usable = 0;
    for (i = 0; i < m->cols; i++) mean += kalm__moment_row(m, i)[i - kalm__moment_first(m, i)];
    mean /= (double)m->cols;
    if (!(mean > 0 && mean < 1e200)) return;
    least = damping * mean;
    for (i = 0; i < m->cols; i++) kalm__moment_row(m, i)[i - kalm__moment_first(m, i)] += least;
    for (k = 0; k < m->cols; k += m->block) {
        kalm__elimination e;
        e.m = m;
        e.origin = k;
        for (e.high = kalm__min(m->block, m->cols - k); e.high; e.high = e.low) {
            e.low = (e.high - 1) / KALM__FACTOR_BLOCK * KALM__FACTOR_BLOCK;
            for (c = e.high; c-- > e.low;) {
                double *u = kalm__moment_row(m, k + c), d = u[c];
                if (!(d < 1e300)) return;          /* no number */
                if (d < 0.5 * least) u[c] = d = least;      /* rounding: it is `least` or more */
                for (j = 0; j < c; j++) u[j] /= d;
                for (i = e.low; i < c; i++) {
                    double *h = kalm__moment_row(m, k + i), by = u[i] * d;
                    for (j = 0; j <= i; j++) h[j] -= by * u[j];
                }
            }
            kalm__parallel(pool, (e.low + KALM__FACTOR_STRIP - 1) / KALM__FACTOR_STRIP, kalm__eliminate_task, &e);
        }
    }
    m->usable = 1;
}

#endif
