/* test_parts.c - parts of a model, as kalm-quantize --side and --vocabulary make them: the documents and scores of the whole to the
   bit, who exchanges documents with whom, what a part refuses and in which words, and headers that cannot be.
   Runs the commands of the same build in a folder below it. POSIX. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../quantize/vocabulary.h"
#include "command.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TMP TEST_BUILD "/tmp/parts"
#define QUANTIZE TEST_BUILD "/kalm-quantize"
#define RANDOM TEST_BUILD "/kalm-random-checkpoint"
#define RERANK TEST_BUILD "/kalm-rerank"

enum { TEXTS = 3 };
static const char *const passages[TEXTS] = {
    "GNU Chess is a chess playing program.", "Vim is an improved version of the editor vi.", "FFmpeg converts video, quickly!"
};
static const char question[] = "play chess";

typedef struct opened {
    kalm_model   *model;
    kalm_context *ctx;
    kalm_model_info info;
} opened;

static int open_model(opened *o, const char *path)
{
    kalm_config config;
    kalm_error err;
    memset(o, 0, sizeof *o);
    memset(&config, 0, sizeof config);
    config.threads = 1;
    config.cache_bytes = 1 << 22;
    if (!CHECKF(!kalm_model_open(path, NULL, &o->model, &err), "%s: %s", path, err.text)) return 0;
    kalm_model_get_info(o->model, &o->info);
    CHECKF(!kalm_model_verify(o->model, &err), "%s: %s", path, err.text);
    return CHECKF(!kalm_context_new(o->model, &config, &o->ctx, &err), "%s: %s", path, err.text);
}

static void close_model(opened *o)
{
    kalm_context_free(o->ctx);
    kalm_model_close(o->model);
}

static kalm_text text(const char *s)
{
    kalm_text t;
    t.data = s, t.size = KALM_NUL;
    return t;
}

static int encode(const opened *o, kalm_doc **docs)
{
    kalm_text all[TEXTS];
    kalm_error err;
    int i;
    for (i = 0; i < TEXTS; i++) all[i] = text(passages[i]);
    return CHECKF(!kalm_encode(o->ctx, all, TEXTS, NULL, docs, &err), "%s", err.text);
}

static int score(const opened *o, kalm_doc **docs, kalm_score *scores)
{
    kalm_error err;
    return CHECKF(!kalm_rerank(o->ctx, text(question), (const kalm_doc *const *)docs, TEXTS, NULL, scores, &err), "%s", err.text);
}

/* The same documents, opened by another model. */
static int hand_over(kalm_doc **from, const opened *to, kalm_doc **docs)
{
    kalm_error err;
    size_t size;
    int i, ok = 1;
    for (i = 0; i < TEXTS; i++) {
        const void *bytes = kalm_doc_bytes(from[i], &size);
        ok &= CHECKF(!kalm_doc_open(to->model, bytes, size, 0, &docs[i], &err), "%s", err.text);
    }
    return ok;
}

static void free_docs(kalm_doc **docs)
{
    int i;
    for (i = 0; i < TEXTS; i++) kalm_doc_free(docs[i]), docs[i] = NULL;
}

static int same_doc(const kalm_doc *a, const kalm_doc *b, size_t from)
{
    size_t n, m;
    const unsigned char *x = (const unsigned char *)kalm_doc_bytes(a, &n), *y = (const unsigned char *)kalm_doc_bytes(b, &m);
    return n == m && n > from && !memcmp(x + from, y + from, n - from);
}

/* ---- sides ------------------------------------------------------------------------------------------------------------------ */

/* Everything that a half cannot do says so, and leaves nothing behind. */
static void check_refusals(const opened *whole, const opened *encoder, const opened *decoder)
{
    kalm_doc *docs[TEXTS], *mine[TEXTS];
    kalm_score scores[TEXTS];
    kalm_text t = text("a text");
    kalm_ids ids;
    kalm_error err;
    static const int32_t tokens[3] = { 10, 11, 12 };
    unsigned char state[64];
    size_t n = 7;
    ids.data = tokens, ids.count = 3;
    if (!encode(whole, docs) || !hand_over(docs, encoder, mine)) return;
    CHECK(kalm_rerank(encoder->ctx, t, (const kalm_doc *const *)mine, TEXTS, NULL, scores, &err) == KALM_INCOMPLETE
          && strstr(err.text, "encoder alone") && scores[0].margin == 0);
    CHECK(kalm_rerank_ids(encoder->ctx, ids, (const kalm_doc *const *)mine, TEXTS, NULL, scores, &err) == KALM_INCOMPLETE);
    CHECK(kalm_rerank_top(encoder->ctx, t, (const kalm_doc *const *)mine, TEXTS, 1, NULL, scores, &n, &err) == KALM_INCOMPLETE && !n);
    CHECK(kalm_rerank_texts(encoder->ctx, t, &t, 1, NULL, scores, &err) == KALM_INCOMPLETE && strstr(err.text, "encoder alone"));
    CHECK(kalm_state_save(encoder->ctx, mine[0], NULL, NULL, 0, &n, &err) == KALM_INCOMPLETE && !n);
    CHECK(kalm_state_load(encoder->ctx, mine[0], NULL, state, sizeof state, &err) != KALM_OK);
    free_docs(docs);
    memset(docs, 1, sizeof docs);
    CHECK(kalm_encode(decoder->ctx, &t, 1, NULL, docs, &err) == KALM_INCOMPLETE && strstr(err.text, "decoder alone") && !docs[0]);
    CHECK(kalm_encode_ids(decoder->ctx, &ids, 1, NULL, docs, &err) == KALM_INCOMPLETE && !docs[0]);
    CHECK(kalm_rerank_texts(decoder->ctx, t, &t, 1, NULL, scores, &err) == KALM_INCOMPLETE && strstr(err.text, "decoder alone"));
    free_docs(mine);
}

/* A half has the embedding of the end-of-image token that the whole has on this side, be it its own or the other side's. */
static void check_eoi(const opened *whole, const opened *half, int side)
{
    const float *a = whole->model->file.stack[side].eoi, *b = half->model->file.stack[side].eoi;
    if (CHECK(!a == !b) && a) CHECK(!memcmp(a, b, whole->info.width * sizeof *a));
}

/* The whole at `path` and its halves, which are made here: the same documents, the same scores. */
static void check_sides(const char *path)
{
    opened whole, encoder, decoder;
    kalm_doc *docs[TEXTS] = { NULL, NULL, NULL }, *other[TEXTS] = { NULL, NULL, NULL }, *third[TEXTS] = { NULL, NULL, NULL };
    kalm_score right[TEXTS], scores[TEXTS];
    kalm_error err;
    unsigned char *state[2] = { NULL, NULL };
    size_t size[2] = { 0, 0 }, small = 0, large = 0;
    kalm_config config;
    int i;
    CHECKF(run(QUANTIZE " %s " TMP "/enc.kalm --side encoder --quiet", path) == 0, "%s", said);
    CHECKF(run(QUANTIZE " %s " TMP "/dec.kalm --side=decoder --quiet", path) == 0, "%s", said);
    if (!open_model(&whole, path) || !open_model(&encoder, TMP "/enc.kalm") || !open_model(&decoder, TMP "/dec.kalm")) return;
    CHECK(whole.info.has_encoder && whole.info.has_decoder && !whole.info.cut_vocabulary);
    CHECK(encoder.info.has_encoder && !encoder.info.has_decoder && !encoder.info.cut_vocabulary);
    CHECK(!decoder.info.has_encoder && decoder.info.has_decoder);
    CHECK(encoder.info.fingerprint == whole.info.fingerprint && decoder.info.fingerprint == whole.info.fingerprint);
    CHECK(encoder.info.bytes < whole.info.bytes && decoder.info.bytes < whole.info.bytes);
    check_eoi(&whole, &encoder, KALM__ENCODER);
    check_eoi(&whole, &decoder, KALM__DECODER);
    if (encode(&whole, docs) && encode(&encoder, other)) {
        for (i = 0; i < TEXTS; i++) CHECK(same_doc(docs[i], other[i], 0));
        if (score(&whole, docs, right) && hand_over(other, &decoder, third) && score(&decoder, third, scores))
            CHECK(!memcmp(right, scores, sizeof right));
        if (score(&whole, other, scores)) CHECK(!memcmp(right, scores, sizeof right));
        for (i = 0; i < 2; i++) {      /* kept states are the same bytes as well */
            const opened *o = i ? &decoder : &whole;
            CHECK(!kalm_state_save(o->ctx, docs[0], NULL, NULL, 0, &size[i], &err));
            state[i] = (unsigned char *)malloc(size[i] + 1);
            CHECK(!kalm_state_save(o->ctx, docs[0], NULL, state[i], size[i], &size[i], &err));
        }
        CHECK(size[0] == size[1] && !memcmp(state[0], state[1], size[0]));
    }
    memset(&config, 0, sizeof config);
    CHECK(!kalm_context_bytes(whole.model, &config, &large, NULL) && !kalm_context_bytes(encoder.model, &config, &small, NULL)
          && small <= large);
    CHECK(!kalm_context_bytes(decoder.model, &config, &small, NULL) && small <= large);
    check_refusals(&whole, &encoder, &decoder);
    free(state[0]);
    free(state[1]);
    free_docs(docs);
    free_docs(other);
    free_docs(third);
    close_model(&whole);
    close_model(&encoder);
    close_model(&decoder);
}

static void test_sides(void)
{
    /* tables: the decoder's own one, and weights of floats */
    CHECK(run(RANDOM " hidden=64 mlp=96 layers=2 heads=2 kv_heads=1 head_dim=32 window=8 vocabulary=8192 " TMP "/own --decoder-table own"
              " --untied --quiet") == 0);
    CHECK(run(QUANTIZE " " TMP "/own " TMP "/own.kalm --tokenizer examples/tiny/tokenizer.json --weights f16 --quiet") == 0);
    check_sides(TMP "/own.kalm");
    /* from the checkpoint at once, and from the file: the same part */
    CHECKF(run(QUANTIZE " " TMP "/own " TMP "/direct.kalm --tokenizer examples/tiny/tokenizer.json --weights f16 --side decoder --quiet") == 0, "%s", said);
    CHECK(same_file(TMP "/direct.kalm", TMP "/dec.kalm"));
    CHECK(run("ls -a " TMP " | grep tmp-") == 1);          /* the whole that was made for it is gone */
    CHECK(run(QUANTIZE " --info " TMP "/dec.kalm --errors") == 0 && strstr(said, "decoder.embed") && !strstr(said, "encoder."));
    CHECK(run(QUANTIZE " --info " TMP "/enc.kalm --errors") == 0 && strstr(said, "encoder.embed") && !strstr(said, "decoder."));
    /* one table, and one embedding of the end-of-image token, for both */
    CHECK(run(RANDOM " hidden=64 mlp=96 layers=2 heads=2 kv_heads=1 head_dim=32 window=8 vocabulary=8192 " TMP "/shared --quiet") == 0);
    CHECK(run(QUANTIZE " " TMP "/shared " TMP "/shared.kalm --tokenizer examples/tiny/tokenizer.json --weights q4 --quiet") == 0);
    check_sides(TMP "/shared.kalm");
    CHECK(run(QUANTIZE " " TMP "/own " TMP "/own4.kalm --tokenizer examples/tiny/tokenizer.json --weights q4 --quiet") == 0);
    check_sides(TMP "/own4.kalm");
    check_sides(TEST_BUILD "/tiny.kalm");          /* last: what follows uses its halves */
}

/* ---- vocabularies -------------------------------------------------------------------------------------------------------- */

static void test_vocabulary(void)
{
    opened whole, small, dec, other;
    kalm_doc *docs[TEXTS] = { NULL, NULL, NULL }, *mine[TEXTS] = { NULL, NULL, NULL }, *third[TEXTS] = { NULL, NULL, NULL };
    kalm_score right[TEXTS], scores[TEXTS];
    kalm_doc_info info;
    kalm_error err;
    FILE *f = fopen(TMP "/texts.txt", "w");
    int i;
    if (!CHECK(f != NULL)) return;
    for (i = 0; i < TEXTS; i++) fprintf(f, "%s\n", passages[i]);
    fprintf(f, "%s\n", question);
    fclose(f);
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/cut.kalm --vocabulary " TMP "/texts.txt") == 0, "%s", said);
    CHECKF(strstr(said, "4 of 4 texts are read as before (100.00 %)") && strstr(said, " of 8192 tokens stay"), "%s", said);
    CHECKF(run(QUANTIZE " " TMP "/cut.kalm " TMP "/cutdec.kalm --side decoder --quiet") == 0, "%s", said);
    if (!open_model(&whole, TEST_BUILD "/tiny.kalm") || !open_model(&small, TMP "/cut.kalm") || !open_model(&dec, TMP "/cutdec.kalm"))
        return;
    CHECK(small.info.vocabulary < 1200 && small.info.cut_vocabulary && small.info.fingerprint == whole.info.fingerprint);
    CHECK(dec.info.cut_vocabulary == small.info.cut_vocabulary && dec.info.fingerprint == whole.info.fingerprint);
    CHECK(small.info.bytes < whole.info.bytes * 2 / 3 && !dec.info.has_encoder);
    if (encode(&whole, docs) && encode(&small, mine) && score(&whole, docs, right)) {
        for (i = 0; i < TEXTS; i++) {
            CHECK(same_doc(docs[i], mine[i], 64) && !same_doc(docs[i], mine[i], 0));
            kalm_doc_get_info(mine[i], &info);
            CHECK(info.vocabulary == small.info.cut_vocabulary && info.fingerprint == whole.info.fingerprint);
            kalm_doc_get_info(docs[i], &info);
            CHECK(!info.vocabulary);
        }
        if (score(&small, mine, scores)) CHECK(!memcmp(right, scores, sizeof right));
        if (hand_over(mine, &whole, third) && score(&whole, third, scores)) CHECK(!memcmp(right, scores, sizeof right));
        kalm_doc_get_info(third[0], &info);
        CHECK(info.vocabulary == small.info.cut_vocabulary);
        free_docs(third);
        if (hand_over(docs, &dec, third) && score(&dec, third, scores)) CHECK(!memcmp(right, scores, sizeof right));
        free_docs(third);
    }
    {                                  /* what nobody gave still ranks: other words, another script, bytes */
        kalm_text strange[3];
        strange[0] = text("Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich");
        strange[1] = text("\xe5\x8c\x97\xe4\xba\xac\xe6\x98\xaf\xe4\xb8\xad\xe5\x9b\xbd\xe7\x9a\x84\xe9\xa6\x96\xe9\x83\xbd");
        strange[2] = text("\xff\xfe \xc3");
        CHECKF(!kalm_rerank_texts(small.ctx, text("\xd1\x88\xd0\xb0\xd1\x85\xd0\xbc\xd0\xb0\xd1\x82\xd1\x8b"), strange, 3, NULL, scores,
                                  &err), "%s", err.text);
    }
    /* scripts and texts together, and other texts counted */
    f = fopen(TMP "/other.txt", "w");
    fprintf(f, "play chess\n\xe5\x8c\x97\xe4\xba\xac Zugzwang quagmire rhododendron\n");
    fclose(f);
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/two.kalm --vocabulary Greek," TMP "/texts.txt --held-out " TMP "/other.txt") == 0,
           "%s", said);
    CHECKF(strstr(said, "1 of 2 texts of ") != NULL, "%s", said);
    if (open_model(&other, TMP "/two.kalm")) {
        CHECK(other.info.cut_vocabulary && other.info.cut_vocabulary != small.info.cut_vocabulary);
        close_model(&other);
    }
    /* bytes that are no UTF-8 are read as the model would */
    f = fopen(TMP "/bytes.txt", "w");
    fprintf(f, "play chess \xff\xc3\n");
    fclose(f);
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/bytes.kalm --quiet --vocabulary " TMP "/bytes.txt") == 0, "%s", said);
    /* the same from the checkpoint, and a vocabulary that is cut already */
    CHECKF(run(QUANTIZE " " TMP "/own " TMP "/direct.kalm --tokenizer examples/tiny/tokenizer.json --weights f16 --quiet --vocabulary " TMP "/texts.txt") == 0,
           "%s", said);
    CHECKF(run(QUANTIZE " " TMP "/own.kalm " TMP "/again.kalm --quiet --vocabulary " TMP "/texts.txt") == 0, "%s", said);
    CHECK(same_file(TMP "/direct.kalm", TMP "/again.kalm") && !same_file(TMP "/direct.kalm", TMP "/own.kalm"));
    CHECKF(run(QUANTIZE " " TMP "/cut.kalm " TMP "/again.kalm --quiet --vocabulary " TMP "/texts.txt") == 0, "%s", said);
    if (open_model(&other, TMP "/again.kalm")) {
        CHECK(other.info.vocabulary == small.info.vocabulary && other.info.fingerprint == whole.info.fingerprint);
        close_model(&other);
    }
    free_docs(docs);
    free_docs(mine);
    close_model(&whole);
    close_model(&small);
    close_model(&dec);
}

/* A tokenizer of 7 tokens, of which 1 and 4 stay, in a model of 10: ids of the model's that the tokenizer lacks (7, 8, 9) keep their
   rows, behind the tokens' and in their order. */
static void test_rows(void)
{
    enum { NONE = -1 };
    static const struct { int special[3], rows[6]; } cases[] = {       /* yes, no, end of image; NONE ends the rows */
        { { 1, 4, NONE }, { 1, 4, NONE } },
        { { 7, 9, NONE }, { 1, 4, 7, 9, NONE } },
        { { 9, 7, 8 }, { 1, 4, 7, 8, 9, NONE } },
        { { 8, 8, 8 }, { 1, 4, 8, NONE } },
        { { 1, 9, 6 }, { 1, 4, 9, NONE } },
        { { 4, 7, 10 }, { 1, 4, 7, NONE } }
    };
    uint32_t ids[2], i, k;
    kalm__vocabulary v;
    kalm__file *f = (kalm__file *)calloc(1, sizeof *f);
    kalm_error err;
    f->tokenizer.tokens = 7;
    f->shape.vocabulary = 10;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        memset(&v, 0, sizeof v);
        v.f = f;
        v.subset.ids = ids;
        v.subset.tokens = 2;
        ids[0] = 1, ids[1] = 4;
        f->shape.yes_id = (uint32_t)cases[i].special[0];
        f->shape.no_id = (uint32_t)cases[i].special[1];
        f->shape.eoi_id = (uint32_t)cases[i].special[2];
        CHECK(!kalm__vocabulary_rows(&v, &err));
        for (k = 0; cases[i].rows[k] != NONE; k++) {
            CHECKF(k < v.count && v.rows[k] == (uint32_t)cases[i].rows[k], "case %u: row %u", (unsigned)i, (unsigned)k);
            CHECK(kalm__vocabulary_id(&v, (uint32_t)cases[i].rows[k]) == k);
        }
        CHECKF(v.count == k, "case %u: %u rows", (unsigned)i, (unsigned)v.count);
        CHECK(kalm__vocabulary_id(&v, 3) == 0xffffffffu && kalm__vocabulary_id(&v, 0xffffffffu) == 0xffffffffu);
        free(v.rows);
    }
    /* a token of the tokenizer that the model has no row for */
    for (i = 9; i < 12; i++) {
        memset(&v, 0, sizeof v);
        v.f = f;
        v.subset.ids = ids;
        v.subset.tokens = 2;
        ids[1] = i;
        CHECK(kalm__vocabulary_rows(&v, &err) == (i < 10 ? KALM_OK : KALM_BAD_FILE));
        CHECK(i < 10 || strstr(err.text, i == 10 ? "token 10 of" : "token 11 of"));
        free(v.rows);
    }
    free(f);
}

/* A store that the encoder alone has filled is ranked by the decoder alone, and by one with a smaller vocabulary, as by the whole. */
static void test_store(void)
{
    static const char *const models[] = { TMP "/dec.kalm", TMP "/cutdec.kalm", TMP "/cut.kalm" };
    char *want;
    size_t i;
    if (access(TEST_BUILD "/kalm-index", X_OK)) {
        puts("not built: kalm-index");
        return;
    }
    CHECKF(run(TEST_BUILD "/kalm-index " TMP "/enc.kalm " TMP "/s.db " TMP "/texts.txt --quiet") == 0, "%s", said);
    CHECKF(run(RERANK " " TEST_BUILD "/tiny.kalm '%s' --store " TMP "/s.db --json | grep -v model", question) == 0, "%s", said);
    want = (char *)malloc(strlen(said) + 1);
    memcpy(want, said, strlen(said) + 1);
    CHECK(strstr(want, "score") != NULL);
    for (i = 0; i < sizeof models / sizeof *models; i++) {
        CHECKF(run(RERANK " %s '%s' --store " TMP "/s.db --json | grep -v model", models[i], question) == 0, "%s", said);
        CHECKF(!strcmp(want, said), "%s: %s", models[i], said);
    }
    free(want);
    CHECK(run(RERANK " " TMP "/enc.kalm '%s' --store " TMP "/s.db", question) == 1 && strstr(said, "encoder alone"));
    CHECK(run(TEST_BUILD "/kalm-index " TMP "/dec.kalm " TMP "/none.db " TMP "/texts.txt") == 1 && strstr(said, "decoder alone"));
    CHECK(access(TMP "/none.db", F_OK) != 0);
    /* what a smaller vocabulary has encoded goes into the same store */
    CHECKF(run(TEST_BUILD "/kalm-index " TMP "/cut.kalm " TMP "/s.db examples/demo.txt --quiet") == 0, "%s", said);
    CHECKF(run(RERANK " " TMP "/dec.kalm '%s' --store " TMP "/s.db --top-k 3", question) == 0, "%s", said);
}

/* ---- mistakes and hostile bytes --------------------------------------------------------------------------------------------- */

static void refuse(const char *arguments, int status, const char *words)
{
    CHECKF(run(QUANTIZE " %s", arguments) == status && strstr(said, words), "%s: %s", arguments, said);
}

static void test_mistakes(void)
{
    refuse(TMP "/dec.kalm " TMP "/x.kalm --side encoder", 1, "holds the decoder alone: there is no encoder to keep");
    refuse(TMP "/enc.kalm " TMP "/x.kalm --side decoder", 1, "holds the encoder alone: there is no decoder to keep");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --side decoder --weights q4", 2, "--weights is for a checkpoint folder");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm", 2, "--side or --vocabulary says what part of it is wanted");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --held-out " TMP "/texts.txt", 2, "--held-out and --tokens go with --vocabulary");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary lattin", 1, "\"lattin\" is neither a file nor a script");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary ''", 1, "is neither a file nor a script");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary latin,", 1, "is neither a file nor a script");
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary " TEST_BUILD "/tiny.kalm", 1, "is a model file, not a file of texts");
    refuse(TMP "/texts.txt " TMP "/x.kalm --side decoder", 1, "not a .kalm file");
    CHECK(run(QUANTIZE " " TMP "/own " TMP "/bare.kalm --tokenizer none --yes-id 4 --no-id 9 --quiet") == 0);
    refuse(TMP "/bare.kalm " TMP "/x.kalm --vocabulary latin", 1, "has no tokenizer whose vocabulary could be cut");
    CHECK(access(TMP "/x.kalm", F_OK) != 0);
    CHECK(run(RERANK " " TMP "/dec.kalm q text") == 1 && strstr(said, "decoder alone"));
}

/* What --vocabulary reads: titles and queries count as they are read in ranking, names of scripts in any spelling, --tokens; and what it
   cannot read, by name and line. */
static void test_texts(void)
{
    static const struct { const char *bytes, *words; } bad[] = {
        { "", "bad.txt has no text in it" }, { " \n\t\n", "bad.txt has no text in it" },
        { "{\"text\": \"a\"}\n{\"text\": \"b}\n", "bad.txt, line 2, column 10: a string has no closing quote" },
        { "{\"text\": \"a\"}\n{\"text\": 7}\n", "bad.txt, line 2: an object with a string \"text\" must stand here" },
        { "%PDF-1.4 and so on", "bad.txt: is a PDF file: take its text out first (pdftotext)" }
    };
    opened one;
    kalm_model_info with;
    size_t i;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_bytes(TMP "/bad.txt", bad[i].bytes, strlen(bad[i].bytes));
        refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary " TMP "/bad.txt", 1, bad[i].words);
        refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary ascii --held-out " TMP "/bad.txt", 1, bad[i].words);
    }
    refuse(TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary ascii --held-out " TMP "/none.txt", 1, "none.txt: No such file or directory");
    CHECK(access(TMP "/x.kalm", F_OK) != 0);
    /* every word of title, text and query stays, so that all are read as before; a record without words counts as one */
    write_bytes(TMP "/t.jsonl", "{\"title\": \"Zugzwang\", \"text\": \"quagmire\", \"query\": \"rhododendron\"}\n{\"title\": \"syzygy\", \"text\": \"\"}\n{\"text\": \"\"}\n", 112);
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/t.kalm --vocabulary " TMP "/t.jsonl") == 0
           && strstr(said, "3 of 3 texts are read as before (100.00 %)"), "%s", said);
    write_bytes(TMP "/q.jsonl", "{\"title\": \"Zugzwang\", \"text\": \"quagmire\", \"query\": \"rhododendron\"}\n{\"title\": \"Zugzwang\", \"text\": \"quagmire\", \"query\": \"xylophone zeppelin\"}\n", 140);
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/x.kalm --vocabulary " TMP "/t.jsonl --held-out " TMP "/q.jsonl") == 0
           && strstr(said, "1 of 2 texts of " TMP "/q.jsonl are read as before (50.00 %)"), "%s", said);
    CHECK(!unlink(TMP "/x.kalm"));
    /* names of scripts: capitals and dashes do not matter, a name of five letters is not ascii */
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/one.kalm --quiet --vocabulary GREEK,old-italic,ascii") == 0, "%s", said);
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/two.kalm --quiet --vocabulary ascii,Old_Italic,greek") == 0, "%s", said);
    CHECK(same_file(TMP "/one.kalm", TMP "/two.kalm"));
    CHECKF(run(QUANTIZE " --info " TMP "/cutdec.kalm") == 0 && strstr(said, "without its encoder and all tokens of its vocabulary"), "%s", said);
    CHECKF(run(QUANTIZE " --info " TMP "/cut.kalm") == 0 && strstr(said, "without all tokens of its vocabulary"), "%s", said);
    CHECKF(run(QUANTIZE " --info " TMP "/dec.kalm") == 0 && strstr(said, "without its encoder\n"), "%s", said);
    /* --tokens: no more than what always stays and so many */
    if (open_model(&one, TMP "/cut.kalm")) {
        with = one.info;
        close_model(&one);
        CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/few.kalm --quiet --vocabulary " TMP "/texts.txt --tokens %u", (unsigned)with.vocabulary - 4) == 0, "%s", said);
        if (open_model(&one, TMP "/few.kalm")) {
            CHECKF(one.info.vocabulary == with.vocabulary - 4, "%u tokens of %u", (unsigned)one.info.vocabulary, (unsigned)with.vocabulary);
            close_model(&one);
        }
    }
}

/* A table with more rows than the tokenizer has tokens: the answers and the end of the image, which are among those rows, stay. One with
   fewer rows cannot be cut. */
static void test_rows_behind_tokens(void)
{
    opened whole, small;
    kalm_doc *docs[TEXTS] = { NULL, NULL, NULL }, *mine[TEXTS] = { NULL, NULL, NULL };
    kalm_score right[TEXTS], scores[TEXTS];
    CHECK(run(RANDOM " hidden=64 mlp=96 layers=1 heads=2 kv_heads=1 head_dim=32 window=8 vocabulary=8400 " TMP "/wide --quiet") == 0);
    CHECKF(run(QUANTIZE " " TMP "/wide " TMP "/wide.kalm --tokenizer examples/tiny/tokenizer.json --yes-id 8300 --no-id 8200 --no-rows --quiet") == 0, "%s", said);
    CHECKF(run(QUANTIZE " " TMP "/wide.kalm " TMP "/narrow.kalm --vocabulary " TMP "/texts.txt --quiet") == 0, "%s", said);
    if (!open_model(&whole, TMP "/wide.kalm") || !open_model(&small, TMP "/narrow.kalm")) return;
    CHECK(small.model->file.shape.no_id + 1 == small.model->file.shape.yes_id && small.model->file.shape.yes_id + 1 == small.model->file.shape.eoi_id
          && small.model->file.shape.eoi_id + 1 == small.info.vocabulary && small.model->file.tokenizer.tokens == small.model->file.shape.no_id);
    if (encode(&whole, docs) && encode(&small, mine) && score(&whole, docs, right) && score(&small, mine, scores))
        CHECK(!memcmp(right, scores, sizeof right));
    free_docs(docs);
    free_docs(mine);
    close_model(&whole);
    close_model(&small);
    CHECK(run(RANDOM " hidden=64 mlp=96 layers=1 heads=2 kv_heads=1 head_dim=32 window=8 vocabulary=8000 " TMP "/short --quiet") == 0);
    CHECKF(run(QUANTIZE " " TMP "/short " TMP "/short.kalm --tokenizer examples/tiny/tokenizer.json --no-rows --quiet") == 0, "%s", said);
    refuse(TMP "/short.kalm " TMP "/x.kalm --vocabulary ascii", 1, "token 8000 of the tokenizer has no row in the embedding table of 8000");
    CHECK(access(TMP "/x.kalm", F_OK) != 0);
}

/* Header fields that cannot be, and a weight that is damaged, which must not get a new checksum. */
static void test_hostile(void)
{
    static const struct { uint64_t whole; uint32_t lacks; kalm_result result; const char *words; } bad[] = {
        { 1, 0, KALM_BAD_FILE, "which cannot be" }, { 0, 1, KALM_BAD_FILE, "which cannot be" }, { 1, 3, KALM_BAD_FILE, "which cannot be" },
        { 1, 7, KALM_BAD_FILE, "which cannot be" }, { 1, 8, KALM_BAD_VERSION, "does not know (8)" },
        { 1, 0xffffffffu, KALM_BAD_VERSION, "does not know" }, { 1, 1, KALM_BAD_FILE, "which no model has" },
        { 1, 2, KALM_BAD_FILE, "which no model has" }
    };
    size_t size, i;
    unsigned char *bytes = test_read_file(TEST_BUILD "/tiny.kalm", &size), *at;
    kalm_model *model = NULL;
    kalm_model_info info;
    kalm_error err;
    if (!CHECK(bytes != NULL)) return;
    at = (unsigned char *)malloc(size + 64);
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        unsigned char *p = kalm__align64(at);
        memcpy(p, bytes, size);
        kalm__put_u64(p + 40, bad[i].whole);
        kalm__put_u32(p + 48, bad[i].lacks);
        memset(p + 32, 0, 8);
        kalm__put_u64(p + 32, kalm__hash(p, 64 + 32 * (size_t)kalm__u32(p + 12)));
        CHECKF(kalm_model_open_memory(p, size, NULL, &model, &err) == bad[i].result && strstr(err.text, bad[i].words), "%lu: %s",
               (unsigned long)i, err.text);
    }
    for (i = 52; i < 64; i++) {        /* what no one reads cannot differ unseen */
        unsigned char *p = kalm__align64(at);
        memcpy(p, bytes, size);
        p[i] = 1;
        memset(p + 32, 0, 8);
        kalm__put_u64(p + 32, kalm__hash(p, 64 + 32 * (size_t)kalm__u32(p + 12)));
        CHECK(kalm_model_open_memory(p, size, NULL, &model, &err) == KALM_BAD_FILE && strstr(err.text, "bytes 52 to 63"));
    }
    {                                  /* another's fingerprint may be claimed, as with documents; nothing else changes */
        unsigned char *p = kalm__align64(at);
        memcpy(p, bytes, size);
        kalm__put_u64(p + 40, 77);
        kalm__put_u32(p + 48, 4);
        memset(p + 32, 0, 8);
        kalm__put_u64(p + 32, kalm__hash(p, 64 + 32 * (size_t)kalm__u32(p + 12)));
        if (CHECKF(!kalm_model_open_memory(p, size, NULL, &model, &err), "%s", err.text)) {
            kalm_model_get_info(model, &info);
            CHECK(info.fingerprint == 77 && info.cut_vocabulary);
            kalm_model_close(model);
        }
    }
    bytes[size - size / 3] ^= 1;
    write_bytes(TMP "/damaged.kalm", bytes, size);
    refuse(TMP "/damaged.kalm " TMP "/x.kalm --side decoder", 1, "is damaged: its checksum does not match");
    free(at);
    free(bytes);
}

/* Tables of a tokenizer that contradict each other, in a file whose checksums are right: refused, or cut to something that opens. */
static void test_hostile_tables(void)
{
    uint64_t state = 5;
    size_t size, blob_size, i, rounds;
    unsigned char *bytes = test_read_file(TEST_BUILD "/tiny.kalm", &size);
    kalm_model *model = NULL;
    kalm_error err;
    if (!CHECK(bytes != NULL)) return;
    if (CHECK(!kalm_model_open(TEST_BUILD "/tiny.kalm", NULL, &model, &err))) {
        size_t at = (size_t)model->file.section[KALM__SECTION_TOKENIZER].offset;
        blob_size = (size_t)model->file.section[KALM__SECTION_TOKENIZER].size;
        for (rounds = 0; rounds < 12; rounds++) {
            unsigned char *table = bytes + 64;
            uint32_t count = kalm__u32(bytes + 12), k;
            for (i = 0; i < 40; i++) bytes[at + 384 + test_random(&state) % (blob_size - 384)] = (unsigned char)test_random(&state);
            for (k = 0; k < count; k++)
                if (kalm__u32(table + 32 * k) == KALM__SECTION_TOKENIZER)
                    kalm__put_u64(table + 32 * k + 24, kalm__hash(bytes + at, blob_size));
            kalm__put_u64(bytes + 24, kalm__table_fingerprint(table, count));
            memset(bytes + 32, 0, 8);
            kalm__put_u64(bytes + 32, kalm__hash(bytes, 64 + 32 * (size_t)count));
            write_bytes(TMP "/hostile.kalm", bytes, size);
            i = (size_t)run(QUANTIZE " " TMP "/hostile.kalm " TMP "/h.kalm --vocabulary %s --quiet", rounds % 2 ? "latin" : "examples/demo.txt");
            CHECKF(i <= 1, "ended with %lu: %s", (unsigned long)i, said);
        }
        kalm_model_close(model);
    }
    free(bytes);
}

/* ---- killed -------------------------------------------------------------------------------------------------------------- */

static int files_in(const char *folder)
{
    DIR *d = opendir(folder);
    int n = 0;
    if (!d) return -1;
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;                      /* . and .. */
}

/* kill -9 at any time leaves the old file or the new one, never a part of it; the next run is not hindered, and clears away what
   the killed ones left. */
static void test_killed(void)
{
    static const char name[] = TMP "/killed/half.kalm";
    struct timespec wait;
    size_t size[2], n;
    unsigned char *whole[2], *got;
    int round, killed = 0;
    wait.tv_sec = 0;
    CHECK(run("mkdir " TMP "/killed && cp " TMP "/dec.kalm %s", name) == 0);
    CHECK(run(QUANTIZE " " TEST_BUILD "/tiny.kalm " TMP "/after.kalm --side encoder --quiet") == 0);
    whole[0] = test_read_file(name, &size[0]);
    whole[1] = test_read_file(TMP "/after.kalm", &size[1]);
    for (round = 0; round < 24; round++) {
        int status = 0;
        pid_t child = fork();
        if (!child) {
            execl(QUANTIZE, QUANTIZE, TEST_BUILD "/tiny.kalm", name, "--side", "encoder", "--quiet", (char *)NULL);
            _exit(99);
        }
        wait.tv_nsec = 500000L * (1 + round);
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        killed += WIFSIGNALED(status) != 0;
        got = test_read_file(name, &n);
        CHECKF(got && ((n == size[0] && !memcmp(got, whole[0], n)) || (n == size[1] && !memcmp(got, whole[1], n))),
               "killed after %ld us: %lu bytes that are neither the old file nor the new one", wait.tv_nsec / 1000, (unsigned long)n);
        free(got);
    }
    CHECKF(killed > 0, "no run was killed");
    CHECKF(run(QUANTIZE " " TEST_BUILD "/tiny.kalm %s --side encoder --quiet", name) == 0, "%s", said);
    got = test_read_file(name, &n);
    CHECK(got && n == size[1] && !memcmp(got, whole[1], n));
    CHECKF(files_in(TMP "/killed") == 1, "%d files stay", files_in(TMP "/killed"));
    free(got);
    free(whole[0]);
    free(whole[1]);
}

int main(void)
{
    setenv("ASAN_OPTIONS", "detect_leaks=0", 0);       /* a command ends with its texts in its hands */
    CHECK(run("rm -rf " TMP "; mkdir -p " TMP) == 0);
    test_sides();
    test_rows();
    test_vocabulary();
    test_store();
    test_mistakes();
    test_texts();
    test_rows_behind_tokens();
    test_hostile();
    test_hostile_tables();
    test_killed();
    return test_end();
}
