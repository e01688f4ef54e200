/* fuzz_model.c - hostile model files and documents: whatever the bytes, opening refuses with a sentence or gives a model
   that can be used without harm, and margins are numbers.

     fuzz_model [ROUNDS [SEED]]        mutate the bundled tiny model, made small; needs a sanitizer to see the most
     with -DKALM_FUZZER and -fsanitize=fuzzer: LLVMFuzzerTestOneInput

   Mutations keep the checksum of the header right, since that is the first thing a forger does. */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

/* Refuses more than a sane program needs, so that a file that asks for the moon is told no and not given it. */
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

static void fix_header(unsigned char *p, size_t size)
{
    uint32_t count;
    if (size < 64) return;
    count = kalm__u32(p + 12);
    if (count > 16 || size < 64 + 32 * (size_t)count) return;
    kalm__put_u64(p + 16, size);
    kalm__put_u64(p + 24, kalm__table_fingerprint(p + 64, count));
    memset(p + 32, 0, 8);
    kalm__put_u64(p + 32, kalm__hash(p, 64 + 32 * count));
}

/* Open, and if that works use everything once. Returns 1 when it opened. */
static int use(const unsigned char *data, size_t size)
{
    static const char *const words[2] = { "retouch <end_of_turn> photos \xff", "a picture editor" };
    kalm_config config;
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_error err;
    kalm_text texts[2];
    kalm_score scores[2];
    int32_t ids[64];
    size_t n = 0, m, i;
    char text[256];
    memset(&config, 0, sizeof config);
    config.allocator.alloc = small_alloc;
    config.allocator.release = small_release;
    config.threads = 1;
    config.max_doc_tokens = 32;
    config.max_query_tokens = 32;
    err.text[0] = 0;
    if (kalm_model_open_memory(data, size, &config, &model, &err)) {
        CHECKF(!model && err.text[0], "refused without a sentence");
        CHECK(live == 0);
        return 0;
    }
    for (i = 0; i < 2; i++) {
        texts[i].data = words[i];
        texts[i].size = KALM_NUL;
        if (kalm_tokenize(model, texts[i], i ? KALM_PARSE_CONTROL : 0, ids, 64, &n, &err) == KALM_OK)
            kalm_detokenize(model, ids, kalm__min(n, 64), text, sizeof text, &m, &err);
    }
    for (i = 0; i < 64; i++) {
        kalm_text t = kalm_token_bytes(model, (int32_t)i * 131 - 5);
        for (m = 0, n = 0; m < t.size; m++) n += (unsigned char)t.data[m];
    }
    if (kalm_context_new(model, &config, &ctx, &err) == KALM_OK) {
        kalm_ids short_ids;
        kalm_doc *doc = NULL;
        const int32_t some[3] = { 1, 2, 3 };
        if (kalm_rerank_texts(ctx, texts[0], texts, 2, NULL, scores, &err) == KALM_OK)
            for (i = 0; i < 2; i++)
                CHECKF(scores[i].margin == scores[i].margin && scores[i].score >= 0 && scores[i].score <= 1, "margin %g, score %g",
                       (double)scores[i].margin, (double)scores[i].score);
        short_ids.data = some;
        short_ids.count = 3;
        if (kalm_encode_ids(ctx, &short_ids, 1, NULL, &doc, &err) == KALM_OK)
            kalm_rerank_ids(ctx, short_ids, (const kalm_doc *const *)&doc, 1, NULL, scores, &err);
        kalm_doc_free(doc);
    } else {
        CHECKF(ctx == NULL && err.text[0], "refused without a sentence");
    }
    kalm_context_free(ctx);
    kalm_model_close(model);
    CHECK(live == 0);
    return 1;
}

#ifdef KALM_FUZZER
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    unsigned char *block = (unsigned char *)malloc(size + 64), *p = block + (64 - (uintptr_t)block % 64) % 64;
    memcpy(p, data, size);
    fix_header(p, size);
    use(p, size);
    free(block);
    return 0;
}
#else

/* Where a number matters: header, tables, the start of every section; else anywhere. */
static size_t pick(const unsigned char *p, size_t size, uint64_t *state)
{
    uint32_t sections = kalm__u32(p + 12), s = (uint32_t)(test_random(state) % sections);
    size_t at = (size_t)kalm__u64(p + 64 + 32 * s + 8), n = (size_t)kalm__u64(p + 64 + 32 * s + 16);
    switch (test_random(state) % 8) {
    case 0: return (size_t)(test_random(state) % (64 + 32 * sections));
    case 1: return (size_t)(test_random(state) % size);
    case 2: case 3: return at + (size_t)(test_random(state) % kalm__max(kalm__min(n, 4096), 1));
    default:
        /* SHAPE, STRINGS, TENSORS, TOKENIZER rather than WEIGHTS */
        s = (uint32_t)(test_random(state) % kalm__max(sections - 1, 1));
        at = (size_t)kalm__u64(p + 64 + 32 * s + 8);
        n = (size_t)kalm__u64(p + 64 + 32 * s + 16);
        return at + (size_t)(test_random(state) % kalm__max(n, 1));
    }
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 1500, round, opened = 0;
    uint64_t state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    size_t size = 0;
    unsigned char *original = test_read_file(TEST_BUILD "/tiny.kalm", &size), *block, *p;
    if (!CHECK(original != NULL)) return test_end();
    block = (unsigned char *)malloc(size + 64);
    p = block + (64 - (uintptr_t)block % 64) % 64;
    memcpy(p, original, size);
    CHECK(use(p, size));
    for (round = 0; round < rounds; round++) {
        static const uint32_t edge[] = { 0, 1, 2, 3, 15, 16, 63, 64, 127, 128, 255, 256, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff,
                                         0x80000000u, 0xfffffffeu, 0xffffffffu, 0x7f800000, 0x7fc00000, 0xff800000u, 1u << 24 };
        size_t cut = test_random(&state) % 16 ? size : (size_t)(test_random(&state) % size), touched[8], n, k;
        n = 1 + (size_t)(test_random(&state) % 3);
        for (k = 0; k < n; k++) {
            size_t at = kalm__min(pick(original, size, &state), size - 4);
            touched[k] = at;
            if (test_random(&state) % 2) p[at] = (unsigned char)test_random(&state);
            else kalm__put_u32(p + at / 4 * 4, edge[test_random(&state) % (sizeof edge / sizeof edge[0])]);
        }
        fix_header(p, cut);
        opened += (unsigned long)use(p, cut);
        for (k = 0; k < n; k++) memcpy(p + touched[k] / 4 * 4, original + touched[k] / 4 * 4, kalm__min(8, size - touched[k] / 4 * 4));
        memcpy(p, original, 64 + 32 * 16);
    }
    CHECKF(memcmp(p, original, size) == 0, "the test lost track of its changes");
    printf("model files: %lu damaged, %lu of them opened\n", rounds, opened);
    free(block);
    free(original);
    return test_end();
}
#endif
