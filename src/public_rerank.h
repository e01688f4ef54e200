/* public_rerank.h - the functions of api.h that score: reranking, the best few, what the cache keeps, sorting. */
#ifndef KALM__PUBLIC_RERANK_H
#define KALM__PUBLIC_RERANK_H

#include "base.h"
#include "rerank.h"
#include "public.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KALM__TOGETHER = 64 };

/* Score documents that exist for that alone, KALM__TOGETHER at a time: those of docs at the coarse ratio, or (docs NULL) those
   that texts become. scores[i] is that of number i, index set. */
KALM__FN kalm_result kalm__score_made(kalm_context *ctx, const kalm__prompt *prompt, const kalm_doc *const *docs,
                                      const kalm_text *texts, size_t count, kalm__job *job, kalm_score *scores, kalm_error *err)
{
    kalm_doc *made[KALM__TOGETHER];
    kalm__passages source;
    size_t first, i;
    kalm_result r = KALM_OK;
    memset(&source, 0, sizeof source);
    for (first = 0; !r && first < count; first += KALM__TOGETHER) {
        size_t n = kalm__min(count - first, KALM__TOGETHER);
        for (i = 0; i < n; i++) made[i] = NULL;
        job->base = first;
        for (i = 0; docs && !r && i < n; i++)
            r = kalm_doc_repool(ctx->model, docs[first + i], job->params->coarse_ratio, 0, &made[i], err);
        if (!docs) {
            source.texts = texts + first;
            r = kalm__encode_all(ctx, &source, n, job, made, err);
        }
        if (!r) r = kalm__score_docs(ctx, prompt, (const kalm_doc *const *)made, n, job, scores + first, err);
        for (i = 0; i < n; i++) kalm__doc_release(made[i]);
    }
    job->base = 0;
    return r;
}

/* The prompt is that of the query or, where ids is not NULL, these. What is ranked: texts (is_text), else docs. */
KALM__FN kalm_result kalm__rank(kalm_context *ctx, kalm_text query, const kalm_ids *ids, const kalm_doc *const *docs, int is_text,
                                const kalm_text *texts, size_t count, const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    kalm_params p;
    kalm__job job;
    kalm__prompt prompt;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(ctx);
    if (count && is_text) KALM__NEED(texts);
    if (count && !is_text) KALM__NEED(docs);
    if (count) KALM__NEED(scores);
    if (count) memset(scores, 0, count * sizeof *scores);
    if (ids && (!ids->count || !ids->data)) return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has no tokens");
    if (ids && ids->count > ctx->max_prompt)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has %z tokens, this context takes %z (max_query_tokens)",
                          ids->count, ctx->max_prompt);
    r = kalm__check_params(params, &p, err);
    if (is_text && (!params || !params->bits)) p.bits = 32;    /* nothing is kept, so nothing need be rounded */
    kalm__job_begin(&job, &p, count, (size_t)ctx->model->file.shape.side[KALM__DECODER].layers +
                                     (is_text ? ctx->model->file.shape.side[KALM__ENCODER].layers : 0));
    if (!r && is_text) r = kalm__need_side(ctx->model, KALM__ENCODER, err);
    if (!r) r = kalm__need_side(ctx->model, KALM__DECODER, err);
    memset(&prompt, 0, sizeof prompt);
    if (ids) {
        prompt.ids = ctx->memory.prompt;
        prompt.tokens = ids->count;
        prompt.prefix = p.prefix_tokens;
        memcpy(ctx->memory.prompt, ids->data, ids->count * sizeof *ids->data);   /* callbacks cannot change it any more */
        if (!r) r = kalm__check_ids(ctx, "prompt", 0, prompt.ids, prompt.tokens, err);
    } else if (!r) r = kalm__need_tokenizer(ctx->model, err);
    if (!r && !is_text) r = kalm__check_docs(ctx, docs, count, err);
    if (!r && !ids) r = kalm__take_prompt(ctx, query, &job, &prompt, err);
    if (!r) r = is_text ? kalm__score_made(ctx, &prompt, NULL, texts, count, &job, scores, err)
                        : kalm__score_docs(ctx, &prompt, docs, count, &job, scores, err);
    if (r && count) memset(scores, 0, count * sizeof *scores);
    return r;
}

KALM_API kalm_result kalm_rerank(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                 const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    return kalm__rank(ctx, query, NULL, docs, 0, NULL, count, params, scores, err);
}

KALM_API kalm_result kalm_rerank_ids(kalm_context *ctx, kalm_ids ids, const kalm_doc *const *docs, size_t count,
                                     const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    return kalm__rank(ctx, kalm__text(""), &ids, docs, 0, NULL, count, params, scores, err);
}

KALM_API void kalm_context_get_cache(const kalm_context *ctx, kalm_cache_info *info)
{
    if (!info) return;
    memset(info, 0, sizeof *info);
    if (!ctx) return;
    info->hits = ctx->cache.hits;
    info->misses = ctx->cache.misses;
    info->dropped = ctx->cache.dropped;
    info->documents = ctx->cache.count;
    info->bytes = ctx->cache.bytes;
    info->limit = ctx->cache.limit;
}

KALM_API void kalm_context_clear_cache(kalm_context *ctx)
{
    if (ctx) kalm__cache_clear(&ctx->cache, &ctx->alloc);
}

/* The document's state for the instruction of `params`, pinned, computed or fresh; the tokens it is for are in memory.ids. */
KALM__FN kalm_result kalm__open_state(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, kalm__state **state,
                                      kalm_error *err)
{
    kalm_params p;
    kalm__job job;
    kalm__state_key key;
    size_t tokens = 0;
    kalm_result r = kalm__check_params(params, &p, err);
    p.progress = NULL;                 /* layers x documents is no measure of this */
    kalm__job_begin(&job, &p, 0, 0);
    if (!r) r = kalm__need_side(ctx->model, KALM__DECODER, err);
    if (!r) r = kalm__need_tokenizer(ctx->model, err);
    if (!r) r = kalm__check_docs(ctx, &doc, 1, err);
    if (!r) r = kalm__prefix_ids(ctx, &job, &tokens, err);
    if (!r && !tokens) r = kalm__fail(err, KALM_BAD_ARGUMENT, "no tokens of the prompt come before the query");
    if (!r && tokens > ctx->max_prompt)
        r = kalm__fail(err, KALM_BAD_ARGUMENT, "the instruction does not fit the %z tokens of a prompt", ctx->max_prompt);
    if (r) return r;
    key = kalm__state_key_of(ctx, doc, ctx->memory.ids, tokens);
    *state = kalm__state_find(&ctx->cache, &key);
    if (!*state) *state = kalm__state_new(&ctx->cache, &ctx->alloc, &key);
    if (!*state) return kalm__fail(err, KALM_NO_MEMORY, "no room for a state of %z bytes in the cache of %z", key.size, ctx->cache.limit);
    return KALM_OK;
}

KALM_API kalm_result kalm_state_save(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, void *data,
                                     size_t capacity, size_t *size, kalm_error *err)
{
    kalm_params quiet;
    kalm__job job;
    kalm__state *s = NULL;
    unsigned char *out = (unsigned char *)data;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(size);
    *size = 0;
    KALM__NEED(ctx);
    KALM__NEED(doc);
    if (capacity) KALM__NEED(data);
    r = kalm__open_state(ctx, doc, params, &s, err);
    if (r) return r;
    *size = s->key.size + KALM__STATE_HEADER;
    if (capacity >= *size) {
        memset(&quiet, 0, sizeof quiet);
        kalm__job_begin(&job, &quiet, 0, 0);
        r = kalm__build_states(ctx, s->key.prefix, s->key.tokens, &doc, 0, &s, 1, &job, err);
        if (!r) {
            kalm__state_header(out, ctx->model->file.fingerprint, &s->key, ctx->state_bits);
            memcpy(out + KALM__STATE_HEADER, s->data, s->key.size);
            kalm__put_u64(out + 48, kalm__state_checksum(out, s->data, s->key.size));
        }
    }
    kalm__state_unpin(&ctx->cache, &ctx->alloc, s);
    if (r) *size = 0;
    return r;
}

KALM_API kalm_result kalm_state_load(kalm_context *ctx, const kalm_doc *doc, const kalm_params *params, const void *data,
                                     size_t size, kalm_error *err)
{
    const unsigned char *p = (const unsigned char *)data;
    unsigned char want[KALM__STATE_HEADER];
    kalm__state *s = NULL;
    size_t need;
    uint32_t version, bits;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(ctx);
    KALM__NEED(doc);
    KALM__NEED(data);
    if (size < KALM__STATE_HEADER || memcmp(p, "KSTA", 4) != 0)
        return kalm__fail(err, KALM_BAD_FILE, "these %z bytes are no stored state", size);
    version = kalm__u32(p + 4);
    bits = version > KALM__STATE_VERSION ? kalm__u32(p + 56) : 0;
    if (version != KALM__STATE_VERSION + (bits != 0))
        return kalm__fail(err, KALM_BAD_VERSION, "the state has format version %u, this library reads 2 and 3", version);
    if (bits != ctx->state_bits)
        return kalm__fail(err, KALM_MISMATCH, "the state was made with state_bits %u, this context has %u", bits, ctx->state_bits);
    r = kalm__open_state(ctx, doc, params, &s, err);
    if (r) return r;
    need = s->key.size + KALM__STATE_HEADER;         /* what the document and the prompt at hand ask for, not the header */
    kalm__state_header(want, ctx->model->file.fingerprint, &s->key, bits);
    if (memcmp(want, p, 48) != 0)
        r = kalm__fail(err, KALM_MISMATCH, "the state was made by another model, for another document or for another instruction");
    else if (size != need)
        r = kalm__fail(err, KALM_BAD_FILE, "the state has %z bytes, its header asks for %z", size, need);
    else if (kalm__u64(p + 56) != bits)
        r = kalm__fail(err, KALM_BAD_FILE, "bytes %u to 63 of the state's header are not zero", bits ? 60 : 56);
    else if (kalm__state_checksum(p, p + KALM__STATE_HEADER, s->key.size) != kalm__u64(p + 48))
        r = kalm__fail(err, KALM_BAD_FILE, "the state is damaged: its checksum does not match");
    else if (s->fresh) {
        memcpy(s->data, p + KALM__STATE_HEADER, s->key.size);
        s->fresh = KALM__STATE_COMPUTED;
    }
    kalm__state_unpin(&ctx->cache, &ctx->alloc, s);
    return r;
}

KALM_API kalm_result kalm_rerank_top(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                     size_t top_k, const kalm_params *params, kalm_score *scores, size_t *found,
                                     kalm_error *err)
{
    kalm_params p;
    kalm__job job;
    kalm__prompt prompt;
    kalm_score *all = NULL;
    const kalm_doc **chosen = NULL;
    uint32_t *place = NULL;
    size_t keep = count, i, bytes;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(found);
    *found = 0;
    KALM__NEED(ctx);
    if (count) KALM__NEED(docs);
    if (top_k) KALM__NEED(scores);
    r = kalm__check_params(params, &p, err);
    if (!r) r = kalm__need_side(ctx->model, KALM__DECODER, err);
    if (!r) r = kalm__need_tokenizer(ctx->model, err);
    if (!r) r = kalm__check_docs(ctx, docs, count, err);
    if (r) return r;
    if (p.coarse_ratio) keep = kalm__min(count, kalm__max(top_k, p.coarse_keep ? p.coarse_keep : kalm__mul(top_k, 4)));
    kalm__job_begin(&job, &p, p.coarse_ratio ? count + keep : keep, ctx->model->file.shape.side[KALM__DECODER].layers);
    r = kalm__take_prompt(ctx, query, &job, &prompt, err);
    if (r || !count || !top_k) return r;
    bytes = kalm__mul(count, sizeof *all + sizeof *chosen + sizeof *place);
    all = (kalm_score *)kalm__alloc(&ctx->alloc, bytes);
    if (!all) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the scores of %z documents", count);
    {
        void *behind = all + count;
        chosen = (const kalm_doc **)behind;
        behind = chosen + count;
        place = (uint32_t *)behind;
    }
    for (i = 0; i < count; i++) place[i] = (uint32_t)i;
    if (p.coarse_ratio) {
        kalm_params quiet = p;
        quiet.on_score = NULL;         /* the last pass alone tells its scores */
        job.params = &quiet;
        r = kalm__score_made(ctx, &prompt, docs, NULL, count, &job, all, err);
        job.params = &p;
        if (!r) kalm_sort(all, count);
        for (i = 0; !r && i < count; i++) place[i] = all[i].index;
    }
    for (i = 0; i < keep; i++) chosen[i] = docs[place[i]];
    job.place = place;
    if (!r) r = kalm__score_docs(ctx, &prompt, chosen, keep, &job, all, err);
    if (!r) {
        kalm_sort(all, keep);
        *found = kalm__min(keep, top_k);
        memcpy(scores, all, *found * sizeof *scores);
    }
    kalm__release(&ctx->alloc, all, bytes);
    return r;
}

KALM_API kalm_result kalm_rerank_texts(kalm_context *ctx, kalm_text query, const kalm_text *texts, size_t count,
                                       const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    return kalm__rank(ctx, query, NULL, NULL, 1, texts, count, params, scores, err);
}

KALM__FN int kalm__before(const kalm_score *a, const kalm_score *b)
{
    return a->margin > b->margin || (a->margin >= b->margin && a->index < b->index);
}

/* Heap sort: in place, n log n whatever comes; (margin, index) are distinct pairs, so the order is total. */
KALM_API void kalm_sort(kalm_score *scores, size_t count)
{
    size_t start = count / 2, end = count;
    if (!scores) return;
    while (end > 1) {
        size_t root, child;
        kalm_score moving;
        if (start) {
            moving = scores[--start];
        } else {
            moving = scores[--end];
            scores[end] = scores[0];
        }
        for (root = start; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && kalm__before(&scores[child], &scores[child + 1])) child++;
            if (!kalm__before(&moving, &scores[child])) break;
            scores[root] = scores[child];
        }
        scores[root] = moving;
    }
}

#ifdef __cplusplus
}
#endif

#endif
