/* preload.c - a system that fails on request: LD_PRELOAD=preload.so KALM_FAULT=WHAT:N[:HOW] COMMAND. The N-th call of WHAT (from 1)
   fails, and all that follow where N ends with "+". KALM_FAULT_COUNT=FILE writes how many calls there were when the program
   ends, so that a script knows how many N there are.

     malloc    malloc, calloc, realloc, posix_memalign, aligned_alloc: no memory; but for what SQLite and GLib ask
     sqlite    those of SQLite. GLib ends the process where there is no memory
     read      read, pread, fread: HOW is "short" (half of it, at least a byte), EINTR or EIO; fread, which gets
               over the others itself, has EIO alone
     write     write, pwrite, ftruncate: HOW is "short", EINTR, ENOSPC or EIO
     socket    recv, send, sendmsg, accept4, epoll_wait, poll: HOW is "short" (of the last three: nothing) or EINTR
     open      open, openat: HOW is EMFILE or EACCES
     folder    opendir, readdir, stat, lstat, fstat: EIO; but for those of SQLite and GLib
     sync      fsync, fdatasync: EIO        rename    rename: EIO        map    mmap of a file: ENOMEM        thread    pthread_create: EAGAIN
     flush     fflush, fclose of a file that is written: ENOSPC, and what was not on the disk by then is not
     kill      any read, write, sync, rename, open or flush: the process is killed before it

   EINTR comes once: nobody would get over it for ever. stdio makes its system calls inside the C library, where nothing comes between: of its files flushes fail, and standard output is tried
   with /dev/full. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { NOTHING, MALLOC, READ, WRITE, OPEN, SYNC, RENAME, FLUSH, MAP, THREAD, SQLITE, SOCKET, FOLDER, KILL };

static int what, how, everything_after, shorter, over;
static unsigned long at, count;

/* Where the code of libraries lies that have their own way without memory, SQLite first. */
enum { APART = 8 };
static struct { uintptr_t begin, end; int is_sqlite; } apart[APART];
static int aparts;

static int note_library(struct dl_phdr_info *info, size_t size, void *user)
{
    int i, is_sqlite = strstr(info->dlpi_name, "libsqlite3") != NULL;
    (void)size, (void)user;
    if (!is_sqlite && !strstr(info->dlpi_name, "libglib-") && !strstr(info->dlpi_name, "libgobject-")) return 0;
    for (i = 0; i < info->dlpi_phnum && aparts < APART; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
            apart[aparts].begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            apart[aparts].end = apart[aparts].begin + info->dlpi_phdr[i].p_memsz;
            apart[aparts++].is_sqlite = is_sqlite;
        }
    return 0;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

__attribute__((constructor)) static void begin(void)
{
    static const char *const names[] = { "", "malloc", "read", "write", "open", "sync", "rename", "flush", "map", "thread", "sqlite", "socket", "folder", "kill" };
    static const int errors[] = { 0, ENOMEM, EIO, ENOSPC, EMFILE, EIO, EIO, ENOSPC, ENOMEM, EAGAIN, ENOMEM, EINTR, EIO, 0 };
    const char *s = getenv("KALM_FAULT"), *colon = s ? strchr(s, ':') : NULL;
    char *end;
    int i;
    if (!colon) return;
    for (i = MALLOC; i <= KILL; i++)
        if (strlen(names[i]) == (size_t)(colon - s) && !strncmp(names[i], s, strlen(names[i]))) {
            at = strtoul(colon + 1, &end, 10);
            if (*end == '+') everything_after = 1, end++;
            how = errors[i];
            if (*end == ':') {
                shorter = !strcmp(end + 1, "short");
                if (!strcmp(end + 1, "EIO")) how = EIO;
                if (!strcmp(end + 1, "EACCES")) how = EACCES;
                if (!strcmp(end + 1, "ENOSPC")) how = ENOSPC;
                if (!strcmp(end + 1, "EINTR")) how = EINTR;
            }
            if (i == MALLOC || i == SQLITE || i == FOLDER) dl_iterate_phdr(note_library, NULL);
            count = 0;
            what = i;
        }
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("KALM_FAULT_COUNT");
    int fd;
    char text[32];
    if (!path || !what) return;
    what = NOTHING;
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) return;
    if (write(fd, text, (size_t)snprintf(text, sizeof text, "%lu\n", count)) < 0) abort();
    close(fd);
}

/* What runs when main has ended is not the command's: a build for coverage writes its counts then. */
static int (*command_main)(int, char **, char **);
static void ended(void) { over = 1; }
static int main_of_command(int argc, char **argv, char **environment)
{
    atexit(ended);                         /* first of all, so it runs behind what the command itself asks for, and before destructors */
    return command_main(argc, argv, environment);
}
int __libc_start_main(int (*main_)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader)(void), void *stack)
{
    int (*real)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
    void *found = dlsym(RTLD_NEXT, "__libc_start_main");
    memcpy(&real, &found, sizeof real);
    command_main = main_;
    return real(main_of_command, argc, argv, init, fini, loader, stack);
}

/* Does this call fail? */
static int fails(int kind)
{
    unsigned long n;
    if (over) return 0;
    if (what == KILL && kind >= READ && kind <= FLUSH) {
        n = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
        if (n == at) kill(getpid(), SIGKILL);
        return 0;
    }
    if (what != kind || kind == NOTHING) return 0;
    n = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
    if (n != at && !(everything_after && n > at)) return 0;
    errno = how;
    return 1;
}

/* Does this transfer fail altogether? Where it is to be short instead, *size is halved. */
static int broken(int kind, size_t *size)
{
    if (!fails(kind)) return 0;
    if (!shorter) return 1;
    if (*size > 1) *size /= 2;
    return 0;
}

/* The kind of a call of `caller`, which is `kind` but for libraries that have their own way. */
static int kind_of(const void *caller, int kind)
{
    int i;
    for (i = 0; i < aparts; i++)
        if ((uintptr_t)caller >= apart[i].begin && (uintptr_t)caller < apart[i].end)
            return kind == MALLOC && apart[i].is_sqlite ? SQLITE : NOTHING;
    return kind;
}
#define NO_MEMORY ((what == MALLOC || what == SQLITE) && fails(kind_of(__builtin_return_address(0), MALLOC)))
#define NO_FOLDER (what == FOLDER && fails(kind_of(__builtin_return_address(0), FOLDER)))

#define REAL(type, name, arguments)                                           \
    static type(*real) arguments;                                             \
    if (!real) {                                                              \
        void *found = dlsym(RTLD_NEXT, name);                                 \
        memcpy(&real, &found, sizeof real);                                   \
    }

void *malloc(size_t size) { return NO_MEMORY ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return NO_MEMORY ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return NO_MEMORY ? NULL : __libc_realloc(p, size); }
void *aligned_alloc(size_t alignment, size_t size) { return NO_MEMORY ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void **p, size_t alignment, size_t size)
{
    void *q = NO_MEMORY ? NULL : __libc_memalign(alignment, size);
    if (!q) return ENOMEM;
    *p = q;
    return 0;
}

ssize_t read(int fd, void *data, size_t size)
{
    REAL(ssize_t, "read", (int, void *, size_t))
    if (broken(READ, &size)) return -1;
    return real(fd, data, size);
}
size_t fread(void *data, size_t size, size_t n, FILE *f)
{
    REAL(size_t, "fread", (void *, size_t, size_t, FILE *))
    if (!shorter && how == EIO && fails(READ)) {
        f->_flags |= _IO_ERR_SEEN;
        errno = EIO;
        return 0;
    }
    return real(data, size, n, f);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t offset)
{
    REAL(ssize_t, "pread64", (int, void *, size_t, off64_t))
    if (broken(READ, &size)) return -1;
    return real(fd, data, size, offset);
}
ssize_t pread(int fd, void *data, size_t size, off_t offset) { return pread64(fd, data, size, offset); }
/* What threads wake each other with (eventfd, pipes) does not run full as a disk does. */
static int is_file(int fd)
{
    struct stat st;
    return what >= READ && fd > 2 && !fstat(fd, &st) && S_ISREG(st.st_mode);
}
ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", (int, const void *, size_t))
    if (is_file(fd) && broken(WRITE, &size)) return -1;
    return real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(ssize_t, "pwrite64", (int, const void *, size_t, off64_t))
    if (broken(WRITE, &size)) return -1;
    return real(fd, data, size, offset);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }
int ftruncate64(int fd, off64_t size)
{
    REAL(int, "ftruncate64", (int, off64_t))
    return fails(WRITE) && !shorter ? -1 : real(fd, size);
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int open_any(const char *path, int flags, unsigned mode)
{
    REAL(int, "open64", (const char *, int, ...))
    return fails(OPEN) ? -1 : real(path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    va_list args;
    unsigned mode;
    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, unsigned) : 0;
    va_end(args);
    return open_any(path, flags, mode);
}
int open(const char *path, int flags, ...)
{
    va_list args;
    unsigned mode;
    va_start(args, flags);
    mode = flags & O_CREAT ? va_arg(args, unsigned) : 0;
    va_end(args);
    return open_any(path, flags, mode);
}
FILE *fopen64(const char *path, const char *mode)
{
    REAL(FILE *, "fopen64", (const char *, const char *))
    return fails(OPEN) ? NULL : real(path, mode);
}
FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }

DIR *opendir(const char *path)
{
    REAL(DIR *, "opendir", (const char *))
    return NO_FOLDER ? NULL : real(path);
}
struct dirent64 *readdir64(DIR *d)
{
    REAL(struct dirent64 *, "readdir64", (DIR *))
    return NO_FOLDER ? NULL : real(d);
}
struct dirent *readdir(DIR *d) { return NO_FOLDER ? NULL : (struct dirent *)(void *)readdir64(d); }        /* the same on 64 bits */
#define A_STAT(name, arguments, values)                                       \
    int name arguments                                                        \
    {                                                                         \
        REAL(int, #name, arguments)                                           \
        return NO_FOLDER ? -1 : real values;                                  \
    }
A_STAT(stat, (const char *path, struct stat *st), (path, st))
A_STAT(lstat, (const char *path, struct stat *st), (path, st))
A_STAT(stat64, (const char *path, struct stat64 *st), (path, st))
A_STAT(lstat64, (const char *path, struct stat64 *st), (path, st))
A_STAT(fstat64, (int fd, struct stat64 *st), (fd, st))

int fflush(FILE *f)
{
    REAL(int, "fflush", (FILE *))
    if (f && f != stdout && f != stderr && fails(FLUSH)) {
        __fpurge(f);
        errno = how;
        return EOF;
    }
    return real(f);
}
int fclose(FILE *f)
{
    REAL(int, "fclose", (FILE *))
    if (f != stdout && f != stderr && __fwriting(f) && fails(FLUSH)) {
        __fpurge(f);
        real(f);
        errno = how;
        return EOF;
    }
    return real(f);
}

int fsync(int fd)
{
    REAL(int, "fsync", (int))
    return fails(SYNC) ? -1 : real(fd);
}
int fdatasync(int fd)
{
    REAL(int, "fdatasync", (int))
    return fails(SYNC) ? -1 : real(fd);
}
int rename(const char *from, const char *to)
{
    REAL(int, "rename", (const char *, const char *))
    return fails(RENAME) ? -1 : real(from, to);
}
int link(const char *from, const char *to)
{
    REAL(int, "link", (const char *, const char *))
    return fails(RENAME) ? -1 : real(from, to);
}
void *mmap64(void *p, size_t size, int protection, int flags, int fd, off64_t offset)
{
    REAL(void *, "mmap64", (void *, size_t, int, int, int, off64_t))
    return fd >= 0 && fails(MAP) ? MAP_FAILED : real(p, size, protection, flags, fd, offset);
}
void *mmap(void *p, size_t size, int protection, int flags, int fd, off_t offset) { return mmap64(p, size, protection, flags, fd, offset); }
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin_)(void *), void *arg)
{
    REAL(int, "pthread_create", (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))
    return fails(THREAD) ? EAGAIN : real(thread, attributes, begin_, arg);
}

/* ---- sockets ---- */
/* A program that waits for edges (EPOLLET) may take a transfer that is shorter than what it asked for as a sign that the socket has no more: the
   system would tell it of what comes later. A transfer that was cut short here is such a case: setting the socket's events again is
   what tells. So it is kept where each socket waits. */
enum { SOCKETS = 1024 };
static struct { int waits, in; struct epoll_event for_what; } waiting[SOCKETS];
int epoll_ctl(int in, int operation, int fd, struct epoll_event *event)
{
    REAL(int, "epoll_ctl", (int, int, int, struct epoll_event *))
    int status = real(in, operation, fd, event);
    if (!status && fd >= 0 && fd < SOCKETS) {
        waiting[fd].waits = operation != EPOLL_CTL_DEL && event;
        waiting[fd].in = in;
        if (waiting[fd].waits) waiting[fd].for_what = *event;
    }
    return status;
}
static ssize_t cut_short(int fd, ssize_t size)
{
    REAL(int, "epoll_ctl", (int, int, int, struct epoll_event *))
    int was = errno;
    if (fd >= 0 && fd < SOCKETS && waiting[fd].waits) (void)real(waiting[fd].in, EPOLL_CTL_MOD, fd, &waiting[fd].for_what);
    errno = was;
    return size;
}
ssize_t recv(int fd, void *data, size_t size, int flags)
{
    REAL(ssize_t, "recv", (int, void *, size_t, int))
    if (fails(SOCKET)) {
        if (!shorter) return -1;
        return cut_short(fd, real(fd, data, size > 1 ? 1 + size / 64 : size, flags));
    }
    return real(fd, data, size, flags);
}
ssize_t send(int fd, const void *data, size_t size, int flags)
{
    REAL(ssize_t, "send", (int, const void *, size_t, int))
    size_t all = size;
    if (broken(SOCKET, &size)) return -1;
    return size == all ? real(fd, data, size, flags) : cut_short(fd, real(fd, data, size, flags));
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(ssize_t, "sendmsg", (int, const struct msghdr *, int))
    struct msghdr first;
    struct iovec half;
    if (fails(SOCKET)) {
        if (!shorter) return -1;
        if (message->msg_iovlen) {         /* half of its first piece */
            first = *message, half = message->msg_iov[0];
            if (half.iov_len > 1) half.iov_len /= 2;
            first.msg_iov = &half, first.msg_iovlen = 1;
            return cut_short(fd, real(fd, &first, flags));
        }
    }
    return real(fd, message, flags);
}
int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    REAL(int, "accept4", (int, struct sockaddr *, socklen_t *, int))
    return fails(SOCKET) ? (errno = shorter ? EAGAIN : EINTR, -1) : real(fd, address, size, flags);
}
int epoll_wait(int fd, struct epoll_event *events, int most, int wait)
{
    REAL(int, "epoll_wait", (int, struct epoll_event *, int, int))
    return fails(SOCKET) ? shorter ? 0 : -1 : real(fd, events, most, wait);
}
int poll(struct pollfd *p, nfds_t n, int wait)
{
    REAL(int, "poll", (struct pollfd *, nfds_t, int))
    return fails(SOCKET) ? shorter ? 0 : -1 : real(p, n, wait);
}
