/* reader_json.h - a part of reader.h: JSON, one object or text after the other. */
#ifndef KALM_READER_JSON_H
#define KALM_READER_JSON_H

#include "reader_bytes.h"

#define READ_SEQUENCE 0x1e             /* the separator before each text of a JSON text sequence (RFC 7464) */

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

/* The member of the object with the first of the names "a|b|c" that is there and not null; 0: none. */
KALM__FN uint32_t reader_member(const kalm__json *j, const char *names)
{
    uint32_t at, found = 0;
    unsigned k, best = (unsigned)-1;
    for (at = 1; at < j->nodes[0].next; at = j->nodes[at + 1].next) {
        if ((k = reader_is(kalm__json_text(j, at), names)) == 0 || k > best || kalm__json_type(j, at + 1) == KALM__JSON_NULL) continue;
        best = k;
        found = at + 1;
    }
    return found;
}

/* The value that was parsed is a record. */
KALM__FN int reader_object(reader *r, text_record *rec)
{
    kalm__json *j = &r->json;
    uint32_t id, text, title, query, at, used[3];
    unsigned i;
    if (r->array && kalm__json_type(j, 0) == KALM__JSON_STRING) {
        rec->text = kalm__json_text(j, 0);
        if (r->with_metadata) reader_make(r, "{}", 2);
        return READ_RECORD;
    }
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT) return reader_bad(r, "an object with a string \"text\" must stand here");
    id = reader_member(j, READ_KEY_NAMES);
    text = reader_member(j, READ_TEXT_NAMES);
    title = reader_member(j, READ_TITLE_NAMES);
    query = kalm__json_get(j, 0, "query");
    if (id && !kalm__json_text(j, id).data) return reader_bad(r, "the id is no string and no number");
    if (!text || kalm__json_type(j, text) != KALM__JSON_STRING)
        return reader_bad(r, "an object with a string \"text\" must stand here");
    if (title && kalm__json_type(j, title) != KALM__JSON_STRING) return reader_bad(r, "the title is no string");
    if (id) rec->key = kalm__json_text(j, id);
    rec->text = kalm__json_text(j, text);
    if (title) rec->title = kalm__json_text(j, title);
    if (query && kalm__json_type(j, query) == KALM__JSON_STRING) rec->query = kalm__json_text(j, query);
    if (!r->with_metadata) return READ_RECORD;
    used[0] = id, used[1] = text, used[2] = title;
    reader_make(r, "{", 1);
    for (at = 1; at < j->nodes[0].next; at = j->nodes[at + 1].next) {
        kalm_text name = kalm__json_text(j, at);
        for (i = 0; i < 3 && used[i] != at + 1; i++) {}
        if (i < 3 || kalm__json_is(j, at, "text") || kalm__json_is(j, at, "title") || kalm__json_is(j, at, "_id")) continue;
        reader_make_member(r, name);
        if (!reader_make_json(r, at + 1, 0)) return reader_bad(r, "metadata nested more than 100 deep");
    }
    reader_make(r, "}", 1);
    return READ_RECORD;
}

/* The parser says "x:LINE:COLUMN: what", counted from the begin of what it was given, which stands at `column` of r->line. */
KALM__FN int reader_json_bad(reader *r, const kalm_error *err, size_t column)
{
    unsigned long line, at;
    char *end;
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
        while (r->from + n < r->to && strchr(" \t\r\n\x1e", r->buffer[r->from + n]) && r->buffer[r->from + n]) n++;
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

#endif
