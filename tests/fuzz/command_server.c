/* command_server.c - what kalm-server makes of a request, without sockets and without computing, as a command that fuzz_commands.h runs:
   REQUEST PLACE CLIENT FILE, see command_world.h. PLACE below 8: FILE is the body of a request to one of the places. Else FILE is a whole
   request, "METHOD PATH", lines "Name: value", an empty line and the body, as libmicrohttpd would hand it on; an argument of the path is
   a line "?name: value"; CLIENT says what the server demands: k a key, o that pages come from one site, s that it keeps documents. The job
   that a request becomes must be sound, and the answer or the error that its form is printed in must be JSON. */
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
    job_end(&e.j);
    free(e.body);
    free(file);
    if (wrong) die("broken promise: %s", wrong);
    return 0;
}
