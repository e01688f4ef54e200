/* store_states.h - decoder states of a store's documents, in a file of their own beside it, STORE.db.states, a SQLite database
   too. kalm-index --states makes it, and kalm-rerank --store ranks the documents that it has from there. A state says for which model,
   document and instruction it was made, and kalm_state_load looks at all of that, so the file is a help and never a source of
   other scores: whatever is wrong with it is told in one sentence, and the documents are ranked as if it were not there.

   It may come from a stranger, as the store may, and is opened with the same distrust. A forged state gives forged scores, as a
   forged document does. Included behind store.h. */
#ifndef KALM_STORE_STATES_H
#define KALM_STORE_STATES_H

#define STATES_APPLICATION 0x4b535453  /* "KSTS", PRAGMA application_id */
#define STATES_VERSION 1               /* PRAGMA user_version */

enum {
    STATES_MOST = 128 << 20,           /* bytes of the largest state that is kept, and of those that one batch of a ranking takes,
                                          but for the last one */
    STATES_TEXT = 1 << 20              /* bytes of the longest instruction or system text, by far */
};

static const char states_meta_table[] =
    "CREATE TABLE meta (\n"
    "    name  TEXT PRIMARY KEY NOT NULL,   -- fingerprint of the model, kernels (empty where they change no bit), state_bits,\n"
    "    value NOT NULL                     -- system and instruction: the same for all states\n"
    ") WITHOUT ROWID";
static const char states_table[] =
    "CREATE TABLE states (\n"
    "    number   INTEGER PRIMARY KEY,   -- of the document's row in the store\n"
    "    document TEXT NOT NULL,         -- hash of the encoded document, which tells that it is still the same\n"
    "    state    BLOB NOT NULL          -- for kalm_state_load\n"
    ")";

/* What all the states of a file were made for. */
typedef struct states_meta {
    char      fingerprint[17];
    char      kernels[32];             /* float weights: the instruction set, which rounds in its own way; else empty */
    uint32_t  state_bits;
    kalm_text system, instruction;     /* owned by whoever made the struct: the model's, the command line's, or states_meta_free's */
} states_meta;

KALM__FN void states_want(states_meta *m, const kalm_model *model, const kalm_config *config, const kalm_params *params)
{
    kalm_model_info info;
    memset(m, 0, sizeof *m);
    kalm_model_get_info(model, &info);
    store_write_hash(m->fingerprint, info.fingerprint);
    if (info.weights[0] != 'q') snprintf(m->kernels, sizeof m->kernels, "%s", config->kernels ? config->kernels : kalm_kernels(0));
    m->state_bits = config->state_bits;
    m->system = params->system.data ? kalm__resolve(params->system) : model->file.string[KALM__STRING_SYSTEM];
    m->instruction = params->instruction.data ? kalm__resolve(params->instruction) : model->file.string[KALM__STRING_INSTRUCTION];
}

KALM__FN void states_meta_free(states_meta *m)
{
    free((void *)(uintptr_t)m->system.data);
    free((void *)(uintptr_t)m->instruction.data);
    memset(m, 0, sizeof *m);
}

/* STORE.db.states, to be freed: a name that SQLite takes for a file. */
KALM__FN char *states_path(const char *store_path)
{
    size_t n = strlen(store_path);
    char *name = (char *)cmd_alloc(n + sizeof "./.states");
    sprintf(name, "%s%s.states", *store_path == ':' || !strncmp(store_path, "file:", 5) ? "./" : "", store_path);
    return name;
}

/* ---- checked reading; a function that returns a sentence has found something wrong ------------------------------------------ */

/* Nothing but our two tables, as we make them. NULL: so it is; "": SQLite has the words. */
KALM__FN const char *states_check_schema(const store *s)
{
    sqlite3_stmt *q = NULL;
    const char *why = NULL;
    int tables = 0, code;
    if (sqlite3_prepare_v2(s->db, "SELECT type, name, sql FROM sqlite_master", -1, &q, NULL) != SQLITE_OK) return "";
    while ((code = sqlite3_step(q)) == SQLITE_ROW && !why) {
        const char *type = (const char *)sqlite3_column_text(q, 0), *name = (const char *)sqlite3_column_text(q, 1);
        const char *sql = (const char *)sqlite3_column_text(q, 2);
        int meta = name && !strcmp(name, "meta"), states = name && !strcmp(name, "states");
        if (!type || !sql || strcmp(type, "table") != 0 || !(meta || states) || !store_same_sql(sql, meta ? states_meta_table : states_table))
            why = "it has other tables than kalm-index --states makes";
        tables |= states * 2 + meta;
    }
    if (!why && code != SQLITE_DONE) why = "";
    if (!why && tables != 3) why = "its tables are not there";
    sqlite3_finalize(q);
    return why;
}

/* The number of a pragma; -1: it cannot be read. */
KALM__FN int64_t states_pragma(const store *s, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t n = -1;
    if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW) n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

/* A file of states by its marks and its schema? NULL: it is one. */
KALM__FN const char *states_check_file(const store *s)
{
    int64_t application = states_pragma(s, "PRAGMA application_id"), version = states_pragma(s, "PRAGMA user_version");
    if (application < 0 || version < 0) return "";
    if (application != STATES_APPLICATION) return "it is no file of states";
    if (version != STATES_VERSION) return "it was made by another version of kalm-index --states";
    return states_check_schema(s);
}

/* A text of the table meta, at most `most` bytes of UTF-8, as a copy; data NULL: it is none. */
KALM__FN kalm_text states_meta_text(sqlite3_stmt *q, size_t most)
{
    kalm_text t = { NULL, 0 }, none = { NULL, 0 };
    if (sqlite3_column_type(q, 1) != SQLITE_TEXT) return none;
    t.data = (const char *)sqlite3_column_text(q, 1);
    t.size = (size_t)sqlite3_column_bytes(q, 1);
    if (!t.data || t.size > most || store_bad_byte(t) < t.size) return none;
    t.data = cmd_copy(t);
    return t;
}

/* The table meta; the texts are to be freed, whatever is returned. */
KALM__FN const char *states_read_meta(const store *s, states_meta *m)
{
    sqlite3_stmt *q = NULL;
    int code, have = 0;
    memset(m, 0, sizeof *m);
    if (sqlite3_prepare_v2(s->db, "SELECT name, value FROM meta LIMIT 10", -1, &q, NULL) != SQLITE_OK) return "";
    while ((code = sqlite3_step(q)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        if (!name) continue;
        if (!strcmp(name, "fingerprint") || !strcmp(name, "kernels")) {
            int first = *name == 'f';
            kalm_text t = states_meta_text(q, first ? 16 : sizeof m->kernels - 1);
            if (!t.data) continue;
            memcpy(first ? m->fingerprint : m->kernels, t.data, t.size);
            free((void *)(uintptr_t)t.data);
            have |= first ? 1 : 2;
        } else if (!strcmp(name, "state_bits")) {
            int64_t v = sqlite3_column_int64(q, 1);
            if (sqlite3_column_type(q, 1) != SQLITE_INTEGER || (v != 0 && v != 8 && v != 4)) continue;
            m->state_bits = (uint32_t)v;
            have |= 4;
        } else if (!strcmp(name, "system") && !m->system.data) {
            m->system = states_meta_text(q, STATES_TEXT);
            have |= m->system.data ? 8 : 0;
        } else if (!strcmp(name, "instruction") && !m->instruction.data) {
            m->instruction = states_meta_text(q, STATES_TEXT);
            have |= m->instruction.data ? 16 : 0;
        }
    }
    sqlite3_finalize(q);
    return code != SQLITE_DONE ? "" : have != 31 ? "its table meta is not whole" : NULL;
}

/* Why states of `has` are of no use where `wants` is asked for; NULL: they are. */
KALM__FN const char *states_compare(const states_meta *has, const states_meta *wants)
{
    if (strcmp(has->fingerprint, wants->fingerprint) != 0) return "its states are of another model";
    if (strcmp(has->kernels, wants->kernels) != 0)
        return "its states were made with another instruction set, which rounds float weights in another way";
    if (has->state_bits != wants->state_bits)
        return has->state_bits == 8 ? "its states were made with --state-bits 8" :
               has->state_bits == 4 ? "its states were made with --state-bits 4" : "its states are exact, made without --state-bits";
    if (!kalm__same_text(has->system, wants->system) || !kalm__same_text(has->instruction, wants->instruction))
        return "its states are for another instruction";
    return NULL;
}

/* ---- one state ----------------------------------------------------------------------------------------------------------------- */

/* What is to be known of a state before its bytes are read: SQLite finds the length of a blob without them. In a forged file all rows may
   share their bytes, so that what is read without need grows with the square of the file. */
static const char states_find[] =
    "SELECT document, CASE typeof(state) WHEN 'blob' THEN length(state) ELSE -1 END FROM states WHERE number = ?1";
static const char states_get[] = "SELECT state FROM states WHERE number = ?1";

/* What became of the state of a row. NONE: there is none. STALE: it is another document's. BAD: err says why it is of no use. BROKEN: SQLite
   cannot read the file, and has the words. FORGED: nothing that kalm-index --states writes. */
enum { STATES_LOADED, STATES_NONE, STATES_STALE, STATES_BAD, STATES_BROKEN, STATES_FORGED };

typedef struct states_reader {
    sqlite3_stmt *find, *get;          /* of states_find and states_get */
    kalm_context *ctx;                 /* whose cache takes the state */
    const kalm_params *params;
} states_reader;

/* 0: SQLite has the words. */
KALM__FN int states_reader_begin(states_reader *r, sqlite3 *db)
{
    return sqlite3_prepare_v2(db, states_find, -1, &r->find, NULL) == SQLITE_OK &&
           sqlite3_prepare_v2(db, states_get, -1, &r->get, NULL) == SQLITE_OK;
}

KALM__FN void states_reader_end(states_reader *r)
{
    sqlite3_finalize(r->find);
    sqlite3_finalize(r->get);
    r->find = r->get = NULL;
}

/* The hash of an encoded document, which a state is kept with. */
KALM__FN void states_hash(char hash[17], const kalm_doc *doc)
{
    size_t size;
    const void *bytes = kalm_doc_bytes(doc, &size);
    store_write_hash(hash, kalm__hash(bytes, size));
}

/* How the row that r->find has come to fits the document; LOADED: its state has the `size` bytes that the document asks for. */
KALM__FN int states_fit(const states_reader *r, const kalm_doc *doc, size_t *size, kalm_error *err)
{
    char hash[17];
    kalm_text was;
    int64_t has = sqlite3_column_int64(r->find, 1);
    was.data = (const char *)sqlite3_column_text(r->find, 0);
    was.size = (size_t)sqlite3_column_bytes(r->find, 0);
    states_hash(hash, doc);
    if (was.size > sizeof hash - 1) return STATES_FORGED;
    if (!was.data || !kalm__same_text(was, kalm__text(hash))) return STATES_STALE;
    if (has < 0) kalm__fail(err, KALM_BAD_FILE, "the state is no blob");
    else if (!kalm_state_save(r->ctx, doc, r->params, NULL, 0, size, err)) {
        if ((uint64_t)has == *size) return STATES_LOADED;
        kalm__fail(err, KALM_BAD_FILE, "the state has %U bytes, its document asks for %z", (uint64_t)has, *size);
    }
    return STATES_BAD;
}

/* Load the state of a document, row `number` of the store, whose bytes are then *size. */
KALM__FN int states_load(const states_reader *r, int64_t number, const kalm_doc *doc, size_t *size, kalm_error *err)
{
    int what = STATES_NONE;
    if (sqlite3_bind_int64(r->find, 1, number) != SQLITE_OK || sqlite3_bind_int64(r->get, 1, number) != SQLITE_OK) return STATES_BROKEN;
    if (sqlite3_step(r->find) == SQLITE_ROW) what = states_fit(r, doc, size, err);
    if (sqlite3_reset(r->find) != SQLITE_OK) return STATES_BROKEN;
    if (what != STATES_LOADED) return what;
    if (sqlite3_step(r->get) == SQLITE_ROW) {
        const void *state = sqlite3_column_blob(r->get, 0);
        if (!state) return STATES_BROKEN;                              /* a reset would take SQLite's words away */
        *size = (size_t)sqlite3_column_bytes(r->get, 0);
        if (kalm_state_load(r->ctx, doc, r->params, state, *size, err)) what = STATES_BAD;
    } else what = STATES_NONE;                                         /* it went away meanwhile */
    return sqlite3_reset(r->get) == SQLITE_OK ? what : STATES_BROKEN;
}

/* ---- ranking from states --------------------------------------------------------------------------------------------------- */

typedef struct states {
    store         file;                /* file.db NULL: there is none, or it is of no use */
    char          why[STORE_WHY];
    char         *path;
    states_reader read;
    kalm_context *ctx;                 /* its cache takes the states of a batch */
    cmd_progress *show;
    size_t        held;                /* bytes of the states that are in the cache */
    size_t        stale, bad;          /* documents that are others now, and whose state was no good */
    int           there;               /* there is such a file, good or not */
} states;

KALM__FN void states_close(states *t)
{
    states_reader_end(&t->read);
    sqlite3_close(t->file.db);
    t->file.db = NULL;
}

/* The file is not used (any more): one sentence, `why` or, where that is "", SQLite's. */
KALM__FN void states_reject(states *t, const char *why)
{
    if (t->show) cmd_progress_clear(t->show);
    if (!kalm__interrupted)
        say("%s is not used: %s", t->path, *why ? why : t->file.db ? sqlite3_errmsg(t->file.db) : "there is no memory");
    states_close(t);
}

/* Look for the file beside the store, and take it when it is of use for this model, instruction and config; params must outlive t. */
KALM__FN void states_begin(states *t, const char *store_path, const kalm_model *model, const kalm_config *config, const kalm_params *params,
                           cmd_progress *show)
{
    states_meta has, wants;
    kalm_config own = *config;
    const char *why;
    kalm_error err;
#if !defined(_WIN32)
    struct stat st;
#endif
    memset(t, 0, sizeof *t);
    t->path = states_path(store_path);
    t->file.path = t->path;
    t->file.why = t->why;
    t->read.params = params;
    t->show = show;
#if defined(_WIN32)
    if (!kalm__file_exists(t->path)) return;
#else
    if (stat(t->path, &st)) return;
    if (!S_ISREG(st.st_mode)) {
        t->there = 1;
        states_reject(t, "it is no regular file");
        return;
    }
#endif
    t->there = 1;
    if (sqlite3_open_v2(t->path, &t->file.db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
        states_reject(t, "");
        return;
    }
    why = store_wrong_journal(&t->file);
    if (why) {
        states_reject(t, why);
        return;
    }
    store_distrust(&t->file);
    sqlite3_limit(t->file.db, SQLITE_LIMIT_LENGTH, STATES_MOST + STATES_TEXT);
    store_recover(&t->file, t->path);
    memset(&has, 0, sizeof has);
    states_want(&wants, model, config, params);
    why = states_check_file(&t->file);
    if (!why) why = states_read_meta(&t->file, &has);
    if (!why) why = states_compare(&has, &wants);
    states_meta_free(&has);
    if (!why && !states_reader_begin(&t->read, t->file.db)) why = "";
    if (why) {
        states_reject(t, why);
        return;
    }
    own.cache_bytes = (size_t)STATES_MOST * 2 + ((size_t)64 << 20);    /* a batch's states and their documents: nothing is dropped */
    if (kalm_context_new(model, &own, &t->ctx, &err)) states_reject(t, err.text);
    t->read.ctx = t->ctx;
}

/* The state of a document, row `number` of the store, goes into the cache of t->ctx. 0: there is none of use. */
KALM__FN int states_take(states *t, int64_t number, const kalm_doc *doc)
{
    size_t size = 0;
    kalm_error err;
    if (!t->file.db) return 0;
    switch (states_load(&t->read, number, doc, &size, &err)) {
    case STATES_LOADED: t->held += size; return 1;
    case STATES_STALE: t->stale++; return 0;
    case STATES_BAD:
        if (t->bad++) return 0;
        if (t->show) cmd_progress_clear(t->show);
        say("%s: row %lld is not used: %s", t->path, (long long)number, err.text);
        return 0;
    case STATES_BROKEN: states_reject(t, ""); return 0;
    case STATES_FORGED: states_reject(t, "it has longer hashes than kalm-index --states writes"); return 0;
    default: return 0;
    }
}

/* The batch was ranked. */
KALM__FN void states_forget(states *t)
{
    if (t->held) kalm_context_clear_cache(t->ctx);
    t->held = 0;
}

/* How many documents, or windows, were ranked from their states. */
KALM__FN size_t states_end(states *t)
{
    kalm_cache_info cache;
    kalm_context_get_cache(t->ctx, &cache);
    if (t->show) cmd_progress_clear(t->show);
    if (t->stale)
        say("%s: %lu states are not used: the store has other documents in their rows now (kalm-index --states makes new ones)", t->path,
            (unsigned long)t->stale);
    states_close(t);
    kalm_context_free(t->ctx);
    free(t->path);
    memset(t, 0, sizeof *t);
    return (size_t)cache.hits;
}

#endif
