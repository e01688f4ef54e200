/* public.h - the functions of api.h up to documents: check what the caller gave, then call the part that does the work. */
#ifndef KALM__PUBLIC_H
#define KALM__PUBLIC_H

#include "base.h"
#include "rerank.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every call clears what it will fill in, so that a failure leaves nothing stale behind. */
#define KALM__NEED(pointer)                                                                              \
    do {                                                                                                 \
        if (!(pointer)) return kalm__fail(err, KALM_BAD_ARGUMENT, #pointer " is NULL");                  \
    } while (0)

KALM_API uint32_t kalm_version(void)
{
    return (uint32_t)KALM_VERSION_MAJOR << 16 | (uint32_t)KALM_VERSION_MINOR << 8 | (uint32_t)KALM_VERSION_PATCH;
}

KALM_API const char *kalm_kernels(size_t i)
{
    const kalm__kernels *k = kalm__kernel_set(i, NULL, 0);
    return k ? k->name : NULL;
}

/* ---- model ------------------------------------------------------------------------------------------------------- */

#ifndef KALM_NO_STDIO
KALM_API kalm_result kalm_model_open(const char *path, const kalm_config *config, kalm_model **model, kalm_error *err)
{
    kalm__mapping mapping;
    kalm_allocator alloc;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(model);
    *model = NULL;
    KALM__NEED(path);
    r = kalm__take_allocator(config, &alloc, err);
    if (r) return r;
    if (config && config->load > KALM_LOAD_READ)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "load is %u; it is KALM_LOAD_MAP or KALM_LOAD_READ", (unsigned)config->load);
    r = kalm__map_file(&mapping, path, config ? config->load : KALM_LOAD_MAP, &alloc, err);
    if (r) return r;
    r = kalm__model_new(mapping.data, mapping.size, config, &mapping, model, err);
    if (r) kalm__unmap_file(&mapping, &alloc);
    else if (mapping.mapped) {
        const kalm__file *f = &(*model)->file;
        kalm__advise(f->stack[0].embed, f->shape.vocabulary * f->stack[0].embed_row, KALM__AT_RANDOM);
        if (f->stack[1].embed != f->stack[0].embed) kalm__advise(f->stack[1].embed, f->shape.vocabulary * f->stack[1].embed_row, KALM__AT_RANDOM);
    }
    return r;
}
#endif

KALM_API kalm_result kalm_model_open_memory(const void *data, size_t size, const kalm_config *config, kalm_model **model,
                                            kalm_error *err)
{
    kalm__no_error(err);
    KALM__NEED(model);
    *model = NULL;
    KALM__NEED(data);
    if ((uintptr_t)data & 63) return kalm__fail(err, KALM_BAD_ARGUMENT, "the model's bytes are not aligned to 64");
    return kalm__model_new(data, size, config, NULL, model, err);
}

KALM_API void kalm_model_close(kalm_model *model)
{
    kalm_allocator alloc;
    if (!model) return;
    alloc = model->alloc;
#ifndef KALM_NO_STDIO
    kalm__unmap_file(&model->mapping, &alloc);
#endif
    kalm__release(&alloc, model, model->block);
}

KALM_API void kalm_model_get_info(const kalm_model *model, kalm_model_info *info)
{
    const kalm__file *f;
    if (!info) return;
    memset(info, 0, sizeof *info);
    if (!model) return;
    f = &model->file;
    info->name = model->name;
    info->weights = f->has_model ? kalm__type_name(f->shape.weights) : "none";
    info->vocabulary = f->shape.vocabulary;
    info->layers = f->shape.side[KALM__ENCODER].layers;
    info->width = f->shape.hidden_size;
    info->max_tokens = f->shape.side[KALM__ENCODER].max_positions;
    info->has_tokenizer = f->has_tokenizer;
    info->yes_id = (int32_t)f->shape.yes_id;
    info->no_id = (int32_t)f->shape.no_id;
    info->bytes = f->size;
    info->fingerprint = f->fingerprint;
    info->cut_vocabulary = f->vocabulary;
    info->has_encoder = f->has_model && !(f->lacks & KALM__LACKS_ENCODER);
    info->has_decoder = f->has_model && !(f->lacks & KALM__LACKS_DECODER);
    info->transform = f->rows.fingerprint;
}

KALM_API kalm_result kalm_model_verify(const kalm_model *model, kalm_error *err)
{
    kalm__no_error(err);
    KALM__NEED(model);
    return kalm__file_verify(&model->file, err);
}

/* ---- tokenizer --------------------------------------------------------------------------------------------------- */

KALM_API kalm_result kalm_tokenize(const kalm_model *model, kalm_text text, uint32_t flags, int32_t *ids, size_t capacity,
                                   size_t *count, kalm_error *err)
{
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(count);
    *count = 0;
    KALM__NEED(model);
    if (capacity) KALM__NEED(ids);
    if (flags & ~KALM_PARSE_CONTROL) return kalm__fail(err, KALM_BAD_ARGUMENT, "flags has bits that mean nothing: %u", flags);
    r = kalm__need_tokenizer(model, err);
    if (!r) r = kalm__need_rounding(err);
    return r ? r : kalm__tokenize(&model->file.tokenizer, &model->alloc, NULL, kalm__resolve(text), flags, ids, capacity, count,
                                  err);
}

KALM_API kalm_result kalm_detokenize(const kalm_model *model, const int32_t *ids, size_t count, char *text, size_t capacity,
                                     size_t *size, kalm_error *err)
{
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(size);
    *size = 0;
    KALM__NEED(model);
    if (count) KALM__NEED(ids);
    if (capacity) KALM__NEED(text);
    r = kalm__need_tokenizer(model, err);
    return r ? r : kalm__detokenize(&model->file.tokenizer, ids, count, text, capacity, size, err);
}

KALM_API kalm_text kalm_token_bytes(const kalm_model *model, int32_t id)
{
    kalm_text none;
    none.data = NULL;
    none.size = 0;
    return model && model->file.has_tokenizer ? kalm__token_bytes(&model->file.tokenizer, id) : none;
}

/* ---- context ----------------------------------------------------------------------------------------------------- */

KALM_API kalm_result kalm_context_new(const kalm_model *model, const kalm_config *config, kalm_context **ctx, kalm_error *err)
{
    kalm__no_error(err);
    KALM__NEED(ctx);
    *ctx = NULL;
    KALM__NEED(model);
    return kalm__context_new(model, config, ctx, err);
}

KALM_API kalm_result kalm_context_bytes(const kalm_model *model, const kalm_config *config, size_t *bytes, kalm_error *err)
{
    kalm_context plan;
    unsigned threads;
    kalm__no_error(err);
    KALM__NEED(bytes);
    *bytes = 0;
    KALM__NEED(model);
    return kalm__context_measure(&plan, model, config, &threads, bytes, err);
}

KALM_API void kalm_context_free(kalm_context *ctx)
{
    kalm_allocator alloc;
    if (!ctx) return;
    kalm__pool_stop(&ctx->pool);
    alloc = ctx->alloc;
    kalm__cache_clear(&ctx->cache, &alloc);
    kalm__release(&alloc, ctx->block, ctx->block_size);
}

/* ---- documents --------------------------------------------------------------------------------------------------- */

/* kalm_encode (is_text) and kalm_encode_ids. */
KALM__FN kalm_result kalm__encode_call(kalm_context *ctx, const kalm_text *texts, const kalm_ids *ids, int is_text, size_t count,
                                       const kalm_params *params, kalm_doc **docs, kalm_error *err)
{
    kalm__passages s;
    kalm_params p;
    kalm__job job;
    kalm_result r;
    size_t i;
    kalm__no_error(err);
    if (count) KALM__NEED(docs);
    for (i = 0; i < count; i++) docs[i] = NULL;
    KALM__NEED(ctx);
    if (count && !ids) KALM__NEED(texts);
    r = kalm__check_params(params, &p, err);
    if (!r) r = kalm__need_side(ctx->model, KALM__ENCODER, err);
    if (!r && is_text) r = kalm__need_tokenizer(ctx->model, err);
    if (r) return r;
    s.texts = texts;
    s.ids = ids;
    kalm__job_begin(&job, &p, count, ctx->model->file.shape.side[KALM__ENCODER].layers);
    return kalm__encode_all(ctx, &s, count, &job, docs, err);
}

KALM_API kalm_result kalm_encode(kalm_context *ctx, const kalm_text *texts, size_t count, const kalm_params *params,
                                 kalm_doc **docs, kalm_error *err)
{
    return kalm__encode_call(ctx, texts, NULL, 1, count, params, docs, err);
}

KALM_API kalm_result kalm_encode_ids(kalm_context *ctx, const kalm_ids *texts, size_t count, const kalm_params *params,
                                     kalm_doc **docs, kalm_error *err)
{
    return kalm__encode_call(ctx, NULL, texts, 0, count, params, docs, err);
}

KALM_API const void *kalm_doc_bytes(const kalm_doc *doc, size_t *size)
{
    if (size) *size = doc ? doc->size : 0;
    return doc ? doc->bytes : NULL;
}

KALM_API kalm_result kalm_doc_open(const kalm_model *model, const void *data, size_t size, uint32_t flags, kalm_doc **doc,
                                   kalm_error *err)
{
    kalm_doc_info info;
    kalm_doc *d;
    unsigned char *rows;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(doc);
    *doc = NULL;
    KALM__NEED(model);
    KALM__NEED(data);
    if (flags & ~KALM_BORROW) return kalm__fail(err, KALM_BAD_ARGUMENT, "flags has bits that mean nothing: %u", flags);
    if (flags & KALM_BORROW && (uintptr_t)data & 3)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "the borrowed bytes are not aligned to 4");
    if (!model->file.has_model) return kalm__fail(err, KALM_BAD_ARGUMENT, "the file holds a tokenizer alone, no model");
    memset(&info, 0, sizeof info);
    r = kalm__doc_check((const unsigned char *)data, size, &info, model->file.fingerprint, model->file.shape.hidden_size,
                        &model->file.rows.fingerprint, err);
    if (r) return r;
    if (flags & KALM_BORROW) {
        d = (kalm_doc *)kalm__alloc(&model->alloc, sizeof *d);
        if (!d) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a document");
        d->alloc = model->alloc;
        d->block = sizeof *d;
        d->bytes = (const unsigned char *)data;
        d->size = size;
        d->info = info;
    } else {
        d = kalm__doc_new(&model->alloc, &info, &rows);
        if (!d) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a document of %z bytes", size);
        memcpy(rows - KALM__DOC_HEADER, data, size);
    }
    *doc = d;
    return KALM_OK;
}

/* Memory for coarser rows. code: NULL where none has 4, 3 or 2 bits. */
typedef struct kalm__repooling {
    void          *block;
    size_t         size;
    const kalm__kernels *kernels;
    const kalm__rowcode *code;
    float         *sums, *row;         /* [n][width], [width] */
    kalm__row_work work;
} kalm__repooling;

KALM__FN int kalm__repool_begin(kalm__repooling *p, const kalm_model *model, size_t width, const kalm__rowcode *code, size_t n)
{
    size_t own = kalm__round_up((n + 1) * width * sizeof(float), 64);
    unsigned char *at;
    memset(p, 0, sizeof *p);
    p->code = code;
    p->kernels = kalm__kernel_set(0, NULL, 0);      /* vectors alone, no tiles */
    p->size = own + 64 + (code ? kalm__row_work_plan(&p->work, NULL, p->kernels, width) : 0);
    p->block = kalm__alloc(&model->alloc, p->size);
    if (!p->block) return 0;
    at = kalm__align64(p->block);
    p->sums = (float *)(void *)at;
    p->row = p->sums + n * width;
    if (code) kalm__row_work_plan(&p->work, at + own, p->kernels, width);
    return 1;
}

/* Row i of a document with a row for each `step` rows of `doc`, into sum [width]. */
KALM__FN void kalm__repool_row(const kalm__repooling *p, const kalm_doc *doc, size_t step, size_t i, float *sum)
{
    size_t width = doc->info.width, end = kalm__min((i + 1) * step, doc->info.rows), tokens = 0, k, d;
    memset(sum, 0, width * sizeof *sum);
    for (k = i * step; k < end; k++) {
        size_t mine = kalm__min(doc->info.ratio, doc->info.tokens_used - k * doc->info.ratio);
        kalm__doc_read_rows(p->code, p->kernels, &p->work, doc, k, 1, p->row);
        for (d = 0; d < width; d++) sum[d] = kalm__plus(sum[d], kalm__times(p->row[d], (float)mine));
        tokens += mine;
    }
    for (d = 0; d < width; d++) sum[d] = kalm__over(sum[d], (float)tokens);
}

KALM_API kalm_result kalm_doc_repool(const kalm_model *model, const kalm_doc *doc, uint32_t ratio, uint32_t bits,
                                     kalm_doc **coarser, kalm_error *err)
{
    kalm_doc_info info;
    kalm_doc *out;
    unsigned char *rows;
    kalm__repooling p;
    const kalm__rowcode *code = NULL;
    uint32_t bad;
    size_t row_bytes, i, k, n;
    kalm_result r;
    kalm__no_error(err);
    KALM__NEED(coarser);
    *coarser = NULL;
    KALM__NEED(model);
    KALM__NEED(doc);
    r = kalm__need_rounding(err);
    if (r) return r;
    info = doc->info;
    if (!ratio || ratio % info.ratio)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "ratio %u is no multiple of the document's, %u", ratio, info.ratio);
    info.bits = bits ? bits : info.bits;
    if (!kalm__doc_row_bytes(info.width, info.bits))
        return kalm__fail(err, KALM_BAD_ARGUMENT, "bits is %u; documents keep 32, 16, 8, 4, 3 or 2", bits);
    if (kalm__is_coded(info.bits) || info.transform) {
        code = &model->file.rows;
        if (!code->fingerprint)
            return info.transform ? kalm__no_rowcode(KALM_MISMATCH, doc->info.bits, err)
                                  : kalm__no_rowcode(KALM_BAD_ARGUMENT, info.bits, err);
        if (code->width != info.width || (info.transform && info.transform != code->fingerprint))
            return kalm__fail(err, KALM_MISMATCH, "the document's rows were made with transform %X, the model file has %X",
                              info.transform, code->fingerprint);
    }
    info.transform = kalm__is_coded(info.bits) ? code->fingerprint : 0;
    info.ratio = ratio;
    info.rows = (info.tokens_used - 1) / ratio + 1;
    row_bytes = kalm__doc_row_bytes(info.width, info.bits);
    n = kalm__is_coded(info.bits) ? KALM__ROWS_TOGETHER : 1;
    if (!kalm__repool_begin(&p, model, info.width, code, n))
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for rows of %u numbers", info.width);
    out = kalm__doc_new(&model->alloc, &info, &rows);
    for (i = 0; out && i < info.rows; i += n) {
        n = kalm__min(n, info.rows - i);
        for (k = 0; k < n; k++) kalm__repool_row(&p, doc, ratio / doc->info.ratio, i + k, p.sums + k * info.width);
        if (kalm__is_coded(info.bits))
            kalm__doc_write_rows(code, p.kernels, &p.work, rows + i * row_bytes, p.sums, n, info.bits, ratio);
        else kalm__doc_write_row(rows + i * row_bytes, p.sums, info.width, info.bits);
    }
    kalm__release(&model->alloc, p.block, p.size);
    if (!out) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a document of %u rows", info.rows);
    bad = kalm__doc_overflow(rows, &info);
    if (bad < info.rows) {
        kalm__doc_release(out);
        return kalm__fail(err, KALM_OVERFLOW, "numbers overflowed: row %u of the coarser document is not finite", bad);
    }
    kalm__doc_seal(out, rows);
    *coarser = out;
    return KALM_OK;
}

KALM_API void kalm_doc_get_info(const kalm_doc *doc, kalm_doc_info *info)
{
    if (!info) return;
    memset(info, 0, sizeof *info);
    if (doc) *info = doc->info;
}

KALM_API void kalm_doc_free(kalm_doc *doc) { kalm__doc_release(doc); }

#ifdef __cplusplus
}
#endif

#endif
