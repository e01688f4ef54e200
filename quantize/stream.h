/* stream.h - all tensors from the checkpoint to the file, a lot of rows at a time: threads code the rows of one lot while
   one of them writes the lot before, so memory does not grow with the model. Sums of errors are taken in the order of the
   rows: the file does not depend on the number of threads. */
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

/* The section of the weights as it grows. */
typedef struct kalm__output {
    kalm__sink     sink;
    kalm__hasher   hash;
    uint64_t       at;                 /* in the file */
    unsigned char *pending;            /* coded, not written */
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

/* A lot and the output that the one before it waits for. */
typedef struct kalm__lot_job {
    kalm__lot     lot;
    kalm__output *w;
} kalm__lot_job;

/* Task 0 of a lot writes the one before, the others code. */
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

/* Every tensor of the plan, in its order, to w; fills in the tensors' errors. texts: NULL where none are given. */
KALM__FN kalm_result kalm__stream(kalm__streamer *s, kalm__plan *p, kalm__calibration *texts, kalm__output *w, cmd_progress *show,
                              kalm_error *err)
{
    size_t i, u, k;
    unsigned current = 0;
    int stage = -1;
    kalm__lot_job b;
    memset(&b, 0, sizeof b);
    b.w = w;
    b.lot.p = p;
    b.lot.crew = &s->crew;
    b.lot.scale = s->scale;
    b.lot.sum = s->sum;
    for (i = 0; i < p->count; i++) {
        kalm__item *it = &p->items[i];
        kalm__loss loss = { 0, 0 };
        char name[32];
        size_t each = kalm__unit_bytes(it), lot_units = kalm__min(s->crew.lot_units, kalm__max(1, s->lot_bytes / each));
        int now = it->what == KALM__ITEM_MATRIX ? 1 + (int)(it->t.kind / 32) : it->what == KALM__ITEM_TABLE ? 3 : 0;
        static const char *const stages[4] = { "vectors", "layers of the encoder", "layers of the decoder", "embedding" };
        kalm__tensor_name(name, it->t.kind, it->t.layer);
        if (now != stage) cmd_progress_stage(show, stages[stage = now]);
        b.lot.it = it;
        b.lot.stride = each;
        b.lot.moments = NULL;
        if (texts && it->what == KALM__ITEM_MATRIX) {
            if (it->t.kind % 32 == KALM__T_Q) {
                char what[48];
                kalm_result r;
                snprintf(what, sizeof what, "texts through %.*s", (int)strlen(name) - 2, name);    /* without ".q" */
                cmd_progress_stage(show, what);
                cmd_progress_bytes(show, what);
                r = kalm__calibrate_layer(texts, it->t.kind / 32, it->t.layer, err);
                if (r) return r;
            }
            b.lot.moments = kalm__calibrate_moments(texts, it->t.kind / 32, it->t.kind % 32);
        }
        for (u = 0; u < it->units; u += lot_units) {
            size_t n = kalm__min(lot_units, it->units - u), size = n * each, tail = 0;
            b.lot.first = u;
            b.lot.out = s->out[current];
            if (kalm__interrupted) return kalm__fail(err, KALM_CANCELLED, "interrupted");
            kalm__parallel(&s->crew.pool, n + 1, kalm__lot_task, &b);
            if (w->result) {
                if (err) *err = w->err;
                return w->result;
            }
            for (k = 0; k < n; k++) {
                if (s->crew.results[k].state) return kalm__unit_fail(p, it, &s->crew.results[k], err);
                loss.change += s->crew.results[k].loss.change;
                loss.weight += s->crew.results[k].loss.weight;
            }
            if (u + n == it->units) {
                size = (size_t)(it->t.size - (uint64_t)u * each);
                if (it->t.scale) {
                    tail = it->units * KALM__PANEL;
                    for (k = 0; k < tail; k++) {
                        kalm__put_f32(b.lot.out + size + 4 * k, s->scale[k]);
                        kalm__put_u32(b.lot.out + size + 4 * (tail + k), (uint32_t)s->sum[k]);
                    }
                    size += tail * 8;
                }
                memset(b.lot.out + size, 0, (64 - size % 64) % 64);
                size = kalm__round_up(size, 64);
            }
            w->pending = b.lot.out;
            w->pending_size = size;
            current = !current;
            show->done += it->what == KALM__ITEM_HEAD ? 0 : it->from->size * n / it->units;
            cmd_progress_bytes(show, name);
        }
        it->t.error = loss.weight > 0 ? (float)sqrt(loss.change / loss.weight) : 0;
    }
    kalm__output_flush(w);
    if (w->result && err) *err = w->err;
    return w->result;
}

#endif
