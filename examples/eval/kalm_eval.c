/* kalm_eval.c - the command kalm-eval: what a model's ranking is worth. It measures ready runs as trec_eval does (--measure),
   reranks the candidates of one test collection, or makes the tables of a whole folder of them (--tables). This file reads the
   command line and hands each job to its part. */
#include "../../src/tools/command.h"
#include "eval_report.h"
#include "eval_chart.h"
#include "eval_first.h"
#include "eval_cost.h"

enum { MAX_RATIOS = 32, MAX_COMPARISONS = 8, MAX_BITS = 6 };

typedef struct options {
    const char   *instruction, *system, *instructions, *save_run, *chart, *tables, *merge, *baseline, *cost;
    ev_where      where;
    ev_comparison compare[MAX_COMPARISONS];
    uint32_t      comparisons, ratio[MAX_RATIOS], ratios, bits[MAX_BITS], bit_kinds, memory, first, rounds, longest;
    ev_limits     limits;
    double        k1, b;
    int           json, measure, both;
    ev_settings   settings;
    kalm_config   config;
} options;

/* ---- the command line ------------------------------------------------------------------------------------------------ */

static ev_comparison *add_comparison(cmd_args *a)
{
    options *o = (options *)a->to;
    ev_comparison *c = &o->compare[o->comparisons];
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
    ev_comparison *c = add_comparison(a);
    (void)name;
    c->path = value;
    c->is_run = 1;
}

#define ROW_BITS "32|16|8|4|3|2"

static void compare_bits(cmd_args *a, const char *name, const char *value)
{
    cmd_choice(name, value, ROW_BITS);
    add_comparison(a)->bits = (uint32_t)strtoul(value, NULL, 10);
}

static ev_comparison *limited(cmd_args *a, const char *name)
{
    options *o = (options *)a->to;
    if (!o->comparisons) die_usage("%s belongs behind a --compare", name);
    return &o->compare[o->comparisons - 1];
}

static void max_delta(cmd_args *a, const char *name, const char *value) { limited(a, name)->max_delta = cmd_real(name, value); }
static void min_tau(cmd_args *a, const char *name, const char *value) { limited(a, name)->min_tau = cmd_real(name, value); }

/* "4,8,32": numbers from least to most into list [room]; returns how many. */
static uint32_t read_list(const char *name, const char *value, uint32_t *list, uint32_t room, uint32_t least, uint32_t most)
{
    uint32_t count = 0;
    for (;;) {
        char word[16];
        size_t n = strcspn(value, ",");
        sprintf(word, "%.*s", (int)kalm__min(n, 15), value);
        if (count == room) die_usage("%s: at most %lu numbers", name, (unsigned long)room);
        list[count++] = cmd_number(name, word, least, most);
        if (!value[n]) return count;
        value += n + 1;
    }
}

static void read_ratios(cmd_args *a, const char *name, const char *value)
{
    options *o = (options *)a->to;
    o->ratios = read_list(name, value, o->ratio, MAX_RATIOS, 1, 1u << 20);
}

static void read_bits(cmd_args *a, const char *name, const char *value)
{
    options *o = (options *)a->to;
    uint32_t i;
    o->bit_kinds = read_list(name, value, o->bits, MAX_BITS, 0, UINT32_MAX);
    for (i = 0; i < o->bit_kinds; i++)
        if (!kalm__doc_row_bytes(1, o->bits[i])) die_usage("%s must be of " ROW_BITS ", not '%s'", name, value);
}

/* "2/8": the second of eight */
static void read_shard(cmd_args *a, const char *name, const char *value)
{
    options *o = (options *)a->to;
    char word[16];
    size_t n = strcspn(value, "/");
    if (!value[n]) die_usage("%s must be i/n, such as 2/8", name);
    sprintf(word, "%.*s", (int)kalm__min(n, 15), value);
    o->limits.shards = cmd_number(name, value + n + 1, 1, 1u << 20);
    o->limits.shard = cmd_number(name, word, 1, o->limits.shards);
}

static void add_measures(cmd_args *a, const char *name, const char *value)
{
    (void)name;
    ev_add_measures(&((options *)a->to)->settings, value);
}

static const cmd_option table[] = {
    CMD_HEADING("The test collection"),
    CMD_TEXT("--split", "NAME", options, where.split, "which judgements of several (default: test, then dev)"),
    CMD_TEXT("--corpus", "PATH", options, where.corpus, "the documents: a file, or a folder of files"),
    CMD_TEXT("--topics", "FILE", options, where.queries, "the queries: JSON Lines, tab-separated or TREC topics"),
    CMD_TEXT("--qrels", "FILE", options, where.qrels, "the judgements"),
    CMD_NUMBER("--queries", "N", options, limits.queries, 1, UINT32_MAX, "the first N judged queries alone"),
    CMD_FLAG("--no-same-id", options, limits.same_ids, "leave out candidates whose id is that of the query, as BEIR's code does (always "
             "so for arguana and quora)"),
    CMD_HEADING("The first stage"),
    CMD_CHOICE("--first", "auto|run|candidates|bm25", options, first,
               "what is reranked: a run, the candidates that come with the data, or the best of BM25 (default: the first of "
               "these "
               "that is there)"),
    CMD_TEXT("--run", "FILE", options, where.run, "the run, TREC or JSON (default: bm25.run, or the only run, in FOLDER)"),
    CMD_TEXT("--candidates", "FILE", options, where.candidates, "scenes and their documents, as LMEB has them"),
    CMD_NUMBER("--depth", "N", options, limits.depth, 0, UINT32_MAX,
               "the first N candidates of each query alone (default 100; 0: all)"),
    CMD_REAL("--k1", "X", options, k1, "of BM25 (default 0.9)"),
    CMD_REAL("--b", "X", options, b, "of BM25 (default 0.4)"),
    CMD_HEADING("The model"),
    CMD_CALL("--ratio", "N[,N...]", read_ratios, "pooling ratios (default 4); each document is encoded once"),
    CMD_CALL("--bits", ROW_BITS, read_bits, "kept of each number of a document (default 16; several, such as 32,16,8,4,3,2: a table for each, compared with the first)"),
    CMD_TEXT("--instruction", "TEXT", options, instruction,
             "what makes a document a good one (default: the published one of the data set, else the model's own)"),
    CMD_TEXT("--instructions", "FILE", options, instructions,
             "JSON: {\"data set\": \"instruction\"} or {\"data set\": {\"task\": ...}}"),
    CMD_TEXT("--system", "TEXT", options, system, "the sentence before the instruction (default: the model's own)"),
    CMD_NUMBER("--max-doc-tokens", "N", options, config.max_doc_tokens, 1, 1u << 30, "longer documents are cut (default 1024)"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "default: one for each core"),
    CMD_NUMBER("--memory", "MB", options, memory, 1, 1u << 20, "for encoded documents (default 512)"),
    CMD_TEXT("--kernels", "NAME", options, config.kernels, "instruction set to use (default: the best one)"),
    CMD_LISTED("--state-bits", "8|4", options, config.state_bits, "rank as a context with kalm_config.state_bits does, whose states take two "
               "thirds or half of the bytes; what that changes is seen beside a run of exact states (--save-run, then --compare-run)"),
    CMD_READ_MODEL(options, config.load),
    CMD_HEADING("Comparisons"),
    CMD_CALL("--compare", "MODEL.kalm", compare_model, "rank with this model as well, and tell how it differs from the first: "
                                                       "delta "
             "of nDCG, Kendall's tau of the orders, largest and mean change of a margin; may be given several times"),
    CMD_CALL("--compare-bits", ROW_BITS, compare_bits, "the same for the first model's documents kept with so many bits"),
    CMD_CALL("--compare-run", "FILE", compare_run, "the same for a run that --save-run wrote (one ratio)"),
    CMD_CALL("--max-delta", "X", max_delta, "limit of the comparison named before: a larger change is a failure"),
    CMD_CALL("--min-tau", "X", min_tau, "the same: a smaller tau is a failure"),
    CMD_HEADING("Results"),
    CMD_CALL("-m", "MEASURES", add_measures, "nDCG@10,MAP,MRR,Recall@100,P@5,Success@1,R_cap@10 or others, with any cutoff; "
                                             "trec_eval's "
             "names (ndcg_cut.5,10) are understood as well"),
    CMD_FLAG("-q", options, settings.each, "the figures of each query, too"),
    CMD_FLAG("-c", options, settings.complete, "judged queries without results count 0"),
    CMD_NUMBER("-l", "GRADE", options, settings.level, 1, 1u << 30, "the least grade that is relevant (default 1)"),
    CMD_TEXT("--save-run", "FILE", options, save_run, "write the ranking (TREC format; one ratio)"),
    CMD_TEXT("--chart", "FILE.svg", options, chart, "draw nDCG@10 against the bytes of a document: a curve for each number of bits in --bits, a "
             "point for each ratio"),
    CMD_FLAG("--json", options, json, "one JSON object instead of tables"),
    CMD_HEADING("Tables"),
    CMD_TEXT("--tables", "OUT", options, tables, "each model over each test collection in the folders, at every ratio and row "
                                                 "type; results "
             "and tables go to the folder OUT, and the same command goes on where it was stopped or killed"),
    CMD_FLAG("--both", options, both, "with the published instructions and with the model's default, to compare them"),
    CMD_TEXT("--baseline", "SYSTEM", options, baseline, "what differences are measured against, as a row of the tables is "
                                                        "called (default: the "
             "first stage)"),
    CMD_NUMBER("--rounds", "N", options, rounds, 100, 10000000, "samples of a test of significance (default 10000)"),
    CMD_CALL("--shard", "I/N", read_shard, "of the queries every N-th from the I-th on, for one of N processes or machines"),
    CMD_TEXT("--merge", "OUT", options, merge, "put the results of shards together in the folder OUT and make the tables"),
    CMD_HEADING("Cost"),
    CMD_TEXT("--cost", "OUT", options, cost, "measure what a query costs for passages of 64 tokens and more: read together "
                                             "with the query, "
             "stored, and with the decoder's state kept; table and chart go to the folder OUT"),
    CMD_NUMBER("--longest", "N", options, longest, 64, 1u << 17, "tokens of the longest passages (default 8192)"),
    CMD_HEADING("Measuring a ready run"),
    CMD_FLAG("--measure", options, measure, "measure RUN by the judgements QRELS; the figures are those of trec_eval"),
    CMD_NUMBER("-M", "N", options, settings.depth, 1, UINT32_MAX, "the first N documents of each query alone")
};

static const cmd_program program = {
    "kalm-eval",
    "MODEL.kalm FOLDER [options]\n"
    "--tables OUT FOLDER... MODEL.kalm... [--ratio 1,2,4,8] [--bits 32,16,8] [--shard I/N]\n"
    "--merge OUT SHARD...\n"
    "--cost OUT MODEL.kalm [--ratio 1,4,8,32] [--longest N]\n"
    "--measure QRELS RUN [-m MEASURES] [-q] [-c] [-l GRADE] [-M N] [--json]",
    "Rerank the candidates of a test collection and measure the order. FOLDER has the layout of BEIR (corpus.jsonl, "
    "queries.jsonl, "
    "qrels/test.tsv), LMEB, MIRACL or TREC, plain or packed with gzip or zstd; which one is found out by looking.",
    table, sizeof table / sizeof *table,
    "Exit status: 0 done, 1 failed or worse than the limits, 2 wrong usage. What is odd about the data is counted and told on "
    "standard error, and never ends a run.",
    NULL
};

static void read_options(options *o, cmd_args *a, int argc, char **argv)
{
    uint32_t i;
    memset(o, 0, sizeof *o);
    o->bits[0] = 16;
    o->bit_kinds = 1;
    o->rounds = EV_ROUNDS;
    o->longest = 8192;
    o->settings.level = 1;
    o->memory = 512;
    o->limits.depth = 100;
    o->k1 = 0.9;
    o->b = 0.4;
    o->config.kernels = cmd_kernels();
    cmd_parse(a, &program, o, argc, argv);
    if (o->measure && a->words != 2) die_usage("--measure needs a file of judgements and a run");
    if (o->tables && a->words < 2) die_usage("--tables needs folders and models");
    if (o->merge && !a->words) die_usage("--merge needs the folders of the shards");
    if (o->cost && a->words != 1) die_usage("--cost needs one model");
    if (!o->tables && !o->merge && !o->cost && a->words != 2) die_usage("a model and a folder are needed");
    for (; !o->tables && o->bit_kinds > 1; o->bit_kinds--) {       /* the first is the one that the others are compared with */
        if (o->comparisons == MAX_COMPARISONS) die_usage("at most %d comparisons", MAX_COMPARISONS);
        memmove(o->compare + 1, o->compare, o->comparisons++ * sizeof *o->compare);
        memset(o->compare, 0, sizeof *o->compare);
        o->compare->bits = o->bits[o->bit_kinds - 1];
        o->compare->max_delta = o->compare->min_tau = -2;
    }
    if (!o->ratios && o->cost) o->ratios = read_list("--ratio", "1,4,8,32", o->ratio, MAX_RATIOS, 1, 32);
    if (!o->ratios) o->ratio[o->ratios++] = 4;
    if (o->chart && (o->tables || o->merge || o->cost || o->measure)) die_usage("--chart goes with a model and one collection");
    if (o->save_run && o->ratios > 1) die_usage("a run file holds one ratio");
    if (o->k1 < 0 || o->b < 0 || o->b > 1) die_usage("--k1 must be 0 or more, --b from 0 to 1");
    for (i = 0; i < o->comparisons; i++)
        if (o->compare[i].is_run && o->ratios > 1) die_usage("a run file holds one ratio");
    if (cmd_given(a, "--candidates") && !cmd_given(a, "--first") && !cmd_given(a, "--run")) o->first = EV_FIRST_CANDIDATES;
}

/* ---- one collection ---------------------------------------------------------------------------------------------------- */

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* A test collection: its queries, candidates, and the candidates' texts. 0: none of the queries is in this shard. */
static int load_data(ev_data *d, const options *o, const ev_source *source)
{
    ev_bm25_settings bm25;
    bm25.k1 = o->k1;
    bm25.b = o->b;
    ev_load_queries(d, source, &o->limits);
    if (!d->uses) return 0;
    ev_first_stage(d, (ev_first)o->first, &bm25, o->limits.depth);
    ev_pick_texts(d);
    return 1;
}

/* bits: of all row types; 0: those of --bits, each with each ratio, encoded at ratio 1 */
static void prepare_job(ev_job *job, const options *o, const char *model, uint32_t bits, const char *instruction)
{
    uint32_t k, i;
    memset(job, 0, sizeof *job);
    job->path = model;
    job->config = o->config;
    job->memory = cmd_mebibytes(o->memory);
    if (instruction) job->params.instruction = kalm__text(instruction);
    if (o->system) job->params.system = kalm__text(o->system);
    for (i = 0; i < (bits ? 1 : o->bit_kinds); i++)
        for (k = 0; k < o->ratios; k++) {
            if (job->kinds == EV_KINDS_MOST) die_usage("at most %d ratios times row types", (int)EV_KINDS_MOST);
            job->kind[job->kinds].ratio = o->ratio[k];
            job->kind[job->kinds++].bits = bits ? bits : o->bits[i];
            job->direct = bits && o->ratios == 1;
            job->base = bits ? common_divisor(o->ratio[k], job->base) : 1;
        }
}

static ev_instruction choose_instruction(const options *o, const ev_source *s)
{
    kalm__json file;
    ev_instruction i;
    if (o->instruction) {
        i.text = o->instruction;
        i.origin = "from --instruction";
        return i;
    }
    if (o->instructions) ev_read_instructions(&file, o->instructions);
    return ev_find_instruction(s, o->instructions ? &file : NULL);
}

static int rank_collection(options *o, const char *model, const char *dir)
{
    ev_data d;
    ev_source source;
    ev_report r;
    ev_ranked mine, other;
    ev_job job;
    ev_instruction instruction;
    ev_settings settings = o->settings;
    ev_chart chart;
    uint32_t i;
    int status = EXIT_OK;
    memset(&r, 0, sizeof r);
    settings.measure = NULL;
    settings.measures = 0;
    ev_add_measures(&settings, "nDCG@10,MRR@10,Success@1,Recall@10");
    for (i = 0; i < o->settings.measures; i++) ev_add_measure(&settings, o->settings.measure[i]);
    ev_demand_whole(model);
    for (i = 0; i < o->comparisons; i++)
        if (!o->compare[i].is_run && !o->compare[i].bits) ev_demand_whole(o->compare[i].path);
    ev_find_source(&source, dir, &o->where);
    ev_check_source(&source, dir);
    if (!load_data(&d, o, &source)) die("%s has no query for this shard", source.name);
    instruction = choose_instruction(o, &d.source);
    prepare_job(&job, o, model, o->bits[0], instruction.text);
    r.d = &d;
    r.s = &settings;
    r.order = ev_sorted(&d.queries);
    r.kinds = job.kinds;
    memcpy(r.kind, job.kind, sizeof r.kind);
    r.json = o->json;
    ev_rank_all(&mine, &d, &job);
    if (o->save_run) ev_save_run(o->save_run, &d, mine.margin[0], "kalm");
    ev_report_begin(&r, instruction.origin);
    ev_report_ranking(&r, &mine, o->bits[0], NULL, NULL);
    memset(&chart, 0, sizeof chart);
    ev_chart_add(&chart, &r, &mine, o->bits[0]);
    if (o->settings.each && !o->json) ev_report_each(&r, &mine);
    fflush(stdout);
    for (i = 0; i < o->comparisons; i++) {
        const ev_comparison *c = &o->compare[i];
        uint32_t bits = c->bits ? c->bits : o->bits[0];
        prepare_job(&job, o, c->bits ? model : c->path, bits, instruction.text);
        if (c->is_run) ev_load_margins(&other, &d, c->path);
        else ev_rank_all(&other, &d, &job);
        if (!ev_report_ranking(&r, &other, bits, &mine, c)) status = EXIT_FAILED;
        fflush(stdout);
        if (c->bits) ev_chart_add(&chart, &r, &other, bits);
        ev_ranked_end(&other, job.kinds);
    }
    if (o->chart) ev_chart_write(&chart, o->chart);
    ev_report_end(&r);
    return status;
}

/* ---- tables -------------------------------------------------------------------------------------------------------------- */

/* One model over one collection, with one instruction. */
static void table_job(const options *o, const ev_data *d, const char *model, const ev_asked *asked)
{
    ev_job job;
    ev_ranked ranked;
    size_t k, done = 0, i;
    prepare_job(&job, o, model, 0, asked->instruction.text);
    ev_do_job(o->tables, d, &job, asked, &ranked);
    for (k = 0; k < job.kinds; k++)
        for (i = 0; i < d->run.count; i++) done += ranked.margin[k][i] == ranked.margin[k][i];
    fprintf(stderr, "%s %s over %s: %llu documents encoded, %llu pairs scored, %llu were there; %llu of %llu\n", ranked.name,
            ranked.weights,
            d->source.name, (unsigned long long)ranked.encoded_now, (unsigned long long)ranked.ranked_now,
            (unsigned long long)ranked.ranked_before, (unsigned long long)done, (unsigned long long)(d->run.count * job.kinds));
    ev_ranked_end(&ranked, job.kinds);
}

static void table_collection(const options *o, const ev_source *source, const cmd_args *a)
{
    ev_data d;
    ev_asked asked;
    size_t i;
    if (!load_data(&d, o, source)) {
        say("%s has no query for this shard", source->name);
        ev_data_end(&d);
        return;
    }
    asked.instruction = choose_instruction(o, source);
    /* one label for all tasks of a benchmark, so that its mean is over all of them; a task without an instruction has the default */
    asked.label = o->instruction || o->instructions ? "given"
                : source->layout == EV_LMEB || source->layout == EV_MIRACL ? "published" : "default";
    ev_say_source(stderr, &d, asked.instruction.origin);
    ev_print_notes(stderr, &d.notes);
    ev_write_queries(o->tables, &d);
    for (i = 0; i < a->words; i++) {
        if (ev_is_folder(a->word[i])) continue;
        table_job(o, &d, a->word[i], &asked);
        if (o->both && strcmp(asked.label, "default")) {
            ev_asked plain;
            plain.label = "default";
            plain.instruction.text = NULL;
            plain.instruction.origin = "the model's default";
            table_job(o, &d, a->word[i], &plain);
        }
    }
    ev_data_end(&d);
}

static int write_tables(const options *o, const char *out)
{
    ev_settings settings = o->settings;
    ev_results r;
    ev_tables t;
    size_t i;
    if (!settings.measures) ev_add_measures(&settings, "nDCG@10,MAP,MRR@10,Recall@100,P@10,Success@1,R_cap@10");
    ev_read_results(&r, out, &settings);
    t.r = &r;
    t.out = out;
    t.rounds = o->rounds;
    t.baseline = 0;
    for (i = 1; o->baseline && i < r.systems; i++) {
        char name[240];
        ev_system_name(&r.system[i], "", name, sizeof name);
        if (strcmp(name, o->baseline) == 0) t.baseline = i;
    }
    if (o->baseline && !t.baseline && strcmp(o->baseline, "first stage")) die("no row of the tables is called '%s'", o->baseline);
    ev_write_tables(&t);
    printf("%s/quality.md, quality.csv, quality.json, cost.md, cost.csv, charts/\n", out);
    cmd_flush();
    return EXIT_OK;
}

static int make_tables(const options *o, const cmd_args *a)
{
    ev_source *source = NULL;
    size_t count = 0, models = 0, i, k;
    for (i = 0; i < a->words; i++) {
        if (ev_is_folder(a->word[i])) ev_find_sources(a->word[i], &o->where, 6, &source, &count);
        else models++;
    }
    if (!models) die_usage("--tables needs a model");
    if (!count) die("none of the folders is a test collection or has one in it");
    for (i = 0; i < count; i++)
        for (k = 0; k < i; k++)
            if (!strcmp(source[i].name, source[k].name))
                die("%s and %s are both called %s; give one of them another name, or tables of its own", source[k].dir,
                    source[i].dir, source[i].name);
    for (i = 0; i < a->words; i++)
        if (!ev_is_folder(a->word[i])) ev_demand_whole(a->word[i]);
    ev_begin_work(o->tables);
    for (i = 0; i < count; i++) {
        ev_check_source(&source[i], source[i].dir);
        table_collection(o, &source[i], a);
    }
    if (o->limits.shards > 1) return EXIT_OK;      /* --merge makes the tables of all shards */
    return write_tables(o, o->tables);
}

int main(int argc, char **argv)
{
    options o;
    cmd_args a;
    cmd_name = "kalm-eval";
    kalm__utf8_arguments(&argc, &argv);
    read_options(&o, &a, argc, argv);
    if (o.measure) {
        if (!o.settings.measures) ev_add_measures(&o.settings, "num_q,nDCG@10,MAP,MRR,Recall@100,P@10,Success@1,R_cap@10");
        ev_measure_run(&o.settings, a.word[0], a.word[1], o.json);
        cmd_flush();
        return EXIT_OK;
    }
    kalm__catch_signals();
    if (o.tables) return make_tables(&o, &a);
    if (o.cost) {
        ev_demand_whole(a.word[0]);
        ev_cost_curve(o.cost, a.word[0], &o.config, o.ratio, o.ratios, o.longest);
        printf("%s/cost_curve.md, cost_curve.csv\n", o.cost);
        cmd_flush();
        return EXIT_OK;
    }
    if (o.merge) {
        ev_merge(o.merge, a.word, a.words);
        return write_tables(&o, o.merge);
    }
    return rank_collection(&o, a.word[0], a.word[1]);
}
