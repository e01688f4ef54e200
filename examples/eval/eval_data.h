/* eval_data.h - one test collection in memory: its judged queries, their candidates, and of the corpus the texts of the
   candidates alone, which one pass over it picks out. So memory grows with the candidates and not with the corpus. */
#ifndef EVAL_DATA_H
#define EVAL_DATA_H

#include "eval_source.h"

enum { EV_WANTED = 1, EV_FOUND = 2, EV_TWICE = 4 };

typedef struct ev_data {
    ev_source      source;
    ev_set         queries;            /* the judged ones */
    kalm_text     *query_text;         /* [queries.count] data NULL: the file of queries lacks it */
    uint32_t      *use;                /* [uses] queries that are ranked, by their ids */
    size_t         uses;
    ev_set         docs;               /* judged documents and candidates */
    unsigned char *flags;              /* [docs.count] EV_WANTED: a candidate; EV_FOUND: the corpus has it */
    kalm_text     *doc_text;           /* [docs.count] data NULL: not picked out */
    ev_qrels       qrels;
    ev_run         run;                /* the first stage: candidates, best first */
    int            own_out;            /* candidates with the id of their query are left out */
    char           first_stage[160];   /* what it is, for people */
    ev_notes       notes;
    ev_pool        texts;
    uint64_t       corpus_docs, corpus_bytes;
} ev_data;

typedef struct ev_limits {             /* 0: all */
    uint32_t queries, depth;
    int      same_ids;                 /* leave out candidates whose id is that of the query */
    uint32_t shard, shards;            /* every shards-th query from number `shard` (from 1) on */
} ev_limits;

/* ---- queries -------------------------------------------------------------------------------------------------- */

typedef struct ev__query_reader { ev_data *data; uint32_t *order; size_t count; uint64_t unjudged; } ev__query_reader;

EV__FN void ev__take_query(void *user, kalm_text id, kalm_text text, uint64_t line)
{
    ev__query_reader *r = (ev__query_reader *)user;
    uint32_t q = ev_find(&r->data->queries, id);
    if (q == EV_NONE) {
        r->unjudged++;
        return;
    }
    if (r->data->query_text[q].data)
        ev_notice(&r->data->notes, r->data->source.queries, line, "a query with this id was there before; the last one counts");
    else r->order[r->count++] = q;
    if (!ev_trim(text).size) ev_notice(&r->data->notes, r->data->source.queries, line, "the query has no text");
    r->data->query_text[q] = ev_keep(&r->data->texts, text);
}

/* Which queries are ranked: those with judgements and a text, as many as the limits allow. */
EV__FN void ev__choose_queries(ev_data *d, const ev_limits *l)
{
    ev__query_reader r;
    unsigned char *chosen;
    uint32_t *sorted;
    size_t i, n = 0;
    r.data = d;
    r.count = 0;
    r.unjudged = 0;
    r.order = (uint32_t *)cmd_alloc(d->queries.count * sizeof *r.order);
    d->query_text = (kalm_text *)cmd_alloc(d->queries.count * sizeof *d->query_text);
    memset(d->query_text, 0, d->queries.count * sizeof *d->query_text);
    ev_read_queries(d->source.queries, d->source.layout == EV_LMEB, &d->notes, ev__take_query, &r);
    ev_notice_many(&d->notes, d->source.queries, 0, "a query has no judgement; it is left out, for nothing can be measured",
                   r.unjudged);
    ev_notice_many(&d->notes, d->source.qrels, 0, "a judged query is not among the queries; it takes no part",
                   d->queries.count - r.count);
    if (!r.count) ev_print_notes(stderr, &d->notes);
    if (!r.count) die("%s has none of the queries that %s judges", d->source.queries, d->source.qrels);
    if (l->queries && r.count > l->queries) r.count = l->queries;
    chosen = (unsigned char *)cmd_alloc(d->queries.count);
    memset(chosen, 0, d->queries.count);
    for (i = 0; i < r.count; i++) chosen[r.order[i]] = 1;
    sorted = ev_sorted(&d->queries);
    d->use = (uint32_t *)cmd_alloc(d->queries.count * sizeof *d->use);
    for (i = 0; i < d->queries.count; i++) {
        if (!chosen[sorted[i]]) continue;
        if (l->shards < 2 || n % l->shards == l->shard - 1) d->use[d->uses++] = sorted[i];
        n++;
    }
    free(sorted);
    free(chosen);
    free(r.order);
}

/* ---- candidates that come with the data (LMEB) ---------------------------------------------------------------- */

/* The scene of a query: its whole id, or the first two parts of it between underscores. */
EV__FN kalm_text ev__scene_of(kalm_text id, int whole)
{
    size_t i;
    int parts = 0;
    for (i = 0; !whole && i < id.size; i++)
        if (id.data[i] == '_' && ++parts == 2) {
            id.size = i;
            break;
        }
    return id;
}

/* Adds the documents of each scene to its queries, all with score 0. Queries without a scene get none. */
EV__FN void ev__read_scenes(ev_data *d)
{
    ev_file f;
    kalm_text line;
    kalm__json j;
    kalm_error err;
    ev_set scenes;
    uint32_t *of, *next, *head;        /* chains: the queries of each scene */
    size_t i;
    unsigned char *served = (unsigned char *)cmd_alloc(d->queries.count);
    kalm_allocator allocator = cmd_allocator();
    memset(served, 0, d->queries.count);
    memset(&scenes, 0, sizeof scenes);
    of = (uint32_t *)cmd_alloc(d->uses * sizeof *of);
    next = (uint32_t *)cmd_alloc(d->uses * sizeof *next);
    for (i = 0; i < d->uses; i++) of[i] = ev_add(&scenes, ev__scene_of(d->queries.id[d->use[i]], d->source.scene_whole));
    head = (uint32_t *)cmd_alloc(scenes.count * sizeof *head);
    for (i = 0; i < scenes.count; i++) head[i] = EV_NONE;
    for (i = d->uses; i-- > 0;) next[i] = head[of[i]], head[of[i]] = (uint32_t)i;
    kalm__json_begin(&j, &allocator);
    ev_open(&f, d->source.candidates, &d->notes);
    while (ev_next_line(&f, &line)) {
        uint32_t id, list, node, q, scene;
        if (!ev_trim(line).size) continue;
        if (kalm__json_parse(&j, f.path, line.data, line.size, &err) || kalm__json_type(&j, 0) != KALM__JSON_OBJECT
            || !(id = kalm__json_get(&j, 0, "scene_id")) || !(list = kalm__json_get(&j, 0, "candidate_doc_ids"))
            || kalm__json_type(&j, list) != KALM__JSON_ARRAY) {
            ev_notice(&d->notes, f.path, f.line, "an object with scene_id and candidate_doc_ids should stand here; the line "
                                                 "is left out");
            continue;
        }
        scene = ev_find(&scenes, kalm__json_text(&j, id));
        if (scene == EV_NONE) continue;
        for (node = list + 1; node < j.nodes[list].next; node = j.nodes[node].next) {
            kalm_text text = kalm__json_text(&j, node);
            uint32_t doc = text.data ? ev_add(&d->docs, text) : EV_NONE;
            for (q = head[scene]; q != EV_NONE && doc != EV_NONE; q = next[q]) {
                served[d->use[q]] = 1;
                ev_add_candidate(&d->run, d->use[q], doc, 0, f.line);
            }
        }
    }
    ev_close(&f);
    kalm__json_end(&j);
    for (i = 0; i < d->uses; i++)
        if (!served[d->use[i]])
            ev_notice(&d->notes, d->source.candidates, 0, "a query's scene has no candidates; the query takes no part");
    free(served), free(of), free(next), free(head);
}

/* ---- the pass over the corpus --------------------------------------------------------------------------------- */

EV__FN void ev_begin_corpus(ev_data *d, ev_records *r, cmd_progress *p, const char *what)
{
    ev_records_begin(r, d->source.corpus, d->source.corpora, d->source.layout == EV_LMEB, &d->notes);
    cmd_progress_begin(p, what);
    p->total = r->total;
}

/* To be called for every record of a pass: draws how far it is, and ends the command when it was interrupted. */
EV__FN void ev_corpus_step(const ev_records *r, cmd_progress *p)
{
    if (r->given % 4096) return;
    p->done = r->before + r->f.bytes;
    cmd_progress_bytes(p, "of the corpus");
    if (kalm__interrupted) {
        cmd_progress_end(p);
        exit(EXIT_INTERRUPTED);
    }
}

/* Title and text as one: with a space between them. BEIR's code leaves the space out where there is no title, LMEB's does not. */
EV__FN kalm_text ev_whole_text(ev_data *d, const ev_record *r, char **room, size_t *size)
{
    kalm_text t;
    size_t space = r->title.size || d->source.layout == EV_LMEB ? 1 : 0;
    if (*size < r->title.size + r->text.size + 2) *room = (char *)cmd_grow(*room, *size = cmd_twice(r->title.size + r->text.size));
    if (r->title.size) memcpy(*room, r->title.data, r->title.size);
    if (space) (*room)[r->title.size] = ' ';
    if (r->text.size) memcpy(*room + r->title.size + space, r->text.data, r->text.size);
    t.data = *room;
    t.size = r->title.size + space + r->text.size;
    return t;
}

/* One pass: the texts of the candidates are kept, and of judged documents it is noticed whether they are there. */
EV__FN void ev_pick_texts(ev_data *d)
{
    ev_records r;
    ev_record record;
    cmd_progress p;
    char *room = NULL;
    size_t size = 0, i, first = 0;
    uint64_t lost = 0, judged = 0;
    d->flags = (unsigned char *)cmd_alloc(d->docs.count);
    d->doc_text = (kalm_text *)cmd_alloc(d->docs.count * sizeof *d->doc_text);
    memset(d->flags, 0, d->docs.count);
    memset(d->doc_text, 0, d->docs.count * sizeof *d->doc_text);
    for (i = 0; i < d->run.count; i++) d->flags[d->run.at[i].doc] |= EV_WANTED;
    ev_begin_corpus(d, &r, &p, "picking out candidates");
    while (ev_next_record(&r, &record)) {
        uint32_t doc = ev_find(&d->docs, record.id);
        ev_corpus_step(&r, &p);
        if (doc == EV_NONE) continue;
        if (d->flags[doc] & EV_FOUND) ev_notice(&d->notes, r.f.path, r.f.line,
                                                "a document with this id was there before; the last one counts");
        d->flags[doc] |= EV_FOUND;
        if (!(d->flags[doc] & EV_WANTED)) continue;
        if (!ev_trim(record.text).size) ev_notice(&d->notes, r.f.path, r.f.line, record.title.size
                                                  ? "a candidate has a title and no text" : "a candidate has no text");
        d->doc_text[doc] = ev_keep(&d->texts, ev_whole_text(d, &record, &room, &size));
    }
    d->corpus_docs = r.given;
    d->corpus_bytes = r.total;
    cmd_progress_end(&p);
    ev_records_end(&r);
    free(room);
    if (!d->corpus_docs) {
        ev_print_notes(stderr, &d->notes);
        die("%s: no document could be read", d->source.corpus[0]);
    }
    for (i = 0; i < d->docs.count; i++) {
        if ((d->flags[i] & (EV_WANTED | EV_FOUND)) != EV_WANTED) continue;
        if (!lost++) first = i;
    }
    for (i = 0; i < d->docs.count && !d->doc_text[i].data; i++) {}
    if (i == d->docs.count) die("%s has none of the candidates; the first is %s", d->source.corpus[0], d->docs.id[first].data);
    for (i = 0; i < d->qrels.count; i++)
        judged += !(d->flags[d->qrels.at[i].doc] & EV_FOUND) && d->qrels.at[i].grade > 0;
    ev_notice_many(&d->notes, d->source.corpus[0], 0, "a candidate is not in the corpus; it cannot be ranked, and stands "
                                                      "behind all others",
                   lost);
    ev_notice_many(&d->notes, d->source.corpus[0], 0, "a document judged relevant is not in the corpus; it counts as relevant "
                                                      "and not found",
                   judged);
}

/* In ArguAna and Quora the queries are documents of the corpus, under the same ids, and BEIR's and MTEB's code leaves each
   query's own document out of its results. */
EV__FN int ev__leaves_own_out(const ev_source *s)
{
    return s->layout == EV_BEIR && (strcmp(s->name, "arguana") == 0 || strcmp(s->name, "quora") == 0);
}

/* Everything up to the candidates: judgements, queries. The first stage comes next (eval_first.h). */
EV__FN void ev_load_queries(ev_data *d, const ev_source *s, const ev_limits *l)
{
    memset(d, 0, sizeof *d);
    d->source = *s;
    d->own_out = l->same_ids || ev__leaves_own_out(s);
    ev_read_qrels(&d->qrels, &d->queries, &d->docs, s->qrels, &d->notes);
    ev_qrels_finish(&d->qrels, d->queries.count, s->qrels, &d->notes);
    ev__choose_queries(d, l);
}

EV__FN void ev__leave_own_out(ev_data *d, const char *path)
{
    size_t i, n = 0;
    for (i = 0; i < d->run.count; i++) {
        kalm_text q = d->queries.id[d->run.at[i].query], doc = d->docs.id[d->run.at[i].doc];
        if (ev_compare_ids(q.data, q.size, doc.data, doc.size) == 0)
            ev_notice(&d->notes, path, d->run.at[i].line, "the candidate has the id of its query; it is left out, as in BEIR's code");
        else d->run.at[n++] = d->run.at[i];
    }
    d->run.count = n;
}

/* Drops the candidates of queries that are not ranked: how many others have none is noted. */
EV__FN void ev_finish_run(ev_data *d, size_t depth, const char *path)
{
    unsigned char *used = (unsigned char *)cmd_alloc(d->queries.count);
    size_t i, n = 0;
    uint64_t without = 0;
    memset(used, 0, d->queries.count);
    for (i = 0; i < d->uses; i++) used[d->use[i]] = 1;
    for (i = 0; i < d->run.count; i++)
        if (used[d->run.at[i].query]) d->run.at[n++] = d->run.at[i];
    d->run.count = n;
    if (d->own_out) ev__leave_own_out(d, path);
    ev_run_finish(&d->run, d->queries.count, &d->docs, depth, path, &d->notes);
    for (i = 0; i < d->uses; i++) without += d->run.first[d->use[i]] == d->run.first[d->use[i] + 1];
    ev_notice_many(&d->notes, path, 0, "a judged query has no candidates; it takes no part, as in trec_eval", without);
    if (!d->run.count) die("%s: no candidate for any query", d->source.name);
    free(used);
}

EV__FN void ev_data_end(ev_data *d)
{
    ev_set_end(&d->queries);
    ev_set_end(&d->docs);
    ev_pool_end(&d->texts);
    ev_notes_end(&d->notes);
    free(d->query_text), free(d->use), free(d->flags), free(d->doc_text);
    free(d->qrels.at), free(d->qrels.first), free(d->run.at), free(d->run.first);
    memset(d, 0, sizeof *d);
}

#endif
