/* golden.c - the golden cases: checkpoints with random weights, and what the reference computes for them.

     golden [-q QUANTIZE] [-k KERNELS] [-w WEIGHTS[,...]] [DIR...]

   Each DIR is a case (it has golden.json) or a folder of cases; default tests/golden and examples/tiny, whose golden.json
   is simpler: instead of "results", a member r4 of a pair has {yes, no, margin, p_yes} at ratio 4, and so on. A case is converted with QUANTIZE
   (default: kalm-quantize of the same build) and computed on every kernel set that this machine has, or on KERNELS.

   f32: every quantity that golden.json has is held to the case's own tolerance: encoder_last_hidden and pooled (as rows
   of documents kept with 32 bits), decoder_last_hidden, logits, margin, probability.
   Other weights: the largest error of a margin is printed and held to the bounds below. One line a case, weights and
   set; the last line counts the comparisons. */
#define KALM__EVEX_VNNI                /* see config.h */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../src/tools/json.h"
#include "test.h"
#include <dirent.h>
#include <sys/stat.h>
#if defined(_WIN32)
#  include <process.h>
#  define getpid _getpid
#  define PROGRAM ".exe"
#else
#  include <unistd.h>
#  define PROGRAM ""
#endif

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

/* Bounds on the root mean square and on the largest error of a margin, in units of the case's own sensitivity: the root
   mean square of what computing in bfloat16 changes, which golden.json tells (margin_bf16_run). Random weights amplify
   rounding, some a hundred times more than others, and q4 is at the edge of what such a model survives: these are alarms
   against a broken kernel, not figures of quality (kalm-eval measures that on a trained model). */
typedef struct bound { const char *weights; double rms, largest; } bound;
static const bound bounds[] = {
    { "f32", 0, 0 },                   /* the case's own tolerance instead */
    { "f16", 0.5, 2 },
    { "bf16", 1.5, 5 },
    { "q8", 12, 40 },
    { "q4", 80, 250 }
};

static const char *quantize = TEST_BUILD "/kalm-quantize" PROGRAM;
static const char *only_kernels, *only_weights;

/* ---- the case ---------------------------------------------------------------------------------------------------- */

typedef struct golden {
    const char *name, *dir;
    void       *text;                  /* what the nodes of json point into */
    kalm__json  json;
    uint32_t    pairs;                 /* node of the array */
    double      tolerance_hidden, tolerance_pooled, tolerance_decoder, tolerance_logit, tolerance_margin, tolerance_probability;
    uint64_t    yes_id, no_id;
    double      rms_margin;            /* of all results, expected */
    double      sensitivity;           /* root mean square of margin_bf16_run - margin */
    size_t      results;
    uint32_t    longest_document, longest_prompt;
} golden;

static uint32_t get(const golden *g, uint32_t node, const char *key)
{
    return node ? kalm__json_get(&g->json, node, key) : kalm__json_get(&g->json, 0, key);
}

#define NOT_A_NUMBER ((double)NAN)
static double number(const golden *g, uint32_t node, const char *key, double otherwise)
{
    double v;
    return kalm__json_double(&g->json, get(g, node, key), &v) ? v : otherwise;
}

/* An array of numbers; *count how many. To be freed; NULL when node is no array. */
static double *numbers(const golden *g, uint32_t node, size_t *count)
{
    const kalm__json_node *n = g->json.nodes;
    double *v;
    uint32_t i;
    *count = 0;
    if (!node || kalm__json_type(&g->json, node) != KALM__JSON_ARRAY) return NULL;
    v = (double *)malloc((n[node].size + 1) * sizeof *v);
    for (i = node + 1; i < n[node].next; i = n[i].next)
        if (!kalm__json_double(&g->json, i, &v[(*count)++])) {
            free(v);
            *count = 0;
            return NULL;
        }
    return v;
}

static int32_t *ids(const golden *g, uint32_t node, kalm_ids *out)
{
    size_t count, i;
    double *v = numbers(g, node, &count);
    int32_t *id = (int32_t *)malloc((count + 1) * sizeof *id);
    for (i = 0; i < count; i++) id[i] = (int32_t)v[i];
    free(v);
    out->data = id;
    out->count = count;
    return id;
}

/* For each element e of an array: for (EACH(g, array, e)) */
#define EACH(g, array, e) (e) = (array) + 1; (e) < (g)->json.nodes[array].next; (e) = (g)->json.nodes[e].next

typedef struct outcome { uint32_t ratio, node; } outcome;
enum { MAX_RESULTS = 256 };

/* The results of a pair, in either form. */
static size_t results_of(const golden *g, uint32_t pair, outcome *out)
{
    const kalm__json_node *n = g->json.nodes;
    uint32_t list = get(g, pair, "results"), at;
    size_t count = 0;
    if (list) {
        for (EACH(g, list, at)) {
            double chunk = number(g, at, "chunk_size", 0);         /* null: no pooling */
            if (count == MAX_RESULTS) break;
            out[count].ratio = chunk > 0 ? (uint32_t)chunk : 1;
            out[count++].node = at;
        }
        return count;
    }
    for (at = pair + 1; at < n[pair].next; at = n[at + 1].next) {
        kalm_text key = kalm__json_text(&g->json, at);
        if (key.size < 2 || key.data[0] != 'r' || key.data[1] < '1' || key.data[1] > '9' || count == MAX_RESULTS) continue;
        out[count].ratio = (uint32_t)strtoul(key.data + 1, NULL, 10);
        out[count++].node = at + 1;
    }
    return count;
}

/* Paths longer than that are no test's. */
enum { PATH_ROOM = 4096 };
static const char *join(char *path, const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    if (a + b + 2 > PATH_ROOM) {
        fprintf(stderr, "%s: too long\n", folder);
        exit(EXIT_FAILURE);
    }
    memcpy(path, folder, a);
    path[a] = '/';
    memcpy(path + a + 1, name, b + 1);
    return path;
}

static int golden_open(golden *g, const char *dir, const char *name)
{
    char path[PATH_ROOM];
    unsigned char *text;
    size_t size;
    uint32_t t, pair;
    size_t i, count;
    outcome list[MAX_RESULTS];
    kalm_error err;
    kalm_allocator allocator;
    int ok;
    memset(g, 0, sizeof *g);
    g->name = name;
    g->dir = dir;
    allocator = kalm__allocator(NULL, &ok);
    kalm__json_begin(&g->json, &allocator);
    join(path, dir, "golden.json");
    text = test_read_file(path, &size);
    g->text = text;
    if (!CHECKF(text != NULL, "%s: cannot be read", path)) return 0;
    if (!CHECKF(kalm__json_parse(&g->json, path, (const char *)text, size, &err) == KALM_OK, "%s", err.text)) return 0;
    t = get(g, 0, "tolerance_f32");
    /* Where the file suggests no limits: those of a margin of about 1 in single precision. */
    g->tolerance_hidden = number(g, t, "encoder_last_hidden", 1e-3);
    g->tolerance_pooled = number(g, t, "pooled", g->tolerance_hidden);
    g->tolerance_decoder = number(g, t, "decoder_last_hidden", 1e-3);
    g->tolerance_logit = number(g, t, "logit", 2e-4);
    g->tolerance_margin = number(g, t, "margin", 2e-4);
    g->tolerance_probability = number(g, t, "probability", 1e-4);
    g->pairs = get(g, 0, "pairs");
    if (!CHECKF(g->pairs && kalm__json_uint(&g->json, get(g, 0, "yes_id"), &g->yes_id)
                && kalm__json_uint(&g->json, get(g, 0, "no_id"), &g->no_id), "%s lacks pairs, yes_id or no_id", path)) return 0;
    for (EACH(g, g->pairs, pair)) {
        g->longest_document = (uint32_t)kalm__max(g->longest_document, g->json.nodes[get(g, pair, "encoder_ids")].size);
        g->longest_prompt = (uint32_t)kalm__max(g->longest_prompt, g->json.nodes[get(g, pair, "decoder_ids")].size);
        count = results_of(g, pair, list);
        for (i = 0; i < count; i++) {
            double margin = number(g, list[i].node, "margin", 0);
            double rough = number(g, list[i].node, "margin_bf16_run", margin + (get(g, pair, "results") ? 0.03 : 0.005) * fabs(margin));
            g->rms_margin += margin * margin;
            g->sensitivity += (rough - margin) * (rough - margin);
            g->results++;
        }
    }
    if (!CHECKF(g->results > 0, "%s has no results", path)) return 0;
    g->rms_margin = sqrt(g->rms_margin / (double)g->results);
    g->sensitivity = sqrt(g->sensitivity / (double)g->results);
    return 1;
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

typedef struct errors {
    double hidden, pooled, decoder, logit, margin, probability, margin_squares;
    size_t margins;
} errors;

static void largest(double *into, double error)
{
    if (!(error <= *into)) *into = error;              /* a NaN stays */
}

/* The rows of a document kept with 32 bits against {rows: [...], values: [[...], ...]}. */
static void compare_rows(const golden *g, uint32_t expected, const float *rows, size_t count, size_t width, double *worst,
                         double tolerance, const char *what)
{
    size_t n, k, i = 0;
    double *which = numbers(g, get(g, expected, "rows"), &n);
    uint32_t values = get(g, expected, "values"), row;
    if (!which || !values) {
        free(which);
        return;
    }
    for (EACH(g, values, row)) {
        size_t floats;
        double *v = numbers(g, row, &floats), error = 0;
        size_t at = i < n ? (size_t)which[i] : 0;
        if (CHECKF(i < n && at < count && floats == width, "%s: %s has %lu rows of %lu", g->name, what, (unsigned long)count,
                   (unsigned long)width)) {
            for (k = 0; k < width; k++) largest(&error, fabs((double)rows[at * width + k] - v[k]));
            CHECKF(error <= tolerance, "%s: %s row %lu is off by %.3g, allowed are %.3g", g->name, what, (unsigned long)at,
                   error, tolerance);
            largest(worst, error);
        }
        free(v);
        i++;
    }
    free(which);
}

static void compare(double *worst, double got, double expected, double tolerance, const golden *g, const char *pair,
                    uint32_t ratio, const char *what)
{
    double error = fabs(got - expected);
    CHECKF(error <= tolerance, "%s %s ratio %u: %s is %.9g, expected %.9g, allowed %.3g", g->name, pair, (unsigned)ratio, what,
           got, expected, tolerance);
    largest(worst, error);
}

/* The rows of a document, [rows][width]; to be freed. */
static float *doc_rows(const kalm_doc *doc, const kalm_doc_info *di)
{
    float *rows = (float *)malloc((size_t)di->rows * di->width * sizeof *rows);
    size_t i;
    for (i = 0; i < di->rows; i++) kalm__doc_read_row(doc, i, rows + i * di->width);
    return rows;
}

/* ---- one case, one file, one kernel set ---------------------------------------------------------------------------- */

/* Long: the stages of one forward pass, in their order, each compared with the golden values of that stage. */
static void run_set(const golden *g, const kalm_model *model, const char *weights, const char *set, const bound *limit)
{
    kalm_context *ctx = NULL;
    kalm_config config;
    kalm_params params;
    kalm_error err;
    kalm_model_info info;
    errors e;
    uint32_t pair;
    outcome list[MAX_RESULTS];
    size_t at, count;
    int exact = limit->rms <= 0;
    unsigned long failed = test__failed;
    double rms;
    memset(&e, 0, sizeof e);
    memset(&config, 0, sizeof config);
    memset(&params, 0, sizeof params);
    config.kernels = set;
    config.threads = 2;
    config.max_doc_tokens = g->longest_document;
    config.max_query_tokens = g->longest_prompt;
    kalm_model_get_info(model, &info);
    if (!CHECKF(kalm_context_new(model, &config, &ctx, &err) == KALM_OK, "%s %s: %s", g->name, set, err.text)) return;
    for (EACH(g, g->pairs, pair)) {
        kalm_ids document, prompt;
        int32_t *document_ids = ids(g, get(g, pair, "encoder_ids"), &document);
        int32_t *prompt_ids = ids(g, get(g, pair, "decoder_ids"), &prompt);
        uint32_t hidden = get(g, pair, "encoder_last_hidden"), named = get(g, pair, "name");
        kalm_text name_text = kalm__json_text(&g->json, named ? named : get(g, pair, "doc_id"));
        char name[40];
        snprintf(name, sizeof name, "%.*s", (int)kalm__min(name_text.size, 39), name_text.data ? name_text.data : "");
        count = results_of(g, pair, list);
        for (at = 0; at < count; at++) {
            uint32_t ratio = list[at].ratio, result = list[at].node;
            kalm_doc *doc = NULL;
            kalm_doc_info di;
            kalm_score score;
            float *rows;
            params.ratio = ratio;
            params.bits = 32;
            if (!CHECKF(kalm_encode_ids(ctx, &document, 1, &params, &doc, &err) == KALM_OK, "%s %s: %s", g->name, name, err.text))
                continue;
            kalm_doc_get_info(doc, &di);
            CHECKF(di.rows == (uint32_t)number(g, result, "pooled_rows", di.rows) && di.tokens == document.count
                   && di.tokens_used == document.count && di.width == info.width, "%s %s: %u rows of %u tokens", g->name, name,
                   (unsigned)di.rows, (unsigned)di.tokens);
            if (exact) {
                rows = doc_rows(doc, &di);
                if (ratio == 1 && hidden)
                    compare_rows(g, hidden, rows, di.rows, di.width, &e.hidden, g->tolerance_hidden, "encoder_last_hidden");
                if (get(g, result, "pooled"))
                    compare_rows(g, get(g, result, "pooled"), rows, di.rows, di.width, &e.pooled, g->tolerance_pooled, "pooled");
                free(rows);
            }
            if (CHECKF(kalm_rerank_ids(ctx, prompt, (const kalm_doc *const *)&doc, 1, &params, &score, &err) == KALM_OK,
                       "%s %s: %s", g->name, name, err.text)) {
                double margin = number(g, result, "margin", NOT_A_NUMBER), error = fabs((double)score.margin - margin);
                if (exact) {
                    size_t n, k;
                    double *expected = numbers(g, get(g, result, "decoder_last_hidden"), &n);
                    float *last = (float *)malloc(info.width * sizeof *last), logit[2];
                    kalm_score same;
                    /* the residual stream of the last token is the context's first row after a call with one document */
                    kalm__read_logits(ctx, ctx->memory.x, last, &logit[0], &logit[1]);
                    kalm__read_margin(ctx, ctx->memory.x, last, &same);
                    CHECKF(same.margin == score.margin, "%s %s: the last row gives %g", g->name, name, (double)same.margin);
                    if (expected && CHECKF(n == info.width, "%s: decoder_last_hidden has %lu numbers", g->name, (unsigned long)n)) {
                        double worst = 0;
                        for (k = 0; k < n; k++) largest(&worst, fabs((double)last[k] - expected[k]));
                        CHECKF(worst <= g->tolerance_decoder, "%s %s ratio %u: decoder_last_hidden is off by %.3g, allowed are %.3g",
                               g->name, name, (unsigned)ratio, worst, g->tolerance_decoder);
                        largest(&e.decoder, worst);
                    }
                    for (k = 0; k < 4; k++) {
                        static const char *const keys[4] = { "yes_logit", "no_logit", "yes", "no" };
                        if (get(g, result, keys[k]))
                            compare(&e.logit, (double)logit[k % 2], number(g, result, keys[k], NOT_A_NUMBER), g->tolerance_logit, g,
                                    name, ratio, keys[k]);
                    }
                    free(last);
                    free(expected);
                    compare(&e.margin, (double)score.margin, margin, g->tolerance_margin, g, name, ratio, "margin");
                    for (k = 0; k < 2; k++) {
                        static const char *const keys[2] = { "probability", "p_yes" };
                        if (get(g, result, keys[k]))
                            compare(&e.probability, (double)score.score, number(g, result, keys[k], NOT_A_NUMBER),
                                    g->tolerance_probability, g, name, ratio, keys[k]);
                    }
                } else {
                    CHECKF(error <= limit->largest * g->sensitivity, "%s %s %s ratio %u: margin is %.6g, expected %.6g", g->name, weights,
                           name, (unsigned)ratio, (double)score.margin, margin);
                    largest(&e.margin, error);
                }
                e.margin_squares += error * error;
                e.margins++;
            }
            kalm_doc_free(doc);
        }
        free(document_ids);
        free(prompt_ids);
    }
    kalm_context_free(ctx);
    rms = e.margins ? sqrt(e.margin_squares / (double)e.margins) : 0;
    if (exact) {
        printf("%-12s %-4s %-12s %3lu results  encoder %.1e  pooled %.1e  decoder %.1e  logit %.1e  margin %.1e of %.0e  P %.1e", g->name,
               weights, set, (unsigned long)e.margins, e.hidden, e.pooled, e.decoder, e.logit, e.margin, g->tolerance_margin,
               e.probability);
    } else {
        CHECKF(rms <= limit->rms * g->sensitivity, "%s %s: margins are off by %.3g (root mean square), allowed %.3g", g->name, weights,
               rms, limit->rms * g->sensitivity);
        printf("%-12s %-4s %-12s %3lu results  margin error: rms %.1e of %.1e, largest %.1e (margins: rms %.2f)", g->name, weights,
               set, (unsigned long)e.margins, rms, limit->rms * g->sensitivity, e.margin, g->rms_margin);
    }
    puts(test__failed == failed ? "  ok" : "  FAILED");
    fflush(stdout);
}

/* ---- conversion -------------------------------------------------------------------------------------------------- */

/* Windows: in double quotes, which paths cannot hold; its shell takes one pair around the whole away. */
static void run_shell(char *command, size_t room, const char *word)
{
    size_t n = strlen(command);
#if defined(_WIN32)
    if (n + strlen(word) + 4 < room) sprintf(command + n, "%s\"%s\"", n ? " " : "\"", word);
    return;
#endif
    if (n + 2 < room) command[n++] = ' ', command[n++] = '\'';
    for (; *word && n + 8 < room; word++) {
        if (*word == '\'') memcpy(command + n, "'\\''", 4), n += 4;
        else command[n++] = *word;
    }
    if (n + 2 < room) command[n++] = '\'';
    command[n] = 0;
}

static void run_case(const char *dir, const char *name)
{
    golden g;
    size_t w;
    if (!golden_open(&g, dir, name)) return;
    for (w = 0; w < sizeof bounds / sizeof bounds[0]; w++) {
        char command[16384] = "", path[1024], log[1100], id[32];
        const char *set;
        kalm_model *model = NULL;
        kalm_error err;
        size_t i;
        int status;
        if (only_weights) {
            const char *at = strstr(only_weights, bounds[w].weights);
            size_t n = strlen(bounds[w].weights);
            while (at && ((at > only_weights && at[-1] != ',') || (at[n] && at[n] != ','))) at = strstr(at + 1, bounds[w].weights);
            if (!at) continue;
        }
        snprintf(path, sizeof path, "%s/tmp/golden-%lu-%s.kalm", TEST_BUILD, (unsigned long)getpid(), bounds[w].weights);
        snprintf(log, sizeof log, "%s.log", path);
        run_shell(command, sizeof command, quantize);
        run_shell(command, sizeof command, dir);
        run_shell(command, sizeof command, path);
        run_shell(command, sizeof command, "--no-rows");       /* two seconds, and nothing here reads them */
        run_shell(command, sizeof command, "--weights");
        run_shell(command, sizeof command, bounds[w].weights);
        run_shell(command, sizeof command, "--embedding");
        run_shell(command, sizeof command, bounds[w].weights);
        run_shell(command, sizeof command, "--yes-id");
        snprintf(id, sizeof id, "%lu", (unsigned long)g.yes_id);
        run_shell(command, sizeof command, id);
        run_shell(command, sizeof command, "--no-id");
        snprintf(id, sizeof id, "%lu", (unsigned long)g.no_id);
        run_shell(command, sizeof command, id);
        strcat(command, " >");
        run_shell(command, sizeof command, log);
        strcat(command, " 2>&1");
#if defined(_WIN32)
        strcat(command, "\"");
#endif
        status = system(command);
        if (!CHECKF(status == 0, "%s: the converter failed: %s", name, command)) {
            unsigned char *said = test_read_file(log, NULL);
            fprintf(stderr, "%s", said ? (char *)said : "");
            free(said);
            remove(log);
            continue;
        }
        if (CHECKF(kalm_model_open(path, NULL, &model, &err) == KALM_OK, "%s: %s", name, err.text)) {
            CHECKF(kalm_model_verify(model, &err) == KALM_OK, "%s: %s", name, err.text);
            if (only_kernels) run_set(&g, model, bounds[w].weights, only_kernels, &bounds[w]);
            else
                for (i = 0; (set = kalm_kernels(i)) != NULL; i++) {
                    const char *type = bounds[w].weights;
                    if (!strcmp(set, "avx512bf16") && strcmp(type, "bf16")) continue;      /* it has products of its own for bf16 alone */
                    /* plain C is twenty times as slow: of the trained model it does two types, of the small ones all */
                    if (!strcmp(set, "scalar") && i && !strcmp(name, "tiny") && strcmp(type, "f32") && strcmp(type, "q8")) continue;
                    run_set(&g, model, type, set, &bounds[w]);
                }
            kalm_model_close(model);
        }
        remove(path);
        remove(log);
    }
    kalm__json_end(&g.json);
    free(g.text);
}

static int has_golden(const char *dir)
{
    char path[PATH_ROOM];
    struct stat st;
    return stat(join(path, dir, "golden.json"), &st) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void run_folder(const char *dir)
{
    char *names[1024];
    size_t count = 0, i, ran = 0;
    const char *name = strrchr(dir, '/');
    struct dirent *entry;
    DIR *d;
    if (has_golden(dir)) {
        run_case(dir, name && name[1] ? name + 1 : dir);
        return;
    }
    d = opendir(dir);
    if (!CHECKF(d != NULL, "%s: cannot be opened", dir)) return;
    while ((entry = readdir(d)) != NULL && count < 1024) {
        if (entry->d_name[0] == '.') continue;
        names[count] = (char *)malloc(strlen(entry->d_name) + 1);
        strcpy(names[count++], entry->d_name);
    }
    closedir(d);
    qsort(names, count, sizeof *names, by_name);
    for (i = 0; i < count; i++) {
        char path[PATH_ROOM];
        if (has_golden(join(path, dir, names[i]))) {
            run_case(path, names[i]);
            ran++;
        }
        free(names[i]);
    }
    CHECKF(ran > 0, "%s: there is no case in it", dir);
}

int main(int argc, char **argv)
{
    int i, given = 0;
    for (i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-q") == 0 && i + 1 < argc) quantize = argv[++i];
        else if (strcmp(argv[i], "-k") == 0 && i + 1 < argc) only_kernels = argv[++i];
        else if (strcmp(argv[i], "-w") == 0 && i + 1 < argc) only_weights = argv[++i];
        else given++;
    }
    if (!given) {
        run_folder("tests/golden");
        run_folder("examples/tiny");
    }
    for (i = 1; i < argc; i++) {
        if (argv[i][0] == '-' && argv[i][1] && !argv[i][2]) i++;
        else run_folder(argv[i]);
    }
    return test_end();
}
