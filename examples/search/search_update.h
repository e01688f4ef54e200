/* search_update.h - brings a database to what its files are now, and reads only what changed: a file of the same size and time is not
   opened; one of another time but the same bytes is not taken apart; of one that changed, the documents that are as they were
   are not encoded again; one that was renamed keeps its documents under the new name; what is gone is forgotten.

   A batch of documents, the words to find them by and the files that ended in it are one transaction: a killed run leaves a
   database that is whole, and the next one goes on from there. A file is noted when all of its documents are in.

   The key of a document is the file's path; of a record or a message of a file it is the path, a slash and its own key. No
   file can lie below another, so the keys "path/..." are those of the file `path` alone. Included behind store_fill.h,
   search_schema.h and search_text.h. */
#ifndef KALM_SEARCH_UPDATE_H
#define KALM_SEARCH_UPDATE_H

enum {
    SEARCH_HEAD = 4096,                /* first bytes of a file, which tell what it is */
    SEARCH_NOTE = 128                  /* bytes of a note in search_files, with the NUL */
};

/* A row of search_files that is to be written with a batch: of a file whose last document is in it, or whose first may be. */
typedef struct search_ended {
    uint64_t  batch;
    char     *path;
    int64_t   size, modified;
    size_t    documents;
    char      hash[17], note[SEARCH_NOTE];
    char    **gone;                    /* [gones] keys that the file had before */
    size_t    gones;
} search_ended;

/* A file of the database that is not there any more; its documents may be those of a new file. */
typedef struct search_missing {
    char   *path;
    int64_t size;
    char    hash[17];
    int     moved;
} search_missing;

typedef struct search_update {
    const options *o;
    store         s;
    kalm_model   *model;
    kalm_context *ctx;
    fill          f;
    search_index  words;
    search_files  files;
    search_taker  taker;
    search_ended *ended;               /* [endeds] in their order */
    size_t        endeds, ended_room;
    search_missing *missing;           /* [missings] */
    size_t        missings, missing_room;
    sqlite3_stmt *find_file, *put_file, *drop_file, *find_doc, *set_metadata, *drop_doc, *keys;
    cmd_progress  show;
    /* the file at hand */
    const search_file *file;
    uint64_t      kept[2], run[2];     /* keys of hashes: the database's (search_get_secret) and this run's */
    char         *key;                 /* of its documents; key_size bytes are the file's own */
    size_t        key_size, key_room;
    uint64_t     *seen, *seen_content; /* [seens] hashes of the keys that it has, and of their texts; an open table of `slots` */
    size_t        seens, slots;
    size_t        documents;
    char          note[SEARCH_NOTE];
    /* figures of this run */
    uint64_t      bytes, bytes_done;
    size_t        unchanged, same_bytes, read, moved, forgotten, known, bad;
    double        first_time;          /* when the first text went to the encoder */
    uint64_t      first_byte;
} search_update;

/* ---- progress ---------------------------------------------------------------------------------------------------------- */

KALM__FN void search_show(void *user)
{
    search_update *u = (search_update *)user;
    double at, share, left = -1, done, spent;
    char note[160];
    if (!cmd_progress_due(&u->show)) return;
    at = (double)u->bytes_done + (u->file ? (double)kalm__min(u->taker.place, (uint64_t)u->file->size) : 0) - fill_waiting(&u->f);
    share = u->bytes ? at / (double)u->bytes : 1;
    done = fill_done(&u->f);
    spent = u->first_time > 0 ? kalm__now() - u->first_time : 0;
    snprintf(note, sizeof note, spent > 0.5 ? "%.0f documents  %.1f/s" : "%.0f documents", done, spent > 0.5 ? done / spent : 0);
    if (spent > 1 && at > (double)u->first_byte) left = spent / (at - (double)u->first_byte) * ((double)u->bytes - at);
    cmd_progress_line(&u->show, share < 0 ? 0 : share, note, left);
}

/* ---- the file at hand -------------------------------------------------------------------------------------------------- */

/* The file's part of the keys: its path. One that is no UTF-8 gets a second slash in front, which no path has, and %XX for the
   bytes that are none and for the percent sign, so that no two files have one key. */
KALM__FN void search_set_key(search_update *u, const char *path)
{
    kalm_text whole = kalm__text(path);
    size_t n = whole.size, i, size;
    int good = store_bad_byte(whole) == n;
    if (n * 3 + 2 > u->key_room) u->key = (char *)cmd_grow(u->key, u->key_room = n * 3 + 1024);
    u->key_size = 0;
    if (!good) u->key[u->key_size++] = '/';
    for (i = 0; i < n; i += size) {
        size = kalm__json_utf8((const unsigned char *)path + i, n - i);
        if (size && (good || path[i] != '%')) memcpy(u->key + u->key_size, path + i, size), u->key_size += size;
        else size = 1, u->key_size += (size_t)sprintf(u->key + u->key_size, "%%%02X", (unsigned char)path[i]);
    }
    u->key[u->key_size] = 0;
}

KALM__FN kalm_text search_doc_key(search_update *u, kalm_text id)
{
    kalm_text key;
    key.size = u->key_size;
    if (id.size) {
        if (u->key_size + id.size + 2 > u->key_room) u->key = (char *)cmd_grow(u->key, u->key_room = u->key_size + id.size * 2 + 1024);
        u->key[u->key_size] = '/';
        memcpy(u->key + u->key_size + 1, id.data, id.size);
        key.size += 1 + id.size;
    }
    key.data = u->key;
    return key;
}

/* A new file begins. */
KALM__FN void search_unsee(search_update *u)
{
    if (u->slots > 4096) {             /* of a large file: no other shall clear so much */
        free(u->seen);
        free(u->seen_content);
        u->seen = u->seen_content = NULL;
        u->slots = 0;
    }
    if (u->slots) memset(u->seen, 0, u->slots * sizeof *u->seen);
    u->seens = 0;
}

KALM__FN size_t search_slot(const search_update *u, uint64_t key)
{
    size_t at = (size_t)key & (u->slots - 1);
    while (u->seen[at] && u->seen[at] != key) at = (at + 1) & (u->slots - 1);
    return at;
}

KALM__FN uint64_t search_key_hash(const search_update *u, kalm_text key)
{
    uint64_t hash = kalm__siphash(u->run, key.data, key.size);
    return hash ? hash : 1;
}

/* Has the file had a document of this key? 0: no, and now it has; 1: with the same content; 2: with another. content 0: only ask, where 2 is
   yes; one that was not kept (search_unkept) is none. */
KALM__FN int search_seen(search_update *u, kalm_text text, uint64_t content)
{
    uint64_t key = search_key_hash(u, text);
    size_t at, i;
    if (u->seens * 2 >= u->slots) {
        size_t before = u->slots;
        uint64_t *old = u->seen, *old_content = u->seen_content;
        u->slots = before ? before * 2 : 1024;
        u->seen = (uint64_t *)cmd_alloc(u->slots * sizeof *u->seen);
        u->seen_content = (uint64_t *)cmd_alloc(u->slots * sizeof *u->seen_content);
        memset(u->seen, 0, u->slots * sizeof *u->seen);
        for (i = 0; i < before; i++) {
            if (!old[i]) continue;
            at = search_slot(u, old[i]);
            u->seen[at] = old[i];
            u->seen_content[at] = old_content[i];
        }
        free(old);
        free(old_content);
    }
    at = search_slot(u, key);
    if (u->seen[at] && u->seen_content[at]) return u->seen_content[at] == content ? 1 : 2;
    if (!content) return 0;
    if (!u->seen[at]) u->seens++;
    u->seen[at] = key;
    u->seen_content[at] = content;
    return 0;
}

/* The document of this key, which was seen, is not kept: what the database has of the key is of an older file, and goes. */
KALM__FN void search_unkept(search_update *u, kalm_text key) { u->seen_content[search_slot(u, search_key_hash(u, key))] = 0; }

/* Why a file was left out, for the table search_files: the store takes UTF-8 alone. */
KALM__FN void search_set_note(char *note, const char *why) { cmd_keep_utf8(note, SEARCH_NOTE, why, 1); }

KALM__FN void search_bad(void *user, unsigned long line, const char *why)
{
    search_update *u = (search_update *)user;
    const char *also = line && u->note[0] ? "" : why;
    cmd_progress_clear(&u->show);
    if (line) say_plainly("%s:%lu: %s", u->file->path, line, why);
    else say_plainly("%s: %s", u->file->path, why);
    u->bad++;
    if (*also) search_set_note(u->note, why);
}

/* A document of the file: passed over if the database has it, else to the encoder. */
KALM__FN void search_take(void *user, const search_doc *d, unsigned long line)
{
    search_update *u = (search_update *)user;
    kalm_text key = search_doc_key(u, d->id);
    uint64_t content = kalm__siphash_both(u->run, d->title, d->text) | 1;  /* 0 says that there is none */
    char hash[17], made[17], why[200];
    int seen = search_seen(u, key, content), replaces = 0, same = 0;
    if (seen == 2 && d->made) {        /* somebody made a message for the id of another: this one gets one that cannot be foreseen */
        store_write_hash(made, kalm__siphash_both(u->kept, d->title, d->text));
        key = search_doc_key(u, kalm__text(made));
        seen = search_seen(u, key, content);
    }
    if (seen == 1) return;
    if (seen == 2) {
        snprintf(why, sizeof why, "the key '%s' came before with another text", store_shown(d->id));
        search_bad(u, line, why);
        return;
    }
    u->documents++;
    store_write_hash(hash, fill_hash(d->title, d->text));
    store_bind(&u->s, u->find_doc, 1, key);
    if (store_step(&u->s, u->find_doc)) {
        same_text text;
        int same_metadata = kalm__same_text(store_text(&u->s, u->find_doc, 6, 0), d->metadata);
        replaces = 1;
        same_begin(&text, d->title, d->text, hash);
        if (same_rows(&text, &u->s, u->find_doc)) same = same_metadata ? 2 : 1;
    }
    store_check(&u->s, sqlite3_reset(u->find_doc));
    if (same == 1) {
        store_bind(&u->s, u->set_metadata, 1, key);
        store_bind(&u->s, u->set_metadata, 2, d->metadata);
        store_run(&u->s, u->set_metadata);
    }
    if (same) {
        u->known++;
        if (!(u->known & 1023)) search_show(u);
        return;
    }
    if (u->first_time <= 0) {
        u->first_time = kalm__now();
        u->first_byte = u->bytes_done + u->taker.place;
    }
    if (!fill_add(&u->f, key, d->title, d->text, d->metadata, hash, replaces)) {
        u->documents--;
        search_unkept(u, key);
        search_bad(u, line, "cannot be split: its tokens do not spell the text");
    }
}

/* Keys that the database has of the file (or would have: those below it) and that the file had not this time. */
KALM__FN char **search_gone(search_update *u, size_t *count)
{
    char **gone = NULL;
    size_t room = 0;
    *count = 0;
    store_bind(&u->s, u->keys, 1, search_doc_key(u, kalm__text("")));
    while (store_step(&u->s, u->keys)) {
        kalm_text key = store_text(&u->s, u->keys, 0, 0);
        if (!search_seen(u, key, 0)) search_list_add(&gone, count, &room, key.data);
    }
    store_check(&u->s, sqlite3_reset(u->keys));
    return gone;
}

KALM__FN search_ended *search_end(search_update *u, const search_file *f, const char *hash)
{
    search_ended *e;
    if (u->endeds == u->ended_room)
        u->ended = (search_ended *)cmd_grow(u->ended, (u->ended_room = u->ended_room ? u->ended_room * 2 : 256) * sizeof *u->ended);
    e = &u->ended[u->endeds++];
    memset(e, 0, sizeof *e);
    e->path = cmd_copy(kalm__text(f->path));
    e->size = f->size;
    e->modified = f->modified;
    memcpy(e->hash, hash, sizeof e->hash);
    return e;
}

/* ---- what is written ---------------------------------------------------------------------------------------------------- */

KALM__FN void search_bind_path(const store *s, sqlite3_stmt *q, const char *path)
{
    store_check(s, sqlite3_bind_blob64(q, 1, path, strlen(path), SQLITE_STATIC));
}

KALM__FN void search_put_file(search_update *u, const char *path, int64_t size, int64_t modified, const char *hash, size_t documents, const char *note)
{
    sqlite3_stmt *q = u->put_file;
    search_bind_path(&u->s, q, path);
    store_check(&u->s, sqlite3_bind_int64(q, 2, size));
    store_check(&u->s, sqlite3_bind_int64(q, 3, modified));
    store_bind(&u->s, q, 4, kalm__text(hash));
    store_check(&u->s, sqlite3_bind_int64(q, 5, (sqlite3_int64)documents));
    store_bind(&u->s, q, 6, kalm__text(note));
    store_run(&u->s, q);
}

KALM__FN void search_drop_key(search_update *u, kalm_text key)
{
    search_index_drop(&u->words, key);
    store_bind(&u->s, u->drop_doc, 1, key);
    store_run(&u->s, u->drop_doc);
}

/* All of a file, in the caller's transaction. */
KALM__FN void search_drop_file(search_update *u, const char *path)
{
    size_t count, i;
    char **gone;
    search_set_key(u, path);
    search_unsee(u);
    gone = search_gone(u, &count);
    for (i = 0; i < count; i++) search_drop_key(u, kalm__text(gone[i]));
    search_list_end(gone, count);
    search_bind_path(&u->s, u->drop_file, path);
    store_run(&u->s, u->drop_file);
}

KALM__FN void search_on_dropped(void *user, kalm_text key) { search_index_drop(&((search_update *)user)->words, key); }

KALM__FN void search_on_added(void *user, int64_t number, const fill_doc *doc, const fill_piece *piece)
{
    search_index_add(&((search_update *)user)->words, number, doc->key, doc->title, piece->text);
}

/* The files whose last document is in this batch or came before. */
KALM__FN void search_on_stored(void *user, uint64_t batch)
{
    search_update *u = (search_update *)user;
    size_t i, k;
    for (i = 0; i < u->endeds && u->ended[i].batch <= batch; i++) {
        search_ended *e = &u->ended[i];
        for (k = 0; k < e->gones; k++) search_drop_key(u, kalm__text(e->gone[k]));
        u->forgotten += e->gones;
        search_put_file(u, e->path, e->size, e->modified, e->hash, e->documents, e->note);
        search_list_end(e->gone, e->gones);
        free(e->path);
    }
    memmove(u->ended, u->ended + i, (u->endeds - i) * sizeof *u->ended);
    u->endeds -= i;
}

/* A note of the table search_files, mended where it is no UTF-8: it was cut within a character once, which is no reason to refuse a database. */
KALM__FN void search_read_note(sqlite3_stmt *q, int i, char *note)
{
    const char *text = (const char *)sqlite3_column_text(q, i);
    search_set_note(note, text ? text : "");
}

/* A new file has the bytes of one that is gone: its documents get the new name, in the caller's transaction. */
KALM__FN void search_move(search_update *u, search_missing *m, const search_file *f)
{
    sqlite3_stmt *rename = store_prepare(&u->s, "UPDATE documents SET key = ?2 WHERE key = ?1");
    sqlite3_stmt *rows = store_prepare(&u->s, "SELECT number, key, title, text FROM documents WHERE key = ?1");
    sqlite3_stmt *count_of = store_prepare(&u->s, "SELECT documents, note FROM search_files WHERE path = ?1");
    size_t count, i, old_size, documents = 0;
    char **keys, note[SEARCH_NOTE];
    note[0] = 0;
    search_set_key(u, m->path);
    old_size = u->key_size;
    search_unsee(u);
    keys = search_gone(u, &count);
    search_set_key(u, f->path);
    search_bind_path(&u->s, count_of, m->path);
    if (store_step(&u->s, count_of)) {
        documents = (size_t)store_int(&u->s, count_of, 0, 0, 0, INT64_MAX);
        search_read_note(count_of, 1, note);
    }
    sqlite3_finalize(count_of);
    for (i = 0; i < count; i++) {
        kalm_text id, key;
        id.data = keys[i] + old_size;
        id.size = strlen(keys[i]) - old_size;
        if (id.size) id.data++, id.size--;
        key = search_doc_key(u, id);
        search_index_drop(&u->words, kalm__text(keys[i]));
        store_bind(&u->s, rename, 1, kalm__text(keys[i]));
        store_bind(&u->s, rename, 2, key);
        store_run(&u->s, rename);
        store_bind(&u->s, rows, 1, key);
        while (store_step(&u->s, rows)) {
            int64_t number = store_int(&u->s, rows, 0, sqlite3_column_int64(rows, 0), 1, STORE_LAST_NUMBER);
            kalm_text title = store_text(&u->s, rows, 2, number);
            search_index_add(&u->words, number, key, title, store_text(&u->s, rows, 3, number));
        }
        store_check(&u->s, sqlite3_reset(rows));
    }
    search_bind_path(&u->s, u->drop_file, m->path);
    store_run(&u->s, u->drop_file);
    search_put_file(u, f->path, f->size, f->modified, m->hash, documents, note);
    search_list_end(keys, count);
    sqlite3_finalize(rename);
    sqlite3_finalize(rows);
    m->moved = 1;
    u->moved++;
}

/* ---- the pass over the files --------------------------------------------------------------------------------------------- */

/* What the database says of a file. 0: nothing. */
KALM__FN int search_find_file(search_update *u, const search_file *f, int64_t *size, int64_t *modified, char *hash, size_t *documents, char *note)
{
    kalm_text t;
    int there;
    search_bind_path(&u->s, u->find_file, f->path);
    there = store_step(&u->s, u->find_file);
    if (there) {
        *size = store_int(&u->s, u->find_file, 0, 0, 0, INT64_MAX);
        *modified = store_int(&u->s, u->find_file, 1, 0, INT64_MIN, INT64_MAX);
        t = store_text(&u->s, u->find_file, 2, 0);
        if (!store_is_hash(t.data, t.size)) die("%s: the hash of a file in its table search_files is none", u->s.path);
        memcpy(hash, t.data, 17);
        *documents = (size_t)store_int(&u->s, u->find_file, 3, 0, 0, INT64_MAX);
        search_read_note(u->find_file, 4, note);
    }
    store_check(&u->s, sqlite3_reset(u->find_file));
    return there;
}

/* 1: the file is not as it was when the walk saw it, and is to be looked at again next time. Within two seconds of now it may still
   change without a new time. */
KALM__FN int search_is_racy(const search_file *f)
{
    struct stat st;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (stat(f->path, &st) || (int64_t)st.st_size != f->size || search_modified(&st) != f->modified) return 1;
    return f->modified > ((int64_t)now.tv_sec - 2) * 1000000000;
}

KALM__FN void search_one_file(search_update *u, const search_file *f)
{
    char hash[17], old_hash[17], head[SEARCH_HEAD], note[SEARCH_NOTE];
    int64_t size = 0, modified = 0;
    size_t documents = 0, head_size;
    int there = search_find_file(u, f, &size, &modified, old_hash, &documents, note);
    search_ended *e;
    if (there && modified && size == f->size && modified == f->modified) {
        u->unchanged++;
        return;
    }
    u->file = f;
    u->note[0] = 0;
    u->documents = 0;
    u->taker.place = 0;
    if (!search_file_hash(f, u->kept, hash, head, &head_size, SEARCH_HEAD)) {
        search_bad(u, 0, kalm__os_error());        /* it stays as the database has it, and is tried again next time */
        u->file = NULL;
        return;
    }
    if (kalm__interrupted) return;
    if (there && size == f->size && !strcmp(hash, old_hash)) {
        u->same_bytes++;
        e = search_end(u, f, hash);
        e->documents = documents;
        memcpy(e->note, note, sizeof e->note);
    } else {
        u->read++;
        search_unsee(u);
        search_set_key(u, f->path);
        e = search_end(u, f, "0000000000000000");  /* no later than its first document: after a kill it is known whose that is, and read again */
        e->modified = 0;
        e->batch = u->f.batches + 1;
        search_take_file(&u->taker, f, head, head_size);
        if (kalm__interrupted) return;
        if (u->taker.failed) {         /* what was not read is not gone, and that row says that the file is to be read again */
            fill_mark(&u->f);
            u->file = NULL;
            return;
        }
        e = search_end(u, f, hash);
        e->documents = u->documents;
        memcpy(e->note, u->note, sizeof e->note);
        e->gone = search_gone(u, &e->gones);
    }
    if (search_is_racy(f)) e->modified = 0;
    e->batch = u->f.batches + 1;
    fill_mark(&u->f);
    u->file = NULL;
}

/* ---- what is gone -------------------------------------------------------------------------------------------------------- */

KALM__FN int search_has_file(const search_files *f, const char *path)
{
    search_file key;
    memset(&key, 0, sizeof key);
    key.path = cmd_copy(kalm__text(path));
    if (!f->count || !bsearch(&key, f->file, f->count, sizeof key, search_by_path)) {
        free(key.path);
        return 0;
    }
    free(key.path);
    return 1;
}

/* The files of the database below the folders that were walked which are there no more. Those in folders that could not be
   read stay. */
KALM__FN void search_find_missing(search_update *u, char **roots, size_t count)
{
    sqlite3_stmt *q = store_prepare(&u->s, "SELECT path, size, hash FROM search_files");
    size_t i;
    while (store_step(&u->s, q)) {
        char *path = search_read_path(&u->s, q, "search_files");
        size_t n = strlen(path);
        kalm_text hash;
        search_missing *m;
        int below = 0;
        for (i = 0; i < count && !below; i++) below = search_is_below(path, n, roots[i]);
        for (i = 0; i < u->files.closeds && below; i++) below = !search_is_below(path, n, u->files.closed[i]);
        if (!below || search_has_file(&u->files, path)) {
            free(path);
            continue;
        }
        if (u->missings == u->missing_room)
            u->missing = (search_missing *)cmd_grow(u->missing, (u->missing_room = u->missing_room ? u->missing_room * 2 : 64) * sizeof *u->missing);
        m = &u->missing[u->missings++];
        memset(m, 0, sizeof *m);
        m->path = path;
        m->size = store_int(&u->s, q, 1, 0, 0, INT64_MAX);
        hash = store_text(&u->s, q, 2, 0);
        if (!store_is_hash(hash.data, hash.size)) die("%s: the hash of a file in its table search_files is none", u->s.path);
        memcpy(m->hash, hash.data, 17);
    }
    sqlite3_finalize(q);
}

KALM__FN int search_by_size(const void *pa, const void *pb)
{
    const search_missing *a = (const search_missing *)pa, *b = (const search_missing *)pb;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return strcmp(a->path, b->path);
}

/* Was the missing file what the new one is, by name and place? Its documents are those of the new name only then: "a.md" has a title that the
   same bytes in "a.txt" have not. A Maildir that went as a whole is known by the name of its folder alone. */
KALM__FN int search_same_kind(const search_missing *m, const search_file *f, const char *head, size_t size)
{
    search_file old;
    char *above = cmd_copy(kalm__text(m->path)), *slash = strrchr(above, '/');
    memset(&old, 0, sizeof old);
    old.path = m->path;
    *slash = 0;
    slash = strrchr(above, '/');
    if (slash && (!strcmp(slash, "/cur") || !strcmp(slash, "/new"))) {
        *slash = 0;
        old.mail = !kalm__directory_exists(above) || search_is_maildir(above);
    }
    free(above);
    return search_kind(&old, head, size) == search_kind(f, head, size);
}

/* New files with the bytes of missing ones: renamed, a hundred in a transaction. Only files of equal size are read. */
KALM__FN void search_find_moves(search_update *u)
{
    size_t i, k, done = 0, head_size;
    char hash[17], old[17], note[SEARCH_NOTE], head[SEARCH_HEAD];
    if (!u->missings) return;
    qsort(u->missing, u->missings, sizeof *u->missing, search_by_size);
    for (i = 0; i < u->files.count && !kalm__interrupted; i++) {
        search_file *f = &u->files.file[i];
        size_t low = 0, high = u->missings, documents;
        int64_t size, modified;
        while (low < high) {           /* the first of this size */
            size_t middle = (low + high) / 2;
            if (u->missing[middle].size < f->size) low = middle + 1;
            else high = middle;
        }
        if (!f->size || low == u->missings || u->missing[low].size != f->size) continue;
        if (search_find_file(u, f, &size, &modified, old, &documents, note)) continue;
        if (!search_file_hash(f, u->kept, hash, head, &head_size, sizeof head) || kalm__interrupted) continue;
        for (k = low; k < u->missings && u->missing[k].size == f->size; k++) {
            if (u->missing[k].moved || strcmp(u->missing[k].hash, hash) || !search_same_kind(&u->missing[k], f, head, head_size)) continue;
            if (!done++) store_exec(&u->s, "BEGIN IMMEDIATE");
            search_move(u, &u->missing[k], f);
            f->done = 1;
            if (done == 100) store_exec(&u->s, "COMMIT"), done = 0;
            break;
        }
    }
    if (done) store_exec(&u->s, "COMMIT");
}

/* Forget files that are gone. early: those alone in whose place, or above it, something else is now, so that its keys are free. */
KALM__FN void search_forget_missing(search_update *u, int early)
{
    size_t i, done = 0;
    for (i = 0; i < u->missings && !kalm__interrupted; i++) {
        struct stat st;
        search_missing *m = &u->missing[i];
        if (m->moved) continue;
        if (early && lstat(m->path, &st) && errno != ENOTDIR) continue;
        if (!done++) store_exec(&u->s, "BEGIN IMMEDIATE");
        search_drop_file(u, m->path);
        m->moved = 1;
        u->forgotten++;
        if (done == 100) store_exec(&u->s, "COMMIT"), done = 0;
    }
    if (done) store_exec(&u->s, "COMMIT");
}

/* One pass over the files below `roots`, which are paths from the root. */
KALM__FN void search_pass(search_update *u, char **roots, size_t count)
{
    size_t i;
    u->bytes = u->bytes_done = 0;
    u->unchanged = u->same_bytes = u->read = u->moved = u->forgotten = u->known = u->bad = 0;
    u->f.encoded = u->f.windows = u->f.tokens = u->f.cut = u->f.replaced = 0;
    u->first_time = 0;
    u->file = NULL;
    search_files_end(&u->files);
    search_files_begin(&u->files, u->s.path);
    for (i = 0; i < count; i++)
        if (search_files_add(&u->files, roots[i]) == 0) {
            say_plainly("%s: is not there any more; its documents stay (--forget removes them)", roots[i]);
            search_list_add(&u->files.closed, &u->files.closeds, &u->files.closed_room, roots[i]);
        }
    search_files_sort(&u->files);
    u->bad += u->files.unread;
    if (kalm__interrupted) return;
    for (i = 0; i < u->files.count; i++) u->bytes += (uint64_t)u->files.file[i].size;
    search_find_missing(u, roots, count);
    search_forget_missing(u, 1);
    search_find_moves(u);
    for (i = 0; i < u->files.count && !kalm__interrupted; i++) {
        if (!u->files.file[i].done) search_one_file(u, &u->files.file[i]);
        u->bytes_done += (uint64_t)u->files.file[i].size;
        if (!(i & 255)) search_show(u);
    }
    if (!kalm__interrupted) fill_finish(&u->f);
    if (!kalm__interrupted) search_forget_missing(u, 0);
    cmd_progress_clear(&u->show);
    for (i = 0; i < u->missings; i++) free(u->missing[i].path);
    u->missings = 0;
}

KALM__FN void search_summary(const search_update *u)
{
    double spent = kalm__now() - u->show.begun;
    fprintf(stderr, "%lu files: %lu as they were", (unsigned long)u->files.count, (unsigned long)(u->unchanged + u->same_bytes));
    if (u->read) fprintf(stderr, ", %lu read", (unsigned long)u->read);
    if (u->moved) fprintf(stderr, ", %lu renamed", (unsigned long)u->moved);
    fprintf(stderr, "; %lu documents encoded", (unsigned long)u->f.encoded);
    if (u->f.windows > u->f.encoded) fprintf(stderr, " as %lu passages", (unsigned long)u->f.windows);
    if (u->f.encoded)
        fprintf(stderr, " in %.1f s (%.1f/s, %.0f tokens/s)", spent, (double)u->f.encoded / spent, (double)u->f.tokens / spent);
    if (u->known) fprintf(stderr, "; %lu were there already", (unsigned long)u->known);
    if (u->forgotten) fprintf(stderr, "; %lu are gone", (unsigned long)u->forgotten);
    if (u->bad) fprintf(stderr, "; %lu left out", (unsigned long)u->bad);
    fputc('\n', stderr);
}

#endif
