/* kalm_sqlite.c - kalm.so, reranking inside SQLite (make sqlite):

     SELECT kalm_load('model.kalm');                       -- once for each connection; returns the model's name
     kalm_encode(text [, ratio [, bits]])                  -- an encoded document, a BLOB to keep in a column
     kalm_score(query, document [, instruction])           -- P(yes) from 0 to 1; document: a text, or what kalm_encode gave
     SELECT id, score, margin, rank, cut FROM kalm_rerank(query, sql, k [, instruction]);

   kalm_rerank runs the SELECT in `sql`, whose first two columns are an id and a text or an encoded document, scores all its rows
   together and returns the best k, best first; k NULL: all of them. Rows whose document is NULL are left out. cut is 1 where the
   document was cut, 2 where the query was, 3 for both. The SELECT may rank as well, up to four deep.

   What is safe where: kalm_load opens files and kalm_rerank runs SQL, so neither may be called by a schema (views, triggers, default
   values: SQLITE_DIRECTONLY). kalm_encode and kalm_score have no effects, but cost time and depend on the model that is loaded; so
   they are neither "innocuous" nor "deterministic": a schema that is not trusted cannot call them, and no index can be made of them.

   A connection has one model and one context, and SQLite lets one thread at a time use a connection. sqlite3_interrupt and
   progress handlers stop a long call. */
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#define KALM_RERANK_STATIC
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* What a connection has: the functions and the table share it, the last of them to go frees it. */
typedef struct connection {
    sqlite3      *db;
    sqlite3_module module;             /* of the table kalm_rerank */
    kalm_model   *model;               /* NULL: kalm_load was not called */
    kalm_context *ctx;
    int           users;
    int           busy;                /* a call of the library runs: a progress handler may not begin another */
    int           depth;               /* rankings whose SQL is running: it may rank as well, but not without end */
} connection;

static void unload(connection *c)
{
    kalm_context_free(c->ctx);
    kalm_model_close(c->model);
    c->ctx = NULL;
    c->model = NULL;
}

static void leave(void *user)
{
    connection *c = (connection *)user;
    if (--c->users) return;
    unload(c);
    sqlite3_free(c);
}

/* The library's progress callback. A statement that is begun while another runs fails at once when the connection was interrupted;
   sqlite3_is_interrupted, which says the same, is newer than the SQLite of many systems. The statement is not kept: a connection
   cannot be closed while it has one. */
static int go_on(void *user, size_t done, size_t total)
{
    connection *c = (connection *)user;
    sqlite3_stmt *probe = NULL;
    int code = sqlite3_prepare_v2(c->db, "SELECT 1", -1, &probe, NULL);
    (void)done, (void)total;
    if (code == SQLITE_OK) code = sqlite3_step(probe);
    sqlite3_finalize(probe);
    return code == SQLITE_INTERRUPT;
}

/* ---- arguments and results ------------------------------------------------------------------------------------------- */

static void fail(sqlite3_context *q, kalm_result r, const kalm_error *err)
{
    if (r == KALM_NO_MEMORY) sqlite3_result_error_nomem(q);
    else {
        sqlite3_result_error(q, r == KALM_CANCELLED ? "interrupted" : err->text, -1);
        if (r == KALM_CANCELLED) sqlite3_result_error_code(q, SQLITE_INTERRUPT);
    }
}

/* A text argument; 0 where it is a BLOB or there is no memory, and the error is set. */
static int get_text(sqlite3_context *q, sqlite3_value *v, const char *what, kalm_text *t)
{
    char text[120];
    if (sqlite3_value_type(v) == SQLITE_BLOB) {
        sqlite3_snprintf(sizeof text, text, "the %s is a BLOB, where a text must be: CAST it to TEXT", what);
        sqlite3_result_error(q, text, -1);
        return 0;
    }
    t->data = (const char *)sqlite3_value_text(v);
    t->size = (size_t)sqlite3_value_bytes(v);
    if (!t->data) sqlite3_result_error_nomem(q);
    return t->data != NULL;
}

/* A whole number from 1 to most, or 0 for NULL; a negative result: the error is set. */
static sqlite3_int64 get_number(sqlite3_context *q, sqlite3_value *v, const char *what, sqlite3_int64 most)
{
    char text[120];
    sqlite3_int64 n = sqlite3_value_int64(v);
    if (sqlite3_value_type(v) == SQLITE_NULL) return 0;
    if (sqlite3_value_type(v) == SQLITE_INTEGER && n >= 1 && n <= most) return n;
    sqlite3_snprintf(sizeof text, text, "%s must be a whole number from 1 to %lld", what, most);
    sqlite3_result_error(q, text, -1);
    return -1;
}

static const char not_loaded[] = "no model is loaded: SELECT kalm_load('FILE.kalm')";
static const char in_use[] = "the model is in use: a progress handler may not call it";

static connection *loaded(sqlite3_context *q)
{
    connection *c = (connection *)sqlite3_user_data(q);
    if (c->model && !c->busy) return c;
    sqlite3_result_error(q, c->busy ? in_use : not_loaded, -1);
    return NULL;
}

/* ---- functions ------------------------------------------------------------------------------------------------------- */

/* kalm_load(path): the name of the model; NULL closes the one that is open. */
static void load(sqlite3_context *q, int count, sqlite3_value **value)
{
    connection *c = (connection *)sqlite3_user_data(q);
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_model_info info;
    kalm_error err;
    kalm_result r;
    kalm_text path;
    (void)count;
    if (c->busy) {
        sqlite3_result_error(q, in_use, -1);
        return;
    }
    if (sqlite3_value_type(value[0]) == SQLITE_NULL) {
        unload(c);
        return;
    }
    if (!get_text(q, value[0], "path", &path)) return;
    r = kalm_model_open(path.data, NULL, &model, &err);
    if (!r) {
        kalm_model_get_info(model, &info);
        r = kalm_context_new(model, NULL, &ctx, &err);
    }
    if (r) {
        char *text = strstr(err.text, path.data) ? NULL : sqlite3_mprintf("%s: %s", path.data, err.text);
        kalm_model_close(model);
        fail(q, r, &err);
        if (text && r != KALM_NO_MEMORY) sqlite3_result_error(q, text, -1);
        sqlite3_free(text);
        return;
    }
    unload(c);
    c->model = model;
    c->ctx = ctx;
    sqlite3_result_text(q, info.name, -1, SQLITE_TRANSIENT);
}

/* kalm_encode(text [, ratio [, bits]]) */
static void encode(sqlite3_context *q, int count, sqlite3_value **value)
{
    connection *c = loaded(q);
    kalm_params params;
    kalm_text text;
    kalm_doc *doc = NULL;
    kalm_error err;
    kalm_result r;
    sqlite3_int64 ratio = 0, bits = 0;
    const void *bytes;
    size_t size;
    if (!c || sqlite3_value_type(value[0]) == SQLITE_NULL || !get_text(q, value[0], "text", &text)) return;
    if (count > 1) ratio = get_number(q, value[1], "ratio", 1 << 20);
    if (count > 2 && ratio >= 0) bits = get_number(q, value[2], "bits", 32);
    if (ratio < 0 || bits < 0) return;
    memset(&params, 0, sizeof params);
    params.ratio = (uint32_t)ratio;
    params.bits = (uint32_t)bits;
    params.progress = go_on;
    params.progress_user = c;
    c->busy = 1;
    r = kalm_encode(c->ctx, &text, 1, &params, &doc, &err);
    c->busy = 0;
    if (r) {
        fail(q, r, &err);
        return;
    }
    bytes = kalm_doc_bytes(doc, &size);
    sqlite3_result_blob64(q, bytes, size, SQLITE_TRANSIENT);
    kalm_doc_free(doc);
}

/* kalm_score(query, text or blob [, instruction]) */
static void score(sqlite3_context *q, int count, sqlite3_value **value)
{
    connection *c = loaded(q);
    kalm_params params;
    kalm_text query, text;
    kalm_score one;
    kalm_error err;
    kalm_result r;
    if (!c || sqlite3_value_type(value[0]) == SQLITE_NULL || sqlite3_value_type(value[1]) == SQLITE_NULL) return;
    memset(&params, 0, sizeof params);
    params.progress = go_on;
    params.progress_user = c;
    if (!get_text(q, value[0], "query", &query)) return;
    if (count > 2 && sqlite3_value_type(value[2]) != SQLITE_NULL && !get_text(q, value[2], "instruction", &params.instruction)) return;
    c->busy = 1;
    if (sqlite3_value_type(value[1]) == SQLITE_BLOB) {
        kalm_doc *doc = NULL;
        const void *bytes = sqlite3_value_blob(value[1]);
        r = kalm_doc_open(c->model, bytes ? bytes : "", (size_t)sqlite3_value_bytes(value[1]), 0, &doc, &err);
        if (!r) r = kalm_rerank(c->ctx, query, (const kalm_doc *const *)&doc, 1, &params, &one, &err);
        kalm_doc_free(doc);
    } else {
        r = get_text(q, value[1], "document", &text) ? KALM_OK : KALM_NO_MEMORY;
        if (!r) r = kalm_rerank_texts(c->ctx, query, &text, 1, &params, &one, &err);
    }
    c->busy = 0;
    if (r) fail(q, r, &err);
    else sqlite3_result_double(q, (double)one.score);
}

/* ---- the table kalm_rerank ------------------------------------------------------------------------------------------- */

enum { COL_ID, COL_SCORE, COL_MARGIN, COL_RANK, COL_CUT, COL_QUERY, COL_SQL, COL_K, COL_INSTRUCTION };

typedef struct table { sqlite3_vtab base; connection *c; } table;

typedef struct row {
    sqlite3_value *id;                 /* owned */
    char          *text;               /* [size], owned; NULL: the row has a document */
    size_t         size;
    kalm_doc      *doc;                /* owned */
} row;

typedef struct cursor {
    sqlite3_vtab_cursor base;
    row        *row;                   /* [rows] */
    kalm_score *score;                 /* [rows], sorted; index: which row */
    size_t      rows, room, shown, at;
} cursor;

static int table_connect(sqlite3 *db, void *user, int argc, const char *const *argv, sqlite3_vtab **out, char **error)
{
    table *t;
    int code = sqlite3_declare_vtab(db, "CREATE TABLE x(id, score REAL, margin REAL, rank INTEGER, cut INTEGER, query TEXT HIDDEN, "
                                        "sql TEXT HIDDEN, k INTEGER HIDDEN, instruction TEXT HIDDEN)");
    (void)argc, (void)argv, (void)error;
    if (code != SQLITE_OK) return code;
#ifdef SQLITE_VTAB_DIRECTONLY
    sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
#endif
    t = (table *)sqlite3_malloc(sizeof *t);
    if (!t) return SQLITE_NOMEM;
    memset(t, 0, sizeof *t);
    t->c = (connection *)user;
    *out = &t->base;
    return SQLITE_OK;
}

static int table_disconnect(sqlite3_vtab *t)
{
    sqlite3_free(t);
    return SQLITE_OK;
}

/* The hidden columns are the arguments: query and sql must be given, in idxNum is which of the others are. */
static int table_best_index(sqlite3_vtab *t, sqlite3_index_info *info)
{
    int at[4] = { -1, -1, -1, -1 }, i, n = 0;
    (void)t;
    for (i = 0; i < info->nConstraint; i++) {
        int column = info->aConstraint[i].iColumn - COL_QUERY;
        if (column < 0 || info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
        if (!info->aConstraint[i].usable) return SQLITE_CONSTRAINT;
        at[column] = i;
    }
    for (i = 0; i < 4; i++) {
        if (at[i] < 0) continue;
        info->aConstraintUsage[at[i]].argvIndex = ++n;
        info->aConstraintUsage[at[i]].omit = 1;
        info->idxNum |= 1 << i;
    }
    info->estimatedCost = 1e6;
    info->estimatedRows = 100;
    /* they come best first */
    if (info->nOrderBy == 1 && info->aOrderBy[0].iColumn == COL_RANK && !info->aOrderBy[0].desc) info->orderByConsumed = 1;
    return SQLITE_OK;
}

static int cursor_open(sqlite3_vtab *t, sqlite3_vtab_cursor **out)
{
    cursor *u = (cursor *)sqlite3_malloc(sizeof *u);
    (void)t;
    if (!u) return SQLITE_NOMEM;
    memset(u, 0, sizeof *u);
    *out = &u->base;
    return SQLITE_OK;
}

static void cursor_clear(cursor *u)
{
    size_t i;
    for (i = 0; i < u->rows; i++) {
        sqlite3_value_free(u->row[i].id);
        sqlite3_free(u->row[i].text);
        kalm_doc_free(u->row[i].doc);
    }
    sqlite3_free(u->row);
    sqlite3_free(u->score);
    u->row = NULL;
    u->score = NULL;
    u->rows = u->room = u->shown = u->at = 0;
}

static int cursor_close(sqlite3_vtab_cursor *base)
{
    cursor_clear((cursor *)base);
    sqlite3_free(base);
    return SQLITE_OK;
}

/* The sentence of an error becomes that of the statement. */
static int complain(sqlite3_vtab *t, int code, const char *text)
{
    sqlite3_free(t->zErrMsg);
    t->zErrMsg = sqlite3_mprintf("kalm_rerank: %s", text);
    return code;
}

static int code_of(kalm_result r) { return r == KALM_NO_MEMORY ? SQLITE_NOMEM : r == KALM_CANCELLED ? SQLITE_INTERRUPT : SQLITE_ERROR; }

/* The row that `q` stands at, kept. */
static int keep_row(cursor *u, connection *c, sqlite3_stmt *q)
{
    sqlite3_vtab *t = u->base.pVtab;
    kalm_error err;
    row *r;
    int type = sqlite3_column_type(q, 1);
    size_t size;
    const void *data = type == SQLITE_BLOB ? sqlite3_column_blob(q, 1) : (const void *)sqlite3_column_text(q, 1);
    size = (size_t)sqlite3_column_bytes(q, 1);
    if (type == SQLITE_NULL) return SQLITE_OK;
    if (u->rows == UINT_MAX) return complain(t, SQLITE_TOOBIG, "more rows than one ranking takes");
    if (u->rows == u->room) {
        size_t room = u->room ? u->room * 2 : 64;
        row *more = (row *)sqlite3_realloc64(u->row, room * sizeof *more);
        if (!more) return SQLITE_NOMEM;
        u->row = more;
        u->room = room;
    }
    r = &u->row[u->rows++];
    memset(r, 0, sizeof *r);
    r->id = sqlite3_value_dup(sqlite3_column_value(q, 0));
    if (!r->id) return SQLITE_NOMEM;
    if (type == SQLITE_BLOB) {
        kalm_result k = c->model ? KALM_OK : KALM_BAD_ARGUMENT;
        if (k) return complain(t, SQLITE_ERROR, not_loaded);
        k = kalm_doc_open(c->model, data ? data : "", size, 0, &r->doc, &err);
        return k ? complain(t, code_of(k), err.text) : SQLITE_OK;
    }
    r->text = (char *)sqlite3_malloc64(size + 1);
    if (!r->text || !data) return SQLITE_NOMEM;
    memcpy(r->text, data, size);
    r->size = size;
    return SQLITE_OK;
}

/* A text that is read from a table may be SQL that ranks with itself: each ranking in a ranking takes stack. */
enum { DEEPEST = 4 };

static int read_rows(cursor *u, connection *c, const char *sql)
{
    sqlite3_vtab *t = u->base.pVtab;
    sqlite3_stmt *q = NULL;
    const char *tail = NULL;
    int code;
    if (c->depth == DEEPEST) return complain(t, SQLITE_ERROR, "more than 4 rankings, each in the SQL of another");
    c->depth++;
    code = sqlite3_prepare_v2(c->db, sql, -1, &q, &tail);
    while (tail && (*tail == ' ' || *tail == '\n' || *tail == '\t' || *tail == '\r' || *tail == ';')) tail++;
    if (code != SQLITE_OK) complain(t, code, sqlite3_errmsg(c->db));
    else if (!q) code = complain(t, SQLITE_ERROR, "the SQL is empty");
    else if (tail && *tail) code = complain(t, SQLITE_ERROR, "the SQL is more than one statement");
    else if (!sqlite3_stmt_readonly(q) || sqlite3_column_count(q) < 2)
        code = complain(t, SQLITE_ERROR, "the SQL must be a SELECT of an id and a text or an encoded document");
    while (code == SQLITE_OK) {
        int step = sqlite3_step(q);
        if (step == SQLITE_DONE) break;
        code = step == SQLITE_ROW ? keep_row(u, c, q) : complain(t, step, sqlite3_errmsg(c->db));
    }
    sqlite3_finalize(q);
    c->depth--;
    return code;
}

/* Scores of all rows: those that have texts together, those that have documents together. */
static int score_rows(cursor *u, connection *c, kalm_text query, const kalm_params *params)
{
    const kalm_doc **docs = (const kalm_doc **)sqlite3_malloc64(u->rows * sizeof *docs);
    kalm_text *texts = (kalm_text *)sqlite3_malloc64(u->rows * sizeof *texts);
    size_t *from = (size_t *)sqlite3_malloc64(u->rows * sizeof *from);
    size_t i, n = 0, k = u->rows;      /* texts from the front of `from`, documents from its end */
    kalm_error err;
    kalm_result r = KALM_OK;
    int code = SQLITE_OK;
    u->score = (kalm_score *)sqlite3_malloc64(u->rows * sizeof *u->score);
    if (!docs || !texts || !from || !u->score) code = SQLITE_NOMEM;
    else {
        for (i = 0; i < u->rows; i++) {
            if (u->row[i].doc) docs[--k] = u->row[i].doc, from[k] = i;
            else texts[n].data = u->row[i].text, texts[n].size = u->row[i].size, from[n++] = i;
        }
        c->busy = 1;
        if (n) r = kalm_rerank_texts(c->ctx, query, texts, n, params, u->score, &err);
        if (!r && k < u->rows) r = kalm_rerank(c->ctx, query, docs + k, u->rows - k, params, u->score + k, &err);
        c->busy = 0;
        for (i = 0; !r && i < u->rows; i++) u->score[i].index = (uint32_t)from[i];
        if (!r) kalm_sort(u->score, u->rows);
        else code = complain(u->base.pVtab, code_of(r), r == KALM_CANCELLED ? "interrupted" : err.text);
    }
    sqlite3_free((void *)docs);
    sqlite3_free(texts);
    sqlite3_free(from);
    return code;
}

static int cursor_filter(sqlite3_vtab_cursor *base, int given, const char *name, int argc, sqlite3_value **argv)
{
    static const char *const names[4] = { "query", "sql", "k", "instruction" };
    cursor *u = (cursor *)base;
    connection *c = ((table *)base->pVtab)->c;
    sqlite3_value *value[4] = { NULL, NULL, NULL, NULL };
    kalm_params params;
    kalm_text text[4];
    sqlite3_int64 k = 0;
    char words[80];
    int i, n = 0, code;
    (void)name, (void)argc;
    cursor_clear(u);
    for (i = 0; i < 4; i++)
        if (given & 1 << i) value[i] = argv[n++];
    if (!c->model || c->busy) return complain(base->pVtab, SQLITE_ERROR, c->busy ? in_use : not_loaded);
    memset(text, 0, sizeof text);
    for (i = 0; i < 4; i++) {
        if (i == 2) continue;
        if (!value[i] || sqlite3_value_type(value[i]) == SQLITE_NULL) {
            if (i == 3) continue;
            sqlite3_snprintf(sizeof words, words, "there is no %s: kalm_rerank(query, sql, k [, instruction])", names[i]);
            return complain(base->pVtab, SQLITE_ERROR, words);
        }
        if (sqlite3_value_type(value[i]) != SQLITE_TEXT) {
            sqlite3_snprintf(sizeof words, words, "the %s is no text", names[i]);
            return complain(base->pVtab, SQLITE_ERROR, words);
        }
        text[i].data = (const char *)sqlite3_value_text(value[i]);
        text[i].size = (size_t)sqlite3_value_bytes(value[i]);
        if (!text[i].data) return SQLITE_NOMEM;
    }
    if (value[2] && sqlite3_value_type(value[2]) != SQLITE_NULL) {
        k = sqlite3_value_int64(value[2]);
        if (sqlite3_value_type(value[2]) != SQLITE_INTEGER || k < 1)
            return complain(base->pVtab, SQLITE_ERROR, "k must be a whole number from 1, or NULL for all");
    }
    memset(&params, 0, sizeof params);
    params.progress = go_on;
    params.progress_user = c;
    params.instruction = text[3];
    code = read_rows(u, c, text[1].data);
    if (code == SQLITE_OK && !c->model) code = complain(base->pVtab, SQLITE_ERROR, not_loaded);    /* the SQL closed it */
    if (code == SQLITE_OK && u->rows) code = score_rows(u, c, text[0], &params);
    if (code == SQLITE_OK) u->shown = k && (size_t)k < u->rows ? (size_t)k : u->rows;
    return code;
}

static int cursor_next(sqlite3_vtab_cursor *base)
{
    ((cursor *)base)->at++;
    return SQLITE_OK;
}

static int cursor_eof(sqlite3_vtab_cursor *base) { return ((cursor *)base)->at >= ((cursor *)base)->shown; }

static int cursor_column(sqlite3_vtab_cursor *base, sqlite3_context *q, int column)
{
    const cursor *u = (const cursor *)base;
    const kalm_score *s = &u->score[u->at];
    switch (column) {
    case COL_ID: sqlite3_result_value(q, u->row[s->index].id); break;
    case COL_SCORE: sqlite3_result_double(q, (double)s->score); break;
    case COL_MARGIN: sqlite3_result_double(q, (double)s->margin); break;
    case COL_RANK: sqlite3_result_int64(q, (sqlite3_int64)u->at + 1); break;
    case COL_CUT: sqlite3_result_int64(q, s->cut); break;
    default: break;                    /* the arguments: nobody reads them back */
    }
    return SQLITE_OK;
}

static int cursor_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *id)
{
    *id = (sqlite3_int64)((cursor *)base)->at + 1;
    return SQLITE_OK;
}

/* ---- entry ----------------------------------------------------------------------------------------------------------- */

#ifdef _WIN32
__declspec(dllexport)
#endif
int sqlite3_kalm_init(sqlite3 *db, char **error, const sqlite3_api_routines *api);
int sqlite3_kalm_init(sqlite3 *db, char **error, const sqlite3_api_routines *api)
{
    static const struct { const char *name; int least, most, flags; void (*run)(sqlite3_context *, int, sqlite3_value **); } functions[] = {
        { "kalm_load", 1, 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, load },
        { "kalm_encode", 1, 3, SQLITE_UTF8, encode },
        { "kalm_score", 2, 3, SQLITE_UTF8, score }
    };
    connection *c;
    size_t i;
    int n, code = SQLITE_OK;
    SQLITE_EXTENSION_INIT2(api);
    (void)error;
    c = (connection *)sqlite3_malloc(sizeof *c);
    if (!c) return SQLITE_NOMEM;
    memset(c, 0, sizeof *c);
    c->db = db;
    c->users = 1;                      /* this function, till its end */
    for (i = 0; i < sizeof functions / sizeof *functions && code == SQLITE_OK; i++)
        for (n = functions[i].least; n <= functions[i].most && code == SQLITE_OK; n++) {
            c->users++;                /* SQLite calls leave when it fails as well */
            code = sqlite3_create_function_v2(db, functions[i].name, n, functions[i].flags, c, functions[i].run, NULL, NULL, leave);
        }
    c->module.xConnect = table_connect;
    c->module.xBestIndex = table_best_index;
    c->module.xDisconnect = table_disconnect;
    c->module.xOpen = cursor_open;
    c->module.xClose = cursor_close;
    c->module.xFilter = cursor_filter;
    c->module.xNext = cursor_next;
    c->module.xEof = cursor_eof;
    c->module.xColumn = cursor_column;
    c->module.xRowid = cursor_rowid;
    if (code == SQLITE_OK) {
        c->users++;
        code = sqlite3_create_module_v2(db, "kalm_rerank", &c->module, c, leave);
    }
    leave(c);
    return code;
}
