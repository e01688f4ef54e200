/* server_kept.h - documents that the server keeps, in the store that kalm-index makes (store.h). Two connections to the database:
   the queue's thread reads from one, so that ranking goes on while documents are added; a thread of its own writes through the
   other, one request at a time, and answers. An answer of success is written after SQLite's commit, which is on the disk by then
   (journal_mode WAL, synchronous FULL): neither kill -9 nor a power failure takes it back.

   Nothing here ends the program once it runs: what is wrong with a row, a full disk, a locked database is the job's error. */
#ifndef KALM_SERVER_KEPT_H
#define KALM_SERVER_KEPT_H

#include "server_job.h"
#include "server_metrics.h"

/* An encoded text on its way into the store: a new document, or a window of one. */
typedef struct kept_piece {
    kalm_text text, encoded;           /* of the window; with the title before it */
    size_t    of, start;               /* document of the job; byte of its text where the window begins */
    uint32_t  window, windows;
    kalm_doc *doc;                     /* owned; NULL: not encoded yet */
} kept_piece;

/* Rows of kept documents, opened to be scored. */
typedef struct kept_row { kalm_doc *doc; int64_t number, window; size_t of; int warm; } kept_row;
typedef struct kept_rows { kept_row *row; size_t count, room; } kept_rows;

typedef struct kept_store {
    const kalm_model *model;
    server_metrics  *metrics;
    void           (*finished)(job *j);        /* the store's thread is done with it */
    store            reader, writer;           /* the queue's; the store thread's, which only reads where the store is read-only */
    char             reader_why[STORE_WHY], writer_why[STORE_WHY];
    int              read_only;
    sqlite3_stmt    *same, *rows, *text;       /* of the reader */
    sqlite3_stmt    *find, *insert, *drop, *update, *get, *list;   /* of the writer */
    pthread_t        thread;
    pthread_mutex_t  lock;
    pthread_cond_t   some;
    job             *first, **last;            /* jobs that wait for the thread, linked by job.after */
    int              ending;
} kept_store;

/* ---- statements: errors are the job's ---------------------------------------------------------------------------- */

/* The status of what SQLite says. */
KALM__FN int kept__failed(const store *s, job *j)
{
    int code = sqlite3_errcode(s->db) & 255;
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
        j->retry_after = 1;
        return job_fail(j, 503, "another command is writing to the store: %s", sqlite3_errmsg(s->db));
    }
    return job_fail(j, code == SQLITE_FULL ? 507 : 500, "the store cannot be used: %s", sqlite3_errmsg(s->db));
}

/* 1: a row; 0: the end, or the job has failed. */
KALM__FN int kept__step(const store *s, sqlite3_stmt *q, job *j)
{
    int code = j->status ? SQLITE_DONE : sqlite3_step(q);
    if (code != SQLITE_ROW && code != SQLITE_DONE) kept__failed(s, j);
    return code == SQLITE_ROW;
}

/* Run a statement without results and make it ready for the next time. */
KALM__FN int kept__run(const store *s, sqlite3_stmt *q, job *j)
{
    kept__step(s, q, j);
    sqlite3_reset(q);
    return !j->status;
}

KALM__FN int kept__exec(const store *s, const char *sql, job *j)
{
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK) kept__failed(s, j);
    return !j->status;
}

KALM__FN void kept__bind(sqlite3_stmt *q, int i, kalm_text t)
{
    sqlite3_bind_text64(q, i, t.data ? t.data : "", t.size, SQLITE_STATIC, SQLITE_UTF8);
}

/* A row that was read had something wrong: it is the job's error. */
KALM__FN int kept__good(store *s, job *j)
{
    if (*s->why) job_fail(j, 500, "the store is damaged: %.300s", s->why);
    *s->why = 0;
    return !j->status;
}

/* ---- on the queue's thread: reading ------------------------------------------------------------------------------ */

/* Open document i of a ranking, all its windows, behind `rows`. */
KALM__FN void kept_open(kept_store *k, job *j, size_t i, kept_rows *rows)
{
    store *s = &k->reader;
    sqlite3_stmt *q = k->rows;
    kalm_error err;
    kalm_doc *coarser;
    size_t before = rows->count;
    if (j->ratio && j->ratio % s->meta.ratio) {
        job_fail(j, j->form->invalid, "the store keeps documents at ratio %lu: ratio %lu is no multiple of that",
                 (unsigned long)s->meta.ratio, (unsigned long)j->ratio);
        return;
    }
    kept__bind(q, 1, j->doc[i].key);
    while (kept__step(s, q, j)) {
        kept_row *r;
        int64_t number = store_int(s, q, 0, sqlite3_column_int64(q, 0), 1, STORE_LAST_NUMBER);
        int64_t window = store_int(s, q, 1, number, 0, UINT32_MAX);
        kalm_text data = store_document(s, q, 2, number);
        if (!kept__good(s, j)) break;
        if (rows->count == rows->room) {
            kept_row *more = (kept_row *)realloc(rows->row, (rows->room * 2 + 64) * sizeof *more);
            if (!more) {
                job_fail(j, 503, "there is no memory for the documents");
                break;
            }
            rows->row = more;
            rows->room = rows->room * 2 + 64;
        }
        r = &rows->row[rows->count];
        memset(r, 0, sizeof *r);
        r->number = number;
        r->window = window;
        r->of = i;
        if (kalm_doc_open(k->model, data.data, data.size, 0, &r->doc, &err)) {
            if (err.code == KALM_NO_MEMORY) job_fail(j, 503, "%s", err.text);
            else job_fail(j, 500, "the store is damaged: row %lld: %s", (long long)number, err.text);
            break;
        }
        rows->count++;
        if (!j->ratio || j->ratio == s->meta.ratio) continue;
        if (kalm_doc_repool(k->model, r->doc, j->ratio, 32, &coarser, &err)) {
            job_fail(j, err.code == KALM_NO_MEMORY ? 503 : 500, "%s", err.text);
            break;
        }
        kalm_doc_free(r->doc);
        r->doc = coarser;
    }
    sqlite3_reset(q);
    if (rows->count == before) job_fail(j, 404, "there is no document '%.120s'", j->doc[i].key.data);
}

KALM__FN void kept_close(kept_rows *rows)
{
    size_t i;
    for (i = 0; i < rows->count; i++) kalm_doc_free(rows->row[i].doc);
    free(rows->row);
    memset(rows, 0, sizeof *rows);
}

/* The texts that an answer shows: of the best window, with the title before it. */
KALM__FN void kept_texts(kept_store *k, job *j)
{
    store *s = &k->reader;
    sqlite3_stmt *q = k->text;
    size_t i;
    for (i = 0; i < j->count && !j->status; i++) {
        job_document *d = &j->doc[i];
        kept__bind(q, 1, d->key);
        sqlite3_bind_int64(q, 2, d->window);
        if (kept__step(s, q, j)) {
            kalm_text title = store_text(s, q, 0, 0), text = store_text(s, q, 1, 0);
            if (kept__good(s, j)) {
                char *both = (char *)malloc(title.size + text.size + 2);
                size_t n = title.size;
                if (both) {
                    memcpy(both, title.data, n);
                    if (n) both[n++] = ' ';
                    memcpy(both + n, text.data, text.size);
                    d->text = job_keep(j, both, n + text.size);
                }
                if (!both || !d->text.data) job_fail(j, 503, "there is no memory for the texts");
                free(both);
            }
        }
        sqlite3_reset(q);
    }
}

/* Is the text of the key whose first row q stands at that of d? */
KALM__FN int kept__same(store *s, sqlite3_stmt *q, job *j, const job_document *d)
{
    same_text same;
    char hash[17];
    store_write_hash(hash, fill_hash(d->title, d->text));
    same_begin(&same, d->title, d->text, hash);
    while (same_row(&same, s, q) && kept__step(s, q, j)) {}
    return kept__good(s, j) && same_end(&same);
}

/* Is document i, which is to be kept, another than the store has? doc.known says. 0: it is there as it is, nothing need be
   encoded. */
KALM__FN int kept_known(kept_store *k, job *j, size_t i)
{
    store *s = &k->reader;
    job_document *d = &j->doc[i];
    d->known = DOCUMENT_NEW;
    kept__bind(k->same, 1, d->key);
    if (kept__step(s, k->same, j)) {
        int64_t tokens = store_int(s, k->same, 6, 0, 0, UINT32_MAX);
        int same = kept__same(s, k->same, j, d);
        if (!j->status) d->known = same ? DOCUMENT_SAME : DOCUMENT_CHANGED;
        if (d->known == DOCUMENT_SAME) d->done = 1, d->tokens = (uint32_t)tokens;
    }
    sqlite3_reset(k->same);
    return !j->status && d->known != DOCUMENT_SAME;
}

/* Document i becomes pieces of the job, to be encoded: one, or its windows where the store splits texts. */
KALM__FN void kept_split(kept_store *k, job *j, size_t i)
{
    job_document *d = &j->doc[i];
    fill f;
    fill_batch b;
    size_t n;
    int good;
    memset(&f, 0, sizeof f);
    memset(&b, 0, sizeof b);
    f.s = &k->reader;
    f.model = k->model;
    f.filling = &b;
    good = fill_split(&f, d->text);
    if (good < 0) job_fail(j, 503, "there is no memory for the documents");
    else if (!good)
        job_fail(j, 422, "documents[%lu] cannot be split: its tokens do not spell the text", (unsigned long)i);
    for (n = 0; n < b.pieces && !j->status; n++) {
        kept_piece *p;
        if (j->pieces == j->piece_room) {
            kept_piece *more = (kept_piece *)realloc(j->piece, (j->piece_room * 2 + 64) * sizeof *more);
            if (!more) {
                job_fail(j, 503, "there is no memory for the documents");
                break;
            }
            j->piece = more;
            j->piece_room = j->piece_room * 2 + 64;
        }
        p = &j->piece[j->pieces++];
        memset(p, 0, sizeof *p);
        p->of = i;
        p->text = p->encoded = b.piece[n].text;
        p->start = b.piece[n].start;
        p->window = b.piece[n].window;
        p->windows = b.piece[n].windows;
        if (d->title.size) {
            char *both = (char *)malloc(d->title.size + 1 + p->text.size);
            if (both) {
                memcpy(both, d->title.data, d->title.size);
                both[d->title.size] = ' ';
                if (p->text.size) memcpy(both + d->title.size + 1, p->text.data, p->text.size);
                p->encoded = job_keep(j, both, d->title.size + 1 + p->text.size);
            }
            if (!both || !p->encoded.data) job_fail(j, 503, "there is no memory for the documents");
            free(both);
        }
    }
    free(b.piece);
}

/* Piece n was encoded. */
KALM__FN void kept_encoded(job *j, size_t n, kalm_doc *doc)
{
    job_document *d = &j->doc[j->piece[n].of];
    kalm_doc_info info;
    kalm_doc_get_info(doc, &info);
    j->piece[n].doc = doc;
    j->tokens += info.tokens_used;
    d->tokens += info.tokens_used;
    if (info.tokens > info.tokens_used) d->cut |= KALM_CUT_DOCUMENT;
    if (j->piece[n].window + 1 == j->piece[n].windows) d->done = 1;
}

KALM__FN void kept_drop_pieces(job *j)
{
    size_t i;
    for (i = 0; i < j->pieces; i++) kalm_doc_free(j->piece[i].doc);
    free(j->piece);
    j->piece = NULL;
    j->pieces = j->piece_room = 0;
}

/* ---- on the store's thread: writing, and answers ----------------------------------------------------------------- */

KALM__FN int kept__insert(kept_store *k, job *j, const kept_piece *p)
{
    const job_document *d = &j->doc[p->of];
    sqlite3_stmt *q = k->insert;
    kalm_doc_info info;
    size_t size;
    char hash[17];
    const void *bytes = kalm_doc_bytes(p->doc, &size);
    kalm_doc_get_info(p->doc, &info);
    store_write_hash(hash, fill_hash(d->title, d->text));
    if (p->window == 0) {              /* another text of the key */
        kept__bind(k->drop, 1, d->key);
        if (!kept__run(&k->writer, k->drop, j)) return 0;
    }
    kept__bind(q, 1, d->key);
    sqlite3_bind_int64(q, 2, p->window);
    sqlite3_bind_int64(q, 3, p->windows);
    sqlite3_bind_int64(q, 4, (sqlite3_int64)p->start);
    kept__bind(q, 5, kalm__text(hash));
    sqlite3_bind_int64(q, 6, info.tokens);
    sqlite3_bind_int64(q, 7, info.tokens_used);
    kept__bind(q, 8, d->title);
    kept__bind(q, 9, p->text);
    kept__bind(q, 10, d->metadata);
    sqlite3_bind_blob64(q, 11, bytes, size, SQLITE_STATIC);
    return kept__run(&k->writer, q, j);
}

/* A text that was there when it was looked up: its metadata may be new. Is it still there? */
KALM__FN int kept__refresh(kept_store *k, job *j, const job_document *d)
{
    int same;
    kept__bind(k->find, 1, d->key);
    same = kept__step(&k->writer, k->find, j) && kept__same(&k->writer, k->find, j, d);
    sqlite3_reset(k->find);
    if (j->status) return 0;
    if (!same) {
        j->retry_after = 1;
        return job_fail(j, 503, "'%.120s' was changed by somebody else at the same time: ask again", d->key.data);
    }
    kept__bind(k->update, 1, d->key);
    kept__bind(k->update, 2, d->metadata);
    return kept__run(&k->writer, k->update, j);
}

/* All the documents of a job or none, in one transaction. */
KALM__FN void kept__add(kept_store *k, job *j)
{
    size_t i, added = 0;
    if (kept__exec(&k->writer, "BEGIN IMMEDIATE", j)) {
        for (i = 0; i < j->pieces && kept__insert(k, j, &j->piece[i]); i++) {}
        for (i = 0; i < j->count && !j->status; i++) {
            if (j->doc[i].known == DOCUMENT_SAME) kept__refresh(k, j, &j->doc[i]);
            else added++;
        }
        if (!j->status) kept__exec(&k->writer, "COMMIT", j);
        if (j->status) (void)sqlite3_exec(k->writer.db, "ROLLBACK", NULL, NULL, NULL);
    }
    if (!j->status) metrics_add(k->metrics, &k->metrics->kept_added, added);
}

KALM__FN void kept__delete(kept_store *k, job *j)
{
    size_t i, deleted = 0;
    if (kept__exec(&k->writer, "BEGIN IMMEDIATE", j)) {
        for (i = 0; i < j->count && !j->status; i++) {
            kept__bind(k->drop, 1, j->doc[i].key);
            if (kept__run(&k->writer, k->drop, j) && sqlite3_changes(k->writer.db)) j->doc[i].done = 1, deleted++;
        }
        if (!j->status) kept__exec(&k->writer, "COMMIT", j);
        if (j->status) (void)sqlite3_exec(k->writer.db, "ROLLBACK", NULL, NULL, NULL);
    }
    if (!j->status && !deleted && j->count == 1) job_fail(j, 404, "there is no document '%.120s'", j->doc[0].key.data);
    if (!j->status) metrics_add(k->metrics, &k->metrics->kept_deleted, deleted);
}

/* One document of the store as JSON, its windows put together. */
KALM__FN void kept__get(kept_store *k, job *j, memory_out *to)
{
    store *s = &k->writer;
    store_row r;
    whole_text whole;
    json_out out;
    kalm_text t, metadata = { NULL, 0 }, title = { NULL, 0 };
    int64_t tokens = 0;
    int cut = 0, good;
    memset(&whole, 0, sizeof whole);
    kept__bind(k->get, 1, j->doc[0].key);
    while (kept__step(s, k->get, j)) {
        store_read_row(s, k->get, &r);
        if (!whole.windows) store_check_metadata(s, r.metadata, r.number);
        if (!kept__good(s, j)) break;
        if (!whole.windows) metadata = job_keep(j, r.metadata.data, r.metadata.size), title = job_keep(j, r.title.data, r.title.size);
        good = metadata.data && title.data ? whole_add(&whole, &r) : -1;
        if (good < 0) job_fail(j, 503, "there is no memory for the document");
        else if (!good) job_fail(j, 500, "the store is damaged: row %lld: its windows do not follow each other", (long long)r.number);
        if (good <= 0) break;
        tokens += r.tokens_used;
        cut |= r.tokens > r.tokens_used;
    }
    sqlite3_reset(k->get);
    if (!whole.windows) job_fail(j, 404, "there is no document '%.120s'", j->doc[0].key.data);
    if (!j->status) {
        json_begin_memory(&out, to);
        json_open(&out, '{');
        json_key(&out, "id"), json_text(&out, j->doc[0].key);
        json_key(&out, "object"), json_text(&out, kalm__text("document"));
        if (title.size) json_key(&out, "title"), json_text(&out, title);
        t.data = whole.text;
        t.size = whole.size;
        json_key(&out, "text"), json_text(&out, t);
        json_key(&out, "metadata"), json_raw(&out, metadata.data);
        json_key(&out, "tokens"), json_uint(&out, (uint64_t)tokens);
        json_key(&out, "windows"), json_uint(&out, (uint64_t)whole.windows);
        json_key(&out, "cut"), json_bool(&out, cut);
        json_close(&out);
    }
    free(whole.text);
}

/* Ids in the order of the store, from behind row `after` on. */
KALM__FN void kept__list(kept_store *k, job *j, memory_out *to)
{
    store *s = &k->writer;
    json_out out;
    int64_t last = j->list_after;
    size_t n = 0;
    sqlite3_bind_int64(k->list, 1, j->list_after);
    sqlite3_bind_int64(k->list, 2, (sqlite3_int64)j->list_limit + 1);
    json_begin_memory(&out, to);
    json_open(&out, '{');
    json_key(&out, "object"), json_text(&out, kalm__text("list"));
    json_key(&out, "data"), json_open(&out, '[');
    while (n <= j->list_limit && kept__step(s, k->list, j)) {
        int64_t number = store_int(s, k->list, 0, 0, 1, STORE_LAST_NUMBER);
        kalm_text key = store_text(s, k->list, 1, number);
        int64_t windows = store_int(s, k->list, 2, number, 1, UINT32_MAX);
        if (!kept__good(s, j) || ++n > j->list_limit) break;
        last = number;
        json_open(&out, '{');
        json_key(&out, "id"), json_text(&out, key);
        json_key(&out, "object"), json_text(&out, kalm__text("document"));
        json_key(&out, "windows"), json_uint(&out, (uint64_t)windows);
        json_close(&out);
    }
    sqlite3_reset(k->list);
    json_close(&out);
    json_key(&out, "has_more"), json_bool(&out, n > j->list_limit);
    json_key(&out, "last"), json_uint(&out, (uint64_t)last);
    json_close(&out);
}

/* What became of each document that was added or deleted. */
KALM__FN void kept__report(const job *j, memory_out *to)
{
    static const char *const words[] = { "created", "replaced", "unchanged" };
    json_out out;
    size_t i;
    json_begin_memory(&out, to);
    json_open(&out, '{');
    json_key(&out, "object"), json_text(&out, kalm__text("list"));
    json_key(&out, "data"), json_open(&out, '[');
    for (i = 0; i < j->count; i++) {
        const job_document *d = &j->doc[i];
        json_open(&out, '{');
        json_key(&out, "id"), json_text(&out, d->key);
        if (j->kind == JOB_DELETE) json_key(&out, "deleted"), json_bool(&out, d->done);
        else {
            json_key(&out, "status"), json_text(&out, kalm__text(words[d->known]));
            json_key(&out, "tokens"), json_uint(&out, d->tokens);
            if (d->cut) json_key(&out, "cut"), json_bool(&out, 1);
        }
        json_close(&out);
    }
    json_close(&out);
    if (j->kind == JOB_ADD) {
        json_key(&out, "usage"), json_open(&out, '{');
        json_key(&out, "total_tokens"), json_uint(&out, j->tokens);
        json_close(&out);
    }
    json_close(&out);
}

KALM__FN void kept__do(kept_store *k, job *j)
{
    memory_out to;
    memset(&to, 0, sizeof to);
    switch (j->kind) {
    case JOB_ADD: kept__add(k, j); break;
    case JOB_DELETE: kept__delete(k, j); break;
    case JOB_GET: kept__get(k, j, &to); break;
    case JOB_LIST: kept__list(k, j, &to); break;
    default: break;
    }
    if (!j->status && (j->kind == JOB_ADD || j->kind == JOB_DELETE)) kept__report(j, &to);
    j->answer = memory_out_end(&to);
    if (!j->answer) job_fail(j, 503, "there is no memory for the answer");
    kept_drop_pieces(j);
    if (!j->status) j->status = 200;
}

KALM__FN void *kept__thread(void *arg)
{
    kept_store *k = (kept_store *)arg;
    job *j;
    pthread_mutex_lock(&k->lock);
    for (;;) {
        while (!k->first && !k->ending) pthread_cond_wait(&k->some, &k->lock);
        if (!k->first) break;
        j = k->first;
        k->first = j->after;
        if (!k->first) k->last = &k->first;
        j->after = NULL;
        pthread_mutex_unlock(&k->lock);
        kept__do(k, j);
        k->finished(j);
        pthread_mutex_lock(&k->lock);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

/* A job for the store's thread; k->finished is called when it is done. */
KALM__FN void kept_add_job(kept_store *k, job *j)
{
    pthread_mutex_lock(&k->lock);
    j->after = NULL;
    *k->last = j;
    k->last = &j->after;
    pthread_cond_signal(&k->some);
    pthread_mutex_unlock(&k->lock);
}

/* ---- begin and end: here errors end the program ------------------------------------------------------------------ */

/* What SQLite waits for another command's lock, in thousandths of a second. */
enum { KEPT_PATIENCE = 5000 };

/* Open the store, or make it with the settings `m`. */
KALM__FN void kept_begin(kept_store *k, const char *path, const char *model_path, const kalm_model *model, int read_only,
                         const store_meta *m)
{
    kalm_model_info info;
    store *s = &k->writer;
    memset(k, 0, sizeof *k);
    k->model = model;
    k->read_only = read_only;
    kalm_model_get_info(model, &info);
    if (!store_open(s, path, read_only ? STORE_READ : STORE_CREATE)) store_create(s, m);
    store_demand(s, model_path, &info);
    if (!read_only) store_begin_writing(s);
    store_open(&k->reader, path, STORE_READ);
    store_demand(&k->reader, model_path, &info);
    k->writer.why = k->writer_why;
    k->reader.why = k->reader_why;
    store_check(s, sqlite3_busy_timeout(s->db, KEPT_PATIENCE));
    store_check(&k->reader, sqlite3_busy_timeout(k->reader.db, KEPT_PATIENCE));
    k->same = store_prepare(&k->reader, STORE_SAME_ROWS(", tokens_used"));
    k->rows = store_prepare(&k->reader, "SELECT number, window, document FROM documents WHERE key = ?1 ORDER BY window");
    k->text = store_prepare(&k->reader, "SELECT title, text FROM documents WHERE key = ?1 AND window = ?2");
    k->get = store_prepare(s, "SELECT " STORE_COLUMNS " FROM documents WHERE key = ?1 ORDER BY window");
    k->list = store_prepare(s, "SELECT number, key, windows FROM documents WHERE window = 0 AND number > ?1 ORDER BY number LIMIT ?2");
    if (!read_only) {
        k->find = store_prepare(s, STORE_SAME_ROWS(""));
        k->insert = store_prepare(s, "INSERT INTO documents (key, window, windows, start, hash, tokens, tokens_used, title, text, "
                                     "metadata, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
        k->drop = store_prepare(s, "DELETE FROM documents WHERE key = ?1");
        k->update = store_prepare(s, "UPDATE documents SET metadata = ?2 WHERE key = ?1 AND metadata <> ?2");
    }
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->some, NULL);
    k->last = &k->first;
}

KALM__FN void kept_start(kept_store *k)
{
    if (pthread_create(&k->thread, NULL, kept__thread, k)) die("the system gives no thread for the store");
}

/* Of a store whose thread has ended, or never began. */
KALM__FN void kept_shut(kept_store *k)
{
    sqlite3_stmt *all[9];
    size_t i;
    pthread_cond_destroy(&k->some);
    pthread_mutex_destroy(&k->lock);
    all[0] = k->same, all[1] = k->rows, all[2] = k->text, all[3] = k->get, all[4] = k->list;
    all[5] = k->find, all[6] = k->insert, all[7] = k->drop, all[8] = k->update;
    for (i = 0; i < 9; i++) sqlite3_finalize(all[i]);
    store_close(&k->reader);
    store_close(&k->writer);
}

/* What waits is done first. The queue has ended. */
KALM__FN void kept_end(kept_store *k)
{
    pthread_mutex_lock(&k->lock);
    k->ending = 1;
    pthread_cond_signal(&k->some);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    kept_shut(k);
}

#endif
