/* fuzz_model.h - target "model": hostile model files. Whatever the bytes, opening refuses with a sentence, or gives a model that
   can be used for everything without harm, and whose scores are the same numbers twice; beside quantised weights they are the same from
   every kernel set. */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include "fuzz.h"
#include "model_bytes.h"

/* Refuses more than a sane program needs, so that a file that asks for the moon is told no and not given it; counts what is out.
   Memory comes with other contents each time: what depends on them differs the second time, which the targets notice. */
static size_t fuzz_live;
static void *fuzz_small_alloc(void *user, size_t size)
{
    static unsigned char fill;
    void *p;
    (void)user;
    if (size > (size_t)1 << 27 || fuzz_live + size > (size_t)1 << 28) return NULL;
    p = malloc(size);
    if (!p) return NULL;
    fuzz_live += size;
    return memset(p, fill = (unsigned char)(fill * 5 + 0x7f), size);
}
static void fuzz_small_release(void *user, void *p, size_t size)
{
    (void)user;
    fuzz_live -= size;
    free(p);
}

FUZZ_FN kalm_config fuzz_config(const char *kernels)
{
    kalm_config c;
    memset(&c, 0, sizeof c);
    c.allocator.alloc = fuzz_small_alloc;
    c.allocator.release = fuzz_small_release;
    c.threads = 1;
    c.max_doc_tokens = 48;
    c.max_query_tokens = 32;
    c.kernels = kernels;
    return c;
}

/* Exactly `size` bytes that begin at a multiple of 64. */
FUZZ_FN uint8_t *fuzz_aligned(const void *data, size_t size)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, size ? size : 1)) abort();
    if (size) memcpy(p, data, size);
    return (uint8_t *)p;
}

FUZZ_FN void fuzz_check_score(const kalm_score *s)
{
    FUZZ_CHECK(s->margin - s->margin == 0 && s->score >= 0 && s->score <= 1, "margin %g, score %g", (double)s->margin, (double)s->score);
}

/* A failure must say why, in printable UTF-8 without control characters. */
FUZZ_FN void fuzz_check_error(kalm_result r, const kalm_error *err)
{
    const char *p;
    FUZZ_CHECK(err->code == r && err->text[0], "result %d, code %d, \"%s\"", (int)r, (int)err->code, err->text);
    for (p = err->text; *p; p++) FUZZ_CHECK((unsigned char)*p >= 32 && *p != 127, "byte %d in \"%s\"", *p, err->text);
}

/* Tokenise and back, short and long. */
FUZZ_FN void fuzz_use_tokenizer(const kalm_model *model, const char *words, size_t size)
{
    kalm_text text, token;
    kalm_error err;
    int32_t ids[256];
    char back[512];
    size_t n = 0, bytes, i, sum = 0;
    int pass;
    text.data = words;
    text.size = size;
    for (pass = 0; pass < 2; pass++) {
        kalm_result r = kalm_tokenize(model, text, pass ? KALM_PARSE_CONTROL : 0, ids, 256, &n, &err);
        if (r) fuzz_check_error(r, &err);
        else if (kalm_detokenize(model, ids, kalm__min(n, 256), back, sizeof back, &bytes, &err)) FUZZ_CHECK(err.text[0], "no sentence");
    }
    for (i = 0; i < 40; i++) {
        token = kalm_token_bytes(model, (int32_t)i * 3 - 5);
        for (n = 0; n < token.size; n++) sum += (unsigned char)token.data[n];
    }
    (void)sum;
}

static const char fuzz_text_a[] = "ab aba <eot> <b>a\xff b\xc3\xa9  aaaa\n\nA\xe2\x96\x81 x";
static const char fuzz_text_b[] = "abababab";

/* A document of 32-bit rows for a model that lacks its encoder. */
FUZZ_FN kalm_doc *fuzz_made_document(const kalm_model *model, uint32_t tokens, uint32_t ratio, uint64_t random)
{
    uint32_t width = model->file.shape.hidden_size, rows = (tokens - 1) / ratio + 1, i;
    size_t size = KALM__DOC_HEADER + (size_t)rows * width * 4;
    uint8_t *p = (uint8_t *)calloc(1, size);
    kalm_doc *doc = NULL;
    kalm_error err;
    if (!p) abort();
    memcpy(p, "KDOC", 4);
    kalm__put_u32(p + 4, 1);
    kalm__put_u64(p + 8, model->file.fingerprint);
    kalm__put_u32(p + 16, tokens);
    kalm__put_u32(p + 20, tokens);
    kalm__put_u32(p + 24, ratio);
    kalm__put_u32(p + 28, rows);
    kalm__put_u32(p + 32, width);
    kalm__put_u32(p + 36, 32);
    kalm__put_u64(p + 48, model->file.vocabulary);
    for (i = 0; i < rows * width; i++) kalm__put_f32(p + KALM__DOC_HEADER + 4 * i, fuzz_float(&random));
    kalm__put_u64(p + 40, kalm__doc_checksum(p, size));
    FUZZ_CHECK(!kalm_doc_open(model, p, size, 0, &doc, &err), "a sound document is refused: %s", err.text);
    free(p);
    return doc;
}

FUZZ_FN void fuzz_use_context(kalm_context *ctx, const kalm_model *model, size_t seed)
{
    kalm_text texts[3];
    kalm_score first[3], again[3];
    kalm_params params;
    kalm_doc *docs[3] = { NULL, NULL, NULL }, *other = NULL;
    kalm_error err;
    kalm_result r;
    kalm_ids some[2];
    static const int32_t ids[6] = { 1, 2, 3, 0, 5, 6 };
    size_t i, size;
    memset(&params, 0, sizeof params);
    params.ratio = 1 + (uint32_t)(seed % 5);
    params.bits = model->file.rows.fingerprint && seed / 3 % 2 ? 2 + (uint32_t)(seed % 3) : 8u << seed % 3;
    texts[0] = kalm__text(fuzz_text_a);
    texts[1] = kalm__text(fuzz_text_b);
    texts[2] = kalm__text("");
    r = kalm_rerank_texts(ctx, texts[1], texts, 3, &params, first, &err);
    if (r) fuzz_check_error(r, &err);
    else {
        for (i = 0; i < 3; i++) fuzz_check_score(&first[i]);
        r = kalm_rerank_texts(ctx, texts[1], texts, 3, &params, again, &err);
        FUZZ_CHECK(!r && !memcmp(first, again, sizeof first), "other scores the second time: %g and %g", (double)first[0].margin, (double)again[0].margin);
    }
    some[0].data = ids, some[0].count = 3;
    some[1].data = ids + 1, some[1].count = 5;
    r = kalm_encode_ids(ctx, some, 2, &params, docs, &err);
    if (r == KALM_INCOMPLETE) {
        FUZZ_CHECK(model->file.lacks & KALM__LACKS_ENCODER, "%s", err.text);
        docs[0] = fuzz_made_document(model, 3, params.ratio, seed);
        docs[1] = fuzz_made_document(model, 5, params.ratio, seed + 1);
    } else if (r) {
        fuzz_check_error(r, &err);
        FUZZ_CHECK(!docs[0] && !docs[1], "documents beside an error");
        return;
    }
    r = kalm_rerank_ids(ctx, some[0], (const kalm_doc *const *)docs, 2, &params, first, &err);
    if (r) fuzz_check_error(r, &err);
    else for (i = 0; i < 2; i++) fuzz_check_score(&first[i]);
    {                                  /* open(bytes(d)) == d, and cut anywhere it is none */
        const void *bytes = kalm_doc_bytes(docs[0], &size);
        uint8_t *exact = fuzz_exact(bytes, size), *shorter = fuzz_exact(bytes, seed % size);
        r = kalm_doc_open(model, exact, size, 0, &other, &err);
        FUZZ_CHECK(!r, "its own bytes are refused: %s", err.text);
        {
            size_t n;
            const void *b = kalm_doc_bytes(other, &n);
            FUZZ_CHECK(n == size && !memcmp(b, exact, size), "%s", "other bytes came back");
        }
        kalm_doc_free(other);
        FUZZ_CHECK(kalm_doc_open(model, shorter, seed % size, 0, &other, &err) && !other, "%s", "a cut document opened");
        free(exact);
        free(shorter);
    }
    r = kalm_doc_repool(model, docs[1], params.ratio * (1 + (uint32_t)(seed % 3)), 0, &other, &err);
    if (r) fuzz_check_error(r, &err);
    else if (!kalm_rerank_ids(ctx, some[1], (const kalm_doc *const *)&other, 1, NULL, first, &err)) fuzz_check_score(&first[0]);
    if (!r) kalm_doc_free(other);
    r = kalm_rerank(ctx, texts[0], (const kalm_doc *const *)docs, 2, NULL, first, &err);
    if (!r) {
        r = kalm_rerank(ctx, texts[0], (const kalm_doc *const *)docs, 2, NULL, again, &err);
        FUZZ_CHECK(!r && !memcmp(first, again, 2 * sizeof *first), "%s", "other scores out of the cache");
        if (!kalm_state_save(ctx, docs[0], NULL, NULL, 0, &size, &err)) {
            uint8_t *state = (uint8_t *)malloc(size);
            size_t n;
            if (!kalm_state_save(ctx, docs[0], NULL, state, size, &n, &err)) {
                kalm_context_clear_cache(ctx);
                r = kalm_state_load(ctx, docs[0], NULL, state, size, &err);
                FUZZ_CHECK(!r, "its own state is refused: %s", err.text);
                r = kalm_rerank(ctx, texts[0], (const kalm_doc *const *)docs, 2, NULL, again, &err);
                FUZZ_CHECK(!r && !memcmp(first, again, 2 * sizeof *first), "%s", "other scores out of a stored state");
            }
            free(state);
        }
    }
    for (i = 0; i < 2; i++) kalm_doc_free(docs[i]);
}

/* The set, and what depends on chance, come from the bytes that no checksum covers in turn: from a sum over some of them. */
FUZZ_FN size_t fuzz_sum(const uint8_t *data, size_t size)
{
    size_t i, sum = size;
    for (i = 0; i < size; i += 1 + i / 16) sum = sum * 131 + data[i];
    return sum ^ sum >> 17;
}

/* Every kernel set says of three texts what the first one says: the same bits, or the same failure. */
FUZZ_FN void fuzz_compare_sets(const kalm_model *model, kalm_config config, size_t seed)
{
    kalm_text texts[3];
    kalm_params params;
    kalm_score first[3], other[3];
    kalm_result r[2] = { KALM_OK, KALM_OK };
    kalm_error err;
    size_t k, i;
    memset(&params, 0, sizeof params);
    params.ratio = 1 + (uint32_t)(seed % 3);
    texts[0] = kalm__text(fuzz_text_a);
    texts[1] = kalm__text(fuzz_text_b);
    texts[2] = kalm__text("");
    for (k = 0; kalm_kernels(k); k++) {
        kalm_context *ctx = NULL;
        config.kernels = kalm_kernels(k);
        r[k > 0] = kalm_context_new(model, &config, &ctx, &err);
        if (!r[k > 0]) r[k > 0] = kalm_rerank_texts(ctx, texts[1], texts, 3, &params, k ? other : first, &err);
        kalm_context_free(ctx);
        if (!k) r[1] = r[0];
        FUZZ_CHECK(r[0] == r[1], "result %d from %s, %d from %s", (int)r[0], kalm_kernels(0), (int)r[1], config.kernels);
        for (i = 0; k && !r[0] && i < 3; i++)
            FUZZ_CHECK(!memcmp(&first[i], &other[i], sizeof *first), "text %lu has margin %.9g from %s, %.9g from %s", (unsigned long)i, (double)first[i].margin, kalm_kernels(0),
                       (double)other[i].margin, config.kernels);
    }
}

static void fuzz_model_one(const uint8_t *data, size_t size)
{
    size_t seed = fuzz_sum(data, size), need, i, before = fuzz_live;
    uint8_t *exact = fuzz_aligned(data, size);
    kalm_config config = fuzz_config(fuzz_set(kalm_kernels, data, size));
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_error err;
    kalm_result r = kalm_model_open_memory(exact, size, &config, &model, &err);
    FUZZ_CHECK(!r == !!model, "%s", "a model beside an error");
    if (r) {
        fuzz_check_error(r, &err);
        FUZZ_CHECK(fuzz_live == before, "%lu bytes kept", (unsigned long)(fuzz_live - before));
        free(exact);
        return;
    }
    r = kalm_model_verify(model, &err);
    if (r) fuzz_check_error(r, &err);
    fuzz_use_tokenizer(model, fuzz_text_a, sizeof fuzz_text_a - 1);
    if (seed % 16 == 0) {              /* long enough that what grows with the square shows */
        static char longer[1 << 16];
        static const char *const unit[4] = { "a", "ab", " ", "<b>a\n" };
        for (i = 0; i < sizeof longer; i++) longer[i] = unit[seed / 16 % 4][i % strlen(unit[seed / 16 % 4])];
        fuzz_use_tokenizer(model, longer, sizeof longer);
    }
    if (seed % 3) config.cache_bytes = seed % 3 == 1 ? 1 << 20 : 20000;
    config.state_bits = (uint32_t)(seed / 3 % 3 * 4);
    r = kalm_context_bytes(model, &config, &need, &err);
    if (r) fuzz_check_error(r, &err);
    r = kalm_context_new(model, &config, &ctx, &err);
    FUZZ_CHECK(!r == !!ctx, "%s", "a context beside an error");
    if (r) fuzz_check_error(r, &err);
    else fuzz_use_context(ctx, model, seed);
    kalm_context_free(ctx);
    if (seed / 7 % 4 == 0 && fuzz_sums(exact, size, 0)) fuzz_compare_sets(model, config, seed);
    kalm_model_close(model);
    FUZZ_CHECK(fuzz_live == before, "%lu bytes kept", (unsigned long)(fuzz_live - before));
    FUZZ_CHECK(kalm_model_open_memory(exact, seed % size, &config, &model, &err) && !model, "%s", "a cut file opened");
    free(exact);
}

static void fuzz_model_seeds(fuzz_taker *take)
{
    unsigned i;
    for (i = 0; i < FUZZ_SHAPES; i++) {
        fuzz_shape s = fuzz_some_shape(i);
        char name[16];
        size_t size;
        uint8_t *p = fuzz_model_bytes(&s, i + 1, &size);
        sprintf(name, "shape-%u", i);
        take(name, p, size);
        free(p);
    }
}

static const fuzz_target fuzz_model_target = {
    "model", 1 << 17, 250, fuzz_model_one, fuzz_change_model, fuzz_mend_model, fuzz_model_seeds, NULL
};

#endif
