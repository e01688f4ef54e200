/* decoder.h - a prompt and documents to margins: the prompt's tokens run once for every document of a batch, each row of a
   document stands beside the prompt's own keys in every layer, and two rows of the head are read at the last token.

   Work that documents share is done once: layer 0's keys, values and queries depend on the prompt alone; in the last layer
   only the last token goes beyond its keys and values. With a cache (state.h) a document's keys and values and those of the
   prompt's first tokens are computed once and kept; each query then runs its remaining tokens only. */
#ifndef KALM__DECODER_H
#define KALM__DECODER_H

#include "base.h"
#include "layer.h"
#include "encoder.h"
#include "documents.h"

/* What the decoder reads: instruction and query as tokens. */
typedef struct kalm__prompt {
    const int32_t *ids;
    size_t         tokens;
    size_t         prefix;             /* the first ones, which come again with other queries: see state.h. 0: none known */
    uint32_t       cut;                /* KALM_CUT_QUERY or 0 */
} kalm__prompt;

enum { KALM__COLD, KALM__BUILD, KALM__WARM };   /* no states; compute states; go on from states */
typedef struct kalm__decoding {
    kalm_context *c;
    const int32_t *ids;                /* [tokens]: those to run, at positions first, first + 1, ... */
    size_t        tokens, first;
    int           mode;
    const kalm_doc *const *docs;
    kalm__batch   batch;
    size_t        doc_rows;            /* of the batch, packed in acts_doc */
    size_t        cross_room;          /* capacity handed out in memory.cross */
    size_t        planes;              /* 2 beside quantised weights: what rounding lost of the rows follows at `second` */
    size_t        second, in_all;      /* rows in acts_doc before the second planes, and in all */
    size_t        row0, n;             /* chunk of document rows at hand */
    kalm__layer_run *run;
} kalm__decoding;

/* The sequence that document row i of the batch belongs to: documents' rows are numbered through in the order of the
   sequences, each starting at cross.count rows behind the one before. */
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

/* Read rows of documents, rotate, pack: the same for the keys and values of all layers. All that is known of a document
   passes through these few rows, so beside quantised weights they go in two planes. */
KALM__FN void kalm__pack_docs_task(void *arg, size_t i, unsigned worker)
{
    const kalm__decoding *d = (const kalm__decoding *)arg;
    const kalm__backend *m = &d->c->backend;
    const kalm__layer *l = &d->c->model->file.stack[KALM__DECODER].layers[0];
    uint32_t type = l->matrix[KALM__T_K].type;
    size_t step = KALM__ROW_STEP, first = i * step, count = kalm__min(step, d->doc_rows - first), hidden_size, k, within;
    void *scratch = kalm__scratch(m, worker);
    float *rows = (float *)scratch;
    hidden_size = d->c->model->file.shape.hidden_size;
    for (k = 0; k < count; k++) {
        const kalm__seq *q = kalm__doc_row_seq(d, first + k, &within);
        kalm__doc_read_row(d->docs[q->item], within, rows + k * hidden_size);
        if (l->rotated[KALM__T_K]) m->ops->hadamard(rows + k * hidden_size, hidden_size);
    }
    if (d->planes == 1) {
        kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), first, count,
                   rows, hidden_size);
        return;
    }
    memset(rows + count * hidden_size, 0, (step - count) * hidden_size * sizeof(float));      /* fills up to `second` */
    kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), first, step, rows, hidden_size);
    for (k = 0; k < count; k++) m->ops->rounding_loss(rows + k * hidden_size, rows + k * hidden_size, hidden_size);
    kalm__pack(m->kernels, kalm__block_of(type, d->in_all, hidden_size, d->c->memory.acts_doc), d->second + first, count,
               rows, hidden_size);
}

KALM__FN void kalm__pack_docs(kalm__decoding *d)
{
    kalm_context *c = d->c;
    size_t step = KALM__ROW_STEP;
    d->planes = kalm__is_quantised(c->model->file.stack[KALM__DECODER].layers[0].matrix[KALM__T_K].type) ? 2 : 1;
    d->second = d->planes == 2 ? kalm__round_up(d->doc_rows, step) : d->doc_rows;
    d->in_all = d->planes == 2 ? d->second + d->doc_rows : d->doc_rows;
    kalm__parallel(&c->pool, (d->doc_rows + step - 1) / step, kalm__pack_docs_task, d);
}

KALM__FN void kalm__store_docs_task(void *arg, size_t i, unsigned worker)
{
    const kalm__decoding *d = (const kalm__decoding *)arg;
    const kalm__side *s = &d->c->model->file.stack[KALM__DECODER].shape;
    const kalm__ops *ops = d->c->backend.ops;
    size_t dim = s->head_dim, all = s->kv_heads * dim, k = i * 16, end = kalm__min(k + 16, d->n), h, j, n, within;
    (void)worker;
    for (; k < end; k += n) {          /* of one document */
        const kalm__seq *q = kalm__doc_row_seq(d, d->row0 + k, &within);
        float *keys = d->c->memory.h + k * 2 * all, *second = d->c->memory.h + (d->c->chunk + k) * 2 * all;
        n = kalm__min(end - k, q->cross.count - within);
        for (j = 0; j < n; j++) {
            float *key = keys + j * 2 * all;
            if (d->planes == 2) ops->scale_add(key, 1.0f, second + j * 2 * all, 2 * all);
            for (h = 0; h < s->kv_heads; h++) {
                ops->norm_rotate(key + h * dim, key + h * dim, d->run->layer->norm[KALM__T_K_NORM], dim, s->norm_eps, 1.0f, NULL);
                if (d->run->heads.type == KALM__Q8) ops->hadamard(key + h * dim, dim);
            }
        }
        kalm__store_keys(&d->run->heads, ops, &q->cross, within, n, keys, keys + all, 2 * all);
    }
}

/* Keys and values of the documents' rows in one layer: k_proj, k_norm, no rotary. */
KALM__FN void kalm__cross_keys(kalm__decoding *d, kalm__layer_run *r)
{
    kalm__memory *m = &d->c->memory;
    size_t all = (size_t)r->stack->shape.kv_heads * r->stack->shape.head_dim, plane, i;
    d->run = r;
    for (d->row0 = 0; d->row0 < d->doc_rows; d->row0 += d->c->chunk) {
        d->n = kalm__min(d->c->chunk, d->doc_rows - d->row0);
        for (plane = 0; plane < d->planes; plane++) {
            float *out = m->h + plane * d->c->chunk * 2 * all;
            size_t row = d->row0 + plane * d->second;
            kalm__linear(&d->c->backend, &r->layer->matrix[KALM__T_K], m->acts_doc, d->in_all, row, d->n, out, 2 * all, NULL);
            kalm__linear(&d->c->backend, &r->layer->matrix[KALM__T_V], m->acts_doc, d->in_all, row, d->n, out + all, 2 * all, NULL);
        }
        kalm__parallel(&d->c->pool, (d->n + 15) / 16, kalm__store_docs_task, d);
    }
    for (i = 0; i < r->seqs; i++) kalm__end_keys(&r->heads, &m->seqs[i].cross);
}

/* Layer 0: the prompt's keys, values and queries once, in the places of the first sequence; then every document's rows.
   Prompts longer than a chunk compute their queries per document, since only a chunk of them is kept. */
KALM__FN void kalm__first_layer(kalm__decoding *d, kalm__layer_run *r)
{
    kalm__memory *m = &d->c->memory;
    size_t hidden_size = d->c->model->file.shape.hidden_size, i, rows = r->rows;
    int share = d->tokens <= d->c->chunk;
    r->rows = d->tokens;
    kalm__layer_keys(r, 1);
    if (share) {
        float *q = m->q;
        r->row0 = 0;
        r->n = d->tokens;
        m->q = m->first_q;             /* layer_queries writes there for once */
        kalm__layer_queries(r);
        m->q = q;
    }
    r->rows = rows;
    for (i = 1; i < r->seqs; i++) {
        memcpy(m->x + m->seqs[i].row * hidden_size, m->x, d->tokens * hidden_size * sizeof(float));
        m->seqs[i].self = m->seqs[0].self;
    }
    if (!share) {
        r->row0 = 0;
        (void)kalm__pack_rows(r, m->x, r->rows, KALM__T_Q, r->layer->norm[KALM__T_PRE_ATTENTION]);
    }
    kalm__layer_rows(r, share ? m->first_q : NULL);
}

/* Keep the last row of every sequence: all that the last layer's queries, MLP and the head need. */
KALM__FN void kalm__keep_last_rows(kalm__decoding *d, kalm__layer_run *r)
{
    kalm__memory *m = &d->c->memory;
    size_t hidden_size = d->c->model->file.shape.hidden_size, i;
    for (i = 0; i < r->seqs; i++) {
        kalm__seq *q = &m->seqs[i];
        size_t last = q->row + q->count - 1;
        memmove(m->x + i * hidden_size, m->x + last * hidden_size, hidden_size * sizeof(float));
        q->position += q->count - 1;
        q->count = 1;
        q->row = i;
        m->row_seq[i] = (uint32_t)i;
    }
    r->rows = r->seqs;
    r->row0 = 0;
    (void)kalm__pack_rows(r, m->x, r->rows, KALM__T_Q, r->layer->norm[KALM__T_PRE_ATTENTION]);
}

/* margin and score from the last row (MODEL.md, Decoder); logits[2], when not NULL, gets yes and no. Returns
   0 when numbers have overflowed on the way. */
KALM__FN int kalm__read_margin(const kalm_context *c, const float *x, float *normed, kalm_score *score, float *logits)
{
    const kalm__file *f = &c->model->file;
    const kalm__stack *s = &f->stack[KALM__DECODER];
    size_t hidden_size = f->shape.hidden_size;
    float yes, no, cap = f->shape.softcap;
    int finite;
    c->backend.ops->rms_norm(normed, x, s->norm, hidden_size, s->shape.norm_eps);
    yes = c->backend.ops->dot(normed, f->head, hidden_size);
    no = c->backend.ops->dot(normed, f->head + hidden_size, hidden_size);
    finite = kalm__is_finite(yes) && kalm__is_finite(no);
    if (cap > 0.0f) {
        yes = (float)kalm__times_double((double)cap, kalm__tanh((double)kalm__over(yes, cap)));
        no = (float)kalm__times_double((double)cap, kalm__tanh((double)kalm__over(no, cap)));
    }
    score->margin = kalm__rounded(yes - no);
    finite = finite && kalm__is_finite(score->margin);
    score->score = (float)kalm__over_double(1.0, kalm__rounded_double(1.0 + kalm__exp(-(double)score->margin)));
    if (logits) {
        logits[0] = yes;
        logits[1] = no;
    }
    return finite;
}

/* ---- states ---------------------------------------------------------------------------------------------------------- */

/* Bytes of a state's data before layer `layer`: for each, the keys and values of the document's rows, then the prefix's. */
KALM__FN size_t kalm__state_bytes(const kalm_context *c, uint32_t layer, size_t rows, size_t prefix)
{
    size_t bytes = 0;
    uint32_t l;
    for (l = 0; l < layer; l++) {
        kalm__heads h = kalm__layer_heads(&c->model->file, KALM__DECODER, l);
        bytes = kalm__add(bytes, kalm__add(kalm__key_bytes(&h, kalm__round_up(rows, KALM__KEY_STEP)),
                                           kalm__key_bytes(&h, kalm__round_up(prefix, KALM__KEY_STEP))));
    }
    return bytes;
}

/* Copy keys [0, from->count) into a sequence's own place, whose capacity may differ. */
KALM__FN void kalm__copy_keys(const kalm__heads *h, const kalm__keys *to, const kalm__keys *from)
{
    kalm__key_parts a = kalm__key_layout(h, to->capacity), b = kalm__key_layout(h, from->capacity);
    size_t head, d, n = from->count, channels = kalm__round_up(h->head_dim, 16);
    size_t values = h->type == KALM__F32 ? n * 16 * sizeof(float) : kalm__round_up(n, 4) * 16;       /* of 16 channels */
    for (head = 0; head < h->kv_heads; head++) {
        unsigned char *out = to->data + head * a.size;
        const unsigned char *in = from->data + head * b.size;
        memcpy(out, in, kalm__round_up(n, 16) / 16 * kalm__panel_bytes(h->type, h->head_dim));
        for (d = 0; d < channels; d += 16)
            memcpy(out + a.value + d * ((a.value_scale ? a.value_scale - a.value : a.size - a.value) / channels),
                   in + b.value + d * ((b.value_scale ? b.value_scale - b.value : b.size - b.value) / channels), values);
        if (h->type == KALM__F32) continue;
        memcpy(out + a.key_scale, in + b.key_scale, n * 4);
        if (h->type == KALM__Q8) memcpy(out + a.key_sum, in + b.key_sum, n * 4);
        memcpy(out + a.value_scale, in + b.value_scale, n * 4);
    }
}

/* Where this layer's keys lie when states are there: see the modes. */
KALM__FN void kalm__place_states(kalm__decoding *d, const kalm__layer_run *r, uint32_t layer, size_t prefix)
{
    size_t i;
    for (i = 0; i < r->seqs; i++) {
        kalm__seq *q = &d->c->memory.seqs[i];
        kalm__keys kept;
        q->cross.data = q->state->data + kalm__state_bytes(d->c, layer, q->cross.count, prefix);
        kept.data = q->cross.data + kalm__key_bytes(&r->heads, q->cross.capacity);
        kept.count = prefix;
        kept.capacity = kalm__round_up(prefix, KALM__KEY_STEP);
        if (d->mode == KALM__BUILD) q->self = kept;
        else kalm__copy_keys(&r->heads, &q->self, &kept);
    }
}

/* ---- batches --------------------------------------------------------------------------------------------------------- */

/* All layers over the sequences of d->batch. Afterwards x[i] is the last row of sequence i, unless states were built. */
KALM__FN kalm_result kalm__decode_batch(kalm__decoding *d, kalm__job *job, kalm_error *err)
{
    kalm_context *c = d->c;
    kalm__memory *m = &c->memory;
    const kalm__file *f = &c->model->file;
    uint32_t l, layers = f->stack[KALM__DECODER].shape.layers;
    size_t i, rows = d->batch.rows, hidden_size = f->shape.hidden_size;
    size_t prefix = d->mode == KALM__WARM ? d->first : d->tokens;
    for (i = 0; i < d->tokens; i++) kalm__embed(f, KALM__DECODER, d->ids[i], m->x + i * hidden_size);
    if (d->mode != KALM__WARM) kalm__pack_docs(d);
    for (l = 0; l < layers; l++) {
        kalm__layer_run r;
        kalm_result result;
        int last = l + 1 == layers;
        kalm__layer_begin(&r, c, KALM__DECODER, l, rows, d->batch.seqs);
        r.no_residual = d->mode == KALM__BUILD;
        kalm__place_keys(&r);
        if (d->mode != KALM__COLD) kalm__place_states(d, &r, l, prefix);
        if (d->mode != KALM__WARM) kalm__cross_keys(d, &r);
        if (l == 0 && !last) {
            kalm__first_layer(d, &r);
            for (i = 1; d->mode == KALM__BUILD && i < d->batch.seqs; i++) {       /* each state has its own copy */
                kalm__seq *q = &m->seqs[i];
                memcpy(q->cross.data + kalm__key_bytes(&r.heads, q->cross.capacity), q->self.data,
                       kalm__key_bytes(&r.heads, q->self.capacity));
            }
        } else {
            if (l == 0)
                for (i = 1; i < d->batch.seqs; i++)
                    memcpy(m->x + m->seqs[i].row * hidden_size, m->x, d->tokens * hidden_size * sizeof(float));
            kalm__layer_keys(&r, d->batch.seqs);
            if (last && d->mode != KALM__BUILD) kalm__keep_last_rows(d, &r);
            if (!last || d->mode != KALM__BUILD) kalm__layer_rows(&r, NULL);
        }
        result = kalm__step(job, d->mode == KALM__BUILD ? 0 : d->batch.seqs, err);
        if (result) return result;
    }
    return KALM_OK;
}

KALM__FN void kalm__decoding_begin(kalm__decoding *d, kalm_context *c, const int32_t *ids, size_t first, size_t tokens,
                                   const kalm_doc *const *docs, int mode)
{
    memset(d, 0, sizeof *d);
    d->c = c;
    d->ids = ids + first;
    d->first = first;
    d->tokens = tokens;
    d->docs = docs;
    d->mode = mode;
    d->batch.c = c;
    d->batch.limit = c->prompt_rows;
}

/* One more document in the batch; 0 when it is full. Document rows take room only where they are computed. */
KALM__FN int kalm__decoding_add(kalm__decoding *d, size_t item, kalm__state *state)
{
    size_t rows = d->docs[item]->info.rows, capacity = kalm__round_up(rows, KALM__KEY_STEP);
    kalm__seq *q;
    if (d->mode != KALM__WARM && capacity > d->c->rows - d->cross_room) return 0;
    if (!kalm__batch_add(&d->batch, d->tokens, d->first, item)) return 0;
    q = &d->c->memory.seqs[d->batch.seqs - 1];
    q->cross.count = rows;
    q->cross.capacity = capacity;
    q->state = state;
    if (d->mode != KALM__WARM) {
        q->cross_place = d->cross_room;
        d->cross_room += capacity;
        d->doc_rows += rows;
    }
    return 1;
}

/* Scores of a batch that has run; tells the caller's callback. */
KALM__FN kalm_result kalm__decoding_scores(kalm__decoding *d, const kalm__prompt *prompt, const kalm__job *job, kalm_score *scores,
                                           kalm_error *err)
{
    const kalm_context *c = d->c;
    const kalm_params *p = job->params;
    size_t i, hidden_size = c->model->file.shape.hidden_size;
    for (i = 0; i < d->batch.seqs; i++) {
        size_t item = c->memory.seqs[i].item, number = kalm__job_number(job, item);
        const kalm_doc_info *info = &d->docs[item]->info;
        kalm_score *s = &scores[item];
        s->index = (uint32_t)number;
        s->cut = prompt->cut | (info->tokens_used < info->tokens ? KALM_CUT_DOCUMENT : 0);
        if (!kalm__read_margin(c, c->memory.x + i * hidden_size, c->memory.y, s, NULL))
            return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: its margin is not finite", number);
        if (p->on_score && p->on_score(p->on_score_user, s))
            return kalm__fail(err, KALM_CANCELLED, "cancelled by the score callback");
    }
    return KALM_OK;
}

/* Documents [*next, ...) without states, as far as one batch goes, but not beyond `end`. */
KALM__FN kalm_result kalm__decode_cold(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t *next,
                                       size_t end, kalm__job *job, kalm_score *scores, kalm_error *err)
{
    kalm__decoding d;
    kalm_result r;
    kalm__decoding_begin(&d, c, prompt->ids, 0, prompt->tokens, docs, KALM__COLD);
    while (*next < end && kalm__decoding_add(&d, *next, NULL)) ++*next;
    r = kalm__decode_batch(&d, job, err);
    return r ? r : kalm__decoding_scores(&d, prompt, job, scores, err);
}

/* What the state of a document and of a prompt's first `prefix` tokens is found by. */
KALM__FN kalm__state_key kalm__state_key_of(const kalm_context *c, const kalm_doc *doc, const int32_t *ids, size_t prefix)
{
    kalm__state_key key;
    key.doc = doc->bytes;
    key.doc_size = doc->size;
    key.prefix = ids;
    key.tokens = prefix;
    key.rows = doc->info.rows;
    key.size = kalm__state_bytes(c, c->model->file.stack[KALM__DECODER].shape.layers, doc->info.rows, prefix);
    key.doc_sum = kalm__u64(doc->bytes + 40);
    key.prefix_sum = kalm__hash(ids, prefix * sizeof *ids);
    return key;
}

/* Compute the fresh ones among states[0 .. count), of documents first, first + 1, ... A document that comes twice has one state,
   computed once. */
KALM__FN kalm_result kalm__build_states(kalm_context *c, const int32_t *ids, size_t prefix, const kalm_doc *const *docs, size_t first,
                                        kalm__state **states, size_t count, kalm__job *job, kalm_error *err)
{
    size_t i = 0, k;
    while (i < count) {
        kalm__decoding d;
        size_t begin = i;
        kalm_result r;
        kalm__decoding_begin(&d, c, ids, 0, prefix, docs, KALM__BUILD);
        for (; i < count; i++) {
            if (states[i]->fresh != KALM__STATE_FRESH) continue;
            if (!kalm__decoding_add(&d, first + i, states[i])) break;
            states[i]->fresh = KALM__STATE_UNDER_WAY;
        }
        if (!d.batch.seqs) continue;
        r = kalm__decode_batch(&d, job, err);
        if (r) return r;
        for (k = begin; k < i; k++) states[k]->fresh = KALM__STATE_COMPUTED;
    }
    return KALM_OK;
}

/* Documents [*next, ...) with states, as far as one batch goes. Leaves *next alone where the cache has no room for one. */
KALM__FN kalm_result kalm__decode_warm(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t *next,
                                       size_t count, kalm__job *job, kalm_score *scores, kalm_error *err)
{
    kalm__decoding d;
    kalm__state **states = c->memory.states;
    size_t n = 0, first = *next, i, prefix = prompt->prefix, room = kalm__round_up(prompt->tokens, KALM__KEY_STEP);
    size_t most = c->prompt_rows / room;
    kalm_result r;
    for (; n < most && first + n < count; n++) {
        kalm__state_key key = kalm__state_key_of(c, docs[first + n], prompt->ids, prefix);
        kalm__state *s = kalm__state_find(&c->cache, &key);
        if (s) {
            c->cache.hits++;
        } else {
            s = kalm__state_new(&c->cache, &c->alloc, &key);
            if (!s) break;
            c->cache.misses++;
        }
        states[n] = s;
    }
    r = kalm__build_states(c, prompt->ids, prefix, docs, first, states, n, job, err);
    if (!r && n) {
        kalm__decoding_begin(&d, c, prompt->ids, prefix, prompt->tokens - prefix, docs, KALM__WARM);
        for (i = 0; i < n && kalm__decoding_add(&d, first + i, states[i]); i++) ++*next;
        r = kalm__decode_batch(&d, job, err);
        if (!r) r = kalm__decoding_scores(&d, prompt, job, scores, err);
    }
    for (i = 0; i < n; i++) kalm__state_unpin(&c->cache, &c->alloc, states[i]);
    return r;
}

/* Score docs[0..count) against a prompt. Its tokens are in the vocabulary, at least one and at most max_prompt of them; the
   documents fit the context. */
KALM__FN kalm_result kalm__decode(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t count,
                                  kalm__job *job, kalm_score *scores, kalm_error *err)
{
    size_t next = 0;
    int warm = prompt->prefix && prompt->prefix < prompt->tokens && c->cache.limit;
    kalm_result r = KALM_OK;
    while (!r && next < count) {
        size_t before = next;
        if (warm) r = kalm__decode_warm(c, prompt, docs, &next, count, job, scores, err);
        if (!r && next == before)      /* no cache, or none with room for this one */
            r = kalm__decode_cold(c, prompt, docs, &next, warm ? next + 1 : count, job, scores, err);
    }
    return r;
}

#endif
