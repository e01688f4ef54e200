/* command.h - what the commands that run a model share: the library itself, the command line, texts from files, progress,
   columns of a terminal and JSON. No part of the library, and included before any system header (files.h asks for 64-bit
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

#endif
