/* index_states.h - kalm-index --states: decoder states of the documents that are asked for most, in a file beside the store
   (store_states.h), for a process that starts later. A batch of states is one transaction, so a killed command loses what it was at,
   and the same command goes on. Included behind store.h, store_states.h and index_options.h. */
#ifndef KALM_INDEX_STATES_H
#define KALM_INDEX_STATES_H

enum { STATES_TOGETHER = 64, STATES_BATCH = 32 << 20 };    /* states, and bytes, of a transaction */

typedef struct keeping {
    const options *o;
    store         s, file;             /* the store, and the file of states */
    kalm_model   *model;
    kalm_context *ctx;
    kalm_params   params;
    int64_t      *row;                 /* [rows] of the store whose states are wanted, those asked for most first */
    size_t        rows, room;
    unsigned char *state;              /* [state_room] */
    size_t        state_room;
    states_reader read;                /* of the file */
    sqlite3_stmt *put, *drop, *document;
    size_t        pending, held;       /* states of the open transaction, and their bytes */
    size_t        made, there, dropped, large;
    double        bytes;               /* of all states that are wanted */
} keeping;

/* ---- which documents ------------------------------------------------------------------------------------------------------ */

/* The document that a line of the list names: the whole line where the store has such a key; else the document of a line of a run,
   query Q0 document rank score [tag], or query document rank. */
KALM__FN int asked_key(const store *s, sqlite3_stmt *has, kalm_text line, kalm_text *key)
{
    kalm_text word[7];
    size_t n = 0, i = 0;
    int found;
    while (line.size && (line.data[line.size - 1] == ' ' || line.data[line.size - 1] == '\t')) line.size--;
    *key = line;
    store_bind(s, has, 1, line);
    found = store_step(s, has);
    store_check(s, sqlite3_reset(has));
    if (found) return 1;
    while (n < 7) {
        while (i < line.size && (line.data[i] == ' ' || line.data[i] == '\t')) i++;
        if (i == line.size) break;
        word[n].data = line.data + i;
        while (i < line.size && line.data[i] != ' ' && line.data[i] != '\t') i++;
        word[n].size = (size_t)(line.data + i - word[n].data);
        n++;
    }
    if (n != 3 && n != 5 && n != 6) return 0;
    *key = word[n == 3 ? 1 : 2];
    store_bind(s, has, 1, *key);
    found = store_step(s, has);
    store_check(s, sqlite3_reset(has));
    return found;
}

/* The lines of o->asked are counted in a table that SQLite keeps in memory. */
KALM__FN void count_asked(const keeping *k)
{
    const store *s = &k->s;
    reader r;
    text_record line;
    kalm_text key;
    sqlite3_stmt *has = store_prepare(s, "SELECT 1 FROM documents WHERE key = ?1 AND window = 0"), *more, *first;
    size_t unknown = 0, known = 0;
    int what;
    if (!reader_begin(&r, k->o->asked, READ_LINES)) die("%s: %s", r.name, r.why);
    store_exec(s, "PRAGMA temp_store=MEMORY");
    store_exec(s, "CREATE TEMP TABLE asked (key TEXT PRIMARY KEY NOT NULL, times INTEGER NOT NULL, line INTEGER NOT NULL) WITHOUT ROWID");
    more = store_prepare(s, "UPDATE asked SET times = times + 1 WHERE key = ?1");
    first = store_prepare(s, "INSERT INTO asked VALUES (?1, 1, ?2)");
    while ((what = reader_next(&r, &line)) != READ_END && !kalm__interrupted) {
        if (what == READ_BAD) cmd_tell_place(&r);
        if (r.failed) die("%s was not read to its end: nothing was changed", k->o->asked);
        if (what == READ_BAD || !asked_key(s, has, line.text, &key)) {
            unknown++;
            continue;
        }
        store_bind(s, more, 1, key);
        store_run(s, more);
        if (!sqlite3_changes(s->db)) {
            store_bind(s, first, 1, key);
            store_check(s, sqlite3_bind_int64(first, 2, (sqlite3_int64)known));
            store_run(s, first);
        }
        known++;
    }
    reader_end(&r);
    sqlite3_finalize(has);
    sqlite3_finalize(more);
    sqlite3_finalize(first);
    if (!known && !kalm__interrupted) die("%s names no document of %s", k->o->asked, s->path);
    if (unknown && !k->o->quiet) say("%lu lines of %s name no document of %s", (unsigned long)unknown, k->o->asked, s->path);
}

KALM__FN void find_wanted(keeping *k)
{
    const store *s = &k->s;
    sqlite3_stmt *q;
    if (k->o->asked) count_asked(k);
    q = store_prepare(s, k->o->asked
        ? "SELECT d.number FROM (SELECT key, times, line FROM asked ORDER BY times DESC, line LIMIT ?1) a JOIN documents d ON d.key = a.key "
          "ORDER BY a.times DESC, a.line, d.window"
        : "SELECT number FROM documents WHERE key IN (SELECT key FROM documents WHERE window = 0 ORDER BY number LIMIT ?1) ORDER BY number");
    store_check(s, sqlite3_bind_int64(q, 1, k->o->states == STATES_ALL ? -1 : (sqlite3_int64)k->o->states));
    while (store_step(s, q)) {
        if (k->rows == k->room) k->row = (int64_t *)cmd_grow(k->row, (k->room = k->room ? k->room * 2 : 1024) * sizeof *k->row);
        k->row[k->rows++] = store_int(s, q, 0, 0, 1, STORE_LAST_NUMBER);
    }
    sqlite3_finalize(q);
}

/* ---- the file ------------------------------------------------------------------------------------------------------------- */

KALM__FN void put_states_meta(const store *s, const states_meta *m)
{
    sqlite3_stmt *q = store_prepare(s, "INSERT OR REPLACE INTO meta VALUES (?1, ?2)");
    const char *name[2] = { "system", "instruction" };
    int i;
    store_put_meta(s, q, "fingerprint", m->fingerprint, 0);
    store_put_meta(s, q, "kernels", m->kernels, 0);
    store_put_meta(s, q, "state_bits", NULL, m->state_bits);
    for (i = 0; i < 2; i++) {
        store_check(s, sqlite3_bind_text(q, 1, name[i], -1, SQLITE_STATIC));
        store_bind(s, q, 2, i ? m->instruction : m->system);
        store_run(s, q);
    }
    sqlite3_finalize(q);
}

/* Open the file, or make it; what was made for another model, instruction or form is dropped. */
KALM__FN void open_states(keeping *k, const char *path, const states_meta *wants)
{
    store *s = &k->file;
    states_meta has;
    const char *why = NULL;
    char *file = store_file_name(path, STORE_CREATE), marks[96];
    memset(s, 0, sizeof *s);
    s->path = path;
    store_check(s, sqlite3_open_v2(file, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL));
    free(file);
    store_distrust(s);
    sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, STATES_MOST + STATES_TEXT);
    store_exec(s, "PRAGMA page_size=16384");   /* both are of a new file */
    store_exec(s, "PRAGMA auto_vacuum=FULL");  /* what is dropped gives its bytes back */
    store_exec(s, "BEGIN IMMEDIATE");
    if (!store_number(s, "SELECT count(*) FROM sqlite_master") && !store_number(s, "PRAGMA application_id")) {
        store_exec(s, states_meta_table);
        store_exec(s, states_table);
        put_states_meta(s, wants);
        sprintf(marks, "PRAGMA application_id=%d; PRAGMA user_version=%d", STATES_APPLICATION, STATES_VERSION);
        store_exec(s, marks);
    } else {
        why = states_check_file(s);
        if (why && *why) die("%s: %s; nothing was changed", path, why);
        if (why) store_failed(s);
        why = states_read_meta(s, &has);
        if (!why) why = states_compare(&has, wants);
        states_meta_free(&has);
        if (why) {
            store_exec(s, "DELETE FROM states");
            store_exec(s, "DELETE FROM meta");
            put_states_meta(s, wants);
            if (!k->o->quiet && *why) say("%s: %s; they are replaced", path, why);
        }
    }
    store_exec(s, "COMMIT");
    store_begin_writing(s);
}

KALM__FN int by_number(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Remove the states that are not wanted any more. */
KALM__FN void drop_others(keeping *k)
{
    const store *s = &k->file;
    int64_t *wanted = (int64_t *)cmd_alloc((k->rows + 1) * sizeof *wanted), *gone = NULL;
    size_t room = 0, i;
    sqlite3_stmt *q = store_prepare(s, "SELECT number FROM states");
    if (k->rows) memcpy(wanted, k->row, k->rows * sizeof *wanted);
    qsort(wanted, k->rows, sizeof *wanted, by_number);
    while (store_step(s, q)) {
        int64_t number = sqlite3_column_int64(q, 0);
        if (bsearch(&number, wanted, k->rows, sizeof *wanted, by_number)) continue;
        if (k->dropped == room) gone = (int64_t *)cmd_grow(gone, (room = room ? room * 2 : 256) * sizeof *gone);
        gone[k->dropped++] = number;
    }
    sqlite3_finalize(q);
    store_exec(s, "BEGIN IMMEDIATE");
    for (i = 0; i < k->dropped; i++) {
        store_check(s, sqlite3_bind_int64(k->drop, 1, gone[i]));
        store_run(s, k->drop);
    }
    store_exec(s, "COMMIT");
    free(gone);
    free(wanted);
}

/* ---- states ---------------------------------------------------------------------------------------------------------------- */

KALM__FN void commit_states(keeping *k)
{
    if (k->pending) store_exec(&k->file, "COMMIT");
    k->pending = k->held = 0;
}

/* The document of a row of the store; NULL: it went away meanwhile. */
KALM__FN kalm_doc *open_document(keeping *k, int64_t number)
{
    const store *s = &k->s;
    kalm_doc *doc = NULL;
    kalm_doc_info info;
    kalm_error err;
    store_check(s, sqlite3_bind_int64(k->document, 1, number));
    if (store_step(s, k->document)) {
        kalm_text data = store_document(s, k->document, 0, number);
        if (kalm_doc_open(k->model, data.data, data.size, 0, &doc, &err)) die("%s: row %lld: %s", s->path, (long long)number, err.text);
        kalm_doc_get_info(doc, &info);
        if (info.ratio != s->meta.ratio || info.bits != s->meta.bits || info.tokens_used > s->meta.max_doc_tokens)
            die("%s: row %lld: its ratio, bits or tokens are not those of the store", s->path, (long long)number);
    }
    store_check(s, sqlite3_reset(k->document));
    return doc;
}

/* Has the file the document's state, whole? Its bytes; 0: no. */
KALM__FN size_t has_state(keeping *k, int64_t number, const kalm_doc *doc)
{
    size_t size = 0;
    kalm_error err;
    int what = states_load(&k->read, number, doc, &size, &err);
    if (what == STATES_BROKEN) store_failed(&k->file);
    return what == STATES_LOADED ? size : 0;
}

/* The state of a row's document is in the file when this returns, unless it is too large; 0: the command has failed. */
KALM__FN int keep_state(keeping *k, int64_t number)
{
    const store *s = &k->file;
    kalm_doc *doc = open_document(k, number);
    kalm_error err;
    kalm_result r = KALM_OK;
    kalm_doc_info info;
    char hash[17];
    size_t size, there;
    if (!doc) return 1;
    there = has_state(k, number, doc);
    size = there;
    kalm_doc_get_info(doc, &info);
    /* the rows alone may be too many, and then memory is not even asked for: where it is not had, the command fails */
    if (!there) size = kalm__state_bytes(k->ctx, k->model->file.stack[KALM__DECODER].shape.layers, info.rows, 0);
    if (!there && size <= STATES_MOST) r = kalm_state_save(k->ctx, doc, &k->params, NULL, 0, &size, &err);
    if (!there && !r && size > STATES_MOST) {
        size = 0;
        k->large++;
    } else if (!there && !r) {
        if (size > k->state_room) k->state = (unsigned char *)cmd_grow(k->state, k->state_room = size);
        r = kalm_state_save(k->ctx, doc, &k->params, k->state, k->state_room, &size, &err);
    }
    if (!there && !r) {
        sqlite3_stmt *q = size ? k->put : k->drop;     /* of one that is too large nothing older stays */
        if (!k->pending++) store_exec(s, "BEGIN IMMEDIATE");
        store_check(s, sqlite3_bind_int64(q, 1, number));
        if (size) {
            states_hash(hash, doc);
            store_bind(s, q, 2, kalm__text(hash));
            store_check(s, sqlite3_bind_blob64(q, 3, k->state, size, SQLITE_STATIC));
        }
        store_run(s, q);
        k->held += size;
        k->made += size != 0;
        if (k->pending == STATES_TOGETHER || k->held >= STATES_BATCH) commit_states(k);
    }
    k->there += there != 0;
    k->bytes += (double)size;
    kalm_context_clear_cache(k->ctx);
    kalm_doc_free(doc);
    return r ? cmd_failed(&err), 0 : 1;
}

KALM__FN void keeping_end(keeping *k)
{
    states_reader_end(&k->read);
    sqlite3_finalize(k->put);
    sqlite3_finalize(k->drop);
    sqlite3_finalize(k->document);
    store_close(&k->file);
    store_close(&k->s);
    free(k->row);
    free(k->state);
    kalm_context_free(k->ctx);
    kalm_model_close(k->model);
}

/* --states 0: the file goes, when it is one of ours by its first bytes, or empty. */
KALM__FN int delete_states(const char *path)
{
    static const char *const beside[] = { "-wal", "-shm", "-journal" };
    sqlite3_vfs *files = sqlite3_vfs_find(NULL);
    unsigned char head[100];
    kalm__input f;
    kalm_error err;
    size_t i;
    int ours;
    free(store_file_name(path, STORE_CREATE));         /* which ends the command for what is no regular file */
    if (!kalm__file_exists(path)) return EXIT_OK;
    if (kalm__input_open(&f, path, &err)) return cmd_failed(&err);
    ours = !f.size || (f.size >= sizeof head && kalm__input_read(&f, 0, head, sizeof head) && !memcmp(head, "SQLite format 3", 16) &&
                       ((uint32_t)head[68] << 24 | (uint32_t)head[69] << 16 | (uint32_t)head[70] << 8 | head[71]) == STATES_APPLICATION);
    kalm__input_close(&f);
    if (!ours) die("%s is no file of states: it was not deleted", path);
    if (files->xDelete(files, path, 1) != SQLITE_OK) die("cannot delete %s: %s", path, strerror(errno));
    for (i = 0; i < 3; i++) {
        char *name = (char *)cmd_alloc(strlen(path) + 16);
        sprintf(name, "%s%s", path, beside[i]);
        (void)files->xDelete(files, name, 0);
        free(name);
    }
    return EXIT_OK;
}

/* kalm-index MODEL STORE --states N: returns the exit status. */
KALM__FN int run_states(const options *o)
{
    keeping k;
    kalm_model_info info;
    kalm_config config = o->config;
    states_meta wants;
    cmd_progress show;
    kalm_error err;
    size_t i;
    int good = 1;
    char *path = states_path(o->store);
    memset(&k, 0, sizeof k);
    if (!o->states) {
        store_open(&k.s, o->store, STORE_READ);
        store_close(&k.s);
        i = (size_t)delete_states(path);
        free(path);
        return (int)i;
    }
    k.o = o;
    if (o->instruction) k.params.instruction = kalm__text(o->instruction);
    if (o->system) k.params.system = kalm__text(o->system);
    if (store_bad_byte(k.params.instruction) < k.params.instruction.size || store_bad_byte(k.params.system) < k.params.system.size)
        die_usage("the instruction is not UTF-8");
    if (k.params.instruction.size > STATES_TEXT || k.params.system.size > STATES_TEXT) die_usage("the instruction is too long");
    if (kalm_model_open(o->model, &o->config, &k.model, &err)) return cmd_failed(&err);
    kalm_model_get_info(k.model, &info);
    if (!info.has_decoder) die("%s holds no decoder, whose states these are", o->model);
    cmd_catch_signals(CMD_END_IN_ORDER);
    store_open(&k.s, o->store, STORE_READ);
    store_demand(&k.s, o->model, &info);
    config.max_doc_tokens = k.s.meta.max_doc_tokens;
    config.cache_bytes = (size_t)STATES_MOST + ((size_t)64 << 20);     /* one state and its document */
    if (kalm_context_new(k.model, &config, &k.ctx, &err)) return cmd_failed(&err);
    find_wanted(&k);
    states_want(&wants, k.model, &config, &k.params);
    open_states(&k, path, &wants);
    k.document = store_prepare(&k.s, "SELECT document FROM documents WHERE number = ?1");
    k.read.ctx = k.ctx;
    k.read.params = &k.params;
    if (!states_reader_begin(&k.read, k.file.db)) store_failed(&k.file);
    k.put = store_prepare(&k.file, "INSERT OR REPLACE INTO states VALUES (?1, ?2, ?3)");
    k.drop = store_prepare(&k.file, "DELETE FROM states WHERE number = ?1");
    drop_others(&k);
    cmd_progress_begin(&show, "states");
    show.quiet = o->quiet;
    for (i = 0; good && i < k.rows && !kalm__interrupted; i++) {
        cmd_progress_step(&show, i, k.rows);
        good = keep_state(&k, k.row[i]);
    }
    cmd_progress_end(&show);
    commit_states(&k);
    if (good && !kalm__interrupted && !o->quiet) {
        fprintf(stderr, "%lu states in %.1f MB: %lu made, %lu were there already", (unsigned long)(k.made + k.there), k.bytes / 1e6,
                (unsigned long)k.made, (unsigned long)k.there);
        if (k.dropped) fprintf(stderr, "; %lu dropped", (unsigned long)k.dropped);
        if (k.large) fprintf(stderr, "; %lu have no room (128 MB each)", (unsigned long)k.large);
        fputc('\n', stderr);
    }
    keeping_end(&k);
    free(path);
    if (kalm__interrupted) {
        fprintf(stderr, "%s: interrupted; the same command goes on from there\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    return good ? EXIT_OK : EXIT_FAILED;
}

#endif
