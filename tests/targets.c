/* targets.c - what every target must agree on, small enough for an emulator: the integer sums of every kernel set on
   seeded matrices, and the tiny model's margins for a handful of queries. Prints one line for each number; targets.sh
   compares them with the scalar set of the machine that builds. No judge itself, except of what has no answer but one.

     targets sums                                  "sums SET TYPE CHECKSUM"
     targets rank MODEL.kalm QUERIES.tsv [SET]     "margin SET QUERY DOCUMENT MARGIN"; all queries on the best set (or SET),
                                                   the first OTHERS on each other set
     targets rows MODEL.kalm QUERIES.tsv [SET]     "rows SET BITS DOCUMENT CHECKSUM MARGIN": the first query's documents kept with 4, 3 and 2
                                                   bits a number, a checksum of their bytes, and how they rank
     targets refuse MODEL.kalm                     exit 0 when the model is refused, with the sentence on a line
     targets info                                  "info POINTER-BITS BYTE-ORDER SETS" */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include <stdio.h>
#include <stdlib.h>

/* The whole file in memory, at a multiple of 64 bytes; never given back. */
static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    unsigned char *data;
    long n;
    if (!f || fseek(f, 0, SEEK_END) || (n = ftell(f)) < 0 || fseek(f, 0, SEEK_SET)) {
        fprintf(stderr, "targets: cannot read %s\n", path);
        exit(1);
    }
    data = (unsigned char *)malloc((size_t)n + 65);
    if (data) data += 64 - ((uintptr_t)data & 63);
    if (!data || fread(data, 1, (size_t)n, f) != (size_t)n) {
        fprintf(stderr, "targets: cannot read %s to its end\n", path);
        exit(1);
    }
    data[n] = 0;
    fclose(f);
    *size = (size_t)n;
    return data;
}

/* ---- integer sums ------------------------------------------------------------------------------------------------ */

static uint64_t state;
static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

enum { ROWS = 21, COLS = 352, OUTPUTS = 81, PANELS = (OUTPUTS + 15) / 16 };

/* Scales are 1 and every row holds a 127, so that a result is its integer sum times 127 * (1 / 127), one rounding away:
   divided and rounded it is the sum again, whatever the target's floats are. Sums stay below 2^23. */
static void print_sums(void)
{
    static unsigned char panel_room[PANELS * 16 * (COLS + 64) + 64];
    static float x[ROWS * COLS], y[ROWS * OUTPUTS], scale[PANELS * 16];
    static int32_t sum[PANELS * 16];
    static const char *const names[] = { "f32", "f16", "bf16", "q8", "q4" };
    unsigned char *panels = kalm__align64(panel_room);
    uint32_t type;
    for (type = KALM__Q8; type <= KALM__Q4; type++) {
        size_t bytes = kalm__panel_bytes(type, COLS), i, k, j;
        kalm__matrix w;
        const kalm__kernels *set;
        state = 1 + type;
        memset(&w, 0, sizeof w);
        w.type = type, w.rows = OUTPUTS, w.cols = COLS;
        w.data = panels, w.scale = scale, w.sum = sum;
        for (i = 0; i < PANELS; i++) {
            unsigned char *p = panels + i * bytes;
            static unsigned char flat_room[16 * (COLS + 32) + 64];
            unsigned char *flat = kalm__align64(flat_room);
            size_t cols32 = kalm__cols32(COLS);
            memset(p, 0, bytes);
            if (type == KALM__Q4) {
                for (k = 0; k < cols32 / 32 * 256; k++) p[k] = (unsigned char)draw(256);
                for (k = 0; k < cols32 / 32 * 16; k++) p[cols32 / 32 * 256 + k] = (unsigned char)draw(17);
                kalm__unpack_q4_scalar(p, COLS, flat);
            } else {
                for (k = 0; k < 16 * cols32; k++) p[k] = (unsigned char)((int)draw(255) - 127);
                memcpy(flat, p, 16 * cols32);
            }
            for (j = 0; j < 16; j++) scale[16 * i + j] = 1.0f, sum[16 * i + j] = 0;
            for (k = 0; k < 16 * cols32; k++) {
                int v = flat[k] < 128 ? flat[k] : (int)flat[k] - 256;
                sum[16 * i + k % 64 / 4] += v;
            }
        }
        for (i = 0; i < ROWS * COLS; i++) x[i] = i % COLS == 5 ? 127.0f : (float)((int)draw(255) - 127);
        for (i = 0; (set = kalm__kernel_set(i, NULL, 1)) != NULL; i++) {
            size_t acts_bytes = kalm__acts_bytes(set, type, ROWS, COLS), scratch_bytes = kalm__matmul_scratch(set, type, COLS);
            void *acts_block = malloc(acts_bytes + 64), *scratch_block = malloc(scratch_bytes + 64);
            unsigned char *acts, *scratch;
            kalm__block block;
            uint64_t check = 0;
            if (!acts_block || !scratch_block) exit(1);
            acts = kalm__align64(acts_block), scratch = kalm__align64(scratch_block);
            memset(y, 0, sizeof y);
            block = kalm__block_of(type, ROWS, COLS, acts);
            kalm__pack(set, block, 0, ROWS, x, COLS);
            kalm__multiply_block(set, &w, &block, y, OUTPUTS, scratch);
            for (j = 0; j < ROWS * OUTPUTS; j++) {
                double v = (double)y[j] / (double)(127.0f * (1.0f / 127.0f));
                int32_t s = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
                check = kalm__hash_mix(check, (uint64_t)(int64_t)s);
            }
            printf("sums %s %s %08lx%08lx\n", set->name, names[type], (unsigned long)(check >> 32),
                   (unsigned long)(check & 0xffffffffu));
            free(acts_block);
            free(scratch_block);
        }
    }
}

/* ---- margins ------------------------------------------------------------------------------------------------------ */

enum { MOST = 16, OTHERS = 2 };

static kalm_model *open_model(const char *path)
{
    size_t size;
    unsigned char *data = read_file(path, &size);
    kalm_model *model = NULL;
    kalm_error err;
    if (kalm_model_open_memory(data, size, NULL, &model, &err) || kalm_model_verify(model, &err)) {
        fprintf(stderr, "targets: %s: %s\n", path, err.text);
        exit(1);
    }
    return model;
}

static kalm_context *new_context(const kalm_model *model, const char *set)
{
    kalm_context *ctx = NULL;
    kalm_config config;
    kalm_error err;
    memset(&config, 0, sizeof config);
    config.kernels = set;
    config.threads = 2;
    config.max_doc_tokens = 48;
    if (kalm_context_new(model, &config, &ctx, &err)) {
        fprintf(stderr, "targets: %s\n", err.text);
        exit(1);
    }
    return ctx;
}

/* The query and the documents of a line; returns where the next one begins. */
static const char *read_line(const char *at, kalm_text *query, kalm_text docs[MOST], size_t *count)
{
    *count = 0;
    query->data = at;
    query->size = strcspn(at, "\t\n");
    at += query->size;
    while (*at == '\t' && *count < MOST) {
        docs[*count].data = ++at;
        docs[*count].size = strcspn(at, "\t\n");
        at += docs[(*count)++].size;
    }
    return *at == '\n' ? at + 1 : at;
}

static int rank(const char *path, const char *queries, const char *only)
{
    size_t text_size, set, q, limit = (size_t)-1;
    kalm_model *model = open_model(path);
    char *texts = (char *)read_file(queries, &text_size);
    kalm_error err;
    const char *name;
    for (set = 0; (name = kalm_kernels(set)) != NULL; set++) {
        kalm_context *ctx;
        const char *at = texts;
        if (only && strcmp(only, name) != 0) continue;
        ctx = new_context(model, name);
        for (q = 0; *at && q < limit; q++) {
            kalm_text query, docs[MOST];
            kalm_score scores[MOST];
            size_t count, d;
            at = read_line(at, &query, docs, &count);
            if (kalm_rerank_texts(ctx, query, docs, count, NULL, scores, &err)) {
                fprintf(stderr, "targets: %s\n", err.text);
                return 1;
            }
            for (d = 0; d < count; d++)
                printf("margin %s %u %u %.9g\n", name, (unsigned)q, (unsigned)d, (double)scores[d].margin);
            fflush(stdout);
        }
        limit = OTHERS;
        kalm_context_free(ctx);
    }
    kalm_model_close(model);
    return 0;
}

/* Documents of 4, 3 and 2 bits, opened again from their bytes. */
static int rows(const char *path, const char *queries, const char *only)
{
    size_t text_size, set, count, d;
    kalm_model *model = open_model(path);
    char *texts = (char *)read_file(queries, &text_size);
    kalm_text query, docs[MOST];
    kalm_error err;
    const char *name;
    read_line(texts, &query, docs, &count);
    for (set = 0; (name = kalm_kernels(set)) != NULL; set++) {
        kalm_context *ctx;
        kalm_params params;
        if (only && strcmp(only, name) != 0) continue;
        ctx = new_context(model, name);
        memset(&params, 0, sizeof params);
        params.ratio = 2;
        for (params.bits = 4; params.bits >= 2; params.bits--) {
            kalm_doc *made[MOST], *opened[MOST];
            kalm_score scores[MOST];
            uint64_t sum[MOST];
            kalm_result r = kalm_encode(ctx, docs, count, &params, made, &err);
            for (d = 0; !r && d < count; d++) {
                size_t size;
                const void *bytes = kalm_doc_bytes(made[d], &size);
                sum[d] = kalm__hash(bytes, size);
                r = kalm_doc_open(model, bytes, size, 0, &opened[d], &err);
            }
            if (!r) r = kalm_rerank(ctx, query, (const kalm_doc *const *)opened, count, NULL, scores, &err);
            if (r) {
                fprintf(stderr, "targets: %s\n", err.text);
                return 1;
            }
            for (d = 0; d < count; d++) {
                printf("rows %s %u %u %08lx%08lx %.9g\n", name, (unsigned)params.bits, (unsigned)d, (unsigned long)(sum[d] >> 32),
                       (unsigned long)(sum[d] & 0xffffffffu), (double)scores[d].margin);
                kalm_doc_free(opened[d]);
                kalm_doc_free(made[d]);
            }
        }
        kalm_context_free(ctx);
    }
    kalm_model_close(model);
    return 0;
}

int main(int argc, char **argv)
{
    size_t i;
    if (argc == 2 && strcmp(argv[1], "sums") == 0) {
        print_sums();
        return 0;
    }
    if (argc >= 4 && strcmp(argv[1], "rank") == 0) return rank(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    if (argc >= 4 && strcmp(argv[1], "rows") == 0) return rows(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
    if (argc == 3 && strcmp(argv[1], "refuse") == 0) {
        size_t size;
        unsigned char *data = read_file(argv[2], &size);
        kalm_model *model = NULL;
        kalm_error err;
        if (kalm_model_open_memory(data, size, NULL, &model, &err) == KALM_OK) return 1;
        puts(err.text);
        return model || !err.text[0];
    }
    if (argc == 2 && strcmp(argv[1], "info") == 0) {
        printf("info %u %s", (unsigned)sizeof(void *) * 8, KALM__BIG_ENDIAN ? "big" : "little");
        for (i = 0; kalm_kernels(i); i++) printf(" %s", kalm_kernels(i));
        putchar('\n');
        return 0;
    }
    fputs("usage: see the top of tests/targets.c\n", stderr);
    return 2;
}
