/* search_add.h - kalm-search MODEL DB PATH..., --update, --forget and --info: opens or makes a database, says which files and folders
   are its sources, and has them read (search_update.h). Included behind search_update.h and search_options.h. */
#ifndef KALM_SEARCH_ADD_H
#define KALM_SEARCH_ADD_H

/* From the root, to be freed; ends the command where there is nothing of that name. */
KALM__FN char *search_real_path(const char *path)
{
    char *real = *path ? realpath(path, NULL) : NULL;
    if (!*path) die_usage("the name of an input is empty");
    if (!real) die("cannot read %s: %s", path, kalm__os_error());
    return real;
}

/* The model of a database: the one that was named, else the one that the database remembers. To be freed. */
KALM__FN char *search_model_path(const store *s, const char *named)
{
    char *kept;
    if (named) return search_real_path(named);
    kept = search_get_meta(s, "search_model");
    if (!kept || !*kept) die("%s does not say where its model is: --model FILE does", s->path);
    if (!kalm__file_exists(kept)) die("the model of %s is not at %s any more: --model FILE says where it is now", s->path, kept);
    return kept;
}

KALM__FN void search_open_model(const options *o, const store *s, const char *path, kalm_model **model, kalm_model_info *info)
{
    kalm_error err;
    if (kalm_model_open(path, &o->config, model, &err)) exit(cmd_failed(&err));
    kalm_model_get_info(*model, info);
    if (!info->has_tokenizer) die("%s holds no tokenizer: texts cannot be encoded", path);
    if (s) store_demand(s, path, info);
}

/* The settings of a new database. */
KALM__FN void search_new_meta(store_meta *m, const options *o, const kalm_model_info *info)
{
    store_new_meta(m, info, o->ratio, o->bits);
    m->split = o->has_split ? o->split : (uint32_t)kalm__min(256, (size_t)info->max_tokens);
    m->overlap = o->overlap;
    /* room for the title, and for a passage's tokens not being those of the whole text at its edges */
    m->max_doc_tokens = (uint32_t)kalm__min((size_t)m->split + 256, info->max_tokens);
    if (m->split > m->max_doc_tokens) die("--split is %lu, the model reads %lu", (unsigned long)m->split, (unsigned long)info->max_tokens);
}

/* The database for writing, with its model. create: it may be new, and the model was named. */
KALM__FN void search_begin_update(search_update *u, const options *o, int create)
{
    kalm_model_info info;
    kalm_config config = o->config;
    kalm_error err;
    store_meta m;
    char *path;
    memset(u, 0, sizeof *u);
    u->o = o;
    if (create && !kalm__file_exists(o->database)) {       /* what the model cannot do is said before there is a file */
        search_open_model(o, NULL, o->model, &u->model, &info);
        search_new_meta(&m, o, &info);
    }
    if (!store_open(&u->s, o->database, STORE_SEARCH | (create ? STORE_CREATE : STORE_WRITE))) {
        if (!u->model) search_open_model(o, NULL, o->model, &u->model, &info);
        search_new_meta(&m, o, &info);
        store_create(&u->s, &m);
    }
    if (!u->s.searched && !create) die("%s was made by kalm-index, which keeps no words to search by", u->s.path);
    search_bound_memory(&u->s, (int64_t)o->max_mib << 20);
    path = o->model ? search_model_path(&u->s, o->model) : NULL;
    search_create(&u->s, path);
    search_demand_words(&u->s);
    if (!path) path = search_model_path(&u->s, NULL);
    if (!u->model) search_open_model(o, &u->s, path, &u->model, &info);
    kalm_model_get_info(u->model, &info);
    store_demand(&u->s, path, &info);
    store_demand_number(&u->s, "--ratio", o->ratio != 0, o->ratio, u->s.meta.ratio);
    store_demand_number(&u->s, "--bits", o->bits != 0, o->bits, u->s.meta.bits);
    store_demand_number(&u->s, "--split", o->has_split, o->split, u->s.meta.split);
    store_demand_number(&u->s, "--overlap", o->has_overlap, o->overlap, u->s.meta.overlap);
    config.max_doc_tokens = u->s.meta.max_doc_tokens;
    if (kalm_context_new(u->model, &config, &u->ctx, &err)) exit(cmd_failed(&err));
    store_begin_writing(&u->s);
    if (o->model) search_put_meta(&u->s, "search_model", kalm__text(path));
    search_get_secret(&u->s, u->kept);
    cmd_secret(u->run);
    free(path);
    search_index_begin(&u->words, &u->s);
    u->find_file = store_prepare(&u->s, "SELECT size, modified, hash, documents, note FROM search_files WHERE path = ?1");
    u->put_file = store_prepare(&u->s, "INSERT INTO search_files VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (path) DO UPDATE SET size = ?2, "
                                       "modified = ?3, hash = ?4, documents = ?5, note = ?6");
    u->drop_file = store_prepare(&u->s, "DELETE FROM search_files WHERE path = ?1");
    u->find_doc = store_prepare(&u->s, STORE_SAME_ROWS(", metadata"));
    u->set_metadata = store_prepare(&u->s, "UPDATE documents SET metadata = ?2 WHERE key = ?1");
    u->drop_doc = store_prepare(&u->s, "DELETE FROM documents WHERE key = ?1");
    u->keys = store_prepare(&u->s, "SELECT key FROM documents WHERE key = ?1 AND window = 0 UNION ALL "
                                   "SELECT key FROM documents WHERE key > ?1 || '/' AND key < ?1 || '0' AND window = 0");
    fill_begin(&u->f, &u->s, u->model, u->ctx, o->batch, config.threads);
    u->f.bytes = 1 << 20;
    u->f.natural = 1;
    u->f.look = search_show;
    u->f.dropped = search_on_dropped;
    u->f.added = search_on_added;
    u->f.stored = search_on_stored;
    u->f.user = u;
    u->f.show = &u->show;
    u->f.quiet = o->quiet;
    u->taker.take = search_take;
    u->taker.bad = search_bad;
    u->taker.user = u;
    u->taker.largest = (uint64_t)o->max_mib << 20;
}

KALM__FN void search_end_update(search_update *u)
{
    size_t i;
    fill_end(&u->f);
    search_index_end(&u->words);
    sqlite3_finalize(u->find_file);
    sqlite3_finalize(u->put_file);
    sqlite3_finalize(u->drop_file);
    sqlite3_finalize(u->find_doc);
    sqlite3_finalize(u->set_metadata);
    sqlite3_finalize(u->drop_doc);
    sqlite3_finalize(u->keys);
    store_close(&u->s);
    for (i = 0; i < u->endeds; i++) {
        search_list_end(u->ended[i].gone, u->ended[i].gones);
        free(u->ended[i].path);
    }
    for (i = 0; i < u->missings; i++) free(u->missing[i].path);
    free(u->ended);
    free(u->missing);
    free(u->key);
    free(u->seen);
    free(u->seen_content);
    search_files_end(&u->files);
    kalm_context_free(u->ctx);
    kalm_model_close(u->model);
}

/* All sources of the database; to be given back by search_list_end. */
KALM__FN char **search_sources(const store *s, size_t *count)
{
    sqlite3_stmt *q = store_prepare(s, "SELECT path FROM search_sources");
    char **list = NULL;
    size_t room = 0;
    *count = 0;
    while (store_step(s, q)) {
        char *path = search_read_path(s, q, "search_sources");
        search_list_add(&list, count, &room, path);
        free(path);
    }
    sqlite3_finalize(q);
    return list;
}

KALM__FN void search_begin_show(search_update *u, const options *o)
{
    cmd_progress_begin(&u->show, "");
    u->show.every = 2;
    u->show.quiet = o->quiet;
}

/* After many changes FTS5 has its index in several pieces; one is faster to ask. */
KALM__FN void search_tidy(search_update *u)
{
    if (kalm__interrupted || (u->f.windows < 1000 && u->forgotten < 1000)) return;
    store_exec(&u->s, "INSERT INTO search_words (search_words) VALUES ('optimize')");
}

KALM__FN int search_status(const search_update *u)
{
    if (!kalm__interrupted) return u->bad ? EXIT_BAD_INPUT : EXIT_OK;
    fprintf(stderr, "%s: interrupted; %s --update goes on from there\n", cmd_name, u->o->database);
    return EXIT_INTERRUPTED;
}

/* Read the sources paths[0 .. count), which are given back, and say how it went. */
KALM__FN int search_all(search_update *u, const options *o, char **paths, size_t count)
{
    search_begin_show(u, o);
    search_pass(u, paths, count);
    search_tidy(u);
    search_list_end(paths, count);
    if (!o->quiet && !kalm__interrupted) search_summary(u);
    return search_status(u);
}

/* MODEL DB PATH... */
KALM__FN int run_add(search_update *u, const options *o)
{
    char **paths = NULL;
    size_t count = 0, room = 0, i;
    sqlite3_stmt *q;
    for (i = 0; i < o->words; i++) {
        char *real = search_real_path(o->word[i]);
        if (!kalm__directory_exists(real) && !kalm__file_exists(real)) die("cannot read %s", real);
        search_list_add(&paths, &count, &room, real);
        free(real);
    }
    search_begin_update(u, o, 1);
    q = store_prepare(&u->s, "INSERT OR IGNORE INTO search_sources VALUES (?1)");
    for (i = 0; i < count; i++) {
        search_bind_path(&u->s, q, paths[i]);
        store_run(&u->s, q);
    }
    sqlite3_finalize(q);
    return search_all(u, o, paths, count);
}

/* --update: all that was ever named. */
KALM__FN int run_update(search_update *u, const options *o)
{
    char **paths;
    size_t count;
    search_begin_update(u, o, 0);
    paths = search_sources(&u->s, &count);
    return search_all(u, o, paths, count);
}

/* --forget PATH...: no longer a source; what no other source has is removed. */
KALM__FN int run_forget(search_update *u, const options *o)
{
    char **left;
    size_t count, i, k, done = 0;
    sqlite3_stmt *q;
    search_begin_update(u, o, 0);
    q = store_prepare(&u->s, "DELETE FROM search_sources WHERE path = ?1");
    for (i = 0; i < o->words; i++) {
        char *real = realpath(o->word[i], NULL);       /* it may be gone already */
        search_bind_path(&u->s, q, real ? real : o->word[i]);
        store_run(&u->s, q);
        if (!sqlite3_changes(u->s.db)) die("%s has no source %s (--info names them)", u->s.path, real ? real : o->word[i]);
        free(real);
    }
    sqlite3_finalize(q);
    left = search_sources(&u->s, &count);
    q = store_prepare(&u->s, "SELECT path FROM search_files");
    while (store_step(&u->s, q)) {
        char *path = search_read_path(&u->s, q, "search_files");
        int kept = 0;
        for (k = 0; k < count && !kept; k++) kept = search_is_below(path, strlen(path), left[k]);
        if (!kept) search_list_add(&u->files.closed, &u->files.closeds, &u->files.closed_room, path);
        free(path);
    }
    sqlite3_finalize(q);
    for (i = 0; i < u->files.closeds && !kalm__interrupted; i++) {
        if (!done++) store_exec(&u->s, "BEGIN IMMEDIATE");
        search_drop_file(u, u->files.closed[i]);
        if (done == 100) store_exec(&u->s, "COMMIT"), done = 0;
    }
    if (done) store_exec(&u->s, "COMMIT");
    if (!o->quiet) fprintf(stderr, "%lu files forgotten\n", (unsigned long)i);
    search_list_end(left, count);
    return search_status(u);
}

/* --info */
KALM__FN int run_search_info(const options *o)
{
    store s;
    char **sources, *model;
    size_t count, i;
    store_open(&s, o->database, STORE_READ | STORE_SEARCH);
    if (!s.searched) die("%s was made by kalm-index, which keeps no words to search by", s.path);
    search_bound_memory(&s, 0);
    model = search_get_meta(&s, "search_model");
    sources = search_sources(&s, &count);
    printf("model      %s (%s, %s weights, fingerprint %s)\n", model ? store_shown(kalm__text(model)) : "unknown", s.meta.model, s.meta.weights, s.meta.fingerprint);
    for (i = 0; i < count; i++) printf("source     %s\n", store_shown(kalm__text(sources[i])));
    printf("files      %lld, %lld of them without text\n", (long long)store_number(&s, "SELECT count(*) FROM search_files"),
           (long long)store_number(&s, "SELECT count(*) FROM search_files WHERE documents = 0"));
    printf("documents  %lld in %lld passages of at most %lu tokens\n",
           (long long)store_number(&s, "SELECT count(*) FROM documents WHERE window = 0"),
           (long long)store_number(&s, "SELECT count(*) FROM documents"), (unsigned long)s.meta.split);
    printf("rows       of %lu tokens each (ratio), %lu bits a number\n", (unsigned long)s.meta.ratio, (unsigned long)s.meta.bits);
    printf("bytes      %lld\n", (long long)store_number(&s, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"));
    search_list_end(sources, count);
    free(model);
    store_close(&s);
    cmd_flush();
    return EXIT_OK;
}

#endif
