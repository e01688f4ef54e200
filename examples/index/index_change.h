/* index_change.h - kalm-index --delete and --merge. Included behind store.h and index_options.h. */
#ifndef KALM_INDEX_CHANGE_H
#define KALM_INDEX_CHANGE_H

/* All the keys or none. */
KALM__FN int run_delete(const options *o)
{
    store s;
    sqlite3_stmt *q;
    size_t i;
    cmd_catch_signals(CMD_END_IN_ORDER);
    store_open(&s, o->store, STORE_WRITE);
    store_exec(&s, "BEGIN IMMEDIATE");
    q = store_prepare(&s, "DELETE FROM documents WHERE key = ?1");
    for (i = 0; i < o->words; i++) {
        store_bind(&s, q, 1, kalm__text(o->word[i]));
        store_step(&s, q);
        if (!sqlite3_changes(s.db))
            die("%s has no document '%s'; nothing was deleted", s.path, store_shown(kalm__text(o->word[i])));
        store_check(&s, sqlite3_reset(q));
    }
    sqlite3_finalize(q);
    store_exec(&s, "COMMIT");
    store_close(&s);
    return EXIT_OK;
}

KALM__FN void demand_same(const store *a, const store *b, const char *what, uint32_t x, uint32_t y)
{
    if (x != y) die("%s has %s %lu, %s has %lu", a->path, what, (unsigned long)x, b->path, (unsigned long)y);
}

/* Documents of one store can stand in the other. */
KALM__FN void demand_alike(const store *s, const store *other)
{
    if (strcmp(s->meta.fingerprint, other->meta.fingerprint) != 0 || s->meta.width != other->meta.width)
        die("%s holds documents of the model %s (%s, fingerprint %s), %s those of %s (%s, fingerprint %s)", s->path,
            s->meta.model, s->meta.weights, s->meta.fingerprint, other->path, other->meta.model, other->meta.weights,
            other->meta.fingerprint);
    demand_same(s, other, "ratio", s->meta.ratio, other->meta.ratio);
    demand_same(s, other, "bits", s->meta.bits, other->meta.bits);
    if (strcmp(s->meta.transform, other->meta.transform) != 0)
        die("%s holds rows that were made with transform %s, %s those of %s", s->path, s->meta.transform, other->path,
            other->meta.transform);
    demand_same(s, other, "max_doc_tokens", s->meta.max_doc_tokens, other->meta.max_doc_tokens);
    demand_same(s, other, "split", s->meta.split, other->meta.split);
    demand_same(s, other, "overlap", s->meta.overlap, other->meta.overlap);
}

/* Have the stores the same text under a key, in as many windows? own: rows of the key in s; its: those in `other`, of STORE_WHOLE_ROWS. */
#define STORE_WHOLE_ROWS "SELECT window, windows, start, title, text FROM documents WHERE key = ?1 ORDER BY window"
KALM__FN int same_document(const store *s, sqlite3_stmt *own, const store *other, sqlite3_stmt *its, kalm_text key, const char *hash)
{
    whole_text whole;
    same_text same;
    store_row r;
    kalm_text title = kalm__text(""), text;
    int good = 1;
    memset(&whole, 0, sizeof whole);
    memset(&r, 0, sizeof r);
    store_bind(other, its, 1, key);
    while (good && store_step(other, its)) {
        r.windows = store_int(other, its, 1, 0, 1, UINT32_MAX);
        r.window = store_int(other, its, 0, 0, 0, r.windows - 1);
        r.start = store_int(other, its, 2, 0, 0, INT32_MAX);
        title = store_text(other, its, 3, 0);
        r.text = store_text(other, its, 4, 0);
        good = look_add(&whole, &r);
        if (whole.next == whole.windows) break;    /* `title` lives until the next step */
    }
    good = good && whole.windows && whole.next == whole.windows;
    text.data = whole.text;
    text.size = whole.size;
    same_begin(&same, title, text, hash);
    good = good && same_rows(&same, s, own) && same.windows == whole.windows;
    store_check(other, sqlite3_reset(its));
    free(whole.text);
    return good;
}

/* A key of which the two stores have different texts, or windows, ends the command before anything is added. */
KALM__FN void demand_no_conflict(const store *s, const store *other)
{
    sqlite3_stmt *q = store_prepare(other, "SELECT number, key, hash FROM documents WHERE window = 0 ORDER BY number");
    sqlite3_stmt *find = store_prepare(s, STORE_SAME_ROWS("")), *its = store_prepare(other, STORE_WHOLE_ROWS);
    while (store_step(other, q)) {
        int64_t row = store_int(other, q, 0, sqlite3_column_int64(q, 0), 1, STORE_LAST_NUMBER);
        kalm_text key = store_text(other, q, 1, row), hash = store_text(other, q, 2, row);
        store_bind(s, find, 1, key);
        if (store_step(s, find) && (hash.size != 16 || !same_document(s, find, other, its, key, hash.data)))
            die("%s and %s have different texts of the key '%s'; nothing of %s was added", s->path, other->path,
                store_shown(key), other->path);
        store_check(s, sqlite3_reset(find));
    }
    sqlite3_finalize(q);
    sqlite3_finalize(find);
    sqlite3_finalize(its);
}

/* Every row of `other` that s has not, checked on its way as --verify does it; how many. */
KALM__FN size_t add_rows(const store *s, const store *other)
{
    sqlite3_stmt *q = store_prepare(other, "SELECT " STORE_COLUMNS " FROM documents ORDER BY number");
    /* OR IGNORE: what both have */
    sqlite3_stmt *insert = store_prepare(s, "INSERT OR IGNORE INTO documents (key, window, windows, start, hash, tokens, tokens_used, "
                                            "title, text, metadata, document) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
    size_t added = 0, held = 0;
    int open = 0;                      /* windows of the text are still to come */
    verified whole;
    store_row r;
    memset(&whole, 0, sizeof whole);
    store_exec(s, "BEGIN IMMEDIATE");
    while (!kalm__interrupted && store_step(other, q)) {
        const char *why;
        kalm_error err;
        store_read_row(other, q, &r);
        store_check_metadata(other, r.metadata, r.number);
        why = verify_document(other, NULL, &r, &err);
        if (!why) why = verify_text(&whole, &r);
        if (why) die("%s: row %lld: %s", other->path, (long long)r.number, why);
        open = whole.text.next != whole.text.windows;
        store_bind(s, insert, 1, r.key);
        store_check(s, sqlite3_bind_int64(insert, 2, r.window));
        store_check(s, sqlite3_bind_int64(insert, 3, r.windows));
        store_check(s, sqlite3_bind_int64(insert, 4, r.start));
        store_bind(s, insert, 5, r.hash);
        store_check(s, sqlite3_bind_int64(insert, 6, r.tokens));
        store_check(s, sqlite3_bind_int64(insert, 7, r.tokens_used));
        store_bind(s, insert, 8, r.title);
        store_bind(s, insert, 9, r.text);
        store_bind(s, insert, 10, r.metadata);
        store_check(s, sqlite3_bind_blob64(insert, 11, r.document.data, r.document.size, SQLITE_STATIC));
        store_step(s, insert);
        added += (size_t)sqlite3_changes(s->db);
        store_check(s, sqlite3_reset(insert));
        held += r.document.size + r.text.size;
        if (held < 32u << 20 || open) continue;  /* so that the journal stays small; a text is whole in a transaction */
        store_exec(s, "COMMIT");
        store_exec(s, "BEGIN IMMEDIATE");
        held = 0;
    }
    if (!kalm__interrupted && open) die("%s: the last text lacks windows", other->path);
    sqlite3_finalize(q);
    sqlite3_finalize(insert);
    verify_end(&whole);
    if (!sqlite3_get_autocommit(s->db)) {
        sqlite3_progress_handler(s->db, 0, NULL, NULL);    /* a signal came: what is whole stays */
        store_exec(s, open ? "ROLLBACK" : "COMMIT");
        sqlite3_progress_handler(s->db, 1000, store_ask, NULL);
    }
    return added;
}

KALM__FN int run_merge(const options *o)
{
    store s, other;
    size_t i, added = 0;
    int there;
    for (i = 0; i < o->words; i++) {
        if (!kalm__file_exists(o->word[i])) die("there is no store %s", o->word[i]);
        if (same_file(o->word[i], o->store)) die("%s cannot be merged with itself", o->store);
    }
    cmd_catch_signals(CMD_END_IN_ORDER);
    there = store_open(&s, o->store, STORE_CREATE);
    for (i = 0; i < o->words && !kalm__interrupted; i++) {
        store_open(&other, o->word[i], STORE_READ);
        if (!there) store_create(&s, &other.meta);
        there = 1;
        demand_alike(&s, &other);
        if (i == 0) store_begin_writing(&s);
        store_exec(&other, "BEGIN");   /* both passes see the same rows */
        demand_no_conflict(&s, &other);
        added += add_rows(&s, &other);
        (void)sqlite3_exec(other.db, "COMMIT", NULL, NULL, NULL);
        store_close(&other);
    }
    if (!o->quiet) fprintf(stderr, "%lu rows added to %s\n", (unsigned long)added, s.path);
    store_close(&s);
    if (kalm__interrupted) {
        fprintf(stderr, "%s: interrupted; the same command goes on from there\n", cmd_name);
        return EXIT_INTERRUPTED;
    }
    return EXIT_OK;
}

#endif
