/* readers.h - a corpus, one document after the other, whatever its files are; memory does not grow with their number.
   Included behind command.h and store.h.

   jsonl   an object a line: "_id" or "id" (a string or a number), "text", maybe "title"; all other members are metadata
   tsv     key TAB text a line; or columns as the first line names them: id (_id, key), text, maybe title, others are
           metadata. Nothing is quoted
   lines   a text a line; its key is FILE:LINE
   files   a text a file; its key is the path, below a folder the path from there
   store   what another kalm-index made: its texts, to be encoded by another model or at other settings

   A bad piece of input is told with its place and passed over; it is for the caller to go on or to stop. Texts and keys
   must be UTF-8 without NUL characters, so that the store is plain text to every tool. */
#ifndef KALM_READERS_H
#define KALM_READERS_H

#if defined(_WIN32)
#  include <io.h>
#else
#  include <dirent.h>
#endif

enum { FORMAT_AUTO, FORMAT_JSONL, FORMAT_TSV, FORMAT_LINES, FORMAT_FILES, FORMAT_STORE };
enum { CORPUS_END, CORPUS_RECORD, CORPUS_BAD };

#define CORPUS_LONGEST ((size_t)1 << 30)   /* bytes of a line or a file; JSON nodes have 32-bit offsets */
#define CORPUS_DEPTH 100               /* of metadata: it is written by recursion */

typedef struct record { kalm_text key, title, text, metadata; } record;   /* live until the next corpus_next */

typedef struct corpus_file {
    char    *path, *name;              /* name: the path below the folder that was asked for */
    int      format;
    uint64_t size;
} corpus_file;

typedef struct corpus {
    corpus_file *file;                 /* [files] */
    size_t       files, room, at;      /* file[at] is open, or the next one */
    int          format;               /* asked for */
    int          known_size;           /* total is one */
    uint64_t     total, before;        /* bytes of all files, of those that are done */
    int          fd, open, ended, now; /* now: the format of the open file */
    char        *buffer;               /* what was read and not yet given out: [from, to) */
    size_t       from, to, buffer_room;
    uint64_t     read;                 /* bytes of the open file */
    unsigned long line;
    kalm__json   json;
    char        *made;                 /* metadata and the like of the record */
    size_t       made_size, made_room;
    char        *head;                 /* the first line of a TSV file with names; columns point into it */
    kalm_text    column[64];
    size_t       columns;              /* 0: no names */
    store        old;                  /* FORMAT_STORE */
    sqlite3_stmt *rows;
    int64_t      rows_all, rows_done;
    char         why[256];             /* CORPUS_BAD: "FILE:LINE: what is wrong" is corpus_name, line, why */
} corpus;

/* ---- the list of files --------------------------------------------------------------------------------------------- */

KALM__FN int corpus_ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    return n > k && strcmp(path + n - k, end) == 0;
}

KALM__FN int corpus_format_of(const char *path)
{
    if (corpus_ends_with(path, ".jsonl") || corpus_ends_with(path, ".ndjson") || corpus_ends_with(path, ".json"))
        return FORMAT_JSONL;
    return corpus_ends_with(path, ".tsv") ? FORMAT_TSV : FORMAT_FILES;
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
    if (!d) die("cannot read the folder %s: %s", path, strerror(errno));
    while ((e = readdir(d)) != NULL) {
        const char *entry = e->d_name;
        char *whole;
        struct stat st, link;
        uint64_t size;
        int is_folder, odd;
        if (entry[0] == '.') continue;
        whole = corpus_join(path, entry);
        odd = stat(whole, &st) || lstat(whole, &link);
        is_folder = !odd && S_ISDIR(st.st_mode);
        odd = odd || (is_folder ? S_ISLNK(link.st_mode) : !S_ISREG(st.st_mode));
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
    closedir(d);
#endif
    free(path);
}

/* An argument of the command: a file, a folder or "-". Ends the command where there is nothing of that name. */
KALM__FN void corpus_take(corpus *c, const char *path)
{
    if (strcmp(path, "-") == 0) {
        corpus_add(c, cmd_copy(kalm__text("-")), cmd_copy(kalm__text("stdin")), c->format, 0);
        c->known_size = 0;
    } else if (kalm__directory_exists(path)) {
        size_t first = c->files;
        corpus_walk(c, path, "", 0);
        if (c->files == first) die("the folder %s has no files", path);
        qsort(c->file + first, c->files - first, sizeof *c->file, corpus_by_name);
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
        regular = (st.st_mode & S_IFMT) == S_IFREG;
        if (!regular) c->known_size = 0;
        corpus_add(c, cmd_copy(kalm__text(path)), cmd_copy(kalm__text(path)),
                   c->format ? c->format : !regular ? FORMAT_AUTO : corpus_is_database(path) ? FORMAT_STORE :
                   corpus_format_of(path), regular ? (uint64_t)st.st_size : 0);
    }
}

KALM__FN void corpus_begin(corpus *c, int format)
{
    kalm_allocator allocator;
    int ok;
    memset(c, 0, sizeof *c);
    c->format = format;
    c->known_size = 1;
    allocator = kalm__allocator(NULL, &ok);
    kalm__json_begin(&c->json, &allocator);
}

KALM__FN void corpus_end(corpus *c)
{
    size_t i;
    for (i = 0; i < c->files; i++) {
        free(c->file[i].path);
        free(c->file[i].name);
    }
    if (c->old.db) {                   /* not read to its end */
        sqlite3_finalize(c->rows);
        store_close(&c->old);
    }
    free(c->file);
    free(c->buffer);
    free(c->made);
    free(c->head);
    kalm__json_end(&c->json);
}

/* Bytes of input behind the reader. */
KALM__FN uint64_t corpus_done(const corpus *c) { return c->before + (c->open ? c->read - (c->to - c->from) : 0); }

KALM__FN const char *corpus_name(const corpus *c)
{
    const char *path = c->file[c->at].path;
    return strcmp(path, "-") == 0 ? "standard input" : path;
}

/* ---- bytes ---------------------------------------------------------------------------------------------------------- */

KALM__FN int corpus_bad(corpus *c, const char *what)
{
    snprintf(c->why, sizeof c->why, "%s", what);
    return CORPUS_BAD;
}

/* More bytes into the buffer; 0 at the end of the file; -1: unreadable. A signal that wants the command to end counts as
   the end of the input. */
KALM__FN int corpus_more(corpus *c)
{
    long n;
    if (c->from && c->from == c->to) c->from = c->to = 0;
    if (c->to == c->buffer_room) {
        if (c->from > c->buffer_room / 2) {
            memmove(c->buffer, c->buffer + c->from, c->to - c->from);
            c->to -= c->from;
            c->from = 0;
        } else {
            c->buffer_room = c->buffer_room ? c->buffer_room * 2 : (size_t)1 << 18;
            c->buffer = (char *)cmd_grow(c->buffer, c->buffer_room);
        }
    }
    do {
        size_t room = kalm__min(c->buffer_room - c->to, (size_t)1 << 18);
#if defined(_WIN32)
        n = _read(c->fd, c->buffer + c->to, (unsigned)room);
#else
        n = (long)read(c->fd, c->buffer + c->to, room);
#endif
    } while (n < 0 && errno == EINTR && !kalm__interrupted);
    if (n < 0) return kalm__interrupted ? 0 : -1;
    c->to += (size_t)n;
    c->read += (uint64_t)n;
    return n > 0;
}

/* The next line without its end; CORPUS_END, CORPUS_RECORD, CORPUS_BAD. A line that is too long is passed over. */
KALM__FN int corpus_line(corpus *c, kalm_text *line)
{
    size_t seen = 0;
    int too_long = 0;
    for (;;) {
        char *end = c->to - c->from > seen ? (char *)memchr(c->buffer + c->from + seen, '\n', c->to - c->from - seen) : NULL;
        if (!end && !c->ended) {
            int n;
            seen = c->to - c->from;
            if (seen > CORPUS_LONGEST) too_long = 1;
            if (too_long) c->from = c->to, seen = 0;
            n = corpus_more(c);
            if (n < 0) {
                c->ended = 1, c->from = c->to;
                c->line++;
                snprintf(c->why, sizeof c->why, "cannot be read on: %s", strerror(errno));
                return CORPUS_BAD;
            }
            if (!n) c->ended = 1;
            continue;
        }
        if (!end && c->from == c->to && !too_long) return CORPUS_END;
        c->line++;
        line->data = c->buffer + c->from;
        line->size = end ? (size_t)(end - line->data) : c->to - c->from;
        c->from += line->size + (end ? 1 : 0);
        if (too_long || line->size > CORPUS_LONGEST) return corpus_bad(c, "the line is longer than 1 GiB");
        if (line->size && line->data[line->size - 1] == '\r') line->size--;
        if (c->line == 1 && line->size >= 3 && memcmp(line->data, "\xef\xbb\xbf", 3) == 0) line->data += 3, line->size -= 3;
        return CORPUS_RECORD;
    }
}

KALM__FN void corpus_make(corpus *c, const char *s, size_t n)
{
    if (c->made_room - c->made_size < n) {
        c->made_room = c->made_room * 2 + n + 64;
        c->made = (char *)cmd_grow(c->made, c->made_room);
    }
    memcpy(c->made + c->made_size, s, n);
    c->made_size += n;
}

KALM__FN void corpus_make_string(corpus *c, kalm_text t)
{
    size_t i;
    corpus_make(c, "\"", 1);
    for (i = 0; i < t.size; i++) {
        char out[8];
        corpus_make(c, out, kalm__json_escape(t.data + i, 1, out));
    }
    corpus_make(c, "\"", 1);
}

/* A comma where it is not the first, the name, a colon. */
KALM__FN void corpus_make_member(corpus *c, kalm_text name)
{
    corpus_make(c, c->made_size > 1 ? "," : "", c->made_size > 1 ? 1 : 0);
    corpus_make_string(c, name);
    corpus_make(c, ":", 1);
}

/* ---- records -------------------------------------------------------------------------------------------------------- */

/* What the store takes: UTF-8 without NUL. */
KALM__FN int corpus_text_is_good(corpus *c, const char *what, kalm_text t)
{
    size_t i = 0, n;
    while (i < t.size) {
        unsigned char b = (unsigned char)t.data[i];
        if (b && b < 0x80) {
            i++;
            continue;
        }
        n = b ? kalm__json_utf8((const unsigned char *)t.data + i, t.size - i) : 0;
        if (!n) {
            snprintf(c->why, sizeof c->why, b ? "byte %lu of the %s is not UTF-8" : "byte %lu of the %s is NUL", (unsigned long)i,
                     what);
            return 0;
        }
        i += n;
    }
    return 1;
}

KALM__FN int corpus_check(corpus *c, const record *r)
{
    if (!r->key.size) return corpus_bad(c, "the key is empty");
    if (!r->text.size && !r->title.size) return corpus_bad(c, "the text is empty");
    if (!corpus_text_is_good(c, "key", r->key) || !corpus_text_is_good(c, "title", r->title) ||
        !corpus_text_is_good(c, "text", r->text) || !corpus_text_is_good(c, "metadata", r->metadata)) return CORPUS_BAD;
    return CORPUS_RECORD;
}

/* Node i of the line as JSON, without white space; 0: nested too deep. */
KALM__FN int corpus_make_json(corpus *c, uint32_t i, int depth)
{
    kalm__json *j = &c->json;
    uint32_t type = kalm__json_type(j, i), at, end = j->nodes[i].next;
    int object = type == KALM__JSON_OBJECT, first = 1;
    if (type == KALM__JSON_STRING) corpus_make_string(c, kalm__json_text(j, i));
    else if (type == KALM__JSON_NUMBER) corpus_make(c, kalm__json_text(j, i).data, kalm__json_text(j, i).size);
    else if (type == KALM__JSON_NULL) corpus_make(c, "null", 4);
    else if (type == KALM__JSON_TRUE) corpus_make(c, "true", 4);
    else if (type == KALM__JSON_FALSE) corpus_make(c, "false", 5);
    else {
        if (depth == CORPUS_DEPTH) return 0;
        corpus_make(c, object ? "{" : "[", 1);
        for (at = i + 1; at < end; at = j->nodes[at].next, first = 0) {
            if (!first) corpus_make(c, ",", 1);
            if (object) {
                corpus_make_string(c, kalm__json_text(j, at));
                corpus_make(c, ":", 1);
                at++;
            }
            if (!corpus_make_json(c, at, depth + 1)) return 0;
        }
        corpus_make(c, object ? "}" : "]", 1);
    }
    return 1;
}

KALM__FN int corpus_json(corpus *c, kalm_text line, record *r)
{
    kalm__json *j = &c->json;
    kalm_error err;
    uint32_t id, text, title, at, key;
    if (kalm__json_parse(j, "x", line.data, line.size, &err)) {
        if (strncmp(err.text, "x:1:", 4) == 0) snprintf(c->why, sizeof c->why, "column %s", err.text + 4);
        else snprintf(c->why, sizeof c->why, "%s", err.text);
        return CORPUS_BAD;
    }
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT) return corpus_bad(c, "an object must stand here");
    id = kalm__json_get(j, 0, "_id");
    if (!id) id = kalm__json_get(j, 0, "id");
    text = kalm__json_get(j, 0, "text");
    title = kalm__json_get(j, 0, "title");
    if (title && kalm__json_type(j, title) == KALM__JSON_NULL) title = 0;
    if (!id) return corpus_bad(c, "the object has no \"_id\" or \"id\"");
    if (!kalm__json_text(j, id).data) return corpus_bad(c, "the id is no string and no number");
    if (!text || kalm__json_type(j, text) != KALM__JSON_STRING) return corpus_bad(c, "the object has no string \"text\"");
    if (title && kalm__json_type(j, title) != KALM__JSON_STRING) return corpus_bad(c, "the title is no string");
    r->key = kalm__json_text(j, id);
    r->text = kalm__json_text(j, text);
    if (title) r->title = kalm__json_text(j, title);
    corpus_make(c, "{", 1);
    for (at = 1; at < j->nodes[0].next; at = j->nodes[key + 1].next) {
        key = at;
        if (kalm__json_is(j, key, "_id") || kalm__json_is(j, key, "id") || kalm__json_is(j, key, "text") ||
            kalm__json_is(j, key, "title")) continue;
        corpus_make_member(c, kalm__json_text(j, key));
        if (!corpus_make_json(c, key + 1, 0)) return corpus_bad(c, "metadata nested more than 100 deep");
    }
    corpus_make(c, "}", 1);
    return CORPUS_RECORD;
}

/* The next field of a TSV line; 0 behind the last. */
KALM__FN int corpus_field(kalm_text *line, int *first, kalm_text *field)
{
    const char *tab;
    if (!*first) {
        if (!line->size) return 0;
        line->data++;                  /* the tab */
        line->size--;
    }
    *first = 0;
    tab = line->size ? (const char *)memchr(line->data, '\t', line->size) : NULL;
    field->data = line->data;
    field->size = tab ? (size_t)(tab - line->data) : line->size;
    line->data += field->size;
    line->size -= field->size;
    return 1;
}

KALM__FN int corpus_is(kalm_text t, const char *s) { return t.size == strlen(s) && memcmp(t.data, s, t.size) == 0; }
KALM__FN int corpus_is_key(kalm_text t) { return corpus_is(t, "id") || corpus_is(t, "_id") || corpus_is(t, "key"); }

/* Does the first line name the columns? A key and a text must be among them. */
KALM__FN void corpus_columns(corpus *c, kalm_text line)
{
    kalm_text field;
    int first = 1, keys = 0, texts = 0;
    free(c->head);
    c->head = cmd_copy(line);
    line.data = c->head;
    c->columns = 0;
    while (c->columns < 64 && corpus_field(&line, &first, &field)) {
        keys += corpus_is_key(field);
        texts += corpus_is(field, "text");
        c->column[c->columns++] = field;
    }
    if (keys != 1 || texts != 1 || line.size) c->columns = 0;
}

KALM__FN int corpus_tsv(corpus *c, kalm_text line, record *r)
{
    kalm_text field;
    size_t n = 0, most = c->columns ? c->columns : 2;
    int first = 1;
    corpus_make(c, "{", 1);
    while (corpus_field(&line, &first, &field)) {
        if (n < c->columns) {
            if (corpus_is_key(c->column[n])) r->key = field;
            else if (corpus_is(c->column[n], "text")) r->text = field;
            else if (corpus_is(c->column[n], "title")) r->title = field;
            else {
                corpus_make_member(c, c->column[n]);
                corpus_make_string(c, field);
            }
        } else if (n == 0) r->key = field;
        else if (n == 1) r->text = field;
        n++;
    }
    corpus_make(c, "}", 1);
    if (n == most) return CORPUS_RECORD;
    snprintf(c->why, sizeof c->why, c->columns ? "%lu columns, the first line names %lu" :
             "%lu columns; without names in the first line they are %lu, key and text", (unsigned long)n, (unsigned long)most);
    return CORPUS_BAD;
}

/* The next document of a store, its windows put together. */
KALM__FN int corpus_stored(corpus *c, record *r)
{
    size_t key = 0, title = 0, metadata = 0;
    int64_t window = 0, windows = 1;
    c->line++;
    c->to = 0;
    for (; window < windows; window++, c->rows_done++) {
        store_row row;
        if (!store_step(&c->old, c->rows)) {
            sqlite3_finalize(c->rows);
            store_close(&c->old);
            c->from = c->to = 0;
            c->ended = 1;
            return window ? corpus_bad(c, "the last text lacks windows") : CORPUS_END;
        }
        store_read_row(&c->old, c->rows, &row);
        if (window == 0) {
            store_check_metadata(&c->old, row.metadata, row.number);
            corpus_make(c, row.key.data, key = row.key.size);
            corpus_make(c, row.title.data, title = row.title.size);
            corpus_make(c, row.metadata.data, metadata = row.metadata.size);
            windows = row.windows;
        }
        if (row.window != window || row.windows != windows || (size_t)row.start > c->to)
            die("%s: row %lld: its windows do not follow each other", c->old.path, (long long)row.number);
        if ((size_t)row.start + row.text.size > c->buffer_room)
            c->buffer = (char *)cmd_grow(c->buffer, c->buffer_room = ((size_t)row.start + row.text.size) * 2);
        if (row.text.size) memcpy(c->buffer + row.start, row.text.data, row.text.size);
        c->to = (size_t)row.start + row.text.size;
    }
    r->key.data = c->made;
    r->key.size = key;
    r->title.data = c->made + key;
    r->title.size = title;
    r->metadata.data = c->made + key + title;
    r->metadata.size = metadata;
    r->text.data = c->buffer;
    r->text.size = c->to;
    c->from = c->to;
    c->read = (uint64_t)((double)c->file[c->at].size * (double)c->rows_done / (double)c->rows_all);
    return CORPUS_RECORD;
}

KALM__FN int corpus_open(corpus *c)
{
    const corpus_file *f = &c->file[c->at];
    c->now = f->format;
    c->line = 0;
    c->read = 0;
    c->from = c->to = c->columns = 0;
    c->ended = 0;
    c->open = 1;
    if (c->now == FORMAT_STORE) {
        c->fd = -1;
        store_open(&c->old, f->path, STORE_READ);
        c->rows_all = store_number(&c->old, "SELECT count(*) FROM documents");
        c->rows_done = 0;
        c->rows = store_prepare(&c->old, "SELECT " STORE_COLUMNS " FROM documents ORDER BY number");
        return CORPUS_RECORD;
    }
#if defined(_WIN32)
    if (strcmp(f->path, "-") == 0) {
        c->fd = 0;
        _setmode(0, 0x8000);
    } else {
        WCHAR *wide = kalm__wide_path(f->path);
        c->fd = wide ? _wopen(wide, _O_RDONLY | _O_BINARY) : -1;
        free(wide);
    }
#else
    c->fd = strcmp(f->path, "-") == 0 ? 0 : open(f->path, O_RDONLY);
#endif
    if (c->fd >= 0) return CORPUS_RECORD;
    snprintf(c->why, sizeof c->why, "cannot be read: %s", strerror(errno));
    c->ended = 1;
    return CORPUS_BAD;
}

KALM__FN void corpus_close(corpus *c)
{
    if (c->fd > 0) close(c->fd);
    c->open = 0;
    c->before += c->file[c->at].size;
    c->at++;
}

KALM__FN int corpus_whole(corpus *c, record *r)
{
    int n;
    while ((n = corpus_more(c)) > 0)
        if (c->to - c->from > CORPUS_LONGEST) {
            c->ended = 1;
            c->from = c->to;
            return corpus_bad(c, "the file is longer than 1 GiB");
        }
    c->ended = 1;
    if (n < 0) {
        snprintf(c->why, sizeof c->why, "cannot be read on: %s", strerror(errno));
        c->from = c->to;
        return CORPUS_BAD;
    }
    r->key = kalm__text(c->file[c->at].name);
    r->text.data = c->buffer + c->from;
    r->text.size = c->to - c->from;
    c->from = c->to;
    if (r->text.size >= 3 && memcmp(r->text.data, "\xef\xbb\xbf", 3) == 0) r->text.data += 3, r->text.size -= 3;
    corpus_make(c, "{}", 2);
    return CORPUS_RECORD;
}

/* The next document into *r. CORPUS_BAD: what stands at corpus_name and c->line (0: the file itself) is passed over. */
KALM__FN int corpus_next(corpus *c, record *r)
{
    int what = CORPUS_END;
    kalm_text line;
    memset(r, 0, sizeof *r);
    c->made_size = 0;
    for (;;) {
        if (c->open && c->ended && c->from == c->to) corpus_close(c);
        if (!c->open) {
            if (c->at == c->files || kalm__interrupted) return CORPUS_END;
            if (corpus_open(c) == CORPUS_BAD) return CORPUS_BAD;
        }
        if (c->now == FORMAT_STORE) {
            what = corpus_stored(c, r);
            if (what == CORPUS_END) continue;
            return what == CORPUS_RECORD ? corpus_check(c, r) : what;
        }
        if (c->now == FORMAT_FILES) {
            what = corpus_whole(c, r);
            break;
        }
        what = corpus_line(c, &line);
        if (what == CORPUS_END) continue;
        if (what == CORPUS_BAD) return what;
        if (cmd_blank(line)) continue;
        if (c->now == FORMAT_AUTO) {
            if (line.data[0] != '{' && !memchr(line.data, '\t', line.size))
                die("%s: its first line is no JSON object and has no tab: say --format", corpus_name(c));
            c->now = line.data[0] == '{' ? FORMAT_JSONL : FORMAT_TSV;
        }
        if (c->now == FORMAT_TSV && c->line == 1) {
            corpus_columns(c, line);
            if (c->columns) continue;
        }
        if (c->now == FORMAT_JSONL) what = corpus_json(c, line, r);
        else if (c->now == FORMAT_TSV) what = corpus_tsv(c, line, r);
        else {
            char number[32];
            corpus_make(c, "{}", 2);
            sprintf(number, ":%lu", c->line);
            corpus_make(c, c->file[c->at].name, strlen(c->file[c->at].name));
            corpus_make(c, number, strlen(number));
            r->text = line;
            r->key.data = c->made + 2;
            r->key.size = c->made_size - 2;
            c->made_size = 2;
        }
        break;
    }
    if (what != CORPUS_RECORD) return what;
    r->metadata.data = c->made;
    r->metadata.size = c->made_size;
    return corpus_check(c, r);
}

#endif
