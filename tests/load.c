/* load.c - a load generator for kalm-server, beside the library alone: `make load`. One thread with epoll holds all connections,
   sends requests that are ready as bytes and reads no more of an answer than its status and length, so that it costs the machine
   little beside the server. What is compared with the library is measured in turns, a request and a call, and the best of many
   is taken: other programs can only make both slower. */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE                  /* memmem */
#endif
#include "../src/tools/command.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

typedef struct options {
    const char *model, *url, *corpus;
    uint32_t documents, words, clients, seconds, rounds, kept;
    kalm_config config;
} options;

static const cmd_option table[] = {
    CMD_TEXT("--corpus", "FILE", options, corpus, "texts to rank (JSON Lines)"),
    CMD_NUMBER("--documents", "N", options, documents, 1, 1000, "of a request (default 10)"),
    CMD_NUMBER("--words", "N", options, words, 1, 100000,
               "of each document, texts put together to that length (default: as they are)"),
    CMD_NUMBER("--clients", "N", options, clients, 1, 10000,
               "connections that ask at the same time, each again as soon as it is answered"),
    CMD_NUMBER("--seconds", "N", options, seconds, 1, 86400, "how long (default 10)"),
    CMD_NUMBER("--rounds", "N", options, rounds, 1, 1000000, "instead: one connection and the library in turns, so many times"),
    CMD_NUMBER("--kept", "MB", options, kept, 1, 1u << 20,
               "with --rounds: documents are kept, and both have a cache of so many MB"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "of the library (default: one for each core)")
};

static const cmd_program program = {
    "kalm-load", "MODEL.kalm http://127.0.0.1:PORT [--clients N | --rounds N]",
    "Ask a kalm-server, and measure.", table, sizeof table / sizeof *table, "", NULL
};

/* ---- connections ------------------------------------------------------------------------------------------------- */

typedef struct client {
    int    fd, status;
    size_t sent, got, body, head;      /* bytes: of the request, of the answer; its length once it is known; of its head */
    double began;
    char   answer[4096];               /* its beginning */
} client;

typedef struct request { char *bytes; size_t size; } request;

static struct sockaddr_in where;

static void make_request(request *r, const char *path, const char *body, size_t size)
{
    r->bytes = (char *)cmd_alloc(size + 256);
    r->size = (size_t)sprintf(r->bytes,
                              "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %lu\r\n\r\n",
                              path, (unsigned long)size);
    memcpy(r->bytes + r->size, body, size);
    r->size += size;
}

static void client_open(client *c, int events)
{
    int on = 1;
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&where, sizeof where)) die("cannot connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (events >= 0) {
        struct epoll_event e;
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        memset(&e, 0, sizeof e);
        e.events = EPOLLIN | EPOLLOUT | EPOLLET;
        e.data.ptr = c;
        if (epoll_ctl(events, EPOLL_CTL_ADD, c->fd, &e)) die("epoll: %s", strerror(errno));
    }
}

/* Send what is left of the request, read what is there of the answer. 1: the answer is whole; 0: not yet; -1: the connection
   broke. */
static int client_step(client *c, const request *r)
{
    char scrap[65536], *end, *length;
    while (c->sent < r->size) {
        ssize_t n = send(c->fd, r->bytes + c->sent, r->size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (n <= 0) return -1;
        c->sent += (size_t)n;
    }
    for (;;) {
        ssize_t n = recv(c->fd, scrap, sizeof scrap, 0);
        if (n < 0 && errno == EAGAIN) return 0;
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return -1;
        if (c->got < sizeof c->answer) memcpy(c->answer + c->got, scrap, kalm__min((size_t)n, sizeof c->answer - c->got));
        c->got += (size_t)n;
        if (!c->head) {
            size_t have = kalm__min(c->got, sizeof c->answer);
            end = (char *)memmem(c->answer, have, "\r\n\r\n", 4);
            if (!end) continue;
            c->head = (size_t)(end - c->answer) + 4;
            *end = 0;
            c->status = atoi(c->answer + 9);
            length = strcasestr(c->answer, "Content-Length:");
            if (!length) die("an answer without Content-Length");
            c->body = (size_t)strtoull(length + 15, NULL, 10);
        }
        if (c->got >= c->head + c->body) return 1;
    }
}

static void client_again(client *c)
{
    c->sent = c->got = c->body = c->head = 0;
    c->began = kalm__now();
}

/* One request on a connection that blocks; seconds. */
static double ask(client *c, const request *r, int want)
{
    int n;
    client_again(c);
    while (!(n = client_step(c, r))) {}
    if (n < 0) die("the server closed the connection");
    if (c->status != want) die("status %d: %.300s", c->status, c->answer + c->head);
    return kalm__now() - c->began;
}

/* A number of /metrics. */
static double metric(const char *name)
{
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char text[65536], line[80], *at;
    size_t size = 0;
    ssize_t n;
    client c;
    client_open(&c, -1);
    if (send(c.fd, get, sizeof get - 1, 0) < 0) die("cannot send");
    while (size + 1 < sizeof text && (n = recv(c.fd, text + size, sizeof text - 1 - size, 0)) > 0) size += (size_t)n;
    text[size] = 0;
    close(c.fd);
    snprintf(line, sizeof line, "\nkalm_%s ", name);
    at = strstr(text, line);
    if (!at) die("/metrics has no %s", name);
    return atof(at + strlen(line));
}

/* ---- what is asked ----------------------------------------------------------------------------------------------- */

static const kalm_text query = { "which program edits images and photos", 37 };

/* Documents: the texts of the corpus, or so many words of them each. */
static void take_documents(const options *o, cmd_texts *texts, kalm_text *docs)
{
    size_t next = 0, i;
    cmd_read_texts(texts, o->corpus, READ_AUTO, 1);
    for (i = 0; i < o->documents; i++) {
        size_t words = 0, size = 0, k;
        char *all;
        if (!o->words) {
            docs[i] = texts->text[i % texts->count];
            continue;
        }
        all = (char *)cmd_alloc((size_t)o->words * 64);
        while (words < o->words) {
            kalm_text t = texts->text[next++ % texts->count];
            for (k = 0; k < t.size && words < o->words && size + 2 < (size_t)o->words * 64; k++) {
                all[size++] = t.data[k];
                words += t.data[k] == ' ';
            }
            all[size++] = ' ';
            words++;
        }
        docs[i].data = all;
        docs[i].size = size;
    }
}

/* The body of a request: with the documents, or with ids of kept ones (kept), or to keep them (keep). */
static void write_request(request *r, const kalm_text *docs, size_t count, int kept, int keep)
{
    char *body = NULL, id[32];
    size_t size = 0, i;
    FILE *f = open_memstream(&body, &size);
    json_out j;
    if (!f) die("no memory");
    json_begin(&j, f);
    json_open(&j, '{');
    if (!keep) json_key(&j, "query"), json_text(&j, query);
    json_key(&j, keep ? "ids" : kept ? "document_ids" : "documents");
    json_open(&j, '[');
    for (i = 0; i < count; i++) {
        sprintf(id, "d%lu", (unsigned long)i);
        json_text(&j, kept || keep ? kalm__text(id) : docs[i]);
    }
    json_close(&j);
    if (keep) {
        json_key(&j, "texts");
        json_open(&j, '[');
        for (i = 0; i < count; i++) json_text(&j, docs[i]);
        json_close(&j);
    }
    json_close(&j);
    if (fclose(f)) die("no memory");
    make_request(r, keep ? "/v1/documents" : "/v1/rerank", body, size);
    free(body);
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile(double *t, size_t n, double p)
{
    size_t at = (size_t)(p * (double)n);
    qsort(t, n, sizeof *t, compare);
    return n ? t[at < n ? at : n - 1] : 0;
}

/* Processor time of this process, in seconds. */
static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Server and library in turns: the best and the median of each, and the mean processor time, which other programs disturb less. */
static void run_rounds(const options *o, const kalm_text *docs)
{
    kalm_model *model;
    kalm_context *ctx;
    kalm_config config = o->config;
    kalm_error err;
    kalm_doc **made = NULL;
    kalm_score *scores = (kalm_score *)cmd_alloc(o->documents * sizeof *scores);
    double *http = (double *)cmd_alloc(o->rounds * sizeof *http), *own = (double *)cmd_alloc(o->rounds * sizeof *own), best[2],
        middle[2];
    double own_cpu = 0, server_cpu = 0;
    size_t i;
    request r, keep;
    client c;
    config.cache_bytes = (size_t)o->kept << 20;
    if (kalm_model_open(o->model, NULL, &model, &err) || kalm_context_new(model, &config, &ctx, &err)) exit(cmd_failed(&err));
    client_open(&c, -1);
    if (o->kept) {
        made = (kalm_doc **)cmd_alloc(o->documents * sizeof *made);
        write_request(&keep, docs, o->documents, 0, 1);
        ask(&c, &keep, 200);
        if (kalm_encode(ctx, docs, o->documents, NULL, made, &err)) exit(cmd_failed(&err));
    }
    write_request(&r, docs, o->documents, o->kept != 0, 0);
    for (i = 0; i < o->rounds + 2; i++) {                  /* the first two warm up */
        double begun, a, b = ask(&c, &r, 200);
        kalm_result bad;
        usleep(2000);                  /* the server's threads go to sleep, as the library's do after its call */
        if (i == 2) server_cpu = metric("cpu_seconds_total");
        own_cpu -= i >= 2 ? cpu() : 0;
        begun = kalm__now();
        bad = made ? kalm_rerank(ctx, query, (const kalm_doc *const *)made, o->documents, NULL, scores, &err)
                   : kalm_rerank_texts(ctx, query, docs, o->documents, NULL, scores, &err);
        a = kalm__now() - begun;
        own_cpu += i >= 2 ? cpu() : 0;
        if (bad) exit(cmd_failed(&err));
        usleep(2000);
        if (i >= 2) own[i - 2] = a, http[i - 2] = b;
    }
    server_cpu = metric("cpu_seconds_total") - server_cpu;
    own_cpu /= o->rounds, server_cpu /= o->rounds - 1;     /* the first of the rounds came before the count */
    best[0] = percentile(own, o->rounds, 0), best[1] = percentile(http, o->rounds, 0);
    middle[0] = percentile(own, o->rounds, 0.5), middle[1] = percentile(http, o->rounds, 0.5);
    printf("%lu %s, %lu rounds: library %.3f ms (median %.3f), server %.3f ms (median %.3f): %+.3f ms, %+.1f%%; processor time %.3f and %.3f ms: %+.1f%%\n",
           (unsigned long)o->documents, o->kept ? "kept documents" : "documents", (unsigned long)o->rounds, best[0] * 1e3,
               middle[0] * 1e3,
           best[1] * 1e3, middle[1] * 1e3, (best[1] - best[0]) * 1e3, (best[1] / best[0] - 1) * 100, own_cpu * 1e3, server_cpu * 1e3,
           (server_cpu / own_cpu - 1) * 100);
}

static void run_clients(const options *o, const kalm_text *docs)
{
    client *all = (client *)cmd_alloc(o->clients * sizeof *all);
    struct epoll_event ready[256];
    struct rusage use;
    size_t room = 1 << 16, answers = 0, others = 0, broken = 0, i, open = o->clients;
    double *took = (double *)cmd_alloc(room * sizeof *took), begun, memory[3] = { 0, 0, 0 }, end, span;
    int events = epoll_create1(0), k, n;
    request r;
    write_request(&r, docs, o->documents, 0, 0);
    for (i = 0; i < o->clients; i++) client_open(&all[i], events);
    begun = kalm__now();
    end = begun + o->seconds;
    for (i = 0; i < o->clients; i++) client_again(&all[i]);
    while (open && kalm__now() < end + 60) {
        double part = (kalm__now() - begun) / o->seconds;
        for (k = 0; k < 2; k++)        /* once all have been answered for the first time, and in the middle */
            if (memory[k] <= 0 && part > (k ? 0.5 : 0.2)) memory[k] = metric("resident_bytes");
        n = epoll_wait(events, ready, 256, 100);
        for (k = 0; k < n; k++) {
            client *c = (client *)ready[k].data.ptr;
            int what = c->fd < 0 ? 0 : client_step(c, &r);
            while (what) {
                if (what < 0) broken++;
                else if (c->status == 200) {
                    if (answers == room) took = (double *)cmd_grow(took, (room *= 2) * sizeof *took);
                    took[answers++] = kalm__now() - c->began;
                } else others++;
                if (what < 0 || kalm__now() >= end) {
                    close(c->fd);
                    c->fd = -1;
                    open--;
                    break;
                }
                client_again(c);
                what = client_step(c, &r);
            }
        }
    }
    span = kalm__now() - begun;
    memory[2] = metric("resident_bytes");
    getrusage(RUSAGE_SELF, &use);
    printf("%lu clients, %lu documents each, %.1f s: %lu answers, %.1f/s, p50 %.2f ms, p99 %.2f ms; %lu of another status, %lu broken, "
           "%lu without an answer; server %.1f, %.1f, %.1f MB at 1/5, 1/2, end; this program %.1f%% of a core\n", (unsigned long)o->clients,
           (unsigned long)o->documents, span, (unsigned long)answers, (double)answers / span, percentile(took, answers,
                                                                                                         0.5) * 1e3,
           percentile(took, answers, 0.99) * 1e3, (unsigned long)others, (unsigned long)broken, (unsigned long)open,
               memory[0] / 1e6,
           memory[1] / 1e6, memory[2] / 1e6,
           ((double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6) / span * 100);
    if (broken || open) exit(EXIT_FAILED);
}

int main(int argc, char **argv)
{
    options o;
    cmd_args a;
    cmd_texts texts;
    kalm_text *docs;
    const char *port;
    struct rlimit files;
    memset(&o, 0, sizeof o);
    memset(&texts, 0, sizeof texts);
    o.documents = 10;
    o.seconds = 10;
    o.corpus = "examples/tiny/eval/corpus.jsonl";
    cmd_name = program.name;
    cmd_parse(&a, &program, &o, argc, argv);
    if (a.words != 2) die_usage("say the model and where the server is");
    o.model = a.word[0];
    o.url = a.word[1];
    port = strrchr(o.url, ':');
    if (!port || !o.clients == !o.rounds) die_usage("say http://127.0.0.1:PORT, and --clients or --rounds");
    where.sin_family = AF_INET;
    where.sin_port = htons((uint16_t)atoi(port + 1));
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    docs = (kalm_text *)cmd_alloc(o.documents * sizeof *docs);
    take_documents(&o, &texts, docs);
    if (o.rounds) run_rounds(&o, docs);
    else run_clients(&o, docs);
    cmd_flush();
    return EXIT_OK;
}
