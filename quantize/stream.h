/* stream.h - brings all tensors from the checkpoint into the file, a lot of rows at a time: threads code the rows of one lot
   while one of them writes the lot before it, so memory does not grow with the model. Rounding errors are summed in the order of
   the rows: no byte of the file depends on the number of threads. */
#ifndef KALM__STREAM_H
#define KALM__STREAM_H

#include "../src/tools/files.h"
#include "../src/base.h"
#include "../src/format.h"
#include "../src/threads.h"
#include "calibrate.h"
#include "plan.h"
#include "../src/tools/progress.h"
#include "../src/tools/sink.h"
#include "units.h"

/* The section WEIGHTS while it is written. */
typedef struct kalm__output {
    kalm__sink     sink;
    kalm__hasher   hash;
    uint64_t       at;                 /* in the file */
    unsigned char *pending;            /* coded, and not yet written */
    size_t         pending_size;
    kalm_result    result;
    kalm_error     err;
} kalm__output;

KALM__FN void kalm__output_flush(kalm__output *w)
{
    if (w->result || !w->pending_size) return;
    kalm__hash_add(&w->hash, w->pending, w->pending_size);
    w->result = kalm__sink_write(&w->sink, w->at, w->pending, w->pending_size, &w->err);
    w->at += w->pending_size;
    w->pending_size = 0;
}

/* A lot to code, and where the one before it is written. */
typedef struct kalm__lot_job {
    kalm__lot     lot;
    kalm__output *w;
} kalm__lot_job;

/* Task 0 writes the lot before, each of the others codes one unit. */
KALM__FN void kalm__lot_task(void *arg, size_t i, unsigned worker)
{
    const kalm__lot_job *b = (const kalm__lot_job *)arg;
    if (!i) kalm__output_flush(b->w);
    else kalm__unit_code(&b->lot, i - 1, &b->lot.crew->spaces[worker]);
}

/* ---- streaming all tensors --------------------------------------------------------------------------------------- */

typedef struct kalm__streamer {
    kalm__crew     crew;
    unsigned char *out[2];             /* one being coded, one being written */
    float         *scale;
    int32_t       *sum;
    size_t         lot_bytes;          /* most of a lot */
    unsigned       current;            /* which of `out` the next lot is coded to */
} kalm__streamer;

enum { KALM__LOT_BYTES = 8 << 20 };

KALM__FN void kalm__streamer_end(kalm__streamer *s)
{
    kalm__crew_end(&s->crew);
    free(s->out[0]);
    free(s->out[1]);
    free(s->scale);
    free(s->sum);
}

KALM__FN kalm_result kalm__streamer_begin(kalm__streamer *s, const kalm__plan *p, unsigned threads, kalm_error *err)
{
    size_t i, out = 0, tail = 0;
    kalm_allocator alloc = p->c.st.allocator;      /* which refuses a size that overflowed */
    kalm_result r;
    memset(s, 0, sizeof *s);
    r = kalm__crew_begin(&s->crew, p, threads, err);
    if (r) return r;
    for (i = 0; i < p->count; i++) {
        const kalm__item *it = &p->items[i];
        if (it->what == KALM__ITEM_MATRIX) tail = kalm__max(tail, kalm__round_up(it->t.rows, KALM__PANEL));
        out = kalm__max(out, kalm__unit_bytes(it));
    }
    s->lot_bytes = kalm__max(KALM__LOT_BYTES, kalm__mul(out, s->crew.pool.size));
    for (i = 0; i < 2; i++)
        s->out[i] = (unsigned char *)kalm__alloc(&alloc, kalm__add(s->lot_bytes, kalm__add(kalm__mul(tail, 8), 64)));
    s->scale = (float *)kalm__alloc(&alloc, kalm__mul(tail, 4));
    s->sum = (int32_t *)kalm__alloc(&alloc, kalm__mul(tail, 4));
    if (!s->out[0] || !s->out[1] || !s->scale || !s->sum)
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for two lots of %z bytes", s->lot_bytes);
    return KALM_OK;
}

/* The last lot of a tensor of `units` units: behind `size` bytes of data come the scales and sums of a quantised matrix, then
   zeros. Returns the bytes of it all, a multiple of 64. */
KALM__FN size_t kalm__stream_tail(const kalm__streamer *s, const kalm__item *it, unsigned char *out, size_t size)
{
    size_t tail = it->t.scale ? it->units * KALM__PANEL : 0, k;
    for (k = 0; k < tail; k++) {
        kalm__put_f32(out + size + 4 * k, s->scale[k]);
        kalm__put_u32(out + size + 4 * (tail + k), (uint32_t)s->sum[k]);
    }
    size += tail * 8;
    memset(out + size, 0, (64 - size % 64) % 64);
    return kalm__round_up(size, 64);
}

/* One tensor, lot by lot; b->lot.it and b->lot.moments are set. While a lot is coded, the one before it is written. */
KALM__FN kalm_result kalm__stream_item(kalm__streamer *s, const kalm__plan *p, kalm__item *it, kalm__lot_job *b,
                                       const char *name, cmd_progress *show, kalm_error *err)
{
    size_t each = kalm__unit_bytes(it), most = kalm__min(s->crew.lot_units, kalm__max(1, s->lot_bytes / each)), first, k, n;
    kalm__loss loss = { 0, 0 };
    b->lot.stride = each;
    for (first = 0; first < it->units; first += n) {
        n = kalm__min(most, it->units - first);
        b->lot.first = first;
        b->lot.out = s->out[s->current];
        if (kalm__interrupted) return kalm__fail(err, KALM_CANCELLED, "interrupted");
        kalm__parallel(&s->crew.pool, n + 1, kalm__lot_task, b);
        if (b->w->result) {
            if (err) *err = b->w->err;
            return b->w->result;
        }
        for (k = 0; k < n; k++) {      /* in the order of the rows: the sums do not depend on the threads */
            if (s->crew.results[k].state) return kalm__unit_fail(p, it, &s->crew.results[k], err);
            loss.change += s->crew.results[k].loss.change;
            loss.weight += s->crew.results[k].loss.weight;
        }
        b->w->pending = b->lot.out;
        b->w->pending_size = first + n < it->units ? n * each
                             : kalm__stream_tail(s, it, b->lot.out, (size_t)(it->t.size - (uint64_t)first * each));
        s->current = !s->current;
        show->done += it->what == KALM__ITEM_HEAD ? 0 : it->from->size * n / it->units;
        cmd_progress_bytes(show, name);
    }
    it->t.error = loss.weight > 0 ? (float)sqrt(loss.change / loss.weight) : 0;
    return KALM_OK;
}

/* Run the calibration texts through the layer whose first matrix is called `name`. */
KALM__FN kalm_result kalm__stream_texts(kalm__calibration *texts, const kalm__item *it, const char *name, cmd_progress *show,
                                        kalm_error *err)
{
    char what[48];
    snprintf(what, sizeof what, "texts through %.*s", (int)strlen(name) - 2, name);      /* without ".q" */
    cmd_progress_stage(show, what);
    cmd_progress_bytes(show, what);
    return kalm__calibrate_layer(texts, it->t.kind / 32, it->t.layer, err);
}

/* Every tensor of the plan, in its order, to w; fills in the tensors' errors. texts: NULL where none are given. */
KALM__FN kalm_result kalm__stream(kalm__streamer *s, kalm__plan *p, kalm__calibration *texts, kalm__output *w, cmd_progress *show,
                                  kalm_error *err)
{
    static const char *const stages[4] = { "vectors", "layers of the encoder", "layers of the decoder", "embedding" };
    size_t i;
    int stage = -1;
    kalm__lot_job b;
    kalm_result r = KALM_OK;
    memset(&b, 0, sizeof b);
    b.w = w;
    b.lot.p = p;
    b.lot.crew = &s->crew;
    b.lot.scale = s->scale;
    b.lot.sum = s->sum;
    for (i = 0; i < p->count && !r; i++) {
        kalm__item *it = &p->items[i];
        char name[32];
        int now = it->what == KALM__ITEM_MATRIX ? 1 + (int)(it->t.kind / 32) : it->what == KALM__ITEM_TABLE ? 3 : 0;
        kalm__tensor_name(name, it->t.kind, it->t.layer);
        if (now != stage) cmd_progress_stage(show, stages[stage = now]);
        b.lot.it = it;
        b.lot.moments = NULL;
        if (texts && it->what == KALM__ITEM_MATRIX) {
            if (it->t.kind % 32 == KALM__T_Q) r = kalm__stream_texts(texts, it, name, show, err);
            b.lot.moments = kalm__calibrate_moments(texts, it->t.kind / 32, it->t.kind % 32);
        }
        if (!r) r = kalm__stream_item(s, p, it, &b, name, show, err);
    }
    if (r) return r;
    kalm__output_flush(w);
    if (w->result && err) *err = w->err;
    return w->result;
}

#endif
