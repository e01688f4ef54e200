/* files.h - what the converter asks of the operating system: reading at an offset from several threads, a temporary file
   that is renamed when it is whole, free space, time, a terminal's width, a word when the user interrupts. POSIX and
   Windows stand side by side here and nowhere else in the converter. Paths are UTF-8. No part of the runtime. */
#ifndef KALM__FILES_H
#define KALM__FILES_H

/* Asked for before the first system header, so this part comes first in a program: 64-bit offsets, pread, sigaction. */
#if !defined(_WIN32)
#  ifndef _POSIX_C_SOURCE
#    define _POSIX_C_SOURCE 200809L
#  endif
#  ifndef _DEFAULT_SOURCE
#    define _DEFAULT_SOURCE
#  endif
#  ifndef _DARWIN_C_SOURCE
#    define _DARWIN_C_SOURCE
#  endif
#  ifndef _FILE_OFFSET_BITS
#    define _FILE_OFFSET_BITS 64
#  endif
#endif

#include "../base.h"
#include "../platform.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#if defined(_WIN32)
#  include <io.h>
#  include <shellapi.h>
#  if defined(_MSC_VER)
#    pragma comment(lib, "shell32")    /* CommandLineToArgvW */
#  endif
#else
#  include <sys/ioctl.h>
#  include <sys/statvfs.h>
#  include <unistd.h>
#endif

/* A message of the C library for the last failure. */
KALM__FN const char *kalm__os_error(void) { return strerror(errno); }

/* A path for an error: of a long one its end, which tells more than its beginning. */
KALM__FN const char *kalm__shown(const char *path)
{
    size_t n = strlen(path);
    return n > 140 ? path + n - 140 : path;
}

/* dir + "/" + name, or name alone where it is absolute or dir is empty; to be freed; NULL without memory. */
KALM__FN char *kalm__join_path(const char *dir, const char *name)
{
    size_t d = strlen(dir), n = strlen(name);
    char *path = (char *)malloc(d + n + 2);
    if (!path) return NULL;
    memcpy(path, dir, d);
    if (d && dir[d - 1] != '/') path[d++] = '/';
    memcpy(path + d, name, n + 1);
    return path;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

typedef struct kalm__input {
#if defined(_WIN32)
    HANDLE   handle;
#else
    int      fd;
#endif
    uint64_t size;
    int      open;
} kalm__input;

#if defined(_WIN32)
/* The path as the system wants it; to be freed. */
KALM__FN WCHAR *kalm__wide_path(const char *path)
{
    int n = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    WCHAR *wide = n > 0 ? (WCHAR *)malloc((size_t)n * sizeof *wide) : NULL;
    if (wide) MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, n);
    return wide;
}
#endif

/* main's arguments in UTF-8, first thing in main: Windows hands them over in the code page of the day, and its consoles
   show it. Elsewhere nothing happens. */
KALM__FN void kalm__utf8_arguments(int *argc, char ***argv)
{
#if defined(_WIN32)
    int count = 0, i;
    WCHAR **wide = CommandLineToArgvW(GetCommandLineW(), &count);
    char **utf8 = wide ? (char **)calloc((size_t)count + 1, sizeof *utf8) : NULL;
    SetConsoleOutputCP(CP_UTF8);
    for (i = 0; utf8 && i < count; i++) {
        int n = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        utf8[i] = n > 0 ? (char *)malloc((size_t)n) : NULL;
        if (!utf8[i]) return;
        WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, utf8[i], n, NULL, NULL);
    }
    if (wide) LocalFree(wide);
    if (!utf8) return;
    *argc = count;
    *argv = utf8;
#else
    (void)argc, (void)argv;
#endif
}

KALM__FN int kalm__file_exists(const char *path)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(path);
    DWORD a = wide ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    free(wide);
    return a != INVALID_FILE_ATTRIBUTES && !(a & FILE_ATTRIBUTE_DIRECTORY);
#else
    struct stat st;
    return !stat(path, &st) && !S_ISDIR(st.st_mode);
#endif
}

KALM__FN int kalm__directory_exists(const char *path)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(path);
    DWORD a = wide ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    free(wide);
    return a != INVALID_FILE_ATTRIBUTES && (a & FILE_ATTRIBUTE_DIRECTORY);
#else
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
#endif
}

KALM__FN kalm_result kalm__input_open(kalm__input *s, const char *path, kalm_error *err)
{
    memset(s, 0, sizeof *s);
#if defined(_WIN32)
    {
        WCHAR *wide = kalm__wide_path(path);
        LARGE_INTEGER size;
        s->handle = wide ? CreateFileW(wide, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                                       FILE_ATTRIBUTE_NORMAL, NULL) : INVALID_HANDLE_VALUE;
        free(wide);
        if (s->handle == INVALID_HANDLE_VALUE)
            return kalm__fail(err, KALM_CANNOT_READ, "%s: no such file, or it cannot be opened", kalm__shown(path));
        if (!GetFileSizeEx(s->handle, &size)) {
            CloseHandle(s->handle);
            return kalm__fail(err, KALM_CANNOT_READ, "%s: cannot be measured", kalm__shown(path));
        }
        s->size = (uint64_t)size.QuadPart;
    }
#else
    {
        struct stat st;
        s->fd = open(path, O_RDONLY | O_NONBLOCK);     /* of a pipe this does not wait for a writer; files do not care */
        if (s->fd < 0) return kalm__fail(err, KALM_CANNOT_READ, "%s: %s", kalm__shown(path), kalm__os_error());
        if (fstat(s->fd, &st) || !S_ISREG(st.st_mode)) {
            close(s->fd);
            return kalm__fail(err, KALM_CANNOT_READ, "%s: not a regular file", kalm__shown(path));
        }
        s->size = (uint64_t)st.st_size;
    }
#endif
    s->open = 1;
    return KALM_OK;
}

KALM__FN void kalm__input_close(kalm__input *s)
{
    if (!s->open) return;
#if defined(_WIN32)
    CloseHandle(s->handle);
#else
    close(s->fd);
#endif
    s->open = 0;
}

/* All `size` bytes at `offset`, from any thread; 0 when the file ends before, or on an error of the medium. */
KALM__FN int kalm__input_read(const kalm__input *s, uint64_t offset, void *data, size_t size)
{
    unsigned char *p = (unsigned char *)data;
    while (size) {
        size_t part = kalm__min(size, (size_t)1 << 26);
#if defined(_WIN32)
        OVERLAPPED o;
        DWORD n = 0;
        memset(&o, 0, sizeof o);
        o.Offset = (DWORD)offset;
        o.OffsetHigh = (DWORD)(offset >> 32);
        if (!ReadFile(s->handle, p, (DWORD)part, &n, &o) || !n) return 0;
#else
        ssize_t n = pread(s->fd, p, part, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
#endif
        p += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 1;
}

/* A whole file of at most `limit` bytes; *data to be freed, a NUL stands behind it. */
KALM__FN kalm_result kalm__read_whole(const char *path, uint64_t limit, char **data, size_t *size, kalm_error *err)
{
    kalm__input s;
    kalm_result r = kalm__input_open(&s, path, err);
    if (r) return r;
    *data = NULL;
    *size = (size_t)s.size;
    if (s.size > limit)
        r = kalm__fail(err, KALM_BAD_FILE, "%s: %U bytes are too many for such a file", kalm__shown(path), s.size);
    else if (!(*data = (char *)malloc(*size + 1)))
        r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %U bytes of %q", s.size, path, strlen(path));
    else if (!kalm__input_read(&s, 0, *data, *size))
        r = kalm__fail(err, KALM_CANNOT_READ, "%s: cannot be read to its end", kalm__shown(path));
    else (*data)[*size] = 0;
    kalm__input_close(&s);
    if (r) {
        free(*data);
        *data = NULL;
    }
    return r;
}

/* ---- writing: a temporary file beside the target, renamed when it is whole ----------------------------------------- */

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

KALM__FN kalm_result kalm__sink_open(kalm__sink *s, const char *path, kalm_error *err)
{
    size_t n = strlen(path);
    s->fd = -1;
    s->path = (char *)malloc(n + 1);
    s->temporary = (char *)malloc(n + 32);
    if (!s->path || !s->temporary) {
        free(s->path);
        free(s->temporary);
        s->path = s->temporary = NULL;
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    }
    memcpy(s->path, path, n + 1);
#if defined(_WIN32)
    snprintf(s->temporary, n + 32, "%s.tmp-%lu", path, (unsigned long)GetCurrentProcessId());
    {
        WCHAR *wide = kalm__wide_path(s->temporary);
        if (wide) s->fd = _wopen(wide, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY, _S_IREAD | _S_IWRITE);
        free(wide);
    }
#else
    snprintf(s->temporary, n + 32, "%s.tmp-%lu", path, (unsigned long)getpid());
    s->fd = open(s->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
#endif
    if (s->fd < 0) {
        kalm_result r = kalm__fail(err, KALM_CANNOT_READ, "cannot create %s: %s", kalm__shown(s->temporary),
                                   kalm__os_error());
        free(s->path);
        free(s->temporary);
        s->path = s->temporary = NULL;
        return r;
    }
    return KALM_OK;
}

/* Close and remove what was written. May be called twice, and on a sink that never opened. */
KALM__FN void kalm__sink_abandon(kalm__sink *s)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    if (s->temporary) kalm__remove_file(s->temporary);
    free(s->path);
    free(s->temporary);
    s->path = s->temporary = NULL;
}

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
    int bad;
#if defined(_WIN32)
    bad = _commit(s->fd);
#else
    bad = fsync(s->fd);
    if (bad && (errno == EINVAL || errno == ENOTSUP)) bad = 0;      /* file systems that know no fsync */
#endif
    if (close(s->fd)) bad = 1;
    s->fd = -1;
    if (bad)
        return kalm__fail(err, KALM_CANNOT_READ, "cannot write %s: %s", kalm__shown(s->temporary), kalm__os_error());
    return KALM_OK;
}

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
    free(s->path);
    free(s->temporary);
    s->path = s->temporary = NULL;
    return KALM_OK;
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

/* ---- time, terminal, interruption ---------------------------------------------------------------------------------- */

/* Seconds since some moment, going only forward. */
KALM__FN double kalm__now(void)
{
#if defined(_WIN32)
    LARGE_INTEGER t, f;
    QueryPerformanceCounter(&t);
    QueryPerformanceFrequency(&f);
    return (double)t.QuadPart / (double)f.QuadPart;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
#endif
}

/* Columns of the terminal that stderr is; 0 when it is none. */
KALM__FN int kalm__terminal_width(void)
{
#if defined(_WIN32)
    return _isatty(2) ? 79 : 0;
#else
    struct winsize w;
    if (!isatty(2)) return 0;
    return !ioctl(2, TIOCGWINSZ, &w) && w.ws_col > 20 ? w.ws_col : 80;
#endif
}

/* Set by SIGINT, SIGTERM and SIGHUP; the converter looks at it between two blocks and cleans up. */
static volatile sig_atomic_t kalm__interrupted;

KALM__FN void kalm__on_signal(int number)
{
    kalm__interrupted = number;
}

KALM__FN void kalm__catch_signals(void)
{
#if defined(_WIN32)
    signal(SIGINT, kalm__on_signal);
    signal(SIGTERM, kalm__on_signal);
#else
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = kalm__on_signal;
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
    a.sa_handler = SIG_IGN;            /* a file size limit is then an error of write, with a sentence */
    sigaction(SIGXFSZ, &a, NULL);
#endif
}

#endif
