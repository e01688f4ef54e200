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
#include "../src/kalm_rerank_in.h"
#include "checkpoint.h"
#include "ties.h"
#include "plan.h"
#include "stream.h"
#include "calibrate.h"
#include "../src/tools/texts.h"
#include "container.h"
#include "info.h"
#include "../src/tools/progress.h"
#include "../tokenizer/import.h"
#include <stdio.h>
#include <stdlib.h>

static const char usage[] =
    "usage: kalm-quantize CHECKPOINT_FOLDER OUT.kalm [options]\n"
    "       kalm-quantize --info FILE.kalm [--errors]\n"
    "       kalm-quantize --verify FILE.kalm\n"
    "\n"
    "Makes one .kalm file from a Hugging Face checkpoint of a T5Gemma2 reranker: config.json, model.safetensors (or its\n"
    "shards with model.safetensors.index.json; BF16, F16 or F32) and tokenizer.json or tokenizer.model.\n"
    "\n"
    "  --weights TYPE      of the matrices: f32, f16, bf16, q8 (default) or q4\n"
    "  --embedding TYPE    of the embedding table: default q8 for q8 and q4 weights (it changes a row by half a percent,\n"
    "                      less than either does to the matrices, and the table is most of a small file), else the type\n"
    "                      it has in the checkpoint, which loses nothing, but f32 only for f32 weights\n"
    "  --tokenizer FILE    default: tokenizer.json in the folder, else tokenizer.model; 'none': token ids only\n"
    "  --yes-id N --no-id N   the answer tokens; default: the last tokens of \"yes\" and \"no\"\n"
    "  --name TEXT         the name the file carries; default: that of the folder\n"
    "  --system TEXT       the system sentence of the prompt, and\n"
    "  --instruction TEXT  the instruction used where the user of the library gives none\n"
    "  --calibrate FILE    for q4 and q8: texts like those that will be ranked, one a line, or query<TAB>text, or JSON Lines\n"
    "                      with \"text\" and perhaps \"query\". Up to 256 are run through the model, and weights are rounded\n"
    "                      so that what the matrices make of them changes least\n"
    "  --threads N         default: one per core\n"
    "  --quiet             print errors only\n"
    "\n"
    "  --info FILE         print shape, sections, sizes and checksums of a .kalm file; with --errors also each tensor\n"
    "                      and how much rounding changed it (root mean square, relative to that of its weights)\n"
    "  --verify FILE       read the whole file and compare every section with its checksum\n";

typedef struct options {
    const char *input, *output, *info, *verify, *tokenizer, *name, *system, *instruction, *calibrate;
    uint32_t    weights, embedding, yes_id, no_id, threads;
    int         errors, quiet;
} options;

enum { NO_ID = 0x7fffffff };

static int complain(const char *text)
{
    fprintf(stderr, "kalm-quantize: %s\n", text);
    return 1;
}

/* ---- converting -------------------------------------------------------------------------------------------------- */

static char *folder_name(const char *path)
{
    size_t end = strlen(path), begin;
    char *name;
    while (end > 1 && path[end - 1] == '/') end--;
    begin = end;
    while (begin && path[begin - 1] != '/') begin--;
    name = (char *)malloc(end - begin + 1);
    if (!name) return NULL;
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
    r = kalm__read_whole(path ? path : file, (uint64_t)1 << 30, &data, &size, err);
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

static uint32_t default_embedding(uint32_t weights, const kalm__checkpoint *c)
{
    uint32_t has = c->embed[0]->type;
    if (kalm__is_quantised(weights)) return KALM__Q8;
    if (c->embed[1] && c->embed[1]->type != has) has = KALM__F32;
    return has == KALM__F32 ? weights : has;
}

static kalm_result convert(const options *o, kalm__bar *show, kalm_error *err)
{
    static const char *const prompt[KALM__STRINGS] = {      /* as the published code has them */
        "", "<Document>: ", "<bos><start_of_turn>user\n", "\n\n<Instruct>: ", "\n<Query>: ",
        "<end_of_turn>\n<start_of_turn>model\n\n\n\n",
        DEFAULT_SYSTEM,
        "Given a query, retrieve documents that answer the query."
    };
    const char *strings[KALM__STRINGS];
    kalm__out_section sections[KALM__SECTION_KINDS];
    kalm__plan p;
    kalm__calibration texts;
    char *name = folder_name(o->input), line[200];
    uint32_t embedding = o->embedding;
    uint64_t size = 0;
    size_t i;
    kalm_result r;
    memset(&p, 0, sizeof p);
    memset(&texts, 0, sizeof texts);
    memset(sections, 0, sizeof sections);
    memcpy(strings, prompt, sizeof strings);
    strings[KALM__STRING_NAME] = o->name ? o->name : name ? name : "";
    if (o->system) strings[KALM__STRING_SYSTEM] = o->system;
    if (o->instruction) strings[KALM__STRING_INSTRUCTION] = o->instruction;
    kalm__checkpoint_begin(&p.c);
    r = kalm__checkpoint_read(&p.c, o->input, err);
    if (!r) {
        uint32_t yes = o->yes_id, no = o->no_id;
        kalm__bar_step(show, "tokenizer");
        r = read_tokenizer(o, &sections[KALM__SECTION_TOKENIZER], &yes, &no, err);
        if (r) {
        } else if (yes == NO_ID || no == NO_ID)
            r = kalm__fail(err, KALM_BAD_ARGUMENT, "%s has no tokenizer: say --yes-id N --no-id N", kalm__shown(o->input));
        else if (yes >= p.c.shape.vocabulary || no >= p.c.shape.vocabulary || yes == no)
            r = kalm__fail(err, KALM_BAD_ARGUMENT, "the answer tokens %u and %u must be two ids below %u", yes, no,
                           p.c.shape.vocabulary);
        p.c.shape.weights = o->weights;
        p.c.shape.yes_id = p.head_id[0] = yes;
        p.c.shape.no_id = p.head_id[1] = no;
    }
    if (!r && o->calibrate) {
        r = kalm__texts_read(&texts.texts, o->calibrate, err);
        if (!r && !sections[KALM__SECTION_TOKENIZER].data)
            r = kalm__fail(err, KALM_BAD_ARGUMENT, "%s has no tokenizer to read the texts with: --calibrate needs one",
                           kalm__shown(o->input));
        texts.tokenizer = sections[KALM__SECTION_TOKENIZER].data;
        texts.tokenizer_size = (size_t)sections[KALM__SECTION_TOKENIZER].size;
        texts.strings = strings;
        texts.kernels = getenv("KALM_KERNELS");        /* for tests: the file is the same */
        for (i = 0; !r && !o->quiet && i < 2; i++)
            if (p.c.shape.side[i].mlp > KALM__MOMENT_BLOCK)
                fprintf(stderr, "the %lu inputs of %s.down are calibrated in blocks of %d, for the sake of memory\n",
                        (unsigned long)p.c.shape.side[i].mlp, i ? "decoder" : "encoder", KALM__MOMENT_BLOCK);
    }
    if (!r) {
        snprintf(line, sizeof line, "%lu tensors in %lu file(s): %lu + %lu layers, hidden %lu, vocabulary %lu",
                 (unsigned long)p.c.st.count, (unsigned long)p.c.st.shard_count, (unsigned long)p.c.shape.side[0].layers,
                 (unsigned long)p.c.shape.side[1].layers, (unsigned long)p.c.shape.hidden_size,
                 (unsigned long)p.c.shape.vocabulary);
        kalm__bar_step(show, line);
    }
    if (!r) r = kalm__ties_resolve(&p.c, err);
    if (!r) {
        if (embedding == KALM__TYPES) embedding = default_embedding(o->weights, &p.c);
        r = kalm__plan_make(&p, o->weights, embedding, err);
    }
    if (!r) r = kalm__out_section_shape(&sections[KALM__SECTION_SHAPE], &p.c.shape, err);
    if (!r) r = kalm__out_section_strings(&sections[KALM__SECTION_STRINGS], strings, err);
    show->total = p.source_bytes;
    if (!r) r = kalm__write_file(&p, sections, o->calibrate ? &texts : NULL, o->output, o->threads, show, &size, err);
    kalm__bar_clear(show);
    if (!r && !o->quiet) {
        double passed = kalm__now() - show->begun;
        fprintf(stderr, "%s: %.1f MB (weights %s, embedding %s) from %.1f MB in %.1f s\n", o->output, (double)size / 1e6,
                kalm__type_name(o->weights), kalm__type_name(embedding), (double)p.source_bytes / 1e6, passed);
    }
    for (i = 0; i < KALM__SECTION_KINDS; i++) free(sections[i].data);
    kalm__calibrate_end(&texts);
    free(p.items);
    kalm__checkpoint_end(&p.c);
    free(name);
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
    r = kalm__map_file(&map, path, &alloc, err);
    if (r) return r;
    r = kalm__file_open(&f, map.data, map.size, err);
    if (!r) kalm__print_file(path, &f, o->errors);
    kalm__unmap_file(&map, &alloc);
    return r;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static int parse_type(const char *text, uint32_t *type)
{
    for (*type = 0; *type < KALM__TYPES; ++*type)
        if (!strcmp(text, kalm__type_name(*type))) return 1;
    return 0;
}

static int parse_number(const char *text, uint32_t most, uint32_t *n)
{
    unsigned long long v = 0;
    const char *c = text;
    for (; *c >= '0' && *c <= '9' && v <= most; c++) v = v * 10 + (unsigned)(*c - '0');
    *n = (uint32_t)v;
    return c != text && !*c && v <= most;
}

static int parse_options(options *o, int argc, char **argv)
{
    static const char *const valued[] = { "--weights", "--embedding", "--tokenizer", "--yes-id", "--no-id", "--name",
                                          "--system", "--instruction", "--threads", "--info", "--verify", "--calibrate" };
    char text[200];
    int i, plain = 0, embedding = 0;
    size_t k;
    memset(o, 0, sizeof *o);
    o->weights = KALM__Q8;
    o->yes_id = o->no_id = NO_ID;
    for (i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        int good = 1;
        if (!strcmp(a, "--errors")) o->errors = 1;
        else if (!strcmp(a, "--quiet")) o->quiet = 1;
        else if (!strcmp(a, "--") && !plain) plain = 1;
        else if (plain != 1 && a[0] == '-' && a[1]) {
            for (k = 0; k < sizeof valued / sizeof *valued && strcmp(a, valued[k]); k++) {}
            if (k == sizeof valued / sizeof *valued) {
                snprintf(text, sizeof text, "unknown option %.100s; see --help", a);
                return complain(text);
            }
            if (!v) {
                snprintf(text, sizeof text, "%s needs a value; see --help", a);
                return complain(text);
            }
            i++;
            switch (k) {
            case 0: good = parse_type(v, &o->weights); break;
            case 1: good = embedding = parse_type(v, &o->embedding); break;
            case 2: o->tokenizer = v; break;
            case 3: good = parse_number(v, NO_ID - 1, &o->yes_id); break;
            case 4: good = parse_number(v, NO_ID - 1, &o->no_id); break;
            case 5: o->name = v; break;
            case 6: o->system = v; break;
            case 7: o->instruction = v; break;
            case 8: good = parse_number(v, KALM__MAX_THREADS, &o->threads) && o->threads; break;
            case 9: o->info = v; break;
            case 10: o->verify = v; break;
            default: o->calibrate = v; break;
            }
            if (!good) {
                snprintf(text, sizeof text, "%s cannot be %.100s; see --help", a, v);
                return complain(text);
            }
        } else if (!o->input) o->input = a;
        else if (!o->output) o->output = a;
        else return complain("more than a folder and a file; see --help");
    }
    if (!embedding) o->embedding = KALM__TYPES;    /* by weights and checkpoint, see default_embedding */
    if (!o->threads) o->threads = kalm__cores() < KALM__MAX_THREADS ? kalm__cores() : KALM__MAX_THREADS;
    if (o->info || o->verify) {
        if (o->input || (o->info && o->verify)) return complain("--info and --verify take one file and nothing else");
        return 0;
    }
    if (o->calibrate && !kalm__is_quantised(o->weights)) return complain("--calibrate is for --weights q8 or q4");
    if (!o->input || !o->output) return complain("a checkpoint folder and an output file are needed; see --help");
    return 0;
}

int main(int argc, char **argv)
{
    options o;
    kalm__bar show;
    kalm_error err;
    kalm_result r;
    int i;
    kalm__utf8_arguments(&argc, &argv);
    for (i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(usage, stdout);
            return 0;
        }
    if (parse_options(&o, argc, argv)) return 2;
    kalm__no_error(&err);
    memset(&show, 0, sizeof show);
    show.begun = kalm__now();
    show.width = o.quiet ? 0 : kalm__terminal_width();
    show.quiet = o.quiet;
    kalm__catch_signals();
    r = o.info || o.verify ? look(&o, &err) : convert(&o, &show, &err);
    if (r) complain(err.text);
    return r == KALM_CANCELLED ? 128 + (int)kalm__interrupted : r ? 1 : 0;
}
