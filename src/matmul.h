/* matmul.h - matrix products of many rows, shared among threads: cuts a product into tiles of rows and panels and calls
   the kernel set on each. Threads split outputs, never sums, so the cut does not show in the result. */
#ifndef KALM__MATMUL_H
#define KALM__MATMUL_H

#include "base.h"
#include "threads.h"
#include "ops.h"
#include "kernels_tiles.h"

/* What a product runs on. scratch[worker] has scratch_size bytes, 64-byte aligned. */
typedef struct kalm__backend {
    const kalm__kernels *kernels;
    const kalm__ops     *ops;          /* kernels->ops */
    kalm__pool          *pool;
    unsigned char       *scratch;      /* [workers][scratch_size] */
    size_t               scratch_size;
} kalm__backend;

KALM__INLINE unsigned char *kalm__scratch(const kalm__backend *m, unsigned worker)
{
    return m->scratch + worker * m->scratch_size;
}

/* A cut of [rows) x [panels) into pieces of row_step x panel_step. */
typedef struct kalm__cut {
    size_t rows, panels, row_step, panel_step, across;   /* across: pieces side by side */
} kalm__cut;

enum { KALM__TILE_PANELS = 4, KALM__TILES_A_THREAD = 4, KALM__FEW_ROWS = 48 };

/* Returns the number of pieces. Panels are cut first, since a piece then reads its own weights only; rows after, when that
   gives too few pieces to keep the threads equally busy, unless rows must stay together (`whole`). */
KALM__FN size_t kalm__plan_cut(kalm__cut *c, size_t rows, size_t panels, unsigned threads, int whole)
{
    size_t wanted = threads > 1 ? (size_t)threads * KALM__TILES_A_THREAD : 1;
    c->rows = rows;
    c->panels = panels;
    c->row_step = rows;
    c->panel_step = KALM__TILE_PANELS;
    if (rows <= KALM__FEW_ROWS && threads > 1 && panels / KALM__TILE_PANELS < wanted)
        c->panel_step = kalm__max(1, panels / wanted);
    while ((panels + c->panel_step - 1) / c->panel_step * ((rows + c->row_step - 1) / c->row_step) < wanted &&
           c->row_step > 2 * KALM__FEW_ROWS && !whole)
        c->row_step = kalm__round_up((c->row_step + 1) / 2, KALM__ACTS_STEP);
    c->across = (panels + c->panel_step - 1) / c->panel_step;
    return c->across * ((rows + c->row_step - 1) / c->row_step);
}

/* The piece i: rows [*row, *row + *n), panels [*panel, *panel + *count). */
KALM__FN void kalm__piece_of(const kalm__cut *c, size_t i, size_t *row, size_t *n, size_t *panel, size_t *count)
{
    *panel = i % c->across * c->panel_step;
    *count = kalm__min(c->panel_step, c->panels - *panel);
    *row = i / c->across * c->row_step;
    *n = kalm__min(c->row_step, c->rows - *row);
}

/* ---- y = x W^T ------------------------------------------------------------------------------------------------- */

/* Rows that a quantised product takes in two terms: behind the n rows of a block stand, from row `at` on, what rounding
   lost of rows row[0], row[1], ..., packed as rows of their own; their products are added to those of their rows. */
enum { KALM__MAX_RESIDUAL = KALM__ACTS_STEP };     /* a chunk is cut at multiples of it, so fewer could leave no row */
typedef struct kalm__residual {
    size_t count, at;
    size_t row[KALM__MAX_RESIDUAL];
} kalm__residual;

typedef struct kalm__product {
    const kalm__backend *backend;
    const kalm__residual    *residual;         /* NULL: none */
    const kalm__matrix  *w[2];         /* gate and up, or one matrix */
    const void          *acts;
    size_t               block, row0;  /* rows packed in acts; first of them to use */
    float               *y;
    size_t               stride;
    kalm__cut            cut;
} kalm__product;

/* y, rows `stride` apart and `width` long: the products of residual rows are added to those of their rows. */
KALM__FN void kalm__add_residual(const kalm__backend *m, const kalm__residual *residual, float *y, size_t stride, size_t width)
{
    size_t i;
    for (i = 0; i < residual->count; i++)
        m->ops->scale_add(y + residual->row[i] * stride, 1.0f, y + (residual->at + i) * stride, width);
}

/* Rows and panels of a product with w[which] to y, from its first row and panel on. */
KALM__INLINE void kalm__multiply(const kalm__product *p, int which, size_t row, size_t n, size_t panel, size_t count, float *y,
                                 size_t stride, void *scratch)
{
    kalm__matmul_job m;
    m.w = p->w[which];
    m.acts = p->acts;
    m.rows = p->block;
    m.row0 = p->row0 + row;
    m.n = n;
    m.panel0 = panel;
    m.panels = count;
    m.y = y;
    m.stride = stride;
    m.scratch = scratch;
    kalm__matmul(p->backend->kernels, &m);
}

KALM__FN void kalm__linear_task(void *arg, size_t i, unsigned worker)
{
    const kalm__product *p = (const kalm__product *)arg;
    size_t row, n, panel, count;
    float *y;
    kalm__piece_of(&p->cut, i, &row, &n, &panel, &count);
    y = p->y + row * p->stride + panel * 16;
    kalm__multiply(p, 0, row, n, panel, count, y, p->stride, kalm__scratch(p->backend, worker));
    if (p->residual) kalm__add_residual(p->backend, p->residual, y, p->stride, kalm__min(count * 16, p->w[0]->rows - panel * 16));
}

/* Cut a product into pieces and do them; `up` NULL for a plain one. */
KALM__FN void kalm__run_product(const kalm__backend *m, const kalm__matrix *w, const kalm__matrix *up, const void *acts,
                                size_t block, size_t row0, size_t n, float *y, size_t stride, const kalm__residual *residual,
                                kalm__task task)
{
    kalm__product p;
    if (!n) return;
    p.backend = m;
    p.residual = residual && residual->count ? residual : NULL;
    p.w[0] = w;
    p.w[1] = up;
    p.acts = acts;
    p.block = block;
    p.row0 = row0;
    p.y = y;
    p.stride = stride;
    kalm__pool_announce(m->pool, n, (up ? 2 : 1) * (size_t)w->rows * w->cols);
    kalm__parallel(m->pool, kalm__plan_cut(&p.cut, n, ((size_t)w->rows + 15) / 16, m->pool->size, p.residual != NULL), task, &p);
}

/* y[i][n] = rows row0 + i of acts times w, for i below n; acts holds `block` rows, row0 is a multiple of KALM__ACTS_STEP. With
   residual rows, n counts those as well, and y has room for them. */
KALM__FN void kalm__linear(const kalm__backend *m, const kalm__matrix *w, const void *acts, size_t block, size_t row0,
                           size_t n, float *y, size_t stride, const kalm__residual *residual)
{
    kalm__run_product(m, w, NULL, acts, block, row0, n, y, stride, residual, kalm__linear_task);
}

/* ---- h = gelu(x gate^T) * (x up^T) ------------------------------------------------------------------------------- */

/* Rows done at a time: two tiles of GEGLU_ROWS x 64 floats stay in the second-level cache. */
enum { KALM__GEGLU_ROWS = 256 + KALM__MAX_RESIDUAL };

KALM__FN size_t kalm__geglu_scratch(void)
{
    return (size_t)2 * KALM__GEGLU_ROWS * KALM__TILE_PANELS * 16 * sizeof(float);
}

KALM__FN void kalm__geglu_task(void *arg, size_t i, unsigned worker)
{
    const kalm__product *p = (const kalm__product *)arg;
    size_t row, n, panel, count, width, r, tile_width = KALM__TILE_PANELS * 16;
    unsigned char *scratch = kalm__scratch(p->backend, worker);
    void *tile = scratch;
    float *gate = (float *)tile, *up = gate + (size_t)KALM__GEGLU_ROWS * KALM__TILE_PANELS * 16;
    kalm__piece_of(&p->cut, i, &row, &n, &panel, &count);
    scratch += kalm__geglu_scratch();
    width = kalm__min(count * 16, p->w[0]->rows - panel * 16);
    kalm__multiply(p, 0, row, n, panel, count, gate, tile_width, scratch);
    kalm__multiply(p, 1, row, n, panel, count, up, tile_width, scratch);
    if (p->residual) {
        kalm__add_residual(p->backend, p->residual, gate, tile_width, width);
        kalm__add_residual(p->backend, p->residual, up, tile_width, width);
        n = p->residual->at;
    }
    for (r = 0; r < n; r++)
        p->backend->ops->geglu(p->y + (row + r) * p->stride + panel * 16, gate + r * tile_width, up + r * tile_width, width);
}

/* n at most KALM__GEGLU_ROWS */
KALM__FN void kalm__gated(const kalm__backend *m, const kalm__matrix *gate, const kalm__matrix *up, const void *acts,
                          size_t block, size_t row0, size_t n, float *h, size_t stride, const kalm__residual *residual)
{
    kalm__run_product(m, gate, up, acts, block, row0, n, h, stride, residual, kalm__geglu_task);
}

/* ---- packing rows ------------------------------------------------------------------------------------------------ */

/* Rows that a task prepares and packs at once. */
enum { KALM__ROW_STEP = KALM__ACTS_STEP };

#endif
