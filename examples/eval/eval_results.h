/* eval_results.h - the results of kalm-eval --tables, read back from their folder (eval_work.h) as figures: for each data set and
   each system (a model with an instruction, a ratio and a row type; or the first stage) the value of every measure for every
   query. What was made in one piece or in shards, at once or after many interruptions, gives the same figures. */
#ifndef EVAL_RESULTS_H
#define EVAL_RESULTS_H

#include "eval_measure_run.h"
#include "eval_work.h"

typedef struct ev_system {
    char     model[64], weights[16], asked[16];    /* model "": the first stage */
    uint32_t ratio, bits;
    uint32_t coarse, keep;             /* a cascade: the best `keep` at the coarse ratio, then these at `ratio`; 0: none */
} ev_system;

typedef struct ev_cell {               /* one system on one data set */
    double *value;                     /* [queries * measures] in the order of the queries' ids; NULL: it was not tried */
    double  seconds, bytes;            /* for all queries; for all documents */
    size_t  pairs, missing, documents;
} ev_cell;

typedef struct ev_set_of_data {
    char      *name, *group, *layout, *first;      /* group: the data set that this one is a task of, or itself */
    ev_cell   *cell;                   /* [systems] */
    size_t     queries, candidates, cells;
    double     encode_seconds;
} ev_set_of_data;

typedef struct ev_results {
    const ev_settings *s;
    ev_system      *system;            /* [systems]; 0 is the first stage */
    size_t          systems;
    ev_set_of_data *data;              /* [datas] by layout and name */
    size_t          datas;
} ev_results;

/* ---- systems -------------------------------------------------------------------------------------------------- */

EV__FN int ev__by_system(const ev_system *a, const ev_system *b)
{
    int c = strcmp(a->model, b->model);
    if (!c) c = strcmp(a->weights, b->weights);
    if (!c) c = strcmp(a->asked, b->asked);
    if (!c) c = (a->coarse > b->coarse) - (a->coarse < b->coarse);
    if (!c) c = (a->keep > b->keep) - (a->keep < b->keep);
    if (!c) c = (a->bits < b->bits) - (a->bits > b->bits);
    if (!c) c = (a->ratio > b->ratio) - (a->ratio < b->ratio);
    return c;
}

EV__FN size_t ev__system(ev_results *r, const ev_system *s)
{
    size_t i;
    for (i = 0; i < r->systems; i++)
        if (ev__by_system(&r->system[i], s) == 0) return i;
    r->system = (ev_system *)cmd_grow(r->system, (r->systems + 1) * sizeof *r->system);
    r->system[r->systems] = *s;
    return r->systems++;
}

EV__FN ev_cell *ev__cell(ev_results *r, ev_set_of_data *d, size_t system)
{
    if (system >= d->cells) {
        d->cell = (ev_cell *)cmd_grow(d->cell, r->systems * sizeof *d->cell);
        memset(d->cell + d->cells, 0, (r->systems - d->cells) * sizeof *d->cell);
        d->cells = r->systems;
    }
    return &d->cell[system];
}

/* "tiny q8, ratio 4, 16 bits", with what else tells it apart. */
EV__FN void ev_system_name(const ev_system *s, const char *first, char *name, size_t room)
{
    int n;
    if (!s->model[0]) {
        snprintf(name, room, "first stage%s%s", *first ? ": " : "", first);
        return;
    }
    n = snprintf(name, room, "%s %s, ", s->model, s->weights);
    if (s->coarse) n += snprintf(name + n, room - (size_t)n, "best %lu at ratio %lu, then ", (unsigned long)s->keep,
                                 (unsigned long)s->coarse);
    n += snprintf(name + n, room - (size_t)n, "ratio %lu, %lu bits", (unsigned long)s->ratio, (unsigned long)s->bits);
    if (strcmp(s->asked, "default")) snprintf(name + n, room - (size_t)n, ", %s instruction", s->asked);
}

/* ---- queries and judgements ----------------------------------------------------------------------------------- */

typedef struct ev__asked_reader {
    ev_data        d;
    unsigned char *lost;               /* [run.count] */
    size_t         lost_room;
    ev_set_of_data *to;
} ev__asked_reader;

EV__FN uint32_t ev__list(const kalm__json *j, const char *name)
{
    uint32_t n = kalm__json_get(j, 0, name);
    return n && kalm__json_type(j, n) == KALM__JSON_ARRAY ? n : 0;
}

EV__FN char *ev__text_of(const kalm__json *j, const char *name)
{
    uint32_t n = kalm__json_get(j, 0, name);
    kalm_text t = { "", 0 };
    if (n && kalm__json_type(j, n) == KALM__JSON_STRING) t = kalm__json_text(j, n);
    return cmd_copy(t);
}

EV__FN void ev__asked_line(void *user, const kalm__json *j)
{
    ev__asked_reader *r = (ev__asked_reader *)user;
    uint32_t docs = ev__list(j, "docs"), scores = ev__list(j,
                                                           "scores"), judged = ev__list(j,
                                                                                        "judged"), grades = ev__list(j, "grades");
    uint32_t lost = ev__list(j, "lost"), q, a, b;
    size_t from = r->d.run.count;
    double v;
    uint64_t place;
    if (ev__is(j, kalm__json_get(j, 0, "t"), "data") && !r->to->name) {
        r->to->name = ev__text_of(j, "name");
        r->to->layout = ev__text_of(j, "layout");
        if (!ev_is_layout(r->to->layout)) die("a journal has the layout '%s'; there are BEIR, LMEB, MIRACL and TREC", r->to->layout);
        r->to->first = ev__text_of(j, "first");
        return;
    }
    if (!docs || !scores || !judged || !grades || !lost) return;
    if (ev_find(&r->d.queries, kalm__json_text(j, kalm__json_get(j, 0, "id"))) != EV_NONE) return;   /* in two shards */
    q = ev_add(&r->d.queries, kalm__json_text(j, kalm__json_get(j, 0, "id")));
    for (a = docs + 1, b = scores + 1; a < j->nodes[docs].next && b < j->nodes[scores].next; a = j->nodes[a].next,
         b = j->nodes[b].next)
        if (kalm__json_double(j, b, &v)) ev_add_candidate(&r->d.run, q, ev_add(&r->d.docs, kalm__json_text(j, a)), (float)v, 0);
    if (r->lost_room < r->d.run.count) r->lost = (unsigned char *)cmd_grow(r->lost, r->lost_room = 2 * r->d.run.count);
    if (r->d.run.count > from) memset(r->lost + from, 0, r->d.run.count - from);     /* before the first candidate `lost` has no address */
    for (a = lost + 1; a < j->nodes[lost].next; a = j->nodes[a].next)
        if (kalm__json_uint(j, a, &place) && place < r->d.run.count - from) r->lost[from + place] = 1;
    for (a = judged + 1, b = grades + 1; a < j->nodes[judged].next && b < j->nodes[grades].next; a = j->nodes[a].next,
         b = j->nodes[b].next)
        if (kalm__json_double(j, b, &v) && fabs(v) <= 2147483647.0)      /* a number of use, as where judgements are read */
            ev_add_judgement(&r->d.qrels, q, ev_add(&r->d.docs, kalm__json_text(j, a)), (int32_t)v);
}

/* ---- margins -------------------------------------------------------------------------------------------------- */

typedef struct ev__margins {           /* of one journal */
    ev__asked_reader *asked;
    ev_system         job;
    char             *data;
    uint32_t          width;
    size_t            kinds;
    ev_kind_of_rows   kind[EV_KINDS_MOST];
    float            *margin[EV_KINDS_MOST];       /* [run.count] */
    double           *seconds[EV_KINDS_MOST];      /* [queries] */
    uint32_t         *tokens;          /* [docs] */
    double            encode_seconds;
} ev__margins;

EV__FN size_t ev__kind(ev__margins *m, uint32_t ratio, uint32_t bits)
{
    size_t k, i, n = m->asked->d.run.count, queries = m->asked->d.queries.count;
    for (k = 0; k < m->kinds; k++)
        if (m->kind[k].ratio == ratio && m->kind[k].bits == bits) return k;
    if (k == EV_KINDS_MOST) return k;
    m->kind[k].ratio = ratio;
    m->kind[k].bits = bits;
    m->margin[k] = (float *)cmd_alloc(n * sizeof(float));
    m->seconds[k] = (double *)cmd_alloc(queries * sizeof(double));
    for (i = 0; i < n; i++) m->margin[k][i] = (float)NAN;
    for (i = 0; i < queries; i++) m->seconds[k][i] = 0;
    return m->kinds++;
}

EV__FN void ev__ranked_line(ev__margins *m, const kalm__json *j)
{
    ev_data *d = &m->asked->d;
    uint32_t q = ev_find(&d->queries, kalm__json_text(j, kalm__json_get(j, 0, "query"))), docs = ev__list(j, "docs"), a, b;
    uint32_t margins = ev__list(j, "margins");
    uint64_t ratio = 0, bits = 0;
    double v, seconds = 0;
    size_t k, taken = 0;
    if (q == EV_NONE || !docs || !margins || !kalm__json_uint(j, kalm__json_get(j, 0, "ratio"), &ratio)
        || !kalm__json_uint(j, kalm__json_get(j, 0, "bits"), &bits) || !ratio || ratio > UINT32_MAX || bits > 32) return;
    k = ev__kind(m, (uint32_t)ratio, (uint32_t)bits);
    if (k == EV_KINDS_MOST) return;
    for (a = docs + 1, b = margins + 1; a < j->nodes[docs].next && b < j->nodes[margins].next; a = j->nodes[a].next,
         b = j->nodes[b].next) {
        uint32_t doc = ev_find(&d->docs, kalm__json_text(j, a));
        ev_candidate *c = doc == EV_NONE ? NULL : ev_find_candidate(&d->run, q, doc);
        if (!c || !kalm__json_double(j, b, &v)) continue;
        taken += m->margin[k][c - d->run.at] != m->margin[k][c - d->run.at];
        m->margin[k][c - d->run.at] = (float)v;
    }
    if (taken && kalm__json_double(j, kalm__json_get(j, 0, "seconds"), &seconds)) m->seconds[k][q] += seconds;
}

/* Into *width how many numbers a row of documents has, where the line says it; returns 0 where no model can have so many. */
EV__FN int ev__width(const kalm__json *j, uint32_t *width)
{
    uint64_t v = 0;
    uint32_t node = kalm__json_get(j, 0, "width");
    if (node && (!kalm__json_uint(j, node, &v) || !v || v > KALM__MAX_HIDDEN)) return 0;
    if (node) *width = (uint32_t)v;
    return 1;
}

EV__FN void ev__margins_line(void *user, const kalm__json *j)
{
    ev__margins *m = (ev__margins *)user;
    uint32_t type = kalm__json_get(j, 0, "t"), docs = ev__list(j, "docs"), tokens = ev__list(j, "tokens"), a, b;
    uint64_t v = 0;
    double seconds = 0;
    if (ev__is(j, type, "job")) {
        char *model = ev__text_of(j, "model"), *weights = ev__text_of(j, "weights"), *asked = ev__text_of(j, "asked");
        snprintf(m->job.model, sizeof m->job.model, "%s", model);
        snprintf(m->job.weights, sizeof m->job.weights, "%s", weights);
        snprintf(m->job.asked, sizeof m->job.asked, "%s", asked);
        free(m->data);
        m->data = ev__text_of(j, "data");
        if (!ev__width(j, &m->width)) die("%s: no model has documents as wide as this journal says", j->name);
        free(model), free(weights), free(asked);
    } else if (!m->asked) return;      /* the header alone is looked at */
    else if (ev__is(j, type, "ranked")) ev__ranked_line(m, j);
    else if (ev__is(j, type, "encoded") && docs && tokens) {
        size_t fresh = 0;
        for (a = docs + 1, b = tokens + 1; a < j->nodes[docs].next && b < j->nodes[tokens].next; a = j->nodes[a].next,
             b = j->nodes[b].next) {
            uint32_t doc = ev_find(&m->asked->d.docs, kalm__json_text(j, a));
            if (doc == EV_NONE || !kalm__json_uint(j, b, &v) || v > UINT32_MAX) continue;      /* as kalm-eval takes its own */
            fresh += !m->tokens[doc];
            m->tokens[doc] = (uint32_t)v;
        }
        if (fresh && kalm__json_double(j, kalm__json_get(j, 0, "seconds"), &seconds)) m->encode_seconds += seconds;
    }
}

/* ---- from margins to values ----------------------------------------------------------------------------------- */

/* The values of a run, queries in the order of their ids. */
EV__FN double *ev__sorted_values(const ev_results *r, const ev_data *d, const uint32_t *order, const ev_run *run)
{
    double *value = ev_run_values(&d->qrels, run, d->queries.count, (int32_t)r->s->level, 0, r->s->measure, r->s->measures);
    double *sorted = (double *)cmd_alloc(kalm__mul(d->queries.count, r->s->measures * sizeof *sorted));
    size_t q;
    for (q = 0; q < d->queries.count; q++)
        memcpy(sorted + q * r->s->measures, value + order[q] * r->s->measures, r->s->measures * sizeof *sorted);
    free(value);
    return sorted;
}

EV__FN void ev__take_kind(ev_results *r, ev_set_of_data *to, ev__margins *m, const uint32_t *order, size_t k)
{
    ev_data *d = &m->asked->d;
    ev_system s = m->job;
    ev_cell *c;
    ev_run run;
    size_t i, q;
    s.ratio = m->kind[k].ratio;
    s.bits = m->kind[k].bits;
    c = ev__cell(r, to, ev__system(r, &s));
    free(c->value);
    memset(c, 0, sizeof *c);
    ev_reranked(&run, d, m->margin[k]);
    c->value = ev__sorted_values(r, d, order, &run);
    free(run.at);
    for (i = 0; i < d->run.count; i++) {
        int known = m->margin[k][i] == m->margin[k][i];
        c->pairs += (size_t)known;
        c->missing += !known && !m->asked->lost[i];
    }
    for (q = 0; q < d->queries.count; q++) c->seconds += m->seconds[k][order[q]];
    for (i = 0; i < d->docs.count; i++)
        if (m->tokens[i]) {
            c->documents++;
            c->bytes += ev_doc_size(m->tokens[i], m->width, m->kind[k]);
        }
}

/* The order of a cascade: the best `keep` by coarse margins in the order of the fine ones, then the others in the coarse
   order. */
EV__FN void ev__cascade_order(ev_run *run, const ev_data *d, const float *coarse, const float *fine, size_t keep)
{
    size_t q, i;
    ev_reranked(run, d, coarse);
    for (q = 0; q < d->queries.count; q++) {
        ev_candidate *at = run->at + run->first[q];
        size_t n = run->first[q + 1] - run->first[q], top = keep < n ? keep : n;
        for (i = 0; i < n; i++) {
            const ev_candidate *c = ev_find_candidate((ev_run *)(uintptr_t)&d->run, (uint32_t)q, at[i].doc);
            at[i].score = i < top ? fine[c - d->run.at] : -(float)(i + 1) * 1e30f;
            if (at[i].score != at[i].score) at[i].score = -1e30f;
        }
        ev_order(at, n, &d->docs);
    }
}

/* Cascades from each coarser ratio to the finest one, for the finest row type of the journal: what they find follows from the
   margins, and what they cost from the seconds of the two passes. */
EV__FN void ev__take_cascades(ev_results *r, ev_set_of_data *to, ev__margins *m, const uint32_t *order)
{
    static const uint32_t keeps[3] = { 10, 20, 50 };
    ev_data *d = &m->asked->d;
    uint32_t bits = 0;
    size_t k, fine = EV_KINDS_MOST, n, most = 0;
    for (k = 0; k < d->queries.count; k++) most = kalm__max(most, d->run.first[k + 1] - d->run.first[k]);
    for (k = 0; k < m->kinds; k++)
        if (m->kind[k].bits > bits) bits = m->kind[k].bits;
    for (k = 0; k < m->kinds; k++)
        if (m->kind[k].bits == bits && (fine == EV_KINDS_MOST || m->kind[k].ratio < m->kind[fine].ratio)) fine = k;
    for (k = 0; k < m->kinds; k++) {
        if (k == fine || m->kind[k].bits != bits || m->kind[k].ratio % m->kind[fine].ratio) continue;
        for (n = 0; n < 3; n++) {
            ev_system s = m->job;
            ev_cell *c;
            ev_run run;
            size_t q, pairs = 0;
            if (keeps[n] >= most) break;
            s.ratio = m->kind[fine].ratio;
            s.bits = bits;
            s.coarse = m->kind[k].ratio;
            s.keep = keeps[n];
            c = ev__cell(r, to, ev__system(r, &s));
            free(c->value);
            memset(c, 0, sizeof *c);
            ev__cascade_order(&run, d, m->margin[k], m->margin[fine], keeps[n]);
            c->value = ev__sorted_values(r, d, order, &run);
            free(run.at);
            for (q = 0; q < d->queries.count; q++) {
                size_t all = d->run.first[order[q] + 1] - d->run.first[order[q]], some = kalm__min(all, (size_t)keeps[n]);
                c->seconds += m->seconds[k][order[q]];
                if (all) c->seconds += m->seconds[fine][order[q]] * (double)some / (double)all;
                pairs += all + some;
            }
            c->pairs = pairs;
        }
    }
}

EV__FN void ev__take_journal(ev_results *r, ev_set_of_data *to, ev__asked_reader *asked, const uint32_t *order, const char *path)
{
    ev__margins m;
    size_t k;
    int open_end;
    memset(&m, 0, sizeof m);
    m.asked = asked;
    m.tokens = (uint32_t *)cmd_alloc(asked->d.docs.count * sizeof *m.tokens);
    memset(m.tokens, 0, asked->d.docs.count * sizeof *m.tokens);
    ev_read_journal(path, ev__margins_line, &m, &open_end);
    for (k = 0; k < m.kinds; k++) ev__take_kind(r, to, &m, order, k);
    ev__take_cascades(r, to, &m, order);
    to->encode_seconds += m.encode_seconds;
    for (k = 0; k < m.kinds; k++) free(m.margin[k]), free(m.seconds[k]);
    free(m.tokens);
    free(m.data);
}

/* Which data set a journal is of, from its first sound line that says so; to be freed. NULL: none does. */
EV__FN char *ev__journal_data(const char *path)
{
    ev_file f;
    kalm_text line;
    kalm__json j;
    kalm_error err;
    ev__margins m;
    kalm_allocator allocator = cmd_allocator();
    memset(&m, 0, sizeof m);
    kalm__json_begin(&j, &allocator);
    ev_open(&f, path, NULL);
    while (!m.data && ev_next_line(&f, &line))
        if (ev_is_sound(line) && !kalm__json_parse(&j, path, line.data + 17, line.size - 17, &err)) ev__margins_line(&m, &j);
    ev_close(&f);
    kalm__json_end(&j);
    return m.data;
}

EV__FN void ev__take_data(ev_results *r, const char *out, const char *path, const ev_list *journals, char **journal_data)
{
    ev__asked_reader asked;
    ev_set_of_data to;
    ev_cell *first;
    uint32_t *order;
    char *slash;
    size_t i, q;
    int open_end;
    memset(&asked, 0, sizeof asked);
    memset(&to, 0, sizeof to);
    asked.to = &to;
    ev_read_journal(path, ev__asked_line, &asked, &open_end);
    if (!to.name || !asked.d.queries.count) die("%s has no queries that can be read", path);
    ev_qrels_finish(&asked.d.qrels, asked.d.queries.count, path, &asked.d.notes);
    asked.d.run.first = (size_t *)cmd_alloc((asked.d.queries.count + 1) * sizeof *asked.d.run.first);
    for (i = q = 0; q <= asked.d.queries.count; q++) {             /* queries stand one after the other, as they were read */
        while (i < asked.d.run.count && asked.d.run.at[i].query < q) i++;
        asked.d.run.first[q] = i;
    }
    to.group = ev_copy(to.name);
    slash = strcmp(to.layout, "MIRACL") ? strrchr(to.group, '/') : NULL;
    if (slash) *slash = 0;
    to.queries = asked.d.queries.count;
    to.candidates = asked.d.run.count;
    order = ev_sorted(&asked.d.queries);
    first = ev__cell(r, &to, 0);
    first->value = ev__sorted_values(r, &asked.d, order, &asked.d.run);
    /* from here on by document, for looking candidates up; `lost` goes with them */
    for (q = 0; q < asked.d.queries.count; q++) {
        size_t from = asked.d.run.first[q], n = asked.d.run.first[q + 1] - from;
        for (i = 0; i < n; i++) asked.d.run.at[from + i].line = asked.lost[from + i];
        if (n) qsort(asked.d.run.at + from, n, sizeof *asked.d.run.at, ev__by_query_doc);
        for (i = 0; i < n; i++) asked.lost[from + i] = (unsigned char)asked.d.run.at[from + i].line;
    }
    for (i = 0; i < journals->count; i++) {
        char *file;
        if (!journal_data[i] || strcmp(journal_data[i], to.name)) continue;
        file = ev_join(out, journals->name[i]);
        ev__take_journal(r, &to, &asked, order, file);
        free(file);
    }
    free(order);
    free(asked.lost);
    ev_data_end(&asked.d);
    r->data = (ev_set_of_data *)cmd_grow(r->data, (r->datas + 1) * sizeof *r->data);
    r->data[r->datas++] = to;
}

EV__FN int ev__by_layout(const void *pa, const void *pb)
{
    const ev_set_of_data *a = (const ev_set_of_data *)pa, *b = (const ev_set_of_data *)pb;
    int c = strcmp(a->layout, b->layout);
    return c ? c : strcmp(a->name, b->name);
}

/* Puts the systems into order, and the cells with them. */
EV__FN void ev__sort_systems(ev_results *r)
{
    size_t *to = (size_t *)cmd_alloc(r->systems * sizeof *to), i, k;
    ev_system *sorted = (ev_system *)cmd_alloc(r->systems * sizeof *sorted);
    for (i = 0; i < r->systems; i++) {
        to[i] = 0;
        for (k = 0; k < r->systems; k++) to[i] += ev__by_system(&r->system[k], &r->system[i]) < 0;
        sorted[to[i]] = r->system[i];
    }
    for (i = 0; i < r->datas; i++) {
        ev_cell *cell = (ev_cell *)cmd_alloc(r->systems * sizeof *cell);
        memset(cell, 0, r->systems * sizeof *cell);
        for (k = 0; k < r->data[i].cells; k++) cell[to[k]] = r->data[i].cell[k];
        free(r->data[i].cell);
        r->data[i].cell = cell;
        r->data[i].cells = r->systems;
    }
    free(r->system);
    free(to);
    r->system = sorted;
}

EV__FN void ev_read_results(ev_results *r, const char *out, const ev_settings *s)
{
    char *queries = ev_join(out, "queries"), *margins = ev_join(out, "margins"), **data;
    ev_list files = ev_folder(queries), journals = ev_folder(margins);
    ev_system first;
    size_t i, n = 0;
    memset(r, 0, sizeof *r);
    memset(&first, 0, sizeof first);
    r->s = s;
    ev__system(r, &first);
    for (i = 0; i < journals.count; i++)
        if (ev_ends_with(journals.name[i], ".journal")) journals.name[n++] = journals.name[i];
    journals.count = n;
    data = (char **)cmd_alloc(n * sizeof *data);
    for (i = 0; i < n; i++) {
        char *path = ev_join(margins, journals.name[i]);
        data[i] = ev__journal_data(path);
        if (!data[i]) say("%s: no line of it says what it is of; it is left out", path);
        free(path);
    }
    for (i = 0; i < files.count; i++) {
        char *path = ev_join(queries, files.name[i]);
        if (ev_ends_with(path, ".jsonl")) ev__take_data(r, margins, path, &journals, data);
        free(path);
    }
    if (!r->datas) die("%s has no results in it", out);
    ev__sort_systems(r);
    qsort(r->data, r->datas, sizeof *r->data, ev__by_layout);
    free(data);
    free(queries);
    free(margins);
}

#endif
