/* kalm_index.c - the command kalm-index, which encodes the documents of a corpus and keeps them in a store. This file reads the
   command line. The work is done by its parts: corpus.h reads the input, index_encode.h fills a store, index_look.h shows,
   checks and exports what a store holds, index_again.h compares it with its texts, index_change.h deletes documents and merges
   stores, and index_states.h keeps decoder states beside one. */
#include "../../src/tools/command.h"
#include "../../src/tools/secret.h"
#include "../../src/tools/siphash.h"
#include "../store/store.h"
#include "../store/store_fill.h"
#include "../store/store_same.h"
#include "../store/store_states.h"
#include "corpus.h"
#include "index_options.h"
#include "index_encode.h"
#include "index_again.h"
#include "index_look.h"
#include "index_change.h"
#include "index_states.h"

/* ---- options -------------------------------------------------------------------------------------------------------- */

/* One of the options that ask for something other than encoding. The values of those that take one are collected in o->word;
   o->others is the number of words that stood before --merge, since those that follow it are stores to be merged. */
static void act(cmd_args *a, int action, const char *value)
{
    options *o = (options *)a->to;
    if (o->action && o->action != action)
        die_usage("only one of --info, --verify, --export, --delete, --merge and --states can be given");
    if (action == DO_MERGE && o->action != DO_MERGE) o->others = a->words;
    o->action = action;
    if (value) o->word[o->words++] = value;
}

static void act_info(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_INFO, value); }
static void act_verify(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_VERIFY, value); }
static void act_export(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_EXPORT, value); }
static void act_delete(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_DELETE, value); }
static void act_merge(cmd_args *a, const char *name, const char *value) { (void)name, act(a, DO_MERGE, value); }

/* --states N|all */
static void act_states(cmd_args *a, const char *name, const char *value)
{
    options *o = (options *)a->to;
    char *end;
    (void)name;
    act(a, DO_STATES, NULL);
    if (!strcmp(value, "all")) {
        o->states = STATES_ALL;
        return;
    }
    if (strspn(value, "0123456789") != strlen(value) || !*value || strlen(value) > 10)
        die_usage("--states needs a number of documents, or 'all', not '%s'", value);
    o->states = (int64_t)strtoull(value, &end, 10);
}

static const cmd_option table[] = {
    CMD_HEADING("Input: files, folders, or - for standard input, which is also read when there is none"),
    CMD_CHOICE("--format", "auto|jsonl|tsv|lines|csv|files|store", options, format,
               "jsonl: JSON objects, one a line, one behind the other or in an array: \"_id\" or \"id\", \"text\", maybe \"title\", which is "
               "encoded before the text; other members are kept as metadata\n"
               "tsv: key TAB text a line; or columns as the first line names them\n"
               "lines: a text a line; its key is FILE:LINE\n"
               "csv: columns as the first line names them, fields maybe in quotation marks; where no column is a key it is FILE:LINE\n"
               "files: a text a file; its key is the path, in a folder that from there\n"
               "store: another store: its texts, to be encoded by this model\n"
               "auto (default): .jsonl .ndjson .json .tsv and .csv by name, stores by their first bytes, standard input by its first "
               "line, other files as one text, where kalm-rerank ranks their lines: --format lines is for those"),
    CMD_FLAG("--strict", options, strict, "stop at bad input; default: name it, count it, leave it out"),
    CMD_CHOICE("--changed", "replace|keep|stop", options, changed, "what to do with a text that the store has under the same key in "
               "another version: replace that (default), keep it, or stop"),
    CMD_HEADING("How to encode; a store has one answer for all its documents, the first command's"),
    CMD_NUMBER("--ratio", "N", options, ratio, 1, 1u << 20, "tokens pooled into one row (default 4)"),
    CMD_LISTED("--bits", "32|16|8|4|3|2", options, bits, "how many bits of each number are kept (default 16)"),
    CMD_NUMBER("--max-doc-tokens", "N", options, config.max_doc_tokens, 1, 1u << 30, "longer documents are cut (default 1024, or what "
               "--split needs)"),
    CMD_NUMBER("--split", "N", options, split, 0, 1u << 30, "texts of more than N tokens become windows of N tokens; the best "
               "window's score counts"),
    CMD_NUMBER("--overlap", "M", options, overlap, 0, 1u << 30, "tokens that a window shares with the one before (default 0)"),
    CMD_NUMBER("--threads", "N", options, config.threads, 1, 4096, "default: one for each core"),
    CMD_TEXT("--kernels", "NAME", options, config.kernels, "instruction set to use (default: the best one; the environment variable "
             "KALM_KERNELS says the same)"),
    CMD_READ_MODEL(options, config.load),
    CMD_NUMBER("--batch", "N", options, batch, 1, 1u << 20, "documents stored at a time (default 64): at most twice so many are "
               "encoded again after a kill"),
    CMD_FLAG("--quiet", options, quiet, "no progress, no summary"),
    CMD_HEADING("What else can be done with a store"),
    CMD_CALL("--info", NULL, act_info, "what the store holds"),
    CMD_CALL("--verify", NULL, act_verify, "check each document and its text against their checksums"),
    CMD_FLAG("--again", options, again, "with --verify and a model: encode the texts again and compare the bytes, which also finds "
             "documents that belong to other texts. It takes as long as encoding did; with float weights bytes differ between machines"),
    CMD_CALL("--export", "KEY", act_export, "print a document as a line of JSON; may be given many times"),
    CMD_FLAG("--bytes", options, bytes, "with --export: its encoded bytes instead"),
    CMD_NUMBER("--window", "W", options, window, 0, UINT32_MAX, "with --bytes: which window of a text that was split (default 0)"),
    CMD_CALL("--delete", "KEY", act_delete, "remove a document; may be given many times"),
    CMD_CALL("--merge", "OTHER.db...", act_merge, "add the documents of other stores of the same model and settings"),
    CMD_CALL("--states", "N|all", act_states, "keep decoder states of the N documents that are asked for most, in STORE.db.states: `kalm-rerank "
             "--store` ranks those sooner, with the same scores. What was kept of others, or for another instruction, goes; 0 deletes "
             "the file. A state takes about 20 times the document's bytes"),
    CMD_TEXT("--asked", "FILE", options, asked, "with --states: how often a document stands here is how much it is asked for. A key a "
             "line, or lines of runs (query Q0 document rank score). Without it the first N documents of the store are taken"),
    CMD_TEXT("--instruction", "TEXT", options, instruction, "with --states: what they are kept for (default: the model's own)"),
    CMD_TEXT("--system", "TEXT", options, system, "with --states: the sentence before the instruction (default: the model's own)"),
    CMD_LISTED("--state-bits", "0|8|4", options, config.state_bits, "with --states: 8 or 4 take two thirds or half of the bytes, and only "
               "rankings with the same --state-bits use them (default 0: exact)")
};

static const cmd_program program = {
    "kalm-index",
    "MODEL.kalm STORE.db [INPUT...] [options]\n"
    "STORE.db --info | --export KEY | --delete KEY | --merge OTHER.db...\n"
    "[MODEL.kalm] STORE.db --verify [--again]\n"
    "MODEL.kalm STORE.db --states N [--asked FILE] [--instruction TEXT]",
    "Encode documents once and keep them in a store: STORE.db, a SQLite database that `kalm-rerank --store` ranks from and any "
    "other tool can read.\n"
    "\n"
    "Documents that the store has already are passed over, so the same command goes on where another was stopped or killed, and "
    "adds what is new. A document whose text changed under its key is encoded again (see --changed).",
    table, sizeof table / sizeof *table,
    "Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but bad input was left out, 130 interrupted (what was stored stays).",
    NULL
};

/* The command line: at most a model, then a store, then what else the action takes, which goes to o->word. */
static void read_options(options *o, int argc, char **argv)
{
    cmd_args a;
    size_t i = 0, k, end;
    memset(o, 0, sizeof *o);
    o->batch = 64;
    o->word = (const char **)cmd_alloc((size_t)argc * sizeof *o->word);
    o->config.kernels = cmd_kernels();
    cmd_parse(&a, &program, o, argc, argv);
    o->has_split = cmd_given(&a, "--split");
    o->has_overlap = cmd_given(&a, "--overlap");
    if (o->has_overlap && !o->has_split && !o->action && o->overlap) die_usage("--overlap is for --split");
    if (o->split && o->overlap >= o->split) die_usage("--overlap must be less than --split");
    /* in "--merge A STORE B C" the store comes before B and C, which are merged into it as A is */
    end = o->action == DO_MERGE ? kalm__min(a.words, kalm__max(o->others, 1)) : a.words;
    for (k = end; k < a.words; k++) o->word[o->words++] = a.word[k];
    if (o->action != DO_STATES && (o->asked || o->instruction || o->system || o->config.state_bits))
        die_usage("--asked, --instruction, --system and --state-bits are for --states");
    if (o->action == DO_ENCODE || (o->action == DO_STATES && o->states) || (end > 1 && cmd_is_model(a.word[0]))) {
        if (!end) die_usage("the model file is missing");
        o->model = a.word[i++];
    }
    if (o->again && (o->action != DO_VERIFY || !o->model)) die_usage("--again is for --verify with a model");
    if (i == end) die_usage("the name of the store is missing");
    o->store = a.word[i++];
    if (o->action == DO_ENCODE)
        while (i < end) o->word[o->words++] = a.word[i++];
    if (i < end) die_usage("the argument '%s' is one too many", a.word[i]);
    cmd_args_end(&a);
    if (cmd_is_model(o->store)) die_usage("%s is a model, not a store", o->store);
}

int main(int argc, char **argv)
{
    options o;
    int status;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    read_options(&o, argc, argv);
    cmd_catch_signals(CMD_LEAVE_AT_ONCE);
    status = o.action == DO_INFO ? run_info(&o) : o.action == DO_VERIFY ? run_verify(&o) : o.action == DO_EXPORT ? run_export(&o) :
             o.action == DO_DELETE ? run_delete(&o) : o.action == DO_MERGE ? run_merge(&o) :
             o.action == DO_STATES ? run_states(&o) : run_encode(&o);
    free((void *)o.word);
    return status;
}
