/* test_tokenizer.c - the tokenizer against the definition and against published results.
     - random vocabularies and merges, sane and insane, against merging by the definition
     - tests/tokenizer_cases.jsonl: texts of our own, ids of Hugging Face tokenizers 0.23.2 for examples/tiny
     - ../shared/tokenizer, where it is there: SentencePiece models, and KaLM's own tokenizer if it lies at
       build/tokenizer/kalm/tokenizer.json (tests/tokenizer_oracle/README.md says how to get it)
     - tests/cut_cases.jsonl: queries and documents that are cut, scored
     - what users may not write, borders between texts, memory that runs out, broken files */
#include "guard.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../tokenizer/import.h"
#include "counting.h"
#include "test.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

typedef struct tok {
    kalm__tokenizer t;
    unsigned char  *blob;
    size_t          size;
} tok;

static int tok_from(tok *k, const char *name, const void *data, size_t size)
{
    kalm_allocator a = counting();
    kalm_error err;
    memset(k, 0, sizeof *k);
    if (!CHECKF(kalm__import_tokenizer(name, data, size, &a, &k->blob, &k->size, &err) == KALM_OK, "%s", err.text)) return 0;
    return CHECKF(kalm__tokenizer_open(&k->t, k->blob, k->size, &err) == KALM_OK, "%s", err.text);
}
static int tok_open(tok *k, const char *path)
{
    size_t size;
    unsigned char *data = test_read_file(path, &size);
    int ok;
    memset(k, 0, sizeof *k);
    if (!data) return 0;
    ok = tok_from(k, path, data, size);
    free(data);
    return ok;
}
static void tok_close(tok *k)
{
    kalm_allocator a = counting();
    kalm__release(&a, k->blob, k->size);
}

static int32_t ids_of[1 << 20];
static size_t encode(const tok *k, const char *text, size_t size, uint32_t flags)
{
    kalm_allocator a = counting();
    kalm_error err;
    kalm_text t;
    size_t n = 0, before = live_bytes;
    t.data = text, t.size = size;
    CHECKF(kalm__tokenize(&k->t, &a, NULL, t, flags, ids_of, sizeof ids_of / sizeof *ids_of, &n, &err) == KALM_OK, "%s", err.text);
    CHECK(live_bytes == before);
    return n;
}
static int encodes_to(const tok *k, const char *text, uint32_t flags, const int32_t *want, size_t count)
{
    size_t n = encode(k, text, strlen(text), flags);
    return n == count && !memcmp(ids_of, want, n * sizeof *want);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void test_json(void)
{
    static const char *const bad[] = {
        "", "{", "[1,]", "{\"a\":1,}", "01", "-", "1.", ".5", "1e", "+1", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
        "\"\xff\"", "\"\xed\xa0\x80\"", "nul", "nulls", "[1 2]", "{\"a\" 1}", "{1:2}", "\"a", "\"\\x\"", "\"\\u12g4\"", "[]]",
        "[}", "\"\t\"", "{\"a\":}", "[,1]", "1 2", "\xef\xbb\xbf{}", "NaN", "[[[[", "'a'", "/**/1"
    };
    static const char *const good[] = {
        "0", "-0", "1e5", "1.5E-3", "\"\"", "[]", "{}", " [ ] ", "null", "[true,false,null]", "{\"a\":{\"b\":[1,2,{}]}}",
        "\"\\ud83d\\ude00\\u00e9\\n\\/\\\"\"", "\"\xf0\x9f\x98\x80\""
    };
    kalm_allocator a = counting();
    kalm__json j;
    kalm_error err;
    size_t i;
    char *deep;
    double d;
    uint64_t u;
    kalm__json_begin(&j, &a);
    for (i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECKF(kalm__json_parse(&j, "x", bad[i], strlen(bad[i]), &err) == KALM_BAD_FILE && !strncmp(err.text, "x:", 2),
               "%s was read", bad[i]);
    for (i = 0; i < sizeof good / sizeof *good; i++)
        CHECKF(kalm__json_parse(&j, "x", good[i], strlen(good[i]), &err) == KALM_OK, "%s: %s", good[i], err.text);
    {
        static const char text[] = "{\"a\": [1, \"x\\u0041\\ud83d\\ude00\"], \"n\": 18446744073709551615,\n \"f\": -2.5e-1, \"t\": true}";
        uint32_t n;
        int b = 0;
        CHECK(kalm__json_parse(&j, "x", text, sizeof text - 1, &err) == KALM_OK);
        n = kalm__json_get(&j, 0, "a");
        CHECK(n && kalm__json_type(&j, n) == KALM__JSON_ARRAY && j.nodes[n].size == 2);
        CHECK(kalm__json_is(&j, j.nodes[n + 1].next, "xA\xf0\x9f\x98\x80"));
        CHECK(kalm__json_uint(&j, kalm__json_get(&j, 0, "n"), &u) && u == UINT64_MAX);
        CHECK(kalm__json_double(&j, kalm__json_get(&j, 0, "f"), &d) && d >= -0.25 && d <= -0.25);
        CHECK(!kalm__json_uint(&j, kalm__json_get(&j, 0, "f"), &u));
        CHECK(kalm__json_bool(&j, kalm__json_get(&j, 0, "t"), &b) && b);
        CHECK(!kalm__json_get(&j, 0, "missing") && !kalm__json_uint(&j, 0, &u));
        kalm__json_fail_node(&j, kalm__json_get(&j, 0, "f"), &err, "here");
        CHECKF(!strcmp(err.text, "x:2:7: here"), "%s", err.text);
    }
    CHECK(kalm__json_parse(&j, "x", "{\n  \"a\": 01}", 12, &err) && !strncmp(err.text, "x:2:8:", 6));
    {                                  /* one name twice: a few members and many, written in two ways, empty, at any depth; and not twice */
        static const char *const twice[] = { "{\"a\":1,\n \"b\":2,\"\\u0061\":3}", "[0,\n{\"q\":{\"\":[{}],\"\":0}}]", "{\"a\":{\"a\":1},\"b\":{\"a\":1,\"b\":2},\n\"\\u0007x\":1,\"\\u0007x\":2}" };
        static const char *const said[] = { "x:2:6: \"a\" stands there twice", "x:2:16: \"\" stands there twice", "x:2:11: \"\\u0007x\" stands there twice" };
        char many[4000];
        size_t n, k;
        for (i = 0; i < 3; i++)
            CHECKF(kalm__json_parse(&j, "x", twice[i], strlen(twice[i]), &err) == KALM_BAD_FILE && !strcmp(err.text, said[i]), "%s: %s", twice[i], err.text);
        j.repeats = 1;
        CHECK(!kalm__json_parse(&j, "x", twice[0], strlen(twice[0]), &err));
        j.repeats = 0;
        for (k = 10; k < 300; k += k < 16 ? 1 : 71) {
            for (i = n = 0; i < k; i++) n += (size_t)sprintf(many + n, "%c\"%lu\":0", i ? ',' : '{', (unsigned long)i);
            memcpy(many + n, "}", 2);
            CHECKF(!kalm__json_parse(&j, "x", many, n + 1, &err), "%s", err.text);
            for (i = 0; i < 2; i++) {                  /* the first that stands there again is named */
                char name[32];
                sprintf(name, "\"%lu\" stands there twice", i ? 0 : (unsigned long)k / 2);
                if (i) strcpy(many + n, ",\"0\":0}");
                else sprintf(many + n, ",\"%lu\":0,\"0\":0}", (unsigned long)k / 2);
                CHECKF(kalm__json_parse(&j, "x", many, strlen(many), &err) && strstr(err.text, name), "%s", err.text);
            }
        }
    }
    deep = (char *)malloc(2000000);    /* a million brackets: no recursion */
    memset(deep, '[', 1000000);
    memset(deep + 1000000, ']', 1000000);
    CHECK(kalm__json_parse(&j, "deep", deep, 2000000, &err) == KALM_OK && j.count == 1000000);
    free(deep);
    kalm__json_end(&j);
    CHECK(live_bytes == 0);
}

#include "tokenizer_random.h"

/* ---- files of cases -------------------------------------------------------------------------------------------------- */

typedef struct cases {
    unsigned char *data;
    size_t size, at;
    kalm__json j;
    unsigned line;
} cases;

static int cases_open(cases *c, const char *path)
{
    kalm_allocator a = counting();
    memset(c, 0, sizeof *c);
    c->data = test_read_file(path, &c->size);
    if (!c->data) return 0;
    kalm__json_begin(&c->j, &a);
    return 1;
}
static int cases_next(cases *c)
{
    size_t end = c->at;
    kalm_error err;
    if (c->at >= c->size) {
        kalm__json_end(&c->j);
        free(c->data);
        return 0;
    }
    while (end < c->size && c->data[end] != '\n') end++;
    c->line++;
    CHECKF(kalm__json_parse(&c->j, "case", (const char *)c->data + c->at, end - c->at, &err) == KALM_OK, "%s", err.text);
    c->at = end + 1;
    return 1;
}
static size_t cases_ids(const cases *c, const char *key, int32_t *ids)
{
    uint32_t node = kalm__json_get(&c->j, 0, key), at;
    size_t n = 0;
    for (at = node + 1; node && at < c->j.nodes[node].next; at = c->j.nodes[at].next) {
        double v = 0;
        kalm__json_double(&c->j, at, &v);
        ids[n++] = (int32_t)v;
    }
    return n;
}

static int32_t want_ids[1 << 20];
static char decoded[1 << 20];

static void check_ids(const tok *k, const cases *c, const char *path, kalm_text text, const char *key)
{
    size_t n = cases_ids(c, key, want_ids), got = encode(k, text.data, text.size, KALM_PARSE_CONTROL);
    CHECKF(got == n && !memcmp(want_ids, ids_of, n * sizeof *want_ids), "%s line %u: other ids", path, c->line);
}
static void check_text(const tok *k, const cases *c, const char *path, const char *key)
{
    size_t n = cases_ids(c, "ids", want_ids), size = 0;
    kalm_text want = kalm__json_text(&c->j, kalm__json_get(&c->j, 0, key));
    kalm_error err;
    CHECK(kalm__detokenize(&k->t, want_ids, n, decoded, sizeof decoded, &size, &err) == KALM_OK);
    CHECKF(size == want.size && !memcmp(decoded, want.data, size), "%s line %u: other text", path, c->line);
}

static void test_tiny(void)
{
    tok k, m;
    cases c;
    unsigned same = 0, all = 0;
    if (!CHECK(tok_open(&k, "examples/tiny/tokenizer.json")) || !CHECK(tok_open(&m, "examples/tiny/tokenizer.model"))) return;
    if (!CHECK(cases_open(&c, "tests/tokenizer_cases.jsonl"))) return;
    while (cases_next(&c)) {
        kalm_text text = kalm__json_text(&c.j, kalm__json_get(&c.j, 0, "text"));
        if (kalm__json_is(&c.j, 1, "text")) {
            check_ids(&k, &c, "tests/tokenizer_cases.jsonl", text, "ids");
            {   /* SentencePiece's rules see control symbols and U+2581 otherwise, all else the same */
                size_t n = cases_ids(&c, "ids", want_ids), got = encode(&m, text.data, text.size, KALM_PARSE_CONTROL), i;
                int plain = 1;
                for (i = 0; i + 2 < text.size; i++) plain &= memcmp(text.data + i, "\xe2\x96\x81", 3) != 0;
                for (i = 0; i < n; i++) plain &= want_ids[i] >= 4;
                all += (unsigned)plain;
                same += plain && got == n && !memcmp(want_ids, ids_of, n * sizeof *want_ids);
            }
        } else check_text(&k, &c, "tests/tokenizer_cases.jsonl", "text");
    }
    CHECKF(all > 150 && same == all, "tokenizer.model gives the ids of tokenizer.json for %u of %u texts", same, all);
    tok_close(&k);
    tok_close(&m);
}

static void test_shared(const char *folder)
{
    static const char *const models[] = { "bpe1k_identity", "bpe4k_nmt_nfkc", "unigram1k" };
    char path[512];
    tok k;
    cases c;
    size_t i;
    for (i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/spm/%s.model", folder, models[i]);
        if (!tok_open(&k, path)) {
            printf("not there: %s\n", path);
            return;
        }
        snprintf(path, sizeof path, "%s/spm/%s.cases.jsonl", folder, models[i]);
        if (!CHECK(cases_open(&c, path))) return;
        while (cases_next(&c)) {
            check_ids(&k, &c, path, kalm__json_text(&c.j, kalm__json_get(&c.j, 0, "text")), "ids");
            check_text(&k, &c, path, "decoded");
        }
        tok_close(&k);
    }
}

/* KaLM's own tokenizer, where get.sh has fetched it: the cases of `folder` that are there, and our own of queries that are cut. */
static void test_kalm(const char *folder)
{
    static const char *const files[] = { "cases.jsonl", "kalm_variant.jsonl", "invalid_utf8.jsonl", "decode.jsonl", "truncation.jsonl" };
    static const char bytes[] = "0123456789abcdef";
    char path[512];
    tok k;
    cases c;
    size_t i;
    kalm_allocator a = counting();
    kalm_error err;
    unsigned char *data = test_read_file("build/tokenizer/kalm/tokenizer.json", NULL);
    if (!data) {
        printf("not there: build/tokenizer/kalm/tokenizer.json, so no cases of KaLM's own tokenizer\n");
        return;
    }
    free(data);
    if (!tok_open(&k, "build/tokenizer/kalm/tokenizer.json")) return;
    CHECKF(k.size < 16000000, "the blob has %lu bytes", (unsigned long)k.size);
    for (i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", i == 4 ? "tests/tokenizer_oracle" : folder, files[i]);
        if (!cases_open(&c, path)) {
            CHECKF(i < 4, "not there: %s", path);
            continue;
        }
        while (cases_next(&c)) {
            kalm_text text = kalm__json_text(&c.j, kalm__json_get(&c.j, 0, i == 2 ? "hex" : i == 4 ? "query" : "text"));
            if (i == 0) check_ids(&k, &c, path, text, "ids");
            if (i == 1) check_ids(&k, &c, path, text, "ids_kalm");
            if (i == 2) {
                char raw[4096];
                size_t n;
                for (n = 0; n < text.size / 2 && n < sizeof raw; n++)
                    raw[n] = (char)(16 * (strchr(bytes, text.data[2 * n]) - bytes) + (strchr(bytes, text.data[2 * n + 1]) - bytes));
                text.data = raw, text.size = n;
                check_ids(&k, &c, path, text, "ids_maximal");
            }
            if (i == 3) check_text(&k, &c, path, "text");
            if (i == 4) {
                double most = 0;
                size_t n = encode(&k, text.data, text.size, KALM_PARSE_CONTROL), got, w;
                kalm_text cut = kalm__json_text(&c.j, kalm__json_get(&c.j, 0, "truncated_text"));
                kalm__piece p[5];
                kalm__json_double(&c.j, kalm__json_get(&c.j, 0, "max_tokens"), &most);
                n = kalm__min(n, (size_t)most);
                w = cases_ids(&c, "truncated_ids", want_ids);
                CHECKF(n == w && !memcmp(want_ids, ids_of, n * sizeof *ids_of), "%s line %u: other ids", path, c.line);
                CHECK(kalm__detokenize(&k.t, ids_of, n, decoded, sizeof decoded, &got, &err) == KALM_OK);
                CHECKF(got == cut.size && !memcmp(decoded, cut.data, got), "%s line %u: other text", path, c.line);
                p[0].text = kalm__text("<bos><start_of_turn>user\nJudge whether the Document meets the requirements based on the Query "
                                       "and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".\n\n<Instruct>: ");
                p[1].text = kalm__json_text(&c.j, kalm__json_get(&c.j, 0, "instruction"));
                p[2].text = kalm__text("\n<Query>: ");
                p[3].text.data = decoded, p[3].text.size = got;
                p[4].text = kalm__text("<end_of_turn>\n<start_of_turn>model\n\n\n\n");
                p[0].trusted = p[2].trusted = p[4].trusted = 1;
                p[1].trusted = p[3].trusted = 0;
                w = cases_ids(&c, "prompt_ids", want_ids);
                CHECK(kalm__tokenize_pieces(&k.t, &a, NULL, p, 5, KALM_PARSE_CONTROL, ids_of, sizeof ids_of / sizeof *ids_of, &n, &err) == KALM_OK);
                CHECKF(n == w && !memcmp(want_ids, ids_of, n * sizeof *ids_of), "%s line %u: other prompt", path, c.line);
            }
        }
    }
    tok_close(&k);
}

/* Queries and documents that are cut, through the interface: tests/cut_cases.jsonl has the ids that Hugging Face's tokenizers give for
   what is left (tokenizer_oracle/cuts.js). A cut query scores as the golden prompt does, to the bit; a cut document has the rows of the
   golden ids. */
static void test_cuts(void)
{
    static const uint32_t limits[] = { 1, 2, 3, 5, 13, 38, 64 };
    static const char path[] = "tests/cut_cases.jsonl";
    kalm_model *model = NULL;
    kalm_params params;
    kalm_text some = kalm__text("some document to be ranked");
    kalm_error err;
    size_t i, queries = 0, documents = 0, all = 0;
    cases c;
    memset(&params, 0, sizeof params);
    params.flags = KALM_PARSE_CONTROL;
    params.bits = 32;
    if (!CHECKF(kalm_model_open(TEST_BUILD "/tiny.kalm", NULL, &model, &err) == KALM_OK, "%s", err.text)) return;
    for (i = 0; i < sizeof limits / sizeof *limits; i++) {
        kalm_config config;
        kalm_context *ctx = NULL;
        kalm_doc *doc = NULL;
        memset(&config, 0, sizeof config);
        config.threads = 1;
        config.max_query_tokens = limits[i];
        config.max_doc_tokens = limits[i] + 8;
        CHECKF(kalm_context_new(model, &config, &ctx, &err) == KALM_OK, "%s", err.text);
        CHECKF(kalm_encode(ctx, &some, 1, &params, &doc, &err) == KALM_OK, "%s", err.text);
        if (!CHECK(cases_open(&c, path))) return;
        while (cases_next(&c)) {
            kalm_text text = kalm__json_text(&c.j, kalm__json_get(&c.j, 0, "text"));
            double most = 0, tokens = 0, document_tokens = 0;
            kalm_doc *cut = NULL, *golden = NULL;
            kalm_doc_info info;
            kalm_score got, want;
            kalm_ids ids;
            kalm__json_double(&c.j, kalm__json_get(&c.j, 0, "most"), &most);
            kalm__json_double(&c.j, kalm__json_get(&c.j, 0, "tokens"), &tokens);
            kalm__json_double(&c.j, kalm__json_get(&c.j, 0, "document_tokens"), &document_tokens);
            if ((uint32_t)most != limits[i]) continue;
            all++;
            ids.data = want_ids;
            ids.count = cases_ids(&c, "prompt", want_ids);
            CHECKF(kalm_rerank(ctx, text, (const kalm_doc *const *)&doc, 1, &params, &got, &err) == KALM_OK, "%s", err.text);
            CHECKF(kalm_rerank_ids(ctx, ids, (const kalm_doc *const *)&doc, 1, &params, &want, &err) == KALM_OK, "%s", err.text);
            CHECKF(!memcmp(&got.margin, &want.margin, sizeof got.margin), "%s line %u: the cut query scores %g, its golden prompt %g", path, c.line,
                   (double)got.margin, (double)want.margin);
            CHECKF(got.cut == (tokens > most ? KALM_CUT_QUERY : 0), "%s line %u: cut is %u", path, c.line, (unsigned)got.cut);
            queries += got.cut != 0;
            ids.count = cases_ids(&c, "document", want_ids);
            CHECKF(kalm_encode(ctx, &text, 1, &params, &cut, &err) == KALM_OK, "%s", err.text);
            CHECKF(kalm_encode_ids(ctx, &ids, 1, &params, &golden, &err) == KALM_OK, "%s", err.text);
            if (cut && golden) {
                size_t size, other;
                const char *a = (const char *)kalm_doc_bytes(cut, &size), *b = (const char *)kalm_doc_bytes(golden, &other);
                kalm_doc_get_info(cut, &info);
                CHECKF(size == other && !memcmp(a + 64, b + 64, size - 64), "%s line %u: other rows", path, c.line);
                CHECKF(info.tokens == (uint32_t)document_tokens && info.tokens_used == ids.count, "%s line %u: %u tokens, %u used", path, c.line,
                       (unsigned)info.tokens, (unsigned)info.tokens_used);
                documents += info.tokens_used < info.tokens;
            }
            kalm_doc_free(cut);
            kalm_doc_free(golden);
        }
        kalm_doc_free(doc);
        kalm_context_free(ctx);
    }
    CHECKF(all == 64 && queries > 40 && documents >= 40, "%lu cases, %lu queries and %lu documents are cut", (unsigned long)all, (unsigned long)queries,
           (unsigned long)documents);
    kalm_model_close(model);
}

/* ---- text is text ---------------------------------------------------------------------------------------------------- */

static int32_t id_of(const tok *k, const char *piece)
{
    uint32_t i;
    for (i = 0; i < k->t.tokens; i++) {
        kalm_text b = kalm__token_bytes(&k->t, (int32_t)i);
        if (b.size == strlen(piece) && !memcmp(b.data, piece, b.size) && k->t.part[KALM__SEC_KINDS][i] != KALM__KIND_BYTE)
            return (int32_t)i;
    }
    return -1;
}
static int contains(size_t n, int32_t id)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (ids_of[i] == id) return 1;
    return 0;
}

static void test_policy(void)
{
    static const char *const marks[] = { "<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<mask>" };
    static const char *const files[] = { "examples/tiny/tokenizer.json", "examples/tiny/tokenizer.model" };
    kalm_allocator a = counting();
    kalm_error err;
    size_t f, i, n, at, spaces;
    for (f = 0; f < 2; f++) {
        tok k;
        int32_t newline;
        if (!CHECK(tok_open(&k, files[f]))) return;
        for (i = 0; i < sizeof marks / sizeof *marks; i++) {
            int32_t id = id_of(&k, marks[i]);
            char text[64];
            if (!CHECKF(id >= 0, "%s", marks[i])) continue;
            sprintf(text, "a%sb", marks[i]);
            n = encode(&k, text, strlen(text), 0);
            CHECKF(!contains(n, id) && n > 3, "%s: %s in a user's text became a mark", files[f], marks[i]);
            n = encode(&k, text, strlen(text), KALM_PARSE_CONTROL);
            CHECKF(contains(n, id) == (f == 0 || i >= 3), "%s: %s with KALM_PARSE_CONTROL", files[f], marks[i]);
            /* the template's own marks are marks, cut anywhere into trusted pieces; never across a border of trust */
            for (at = 0; at <= strlen(marks[i]); at++) {
                kalm__piece p[2];
                unsigned trust;
                p[0].text.data = marks[i], p[0].text.size = at;
                p[1].text.data = marks[i] + at, p[1].text.size = strlen(marks[i]) - at;
                for (trust = 0; trust < 4; trust++) {
                    int whole = trust == 3 || (trust == 1 && at == strlen(marks[i])) || (trust == 2 && !at);
                    p[0].trusted = (int)(trust & 1), p[1].trusted = (int)(trust >> 1);
                    CHECK(!kalm__tokenize_pieces(&k.t, &a, NULL, p, 2, 0, ids_of, 1000, &n, &err));
                    CHECKF(contains(n, id) == whole, "%s: %s cut at %lu, trust %u", files[f], marks[i], (unsigned long)at, trust);
                }
            }
        }
        /* other added tokens cross borders */
        spaces = f;                    /* two spaces are one token by merging, or as a user-defined symbol */
        newline = id_of(&k, "\xe2\x96\x81\xe2\x96\x81");
        if (newline >= 0) {
            kalm__piece p[2];
            p[0].text = kalm__text(spaces ? "x " : "x\xe2\x96\x81"), p[0].trusted = 1;
            p[1].text = kalm__text(spaces ? " y" : "\xe2\x96\x81y"), p[1].trusted = 0;
            CHECK(!kalm__tokenize_pieces(&k.t, &a, NULL, p, 2, 0, ids_of, 1000, &n, &err));
            CHECKF(contains(n, newline), "%s: a run does not join across a border", files[f]);
        }
        CHECK(!kalm__tokenize_pieces(&k.t, &a, NULL, NULL, 0, 0, ids_of, 10, &n, &err) && n == 0);
        tok_close(&k);
    }
    CHECK(live_bytes == 0);
}

/* ---- limits ---------------------------------------------------------------------------------------------------------- */

static void test_limits(void)
{
    static const char *const units[] = { "a", "ab", " ", "\n", "\xe2\x96\x81", "\xe3\x81\x82", "\xf0\x9f\xa7\xbf", "\xff", "a ", "=", "<", "the", "\xe2" };
    kalm_allocator a = counting();
    kalm_error err;
    kalm_text t;
    size_t n, all, i, k;
    tok y;
    char *big;
    if (!CHECK(tok_open(&y, "examples/tiny/tokenizer.json"))) return;
    big = (char *)malloc(1200000);
    for (i = 0; i < sizeof units / sizeof *units; i++) {
        size_t unit = strlen(units[i]), size = 0, base = live_bytes;
        while (size + unit <= 1000000) {
            memcpy(big + size, units[i], unit);
            size += unit;
        }
        t.data = big, t.size = size;
        live_most = live_bytes;
        CHECK(!kalm__tokenize(&y.t, &a, NULL, t, 0, ids_of, sizeof ids_of / sizeof *ids_of, &all, &err));
        CHECKF(live_most - base <= 13 * size, "%s: %lu bytes of memory", units[i], (unsigned long)(live_most - base));
        CHECK(live_bytes == base);
        /* any capacity gives the same prefix, and nothing behind it is touched */
        for (k = 0; k < 6; k++) {
            int32_t few[8];
            size_t j;
            memset(few, 0x55, sizeof few);
            CHECK(!kalm__tokenize(&y.t, &a, NULL, t, 0, few, k, &n, &err) && n == all);
            CHECK(!memcmp(few, ids_of, kalm__min(k, all) * sizeof *few));
            for (j = k; j < 8; j++) CHECK(few[j] == 0x55555555);
        }
        CHECK(!kalm__tokenize(&y.t, &a, NULL, t, 0, NULL, 0, &n, &err) && n == all);
        /* memory that runs out at each call */
        for (k = 0; k < 1000; k++) {
            kalm_result r;
            calls_left = (long)k;
            r = kalm__tokenize(&y.t, &a, NULL, t, 0, ids_of, 16, &n, &err);
            calls_left = -1;
            CHECK(live_bytes == base);
            if (r == KALM_OK) break;
            CHECK(r == KALM_NO_MEMORY && err.text[0]);
        }
    }
    /* short texts need no memory at all */
    calls_left = 0;
    t = kalm__text("A short text \xe2\x96\x81 with a <b>tag</b>, bytes \xff and \xf0\x9f\xa7\xbf.");
    CHECK(!kalm__tokenize(&y.t, &a, NULL, t, 0, ids_of, 1000, &n, &err) && n > 10);
    calls_left = -1;
    /* decoding: capacities, ids from anywhere */
    for (i = 0; i < 40; i++) {
        char few[64];
        size_t size;
        int32_t odd[4];
        memset(few, 0x55, sizeof few);
        CHECK(!kalm__detokenize(&y.t, ids_of, n, few, i, &size, &err));
        for (k = i; k < sizeof few; k++) CHECK(few[k] == 0x55);
        odd[0] = -1, odd[1] = INT32_MAX, odd[2] = INT32_MIN, odd[3] = (int32_t)y.t.tokens;
        CHECK(!kalm__detokenize(&y.t, odd, 4, few, i, &size, &err) && size == 0);
        CHECK(!kalm__token_bytes(&y.t, odd[i % 4]).data);
    }
    free(big);
    tok_close(&y);
    CHECK(live_bytes == 0);
}

/* ---- files that are refused ------------------------------------------------------------------------------------------ */

static void refuses(const char *json, const char *why)
{
    kalm_allocator a = counting();
    kalm_error err;
    unsigned char *blob = NULL;
    size_t size;
    CHECKF(kalm__import_tokenizer("t", json, strlen(json), &a, &blob, &size, &err) != KALM_OK, "was read: %s", json);
    CHECKF(strstr(err.text, why) != NULL, "says \"%s\" and not \"%s\"", err.text, why);
    CHECK(live_bytes == 0);
}

/* A SentencePiece model of the given pieces: "type score text" each. Type 1 normal, 2 unknown, 4 user-defined, 5 unused. */
static size_t spm_file(unsigned char *out, unsigned model_type, const char *const *pieces, size_t count)
{
    size_t n = 0, i;
    for (i = 0; i < count; i++) {
        float score = (float)(pieces[i][1] - '0');
        size_t size = strlen(pieces[i] + 2);
        uint32_t bits;
        memcpy(&bits, &score, 4);
        out[n++] = 1 << 3 | 2, out[n++] = (unsigned char)(size + 9);
        out[n++] = 1 << 3 | 2, out[n++] = (unsigned char)size;
        memcpy(out + n, pieces[i] + 2, size);
        n += size;
        out[n++] = 2 << 3 | 5;
        kalm__put_u32(out + n, bits);
        n += 4;
        out[n++] = 3 << 3, out[n++] = (unsigned char)(pieces[i][0] - '0');
    }
    out[n++] = 2 << 3 | 2, out[n++] = 2, out[n++] = 3 << 3, out[n++] = (unsigned char)model_type;
    out[n++] = 3 << 3 | 2, out[n++] = 4, out[n++] = 3 << 3, out[n++] = 0, out[n++] = 4 << 3, out[n++] = 0;   /* no prefix, no trimming */
    return n;
}

/* Long: a list of damaged tokenizer files and the sentence that each must get. */
static void test_refusals(void)
{
    size_t size, k, cut;
    unsigned char *data, *blob;
    kalm_allocator a = counting();
    kalm_error err;
    tok y;
    refuses("", "no pieces");
    refuses("hello", "no tokenizer");
    refuses("{}", "no \"model\"");
    refuses("{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", "is empty");
    refuses("{\"model\": {\"type\": \"WordPiece\", \"vocab\": {}}}", "neither BPE nor Unigram");
    refuses("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}", "neither all byte tokens nor");
    refuses("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}", "two tokens have this id");
    refuses("{\"model\": {\"vocab\": {\"a\": 0, \"a\": 1}, \"merges\": []}}", "there twice");
    refuses("{\"model\": {\"vocab\": {\"a\": 1048576}, \"merges\": []}}", "below 1048576");
    refuses("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"unk_token\": \"a\", \"merges\": [[\"a\", \"b\"]]}}", "no token");
    refuses("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1}, \"unk_token\": \"a\", \"merges\": [\"a b c\"]}}", "not two tokens");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": [], \"ignore_merges\": true}}", "ignore_merges");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": [], \"dropout\": 0.1}}", "dropout");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": []}, \"normalizer\": {\"type\": \"Lowercase\"}}", "normalizer");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": []}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}",
            "pre-tokenizer");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": []}, \"decoder\": {\"type\": \"WordPiece\"}}", "decoder");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": []},"
            "\"added_tokens\": [{\"id\": 0, \"content\": \"b\"}]}", "disagree");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": []},"
            "\"added_tokens\": [{\"id\": 1, \"content\": \"b\", \"lstrip\": true}]}", "lstrip");
#define ONE "{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"unk_token\": \"a\", \"merges\": []}"
#define PIECE "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}"
    refuses(ONE ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Sequence\", \"normalizers\": []}]}}",
            "a sequence inside a sequence");
    refuses(ONE ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"▁\"}, {\"type\": \"NFC\"}]}}",
            "must be the first normalizer");
    refuses(ONE ", \"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"▁\"}}",
            "a prefix of U+2581 without spaces");
    refuses(ONE ", \"added_tokens\": {}}",
            "added_tokens is no array");
    refuses(ONE ", \"added_tokens\": [{\"id\": 1, \"content\": \"b c\", \"normalized\": true}]}",
            "must be of ASCII without spaces");
    refuses(PIECE ", \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"sometimes\"}}",
            "no prepend_scheme");
    refuses(PIECE ", \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": \"never\"}]}}",
            "behind a WhitespaceSplit");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": [], \"continuing_subword_prefix\": \"##\"}}", "a continuing_subword_prefix");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": [], \"end_of_word_suffix\": \"</w>\"}}", "an end_of_word_suffix");
    refuses("{\"model\": {\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"unk_token\": \"a\", \"merges\": [[\"a\", \"b\"], 7]}}", "a merge is not an array of two tokens");
#undef ONE
#undef PIECE
    refuses("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\"]]}}", "a piece is not");
    refuses("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", \"b\"]]}}", "a piece is not");
    refuses("{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1], [\"a\", -1]]}}", "there twice");
    refuses("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 1, \"vocab\": [[\"a\", -1]]}}", "unk_id is no id");
    refuses("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"NFKC\"}}", "in a Unigram");
    refuses("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"Precompiled\"}}", "no charsmap");
    refuses("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"Precompiled\", "
            "\"precompiled_charsmap\": \"*\"}}", "not base64");
    refuses("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"normalizer\": {\"type\": \"Precompiled\", "
            "\"precompiled_charsmap\": \"AAAA\"}}", "precompiled_charsmap is damaged");
    refuses("{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"a\", -1]]}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
            "\"pretokenizers\": []}}", "WhitespaceSplit and Metaspace");
    refuses("{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"a\", \"merges\": []}, \"pre_tokenizer\": {\"type\": \"Metaspace\", "
            "\"replacement\": \"\xe2\x96\x81\"}}", "splits words");
    {   /* a charsmap whose trie is a circle, one whose text is too long */
        unsigned char file[3000];
        static const char *const pieces[] = { "20<unk>", "11a" };
        size_t pieces_size = spm_file(file, 1, pieces, 2), endless_one;
        for (endless_one = 0; endless_one < 2; endless_one++) {
            size_t at = pieces_size, map = 4 + 4 * 256 + (endless_one ? 2 : 1500);
            unsigned char *trie;
            file[at++] = 3 << 3 | 2, file[at++] = (unsigned char)((map + 3) & 127) | 128, file[at++] = (unsigned char)((map + 3) >> 7);
            file[at++] = 2 << 3 | 2, file[at++] = (unsigned char)(map & 127) | 128, file[at++] = (unsigned char)(map >> 7);
            trie = file + at + 4;
            memset(file + at, 'x', map);
            kalm__put_u32(file + at, 4 * 256);
            for (k = 0; k < 256; k++) kalm__put_u32(trie + 4 * k, 0x80000000u);
            kalm__put_u32(trie, 0);
            if (endless_one) kalm__put_u32(trie + 4 * 'a', 'a' | (unsigned)'a' << 10);     /* its child is itself: 97 ^ 97 ^ 97 */
            file[at + map - 1] = 0;
            CHECK(kalm__import_tokenizer("t", file, at + map, &a, &blob, &size, &err) == KALM_BAD_FILE);
            CHECKF(strstr(err.text, endless_one ? "replaces more than" : "puts in more than") != NULL, "%s", err.text);
        }
    }
    /* files of no bytes, and fields of every wire type where a message should be: no arithmetic on NULL (UBSan) */
    CHECK(kalm__import_tokenizer("t", NULL, 0, &a, &blob, &size, &err) == KALM_BAD_FILE);
    refuses("\x08\x01", "no pieces");
    refuses("\x0d" "abcd", "no pieces");
    refuses("\x09" "abcdefgh", "no pieces");
    refuses("\x12\x02\x18\x02\x18\x01", "no pieces");
    refuses("\x0a", "damaged at byte 1");
    data = test_read_file("examples/tiny/tokenizer.json", &size);
    if (!CHECK(data != NULL)) return;
    /* the same vocabulary in another dress: merges as strings come in the toys' tests; here the bytes are equal */
    CHECK(tok_from(&y, "t", data, size));
    for (cut = 0; cut < KALM__TOK_HEADER + 8; cut++) {
        kalm__tokenizer t;
        unsigned char *part = (unsigned char *)malloc(cut + 1);
        memcpy(part, y.blob, cut);
        CHECK(kalm__tokenizer_open(&t, part, cut, &err) == KALM_BAD_FILE && err.text[0]);
        free(part);
    }
    y.blob[7] = '3';
    CHECK(kalm__tokenizer_open(&y.t, y.blob, y.size, &err) == KALM_BAD_VERSION);
    tok_close(&y);
    free(data);
}

/* What a tokenizer.json may get wrong beside that: each part by itself, with the sentence that names it.
   Long: a list of files. */
static void test_json_refusals(void)
{
#define BPE(rest) "{\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"<0x41>\": 4}, \"unk_token\": \"?\", \"byte_fallback\": true, " rest
#define UNIGRAM(rest) "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"a\", -1]]}, " rest "}"
    static const struct { const char *json, *words; } table[] = {
        { BPE("\"merges\": [[\"a\", \"b\", \"c\"]]}}"), "a merge is not an array of two tokens" },
        { BPE("\"merges\": [[7, \"b\"]]}}"), "a merge is not an array of two tokens" },
        { BPE("\"merges\": [[\"a\", null]]}}"), "a merge is not an array of two tokens" },
        { BPE("\"merges\": [[\"\", \"b\"]]}}"), "a merge has an empty side" },
        { BPE("\"merges\": [[\"a\", \"\"]]}}"), "a merge has an empty side" },
        { BPE("\"merges\": [\"\"]}}"), "a merge is not two tokens with a space between them" },
        { BPE("\"merges\": [\"ab\"]}}"), "a merge is not two tokens with a space between them" },
        { BPE("\"merges\": [\" b\"]}}"), "a merge has an empty side" },
        { BPE("\"merges\": [\"a <0x41>\"]}}"), "a merge joins or makes what is no token" },
        { "{\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"<0x41>\": 2, \"a<0x41>\": 3}, \"unk_token\": \"?\", \"byte_fallback\": true, \"merges\": [\"a <0x41>\"]}}",
          "a merge of byte tokens is not supported" },
        { "{\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"<0x41>\": 2, \"<0x41>a\": 3}, \"unk_token\": \"?\", \"byte_fallback\": true, \"merges\": [\"<0x41> a\"]}}",
          "a merge of byte tokens is not supported" },
        { BPE("\"merges\": {}}}"), "the model has no vocab and merges, so it is not BPE" },
        { "{\"model\": {\"vocab\": {\"a\": 0}}}", "the model has no vocab and merges" },
        { "{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}", "the model has no vocab and merges" },
        { "{\"model\": 7}", "this is no tokenizer.json: it has no \"model\"" },
        { BPE("\"dropout\": \"0\", \"merges\": []}}"), "a BPE dropout is not supported" },
        { BPE("\"merges\": []}, \"decoder\": {\"type\": \"Sequence\", \"decoders\": {}}}"), "a sequence of decoders has none" },
        { BPE("\"merges\": []}, \"decoder\": {\"type\": \"Sequence\"}}"), "a sequence of decoders has none" },
        { BPE("\"merges\": []}, \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Strip\", \"content\": \" \", \"start\": 2, \"stop\": 0}]}}"), "this decoder is none" },
        { BPE("\"merges\": []}, \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 1}]}}"), "this decoder is none" },
        { BPE("\"dropout\": 0.5, \"merges\": []}}"), "a BPE dropout is not supported" },
        { BPE("\"merges\": []}, \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": 7}}"), "a sequence of normalizers has none" },
        { BPE("\"merges\": []}, \"normalizer\": {\"type\": \"Sequence\"}}"), "a sequence of normalizers has none" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 7, \"content\": 7}]}"), "an added token has no content" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 7}]}"), "an added token has no content" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"content\": \"x\"}]}"), "an added token's id is not a whole number below 1048576" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 1048576, \"content\": \"x\"}]}"), "an added token's id is not a whole number below 1048576" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 7, \"content\": \"x\", \"single_word\": true}]}"), "lstrip, rstrip or single_word is not supported" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 7, \"content\": \"x\", \"rstrip\": true}]}"), "lstrip, rstrip or single_word is not supported" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 7, \"content\": \"x\\u0000\"}]}"), "added token 7 holds a NUL" },
        { BPE("\"merges\": []}, \"added_tokens\": [{\"id\": 7, \"content\": \"\xc3\xa9\", \"normalized\": true}]}"), "must be of ASCII without spaces" },
        { "{\"model\": {\"vocab\": {\"?\": 0, \"a\\u0000\": 1}, \"unk_token\": \"?\", \"byte_fallback\": true, \"merges\": []}}", "token 1 holds a NUL" },
        { "{\"model\": {\"vocab\": {\"?\": 0, \"\\u0000\": 1}, \"unk_token\": \"?\", \"merges\": []}}", "token 1 holds a NUL" },
        { "{\"model\": {\"vocab\": {\"a\": 0}, \"unk_token\": \"b\", \"merges\": []}}", "the unknown token is not in the vocabulary" },
        { "{\"model\": {\"vocab\": {\"a\": 0}, \"byte_fallback\": true, \"merges\": []}}", "it has neither all byte tokens nor an unknown token" },
        { "{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", -1]]}}", "it has neither all byte tokens nor an unknown token" },
        { "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"a\", -1e999]]}}", "a piece is not an array of a text and a score" },
        { "{\"model\": {\"type\": \"Unigram\", \"unk_id\": -1, \"vocab\": [[\"a\", -1]]}}", "unk_id is no id of the vocabulary" },
        { "{\"model\": {\"type\": \"Unigram\", \"vocab\": [7]}}", "a piece is not an array of a text and a score" },
        { "{\"model\": {\"type\": \"Unigram\", \"vocab\": [[7, 7]]}}", "a piece is not an array of a text and a score" },
        { "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"a\\u0000\", -1]]}}", "token 1 holds a NUL" },
        { UNIGRAM("\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": 7}"), "a charsmap is no string" },
        { UNIGRAM("\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AA==\"}"), "precompiled_charsmap is damaged" },
        { UNIGRAM("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", \"strip_left\": true}, {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"\"}]}"),
          "this normalizer is none that the library knows in a Unigram tokenizer" },
        { UNIGRAM("\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}"), "none that the library knows in a Unigram tokenizer" },
        { UNIGRAM("\"pre_tokenizer\": {\"type\": \"Sequence\"}"), "this sequence of pre-tokenizers is none" },
        { UNIGRAM("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": {}}"), "this sequence of pre-tokenizers is none" },
        { UNIGRAM("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\"}, {\"type\": \"Metaspace\"}]}"), "this sequence of pre-tokenizers is none" },
        { UNIGRAM("\"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Digits\"}]}"), "this pre-tokenizer is none" },
        { BPE("\"merges\": []}, \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}, {\"type\": \"Replace\", "
              "\"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}]}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\"}}"),
          "two parts of it put a space first" }
    };
    size_t i, n;
    char json[600], *at;
    tok k;
    for (i = 0; i < sizeof table / sizeof *table; i++) refuses(table[i].json, table[i].words);
    /* a text that is too long for what it is for, of each kind */
    for (i = 0; i < 3; i++) {
        static const char *const begin[3] = {
            "{\"model\": {\"vocab\": {\"?\": 0}, \"unk_token\": \"?\", \"merges\": []}, \"added_tokens\": [{\"id\": 1, \"content\": \"",
            "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"", "{\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"" };
        static const char *const end[3] = { "\"}]}", "\", -1]]}}", "\": 2}, \"unk_token\": \"?\", \"merges\": []}}" };
        static const char *const words[3] = { "added token 1 is longer than 254 bytes", "piece 1, \"aaaaaaaaaa", NULL };
        n = (size_t)sprintf(json, "%s", begin[i]);
        at = json + n;
        memset(at, 'a', 255);
        strcpy(at + 255, end[i]);
        if (words[i]) refuses(json, words[i]);
        else if (CHECK(tok_from(&k, "t", json, strlen(json)))) tok_close(&k);          /* no text becomes it: it may be as long as it is */
        strcpy(at + 254, end[i]);
        if (CHECK(tok_from(&k, "t", json, strlen(json)))) tok_close(&k);
    }
    /* what is switched off, or empty, is as if it were not there; a character NUL that is a token goes with the byte tokens */
    if (tok_from(&k, "t", BPE("\"dropout\": 0, \"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": \"\", \"merges\": [\"a b\"]}, "
                              "\"added_tokens\": [{\"id\": 5, \"content\": \"\"}]}"),
                 strlen(BPE("\"dropout\": 0, \"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": \"\", \"merges\": [\"a b\"]}, "
                            "\"added_tokens\": [{\"id\": 5, \"content\": \"\"}]}")))) {
        static const int32_t want[3] = { 3, 4, 0 };
        CHECK(encodes_to(&k, "abAq", 0, want, 3));
        tok_close(&k);
    }
    strcpy(json, "{\"model\": {\"vocab\": {\"?\": 0, \"\\u0000\": 1, \"a\": 2}, \"unk_token\": \"?\", \"byte_fallback\": true, \"merges\": []}}");
    if (tok_from(&k, "t", json, strlen(json))) {
        n = encode(&k, "a\0a", 3, 0);
        CHECK(n == 3 && ids_of[0] == 2 && ids_of[1] == 1 && ids_of[2] == 2);
        tok_close(&k);
    }
#undef BPE
#undef UNIGRAM
}

/* Memory that runs out at each call of the importer, until none fails: an error by name each time, and nothing stays. */
static void test_no_memory(const char *name, const void *data, size_t size)
{
    kalm_allocator a = counting();
    kalm_error err;
    unsigned char *blob;
    size_t blob_size;
    long k;
    kalm_result r = KALM_NO_MEMORY;
    for (k = 0; k < 1000 && r; k++) {
        calls_left = k;
        r = kalm__import_tokenizer(name, data, size, &a, &blob, &blob_size, &err);
        calls_left = -1;
        if (!r) kalm__release(&a, blob, blob_size);
        else CHECKF(r == KALM_NO_MEMORY && !strncmp(err.text, "no memory ", 10), "%s, call %ld: %s", name, k, err.text);
        CHECK(live_bytes == 0);
    }
    CHECKF(!r && k > 10, "%s: %ld calls", name, k);
}

static void test_no_memories(void)
{
    static const char bpe[] = "{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}, \"added_tokens\": [{\"id\": 6, \"content\": \"<x>\"}], "
        "\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"\xe2\x96\x81\": 2, \"\xe2\x96\x81\x61\": 3, \"\\u0062\": 4, \"ab\": 5}, \"unk_token\": \"?\", \"merges\": [\"\xe2\x96\x81 a\", [\"a\", \"b\"]]}}";
    static const char unigram[] = "{\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"never\", \"split\": false}, \"model\": {\"type\": "
        "\"Unigram\", \"unk_id\": 0, \"vocab\": [[\"?\", 0], [\"a\", -1], [\"\xe2\x96\x81\", -2], [\"\xe2\x96\x81\x61\", -2]]}}";
    static const char *const pieces[] = { "20<unk>", "13a", "12b", "11ab", "11\xe2\x96\x81\x61", "40<x>" };
    unsigned char file[300];
    unsigned type;
    test_no_memory("bpe", bpe, sizeof bpe - 1);
    test_no_memory("unigram", unigram, sizeof unigram - 1);
    for (type = 1; type < 5; type++) test_no_memory("model", file, spm_file(file, type, pieces, 6));
}

/* ---- Gemma's own tokenizer.model --------------------------------------------------------------------------------------------- */

static size_t gemma_piece(unsigned char *p, const char *text, unsigned type, float score)
{
    size_t n = strlen(text);
    p[0] = 1 << 3 | 2, p[1] = (unsigned char)(n + 9), p[2] = 1 << 3 | 2, p[3] = (unsigned char)n;
    memcpy(p + 4, text, n);
    p[4 + n] = 2 << 3 | 5;
    kalm__put_f32(p + 5 + n, score);
    p[9 + n] = 3 << 3, p[10 + n] = (unsigned char)type;
    return 11 + n;
}

/* A model in which the pieces stand that Gemma's is known by. It is read by Hugging Face's rules: its marks are found in raw text where
   the caller says so, <unk> too, and of a run of white space the longest piece is taken first. One piece less, and SentencePiece's
   rules hold. */
static void test_gemma(void)
{
    static const char *const runs[] = { "\n\n", "\n\n\n", "\xe2\x96\x81\xe2\x96\x81", "\xe2\x96\x81\xe2\x96\x81\xe2\x96\x81", "\t\t" };
    static const unsigned char rest[] = { 2 << 3 | 2, 5, 3 << 3, 2, (35 << 3 & 127) | 128, 35 >> 4, 1, 3 << 3 | 2, 4, 3 << 3, 0, 4 << 3, 0 };
    enum { TOKENS = 262144 };
    unsigned char *model = (unsigned char *)malloc((size_t)TOKENS * 32);
    char text[40];
    size_t n = 0, i, fewer = 0;
    tok k;
    for (i = 0; i < TOKENS; i++) {
        unsigned type = 1;
        float score = -(float)i;
        if (i < 4) type = i == 3 ? 2 : 3, strcpy(text, i == 0 ? "<pad>" : i == 1 ? "<eos>" : i == 2 ? "<bos>" : "<unk>");
        else if (i == 105 || i == 106) type = 4, strcpy(text, i == 105 ? "<start_of_turn>" : "<end_of_turn>");
        else if (i == 255999) type = 4, strcpy(text, "<start_of_image>");
        else if (i >= 107 && i < 112) type = 4, strcpy(text, runs[i - 107]);
        else if (i >= 238 && i < 494) type = 6, sprintf(text, "<0x%02X>", (unsigned)(i - 238));
        else if (i >= 500 && i < 526) sprintf(text, "%c", (int)('a' + i - 500));
        else if (i >= 526 && i < 530) strcpy(text, i == 526 ? "\n" : i == 527 ? "\xe2\x96\x81" : i == 528 ? "\t" : "ab");
        else sprintf(text, "q%lu", (unsigned long)i);
        n += gemma_piece(model + n, text, type, score);
        if (i == TOKENS - 2) fewer = n;
    }
    for (i = 0; i < 2; i++) {
        static const char said[] = "ab<bos>a\n\n\n\n     \t\t<unk><start_of_turn>\x01";
        static const int32_t gemma[] = { 529, 2, 500, 108, 526, 110, 109, 111, 3, 105, 239 }, raw[] = { 529 };
        size_t size = i ? fewer : n;
        memcpy(model + size, rest, sizeof rest);
        if (!tok_from(&k, "gemma", model, size + sizeof rest)) continue;
        CHECK((k.t.flags & KALM__TOK_SPM) == (i ? KALM__TOK_SPM : 0));
        if (!i) {
            size_t count = encode(&k, said, sizeof said - 1, KALM_PARSE_CONTROL), m;
            for (m = 0; m < count && m < 11 && ids_of[m] == gemma[m]; m++) {}
            CHECKF(count == 11 && m == 11, "%u ids, number %u is %d", (unsigned)count, (unsigned)m, (int)ids_of[m]);
            CHECK(encode(&k, said, sizeof said - 1, 0) > 20);            /* nobody's text writes a mark */
            CHECK(encodes_to(&k, "ab", 0, raw, 1));
        } else {
            size_t count = encode(&k, "<bos>", 5, KALM_PARSE_CONTROL);
            CHECK(count > 1);                                           /* control symbols are the template's alone */
        }
        tok_close(&k);
    }
    free(model);
    CHECK(live_bytes == 0);
}

/* ---- hostile tables: bounded steps on any file ------------------------------------------------------------------------- */

static long asked, asked_most;         /* cancel at the asked_most-th question; < 0: never */
static int ask(void *user)
{
    CHECK(user == &asked);
    return ++asked == asked_most;
}

/* A section of a blob as 32-bit words. */
static void words(tok *k, unsigned section, size_t from, size_t step, uint32_t value)
{
    size_t i, n = k->t.size[section] / 4;
    unsigned char *p = k->blob + (k->t.part[section] - k->blob);
    for (i = from; i < n; i += step) kalm__put_u32(p + 4 * i, value);
}

/* A trie in which c follows c for ever; ends: a token ends at every c. */
static void endless(tok *k, unsigned section, unsigned c, int ends)
{
    unsigned char *p = k->blob + (k->t.part[section] - k->blob);
    uint32_t base = 256, units = (uint32_t)(k->t.size[section] / 4);
    if (units < 512) return;
    words(k, section, 0, 1, 0x80000000u);
    if (section == KALM__SEC_RULES) {  /* Darts: the child is the node's place ^ its offset ^ c */
        uint32_t at = base ^ c;
        kalm__put_u32(p, base << 10);
        kalm__put_u32(p + 4 * at, c | c << 10 | (ends ? 256u : 0u));
        kalm__put_u32(p + 4 * (at ^ c), 0x80000000u);        /* the value: the first text */
        kalm__put_u32(p + 4 * base, 0x80000000u);
        return;
    }
    kalm__put_u32(p, base << 9);
    kalm__put_u32(p + 4 * (base ^ c), c | base << 9 | (ends ? 256u : 0u));
    kalm__put_u32(p + 4 * base, 0x80000000u | (uint32_t)(k->t.tokens - 1));
}

/* Steps, by the questions of the meter; the result is success or a sentence. */
static double hostile_run(const tok *k, const char *text, size_t n)
{
    kalm_allocator a = counting();
    kalm__interrupt i;
    kalm_error err;
    kalm_text t;
    size_t count = 0, base = live_bytes;
    kalm_result r;
    clock_t begun = clock();
    i.call = ask, i.user = &asked;
    asked = 0, asked_most = -1;
    t.data = text, t.size = n;
    live_most = live_bytes;
    r = kalm__tokenize(&k->t, &a, &i, t, KALM_PARSE_CONTROL, ids_of, sizeof ids_of / sizeof *ids_of, &count, &err);
    CHECKF(r == KALM_OK || (r == KALM_BAD_FILE && err.text[0]), "result %d, \"%s\"", (int)r, err.text);
    CHECK(live_bytes == base);
    CHECKF(live_most - base < 200 * n + 100000, "%lu bytes of memory for %lu", (unsigned long)(live_most - base), (unsigned long)n);
    CHECKF(asked <= (long)((KALM__STEPS_BASE + KALM__STEPS_PER_BYTE * n) / KALM__STEPS_BETWEEN + 200), "%ld questions", asked);
    return (double)(clock() - begun) / CLOCKS_PER_SEC;
}

static void hostile_change(tok *k, unsigned what, uint64_t *state)
{
    unsigned char *b = k->blob;
    size_t i, at, bytes;
    switch (what) {
    case 0: case 1: case 2: case 3:
        endless(k, what < 2 ? KALM__SEC_ADDED : KALM__SEC_TRIE, 'a', (int)(what & 1));
        memset(b + (k->t.part[KALM__SEC_FIRST] - b), 1, 256);
        break;
    case 4: case 5: endless(k, KALM__SEC_RULES, 'a', (int)(what & 1)); break;
    case 6: case 7:                    /* full buckets, no cuts, tokens that come apart for ever */
        if (k->t.model != KALM__MODEL_BPE) break;
        words(k, KALM__SEC_BUCKETS, 0, 2, 0);
        words(k, KALM__SEC_BUCKETS, 1, 2, k->t.pairs);
        words(k, KALM__SEC_FILTER, 0, 1, 0xffffffffu);
        memset(b + (k->t.part[KALM__SEC_JOINS] - b), 255, 8192);
        for (i = 0; i < k->t.symbols; i++)
            kalm__put_u64(b + (k->t.part[KALM__SEC_SPLITS] - b) + 8 * i,
                          what == 7 ? (uint64_t)0xffffff << 40 : (uint64_t)(i ? i - 1 : 0) * 0x100001u | (uint64_t)(i % 250 + 1) << 40);
        break;
    case 8:                            /* unused tokens made of themselves */
        kalm__put_u32(b + 24, kalm__u32(b + 24) | KALM__TOK_UNUSED);
        memset(b + (k->t.part[KALM__SEC_KINDS] - b), KALM__KIND_UNUSED, k->t.tokens);
        for (i = 0; i < k->t.symbols && k->t.model == KALM__MODEL_BPE; i++)
            kalm__put_u64(b + (k->t.part[KALM__SEC_SPLITS] - b) + 8 * i, (uint64_t)i * 0x100001u | (uint64_t)7 << 40);
        break;
    case 9:                            /* every token is the whole pool, every rule has all texts */
        for (i = 0; i <= k->t.tokens; i++) kalm__put_u32(b + (k->t.part[KALM__SEC_STARTS] - b) + 4 * i, i % 2 ? (uint32_t)k->t.size[KALM__SEC_POOL] : 0);
        bytes = k->t.size[KALM__SEC_TEXTS];
        if (bytes) memset(b + (k->t.part[KALM__SEC_TEXTS] - b), 'b', bytes - 1);
        break;
    default:                           /* noise in one section, or a word of another place in the same section */
        i = (size_t)(test_random(state) % KALM__TOK_SECTIONS);
        at = (size_t)(k->t.part[i] - b), bytes = k->t.size[i];
        if (!bytes) break;
        if (test_random(state) % 2) for (; bytes; bytes--) b[at++] = (unsigned char)test_random(state);
        else for (i = 0; i < 200; i++) b[at + test_random(state) % bytes] = b[at + test_random(state) % bytes];
    }
}

/* Tokens that come apart in a hundred steps through full buckets: more work than any tokenizer needs, so the text is refused. */
static void test_too_many_steps(void)
{
    tok k;
    unsigned char *b;
    char *text = (char *)malloc(100000);
    kalm_allocator a = counting();
    kalm_error err;
    kalm_text t;
    uint64_t state = 3;
    size_t i, count;
    if (!CHECK(tok_open(&k, "examples/tiny/tokenizer.json"))) return;
    hostile_change(&k, 6, &state);
    b = k.blob;
    for (i = 0; i < k.t.symbols; i++)
        kalm__put_u64(b + (k.t.part[KALM__SEC_SPLITS] - b) + 8 * i, (uint64_t)(i ? i - 1 : 0) * 0x100001u | (uint64_t)(i % 250) << 40);
    for (i = 0; i < 100000; i++) text[i] = (char)('a' + test_random(&state) % 26);
    t.data = text, t.size = 100000;
    CHECK(!kalm__tokenizer_open(&k.t, k.blob, k.size, &err));
    CHECK(kalm__tokenize(&k.t, &a, NULL, t, 0, NULL, 0, &count, &err) == KALM_BAD_FILE && strstr(err.text, "more than"));
    t.size = 3;                        /* a short text is allowed the base, whatever the tables */
    (void)kalm__tokenize(&k.t, &a, NULL, t, 0, NULL, 0, &count, &err);
    free(text);
    tok_close(&k);
}

/* A table whose tokens cut characters: from the middle of one its last byte looks like the first of two. The text ends at an
   unreadable page. */
static void test_cut_characters(void)
{
    static const struct { unsigned from, byte, to; } unit[] = {          /* each token is one byte, but for "\x98\x80" */
        { 256, 0xf0, 512 }, { 256, 0x9f, 512 }, { 256, 0x80, 512 }, { 256, 0x98, 768 }, { 768, 0x80, 1024 }
    };
    static const char smile[] = "\xf0\x9f\x98\x80";
    buffer text = take(4, 1);
    kalm_allocator a = counting();
    kalm_error err;
    kalm_text t;
    unsigned char *b, *trie;
    size_t i, n;
    tok k;
    if (!CHECK(tok_open(&k, "examples/tiny/tokenizer.json"))) return;
    b = k.blob;
    trie = b + (k.t.part[KALM__SEC_TRIE] - b);
    if (!CHECK(k.t.size[KALM__SEC_TRIE] >= 4 * 1280)) return;
    words(&k, KALM__SEC_TRIE, 0, 1, 0x80000000u);
    kalm__put_u32(trie, 256u << 9);
    for (i = 0; i < sizeof unit / sizeof *unit; i++)
        kalm__put_u32(trie + 4 * (unit[i].from ^ unit[i].byte), unit[i].byte | unit[i].to << 9 | (unit[i].to == 768 ? 0 : 256u));
    kalm__put_u32(trie + 4 * 512, 0x80000001u);
    kalm__put_u32(trie + 4 * 1024, 0x80000002u);
    b[(k.t.part[KALM__SEC_LENGTHS] - b) + 1] = 1;
    b[(k.t.part[KALM__SEC_LENGTHS] - b) + 2] = 2;
    memset(b + (k.t.part[KALM__SEC_JOINS] - b), 255, 8192);
    memset(b + (k.t.part[KALM__SEC_FIRST] - b), 0, 256);
    for (i = 0; i < 3; i++) kalm__put_u64(b + (k.t.part[KALM__SEC_SPLITS] - b) + 8 * i, (uint64_t)KALM__BPE_IRREGULAR << 40);
    memcpy(text.data, smile, 4);
    t.data = (const char *)text.data, t.size = 4;
    CHECK(!kalm__tokenizer_open(&k.t, k.blob, k.size, &err));
    CHECK(!kalm__tokenize(&k.t, &a, NULL, t, 0, ids_of, 10, &n, &err) && n == 3 && ids_of[0] == 1 && ids_of[1] == 1 && ids_of[2] == 2);
    give(text);
    tok_close(&k);
}

/* Numbers that are the last allowed one, and the first that is not. */
static void test_borders(void)
{
    tok k;
    kalm__tokenizer t;
    kalm_allocator a = counting();
    kalm_error err;
    kalm_text text = kalm__text("a <b> the\n\xf0\x9f\xa7\xbf");
    unsigned char *whole, *b;
    size_t n, i;
    char out[64];
    int32_t id;
    static const struct { unsigned at; uint32_t allowed, refused; } header[] = { { 36, 8, 7 }, { 36, 24, 25 }, { 32, 255, 256 }, { 28, 0, 0 } };
    if (!CHECK(tok_open(&k, "examples/tiny/tokenizer.json"))) return;
    b = k.blob;
    whole = (unsigned char *)malloc(k.size);
    memcpy(whole, b, k.size);
    /* what the tables say of ids: one below the count is an id, the count is none */
    for (i = 0; i < 2; i++) {
        memcpy(b, whole, k.size);
        for (n = 0; n < 256; n++) kalm__put_u32(b + (k.t.part[KALM__SEC_BYTES] - b) + 4 * n, k.t.tokens - 1 + (uint32_t)i);
        CHECK(!kalm__tokenize(&k.t, &a, NULL, kalm__text("\xf0\x9f\xa7\xbf"), 0, ids_of, 100, &n, &err));
        CHECKF(i ? n == (k.t.unknown != KALM__TOK_NONE) : n == 4 && ids_of[0] == (int32_t)k.t.tokens - 1, "%lu ids", (unsigned long)n);
    }
    for (i = 0; i < 3; i++) {          /* every value of a trie is the last symbol, the count, the count of tokens */
        unsigned section = i < 2 ? KALM__SEC_TRIE : KALM__SEC_ADDED;
        unsigned char *p = b + (k.t.part[section] - b);
        memcpy(b, whole, k.size);
        for (n = 0; n < k.t.size[section] / 4; n++)
            if (kalm__u32(p + 4 * n) > 0x80000000u) kalm__put_u32(p + 4 * n, 0x80000000u | (i < 2 ? k.t.symbols - 1 + (uint32_t)i : k.t.tokens));
        id = (int32_t)kalm__tokenize(&k.t, &a, NULL, text, KALM_PARSE_CONTROL, ids_of, 100, &n, &err);
        CHECKF(i == 1 ? id == KALM_BAD_FILE : i == 2 ? id == KALM_OK : id == KALM_OK || id == KALM_BAD_FILE, "%u: %s", (unsigned)i, err.text);
        for (; id == KALM_OK && n; n--) CHECK(ids_of[n - 1] >= 0 && (uint32_t)ids_of[n - 1] < k.t.tokens);
    }
    memcpy(b, whole, k.size);
    for (i = 0; i < 4; i++) {
        memcpy(b, whole, k.size);
        kalm__put_u32(b + header[i].at, i == 3 ? k.t.tokens - 1 : header[i].allowed);
        id = (int32_t)kalm__tokenizer_open(&t, b, k.size, &err);       /* another size of a section may be refused still */
        CHECK(id == KALM_OK || strstr(err.text, "section"));
        kalm__put_u32(b + header[i].at, i == 3 ? k.t.tokens : header[i].refused);
        CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, "cannot be"));
    }
    memcpy(b, whole, k.size);
    kalm__put_u32(b + 20, k.t.tokens - 1);         /* fewer symbols than tokens */
    CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, "symbols"));
    kalm__put_u32(b + 20, (1u << 20) + 1);
    CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, "symbols"));
    for (i = 0; i < KALM__TOK_SECTIONS; i++) {   /* a section that ends at the end, and one byte behind it */
        memcpy(b, whole, k.size);
        kalm__put_u64(b + 64 + 16 * i, k.size - k.t.size[i]);
        CHECK(!kalm__tokenizer_open(&t, b, k.size, &err) || i == KALM__SEC_TEXTS);
        kalm__put_u64(b + 64 + 16 * i, k.size - k.t.size[i] + 1);
        CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, " bytes at byte "));
        kalm__put_u64(b + 64 + 16 * i, UINT64_MAX - 3);
        CHECK(kalm__tokenizer_open(&t, b, k.size, &err) == KALM_BAD_FILE && strstr(err.text, " bytes at byte "));
    }
    memcpy(b, whole, k.size);
    kalm__put_u32(b + (k.t.part[KALM__SEC_STARTS] - b) + 4 * 9, kalm__u32(k.t.part[KALM__SEC_STARTS] + 4 * 8) + KALM__TOKEN_MOST);
    CHECK(kalm__token_bytes(&k.t, 8).size == KALM__TOKEN_MOST);
    kalm__put_u32(b + (k.t.part[KALM__SEC_STARTS] - b) + 4 * 9, kalm__u32(k.t.part[KALM__SEC_STARTS] + 4 * 8) + KALM__TOKEN_MOST + 1);
    CHECK(!kalm__token_bytes(&k.t, 8).data && !kalm__token_bytes(&k.t, (int32_t)k.t.tokens).data && !kalm__token_bytes(&k.t, -1).data);
    CHECK(kalm__token_bytes(&k.t, (int32_t)k.t.tokens - 1).data != NULL);
    id = (int32_t)k.t.tokens;
    CHECK(!kalm__detokenize(&k.t, &id, 1, out, sizeof out, &n, &err) && n == 0);
    memcpy(b, whole, k.size);
    free(whole);
    tok_close(&k);
    if (!CHECK(tok_open(&k, "examples/tiny/tokenizer.model"))) return;
    id = (int32_t)k.t.tokens - 1;      /* SentencePiece: an id that is none is an error */
    CHECK(!kalm__detokenize(&k.t, &id, 1, out, sizeof out, &n, &err));
    id++;
    CHECK(kalm__detokenize(&k.t, &id, 1, out, sizeof out, &n, &err) == KALM_BAD_ARGUMENT && strstr(err.text, "is not in the vocabulary"));
    tok_close(&k);
}

/* Texts without a cut in which the last token decides how those before it fall, 5,000 and 9,000 bytes back. */
static void test_long_way_back(void)
{
    static const char json[] = "{\"model\": {\"type\": \"BPE\", \"unk_token\": \"<u>\", \"vocab\": {\"<u>\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"aa\": 4}, "
                               "\"merges\": [\"a b\", \"a a\"]}}";
    char *text = (char *)malloc(20000);
    size_t n, i;
    tok k;
    if (!CHECK(tok_from(&k, "back", json, strlen(json)))) return;
    memset(text, 'a', 14002);
    text[5000] = 'b';
    text[14001] = 'b';                 /* a^5000 b a^9000 b */
    n = encode(&k, text, 14002, 0);
    CHECKF(n == 2499 + 2 + 4499 + 2, "%lu ids", (unsigned long)n);
    for (i = 0; i < n; i++) CHECK(ids_of[i] == (i < 2499 ? 4 : i == 2499 ? 1 : i == 2500 ? 3 : i < 7000 ? 4 : i == 7000 ? 1 : 3));
    for (i = 0; i < 4; i++) {          /* memory for that, refused */
        kalm_allocator a = counting();
        kalm_error err;
        kalm_text t;
        t.data = text, t.size = 14002;
        calls_left = (long)i;
        if (kalm__tokenize(&k.t, &a, NULL, t, 0, ids_of, 10, &n, &err)) CHECK(err.code == KALM_NO_MEMORY && err.text[0]);
        calls_left = -1;
    }
    free(text);
    tok_close(&k);
    CHECK(live_bytes == 0);
}

/* Unused pieces of a BPE model are made by merging and taken apart again, to characters that need not be pieces. Ids as
   SentencePiece gives them. */
static void test_unused(void)
{
    static const char *const pieces[] = { "20<unk>", "11a", "11b", "13c", "59ab", "58abc", "17ca", "56xy", "55abca", "41<b>" };
    static const int32_t parts[] = { 1, 2, 3 }, again[] = { 1, 2, 3, 1 }, unknown[] = { 0, 1, 0 }, twice[] = { 1, 2, 1, 2 }, user[] = { 1, 9, 2 };
    unsigned char file[400];
    size_t size = spm_file(file, 2, pieces, sizeof pieces / sizeof *pieces);
    tok k;
    if (!CHECK(tok_from(&k, "unused", file, size))) return;
    CHECK(encodes_to(&k, "abc", 0, parts, 3));
    CHECK(encodes_to(&k, "abab", 0, twice, 4));
    CHECK(encodes_to(&k, "xyaxy", 0, unknown, 3));
    CHECK(encodes_to(&k, "a<b>b", 0, user, 3));
    CHECK(encodes_to(&k, "abca", 0, again, 4));
    tok_close(&k);
}

static void test_hostile(void)
{
    static const char *const files[] = {
        "examples/tiny/tokenizer.json", "examples/tiny/tokenizer.model", "tests/spm/unigram_plain.model", "tests/spm/unigram_rules.model",
        "tests/spm/word_plain.model"
    };
    static const char *const texts[] = { "a", "ab \n<b> the", ("\xef\xbc\xa1" "a\xcc\x81 ") };
    enum { SIZE = 15000 };
    char *text = (char *)malloc(2 * SIZE + 64);
    uint64_t state = 11;
    unsigned f, what, i;
    for (f = 0; f < sizeof files / sizeof *files; f++) {
        tok k;
        unsigned char *whole;
        if (!CHECK(tok_open(&k, files[f]))) continue;
        whole = (unsigned char *)malloc(k.size);
        memcpy(whole, k.blob, k.size);
        for (what = 0; what < 40; what++) {
            kalm_error err;
            int32_t some[64];
            size_t size;
            memcpy(k.blob, whole, k.size);
            if (!CHECK(!kalm__tokenizer_open(&k.t, k.blob, k.size, &err))) break;
            hostile_change(&k, what, &state);
            if (kalm__tokenizer_open(&k.t, k.blob, k.size, &err)) {
                CHECK(err.text[0] != 0);
                continue;
            }
            for (i = 0; i < 4; i++) {
                double once, twice;
                size_t n = 0, unit = i < 3 ? strlen(texts[i]) : 0;
                while (n < 2 * SIZE) {
                    if (unit) memcpy(text + n, texts[i], unit), n += unit;
                    else text[n++] = (char)(test_random(&state) % 3 ? 'a' + test_random(&state) % 26 : test_random(&state));
                }
                once = hostile_run(&k, text, SIZE);
                twice = hostile_run(&k, text, 2 * SIZE);
                CHECKF(twice < 6 * once + 0.3, "%s, change %u: %f and %f seconds for twice the text", files[f], what, once, twice);
            }
            for (i = 0; i < 64; i++) some[i] = (int32_t)(test_random(&state) % (k.t.tokens + 2));
            if (!kalm__detokenize(&k.t, some, 64, text, 100, &size, &err)) CHECK(size <= 64 * (size_t)KALM__TOKEN_MOST);
        }
        memcpy(k.blob, whole, k.size);
        free(whole);
        tok_close(&k);
    }
    free(text);
    CHECK(live_bytes == 0);
}

/* The caller is asked at least once in 64 KB, and can stop every time. */
static void test_cancel(void)
{
    static const char *const files[] = {
        "examples/tiny/tokenizer.json", "examples/tiny/tokenizer.model", "tests/spm/unigram_plain.model", "tests/spm/unigram_rules.model",
        "tests/spm/word_plain.model"
    };
    static const char *const units[] = { "a", " ", "the quick ", "\xff", "\xe2\x96\x81" };
    size_t n = 1000000, f, i, at, count;
    char *text = (char *)malloc(n);
    kalm_allocator a = counting();
    kalm__interrupt in;
    kalm_error err;
    kalm_text t;
    in.call = ask, in.user = &asked;
    for (f = 0; f < sizeof files / sizeof *files; f++) {
        tok k;
        if (!CHECK(tok_open(&k, files[f]))) continue;
        for (i = 0; i < sizeof units / sizeof *units; i++) {
            size_t unit = strlen(units[i]), base = live_bytes;
            long all;
            for (at = 0; at < n; at++) text[at] = units[i][at % unit];
            t.data = text, t.size = n;
            asked = 0, asked_most = -1;
            CHECK(!kalm__tokenize(&k.t, &a, &in, t, 0, NULL, 0, &count, &err));
            all = asked;
            CHECKF(all >= 15, "%s, \"%s\": %ld questions", files[f], units[i], all);
            for (asked_most = 1; asked_most <= all; asked_most += 1 + all / 4) {
                asked = 0;
                CHECK(kalm__tokenize(&k.t, &a, &in, t, 0, NULL, 0, &count, &err) == KALM_CANCELLED);
                CHECK(asked == asked_most && !count && live_bytes == base && strstr(err.text, "cancelled"));
            }
        }
        tok_close(&k);
    }
    free(text);
}

/* Rules that Gemma's file does not use: prefixes, Metaspace, no byte fallback, merges as strings. */
static void test_rules(void)
{
    static const char head[] = "{\"model\": {\"type\": \"BPE\", \"unk_token\": \"<u>\", \"fuse_unk\": %s, \"vocab\": {\"<u>\": 0, \"\xe2\x96\x81\": 1, "
                               "\"a\": 2, \"b\": 3, \"\xe2\x96\x81" "a\": 4, \"ab\": 5, \"<x>\": 6}, \"merges\": [\"\xe2\x96\x81 a\", \"a b\"]}, "
                               "\"added_tokens\": [{\"id\": 6, \"content\": \"<x>\", \"special\": true}]%s}";
    static const char escape[] = "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}";
    static const char prepend[] = "{\"type\": \"Prepend\", \"prepend\": \"\xe2\x96\x81\"}";
    static const int32_t plain[] = { 2, 1, 5 }, prefixed[] = { 4, 4, 3 }, unknown[] = { 0, 2, 0, 0 }, fused[] = { 0, 2, 0 };
    char json[2048], more[1024];
    unsigned i;
    tok k;
    sprintf(json, head, "false", "");
    if (CHECK(tok_from(&k, "rules", json, strlen(json)))) {
        static const int32_t want[] = { 5, 0, 5 };         /* no normalizer: a space is an unknown character */
        CHECK(encodes_to(&k, "ab ab", 0, want, 3));
        CHECK(encodes_to(&k, "xaxx", 0, unknown, 4));
        tok_close(&k);
    }
    sprintf(more, ", \"normalizer\": %s", escape);
    sprintf(json, head, "true", more);
    if (CHECK(tok_from(&k, "rules", json, strlen(json)))) {
        static const int32_t want[] = { 2, 4, 3 };
        CHECK(encodes_to(&k, "a ab", 0, want, 3));
        CHECK(encodes_to(&k, "xaxx", 0, fused, 3));
        tok_close(&k);
    }
    sprintf(more, ", \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [%s, %s]}", prepend, escape);
    sprintf(json, head, "true", more);
    if (CHECK(tok_from(&k, "rules", json, strlen(json)))) {
        static const int32_t twice[] = { 4, 6, 4 };
        CHECK(encodes_to(&k, "a ab", 0, prefixed, 3));
        CHECK(encodes_to(&k, "a<x>a", KALM_PARSE_CONTROL, twice, 3));
        tok_close(&k);
    }
    sprintf(more, ", \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": \"first\", \"split\": false}");
    sprintf(json, head, "true", more);
    if (CHECK(tok_from(&k, "rules", json, strlen(json)))) {
        static const int32_t once[] = { 4, 6, 2 };
        CHECK(encodes_to(&k, "a ab", 0, prefixed, 3));
        CHECK(encodes_to(&k, " a ab", 0, prefixed, 3));
        CHECK(encodes_to(&k, "a<x>a", KALM_PARSE_CONTROL, once, 3));
        tok_close(&k);
    }
    for (i = 0; i < 2; i++) {          /* four spaces: a run grows on before another begins, or it does not, as the ranks have it */
        static const int32_t want[2][2] = { { 3, 1 }, { 2, 2 } };
        sprintf(json, "{\"model\": {\"vocab\": {\"?\": 0, \" \": 1, \"  \": 2, \"   \": 3}, \"unk_token\": \"?\", \"merges\": [%s]}}",
                i ? "[\" \", \" \"], [\"  \", \" \"]" : "[\"  \", \" \"], [\" \", \" \"]");
        if (CHECK(tok_from(&k, "runs", json, strlen(json)))) {
            CHECK(encodes_to(&k, "    ", 0, want[i], 2));
            tok_close(&k);
        }
    }
    {                                  /* a merge that is there twice has the rank of its last place */
        static const char twice[] = "{\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"b\": 2, \"c\": 3, \"ab\": 4, \"bc\": 5}, \"unk_token\": \"?\", "
                                    "\"merges\": [\"a b\", \"b c\", \"a b\"]}}";
        static const int32_t want[] = { 1, 5 };
        if (CHECK(tok_from(&k, "twice", twice, strlen(twice)))) {
            CHECK(encodes_to(&k, "abc", 0, want, 2));
            tok_close(&k);
        }
    }
    (void)plain;
}

/* UTF-8 by its definition: a code point in as few bytes as it takes, none above U+10FFFF, none of D800 to DFFF; of what is ill-formed, the
   longest part that could be the beginning of a character. And Unicode's white space, each character of it. */
static void test_characters(void)
{
    static const unsigned least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    static const unsigned short white[][2] = { { 9, 13 }, { 32, 32 }, { 0x85, 0x85 }, { 0xa0, 0xa0 }, { 0x1680, 0x1680 }, { 0x2000, 0x200a },
        { 0x2028, 0x2029 }, { 0x202f, 0x202f }, { 0x205f, 0x205f }, { 0x3000, 0x3000 } };
    unsigned c, second, n, i;
    for (c = 0; c < 256; c++)
        for (second = 0; second < 256; second++) {
            unsigned char p[4] = { (unsigned char)c, (unsigned char)second, 0x80, 0x80 };
            unsigned size = c < 0x80 ? 1 : c < 0xc0 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf8 ? 4 : 0, code = size ? c & (0x7fu >> size) : 0;
            int good = size == 1 || (size && (second & 0xc0) == 0x80);
            for (i = 1; i < size; i++) code = code << 6 | (p[i] & 63u);
            if (size > 1 && (code < least[size] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)) good = 0;
            for (n = 1; n <= 4; n++) {
                int want = !good ? -1 : n >= size ? (int)size : -(int)n;
                if (!CHECKF(kalm__utf8(p, n) == want, "%u bytes of %02x %02x 80 80: %d instead of %d", n, c, second, kalm__utf8(p, n), want)) return;
            }
        }
    for (c = 1; c < 0x10000; c++) {
        char p[4];
        int is = 0;
        if (c >= 0xd800 && c < 0xe000) continue;
        for (i = 0; i < sizeof white / sizeof *white; i++) is |= c >= white[i][0] && c <= white[i][1];
        n = (unsigned)kalm__json_put_utf8(p, c);
        if (!CHECKF(kalm__white_bytes((const unsigned char *)(const void *)p, n) == (is ? n : 0), "U+%04X", c)) return;
    }
}

/* Which added tokens are marks of the prompt, that no user may write: what looks like one and is no tag of HTML. */
static void test_marks(void)
{
    static const char *const marks[] = { "<start_of_turn>", "[INST]", "[/INST]", "[x]", "<hr2>", "<|im_end|>", "<pad>", "</turn>", "<b r>" };
    static const char *const words[] = { "<br>", "</p>", "<br/>", "<table>", "<h1>", "\n\n", "<a", "a>", "[x", "x]", "[x>", "<x]", "<>", "[]", "", "yes" };
    size_t i;
    for (i = 0; i < sizeof marks / sizeof *marks; i++) CHECKF(kalm__import_is_mark(kalm__text(marks[i])), "%s is a mark", marks[i]);
    for (i = 0; i < sizeof words / sizeof *words; i++) CHECKF(!kalm__import_is_mark(kalm__text(words[i])), "%s is no mark", words[i]);
}

/* A vocabulary whose texts were chosen so that they all go to one place of the hash table: refused, before looking one up takes for ever. */
static void test_one_hash(void)
{
    enum { TOKENS = 1100, PLACES = 4096 };         /* the table of so many tokens */
    char *json = (char *)malloc(TOKENS * 32 + 200), text[16];
    size_t n = (size_t)sprintf(json, "{\"model\": {\"unk_token\": \"?\", \"merges\": [], \"vocab\": {\"?\": 0");
    unsigned found = 0, i;
    for (i = 0; found < TOKENS; i++) {
        size_t size = (size_t)sprintf(text, "%u", i);
        if (kalm__import_hash(text, size) % PLACES) continue;
        n += (size_t)sprintf(json + n, ", \"%s\": %u", text, ++found);
    }
    strcpy(json + n, "}}}");
    refuses(json, "too many tokens share a hash");
    free(json);
}

int main(int argc, char **argv)
{
    test_characters();
    test_marks();
    test_one_hash();
    test_json();
    test_rules();
    test_definition();
    test_tiny();
    test_policy();
    test_limits();
    test_too_many_steps();
    test_borders();
    test_long_way_back();
    test_unused();
    test_hostile();
    test_cut_characters();
    test_cancel();
    test_refusals();
    test_json_refusals();
    test_no_memories();
    test_gemma();
    test_cuts();
    test_shared(argc > 1 ? argv[1] : "../shared/tokenizer");
    test_kalm(argc > 1 ? argv[1] : "../shared/tokenizer");
    return test_end();
}
