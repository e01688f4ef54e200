/* memory_out.h - text that is printed into memory, for answers that must be whole before the first byte of them is sent. It stands
   where open_memstream could: glibc's (2.36) leaves out what its buffer has no memory for, in the middle of a text too, and reports
   success. Here `lost` tells. */
#ifndef KALM_MEMORY_OUT_H
#define KALM_MEMORY_OUT_H

#include "../base.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct memory_out {
    char  *text;                       /* [size] and a NUL behind them, owned: memory_out_end; NULL: nothing was printed */
    size_t size, room;
    int    lost;                       /* there was no memory for a part of it: the rest is worth nothing */
} memory_out;

KALM__FN void memory_out_put(memory_out *m, const char *s, size_t n)
{
    if (m->lost) return;
    if (n >= m->room - m->size) {      /* a NUL has to fit as well */
        size_t room = kalm__mul(2, kalm__add(kalm__add(m->size, n), 256));
        char *more = room < SIZE_MAX ? (char *)realloc(m->text, room) : NULL;
        if (!more) {
            m->lost = 1;
            return;
        }
        m->text = more;
        m->room = room;
    }
    if (n) memcpy(m->text + m->size, s, n);
    m->size += n;
    m->text[m->size] = 0;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3), unused))
#endif
static void memory_out_format(memory_out *m, const char *format, ...);
/* At most 1,023 bytes at a time. */
static void memory_out_format(memory_out *m, const char *format, ...)
{
    char text[1024];
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof text) m->lost = 1;
    else memory_out_put(m, text, (size_t)n);
}

/* The text, which is the caller's now, to be freed; *m is empty then. NULL: there was no memory for all of it. */
KALM__FN char *memory_out_end(memory_out *m)
{
    char *text = m->text;
    if (!m->lost && !text) memory_out_put(m, "", 0), text = m->text;
    if (m->lost) {
        free(text);
        text = NULL;
    }
    memset(m, 0, sizeof *m);
    return text;
}

#endif
