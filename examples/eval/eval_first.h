/* eval_first.h - the first stage: which documents of the corpus are reranked for each query. A run file, the candidates that
   come with the data, or BM25.

   BM25 here, so that others can repeat it: terms are runs of letters and digits in lower case, without stemming; of scripts that
   write no spaces (Chinese, Japanese, Thai and their neighbours) every two characters that follow one another; Lucene's 33
   English stop words are left out. score = sum over the query's terms of
       ln(1 + (N - df + 0.5) / (df + 0.5)) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average length))
   with k1 = 0.9 and b = 0.4 unless said otherwise (the values of Anserini), over title and text. The corpus is read twice,
   for the statistics of the queries' terms and for the scores, and never kept: all queries are scored at once. */
#ifndef EVAL_FIRST_H
#define EVAL_FIRST_H

#include "eval_data.h"
#include "../store/terms.h"

typedef enum ev_first { EV_FIRST_AUTO, EV_FIRST_RUN, EV_FIRST_CANDIDATES, EV_FIRST_BM25 } ev_first;

typedef struct ev_bm25_settings { double k1, b; } ev_bm25_settings;

/* ---- terms ---------------------------------------------------------------------------------------------------- */

/* Lucene's English stop words. They are the first members of the set of terms, so that one look-up finds both. */
EV__FN uint32_t ev__add_stop_words(ev_set *terms)
{
    uint32_t i;
    for (i = 0; terms_stop_words[i]; i++) ev_add(terms, kalm__text(terms_stop_words[i]));
    return i;
}

/* ---- BM25 ----------------------------------------------------------------------------------------------------- */

typedef struct ev__best { float score; char *id; size_t size; } ev__best;

typedef struct ev__bm25 {
    ev_data  *data;
    ev_set    terms;                   /* stop words, and the terms of all queries */
    uint32_t  stops;                   /* how many of them are stop words */
    uint64_t *df;                      /* [terms.count] documents that have the term */
    uint32_t *tf, *touched;            /* [terms.count] in this document; the terms that it has */
    size_t    touches, length;
    uint32_t *pairs, pair_count, pair_room;   /* while queries are read: term, query, in turns */
    size_t   *first;                   /* [terms.count + 1] into of */
    uint32_t *of;                      /* the queries of each term, once for each time that they have it */
    double   *sum;                     /* [queries.count] of this document */
    uint32_t *scored;                  /* queries with a sum */
    ev__best *best;                    /* [uses][depth] a heap each, the worst first */
    size_t   *kept, depth;
    uint32_t *use_of;                  /* [queries.count] place in data->use */
    uint32_t  query;                   /* whose terms are being read */
} ev__bm25;

EV__FN void ev__query_term(void *user, const char *term, size_t size, size_t from, size_t to)
{
    ev__bm25 *b = (ev__bm25 *)user;
    kalm_text t;
    uint32_t i;
    (void)from, (void)to;
    t.data = term;
    t.size = size;
    i = ev_add(&b->terms, t);
    if (i < b->stops) return;
    if (b->pair_count + 2 > b->pair_room)
        b->pairs = (uint32_t *)cmd_grow(b->pairs, (b->pair_room = b->pair_room ? b->pair_room * 2 : 1024) * sizeof *b->pairs);
    b->pairs[b->pair_count++] = i;
    b->pairs[b->pair_count++] = b->query;
}

EV__FN void ev__doc_term(void *user, const char *term, size_t size, size_t from, size_t to)
{
    ev__bm25 *b = (ev__bm25 *)user;
    kalm_text t;
    uint32_t i;
    (void)from, (void)to;
    t.data = term;
    t.size = size;
    i = ev_find(&b->terms, t);
    if (i < b->stops) return;
    b->length++;
    if (i != EV_NONE && !b->tf[i]++) b->touched[b->touches++] = i;
}

EV__FN void ev__bm25_begin(ev__bm25 *b, ev_data *d, size_t depth)
{
    size_t i, n;
    memset(b, 0, sizeof *b);
    b->data = d;
    b->depth = depth;
    b->stops = ev__add_stop_words(&b->terms);
    for (i = 0; i < d->uses; i++) {
        b->query = d->use[i];
        terms_of(d->query_text[d->use[i]], 0, ev__query_term, b);
    }
    n = b->terms.count;
    b->df = (uint64_t *)cmd_alloc(n * sizeof *b->df);
    b->tf = (uint32_t *)cmd_alloc(n * sizeof *b->tf);
    b->touched = (uint32_t *)cmd_alloc(n * sizeof *b->touched);
    b->first = (size_t *)cmd_alloc((n + 1) * sizeof *b->first);
    b->of = (uint32_t *)cmd_alloc((b->pair_count / 2 + 1) * sizeof *b->of);
    memset(b->df, 0, n * sizeof *b->df);
    memset(b->tf, 0, n * sizeof *b->tf);
    memset(b->first, 0, (n + 1) * sizeof *b->first);
    for (i = 0; i < b->pair_count; i += 2) b->first[b->pairs[i] + 1]++;
    for (i = 0; i < n; i++) b->first[i + 1] += b->first[i];
    for (i = 0; i < b->pair_count; i += 2) b->of[b->first[b->pairs[i]]++] = b->pairs[i + 1];
    for (i = n; i > 0; i--) b->first[i] = b->first[i - 1];
    b->first[0] = 0;
    b->sum = (double *)cmd_alloc(d->queries.count * sizeof *b->sum);
    b->scored = (uint32_t *)cmd_alloc(d->queries.count * sizeof *b->scored);
    b->use_of = (uint32_t *)cmd_alloc(d->queries.count * sizeof *b->use_of);
    for (i = 0; i < d->queries.count; i++) b->sum[i] = 0;
    for (i = 0; i < d->uses; i++) b->use_of[d->use[i]] = (uint32_t)i;
    b->best = (ev__best *)cmd_alloc(kalm__mul(d->uses, kalm__mul(depth, sizeof *b->best)));
    b->kept = (size_t *)cmd_alloc(d->uses * sizeof *b->kept);
    memset(b->kept, 0, d->uses * sizeof *b->kept);
}

EV__FN void ev__bm25_end(ev__bm25 *b)
{
    free(b->df), free(b->tf), free(b->touched), free(b->first), free(b->of), free(b->sum), free(b->scored), free(b->use_of);
    free(b->best), free(b->kept), free(b->pairs);
    ev_set_end(&b->terms);
}

/* Does x stand behind y in trec_eval's order? */
EV__FN int ev__worse(const ev__best *x, const ev__best *y)
{
    if (x->score != y->score) return x->score < y->score;
    return ev_compare_ids(x->id, x->size, y->id, y->size) < 0;
}

EV__FN void ev__sink(ev__best *heap, size_t n, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        ev__best swap;
        if (child >= n) return;
        if (child + 1 < n && ev__worse(&heap[child + 1], &heap[child])) child++;
        if (!ev__worse(&heap[child], &heap[at])) return;
        swap = heap[at], heap[at] = heap[child], heap[child] = swap;
        at = child;
    }
}

/* Keeps the document for the query if it is among the best so far. */
EV__FN void ev__offer(ev__bm25 *b, uint32_t query, kalm_text id, float score)
{
    size_t u = b->use_of[query], *n = &b->kept[u], at;
    ev__best *heap = b->best + u * b->depth, one;
    one.score = score;
    one.id = (char *)(uintptr_t)id.data;
    one.size = id.size;
    if (*n == b->depth) {
        if (!ev__worse(&heap[0], &one)) return;
        free(heap[0].id);
        one.id = cmd_copy(id);
        heap[0] = one;
        ev__sink(heap, *n, 0);
        return;
    }
    one.id = cmd_copy(id);
    for (at = (*n)++; at && ev__worse(&one, &heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
    heap[at] = one;
}

/* The scores of one document, whose terms have been counted, for all queries that share a term with it. */
EV__FN size_t ev__score(ev__bm25 *b, const ev_bm25_settings *s, double docs, double average)
{
    size_t i, k, n = 0;
    for (i = 0; i < b->touches; i++) {
        uint32_t t = b->touched[i];
        double df = (double)b->df[t], tf = (double)b->tf[t];
        double gain = log(1 + (docs - df + 0.5) / (df + 0.5)) * tf * (s->k1 + 1)
                    / (tf + s->k1 * (1 - s->b + s->b * (double)b->length / average));
        for (k = b->first[t]; k < b->first[t + 1]; k++) {
            uint32_t q = b->of[k];
            if (b->sum[q] == 0) b->scored[n++] = q;
            b->sum[q] += gain;
        }
    }
    return n;
}

/* Both passes. within: the run has candidates already (sorted by document for each query), and gets their scores. */
EV__FN void ev__bm25_passes(ev__bm25 *b, const ev_bm25_settings *s, int within)
{
    ev_data *d = b->data;
    ev_records r;
    ev_record record;
    cmd_progress p;
    double docs = 0, lengths = 0;
    size_t i, n;
    int pass;
    for (pass = 0; pass < 2; pass++) {
        ev_begin_corpus(d, &r, &p, pass ? "BM25, scores" : "BM25, statistics");
        if (pass) r.notes = NULL;      /* what is odd was told by the first pass */
        while (ev_next_record(&r, &record)) {
            ev_corpus_step(&r, &p);
            b->touches = b->length = 0;
            terms_of(record.title, 0, ev__doc_term, b);
            terms_of(record.text, 0, ev__doc_term, b);
            if (!pass) {
                docs++;
                lengths += (double)b->length;
                for (i = 0; i < b->touches; i++) b->df[b->touched[i]]++;
            } else {
                uint32_t doc = within ? ev_find(&d->docs, record.id) : EV_NONE;
                n = !within || doc != EV_NONE ? ev__score(b, s, docs, lengths / docs) : 0;
                for (i = 0; i < n; i++) {
                    uint32_t q = b->scored[i];
                    ev_candidate *c = within ? ev_find_candidate(&d->run, q, doc) : NULL;
                    if (c) c->score = (float)b->sum[q];
                    if (!within) ev__offer(b, q, record.id, (float)b->sum[q]);
                    b->sum[q] = 0;
                }
            }
            for (i = 0; i < b->touches; i++) b->tf[b->touched[i]] = 0;
        }
        cmd_progress_end(&p);
        ev_records_end(&r);
        if (docs == 0) die("%s: no document could be read", d->source.corpus[0]);
    }
}

EV__FN void ev_bm25(ev_data *d, const ev_bm25_settings *s, size_t depth, int within)
{
    ev__bm25 b;
    size_t u, i;
    ev__bm25_begin(&b, d, within ? 1 : depth);
    ev__bm25_passes(&b, s, within);
    for (u = 0; u < d->uses && !within; u++)
        for (i = 0; i < b.kept[u]; i++) {
            ev__best *one = &b.best[u * depth + i];
            kalm_text id;
            id.data = one->id;
            id.size = one->size;
            ev_add_candidate(&d->run, d->use[u], ev_add(&d->docs, id), one->score, 0);
            free(one->id);
        }
    ev__bm25_end(&b);
}

/* ---- the choice ----------------------------------------------------------------------------------------------- */

/* Fills d->run and says in d->first_stage what it is. */
EV__FN void ev_first_stage(ev_data *d, ev_first kind, const ev_bm25_settings *bm25, size_t depth)
{
    const char *path = d->source.run;
    if (kind == EV_FIRST_AUTO)
        kind = d->source.run ? EV_FIRST_RUN : d->source.candidates ? EV_FIRST_CANDIDATES : EV_FIRST_BM25;
    if (kind == EV_FIRST_RUN && !d->source.run) die("%s has no run; --run FILE names one", d->source.name);
    if (kind == EV_FIRST_CANDIDATES && !d->source.candidates) die("%s has no candidates.jsonl; --candidates FILE names one",
                                                                  d->source.name);
    if (kind == EV_FIRST_RUN) {
        const char *slash = strrchr(path, '/');
        ev_read_run(&d->run, &d->queries, &d->docs, path, &d->notes);
        sprintf(d->first_stage, "the run %.100s", slash ? slash + 1 : path);
    } else if (kind == EV_FIRST_CANDIDATES) {
        path = d->source.candidates;
        ev__read_scenes(d);
        ev_run_finish(&d->run, d->queries.count, &d->docs, 0, path, &d->notes);
        if (d->run.count) {            /* by document, as the second pass looks them up */
            size_t q;
            for (q = 0; q < d->queries.count; q++)
                if (d->run.first[q + 1] > d->run.first[q])
                    qsort(d->run.at + d->run.first[q], d->run.first[q + 1] - d->run.first[q], sizeof *d->run.at,
                          ev__by_query_doc);
        }
        ev_bm25(d, bm25, depth, 1);
        free(d->run.first);
        sprintf(d->first_stage, "BM25 (k1 %g, b %g) of the candidates that come with the data", bm25->k1, bm25->b);
    } else {
        path = d->source.corpus[0];
        ev_bm25(d, bm25, (depth ? depth : 100) + (d->own_out ? 1 : 0), 0);
        sprintf(d->first_stage, "BM25 (k1 %g, b %g) of the corpus", bm25->k1, bm25->b);
    }
    ev_finish_run(d, depth, path);
}

#endif
