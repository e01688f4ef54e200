/* scoring.h - which documents go through the decoder together, with states of the cache or without, and how their margins
   become scores. The forward passes themselves stand in decoder.h. */
#ifndef KALM__SCORING_H
#define KALM__SCORING_H

#include "base.h"
#include "decoder.h"

/* What the decoder reads: instruction and query as tokens. */
typedef struct kalm__prompt {
    const int32_t *ids;
    size_t         tokens;
    size_t         prefix;             /* the first ones, which come again with other queries: see state.h. 0: none known */
    uint32_t       cut;                /* KALM_CUT_QUERY or 0 */
} kalm__prompt;

/* ---- a batch ------------------------------------------------------------------------------------------------------------- */

KALM__FN void kalm__decoding_begin(kalm__decoding *d, kalm_context *c, const int32_t *ids, size_t first, size_t tokens,
                                   const kalm_doc *const *docs, int warm)
{
    memset(d, 0, sizeof *d);
    d->c = c;
    d->ids = ids + first;
    d->first = first;
    d->tokens = tokens;
    d->docs = docs;
    d->warm = warm;
    d->batch.c = c;
    d->batch.limit = c->prompt_rows;
}

/* One more document in the batch; 0 when it is full. Document rows take room where they are computed or unpacked. */
KALM__FN int kalm__decoding_add(kalm__decoding *d, size_t item, kalm__state *state)
{
    size_t rows = d->docs[item]->info.rows, capacity = kalm__round_up(rows, KALM__KEY_STEP);
    kalm__seq *q;
    int placed = !d->warm || d->c->state_bits;       /* a packed state is unpacked into memory.cross */
    if (placed && capacity > d->c->rows - d->cross_room) return 0;
    if (!kalm__batch_add(&d->batch, d->tokens, d->first, item)) return 0;
    q = &d->c->memory.seqs[d->batch.seqs - 1];
    q->cross.count = rows;
    q->cross.capacity = capacity;
    q->state = state;
    q->cross_place = d->cross_room;
    if (placed) d->cross_room += capacity;
    if (!d->warm) d->doc_rows += rows;
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
        if (!kalm__read_margin(c, c->memory.x + i * hidden_size, c->memory.y, s))
            return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed in document %z: its margin is not finite", number);
        if (p->on_score && p->on_score(p->on_score_user, s))
            return kalm__fail(err, KALM_CANCELLED, "cancelled by the score callback");
    }
    return KALM_OK;
}

/* Documents [*next, ...) without states, as far as one batch goes, but not beyond `end`. */
KALM__FN kalm_result kalm__score_cold(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t *next,
                                       size_t end, kalm__job *job, kalm_score *scores, kalm_error *err)
{
    kalm__decoding d;
    kalm_result r;
    kalm__decoding_begin(&d, c, prompt->ids, 0, prompt->tokens, docs, 0);
    if (prompt->prefix < prompt->tokens) d.prefix = prompt->prefix;
    while (*next < end && kalm__decoding_add(&d, *next, NULL)) ++*next;
    r = kalm__decode(&d, KALM__COLD, job, err);
    return r ? r : kalm__decoding_scores(&d, prompt, job, scores, err);
}

/* ---- with states ------------------------------------------------------------------------------------------------------- */

/* For the state of a document and of a prompt's first `prefix` tokens. */
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

/* Compute the fresh ones among states[0 .. count), of documents first, first + 1, ... A document that comes twice has one
   state, computed once. */
KALM__FN kalm_result kalm__build_states(kalm_context *c, const int32_t *ids, size_t prefix, const kalm_doc *const *docs, size_t first,
                                        kalm__state **states, size_t count, kalm__job *job, kalm_error *err)
{
    size_t i = 0, k;
    while (i < count) {
        kalm__decoding d;
        size_t begin = i;
        kalm_result r;
        kalm__decoding_begin(&d, c, ids, 0, prefix, docs, 0);
        d.prefix = prefix;
        for (; i < count; i++) {
            if (states[i]->fresh != KALM__STATE_FRESH) continue;
            if (!kalm__decoding_add(&d, first + i, states[i])) break;
            states[i]->fresh = KALM__STATE_UNDER_WAY;
        }
        if (!d.batch.seqs) continue;
        r = kalm__decode(&d, KALM__BUILD, job, err);
        if (r) return r;
        for (k = begin; k < i; k++) states[k]->fresh = KALM__STATE_COMPUTED;
    }
    return KALM_OK;
}

/* Documents [*next, ...) with states, as far as one batch goes. Leaves *next alone where the cache has no room for one. */
KALM__FN kalm_result kalm__score_warm(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t *next,
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
        kalm__decoding_begin(&d, c, prompt->ids, prefix, prompt->tokens - prefix, docs, 1);
        d.prefix = prefix;
        for (i = 0; i < n && kalm__decoding_add(&d, first + i, states[i]); i++) ++*next;
        r = kalm__decode(&d, KALM__WARM, job, err);
        if (!r) r = kalm__decoding_scores(&d, prompt, job, scores, err);
    }
    for (i = 0; i < n; i++) kalm__state_unpin(&c->cache, &c->alloc, states[i]);
    return r;
}

/* ---- all documents of a call -------------------------------------------------------------------------------------------- */

/* Score docs[0..count) against a prompt of 1 to max_prompt tokens of the vocabulary; the documents fit the context. */
KALM__FN kalm_result kalm__score_docs(kalm_context *c, const kalm__prompt *prompt, const kalm_doc *const *docs, size_t count,
                                  kalm__job *job, kalm_score *scores, kalm_error *err)
{
    size_t next = 0;
    int warm = prompt->prefix && prompt->prefix < prompt->tokens && c->cache.limit;
    kalm_result r = KALM_OK;
    while (!r && next < count) {
        size_t before = next;
        if (warm) r = kalm__score_warm(c, prompt, docs, &next, count, job, scores, err);
        if (!r && next == before)      /* no cache, or none with room for this one */
            r = kalm__score_cold(c, prompt, docs, &next, warm ? next + 1 : count, job, scores, err);
    }
    return r;
}

#endif
