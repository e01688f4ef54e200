/* kalm-quantize - a Hugging Face checkpoint becomes one .kalm file; also tells what such a file holds and verifies it.

   checkpoint.h understands config.json and finds the tensors (safetensors.h), ties.h which of
   its tables are one, plan.h says what becomes of each, stream.h
   codes them (units.h, codecs.h) and writes them, container.h puts the file around them; calibrate.h is what texts add.
   Here: the command, the tokenizer and the prompt. */
#include "../src/tools/files.h"                     /* before all else, see there */
#if defined(__clang__)
#  pragma STDC FP_CONTRACT OFF         /* the same file from every compiler; GCC does so by -std=c99 */
#endif
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "checkpoint.h"
#include "ties.h"
#include "plan.h"
#include "stream.h"
#include "calibrate.h"
#include "../src/tools/texts.h"
#include "container.h"
#include "info.h"
#include "part.h"
#include "../src/tools/options.h"
#include "../src/tools/progress.h"
#include "../tokenizer/import.h"
#include <stdio.h>
#include <stdlib.h>

enum { NO_ID = 0x7fffffff };            /* an answer token that is not given */

typedef struct options {
    const char *input, *output, *info, *verify, *tokenizer, *name, *system, *instruction, *calibrate, *vocabulary, *held_out;
    uint32_t    weights, embedding, yes_id, no_id, threads, side, tokens;
    int         errors, quiet, no_rows;
} options;

static const cmd_option option_table[] = {
    CMD_HEADING("Converting"),
    CMD_CHOICE("--weights", "f32|f16|bf16|q8|q4", options, weights, "type of the matrices (default q8)"),
    CMD_CHOICE("--embedding", "f32|f16|bf16|q8|q4", options, embedding, "type of the embedding table: default q8 for q8 and q4 "
               "weights, else the type it has in the checkpoint, which loses nothing, but f32 only for f32 weights. q4 makes the "
               "table half as large as q8 and changes the order about as much as q4 weights do"),
    CMD_TEXT("--tokenizer", "FILE", options, tokenizer, "default: tokenizer.json in the folder, else tokenizer.model; 'none': token "
             "ids only"),
    CMD_NUMBER("--yes-id", "N", options, yes_id, 0, NO_ID - 1, "the answer token; default: the last token of \"yes\""),
    CMD_NUMBER("--no-id", "N", options, no_id, 0, NO_ID - 1, "the same for \"no\""),
    CMD_TEXT("--name", "TEXT", options, name, "the name the file carries; default: that of the folder"),
    CMD_TEXT("--system", "TEXT", options, system, "the system sentence of the prompt"),
    CMD_TEXT("--instruction", "TEXT", options, instruction, "the instruction used where the user of the library gives none"),
    CMD_TEXT("--calibrate", "FILE", options, calibrate, "texts like those that will be ranked, one a line, or "
             "query<TAB>text, or JSON with \"text\" and perhaps \"query\". Up to 256 are run through the model: q4 and q8 weights are "
             "rounded so that what the matrices make of them changes least, and rows of 4, 3 and 2 bits are fitted to them if there are 64 "
             "or more"),
    CMD_FLAG("--no-rows", options, no_rows, "leave out what documents of 4, 3 and 2 bits a number need; they are then refused"),
    CMD_NUMBER("--threads", "N", options, threads, 1, KALM__MAX_THREADS, "default: one for each core"),
    CMD_FLAG("--quiet", options, quiet, "print errors only"),
    CMD_HEADING("A part of a model, from a checkpoint or a .kalm file"),
    CMD_CHOICE("--side", "both|decoder|encoder", options, side, "decoder: for queries to documents that are encoded already; "
               "encoder: to encode documents. Documents fit all parts of a model, and are the same bytes"),
    CMD_TEXT("--vocabulary", "WHAT", options, vocabulary, "keep the tokens that texts can need, so that these are read as before, and "
             "others in smaller pieces. WHAT: scripts by their Unicode names (latin, cyrillic, han ...; ascii), files of texts (a "
             "line each, or JSON Lines), or several of both with commas between them"),
    CMD_NUMBER("--tokens", "N", options, tokens, 1, 1u << 20, "with texts: of the tokens that they need keep the most frequent, so "
               "that N stay in all; those that always stay count"),
    CMD_TEXT("--held-out", "FILE", options, held_out, "with --vocabulary: say how many texts of this file are read as before"),
    CMD_HEADING("Looking at a file"),
    CMD_TEXT("--info", "FILE", options, info, "print shape, sections, sizes and checksums of a .kalm file"),
    CMD_FLAG("--errors", options, errors, "with --info: also each tensor and how much rounding changed it (root mean square, "
             "relative to that of its weights)"),
    CMD_TEXT("--verify", "FILE", options, verify, "read the whole file and compare every section with its checksum")
};

static const cmd_program program = {
    "kalm-quantize",
    "CHECKPOINT_FOLDER OUT.kalm [options]\n"
    "MODEL.kalm OUT.kalm [--side SIDE] [--vocabulary WHAT]\n"
    "--info FILE.kalm [--errors]\n"
    "--verify FILE.kalm",
    "Make one .kalm file from a Hugging Face checkpoint of a T5Gemma2 reranker: config.json, model.safetensors (or its "
    "shards with model.safetensors.index.json; BF16, F16 or F32) and tokenizer.json or tokenizer.model.",
    option_table, sizeof option_table / sizeof *option_table,
    "Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage, 128 + the number of the signal that "
    "interrupted it.",
    NULL
};

/* ---- converting -------------------------------------------------------------------------------------------------- */

static char *folder_name(const char *path)
{
    size_t end = strlen(path), begin;
    char *name;
    while (end > 1 && path[end - 1] == '/') end--;
    begin = end;
    while (begin && path[begin - 1] != '/') begin--;
    name = (char *)cmd_alloc(end - begin + 1);
    memcpy(name, path + begin, end - begin);
    name[end - begin] = 0;
    return name;
}

/* The last id of `word`, as the published code takes the answer tokens. */
static kalm_result answer_id(const kalm__tokenizer *t, const kalm_allocator *alloc, const char *word, uint32_t *id,
                             kalm_error *err)
{
    int32_t ids[16];
    size_t count;
    kalm_result r = kalm__tokenize(t, alloc, NULL, kalm__text(word), 0, ids, 16, &count, err);
    if (r) return r;
    if (!count || count > 16)
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer makes %z tokens of \"%s\", the answer: say --%s-id N", count,
                          word, word);
    *id = (uint32_t)ids[count - 1];
    return KALM_OK;
}

/* The tokenizer's section, from --tokenizer or the checkpoint's folder, and the answer tokens that are not given. */
static kalm_result read_tokenizer(const options *o, kalm__out_section *s, uint32_t *yes, uint32_t *no, kalm_error *err)
{
    static const char *const names[2] = { "tokenizer.json", "tokenizer.model" };
    kalm_allocator alloc;
    kalm__tokenizer t;
    char *path = NULL, *data;
    const char *file = o->tokenizer;
    size_t size, blob_size, i;
    kalm_result r;
    int ok;
    if (file && !strcmp(file, "none")) return KALM_OK;
    for (i = 0; !file && i < 2; i++) {
        path = kalm__join_path(o->input, names[i]);
        if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
        if (kalm__file_exists(path)) file = names[i];
        else free(path), path = NULL;
    }
    if (!file) return KALM_OK;
    alloc = kalm__allocator(NULL, &ok);
    r = kalm__read_expected(path ? path : file, (uint64_t)1 << 30, "a tokenizer", &data, &size, err);
    free(path);
    if (r) return r;
    r = kalm__import_tokenizer(file, data, size, &alloc, &s->data, &blob_size, err);
    free(data);
    if (r) return r;
    s->size = blob_size;
    r = kalm__tokenizer_open(&t, s->data, blob_size, err);
    if (!r && *yes == NO_ID) r = answer_id(&t, &alloc, "yes", yes, err);
    if (!r && *no == NO_ID) r = answer_id(&t, &alloc, "no", no, err);
    return r;
}

#define DEFAULT_SYSTEM \
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. " \
    "Note that the answer can only be \"yes\" or \"no\"."

/* Why q8 is the default for q4 weights as well: measured on the bundled model, 150 queries x 50 candidates, Kendall's tau to f32 and
   mean change of a margin at ratios 4 and 16 (kalm-eval f32.kalm examples/tiny/eval --depth 50 --ratio 4,16 --compare ...):

     weights          table   file      tau            margin         nDCG@10 (f32: .7760 .7230)
     q8               q8      5.39 MB   .9941 .9933    .017 .020      .7733 .7279
     q8               q4      4.60 MB   .9607 .9602    .122 .159      .7747 .7255
     q4               q8      3.94 MB   .9664 .9631    .109 .139      .7709 .7257
     q4               q4      3.15 MB   .9480 .9443    .164 .194      .7701 .7194
     q4 calibrated    q8      3.94 MB   .9761 .9736    .068 .080      .7785 .7257
     q4 calibrated    q4      3.15 MB   .9534 .9521    .136 .163      .7749 .7254

   A q4 table alone, beside f32 weights, has .9607 and .9605: it costs as much as all matrices in q4 do. An error in a row of the
   table enters the residual rows directly and stays in them through all layers. */
static uint32_t default_embedding(uint32_t weights, const kalm__checkpoint *c)
{
    uint32_t has = c->embed[0]->type;
    if (kalm__is_quantised(weights)) return KALM__Q8;
    if (c->embed[1] && c->embed[1]->type != has) has = KALM__F32;
    return has == KALM__F32 ? weights : has;
}

/* One checkpoint on its way into one file. */
typedef struct conversion {
    const options    *o;
    const char       *strings[KALM__STRINGS];
    char             *name;            /* of the folder; owned */
    kalm__out_section sections[KALM__SECTION_KINDS];
    kalm__plan        p;
    kalm__calibration texts;
} conversion;

static void conversion_begin(conversion *c, const options *o)
{
    static const char *const prompt[KALM__STRINGS] = {      /* as the published code has them */
        "", "<Document>: ", "<bos><start_of_turn>user\n", "\n\n<Instruct>: ", "\n<Query>: ",
        "<end_of_turn>\n<start_of_turn>model\n\n\n\n",
        DEFAULT_SYSTEM,
        "Given a query, retrieve documents that answer the query."
    };
    memset(c, 0, sizeof *c);
    c->o = o;
    c->name = folder_name(o->input);
    memcpy(c->strings, prompt, sizeof prompt);
    c->strings[KALM__STRING_NAME] = o->name ? o->name : c->name;
    if (o->system) c->strings[KALM__STRING_SYSTEM] = o->system;
    if (o->instruction) c->strings[KALM__STRING_INSTRUCTION] = o->instruction;
    kalm__checkpoint_begin(&c->p.c);
}

static void conversion_end(conversion *c)
{
    size_t i;
    for (i = 0; i < KALM__SECTION_KINDS; i++) free(c->sections[i].data);
    kalm__calibrate_end(&c->texts);
    free(c->p.items);
    kalm__checkpoint_end(&c->p.c);
    free(c->name);
}

/* The tokenizer and the answer tokens; the checkpoint has been read. */
static kalm_result convert_tokenizer(conversion *c, kalm_error *err)
{
    kalm__shape *m = &c->p.c.shape;
    uint32_t yes = c->o->yes_id, no = c->o->no_id;
    kalm_result r = read_tokenizer(c->o, &c->sections[KALM__SECTION_TOKENIZER], &yes, &no, err);
    if (r) return r;
    if (yes == NO_ID || no == NO_ID)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "%s has no tokenizer: say --yes-id N --no-id N", kalm__shown(c->o->input));
    if (yes >= m->vocabulary || no >= m->vocabulary || yes == no)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "the answer tokens %u and %u must be two ids below %u", yes, no, m->vocabulary);
    m->weights = c->o->weights;
    m->yes_id = c->p.head_id[0] = yes;
    m->no_id = c->p.head_id[1] = no;
    return KALM_OK;
}

/* The texts of --calibrate. */
static kalm_result convert_texts(conversion *c, kalm_error *err)
{
    const kalm__out_section *tokenizer = &c->sections[KALM__SECTION_TOKENIZER];
    unsigned i;
    kalm_result r = kalm__texts_read(&c->texts.texts, c->o->calibrate, err);
    if (r) return r;
    if (!tokenizer->data)
        return kalm__fail(err, KALM_BAD_ARGUMENT, "%s has no tokenizer to read the texts with: --calibrate needs one",
                          kalm__shown(c->o->input));
    c->texts.tokenizer = tokenizer->data;
    c->texts.tokenizer_size = (size_t)tokenizer->size;
    c->texts.strings = c->strings;
    c->texts.kernels = cmd_kernels();     /* for tests: the file is the same */
    for (i = 0; !c->o->quiet && i < 2; i++)
        if (c->p.c.shape.side[i].mlp > KALM__MOMENT_BLOCK)
            fprintf(stderr, "the %lu inputs of %s.down are calibrated in blocks of %d, for the sake of memory\n",
                    (unsigned long)c->p.c.shape.side[i].mlp, i ? "decoder" : "encoder", KALM__MOMENT_BLOCK);
    return KALM_OK;
}

static kalm_result convert(const options *o, cmd_progress *show, kalm_error *err)
{
    conversion c;
    char line[200];
    kalm_error note;
    uint32_t embedding = o->embedding;
    uint64_t size = 0;
    const kalm__shape *m = &c.p.c.shape;
    kalm_result r;
    conversion_begin(&c, o);
    r = kalm__checkpoint_read(&c.p.c, o->input, err);
    if (!r) {
        cmd_progress_stage(show, "tokenizer");
        r = convert_tokenizer(&c, err);
    }
    if (!r && o->calibrate) r = convert_texts(&c, err);
    if (!r) {
        snprintf(line, sizeof line, "%lu tensors in %lu file(s): %lu + %lu layers, hidden %lu, vocabulary %lu",
                 (unsigned long)c.p.c.st.count, (unsigned long)c.p.c.st.shard_count, (unsigned long)m->side[0].layers,
                 (unsigned long)m->side[1].layers, (unsigned long)m->hidden_size, (unsigned long)m->vocabulary);
        cmd_progress_stage(show, line);
        r = kalm__ties_resolve(&c.p.c, err);
    }
    if (!r) {
        if (embedding == KALM__TYPES) embedding = default_embedding(o->weights, &c.p.c);
        r = kalm__plan_make(&c.p, o->weights, embedding, err);
    }
    if (!r) r = kalm__out_section_shape(&c.sections[KALM__SECTION_SHAPE], m, err);
    if (!r) r = kalm__out_section_strings(&c.sections[KALM__SECTION_STRINGS], c.strings, err);
    show->total = c.p.source_bytes;
    kalm__catch_signals();             /* from here on there is a file to remove; before, the command just ends */
#ifdef SIGPIPE
    signal(SIGPIPE, kalm__on_signal);  /* nobody reads what is said: end in order */
#endif
    if (!r) r = kalm__write_file(&c.p, c.sections, o->calibrate && kalm__is_quantised(o->weights) ? &c.texts : NULL, !o->no_rows,
                             o->calibrate ? &c.texts.texts : NULL, o->output, o->threads, show, &size, &note, err);
    cmd_progress_clear(show);
    if (!r && !o->quiet && note.code)
        fprintf(stderr, "%s: without what rows of 4, 3 and 2 bits need: %s\n", o->output, note.text);
    else if (!r && !o->quiet && o->calibrate && !o->no_rows && c.texts.texts.count < KALM__ROWS_FEWEST)
        fprintf(stderr, "%s: rows of 4, 3 and 2 bits are fitted to built-in texts: %lu texts are too few, %lu are enough\n", o->output,
                (unsigned long)c.texts.texts.count, (unsigned long)KALM__ROWS_FEWEST);
    if (!r && !o->quiet) {
        double passed = kalm__now() - show->begun;
        fprintf(stderr, "%s: %.1f MB (weights %s, embedding %s) from %.1f MB in %.1f s\n", o->output, (double)size / 1e6,
                kalm__type_name(o->weights), kalm__type_name(embedding), (double)c.p.source_bytes / 1e6, passed);
    }
    conversion_end(&c);
    return r;
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

/* From the model file `whole` the part of it that is asked for. */
static kalm_result take_part(const options *o, const char *whole, cmd_progress *show, kalm_error *err)
{
    static const uint32_t lacks[3] = { 0, KALM__LACKS_ENCODER, KALM__LACKS_DECODER };
    kalm__part_file t;
    uint64_t size = 0;
    kalm_result r;
    memset(&t, 0, sizeof t);
    t.input = whole;
    t.name = kalm__shown(o->input);
    t.lacks = lacks[o->side];
    kalm__catch_signals();
    r = kalm__part_make(&t, o->vocabulary, o->held_out, o->tokens, o->output, show, &size, err);
    cmd_progress_clear(show);
    if (!r && !o->quiet) {
        fprintf(stderr, "%s: %.1f MB, %.1f MB whole\n", o->output, (double)size / 1e6, (double)t.f->size / 1e6);
        if (o->vocabulary)
            fprintf(stderr, "vocabulary: %lu of %lu tokens stay\n", (unsigned long)t.vocabulary.count,
                    (unsigned long)t.f->shape.vocabulary);
        if (t.vocabulary.texts)
            fprintf(stderr, "%llu of %llu texts%s%s are read as before (%.2f %%)\n", (unsigned long long)t.vocabulary.same,
                    (unsigned long long)t.vocabulary.texts, o->held_out ? " of " : "", o->held_out ? kalm__shown(o->held_out) : "",
                    100.0 * (double)t.vocabulary.same / (double)t.vocabulary.texts);
    }
    kalm__part_end(&t);
    return r;
}

/* A part of a checkpoint: the whole goes into a temporary file first, for the part has its fingerprint. */
static kalm_result convert_part(const options *o, cmd_progress *show, kalm_error *err)
{
    options whole = *o;
    char *path = (char *)malloc(strlen(o->output) + KALM__TEMPORARY_EXTRA + 1);
    kalm_result r;
    if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    kalm__temporary_name(path, o->output, 0);
    whole.output = path;
    whole.quiet = 1;
    kalm__unfinished_add(path);
    r = convert(&whole, show, err);
    if (!r) r = take_part(o, path, show, err);
    kalm__remove_file(path);
    kalm__unfinished_end(path);
    free(path);
    return r;
}

/* ---- looking at a file ------------------------------------------------------------------------------------------ */

/* --info and --verify: the library opens the file, so that all of it has been checked. */
static kalm_result look(const options *o, kalm_error *err)
{
    const char *path = o->info ? o->info : o->verify;
    kalm_model *model;
    kalm_allocator alloc;
    kalm__mapping map;
    kalm__file f;
    int ok;
    kalm_result r = kalm_model_open(path, NULL, &model, err);
    if (r) return r;
    if (o->verify) r = kalm_model_verify(model, err);
    kalm_model_close(model);
    if (!r && o->verify && !o->quiet) printf("%s: all checksums match\n", path);
    if (r || o->verify) return r;
    alloc = kalm__allocator(NULL, &ok);
    r = kalm__map_file(&map, path, KALM_LOAD_MAP, &alloc, err);
    if (r) return r;
    r = kalm__file_open(&f, map.data, map.size, err);
    if (!r) kalm__print_file(path, &f, o->errors);
    kalm__unmap_file(&map, &alloc);
    return r;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

/* The input is a file: its numbers stay as they are. */
static void read_part_options(const options *o, const cmd_args *a)
{
    static const char *const making[] = { "--weights", "--embedding", "--tokenizer", "--yes-id", "--no-id", "--name", "--system",
                                          "--instruction", "--calibrate" };
    size_t i;
    for (i = 0; i < sizeof making / sizeof *making; i++)
        if (cmd_given(a, making[i])) die_usage("%s is for a checkpoint folder; %s is a file", making[i], kalm__shown(o->input));
    if (!o->vocabulary && !o->side) die_usage("%s is a file: --side or --vocabulary says what part of it is wanted", kalm__shown(o->input));
}

static void read_options(options *o, int argc, char **argv)
{
    cmd_args a;
    memset(o, 0, sizeof *o);
    o->weights = KALM__Q8;
    o->embedding = KALM__TYPES;        /* by weights and checkpoint, see default_embedding */
    o->yes_id = o->no_id = NO_ID;
    cmd_parse(&a, &program, o, argc, argv);
    if (!o->threads) o->threads = kalm__cores() < KALM__MAX_THREADS ? kalm__cores() : KALM__MAX_THREADS;
    if (o->info || o->verify) {
        if (a.words || (o->info && o->verify)) die_usage("--info and --verify take one file and no other argument");
    } else {
        if (a.words > 2) die_usage("only a checkpoint folder and an output file can be given");
        if (o->calibrate && o->no_rows && !kalm__is_quantised(o->weights))
            die_usage("--calibrate is for --weights q8 or q4, and for rows of 4, 3 and 2 bits");
        if (a.words < 2) die_usage("a checkpoint folder and an output file are needed");
        o->input = a.word[0];
        o->output = a.word[1];
        if ((o->held_out || o->tokens) && !o->vocabulary) die_usage("--held-out and --tokens go with --vocabulary");
        if (kalm__file_exists(o->input) && !kalm__directory_exists(o->input)) read_part_options(o, &a);
    }
    cmd_args_end(&a);
}

int main(int argc, char **argv)
{
    options o;
    cmd_progress show;
    kalm_error err;
    kalm_result r;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    read_options(&o, argc, argv);
    kalm__no_error(&err);
    cmd_progress_begin(&show, "");
    show.patience = 0;
    show.quiet = o.quiet;
    if (o.info || o.verify) {
        r = look(&o, &err);
        if (!r) cmd_flush();
    } else if (!o.vocabulary && !o.side) r = convert(&o, &show, &err);
    else if (kalm__file_exists(o.input) && !kalm__directory_exists(o.input)) r = take_part(&o, o.input, &show, &err);
    else r = convert_part(&o, &show, &err);
    if (r) say("%s", err.text);
    return r == KALM_CANCELLED ? 128 + (int)kalm__interrupted : r ? EXIT_FAILED : EXIT_OK;
}
