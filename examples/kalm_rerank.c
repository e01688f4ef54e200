/* kalm_rerank.c - the command kalm-rerank: documents in, a ranking out. */
#include "../src/tools/command.h"
#ifdef HAVE_SQLITE3
#  include "store/store.h"
#  include "store/store_states.h"
#  include "store/store_rank.h"
#endif

typedef struct options {
    const char *model, *query, *documents, *instruction, *system, *store, *keys, *candidates;
    uint32_t   *window;                /* [shown] of a store of split texts: which one each result shows; else NULL */
    uint32_t    top_k, width;
    uint32_t    format;
    int         has_width, json, timing, strict;
    int         kept;                  /* there is a file of states beside the store */
    size_t      warm;                  /* documents, or windows, that were ranked from it */
    kalm_config config;
    kalm_params params;
} options;

static const cmd_option table[] = {
    CMD_HEADING("Documents"),
    CMD_TEXT("--documents", "FILE", options, documents, "texts of this file; - is standard input, which is also read when no "
             "documents are given"),
    CMD_CHOICE("--format", "auto|jsonl|tsv|lines|csv", options, format,
               "jsonl: JSON objects with \"text\" and maybe \"id\" and \"title\", one a line, one behind the other or in an array\n"
               "tsv: key TAB text a line; or columns as the first line names them\n"
               "lines: a text a line\n"
               "csv: columns as the first line names them (text, maybe id and title), fields maybe in quotation marks\n"
               "auto (default): by the name, .jsonl .ndjson .json .tsv or .csv, or by the first line; kalm-index takes any other file for one "
               "text, and its --format lines takes it as here"),
    CMD_FLAG("--strict", options, strict, "stop at bad input; default: name it, leave it out"),
    CMD_TEXT("--store", "STORE.db", options, store, "those that kalm-index put into this store; nothing is encoded then, and of a "
             "text that was split the best window counts and is shown. Decoder states that kalm-index --states keeps beside it are "
             "used where they are for this model and instruction: the scores are the same, and come sooner"),
    CMD_TEXT("--keys", "K1,K2,...", options, keys, "of the store, only the documents of these keys"),
    CMD_TEXT("--candidates", "FILE", options, candidates, "the same, with a key a line of FILE"),
    CMD_HEADING("What to ask"),
    CMD_TEXT("--instruction", "TEXT", options, instruction, "what makes a document a good one (default: the model's own)"),
    CMD_TEXT("--system", "TEXT", options, system, "the sentence before the instruction (default: the model's own)"),
    CMD_BITS("--parse-control", options, params.flags, KALM_PARSE_CONTROL, "marks like <end_of_turn> in the texts act on the "
             "prompt, as in the published code; without it they are plain characters"),
    CMD_HEADING("How"),
    CMD_NUMBER("--ratio", "N", options, params.ratio, 1, 1u << 20, "document tokens pooled into one row, from 1 (default 4); of a "
               "store a multiple of its own (default: as stored)"),
    CMD_NUMBER("--max-doc-tokens", "N", options, config.max_doc_tokens, 1, 1u << 30, "longer documents are cut (default 1024)"),
    CMD_NUMBER("--max-query-tokens", "N", options, config.max_query_tokens, 1, 1u << 30, "longer queries are cut (default 512)"),
    CMD_LISTED("--state-bits", "8|4", options, config.state_bits, "rank as from decoder states of 8 or 4 bits, which change all "
               "scores a little: what `kalm-index --states N --state-bits` keeps is used then (default: exact states)"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "default: one for each core"),
    CMD_TEXT("--kernels", "NAME", options, config.kernels, "instruction set to use, see --version (default: the best one; the "
             "environment variable KALM_KERNELS says the same)"),
    CMD_READ_MODEL(options, config.load),
    CMD_HEADING("What to print"),
    CMD_NUMBER("--top-k", "N", options, top_k, 1, UINT32_MAX, "the best N alone"),
    CMD_NUMBER("--width", "N", options, width, 0, 1u << 20, "columns of the table; 0: texts in full (default: the terminal's)"),
    CMD_FLAG("--json", options, json, "one JSON object instead of a table"),
    CMD_FLAG("--time", options, timing, "what it took, on standard error")
};

static void print_kernels(void)
{
    const char *name;
    size_t i;
    printf("kernels on this machine, best first:");
    for (i = 0; (name = kalm_kernels(i)) != NULL; i++) printf(" %s", name);
    putchar('\n');
}

static const cmd_program program = {
    "kalm-rerank",
    "MODEL.kalm QUERY [DOCUMENT...]\n"
    "MODEL.kalm QUERY --documents FILE\n"
    "MODEL.kalm QUERY --store STORE.db [--keys K1,K2,... | --candidates FILE]",
    "Rank documents by how well they answer the query, best first.",
    table, sizeof table / sizeof *table,
    "Score is P(yes), from 0 to 1; margin is the difference of the logits, for finer steps.\n"
    "Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage, 3 done but bad input was left out, 130 "
    "interrupted.",
    print_kernels
};

static void read_options(options *o, cmd_texts *texts, int argc, char **argv)
{
    cmd_args a;
    size_t i;
    memset(o, 0, sizeof *o);
    o->config.kernels = cmd_kernels();
    cmd_parse(&a, &program, o, argc, argv);
    o->has_width = cmd_given(&a, "--width");
    if (a.words > 0) o->model = a.word[0];
    if (a.words > 1) o->query = a.word[1];
    for (i = 2; i < a.words; i++) {
        kalm_text none = { NULL, 0 };
        cmd_add(texts, none, kalm__text(a.word[i]));
        if (kalm__file_exists(a.word[i]))
            say("'%s' is ranked as a text; to rank what that file holds: --documents %s", a.word[i], a.word[i]);
    }
    cmd_args_end(&a);
    if (!o->model) die_usage("the model file is missing");
    if (!o->query) die_usage("the query is missing");
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
    uint32_t cut = 0;
    char rank[24];
    if (!o->has_width && !width) width = 100;
    for (i = shown; i > 9999; i /= 10) rank_width++;
    for (i = 0; i < shown; i++) {
        kalm_text id = texts->id[place(o, scores, i)];
        if (id.data) id_width = kalm__max(id_width, kalm__min(cmd_columns(id), 24));
        cut |= scores[i].cut;
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
        printf("%s  %.4f%c %8.3f  ", rank, (double)s->score, s->cut & KALM_CUT_DOCUMENT ? '*' : ' ', (double)s->margin);
        if (id_width) {
            kalm_text id = texts->id[at];
            cmd_pad(stdout, id.data ? cmd_print(stdout, id, id_width) : 0, id_width + 2);
        }
        if (width) cmd_print(stdout, texts->text[at], room);
        else cmd_print(stdout, texts->text[at], (size_t)-1);
        putchar('\n');
    }
    if (cut & KALM_CUT_QUERY)
        printf("the query is longer than %lu tokens: only its beginning was read (--max-query-tokens)\n",
               (unsigned long)(o->config.max_query_tokens ? o->config.max_query_tokens : 512));
    if (cut & KALM_CUT_DOCUMENT)
        printf("* longer than %lu tokens: only the beginning was read (--max-doc-tokens)\n",
               (unsigned long)(o->config.max_doc_tokens ? o->config.max_doc_tokens : 1024));
}

static void print_json(const options *o, const cmd_texts *texts, const kalm_score *scores, size_t count, size_t shown)
{
    json_out j;
    size_t i;
    json_begin(&j, stdout);
    json_open(&j, '{');
    json_key(&j, "query");
    json_text(&j, kalm__text(o->query));
    json_key(&j, "documents");
    json_uint(&j, count);
    if (o->kept) {
        json_key(&j, "warm");
        json_uint(&j, o->warm);
    }
    json_key(&j, "results");
    json_open(&j, '[');
    for (i = 0; i < shown; i++) {
        const kalm_score *s = &scores[i];
        size_t at = place(o, scores, i);
        json_newline(&j);
        json_open(&j, '{');
        json_key(&j, "rank");
        json_uint(&j, i + 1);
        json_key(&j, "index");
        json_uint(&j, s->index);
        if (texts->id[at].data) {
            json_key(&j, "id");
            json_text(&j, texts->id[at]);
        }
        if (o->window) {
            json_key(&j, "window");
            json_uint(&j, o->window[i]);
        }
        json_key(&j, "score");
        json_float(&j, (double)s->score, 9);
        json_key(&j, "margin");
        json_float(&j, (double)s->margin, 9);
        json_key(&j, "cut");
        json_bool(&j, s->cut != 0);
        json_key(&j, "cut_document");
        json_bool(&j, (s->cut & KALM_CUT_DOCUMENT) != 0);
        json_key(&j, "cut_query");
        json_bool(&j, (s->cut & KALM_CUT_QUERY) != 0);
        json_key(&j, "text");
        json_text(&j, texts->text[at]);
        json_close(&j);
    }
    json_newline(&j);
    json_close(&j);
    json_close(&j);
}

/* Scores of a store's documents, sorted, and the texts of those that are shown; the count of all. */
static size_t rank_store(options *o, const kalm_model *model, kalm_context *ctx, cmd_texts *texts, kalm_score **scores,
                         cmd_progress *progress)
{
#ifdef HAVE_SQLITE3
    store s;
    store_ranking r;
    states kept;
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
    states_begin(&kept, o->store, model, &o->config, &params, progress);
    r.kept = &kept;
    store_rank(&r, keys, o->candidates != NULL);
    o->kept = kept.there;
    o->warm = states_end(&kept);
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
    size_t count, shown, bad = 0;
    double started = kalm__now(), opened, done;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = "kalm-rerank";
    memset(&texts, 0, sizeof texts);
    read_options(&o, &texts, argc, argv);
    cmd_catch_signals(CMD_LEAVE_AT_ONCE);

    if (kalm_model_open(o.model, &o.config, &model, &err)) return cmd_failed(&err);
    kalm_model_get_info(model, &info);
    if (info.has_encoder && !info.has_decoder)
        die("%s holds the encoder alone, which cannot score: rank with the whole model or its decoder", o.model);
    if (info.has_decoder && !info.has_encoder && !o.store)
        die("%s holds the decoder alone, which cannot read texts: rank documents that are encoded (--store)", o.model);
    if (o.store) o.config.max_doc_tokens = store_doc_tokens(&o, &info);
    else if (!texts.count) {
        const char *from = o.documents ? o.documents : "-";
        if (strcmp(from, "-") == 0 && isatty(0)) fputs("Type the documents, one a line; Ctrl-D ends them.\n", stderr);
        bad = cmd_read_texts(&texts, from, (int)o.format, o.strict);
        if (!texts.count) die("there are no documents in %s", strcmp(from, "-") == 0 ? "standard input" : from);
    }
    if (kalm_context_new(model, &o.config, &ctx, &err)) return cmd_failed(&err);
    opened = kalm__now();

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
        say_plainly("%lu documents, %s %s, %s kernels: opened in %.1f ms, ranked in %.1f ms",
                (unsigned long)count, info.name, info.weights,
                o.config.kernels ? o.config.kernels : kalm_kernels(0), (opened - started) * 1e3, (done - opened) * 1e3);
    if (o.timing && o.kept) fprintf(stderr, "%lu of them from kept states\n", (unsigned long)o.warm);
    free(o.window);
    free(scores);
    kalm_context_free(ctx);
    kalm_model_close(model);
    cmd_flush();
    return bad ? EXIT_BAD_INPUT : EXIT_OK;
}
