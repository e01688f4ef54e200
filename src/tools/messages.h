/* messages.h - how a command ends when it cannot go on, and memory that is there or ends the command. Every message is one
   line on standard error that begins with the command's name. No part of the library, which never prints and never exits. */
#ifndef KALM_MESSAGES_H
#define KALM_MESSAGES_H

#include "files.h"
#include "../base.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* Exit codes of every command. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,                   /* one line on standard error says why */
    EXIT_USAGE = 2,                    /* the command line is wrong; nothing was done */
    EXIT_BAD_INPUT = 3,                /* done, but pieces of the input were named and left out */
    EXIT_INTERRUPTED = 130             /* by Ctrl-C or another signal that asks a program to end */
};

#if defined(__GNUC__)
#  define CMD__PRINTF __attribute__((format(printf, 1, 2), noreturn, unused))
#  define CMD__PRINTS __attribute__((format(printf, 1, 2), unused))
#else
#  define CMD__PRINTF
#  define CMD__PRINTS
#endif

static const char *cmd_name = "kalm";  /* set by main */

/* Messages quote names from strangers' files: no control character of theirs reaches a terminal. Bytes of UTF-8 pass. */
KALM__FN void cmd__print(const char *format, va_list args)
{
    char text[2048], *p;
    vsnprintf(text, sizeof text, format, args);
    for (p = text; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127) *p = '?';
    fputs(text, stderr);
}

/* One line. "FILE:LINE: ..." stands without the command's name, as compilers have it. */
CMD__PRINTS static void say_plainly(const char *format, ...);
static void say_plainly(const char *format, ...)
{
    va_list args;
    fflush(stdout);                    /* what was printed before stands before */
    va_start(args, format);
    cmd__print(format, args);
    va_end(args);
    fputc('\n', stderr);
}

CMD__PRINTS static void say(const char *format, ...);
static void say(const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fprintf(stderr, "%s: ", cmd_name);
    va_start(args, format);
    cmd__print(format, args);
    va_end(args);
    fputc('\n', stderr);
}

CMD__PRINTF static void die(const char *format, ...);
static void die(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", cmd_name);
    va_start(args, format);
    cmd__print(format, args);
    va_end(args);
    fputc('\n', stderr);
#if !defined(_WIN32)
    kalm__remove_unfinished();         /* of sink.h, where the command was at work on a file */
#endif
    exit(EXIT_FAILED);
}

CMD__PRINTF static void die_usage(const char *format, ...);
static void die_usage(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", cmd_name);
    va_start(args, format);
    cmd__print(format, args);
    va_end(args);
    fprintf(stderr, " (%s --help says more)\n", cmd_name);
    exit(EXIT_USAGE);
}

/* The exit code of a command whose call of the library failed; the message is printed. */
KALM__FN int cmd_failed(const kalm_error *err)
{
    if (err->code == KALM_CANCELLED && kalm__interrupted) {
        fprintf(stderr, "%s: interrupted\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    fprintf(stderr, "%s: %s\n", cmd_name, err->text);
    return EXIT_FAILED;
}

/* The end of a command that printed its result: standard output may be a full disk or a pipe that nobody reads. */
KALM__FN void cmd_flush(void)
{
    if (fflush(stdout) || ferror(stdout)) die("cannot write the result: %s", kalm__os_error());
}

/* The instruction set that a command uses when it is not told: what the environment variable KALM_KERNELS says; NULL, the best
   one, where that is not set or empty. */
KALM__FN const char *cmd_kernels(void)
{
    const char *name = getenv("KALM_KERNELS");
    return name && *name ? name : NULL;
}

KALM__FN void *cmd_alloc(size_t size)
{
    void *p = malloc(size ? size : 1);
    if (!p) die("no memory for %lu bytes", (unsigned long)size);
    return p;
}

KALM__FN void *cmd_grow(void *p, size_t size)
{
    p = realloc(p, size ? size : 1);
    if (!p) die("no memory for %lu bytes", (unsigned long)size);
    return p;
}

/* Room for as many bytes again as are needed, so that a buffer that grows byte by byte is seldom moved. It saturates: for what no size_t can say
   cmd_grow ends the command. */
KALM__FN size_t cmd_twice(size_t need) { return kalm__add(kalm__mul(need, 2), 64); }

/* n mebibytes in bytes; what a size_t of 32 bits cannot say is all that it can. */
KALM__FN size_t cmd_mebibytes(uint32_t n) { return kalm__mul(n, (size_t)1 << 20); }

/* For what a command reads line by line: memory that is missing ends the command, so that no line is taken for a bad one and left
   out because of it. */
KALM__FN void *cmd__allocate(void *user, size_t size)
{
    (void)user;
    return cmd_alloc(size);
}
KALM__FN void cmd__release(void *user, void *ptr, size_t size)
{
    (void)user, (void)size;
    free(ptr);
}
KALM__FN kalm_allocator cmd_allocator(void)
{
    kalm_allocator a;
    memset(&a, 0, sizeof a);
    a.alloc = cmd__allocate;
    a.release = cmd__release;
    return a;
}

/* A copy with a NUL behind it, to be freed. */
KALM__FN char *cmd_copy(kalm_text t)
{
    char *s = (char *)cmd_alloc(t.size + 1);
    if (t.size) memcpy(s, t.data, t.size);
    s[t.size] = 0;
    return s;
}

#endif
