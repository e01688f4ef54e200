/* rerank.h - from the caller's texts to token ids as the model was trained to see them (docs/MODEL.md), the checks of what
   the caller gave, and encoding any number of texts in batches. */
#ifndef KALM__RERANK_H
#define KALM__RERANK_H

#include "base.h"
#include "encoder.h"
#include "scoring.h"
#include "../tokenizer/text.h"
#include "../tokenizer/decode.h"

KALM__FN kalm_result kalm__check_params(const kalm_params *p, kalm_params *out, kalm_error *err)
{
    memset(out, 0, sizeof *out);
    if (p) *out = *p;
    if (!out->ratio) out->ratio = 4;
    if (!out->bits) out->bits = 16;
    if (!kalm__doc_row_bytes(1, out->bits))
        return kalm__fail(err, KALM_BAD_ARGUMENT, "params.bits is %u; documents keep 32, 16, 8, 4, 3 or 2", out->bits);
    if (out->flags & ~KALM_PARSE_CONTROL)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "params.flags has bits that mean nothing: %u", out->flags);
    return kalm__need_rounding(err);
}

KALM__FN kalm_result kalm__need_tokenizer(const kalm_model *m, kalm_error *err)
{
    if (m->file.has_tokenizer) return KALM_OK;
    return kalm__fail(err, KALM_BAD_ARGUMENT, "this model file holds no tokenizer: give token ids");
}

/* A part of a model may lack one side. */
KALM__FN kalm_result kalm__need_side(const kalm_model *m, int side, kalm_error *err)
{
    if (m->file.stack[side].shape.layers) return KALM_OK;
    return side == KALM__ENCODER
         ? kalm__fail(err, KALM_INCOMPLETE, "this model file holds the decoder alone, which cannot read the text of a document: "
                      "give documents that the whole model or its encoder has encoded")
         : kalm__fail(err, KALM_INCOMPLETE, "this model file holds the encoder alone, which cannot score: rank with the whole "
                      "model or its decoder");
}

KALM__FN kalm_result kalm__check_ids(const kalm_context *c, const char *what, size_t index, const int32_t *ids, size_t n,
                                     kalm_error *err)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= c->model->file.shape.vocabulary)
            return kalm__fail(err, KALM_BAD_ARGUMENT, "%s %z has token %d at place %z; the vocabulary has %u", what, index,
                              (int)ids[i], i, c->model->file.shape.vocabulary);
    return KALM_OK;
}

KALM__FN kalm__piece kalm__one_piece(kalm_text text, int trusted)
{
    kalm__piece p;
    p.text = kalm__resolve(text);
    p.trusted = trusted;
    return p;
}

/* While a long text is tokenised the progress callback is asked whether to go on. */
KALM__FN kalm__interrupt kalm__job_interrupt(kalm__job *j)
{
    kalm__interrupt i;
    i.call = j->params->progress ? kalm__ask_progress : NULL;
    i.user = j;
    return i;
}

/* "<Document>: {text}": the first `capacity` ids, and how many there are. */
KALM__FN kalm_result kalm__document_ids(const kalm_context *c, kalm_text text, kalm__job *job, int32_t *ids, size_t capacity,
                                        size_t *count, kalm_error *err)
{
    kalm__interrupt ask = kalm__job_interrupt(job);
    kalm__piece pieces[2];
    pieces[0] = kalm__one_piece(c->model->file.string[KALM__STRING_DOCUMENT], 1);
    pieces[1] = kalm__one_piece(text, 0);
    return kalm__tokenize_pieces(&c->model->file.tokenizer, &c->alloc, &ask, pieces, 2, job->params->flags, ids, capacity, count,
                                 err);
}

/* The whole prompt around a query that is short enough: the first `capacity` ids, and how many there are. */
KALM__FN kalm_result kalm__wrap_query(const kalm_context *c, kalm_text query, kalm__job *job, int32_t *ids, size_t capacity,
                                      size_t *count, kalm_error *err)
{
    const kalm__file *f = &c->model->file;
    const kalm_params *p = job->params;
    kalm__interrupt ask = kalm__job_interrupt(job);
    kalm__piece pieces[7];
    pieces[0] = kalm__one_piece(f->string[KALM__STRING_BEGIN], 1);
    pieces[1] = kalm__one_piece(p->system.data ? p->system : f->string[KALM__STRING_SYSTEM], !p->system.data);
    pieces[2] = kalm__one_piece(f->string[KALM__STRING_INSTRUCT], 1);
    pieces[3] = kalm__one_piece(p->instruction.data ? p->instruction : f->string[KALM__STRING_INSTRUCTION], !p->instruction.data);
    pieces[4] = kalm__one_piece(f->string[KALM__STRING_QUERY], 1);
    pieces[5] = kalm__one_piece(query, 0);
    pieces[6] = kalm__one_piece(f->string[KALM__STRING_END], 1);
    return kalm__tokenize_pieces(&f->tokenizer, &c->alloc, &ask, pieces, 7, p->flags, ids, capacity, count, err);
}

/* The query as the published code puts it into the prompt: cut to its first max_query tokens, decoded, tokenised again
   as a part of the whole. Into memory.prompt, at most max_prompt ids; prompt->tokens may be more. */
KALM__FN kalm_result kalm__prompt_ids(kalm_context *c, kalm_text query, kalm__job *job, kalm__prompt *prompt, kalm_error *err)
{
    const kalm__tokenizer *t = &c->model->file.tokenizer;
    kalm__interrupt ask = kalm__job_interrupt(job);
    kalm_text kept;
    int32_t *ids = c->memory.ids;      /* [rows], and max_query is no more */
    char *text = NULL;
    size_t room = 0, n = 0;
    kalm_result r = kalm__tokenize(t, &c->alloc, &ask, kalm__resolve(query), job->params->flags, ids, c->max_query, &n, err);
    prompt->cut = n > c->max_query ? KALM_CUT_QUERY : 0;
    n = kalm__min(n, c->max_query);
    if (!r) r = kalm__detokenize(t, ids, n, NULL, 0, &room, err);
    if (!r) {
        text = (char *)kalm__alloc(&c->alloc, room);
        if (!text) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of a query", room);
    }
    if (!r) r = kalm__detokenize(t, ids, n, text, room, &room, err);
    kept.data = text;
    kept.size = room;
    if (!r) r = kalm__wrap_query(c, kept, job, c->memory.prompt, c->max_prompt, &prompt->tokens, err);
    kalm__release(&c->alloc, text, room);
    return r;
}

/* The prompt's first tokens that are the same whatever the query: what two prompts with very different queries have in
   common (no merge reaches across). Into memory.ids; *prefix is 0 where no prompt with these tokens fits into the context: with 8
   places more than a prompt has, in which the probes have their tokens, the answer is the same in every context that takes the prompt. */
KALM__FN kalm_result kalm__prefix_ids(kalm_context *c, kalm__job *job, size_t *prefix, kalm_error *err)
{
    static const char *const probes[2] = { "a", "\xe4\xb8\x80" };
    size_t count[2], half = kalm__max(c->rows / 2, c->max_prompt + 8), n = 0;
    int32_t *ids = c->memory.ids;
    int i;
    *prefix = 0;
    for (i = 0; i < 2; i++) {
        kalm_result r = kalm__wrap_query(c, kalm__text(probes[i]), job, ids + (size_t)i * half, half, &count[i], err);
        if (r) return r;
        if (count[i] > half) return KALM_OK;
    }
    while (n < count[0] && n < count[1] && ids[n] == ids[half + n]) n++;
    *prefix = n;
    return kalm__check_ids(c, "prompt", 0, ids, n, err);
}

/* Everything the decoder needs to know of a query, tokenised once for all documents of a call. Its ids are in memory.prompt.
   */
KALM__FN kalm_result kalm__take_prompt(kalm_context *c, kalm_text query, kalm__job *job, kalm__prompt *prompt, kalm_error *err)
{
    kalm_result r;
    memset(prompt, 0, sizeof *prompt);
    prompt->ids = c->memory.prompt;
    r = kalm__prompt_ids(c, query, job, prompt, err);
    if (r) return r;
    if (!prompt->tokens)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has no tokens: the query is empty, and so is the model's text around it");
    if (prompt->tokens > c->max_prompt)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has %z tokens, this context takes %z (max_query_tokens)",
                          prompt->tokens, c->max_prompt);
    r = kalm__check_ids(c, "prompt", 0, prompt->ids, prompt->tokens, err);
    if (r || (!c->cache.limit && !c->state_bits)) return r;
    r = kalm__prefix_ids(c, job, &prompt->prefix, err);
    if (prompt->prefix >= prompt->tokens || memcmp(c->memory.ids, prompt->ids, prompt->prefix * sizeof *prompt->ids) != 0)
        prompt->prefix = 0;            /* a merge has reached across after all */
    return r;
}

/* ---- encode ---------------------------------------------------------------------------------------------------------- */

/* What is to be encoded: texts, or token ids where texts is NULL. */
typedef struct kalm__passages {
    const kalm_text *texts;
    const kalm_ids  *ids;
} kalm__passages;

/* Token ids of passage i into ids[0..room); *count is how many it has, which may be more. */
KALM__FN kalm_result kalm__passage_ids(const kalm_context *c, const kalm__passages *s, kalm__job *job, size_t i, int32_t *ids,
                                      size_t room, size_t *count, kalm_error *err)
{
    size_t number = kalm__job_number(job, i);
    kalm_result r;
    if (s->texts) {
        r = kalm__document_ids(c, s->texts[i], job, ids, room, count, err);
        if (!r) r = kalm__check_ids(c, "document", number, ids, kalm__min(*count, room), err);
    } else {
        *count = s->ids[i].count;
        if (*count && !s->ids[i].data) return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z is NULL", number);
        if (*count) memcpy(ids, s->ids[i].data, kalm__min(*count, room) * sizeof *ids);
        r = kalm__check_ids(c, "document", number, ids, kalm__min(*count, room), err);
    }
    if (!r && !*count) r = kalm__fail(err, KALM_BAD_ARGUMENT, "document %z has no tokens", number);
    return r;
}

/* Encode documents [*next, ...) as far as one batch goes; docs[i] for each. */
KALM__FN kalm_result kalm__encode_some(kalm_context *c, const kalm__passages *s, size_t *next, size_t count, kalm__job *job,
                                       kalm_doc **docs, kalm_error *err)
{
    kalm__memory *m = &c->memory;
    kalm__batch b;
    size_t i;
    kalm_result r;
    memset(&b, 0, sizeof b);
    b.c = c;
    b.limit = c->rows;
    b.ids = m->ids;
    while (*next < count) {
        size_t room = c->rows - b.rows, n = 0, taken;
        /* a text that does not fit is tokenised again at the head of the next batch; at worst twice each */
        r = kalm__passage_ids(c, s, job, *next, m->ids + b.rows, kalm__min(room, c->max_doc), &n, err);
        if (r) return r;
        taken = kalm__min(n, c->max_doc);
        if (taken > room || !kalm__batch_add(&b, taken, 0, *next)) break;
        m->seqs[b.seqs - 1].tokens = n;
        ++*next;
    }
    r = kalm__encode_batch(&b, job, err);
    for (i = 0; !r && i < b.seqs; i++) {
        const kalm__seq *q = &m->seqs[i];
        r = kalm__pool_document(c, q, kalm__job_number(job, q->item), job->params->ratio, job->params->bits, &docs[q->item], err);
    }
    return r;
}

/* docs[0 .. count), all of them or, when it fails, none. */
KALM__FN kalm_result kalm__encode_all(kalm_context *c, const kalm__passages *s, size_t count, kalm__job *job, kalm_doc **docs,
                                      kalm_error *err)
{
    size_t next = 0, i;
    kalm_result r = KALM_OK;
    for (i = 0; i < count; i++) docs[i] = NULL;
    if (kalm__is_coded(job->params->bits) && !c->model->file.rows.fingerprint) return kalm__no_rowcode(KALM_BAD_ARGUMENT, job->params->bits, err);
    while (!r && next < count) r = kalm__encode_some(c, s, &next, count, job, docs, err);
    for (i = 0; r && i < count; i++) {
        kalm__doc_release(docs[i]);
        docs[i] = NULL;
    }
    return r;
}

/* ---- score ----------------------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__check_docs(const kalm_context *c, const kalm_doc *const *docs, size_t count, kalm_error *err)
{
    size_t i;
    for (i = 0; i < count; i++) {
        if (!docs[i]) return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z is NULL", i);
        if (docs[i]->info.fingerprint != c->model->file.fingerprint)
            return kalm__fail(err, KALM_MISMATCH, "document %z was made by model %X, this one is %X", i, docs[i]->info.fingerprint,
                              c->model->file.fingerprint);
        if (docs[i]->info.transform && docs[i]->info.transform != c->model->file.rows.fingerprint)
            return kalm__fail(err, KALM_MISMATCH, "the rows of document %z were made with transform %X, the model file has %X", i,
                              docs[i]->info.transform, c->model->file.rows.fingerprint);
        /* a forged model file can carry the fingerprint of another */
        if (docs[i]->info.width != c->model->file.shape.hidden_size)
            return kalm__fail(err, KALM_MISMATCH, "document %z has rows of %u numbers, this model has %u", i, docs[i]->info.width,
                              c->model->file.shape.hidden_size);
        if (docs[i]->info.rows > c->rows)
            return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z has %u rows, this context takes %z (max_doc_tokens)", i,
                              docs[i]->info.rows, c->rows);
    }
    return KALM_OK;
}

#endif
