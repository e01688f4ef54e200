/* soak.c - hours of mixed work in one process, as a server has it: encode, rank, cascades, rows of 32 to 2 bits, repool, caches that
   overflow, exact and rounded states, saved and loaded, tokenising, contexts that work at the same time on threads of the program or
   of the library, calls that are cancelled, refused or short of memory, damaged models, children that fork off, contexts and models
   that come and go. Every 100th step known questions are asked again, of documents, of texts and as a cascade, and known texts are
   tokenised: they must give the bits that plain C gave at the beginning. Memory must be as large at the end as after the first
   tenth of the time.

     soak MODEL.kalm [SECONDS [SEED]]       a q8 or q4 model, whose scores are the same bits on every kernel set; default 60 s */
#define _POSIX_C_SOURCE 200809L
#include "../src/tools/files.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KNOWN = 12, SLOTS = 24, CONTEXTS = 5, EXACT = 3, WIDTHS = 6, TOGETHER = 3 };   /* the first EXACT contexts keep exact states */

static const uint32_t widths[WIDTHS] = { 32, 16, 8, 4, 3, 2 };       /* bits of a row's numbers */

static uint64_t random_state;
static size_t below(size_t n) { return (size_t)(test_random(&random_state) % n); }

/* ---- texts and memory ---------------------------------------------------------------------------------------------------------- */

static const char *const words[] = {
    "play", "chess", "against", "the", "computer", "image", "viewer", "photos", "editor", "backup", "files", "encrypted", "\xc3\xa9t\xc3\xa9", "\xe4\xb8\xad\xe6\x96\x87", "<end_of_turn>",
    "\xf0\x9f\x98\x80", "library", "for", "a", "network", "protocol", "C", "compiler", "\xff", "\n\n", "123", "music", "and", "video", "streams"
};
static char text_room[1 << 16];
static kalm_text make_text(size_t most)
{
    kalm_text t;
    size_t n = below(most), at = 0;
    while (n-- && at + 32 < sizeof text_room) {
        const char *w = words[below(sizeof words / sizeof *words)];
        memcpy(text_room + at, w, strlen(w));
        at += strlen(w);
        text_room[at++] = ' ';
    }
    t.data = text_room;
    t.size = at;
    return t;
}

/* Refuses now and then when it is told to; counts. Contexts on several threads share it. */
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static size_t live, refuse_in;
static void *counted_alloc(void *user, size_t size)
{
    int refused;
    (void)user;
    pthread_mutex_lock(&counting);
    refused = refuse_in && --refuse_in == 0;
    if (!refused) live += size;
    pthread_mutex_unlock(&counting);
    return refused ? NULL : malloc(size);
}
static void counted_release(void *user, void *p, size_t size)
{
    (void)user;
    pthread_mutex_lock(&counting);
    live -= size;
    pthread_mutex_unlock(&counting);
    free(p);
}

/* Threads of the program's own: here they come one after the other, the last first. */
static void in_turn(void *user, size_t count, void (*task)(void *arg, size_t i), void *arg)
{
    (void)user;
    while (count--) task(arg, count);
}

static unsigned long resident_kb(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long all = 0, resident = 0;
    if (f) {
        if (fscanf(f, "%lu %lu", &all, &resident) != 2) resident = 0;
        fclose(f);
    }
    return resident * (unsigned long)sysconf(_SC_PAGESIZE) / 1024;
}

/* ---- the work -------------------------------------------------------------------------------------------------------------------- */

typedef struct world {
    const char   *path;
    kalm_model   *model;
    kalm_context *ctx[CONTEXTS];
    kalm_doc     *doc[SLOTS];
    unsigned char *bytes;              /* the model's file */
    size_t        size;
    /* what plain C gave at the beginning: of each width of rows the documents, and margins with exact states, with those of 8 bits and of 4 */
    kalm_doc     *known_doc[WIDTHS][KNOWN];
    float         known[3][WIDTHS][KNOWN];
    kalm_score    known_top[3];        /* of a cascade */
    int32_t       known_ids[KNOWN][64];
    size_t        known_count[KNOWN];
    unsigned long steps, errors, compared, forks, together, damaged, dropped;
} world;

static const char *const known_texts[KNOWN] = {
    "GNU Chess is a chess playing program. It can play against a human or against itself.", "Stockfish is a strong chess engine.", "An image viewer.", "", "a",
    "BorgBackup stores deduplicated, compressed and encrypted backups.", "Vim is an improved version of the editor vi.", "FFmpeg converts, records and streams audio and video.",
    "\xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80", "<end_of_turn>", "chess chess chess chess chess chess", "A library to play with computers."
};

static const char known_query[] = "play chess against the computer";

static kalm_config some_config(unsigned i)
{
    kalm_config c;
    memset(&c, 0, sizeof c);
    c.allocator.alloc = counted_alloc;
    c.allocator.release = counted_release;
    c.threads = 1 + i % 2;
    c.max_doc_tokens = i == 2 ? 64 : 256;
    c.max_query_tokens = 64;
    c.cache_bytes = i == 0 ? 0 : i == 1 ? 1 << 20 : 8 << 20;
    c.state_bits = i < EXACT ? 0 : i == EXACT ? 8 : 4;
    if (i == EXACT) c.cache_bytes = 1 << 20;
    if (i > EXACT) c.threads = 3, c.parallel = in_turn;
    return c;
}

static void open_context(world *w, unsigned i)
{
    kalm_config c = some_config(i);
    kalm_error err;
    CHECKF(!kalm_context_new(w->model, &c, &w->ctx[i], &err), "%s", err.text);
}

/* The known question on a context that has been through a lot; 0 or how many margins differ. Called from threads too. */
static size_t ask(world *w, kalm_context *ctx, size_t i, size_t width, kalm_error *err)
{
    kalm_score scores[KNOWN];
    size_t k, wrong = 0;
    if (kalm_rerank(ctx, kalm__text(known_query), (const kalm_doc *const *)w->known_doc[width], KNOWN, NULL, scores, err)) return KNOWN;
    for (k = 0; k < KNOWN; k++) wrong += memcmp(&scores[k].margin, &w->known[i < EXACT ? 0 : i - EXACT + 1][width][k], sizeof(float)) != 0;
    return wrong;
}

static void ask_known(world *w, size_t i)
{
    kalm_context *ctx = w->ctx[i];
    kalm_error err;
    size_t width = below(WIDTHS), wrong, k, found, n;
    kalm_score scores[KNOWN];
    kalm_text texts[KNOWN];
    kalm_params p;
    int32_t ids[64];
    err.text[0] = 0;
    wrong = ask(w, ctx, i, width, &err);
    CHECKF(!wrong, "step %lu, context %lu, rows of %u bits: %lu margins differ: %s", w->steps, (unsigned long)i, widths[width], (unsigned long)wrong, err.text);
    memset(&p, 0, sizeof p);
    for (k = 0; k < KNOWN; k++) {
        texts[k] = kalm__text(known_texts[k]);
        CHECK(!kalm_tokenize(w->model, texts[k], 0, ids, 64, &n, &err) && n == w->known_count[k] && !memcmp(ids, w->known_ids[k], n * sizeof *ids));
    }
    if (i < EXACT) {                   /* texts keep no states, so this is what documents of 32 bits have with exact ones */
        p.ratio = 2;
        if (CHECKF(!kalm_rerank_texts(ctx, kalm__text(known_query), texts, KNOWN, &p, scores, &err), "%s", err.text))
            for (k = 0; k < KNOWN; k++) CHECKF(!memcmp(&scores[k].margin, &w->known[0][0][k], sizeof(float)), "step %lu, text %lu", w->steps, (unsigned long)k);
        p.coarse_ratio = 8;
        p.coarse_keep = 5;
        if (CHECKF(!kalm_rerank_top(ctx, kalm__text(known_query), (const kalm_doc *const *)w->known_doc[1], KNOWN, 3, &p, scores, &found, &err), "%s", err.text))
            CHECKF(found == 3 && !memcmp(scores, w->known_top, sizeof w->known_top), "step %lu, a cascade", w->steps);
    }
    w->compared++;
}

/* Contexts of other threads on the same model and documents, while this one ranks too. */
typedef struct guest { world *w; size_t i, wrong; pthread_t thread; kalm_error err; } guest;
static void *visit(void *arg)
{
    guest *g = (guest *)arg;
    kalm_config c = some_config((unsigned)g->i);
    kalm_context *ctx = NULL;
    size_t round;
    g->wrong = kalm_context_new(g->w->model, &c, &ctx, &g->err) != KALM_OK;
    for (round = 0; round < 3 && !g->wrong; round++) g->wrong = ask(g->w, ctx, g->i, (g->i + round) % WIDTHS, &g->err);
    kalm_context_free(ctx);
    return NULL;
}
static void together(world *w)
{
    guest g[TOGETHER];
    size_t n, i;
    memset(g, 0, sizeof g);
    for (n = 0; n < TOGETHER; n++) {
        g[n].w = w;
        g[n].i = below(CONTEXTS);
        if (pthread_create(&g[n].thread, NULL, visit, &g[n])) break;
    }
    ask_known(w, below(CONTEXTS));
    for (i = 0; i < n; i++) {
        pthread_join(g[i].thread, NULL);
        CHECKF(!g[i].wrong, "step %lu: %lu margins differ on a thread: %s", w->steps, (unsigned long)g[i].wrong, g[i].err.text);
    }
    w->together++;
}

static int cancel_at(void *user, size_t done, size_t total)
{
    size_t *left = (size_t *)user;
    (void)done, (void)total;
    return (*left)-- == 0;
}

static void rank(world *w, kalm_context *ctx)
{
    const kalm_doc *docs[SLOTS];
    kalm_score scores[SLOTS];
    kalm_params p;
    kalm_error err;
    kalm_result r;
    size_t n = 0, i, left = below(6), found = 0;
    memset(&p, 0, sizeof p);
    if (below(4) == 0) p.instruction = kalm__text("Find the package that does this");
    if (below(8) == 0) p.progress = cancel_at, p.progress_user = &left;
    for (i = 0; i < SLOTS; i++)
        if (w->doc[i] && below(2)) docs[n++] = w->doc[i];
    if (below(6) == 0) {
        p.coarse_ratio = 16;
        p.coarse_keep = 4;
        r = kalm_rerank_top(ctx, make_text(12), docs, n, 3, &p, scores, &found, &err);
    } else {
        r = kalm_rerank(ctx, make_text(12), docs, n, &p, scores, &err);
    }
    if (r) w->errors++;                /* cancelled; a document longer than this context takes; ratios that do not divide */
    CHECKF(!r || err.text[0], "result %d without a word", (int)r);
}

static void encode(world *w, kalm_context *ctx)
{
    kalm_text texts[4];
    char *kept[4];
    kalm_doc *docs[4] = { NULL, NULL, NULL, NULL };
    kalm_params p;
    kalm_error err;
    size_t n = 1 + below(4), i;
    memset(&p, 0, sizeof p);
    p.ratio = 1u << below(5);
    p.bits = widths[below(WIDTHS)];
    if (below(10) == 0) refuse_in = 1 + below(8);
    for (i = 0; i < n; i++) {
        kalm_text t = make_text(i ? 40 : 200);
        kept[i] = (char *)malloc(t.size + 1);
        if (!kept[i]) abort();
        memcpy(kept[i], t.data, t.size);
        texts[i].data = kept[i];
        texts[i].size = t.size;
    }
    if (kalm_encode(ctx, texts, n, &p, docs, &err)) w->errors++;
    refuse_in = 0;
    for (i = 0; i < n; i++) {
        size_t slot = below(SLOTS);
        free(kept[i]);
        if (!docs[i]) continue;
        kalm_doc_free(w->doc[slot]);
        w->doc[slot] = docs[i];
    }
}

static void repool_and_open(world *w)
{
    const kalm_doc *from = w->doc[below(SLOTS)];
    kalm_doc *made = NULL;
    kalm_error err;
    kalm_doc_info info;
    size_t size, slot = below(SLOTS);
    if (!from) return;
    kalm_doc_get_info(from, &info);
    if (below(2)) {
        if (kalm_doc_repool(w->model, from, info.ratio * (1 + (uint32_t)below(3)), widths[below(WIDTHS)], &made, &err)) w->errors++;
    } else {
        const void *bytes = kalm_doc_bytes(from, &size);
        unsigned char *copy = (unsigned char *)malloc(size);
        if (!copy) abort();
        memcpy(copy, bytes, size);
        if (below(3) == 0) copy[below(size)] ^= 1;
        if (kalm_doc_open(w->model, copy, size, 0, &made, &err)) w->errors++;
        free(copy);
    }
    if (!made) return;
    kalm_doc_free(w->doc[slot]);
    w->doc[slot] = made;
}

static void states(world *w, kalm_context *ctx)
{
    const kalm_doc *doc = below(3) ? w->known_doc[below(WIDTHS)][below(KNOWN)] : w->doc[below(SLOTS)];
    size_t size, n;
    kalm_error err;
    unsigned char *data;
    if (!doc || kalm_state_save(ctx, doc, NULL, NULL, 0, &size, &err)) {
        w->errors++;
        return;
    }
    data = (unsigned char *)malloc(size);
    if (!data) abort();
    if (!kalm_state_save(ctx, doc, NULL, data, size, &n, &err)) {
        if (below(3) == 0) data[below(size)] ^= 16;
        if (below(2)) kalm_context_clear_cache(ctx);
        if (kalm_state_load(ctx, doc, NULL, data, size, &err)) w->errors++;
    }
    free(data);
}

static void tokens(world *w)
{
    int32_t ids[512];
    char back[4096];
    size_t n, bytes;
    kalm_error err;
    if (kalm_tokenize(w->model, make_text(500), below(2) ? KALM_PARSE_CONTROL : 0, ids, 512, &n, &err)) w->errors++;
    else if (kalm_detokenize(w->model, ids, n < 512 ? n : 512, back, sizeof back, &bytes, &err)) w->errors++;
}

/* A child that ranks and frees, or ends at once. */
static void fork_off(world *w)
{
    pid_t child;
    int status = 0;
    unsigned how = (unsigned)below(2);
    fflush(stdout);
    child = fork();
    if (child < 0) return;
    if (!child) {
        alarm(60);
        if (how) {
            unsigned i;
            ask_known(w, 1);
            for (i = 0; i < CONTEXTS; i++) kalm_context_free(w->ctx[i]);
        }
        _exit(test__failed != 0);
    }
    CHECKF(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status), "a child ended with %d", status);
    w->forks++;
}

/* A model whose bytes a stranger has changed, cut or left alone: it opens and works, or is refused with a word. */
static void damaged_model(world *w)
{
    size_t size = below(3) ? w->size : below(w->size), i, n = below(4), found;
    unsigned char *block = (unsigned char *)malloc(size + 64), *copy = block + (64 - (uintptr_t)block % 64) % 64;
    kalm_config c = some_config(0);
    kalm_context *ctx = NULL;
    kalm_model *model = NULL;
    kalm_score score;
    kalm_error err;
    kalm_text text = kalm__text(known_texts[0]);
    int32_t ids[64];
    if (!block) abort();
    memcpy(copy, w->bytes, size);
    for (i = 0; i < n && size; i++) copy[below(2) ? below(size) : below(size < 4096 ? size : 4096)] ^= (unsigned char)(1u << below(8));
    err.text[0] = 0;
    if (kalm_model_open_memory(copy, size, &c, &model, &err) || kalm_context_new(model, &c, &ctx, &err) || kalm_model_verify(model, &err) ||
        kalm_tokenize(model, text, 0, ids, 64, &found, &err) || kalm_rerank_texts(ctx, text, &text, 1, NULL, &score, &err)) {
        w->errors++;
        CHECK(err.text[0]);
    } else {
        CHECK(score.score >= 0 && score.score <= 1);
    }
    kalm_context_free(ctx);
    kalm_model_close(model);
    free(block);
    w->damaged++;
}

static void count_dropped(world *w, size_t i)
{
    kalm_cache_info info;
    kalm_context_get_cache(w->ctx[i], &info);
    w->dropped += (unsigned long)info.dropped;
}

/* Everything that was opened is closed and opened again, mapped or read. */
static void begin_again(world *w)
{
    kalm_config c = some_config(0);
    kalm_model *old = w->model;
    kalm_error err;
    kalm_doc *doc;
    size_t i, k, size;
    for (i = 0; i < CONTEXTS; i++) {
        count_dropped(w, i);
        kalm_context_free(w->ctx[i]);
    }
    for (i = 0; i < SLOTS; i++) {
        kalm_doc_free(w->doc[i]);
        w->doc[i] = NULL;
    }
    c.load = below(2) ? KALM_LOAD_MAP : KALM_LOAD_READ;
    CHECKF(!kalm_model_open(w->path, &c, &w->model, &err), "%s", err.text);
    for (i = 0; i < WIDTHS; i++)
        for (k = 0; k < KNOWN; k++) {  /* documents outlive the model that made them, as bytes do */
            const void *bytes = kalm_doc_bytes(w->known_doc[i][k], &size);
            if (!CHECKF(!kalm_doc_open(w->model, bytes, size, 0, &doc, &err), "%s", err.text)) continue;
            kalm_doc_free(w->known_doc[i][k]);
            w->known_doc[i][k] = doc;
        }
    kalm_model_close(old);
    for (i = 0; i < CONTEXTS; i++) open_context(w, (unsigned)i);
}

static void step(world *w)
{
    kalm_context *ctx = w->ctx[below(CONTEXTS)];
    size_t what = below(1000);
    w->steps++;
    if (what < 300) rank(w, ctx);
    else if (what < 550) encode(w, ctx);
    else if (what < 700) repool_and_open(w);
    else if (what < 780) states(w, w->ctx[1 + below(CONTEXTS - 1)]);
    else if (what < 900) tokens(w);
    else if (what < 940) kalm_context_clear_cache(ctx);
    else if (what < 980) {
        unsigned i = (unsigned)below(CONTEXTS);
        count_dropped(w, i);
        kalm_context_free(w->ctx[i]);
        open_context(w, i);
    } else if (what < 988) fork_off(w);
    else if (what < 991) begin_again(w);
    else if (what < 996) together(w);
    else damaged_model(w);
    if (w->steps % 100 == 0) ask_known(w, w->steps / 100 % CONTEXTS);
}

/* Documents, margins and ids of the known texts, by plain C on a context of their own, with each kind of state. */
static void learn(world *w)
{
    kalm_text t[KNOWN];
    kalm_score scores[KNOWN];
    kalm_context *ctx = NULL;
    kalm_params p;
    kalm_error err;
    size_t i, k, width, found;
    for (k = 0; k < KNOWN; k++) {
        t[k] = kalm__text(known_texts[k]);
        if (!CHECK(!kalm_tokenize(w->model, t[k], 0, w->known_ids[k], 64, &w->known_count[k], &err) && w->known_count[k] <= 64)) return;
    }
    for (i = 0; i < 3; i++) {
        kalm_config c = some_config(i ? EXACT + (unsigned)i - 1 : 0);
        c.kernels = "scalar";
        c.threads = 1;
        c.parallel = NULL;
        if (!CHECKF(!kalm_context_new(w->model, &c, &ctx, &err), "%s", err.text)) return;
        for (width = 0; width < WIDTHS; width++) {
            memset(&p, 0, sizeof p);
            p.ratio = 2;
            p.bits = widths[width];
            if (!CHECKF((i || !kalm_encode(ctx, t, KNOWN, &p, w->known_doc[width], &err)) &&
                        !kalm_rerank(ctx, kalm__text(known_query), (const kalm_doc *const *)w->known_doc[width], KNOWN, NULL, scores, &err), "%s", err.text)) return;
            for (k = 0; k < KNOWN; k++) w->known[i][width][k] = scores[k].margin;
        }
        if (i == 0) {
            p.coarse_ratio = 8;
            p.coarse_keep = 5;
            CHECK(!kalm_rerank_top(ctx, kalm__text(known_query), (const kalm_doc *const *)w->known_doc[1], KNOWN, 3, &p, w->known_top, &found, &err) && found == 3);
        }
        kalm_context_free(ctx);
    }
    CHECK(memcmp(w->known[0], w->known[1], sizeof w->known[0]) && memcmp(w->known[1], w->known[2], sizeof w->known[0]));
}

int main(int argc, char **argv)
{
    world w;
    kalm_config c = some_config(0);
    kalm_error err;
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 60, begun, said;
    unsigned long settled = 0, most = 0;
    size_t i, k;
    memset(&w, 0, sizeof w);
    if (argc < 2) return fprintf(stderr, "soak MODEL.kalm [SECONDS [SEED]]\n"), 2;
    random_state = argc > 3 ? strtoul(argv[3], NULL, 10) : 1;
    w.path = argv[1];
    if (!CHECKF(!kalm_model_open(w.path, &c, &w.model, &err), "%s", err.text)) return test_end();
    w.bytes = test_read_file(w.path, &w.size);
    if (!CHECK(w.bytes != NULL)) return test_end();
    learn(&w);
    if (test__failed) return test_end();
    begun = said = kalm__now();        /* plain C took its time */
    for (i = 0; i < CONTEXTS; i++) open_context(&w, (unsigned)i);
    while (kalm__now() - begun < seconds && test__failed < 20) {
        unsigned long now;
        step(&w);
        if (w.steps % 10) continue;
        now = resident_kb();
        if (kalm__now() - begun < seconds / 10 || w.steps < 400) settled = now > settled ? now : settled;
        else most = now > most ? now : most;
        if (kalm__now() - said > 60) {
            said = kalm__now();
            printf("%6.0f s: %lu steps, %lu kB resident\n", said - begun, w.steps, now);
            fflush(stdout);
        }
    }
    for (i = 0; i < CONTEXTS; i++) count_dropped(&w, i);
    printf("%lu steps in %.0f s: %lu refused or cancelled, %lu children, %lu times on %d threads, %lu damaged models, %lu states dropped for room; "
           "the known questions %lu times; %lu kB resident at most in the first tenth of the time, %lu kB afterwards\n",
           w.steps, kalm__now() - begun, w.errors, w.forks, w.together, TOGETHER + 1, w.damaged, w.dropped, w.compared, settled, most);
    if (w.steps >= 2000) CHECK(w.forks && w.together && w.damaged && w.dropped && w.errors);
    /* a tenth and 4 MB: what an allocator keeps wanders a little */
    if (w.steps >= 800) CHECKF(most <= settled + settled / 10 + 4096, "memory grew from %lu to %lu kB", settled, most);
    for (i = 0; i < CONTEXTS; i++) kalm_context_free(w.ctx[i]);
    for (i = 0; i < SLOTS; i++) kalm_doc_free(w.doc[i]);
    for (i = 0; i < WIDTHS; i++)
        for (k = 0; k < KNOWN; k++) kalm_doc_free(w.known_doc[i][k]);
    free(w.bytes);
    kalm_model_close(w.model);
    CHECKF(live == 0, "%lu bytes were not given back", (unsigned long)live);
    return test_end();
}
