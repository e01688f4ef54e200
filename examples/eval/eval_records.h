/* eval_records.h - the texts of a test collection, one after the other: documents from JSON Lines or tab-separated files, queries
   from JSON Lines, tab-separated files or TREC topics. A line that cannot be read is noted and left out; where strict JSON is
   not met by what Python writes (NaN, half of a surrogate pair) the line is mended, and that is noted. */
#ifndef EVAL_RECORDS_H
#define EVAL_RECORDS_H

#include "eval_trec.h"

typedef struct ev_record {             /* borrowed until the next one is read */
    kalm_text id, title, text;
    char      number[24];              /* of an id that is a number */
} ev_record;

typedef struct ev_records {
    char     **path;                   /* [paths], borrowed */
    size_t     paths, next;            /* next: the file that is opened after this one */
    ev_file    f;
    int        open, tabs, own_id;     /* tabs: the file is tab-separated; own_id: "id" goes before "_id" */
    int        array;                  /* the first line begins a JSON array: an element a line can be read, commas behind them */
    uint64_t   seen;                   /* lines of this file that are not empty */
    ev_notes  *notes;
    kalm__json json;
    char      *mended;                 /* a line made valid */
    size_t     mended_room;
    uint64_t   given, total, before;   /* records; bytes of all files; bytes of the files that are done */
} ev_records;

EV__FN uint64_t ev_file_size(const char *path)
{
    kalm__input in;
    kalm_error err;
    uint64_t size;
    if (kalm__input_open(&in, path, &err)) die("%s", err.text);
    size = in.size;
    kalm__input_close(&in);
    return size;
}

EV__FN int ev_ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

EV__FN int ev_is_tsv(const char *path)
{
    return ev_ends_with(path, ".tsv") || ev_ends_with(path, ".tsv.gz") || ev_ends_with(path, ".tsv.zst");
}

EV__FN void ev_records_begin(ev_records *r, char **path, size_t paths, int own_id, ev_notes *notes)
{
    size_t i;
    kalm_allocator allocator = cmd_allocator();
    memset(r, 0, sizeof *r);
    r->path = path;
    r->paths = paths;
    r->own_id = own_id;
    r->notes = notes;
    kalm__json_begin(&r->json, &allocator);
    for (i = 0; i < paths; i++) r->total += ev_file_size(path[i]);
}

EV__FN void ev_records_end(ev_records *r)
{
    if (r->open) ev_close(&r->f);
    kalm__json_end(&r->json);
    free(r->mended);
    memset(r, 0, sizeof *r);
}

EV__FN kalm_text ev__member(const kalm__json *j, const char *const *names, size_t count, char *number)
{
    kalm_text none = { NULL, 0 };
    size_t i;
    for (i = 0; i < count; i++) {
        uint32_t node = kalm__json_get(j, 0, names[i]), type = kalm__json_type(j, node);
        if (!node) continue;
        if (type == KALM__JSON_STRING) return kalm__json_text(j, node);
        if (number && type == KALM__JSON_NUMBER && kalm__json_text(j, node).size < 24) return kalm__json_text(j, node);
    }
    return none;
}

/* One line of JSON; 0: it is noted and left out. */
EV__FN int ev__json_record(ev_records *r, kalm_text line, ev_record *record)
{
    static const char *const ids[] = { "_id", "id", "_id", "docid", "doc_id", "query_id", "qid" };
    static const char *const texts[] = { "text", "contents", "query" }, *const titles[] = { "title" };
    kalm_error err;
    kalm_result bad;
    if (r->array && line.size && line.data[line.size - 1] == ',') line.size--;
    if (r->array && line.size == 1 && (*line.data == '[' || *line.data == ']')) return 0;
    bad = kalm__json_parse(&r->json, r->f.path, line.data, line.size, &err);
    if (bad == KALM_BAD_FILE) {
        line = ev_mend(line, &r->mended, &r->mended_room);
        bad = kalm__json_parse(&r->json, r->f.path, line.data, line.size, &err);
        if (!bad) ev_notice(r->notes, r->f.path, r->f.line, "the line is " EV_NOT_QUITE);
    }
    if (bad) {
        ev_notice(r->notes, r->f.path, r->f.line, "the line is not JSON; it is left out");
        return 0;
    }
    if (kalm__json_type(&r->json, 0) != KALM__JSON_OBJECT) {
        ev_notice(r->notes, r->f.path, r->f.line, kalm__json_type(&r->json, 0) == KALM__JSON_ARRAY
                  ? "a JSON array is no JSON Lines: each text must be an object on a line of its own (jq -c '.[]' makes them)"
                  : "the line is no JSON object; it is left out");
        return 0;
    }
    record->id = ev__member(&r->json, ids + (r->own_id ? 1 : 0), 6, record->number);
    record->title = ev__member(&r->json, titles, 1, NULL);
    record->text = ev__member(&r->json, texts, 3, NULL);
    if (!record->id.data || !record->id.size) {
        ev_notice(r->notes, r->f.path, r->f.line, "the object has no id (\"_id\", \"id\" or \"docid\"); it is left out");
        return 0;
    }
    return 1;
}

/* id, text; or id, title, text; or id, address, title, text as MS MARCO has its documents. */
EV__FN int ev__tab_record(ev_records *r, kalm_text line, ev_record *record)
{
    kalm_text field[4];
    size_t n = 0;
    while (n < 4) {
        const char *tab = n < 3 ? (const char *)memchr(line.data, '\t', line.size) : NULL;
        field[n] = line;
        if (tab) field[n].size = (size_t)(tab - line.data);
        n++;
        if (!tab) break;
        line.size -= (size_t)(tab + 1 - line.data);
        line.data = tab + 1;
    }
    if (n < 2 || !ev_trim(field[0]).size) {
        ev_notice(r->notes, r->f.path, r->f.line, "an id, a tab and a text should stand here; the line is left out");
        return 0;
    }
    memset(record, 0, sizeof *record);
    record->id = ev_trim(field[0]);
    record->text = field[n - 1];
    if (n > 2) record->title = field[n - 2];
    if (r->f.line == 1 && (ev__heading(record->id) || (record->id.size == 2 && !memcmp(record->id.data, "id", 2)))) return 0;
    return 1;
}

/* The next record of all files; 0: there is none. */
EV__FN int ev_next_record(ev_records *r, ev_record *record)
{
    kalm_text line;
    for (;;) {
        if (!r->open) {
            if (r->next == r->paths) return 0;
            ev_open(&r->f, r->path[r->next], r->notes);
            r->tabs = ev_is_tsv(r->path[r->next++]);
            r->open = 1;
            r->seen = 0;
        }
        while (ev_next_line(&r->f, &line)) {
            kalm_text inner = ev_trim(line);
            if (!inner.size) continue;
            if (!r->seen++) r->array = inner.data[0] == '[';
            if (r->tabs ? ev__tab_record(r, line, record) : ev__json_record(r, inner, record)) {
                r->given++;
                return 1;
            }
        }
        r->before += r->f.bytes;
        ev_close(&r->f);
        r->open = 0;
    }
}

/* ---- TREC topics ---------------------------------------------------------------------------------------------- */

/* What stands from `open` on up to the next tag; the rest of the file behind it. NULL data: there is none before `stop`. */
EV__FN kalm_text ev__between(const char *from, const char *stop, const char *open)
{
    kalm_text t = { NULL, 0 };
    size_t n = strlen(open);
    for (; from + n < stop; from++)
        if (memcmp(from, open, n) == 0) break;
    if (from + n >= stop) return t;
    from += n;
    t.data = from;
    while (from < stop && *from != '<') from++;
    t.size = (size_t)(from - t.data);
    return t;
}

typedef void ev_query_call(void *user, kalm_text id, kalm_text text, uint64_t line);

/* Text with each run of white space as one space, into a new string. */
EV__FN kalm_text ev__one_line(kalm_text t)
{
    char *to = (char *)cmd_alloc(t.size + 1);
    size_t i, n = 0;
    for (i = 0; i < t.size; i++) {
        int blank = ev__blank(t.data[i]) || t.data[i] == '\n';
        if (!blank) to[n++] = t.data[i];
        else if (n && to[n - 1] != ' ') to[n++] = ' ';
    }
    while (n && to[n - 1] == ' ') n--;
    to[n] = 0;
    t.data = to;
    t.size = n;
    return t;
}

/* Does a topic begin at p? "<topics>", which is around all of them, is none. */
EV__FN int ev__topic_at(const char *p, const char *end)
{
    return end - p >= 7 && memcmp(p, "<top", 4) == 0 && memcmp(p, "<topics", 7) != 0;
}

/* <top> <num> Number: 301 <title> words </top>, or <topic number="1"> <query> or <title> words </topic>; the title is the
   query. */
EV__FN void ev_read_topics(const char *path, ev_notes *notes, ev_query_call *call, void *user)
{
    kalm_text all = ev_read_all(path, notes);
    const char *at = all.data, *end = all.data + all.size;
    while (at + 4 < end) {
        const char *stop;
        kalm_text id = { NULL, 0 }, text;
        at = (const char *)memchr(at, '<', (size_t)(end - at));
        if (!at) break;
        if (!ev__topic_at(at, end)) {
            at++;
            continue;
        }
        for (stop = at + 4; stop < end; stop++)            /* up to its end, or where the next one begins */
            if (*stop == '<' && ((end - stop >= 5 && memcmp(stop, "</top", 5) == 0) || ev__topic_at(stop, end))) break;
        text = ev__between(at, stop, " number=\"");
        if (text.data && text.data - at < 40) {
            id = text;
            for (id.size = 0; id.data + id.size < stop && id.data[id.size] != '"'; id.size++) {}
        } else id = ev__between(at, stop, "<num>");
        text = ev__between(at, stop, "<title>");
        if (!text.data) text = ev__between(at, stop, "<query>");
        if (id.data && text.data) {
            id = ev__one_line(id);
            text = ev__one_line(text);
            if (id.size > 7 && !memcmp(id.data, "Number:", 7)) id.data += 7, id.size -= 7;
            if (text.size > 6 && !memcmp(text.data, "Topic:", 6)) text.data += 6, text.size -= 6;
            call(user, ev_trim(id), ev_trim(text), 0);
        } else ev_notice(notes, path, 0, "a topic has no number or no title; it is left out");
        at = stop;
    }
    free((void *)(uintptr_t)all.data);
}

/* The queries of a file in any of the three forms. */
EV__FN void ev_read_queries(char *path, int own_id, ev_notes *notes, ev_query_call *call, void *user)
{
    ev_records r;
    ev_record record;
    ev_file f;
    kalm_text line;
    int topics = 0;
    ev_open(&f, path, notes);
    while (ev_next_line(&f, &line)) {
        line = ev_trim(line);
        if (!line.size) continue;
        topics = line.data[0] == '<';
        break;
    }
    ev_close(&f);
    if (topics) {
        ev_read_topics(path, notes, call, user);
        return;
    }
    ev_records_begin(&r, &path, 1, own_id, notes);
    while (ev_next_record(&r, &record)) call(user, record.id, record.text, r.f.line);
    ev_records_end(&r);
}

#endif
