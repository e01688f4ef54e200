/* kalm_search.c - the command kalm-search: folders, mailboxes and JSON Lines into one database, and questions to it. Here is its
   command line; the work is in parts: search_files.h lists files, search_text.h (with search_html.h, search_mail.h) takes the
   texts out of them, search_update.h, search_add.h and search_watch.h fill the database, search_query.h, search_snippet.h and search_print.h
   answer a question, search_mcp.h answers those of a program. */
#include "../../src/tools/command.h"
#include "../../src/tools/secret.h"
#include "../../src/tools/siphash.h"
#include "../store/store.h"
#include "../store/store_fill.h"
#include "../store/store_same.h"
#include "../store/terms.h"
#include "search_schema.h"
#include "search_options.h"
#include "search_files.h"
#include "search_html.h"
#include "search_mail.h"
#include "search_text.h"
#include "search_update.h"
#include "search_add.h"
#include "search_watch.h"
#include "search_snippet.h"
#include "search_query.h"
#include "search_print.h"
#include "search_mcp.h"

static void act(cmd_args *a, int action)
{
    options *o = (options *)a->to;
    if (o->action && o->action != action) die_usage("only one of --update, --forget, --info and --mcp can be given");
    o->action = action;
}

static void act_update(cmd_args *a, const char *name, const char *value) { (void)name, (void)value, act(a, SEARCH_UPDATE); }
static void act_forget(cmd_args *a, const char *name, const char *value) { (void)name, (void)value, act(a, SEARCH_FORGET); }
static void act_info(cmd_args *a, const char *name, const char *value) { (void)name, (void)value, act(a, SEARCH_INFO); }

static void act_mcp(cmd_args *a, const char *name, const char *value) { (void)name, (void)value, act(a, SEARCH_MCP); }

static const cmd_option table[] = {
    CMD_HEADING("What to show"),
    CMD_NUMBER("--limit", "N", options, limit, 1, 1000, "the best N documents (default 10)"),
    CMD_NUMBER("--candidates", "N", options, candidates, 1, 10000, "passages that BM25 finds and the model ranks (default 100)"),
    CMD_TEXT("--instruction", "TEXT", options, instruction, "what makes a document a good one (default: the model's own)"),
    CMD_FLAG("--json", options, json, "a JSON object for each question"),
    CMD_CHOICE("--mark", "auto|bold|stars|none", options, mark, "how words of the question are marked in the texts (default: bold on a "
               "terminal, **stars** elsewhere)"),
    CMD_NUMBER("--width", "N", options, width, 20, 1000, "columns of a line (default: the terminal's)"),
    CMD_HEADING("What else can be done with a database"),
    CMD_CALL("--update", NULL, act_update, "read again what changed in the files and folders that it was made of; what is gone is forgotten"),
    CMD_FLAG("--watch", options, watch, "with the first form or --update: stay, and take in what changes as it changes"),
    CMD_CALL("--forget", NULL, act_forget, "the words are files and folders that shall no longer be part of it"),
    CMD_CALL("--info", NULL, act_info, "what it holds"),
    CMD_CALL("--mcp", NULL, act_mcp, "answer the questions of a program: the Model Context Protocol on standard input and output, with one tool, "
             "search"),
    CMD_HEADING("How to encode; a database has one answer for all its documents, the first command's"),
    CMD_NUMBER("--split", "N", options, split, 0, 1u << 20, "texts become passages of at most N tokens, which end where paragraphs or sentences "
               "do; 0: texts stay whole (default 256)"),
    CMD_NUMBER("--overlap", "M", options, overlap, 0, 1u << 20, "tokens that a passage shares with the one before (default 0)"),
    CMD_NUMBER("--ratio", "N", options, ratio, 1, 1u << 20, "tokens pooled into one row (default 4)"),
    CMD_LISTED("--bits", "32|16|8|4|3|2", options, bits, "kept of each number (default 16)"),
    CMD_NUMBER("--max-size", "MIB", options, max_mib, 1, 1000, "texts of more mebibytes are left out (default 16)"),
    CMD_HEADING("How to work"),
    CMD_TEXT("--model", "FILE", options, model, "the model, where the database says another place"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "default: one for each core"),
    CMD_TEXT("--kernels", "NAME", options, config.kernels, "instruction set to use (default: the best one; the environment variable "
             "KALM_KERNELS says the same)"),
    CMD_READ_MODEL(options, config.load),
    CMD_NUMBER("--batch", "N", options, batch, 1, 1u << 20, "passages stored at a time (default 256): at most twice so many are encoded "
               "again after a kill"),
    CMD_NUMBER("--cache", "MIB", options, cache_mib, 0, 1u << 20, "with - and --mcp: memory for what the decoder computed for passages that come "
               "again (default 256)"),
    CMD_LISTED("--state-bits", "8|4", options, config.state_bits, "keep that in two thirds or half of the bytes; scores of all "
               "passages change a little, with one question as well (default: exact)"),
    CMD_FLAG("--quiet", options, quiet, "no progress, no summary")
};

static const cmd_program program = {
    "kalm-search",
    "MODEL.kalm DB PATH...\n"
    "DB QUESTION\n"
    "DB - | --update [--watch] | --forget PATH... | --info | --mcp",
    "Search texts by what they say: files and folders become one database, and the model ranks what BM25 finds.\n"
    "\n"
    "The first form makes the database, or adds to it: each PATH is a folder, a text, a page of HTML, a file of JSON Lines, a mailbox or a "
    "Maildir. The second asks it; with - the questions are the lines of standard input. The database is a store of kalm-index with an "
    "index of words beside it: kalm-rerank --store and kalm-index --info and --verify read it.",
    table, sizeof table / sizeof *table,
    "The score is P(yes), from 0 to 1, of the document's best passage; of that passage the stretch is shown that has most of the question's words.\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but files or parts of them were left out, 130 interrupted (what was stored stays).",
    NULL
};

static void read_options(options *o, int argc, char **argv)
{
    cmd_args a;
    size_t i = 0;
    memset(o, 0, sizeof *o);
    o->limit = 10;
    o->candidates = 100;
    o->max_mib = 16;
    o->batch = 256;
    o->cache_mib = 256;
    o->word = (const char **)cmd_alloc((size_t)argc * sizeof *o->word);
    o->config.kernels = cmd_kernels();
    cmd_parse(&a, &program, o, argc, argv);
    o->has_split = cmd_given(&a, "--split");
    o->has_overlap = cmd_given(&a, "--overlap");
    if (o->has_split && o->split ? o->overlap >= o->split : !o->has_split && o->overlap >= 256) die_usage("--overlap must be less than --split");
    if (a.words && cmd_is_model(a.word[0])) {
        if (o->action) die_usage("the database remembers its model: %s says another", "--model");
        if (o->model) die_usage("the model is %s or --model, not both", a.word[0]);
        o->model = a.word[i++];
        o->action = SEARCH_ADD;
    }
    if (i == a.words) die_usage(i ? "no database" : "no database (of a model: MODEL.kalm DB PATH...)");
    o->database = a.word[i++];
    if (o->watch && !o->action && i == a.words) o->action = SEARCH_UPDATE;
    if (o->watch && o->action != SEARCH_ADD && o->action != SEARCH_UPDATE) die_usage("--watch goes with MODEL DB PATH... or DB --update");
    if (cmd_is_model(o->database)) die_usage("%s is a model, not a database", o->database);
    while (i < a.words) o->word[o->words++] = a.word[i++];
    cmd_args_end(&a);
    if (o->action == SEARCH_ADD && !o->words) die_usage("no file or folder to add to %s", o->database);
    if (o->action == SEARCH_ASK && !o->words) die_usage("the question is missing");
    if (o->action == SEARCH_FORGET && !o->words) die_usage("--forget needs a file or folder");
    if ((o->action == SEARCH_UPDATE || o->action == SEARCH_INFO || o->action == SEARCH_MCP) && o->words) die_usage("the argument '%s' is one too many", o->word[0]);
    if (o->candidates < o->limit) o->candidates = o->limit;
}

/* ---- questions ------------------------------------------------------------------------------------------------------------ */

static int answer(search_engine *e, const options *o, kalm_text question)
{
    kalm_error err;
    double begun = kalm__now();
    if (search_ask(e, question, o->limit, &err)) return cmd_failed(&err);
    if (o->json) search_print_json(e, question, kalm__now() - begun);
    else search_print(e, o, kalm__now() - begun);
    cmd_flush();
    return EXIT_OK;
}

/* The words of the command line are one question; "-": each line of standard input is one. */
static int run_ask(const options *o)
{
    search_engine e;
    int lines = o->words == 1 && !strcmp(o->word[0], "-"), status = EXIT_OK;
    if (!lines) {
        size_t i, size = 0;
        kalm_text question;
        char *text;
        for (i = 0; i < o->words; i++) size += strlen(o->word[i]) + 1;
        text = (char *)cmd_alloc(size + 1);
        for (i = size = 0; i < o->words; i++) size += (size_t)sprintf(text + size, "%s%s", i ? " " : "", o->word[i]);
        question.data = text;
        question.size = size;
        if (cmd_blank(question)) die_usage("the question is empty");
        search_engine_begin(&e, o, 0);
        status = answer(&e, o, question);
        free(text);
    } else {
        reader r;
        text_record record;
        int what;
        search_engine_begin(&e, o, cmd_mebibytes(o->cache_mib));
        if (!reader_begin(&r, "-", READ_LINES)) die("%s: %s", r.name, r.why);
        while (!status && (what = reader_next(&r, &record)) != READ_END) {
            if (what == READ_BAD) cmd_tell_place(&r);
            else status = answer(&e, o, record.text);
        }
        reader_end(&r);
    }
    search_engine_end(&e);
    return status;
}

int main(int argc, char **argv)
{
    options o;
    search_update u;
    int status;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    read_options(&o, argc, argv);
    if (o.action == SEARCH_ASK || o.action == SEARCH_INFO || o.action == SEARCH_MCP) {
        cmd_catch_signals(CMD_LEAVE_AT_ONCE);
        status = o.action == SEARCH_ASK ? run_ask(&o) : o.action == SEARCH_INFO ? run_search_info(&o) : run_mcp(&o);
    } else {
        cmd_catch_signals(CMD_END_IN_ORDER);
        status = o.action == SEARCH_ADD ? run_add(&u, &o) : o.action == SEARCH_UPDATE ? run_update(&u, &o) : run_forget(&u, &o);
        if (o.watch) status = run_watch(&u, &o);
        search_end_update(&u);
    }
    free((void *)o.word);
    return status;
}
