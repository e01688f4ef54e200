/* command.h - what the commands that run a model share: the library itself, the command line, texts from files, progress,
   columns of a terminal, signals and JSON. No part of the library, and included before any system header (files.h asks for 64-bit
   offsets). */
#ifndef KALM_COMMAND_H
#define KALM_COMMAND_H

#include "files.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "json.h"
#include "messages.h"
#include "signals.h"
#include "options.h"
#include "progress.h"
#include "columns.h"
#include "json_out.h"
#include "reader.h"

/* ---- texts ----------------------------------------------------------------------------------------------------------- */

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

KALM__FN int cmd_blank(kalm_text t) { return reader_blank(t); }

/* All of a file or of standard input ("-") as UTF-8 without a byte order mark, a NUL behind it; never given back, texts point
   into it. raw: the bytes as they are. */
KALM__FN kalm_text cmd_read_as(const char *path, int raw)
{
    reader r;
    kalm_text t;
    int n = reader_begin(&r, path, READ_WHOLE) ? 1 : -1;
    if (raw) r.unit = 1;
    while (n > 0) n = reader_more(&r);
    if (n < 0) die("%s: %s", r.name, r.why);
    reader_room(&r, 1);
    t.data = r.buffer + r.from;
    t.size = r.to - r.from;
    r.buffer[r.to] = 0;
    r.buffer = NULL;
    reader_end(&r);
    return t;
}

KALM__FN kalm_text cmd_read(const char *path) { return cmd_read_as(path, 0); }

/* As many whole characters of a text as there is room for; '?' stands for what is no UTF-8 and, unless `controls`, for control
   characters. out may be the text. */
KALM__FN void cmd_keep_utf8(char *out, size_t room, const char *text, int controls)
{
    size_t at = 0, n, size = strlen(text);
    for (; at < size; at += n) {
        size_t whole = kalm__json_utf8((const unsigned char *)text + at, size - at);
        n = whole ? whole : 1;
        if (at + n >= room) break;
        if (!whole || (!controls && n == 1 && ((unsigned char)text[at] < 32 || text[at] == 127))) out[at] = '?';
        else memmove(out + at, text + at, n);
    }
    out[at] = 0;
}

/* A name that a stranger chose, such as a model's, to be shown and kept. out may be name. */
KALM__FN void cmd_clean_name(char *out, size_t room, const char *name) { cmd_keep_utf8(out, room, name, 0); }

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

/* Title and text as they are encoded, the title before the text as BEIR has it; a copy that is never given back. */
KALM__FN kalm_text cmd_join_title(kalm_text title, kalm_text text)
{
    char *both = (char *)cmd_alloc(title.size + text.size + 2);
    size_t n = 0;
    if (title.size) {
        memcpy(both, title.data, title.size);
        both[title.size] = ' ';
        n = title.size + 1;
    }
    if (text.size) memcpy(both + n, text.data, text.size);
    both[n + text.size] = 0;
    text.data = both;
    text.size += n;
    return text;
}

/* Is it a model file, by its first bytes? */
KALM__FN int cmd_is_model(const char *path)
{
    char head[8];
    kalm__input f;
    kalm_error err;
    int is;
    if (kalm__input_open(&f, path, &err)) return 0;
    is = f.size >= 8 && kalm__input_read(&f, 0, head, 8) && memcmp(head, KALM__MAGIC, 8) == 0;
    kalm__input_close(&f);
    return is;
}

/* The format that a file's name says. */
KALM__FN int cmd_format_of(const char *path)
{
    static const struct { const char *end; int format; } ends[] = {
        { ".jsonl", READ_JSON }, { ".ndjson", READ_JSON }, { ".json", READ_JSON }, { ".tsv", READ_TSV }, { ".csv", READ_CSV }
    };
    size_t n = strlen(path), i;
    for (i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t k = strlen(ends[i].end);
        if (n > k && strcmp(path + n - k, ends[i].end) == 0) return ends[i].format;
    }
    return READ_AUTO;
}

/* Say what is wrong at a place of the reader's file. */
KALM__FN void cmd_tell_place(const reader *r)
{
    if (r->line) fprintf(stderr, "%s:%lu: %s\n", r->name, r->line, r->why);
    else fprintf(stderr, "%s: %s\n", r->name, r->why);
}

/* The texts of a file (reader.h) behind those of *texts; format READ_AUTO: by its name or its first line. What is bad is told and
   left out, or ends the command when it is strict. Returns how many pieces were left out. */
KALM__FN size_t cmd_read_texts(cmd_texts *texts, const char *path, int format, int strict)
{
    reader r;
    text_record t;
    size_t bad = 0;
    int what;
    if (!reader_begin(&r, path, format ? format : cmd_format_of(path))) die("%s: %s", r.name, r.why);
    r.strict_utf8 = strict;
    if (!r.format) r.format = reader_guess(&r, 0);
    while ((what = reader_next(&r, &t)) != READ_END) {
        if (r.why[0]) cmd_tell_place(&r);
        if (what == READ_RECORD) {
            if (t.key.data) t.key.data = cmd_copy(t.key);
            cmd_add(texts, t.key, cmd_join_title(t.title, t.text));
            continue;
        }
        if (strict) die("stopped at bad input (--strict)");
        bad++;
    }
    reader_end(&r);
    return bad;
}

#endif
