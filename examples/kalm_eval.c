/* kalm_eval.c - the command kalm-eval: rerank the candidates of a test collection and measure the order. */
#include "../src/tools/command.h"
#include "eval_measure_run.h"

#define MAX_RATIOS 32
#define MAX_COMPARISONS 8

typedef struct comparison {
    const char *path;
    int         is_run;
    uint32_t    bits;                  /* of the documents; 0: those of the first ranking */
    double      max_delta, min_tau;    /* -2: no limit */
} comparison;

typedef struct options {
    const char *model, *dir, *run, *instruction, *system, *save_run;
    comparison  compare[MAX_COMPARISONS];
    uint32_t    comparisons, ratio[MAX_RATIOS], ratios, bits, queries, depth;
    int         json, measure;
    ev_settings settings;              /* of --measure */
    kalm_config config;
    kalm_params params;
} options;

/* ---- the collection ---------------------------------------------------------------------------------------------- */

typedef struct judged { uint32_t query, doc, grade; } judged;      /* doc: UINT32_MAX when the corpus lacks it */

typedef struct collection {
    cmd_texts corpus, queries;
    uint32_t *corpus_slot, *query_slot;                            /* hash tables of ids: index + 1, 0 empty */
    size_t    corpus_slots, query_slots;
    judged   *qrels;
    size_t    qrel_count;
    uint32_t *candidate;               /* [first[queries]] numbers in corpus, as the run orders them */
    float    *run_score;               /* likewise; of a run to compare with */
    size_t   *first;                   /* [queries + 1] */
} collection;

static size_t slot_of(const cmd_texts *t, const uint32_t *slot, size_t slots, kalm_text id)
{
    size_t at = (size_t)kalm__hash(id.data, id.size) & (slots - 1);
    while (slot[at]) {
        kalm_text other = t->id[slot[at] - 1];
        if (other.size == id.size && memcmp(other.data, id.data, id.size) == 0) break;
        at = (at + 1) & (slots - 1);
    }
    return at;
}

static uint32_t *index_ids(const cmd_texts *t, size_t *slots, const char *what)
{
    uint32_t *slot;
    size_t i;
    for (*slots = 64; *slots < t->count * 2; *slots *= 2) ;
    slot = (uint32_t *)cmd_alloc(*slots * sizeof *slot);
    memset(slot, 0, *slots * sizeof *slot);
    for (i = 0; i < t->count; i++) {
        size_t at;
        if (!t->id[i].data) die("%s: text %lu has no \"_id\"", what, (unsigned long)i + 1);
        at = slot_of(t, slot, *slots, t->id[i]);
        if (slot[at]) die("%s: two texts have the id %s", what, t->id[i].data);
        slot[at] = (uint32_t)(i + 1);
    }
    return slot;
}

/* UINT32_MAX: unknown */
static uint32_t find_id(const cmd_texts *t, const uint32_t *slot, size_t slots, kalm_text id)
{
    return slot[slot_of(t, slot, slots, id)] - 1;
}

/* The next word of a line, between tabs and spaces; 0 at its end. */
static int next_word(kalm_text *line, kalm_text *word)
{
    size_t i = 0;
    while (i < line->size && (line->data[i] == ' ' || line->data[i] == '\t')) i++;
    word->data = line->data + i;
    word->size = 0;
    while (i < line->size && line->data[i] != ' ' && line->data[i] != '\t') i++, word->size++;
    line->data += i;
    line->size -= i;
    return word->size > 0;
}

static void read_qrels(collection *c, const char *path)
{
    kalm_text all = cmd_read(path), line;
    unsigned long number = 0;
    size_t room = 0;
    while (cmd_line(&all, &line)) {
        kalm_text query, doc, grade, more;
        judged *j;
        number++;
        if (cmd_blank(line)) continue;
        if (!next_word(&line, &query) || !next_word(&line, &doc) || !next_word(&line, &grade))
            die("%s, line %lu: query, document and grade must stand here", path, number);
        if (next_word(&line, &more)) doc = grade, grade = more;    /* TREC: query 0 document grade */
        if (number == 1 && (grade.data[0] < '0' || grade.data[0] > '9') && grade.data[0] != '-') continue;
        if (c->qrel_count == room) c->qrels = (judged *)cmd_grow(c->qrels, (room = room ? room * 2 : 256) * sizeof *c->qrels);
        j = &c->qrels[c->qrel_count];
        j->query = find_id(&c->queries, c->query_slot, c->query_slots, query);
        j->doc = find_id(&c->corpus, c->corpus_slot, c->corpus_slots, doc);
        j->grade = grade.data[0] == '-' ? 0 : (uint32_t)strtoul(grade.data, NULL, 10);
        if (j->query != UINT32_MAX && j->grade) c->qrel_count++;
    }
    if (!c->qrel_count) die("%s judges none of the queries", path);
}

typedef struct run_line { uint32_t query, rank, order, doc; float score; } run_line;

static int by_rank(const void *pa, const void *pb)
{
    const run_line *a = (const run_line *)pa, *b = (const run_line *)pb;
    if (a->query != b->query) return a->query < b->query ? -1 : 1;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

static run_line *read_run(const collection *c, const char *path, size_t *count)
{
    kalm_text all = cmd_read(path), line;
    unsigned long number = 0;
    size_t room = 0;
    run_line *lines = NULL;
    *count = 0;
    while (cmd_line(&all, &line)) {
        kalm_text query, word, doc, rank, score;
        run_line *l;
        number++;
        if (cmd_blank(line)) continue;
        if (!next_word(&line, &query) || !next_word(&line, &word) || !next_word(&line, &doc) || !next_word(&line, &rank)
            || !next_word(&line, &score)) die("%s, line %lu: query, Q0, document, rank and score must stand here", path, number);
        if (*count == room) lines = (run_line *)cmd_grow(lines, (room = room ? room * 2 : 1024) * sizeof *lines);
        l = &lines[*count];
        l->query = find_id(&c->queries, c->query_slot, c->query_slots, query);
        if (l->query == UINT32_MAX) continue;
        l->doc = find_id(&c->corpus, c->corpus_slot, c->corpus_slots, doc);
        if (l->doc == UINT32_MAX) die("%s, line %lu: the corpus has no %.*s", path, number, (int)doc.size, doc.data);
        l->rank = (uint32_t)strtoul(rank.data, NULL, 10);
        l->score = (float)strtod(score.data, NULL);
        l->order = (uint32_t)*count;
        ++*count;
    }
    if (!*count) die("%s has no candidate for any query", path);
    qsort(lines, *count, sizeof *lines, by_rank);
    return lines;
}

static void read_collection(collection *c, const options *o)
{
    char *path;
    run_line *lines;
    size_t count, i;
    uint32_t q;
    memset(c, 0, sizeof *c);
    path = kalm__join_path(o->dir, "corpus.jsonl");
    cmd_read_texts(&c->corpus, path, cmd_read(path));
    c->corpus_slot = index_ids(&c->corpus, &c->corpus_slots, path);
    path = kalm__join_path(o->dir, "queries.jsonl");
    cmd_read_texts(&c->queries, path, cmd_read(path));
    if (o->queries && c->queries.count > o->queries) c->queries.count = o->queries;
    c->query_slot = index_ids(&c->queries, &c->query_slots, path);
    path = kalm__join_path(o->dir, "qrels/test.tsv");
    read_qrels(c, path);
    lines = read_run(c, o->run ? o->run : kalm__join_path(o->dir, "bm25.run"), &count);
    c->candidate = (uint32_t *)cmd_alloc(count * sizeof *c->candidate);
    c->run_score = (float *)cmd_alloc(count * sizeof *c->run_score);
    c->first = (size_t *)cmd_alloc((c->queries.count + 1) * sizeof *c->first);
    for (q = 0, i = 0, c->first[0] = 0; q < c->queries.count; q++) {
        size_t at = c->first[q];
        for (; i < count && lines[i].query == q; i++)
            if (!o->depth || at - c->first[q] < o->depth) {
                c->run_score[at] = lines[i].score;
                c->candidate[at++] = lines[i].doc;
            }
        c->first[q + 1] = at;
    }
    free(lines);
}

/* ---- measures ---------------------------------------------------------------------------------------------------- */

typedef struct measures { double ndcg, mrr, first, recall; } measures;

static uint32_t grade_of(const collection *c, uint32_t query, uint32_t doc)
{
    size_t i;
    for (i = 0; i < c->qrel_count; i++)
        if (c->qrels[i].query == query && c->qrels[i].doc == doc) return c->qrels[i].grade;
    return 0;
}

static int grades_down(const void *pa, const void *pb)
{
    uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* order [candidates of all queries]: numbers in corpus, best first for each query; the mean over judged queries */
static measures measure(const collection *c, const uint32_t *order)
{
    measures m;
    uint32_t q;
    size_t i, judged_queries = 0;
    uint32_t *ideal = (uint32_t *)cmd_alloc(c->qrel_count * sizeof *ideal);
    memset(&m, 0, sizeof m);
    for (q = 0; q < c->queries.count; q++) {
        size_t n = c->first[q + 1] - c->first[q], relevant = 0, found = 0, hit = 0;
        double dcg = 0, best = 0;
        for (i = 0; i < c->qrel_count; i++)
            if (c->qrels[i].query == q) ideal[relevant++] = c->qrels[i].grade;
        if (!relevant) continue;
        judged_queries++;
        qsort(ideal, relevant, sizeof *ideal, grades_down);
        for (i = 0; i < relevant && i < 10; i++) best += ideal[i] / log2((double)i + 2);
        for (i = 0; i < n && i < 10; i++) {
            uint32_t grade = grade_of(c, q, order[c->first[q] + i]);
            if (!grade) continue;
            dcg += grade / log2((double)i + 2);
            if (!found++) hit = i + 1;
        }
        m.ndcg += dcg / best;
        if (hit) m.mrr += 1.0 / (double)hit;
        if (hit == 1) m.first += 1;
        m.recall += (double)found / (double)relevant;
    }
    free(ideal);
    m.ndcg /= (double)judged_queries, m.mrr /= (double)judged_queries;
    m.first /= (double)judged_queries, m.recall /= (double)judged_queries;
    return m;
}

/* Kendall's tau-a of two margins over the same candidates, mean over queries; a tie in one of them counts as 0, a tie in
   both (texts that are the same) as agreement. */
static double kendall(const collection *c, const float *a, const float *b)
{
    double sum = 0;
    size_t queries = 0, q;
    for (q = 0; q < c->queries.count; q++) {
        size_t from = c->first[q], n = c->first[q + 1] - from, i, k;
        long long agree = 0;
        if (n < 2) continue;
        for (i = 0; i < n; i++)
            for (k = i + 1; k < n; k++) {
                float x = a[from + i] - a[from + k], y = b[from + i] - b[from + k];
                int order_x = (x > 0) - (x < 0), order_y = (y > 0) - (y < 0);
                agree += order_x == order_y ? 1 : order_x * order_y;
            }
        sum += (double)agree / ((double)n * ((double)n - 1) / 2);
        queries++;
    }
    return queries ? sum / (double)queries : 1;
}

/* ---- ranking ----------------------------------------------------------------------------------------------------- */

typedef struct ranking {
    measures  measured[MAX_RATIOS];
    double    encode_seconds, rank_seconds[MAX_RATIOS];
    uint32_t  bits;                    /* of a number of a document */
    size_t    documents, tokens, bytes[MAX_RATIOS];
    float    *margin[MAX_RATIOS];      /* [candidates of all queries], in the order of the run */
    uint32_t *order[MAX_RATIOS];       /* [candidates of all queries], best first */
    char      name[64], weights[16], kernels[32];
} ranking;

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static void check(kalm_result r, const kalm_error *err)
{
    if (r) exit(cmd_failed(err));
}

static void rank_all(ranking *out, const collection *c, const options *o, const char *path, uint32_t bits)
{
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_model_info info;
    kalm_error err;
    kalm_doc **docs[MAX_RATIOS];
    kalm_params params = o->params;
    uint32_t k, base = 0, *wanted;
    size_t i, q, total = c->first[c->queries.count], docs_wanted = 0, done = 0;
    unsigned char *is_wanted = (unsigned char *)cmd_alloc(c->corpus.count);
    cmd_progress progress;
    memset(out, 0, sizeof *out);
    out->bits = bits ? bits : o->bits;
    check(kalm_model_open(path, NULL, &model, &err), &err);
    check(kalm_context_new(model, &o->config, &ctx, &err), &err);
    kalm_model_get_info(model, &info);
    sprintf(out->name, "%.60s", info.name);
    sprintf(out->weights, "%.12s", info.weights);
    sprintf(out->kernels, "%.30s", o->config.kernels ? o->config.kernels : kalm_kernels(0));

    memset(is_wanted, 0, c->corpus.count);
    for (i = 0; i < total; i++) is_wanted[c->candidate[i]] = 1;
    wanted = (uint32_t *)cmd_alloc(c->corpus.count * sizeof *wanted);
    for (i = 0; i < c->corpus.count; i++)
        if (is_wanted[i]) wanted[docs_wanted++] = (uint32_t)i;
    for (k = 0; k < o->ratios; k++) {
        base = common_divisor(o->ratio[k], base);
        docs[k] = (kalm_doc **)cmd_alloc(c->corpus.count * sizeof **docs);
        memset(docs[k], 0, c->corpus.count * sizeof **docs);
    }

    /* Once, at the ratio that divides all others and with all bits; each ratio is pooled from that. */
    cmd_progress_begin(&progress, "encoding");
    for (i = 0; i < docs_wanted;) {
        enum { CHUNK = 64 };
        kalm_text texts[CHUNK];
        kalm_doc *fine[CHUNK];
        double started = kalm__now();
        size_t n = kalm__min(CHUNK, docs_wanted - i), d;
        for (d = 0; d < n; d++) texts[d] = c->corpus.text[wanted[i + d]];
        params.ratio = base;
        params.bits = o->ratios == 1 ? out->bits : 32;
        check(kalm_encode(ctx, texts, n, &params, fine, &err), &err);
        out->encode_seconds += kalm__now() - started;
        for (d = 0; d < n; d++) {
            kalm_doc_info di;
            kalm_doc_get_info(fine[d], &di);
            out->tokens += di.tokens_used;
            for (k = 0; k < o->ratios; k++) {
                size_t bytes;
                if (o->ratios == 1) docs[k][wanted[i + d]] = fine[d];
                else check(kalm_doc_repool(model, fine[d], o->ratio[k], out->bits, &docs[k][wanted[i + d]], &err), &err);
                kalm_doc_bytes(docs[k][wanted[i + d]], &bytes);
                out->bytes[k] += bytes;
            }
            if (o->ratios > 1) kalm_doc_free(fine[d]);
        }
        i += n;
        if (cmd_progress_step(&progress, i, docs_wanted)) {
            cmd_progress_end(&progress);
            exit(EXIT_INTERRUPTED);
        }
    }
    cmd_progress_end(&progress);
    out->documents = docs_wanted;

    cmd_progress_begin(&progress, "ranking");
    for (k = 0; k < o->ratios; k++) {
        double started = kalm__now();
        out->margin[k] = (float *)cmd_alloc(total * sizeof(float));
        out->order[k] = (uint32_t *)cmd_alloc(total * sizeof(uint32_t));
        for (q = 0; q < c->queries.count; q++) {
            size_t from = c->first[q], n = c->first[q + 1] - from, d;
            const kalm_doc **some = (const kalm_doc **)cmd_alloc(n * sizeof *some);
            kalm_score *scores = (kalm_score *)cmd_alloc(n * sizeof *scores);
            for (d = 0; d < n; d++) some[d] = docs[k][c->candidate[from + d]];
            check(kalm_rerank(ctx, c->queries.text[q], some, n, &params, scores, &err), &err);
            for (d = 0; d < n; d++) out->margin[k][from + d] = scores[d].margin;
            kalm_sort(scores, n);
            for (d = 0; d < n; d++) out->order[k][from + d] = c->candidate[from + scores[d].index];
            free(scores);
            free((void *)some);
            done += n;
            if (cmd_progress_step(&progress, done, total * o->ratios)) {
                cmd_progress_end(&progress);
                exit(EXIT_INTERRUPTED);
            }
        }
        out->rank_seconds[k] = kalm__now() - started;
        out->measured[k] = measure(c, out->order[k]);
        for (i = 0; i < c->corpus.count; i++) kalm_doc_free(docs[k][i]);
        free(docs[k]);
    }
    cmd_progress_end(&progress);
    free(wanted);
    free(is_wanted);
    kalm_context_free(ctx);
    kalm_model_close(model);
}

static void save_run(const char *path, const collection *c, const ranking *r, const char *tag)
{
    FILE *f = fopen(path, "wb");
    size_t q, i;
    if (!f) die("cannot write %s: %s", path, strerror(errno));
    for (q = 0; q < c->queries.count; q++)
        for (i = c->first[q]; i < c->first[q + 1]; i++) {
            size_t k = c->first[q];
            while (c->candidate[k] != r->order[0][i]) k++;
            fprintf(f, "%s Q0 %s %lu %.9g %s\n", c->queries.id[q].data, c->corpus.id[r->order[0][i]].data,
                    (unsigned long)(i - c->first[q]) + 1, (double)r->margin[0][k], tag);
        }
    if (fclose(f)) die("cannot write %s: %s", path, strerror(errno));
}

/* Margins of a saved run, put in the order of the candidates. */
static void load_run(ranking *r, const collection *c, const char *path)
{
    size_t count, i, q, total = c->first[c->queries.count];
    run_line *lines = read_run(c, path, &count);
    memset(r, 0, sizeof *r);
    r->margin[0] = (float *)cmd_alloc(total * sizeof(float));
    r->order[0] = (uint32_t *)cmd_alloc(total * sizeof(uint32_t));
    for (q = 0, i = 0; q < c->queries.count; q++) {
        size_t from = c->first[q], k, to = c->first[q + 1], at = from;
        for (; i < count && lines[i].query == q; i++) {
            for (k = from; k < to && c->candidate[k] != lines[i].doc; k++) ;
            if (k == to) continue;
            if (at == to) die("%s has a candidate of query %s twice", path, c->queries.id[q].data);
            r->margin[0][k] = lines[i].score;
            r->order[0][at++] = lines[i].doc;
        }
        if (at != to) die("%s lacks candidates of query %s", path, c->queries.id[q].data);
    }
    r->measured[0] = measure(c, r->order[0]);
    sprintf(r->name, "%.60s", path);
    strcpy(r->weights, "run");
    free(lines);
}

/* ---- options and output ------------------------------------------------------------------------------------------ */

static comparison *add_comparison(cmd_args *a)
{
    options *o = (options *)a->to;
    comparison *c = &o->compare[o->comparisons];
    if (o->comparisons++ == MAX_COMPARISONS) die_usage("at most %d comparisons", MAX_COMPARISONS);
    c->path = NULL;
    c->is_run = 0;
    c->bits = 0;
    c->max_delta = c->min_tau = -2;
    return c;
}

static void compare_model(cmd_args *a, const char *name, const char *value)
{
    (void)name;
    add_comparison(a)->path = value;
}

static void compare_run(cmd_args *a, const char *name, const char *value)
{
    comparison *c = add_comparison(a);
    (void)name;
    c->path = value;
    c->is_run = 1;
}

static void compare_bits(cmd_args *a, const char *name, const char *value)
{
    uint32_t bits = cmd_number(name, value, 8, 32);
    if (bits != 8 && bits != 16 && bits != 32) die_usage("--compare-bits must be 32, 16 or 8");
    add_comparison(a)->bits = bits;
}

static comparison *limited(cmd_args *a, const char *name)
{
    options *o = (options *)a->to;
    if (!o->comparisons) die_usage("%s belongs behind a --compare", name);
    return &o->compare[o->comparisons - 1];
}

static void max_delta(cmd_args *a, const char *name, const char *value) { limited(a, name)->max_delta = cmd_real(name, value); }
static void min_tau(cmd_args *a, const char *name, const char *value) { limited(a, name)->min_tau = cmd_real(name, value); }

static void read_ratios(cmd_args *a, const char *name, const char *value)
{
    options *o = (options *)a->to;
    o->ratios = 0;
    for (;;) {
        char word[16];
        size_t n = strcspn(value, ",");
        sprintf(word, "%.*s", (int)kalm__min(n, 15), value);
        if (o->ratios == MAX_RATIOS) die_usage("at most %d ratios", MAX_RATIOS);
        o->ratio[o->ratios++] = cmd_number(name, word, 1, 1u << 20);
        if (!value[n]) break;
        value += n + 1;
    }
}

static void add_measures(cmd_args *a, const char *name, const char *value)
{
    (void)name;
    ev_add_measures(&((options *)a->to)->settings, value);
}

static const cmd_option table[] = {
    CMD_HEADING("Options"),
    CMD_TEXT("--run", "FILE", options, run, "the candidates (default: EVAL_DIR/bm25.run)"),
    CMD_CALL("--ratio", "N[,N...]", read_ratios, "pooling ratios (default 4); each document is encoded once"),
    CMD_NUMBER("--bits", "32|16|8", options, bits, 8, 32, "kept of each number of a document (default 16)"),
    CMD_TEXT("--instruction", "TEXT", options, instruction, "what makes a document a good one (default: the model's own)"),
    CMD_TEXT("--system", "TEXT", options, system, "the sentence before the instruction (default: the model's own)"),
    CMD_NUMBER("--max-doc-tokens", "N", options, config.max_doc_tokens, 1, 1u << 30, "longer documents are cut (default 1024)"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "default: one for each core"),
    CMD_TEXT("--kernels", "NAME", options, config.kernels, "instruction set to use (default: the best one)"),
    CMD_NUMBER("--queries", "N", options, queries, 1, UINT32_MAX, "the first N queries alone"),
    CMD_NUMBER("--depth", "N", options, depth, 1, UINT32_MAX, "the first N candidates of each query alone"),
    CMD_CALL("--compare", "MODEL.kalm", compare_model, "rank with this model as well, and tell how it differs from the first: delta "
             "of nDCG, Kendall's tau of the orders, largest and mean change of a margin; may be given several times"),
    CMD_CALL("--compare-bits", "N", compare_bits, "the same for the first model's documents kept with N bits"),
    CMD_CALL("--compare-run", "FILE", compare_run, "the same for a run that --save-run wrote (one ratio)"),
    CMD_CALL("--max-delta", "X", max_delta, "limit of the comparison named before: a larger change is a failure"),
    CMD_CALL("--min-tau", "X", min_tau, "the same: a smaller tau is a failure"),
    CMD_TEXT("--save-run", "FILE", options, save_run, "write the ranking (TREC format; one ratio)"),
    CMD_FLAG("--json", options, json, "one JSON object instead of tables"),
    CMD_HEADING("Measuring a ready run"),
    CMD_FLAG("--measure", options, measure, "measure RUN by the judgements QRELS; the figures are those of trec_eval"),
    CMD_CALL("-m", "MEASURES", add_measures, "nDCG@10,MAP,MRR,Recall@100,P@5,Success@1,R_cap@10 or others, with any cutoff; trec_eval's "
             "names (ndcg_cut.5,10) are understood as well"),
    CMD_FLAG("-q", options, settings.each, "the figures of each query, too"),
    CMD_FLAG("-c", options, settings.complete, "judged queries that the run lacks count 0"),
    CMD_NUMBER("-l", "GRADE", options, settings.level, 1, 1u << 30, "the least grade that is relevant (default 1)"),
    CMD_NUMBER("-M", "N", options, settings.depth, 1, UINT32_MAX, "the first N documents of each query alone")
};

static const cmd_program program = {
    "kalm-eval",
    "MODEL.kalm EVAL_DIR [options]\n--measure QRELS RUN [-m MEASURES] [-q] [-c] [-l GRADE] [-M N] [--json]",
    "Rerank the candidates of every query of a test collection and print nDCG@10, MRR@10 and recall. EVAL_DIR has the layout of "
    "BEIR: corpus.jsonl, queries.jsonl, qrels/test.tsv, and a run of candidates (TREC format) to rerank.",
    table, sizeof table / sizeof *table,
    "Exit status: 0 done, 1 failed or worse than the limits, 2 wrong usage.",
    NULL
};

static void read_options(options *o, int argc, char **argv)
{
    cmd_args a;
    uint32_t i;
    memset(o, 0, sizeof *o);
    o->bits = 16;
    o->settings.level = 1;
    o->config.kernels = getenv("KALM_KERNELS");
    if (o->config.kernels && !*o->config.kernels) o->config.kernels = NULL;
    cmd_parse(&a, &program, o, argc, argv);
    if (o->measure && a.words != 2) die_usage("--measure needs a file of judgements and a run");
    if (a.words != 2) die_usage("a model and a folder are needed");
    o->model = a.word[0];
    o->dir = a.word[1];
    cmd_args_end(&a);
    if (o->bits != 8 && o->bits != 16 && o->bits != 32) die_usage("--bits must be 32, 16 or 8");
    if (!o->ratios) o->ratio[o->ratios++] = 4;
    if (o->save_run && o->ratios > 1) die_usage("a run file holds one ratio");
    for (i = 0; i < o->comparisons; i++)
        if (o->compare[i].is_run && o->ratios > 1) die_usage("a run file holds one ratio");
    if (o->instruction) o->params.instruction = kalm__text(o->instruction);
    if (o->system) o->params.system = kalm__text(o->system);
}

/* One ranking as a table, or as an object of JSON's "models"; against `first` when that is another. Returns whether the
   limits hold. */
static int report(const options *o, const collection *c, const ranking *r, const ranking *first, const comparison *limits)
{
    size_t total = c->first[c->queries.count], i;
    uint32_t k;
    int ok = 1;
    if (o->json) {
        fputs("\n {\"model\": ", stdout);
        cmd_json(stdout, kalm__text(r->name));
        printf(", \"bits\": %lu", (unsigned long)r->bits);
        printf(", \"weights\": \"%s\", \"kernels\": \"%s\", \"documents\": %lu, \"encode_seconds\": %.3f, \"ratios\": [",
               r->weights, r->kernels, (unsigned long)r->documents, r->encode_seconds);
    } else {
        printf("\n%s %s", r->name, r->weights);
        if (r->documents)
            printf(", %s kernels; %lu documents of %.0f tokens encoded in %.2f s, kept with %lu bits", r->kernels,
                   (unsigned long)r->documents, (double)r->tokens / (double)r->documents, r->encode_seconds, (unsigned long)r->bits);
        printf("\n           nDCG@10  MRR@10   first  recall@10  bytes/doc   pairs/s%s\n",
               limits ? "   delta nDCG     tau  |delta margin|      mean" : "");
    }
    for (k = 0; k < o->ratios; k++) {
        const measures *m = &r->measured[k];
        double delta = 0, tau = 0, margin = 0, mean = 0, bytes = (double)r->bytes[k] / (double)kalm__max(r->documents, 1);
        int worse = 0;
        if (limits) {
            delta = m->ndcg - first->measured[k].ndcg;
            tau = kendall(c, r->margin[k], first->margin[k]);
            for (i = 0; i < total; i++) {
                double change = fabs((double)r->margin[k][i] - (double)first->margin[k][i]);
                margin = fmax(margin, change);
                mean += change / (double)total;
            }
            worse = (limits->max_delta > -2 && fabs(delta) > limits->max_delta) || (limits->min_tau > -2 && tau < limits->min_tau);
            if (worse) ok = 0;
        }
        if (o->json) {
            printf("%s\n  {\"ratio\": %lu, \"ndcg10\": %.6f, \"mrr10\": %.6f, \"first\": %.6f, \"recall10\": %.6f, \"doc_bytes\": %.1f, "
                   "\"rank_seconds\": %.3f", k ? "," : "", (unsigned long)o->ratio[k], m->ndcg, m->mrr, m->first, m->recall, bytes,
                   r->rank_seconds[k]);
            if (limits)
                printf(", \"delta_ndcg10\": %.6f, \"tau\": %.6f, \"max_margin_change\": %.6g, \"mean_margin_change\": %.6g, "
                       "\"within_limits\": %s", delta, tau, margin, mean, worse ? "false" : "true");
            putchar('}');
        } else {
            printf("ratio %-4lu  %.4f  %.4f  %.4f     %.4f", (unsigned long)o->ratio[k], m->ndcg, m->mrr, m->first, m->recall);
            if (r->documents) printf("  %9.0f  %8.0f", bytes, (double)total / r->rank_seconds[k]);
            else printf("  %9s  %8s", "", "");
            if (limits) printf("      %+.4f  %.4f  %14.5f  %.6f%s", delta, tau, margin, mean, worse ? "  worse than the limit" : "");
            putchar('\n');
        }
    }
    if (o->json) fputs("]}", stdout);
    return ok;
}

int main(int argc, char **argv)
{
    options o;
    collection c;
    ranking mine, other;
    measures before;
    uint32_t i;
    int status = EXIT_OK;
    cmd_name = "kalm-eval";
    read_options(&o, argc, argv);
    if (o.measure) {
        if (!o.settings.measures) ev_add_measures(&o.settings, "num_q,nDCG@10,MAP,MRR,Recall@100,P@10,Success@1,R_cap@10");
        ev_measure_run(&o.settings, o.model, o.dir, o.json);
        cmd_flush();
        return EXIT_OK;
    }
    read_collection(&c, &o);
    kalm__catch_signals();
    before = measure(&c, c.candidate);
    rank_all(&mine, &c, &o, o.model, 0);
    if (o.save_run) save_run(o.save_run, &c, &mine, "kalm");
    if (o.json) {
        printf("{\"queries\": %lu, \"pairs\": %lu, \"candidates\": {\"ndcg10\": %.6f, \"mrr10\": %.6f, \"first\": %.6f, "
               "\"recall10\": %.6f}, \"models\": [", (unsigned long)c.queries.count, (unsigned long)c.first[c.queries.count],
               before.ndcg, before.mrr, before.first, before.recall);
    } else {
        printf("%lu queries, %lu pairs; the candidates' own order: nDCG@10 %.4f, MRR@10 %.4f, first %.4f, recall@10 %.4f\n",
               (unsigned long)c.queries.count, (unsigned long)c.first[c.queries.count], before.ndcg, before.mrr, before.first,
               before.recall);
    }
    report(&o, &c, &mine, NULL, NULL);
    fflush(stdout);
    for (i = 0; i < o.comparisons; i++) {
        if (o.compare[i].is_run) load_run(&other, &c, o.compare[i].path);
        else rank_all(&other, &c, &o, o.compare[i].bits ? o.model : o.compare[i].path, o.compare[i].bits);
        if (o.json) putchar(',');
        if (!report(&o, &c, &other, &mine, &o.compare[i])) status = EXIT_FAILED;
        fflush(stdout);
    }
    if (o.json) puts("\n]}");
    if (fflush(stdout) || ferror(stdout)) die("cannot write the result: %s", strerror(errno));
    return status;
}
