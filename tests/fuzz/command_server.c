/* command_server.c - what kalm-server makes of a request, without sockets and without computing, as a command that fuzz_commands.h runs:
   REQUEST PLACE CLIENT FILE, see command_world.h. PLACE below 8: FILE is the body of a request to one of the places. Else FILE is a whole
   request, "METHOD PATH", lines "Name: value", an empty line and the body, as libmicrohttpd would hand it on; an argument of the path is
   a line "?name: value"; CLIENT says what the server demands: k a key, o that pages come from one site, s that it keeps documents. The job
   that a request becomes must be sound; the answer or the error that its form is printed in must be JSON, and so must the line of the log.

   And what it makes of the store that it keeps documents in, another command: KEPT MODEL STORE HOW. HOW has r for a store that is not
   written to, 8 for documents at ratio 8, and s where it was changed by statements of SQL alone: then what was added is there. */
#define _GNU_SOURCE                    /* as kalm_server.c */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
#include <microhttpd.h>
/* The lines of the request: names and values end with NULs. */
static struct { char *name, *value; } request_line[64];
static size_t request_lines;
static const char *request_value(const char *name, int is_argument)
{
    size_t i;
    for (i = 0; i < request_lines; i++)
        if ((*request_line[i].name == '?') == is_argument && !strcasecmp(request_line[i].name + is_argument, name)) return request_line[i].value;
    return NULL;
}
#define MHD_lookup_connection_value(connection, kind, name) request_value(name, (kind) == MHD_GET_ARGUMENT_KIND)
#define main fuzz_main_server
fuzz_main fuzz_main_server;
#include "../../examples/server/kalm_server.c"

enum { REQUEST_DOCUMENTS = 50 };       /* of one request at most */

/* The sizes of all texts of the job in one sum. */
static size_t request_bytes(const job *j)
{
    size_t i, sum = j->model.size + j->system.size + j->instruction.size;
    for (i = 0; i < j->queries; i++) sum += j->query[i].size;
    for (i = 0; i < j->count; i++) sum += j->doc[i].text.size + j->doc[i].key.size + j->doc[i].title.size + j->doc[i].metadata.size;
    return sum;
}

/* NULL, or what is wrong with text that was printed. */
static const char *request_printed(const char *text, size_t size)
{
    json_error_t err;
    json_t *v = json_loadb(text, size, JSON_ALLOW_NUL, &err);
    json_decref(v);
    return v ? NULL : "the answer is no JSON";
}

/* NULL, or the promise that is broken. */
static const char *request_check(exchange *e, int good, size_t size)
{
    job *j = &e->j;
    const char *wrong;
    char *text;
    size_t bytes, i;
    memory_out to;
    memset(&to, 0, sizeof to);
    if (!good) {
        if (j->status < 400 || j->status > 503 || !*j->why) return "a refusal without a status or a sentence";
        form_print_error(j->form ? j->form : e->form >= 0 ? &forms[e->form] : NULL, j->status, j->why, &to);
    } else {
        if (j->status || (!j->count && j->kind != JOB_LIST) || j->count > REQUEST_DOCUMENTS) return "a job of no document, or of too many";
        if (j->kind == JOB_RERANK && j->queries != 1 && j->queries != j->count) return "queries and documents do not fit";
        if (request_bytes(j) > 64 * size + 1024) return "the job's texts are larger than any body of that size";
        if (j->kind == JOB_RERANK) {
            uint32_t order[REQUEST_DOCUMENTS];
            for (i = 0; i < j->count; i++) {
                j->doc[i].margin = (float)((i * 7) % 5) - 2.0f;
                j->doc[i].score = 0.5f;
                j->doc[i].done = !j->has_deadline || i % 3;
                j->doc[i].cut = (uint32_t)(i % 4);
            }
            if (!form_order(j, order)) return "no memory";
            form_print_ranking(j, "r-1", "m", order, &to);
        } else memory_out_put(&to, "{}", 2);
    }
    bytes = to.size;
    text = memory_out_end(&to);
    if (!text) return "no memory";
    wrong = request_printed(text, bytes);
    free(text);
    return wrong;
}

/* The next line of *at, its end a NUL; NULL: it is the empty one, or there is none. */
static char *request_next(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (end) *end = 0;
    *at = end ? end + 1 : line + strlen(line);
    return *line ? line : NULL;
}

/* The head of a whole request, which begins at `at`; returns where its body begins. */
static char *request_head(exchange *e, char *at)
{
    char *line = request_next(&at), *path = line ? strchr(line, ' ') : NULL;
    if (!path) die("no request");
    *path++ = 0;
    snprintf(e->method, sizeof e->method, "%s", line);
    e->whole = path;
    for (request_lines = 0; request_lines < 64 && (line = request_next(&at)) != NULL; request_lines++) {
        char *value = strchr(line, ':');
        request_line[request_lines].name = line;
        if (value) *value++ = 0;
        else value = line + strlen(line);
        request_line[request_lines].value = value + (*value == ' ');
    }
    return at;
}

/* What the server answers by itself. NULL, or the promise that is broken. */
static const char *request_page(exchange *e)
{
    memory_out to;
    char *text;
    const char *wrong;
    size_t bytes;
    memset(&to, 0, sizeof to);
    if (e->at == AT_HEALTH) http__print_health(e->s, &to);
    else if (e->at == AT_MODELS) http__print_models(e->s, &to);
    else if (e->at == AT_INFO) http__print_info(e->s, &to);
    else http__print_metrics(e->s, &to);
    bytes = to.size;
    text = memory_out_end(&to);
    wrong = !text ? "no memory" : e->at == AT_METRICS ? NULL : request_printed(text, bytes);
    free(text);
    return wrong;
}

/* NULL, or what is wrong with the line of the log. */
static const char *request_logged(exchange *e)
{
    server_log *l = &e->s->log;
    static char lines[1 << 16];
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->some, NULL);
    l->on = 1;
    l->buffer = lines;                 /* no thread takes it from there */
    http__log(e, 0);
    if (l->dropped || !l->size || l->size > sizeof lines || l->buffer[l->size - 1] != '\n' || memchr(l->buffer, '\n', l->size - 1))
        return "what is logged is not one line";
    return request_printed(l->buffer, l->size);
}

/* ---- kept documents ------------------------------------------------------------------------------------------------------------ */

/* Does the store's thread's part of a job, whose document is `key`; ends with the broken promise where its answer is none. Returns the status. */
static int kept_asked(kept_store *k, job *j, job_kind kind, const char *key)
{
    const char *wrong = NULL;
    j->kind = kind;
    if (key && !j->doc) {
        j->doc = (job_document *)cmd_alloc(sizeof *j->doc);
        memset(j->doc, 0, sizeof *j->doc);
        j->count = 1;
        j->doc->key = kalm__text(key);
    }
    if (!j->status) kept__do(k, j);
    if (j->status == 200) wrong = request_printed(j->answer, strlen(j->answer));
    else if (j->status < 400 || j->status > 507 || !*j->why) wrong = "a refusal without a status or a sentence";
    if (wrong) die("broken promise: job %d: %s", (int)kind, wrong);
    return j->status;
}

/* What the queue reads of a document to rank it and to show it. */
static void kept_ranked(kept_store *k, kalm_context *ctx, const char *key, uint32_t ratio)
{
    job_document *d = (job_document *)cmd_alloc(sizeof *d);
    kept_rows rows = { NULL, 0, 0 };
    job j;
    size_t i;
    memset(&j, 0, sizeof j);
    memset(d, 0, sizeof *d);
    j.kind = JOB_RERANK;
    j.form = &forms[FORM_ANY];
    j.doc = d;
    j.count = 1;
    j.ratio = ratio;
    d->key = kalm__text(key);
    kept_open(k, &j, 0, &rows);
    for (i = 0; i < rows.count && !j.status; i++) {
        const kalm_doc *doc = rows.row[i].doc;
        kalm_score score;
        kalm_error err;
        if (kalm_rerank(ctx, kalm__text("ab"), &doc, 1, NULL, &score, &err)) {
            if (!strstr(err.text, "overflow")) die("broken promise: a document of the store is not ranked: %s", err.text);
        } else if (!(score.score >= 0 && score.score <= 1)) die("broken promise: a score of %g", (double)score.score);
        d->window = rows.row[i].window;
    }
    if (!j.status) kept_texts(k, &j);
    if (!j.status && store_bad_byte(d->text) != d->text.size) die("broken promise: a text that is no UTF-8");
    if (j.status && !*j.why) die("broken promise: status %d without a sentence", j.status);
    kept_close(&rows);
    job_end(&j);
}

/* Adds or replaces a document, as the queue and the store's thread do; returns the status. */
static int kept_added(kept_store *k, kalm_context *ctx, const char *key, kalm_text text)
{
    job j;
    int status;
    size_t n;
    memset(&j, 0, sizeof j);
    j.doc = (job_document *)cmd_alloc(sizeof *j.doc);
    memset(j.doc, 0, sizeof *j.doc);
    j.count = 1;
    j.doc->key = kalm__text(key);
    j.doc->title = kalm__text("t");
    j.doc->text = text;
    j.doc->metadata = kalm__text("{}");
    if (kept_known(k, &j, 0)) kept_split(k, &j, 0);
    for (n = 0; n < j.pieces && !j.status; n++) {
        kalm_params params;
        kalm_doc *doc;
        kalm_error err;
        memset(&params, 0, sizeof params);
        params.ratio = k->reader.meta.ratio;
        params.bits = k->reader.meta.bits;
        if (kalm_encode(ctx, &j.piece[n].encoded, 1, &params, &doc, &err)) job_fail(&j, 500, "%s", err.text);
        else kept_encoded(&j, n, doc);
    }
    status = kept_asked(k, &j, JOB_ADD, key);
    job_end(&j);
    return status;
}

/* Asks for a document; with `text` it must be that one. Returns the status. */
static int kept_there(kept_store *k, const char *key, const char *text)
{
    job j;
    json_error_t err;
    json_t *v;
    int status;
    memset(&j, 0, sizeof j);
    status = kept_asked(k, &j, JOB_GET, key);
    if (status == 200 && text) {
        v = json_loads(j.answer, JSON_ALLOW_NUL, &err);
        if (strcmp(json_string_value(json_object_get(v, "text")), text) != 0) die("broken promise: another text than was added");
        json_decref(v);
    }
    job_end(&j);
    return status;
}

int fuzz_main_kept(int argc, char **argv)
{
    static const char *const keys[4] = { "a", "b", "zz", "" };
    static const char added[] = "ab b. aba b ab";
    const char *how = argc == 4 ? argv[3] : "";
    int read_only = strchr(how, 'r') != NULL, sound = strchr(how, 's') != NULL, status;
    server_metrics metrics;
    kept_store k;
    store_meta meta;
    kalm_config config;
    kalm_model *model;
    kalm_context *ctx;
    kalm_error err;
    size_t i;
    cmd_name = "kalm-server";
    memset(&metrics, 0, sizeof metrics);
    memset(&meta, 0, sizeof meta);
    memset(&config, 0, sizeof config);
    config.threads = 1;
    pthread_mutex_init(&metrics.lock, NULL);
    if (argc != 4 || kalm_model_open(argv[1], &config, &model, &err)) die("no model");
    kept_begin(&k, argv[2], argv[1], model, read_only, &meta);
    config.max_doc_tokens = k.reader.meta.max_doc_tokens;
    k.metrics = &metrics;
    if (kalm_context_new(model, &config, &ctx, &err)) die("no context: %s", err.text);
    for (i = 0; i < 4; i++) {
        kept_ranked(&k, ctx, keys[i], strchr(how, '8') ? 8 : 0);
        kept_there(&k, keys[i], NULL);
    }
    for (i = 0; i < 3; i++) {
        job j;
        memset(&j, 0, sizeof j);
        j.list_limit = 2;
        j.list_after = i == 2 ? STORE_LAST_NUMBER : (int64_t)i;
        kept_asked(&k, &j, JOB_LIST, NULL);
        job_end(&j);
    }
    for (i = 0; i < 3 && !read_only; i += 2) {         /* another text of "a", and a new document */
        job j;
        status = kept_added(&k, ctx, keys[i], kalm__text(added));
        if (sound && status == 200 && kept_there(&k, keys[i], added) == 404) die("broken promise: what was added is not there");
        if (kept_added(&k, ctx, keys[i], kalm__text(added)) != status && sound) die("broken promise: the same ends differently the second time");
        memset(&j, 0, sizeof j);
        status = kept_asked(&k, &j, JOB_DELETE, keys[i]);
        job_end(&j);
        if (sound && status == 200 && kept_there(&k, keys[i], NULL) != 404) die("broken promise: what was deleted is there");
    }
    kalm_context_free(ctx);
    kept_shut(&k);
    kalm_model_close(model);
    return 0;
}

/* ---- requests -------------------------------------------------------------------------------------------------------------------- */

int fuzz_main_request(int argc, char **argv)
{
    static const char *const paths[8] = { "/v1/rerank", "/v2/rerank", "/tei/rerank", "/jina/v1/rerank", "/voyage/rerank", "/score", "/v1/documents", "/v1/documents" };
    static char *keys[2] = { (char *)"secret", (char *)"another" };
    static server s;
    static server_options o;
    exchange e;
    FILE *f = argc == 4 ? fopen(argv[3], "rb") : NULL;
    const char *wrong;
    size_t place = argc == 4 ? (size_t)atoi(argv[1]) : 0, size;
    char *file, *body;
    int good;
    if (!f) die("no request");
    memset(&e, 0, sizeof e);
    o.documents = REQUEST_DOCUMENTS;
    o.timeout = 60;
    o.body_mb = 1;
    o.allow_origin = place >= 8 && strchr(argv[2], 'o') ? "https://a.b" : NULL;
    s.o = &o;
    s.key = keys;
    s.keys = place >= 8 && strchr(argv[2], 'k') ? 2 : 0;
    s.info.name = "m";
    s.info.weights = "q8";
    s.queue.kept = place < 8 || strchr(argv[2], 's') ? &s.kept : NULL;
    e.s = &s;
    e.form = -1;
    file = (char *)cmd_alloc((1 << 16) + 1);
    size = fread(file, 1, 1 << 16, f);
    file[size] = 0;
    fclose(f);
    request_lines = 0;
    if (place < 8) {
        e.whole = (char *)(uintptr_t)paths[place];
        snprintf(e.method, sizeof e.method, "%s", place == 7 ? "DELETE" : "POST");
        snprintf(e.client, sizeof e.client, "%s", argv[2]);
        body = file;
        http__route(&e);
    } else {
        body = request_head(&e, file);
        http__look(&e);
    }
    e.size = size - (size_t)(body - file);
    e.body = (char *)malloc(e.size ? e.size : 1);                  /* to the byte, for the sanitizer */
    if (!e.body) die("no memory");
    memcpy(e.body, body, e.size);
    if (e.j.status) wrong = request_check(&e, 0, e.size);
    else if (!strcmp(e.method, "OPTIONS")) wrong = NULL;
    else if (e.at >= AT_HEALTH) wrong = request_page(&e);
    else {
        good = http__read_job(&e);
        wrong = request_check(&e, good, e.size + strlen(e.whole));
    }
    if (!wrong) wrong = request_logged(&e);
    job_end(&e.j);
    free(e.body);
    free(file);
    if (wrong) die("broken promise: %s", wrong);
    return 0;
}
