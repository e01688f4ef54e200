/* index_look.h - kalm-index --info, --export and --verify: what a store holds, one document of it, and whether all of it is
   what was encoded. They only read. Included behind store.h and index_options.h. */
#ifndef KALM_INDEX_LOOK_H
#define KALM_INDEX_LOOK_H

KALM__FN int run_info(const options *o)
{
    store s;
    sqlite3_stmt *q;
    store_open(&s, o->store, STORE_READ);
    printf("model           %s, %s weights, fingerprint %s\n", s.meta.model, s.meta.weights, s.meta.fingerprint);
    printf("documents kept  at ratio %lu, rows of %lu numbers of %lu bits, at most %lu tokens\n", (unsigned long)s.meta.ratio,
           (unsigned long)s.meta.width, (unsigned long)s.meta.bits, (unsigned long)s.meta.max_doc_tokens);
    if (*s.meta.transform) printf("transform       %s\n", s.meta.transform);
    if (s.meta.split)
        printf("windows         of %lu tokens, sharing %lu\n", (unsigned long)s.meta.split, (unsigned long)s.meta.overlap);
    q = store_prepare(&s, "SELECT count(*), coalesce(sum(window = 0), 0), coalesce(sum(tokens_used), 0), coalesce(sum(tokens > "
                          "tokens_used), 0), coalesce(sum(length(document)), 0), coalesce(sum(length(CAST(text AS BLOB))), 0), "
                          "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size), "
                          "(SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size) FROM documents");
    if (store_step(&s, q)) {
        double rows = (double)sqlite3_column_int64(q, 0), bytes = (double)sqlite3_column_int64(q, 4);
        printf("documents       %.0f", (double)sqlite3_column_int64(q, 1));
        if (s.meta.split) printf(" in %.0f windows", rows);
        printf("\ntokens          %.0f", (double)sqlite3_column_int64(q, 2));
        if (rows > 0) printf(", %.1f a row of the store", (double)sqlite3_column_int64(q, 2) / rows);
        printf("\ncut             %.0f\n", (double)sqlite3_column_int64(q, 3));
        printf("bytes           %.0f of encoded documents", bytes);
        if (rows > 0) printf(", %.0f each", bytes / rows);
        printf("; %.0f of texts; %.0f of the file, %.0f of them free\n", (double)sqlite3_column_int64(q, 5),
               (double)sqlite3_column_int64(q, 6), (double)sqlite3_column_int64(q, 7));
    }
    sqlite3_finalize(q);
    store_close(&s);
    cmd_flush();
    return EXIT_OK;
}

/* whole_add of a command: without memory it ends. */
KALM__FN int look_add(whole_text *w, const store_row *r)
{
    int good = whole_add(w, r);
    if (good < 0) die("no memory for a text");
    return good;
}

/* One document of `key` as the input had it: a line of JSON. */
KALM__FN void export_json(const store *s, const char *key)
{
    sqlite3_stmt *q = store_prepare(s, "SELECT " STORE_COLUMNS " FROM documents WHERE key = ?1 ORDER BY window");
    char *title = NULL, *metadata = NULL;
    whole_text whole;
    store_row r;
    kalm_text text;
    memset(&whole, 0, sizeof whole);
    store_bind(s, q, 1, kalm__text(key));
    while (store_step(s, q)) {
        store_read_row(s, q, &r);
        if (r.window == 0) {
            free(title);
            free(metadata);
            title = cmd_copy(r.title);
            metadata = cmd_copy(r.metadata);
            store_check_metadata(s, r.metadata, r.number);
        }
        if (!look_add(&whole, &r)) die("%s: '%s' lacks a window", s->path, store_shown(kalm__text(key)));
    }
    sqlite3_finalize(q);
    if (!whole.windows) die("%s has no document '%s'", s->path, store_shown(kalm__text(key)));
    if (whole.next != whole.windows) die("%s: '%s' lacks a window", s->path, store_shown(kalm__text(key)));
    text.data = whole.text;
    text.size = whole.size;
    fputs("{\"_id\": ", stdout);
    cmd_json(stdout, kalm__text(key));
    if (*title) {
        fputs(", \"title\": ", stdout);
        cmd_json(stdout, kalm__text(title));
    }
    fputs(", \"text\": ", stdout);
    cmd_json(stdout, text);
    if (metadata[1] != '}') printf(", %s\n", metadata + 1);
    else fputs("}\n", stdout);
    free(title);
    free(metadata);
    free(whole.text);
}

KALM__FN void export_bytes(const store *s, const char *key, uint32_t window)
{
    sqlite3_stmt *q = store_prepare(s, "SELECT document FROM documents WHERE key = ?1 AND window = ?2");
    kalm_text bytes;
    store_bind(s, q, 1, kalm__text(key));
    store_check(s, sqlite3_bind_int64(q, 2, window));
    if (!store_step(s, q)) die("%s has no window %lu of '%s'", s->path, (unsigned long)window, store_shown(kalm__text(key)));
    bytes = store_document(s, q, 0, 0);
#if defined(_WIN32)
    _setmode(1, 0x8000);
#endif
    fwrite(bytes.data, 1, bytes.size, stdout);
    sqlite3_finalize(q);
}

KALM__FN int run_export(const options *o)
{
    store s;
    size_t i;
    store_open(&s, o->store, STORE_READ);
    if (o->bytes && (o->words != 1 || isatty(1))) die_usage("--bytes prints the bytes of one key, and not to a terminal");
    for (i = 0; i < o->words; i++)
        if (o->bytes) export_bytes(&s, o->word[i], o->window);
        else export_json(&s, o->word[i]);
    cmd_flush();
    store_close(&s);
    return EXIT_OK;
}

/* What is wrong with the encoded document of a row, or NULL; *err holds the words. model NULL: it is not at hand. */
KALM__FN const char *verify_document(const store *s, const kalm_model *model, const store_row *r, kalm_error *err)
{
    kalm_doc_info d;
    kalm_doc *doc = NULL;
    kalm__no_error(err);
    memset(&d, 0, sizeof d);
    if (model) {
        if (kalm_doc_open(model, r->document.data, r->document.size, 0, &doc, err)) return err->text;
        kalm_doc_get_info(doc, &d);
        kalm_doc_free(doc);
    } else if (store_check_document(s, r->document, &d, err)) return err->text;
    if (d.ratio != s->meta.ratio || d.bits != s->meta.bits) return "its ratio or bits are not those of the store";
    if (d.tokens != r->tokens || d.tokens_used != r->tokens_used) return "its tokens are not those of the document";
    return NULL;
}

/* A document whose rows are looked through. */
typedef struct verified {
    whole_text text;
    char      *key;                    /* owned */
} verified;

KALM__FN void verify_end(verified *v)
{
    free(v->text.text);
    free(v->key);
}

/* What is wrong with the text of a row, or NULL, given the rows before it. */
KALM__FN const char *verify_text(verified *v, const store_row *r)
{
    whole_text *w = &v->text;
    kalm_text all;
    char hash[17];
    int lacking = r->window == 0 && w->next != w->windows;
    if (r->window == 0) {
        free(v->key);
        v->key = cmd_copy(r->key);
    }
    if (!look_add(w, r) || strcmp(v->key, r->key.data) != 0) return "its windows do not follow each other";
    if (w->next == w->windows) {
        all.data = w->text;
        all.size = w->size;
        store_write_hash(hash, fill_hash(r->title, all));
        if (r->hash.size != 16 || memcmp(hash, r->hash.data, 16) != 0) return "its text is not what was encoded";
    }
    return lacking ? "the text before it lacks windows" : NULL;
}

KALM__FN int run_verify(const options *o)
{
    store s;
    kalm_model *model = NULL;
    kalm_model_info info;
    kalm_error err;
    sqlite3_stmt *q;
    verified whole;
    store_row r;
    again compared;
    const char *said;
    char wrong[STORE_WHY];
    size_t rows = 0, documents = 0, bad = 0;
    memset(&whole, 0, sizeof whole);
    memset(&info, 0, sizeof info);
    store_open(&s, o->store, STORE_READ);
    if (o->model) {
        if (kalm_model_open(o->model, &o->config, &model, &err)) return cmd_failed(&err);
        kalm_model_get_info(model, &info);
        store_demand(&s, o->model, &info);
    }
    again_begin(&compared, o, &s, model, &info);
    s.why = wrong;                     /* all that is damaged is told, not the first alone */
    q = store_prepare(&s, "PRAGMA quick_check(1)");
    said = store_step(&s, q) ? (const char *)sqlite3_column_text(q, 0) : "";
    if (!said) die("%s: no memory", s.path);
    if (strcmp(said, "ok") != 0) die("%s is damaged: %s", s.path, store_shown(kalm__text(said)));
    sqlite3_finalize(q);
    q = store_prepare(&s, "SELECT " STORE_COLUMNS " FROM documents ORDER BY key, window");
    while (store_step(&s, q)) {
        const char *why = wrong;
        wrong[0] = 0;
        store_read_row(&s, q, &r);
        store_check_metadata(&s, r.metadata, r.number);
        documents += r.window == 0;
        rows++;
        if (!wrong[0]) why = verify_document(&s, model, &r, &err);
        if (!why) why = verify_text(&whole, &r);
        else (void)verify_text(&whole, &r);
        if (!why) {
            again_add(&compared, &r);
            continue;
        }
        say_plainly("%s: row %lld, '%s': %s", s.path, (long long)r.number, store_shown(r.key), why);
        bad++;
    }
    if (whole.text.next != whole.text.windows) {
        say_plainly("%s: the last text lacks windows", s.path);
        bad++;
    }
    sqlite3_finalize(q);
    again_end(&compared);
    bad += compared.bad;
    verify_end(&whole);
    store_close(&s);
    kalm_model_close(model);
    if (bad) die("%lu of the %lu rows of %s are damaged", (unsigned long)bad, (unsigned long)rows, o->store);
    if (!o->quiet) printf("%lu documents in %lu rows are whole\n", (unsigned long)documents, (unsigned long)rows);
    cmd_flush();
    return EXIT_OK;
}

#endif
