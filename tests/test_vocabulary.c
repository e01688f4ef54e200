/* test_vocabulary.c - smaller vocabularies (tokenizer/import_subset.h) against the whole ones, and parts of a model
   (kalm-quantize --vocabulary, --side) against the model.
     - a text of the scripts that were asked for has the tokens that it had; random texts, every kind of tokenizer
     - by texts: a text has the tokens that it had if and only if all of them stayed
     - any other text becomes tokens as well, and where there are byte tokens they are decoded to the same text
     - documents, scores and errors of parts, and that they exchange documents with the whole
   test_vocabulary [ROUNDS [SEED]]: so many random texts for each tokenizer and set of scripts */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../tokenizer/import.h"
#include "../tokenizer/import_subset.h"
#include "counting.h"
#include "test.h"
#include "spm_model.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif
#define TMP TEST_BUILD "/tmp/vocabulary"

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

static void tok_close(tok *k)
{
    kalm_allocator a = heap();
    kalm__release(&a, k->blob, k->size);
    memset(k, 0, sizeof *k);
}

static int tok_import(tok *k, const char *name, const void *data, size_t size)
{
    kalm_allocator a = heap();
    kalm_error err;
    memset(k, 0, sizeof *k);
    return CHECKF(!kalm__import_tokenizer(name, data, size, &a, &k->blob, &k->size, &err), "%s: %s", name, err.text)
        && CHECKF(!kalm__tokenizer_open(&k->t, k->blob, k->size, &err), "%s: %s", name, err.text);
}

/* ---- random texts ----------------------------------------------------------------------------------------------------- */

enum { TEXT_MOST = 600, IDS_MOST = 8 * TEXT_MOST };

/* Characters for random texts: of scripts, shared by all, and such that a charsmap makes characters of another script of. */
static const uint32_t ranges[][2] = {
    { 0x20, 0x7e }, { 0x61, 0x7a }, { 0x41, 0x5a }, { 0xa0, 0xff }, { 0x100, 0x17f }, { 0x300, 0x310 }, { 0x370, 0x3ff }, { 0x400, 0x45f },
    { 0x5d0, 0x5ea }, { 0x620, 0x64a }, { 0x905, 0x939 }, { 0xe01, 0xe30 }, { 0x1e00, 0x1eff }, { 0x2010, 0x2030 }, { 0x2100, 0x214f },
    { 0x2581, 0x2581 }, { 0x3001, 0x3011 }, { 0x3041, 0x3096 }, { 0x30a1, 0x30fa }, { 0x3300, 0x33ff }, { 0x4e00, 0x4fff },
    { 0xac00, 0xacff }, { 0xfb00, 0xfb06 }, { 0xff01, 0xff5e }, { 0x1f600, 0x1f64f }, { 0x1d400, 0x1d420 }
};
enum { RANGES = sizeof ranges / sizeof *ranges };

/* Adds a piece of text, if its characters are allowed (subset NULL: any); returns the new size. */
static size_t put(char *to, size_t at, const char *text, size_t n, const kalm__subset *s)
{
    if (at + n > TEXT_MOST || (s && !kalm__subset_all_allowed(s, text, n))) return at;
    memcpy(to + at, text, n);
    return at + n;
}

/* A text of tokens of the vocabulary, characters and spaces; of allowed characters where s is not NULL. `source` (a subset of
   its own) decides what is allowed, before charsmaps add to it. */
static size_t random_text(char *to, const kalm__tokenizer *t, const kalm__subset *s, uint64_t *state)
{
    size_t at = 0, parts = 1 + test_random(state) % 24, i;
    int one = (int)(test_random(state) % RANGES);
    for (i = 0; i < parts; i++) {
        uint64_t r = test_random(state);
        kalm_text token = kalm__token_bytes(t, (int32_t)(r % t->tokens));
        char c[4];
        uint32_t code;
        const uint32_t *range = ranges[r >> 40 & 1 ? one : (int)((r >> 41) % RANGES)];
        switch (r >> 32 & 7) {
        case 0: case 1: case 2: case 3:
            if (token.data && t->part[KALM__SEC_KINDS][r % t->tokens] == KALM__KIND_TEXT) at = put(to, at, token.data, token.size, s);
            break;
        case 4: at = put(to, at, "      ", 1 + (r >> 48) % 6, s); break;
        case 5: at = put(to, at, r >> 50 & 1 ? "\n\n\n" : "\t", 1 + (r >> 50 & 1) * (r >> 52) % 3, s); break;
        default:
            code = range[0] + (uint32_t)((r >> 48) % (range[1] - range[0] + 1));
            at = put(to, at, c, kalm__json_put_utf8(c, code), s);
        }
        if (!s && test_random(state) % 40 == 0 && at < TEXT_MOST) to[at++] = (char)(128 + test_random(state) % 128);
    }
    return at;
}

static int32_t before[IDS_MOST], after[IDS_MOST];

static size_t encode(const kalm__tokenizer *t, const char *text, size_t size, uint32_t flags, int32_t *ids)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm_text one;
    size_t n = 0;
    one.data = text, one.size = size;
    CHECKF(!kalm__tokenize(t, &a, NULL, one, flags, ids, IDS_MOST, &n, &err), "\"%.*s\": %s", (int)size, text, err.text);
    return kalm__min(n, IDS_MOST);
}

/* Are the ids of the smaller vocabulary those of the whole one? */
static int same_ids(const kalm__subset *s, const int32_t *whole, size_t n, const int32_t *small, size_t m)
{
    size_t i;
    for (i = 0; i < n && n == m; i++)
        if (small[i] < 0 || (uint32_t)small[i] >= s->tokens || s->ids[small[i]] != (uint32_t)whole[i]) return 0;
    return n == m;
}

/* Both decode to the same text? */
static int same_text(const kalm__tokenizer *a, const int32_t *x, size_t n, const kalm__tokenizer *b, const int32_t *y, size_t m)
{
    static char one[8 * TEXT_MOST], two[8 * TEXT_MOST];
    size_t k = 0, l = 0;
    return !kalm__detokenize(a, x, n, one, sizeof one, &k, NULL) && !kalm__detokenize(b, y, m, two, sizeof two, &l, NULL) && k == l
        && !memcmp(one, two, kalm__min(k, sizeof one));
}

/* ---- by scripts ------------------------------------------------------------------------------------------------------------ */

static int subset_open(const kalm__subset *s, tok *small, const char *name)
{
    kalm_error err;
    (void)s;
    return CHECKF(!kalm__tokenizer_open(&small->t, small->blob, small->size, &err), "%s: %s", name, err.text);
}

static unsigned char script_of[KALM__SUBSET_CODES];            /* of each character */

static void know_scripts(void)
{
    size_t r;
    for (r = 0; r < KALM__SCRIPT_RANGES; r++) {
        uint32_t code = kalm__script_ranges[r] >> 8, end = r + 1 < KALM__SCRIPT_RANGES ? kalm__script_ranges[r + 1] >> 8 : KALM__SUBSET_CODES;
        memset(script_of + code, (int)(kalm__script_ranges[r] & 255), end - code);
    }
}

static void test_scripts(const tok *k, const char *name, const char *names, unsigned long rounds, uint64_t *state)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm__subset s, source;
    unsigned char script[KALM__SCRIPTS];
    char text[TEXT_MOST], all[64];
    tok small;
    unsigned long i;
    uint32_t id;
    int ascii = 0, any = 0;
    memset(script, 0, sizeof script);
    memset(&small, 0, sizeof small);
    snprintf(all, sizeof all, "%s", names);
    for (names = strtok(all, ","); names; names = strtok(NULL, ",")) {
        ascii |= !strcmp(names, "ascii");
        for (i = 0; i < KALM__SCRIPTS; i++)
            if (!strcmp(names, kalm__script_names[i])) script[i] = 1, any = 1;
    }
    CHECK(any || ascii);
    /* what a text may hold, before a charsmap adds what it makes of it */
    memset(&source, 0, sizeof source);
    source.allowed = (unsigned char *)calloc(1, KALM__SUBSET_CODES / 8);
    for (id = 1; id < KALM__SUBSET_CODES; id++) {
        uint32_t of = script_of[id];
        if ((ascii && id < 128) || (any && (script[of] || of == KALM__SCRIPT_COMMON || of == KALM__SCRIPT_INHERITED)))
            kalm__subset_allow(source.allowed, id);
    }
    if (CHECKF(!kalm__subset_begin(&s, &k->t, name, &a, &err), "%s: %s", name, err.text)
        && CHECKF(!kalm__subset_scripts(&s, script, ascii), "%s: %s", name, err.text)
        && CHECKF(!kalm__subset_finish(&s, &small.blob, &small.size), "%s: %s", name, err.text) && subset_open(&s, &small, name)) {
        CHECK(s.tokens == small.t.tokens && s.tokens <= k->t.tokens && small.size <= k->size);
        for (id = 0; id < s.tokens; id++) {      /* the tokens are those that they were */
            kalm_text x = kalm__token_bytes(&k->t, (int32_t)s.ids[id]), y = kalm__token_bytes(&small.t, (int32_t)id);
            if (x.size != y.size || (x.size && memcmp(x.data, y.data, x.size))
                || k->t.part[KALM__SEC_KINDS][s.ids[id]] != small.t.part[KALM__SEC_KINDS][id] || (id && s.ids[id] <= s.ids[id - 1]))
                CHECKF(0, "%s: token %lu has another text or kind", name, (unsigned long)id);
        }
        for (i = 0; i < rounds; i++) {
            size_t size = random_text(text, &k->t, &source, state), n, m;
            uint32_t flags = test_random(state) & 1 ? KALM_PARSE_CONTROL : 0;
            n = encode(&k->t, text, size, flags, before);
            m = encode(&small.t, text, size, flags, after);
            CHECKF(same_ids(&s, before, n, after, m), "%s, %s: \"%.*s\" is read otherwise", name, all, (int)size, text);
            CHECK(same_text(&k->t, before, n, &small.t, after, m));
            size = random_text(text, &k->t, NULL, state);
            n = encode(&k->t, text, size, flags, before);
            m = encode(&small.t, text, size, flags, after);
            if ((k->t.flags & KALM__TOK_BYTES) && k->t.model == KALM__MODEL_BPE)
                CHECKF(same_text(&k->t, before, n, &small.t, after, m), "%s, %s: \"%.*s\" becomes another text", name, all, (int)size, text);
        }
    }
    free(source.allowed);
    kalm__subset_end(&s);
    tok_close(&small);
}

/* ---- by texts -------------------------------------------------------------------------------------------------------------- */

static void test_texts(const tok *k, const char *name, unsigned long rounds, uint64_t *state)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm__subset s;
    kalm__piece piece;
    char text[TEXT_MOST];
    tok small;
    uint64_t begin = *state;
    unsigned long i;
    memset(&small, 0, sizeof small);
    memset(&piece, 0, sizeof piece);
    if (CHECKF(!kalm__subset_begin(&s, &k->t, name, &a, &err), "%s: %s", name, err.text)) {
        kalm_result r = KALM_OK;
        for (i = 0; i < rounds && !r; i++) {
            piece.text.size = random_text(text, &k->t, NULL, state);
            piece.text.data = text;
            r = kalm__subset_text(&s, &piece, 1);
        }
        if (!r) r = kalm__subset_used(&s, 0);
        CHECKF(!r, "%s: %s", name, err.text);
        if (CHECKF(!kalm__subset_finish(&s, &small.blob, &small.size), "%s: %s", name, err.text) && subset_open(&s, &small, name)) {
            *state = begin;
            for (i = 0; i < 2 * rounds; i++) {   /* the texts themselves, then as many others */
                size_t size = random_text(text, &k->t, NULL, state), n, m, at;
                int kept = 1, same;
                n = encode(&k->t, text, size, 0, before);
                m = encode(&small.t, text, size, 0, after);
                for (at = 0; at < n; at++) kept &= s.keep[before[at]] == KALM__SUBSET_TOKEN;
                same = same_ids(&s, before, n, after, m);
                CHECKF(i >= rounds || same, "%s: \"%.*s\" was given and is read otherwise", name, (int)size, text);
                /* by scores, single characters of the pieces count as well; they stay with every piece */
                CHECKF(same == kept, "%s: \"%.*s\": its tokens %s, it is read %s", name, (int)size, text,
                       kept ? "stay" : "do not all stay", same ? "as before" : "otherwise");
                piece.text.data = text, piece.text.size = size;
                {
                    int found = -1;
                    CHECK(!kalm__subset_same(&s, &small.t, &piece, 1, &found) && found == same);
                }
            }
        }
    }
    kalm__subset_end(&s);
    tok_close(&small);
}

/* ---- every tokenizer at hand --------------------------------------------------------------------------------------------- */

static void test_one(const char *name, unsigned char *data, size_t size, unsigned long rounds, uint64_t *state)
{
    static const char *const sets[] = { "latin", "ascii", "cyrillic,greek", "han,hiragana,katakana", "common", "ascii,arabic" };
    size_t i;
    tok k;
    if (data && tok_import(&k, name, data, size)) {
        for (i = 0; i < sizeof sets / sizeof *sets; i++) test_scripts(&k, name, sets[i], rounds, state);
        test_texts(&k, name, rounds / 2, state);
        test_texts(&k, name, 4, state);
        tok_close(&k);
    }
    free(data);
}

static void test_tokenizers(unsigned long rounds, uint64_t *state)
{
    static const char *const spm[] = {
        "unigram_nfkc", "unigram_nfkc_bytes", "unigram_nfkc_suffix", "unigram_plain", "unigram_phrases", "unigram_rules",
        "unigram_noescape", "unigram_denormal", "word_nfkc", "word_plain", "char_nfkc", "char_plain", "bpe_denormal", "bpe_nfkc_suffix"
    };
    static const char *const files[] = {
        "examples/tiny/tokenizer.json", "examples/tiny/tokenizer.model", "build/tokenizer/kalm/tokenizer.json",
        "../shared/tokenizer/spm/bpe1k_identity.model", "../shared/tokenizer/spm/bpe4k_nmt_nfkc.model",
        "../shared/tokenizer/spm/unigram1k.model"
    };
    size_t i, size;
    for (i = 0; i < sizeof spm / sizeof *spm; i++) {
        unsigned char *data = spm_model(spm[i], &size);
        test_one(spm[i], data, size, rounds, state);
    }
    for (i = 0; i < sizeof files / sizeof *files; i++) {
        unsigned char *data = test_read_file(files[i], &size);
        if (data) test_one(files[i], data, size, rounds, state);
        else if (!CHECKF(i >= 2, "%s", files[i])) return;
        else printf("not there: %s\n", files[i]);
    }
}

/* ---- what stays, by hand --------------------------------------------------------------------------------------------------- */

/* A BPE tokenizer with marks in reserve, <unusedN>, and with names that only look like one. */
static const char reserve[] = "{\"model\": {\"vocab\": {\"?\": 0, \"a\": 1, \"b\": 2, \"ab\": 3, \"\xc3\xa9\": 4, \"a\xc3\xa9\": 5}, \"unk_token\": \"?\", \"merges\": "
    "[[\"a\", \"b\"], [\"a\", \"\xc3\xa9\"]]}, \"added_tokens\": [{\"id\": 6, \"content\": \"<unused0>\"}, {\"id\": 7, \"content\": \"<unused12>\"}, {\"id\": 8, "
    "\"content\": \"<unused1x>\"}, {\"id\": 9, \"content\": \"<unused>\"}, {\"id\": 10, \"content\": \"<pad>\"}, {\"id\": 11, \"content\": \"<unused3)\"}, "
    "{\"id\": 12, \"content\": \"<a name of a mark>\"}]}";

/* The ids of what stays, "0 1 2", where `keep` is read (NULL: nothing is), with the control marks in it. */
static void expect_kept(const tok *k, const char *keep, uint32_t most, int scripts, const char *want)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm__subset s;
    kalm__piece piece;
    unsigned char script[KALM__SCRIPTS];
    char got[400];
    size_t n = 0;
    tok small;
    uint32_t i;
    memset(&small, 0, sizeof small);
    memset(&piece, 0, sizeof piece);
    memset(script, 0, sizeof script);
    piece.trusted = 1;
    if (!CHECKF(!kalm__subset_begin(&s, &k->t, "by hand", &a, &err), "%s", err.text)) return;
    if (scripts) CHECK(!kalm__subset_scripts(&s, script, 1));
    if (keep) {
        piece.text = kalm__text(keep);
        CHECK(!kalm__subset_text(&s, &piece, 1));
    }
    CHECK(!kalm__subset_used(&s, most) && !kalm__subset_finish(&s, &small.blob, &small.size) && subset_open(&s, &small, "by hand"));
    for (i = 0, got[0] = 0; i < s.tokens; i++) n += (size_t)sprintf(got + n, "%s%u", i ? " " : "", (unsigned)s.ids[i]);
    CHECKF(!strcmp(got, want), "\"%s\": %s stay and not %s", keep ? keep : "", got, want);
    kalm__subset_end(&s);
    tok_close(&small);
}

static void test_by_hand(void)
{
    kalm_allocator a = heap();
    kalm_error err;
    kalm__subset s;
    unsigned char script[KALM__SCRIPTS];
    tok k;
    if (!tok_import(&k, "reserve", reserve, sizeof reserve - 1)) return;
    /* ? a b ab stay as ASCII; names in reserve go unless a text has one or scripts are asked for */
    expect_kept(&k, NULL, 0, 0, "0 1 2 8 9 10 11 12");
    expect_kept(&k, "ab", 0, 0, "0 1 2 3 8 9 10 11 12");
    expect_kept(&k, "a\xc3\xa9", 0, 0, "0 1 2 5 8 9 10 11 12");
    expect_kept(&k, "\xc3\xa9 <unused12>", 0, 0, "0 1 2 4 7 8 9 10 11 12");
    expect_kept(&k, NULL, 0, 1, "0 1 2 3 6 7 8 9 10 11 12");
    /* of what texts need the most frequent, up to a number in all; what always stays is not counted against */
    expect_kept(&k, "\xc3\xa9 ab a\xc3\xa9 ab", 9, 0, "0 1 2 3 8 9 10 11 12");
    expect_kept(&k, "\xc3\xa9 ab a\xc3\xa9 ab \xc3\xa9 \xc3\xa9", 9, 0, "0 1 2 4 8 9 10 11 12");
    expect_kept(&k, "\xc3\xa9 ab a\xc3\xa9 ab", 10, 0, "0 1 2 3 4 8 9 10 11 12");        /* of equally frequent ones the first */
    expect_kept(&k, "\xc3\xa9 ab a\xc3\xa9 ab", 1, 0, "0 1 2 8 9 10 11 12");
    /* characters of a normal form may be of another script than the text's */
    memset(script, 0, sizeof script);
    k.t.flags |= KALM__TOK_NORMAL;
    if (CHECK(!kalm__subset_begin(&s, &k.t, "reserve", &a, &err)))
        CHECKF(kalm__subset_scripts(&s, script, 1) == KALM_BAD_ARGUMENT && strstr(err.text, "reserve: it brings texts into a Unicode normal form"),
               "%s", err.text);
    kalm__subset_end(&s);
#if !defined(KALM_UTF8PROC)
    kalm__put_u32(k.blob + 24, kalm__u32(k.blob + 24) | KALM__TOK_NORMAL);
    CHECKF(kalm__tokenizer_open(&k.t, k.blob, k.size, &err) == KALM_BAD_VERSION && strstr(err.text, "compile with KALM_UTF8PROC"), "%s", err.text);
#endif
    tok_close(&k);
}

/* ---- memory that runs out, tables that contradict each other -------------------------------------------------------------- */

/* Cut the vocabulary to a text (and to ASCII, where scripts is 1), and compare; OK gives the number of tokens that stay. */
static kalm_result cut(const kalm__tokenizer *t, const char *text, int scripts, uint32_t *tokens, kalm_error *err)
{
    kalm_allocator a = counting();
    kalm__subset s;
    kalm__tokenizer small;
    kalm__piece piece;
    unsigned char script[KALM__SCRIPTS], *blob = NULL;
    size_t size = 0;
    int same;
    kalm_result r;
    memset(script, 0, sizeof script);
    memset(&piece, 0, sizeof piece);
    piece.text = kalm__text(text);
    r = kalm__subset_begin(&s, t, "cut", &a, err);
    if (!r && scripts) r = kalm__subset_scripts(&s, script, 1);
    if (!r) r = kalm__subset_text(&s, &piece, 1);
    if (!r) r = kalm__subset_used(&s, 0);
    if (!r) r = kalm__subset_finish(&s, &blob, &size);
    if (!r) r = kalm__tokenizer_open(&small, blob, size, err);
    if (!r) r = kalm__subset_same(&s, &small, &piece, 1, &same);
    if (!r && !same) r = kalm__fail(err, KALM_BAD_FILE, "the text is read otherwise");
    *tokens = s.tokens;
    kalm__release(&a, blob, size);
    kalm__subset_end(&s);
    return r;
}

/* Each call that fails is an error by name, and nothing of what was there stays. */
static void test_no_memory(const tok *k, const char *text, int scripts)
{
    kalm_error err;
    uint32_t tokens;
    long n;
    for (n = 0; n < 1000; n++) {
        kalm_result r;
        calls_left = n;
        r = cut(&k->t, text, scripts, &tokens, &err);
        calls_left = -1;
        CHECK(!live_bytes);
        if (!r) break;
        CHECKF(r == KALM_NO_MEMORY && !strncmp(err.text, "no memory ", 10), "call %ld: %d, %s", n, (int)r, err.text);
    }
    CHECKF(n > 10 && n < 1000, "%ld calls", n);
}

/* Every byte of the tables by token, and some of the larger ones, is changed in several ways: the vocabulary is refused with a sentence, or what is made of it
   opens; how often which, the caller says. */
static void test_contradictions(const tok *k, const char *text, const unsigned *sections, unsigned from, unsigned fewest)
{
    static const unsigned char by[] = { 1, 0x80, 0xff };
    kalm_error err;
    uint32_t tokens;
    unsigned refused = 0, i;
    for (; *sections != KALM__TOK_SECTIONS; sections++) {
        size_t at = (size_t)(k->t.part[*sections] - k->blob), n;
        for (n = from; n < k->t.size[*sections]; n += k->t.size[*sections] > 500 ? 29 : 1)
            for (i = 0; i < 3; i++) {
                kalm_result r;
                k->blob[at + n] ^= by[i];
                r = cut(&k->t, text, 0, &tokens, &err);
                k->blob[at + n] ^= by[i];
                refused += r != 0;
                CHECKF(!r || (r == KALM_BAD_FILE && err.text[0]), "section %u, byte %u: %d", *sections, (unsigned)n, (int)r);
                CHECK(!live_bytes);
            }
    }
    CHECKF(refused >= fewest, "%u were refused", refused);
}

static void test_damage(void)
{
    static const unsigned tables[] = { KALM__SEC_LENGTHS, KALM__SEC_SPLITS, KALM__SEC_KINDS, KALM__SEC_STARTS, KALM__SEC_ADDED, KALM__SEC_TRIE, KALM__SEC_PAIRS,
                                       KALM__SEC_RANKS, KALM__SEC_BYTES, KALM__TOK_SECTIONS };
    static const unsigned upper[] = { KALM__SEC_LENGTHS, KALM__TOK_SECTIONS };
    kalm_allocator a = heap();
    kalm_error err;
    unsigned char script[KALM__SCRIPTS], *data;
    kalm__subset s;
    tok k, again;
    size_t size, i;
    uint32_t tokens;
    if (!tok_import(&k, "reserve", reserve, sizeof reserve - 1)) return;
    test_no_memory(&k, "ab a\xc3\xa9 ?", 1);
    test_contradictions(&k, "ab a\xc3\xa9", tables, 0, 100);
    /* cut to one word, so that "a" and U+00E9 below are symbols alone and no tokens; that is cut once more */
    memset(&again, 0, sizeof again);
    CHECK(!kalm__subset_begin(&s, &k.t, "once", &a, &err));
    memset(s.keep, 0, k.t.symbols);
    s.kept = 0;
    kalm__subset_keep(&s, 0);
    kalm__subset_keep(&s, 5);
    kalm__subset_keep(&s, 10);
    CHECK(!kalm__subset_finish(&s, &again.blob, &again.size) && subset_open(&s, &again, "once") && again.t.tokens == 3 && again.t.symbols == 5);
    kalm__subset_end(&s);
    CHECKF(!cut(&again.t, "a\xc3\xa9", 0, &tokens, &err) && tokens == 3, "%s", err.text);
    test_contradictions(&again, "a\xc3\xa9", upper, 3, 2);
    tok_close(&again);
    tok_close(&k);
    /* a charsmap whose values point behind the texts */
    data = spm_model("unigram_nfkc", &size);
    if (!data || !tok_import(&k, "unigram_nfkc", data, size)) return;
    free(data);
    memset(script, 0, sizeof script);
    for (i = 0; i < k.t.rule_units; i++) {
        unsigned char *unit = k.blob + (k.t.part[KALM__SEC_RULES] - k.blob) + 4 * i;
        if (kalm__u32(unit) >> 31) kalm__put_u32(unit, 0xffffffffu);
    }
    CHECK(!kalm__subset_begin(&s, &k.t, "unigram_nfkc", &a, &err));
    script[0] = 1;
    CHECKF(kalm__subset_scripts(&s, script, 1) == KALM_BAD_FILE && !strcmp(err.text, "unigram_nfkc: its charsmap is damaged"), "%s", err.text);
    kalm__subset_end(&s);
    tok_close(&k);
}

/* A tokenizer.model of merging in which a space is in pieces and no piece itself: it is a symbol alone, stays one when the vocabulary is
   cut, and " a" is read as before. */
static void test_space_without_piece(void)
{
    static const struct { const char *text; float score; unsigned char type; } pieces[] = {
        { "<unk>", 0, 2 }, { "a", -3, 1 }, { "\xe2\x96\x81\x61", -1, 1 }, { "b", -4, 1 }, { "\xc3\xa9", -5, 1 }
    };
    static const unsigned char rest[] = { 2 << 3 | 2, 2, 3 << 3, 2, 3 << 3 | 2, 4, 3 << 3, 0, 4 << 3, 0 };        /* BPE; texts as they are */
    unsigned char model[200];
    kalm_error err;
    size_t n = 0, i, size;
    uint32_t tokens = 0;
    tok k;
    for (i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        size = strlen(pieces[i].text);
        model[n] = 1 << 3 | 2, model[n + 1] = (unsigned char)(size + 9), model[n + 2] = 1 << 3 | 2, model[n + 3] = (unsigned char)size;
        memcpy(model + n + 4, pieces[i].text, size);
        n += 4 + size;
        model[n++] = 2 << 3 | 5;
        kalm__put_f32(model + n, pieces[i].score);
        model[n + 4] = 3 << 3, model[n + 5] = pieces[i].type;
        n += 6;
    }
    memcpy(model + n, rest, sizeof rest);
    if (!tok_import(&k, "space", model, n + sizeof rest)) return;
    CHECK(k.t.tokens == 5 && k.t.symbols == 6);
    CHECK(encode(&k.t, "b a", 3, 0, before) == 2 && before[0] == 3 && before[1] == 2);
    CHECKF(!cut(&k.t, "b a", 0, &tokens, &err) && tokens == 4, "%u tokens: %s", (unsigned)tokens, err.text);      /* all but U+00E9 */
    tok_close(&k);
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 150;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    know_scripts();
    test_by_hand();
    test_damage();
    test_space_without_piece();
    test_tokenizers(rounds, &state);
    return test_end();
}
