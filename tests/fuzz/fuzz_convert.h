/* fuzz_convert.h - target "convert": a whole checkpoint through kalm-quantize, one of whose files a stranger wrote: config.json, the
   safetensors with their names, shapes and numbers, the index of several of them, tokenizer.json or tokenizer.model. A failure says why and
   leaves no file; what is written passes --verify, ranks with finite scores or says that numbers overflow, and is the same bytes again. */
#ifndef FUZZ_CONVERT_H
#define FUZZ_CONVERT_H

#include "fuzz_commands.h"
#include "fuzz_checkpoint.h"
#include "fuzz_part.h"
#include <dirent.h>

/* Byte 0: bits 0 to 2 the stranger's file, bit 3 tables of their own, bits 4 and 5 the type of the sound weights, bit 6 several shards.
   Byte 1: how it is converted, see below. Byte 2: 0, or which number of the weights becomes a strange one. */
enum { FUZZ_CONVERT_HEAD = 3, FUZZ_CONVERT_TENSORS = 80 };
enum { FUZZ_IS_CONFIG, FUZZ_IS_WEIGHTS, FUZZ_IS_INDEX, FUZZ_IS_TOKENIZER_JSON, FUZZ_IS_TOKENIZER_MODEL, FUZZ_CONVERT_FILES };

typedef struct fuzz_named {
    char     name[96];
    uint32_t kind, rows, cols, dims;
} fuzz_named;

FUZZ_FN size_t fuzz_name_one(fuzz_named *t, size_t n, const kalm__shape *m, uint32_t kind, const char *format, uint32_t layer, const char *what)
{
    t += n;
    snprintf(t->name, sizeof t->name, format, kind / 32 ? "decoder" : "encoder", (unsigned)layer, what);
    t->kind = kind;
    t->dims = kind % 32 <= KALM__T_DOWN || kind % 32 == KALM__T_EMBED ? 2 : 1;
    if (!kalm__tensor_shape(m, kind, &t->rows, &t->cols)) abort();
    return n + 1;
}

/* The tensors that a checkpoint of that config has. */
FUZZ_FN size_t fuzz_name_tensors(fuzz_named *t, const kalm__shape *m, int untied)
{
    size_t n = 0;
    uint32_t side, what, layer;
    for (side = 0; side < 2; side++) {
        for (what = 0; what < KALM__T_LAYER_KINDS; what++)
            for (layer = 0; layer < m->side[side].layers; layer++)
                n = fuzz_name_one(t, n, m, KALM__KIND(side, what), "model.%s.layers.%u.%s.weight", layer, kalm__source_name(what));
        n = fuzz_name_one(t, n, m, KALM__KIND(side, KALM__T_NORM), "model.%s.norm.weight", 0, "");
        if (side && !untied) continue;
        n = fuzz_name_one(t, n, m, KALM__KIND(side, KALM__T_EMBED), "model.%s.embed_tokens.weight", 0, "");
        n = fuzz_name_one(t, n, m, KALM__KIND(side, KALM__T_EOI), "model.%s.embed_tokens.eoi_embedding", 0, "");
    }
    if (untied) {
        n = fuzz_name_one(t, n, m, KALM__KIND(0, KALM__T_EMBED), "lm_head.out_proj.weight", 0, "");
        n = fuzz_name_one(t, n, m, KALM__KIND(0, KALM__T_NORM), "model.encoder.vision_tower.x.weight", 0, "");
    }
    if (n > FUZZ_CONVERT_TENSORS) abort();
    return n;
}

typedef struct fuzz_shard {
    fuzz_bytes header, data;
} fuzz_shard;

/* Of a sound checkpoint: [0] all in one file; [1] and [2] two halves; index names those. Made once for each form. */
typedef struct fuzz_whole {
    fuzz_shard shard[3];
    fuzz_bytes index;
} fuzz_whole;

FUZZ_FN void fuzz_print(fuzz_bytes *b, const char *format, ...)
{
    char line[256];
    va_list args;
    int n;
    va_start(args, format);
    n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof line) abort();
    memcpy(fuzz_grow(b, (size_t)n), line, (size_t)n);
}

FUZZ_FN void fuzz_put_weights(fuzz_shard *to, const fuzz_named *t, unsigned type, uint64_t random)
{
    static const char *const names[3] = { "F32", "BF16", "F16" };
    size_t bytes = type ? 2 : 4, count = (size_t)t->rows * t->cols, i, at = to->data.size;
    uint8_t *p = fuzz_grow(&to->data, count * bytes);
    for (i = 0; i < count; i++, p += bytes) {
        float x = fuzz_float(&random) * 0.2f;
        if (type == 0) kalm__put_f32(p, x);
        else fuzz_put(p, 2, type == 1 ? kalm__to_bf16(x) : kalm__to_f16(x));
    }
    fuzz_print(&to->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", to->header.size ? "," : "{", t->name, names[type]);
    if (t->dims == 2) fuzz_print(&to->header, "%u,", (unsigned)t->rows);
    fuzz_print(&to->header, "%u],\"data_offsets\":[%lu,%lu]}", (unsigned)t->cols, (unsigned long)at, (unsigned long)to->data.size);
}

FUZZ_FN const fuzz_whole *fuzz_get_whole(int untied, unsigned type)
{
    static fuzz_whole whole[6];
    static fuzz_named t[FUZZ_CONVERT_TENSORS];
    fuzz_whole *w = &whole[untied * 3 + (int)type];
    kalm__checkpoint c;
    kalm_error err;
    size_t n, i, k;
    if (w->index.size) return w;
    kalm__checkpoint_begin(&c);
    if (kalm__config_read(&c, fuzz_config_text[untied], strlen(fuzz_config_text[untied]), &err)) fuzz_broken(__FILE__, __LINE__, "a sound config", "%s", err.text);
    n = fuzz_name_tensors(t, &c.shape, untied);
    kalm__checkpoint_end(&c);
    fuzz_print(&w->index, "{\"metadata\":{\"total_size\":1},\"weight_map\":{");
    for (i = 0; i < n; i++) {
        fuzz_put_weights(&w->shard[0], &t[i], type, i);
        fuzz_put_weights(&w->shard[1 + i % 2], &t[i], type, i);
        fuzz_print(&w->index, "%s\"%s\":\"model-%u.safetensors\"", i ? "," : "", t[i].name, 1 + (unsigned)i % 2);
    }
    fuzz_print(&w->index, "}}");
    for (k = 0; k < 3; k++) fuzz_print(&w->shard[k].header, "}");
    return w;
}

/* A safetensors file: `header`, the stranger's or the sound one, before the sound numbers, one of which may be made a strange one. */
FUZZ_FN void fuzz_write_shard(const char *name, const void *header, size_t size, const fuzz_bytes *data, unsigned strange)
{
    FILE *f = fopen(fuzz_path(name), "wb");
    uint8_t begin[8];
    fuzz_put(begin, 8, size);
    if (!f || fwrite(begin, 8, 1, f) != 1 || (size && fwrite(header, size, 1, f) != 1) || fwrite(data->data, data->size, 1, f) != 1) abort();
    if (strange) {
        uint64_t random = strange;
        uint8_t number[4];
        fuzz_put(number, 4, fuzz_edge_float(&random));
        fuzz_put(number, 2, fuzz_get(number + 2, 2));      /* the same in two bytes, for BF16 */
        if (fseek(f, (long)(8 + size + fuzz_below(&random, data->size / 4) * 4), SEEK_SET) || fwrite(number, 4, 1, f) != 1) abort();
    }
    if (fclose(f)) abort();
}

static const char *const fuzz_convert_names[7] = {
    "ck/config.json", "ck/model.safetensors", "ck/model.safetensors.index.json", "ck/tokenizer.json", "ck/tokenizer.model", "ck/model-1.safetensors", "ck/model-2.safetensors"
};

FUZZ_FN void fuzz_remove_checkpoint(void)
{
    unsigned i;
    for (i = 0; i < 7; i++) remove(fuzz_path(fuzz_convert_names[i]));
    rmdir(fuzz_path("ck"));
    fuzz_clean_up();
}

/* Files that begin with "ck.kalm": the output, and what would be left of a temporary one. */
FUZZ_FN unsigned fuzz_outputs(void)
{
    DIR *d = opendir(fuzz_folder);
    struct dirent *e;
    unsigned n = 0;
    while (d && (e = readdir(d)) != NULL) n += strncmp(e->d_name, "ck.kalm", 7) == 0 || strncmp(e->d_name, ".ck.kalm", 8) == 0;
    if (d) closedir(d);
    return n;
}

FUZZ_FN void fuzz_write_checkpoint(const uint8_t *data, size_t size)
{
    const uint8_t *own = data + FUZZ_CONVERT_HEAD;
    size_t own_size = size - FUZZ_CONVERT_HEAD;
    unsigned which = (data[0] & 7) % FUZZ_CONVERT_FILES, i;
    int untied = data[0] >> 3 & 1, shards = which == FUZZ_IS_INDEX || (data[0] & 64);
    const fuzz_whole *w = fuzz_get_whole(untied, (data[0] >> 4 & 3) % 3);
    for (i = 1; i < 7; i++) remove(fuzz_path(fuzz_convert_names[i]));
    if (which == FUZZ_IS_CONFIG) fuzz_write(fuzz_path("ck/config.json"), own, own_size);
    else fuzz_write(fuzz_path("ck/config.json"), fuzz_config_text[untied], strlen(fuzz_config_text[untied]));
    for (i = shards ? 1 : 0; i <= (shards ? 2u : 0u); i++) {
        int is_own = which == FUZZ_IS_WEIGHTS && i != 2;
        const fuzz_bytes *header = &w->shard[i].header;
        fuzz_write_shard(i == 0 ? "ck/model.safetensors" : i == 1 ? "ck/model-1.safetensors" : "ck/model-2.safetensors", is_own ? own : header->data,
                         is_own ? own_size : header->size, &w->shard[i].data, data[2]);
    }
    if (which == FUZZ_IS_INDEX) fuzz_write(fuzz_path("ck/model.safetensors.index.json"), own, own_size);
    else if (shards) fuzz_write(fuzz_path("ck/model.safetensors.index.json"), w->index.data, w->index.size);
    if (which == FUZZ_IS_TOKENIZER_MODEL) fuzz_write(fuzz_path("ck/tokenizer.model"), own, own_size);
    else if (which == FUZZ_IS_TOKENIZER_JSON) fuzz_write(fuzz_path("ck/tokenizer.json"), own, own_size);
    else fuzz_write(fuzz_path("ck/tokenizer.json"), fuzz_tokenizer_json, sizeof fuzz_tokenizer_json - 1);
}

FUZZ_FN int fuzz_convert(const char *to, unsigned how)
{
    static const char *const types[5] = { "f32", "f16", "bf16", "q8", "q4" };
    return fuzz_command(fuzz_main_quantize, fuzz_path("ck"), fuzz_path(to), "--quiet", "--threads", "1", "--weights", types[how % 8 % 5], how & 8 ? "--no-rows" : "--quiet",
                        how & 16 ? "--name" : "--yes-id", "15", "--no-id", "16", how & 32 ? "--calibrate" : "--system", how & 32 ? fuzz_path("input") : "ab",
                        how & 128 ? "--embedding" : NULL, types[how / 8 % 5], NULL);
}

static void fuzz_convert_one(const uint8_t *data, size_t size)
{
    static int ready;
    int status;
    if (size < FUZZ_CONVERT_HEAD) return;
    fuzz_enter();
    if (!ready++) {
        mkdir(fuzz_path("ck"), 0700);
        fuzz_write(fuzz_path("input"), "ab aba\nb\tbb a\n", 14);
        atexit(fuzz_remove_checkpoint);
    }
    fuzz_write_checkpoint(data, size);
    remove(fuzz_path("ck.kalm"));
    status = fuzz_convert("ck.kalm", data[1]);
    fuzz_check_command(status);
    FUZZ_CHECK(fuzz_outputs() == !status, "status %d, and %u files", status, fuzz_outputs());
    if (status) return;
    status = fuzz_command(fuzz_main_quantize, "--verify", fuzz_path("ck.kalm"), "--quiet", NULL);
    FUZZ_CHECK(!status, "what was written does not pass --verify: %s", fuzz_command_said());
    if (data[1] & 64) {
        status = fuzz_convert("again.kalm", data[1]);
        FUZZ_CHECK(!status && fuzz_same_files(fuzz_path("ck.kalm"), fuzz_path("again.kalm")), "another file the second time: %s", fuzz_command_said());
        remove(fuzz_path("again.kalm"));
    }
    status = fuzz_command(fuzz_main_rerank, fuzz_path("ck.kalm"), "ab", "b", "aba \xc3\xa9", "", "--threads", "1", NULL);
    fuzz_check_command(status);
    /* with a stranger's config or tokenizer the prompt may be too long as well */
    FUZZ_CHECK(!status || strstr(fuzz_command_said(), "overflow") || ((data[0] & 7) % FUZZ_CONVERT_FILES != FUZZ_IS_WEIGHTS && (data[0] & 7) % FUZZ_CONVERT_FILES != FUZZ_IS_INDEX),
               "what was written does not rank: %s", fuzz_command_said());
    remove(fuzz_path("ck.kalm"));
}

static size_t fuzz_convert_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < FUZZ_CONVERT_HEAD || fuzz_below(random, 8) == 0) {
        size_t i = fuzz_below(random, kalm__min(size, FUZZ_CONVERT_HEAD));
        /* the file itself stays of its kind */
        if (size) p[i] = (uint8_t)(i ? fuzz_random(random) : (p[0] & 7) | (fuzz_random(random) & 0xf8));
        return size;
    }
    if ((p[0] & 7) % FUZZ_CONVERT_FILES == FUZZ_IS_TOKENIZER_MODEL)
        return FUZZ_CONVERT_HEAD + fuzz_proto_change(p + FUZZ_CONVERT_HEAD, size - FUZZ_CONVERT_HEAD, room - FUZZ_CONVERT_HEAD, random);
    return FUZZ_CONVERT_HEAD + fuzz_json_change(p + FUZZ_CONVERT_HEAD, size - FUZZ_CONVERT_HEAD, room - FUZZ_CONVERT_HEAD, random);
}

static void fuzz_convert_take(fuzz_taker *take, const char *name, unsigned what, unsigned how, unsigned strange, const void *data, size_t size)
{
    uint8_t *p = (uint8_t *)malloc(size + FUZZ_CONVERT_HEAD);
    if (!p) abort();
    p[0] = (uint8_t)what;
    p[1] = (uint8_t)how;
    p[2] = (uint8_t)strange;
    memcpy(p + FUZZ_CONVERT_HEAD, data, size);
    take(name, p, size + FUZZ_CONVERT_HEAD);
    free(p);
}
static fuzz_taker *fuzz_convert_taker;
static void fuzz_convert_model(const char *name, const void *data, size_t size) { fuzz_convert_take(fuzz_convert_taker, name, FUZZ_IS_TOKENIZER_MODEL, 8 + 3, 0, data, size); }

static void fuzz_convert_seeds(fuzz_taker *take)
{
    unsigned i;
    char name[24];
    for (i = 0; i < 2; i++) {
        sprintf(name, "config-%u", i);
        fuzz_convert_take(take, name, FUZZ_IS_CONFIG | i << 3 | i << 6, 3 + i, 0, fuzz_config_text[i], strlen(fuzz_config_text[i]));
    }
    for (i = 0; i < 6; i++) {
        const fuzz_whole *w = fuzz_get_whole(i / 3 % 2, i % 3);
        sprintf(name, "weights-%u", i);
        fuzz_convert_take(take, name, FUZZ_IS_WEIGHTS | i / 3 << 3 | i % 3 << 4, 8 + 64 + i % 5, i * 40, w->shard[0].header.data, w->shard[0].header.size);
        sprintf(name, "index-%u", i);
        if (i % 3 == 0) fuzz_convert_take(take, name, FUZZ_IS_INDEX | i / 3 << 3, 128 + 8 + 4 - i, 0, w->index.data, w->index.size);
    }
    /* tied by the config, and with a head and a table of other numbers */
    fuzz_convert_take(take, "untied", FUZZ_IS_CONFIG | 8, 8 + 3, 0, fuzz_config_text[0], strlen(fuzz_config_text[0]));
    fuzz_convert_take(take, "calibrated", FUZZ_IS_CONFIG, 32 + 8 + 4, 0, fuzz_config_text[0], strlen(fuzz_config_text[0]));
    fuzz_convert_take(take, "tokenizer-json", FUZZ_IS_TOKENIZER_JSON, 8 + 3, 0, fuzz_tokenizer_json, sizeof fuzz_tokenizer_json - 1);
    fuzz_convert_taker = take;
    fuzz_tokenizer_model_seeds(fuzz_convert_model);
}
static const fuzz_target fuzz_convert_target = { "convert", 1 << 14, 20, fuzz_convert_one, fuzz_convert_change, NULL, fuzz_convert_seeds, fuzz_json_words };

#endif
