/* store.h - encoded documents in one SQLite database: what kalm-index writes and kalm-rerank --store reads. The tables
   are plain, so that any tool reads them; the comments of the schema stay in the file (sqlite3 STORE .schema).
   Included behind command.h. Failures end the command with a sentence.

   A batch of documents is one transaction. While a command writes, the journal is a write-ahead log, so that readers go
   on; at the end the store is one file again. A killed command leaves STORE-wal beside it, and the next one to open the
   store takes in what had been committed.

   A store may come from a stranger. So its schema must be the one below to the letter (comments and white space apart):
   views, triggers, virtual tables, generated columns and other indexes, which are programs that SQLite would run, are refused
   by name before anything is read. Every value is checked for its type, its range and its UTF-8 where it is read. No statement
   runs on after a signal. */
#ifndef KALM_STORE_H
#define KALM_STORE_H

#include <sqlite3.h>

#define STORE_APPLICATION 0x4b414c4d   /* "KALM", PRAGMA application_id */
#define STORE_VERSION 1                /* PRAGMA user_version */
/* What may lie beside STORE.db: its states (store_states.h), and what SQLite keeps beside either while it is written. */
enum { STORE_FILES = 8 };
static const char *const store_files[STORE_FILES] = { "", "-wal", "-shm", "-journal", ".states", ".states-wal", ".states-shm", ".states-journal" };
#define STORE_LAST_NUMBER ((int64_t)1 << 53)   /* largest number of a row: new ones must find room behind it */

static const char store_meta_table[] =
    "CREATE TABLE meta (\n"
    "    name  TEXT PRIMARY KEY NOT NULL,   -- model, weights, fingerprint, width, ratio, bits, max_doc_tokens, split,\n"
    "    value NOT NULL                     -- overlap, and transform at 4, 3 and 2 bits: the same for all documents\n"
    ") WITHOUT ROWID";
static const char store_documents_table[] =
    "CREATE TABLE documents (\n"
    "    number      INTEGER PRIMARY KEY,   -- in the order of arrival; windows of a text follow each other\n"
    "    key         TEXT NOT NULL,         -- unique but for windows\n"
    "    window      INTEGER NOT NULL,      -- 0, 1, ... of a text that was split; 0 of one that was not\n"
    "    windows     INTEGER NOT NULL,      -- how many the text has\n"
    "    start       INTEGER NOT NULL,      -- the byte of the whole text where this window's begins\n"
    "    hash        TEXT NOT NULL,         -- of title and whole text: what tells that they changed\n"
    "    tokens      INTEGER NOT NULL,      -- of what was encoded, its prefix and the title included\n"
    "    tokens_used INTEGER NOT NULL,      -- fewer where it was cut at max_doc_tokens\n"
    "    title       TEXT NOT NULL,         -- encoded before the text, a space between, unless it is empty\n"
    "    text        TEXT NOT NULL,         -- of this window\n"
    "    metadata    TEXT NOT NULL,         -- JSON object: what else the input had\n"
    "    document    BLOB NOT NULL,         -- the encoded document, for kalm_doc_open\n"
    "    UNIQUE (key, window)\n"
    ")";

/* What kalm-search adds (search_schema.h), all of it or none: the files that the documents come from, and the words to find them by.
   The words' table is SQLite's full-text index, FTS5, which keeps it in four tables of its own. */
static const char store_files_table[] =
    "CREATE TABLE search_files (\n"
    "    path      BLOB PRIMARY KEY NOT NULL,   -- from the root, in the bytes of the system\n"
    "    size      INTEGER NOT NULL,            -- of the file, in bytes\n"
    "    modified  INTEGER NOT NULL,            -- in nanoseconds since 1970; 0: look at its bytes next time\n"
    "    hash      TEXT NOT NULL,               -- of its bytes\n"
    "    documents INTEGER NOT NULL,            -- how many it gave\n"
    "    note      TEXT NOT NULL                -- why it or a part of it was left out; else empty\n"
    ") WITHOUT ROWID";
static const char store_sources_table[] =
    "CREATE TABLE search_sources (\n"
    "    path      BLOB PRIMARY KEY NOT NULL    -- the files and folders that were named\n"
    ") WITHOUT ROWID";
static const char store_words_table[] =
    "CREATE VIRTUAL TABLE search_words USING fts5(words, content='', tokenize='ascii')";
enum { STORE_SEARCH_TABLES = 7 };
static const struct { const char *name, *sql; } store_search_tables[STORE_SEARCH_TABLES] = {
    { "search_files", store_files_table },
    { "search_sources", store_sources_table },
    { "search_words", store_words_table },
    { "search_words_data", "CREATE TABLE 'search_words_data'(id INTEGER PRIMARY KEY, block BLOB)" },
    { "search_words_idx", "CREATE TABLE 'search_words_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID" },
    { "search_words_docsize", "CREATE TABLE 'search_words_docsize'(id INTEGER PRIMARY KEY, sz BLOB)" },
    { "search_words_config", "CREATE TABLE 'search_words_config'(k PRIMARY KEY, v) WITHOUT ROWID" }
};

typedef struct store_meta {
    char     model[128], weights[16], fingerprint[17];
    char     transform[17];            /* of bits 4, 3 and 2: kalm_model_info.transform of the model file; else empty */
    uint32_t width, ratio, bits, max_doc_tokens, split, overlap;   /* split 0: no windows */
} store_meta;

typedef struct store {
    sqlite3    *db;
    const char *path;
    store_meta  meta;
    int         searched;              /* kalm-search made it: it has the tables above */
    char       *why;                   /* [STORE_WHY] what is wrong with a row goes here; NULL: it ends the command */
} store;

enum { STORE_WHY = 320 };

/* ---- statements ---------------------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
KALM__FN void store_failed(const store *s)
{
    int code = s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM, system = s->db ? sqlite3_system_errno(s->db) : 0;
    const char *what = s->db ? sqlite3_errmsg(s->db) : "no memory";
    if ((code == SQLITE_INTERRUPT || code == SQLITE_BUSY || code == SQLITE_LOCKED) && kalm__interrupted) {
        fprintf(stderr, "%s: interrupted\n", cmd_name);
        exit(EXIT_INTERRUPTED);
    }
    if ((code == SQLITE_IOERR || code == SQLITE_CANTOPEN) && system) die("%s: %s: %s", s->path, what, strerror(system));
    die(code == SQLITE_NOMEM ? "%s: %s, or the file is damaged" : "%s: %s", s->path, what);
}

KALM__FN void store_check(const store *s, int code)
{
    if (code != SQLITE_OK) store_failed(s);
}

KALM__FN void store_exec(const store *s, const char *sql) { store_check(s, sqlite3_exec(s->db, sql, NULL, NULL, NULL)); }

KALM__FN sqlite3_stmt *store_prepare(const store *s, const char *sql)
{
    sqlite3_stmt *q = NULL;
    store_check(s, sqlite3_prepare_v2(s->db, sql, -1, &q, NULL));
    return q;
}

/* 1: a row; 0: the end. */
KALM__FN int store_step(const store *s, sqlite3_stmt *q)
{
    int code = sqlite3_step(q);
    if (code != SQLITE_ROW && code != SQLITE_DONE) store_failed(s);
    return code == SQLITE_ROW;
}

/* The text must stay until the statement is reset. */
KALM__FN void store_bind(const store *s, sqlite3_stmt *q, int i, kalm_text t)
{
    store_check(s, sqlite3_bind_text64(q, i, t.data ? t.data : "", t.size, SQLITE_STATIC, SQLITE_UTF8));
}

/* Run a statement without results, to be bound and run again. */
KALM__FN void store_run(const store *s, sqlite3_stmt *q)
{
    store_step(s, q);
    store_check(s, sqlite3_reset(q));
}

/* The only number that a query gives; 0 where it gives none. For numbers that the database computes (counts, pragmas). */
KALM__FN int64_t store_number(const store *s, const char *sql)
{
    sqlite3_stmt *q = store_prepare(s, sql);
    int64_t n = store_step(s, q) ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return n;
}

/* ---- values: each is checked where it is read ------------------------------------------------------------------------ */

/* A text for a message: what is not printable becomes '?', of a long one the beginning. Lives until the fourth call. */
KALM__FN const char *store_shown(kalm_text t)
{
    static char text[4][132];
    static unsigned turn;
    char *out = text[turn++ & 3];
    size_t i, n = kalm__min(t.size, 128);
    while (n && n < t.size && ((unsigned char)t.data[n] & 0xc0) == 0x80) n--;
    for (i = 0; i < n; i++) out[i] = (unsigned char)t.data[i] < 32 || t.data[i] == 127 ? '?' : t.data[i];
    out[n] = 0;
    if (n < t.size) strcpy(out + n, "...");
    return out;
}

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4), unused))
#endif
static void store_bad_row(const store *s, int64_t row, const char *format, ...);
/* A value of a row is wrong: the command ends, or where s->why is there, it keeps the first sentence. */
static void store_bad_row(const store *s, int64_t row, const char *format, ...)
{
    char text[STORE_WHY];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!s->why) die("%s: row %lld: %s", s->path, (long long)row, text);
    if (!*s->why) memcpy(s->why, text, sizeof text);
}

/* Column i, a whole number from least to most. `row` is the row's number, for the message; 0: it is not known. */
KALM__FN int64_t store_int(const store *s, sqlite3_stmt *q, int i, int64_t row, int64_t least, int64_t most)
{
    int64_t v = sqlite3_column_int64(q, i);
    if (sqlite3_column_type(q, i) != SQLITE_INTEGER)
        store_bad_row(s, row, "its %s is no whole number", sqlite3_column_name(q, i));
    else if (v < least || v > most)
        store_bad_row(s, row, "its %s is %lld, which is not from %lld to %lld", sqlite3_column_name(q, i), (long long)v,
                      (long long)least, (long long)most);
    else return v;
    return least;
}

/* Bytes of the first part of t that is no UTF-8 text without NUL; t.size when all is well. */
KALM__FN size_t store_bad_byte(kalm_text t)
{
    size_t i = 0, n;
    while (i < t.size) {
        n = t.data[i] ? kalm__json_utf8((const unsigned char *)t.data + i, t.size - i) : 0;
        if (!n) return i;
        i += n;
    }
    return i;
}

/* Column i, a text: UTF-8 without NUL. Lives until the next step, a NUL stands behind it. */
KALM__FN kalm_text store_text(const store *s, sqlite3_stmt *q, int i, int64_t row)
{
    kalm_text t;
    size_t bad;
    if (sqlite3_column_type(q, i) != SQLITE_TEXT) {
        store_bad_row(s, row, "its %s is no text", sqlite3_column_name(q, i));
        return kalm__text("");
    }
    t.data = (const char *)sqlite3_column_text(q, i);
    t.size = (size_t)sqlite3_column_bytes(q, i);
    if (!t.data) die("no memory for a text of %s", s->path);
    bad = store_bad_byte(t);
    if (bad < t.size)
        store_bad_row(s, row, "byte %lu of its %s is %s", (unsigned long)bad, sqlite3_column_name(q, i),
                      t.data[bad] ? "not UTF-8" : "NUL");
    return t;
}

/* Column i, an encoded document. Lives until the next step. */
KALM__FN kalm_text store_document(const store *s, sqlite3_stmt *q, int i, int64_t row)
{
    kalm_text t;
    if (sqlite3_column_type(q, i) != SQLITE_BLOB)
        store_bad_row(s, row, "the document is damaged: it is kept as another type than a blob");
    t.data = (const char *)sqlite3_column_blob(q, i);
    t.size = (size_t)sqlite3_column_bytes(q, i);
    if (!t.data) t.data = "";
    return t;
}

KALM__FN int store_is_hash(const char *s, size_t n)
{
    return n == 16 && strspn(s, "0123456789abcdef") >= 16;
}

/* A whole row of the table documents; texts live until the next step. */
typedef struct store_row {
    int64_t   number, window, windows, start, tokens, tokens_used;
    kalm_text key, hash, title, text, metadata, document;
} store_row;

#define STORE_COLUMNS "number, key, window, windows, start, hash, tokens, tokens_used, title, text, metadata, document"

/* The row that a SELECT of STORE_COLUMNS stands at, checked. */
KALM__FN void store_read_row(const store *s, sqlite3_stmt *q, store_row *r)
{
    r->number = store_int(s, q, 0, sqlite3_column_int64(q, 0), 1, STORE_LAST_NUMBER);
    r->key = store_text(s, q, 1, r->number);
    r->windows = store_int(s, q, 3, r->number, 1, UINT32_MAX);
    r->window = store_int(s, q, 2, r->number, 0, r->windows - 1);
    r->start = store_int(s, q, 4, r->number, 0, INT32_MAX);
    r->hash = store_text(s, q, 5, r->number);
    r->tokens = store_int(s, q, 6, r->number, 0, UINT32_MAX);
    r->tokens_used = store_int(s, q, 7, r->number, 0, s->meta.max_doc_tokens);
    r->title = store_text(s, q, 8, r->number);
    r->text = store_text(s, q, 9, r->number);
    r->metadata = store_text(s, q, 10, r->number);
    r->document = store_document(s, q, 11, r->number);
    if (!r->key.size) store_bad_row(s, r->number, "its key is empty");
    if (!store_is_hash(r->hash.data, r->hash.size)) store_bad_row(s, r->number, "its hash is none");
    if (!s->meta.split && r->windows != 1) store_bad_row(s, r->number, "a window, in a store of texts that are not split");
}

/* The text of a document's windows, put together as they come. */
typedef struct whole_text {
    char   *text;                      /* owned */
    size_t  size, room;
    int64_t next, windows;             /* the window that comes next, of how many; windows 0: none yet */
} whole_text;

/* The next row of the document. 1: well; 0: it does not go on from the one before; -1: there is no memory. */
KALM__FN int whole_add(whole_text *w, const store_row *r)
{
    size_t start = (size_t)r->start, both;
    if (r->window == 0) w->next = 0, w->size = 0, w->windows = r->windows;
    if (r->window != w->next || r->windows != w->windows || start > w->size || r->text.size > (size_t)INT32_MAX) return 0;
    both = kalm__min(w->size - start, r->text.size);       /* what this window and the one before have of the text */
    if (both && memcmp(w->text + start, r->text.data, both) != 0) return 0;
    if (start + r->text.size + 1 > w->room) {
        size_t room = cmd_twice(start + r->text.size + 1);
        char *more = (char *)realloc(w->text, room);
        if (!more) return -1;
        w->text = more;
        w->room = room;
    }
    memcpy(w->text + start, r->text.data, r->text.size);
    w->size = start + r->text.size;
    w->text[w->size] = 0;
    w->next++;
    return 1;
}

/* Metadata must be a JSON object: it is printed as it is. */
KALM__FN void store_check_metadata(const store *s, kalm_text metadata, int64_t row)
{
    kalm_allocator allocator;
    kalm__json j;
    kalm_error err;
    kalm_result r;
    int ok;
    if (metadata.size == 2 && !memcmp(metadata.data, "{}", 2)) return;
    allocator = kalm__allocator(NULL, &ok);
    kalm__json_begin(&j, &allocator);
    j.repeats = 1;                     /* a store keeps what it was given, and kalm-index once took a name twice */
    r = kalm__json_parse(&j, "metadata", metadata.data, metadata.size, &err);
    if (r == KALM_NO_MEMORY) store_bad_row(s, row, "%s", err.text);
    else if (r || kalm__json_type(&j, 0) != KALM__JSON_OBJECT || metadata.data[0] != '{')
        store_bad_row(s, row, "its metadata is no JSON object");
    kalm__json_end(&j);
}

/* ---- the schema ------------------------------------------------------------------------------------------------------ */

/* Letters, digits and underscores from s on. */
KALM__FN size_t store_word(const char *s)
{
    size_t n = 0;
    while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || (s[n] >= '0' && s[n] <= '9') || s[n] == '_') n++;
    return n;
}

/* `sql` in one way of writing it: no comments, a space between two words and nowhere else, no double quotes round a name, and
   without IF NOT EXISTS, which some tools write; to be freed. What SQLite would read in another way than we do stays as it is, so
   that it is like nothing of ours: "--" in quotes begins no comment, and TEXTNOTNULL is the name of a type. */
KALM__FN char *store_bare_sql(const char *sql)
{
    char *bare = (char *)cmd_alloc(strlen(sql) + 1);
    size_t n = 0, i = 0, word;
    int behind_word = 0;               /* bare ends in one */
    while (sql[i]) {
        int quoted = sql[i] == '"' && (word = store_word(sql + i + 1)) != 0 && sql[i + 1 + word] == '"';
        if (sql[i] == '\'') {
            do bare[n++] = sql[i++];
            while (sql[i] && sql[i] != '\'');
            if (sql[i]) bare[n++] = sql[i++];
            behind_word = 0;
        } else if (sql[i] == '-' && sql[i + 1] == '-') i += strcspn(sql + i, "\n");
        else if (strchr(" \n\r\t", sql[i])) i++;
        else if (!strncmp(sql + i, "IF NOT EXISTS ", 14)) i += 14;
        else if (quoted || (word = store_word(sql + i)) != 0) {
            if (behind_word) bare[n++] = ' ';
            memcpy(bare + n, sql + i + quoted, word);
            n += word;
            i += word + 2 * (size_t)quoted;
            behind_word = 1;
        } else {
            bare[n++] = sql[i++];
            behind_word = 0;
        }
    }
    bare[n] = 0;
    return bare;
}

KALM__FN int store_same_sql(const char *sql, const char *ours)
{
    char *a = store_bare_sql(sql), *b = store_bare_sql(ours);
    int same = strcmp(a, b) == 0;
    free(a);
    free(b);
    return same;
}

/* Which of kalm-search's tables this is, or -1. */
KALM__FN int store_search_table(const char *name)
{
    int i;
    for (i = 0; i < STORE_SEARCH_TABLES; i++)
        if (!strcmp(name, store_search_tables[i].name)) return i;
    return -1;
}

/* Nothing but our two tables, as we make them, and the index that SQLite makes for one; and maybe kalm-search's. */
KALM__FN void store_check_schema(store *s)
{
    sqlite3_stmt *q = store_prepare(s, "SELECT type, name, tbl_name, sql FROM sqlite_master");
    int tables = 0, searched = 0;
    while (store_step(s, q)) {
        const char *part[4];
        int i, of_search;
        for (i = 0; i < 4; i++) {
            part[i] = (const char *)sqlite3_column_text(q, i);
            if (!part[i]) part[i] = "";
        }
        if (!strcmp(part[0], "index") && !strcmp(part[1], "sqlite_autoindex_documents_1") && !strcmp(part[2], "documents") && !*part[3])
            continue;
        if (!strcmp(part[0], "table") && !strcmp(part[1], "sqlite_stat1") && store_same_sql(part[3], "CREATE TABLE sqlite_stat1(tbl,idx,stat)"))
            continue;                  /* somebody ran ANALYZE */
        if (!strcmp(part[0], "table") && (!strcmp(part[1], "meta") || !strcmp(part[1], "documents"))) {
            int documents = part[1][0] == 'd';
            if (!store_same_sql(part[3], documents ? store_documents_table : store_meta_table))
                die("%s: its table %s is not as kalm-index makes it", s->path, part[1]);
            tables |= documents + 1;
            continue;
        }
        of_search = strcmp(part[0], "table") ? -1 : store_search_table(part[1]);
        if (of_search >= 0) {
            if (!store_same_sql(part[3], store_search_tables[of_search].sql))
                die("%s: its table %s is not as kalm-search makes it", s->path, part[1]);
            searched |= 1 << of_search;
            continue;
        }
        die("%s has %s %s '%s', which kalm-index did not make: only its own tables are read", s->path,
            strchr("aeiou", *part[0]) ? "an" : "a", store_shown(kalm__text(part[0])), store_shown(kalm__text(part[1])));
    }
    sqlite3_finalize(q);
    if (tables != 3) die("%s: its tables are not there", s->path);
    if (searched && searched != (1 << STORE_SEARCH_TABLES) - 1) die("%s lacks some of the tables of kalm-search", s->path);
    s->searched = searched != 0;
    q = store_prepare(s, "PRAGMA encoding");
    if (!store_step(s, q) || strcmp((const char *)sqlite3_column_text(q, 0), "UTF-8") != 0)
        die("%s: its texts are not kept as UTF-8", s->path);
    sqlite3_finalize(q);
}

/* A name that is printed as it is: no control characters. */
KALM__FN void store_meta_text(const store *s, sqlite3_stmt *q, const char *name, char *out, size_t room)
{
    kalm_text t;
    size_t i;
    if (sqlite3_column_type(q, 1) != SQLITE_TEXT) die("%s: %s in its table meta is no text", s->path, name);
    t.data = (const char *)sqlite3_column_text(q, 1);
    t.size = (size_t)sqlite3_column_bytes(q, 1);
    if (!t.data) die("no memory for a text of %s", s->path);
    if (t.size >= room || store_bad_byte(t) < t.size) die("%s: %s in its table meta is too long or no UTF-8", s->path, name);
    for (i = 0; i < t.size; i++)
        if ((unsigned char)t.data[i] < 32 || t.data[i] == 127) die("%s: %s in its table meta has a control character", s->path, name);
    memcpy(out, t.data, t.size);
    out[t.size] = 0;
}

KALM__FN void store_read_meta(store *s)
{
    store_meta *m = &s->meta;
    struct { const char *name; uint32_t *to, least, most; } number[6];
    struct { const char *name; char *to; size_t room; } text[4];
    unsigned i, have = 0;
    sqlite3_stmt *q = store_prepare(s, "SELECT name, value FROM meta LIMIT 100");
    memset(m, 0, sizeof *m);
#define ROW(i, n, field, low, high) \
    (number[i].name = n, number[i].to = &m->field, number[i].least = low, number[i].most = high)
    ROW(0, "width", width, 1, 1u << 20);
    ROW(1, "ratio", ratio, 1, 1u << 20);
    ROW(2, "bits", bits, 2, 32);
    ROW(3, "max_doc_tokens", max_doc_tokens, 1, 1u << 30);
    ROW(4, "split", split, 0, 1u << 30);
    ROW(5, "overlap", overlap, 0, 1u << 30);
#undef ROW
    text[0].name = "model", text[0].to = m->model, text[0].room = sizeof m->model;
    text[1].name = "weights", text[1].to = m->weights, text[1].room = sizeof m->weights;
    text[2].name = "fingerprint", text[2].to = m->fingerprint, text[2].room = sizeof m->fingerprint;
    text[3].name = "transform", text[3].to = m->transform, text[3].room = sizeof m->transform;
    while (store_step(s, q)) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        if (!name) name = "";
        for (i = 0; i < 4; i++)
            if (!strcmp(name, text[i].name)) store_meta_text(s, q, name, text[i].to, text[i].room), have |= 1u << i;
        for (i = 0; i < 6; i++) {
            int64_t v = sqlite3_column_int64(q, 1);
            if (strcmp(name, number[i].name) != 0) continue;
            if (sqlite3_column_type(q, 1) != SQLITE_INTEGER || v < number[i].least || v > number[i].most)
                die("%s: %s in its table meta is no whole number from %lu to %lu", s->path, name, (unsigned long)number[i].least,
                    (unsigned long)number[i].most);
            *number[i].to = (uint32_t)v;
            have |= 16u << i;
        }
    }
    sqlite3_finalize(q);
    if ((have | 8) != 1023) die("%s: its table meta is not whole", s->path);
    if (!store_is_hash(m->fingerprint, strlen(m->fingerprint))) die("%s: the fingerprint in its table meta is none", s->path);
    if (!kalm__doc_row_bytes(1, m->bits)) die("%s: bits in its table meta is not 32, 16, 8, 4, 3 or 2", s->path);
    if (kalm__is_coded(m->bits) ? !store_is_hash(m->transform, strlen(m->transform)) : (have & 8) != 0)
        die("%s: the transform in its table meta is none that rows of %lu bits have", s->path, (unsigned long)m->bits);
    if (m->split > m->max_doc_tokens)
        die("%s: split in its table meta is %lu, more than max_doc_tokens, %lu", s->path, (unsigned long)m->split,
            (unsigned long)m->max_doc_tokens);
    if (m->split ? m->overlap >= m->split : m->overlap != 0)
        die("%s: overlap in its table meta is %lu, and split %lu: windows would not go on", s->path, (unsigned long)m->overlap,
            (unsigned long)m->split);
}

/* Numbers of rows are positive, and there is room behind the last one. */
KALM__FN void store_check_numbers(const store *s)
{
    static const char *const edge[2] = { "SELECT number FROM documents ORDER BY number LIMIT 1",
                                         "SELECT number FROM documents ORDER BY number DESC LIMIT 1" };
    int i;
    for (i = 0; i < 2; i++) {
        sqlite3_stmt *q = store_prepare(s, edge[i]);
        if (store_step(s, q)) store_int(s, q, 0, sqlite3_column_int64(q, 0), 1, STORE_LAST_NUMBER);
        sqlite3_finalize(q);
    }
}

/* Of one file by two names? */
KALM__FN int same_file(const char *a, const char *b)
{
#if defined(_WIN32)
    return strcmp(a, b) == 0;
#else
    struct stat x, y;
    return strcmp(a, b) == 0 || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
#endif
}

/* ---- open, create, close ------------------------------------------------------------------------------------------- */

enum {
    STORE_READ, STORE_WRITE, STORE_CREATE,     /* CREATE: a file that is missing or empty becomes an empty database */
    STORE_SEARCH = 4                   /* a flag, with the others: by kalm-search, which keeps its words beside the documents */
};

/* SQLite asks every thousand steps of a statement, and while another command holds a lock: shall it go on? */
KALM__FN int store_ask(void *user)
{
    (void)user;
    return kalm__interrupted != 0;
}

KALM__FN int store_wait(void *user, int times)
{
    (void)user;
    if (kalm__interrupted || times > 3000) return 0;       /* a minute */
    sqlite3_sleep(20);
    return 1;
}

/* Is the journal beside an opened database, which nothing was read of yet, one that a killed command can have left? NULL: it is, or
   there is none. SQLite believes what a journal says: one that ends with a name belongs to several databases that were changed
   together, which we never do, and after it was taken in SQLite deletes the file of that name, wherever it is. And SQLite would
   wait for whoever writes to a pipe. */
KALM__FN const char *store_wrong_journal(const store *s)
{
    static const unsigned char named[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
    const char *file = sqlite3_db_filename(s->db, "main"), *why = NULL;      /* the whole path, links followed */
    unsigned char end[8];
    kalm__input f;
    char *name;
#if !defined(_WIN32)
    struct stat st;
#endif
    if (!file || !*file) return NULL;
    name = (char *)cmd_alloc(strlen(file) + sizeof "-journal");
    sprintf(name, "%s-journal", file);
#if !defined(_WIN32)
    if (!lstat(name, &st) && !S_ISREG(st.st_mode)) why = "the journal beside it is no regular file";
#endif
    if (!why && kalm__file_exists(name) && !kalm__input_open(&f, name, NULL)) {
        if (f.size < sizeof end) why = NULL;
        else if (!kalm__input_read(&f, f.size - sizeof end, end, sizeof end)) why = "the journal beside it cannot be read";
        else if (!memcmp(end, named, sizeof end))
            why = "the journal beside it names another file, which SQLite would delete: it was not made by a kalm command";
        kalm__input_close(&f);
    }
    free(name);
    return why;
}

/* Nothing that a file brings along is run or believed, and what a statement may take is bounded. */
KALM__FN void store_distrust(const store *s)
{
    static const struct { int what, most; } limits[] = {
        { SQLITE_LIMIT_SQL_LENGTH, 100000 }, { SQLITE_LIMIT_EXPR_DEPTH, 100 }, { SQLITE_LIMIT_COMPOUND_SELECT, 10 },
        { SQLITE_LIMIT_VDBE_OP, 25000 }, { SQLITE_LIMIT_COLUMN, 100 }, { SQLITE_LIMIT_FUNCTION_ARG, 16 },
        { SQLITE_LIMIT_ATTACHED, 0 }, { SQLITE_LIMIT_TRIGGER_DEPTH, 1 }, { SQLITE_LIMIT_WORKER_THREADS, 0 }
    };
    const char *why = store_wrong_journal(s);
    size_t i;
    if (why) die("%s: %s", s->path, why);
    for (i = 0; i < sizeof limits / sizeof *limits; i++) sqlite3_limit(s->db, limits[i].what, limits[i].most);
    /* an option that this SQLite does not know is no loss: the schema is checked as well */
#ifdef SQLITE_DBCONFIG_DEFENSIVE
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
#endif
#ifdef SQLITE_DBCONFIG_TRUSTED_SCHEMA
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
#endif
#ifdef SQLITE_DBCONFIG_ENABLE_VIEW
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
#endif
    sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_progress_handler(s->db, 1000, store_ask, NULL);
    store_check(s, sqlite3_busy_handler(s->db, store_wait, NULL));
    store_exec(s, "PRAGMA trusted_schema=OFF");
    store_exec(s, "PRAGMA cell_size_check=ON");
    store_exec(s, "PRAGMA mmap_size=0");       /* a file that is cut while it is mapped would end the command by SIGBUS */
}

/* The name must be that of a regular file, or of none yet where one may be made. SQLite takes "" for a database that is
   thrown away and names that begin with a colon for ones in memory: the first is refused, the second are files here. */
KALM__FN char *store_file_name(const char *path, int how)
{
#if !defined(_WIN32)
    struct stat st;
#endif
    if (!*path) die_usage("the name of the store is empty");
    if (path[strlen(path) - 1] == '/') die("%s is the name of a folder, no store", path);
#if defined(_WIN32)
    if (kalm__directory_exists(path)) die("%s is a folder, no store", path);
#else
    if (!stat(path, &st)) {
        if (S_ISDIR(st.st_mode)) die("%s is a folder, no store", path);
        if (!S_ISREG(st.st_mode)) die("%s is no regular file, so it is no store", path);
    } else if (errno != ENOENT) die("cannot read %s: %s", path, strerror(errno));
    else
#endif
    if (how != STORE_CREATE && !kalm__file_exists(path)) die("there is no store %s", path);
    return *path == ':' || !strncmp(path, "file:", 5) ? kalm__join_path(".", path) : cmd_copy(kalm__text(path));
}

/* A killed command leaves a journal beside the store. SQLite takes it in when the store is opened for writing, and refuses to read
   before that: so a command that only reads opens it for writing for a moment, where it may. */
KALM__FN void store_recover(const store *s, const char *file)
{
    store writing = *s;
    if (sqlite3_exec(s->db, "PRAGMA user_version", NULL, NULL, NULL) != SQLITE_READONLY) return;
    if (sqlite3_open_v2(file, &writing.db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
        store_distrust(&writing);
        (void)sqlite3_exec(writing.db, "PRAGMA user_version", NULL, NULL, NULL);
    }
    sqlite3_close(writing.db);
}

/* 1: the store is there and s->meta read; 0: an empty database, for store_create (STORE_CREATE alone). */
KALM__FN int store_open(store *s, const char *path, int how)
{
    int for_search = (how & STORE_SEARCH) != 0, flags;
    int64_t application, version;
    char *file;
    how &= ~STORE_SEARCH;
    flags = how == STORE_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    file = store_file_name(path, how);
    memset(s, 0, sizeof *s);
    s->path = path;
    if (!file) die("no memory for a path");
    if (how == STORE_CREATE) flags |= SQLITE_OPEN_CREATE;
    store_check(s, sqlite3_open_v2(file, &s->db, flags, NULL));
    store_distrust(s);
    if (how == STORE_READ) store_recover(s, file);
    free(file);
    application = store_number(s, "PRAGMA application_id");
    version = store_number(s, "PRAGMA user_version");
    if (application == STORE_APPLICATION) {
        if (version != STORE_VERSION)
            die("%s is a store of version %ld, this program reads %d", path, (long)version, STORE_VERSION);
        store_check_schema(s);
        store_read_meta(s);
        store_check_numbers(s);
        if (s->searched && !for_search && how != STORE_READ)
            die("%s was made by kalm-search, which alone writes to it: another would leave its index of words behind", path);
        return 1;
    }
    if (application || version || store_number(s, "SELECT count(*) FROM sqlite_master"))
        die("%s is a database, but no store of kalm-index", path);
    if (how != STORE_CREATE) die("%s is empty: no store yet", path);
    return 0;
}

KALM__FN void store_put_meta(const store *s, sqlite3_stmt *q, const char *name, const char *text, uint32_t value)
{
    store_check(s, sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC));
    store_check(s, text ? sqlite3_bind_text(q, 2, text, -1, SQLITE_STATIC) : sqlite3_bind_int64(q, 2, (sqlite3_int64)value));
    store_run(s, q);
}

/* The tables, in one transaction with the marks that store_open looks for. When another command made them since then,
   s->meta is what that one says. */
KALM__FN void store_create(store *s, const store_meta *m)
{
    sqlite3_stmt *q;
    char marks[96];
    store_exec(s, "PRAGMA page_size=16384");   /* documents are tens of kilobytes */
    store_exec(s, "BEGIN IMMEDIATE");
    if (store_number(s, "SELECT count(*) FROM sqlite_master")) {
        store_exec(s, "ROLLBACK");
        store_check_schema(s);
        store_read_meta(s);
        return;
    }
    store_exec(s, store_meta_table);
    store_exec(s, store_documents_table);
    q = store_prepare(s, "INSERT INTO meta VALUES (?1, ?2)");
    store_put_meta(s, q, "model", m->model, 0);
    store_put_meta(s, q, "weights", m->weights, 0);
    store_put_meta(s, q, "fingerprint", m->fingerprint, 0);
    store_put_meta(s, q, "width", NULL, m->width);
    store_put_meta(s, q, "ratio", NULL, m->ratio);
    store_put_meta(s, q, "bits", NULL, m->bits);
    store_put_meta(s, q, "max_doc_tokens", NULL, m->max_doc_tokens);
    store_put_meta(s, q, "split", NULL, m->split);
    store_put_meta(s, q, "overlap", NULL, m->overlap);
    if (kalm__is_coded(m->bits)) store_put_meta(s, q, "transform", m->transform, 0);
    sqlite3_finalize(q);
    sprintf(marks, "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT", STORE_APPLICATION, STORE_VERSION);
    store_exec(s, marks);
    s->meta = *m;
}

/* Readers go on while this command writes; each commit is on the disk before the next begins. Where the file system has
   no shared memory, the journal stays what it is. */
KALM__FN void store_begin_writing(const store *s)
{
    int tries = 0, code;
    /* the change waits for nobody by itself */
    while ((code = sqlite3_exec(s->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL)) == SQLITE_BUSY && store_wait(NULL, tries++)) {}
    store_check(s, code);
    store_exec(s, "PRAGMA synchronous=FULL");
}

/* One file again, unless somebody else has it open. */
KALM__FN void store_close(store *s)
{
    if (!sqlite3_db_readonly(s->db, "main")) {
        sqlite3_progress_handler(s->db, 0, NULL, NULL);    /* also after a signal, for as long as signals.h allows */
        (void)sqlite3_exec(s->db, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
    }
    if (sqlite3_close(s->db) != SQLITE_OK) die("%s: a statement is still open", s->path);
    s->db = NULL;
}

KALM__FN void store_write_hash(char *out, uint64_t h)
{
    sprintf(out, "%08lx%08lx", (unsigned long)(h >> 32), (unsigned long)(h & 0xffffffffu));
}

/* A document of the store, where no model is at hand: whole, and of the store's model and transform. */
KALM__FN kalm_result store_check_document(const store *s, kalm_text bytes, kalm_doc_info *info, kalm_error *err)
{
    uint64_t transform = (uint64_t)strtoull(s->meta.transform, NULL, 16);
    kalm_result r = kalm__doc_check((const unsigned char *)bytes.data, bytes.size, info,
                                    (uint64_t)strtoull(s->meta.fingerprint, NULL, 16), s->meta.width, NULL, err);
    if (r) return r;
    if (info->ratio != s->meta.ratio || info->bits != s->meta.bits)
        return kalm__fail(err, KALM_MISMATCH, "its ratio or bits are not those of the store");
    if (info->transform != transform)
        return kalm__fail(err, KALM_MISMATCH, "its rows were made with transform %X, those of the store with %X", info->transform,
                          transform);
    return KALM_OK;
}

/* The settings of a new store of this model: what it is, ratio and bits (0: 4 and 16). Windows and lengths are the caller's. */
KALM__FN void store_new_meta(store_meta *m, const kalm_model_info *info, uint32_t ratio, uint32_t bits)
{
    memset(m, 0, sizeof *m);
    cmd_clean_name(m->model, sizeof m->model, info->name);     /* as store_meta_text reads it */
    snprintf(m->weights, sizeof m->weights, "%s", info->weights);
    store_write_hash(m->fingerprint, info->fingerprint);
    m->width = info->width;
    m->ratio = ratio ? ratio : 4;
    m->bits = bits ? bits : 16;
    if (!kalm__is_coded(m->bits)) return;
    if (!info->transform) {
        kalm_error err;
        kalm__no_rowcode(KALM_BAD_ARGUMENT, m->bits, &err);
        die("%s", err.text);
    }
    store_write_hash(m->transform, info->transform);
}

/* An option that was given must agree with what the store was made with. */
KALM__FN void store_demand_number(const store *s, const char *option, int given, uint32_t wanted, uint32_t has)
{
    if (given && wanted != has)
        die("%s was made with %s %lu, not %lu", s->path, option, (unsigned long)has, (unsigned long)wanted);
}

/* The store must be of this model, and rows of 4, 3 and 2 bits of this model file: one with another section ROWS cannot read them. */
KALM__FN void store_demand(const store *s, const char *path, const kalm_model_info *info)
{
    char fingerprint[17], transform[17];
    store_write_hash(fingerprint, info->fingerprint);
    if (strcmp(fingerprint, s->meta.fingerprint) != 0)
        die("%s holds documents of the model %s (%s, fingerprint %s), %s is %s (%s, fingerprint %s)", s->path, s->meta.model,
            s->meta.weights, s->meta.fingerprint, path, info->name, info->weights, fingerprint);
    store_write_hash(transform, info->transform);
    if (kalm__is_coded(s->meta.bits) && strcmp(transform, s->meta.transform) != 0)
        die("%s holds rows of %lu bits that were made with transform %s, %s has %s", s->path, (unsigned long)s->meta.bits,
            s->meta.transform, path, info->transform ? transform : "none");
    if (s->meta.width != info->width)
        die("%s: width in its table meta is %lu, the model's is %lu", s->path, (unsigned long)s->meta.width,
            (unsigned long)info->width);
    if (s->meta.max_doc_tokens > info->max_tokens)
        die("%s: max_doc_tokens in its table meta is %lu, the model reads %lu", s->path, (unsigned long)s->meta.max_doc_tokens,
            (unsigned long)info->max_tokens);
}

#endif
