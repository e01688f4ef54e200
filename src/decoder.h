/* decoder.h - the forward pass of the decoder: the tokens of a prompt and the rows of documents through all layers, to the
   margin. In every layer each token of the prompt attends to the rows of its document and to the tokens before it, under one
   softmax (merged attention). All documents of a batch get the same prompt, each in a sequence of its own.

   Work that documents share is done once: in layer 0 the prompt's keys, values and queries depend on no document. In the last
   layer only the last token is read, so only it has a query.

   A pass begins from nothing, or from the states of documents (state.h), or makes these. scoring.h chooses the documents. */
#ifndef KALM__DECODER_H
#define KALM__DECODER_H

#include "base.h"
#include "layer.h"
#include "encoder.h"
#include "documents.h"

/* A batch at work. memory.seqs has a sequence for each document: `item` is its place in docs. */
typedef struct kalm__decoding {
    kalm_context *c;
    const int32_t *ids;                /* [tokens]: those to run, at positions first, first + 1, ... */
    size_t        tokens, first;
    size_t        prefix;              /* the prompt's first tokens, whose keys states hold; 0: there are no states */
    const kalm_doc *const *docs;
    kalm__batch   batch;
    int           warm;                /* the documents' keys come from states */
    size_t        doc_rows;            /* rows of all documents of the batch, packed in acts_doc */
    size_t        cross_room;          /* capacity handed out in memory.cross */
    size_t        parts;               /* 2 beside quantised weights: the rows, then their residual rows, what rounding lost */
    size_t        residual, in_all;    /* the first residual row in acts_doc, and the number of all rows there */
} kalm__decoding;

/* ---- document rows ----------------------------------------------------------------------------------------------------- */

/* The sequence that row i of the batch's documents, in the order of the sequences, belongs to, and its number there. */
KALM__FN const kalm__seq *kalm__doc_row_seq(const kalm__decoding *d, size_t i, size_t *within)
{
    const kalm__seq *q = d->c->memory.seqs;
    while (i >= q->cross.count) {
        i -= q->cross.count;
        q++;
    }
    *within = i;
    return q;
}

/* Read rows of documents, rotate them where the matrices want that, and pack them, once for all layers. All that is known of a
   document passes through them, so beside quantised weights they are residual rows: packed twice, the second time what rounding
   lost the first time (two-term quantisation). */
KALM__FN void kalm__pack_docs_task(void *arg, size_t i, unsigned worker)
{
    const kalm__decoding *d = (const kalm__decoding *)arg;
    const kalm__backend *m = &d->c->backend;
    const kalm__layer *l = &d->c->model->file.stack[KALM__DECODER].layers[0];
    uint32_t type = l->matrix[KALM__T_K].type;
    size_t step = KALM__ROW_STEP, first = i * step, count = kalm__min(step, d->doc_rows - first), hidden_size, k, n, within;
    void *scratch = kalm__scratch(m, worker);
    float *rows = (float *)scratch;
    kalm__row_work work;
    hidden_size = d->c->model->file.shape.hidden_size;
    if (d->c->model->file.rows.fingerprint) work = kalm__context_row_work(d->c, worker);
    for (k = 0; k < count; k += n) {   /* n rows of one document */
        const kalm__seq *q = kalm__doc_row_seq(d, first + k, &within);
        n = kalm__min(count - k, q->cross.count - within);
        kalm__doc_read_rows(&d->c->model->file.rows, m->kernels, &work, d->docs[q->item], within, n, rows + k * hidden_size);
    }
    for (k = 0; k < count && l->rotated[KALM__T_K]; k++)
        m->ops->hadamard(rows + k * hidden_size, rows + k * hidden_size, hidden_size);
    if (d->parts == 1) {
        kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), first, count,
                   rows, hidden_size);
        return;
    }
    memset(rows + count * hidden_size, 0, (step - count) * hidden_size * sizeof(float));      /* fills up to the residual rows */
    kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), first, step, rows, hidden_size);
    for (k = 0; k < count; k++) m->ops->rounding_loss(rows + k * hidden_size, rows + k * hidden_size, hidden_size);
    kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), d->residual + first, count,
               rows, hidden_size);
}

KALM__FN void kalm__pack_docs(kalm__decoding *d)
{
    kalm_context *c = d->c;
    size_t step = KALM__ROW_STEP;
    d->parts = kalm__is_quantised(c->model->file.stack[KALM__DECODER].layers[0].matrix[KALM__T_K].type) ? 2 : 1;
    d->residual = d->parts == 2 ? kalm__round_up(d->doc_rows, step) : d->doc_rows;
    d->in_all = d->parts == 2 ? d->residual + d->doc_rows : d->doc_rows;
    kalm__parallel(&c->pool, (d->doc_rows + step - 1) / step, kalm__pack_docs_task, d);
}

typedef struct kalm__doc_chunk {
    const kalm__decoding *d;
    const kalm__layer_run *run;
    size_t row0, n;                    /* of the batch's document rows */
} kalm__doc_chunk;

KALM__FN void kalm__store_docs_task(void *arg, size_t i, unsigned worker)
{
    const kalm__doc_chunk *chunk = (const kalm__doc_chunk *)arg;
    const kalm__decoding *d = chunk->d;
    const kalm__layer_run *r = chunk->run;
    const kalm__side *s = &r->stack->shape;
    const kalm__ops *ops = d->c->backend.ops;
    size_t all = (size_t)s->kv_heads * s->head_dim, k = i * 16, end = kalm__min(k + 16, chunk->n), j, n, within;
    kalm__heads heads = r->heads;
    (void)worker;
    if (!d->prefix) heads.bits = 0;
    for (; k < end; k += n) {          /* n rows of one document */
        const kalm__seq *q = kalm__doc_row_seq(d, chunk->row0 + k, &within);
        float *keys = d->c->memory.h + k * 2 * all, *second = d->c->memory.h + (d->c->chunk + k) * 2 * all;
        n = kalm__min(end - k, q->cross.count - within);
        for (j = 0; j < n; j++) {
            float *key = keys + j * 2 * all;
            if (d->parts == 2) ops->scale_add(key, 1.0f, second + j * 2 * all, 2 * all);
            kalm__finish_keys(r, key, NULL);
        }
        if (!kalm__store_keys(&heads, ops, &q->cross, within, n, keys, keys + all, 2 * all))
            d->c->memory.overflow[d->c->rows + chunk->row0 + k] = 1;
    }
}

/* Keys and values of the documents' rows in one layer. */
KALM__FN void kalm__cross_keys(const kalm__decoding *d, const kalm__layer_run *r)
{
    kalm__memory *m = &d->c->memory;
    const kalm__backend *b = &d->c->backend;
    size_t all = (size_t)r->stack->shape.kv_heads * r->stack->shape.head_dim, part, i;
    kalm__doc_chunk chunk;
    chunk.d = d;
    chunk.run = r;
    for (chunk.row0 = 0; chunk.row0 < d->doc_rows; chunk.row0 += d->c->chunk) {
        chunk.n = kalm__min(d->c->chunk, d->doc_rows - chunk.row0);
        for (part = 0; part < d->parts; part++) {
            float *out = m->h + part * d->c->chunk * 2 * all;
            size_t row = chunk.row0 + part * d->residual;
            kalm__linear(b, &r->layer->matrix[KALM__T_K], m->acts_doc, d->in_all, row, chunk.n, out, 2 * all, NULL);
            kalm__linear(b, &r->layer->matrix[KALM__T_V], m->acts_doc, d->in_all, row, chunk.n, out + all, 2 * all, NULL);
        }
        kalm__parallel(&d->c->pool, (chunk.n + 15) / 16, kalm__store_docs_task, &chunk);
    }
    for (i = 0; i < r->seqs; i++) kalm__end_keys(&r->heads, &m->seqs[i].cross);
    for (i = 0; i < d->doc_rows; i++)  /* an overflow of a document is one of its sequence */
        if (m->overflow[d->c->rows + i]) m->overflow[kalm__doc_row_seq(d, i, &part)->row] = 1;
}

/* ---- the first layer and the last -------------------------------------------------------------------------------------- */

/* The prompt as rows of the residual stream, and no overflow so far. */
KALM__FN void kalm__embed_prompt(const kalm__decoding *d)
{
    const kalm__file *f = &d->c->model->file;
    size_t i;
    memset(d->c->memory.overflow, 0, 2 * d->c->rows);
    for (i = 0; i < d->tokens; i++) kalm__embed(f, KALM__DECODER, d->ids[i], d->c->memory.x + i * f->shape.hidden_size);
}

/* Layer 0: the prompt's keys and values, stored once, in the place of the first sequence; every sequence gets its rows of the
   residual stream. */
KALM__FN void kalm__prompt_keys(const kalm__decoding *d, const kalm__layer_run *r)
{
    kalm__memory *m = &d->c->memory;
    size_t hidden_size = d->c->model->file.shape.hidden_size, i;
    kalm__layer_run prompt = *r;
    prompt.rows = d->tokens;
    kalm__layer_keys(&prompt, 1);
    for (i = 1; i < r->seqs; i++) {
        memcpy(m->x + m->seqs[i].row * hidden_size, m->x, d->tokens * hidden_size * sizeof(float));
        m->seqs[i].self = m->seqs[0].self;
    }
}

/* Layer 0: the prompt's queries, computed once; the prompt's rows lie packed in acts_in. NULL where the prompt is longer than a
   chunk, for which memory.first_q has room: then the rows of all sequences are packed, and queries computed for each. */
KALM__FN const float *kalm__prompt_queries(const kalm__decoding *d, const kalm__layer_run *r)
{
    kalm__layer_run prompt = *r;
    kalm__chunk chunk;
    if (d->tokens > d->c->chunk) {
        kalm__pack_inputs(r);
        return NULL;
    }
    prompt.rows = chunk.n = d->tokens;
    chunk.row0 = chunk.residual.count = 0;
    kalm__layer_queries(&prompt, &chunk, d->c->memory.first_q);
    return d->c->memory.first_q;
}

/* The last layer, once keys are stored: keep the last row of every sequence, which is all that is read of it. */
KALM__FN void kalm__keep_last_rows(kalm__layer_run *r)
{
    kalm__memory *m = &r->c->memory;
    size_t hidden_size = r->c->model->file.shape.hidden_size, i;
    for (i = 0; i < r->seqs; i++) {
        kalm__seq *q = &m->seqs[i];
        size_t last = q->row + q->count - 1;
        m->overflow[i] = memchr(m->overflow + q->row, 1, q->count) != NULL;
        memmove(m->x + i * hidden_size, m->x + last * hidden_size, hidden_size * sizeof(float));
        q->position += q->count - 1;
        q->count = 1;
        q->row = i;
        m->row_seq[i] = (uint32_t)i;
    }
    r->rows = r->seqs;               /* rows behind these are no longer looked at */
    kalm__pack_inputs(r);
}

/* The logits of yes and no from the last row of a prompt, x [hidden_size], capped where the model caps them (docs/MODEL.md); normed
   [hidden_size] is room to work in. Returns 0 when numbers have overflowed on the way. */
KALM__FN int kalm__read_logits(const kalm_context *c, const float *x, float *normed, float *yes_logit, float *no_logit)
{
    const kalm__file *f = &c->model->file;
    const kalm__stack *s = &f->stack[KALM__DECODER];
    size_t hidden_size = f->shape.hidden_size;
    float yes, no, cap = f->shape.softcap;
    int finite;
    c->backend.ops->rms_norm(normed, x, s->norm, hidden_size, s->shape.norm_eps, 1);
    yes = c->backend.ops->dot(normed, f->head, hidden_size);
    no = c->backend.ops->dot(normed, f->head + hidden_size, hidden_size);
    finite = kalm__is_finite(yes) && kalm__is_finite(no);
    if (cap > 0.0f) {
        yes = (float)kalm__times_double((double)cap, kalm__tanh((double)kalm__over(yes, cap)));
        no = (float)kalm__times_double((double)cap, kalm__tanh((double)kalm__over(no, cap)));
    }
    *yes_logit = yes;
    *no_logit = no;
    return finite;
}

/* Margin and score from the same row: margin = yes - no, score = 1 / (1 + e^-margin) (docs/MODEL.md). */
KALM__FN int kalm__read_margin(const kalm_context *c, const float *x, float *normed, kalm_score *score)
{
    float yes, no;
    int finite = kalm__read_logits(c, x, normed, &yes, &no);
    score->margin = kalm__rounded(yes - no);
    score->score = (float)kalm__over_double(1.0, kalm__rounded_double(1.0 + kalm__exp(-(double)score->margin)));
    return finite && kalm__is_finite(score->margin);
}

/* ---- states ---------------------------------------------------------------------------------------------------------- */

KALM__FN size_t kalm__kept_bytes(const kalm__heads *h, size_t n)
{
    return h->bits ? kalm__packed_bytes(h, n) : kalm__key_bytes(h, kalm__round_up(n, KALM__KEY_STEP));
}

/* Bytes of a state's data before layer `layer`: for each, the keys and values of the document's rows, then the prefix's. */
KALM__FN size_t kalm__state_bytes(const kalm_context *c, uint32_t layer, size_t rows, size_t prefix)
{
    size_t bytes = 0;
    uint32_t l;
    for (l = 0; l < layer; l++) {
        kalm__heads h = kalm__layer_heads(c, KALM__DECODER, l);
        bytes = kalm__add(bytes, kalm__add(kalm__kept_bytes(&h, rows), kalm__kept_bytes(&h, prefix)));
    }
    return bytes;
}

/* Keys of a sequence's document and of the prompt's first tokens into its state, or back. Where they are not packed, attention
   reads the document's in the state. */
KALM__FN void kalm__keep_keys_task(void *arg, size_t i, unsigned worker)
{
    const kalm__layer_run *r = (const kalm__layer_run *)arg;
    const kalm__heads *h = &r->heads;
    kalm__seq *q = &r->c->memory.seqs[i];
    kalm__keys prefix = q->self, cross = q->cross, kept;
    int back = !r->no_residual;
    (void)worker;
    prefix.count = r->prefix;
    kept = prefix;
    kept.capacity = kalm__round_up(r->prefix, KALM__KEY_STEP);
    cross.data = q->state->data + kalm__state_bytes(r->c, (uint32_t)(r->layer - r->stack->layers), cross.count, r->prefix);
    kept.data = cross.data + kalm__kept_bytes(h, cross.count);
    if (h->bits) {
        kalm__pack_keys(h, &q->cross, cross.data, back);
        kalm__pack_keys(h, &prefix, kept.data, back);
    } else if (back) {
        q->cross.data = cross.data;
        kalm__copy_keys(h, &prefix, &kept);
    } else {
        kalm__copy_keys(h, &cross, &q->cross);
        kalm__copy_keys(h, &kept, &prefix);
    }
}

/* ---- the forward passes ------------------------------------------------------------------------------------------------ */

enum { KALM__COLD, KALM__BUILD, KALM__WARM };

/* KALM__COLD: from nothing. KALM__WARM: from states for the prompt's first d->first tokens. After either x[i] is the residual
   stream of the last token of sequence i. KALM__BUILD: the states of the batch's documents for the tokens of d. */
KALM__FN kalm_result kalm__decode(kalm__decoding *d, int pass, kalm__job *job, kalm_error *err)
{
    uint32_t l, layers = d->c->model->file.stack[KALM__DECODER].shape.layers;
    kalm_result result = KALM_OK;
    kalm__job_watch(job, d->c);
    kalm__embed_prompt(d);
    if (pass != KALM__WARM) kalm__pack_docs(d);
    for (l = 0; l < layers && !result; l++) {
        int last = l + 1 == layers;
        kalm__layer_run r;
        const float *shared = NULL;
        kalm__layer_begin(&r, d->c, KALM__DECODER, l, d->batch.rows, d->batch.seqs);
        r.no_residual = pass == KALM__BUILD;
        r.prefix = d->prefix;
        kalm__place_keys(&r);
        if (pass == KALM__WARM) kalm__parallel(&d->c->pool, r.seqs, kalm__keep_keys_task, &r);
        else kalm__cross_keys(d, &r);
        if (l == 0) kalm__prompt_keys(d, &r);
        else kalm__layer_keys(&r, r.seqs);
        if (pass == KALM__BUILD) kalm__parallel(&d->c->pool, r.seqs, kalm__keep_keys_task, &r);
        else if (last) kalm__keep_last_rows(&r);
        if (l == 0 && !last) shared = kalm__prompt_queries(d, &r);
        if (!last || pass != KALM__BUILD) kalm__layer_rows(&r, shared);
        result = kalm__layer_end(&r, job, pass == KALM__BUILD ? 0 : r.seqs, err);    /* documents count when they are scored */
    }
    return kalm__job_unwatch(d->c, result);
}

#endif
