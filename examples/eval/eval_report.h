/* eval_report.h - kalm-eval MODEL FOLDER: one model over one test collection, at some ratios, beside the first stage and
   beside other models, row types or runs; as tables for people or as one JSON object. */
#ifndef EVAL_REPORT_H
#define EVAL_REPORT_H

#include "eval_rank.h"
#include "eval_measure_run.h"

typedef struct ev_comparison {
    const char *path;
    int         is_run;
    uint32_t    bits;                  /* of the documents; 0: those of the first ranking */
    double      max_delta, min_tau;    /* -2: no limit */
} ev_comparison;

enum { EV_OWN_MEASURES = 4 };          /* nDCG@10, MRR@10, Success@1, Recall@10 stand in every report */

typedef struct ev_report {
    const ev_data     *d;
    const ev_settings *s;              /* measures: the four, and those asked for */
    const uint32_t    *order;          /* [queries] by id */
    ev_kind_of_rows    kind[EV_KINDS_MOST];
    size_t             kinds;
    int                json;
    json_out           out;
} ev_report;

/* The means of all measures of a run, into mean [measures]. */
EV__FN void ev_means(const ev_report *r, const ev_run *run, double *mean)
{
    double *value = ev_run_values(&r->d->qrels, run, r->d->queries.count, (int32_t)r->s->level, r->s->complete, r->s->measure,
                                  r->s->measures);
    size_t i;
    for (i = 0; i < r->s->measures; i++) mean[i] = ev_run_mean(value, r->order, r->d->queries.count, r->s->measure,
                                                               r->s->measures, i);
    free(value);
}

EV__FN void ev_means_of(const ev_report *r, const float *margin, double *mean)
{
    ev_run run;
    ev_reranked(&run, r->d, margin);
    ev_means(r, &run, mean);
    free(run.at);
}

/* How much margins b differ from margins a over the same candidates. */
typedef struct ev_change { double tau, most, mean; } ev_change;

EV__FN ev_change ev_changes(const ev_data *d, const float *a, const float *b)
{
    ev_change c = { 0, 0, 0 };
    size_t q, i, pairs = 0, queries = 0;
    for (q = 0; q < d->queries.count; q++) {
        size_t from = d->run.first[q], n = d->run.first[q + 1] - from;
        double tau = ev_kendall(a + from, b + from, n);
        if (tau == tau) c.tau += tau, queries++;
    }
    for (i = 0; i < d->run.count; i++) {
        double change = fabs((double)b[i] - (double)a[i]);
        if (change != change) continue;
        if (change > c.most) c.most = change;
        c.mean += change;
        pairs++;
    }
    c.tau = queries ? c.tau / (double)queries : 1;
    if (pairs) c.mean /= (double)pairs;
    return c;
}

EV__FN void ev_save_run(const char *path, const ev_data *d, const float *margin, const char *tag)
{
    cmd_output out;
    FILE *f = cmd_output_begin(&out, path);
    ev_run run;
    size_t u, i;
    ev_reranked(&run, d, margin);
    for (u = 0; u < d->uses; u++) {
        uint32_t q = d->use[u];
        int tabs = strchr(d->queries.id[q].data, ' ') != NULL;
        for (i = run.first[q]; i < run.first[q + 1] && !tabs; i++) tabs = strchr(d->docs.id[run.at[i].doc].data, ' ') != NULL;
        for (i = run.first[q]; i < run.first[q + 1]; i++)
            fprintf(f, tabs ? "%s\tQ0\t%s\t%lu\t%.9g\t%s\n" : "%s Q0 %s %lu %.9g %s\n", d->queries.id[q].data,
                    d->docs.id[run.at[i].doc].data, (unsigned long)(i - run.first[q]) + 1, (double)run.at[i].score, tag);
    }
    free(run.at);
    cmd_output_end(&out);
}

/* The margins of a saved run, in the order of the candidates. */
EV__FN void ev_load_margins(ev_ranked *r, ev_data *d, const char *path)
{
    ev_run run;
    size_t q, i, k;
    memset(&run, 0, sizeof run);
    memset(r, 0, sizeof *r);
    ev_read_run(&run, &d->queries, &d->docs, path, &d->notes);
    ev_run_finish(&run, d->queries.count, &d->docs, 0, path, &d->notes);
    r->margin[0] = (float *)cmd_alloc(d->run.count * sizeof(float));
    for (q = 0; q < d->queries.count; q++) {
        if (run.first[q + 1] > run.first[q])
            qsort(run.at + run.first[q], run.first[q + 1] - run.first[q], sizeof *run.at, ev__by_query_doc);
        for (i = d->run.first[q]; i < d->run.first[q + 1]; i++) {
            const ev_candidate *c = ev_find_candidate(&run, (uint32_t)q, d->run.at[i].doc);
            if (!c) die("%s lacks the candidate %s of query %s", path, d->docs.id[d->run.at[i].doc].data, d->queries.id[q].data);
            r->margin[0][i] = c->score;
        }
    }
    k = strlen(path);
    sprintf(r->name, "%.60s", k > 60 ? path + k - 60 : path);
    strcpy(r->weights, "run");
    free(run.at);
    free(run.first);
}

/* ---- printing ------------------------------------------------------------------------------------------------- */

EV__FN void ev__json_own(json_out *j, const double *mean)
{
    static const char *const keys[EV_OWN_MEASURES] = { "ndcg10", "mrr10", "first", "recall10" };
    size_t i;
    for (i = 0; i < EV_OWN_MEASURES; i++) json_key(j, keys[i]), json_float(j, mean[i], 7);
}

EV__FN void ev__report_head(const ev_report *r, const ev_ranked *m, uint32_t bits, int compared)
{
    size_t i;
    printf("\n%s %s", m->name, m->weights);
    if (m->documents)
        printf(", %s kernels; %lu documents of %.0f tokens encoded in %.2f s, kept with %lu bits", m->kernels,
               (unsigned long)m->documents, (double)m->tokens / (double)m->documents, m->encode_seconds, (unsigned long)bits);
    printf("\n           nDCG@10  MRR@10  Success@1  Recall@10");
    for (i = EV_OWN_MEASURES; i < r->s->measures; i++) {
        char name[32];
        ev_measure_name(r->s->measure[i], 0, name);
        printf("  %10s", name);
    }
    printf("  bytes/doc   pairs/s%s\n", compared ? "  delta nDCG     tau  |delta margin|      mean" : "");
}

/* One row: a ratio. Returns whether the limits hold. */
EV__FN int ev__report_row(ev_report *r, const ev_ranked *m, size_t k, const ev_ranked *first, const ev_comparison *limits)
{
    double *mean = (double *)cmd_alloc(r->s->measures * 2 * sizeof *mean), *before = mean + r->s->measures, delta = 0;
    double bytes = m->documents ? m->bytes[k] / (double)m->documents : 0;
    ev_change c = { 0, 0, 0 };
    size_t i;
    int worse = 0;
    ev_means_of(r, m->margin[k], mean);
    if (limits) {
        ev_means_of(r, first->margin[k], before);
        delta = mean[0] - before[0];
        c = ev_changes(r->d, first->margin[k], m->margin[k]);
        worse = (limits->max_delta > -2 && fabs(delta) > limits->max_delta) || (limits->min_tau > -2 && c.tau < limits->min_tau);
    }
    if (r->json) {
        json_newline(&r->out), json_open(&r->out, '{');
        json_key(&r->out, "ratio"), json_uint(&r->out, r->kind[k].ratio);
        ev__json_own(&r->out, mean);
        json_key(&r->out, "measures"), ev_json_values(&r->out, r->s, mean);
        json_key(&r->out, "doc_bytes"), json_float(&r->out, bytes, 7);
        json_key(&r->out, "rank_seconds"), json_float(&r->out, m->rank_seconds[k], 6);
        if (limits) {
            json_key(&r->out, "delta_ndcg10"), json_float(&r->out, delta, 6);
            json_key(&r->out, "tau"), json_float(&r->out, c.tau, 7);
            json_key(&r->out, "max_margin_change"), json_float(&r->out, c.most, 6);
            json_key(&r->out, "mean_margin_change"), json_float(&r->out, c.mean, 6);
            json_key(&r->out, "within_limits"), json_bool(&r->out, !worse);
        }
        json_close(&r->out);
    } else {
        printf("ratio %-4lu  %.4f  %.4f     %.4f     %.4f", (unsigned long)r->kind[k].ratio, mean[0], mean[1], mean[2], mean[3]);
        for (i = EV_OWN_MEASURES; i < r->s->measures; i++)
            printf(ev_is_count(r->s->measure[i]) ? "  %10.0f" : "  %10.4f", mean[i]);
        if (m->documents) printf("  %9.0f  %8.0f", bytes, (double)r->d->run.count / m->rank_seconds[k]);
        else printf("  %9s  %8s", "", "");
        if (limits) printf("     %+.4f  %.4f  %14.5f  %.6f%s", delta, c.tau, c.most, c.mean, worse ? "  worse than the limit"
                           : "");
        putchar('\n');
    }
    free(mean);
    return !worse;
}

/* One ranking; against `first` when that is another. Returns whether the limits hold. */
EV__FN int ev_report_ranking(ev_report *r, const ev_ranked *m, uint32_t bits, const ev_ranked *first, const ev_comparison *limits)
{
    size_t k;
    int ok = 1;
    if (r->json) {
        json_newline(&r->out), json_open(&r->out, '{');
        json_key(&r->out, "model"), json_text(&r->out, kalm__text(m->name));
        json_key(&r->out, "bits"), json_uint(&r->out, bits);
        json_key(&r->out, "weights"), json_text(&r->out, kalm__text(m->weights));
        json_key(&r->out, "kernels"), json_text(&r->out, kalm__text(m->kernels));
        json_key(&r->out, "documents"), json_uint(&r->out, m->documents);
        json_key(&r->out, "encode_seconds"), json_float(&r->out, m->encode_seconds, 6);
        json_key(&r->out, "ratios"), json_open(&r->out, '[');
    } else ev__report_head(r, m, bits, limits != NULL);
    for (k = 0; k < r->kinds; k++) ok &= ev__report_row(r, m, k, first, limits);
    if (r->json) json_close(&r->out), json_close(&r->out);
    return ok;
}

/* "NAME: BEIR layout; judgements test.tsv, ...; first stage: ..." */
EV__FN void ev_say_source(FILE *f, const ev_data *d, const char *instruction)
{
    const char *q = strrchr(d->source.qrels, '/'), *c = strrchr(d->source.corpus[0], '/');
    size_t i, n = 0;
    for (i = 0; i < d->uses; i++) n += d->run.first[d->use[i] + 1] > d->run.first[d->use[i]];
    fprintf(f, "%s: %s layout, judgements %s, corpus %s%s (%llu documents); %lu queries with %lu candidates; first stage: %s; "
            "instruction: %s\n", d->source.name, ev_layout_name(d->source.layout), q ? q + 1 : d->source.qrels,
            c ? c + 1 : d->source.corpus[0], d->source.corpora > 1 ? " and others" : "", (unsigned long long)d->corpus_docs,
            (unsigned long)n, (unsigned long)d->run.count, d->first_stage, instruction);
}

/* What stands before the models: the first stage's own figures. */
EV__FN void ev_report_begin(ev_report *r, const char *instruction)
{
    double *mean = (double *)cmd_alloc(r->s->measures * sizeof *mean);
    size_t i, queries = 0;
    ev_means(r, &r->d->run, mean);
    for (i = 0; i < r->d->uses; i++) queries += r->d->run.first[r->d->use[i] + 1] > r->d->run.first[r->d->use[i]];
    if (r->json) {
        json_begin(&r->out, stdout);
        json_open(&r->out, '{');
        json_key(&r->out, "name"), json_text(&r->out, kalm__text(r->d->source.name));
        json_key(&r->out, "layout"), json_text(&r->out, kalm__text(ev_layout_name(r->d->source.layout)));
        json_key(&r->out, "first_stage"), json_text(&r->out, kalm__text(r->d->first_stage));
        json_key(&r->out, "instruction"), json_text(&r->out, kalm__text(instruction));
        json_key(&r->out, "queries"), json_uint(&r->out, queries);
        json_key(&r->out, "pairs"), json_uint(&r->out, r->d->run.count);
        json_key(&r->out, "candidates"), json_open(&r->out, '{');
        ev__json_own(&r->out, mean);
        json_key(&r->out, "measures"), ev_json_values(&r->out, r->s, mean);
        json_close(&r->out);
        json_key(&r->out, "models"), json_open(&r->out, '[');
    } else {
        ev_say_source(stdout, r->d, instruction);
        printf("the first stage's own order: nDCG@10 %.4f, MRR@10 %.4f, Success@1 %.4f, Recall@10 %.4f", mean[0], mean[1],
               mean[2], mean[3]);
        for (i = EV_OWN_MEASURES; i < r->s->measures; i++) {
            char name[32];
            ev_measure_name(r->s->measure[i], 0, name);
            printf(", %s %.4f", name, mean[i]);
        }
        putchar('\n');
    }
    free(mean);
}

EV__FN void ev_report_end(ev_report *r)
{
    if (r->json) {
        json_newline(&r->out), json_close(&r->out);
        json_key(&r->out, "notes"), ev_json_notes(&r->out, &r->d->notes);
        json_close(&r->out);
    }
    cmd_flush();
    ev_print_notes(stderr, &r->d->notes);
}

/* The figures of each query, for the first ratio, as trec_eval -q prints them. */
EV__FN void ev_report_each(const ev_report *r, const ev_ranked *m)
{
    ev_run run;
    double *value;
    size_t q, i;
    ev_reranked(&run, r->d, m->margin[0]);
    value = ev_run_values(&r->d->qrels, &run, r->d->queries.count, (int32_t)r->s->level, r->s->complete, r->s->measure,
                          r->s->measures);
    for (q = 0; q < r->d->queries.count; q++)
        for (i = 0; i < r->s->measures && run.first[r->order[q]] < run.first[r->order[q] + 1]; i++)
            ev__print_value(r->s->measure[i], r->d->queries.id[r->order[q]].data, value[r->order[q] * r->s->measures + i]);
    free(value);
    free(run.at);
}

#endif
