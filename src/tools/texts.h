/* texts.h - the texts that kalm-quantize --calibrate learns from, out of a file: one a line, perhaps "query<TAB>text", or JSON
   Lines. Every line is checked; of many texts some are taken, spread over the file. */
#ifndef KALM__TEXTS_H
#define KALM__TEXTS_H

#include "files.h"
#include "../base.h"
#include "json.h"

enum {
    KALM__TEXTS_MOST = 256,            /* taken; see calibrate.h for what more or fewer do */
    KALM__TEXTS_LINE = 1 << 20,        /* longest line */
    KALM__TEXTS_FILE = 1 << 28,        /* largest file */
    KALM__QUERY_WORDS = 12, KALM__QUERY_BYTES = 120        /* of a query made from a text */
};

typedef struct kalm__texts {
    char      *file;                   /* owned; all texts point into it */
    size_t     size, count, room;
    kalm_text *query, *text;           /* [count], owned; no query is empty */
} kalm__texts;

KALM__FN void kalm__texts_end(kalm__texts *t)
{
    free(t->file);
    free(t->query);
    free(t->text);
    memset(t, 0, sizeof *t);
}

KALM__FN int kalm__text_blank(kalm_text t)
{
    size_t i;
    for (i = 0; i < t.size; i++)
        if (t.data[i] != ' ' && t.data[i] != '\t') return 0;
    return 1;
}

/* How a text begins: its first sentence, or as many words of it as a query has; where there are no words, whole characters. */
KALM__FN kalm_text kalm__first_words(kalm_text t)
{
    size_t i = 0, words = 0;
    while (t.size && (*t.data == ' ' || *t.data == '\t')) t.data++, t.size--;
    while (i < t.size && i < KALM__QUERY_BYTES) {
        int space = t.data[i] == ' ' || t.data[i] == '\t';
        if (space && (++words == KALM__QUERY_WORDS || strchr(".!?", t.data[i - 1]))) break;
        i += kalm__json_utf8((const unsigned char *)t.data + i, t.size - i);
    }
    t.size = i;
    return t;
}

/* One line of JSON: {"text": ..., perhaps "query": ..., perhaps "title": ...}, the title going before the text as BEIR has it.
   Its strings without escapes are no longer than the line, and take its place. */
KALM__FN kalm_result kalm__texts_json(kalm__json *j, const char *name, size_t number, char *line, size_t size, kalm_text *query,
                                      kalm_text *text, kalm_error *err)
{
    static const char *const keys[3] = { "query", "title", "text" };
    kalm_text found[3];
    char *to;
    size_t i, n = 0;
    kalm_result r = kalm__json_parse(j, name, line, size, err);
    if (r == KALM_BAD_FILE && err) {   /* which counts lines from the begin of this one: "name:1:column: ..." */
        char what[sizeof err->text];
        size_t skip = strlen(name) + 3;
        memcpy(what, err->text, sizeof what);
        return kalm__fail(err, r, "%s, line %z, column %s", name, number, strlen(what) > skip ? what + skip : what);
    }
    if (r) return r;
    for (i = 0; i < 3; i++) {
        uint32_t node = kalm__json_type(j, 0) == KALM__JSON_OBJECT ? kalm__json_get(j, 0, keys[i]) : 0;
        found[i].data = NULL;
        found[i].size = 0;
        if (node && kalm__json_type(j, node) == KALM__JSON_STRING) found[i] = kalm__json_text(j, node);
    }
    if (!found[2].data)
        return kalm__fail(err, KALM_BAD_FILE, "%s, line %z: an object with a string \"text\" must stand here", name, number);
    to = (char *)malloc(size + 1);
    if (!to) return kalm__fail(err, KALM_NO_MEMORY, "no memory for line %z of %s", number, name);
    for (i = 0; i < 3; i++) {
        if (i == 2) text->data = line + query->size;
        if (found[i].size) memcpy(to + n, found[i].data, found[i].size);
        n += found[i].size;
        if (i == 0) query->size = n;
        if (i == 1 && found[1].size) to[n++] = ' ';
    }
    text->size = n - query->size;
    query->data = line;
    memcpy(line, to, n);
    free(to);
    return KALM_OK;
}

/* The lines of t->file. name: that of the file in errors. */
KALM__FN kalm_result kalm__texts_lines(kalm__texts *t, const char *name, kalm__json *j, kalm_error *err)
{
    size_t at = 0, number, end, i, n;
    int json = -1;
    kalm_result r;
    if (t->size >= 3 && !memcmp(t->file, "\xef\xbb\xbf", 3)) at = 3;
    for (number = 1; at < t->size; at = end + 1, number++) {
        char *line = t->file + at, *tab;
        kalm_text query = { NULL, 0 }, text;
        for (end = at; end < t->size && t->file[end] != '\n'; end++) {}
        text.data = line;
        text.size = end - at;
        if (text.size && line[text.size - 1] == '\r') text.size--;
        if (text.size > KALM__TEXTS_LINE)
            return kalm__fail(err, KALM_BAD_FILE, "%s, line %z has %z bytes; a text has at most %u", name, number, text.size,
                              (unsigned)KALM__TEXTS_LINE);
        for (i = 0; i < text.size; i += n) {
            n = kalm__json_utf8((const unsigned char *)line + i, text.size - i);
            if (!n) return kalm__fail(err, KALM_BAD_FILE, "%s, line %z: byte %z is not UTF-8", name, number, i + 1);
        }
        if (kalm__text_blank(text)) continue;
        if (json < 0) json = line[0] == '{';
        if (json) {
            r = kalm__texts_json(j, name, number, line, text.size, &query, &text, err);
            if (r) return r;
        } else if ((tab = (char *)memchr(line, '\t', text.size)) != NULL) {
            query.data = line;
            query.size = (size_t)(tab - line);
            text.data = tab + 1;
            text.size -= query.size + 1;
        }
        if (kalm__text_blank(text)) return kalm__fail(err, KALM_BAD_FILE, "%s, line %z has a query and no text", name, number);
        if (t->count == t->room) {
            size_t room = t->room ? 2 * t->room : 1024;
            kalm_text *a = (kalm_text *)realloc(t->query, room * sizeof *a), *b = NULL;
            if (a) t->query = a, b = (kalm_text *)realloc(t->text, room * sizeof *b);
            if (!b) return kalm__fail(err, KALM_NO_MEMORY, "no memory for %z texts", room);
            t->text = b;
            t->room = room;
        }
        t->query[t->count] = query;
        t->text[t->count++] = text;
    }
    return t->count ? KALM_OK : kalm__fail(err, KALM_BAD_FILE, "%s has no text in it", name);
}

/* To be ended in any case. */
KALM__FN kalm_result kalm__texts_read(kalm__texts *t, const char *path, kalm_error *err)
{
    kalm__json j;
    kalm_allocator alloc;
    const char *name = kalm__shown(path);
    size_t all, i;
    int ok;
    kalm_result r;
    memset(t, 0, sizeof *t);
    r = kalm__read_whole(path, KALM__TEXTS_FILE, &t->file, &t->size, err);
    if (r) return r;
    alloc = kalm__allocator(NULL, &ok);
    kalm__json_begin(&j, &alloc);
    r = kalm__texts_lines(t, name, &j, err);
    kalm__json_end(&j);
    if (r) return r;
    all = t->count;
    t->count = kalm__min(all, KALM__TEXTS_MOST);
    for (i = 0; i < t->count; i++) {
        t->query[i] = t->query[i * all / t->count];
        t->text[i] = t->text[i * all / t->count];
    }
    /* A query for those that have none: half of them fit their text, half come from the text before. */
    for (i = 0; i < t->count; i++)
        if (kalm__text_blank(t->query[i])) t->query[i] = kalm__first_words(t->text[i % 2 ? i - 1 : i]);
    return KALM_OK;
}

#endif
