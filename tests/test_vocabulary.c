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
        uint32_t of = kalm__script_of(id);
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
        "unigram_noescape", "word_nfkc", "word_plain", "char_nfkc", "char_plain", "bpe_nfkc_suffix"
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

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 150;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    test_tokenizers(rounds, &state);
    return test_end();
}
