/* reader_bytes.h - the bytes of a file of texts as UTF-8, whatever they were, and its lines: the part of reader.h below what the
   texts are written in. Compressed files and others that hold no text are refused by what they are. Memory does not grow with
   the file, but with its longest line. */
#ifndef KALM_READER_BYTES_H
#define KALM_READER_BYTES_H

#include "files.h"
#include "json.h"
#include "messages.h"
#include <errno.h>

enum { READ_AUTO, READ_JSON, READ_TSV, READ_LINES, READ_CSV, READ_WHOLE };     /* formats */
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
    int           fd, ended, decided;  /* decided: the first line of a table was looked at, or the whole file given */
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
    int           array, elements;     /* JSON: inside an array, which has had elements */
    int           one_line;            /* one that went on over lines had no end: from now on a value or a row has a line at most */
    kalm__json    json;
    char         *made;                /* metadata of the record */
    size_t        made_size, made_room;
    char          separator;           /* of the fields of a CSV file; 0: not known yet */
    char         *head;                /* the first line of a table with names; columns point into it */
    kalm_text     column_name[64];
    size_t        columns, key_column, text_column, title_column;   /* columns 0: no names; key and title may be none: columns */
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
        { "{\\rtf", 5, "is an RTF file: take its text out first" },
        { "\xd0\xcf\x11\xe0", 4, "is a file of an office program: take its text out first" },
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
        if (c < 9 || (c > 13 && c < 32 && c != 27 && c != 30) || c >= 0x110000 || (c & 0xfffe) == 0xfffe) return 0;
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
    kalm_allocator allocator = cmd_allocator();
    memset(r, 0, sizeof *r);
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

/* ---- names of what a record holds ------------------------------------------------------------------------------------ */

/* The same in JSON and in tables. Of several the first of these is it. */
#define READ_KEY_NAMES "_id|id|key|docid|doc_id|doc-id|docno|document_id|pid|did|passage_id|corpus_id|corpus-id|uid"
#define READ_TEXT_NAMES "text|contents|content|passage|body|document|doc|passage_text|document_text"
#define READ_TITLE_NAMES "title|heading"

/* Does t begin with the n characters of `word`? Capitals of t do not count. */
KALM__FN int reader_begins(kalm_text t, const char *word, size_t n)
{
    size_t i;
    for (i = 0; i < n && i < t.size; i++) {
        char c = t.data[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != word[i]) break;
    }
    return i == n;
}

/* Which of the names "a|b|c" is t, from 1; 0: none. Capitals do not count. */
KALM__FN unsigned reader_is(kalm_text t, const char *names)
{
    unsigned k;
    for (k = 1; *names; k++) {
        size_t n = strcspn(names, "|");
        if (n == t.size && reader_begins(t, names, n)) return k;
        names += n + (names[n] != 0);
    }
    return 0;
}

/* ---- metadata: the JSON that is made for a record ---------------------------------------------------------------------- */

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

#endif
