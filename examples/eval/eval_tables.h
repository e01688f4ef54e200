/* eval_tables.h - the tables of kalm-eval --tables, made from the results alone: Markdown laid out like the paper's, CSV with one
   figure a line, JSON. Quality goes into files of its own, quality.*, which are the same bytes whether the work was done in one
   piece or in shards; what it cost, cost.*, has measured seconds in it. */
#ifndef EVAL_TABLES_H
#define EVAL_TABLES_H

#include "eval_results.h"

enum { EV_ROUNDS = 10000 };            /* samples of a significance test */

typedef struct ev_tables {
    const ev_results *r;
    const char *out;
    size_t      baseline;              /* the system that others are compared with */
    size_t      rounds;
} ev_tables;

/* What the paper publishes (arXiv 2606.22807), so that it can stand beside what was measured. Never a measurement of ours. */
typedef struct ev_published { const char *layout, *name; double mean; const char *version; } ev_published;

EV__FN const ev_published *ev_published_rows(size_t *count)
{
    static const ev_published rows[] = {
        { "BEIR", "first stage: KaLM-Embedding-V2.5, top 100, 13 tasks", 53.78, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 2", 58.75, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 4", 58.54, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 8", 58.17, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 16", 57.47, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 32", 56.74, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 64", 55.88, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 128", 55.11, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Small, ratio 4", 61.07, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Small, best 20 at ratio 32, then ratio 2", 61.11, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Large, ratio 4", 63.53, "v3" },
        { "BEIR", "KaLM-Reranker-V1-Nano, ratio 4", 57.41, "v1" },
        { "BEIR", "KaLM-Reranker-V1-Small, ratio 4", 60.01, "v1" },
        { "BEIR", "KaLM-Reranker-V1-Large, ratio 4", 62.87, "v1" },
        { "BEIR", "gte-reranker-base", 56.77, "v3" },
        { "BEIR", "Qwen3-Reranker-0.6B", 59.36, "v3" },
        { "BEIR", "Qwen3-Reranker-4B", 63.50, "v3" },
        { "BEIR", "Qwen3-Reranker-8B", 65.11, "v3" },
        { "MIRACL", "KaLM-Reranker-V1-Nano, ratio 4", 71.11, "v3" },
        { "MIRACL", "KaLM-Reranker-V1-Small, ratio 4", 74.06, "v3" },
        { "MIRACL", "KaLM-Reranker-V1-Large, ratio 4", 74.92, "v3" },
        { "LMEB", "first stage (LMEB-Dialogue alone)", 50.80, "v3" },
        { "LMEB", "KaLM-Reranker-V1-Nano, ratio 4 (LMEB-Dialogue alone)", 61.07, "v3" }
    };
    *count = sizeof rows / sizeof *rows;
    return rows;
}

/* ---- figures -------------------------------------------------------------------------------------------------- */

/* The mean of measure i for one system on one data set; NaN: not tried. */
EV__FN double ev_cell_mean(const ev_results *r, const ev_set_of_data *d, size_t system, size_t i)
{
    const ev_cell *c = &d->cell[system];
    double *column, mean;
    size_t q;
    if (!c->value) return (double)NAN;
    column = (double *)cmd_alloc(d->queries * sizeof *column);
    for (q = 0; q < d->queries; q++) column[q] = c->value[q * r->s->measures + i];
    mean = ev_mean(r->s->measure[i], column, d->queries);
    free(column);
    return mean;
}

/* The mean over the data sets of a layout, each of which is the mean over its tasks. NaN: one of them was not tried. */
EV__FN double ev_macro_mean(const ev_results *r, const char *layout, size_t system, size_t i)
{
    double sum = 0;
    size_t d, groups = 0;
    for (d = 0; d < r->datas;) {
        size_t from = d, tasks;
        double group = 0;
        for (; d < r->datas && !strcmp(r->data[d].layout, r->data[from].layout)
             && !strcmp(r->data[d].group, r->data[from].group); d++)
            group += ev_cell_mean(r, &r->data[d], system, i);
        tasks = d - from;
        if (strcmp(r->data[from].layout, layout)) continue;
        sum += group / (double)tasks;
        groups++;
    }
    return groups ? sum / (double)groups : (double)NAN;
}

/* The values of all queries of a layout, one after the other; NaN where the system was not tried. To be freed. */
EV__FN double *ev_all_values(const ev_results *r, const char *layout, size_t system, size_t i, size_t *count)
{
    double *all = NULL;
    size_t d, q;
    *count = 0;
    for (d = 0; d < r->datas; d++) {
        const ev_set_of_data *s = &r->data[d];
        if (strcmp(s->layout, layout)) continue;
        all = (double *)cmd_grow(all, (*count + s->queries) * sizeof *all);
        for (q = 0; q < s->queries; q++) {
            const double *value = s->cell[system].value;
            all[(*count)++] = value ? value[q * r->s->measures + i] : (double)NAN;
        }
    }
    return all;
}

/* The mean over all queries of a layout; NaN: some were not tried. */
EV__FN double ev_micro_mean(const ev_results *r, const char *layout, size_t system, size_t i)
{
    size_t n, d;
    double *all, mean;
    for (d = 0; d < r->datas; d++)
        if (!strcmp(r->data[d].layout, layout) && !r->data[d].cell[system].value) return (double)NAN;
    all = ev_all_values(r, layout, system, i, &n);
    mean = ev_mean(r->s->measure[i], all, n);
    free(all);
    return mean;
}

EV__FN ev_test ev_against(const ev_tables *t, const char *layout, size_t system, size_t i)
{
    size_t n;
    double *a = ev_all_values(t->r, layout, t->baseline, i, &n), *b = ev_all_values(t->r, layout, system, i, &n);
    ev_test test;
    if (!ev_compare(&test, a, b, n, t->rounds, 1)) die("no memory for a test of significance");
    free(a);
    free(b);
    return test;
}

/* Of a layout: seconds a query, bytes a document; pairs that are not there yet. */
typedef struct ev_cost { double seconds, bytes; size_t queries, documents, pairs, missing; } ev_cost;

EV__FN ev_cost ev_cost_of(const ev_results *r, const char *layout, size_t system)
{
    ev_cost c = { 0, 0, 0, 0, 0, 0 };
    size_t d;
    for (d = 0; d < r->datas; d++) {
        const ev_cell *cell = &r->data[d].cell[system];
        if (strcmp(r->data[d].layout, layout) || !cell->value) continue;
        c.seconds += cell->seconds;
        c.bytes += cell->bytes;
        c.queries += r->data[d].queries;
        c.documents += cell->documents;
        c.pairs += cell->pairs;
        c.missing += cell->missing;
    }
    return c;
}

/* Is this the first data set of its layout, so that a section begins? */
EV__FN int ev_layout_begins(const ev_results *r, size_t d)
{
    return !d || strcmp(r->data[d].layout, r->data[d - 1].layout) != 0;
}

EV__FN int ev_tried(const ev_results *r, const char *layout, size_t system)
{
    size_t d;
    for (d = 0; d < r->datas; d++)
        if (!strcmp(r->data[d].layout, layout) && r->data[d].cell[system].value) return 1;
    return 0;
}

EV__FN const char *ev_first_of(const ev_results *r, const char *layout)
{
    size_t d;
    const char *first = "";
    for (d = 0; d < r->datas; d++)
        if (!strcmp(r->data[d].layout, layout)) {
            if (*first && strcmp(first, r->data[d].first)) return "several";
            first = r->data[d].first;
        }
    return first;
}

/* ---- files ---------------------------------------------------------------------------------------------------- */

EV__FN FILE *ev_begin_file(cmd_output *file, const ev_tables *t, const char *name)
{
    char *path = ev_join(t->out, name);
    FILE *f = cmd_output_begin(file, path);
    free(path);
    return f;
}

/* As the papers print it: times 100, two decimals; a dash where there is no figure. */
EV__FN void ev__percent(FILE *f, double v)
{
    if (v == v) fprintf(f, " %.2f |", 100 * v);
    else fputs(" – |", f);
}

EV__FN void ev__p_value(FILE *f, const ev_test *t, size_t rounds)
{
    if (!t->queries) fputs(" – | – |", f);
    else {
        fprintf(f, " %+.2f [%+.2f, %+.2f] |", 100 * t->difference, 100 * t->low, 100 * t->high);
        if (t->p <= 1.5 / (double)(rounds + 1)) fprintf(f, " < %.4f |", 2.0 / (double)(rounds + 1));
        else fprintf(f, " %.4f |", t->p);
    }
}

/* One row for each system without a cascade (or with one), a column for each data set. */
EV__FN void ev__main_table(FILE *f, const ev_tables *t, const char *layout, int cascades)
{
    const ev_results *r = t->r;
    char name[240], base[240];
    size_t d, s, n;
    const ev_published *rows = ev_published_rows(&n);
    ev_system_name(&r->system[t->baseline], "", base, sizeof base);
    fprintf(f, "| |");
    for (d = 0; d < r->datas; d++)
        if (!strcmp(r->data[d].layout, layout) && (!d || strcmp(r->data[d].group, r->data[d - 1].group)
                                                   || ev_layout_begins(r, d)))
            fprintf(f, " %s |", r->data[d].group);
    fprintf(f, " mean | all queries | difference to %s | p |\n|---|", base);
    for (d = 0; d < r->datas; d++)
        if (!strcmp(r->data[d].layout, layout) && (!d || strcmp(r->data[d].group, r->data[d - 1].group)
                                                   || ev_layout_begins(r, d)))
            fprintf(f, "---:|");
    fprintf(f, "---:|---:|---:|---:|\n");
    for (s = 0; s < r->systems; s++) {
        ev_test test;
        if (!ev_tried(r, layout, s) || (r->system[s].coarse != 0) != (cascades != 0)) continue;
        ev_system_name(&r->system[s], ev_first_of(r, layout), name, sizeof name);
        fprintf(f, "| %s |", name);
        for (d = 0; d < r->datas;) {
            size_t from = d;
            double sum = 0;
            for (; d < r->datas && !strcmp(r->data[d].layout, r->data[from].layout)
                 && !strcmp(r->data[d].group, r->data[from].group); d++)
                sum += ev_cell_mean(r, &r->data[d], s, 0);
            if (!strcmp(r->data[from].layout, layout)) ev__percent(f, sum / (double)(d - from));
        }
        ev__percent(f, ev_macro_mean(r, layout, s, 0));
        ev__percent(f, ev_micro_mean(r, layout, s, 0));
        test = ev_against(t, layout, s, 0);
        if (s == t->baseline) memset(&test, 0, sizeof test);
        ev__p_value(f, &test, t->rounds);
        fputc('\n', f);
    }
    for (s = 0; s < n && !cascades; s++) {
        if (strcmp(rows[s].layout, layout)) continue;
        fprintf(f, "| *published, arXiv 2606.22807 %s:* %s |", rows[s].version, rows[s].name);
        for (d = 0; d < r->datas; d++)
            if (!strcmp(r->data[d].layout, layout) && (!d || strcmp(r->data[d].group, r->data[d - 1].group)
                                                       || ev_layout_begins(r, d)))
                fprintf(f, " |");
        fprintf(f, " %.2f | | | |\n", rows[s].mean);
    }
}

/* What ratio and row type do: a row for each model, instruction and row type; the mean at each ratio, and bytes a document. */
EV__FN void ev__ratio_table(FILE *f, const ev_tables *t, const char *layout)
{
    const ev_results *r = t->r;
    uint32_t ratio[EV_KINDS_MOST];
    size_t n = 0, s, k, i;
    for (s = 1; s < r->systems; s++) {
        if (r->system[s].coarse || !ev_tried(r, layout, s)) continue;
        for (k = 0; k < n && ratio[k] != r->system[s].ratio; k++) {}
        if (k < n || n == EV_KINDS_MOST) continue;
        for (; k && ratio[k - 1] > r->system[s].ratio; k--) ratio[k] = ratio[k - 1];
        ratio[k] = r->system[s].ratio;
        n++;
    }
    if (n < 2) return;
    fprintf(f, "\n### By ratio and row type: the mean, and bytes a document\n\n| |");
    for (k = 0; k < n; k++) fprintf(f, " ratio %lu |", (unsigned long)ratio[k]);
    fprintf(f, "\n|---|");
    for (k = 0; k < n; k++) fprintf(f, "---:|");
    fputc('\n', f);
    for (s = 1; s < r->systems; s = i) {
        const ev_system *a = &r->system[s];
        for (i = s + 1; i < r->systems && !strcmp(r->system[i].model, a->model) && !strcmp(r->system[i].weights, a->weights)
             && !strcmp(r->system[i].asked, a->asked) && r->system[i].bits == a->bits && r->system[i].coarse == a->coarse
             && r->system[i].keep == a->keep; i++) {}
        if (a->coarse || !ev_tried(r, layout, s)) continue;
        fprintf(f, "| %s %s, %lu bits%s%s |", a->model, a->weights, (unsigned long)a->bits, strcmp(a->asked, "default")
                ? ", instruction: " : "",
                strcmp(a->asked, "default") ? a->asked : "");
        for (k = 0; k < n; k++) {
            size_t at;
            for (at = s; at < i && r->system[at].ratio != ratio[k]; at++) {}
            if (at == i || !ev_tried(r, layout, at)) fputs(" – |", f);
            else {
                ev_cost c = ev_cost_of(r, layout, at);
                double mean = ev_macro_mean(r, layout, at, 0);
                if (mean == mean) fprintf(f, " %.2f<br>%.0f |", 100 * mean, c.documents ? c.bytes / (double)c.documents : 0.0);
                else fputs(" – |", f);
            }
        }
        fputc('\n', f);
    }
}

/* With the published instruction and without one, side by side, as LMEB reports it. */
EV__FN void ev__instruction_table(FILE *f, const ev_tables *t, const char *layout)
{
    const ev_results *r = t->r;
    size_t s, k, n = 0;
    for (s = 1; s < r->systems; s++) {
        ev_system other = r->system[s];
        double with, without;
        size_t count;
        double *a, *b;
        ev_test test;
        char name[240];
        if (other.coarse || !strcmp(other.asked, "default") || !ev_tried(r, layout, s)) continue;
        strcpy(other.asked, "default");
        for (k = 1; k < r->systems && ev__by_system(&r->system[k], &other); k++) {}
        if (k == r->systems || !ev_tried(r, layout, k)) continue;
        if (!n++) fprintf(f, "\n### With and without instructions\n\n| | without | with | difference, all queries | p "
                             "|\n|---|---:|---:|---:|---:|\n");
        with = ev_macro_mean(r, layout, s, 0);
        without = ev_macro_mean(r, layout, k, 0);
        ev_system_name(&r->system[s], "", name, sizeof name);
        fprintf(f, "| %s |", name);
        ev__percent(f, without);
        ev__percent(f, with);
        a = ev_all_values(r, layout, k, 0, &count);
        b = ev_all_values(r, layout, s, 0, &count);
        if (!ev_compare(&test, a, b, count, t->rounds, 1)) die("no memory for a test of significance");
        ev__p_value(f, &test, t->rounds);
        fputc('\n', f);
        free(a);
        free(b);
    }
}

EV__FN void ev__quality_md(const ev_tables *t)
{
    const ev_results *r = t->r;
    char measure[32];
    cmd_output file;
    FILE *f = ev_begin_file(&file, t, "quality.md");
    size_t d, s, missing;
    ev_measure_name(r->s->measure[0], 0, measure);
    fprintf(f, "# Quality: %s, times 100\n\nMeasures are those of trec_eval. \"mean\" is over data sets, each the mean over "
               "its tasks; "
            "\"all queries\" counts every query once.\nDifferences are those of the mean over all queries, with the 95%% "
            "interval of a paired "
            "bootstrap; p is two-sided, of a paired randomisation test (%lu samples each, seed 1).\nRows marked *published* "
            "are figures "
            "of the paper, made with other first stages and checkpoints, and no measurements of this program.\n",
            measure, (unsigned long)t->rounds);
    for (d = 0; d < r->datas; d++) {
        const char *layout = r->data[d].layout;
        size_t queries = 0, candidates = 0, sets = 0, k;
        int cascades = 0;
        if (!ev_layout_begins(r, d)) continue;
        for (k = d; k < r->datas && !strcmp(r->data[k].layout, layout); k++)
            sets++, queries += r->data[k].queries, candidates += r->data[k].candidates;
        fprintf(f, "\n## %s: %lu test collections, %lu queries, %lu candidates\n\n", layout, (unsigned long)sets,
                (unsigned long)queries, (unsigned long)candidates);
        for (s = missing = 0; s < r->systems; s++) {
            missing += ev_cost_of(r, layout, s).missing;
            cascades |= r->system[s].coarse && ev_tried(r, layout, s);
        }
        if (missing) fprintf(f, "**Not complete: %lu pairs have no margin yet; such documents stand last.**\n\n",
                             (unsigned long)missing);
        ev__main_table(f, t, layout, 0);
        ev__ratio_table(f, t, layout);
        ev__instruction_table(f, t, layout);
        if (cascades) {
            fprintf(f, "\n### Cascades: all candidates at a coarse ratio, then the best at a finer one\n\n");
            ev__main_table(f, t, layout, 1);
        }
    }
    cmd_output_end(&file);
}

/* ---- CSV and JSON --------------------------------------------------------------------------------------------- */

EV__FN void ev__csv_text(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"') fputc('"', f);
        fputc(*s, f);
    }
    fputc('"', f);
}

EV__FN void ev__csv_system(FILE *f, const ev_system *s)
{
    ev__csv_text(f, s->model[0] ? s->model : "first stage");
    fprintf(f, ",%s,%s,%lu,%lu,%lu,%lu", s->weights, s->asked, (unsigned long)s->ratio, (unsigned long)s->bits,
            (unsigned long)s->coarse,
            (unsigned long)s->keep);
}

EV__FN void ev__csv_figure(FILE *f, const ev_tables *t, const char *layout, const char *data, size_t s, size_t i,
                           size_t queries, double value, int tested)
{
    char name[32];
    ev_cost c = ev_cost_of(t->r, layout, s);
    ev_measure_name(t->r->s->measure[i], 0, name);
    fprintf(f, "%s,", layout);
    ev__csv_text(f, data);
    fputc(',', f);
    ev__csv_system(f, &t->r->system[s]);
    fprintf(f, ",%s,%lu,", name, (unsigned long)queries);
    if (value == value) fprintf(f, "%.6f", value);
    fputc(',', f);
    if (c.documents) fprintf(f, "%.1f", c.bytes / (double)c.documents);
    if (tested && s != t->baseline) {
        ev_test test = ev_against(t, layout, s, i);
        fprintf(f, ",%.6f,%.6f,%.6f,%.6f\n", test.difference, test.low, test.high, test.p);
    } else fputs(",,,,\n", f);
}

EV__FN void ev__quality_csv(const ev_tables *t)
{
    const ev_results *r = t->r;
    cmd_output file;
    FILE *f = ev_begin_file(&file, t, "quality.csv");
    size_t d, k, s, i, n;
    const ev_published *rows = ev_published_rows(&n);
    fputs("layout,data,model,weights,instruction,ratio,bits,coarse_ratio,keep,measure,queries,value,bytes_per_document,"
          "difference,low,high,p\n", f);
    for (d = 0; d < r->datas; d++)
        for (s = 0; s < r->systems; s++)
            for (i = 0; i < r->s->measures; i++)
                if (r->data[d].cell[s].value)
                    ev__csv_figure(f, t, r->data[d].layout, r->data[d].name, s, i, r->data[d].queries,
                                   ev_cell_mean(r, &r->data[d], s, i), 0);
    for (d = 0; d < r->datas; d++) {
        const char *layout = r->data[d].layout;
        size_t queries = 0;
        if (!ev_layout_begins(r, d)) continue;
        for (k = d; k < r->datas && !strcmp(r->data[k].layout, layout); k++) queries += r->data[k].queries;
        for (s = 0; s < r->systems; s++)
            for (i = 0; i < r->s->measures && ev_tried(r, layout, s); i++) {
                ev__csv_figure(f, t, layout, "mean", s, i, queries, ev_macro_mean(r, layout, s, i), 0);
                ev__csv_figure(f, t, layout, "all queries", s, i, queries, ev_micro_mean(r, layout, s, i), i == 0);
            }
        for (k = 0; k < n; k++)
            if (!strcmp(rows[k].layout, layout)) {
                char name[200];
                snprintf(name, sizeof name, "published, arXiv 2606.22807 %s: %s", rows[k].version, rows[k].name);
                fprintf(f, "%s,mean,", layout);
                ev__csv_text(f, name);
                fprintf(f, ",,,,,,,nDCG@10,,%.4f,,,,,\n", rows[k].mean / 100);
            }
    }
    cmd_output_end(&file);
}

EV__FN void ev__json_system(json_out *j, const ev_system *s)
{
    json_key(j, "model"), json_text(j, kalm__text(s->model[0] ? s->model : "first stage"));
    json_key(j, "weights"), json_text(j, kalm__text(s->weights));
    json_key(j, "instruction"), json_text(j, kalm__text(s->asked));
    json_key(j, "ratio"), json_uint(j, s->ratio);
    json_key(j, "bits"), json_uint(j, s->bits);
    if (s->coarse) json_key(j, "coarse_ratio"), json_uint(j, s->coarse), json_key(j, "keep"), json_uint(j, s->keep);
}

EV__FN void ev__json_layout(json_out *j, const ev_tables *t, const char *layout)
{
    const ev_results *r = t->r;
    double *mean = (double *)cmd_alloc(r->s->measures * sizeof *mean);
    size_t s, d, i;
    for (s = 0; s < r->systems; s++) {
        ev_cost c = ev_cost_of(r, layout, s);
        if (!ev_tried(r, layout, s)) continue;
        json_newline(j), json_open(j, '{');
        ev__json_system(j, &r->system[s]);
        if (c.documents) json_key(j, "bytes_per_document"), json_float(j, c.bytes / (double)c.documents, 7);
        json_key(j, "data"), json_open(j, '{');
        for (d = 0; d < r->datas; d++) {
            if (strcmp(r->data[d].layout, layout) || !r->data[d].cell[s].value) continue;
            for (i = 0; i < r->s->measures; i++) mean[i] = ev_cell_mean(r, &r->data[d], s, i);
            json_key(j, r->data[d].name), ev_json_values(j, r->s, mean);
        }
        json_close(j);
        for (i = 0; i < r->s->measures; i++) mean[i] = ev_macro_mean(r, layout, s, i);
        json_key(j, "mean"), ev_json_values(j, r->s, mean);
        for (i = 0; i < r->s->measures; i++) mean[i] = ev_micro_mean(r, layout, s, i);
        json_key(j, "all_queries"), ev_json_values(j, r->s, mean);
        if (s != t->baseline) {
            ev_test test = ev_against(t, layout, s, 0);
            json_key(j, "difference"), json_float(j, test.difference, 9);
            json_key(j, "low"), json_float(j, test.low, 9);
            json_key(j, "high"), json_float(j, test.high, 9);
            json_key(j, "p"), json_float(j, test.p, 9);
        }
        json_close(j);
    }
    free(mean);
}

EV__FN void ev__quality_json(const ev_tables *t)
{
    const ev_results *r = t->r;
    cmd_output file;
    FILE *f = ev_begin_file(&file, t, "quality.json");
    json_out j;
    size_t d, k, n;
    const ev_published *rows = ev_published_rows(&n);
    json_begin(&j, f);
    json_open(&j, '{');
    for (d = 0; d < r->datas; d++) {
        const char *layout = r->data[d].layout;
        if (!ev_layout_begins(r, d)) continue;
        json_newline(&j), json_key(&j, layout), json_open(&j, '{');
        json_key(&j, "systems"), json_open(&j, '[');
        ev__json_layout(&j, t, layout);
        json_close(&j);
        json_newline(&j), json_key(&j, "published"), json_open(&j, '[');
        for (k = 0; k < n; k++) {
            if (strcmp(rows[k].layout, layout)) continue;
            json_newline(&j), json_open(&j, '{');
            json_key(&j, "name"), json_text(&j, kalm__text(rows[k].name));
            json_key(&j, "source"), json_text(&j, kalm__text("arXiv 2606.22807"));
            json_key(&j, "version"), json_text(&j, kalm__text(rows[k].version));
            json_key(&j, "nDCG@10"), json_float(&j, rows[k].mean / 100, 7);
            json_close(&j);
        }
        json_close(&j);
        json_close(&j);
    }
    json_newline(&j), json_close(&j);
    cmd_output_end(&file);
}

/* ---- cost ----------------------------------------------------------------------------------------------------- */

EV__FN void ev__cost_files(const ev_tables *t)
{
    const ev_results *r = t->r;
    char name[240];
    cmd_output file, csv_file;
    FILE *f = ev_begin_file(&file, t, "cost.md"), *csv = ev_begin_file(&csv_file, t, "cost.csv");
    size_t d, s;
    fputs("# Cost\n\nMilliseconds a query are measured: the time of all calls that scored its candidates, documents encoded "
          "before. "
          "Of a cascade they are computed from the times of its two ratios.\n", f);
    fputs("layout,model,weights,instruction,ratio,bits,coarse_ratio,keep,queries,pairs,milliseconds_per_query,"
          "bytes_per_document\n", csv);
    for (d = 0; d < r->datas; d++) {
        const char *layout = r->data[d].layout;
        if (!ev_layout_begins(r, d)) continue;
        fprintf(f, "\n## %s\n\n| | ms a query | pairs a second | bytes a document | mean |\n|---|---:|---:|---:|---:|\n", layout);
        for (s = 1; s < r->systems; s++) {
            ev_cost c = ev_cost_of(r, layout, s);
            double ms = c.queries ? 1000 * c.seconds / (double)c.queries : 0;
            if (!ev_tried(r, layout, s)) continue;
            ev_system_name(&r->system[s], "", name, sizeof name);
            fprintf(f, "| %s | %.2f | %.0f |", name, ms, c.seconds > 0 ? (double)c.pairs / c.seconds : 0);
            if (c.documents) fprintf(f, " %.0f |", c.bytes / (double)c.documents);
            else fputs(" |", f);
            ev__percent(f, ev_macro_mean(r, layout, s, 0));
            fprintf(csv, "%s,", layout);
            ev__csv_system(csv, &r->system[s]);
            fprintf(csv, ",%lu,%lu,%.4f,", (unsigned long)c.queries, (unsigned long)c.pairs, ms);
            if (c.documents) fprintf(csv, "%.1f", c.bytes / (double)c.documents);
            fputc('\n', csv);
            fputc('\n', f);
        }
    }
    cmd_output_end(&file);
    cmd_output_end(&csv_file);
}

/* ---- charts --------------------------------------------------------------------------------------------------- */

/* Words of a model file or a journal inside of a string of gnuplot in single quotes. What is in backquotes it gives to a shell, within
   double quotes too, and a quote would end the string: letters, digits and a few signs stay as they are, others become '_'. */
EV__FN void ev__plot_words(FILE *plot, const char *words)
{
    for (; *words; words++) {
        unsigned char c = (unsigned char)*words;
        int plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c >= 128 || strchr(" -_.,:+()/", c);
        fputc(plain ? c : '_', plot);
    }
}

/* One line of a chart: model, instruction and row type; its points in the order of ratios. kind: 0 bytes, 1 time, 2 cascades
   by time. */
EV__FN size_t ev__chart_lines(const ev_tables *t, const char *layout, int kind, FILE *data, FILE *plot, const char *data_name)
{
    const ev_results *r = t->r;
    size_t s, i, lines = 0;
    for (s = 1; s < r->systems; s = i) {
        const ev_system *a = &r->system[s];
        size_t points = 0, k;
        for (i = s + 1; i < r->systems && !strcmp(r->system[i].model, a->model) && !strcmp(r->system[i].weights, a->weights)
             && !strcmp(r->system[i].asked, a->asked) && r->system[i].bits == a->bits && r->system[i].coarse == a->coarse
             && (a->coarse || r->system[i].keep == a->keep); i++) {}
        if (kind < 2 && a->coarse) continue;
        for (k = s; k < i; k++) {
            ev_cost c = ev_cost_of(r, layout, k);
            double mean = ev_macro_mean(r, layout, k, 0), x = kind == 0 ? (c.documents ? c.bytes / (double)c.documents : 0)
                                                                        : c.queries ? 1000 * c.seconds / (double)c.queries : 0;
            if (mean != mean || x <= 0) continue;
            fprintf(data, "%.6g %.4f %lu\n", x, 100 * mean, (unsigned long)(a->coarse ? r->system[k].keep : r->system[k].ratio));
            points++;
        }
        if (!points) continue;
        fputs("\n\n", data);
        fprintf(plot, "%s '%s' index %lu using 1:2 with linespoints title '", lines ? ", \\\n    " : "plot", data_name,
                (unsigned long)lines);
        ev__plot_words(plot, a->model), fputc(' ', plot), ev__plot_words(plot, a->weights);
        fprintf(plot, " %lu bits", (unsigned long)a->bits);
        if (strcmp(a->asked, "default")) fputs(", instruction ", plot), ev__plot_words(plot, a->asked);
        if (a->coarse) fprintf(plot, ", best 10, 20, 50 at ratio %lu, then %lu", (unsigned long)a->coarse,
                               (unsigned long)a->ratio);
        fputs("'", plot);
        lines++;
    }
    fputc('\n', plot);
    return lines;
}

EV__FN int ev_have_gnuplot(void)
{
    const char *path = getenv("PATH");
    char name[600];
    while (path && *path) {
        size_t n = strcspn(path, ":");
        snprintf(name, sizeof name, "%.*s/gnuplot", (int)kalm__min(n, (size_t)560), path);
        if (kalm__file_exists(name)) return 1;
        path += n + (path[n] == ':');
    }
    return 0;
}

/* gnuplot SCRIPT, in the folder where it is. No shell is asked, so no name of a folder is a command. */
EV__FN void ev_draw(const char *folder, const char *script)
{
#if !defined(_WIN32)
    pid_t child = fork();
    int status = 1;
    if (!child) {
        int nowhere = open("/dev/null", O_WRONLY);
        if (nowhere >= 0) dup2(nowhere, 2);
        if (chdir(folder) == 0) execlp("gnuplot", "gnuplot", script, (char *)NULL);
        _exit(127);
    }
    if (child > 0)
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (status) say("gnuplot did not draw the chart of %s/%s", folder, script);
#else
    say("gnuplot draws the chart: %s/%s", folder, script);
#endif
}

/* charts/NAME.gp and .dat for gnuplot, and where gnuplot is installed NAME.svg: 0 quality by bytes, 1 by time, 2 cascades. */
EV__FN void ev__chart(const ev_tables *t, const char *layout, int kind, int draw)
{
    static const char *const names[3] = { "bytes", "time", "cascade" }, *const axes[3] = { "bytes a document", "ms a query",
                                                                                          "ms a query" };
    ev_string base = { NULL, 0, 0 }, command = { NULL, 0, 0 };
    char measure[32];
    cmd_output data_file, plot_file;
    FILE *data, *plot;
    ev_measure_name(t->r->s->measure[0], 0, measure);
    ev_printf(&base, "charts/quality_%s_%s", names[kind], layout);
    ev_printf(&command, "%s.dat", base.data);
    data = ev_begin_file(&data_file, t, command.data);
    command.size = 0;
    ev_printf(&command, "%s.gp", base.data);
    plot = ev_begin_file(&plot_file, t, command.data);
    fprintf(plot, "# gnuplot %s.gp, in this folder, draws %s.svg\nset terminal svg size 800,500 enhanced background 'white'\n"
            "set output '%s.svg'\nset logscale x\nset xlabel '%s'\nset ylabel '%s, times 100'\nset key outside bottom "
            "noenhanced\nset grid\n",
            base.data + 7, base.data + 7, base.data + 7, axes[kind], measure);
    command.size = 0;
    ev_printf(&command, "%s.dat", base.data + 7);
    if (!ev__chart_lines(t, layout, kind, data, plot, command.data)) draw = 0;
    cmd_output_end(&data_file);
    cmd_output_end(&plot_file);
    command.size = 0;
    ev_printf(&command, "%s.gp", base.data + 7);
    if (draw) {
        char *folder = ev_join(t->out, "charts");
        ev_draw(folder, command.data);
        free(folder);
    }
    free(base.data);
    free(command.data);
}

/* All tables and charts of OUT. */
EV__FN void ev_write_tables(const ev_tables *t)
{
    char *charts = ev_join(t->out, "charts");
    int draw = ev_have_gnuplot(), kind;
    size_t d;
    ev__quality_md(t);
    ev__quality_csv(t);
    ev__quality_json(t);
    ev__cost_files(t);
    ev_make_folder(charts);
    for (d = 0; d < t->r->datas; d++)
        for (kind = 0; kind < 3 && ev_layout_begins(t->r, d); kind++) ev__chart(t, t->r->data[d].layout, kind, draw);
    if (!draw) say("gnuplot is not installed; it draws the charts later from %s/*.gp", charts);
    free(charts);
}

#endif
