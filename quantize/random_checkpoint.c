/* kalm-random-checkpoint - a checkpoint with random weights in the Hugging Face layout, of any shape, for tests and
   benchmarks that the real checkpoints cannot serve. Streams: Large (14 GB) needs a few megabytes of memory.

   Every tensor has a random stream of its own, seeded by its name, so its numbers depend on the seed and the name alone. The
   scales keep activations in the range that a trained model has: matrices are N(0, 1 / inputs), so that rows of unit variance
   give rows of unit variance; norms are 1 + N(0, 0.2); the table is N(0, 1 / hidden), and its rows are multiplied by
   sqrt(hidden). The norms of queries and keys are about 1.7, so that attention prefers some keys and margins depend on the document. */
#include "../src/tools/files.h"
#include "../src/base.h"
#include "bf16.h"
#include "../src/tools/options.h"
#include "../src/tools/sink.h"
#include <stdio.h>
#include <stdlib.h>
#if defined(_WIN32)
#  include <direct.h>
#endif

/* ---- shape ----------------------------------------------------------------------------------------------------------- */

typedef struct dims {
    unsigned long hidden, vocabulary, mlp[2], layers[2], heads[2], kv_heads[2], head_dim[2], window[2], full_every, positions,
        scalar, softcap;
} dims;

typedef struct options {
    dims               d;
    const char        *out;
    uint32_t           seed, shard_mb;
    uint32_t           type;           /* 0 f32, 1 f16, 2 bf16, as KALM__F32 ... */
    uint32_t           table;          /* of the decoder: 0 none, 1 the encoder's again, 2 its own */
    int                untied, nested, old, vision, massive, quiet;
} options;

static const cmd_option table[] = {
    CMD_HEADING("Options"),
    CMD_NUMBER("--seed", "N", options, seed, 0, UINT32_MAX, "of the random numbers (default 1)"),
    CMD_CHOICE("--dtype", "f32|f16|bf16", options, type, "of the tensors (default bf16)"),
    CMD_NUMBER("--shard-size", "MB", options, shard_mb, 1, 1u << 30, "largest file (default 5000)"),
    CMD_FLAG("--untied", options, untied, "an lm_head of its own"),
    CMD_CHOICE("--decoder-table", "none|same|own", options, table, "store the decoder's embedding table as well"),
    CMD_FLAG("--nested", options, nested, "the newer tensor names (model.encoder.text_model.*)"),
    CMD_FLAG("--old-config", options, old, "rotary settings and layer types in the older spelling"),
    CMD_FLAG("--vision", options, vision, "a few tensors of a vision tower and projector"),
    CMD_FLAG("--massive", options, massive, "a few channels of the residual stream two orders above the others, as large models "
             "have them"),
    CMD_FLAG("--quiet", options, quiet, "print errors only")
};

static const cmd_program program = {
    "kalm-random-checkpoint",
    "nano|small|large OUT_FOLDER [options]\n"
    "hidden=64 mlp=128 layers=6 heads=2 kv_heads=1 head_dim=32 window=8 vocabulary=512 OUT_FOLDER",
    "Write a checkpoint with random weights: config.json and model.safetensors, or shards and their index.\n"
    "Dimensions may follow a name: 'nano layers=2' is a Nano of two layers. Also: decoder_layers= decoder_mlp= decoder_heads= "
    "decoder_kv_heads= decoder_head_dim= decoder_window= full_every= (6) positions= scalar= (query_pre_attn_scalar) softcap= "
    "(0: none)",
    table, sizeof table / sizeof *table,
    "Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage, 128 + the number of the signal that "
    "interrupted it.",
    NULL
};

static const dims nano = { 640, 262144, { 2048, 2048 }, { 18, 18 }, { 4, 4 }, { 1, 1 }, { 256, 256 }, { 512, 512 }, 6,
                           131072, 256, 0 };
static const dims small = { 1152, 262144, { 6912, 6912 }, { 26, 26 }, { 4, 4 }, { 1, 1 }, { 256, 256 }, { 512, 512 }, 6,
                            131072, 256, 0 };
static const dims large = { 2560, 262144, { 10240, 10240 }, { 34, 34 }, { 8, 8 }, { 4, 4 }, { 256, 256 }, { 1024, 1024 }, 6,
                            131072, 256, 0 };

/* "mlp=128" into d; 0 when it is no dim. A name without "decoder_" sets both sides. */
static int set_dim(dims *d, const char *text)
{
    static const char *const names[] = { "hidden", "vocabulary", "full_every", "positions", "scalar", "softcap", "mlp",
                                         "layers", "heads", "kv_heads", "head_dim", "window" };
    unsigned long *one[6], *two[6], v;
    const char *is = strchr(text, '='), *name = text;
    char *end;
    int decoder = !strncmp(text, "decoder_", 8);
    size_t i;
    one[0] = &d->hidden, one[1] = &d->vocabulary, one[2] = &d->full_every, one[3] = &d->positions, one[4] = &d->scalar;
    one[5] = &d->softcap;
    two[0] = d->mlp, two[1] = d->layers, two[2] = d->heads, two[3] = d->kv_heads, two[4] = d->head_dim, two[5] = d->window;
    if (!is || is[1] < '0' || is[1] > '9') return 0;
    v = strtoul(is + 1, &end, 10);
    if (*end || v > 1ul << 30) return 0;
    if (decoder) name += 8;
    for (i = 0; i < 12; i++)
        if (strlen(names[i]) == (size_t)(is - name) && !strncmp(name, names[i], (size_t)(is - name))) {
            if (i < 6) {
                if (decoder) return 0;
                *one[i] = v;
            } else {
                two[i - 6][1] = v;
                if (!decoder) two[i - 6][0] = v;
            }
            return 1;
        }
    return 0;
}

/* ---- tensors ---------------------------------------------------------------------------------------------------------- */

enum { FILL_MATRIX, FILL_NORM, FILL_SHARP_NORM, FILL_TABLE, FILL_MASSIVE };

typedef struct tensor {
    char     name[112];
    char     seed_name[112];           /* whose numbers it has: a tied copy has those of the original */
    int      fill;
    uint32_t dims;
    uint64_t rows, cols, bytes, offset;
    uint32_t shard;
} tensor;

typedef struct list {
    tensor  *at;
    size_t   count, capacity;
    int      lost;                     /* no memory: some are missing */
} list;

static void add(list *l, const options *o, const char *name, const char *seed_name, int fill, uint64_t rows, uint64_t cols)
{
    tensor *t;
    if (l->count == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 256;
        t = (tensor *)realloc(l->at, capacity * sizeof *t);
        if (!t) {
            l->lost = 1;
            return;
        }
        l->at = t;
        l->capacity = capacity;
    }
    t = &l->at[l->count++];
    memset(t, 0, sizeof *t);
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->seed_name, sizeof t->seed_name, "%s", seed_name ? seed_name : name);
    t->fill = fill;
    t->dims = rows ? 2 : 1;
    t->rows = rows ? rows : 1;
    t->cols = cols;
    t->bytes = t->rows * t->cols * (o->type ? 2 : 4);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

static void list_tensors(list *l, const options *o)
{
    const dims *d = &o->d;
    char name[112], seed[112];
    unsigned side;
    unsigned long i;
    for (side = 0; side < 2; side++) {
        const char *prefix = side ? "model.decoder." : o->nested ? "model.encoder.text_model." : "model.encoder.";
        const char *plain = side ? "model.decoder." : "model.encoder.";      /* numbers do not depend on the spelling */
        unsigned long q = d->heads[side] * d->head_dim[side], kv = d->kv_heads[side] * d->head_dim[side];
#define ADD(text, fill, rows, cols)                                     \
        do {                                                            \
            snprintf(name, sizeof name, "%s%s", prefix, text);          \
            snprintf(seed, sizeof seed, "%s%s", plain, text);           \
            add(l, o, name, seed, fill, rows, cols);                    \
        } while (0)
#define LAYER(text, fill, rows, cols)                                              \
        do {                                                                       \
            char in_layer[80];                                                     \
            snprintf(in_layer, sizeof in_layer, "layers.%lu.%s.weight", i, text);  \
            ADD(in_layer, fill, rows, cols);                                       \
        } while (0)
        for (i = 0; i < d->layers[side]; i++) {
            LAYER("self_attn.q_proj", FILL_MATRIX, q, d->hidden);
            LAYER("self_attn.k_proj", FILL_MATRIX, kv, d->hidden);
            LAYER("self_attn.v_proj", FILL_MATRIX, kv, d->hidden);
            LAYER("self_attn.o_proj", FILL_MATRIX, d->hidden, q);
            LAYER("mlp.gate_proj", FILL_MATRIX, d->mlp[side], d->hidden);
            LAYER("mlp.up_proj", FILL_MATRIX, d->mlp[side], d->hidden);
            LAYER("mlp.down_proj", FILL_MATRIX, d->hidden, d->mlp[side]);
            LAYER("self_attn.q_norm", FILL_SHARP_NORM, 0, d->head_dim[side]);
            LAYER("self_attn.k_norm", FILL_SHARP_NORM, 0, d->head_dim[side]);
            LAYER("pre_self_attn_layernorm", FILL_NORM, 0, d->hidden);
            LAYER("post_self_attn_layernorm", FILL_NORM, 0, d->hidden);
            LAYER("pre_feedforward_layernorm", FILL_NORM, 0, d->hidden);
            LAYER("post_feedforward_layernorm", o->massive && i == d->layers[side] / 4 ? FILL_MASSIVE : FILL_NORM, 0,
                  d->hidden);
        }
        ADD("norm.weight", FILL_NORM, 0, d->hidden);
        if (!side) {
            ADD("embed_tokens.weight", FILL_TABLE, d->vocabulary, d->hidden);
            ADD("embed_tokens.eoi_embedding", FILL_NORM, 0, d->hidden);
        }
    }
    if (o->table) {
        add(l, o, "model.decoder.embed_tokens.weight", o->table == 1 ? "model.encoder.embed_tokens.weight" : NULL, FILL_TABLE,
            d->vocabulary, d->hidden);
        add(l, o, "model.decoder.embed_tokens.eoi_embedding", o->table == 1 ? "model.encoder.embed_tokens.eoi_embedding" : NULL,
            FILL_NORM, 0, d->hidden);
    }
    if (o->untied) add(l, o, "lm_head.out_proj.weight", NULL, FILL_TABLE, d->vocabulary, d->hidden);
    if (o->vision) {
        const char *v = o->nested ? "model.encoder.vision_tower.encoder.layers.0.self_attn.q_proj.weight"
                                  : "model.encoder.vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight";
        add(l, o, v, NULL, FILL_MATRIX, 24, 24);
        add(l, o, "model.encoder.multi_modal_projector.mm_input_projection_weight", NULL, FILL_MATRIX, 24, d->hidden);
    }
    if (l->count) qsort(l->at, l->count, sizeof *l->at, by_name);
}

/* ---- numbers ---------------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* normal [65536]: the middles of 65536 slices of equal probability of the normal distribution. */
static void make_normal(float *normal)
{
    double x = 0;
    int i, k;
    for (i = 32768; i < 65536; i++) {
        double p = (i + 0.5) / 65536;
        for (k = 0; k < 4; k++)        /* Newton from the slice before */
            x += (p - 0.5 * erfc(-x * 0.70710678118654752)) / (0.39894228040143268 * exp(-0.5 * x * x));
        normal[i] = (float)x;
        normal[65535 - i] = (float)-x;
    }
}

typedef struct stream {
    uint64_t      state;
    uint16_t      half[65536];         /* the table in the type of the checkpoint */
    float         wide[65536];
} stream;

static void stream_begin(stream *s, const float *normal, const tensor *t, const options *o)
{
    float scale, middle = 0;
    size_t i;
    switch (t->fill) {
    case FILL_MATRIX: scale = 1.0f / sqrtf((float)t->cols); break;
    case FILL_TABLE: scale = 1.0f / sqrtf((float)t->cols); break;
    case FILL_SHARP_NORM: scale = 0.2f, middle = 0.7f; break;
    default: scale = 0.2f; break;
    }
    for (i = 0; i < 65536; i++) {
        float v = middle + scale * normal[i];
        s->wide[i] = v;
        s->half[i] = o->type == 1 ? kalm__to_f16(v) : kalm__to_bf16(v);
    }
    s->state = mix((uint64_t)o->seed * 0x9e3779b97f4a7c15u + kalm__hash(t->seed_name, strlen(t->seed_name)));
}

/* n numbers, n a multiple of 4 except at the end of the tensor */
static void stream_fill(stream *s, unsigned char *out, size_t n, const options *o)
{
    size_t i, k;
    for (i = 0; i < n; i += 4) {
        uint64_t z = mix(s->state += 0x9e3779b97f4a7c15u);
        for (k = 0; k < 4 && i + k < n; k++, z >>= 16) {
            if (!o->type) kalm__put_f32(out + 4 * (i + k), s->wide[z & 0xffff]);
            else {
                uint16_t h = s->half[z & 0xffff];
                out[2 * (i + k)] = (unsigned char)h;
                out[2 * (i + k) + 1] = (unsigned char)(h >> 8);
            }
        }
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */

enum { CHUNK = 1 << 20 };              /* numbers at a time */

static kalm_result write_text(const char *dir, const char *name, const char *text, kalm_error *err)
{
    char *path = kalm__join_path(dir, name);
    kalm_result r;
    if (!path) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path");
    r = kalm__write_whole(path, text, strlen(text), err);
    free(path);
    return r;
}

static void shard_name(char *name, size_t room, uint32_t shard, uint32_t shards)
{
    if (shards == 1) snprintf(name, room, "model.safetensors");
    else snprintf(name, room, "model-%05lu-of-%05lu.safetensors", (unsigned long)shard + 1, (unsigned long)shards);
}

static kalm_result write_shard(const options *o, list *l, uint32_t shard, uint32_t shards, const float *normal, stream *s,
                               unsigned char *chunk, kalm_error *err)
{
    static const char *const types[3] = { "F32", "F16", "BF16" };
    char name[64], *path, *header = (char *)malloc(l->count * 256 + 256);
    size_t n = 8, i, element = o->type ? 2 : 4;
    uint64_t at = 0, position;
    kalm__sink sink;
    kalm_result r;
    sink.fd = -1;
    sink.path = sink.temporary = NULL;
    shard_name(name, sizeof name, shard, shards);
    path = kalm__join_path(o->out, name);
    if (!header || !path) {
        free(header);
        free(path);
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for a header");
    }
    n += (size_t)sprintf(header + n, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (i = 0; i < l->count; i++) {
        tensor *t = &l->at[i];
        if (t->shard != shard) continue;
        n += (size_t)sprintf(header + n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, types[o->type]);
        if (t->dims == 2) n += (size_t)sprintf(header + n, "%llu,", (unsigned long long)t->rows);
        n += (size_t)sprintf(header + n, "%llu],\"data_offsets\":[%llu,%llu]}", (unsigned long long)t->cols,
                             (unsigned long long)at, (unsigned long long)(at + t->bytes));
        at += t->bytes;
    }
    header[n++] = '}';
    while (n % 8) header[n++] = ' ';
    kalm__put_u64(header, n - 8);
    r = kalm__sink_open(&sink, path, err);
    if (!r) r = kalm__sink_write(&sink, 0, header, n, err);
    position = n;
    for (i = 0; i < l->count && !r; i++) {
        tensor *t = &l->at[i];
        uint64_t done, total = t->rows * t->cols;
        if (t->shard != shard) continue;
        stream_begin(s, normal, t, o);
        for (done = 0; done < total && !r; done += CHUNK) {
            size_t part = (size_t)(total - done < CHUNK ? total - done : CHUNK), k;
            stream_fill(s, chunk, part, o);
            if (t->fill == FILL_MASSIVE)           /* three channels, of either sign */
                for (k = 0; k < 3; k++) {
                    size_t c = (size_t)((k * 2 + 1) * t->cols / 7);
                    float v = k == 1 ? -90.0f : 120.0f;
                    uint16_t h = o->type == 1 ? kalm__to_f16(v) : kalm__to_bf16(v);
                    if (!o->type) kalm__put_f32(chunk + 4 * c, v);
                    else chunk[2 * c] = (unsigned char)h, chunk[2 * c + 1] = (unsigned char)(h >> 8);
                }
            r = kalm__sink_write(&sink, position, chunk, part * element, err);
            position += part * element;
            if (!r && kalm__interrupted) r = kalm__fail(err, KALM_CANCELLED, "interrupted");
        }
    }
    if (!r) r = kalm__sink_finish(&sink, err);
    if (r) kalm__sink_abandon(&sink);
    if (!r && !o->quiet) fprintf(stderr, "%s: %.1f MB\n", path, (double)position / 1e6);
    free(header);
    free(path);
    return r;
}

static kalm_result write_index(const options *o, const list *l, uint32_t shards, uint64_t total, kalm_error *err)
{
    char *text = (char *)malloc(l->count * 256 + 256), name[64];
    size_t n, i;
    kalm_result r;
    if (!text) return kalm__fail(err, KALM_NO_MEMORY, "no memory for the index");
    n = (size_t)sprintf(text, "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {", (unsigned long long)total);
    for (i = 0; i < l->count; i++) {
        shard_name(name, sizeof name, l->at[i].shard, shards);
        n += (size_t)sprintf(text + n, "%s\n    \"%s\": \"%s\"", i ? "," : "", l->at[i].name, name);
    }
    sprintf(text + n, "\n  }\n}\n");
    r = write_text(o->out, "model.safetensors.index.json", text, err);
    free(text);
    return r;
}

static size_t config_side(char *at, const options *o, unsigned side, const char *indent)
{
    static const char *const types[3] = { "float32", "float16", "bfloat16" };
    const dims *d = &o->d;
    size_t n = 0;
    unsigned long i;
#define LINE(...) (n += (size_t)sprintf(at + n, "%s", indent), n += (size_t)sprintf(at + n, __VA_ARGS__))
    LINE("\"attention_bias\": false,\n");
    LINE("\"attn_logit_softcapping\": null,\n");
    LINE("\"dtype\": \"%s\",\n", types[o->type]);
    if (d->softcap) LINE("\"final_logit_softcapping\": %lu.0,\n", d->softcap);
    else LINE("\"final_logit_softcapping\": null,\n");
    LINE("\"head_dim\": %lu,\n", d->head_dim[side]);
    LINE("\"hidden_activation\": \"gelu_pytorch_tanh\",\n");
    LINE("\"hidden_size\": %lu,\n", d->hidden);
    LINE("\"intermediate_size\": %lu,\n", d->mlp[side]);
    if (o->old) {
        LINE("\"rope_local_base_freq\": 10000.0,\n");
        LINE("\"rope_scaling\": {\"factor\": 8.0, \"rope_type\": \"linear\"},\n");
        LINE("\"rope_theta\": 1000000.0,\n");
        LINE("\"sliding_window_pattern\": %lu,\n", d->full_every);
    } else {
        LINE("\"layer_types\": [");
        for (i = 0; i < d->layers[side]; i++)
            n += (size_t)sprintf(at + n, "%s\"%s_attention\"", i ? ", " : "", (i + 1) % d->full_every ? "sliding" : "full");
        n += (size_t)sprintf(at + n, "],\n");
        LINE("\"rope_parameters\": {\"full_attention\": {\"factor\": 8.0, \"rope_theta\": 1000000.0, \"rope_type\": \"linear\"},\n");
        LINE("                    \"sliding_attention\": {\"rope_theta\": 10000.0, \"rope_type\": \"default\"}},\n");
    }
    LINE("\"max_position_embeddings\": %lu,\n", d->positions);
    LINE("\"model_type\": \"t5gemma2_%s\",\n", side ? "decoder" : "text");
    LINE("\"num_attention_heads\": %lu,\n", d->heads[side]);
    LINE("\"num_hidden_layers\": %lu,\n", d->layers[side]);
    LINE("\"num_key_value_heads\": %lu,\n", d->kv_heads[side]);
    LINE("\"query_pre_attn_scalar\": %lu,\n", d->scalar);
    LINE("\"rms_norm_eps\": 1e-06,\n");
    LINE("\"sliding_window\": %lu,\n", d->window[side]);
    LINE("\"vocab_size\": %lu\n", d->vocabulary);
    return n;
}

static kalm_result write_config(const options *o, kalm_error *err)
{
    char *text = (char *)malloc(16384 + 32 * (o->d.layers[0] + o->d.layers[1]));
    unsigned long eoi = o->d.vocabulary > 256000 ? 256000 : o->d.vocabulary - 1;
    size_t n = 0;
    kalm_result r;
    if (!text) return kalm__fail(err, KALM_NO_MEMORY, "no memory for config.json");
    n += (size_t)sprintf(text + n, "{\n  \"architectures\": [\"T5Gemma2ForConditionalGeneration\"],\n  \"decoder\": {\n");
    n += config_side(text + n, o, 1, "    ");
    n += (size_t)sprintf(text + n, "  },\n  \"encoder\": {\n    \"eoi_token_index\": %lu,\n    \"model_type\": \"t5gemma2_encoder\",\n"
                         "    \"text_config\": {\n", eoi);
    n += config_side(text + n, o, 0, "      ");
    sprintf(text + n, "    }\n  },\n  \"eoi_token_index\": %lu,\n  \"is_encoder_decoder\": true,\n  \"model_type\": \"t5gemma2\",\n"
            "  \"tie_word_embeddings\": %s\n}\n", eoi, o->untied ? "false" : "true");
    r = write_text(o->out, "config.json", text, err);
    free(text);
    return r;
}

static kalm_result generate(const options *o, kalm_error *err)
{
    list l = { NULL, 0, 0, 0 };
    float *normal = (float *)malloc(65536 * sizeof *normal);
    stream *s = (stream *)malloc(sizeof *s);
    unsigned char *chunk = (unsigned char *)malloc((size_t)CHUNK * 4);
    uint64_t total = 0, in_shard = 0, most = (uint64_t)o->shard_mb * 1000000;
    uint32_t shards = 1, i;
    size_t k;
    kalm_result r = KALM_OK;
    list_tensors(&l, o);
    if (!normal || !s || !chunk || l.lost) r = kalm__fail(err, KALM_NO_MEMORY, "no memory");
    for (k = 0; !r && k < l.count; k++) {
        if (in_shard && in_shard + l.at[k].bytes > most) {
            shards++;
            in_shard = 0;
        }
        in_shard += l.at[k].bytes;
        l.at[k].shard = shards - 1;
        total += l.at[k].bytes;
    }
    if (!r && !kalm__directory_exists(o->out)) {
#if defined(_WIN32)
        if (_mkdir(o->out))
#else
        if (mkdir(o->out, 0777))
#endif
            r = kalm__fail(err, KALM_CANNOT_READ, "cannot make the folder %s: %s", kalm__shown(o->out), kalm__os_error());
    }
    if (!r) make_normal(normal);
    if (!r) r = write_config(o, err);
    for (i = 0; i < shards && !r; i++) r = write_shard(o, &l, i, shards, normal, s, chunk, err);
    if (!r && shards > 1) r = write_index(o, &l, shards, total, err);
    free(l.at);
    free(normal);
    free(s);
    free(chunk);
    return r;
}

static void read_options(options *o, int argc, char **argv)
{
    cmd_args a;
    unsigned side;
    size_t i;
    memset(o, 0, sizeof *o);
    o->seed = 1;
    o->shard_mb = 5000;
    o->type = 2;
    o->d.full_every = 6;
    o->d.positions = 32768;
    cmd_parse(&a, &program, o, argc, argv);
    for (i = 0; i < a.words; i++) {
        const char *word = a.word[i];
        if (!strcmp(word, "nano")) o->d = nano;
        else if (!strcmp(word, "small")) o->d = small;
        else if (!strcmp(word, "large")) o->d = large;
        else if (set_dim(&o->d, word)) {}
        else if (!o->out) o->out = word;
        else die_usage("%.100s is not a dimension, and the output folder is already given: %.80s", word, o->out);
    }
    cmd_args_end(&a);
    if (!o->d.scalar) o->d.scalar = o->d.head_dim[0];
    for (side = 0; side < 2; side++)
        if (!o->out || !o->d.hidden || !o->d.mlp[side] || !o->d.layers[side] || !o->d.heads[side] || !o->d.kv_heads[side]
            || !o->d.head_dim[side] || !o->d.window[side] || o->d.vocabulary < 2 || !o->d.full_every || !o->d.positions
            || o->d.heads[side] % o->d.kv_heads[side] || o->d.head_dim[side] % 2)
            die_usage("an output folder and a complete shape are needed; kv_heads must divide heads, and head_dim must be even");
}

int main(int argc, char **argv)
{
    options o;
    kalm_error err;
    kalm_result r;
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    read_options(&o, argc, argv);
    kalm__catch_signals();
    kalm__no_error(&err);
    r = generate(&o, &err);
    if (r) say("%s", err.text);
    return r == KALM_CANCELLED ? 128 + (int)kalm__interrupted : r ? EXIT_FAILED : EXIT_OK;
}
