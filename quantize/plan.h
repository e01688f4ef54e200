/* plan.h - decides what the model file will hold: which tensors, of which type, in which order and where, and which of them are
   rotated (ops.h says why). Reads no weights. */
#ifndef KALM__PLAN_H
#define KALM__PLAN_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/kernels.h"
#include "../src/embedding.h"
#include "checkpoint.h"

enum { KALM__ITEM_VECTOR, KALM__ITEM_HEAD, KALM__ITEM_MATRIX, KALM__ITEM_TABLE };
enum { KALM__TABLE_ROWS = 256 };       /* rows of a table coded at a time: always a multiple of 64 bytes */

typedef struct kalm__item {
    kalm__tensor           t;          /* its offsets count from the beginning of the weights, not of the file */
    int                    what;       /* KALM__ITEM_... */
    const kalm__st_tensor *from;
    uint32_t               rotate_out; /* of V: head_dim; each head's rows are rotated. Else 0 */
    uint32_t               rotate_in;  /* of O: head_dim; each head's columns are rotated, which undoes V's. Else 0 */
    uint64_t               bytes;      /* in the file: data, scales and sums, padded to 64 */
    size_t                 units;      /* tasks that it is coded in, see units.h */
} kalm__item;

typedef struct kalm__plan {
    kalm__checkpoint c;
    kalm__item      *items;            /* [count], in the order of the file; owned by who called kalm__plan_make */
    size_t           count;
    uint64_t         weights_bytes, source_bytes;
    uint32_t         head_id[2];       /* rows of "yes" and "no" */
} kalm__plan;

KALM__FN void kalm__plan_item(kalm__plan *p, int what, uint32_t kind, uint32_t layer, uint32_t type,
                              const kalm__st_tensor *from)
{
    kalm__item *it = &p->items[p->count++];
    const kalm__shape *m = &p->c.shape;
    const kalm__side *s = &m->side[kind / 32];
    memset(it, 0, sizeof *it);
    it->what = what;
    it->from = from;
    it->t.kind = kind;
    it->t.layer = layer;
    it->t.type = type;
    kalm__tensor_shape(m, kind, &it->t.rows, &it->t.cols);
    it->units = 1;
    if (what == KALM__ITEM_MATRIX) {
        uint64_t padded;
        it->units = ((size_t)it->t.rows + KALM__PANEL - 1) / KALM__PANEL;
        padded = (uint64_t)it->units * KALM__PANEL;
        it->t.size = (uint64_t)it->units * kalm__panel_bytes(type, it->t.cols);
        it->bytes = it->t.size;
        if (kalm__is_quantised(type)) {
            it->t.scale = it->bytes;   /* from the tensor's begin for now */
            it->t.sum = it->bytes + padded * 4;
            it->bytes += padded * 8;
            switch (kind % 32) {
            case KALM__T_Q: case KALM__T_K: case KALM__T_GATE: case KALM__T_UP: it->t.rotated = 1; break;
            case KALM__T_V: it->t.rotated = 1, it->rotate_out = s->head_dim; break;
            case KALM__T_O: it->rotate_in = s->head_dim; break;
            default: it->t.rotated = type == KALM__Q4; break;      /* DOWN: costs nothing measurable at 8 bits */
            }
        }
    } else if (what == KALM__ITEM_TABLE) {
        it->units = ((size_t)it->t.rows + KALM__TABLE_ROWS - 1) / KALM__TABLE_ROWS;
        it->t.size = it->bytes = (uint64_t)it->t.rows * kalm__embedding_row_bytes(type, it->t.cols);
    } else {
        it->t.size = it->bytes = (uint64_t)it->t.rows * it->t.cols * 4;
    }
    it->bytes = (it->bytes + 63) / 64 * 64;
    p->source_bytes += what == KALM__ITEM_HEAD ? 0 : from->size;
}

/* The items in the order of the file: the vectors, which together fill few pages; then the matrices, layer by layer as they are
   used; then the tables. The checkpoint's ties have been resolved (ties.h). */
KALM__FN kalm_result kalm__plan_make(kalm__plan *p, uint32_t weights, uint32_t embedding, kalm_error *err)
{
    const kalm__shape *m = &p->c.shape;
    const kalm__wanted *w = p->c.wanted, *end = w + p->c.wanted_count;
    uint32_t side, layer;
    uint64_t at = 0;
    size_t i;
    p->items = (kalm__item *)calloc(p->c.wanted_count + 8, sizeof *p->items);
    if (!p->items) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the plan");
    for (; w < end; w++)
        if (w->kind % 32 >= KALM__T_Q_NORM) kalm__plan_item(p, KALM__ITEM_VECTOR, w->kind, w->layer, KALM__F32, w->from);
    for (side = 0; side < 2; side++)
        if (p->c.eoi[side])
            kalm__plan_item(p, KALM__ITEM_VECTOR, KALM__KIND(side, KALM__T_EOI), 0, KALM__F32, p->c.eoi[side]);
    kalm__plan_item(p, KALM__ITEM_HEAD, KALM__KIND(KALM__DECODER, KALM__T_HEAD), 0, KALM__F32, p->c.head);
    for (side = 0; side < 2; side++)
        for (layer = 0; layer < m->side[side].layers; layer++)
            for (w = p->c.wanted; w < end; w++)
                if (w->kind / 32 == side && w->layer == layer && w->kind % 32 <= KALM__T_DOWN)
                    kalm__plan_item(p, KALM__ITEM_MATRIX, w->kind, layer, weights, w->from);
    for (side = 0; side < 2; side++)
        if (p->c.embed[side])
            kalm__plan_item(p, KALM__ITEM_TABLE, KALM__KIND(side, KALM__T_EMBED), 0, embedding, p->c.embed[side]);
    for (i = 0; i < p->count; i++) {
        kalm__item *it = &p->items[i];
        it->t.offset = at;
        if (it->t.scale) it->t.scale += at, it->t.sum += at;
        at += it->bytes;
    }
    p->weights_bytes = at;
    return KALM_OK;
}

#endif
