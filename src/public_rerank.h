/* public_rerank.h - the functions of api.h that score: reranking, the best few, what the cache keeps, sorting. */
#ifndef KALM__PUBLIC_RERANK_H
#define KALM__PUBLIC_RERANK_H

#include "base.h"
#include "rerank.h"
#include "public.h"

#ifdef __cplusplus
extern "C" {
#endif

KALM__FN kalm_result kalm__score_docs(kalm_context *ctx, size_t tokens, size_t prefix, const kalm_doc *const *docs, size_t count,
                                      const kalm_params *p, kalm_score *scores, kalm_error *err)
{
    kalm__progress progress;
    kalm_result r = kalm__check_docs(ctx, docs, count, err);
    memset(&progress, 0, sizeof progress);
    progress.call = p->progress;
    progress.user = p->progress_user;
    progress.total = count * ctx->model->file.shape.side[KALM__DECODER].layers;
    return r ? r : kalm__decode(ctx, ctx->memory.prompt, tokens, prefix, docs, count, p, &progress, scores, err);
}

KALM_API kalm_result kalm_rerank(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                 const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    kalm_params p;
    size_t tokens = 0, prefix = 0;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(ctx);
    if (count) KALM__NEED(docs);
    if (count) KALM__NEED(scores);
    if (count) memset(scores, 0, count * sizeof *scores);
    r = kalm__check_params(params, &p, err);
    if (!r) r = kalm__need_tokenizer(ctx->model, err);
    if (!r) r = kalm__take_prompt(ctx, query, &p, &tokens, err);
    if (!r && ctx->cache.limit) r = kalm__stable_prefix(ctx, &p, ctx->memory.prompt, tokens, &prefix, err);
    if (!r) r = kalm__score_docs(ctx, tokens, prefix, docs, count, &p, scores, err);
    if (r && count) memset(scores, 0, count * sizeof *scores);
    return r;
}

KALM_API kalm_result kalm_rerank_ids(kalm_context *ctx, kalm_ids prompt, const kalm_doc *const *docs, size_t count,
                                     const kalm_params *params, kalm_score *scores, kalm_error *err)
{
    kalm_params p;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(ctx);
    if (count) KALM__NEED(docs);
    if (count) KALM__NEED(scores);
    if (count) memset(scores, 0, count * sizeof *scores);
    if (!prompt.count || !prompt.data) return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has no tokens");
    if (prompt.count > ctx->max_prompt)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "the prompt has %z tokens, this context takes %z (max_query_tokens)",
                          prompt.count, ctx->max_prompt);
    r = kalm__check_params(params, &p, err);
    if (!r) r = kalm__check_ids(ctx, "prompt", 0, prompt.data, prompt.count, err);
    if (r) return r;
    memcpy(ctx->memory.prompt, prompt.data, prompt.count * sizeof *prompt.data);
    r = kalm__score_docs(ctx, prompt.count, p.prefix_tokens, docs, count, &p, scores, err);
    if (r && count) memset(scores, 0, count * sizeof *scores);
    return r;
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
    kalm__state_key key;
    size_t tokens = 0;
    kalm_result r = kalm__check_params(params, &p, err);
    if (!r) r = kalm__need_tokenizer(ctx->model, err);
    if (!r) r = kalm__check_docs(ctx, &doc, 1, err);
    if (!r) r = kalm__prefix_ids(ctx, &p, &tokens, err);
    if (!r && (!tokens || tokens > ctx->max_prompt))
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
    kalm__progress progress;
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
        memset(&progress, 0, sizeof progress);
        r = kalm__build_states(ctx, ctx->memory.ids, s->key.tokens, &doc, 0, &s, 1, &progress, err);
        if (!r) {
            kalm__state_header(out, ctx->model->file.fingerprint, &s->key);
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
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(ctx);
    KALM__NEED(doc);
    KALM__NEED(data);
    if (size < KALM__STATE_HEADER || memcmp(p, "KSTA", 4) != 0)
        return kalm__fail(err, KALM_BAD_FILE, "these %z bytes are no stored state", size);
    if (kalm__u32(p + 4) != KALM__STATE_VERSION)
        return kalm__fail(err, KALM_BAD_VERSION, "the state has format version %u, this library reads %u", kalm__u32(p + 4),
                          KALM__STATE_VERSION);
    r = kalm__open_state(ctx, doc, params, &s, err);
    if (r) return r;
    need = s->key.size + KALM__STATE_HEADER;         /* what the document and the prompt at hand ask for, not the header */
    kalm__state_header(want, ctx->model->file.fingerprint, &s->key);
    if (memcmp(want, p, 48) != 0)
        r = kalm__fail(err, KALM_MISMATCH, "the state was made by another model, for another document or for another instruction");
    else if (size != need)
        r = kalm__fail(err, KALM_BAD_FILE, "the state has %z bytes, its header asks for %z", size, need);
    else if (kalm__state_checksum(p, p + KALM__STATE_HEADER, s->key.size) != kalm__u64(p + 48))
        r = kalm__fail(err, KALM_BAD_FILE, "the state is damaged: its checksum does not match");
    else if (s->fresh) {
        memcpy(s->data, p + KALM__STATE_HEADER, s->key.size);
        s->fresh = KALM__STATE_COMPUTED;
    }
    kalm__state_unpin(&ctx->cache, &ctx->alloc, s);
    return r;
}

/* Hands scores on to the caller's callback with the index that they have in the caller's array. */
typedef struct kalm__renumber {
    const kalm_params *params;
    const uint32_t    *place;          /* [..]: index by place; NULL: base + index */
    size_t             base;
} kalm__renumber;

KALM__FN int kalm__renumbered(void *user, const kalm_score *score)
{
    const kalm__renumber *n = (const kalm__renumber *)user;
    kalm_score s = *score;
    s.index = n->place ? n->place[s.index] : (uint32_t)(n->base + s.index);
    return n->params->on_score(n->params->on_score_user, &s);
}

/* A part of a job tells the caller of the whole: `base` units came before it. */
typedef struct kalm__whole {
    const kalm_params *params;
    size_t             base, total;
} kalm__whole;

KALM__FN int kalm__part_progress(void *user, size_t done, size_t total)
{
    const kalm__whole *w = (const kalm__whole *)user;
    (void)total;
    return w->params->progress(w->params->progress_user, kalm__min(w->base + done, w->total), w->total);
}

/* A first pass at the coarser ratio over all documents: all[i] is the score of docs[i], index set. */
KALM__FN kalm_result kalm__coarse_pass(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                       const kalm_params *p, kalm_score *all, kalm_error *err)
{
    enum { KALM__TOGETHER = 64 };
    kalm_doc *coarse[KALM__TOGETHER];
    kalm_params pass = *p;
    size_t first, i;
    kalm_result r = KALM_OK;
    pass.on_score = NULL;
    for (first = 0; !r && first < count; first += KALM__TOGETHER) {
        size_t n = kalm__min(count - first, KALM__TOGETHER);
        for (i = 0; i < n; i++) coarse[i] = NULL;
        for (i = 0; !r && i < n; i++)
            r = kalm_doc_repool(ctx->model, docs[first + i], p->coarse_ratio, 0, &coarse[i], err);
        if (!r) r = kalm_rerank(ctx, query, (const kalm_doc *const *)coarse, n, &pass, all + first, err);
        for (i = 0; i < n; i++) {
            all[first + i].index = (uint32_t)(first + i);
            kalm__doc_release(coarse[i]);
        }
    }
    return r;
}

KALM_API kalm_result kalm_rerank_top(kalm_context *ctx, kalm_text query, const kalm_doc *const *docs, size_t count,
                                     size_t top_k, const kalm_params *params, kalm_score *scores, size_t *found,
                                     kalm_error *err)
{
    kalm_params p, pass;
    kalm__renumber number;
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
    if (!r) r = kalm__check_docs(ctx, docs, count, err);
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
        keep = kalm__min(count, kalm__max(top_k, p.coarse_keep ? p.coarse_keep : kalm__mul(top_k, 4)));
        r = kalm__coarse_pass(ctx, query, docs, count, &p, all, err);
        if (!r) kalm_sort(all, count);
        for (i = 0; !r && i < count; i++) place[i] = all[i].index;
    }
    for (i = 0; i < keep; i++) chosen[i] = docs[place[i]];
    pass = p;
    if (p.on_score) {
        number.params = &p;
        number.place = place;
        number.base = 0;
        pass.on_score = kalm__renumbered;
        pass.on_score_user = &number;
    }
    if (!r) r = kalm_rerank(ctx, query, chosen, keep, &pass, all, err);
    if (!r) {
        for (i = 0; i < keep; i++) all[i].index = place[all[i].index];
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
    enum { KALM__TOGETHER = 64 };
    kalm_doc *docs[KALM__TOGETHER];
    kalm_params p, pass;
    kalm__renumber number;
    kalm__passages source;
    kalm__whole whole;
    kalm_result r;
    size_t first, i, layers;
    kalm__no_error(err);
    KALM__NEED(ctx);
    if (count) KALM__NEED(texts);
    if (count) KALM__NEED(scores);
    if (count) memset(scores, 0, count * sizeof *scores);
    r = kalm__check_params(params, &p, err);
    if (!r) r = kalm__need_tokenizer(ctx->model, err);
    layers = ctx->model->file.shape.side[KALM__ENCODER].layers + ctx->model->file.shape.side[KALM__DECODER].layers;
    memset(&whole, 0, sizeof whole);
    memset(&source, 0, sizeof source);
    source.flags = p.flags;
    if (!r && (!params || !params->bits)) p.bits = 32;   /* nothing is kept, so nothing need be rounded */
    for (first = 0; !r && first < count; first += KALM__TOGETHER) {
        size_t n = kalm__min(count - first, KALM__TOGETHER);
        pass = p;
        if (p.on_score) {
            number.params = &p;
            number.place = NULL;
            number.base = first;
            pass.on_score = kalm__renumbered;
            pass.on_score_user = &number;
        }
        if (p.progress) {
            whole.params = &p;
            whole.base = first * layers;
            whole.total = count * layers;
            pass.progress = kalm__part_progress;
            pass.progress_user = &whole;
        }
        source.texts = texts + first;
        source.base = first;
        r = kalm__encode_all(ctx, &source, n, &pass, docs, err);
        whole.base += n * ctx->model->file.shape.side[KALM__ENCODER].layers;
        if (!r) r = kalm_rerank(ctx, query, (const kalm_doc *const *)docs, n, &pass, scores + first, err);
        for (i = 0; i < n; i++) {
            scores[first + i].index = (uint32_t)(first + i);
            kalm__doc_release(docs[i]);
        }
    }
    if (r && count) memset(scores, 0, count * sizeof *scores);
    return r;
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
