/* kalm_node.c - the native addon of the npm package: the functions that native.mjs calls, through Node-API, whose interface is
   the same in every version of Node. native.mjs makes of them the methods of Kalm; programs do not call them.

   One handle is one model with one context. Long work (opening, encoding, ranking) is a job: it has a thread of its own, so that the
   event loop goes on and the few threads that Node has for files stay free. A handle has one job at a time, native.mjs queues them.

   How a job talks to JavaScript. Its thread changes fields of the job under the lock of the home and wakes the event loop, at
   most once until that has listened. The event loop then looks at all jobs (listen): it tells callbacks of progress and hands
   over results. So what is queued carries no pointers, and nothing that was freed can be met.

   What the event loop does not do, because it takes milliseconds. A job's thread gives back the texts and documents that it
   read (memory of megabytes is unmapped). A thread that is done is joined by the handle's next one, since it may still be on
   its way out. Documents that were encoded stay with the handle until native.mjs takes them, some in each turn.

   How it ends. Garbage collection of a handle, close() and the end of the environment (a Worker's terminate(), the end of the
   program) may come at any time. A handle with a job is freed by the job's end; the end of the environment cancels all jobs and
   waits for them, which takes one layer of the model.

   Arguments are checked like a stranger's, although they come from native.mjs: a wrong one is a TypeError. Strings are UTF-8 in a
   Uint8Array, made by TextEncoder, which replaces lone surrogates. */
#define NAPI_VERSION 8
#include <node_api.h>

#define KALM_RERANK_STATIC
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_ARGUMENTS 10
#define TELL_MS 10                     /* between two reports of progress */

/* The names of kalm_result, for KalmError.code. */
static const char *const codes[] = { "OK", "BAD_ARGUMENT", "NO_MEMORY", "CANNOT_READ", "BAD_FILE", "BAD_VERSION", "MISMATCH",
                                     "NO_KERNELS", "CANCELLED", "OVERFLOW", "INCOMPLETE" };

typedef struct home home;
typedef struct handle handle;
typedef struct job job;

/* What one environment (the main thread, or a Worker) has of this addon. */
struct home {
    napi_env                 env;
    napi_threadsafe_function wake;     /* calls listen() on the event loop */
    pthread_mutex_t          lock;     /* of `woken`, and of the fields that job names */
    int                      woken;
    handle                  *handles;
    job                     *jobs;
};

struct handle {
    home         *home;                /* NULL: the environment has ended, and all but this struct is freed */
    handle       *next, **link;
    kalm_model   *model;               /* NULL: not open yet, or closed */
    kalm_context *ctx;                 /* NULL: a file with a tokenizer alone */
    void         *memory;              /* reserve(): what malloc gave, and the model's bytes in it, aligned to 64 */
    unsigned char *bytes;
    size_t        size;
    size_t        working;             /* bytes that the context, and a file that was read, were given */
    size_t        cached;              /* bytes of decoder states that the context held after the last job */
    uint32_t      threads;
    const char   *kernels;             /* its name; static */
    int64_t       told;                /* bytes that the garbage collector was told of */
    job          *job;
    kalm_doc    **made;                /* [made_count] of the last ENCODE, until take() hands them over; then NULL */
    size_t        made_count;
    pthread_t     last;                /* has_last: the thread of the job before, which is done and was not joined */
    int           has_last;
    int           closed, collected;   /* close() was called; the JavaScript object is gone */
};

typedef enum work { OPEN, ENCODE, RERANK } work;

/* A list of byte strings that the job owns. */
typedef struct strings {
    kalm_text *items;
    size_t     count;
} strings;

struct job {
    home     *home;
    handle   *of;
    job      *next, **link;
    pthread_t thread, before;          /* has_before: the handle's thread before this one, which this one joins */
    int       has_before;
    napi_ref  callback, self;          /* self: the handle's object, which must not be collected meanwhile */
    work      work;

    /* what to do */
    kalm_config config;
    strings     words;                 /* OPEN: path, kernels; RERANK: query, system, instruction. data NULL: not given */
    strings     documents;
    unsigned char *is_text;            /* [documents.count]; RERANK */
    kalm_params params;
    int         verify;
    int         listens;               /* somebody wants to hear of progress */

    /* under home->lock */
    int    cancel, news, finished;     /* news: `part` was not told yet */
    double part;                       /* of the work that is done, 0 to 1 */

    /* the thread's own until it has finished */
    double        told_at;             /* when progress was told last, in milliseconds */
    double        from, to;            /* of `part`, what the library's progress now stands for */
    kalm_result   result;
    kalm_error    err;
    kalm_model   *model;
    kalm_context *ctx;
    size_t        working, cached;
    kalm_doc    **docs;                /* [documents.count] */
    kalm_score   *scores;              /* [documents.count] */
};

/* ---- the thread's side ---- */

/* With the lock held: whether the event loop must be woken. The caller does it without the lock, since a thread that loses the
   processor there would make the event loop wait. */
static int must_wake(home *h)
{
    int sleeps = !h->woken;
    h->woken = 1;
    return sleeps;
}

static void wake(home *h) { napi_call_threadsafe_function(h->wake, NULL, napi_tsfn_nonblocking); }

/* Milliseconds of a clock that goes on. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Wakes seldom, and never where nobody listens: Node holds a lock of its own while it wakes the event loop, which then takes the
   processor from this thread and waits for that lock until this thread has it again. */
static int progress(void *user, size_t done, size_t total)
{
    job *j = (job *)user;
    int stop, sleeps, late = j->listens && now() - j->told_at >= TELL_MS;
    if (late) j->told_at = now();
    pthread_mutex_lock(&j->home->lock);
    stop = j->cancel;
    if (late) {
        j->part = j->from + (j->to - j->from) * (double)done / (double)(total ? total : 1);
        j->news = 1;
    }
    sleeps = late && !stop && must_wake(j->home);
    pthread_mutex_unlock(&j->home->lock);
    if (sleeps) wake(j->home);
    return stop;
}

static void *allocate(size_t size) { return malloc(size ? size : 1); }

static kalm_result no_memory(kalm_error *err)
{
    err->code = KALM_NO_MEMORY;
    snprintf(err->text, sizeof err->text, "no memory for the documents of this call");
    return KALM_NO_MEMORY;
}

static kalm_result run_open(job *j)
{
    const char *path = j->words.items[0].data;
    kalm_model_info info;
    kalm_result r;
    j->config.kernels = j->words.items[1].data;
    r = path ? kalm_model_open(path, &j->config, &j->model, &j->err)
             : kalm_model_open_memory(j->of->bytes, j->of->size, &j->config, &j->model, &j->err);
    if (!r && j->verify) r = kalm_model_verify(j->model, &j->err);
    if (!r) {
        kalm_model_get_info(j->model, &info);
        if (strcmp(info.weights, "none") == 0) return KALM_OK;
        r = kalm_context_bytes(j->model, &j->config, &j->working, &j->err);
        if (j->config.load == KALM_LOAD_READ) j->working += (size_t)info.bytes;
        if (!r) r = kalm_context_new(j->model, &j->config, &j->ctx, &j->err);
    }
    if (r) {
        kalm_model_close(j->model);
        j->model = NULL;
    }
    return r;
}

/* A file with a tokenizer alone has no context: the library says so in words when asked for one. */
static kalm_result need_context(job *j)
{
    kalm_context *none = NULL;
    kalm_result r = j->of->ctx ? KALM_OK : kalm_context_new(j->of->model, NULL, &none, &j->err);
    kalm_context_free(none);
    return r;
}

static kalm_result run_encode(job *j)
{
    kalm_result r = need_context(j);
    return r ? r : kalm_encode(j->of->ctx, j->documents.items, j->documents.count, &j->params, j->docs, &j->err);
}

/* A document from the bytes of number i, with fewer rows where params.ratio asks for that. */
static kalm_result open_document(job *j, size_t i)
{
    const kalm_text *bytes = &j->documents.items[i];
    kalm_doc_info info;
    kalm_doc *coarser;
    kalm_result r = kalm_doc_open(j->of->model, bytes->data, bytes->size, KALM_BORROW, &j->docs[i], &j->err);
    if (r) {
        char text[sizeof j->err.text];
        memcpy(text, j->err.text, sizeof text);
        snprintf(j->err.text, sizeof j->err.text, "document %lu cannot be used: %.200s", (unsigned long)i, text);
        return r;
    }
    kalm_doc_get_info(j->docs[i], &info);
    if (!j->params.ratio || j->params.ratio == info.ratio) return KALM_OK;
    r = kalm_doc_repool(j->of->model, j->docs[i], j->params.ratio, 0, &coarser, &j->err);
    if (r) return r;
    kalm_doc_free(j->docs[i]);
    j->docs[i] = coarser;
    return KALM_OK;
}

/* Encode those documents that are texts, and put them where they belong in docs. */
static kalm_result encode_texts(job *j, size_t count)
{
    kalm_text *texts = (kalm_text *)allocate(count * sizeof *texts);
    kalm_doc **made = (kalm_doc **)allocate(count * sizeof *made);
    kalm_params p = j->params;
    kalm_result r = KALM_OK;
    size_t i, n = 0;
    if (!p.bits) p.bits = 32;          /* nothing is kept */
    if (texts && made) {
        for (i = 0; i < j->documents.count; i++) if (j->is_text[i]) texts[n++] = j->documents.items[i];
        r = kalm_encode(j->of->ctx, texts, n, &p, made, &j->err);
        for (i = n = 0; !r && i < j->documents.count; i++) if (j->is_text[i]) j->docs[i] = made[n++];
    } else
        r = no_memory(&j->err);
    free(texts);
    free(made);
    return r;
}

static kalm_result run_rerank(job *j)
{
    size_t count = j->documents.count, texts = 0, i;
    double encoding;
    kalm_result r = need_context(j);
    for (i = 0; !r && i < count; i++) {
        if (j->is_text[i]) texts++;
        else r = open_document(j, i);
    }
    if (r || !count) return r;
    encoding = 0.7 * (double)texts / (double)count;        /* of the time: a text takes longer than the query */
    j->to = encoding;
    if (texts) r = encode_texts(j, texts);
    if (r) return r;
    j->from = encoding;
    j->to = 1;
    j->params.system = j->words.items[1];
    j->params.instruction = j->words.items[2];
    return kalm_rerank(j->of->ctx, j->words.items[0], (const kalm_doc *const *)j->docs, count, &j->params, j->scores, &j->err);
}

static void strings_free(strings *s)
{
    size_t i;
    for (i = 0; s->items && i < s->count; i++) free((void *)(uintptr_t)s->items[i].data);
    free(s->items);
    s->items = NULL;
}

/* The texts and documents that a job has read. */
static void drop_inputs(job *j)
{
    size_t i;
    for (i = 0; j->work == RERANK && i < j->documents.count; i++) {
        kalm_doc_free(j->docs[i]);
        j->docs[i] = NULL;
    }
    strings_free(&j->documents);
}

static void *run(void *arg)
{
    job *j = (job *)arg;
    home *h = j->home;
    int sleeps;
    if (j->has_before) pthread_join(j->before, NULL);
    j->result = j->work == OPEN ? run_open(j) : j->work == ENCODE ? run_encode(j) : run_rerank(j);
    if (j->of->ctx) {
        kalm_cache_info cache;
        kalm_context_get_cache(j->of->ctx, &cache);
        j->cached = cache.bytes;
    }
    drop_inputs(j);
    pthread_mutex_lock(&h->lock);
    j->finished = 1;
    sleeps = must_wake(h);
    pthread_mutex_unlock(&h->lock);    /* the event loop may free the job from here on; the home stays until this thread is joined */
    if (sleeps) wake(h);
    return NULL;
}

/* ---- the end of things: on the event loop from here on ---- */

/* The job has finished, or its thread never started. */
static void job_free(job *j)
{
    size_t i;
    if (j->link) {
        *j->link = j->next;
        if (j->next) j->next->link = j->link;
    }
    if (j->callback) napi_delete_reference(j->home->env, j->callback);
    if (j->self) napi_delete_reference(j->home->env, j->self);
    for (i = 0; j->docs && i < j->documents.count; i++) kalm_doc_free(j->docs[i]);
    kalm_context_free(j->ctx);
    kalm_model_close(j->model);
    strings_free(&j->words);
    strings_free(&j->documents);
    free(j->is_text);
    free(j->docs);
    free(j->scores);
    free(j);
}

/* Documents that nobody took. */
static void made_free(handle *m)
{
    size_t i;
    for (i = 0; m->made && i < m->made_count; i++) kalm_doc_free(m->made[i]);
    free(m->made);
    m->made = NULL;
}

/* Give back all that a handle holds. */
static void handle_empty(handle *m)
{
    if (m->has_last) pthread_join(m->last, NULL);
    m->has_last = 0;
    made_free(m);
    kalm_context_free(m->ctx);
    kalm_model_close(m->model);
    free(m->memory);
    m->ctx = NULL;
    m->model = NULL;
    m->memory = NULL;
    m->bytes = NULL;
    m->size = 0;
}

/* Do what close() or the garbage collector asked for, unless a job is at work: its end calls this again. */
static void handle_settle(handle *m)
{
    home *h = m->home;
    if (m->job) return;
    if (m->closed || m->collected) {
        int64_t now;
        handle_empty(m);
        if (h && m->told) napi_adjust_external_memory(h->env, -m->told, &now);
        m->told = 0;
    }
    if (!m->collected) return;
    if (h) {
        *m->link = m->next;
        if (m->next) m->next->link = m->link;
    }
    free(m);
}

static void cancel(job *j)
{
    pthread_mutex_lock(&j->home->lock);
    j->cancel = 1;
    pthread_mutex_unlock(&j->home->lock);
}

/* The JavaScript object of a handle is gone. */
static void collected(napi_env env, void *data, void *hint)
{
    handle *m = (handle *)data;
    (void)env;
    (void)hint;
    m->collected = 1;
    handle_settle(m);                  /* a job keeps the object, so there is none */
}

/* The environment ends. It closes `wake` after this; so no thread may be left that calls it. */
static void ended(void *data)
{
    home *h = (home *)data;
    job *j;
    handle *m;
    for (j = h->jobs; j; j = j->next) cancel(j);
    while ((j = h->jobs) != NULL) {
        pthread_join(j->thread, NULL);
        j->of->job = NULL;
        job_free(j);
    }
    for (m = h->handles; m; m = m->next) {     /* their objects are collected later, and free the structs */
        handle_empty(m);
        m->closed = 1;
        m->home = NULL;
    }
    h->handles = NULL;
}

static void home_free(napi_env env, void *data, void *hint)
{
    home *h = (home *)data;
    (void)env;
    (void)hint;
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* ---- errors and arguments ---- */

static napi_value undefined(napi_env env)
{
    napi_value v = NULL;
    napi_get_undefined(env, &v);
    return v;
}

/* A call of Node-API failed, which happens when memory ends or an exception is on its way. */
static napi_value broken(napi_env env)
{
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (!pending) napi_throw_error(env, "NO_MEMORY", "Node cannot make the value");
    return NULL;
}

static napi_value fail(napi_env env, kalm_result code, const char *text)
{
    napi_throw_error(env, codes[code], text);
    return NULL;
}

static int wrong(napi_env env, const char *text)
{
    napi_throw_type_error(env, NULL, text);
    return 0;
}

static const napi_type_tag HANDLE_TAG = { 0x6b616c6d2d726572, 0x616e6b2e68616e64 };

/* The arguments of a call, of which there must be `count`; 0 when there are fewer, with an exception. */
static int arguments(napi_env env, napi_callback_info info, size_t count, napi_value *argv)
{
    size_t given = MOST_ARGUMENTS;
    if (napi_get_cb_info(env, info, &given, argv, NULL, NULL) != napi_ok) return broken(env) != NULL;
    return given >= count ? 1 : wrong(env, "there are too few arguments");
}

static handle *handle_of(napi_env env, napi_value value)
{
    napi_valuetype type;
    bool ours = false;
    void *found = NULL;
    if (napi_typeof(env, value, &type) != napi_ok || type != napi_object
        || napi_check_object_type_tag(env, value, &HANDLE_TAG, &ours) != napi_ok || !ours
        || napi_unwrap(env, value, &found) != napi_ok) wrong(env, "this is not a handle of this addon");
    return (handle *)found;
}

/* The same where the model must be open. */
static handle *open_handle(napi_env env, napi_value value)
{
    handle *m = handle_of(env, value);
    if (m && (m->closed || !m->model)) {
        fail(env, KALM_BAD_ARGUMENT, m->closed ? "this Kalm was freed" : "the model is not open");
        return NULL;
    }
    return m;
}

/* The bytes of a Uint8Array, where they are. */
static int bytes_of(napi_env env, napi_value value, const void **data, size_t *size)
{
    bool is = false;
    napi_typedarray_type type = napi_int8_array;
    void *at = NULL;
    if (napi_is_typedarray(env, value, &is) != napi_ok || !is
        || napi_get_typedarray_info(env, value, &type, size, &at, NULL, NULL) != napi_ok || type != napi_uint8_array)
        return wrong(env, "bytes are a Uint8Array");
    if (!at) *size = 0;                /* its buffer was transferred */
    *data = at;
    return 1;
}

/* An integer from 0 to `most`. */
static int number(napi_env env, napi_value value, double most, double *out)
{
    if (napi_get_value_double(env, value, out) != napi_ok) return wrong(env, "a number is wanted");
    if (!(*out >= 0 && *out <= most) || *out != floor(*out)) return fail(env, KALM_BAD_ARGUMENT, "a number is out of range") != NULL;
    return 1;
}

static int number32(napi_env env, napi_value value, uint32_t *out)
{
    double d;
    if (!number(env, value, (double)UINT32_MAX, &d)) return 0;
    *out = (uint32_t)d;
    return 1;
}

/* A copy of a Uint8Array, with a NUL behind it; null and undefined give data NULL. */
static int copy_bytes(napi_env env, napi_value value, kalm_text *out)
{
    napi_valuetype type = napi_object;
    const void *data;
    char *copy;
    napi_typeof(env, value, &type);
    out->data = NULL;
    out->size = 0;
    if (type == napi_null || type == napi_undefined) return 1;
    if (!bytes_of(env, value, &data, &out->size)) return 0;
    copy = (char *)malloc(out->size + 1);
    if (!copy) return fail(env, KALM_NO_MEMORY, "no memory for the texts of this call") != NULL;
    if (out->size) memcpy(copy, data, out->size);
    copy[out->size] = 0;
    out->data = copy;
    return 1;
}

static int copy_words(napi_env env, const napi_value *values, size_t count, strings *out)
{
    size_t i;
    out->items = (kalm_text *)calloc(count, sizeof *out->items);
    if (!out->items) return fail(env, KALM_NO_MEMORY, "no memory for the texts of this call") != NULL;
    out->count = count;
    for (i = 0; i < count; i++) if (!copy_bytes(env, values[i], &out->items[i])) return 0;
    return 1;
}

/* An array of Uint8Arrays. */
static int copy_list(napi_env env, napi_value list, strings *out)
{
    uint32_t count = 0, i;
    bool is = false;
    if (napi_is_array(env, list, &is) != napi_ok || !is || napi_get_array_length(env, list, &count) != napi_ok)
        return wrong(env, "documents are an array");
    out->items = (kalm_text *)calloc(kalm__add(count, 1), sizeof *out->items);
    if (!out->items) return fail(env, KALM_NO_MEMORY, "no memory for the documents of this call") != NULL;
    out->count = count;
    for (i = 0; i < count; i++) {
        napi_handle_scope scope;
        napi_value item;
        int good = 0;
        if (napi_open_handle_scope(env, &scope) != napi_ok) return broken(env) != NULL;
        if (napi_get_element(env, list, i, &item) == napi_ok) {
            good = copy_bytes(env, item, &out->items[i]);
            if (good && !out->items[i].data) good = wrong(env, "a document is a Uint8Array");
        } else
            broken(env);
        napi_close_handle_scope(env, scope);
        if (!good) return 0;
    }
    return 1;
}

/* ---- jobs ---- */

static job *job_new(napi_env env, work what, napi_value self, napi_value callback)
{
    napi_valuetype type = napi_undefined;
    home *h = NULL;
    job *j;
    if (napi_get_instance_data(env, (void **)&h) != napi_ok || !h) return (job *)(void *)broken(env);
    napi_typeof(env, callback, &type);
    if (type != napi_function) {
        wrong(env, "the callback is a function");
        return NULL;
    }
    j = (job *)calloc(1, sizeof *j);
    if (!j) {
        fail(env, KALM_NO_MEMORY, "no memory for the work");
        return NULL;
    }
    j->home = h;
    j->work = what;
    j->to = 1;
    j->params.progress = progress;
    j->params.progress_user = j;
    if (napi_create_reference(env, callback, 1, &j->callback) != napi_ok || napi_create_reference(env, self, 1, &j->self) != napi_ok) {
        job_free(j);
        return (job *)(void *)broken(env);
    }
    return j;
}

/* Start the thread. Signals are for Node's own threads, and this one's children inherit that. */
static int job_start(napi_env env, job *j, handle *m)
{
    home *h = j->home;
    sigset_t all, old;
    int failed;
    if (m->job) return fail(env, KALM_BAD_ARGUMENT, "this handle has a job already") != NULL;
    if (!m->home) return fail(env, KALM_BAD_ARGUMENT, "this Kalm was freed") != NULL;
    j->of = m;
    j->before = m->last;
    j->has_before = m->has_last;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    failed = pthread_create(&j->thread, NULL, run, j);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed) return fail(env, KALM_NO_MEMORY, "the system has no thread for the work") != NULL;
    m->has_last = 0;
    m->job = j;
    if (!h->jobs) napi_ref_threadsafe_function(env, h->wake);      /* the program goes on while there is work */
    j->next = h->jobs;
    j->link = &h->jobs;
    if (j->next) j->next->link = &j->next;
    h->jobs = j;
    return 1;
}

/* The rest of every function that starts a job: `good` is what checking its arguments came to. */
static napi_value job_go(napi_env env, job *j, handle *m, int good)
{
    if (good && j->work != OPEN && (m->closed || !m->model))
        good = fail(env, KALM_BAD_ARGUMENT, m->closed ? "this Kalm was freed" : "the model is not open") != NULL;
    if (good && job_start(env, j, m)) return undefined(env);
    job_free(j);
    return NULL;
}

/* A Uint8Array with a copy of `size` bytes. */
static napi_value bytes_new(napi_env env, const void *data, size_t size)
{
    napi_value buffer, array;
    void *at = NULL;
    if (napi_create_arraybuffer(env, size, &at, &buffer) != napi_ok
        || napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &array) != napi_ok) return broken(env);
    if (size) memcpy(at, data, size);
    return array;
}

/* What a job that went well hands over. */
static napi_value job_value(napi_env env, job *j)
{
    napi_value count;
    size_t i;
    if (j->work == OPEN) {
        handle *m = j->of;
        int64_t now;
        m->model = j->model;
        m->ctx = j->ctx;
        m->working = j->working;
        m->threads = j->config.threads ? j->config.threads : kalm__cores();
        m->kernels = kalm_kernels(0);
        for (i = 0; j->config.kernels && kalm_kernels(i); i++)
            if (strcmp(kalm_kernels(i), j->config.kernels) == 0) m->kernels = kalm_kernels(i);
        m->told = (int64_t)(j->working + m->size);
        napi_adjust_external_memory(env, m->told, &now);
        j->model = NULL;
        j->ctx = NULL;
        return undefined(env);
    }
    if (j->work == RERANK) return bytes_new(env, j->scores, j->documents.count * sizeof *j->scores);
    made_free(j->of);
    j->of->made = j->docs;
    j->of->made_count = j->documents.count;
    j->docs = NULL;
    return napi_create_double(env, (double)j->of->made_count, &count) == napi_ok ? count : broken(env);
}

/* Call back with (error code or null, message or null, result), or, `part` not NULL, with (part). What the callback throws is
   native.mjs's mistake and is dropped: an exception may not stay. */
static void tell(napi_env env, job *j, const double *part)
{
    napi_handle_scope scope;
    napi_value argv[3], callback, global, out;
    size_t count = 3;
    bool pending = false;
    if (napi_open_handle_scope(env, &scope) != napi_ok) return;
    argv[0] = argv[1] = argv[2] = NULL;
    if (part) {
        count = 1;
        napi_create_double(env, *part, &argv[0]);
    } else {
        napi_value value = j->result ? undefined(env) : job_value(env, j);
        const char *code = codes[j->result], *text = j->err.text;
        if (!value) {
            napi_value dropped;
            napi_get_and_clear_last_exception(env, &dropped);
            code = "NO_MEMORY";
            text = "Node has no memory for the result";
            value = undefined(env);
        }
        argv[2] = value;
        if (j->result || code != codes[0]) {
            napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &argv[0]);
            napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &argv[1]);
        } else {
            napi_get_null(env, &argv[0]);
            napi_get_null(env, &argv[1]);
        }
    }
    if (argv[0] && (count == 1 || argv[1]) && napi_get_reference_value(env, j->callback, &callback) == napi_ok && callback
        && napi_get_global(env, &global) == napi_ok)
        napi_call_function(env, global, callback, count, argv, &out);
    napi_is_exception_pending(env, &pending);
    if (pending) napi_get_and_clear_last_exception(env, &out);
    napi_close_handle_scope(env, scope);
}

/* What a job wants of the event loop now. */
typedef struct wish {
    int    finished, news;
    double part;
} wish;

static wish take(job *j)
{
    wish w;
    pthread_mutex_lock(&j->home->lock);
    w.finished = j->finished;
    w.news = j->news && !j->cancel;
    w.part = j->part;
    j->news = 0;
    pthread_mutex_unlock(&j->home->lock);
    return w;
}

/* On the event loop, after a job has called wake(). env is NULL when the environment ends. Callbacks may close handles and start
   jobs, which come in at the front of the list: those that are there now are told once each. */
static void listen(napi_env env, napi_value callback, void *context, void *data)
{
    home *h = (home *)context;
    job *j, *next;
    (void)callback;
    (void)data;
    if (!env) return;
    pthread_mutex_lock(&h->lock);
    h->woken = 0;
    pthread_mutex_unlock(&h->lock);
    for (j = h->jobs; j; j = next) {
        wish w = take(j);
        if (!w.finished) {
            if (w.news) tell(env, j, &w.part);
            next = j->next;            /* only this function takes jobs out of the list */
            continue;
        }
        j->of->last = j->thread;
        j->of->has_last = 1;
        j->of->job = NULL;             /* the callback may start the next one */
        j->of->cached = j->cached;
        tell(env, j, NULL);
        next = j->next;
        handle_settle(j->of);
        job_free(j);
    }
    if (!h->jobs) napi_unref_threadsafe_function(env, h->wake);
}

/* ---- functions for native.mjs ---- */

/* create() -> a handle */
static napi_value f_create(napi_env env, napi_callback_info info)
{
    napi_value object;
    home *h = NULL;
    handle *m;
    (void)info;
    if (napi_get_instance_data(env, (void **)&h) != napi_ok || !h || napi_create_object(env, &object) != napi_ok) return broken(env);
    m = (handle *)calloc(1, sizeof *m);
    if (!m) return fail(env, KALM_NO_MEMORY, "no memory for the model");
    if (napi_wrap(env, object, m, collected, NULL, NULL) != napi_ok) {
        free(m);
        return broken(env);
    }
    m->home = h;
    m->next = h->handles;
    m->link = &h->handles;
    if (m->next) m->next->link = &m->next;
    h->handles = m;
    return napi_type_tag_object(env, object, &HANDLE_TAG) == napi_ok ? object : broken(env);
}

/* reserve(handle, size): memory for the bytes of a model that is no file */
static napi_value f_reserve(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS];
    handle *m;
    double size;
    if (!arguments(env, info, 2, argv) || !(m = handle_of(env, argv[0])) || !number(env, argv[1], 9007199254740991.0, &size)) return NULL;
    if (m->closed || m->memory || m->model || m->job) return fail(env, KALM_BAD_ARGUMENT, "this handle has a model already");
    m->memory = size < (double)(SIZE_MAX - 64) ? malloc((size_t)size + 64) : NULL;
    if (!m->memory) {
        char text[96];
        snprintf(text, sizeof text, "no memory for the %.0f bytes of the model", size);
        return fail(env, KALM_NO_MEMORY, text);
    }
    m->bytes = (unsigned char *)m->memory + (64 - (uintptr_t)m->memory % 64) % 64;
    m->size = (size_t)size;
    memset(m->bytes, 0, m->size < 64 ? m->size : 64);
    return undefined(env);
}

/* write(handle, at, bytes) into what was reserved */
static napi_value f_write(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS];
    handle *m;
    const void *data;
    size_t size;
    double at;
    if (!arguments(env, info, 3, argv) || !(m = handle_of(env, argv[0])) || !number(env, argv[1], 9007199254740991.0, &at)
        || !bytes_of(env, argv[2], &data, &size)) return NULL;
    if (!m->memory || m->model || m->job || at > (double)m->size || size > m->size - (size_t)at)
        return fail(env, KALM_BAD_ARGUMENT, "there is no room reserved for these bytes");
    if (size) memcpy(m->bytes + (size_t)at, data, size);
    return undefined(env);
}

/* Whether the callback wants to hear of progress too: true or false. */
static int listens(napi_env env, napi_value value, job *j)
{
    bool is = false;
    if (napi_get_value_bool(env, value, &is) != napi_ok) return wrong(env, "listens is true or false");
    j->listens = is;
    return 1;
}

/* open(handle, path or null, size, [threads, maxDocTokens, maxQueryTokens, cacheBytes, stateBits], kernels or null, read, verify, callback):
   the file, or the first `size` of the bytes that were written */
static napi_value f_open(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], words[2], limit;
    uint32_t *to[3];
    double size, cache;
    handle *m;
    uint32_t i;
    bool read = false, verify = false;
    job *j;
    int good;
    if (!arguments(env, info, 8, argv) || !(m = handle_of(env, argv[0])) || !(j = job_new(env, OPEN, argv[0], argv[7]))) return NULL;
    to[0] = &j->config.threads;
    to[1] = &j->config.max_doc_tokens;
    to[2] = &j->config.max_query_tokens;
    words[0] = argv[1];
    words[1] = argv[4];
    good = copy_words(env, words, 2, &j->words) && number(env, argv[2], 9007199254740991.0, &size);
    for (i = 0; good && i < 3; i++)
        good = napi_get_element(env, argv[3], i, &limit) == napi_ok ? number32(env, limit, to[i]) : wrong(env, "limits are an array");
    if (good) good = napi_get_element(env, argv[3], 3, &limit) == napi_ok && number(env, limit, 9007199254740991.0, &cache);
    if (good) good = napi_get_element(env, argv[3], 4, &limit) == napi_ok && number32(env, limit, &j->config.state_bits);
    if (good && (napi_get_value_bool(env, argv[5], &read) != napi_ok || napi_get_value_bool(env, argv[6], &verify) != napi_ok))
        good = wrong(env, "read and verify are true or false");
    if (good && (m->closed || m->model || (!j->words.items[0].data && (!m->memory || size > (double)m->size))))
        good = fail(env, KALM_BAD_ARGUMENT, m->closed ? "this Kalm was freed" : "this handle cannot be opened") != NULL;
    if (good && j->words.items[0].data && strlen(j->words.items[0].data) != j->words.items[0].size)
        good = fail(env, KALM_BAD_ARGUMENT, "the path has a NUL in it") != NULL;
    if (good) {
        j->config.cache_bytes = cache < (double)SIZE_MAX ? (size_t)cache : SIZE_MAX;
        j->config.load = read ? KALM_LOAD_READ : KALM_LOAD_MAP;
        j->verify = verify;
        if (!j->words.items[0].data && !m->job) m->size = (size_t)size;
    }
    return job_go(env, j, m, good);
}

/* encode(handle, texts, ratio, bits, flags, listens, callback): the callback gets how many documents there are, for take() */
static napi_value f_encode(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS];
    handle *m;
    job *j;
    int good;
    if (!arguments(env, info, 7, argv) || !(m = handle_of(env, argv[0])) || !(j = job_new(env, ENCODE, argv[0], argv[6]))) return NULL;
    good = copy_list(env, argv[1], &j->documents) && number32(env, argv[2], &j->params.ratio) && number32(env, argv[3], &j->params.bits)
           && number32(env, argv[4], &j->params.flags) && listens(env, argv[5], j);
    if (good && !(j->docs = (kalm_doc **)calloc(j->documents.count + 1, sizeof *j->docs)))
        good = fail(env, KALM_NO_MEMORY, "no memory for the documents of this call") != NULL;
    return job_go(env, j, m, good);
}

/* take(handle, i) -> the bytes of document i of the last encode(), once */
static napi_value f_take(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], array;
    uint32_t i;
    size_t size;
    const void *data;
    handle *m;
    if (!arguments(env, info, 2, argv) || !(m = open_handle(env, argv[0])) || !number32(env, argv[1], &i)) return NULL;
    if (!m->made || i >= m->made_count || !m->made[i]) return fail(env, KALM_BAD_ARGUMENT, "there is no such document to take");
    data = kalm_doc_bytes(m->made[i], &size);
    array = bytes_new(env, data, size);
    kalm_doc_free(m->made[i]);
    m->made[i] = NULL;
    return array;
}

/* rerank(handle, [query, system or null, instruction or null], documents, isText, ratio, bits, flags, listens, callback): isText has a
   byte for each document; the callback gets the kalm_scores in a Uint8Array, in the order of the documents */
static napi_value f_rerank(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], words[3];
    const void *texts = NULL;
    size_t count = 0;
    handle *m;
    job *j;
    uint32_t i;
    int good = 1;
    if (!arguments(env, info, 9, argv) || !(m = handle_of(env, argv[0])) || !(j = job_new(env, RERANK, argv[0], argv[8]))) return NULL;
    for (i = 0; good && i < 3; i++) if (napi_get_element(env, argv[1], i, &words[i]) != napi_ok) good = wrong(env, "words are an array");
    good = good && copy_words(env, words, 3, &j->words) && copy_list(env, argv[2], &j->documents)
           && bytes_of(env, argv[3], &texts, &count) && number32(env, argv[4], &j->params.ratio)
           && number32(env, argv[5], &j->params.bits) && number32(env, argv[6], &j->params.flags) && listens(env, argv[7], j);
    if (good && (count != j->documents.count || !j->words.items[0].data)) good = wrong(env, "isText has a byte for each document");
    if (good) {
        j->is_text = (unsigned char *)calloc(count + 1, 1);
        j->docs = (kalm_doc **)calloc(count + 1, sizeof *j->docs);
        j->scores = (kalm_score *)calloc(count + 1, sizeof *j->scores);
        if (!j->is_text || !j->docs || !j->scores) good = fail(env, KALM_NO_MEMORY, "no memory for the documents of this call") != NULL;
        else if (count) memcpy(j->is_text, texts, count);
    }
    return job_go(env, j, m, good);
}

/* cancel(handle): its job stops after the layer of the model that it is in */
static napi_value f_cancel(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS];
    handle *m;
    if (!arguments(env, info, 1, argv) || !(m = handle_of(env, argv[0]))) return NULL;
    if (m->job && m->home) cancel(m->job);
    return undefined(env);
}

/* close(handle): twice is fine; a job is cancelled, and its end frees the memory */
static napi_value f_close(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS];
    handle *m;
    if (!arguments(env, info, 1, argv) || !(m = handle_of(env, argv[0]))) return NULL;
    m->closed = 1;
    if (m->job && m->home) cancel(m->job);
    handle_settle(m);
    return undefined(env);
}

static int put(napi_env env, napi_value object, const char *name, napi_value value)
{
    return napi_set_named_property(env, object, name, value) == napi_ok;
}
static int put_number(napi_env env, napi_value object, const char *name, double d)
{
    napi_value v;
    return napi_create_double(env, d, &v) == napi_ok && put(env, object, name, v);
}
static int put_text(napi_env env, napi_value object, const char *name, const char *text)
{
    napi_value v;
    return napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &v) == napi_ok && put(env, object, name, v);
}

/* info(handle) -> what KalmInfo of kalm.d.mts has */
static napi_value f_info(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], o, has, encoder, decoder, none;
    kalm_model_info i;
    char print[24], cut[24], version[24];
    uint32_t v = kalm_version();
    handle *m;
    if (!arguments(env, info, 1, argv) || !(m = open_handle(env, argv[0]))) return NULL;
    kalm_model_get_info(m->model, &i);
    snprintf(print, sizeof print, "%08lx%08lx", (unsigned long)(i.fingerprint >> 32), (unsigned long)(i.fingerprint & 0xffffffffu));
    snprintf(cut, sizeof cut, "%08lx%08lx", (unsigned long)(i.cut_vocabulary >> 32), (unsigned long)(i.cut_vocabulary & 0xffffffffu));
    snprintf(version, sizeof version, "%u.%u.%u", (unsigned)(v >> 16), (unsigned)(v >> 8 & 255), (unsigned)(v & 255));
    if (napi_create_object(env, &o) != napi_ok || !put_text(env, o, "name", i.name) || !put_text(env, o, "weights", i.weights)
        || !put_number(env, o, "vocabulary", i.vocabulary) || !put_number(env, o, "layers", i.layers)
        || !put_number(env, o, "width", i.width) || !put_number(env, o, "maxTokens", i.max_tokens)
        || napi_get_boolean(env, i.has_tokenizer != 0, &has) != napi_ok || !put(env, o, "hasTokenizer", has)
        || napi_get_boolean(env, i.has_encoder != 0, &encoder) != napi_ok || !put(env, o, "hasEncoder", encoder)
        || napi_get_boolean(env, i.has_decoder != 0, &decoder) != napi_ok || !put(env, o, "hasDecoder", decoder)
        || napi_get_null(env, &none) != napi_ok
        || !(i.cut_vocabulary ? put_text(env, o, "cutVocabulary", cut) : put(env, o, "cutVocabulary", none))
        || !put_number(env, o, "yesId", i.yes_id) || !put_number(env, o, "noId", i.no_id) || !put_number(env, o, "bytes", (double)i.bytes)
        || !put_text(env, o, "fingerprint", print) || !put_text(env, o, "build", "native") || !put_text(env, o, "kernels", m->kernels)
        || !put_number(env, o, "threads", m->threads) || !put_number(env, o, "memory", (double)m->working + (double)m->size + (double)m->cached)
        || !put_text(env, o, "version", version)) return broken(env);
    return o;
}

/* tokenize(handle, text, flags) -> Int32Array */
static napi_value f_tokenize(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], buffer, array = NULL;
    kalm_text text;
    kalm_error err;
    size_t count = 0, room;
    uint32_t flags;
    int32_t *ids;
    void *at;
    handle *m;
    kalm_result r;
    if (!arguments(env, info, 3, argv) || !(m = open_handle(env, argv[0])) || !number32(env, argv[2], &flags)
        || !copy_bytes(env, argv[1], &text)) return NULL;
    room = text.size + 16;             /* enough for all texts but odd ones */
    for (;;) {
        ids = room <= SIZE_MAX / sizeof *ids ? (int32_t *)malloc(room * sizeof *ids) : NULL;
        if (!ids) {
            free((void *)(uintptr_t)text.data);
            return fail(env, KALM_NO_MEMORY, "no memory for the tokens");
        }
        r = kalm_tokenize(m->model, text, flags, ids, room, &count, &err);
        if (r || count <= room) break;
        free(ids);
        room = count;
    }
    free((void *)(uintptr_t)text.data);
    if (r) fail(env, r, err.text);
    else if (napi_create_arraybuffer(env, count * sizeof *ids, &at, &buffer) != napi_ok
             || napi_create_typedarray(env, napi_int32_array, count, buffer, 0, &array) != napi_ok) array = broken(env);
    else if (count) memcpy(at, ids, count * sizeof *ids);
    free(ids);
    return array;
}

/* detokenize(handle, tokens): an Int32Array to the bytes of a text */
static napi_value f_detokenize(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], array;
    napi_typedarray_type type = napi_int8_array;
    bool is = false;
    size_t count = 0, size = 0;
    void *ids = NULL;
    char *text;
    kalm_error err;
    kalm_result r;
    handle *m;
    if (!arguments(env, info, 2, argv) || !(m = open_handle(env, argv[0]))) return NULL;
    if (napi_is_typedarray(env, argv[1], &is) != napi_ok || !is
        || napi_get_typedarray_info(env, argv[1], &type, &count, &ids, NULL, NULL) != napi_ok || type != napi_int32_array) {
        wrong(env, "tokens are an Int32Array");
        return NULL;
    }
    if (!ids) count = 0;
    r = kalm_detokenize(m->model, (const int32_t *)ids, count, NULL, 0, &size, &err);
    if (r) return fail(env, r, err.text);
    text = (char *)malloc(size + 1);
    if (!text) return fail(env, KALM_NO_MEMORY, "no memory for the text");
    r = kalm_detokenize(m->model, (const int32_t *)ids, count, text, size, &size, &err);
    array = r ? fail(env, r, err.text) : bytes_new(env, text, size);
    free(text);
    return array;
}

/* A document of a copy of the bytes: what a Uint8Array holds may be aligned in any way. */
static kalm_doc *document(napi_env env, handle *m, napi_value value)
{
    const void *data;
    size_t size;
    kalm_doc *doc = NULL;
    kalm_error err;
    kalm_result r;
    if (!bytes_of(env, value, &data, &size)) return NULL;
    r = kalm_doc_open(m->model, data ? data : "", size, 0, &doc, &err);
    if (r) fail(env, r, err.text);
    return doc;
}

/* docInfo(handle, bytes) -> { tokens, tokensUsed, rows, ratio, width, bits } */
static napi_value f_doc_info(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], o;
    kalm_doc_info i;
    kalm_doc *doc;
    handle *m;
    if (!arguments(env, info, 2, argv) || !(m = open_handle(env, argv[0])) || !(doc = document(env, m, argv[1]))) return NULL;
    kalm_doc_get_info(doc, &i);
    kalm_doc_free(doc);
    if (napi_create_object(env, &o) != napi_ok || !put_number(env, o, "tokens", i.tokens) || !put_number(env, o, "tokensUsed", i.tokens_used)
        || !put_number(env, o, "rows", i.rows) || !put_number(env, o, "ratio", i.ratio) || !put_number(env, o, "width", i.width)
        || !put_number(env, o, "bits", i.bits)) return broken(env);
    return o;
}

/* repool(handle, bytes, ratio, bits) -> bytes */
static napi_value f_repool(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS], array = NULL;
    uint32_t ratio, bits;
    kalm_doc *doc, *coarser = NULL;
    kalm_error err;
    kalm_result r;
    handle *m;
    if (!arguments(env, info, 4, argv) || !(m = open_handle(env, argv[0])) || !number32(env, argv[2], &ratio)
        || !number32(env, argv[3], &bits) || !(doc = document(env, m, argv[1]))) return NULL;
    r = kalm_doc_repool(m->model, doc, ratio, bits, &coarser, &err);
    if (r) fail(env, r, err.text);
    else {
        size_t size;
        const void *data = kalm_doc_bytes(coarser, &size);
        array = bytes_new(env, data, size);
    }
    kalm_doc_free(coarser);
    kalm_doc_free(doc);
    return array;
}

/* verify(handle): the whole file against its checksums, on the event loop as Kalm.verify is; open() has it as a job */
static napi_value f_verify(napi_env env, napi_callback_info info)
{
    napi_value argv[MOST_ARGUMENTS];
    kalm_error err;
    kalm_result r;
    handle *m;
    if (!arguments(env, info, 1, argv) || !(m = open_handle(env, argv[0]))) return NULL;
    r = kalm_model_verify(m->model, &err);
    return r ? fail(env, r, err.text) : undefined(env);
}

NAPI_MODULE_INIT()
{
    static const struct { const char *name; napi_callback call; } functions[] = {
        { "create", f_create }, { "reserve", f_reserve }, { "write", f_write }, { "open", f_open }, { "encode", f_encode },
        { "take", f_take }, { "rerank", f_rerank }, { "cancel", f_cancel }, { "close", f_close }, { "info", f_info }, { "tokenize", f_tokenize },
        { "detokenize", f_detokenize }, { "docInfo", f_doc_info }, { "repool", f_repool }, { "verify", f_verify }
    };
    napi_value name, one;
    home *h = (home *)calloc(1, sizeof *h);
    size_t i;
    if (!h) return fail(env, KALM_NO_MEMORY, "no memory for the addon");
    if (pthread_mutex_init(&h->lock, NULL)) {
        free(h);
        return fail(env, KALM_NO_MEMORY, "no lock for the addon");
    }
    h->env = env;
    if (napi_set_instance_data(env, h, home_free, NULL) != napi_ok) {
        home_free(env, h, NULL);
        return broken(env);
    }
    if (napi_create_string_utf8(env, "kalm-rerank", NAPI_AUTO_LENGTH, &name) != napi_ok
        || napi_create_threadsafe_function(env, NULL, NULL, name, 0, 1, NULL, NULL, h, listen, &h->wake) != napi_ok
        || napi_unref_threadsafe_function(env, h->wake) != napi_ok
        || napi_add_env_cleanup_hook(env, ended, h) != napi_ok) return broken(env);    /* runs before that of `wake` */
    for (i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &one) != napi_ok
            || napi_set_named_property(env, exports, functions[i].name, one) != napi_ok) return broken(env);
    return exports;
}
