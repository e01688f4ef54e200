/* kalm_server.c - the command kalm-server: rankings over HTTP, in the words of the services that programs know already. Here
   are its command line, its beginning and its end; the work is in parts: server_http.h reads and answers, server_forms.h
   translates, server_queue.h computes, server_kept.h keeps documents. */
#if !defined(_GNU_SOURCE)
#  define _GNU_SOURCE                  /* POLLRDHUP: a client that hung up shows without reading */
#endif
#include "../../src/tools/command.h"
#include "../store/store.h"
#include "../store/store_fill.h"
#include "../store/store_same.h"
#include "server_options.h"
#include "server_http.h"
#include <sys/resource.h>

static const cmd_option table[] = {
    CMD_HEADING("Where to listen"),
    CMD_TEXT("--host", "ADDRESS", server_options, host, "127.0.0.1 (default: this machine alone), ::1, 0.0.0.0, a name"),
    CMD_NUMBER("--port", "N", server_options, port, 0, 65535, "default 8080; 0: one that is free, which the first line of the log says"),
    CMD_TEXT("--api-key-file", "FILE", server_options, api_key_file, "clients must send one of its lines as Authorization: Bearer KEY; the "
             "environment variable KALM_API_KEY is one more key (default: no key is asked for)"),
    CMD_TEXT("--allow-origin", "ORIGIN", server_options, allow_origin, "let pages of this origin ask from a browser, as "
             "https://example.org or * (default: none may)"),
    CMD_TEXT("--allow-host", "NAME", server_options, allow_host, "a name by which clients may call the server that is for this machine alone "
             "and asks for no key, as behind a proxy, or * (default: localhost, the name of --host, numbers)"),
    CMD_HEADING("Documents that are kept"),
    CMD_TEXT("--store", "STORE.db", server_options, store, "keep documents here, in a store as kalm-index makes it; it is made where it "
             "is missing"),
    CMD_FLAG("--read-only", server_options, read_only, "rank from the store, change nothing; for stores of kalm-search, and several servers"),
    CMD_NUMBER("--warm", "MB", server_options, warm_mb, 0, 1u << 20, "memory for what the decoder computed for the documents asked for most "
               "(default 256)"),
    CMD_LISTED("--state-bits", "8|4", server_options, state_bits, "keep that in two thirds or half of the bytes; scores of all documents "
               "change a little (default: exact)"),
    CMD_LISTED("--bits", "32|16|8|4|3|2", server_options, bits, "kept of each number of a document, for a new store (default 16)"),
    CMD_HEADING("What to compute"),
    CMD_NUMBER("--ratio", "N", server_options, ratio, 1, 1u << 20, "document tokens pooled into one row, where the request does not say "
               "(default 4); of a new store"),
    CMD_TEXT("--instruction", "TEXT", server_options, instruction, "what makes a document a good one, where the request does not say "
             "(default: the model's own)"),
    CMD_TEXT("--system", "TEXT", server_options, system, "the sentence before the instruction (default: the model's own)"),
    CMD_NUMBER("--max-doc-tokens", "N", server_options, config.max_doc_tokens, 1, 1u << 30, "longer documents are cut (default 1024)"),
    CMD_NUMBER("--max-query-tokens", "N", server_options, config.max_query_tokens, 1, 1u << 30, "longer queries are cut (default 512)"),
    CMD_NUMBER("--threads", "N", server_options, config.threads, 1, 4096, "that compute (default: one for each core)"),
    CMD_TEXT("--kernels", "NAME", server_options, config.kernels, "instruction set to use (default: the best one; the environment variable "
             "KALM_KERNELS says the same)"),
    CMD_READ_MODEL(server_options, config.load),
    CMD_HEADING("Limits; what is beyond them is refused with 4xx or 503"),
    CMD_NUMBER("--max-body", "MIB", server_options, body_mb, 1, 1024, "mebibytes of a request (default 16)"),
    CMD_NUMBER("--max-documents", "N", server_options, documents, 1, 1u << 20, "documents of a request (default 1000)"),
    CMD_NUMBER("--max-tokens", "N", server_options, tokens, 1, UINT32_MAX, "tokens of a request, what is cut not counted (default 1000000)"),
    CMD_NUMBER("--queue", "N", server_options, queue, 1, 1u << 20, "requests that are accepted and not answered yet (default 1000)"),
    CMD_NUMBER("--timeout", "SECONDS", server_options, timeout, 1, 86400, "for a request, waiting included (default 600): then 504"),
    CMD_NUMBER("--connections", "N", server_options, connections, 2, 1u << 20, "open at a time (default 1000)"),
    CMD_NUMBER("--read-timeout", "SECONDS", server_options, read_timeout, 1, 86400, "for a client to send its request or take its answer, "
               "and a second more for each 10 kB (default 30)"),
    CMD_NUMBER("--drain", "SECONDS", server_options, drain, 0, 86400, "for accepted requests to be answered after SIGTERM (default 30)"),
    CMD_HEADING("What to write down"),
    CMD_TEXT("--log", "FILE", server_options, log, "a JSON object for each request, without its texts; '-' is standard output (default), "
             "'none' no log; SIGHUP opens the file anew"),
    CMD_FLAG("--log-text", server_options, log_text, "queries as well")
};

static const cmd_program program = {
    "kalm-server",
    "MODEL.kalm [--store STORE.db] [options]",
    "Rank documents for HTTP clients. Those of Cohere (v1 and v2), Jina, Voyage, text-embeddings-inference, llama-server and vLLM's /score "
    "are answered as they expect; point their base URL here.\n"
    "\n"
    "POST /v1/rerank, /v2/rerank, /rerank, /score; with --store POST, GET and DELETE /v1/documents, and rerank by document_ids. GET "
    "/health, /v1/models, /metrics. All about it: docs/SERVER.md.",
    table, sizeof table / sizeof *table,
    "SIGTERM or Ctrl-C: what was accepted is answered, then the server ends; a second one ends it at once.\n"
    "Exit status: 0 ended as it was told, 1 failed (one line on standard error says why), 2 wrong usage.",
    NULL
};

static void read_options(server_options *o, int argc, char **argv)
{
    cmd_args a;
    memset(o, 0, sizeof *o);
    o->host = "127.0.0.1";
    o->port = 8080;
    o->body_mb = 16;
    o->documents = 1000;
    o->tokens = 1000000;
    o->queue = 1000;
    o->timeout = 600;
    o->connections = 1000;
    o->read_timeout = o->drain = 30;
    o->warm_mb = 256;
    o->log = "-";
    o->config.kernels = cmd_kernels();
    cmd_parse(&a, &program, o, argc, argv);
    if (!a.words) die_usage("the model file is missing");
    o->model = a.word[0];
    if (a.words > 1) die_usage("the argument '%s' is one too many", a.word[1]);
    if (!o->store && (o->bits || o->read_only || o->state_bits || cmd_given(&a, "--warm")))
        die_usage("--bits, --warm, --state-bits and --read-only are for --store");
    cmd_args_end(&a);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static void add_key(server *s, kalm_text key)
{
    size_t i;
    while (key.size && strchr(" \t\r", key.data[key.size - 1])) key.size--;
    while (key.size && strchr(" \t", *key.data)) key.data++, key.size--;
    if (!key.size) return;
    for (i = 0; i < key.size; i++)
        if ((unsigned char)key.data[i] <= 32 || (unsigned char)key.data[i] >= 127)
            die("an API key has a character that a header cannot carry");
    s->key = (char **)cmd_grow(s->key, (s->keys + 1) * sizeof *s->key);
    s->key[s->keys++] = cmd_copy(key);
}

static void read_keys(server *s)
{
    const char *one = getenv("KALM_API_KEY");
    kalm_text rest, line;
    if (one && *one) add_key(s, kalm__text(one));
    if (!s->o->api_key_file) return;
    rest = cmd_read(s->o->api_key_file);
    while (cmd_line(&rest, &line)) add_key(s, line);
    if (!s->keys) die("%s holds no key", s->o->api_key_file);
}

/* ---- the socket -------------------------------------------------------------------------------------------------- */

/* A socket that listens, and where: "http://127.0.0.1:8080". Others on the network can reach it where *open is set. */
static int listen_at(const server_options *o, char url[128], int *open)
{
    struct addrinfo hints, *all, *a;
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    char port[16], host[80];
    int fd = -1, on = 1, code;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    sprintf(port, "%lu", (unsigned long)o->port);
    code = getaddrinfo(o->host, port, &hints, &all);
    if (code) die("there is no address %s: %s", o->host, gai_strerror(code));
    for (a = all; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, 1024)) {
            code = errno;
            close(fd);
            errno = code;
            fd = -1;
        }
    }
    freeaddrinfo(all);
    if (fd < 0) die("cannot listen at %s, port %lu: %s", o->host, (unsigned long)o->port, strerror(errno));
    if (getsockname(fd, (struct sockaddr *)&own, &size) ||
        getnameinfo((struct sockaddr *)&own, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
        die("cannot tell where the server listens");
    snprintf(url, 128, strchr(host, ':') ? "http://[%s]:%s" : "http://%s:%s", host, port);
    *open = strncmp(host, "127.", 4) != 0 && strcmp(host, "::1") != 0;
    return fd;
}

/* ---- begin and end ----------------------------------------------------------------------------------------------- */

static void open_store(server *s, const kalm_model *model)
{
    const server_options *o = s->o;
    store_meta m;
    store_new_meta(&m, &s->info, o->ratio, o->bits);
    m.max_doc_tokens = http__doc_tokens(s);
    if (m.max_doc_tokens > s->info.max_tokens)
        die("--max-doc-tokens is %lu, the model reads %lu", (unsigned long)m.max_doc_tokens, (unsigned long)s->info.max_tokens);
    kept_begin(&s->kept, o->store, o->model, model, o->read_only, &m);
    store_demand_number(&s->kept.reader, "--bits", o->bits != 0, o->bits, s->kept.reader.meta.bits);
    s->kept.metrics = &s->metrics;
    s->kept.finished = http_stored;
}

static void open_model(server *s, kalm_model **model)
{
    const server_options *o = s->o;
    kalm_config config = o->config;
    kalm_error err;
    server_queue *q = &s->queue;
    config.state_bits = o->state_bits; /* of both contexts: a kept document is ranked in either, with the same score */
    if (kalm_model_open(o->model, &config, model, &err)) exit(cmd_failed(&err));
    kalm_model_get_info(*model, &s->info);
    if (!s->info.has_tokenizer) die("%s holds no tokenizer: texts cannot be ranked", o->model);
    if (!s->info.has_decoder) die("%s holds the encoder alone: it cannot rank", o->model);
    if (!s->info.has_encoder && !o->store) die("%s holds the decoder alone: it ranks documents that are kept (--store)", o->model);
    if (kalm_context_new(*model, &config, &q->plain, &err)) exit(cmd_failed(&err));
    q->o = o;
    q->model = *model;
    q->metrics = &s->metrics;
    q->finished = http_finished;
    if (!o->store) return;
    open_store(s, *model);
    q->kept = &s->kept;
    config.max_doc_tokens = s->kept.reader.meta.max_doc_tokens;
    config.cache_bytes = cmd_mebibytes(o->warm_mb);
    if (kalm_context_new(*model, &config, &q->warm, &err)) exit(cmd_failed(&err));
}

static void say_event(server *s, const char *event, const char *url)
{
    char when[32];
    memory_out line;
    json_out out;
    if (!s->log.on) return;
    memset(&line, 0, sizeof line);
    log_time(when);
    json_begin_memory(&out, &line);
    json_open(&out, '{');
    json_key(&out, "time"), json_text(&out, kalm__text(when));
    json_key(&out, "event"), json_text(&out, kalm__text(event));
    if (url) json_key(&out, "url"), json_text(&out, kalm__text(url));
    json_key(&out, "model"), json_text(&out, kalm__text(s->info.name));
    if (s->o->store) json_key(&out, "store"), json_text(&out, kalm__text(s->o->store));
    json_close(&out);
    /* who started the server waits for this line */
    if (!log_printed(&s->log, &line) && url) die("no memory to say where the server listens");
}

/* Room for the connections, where the system's default is less. */
static void raise_limits(const server_options *o)
{
    rlim_t wanted = o->connections + HTTP_MORE + 64u;
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return;
    if (r.rlim_cur < wanted) {
        r.rlim_cur = r.rlim_max < wanted ? r.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &r);
        if (r.rlim_cur < wanted)
            say("the system allows %lu open files, fewer than --connections asks for", (unsigned long)r.rlim_cur);
    }
}

/* How many requests are not answered. */
static size_t busy(server *s)
{
    size_t n;
    pthread_mutex_lock(&s->lock);
    n = s->exchanges;
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Accepted requests get their answers; then, or when the time is over, all ends. */
static void drain(server *s, const sigset_t *signals)
{
    double until = kalm__now() + s->o->drain;
    struct timespec tick = { 0, 50000000 };
    exchange *e;
    http_end_accepting(s);
    say_event(s, "draining", NULL);
    while (busy(s) && kalm__now() < until) {
        if (sigtimedwait(signals, NULL, &tick) > 0) _exit(EXIT_INTERRUPTED);
        http_watch(s);
    }
    pthread_mutex_lock(&s->lock);
    for (e = s->working; e; e = e->after) {                /* they took too long */
        pthread_mutex_lock(&s->queue.lock);
        e->j.gone = 1;
        pthread_mutex_unlock(&s->queue.lock);
    }
    pthread_mutex_unlock(&s->lock);
    queue_end(&s->queue);
    if (s->queue.kept) kept_end(&s->kept);
    MHD_stop_daemon(s->daemon);
    say_event(s, "ended", NULL);
    log_end(&s->log);
}

static void serve(server *s, int fd)
{
    struct timespec tick = { 0, 100000000 };
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    s->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
                                 http_handle, s, MHD_OPTION_THREAD_POOL_SIZE, 2u,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->o->connections + HTTP_MORE,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                                 MHD_OPTION_NOTIFY_COMPLETED, http_completed, s, MHD_OPTION_NOTIFY_CONNECTION, http_connection, s,
                                 MHD_OPTION_UNESCAPE_CALLBACK, http_unescape, NULL, MHD_OPTION_END);
    if (!s->daemon) die("libmicrohttpd cannot start: %s", strerror(errno));
    http_begin_accepting(s, fd);
    for (;;) {
        number = sigtimedwait(&signals, NULL, &tick);
        if (number == SIGHUP && s->log.path) log_reopen(&s->log);
        else if (number > 0) break;
        http_watch(s);
    }
    drain(s, &signals);
}

int main(int argc, char **argv)
{
    static server s;
    server_options o;
    kalm_model *model = NULL;
    sigset_t signals;
    char url[128];
    int fd, open_to_others;
    size_t i;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    read_options(&o, argc, argv);
    /* signals are for the main thread, which asks for them: the threads that follow inherit this */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);          /* a file that may not grow is an error of its write, as a full disk is */
    s.o = &o;
    s.started = kalm__now();
    s.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 32 ^ (uint64_t)(s.started * 1e9);
    if (!json_ready()) die("the system gives no room for a thread's own data");
    pthread_mutex_init(&s.lock, NULL);
    pthread_mutex_init(&s.metrics.lock, NULL);
    read_keys(&s);
    fd = listen_at(&o, url, &open_to_others);
    s.local = !open_to_others && !s.keys;
    if (open_to_others && !s.keys) say("everybody who can reach %s may use this server: no API key was set", url);
    raise_limits(&o);
    open_model(&s, &model);
    log_begin(&s.log, o.log);
    queue_begin(&s.queue);
    if (s.queue.kept) kept_start(&s.kept);
    say_event(&s, "listening", url);
    if (!s.log.on || s.log.path) say("listens at %s", url);
    serve(&s, fd);
    kalm_context_free(s.queue.plain);
    kalm_context_free(s.queue.warm);
    kalm_model_close(model);
    for (i = 0; i < s.keys; i++) free(s.key[i]);
    free(s.key);
    return EXIT_OK;
}
