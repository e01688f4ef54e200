/* store_same.h - is a text the one that a store has? The hash of the table documents cannot tell: it has no key, so that anybody can make
   a text with the hash of another. Where the hashes are the same, the texts are compared. Included behind store.h. */
#ifndef KALM_STORE_SAME_H
#define KALM_STORE_SAME_H

/* The columns that same_row looks at, first in a SELECT of all rows of a key. */
#define STORE_SAME_ROWS(more) "SELECT hash, title, text, start, window, windows" more " FROM documents WHERE key = ?1 ORDER BY window"

typedef struct same_text {
    kalm_text   title, text;
    const char *hash;                  /* of both (fill_hash), 16 digits */
    size_t      end;                   /* bytes of the text that were compared */
    int64_t     next, windows;         /* the window that comes next, of how many; another text is known by windows -1 */
} same_text;

KALM__FN void same_begin(same_text *c, kalm_text title, kalm_text text, const char *hash)
{
    memset(c, 0, sizeof *c);
    c->title = title;
    c->text = text;
    c->hash = hash;
    c->windows = 1;
}

/* Column i as it is: what is the same as a text that was checked needs no check of its own, as store_text has it. */
KALM__FN kalm_text same__column(sqlite3_stmt *q, int i)
{
    kalm_text t;
    t.data = (const char *)sqlite3_column_text(q, i);
    t.size = t.data ? (size_t)sqlite3_column_bytes(q, i) : 0;
    return t;
}

/* The row of the key that q stands at. 0: it is another text, and no further row need be looked at. */
KALM__FN int same_row(same_text *c, const store *s, sqlite3_stmt *q)
{
    kalm_text hash = same__column(q, 0), part;
    size_t start;
    c->windows = -1;
    if (hash.size != 16 || memcmp(hash.data, c->hash, 16) != 0 || !kalm__same_text(same__column(q, 1), c->title)) return 0;
    part = same__column(q, 2);
    start = (size_t)store_int(s, q, 3, 0, 0, INT32_MAX);
    if (start > c->end || part.size > c->text.size || start > c->text.size - part.size
        || (part.size && memcmp(c->text.data + start, part.data, part.size) != 0)) return 0;
    if (store_int(s, q, 4, 0, 0, UINT32_MAX) != c->next++) return 0;
    c->windows = store_int(s, q, 5, 0, 1, UINT32_MAX);
    c->end = start + part.size;
    return 1;
}

/* Behind the last row. */
KALM__FN int same_end(const same_text *c) { return c->next == c->windows && c->end == c->text.size; }

/* Is it the text of the key whose first row q stands at? The rows are gone through as far as need be. */
KALM__FN int same_rows(same_text *c, const store *s, sqlite3_stmt *q)
{
    while (same_row(c, s, q) && store_step(s, q)) {}
    return same_end(c);
}

#endif
