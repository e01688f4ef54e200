/* test_convert.c - the converter from outside: what it refuses and with which words, what it leaves behind, and that the
   same model gives the same file however its checkpoint is spelled.

     test_convert [GOLDEN_FOLDER]       default tests/golden

   Runs kalm-quantize and kalm-random-checkpoint of the same build in a folder below it. POSIX. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../quantize/bf16.h"
#include "command.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TMP TEST_BUILD "/tmp/convert"
#define QUANTIZE TEST_BUILD "/kalm-quantize"
#define RANDOM TEST_BUILD "/kalm-random-checkpoint"
#define IDS " --yes-id 4 --no-id 9"

/* ---- files --------------------------------------------------------------------------------------------------------- */

static int exists(const char *path)
{
    struct stat st;
    return !stat(path, &st);
}

/* Files in `dir` whose name begins with `begin`. */
static int count_files(const char *dir, const char *begin)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;
    if (!CHECK(d != NULL)) return -1;
    while ((e = readdir(d)) != NULL) n += !strncmp(e->d_name, begin, strlen(begin));
    closedir(d);
    return n;
}

/* ---- a checkpoint to spoil --------------------------------------------------------------------------------------- */

#define DIMS "hidden=32 mlp=48 layers=2 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=64 full_every=2"
#define BASE TMP "/base"
#define BAD TMP "/bad"
#define WEIGHTS "/model.safetensors"
#define CONFIG "/config.json"

/* The file at `path` with the first `from` behind the first `behind` (or anywhere) replaced; for safetensors inside the
   header, whose length is set anew. `times`: how often. */
static void change(const char *path, const char *behind, const char *from, const char *to, int times)
{
    size_t n, head = 0, start, end, f = strlen(from), t = strlen(to), at;
    unsigned char *old = test_read_file(path, &n), *new_;
    const char *is = NULL;
    if (!CHECK(old != NULL)) return;
    if (strstr(path, ".safetensors") && !strstr(path, ".json")) head = (size_t)kalm__u64(old), start = 8;
    else head = n, start = 0;
    for (at = start; at + strlen(behind) <= start + head; at++)
        if (!memcmp(old + at, behind, strlen(behind))) break;
    if (!CHECKF(at + strlen(behind) <= start + head, "%s has no %s", path, behind)) {
        free(old);
        return;
    }
    while (times--) {
        end = start + head;
        is = NULL;
        for (; at + f <= end; at++)
            if (!memcmp(old + at, from, f)) {
                is = (const char *)old + at;
                break;
            }
        if (!CHECKF(is != NULL, "%s has no %s", path, from)) break;
        new_ = (unsigned char *)malloc(n + t + 1);
        memcpy(new_, old, at);
        memcpy(new_ + at, to, t);
        memcpy(new_ + at + t, old + at + f, n - at - f + 1);
        free(old);
        old = new_;
        n = n + t - f;
        head = head + t - f;
        at += t;
    }
    if (start) kalm__put_u64(old, head);
    write_bytes(path, old, n);
    free(old);
}

/* The bytes of a tensor of a safetensors file; to be freed. */
static unsigned char *tensor_bytes(const char *path, const char *name, size_t *size)
{
    size_t n;
    unsigned char *file = test_read_file(path, &n), *bytes = NULL;
    char key[160], *at;
    snprintf(key, sizeof key, "\"%s\"", name);
    at = file ? strstr((char *)file + 8, key) : NULL;
    at = at ? strstr(at, "\"data_offsets\":[") : NULL;
    if (CHECKF(at != NULL, "%s has no %s", path, name)) {
        unsigned long from = strtoul(at + 16, &at, 10), to = strtoul(at + 1, NULL, 10);
        *size = to - from;
        bytes = (unsigned char *)malloc(*size + 1);
        memcpy(bytes, file + 8 + kalm__u64(file) + from, *size);
    }
    free(file);
    return bytes;
}

/* Add a tensor at the end of a safetensors file. shape: as JSON has it. */
static void add_tensor(const char *path, const char *name, const char *dtype, const char *shape, const void *bytes, size_t size)
{
    size_t n, head;
    unsigned char *file = test_read_file(path, &n), *new_;
    char entry[400];
    int k;
    if (!CHECK(file != NULL)) return;
    head = (size_t)kalm__u64(file);
    k = snprintf(entry, sizeof entry, "{\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%lu,%lu]},", name, dtype, shape,
                 (unsigned long)(n - 8 - head), (unsigned long)(n - 8 - head + size));
    new_ = (unsigned char *)malloc(n + (size_t)k + size);
    memcpy(new_ + 8, entry, (size_t)k);
    memcpy(new_ + 8 + k, file + 9, n - 9);                   /* behind the header's first brace */
    if (size) memcpy(new_ + n + k - 1, bytes, size);
    kalm__put_u64(new_, head + (size_t)k - 1);
    write_bytes(path, new_, n + (size_t)k - 1 + size);
    free(file);
    free(new_);
}

/* BAD becomes a copy of `base`. */
static void fresh(const char *base) { CHECK(run("rm -rf " BAD " && cp -r %s " BAD, base) == 0); }

/* Converting BAD must fail with status 1 and a message that has `words`, and leave nothing behind. */
static void refuse(const char *arguments, const char *words)
{
    int status = run(QUANTIZE " " BAD " " TMP "/out.kalm --quiet%s", arguments);
    CHECKF(status == 1, "status %d instead of a refusal with: %s\n  it said: %s", status, words, said);
    CHECKF(!strncmp(said, "kalm-quantize: ", 15) && strstr(said, words), "it should say: %s\n  it said: %s", words, said);
    CHECKF(count_files(TMP, "out.kalm") == 0, "a refusal left a file behind: %s", words);
}

typedef struct spoil { const char *behind, *from, *to, *words; } spoil;

/* Long: the table of faults and what is said of them stands in it. */
static void test_config(void)
{
    static const spoil table[] = {
        { "", "\"decoder\"", "\"decodr\"", "config.json has no \"decoder\": this is no T5Gemma2 encoder-decoder" },
        { "", "\"text_config\"", "\"text\"", "config.json has no \"text_config\" in \"encoder\"" },
        { "", "\"decoder\": {", "\"decoder\": {,", "config.json:3:15: a member's name must stand here" },
        { "", "{", "[", "config.json:2:18: ',' or ']' must stand here" },
        { "", "gelu_pytorch_tanh", "relu", "decoder.hidden_activation is unknown here: only \"gelu_pytorch_tanh\" is" },
        { "\"text_config\"", "gelu_pytorch_tanh", "silu", "encoder.text_config.hidden_activation is unknown here" },
        { "", "\"rope_type\": \"linear\"", "\"rope_type\": \"yarn\"",
          "decoder.rope_parameters.full_attention.rope_type is unknown here: only \"default\" and \"linear\" are" },
        { "", "\"rope_type\": \"linear\"", "\"rope_type\": \"linear\", \"partial_rotary_factor\": 0.5", "full_attention.partial_rotary_factor other than 1 is not supported" },
        { "", "\"rope_type\": \"linear\"", "\"rope_type\": \"linear\", \"partial_rotary_factor\": 1.5", "full_attention.partial_rotary_factor other than 1 is not supported" },
        { "", "\"factor\": 8.0, ", "\"factor\": 8.0, \"partial_rotary_factor\": \"1\", ",
          "decoder.rope_parameters.full_attention.partial_rotary_factor other than 1 is not supported" },
        { "", "\"factor\": 8.0, ", "", "decoder.rope_parameters.full_attention.factor is missing" },
        { "", "\"sliding_attention\": {", "\"sliding\": {", "decoder.rope_parameters.sliding_attention is missing" },
        { "", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "decoder.layer_types must list num_hidden_layers = 3 layers" },
        { "", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "decoder.num_hidden_layers must be a whole number from 1 to 1024" },
        { "", "[\"sliding_attention\"", "[\"linear_attention\"", "decoder.layer_types has an unknown type" },
        { "", "[\"sliding_attention\"", "[7", "decoder.layer_types has an unknown type" },
        { "", "\"head_dim\": 16", "\"head_dim\": 15", "decoder.head_dim is odd, and rotary positions need pairs" },
        { "", "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", "decoder.num_key_value_heads does not divide num_attention_heads" },
        { "", "    \"rms_norm_eps\": 1e-06,\n", "", "decoder.rms_norm_eps is missing" },
        { "", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", "decoder.rms_norm_eps must be a number from 0 to 1" },
        { "", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": \"1e-06\"", "decoder.rms_norm_eps must be a number from 0 to 1" },
        { "", "\"rope_theta\": 10000.0", "\"rope_theta\": 1e400",
          "decoder.rope_parameters.sliding_attention.rope_theta must be a number from 1 to 1e+12" },
        { "", "\"hidden_size\": 32", "\"hidden_size\": 32, \"hidden_size\": 64", "\"hidden_size\" stands there twice" },
        { "\"text_config\"", "\"hidden_size\": 32", "\"hidden_size\": 48", "decoder.hidden_size differs from the encoder's" },
        { "\"text_config\"", "\"vocab_size\": 64", "\"vocab_size\": 65", "decoder.vocab_size differs from the encoder's" },
        { "", "\"intermediate_size\": 48", "\"intermediate_size\": 99999999999999999999999", "decoder.intermediate_size must be a whole number from 1 to 262144" },
        { "", "\"intermediate_size\": 48", "\"intermediate_size\": 48.5", "decoder.intermediate_size must be a whole number from 1 to 262144" },
        { "", "\"intermediate_size\": 48", "\"intermediate_size\": 56", "tensor model.decoder.layers.0.mlp.gate_proj.weight has shape [48, 32]; config.json makes it [56, 32]" },
        { "", "\"sliding_window\": 4", "\"sliding_window\": null", "decoder.sliding_window is missing" },
        { "", "\"attention_bias\": false", "\"attention_bias\": true", "decoder.attention_bias is not supported" },
        { "", "\"rope_parameters\": {", "\"rope_theta\": 10000.0, \"rope_parameters\": {", "decoder.rope_theta differs from what rope_parameters says" },
        { "", "\"rope_parameters\": {", "\"rope_local_base_freq\": 20000, \"rope_parameters\": {",
          "decoder.rope_local_base_freq differs from what rope_parameters says" },
        { "", "\"rope_parameters\": {", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}, \"rope_parameters\": {",
          "decoder.rope_scaling differs from what rope_parameters says" },
        { "", "\"rope_parameters\": {", "\"rope_scaling\": {\"rope_type\": \"yarn\"}, \"rope_parameters\": {",
          "decoder.rope_scaling.rope_type is unknown here" },
        { "", "\"rope_parameters\": {", "\"rope_scaling\": 8, \"rope_parameters\": {", "decoder.rope_scaling must be an object" },
        { "", "\"rope_parameters\": {", "\"partial_rotary_factor\": 0.5, \"rope_parameters\": {",
          "decoder.partial_rotary_factor other than 1 is not supported" },
        { "", "\"attention_bias\": false", "\"tie_word_embeddings\": 0", "decoder.tie_word_embeddings must be true or false" },
        { "", "\"attention_bias\": false", "\"use_bidirectional_attention\": true", "decoder.use_bidirectional_attention is not supported" },
        { "\"encoder\"", "\"eoi_token_index\": 63", "\"eoi_token_index\": 64", "encoder.eoi_token_index must be a whole number from 0 to 63" },
        { "\"encoder\"", "\"eoi_token_index\": 63", "\"eoi_token_index\": 62", "eoi_token_index differs from encoder.eoi_token_index" },
        { "", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", "tie_word_embeddings must be true or false" },
        { "", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", "tensor lm_head.out_proj.weight is missing" },
        { "", "\"model_type\": \"t5gemma2\"", "\"decoder\": {}", "the file" },
        { "", "\"rope_parameters\": {", "\"rope_parameters\": 4, \"x\": {", "decoder.rope_parameters must be an object" }
    };
    size_t i;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        fresh(BASE);
        change(BAD CONFIG, table[i].behind, table[i].from, table[i].to, 1);
        if (!strcmp(table[i].words, "the file")) refuse(IDS, "\"decoder\" stands there twice");
        else refuse(IDS, table[i].words);
    }
    fresh(BASE);
    change(BAD CONFIG, "", "\"eoi_token_index\"", "\"eoi\"", 2);
    refuse(IDS, "config.json has no eoi_token_index for tensor model.encoder.embed_tokens.eoi_embedding");
    fresh(BASE);
    change(BAD CONFIG, "", "\"factor\": 8.0, ", "\"factor\": 8.0, \"partial_rotary_factor\": 1.0, ", 1);
    change(BAD CONFIG, "", "\"rope_parameters\": {", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 8}, \"rope_parameters\": {", 1);
    CHECKF(run(QUANTIZE " " BAD " " TMP "/out.kalm --quiet --no-rows" IDS) == 0 && !unlink(TMP "/out.kalm"), "%s", said);
    /* a million members, which must not be compared each with each; the last stands there twice */
    {
        FILE *f = fopen(BAD CONFIG, "wb");
        CHECK(f != NULL);
        if (!f) return;
        fputs("{\"a\": 0", f);
        for (i = 0; i < 1000000; i++) fprintf(f, ",\"%lx\":0", (unsigned long)(i * 0x9e3779b1u & 0xffffffffu));
        fputs(",\"0\":0}", f);
        fclose(f);
        CHECKF(run("timeout $((20 * ${KALM_PATIENCE:-1})) " QUANTIZE " " BAD " " TMP "/out.kalm --quiet" IDS) == 1 && strstr(said, ": \"0\" stands there twice"),
               "a config.json of a million members: %s", said);
    }
    unlink(BAD CONFIG);
    refuse(IDS, "config.json: No such file or directory");
    write_bytes(BAD CONFIG, "\xef\xbb\xbf{}", 5);
    refuse(IDS, "config.json:1:1: a value must stand here");
    write_bytes(BAD CONFIG, "", 0);
    refuse(IDS, "config.json: the file is empty");
    write_bytes(BAD CONFIG, " ", 1);
    refuse(IDS, "config.json:1:2: the text ends too early");
    run("rm -rf " BAD);
    refuse(IDS, BAD ": no such folder");
}

static void test_header(void)
{
    /* the tensors in the order of their names, which is that of the data; norm vectors have 64 bytes, q_norm 32 */
    static const spoil table[] = {
        { "layers.1.mlp.up_proj", "[48,32]", "[32,48]", "tensor model.decoder.layers.1.mlp.up_proj.weight has shape [32, 48]; config.json makes it [48, 32]" },
        { "layers.1.mlp.up_proj", "[48,32]", "[1,48,32]", "has shape [1, 48, 32]; config.json makes it [48, 32]" },
        { "layers.1.self_attn.q_norm", "[16]", "[4,4]", "tensor model.decoder.layers.1.self_attn.q_norm.weight has shape [4, 4]; config.json makes it [16]" },
        { "layers.1.mlp.up_proj", "[48,32]", "[48,33]", "tensor model.decoder.layers.1.mlp.up_proj.weight has 3072 bytes, its shape needs 3168" },
        { "layers.1.mlp.up_proj", "[48,32]", "[18446744073709551615,3]", "tensor model.decoder.layers.1.mlp.up_proj.weight has a shape of more than 2^61 bytes" },
        { "layers.1.mlp.up_proj", "[48,32]", "[48,-32]", "the shape of tensor model.decoder.layers.1.mlp.up_proj.weight is not made of whole numbers" },
        { "layers.1.mlp.up_proj", "[48,32]", "[1,1,1,1,1,1,1,48,32]", "tensor model.decoder.layers.1.mlp.up_proj.weight has no shape of at most 8 numbers" },
        { "layers.1.mlp.up_proj", "\"shape\"", "\"form\"", "tensor model.decoder.layers.1.mlp.up_proj.weight has no shape" },
        { "layers.1.mlp.up_proj", "\"dtype\"", "\"type\"", "tensor model.decoder.layers.1.mlp.up_proj.weight has no dtype" },
        { "layers.1.mlp.up_proj", "BF16", "Q4", "tensor model.decoder.layers.1.mlp.up_proj.weight is Q4; weights must be F32, F16 or BF16" },
        { "layers.1.mlp.up_proj", "BF16", "I16", "tensor model.decoder.layers.1.mlp.up_proj.weight is I16; weights must be F32, F16 or BF16" },
        { "layers.1.mlp.up_proj", "\"data_offsets\"", "\"offsets\"", "has no data_offsets of two whole numbers" },
        { "layers.1.mlp.up_proj", "layers.1.mlp.up_proj", "layers.1.mlp.up_prej", "tensor model.decoder.layers.1.mlp.up_proj.weight is missing" },
        { "layers.1.mlp.up_proj", "layers.1.mlp.up_proj", "layers.0.mlp.up_proj", "\"model.decoder.layers.0.mlp.up_proj.weight\" stands there twice" },
        { "", "\"model.encoder.norm.weight\"", "\"\"", "a tensor without a name" },
        { "", "model.encoder.embed_tokens.weight", "model.encoder.embed.weight", "tensor model.encoder.embed_tokens.weight is missing" },
        { "", "{\"__metadata__\"", "[{\"__metadata__\"", "model.safetensors:1:" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},", "tensor x of model.safetensors has no place in this model" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},", "tensor lm_head.weight of model.safetensors has no place in this model" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"a.visiontower.b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},", "tensor a.visiontower.b of model.safetensors has no place in this model" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"x\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,2]},", "tensor x has 2 bytes, its shape needs 0" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"x\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]},", "overlaps tensor x" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"x\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[2,0]},", "tensor x ends at 0, before it begins at 2" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"x\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[4000000000,4000000002]},", "tensor x ends at byte 4000000002 of the data, which has" },
        { "", "\"__metadata__\":{\"format\":\"pt\"},", "\"x\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[18446744073709551614,18446744073709551616]},", "tensor x has no data_offsets of two whole numbers" }
    };
    size_t i, n, head;
    unsigned char *file;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        fresh(BASE);
        change(BAD WEIGHTS, table[i].behind, table[i].from, table[i].to, 1);
        refuse(IDS, table[i].words);
    }
    /* cut short, too long, no file at all */
    file = test_read_file(BASE WEIGHTS, &n);
    if (!CHECK(file != NULL)) return;
    head = (size_t)kalm__u64(file);
    fresh(BASE);
    write_bytes(BAD WEIGHTS, file, n - 2);
    refuse(IDS, "tensor model.encoder.norm.weight ends at byte");
    write_bytes(BAD WEIGHTS, file, n + 1);
    refuse(IDS, "model.safetensors: the last 1 bytes belong to no tensor");
    write_bytes(BAD WEIGHTS, file, 8 + head / 2);
    refuse(IDS, "model.safetensors: the header should have ");
    write_bytes(BAD WEIGHTS, file, 8);
    refuse(IDS, "bytes, the file has 8");
    write_bytes(BAD WEIGHTS, file, 7);
    refuse(IDS, "model.safetensors: 7 bytes are no safetensors file");
    write_bytes(BAD WEIGHTS, file, 0);
    refuse(IDS, "model.safetensors: the file is empty");
    memset(file, 0xff, 8);
    write_bytes(BAD WEIGHTS, file, n);
    refuse(IDS, "the header should have 18446744073709551615 bytes, the file has");
    kalm__put_u64(file, 2);
    memcpy(file + 8, "[]", 2);
    write_bytes(BAD WEIGHTS, file, 10);
    refuse(IDS, "model.safetensors: the header is not a JSON object");
    memcpy(file + 8, "{}", 2);
    write_bytes(BAD WEIGHTS, file, 10);
    refuse(IDS, "is missing");
    unlink(BAD WEIGHTS);
    refuse(IDS, "model.safetensors: No such file or directory");
    CHECK(!mkdir(BAD WEIGHTS, 0777));
    refuse(IDS, "model.safetensors");
    free(file);
    /* overlap, hole */
    fresh(BASE);
    change(BAD WEIGHTS, "layers.0.mlp.gate_proj", "[3072,6144]", "[3070,6142]", 1);
    refuse(IDS, "tensor model.decoder.layers.0.mlp.gate_proj.weight overlaps tensor model.decoder.layers.0.mlp.down_proj.weight");
    fresh(BASE);
    change(BAD WEIGHTS, "", "\"__metadata__\":{\"format\":\"pt\"},",
           "\"model.encoder.text_model.layers.33.post_feedforward_layernorm_and_more.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},", 1);
    refuse(IDS, "tensor model.encoder.text_model.layers.33.post_feedforward_layernorm_and_more.weight of model.safetensors has no place");
    fresh(BASE);
    change(BAD WEIGHTS, "layers.0.mlp.down_proj", "{\"dtype\":\"BF16\",\"shape\":[32,48],\"data_offsets\":[0,3072]}",
           "{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":[0,0]}", 1);
    refuse(IDS, "model.safetensors: 3072 bytes before tensor model.decoder.layers.0.mlp.gate_proj.weight belong to no tensor");
}

/* BAD gives the same bytes as BASE, or not. */
static void expect_base(const char *what, int same)
{
    if (!CHECKF(run(QUANTIZE " " BAD " " TMP "/other.kalm --name base --quiet" IDS) == 0, "%s: %s", what, said)) return;
    CHECKF(same_file(TMP "/base.kalm", TMP "/other.kalm") == same, "%s: the file is %s", what, same ? "another" : "the same");
}

/* What stands in a file's place when a download went wrong, in the place of each file. */
static void test_downloads(void)
{
    static const char zeros[5000];
    static const struct { const char *bytes; size_t size; const char *words; } table[] = {
        { "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
          "size 12345\n", 0, " but a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull" },
        { "\xef\xbb\xbf\r\n<!DOCTYPE html>\n<html lang=\"en\"><head>", 0, " but a web page, saved in its place" },
        { "<html>\n  <body>Access denied</body></html>", 0, " but a web page, saved in its place" },
        { "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>", 0, " but an XML text, perhaps a server's answer" },
        { zeros, sizeof zeros, " but zeros, as of a download that never came to its end" },
        { "PK\3\4archive/data.pkl", 0, " but a ZIP archive, or a checkpoint of PyTorch" },
        { "\x1f\x8b\x08....", 0, " but a file packed with gzip" },
        { "../../.git/annex/objects/a/b/SHA256E-s1--x", 0, NULL },
        { "/annex/objects/SHA256E-s1--x\n", 0, " but a git-annex pointer" }
    };
    static const char *const names[] = { "/model.safetensors", "/config.json", "/tokenizer.json", "/tokenizer.model",
                                         "/model.safetensors.index.json" };
    size_t i, k;
    for (i = 0; i < sizeof table / sizeof *table; i++)
        for (k = 0; k < sizeof names / sizeof *names; k++) {
            char path[100], words[200];
            fresh(BASE);
            snprintf(path, sizeof path, "%s%s", BAD, names[k]);
            snprintf(words, sizeof words, "%s: not %s%s", names[k] + 1, !k ? "a safetensors file" : strstr(names[k], "token") ? "a tokenizer" : "JSON",
                     table[i].words ? table[i].words : "");
            write_bytes(path, table[i].bytes, table[i].size ? table[i].size : strlen(table[i].bytes));
            refuse(IDS, table[i].words ? words : names[k] + 1);
            write_bytes(path, "", 0);
            snprintf(words, sizeof words, "%s: the file is empty", names[k] + 1);
            refuse(IDS, words);
        }
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --quiet" IDS) == 0);
    fresh(BASE);
    CHECK(run("cp " TMP "/other.kalm " BAD WEIGHTS) == 0);
    refuse(IDS, "model.safetensors: not a safetensors file but a .kalm file, which is converted already");
}

/* dtypes that weights cannot have are fine where nobody reads them, known ones with the bytes that they need. */
static void test_dtypes(void)
{
    static const struct { const char *dtype, *shape; size_t bytes; const char *words; } table[] = {
        { "BOOL", "[3]", 3, NULL }, { "U8", "[3]", 3, NULL }, { "I8", "[3]", 3, NULL }, { "F8_E5M2", "[3]", 3, NULL },
        { "F8_E4M3", "[3]", 3, NULL }, { "F8_E8M0", "[3]", 3, NULL }, { "F8_E4M3FNUZ", "[3]", 3, NULL }, { "F8_E5M2FNUZ", "[3]", 3, NULL },
        { "I16", "[3]", 6, NULL }, { "U16", "[3]", 6, NULL }, { "F16", "[3]", 6, NULL }, { "BF16", "[3]", 6, NULL }, { "I32", "[3]", 12, NULL },
        { "U32", "[3]", 12, NULL }, { "F32", "[3]", 12, NULL }, { "F64", "[3]", 24, NULL }, { "I64", "[3]", 24, NULL }, { "U64", "[3]", 24, NULL },
        { "C64", "[3]", 24, NULL }, { "F4", "[3,2]", 3, NULL }, { "F6_E2M3", "[4]", 3, NULL }, { "F6_E3M2", "[2,2]", 3, NULL }, { "F4", "[]", 1, "has 4 bits, which are no whole bytes" },
        { "F4", "[3]", 2, "has 12 bits, which are no whole bytes" }, { "F6_E2M3", "[3]", 3, "has 18 bits" }, { "F4", "[4]", 3, "has 3 bytes, its shape needs 2" },
        { "C64", "[3]", 12, "has 12 bytes, its shape needs 24" }, { "F8_E8M0", "[3]", 4, "has 4 bytes, its shape needs 3" },
        { "F8_E8M0", "[18446744073709551615]", 4, "has a shape of more than 2^61 bytes" }, { "I2", "[3]", 1, NULL },      /* next year's */
        { "F3_E1M1_AND_A_VERY_LONG_NAME", "[3]", 2, NULL }, { "", "[3]", 2, NULL }
    };
    static const char zeros[32];
    static const char *const names[2] = { "model.encoder.vision_tower.scale", "model.encoder.x.scale" };
    size_t i;
    CHECK(run(QUANTIZE " " BASE " " TMP "/base.kalm --quiet" IDS) == 0);
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        fresh(BASE);
        add_tensor(BAD WEIGHTS, names[0], table[i].dtype, table[i].shape, zeros, table[i].bytes);
        if (table[i].words) refuse(IDS, table[i].words);
        else expect_base(table[i].dtype, 1);
        fresh(BASE);
        add_tensor(BAD WEIGHTS, names[1], table[i].dtype, table[i].shape, zeros, table[i].bytes);
        refuse(IDS, table[i].words ? table[i].words : "tensor model.encoder.x.scale of model.safetensors has no place in this model");
    }
    fresh(BASE);
    change(BAD WEIGHTS, "\"model.encoder.norm.weight\"", "BF16", "F3_E1M1_AND_A_VERY_LONG_NAME", 1);
    refuse(IDS, "tensor model.encoder.norm.weight is F3_E1M1_AND_A_V; weights must be F32, F16 or BF16");
    fresh(BASE);
    change(BAD WEIGHTS, "\"model.encoder.norm.weight\"", "BF16", "F8_E4M3", 1);
    refuse(IDS, "tensor model.encoder.norm.weight has 64 bytes, its shape needs 32");
}

/* Numbers that no weight may be, found in every kind of tensor, with their place. */
static void test_numbers(void)
{
    static const struct { const char *name; size_t index; uint16_t bits; const char *arguments, *words; } table[] = {
        { "model.decoder.layers.1.mlp.up_proj.weight", 47 * 32 + 31, 0x7fc0, "", "tensor model.decoder.layers.1.mlp.up_proj.weight has a NaN or an infinity at [47, 31]" },
        { "model.encoder.layers.0.self_attn.v_proj.weight", 5 * 32 + 3, 0xff80, "", "tensor model.encoder.layers.0.self_attn.v_proj.weight has a NaN or an infinity at [5, 3]" },
        { "model.encoder.embed_tokens.weight", 63 * 32, 0x7f80, "", "tensor model.encoder.embed_tokens.weight has a NaN or an infinity at [63, 0]" },
        { "model.encoder.embed_tokens.weight", 4 * 32, 0x7f80, "", "tensor model.encoder.embed_tokens.weight has a NaN or an infinity at [4, 0]" },
        { "model.encoder.embed_tokens.eoi_embedding", 9, 0x7f81, "", "eoi_embedding has a NaN or an infinity at [0, 9]" },
        { "model.decoder.norm.weight", 31, 0xffff, "", "tensor model.decoder.norm.weight has a NaN or an infinity at [0, 31]" },
        { "model.decoder.layers.1.mlp.up_proj.weight", 40, 0x7f7f, "", "tensor model.decoder.layers.1.mlp.up_proj.weight has a number too large for q8 in row 1" },
        { "model.decoder.layers.1.mlp.up_proj.weight", 40, 0x4780, " --weights f16", "has a number too large for f16 in row 1" },
        { "model.encoder.embed_tokens.weight", 40, 0x4b80, "", "tensor model.encoder.embed_tokens.weight has a number too large for q8 in row 1" }
    };
    size_t i, n;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        char key[100], *found, arguments[100];
        unsigned char *file = test_read_file(BASE WEIGHTS, &n);
        unsigned long at;
        if (!CHECK(file != NULL)) return;
        snprintf(key, sizeof key, "\"%s\"", table[i].name);
        found = strstr((char *)file + 8, key);
        if (!CHECK(found != NULL)) return;
        found = strstr(found, "\"data_offsets\":[");
        at = strtoul(found + 16, NULL, 10) + 8 + (unsigned long)kalm__u64(file) + 2 * table[i].index;
        file[at] = (unsigned char)table[i].bits;
        file[at + 1] = (unsigned char)(table[i].bits >> 8);
        fresh(BASE);
        write_bytes(BAD WEIGHTS, file, n);
        snprintf(arguments, sizeof arguments, IDS "%s", table[i].arguments);
        refuse(arguments, table[i].words);
        free(file);
    }
}

static void test_index(void)
{
    static const spoil table[] = {
        { "", "\"weight_map\"", "\"map\"", "model.safetensors.index.json: there is no object \"weight_map\"" },
        { "", "{", "", "model.safetensors.index.json:" },
        { "\"model.encoder.norm.weight\"", "\"model-00002-of-00002.safetensors\"", "\"model-00003-of-00002.safetensors\"", "model-00003-of-00002.safetensors: No such file or directory" },
        { "\"model.encoder.norm.weight\"", "\"model-00002-of-00002.safetensors\"", "\"model-00001-of-00002.safetensors\"", "model.safetensors.index.json: tensor model.encoder.norm.weight is not in model-00001-of-00002.safetensors" },
        { "\"model.encoder.norm.weight\"", "\"model-00002-of-00002.safetensors\"", "\"../base/model.safetensors\"", "../base/model.safetensors is not the name of a file beside it" },
        { "\"model.encoder.norm.weight\"", "\"model-00002-of-00002.safetensors\"", "7", "tensor model.encoder.norm.weight has no file name" },
        { "", "\"model.encoder.norm.weight\"", "\"model.encoder.morn.weight\"", "tensor model.encoder.morn.weight is not in model-00002-of-00002.safetensors" },
        { "", "\"model.encoder.norm.weight\"", "\"model.decoder.norm.weight\"", ": \"model.decoder.norm.weight\" stands there twice" },
        { "", ",\n    \"model.encoder.norm.weight\": \"model-00002-of-00002.safetensors\"", "", "model.safetensors.index.json: tensor model.encoder.norm.weight of model-00002-of-00002.safetensors is not listed" },
        { "", "\"model.encoder.norm.weight\"", "\"model.encoder.norm.weight\": \"model-00002-of-00002.safetensors\", \"model.encoder.norm.weight\"", "\"model.encoder.norm.weight\" stands there twice" }
    };
    size_t i;
    CHECK(run("rm -rf " TMP "/shards && " RANDOM " " DIMS " vocabulary=15000 --shard-size 1 --quiet " TMP "/shards") == 0);
    CHECK(exists(TMP "/shards/model-00002-of-00002.safetensors"));
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        fresh(TMP "/shards");
        change(BAD "/model.safetensors.index.json", table[i].behind, table[i].from, table[i].to, 1);
        refuse(IDS, table[i].words);
    }
    fresh(TMP "/shards");
    CHECK(run("cp " BASE WEIGHTS " " BAD WEIGHTS) == 0);
    refuse(IDS, "model.safetensors is there, and model.safetensors.index.json names other files: only one of them can be the model");
    fresh(TMP "/shards");
    change(BAD "/model-00002-of-00002.safetensors", "", "model.encoder.norm.weight", "model.decoder.norm.weight", 1);
    refuse(IDS, "tensor model.decoder.norm.weight appears twice, in model-0000");
}

/* ---- tables under several names ------------------------------------------------------------------------------------- */

#define FLAT_TABLE "model.encoder.embed_tokens.weight"
#define NESTED_TABLE "model.encoder.text_model.embed_tokens.weight"
#define DECODER_TABLE "model.decoder.embed_tokens.weight"
#define HEAD "lm_head.out_proj.weight"

static void untie(void) { change(BAD CONFIG, "", "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", 1); }

/* Numbers as F32, in `out`; of bf16 ones. */
static void as_f32(const unsigned char *bf16, size_t size, unsigned char *out)
{
    size_t i;
    for (i = 0; i < size / 2; i++) kalm__put_f32(out + 4 * i, kalm__from_bf16((uint16_t)kalm__u16(bf16 + 2 * i)));
}

/* Long: one checkpoint is bent in one way after the other. */
static void test_ties(void)
{
    size_t n = 0;
    unsigned char *table = tensor_bytes(BASE WEIGHTS, FLAT_TABLE, &n), *other = (unsigned char *)malloc(n), *wide;
    if (!CHECK(table != NULL && n == 64 * 32 * 2)) return;
    wide = (unsigned char *)malloc(2 * n);
    as_f32(table, n, wide);
    memcpy(other, table, n);
    other[n - 64] ^= 1;                /* the last row's first number: neither yes nor no */
    CHECK(run(QUANTIZE " " BASE " " TMP "/base.kalm --quiet" IDS) == 0);
    /* a head beside the table: equal, in another type, different, of another shape */
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", table, n);
    expect_base("an equal head", 1);
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "F32", "[64,32]", wide, 2 * n);
    expect_base("an equal head in F32", 1);
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", other, n);
    refuse(IDS, "tensor " HEAD " differs from " FLAT_TABLE ", and config.json says that they are one: tie_word_embeddings is true");
    untie();
    expect_base("a head of its own that differs in an unused row", 1);
    change(BAD CONFIG, "", "\"attention_bias\": false", "\"tie_word_embeddings\": true", 1);
    refuse(IDS, "config.json contradicts itself: tie_word_embeddings is false and decoder.tie_word_embeddings true, and tensor " HEAD " differs from " FLAT_TABLE);
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", table, n);
    change(BAD CONFIG, "", "\"attention_bias\": false", "\"tie_word_embeddings\": false, \"rope_theta\": 1000000, \"rope_local_base_freq\": 1e4", 1);
    expect_base("settings that are said twice and make no difference", 1);
    kalm__put_f32(wide + 2 * n - 4, kalm__f32(wide + 2 * n - 4) * 1.0001f);
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "F32", "[64,32]", wide, 2 * n);
    refuse(IDS, "tensor " HEAD " differs from " FLAT_TABLE);
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[32,64]", table, n);
    refuse(IDS, "tensor " HEAD " has shape [32, 64]; config.json makes it [64, 32]");
    fresh(BASE);
    add_tensor(BAD WEIGHTS, HEAD, "I8", "[64,32]", table, n / 2);
    refuse(IDS, "tensor " HEAD " is I8; weights must be F32, F16 or BF16");
    /* the table under one other name alone */
    fresh(BASE);
    change(BAD WEIGHTS, "", FLAT_TABLE, HEAD, 1);
    expect_base("only the head", 1);
    untie();
    refuse(IDS, "tensor " FLAT_TABLE " is missing");
    fresh(BASE);
    change(BAD WEIGHTS, "", FLAT_TABLE, DECODER_TABLE, 1);
    expect_base("only the decoder's table", 1);
    change(BAD WEIGHTS, "", "model.encoder.embed_tokens.eoi_embedding", "model.decoder.embed_tokens.eoi_embedding", 1);
    expect_base("only the decoder's table and vector", 1);
    untie();
    refuse(IDS, "tensor " HEAD " is missing");
    fresh(BASE);
    change(BAD WEIGHTS, "", FLAT_TABLE, NESTED_TABLE, 1);
    expect_base("the table in the other spelling", 1);
    /* two names without the encoder's: equal, or not */
    fresh(BASE);
    change(BAD WEIGHTS, "", FLAT_TABLE, DECODER_TABLE, 1);
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", table, n);
    expect_base("the decoder's table and an equal head", 1);
    fresh(BASE);
    change(BAD WEIGHTS, "", FLAT_TABLE, DECODER_TABLE, 1);
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", other, n);
    refuse(IDS, "tensor " HEAD " differs from " DECODER_TABLE ", and config.json says that they are one");
    /* the decoder's table beside the encoder's: a table of its own; the head is the encoder's */
    fresh(BASE);
    add_tensor(BAD WEIGHTS, DECODER_TABLE, "BF16", "[64,32]", table, n);
    expect_base("an equal table of the decoder", 1);
    fresh(BASE);
    add_tensor(BAD WEIGHTS, DECODER_TABLE, "BF16", "[64,32]", other, n);
    expect_base("a table of the decoder's own", 0);
    CHECK(run(QUANTIZE " --info " TMP "/other.kalm --errors") == 0 && strstr(said, "decoder.embed"));
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", other, n);
    refuse(IDS, "tensor " HEAD " differs from " FLAT_TABLE);
    /* both spellings */
    CHECK(run("rm -rf " TMP "/nested && " RANDOM " " DIMS " --quiet --nested " TMP "/nested") == 0);
    fresh(TMP "/nested");
    add_tensor(BAD WEIGHTS, FLAT_TABLE, "BF16", "[64,32]", table, n);
    expect_base("both spellings", 1);
    fresh(TMP "/nested");
    add_tensor(BAD WEIGHTS, FLAT_TABLE, "BF16", "[64,32]", other, n);
    refuse(IDS, "tensors " FLAT_TABLE " and " NESTED_TABLE " are two spellings of one name and differ");
    fresh(TMP "/nested");
    change(BAD WEIGHTS, "", NESTED_TABLE, HEAD, 1);
    expect_base("nested, only the head", 1);
    fresh(TMP "/nested");
    change(BAD WEIGHTS, "", NESTED_TABLE, DECODER_TABLE, 1);
    change(BAD WEIGHTS, "", "model.encoder.text_model.embed_tokens.eoi_embedding", "model.decoder.embed_tokens.eoi_embedding", 1);
    expect_base("nested, only the decoder's table and vector", 1);
    fresh(TMP "/nested");
    change(BAD WEIGHTS, "", NESTED_TABLE, FLAT_TABLE, 1);
    expect_base("nested, the table in the other spelling", 1);
    /* a NaN is no number to compare with: the head is refused, and so is a table that has it */
    fresh(BASE);
    other[0] = 0xc0, other[1] = 0x7f;
    add_tensor(BAD WEIGHTS, HEAD, "BF16", "[64,32]", other, n);
    refuse(IDS, "tensor " HEAD " differs from " FLAT_TABLE);
    free(table);
    free(other);
    free(wide);
}

static void test_answers_and_tokenizer(void)
{
    fresh(BASE);
    refuse("", BAD " has no tokenizer: say --yes-id N --no-id N");
    refuse(" --yes-id 3", BAD " has no tokenizer");
    refuse(" --yes-id 3 --no-id 3", "the answer tokens 3 and 3 must be two ids below 64");
    refuse(" --yes-id 3 --no-id 64", "the answer tokens 3 and 64 must be two ids below 64");
    refuse(IDS " --tokenizer " TMP "/nowhere.json", "nowhere.json: No such file or directory");
    refuse(IDS " --name \"$(printf 'a\\377b')\"", "is not UTF-8");
    write_bytes(BAD "/tokenizer.json", "{\"model\": {\n  \"type\": 7 }", 25);
    refuse("", "tokenizer.json:2:");
    refuse(IDS, "tokenizer.json:2:");
    unlink(BAD "/tokenizer.json");
    write_bytes(BAD "/tokenizer.model", "\x0a\xff\xff", 3);
    refuse("", "tokenizer.model");
    CHECK(run(QUANTIZE " " BAD " " TMP "/out.kalm --quiet --tokenizer none" IDS) == 0);
    unlink(TMP "/out.kalm");
}

static void test_command_line(void)
{
    static const struct { const char *arguments, *words; } table[] = {
        { "", "a checkpoint folder and an output file are needed" },
        { BASE, "a checkpoint folder and an output file are needed" },
        { "a b c", "only a checkpoint folder and an output file can be given" },
        { BASE " o --weights q5", "--weights must be one of f32|f16|bf16|q8|q4, not 'q5'" },
        { BASE " o --weights", "--weights needs a value" },
        { BASE " o --embedding 8", "--embedding must be one of f32|f16|bf16|q8|q4, not '8'" },
        { BASE " o --yes-id -1", "--yes-id must be a whole number from 0 to 2147483646, not '-1'" },
        { BASE " o --yes-id 99999999999", "--yes-id must be a whole number from 0 to 2147483646, not '99999999999'" },
        { BASE " o --threads 0", "--threads must be a whole number from 1 to" },
        { BASE " o --wieghts q8", "there is no option --wieghts; did you mean --weights?" },
        { "--info x --verify x", "--info and --verify take one file and no other argument" },
        { "--info x y", "--info and --verify take one file and no other argument" }
    };
    size_t i;
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        int status = run(QUANTIZE " %s", table[i].arguments);
        CHECKF(status == 2 && strstr(said, table[i].words), "status %d, should say: %s\n  it said: %s", status, table[i].words, said);
    }
    CHECK(run(QUANTIZE " --help") == 0 && !strncmp(said, "Usage: kalm-quantize CHECKPOINT_FOLDER OUT.kalm", 47));
    CHECK(run(RANDOM " --help") == 0 && !strncmp(said, "Usage: kalm-random-checkpoint", 29));
    CHECK(run(RANDOM " nano heads=3 kv_heads=2 " TMP "/x") == 2 && strstr(said, "kv_heads must divide heads"));
    CHECK(run(RANDOM " nano lairs=3 " TMP "/x") == 2);
    CHECK(run(QUANTIZE " --info " TMP "/nowhere.kalm") == 1 && strstr(said, "nowhere.kalm: no such file"));
    CHECK(run(QUANTIZE " --verify " BASE CONFIG) == 1 && strstr(said, "not a .kalm file"));
}

/* ---- what is left behind ------------------------------------------------------------------------------------------- */

/* Start a long conversion, wait for its temporary file, send a signal. at_once: the time in which it may end in order is over when it
   gets the signal (SIGTERM: of signals that wait together the one with the larger number is handled first). */
static void interrupt_with(int number, int at_once)
{
    pid_t child = fork();
    int status = 0, seen = 0, i;
    struct timespec ms;
    ms.tv_sec = 0;
    ms.tv_nsec = 1000000;
    if (!child) {
        if (!freopen("/dev/null", "w", stderr)) _exit(98);
        execl(QUANTIZE, QUANTIZE, TMP "/long", TMP "/out.kalm", "--weights", "q4", "--yes-id", "1", "--no-id", "2",
              "--threads", "1", "--quiet", (char *)NULL);
        _exit(99);
    }
    for (i = 0; i < 5000 && !seen; i++) {
        nanosleep(&ms, NULL);
        seen = count_files(TMP, "out.kalm.tmp-");
    }
    if (at_once) {
        kill(child, SIGSTOP);
        while (waitpid(child, &status, WUNTRACED) < 0 && errno == EINTR) {}
        kill(child, SIGALRM);
    }
    kill(child, number);
    if (at_once) kill(child, SIGCONT);
    CHECK(waitpid(child, &status, 0) == child);
    CHECKF(seen == 1, "signal %d: the temporary file never came", number);
    CHECKF(WIFEXITED(status) && WEXITSTATUS(status) == 128 + number, "signal %d: status %x", number, (unsigned)status);
    CHECKF(count_files(TMP, "out.kalm") == 0, "signal %d: a file is left behind", number);
}

/* A run that is killed leaves its temporary file, which the next run removes; files that are not left over stay. */
static void test_left_over(void)
{
    static const char *const stay[] = {
        "/oux.kalm.tmp-0123456789ab", "/out.kalm.tmp-0123456789a", "/out.kalm.tmp-0123456789abc", "/out.kalm.tmp-0123456789AB", "/out.kalm.tmp-0123456789ag",
        "/xout.kalm.tmp-0123456789ab", "/out.kalm.tmp-", "/out.kalm.tmp-111111111111", "/out.kalm.tmp-222222222222",
        "/out.kalm.tmp-333333333333", "/out.kalm.tmp-444444444444"
    };
    struct timespec ms;
    struct stat st;
    pid_t child;
    int i, seen = 0, held;
    char path[200];
    CHECK(run("rm -rf " TMP "/left && mkdir " TMP "/left") == 0);
    ms.tv_sec = 0;
    ms.tv_nsec = 1000000;
    child = fork();
    if (!child) {
        execl(QUANTIZE, QUANTIZE, TMP "/long", TMP "/left/out.kalm", "--weights", "q4", "--yes-id", "1", "--no-id", "2", "--threads",
              "1", "--quiet", (char *)NULL);
        _exit(99);
    }
    for (i = 0; i < 5000 && !seen; i++) {
        nanosleep(&ms, NULL);
        seen = count_files(TMP "/left", "out.kalm.tmp-");
    }
    /* another run beside it leaves its file alone */
    CHECK(run(QUANTIZE " " BASE " " TMP "/left/out.kalm --quiet" IDS) == 0);
    CHECK(count_files(TMP "/left", "out.kalm.tmp-") == 1);
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    CHECK(seen == 1 && count_files(TMP "/left", "out.kalm.tmp-") == 1);
    write_bytes(TMP "/left/out.kalm.tmp-0123456789ab", "", 0);
    /* names of other forms; a link, a second name, a folder, and a file that a writer holds */
    for (i = 0; i < 7; i++) {
        snprintf(path, sizeof path, "%s%s", TMP "/left", stay[i]);
        write_bytes(path, "mine", 4);
    }
    write_bytes(TMP "/left/precious", "mine", 4);
    CHECK(!symlink("precious", TMP "/left/out.kalm.tmp-111111111111"));
    CHECK(!link(TMP "/left/precious", TMP "/left/out.kalm.tmp-222222222222"));
    CHECK(!mkdir(TMP "/left/out.kalm.tmp-333333333333", 0777));
    write_bytes(TMP "/left/out.kalm.tmp-444444444444", "mine", 4);
    held = open(TMP "/left/out.kalm.tmp-444444444444", O_RDONLY);
    CHECK(held >= 0 && !flock(held, LOCK_EX));
    CHECK(!chmod(TMP "/left/out.kalm", 0640));
    CHECK(run("cd " TMP "/left && case " QUANTIZE " in /*) q=" QUANTIZE " ;; *) q=$OLDPWD/" QUANTIZE " ;; esac && \"$q\" ../base out.kalm "
              "--quiet" IDS) == 0);
    CHECKF(count_files(TMP "/left", "out.kalm.tmp-") == 9 && exists(TMP "/left/precious"), "%d files stay",
           count_files(TMP "/left", "out.kalm.tmp-"));
    CHECK(!exists(TMP "/left/out.kalm.tmp-0123456789ab"));
    for (i = 0; i < (int)(sizeof stay / sizeof *stay); i++) {
        snprintf(path, sizeof path, "%s%s", TMP "/left", stay[i]);
        CHECKF(!lstat(path, &st), "%s is gone", path);
    }
    CHECK(!stat(TMP "/left/out.kalm", &st) && (st.st_mode & 0777) == 0640);
    close(held);
    /* what is no file is not replaced */
    CHECK(!mkfifo(TMP "/left/pipe", 0666) && run("timeout 20 " QUANTIZE " " BASE " " TMP "/left/pipe --quiet" IDS) == 1
          && strstr(said, "left/pipe cannot be written: it is not a regular file"));
    CHECK(!stat(TMP "/left/pipe", &st) && S_ISFIFO(st.st_mode));
    CHECK(run(QUANTIZE " " BASE " " TMP "/left --quiet" IDS) == 1 && strstr(said, "left cannot be written: it is a folder"));
    CHECK(run(QUANTIZE " " BASE " '' --quiet" IDS) == 1 && strstr(said, "the name of the file that is to be written is empty"));
    /* nobody listens */
    CHECK(run("{ " QUANTIZE " " TMP "/long " TMP "/left/deaf.kalm --weights q4" IDS "; echo $? > " TMP "/left/status; } 2>&1 | true; "
              "cat " TMP "/left/status") == 0);
    CHECKF(!strcmp(said, "141\n"), "status %s", said);
    CHECK(count_files(TMP "/left", "deaf.kalm") == 0);
}

/* The temporary file of a temporary file, of a killed run that makes the whole model before a part of it, goes as well. */
static void test_left_over_part(void)
{
    struct timespec ms;
    pid_t child;
    int i, seen = 0;
    CHECK(run("rm -rf " TMP "/left && mkdir " TMP "/left") == 0);
    ms.tv_sec = 0;
    ms.tv_nsec = 1000000;
    child = fork();
    if (!child) {
        execl(QUANTIZE, QUANTIZE, TMP "/long", TMP "/left/part.kalm", "--side", "decoder", "--weights", "q4", "--yes-id", "1", "--no-id",
              "2", "--threads", "1", "--quiet", (char *)NULL);
        _exit(99);
    }
    for (i = 0; i < 5000 && !seen; i++) {
        nanosleep(&ms, NULL);
        seen = count_files(TMP "/left", "part.kalm.tmp-");
    }
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
    CHECKF(seen == 1 && count_files(TMP "/left", "part.kalm.tmp-") == 1, "%d temporary files", seen);
    write_bytes(TMP "/left/part.kalm.tmp-0123456789ab.tmp-0123456789abc", "mine", 4);
    write_bytes(TMP "/left/part.kalm.tmp-0123456789ab.tmp-0123456789ab.tmp-0123456789ab", "mine", 4);
    CHECK(run(QUANTIZE " " BASE " " TMP "/left/part.kalm --side decoder --quiet" IDS) == 0);
    CHECKF(count_files(TMP "/left", "part.kalm") == 3, "%d files", count_files(TMP "/left", "part.kalm"));
}

static void test_remains(void)
{
    CHECK(run("rm -rf " TMP "/long && " RANDOM " nano layers=3 vocabulary=2000 --quiet " TMP "/long") == 0);
    interrupt_with(SIGINT, 0);
    interrupt_with(SIGTERM, 0);
    interrupt_with(SIGHUP, 0);
    interrupt_with(SIGTERM, 1);
    test_left_over();
    test_left_over_part();
    CHECK(run(QUANTIZE " " BASE " " TMP "/no/such/folder/out.kalm --quiet" IDS) == 1
          && strstr(said, "cannot create " TMP "/no/such/folder/out.kalm.tmp-") && strstr(said, "No such file or directory"));
    /* a limit on the size of files stands for a full disk where nothing may be mounted */
    CHECK(run("ulimit -f 100; " QUANTIZE " " TMP "/long " TMP "/out.kalm --quiet" IDS) == 1
          && strstr(said, "cannot write " TMP "/out.kalm.tmp-") && strstr(said, "File too large"));
    CHECK(count_files(TMP, "out.kalm") == 0);
    CHECK(!mkdir(TMP "/disk", 0777) || errno == EEXIST);
    if (!mount("none", TMP "/disk", "tmpfs", 0, "size=1m")) {
        CHECK(run(QUANTIZE " " TMP "/long " TMP "/disk/out.kalm --quiet" IDS) == 1
              && strstr(said, "out.kalm needs ") && strstr(said, " MB, the disk has 1 MB left"));
        CHECK(count_files(TMP "/disk", "out.kalm") == 0);
        CHECK(!umount(TMP "/disk"));
    } else printf("no full disk to try: mounting is not allowed here; a file size limit was\n");
    /* the old file stays what it is when the new one fails, and is replaced when it does not; KALM_KERNELS is empty: not set */
    CHECK(run("KALM_KERNELS= " QUANTIZE " " BASE " " TMP "/keep.kalm --quiet" IDS) == 0);
    CHECK(run("cp " TMP "/keep.kalm " TMP "/was.kalm && " QUANTIZE " " BASE " " TMP "/keep.kalm --quiet --yes-id 1 --no-id 1") == 1);
    CHECK(same_file(TMP "/keep.kalm", TMP "/was.kalm"));
    CHECK(run(QUANTIZE " " BASE " " TMP "/keep.kalm --quiet --weights f32 --no-rows" IDS) == 0);
    CHECK(!same_file(TMP "/keep.kalm", TMP "/was.kalm") && count_files(TMP, "keep.kalm") == 1);
    CHECK(run(QUANTIZE " --verify " TMP "/keep.kalm") == 0 && strstr(said, "all checksums match"));
    if (!access("/dev/full", W_OK)) {
        CHECK(run("! " QUANTIZE " --verify " TMP "/keep.kalm > /dev/full") == 0);
        CHECK(run("! " QUANTIZE " --info " TMP "/keep.kalm > /dev/full") == 0);
    }
    {
        size_t n;
        unsigned char *file = test_read_file(TMP "/keep.kalm", &n);
        if (CHECK(file != NULL)) {
            file[n - 3000] ^= 1;
            write_bytes(TMP "/keep.kalm", file, n);
            CHECK(run(QUANTIZE " --verify " TMP "/keep.kalm") == 1
                  && strstr(said, "section WEIGHTS of the model file is damaged: its checksum does not match"));
            file[n - 1] ^= 1;
            write_bytes(TMP "/keep.kalm", file, n - 1);
            CHECK(run(QUANTIZE " --info " TMP "/keep.kalm") == 1 && strstr(said, "the model file says it has"));
            free(file);
        }
    }
}

/* ---- what is converted ----------------------------------------------------------------------------------------------- */

/* A checkpoint made with `options` gives the same bytes as BASE's. */
static void same_model(const char *options)
{
    CHECK(run("rm -rf " BAD " && " RANDOM " " DIMS " --quiet %s " BAD, options) == 0);
    if (!CHECKF(run(QUANTIZE " " BAD " " TMP "/other.kalm --name base --quiet" IDS) == 0, "%s: %s", options, said)) return;
    CHECKF(same_file(TMP "/base.kalm", TMP "/other.kalm"), "a checkpoint made with '%s' gives another file", options);
}

static uint64_t fingerprint(const char *path)
{
    size_t n;
    unsigned char *file = test_read_file(path, &n);
    uint64_t f = file && n > 64 ? kalm__u64(file + 24) : 0;
    free(file);
    return f;
}

/* What config.json need not say: tables are tied; without types of layers and without a pattern every sixth has full attention. */
static void test_defaults(void)
{
    fresh(BASE);
    change(BAD CONFIG, "", "\"tie_word_embeddings\": true", "\"nothing\": true", 1);
    CHECKF(run(QUANTIZE " " BAD " " TMP "/other.kalm --name base --quiet" IDS) == 0, "%s", said);
    CHECK(same_file(TMP "/base.kalm", TMP "/other.kalm"));
    fresh(BASE);
    change(BAD CONFIG, "", "\"rope_type\": \"linear\"", "\"rope_type\": \"linear\", \"partial_rotary_factor\": 1.0", 1);
    CHECKF(run(QUANTIZE " " BAD " " TMP "/other.kalm --name base --quiet" IDS) == 0, "%s", said);
    CHECK(same_file(TMP "/base.kalm", TMP "/other.kalm"));
    CHECK(run("rm -rf " BAD " && " RANDOM " " DIMS " layers=7 full_every=6 --old-config --quiet " BAD) == 0);
    CHECKF(run(QUANTIZE " " BAD " " TMP "/one.kalm --no-rows --name x --quiet" IDS) == 0, "%s", said);
    change(BAD CONFIG, "", "\"sliding_window_pattern\": 6,", "", 2);
    CHECKF(run(QUANTIZE " " BAD " " TMP "/two.kalm --no-rows --name x --quiet" IDS) == 0, "%s", said);
    CHECK(same_file(TMP "/one.kalm", TMP "/two.kalm"));
    /* a config.json beyond the limit of 16 MiB, of spaces that the disk need not hold */
    fresh(BASE);
    CHECK(run("truncate -s 16777217 " BAD CONFIG) == 0);
    refuse(IDS, "config.json: 16777217 bytes are too many for such a file");
}

static void test_equal(void)
{
    static const char *const types[5] = { "f32", "f16", "bf16", "q8", "q4" };
    uint64_t whose;
    unsigned i;
    CHECK(run(QUANTIZE " " BASE " " TMP "/base.kalm --quiet" IDS) == 0);
    CHECK(said[0] == 0);               /* --quiet */
    whose = fingerprint(TMP "/base.kalm");
    same_model("");
    same_model("--nested");
    same_model("--old-config");
    same_model("--vision");
    same_model("--vision --nested --old-config");
    same_model("--decoder-table same");
    test_defaults();
    CHECK(run(RANDOM " " DIMS " vocabulary=15000 --quiet " TMP "/whole && " QUANTIZE " " TMP "/whole " TMP "/one.kalm --quiet --name x" IDS) == 0);
    CHECK(run(QUANTIZE " " TMP "/shards " TMP "/two.kalm --quiet --name x" IDS) == 0);
    CHECK(same_file(TMP "/one.kalm", TMP "/two.kalm"));
    for (i = 0; i < 5; i++) {
        const char *rows = i == 3 ? "" : " --no-rows";         /* fitting them costs the most, and is the same for all types */
        CHECK(run(QUANTIZE " " TMP "/whole " TMP "/one.kalm --quiet --threads 1 --embedding %s --weights %s%s" IDS, types[i], types[i], rows) == 0);
        CHECK(run(QUANTIZE " " TMP "/whole " TMP "/two.kalm --quiet --threads 5 --embedding %s --weights %s%s" IDS, types[i], types[i], rows) == 0);
        CHECKF(same_file(TMP "/one.kalm", TMP "/two.kalm"), "%s: the number of threads shows in the file", types[i]);
    }
    /* the prompt is not part of the fingerprint, everything else is */
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --quiet --name 'another name' --system S --instruction I" IDS) == 0);
    CHECK(fingerprint(TMP "/other.kalm") == whose && !same_file(TMP "/base.kalm", TMP "/other.kalm"));
    CHECK(run(QUANTIZE " --info " TMP "/other.kalm") == 0 && strstr(said, "name         \"another name\"")
          && strstr(said, "system       \"S\"") && strstr(said, "instruction  \"I\""));
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --quiet --yes-id 5 --no-id 9") == 0 && fingerprint(TMP "/other.kalm") != whose);
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --quiet --weights q4" IDS) == 0 && fingerprint(TMP "/other.kalm") != whose);
    CHECK(run("rm -rf " BAD " && " RANDOM " " DIMS " --quiet --seed 2 " BAD " && " QUANTIZE " " BAD " " TMP "/other.kalm --quiet" IDS) == 0);
    CHECK(fingerprint(TMP "/other.kalm") != whose);
    /* tables and heads of the decoder's own */
    CHECK(run(QUANTIZE " --info " TMP "/base.kalm --errors") == 0 && !strstr(said, "decoder.embed") && !strstr(said, "decoder.eoi")
          && strstr(said, "encoder.embed") && strstr(said, "decoder.head") && strstr(said, "decoder.1.down"));
    CHECK(run("rm -rf " BAD " && " RANDOM " " DIMS " --quiet --decoder-table own " BAD " && " QUANTIZE " " BAD " " TMP "/other.kalm --quiet" IDS) == 0);
    CHECK(run(QUANTIZE " --info " TMP "/other.kalm --errors") == 0 && strstr(said, "decoder.embed") && strstr(said, "decoder.eoi"));
    CHECK(run("rm -rf " BAD " && " RANDOM " " DIMS " --quiet --untied " BAD " && " QUANTIZE " " BAD " " TMP "/other.kalm --quiet" IDS) == 0);
    CHECK(fingerprint(TMP "/other.kalm") != whose);
    /* the table keeps the checkpoint's type where that is exact */
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --weights f32" IDS) == 0 && strstr(said, "(weights f32, embedding bf16)"));
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --weights f16" IDS) == 0 && strstr(said, "(weights f16, embedding bf16)"));
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --weights q4" IDS) == 0 && strstr(said, "(weights q4, embedding q8)"));
    CHECK(run("rm -rf " BAD " && " RANDOM " " DIMS " --quiet --dtype f32 " BAD " && " QUANTIZE " " BAD " " TMP "/other.kalm --weights f16" IDS) == 0
          && strstr(said, "(weights f16, embedding f16)"));
    /* not on a terminal: one line a step, the last with the size */
    CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm" IDS) == 0 && strstr(said, "layers of the decoder\n")
          && strstr(said, " MB (weights q8, embedding q8) from 0.1 MB in ") && !strchr(said, '\r'));
}

/* kalm-random-checkpoint: every part of a shape must be there, what it cannot make it names, and the same numbers come in every type. */
static void test_random_checkpoint(void)
{
#define SHAPE "hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=64 "
    static const char *const incomplete[] = {
        "hidden=0", "mlp=0", "layers=0", "heads=0", "kv_heads=0", "head_dim=0", "window=0", "vocabulary=1", "full_every=0", "positions=0", "head_dim=15",
        "kv_heads=3", "decoder_mlp=0", "decoder_layers=0", "decoder_heads=0", "decoder_kv_heads=0", "decoder_head_dim=0", "decoder_window=0",
        "decoder_head_dim=7", "decoder_heads=3 decoder_kv_heads=2"
    };
    static const char *const none[] = { "hidden=", "hidden=x", "hidden=1073741825", "hidden=8x", "decoder_hidden=8", "hid=8", "hiddenn=8", "=8", "hidden" };
    static const char *const types[3] = { "bf16", "f16", "f32" };
    unsigned char *bytes[3];
    size_t n[3], i, k;
    for (i = 0; i < sizeof incomplete / sizeof *incomplete; i++)
        CHECKF(run(RANDOM " " SHAPE "%s " TMP "/x", incomplete[i]) == 2 && strstr(said, "a complete shape are needed"), "%s: %s", incomplete[i], said);
    CHECK(run(RANDOM " " SHAPE) == 2 && strstr(said, "an output folder and a complete shape are needed"));
    for (i = 0; i < sizeof none / sizeof *none; i++)
        CHECKF(run(RANDOM " " SHAPE TMP "/x %s", none[i]) == 2 && strstr(said, "is not a dimension, and the output folder is already given"), "%s: %s", none[i], said);
    CHECK(!exists(TMP "/x"));
    CHECK(run(RANDOM " " SHAPE BASE CONFIG) == 1 && strstr(said, "cannot make the folder " BASE CONFIG ": File exists"));
    CHECK(run(RANDOM " " SHAPE TMP "/no/such/folder") == 1 && strstr(said, "cannot make the folder " TMP "/no/such/folder: No such file or directory"));
    CHECK(run("mkdir -p " TMP "/x/config.json && " RANDOM " " SHAPE TMP "/x") == 1 && strstr(said, "config.json cannot be written: it is a folder"));
    CHECK(run("rm -rf " TMP "/x && mkdir -p " TMP "/x/model.safetensors && " RANDOM " " SHAPE TMP "/x") == 1 && strstr(said, "model.safetensors cannot be written: it is a folder"));
    CHECK(run("rm -rf " TMP "/x && " RANDOM " " SHAPE TMP "/x") == 0 && !strcmp(said, TMP "/x/model.safetensors: 0.0 MB\n"));
    /* a half is the f32 number rounded; massive channels are what they are in every type */
    for (i = 0; i < 3; i++) {
        CHECK(run("rm -rf " TMP "/x && " RANDOM " " SHAPE "scalar=9 softcap=30 --massive --decoder-table own --dtype %s --quiet " TMP "/x", types[i]) == 0);
        bytes[i] = tensor_bytes(TMP "/x" WEIGHTS, "model.encoder.layers.0.post_feedforward_layernorm.weight", &n[i]);
    }
    if (CHECK(bytes[0] && bytes[1] && bytes[2] && n[0] == 64 && n[1] == 64 && n[2] == 128))
        for (k = 0; k < 32; k++) {
            float v = kalm__f32(bytes[2] + 4 * k);
            CHECK(kalm__u16(bytes[0] + 2 * k) == kalm__to_bf16(v) && kalm__u16(bytes[1] + 2 * k) == kalm__to_f16(v));
            CHECK(k == 4 || k == 22 ? fabsf(v - 120) < 1e-3f : k == 13 ? fabsf(v + 90) < 1e-3f : fabsf(v) < 2);
        }
    CHECK(run("grep -c '\"query_pre_attn_scalar\": 9,' " TMP "/x" CONFIG) == 0 && !strcmp(said, "2\n"));
    CHECK(run("grep -c '\"final_logit_softcapping\": 30.0,' " TMP "/x" CONFIG) == 0 && !strcmp(said, "2\n"));
    for (i = 0; i < 3; i++) free(bytes[i]);
#undef SHAPE
    /* too narrow for rows of few bits: the file is made, and it is said what it lacks */
    CHECK(run("rm -rf " TMP "/x && " RANDOM " hidden=8 mlp=8 layers=1 heads=1 kv_heads=1 head_dim=2 window=2 vocabulary=64 --quiet " TMP "/x") == 0);
    CHECKF(run(QUANTIZE " " TMP "/x " TMP "/other.kalm" IDS) == 0
           && strstr(said, "other.kalm: without what rows of 4, 3 and 2 bits need: rows have 8 numbers; from 16 to 8192 are possible\n"), "%s", said);
    CHECK(run("rm -rf " TMP "/x") == 0);
}

/* ---- the end of an image ------------------------------------------------------------------------------------------------ */

/* Changes a number (bf16) of a tensor of the checkpoint in BAD. */
static void nudge(const char *name, size_t index)
{
    size_t n;
    unsigned char *file = test_read_file(BAD WEIGHTS, &n);
    char key[100], *found;
    snprintf(key, sizeof key, "\"%s\"", name);
    found = file ? strstr((char *)file + 8, key) : NULL;
    found = found ? strstr(found, "\"data_offsets\":[") : NULL;
    if (CHECKF(found != NULL, "no %s", name)) {
        file[strtoul(found + 16, NULL, 10) + 8 + (size_t)kalm__u64(file) + 2 * index] ^= 0x40;
        write_bytes(BAD WEIGHTS, file, n);
    }
    free(file);
}

/* Do two files, of one shape and type, have the same matrices? */
static int same_matrices(const char *a, const char *b)
{
    kalm_model *x = NULL, *y = NULL;
    kalm_error err;
    int same = 1;
    if (CHECKF(!kalm_model_open(a, NULL, &x, &err) && !kalm_model_open(b, NULL, &y, &err), "%s", err.text)) {
        const kalm__section *s = &x->file.section[KALM__SECTION_TENSORS];
        size_t i;
        for (i = 0; i < s->size / KALM__TENSOR_BYTES; i++) {
            kalm__tensor t;
            kalm__read_tensor(&t, s->data + i * KALM__TENSOR_BYTES);
            if (t.kind % 32 <= KALM__T_DOWN) same &= !memcmp(x->file.data + t.offset, y->file.data + t.offset, (size_t)t.size);
        }
    }
    kalm_model_close(x);
    kalm_model_close(y);
    return same;
}

/* A row of a tensor of the model, in f32, is that of a tensor of BASE (bf16) with `plus` added. */
static void check_vector(const kalm_model *m, const kalm__tensor *t, size_t row, const char *name, size_t from, float plus)
{
    const unsigned char *at = m->file.data + t->offset + row * t->cols * 4;
    size_t size, i;
    unsigned char *bytes = tensor_bytes(BASE WEIGHTS, name, &size);
    if (CHECK(bytes && size >= (from + 1) * t->cols * 2))
        for (i = 0; i < t->cols; i++) {
            uint32_t bits = (uint32_t)kalm__u16(bytes + 2 * (from * t->cols + i)) << 16;
            float v;
            memcpy(&v, &bits, 4);
            if (!CHECKF(!(fabsf(kalm__f32(at + 4 * i) - (v + plus)) > 0), "%s: %g at %u, %g in the checkpoint", name, (double)kalm__f32(at + 4 * i), (unsigned)i,
                        (double)v)) break;
        }
    free(bytes);
}

/* The rotation of ops.h by its definition: in blocks of 64, then of the largest powers of two, x[i] becomes the sum of x[j] times 1, or
   times -1 where i and j have an odd number of bits in common, over the root of the block's size. Numbers are `step` apart. */
static void rotate(double *x, size_t n, size_t step)
{
    double was[64];
    size_t first, block = 64, i, j, k;
    for (first = 0; first < n; first += block) {
        while (block > n - first) block /= 2;
        for (i = 0; i < block; i++) was[i] = x[(first + i) * step];
        for (i = 0; i < block; i++) {
            double sum = 0;
            for (j = 0; j < block; j++) {
                int odd = 0;
                for (k = i & j; k; k &= k - 1) odd = !odd;
                sum += odd ? -was[j] : was[j];
            }
            x[(first + i) * step] = sum / sqrt((double)block);
        }
    }
}

/* Numbers w are nearly those of a tensor of a checkpoint (bf16), and what was changed is what the file says. */
static void check_change(const kalm__tensor *t, const char *checkpoint, const char *name, const double *w, double bound)
{
    size_t size, i;
    unsigned char *bytes = tensor_bytes(checkpoint, name, &size);
    double change = 0, weight = 0;
    if (CHECK(bytes && size == (size_t)t->rows * t->cols * 2))
        for (i = 0; i < size / 2; i++) {
            uint32_t bits = (uint32_t)kalm__u16(bytes + 2 * i) << 16;
            float v;
            memcpy(&v, &bits, 4);
            change += (w[i] - (double)v) * (w[i] - (double)v);
            weight += (double)v * (double)v;
        }
    change = sqrt(change / weight);
    CHECKF(change < bound && fabs(change - (double)t->error) < 1e-3 * change, "%s: %g changed, the file says %g", name, change, (double)t->error);
    free(bytes);
}

/* A table in q8, read as embedding.h draws it. */
static void check_table(const kalm_model *m, const kalm__tensor *t, const char *checkpoint, const char *name)
{
    size_t cols = t->cols, blocks = (cols + 31) / 32, r, c;
    double *w = (double *)malloc(t->rows * cols * sizeof *w);
    if (!CHECK(w && t->type == KALM__Q8)) exit(1);
    for (r = 0; r < t->rows; r++) {
        const unsigned char *row = m->file.data + t->offset + r * blocks * 34;
        for (c = 0; c < cols; c++) {
            int q = row[2 * blocks + c];
            w[r * cols + c] = (double)kalm__from_f16((uint16_t)kalm__u16(row + c / 32 * 2)) * (q < 128 ? q : q - 256);
        }
    }
    check_change(t, checkpoint, name, w, 0.0105);
    free(w);
}

/* A matrix in q8 or q4, read as blocks.h and kernels.h draw it and rotated back. */
static void check_matrix(const kalm_model *m, const kalm__tensor *t, const char *checkpoint, const char *name, size_t head_dim, double bound)
{
    const unsigned char *data = m->file.data + t->offset, *scales = m->file.data + t->scale;
    size_t rows = t->rows, cols = t->cols, cols32 = (cols + 31) / 32 * 32, r, c;
    size_t each = t->type == KALM__Q8 ? cols32 * 16 : (cols32 / 32 * (256 + 16) + 63) / 64 * 64;     /* bytes of a panel */
    double *w = (double *)malloc(rows * cols * sizeof *w);
    uint32_t what = t->kind % 32;
    if (!CHECK(w != NULL)) exit(1);
    for (r = 0; r < rows; r++) {
        const unsigned char *panel = data + r / 16 * each;
        size_t n = r % 16;
        int32_t sum = 0;
        for (c = 0; c < cols32; c++) {              /* q4 has no zero, so what fills up the last group counts in sums */
            unsigned byte = t->type == KALM__Q8 ? panel[c / 4 * 64 + n * 4 + c % 4] : panel[c / 32 * 256 + c % 16 / 4 * 64 + n * 4 + c % 4];
            int q = t->type == KALM__Q8 ? byte < 128 ? (int)byte : (int)byte - 256
                    : kalm__q4_value(c % 32 < 16 ? byte & 15 : byte >> 4, panel[cols32 / 32 * 256 + c / 32 * 16 + n]);
            sum += q;
            if (c < cols) w[r * cols + c] = (double)kalm__f32(scales + 4 * r) * q;
        }
        CHECKF((uint32_t)sum == kalm__u32(m->file.data + t->sum + 4 * r), "%s: the sum of row %u is another", name, (unsigned)r);
        if (t->rotated) rotate(w + r * cols, cols, 1);
        for (c = 0; what == KALM__T_O && c < cols; c += head_dim) rotate(w + r * cols + c, head_dim, 1);
    }
    for (r = 0; what == KALM__T_V && r < rows; r += head_dim)
        for (c = 0; c < cols; c++) rotate(w + r * cols + c, head_dim, cols);
    check_change(t, checkpoint, name, w, bound);
    free(w);
}

/* The model that kalm-quantize makes of a checkpoint, open; NULL: there is none. */
static kalm_model *converted(const char *checkpoint, const char *weights)
{
    kalm_model *m = NULL;
    kalm_error err;
    CHECK(run(QUANTIZE " %s " TMP "/other.kalm --quiet --no-rows --weights %s" IDS, checkpoint, weights) == 0);
    CHECKF(!kalm_model_open(TMP "/other.kalm", NULL, &m, &err), "%s", err.text);
    return m;
}

/* What the file holds, against the checkpoint: a norm's weights stand in it with 1 added, the vector that ends
   an image and the two rows of the head as they are; and matrices, some of which take rotated inputs. */
static void test_tensors(void)
{
    static const char *const types[5] = { "f32", "f16", "bf16", "q8", "q4" };
    unsigned i, k, vectors = 0;
    for (i = 0; i < 5; i++) {
        kalm_model *m = converted(BASE, types[i]);
        const kalm__section *s;
        if (!m) continue;
        s = &m->file.section[KALM__SECTION_TENSORS];
        for (k = 0; k < s->size / KALM__TENSOR_BYTES; k++) {
            kalm__tensor t;
            uint32_t what;
            int rotated;
            kalm__read_tensor(&t, s->data + k * KALM__TENSOR_BYTES);
            what = t.kind % 32;
            rotated = what == KALM__T_DOWN ? i == 4 : what < KALM__T_DOWN && what != KALM__T_O && i >= 3;
            CHECKF((int)t.rotated == rotated, "%s: kind %u is %s", types[i], (unsigned)t.kind, t.rotated ? "rotated" : "not rotated");
            if (what == KALM__T_EOI) check_vector(m, &t, 0, "model.encoder.embed_tokens.eoi_embedding", 0, 0.0f), vectors++;
            if (what == KALM__T_POST_MLP && !t.layer && t.kind < 32)
                check_vector(m, &t, 0, "model.encoder.layers.0.post_feedforward_layernorm.weight", 0, 1.0f), vectors++;
            if (what == KALM__T_HEAD) {            /* IDS */
                check_vector(m, &t, 0, "model.encoder.embed_tokens.weight", 4, 0.0f), vectors++;
                check_vector(m, &t, 1, "model.encoder.embed_tokens.weight", 9, 0.0f);
            }
        }
        kalm_model_close(m);
    }
    CHECKF(vectors == 15, "%u vectors were looked at", vectors);
    /* every matrix and the table: heads of 70 rows, which are 64, 4 and 2 for the rotation, and begin within a panel */
    CHECK(run("rm -rf " BAD " && " RANDOM " hidden=44 mlp=100 layers=1 heads=4 kv_heads=2 head_dim=70 window=4 vocabulary=64 --quiet " BAD) == 0);
    for (i = 3; i < 5; i++) {
        kalm_model *m = converted(BAD, types[i]);
        const kalm__section *s;
        if (!m) continue;
        s = &m->file.section[KALM__SECTION_TENSORS];
        CHECK((m->file.section[KALM__SECTION_WEIGHTS].data - m->file.data) % 4096 == 0);
        for (k = 0; k < s->size / KALM__TENSOR_BYTES; k++) {
            static const char *const names[7] = { "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down" };
            kalm__tensor t;
            uint64_t at;
            char name[80];
            kalm__read_tensor(&t, s->data + k * KALM__TENSOR_BYTES);
            for (at = t.type == KALM__F32 ? t.size : 0; at % 64; at++) CHECKF(!m->file.data[t.offset + at], "no zero behind tensor %u", k);
            if (t.kind % 32 == KALM__T_EMBED) check_table(m, &t, BAD WEIGHTS, "model.encoder.embed_tokens.weight");
            if (t.kind % 32 > KALM__T_DOWN) continue;
            snprintf(name, sizeof name, "model.%s.layers.%u.%s_proj.weight", t.kind < 32 ? "encoder" : "decoder", (unsigned)t.layer, names[t.kind % 32]);
            check_matrix(m, &t, BAD WEIGHTS, name, 70, i == 3 ? 0.0105 : 0.079);
        }
        kalm_model_close(m);
    }
}

/* A calibration text with the token that ends an image, here U+00B7: the model reads the separate vector in its place, not the row of
   the table, and so does the calibration. */
static void test_end_of_image(void)
{
#define CALIBRATED QUANTIZE " " BAD " %s --weights q4 --no-rows --tokenizer examples/tiny/tokenizer.json --quiet --calibrate " TMP "/dots.txt"
    CHECK(run("rm -rf " TMP "/dots && " RANDOM " hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=8192 --quiet " TMP "/dots") == 0);
    write_bytes(TMP "/dots.txt", "one \xc2\xb7 two\n\xc2\xb7\xc2\xb7\n", 15);
    fresh(TMP "/dots");
    CHECKF(run(CALIBRATED, TMP "/one.kalm") == 0, "%s", said);
    nudge("model.encoder.embed_tokens.weight", 8191 * 32 + 5);
    CHECKF(run(CALIBRATED, TMP "/two.kalm") == 0, "%s", said);
    CHECK(!same_file(TMP "/one.kalm", TMP "/two.kalm") && same_matrices(TMP "/one.kalm", TMP "/two.kalm"));
    fresh(TMP "/dots");
    nudge("model.encoder.embed_tokens.eoi_embedding", 5);
    CHECKF(run(CALIBRATED, TMP "/two.kalm") == 0, "%s", said);
    CHECK(!same_matrices(TMP "/one.kalm", TMP "/two.kalm"));
    fresh(TMP "/dots");
    nudge("model.encoder.embed_tokens.weight", 3);             /* of a token that no text has: only the table is another */
    CHECKF(run(CALIBRATED, TMP "/two.kalm") == 0, "%s", said);
    CHECK(same_matrices(TMP "/one.kalm", TMP "/two.kalm"));
#undef CALIBRATED
}

/* Odd shapes, every type: it converts, opens, verifies. */
static void test_shapes(void)
{
    static const char *const shapes[] = {
        ("hidden=40 mlp=72 layers=3 heads=3 kv_heads=3 head_dim=24 window=7 vocabulary=300 decoder_layers=2 decoder_heads=2 "
         "decoder_kv_heads=1 decoder_head_dim=70 full_every=2 --massive --dtype f32"),
        "hidden=1 mlp=1 layers=1 heads=1 kv_heads=1 head_dim=2 window=1 vocabulary=10 full_every=1 --dtype f16",
        "hidden=33 mlp=95 layers=7 heads=6 kv_heads=2 head_dim=10 window=3 vocabulary=257 softcap=30 --untied --nested",
        "hidden=130 mlp=64 layers=1 heads=1 kv_heads=1 head_dim=386 window=3 vocabulary=30 --old-config"
    };
    static const char *const types[5] = { "f32", "f16", "bf16", "q8", "q4" };
    unsigned i, k;
    for (i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        CHECK(run("rm -rf " BAD " && " RANDOM " %s --quiet " BAD, shapes[i]) == 0);
        for (k = 0; k < 5; k++) {
            CHECKF(run(QUANTIZE " " BAD " " TMP "/other.kalm --quiet --weights %s --embedding %s%s" IDS, types[k], types[(k + i) % 5],
                       k == 4 - i ? "" : " --no-rows") == 0, "%s: %s", shapes[i], said);
            CHECK(run(QUANTIZE " --verify " TMP "/other.kalm") == 0);
        }
    }
}

/* ---- a single weight -------------------------------------------------------------------------------------------------- */

/* Score a document of six tokens for a prompt of five by the model in `bytes`. */
static kalm_result score_bytes(const unsigned char *bytes, size_t size, kalm_score *score)
{
    static const int32_t words[] = { 7, 20, 3, 60, 33, 12 }, asked[] = { 2, 41, 9, 4, 17 };
    kalm_model *m = NULL;
    kalm_context *ctx = NULL;
    kalm_doc *doc = NULL;
    kalm_config config;
    kalm_params params;
    kalm_ids text, prompt;
    kalm_error err;
    kalm_result r;
    memset(&config, 0, sizeof config);
    memset(&params, 0, sizeof params);
    memset(score, 0, sizeof *score);
    config.threads = 1;
    config.max_doc_tokens = config.max_query_tokens = 16;
    params.bits = 32;
    text.data = words, text.count = 6;
    prompt.data = asked, prompt.count = 5;
    r = kalm_model_open_memory(bytes, size, NULL, &m, &err);
    if (!r) r = kalm_context_new(m, &config, &ctx, &err);
    if (!r) r = kalm_encode_ids(ctx, &text, 1, &params, &doc, &err);
    if (!r) r = kalm_rerank_ids(ctx, prompt, (const kalm_doc *const *)&doc, 1, &params, score, &err);
    kalm_doc_free(doc);
    kalm_context_free(ctx);
    kalm_model_close(m);
    return r;
}

/* One weight of each tensor in turn, of a million or more. Every product of matrices but the last is normed, so that the margin
   has a limit as the weight grows: each larger weight gives that limit, or KALM_OVERFLOW where it no longer fits into a float;
   never a finite margin that is another. (Of decoder.norm and the head the margin grows with the weight.) A weight that is
   infinite or no number is always an error. */
static void test_single_weight(void)
{
    static const struct { const char *name; uint32_t type; } kinds[] = { { "f32", KALM__F32 }, { "f16", KALM__F16 }, { "bf16", KALM__BF16 } };
    static const float large[] = { 1e6f, 1e10f, 1e15f, 1e18f, 1e20f, 1e30f, 3.4028235e38f };       /* then infinity, NaN */
    unsigned i, k, h, overflowed = 0, scored = 0;
    for (i = 0; i < 3; i++) {
        size_t size, at, count = 0;
        unsigned char *file, *bytes, *block, *table = NULL;
        CHECK(run(QUANTIZE " " BASE " " TMP "/other.kalm --quiet --weights %s" IDS, kinds[i].name) == 0);
        file = test_read_file(TMP "/other.kalm", &size);
        if (!CHECK(file != NULL)) return;
        block = (unsigned char *)malloc(size + 64);
        bytes = kalm__align64(block);
        memcpy(bytes, file, size);
        free(file);
        for (k = 0; k < kalm__u32(bytes + 12); k++) {
            const unsigned char *e = bytes + 64 + 32 * k;
            if (kalm__u32(e) != KALM__SECTION_TENSORS) continue;
            table = bytes + kalm__u64(e + 8);
            count = (size_t)kalm__u64(e + 16) / KALM__TENSOR_BYTES;
        }
        for (at = 0; at < count; at++) {
            kalm__tensor t;
            char name[32];
            size_t width, place;
            uint32_t what;
            kalm__read_tensor(&t, table + at * KALM__TENSOR_BYTES);
            kalm__tensor_name(name, t.kind, t.layer);
            what = t.kind % 32;
            width = t.type == KALM__F32 ? 4 : 2;
            if (what == KALM__T_EMBED || what == KALM__T_EOI || (i && t.type == KALM__F32)) continue;
            for (place = 0; place < 3; place++) {
                unsigned char *p = bytes + t.offset + (size_t)t.size / 2 * place / width * width - (place == 2 ? width : 0), keep[4];
                float limit = 0.0f;
                memcpy(keep, p, width);
                for (h = 0; h < 9; h++) {
                    kalm_score s;
                    kalm_result r;
                    uint32_t bits = h == 7 ? 0x7f800000u : 0x7fc00000u;
                    if (h < 7) memcpy(&bits, &large[h], 4);
                    if (t.type == KALM__F32) kalm__put_u32(p, bits);
                    else {                             /* half: 60000, then infinity */
                        uint32_t half = t.type == KALM__BF16 ? bits >> 16 : h == 0 ? 0x7b53u : h == 7 ? 0x7c00u : 0x7e00u;
                        if (t.type == KALM__F16 && h > 0 && h < 7) continue;
                        p[0] = (unsigned char)half;
                        p[1] = (unsigned char)(half >> 8);
                    }
                    r = score_bytes(bytes, size, &s);
                    overflowed += r == KALM_OVERFLOW;
                    if (h >= 7) CHECKF(r == KALM_OVERFLOW || r == KALM_BAD_FILE, "%s %s, place %u, %s: result %d", kinds[i].name, name,
                                       (unsigned)place, h == 7 ? "infinite" : "no number", (int)r);
                    else if (r) CHECKF(r == KALM_OVERFLOW || (r == KALM_BAD_FILE && what >= KALM__T_Q_NORM), "%s %s: result %d", kinds[i].name, name, (int)r);
                    else if (what < KALM__T_LAYER_KINDS || t.kind == KALM__T_NORM) {
                        scored++;
                        if (!h) limit = s.margin;
                        CHECKF(fabsf(s.margin - limit) <= 2e-2f * (1.0f + fabsf(limit)), "%s %s, place %u: margin %g with a weight of %g, %g with 1e6",
                               kinds[i].name, name, (unsigned)place, (double)s.margin, (double)large[h], (double)limit);
                    }
                    if (r) CHECK(s.margin <= 0.0f && s.margin >= 0.0f);
                }
                memcpy(p, keep, width);
            }
        }
        free(block);
    }
    CHECKF(overflowed > 400 && scored > 200, "%u overflowed, %u did not", overflowed, scored);
}

static void test_golden(const char *folder)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    int cases = 0;
    if (!CHECKF(d != NULL, "no folder %s", folder)) return;
    while ((e = readdir(d)) != NULL) {
        static const char *const types[5] = { "f32", "f16", "bf16", "q8", "q4" };
        char path[512];
        unsigned k;
        snprintf(path, sizeof path, "%s/%s/config.json", folder, e->d_name);
        if (e->d_name[0] == '.' || !exists(path)) continue;
        cases++;
        for (k = 0; k < 5; k++)
            CHECKF(run(QUANTIZE " %s/%s " TMP "/other.kalm --quiet --weights %s%s" IDS, folder, e->d_name, types[k],
                       k == (unsigned)cases % 5 ? "" : " --no-rows") == 0
                   && run(QUANTIZE " --verify " TMP "/other.kalm") == 0, "%s %s: %s", e->d_name, types[k], said);
    }
    closedir(d);
    CHECKF(cases >= 5, "%s has %d cases", folder, cases);
}

int main(int argc, char **argv)
{
    CHECK(run("rm -rf " TMP " && mkdir -p " TMP) == 0);
    CHECK(run(RANDOM " " DIMS " --quiet " BASE) == 0);
    test_command_line();
    test_random_checkpoint();
    test_tensors();
    test_end_of_image();
    test_config();
    test_header();
    test_numbers();
    test_index();
    test_ties();
    test_downloads();
    test_dtypes();
    test_answers_and_tokenizer();
    test_equal();
    test_shapes();
    test_single_weight();
    test_golden(argc > 1 ? argv[1] : "tests/golden");
    test_remains();
    CHECK(run("rm -rf " TMP) == 0);
    return test_end();
}
