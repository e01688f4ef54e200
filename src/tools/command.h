/* command.h - what the commands in this folder share: options, reading texts, columns of a terminal, progress, JSON
   strings. No part of the library, and included before any system header (files.h asks for 64-bit offsets). */
#ifndef KALM_COMMAND_H
#define KALM_COMMAND_H

#include "files.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "json.h"

#include <errno.h>
#include <stdarg.h>
#ifdef HAVE_UTF8PROC
#  include <utf8proc.h>
#endif

/* Exit codes of every command. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

#if defined(__GNUC__)
#  define CMD__PRINTF __attribute__((format(printf, 1, 2), noreturn, unused))
#else
#  define CMD__PRINTF
#endif

static const char *cmd_name = "kalm";

CMD__PRINTF static void die(const char *format, ...);
static void die(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", cmd_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(EXIT_FAILED);
}

CMD__PRINTF static void die_usage(const char *format, ...);
static void die_usage(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%s: ", cmd_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (%s --help says more)\n", cmd_name);
    exit(EXIT_USAGE);
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

KALM__FN char *cmd_copy(kalm_text t)
{
    char *s = (char *)cmd_alloc(t.size + 1);
    if (t.size) memcpy(s, t.data, t.size);
    s[t.size] = 0;
    return s;
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

typedef struct cmd_args {
    int    argc, at;                   /* argv[at] is being read */
    char **argv;
    int    plain;                      /* behind "--" nothing is an option */
} cmd_args;

/* Is argv[at] the option `name`? A flag has no value. */
KALM__FN int cmd_flag(const cmd_args *a, const char *name)
{
    return !a->plain && strcmp(a->argv[a->at], name) == 0;
}

/* "--name VALUE" or "--name=VALUE": the value, and argv[at] is the last word of it; NULL: another option. */
KALM__FN const char *cmd_value(cmd_args *a, const char *name)
{
    const char *word = a->argv[a->at];
    size_t n = strlen(name);
    if (a->plain || strncmp(word, name, n) != 0) return NULL;
    if (word[n] == '=') return word + n + 1;
    if (word[n]) return NULL;
    if (a->at + 1 >= a->argc) die_usage("%s needs a value", name);
    return a->argv[++a->at];
}

KALM__FN uint32_t cmd_number(const char *name, const char *s, uint32_t least, uint32_t most)
{
    char *end;
    unsigned long long v;
    errno = 0;
    v = strtoull(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || errno || v < least || v > most)
        die_usage("%s must be a whole number from %lu to %lu, not '%s'", name, (unsigned long)least, (unsigned long)most, s);
    return (uint32_t)v;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* All of a file or of standard input ("-"), a NUL behind it; never given back, texts point into it. */
KALM__FN kalm_text cmd_read(const char *path)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : NULL;
    size_t room = 1 << 16, n;
    char *data = (char *)cmd_alloc(room + 1);
    kalm_text t;
    t.size = 0;
#if defined(_WIN32)
    if (!f) {
        WCHAR *wide = kalm__wide_path(path);
        if (wide) f = _wfopen(wide, L"rb");
        free(wide);
    } else {
        _setmode(0, 0x8000);           /* _O_BINARY */
    }
#else
    if (!f && kalm__directory_exists(path)) die("cannot read %s: it is a directory", path);
    if (!f) f = fopen(path, "rb");
#endif
    if (!f) die("cannot read %s: %s", path, strerror(errno));
    while ((n = fread(data + t.size, 1, room - t.size, f)) > 0) {
        t.size += n;
        if (t.size == room) data = (char *)cmd_grow(data, (room *= 2) + 1);
    }
    if (ferror(f)) die("cannot read %s: %s", path, strerror(errno));
    if (f != stdin) fclose(f);
    data[t.size] = 0;
    t.data = data;
    return t;
}

/* The next line of *rest without its end (LF or CRLF); 0 when there is none. */
KALM__FN int cmd_line(kalm_text *rest, kalm_text *line)
{
    const char *end;
    if (!rest->size) return 0;
    end = (const char *)memchr(rest->data, '\n', rest->size);
    line->data = rest->data;
    line->size = end ? (size_t)(end - rest->data) : rest->size;
    rest->size -= line->size + (end ? 1 : 0);
    rest->data += line->size + (end ? 1 : 0);
    if (line->size && line->data[line->size - 1] == '\r') line->size--;
    return 1;
}

KALM__FN int cmd_blank(kalm_text t)
{
    size_t i;
    for (i = 0; i < t.size; i++)
        if (t.data[i] != ' ' && t.data[i] != '\t') return 0;
    return 1;
}

typedef struct cmd_texts {
    kalm_text *text, *id;              /* [count]; id.data NULL: it has none */
    size_t     count, room;
} cmd_texts;

KALM__FN void cmd_add(cmd_texts *t, kalm_text id, kalm_text text)
{
    if (t->count == t->room) {
        t->room = t->room ? t->room * 2 : 64;
        t->text = (kalm_text *)cmd_grow(t->text, t->room * sizeof *t->text);
        t->id = (kalm_text *)cmd_grow(t->id, t->room * sizeof *t->id);
    }
    t->id[t->count] = id;
    t->text[t->count++] = text;
}

/* One text a line; or JSON Lines, when the first character is '{': "id" or "_id" (a string or a number), "text", and
   maybe "title", which goes before the text as BEIR has it. `name` is for errors. Empty lines do not count. */
KALM__FN void cmd_read_texts(cmd_texts *texts, const char *name, kalm_text all)
{
    kalm_text line, none = { NULL, 0 };
    kalm_error err;
    kalm__json j;
    int ok, json = 0, first = 1;
    unsigned long number = 0;
    kalm_allocator allocator = kalm__allocator(NULL, &ok);
    if (all.size >= 3 && memcmp(all.data, "\xef\xbb\xbf", 3) == 0) all.data += 3, all.size -= 3;
    kalm__json_begin(&j, &allocator);
    while (cmd_line(&all, &line)) {
        uint32_t id, text, title;
        number++;
        if (cmd_blank(line)) continue;
        if (first) json = line.data[0] == '{';
        first = 0;
        if (!json) {
            cmd_add(texts, none, line);
            continue;
        }
        if (kalm__json_parse(&j, name, line.data, line.size, &err)) {
            /* the text says "name:1:column: ..." */
            const char *what = err.text + strlen(name) + 3;
            if (err.code == KALM_BAD_FILE && strncmp(err.text, name, strlen(name)) == 0 && strlen(err.text) > strlen(name) + 3)
                die("%s, line %lu, column %s", name, number, what);
            die("%s, line %lu: %s", name, number, err.text);
        }
        text = kalm__json_get(&j, 0, "text");
        if (kalm__json_type(&j, 0) != KALM__JSON_OBJECT || !text || kalm__json_type(&j, text) != KALM__JSON_STRING)
            die("%s, line %lu: an object with a string \"text\" must stand here", name, number);
        id = kalm__json_get(&j, 0, "_id");
        if (!id) id = kalm__json_get(&j, 0, "id");
        title = kalm__json_get(&j, 0, "title");
        line = kalm__json_text(&j, text);
        if (title && kalm__json_type(&j, title) == KALM__JSON_STRING && kalm__json_text(&j, title).size) {
            kalm_text head = kalm__json_text(&j, title);
            char *both = (char *)cmd_alloc(head.size + 1 + line.size + 1);
            memcpy(both, head.data, head.size);
            both[head.size] = ' ';
            memcpy(both + head.size + 1, line.data, line.size);
            line.data = both;
            line.size += head.size + 1;
            both[line.size] = 0;
        } else {
            line.data = cmd_copy(line);
        }
        if (id && kalm__json_text(&j, id).data) {
            kalm_text t = kalm__json_text(&j, id);
            t.data = cmd_copy(t);
            cmd_add(texts, t, line);
        } else {
            cmd_add(texts, none, line);
        }
    }
    kalm__json_end(&j);
}

/* ---- columns ----------------------------------------------------------------------------------------------------- */

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

/* A JSON string with its quotes. Ill-formed bytes become U+FFFD, so that every reader takes it. */
KALM__FN void cmd_json(FILE *f, kalm_text t)
{
    size_t i, n;
    fputc('"', f);
    for (i = 0; i < t.size; i += n) {
        char out[8];
        n = kalm__json_utf8((const unsigned char *)t.data + i, t.size - i);
        if (!n) {
            fputs("\xef\xbf\xbd", f);
            n = 1;
        } else if (n > 1) {
            fwrite(t.data + i, 1, n, f);
        } else {
            fwrite(out, 1, kalm__json_escape(t.data + i, 1, out), f);
        }
    }
    fputc('"', f);
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* A line on standard error where that is a terminal, from the second half second of a job on; stops it on Ctrl-C. */
typedef struct cmd_progress {
    const char *what;
    double      started, shown;
    int         width;                 /* of the terminal; 0: silent */
    int         drawn;
} cmd_progress;

KALM__FN void cmd_progress_begin(cmd_progress *p, const char *what)
{
    p->what = what;
    p->started = p->shown = kalm__now();
    p->width = kalm__terminal_width();
    p->drawn = 0;
}

KALM__FN int cmd_progress_step(void *user, size_t done, size_t total)
{
    cmd_progress *p = (cmd_progress *)user;
    double now = kalm__now(), part = total ? (double)done / (double)total : 1;
    if (p->width && now - p->started > 0.5 && now - p->shown > 0.1) {
        int bar = p->width - 40 > 40 ? 40 : p->width - 40, i;
        fprintf(stderr, "\r\033[K%s ", p->what);
        if (bar > 4) {
            fputc('[', stderr);
            for (i = 0; i < bar; i++) fputc(i < (int)(part * bar) ? '#' : '.', stderr);
            fputs("] ", stderr);
        }
        fprintf(stderr, "%3.0f %%", part * 100);
        if (part > 0.02) fprintf(stderr, "  %.0f s left", (now - p->started) / part * (1 - part));
        fflush(stderr);
        p->shown = now;
        p->drawn = 1;
    }
    return kalm__interrupted != 0;
}

KALM__FN void cmd_progress_end(cmd_progress *p)
{
    if (p->drawn) fputs("\r\033[K", stderr);
    p->drawn = 0;
}

/* The end of a command whose call failed. */
KALM__FN int cmd_failed(const kalm_error *err)
{
    if (err->code == KALM_CANCELLED && kalm__interrupted) {
        fprintf(stderr, "%s: interrupted\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    fprintf(stderr, "%s: %s\n", cmd_name, err->text);
    return EXIT_FAILED;
}

#endif
