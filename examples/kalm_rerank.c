/* kalm_rerank.c - the command kalm-rerank: documents in, a ranking out. */
#include "../src/tools/command.h"
#ifdef HAVE_SQLITE3
#  include "store.h"
#endif

static const char help[] =
    "Usage: kalm-rerank MODEL.kalm QUERY [DOCUMENT...]\n"
    "       kalm-rerank MODEL.kalm QUERY --documents FILE\n"
    "       some-search | kalm-rerank MODEL.kalm QUERY\n"
    "       kalm-rerank MODEL.kalm QUERY --store STORE.db [--keys K1,K2,... | --candidates FILE]\n"
    "\n"
    "Rank documents by how well they answer the query, best first.\n"
    "\n"
    "Documents are the arguments, or the lines of FILE (- is standard input, which is also\n"
    "read when there are none): one text a line, or JSON Lines with \"text\" and maybe \"id\"\n"
    "and \"title\".\n"
    "\n"
    "With --store nothing is encoded: the documents are those that kalm-index put into STORE.db,\n"
    "all of them or the ones named: --keys between commas, --candidates one a line of FILE.\n"
    "Of a text that was split, the best window counts and is shown.\n"
    "\n"
    "What to ask\n"
    "  --instruction TEXT      what makes a document a good one (default: the model's own)\n"
    "  --system TEXT           the sentence before the instruction (default: the model's own)\n"
    "  --parse-control         marks like <end_of_turn> in the texts act on the prompt, as in\n"
    "                          the published code; without it they are plain characters\n"
    "How\n"
    "  --ratio N               document tokens pooled into one row, from 1 (default 4); of a\n"
    "                          store a multiple of its own (default: as stored)\n"
    "  --max-doc-tokens N      longer documents are cut (default 1024)\n"
    "  --max-query-tokens N    longer queries are cut (default 512)\n"
    "  --threads N             default: one per core\n"
    "  --kernels NAME          instruction set to use, see --version (default: the best one;\n"
    "                          the environment variable KALM_KERNELS says the same)\n"
    "What to print\n"
    "  --top-k N               the best N alone\n"
    "  --width N               columns of the table; 0: texts in full (default: the terminal's)\n"
    "  --json                  one JSON object instead of a table\n"
    "  --time                  what it took, on standard error\n"
    "  --help, --version\n"
    "\n"
    "Score is P(yes), from 0 to 1; margin is the difference of the logits, for finer steps.\n"
    "Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage.\n";

typedef struct options {
    const char *model, *query, *documents, *instruction, *system, *store, *keys, *candidates;
    uint32_t   *window;                /* [shown] of a store of split texts: which one each result shows; else NULL */
    uint32_t    top_k, width;
    int         has_width, json, timing;
    kalm_config config;
    kalm_params params;
} options;

static void print_version(void)
{
    uint32_t v = kalm_version();
    const char *name;
    size_t i;
    printf("kalm-rerank %u.%u.%u\nkernels on this machine, best first:", (unsigned)(v >> 16), (unsigned)(v >> 8 & 255),
           (unsigned)(v & 255));
    for (i = 0; (name = kalm_kernels(i)) != NULL; i++) printf(" %s", name);
    putchar('\n');
}

static void read_options(options *o, cmd_texts *texts, int argc, char **argv)
{
    cmd_args a;
    const char *s;
    memset(o, 0, sizeof *o);
    a.argc = argc;
    a.argv = argv;
    a.plain = 0;
    o->config.kernels = getenv("KALM_KERNELS");
    if (o->config.kernels && !*o->config.kernels) o->config.kernels = NULL;
    for (a.at = 1; a.at < argc; a.at++) {
        if (cmd_flag(&a, "--help") || cmd_flag(&a, "-h")) {
            fputs(help, stdout);
            exit(EXIT_OK);
        } else if (cmd_flag(&a, "--version")) {
            print_version();
            exit(EXIT_OK);
        } else if (cmd_flag(&a, "--")) a.plain = 1;
        else if (cmd_flag(&a, "--json")) o->json = 1;
        else if (cmd_flag(&a, "--time")) o->timing = 1;
        else if (cmd_flag(&a, "--parse-control")) o->params.flags |= KALM_PARSE_CONTROL;
        else if ((s = cmd_value(&a, "--documents")) != NULL) o->documents = s;
        else if ((s = cmd_value(&a, "--store")) != NULL) o->store = s;
        else if ((s = cmd_value(&a, "--keys")) != NULL) o->keys = s;
        else if ((s = cmd_value(&a, "--candidates")) != NULL) o->candidates = s;
        else if ((s = cmd_value(&a, "--instruction")) != NULL) o->instruction = s;
        else if ((s = cmd_value(&a, "--system")) != NULL) o->system = s;
        else if ((s = cmd_value(&a, "--kernels")) != NULL) o->config.kernels = s;
        else if ((s = cmd_value(&a, "--ratio")) != NULL) o->params.ratio = cmd_number("--ratio", s, 1, 1u << 20);
        else if ((s = cmd_value(&a, "--top-k")) != NULL) o->top_k = cmd_number("--top-k", s, 1, UINT32_MAX);
        else if ((s = cmd_value(&a, "--threads")) != NULL) o->config.threads = cmd_number("--threads", s, 1, 4096);
        else if ((s = cmd_value(&a, "--max-doc-tokens")) != NULL)
            o->config.max_doc_tokens = cmd_number("--max-doc-tokens", s, 1, 1u << 30);
        else if ((s = cmd_value(&a, "--max-query-tokens")) != NULL)
            o->config.max_query_tokens = cmd_number("--max-query-tokens", s, 1, 1u << 30);
        else if ((s = cmd_value(&a, "--width")) != NULL) {
            o->width = cmd_number("--width", s, 0, 1u << 20);
            o->has_width = 1;
        } else if (!a.plain && argv[a.at][0] == '-' && argv[a.at][1]) die_usage("there is no option %s", argv[a.at]);
        else if (!o->model) o->model = argv[a.at];
        else if (!o->query) o->query = argv[a.at];
        else {
            kalm_text none = { NULL, 0 };
            cmd_add(texts, none, kalm__text(argv[a.at]));
        }
    }
    if (!o->model) die_usage("no model");
    if (!o->query) die_usage("no query");
    if (o->documents && texts->count) die_usage("documents are arguments or --documents, not both");
    if (o->store && (o->documents || texts->count)) die_usage("documents come from --store or as texts, not both");
    if (!o->store && (o->keys || o->candidates)) die_usage("--keys and --candidates are for --store");
    if (o->store && o->config.max_doc_tokens) die_usage("--max-doc-tokens is for encoding; a store's documents are encoded");
    if (o->keys && o->candidates) die_usage("--keys or --candidates, not both");
    if (o->instruction) o->params.instruction = kalm__text(o->instruction);
    if (o->system) o->params.system = kalm__text(o->system);
}

/* Where the text of the i-th result is: a store gives those that are shown, in their order. */
static size_t place(const options *o, const kalm_score *scores, size_t i) { return o->store ? i : scores[i].index; }

static void print_table(const options *o, const cmd_texts *texts, const kalm_score *scores, size_t shown)
{
    size_t i, id_width = 0, rank_width = 4, width = o->has_width ? o->width : cmd_width(), room, taken;
    int any_cut = 0;
    char rank[24];
    if (!o->has_width && !width) width = 100;
    for (i = shown; i > 9999; i /= 10) rank_width++;
    for (i = 0; i < shown; i++) {
        kalm_text id = texts->id[place(o, scores, i)];
        if (id.data) id_width = kalm__max(id_width, kalm__min(cmd_columns(id), 24));
        any_cut |= scores[i].cut != 0;
    }
    if (id_width) id_width = kalm__max(id_width, 2);
    taken = rank_width + 2 + 6 + 2 + 8 + 2 + (id_width ? id_width + 2 : 0);
    room = !width ? (size_t)-1 : width > taken + 8 ? width - taken : 8;
    cmd_pad(stdout, 4, rank_width);
    fputs("rank   score    margin  ", stdout);
    if (id_width) {
        fputs("id", stdout);
        cmd_pad(stdout, 2, id_width + 2);
    }
    fputs("text\n", stdout);
    for (i = 0; i < shown; i++) {
        const kalm_score *s = &scores[i];
        size_t at = place(o, scores, i);
        sprintf(rank, "%lu", (unsigned long)i + 1);
        cmd_pad(stdout, strlen(rank), rank_width);
        printf("%s  %.4f%c %8.3f  ", rank, (double)s->score, s->cut ? '*' : ' ', (double)s->margin);
        if (id_width) {
            kalm_text id = texts->id[at];
            cmd_pad(stdout, id.data ? cmd_print(stdout, id, id_width) : 0, id_width + 2);
        }
        if (width) cmd_print(stdout, texts->text[at], room);
        else cmd_print(stdout, texts->text[at], (size_t)-1);
        putchar('\n');
    }
    if (any_cut)
        printf("* longer than %lu tokens: only the beginning was read (--max-doc-tokens)\n",
               (unsigned long)(o->config.max_doc_tokens ? o->config.max_doc_tokens : 1024));
}

static void print_json(const options *o, const cmd_texts *texts, const kalm_score *scores, size_t count, size_t shown)
{
    size_t i;
    fputs("{\"query\": ", stdout);
    cmd_json(stdout, kalm__text(o->query));
    printf(", \"documents\": %lu, \"results\": [", (unsigned long)count);
    for (i = 0; i < shown; i++) {
        const kalm_score *s = &scores[i];
        size_t at = place(o, scores, i);
        printf("%s\n  {\"rank\": %lu, \"index\": %lu, ", i ? "," : "", (unsigned long)i + 1, (unsigned long)s->index);
        if (texts->id[at].data) {
            fputs("\"id\": ", stdout);
            cmd_json(stdout, texts->id[at]);
            fputs(", ", stdout);
        }
        if (o->window) printf("\"window\": %lu, ", (unsigned long)o->window[i]);
        printf("\"score\": %.9g, \"margin\": %.9g, \"cut\": %s, \"text\": ", (double)s->score, (double)s->margin,
               s->cut ? "true" : "false");
        cmd_json(stdout, texts->text[at]);
        putchar('}');
    }
    fputs("\n]}\n", stdout);
}

/* Scores of a store's documents, sorted, and the texts of those that are shown; the count of all. */
static size_t rank_store(options *o, const kalm_model *model, kalm_context *ctx, cmd_texts *texts, kalm_score **scores,
                         cmd_progress *progress)
{
#ifdef HAVE_SQLITE3
    store s;
    store_ranking r;
    kalm_params params = o->params;
    kalm_text keys;
    size_t count, shown;
    memset(&r, 0, sizeof r);
    memset(&keys, 0, sizeof keys);
    store_open(&s, o->store, STORE_READ);
    if (o->candidates) keys = cmd_read(o->candidates);
    else if (o->keys) keys = kalm__text(o->keys);
    r.from = &s;
    r.model = model;
    r.ctx = ctx;
    r.query = kalm__text(o->query);
    params.progress = store_progress;
    r.params = &params;
    r.progress = progress;
    r.ratio = o->params.ratio;
    store_rank(&r, keys, o->candidates != NULL);
    if (!r.count) die("%s has no documents to rank", o->store);
    kalm_sort(r.score, r.count);
    shown = o->top_k && o->top_k < r.count ? o->top_k : r.count;
    o->window = (uint32_t *)cmd_alloc(shown * sizeof *o->window);
    store_texts(&r, shown, texts, o->window);
    if (!s.meta.split) {
        free(o->window);
        o->window = NULL;
    }
    store_close(&s);
    *scores = r.score;
    count = r.count;
    free(r.row);
    return count;
#else
    (void)model, (void)ctx, (void)texts, (void)scores, (void)progress;
    die("cannot read %s: this program was built without SQLite", o->store);
#endif
}

/* The longest document of a store, which the context must have room for. */
static uint32_t store_doc_tokens(const options *o, const kalm_model_info *info)
{
#ifdef HAVE_SQLITE3
    store s;
    store_open(&s, o->store, STORE_READ);
    store_demand(&s, o->model, info);
    store_close(&s);
    return s.meta.max_doc_tokens;
#else
    (void)info;
    die("cannot read %s: this program was built without SQLite", o->store);
#endif
}

int main(int argc, char **argv)
{
    options o;
    cmd_texts texts;
    cmd_progress progress;
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_model_info info;
    kalm_score *scores;
    kalm_error err;
    kalm_result r;
    size_t count, shown;
    double started = kalm__now(), opened, done;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = "kalm-rerank";
    memset(&texts, 0, sizeof texts);
    read_options(&o, &texts, argc, argv);

    if (kalm_model_open(o.model, NULL, &model, &err)) return cmd_failed(&err);
    kalm_model_get_info(model, &info);
    if (o.store) o.config.max_doc_tokens = store_doc_tokens(&o, &info);
    else if (!texts.count) {
        const char *from = o.documents ? o.documents : "-";
        if (strcmp(from, "-") == 0 && isatty(0)) fputs("Type the documents, one a line; Ctrl-D ends them.\n", stderr);
        cmd_read_texts(&texts, strcmp(from, "-") == 0 ? "standard input" : from, cmd_read(from));
        if (!texts.count) die("there are no documents in %s", strcmp(from, "-") == 0 ? "standard input" : from);
    }
    if (kalm_context_new(model, &o.config, &ctx, &err)) return cmd_failed(&err);
    opened = kalm__now();
    kalm__catch_signals();

    cmd_progress_begin(&progress, "ranking");
    if (o.store) {
        count = rank_store(&o, model, ctx, &texts, &scores, &progress);
        cmd_progress_end(&progress);
    } else {
        count = texts.count;
        scores = (kalm_score *)cmd_alloc(count * sizeof *scores);
        o.params.progress = cmd_progress_step;
        o.params.progress_user = &progress;
        r = kalm_rerank_texts(ctx, kalm__text(o.query), texts.text, count, &o.params, scores, &err);
        cmd_progress_end(&progress);
        if (r) return cmd_failed(&err);
        kalm_sort(scores, count);
    }
    done = kalm__now();

    shown = o.top_k && o.top_k < count ? o.top_k : count;
    if (o.json) print_json(&o, &texts, scores, count, shown);
    else print_table(&o, &texts, scores, shown);
    if (o.timing)
        fprintf(stderr, "%lu documents, %s %s, %s kernels: opened in %.1f ms, ranked in %.1f ms\n",
                (unsigned long)count, info.name, info.weights,
                o.config.kernels ? o.config.kernels : kalm_kernels(0), (opened - started) * 1e3, (done - opened) * 1e3);
    free(o.window);
    free(scores);
    kalm_context_free(ctx);
    kalm_model_close(model);
    if (fflush(stdout) || ferror(stdout)) die("cannot write the result: %s", strerror(errno));
    return EXIT_OK;
}
