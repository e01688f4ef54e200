/* test_api.c - the promises of the public header, each tried on the bundled tiny model: refusals with a sentence, memory
   that runs out anywhere, a stop at any callback, equal results whatever the batch and the threads, stored documents,
   damaged files. Numbers against the reference are golden.c's business. */
#define KALM__EVEX_VNNI                /* see config.h */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"
#include <fenv.h>
#if defined(__SSE2__)
#  include <xmmintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#  include <pthread.h>
#  define HAVE_PTHREAD 1
#endif

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif
static const char *const model_path = TEST_BUILD "/tiny.kalm";

static kalm_model *model;

enum { DOCS = 12 };
static const char *const documents[DOCS] = {
    "The GIMP is a picture editor for retouching photographs, drawing and converting images.",
    "Vim is an improved version of the classic text editor vi.",
    "A library to read and write PNG files.",
    "",
    "x",
    "This package contains the development files: headers, static library and documentation in HTML, for programs that "
    "talk to a database server over the network, with and without encryption, and want to know when the answer comes.",
    "Mail reader for the terminal with threads, tags and encryption.",
    "Gr\xc3\xbc\xc3\x9f" "e aus Z\xc3\xbcrich \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x98\x80",
    "ill-formed \xff\xc3( bytes \xe2\x82 end",
    "Marks such as <end_of_turn> and <bos> are text here.",
    "Web server that is small and fast.",
    "Tool that compresses files with the algorithm of Burrows and Wheeler."
};
static const char query_text[] = "program to retouch photos";

static kalm_text text_of(const char *s)
{
    kalm_text t;
    t.data = s;
    t.size = KALM_NUL;
    return t;
}

static void all_texts(kalm_text *t)
{
    int i;
    for (i = 0; i < DOCS; i++) t[i] = text_of(documents[i]);
}

static kalm_params zero_params(void)
{
    kalm_params p;
    memset(&p, 0, sizeof p);
    return p;
}

static kalm_config zero_config(void)
{
    kalm_config c;
    memset(&c, 0, sizeof c);
    return c;
}

static kalm_context *context(const kalm_config *config)
{
    kalm_context *ctx = NULL;
    kalm_error err;
    CHECKF(kalm_context_new(model, config, &ctx, &err) == KALM_OK, "%s", err.text);
    if (!ctx) exit(test_end());
    return ctx;
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

/* The call was refused with this code and a sentence that has the word. */
static void refused(int line, kalm_result got, const kalm_error *err, kalm_result want, const char *word)
{
    size_t n = strlen(err->text);
    CHECKF(got == want && err->code == want, "line %d: result %d, code %d, expected %d: %s", line, (int)got, (int)err->code,
           (int)want, err->text);
    CHECKF(n > 8 && n < sizeof err->text && err->text[n - 1] != '.' && err->text[n - 1] != '\n' && !strchr(err->text, '%'),
           "line %d: this is no sentence: '%s'", line, err->text);
    CHECKF(!word || strstr(err->text, word), "line %d: '%s' does not speak of '%s'", line, err->text, word ? word : "");
}
#define REFUSED(call, want, word)                                                                                \
    do {                                                                                                          \
        kalm_result r_;                                                                                           \
        memset(&err, 0x5a, sizeof err);                                                                           \
        r_ = (call);                                                                                              \
        refused(__LINE__, r_, &err, want, word);                                                                  \
    } while (0)

static int always_stop(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return 1;
}

static void *no_alloc(void *user, size_t size)
{
    (void)user, (void)size;
    return NULL;
}

/* Long: a list of calls that must be refused, one or two lines each. */
static void test_refusals(void)
{
    kalm_context *ctx = context(NULL), *none = (kalm_context *)&none;
    kalm_model *nothing = (kalm_model *)&nothing;
    kalm_doc *doc = NULL, *other = (kalm_doc *)&other, *docs[2];
    kalm_config c;
    kalm_params p;
    kalm_error err;
    kalm_score score;
    kalm_text text = text_of("some text");
    int32_t id[3];
    kalm_ids ids;
    size_t n;
    char folder[] = "tests";

    REFUSED(kalm_model_open("no/such/file.kalm", NULL, &nothing, &err), KALM_CANNOT_READ, "no/such/file.kalm");
    REFUSED(kalm_model_open("", NULL, &nothing, &err), KALM_CANNOT_READ, "\"\": ");
    CHECK(nothing == NULL);
    REFUSED(kalm_model_open(folder, NULL, &nothing, &err), err.code, NULL);
    CHECK(nothing == NULL && (err.code == KALM_CANNOT_READ || err.code == KALM_BAD_FILE));
    REFUSED(kalm_model_open("Makefile", NULL, &nothing, &err), KALM_BAD_FILE, NULL);
    REFUSED(kalm_model_open(NULL, NULL, &nothing, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_model_open(model_path, NULL, NULL, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_model_open_memory(NULL, 100, NULL, &nothing, &err), KALM_BAD_ARGUMENT, NULL);
    CHECK(kalm_model_open("no/such/file.kalm", NULL, &nothing, NULL) == KALM_CANNOT_READ);
    c = zero_config();
    c.allocator.alloc = no_alloc;
    REFUSED(kalm_model_open(model_path, &c, &nothing, &err), KALM_BAD_ARGUMENT, "allocator");

    REFUSED(kalm_context_new(NULL, NULL, &none, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_context_new(model, NULL, NULL, &err), KALM_BAD_ARGUMENT, NULL);
    c = zero_config();
    c.kernels = "abacus";
    REFUSED(kalm_context_new(model, &c, &none, &err), KALM_NO_KERNELS, "abacus");
    c.kernels = "";
    REFUSED(kalm_context_new(model, &c, &none, &err), KALM_NO_KERNELS, "kernel set \"\" cannot");
    CHECK(none == NULL);
    c = zero_config();
    c.max_doc_tokens = 2000000000u;
    REFUSED(kalm_context_new(model, &c, &none, &err), KALM_BAD_ARGUMENT, "max_doc_tokens");
    CHECK(none == NULL);

    docs[0] = docs[1] = (kalm_doc *)&docs;
    REFUSED(kalm_encode(NULL, &text, 1, NULL, docs, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_encode(ctx, NULL, 1, NULL, docs, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_encode(ctx, &text, 1, NULL, NULL, &err), KALM_BAD_ARGUMENT, NULL);
    p = zero_params();
    p.bits = 12;
    docs[0] = (kalm_doc *)&docs;
    REFUSED(kalm_encode(ctx, &text, 1, &p, docs, &err), KALM_BAD_ARGUMENT, "12");
    CHECK(docs[0] == NULL);
    p = zero_params();
    p.flags = 0x80;
    REFUSED(kalm_encode(ctx, &text, 1, &p, docs, &err), KALM_BAD_ARGUMENT, "flag");
    p = zero_params();
    p.progress = always_stop;
    docs[0] = (kalm_doc *)&docs;
    REFUSED(kalm_encode(ctx, &text, 1, &p, docs, &err), KALM_CANCELLED, NULL);
    CHECK(docs[0] == NULL);
    CHECK(kalm_encode(ctx, NULL, 0, NULL, NULL, &err) == KALM_OK || err.code == KALM_BAD_ARGUMENT);

    id[0] = 5, id[1] = 1 << 30, id[2] = -1;
    ids.data = id;
    ids.count = 2;
    REFUSED(kalm_encode_ids(ctx, &ids, 1, NULL, docs, &err), KALM_BAD_ARGUMENT, "1073741824");
    ids.data = id + 2;
    ids.count = 1;
    REFUSED(kalm_encode_ids(ctx, &ids, 1, NULL, docs, &err), KALM_BAD_ARGUMENT, "-1");
    ids.data = NULL;
    ids.count = 1;
    REFUSED(kalm_encode_ids(ctx, &ids, 1, NULL, docs, &err), KALM_BAD_ARGUMENT, NULL);

    CHECK(kalm_encode(ctx, &text, 1, NULL, &doc, &err) == KALM_OK && doc);
    if (doc) {
        size_t size;
        const unsigned char *bytes = (const unsigned char *)kalm_doc_bytes(doc, &size);
        unsigned char *copy = (unsigned char *)malloc(size + 64), *at;
        REFUSED(kalm_rerank(NULL, text, (const kalm_doc *const *)&doc, 1, NULL, &score, &err), KALM_BAD_ARGUMENT, NULL);
        REFUSED(kalm_rerank(ctx, text, NULL, 1, NULL, &score, &err), KALM_BAD_ARGUMENT, NULL);
        REFUSED(kalm_rerank(ctx, text, (const kalm_doc *const *)&doc, 1, NULL, NULL, &err), KALM_BAD_ARGUMENT, NULL);
        docs[0] = doc;
        docs[1] = NULL;
        {
            kalm_score two[2];
            REFUSED(kalm_rerank(ctx, text, (const kalm_doc *const *)docs, 2, NULL, two, &err), KALM_BAD_ARGUMENT, "1");
        }
        ids.data = id;
        ids.count = 2;
        REFUSED(kalm_rerank_ids(ctx, ids, (const kalm_doc *const *)&doc, 1, NULL, &score, &err), KALM_BAD_ARGUMENT, "1073741824");
        ids.count = 0;
        REFUSED(kalm_rerank_ids(ctx, ids, (const kalm_doc *const *)&doc, 1, NULL, &score, &err), KALM_BAD_ARGUMENT, NULL);
        REFUSED(kalm_doc_open(model, NULL, 100, 0, &other, &err), KALM_BAD_ARGUMENT, NULL);
        REFUSED(kalm_doc_open(model, bytes, size, 0x80, &other, &err), KALM_BAD_ARGUMENT, NULL);
        REFUSED(kalm_doc_open(NULL, bytes, size, 0, &other, &err), KALM_BAD_ARGUMENT, NULL);
        at = (unsigned char *)(((uintptr_t)copy + 3) / 4 * 4) + 2;
        memcpy(at, bytes, size);
        REFUSED(kalm_doc_open(model, at, size, KALM_BORROW, &other, &err), KALM_BAD_ARGUMENT, "align");
        CHECK(other == NULL);
        CHECK(kalm_doc_open(model, at, size, 0, &other, &err) == KALM_OK);
        kalm_doc_free(other);
        free(copy);
        REFUSED(kalm_doc_repool(model, doc, 6, 0, &other, &err), KALM_BAD_ARGUMENT, "6");
        REFUSED(kalm_doc_repool(model, doc, 0, 0, &other, &err), KALM_BAD_ARGUMENT, "ratio 0");
        CHECK(other == NULL);
        REFUSED(kalm_doc_repool(model, doc, 8, 5, &other, &err), KALM_BAD_ARGUMENT, "5");
        REFUSED(kalm_doc_repool(model, NULL, 8, 0, &other, &err), KALM_BAD_ARGUMENT, NULL);
        kalm_doc_free(doc);
    }
    REFUSED(kalm_rerank_texts(ctx, text, NULL, 2, NULL, &score, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_tokenize(NULL, text, 0, NULL, 0, &n, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_tokenize(model, text, 0, NULL, 5, &n, &err), KALM_BAD_ARGUMENT, NULL);
    REFUSED(kalm_detokenize(model, NULL, 3, NULL, 0, &n, &err), KALM_BAD_ARGUMENT, NULL);
    CHECK(kalm_detokenize(model, id, 3, NULL, 0, &n, &err) == KALM_OK);          /* ids it lacks have no text */
    CHECK(kalm_token_bytes(model, -1).data == NULL && kalm_token_bytes(model, 1 << 30).data == NULL);
    CHECK(kalm_token_bytes(model, 5).data != NULL);
    kalm_context_free(ctx);
}

/* ---- memory that runs out ---------------------------------------------------------------------------------------- */

typedef struct counting {
    size_t calls, fail_at, live, live_bytes, peak, bad;
#ifdef HAVE_PTHREAD
    pthread_t owner;
#endif
} counting;

/* The size before the block, to see that release gets it back; 64 bytes, so that alignment stays what malloc gives. */
static void *counting_alloc(void *user, size_t size)
{
    counting *c = (counting *)user;
    unsigned char *p;
#ifdef HAVE_PTHREAD
    if (!pthread_equal(c->owner, pthread_self())) c->bad++;
#endif
    if (++c->calls == c->fail_at || size == 0) {
        if (size == 0) c->bad++;
        return NULL;
    }
    p = (unsigned char *)malloc(size + 64);
    if (!p) return NULL;
    memcpy(p, &size, sizeof size);
    memset(p + 64, 0xa5, size);        /* whoever counts on zeros gets none */
    c->live++;
    c->live_bytes += size;
    if (c->live_bytes > c->peak) c->peak = c->live_bytes;
    return p + 64;
}

static void counting_release(void *user, void *ptr, size_t size)
{
    counting *c = (counting *)user;
    unsigned char *p = (unsigned char *)ptr - 64;
    size_t had;
#ifdef HAVE_PTHREAD
    if (!pthread_equal(c->owner, pthread_self())) c->bad++;
#endif
    memcpy(&had, p, sizeof had);
    if (had != size) c->bad++;
    c->live--;
    c->live_bytes -= had;
    free(p);
}

static kalm_config counting_config(counting *c)
{
    kalm_config config = zero_config();
    memset(c, 0, sizeof *c);
#ifdef HAVE_PTHREAD
    c->owner = pthread_self();
#endif
    config.allocator.alloc = counting_alloc;
    config.allocator.release = counting_release;
    config.allocator.user = c;
    config.threads = 2;
    config.max_doc_tokens = 200;
    config.max_query_tokens = 64;
    return config;
}

/* One of everything. Gives back the first failure; what was made is freed either way. */
static kalm_result everything(const kalm_config *config, float *margin, kalm_error *err)
{
    kalm_model *m = NULL;
    kalm_context *ctx = NULL;
    kalm_doc *docs[3] = { NULL, NULL, NULL }, *copy = NULL, *coarse = NULL;
    const kalm_doc *all[5];
    kalm_text texts[3];
    kalm_score scores[5];
    kalm_result r;
    size_t size, n, i;
    const void *bytes;
    char back[64];
    int32_t ids[64];
    kalm_params p = zero_params();
    p.bits = 16;                       /* kalm_rerank_texts keeps nothing, so its default rounds nothing */
    for (i = 0; i < 3; i++) texts[i] = text_of(documents[i + 6]);
    r = kalm_model_open(model_path, config, &m, err);
    if (r) CHECK(m == NULL);
    if (!r) r = kalm_tokenize(m, texts[0], 0, ids, 64, &n, err);
    if (!r) r = kalm_detokenize(m, ids, n, back, sizeof back, &size, err);
    if (!r) {
        r = kalm_context_new(m, config, &ctx, err);
        if (r) CHECK(ctx == NULL);
    }
    if (!r) {
        docs[0] = docs[1] = docs[2] = (kalm_doc *)&docs;
        r = kalm_encode(ctx, texts, 3, &p, docs, err);
        if (r) CHECK(docs[0] == NULL && docs[1] == NULL && docs[2] == NULL);
    }
    if (!r) {
        bytes = kalm_doc_bytes(docs[0], &size);
        r = kalm_doc_open(m, bytes, size, 0, &copy, err);
        if (r) CHECK(copy == NULL);
    }
    if (!r) {
        r = kalm_doc_repool(m, docs[1], 8, 8, &coarse, err);
        if (r) CHECK(coarse == NULL);
    }
    if (!r) {
        for (i = 0; i < 3; i++) all[i] = docs[i];
        all[3] = copy;
        all[4] = coarse;
        r = kalm_rerank(ctx, text_of(query_text), all, 5, NULL, scores, err);
    }
    if (!r) {
        *margin = scores[0].margin;
        CHECK(scores[3].margin == scores[0].margin);
        r = kalm_rerank_texts(ctx, text_of(query_text), texts, 3, &p, scores, err);
        if (!r) CHECKF(scores[0].margin == *margin, "%.9g, %.9g", (double)scores[0].margin, (double)*margin);
    }
    for (i = 0; i < 3; i++) kalm_doc_free(docs[i]);
    kalm_doc_free(copy);
    kalm_doc_free(coarse);
    kalm_context_free(ctx);
    kalm_model_close(m);
    return r;
}

static void test_memory(void)
{
    counting c;
    kalm_config config = counting_config(&c);
    kalm_error err;
    float margin = 0, again = 0;
    size_t total, n;
    CHECKF(everything(&config, &margin, &err) == KALM_OK, "%s", err.text);
    total = c.calls;
    CHECKF(c.live == 0 && c.bad == 0, "%lu blocks left, %lu wrong calls", (unsigned long)c.live, (unsigned long)c.bad);
    for (n = 1; n <= total; n++) {
        kalm_result r;
        config = counting_config(&c);
        c.fail_at = n;
        memset(&err, 0, sizeof err);
        r = everything(&config, &again, &err);
        /* an allocation that the library can do without (a cache) may fail unseen */
        CHECKF(r == KALM_NO_MEMORY ? err.code == KALM_NO_MEMORY && strstr(err.text, "memory") : r == KALM_OK && again == margin,
               "allocation %lu of %lu: result %d, %s", (unsigned long)n, (unsigned long)total, (int)r, err.text);
        CHECKF(c.live == 0 && c.bad == 0, "allocation %lu of %lu: %lu blocks left, %lu wrong calls", (unsigned long)n,
               (unsigned long)total, (unsigned long)c.live, (unsigned long)c.bad);
    }
    printf("memory: each of %lu allocations failed once; peak %lu bytes\n", (unsigned long)total, (unsigned long)c.peak);
}

/* kalm_rerank_texts: memory does not grow with the number of texts. */
static void test_memory_of_many(void)
{
    enum { FEW = 128, MANY = 1280 };
    static kalm_text texts[MANY];
    static kalm_score scores[MANY];
    size_t peak[2], i;
    int k;
    kalm_error err;
    for (i = 0; i < MANY; i++) texts[i] = text_of(documents[i % 3]);
    for (k = 0; k < 2; k++) {
        counting c;
        kalm_config config = counting_config(&c);
        kalm_model *m = NULL;
        kalm_context *ctx = NULL;
        CHECK(kalm_model_open(model_path, &config, &m, &err) == KALM_OK && kalm_context_new(m, &config, &ctx, &err) == KALM_OK);
        CHECKF(kalm_rerank_texts(ctx, text_of(query_text), texts, k ? MANY : FEW, NULL, scores, &err) == KALM_OK, "%s", err.text);
        peak[k] = c.peak;
        kalm_context_free(ctx);
        kalm_model_close(m);
        CHECK(c.live == 0 && c.bad == 0);
    }
    CHECKF(peak[1] <= peak[0] + 4096, "%d texts took %lu bytes, %d took %lu", (int)FEW, (unsigned long)peak[0], (int)MANY,
           (unsigned long)peak[1]);
    for (i = 0; i < MANY; i++)
        CHECK(scores[i].index == i && memcmp(&scores[i].margin, &scores[i % 3].margin, sizeof(float)) == 0);
}

/* ---- the words of errors ------------------------------------------------------------------------------------------- */

/* What stands for each letter of a pattern (base.h), about its borders. */
static void test_sentences(void)
{
    static const char sixty[] = "123456789 123456789 123456789 123456789 123456789 123456789 ";
    char sixty_one[62], all[400];
    kalm_error err;
    sprintf(sixty_one, "%sx", sixty);
#define SAYS(words, ...)                                                                                          \
    do {                                                                                                          \
        CHECK(kalm__fail(&err, KALM_BAD_FILE, __VA_ARGS__) == KALM_BAD_FILE && err.code == KALM_BAD_FILE);        \
        CHECKF(!strcmp(err.text, words), "'%s' instead of '%s'", err.text, words);                                \
    } while (0)
    SAYS("0 -1 2147483647 -2147483648", "%d %d %d %d", 0, -1, INT32_MAX, INT32_MIN);
    SAYS("0 4294967295 18446744073709551615", "%u %z %U", 0u, (size_t)UINT32_MAX, UINT64_MAX);
    SAYS("00000000000000ff fedcba9876543210", "%X %X", (uint64_t)255, (uint64_t)0xfedcba9876543210u);
    SAYS("x 100% (null)", "%c 100%% %s", 'x', (const char *)NULL);
    SAYS("a??~\xc3\xa4? |a??~??? ", "%s|%q", "a\x1f\x7f~\xc3\xa4\n ", "a\x1f\x7f~\xc3\xa4\n ", (size_t)8);
    SAYS("\"\"|ab", "%q|%q", "ab", (size_t)0, "ab", (size_t)2);
    SAYS(sixty, "%q", sixty, (size_t)60);
    sprintf(all, "%s...", sixty);
    SAYS(all, "%q", sixty_one, (size_t)61);
    memset(all, 'y', sizeof all - 1);
    all[sizeof all - 1] = 0;
    CHECK(kalm__fail(&err, KALM_BAD_FILE, "%s%u", all, 7u) && strlen(err.text) == sizeof err.text - 1 && strspn(err.text, "y") == sizeof err.text - 1);
    CHECK(kalm__fail(NULL, KALM_NO_MEMORY, "%s", all) == KALM_NO_MEMORY);
#undef SAYS
}

/* ---- progress and cancel ------------------------------------------------------------------------------------------- */

typedef struct stopper { size_t calls, stop_at, last, total; int wrong; } stopper;

static int stop_at(void *user, size_t done, size_t total)
{
    stopper *s = (stopper *)user;
    s->calls++;
    if (done < s->last || done > total || (s->total && total != s->total)) s->wrong = 1;
    s->last = done;
    s->total = total;
    return s->calls != s->stop_at ? 0 : s->calls % 2 ? -1 : 1;         /* whatever is not zero stops */
}

static void test_cancel(void)
{
    kalm_config config = zero_config();
    kalm_context *ctx;
    kalm_text texts[DOCS];
    kalm_doc *docs[DOCS];
    kalm_score want[DOCS], got[DOCS];
    kalm_params p = zero_params();
    kalm_error err;
    stopper s;
    int job, i;
    config.threads = 2;
    ctx = context(&config);
    all_texts(texts);
    p.bits = 32;
    CHECK(kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, &p, want, &err) == KALM_OK);
    p.progress = stop_at;
    p.progress_user = &s;
    for (job = 0; job < 3; job++) {
        size_t total = 0, n;
        for (n = 0; n <= total; n++) {
            kalm_result r;
            kalm_doc *stored[DOCS];
            memset(&s, 0, sizeof s);
            s.stop_at = n;
            memset(stored, 0, sizeof stored);
            if (job == 0) {
                for (i = 0; i < DOCS; i++) docs[i] = (kalm_doc *)&docs;
                r = kalm_encode(ctx, texts, DOCS, &p, docs, &err);
                for (i = 0; i < DOCS; i++) {
                    CHECK((docs[i] == NULL) == (r != KALM_OK));
                    kalm_doc_free(docs[i]);
                }
            } else if (job == 1) {
                kalm_params quiet = zero_params();
                quiet.bits = 32;
                CHECK(kalm_encode(ctx, texts, DOCS, &quiet, stored, &err) == KALM_OK);
                r = kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)stored, DOCS, &p, got, &err);
                for (i = 0; i < DOCS; i++) kalm_doc_free(stored[i]);
            } else {
                r = kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, &p, got, &err);
            }
            CHECKF(!s.wrong, "job %d: progress goes back, or beyond its total", job);
            if (n == 0) {
                total = s.calls;
                CHECKF(r == KALM_OK && total > 0 && s.last == s.total, "job %d: %d, %lu calls, %lu of %lu", job, (int)r,
                       (unsigned long)s.calls, (unsigned long)s.last, (unsigned long)s.total);
                if (job) CHECK(memcmp(got, want, sizeof got) == 0);
            } else {
                CHECKF(r == KALM_CANCELLED && err.code == KALM_CANCELLED && s.calls == n, "job %d, stopped at %lu of %lu: %d", job,
                       (unsigned long)n, (unsigned long)total, (int)r);
            }
        }
    }
    {                                  /* a job of several batches is one job to whoever watches it */
        enum { MANY = 150 };
        static kalm_text many[MANY];
        static kalm_score scores[MANY];
        kalm_doc *made[MANY];
        for (i = 0; i < MANY; i++) many[i] = texts[i % 4];
        for (job = 0; job < 2; job++) {
            memset(&s, 0, sizeof s);
            if (job) CHECK(kalm_rerank_texts(ctx, text_of(query_text), many, MANY, &p, scores, &err) == KALM_OK);
            else CHECK(kalm_encode(ctx, many, MANY, &p, made, &err) == KALM_OK);
            CHECKF(!s.wrong && s.last == s.total, "job %d of many: progress is not of the whole job", job);
        }
        for (i = 0; i < MANY; i++) kalm_doc_free(made[i]);
    }
    /* the context serves on */
    p = zero_params();
    p.bits = 32;
    CHECK(kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, &p, got, &err) == KALM_OK);
    CHECK(memcmp(got, want, sizeof got) == 0);
    kalm_context_free(ctx);
}

/* ---- the same bits, whatever the batch, the threads, the job system ------------------------------------------------- */

static void same_docs(int line, kalm_doc *const *a, kalm_doc *const *b, size_t count)
{
    size_t i, m, n;
    for (i = 0; i < count; i++) {
        const void *x = a[i] ? kalm_doc_bytes(a[i], &m) : NULL, *y = b[i] ? kalm_doc_bytes(b[i], &n) : NULL;
        CHECKF(x && y && m == n && memcmp(x, y, n) == 0, "line %d: document %lu differs", line, (unsigned long)i);
    }
}

static void free_docs(kalm_doc **docs, size_t count)
{
    while (count) kalm_doc_free(docs[--count]);
}

/* A job system that works backwards on the calling thread. */
static size_t jobs_seen, jobs_most;
static void backwards(void *user, size_t count, void (*task)(void *arg, size_t i), void *arg)
{
    (void)user;
    jobs_seen++;
    if (count > jobs_most) jobs_most = count;
    while (count) task(arg, --count);
}

/* However many threads are asked for, a context has at most 256. */
static void test_many_threads(void)
{
    kalm_config config = zero_config();
    kalm_text text = text_of(query_text);
    kalm_context *ctx;
    kalm_error err;
    kalm_doc *doc = NULL;
    size_t many = 0, most = 0;
    config.threads = 256;
    CHECK(kalm_context_bytes(model, &config, &most, &err) == KALM_OK);
    config.threads = UINT32_MAX;
    CHECK(kalm_context_bytes(model, &config, &many, &err) == KALM_OK && many == most);
    config.parallel = backwards;
    jobs_seen = jobs_most = 0;
    ctx = context(&config);
    CHECK(kalm_encode(ctx, &text, 1, NULL, &doc, &err) == KALM_OK);
    CHECKF(jobs_seen > 0 && jobs_most <= 256, "%lu tasks at a time", (unsigned long)jobs_most);
    kalm_doc_free(doc);
    kalm_context_free(ctx);
}

static void test_invariance(void)
{
    const char *set;
    kalm_doc *first_docs[DOCS];        /* of the first set: the others give the same bits */
    kalm_score first[DOCS];
    size_t k;
    for (k = 0; (set = kalm_kernels(k)) != NULL; k++) {
        kalm_config config = zero_config();
        kalm_params p = zero_params();
        kalm_context *ctx;
        kalm_text texts[DOCS];
        kalm_doc *docs[DOCS], *others[DOCS];
        kalm_score want[DOCS], got[DOCS];
        kalm_error err;
        uint32_t threads, i;
        all_texts(texts);
        p.ratio = 3;
        p.bits = 32;
        config.kernels = set;
        config.threads = 1;
        ctx = context(&config);
        CHECK(kalm_encode(ctx, texts, DOCS, &p, docs, &err) == KALM_OK);
        CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, &p, want, &err) == KALM_OK);
        for (i = 0; i < DOCS; i++) {
            float logistic = 1.0f / (1.0f + expf(-want[i].margin));
            CHECKF(want[i].index == i && want[i].score >= 0 && want[i].score <= 1 && fabsf(want[i].score - logistic) < 1e-6f,
                   "%s: document %u: margin %g, score %g", set, (unsigned)i, (double)want[i].margin, (double)want[i].score);
        }
        if (k) {
            same_docs(__LINE__, docs, first_docs, DOCS);
            CHECKF(memcmp(first, want, sizeof want) == 0, "%s: scores differ from those of %s", set, kalm_kernels(0));
        } else memcpy(first, want, sizeof want);
        for (i = 0; i < DOCS; i++) {                     /* one at a time */
            kalm_score one;
            CHECK(kalm_encode(ctx, &texts[i], 1, &p, &others[i], &err) == KALM_OK);
            CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)&docs[i], 1, &p, &one, &err) == KALM_OK);
            CHECKF(memcmp(&one.margin, &want[i].margin, sizeof(float)) == 0, "%s: document %u alone: %.9g, in a batch %.9g", set,
                   (unsigned)i, (double)one.margin, (double)want[i].margin);
        }
        same_docs(__LINE__, docs, others, DOCS);
        free_docs(others, DOCS);
        {                                                /* in another order, each twice */
            const kalm_doc *mixed[2 * DOCS];
            kalm_score scores[2 * DOCS];
            for (i = 0; i < 2 * DOCS; i++) mixed[i] = docs[(i * 7 + 3) % DOCS];
            CHECK(kalm_rerank(ctx, text_of(query_text), mixed, 2 * DOCS, &p, scores, &err) == KALM_OK);
            for (i = 0; i < 2 * DOCS; i++)
                CHECK(memcmp(&scores[i].margin, &want[(i * 7 + 3) % DOCS].margin, sizeof(float)) == 0);
        }
        CHECK(kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, &p, got, &err) == KALM_OK);
        kalm_context_free(ctx);
        for (threads = 2; threads <= 7; threads += threads == 3 ? 4 : 1) {
            config.threads = threads;
            config.parallel = NULL;
            ctx = context(&config);
            CHECK(kalm_encode(ctx, texts, DOCS, &p, others, &err) == KALM_OK);
            same_docs(__LINE__, docs, others, DOCS);
            free_docs(others, DOCS);
            CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, &p, got, &err) == KALM_OK);
            CHECKF(memcmp(got, want, sizeof got) == 0, "%s: %u threads score otherwise", set, (unsigned)threads);
            kalm_context_free(ctx);
            config.parallel = backwards;
            jobs_seen = jobs_most = 0;
            ctx = context(&config);
            CHECK(kalm_encode(ctx, texts, DOCS, &p, others, &err) == KALM_OK);
            same_docs(__LINE__, docs, others, DOCS);
            free_docs(others, DOCS);
            CHECK(kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, &p, got, &err) == KALM_OK);
            CHECKF(memcmp(got, want, sizeof got) == 0, "%s: an own job system scores otherwise", set);
            CHECKF(jobs_seen > 0 && jobs_most <= threads, "%lu jobs of at most %lu tasks", (unsigned long)jobs_seen,
                   (unsigned long)jobs_most);
            kalm_context_free(ctx);
            config.parallel = NULL;
        }
        if (k) free_docs(docs, DOCS);
        else memcpy(first_docs, docs, sizeof docs);
        printf("invariance: %s\n", set);
    }
    free_docs(first_docs, DOCS);
}

#ifdef HAVE_PTHREAD
/* What every thread of a program does with one model, and with documents that were encoded before, in a context of its own. */
typedef struct worker {
    kalm_score  scores[DOCS], stored[DOCS];
    kalm_result result;
    int         rounds;
    const char *set;
    kalm_doc   *const *docs;           /* [DOCS], shared */
} worker;

/* What needs no context: also at the same time in several threads. */
static kalm_result read_shared(const worker *w, int i)
{
    kalm_doc *copy = NULL, *coarser = NULL;
    kalm_doc_info info;
    kalm_result r;
    size_t size, n;
    const void *bytes = kalm_doc_bytes(w->docs[i], &size);
    kalm_doc_get_info(w->docs[i], &info);
    r = kalm_doc_open(model, bytes, size, 0, &copy, NULL);
    if (!r) r = kalm_doc_repool(model, w->docs[i], info.ratio * 2, 8, &coarser, NULL);
    if (!r) r = kalm_tokenize(model, text_of(documents[i]), 0, NULL, 0, &n, NULL);
    kalm_doc_free(coarser);
    kalm_doc_free(copy);
    return r;
}

static void *work(void *arg)
{
    worker *w = (worker *)arg;
    kalm_config config = zero_config();
    kalm_context *ctx = NULL;
    kalm_text texts[DOCS];
    int i;
    config.threads = 2;
    config.kernels = w->set;
    config.cache_bytes = 1 << 20;
    all_texts(texts);
    w->result = kalm_context_new(model, &config, &ctx, NULL);
    for (i = 0; i < w->rounds && !w->result; i++) {
        w->result = kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, NULL, w->scores, NULL);
        if (!w->result) w->result = kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)w->docs, DOCS, NULL, w->stored, NULL);
        if (!w->result) w->result = read_shared(w, (i * 5 + 1) % DOCS);
    }
    kalm_context_free(ctx);
    return NULL;
}

static void test_two_contexts(void)
{
    worker w[3];
    pthread_t t[3];
    kalm_score want[DOCS], stored[DOCS];
    kalm_doc *docs[DOCS];
    kalm_text texts[DOCS];
    kalm_context *ctx = context(NULL);
    int i;
    all_texts(texts);
    CHECK(kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, NULL, want, NULL) == KALM_OK);
    CHECK(kalm_encode(ctx, texts, DOCS, NULL, docs, NULL) == KALM_OK);
    CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, NULL, stored, NULL) == KALM_OK);
    kalm_context_free(ctx);
    for (i = 0; i < 3; i++) {          /* the third runs other kernels at the same time */
        memset(&w[i], 0, sizeof w[i]);
        w[i].rounds = TSAN ? 1 : 3;
        w[i].docs = docs;
        w[i].set = i < 2 ? NULL : TSAN ? kalm_kernels(1) : "scalar";
        CHECK(pthread_create(&t[i], NULL, work, &w[i]) == 0);
    }
    for (i = 0; i < 3; i++) {
        pthread_join(t[i], NULL);
        CHECK(w[i].result == KALM_OK);
        if (i < 2) CHECKF(memcmp(w[i].scores, want, sizeof want) == 0, "thread %d scores otherwise", i);
        CHECKF(memcmp(w[i].stored, stored, sizeof stored) == 0 || i == 2, "thread %d scores documents that are shared otherwise", i);
    }
    for (i = 0; i < DOCS; i++) kalm_doc_free(docs[i]);
    for (i = 0; i < DOCS; i++) CHECK(fabsf(w[2].scores[i].margin - want[i].margin) < 0.1f);
}
#endif

#include "api_documents.h"

/* ---- tokens and texts ----------------------------------------------------------------------------------------------- */

static void test_tokens(void)
{
    kalm_error err;
    int i;
    for (i = 0; i < DOCS; i++) {
        int32_t ids[512], some[4] = { -7, -7, -7, -7 };
        char back[1024];
        size_t n = 99, m = 99, size;
        kalm_text t = text_of(documents[i]);
        CHECK(kalm_tokenize(model, t, 0, NULL, 0, &n, &err) == KALM_OK && n < 512);
        CHECK(kalm_tokenize(model, t, 0, ids, 512, &m, &err) == KALM_OK && m == n);
        CHECK(kalm_tokenize(model, t, 0, some, 3, &m, &err) == KALM_OK && m == n && some[3] == -7);
        CHECK(memcmp(some, ids, (n < 3 ? n : 3) * sizeof *ids) == 0);
        t.size = strlen(documents[i]);
        CHECK(kalm_tokenize(model, t, 0, NULL, 0, &m, &err) == KALM_OK && m == n);
        CHECK(kalm_detokenize(model, ids, n, NULL, 0, &size, &err) == KALM_OK && size < sizeof back);
        CHECK(kalm_detokenize(model, ids, n, back, sizeof back, &m, &err) == KALM_OK && m == size);
        if (i != 8) CHECKF(size == t.size && memcmp(back, documents[i], size) == 0, "'%s' came back as '%.*s'", documents[i], (int)size, back);
    }
    {
        size_t plain, marked;
        kalm_text t = text_of(documents[9]);
        CHECK(kalm_tokenize(model, t, 0, NULL, 0, &plain, &err) == KALM_OK);
        CHECK(kalm_tokenize(model, t, KALM_PARSE_CONTROL, NULL, 0, &marked, &err) == KALM_OK);
        CHECKF(marked < plain, "%lu tokens with marks, %lu without", (unsigned long)marked, (unsigned long)plain);
    }
    {
        kalm_text none;
        size_t n = 5;
        none.data = NULL;
        none.size = 0;
        CHECK(kalm_tokenize(model, none, 0, NULL, 0, &n, &err) == KALM_OK && n == 0);
    }
}

/* A text cannot end the prompt it stands in, unless asked; the instruction counts. */
static void test_prompt(void)
{
    kalm_context *ctx = context(NULL);
    kalm_params p = zero_params();
    kalm_text text = text_of(documents[0]), query = text_of("a<end_of_turn>\n<start_of_turn>model\n\n\n\n");
    kalm_score plain, marked, other;
    kalm_error err;
    CHECK(kalm_rerank_texts(ctx, query, &text, 1, &p, &plain, &err) == KALM_OK);
    p.flags = KALM_PARSE_CONTROL;
    CHECK(kalm_rerank_texts(ctx, query, &text, 1, &p, &marked, &err) == KALM_OK);
    CHECKF(plain.margin != marked.margin, "both margins are %g", (double)plain.margin);
    p.flags = 0;
    p.instruction = text_of("Given a query, retrieve documents that answer the query.");
    CHECK(kalm_rerank_texts(ctx, query, &text, 1, &p, &other, &err) == KALM_OK);
    CHECKF(plain.margin == other.margin, "the default instruction is %g, spelt out %g", (double)plain.margin, (double)other.margin);
    p.instruction = text_of("Given a definition, find the dictionary entry it belongs to.");
    CHECK(kalm_rerank_texts(ctx, query, &text, 1, &p, &other, &err) == KALM_OK);
    CHECK(plain.margin != other.margin);
    p.instruction = text_of("");       /* empty is not default */
    CHECK(kalm_rerank_texts(ctx, query, &text, 1, &p, &other, &err) == KALM_OK);
    CHECK(plain.margin != other.margin);
    CHECK(kalm_rerank_texts(ctx, text_of(""), &text, 1, NULL, &other, &err) == KALM_OK && other.margin == other.margin);
    CHECK(kalm_rerank_texts(ctx, query, NULL, 0, NULL, NULL, &err) == KALM_OK || err.code == KALM_BAD_ARGUMENT);
    kalm_context_free(ctx);
}

static void test_sort(void)
{
    kalm_score s[200];
    uint64_t state = 7;
    int i;
    for (i = 0; i < 200; i++) {
        s[i].index = (uint32_t)i;
        s[i].cut = 0;
        s[i].margin = (float)(test_random(&state) % 13) - 6.0f;
        s[i].score = 1.0f / (1.0f + expf(-s[i].margin));
    }
    kalm_sort(s, 200);
    for (i = 1; i < 200; i++)
        CHECK(s[i - 1].margin > s[i].margin || (s[i - 1].margin == s[i].margin && s[i - 1].index < s[i].index));
    kalm_sort(s, 0);
    kalm_sort(s, 1);
    kalm_sort(NULL, 0);
}

/* ---- damaged files --------------------------------------------------------------------------------------------------- */

static unsigned char *aligned_copy(const unsigned char *data, size_t size, void **block)
{
    unsigned char *p;
    *block = malloc(size + 64);
    p = (unsigned char *)*block + (64 - (uintptr_t)*block % 64) % 64;
    /* against the block's end, as far as the alignment lets it: a sanitizer sees a read behind the data */
    memcpy(p, data, size);
    return p;
}

static void test_damage(void)
{
    size_t size = 0, i, n, opened = 0;
    unsigned char *file = test_read_file(model_path, &size), *p;
    void *block;
    kalm_model *m = NULL;
    kalm_error err;
    uint32_t sections;
    uint64_t state = 11;
    if (!CHECK(file != NULL)) return;
    p = aligned_copy(file, size, &block);
    CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text);
    CHECKF(kalm_model_verify(m, &err) == KALM_OK, "%s", err.text);
    kalm_model_close(m);
    for (i = 1; i < 64; i *= 2) REFUSED(kalm_model_open_memory(p + i, size - i, NULL, &m, &err), KALM_BAD_ARGUMENT, "64");
    CHECK(m == NULL);

    /* cut at every byte of header and table, at every border of a section, and one byte to either side */
    sections = (uint32_t)file[12];
    for (n = 0; n <= 64 + 32 * sections; n++) REFUSED(kalm_model_open_memory(p, n, NULL, &m, &err), KALM_BAD_FILE, NULL);
    for (i = 0; i < sections; i++) {
        size_t at = (size_t)kalm__u64(file + 64 + 32 * i + 8), end = at + (size_t)kalm__u64(file + 64 + 32 * i + 16);
        for (n = at - 1; n <= at + 1; n++) REFUSED(kalm_model_open_memory(p, n, NULL, &m, &err), KALM_BAD_FILE, NULL);
        for (n = end - 1; n <= end + 1 && n < size; n++) REFUSED(kalm_model_open_memory(p, n, NULL, &m, &err), KALM_BAD_FILE, NULL);
    }
    /* every byte of header and table changed */
    for (i = 0; i < 64 + 32 * (size_t)sections; i++) {
        p[i] ^= 0x41;
        m = (kalm_model *)&m;
        memset(&err, 0, sizeof err);
        CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) != KALM_OK && m == NULL && err.text[0], "byte %lu of the header changed",
               (unsigned long)i);
        p[i] ^= 0x41;
    }
    p[8] = 2;
    REFUSED(kalm_model_open_memory(p, size, NULL, &m, &err), KALM_BAD_VERSION, "version");
    p[8] = 1;
    /* any byte changed: opening may not see it, verifying does (unless it lies between sections) */
    for (i = 0; i < 300; i++) {
        size_t at = (size_t)test_random(&state) % size, s;
        int inside = 0;
        for (s = 0; s < sections; s++) {
            uint64_t from = kalm__u64(file + 64 + 32 * s + 8);
            inside |= at >= from && at - from < kalm__u64(file + 64 + 32 * s + 16);
        }
        p[at] ^= (unsigned char)(1u << i % 8);
        if (kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK) {
            opened++;
            if (inside) REFUSED(kalm_model_verify(m, &err), KALM_BAD_FILE, NULL);
            kalm_model_close(m);
        }
        p[at] = file[at];
    }
    CHECK(opened > 100);
    CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text);
    kalm_model_close(m);
    free(block);
    free(file);
}

/* The bundled model with something changed: the bytes, aligned and to be given back with `block`. */
static unsigned char *model_bytes(size_t *size, void **block)
{
    unsigned char *file = test_read_file(model_path, size), *p;
    if (!CHECK(file != NULL)) exit(test_end());
    p = aligned_copy(file, *size, block);
    free(file);
    return p;
}
static unsigned char *section(unsigned char *p, uint32_t type)
{
    uint32_t i;
    for (i = 0; i < kalm__u32(p + 12); i++)
        if (kalm__u32(p + 64 + 32 * i) == type) return p + kalm__u64(p + 64 + 32 * i + 8);
    return NULL;
}

/* A model file without texts around the query. An empty query then is no prompt at all, for every call alike. */
/* The first tokens of a prompt of which a state is kept, about the border of what a small context takes: a state where a prompt of
   one more token fits, as large as in any other context, and a refusal where they alone do not. The model has no text behind the query. */
static void test_prefix_border(void)
{
    size_t size = 0, words, fits = 0, too_long = 0, prefix, whole, small_size, big_size;
    void *block;
    unsigned char *p = model_bytes(&size, &block), *strings = section(p, KALM__SECTION_STRINGS);
    kalm_config config = zero_config();
    kalm_model *m = NULL;
    kalm_context *small = NULL, *big = NULL;
    kalm_doc *doc = NULL;
    kalm_text text = text_of("a text");
    kalm_params params = zero_params(), checked;
    kalm_error err;
    kalm__job job;
    char instruction[1200];
    kalm__put_u32(strings + 8 * KALM__STRING_END + 4, 0);
    CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text);
    config.threads = 1;
    config.cache_bytes = 1 << 26;
    config.max_doc_tokens = 16;
    config.max_query_tokens = 64;
    CHECK(m && kalm_context_new(m, &config, &big, &err) == KALM_OK);
    config.max_query_tokens = 4;
    CHECK(m && kalm_context_new(m, &config, &small, &err) == KALM_OK);
    if (big && small && CHECK(kalm_encode(small, &text, 1, NULL, &doc, &err) == KALM_OK))
        for (words = 455; words < 520; words++) {
            kalm_result r;
            size_t i;
            for (i = 0; i < words; i++) memcpy(instruction + 2 * i, " a", 2);
            instruction[2 * words] = 0;
            params.instruction = text_of(instruction);
            CHECK(!kalm__check_params(&params, &checked, &err));
            kalm__job_begin(&job, &checked, 0, 0);
            CHECK(!kalm__wrap_query(big, text_of("a"), &job, big->memory.prompt, big->max_prompt, &whole, &err));
            CHECK(!kalm__prefix_ids(big, &job, &prefix, &err) && prefix && prefix < whole);
            CHECK(!kalm_state_save(big, doc, &params, NULL, 0, &big_size, &err));
            r = kalm_state_save(small, doc, &params, NULL, 0, &small_size, &err);
            if (whole <= small->max_prompt)
                fits += CHECKF(!r && small_size == big_size, "prompts of %lu tokens and the query's: %s", (unsigned long)prefix, err.text) != 0;
            if (prefix > small->max_prompt)
                too_long += CHECKF(r == KALM_BAD_ARGUMENT && !small_size, "prompts of %lu tokens and the query's", (unsigned long)prefix) != 0;
        }
    CHECKF(fits > 8 && too_long > 8, "%lu fit, %lu do not", (unsigned long)fits, (unsigned long)too_long);
    kalm_doc_free(doc);
    kalm_context_free(small);
    kalm_context_free(big);
    kalm_model_close(m);
    free(block);
}

static void test_empty_prompt(void)
{
    size_t size = 0, found = 0;
    void *block;
    unsigned char *p = model_bytes(&size, &block), *strings = section(p, KALM__SECTION_STRINGS);
    kalm_config config = zero_config();
    kalm_model *m = NULL;
    kalm_context *ctx = NULL;
    kalm_doc *doc = NULL;
    kalm_text text = text_of("a text");
    kalm_ids none;
    kalm_score s;
    kalm_error err;
    int i;
    for (i = 1; i < KALM__STRINGS; i++) kalm__put_u32(strings + 8 * i + 4, 0);
    none.data = NULL;
    none.count = 0;
    CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text);
    for (i = 0; m && i < 2; i++) {
        config.cache_bytes = i ? 1 << 24 : 0;
        if (!CHECK(kalm_context_new(m, &config, &ctx, &err) == KALM_OK)) break;
        CHECKF(kalm_encode(ctx, &text, 1, NULL, &doc, &err) == KALM_OK, "%s", err.text);
        REFUSED(kalm_rerank(ctx, text_of(""), (const kalm_doc *const *)&doc, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "no tokens");
        REFUSED(kalm_rerank(ctx, text_of(NULL), (const kalm_doc *const *)&doc, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "no tokens");
        REFUSED(kalm_rerank_ids(ctx, none, (const kalm_doc *const *)&doc, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "no tokens");
        REFUSED(kalm_rerank_texts(ctx, text_of(""), &text, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "no tokens");
        REFUSED(kalm_rerank_top(ctx, text_of(""), (const kalm_doc *const *)&doc, 1, 1, NULL, &s, &found, &err), KALM_BAD_ARGUMENT,
                "no tokens");
        REFUSED(kalm_state_save(ctx, doc, NULL, NULL, 0, &found, &err), KALM_BAD_ARGUMENT, "no tokens of the prompt come before the query");
        CHECK(kalm_rerank(ctx, text_of("q"), (const kalm_doc *const *)&doc, 1, NULL, &s, &err) == KALM_OK);
        kalm_doc_free(doc);
        doc = NULL;
        text = text_of("");
        REFUSED(kalm_encode(ctx, &text, 1, NULL, &doc, &err), KALM_BAD_ARGUMENT, "no tokens");
        REFUSED(kalm_encode_ids(ctx, &none, 1, NULL, &doc, &err), KALM_BAD_ARGUMENT, "no tokens");
        text = text_of("a text");
        kalm_context_free(ctx);
    }
    kalm_model_close(m);
    free(block);
}

/* Each tensor in turn with every weight, or every scale, of the largest finite size or not finite at all: an error that names
   a document or the tensor, and no scores that look like scores. (A row of the embedding table is of ordinary size whatever
   its scale, and the vector of images is not used.) */
static void test_overflow(void)
{
    static const uint32_t huge[] = { 0x7f7fffffu, 0xff7fffffu, 0x7f800000u, 0x7fc00000u };
    size_t size = 0, at, count, k, h;
    void *block;
    unsigned char *p = model_bytes(&size, &block), *table = section(p, KALM__SECTION_TENSORS), *keep = (unsigned char *)malloc(size);
    kalm_config config = zero_config();
    kalm_text text = text_of("a text of several words"), query = text_of("words");
    kalm_error err;
    uint32_t i;
    for (i = 0, count = 0; i < kalm__u32(p + 12); i++)
        if (kalm__u32(p + 64 + 32 * i) == KALM__SECTION_TENSORS) count = (size_t)kalm__u64(p + 64 + 32 * i + 16) / KALM__TENSOR_BYTES;
    CHECK(count > 50);
    config.threads = 1;
    config.max_doc_tokens = config.max_query_tokens = 64;
    memcpy(keep, p, size);
    for (at = 0; at < count; at++) {
        kalm__tensor t;
        char name[32];
        size_t first, n;
        kalm__read_tensor(&t, table + at * KALM__TENSOR_BYTES);
        if (t.kind % 32 == KALM__T_EMBED || t.kind % 32 == KALM__T_EOI || (t.layer && t.layer + 1 < 4)) continue;
        kalm__tensor_name(name, t.kind, t.layer);
        first = (size_t)(t.scale ? t.scale : t.offset);
        n = t.scale ? t.rows : (size_t)t.rows * t.cols;
        for (h = at % 3; h < 4; h += 3) {
            kalm_model *m = NULL;
            kalm_context *ctx = NULL;
            kalm_score s;
            kalm_result r;
            for (k = 0; k < n; k++) kalm__put_u32(p + first + 4 * k, huge[h]);
            CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text);
            r = kalm_context_new(m, &config, &ctx, &err);
            if (r) CHECKF(r == KALM_BAD_FILE && strstr(err.text, name), "%s: %s", name, err.text);
            else {
                kalm_doc *doc = NULL;
                if (t.kind / 32 == KALM__ENCODER) {          /* no document is made of what has overflowed */
                    r = kalm_encode(ctx, &text, 1, NULL, &doc, &err);
                    CHECKF(r == KALM_OVERFLOW && !doc, "%s, weights of bits %08lx: encoded with result %d", name, (unsigned long)huge[h], (int)r);
                    kalm_doc_free(doc);
                }
                r = kalm_rerank_texts(ctx, query, &text, 1, NULL, &s, &err);
                CHECKF(r == KALM_OVERFLOW && strstr(err.text, "document 0"), "%s, weights of bits %08lx: result %d, margin %g", name,
                       (unsigned long)huge[h], (int)r, (double)s.margin);
                CHECK(s.score <= 0.0f && s.margin <= 0.0f && s.margin >= 0.0f);
            }
            kalm_context_free(ctx);
            kalm_model_close(m);
            memcpy(p + first, keep + first, 4 * n);
        }
    }
    free(keep);
    free(block);
}

/* One of the two logits alone overflows, and the model caps logits, which would make a fine number of it: refused all the same. */
static void test_overflow_of_a_logit(void)
{
    size_t size = 0, at, i, k;
    void *block;
    unsigned char *p = model_bytes(&size, &block), *table = section(p, KALM__SECTION_TENSORS), *head = NULL;
    kalm_text text = text_of("a text of several words");
    kalm_error err;
    kalm__tensor t;
    memset(&t, 0, sizeof t);
    for (at = 0; !head; at++) {
        kalm__read_tensor(&t, table + at * KALM__TENSOR_BYTES);
        if (t.kind == KALM__KIND(KALM__DECODER, KALM__T_HEAD)) head = p + t.offset;
    }
    for (k = 0; k < 2; k++) {
        unsigned char *row = head + k * t.cols * 4, *keep = (unsigned char *)malloc((size_t)t.cols * 4);
        kalm_model *m = NULL;
        kalm_context *ctx = NULL;
        kalm_score s;
        memcpy(keep, row, (size_t)t.cols * 4);
        for (i = 0; i < t.cols; i++) kalm__put_u32(row + 4 * i, 0x7f7fffffu | (kalm__u32(keep + 4 * i) & 0x80000000u));
        if (CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text)) {
            m->file.shape.softcap = 30.0f;
            CHECK(kalm_context_new(m, NULL, &ctx, &err) == KALM_OK);
            REFUSED(kalm_rerank_texts(ctx, text_of("words"), &text, 1, NULL, &s, &err), KALM_OVERFLOW, "document 0: its margin is not finite");
        }
        kalm_context_free(ctx);
        kalm_model_close(m);
        memcpy(row, keep, (size_t)t.cols * 4);
        free(keep);
    }
    free(block);
}

/* The model, of whose token 500 the row in the embedding table of `side` is no number: the scale of its first 32 is infinite. `block`
   is to be freed behind the model; NULL where a check has failed. */
static kalm_model *spoiled_model(int side, void **block)
{
    size_t size = 0;
    unsigned char *p = model_bytes(&size, block), *row;
    kalm_model *m = NULL;
    kalm_error err;
    CHECKF(kalm_model_open_memory(p, size, NULL, &m, &err) == KALM_OK, "%s", err.text);
    if (!m || !CHECK(m->file.stack[side].embed_type == KALM__Q8)) return NULL;
    row = p + (m->file.stack[side].embed - p) + 500 * m->file.stack[side].embed_row;
    row[0] = 0, row[1] = 0x7c;
    return m;
}

/* One token whose row of the embedding table is no number, in the middle of the third of four texts of one batch: that one is named. */
static void test_overflow_of_one(void)
{
    static const int32_t good[] = { 300, 301, 302, 303 }, bad[] = { 300, 301, 500, 303 };
    void *block;
    kalm_model *m = spoiled_model(KALM__ENCODER, &block);
    kalm_context *ctx = NULL;
    kalm_doc *docs[4];
    kalm_ids ids[4];
    kalm_error err;
    unsigned i;
    if (!m) return;
    for (i = 0; i < 4; i++) ids[i].data = i == 2 ? bad : good, ids[i].count = 4;
    if (CHECK(kalm_context_new(m, NULL, &ctx, &err) == KALM_OK)) {
        REFUSED(kalm_encode_ids(ctx, ids, 4, NULL, docs, &err), KALM_OVERFLOW, "in document 2: a token");
        CHECK(!docs[0] && !docs[2]);
        memset(ctx->memory.overflow, 1, 2 * ctx->rows);        /* what an earlier call may have left there */
        CHECKF(kalm_encode_ids(ctx, ids, 2, NULL, docs, &err) == KALM_OK, "%s", err.text);
        kalm_doc_free(docs[0]);
        kalm_doc_free(docs[1]);
    }
    kalm_context_free(ctx);
    kalm_model_close(m);
    free(block);
}

/* The same in the middle of a prompt, and in the decoder's last layer, of which the last row alone goes on. */
static void test_overflow_of_prompt(void)
{
    static const int32_t passage[] = { 300, 301, 302, 303 }, bad[] = { 300, 500, 302, 303 };
    void *block;
    kalm_model *m = spoiled_model(KALM__DECODER, &block);
    kalm_context *ctx = NULL;
    kalm_doc *doc = NULL;
    kalm_ids ids;
    kalm_score score;
    kalm_error err;
    if (!m) return;
    m->file.stack[KALM__DECODER].shape.layers = 1;
    ids.data = passage, ids.count = 4;
    if (CHECK(kalm_context_new(m, NULL, &ctx, &err) == KALM_OK) && CHECK(kalm_encode_ids(ctx, &ids, 1, NULL, &doc, &err) == KALM_OK)) {
        CHECKF(kalm_rerank_ids(ctx, ids, (const kalm_doc *const *)&doc, 1, NULL, &score, &err) == KALM_OK, "%s", err.text);
        ids.data = bad;
        REFUSED(kalm_rerank_ids(ctx, ids, (const kalm_doc *const *)&doc, 1, NULL, &score, &err), KALM_OVERFLOW, "in document 0: a token, key, value or query is not finite");
    }
    kalm_doc_free(doc);
    kalm_context_free(ctx);
    kalm_model_close(m);
    free(block);
}

/* Rows with one number that is infinite or none, at each place of rows of 1 to 70 numbers, among the largest finite ones; what lies
   behind the row does not matter. And a document with such a row is refused by its number. */
static void test_finite(void)
{
    static const uint32_t bad[2][4] = { { 0x7f800000u, 0xff800000u, 0x7f800001u, 0xffc00000u }, { 0x7c00u, 0xfc00u, 0x7c01u, 0xfe00u } };
    unsigned char row[70 * 4 + 4], *bytes, *copy;
    size_t count, at, size = 0, first;
    int halves;
    unsigned b;
    kalm_context *ctx = context(NULL);
    kalm_text text = text_of(documents[5]);
    kalm_params p = zero_params();
    kalm_doc *doc = NULL, *other = NULL;
    kalm_doc_info info;
    kalm_error err;
    for (halves = 0; halves < 2; halves++)
        for (count = 1; count <= 70; count++) {
            size_t width = halves ? 2 : 4;
            for (at = 0; at <= count; at++) {
                if (halves) {
                    row[2 * at] = 0xff;
                    row[2 * at + 1] = at % 2 ? 0x7b : 0xfb;
                } else kalm__put_u32(row + 4 * at, at % 2 ? 0x7f7fffffu : 0xff7fffffu);
            }
            memset(row + count * width, 0xff, width);
            CHECKF(kalm__all_finite(row, count, halves), "%d, %u numbers", halves, (unsigned)count);
            for (at = 0; at < count; at++) {
                unsigned char keep[4], hostile[4];
                memcpy(keep, row + at * width, width);
                kalm__put_u32(hostile, bad[halves][(at + count) % 4]);
                memcpy(row + at * width, hostile, width);
                CHECKF(!kalm__all_finite(row, count, halves), "%d, number %u of %u", halves, (unsigned)at, (unsigned)count);
                memcpy(row + at * width, keep, width);
            }
        }
    for (b = 8; b <= 32; b *= 2) {
        p.bits = b;
        CHECK(kalm_encode(ctx, &text, 1, &p, &doc, &err) == KALM_OK);
        kalm_doc_get_info(doc, &info);
        copy = (unsigned char *)malloc(kalm__doc_row_bytes(info.width, b) * info.rows + 64);
        bytes = (unsigned char *)memcpy(copy, kalm_doc_bytes(doc, &size), kalm__doc_row_bytes(info.width, b) * info.rows + 64);
        first = size - kalm__doc_row_bytes(info.width, b);
        if (b == 32) kalm__put_u32(bytes + first + 4 * 77, 0x7f800000u);
        else bytes[first + (b == 8 ? 4 : 2 * 191)] = 0, bytes[first + (b == 8 ? 4 : 2 * 191) + 1] = 0x7c;
        kalm__put_u64(bytes + 40, kalm__doc_checksum(bytes, size));
        CHECK(kalm_doc_open(model, bytes, size, 0, &other, &err) == KALM_BAD_FILE && !other);
        CHECKF((uint32_t)strtoul(err.text + 4, NULL, 10) == info.rows - 1 && strstr(err.text, "not finite"), "%u bits: %s", b, err.text);
        free(copy);
        kalm_doc_free(doc);
    }
    kalm_context_free(ctx);
}

/* A callback stops the tokenising of long texts, and it is asked often enough. */
/* What progress is counted to: layers times documents, of the coarse pass and the fine one, whether or not states are made. */
static void test_progress(void)
{
    kalm_config config = zero_config();
    kalm_params p = zero_params();
    kalm_text texts[DOCS];
    kalm_doc *docs[DOCS];
    kalm_score scores[DOCS];
    kalm_error err;
    kalm_context *ctx;
    size_t layers, found, pass;
    stopper s;
    int i;
    config.cache_bytes = 1 << 26;
    ctx = context(&config);
    layers = ctx->model->file.shape.side[KALM__DECODER].layers;
    all_texts(texts);
    p.ratio = 1;
    CHECK(kalm_encode(ctx, texts, DOCS, &p, docs, &err) == KALM_OK);
    p.progress = stop_at;
    p.progress_user = &s;
    p.coarse_ratio = 8;
    p.coarse_keep = 3;
    for (pass = 0; pass < 4; pass++) {             /* twice: the second finds states */
        size_t of = pass % 2 ? DOCS : DOCS + 3;    /* documents */
        memset(&s, 0, sizeof s);
        if (pass == 2) kalm_context_clear_cache(ctx);
        if (pass % 2) CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, &p, scores, &err) == KALM_OK);
        else CHECK(kalm_rerank_top(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, 1, &p, scores, &found, &err) == KALM_OK);
        CHECKF(!s.wrong && s.last == s.total && s.total == of * layers, "pass %lu: %lu of %lu", (unsigned long)pass,
               (unsigned long)s.last, (unsigned long)s.total);
    }
    for (i = 0; i < DOCS; i++) kalm_doc_free(docs[i]);
    kalm_context_free(ctx);
}

static void test_cancel_tokenising(void)
{
    enum { LONG = 3 << 19 };
    char *data = (char *)malloc(LONG);
    kalm_context *ctx = context(NULL);
    kalm_text text, small = text_of("a text");
    kalm_params p = zero_params();
    kalm_doc *doc = NULL, *other = NULL;
    kalm_score s;
    kalm_error err;
    stopper stop;
    size_t i, calls, found = 0;
    int job;
    for (i = 0; i < LONG; i++) data[i] = i % 6 == 5 ? ' ' : (char)('a' + i * i % 23);
    text.data = data;
    text.size = LONG;
    CHECK(kalm_encode(ctx, &small, 1, NULL, &doc, &err) == KALM_OK);
    p.progress = stop_at;
    p.progress_user = &stop;
    for (job = 0; job < 4; job++) {
        memset(&stop, 0, sizeof stop);
        for (calls = 0;; calls = stop.calls) {
            kalm_result r;
            memset(&stop, 0, sizeof stop);
            stop.stop_at = calls ? calls / 2 : 0;
            if (job == 0) r = kalm_encode(ctx, &text, 1, &p, &other, &err);
            else if (job == 1) r = kalm_rerank(ctx, text, (const kalm_doc *const *)&doc, 1, &p, &s, &err);
            else if (job == 2) r = kalm_rerank_texts(ctx, text, &text, 1, &p, &s, &err);
            else r = kalm_rerank_top(ctx, text, (const kalm_doc *const *)&doc, 1, 1, &p, &s, &found, &err);
            CHECK(!stop.wrong);
            if (calls) {
                CHECKF(r == KALM_CANCELLED && stop.calls == calls / 2, "job %d, stopped at %lu", job, (unsigned long)calls / 2);
                break;
            }
            CHECKF(r == KALM_OK && stop.calls > LONG >> 16, "job %d: %d, asked %lu times", job, (int)r, (unsigned long)stop.calls);
            kalm_doc_free(other);
            other = NULL;
        }
    }
    kalm_doc_free(doc);
    kalm_context_free(ctx);
    free(data);
}

static void test_info(void)
{
    kalm_model_info info;
    memset(&info, 0, sizeof info);
    kalm_model_get_info(model, &info);
    CHECK(info.name && info.name[0] && info.weights && info.vocabulary == 8192 && info.layers == 4 && info.width == 192);
    CHECK(info.has_tokenizer && info.yes_id == 843 && info.no_id == 781 && info.fingerprint && info.bytes > 1000000);
    printf("model: %s %s, %lu bytes\n", info.name, info.weights, (unsigned long)info.bytes);
}

/* The program may have made the processor round otherwise, or take subnormal numbers for zero. The first would change scores and
   tokens, so it is refused, wherever something is computed; the second changes nothing here. */
static void test_rounding(void)
{
    static const int modes[] = {
#ifdef FE_UPWARD
        FE_UPWARD,
#endif
#ifdef FE_DOWNWARD
        FE_DOWNWARD,
#endif
#ifdef FE_TOWARDZERO
        FE_TOWARDZERO,
#endif
        FE_TONEAREST
    };
    kalm_config config = zero_config();
    kalm_params p = zero_params();
    kalm_context *ctx = NULL, *other = NULL;
    kalm_text texts[DOCS];
    kalm_doc *docs[DOCS], *others[DOCS], *coarser;
    kalm_score want[DOCS], got[DOCS];
    kalm_error err;
    size_t i, n, made;
    all_texts(texts);
    config.threads = 2;
    config.cache_bytes = 1 << 20;
    p.bits = 32;
    ctx = context(&config);
    CHECK(kalm_encode(ctx, texts, DOCS, &p, docs, &err) == KALM_OK);
    CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, &p, want, &err) == KALM_OK);
    for (i = 0; modes[i] != FE_TONEAREST; i++) {
        if (fesetround(modes[i])) continue;
        CHECK(kalm_context_new(model, &config, &other, &err) == KALM_BAD_ARGUMENT && !other);
        CHECKF(strstr(err.text, "round") != NULL, "%s", err.text);
        CHECK(kalm_context_bytes(model, &config, &n, &err) == KALM_BAD_ARGUMENT);
        CHECK(kalm_encode(ctx, texts, DOCS, &p, others, &err) == KALM_BAD_ARGUMENT && !others[0]);
        CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, &p, got, &err) == KALM_BAD_ARGUMENT);
        CHECK(kalm_rerank_texts(ctx, text_of(query_text), texts, DOCS, &p, got, &err) == KALM_BAD_ARGUMENT);
        CHECK(kalm_rerank_top(ctx, text_of(query_text), (const kalm_doc *const *)docs, DOCS, 2, &p, got, &made, &err) == KALM_BAD_ARGUMENT);
        CHECK(kalm_state_save(ctx, docs[0], &p, NULL, 0, &n, &err) == KALM_BAD_ARGUMENT);
        CHECK(kalm_doc_repool(model, docs[0], 8, 0, &coarser, &err) == KALM_BAD_ARGUMENT && !coarser);
        CHECK(kalm_tokenize(model, texts[0], 0, NULL, 0, &n, &err) == KALM_BAD_ARGUMENT);
        CHECK(fesetround(FE_TONEAREST) == 0);
    }
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
    other = context(&config);          /* its threads begin with what this one has */
    CHECK(kalm_encode(other, texts, DOCS, &p, others, &err) == KALM_OK);
    CHECK(kalm_rerank(other, text_of(query_text), (const kalm_doc *const *)others, DOCS, &p, got, &err) == KALM_OK);
    same_docs(__LINE__, docs, others, DOCS);
    CHECK(memcmp(got, want, sizeof want) == 0);
#if defined(__SSE2__)
    _mm_setcsr(_mm_getcsr() & ~0x8040u);
#endif
    kalm_context_free(other);
    kalm_context_free(ctx);
    free_docs(docs, DOCS);
    free_docs(others, DOCS);
}

int main(void)
{
    kalm_error err;
    if (!CHECKF(kalm_model_open(model_path, NULL, &model, &err) == KALM_OK, "%s", err.text)) return test_end();
#ifdef HAVE_PTHREAD
    test_two_contexts();
#endif
    if (TSAN) {                        /* the others have one thread at a time */
        kalm_model_close(model);
        return test_end();
    }
    test_info();
    test_refusals();
    test_tokens();
    test_prompt();
    test_sort();
    test_document_refusals();
    test_rounding_of_rows();
    test_marks();
    test_borders();
    test_full_last_row();
    test_prompt_border();
    test_cut();
    test_limits();
    test_long_query();
    test_empty_prompt();
    test_prefix_border();
    test_sentences();
    test_overflow();
    test_overflow_of_one();
    test_overflow_of_prompt();
    test_overflow_of_a_logit();
    test_finite();
    test_documents();
    test_damage();
    test_memory();
    test_memory_of_many();
    test_cancel();
    test_progress();
    test_cancel_tokenising();
    test_invariance();
    test_many_threads();
    test_rounding();
    kalm_model_close(model);
    return test_end();
}
