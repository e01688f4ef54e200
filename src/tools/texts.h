/* texts.h - the texts that kalm-quantize --calibrate learns from, out of a file: one a line, perhaps "query<TAB>text", or JSON
   (reader.h). Every line is checked, and a bad one ends it: a model is made once. Of many texts some are taken, spread over the
   file. */
#ifndef KALM__TEXTS_H
#define KALM__TEXTS_H

#include "files.h"
#include "../base.h"
#include "json.h"
#include "reader.h"

enum {
    KALM__TEXTS_MOST = 256,            /* taken; see calibrate.h for what more or fewer do */
    KALM__TEXTS_LINE = 1 << 20,        /* longest line */
    KALM__TEXTS_FILE = 1 << 28,        /* largest file */
    KALM__QUERY_WORDS = 12, KALM__QUERY_BYTES = 120        /* of a query made from a text */
};

typedef struct kalm__texts {
    char      *bytes;                  /* owned; all texts lie in it */
    size_t     size, count;
    kalm_text *query, *text;           /* [count], owned; no query is empty */
} kalm__texts;

KALM__FN void kalm__texts_end(kalm__texts *t)
{
    free(t->bytes);
    free(t->query);
    free(t->text);
    memset(t, 0, sizeof *t);
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

/* Query and text of a record, in one block of t->bytes while they are collected: where they begin and their sizes. */
typedef struct kalm__found { size_t at, query, text; } kalm__found;

typedef struct kalm__finds {
    kalm__found *found;                /* [count] */
    size_t       count, room, bytes_room;
} kalm__finds;

KALM__FN void kalm__texts_keep(kalm__texts *t, kalm__finds *f, kalm_text query, kalm_text title, kalm_text text)
{
    size_t size = query.size + title.size + 1 + text.size;
    char *to;
    if (f->count == f->room) f->found = (kalm__found *)cmd_grow(f->found, (f->room = f->room * 2 + 64) * sizeof *f->found);
    if (f->bytes_room - t->size < size) t->bytes = (char *)cmd_grow(t->bytes, f->bytes_room = cmd_twice(kalm__add(t->size, size)));
    to = t->bytes + t->size;
    f->found[f->count].at = t->size;
    f->found[f->count].query = query.size;
    f->found[f->count++].text = title.size + (title.size != 0) + text.size;
    if (query.size) memcpy(to, query.data, query.size);
    to += query.size;
    if (title.size) {                  /* before the text, as BEIR has it */
        memcpy(to, title.data, title.size);
        to[title.size] = ' ';
        to += title.size + 1;
    }
    if (text.size) memcpy(to, text.data, text.size);
    t->size += size;
}

/* One record of the file; its texts are checked and kept. */
KALM__FN kalm_result kalm__texts_take(kalm__texts *t, kalm__finds *f, const reader *r, const char *name, text_record *c, kalm_error *err)
{
    size_t i, n, line = (size_t)r->line;
    const char *tab;
    if (c->text.size + c->title.size > KALM__TEXTS_LINE)
        return kalm__fail(err, KALM_BAD_FILE, "%s, line %z has %z bytes; a text has at most %u", name, line,
                          c->text.size + c->title.size, (unsigned)KALM__TEXTS_LINE);
    for (i = 0; i < c->text.size; i += n) {
        n = kalm__json_utf8((const unsigned char *)c->text.data + i, c->text.size - i);
        if (!n) return kalm__fail(err, KALM_BAD_FILE, "%s, line %z: byte %z is not UTF-8", name, line, i + 1);
    }
    if (r->format == READ_LINES && (tab = (const char *)memchr(c->text.data, '\t', c->text.size)) != NULL) {
        c->query.data = c->text.data;
        c->query.size = (size_t)(tab - c->text.data);
        c->text.data = tab + 1;
        c->text.size -= c->query.size + 1;
    }
    if (reader_blank(c->text) && reader_blank(c->title))
        return kalm__fail(err, KALM_BAD_FILE, "%s, line %z has a query and no text", name, line);
    kalm__texts_keep(t, f, c->query, c->title, c->text);
    return KALM_OK;
}

KALM__FN kalm_result kalm__texts_all(kalm__texts *t, kalm__finds *f, const char *path, kalm_error *err)
{
    const char *name = kalm__shown(path);
    kalm_result k = KALM_OK;
    reader r;
    text_record c;
    int what;
    if (!reader_begin(&r, path, READ_AUTO)) k = kalm__fail(err, KALM_CANNOT_READ, "%s: %s", name, r.why);
    else r.format = reader_guess(&r, 0);
    r.strict_utf8 = 0;                 /* checked above, with this part's words */
    while (!k && (what = reader_next(&r, &c)) != READ_END) {
        if (r.read > KALM__TEXTS_FILE)
            k = kalm__fail(err, KALM_BAD_FILE, "%s has more than %u bytes, too many for such a file", name, (unsigned)KALM__TEXTS_FILE);
        else if (what == READ_RECORD) k = kalm__texts_take(t, f, &r, name, &c, err);
        else if (!r.line) k = kalm__fail(err, KALM_BAD_FILE, "%s: %s", name, r.why);
        else k = kalm__fail(err, KALM_BAD_FILE, strncmp(r.why, "column ", 7) ? "%s, line %z: %s" : "%s, line %z, %s", name,
                            (size_t)r.line, r.why);
        if (!k && kalm__interrupted) k = kalm__fail(err, KALM_CANCELLED, "interrupted");
    }
    reader_end(&r);
    if (!k && !f->count) k = kalm__fail(err, KALM_BAD_FILE, "%s has no text in it", name);
    return k;
}

/* To be ended in any case. */
KALM__FN kalm_result kalm__texts_read(kalm__texts *t, const char *path, kalm_error *err)
{
    kalm__finds f;
    size_t i;
    kalm_result r;
    memset(t, 0, sizeof *t);
    memset(&f, 0, sizeof f);
    r = kalm__texts_all(t, &f, path, err);
    if (!r) {
        t->count = kalm__min(f.count, KALM__TEXTS_MOST);
        t->query = (kalm_text *)cmd_alloc(t->count * sizeof *t->query);
        t->text = (kalm_text *)cmd_alloc(t->count * sizeof *t->text);
    }
    for (i = 0; i < t->count; i++) {
        const kalm__found *one = &f.found[i * f.count / t->count];
        t->query[i].data = t->bytes + one->at;
        t->query[i].size = one->query;
        t->text[i].data = t->bytes + one->at + one->query;
        t->text[i].size = one->text;
    }
    free(f.found);
    /* A query for those that have none: half of them fit their text, half come from the text before. */
    for (i = 0; i < t->count; i++)
        if (reader_blank(t->query[i])) t->query[i] = kalm__first_words(t->text[i % 2 ? i - 1 : i]);
    return r;
}

#endif
