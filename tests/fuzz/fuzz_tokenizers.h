/* fuzz_tokenizers.h - targets "tokenizer_json" and "tokenizer_model": the files that the converter imports. What is accepted makes
   a blob that opens, gives ids inside the vocabulary, and is the same blob twice; a JSON text that was cut is none. */
#ifndef FUZZ_TOKENIZERS_H
#define FUZZ_TOKENIZERS_H

#include "fuzz.h"
#include "model_bytes.h"
#include "fuzz_model.h"

/* A place to cut a JSON object at, so that none is left: before its last brace. 0: it is no such thing. */
FUZZ_FN size_t fuzz_json_cut(const uint8_t *data, size_t size)
{
    size_t end = size, i = 0;
    while (end && data[end - 1] != '}') end--;
    while (i < size && strchr(" \t\r\n", data[i] ? data[i] : 1)) i++;
    return end && data[i] == '{' ? fuzz_sum(data, size) % end : 0;
}

static void fuzz_import_one(const uint8_t *data, size_t size)
{
    static const char *const texts[3] = { fuzz_text_a, "the <b>a</b> \xe2\x96\x81  x\xff\n\n", "  abab\tA  \xef\xbc\xa1 \xf0\x9f\x98\x80\r\ne\xcc\x81 \xed\x95\x9c " };
    kalm_config c = fuzz_config(NULL);
    kalm_error err;
    unsigned char *blob[2] = { NULL, NULL };
    size_t blob_size[2] = { 0, 0 }, i, n, bytes, before = fuzz_live;
    kalm__tokenizer t;
    char *exact = (char *)fuzz_exact(data, size);
    kalm_result r = kalm__import_tokenizer("fuzz", exact, size, &c.allocator, &blob[0], &blob_size[0], &err);
    if (r) {
        fuzz_check_error(r, &err);
        FUZZ_CHECK(fuzz_live == before, "%lu bytes kept", (unsigned long)(fuzz_live - before));
        free(exact);
        return;
    }
    r = kalm__import_tokenizer("fuzz", exact, size, &c.allocator, &blob[1], &blob_size[1], &err);
    FUZZ_CHECK(!r && blob_size[0] == blob_size[1] && !memcmp(blob[0], blob[1], blob_size[0]), "%s", "another blob the second time");
    FUZZ_CHECK(!kalm__tokenizer_open(&t, blob[0], blob_size[0], &err), "the blob is refused: %s", err.text);
    for (i = 0; i < 3; i++) {
        int32_t ids[128];
        char back[1024];
        size_t k;
        kalm_text text = kalm__text(texts[i]);
        r = kalm__tokenize(&t, &c.allocator, NULL, text, i == 1 ? KALM_PARSE_CONTROL : 0, ids, 128, &n, &err);
        if (r) {
            fuzz_check_error(r, &err);
            continue;
        }
        n = kalm__min(n, 128);
        for (k = 0; k < n; k++) {
            FUZZ_CHECK(ids[k] >= 0 && (uint32_t)ids[k] < t.tokens, "id %d", (int)ids[k]);
            (void)kalm__token_bytes(&t, ids[k]);
        }
        r = kalm__detokenize(&t, ids, n, back, sizeof back, &bytes, &err);
        if (r) fuzz_check_error(r, &err);
    }
    kalm__release(&c.allocator, blob[0], blob_size[0]);
    kalm__release(&c.allocator, blob[1], blob_size[1]);
    n = fuzz_json_cut(data, size);
    FUZZ_CHECK(!n || kalm__import_tokenizer("fuzz", exact, n, &c.allocator, &blob[0], &blob_size[0], &err), "cut at byte %lu it is a tokenizer", (unsigned long)n);
    FUZZ_CHECK(fuzz_live == before, "%lu bytes kept", (unsigned long)(fuzz_live - before));
    free(exact);
}

static const char *const fuzz_json_words[] = {
    "null", "true", "false", "{}", "[]", "[[]]", "{\"a\":0}", "-1", "0", "1", "255", "1048575", "1048576", "2147483648", "4294967295",
    "4294967296", "18446744073709551615", "18446744073709551616", "1e999", "-1e-999", "0.5", "\"\"", "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\\ud800\"",
    "\"\\\"\"", "\\u0041", ",", ":", "{", "}", "[", "]", "\xef\xbb\xbf", "\xc0\x80", "\xf4\x90\x80\x80",
    "\"added_tokens\"", "\"id\"", "\"content\"", "\"special\"", "\"normalized\"", "\"lstrip\"", "\"single_word\"", "\"normalizer\"", "\"pre_tokenizer\"",
    "\"decoder\"", "\"type\"", "\"Sequence\"", "\"normalizers\"", "\"Prepend\"", "\"Replace\"", "\"NFC\"", "\"NFKC\"", "\"pattern\"", "\"String\"", "\"Regex\"", "\"Split\"",
    "\"Metaspace\"", "\"replacement\"", "\"prepend_scheme\"", "\"always\"", "\"first\"", "\"never\"", "\"ByteFallback\"", "\"Fuse\"", "\"Strip\"", "\"start\"", "\"stop\"",
    "\"Unigram\"", "\"unk_id\"", "\"Precompiled\"", "\"precompiled_charsmap\"", "\"pretokenizers\"", "\"WhitespaceSplit\"", "\"split\"", "\"add_prefix_space\"", "\"strip_left\"", "\"strip_right\"",
    "\" {2,}\"", "\"NFD\"", "\"NFKD\"", "\"dropout\"", "\"continuing_subword_prefix\"", "\"end_of_word_suffix\"", "\"rstrip\"", "[\"a\",-1.5]", "\"attention_bias\"", "\"partial_rotary_factor\"", "\"final_logit_softcapping\"",
    "\"sliding_window_pattern\"", "\"use_bidirectional_attention\"", "\"model.encoder.text_model.\"",
    "\"model\"", "\"BPE\"", "\"unk_token\"", "\"fuse_unk\"", "\"byte_fallback\"", "\"ignore_merges\"", "\"vocab\"", "\"merges\"", "\"<0x00>\"", "\"<0x7F>\"", "\"\xe2\x96\x81\"",
    "[\"a\", \"b\"]", "\"a b\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"F32\"", "\"F16\"", "\"BF16\"", "\"F64\"", "\"F8_E4M3\"", "\"I64\"", "\"BOOL\"",
    "\"weight_map\"", "\"metadata\"", "\"total_size\"", "\"model.safetensors\"", "\"../x\"", "\"/etc/passwd\"", "\"a/b\"", "\"C:x\"", "\"encoder\"", "\"text_config\"",
    "\"hidden_size\"", "\"num_hidden_layers\"", "\"layer_types\"", "\"full_attention\"", "\"sliding_attention\"", "\"rope_parameters\"", "\"rope_theta\"",
    "\"rope_scaling\"", "\"factor\"", "\"rope_type\"", "\"linear\"", "\"default\"", "\"tie_word_embeddings\"", "\"sliding_window\"", "\"_id\"", "\"text\"", "\"title\"", NULL
};

static size_t fuzz_json_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (fuzz_below(random, 3) == 0) return fuzz_change_words(p, size, room, random);
    return fuzz_change_bytes(p, size, room, fuzz_json_words, random);
}

static void fuzz_tokenizer_json_seeds(fuzz_taker *take)
{
    static const char meta[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<pad>\",\"special\":true},{\"id\":1,\"content\":\"<unk>\",\"special\":true}],\"normalizer\":{\"type\":\"Replace\","
        "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"},\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\","
        "\"invert\":false},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
        "{\"type\":\"Fuse\"}]},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":false,\"vocab\":{\"<pad>\":0,\"<unk>\":1,"
        "\"a\":2,\"b\":3,\"ab\":4,\"\xe2\x96\x81\":5,\"\xe2\x96\x81""a\":6},\"merges\":[\"a b\",\"\xe2\x96\x81 a\"]}}";
    static const char words[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
        "{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"add_prefix_space\":true}]},\"normalizer\":{\"type\":\"NFKC\"},\"decoder\":{\"type\":\"Metaspace\","
        "\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"},\"model\":{\"vocab\":[[\"<unk>\",0],[\"\xe2\x96\x81\",-2.5],[\"a\",-3],[\"\xe2\x96\x81""ab\",-1e0]],\"unk_id\":0}}";
    static const char switches[] =
        "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"}]},\"model\":{\"type\":\"BPE\",\"dropout\":0.0,\"continuing_subword_prefix\":\"\","
        "\"end_of_word_suffix\":\"\",\"ignore_merges\":false,\"vocab\":{\"a\":0,\"b\":1,\"c\":3,\"abc\":2,\"ab\":4},\"merges\":[[\"a\",\"b\"],[\"ab\",\"c\"]]}}";
    char name[16];
    unsigned i;
    for (i = 0; i < FUZZ_JSONS; i++) {
        fuzz_bytes file = fuzz_tokenizer_text(i);
        sprintf(name, "toy-%u", i);
        take(name, file.data, file.size);
        free(file.data);
    }
    take("gemma-like", meta, sizeof meta - 1);
    take("words", words, sizeof words - 1);
    take("switches", switches, sizeof switches - 1);
}

static const fuzz_target fuzz_tokenizer_json_target = {
    "tokenizer_json", 1 << 14, 800, fuzz_import_one, fuzz_json_change, NULL, fuzz_tokenizer_json_seeds, fuzz_json_words
};

/* ---- SentencePiece's protobuf -------------------------------------------------------------------------------------------- */

static void fuzz_tokenizer_model_seeds(fuzz_taker *take)
{
    unsigned kind;
    for (kind = 0; kind < FUZZ_SPMS; kind++) {
        fuzz_bytes file = fuzz_spm_bytes(kind);
        char name[16];
        sprintf(name, "spm-%u", kind);
        take(name, file.data, file.size);
        free(file.data);
    }
}

/* Tags and lengths of protobuf: a byte becomes another tag, a length grows; the rest as bytes. */
static size_t fuzz_proto_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    static const uint8_t tags[] = { 0x08, 0x0a, 0x0d, 0x0f, 0x10, 0x12, 0x15, 0x18, 0x1a, 0x20, 0x22, 0x28, 0x2a, 0x98, 0x02, 0x01, 0x80, 0xff };
    if (size && fuzz_below(random, 3) == 0) {
        p[fuzz_below(random, size)] = tags[fuzz_below(random, sizeof tags)];
        return size;
    }
    return fuzz_change_bytes(p, size, room, NULL, random);
}

static const fuzz_target fuzz_tokenizer_model_target = {
    "tokenizer_model", 1 << 14, 400, fuzz_import_one, fuzz_proto_change, NULL, fuzz_tokenizer_model_seeds, NULL
};

#endif
