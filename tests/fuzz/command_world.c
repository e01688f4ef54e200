/* command_world.c - see command_world.h. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define FUZZ_WORLD_ITSELF
#include "command_world.h"
#include <fcntl.h>
#include <unistd.h>

enum { ARGUMENTS = 32, FILES = 16, STATEMENTS = 64, SLOTS = 1 << 16 };

static jmp_buf back;
static int running, status_given;
FILE *fuzz_stderr;
static char said[8192];

/* What the command holds: memory in a hash table of addresses, the others in short lists. */
static void *block[SLOTS];
static uint16_t taken[SLOTS / 2];      /* [blocks] slots that are or were taken: few of all, and all that is looked at in the end */
static size_t blocks;
static FILE *file[FILES];
static struct { void *p; size_t size; } mapping[FILES];
static sqlite3 *database[FILES];
static sqlite3_stmt *statement[STATEMENTS];        /* of the command: FTS5 has others in the same database, and ends them itself */
static struct { void *p; void (*end)(void *); } thing[FILES];

static void *const gone = &running;    /* the place of a block that was freed */

static size_t slot_of(const void *p) { return ((uintptr_t)p >> 4) * (size_t)0x9e3779b97f4a7c15u >> 48; }
static void keep(void *p)
{
    size_t i = slot_of(p) % SLOTS;
    if (!p || !running) return;
    while (block[i] && block[i] != gone) i = (i + 1) % SLOTS;
    if (!block[i]) {
        if (blocks == SLOTS / 2) abort();
        taken[blocks++] = (uint16_t)i;
    }
    block[i] = p;
}
static void forget(const void *p)
{
    size_t i = slot_of(p) % SLOTS;
    if (!p || !running) return;
    for (; block[i]; i = (i + 1) % SLOTS)
        if (block[i] == p) {
            block[i] = gone;
            return;
        }
}

void fuzz_exit(int status)
{
    if (!running) _exit(status);
    status_given = status;
    longjmp(back, 1);
}
void *fuzz_malloc(size_t size)
{
    void *p = malloc(size);
    keep(p);
    return p;
}
void *fuzz_calloc(size_t n, size_t size)
{
    void *p = calloc(n, size);
    keep(p);
    return p;
}
void *fuzz_realloc(void *p, size_t size)
{
    void *q;
    forget(p);
    q = realloc(p, size);
    keep(q ? q : p);
    return q;
}
void fuzz_free(void *p)
{
    forget(p);
    free(p);
}
FILE *fuzz_fopen(const char *path, const char *mode)
{
    FILE *f = fopen(path, mode);
    int i;
    for (i = 0; f && i < FILES; i++)
        if (!file[i]) {
            file[i] = f;
            break;
        }
    return f;
}
int fuzz_fclose(FILE *f)
{
    int i;
    for (i = 0; i < FILES; i++)
        if (file[i] == f) file[i] = NULL;
    return fclose(f);
}
void *fuzz_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *p = mmap(at, size, protection, flags, fd, offset);
    int i;
    for (i = 0; p != MAP_FAILED && i < FILES; i++)
        if (!mapping[i].p) {
            mapping[i].p = p;
            mapping[i].size = size;
            break;
        }
    return p;
}
int fuzz_munmap(void *p, size_t size)
{
    int i;
    for (i = 0; i < FILES; i++)
        if (mapping[i].p == p) mapping[i].p = NULL;
    return munmap(p, size);
}
DIR *fuzz_opendir(const char *path)
{
    if (strstr(path, "/kalm-fuzz.")) return opendir(path);
    errno = EACCES;
    return NULL;
}
char *fuzz_realpath(const char *path, char *resolved)
{
    char *p = realpath(path, resolved);
    if (!resolved) keep(p);
    return p;
}
int fuzz_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs)
{
    int code = sqlite3_open_v2(path, db, flags, vfs), i;
    for (i = 0; *db && i < FILES; i++)
        if (!database[i]) {
            database[i] = *db;
            break;
        }
    /* a disk is not what is tested */
    if (*db) sqlite3_exec(*db, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
    return code;
}
int fuzz_sqlite3_close(sqlite3 *db)
{
    int code = sqlite3_close(db), i;
    for (i = 0; code == SQLITE_OK && i < FILES; i++)
        if (database[i] == db) database[i] = NULL;
    return code;
}

int fuzz_sqlite3_prepare_v2(sqlite3 *db, const char *sql, int size, sqlite3_stmt **q, const char **rest)
{
    int code = sqlite3_prepare_v2(db, sql, size, q, rest), i = 0;
    while (*q && i < STATEMENTS && statement[i]) i++;
    if (i == STATEMENTS) abort();
    if (*q) statement[i] = *q;
    return code;
}
int fuzz_sqlite3_finalize(sqlite3_stmt *q)
{
    int i;
    for (i = 0; q && i < STATEMENTS; i++)
        if (statement[i] == q) statement[i] = NULL;
    return sqlite3_finalize(q);
}

void *fuzz_keep(void *p, void (*end)(void *))
{
    int i = 0;
    while (p && i < FILES && thing[i].p) i++;
    if (i == FILES) abort();
    if (p) thing[i].p = p, thing[i].end = end;
    return p;
}
void *fuzz_forget(void *p)
{
    int i;
    for (i = 0; i < FILES; i++)
        if (thing[i].p == p) thing[i].p = NULL;
    return p;
}

static void give_back(int first_fd)
{
    int i;
    for (i = 0; i < FILES; i++) {
        if (thing[i].p) thing[i].end(thing[i].p);
        thing[i].p = NULL;
    }
    for (i = 0; i < STATEMENTS; i++) {
        if (statement[i]) sqlite3_finalize(statement[i]);
        statement[i] = NULL;
    }
    for (i = 0; i < FILES; i++) {
        if (database[i] && sqlite3_close(database[i]) != SQLITE_OK) abort();
        if (file[i]) fclose(file[i]);
        if (mapping[i].p) munmap(mapping[i].p, mapping[i].size);
        database[i] = NULL;
        file[i] = NULL;
        mapping[i].p = NULL;
    }
    while (blocks) {
        void **p = &block[taken[--blocks]];
        if (*p != gone) free(*p);
        *p = NULL;
    }
    for (i = first_fd; i < first_fd + 16; i++) close(i);
}

static const char *stream_in, *stream_out;

void fuzz_command_streams(const char *in, const char *out)
{
    stream_in = in;
    stream_out = out;
}

int fuzz_command(fuzz_main *command, ...)
{
    static int quiet = -1;
    char *argument[ARGUMENTS + 1], text[4096], *at = text;
    int count = 0, saved, saved_in, in, out, first_fd;
    const char *word;
    va_list args;
    argument[count++] = strcpy(at, "kalm");
    at += 5;
    va_start(args, command);
    while ((word = va_arg(args, const char *)) != NULL && count < ARGUMENTS) {
        argument[count++] = strcpy(at, word);
        at += strlen(word) + 1;
    }
    va_end(args);
    argument[count] = NULL;
    memset(said, 0, sizeof said);
    fuzz_stderr = fmemopen(said, sizeof said - 1, "w");
    if (quiet < 0) quiet = open("/dev/null", O_WRONLY);
    fflush(stdout);
    saved = dup(1);
    saved_in = dup(0);
    in = open(stream_in ? stream_in : "/dev/null", O_RDONLY);
    out = stream_out ? open(stream_out, O_WRONLY | O_CREAT | O_TRUNC, 0600) : dup(quiet);
    first_fd = dup(1);
    close(first_fd);
    if (!fuzz_stderr || quiet < 0 || saved < 0 || in < 0 || out < 0 || dup2(out, 1) < 0 || dup2(in, 0) < 0) abort();
    stream_in = stream_out = NULL;
    running = 1;
    if (!setjmp(back)) status_given = command(count, argument);
    fflush(stdout);
    give_back(first_fd);
    running = 0;
    dup2(saved, 1);
    close(saved);
    if (saved_in >= 0) dup2(saved_in, 0), close(saved_in);
    else close(0);
    close(in);
    close(out);
    clearerr(stdout);
    fclose(fuzz_stderr);
    fuzz_stderr = NULL;
    return status_given;
}

const char *fuzz_command_said(void) { return said; }
