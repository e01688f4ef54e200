/* sink.h - writing a file so that nobody ever sees half of it: everything goes to a temporary file beside the target, which
   gets the target's name when it is whole and on the disk. A failure, SIGINT or SIGTERM leaves the old file as it was. Every
   command that makes a file uses this.

   The temporary file is called TARGET.tmp-XXXXXXXXXXXX, twelve hexadecimal digits that are new for each attempt, so that runs
   do not meet: not two at the same time, and not one in a container with the file that a killed one left behind, whose process
   number was the same. A killed process cannot remove its file, so the next run does. It can tell which are left over: a writer
   holds a lock (flock) on its file, which the system takes away when the process ends. Only regular files that belong to the
   user, have no second name and no lock are removed; links are not followed. A temporary file that is itself made through one
   (kalm-quantize writes a whole model before a part of it) has two such endings, and is found as well. */
#ifndef KALM__SINK_H
#define KALM__SINK_H

#include "files.h"
#include "../base.h"
#if !defined(_WIN32)
#  include <dirent.h>
#  include <sys/file.h>
#endif

typedef struct kalm__sink {
    int   fd;                          /* -1: closed */
    char *path, *temporary;            /* owned */
} kalm__sink;

KALM__FN void kalm__remove_file(const char *path)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(path);
    if (wide) DeleteFileW(wide);
    free(wide);
#else
    unlink(path);
#endif
}

enum { KALM__TEMPORARY_DIGITS = 12, KALM__TEMPORARY_EXTRA = 5 + KALM__TEMPORARY_DIGITS };      /* ".tmp-" and digits */

/* A name beside `path` that hardly anybody else has; to: strlen(path) + KALM__TEMPORARY_EXTRA + 1 bytes. Time, process and an
   address make it differ; it need not be secret, since files are created only where there is none. */
KALM__FN void kalm__temporary_name(char *to, const char *path, unsigned attempt)
{
    uint64_t seed[4];
    size_t n = strlen(path);
    kalm__writer w;
#if defined(_WIN32)
    LARGE_INTEGER t;
    QueryPerformanceCounter(&t);
    seed[0] = (uint64_t)t.QuadPart ^ (uint64_t)time(NULL) << 32;
    seed[1] = (uint64_t)GetCurrentProcessId();
#else
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    seed[0] = (uint64_t)t.tv_sec << 30 ^ (uint64_t)t.tv_nsec;
    seed[1] = (uint64_t)getpid();
#endif
    seed[2] = (uint64_t)(uintptr_t)&w;
    seed[3] = attempt;
    memcpy(to, path, n);
    w.at = to + n;
    w.room = KALM__TEMPORARY_EXTRA;
    kalm__put_word(&w, ".tmp-");
    kalm__put_number(&w, kalm__hash(seed, sizeof seed) >> 16, 16, KALM__TEMPORARY_DIGITS);
    *w.at = 0;
}

#if !defined(_WIN32)
/* Is `name` what kalm__temporary_name makes of a target called base [n], or of a temporary file of that target? */
KALM__FN int kalm__is_temporary(const char *name, const char *base, size_t n)
{
    size_t left = strlen(name), i;
    if (left <= n || left > n + (size_t)2 * KALM__TEMPORARY_EXTRA || memcmp(name, base, n)) return 0;
    for (name += n, left -= n; left; name += KALM__TEMPORARY_EXTRA, left -= KALM__TEMPORARY_EXTRA) {
        if (left < KALM__TEMPORARY_EXTRA || memcmp(name, ".tmp-", 5)) return 0;
        for (i = 5; i < KALM__TEMPORARY_EXTRA; i++)
            if (!(name[i] >= '0' && name[i] <= '9') && !(name[i] >= 'a' && name[i] <= 'f')) return 0;
    }
    return 1;
}

/* Remove the temporary file at `path` if the process that wrote it is gone. */
KALM__FN void kalm__remove_left_over(const char *path)
{
    struct stat st, now;
    int fd;
    if (lstat(path, &st) || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1) return;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB) && !fstat(fd, &now) && now.st_dev == st.st_dev && now.st_ino == st.st_ino) unlink(path);
    close(fd);
}

/* Remove what killed runs left beside `path`. A failure here is no failure of the run. */
KALM__FN void kalm__remove_left_overs(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t at = (size_t)(base - path), n = strlen(base);
    char *name = (char *)malloc(strlen(path) + (size_t)2 * KALM__TEMPORARY_EXTRA + 1);
    DIR *folder = NULL;
    struct dirent *e;
    if (name) {
        memcpy(name, path, at);
        name[at] = 0;
        folder = opendir(at ? name : ".");
    }
    while (folder && (e = readdir(folder)) != NULL)
        if (kalm__is_temporary(e->d_name, base, n)) {
            memcpy(name + at, e->d_name, strlen(e->d_name) + 1);
            kalm__remove_left_over(name);
        }
    if (folder) closedir(folder);
    free(name);
}
#endif

/* While a temporary file is there a signal removes it (files.h). */
KALM__FN void kalm__unfinished_add(const char *path)
{
    int i;
    for (i = 0; i < KALM__UNFINISHED; i++)
        if (!kalm__unfinished[i]) {
            kalm__unfinished[i] = path;
            return;
        }
}
KALM__FN void kalm__unfinished_end(const char *path)
{
    int i;
    for (i = 0; i < KALM__UNFINISHED; i++)
        if (kalm__unfinished[i] == path) kalm__unfinished[i] = NULL;
}

/* The file `name`, new, open and locked; -1 and errno on failure, which is EEXIST where another name is to be tried. */
KALM__FN int kalm__create_locked(const char *name)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(name);
    int fd = -1;
    errno = ENOMEM;
    if (wide) fd = _wopen(wide, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY, _S_IREAD | _S_IWRITE);
    free(wide);
    return fd;
#else
    struct stat st;
    int taken, fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        if (errno == EINTR) errno = EEXIST;
        return -1;
    }
    taken = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;      /* some file systems have no locks */
    if (fstat(fd, &st)) {
        int why = errno;
        unlink(name);
        close(fd);
        errno = why;
        return -1;
    }
    if (st.st_nlink && !taken) return fd;
    close(fd);                         /* another run has taken the file for left over before the lock was there */
    errno = EEXIST;
    return -1;
#endif
}

/* A new temporary file, open and locked; -1 and errno on failure. It is entered as unfinished before it is there: a signal may end
   the process at any moment. */
KALM__FN int kalm__create_temporary(char *name, const char *path)
{
    unsigned attempt;
    for (attempt = 0; attempt < 100; attempt++) {
        int fd, why;
        kalm__temporary_name(name, path, attempt);
        kalm__unfinished_add(name);
        fd = kalm__create_locked(name);
        if (fd >= 0) return fd;
        why = errno;
        kalm__unfinished_end(name);
        errno = why;
        if (why != EEXIST) break;
    }
    return -1;
}

/* Begin to write what will be the file `path`. What is there now stays until kalm__sink_finish; it must be a regular file. */
KALM__FN kalm_result kalm__sink_open(kalm__sink *s, const char *path, kalm_error *err)
{
    size_t n = strlen(path);
#if !defined(_WIN32)
    struct stat st;
    int there = !stat(path, &st), why = there ? 0 : errno;
#endif
    s->fd = -1;
    s->path = s->temporary = NULL;
    if (!n) return kalm__fail(err, KALM_CANNOT_READ, "the name of the file that is to be written is empty");
#if defined(_WIN32)
    if (kalm__directory_exists(path))
        return kalm__fail(err, KALM_CANNOT_READ, "%s cannot be written: it is a folder", kalm__shown(path));
#else
    if (!there && why != ENOENT)                   /* who may read it could not be kept */
        return kalm__fail(err, KALM_CANNOT_READ, "cannot write %s: %s", kalm__shown(path), strerror(why));
    if (there && !S_ISREG(st.st_mode))             /* a rename would take the place of a device or a pipe */
        return kalm__fail(err, KALM_CANNOT_READ, "%s cannot be written: it is %s", kalm__shown(path),
                          S_ISDIR(st.st_mode) ? "a folder" : "not a regular file");
    kalm__remove_left_overs(path);
#endif
    s->path = (char *)malloc(n + 1);
    s->temporary = (char *)malloc(n + KALM__TEMPORARY_EXTRA + 1);
    if (!s->path || !s->temporary) {
        free(s->path);
        free(s->temporary);
        s->path = s->temporary = NULL;
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    }
    memcpy(s->path, path, n + 1);
    s->fd = kalm__create_temporary(s->temporary, path);
    if (s->fd < 0) {
        kalm_result r = kalm__fail(err, KALM_CANNOT_READ, "cannot create %s: %s", kalm__shown(s->temporary),
                                   kalm__os_error());
        free(s->path);
        free(s->temporary);
        s->path = s->temporary = NULL;
        return r;
    }
#if !defined(_WIN32)
    /* Who may read the old file may read the new one, and nobody else. */
    if (there && fchmod(s->fd, st.st_mode & 0777)) {
        kalm_result r = kalm__fail(err, KALM_CANNOT_READ, "cannot give %s the permissions of the old file: %s",
                                   kalm__shown(s->temporary), kalm__os_error());
        kalm__remove_file(s->temporary);
        kalm__unfinished_end(s->temporary);
        close(s->fd);
        s->fd = -1;
        free(s->path);
        free(s->temporary);
        s->path = s->temporary = NULL;
        return r;
    }
#endif
    return KALM_OK;
}

/* Close and remove what was written. May be called twice, and on a sink that never opened. */
KALM__FN void kalm__sink_abandon(kalm__sink *s)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    if (s->temporary) {
        kalm__remove_file(s->temporary);
        kalm__unfinished_end(s->temporary);
    }
    free(s->path);
    free(s->temporary);
    s->path = s->temporary = NULL;
}

/* `size` bytes at `offset`. */
KALM__FN kalm_result kalm__sink_write(kalm__sink *s, uint64_t offset, const void *data, size_t size, kalm_error *err)
{
    const unsigned char *p = (const unsigned char *)data;
#if defined(_WIN32)
    int moved = _lseeki64(s->fd, (long long)offset, SEEK_SET) >= 0;
#else
    int moved = lseek(s->fd, (off_t)offset, SEEK_SET) >= 0;
#endif
    while (moved && size) {
        size_t part = kalm__min(size, (size_t)1 << 26);
#if defined(_WIN32)
        int n = _write(s->fd, p, (unsigned)part);
#else
        ssize_t n = write(s->fd, p, part);
        if (n < 0 && errno == EINTR) continue;
        if (!n) errno = EIO;           /* which would otherwise go on for ever, or have no reason */
#endif
        if (n <= 0) break;
        p += n;
        size -= (size_t)n;
    }
    if (!moved || size)
        return kalm__fail(err, KALM_CANNOT_READ, "cannot write %s: %s", kalm__shown(s->temporary),
                          kalm__os_error());
    return KALM_OK;
}

/* Everything is written: make it lasting and close it. On failure the sink is still to be abandoned. */
KALM__FN kalm_result kalm__sink_close(kalm__sink *s, kalm_error *err)
{
    int bad, why;
#if defined(_WIN32)
    bad = _commit(s->fd);
#else
    while ((bad = fsync(s->fd)) != 0 && errno == EINTR) {}
    if (bad && (errno == EINVAL || errno == ENOTSUP)) bad = 0;      /* file systems that know no fsync */
#endif
    why = errno;
    if (close(s->fd)) {
        if (!bad) why = errno;
        bad = 1;
    }
    s->fd = -1;
    if (bad)
        return kalm__fail(err, KALM_CANNOT_READ, "cannot write %s: %s", kalm__shown(s->temporary), strerror(why));
    return KALM_OK;
}

#if !defined(_WIN32)
/* A new name lasts when the folder is on the disk. Some file systems know no fsync of folders; the file is whole in any case. */
KALM__FN void kalm__sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    char *name = (char *)malloc(n + 2);
    int fd;
    if (!name) return;
    memcpy(name, n ? path : ".", n ? n : 1);
    name[n ? n : 1] = 0;
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    free(name);
}
#endif

/* Close, where that is still to be done, and give the file its name. On failure the sink is still to be abandoned. */
KALM__FN kalm_result kalm__sink_finish(kalm__sink *s, kalm_error *err)
{
    int bad;
    if (s->fd >= 0) {
        kalm_result r = kalm__sink_close(s, err);
        if (r) return r;
    }
#if defined(_WIN32)
    {
        WCHAR *from = kalm__wide_path(s->temporary), *to = kalm__wide_path(s->path);
        bad = !from || !to || !MoveFileExW(from, to, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
        free(from);
        free(to);
    }
#else
    bad = rename(s->temporary, s->path);
#endif
    if (bad)
        return kalm__fail(err, KALM_CANNOT_READ, "cannot rename %s to its final name: %s", kalm__shown(s->temporary),
                          kalm__os_error());
#if !defined(_WIN32)
    kalm__sync_folder(s->path);
#endif
    kalm__unfinished_end(s->temporary);
    free(s->path);
    free(s->temporary);
    s->path = s->temporary = NULL;
    return KALM_OK;
}

/* A whole small file at once. */
KALM__FN kalm_result kalm__write_whole(const char *path, const void *data, size_t size, kalm_error *err)
{
    kalm__sink s;
    kalm_result r = kalm__sink_open(&s, path, err);
    if (!r) r = kalm__sink_write(&s, 0, data, size, err);
    if (!r) r = kalm__sink_finish(&s, err);
    if (r) kalm__sink_abandon(&s);
    return r;
}

/* Bytes that may still be written where `path` lies; UINT64_MAX when the system does not say. */
KALM__FN uint64_t kalm__free_space(kalm__sink *s)
{
#if defined(_WIN32)
    (void)s;
    return UINT64_MAX;
#else
    struct statvfs v;
    if (fstatvfs(s->fd, &v) || !v.f_blocks) return UINT64_MAX;
    return (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
#endif
}

#endif
