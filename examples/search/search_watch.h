/* search_watch.h - kalm-search --watch: stays, and takes in what changes below the sources as it changes. Linux tells of changes in
   folders (inotify); elsewhere, and where there are more folders than it may watch, the files' sizes and times are looked at every
   few seconds. Either way the work is a pass of search_update.h, which opens only what changed. Included behind search_add.h. */
#ifndef KALM_SEARCH_WATCH_H
#define KALM_SEARCH_WATCH_H

#include <poll.h>
#if defined(__linux__)
#  include <sys/inotify.h>
#endif

enum {
    WATCH_SETTLE = 300,                /* milliseconds without news before a pass, so that a file is whole */
    WATCH_LONGEST = 3000,              /* but no later than that after the first news */
    WATCH_POLL = 5000,                 /* between two passes where nobody tells of changes */
    WATCH_ANYWAY = 300000              /* between two passes where nothing was told: network file systems do not tell all */
};

typedef struct search_watch {
    int   fd;                          /* of inotify; -1: there is none */
    int   own_folder;                  /* its watch of the folder of the database, or -1 */
    char *folder, *name;               /* of the database, from the root; owned */
    int   most;                        /* the largest number of a watch that was given */
} search_watch;

KALM__FN void watch_begin(search_watch *w, const char *database)
{
    char *real = search_real_path(database), *slash = strrchr(real, '/');
    memset(w, 0, sizeof *w);
    w->fd = w->own_folder = -1;
    w->name = cmd_copy(kalm__text(slash + 1));
    slash[slash == real] = 0;
    w->folder = real;
#if defined(__linux__)
    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
#endif
}

KALM__FN void watch_end(search_watch *w)
{
    if (w->fd >= 0) close(w->fd);
    free(w->folder);
    free(w->name);
}

/* 1: a folder is new, so that something in it may have changed before it was watched. */
KALM__FN int watch_folder(search_watch *w, const char *path)
{
#if defined(__linux__)
    int wd = w->fd < 0 ? -1 : inotify_add_watch(w->fd, path, IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE | IN_MOVE | IN_DELETE_SELF |
                                                             IN_MOVE_SELF | IN_ONLYDIR);
    int fresh = wd > w->most;          /* numbers grow */
    if (fresh) w->most = wd;
    if (wd >= 0 && !strcmp(path, w->folder)) w->own_folder = wd;
    if (wd < 0 && w->fd >= 0 && (errno == ENOSPC || errno == ENOMEM)) {
        say("more folders than the system lets it watch (sysctl fs.inotify.max_user_watches): looks at all files every %d s", WATCH_POLL / 1000);
        close(w->fd);
        w->fd = -1;
    }
    return fresh;
#else
    (void)w, (void)path;
    return 0;
#endif
}

/* All folders of the last pass, and those of sources that are files. */
KALM__FN int watch_folders(search_watch *w, const search_update *u, char **roots, size_t count)
{
    size_t i;
    int fresh = 0;
    for (i = 0; i < u->files.folders; i++) fresh |= watch_folder(w, u->files.folder[i]);
    for (i = 0; i < count; i++) {
        char *slash = strrchr(roots[i], '/'), *above;
        if (kalm__directory_exists(roots[i])) continue;
        above = cmd_copy(kalm__text(roots[i]));
        above[slash == roots[i] ? 1 : slash - roots[i]] = 0;
        fresh |= watch_folder(w, above);
        free(above);
    }
    return fresh;
}

/* Takes what was told. 1: some of it was of other files than the database itself. */
KALM__FN int watch_news(search_watch *w)
{
    int news = 0;
#if defined(__linux__)
    union { struct inotify_event event; char bytes[8192]; } buffer;
    ssize_t n, at;
    while ((n = read(w->fd, buffer.bytes, sizeof buffer)) > 0)
        for (at = 0; at + (ssize_t)sizeof(struct inotify_event) <= n;) {
            struct inotify_event e;
            const char *name = buffer.bytes + at + sizeof e, *end;
            memcpy(&e, buffer.bytes + at, sizeof e);
            at += (ssize_t)(sizeof e + e.len);
            end = e.len && e.wd == w->own_folder && !strncmp(name, w->name, strlen(w->name)) ? name + strlen(w->name) : NULL;
            if (end && (!*end || !strcmp(end, "-wal") || !strcmp(end, "-shm") || !strcmp(end, "-journal"))) continue;
            if (!(e.mask & IN_IGNORED)) news = 1;
        }
#else
    (void)w;
#endif
    return news;
}

/* Until there is something to look at. What is told of the database itself, which every question touches, counts for nothing. */
KALM__FN void watch_wait(search_watch *w)
{
    struct pollfd p;
    double begun = kalm__now(), first = 0, last = 0, until;
    p.fd = w->fd;                      /* poll passes over -1 */
    p.events = POLLIN;
    while (!kalm__interrupted) {
        double now = kalm__now();
        if (first > 0) until = last + WATCH_SETTLE * 1e-3 < first + WATCH_LONGEST * 1e-3 ? last + WATCH_SETTLE * 1e-3 : first + WATCH_LONGEST * 1e-3;
        else until = begun + (w->fd < 0 ? WATCH_POLL : WATCH_ANYWAY) * 1e-3;
        if (now >= until) return;
        if (poll(&p, 1, (int)((until - now) * 1e3) + 1) <= 0 || !watch_news(w)) continue;
        last = kalm__now();
        if (first <= 0) first = last;
    }
}

/* Behind run_add or run_update: goes on until a signal ends it. */
KALM__FN int run_watch(search_update *u, const options *o)
{
    search_watch w;
    if (kalm__interrupted) return EXIT_INTERRUPTED;
    watch_begin(&w, o->database);
    if (!o->quiet) fprintf(stderr, "watching; Ctrl-C ends it\n");
    while (!kalm__interrupted) {
        size_t count;
        char **roots = search_sources(&u->s, &count);
        int again = watch_folders(&w, u, roots, count);
        if (!again) watch_wait(&w);
        if (!kalm__interrupted) {
            u->show.begun = kalm__now();
            search_pass(u, roots, count);
            if (!o->quiet && !kalm__interrupted && (u->read || u->moved || u->forgotten)) search_summary(u);
        }
        search_list_end(roots, count);
    }
    watch_end(&w);
    return EXIT_INTERRUPTED;
}

#endif
