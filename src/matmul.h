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
   gives too few pieces to keep the threads equally busy, unless rows must stay together (`whole`). Few rows are cut into narrower
   pieces where there are few panels, and into wider ones where they do little but read weights; those of gate and up (`gated`) have
   TILE_PANELS. */
KALM__FN size_t kalm__plan_cut(kalm__cut *c, size_t rows, size_t panels, unsigned threads, int whole, int gated)
{
    size_t wanted = threads > 1 ? (size_t)threads * KALM__TILES_A_THREAD : 1;
    c->rows = rows;
    c->panels = panels;
    c->row_step = rows;
    c->panel_step = KALM__TILE_PANELS;
    if (rows <= KALM__FEW_ROWS && threads > 1 && !gated && (rows <= 4 || panels / KALM__TILE_PANELS < wanted))
        c->panel_step = kalm__max(1, panels / wanted);
    while ((panels + c->panel_step - 1) / c->panel_step * ((rows + c->row_step - 1) / c->row_step) < wanted &&
           c->row_step > 2 * KALM__FEW_ROWS && !whole)
        c->row_step = kalm__round_up((c->row_step + 1) / 2, KALM__ACTS_STEP);
    c->across = (panels + c->panel_step - 1) / c->panel_step;
    return c->across * ((rows + c->row_step - 1) / c->row_step);
}

/* Rows [row, row + n), panels [panel, panel + panels). */
typedef struct kalm__share {
    size_t row, n, panel, panels;
} kalm__share;

KALM__FN kalm__share kalm__share_of(const kalm__cut *c, size_t i)
{
    kalm__share p;
    p.panel = i % c->across * c->panel_step;
    p.panels = kalm__min(c->panel_step, c->panels - p.panel);
    p.row = i / c->across * c->row_step;
    p.n = kalm__min(c->row_step, c->rows - p.row);
    return p;
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
    int                  rotate;       /* of h: see kalm__gated */
    kalm__cut            cut;
} kalm__product;

/* y, rows `stride` apart and `width` long: the products of residual rows are added to those of their rows. */
KALM__FN void kalm__add_residual(const kalm__backend *m, const kalm__residual *residual, float *y, size_t stride, size_t width)
{
    size_t i;
    for (i = 0; i < residual->count; i++)
        m->ops->scale_add(y + residual->row[i] * stride, 1.0f, y + (residual->at + i) * stride, width);
}

/* What a piece's task multiplies, of w[which]; `next` is the panel of w[then] that its worker will most likely want next: tasks are
   taken in turn, so with two threads every other piece. */
KALM__INLINE void kalm__multiply(const kalm__product *p, int which, const kalm__share *at, float *y, size_t stride, int then,
                                 size_t next, void *scratch)
{
    kalm__matmul_job m;
    m.w = p->w[which];
    m.acts = p->acts;
    m.rows = p->block;
    m.row0 = p->row0 + at->row;
    m.n = at->n;
    m.panel0 = at->panel;
    m.panels = at->panels;
    m.y = y;
    m.stride = stride;
    m.scratch = scratch;
    m.next = next < p->cut.panels ? (const unsigned char *)p->w[then]->data + next * kalm__panel_stride(p->w[then]) : NULL;
    kalm__matmul(p->backend->kernels, &m);
}

/* The first panel of the piece that the worker of piece i takes next, if there is one. */
KALM__INLINE size_t kalm__next_panel(const kalm__product *p, size_t i)
{
    return (i + p->backend->pool->size) * p->cut.panel_step;
}

KALM__FN void kalm__linear_task(void *arg, size_t i, unsigned worker)
{
    const kalm__product *p = (const kalm__product *)arg;
    kalm__share at = kalm__share_of(&p->cut, i);
    float *y = p->y + at.row * p->stride + at.panel * 16;
    kalm__multiply(p, 0, &at, y, p->stride, 0, kalm__next_panel(p, i), kalm__scratch(p->backend, worker));
    if (p->residual)
        kalm__add_residual(p->backend, p->residual, y, p->stride, kalm__min(at.panels * 16, p->w[0]->rows - at.panel * 16));
}

/* Cut a product into pieces and do them; `up` NULL for a plain one. */
KALM__FN void kalm__run_product(const kalm__backend *m, const kalm__matrix *w, const kalm__matrix *up, const void *acts,
                                size_t block, size_t row0, size_t n, float *y, size_t stride, const kalm__residual *residual,
                                int rotate, kalm__task task)
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
    p.rotate = rotate;
    kalm__pool_announce(m->pool, n, (up ? 2 : 1) * (size_t)w->rows * w->cols);
    kalm__parallel(m->pool, kalm__plan_cut(&p.cut, n, ((size_t)w->rows + 15) / 16, m->pool->size, p.residual != NULL, up != NULL),
                   task, &p);
}

/* y[i][n] = rows row0 + i of acts times w, for i below n; acts holds `block` rows, row0 is a multiple of KALM__ACTS_STEP. With
   residual rows, n counts those as well, and y has room for them. */
KALM__FN void kalm__linear(const kalm__backend *m, const kalm__matrix *w, const void *acts, size_t block, size_t row0,
                           size_t n, float *y, size_t stride, const kalm__residual *residual)
{
    kalm__run_product(m, w, NULL, acts, block, row0, n, y, stride, residual, 0, kalm__linear_task);
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
    const kalm__ops *ops = p->backend->ops;
    kalm__share at = kalm__share_of(&p->cut, i);
    size_t n = at.n, r, tile_width = KALM__TILE_PANELS * 16, width = kalm__min(at.panels * 16, p->w[0]->rows - at.panel * 16);
    unsigned char *scratch = kalm__scratch(p->backend, worker);
    void *tile = scratch;
    float *gate = (float *)tile, *up = gate + KALM__GEGLU_ROWS * tile_width, *h = p->y + at.row * p->stride + at.panel * 16;
    scratch += kalm__geglu_scratch();
    kalm__multiply(p, 0, &at, gate, tile_width, 1, at.panel, scratch);
    kalm__multiply(p, 1, &at, up, tile_width, 0, kalm__next_panel(p, i), scratch);
    if (p->residual) {
        kalm__add_residual(p->backend, p->residual, gate, tile_width, width);
        kalm__add_residual(p->backend, p->residual, up, tile_width, width);
        n = p->residual->at;
    }
    for (r = 0; r < n; r++, h += p->stride, gate += tile_width, up += tile_width) {
        if (width < tile_width || n < 2) ops->geglu(gate, gate, up, width);
        else if (r % 2 == 0) ops->geglu(gate, gate, up, 2 * width);            /* the tile has room for the last one's partner */
        if (p->rotate) ops->hadamard(h, gate, width);
        else memcpy(h, gate, width * sizeof(float));
    }
}

/* n at most KALM__GEGLU_ROWS. rotate: rows of h are rotated (kalm__hadamard, ops.h): a piece is a block of the rotation. */
KALM__FN void kalm__gated(const kalm__backend *m, const kalm__matrix *gate, const kalm__matrix *up, const void *acts,
                          size_t block, size_t row0, size_t n, float *h, size_t stride, const kalm__residual *residual, int rotate)
{
    kalm__run_product(m, gate, up, acts, block, row0, n, h, stride, residual, rotate, kalm__geglu_task);
}

/* ---- packing rows ------------------------------------------------------------------------------------------------ */

/* Rows that a task prepares and packs at once. */
enum { KALM__ROW_STEP = KALM__ACTS_STEP };

#endif
