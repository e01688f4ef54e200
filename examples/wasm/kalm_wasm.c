/* kalm_wasm.c - the functions that kalm.mjs calls in the WebAssembly module. One instance of the module holds one model and one
   context. Another model gets another instance, because a WebAssembly memory grows and never shrinks: only when the whole
   instance is dropped does its memory go back to the system. The functions take and return numbers and addresses in that memory;
   kalm.mjs checks the numbers and puts the texts there.

   Every function that can fail returns 0 or a kalm_result; kalm_wasm_error() then has the sentence. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KALM_NO_STDIO
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"

#define EXPORT(name) __attribute__((export_name(#name), used)) name

/* Layers x tokens done, of all; on the thread that called. Non-zero: stop. */
__attribute__((import_module("env"), import_name("kalm_js_progress")))
extern int kalm_js_progress(double done, double total);

/* The only state: this is a program, not the library. */
static kalm_model *the_model;
static kalm_context *the_context;
static kalm_error the_error;

static int progress(void *user, size_t done, size_t total)
{
    (void)user;
    return kalm_js_progress((double)done, (double)total);
}

/* Memory for a model of `size` bytes, aligned to 64, for the life of the instance; NULL when there is none, and then the
   instance is of no more use. Not malloc's: that refuses blocks of 2 GB and more, whatever the system has. In steps,
   since sbrk's argument has a sign. */
void *EXPORT(kalm_wasm_reserve)(size_t size)
{
    uintptr_t at = (uintptr_t)sbrk(0), pad = (64 - at % 64) % 64;
    size_t left, step;
    if (size > SIZE_MAX - 64 || at > SIZE_MAX - 64 - size) return NULL;
    for (left = size + pad; left; left -= step) {
        step = left < ((size_t)1 << 30) ? left : (size_t)1 << 30;
        if (sbrk((intptr_t)step) == (void *)-1) return NULL;
    }
    return (void *)(at + pad);
}

void *EXPORT(kalm_wasm_alloc)(size_t size) { return malloc(size ? size : 1); }
void EXPORT(kalm_wasm_release)(void *ptr) { free(ptr); }

/* { int32 code; char text[248] } of the last call that failed */
const kalm_error *EXPORT(kalm_wasm_error)(void) { return &the_error; }

static void prepare(kalm_config *config, uint32_t threads, uint32_t max_doc, uint32_t max_query, size_t cache,
                    uint32_t state_bits, const char *kernels)
{
    memset(config, 0, sizeof *config);
    config->threads = threads ? threads : 1;
    config->max_doc_tokens = max_doc;
    config->max_query_tokens = max_query;
    config->cache_bytes = cache;
    config->state_bits = state_bits;
    config->kernels = kernels && *kernels ? kernels : NULL;
}

/* Open the model that lies at `data` (from kalm_wasm_reserve) and make its context; numbers are kalm_config's. A file
   that holds a tokenizer alone has no context. */
int EXPORT(kalm_wasm_open)(const void *data, size_t size, uint32_t threads, uint32_t max_doc, uint32_t max_query,
                           size_t cache, uint32_t state_bits, const char *kernels)
{
    kalm_config config;
    kalm_model_info info;
    kalm_result r;
    prepare(&config, threads, max_doc, max_query, cache, state_bits, kernels);
    r = kalm_model_open_memory(data, size, &config, &the_model, &the_error);
    if (r) return (int)r;
    kalm_model_get_info(the_model, &info);
    if (strcmp(info.weights, "none") == 0) return 0;
    r = kalm_context_new(the_model, &config, &the_context, &the_error);
    if (r) {
        kalm_model_close(the_model);
        the_model = NULL;
    }
    return (int)r;
}

void EXPORT(kalm_wasm_close)(void)
{
    kalm_context_free(the_context);
    kalm_model_close(the_model);
    the_context = NULL;
    the_model = NULL;
}

int EXPORT(kalm_wasm_verify)(void) { return (int)kalm_model_verify(the_model, &the_error); }

/* Nineteen words: name, weights and the best kernel set as pointers, vocabulary, layers, width, max_tokens, has_tokenizer,
   yes_id, no_id, bytes (low, high), fingerprint (low, high), version, has_encoder, has_decoder, cut_vocabulary (low, high). */
const uint32_t *EXPORT(kalm_wasm_info)(void)
{
    static uint32_t out[19];
    kalm_model_info info;
    memset(&info, 0, sizeof info);
    if (the_model) kalm_model_get_info(the_model, &info);
    out[0] = (uint32_t)(uintptr_t)info.name;
    out[1] = (uint32_t)(uintptr_t)info.weights;
    out[2] = (uint32_t)(uintptr_t)kalm_kernels(0);
    out[3] = info.vocabulary;
    out[4] = info.layers;
    out[5] = info.width;
    out[6] = info.max_tokens;
    out[7] = (uint32_t)info.has_tokenizer;
    out[8] = (uint32_t)info.yes_id;
    out[9] = (uint32_t)info.no_id;
    out[10] = (uint32_t)info.bytes;
    out[11] = (uint32_t)(info.bytes >> 32);
    out[12] = (uint32_t)info.fingerprint;
    out[13] = (uint32_t)(info.fingerprint >> 32);
    out[14] = kalm_version();
    out[15] = (uint32_t)info.has_encoder;
    out[16] = (uint32_t)info.has_decoder;
    out[17] = (uint32_t)info.cut_vocabulary;
    out[18] = (uint32_t)(info.cut_vocabulary >> 32);
    return out;
}

/* ---- tokens ---- */

int EXPORT(kalm_wasm_tokenize)(const char *text, size_t size, uint32_t flags, int32_t *ids, size_t capacity, size_t *count)
{
    kalm_text t;
    t.data = text;
    t.size = size;
    return (int)kalm_tokenize(the_model, t, flags, ids, capacity, count, &the_error);
}

int EXPORT(kalm_wasm_detokenize)(const int32_t *ids, size_t count, char *text, size_t capacity, size_t *size)
{
    return (int)kalm_detokenize(the_model, ids, count, text, capacity, size, &the_error);
}

/* ---- documents ---- */

/* A file of a tokenizer alone has no context: the library says so in words when asked for one. */
static int need_context(void)
{
    kalm_context *none = NULL;
    return the_context ? 0 : (int)kalm_context_new(the_model, NULL, &none, &the_error);
}

/* texts: count x { pointer, size }; docs: count pointers, each to be freed */
int EXPORT(kalm_wasm_encode)(const kalm_text *texts, size_t count, uint32_t ratio, uint32_t bits, uint32_t flags,
                             kalm_doc **docs)
{
    kalm_params p;
    int r = need_context();
    if (r) return r;
    memset(&p, 0, sizeof p);
    p.ratio = ratio;
    p.bits = bits;
    p.flags = flags;
    p.progress = progress;
    return (int)kalm_encode(the_context, texts, count, &p, docs, &the_error);
}

int EXPORT(kalm_wasm_doc_open)(const void *data, size_t size, kalm_doc **doc)
{
    return (int)kalm_doc_open(the_model, data, size, 0, doc, &the_error);
}

int EXPORT(kalm_wasm_doc_repool)(const kalm_doc *doc, uint32_t ratio, uint32_t bits, kalm_doc **coarser)
{
    return (int)kalm_doc_repool(the_model, doc, ratio, bits, coarser, &the_error);
}

const void *EXPORT(kalm_wasm_doc_bytes)(const kalm_doc *doc, size_t *size) { return kalm_doc_bytes(doc, size); }

/* Six words: tokens, tokens_used, rows, ratio, width, bits */
void EXPORT(kalm_wasm_doc_info)(const kalm_doc *doc, uint32_t *out)
{
    kalm_doc_info info;
    kalm_doc_get_info(doc, &info);
    out[0] = info.tokens;
    out[1] = info.tokens_used;
    out[2] = info.rows;
    out[3] = info.ratio;
    out[4] = info.width;
    out[5] = info.bits;
}

void EXPORT(kalm_wasm_doc_free)(kalm_doc *doc) { kalm_doc_free(doc); }

/* ---- reranking: scores is count x { uint32 index, uint32 cut, float margin, float score }, not sorted ---- */

int EXPORT(kalm_wasm_rerank)(const kalm_text *query, const kalm_doc *const *docs, size_t count, const kalm_text *system,
                             const kalm_text *instruction, uint32_t flags, kalm_score *scores)
{
    kalm_params p;
    int r = need_context();
    if (r) return r;
    memset(&p, 0, sizeof p);
    p.flags = flags;
    p.system = *system;
    p.instruction = *instruction;
    p.progress = progress;
    return (int)kalm_rerank(the_context, *query, docs, count, &p, scores, &the_error);
}

void EXPORT(kalm_wasm_sort)(kalm_score *scores, size_t count) { kalm_sort(scores, count); }
