/* encoder.h - from the tokens of texts to documents: a batch of texts goes through the encoder's layers, and the rows that
   come out are pooled, `ratio` of them to one row of the document (Matryoshka embedding pooling, MEP: the plain mean). Also
   what calls of the user have in common: progress and the numbering of documents. */
#ifndef KALM__ENCODER_H
#define KALM__ENCODER_H

#include "base.h"
#include "layer.h"
#include "documents.h"

/* One call of the caller's: how it wants things done, how far it is, and how it numbers the documents at hand. */
typedef struct kalm__job {
    const kalm_params *params;         /* checked, zeros replaced by defaults */
    size_t          done, total;       /* of what the progress callback is told: layers x documents */
    const uint32_t *place;             /* the caller's number of each document at hand; NULL: base, base + 1, ... */
    size_t          base;
} kalm__job;

KALM__FN void kalm__job_begin(kalm__job *j, const kalm_params *params, size_t documents, size_t layers)
{
    memset(j, 0, sizeof *j);
    j->params = params;
    j->total = kalm__mul(documents, layers);
}

KALM__INLINE size_t kalm__job_number(const kalm__job *j, size_t item) { return j->place ? j->place[item] : j->base + item; }

/* Shall the job go on? Asked in the middle of a layer, or of a long text. */
KALM__FN int kalm__ask_progress(void *user)
{
    const kalm__job *j = (const kalm__job *)user;
    return j->params->progress(j->params->progress_user, j->done, kalm__max(j->done, j->total));
}

/* A forward pass begins, in which the job may be stopped. */
KALM__FN void kalm__job_watch(kalm__job *j, kalm_context *c)
{
    kalm__pool_watch(&c->pool, j->params->progress ? kalm__ask_progress : NULL, j);
}

KALM__FN kalm_result kalm__job_cancelled(kalm_error *err)
{
    return kalm__fail(err, KALM_CANCELLED, "cancelled by the progress callback");
}

/* The forward pass has ended, with `result`. */
KALM__FN kalm_result kalm__job_unwatch(kalm_context *c, kalm_result result)
{
    kalm__pool_watch(&c->pool, NULL, NULL);
    return result;
}

/* One layer is done with `documents` more. */
KALM__FN kalm_result kalm__job_step(kalm__job *j, size_t documents, kalm_error *err)
{
    j->done += documents;
    if (j->params->progress && j->params->progress(j->params->progress_user, j->done, kalm__max(j->done, j->total)))
        return kalm__job_cancelled(err);
    return KALM_OK;
}

/* The same, where no row of the batch at hand has overflowed: else the document is named. */
KALM__FN kalm_result kalm__layer_end(const kalm__layer_run *r, kalm__job *j, size_t documents, kalm_error *err)
{
    const kalm__memory *m = &r->c->memory;
    const void *found = memchr(m->overflow, 1, r->rows);
    if (r->c->pool.stopped) return kalm__job_cancelled(err);
    if (found) {
        size_t row = (size_t)((const uint8_t *)found - m->overflow);
        return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: a token, key, value or query is not finite",
                          kalm__job_number(j, m->seqs[m->row_seq[row]].item));
    }
    return kalm__job_step(j, documents, err);
}

/* Sequences that go through a stack together, their rows one behind the other. */
typedef struct kalm__batch {
    kalm_context *c;
    size_t        rows, seqs;          /* so far; the sequences are in memory.seqs */
    size_t        limit;               /* rows it may have: the context's rows, or prompt_rows in the decoder */
    size_t        self_room;           /* room for keys that is handed out in memory.self, in keys */
    const int32_t *ids;                /* [rows] */
} kalm__batch;

/* One more sequence of `count` rows at `position`; 0 when the batch is full. */
KALM__FN int kalm__batch_add(kalm__batch *b, size_t count, size_t position, size_t item)
{
    kalm__memory *m = &b->c->memory;
    size_t room = kalm__round_up(position + count, KALM__KEY_STEP), i;
    kalm__seq *q;
    if (room > b->limit - b->self_room || count > b->limit - b->rows || b->seqs == b->limit / KALM__KEY_STEP)
        return 0;
    q = &m->seqs[b->seqs];
    memset(q, 0, sizeof *q);
    q->row = b->rows;
    q->count = count;
    q->position = position;
    q->item = item;
    q->self.count = position + count;
    q->self.capacity = room;
    q->place = b->self_room;
    for (i = 0; i < count; i++) m->row_seq[b->rows + i] = (uint32_t)b->seqs;
    b->rows += count;
    b->self_room += room;
    b->seqs++;
    return 1;
}

KALM__FN void kalm__embed_task(void *arg, size_t i, unsigned worker)
{
    const kalm__batch *b = (const kalm__batch *)arg;
    size_t first = i * 16, end = kalm__min(first + 16, b->rows), hidden_size = b->c->model->file.shape.hidden_size;
    (void)worker;
    for (; first < end; first++)
        kalm__embed(&b->c->model->file, KALM__ENCODER, b->ids[first], b->c->memory.x + first * hidden_size);
}

/* The forward pass of the encoder: the tokens of a batch through all layers. x then holds the residual stream before the
   final norm. */
KALM__FN kalm_result kalm__encode_batch(kalm__batch *b, kalm__job *job, kalm_error *err)
{
    kalm_context *c = b->c;
    kalm_result result = KALM_OK;
    uint32_t l;
    kalm__job_watch(job, c);
    memset(c->memory.overflow, 0, c->rows);
    kalm__parallel(&c->pool, (b->rows + 15) / 16, kalm__embed_task, b);
    for (l = 0; l < c->model->file.stack[KALM__ENCODER].shape.layers && !result; l++) {
        kalm__layer_run r;
        kalm__layer_begin(&r, c, KALM__ENCODER, l, b->rows, b->seqs);
        kalm__place_keys(&r);
        kalm__layer_keys(&r, b->seqs);
        kalm__layer_rows(&r, NULL);
        result = kalm__layer_end(&r, job, b->seqs, err);
    }
    return kalm__job_unwatch(c, result);
}

typedef struct kalm__pooling {
    kalm_context  *c;
    const kalm__seq *seq;
    size_t         ratio, row_bytes;
    size_t         count, step;        /* rows of the document, and of a task: coded rows are made several at a time */
    uint32_t       bits;
    unsigned char *rows;
} kalm__pooling;

/* Rows [i * step, (i + 1) * step) of a document. Row j is the mean of the rows [j * ratio, (j + 1) * ratio) of the text, as far
   as it goes, each normed first. */
KALM__FN void kalm__pool_task(void *arg, size_t i, unsigned worker)
{
    const kalm__pooling *p = (const kalm__pooling *)arg;
    const kalm__file *f = &p->c->model->file;
    const kalm__ops *ops = p->c->backend.ops;
    const kalm__stack *s = &f->stack[KALM__ENCODER];
    size_t hidden_size = f->shape.hidden_size, at = i * p->step, n = kalm__min(p->step, p->count - at), j, k;
    void *scratch = kalm__scratch(&p->c->backend, worker);
    float *sums = (float *)scratch, *row = sums + p->step * hidden_size;
    for (j = 0; j < n; j++) {
        float *sum = sums + j * hidden_size;
        size_t first = (at + j) * p->ratio, end = kalm__min(first + p->ratio, p->seq->count);
        memset(sum, 0, hidden_size * sizeof(float));
        for (k = first; k < end; k++) {
            ops->rms_norm(row, p->c->memory.x + (p->seq->row + k) * hidden_size, s->norm, hidden_size, s->shape.norm_eps, 1);
            ops->scale_add(sum, 1.0f, row, hidden_size);
        }
        ops->scale_row(sum, sum, kalm__over(1.0f, (float)(end - first)), hidden_size);
    }
    if (kalm__is_coded(p->bits)) {
        kalm__row_work work = kalm__context_row_work(p->c, worker);
        kalm__doc_write_rows(&f->rows, p->c->backend.kernels, &work, p->rows + at * p->row_bytes, sums, n, p->bits,
                             (uint32_t)p->ratio);
    } else kalm__doc_write_row(p->rows + at * p->row_bytes, sums, hidden_size, p->bits);
}

/* The document of sequence `seq` of an encoded batch into *doc; `number` is its place in the caller's array. */
KALM__FN kalm_result kalm__pool_document(kalm_context *c, const kalm__seq *seq, size_t number, uint32_t ratio, uint32_t bits,
                                         kalm_doc **doc, kalm_error *err)
{
    kalm_doc_info info;
    kalm__pooling p;
    uint32_t bad;
    memset(&info, 0, sizeof info);
    info.tokens = (uint32_t)kalm__min(seq->tokens, UINT32_MAX);
    info.tokens_used = (uint32_t)seq->count;
    info.ratio = ratio;
    info.rows = (uint32_t)((seq->count - 1) / ratio + 1);
    info.width = c->model->file.shape.hidden_size;
    info.bits = bits;
    info.fingerprint = c->model->file.fingerprint;
    info.vocabulary = c->model->file.vocabulary;
    info.transform = kalm__is_coded(bits) ? c->model->file.rows.fingerprint : 0;
    *doc = kalm__doc_new(&c->alloc, &info, &p.rows);
    if (!*doc) return kalm__fail(err, KALM_NO_MEMORY, "no memory for document %z of %z tokens", number, seq->count);
    p.c = c;
    p.seq = seq;
    p.ratio = ratio;
    p.bits = bits;
    p.row_bytes = kalm__doc_row_bytes(info.width, bits);
    p.count = info.rows;
    p.step = kalm__is_coded(bits) ? KALM__ROWS_TOGETHER : 1;
    kalm__parallel(&c->pool, (p.count + p.step - 1) / p.step, kalm__pool_task, &p);
    bad = kalm__doc_overflow(p.rows, &info);
    if (bad < info.rows) {
        kalm__doc_release(*doc);
        *doc = NULL;
        return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: row %u is not finite", number, bad);
    }
    kalm__doc_seal(*doc, p.rows);
    return KALM_OK;
}

#endif
