/* search_text.h - from a file to the documents in it. What a file is, is told by its name and its first bytes:

   .jsonl .ndjson   a document for each object ("text", maybe "title", "_id" or "id"); .json too, if it begins with such an object
   .csv             a document for each row, if the first row names a column that is the text
   a mailbox        (it begins with "From ") a document for each message; .eml and the files of a Maildir are one message
   .html .htm       the text of the page; the title is its <title>
   .md .markdown    as it stands; the title is the first heading, or that of the front matter
   others           as they stand, if they are text: UTF-8, or UTF-16 and UTF-32 as reader.h tells them

   What holds no text is named with what it is, and left out. Included behind search_html.h and search_mail.h. */
#ifndef KALM_SEARCH_TEXT_H
#define KALM_SEARCH_TEXT_H

enum { SEARCH_PLAIN, SEARCH_MARKDOWN, SEARCH_PAGE, SEARCH_JSON, SEARCH_MAYBE_JSON, SEARCH_TABLE, SEARCH_MAILBOX, SEARCH_MESSAGE };

/* A document of a file. id: of a record or message; empty where the file is one text; made: it is a hash of what the document says (fill_hash),
   which has no key. Texts live during the call. */
typedef struct search_doc { kalm_text id, title, text, metadata; int made; } search_doc;

/* What is done with what is found; `line` 0: of the file itself. */
typedef struct search_taker {
    void (*take)(void *user, const search_doc *doc, unsigned long line);
    void (*bad)(void *user, unsigned long line, const char *why);
    void  *user;
    uint64_t largest;                  /* bytes of one text */
    uint64_t place;                    /* bytes of the file that are behind the reader */
    int      failed;                   /* the system could not read all of the file: it is to be read again next time */
} search_taker;

KALM__FN int search_ends_in(const char *path, const char *ends)
{
    const char *dot = strrchr(path, '.');
    size_t n;
    if (!dot || strchr(dot, '/')) return 0;
    for (dot++; *ends; ends += n + (ends[n] == ' ')) {
        size_t i;
        n = strcspn(ends, " ");
        for (i = 0; i < n && dot[i]; i++)
            if ((dot[i] >= 'A' && dot[i] <= 'Z' ? dot[i] + 32 : dot[i]) != ends[i]) break;
        if (i == n && !dot[n]) return 1;
    }
    return 0;
}

/* "From somebody Mon Jan  1 ..." and behind it a header, "Name: ...". */
KALM__FN int search_is_mailbox(const char *head, size_t size)
{
    const char *line = size > 5 && !memcmp(head, "From ", 5) ? (const char *)memchr(head, '\n', size) : NULL;
    size_t i, left;
    if (!line || !memchr(head, ':', (size_t)(line - head))) return 0;
    left = size - (size_t)(++line - head);
    if (left && *line == '>') line++, left--;      /* ">From " of old mailboxes */
    for (i = 0; i < left && line[i] > ' ' && line[i] != ':' && line[i] != 127; i++) {}
    return i > 0 && i < left && (line[i] == ':' || !memcmp(line, "From", 4));
}

KALM__FN int search_is_page(const char *head, size_t size)
{
    kalm_text t;
    while (size && strchr(" \t\r\n\xef\xbb\xbf", *head) && *head) head++, size--;
    t.data = head;
    t.size = size;
    return reader_begins(t, "<!doctype html", 14) || reader_begins(t, "<html", 5);
}

KALM__FN int search_kind(const search_file *f, const char *head, size_t size)
{
    if (f->mail || search_ends_in(f->path, "eml")) return SEARCH_MESSAGE;
    if (search_ends_in(f->path, "jsonl ndjson")) return SEARCH_JSON;
    if (search_ends_in(f->path, "json")) return SEARCH_MAYBE_JSON;
    if (search_ends_in(f->path, "csv")) return SEARCH_TABLE;
    if (search_ends_in(f->path, "md markdown")) return SEARCH_MARKDOWN;
    if (search_ends_in(f->path, "html htm xhtml") || search_is_page(head, size)) return SEARCH_PAGE;
    return search_is_mailbox(head, size) ? SEARCH_MAILBOX : SEARCH_PLAIN;
}

/* ---- one text a file --------------------------------------------------------------------------------------------------- */

KALM__FN kalm_text search_trim(kalm_text t)
{
    while (t.size && strchr(" \t\r\n#", *t.data) && *t.data) t.data++, t.size--;
    while (t.size && strchr(" \t\r\n#", t.data[t.size - 1]) && t.data[t.size - 1]) t.size--;
    return t;
}

/* The title of a text in Markdown: "title:" of the front matter (lines between two "---"), else the first heading ("# ..."). */
KALM__FN kalm_text search_markdown_title(kalm_text text)
{
    kalm_text line, none = { NULL, 0 };
    int front = 0, number = 0, code = 0;
    while (cmd_line(&text, &line)) {
        int dashes = line.size >= 3 && !memcmp(line.data, "---", 3);
        if (!number++ && dashes) {
            front = 1;
            continue;
        }
        if (front) {
            if (dashes) front = 0;
            else if (line.size > 6 && !memcmp(line.data, "title:", 6)) {
                line.data += 6;
                line.size -= 6;
                line = search_trim(line);
                if (line.size > 1 && strchr("\"'", *line.data) && line.data[line.size - 1] == *line.data) line.data++, line.size -= 2;
                return line;
            }
            continue;
        }
        if (line.size >= 3 && (!memcmp(line.data, "```", 3) || !memcmp(line.data, "~~~", 3))) code = !code;
        if (!code && line.size > 1 && *line.data == '#') {
            size_t n = 0;
            while (n < line.size && line.data[n] == '#') n++;
            if (n <= 6 && n < line.size && line.data[n] == ' ') return search_trim(line);
        }
    }
    return none;
}

/* A text must be what the store takes: UTF-8 without NUL. */
KALM__FN int search_good(const search_taker *to, const char *what, kalm_text t, unsigned long line)
{
    size_t at = store_bad_byte(t);
    char why[128];
    if (at == t.size) return 1;
    snprintf(why, sizeof why, "%s, byte %lu: no text (%s)", what, (unsigned long)at, t.data[at] ? "not UTF-8" : "a NUL");
    to->bad(to->user, line, why);
    return 0;
}

KALM__FN void search_take_text(search_taker *to, const search_file *f, int kind)
{
    reader r;
    text_record record;
    search_doc d;
    search_buffer text, title;
    memset(&d, 0, sizeof d);
    memset(&text, 0, sizeof text);
    memset(&title, 0, sizeof title);
    if (!reader_begin(&r, f->path, READ_WHOLE)) to->bad(to->user, 0, r.why);
    else {
        r.strict_utf8 = kind != SEARCH_PAGE;       /* a page says in what it is written */
        if (kind == SEARCH_PAGE) r.unit = 1;
        if (reader_next(&r, &record) == READ_BAD) to->bad(to->user, 0, r.why);
        else if (kind == SEARCH_PAGE) {
            int page = search_html(record.text.data, record.text.size, &text, &title);
            if (page != 1) to->bad(to->user, 0, page ? "its elements lie too deep in each other: only its beginning was read" : "no page of HTML that can be read");
            if (page) {
                d.text.data = text.data ? text.data : "";
                d.text.size = text.size;
                d.title.data = title.data ? title.data : "";
                d.title.size = kalm__min(title.size, 300);
                while (d.title.size < title.size && d.title.size && ((unsigned char)title.data[d.title.size] & 0xc0) == 0x80) d.title.size--;
            }
        } else {
            d.text = record.text;
            if (kind == SEARCH_MARKDOWN) d.title = search_markdown_title(d.text);
            if (d.title.size > 300) d.title.size = 0;              /* no heading that anybody wrote */
        }
        if ((d.text.size || d.title.size) && search_good(to, "the text", d.text, 0) && search_good(to, "the title", d.title, 0) &&
            (search_trim(d.text).size || d.title.size)) {
            d.metadata = kalm__text("{}");
            to->take(to->user, &d, 0);
        }
    }
    to->failed |= r.failed;
    reader_end(&r);
    free(text.data);
    free(title.data);
}

/* ---- many texts a file ------------------------------------------------------------------------------------------------- */

/* 0: the file (a .json or .csv) is to be taken as it stands: its first value is no object with a text, or its first row names none. */
KALM__FN int search_take_records(search_taker *to, const search_file *f, int kind)
{
    reader r;
    text_record record;
    search_doc d;
    char number[32];
    int what, taken = 0;
    memset(&d, 0, sizeof d);
    if (!reader_begin(&r, f->path, kind == SEARCH_TABLE ? READ_CSV : READ_JSON)) {
        to->bad(to->user, 0, r.why);
        to->failed |= r.failed;
        reader_end(&r);
        return 1;
    }
    r.with_metadata = 1;
    while ((what = reader_next(&r, &record)) != READ_END && !kalm__interrupted) {
        if (what == READ_BAD && kind != SEARCH_JSON && !taken && !r.columns && !r.failed) {
            reader_end(&r);
            return 0;
        }
        taken = 1;
        to->place = r.read - kalm__min((size_t)r.read, r.to - r.from);
        if (what == READ_BAD) {
            to->bad(to->user, r.line, r.why);
            continue;
        }
        if (record.text.size > to->largest) {
            to->bad(to->user, r.line, "the text is larger than --max-size");
            continue;
        }
        d.id = record.key;
        if (!d.id.size) {
            d.id.data = number;
            d.id.size = (size_t)sprintf(number, "%lu", r.line);
        }
        d.title = record.title;
        d.text = record.text;
        d.metadata = record.metadata;
        if (!search_trim(d.text).size && !d.title.size) to->bad(to->user, r.line, "the text is empty");
        else if (search_good(to, "the key", d.id, r.line) && search_good(to, "the title", d.title, r.line) &&
                 search_good(to, "the text", d.text, r.line) && search_good(to, "the metadata", d.metadata, r.line))
            to->take(to->user, &d, r.line);
    }
    to->failed |= r.failed;
    reader_end(&r);
    return 1;
}

KALM__FN void search_take_mail(search_taker *to, const search_file *f, int many)
{
#ifdef HAVE_GMIME
    search_mail mail;
    search_message m;
    search_doc d;
    char number[32];
    memset(&m, 0, sizeof m);
    memset(&d, 0, sizeof d);
    if (!search_mail_begin(&mail, f->path, many)) {
        to->bad(to->user, 0, kalm__os_error());
        to->failed = 1;
        return;
    }
    while (!kalm__interrupted && search_mail_next(&mail, &m)) {
        to->place = search_mail_place(&mail);
        d.title.data = m.title.data ? m.title.data : "";
        d.title.size = m.title.size;
        d.text.data = m.text.data ? m.text.data : "";
        d.text.size = m.text.size;
        d.metadata.data = m.metadata.data;
        d.metadata.size = m.metadata.size;
        d.id.size = 0;
        d.made = many && !m.id.size;
        if (many && m.id.size) {
            d.id.data = m.id.data;
            d.id.size = m.id.size;
        } else if (d.made) {           /* by what it says: where it stands changes when another is deleted */
            store_write_hash(number, fill_hash(d.title, d.text));
            d.id = kalm__text(number);
        }
        if (d.text.size > to->largest) to->bad(to->user, 0, "a message is larger than --max-size");
        else if (search_trim(d.text).size || d.title.size) to->take(to->user, &d, 0);
        if (!many) break;
    }
    if (search_mail_failed(&mail)) {
        to->bad(to->user, 0, "cannot be read to its end");
        to->failed = 1;
    }
    search_message_end(&m);
    search_mail_end(&mail);
#else
    (void)f, (void)many;
    to->bad(to->user, 0, "is mail, and this program was built without GMime");
#endif
}

/* Everything of one file; head [size] are its first bytes. */
KALM__FN void search_take_file(search_taker *to, const search_file *f, const char *head, size_t size)
{
    int kind = search_kind(f, head, size);
    char why[96];
    to->place = 0;
    to->failed = 0;
    if (kind == SEARCH_MAILBOX || kind == SEARCH_MESSAGE) {
        search_take_mail(to, f, kind == SEARCH_MAILBOX);
        return;
    }
    if (kind == SEARCH_JSON || kind == SEARCH_MAYBE_JSON || kind == SEARCH_TABLE) {
        if (search_take_records(to, f, kind)) return;
        kind = SEARCH_PLAIN;
    }
    if ((uint64_t)f->size > to->largest) {
        snprintf(why, sizeof why, "%.1f MiB are more than --max-size", (double)f->size / 1048576);
        to->bad(to->user, 0, why);
        return;
    }
    search_take_text(to, f, kind);
}

/* A hash of all of a file, with the database's key, and its first bytes into head [*size of at most `room`]. 0: it cannot be read. */
KALM__FN int search_file_hash(const search_file *f, const uint64_t secret[2], char *hash, char *head, size_t *size, size_t room)
{
    enum { PIECE = 1 << 20 };
    unsigned char two[16];
    char *piece = (char *)cmd_alloc(PIECE);
    uint64_t all = 0, at = 0;
    size_t n = 0;
    kalm__input in;
    kalm_error err;
    int good = !kalm__input_open(&in, f->path, &err);
    *size = 0;
    while (good && at < in.size && !kalm__interrupted) {
        n = (size_t)kalm__min(in.size - at, (uint64_t)PIECE);
        good = kalm__input_read(&in, at, piece, n);
        if (!good) break;
        if (!at) memcpy(head, piece, *size = kalm__min(n, room));
        kalm__put_u64(two, all);
        kalm__put_u64(two + 8, kalm__siphash(secret, piece, n));
        all = kalm__siphash(secret, two, 16);
        at += n;
    }
    kalm__input_close(&in);
    store_write_hash(hash, all);
    free(piece);
    return good;
}

#endif
