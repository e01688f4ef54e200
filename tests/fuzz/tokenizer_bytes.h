/* tokenizer_bytes.h - small tokenizer files of every kind that the library reads, as bytes, and what the importer makes of them. */
#ifndef FUZZ_TOKENIZER_BYTES_H
#define FUZZ_TOKENIZER_BYTES_H

#include "fuzz.h"

typedef struct fuzz_bytes {
    uint8_t *data;
    size_t   size, room;
} fuzz_bytes;

FUZZ_FN uint8_t *fuzz_grow(fuzz_bytes *b, size_t more)
{
    if (!b->data || b->room - b->size < more) {
        b->room = (b->size + more) * 2 + 16;
        b->data = (uint8_t *)realloc(b->data, b->room);
        if (!b->data) abort();
    }
    memset(b->data + b->size, 0, more);
    b->size += more;
    return b->data + b->size - more;
}

/* ---- tokenizer.json -------------------------------------------------------------------------------------------------------- */

/* A tokenizer with every kind of token: control, byte, user-defined, unknown, merges over several ranks. */
static const char fuzz_tokenizer_json[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 3, \"content\": \"<b>\", \"special\": false}, {\"id\": 4, \"content\": "
    "\"<eot>\", \"special\": true}, {\"id\": 14, \"content\": \"\\n\\n\", \"special\": false}], \"normalizer\": {\"type\": \"Sequence\", "
    "\"normalizers\": [{\"type\": \"Prepend\", \"prepend\": "
    "\"\xe2\x96\x81\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}]}, \"decoder\": {\"type\": "
    "\"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "
    "\"stop\": 0}]}, \"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"\xe2\x96\x81\": 1, "
    "\"a\": 2, \"<b>\": 3, \"<eot>\": 4, \"b\": 5, \"ab\": 6, \"\xe2\x96\x81\xe2\x96\x81\": 7, \"\\u0061ba\": 8, \"<0x41>\": 9, \"\xc3\xa9\": 10, "
    "\"abab\": 11, \"\xe2\x96\x81""a\": 12, \"<0x0A>\": 13, \"\\n\\n\": 14, \"yes\": 15, \"no\": 16, \"aa\": 17, \"aaaa\": 18}, "
    "\"merges\": [[\"\xe2\x96\x81\", \"\xe2\x96\x81\"], \"ab a\", [\"a\", \"b\"], \"ab ab\", \"a a\", \"aa aa\", [\"\xe2\x96\x81\", \"a\"]]}}";

/* A Unigram one, with the texts' rules in base64. */
static const char fuzz_unigram_begin[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 3, \"content\": \"<b>\", \"special\": false}, {\"id\": 4, \"content\": \"<eot>\", \"special\": true}], "
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"";
static const char fuzz_unigram_end[] =
    "\"}, {\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}, {\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \"\xe2\x96\x81\"}]}, "
    "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}, "
    "\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"always\"}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"byte_fallback\": false, "
    "\"vocab\": [[\"<unk>\", 0.0], [\"\xe2\x96\x81\", -2.0], [\"a\", -3.5], [\"<b>\", 0], [\"<eot>\", 0], [\"b\", -3.25], [\"ab\", -4.5], [\"\xe2\x96\x81\xe2\x96\x81\", -5], "
    "[\"aba\", -5.75], [\"\xe2\x96\x81""a\", -4], [\"\xc3\xa9\", -6], [\"abab\", -6.5], [\"e\", -7], [\"\xe2\x96\x81""ab\", -7], [\"\\n\", -8], [\"yes\", -9], [\"no\", -9]]}}";

/* ---- tokenizer.model of SentencePiece, a protobuf ---------------------------------------------------------------------------- */

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

FUZZ_FN fuzz_bytes fuzz_no_bytes(void)
{
    fuzz_bytes b;
    memset(&b, 0, sizeof b);
    return b;
}

/* The kinds: BPE with and without bytes and rules for texts; then Unigram, BPE, words and characters, with a denormalizer, and with a
   space behind each word and not before. */
enum { FUZZ_SPMS = 9 };
FUZZ_FN fuzz_bytes fuzz_spm_bytes(unsigned kind)
{
    static const char *const words[] = { "\xe2\x96\x81", "a", "b", "ab", "\xe2\x96\x81\x61", "aba", "abab", "\xc3\xa9" };
    static const uint8_t types[FUZZ_SPMS] = { 2, 2, 2, 2, 1, 1, 2, 3, 4 };
    fuzz_bytes file = fuzz_no_bytes(), trainer = fuzz_no_bytes(), normalizer = fuzz_no_bytes(), denormalizer = fuzz_no_bytes(), map = fuzz_no_bytes();
    char byte[8];
    unsigned i;
    fuzz_put_piece(&file, "<unk>", 0, 2);
    fuzz_put_piece(&file, "<s>", 0, 3);
    fuzz_put_piece(&file, "<b>", 0, 4);
    if (kind & 1) for (i = 0; i < 256; i++) sprintf(byte, "<0x%02X>", i), fuzz_put_piece(&file, byte, 0, 6);
    for (i = 0; i < 8; i++) fuzz_put_piece(&file, words[i], -(float)i, i == 5 ? 5 : 1);
    fuzz_put_number(&trainer, 3, types[kind % FUZZ_SPMS]);
    fuzz_put_number(&trainer, 24, kind == 5);
    fuzz_put_number(&trainer, 35, kind & 1);
    fuzz_put_string(&file, 2, trainer.data, trainer.size);
    fuzz_put_charsmap(&map);
    if (kind & 2 || kind == 4) fuzz_put_string(&normalizer, 2, map.data, map.size);
    fuzz_put_number(&normalizer, 3, kind & 1);
    fuzz_put_number(&normalizer, 4, kind >> 1 & 1);
    fuzz_put_number(&normalizer, 5, 1);
    fuzz_put_string(&file, 3, normalizer.data, normalizer.size);
    if (kind == 4 || kind == 6) {
        fuzz_put_string(&denormalizer, 2, map.data, map.size);
        for (i = 3; i < 6; i++) fuzz_put_number(&denormalizer, i, 0);
        fuzz_put_string(&file, 5, denormalizer.data, denormalizer.size);
    }
    free(trainer.data);
    free(normalizer.data);
    free(denormalizer.data);
    free(map.data);
    return file;
}

/* ---- the blobs --------------------------------------------------------------------------------------------------------------- */

/* A tokenizer.json: 0 the BPE one, 1 the Unigram one. */
enum { FUZZ_JSONS = 2 };
FUZZ_FN fuzz_bytes fuzz_tokenizer_text(unsigned which)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    fuzz_bytes text = fuzz_no_bytes(), map = fuzz_no_bytes();
    size_t i;
    if (!which) {
        memcpy(fuzz_grow(&text, sizeof fuzz_tokenizer_json - 1), fuzz_tokenizer_json, sizeof fuzz_tokenizer_json - 1);
        return text;
    }
    fuzz_put_charsmap(&map);
    fuzz_grow(&map, 2);                /* whole threes; texts may end with more zeros */
    map.size -= map.size % 3;
    memcpy(fuzz_grow(&text, sizeof fuzz_unigram_begin - 1), fuzz_unigram_begin, sizeof fuzz_unigram_begin - 1);
    for (i = 0; i < map.size; i += 3) {
        uint32_t v = (uint32_t)map.data[i] << 16 | (uint32_t)map.data[i + 1] << 8 | map.data[i + 2];
        unsigned k;
        uint8_t *p = fuzz_grow(&text, 4);
        for (k = 0; k < 4; k++) p[k] = (uint8_t)digits[v >> (18 - 6 * k) & 63];
    }
    memcpy(fuzz_grow(&text, sizeof fuzz_unigram_end - 1), fuzz_unigram_end, sizeof fuzz_unigram_end - 1);
    free(map.data);
    return text;
}

/* What the importer makes of them; made once: the two of JSON, then SentencePiece's Unigram and BPE with rules in both directions. */
enum { FUZZ_BLOBS = FUZZ_JSONS + 2 };
FUZZ_FN const unsigned char *fuzz_tokenizer_blob(unsigned which, size_t *size)
{
    static unsigned char *blob[FUZZ_BLOBS];
    static size_t bytes[FUZZ_BLOBS];
    kalm_error err;
    int ok;
    kalm_allocator a = kalm__allocator(NULL, &ok);
    if (!blob[which]) {
        fuzz_bytes file = which < FUZZ_JSONS ? fuzz_tokenizer_text(which) : fuzz_spm_bytes(which == FUZZ_JSONS ? 4 : 6);
        if (kalm__import_tokenizer("fuzz", (const char *)file.data, file.size, &a, &blob[which], &bytes[which], &err))
            fuzz_broken(__FILE__, __LINE__, "a tokenizer", "%u: %s", which, err.text);
        free(file.data);
    }
    *size = bytes[which];
    return blob[which];
}

#endif
