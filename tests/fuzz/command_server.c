/* command_server.c - what kalm-server makes of the body of a request, without sockets and without computing, as a command that
   fuzz_commands.h runs: REQUEST PLACE CLIENT BODY_FILE, see command_world.h. The job that a body becomes must be sound, and the answer
   or the error that its form is printed in must be JSON. */
#define _GNU_SOURCE                    /* as kalm_server.c */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
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
        form_print_error(j->form, j->status, j->why, &to);
    } else {
        if (j->status || !j->count || j->count > REQUEST_DOCUMENTS) return "a job of no document, or of too many";
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

int fuzz_main_request(int argc, char **argv)
{
    static const char *const paths[8] = { "/v1/rerank", "/v2/rerank", "/tei/rerank", "/jina/v1/rerank", "/voyage/rerank", "/score", "/v1/documents", "/v1/documents" };
    static server s;
    static server_options o;
    exchange e;
    FILE *f = argc == 4 ? fopen(argv[3], "rb") : NULL;
    const char *wrong;
    size_t place = argc == 4 ? (size_t)atoi(argv[1]) % 8 : 0;
    int good;
    if (!f) die("no body");
    memset(&e, 0, sizeof e);
    o.documents = REQUEST_DOCUMENTS;
    o.timeout = 60;
    s.o = &o;
    s.queue.kept = &s.kept;
    e.s = &s;
    e.form = -1;
    e.whole = (char *)paths[place];
    snprintf(e.method, sizeof e.method, "%s", place == 7 ? "DELETE" : "POST");
    snprintf(e.client, sizeof e.client, "%s", argv[2]);
    http__route(&e);
    e.room = 1 << 16;
    e.body = (char *)cmd_alloc(e.room);
    e.size = fread(e.body, 1, e.room, f);
    fclose(f);
    e.body = (char *)realloc(e.body, e.size ? e.size : 1);         /* to the byte, for the sanitizer */
    good = http__read_job(&e);
    wrong = request_check(&e, good, e.size);
    job_end(&e.j);
    free(e.body);
    if (wrong) die("broken promise: %s", wrong);
    return 0;
}
