/* store.h - encoded documents in one SQLite database: what kalm-index writes and kalm-rerank --store reads. The tables
   are plain, so that any tool reads them; the comments of the schema stay in the file (sqlite3 STORE .schema).
   Included behind command.h. Failures end the command with a sentence.

   A batch of documents is one transaction. While a command writes, the journal is a write-ahead log, so that readers go
   on; at the end the store is one file again. A killed command leaves STORE-wal beside it, and the next one to open the
   store takes in what had been committed. */
#ifndef KALM_STORE_H
#define KALM_STORE_H

#include <sqlite3.h>

#define STORE_APPLICATION 0x4b414c4d   /* "KALM", PRAGMA application_id */
#define STORE_VERSION 1                /* PRAGMA user_version */

static const char store_schema[] =
    "CREATE TABLE meta (\n"
    "    name  TEXT PRIMARY KEY NOT NULL,   -- model, weights, fingerprint, width, ratio, bits, max_doc_tokens,\n"
    "    value NOT NULL                     -- split, overlap: the same for all documents\n"
    ") WITHOUT ROWID;\n"
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
    ");\n";

typedef struct store_meta {
    char     model[128], weights[16], fingerprint[17];
    uint32_t width, ratio, bits, max_doc_tokens, split, overlap;   /* split 0: no windows */
} store_meta;

typedef struct store {
    sqlite3    *db;
    const char *path;
    store_meta  meta;
} store;

/* ---- statements ---------------------------------------------------------------------------------------------------- */

#if defined(__GNUC__)
__attribute__((noreturn))
#endif
KALM__FN void store_failed(const store *s)
{
    int code = s->db ? sqlite3_errcode(s->db) : SQLITE_NOMEM, system = s->db ? sqlite3_system_errno(s->db) : 0;
    const char *what = s->db ? sqlite3_errmsg(s->db) : "no memory";
    if ((code == SQLITE_IOERR || code == SQLITE_CANTOPEN) && system) die("%s: %s: %s", s->path, what, strerror(system));
    die("%s: %s", s->path, what);
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

/* Lives until the next step. */
KALM__FN kalm_text store_column(sqlite3_stmt *q, int i)
{
    kalm_text t;
    t.data = (const char *)sqlite3_column_text(q, i);
    t.size = (size_t)sqlite3_column_bytes(q, i);
    if (!t.data) t.data = "";
    return t;
}

/* The only number that a query gives. */
KALM__FN int64_t store_number(const store *s, const char *sql)
{
    sqlite3_stmt *q = store_prepare(s, sql);
    int64_t n = store_step(s, q) ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return n;
}

/* ---- open, create, close ------------------------------------------------------------------------------------------- */

KALM__FN void store_take_text(char *out, size_t room, sqlite3_stmt *q)
{
    kalm_text t = store_column(q, 1);
    size_t n = kalm__min(t.size, room - 1);
    memcpy(out, t.data, n);
    out[n] = 0;
}

KALM__FN void store_read_meta(store *s)
{
    static const char *const names[] = { "width", "ratio", "bits", "max_doc_tokens", "split", "overlap" };
    sqlite3_stmt *q = store_prepare(s, "SELECT name, value FROM meta");
    store_meta *m = &s->meta;
    unsigned i, have = 0;
    memset(m, 0, sizeof *m);
    while (store_step(s, q)) {
        kalm_text name = store_column(q, 0);
        uint32_t value = (uint32_t)sqlite3_column_int64(q, 1);
        if (strcmp(name.data, "model") == 0) store_take_text(m->model, sizeof m->model, q);
        else if (strcmp(name.data, "weights") == 0) store_take_text(m->weights, sizeof m->weights, q);
        else if (strcmp(name.data, "fingerprint") == 0) store_take_text(m->fingerprint, sizeof m->fingerprint, q);
        for (i = 0; i < 6; i++) {
            uint32_t *field[6];
            field[0] = &m->width, field[1] = &m->ratio, field[2] = &m->bits;
            field[3] = &m->max_doc_tokens, field[4] = &m->split, field[5] = &m->overlap;
            if (strcmp(name.data, names[i]) == 0) *field[i] = value, have |= 1u << i;
        }
    }
    sqlite3_finalize(q);
    if (have != 63 || strlen(m->fingerprint) != 16 || !m->ratio || !m->width)
        die("%s: its table meta is not whole", s->path);
}

enum { STORE_READ, STORE_WRITE, STORE_CREATE };   /* CREATE: a file that is missing or empty becomes an empty database */

/* 1: the store is there and s->meta read; 0: an empty database, for store_create (STORE_CREATE alone). */
KALM__FN int store_open(store *s, const char *path, int how)
{
    int flags = how == STORE_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    int64_t application, version;
    memset(s, 0, sizeof *s);
    s->path = path;
    if (how != STORE_CREATE && !kalm__file_exists(path)) die("there is no store %s", path);
    if (how == STORE_CREATE) flags |= SQLITE_OPEN_CREATE;
    store_check(s, sqlite3_open_v2(path, &s->db, flags, NULL));
    sqlite3_busy_timeout(s->db, 60000);
    application = store_number(s, "PRAGMA application_id");
    version = store_number(s, "PRAGMA user_version");
    if (application == STORE_APPLICATION) {
        if (version != STORE_VERSION)
            die("%s is a store of version %ld, this program reads %d", path, (long)version, STORE_VERSION);
        store_read_meta(s);
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
    store_step(s, q);
    store_check(s, sqlite3_reset(q));
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
        store_read_meta(s);
        return;
    }
    store_exec(s, store_schema);
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
    while ((code = sqlite3_exec(s->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL)) == SQLITE_BUSY && tries++ < 600)
        sqlite3_sleep(100);
    store_check(s, code);
    store_exec(s, "PRAGMA synchronous=FULL");
}

/* One file again, unless somebody else has it open. */
KALM__FN void store_close(store *s)
{
    if (!sqlite3_db_readonly(s->db, "main")) (void)sqlite3_exec(s->db, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
    if (sqlite3_close(s->db) != SQLITE_OK) die("%s: a statement is still open", s->path);
    s->db = NULL;
}

/* The store must be of this model. */
KALM__FN void store_demand(const store *s, const char *path, const kalm_model_info *info)
{
    char fingerprint[17];
    sprintf(fingerprint, "%08lx%08lx", (unsigned long)(info->fingerprint >> 32), (unsigned long)(info->fingerprint & 0xffffffffu));
    if (strcmp(fingerprint, s->meta.fingerprint) != 0)
        die("%s holds documents of the model %s (%s, fingerprint %s), %s is %s (%s, fingerprint %s)", s->path, s->meta.model,
            s->meta.weights, s->meta.fingerprint, path, info->name, info->weights, fingerprint);
}

/* ---- ranking ------------------------------------------------------------------------------------------------------- */

/* What a ranking keeps: 24 bytes a document. Documents are opened a batch at a time. */
typedef struct store_ranking {
    kalm_score *score;                 /* [count] of the best window; index: in the order of the store or of the keys */
    int64_t    *row;                   /* [count] number of that window */
    size_t      count, room;
    const store *from;
    kalm_context *ctx;
    const kalm_model *model;
    kalm_text   query;
    const kalm_params *params;
    cmd_progress *progress;
    size_t      done, total;           /* rows */
    uint32_t    ratio;                 /* 0: as stored */
    kalm_doc   *doc[64];               /* [pending] */
    int64_t     doc_row[64];
    size_t      doc_of[64];            /* which of `count` */
    size_t      pending, bytes;
} store_ranking;

enum { STORE_TOGETHER = 64, STORE_BYTES = 32 << 20 };

/* Within a batch: Ctrl-C alone; the bar moves from batch to batch. */
KALM__FN int store_progress(void *user, size_t done, size_t total)
{
    (void)user, (void)done, (void)total;
    return kalm__interrupted != 0;
}

KALM__FN void store_flush(store_ranking *r)
{
    kalm_score scores[STORE_TOGETHER];
    kalm_error err;
    size_t i;
    if (!r->pending) return;
    if (kalm_rerank(r->ctx, r->query, (const kalm_doc *const *)r->doc, r->pending, r->params, scores, &err)) {
        cmd_progress_end(r->progress);
        exit(cmd_failed(&err));
    }
    for (i = 0; i < r->pending; i++) {
        size_t d = r->doc_of[i];
        if (!r->row[d] || scores[i].margin > r->score[d].margin) {
            r->score[d] = scores[i];
            r->score[d].index = (uint32_t)d;
            r->row[d] = r->doc_row[i];
        }
        kalm_doc_free(r->doc[i]);
    }
    r->done += r->pending;
    r->pending = r->bytes = 0;
    if (cmd_progress_step(r->progress, r->done, r->total)) {
        cmd_progress_end(r->progress);
        fprintf(stderr, "%s: interrupted\n", cmd_name);
        exit(EXIT_INTERRUPTED);
    }
}

/* The row that `q` stands at (number, window, document) belongs to the last document, or is its first. */
KALM__FN void store_rank_row(store_ranking *r, sqlite3_stmt *q)
{
    kalm_doc *doc, *coarser;
    kalm_error err;
    const void *data = sqlite3_column_blob(q, 2);
    size_t size = (size_t)sqlite3_column_bytes(q, 2);
    if (sqlite3_column_int64(q, 1) == 0) {
        if (r->count == r->room) {
            r->room = r->room ? r->room * 2 : 1024;
            r->score = (kalm_score *)cmd_grow(r->score, r->room * sizeof *r->score);
            r->row = (int64_t *)cmd_grow(r->row, r->room * sizeof *r->row);
        }
        if (r->count == UINT32_MAX) die("%s: more documents than one ranking takes", r->from->path);
        r->row[r->count++] = 0;
    }
    if (!r->count) die("%s: row %ld is a window without a beginning", r->from->path, (long)sqlite3_column_int64(q, 0));
    if (kalm_doc_open(r->model, data ? data : "", size, 0, &doc, &err))
        die("%s: row %ld: %s", r->from->path, (long)sqlite3_column_int64(q, 0), err.text);
    if (r->ratio && r->ratio != r->from->meta.ratio) {
        if (kalm_doc_repool(r->model, doc, r->ratio, 32, &coarser, &err)) exit(cmd_failed(&err));
        kalm_doc_free(doc);
        doc = coarser;
    }
    r->doc[r->pending] = doc;
    r->doc_row[r->pending] = sqlite3_column_int64(q, 0);
    r->doc_of[r->pending++] = r->count - 1;
    r->bytes += size;
    if (r->pending == STORE_TOGETHER || r->bytes >= STORE_BYTES) store_flush(r);
}

/* The next key of "a,b,c" or of lines; 0 at the end. */
KALM__FN int store_key(kalm_text *keys, int lines, kalm_text *key)
{
    const char *end;
    if (lines) {
        while (cmd_line(keys, key))
            if (!cmd_blank(*key)) return 1;
        return 0;
    }
    if (!keys->size) return 0;
    end = (const char *)memchr(keys->data, ',', keys->size);
    key->data = keys->data;
    key->size = end ? (size_t)(end - keys->data) : keys->size;
    keys->size -= key->size + (end ? 1 : 0);
    keys->data += key->size + (end ? 1 : 0);
    return 1;
}

/* Scores of all documents (keys.data NULL) or of those named: r->score and r->row, not yet sorted. */
KALM__FN void store_rank(store_ranking *r, kalm_text keys, int lines)
{
    const store *s = r->from;
    sqlite3_stmt *q;
    kalm_text key;
    if (r->ratio && r->ratio % s->meta.ratio)
        die("%s keeps documents at ratio %lu: --ratio %lu is no multiple of that", s->path, (unsigned long)s->meta.ratio,
            (unsigned long)r->ratio);
    store_exec(s, "BEGIN");            /* one state of the store, whatever a kalm-index adds meanwhile */
    if (!keys.data) {
        r->total = (size_t)store_number(s, "SELECT count(*) FROM documents");
        q = store_prepare(s, "SELECT number, window, document FROM documents ORDER BY number");
        while (store_step(s, q)) store_rank_row(r, q);
    } else {
        kalm_text count = keys;
        while (store_key(&count, lines, &key)) r->total++;
        q = store_prepare(s, "SELECT number, window, document FROM documents WHERE key = ?1 ORDER BY window");
        while (store_key(&keys, lines, &key)) {
            store_bind(s, q, 1, key);
            if (!store_step(s, q)) die("%s has no document '%.*s'", s->path, (int)kalm__min(key.size, 200), key.data);
            do store_rank_row(r, q); while (store_step(s, q));
            store_check(s, sqlite3_reset(q));
        }
    }
    store_flush(r);
    sqlite3_finalize(q);               /* the transaction goes on until store_texts has read what is shown */
}

/* Keys and texts of the first `shown` scores, as kalm-rerank would have read them: texts->text[i] is that of score[i], and
   window[i] says which of the document's it is. */
KALM__FN void store_texts(const store_ranking *r, size_t shown, cmd_texts *texts, uint32_t *window)
{
    sqlite3_stmt *q = store_prepare(r->from, "SELECT key, title, text, window FROM documents WHERE number = ?1");
    size_t i;
    for (i = 0; i < shown; i++) {
        kalm_text key, title, text;
        char *both;
        store_check(r->from, sqlite3_bind_int64(q, 1, r->row[r->score[i].index]));
        if (!store_step(r->from, q)) die("%s: a document went away while it was ranked", r->from->path);
        key = store_column(q, 0);
        title = store_column(q, 1);
        text = store_column(q, 2);
        window[i] = (uint32_t)sqlite3_column_int64(q, 3);
        key.data = cmd_copy(key);
        both = (char *)cmd_alloc(title.size + text.size + 2);
        memcpy(both, title.data, title.size);
        if (title.size) both[title.size++] = ' ';
        memcpy(both + title.size, text.data, text.size);
        text.data = both;
        text.size += title.size;
        both[text.size] = 0;
        cmd_add(texts, key, text);
        store_check(r->from, sqlite3_reset(q));
    }
    sqlite3_finalize(q);
    store_exec(r->from, "COMMIT");
}

#endif
