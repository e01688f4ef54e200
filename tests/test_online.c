/* test_online.c - the online path: kept decoder state changes no bit, whatever is kept, dropped or cut; the best top_k;
   scores as they come; cascades. On the bundled tiny model, with the best kernel set. */
#define KALM_RERANK_IMPLEMENTATION
#include "hooks.h"
#include "kalm_rerank.h"
#include "test.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

enum { DOCS = 18 };
static kalm_model *model;
static char texts[DOCS][600];
static kalm_text text[DOCS];
static kalm_doc *docs[DOCS];
static const kalm_doc *const *const_docs;

static kalm_text str(const char *s)
{
    kalm_text t;
    t.data = s;
    t.size = KALM_NUL;
    return t;
}

static void make_texts(void)
{
    static const char *const words[] = { "editor", "photos", "mail", "reader", "library", "server", "database", "small", "fast",
                                         "picture", "network", "game", "music", "player", "text", "terminal", "tool", "files" };
    unsigned seed = 12345;
    int i;
    for (i = 0; i < DOCS; i++) {
        int n = 1 + i * 4, k;
        texts[i][0] = 0;
        for (k = 0; k < n && strlen(texts[i]) < 560; k++) {
            seed = seed * 1664525u + 1013904223u;
            strcat(texts[i], words[(seed >> 16) % (sizeof words / sizeof *words)]);
            strcat(texts[i], k % 9 == 8 ? ". " : " ");
        }
        text[i] = str(texts[i]);
    }
}

static kalm_context *context_of(const kalm_config *config)
{
    kalm_context *ctx = NULL;
    kalm_error err;
    CHECKF(kalm_context_new(model, config, &ctx, &err) == KALM_OK, "%s", err.text);
    if (!ctx) exit(test_end());
    return ctx;
}

/* With the keys and values of states in `bits` bits; 0: exact. */
static kalm_context *rounding(uint32_t bits, unsigned threads, size_t cache, const char *kernels)
{
    kalm_config config;
    memset(&config, 0, sizeof config);
    config.threads = threads;
    config.cache_bytes = cache;
    config.kernels = kernels;
    config.state_bits = bits;
    return context_of(&config);
}

static kalm_context *context(unsigned threads, size_t cache, const char *kernels) { return rounding(0, threads, cache, kernels); }

static void rank(kalm_context *ctx, const char *query, const char *instruction, size_t n, kalm_score *scores)
{
    kalm_params p;
    kalm_error err;
    memset(&p, 0, sizeof p);
    if (instruction) p.instruction = str(instruction);
    CHECKF(kalm_rerank(ctx, str(query), const_docs, n, &p, scores, &err) == KALM_OK, "%s", err.text);
}

static void same(const char *what, const kalm_score *a, const kalm_score *b, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        CHECKF(!memcmp(&a[i], &b[i], sizeof *a), "%s: document %u: %.9g and %.9g", what, (unsigned)i, (double)a[i].margin,
               (double)b[i].margin);
}

/* Queries of several lengths and two instructions, in an order that comes back to each. */
static const char *const queries[] = { "program to retouch photos", "mail", "a small and fast server for a database on the network",
                                       "program to retouch photos", "  spaces  ", "\xe7\x94\xbb\xe5\x83\x8f", "" };
static const char *const instructions[] = { NULL, "Given a few keywords, find the software package they describe." };

static void cache_is_exact(const char *kernels)
{
    static const size_t sizes[] = { (size_t)1 << 30, 1200000, 300000, 1000 };
    enum { ASKED = TSAN ? 3 : 7 };     /* ThreadSanitizer: a few queries, the contexts of two threads */
    kalm_context *plain = context(1, 0, kernels);
    kalm_score want[2][ASKED][DOCS], got[DOCS];
    size_t q, s, k;
    for (k = 0; k < 2; k++)
        for (q = 0; q < ASKED; q++) rank(plain, queries[q], instructions[k], DOCS, want[k][q]);
    kalm_context_free(plain);
    for (s = TSAN; s < sizeof sizes / sizeof *sizes; s += 1 + TSAN) {
        kalm_context *ctx = context(s % 2 ? 2 : 1, sizes[s], kernels);
        kalm_cache_info info;
        int round;
        for (round = 0; round < 2 - (int)(s > 1); round++)
            for (q = 0; q < ASKED; q++)
                for (k = 0; k < 2; k++) {
                    rank(ctx, queries[q], instructions[k], DOCS, got);
                    same("cached", want[k][q], got, DOCS);
                }
        kalm_context_get_cache(ctx, &info);
        CHECK(info.bytes <= info.limit && info.limit == sizes[s]);
        if (s == 0) {
            CHECKF(info.misses == 2 * DOCS && info.dropped == 0 && info.documents == 2 * DOCS, "%u misses, %u dropped, %u held",
                   (unsigned)info.misses, (unsigned)info.dropped, (unsigned)info.documents);
            CHECKF(info.hits == (14 - 1) * 2 * DOCS, "%u hits", (unsigned)info.hits);
        }
        if (s == 1) CHECK(info.dropped > 0 && info.documents > 0);
        if (s == 3) CHECK(info.documents == 0 && info.misses == 0);
        if (s == 0) {                              /* one byte less than the largest state takes, and it is not kept */
            kalm_context *narrow;
            kalm_score score;
            kalm_error err;
            size_t need;
            kalm_context_clear_cache(ctx);
            CHECK(kalm_rerank(ctx, str(queries[0]), const_docs + DOCS - 1, 1, NULL, &score, &err) == KALM_OK);
            kalm_context_get_cache(ctx, &info);
            need = info.bytes;
            narrow = context(1, need - 1, kernels);
            CHECK(kalm_rerank(narrow, str(queries[0]), const_docs + DOCS - 1, 1, NULL, &score, &err) == KALM_OK);
            kalm_context_get_cache(narrow, &info);
            CHECK(need > 0 && info.documents == 0 && info.bytes == 0);
            kalm_context_free(narrow);
        }
        kalm_context_clear_cache(ctx);
        kalm_context_get_cache(ctx, &info);
        CHECK(info.bytes == 0 && info.documents == 0);
        rank(ctx, queries[0], NULL, DOCS, got);
        same("after clearing", want[0][0], got, DOCS);
        kalm_context_free(ctx);
    }
}

static int stop_at, calls;
static int stop(void *user, size_t done, size_t total)
{
    (void)user;
    CHECK(done <= total);
    return ++calls != stop_at ? 0 : calls % 2 ? -1 : 1;    /* whatever is not zero stops */
}

/* A call stopped anywhere, in the middle of a layer too, leaves nothing half computed behind. */
static void stopping(void)
{
    kalm_context *ctx = context(1, (size_t)1 << 28, NULL);
    kalm_score want[DOCS], got[DOCS];
    kalm_params p;
    kalm_error err;
    kalm_result r;
    memset(&p, 0, sizeof p);
    rank(ctx, queries[0], NULL, DOCS, want);
    p.progress = stop;
    for (stop_at = 1;; stop_at += 1 + stop_at / 16) {
        kalm_context_clear_cache(ctx);
        calls = 0;
        r = kalm_rerank(ctx, str(queries[0]), const_docs, DOCS, &p, got, &err);
        if (r == KALM_OK) break;
        CHECK(r == KALM_CANCELLED && got[0].margin == 0.0f && got[0].score == 0.0f);
        rank(ctx, queries[0], NULL, DOCS, got);
        same("after a stop", want, got, DOCS);
    }
    CHECKF(stop_at > 100, "only %d places to stop at", stop_at);     /* 6 layers, with several products each */
    same("never stopped", want, got, DOCS);
    for (stop_at = 1;; stop_at++) {
        kalm_doc *doc = NULL;
        size_t size, wanted;
        const void *bytes;
        calls = 0;
        r = kalm_encode(ctx, &text[3], 1, &p, &doc, &err);
        if (r == KALM_OK) {
            bytes = kalm_doc_bytes(doc, &size);
            CHECK(memcmp(kalm_doc_bytes(docs[3], &wanted), bytes, size) == 0 && size == wanted);
            kalm_doc_free(doc);
            break;
        }
        CHECK(r == KALM_CANCELLED && !doc && calls == stop_at);
    }
    CHECKF(stop_at > 30, "only %d places to stop at", stop_at);
    kalm_context_free(ctx);
}

/* The allocator refuses now and then while states are made: the call goes on without them. */
static unsigned refuse;
static void *sometimes(void *user, size_t size)
{
    (void)user;
    refuse = refuse * 1664525u + 1013904223u;
    return size > 20000 && size < 4000000 && refuse >> 30 == 0 ? NULL : malloc(size);
}
static void give_back(void *user, void *p, size_t size)
{
    (void)user, (void)size;
    free(p);
}
static void short_of_memory(void)
{
    kalm_context *plain = context(1, 0, NULL), *ctx = NULL;
    kalm_config config;
    kalm_score want[DOCS], got[DOCS];
    kalm_error err;
    int i;
    memset(&config, 0, sizeof config);
    config.allocator.alloc = sometimes;
    config.allocator.release = give_back;
    config.cache_bytes = 2000000;
    config.threads = 1;
    for (i = 0; i < 20 && !ctx; i++) (void)kalm_context_new(model, &config, &ctx, &err);
    CHECK(ctx != NULL);
    for (i = 0; ctx && i < 5; i++) {
        rank(plain, queries[i], NULL, DOCS, want);
        rank(ctx, queries[i], NULL, DOCS, got);
        same("short of memory", want, got, DOCS);
    }
    kalm_context_free(ctx);
    kalm_context_free(plain);
}

/* Token ids with a prefix that the caller names. */
static void ids_with_prefix(void)
{
    kalm_context *plain = context(1, 0, NULL), *ctx = context(1, (size_t)1 << 26, NULL);
    int32_t ids[90];
    kalm_ids prompt;
    kalm_params p;
    kalm_score want[DOCS], got[DOCS];
    kalm_cache_info info;
    kalm_error err;
    unsigned i, times = 0;
    memset(&p, 0, sizeof p);
    for (i = 0; i < 90; i++) ids[i] = (int32_t)(20 + i * 37 % 5000);
    prompt.data = ids;
    for (i = 1; i <= 90; i += 11) {
        prompt.count = 90;
        p.prefix_tokens = i;
        CHECK(kalm_rerank_ids(plain, prompt, const_docs, 9, NULL, want, &err) == KALM_OK);
        CHECK(kalm_rerank_ids(ctx, prompt, const_docs, 9, &p, got, &err) == KALM_OK);
        same("prefix", want, got, 9);
        CHECK(kalm_rerank_ids(ctx, prompt, const_docs, 9, &p, got, &err) == KALM_OK);
        same("prefix again", want, got, 9);
        kalm_context_get_cache(ctx, &info);
        times++;
        CHECKF(info.misses == 9 * times && info.hits == 9 * times, "%u misses, %u hits", (unsigned)info.misses, (unsigned)info.hits);
    }
    kalm_context_free(ctx);
    kalm_context_free(plain);
}

/* State stored and loaded: a fresh context starts warm, with the same bits; strangers' bytes are refused. */
static void stored_state(void)
{
    kalm_context *ctx = context(1, (size_t)1 << 26, NULL), *fresh = context(1, (size_t)1 << 26, NULL);
    kalm_score want[DOCS], got[DOCS];
    kalm_params other;
    kalm_cache_info info;
    kalm_error err;
    size_t size = 0, i, again = 0;
    unsigned char *bytes;
    memset(&other, 0, sizeof other);
    other.instruction = str(instructions[1]);
    rank(ctx, queries[0], NULL, DOCS, want);
    for (i = 0; i < DOCS; i++) {
        CHECKF(kalm_state_save(ctx, docs[i], NULL, NULL, 0, &size, &err) == KALM_OK && size > 64, "%s", err.text);
        bytes = (unsigned char *)malloc(size);
        memset(bytes, 0xa5, size);                 /* too little room: it says how much it takes, and writes nothing */
        CHECK(kalm_state_save(ctx, docs[i], NULL, bytes, size - 1, &again, &err) == KALM_OK && again == size);
        CHECK(bytes[0] == 0xa5 && !memcmp(bytes, bytes + 1, size - 1));
        CHECK(kalm_state_save(ctx, docs[i], NULL, bytes, size, &again, &err) == KALM_OK && again == size);
        if (i == 3) {
            size_t k;
            CHECK(kalm_state_load(fresh, docs[i], NULL, bytes, size - 1, &err) == KALM_BAD_FILE);
            CHECK(kalm_state_load(fresh, docs[i], NULL, bytes, 10, &err) == KALM_BAD_FILE);
            CHECK(kalm_state_load(fresh, docs[i + 1], NULL, bytes, size, &err) == KALM_MISMATCH);
            CHECK(kalm_state_load(fresh, docs[i], &other, bytes, size, &err) == KALM_MISMATCH);
            for (k = 0; k < size; k += k < 64 ? 1 : 9973) {
                bytes[k] ^= 1;
                CHECKF(kalm_state_load(fresh, docs[i], NULL, bytes, size, &err) != KALM_OK, "byte %u", (unsigned)k);
                bytes[k] ^= 1;
            }
        }
        CHECKF(kalm_state_load(fresh, docs[i], NULL, bytes, size, &err) == KALM_OK, "%s", err.text);
        free(bytes);
    }
    rank(fresh, queries[0], NULL, DOCS, got);
    same("stored state", want, got, DOCS);
    kalm_context_get_cache(fresh, &info);
    CHECKF(info.misses == 0 && info.hits == DOCS, "%u misses, %u hits", (unsigned)info.misses, (unsigned)info.hits);
    kalm_context_free(fresh);
    fresh = context(1, 0, NULL);
    CHECK(kalm_state_save(fresh, docs[0], NULL, NULL, 0, &size, &err) == KALM_NO_MEMORY && size == 0);
    kalm_context_free(fresh);
    kalm_context_free(ctx);
}

/* ---- documents that are not what their checksum says ---- */

/* The number that times odd `a` is 1 (modulo 2^64): each of Newton's steps doubles the bits that are right. */
static uint64_t inverse(uint64_t a)
{
    uint64_t x = a;
    int i;
    for (i = 0; i < 6; i++) x *= 2 - a * x;
    return x;
}

/* kalm__hash_mix backwards: the word that takes a lane to `after`. Works with lane and word exchanged as well. */
static uint64_t unmix(uint64_t lane, uint64_t after)
{
    return ((after ^ after >> 29 ^ after >> 58) * inverse(KALM__HASH_A)) ^ lane;
}

/* A document of `rows` rows, one a token, with any numbers in them and with the checksum that the caller wants: the checksum
   has an inverse, so the last eight bytes can be computed from it. The caller frees the bytes. */
static unsigned char *forged(const kalm_doc *like, uint32_t rows, unsigned salt, uint64_t checksum, size_t *size)
{
    size_t n = KALM__DOC_HEADER + (size_t)rows * kalm__doc_row_bytes(like->info.width, like->info.bits), i, last;
    unsigned char *p = (unsigned char *)calloc(n, 1), head[KALM__DOC_HEADER];
    kalm__hasher h;
    uint64_t sum;
    if (!CHECK(p != NULL && n % 64 == 0)) exit(test_end());
    memcpy(p, like->bytes, 40);
    kalm__put_u32(p + 16, rows);
    kalm__put_u32(p + 20, rows);
    kalm__put_u32(p + 24, 1);
    kalm__put_u32(p + 28, rows);
    memcpy(head, p, sizeof head);
    last = n - 64;
again:
    for (i = KALM__DOC_HEADER; i < n - 8; i += 2) p[i] = (unsigned char)(i * 7 + salt), p[i + 1] = (unsigned char)(0x20 + i % 29);
    kalm__hash_begin(&h);
    kalm__hash_add(&h, head, sizeof head);
    if (last > sizeof head) kalm__hash_add(&h, p + sizeof head, last - sizeof head);
    sum = n * (uint64_t)KALM__HASH_B;
    for (i = 0; i < 7; i++) sum = kalm__hash_mix(sum, kalm__hash_mix(h.lane[i], kalm__u64(p + last + 8 * i))) * (uint64_t)KALM__HASH_B;
    /* what kalm__hash_end makes of `sum` and the last lane is to be the checksum */
    kalm__put_u64(p + n - 8, unmix(h.lane[7], unmix(sum, (checksum ^ checksum >> 32) * inverse(KALM__HASH_B))));
    if (!kalm__all_finite(p + n - 8, 4, 1)) {        /* one in nine is no document, for a number that is not finite */
        salt += 16;
        goto again;
    }
    kalm__put_u64(p + 40, checksum);
    CHECK(kalm__doc_checksum(p, n) == checksum);
    *size = n;
    return p;
}

static kalm_doc *opened(const unsigned char *bytes, size_t size, uint32_t flags)
{
    kalm_doc *doc = NULL;
    kalm_error err;
    if (!CHECKF(kalm_doc_open(model, bytes, size, flags, &doc, &err) == KALM_OK, "%s", err.text)) exit(test_end());
    return doc;
}

static void rank_these(kalm_context *ctx, const kalm_doc *const *these, size_t n, kalm_score *scores)
{
    kalm_error err;
    CHECKF(kalm_rerank(ctx, str(queries[0]), these, n, NULL, scores, &err) == KALM_OK, "%s", err.text);
}

/* Documents with one checksum: a real one and forged ones with as many rows, many more, and fewer. Each has its own state:
   looked up one after the other, all in one call, and saved. */
static void forged_documents(void)
{
    enum { FORGED = 7 };
    static const uint32_t rows[FORGED] = { 0, TSAN ? 90 : 900, 1, TSAN ? 90 : 900, 64, 33, 5 };
    kalm_context *plain = context(1, 0, NULL), *ctx = context(1, (size_t)1 << 27, NULL);
    kalm_context *fresh = context(2, (size_t)1 << 27, NULL), *tight = context(1, 3000000, NULL);
    const kalm_doc *real = docs[6], *all[FORGED + 1];
    kalm_doc *doc[FORGED];
    kalm_score want[FORGED + 1], got[FORGED + 1];
    kalm_cache_info info;
    kalm_error err;
    uint64_t checksum = kalm__u64(real->bytes + 40);
    size_t size = 0, other = 0, i, round;
    all[0] = real;
    for (i = 0; i < FORGED; i++) {
        unsigned char *bytes = forged(real, rows[i] ? rows[i] : real->info.rows, (unsigned)i, checksum, &size);
        all[i + 1] = doc[i] = opened(bytes, size, 0);
        free(bytes);
    }
    rank_these(plain, all, FORGED + 1, want);
    for (i = 1; i <= FORGED; i++) CHECK(want[i].margin < want[0].margin || want[i].margin > want[0].margin);
    for (round = 0; round < 3; round++)
        for (i = 0; i <= FORGED; i++) {
            rank_these(ctx, &all[i], 1, &got[i]);
            got[i].index = (uint32_t)i;
            same("a forged document, alone", &want[i], &got[i], 1);
        }
    kalm_context_get_cache(ctx, &info);
    CHECKF(info.documents == 4, "%u states with one checksum", (unsigned)info.documents);
    kalm_context_clear_cache(ctx);
    for (round = 0; round < 2; round++) {
        rank_these(ctx, all, FORGED + 1, got);
        same("forged documents, together", want, got, FORGED + 1);
        rank_these(fresh, all, FORGED + 1, got);
        same("forged documents, two threads", want, got, FORGED + 1);
        rank_these(tight, all, FORGED + 1, got);
        same("forged documents, little room", want, got, FORGED + 1);
    }
    kalm_context_clear_cache(ctx);
    kalm_context_clear_cache(fresh);
    rank_these(ctx, all, 1, got);                                  /* the state of the real one is there */
    for (i = 0; i < 4; i++) {
        unsigned char *bytes;
        CHECK(kalm_state_save(ctx, all[i], NULL, NULL, 0, &size, &err) == KALM_OK);
        bytes = (unsigned char *)malloc(size);
        CHECKF(kalm_state_save(ctx, all[i], NULL, bytes, size, &other, &err) == KALM_OK && other == size, "%s", err.text);
        CHECK(size == KALM__STATE_HEADER + kalm__u64(bytes + 40));
        CHECK(kalm_state_load(fresh, all[i], NULL, bytes, size, &err) == KALM_OK);
        CHECK(kalm_state_load(fresh, all[i == 3 ? 4 : 3], NULL, bytes, size, &err) == KALM_MISMATCH);    /* of other rows */
        rank_these(fresh, &all[i], 1, &got[i]);
        got[i].index = (uint32_t)i;
        same("state of a forged document", &want[i], &got[i], 1);
        free(bytes);
    }
    kalm_context_get_cache(fresh, &info);
    for (i = 0; i < FORGED; i++) kalm_doc_free(doc[i]);
    kalm_context_free(plain);
    kalm_context_free(ctx);
    kalm_context_free(fresh);
    kalm_context_free(tight);
}

/* The same document several times in one call: one state, computed once, and no two threads in one place. */
static void repeated_documents(void)
{
    static const size_t room[] = { (size_t)1 << 26, 400000, 100000 };
    kalm_context *plain = context(1, 0, NULL);
    const kalm_doc *many[12];
    kalm_score want[12], got[12];
    kalm_cache_info info;
    size_t i, s;
    for (i = 0; i < 12; i++) many[i] = docs[i % 3];
    rank_these(plain, many, 12, want);
    for (s = 0; s < 3; s++) {
        kalm_context *ctx = context(2, room[s], NULL);
        for (i = 0; i < 3; i++) {
            rank_these(ctx, many, 12, got);
            same("the same documents again and again", want, got, 12);
        }
        kalm_context_get_cache(ctx, &info);
        if (s == 0) CHECKF(info.documents == 3 && info.misses == 3 && info.hits == 33, "%u misses", (unsigned)info.misses);
        kalm_context_free(ctx);
    }
    kalm_context_free(plain);
}

/* The bytes of a borrowed document must not change. If they do all the same, nothing is found that is no longer true, and
   what was checked when the document was opened goes on to hold. */
static void borrowed_bytes_change(void)
{
    kalm_context *plain = context(1, 0, NULL), *ctx = context(1, (size_t)1 << 26, NULL);
    size_t size = 0, k;
    const unsigned char *from = (const unsigned char *)kalm_doc_bytes(docs[9], &size);
    unsigned char *bytes = (unsigned char *)malloc(size);
    kalm_doc *doc;
    kalm_score want, got;
    memcpy(bytes, from, size);
    doc = opened(bytes, size, KALM_BORROW);
    for (k = 0; k < size; k += k < KALM__DOC_HEADER ? 1 : size - KALM__DOC_HEADER - 3) {
        bytes[k] ^= k < KALM__DOC_HEADER ? 0x80 : 1;
        rank_these(plain, (const kalm_doc *const *)&doc, 1, &want);
        rank_these(ctx, (const kalm_doc *const *)&doc, 1, &got);
        same("borrowed bytes that change", &want, &got, 1);
    }
    kalm_doc_free(doc);
    free(bytes);
    kalm_context_free(ctx);
    kalm_context_free(plain);
}

/* A document is freed and another one of the same size takes its place, while the cache knows the first. */
static uint64_t place[1 << 12];
static int placed;
static void *in_place(void *user, size_t size)
{
    (void)user;
    if (placed || size > sizeof place) return malloc(size);
    placed = 1;
    return place;
}
static void out_of_place(void *user, void *p, size_t size)
{
    (void)user, (void)size;
    if (p == (void *)place) placed = 0;
    else free(p);
}
static void reused_address(void)
{
    static const char *const pair[2] = { "a tool for photos", "a game for photos" };
    kalm_context *plain = context(1, 0, NULL), *ctx = NULL;
    kalm_config config;
    kalm_params p;
    kalm_score want, got, before;
    kalm_error err;
    const void *at = NULL;
    int i;
    memset(&config, 0, sizeof config);
    memset(&p, 0, sizeof p);
    memset(&before, 0, sizeof before);
    config.allocator.alloc = in_place;
    config.allocator.release = out_of_place;
    config.cache_bytes = (size_t)1 << 26;
    config.threads = 1;
    p.bits = 8;
    CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_OK);
    for (i = 0; ctx && i < 2; i++) {
        kalm_text t = str(pair[i]);
        kalm_doc *doc = NULL;
        CHECK(kalm_encode(ctx, &t, 1, &p, &doc, &err) == KALM_OK);
        if (i) CHECK((const void *)doc == at);
        at = doc;
        rank_these(plain, (const kalm_doc *const *)&doc, 1, &want);
        rank_these(ctx, (const kalm_doc *const *)&doc, 1, &got);
        same("another document at the same address", &want, &got, 1);
        CHECK(got.margin < before.margin || got.margin > before.margin);
        before = got;
        kalm_doc_free(doc);
    }
    kalm_context_free(ctx);
    kalm_context_free(plain);
}

/* ---- longer prompts and larger calls ---- */

/* Prompts around a chunk's 256 rows, of which layer 0's queries are no longer kept for all documents; heads of 256, as
   published. The same bits alone, in a batch, and from kept state of any length. */
static void long_prompts(const char *weights)
{
    enum { SOME = 5 };
    static const size_t lengths[] = { 63, 64, 240, 255, 256, 257, 300, 512 };
    static int32_t ids[SOME + 1][600];
    kalm_model *wide = NULL;
    kalm_context *ctx = NULL, *kept = NULL, *rounded[2];
    kalm_config config;
    kalm_params p;
    kalm_ids given[SOME + 1];
    kalm_doc *doc[SOME];
    kalm_score alone[SOME], together[SOME], warm[SOME];
    kalm_error err;
    uint64_t state = 8;
    char command[500];
    size_t i, k, n;
    snprintf(command, sizeof command, TEST_BUILD "/kalm-random-checkpoint hidden=64 mlp=96 layers=2 heads=4 kv_heads=1 head_dim=256 "
             "window=64 full_every=2 vocabulary=1000 --quiet " TEST_BUILD "/tmp/online && " TEST_BUILD "/kalm-quantize " TEST_BUILD
             "/tmp/online " TEST_BUILD "/tmp/online.kalm --weights %s --tokenizer none --yes-id 10 --no-id 11 --quiet", weights);
    if (!CHECKF(system(command) == 0, "%s", command)) return;
    if (!CHECKF(kalm_model_open(TEST_BUILD "/tmp/online.kalm", NULL, &wide, &err) == KALM_OK, "%s", err.text)) return;
    memset(&config, 0, sizeof config);
    memset(&p, 0, sizeof p);
    config.threads = 1;
    CHECK(kalm_context_new(wide, &config, &ctx, &err) == KALM_OK);
    config.cache_bytes = (size_t)1 << 28;
    CHECK(kalm_context_new(wide, &config, &kept, &err) == KALM_OK);
    config.state_bits = 4;
    CHECK(kalm_context_new(wide, &config, &rounded[1], &err) == KALM_OK);
    config.cache_bytes = 0;
    CHECK(kalm_context_new(wide, &config, &rounded[0], &err) == KALM_OK);
    for (i = 0; i <= SOME; i++) {
        for (k = 0; k < 600; k++) ids[i][k] = (int32_t)(test_random(&state) % 1000);
        given[i].data = ids[i];
        given[i].count = 1 + i * i * 9;
    }
    CHECKF(kalm_encode_ids(ctx, given, SOME, NULL, doc, &err) == KALM_OK, "%s", err.text);
    for (n = 0; n < sizeof lengths / sizeof *lengths; n++) {
        given[SOME].count = lengths[n];
        for (i = 0; i < SOME; i++) {
            CHECKF(kalm_rerank_ids(ctx, given[SOME], (const kalm_doc *const *)&doc[i], 1, NULL, &alone[i], &err) == KALM_OK, "%s", err.text);
            alone[i].index = (uint32_t)i;
        }
        CHECK(kalm_rerank_ids(ctx, given[SOME], (const kalm_doc *const *)doc, SOME, NULL, together, &err) == KALM_OK);
        same("a long prompt in a batch", alone, together, SOME);
        for (k = 0; k < 4; k++) {
            static const uint32_t prefix[] = { 1, 62, 256, 511 };
            p.prefix_tokens = prefix[k];
            CHECK(kalm_rerank_ids(kept, given[SOME], (const kalm_doc *const *)doc, SOME, &p, warm, &err) == KALM_OK);
            same("a long prompt from kept state", alone, warm, SOME);
            for (i = 0; i < 3; i++) {  /* with state_bits: without states, made, found */
                CHECKF(kalm_rerank_ids(rounded[i > 0], given[SOME], (const kalm_doc *const *)doc, SOME, &p, i ? warm : together, &err) == KALM_OK,
                       "%s", err.text);
                if (i) same("a long prompt from rounded state", together, warm, SOME);
            }
        }
    }
    for (i = 0; i < SOME; i++) kalm_doc_free(doc[i]);
    kalm_context_free(ctx);
    kalm_context_free(kept);
    kalm_context_free(rounded[0]);
    kalm_context_free(rounded[1]);
    kalm_model_close(wide);
}

/* More documents than are made at a time: callbacks and the cascade number them through. */
enum { CROWD = 150 };
static unsigned crowd_seen[CROWD];
static kalm_score crowd_score[CROWD];
static int see_crowd(void *user, const kalm_score *score)
{
    unsigned *count = (unsigned *)user;
    if (score->index < CROWD) {
        crowd_seen[score->index]++;
        crowd_score[score->index] = *score;
    }
    ++*count;
    return 0;
}
static void crowd(void)
{
    static char words[CROWD][64];
    kalm_context *ctx = context(1, 0, NULL);
    kalm_text many[CROWD];
    kalm_doc *doc[CROWD];
    kalm_score want[CROWD], got[CROWD], top[CROWD];
    kalm_params p, few;
    kalm_error err;
    size_t i, found = 0;
    unsigned count = 0;
    memset(&p, 0, sizeof p);
    for (i = 0; i < CROWD; i++) {
        sprintf(words[i], "tool number %u for %.20s", (unsigned)(i * 7919 % 1000), texts[i % DOCS]);
        many[i] = str(words[i]);
    }
    p.bits = 32;
    CHECK(kalm_encode(ctx, many, CROWD, &p, doc, &err) == KALM_OK);
    CHECK(kalm_rerank(ctx, str(queries[0]), (const kalm_doc *const *)doc, CROWD, &p, want, &err) == KALM_OK);
    p.on_score = see_crowd;
    p.on_score_user = &count;
    CHECK(kalm_rerank_texts(ctx, str(queries[0]), many, CROWD, &p, got, &err) == KALM_OK && count == CROWD);
    same("texts, scored and forgotten", want, got, CROWD);
    CHECK(kalm_rerank_texts(ctx, str(queries[0]), many, CROWD, NULL, got, &err) == KALM_OK);
    same("texts of which nothing is kept are not rounded", want, got, CROWD);
    for (i = 0; i < CROWD; i++) CHECKF(crowd_seen[i] == 1 && !memcmp(&crowd_score[i], &want[i], sizeof *want), "document %u was told %u times",
                                       (unsigned)i, crowd_seen[i]);
    memset(crowd_seen, 0, sizeof crowd_seen);
    count = 0;
    p.coarse_ratio = 8;
    p.coarse_keep = CROWD;
    CHECK(kalm_rerank_top(ctx, str(queries[0]), (const kalm_doc *const *)doc, CROWD, CROWD, &p, top, &found, &err) == KALM_OK);
    CHECK(found == CROWD && count == CROWD);
    memcpy(got, want, sizeof got);
    kalm_sort(got, CROWD);
    same("a cascade over many that drops nothing", got, top, CROWD);
    for (i = 0; i < CROWD; i++) CHECK(crowd_seen[i] == 1 && !memcmp(&crowd_score[i], &want[i], sizeof *want));
    few = p;                           /* more are asked for than there are */
    few.on_score = NULL;
    few.coarse_keep = 9;
    CHECK(kalm_rerank_top(ctx, str(queries[0]), (const kalm_doc *const *)doc, 3, 7, &few, top, &found, &err) == KALM_OK && found == 3);
    /* the first pass alone decides who comes back: the best by the scores at its ratio */
    {
        kalm_score coarse[CROWD];
        kalm_doc *pooled[CROWD];
        memset(crowd_seen, 0, sizeof crowd_seen);
        p.coarse_keep = 10;
        CHECK(kalm_rerank_top(ctx, str(queries[0]), (const kalm_doc *const *)doc, CROWD, 3, &p, top, &found, &err) == KALM_OK && found == 3);
        for (i = 0; i < CROWD; i++) CHECK(kalm_doc_repool(model, doc[i], 8, 0, &pooled[i], &err) == KALM_OK);
        CHECK(kalm_rerank(ctx, str(queries[0]), (const kalm_doc *const *)pooled, CROWD, NULL, coarse, &err) == KALM_OK);
        kalm_sort(coarse, CROWD);
        for (i = 0; i < CROWD; i++) {
            CHECKF(crowd_seen[coarse[i].index] == (i < 10), "document %u, %u-th of the first pass", (unsigned)coarse[i].index, (unsigned)i);
            kalm_doc_free(pooled[i]);
        }
    }
    for (i = 0; i < CROWD; i++) kalm_doc_free(doc[i]);
    kalm_context_free(ctx);
}

/* A state that was found stays only while it is the newest: a cache with room for one state keeps the document that was asked for
   last, however often another was found before it. */
static void found_states_are_dropped(void)
{
    kalm_context *ctx = context(1, (size_t)1 << 26, NULL);
    kalm_cache_info info;
    kalm_score score;
    kalm_error err;
    size_t most = 0, i, round;
    for (i = 3; i < 6; i++) {          /* how large the largest state of three documents is */
        kalm_context_clear_cache(ctx);
        CHECK(kalm_rerank(ctx, str(queries[0]), const_docs + i, 1, NULL, &score, &err) == KALM_OK);
        kalm_context_get_cache(ctx, &info);
        most = kalm__max(most, (size_t)info.bytes);
    }
    kalm_context_free(ctx);
    ctx = context(1, most, NULL);
    for (round = 0; round < 2; round++)
        for (i = 3; i < 6; i++) {
            unsigned k;
            for (k = 0; k < 3; k++) {
                kalm_cache_info before;
                kalm_context_get_cache(ctx, &before);
                CHECK(kalm_rerank(ctx, str(queries[k % 2]), const_docs + i, 1, NULL, &score, &err) == KALM_OK);
                kalm_context_get_cache(ctx, &info);
                CHECKF(info.hits - before.hits == (k > 0) && info.documents == 1, "document %u, time %u: %u hits, %u kept", (unsigned)i, k,
                       (unsigned)(info.hits - before.hits), (unsigned)info.documents);
            }
        }
    kalm_context_free(ctx);
}

/* With state_bits scores are those of the rounded keys, whatever becomes of the states: none kept, few, all, made, found, with any
   number of threads and any kernel set, alone or in a batch. */
static void rounded_scores(uint32_t bits, kalm_score *cold)
{
    static const size_t room[] = { 100000, (size_t)1 << 26 };
    kalm_context *ctx = rounding(0, 1, 0, NULL);
    kalm_score exact[DOCS], scores[DOCS];
    float margin[DOCS];
    uint64_t golden;
    const char *kernels;
    double change = 0;
    size_t i, k, round;
    rank(ctx, queries[0], NULL, DOCS, exact);
    kalm_context_free(ctx);
    ctx = rounding(bits, 2, 0, NULL);
    rank(ctx, queries[0], NULL, DOCS, cold);
    kalm_context_free(ctx);
    for (i = 0; i < DOCS; i++) {
        change += fabs((double)cold[i].margin - (double)exact[i].margin);
        margin[i] = cold[i].margin;
    }
    golden = kalm__hash(margin, sizeof margin);    /* q8 weights: these very bits, on every machine and below by every set */
    CHECKF(golden == (bits == 8 ? 0xbddf0e9bfc71131eu : 0xaf866c66effc8d25u), "state_bits %u: margins %#llx", bits, (unsigned long long)golden);
    CHECKF(change > 0 && change < DOCS * (bits == 8 ? 0.03 : 0.1), "the margin changes by %.4f on average", change / DOCS);
    for (k = 0; k < sizeof room / sizeof *room; k++) {
        ctx = rounding(bits, k ? 3 : 1, room[k], NULL);
        for (round = 0; round < 3; round++) {
            if (round == 1) rank(ctx, queries[1], NULL, DOCS, scores);
            rank(ctx, queries[0], NULL, DOCS, scores);
            same("rounded states", scores, cold, DOCS);
        }
        rank(ctx, queries[0], NULL, 1, scores);
        same("alone", scores, cold, 1);
        kalm_context_free(ctx);
    }
    for (i = 0; !TSAN && (kernels = kalm_kernels(i)) != NULL; i++) {
        if (!strcmp(kernels, "avx512bf16")) continue;
        ctx = rounding(bits, 1, (size_t)1 << 26, kernels);
        for (round = 0; round < 2; round++) {
            rank(ctx, queries[0], NULL, 3, scores);
            same(kernels, scores, cold, 3);
        }
        kalm_context_free(ctx);
    }
}

/* Without a prefix there is no state, so nothing is rounded for one: scores are those of a context without state_bits, but for what the
   rotation of keys does to the last digits. */
static void rounded_without_a_prefix(void)
{
    kalm_score exact[DOCS], scores[DOCS];
    kalm_ids prompt;
    int32_t ids[60];
    kalm_error err;
    double change = 0;
    size_t i;
    uint32_t bits;
    for (i = 0; i < 60; i++) ids[i] = (int32_t)(20 + i * 37 % 5000);
    prompt.data = ids;
    prompt.count = 60;
    for (bits = 0; bits <= 4; bits += 4) {
        kalm_context *ctx = rounding(bits, 1, (size_t)1 << 26, NULL);
        CHECKF(kalm_rerank_ids(ctx, prompt, const_docs, DOCS, NULL, bits ? scores : exact, &err) == KALM_OK, "%s", err.text);
        kalm_context_free(ctx);
    }
    for (i = 0; i < DOCS; i++) change += fabs((double)scores[i].margin - (double)exact[i].margin);
    CHECKF(change < DOCS * 0.012, "the margin changes by %.5f on average", change / DOCS);
}

/* A long instruction is kept in the same form by a context that just takes it and by one with room for more. */
static void rounded_in_small_contexts(void)
{
    static const uint32_t most[] = { 64, 4096 };
    char instruction[1400] = "";
    kalm_score scores[2][3];
    size_t i;
    while (strlen(instruction) < 1200) strcat(instruction, "programs for pictures, mail and games ");
    for (i = 0; i < 2; i++) {
        kalm_config config;
        kalm_context *ctx;
        memset(&config, 0, sizeof config);
        config.threads = 1, config.state_bits = 4, config.max_doc_tokens = most[i], config.max_query_tokens = 32;
        ctx = context_of(&config);
        rank(ctx, queries[0], instruction, 3, scores[i]);
        kalm_context_free(ctx);
    }
    same("small contexts", scores[0], scores[1], 3);
}

/* Saved states with state_bits: smaller, the same bits when loaded, refused by contexts of another form, and harmless when their
   bytes are a stranger's. */
static void rounded_states(void)
{
    static const uint32_t forms[3] = { 0, 8, 4 };
    kalm_score cold[DOCS], scores[DOCS];
    kalm_config config;
    kalm_context *ctx;
    kalm_error err;
    size_t size[3], n, i, f, g;
    uint64_t seed = 18;
    unsigned char *state[3];
    for (f = 0; f < 3; f++) {
        ctx = rounding(forms[f], 1, (size_t)1 << 26, NULL);
        CHECKF(kalm_state_save(ctx, docs[4], NULL, NULL, 0, &size[f], &err) == KALM_OK, "%s", err.text);
        state[f] = (unsigned char *)malloc(size[f]);
        CHECK(kalm_state_save(ctx, docs[4], NULL, state[f], size[f], &n, &err) == KALM_OK && n == size[f]);
        CHECK(kalm__u32(state[f] + 4) == (f ? 3u : 2u) && kalm__u64(state[f] + 56) == forms[f]);
        kalm_context_free(ctx);
    }
    CHECKF(size[1] < size[0] * 7 / 10 && size[2] < size[0] * 55 / 100, "%u, %u and %u bytes", (unsigned)size[0], (unsigned)size[1], (unsigned)size[2]);
    if (!TSAN) rounded_in_small_contexts();
    for (f = 1; f < 3; f++) {
        kalm_cache_info info;
        rounded_scores(forms[f], cold);
        for (g = 0; g < 3; g++) {
            kalm_result want = g == f ? KALM_OK : KALM_MISMATCH;
            ctx = rounding(forms[g], 1, (size_t)1 << 26, NULL);
            CHECKF(kalm_state_load(ctx, docs[4], NULL, state[f], size[f], &err) == want, "%s", err.text);
            if (g != f) CHECK(strstr(err.text, "state_bits") != NULL);
            kalm_context_get_cache(ctx, &info);
            CHECK(info.documents == (g == f));
            if (g == f) {
                CHECK(kalm_rerank(ctx, str(queries[0]), const_docs + 4, 1, NULL, scores, &err) == KALM_OK);
                CHECK(!memcmp(&scores[0].margin, &cold[4].margin, sizeof cold[4].margin));
                kalm_context_get_cache(ctx, &info);
                CHECK(info.hits == 1 && info.misses == 0);
            }
            kalm_context_free(ctx);
        }
        ctx = rounding(forms[f], 1, (size_t)1 << 26, NULL);
        CHECK(kalm_state_load(ctx, docs[4], NULL, state[0], size[0], &err) == KALM_MISMATCH && strstr(err.text, "state_bits 0"));
        for (i = 56; i < 64; i++) {
            state[f][i] ^= 2;
            kalm__put_u64(state[f] + 48, kalm__state_checksum(state[f], state[f] + KALM__STATE_HEADER, size[f] - KALM__STATE_HEADER));
            CHECK(kalm_state_load(ctx, docs[4], NULL, state[f], size[f], &err) == (i < 60 ? KALM_MISMATCH : KALM_BAD_FILE));
            state[f][i] ^= 2;
        }
        for (i = KALM__STATE_HEADER; i < size[f]; i++) state[f][i] = (unsigned char)test_random(&seed);
        kalm__put_u64(state[f] + 48, kalm__state_checksum(state[f], state[f] + KALM__STATE_HEADER, size[f] - KALM__STATE_HEADER));
        CHECK(kalm_state_load(ctx, docs[4], NULL, state[f], size[f], &err) == KALM_OK);
        (void)kalm_rerank(ctx, str(queries[0]), const_docs + 4, 1, NULL, scores, &err);        /* some score or an overflow */
        kalm_context_free(ctx);
    }
    memset(&config, 0, sizeof config);
    for (config.state_bits = 1; config.state_bits < 40; config.state_bits++) {
        if (config.state_bits == 4 || config.state_bits == 8) continue;
        CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_BAD_ARGUMENT && !ctx && strstr(err.text, "state_bits is"));
    }
    for (f = 0; f < 3; f++) free(state[f]);
}

/* A document whose numbers are finite and overflow on the way through the decoder: a save that fails writes nothing, says that it has
   written nothing, and keeps nothing. */
static void save_that_fails(void)
{
    kalm_context *ctx = context(1, (size_t)1 << 26, NULL);
    kalm_params p;
    kalm_doc *doc = NULL, *huge;
    kalm_cache_info info;
    kalm_error err;
    const unsigned char *good;
    unsigned char *bytes, *state;
    size_t size = 0, need = 0, again = 1, i;
    memset(&p, 0, sizeof p);
    p.bits = 32;
    CHECKF(kalm_encode(ctx, &text[3], 1, &p, &doc, &err) == KALM_OK, "%s", err.text);
    good = (const unsigned char *)kalm_doc_bytes(doc, &size);
    bytes = (unsigned char *)malloc(size);
    memcpy(bytes, good, size);
    for (i = KALM__DOC_HEADER; i < size; i += 4) kalm__put_u32(bytes + i, 0x7f7fffffu);
    kalm__put_u64(bytes + 40, kalm__doc_checksum(bytes, size));
    huge = opened(bytes, size, 0);
    CHECK(kalm_state_save(ctx, huge, NULL, NULL, 0, &need, &err) == KALM_OK && need > KALM__STATE_HEADER);
    state = (unsigned char *)malloc(need);
    memset(state, 0xa5, need);
    CHECKF(kalm_state_save(ctx, huge, NULL, state, need, &again, &err) == KALM_OVERFLOW && again == 0, "%u bytes: %s", (unsigned)again, err.text);
    CHECK(state[0] == 0xa5 && !memcmp(state, state + 1, need - 1));
    kalm_context_get_cache(ctx, &info);
    CHECK(info.documents == 0 && info.bytes == 0);
    free(state);
    free(bytes);
    kalm_doc_free(huge);
    kalm_doc_free(doc);
    kalm_context_free(ctx);
}

/* Each field of a stored state that does not fit is refused, with the checksum computed anew; and so is a wrong checksum. */
static void state_refusals(void)
{
    static const struct { unsigned at; kalm_result want; } fault[] = { { 4, KALM_BAD_VERSION }, { 8, KALM_MISMATCH }, { 15, KALM_MISMATCH },
        { 16, KALM_MISMATCH }, { 23, KALM_MISMATCH }, { 24, KALM_MISMATCH }, { 31, KALM_MISMATCH }, { 32, KALM_MISMATCH },
        { 36, KALM_MISMATCH }, { 39, KALM_MISMATCH }, { 40, KALM_MISMATCH }, { 47, KALM_MISMATCH }, { 56, KALM_BAD_FILE }, { 63, KALM_BAD_FILE } };
    kalm_context *ctx = context(1, (size_t)1 << 26, NULL), *fresh = context(1, (size_t)1 << 26, NULL);
    kalm_cache_info info;
    kalm_error err;
    size_t size = 0, i;
    unsigned char *bytes, *longer;
    CHECK(kalm_state_save(ctx, docs[4], NULL, NULL, 0, &size, &err) == KALM_OK);
    bytes = (unsigned char *)malloc(size);
    longer = (unsigned char *)calloc(size + 64, 1);
    CHECK(kalm_state_save(ctx, docs[4], NULL, bytes, size, &size, &err) == KALM_OK);
    for (i = 0; i < sizeof fault / sizeof *fault; i++) {
        memcpy(longer, bytes, size);
        longer[fault[i].at] ^= 1;
        kalm__put_u64(longer + 48, kalm__state_checksum(longer, longer + KALM__STATE_HEADER, size - KALM__STATE_HEADER));
        CHECKF(kalm_state_load(fresh, docs[4], NULL, longer, size, &err) == fault[i].want, "byte %u: %s", fault[i].at, err.text);
    }
    for (i = 48; i < 56; i++) {
        memcpy(longer, bytes, size);
        longer[i] ^= 0x80;
        CHECK(kalm_state_load(fresh, docs[4], NULL, longer, size, &err) == KALM_BAD_FILE && strstr(err.text, "checksum"));
    }
    memcpy(longer, bytes, size);
    kalm__put_u64(longer + 48, kalm__state_checksum(longer, longer + KALM__STATE_HEADER, size + 64 - KALM__STATE_HEADER));
    CHECK(kalm_state_load(fresh, docs[4], NULL, longer, size + 64, &err) == KALM_BAD_FILE);
    memcpy(longer, bytes, size);
    CHECK(kalm_state_load(fresh, docs[4], NULL, longer, size + 1, &err) == KALM_BAD_FILE && strstr(err.text, "its header asks for"));
    kalm_context_get_cache(fresh, &info);
    CHECK(info.documents == 0 && info.bytes == 0);       /* what was refused left nothing behind */
    free(bytes);
    free(longer);
    kalm_context_free(fresh);
    kalm_context_free(ctx);
}

/* A state is for one document and one instruction, also where another of each has as many rows and tokens. */
static void state_of_another(void)
{
    kalm_context *ctx = context(1, (size_t)1 << 26, NULL), *fresh = context(1, (size_t)1 << 26, NULL);
    kalm_text two[2];
    kalm_doc *doc[2];
    kalm_params p[2];
    kalm_error err;
    size_t size = 0, other = 0;
    unsigned char *bytes;
    memset(p, 0, sizeof p);
    p[0].instruction = str("find a game");
    p[1].instruction = str("find a tool");
    two[0] = str("music player for files");
    two[1] = str("files for music player");
    CHECK(kalm_encode(ctx, two, 2, NULL, doc, &err) == KALM_OK);
    CHECK(kalm_state_save(ctx, doc[0], &p[0], NULL, 0, &size, &err) == KALM_OK);
    CHECK(kalm_state_save(ctx, doc[1], &p[0], NULL, 0, &other, &err) == KALM_OK && other == size);
    CHECK(kalm_state_save(ctx, doc[0], &p[1], NULL, 0, &other, &err) == KALM_OK && other == size);
    bytes = (unsigned char *)malloc(size);
    CHECK(kalm_state_save(ctx, doc[0], &p[0], bytes, size, &size, &err) == KALM_OK);
    CHECK(kalm_state_load(fresh, doc[1], &p[0], bytes, size, &err) == KALM_MISMATCH);
    CHECK(kalm_state_load(fresh, doc[0], &p[1], bytes, size, &err) == KALM_MISMATCH);
    CHECKF(kalm_state_load(fresh, doc[0], &p[0], bytes, size, &err) == KALM_OK, "%s", err.text);
    free(bytes);
    kalm_doc_free(doc[0]);
    kalm_doc_free(doc[1]);
    kalm_context_free(fresh);
    kalm_context_free(ctx);
}

/* A model whose text before the query ends in a letter: a query's first letters may merge with it, and then nothing is kept, since
   what would be kept is of this query alone. And one with no text around the query: an empty query leaves nothing behind the prefix. */
static void merges_into_the_prefix(void)
{
    static const char *const rest[] = { "uick editor", "uestion", "ueue of mail", "a", "1", "\xe4\xb8\x80" };
    kalm_context *plain = context(1, 0, NULL), *ctx = context(1, (size_t)1 << 26, NULL);
    kalm_text before = model->file.string[KALM__STRING_QUERY], after = model->file.string[KALM__STRING_END];
    kalm_score want[DOCS], got[DOCS];
    kalm_cache_info info;
    size_t i, round;
    model->file.string[KALM__STRING_QUERY] = str("\n<Query>: q");
    for (i = 0; i < sizeof rest / sizeof *rest; i++)
        for (round = 0; round < 2; round++) {
            rank(plain, rest[i], NULL, 5, want);
            rank(ctx, rest[i], NULL, 5, got);
            same("a query that may merge with the text before it", want, got, 5);
            kalm_context_get_cache(ctx, &info);
            CHECKF(info.documents == (i < 3 ? 0 : 5), "%s: %u states are kept", rest[i], (unsigned)info.documents);
        }
    model->file.string[KALM__STRING_QUERY] = str("\n<Query>:");
    model->file.string[KALM__STRING_END] = str("");
    for (round = 0; round < 2; round++) {
        rank(plain, "", NULL, 5, want);
        rank(ctx, "", NULL, 5, got);
        same("nothing behind the prefix", want, got, 5);
    }
    model->file.string[KALM__STRING_QUERY] = before;
    model->file.string[KALM__STRING_END] = after;
    kalm_context_free(ctx);
    kalm_context_free(plain);
}

typedef struct seen { unsigned count, hits[DOCS]; kalm_score score[DOCS]; unsigned stop; } seen;
static int see(void *user, const kalm_score *score)
{
    seen *s = (seen *)user;
    if (score->index < DOCS) {
        s->hits[score->index]++;
        s->score[score->index] = *score;
    }
    return ++s->count == s->stop;
}

static void best_and_callbacks(void)
{
    kalm_context *ctx = context(2, 0, NULL);
    kalm_score want[DOCS], top[DOCS], got[DOCS];
    kalm_params p;
    kalm_error err;
    seen s;
    size_t found = 0, k, i;
    rank(ctx, queries[0], NULL, DOCS, want);
    memset(&p, 0, sizeof p);
    memset(&s, 0, sizeof s);
    p.on_score = see;
    p.on_score_user = &s;
    CHECK(kalm_rerank(ctx, str(queries[0]), const_docs, DOCS, &p, got, &err) == KALM_OK && s.count == DOCS);
    for (i = 0; i < DOCS; i++) CHECK(s.hits[i] == 1 && !memcmp(&s.score[i], &want[i], sizeof *want));
    memset(&s, 0, sizeof s);
    s.stop = 5;
    CHECK(kalm_rerank(ctx, str(queries[0]), const_docs, DOCS, &p, got, &err) == KALM_CANCELLED && s.count == 5);
    memset(&s, 0, sizeof s);
    CHECK(kalm_rerank_texts(ctx, str(queries[0]), text, DOCS, &p, got, &err) == KALM_OK && s.count == DOCS);
    for (i = 0; i < DOCS; i++) CHECK(s.hits[i] == 1 && s.score[i].margin == got[i].margin);

    for (k = 0; k <= DOCS + 3; k += 5) {
        memcpy(got, want, sizeof got);
        kalm_sort(got, DOCS);
        CHECKF(kalm_rerank_top(ctx, str(queries[0]), const_docs, DOCS, k, NULL, top, &found, &err) == KALM_OK, "%s", err.text);
        CHECK(found == (k < DOCS ? k : DOCS));
        same("top", got, top, found);
    }
    /* a cascade: what comes back has the scores of the full run */
    memset(&s, 0, sizeof s);
    p.coarse_ratio = 16;
    p.coarse_keep = 9;
    CHECKF(kalm_rerank_top(ctx, str(queries[0]), const_docs, DOCS, 5, &p, top, &found, &err) == KALM_OK, "%s", err.text);
    CHECK(found == 5 && s.count == 9);
    for (i = 0; i < found; i++) {
        CHECK(!memcmp(&top[i], &want[top[i].index], sizeof *top));
        CHECK(i == 0 || top[i].margin <= top[i - 1].margin);
        CHECK(s.hits[top[i].index] == 1);
    }
    memset(&s, 0, sizeof s);
    p.coarse_keep = 0;                             /* four times as many as are asked for */
    CHECK(kalm_rerank_top(ctx, str(queries[0]), const_docs, DOCS, 3, &p, top, &found, &err) == KALM_OK && found == 3 && s.count == 12);
    p.coarse_keep = DOCS;
    CHECK(kalm_rerank_top(ctx, str(queries[0]), const_docs, DOCS, 5, &p, top, &found, &err) == KALM_OK && found == 5);
    same("cascade that drops nothing", got, top, 5);
    p.coarse_ratio = 6;
    CHECK(kalm_rerank_top(ctx, str(queries[0]), const_docs, DOCS, 5, &p, top, &found, &err) == KALM_BAD_ARGUMENT && found == 0);
    CHECK(strstr(err.text, "6") != NULL);
    kalm_context_free(ctx);
}

/* Quantised models give the same bits on every machine, so the margins themselves can be written down: any change of what the engine
   computes, however small, shows here. Where a change is meant, the failing lines print the new bits; say why in the commit. */
static void margins_to_the_bit(void)
{
    static const uint32_t want[2][DOCS] = {
        { 0xc0d0574eu, 0xc0f13c41u, 0xbfe9e7bau, 0xc0f57c3au, 0xc0fbe976u, 0xbfa3bd80u,
          0xc0d5904eu, 0xc05bd336u, 0xc0dd3deeu, 0xc0922455u, 0xc05df7cau, 0xc0b369cbu,
          0xc04dd91cu, 0xc05cb329u, 0xc086a562u, 0xc0304db5u, 0xc0a57dcau, 0xc0859080u },
        { 0xbfd5bbb0u, 0xc09fb56du, 0xc0c85975u, 0xc0fc1ceeu, 0xc1085df1u, 0xc0bfec16u,
          0xc0ee4844u, 0xc0f4d5b1u, 0xc10b1a8du, 0xc0fa2cb2u, 0xc0dd81c0u, 0xc105c7b6u,
          0xc109a914u, 0xc1071b8eu, 0xc0eeabf8u, 0xc0f9b0b8u, 0xc0edd88du, 0xc0cbf7a4u } };
    static char long_instruction[2400];
    const char *instruction[2];
    const char *set;
    size_t i, k, n;
    for (i = 0; i < 300; i++) strcat(long_instruction, i % 3 ? " word" : " photo");      /* a prompt longer than a chunk of 256 rows */
    instruction[0] = NULL;
    instruction[1] = long_instruction;
    for (n = 0; (set = kalm_kernels(n)) != NULL && !(TSAN && n); n++)
        for (k = TSAN; k < 2; k++) {
            kalm_context *ctx = context(1 + (unsigned)k, 0, set);
            kalm_score got[DOCS];
            rank(ctx, "program to retouch photos", instruction[k], DOCS, got);
            for (i = 0; i < DOCS; i++) {
                uint32_t bits;
                memcpy(&bits, &got[i].margin, 4);
                CHECKF(bits == want[k][i], "%s, instruction %u, document %u: 0x%08lxu", set, (unsigned)k, (unsigned)i, (unsigned long)bits);
            }
            kalm_context_free(ctx);
        }
}

/* More prompts in the last layer's chunk than it takes residual rows for: each scores as it does alone. */
static void many_prompts_in_a_chunk(void)
{
    enum { MANY = 90 };
    const kalm_doc *many[MANY];
    kalm_score together[MANY], alone[DOCS];
    kalm_config config;
    kalm_context *wide = NULL;
    kalm_error err;
    size_t i;
    memset(&config, 0, sizeof config);
    config.threads = 1;
    config.max_query_tokens = 7000;
    config.cache_bytes = (size_t)1 << 30;
    CHECKF(kalm_context_new(model, &config, &wide, &err) == KALM_OK, "%s", err.text);
    if (!wide) return;
    for (i = 0; i < MANY; i++) many[i] = docs[i % DOCS];
    CHECKF(kalm_rerank(wide, str("mail"), many, MANY, NULL, together, &err) == KALM_OK, "%s", err.text);
    for (i = 0; i < DOCS; i++)
        CHECKF(kalm_rerank(wide, str("mail"), &many[i], 1, NULL, &alone[i], &err) == KALM_OK, "%s", err.text);
    for (i = 0; i < MANY; i++)
        CHECKF(!memcmp(&together[i].margin, &alone[i % DOCS].margin, 4), "prompt %u: %.9g together, %.9g alone", (unsigned)i,
               (double)together[i].margin, (double)alone[i % DOCS].margin);
    kalm_context_free(wide);
}

static void *filled_alloc(void *user, size_t size)
{
    void *p = malloc(size);
    return p ? memset(p, *(const unsigned char *)user, size) : NULL;
}
static void filled_release(void *user, void *p, size_t size)
{
    (void)user, (void)size;
    free(p);
}

/* Nothing that lay in memory before is written out with a state. */
static void states_are_their_own(void)
{
    static unsigned char fill[2] = { 0xa5, 0x3c };
    uint32_t bits;
    for (bits = 0; bits <= 8; bits += 4) {
        unsigned char *bytes[2];
        size_t size[2], i;
        for (i = 0; i < 2; i++) {
            kalm_config config;
            kalm_context *ctx;
            kalm_error err;
            memset(&config, 0, sizeof config);
            config.threads = 1;
            config.cache_bytes = 1 << 24;
            config.state_bits = bits;
            config.allocator.alloc = filled_alloc;
            config.allocator.release = filled_release;
            config.allocator.user = &fill[i];
            ctx = context_of(&config);
            CHECKF(kalm_state_save(ctx, docs[1], NULL, NULL, 0, &size[i], &err) == KALM_OK, "%s", err.text);
            bytes[i] = (unsigned char *)malloc(size[i]);
            CHECKF(kalm_state_save(ctx, docs[1], NULL, bytes[i], size[i], &size[i], &err) == KALM_OK, "%s", err.text);
            kalm_context_free(ctx);
        }
        CHECKF(size[0] == size[1] && !memcmp(bytes[0], bytes[1], size[0]), "state_bits %u: the state has bytes of what lay in memory", (unsigned)bits);
        free(bytes[0]);
        free(bytes[1]);
    }
}

/* What has one thread at a time. There is nothing in it that ThreadSanitizer could see, and there it takes many minutes. */
static void of_one_thread(void)
{
    stopping();
    short_of_memory();
    ids_with_prefix();
    stored_state();
    states_are_their_own();
    borrowed_bytes_change();
    reused_address();
    state_refusals();
    save_that_fails();
    rounded_without_a_prefix();
    state_of_another();
    merges_into_the_prefix();
    found_states_are_dropped();
    long_prompts("q8");
    long_prompts("f32");
    crowd();
    many_prompts_in_a_chunk();
}

int main(void)
{
    kalm_error err;
    kalm_context *ctx;
    const char *set;
    size_t i;
    test_ask_after = 1;                /* progress is asked before every product of matrices, so a call can be stopped at each */
    if (!CHECKF(kalm_model_open(TEST_BUILD "/tiny.kalm", NULL, &model, &err) == KALM_OK, "%s", err.text)) return test_end();
    make_texts();
    ctx = context(1, 0, NULL);
    CHECKF(kalm_encode(ctx, text, DOCS, NULL, docs, &err) == KALM_OK, "%s", err.text);
    kalm_context_free(ctx);
    const_docs = (const kalm_doc *const *)docs;
    for (i = 0; (set = kalm_kernels(i)) != NULL; i++) {
        if (i > 0) break;                                          /* golden.c and test_kernels.c hold the sets equal */
        cache_is_exact(set);
    }
    forged_documents();
    repeated_documents();
    rounded_states();
    margins_to_the_bit();
    best_and_callbacks();
    if (!TSAN) of_one_thread();
    for (i = 0; i < DOCS; i++) kalm_doc_free(docs[i]);
    kalm_model_close(model);
    return test_end();
}
