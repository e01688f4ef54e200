/* server_http.h - HTTP: libmicrohttpd's threads read requests and write answers here; nothing in this file computes. A
   request that is to be computed is suspended, given to the queue (server_queue.h), and goes on when its job is finished.

   Connections are accepted by a thread of our own. libmicrohttpd could do that too, but how it stops doing it
   (MHD_quiesce_daemon, as of 0.9.75) may end the program where one of its threads is at work at that moment.

   libmicrohttpd does not look at a suspended connection, and its time-out starts anew with every byte. So the program's main
   thread calls http_watch ten times a second: a client that hung up loses its place in the queue, and one that sends or takes
   its bytes too slowly is cut off. */
#ifndef KALM_SERVER_HTTP_H
#define KALM_SERVER_HTTP_H

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include "server_queue.h"
#include "server_log.h"

typedef enum place { AT_NONE, AT_RERANK, AT_SCORE, AT_DOCUMENTS, AT_HEALTH, AT_MODELS, AT_METRICS, AT_INFO } place;

static const struct { const char *name; place at; const char *methods; } http_places[] = {
    { "rerank", AT_RERANK, "POST" }, { "reranking", AT_RERANK, "POST" }, { "score", AT_SCORE, "POST" },
    { "documents", AT_DOCUMENTS, "GET, HEAD, POST, DELETE" }, { "health", AT_HEALTH, "GET, HEAD" },
    { "models", AT_MODELS, "GET, HEAD" }, { "metrics", AT_METRICS, "GET, HEAD" }, { "info", AT_INFO, "GET, HEAD" }
};

/* An open connection, from accept to close. */
typedef enum peer_state { PEER_READING, PEER_WORKING, PEER_WRITING, PEER_IDLE } peer_state;
typedef struct peer {
    struct peer *before, *after;
    int          fd, cut;              /* cut: it was told to go */
    peer_state   state;
    double       since;                /* of the state */
    uint64_t     bytes;                /* that were read or are to be written in this state */
} peer;

typedef struct server {
    const server_options *o;
    kalm_model_info   info;
    server_queue      queue;
    kept_store        kept;
    server_metrics    metrics;
    server_log        log;
    struct MHD_Daemon *daemon;
    char            **key;             /* [keys] what Authorization may carry; keys 0: anything */
    size_t            keys;
    int               local;           /* for this machine alone, without keys: see http__host_good */
    double            started;
    uint64_t          seed, requests;  /* of request ids */
    pthread_mutex_t   lock;            /* of what follows */
    peer             *peers;
    struct exchange  *working;         /* suspended: their jobs are in the queue or the store */
    size_t            connections, exchanges, body_bytes;
    int               draining;
    pthread_t         accepting;
    int               listens;         /* a socket, until the server drains */
} server;

/* One request and its answer. */
typedef struct exchange {
    server        *s;
    peer          *peer;
    struct MHD_Connection *c;
    struct exchange *before, *after;   /* in server.working */
    place          at;
    const char    *name;               /* of the place, for metrics */
    char           method[12], path[256], id[40];
    char           client[160];        /* who asks, in lower case: see form_of_body */
    int            form;               /* that the path names; -1: none */
    const char    *rest;               /* of the path: a document's id; in `whole` */
    char          *whole;              /* a copy of the path, owned */
    char          *body;               /* [size], owned */
    size_t         size, room;
    int            started;            /* the body is read, the job begun */
    int            cors;               /* a page of an allowed origin asks */
    int            huge;               /* the body is larger than what is read to be thrown away, or nobody can say where it ends */
    job            j;
    double         arrived;
    size_t         sent;
} exchange;

/* What may be done at a place. */
KALM__FN const char *http__methods(place at)
{
    size_t i;
    for (i = 0; i < sizeof http_places / sizeof *http_places; i++)
        if (http_places[i].at == at) return http_places[i].methods;
    return "GET, HEAD, POST";
}

/* Is the method one of those of the place? */
KALM__FN int http__allows(place at, const char *method)
{
    const char *p = http__methods(at);
    size_t n = strlen(method);
    while (*p) {
        size_t size = strcspn(p, ",");
        if (size == n && !memcmp(p, method, n)) return 1;
        p += size;
        p += strspn(p, ", ");
    }
    return 0;
}

KALM__FN int http__draining(server *s)
{
    int draining;
    pthread_mutex_lock(&s->lock);
    draining = s->draining;
    pthread_mutex_unlock(&s->lock);
    return draining;
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

KALM__FN enum MHD_Result http_send(exchange *e, int status, char *body, size_t size, const char *type)
{
    enum MHD_Result r;
    char text[32];
    struct MHD_Response *response = MHD_create_response_from_buffer(size, body, MHD_RESPMEM_MUST_FREE);
    int draining;
    if (!response) {
        free(body);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "X-Request-Id", e->id);
    if (status == 200 && e->j.kind == JOB_RERANK && e->at < AT_DOCUMENTS) {      /* for forms that have no place for warnings */
        size_t documents;
        int query;
        form_cuts(&e->j, &documents, &query);
        snprintf(text, sizeof text, "%lu", (unsigned long)documents);
        if (documents) MHD_add_response_header(response, "X-Cut-Documents", text);
        if (query) MHD_add_response_header(response, "X-Cut-Query", "1");
    }
    if (e->j.retry_after > 0 || status == 503) {
        snprintf(text, sizeof text, "%.0f", e->j.retry_after > 1 ? e->j.retry_after + 0.5 : 1.0);
        MHD_add_response_header(response, "Retry-After", text);
    }
    if (status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == 405 || !strcmp(e->method, "OPTIONS"))
        MHD_add_response_header(response, "Allow", http__methods(e->at));
    if (e->cors) {
        MHD_add_response_header(response, "Access-Control-Allow-Origin", e->s->o->allow_origin);
        MHD_add_response_header(response, "Vary", "Origin");
        MHD_add_response_header(response, "Access-Control-Allow-Headers", "Authorization, Content-Type");
        MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST, DELETE");
    }
    pthread_mutex_lock(&e->s->lock);
    draining = e->s->draining;
    if (e->peer) e->peer->state = PEER_WRITING, e->peer->since = kalm__now(), e->peer->bytes = size;
    pthread_mutex_unlock(&e->s->lock);
    if (draining) MHD_add_response_header(response, "Connection", "close");
    e->sent = size;
    e->j.status = status;
    r = MHD_queue_response(e->c, (unsigned)status, response);
    MHD_destroy_response(response);
    return r;
}

/* An answer that was printed, where there was memory for all of it: half an answer is none. */
KALM__FN enum MHD_Result http__send_printed(exchange *e, int status, memory_out *m, const char *type)
{
    size_t size = m->size;
    char *body = memory_out_end(m);
    return body ? http_send(e, status, body, size, type) : MHD_NO;
}

/* The connection is closed where there is no memory even for this. */
KALM__FN enum MHD_Result http_send_error(exchange *e, int status)
{
    memory_out m;
    memset(&m, 0, sizeof m);
    form_print_error(e->j.form ? e->j.form : e->form >= 0 ? &forms[e->form] : NULL, status, e->j.why, &m);
    return http__send_printed(e, status, &m, "application/json");
}

/* Its job is done, and there is no memory to say so. */
KALM__FN enum MHD_Result http__no_answer(exchange *e)
{
    e->j.status = 0;
    job_fail(&e->j, 503, "there is no memory for the answer");
    return http_send_error(e, 503);
}

KALM__FN enum MHD_Result http_send_ranking(exchange *e)
{
    memory_out m;
    uint32_t *order = (uint32_t *)malloc((e->j.count + 1) * sizeof *order);
    memset(&m, 0, sizeof m);
    if (order && form_order(&e->j, order)) form_print_ranking(&e->j, e->id, e->s->info.name, order, &m);
    else m.lost = 1;
    free(order);
    if (!m.lost) return http__send_printed(e, 200, &m, "application/json");
    free(memory_out_end(&m));
    return http__no_answer(e);
}

/* ---- what needs no queue ----------------------------------------------------------------------------------------- */

KALM__FN uint32_t http__doc_tokens(const server *s)
{
    return s->o->config.max_doc_tokens ? s->o->config.max_doc_tokens : (uint32_t)kalm__min(1024, s->info.max_tokens);
}

KALM__FN void http__print_health(server *s, memory_out *to)
{
    json_out out;
    size_t waiting;
    pthread_mutex_lock(&s->queue.lock);
    waiting = s->queue.waiting;
    pthread_mutex_unlock(&s->queue.lock);
    json_begin_memory(&out, to);
    json_open(&out, '{');
    json_key(&out, "status"), json_text(&out, kalm__text(http__draining(s) ? "draining" : "ok"));
    json_key(&out, "model"), json_text(&out, kalm__text(s->info.name));
    json_key(&out, "queue"), json_uint(&out, waiting);
    json_key(&out, "uptime_seconds"), json_float(&out, kalm__now() - s->started, 6);
    json_close(&out);
}

KALM__FN void http__print_models(server *s, memory_out *to)
{
    json_out out;
    json_begin_memory(&out, to);
    json_open(&out, '{');
    json_key(&out, "object"), json_text(&out, kalm__text("list"));
    json_key(&out, "data"), json_open(&out, '[');
    json_open(&out, '{');
    json_key(&out, "id"), json_text(&out, kalm__text(s->info.name));
    json_key(&out, "object"), json_text(&out, kalm__text("model"));
    json_key(&out, "created"), json_uint(&out, (uint64_t)time(NULL) - (uint64_t)(kalm__now() - s->started));
    json_key(&out, "owned_by"), json_text(&out, kalm__text("kalm"));
    json_key(&out, "weights"), json_text(&out, kalm__text(s->info.weights));
    json_key(&out, "max_doc_tokens"), json_uint(&out, http__doc_tokens(s));
    json_close(&out);
    json_close(&out);
    json_close(&out);
}

/* As text-embeddings-inference has it, for clients that ask before they begin. */
KALM__FN void http__print_info(server *s, memory_out *to)
{
    char version[32];
    json_out out;
    snprintf(version, sizeof version, "%d.%d.%d", KALM_VERSION_MAJOR, KALM_VERSION_MINOR, KALM_VERSION_PATCH);
    json_begin_memory(&out, to);
    json_open(&out, '{');
    json_key(&out, "model_id"), json_text(&out, kalm__text(s->info.name));
    json_key(&out, "model_dtype"), json_text(&out, kalm__text(s->info.weights));
    json_key(&out, "model_type"), json_raw(&out, "{\"reranker\": {\"id2label\": {\"0\": \"yes\"}, \"label2id\": {\"yes\": 0}}}");
    json_key(&out, "max_concurrent_requests"), json_uint(&out, s->o->queue);
    json_key(&out, "max_input_length"), json_uint(&out, http__doc_tokens(s));
    json_key(&out, "max_batch_tokens"), json_uint(&out, s->o->tokens);
    json_key(&out, "max_client_batch_size"), json_uint(&out, s->o->documents);
    json_key(&out, "auto_truncate"), json_bool(&out, 1);
    json_key(&out, "version"), json_text(&out, kalm__text(version));
    json_close(&out);
}

KALM__FN void http__print_metrics(server *s, memory_out *to)
{
    metrics_now n;
    memset(&n, 0, sizeof n);
    pthread_mutex_lock(&s->lock);
    n.connections = s->connections;
    n.body_bytes = s->body_bytes;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_lock(&s->queue.lock);
    n.waiting = s->queue.waiting;
    n.cache_bytes = s->queue.cache.bytes;
    n.cache_limit = s->queue.cache.limit;
    n.cache_states = s->queue.cache.documents;
    n.cache_dropped = s->queue.cache.dropped;
    pthread_mutex_unlock(&s->queue.lock);
    pthread_mutex_lock(&s->log.lock);
    n.log_dropped = s->log.dropped;
    pthread_mutex_unlock(&s->log.lock);
    n.queue_limit = s->o->queue;
    n.started = s->started;
    n.model = s->info.name;
    n.weights = s->info.weights;
    metrics_print(&s->metrics, &n, to);
}

KALM__FN enum MHD_Result http__page(exchange *e)
{
    memory_out m;
    server *s = e->s;
    memset(&m, 0, sizeof m);
    if (e->at == AT_HEALTH) http__print_health(s, &m);
    else if (e->at == AT_MODELS) http__print_models(s, &m);
    else if (e->at == AT_INFO) http__print_info(s, &m);
    else http__print_metrics(s, &m);
    if (m.lost) {
        free(memory_out_end(&m));
        return http__no_answer(e);
    }
    return http__send_printed(e, e->at == AT_HEALTH && http__draining(s) ? 503 : 200, &m,
                              e->at == AT_METRICS ? "text/plain; version=0.0.4" : "application/json");
}

/* ---- from a request to its job ----------------------------------------------------------------------------------- */

/* The documents of POST /v1/documents: an array of {id, text, title, metadata}, or arrays ids, texts and metadata. */
KALM__FN int http__read_documents(exchange *e)
{
    job *j = &e->j;
    json_t *list = json_member(j->body, "documents"), *ids = json_member(j->body, "ids"), *texts = json_member(j->body, "texts");
    json_t *metadatas = json_member(j->body, "metadata"), *seen, *v, *metadata;
    size_t i, n = json_array_size(list ? list : ids);
    char *dump;
    if (!metadatas) metadatas = json_member(j->body, "metadatas");
    j->kind = JOB_ADD;
    if (list && (ids || texts || metadatas)) return job_fail(j, 400, "documents, or ids and texts and metadata, not both");
    if (!list && (!ids || !texts))
        return job_fail(j, 400, "documents must be an array of {\"id\", \"text\"}, or ids and texts two arrays");
    if (!form__count(j, list ? list : ids, list ? "documents" : "ids", e->s->o->documents)) return 0;
    if (!list && (json_array_size(texts) != n || (metadatas && json_array_size(metadatas) != n)))
        return job_fail(j, 400, "ids, texts and metadata must be arrays of the same length");
    if (!form__rooms(j, 0, n)) return 0;
    if (!list && !form_take_keys(j, ids, "ids")) return 0;
    seen = json_object();
    for (i = 0; i < n && !j->status; i++) {
        job_document *d = &j->doc[i];
        const char *at = list ? "documents" : "texts";
        json_t *one = json_array_get(list ? list : texts, i), *text = list ? json_object_get(one, "text") : one;
        if (list) {
            v = json_object_get(one, "id");
            if (!json_is_string(v) || !json_string_length(v) || memchr(json_string_value(v), 0, json_string_length(v)))
                job_fail(j, 400, "documents[%lu] needs an \"id\": a string with no NUL in it, and not empty", (unsigned long)i);
            else d->key = json_string_text(v);
            v = json_object_get(one, "title");
            if (v && !json_is_null(v) && !json_is_string(v))
                job_fail(j, 400, "the title of documents[%lu] must be a string", (unsigned long)i);
            else if (json_is_string(v)) d->title = json_string_text(v);
        }
        metadata = list ? json_object_get(one, "metadata") : json_array_get(metadatas, i);
        if (!json_is_string(text)) job_fail(j, 400, "%s[%lu] needs a text", at, (unsigned long)i);
        else if (memchr(json_string_value(text), 0, json_string_length(text)) ||
                 memchr(d->title.data ? d->title.data : "", 0, d->title.size))
            job_fail(j, 400, "%s[%lu] has a NUL in its text, which cannot be kept", at, (unsigned long)i);
        else d->text = json_string_text(text);
        if (metadata && !json_is_null(metadata) && !json_is_object(metadata))
            job_fail(j, 400, "the metadata of %s[%lu] must be an object", at, (unsigned long)i);
        d->metadata = kalm__text("{}");
        if (!j->status && json_is_object(metadata)) {
            dump = json_dump_text(metadata);
            d->metadata = dump ? job_keep(j, dump, strlen(dump)) : kalm__text(NULL);
            free(dump);
            if (!d->metadata.data) job_fail(j, 503, "there is no memory for the documents");
        }
        if (j->status) break;
        if (json_object_get(seen, d->key.data)) job_fail(j, 400, "the id '%.120s' is there twice", d->key.data);
        else if (json_object_set_new(seen, d->key.data, json_true())) job_fail(j, 503, "there is no memory for the documents");
    }
    json_decref(seen);
    return !j->status;
}

/* The one document that the path names, or those of the body's ids. */
KALM__FN int http__read_keys(exchange *e)
{
    job *j = &e->j;
    json_t *ids;
    j->kind = JOB_DELETE;
    if (*e->rest) {
        if (!form__rooms(j, 0, 1)) return 0;
        j->doc[0].key = kalm__text(e->rest);
        return 1;
    }
    ids = json_member(j->body, "ids");
    if (!ids) return job_fail(j, 400, "say which: DELETE /v1/documents/ID, or a body {\"ids\": [...]}");
    return form__count(j, ids, "ids", e->s->o->documents) && form__rooms(j, 0, json_array_size(ids)) && form_take_keys(j, ids, "ids");
}

KALM__FN int http__read_list(exchange *e)
{
    const char *limit = MHD_lookup_connection_value(e->c, MHD_GET_ARGUMENT_KIND, "limit");
    const char *after = MHD_lookup_connection_value(e->c, MHD_GET_ARGUMENT_KIND, "after");
    char *end;
    job *j = &e->j;
    j->kind = *e->rest ? JOB_GET : JOB_LIST;
    j->list_limit = 100;
    if (!form__rooms(j, 0, *e->rest != 0)) return 0;
    if (*e->rest) j->doc[0].key = kalm__text(e->rest);
    if (limit) {
        unsigned long n = strtoul(limit, &end, 10);
        if (*limit < '0' || *limit > '9' || *end || !n || n > 1000)
            return job_fail(j, 400, "limit must be a whole number from 1 to 1000");
        j->list_limit = n;
    }
    if (after) {
        long long n = strtoll(after, &end, 10);
        if (*after < '0' || *after > '9' || *end || n > STORE_LAST_NUMBER)
            return job_fail(j, 400, "after must be the \"last\" of another answer");
        j->list_after = n;
    }
    return 1;
}

/* The body was not read, and err says why. Of a member that is there twice, jansson names short ones only; it stopped behind the
   second. */
KALM__FN int http__bad_json(exchange *e, const json_error_t *err)
{
    size_t end = err->position > 0 ? kalm__min((size_t)err->position, e->size) : 0, at, size;
    if (json_error_code(err) != json_error_duplicate_key || end < 2)
        return job_fail(&e->j, 400, "the body is no JSON: line %d, column %d: %s", err->line, err->column, err->text);
    for (at = --end; at && (e->body[at - 1] != '"' || (at > 1 && e->body[at - 2] == '\\')); at--) {}
    for (size = kalm__min(end - at, (size_t)120); size < end - at && size && ((unsigned char)e->body[at + size] & 0xc0) == 0x80; size--) {}
    return job_fail(&e->j, 400, "line %d, column %d: \"%.*s\" stands there twice, and nobody can know which is meant", err->line, err->column,
                    (int)size, e->body + at);
}

KALM__FN int http__parse(exchange *e)
{
    job *j = &e->j;
    json_error_t err;
    size_t most = (size_t)e->s->o->documents * 64 + 10000;
    if (e->size >= 3 && !memcmp(e->body, "\xef\xbb\xbf", 3)) memset(e->body, ' ', 3);       /* a byte order mark */
    if (!e->size) return job_fail(j, 400, "the body is empty: it must be a JSON object");
    if (json_tidy(e->body, e->size) > most)
        return job_fail(j, 413, "the body has more than %lu JSON values", (unsigned long)most);
    j->body = json_parse(e->body, e->size, &j->blocks, &err);
    if (!j->body && !err.text[0]) return job_fail(j, 503, "there is no memory for the request");
    if (!j->body) return http__bad_json(e, &err);
    if (!json_is_object(j->body)) return job_fail(j, 400, "the body must be a JSON object");
    return 1;
}

/* 0: e->j.status says what is wrong. */
KALM__FN int http__read_job(exchange *e)
{
    server *s = e->s;
    job *j = &e->j;
    int post = !strcmp(e->method, "POST"), good;
    j->arrived = e->arrived;
    j->limit = e->arrived + s->o->timeout;
    j->owner = e;
    if (e->at == AT_DOCUMENTS && !s->queue.kept)
        return job_fail(j, 404, "this server keeps no documents: it was started without --store");
    if (e->at == AT_DOCUMENTS && (post || e->method[0] == 'D') && s->kept.read_only)
        return job_fail(j, 403, "this server only reads its store");
    j->form = e->at == AT_SCORE ? &forms[FORM_SCORE] : e->form >= 0 ? &forms[e->form] : &forms[FORM_ANY];
    if (e->size || post) {
        if (!http__parse(e)) return 0;
        if (e->at == AT_RERANK && e->form < 0) j->form = &forms[form_of_body(j->body, e->client)];
        if (!form_check_names(j)) return 0;
    }
    if (e->at == AT_DOCUMENTS && post) good = http__read_documents(e);
    else if (e->at == AT_DOCUMENTS) good = e->method[0] == 'D' ? http__read_keys(e) : http__read_list(e);
    else good = form_read_rerank(j, s->o->documents);
    if (good && j->by_key && !s->queue.kept)
        return job_fail(j, 404, "this server keeps no documents: it was started without --store");
    return good;
}

/* The body is there: begin. */
KALM__FN enum MHD_Result http__begin(exchange *e)
{
    server *s = e->s;
    e->started = 1;
    if (e->j.status) return http_send_error(e, e->j.status);
    if (!strcmp(e->method, "OPTIONS")) return http_send(e, 204, NULL, 0, "text/plain");
    if (e->at >= AT_HEALTH) return http__page(e);
    if (!http__read_job(e)) return http_send_error(e, e->j.status ? e->j.status : 500);
    MHD_suspend_connection(e->c);
    pthread_mutex_lock(&s->lock);
    if (e->peer) e->peer->state = PEER_WORKING;
    e->before = NULL;
    e->after = s->working;
    if (s->working) s->working->before = e;
    s->working = e;
    pthread_mutex_unlock(&s->lock);
    if (!queue_add(&s->queue, &e->j, &e->j.retry_after)) {
        job_fail(&e->j, 503, http__draining(s) ? "the server is ending" : "%lu requests are waiting already: try again later",
                 (unsigned long)s->o->queue);
        metrics_add(&s->metrics, &s->metrics.refused, 1);
        s->queue.finished(&e->j);
    }
    return MHD_YES;
}

/* The job is finished, on the queue's or the store's thread: libmicrohttpd calls the handler again. */
KALM__FN void http_finished(job *j)
{
    exchange *e = (exchange *)j->owner;
    server *s = e->s;
    pthread_mutex_lock(&s->lock);
    if (e->before) e->before->after = e->after;
    else s->working = e->after;
    if (e->after) e->after->before = e->before;
    pthread_mutex_unlock(&s->lock);
    MHD_resume_connection(e->c);
}

KALM__FN void http_stored(job *j) { queue_finish(&((exchange *)j->owner)->s->queue, j); }

/* ---- the first look at a request --------------------------------------------------------------------------------- */

/* The place that the path names. Segments before it are versions and names of forms, as base URLs have them: users put /v1
   there or leave it out, so that clients ask for /v1/rerank, /rerank and /v1/v1/rerank. */
KALM__FN void http__route(exchange *e)
{
    const char *p = e->whole;
    size_t n, i;
    e->form = -1;
    e->rest = "";
    for (;;) {
        while (*p == '/') p++;
        n = strcspn(p, "/");
        if (!n) return;
        for (i = 0; i < sizeof http_places / sizeof *http_places; i++)
            if (strlen(http_places[i].name) == n && !memcmp(http_places[i].name, p, n)) break;
        if (i < sizeof http_places / sizeof *http_places) break;
        if (n == 2 && !memcmp(p, "v2", 2)) e->form = FORM_COHERE2;
        else if (n == 2 && !memcmp(p, "v1", 2)) e->form = e->form == FORM_COHERE2 ? -1 : e->form;
        else if (form_named(p, n) >= 0) e->form = form_named(p, n) == FORM_ANY ? -1 : form_named(p, n);
        else if (n != 3 || memcmp(p, "api", 3) != 0) return;
        p += n;
    }
    p += n;
    e->name = http_places[i].name;
    e->at = http_places[i].at;
    while (*p == '/') p++;
    e->rest = p;
    if (e->at != AT_DOCUMENTS && *p) e->at = AT_NONE, e->name = "other";
}

KALM__FN const char *http__header(exchange *e, const char *name)
{
    return MHD_lookup_connection_value(e->c, MHD_HEADER_KIND, name);
}

/* Every key is compared to the end, so that the time tells nothing of where they differ. */
KALM__FN int http__key_good(exchange *e)
{
    const char *given = http__header(e, "Authorization");
    size_t k, i, n;
    int good = 0;
    if (!e->s->keys) return 1;
    if (!given || strncasecmp(given, "Bearer ", 7) != 0) given = "";
    else given += 7;
    n = strlen(given);
    for (k = 0; k < e->s->keys; k++) {
        const char *key = e->s->key[k];
        size_t size = strlen(key);
        unsigned differ = size != n;
        for (i = 0; i < size; i++) differ |= (unsigned)(unsigned char)(key[i] ^ given[i < n ? i : n]);
        good |= !differ;
    }
    return good;
}

/* Pages of other sites must not use the server of whoever looks at them: a browser says where a request comes from. */
KALM__FN int http__origin_good(exchange *e)
{
    const char *origin = http__header(e, "Origin"), *site = http__header(e, "Sec-Fetch-Site");
    const char *allowed = e->s->o->allow_origin;
    if (!origin && (!site || !strcmp(site, "none"))) return 1;
    e->cors = allowed && (!strcmp(allowed, "*") || (origin && !strcmp(origin, allowed)));
    return e->cors;
}

/* A page whose owner lets its name stand for 127.0.0.1, after it was loaded, is of no other site to the browser ("DNS rebinding"). It
   still calls the server by the page's name, which is none of this machine's. Numbers are no names. */
KALM__FN int http__host_good(exchange *e)
{
    const char *given = http__header(e, "Host"), *own[3];
    struct in6_addr number;
    char name[256];
    size_t n, i;
    if (!e->s->local || !given) return 1;              /* browsers always send it */
    own[0] = "localhost";
    own[1] = e->s->o->host;
    own[2] = e->s->o->allow_host ? e->s->o->allow_host : own[0];
    if (!strcmp(own[2], "*")) return 1;
    given += strspn(given, " \t");
    n = *given == '[' ? strcspn(++given, "]") : strcspn(given, ":");
    if (n >= sizeof name || (given[n] == ']' && given[n + 1] && given[n + 1] != ':')) return 0;
    memcpy(name, given, n);
    name[n] = 0;
    for (i = 0; i < 3; i++)
        if (!strcasecmp(name, own[i])) return 1;
    return inet_pton(AF_INET, name, &number) == 1 || inet_pton(AF_INET6, name, &number) == 1;
}

KALM__FN void http__client(exchange *e)
{
    static const char *const names[] = { "X-Fern-SDK-Name", "X-Client-Name", "User-Agent" };
    size_t i, n = 0, k;
    for (i = 0; i < 3; i++) {
        const char *v = http__header(e, names[i]);
        for (k = 0; v && v[k] && n + 2 < sizeof e->client; k++)
            e->client[n++] = (char)(v[k] >= 'A' && v[k] <= 'Z' ? v[k] + 32 : v[k]);
        e->client[n++] = ' ';
        if (n + 2 >= sizeof e->client) break;
    }
    e->client[n] = 0;
}

/* Counts the headers that say how long a body is. */
KALM__FN enum MHD_Result http__count_lengths(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind, (void)value;
    *(unsigned *)cls += !strcasecmp(name, "Content-Length") || !strcasecmp(name, "Transfer-Encoding");
    return MHD_YES;
}

/* What can be refused before the body is read. */
KALM__FN void http__look(exchange *e)
{
    server *s = e->s;
    job *j = &e->j;
    const char *length = http__header(e, "Content-Length"), *coding = http__header(e, "Content-Encoding");
    unsigned lengths = 0;
    e->huge = length && strtoull(length, NULL, 10) > (uint64_t)s->o->body_mb << 23;
    http__client(e);
    http__route(e);
    if (e->form < 0 && (e->at == AT_RERANK || e->at == AT_NONE)) {
        if (strstr(e->client, "voyage")) j->form = &forms[FORM_VOYAGE];
        else if (strstr(e->client, "cohere")) j->form = &forms[FORM_COHERE1];
    }
    if (e->at == AT_SCORE) j->form = &forms[FORM_SCORE];
    /* a proxy before the server may believe the other one, and take what follows for another client's request */
    MHD_get_connection_values(e->c, MHD_HEADER_KIND, http__count_lengths, &lengths);
    if (lengths > 1) e->huge = 1, job_fail(j, 400, "the request says more than once how long its body is");
    else if (!http__origin_good(e)) job_fail(j, 403, "pages of other sites may not ask (--allow-origin)");
    else if (!http__host_good(e)) job_fail(j, 403, "the Host of the request is no name of this machine (--allow-host)");
    else if (!e->at) job_fail(j, 404, "there is nothing at %.160s: see /v1/rerank, /v1/documents, /health, /metrics", e->whole);
    if (j->status) return;
    if (strcmp(e->method, "OPTIONS") != 0 && !http__allows(e->at, e->method))
        job_fail(j, 405, "%s takes %s", e->name, http__methods(e->at));
    else if (e->at == AT_DOCUMENTS && *e->rest && !strcmp(e->method, "POST"))
        job_fail(j, 405, "POST goes to /v1/documents, the ids into the body");
    else if (e->at != AT_HEALTH && strcmp(e->method, "OPTIONS") != 0 && !http__key_good(e))
        job_fail(j, 401, "the API key is missing or wrong: Authorization: Bearer KEY");
    else if (http__draining(s) && e->at < AT_HEALTH) job_fail(j, 503, "the server is ending");
    else if (coding && strcasecmp(coding, "identity") != 0) job_fail(j, 415, "the body may not be compressed");
    else if (length && strtoull(length, NULL, 10) > (uint64_t)s->o->body_mb << 20)
        job_fail(j, 413, "the body has %.40s bytes, this server takes %lu MiB", length, (unsigned long)s->o->body_mb);
}

/* A random-looking identifier, in the form of a UUID: not secret, only unlike others. */
KALM__FN void http__id(server *s, char id[40])
{
    unsigned char two[16];
    uint64_t a, b;
    pthread_mutex_lock(&s->lock);
    kalm__put_u64(two, s->seed);
    kalm__put_u64(two + 8, ++s->requests);
    pthread_mutex_unlock(&s->lock);
    a = kalm__hash(two, 16);
    kalm__put_u64(two, a);
    b = kalm__hash(two, 16);
    snprintf(id, 40, "%08lx-%04lx-4%03lx-%04lx-%012llx", (unsigned long)(a >> 32), (unsigned long)(a >> 16 & 0xffff),
             (unsigned long)(a & 0xfff), (unsigned long)(b >> 48 & 0x3fff) | 0x8000, (unsigned long long)(b & 0xffffffffffffULL));
}

/* ---- what libmicrohttpd calls ------------------------------------------------------------------------------------ */

/* Takes the escapes out of a path or an argument. libmicrohttpd's own function makes %00 the end of the text, so that DELETE
   /v1/documents/a%00b would take the document a: here such a text stays as it was sent, and names nothing. */
KALM__FN size_t http_unescape(void *cls, struct MHD_Connection *c, char *text)
{
    (void)cls, (void)c;
    return strstr(text, "%00") ? strlen(text) : MHD_http_unescape(text);
}

/* Bytes of a body; beyond the limits they are read and thrown away, since the answer comes after them. 0: no more of this. */
KALM__FN int http__upload(exchange *e, const char *data, size_t size)
{
    server *s = e->s;
    size_t limit = cmd_mebibytes(s->o->body_mb), room = e->room;
    uint64_t most = 8 * (uint64_t)limit;                   /* of a connection that is told no, and with a little more of all that are read */
    int full = 0;
    pthread_mutex_lock(&s->lock);
    if (e->peer) e->peer->bytes += size;
    if (e->peer && e->peer->bytes > most) full = 1;
    pthread_mutex_unlock(&s->lock);
    if (full) return 0;
    if (e->j.status) return 1;
    if (e->size + size > limit) {
        job_fail(&e->j, 413, "the body has more than the %lu MiB that this server takes", (unsigned long)s->o->body_mb);
        return 1;
    }
    if (e->size + size > room) {
        char *more;
        room = e->size + size > room * 2 ? e->size + size : room * 2;
        room = kalm__max(room, 4096);
        pthread_mutex_lock(&s->lock);
        full = (uint64_t)s->body_bytes + (room - e->room) > most + (64u << 20);
        if (!full) s->body_bytes += room - e->room;
        pthread_mutex_unlock(&s->lock);
        if (full) return job_fail(&e->j, 503, "too many requests are being read at the same time"), 1;
        more = (char *)realloc(e->body, room);
        if (!more) {
            pthread_mutex_lock(&s->lock);
            s->body_bytes -= room - e->room;
            pthread_mutex_unlock(&s->lock);
            return job_fail(&e->j, 503, "there is no memory for the body"), 1;
        }
        e->body = more;
        e->room = room;
    }
    memcpy(e->body + e->size, data, size);
    e->size += size;
    return 1;
}

KALM__FN enum MHD_Result http_handle(void *cls, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                                     const char *data, size_t *size, void **con_cls)
{
    server *s = (server *)cls;
    exchange *e = (exchange *)*con_cls;
    (void)version;
    if (!e) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        e = (exchange *)calloc(1, sizeof *e);
        if (!e) return MHD_NO;
        e->whole = (char *)malloc(strlen(url) + 1);
        if (!e->whole) {
            free(e);
            return MHD_NO;
        }
        strcpy(e->whole, url);
        *con_cls = e;
        e->s = s;
        e->c = c;
        e->peer = info ? (peer *)info->socket_context : NULL;
        e->arrived = kalm__now();
        e->name = "other";
        snprintf(e->method, sizeof e->method, "%s", method);
        snprintf(e->path, sizeof e->path, "%s", url);
        http__id(s, e->id);
        pthread_mutex_lock(&s->lock);
        s->exchanges++;
        if (e->peer && e->peer->state == PEER_IDLE) e->peer->state = PEER_READING, e->peer->since = e->arrived;
        if (e->peer) e->peer->bytes = 0;
        pthread_mutex_unlock(&s->lock);
        http__look(e);
        /* The answer comes behind the body, which is read and thrown away: a client that is still sending would take an early
           answer for a broken connection. But one that waits for leave to send is told at once, and so is one that has too
           much to send. */
        if (e->j.status && (http__header(e, "Expect") || e->huge)) {
            e->started = 1;
            return http_send_error(e, e->j.status);
        }
        return MHD_YES;
    }
    if (*size) {
        enum MHD_Result r = http__upload(e, data, *size) ? MHD_YES : MHD_NO;
        *size = 0;
        return r;
    }
    if (!e->started) return http__begin(e);
    if (e->j.gone) return MHD_NO;
    if (e->j.status != 200) return http_send_error(e, e->j.status);
    if (e->j.kind == JOB_RERANK) return http_send_ranking(e);
    data = e->j.answer;
    e->j.answer = NULL;
    return http_send(e, 200, (char *)(uintptr_t)data, strlen(data), "application/json");
}

/* A line of the log: who asked what, how it ended, how long it took. Texts only where --log-text asks for them. */
KALM__FN void http__log(exchange *e, int broken)
{
    char when[32];
    memory_out line;
    json_out out;
    const job *j = &e->j;
    if (!e->s->log.on) return;
    memset(&line, 0, sizeof line);
    log_time(when);
    json_begin_memory(&out, &line);
    json_open(&out, '{');
    json_key(&out, "time"), json_text(&out, kalm__text(when));
    json_key(&out, "id"), json_text(&out, kalm__text(e->id));
    json_key(&out, "method"), json_text(&out, kalm__text(e->method));
    json_key(&out, "path"), json_text(&out, kalm__text(e->path));
    if (j->form) json_key(&out, "form"), json_text(&out, kalm__text(j->form->name));
    json_key(&out, "status"), json_uint(&out, (uint64_t)(j->gone || !j->status ? 499 : j->status));
    if (j->count) json_key(&out, "documents"), json_uint(&out, j->count);
    if (j->tokens) json_key(&out, "tokens"), json_uint(&out, j->tokens);
    if (j->hits) json_key(&out, "warm"), json_uint(&out, j->hits);
    if (j->prepared) {
        json_key(&out, "waited_ms"), json_float(&out, j->waited * 1e3, 6);
        json_key(&out, "computed_ms"), json_float(&out, j->computed * 1e3, 6);
    }
    json_key(&out, "ms"), json_float(&out, (kalm__now() - e->arrived) * 1e3, 6);
    json_key(&out, "bytes_in"), json_uint(&out, e->size);
    json_key(&out, "bytes_out"), json_uint(&out, e->sent);
    if (broken) json_key(&out, "broken"), json_bool(&out, 1);
    if (j->why[0]) json_key(&out, "error"), json_text(&out, kalm__text(j->why));
    if (e->s->o->log_text && j->queries) json_key(&out, "query"), json_text(&out, j->query[0]);
    json_close(&out);
    (void)log_printed(&e->s->log, &line);
}

KALM__FN void http_completed(void *cls, struct MHD_Connection *c, void **con_cls, enum MHD_RequestTerminationCode why)
{
    server *s = (server *)cls;
    exchange *e = (exchange *)*con_cls;
    int status;
    (void)c;
    if (!e) return;
    *con_cls = NULL;
    status = e->j.gone || !e->j.status ? 499 : e->j.status;
    if (e->j.gone || (!e->j.status && why != MHD_REQUEST_TERMINATED_COMPLETED_OK))
        metrics_add(&s->metrics, &s->metrics.hung_up, 1);
    metrics_request(&s->metrics, e->name, e->j.form ? e->j.form->name : "", status, kalm__now() - e->arrived,
                    e->j.kind == JOB_RERANK && status == 200);
    http__log(e, why != MHD_REQUEST_TERMINATED_COMPLETED_OK);
    pthread_mutex_lock(&s->lock);
    s->exchanges--;
    s->body_bytes -= e->room;
    if (e->peer) e->peer->state = PEER_IDLE, e->peer->since = kalm__now();
    pthread_mutex_unlock(&s->lock);
    job_end(&e->j);
    free(e->body);
    free(e->whole);
    free(e);
}

KALM__FN void http_connection(void *cls, struct MHD_Connection *c, void **context, enum MHD_ConnectionNotificationCode what)
{
    server *s = (server *)cls;
    peer *p = (peer *)*context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        int on = 1;
        p = (peer *)calloc(1, sizeof *p);
        if (!p) return;
        p->fd = info ? info->connect_fd : -1;
        setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        p->since = kalm__now();
        pthread_mutex_lock(&s->lock);
        p->after = s->peers;
        if (s->peers) s->peers->before = p;
        s->peers = p;
        s->connections++;
        pthread_mutex_unlock(&s->lock);
        *context = p;
        return;
    }
    if (!p) return;
    pthread_mutex_lock(&s->lock);
    if (p->before) p->before->after = p->after;
    else s->peers = p->after;
    if (p->after) p->after->before = p->before;
    s->connections--;
    pthread_mutex_unlock(&s->lock);
    free(p);
    *context = NULL;
}

/* ---- accepting --------------------------------------------------------------------------------------------------- */

/* libmicrohttpd's threads take a moment to begin with a connection, and it counts from then on. So after some the thread waits for
   a millisecond, and libmicrohttpd, which closes what is too much for it, may have as many more than --connections says. */
enum { HTTP_BURST = 32, HTTP_MORE = 2 * HTTP_BURST };

/* Accepts connections until http_end_accepting shuts the socket down. Those beyond the limit wait in the system's queue. */
KALM__FN void *http__accept(void *arg)
{
    server *s = (server *)arg;
    unsigned long accepted = 0;
    for (;;) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        struct pollfd p;
        int fd, full, ending;
        p.fd = s->listens;
        p.events = POLLIN;
        p.revents = 0;
        pthread_mutex_lock(&s->lock);
        ending = s->draining;
        full = s->connections >= s->o->connections;
        pthread_mutex_unlock(&s->lock);
        if (ending) break;
        if (poll(full ? NULL : &p, full ? 0 : 1, full ? 20 : -1) <= 0) continue;
        fd = accept4(s->listens, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        /* no descriptor or no memory for one: others may close theirs; what else goes wrong is that connection's own end */
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) poll(NULL, 0, 20);
        if (fd < 0) continue;
        MHD_add_connection(s->daemon, fd, (struct sockaddr *)&from, size);         /* closes it where that fails */
        if (++accepted % HTTP_BURST == 0) poll(NULL, 0, 1);
    }
    return NULL;
}

KALM__FN void http_begin_accepting(server *s, int fd)
{
    s->listens = fd;
    if (pthread_create(&s->accepting, NULL, http__accept, s)) die("the system gives no thread to accept connections");
}

/* No new connections: clients are told at once, by the system. */
KALM__FN void http_end_accepting(server *s)
{
    pthread_mutex_lock(&s->lock);
    s->draining = 1;
    pthread_mutex_unlock(&s->lock);
    shutdown(s->listens, SHUT_RDWR);
    pthread_join(s->accepting, NULL);
    close(s->listens);
}

/* ---- the watch --------------------------------------------------------------------------------------------------- */

/* Seconds that a connection may stay idle, and the rate in bytes a second that it must keep beyond --read-timeout. */
enum { HTTP_IDLE = 75, HTTP_RATE = 10000 };

/* Called ten times a second: see the top. */
KALM__FN void http_watch(server *s)
{
    double now = kalm__now();
    exchange *e;
    peer *p;
    pthread_mutex_lock(&s->lock);
    for (e = s->working; e; e = e->after) {
        struct pollfd f;
        f.fd = e->peer ? e->peer->fd : -1;
        f.events = POLLRDHUP;
        f.revents = 0;
        if (e->peer && poll(&f, 1, 0) > 0 && f.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) {
            pthread_mutex_lock(&s->queue.lock);
            e->j.gone = 1;
            pthread_mutex_unlock(&s->queue.lock);
        }
    }
    for (p = s->peers; p; p = p->after) {
        double may = p->state == PEER_IDLE ? HTTP_IDLE : (double)s->o->read_timeout + (double)p->bytes / HTTP_RATE;
        if (p->cut || p->state == PEER_WORKING || now - p->since < may) continue;
        p->cut = 1;
        shutdown(p->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&s->lock);
}

#endif
