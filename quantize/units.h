/* units.h - cuts a tensor of the checkpoint into units, each of which is one task: reads a unit's numbers, widens them to float,
   rotates them where the plan says so, and has codecs.h or compensate.h code them. Writes nothing. */
#ifndef KALM__UNITS_H
#define KALM__UNITS_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/ops.h"
#include "../src/threads.h"
#include "codecs.h"
#include "compensate.h"
#include "moments.h"
#include "numbers.h"
#include "plan.h"

/* ---- coding one unit -----------------------------------------------------------------------------------------------

   A UNIT is what one task codes: a panel of 16 rows of a matrix, 256 rows of a table, or a whole vector. A LOT is as many units
   of one tensor as are in memory at a time. */

/* Working memory of one thread. */
typedef struct kalm__space {
    unsigned char *raw;
    float         *block, *rows;       /* block: rows before V's rotation, or of a table; rows: what is coded */
    float         *turn;               /* [head_dim]: one row of the rotation */
    void          *scratch;
} kalm__space;

enum { KALM__UNIT_FINE, KALM__UNIT_UNREADABLE, KALM__UNIT_NOT_FINITE, KALM__UNIT_OVERFLOW };

typedef struct kalm__unit_result {
    kalm__loss loss;
    int        state;
    uint64_t   row, col;               /* of what is wrong */
} kalm__unit_result;

/* The threads, and the working memory of each. */
typedef struct kalm__crew {
    kalm__pool         pool;
    kalm__worker       workers[KALM__MAX_THREADS];
    kalm__space        spaces[KALM__MAX_THREADS];
    void              *space;          /* one block for what they point to */
    kalm__unit_result *results;        /* [lot_units] */
    size_t             lot_units;      /* most of a lot */
} kalm__crew;

typedef struct kalm__lot {
    const kalm__plan  *p;
    const kalm__item  *it;
    size_t             first;          /* unit */
    unsigned char     *out;
    size_t             stride;         /* bytes of a unit */
    float             *scale;          /* [rows padded to panels] of the tensor */
    int32_t           *sum;            /* likewise */
    const kalm__moments *moments;      /* of a matrix's inputs; NULL: nothing is known of them */
    kalm__crew        *crew;
} kalm__lot;

KALM__FN void kalm__crew_end(kalm__crew *s)
{
    kalm__pool_stop(&s->pool);
    free(s->space);
    free(s->results);
}

/* To be ended in any case. */
KALM__FN kalm_result kalm__crew_begin(kalm__crew *s, const kalm__plan *p, unsigned threads, kalm_error *err)
{
    size_t i, raw = 0, block = 0, rows = 0, turn = 0, scratch = 0, each, all, most = 1;
    kalm_allocator alloc = p->c.st.allocator;      /* which refuses a size that overflowed */
    kalm__pool_start(&s->pool, threads, s->workers, NULL);
    threads = s->pool.size;
    for (i = 0; i < p->count; i++) {
        const kalm__item *it = &p->items[i];
        size_t cols32 = kalm__cols32(it->t.cols), n = it->what == KALM__ITEM_MATRIX ? KALM__PANEL : 1, blocks = 0;
        if (it->rotate_out) blocks = KALM__PANEL + 2 * KALM__ROTATION;
        if (it->what == KALM__ITEM_TABLE) blocks = KALM__TABLE_ROWS;
        raw = kalm__max(raw, kalm__mul(kalm__max(n, blocks), kalm__mul(cols32, 4)));
        block = kalm__max(block, kalm__mul(blocks, kalm__mul(cols32, 4)));
        rows = kalm__max(rows, kalm__mul(n, kalm__mul(cols32, 4)));
        turn = kalm__max(turn, (size_t)it->rotate_out * 4);
        if (it->what == KALM__ITEM_MATRIX) scratch = kalm__max(scratch, kalm__compensate_scratch(it->t.cols));
        most = kalm__max(most, it->units);
    }
    s->lot_units = kalm__min(most, kalm__max((size_t)4 * threads, 1024));
    raw = kalm__round_up(raw, 64), block = kalm__round_up(block, 64), rows = kalm__round_up(rows, 64);
    turn = kalm__round_up(turn, 64), scratch = kalm__round_up(scratch, 64);
    each = kalm__add(kalm__add(raw, block), kalm__add(kalm__add(rows, turn), scratch));
    all = kalm__add(kalm__mul(each, threads), 64);
    s->space = kalm__alloc(&alloc, all);
    s->results = (kalm__unit_result *)calloc(s->lot_units, sizeof *s->results);
    if (!s->space || !s->results)
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for %u threads: %z bytes each", threads, each);
    for (i = 0; i < threads; i++) {
        unsigned char *at = kalm__align64(s->space) + i * each;
        s->spaces[i].raw = at;
        s->spaces[i].block = (float *)(void *)(at + raw);
        s->spaces[i].rows = (float *)(void *)(at + raw + block);
        s->spaces[i].turn = (float *)(void *)(at + raw + block + rows);
        s->spaces[i].scratch = at + raw + block + rows + turn;
    }
    return KALM_OK;
}

/* Read n rows of the tensor from `row` on as floats, `stride` apart, with zeros behind each row. Returns 0 on failure, and *r
   says why. */
KALM__FN int kalm__unit_read(const kalm__lot *b, kalm__space *s, size_t row, size_t n, float *out, size_t stride,
                             kalm__unit_result *r)
{
    const kalm__item *it = b->it;
    size_t cols = it->t.cols, bytes = kalm__element_bytes(it->from->type), i, bad;
    if (!kalm__input_read(&b->p->c.st.shards[it->from->shard].source, it->from->begin + (uint64_t)row * cols * bytes,
                          s->raw, n * cols * bytes)) {
        r->state = KALM__UNIT_UNREADABLE;
        return 0;
    }
    for (i = 0; i < n; i++) {
        bad = kalm__widen(it->from->type, s->raw + i * cols * bytes, cols, out + i * stride);
        if (bad < cols) {
            r->state = KALM__UNIT_NOT_FINITE;
            r->row = row + i;
            r->col = bad;
            return 0;
        }
        memset(out + i * stride + cols, 0, (stride - cols) * sizeof *out);
    }
    return 1;
}

/* Rows [row, row + n) of a matrix into s->rows [16][cols32], ready to be coded: rotated where the item says so, zeros elsewhere.
   Returns 0 on failure, and *r says why. */
KALM__FN int kalm__unit_rows(const kalm__lot *b, kalm__space *s, size_t row, size_t n, kalm__unit_result *r)
{
    const kalm__item *it = b->it;
    size_t cols32 = kalm__cols32(it->t.cols), i, k, c, h;
    memset(s->rows + n * cols32, 0, (KALM__PANEL - n) * cols32 * sizeof *s->rows);
    if (!it->rotate_out) {
        if (!kalm__unit_read(b, s, row, n, s->rows, cols32, r)) return 0;
    } else {                           /* row i of a head becomes the sum over k of R[i][k] * row k, R being the rotation, which
                                          mixes blocks of at most KALM__ROTATION rows: only those k are read */
        size_t dim = it->rotate_out, low = row - row % dim % KALM__ROTATION, high = row + n;
        high += KALM__ROTATION - 1;    /* blocks end at a multiple of 64 within the head, or with it */
        if (high > it->t.rows) high = it->t.rows;
        if (!kalm__unit_read(b, s, low, high - low, s->block, cols32, r)) return 0;
        for (i = 0; i < n; i++) {
            size_t head = (row + i) / dim * dim;
            float *to = s->rows + i * cols32;
            memset(s->turn, 0, dim * sizeof *s->turn);
            s->turn[row + i - head] = 1;
            kalm__hadamard_scalar(s->turn, s->turn, dim);
            memset(to, 0, cols32 * sizeof *to);
            for (k = 0; k < dim; k++) {
                const float *from;
                if (s->turn[k] == 0) continue;
                from = s->block + (head + k - low) * cols32;
                for (c = 0; c < it->t.cols; c++) to[c] += s->turn[k] * from[c];
            }
        }
    }
    for (i = 0; i < n; i++) {
        float *to = s->rows + i * cols32;
        if (it->rotate_in) for (h = 0; h < it->t.cols; h += it->rotate_in) kalm__hadamard_scalar(to + h, to + h, it->rotate_in);
        if (it->t.rotated) kalm__hadamard_scalar(to, to, it->t.cols);
    }
    return 1;
}

KALM__FN void kalm__unit_code(const kalm__lot *b, size_t i, kalm__space *s)
{
    const kalm__item *it = b->it;
    size_t unit = b->first + i, cols = it->t.cols, n, k, row;
    unsigned char *out = b->out + i * b->stride;
    kalm__unit_result *r = &b->crew->results[i];
    memset(r, 0, sizeof *r);
    switch (it->what) {
    case KALM__ITEM_MATRIX:
        row = unit * KALM__PANEL;
        n = kalm__min(KALM__PANEL, it->t.rows - row);
        if (!kalm__unit_rows(b, s, row, n, r)) return;
        for (k = 0; k < n * kalm__cols32(cols); k++)
            if (!(fabsf(s->rows[k]) <= kalm__largest_weight(it->t.type))) {
                r->state = KALM__UNIT_OVERFLOW;
                r->row = row + k / kalm__cols32(cols);
                return;
            }
        if (b->moments && b->moments->usable)
            kalm__compensate_panel(it->t.type, s->rows, cols, b->moments, out, b->scale + row, b->sum + row, &r->loss,
                                   s->scratch);
        else kalm__encode_panel(it->t.type, s->rows, cols, out, b->scale + row, b->sum + row, &r->loss, s->scratch);
        break;
    case KALM__ITEM_TABLE:
        row = unit * KALM__TABLE_ROWS;
        n = kalm__min(KALM__TABLE_ROWS, it->t.rows - row);
        if (!kalm__unit_read(b, s, row, n, s->block, kalm__cols32(cols), r)) return;
        for (k = 0; k < n; k++) {
            kalm__loss loss;
            if (!kalm__encode_row(it->t.type, s->block + k * kalm__cols32(cols), cols,
                                  out + k * kalm__embedding_row_bytes(it->t.type, cols), s->rows, &loss)) {
                r->state = KALM__UNIT_OVERFLOW;
                r->row = row + k;
                return;
            }
            r->loss.change += loss.change;
            r->loss.weight += loss.weight;
        }
        break;
    case KALM__ITEM_HEAD:
        for (k = 0; k < 2; k++) {
            if (!kalm__unit_read(b, s, b->p->head_id[k], 1, s->rows, kalm__cols32(cols), r)) return;
            for (n = 0; n < cols; n++) kalm__put_f32(out + (k * cols + n) * 4, s->rows[n]);
        }
        break;
    default: {
        float plus = it->t.kind % 32 == KALM__T_EOI ? 0.0f : 1.0f;
        if (!kalm__unit_read(b, s, 0, 1, s->rows, kalm__cols32(cols), r)) return;
        for (n = 0; n < cols; n++) kalm__put_f32(out + n * 4, plus + s->rows[n]);
        break;
    }
    }
}

KALM__FN size_t kalm__unit_bytes(const kalm__item *it)
{
    if (it->what == KALM__ITEM_MATRIX) return kalm__panel_bytes(it->t.type, it->t.cols);
    if (it->what == KALM__ITEM_TABLE) return KALM__TABLE_ROWS * kalm__embedding_row_bytes(it->t.type, it->t.cols);
    return (size_t)it->bytes;
}

KALM__FN kalm_result kalm__unit_fail(const kalm__plan *p, const kalm__item *it, const kalm__unit_result *r,
                                     kalm_error *err)
{
    const char *file = p->c.st.shards[it->from->shard].name;
    if (r->state == KALM__UNIT_UNREADABLE)
        return kalm__fail(err, KALM_CANNOT_READ, "%s: tensor %s cannot be read", file, it->from->shown);
    if (r->state == KALM__UNIT_NOT_FINITE)
        return kalm__fail(err, KALM_BAD_FILE, "tensor %s has a NaN or an infinity at [%U, %U]", it->from->shown,
                          r->row, r->col);
    return kalm__fail(err, KALM_BAD_FILE, "tensor %s has a number too large for %s in row %U", it->from->shown,
                      kalm__type_name(it->t.type), r->row);
}

#endif
