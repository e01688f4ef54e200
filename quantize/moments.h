/* moments.h - second moments of the rows that a matrix sees: H[i][j] = sum over rows x of x[i] x[j], and their factors
   H = (I + U) D (I + U)^T with U strictly upper triangular, from which compensate.h reads how the error of one input is made
   up for by others. Knows nothing of weights.

   Only the lower triangle is kept, in doubles, row behind row: 420 MB for 10240 inputs. A matrix of more inputs has blocks of
   10240 along the diagonal and nothing beside them.

   The products are those of the kernel set on words: 256 rows at a time each input's values are whole numbers up to 2896
   with one scale, their sums are exact, and all that follows is one IEEE operation after another in one order. So the moments
   are the same bits on every machine, with every set and any number of threads, and come as fast as the set multiplies words. */
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
    KALM__MOMENT_TILE = 64,            /* rows of H that a task computes, rounded up to what the set can cut ... */
    KALM__MOMENT_PANELS = 16,          /* ... and how many panels of 16 columns at a time */
    KALM__FACTOR_BLOCK = 32,           /* columns eliminated together */
    KALM__FACTOR_STRIP = 64            /* rows that a task eliminates them from */
};

typedef struct kalm__moments {
    size_t cols, block;                /* cols: a multiple of 32; block: columns of a block */
    size_t room;                       /* numbers that h holds */
    size_t fill;                       /* rows that wait in `rows` */
    float  *rows;                      /* [MOMENT_ROWS][cols] */
    double *h;                         /* of row i: H[i][first .. i], first being where its block begins. Once factored:
                                          U[first .. i - 1][i], D[i] */
    int    usable;                     /* 0: no factor, because the rows were zeros or no numbers */
} kalm__moments;

KALM__INLINE size_t kalm__triangle(size_t n) { return n % 2 ? kalm__mul((n + 1) / 2, n) : kalm__mul(n / 2, n + 1); }

/* Where the block of column i begins. */
KALM__INLINE size_t kalm__moment_first(const kalm__moments *m, size_t i) { return i / m->block * m->block; }

/* The kept part of row i. */
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

/* Room for up to `most` columns. To be ended in any case. */
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

/* Forget everything; from now on of rows of `cols` numbers. */
KALM__FN void kalm__moments_clear(kalm__moments *m, size_t cols)
{
    m->cols = cols;
    m->fill = 0;
    m->usable = 0;
    memset(m->h, 0, kalm__moments_room(cols, m->block) * sizeof(double));
}

/* ---- summing ------------------------------------------------------------------------------------------------------ */

/* What the products are made in; one for all moments. */
typedef struct kalm__moment_work {
    const kalm__backend *backend;
    const kalm__moments *m;            /* at hand */
    size_t   tile;                     /* rows of H that a task computes */
    float   *turned;                   /* [cols][MOMENT_ROWS] */
    void    *block, *acts;             /* of `turned` */
    int16_t *panels;                   /* [cols / 16][MOMENT_ROWS / 2][16][2], the same numbers */
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

/* Room for up to `most` columns, a multiple of 32. machine: stays alive. To be ended in any case. */
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

/* Panel i: its 16 inputs' values side by side, then as words. */
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

/* Rows [i * tile, ...) of H, as far as they are kept. */
KALM__FN void kalm__moment_product_task(void *arg, size_t i, unsigned worker)
{
    const kalm__moment_work *w = (const kalm__moment_work *)arg;
    const kalm__moments *m = w->m;
    size_t row0 = i * w->tile, n = kalm__min(w->tile, m->cols - row0), wide = KALM__MOMENT_PANELS * 16, panel, r, j;
    float *y = w->y + worker * w->tile * wide;
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
    p.stride = wide;
    p.scratch = w->scratch + worker * w->scratch_size;
    for (panel = kalm__moment_first(m, row0) / 16; panel * 16 < row0 + n; panel += KALM__MOMENT_PANELS) {
        size_t left = (row0 + n + 15) / 16 - panel, col0 = panel * 16;
        p.panel0 = panel;
        p.panels = kalm__min(left, KALM__MOMENT_PANELS);
        kalm__matmul(w->backend->kernels, &p);
        for (r = 0; r < n; r++) {
            size_t row = row0 + r, first = kalm__moment_first(m, row), end = kalm__min(col0 + wide, row + 1);
            double *h = kalm__moment_row(m, row);
            for (j = kalm__max(first, col0); j < end; j++) h[j - first] += (double)y[r * wide + j - col0];
        }
    }
}

/* Sum the rows that wait. */
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
    size_t origin, low, high;          /* columns [low, high) of the block that begins at `origin` go out of those before */
} kalm__elimination;

/* Rows of one strip: H[i][j] -= sum over c of U[i][c] D[c] U[j][c], eight j at a time, so that a tile of U stays in the
   first-level cache, and two rows at a time. */
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

/* H + damping * (mean of its diagonal) * I into factors, in place. The damping is what keeps a matrix from leaning on inputs
   that hardly ever vary; it also makes every D at least that large, so that there is no division by zero. */
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
