/* command_world.h - lets a whole command run inside the fuzzer again and again: included before the command's source, whose main
   gets another name. Ending the command comes back to the fuzzer; what it had not given back by then (memory, files, mappings,
   databases) is given back for it, as the system would; what it says on standard error is kept, so that the fuzzer can ask for
   a sentence. Signals stay the fuzzer's own. */
#ifndef FUZZ_COMMAND_WORLD_H
#define FUZZ_COMMAND_WORLD_H

#if !defined(FUZZ_WORLD_ITSELF)
#  if !defined(FUZZ_APART)
#    define KALM_RERANK_STATIC         /* each command has a library of its own; FUZZ_APART: they are linked with one that was built for them */
#  endif
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#  include <immintrin.h>               /* whose allocator is inline */
#endif

#if defined(__cplusplus)
#  error "the commands are C"
#endif

typedef int fuzz_main(int argc, char **argv);
fuzz_main fuzz_main_index, fuzz_main_rerank, fuzz_main_eval, fuzz_main_spool, fuzz_main_quantize, fuzz_main_request, fuzz_main_kept, fuzz_main_search, fuzz_main_texts, fuzz_main_json, fuzz_main_peer;

/* The checksum of kalm-eval's own lines. */
uint64_t fuzz_eval_hash(const void *data, size_t size);

/* Runs a command, arguments up to a NULL; returns its exit status. */
int fuzz_command(fuzz_main *command, ...);
/* For the next command alone: the files that are its standard input and output. Without, it prints nowhere. */
void fuzz_command_streams(const char *in, const char *out);
/* What it said on standard error. */
const char *fuzz_command_said(void);

void fuzz_exit(int status) __attribute__((noreturn));
void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t n, size_t size);
void *fuzz_realloc(void *p, size_t size);
void fuzz_free(void *p);
FILE *fuzz_fopen(const char *path, const char *mode);
int fuzz_fclose(FILE *f);
void *fuzz_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
int fuzz_munmap(void *p, size_t size);
char *fuzz_realpath(const char *path, char *resolved);
DIR *fuzz_opendir(const char *path);               /* of the fuzzer's own folders alone: a database may name the root as its source */
int fuzz_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs);
int fuzz_sqlite3_close(sqlite3 *db);
int fuzz_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int size, sqlite3_stmt **q, const char **rest);
int fuzz_sqlite3_finalize(sqlite3_stmt *q);
/* p, which something else than these functions made, is ended by end(p) when the command ends before fuzz_forget(p). Both return p. */
void *fuzz_keep(void *p, void (*end)(void *p));
void *fuzz_forget(void *p);
extern FILE *fuzz_stderr;

#if !defined(FUZZ_WORLD_ITSELF)
#  define exit(status) fuzz_exit(status)
#  define malloc(n) fuzz_malloc(n)
#  define calloc(n, size) fuzz_calloc(n, size)
#  define realloc(p, n) fuzz_realloc(p, n)
#  define free(p) fuzz_free(p)
#  define fopen(path, mode) fuzz_fopen(path, mode)
#  define fclose(f) fuzz_fclose(f)
#  define mmap(a, n, p, f, d, o) fuzz_mmap(a, n, p, f, d, o)
#  define munmap(p, n) fuzz_munmap(p, n)
#  define opendir(path) fuzz_opendir(path)
#  define realpath(path, resolved) fuzz_realpath(path, resolved)
#  define sqlite3_open_v2(path, db, flags, vfs) fuzz_sqlite3_open_v2(path, db, flags, vfs)
#  define sqlite3_close(db) fuzz_sqlite3_close(db)
#  define sqlite3_prepare_v2(db, sql, size, q, rest) fuzz_sqlite3_prepare_v2(db, sql, size, q, rest)
#  define sqlite3_finalize(q) fuzz_sqlite3_finalize(q)
#  define sigaction(number, action, old) ((void)(action))
#  define setitimer(which, t, old) ((void)(t))
#  define signal(number, handler) ((void)(handler))
#  undef stderr
#  define stderr fuzz_stderr
#endif

#endif
