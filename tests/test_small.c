/* test_small.c - what small machines need to know: kalm_context_bytes is what a context asks for, to the byte, whatever the
   configuration; nothing else is asked for beyond what the header promises; an arena of exactly that size is enough and
   one byte less is refused with a sentence; and how deep the stack gets, measured on a painted one. */
#ifndef _XOPEN_SOURCE
#  define _XOPEN_SOURCE 700            /* pthread_attr_setstack under -std=c99 */
#endif
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"
#if defined(__unix__) || defined(__APPLE__)
#  include <pthread.h>
#  define HAVE_PTHREAD 1
#endif

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

static const char *const path = TEST_BUILD "/tiny.kalm";

/* ---- an allocator that counts, and may have a limit ---------------------------------------------------------------- */

typedef struct counter {
    size_t now, most, calls, largest, limit;
} counter;

static void *count_alloc(void *user, size_t size)
{
    counter *c = (counter *)user;
    if (c->limit && c->now + size > c->limit) return NULL;
    c->now += size;
    c->calls++;
    if (c->now > c->most) c->most = c->now;
    if (size > c->largest) c->largest = size;
    return malloc(size);
}

static void count_release(void *user, void *ptr, size_t size)
{
    ((counter *)user)->now -= size;
    free(ptr);
}

static kalm_config counted(counter *c)
{
    kalm_config config;
    memset(c, 0, sizeof *c);
    memset(&config, 0, sizeof config);
    config.allocator.alloc = count_alloc;
    config.allocator.release = count_release;
    config.allocator.user = c;
    return config;
}

static kalm_text text_of(const char *s)
{
    kalm_text t;
    t.data = s;
    t.size = KALM_NUL;
    return t;
}

static const char words[] = "The GIMP is a picture editor for retouching photographs, drawing and converting images. ";

/* ---- the bound -------------------------------------------------------------------------------------------------------- */

static void check_bytes(kalm_model *model, uint32_t docs, uint32_t query, uint32_t threads, const char *kernels)
{
    counter c;
    kalm_config config = counted(&c);
    kalm_context *ctx = NULL;
    kalm_error err;
    size_t bytes = 0, after;
    config.max_doc_tokens = docs;
    config.max_query_tokens = query;
    config.threads = threads;
    config.kernels = kernels;
    if (!CHECKF(kalm_context_bytes(model, &config, &bytes, &err) == KALM_OK, "%s", err.text)) return;
    CHECKF(c.calls == 0, "kalm_context_bytes allocates");
    if (!CHECKF(kalm_context_new(model, &config, &ctx, &err) == KALM_OK, "%s", err.text)) return;
    CHECKF(c.most == bytes && c.calls == 1, "docs %u query %u threads %u %s: %lu bytes promised, %lu taken in %lu blocks",
           (unsigned)docs, (unsigned)query, (unsigned)threads, kernels, (unsigned long)bytes, (unsigned long)c.most,
           (unsigned long)c.calls);
    /* by token ids nothing is tokenised: a job allocates its documents and nothing more */
    {
        int32_t ids[64];
        kalm_ids t, prompt;
        kalm_doc *doc = NULL;
        kalm_score score;
        size_t i, size;
        for (i = 0; i < 64; i++) ids[i] = (int32_t)(300 + 7 * i);
        t.data = prompt.data = ids;
        t.count = kalm__min(64, docs);
        prompt.count = 40;
        after = c.now;
        if (CHECKF(kalm_encode_ids(ctx, &t, 1, NULL, &doc, &err) == KALM_OK, "%s", err.text)) {
            kalm_doc_bytes(doc, &size);
            CHECKF(c.now - after >= size && c.now - after < size + 512, "a document of %lu bytes takes %lu",
                   (unsigned long)size, (unsigned long)(c.now - after));
            CHECKF(c.most <= c.now, "encoding takes %lu bytes more for a while", (unsigned long)(c.most - c.now));
            after = c.calls;
            CHECKF(kalm_rerank_ids(ctx, prompt, (const kalm_doc *const *)&doc, 1, NULL, &score, &err) == KALM_OK, "%s", err.text);
            CHECKF(c.calls == after, "reranking by ids allocates %lu times", (unsigned long)(c.calls - after));
            kalm_doc_free(doc);
        }
    }
    kalm_context_free(ctx);
    /* a document made by the context is the context's allocator's; all is given back */
    CHECKF(c.now == 0, "%lu bytes are not given back", (unsigned long)c.now);

    ctx = NULL;
    c.limit = bytes;
    CHECKF(kalm_context_new(model, &config, &ctx, &err) == KALM_OK, "an arena of %lu bytes is not enough: %s", (unsigned long)bytes, err.text);
    kalm_context_free(ctx);
    ctx = NULL;
    c.limit = bytes - 1;
    CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_NO_MEMORY && !ctx);
    CHECKF(strstr(err.text, "no memory") != NULL, "%s", err.text);
    CHECK(c.now == 0);
}

/* What tokenising takes beside: the header says about 70 bytes a byte of the longest text. */
static void check_tokenizing(kalm_model *model, size_t length)
{
    counter c;
    kalm_config config = counted(&c);
    kalm_context *ctx = NULL;
    kalm_error err;
    kalm_score score;
    kalm_text text;
    size_t bytes, i;
    char *s = (char *)malloc(length);
    for (i = 0; i < length; i++) s[i] = words[i % (sizeof words - 1)];
    config.threads = 1;
    config.max_doc_tokens = 64;
    if (CHECKF(kalm_context_bytes(model, &config, &bytes, &err) == KALM_OK, "%s", err.text) &&
        CHECKF(kalm_context_new(model, &config, &ctx, &err) == KALM_OK, "%s", err.text)) {
        text.data = s;
        text.size = length;
        CHECKF(kalm_rerank_texts(ctx, text_of("photos"), &text, 1, NULL, &score, &err) == KALM_OK, "%s", err.text);
        printf("a text of %lu bytes: %lu bytes beside the context's %lu\n", (unsigned long)length, (unsigned long)(c.most - bytes),
               (unsigned long)bytes);
        CHECKF(c.most <= bytes + 80 * length + 65536, "%lu bytes for a text of %lu", (unsigned long)(c.most - bytes), (unsigned long)length);
    }
    kalm_context_free(ctx);
    CHECK(c.now == 0);
    free(s);
}

/* ---- the stack -------------------------------------------------------------------------------------------------------- */

#ifdef HAVE_PTHREAD
enum { STACK = 256 * 1024, LIMIT = 16 * 1024 };

typedef struct job {
    const char *kernels;
    kalm_result r;
    kalm_error  err;
    unsigned char *top;
} job;

/* Everything a program does with the library. */
static void *whole_life(void *arg)
{
    job *j = (job *)arg;
    unsigned char here;
    kalm_config config;
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_doc *docs[2] = { NULL, NULL }, *again = NULL, *junk = NULL;
    static kalm_text texts[3];
    static kalm_score scores[3];
    static int32_t ids[256];
    static char text[2048];
    size_t count, size;
    j->top = &here;
    memset(&config, 0, sizeof config);
    config.threads = 1;
    config.max_doc_tokens = 96;
    config.kernels = j->kernels;
    texts[0] = text_of(words), texts[1] = text_of("x"), texts[2] = text_of("");
    j->r = kalm_model_open(path, NULL, &model, &j->err);
    if (!j->r) j->r = kalm_model_verify(model, &j->err);
    if (!j->r) j->r = kalm_context_new(model, &config, &ctx, &j->err);
    if (!j->r) j->r = kalm_tokenize(model, texts[0], 0, ids, 256, &count, &j->err);
    if (!j->r) j->r = kalm_detokenize(model, ids, count, text, sizeof text, &size, &j->err);
    if (!j->r) j->r = kalm_rerank_texts(ctx, texts[0], texts, 3, NULL, scores, &j->err);
    if (!j->r) j->r = kalm_encode(ctx, texts, 2, NULL, docs, &j->err);
    if (!j->r) j->r = kalm_rerank(ctx, texts[0], (const kalm_doc *const *)docs, 2, NULL, scores, &j->err);
    if (!j->r) j->r = kalm_doc_repool(model, docs[0], 8, 8, &again, &j->err);
    if (!j->r && kalm_doc_open(model, text, sizeof text, 0, &junk, &j->err) == KALM_OK) j->r = KALM_BAD_FILE;
    kalm_sort(scores, 3);
    kalm_doc_free(again);
    kalm_doc_free(docs[0]);
    kalm_doc_free(docs[1]);
    kalm_context_free(ctx);
    kalm_model_close(model);
    return NULL;
}

static void check_stack(const char *kernels, int judge)
{
    static unsigned char room[STACK + 65536];
    unsigned char *stack = room + 65536 - (uintptr_t)room % 65536;
    pthread_attr_t attr;
    pthread_t thread;
    job j;
    size_t i;
    memset(&j, 0, sizeof j);
    j.kernels = kernels;
    memset(stack, 0x5a, STACK);
    pthread_attr_init(&attr);
    if (!CHECK(pthread_attr_setstack(&attr, stack, STACK) == 0) || !CHECK(pthread_create(&thread, &attr, whole_life, &j) == 0)) return;
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    if (!CHECKF(j.r == KALM_OK, "%s: %s", kernels, j.err.text)) return;
    for (i = 0; i < STACK && stack[i] == 0x5a; i++) ;
    i = (size_t)(j.top - (stack + i));
    printf("%s: %lu bytes of stack\n", kernels, (unsigned long)i);
    if (judge) CHECKF(i < LIMIT, "%s: %lu bytes of stack", kernels, (unsigned long)i);
}
#endif

int main(void)
{
    kalm_model *model = NULL;
    kalm_error err;
    const char *name;
    size_t i, bytes = 1;
    counter c;
    kalm_config config = counted(&c);
    if (!CHECKF(kalm_model_open(path, NULL, &model, &err) == KALM_OK, "%s", err.text)) return test_end();
    for (i = 0; (name = kalm_kernels(i)) != NULL; i++) {
        check_bytes(model, 64, 16, 1, name);
        check_bytes(model, 100, 512, 2, name);
        check_bytes(model, 1024, 64, 3, name);
        check_bytes(model, 1, 1, 1, name);
    }
    CHECK(kalm_context_bytes(NULL, NULL, &bytes, &err) == KALM_BAD_ARGUMENT && bytes == 0);
    CHECK(kalm_context_bytes(model, NULL, NULL, &err) == KALM_BAD_ARGUMENT);
    config.kernels = "abacus";
    CHECK(kalm_context_bytes(model, &config, &bytes, &err) == KALM_NO_KERNELS && bytes == 0);
    check_tokenizing(model, 100);
    check_tokenizing(model, 100000);
    kalm_model_close(model);

    /* a model's own memory: small, whatever its weights */
    config = counted(&c);
    CHECKF(kalm_model_open(path, &config, &model, &err) == KALM_OK, "%s", err.text);
    printf("an open model: %lu bytes\n", (unsigned long)c.now);
    CHECKF(c.now < 65536, "an open model takes %lu bytes", (unsigned long)c.now);
    kalm_model_close(model);
    CHECK(c.now == 0);
#ifdef HAVE_PTHREAD
    {
        int judge = 1;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
        judge = 0;                     /* such builds keep every variable, and room around it */
#elif defined(__has_feature)
#  if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer)
        judge = 0;
#  endif
#endif
        for (i = 0; (name = kalm_kernels(i)) != NULL; i++) check_stack(name, judge);
    }
#endif
    return test_end();
}
