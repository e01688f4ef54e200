/* server_log.h - the access log: one JSON object a line, to standard output or a file. Lines go through a buffer that a thread
   of its own empties, so that a full disk or a pipe that nobody reads cannot hold the server; when the buffer is full lines are
   dropped and counted. */
#ifndef KALM_SERVER_LOG_H
#define KALM_SERVER_LOG_H

#include <pthread.h>

enum { LOG_ROOM = 1 << 20 };

typedef struct server_log {
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  some;
    const char     *path;              /* of a file; NULL: standard output */
    int             on;                /* is there a log? */
    FILE           *file;              /* the thread's own once it runs: it is opened anew there */
    char           *buffer;            /* [LOG_ROOM] lines that wait */
    size_t          size;
    uint64_t        dropped;           /* lines */
    int             reopen, ending;
} server_log;

KALM__FN void *log__run(void *arg)
{
    server_log *l = (server_log *)arg;
    char *own = (char *)cmd_alloc(LOG_ROOM), *full;
    size_t size;
    int reopen, ending;
    do {
        pthread_mutex_lock(&l->lock);
        while (!l->size && !l->ending && !l->reopen) pthread_cond_wait(&l->some, &l->lock);
        full = l->buffer;
        l->buffer = own;
        own = full;
        size = l->size;
        l->size = 0;
        reopen = l->reopen && l->path;
        l->reopen = 0;
        ending = l->ending;
        pthread_mutex_unlock(&l->lock);
        if (reopen) {
            FILE *f = fopen(l->path, "a");
            if (f) fclose(l->file), l->file = f;
            else say("cannot open %s again: %s", l->path, strerror(errno));
        }
        if (size && fwrite(own, 1, size, l->file) != size) clearerr(l->file);
        fflush(l->file);
    } while (!ending || size);
    free(own);
    return NULL;
}

/* where: "-" is standard output, "none" no log, else a file to write behind. */
KALM__FN void log_begin(server_log *l, const char *where)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->some, NULL);
    if (!strcmp(where, "none")) return;
    l->on = 1;
    l->file = stdout;
    if (strcmp(where, "-") != 0) {
        l->path = where;
        l->file = fopen(where, "a");
        if (!l->file) die("cannot write %s: %s", where, strerror(errno));
    }
    l->buffer = (char *)cmd_alloc(LOG_ROOM);
    if (pthread_create(&l->thread, NULL, log__run, l)) die("the system gives no thread for the log");
}

KALM__FN void log_line(server_log *l, const char *line, size_t size)
{
    if (!l->on) return;
    pthread_mutex_lock(&l->lock);
    if (l->size + size <= LOG_ROOM) {
        memcpy(l->buffer + l->size, line, size);
        l->size += size;
        pthread_cond_signal(&l->some);
    } else l->dropped++;
    pthread_mutex_unlock(&l->lock);
}

/* A line that was printed into memory, which is given back; what there was no memory for counts as dropped: 0. */
KALM__FN int log_printed(server_log *l, memory_out *m)
{
    size_t size = m->size;
    char *line = memory_out_end(m);
    int whole = line != NULL;
    if (line) log_line(l, line, size);
    else {
        pthread_mutex_lock(&l->lock);
        l->dropped++;
        pthread_mutex_unlock(&l->lock);
    }
    free(line);
    return whole;
}

/* The file was moved away (logrotate): open it anew. */
KALM__FN void log_reopen(server_log *l)
{
    if (!l->on) return;
    pthread_mutex_lock(&l->lock);
    l->reopen = 1;
    pthread_cond_signal(&l->some);
    pthread_mutex_unlock(&l->lock);
}

KALM__FN void log_end(server_log *l)
{
    if (l->on) {
        pthread_mutex_lock(&l->lock);
        l->ending = 1;
        pthread_cond_signal(&l->some);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
        if (l->path) fclose(l->file);
        free(l->buffer);
    }
    pthread_cond_destroy(&l->some);
    pthread_mutex_destroy(&l->lock);
}

/* Now, as RFC 3339 has it, with thousandths of a second. */
KALM__FN void log_time(char out[32])
{
    struct timespec t;
    struct tm day;
    size_t n;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &day);
    n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &day);
    snprintf(out + n, 32 - n, ".%03dZ", (int)(t.tv_nsec / 1000000));
}

#endif
