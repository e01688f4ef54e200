/* eval_trec.h - judgements (qrels) and runs: reading them from the formats in use, and the value of a run by its judgements.

   Judgements, one a line:   query document grade             BEIR, LMEB (with or without a line of headings)
                             query iteration document grade   TREC, MIRACL
   Runs:                     query Q0 document rank score tag TREC (the tag may be missing)
                             query document rank              MS MARCO; the rank is a whole number, the score is minus it
                             {"query": {"document": score}}   JSON, as BEIR, pytrec_eval and MTEB write it

   A line that has tabs is taken apart at its tabs, so that ids may have spaces; where that does not give the right number of
   fields, and in every other line, any spaces and tabs part the fields. */
#ifndef EVAL_TREC_H
#define EVAL_TREC_H

#include "eval_input.h"

typedef struct ev_judged { uint32_t query, doc; int32_t grade; uint32_t order; } ev_judged;

typedef struct ev_qrels {
    ev_judged *at;                     /* [count], by query, then by document, each pair once (after ev_qrels_finish) */
    size_t     count, room;
    size_t    *first;                  /* [queries + 1] where the judgements of each query begin */
} ev_qrels;

typedef struct ev_candidate { uint32_t query, doc; float score; uint64_t line; } ev_candidate;

typedef struct ev_run {
    ev_candidate *at;                  /* [count], by query, best first, no document twice (after ev_run_finish) */
    size_t        count, room;
    size_t       *first;               /* [queries + 1] */
} ev_run;

/* ---- fields of a line ----------------------------------------------------------------------------------------- */

EV__FN int ev__blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

EV__FN kalm_text ev_trim(kalm_text t)
{
    while (t.size && ev__blank(t.data[0])) t.data++, t.size--;
    while (t.size && ev__blank(t.data[t.size - 1])) t.size--;
    return t;
}

/* At tabs: how many fields there are, EV_NONE if one of them is empty. The first `most` go into field. */
EV__FN size_t ev__tab_fields(kalm_text line, kalm_text *field, size_t most)
{
    size_t n = 0;
    while (line.size && ev__blank(line.data[line.size - 1])) line.size--;
    for (;;) {
        const char *tab = (const char *)memchr(line.data, '\t', line.size);
        kalm_text f = line;
        if (tab) f.size = (size_t)(tab - line.data);
        f = ev_trim(f);
        if (!f.size) return EV_NONE;
        if (n < most) field[n] = f;
        n++;
        if (!tab) return n;
        line.size -= (size_t)(tab + 1 - line.data);
        line.data = tab + 1;
    }
}

EV__FN size_t ev__word_fields(kalm_text line, kalm_text *field, size_t most)
{
    size_t n = 0, i = 0, from;
    for (;;) {
        while (i < line.size && ev__blank(line.data[i])) i++;
        if (i == line.size) return n;
        for (from = i; i < line.size && !ev__blank(line.data[i]); i++) {}
        if (n < most) {
            field[n].data = line.data + from;
            field[n].size = i - from;
        }
        n++;
    }
}

/* The fields of a line that has `least` to `usual` of them: by tabs, if that fits, else by words. How many words there are. */
EV__FN size_t ev_fields(kalm_text line, kalm_text *field, size_t least, size_t usual)
{
    size_t n;
    if (line.size && memchr(line.data, '\t', line.size)) {
        n = ev__tab_fields(line, field, usual);
        if (n >= least && n <= usual) return n;
    }
    return ev__word_fields(line, field, usual);
}

/* A whole field as a number; NaN is none. */
EV__FN int ev_number(kalm_text t, double *value)
{
    char copy[64], *end;
    if (!t.size || t.size >= sizeof copy) return 0;
    memcpy(copy, t.data, t.size);
    copy[t.size] = 0;
    if (memchr(copy, 0, t.size) || ev__blank(copy[0])) return 0;
    *value = strtod(copy, &end);
    return !*end && end != copy && *value == *value;
}

/* Nothing of a file was of use: what was odd about it says why. */
EV__FN void ev_die_of_notes(const ev_notes *notes, const char *path, const char *what)
{
    if (notes) ev_print_notes(stderr, notes);
    die("%s %s", path, what);
}

/* ---- JSON that is not quite JSON ------------------------------------------------------------------------------ */

#define EV_NOT_QUITE "not quite JSON (NaN, half of a surrogate pair, ill-formed UTF-8 or a control character); it was read all the same"

/* Is an escape for half of a surrogate pair at p, without its other half? n: bytes from p on. */
EV__FN int ev__lone_surrogate(const char *p, size_t n)
{
    uint32_t c, low;
    if (n < 6 || p[1] != 'u' || !kalm__json_hex4(p + 2, &c) || c < 0xd800 || c > 0xdfff) return 0;
    return c >= 0xdc00 || n < 12 || p[6] != '\\' || p[7] != 'u' || !kalm__json_hex4(p + 8, &low) || low < 0xdc00 || low > 0xdfff;
}

/* A copy of the JSON that strict JSON accepts, where it was spoilt by NaN, Infinity, halves of surrogate pairs, ill-formed UTF-8
   or bare control characters: null, U+FFFD and spaces stand in their place. It is in *mended [*room], which the caller frees. */
EV__FN kalm_text ev_mend(kalm_text line, char **mended, size_t *room)
{
    static const char *const words[3] = { "-Infinity", "Infinity", "NaN" };
    size_t i = 0, n = 0, k;
    int string = 0;
    kalm_text t;
    if (*room < line.size * 4 + 8) *mended = (char *)cmd_grow(*mended, *room = kalm__add(kalm__mul(line.size, 4), 8));
    while (i < line.size) {
        const char *p = line.data + i;
        unsigned char c = (unsigned char)*p;
        size_t left = line.size - i, sequence = c >= 0x80 ? kalm__json_utf8((const unsigned char *)p, left) : 1;
        if (string && c == '\\' && left > 1) {
            int lone = ev__lone_surrogate(p, left);
            memcpy(*mended + n, lone ? "\\ufffd" : p, lone ? 6 : 2);
            n += lone ? 6 : 2, i += lone ? 6 : 2;
            if (!lone && p[1] == 'u' && left >= 12 && p[6] == '\\' && p[7] == 'u' && (p[2] | 32) == 'd') {   /* a whole pair */
                memcpy(*mended + n, p + 2, 10);
                n += 10, i += 10;
            }
            continue;
        }
        if (c == '"') string = !string;
        for (k = 0; !string && k < 3; k++)
            if (left >= strlen(words[k]) && !memcmp(p, words[k], strlen(words[k]))) break;
        if (!string && k < 3) {
            memcpy(*mended + n, "null", 4);
            n += 4, i += strlen(words[k]);
        } else if (!sequence) {
            memcpy(*mended + n, "\xef\xbf\xbd", 3);
            n += 3, i++;
        } else {
            memcpy(*mended + n, c < 32 && (string || c != '\n') ? " " : p, sequence);
            n += sequence, i += sequence;
        }
    }
    t.data = *mended;
    t.size = n;
    return t;
}

/* ---- judgements ----------------------------------------------------------------------------------------------- */

EV__FN int ev__heading(kalm_text t)
{
    static const char *const words[] = { "query", "qid", "topic" };
    size_t i, k;
    for (i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        for (k = 0; t.size >= n && k < n && (t.data[k] | 32) == words[i][k]; k++) {}
        if (k == n) return 1;
    }
    return 0;
}

EV__FN void ev_add_judgement(ev_qrels *j, uint32_t query, uint32_t doc, int32_t grade)
{
    ev_judged *one;
    if (j->count >= UINT32_MAX - 1) die("more than four thousand million judgements");
    if (j->count == j->room) j->at = (ev_judged *)cmd_grow(j->at, (j->room = j->room ? j->room * 2 : 1024) * sizeof *j->at);
    one = &j->at[j->count];
    one->query = query;
    one->doc = doc;
    one->grade = grade;
    one->order = (uint32_t)j->count++;
}

/* Adds the judgements of one file; new ids become members of `queries` and `docs`. */
EV__FN void ev_read_qrels(ev_qrels *j, ev_set *queries, ev_set *docs, const char *path, ev_notes *notes)
{
    ev_file f;
    kalm_text line, field[4];
    size_t before = j->count;
    ev_open(&f, path, notes);
    while (ev_next_line(&f, &line)) {
        size_t n;
        double grade;
        if (!ev_trim(line).size) continue;
        n = ev_fields(line, field, 3, 4);
        if (n != 3 && n != 4) {
            if (line.data[0] != '#')
                ev_notice(notes, path, f.line, "query, document and grade should stand here; the line is left out");
            continue;
        }
        if (!ev_number(field[n - 1], &grade) || grade < -2147483647.0 || grade > 2147483647.0) {
            if (j->count == before && ev__heading(field[0])) continue;
            if (line.data[0] != '#') ev_notice(notes, path, f.line, "the grade is no number of use; the line is left out");
            continue;
        }
        if (grade != floor(grade)) {
            ev_notice(notes, path, f.line, "the grade has a fraction, which is dropped, as trec_eval does");
            grade = grade < 0 ? ceil(grade) : floor(grade);
        }
        ev_add_judgement(j, ev_add(queries, field[0]), ev_add(docs, field[n - 2]), (int32_t)grade);
    }
    ev_close(&f);
    if (j->count == before) ev_die_of_notes(notes, path, "has no judgement that can be read");
}

EV__FN int ev__by_pair(const void *pa, const void *pb)
{
    const ev_judged *a = (const ev_judged *)pa, *b = (const ev_judged *)pb;
    if (a->query != b->query) return a->query < b->query ? -1 : 1;
    if (a->doc != b->doc) return a->doc < b->doc ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Sorts the judgements; of a pair that is judged twice the last judgement counts, as in BEIR's reader. */
EV__FN void ev_qrels_finish(ev_qrels *j, size_t queries, const char *path, ev_notes *notes)
{
    size_t i, kept = 0, q;
    uint64_t twice = 0, other = 0, below = 0;
    if (j->count) qsort(j->at, j->count, sizeof *j->at, ev__by_pair);
    for (i = 0; i < j->count; i++) {
        if (kept && j->at[kept - 1].query == j->at[i].query && j->at[kept - 1].doc == j->at[i].doc) {
            twice++;
            if (j->at[kept - 1].grade != j->at[i].grade) other++;
            kept--;
        }
        j->at[kept++] = j->at[i];
    }
    j->count = kept;
    j->first = (size_t *)cmd_alloc((queries + 1) * sizeof *j->first);
    for (q = 0, i = 0; q <= queries; q++) {
        while (i < j->count && j->at[i].query < q) i++;
        j->first[q] = i;
    }
    for (i = 0; i < j->count; i++) below += j->at[i].grade < 0;
    ev_notice_many(notes, path, 0, "a document is judged again for its query, with the same grade; it counts once",
                   twice - other);
    ev_notice_many(notes, path, 0, "a document is judged again for its query, with another grade; the last one counts", other);
    ev_notice_many(notes, path, 0, "a grade is below zero; it counts as not relevant, as in trec_eval", below);
}

EV__FN int32_t ev_grade(const ev_qrels *j, uint32_t query, uint32_t doc)
{
    size_t low = j->first[query], high = j->first[query + 1];
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (j->at[mid].doc == doc) return j->at[mid].grade;
        if (j->at[mid].doc < doc) low = mid + 1;
        else high = mid;
    }
    return EV_UNJUDGED;
}

/* ---- runs ----------------------------------------------------------------------------------------------------- */

EV__FN void ev_add_candidate(ev_run *r, uint32_t query, uint32_t doc, float score, uint64_t line)
{
    ev_candidate *one;
    if (r->count == r->room) r->at = (ev_candidate *)cmd_grow(r->at, (r->room = r->room ? r->room * 2 : 1024) * sizeof *r->at);
    one = &r->at[r->count++];
    one->query = query;
    one->doc = doc;
    one->score = score;
    one->line = line;
}

EV__FN void ev__run_json_query(ev_run *r, const kalm__json *j, uint32_t key, const ev_set *queries, ev_set *docs,
                               const char *path, ev_notes *notes)
{
    uint32_t query = ev_find(queries, kalm__json_text(j, key)), value = key + 1, doc;
    if (query == EV_NONE) {
        ev_notice(notes, path, 0, "a query of the run is not among those judged; it is left out");
        return;
    }
    if (kalm__json_type(j, value) != KALM__JSON_OBJECT) {
        ev_notice(notes, path, 0, "the documents of a query are no JSON object; the query is left out");
        return;
    }
    for (doc = value + 1; doc < j->nodes[value].next; doc = j->nodes[doc + 1].next) {
        double score;
        if (kalm__json_double(j, doc + 1, &score))
            ev_add_candidate(r, query, ev_add(docs, kalm__json_text(j, doc)), (float)score, 0);
        else ev_notice(notes, path, 0, "the score of a document is no number; the document is left out");
    }
}

/* {"query": {"document": score}}, perhaps inside of further objects ({"default": {"test": {...}}}, as MTEB writes it). */
EV__FN void ev__read_run_json(ev_run *r, const ev_set *queries, ev_set *docs, const char *path, ev_notes *notes)
{
    kalm_text all = ev_read_all(path, notes);
    kalm__json j;
    kalm_error err;
    kalm_result bad;
    char *mended = NULL;
    size_t room = 0;
    int deeper;
    uint32_t at = 0, key, depth;
    kalm_allocator allocator = cmd_allocator();
    kalm__json_begin(&j, &allocator);
    bad = kalm__json_parse(&j, path, all.data, all.size, &err);
    if (bad == KALM_BAD_FILE) {
        kalm_text again = ev_mend(all, &mended, &room);
        bad = kalm__json_parse(&j, path, again.data, again.size, &err);
        if (!bad) ev_notice(notes, path, 0, "the run is " EV_NOT_QUITE);
    }
    if (bad) die("%s", err.text);
    if (kalm__json_type(&j, 0) != KALM__JSON_OBJECT) die("%s: a run in JSON is an object of queries", path);
    for (depth = 0; depth < 4; depth++) {
        deeper = 0;
        for (key = at + 1; key < j.nodes[at].next && !deeper; key = j.nodes[key + 1].next) {
            uint32_t inner = key + 1;  /* does it hold objects of objects? */
            if (kalm__json_type(&j, inner) == KALM__JSON_OBJECT && j.nodes[inner].size
                && kalm__json_type(&j, inner + 2) == KALM__JSON_OBJECT) {
                at = inner;
                deeper = 1;
            }
        }
        if (!deeper) break;
    }
    for (key = at + 1; key < j.nodes[at].next; key = j.nodes[key + 1].next)
        ev__run_json_query(r, &j, key, queries, docs, path, notes);
    kalm__json_end(&j);
    free(mended);
    free((void *)(uintptr_t)all.data);
}

/* Is this a rank? Three columns with scores would be ranked the wrong way round. */
EV__FN int ev__is_rank(kalm_text t)
{
    size_t i;
    for (i = 0; i < t.size && t.data[i] >= '0' && t.data[i] <= '9'; i++) {}
    return i == t.size;
}

EV__FN void ev__read_run_lines(ev_run *r, const ev_set *queries, ev_set *docs, ev_file *f, ev_notes *notes)
{
    kalm_text line, field[6];
    while (ev_next_line(f, &line)) {
        size_t n;
        double score;
        uint32_t query;
        int marco;
        if (!ev_trim(line).size) continue;
        n = ev_fields(line, field, 3, 6);
        marco = n == 3;
        if (n < 5 && !marco) {
            if (line.data[0] != '#')
                ev_notice(notes, f->path, f->line, "query, Q0, document, rank and score should stand here; the line is left out");
            continue;
        }
        if (!ev_number(field[marco ? 2 : 4], &score)) {
            if (line.data[0] != '#') ev_notice(notes, f->path, f->line, "the score is no number; the line is left out");
            continue;
        }
        if (marco && !ev__is_rank(field[2])) {
            ev_notice(notes, f->path, f->line, "the last of three columns is a rank, and this is no whole number; the line is left out");
            continue;
        }
        query = ev_find(queries, field[0]);
        if (query == EV_NONE) ev_notice(notes, f->path, f->line, "the query is not among those judged; the line is left out");
        else ev_add_candidate(r, query, ev_add(docs, field[marco ? 1 : 2]), marco ? -(float)score : (float)score, f->line);
    }
}

/* Adds the lines of one file for the members of `queries`; the documents become members of `docs`. */
EV__FN void ev_read_run(ev_run *r, const ev_set *queries, ev_set *docs, const char *path, ev_notes *notes)
{
    ev_file f;
    size_t before = r->count, i;
    ev_open(&f, path, notes);
    for (i = f.at; i < f.size && (ev__blank(f.data[i]) || f.data[i] == '\n'); i++) {}
    if (i < f.size && f.data[i] == '{') ev__read_run_json(r, queries, docs, path, notes);
    else ev__read_run_lines(r, queries, docs, &f, notes);
    ev_close(&f);
    if (r->count == before) ev_die_of_notes(notes, path, "has no document for any judged query");
}

EV__FN int ev__by_query_doc(const void *pa, const void *pb)
{
    const ev_candidate *a = (const ev_candidate *)pa, *b = (const ev_candidate *)pb;
    if (a->query != b->query) return a->query < b->query ? -1 : 1;
    if (a->doc != b->doc) return a->doc < b->doc ? -1 : 1;
    if (a->score > b->score) return -1;
    if (a->score < b->score) return 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

/* Puts n candidates of one query into the order of trec_eval. */
EV__FN void ev_order(ev_candidate *c, size_t n, const ev_set *docs)
{
    ev_hit *hit = (ev_hit *)cmd_alloc(n * sizeof *hit);
    ev_candidate *copy = (ev_candidate *)cmd_alloc(n * sizeof *copy);
    size_t i;
    for (i = 0; i < n; i++) {
        hit[i].id = docs->id[c[i].doc].data;
        hit[i].id_size = docs->id[c[i].doc].size;
        hit[i].score = c[i].score;
        hit[i].user = (uint32_t)i;
        copy[i] = c[i];
    }
    ev_rank(hit, n);
    for (i = 0; i < n; i++) c[i] = copy[hit[i].user];
    free(copy);
    free(hit);
}

/* Sorts the run. A document that stands twice for a query counts once, with its better score. depth: the most documents of a
   query that are kept; 0: all. */
EV__FN void ev_run_finish(ev_run *r, size_t queries, const ev_set *docs, size_t depth, const char *path, ev_notes *notes)
{
    size_t i, kept = 0, q, from, to;
    if (r->count) qsort(r->at, r->count, sizeof *r->at, ev__by_query_doc);
    for (i = 0; i < r->count; i++) {
        if (kept && r->at[kept - 1].query == r->at[i].query && r->at[kept - 1].doc == r->at[i].doc) {
            ev_notice(notes, path, r->at[i].line > r->at[kept - 1].line ? r->at[i].line : r->at[kept - 1].line,
                      "the document stands twice for its query; it counts once, with the better score");
            continue;
        }
        r->at[kept++] = r->at[i];
    }
    r->count = kept;
    r->first = (size_t *)cmd_alloc((queries + 1) * sizeof *r->first);
    for (q = 0, from = kept = 0; q < queries; q++, from = to) {
        size_t n;
        for (to = from; to < r->count && r->at[to].query == q; to++) {}
        if (to > from) ev_order(r->at + from, to - from, docs);
        n = depth && to - from > depth ? depth : to - from;
        if (n) memmove(r->at + kept, r->at + from, n * sizeof *r->at);
        r->first[q] = kept;
        kept += n;
    }
    r->first[queries] = r->count = kept;
}

/* The candidate of a query in a run whose queries have them by document; NULL: it lacks it. */
EV__FN ev_candidate *ev_find_candidate(ev_run *r, uint32_t query, uint32_t doc)
{
    size_t low = r->first[query], high = r->first[query + 1];
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (r->at[mid].doc == doc) return &r->at[mid];
        if (r->at[mid].doc < doc) low = mid + 1;
        else high = mid;
    }
    return NULL;
}

/* ---- the value of a run --------------------------------------------------------------------------------------- */

/* The values of `count` measures for one query, whose documents stand best first in doc [n]. */
EV__FN void ev_query_values(const ev_qrels *j, uint32_t query, const uint32_t *doc, size_t n, int32_t level,
                            const ev_measure *measure, size_t count, double *value)
{
    size_t judged = j->first[query + 1] - j->first[query], i;
    int32_t *grade = (int32_t *)cmd_alloc((n + judged) * sizeof *grade);
    ev_ranking r;
    for (i = 0; i < n; i++) grade[i] = ev_grade(j, query, doc[i]);
    for (i = 0; i < judged; i++) grade[n + i] = j->at[j->first[query] + i].grade;
    ev_sort_grades(grade + n, judged);
    r.grade = grade;
    r.count = n;
    r.judged = grade + n;
    r.judged_count = judged;
    r.level = level;
    for (i = 0; i < count; i++) value[i] = ev_value(measure[i], &r);
    free(grade);
}

/* The values of a whole run, value[query * count + i]. Queries without results: NaN, or what an empty ranking is worth, when
   `complete` says that they take part in the mean. */
EV__FN double *ev_run_values(const ev_qrels *j, const ev_run *r, size_t queries, int32_t level, int complete,
                             const ev_measure *measure, size_t count)
{
    double *value = (double *)cmd_alloc(kalm__mul(queries, count * sizeof *value));
    uint32_t *doc = (uint32_t *)cmd_alloc(r->count * sizeof *doc);
    size_t q, i;
    for (i = 0; i < r->count; i++) doc[i] = r->at[i].doc;
    for (q = 0; q < queries; q++) {
        size_t n = r->first[q + 1] - r->first[q];
        int judged = j->first[q + 1] > j->first[q];
        if (judged && (n || complete))
            ev_query_values(j, (uint32_t)q, doc + r->first[q], n, level, measure, count, value + q * count);
        else for (i = 0; i < count; i++) value[q * count + i] = (double)NAN;
    }
    free(doc);
    return value;
}

/* The numbers of a set in the order of their ids, as trec_eval adds queries up; to be freed. */
EV__FN uint32_t *ev_sorted(const ev_set *s)
{
    ev_hit *hit = (ev_hit *)cmd_alloc(s->count * sizeof *hit);
    uint32_t *order = (uint32_t *)cmd_alloc(s->count * sizeof *order);
    size_t i;
    for (i = 0; i < s->count; i++) {
        hit[i].id = s->id[i].data;
        hit[i].id_size = s->id[i].size;
        hit[i].score = 0;
        hit[i].user = (uint32_t)i;
    }
    ev_rank(hit, s->count);            /* equal scores: the last id first */
    for (i = 0; i < s->count; i++) order[i] = hit[s->count - 1 - i].user;
    free(hit);
    return order;
}

/* The mean of measure i over the queries in `order`. */
EV__FN double ev_run_mean(const double *value, const uint32_t *order, size_t queries, const ev_measure *measure, size_t count,
                          size_t i)
{
    double *column = (double *)cmd_alloc(queries * sizeof *column), mean;
    size_t q;
    for (q = 0; q < queries; q++) column[q] = value[order[q] * count + i];
    mean = ev_mean(measure[i], column, queries);
    free(column);
    return mean;
}

#endif
