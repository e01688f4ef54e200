/* fuzz_engine.h - targets over models that are sound: "document", "repool", "state" take stored bytes of strangers; "calls" is a
   sequence of calls over documents, some of them forged, on two contexts: one with a cache and one without, whose scores must be
   the same bits. */
#ifndef FUZZ_ENGINE_H
#define FUZZ_ENGINE_H

#include "fuzz.h"
#include "model_bytes.h"
#include "fuzz_model.h"

enum { FUZZ_MODELS = 4 };              /* f32, bf16, q8, q4 */

typedef struct fuzz_engine {
    kalm_model *model;
    kalm_doc   *doc[2];                /* made by it; the second from a longer text */
    uint64_t    fingerprint;
    int         quantised;
} fuzz_engine;

/* Opened once: a context is what an input gets of its own. */
FUZZ_FN fuzz_engine *fuzz_get_engine(unsigned i)
{
    static const unsigned shape[FUZZ_MODELS] = { 0, 2, 3, 7 };
    static fuzz_engine engine[FUZZ_MODELS];
    fuzz_engine *e = &engine[i % FUZZ_MODELS];
    if (!e->model) {
        fuzz_shape s = fuzz_some_shape(shape[i % FUZZ_MODELS]);
        size_t size;
        uint8_t *bytes = fuzz_model_bytes(&s, 7, &size), *kept = fuzz_aligned(bytes, size);
        kalm_config c = fuzz_config(NULL);
        kalm_context *ctx = NULL;
        kalm_text texts[2];
        kalm_params p;
        kalm_error err;
        free(bytes);
        c.allocator.alloc = NULL;
        c.allocator.release = NULL;
        texts[0] = kalm__text(fuzz_text_b);
        texts[1] = kalm__text("ab aba ababa b a aaaaaa <b> abbbbbbb");
        memset(&p, 0, sizeof p);
        p.ratio = 2;
        p.bits = i % 2 ? 8 : 16;
        if (kalm_model_open_memory(kept, size, &c, &e->model, &err) || kalm_context_new(e->model, &c, &ctx, &err) ||
            kalm_encode(ctx, texts, 2, &p, e->doc, &err)) fuzz_broken(__FILE__, __LINE__, "the model", "%s", err.text);
        kalm_context_free(ctx);
        e->fingerprint = e->model->file.fingerprint;
        e->quantised = s.type == KALM__Q8 || s.type == KALM__Q4;
    }
    return e;
}

FUZZ_FN kalm_context *fuzz_context(const fuzz_engine *e, const char *kernels, size_t cache, uint32_t state_bits)
{
    kalm_config c = fuzz_config(kernels);
    kalm_context *ctx = NULL;
    kalm_error err;
    c.cache_bytes = cache;
    c.state_bits = state_bits;
    if (kalm_context_new(e->model, &c, &ctx, &err)) fuzz_broken(__FILE__, __LINE__, "a context", "%s", err.text);
    return ctx;
}

/* A context for a target that needs nothing fresh, one for each model, set and form of states; its cache is cleared. */
FUZZ_FN kalm_context *fuzz_shared_context(unsigned model, const char *set, size_t cache, uint32_t state_bits)
{
    static struct { const char *set; unsigned model; uint32_t bits; kalm_context *ctx; } have[192];
    unsigned i;
    for (i = 0; i < 192 && have[i].ctx; i++)
        if (have[i].model == model % FUZZ_MODELS && have[i].bits == state_bits && !strcmp(have[i].set, set)) {
            kalm_context_clear_cache(have[i].ctx);
            return have[i].ctx;
        }
    if (i == 192) abort();
    have[i].bits = state_bits;
    have[i].model = model % FUZZ_MODELS;
    have[i].set = set;
    return have[i].ctx = fuzz_context(fuzz_get_engine(model), set, cache, state_bits);
}

/* Another set, which must say the same to the bit; NULL: the weights are floats, whose sums each set rounds in its own way. */
FUZZ_FN const char *fuzz_other_set(const fuzz_engine *e, const char *set) { return !e->quantised ? NULL : strcmp(set, "scalar") ? "scalar" : kalm_kernels(0); }

/* ---- stored documents ----------------------------------------------------------------------------------------------- */

FUZZ_FN void fuzz_mend_document(uint8_t *p, size_t size, uint64_t fingerprint, uint64_t transform)
{
    if (size < KALM__DOC_HEADER) return;
    kalm__put_u64(p + 8, fingerprint);
    if (kalm__u32(p + 4) == 2) kalm__put_u64(p + 56, transform);
    kalm__put_u64(p + 40, kalm__doc_checksum(p, size));
}

/* A field of the header, with the others made to fit it now and then; or the rows. */
FUZZ_FN size_t fuzz_change_document(uint8_t *p, size_t size, size_t room, uint32_t width, uint64_t *random)
{
    uint32_t field = 16 + 4 * (uint32_t)fuzz_below(random, 6), rows, row, ratio;
    if (size < KALM__DOC_HEADER || fuzz_below(random, 8) == 0) return fuzz_change_bytes(p, size, room, NULL, random);
    switch (fuzz_below(random, 4)) {
    case 0: kalm__put_u32(p + field, (uint32_t)fuzz_edge(random)); return size;
    case 1:                            /* rows */
        if (size >= KALM__DOC_HEADER + 4) kalm__put_u32(p + KALM__DOC_HEADER + fuzz_below(random, (size - KALM__DOC_HEADER) / 4) * 4, fuzz_edge_float(random));
        return size;
    default: {                         /* other sizes, all consistent */
        uint32_t bits = fuzz_below(random, 2) ? 8u << fuzz_below(random, 3) : 2 + (uint32_t)fuzz_below(random, 3), used = 1 + (uint32_t)fuzz_below(random, 40);
        size_t want;
        ratio = fuzz_below(random, 8) ? 1 + (uint32_t)fuzz_below(random, 8) : (uint32_t)fuzz_edge(random);
        if (fuzz_below(random, 16) == 0) used = (uint32_t)fuzz_edge(random);
        if (!ratio) ratio = 1;
        if (!used) used = 1;
        rows = (used - 1) / ratio + 1;
        row = (uint32_t)kalm__doc_row_bytes(width, bits);
        kalm__put_u32(p + 16, fuzz_below(random, 4) ? used : (uint32_t)fuzz_edge(random) | used);
        kalm__put_u32(p + 20, used);
        kalm__put_u32(p + 24, ratio);
        kalm__put_u32(p + 28, rows);
        kalm__put_u32(p + 32, width);
        kalm__put_u32(p + 36, bits);
        kalm__put_u32(p + 4, bits < 8 ? 2 : 1);
        kalm__put_u64(p + 56, 0);          /* mended where the version is 2 */
        want = KALM__DOC_HEADER + (size_t)rows * row;
        if (want > room) return size;
        for (; size < want; size++) p[size] = (uint8_t)(fuzz_random(random) % 60);
        return want;
    }
    }
}

/* Byte 0: the model. */
static void fuzz_document_mend(uint8_t *p, size_t size)
{
    if (size) fuzz_mend_document(p + 1, size - 1, fuzz_get_engine(p[0])->fingerprint, fuzz_get_engine(p[0])->model->file.rows.fingerprint);
}
static size_t fuzz_document_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (!size) return size;
    if (fuzz_below(random, 16) == 0) p[0] = (uint8_t)fuzz_random(random);
    return 1 + fuzz_change_document(p + 1, size - 1, room - 1, fuzz_get_engine(p[0])->model->file.shape.hidden_size, random);
}

static void fuzz_document_one(const uint8_t *data, size_t size)
{
    fuzz_engine *e;
    kalm_context *ctx;
    kalm_doc *doc = NULL, *borrowed = NULL;
    kalm_error err;
    kalm_score first[2], again[2];
    kalm_result r;
    const kalm_doc *both[2];
    const char *set, *other;
    uint8_t *exact;
    size_t n, cut;
    if (!size) return;
    e = fuzz_get_engine(data[0]);
    cut = fuzz_sum(data, size) % size;
    exact = fuzz_exact(data + 1, size - 1);
    r = kalm_doc_open(e->model, exact, size - 1, 0, &doc, &err);
    FUZZ_CHECK(!r == !!doc, "%s", "a document beside an error");
    if (r) {
        fuzz_check_error(r, &err);
        free(exact);
        return;
    }
    FUZZ_CHECK(!kalm_doc_open(e->model, exact, size - 1, KALM_BORROW, &borrowed, &err), "borrowed: %s", err.text);
    FUZZ_CHECK(kalm_doc_bytes(doc, &n) && n == size - 1 && !memcmp(kalm_doc_bytes(doc, NULL), exact, n), "%s", "other bytes came back");
    set = fuzz_set(kalm_kernels, data, size);
    other = fuzz_other_set(e, set);
    ctx = fuzz_shared_context(data[0], set, 1 << 18, 0);
    both[0] = doc;
    both[1] = e->doc[0];
    r = kalm_rerank(ctx, kalm__text(fuzz_text_a), both, 2, NULL, first, &err);
    if (r) fuzz_check_error(r, &err);
    if (other) {
        kalm_result s = kalm_rerank(fuzz_shared_context(data[0], other, 1 << 18, 0), kalm__text(fuzz_text_a), both, 2, NULL, again, &err);
        FUZZ_CHECK(r == s && (r || !memcmp(first, again, sizeof first)), "%d from %s, %d from %s, or another score", (int)r, set, (int)s, other);
    }
    if (!r) {
        fuzz_check_score(&first[0]);
        both[0] = borrowed;
        r = kalm_rerank(ctx, kalm__text(fuzz_text_a), both, 2, NULL, again, &err);
        FUZZ_CHECK(!r && !memcmp(first, again, sizeof first), "%s", "other scores the second time");
        both[0] = e->doc[0];           /* its neighbour's score does not depend on it */
        r = kalm_rerank(ctx, kalm__text(fuzz_text_a), both, 1, NULL, again, &err);
        FUZZ_CHECK(!r && !memcmp(&first[1].margin, &again[0].margin, sizeof(float)), "%s", "its neighbour's score depends on it");
    }
    kalm_doc_free(doc);
    kalm_doc_free(borrowed);
    FUZZ_CHECK(kalm_doc_open(e->model, exact, cut < size - 1 ? cut : size - 2, 0, &doc, &err) && !doc, "%s", "a cut document opened");
    free(exact);
}

static void fuzz_document_seeds(fuzz_taker *take)
{
    unsigned i;
    for (i = 0; i < 2 * FUZZ_MODELS; i++) {
        size_t size;
        const void *bytes = kalm_doc_bytes(fuzz_get_engine(i / 2)->doc[i % 2], &size);
        uint8_t *p = (uint8_t *)malloc(size + 1);
        char name[16];
        if (!p) abort();
        p[0] = (uint8_t)(i / 2);
        memcpy(p + 1, bytes, size);
        sprintf(name, "doc-%u", i);
        take(name, p, size + 1);
        free(p);
    }
}

static const fuzz_target fuzz_document_target = {
    "document", 1 << 13, 600, fuzz_document_one, fuzz_document_change, fuzz_document_mend, fuzz_document_seeds, NULL
};

/* ---- repool: byte 0 the model, then ratio (4 bytes), bits (4 bytes), a stored document ---------------------------------- */

static void fuzz_repool_mend(uint8_t *p, size_t size)
{
    if (size > 9) fuzz_mend_document(p + 9, size - 9, fuzz_get_engine(p[0])->fingerprint, fuzz_get_engine(p[0])->model->file.rows.fingerprint);
}
static size_t fuzz_repool_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < 9) return size;
    switch (fuzz_below(random, 6)) {
    case 0: kalm__put_u32(p + 1, fuzz_below(random, 2) ? 1 + (uint32_t)fuzz_below(random, 64) : (uint32_t)fuzz_edge(random)); return size;
    case 1: kalm__put_u32(p + 5, fuzz_below(random, 8) ? 8u << fuzz_below(random, 4) & 56u : (uint32_t)fuzz_edge(random)); return size;
    case 2:                            /* a multiple of the document's */
        if (size >= 9 + KALM__DOC_HEADER) kalm__put_u32(p + 1, kalm__u32(p + 9 + 24) * (uint32_t)(1 + fuzz_below(random, 5)));
        return size;
    default: return 9 + fuzz_change_document(p + 9, size - 9, room - 9, fuzz_get_engine(p[0])->model->file.shape.hidden_size, random);
    }
}

static void fuzz_repool_one(const uint8_t *data, size_t size)
{
    fuzz_engine *e;
    kalm_doc *doc = NULL, *coarser = NULL, *again = NULL;
    kalm_error err;
    kalm_result r;
    uint8_t *exact;
    size_t n;
    if (size < 9) return;
    e = fuzz_get_engine(data[0]);
    exact = fuzz_exact(data + 9, size - 9);
    if (!kalm_doc_open(e->model, exact, size - 9, 0, &doc, &err)) {
        r = kalm_doc_repool(e->model, doc, kalm__u32(data + 1), kalm__u32(data + 5), &coarser, &err);
        FUZZ_CHECK(!r == !!coarser, "%s", "a document beside an error");
        if (r) fuzz_check_error(r, &err);
        else {
            const kalm_doc *one = coarser;
            kalm_score score;
            const void *bytes = kalm_doc_bytes(coarser, &n);
            kalm_doc_info info;
            kalm_doc_get_info(coarser, &info);
            FUZZ_CHECK(info.rows == (info.tokens_used - 1) / info.ratio + 1, "%u rows", (unsigned)info.rows);
            r = kalm_doc_open(e->model, bytes, n, 0, &again, &err);
            FUZZ_CHECK(!r, "its bytes are refused: %s", err.text);
            kalm_doc_free(again);
            r = kalm_rerank(fuzz_shared_context(data[0], fuzz_set(kalm_kernels, data, size), 1 << 18, 0), kalm__text(fuzz_text_b), &one, 1, NULL, &score, &err);
            if (!r) fuzz_check_score(&score);
            kalm_doc_free(coarser);
        }
        kalm_doc_free(doc);
    }
    free(exact);
}

static void fuzz_repool_seeds(fuzz_taker *take)
{
    unsigned i;
    for (i = 0; i < 2 * FUZZ_MODELS; i++) {
        size_t size;
        const void *bytes = kalm_doc_bytes(fuzz_get_engine(i / 2)->doc[i % 2], &size);
        uint8_t *p = (uint8_t *)malloc(size + 9);
        char name[16];
        if (!p) abort();
        p[0] = (uint8_t)(i / 2);
        kalm__put_u32(p + 1, 4 + 2 * i);
        kalm__put_u32(p + 5, 8u << i % 3);
        memcpy(p + 9, bytes, size);
        sprintf(name, "repool-%u", i);
        take(name, p, size + 9);
        free(p);
    }
}

static const fuzz_target fuzz_repool_target = {
    "repool", 1 << 13, 600, fuzz_repool_one, fuzz_repool_change, fuzz_repool_mend, fuzz_repool_seeds, NULL
};

/* ---- stored states: byte 0 the model, byte 1 the document ---------------------------------------------------------------- */

static void fuzz_state_mend(uint8_t *p, size_t size)
{
    if (size < 2 + KALM__STATE_HEADER) return;
    kalm__put_u64(p + 2 + 48, kalm__state_checksum(p + 2, p + 2 + KALM__STATE_HEADER, size - 2 - KALM__STATE_HEADER));
}
static size_t fuzz_state_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    size_t at;
    if (size < 6 + KALM__STATE_HEADER) return size;
    switch (fuzz_below(random, 6)) {
    case 0: p[fuzz_below(random, 2)] = (uint8_t)fuzz_below(random, 4); return size;
    case 1: kalm__put_u32(p + 2 + 4 * fuzz_below(random, KALM__STATE_HEADER / 4), (uint32_t)fuzz_edge(random)); return size;
    case 2: return fuzz_change_bytes(p, size, room, NULL, random);
    default:
        at = 2 + KALM__STATE_HEADER + fuzz_below(random, (size - 2 - KALM__STATE_HEADER) / 4) * 4;
        kalm__put_u32(p + at, fuzz_edge_float(random));
        return size;
    }
}

/* Both contexts make one state, to the byte; `state`, which was loaded with result r, is in the first one's cache again afterwards. */
FUZZ_FN void fuzz_compare_states(kalm_context *ctx, kalm_context *with, const kalm_doc *doc, const uint8_t *state, size_t size, kalm_result r)
{
    uint8_t *one, *two;
    size_t n = 0;
    kalm_error err;
    kalm_context_clear_cache(ctx);
    kalm_context_clear_cache(with);
    if (kalm_state_save(ctx, doc, NULL, NULL, 0, &n, &err)) fuzz_broken(__FILE__, __LINE__, "a state", "%s", err.text);
    one = (uint8_t *)malloc(n);
    two = (uint8_t *)malloc(n);
    FUZZ_CHECK(one && two && !kalm_state_save(ctx, doc, NULL, one, n, &n, &err) && !kalm_state_save(with, doc, NULL, two, n, &n, &err), "%s", err.text);
    FUZZ_CHECK(!memcmp(one, two, n), "%s", "another state from another set");
    free(one);
    free(two);
    kalm_context_clear_cache(ctx);
    FUZZ_CHECK(kalm_state_load(ctx, doc, NULL, state, size, &err) == r, "%s", "another result the second time");
}

static void fuzz_state_one(const uint8_t *data, size_t size)
{
    fuzz_engine *e;
    kalm_context *ctx;
    const kalm_doc *doc;
    kalm_error err;
    kalm_result r;
    kalm_score first, again;
    uint8_t *exact;
    const char *set, *other;
    uint32_t bits = 0;                 /* the form that the state claims to have */
    if (size < 2) return;
    e = fuzz_get_engine(data[0]);
    doc = e->doc[data[1] % 2];
    if (size >= 2 + KALM__STATE_HEADER && kalm__u32(data + 6) == 3) bits = kalm__u32(data + 58) == 4 ? 4 : 8;
    set = fuzz_set(kalm_kernels, data, size);
    other = fuzz_other_set(e, set);
    ctx = fuzz_shared_context(data[0], set, 1 << 18, bits);
    exact = fuzz_exact(data + 2, size - 2);
    r = kalm_state_load(ctx, doc, NULL, exact, size - 2, &err);
    if (r) fuzz_check_error(r, &err);
    if (other) {
        /* A state is of use, or not, for all sets, and all make the same one. A forged one may give other scores from another set: some need
           the sums of keys that it brings along, and whole groups of places behind the last key. */
        kalm_context *with = fuzz_shared_context(data[0], other, 1 << 18, bits);
        kalm_result s = kalm_state_load(with, doc, NULL, exact, size - 2, &err);
        FUZZ_CHECK(r == s, "%d from %s, %d from %s", (int)r, set, (int)s, other);
        if (fuzz_sum(data, size) % 8 == 0) fuzz_compare_states(ctx, with, doc, exact, size - 2, r);
    }
    if (!r) {
        size_t n = 0;
        uint8_t *back = fuzz_exact(data + 2, size - 2);
        r = kalm_rerank(ctx, kalm__text(fuzz_text_a), &doc, 1, NULL, &first, &err);
        if (r) fuzz_check_error(r, &err);
        else {
            fuzz_check_score(&first);
            r = kalm_rerank(ctx, kalm__text(fuzz_text_a), &doc, 1, NULL, &again, &err);
            FUZZ_CHECK(!r && !memcmp(&first, &again, sizeof first), "%s", "other scores the second time");
        }
        r = kalm_state_save(ctx, doc, NULL, back, size - 2, &n, &err);
        if (size >= 2 + KALM__STATE_HEADER) memcpy(back + 48, exact + 48, 16);     /* checksum, and what is not read */
        FUZZ_CHECK(!r && n == size - 2 && !memcmp(back, exact, n), "saved otherwise than it was loaded: %s", r ? err.text : "other bytes");
        free(back);
        kalm_context_clear_cache(ctx);
        FUZZ_CHECK(kalm_state_load(ctx, doc, NULL, exact, fuzz_sum(data, size) % (size - 2), &err), "%s", "a cut state was loaded");
    }
    free(exact);
}

static void fuzz_state_seeds(fuzz_taker *take)
{
    unsigned i;
    for (i = 0; i < 6 * FUZZ_MODELS; i++) {
        kalm_context *ctx = fuzz_shared_context(i / 6, "scalar", 1 << 18, i % 3 * 4);
        const kalm_doc *doc = fuzz_get_engine(i / 6)->doc[i % 2];
        kalm_error err;
        size_t size, n;
        uint8_t *p;
        char name[16];
        if (kalm_state_save(ctx, doc, NULL, NULL, 0, &size, &err) || !(p = (uint8_t *)malloc(size + 2)) ||
            kalm_state_save(ctx, doc, NULL, p + 2, size, &n, &err)) fuzz_broken(__FILE__, __LINE__, "a state", "%s", err.text);
        p[0] = (uint8_t)(i / 6);
        p[1] = (uint8_t)(i % 2);
        sprintf(name, "state-%u", i);
        take(name, p, size + 2);
        free(p);
    }
}

static const fuzz_target fuzz_state_target = {
    "state", 1 << 16, 400, fuzz_state_one, fuzz_state_change, fuzz_state_mend, fuzz_state_seeds, NULL
};

/* ---- calls -------------------------------------------------------------------------------------------------------------- */

/* kalm__hash backwards. x ^ x >> 29 undone: three steps restore 64 bits. */
FUZZ_FN uint64_t fuzz_unshift(uint64_t y, unsigned by)
{
    uint64_t x = y;
    unsigned done;
    for (done = by; done < 64; done += by) x = y ^ x >> by;
    return x;
}
FUZZ_FN uint64_t fuzz_inverse(uint64_t odd)
{
    uint64_t x = odd;
    int i;
    for (i = 0; i < 6; i++) x *= 2 - odd * x;
    return x;
}

/* Change eight bytes of a document's last whole block so that its checksum is `sum`. Returns 0 when it has no such block. */
FUZZ_FN int fuzz_forge_checksum(uint8_t *doc, size_t size, uint64_t sum)
{
    uint64_t lane[8], chain, want, a = fuzz_inverse(KALM__HASH_A), b = fuzz_inverse(KALM__HASH_B);
    unsigned char head[KALM__DOC_HEADER], last[64];
    size_t whole = size / 64 * 64, at;
    int i;
    if (whole < 128) return 0;
    memcpy(head, doc, sizeof head);
    memset(head + 40, 0, 8);
    for (i = 0; i < 8; i++) lane[i] = (uint64_t)(i + 1) * KALM__HASH_A;
    for (at = 0; at < whole - 64; at += 64)
        for (i = 0; i < 8; i++) lane[i] = kalm__hash_mix(lane[i], kalm__u64((at ? doc + at : head) + 8 * i));
    /* what lane 7 must be in the end */
    memset(last, 0, sizeof last);
    memcpy(last, doc + whole, size - whole);
    chain = (uint64_t)size * KALM__HASH_B;
    for (i = 0; i < 7; i++) {
        uint64_t l = kalm__hash_mix(lane[i], kalm__u64(doc + whole - 64 + 8 * i));
        if (size > whole) l = kalm__hash_mix(l, kalm__u64(last + 8 * i));
        chain = kalm__hash_mix(chain, l) * (uint64_t)KALM__HASH_B;
    }
    want = fuzz_unshift(sum, 32) * b;                                  /* = mix(chain, lane 7) */
    want = (fuzz_unshift(want, 29) * a) ^ chain;                       /* = lane 7 at the end */
    if (size > whole) want = (fuzz_unshift(want, 29) * a) ^ kalm__u64(last + 56);
    kalm__put_u64(doc + whole - 8, (fuzz_unshift(want, 29) * a) ^ lane[7]);
    kalm__put_u64(doc + 40, sum);
    return kalm__doc_checksum(doc, size) == sum;
}

enum { FUZZ_SLOTS = 6 };

typedef struct fuzz_play {
    fuzz_engine  *engine;
    kalm_context *cached, *plain;
    kalm_doc     *slot[FUZZ_SLOTS];
} fuzz_play;

FUZZ_FN void fuzz_play_put(fuzz_play *play, unsigned at, kalm_doc *doc)
{
    kalm_doc_free(play->slot[at % FUZZ_SLOTS]);
    play->slot[at % FUZZ_SLOTS] = doc;
}

/* A document like one there is, with another header or other rows, and the same checksum as a third one. */
FUZZ_FN void fuzz_play_forge(fuzz_play *play, fuzz_input *in)
{
    const kalm_doc *like = play->slot[fuzz_byte(in) % FUZZ_SLOTS], *sum = play->slot[fuzz_byte(in) % FUZZ_SLOTS];
    uint64_t random = fuzz_word(in);
    size_t size, room = 4096, changes = fuzz_byte(in) % 3;
    kalm_doc *doc = NULL;
    kalm_error err;
    uint8_t *p;
    if (!like || !sum || (size = like->size) > room || !(p = (uint8_t *)malloc(room))) return;
    memcpy(p, like->bytes, size);
    while (changes--) size = fuzz_change_document(p, size, room, like->info.width, &random);
    fuzz_mend_document(p, size, play->engine->fingerprint, play->engine->model->file.rows.fingerprint);
    if (size >= KALM__DOC_HEADER) fuzz_forge_checksum(p, size, kalm__u64(sum->bytes + 40));
    if (!kalm_doc_open(play->engine->model, p, size, 0, &doc, &err)) fuzz_play_put(play, fuzz_byte(in), doc);
    free(p);
}

/* The same question to both contexts. */
FUZZ_FN void fuzz_play_rank(fuzz_play *play, fuzz_input *in)
{
    static const char *const queries[4] = { "ab", "aba b <eot>", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab b" };
    const kalm_doc *docs[FUZZ_SLOTS];
    kalm_score with[FUZZ_SLOTS], without[FUZZ_SLOTS];
    kalm_params p;
    kalm_error err;
    kalm_result r, s;
    unsigned which = fuzz_byte(in), how = fuzz_byte(in);
    size_t n = 0, i, found[2];
    kalm_text query = kalm__text(queries[how % 4]);
    for (i = 0; i < FUZZ_SLOTS; i++)
        if (play->slot[i] && which >> i & 1) docs[n++] = play->slot[i];
    memset(&p, 0, sizeof p);
    if (how & 16) p.instruction = kalm__text("bab");
    if (how & 64) p.flags = KALM_PARSE_CONTROL;
    if (how & 32) {
        p.coarse_ratio = how & 128 ? 8 : 4;
        p.coarse_keep = 3;
        r = kalm_rerank_top(play->cached, query, docs, n, 2, &p, with, &found[0], &err);
        s = kalm_rerank_top(play->plain, query, docs, n, 2, &p, without, &found[1], &err);
        FUZZ_CHECK(r == s && found[0] == found[1], "%d and %d", (int)r, (int)s);
        n = found[0];
    } else {
        r = kalm_rerank(play->cached, query, docs, n, &p, with, &err);
        s = kalm_rerank(play->plain, query, docs, n, &p, without, &err);
        FUZZ_CHECK(r == s, "%d and %d", (int)r, (int)s);
    }
    if (r) return;
    for (i = 0; i < n; i++) fuzz_check_score(&with[i]);
    for (i = 0; i < n; i++)
        FUZZ_CHECK(!memcmp(&with[i], &without[i], sizeof *with), "document %lu has margin %.9g with a cache, %.9g without",
                   (unsigned long)i, (double)with[i].margin, (double)without[i].margin);
}

FUZZ_FN void fuzz_play_state(fuzz_play *play, fuzz_input *in)
{
    const kalm_doc *doc = play->slot[fuzz_byte(in) % FUZZ_SLOTS], *to = play->slot[fuzz_byte(in) % FUZZ_SLOTS];
    size_t size, n;
    kalm_error err;
    uint8_t *p;
    if (!doc || !to || kalm_state_save(play->cached, doc, NULL, NULL, 0, &size, &err)) return;
    p = (uint8_t *)malloc(size);
    if (p && !kalm_state_save(play->cached, doc, NULL, p, size, &n, &err)) {
        kalm_result r;
        kalm_context_clear_cache(play->cached);
        r = kalm_state_load(play->cached, to, NULL, p, size, &err);
        FUZZ_CHECK(to != doc || !r, "its own state is refused: %s", err.text);
    }
    free(p);
}

static void fuzz_calls_one(const uint8_t *data, size_t size)
{
    fuzz_input in;
    fuzz_play play;
    unsigned first, i, steps = 0;
    const char *set = fuzz_set(kalm_kernels, data, size);
    in.at = data;
    in.end = data + size;
    first = fuzz_byte(&in);
    memset(&play, 0, sizeof play);
    play.engine = fuzz_get_engine(first);
    play.cached = fuzz_context(play.engine, set, first & 4 ? 1 << 20 : first & 8 ? 24000 : 6000, first / 16 % 3 * 4);
    /* quantised weights give the same bits on every set */
    play.plain = fuzz_context(play.engine, play.engine->quantised ? "scalar" : set, 0, first / 16 % 3 * 4);
    while (in.at < in.end && steps++ < 24) {
        unsigned what = fuzz_byte(&in), a = fuzz_byte(&in);
        kalm_doc *doc = NULL;
        kalm_error err;
        switch (what % 8) {
        case 0: case 1: {              /* a new document from the input's own bytes */
            kalm_text t;
            kalm_params p;
            memset(&p, 0, sizeof p);
            p.ratio = 1 + a % 7;
            p.bits = a / 7 % 6 < 3 ? 8u << a / 7 % 3 : 2 + a / 7 % 3;
            t.data = (const char *)in.at;
            t.size = kalm__min(a % 40, (size_t)(in.end - in.at));
            in.at += t.size;
            if (!kalm_encode(play.cached, &t, 1, &p, &doc, &err)) fuzz_play_put(&play, what / 8, doc);
            break;
        }
        case 2: if (play.slot[a % FUZZ_SLOTS] && !kalm_doc_repool(play.engine->model, play.slot[a % FUZZ_SLOTS], a, 0, &doc, &err)) fuzz_play_put(&play, what / 8, doc); break;
        case 3: fuzz_play_forge(&play, &in); break;
        case 4: fuzz_play_state(&play, &in); break;
        case 5: if (a % 4 == 0) kalm_context_clear_cache(play.cached); else fuzz_play_put(&play, a, NULL); break;
        default: fuzz_play_rank(&play, &in); break;
        }
    }
    for (i = 0; i < FUZZ_SLOTS; i++) kalm_doc_free(play.slot[i]);
    kalm_context_free(play.cached);
    kalm_context_free(play.plain);
}

static void fuzz_calls_seeds(fuzz_taker *take)
{
    /* two documents, ranked, forged upon each other, ranked again */
    static const uint8_t steps[] = {
        0, 10, 'a', 'b', ' ', 'a', 'b', 'a', 'b', 'b', 'b', 'a',  8, 20, 'b', 'b', 'a', 'b', 'a', 'b', 'a', ' ', 'a', 'a', 'a', 'a', 'b', 'a', 'b', 'a', 'b', 'a',
        6, 0, 255, 4,  3, 0, 0, 1, 1, 2, 3, 4, 2, 2,  6, 0, 255, 4,  4, 0, 0, 1,  6, 0, 255, 20,  2, 6,  6, 0, 255, 36
    };
    uint8_t p[sizeof steps + 1];
    unsigned i;
    memcpy(p + 1, steps, sizeof steps);
    for (i = 0; i < 2 * FUZZ_MODELS; i++) {
        char name[16];
        p[0] = (uint8_t)(i % 4 | (i & 4) | (i & 1) << 3);
        sprintf(name, "calls-%u", i);
        take(name, p, sizeof p);
    }
}

static const fuzz_target fuzz_calls_target = { "calls", 512, 150, fuzz_calls_one, NULL, NULL, fuzz_calls_seeds, NULL };

#endif
