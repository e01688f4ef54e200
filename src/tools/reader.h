/* reader.h - texts out of a file, one record after the other, the same way for every command. Memory does not grow with the
   file. What a file is, is told by its bytes where its name does not say it:

   JSON    objects with a text, and maybe a key, a title and "query": one a line (JSON Lines), one behind the other over many lines
           or after the record separators of RFC 7464, or the elements of one array; an element that is a string is a text without
           a key. The key is a string or a number
   TSV     key TAB text a line, nothing is quoted; or columns as the first line names them
   CSV     columns as the first row names them; a key need not be there. Fields may be quoted
   Members and columns are found by name: a key ("_id", "id", docid ...), a text ("text", contents, passage ...), a title; the
   others are metadata (reader_bytes.h has the names)
   LINES   a text a line
   WHOLE   the file is one text

   Bytes may be UTF-8, UTF-16 or UTF-32, with or without a byte order mark, and lines may end in CR LF. Compressed files and
   others that hold no text are refused by what they are. A bad piece of input is told with its line and passed over; whether
   to go on is for the caller to say. */
#ifndef KALM_READER_H
#define KALM_READER_H

#include "reader_json.h"
#include "reader_table.h"

/* Does a file that begins with this line hold tags between its texts? */
KALM__FN int reader_is_markup(kalm_text line)
{
    static const char *const begins[] = { "<!doctype", "<html", "<?xml", "<doc>" };
    size_t b;
    for (; line.size && (*line.data == ' ' || *line.data == '\t'); line.data++, line.size--) {}
    for (b = 0; b < sizeof begins / sizeof *begins; b++)
        if (reader_begins(line, begins[b], strlen(begins[b]))) return 1;
    return 0;
}

/* JSON, CSV, TSV or LINES of a file that may be any of them, by its first line that is not blank. `tabs`: is a line with a tab TSV? A
   text that begins with a bracket is JSON when what follows the bracket could be. READ_AUTO: the file is empty, or reader_next says what is wrong with it. */
KALM__FN int reader_guess(reader *r, int tabs)
{
    kalm_text line;
    size_t whole, i;
    int what;
    while ((what = reader_peek_line(r, &line, &whole)) == READ_RECORD && reader_blank(line)) reader_take(r, whole);
    if (what != READ_RECORD) return READ_AUTO;     /* what is broken is said by reader_next */
    for (i = 0; line.data[i] == ' ' || line.data[i] == '\t'; i++) {}
    if (line.data[i] == '{' || line.data[i] == READ_SEQUENCE) return READ_JSON;
    if (line.data[i] == '[') {
        size_t k = i + 1;
        while (r->from + k < r->to && r->buffer[r->from + k] && strchr(" \t\r\n", r->buffer[r->from + k])) k++;
        if (r->from + k >= r->to || strchr("{[\"]", r->buffer[r->from + k])) return READ_JSON;
    }
    if (reader_is_markup(line)) {
        reader_bad(r, "is a page of HTML or another file of marked up text, not a file of texts: kalm-search reads HTML");
        reader_broken(r);
        return READ_AUTO;
    }
    if (reader_is_csv(r, line)) return READ_CSV;
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
    else if (r->format == READ_JSON) what = reader_next_json(r, rec);
    else if (r->format != READ_LINES) what = reader_next_row(r, rec);
    else {
        do what = reader_line(r, &line);
        while (what == READ_RECORD && reader_blank(line));
        if (what == READ_RECORD) {
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
