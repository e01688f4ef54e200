/* fuzz_tokenizers.h - targets "tokenizer_json" and "tokenizer_model": the files that the converter imports. What is accepted makes
   a blob that opens, gives ids inside the vocabulary, and is the same blob twice. */
#ifndef FUZZ_TOKENIZERS_H
#define FUZZ_TOKENIZERS_H

#include "fuzz.h"
#include "model_bytes.h"
#include "fuzz_model.h"

static void fuzz_import_one(const uint8_t *data, size_t size)
{
    static const char *const texts[3] = { fuzz_text_a, "the <b>a</b> \xe2\x96\x81  x\xff\n\n", "abab\tA \xef\xbc\xa1 \xf0\x9f\x98\x80" };
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
    "\"model\"", "\"BPE\"", "\"unk_token\"", "\"fuse_unk\"", "\"byte_fallback\"", "\"ignore_merges\"", "\"vocab\"", "\"merges\"", "\"<0x00>\"", "\"<0x7F>\"", "\"\xe2\x96\x81\"",
    "[\"a\", \"b\"]", "\"a b\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"F32\"", "\"F16\"", "\"BF16\"", "\"F64\"", "\"F8_E4M3\"", "\"I64\"", "\"BOOL\"",
    "\"weight_map\"", "\"metadata\"", "\"total_size\"", "\"model.safetensors\"", "\"../x\"", "\"/etc/passwd\"", "\"a/b\"", "\"C:x\"", "\"encoder\"", "\"text_config\"",
    "\"hidden_size\"", "\"num_hidden_layers\"", "\"layer_types\"", "\"full_attention\"", "\"sliding_attention\"", "\"rope_parameters\"", "\"rope_theta\"",
    "\"rope_scaling\"", "\"factor\"", "\"rope_type\"", "\"linear\"", "\"default\"", "\"tie_word_embeddings\"", "\"sliding_window\"", "\"_id\"", "\"text\"", "\"title\"", NULL
};

static size_t fuzz_json_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
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
    take("toy", fuzz_tokenizer_json, sizeof fuzz_tokenizer_json - 1);
    take("gemma-like", meta, sizeof meta - 1);
}

static const fuzz_target fuzz_tokenizer_json_target = {
    "tokenizer_json", 1 << 14, 800, fuzz_import_one, fuzz_json_change, NULL, fuzz_tokenizer_json_seeds, fuzz_json_words
};

/* ---- SentencePiece's protobuf -------------------------------------------------------------------------------------------- */

FUZZ_FN void fuzz_put_varint(fuzz_bytes *b, uint64_t v)
{
    do {
        *fuzz_grow(b, 1) = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
    } while (v);
}
FUZZ_FN void fuzz_put_number(fuzz_bytes *b, unsigned field, uint64_t v)
{
    fuzz_put_varint(b, field << 3);
    fuzz_put_varint(b, v);
}
FUZZ_FN void fuzz_put_string(fuzz_bytes *b, unsigned field, const void *data, size_t size)
{
    fuzz_put_varint(b, field << 3 | 2);
    fuzz_put_varint(b, size);
    if (size) memcpy(fuzz_grow(b, size), data, size);
}
FUZZ_FN void fuzz_put_piece(fuzz_bytes *b, const char *text, float score, unsigned type)
{
    fuzz_bytes piece;
    memset(&piece, 0, sizeof piece);
    fuzz_put_string(&piece, 1, text, strlen(text));
    fuzz_put_varint(&piece, 2 << 3 | 5);
    kalm__put_f32(fuzz_grow(&piece, 4), score);
    if (type != 1) fuzz_put_number(&piece, 3, type);
    fuzz_put_string(b, 1, piece.data, piece.size);
    free(piece.data);
}

/* A charsmap with one rule, 'A' becomes "ab": a Darts double array of 512 units behind its size, then the texts. */
FUZZ_FN void fuzz_put_charsmap(fuzz_bytes *b)
{
    uint8_t *p = fuzz_grow(b, 4 + 4 * 512 + 3);
    kalm__put_u32(p, 4 * 512);
    p += 4;
    kalm__put_u32(p, 256u << 10);                          /* the root's children lie from 256 on */
    kalm__put_u32(p + 4 * (256 ^ 'A'), 'A' | 256u | 64u << 10);
    kalm__put_u32(p + 4 * (256 ^ 'A' ^ 64), 0x80000000u);  /* the text at 0 */
    memcpy(p + 4 * 512, "ab", 3);
}

static void fuzz_tokenizer_model_seeds(fuzz_taker *take)
{
    static const char *const words[] = { "\xe2\x96\x81", "a", "b", "ab", "\xe2\x96\x81\x61", "aba", "abab", "\xc3\xa9" };
    unsigned kind, i;
    for (kind = 0; kind < 4; kind++) {
        fuzz_bytes file, trainer, normalizer;
        char byte[8], name[16];
        memset(&file, 0, sizeof file);
        memset(&trainer, 0, sizeof trainer);
        memset(&normalizer, 0, sizeof normalizer);
        fuzz_put_piece(&file, "<unk>", 0, 2);
        fuzz_put_piece(&file, "<s>", 0, 3);
        fuzz_put_piece(&file, "<b>", 0, 4);
        if (kind & 1) for (i = 0; i < 256; i++) sprintf(byte, "<0x%02X>", i), fuzz_put_piece(&file, byte, 0, 6);
        for (i = 0; i < 8; i++) fuzz_put_piece(&file, words[i], -(float)i, i == 5 ? 5 : 1);
        fuzz_put_number(&trainer, 3, 2);
        fuzz_put_number(&trainer, 35, kind & 1);
        fuzz_put_string(&file, 2, trainer.data, trainer.size);
        if (kind & 2) {
            fuzz_bytes map;
            memset(&map, 0, sizeof map);
            fuzz_put_charsmap(&map);
            fuzz_put_string(&normalizer, 2, map.data, map.size);
            free(map.data);
        }
        fuzz_put_number(&normalizer, 3, kind & 1);
        fuzz_put_number(&normalizer, 4, kind >> 1);
        fuzz_put_number(&normalizer, 5, 1);
        fuzz_put_string(&file, 3, normalizer.data, normalizer.size);
        sprintf(name, "spm-%u", kind);
        take(name, file.data, file.size);
        free(file.data);
        free(trainer.data);
        free(normalizer.data);
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
