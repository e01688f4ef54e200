/* reader_table.h - a part of reader.h: tables, a text a row.

   TSV: a row is a line, and nothing is quoted. Without names in the first line its columns are key and text.
   CSV (RFC 4180): fields are parted by commas, or by semicolons or tabs where that gives the names of columns. A field in
   quotation marks may hold separators, ends of lines, and quotation marks that are doubled. The first row names the columns. */
#ifndef KALM_READER_TABLE_H
#define KALM_READER_TABLE_H

#include "reader_bytes.h"

/* ---- rows and fields -------------------------------------------------------------------------------------------------- */

/* The next row of a CSV file without its end, not yet taken (as reader_peek_line): a line, and those behind it as long as a
   field in quotation marks goes on. One that goes on to the end of the file is its first line, and so are all behind it, so
   that a missing mark costs no more than that. */
KALM__FN int reader_peek_row(reader *r, kalm_text *row, size_t *whole)
{
    enum { BEGIN, PLAIN, QUOTED, MARK } field = BEGIN;             /* MARK: a quotation mark behind QUOTED: its end, or doubled */
    size_t i;
    r->line = r->lines + 1;
    for (i = 0; !r->one_line; i++) {
        char c;
        while (i == r->to - r->from && !r->ended && i <= READ_LONGEST)
            if (reader_more(r) < 0) return READ_BAD;
        if (i == r->to - r->from || i > READ_LONGEST) {
            r->one_line = field == QUOTED || i > READ_LONGEST;
            break;
        }
        c = r->buffer[r->from + i];
        if (c == '"' && field != PLAIN) field = field == QUOTED ? MARK : QUOTED;
        else if (field == QUOTED) continue;
        else if (c == '\n') break;
        else field = r->separator ? c == r->separator ? BEGIN : PLAIN : strchr(",;\t", c) && c ? BEGIN : PLAIN;
    }
    if (r->one_line) return reader_peek_line(r, row, whole);
    row->data = r->buffer + r->from;
    row->size = i;
    *whole = i + (i < r->to - r->from);
    if (!*whole) return READ_END;
    if (i && row->data[i - 1] == '\r') row->size--;
    return READ_RECORD;
}

/* The next field of a row, of which [*at, end) is left; quotation marks of CSV are taken away in place. 0 behind the
   last field, -1: marks that do not close, or text behind them. */
KALM__FN int reader_field(const reader *r, char separator, char **at, char *end, int *first, kalm_text *field)
{
    char *p = *at, *to;
    if (!*first) {
        if (p == end) return 0;
        p++;                           /* the separator */
    }
    *first = 0;
    field->data = p;
    if (r->format == READ_CSV && p < end && *p == '"') {
        for (to = p++;; *to++ = *p++) {
            if (p == end) return -1;
            if (*p == '"' && (++p == end || *p != '"')) break;
        }
        field->size = (size_t)(to - field->data);
        *at = p;
        return p == end || *p == separator ? 1 : -1;
    }
    to = p < end ? (char *)memchr(p, separator, (size_t)(end - p)) : NULL;
    *at = to ? to : end;
    field->size = (size_t)(*at - p);
    return 1;
}

/* ---- names of columns -------------------------------------------------------------------------------------------------- */

/* Take the first row apart: which columns are named as key, text and title? Those that are not are r->columns. Of several "_id"
   goes before "id", "text" before others of its kind, else the first counts. 0: it is no row of at most 64 columns. */
KALM__FN int reader_name_columns(reader *r, kalm_text row, char separator)
{
    unsigned key = 3, text = 2, k;
    char *at, *end;
    kalm_text field;
    size_t i;
    int first = 1, more = 1;
    free(r->head);
    at = r->head = cmd_copy(row);
    end = at + row.size;
    r->columns = 0;
    while (r->columns < 64 && (more = reader_field(r, separator, &at, end, &first, &field)) > 0)
        r->column_name[r->columns++] = field;
    r->key_column = r->text_column = r->title_column = r->columns;
    for (i = 0; i < r->columns; i++) {
        k = reader_is(r->column_name[i], READ_KEY_NAMES);
        if (k && (k < key || r->key_column == r->columns)) key = k, r->key_column = i;
        k = reader_is(r->column_name[i], READ_TEXT_NAMES);
        if (k && (k < text || r->text_column == r->columns)) text = k, r->text_column = i;
        if (reader_is(r->column_name[i], READ_TITLE_NAMES) && r->title_column == r->columns) r->title_column = i;
    }
    return more >= 0 && at == end;
}

/* Of two columns one of which is the key or the text the other is clear. */
KALM__FN void reader_other_column(reader *r)
{
    if (r->columns != 2 || (r->key_column == 2) == (r->text_column == 2)) return;
    if (r->key_column == 2) r->key_column = !r->text_column;
    else r->text_column = !r->key_column;
    if (r->title_column == r->text_column || r->title_column == r->key_column) r->title_column = 2;
}

#define READ_TEXT_LIKE "(text, contents, passage, body ...)"

/* Does the first row name the columns? In TSV it does when a key or a text is among its names; in CSV it must, and a key need not
   be there. READ_RECORD: it does; READ_END: it is a document; READ_BAD: it names columns, but not which one is what is needed. */
KALM__FN int reader_columns(reader *r, kalm_text row)
{
    const char *separators = ",;\t";
    if (r->format == READ_CSV) {
        for (; *separators; separators++) {
            int good = reader_name_columns(r, row, *separators);
            if (r->key_column < r->columns) reader_other_column(r);
            if (r->text_column == r->columns) continue;
            r->separator = *separators;
            if (good) return READ_RECORD;
            r->columns = 0;
            return reader_bad(r, "the first row names more than 64 columns, or its quotation marks do not close");
        }
        r->columns = 0;
        return reader_bad(r, "the first row of CSV names the columns, and none here is the text " READ_TEXT_LIKE);
    }
    if (!reader_name_columns(r, row, '\t') && r->key_column < r->columns) {
        r->columns = 0;
        return reader_bad(r, "the first line names more than 64 columns");
    }
    reader_other_column(r);
    if (r->key_column < r->columns && r->text_column < r->columns) return READ_RECORD;
    if (r->key_column == r->columns) return r->columns = 0, READ_END;          /* a document, one field of which may say "text" */
    r->columns = 0;
    return reader_bad(r, "the first line names columns, but none of them is the text " READ_TEXT_LIKE);
}

/* Is the first row that of a CSV file, of which nothing else says so? It is when it names a text, beside it a key or a title, and
   nothing in it is longer than a name. */
KALM__FN int reader_is_csv(reader *r, kalm_text row)
{
    int format = r->format, is = 0;
    const char *separators = ",;";
    size_t i;
    if (row.size > 1000) return 0;
    r->format = READ_CSV;              /* its fields may be in quotation marks */
    for (; *separators && !is; separators++) {
        is = reader_name_columns(r, row, *separators) && r->text_column < r->columns &&
             (r->key_column < r->columns || r->title_column < r->columns);
        for (i = 0; i < r->columns; i++) is = is && r->column_name[i].size && r->column_name[i].size <= 40;
    }
    r->columns = 0;
    r->format = format;
    return is;
}

/* ---- records ----------------------------------------------------------------------------------------------------------- */

KALM__FN int reader_take_row(reader *r, char *at, char *end, text_record *rec)
{
    kalm_text field;
    size_t n = 0, most = r->columns ? r->columns : 2;
    char separator = r->format == READ_CSV ? r->separator : '\t';
    int first = 1, more;
    if (r->with_metadata) reader_make(r, "{", 1);
    while ((more = reader_field(r, separator, &at, end, &first, &field)) > 0) {
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
    if (more < 0) return reader_bad(r, "a field's quotation marks do not close, or text stands behind them");
    if (n != most) {
        snprintf(r->why, sizeof r->why, r->columns ? "%lu columns, the first line names %lu" :
                 "%lu columns; without names in the first line they are %lu, key and text", (unsigned long)n, (unsigned long)most);
        return READ_BAD;
    }
    return reader_check(r, "key", rec->key) && reader_check(r, "title", rec->title) && reader_check(r, "text", rec->text)
           ? READ_RECORD : READ_BAD;
}

KALM__FN int reader_next_row(reader *r, text_record *rec)
{
    for (;;) {
        kalm_text row;
        char *at;
        size_t whole;
        int what = r->format == READ_CSV ? reader_peek_row(r, &row, &whole) : reader_peek_line(r, &row, &whole);
        if (what != READ_RECORD) return what;
        at = r->buffer + r->from;
        reader_take(r, whole);         /* before quotation marks are taken away in place: it counts the lines */
        if (reader_blank(row)) continue;
        if (!r->decided) {
            r->decided = 1;
            what = reader_columns(r, row);
            if (what == READ_RECORD) continue;
            if (what == READ_BAD) {
                r->ended = 1, r->from = r->to;     /* what the columns are is not known */
                return what;
            }
        }
        return reader_take_row(r, at, at + row.size, rec);
    }
}

#endif
