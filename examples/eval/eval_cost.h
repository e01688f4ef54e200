/* eval_cost.h - kalm-eval --cost: what one query costs per passage, over the length of passages, in the three ways of the paper's
   argument. All times are measured on this machine with this engine; nothing of them is computed:

     joint   query and passage read together, as a cross-encoder must for every query. No cross-encoder of this size is here: its
             stand-in is this model's own encoder, timed on passage and prompt in one sequence
     plain   passages are stored; the decoder reads the prompt and attends to their rows
     kept    the decoder's state for passage and instruction is kept as well (cache_bytes); the query's own tokens are read

   What is computed is the quotients. The paper's own figures for them follow from counting operations, not from measuring. */
#ifndef EVAL_COST_H
#define EVAL_COST_H

#include "eval_tables.h"

enum { EV_PROMPT = 75, EV_PREFIX = 50, EV_COST_DOCS = 4 };

typedef struct ev_cost_row { uint32_t tokens, ratio; double joint, plain, kept; } ev_cost_row;     /* milliseconds a passage */

typedef struct ev__stopwatch {
    kalm_model   *model;
    kalm_context *ctx, *keeping;       /* keeping: one with a cache */
    int32_t      *ids;                 /* [EV_COST_DOCS * most + EV_PROMPT] of no meaning, the same in every run */
    uint32_t      most;
} ev__stopwatch;

/* A time is the best of at least three rounds, and of as many as fit into a third of a second: what disturbs a round on a busy
   machine only makes it slower. */
EV__FN int ev__again(int rounds, double spent) { return rounds < 3 || (spent < 0.3 && rounds < 200); }

EV__FN void ev__random_ids(ev__stopwatch *w, uint32_t vocabulary)
{
    size_t i, n = (size_t)EV_COST_DOCS * w->most + EV_PROMPT;
    uint64_t state = 1;
    w->ids = (int32_t *)cmd_alloc(n * sizeof *w->ids);
    for (i = 0; i < n; i++) w->ids[i] = (int32_t)(ev_random(&state) % (vocabulary / 2)) + (int32_t)(vocabulary / 4);
}

/* Milliseconds a passage of encoding passages of `tokens` tokens: the best of some rounds. docs [EV_COST_DOCS]: what they
   became at ratio 1, or NULL. */
EV__FN double ev__time_encode(const ev__stopwatch *w, uint32_t tokens, kalm_doc **docs)
{
    kalm_ids ids[EV_COST_DOCS];
    kalm_doc *made[EV_COST_DOCS];
    kalm_params params;
    kalm_error err;
    double best = 0, seconds, spent = 0;
    int round, i;
    memset(&params, 0, sizeof params);
    params.ratio = 1;
    params.bits = 16;
    for (i = 0; i < EV_COST_DOCS; i++) {
        ids[i].data = w->ids + (size_t)i * w->most;
        ids[i].count = tokens;
    }
    for (round = 0; ev__again(round, spent); round++, spent += seconds) {
        seconds = kalm__now();
        ev_check(kalm_encode_ids(w->ctx, ids, EV_COST_DOCS, &params, made, &err), &err);
        seconds = kalm__now() - seconds;
        if (!round || seconds < best) best = seconds;
        for (i = 0; i < EV_COST_DOCS; i++) {
            if (docs && !round) docs[i] = made[i];
            else kalm_doc_free(made[i]);
        }
        if (kalm__interrupted) exit(EXIT_INTERRUPTED);
    }
    return 1000 * best / EV_COST_DOCS;
}

/* The same of one query over stored passages; in a context with a cache after a first query has filled it. */
EV__FN double ev__time_rerank(const ev__stopwatch *w, kalm_context *ctx, const kalm_doc *const *docs)
{
    kalm_ids prompt;
    kalm_params params;
    kalm_score scores[EV_COST_DOCS];
    kalm_error err;
    double best = 0, seconds, spent = 0;
    int round;
    memset(&params, 0, sizeof params);
    params.prefix_tokens = EV_PREFIX;
    prompt.data = w->ids + (size_t)EV_COST_DOCS * w->most;
    prompt.count = EV_PROMPT;
    ev_check(kalm_rerank_ids(ctx, prompt, docs, EV_COST_DOCS, &params, scores, &err), &err);
    for (round = 0; ev__again(round, spent); round++, spent += seconds) {
        seconds = kalm__now();
        ev_check(kalm_rerank_ids(ctx, prompt, docs, EV_COST_DOCS, &params, scores, &err), &err);
        seconds = kalm__now() - seconds;
        if (!round || seconds < best) best = seconds;
        if (kalm__interrupted) exit(EXIT_INTERRUPTED);
    }
    return 1000 * best / EV_COST_DOCS;
}

/* Measures into rows; returns how many there are. */
EV__FN size_t ev__measure_cost(ev__stopwatch *w, ev_cost_row *row, const uint32_t *ratio, size_t ratios, uint32_t longest)
{
    kalm_doc *fine[EV_COST_DOCS], *docs[EV_COST_DOCS];
    kalm_error err;
    uint32_t tokens;
    size_t n = 0, k;
    int i;
    for (tokens = 64; tokens <= longest; tokens *= 2) {
        double joint = ev__time_encode(w, tokens + EV_PROMPT, NULL);
        ev__time_encode(w, tokens, fine);
        for (k = 0; k < ratios; k++) {
            for (i = 0; i < EV_COST_DOCS; i++) ev_check(kalm_doc_repool(w->model, fine[i], ratio[k], 16, &docs[i], &err), &err);
            row[n].tokens = tokens;
            row[n].ratio = ratio[k];
            row[n].joint = joint;
            row[n].plain = ev__time_rerank(w, w->ctx, (const kalm_doc *const *)docs);
            kalm_context_clear_cache(w->keeping);
            row[n++].kept = ev__time_rerank(w, w->keeping, (const kalm_doc *const *)docs);
            for (i = 0; i < EV_COST_DOCS; i++) kalm_doc_free(docs[i]);
        }
        for (i = 0; i < EV_COST_DOCS; i++) kalm_doc_free(fine[i]);
    }
    return n;
}

EV__FN void ev__write_cost(const char *out, const ev_cost_row *row, size_t rows, const uint32_t *ratio, size_t ratios,
                           const char *what)
{
    ev_tables t;
    cmd_output md_file, csv_file, dat_file, gp_file;
    FILE *md, *csv, *dat, *gp;
    size_t i, k;
    memset(&t, 0, sizeof t);
    t.out = out;
    md = ev_begin_file(&md_file, &t, "cost_curve.md");
    csv = ev_begin_file(&csv_file, &t, "cost_curve.csv");
    dat = ev_begin_file(&dat_file, &t, "cost_curve.dat");
    gp = ev_begin_file(&gp_file, &t, "cost_curve.gp");
    fprintf(md, "# What a query costs, by the length of passages\n\n%s. Prompts of %d tokens, of which %d follow the kept "
                "prefix. "
            "Milliseconds a passage, measured, the best of three rounds or more.\n\"joint\" is this model's encoder over "
            "passage and prompt in one "
            "sequence, a stand-in for a cross-encoder of its size; quotients are computed from the times.\nBy counting "
            "operations the "
            "paper (arXiv 2606.22807) gives 16.6 times less at 256 tokens and 203 times at 4096: published, not measured.\n\n"
            "| tokens | ratio | joint | plain | kept | joint / plain | joint / kept |\n"
            "|---:|---:|---:|---:|---:|---:|---:|\n", what,
            (int)EV_PROMPT, EV_PROMPT - EV_PREFIX);
    fputs("tokens,ratio,joint_ms,plain_ms,kept_ms,joint_by_plain,joint_by_kept\n", csv);
    for (i = 0; i < rows; i++) {
        const ev_cost_row *r = &row[i];
        fprintf(md, "| %lu | %lu | %.2f | %.2f | %.2f | %.1f | %.1f |\n", (unsigned long)r->tokens, (unsigned long)r->ratio,
                r->joint, r->plain, r->kept, r->joint / r->plain, r->joint / r->kept);
        fprintf(csv, "%lu,%lu,%.4f,%.4f,%.4f,%.3f,%.3f\n", (unsigned long)r->tokens, (unsigned long)r->ratio, r->joint,
                r->plain, r->kept, r->joint / r->plain, r->joint / r->kept);
    }
    for (k = 0; k < ratios; k++) {
        for (i = 0; i < rows; i++)
            if (row[i].ratio == ratio[k])
                fprintf(dat, "%lu %.4f %.4f %.4f\n", (unsigned long)row[i].tokens, row[i].joint, row[i].plain, row[i].kept);
        fputs("\n\n", dat);
    }
    fputs("# gnuplot cost_curve.gp, in this folder, draws cost_curve.svg\nset terminal svg size 800,500 enhanced background "
          "'white'\n"
          "set output 'cost_curve.svg'\nset logscale xy\nset xlabel 'tokens of a passage'\nset ylabel 'ms a passage'\n"
          "set key outside bottom noenhanced\nset grid\nplot 'cost_curve.dat' index 0 using 1:2 with linespoints title "
          "'joint'", gp);
    for (k = 0; k < ratios; k++)
        fprintf(gp, ", \\\n    'cost_curve.dat' index %lu using 1:3 with linespoints title 'plain, ratio %lu', '' index %lu "
                    "using 1:4 with linespoints title 'kept, ratio %lu'",
                (unsigned long)k, (unsigned long)ratio[k], (unsigned long)k, (unsigned long)ratio[k]);
    fputc('\n', gp);
    cmd_output_end(&md_file);
    cmd_output_end(&csv_file);
    cmd_output_end(&dat_file);
    cmd_output_end(&gp_file);
    if (ev_have_gnuplot()) ev_draw(out, "cost_curve.gp");
}

/* longest: tokens of the longest passages. */
EV__FN void ev_cost_curve(const char *out, const char *path, const kalm_config *config, const uint32_t *ratio, size_t ratios,
                          uint32_t longest)
{
    ev__stopwatch w;
    kalm_model_info info;
    kalm_config own = *config;
    kalm_error err;
    ev_cost_row *row;
    ev_string what = { NULL, 0, 0 };
    size_t rows;
    memset(&w, 0, sizeof w);
    ev_check(kalm_model_open(path, config, &w.model, &err), &err);
    kalm_model_get_info(w.model, &info);
    while (longest > 64 && longest + EV_PROMPT > info.max_tokens) longest /= 2;
    w.most = longest + EV_PROMPT;
    own.max_doc_tokens = w.most;
    ev_check(kalm_context_new(w.model, &own, &w.ctx, &err), &err);
    own.cache_bytes = (size_t)1 << 30;
    ev_check(kalm_context_new(w.model, &own, &w.keeping, &err), &err);
    ev__random_ids(&w, info.vocabulary);
    row = (ev_cost_row *)cmd_alloc(32 * ratios * sizeof *row);
    rows = ev__measure_cost(&w, row, ratio, ratios, longest);
    ev_printf(&what, "%.60s %.12s, %s kernels, %lu threads (0: one for each core)", info.name, info.weights,
              own.kernels ? own.kernels : kalm_kernels(0), (unsigned long)own.threads);
    ev_make_folder(out);
    ev__write_cost(out, row, rows, ratio, ratios, what.data);
    free(row);
    free(what.data);
    free(w.ids);
    kalm_context_free(w.ctx);
    kalm_context_free(w.keeping);
    kalm_model_close(w.model);
}

#endif
