/* fuzz_tokenizer.c - hostile bytes wherever the tokenizer reads: blobs, tokenizer.json, tokenizer.model, JSON, and texts.
   Whatever comes, a refusal with a sentence or ids that are numbers; no access outside the buffers (run it under
   AddressSanitizer), no endless loop, no memory kept.

     fuzz_tokenizer [ROUNDS [SEED]]
     with -DKALM_FUZZER and -fsanitize=fuzzer: LLVMFuzzerTestOneInput */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../tokenizer/import.h"
#include "test.h"

static size_t live;
static void *small_alloc(void *user, size_t size)
{
    (void)user;
    if (size > (size_t)1 << 28 || live + size > (size_t)1 << 29) return NULL;
    live += size;
    return malloc(size);
}
static void small_release(void *user, void *p, size_t size)
{
    (void)user;
    live -= size;
    free(p);
}

/* Open a blob and use it on a text; the text has exactly `size` bytes. */
static int use_blob(const unsigned char *blob, size_t blob_size, const char *text, size_t size)
{
    kalm__tokenizer t;
    kalm_allocator a;
    kalm_error err;
    kalm__piece p[3];
    int32_t ids[256];
    char back[512];
    size_t n = 0, i, bytes;
    kalm_result r;
    a.alloc = small_alloc, a.release = small_release, a.user = NULL;
    err.text[0] = 0;
    r = kalm__tokenizer_open(&t, blob, blob_size, &err);
    if (r) return !CHECK(err.text[0] != 0);
    for (i = 0; i < 3; i++) {
        p[i].text.data = text + size * i / 3;
        p[i].text.size = size * (i + 1) / 3 - size * i / 3;
        p[i].trusted = i == 1;
    }
    r = kalm__tokenize_pieces(&t, &a, NULL, p, 3, size % 2 ? KALM_PARSE_CONTROL : 0, ids, 256, &n, &err);
    if (r) CHECK(err.text[0] != 0);
    else {
        n = kalm__min(n, 256);
        for (i = 0; i < n; i++) CHECKF(ids[i] >= 0 && (uint32_t)ids[i] < t.tokens, "id %d", (int)ids[i]);
        r = kalm__detokenize(&t, ids, n, back, sizeof back, &bytes, &err);
        for (i = 0; i < n; i++) (void)kalm__token_bytes(&t, ids[i]);
    }
    for (i = 0; i < 64 && size; i++) ids[i] = (int32_t)((unsigned char)text[i % size] * 2654435761u >> (i % 20));
    (void)kalm__detokenize(&t, ids, size ? 64 : 0, back, 100, &bytes, &err);
    CHECK(live == 0);
    return 1;
}

static int use_file(const char *data, size_t size, const char *text, size_t text_size)
{
    kalm_allocator a;
    kalm_error err;
    unsigned char *blob = NULL;
    size_t blob_size = 0;
    kalm_result r;
    a.alloc = small_alloc, a.release = small_release, a.user = NULL;
    err.text[0] = 0;
    r = kalm__import_tokenizer("fuzz", data, size, &a, &blob, &blob_size, &err);
    if (r) {
        CHECK(err.text[0] != 0 && live == 0);
        return 0;
    }
    live -= blob_size;                 /* ours for a moment */
    CHECK(use_blob(blob, blob_size, text, text_size));
    live += blob_size;
    kalm__release(&a, blob, blob_size);
    return CHECK(live == 0);
}

#ifdef KALM_FUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "the <b>a</b> \xe2\x96\x81  x\xff\n\n";
    if (size > 8 && !memcmp(data, "KALMTOK", 7)) (void)use_blob(data, size, text, sizeof text - 1);
    else (void)use_file((const char *)data, size, text, sizeof text - 1);
    return 0;
}
#else

/* Small files that use every rule; the blobs made of them and those of examples/tiny are mutated. */
static const char toy_json[] =
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 3, \"content\": \"<b>\", \"special\": false}, {\"id\": 4, \"content\": "
    "\"<eot>\", \"special\": true}], \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": "
    "\"\xe2\x96\x81\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xe2\x96\x81\"}]}, \"decoder\": {\"type\": "
    "\"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, "
    "\"stop\": 0}]}, \"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"byte_fallback\": true, \"vocab\": {\"<unk>\": 0, \"\xe2\x96\x81\": 1, "
    "\"a\": 2, \"<b>\": 3, \"<eot>\": 4, \"b\": 5, \"ab\": 6, \"\xe2\x96\x81\xe2\x96\x81\": 7, \"\\u0061ba\": 8, \"<0x41>\": 9, \"\xc3\xa9\": 10}, "
    "\"merges\": [[\"\xe2\x96\x81\", \"\xe2\x96\x81\"], \"ab a\", [\"a\", \"b\"]]}}";

static const char unigram_json[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}, {\"id\": 7, \"content\": \"<mask>\", \"lstrip\": true, \"rstrip\": "
    "true}], \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Strip\", \"strip_right\": true}, {\"type\": \"Replace\", \"pattern\": "
    "{\"Regex\": \" {2,}\"}, \"content\": \" \"}]}, \"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"\xe2\x96\x81\", \"prepend_scheme\": "
    "\"always\"}, \"decoder\": {\"type\": \"Metaspace\"}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": [[\"<unk>\", 0], [\"\xe2\x96\x81\", "
    "-3], [\"a\", -2.5], [\"b\", -2.5], [\"\xe2\x96\x81" "a\", -4], [\"ab\", -3e0], [\"the\", -1]]}}";

enum { SOURCES = 7 };

static char random_text[4096];
static size_t make_text(uint64_t *state)
{
    static const char *const bits[] = { "a", "b", "ab", " ", "\xe2\x96\x81", "<b>", "<eot>", "<end_of_turn>", "the", "\xc3", "\xff", "\xf0\x9f\x98\x80",
                                        "\n", "  ", "\xe2\x96", "x", "ing", "\xef\xbc\xa1", "A" };
    size_t n = 0, pieces = (size_t)(test_random(state) % 60);
    while (pieces--) {
        const char *bit = bits[test_random(state) % (sizeof bits / sizeof *bits)];
        memcpy(random_text + n, bit, strlen(bit));
        n += strlen(bit);
    }
    return n;
}

static void mutate(unsigned char *p, size_t size, unsigned most, uint64_t *state)
{
    static const uint32_t edge[] = { 0, 1, 2, 63, 64, 255, 256, 0x7fff, 0xffff, 0xfffff, 0x100000, 0x7fffffff, 0x80000000u, 0xfffffffeu, 0xffffffffu };
    unsigned times = 1 + (unsigned)(test_random(state) % most);
    while (times-- && size > 4) {
        size_t at = (size_t)(test_random(state) % (size - 4));
        switch (most > 2 ? test_random(state) % 4 : test_random(state) % 2) {
        case 0: p[at] = (unsigned char)test_random(state); break;
        case 1: p[at] = (unsigned char)(p[at] ^ 1u << (test_random(state) % 8)); break;
        case 2: kalm__put_u32(p + at / 4 * 4, edge[test_random(state) % (sizeof edge / sizeof *edge)]); break;
        default: memmove(p + at, p + (size_t)(test_random(state) % (size - 4)), 4);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 3000, round, blobs = 0, files = 0;
    uint64_t state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    static const char *const paths[SOURCES] = {
        NULL, "examples/tiny/tokenizer.model", "examples/tiny/tokenizer.json", NULL, "tests/spm/unigram_rules.model",
        "tests/spm/word_plain.model", "tests/spm/unigram_plain.model"
    };
    unsigned char *source[SOURCES], *blob[SOURCES];
    size_t size[SOURCES], blob_size[SOURCES], i, base;
    kalm_allocator a;
    kalm_error err;
    a.alloc = small_alloc, a.release = small_release, a.user = NULL;
    source[0] = (unsigned char *)malloc(sizeof toy_json);
    memcpy(source[0], toy_json, size[0] = sizeof toy_json - 1);
    source[3] = (unsigned char *)malloc(sizeof unigram_json);
    memcpy(source[3], unigram_json, size[3] = sizeof unigram_json - 1);
    for (i = 0; i < SOURCES; i++)
        if (paths[i]) source[i] = test_read_file(paths[i], &size[i]);
    for (i = 0; i < SOURCES; i++) {
        if (!CHECK(source[i] != NULL)) return test_end();
        if (!CHECKF(!kalm__import_tokenizer("fuzz", source[i], size[i], &a, &blob[i], &blob_size[i], &err), "%s", err.text)) return test_end();
    }
    base = live;
    live = 0;
    for (round = 0; round < rounds; round++) {
        size_t which = round % 8 == 7 ? 1 + (size_t)(test_random(&state) % 2) : 0, cut, n = make_text(&state);
        char *text = (char *)malloc(n + 1);
        unsigned char *copy;
        memcpy(text, random_text, n);
        text[n] = 0;
        /* a blob: its header, or anything in it; all of a small one, its borders too */
        which = round % 4 == 3 ? which : (size_t)(test_random(&state) % SOURCES);
        cut = test_random(&state) % 8 ? blob_size[which] : (size_t)(test_random(&state) % blob_size[which]);
        copy = (unsigned char *)malloc(cut + 1);
        memcpy(copy, blob[which], cut);
        if (test_random(&state) % 3 == 0) mutate(copy, kalm__min(cut, 384), 8, &state);
        else mutate(copy, cut, 1600, &state);
        if (cut > 384 && test_random(&state) % 8) {        /* past the door: a header that is right */
            memcpy(copy, blob[which], 384);
            kalm__put_u32(copy + 24, kalm__u32(blob[which] + 24) ^ (uint32_t)(test_random(&state) % 2048));
            if (copy[7] == '2' && test_random(&state) % 4 == 0)
                kalm__put_u32(copy + 24, kalm__u32(copy + 24) ^ (uint32_t)(test_random(&state) % 32) << 15);
        }
        blobs += (unsigned long)use_blob(copy, cut, text, n);
        free(copy);
        /* a file */
        which = round % 16 == 0 ? 2 : round % 16 == 8 ? 1 : round % 3 ? 0 : 3 + (size_t)(test_random(&state) % (SOURCES - 3));
        cut = test_random(&state) % 8 ? size[which] : (size_t)(test_random(&state) % size[which]);
        copy = (unsigned char *)malloc(cut + 1);
        memcpy(copy, source[which], cut);
        mutate(copy, cut, which && which != 3 ? 8 : 2, &state);
        files += (unsigned long)use_file((const char *)copy, cut, text, n);
        free(copy);
        free(text);
    }
    live = base;
    for (i = 0; i < SOURCES; i++) {
        kalm__release(&a, blob[i], blob_size[i]);
        free(source[i]);
    }
    CHECK(live == 0);
    printf("%lu rounds: %lu of the blobs opened, %lu of the files were read\n", rounds, blobs, files);
    CHECKF(blobs > rounds / 4 && files > rounds / 50, "too few got past the door to test anything");
    return test_end();
}
#endif
