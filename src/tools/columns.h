/* columns.h - texts in the columns of a terminal: how wide a text is, and printing it so that nothing in it moves the cursor,
   starts an escape sequence or turns the direction of the line. With utf8proc (HAVE_UTF8PROC) wide and combining characters
   count as a terminal draws them; without it every character is one column. */
#ifndef KALM_COLUMNS_H
#define KALM_COLUMNS_H

#include "files.h"
#include "json.h"
#include <stdio.h>
#ifdef HAVE_UTF8PROC
#  include <utf8proc.h>
#endif

/* The character at s (1 to 4 bytes, *size), U+FFFD for a byte that begins none, and the columns it takes. What would
   move the cursor or turn the direction of the line becomes a space, or nothing. */
KALM__FN uint32_t cmd_char(const char *s, size_t left, size_t *size, int *columns)
{
    uint32_t c;
    size_t i, n = kalm__json_utf8((const unsigned char *)s, left);
    *columns = 1;
    *size = n ? n : 1;
    if (!n) return 0xfffd;
    c = (unsigned char)s[0];
    if (n > 1) c &= 0x7fu >> n;
    for (i = 1; i < n; i++) c = c << 6 | ((unsigned char)s[i] & 63);
    if (c < 32 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029) return ' ';
    if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f || c == 0xfeff) {
        *columns = 0;
        return 0;
    }
#ifdef HAVE_UTF8PROC
    *columns = utf8proc_charwidth((utf8proc_int32_t)c);
#endif
    return c;
}

KALM__FN size_t cmd_columns(kalm_text t)
{
    size_t i, n, columns = 0;
    int w;
    for (i = 0; i < t.size; i += n) {
        cmd_char(t.data + i, t.size - i, &n, &w);
        columns += (size_t)w;
    }
    return columns;
}

/* Print t in at most `room` columns, "..." for what does not fit; white space runs become one space. Returns the
   columns taken. */
KALM__FN size_t cmd_print(FILE *f, kalm_text t, size_t room)
{
    size_t i, n, used = 0, all = 0, limit = room;
    int w, space;
    for (i = 0, space = 1; i < t.size && all <= room; i += n) {
        uint32_t c = cmd_char(t.data + i, t.size - i, &n, &w);
        if (c == ' ' && space) continue;
        space = c == ' ';
        all += (size_t)w;
    }
    if (all > room) limit = room > 3 ? room - 3 : 0;
    for (i = 0, space = 1; i < t.size; i += n) {
        uint32_t c = cmd_char(t.data + i, t.size - i, &n, &w);
        if (c == ' ' && space) continue;
        if (used + (size_t)w > limit) break;
        space = c == ' ';
        used += (size_t)w;
        if (c == ' ') fputc(' ', f);
        else if (c == 0xfffd) fputs("\xef\xbf\xbd", f);
        else if (c) fwrite(t.data + i, 1, n, f);
    }
    if (all > room && room > 3) {
        fputs("...", f);
        used += 3;
    }
    return used;
}

KALM__FN void cmd_pad(FILE *f, size_t used, size_t width)
{
    for (; used < width; used++) fputc(' ', f);
}

/* Columns of the terminal that standard output is; 0 when it is none. */
KALM__FN size_t cmd_width(void)
{
#if defined(_WIN32)
    return _isatty(1) ? 79 : 0;
#else
    struct winsize w;
    if (!isatty(1)) return 0;
    return !ioctl(1, TIOCGWINSZ, &w) && w.ws_col > 20 ? w.ws_col : 80;
#endif
}

#endif
