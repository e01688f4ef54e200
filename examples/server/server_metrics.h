/* server_metrics.h - what the server counts, and how Prometheus reads it. Counts only grow; what goes up and down (the queue, the
   cache, the store) is asked for when the page is printed. */
#ifndef KALM_SERVER_METRICS_H
#define KALM_SERVER_METRICS_H

#include <pthread.h>
#include <unistd.h>

/* Upper bounds of the latency histogram, in seconds. */
static const double metrics_bounds[] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60 };
enum { METRICS_BOUNDS = sizeof metrics_bounds / sizeof *metrics_bounds, METRICS_PATHS = 12, METRICS_STATUSES = 24 };

typedef struct server_metrics {
    pthread_mutex_t lock;
    struct { const char *path, *form; int status; uint64_t count; } request[METRICS_PATHS * METRICS_STATUSES];
    size_t   requests;                 /* rows of `request` */
    uint64_t documents, tokens;        /* scored or encoded; tokens of what was answered */
    uint64_t kept_added, kept_deleted, warm_hits, warm_misses;
    uint64_t refused, hung_up, late;   /* because the queue was full; client left; answers cut by deadline_ms */
    uint64_t slices, batches, shared;  /* kalm_encode calls, and those with texts of several requests */
    uint64_t bucket[METRICS_BOUNDS + 1];
    double   seconds;
} server_metrics;

/* What is asked for at the moment of printing. */
typedef struct metrics_now {
    size_t   waiting, computing, connections, body_bytes, queue_limit;
    uint64_t cache_bytes, cache_limit, cache_states, cache_dropped, log_dropped;
    double   started;
    const char *model, *weights;
} metrics_now;

/* One answer is on its way. `path` and `wire`, the form, are names that live as long as the program. */
KALM__FN void metrics_request(server_metrics *m, const char *path, const char *wire, int status, double seconds, int timed)
{
    size_t i;
    pthread_mutex_lock(&m->lock);
    for (i = 0; i < m->requests; i++)
        if (m->request[i].path == path && m->request[i].form == wire && m->request[i].status == status) break;
    if (i == m->requests && i < sizeof m->request / sizeof *m->request) {
        m->requests++;
        m->request[i].path = path;
        m->request[i].form = wire;
        m->request[i].status = status;
    }
    if (i < m->requests) m->request[i].count++;
    if (timed) {
        for (i = 0; i < METRICS_BOUNDS && seconds > metrics_bounds[i]; i++) {}
        m->bucket[i]++;
        m->seconds += seconds;
    }
    pthread_mutex_unlock(&m->lock);
}

KALM__FN void metrics_add(server_metrics *m, uint64_t *which, uint64_t n)
{
    pthread_mutex_lock(&m->lock);
    *which += n;
    pthread_mutex_unlock(&m->lock);
}

KALM__FN void metrics__one(memory_out *f, const char *name, const char *type, const char *help, double value)
{
    memory_out_format(f, "# HELP kalm_%s %s\n# TYPE kalm_%s %s\nkalm_%s %.17g\n", name, help, name, type, name, value);
}

/* Bytes of memory that are in use by the process, from the system. */
KALM__FN double metrics__resident(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long all = 0, resident = 0;
    if (!f) return 0;
    if (fscanf(f, "%lu %lu", &all, &resident) != 2) resident = 0;
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

KALM__FN void metrics__latency(const server_metrics *m, memory_out *f)
{
    uint64_t sum = 0;
    size_t i;
    memory_out_format(f, "# HELP kalm_request_seconds From the first byte of a ranking's request to its answer\n"
               "# TYPE kalm_request_seconds histogram\n");
    for (i = 0; i < METRICS_BOUNDS; i++) {
        sum += m->bucket[i];
        memory_out_format(f, "kalm_request_seconds_bucket{le=\"%g\"} %llu\n", metrics_bounds[i], (unsigned long long)sum);
    }
    sum += m->bucket[i];
    memory_out_format(f, "kalm_request_seconds_bucket{le=\"+Inf\"} %llu\nkalm_request_seconds_sum %.9g\nkalm_request_seconds_count %llu\n",
            (unsigned long long)sum, m->seconds, (unsigned long long)sum);
}

KALM__FN void metrics_print(server_metrics *m, const metrics_now *n, memory_out *f)
{
    server_metrics c;
    struct timespec cpu;
    size_t i;
    pthread_mutex_lock(&m->lock);
    c = *m;
    pthread_mutex_unlock(&m->lock);
    memory_out_format(f, "# HELP kalm_requests_total Answers, by path, wire form and status\n# TYPE kalm_requests_total counter\n");
    for (i = 0; i < c.requests; i++)
        memory_out_format(f, "kalm_requests_total{path=\"%s\",form=\"%s\",status=\"%d\"} %llu\n", c.request[i].path, c.request[i].form,
                c.request[i].status, (unsigned long long)c.request[i].count);
    metrics__latency(&c, f);
    metrics__one(f, "documents_total", "counter", "Documents that were scored or encoded", (double)c.documents);
    metrics__one(f, "tokens_total", "counter", "Tokens of the documents and queries of finished requests", (double)c.tokens);
    metrics__one(f, "refused_total", "counter", "Requests that met a full queue (503)", (double)c.refused);
    metrics__one(f, "hung_up_total", "counter", "Requests whose client left before the answer", (double)c.hung_up);
    metrics__one(f, "deadline_cut_total", "counter", "Answers that deadline_ms cut", (double)c.late);
    metrics__one(f, "slices_total", "counter", "Turns of the scheduler", (double)c.slices);
    metrics__one(f, "encode_batches_total", "counter", "Batches of texts that were encoded", (double)c.batches);
    metrics__one(f, "encode_batches_shared_total", "counter", "Those with texts of more than one request", (double)c.shared);
    metrics__one(f, "queue_requests", "gauge", "Requests that are accepted and not answered", (double)n->waiting);
    metrics__one(f, "queue_limit", "gauge", "How many of them there may be", (double)n->queue_limit);
    metrics__one(f, "connections", "gauge", "Open connections", (double)n->connections);
    metrics__one(f, "body_bytes", "gauge", "Bytes of requests in memory", (double)n->body_bytes);
    metrics__one(f, "kept_added_total", "counter", "Documents that were stored", (double)c.kept_added);
    metrics__one(f, "kept_deleted_total", "counter", "Documents that were deleted from the store", (double)c.kept_deleted);
    metrics__one(f, "cache_hits_total", "counter", "Kept documents whose decoder state was warm", (double)c.warm_hits);
    metrics__one(f, "cache_misses_total", "counter", "Kept documents whose decoder state had to be computed", (double)c.warm_misses);
    metrics__one(f, "cache_dropped_total", "counter", "Decoder states that made room for others", (double)n->cache_dropped);
    metrics__one(f, "cache_states", "gauge", "Decoder states that are warm", (double)n->cache_states);
    metrics__one(f, "cache_bytes", "gauge", "Memory that they take", (double)n->cache_bytes);
    metrics__one(f, "cache_limit_bytes", "gauge", "Memory that they may take", (double)n->cache_limit);
    metrics__one(f, "log_dropped_total", "counter", "Lines of the log that nobody took", (double)n->log_dropped);
    metrics__one(f, "resident_bytes", "gauge", "Memory of the process", metrics__resident());
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    metrics__one(f, "cpu_seconds_total", "counter", "Processor time of the process", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    metrics__one(f, "uptime_seconds", "gauge", "Since the start", kalm__now() - n->started);
    memory_out_format(f, "# HELP kalm_model_info The model\n# TYPE kalm_model_info gauge\nkalm_model_info{name=\"");
    for (i = 0; n->model[i]; i++) {                        /* the label of a stranger's file */
        char one = (unsigned char)n->model[i] < 32 ? '?' : n->model[i];
        if (one == '"' || one == '\\') memory_out_put(f, "\\", 1);
        memory_out_put(f, &one, 1);
    }
    memory_out_format(f, "\",weights=\"%s\"} 1\n", n->weights);
}

#endif
