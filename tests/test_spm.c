/* test_spm.c - SentencePiece's models against SentencePiece.
     - tests/spm/cases.jsonl: ids and texts that Debian's spm_encode and spm_decode gave (tests/spm/make.py made them)
     - random texts against spm_encode and spm_decode themselves, where they are installed (package sentencepiece)
     - whole pieces (unigram.h): the same ids with and without them, also where scores nearly tie and sums are large
     - borders: no bytes but what a text has, capacities, memory that runs out
     test_spm [ROUNDS [SEED]]: so many batches of random texts for each model */
#include "guard.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../tokenizer/import.h"
#include "counting.h"
#include "test.h"
#include "spm_model.h"

static const char *const models[] = {
    "unigram_nfkc", "unigram_nfkc_bytes", "unigram_nfkc_suffix", "unigram_plain", "unigram_phrases", "unigram_rules",
    "unigram_noescape", "unigram_denormal", "word_nfkc", "word_plain", "char_nfkc", "char_plain", "bpe_denormal", "bpe_nfkc_suffix"
};
#define MODELS (sizeof models / sizeof *models)
#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

static kalm_allocator heap(void)
{
    int ok;
    return kalm__allocator(NULL, &ok);
}

typedef struct tok {
    kalm__tokenizer t;
    unsigned char  *blob;
    size_t          size;
} tok;

static int tok_open(tok *k, const char *name)
{
    kalm_allocator a = heap();
    kalm_error err;
    size_t size = 0;
    unsigned char *model = spm_model(name, &size);
    int ok;
    memset(k, 0, sizeof *k);
    if (!model) return 0;
    ok = CHECKF(!kalm__import_tokenizer(name, model, size, &a, &k->blob, &k->size, &err), "%s", err.text)
      && CHECKF(!kalm__tokenizer_open(&k->t, k->blob, k->size, &err), "%s", err.text);
    free(model);
    return ok;
}

static int32_t ids[1 << 17], want[1 << 17];
static char text_out[1 << 18];

static void check_encode(const tok *k, const char *name, const char *text, size_t size, const int32_t *right, size_t count)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm_text t;
    size_t n = 0, i;
    char *exact = (char *)malloc(size + 1);      /* the sanitizer sees a read behind the text */
    memcpy(exact, text, size);
    t.data = exact, t.size = size;
    CHECKF(!kalm__tokenize(&k->t, &a, NULL, t, KALM_PARSE_CONTROL, ids, sizeof ids / sizeof *ids, &n, &err), "%s", err.text);
    for (i = 0; i < n && i < count && ids[i] == right[i]; i++) {}
    CHECKF(n == count && i == n, "%s: \"%.*s\": id %lu is %d and not %d", name, (int)size, text, (unsigned long)i,
           i < n ? (int)ids[i] : -1, i < count ? (int)right[i] : -1);
    free(exact);
}

static void check_decode(const tok *k, const char *name, const int32_t *from, size_t count, const char *text, size_t size)
{
    kalm_error err;
    size_t n = 0;
    CHECKF(!kalm__detokenize(&k->t, from, count, text_out, sizeof text_out, &n, &err), "%s", err.text);
    CHECKF(n == size && !memcmp(text_out, text, n), "%s: \"%.*s\" and not \"%.*s\"", name, (int)n, text_out, (int)size, text);
}

/* ---- the cases in the repository ------------------------------------------------------------------------------------- */

static void test_cases(const tok *k, const char *name)
{
    kalm_allocator a = heap();
    kalm__json j;
    kalm_error err;
    size_t size, at = 0, end, n;
    unsigned checked = 0;
    unsigned char *data = test_read_file("tests/spm/cases.jsonl", &size);
    char key[64];
    if (!CHECK(data != NULL)) return;
    kalm__json_begin(&j, &a);
    snprintf(key, sizeof key, "%s decoded", name);
    for (; at < size; at = end + 1) {
        uint32_t node, i;
        kalm_text text, back;
        for (end = at; end < size && data[end] != '\n';) end++;
        if (!CHECK(!kalm__json_parse(&j, "cases", (const char *)data + at, end - at, &err))) break;
        node = kalm__json_get(&j, 0, name);
        if (!node) continue;
        text = kalm__json_text(&j, kalm__json_get(&j, 0, "text"));
        for (i = node + 1, n = 0; i < j.nodes[node].next; i = j.nodes[i].next) {
            uint64_t v = 0;
            kalm__json_uint(&j, i, &v);
            want[n++] = (int32_t)v;
        }
        check_encode(k, name, text.data, text.size, want, n);
        back = kalm__json_get(&j, 0, key) ? kalm__json_text(&j, kalm__json_get(&j, 0, key)) : text;
        check_decode(k, name, want, n, back.data, back.size);
        checked++;
    }
    CHECKF(checked > 100, "%s: %u cases", name, checked);
    kalm__json_end(&j);
    free(data);
}

/* ---- random texts, against the programs -------------------------------------------------------------------------------- */

static size_t put_char(char *p, unsigned c)
{
    if (c < 0x80) return p[0] = (char)c, 1;
    if (c < 0x800) return p[0] = (char)(0xc0 | c >> 6), p[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000) return p[0] = (char)(0xe0 | c >> 12), p[1] = (char)(0x80 | (c >> 6 & 63)), p[2] = (char)(0x80 | (c & 63)), 3;
    p[0] = (char)(0xf0 | c >> 18), p[1] = (char)(0x80 | (c >> 12 & 63)), p[2] = (char)(0x80 | (c >> 6 & 63));
    return p[3] = (char)(0x80 | (c & 63)), 4;
}

/* One line: pieces of the vocabulary, spaces, words, and characters from everywhere. */
static size_t random_line(const tok *k, uint64_t *state, char *p, size_t room)
{
    static const char *const bits[] = {
        " ", "  ", "   ", "\xe2\x96\x81", "the", "ing", "e", "a", "aa", "\xcc\x81", "\xe3\x80\x80", "<b>", "C++", "\xef\xac\x81", "\t", ".", "0", "12",
        "<start_of_turn>", "\xe2\x96\x81\xe2\x96\x81", "ab", "aab", "\xc2\xa0", "\xef\xbc\xa1", "rep", "\xef\xbf\xbd"
    };
    size_t n = 0, pieces = (size_t)(test_random(state) % 24);
    unsigned kind = (unsigned)(test_random(state) % 4);
    while (pieces-- && n + 300 < room) {
        unsigned what = (unsigned)(test_random(state) % 8);
        if (what < 3 + kind) {
            kalm_text s = kalm__token_bytes(&k->t, (int32_t)(test_random(state) % k->t.tokens));
            if (s.size > 200 || (s.size == 1 && (unsigned char)*s.data >= 0x80)) continue;
            if (s.size > 3 && !memcmp(s.data, "\xe2\x96\x81", 3) && test_random(state) % 4) p[n++] = ' ', s.data += 3, s.size -= 3;
            if (s.size && (*s.data == '\n' || *s.data == '\r' || !*s.data)) continue;
            memcpy(p + n, s.data, s.size);
            n += s.size;
        } else if (what < 7) {
            const char *b = bits[test_random(state) % (sizeof bits / sizeof *bits)];
            memcpy(p + n, b, strlen(b));
            n += strlen(b);
        } else {
            static const unsigned ranges[][2] = { { 32, 126 }, { 0xa0, 0x24f }, { 0x300, 0x36f }, { 0x400, 0x4ff }, { 0x1100, 0x11ff }, { 0x2000, 0x206f },
                                                  { 0x2e80, 0x33ff }, { 0xac00, 0xac80 }, { 0xfb00, 0xfdff }, { 0xff00, 0xffef }, { 0x1d400, 0x1d7ff },
                                                  { 0x1f300, 0x1f6ff }, { 1, 0x10ffff } };
            const unsigned *r = ranges[test_random(state) % 13];
            unsigned c = r[0] + (unsigned)(test_random(state) % (r[1] - r[0] + 1));
            if (c == '\n' || c == '\r' || (c >= 0xd800 && c < 0xe000)) continue;
            n += put_char(p + n, c);
        }
    }
    return n;
}

static size_t numbers(const char *line, size_t size, int32_t *out)
{
    size_t i = 0, n = 0;
    while (i < size) {
        int32_t v = 0;
        for (; i < size && line[i] >= '0' && line[i] <= '9'; i++) v = v * 10 + (line[i] - '0');
        out[n++] = v;
        i++;
    }
    return n;
}

static int has_programs(void) { return system("command -v spm_encode >/dev/null 2>&1 && command -v spm_decode >/dev/null 2>&1") == 0; }

static void test_programs(const tok *k, const char *name, unsigned long lines, uint64_t *state)
{
    static char line[8192];
    char command[600];
    size_t size, *begin = (size_t *)malloc((lines + 1) * sizeof *begin), model_size, in = 0, out = 0, back = 0, in_size, out_size, back_size;
    unsigned char *model = spm_model(name, &model_size), *texts, *encoded, *decoded;
    unsigned long i;
    FILE *f = fopen(TEST_BUILD "/tmp/spm.model", "wb");
    if (!CHECK(f != NULL && model != NULL)) return;
    fwrite(model, 1, model_size, f);
    fclose(f);
    free(model);
    f = fopen(TEST_BUILD "/tmp/spm.txt", "wb");
    for (i = 0; i < lines; i++) {
        size_t x = !strcmp(name, "word_plain");  /* a first word that is a control symbol's name ends spm_encode */
        line[0] = 'x';
        size = x + random_line(k, state, line + x, sizeof line - x);
        fwrite(line, 1, size, f);
        fputc('\n', f);
    }
    fclose(f);
    snprintf(command, sizeof command, "cd " TEST_BUILD "/tmp && spm_encode --model=spm.model --output_format=id <spm.txt >spm.ids 2>/dev/null"
             " && spm_decode --model=spm.model --input_format=id <spm.ids >spm.back 2>/dev/null");
    if (!CHECKF(system(command) == 0, "%s: spm_encode or spm_decode failed", name)) return;
    texts = test_read_file(TEST_BUILD "/tmp/spm.txt", &in_size);
    encoded = test_read_file(TEST_BUILD "/tmp/spm.ids", &out_size);
    decoded = test_read_file(TEST_BUILD "/tmp/spm.back", &back_size);
    for (i = 0; i < lines && in < in_size; i++) {
        size_t a = in, b = out, c = back, count;
        while (in < in_size && texts[in] != '\n') in++;
        while (out < out_size && encoded[out] != '\n') out++;
        while (back < back_size && decoded[back] != '\n') back++;
        count = numbers((const char *)encoded + b, out - b, want);
        check_encode(k, name, (const char *)texts + a, in - a, want, count);
        check_decode(k, name, want, count, (const char *)decoded + c, back - c);
        in++, out++, back++;
    }
    CHECK(in == in_size && out == out_size);
    free(texts), free(encoded), free(decoded), free(begin);
}

/* ---- the same vocabulary as a tokenizer.json of type Unigram ------------------------------------------------------------- */

static size_t put_base64(char *out, const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t i, k = 0;
    for (i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0u);
        out[k++] = digits[v >> 18];
        out[k++] = digits[v >> 12 & 63];
        out[k++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
        out[k++] = i + 2 < n ? digits[v & 63] : '=';
    }
    return k;
}

/* As Hugging Face's converter writes it: the charsmap, words between white space, U+2581 before each. */
static char *as_json(const tok *k, const char *around, size_t *size)
{
    const kalm__tokenizer *t = &k->t;
    size_t rules = t->size[KALM__SEC_RULES], texts = t->size[KALM__SEC_TEXTS], i, n = 0;
    char *out = (char *)malloc((rules + texts) * 2 + t->tokens * 200 + 4096);
    unsigned char *map = (unsigned char *)malloc(4 + rules + texts);
    kalm__put_u32(map, (uint32_t)rules);
    memcpy(map + 4, t->part[KALM__SEC_RULES], rules);
    memcpy(map + 4 + rules, t->part[KALM__SEC_TEXTS], texts);
    n += (size_t)sprintf(out, "{\"added_tokens\": [{\"id\": 1, \"content\": \"%.*s\", \"special\": true}, {\"id\": %u, \"content\": \"<mask>\", "
                         "\"special\": true, \"lstrip\": true, \"rstrip\": true}]", (int)kalm__token_bytes(t, 1).size, kalm__token_bytes(t, 1).data,
                         (unsigned)t->tokens);
    if (rules) {
        n += (size_t)sprintf(out + n, ", \"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"");
        n += put_base64(out + n, map, 4 + rules + texts);
        n += (size_t)sprintf(out + n, "\"}");
    }
    n += (size_t)sprintf(out + n, "%s, \"model\": {\"type\": \"Unigram\", \"unk_id\": %u, \"byte_fallback\": %s, \"vocab\": [", around,
                         (unsigned)t->unknown, t->flags & KALM__TOK_BYTES ? "true" : "false");
    for (i = 0; i < t->tokens; i++) {
        kalm_text s = kalm__token_bytes(t, (int32_t)i);
        n += (size_t)sprintf(out + n, "%s[\"", i ? ", " : "");
        if (t->part[KALM__SEC_KINDS][i] == KALM__KIND_BYTE) n += (size_t)sprintf(out + n, "<0x%02X>", (unsigned char)*s.data);
        else n += kalm__json_escape(s.data, s.size, out + n);
        n += (size_t)sprintf(out + n, "\", %.17g]", kalm__score(t->part[KALM__SEC_SCORES], i));
    }
    n += (size_t)sprintf(out + n, "]}}");
    free(map);
    *size = n;
    return out;
}

/* Its ids are those of the tokenizer.model wherever the two rule books agree: without U+2581, and without marks behind the
   character before, which Hugging Face's normalizer takes otherwise. */
static void test_json(const tok *k, const char *name)
{
    static const char words[] = ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": "
        "\"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"add_prefix_space\": true}]}, \"decoder\": {\"type\": \"Metaspace\"}";
    static const char whole[] = ", \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"never\", "
        "\"split\": false}";
    kalm_allocator a = heap();
    kalm__json j;
    kalm_error err;
    tok h;
    size_t size, at = 0, end, n, i;
    unsigned same = 0, all = 0;
    char *json = as_json(k, k->t.flags & KALM__TOK_PREFIX ? words : whole, &size);
    unsigned char *data = test_read_file("tests/spm/cases.jsonl", &n);
    if (!CHECKF(!kalm__import_tokenizer("json", json, size, &a, &h.blob, &h.size, &err), "%s: %s", name, err.text)) return;
    if (!CHECKF(!kalm__tokenizer_open(&h.t, h.blob, h.size, &err), "%s", err.text)) return;
    free(json);
    size = n;
    kalm__json_begin(&j, &a);
    for (; at < size; at = end + 1) {
        kalm_text text;
        size_t mine, theirs;
        int plain = 1;
        for (end = at; end < size && data[end] != '\n';) end++;
        if (!CHECK(!kalm__json_parse(&j, "cases", (const char *)data + at, end - at, &err))) break;
        text = kalm__json_text(&j, kalm__json_get(&j, 0, "text"));
        for (i = 0; i < text.size; i++) {
            if ((unsigned char)text.data[i] == 0xe2 && i + 2 < text.size && !memcmp(text.data + i, "\xe2\x96\x81", 3)) plain = 0;
            if (kalm__joins_before((const unsigned char *)text.data + i, text.size - i)) plain = 0;
            if (text.data[i] == '<') plain = 0;            /* user-defined symbols are none here */
        }
        if (!plain) continue;
        CHECK(!kalm__tokenize(&k->t, &a, NULL, text, KALM_PARSE_CONTROL, want, sizeof want / sizeof *want, &theirs, &err));
        CHECK(!kalm__tokenize(&h.t, &a, NULL, text, KALM_PARSE_CONTROL, ids, sizeof ids / sizeof *ids, &mine, &err));
        all++;
        for (i = 0; i < mine && i < theirs && ids[i] == want[i]; i++) {}
        /* neighbouring unknown words are one unknown token to SentencePiece alone */
        same += mine == theirs && i == mine;
    }
    CHECKF(all > 60 && same * 20 >= all * 19, "%s: %u of %u texts have the same ids", name, same, all);
    {   /* white space beside <mask> goes with it; a mark is found only where the caller says so */
        kalm_text t = kalm__text("the \t<mask>\n the");
        size_t with = 0, without = 0, m = h.t.tokens - 1;
        CHECK(!kalm__tokenize(&h.t, &a, NULL, t, KALM_PARSE_CONTROL, ids, 100, &with, &err));
        for (i = 0; i < with && (size_t)ids[i] != m; i++) {}
        CHECKF(i < with, "%s: no <mask>", name);
        CHECK(!kalm__tokenize(&h.t, &a, NULL, t, 0, ids, 100, &without, &err) && without > with);
        for (i = 0; i < without; i++) CHECK((size_t)ids[i] != m);
        t = kalm__text("the<mask>the");
        CHECK(!kalm__tokenize(&h.t, &a, NULL, t, KALM_PARSE_CONTROL, want, 100, &without, &err));
        CHECKF(with == without, "%s: %lu and %lu ids", name, (unsigned long)with, (unsigned long)without);
    }
    kalm__json_end(&j);
    kalm__release(&a, h.blob, h.size);
    free(data);
}

static void json_ids(const char *json, const char *text, const char *expected)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm__tokenizer t;
    unsigned char *blob;
    size_t size, n, i, at = 0;
    char got[400];
    if (!CHECKF(!kalm__import_tokenizer("json", json, strlen(json), &a, &blob, &size, &err), "%s", err.text)) return;
    CHECK(!kalm__tokenizer_open(&t, blob, size, &err));
    CHECK(!kalm__tokenize(&t, &a, NULL, kalm__text(text), 0, ids, 60, &n, &err));
    for (i = 0, got[0] = 0; i < n && i < 60; i++) at += (size_t)sprintf(got + at, "%s%d", i ? " " : "", (int)ids[i]);
    CHECKF(!strcmp(got, expected), "\"%s\": %s and not %s", text, got, expected);
    kalm__release(&a, blob, size);
}

/* Every switch by itself, worked out by hand. */
static void test_json_rules(void)
{
    static const char *const around[] = {
        "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}",
        "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"never\", \"split\": false}",
        "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}, {\"type\": "
        "\"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \"\xe2\x96\x81\"}]}, \"pre_tokenizer\": {\"type\": \"Metaspace\", "
        "\"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"first\"}",
        ("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Metaspace\", \"replacement\": "
         "\"\xe2\x96\x81\", \"add_prefix_space\": true}]}")
    };
    /* 0 <unk>, 1 U+2581, 2 a, 3 b, 4 U+2581 a, 5 ab, 6 a U+2581 */
    static const char *const texts[] = { "ab", " a  b ", "a\tb", "xxa xx", "", "  ", "a b", "\tab\t" };
    static const char *const expected[4][8] = {
        { "1 5", "4 1 1 3 1", "4 0 3", "1 0 2 1 0", "", "1 1", "4 1 3", "1 0 5 0" },
        { "5", "4 1 1 3 1", "2 0 3", "0 6 0", "", "1 1", "6 3", "0 5 0" },
        { "1 5", "4 1 3", "4 0 3", "1 0 2 1 0", "", "", "4 1 3", "1 5" },
        { "1 5", "4 1 3", "4 1 3", "1 0 2 1 0", "", "", "4 1 3", "1 5" }
    };
    char json[2000];
    unsigned i, k;
    for (i = 0; i < 4; i++) {
        sprintf(json, "{%s, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"\xe2\x96\x81\", -3], [\"a\", -2.5], "
                "[\"b\", -2.5], [\"\xe2\x96\x81\x61\", -4], [\"ab\", -3], [\"a\xe2\x96\x81\", -4.5]]}}", around[i]);
        for (k = 0; k < 8; k++) json_ids(json, texts[k], expected[i][k]);
    }
    /* each word's sum begins at 0: -0.1 + -0.2 is below -0.3, but -7.9 + -0.1 + -0.2 above -7.9 + -0.3 */
    sprintf(json, "{%s, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"\xe2\x96\x81q\", -7.9], [\"\xe2\x96\x81xy\", -0.3], "
            "[\"\xe2\x96\x81x\", -0.1], [\"y\", -0.2]]}}", around[0]);
    json_ids(json, "q xy", "1 2");
    /* a character without a piece of its own may be unknown though a piece begins with it, and of equal sums the longer last piece stays */
    json_ids("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"ab\", -4], [\"bc\", -1], [\"d\", -2], [\"dd\", -4]]}}",
             "abc", "0 2");
    json_ids("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"ab\", -4], [\"bc\", -1], [\"d\", -2], [\"dd\", -4]]}}",
             "dddd", "4 4");
    /* a Metaspace that says nothing puts a space first, as the one of older files does unless it says false */
    json_ids("{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\"}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, "
             "\"vocab\": [[\"<unk>\", 0], [\"\xe2\x96\x81\", -3], [\"a\", -2]]}}", "a", "1 2");
    json_ids("{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"add_prefix_space\": false}, \"model\": {\"type\": \"Unigram\", "
             "\"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"\xe2\x96\x81\", -3], [\"a\", -2]]}}", "a", "2");
    /* an unknown character scores 10 below the worst piece: -30 is more than 0.5 - 40 */
    json_ids("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"ab\", -30], [\"a\", 0.5]]}}", "abb", "1 0");
}

/* One piece of a tokenizer.model: 1 text, 2 score, 3 type. */
static size_t put_piece(unsigned char *p, const char *text, float score, unsigned type)
{
    size_t n = strlen(text);
    p[0] = 1 << 3 | 2, p[1] = (unsigned char)(n + 9);
    p[2] = 1 << 3 | 2, p[3] = (unsigned char)n;
    memcpy(p + 4, text, n);
    p[4 + n] = 2 << 3 | 5;
    kalm__put_f32(p + 5 + n, score);
    p[9 + n] = 3 << 3, p[10 + n] = (unsigned char)type;
    return 11 + n;
}

/* A tokenizer of a few pieces; `rest` are the other fields of its model. Returns whether it is there: then *blob is the caller's. */
typedef struct small_piece { const char *text; float score; unsigned type; } small_piece;
static int small_tokenizer(kalm__tokenizer *t, kalm_allocator *a, const char *name, const small_piece *pieces, size_t count,
                           const unsigned char *rest, size_t rest_size, unsigned char **blob, size_t *size)
{
    unsigned char model[256];
    kalm_error err;
    size_t n = 0, i;
    for (i = 0; i < count; i++) n += put_piece(model + n, pieces[i].text, pieces[i].score, pieces[i].type);
    memcpy(model + n, rest, rest_size);
    n += rest_size;
    if (!CHECKF(!kalm__import_tokenizer(name, model, n, a, blob, size, &err), "%s", err.text)) return 0;
    return CHECKF(!kalm__tokenizer_open(t, *blob, *size, &err), "%s", err.text);
}

/* A score that is no number. */
static void test_scores(void)
{
    static const float bad[] = { INFINITY, -INFINITY, NAN };
    size_t i;
    for (i = 0; i < 3; i++) {
        unsigned char model[64], *blob = NULL;
        kalm_allocator a = heap();
        kalm_error err;
        size_t n = put_piece(model, "<unk>", 0, 2), size = 0;
        n += put_piece(model + n, "x", bad[i], 1);
        CHECKF(kalm__import_tokenizer("t", model, n, &a, &blob, &size, &err) == KALM_BAD_FILE && strstr(err.text, "piece 1 is damaged"), "%g", (double)bad[i]);
    }
}

/* A message that is cut anywhere, or one byte of which says that there is more than there is, is not read beyond its end, where an
   unreadable page begins. */
static void test_message_ends(void)
{
    static const unsigned char rest[] = { 2 << 3 | 2, 5, 3 << 3, 1, 0x98, 2, 0, 7 << 3 | 5, 1, 2, 3, 4, 3 << 3 | 2, 2, 5 << 3, 0, 7 << 3 | 1, 1, 2, 3, 4, 5, 6, 7, 8 };
    unsigned char model[128];
    size_t n = put_piece(model, "<unk>", 0, 2), cut, at;
    n += put_piece(model + n, "x", 1, 1);
    memcpy(model + n, rest, sizeof rest);
    n += sizeof rest;
    for (cut = 0; cut <= n; cut++)
        for (at = 0; at < cut; at += cut == n ? 1 : cut) {         /* the byte at 0 stays; of the whole each other one is changed in turn */
            buffer b = take(cut, 1);
            unsigned char *blob = NULL;
            kalm_allocator a = heap();
            kalm_error err;
            size_t size = 0;
            kalm_result r;
            memcpy(b.data, model, cut);
            if (at) b.data[at] = 0x7f;
            r = kalm__import_tokenizer("t", (const char *)b.data, cut, &a, &blob, &size, &err);
            CHECKF(r == KALM_OK || r == KALM_BAD_FILE, "cut at %u, byte %u: %s", (unsigned)cut, (unsigned)at, err.text);
            if (!r) kalm__release(&a, blob, size);
            give(b);
        }
}
#define SMALL(name, pieces, rest) small_tokenizer(&t, &a, name, pieces, sizeof pieces / sizeof *pieces, rest, sizeof rest, &blob, &size)

/* SentencePiece's sum is a float that goes on behind a user-defined symbol, found in the text or before it is cut, whose score is its bytes times the best score, less 0.1:
   beside 9,000,000 and 15,000,000 the sums of "x" "y", 2, and of "xy", 1.75, are equal, and the longer piece stays; alone they are not. */
static void test_sums(void)
{
    static const struct { const char *text, *expected; } cases[] = { { "xy", "2 3" }, { "<u><u><u>xy", "1 1 1 4" }, { "xy<u>", "2 3 1" }, { "<start_of_turn>xy", "6 4" } };
    static const unsigned char rest[] = { 2 << 3 | 2, 2, 3 << 3, 1, 3 << 3 | 2, 6, 3 << 3, 0, 4 << 3, 0, 5 << 3, 0 };    /* unigram; texts as they are */
    static const small_piece pieces[] = { { "<unk>", 0, 2 }, { "<u>", 0, 4 }, { "x", 1.0f, 1 }, { "y", 1.0f, 1 }, { "xy", 1.75f, 1 }, { "z", 1000000.0f, 1 }, { "<start_of_turn>", 0, 4 } };
    unsigned char *blob;
    kalm_allocator a = heap();
    kalm_error err;
    kalm__tokenizer t;
    size_t size, count, i, k;
    if (!SMALL("sums", pieces, rest)) return;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[100];
        size_t at = 0;
        CHECK(!kalm__tokenize(&t, &a, NULL, kalm__text(cases[i].text), KALM_PARSE_CONTROL, ids, 20, &count, &err));
        for (k = 0, got[0] = 0; k < count && k < 20; k++) at += (size_t)sprintf(got + at, "%s%d", k ? " " : "", (int)ids[k]);
        CHECKF(!strcmp(got, cases[i].expected), "\"%s\": %s and not %s", cases[i].text, got, cases[i].expected);
    }
    kalm__release(&a, blob, size);
}

/* An unknown character's sum is rounded to a float before it is compared: beside 300,000,000, where floats are 32 apart, "x" and an unknown
   "q" are as good as "xq", which stays. The unknown score, 2, is 10 less than the least of a piece. */
static void test_unknown_sum(void)
{
    static const unsigned char rest[] = { 2 << 3 | 2, 2, 3 << 3, 1, 3 << 3 | 2, 6, 3 << 3, 0, 4 << 3, 0, 5 << 3, 0 };
    static const small_piece pieces[] = { { "<unk>", 0, 2 }, { "<start_of_turn>", 0, 4 }, { "z", 1000000.0f, 1 }, { "x", 12.0f, 1 }, { "xq", 12.0f, 1 } };
    unsigned char *blob;
    char text[20 * 15 + 3];
    kalm_allocator a = heap();
    kalm_error err;
    kalm__tokenizer t;
    size_t size, count, i;
    for (i = 0; i < 20; i++) memcpy(text + 15 * i, "<start_of_turn>", 15);
    strcpy(text + 15 * i, "xq");
    if (!SMALL("unknown", pieces, rest)) return;
    CHECK(!kalm__tokenize(&t, &a, NULL, kalm__text(text), KALM_PARSE_CONTROL, ids, 30, &count, &err));
    CHECKF(count == 21 && ids[20] == 4, "%u ids, the last is %d", (unsigned)count, (int)ids[count - 1]);
    kalm__release(&a, blob, size);
}

/* A vocabulary of words: a mark that a user writes as a word of its own is no mark, but with KALM_PARSE_CONTROL. */
static void test_word_marks(void)
{
    static const unsigned char rest[] = { 2 << 3 | 2, 2, 3 << 3, 3, 3 << 3 | 2, 6, 3 << 3, 0, 4 << 3, 0, 5 << 3, 1 };    /* words; spaces become U+2581 */
    static const struct { unsigned flags; int32_t ids[2]; } cases[] = { { 0, { 0, 2 } }, { KALM_PARSE_CONTROL, { 1, 2 } } };
    static const small_piece pieces[] = { { "<unk>", 0, 2 }, { "<start_of_turn>", 0, 4 }, { "\xe2\x96\x81word", -1, 1 } };
    unsigned char *blob;
    kalm_allocator a = heap();
    kalm_error err;
    kalm__tokenizer t;
    size_t size, count, i;
    if (!SMALL("words", pieces, rest)) return;
    for (i = 0; i < 2; i++) {
        CHECK(!kalm__tokenize(&t, &a, NULL, kalm__text("<start_of_turn> word"), cases[i].flags, ids, 20, &count, &err));
        CHECKF(count == 2 && ids[0] == cases[i].ids[0] && ids[1] == cases[i].ids[1], "flags %u: %u ids, %d %d", cases[i].flags, (unsigned)count, (int)ids[0],
               (int)ids[1]);
    }
    kalm__release(&a, blob, size);
}

/* By SentencePiece's rules control tokens leave nothing in the text, wherever they stand. */
static void test_control(void)
{
    static const unsigned char rest[] = { 2 << 3 | 2, 2, 3 << 3, 1, 3 << 3 | 2, 6, 3 << 3, 0, 4 << 3, 0, 5 << 3, 0 };    /* unigram; texts as they are */
    static const small_piece pieces[] = { { "<unk>", 0, 2 }, { "<s>", 0, 3 }, { "a", -1, 1 }, { "b", -1, 1 } };
    static const struct { int32_t ids[5]; size_t count; const char *text; } cases[] = {
        { { 1, 2, 3 }, 3, "ab" }, { { 2, 1, 3 }, 3, "ab" }, { { 2, 3, 1 }, 3, "ab" }, { { 1, 1, 2, 1, 1 }, 5, "a" }, { { 1 }, 1, "" }
    };
    unsigned char *blob;
    kalm_allocator a = heap();
    kalm_error err;
    kalm__tokenizer t;
    size_t size, n, i;
    if (!SMALL("control", pieces, rest)) return;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK(!kalm__detokenize(&t, cases[i].ids, cases[i].count, text_out, sizeof text_out, &n, &err));
        CHECKF(n == strlen(cases[i].text) && !memcmp(text_out, cases[i].text, n), "case %u: \"%.*s\"", (unsigned)i, (int)n, text_out);
    }
    kalm__release(&a, blob, size);
}

/* Numbers of the header and of sections that are the last allowed one, and the first that is not: of version 2, and of the tables
   that only SentencePiece's models have. */
static void test_header(void)
{
    static const struct { const char *words; size_t at; uint64_t value; unsigned bytes; } fault[] = {
        { "symbols", 20, 599, 4 }, { "symbols", 20, 601, 4 },      /* another number than tokens, of which there are 600 */
        { "cannot be", 48, 0x7ff0000000000000u, 8 }, { "cannot be", 48, 0xfff0000000000000u, 8 }, { "cannot be", 48, 0x7ff8000000000000u, 8 },
        { "cannot be", 36, 8, 4 }, { "cannot be", 32, 2, 4 }, { "cannot be", 40, 0, 4 }, { "cannot be", 40, KALM__MODELS, 4 },
        { "flags", 24, 1u << 21, 4 }, { "version 3", 7, '3', 1 }, { "should have", 8, UINT64_MAX, 8 }
    };
    enum { MORE = KALM__TOKEN_MOST + 64 };
    kalm_allocator a = heap();
    kalm_error err;
    kalm__tokenizer t;
    unsigned char *b;
    size_t i;
    uint64_t at;
    tok k;
    if (!tok_open(&k, "unigram_nfkc")) return;
    CHECK(k.t.tokens == 600);
    b = (unsigned char *)malloc(k.size + MORE);
    memset(b, 'x', k.size + MORE);
    for (i = 0; i < sizeof fault / sizeof *fault; i++) {
        memcpy(b, k.blob, k.size);
        if (fault[i].bytes == 1) b[fault[i].at] = (unsigned char)fault[i].value;
        else if (fault[i].bytes == 4) kalm__put_u32(b + fault[i].at, (uint32_t)fault[i].value);
        else kalm__put_u64(b + fault[i].at, fault[i].value);
        CHECKF(kalm__tokenizer_open(&t, b, k.size, &err) && strstr(err.text, fault[i].words), "fault %u: %s", (unsigned)i, err.text);
    }
    for (i = 0; i < 2; i++) {          /* the text of the unknown token */
        memcpy(b, k.blob, k.size);
        kalm__put_u64(b + 8, k.size + MORE);
        kalm__put_u64(b + 64 + 16 * KALM__SEC_UNKNOWN, k.size);
        kalm__put_u64(b + 72 + 16 * KALM__SEC_UNKNOWN, KALM__TOKEN_MOST + i);
        CHECKF(kalm__tokenizer_open(&t, b, k.size + MORE, &err) == (i ? KALM_BAD_FILE : KALM_OK), "%s", err.text);
        CHECK(!i || strstr(err.text, "unknown token has 4097 bytes"));
    }
    /* texts that rules put: the last byte is NUL; with a denormalizer, whose texts begin within them */
    if (CHECK(k.t.size[KALM__SEC_TEXTS] > 1 && k.t.size[KALM__SEC_RULES])) {
        at = (uint64_t)(k.t.part[KALM__SEC_TEXTS] - k.blob) + k.t.size[KALM__SEC_TEXTS] - 1;
        memcpy(b, k.blob, k.size);
        b[at] = 'x';
        CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, "have no end"));
        memcpy(b, k.blob, k.size);
        kalm__put_u64(b + 72 + 16 * KALM__SEC_TEXTS, 0);
        CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, "have no end"));
        for (i = 0; i < 4; i++) {
            memcpy(b, k.blob, k.size);
            kalm__put_u32(b + 24, k.t.flags | KALM__TOK_DENORMAL);
            kalm__put_u32(b + 44, (uint32_t)(k.t.size[KALM__SEC_RULES] / 4 + (i == 1)));
            kalm__put_u32(b + 56, (uint32_t)(k.t.size[KALM__SEC_TEXTS] - (i < 2) + (i == 3)));
            CHECKF(kalm__tokenizer_open(&t, b, k.size, &err) == (i ? KALM_BAD_FILE : KALM_OK), "case %u: %s", (unsigned)i, err.text);
            CHECK(!i || strstr(err.text, "denormalizer is damaged"));
        }
    }
    free(b);
    kalm__release(&a, k.blob, k.size);
}

/* ---- whole pieces ------------------------------------------------------------------------------------------------------- */

/* The ids of a text are those that the search alone finds: that of the same tokenizer without section `cuts`. */
static void check_whole(const tok *k, const char *name, const char *text, size_t size)
{
    kalm__tokenizer searching = k->t;
    kalm_allocator a = heap();
    kalm_error err;
    kalm_text t;
    size_t n = 0, m = 0, i, room = sizeof ids / sizeof *ids, at;
    t.data = text, t.size = size;
    searching.size[KALM__SEC_CUTS] = 0;
    CHECK(!kalm__tokenize(&k->t, &a, NULL, t, KALM_PARSE_CONTROL, ids, sizeof ids / sizeof *ids, &n, &err));
    CHECK(!kalm__tokenize(&searching, &a, NULL, t, KALM_PARSE_CONTROL, want, sizeof want / sizeof *want, &m, &err));
    for (i = 0; i < n && i < m && i < room && ids[i] == want[i]; i++) {}
    at = kalm__min(i, room - 1);       /* all are equal: the last that there is room for */
    CHECKF(n == m && i == kalm__min(n, room), "%s: id %lu is %d and not %d", name, (unsigned long)i, (int)ids[at], (int)want[at]);
}

static void test_whole(const tok *k, const char *name, uint64_t *state)
{
    size_t room = 200000, n = 0, begin, pieces = 0, codes = 0, i;
    char *text = (char *)malloc(room);
    CHECK(k->t.size[KALM__SEC_CUTS] == 8192);
    for (i = 0; i < k->t.trie_units; i++) {
        uint32_t unit = kalm__word(k->t.part[KALM__SEC_TRIE], i);
        if (!(unit >> 31) || unit == 0x80000000u) continue;
        pieces++;
        codes += (unit >> KALM__WHOLE_AT & 63) != 0;
    }
    CHECKF(codes * 10 > pieces * 9 && codes <= pieces, "%s: %lu pieces of %lu are whole", name, (unsigned long)codes, (unsigned long)pieces);
    while (n + 8192 < room) {
        begin = n;
        n += random_line(k, state, text + n, 4096);
        check_whole(k, name, text + begin, n - begin);
        text[n++] = ' ';
    }
    check_whole(k, name, text, n);     /* the carried sum grows to some hundred thousands */
    free(text);
}

/* Pieces of one to four letters whose scores are nearly the sums of their letters': which way is best is decided by the last bits of
   a sum, so by what was carried. The same as a tokenizer.json, which sums doubles; and spm_encode itself says what is right. */
static void test_ties(uint64_t *state, int programs)
{
    static const float letters[4] = { -1.3f, -2.7f, -3.1f, -2.2f };
    static unsigned char model[1 << 15];
    static char json[1 << 16], text[60000];
    kalm_allocator a = heap();
    kalm_error err;
    int which, round;
    for (round = 0; round < 4; round++) {
        float step = (float)(1u << round * 4) / 65536.0f / 16.0f;
        size_t n = 0, j = 0, i, size, lines = 0, begin;
        FILE *f = fopen(TEST_BUILD "/tmp/ties.txt", "wb");
        j += (size_t)sprintf(json, "{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": "
                             "\"always\", \"split\": %s}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0]", round % 2 ? "true" : "false");
        n += put_piece(model + n, "<unk>", 0, 2);
        for (i = 1; i < 341; i++) {              /* all strings of four letters and fewer, as numbers to base 4 */
            char piece[16];
            size_t size_of = 0, of = i - 1, digits = 1, first = 4;
            float score = 0;
            while (of >= first) of -= first, first *= 4, digits++;
            for (; digits; digits--, of /= 4) {
                size_of += (size_t)sprintf(piece + size_of, "%s", of % 4 == 3 ? "\xe2\x96\x81" : of % 4 == 2 ? "c" : of % 4 ? "b" : "a");
                score += letters[of % 4];
            }
            if (i > 4) score += step * ((float)(test_random(state) % 7) - 3);
            if (i > 4 && (test_random(state) % 3 == 0 || (round > 1 && strstr(piece + 1, "\xe2\x96\x81")))) continue;
            n += put_piece(model + n, piece, score, 1);
            j += (size_t)sprintf(json + j, ", [\"%s\", %.9g]", piece, (double)score);
        }
        sprintf(json + j, "]}}");
        for (size = begin = 0; size + 1 < sizeof text; size++) {
            unsigned r = (unsigned)(test_random(state) % 9);
            text[size] = "aaabbbcc "[r];
            if (size - begin > 29000) {          /* two long lines, and what is left */
                text[size] = '\n';
                begin = size + 1;
                lines++;
            }
        }
        text[size++] = '\n';
        if (!CHECK(f != NULL)) return;
        fwrite(text, 1, size, f);
        fclose(f);
        for (which = 0; which < 2; which++) {
            tok k;
            size_t count;
            if (!CHECKF(!kalm__import_tokenizer("ties", which ? (const void *)json : model, which ? strlen(json) : n, &a, &k.blob, &k.size, &err)
                        && !kalm__tokenizer_open(&k.t, k.blob, k.size, &err), "%s", err.text)) return;
            check_whole(&k, which ? "ties.json" : "ties.model", text, size - 1);
            f = fopen(TEST_BUILD "/tmp/ties.model", "wb");
            if (programs && !which && CHECK(f != NULL)) {
                unsigned char *right;
                size_t right_size, at = 0, end;
                fwrite(model, 1, n, f);
                fclose(f);
                CHECK(system("cd " TEST_BUILD "/tmp && spm_encode --model=ties.model --output_format=id <ties.txt >ties.ids 2>/dev/null") == 0);
                right = test_read_file(TEST_BUILD "/tmp/ties.ids", &right_size);
                for (begin = 0; begin < size && CHECK(right && at < right_size); begin += i + 1, at = end + 1) {
                    for (i = 0; text[begin + i] != '\n'; i++) {}
                    for (end = at; right[end] != '\n'; end++) {}
                    count = numbers((const char *)right + at, end - at, want);
                    check_encode(&k, "ties.model", text + begin, i, want, count);
                }
                free(right);
            } else if (f) fclose(f);
            kalm__release(&a, k.blob, k.size);
        }
        CHECK(lines == 2);
    }
}

/* ---- long texts, memory, versions ---------------------------------------------------------------------------------------- */

static void test_limits(tok *k, const char *name)
{
    static const char *const units[] = { "a", "in", " ", "\xe3\x81\x82", "the ", "\xff" };
    size_t n = 30000, i, at, all, some;
    char *text = (char *)malloc(n);
    kalm_allocator a = counting();
    kalm_error err;
    kalm_text t;
    kalm__tokenizer other;
    for (i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i]), cap;
        long fail;
        for (at = 0; at < n; at++) text[at] = units[i][at % unit];
        t.data = text, t.size = n;
        CHECKF(!kalm__tokenize(&k->t, &a, NULL, t, 0, ids, sizeof ids / sizeof *ids, &all, &err), "%s", err.text);
        for (at = 0; at < all; at++) CHECK(ids[at] >= 0 && (uint32_t)ids[at] < k->t.tokens);
        for (cap = 0; cap < 4; cap++) {          /* a capacity of n gives the first n, and touches nothing behind them */
            int32_t few[4] = { -7, -7, -7, -7 };
            CHECK(!kalm__tokenize(&k->t, &a, NULL, t, 0, few, cap, &some, &err) && some == all);
            for (at = 0; at < 4; at++) CHECK(few[at] == (at < cap && at < all ? ids[at] : -7));
        }
        for (fail = 0; fail < 100; fail++) {
            kalm_result r;
            calls_left = fail;
            r = kalm__tokenize(&k->t, &a, NULL, t, 0, NULL, 0, &some, &err);
            calls_left = -1;
            CHECK(live_bytes == 0 && (r == KALM_OK || (r == KALM_NO_MEMORY && err.text[0])));
            if (r == KALM_OK) break;
        }
        CHECKF(fail < 100, "%s: %ld allocations for one text", name, fail);
    }
    free(text);
    /* a library that knows version 1 alone looks at this byte; version 1 of these tables is no tokenizer */
    CHECK((k->blob[7] == '2') == (k->t.model != KALM__MODEL_BPE));
    if (k->t.model == KALM__MODEL_BPE) return;
    k->blob[7] = '1';
    CHECK(kalm__tokenizer_open(&other, k->blob, k->size, &err) == KALM_BAD_FILE && err.text[0]);
    k->blob[7] = '3';
    CHECK(kalm__tokenizer_open(&other, k->blob, k->size, &err) == KALM_BAD_VERSION && strstr(err.text, "version 3"));
    k->blob[7] = '2';
    kalm__put_u32(k->blob + 40, KALM__MODELS);
    CHECK(kalm__tokenizer_open(&other, k->blob, k->size, &err) == KALM_BAD_FILE && err.text[0]);
    kalm__put_u32(k->blob + 40, k->t.model);
    CHECK(!kalm__tokenizer_open(&other, k->blob, k->size, &err));
}

/* What Hugging Face's "Precompiled" normalizer replaces as a whole: a grapheme of fewer than six bytes, by the shortest rule that begins
   there; else a character. A grapheme is a character and the marks behind it, or CR LF. */
static void test_graphemes(void)
{
    static const unsigned marks[] = { 0x300, 0x36f, 0x483, 0x489, 0x591, 0x5bf, 0x5c1, 0x5c7, 0x610, 0x64b, 0x670, 0x6d6, 0x6df, 0x6e7, 0x6ea, 0x711, 0x730,
        0x7a6, 0x7eb, 0x1ab0, 0x1dc0, 0x1dff, 0x200c, 0x200d, 0x20d0, 0x20f0, 0x302a, 0x302f, 0x3099, 0x309a, 0xfe00, 0xfe0f, 0xfe20, 0xfe2f };
    static const unsigned others[] = { 'a', 0x2ff, 0x370, 0x58f, 0x5be, 0x5c0, 0x5c8, 0x64a, 0x66e, 0x6e5, 0x7b1, 0x1e00, 0x200b, 0x2010, 0x20f1, 0x3029, 0x3030,
        0x3098, 0x309b, 0xfdff, 0xfe10, 0xfe30 };
    static const struct { const char *text; size_t took; const char *with; } cases[] = {
        { "\xc2\xba", 2, "o" }, { "\xc2\xba\xcc\x80x", 4, "o" }, { "\xc2\xba\xcc\x80\xcc\x81", 2, "o" }, /* six bytes: the character alone */
        { "\xef\xbc\xa1\xcc\x81", 5, "A" }, { "\xef\xbc\xa1\xe3\x82\x99", 3, "A" }, { "a\xcc\x80\xcc\x81", 5, "\xc3\xa0" },
        { "\r\n", 2, " " }, { "\rx", 1, " " }, { "\n\r", 1, " " }, { "b", 1, "b" }, { "\xed\xa0\x80", 1, "\xef\xbf\xbd" }, { "\xe3\x81", 2, "\xef\xbf\xbd" } };
    kalm_allocator a = heap();
    kalm_error err;
    const unsigned char *with;
    size_t took, size, steps, i;
    tok k;
    if (!tok_open(&k, "unigram_nfkc")) return;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        const void *text = cases[i].text;
        steps = 0;
        CHECK(!kalm__precompiled_at(&k.t, (const unsigned char *)text, strlen(cases[i].text), &took, &with, &size, &steps, &err));
        CHECKF(took == cases[i].took && size == strlen(cases[i].with) && !memcmp(with, cases[i].with, size), "case %u: %u bytes become %.*s", (unsigned)i,
               (unsigned)took, (int)size, (const char *)(const void *)with);
    }
    for (i = 0; i < sizeof marks / sizeof *marks + sizeof others / sizeof *others; i++) {
        int joins = i < sizeof marks / sizeof *marks;
        char text[8] = "\xc2\xba";
        size_t n = kalm__json_put_utf8(text + 2, joins ? marks[i] : others[i - sizeof marks / sizeof *marks]);
        const void *bytes = text;
        steps = 0;
        CHECK(!kalm__precompiled_at(&k.t, (const unsigned char *)bytes, n + 2, &took, &with, &size, &steps, &err));
        CHECKF(took == (joins ? n + 2 : 2) && size == 1 && *with == 'o', "U+%04X", joins ? marks[i] : others[i - sizeof marks / sizeof *marks]);
        CHECKF(steps > KALM__GROWTH_STEPS, "what a rule puts in costs steps, or a text could grow without end");
    }
    kalm__release(&a, k.blob, k.size);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1, round;
    uint64_t state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    int programs = has_programs();
    size_t i;
    if (!programs) printf("not there: spm_encode and spm_decode, so no random texts against them\n");
    for (i = 0; i < MODELS; i++) {
        kalm_allocator a = heap();
        tok k;
        if (!tok_open(&k, models[i])) continue;
        test_cases(&k, models[i]);
        for (round = 0; programs && round < rounds; round++) test_programs(&k, models[i], 400, &state);
        if (strstr("unigram_nfkc_bytes unigram_plain unigram_nfkc", models[i])) test_json(&k, models[i]);
        if (k.t.model == KALM__MODEL_UNIGRAM) test_whole(&k, models[i], &state);
        test_limits(&k, models[i]);
        kalm__release(&a, k.blob, k.size);
    }
    test_sums();
    test_scores();
    test_message_ends();
    test_word_marks();
    test_graphemes();
    test_control();
    test_header();
    test_unknown_sum();
    test_json_rules();
    test_ties(&state, programs);
    return test_end();
}
