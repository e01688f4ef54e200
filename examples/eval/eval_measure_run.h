/* eval_measure_run.h - kalm-eval --measure QRELS RUN...: the measures of a ready run, printed as trec_eval prints them. */
#ifndef EVAL_MEASURE_RUN_H
#define EVAL_MEASURE_RUN_H

#include "eval_trec.h"

typedef struct ev_settings {
    ev_measure *measure;               /* [measures] */
    size_t      measures;
    uint32_t    level;                 /* -l: the least grade that is relevant */
    uint32_t    depth;                 /* -M: documents of a query that count; 0: all */
    int         complete, each;        /* -c, -q */
} ev_settings;

EV__FN void ev_add_measure(ev_settings *s, ev_measure m)
{
    s->measure = (ev_measure *)cmd_grow(s->measure, (s->measures + 1) * sizeof *s->measure);
    s->measure[s->measures++] = m;
}

/* "nDCG@10,MAP", or trec_eval's "ndcg_cut.1,5,10": a number alone is another cutoff of the measure before it. */
EV__FN void ev_add_measures(ev_settings *s, const char *text)
{
    char word[128], stem[64] = "";
    while (*text) {
        size_t n = strcspn(text, ","), digits = strspn(text, "0123456789"), k;
        ev_measure m;
        if (n && n < 24) {
            if (digits == n && stem[0]) sprintf(word, "%s%.*s", stem, (int)n, text);
            else sprintf(word, "%.*s", (int)n, text);
            if (!ev_measure_read(&m, word, strlen(word)))
                die_usage("there is no measure '%s'; there are nDCG@k, MAP, MRR, Recall@k, P@k, Success@k, R_cap@k, with any "
                          "k", word);
            ev_add_measure(s, m);
            k = strlen(word);
            while (k && word[k - 1] >= '0' && word[k - 1] <= '9') k--;
            sprintf(stem, "%.*s", (int)k, word);
            if (!m.cut) stem[0] = 0;
        } else die_usage("there is no measure '%.*s'", (int)kalm__min(n, (size_t)40), text);
        text += n + (text[n] == ',');
    }
}

EV__FN void ev__print_value(ev_measure m, const char *query, double value)
{
    char name[32];
    ev_measure_name(m, 1, name);
    if (value != value) return;        /* R_cap of a query without relevant documents */
    if (ev_is_count(m)) printf("%-22s\t%s\t%.0f\n", name, query, value);
    else printf("%-22s\t%s\t%6.4f\n", name, query, value);
}

EV__FN void ev_json_values(json_out *j, const ev_settings *s, const double *value)
{
    size_t i;
    json_open(j, '{');
    for (i = 0; i < s->measures; i++) {
        char name[32];
        ev_measure_name(s->measure[i], 0, name);
        json_key(j, name);
        json_float(j, value[i], 9);
    }
    json_close(j);
}

EV__FN void ev_json_notes(json_out *j, const ev_notes *notes)
{
    size_t i;
    json_open(j, '[');
    for (i = 0; i < notes->count; i++) {
        json_newline(j);
        json_open(j, '{');
        json_key(j, "file"), json_text(j, kalm__text(notes->note[i].file));
        json_key(j, "line"), json_uint(j, notes->note[i].first);
        json_key(j, "count"), json_uint(j, notes->note[i].count);
        json_key(j, "text"), json_text(j, kalm__text(notes->note[i].text));
        json_close(j);
    }
    json_close(j);
}

/* One JSON object: {"run": ..., "measures": {name: mean}, "each": {query: {name: value}}, "notes": [...]} */
EV__FN void ev__print_run_json(const ev_settings *s, const char *path, const ev_set *queries, const uint32_t *order,
                               const double *value, const int *counts, const ev_notes *notes)
{
    double *mean = (double *)cmd_alloc(s->measures * sizeof *mean);
    json_out j;
    size_t i, q;
    for (i = 0; i < s->measures; i++) mean[i] = ev_run_mean(value, order, queries->count, s->measure, s->measures, i);
    json_begin(&j, stdout);
    json_open(&j, '{');
    json_key(&j, "run"), json_text(&j, kalm__text(path));
    json_key(&j, "measures"), ev_json_values(&j, s, mean);
    if (s->each) {
        json_key(&j, "each");
        json_open(&j, '{');
        for (q = 0; q < queries->count; q++) {
            if (!counts[order[q]]) continue;
            json_newline(&j);
            json_key(&j, queries->id[order[q]].data);
            ev_json_values(&j, s, value + order[q] * s->measures);
        }
        json_close(&j);
    }
    json_key(&j, "notes"), ev_json_notes(&j, notes);
    json_close(&j);
    free(mean);
}

EV__FN void ev_measure_run(const ev_settings *s, const char *qrels_path, const char *run_path, int json)
{
    ev_set queries, docs;
    ev_qrels qrels;
    ev_run run;
    ev_notes notes;
    uint32_t *order;
    double *value;
    int *counts;                       /* [queries] has the run documents for it? */
    size_t q, i, without = 0;
    memset(&queries, 0, sizeof queries);
    memset(&docs, 0, sizeof docs);
    memset(&qrels, 0, sizeof qrels);
    memset(&run, 0, sizeof run);
    memset(&notes, 0, sizeof notes);
    ev_read_qrels(&qrels, &queries, &docs, qrels_path, &notes);
    ev_qrels_finish(&qrels, queries.count, qrels_path, &notes);
    ev_read_run(&run, &queries, &docs, run_path, &notes);
    ev_run_finish(&run, queries.count, &docs, s->depth, run_path, &notes);
    order = ev_sorted(&queries);
    value = ev_run_values(&qrels, &run, queries.count, (int32_t)s->level, s->complete, s->measure, s->measures);
    counts = (int *)cmd_alloc(queries.count * sizeof *counts);
    for (q = 0; q < queries.count; q++) {
        counts[q] = run.first[q] < run.first[q + 1];
        without += !counts[q];
    }
    ev_notice_many(&notes, run_path, 0, s->complete ? "a judged query has no document in the run; it counts 0"
                   : "a judged query has no document in the run; it takes no part (with -c it counts 0)", without);
    if (json) ev__print_run_json(s, run_path, &queries, order, value, counts, &notes);
    else {
        for (q = 0; s->each && q < queries.count; q++)
            for (i = 0; i < s->measures; i++)
                if (s->measure[i].kind != EV_NUM_Q && counts[order[q]])
                    ev__print_value(s->measure[i], queries.id[order[q]].data, value[order[q] * s->measures + i]);
        for (i = 0; i < s->measures; i++)
            ev__print_value(s->measure[i], "all", ev_run_mean(value, order, queries.count, s->measure, s->measures, i));
    }
    fflush(stdout);
    ev_print_notes(stderr, &notes);
}

#endif
