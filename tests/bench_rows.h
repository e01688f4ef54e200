/* bench_rows.h - for kalm-bench: what it costs to keep rows in 4, 3 and 2 bits, and to rank from them. Each stands beside what it is
   measured by, in turns: writing a row beside encoding its tokens, ranking beside ranking from rows of 16 bits. Behind encoding and
   decoding of bench.c. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

enum { ROW_DOCS = 16 };

typedef struct rewriting {
    const kalm_model *model;
    kalm_doc  **docs;                  /* [ROW_DOCS], 32 bits */
    uint32_t    bits;
} rewriting;

/* The documents written with other bits, on this thread. */
static void rewrite_run(void *arg)
{
    const rewriting *w = (const rewriting *)arg;
    size_t i;
    for (i = 0; i < ROW_DOCS; i++) {
        kalm_doc *other;
        kalm_error err;
        check(kalm_doc_repool(w->model, w->docs[i], RATIO, w->bits, &other, &err), &err);
        kalm_doc_free(other);
    }
}

/* ROW_DOCS passages at RATIO, with as many bits. */
static void encode_rows(kalm_context *ctx, const encoding *e, uint32_t bits, kalm_doc **docs)
{
    kalm_params p;
    kalm_error err;
    memset(&p, 0, sizeof p);
    p.ratio = RATIO;
    p.bits = bits;
    check(kalm_encode_ids(ctx, e->text, e->count, &p, docs, &err), &err);
}

/* Of one thread the processor's time, which other programs do not lengthen; else by the clock. */
static double used(const job *j) { return j->processor > 0 ? j->processor : j->best; }

static void bench_few_bits(const kalm_model *model)
{
    static const uint32_t bits[4] = { 16, 4, 3, 2 };
    static kalm_doc *docs[5][ROW_DOCS];                /* of 32 bits, then of bits[] */
    static int32_t ids[ROW_DOCS * PASSAGE], prompt[PROMPT];
    static kalm_score scores[4][ROW_DOCS];
    job jobs[4];
    rewriting w[4];
    decoding d[4];
    encoding e;
    size_t i, k, rows = ROW_DOCS * PASSAGE_ROWS;
    char name[48], note[96];
    int write = !opt.only || !strncmp(opt.only, "row_", 4), rank = !opt.only || !strncmp(opt.only, "rank_rows", 9);
    if ((!write && !rank) || !model->file.rows.fingerprint) return;
    random_ids(model, ids, ROW_DOCS * PASSAGE, 23);
    random_ids(model, prompt, PROMPT, 29);
    memset(jobs, 0, sizeof jobs);
    memset(d, 0, sizeof d);
    e.ctx = new_context(model, opt.threads[0], 0, 0, NULL);
    e.count = ROW_DOCS;
    for (i = 0; i < ROW_DOCS; i++) e.text[i].data = ids + i * PASSAGE, e.text[i].count = PASSAGE;
    encode_rows(e.ctx, &e, 32, docs[0]);
    for (k = 0; k < 4; k++) {
        encode_rows(e.ctx, &e, bits[k], docs[k + 1]);
        w[k].model = model, w[k].docs = docs[0], w[k].bits = bits[k];
        d[k].ctx = e.ctx, d[k].docs = docs[k + 1], d[k].count = ROW_DOCS, d[k].scores = scores[k];
        d[k].prompt.data = prompt, d[k].prompt.count = PROMPT;
        jobs[k].pool = &pools[0];
        jobs[k].run = k ? rewrite_run : encode_run;
        jobs[k].arg = &e;
        if (k) jobs[k].arg = &w[k];
    }
    if (write) {
        measure(jobs, 4, 4, 3);
        for (k = 1; k < 4; k++) {
            double tokens = used(&jobs[0]) * opt.threads[0];     /* rewriting has one thread */
            snprintf(name, sizeof name, "row_%ubit", bits[k]);
            snprintf(note, sizeof note, "%.1f us to encode its %u tokens", 1e6 * tokens / (double)rows, (unsigned)RATIO);
            report(name, 1, 1e6 * used(&jobs[k]) / (double)rows, "us/row", note);
            snprintf(name, sizeof name, "row_%ubit_share", bits[k]);
            report(name, 1, 100 * used(&jobs[k]) / tokens, "%", "of encoding its tokens; goal 1");
        }
    }
    if (rank) {
        for (k = 0; k < 4; k++) jobs[k].run = decode_run, jobs[k].arg = &d[k];
        measure(jobs, 4, 4, 3);
        for (k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "rank_rows_%ubit", bits[k]);
            report(name, opt.threads[0], 1e3 * used(&jobs[k]) / ROW_DOCS, "ms/doc", "");
            if (!k) continue;
            snprintf(name, sizeof name, "rank_rows_%ubit_to_16", bits[k]);
            report(name, opt.threads[0], used(&jobs[k]) / used(&jobs[0]), "x", "to rows of 16 bits; goal 1.03");
        }
    }
    for (k = 0; k < 5; k++)
        for (i = 0; i < ROW_DOCS; i++) kalm_doc_free(docs[k][i]);
    kalm_context_free(e.ctx);
}

#endif
