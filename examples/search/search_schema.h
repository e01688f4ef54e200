/* search_schema.h - what kalm-search keeps beside the documents of a store (store.h has its tables): the words to find a passage by, in
   a full-text index of SQLite (FTS5), and where the model is.

   Words are terms (terms.h) without accents and without the ending of an English plural. They are made here, for passages and
   questions alike, and handed to FTS5 as words between spaces: so what a question says is never read as a query of FTS5, and
   scripts without spaces are found. FTS5 keeps no copy of them ("content=''"); to delete a row it wants the same words again,
   so they may depend on nothing but the row of the table documents. Included behind store.h and terms.h. */
#ifndef KALM_SEARCH_SCHEMA_H
#define KALM_SEARCH_SCHEMA_H

#define SEARCH_WORDS_VERSION 1         /* of search_words_of: an index of another version is refused */

/* Words with a space behind each. */
typedef struct search_words {
    char  *text;                       /* owned */
    size_t size, room;
} search_words;

/* `term` without the ending of a plural, by the three rules of Harman's S stemmer (1991): "queries" and "query", "files" and "file" are
   one word, "class" and "corpus" stay. Returns the new length. */
KALM__FN size_t search_stem(char *term, size_t n)
{
    const char *end = term + n;
    if (n < 4 || end[-1] != 's') return n;
    if (n > 4 && end[-3] == 'i' && end[-2] == 'e' && end[-4] != 'e' && end[-4] != 'a') return term[n - 3] = 'y', n - 2;
    if (end[-2] == 'e' && end[-3] != 'a' && end[-3] != 'e' && end[-3] != 'o') return n - 1;
    return end[-2] == 'u' || end[-2] == 's' ? n : n - 1;
}

KALM__FN void search_add_word(void *user, const char *term, size_t size, size_t from, size_t to)
{
    search_words *w = (search_words *)user;
    (void)from, (void)to;
    if (w->size + size + 1 > w->room) w->text = (char *)cmd_grow(w->text, w->room = cmd_twice(kalm__add(w->size, size + 1)));
    memcpy(w->text + w->size, term, size);
    w->size += search_stem(w->text + w->size, size);
    w->text[w->size++] = ' ';
}

/* The words of a row: those of its title, its text, and the last part of its key, which is a file's name or a record's. */
KALM__FN void search_words_of(search_words *w, kalm_text key, kalm_text title, kalm_text text)
{
    size_t at = key.size;
    while (at && key.data[at - 1] != '/') at--;
    key.data += at;
    key.size -= at;
    w->size = 0;
    terms_of(title, TERMS_FOLD, search_add_word, w);
    terms_of(text, TERMS_FOLD, search_add_word, w);
    terms_of(key, TERMS_FOLD, search_add_word, w);
}

/* ---- the index of words ---------------------------------------------------------------------------------------------- */

/* The statements that keep words and documents together; every one is used within a transaction. */
typedef struct search_index {
    const store  *s;
    search_words  words;
    sqlite3_stmt *add, *drop, *rows;
} search_index;

KALM__FN void search_index_begin(search_index *x, const store *s)
{
    memset(x, 0, sizeof *x);
    x->s = s;
    x->add = store_prepare(s, "INSERT INTO search_words (rowid, words) VALUES (?1, ?2)");
    x->drop = store_prepare(s, "INSERT INTO search_words (search_words, rowid, words) VALUES ('delete', ?1, ?2)");
    x->rows = store_prepare(s, "SELECT number, key, title, text FROM documents WHERE key = ?1");
}

KALM__FN void search_index_end(search_index *x)
{
    sqlite3_finalize(x->add);
    sqlite3_finalize(x->drop);
    sqlite3_finalize(x->rows);
    free(x->words.text);
}

KALM__FN void search_index_put(search_index *x, sqlite3_stmt *q, int64_t number, kalm_text key, kalm_text title, kalm_text text)
{
    kalm_text words;
    search_words_of(&x->words, key, title, text);
    words.data = x->words.text;
    words.size = x->words.size;
    store_check(x->s, sqlite3_bind_int64(q, 1, number));
    store_bind(x->s, q, 2, words);
    store_run(x->s, q);
}

/* The words of a row that was added. */
KALM__FN void search_index_add(search_index *x, int64_t number, kalm_text key, kalm_text title, kalm_text text)
{
    search_index_put(x, x->add, number, key, title, text);
}

/* Forget the words of all rows of a key; the rows are deleted or renamed by the caller, afterwards. */
KALM__FN void search_index_drop(search_index *x, kalm_text key)
{
    store_bind(x->s, x->rows, 1, key);
    while (store_step(x->s, x->rows)) {
        int64_t number = store_int(x->s, x->rows, 0, sqlite3_column_int64(x->rows, 0), 1, STORE_LAST_NUMBER);
        kalm_text own = store_text(x->s, x->rows, 1, number), title = store_text(x->s, x->rows, 2, number);
        search_index_put(x, x->drop, number, own, title, store_text(x->s, x->rows, 3, number));
    }
    store_check(x->s, sqlite3_reset(x->rows));
}

/* ---- creating and opening -------------------------------------------------------------------------------------------- */

/* A new row of the table meta, or a new value of it. A path that is no UTF-8 is not remembered, since a store that had it could not be
   read: --model names it then. */
KALM__FN void search_put_meta(const store *s, const char *name, kalm_text text)
{
    sqlite3_stmt *q = store_prepare(s, "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2");
    if (store_bad_byte(text) < text.size) text.size = 0;
    store_bind(s, q, 1, kalm__text(name));
    store_bind(s, q, 2, text);
    store_run(s, q);
    sqlite3_finalize(q);
}

/* A text of the table meta, to be freed; NULL: there is none. */
KALM__FN char *search_get_meta(const store *s, const char *name)
{
    sqlite3_stmt *q = store_prepare(s, "SELECT value FROM meta WHERE name = ?1");
    char *text = NULL;
    store_bind(s, q, 1, kalm__text(name));
    if (store_step(s, q)) text = cmd_copy(store_text(s, q, 0, 0));
    sqlite3_finalize(q);
    return text;
}

/* The key of the database, which it gets when it is first written to: that of the hashes of files, so that nobody who cannot read the database
   can make a file that passes for another. */
KALM__FN void search_get_secret(const store *s, uint64_t secret[2])
{
    sqlite3_stmt *q;
    char *kept = search_get_meta(s, "search_key"), digits[33];
    int i;
    if (!kept) {
        cmd_secret(secret);
        store_write_hash(digits, secret[0]);
        store_write_hash(digits + 16, secret[1]);
        q = store_prepare(s, "INSERT OR IGNORE INTO meta VALUES ('search_key', ?1)");      /* another kalm-search may have been faster */
        store_bind(s, q, 1, kalm__text(digits));
        store_run(s, q);
        sqlite3_finalize(q);
        kept = search_get_meta(s, "search_key");
    }
    if (!kept || strlen(kept) != 32 || strspn(kept, "0123456789abcdef") != 32) die("%s: search_key in its table meta is none", s->path);
    for (i = 0; i < 32; i++) secret[i / 16] = secret[i / 16] << 4 | (uint64_t)(kept[i] <= '9' ? kept[i] - '0' : kept[i] - 'a' + 10);
    free(kept);
}

/* The tables of kalm-search in a store that has no documents yet, and where its model is, in one transaction: after a kill all of it is
   there or nothing. model: its path; NULL: the store says it already. */
KALM__FN void search_create(store *s, const char *model)
{
    char version[16];
    int i;
    store_exec(s, "BEGIN IMMEDIATE");
    store_check_schema(s);             /* another kalm-search may have been faster */
    if (!s->searched) {
        if (store_number(s, "SELECT count(*) FROM documents"))
            die("%s was made by kalm-index: kalm-search keeps a database of its own", s->path);
        for (i = 0; i < 3; i++) store_exec(s, store_search_tables[i].sql);     /* the others are FTS5's work */
        sprintf(version, "%d", SEARCH_WORDS_VERSION);
        search_put_meta(s, "search_words", kalm__text(version));
        if (model) search_put_meta(s, "search_model", kalm__text(model));
    }
    store_exec(s, "COMMIT");
    s->searched = 1;
}

/* Column 0, a path of the tables search_files and search_sources, from the root; to be freed. */
KALM__FN char *search_read_path(const store *s, sqlite3_stmt *q, const char *table)
{
    kalm_text path = store_document(s, q, 0, 0);
    if (!path.size || memchr(path.data, 0, path.size) || *path.data != '/') die("%s: a path in its table %s is none", s->path, table);
    return cmd_copy(path);
}

/* Its words must be those that this program makes. */
KALM__FN void search_demand_words(const store *s)
{
    char *version = search_get_meta(s, "search_words");
    if (!version || atoi(version) != SEARCH_WORDS_VERSION)
        die("%s: its index of words is of version %s, this program has %d: make the database again", s->path, version ? version : "none",
            SEARCH_WORDS_VERSION);
    free(version);
}

/* The numbers of a damaged index of words make SQLite ask for up to 2 GB, so its memory is bounded by what the database and a new
   text of `more` bytes can need. The bound is for the whole process: it is set again for each database that is opened. */
KALM__FN void search_bound_memory(const store *s, int64_t more)
{
#if SQLITE_VERSION_NUMBER >= 3031000
    int64_t bytes = store_number(s, "PRAGMA page_count") * store_number(s, "PRAGMA page_size");
    (void)sqlite3_hard_heap_limit64(((int64_t)256 << 20) + 4 * (bytes + more));
#else
    (void)s, (void)more;
#endif
}

#endif
