/* rerank.h - texts to tokens as the model was trained to see them (MODEL.md, Text to tokens), and the jobs of the public
   API: encode many texts, score many documents, or both. */
#ifndef KALM__RERANK_H
#define KALM__RERANK_H

#include "base.h"
#include "encoder.h"
#include "decoder.h"
#include "../tokenizer/text.h"
#include "../tokenizer/decode.h"

KALM__FN kalm_result kalm__check_params(const kalm_params *p, kalm_params *out, kalm_error *err)
{
    memset(out, 0, sizeof *out);
    if (p) *out = *p;
    if (!out->ratio) out->ratio = 4;
    if (!out->bits) out->bits = 16;
    if (out->bits != 32 && out->bits != 16 && out->bits != 8)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "params.bits is %u; documents keep 32, 16 or 8", out->bits);
    if (out->flags & ~KALM_PARSE_CONTROL)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "params.flags has bits that mean nothing: %u", out->flags);
    return KALM_OK;
}

KALM__FN kalm_result kalm__need_tokenizer(const kalm_model *m, kalm_error *err)
{
    if (m->file.has_tokenizer) return KALM_OK;
    return kalm__fail(err, KALM_BAD_ARGUMENT, "this model file holds no tokenizer: give token ids");
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

/* "<Document>: {text}": the first `capacity` ids, and how many there are. */
KALM__FN kalm_result kalm__document_ids(const kalm_context *c, kalm_text text, uint32_t flags, int32_t *ids, size_t capacity,
                                        size_t *count, kalm_error *err)
{
    kalm__piece pieces[2];
    pieces[0] = kalm__one_piece(c->model->file.string[KALM__STRING_DOCUMENT], 1);
    pieces[1] = kalm__one_piece(text, 0);
    return kalm__tokenize_pieces(&c->model->file.tokenizer, &c->alloc, NULL, pieces, 2, flags, ids, capacity, count, err);
}

/* The whole prompt around a query that is ready; trusted: the query is a probe of our own. */
KALM__FN kalm_result kalm__wrap_query(const kalm_context *c, kalm_text query, const kalm_params *p, int32_t *ids, size_t capacity,
                                      size_t *count, kalm_error *err)
{
    const kalm__file *f = &c->model->file;
    kalm__piece pieces[7];
    pieces[0] = kalm__one_piece(f->string[KALM__STRING_BEGIN], 1);
    pieces[1] = kalm__one_piece(p->system.data ? p->system : f->string[KALM__STRING_SYSTEM], !p->system.data);
    pieces[2] = kalm__one_piece(f->string[KALM__STRING_INSTRUCT], 1);
    pieces[3] = kalm__one_piece(p->instruction.data ? p->instruction : f->string[KALM__STRING_INSTRUCTION], !p->instruction.data);
    pieces[4] = kalm__one_piece(f->string[KALM__STRING_QUERY], 1);
    pieces[5] = kalm__one_piece(query, 0);
    pieces[6] = kalm__one_piece(f->string[KALM__STRING_END], 1);
    return kalm__tokenize_pieces(&f->tokenizer, &c->alloc, NULL, pieces, 7, p->flags, ids, capacity, count, err);
}

/* The query as the published code puts it into the prompt: cut to its first max_query tokens, decoded, tokenised again
   as a part of the whole. Writes at most `capacity` ids; *count may be more. */
KALM__FN kalm_result kalm__prompt_ids(const kalm_context *c, kalm_text query, const kalm_params *p, int32_t *ids, size_t capacity,
                                      size_t *count, kalm_error *err)
{
    const kalm__tokenizer *t = &c->model->file.tokenizer;
    kalm_text cut;
    char *text = NULL;
    size_t room = 0, n = 0, size = 0, most = c->max_query;
    int32_t *query_ids = (int32_t *)kalm__alloc(&c->alloc, kalm__mul(most, sizeof *query_ids));
    kalm_result r;
    if (!query_ids) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a query of %z tokens", most);
    r = kalm__tokenize(t, &c->alloc, NULL, kalm__resolve(query), p->flags, query_ids, most, &n, err);
    n = kalm__min(n, most);
    if (!r) r = kalm__detokenize(t, query_ids, n, NULL, 0, &room, err);
    if (!r) {
        text = (char *)kalm__alloc(&c->alloc, room);
        if (!text) r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of a query", room);
    }
    if (!r) r = kalm__detokenize(t, query_ids, n, text, room, &size, err);
    kalm__release(&c->alloc, query_ids, kalm__mul(most, sizeof *query_ids));
    if (!r) {
        cut.data = text;
        cut.size = size;
        r = kalm__wrap_query(c, cut, p, ids, capacity, count, err);
    }
    kalm__release(&c->alloc, text, room);
    return r;
}

/* The prompt's first tokens that are the same whatever the query: what two prompts with very different queries have in
   common (no merge reaches across). Into memory.ids, which no query needs; *prefix is 0 where they do not fit. */
KALM__FN kalm_result kalm__prefix_ids(kalm_context *c, const kalm_params *p, size_t *prefix, kalm_error *err)
{
    static const char *const probes[2] = { "a", "\xe4\xb8\x80" };
    size_t count[2], half = c->rows / 2, n = 0;
    int32_t *ids = c->memory.ids;
    int i;
    *prefix = 0;
    for (i = 0; i < 2; i++) {
        kalm_result r = kalm__wrap_query(c, kalm__text(probes[i]), p, ids + (size_t)i * half, half, &count[i], err);
        if (r) return r;
        if (count[i] > half) return KALM_OK;
    }
    while (n < count[0] && n < count[1] && ids[n] == ids[half + n]) n++;
    *prefix = n;
    return kalm__check_ids(c, "prompt", 0, ids, n, err);
}

/* How many of this prompt's tokens are such a prefix: all of it, or nothing. */
KALM__FN kalm_result kalm__stable_prefix(kalm_context *c, const kalm_params *p, const int32_t *prompt, size_t tokens,
                                         size_t *prefix, kalm_error *err)
{
    kalm_result r = kalm__prefix_ids(c, p, prefix, err);
    if (*prefix >= tokens || memcmp(c->memory.ids, prompt, *prefix * sizeof *prompt)) *prefix = 0;
    return r;
}

/* ---- encode ---------------------------------------------------------------------------------------------------------- */

/* Token ids of document i into ids[0..room): *count is how many the text has. From a text or from the caller's ids. */
typedef struct kalm__passages {
    const kalm_text *texts;
    const kalm_ids  *ids;
    uint32_t         flags;
    size_t           base;             /* number of the first in the caller's array, for errors */
} kalm__passages;

KALM__FN kalm_result kalm__passage_ids(const kalm_context *c, const kalm__passages *s, size_t i, int32_t *ids, size_t room,
                                      size_t *count, kalm_error *err)
{
    kalm_result r;
    if (s->texts) {
        r = kalm__document_ids(c, s->texts[i], s->flags, ids, room, count, err);
        if (!r) r = kalm__check_ids(c, "document", s->base + i, ids, kalm__min(*count, room), err);
    } else {
        *count = s->ids[i].count;
        if (*count && !s->ids[i].data) return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z is NULL", s->base + i);
        r = kalm__check_ids(c, "document", s->base + i, s->ids[i].data, kalm__min(*count, room), err);
        if (!r && *count) memcpy(ids, s->ids[i].data, kalm__min(*count, room) * sizeof *ids);
    }
    if (!r && !*count) r = kalm__fail(err, KALM_BAD_ARGUMENT, "document %z has no tokens", s->base + i);
    return r;
}

/* Encode documents [*next, ...) as far as one batch goes; docs[i] for each. */
KALM__FN kalm_result kalm__encode_some(kalm_context *c, const kalm__passages *s, size_t *next, size_t count, const kalm_params *p,
                                       kalm__progress *progress, kalm_doc **docs, kalm_error *err)
{
    kalm__memory *m = &c->memory;
    kalm__batch b;
    size_t first = *next, i;
    kalm_result r;
    memset(&b, 0, sizeof b);
    b.c = c;
    b.limit = c->rows;
    b.ids = m->ids;
    while (*next < count) {
        size_t room = c->rows - b.rows, n = 0, taken;
        /* a text that does not fit is tokenised again at the head of the next batch; at worst twice each */
        r = kalm__passage_ids(c, s, *next, m->ids + b.rows, kalm__min(room, c->max_doc), &n, err);
        if (r) return r;
        taken = kalm__min(n, c->max_doc);
        if (taken > room || !kalm__batch_add(&b, taken, 0, *next)) break;
        m->prompt[b.seqs - 1] = (int32_t)kalm__min(n, INT32_MAX);
        ++*next;
    }
    r = kalm__encode_batch(&b, progress, err);
    if (r) return r;
    for (i = 0; i < b.seqs; i++) {
        kalm_doc *doc = kalm__pool_document(c, &m->seqs[i], (size_t)m->prompt[i], p->ratio, p->bits);
        if (!doc)
            return kalm__fail(err, KALM_NO_MEMORY, "no memory for document %z of %z tokens", s->base + first + i, m->seqs[i].count);
        docs[m->seqs[i].item] = doc;
    }
    return KALM_OK;
}

KALM__FN void kalm__doc_release(kalm_doc *doc)
{
    kalm_allocator alloc;
    if (!doc) return;
    alloc = doc->alloc;
    kalm__release(&alloc, doc, doc->block);
}

KALM__FN kalm_result kalm__encode_all(kalm_context *c, const kalm__passages *s, size_t count, const kalm_params *params,
                                      kalm_doc **docs, kalm_error *err)
{
    kalm__progress progress;
    kalm_params p;
    size_t next = 0, i;
    kalm_result r = kalm__check_params(params, &p, err);
    for (i = 0; i < count; i++) docs[i] = NULL;
    if (r) return r;
    memset(&progress, 0, sizeof progress);
    progress.call = p.progress;
    progress.user = p.progress_user;
    progress.total = count * c->model->file.shape.side[KALM__ENCODER].layers;
    while (!r && next < count) r = kalm__encode_some(c, s, &next, count, &p, &progress, docs, err);
    if (r)
        for (i = 0; i < count; i++) {
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
        if (docs[i]->info.rows > c->rows)
            return kalm__fail(err, KALM_BAD_ARGUMENT, "document %z has %u rows, this context takes %z (max_doc_tokens)", i,
                              docs[i]->info.rows, c->rows);
    }
    return KALM_OK;
}

/* ids of the prompt into memory.prompt */
KALM__FN kalm_result kalm__take_prompt(kalm_context *c, kalm_text query, const kalm_params *p, size_t *tokens, kalm_error *err)
{
    kalm_result r = kalm__prompt_ids(c, query, p, c->memory.prompt, c->max_prompt, tokens, err);
    if (!r && *tokens > c->max_prompt)
        r = kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has %z tokens, this context takes %z (max_query_tokens)", *tokens,
                       c->max_prompt);
    return r ? r : kalm__check_ids(c, "prompt", 0, c->memory.prompt, *tokens, err);
}

#endif
