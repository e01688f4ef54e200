/* corpus.h - the input of kalm-index: files, folders, standard input and other stores, as one sequence of documents. What a file
   holds is read by ../src/tools/reader.h; here is the list of files, their keys, and what a store asks of a text. Memory does not
   grow with the number of documents. Included behind command.h and store.h.

   jsonl   objects: "_id" or "id", "text", maybe "title"; all other members are metadata
   tsv     key TAB text a line, or columns as the first line names them
   lines   a text a line; its key is FILE:LINE
   csv     columns as the first line names them; a key that no column holds is FILE:LINE
   files   a text a file; its key is the path, below a folder the path from there
   store   what another kalm-index made: its texts, to be encoded by another model or at other settings

   A bad piece of input is told with its place and passed over; it is for the caller to go on or to stop. Texts and keys
   must be UTF-8 without NUL characters, so that the store is plain text to every tool. */
#ifndef KALM_CORPUS_H
#define KALM_CORPUS_H

#if defined(_WIN32)
#  include <io.h>
#else
#  include <dirent.h>
#endif

/* As in reader.h, and one more. */
enum { FORMAT_AUTO = READ_AUTO, FORMAT_JSON = READ_JSON, FORMAT_TSV = READ_TSV, FORMAT_LINES = READ_LINES,
       FORMAT_CSV = READ_CSV, FORMAT_FILES = READ_WHOLE, FORMAT_STORE };

typedef struct corpus_file {
    char    *path, *name;              /* name: the path below the folder that was asked for */
    int      format;
    uint64_t size;
} corpus_file;

typedef struct corpus {
    corpus_file *file;                 /* [files] */
    size_t       files, room, at;      /* file[at] is open, or the next one */
    int          format;               /* asked for */
    const char  *store;                /* the store that is written: it is no input of its own */
    int          known_size;           /* total is one */
    size_t       unreadable;           /* folders that could not be read; each was named */
    uint64_t     total, before;        /* bytes of all files, of those that are done */
    int          open;
    reader       r;                    /* of file[at] */
    char        *made;                 /* a key, or what was put together from windows */
    size_t       made_room;
    store        old;                  /* FORMAT_STORE */
    sqlite3_stmt *rows;
    int64_t      rows_all, rows_done;
    unsigned long line;                /* of READ_BAD: "FILE:LINE: what is wrong" is corpus_name, line (0: the file itself), why */
    char         why[256];
} corpus;

/* ---- the list of files --------------------------------------------------------------------------------------------- */

KALM__FN int corpus_format_of(const char *path)
{
    int format = cmd_format_of(path);
    return format ? format : FORMAT_FILES;
}

KALM__FN int corpus_is_database(const char *path)
{
    char head[16];
    kalm__input f;
    kalm_error err;
    int is;
    if (kalm__input_open(&f, path, &err)) return 0;
    is = f.size >= 16 && kalm__input_read(&f, 0, head, 16) && memcmp(head, "SQLite format 3", 16) == 0;
    kalm__input_close(&f);
    return is;
}

KALM__FN void corpus_add(corpus *c, char *path, char *name, int format, uint64_t size)
{
    corpus_file *f;
    if (c->files == c->room) {
        c->room = c->room ? c->room * 2 : 16;
        c->file = (corpus_file *)cmd_grow(c->file, c->room * sizeof *c->file);
    }
    f = &c->file[c->files++];
    f->path = path;
    f->name = name;
    f->format = format;
    f->size = size;
    c->total += size;
}

KALM__FN char *corpus_join(const char *folder, const char *name)
{
    char *path = kalm__join_path(folder, name);
    if (!path) die("no memory for a path");
    return path;
}

KALM__FN int corpus_by_name(const void *pa, const void *pb)
{
    const corpus_file *a = (const corpus_file *)pa, *b = (const corpus_file *)pb;
    return strcmp(a->name, b->name);
}

/* Is `path` the store that is written, its states, or one of the files that SQLite keeps beside either while it is written? */
KALM__FN int corpus_is_store(const corpus *c, const char *path)
{
    size_t i;
    for (i = 0; i < STORE_FILES; i++) {
        char name[4096];
        if ((size_t)snprintf(name, sizeof name, "%s%s", c->store, store_files[i]) < sizeof name && same_file(name, path)) return 1;
    }
    return 0;
}

/* Regular files below folder/name, but for names with a dot in front; links to folders are not followed. */
KALM__FN void corpus_walk(corpus *c, const char *folder, const char *name, int depth)
{
    char *path = *name ? corpus_join(folder, name) : cmd_copy(kalm__text(folder));
#if defined(_WIN32)
    char *pattern = corpus_join(path, "*");
    WCHAR *wide = kalm__wide_path(pattern);
    WIN32_FIND_DATAW e;
    HANDLE h = wide ? FindFirstFileW(wide, &e) : INVALID_HANDLE_VALUE;
    int more = h != INVALID_HANDLE_VALUE;
    if (!more) die("cannot read the folder %s", path);
    for (; more; more = FindNextFileW(h, &e)) {
        char entry[3 * MAX_PATH + 1];
        uint64_t size = (uint64_t)e.nFileSizeHigh << 32 | e.nFileSizeLow;
        int is_folder = (e.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
        if (!WideCharToMultiByte(CP_UTF8, 0, e.cFileName, -1, entry, sizeof entry, NULL, NULL) || entry[0] == '.') continue;
        if (is_folder && e.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) continue;
        {
#else
    DIR *d = opendir(path);
    struct dirent *e;
    if (!d) {
        fprintf(stderr, "%s: the folder cannot be read: %s\n", path, strerror(errno));
        c->unreadable++;
        free(path);
        return;
    }
    while ((errno = 0, e = readdir(d)) != NULL) {
        const char *entry = e->d_name;
        char *whole;
        struct stat st, link;
        uint64_t size;
        int is_folder, odd;
        if (entry[0] == '.') continue;
        whole = corpus_join(path, entry);
        odd = lstat(whole, &link) || stat(whole, &st);
        if (odd && errno != ENOENT && errno != ELOOP) {    /* it is gone by now, or a link to nothing; else it is left out */
            fprintf(stderr, "%s: cannot be looked at: %s\n", kalm__shown(whole), strerror(errno));
            c->unreadable++;
        }
        is_folder = !odd && S_ISDIR(st.st_mode);
        odd = odd || (is_folder ? S_ISLNK(link.st_mode) : !S_ISREG(st.st_mode));
        odd = odd || (!is_folder && corpus_is_store(c, whole));
        size = odd ? 0 : (uint64_t)st.st_size;
        free(whole);
        if (!odd) {
#endif
            char *below = *name ? corpus_join(name, entry) : cmd_copy(kalm__text(entry));
            if (is_folder) {
                if (depth == 64) die("%s: folders more than 64 deep", path);
                corpus_walk(c, folder, below, depth + 1);
                free(below);
            } else {
                corpus_add(c, corpus_join(folder, below), below, c->format ? c->format : corpus_format_of(entry), size);
            }
        }
    }
#if defined(_WIN32)
    FindClose(h);
    free(wide);
    free(pattern);
#else
    if (errno) {                       /* what it did not list is left out */
        fprintf(stderr, "%s: the folder cannot be read to its end: %s\n", path, strerror(errno));
        c->unreadable++;
    }
    closedir(d);
#endif
    free(path);
}

/* An argument of the command: a file, a folder or "-". Ends the command where there is nothing of that name. */
KALM__FN void corpus_take(corpus *c, const char *path)
{
    if (!*path) die_usage("the name of an input is empty");
    if (strcmp(path, "-") == 0) {
        corpus_add(c, cmd_copy(kalm__text("-")), cmd_copy(kalm__text("stdin")), c->format, 0);
        c->known_size = 0;
    } else if (kalm__directory_exists(path)) {
        size_t first = c->files;
        corpus_walk(c, path, "", 0);
        if (c->files == first && !c->unreadable) die("the folder %s has no files", path);
        if (c->files > first) qsort(c->file + first, c->files - first, sizeof *c->file, corpus_by_name);
    } else {
#if defined(_WIN32)
        struct _stat64 st;
        WCHAR *wide = kalm__wide_path(path);
        int regular, missing = !wide || _wstat64(wide, &st);
        free(wide);
#else
        struct stat st;
        int regular, missing = stat(path, &st) != 0;
#endif
        if (missing) die("cannot read %s: %s", path, strerror(errno));
        if (corpus_is_store(c, path)) die_usage("%s is named both as input and as the store", path);
        regular = (st.st_mode & S_IFMT) == S_IFREG;
        if (!regular) c->known_size = 0;
        corpus_add(c, cmd_copy(kalm__text(path)), cmd_copy(kalm__text(path)),
                   c->format ? c->format : !regular ? FORMAT_AUTO : corpus_is_database(path) ? FORMAT_STORE :
                   corpus_format_of(path), regular ? (uint64_t)st.st_size : 0);
    }
}

KALM__FN void corpus_begin(corpus *c, int format, const char *store_path)
{
    memset(c, 0, sizeof *c);
    c->format = format;
    c->store = store_path;
    c->known_size = 1;
}

KALM__FN void corpus_close(corpus *c)
{
    if (!c->open) return;
    if (c->rows) {
        sqlite3_finalize(c->rows);
        store_close(&c->old);
        c->rows = NULL;
    } else reader_end(&c->r);
    c->open = 0;
    c->before += c->file[c->at].size;
    c->at++;
}

KALM__FN void corpus_end(corpus *c)
{
    size_t i;
    corpus_close(c);                   /* when it was not read to its end */
    for (i = 0; i < c->files; i++) {
        free(c->file[i].path);
        free(c->file[i].name);
    }
    free(c->file);
    free(c->made);
}

/* Bytes of input behind the reader. */
KALM__FN uint64_t corpus_done(const corpus *c)
{
    if (!c->open) return c->before;
    if (c->rows)
        return c->before + (uint64_t)((double)c->file[c->at].size * (double)c->rows_done / (double)(c->rows_all ? c->rows_all : 1));
    return c->before + c->r.read - kalm__min((size_t)c->r.read, c->r.to - c->r.from);
}

KALM__FN const char *corpus_name(const corpus *c)
{
    const char *path = c->file[c->at].path;
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* ---- documents --------------------------------------------------------------------------------------------------------- */

KALM__FN int corpus_bad(corpus *c, const char *what)
{
    snprintf(c->why, sizeof c->why, "%s", what);
    return READ_BAD;
}

/* What the store takes: UTF-8 without NUL. */
KALM__FN int corpus_text_is_good(corpus *c, const char *what, kalm_text t)
{
    size_t at = store_bad_byte(t);
    if (at == t.size) return 1;
    snprintf(c->why, sizeof c->why, t.data[at] ? "byte %lu of the %s is not UTF-8" : "byte %lu of the %s is NUL", (unsigned long)at,
             what);
    return 0;
}

KALM__FN int corpus_check(corpus *c, const text_record *r)
{
    if (!r->key.data) return corpus_bad(c, "the text has no \"_id\" or \"id\"");
    if (!r->key.size) return corpus_bad(c, "the key is empty");
    if (!r->text.size && !r->title.size) return corpus_bad(c, "the text is empty");
    if (!corpus_text_is_good(c, "key", r->key) || !corpus_text_is_good(c, "title", r->title) ||
        !corpus_text_is_good(c, "text", r->text) || !corpus_text_is_good(c, "metadata", r->metadata)) return READ_BAD;
    return READ_RECORD;
}

/* `size` bytes of c->made, kept when they move. */
KALM__FN char *corpus_room(corpus *c, size_t size)
{
    if (size > c->made_room) c->made = (char *)cmd_grow(c->made, c->made_room = cmd_twice(size));
    return c->made;
}

/* The next document of a store, its windows put together: c->made holds key, title, metadata and the text so far. */
KALM__FN int corpus_stored(corpus *c, text_record *r)
{
    size_t head = 0, size = 0;
    int64_t window = 0, windows = 1;
    store_row row;
    c->line++;
    for (; window < windows; window++, c->rows_done++) {
        size_t start;
        if (!store_step(&c->old, c->rows)) return window ? corpus_bad(c, "the last text lacks windows") : READ_END;
        store_read_row(&c->old, c->rows, &row);
        if (window == 0) {
            store_check_metadata(&c->old, row.metadata, row.number);
            r->key.size = row.key.size;
            r->title.size = row.title.size;
            r->metadata.size = row.metadata.size;
            head = row.key.size + row.title.size + row.metadata.size;
            corpus_room(c, head + 1);
            memcpy(c->made, row.key.data, row.key.size);
            memcpy(c->made + row.key.size, row.title.data, row.title.size);
            memcpy(c->made + row.key.size + row.title.size, row.metadata.data, row.metadata.size);
            windows = row.windows;
        }
        start = (size_t)row.start;
        if (row.window != window || row.windows != windows || start > size)
            die("%s: row %lld: its windows do not follow each other", c->old.path, (long long)row.number);
        corpus_room(c, head + start + row.text.size + 1);
        memcpy(c->made + head + start, row.text.data, row.text.size);
        size = start + row.text.size;
    }
    r->key.data = c->made;
    r->title.data = c->made + r->key.size;
    r->metadata.data = r->title.data + r->title.size;
    r->text.data = c->made + head;
    r->text.size = size;
    return READ_RECORD;
}

KALM__FN int corpus_open(corpus *c)
{
    const corpus_file *f = &c->file[c->at];
    c->line = 0;
    c->open = 1;
    if (f->format == FORMAT_STORE) {
        store_open(&c->old, f->path, STORE_READ);
        c->rows_all = store_number(&c->old, "SELECT count(*) FROM documents");
        c->rows_done = 0;
        c->rows = store_prepare(&c->old, "SELECT " STORE_COLUMNS " FROM documents ORDER BY number");
        return READ_RECORD;
    }
    if (!reader_begin(&c->r, f->path, f->format)) return corpus_bad(c, c->r.why);
    c->r.with_metadata = 1;
    if (!c->r.format) {
        int format = reader_guess(&c->r, 1);
        if (format == READ_LINES)
            die("%s: its first line is no JSON object and has no tab: say --format", corpus_name(c));
        c->r.format = format ? format : READ_LINES;        /* an empty file, or reader_next says what is wrong */
    }
    return READ_RECORD;
}

/* The next document into *r, which lives until the next call. READ_BAD: what stands at corpus_name and c->line is passed over,
   c->why says why. */
KALM__FN int corpus_next(corpus *c, text_record *r)
{
    int what;
    for (;;) {
        if (!c->open) {
            if (c->at == c->files || kalm__interrupted) return READ_END;
            if (corpus_open(c) == READ_BAD) {
                c->r.ended = 1;        /* closed by the next call: corpus_name is still wanted */
                return READ_BAD;
            }
        }
        if (!c->rows && c->r.fd < 0) what = READ_END;      /* it could not be opened */
        else if (c->rows) {
            memset(r, 0, sizeof *r);
            what = corpus_stored(c, r);
        } else {
            what = reader_next(&c->r, r);
            c->line = c->r.line;
            if (what == READ_BAD) corpus_bad(c, c->r.why);
        }
        if (what != READ_END) break;
        corpus_close(c);
    }
    if (what != READ_RECORD) return what;
    if (!c->rows && (c->r.format == READ_LINES || c->r.format == READ_WHOLE || (c->r.format == READ_CSV && !r->key.data))) {
        const char *name = c->file[c->at].name;
        char *key = corpus_room(c, strlen(name) + 32);
        r->key.data = key;
        r->key.size = (size_t)(c->r.format == READ_WHOLE ? sprintf(key, "%s", name) : sprintf(key, "%s:%lu", name, c->line));
    }
    return corpus_check(c, r);
}

#endif
