/* reader.h - texts out of a file, one record after the other, the same way for every command. Memory does not grow with the
   file. What a file is, is told by its bytes where its name does not say it:

   JSON    objects with "text", and maybe "_id" or "id" (a string or a number), "title" and "query": one a line (JSON Lines), one
           behind the other over many lines, or the elements of one array; an element that is a string is a text without a key
   TSV     key TAB text a line; or columns as the first line names them: a key (id, docid, key ...), a text (text, contents,
           passage ...), maybe a title; others are metadata. Nothing is quoted
   LINES   a text a line
   WHOLE   the file is one text

   Bytes may be UTF-8, UTF-16 or UTF-32, with or without a byte order mark, and lines may end in CR LF. Compressed files and
   others that hold no text are refused by what they are. A bad piece of input is told with its line and passed over; whether
   to go on is for the caller to say. */
#ifndef KALM_READER_H
#define KALM_READER_H

#include "files.h"
#include "json.h"
#include "messages.h"
#include <errno.h>

enum { READ_AUTO, READ_JSON, READ_TSV, READ_LINES, READ_WHOLE };   /* formats */
enum { READ_END, READ_RECORD, READ_BAD };                          /* what reader_next found */

#ifndef READ_LONGEST                   /* a test takes less */
#  define READ_LONGEST ((size_t)1 << 30)  /* bytes of a line, an object or a file that is one text; JSON nodes have 32-bit offsets */
#endif
#define READ_DEPTH 100                 /* of metadata: it is written by recursion */

/* Texts that are not there are empty with data NULL. They live until the next reader_next. */
typedef struct text_record { kalm_text key, title, text, query, metadata; } text_record;

typedef struct reader {
    const char   *name;                /* of the file, for messages; borrowed */
    int           format, with_metadata;
    int           strict_utf8;         /* lines that are ill-formed are bad; else they are given, and `why` says so */
    int           fd, ended, decided;  /* decided: the first line of TSV was looked at, or the whole file given */
    int           broken;              /* it cannot be read on, why says why: reader_next hands that out */
    int           failed;              /* the system could not read the file; what was handed out is not all of it */
    unsigned      unit;                /* bytes of a code unit: 1 UTF-8, 2 UTF-16, 4 UTF-32; 0: not known yet */
    int           big;                 /* big-endian units */
    unsigned char raw[8];              /* [raws]: of a unit or pair that the next bytes complete */
    size_t        raws;
    char         *buffer;              /* what was read and not yet given out: [from, to), as UTF-8 */
    size_t        from, to, room;
    uint64_t      read;                /* bytes of the file */
    unsigned long line;                /* of the record, from 1; 0: of the file itself */
    unsigned long lines;               /* ended before `from` */
    size_t        column;              /* bytes of the line that were taken */
    int           array, elements, one_line;   /* JSON: inside an array, which has had elements; a value has a line at most */
    kalm__json    json;
    char         *made;                /* metadata of the record */
    size_t        made_size, made_room;
    char         *head;                /* the first line of a TSV file with names; columns point into it */
    kalm_text     column_name[64];
    size_t        columns, key_column, text_column, title_column;   /* columns 0: no names; title_column may be none: columns */
    char          why[256];            /* of READ_BAD; of READ_RECORD a remark, or empty */
} reader;

/* ---- bytes ----------------------------------------------------------------------------------------------------------- */

KALM__FN int reader_bad(reader *r, const char *what)
{
    snprintf(r->why, sizeof r->why, "%s", what);
    return READ_BAD;
}

KALM__FN void reader_room(reader *r, size_t more)
{
    if (r->from == r->to) r->from = r->to = 0;
    if (r->room - r->to >= more) return;
    if (r->from > r->room / 2) {
        memmove(r->buffer, r->buffer + r->from, r->to - r->from);
        r->to -= r->from;
        r->from = 0;
    }
    if (r->room - r->to < more) r->buffer = (char *)cmd_grow(r->buffer, r->room = cmd_twice(kalm__add(r->to, more)));
}

/* What a file is whose first bytes are these, when it is nothing that holds texts; else NULL. */
KALM__FN const char *reader_kind(const unsigned char *p, size_t n)
{
    static const struct { const char *bytes; size_t size; const char *what; } kinds[] = {
        { "\x1f\x8b", 2, "is compressed by gzip: unpack it first (gunzip -c)" },
        { "\x28\xb5\x2f\xfd", 4, "is compressed by zstd: unpack it first (zstd -dc)" },
        { "\xfd" "7zXZ", 5, "is compressed by xz: unpack it first (xz -dc)" },
        { "BZh", 3, "is compressed by bzip2: unpack it first (bunzip2 -c)" },
        { "\x04\x22\x4d\x18", 4, "is compressed by lz4: unpack it first (lz4 -dc)" },
        { "PK\x03\x04", 4, "is a ZIP archive: unpack it first" },
        { "PAR1", 4, "is a Parquet file: write its texts as JSON Lines first" },
        { "%PDF-", 5, "is a PDF file: take its text out first (pdftotext)" },
        { "\x89" "KALM\r\n\x1a", 8, "is a model file, not a file of texts" },
        { "SQLite format 3", 16, "is a SQLite database, not a file of texts" },
        { "\x7f" "ELF", 4, "is a program, not a file of texts" },
        { "version https://git-lfs.github.com/spec/", 40, "is a pointer of Git LFS, not the file itself: git lfs pull fetches it" }
    };
    size_t i;
    for (i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n >= kinds[i].size && !memcmp(p, kinds[i].bytes, kinds[i].size) && (p[0] != 'B' || (n > 3 && p[3] >= '1' && p[3] <= '9')))
            return kinds[i].what;
    if (n >= 8 && !memcmp(p, "KALM", 4) && memchr(p, 0, 16 < n ? 16 : n)) return "is a model file, not a file of texts";
    return NULL;
}

KALM__FN uint32_t reader_unit(const unsigned char *p, size_t unit, int big)
{
    size_t i;
    uint32_t c = 0;
    for (i = 0; i < unit; i++) c |= (uint32_t)p[i] << 8 * (big ? unit - 1 - i : i);
    return c;
}

/* How many characters of ASCII there are if the n bytes are UTF-16 (unit 2) or UTF-32 (unit 4); 0 also where they cannot be
   that: a NUL or another control character, half of a surrogate pair, a number above Unicode's. */
KALM__FN size_t reader_ascii(const unsigned char *p, size_t n, size_t unit, int big)
{
    size_t i, found = 0;
    int half = 0;
    for (i = 0; i + unit <= n; i += unit) {
        uint32_t c = reader_unit(p + i, unit, big);
        int low = (c & 0xfffffc00u) == 0xdc00, high = (c & 0xfffffc00u) == 0xd800;
        if (c < 9 || (c > 13 && c < 32 && c != 27) || c >= 0x110000 || (c & 0xfffe) == 0xfffe) return 0;
        if (low != half || (unit == 4 && (low || high))) return 0;
        half = high;
        found += c < 127;
    }
    return found;
}

/* The encoding, from the first bytes: by a byte order mark, or because they are good UTF-16 or UTF-32, with characters of ASCII
   in it, and no likely UTF-8. all: these bytes are the whole file. Returns the length of the mark. */
KALM__FN size_t reader_encoding(reader *r, const unsigned char *p, size_t n, int all)
{
    size_t i, k;
    r->unit = 1;
    r->big = 0;
    if (n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) return 3;
    if (n >= 4 && !memcmp(p, "\xff\xfe\0\0", 4)) return r->unit = 4;
    if (n >= 4 && !memcmp(p, "\0\0\xfe\xff", 4)) return r->big = 1, r->unit = 4;
    if (n >= 2 && !memcmp(p, "\xff\xfe", 2)) return r->unit = 2;
    if (n >= 2 && !memcmp(p, "\xfe\xff", 2)) return r->big = 1, r->unit = 2;
    for (k = 4; k >= 2; k -= 2) {
        size_t little, big;
        if (n < k || (all && n % k)) continue;
        little = reader_ascii(p, n, k, 0);
        big = reader_ascii(p, n, k, 1);
        if (!little && !big) continue;
        /* a quarter of the units is ASCII, or one at all in what cannot be UTF-8 */
        if (4 * kalm__max(little, big) < n / k) {
            for (i = 0; i + 4 <= n && kalm__json_utf8(p + i, n - i); i += kalm__json_utf8(p + i, n - i)) {}
            if (i + 4 > n) continue;
        }
        r->unit = (unsigned)k;
        r->big = big > little;
        return 0;
    }
    return 0;
}

KALM__FN void reader_put(reader *r, uint32_t c)
{
    unsigned char *out = (unsigned char *)r->buffer + r->to;
    if (c < 0x80) out[0] = (unsigned char)c, r->to += 1;
    else if (c < 0x800) out[0] = (unsigned char)(0xc0 | c >> 6), out[1] = (unsigned char)(0x80 | (c & 63)), r->to += 2;
    else if (c < 0x10000) {            /* half of a surrogate pair gives three bytes that are no UTF-8, and is found by that */
        out[0] = (unsigned char)(0xe0 | c >> 12), out[1] = (unsigned char)(0x80 | (c >> 6 & 63)), out[2] = (unsigned char)(0x80 | (c & 63));
        r->to += 3;
    } else if (c < 0x110000) {
        out[0] = (unsigned char)(0xf0 | c >> 18), out[1] = (unsigned char)(0x80 | (c >> 12 & 63));
        out[2] = (unsigned char)(0x80 | (c >> 6 & 63)), out[3] = (unsigned char)(0x80 | (c & 63));
        r->to += 4;
    } else out[0] = 0xff, r->to += 1;
}

/* n bytes of UTF-16 or UTF-32 into the buffer; a unit or pair that is not whole waits in r->raw. last: nothing follows. */
KALM__FN void reader_decode(reader *r, const unsigned char *p, size_t n, int last)
{
    size_t unit = r->unit;
    reader_room(r, kalm__mul(n + 8, 2));
    while (r->raws + n >= unit || (last && r->raws + n)) {
        uint32_t c, low;
        while (r->raws < 2 * unit && n) r->raw[r->raws++] = *p++, n--;
        if (r->raws < unit) {
            reader_put(r, 0xffffffffu);            /* the file ends inside a unit */
            r->raws = 0;
            break;
        }
        c = reader_unit(r->raw, unit, r->big);
        if (unit == 2 && (c & 0xfc00) == 0xd800) {
            if (r->raws < 4 && !last) return;
            low = r->raws >= 4 ? reader_unit(r->raw + 2, unit, r->big) : 0;
            if ((low & 0xfc00) == 0xdc00) {
                reader_put(r, 0x10000 + ((c & 0x3ff) << 10) + (low & 0x3ff));
                r->raws -= 4;
                continue;
            }
        }
        reader_put(r, c);
        r->raws -= unit;
        memmove(r->raw, r->raw + unit, r->raws);
    }
}

/* Up to `most` bytes of the file; 0 at its end, -1: it cannot be read. A signal that wants the command to end counts as the end. */
KALM__FN long reader_bytes(reader *r, char *to, size_t most)
{
    long n;
    do {
#if defined(_WIN32)
        n = _read(r->fd, to, (unsigned)most);
#else
        n = (long)read(r->fd, to, most);
#endif
    } while (n < 0 && errno == EINTR && !kalm__interrupted);
    if (n < 0 && kalm__interrupted) return 0;
    if (n > 0) r->read += (uint64_t)n;
    return n;
}

KALM__FN int reader_broken(reader *r)
{
    r->broken = r->ended = 1;
    r->from = r->to;
    return -1;
}

/* More into the buffer; 0: that was the last of the file; -1: it cannot be read on. */
KALM__FN int reader_more(reader *r)
{
    enum { PIECE = 1 << 18, FIRST = 256 };
    long n;
    if (r->ended) return 0;
    reader_room(r, PIECE);
    if (r->unit > 1) {
        char raw[1 << 14];
        n = reader_bytes(r, raw, sizeof raw);
        if (n >= 0) reader_decode(r, (unsigned char *)raw, (size_t)n, n == 0);
    } else n = reader_bytes(r, r->buffer + r->to, PIECE);
    if (n < 0) {
        r->failed = 1;
        snprintf(r->why, sizeof r->why, "cannot be read: %s", kalm__os_error());
        return reader_broken(r);
    }
    r->ended = n == 0;
    if (r->unit > 1) return !r->ended;
    r->to += (size_t)n;
    if (!r->unit) {                    /* the first bytes: what are they? A pipe may hand them over one by one */
        const char *kind;
        size_t mark, size;
        if (r->to - r->from < FIRST && n) return reader_more(r);
        size = r->to - r->from;
        kind = reader_kind((unsigned char *)r->buffer + r->from, size);
        if (kind) {
            reader_bad(r, kind);
            return reader_broken(r);
        }
        mark = reader_encoding(r, (unsigned char *)r->buffer + r->from, kalm__min(size, 4096), r->ended);
        r->from += mark;
        if (r->unit > 1) {
            unsigned char *raw = (unsigned char *)cmd_alloc(size);
            size = r->to - r->from;
            memcpy(raw, r->buffer + r->from, size);
            r->from = r->to = 0;
            reader_decode(r, raw, size, r->ended);
            free(raw);
        }
    }
    return !r->ended;
}

/* A file, "-" for standard input. 0: it cannot be opened, r->why says why; reader_end is to be called all the same. */
KALM__FN int reader_begin(reader *r, const char *path, int format)
{
    kalm_allocator allocator;
    int ok;
    memset(r, 0, sizeof *r);
    allocator = kalm__allocator(NULL, &ok);
    kalm__json_begin(&r->json, &allocator);
    r->name = strcmp(path, "-") == 0 ? "standard input" : path;
    r->format = format;
    r->fd = -1;
    r->strict_utf8 = 1;
    r->buffer = (char *)cmd_alloc(r->room = 64);   /* grows; it is never NULL, and nothing is added to NULL */
    if (!*path) return reader_bad(r, "the name of a file is empty"), 0;
    if (kalm__directory_exists(path)) return reader_bad(r, "it is a directory, not a file"), 0;
#if defined(_WIN32)
    if (strcmp(path, "-") == 0) {
        r->fd = 0;
        _setmode(0, 0x8000);           /* _O_BINARY */
    } else {
        WCHAR *wide = kalm__wide_path(path);
        r->fd = wide ? _wopen(wide, _O_RDONLY | _O_BINARY) : -1;
        free(wide);
    }
#else
    r->fd = strcmp(path, "-") == 0 ? 0 : open(path, O_RDONLY);
#endif
    if (r->fd >= 0) return 1;
    r->failed = 1;
    snprintf(r->why, sizeof r->why, "%s", kalm__os_error());
    return 0;
}

KALM__FN void reader_end(reader *r)
{
    if (r->fd > 0) close(r->fd);
    r->fd = -1;
    free(r->buffer);
    free(r->made);
    free(r->head);
    r->buffer = r->made = r->head = NULL;
    kalm__json_end(&r->json);
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

/* n bytes are done with: count the lines in them. */
KALM__FN void reader_take(reader *r, size_t n)
{
    const char *p, *end, *at;
    if (!n) return;                    /* of an empty file there is no buffer */
    p = r->buffer + r->from;
    end = p + n;
    while ((at = (const char *)memchr(p, '\n', (size_t)(end - p))) != NULL) {
        r->lines++;
        r->column = 0;
        p = at + 1;
    }
    r->column += (size_t)(end - p);
    r->from += n;
}

/* The next line without its end (LF or CR LF), not yet taken: *whole is how many bytes it has with its end. */
KALM__FN int reader_peek_line(reader *r, kalm_text *line, size_t *whole)
{
    size_t seen = 0;
    int too_long = 0;
    r->line = r->lines + 1;
    for (;;) {
        size_t have = r->to - r->from;
        char *end = have > seen ? (char *)memchr(r->buffer + r->from + seen, '\n', have - seen) : NULL;
        if (!end && !r->ended) {
            seen = have;
            if (seen > READ_LONGEST) too_long = 1;
            if (too_long) r->from = r->to, seen = 0;
            if (reader_more(r) < 0) return READ_BAD;
            continue;
        }
        if (!end && !have && !too_long) return READ_END;
        *whole = end ? (size_t)(end - (r->buffer + r->from)) + 1 : have;
        line->data = r->buffer + r->from;
        line->size = *whole - (end ? 1 : 0);
        if (too_long || line->size > READ_LONGEST) {
            reader_take(r, *whole);
            return reader_bad(r, "the line is longer than 1 GiB");
        }
        if (line->size && line->data[line->size - 1] == '\r') line->size--;
        return READ_RECORD;
    }
}

KALM__FN int reader_blank(kalm_text t)
{
    size_t i;
    for (i = 0; i < t.size; i++)
        if (t.data[i] != ' ' && t.data[i] != '\t') return 0;
    return 1;
}

KALM__FN int reader_line(reader *r, kalm_text *line)
{
    size_t whole;
    int what = reader_peek_line(r, line, &whole);
    if (what == READ_RECORD) reader_take(r, whole);
    return what;
}

/* A field that is not UTF-8 is bad, or the reader remarks on it. */
KALM__FN int reader_check(reader *r, const char *what, kalm_text t)
{
    size_t i = 0, n;
    while (i < t.size) {
        n = kalm__json_utf8((const unsigned char *)t.data + i, t.size - i);
        if (!n) {
            snprintf(r->why, sizeof r->why, "byte %lu of the %s is not UTF-8%s", (unsigned long)i, what,
                     r->strict_utf8 ? "" : "; it is read as U+FFFD");
            return !r->strict_utf8;
        }
        i += n;
    }
    return 1;
}

/* ---- JSON ------------------------------------------------------------------------------------------------------------ */

KALM__FN void reader_make(reader *r, const char *s, size_t n)
{
    if (r->made_room - r->made_size < n) {
        r->made_room = cmd_twice(kalm__add(r->made_size, n));
        r->made = (char *)cmd_grow(r->made, r->made_room);
    }
    memcpy(r->made + r->made_size, s, n);
    r->made_size += n;
}

KALM__FN void reader_make_string(reader *r, kalm_text t)
{
    size_t i;
    reader_make(r, "\"", 1);
    for (i = 0; i < t.size; i++) {
        char out[8];
        reader_make(r, out, kalm__json_escape(t.data + i, 1, out));
    }
    reader_make(r, "\"", 1);
}

/* A comma where it is not the first, the name, a colon. */
KALM__FN void reader_make_member(reader *r, kalm_text name)
{
    if (r->made_size > 1) reader_make(r, ",", 1);
    reader_make_string(r, name);
    reader_make(r, ":", 1);
}

/* Node i as JSON, without white space; 0: nested too deep. */
KALM__FN int reader_make_json(reader *r, uint32_t i, int depth)
{
    kalm__json *j = &r->json;
    uint32_t type = kalm__json_type(j, i), at, end = j->nodes[i].next;
    int object = type == KALM__JSON_OBJECT, first = 1;
    if (type == KALM__JSON_STRING) reader_make_string(r, kalm__json_text(j, i));
    else if (type == KALM__JSON_NUMBER) reader_make(r, kalm__json_text(j, i).data, kalm__json_text(j, i).size);
    else if (type == KALM__JSON_NULL) reader_make(r, "null", 4);
    else if (type == KALM__JSON_TRUE) reader_make(r, "true", 4);
    else if (type == KALM__JSON_FALSE) reader_make(r, "false", 5);
    else {
        if (depth == READ_DEPTH) return 0;
        reader_make(r, object ? "{" : "[", 1);
        for (at = i + 1; at < end; at = j->nodes[at].next, first = 0) {
            if (!first) reader_make(r, ",", 1);
            if (object) {
                reader_make_string(r, kalm__json_text(j, at));
                reader_make(r, ":", 1);
                at++;
            }
            if (!reader_make_json(r, at, depth + 1)) return 0;
        }
        reader_make(r, object ? "}" : "]", 1);
    }
    return 1;
}

/* The value that was parsed is a record. */
KALM__FN int reader_object(reader *r, text_record *rec)
{
    kalm__json *j = &r->json;
    uint32_t id, text, title, query, at, key, used[4];
    unsigned i;
    if (r->array && kalm__json_type(j, 0) == KALM__JSON_STRING) {
        rec->text = kalm__json_text(j, 0);
        if (r->with_metadata) reader_make(r, "{}", 2);
        return READ_RECORD;
    }
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT) return reader_bad(r, "an object with a string \"text\" must stand here");
    id = kalm__json_get(j, 0, "_id");
    if (!id || kalm__json_type(j, id) == KALM__JSON_NULL) {
        uint32_t other = kalm__json_get(j, 0, "id");
        if (other) id = other;
    }
    if (kalm__json_type(j, id) == KALM__JSON_NULL) id = 0;
    text = kalm__json_get(j, 0, "text");
    title = kalm__json_get(j, 0, "title");
    query = kalm__json_get(j, 0, "query");
    if (title && kalm__json_type(j, title) == KALM__JSON_NULL) title = 0;
    if (id && !kalm__json_text(j, id).data) return reader_bad(r, "the id is no string and no number");
    if (!text || kalm__json_type(j, text) != KALM__JSON_STRING)
        return reader_bad(r, "an object with a string \"text\" must stand here");
    if (title && kalm__json_type(j, title) != KALM__JSON_STRING) return reader_bad(r, "the title is no string");
    if (id) rec->key = kalm__json_text(j, id);
    rec->text = kalm__json_text(j, text);
    if (title) rec->title = kalm__json_text(j, title);
    if (query && kalm__json_type(j, query) == KALM__JSON_STRING) rec->query = kalm__json_text(j, query);
    if (!r->with_metadata) return READ_RECORD;
    used[0] = id, used[1] = text, used[2] = title, used[3] = 0;
    reader_make(r, "{", 1);
    for (at = 1; at < j->nodes[0].next; at = j->nodes[key + 1].next) {
        key = at;
        for (i = 0; i < 3 && used[i] != key + 1; i++) {}
        /* of several members of one name the last is the one that counts; the others are not kept either */
        if (i < 3 || kalm__json_is(j, key, "text") || kalm__json_is(j, key, "title") || kalm__json_is(j, key, "_id")) continue;
        if (id && kalm__json_type(j, key) == KALM__JSON_STRING && kalm__json_text(j, key).size == kalm__json_text(j, id - 1).size &&
            !memcmp(kalm__json_text(j, key).data, kalm__json_text(j, id - 1).data, kalm__json_text(j, key).size)) continue;
        reader_make_member(r, kalm__json_text(j, key));
        if (!reader_make_json(r, key + 1, 0)) return reader_bad(r, "metadata nested more than 100 deep");
    }
    reader_make(r, "}", 1);
    return READ_RECORD;
}

/* The parser says "x:LINE:COLUMN: what", counted from the begin of what it was given, which stands at `column` of r->line. */
KALM__FN int reader_json_bad(reader *r, const kalm_error *err, size_t column)
{
    unsigned long line, at;
    char *end;
    if (err->code == KALM_NO_MEMORY) die("no memory for the JSON of line %lu", r->line);   /* the line is not to blame, and not to be left out */
    if (err->code != KALM_BAD_FILE || strncmp(err->text, "x:", 2) != 0) return reader_bad(r, err->text);
    line = strtoul(err->text + 2, &end, 10);
    at = *end == ':' ? strtoul(end + 1, &end, 10) : 0;
    if (line == 1) at += (unsigned long)column;
    r->line += line ? line - 1 : 0;
    snprintf(r->why, sizeof r->why, "column %lu%s", at, end);
    return READ_BAD;
}

/* Where the value at `from` ends, over as many lines as it takes: its bytes in *size. 0: it does not end; the file does, or a
   string would go on over the end of a line, or the value is too long. Brackets are counted, the parser does the rest. */
KALM__FN int reader_value(reader *r, size_t *size)
{
    size_t i = 0, depth = 0;
    int string = 0, scalar = 0;
    for (;; i++) {
        char c;
        while (r->from + i >= r->to) {
            if (r->ended || i > READ_LONGEST || reader_more(r) < 0) return *size = i, scalar && r->ended;
        }
        c = r->buffer[r->from + i];
        if (string) {
            if (c == '\n') return 0;
            if (c == '\\') string = 2 - (string == 2);
            else if (string == 2) string = 1;
            else if (c == '"') string = 0;
            if (string || depth) continue;
            return *size = i + 1, 1;
        }
        if (c == '"') string = 1;
        else if (c == '{' || c == '[') depth++;
        else if (c == '}' || c == ']') {
            if (!depth) return *size = i, scalar;
            if (!--depth) return *size = i + 1, 1;
        } else if (!depth) {
            if (scalar && strchr(", \t\r\n", c)) return *size = i, 1;
            scalar = 1;
        }
    }
}

/* White space, over lines; the next character, or -1 at the end, or -2 where the file cannot be read. */
KALM__FN int reader_skip(reader *r)
{
    for (;;) {
        size_t n = 0;
        while (r->from + n < r->to && strchr(" \t\r\n", r->buffer[r->from + n]) && r->buffer[r->from + n]) n++;
        reader_take(r, n);
        if (r->from < r->to) return (unsigned char)r->buffer[r->from];
        if (r->ended) return -1;
        if (reader_more(r) < 0) return -2;
    }
}

/* Between the elements of an array: 1 where one begins, 0 behind the last, READ_BAD. */
KALM__FN int reader_element(reader *r)
{
    int c = reader_skip(r);
    if (c == ']' && r->array == 1) {
        reader_take(r, 1);
        r->array = 2;                  /* it has ended */
        c = reader_skip(r);
    }
    r->line = r->lines + 1;
    if (r->array == 2) {
        if (c == -1) return 0;
        if (c != -2) reader_bad(r, "something stands behind the end of the array");
    } else if (c == ',' && r->elements) {
        reader_take(r, 1);
        c = reader_skip(r);
        if (c >= 0 && c != ',' && c != ']') return 1;
        if (c != -2) reader_bad(r, c == -1 ? "the array has no end: the file is cut off" : "a value must stand behind the comma");
    } else if (c >= 0 && !r->elements && c != ',') return 1;
    else if (c == -1) reader_bad(r, "the array has no end: the file is cut off");
    else if (c >= 0) reader_bad(r, "',' or ']' must stand here");
    r->ended = 1;                      /* there is no place to go on from */
    r->from = r->to;
    r->array = 2;
    return READ_BAD;
}

KALM__FN int reader_next_json(reader *r, text_record *rec)
{
    kalm_error err;
    size_t column, size, whole;
    kalm_text line;
    int c;
    if (!r->array && !r->elements && reader_skip(r) == '[') {
        reader_take(r, 1);
        r->array = 1;
    }
    if (r->array) {
        c = reader_element(r);
        if (c == 0) return READ_END;
        if (c == READ_BAD) return READ_BAD;
        r->elements = 1;
        r->line = r->lines + 1;
        column = r->column;
        if (!reader_value(r, &size)) {
            r->ended = 1, r->from = r->to, r->array = 2;
            return reader_bad(r, "the value that begins here does not end");
        }
        c = kalm__json_parse(&r->json, "x", r->buffer + r->from, size, &err) ? reader_json_bad(r, &err, column) : reader_object(r, rec);
        reader_take(r, size);
        return c;
    }
    c = reader_skip(r);
    if (c < 0) return c == -1 ? READ_END : READ_BAD;
    r->elements = 1;
    column = r->column;
    c = reader_peek_line(r, &line, &whole);
    if (c != READ_RECORD) return c;
    if (!kalm__json_parse(&r->json, "x", line.data, line.size, &err)) {
        c = reader_object(r, rec);     /* its texts stand in the buffer: taking does not move it */
        reader_take(r, whole);
        return c;
    }
    /* A value over many lines, the first of which is no value by itself. When it does not end, that is not what the file is, and
       its lines are read one by one. */
    if (!r->one_line && err.code == KALM_BAD_FILE && strstr(err.text, "the text ends too early")) {
        unsigned long first = r->line;
        if (reader_value(r, &size) && size <= READ_LONGEST) {
            r->line = first;
            c = kalm__json_parse(&r->json, "x", r->buffer + r->from, size, &err) ? reader_json_bad(r, &err, column) : reader_object(r, rec);
            reader_take(r, size);
            return c;
        }
        r->one_line = 1;
        r->line = first;
    }
    c = reader_json_bad(r, &err, column);
    reader_take(r, whole);
    return c;
}

/* ---- TSV ------------------------------------------------------------------------------------------------------------- */

/* The next field of a TSV line; 0 behind the last. */
KALM__FN int reader_field(kalm_text *line, int *first, kalm_text *field)
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

/* Is t one of the names "a|b|c"? Capitals do not count. */
KALM__FN int reader_is(kalm_text t, const char *names)
{
    while (*names) {
        size_t n = strcspn(names, "|"), i;
        for (i = 0; i < n && n == t.size; i++) {
            char c = t.data[i];
            if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != names[i]) break;
        }
        if (n == t.size && i == n) return 1;
        names += n + (names[n] != 0);
    }
    return 0;
}

#define READ_KEY_NAMES "_id|id|key|docid|doc_id|doc-id|docno|document_id|pid|did|passage_id|corpus_id|corpus-id|uid"
#define READ_TEXT_NAMES "text|contents|content|passage|body|document|doc|passage_text|document_text"

/* Does the first line name the columns? It does when a key or a text is among its names; of two columns the other is then clear.
   READ_RECORD: it does; READ_END: it is a document; READ_BAD: it names columns, but not which one is the key or the text. */
KALM__FN int reader_columns(reader *r, kalm_text line)
{
    kalm_text field;
    size_t keys = 0, texts = 0, i;
    int first = 1;
    free(r->head);
    r->head = cmd_copy(line);
    line.data = r->head;
    r->columns = 0;
    while (r->columns < 64 && reader_field(&line, &first, &field)) r->column_name[r->columns++] = field;
    r->title_column = r->columns;
    for (i = r->columns; i-- > 0;) {
        if (reader_is(r->column_name[i], READ_KEY_NAMES)) keys++, r->key_column = i;
        else if (reader_is(r->column_name[i], "title|heading")) r->title_column = i;
    }
    for (i = r->columns; i-- > 0;)
        if (reader_is(r->column_name[i], READ_TEXT_NAMES)) texts++, r->text_column = i;
    for (i = r->columns; i-- > 0;)     /* "text" goes before the others */
        if (reader_is(r->column_name[i], "text")) texts = 1, r->text_column = i;
    for (i = r->columns; i-- > 0;)     /* as "_id" and "id" do */
        if (reader_is(r->column_name[i], "id")) keys = 1, r->key_column = i;
    for (i = r->columns; i-- > 0;)
        if (reader_is(r->column_name[i], "_id")) keys = 1, r->key_column = i;
    if (!keys && !texts) return r->columns = 0, READ_END;
    if (r->columns == 2 && (!keys || !texts)) {
        if (!keys) r->key_column = !r->text_column;
        else r->text_column = !r->key_column;
        if (r->title_column == r->text_column) r->title_column = 2;
        keys = texts = 1;
    }
    if (keys && texts && r->columns > 1 && !line.size) return READ_RECORD;
    if (!keys) return r->columns = 0, READ_END;    /* a document, one field of which says "text" */
    r->columns = 0;
    return reader_bad(r, line.size ? "the first line names more than 64 columns"
                                   : "the first line names columns, but none of them is the text (text, contents, passage, body ...)");
}

KALM__FN int reader_tsv(reader *r, kalm_text line, text_record *rec)
{
    kalm_text field;
    size_t n = 0, most = r->columns ? r->columns : 2;
    int first = 1;
    if (r->with_metadata) reader_make(r, "{", 1);
    while (reader_field(&line, &first, &field)) {
        if (n < r->columns) {
            if (n == r->key_column) rec->key = field;
            else if (n == r->text_column) rec->text = field;
            else if (n == r->title_column) rec->title = field;
            else if (r->with_metadata && !reader_is(r->column_name[n], "_id|text|title")) {
                if (!reader_check(r, "metadata", field)) return READ_BAD;
                reader_make_member(r, r->column_name[n]);
                reader_make_string(r, field);
            }
        } else if (n == 0) rec->key = field;
        else if (n == 1) rec->text = field;
        n++;
    }
    if (r->with_metadata) reader_make(r, "}", 1);
    if (n != most) {
        snprintf(r->why, sizeof r->why, r->columns ? "%lu columns, the first line names %lu" :
                 "%lu columns; without names in the first line they are %lu, key and text", (unsigned long)n, (unsigned long)most);
        return READ_BAD;
    }
    return reader_check(r, "key", rec->key) && reader_check(r, "title", rec->title) && reader_check(r, "text", rec->text)
           ? READ_RECORD : READ_BAD;
}

/* ---- records --------------------------------------------------------------------------------------------------------- */

/* JSON, TSV or LINES of a file that may be any of them, by its first line that is not blank. `tabs`: is a line with a tab TSV? A
   text that begins with a bracket is JSON when what follows the bracket could be. READ_AUTO: the file is empty or unreadable. */
KALM__FN int reader_guess(reader *r, int tabs)
{
    kalm_text line;
    size_t whole, i;
    int what;
    while ((what = reader_peek_line(r, &line, &whole)) == READ_RECORD && reader_blank(line)) reader_take(r, whole);
    if (what != READ_RECORD) return READ_AUTO;     /* what is broken is said by reader_next */
    for (i = 0; line.data[i] == ' ' || line.data[i] == '\t'; i++) {}
    if (line.data[i] == '{') return READ_JSON;
    if (line.data[i] == '[') {
        size_t k = i + 1;
        while (r->from + k < r->to && r->buffer[r->from + k] && strchr(" \t\r\n", r->buffer[r->from + k])) k++;
        if (r->from + k >= r->to || strchr("{[\"]", r->buffer[r->from + k])) return READ_JSON;
    }
    return tabs && memchr(line.data, '\t', line.size) ? READ_TSV : READ_LINES;
}

KALM__FN int reader_whole(reader *r, text_record *rec)
{
    int n;
    r->line = 0;
    while ((n = reader_more(r)) > 0)
        if (r->to - r->from > READ_LONGEST) {
            reader_bad(r, "the file is longer than 1 GiB");
            n = reader_broken(r);
            break;
        }
    r->decided = 1;
    rec->text.data = r->buffer + r->from;
    rec->text.size = r->to - r->from;
    r->from = r->to;
    if (n < 0) return READ_BAD;
    if (r->with_metadata) reader_make(r, "{}", 2);
    return reader_check(r, "text", rec->text) ? READ_RECORD : READ_BAD;
}

/* The next record into *rec. READ_BAD: what stands at line r->line (0: the file itself) is passed over, r->why says why. */
KALM__FN int reader_next(reader *r, text_record *rec)
{
    kalm_text line;
    int what;
    memset(rec, 0, sizeof *rec);
    r->made_size = 0;
    if (!r->broken) r->why[0] = 0;
    if (r->broken) what = READ_BAD;
    else if (r->format == READ_WHOLE) what = r->decided ? READ_END : reader_whole(r, rec);
    else if (r->format == READ_JSON) {
        what = reader_next_json(r, rec);
    } else {
        do what = reader_line(r, &line);
        while (what == READ_RECORD && reader_blank(line));
        if (what == READ_RECORD && r->format == READ_TSV && !r->decided) {
            r->decided = 1;
            what = reader_columns(r, line);
            if (what == READ_RECORD) return reader_next(r, rec);
            if (what == READ_BAD) {
                r->ended = 1, r->from = r->to;     /* what the columns are is not known */
                return what;
            }
            what = READ_RECORD;
        }
        if (what == READ_RECORD && r->format == READ_TSV) what = reader_tsv(r, line, rec);
        else if (what == READ_RECORD) {
            rec->text = line;
            if (r->with_metadata) reader_make(r, "{}", 2);
            if (!reader_check(r, "text", line)) what = READ_BAD;
        }
    }
    if (r->broken) {
        r->broken = 0;
        r->line = r->lines ? r->lines + 1 : 0;
        return READ_BAD;
    }
    rec->metadata.data = r->made;
    rec->metadata.size = r->made_size;
    return what;
}

#endif
