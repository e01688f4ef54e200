/* files.h - what the commands ask of the operating system: reading a file at any offset from several threads, time, a
   terminal's width, and whether the user has interrupted. Files are written by sink.h. POSIX and Windows stand side by side
   in these two and nowhere else. Paths are UTF-8. No part of the runtime. */
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
#elif !defined(_CRT_RAND_S)
#  define _CRT_RAND_S                  /* rand_s, for secret.h */
#endif

#include "../base.h"
#include "../platform.h"
#include "../recognise.h"
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
#  include <sys/time.h>
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

/* errno of a path that could not be looked at: is something else wrong than that there is nothing of that name, or nothing for us? */
KALM__FN int kalm__cannot_look(int why)
{
#if defined(_WIN32)
    (void)why;
    return 0;
#else
    return why && why != ENOENT && why != ENOTDIR && why != ENAMETOOLONG && why != ELOOP && why != EACCES;
#endif
}

/* Also where nobody can tell: who opens it then learns why, and takes nothing for missing that is there. */
KALM__FN int kalm__file_exists(const char *path)
{
#if defined(_WIN32)
    WCHAR *wide = kalm__wide_path(path);
    DWORD a = wide ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    free(wide);
    return a != INVALID_FILE_ATTRIBUTES && !(a & FILE_ATTRIBUTE_DIRECTORY);
#else
    struct stat st;
    if (stat(path, &st)) return kalm__cannot_look(errno);
    return !S_ISDIR(st.st_mode);
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

/* The same for a file that must not be empty, nor be one of the things that stand in its place when a download went wrong.
   what: "JSON" or "a tokenizer", either of which may be JSON. */
KALM__FN kalm_result kalm__read_expected(const char *path, uint64_t limit, const char *what, char **data, size_t *size,
                                         kalm_error *err)
{
    const char *is;
    kalm_result r = kalm__read_whole(path, limit, data, size, err);
    if (r) return r;
    is = kalm__recognise(*data, *size);
    if (!*size) r = kalm__fail(err, KALM_BAD_FILE, "%s: the file is empty", kalm__shown(path));
    else if (is && !kalm__begins_json(*data, *size))
        r = kalm__fail(err, KALM_BAD_FILE, "%s: not %s but %s", kalm__shown(path), what, is);
    if (r) {
        free(*data);
        *data = NULL;
    }
    return r;
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

/* Set by SIGINT, SIGTERM and SIGHUP. A command that writes files looks at it between two blocks, ends in order and says so. Where
   that takes longer than 60 ms (a large matrix is being factored, a disk is slow) it ends all the same: its temporary files are
   removed, and the exit status is the same, 128 + the signal's number. Windows has no such timer: there it ends at its next look. */
static volatile sig_atomic_t kalm__interrupted;

/* Temporary files that must not stay behind; sink.h enters and removes them. */
enum { KALM__UNFINISHED = 8 };
static const char *volatile kalm__unfinished[KALM__UNFINISHED];

#if !defined(_WIN32)
/* In a signal handler: only calls that may be made there. */
KALM__FN void kalm__remove_unfinished(void)
{
    int i;
    for (i = 0; i < KALM__UNFINISHED; i++) {
        const char *path = kalm__unfinished[i];
        if (path) unlink(path);
    }
}

KALM__FN void kalm__end_at_once(int number)
{
    static const char farewell[] = "interrupted\n";
    ssize_t written;
    (void)number;
    kalm__remove_unfinished();
    written = write(2, farewell, sizeof farewell - 1);
    (void)written;
    _exit(128 + (int)kalm__interrupted);
}

/* SIGALRM after 60 ms. */
KALM__FN void kalm__set_alarm(void)
{
    struct itimerval t;
    memset(&t, 0, sizeof t);
    t.it_value.tv_usec = 60000;
    setitimer(ITIMER_REAL, &t, NULL);
}
#endif

KALM__FN void kalm__on_signal(int number)
{
    kalm__interrupted = number;
#if !defined(_WIN32)
    kalm__set_alarm();
#endif
}

KALM__FN void kalm__catch_signals(void)
{
#if defined(_WIN32)
    signal(SIGINT, kalm__on_signal);
    signal(SIGTERM, kalm__on_signal);
#else
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigemptyset(&a.sa_mask);
    a.sa_handler = kalm__end_at_once;
    sigaction(SIGALRM, &a, NULL);
    a.sa_handler = kalm__on_signal;
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
    a.sa_handler = SIG_IGN;            /* a file size limit is then an error of write, with a sentence */
    sigaction(SIGXFSZ, &a, NULL);
#endif
}

#endif
