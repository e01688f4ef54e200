/* api_documents.h - the part of test_api.c about documents: encoding, their bytes, opening what was damaged, re-pooling, row types. To be
   included behind the helpers of test_api.c, whose model and contexts it uses. */
#ifndef API_DOCUMENTS_H
#define API_DOCUMENTS_H

static void test_documents(void)
{
    kalm_context *ctx = context(NULL);
    kalm_params p = zero_params();
    kalm_error err;
    uint32_t bits;
    for (bits = 32; bits >= 8; bits /= 2) {
        kalm_text text = text_of(documents[5]);
        kalm_doc *doc = NULL, *copy = NULL, *borrowed = NULL, *coarse = NULL, *direct = NULL;
        const kalm_doc *all[5];
        kalm_doc_info info, other;
        kalm_score s[5];
        const unsigned char *bytes;
        unsigned char *exact;
        size_t size, n, i;
        uint64_t state = bits;
        p.ratio = 2;
        p.bits = bits;
        if (!CHECKF(kalm_encode(ctx, &text, 1, &p, &doc, &err) == KALM_OK, "%s", err.text)) continue;
        kalm_doc_get_info(doc, &info);
        CHECK(info.ratio == 2 && info.bits == bits && info.tokens == info.tokens_used && info.rows == (info.tokens + 1) / 2);
        bytes = (const unsigned char *)kalm_doc_bytes(doc, &size);
        exact = (unsigned char *)malloc(size);
        memcpy(exact, bytes, size);
        CHECKF(kalm_doc_open(model, exact, size, 0, &copy, &err) == KALM_OK, "%s", err.text);
        CHECKF(kalm_doc_open(model, exact, size, KALM_BORROW, &borrowed, &err) == KALM_OK, "%s", err.text);
        if (copy && borrowed) {
            CHECK(kalm_doc_bytes(borrowed, &n) == exact && n == size);
            CHECK(kalm_doc_bytes(copy, &n) != exact && n == size && memcmp(kalm_doc_bytes(copy, &n), exact, size) == 0);
            kalm_doc_get_info(copy, &other);
            CHECK(memcmp(&other, &info, sizeof info) == 0);
        }
        /* coarser: by rounding alone another document than the one encoded so */
        p.ratio = 8;
        CHECK(kalm_encode(ctx, &text, 1, &p, &direct, &err) == KALM_OK);
        CHECKF(kalm_doc_repool(model, doc, 8, 0, &coarse, &err) == KALM_OK, "%s", err.text);
        if (coarse && direct && copy && borrowed) {
            kalm_doc_get_info(coarse, &info);
            kalm_doc_get_info(direct, &other);
            CHECK(memcmp(&other, &info, sizeof info) == 0);
            all[0] = doc, all[1] = copy, all[2] = borrowed, all[3] = coarse, all[4] = direct;
            CHECK(kalm_rerank(ctx, text_of(query_text), all, 5, NULL, s, &err) == KALM_OK);
            CHECK(s[0].margin == s[1].margin && s[1].margin == s[2].margin);
            CHECKF(fabsf(s[3].margin - s[4].margin) < (bits == 32 ? 1e-3f : bits == 16 ? 0.02f : 0.5f), "%u bits: repooled %g, encoded %g",
                   (unsigned)bits, (double)s[3].margin, (double)s[4].margin);
        }
        kalm_doc_free(copy);
        kalm_doc_free(borrowed);
        kalm_doc_free(coarse);
        kalm_doc_free(direct);
        /* cut anywhere: refused; each byte of the head damaged, and some of the rest: refused, or a number comes out */
        for (n = 0; n < size; n += n < 256 ? 1 : 97) {
            unsigned char *cut = (unsigned char *)malloc(n ? n : 1);
            memcpy(cut, exact, n);
            CHECKF(kalm_doc_open(model, cut, n, 0, &copy, &err) == KALM_BAD_FILE && !copy && err.text[0], "cut at %lu", (unsigned long)n);
            free(cut);
        }
        for (i = 0; i < 600; i++) {
            size_t at = i < 256 && i < size ? i : (size_t)test_random(&state) % size;
            unsigned char was = exact[at];
            kalm_result r;
            exact[at] = (unsigned char)test_random(&state);
            r = kalm_doc_open(model, exact, size, 0, &copy, &err);
            CHECKF((r == KALM_OK) == (copy != NULL), "byte %lu", (unsigned long)at);
            if (copy) {
                const kalm_doc *one = copy;
                r = kalm_rerank(ctx, text_of(query_text), &one, 1, NULL, s, &err);
                CHECKF(r || (s[0].score >= 0 && s[0].score <= 1 && s[0].margin == s[0].margin), "byte %lu: margin %g", (unsigned long)at,
                       (double)s[0].margin);
            } else {
                CHECKF(r == KALM_BAD_FILE || r == KALM_BAD_VERSION || r == KALM_MISMATCH, "byte %lu: result %d", (unsigned long)at, (int)r);
            }
            kalm_doc_free(copy);
            exact[at] = was;
        }
        free(exact);
        kalm_doc_free(doc);
    }
    kalm_context_free(ctx);
}

/* What a stored document is refused for, each fault alone, with the checksum computed anew. */
static void test_document_refusals(void)
{
    static const struct { unsigned at; uint32_t value; kalm_result want; const char *word; } fault[] = {
        { 4, 3, KALM_BAD_VERSION, "version 3" }, { 4, 0, KALM_BAD_VERSION, "version 0" }, { 4, 2, KALM_BAD_FILE, "format version 2" },
        { 36, 4, KALM_BAD_FILE, "format version 1" }, { 8, 12345, KALM_MISMATCH, "model" }, { 20, 0, KALM_BAD_FILE, "rows" },
        { 20, 1000000, KALM_BAD_FILE, "rows" },  { 16, 1, KALM_BAD_FILE, "rows" },  { 24, 0, KALM_BAD_FILE, "rows" },     { 28, 7, KALM_BAD_FILE, "rows" },
        { 32, 191, KALM_BAD_FILE, "191" },       { 32, 193, KALM_BAD_FILE, "193" },    { 36, 0, KALM_BAD_FILE, "bits" },
        { 56, 1, KALM_BAD_FILE, "bytes 56 to 63" }, { 60, 1u << 31, KALM_BAD_FILE, "bytes 56 to 63" },
        { 36, 16, KALM_BAD_FILE, "bytes" },      { 36, 31, KALM_BAD_FILE, "bits" },    { 64, 0x7f800000u, KALM_BAD_FILE, "row 0" },
        { 64, 0xff800000u, KALM_BAD_FILE, "row 0" }, { 64 + 191 * 4, 0x7fc00000u, KALM_BAD_FILE, "row 0" },
        { 64 + 192 * 4, 0xffffffffu, KALM_BAD_FILE, "row 1" }, { 64, 0x7f7fffffu, KALM_OK, NULL }, { 64, 0x80000001u, KALM_OK, NULL } };
    kalm_context *ctx = context(NULL);
    kalm_params p = zero_params();
    kalm_text text = text_of(documents[5]);
    kalm_doc *doc = NULL, *other = NULL;
    kalm_error err;
    kalm_score score;
    unsigned char *bytes;
    const unsigned char *good;
    size_t size = 0, i;
    p.bits = 32;
    if (!CHECK(kalm_encode(ctx, &text, 1, &p, &doc, &err) == KALM_OK)) return;
    good = (const unsigned char *)kalm_doc_bytes(doc, &size);
    bytes = (unsigned char *)malloc(size);
    for (i = 0; i < sizeof fault / sizeof *fault; i++) {
        memcpy(bytes, good, size);
        kalm__put_u32(bytes + fault[i].at, fault[i].value);
        kalm__put_u64(bytes + 40, kalm__doc_checksum(bytes, size));
        if (fault[i].want) REFUSED(kalm_doc_open(model, bytes, size, 0, &other, &err), fault[i].want, fault[i].word);
        else CHECKF(kalm_doc_open(model, bytes, size, 0, &other, &err) == KALM_OK, "fault %u: %s", (unsigned)i, err.text);
        kalm_doc_free(other);
        other = NULL;
    }
    for (i = 8; i < 16; i++) {         /* every byte of the fingerprint counts */
        memcpy(bytes, good, size);
        bytes[i] ^= 0x10;
        kalm__put_u64(bytes + 40, kalm__doc_checksum(bytes, size));
        REFUSED(kalm_doc_open(model, bytes, size, 0, &other, &err), KALM_MISMATCH, "model");
    }
    for (i = 40; i < 48; i++) {        /* and every byte of the checksum */
        memcpy(bytes, good, size);
        bytes[i] ^= 1;
        REFUSED(kalm_doc_open(model, bytes, size, 0, &other, &err), KALM_BAD_FILE, "checksum");
    }
    memcpy(bytes, good, size);
    bytes[size - 1] ^= 1;
    REFUSED(kalm_doc_open(model, bytes, size, KALM_BORROW, &other, &err), KALM_BAD_FILE, "checksum");
    /* a document of other weights that is open already */
    doc->info.fingerprint ^= 1;
    REFUSED(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)&doc, 1, NULL, &score, &err), KALM_MISMATCH, "document 0");
    doc->info.fingerprint ^= 1;
    /* one of a model of another width whose file was forged to carry the same fingerprint */
    doc->info.width += 64;
    REFUSED(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)&doc, 1, NULL, &score, &err), KALM_MISMATCH, "rows of 256 numbers");
    doc->info.width -= 64;
    /* rows that are finite and whose sum is not: no coarser document, and what was begun is given back (fence.c counts) */
    memcpy(bytes, good, size);
    for (i = KALM__DOC_HEADER; i < size; i += 4) kalm__put_u32(bytes + i, 0x7f7fffffu);
    kalm__put_u64(bytes + 40, kalm__doc_checksum(bytes, size));
    if (CHECKF(kalm_doc_open(model, bytes, size, 0, &other, &err) == KALM_OK, "%s", err.text)) {
        kalm_doc *coarser = doc;
        REFUSED(kalm_doc_repool(model, other, 8, 0, &coarser, &err), KALM_OVERFLOW, "row 0 of the coarser document");
        CHECK(coarser == NULL);
    }
    kalm_doc_free(other);
    kalm_doc_free(doc);
    free(bytes);
    kalm_context_free(ctx);
}

/* Numbers of 8 bits: off by half a step at most, groups of 64 with a scale each; of 16 bits: by half a unit of the last
   place. */
static void test_rounding_of_rows(void)
{
    enum { WIDTH = 150 };
    unsigned char bytes[WIDTH * 4 + 64];
    kalm_doc doc;
    float row[WIDTH], back[WIDTH];
    uint64_t state = 3;
    size_t i, round;
    for (round = 0; round < 50; round++) {
        for (i = 0; i < WIDTH; i++) row[i] = test_random_float(&state) * (i / 64 == 0 ? 1.0f : i / 64 == 1 ? 300.0f : 0.004f);
        memset(&doc, 0, sizeof doc);
        doc.bytes = bytes;
        doc.info.width = WIDTH;
        for (doc.info.bits = 8; doc.info.bits <= 32; doc.info.bits *= 2) {
            kalm__doc_write_row(bytes + KALM__DOC_HEADER, row, WIDTH, doc.info.bits);
            kalm__doc_read_row(&doc, 0, back);
            for (i = 0; i < WIDTH; i++) {
                float most = 0, error = fabsf(row[i] - back[i]), allowed = 0;
                size_t k;
                for (k = i / 64 * 64; k < WIDTH && k < i / 64 * 64 + 64; k++) most = fabsf(row[k]) > most ? fabsf(row[k]) : most;
                if (doc.info.bits == 8) allowed = most / 127.0f * 0.5f + most / 2048.0f;   /* the scale itself is a half */
                if (doc.info.bits == 16) allowed = fabsf(row[i]) / 2048.0f + 3e-8f;
                CHECKF(error <= allowed, "%u bits: %g came back as %g", (unsigned)doc.info.bits, (double)row[i], (double)back[i]);
            }
        }
    }
    /* 16 bits end at 65504: numbers beyond are clipped, on either side, and infinity stays what it is */
    {
        static const float far_out[6] = { 65504.0f, -65504.0f, 65520.0f, -65520.0f, 3e38f, -3e38f };
        memset(row, 0, sizeof row);
        memcpy(row, far_out, sizeof far_out);
        doc.info.bits = 16;
        kalm__doc_write_row(bytes + KALM__DOC_HEADER, row, WIDTH, 16);
        kalm__doc_read_row(&doc, 0, back);
        for (i = 0; i < 6; i++) CHECKF(fabsf(back[i]) == 65504.0f && (back[i] < 0) == (i & 1), "%g came back as %g", (double)row[i], (double)back[i]);
        /* 8 bits end at 127 times the largest scale, a half as well */
        row[2] = 65504.0f * 127.0f, row[3] = -65504.0f * 127.0f;
        doc.info.bits = 8;
        kalm__doc_write_row(bytes + KALM__DOC_HEADER, row, WIDTH, 8);
        kalm__doc_read_row(&doc, 0, back);
        for (i = 2; i < 6; i++)
            CHECKF(fabsf(back[i]) == 65504.0f * 127.0f && (back[i] < 0) == (i & 1), "%g came back as %g", (double)row[i], (double)back[i]);
    }
    /* a group whose largest number is 127 has the scale 1: whole numbers, in the middle of two the one away from zero */
    {
        static const float from[9] = { 127.0f, 0.5f, -0.5f, 2.5f, -2.5f, 0.4995f, -0.4995f, 1.4995f, -126.5f };
        static const float to[9] = { 127, 1, -1, 3, -3, 0, 0, 1, -127 };
        memset(row, 0, sizeof row);
        memcpy(row, from, sizeof from);
        kalm__doc_write_row(bytes + KALM__DOC_HEADER, row, WIDTH, 8);
        kalm__doc_read_row(&doc, 0, back);
        for (i = 0; i < WIDTH; i++)
            CHECKF(!(fabsf(back[i] - (i < 9 ? to[i] : 0)) > 0), "%g came back as %g", (double)row[i], (double)back[i]);
    }
}

/* A document whose tokens fill its last row, one that has a token more, and one that has a token less. */
static void test_full_last_row(void)
{
    kalm_context *ctx = context(NULL);
    kalm_params p = zero_params();
    static int32_t ids[32];
    kalm_ids some;
    kalm_error err;
    size_t i;
    for (i = 0; i < 32; i++) ids[i] = (int32_t)(40 + i);
    some.data = ids;
    p.ratio = 4;
    for (some.count = 7; some.count <= 9; some.count++) {
        kalm_doc *doc = NULL, *again = NULL;
        kalm_doc_info info;
        size_t size;
        const void *bytes;
        CHECK(kalm_encode_ids(ctx, &some, 1, &p, &doc, &err) == KALM_OK);
        bytes = kalm_doc_bytes(doc, &size);
        CHECKF(kalm_doc_open(model, bytes, size, 0, &again, &err) == KALM_OK, "%u tokens: %s", (unsigned)some.count, err.text);
        kalm_doc_get_info(again, &info);
        CHECK(info.rows == (some.count + 3) / 4);
        kalm_doc_free(again);
        kalm_doc_free(doc);
    }
    {                                  /* the largest ratio: one row of all tokens */
        kalm_doc *doc = NULL, *coarser = NULL;
        kalm_doc_info info;
        kalm_score s;
        some.count = 32;
        p.ratio = UINT32_MAX;
        CHECKF(kalm_encode_ids(ctx, &some, 1, &p, &doc, &err) == KALM_OK, "%s", err.text);
        kalm_doc_get_info(doc, &info);
        CHECK(info.rows == 1 && info.ratio == UINT32_MAX);
        CHECKF(kalm_rerank(ctx, text_of("q"), (const kalm_doc *const *)&doc, 1, NULL, &s, &err) == KALM_OK, "%s", err.text);
        CHECKF(kalm_doc_repool(model, doc, UINT32_MAX, 8, &coarser, &err) == KALM_OK, "%s", err.text);
        kalm_doc_free(coarser);
        kalm_doc_free(doc);
    }
    kalm_context_free(ctx);
}

/* A prompt of exactly as many tokens as the context takes, by its text, and one token more. */
static void test_prompt_border(void)
{
    kalm_config config = zero_config();
    kalm_params p = zero_params();
    kalm_text text = text_of("short"), query = text_of("q");
    static char instruction[4096];
    kalm_error err;
    kalm_score s;
    kalm_context *ctx;
    int over = 0, taken = 0;
    size_t words, most;
    config.max_query_tokens = 4;
    ctx = context(&config);
    most = ctx->max_prompt;
    for (words = most - 120; words < most + 20; words++) {
        kalm__job job;
        kalm__prompt prompt;
        kalm_result r;
        size_t i;
        for (i = 0; i < words; i++) memcpy(instruction + 2 * i, " a", 2);
        p.instruction.data = instruction;
        p.instruction.size = 2 * words;
        kalm__job_begin(&job, &p, 0, 0);
        r = kalm__take_prompt(ctx, query, &job, &prompt, &err);
        if (prompt.tokens < most || prompt.tokens > most + 1) continue;
        if (prompt.tokens == most) {
            taken++;
            CHECK(r == KALM_OK && kalm_rerank_texts(ctx, query, &text, 1, &p, &s, &err) == KALM_OK);
        } else {
            over++;
            REFUSED(kalm_rerank_texts(ctx, query, &text, 1, &p, &s, &err), KALM_BAD_ARGUMENT, "max_query_tokens");
        }
    }
    CHECKF(taken && over, "%d and %d prompts at the border", taken, over);
    kalm_context_free(ctx);
}

/* Words like "<end_of_turn>" in documents, instructions, system texts and queries are characters, unless the caller says that
   they are marks. */
static int has_token(const int32_t *ids, size_t n, int32_t id)
{
    int found = 0;
    size_t i;
    for (i = 0; i < n; i++) found += ids[i] == id;
    return found;
}
static void test_marks(void)
{
    kalm_context *ctx = context(NULL);
    kalm_params p = zero_params();
    kalm__job job;
    kalm__prompt prompt;
    kalm_text mark = text_of("a <end_of_turn> b");
    kalm_error err;
    int32_t ids[600], end;
    size_t n = 0, usual;
    int where, flag;
    CHECK(kalm_tokenize(model, text_of("<end_of_turn>"), KALM_PARSE_CONTROL, &end, 1, &n, &err) == KALM_OK && n == 1);
    kalm__job_begin(&job, &p, 0, 0);
    CHECK(kalm__take_prompt(ctx, text_of("q"), &job, &prompt, &err) == KALM_OK);
    usual = (size_t)has_token(prompt.ids, prompt.tokens, end);
    CHECK(usual >= 1);                 /* the template's own */
    for (where = 0; where < 4; where++)
        for (flag = 0; flag < 2; flag++) {
            size_t want = usual + (size_t)flag;
            p = zero_params();
            p.flags = flag ? KALM_PARSE_CONTROL : 0;
            if (where == 0) {
                CHECK(kalm__document_ids(ctx, mark, &job, ids, 600, &n, &err) == KALM_OK && n < 600);
                CHECKF(has_token(ids, n, end) == flag, "a mark in a document, flag %d", flag);
                continue;
            }
            if (where == 1) p.instruction = mark;
            if (where == 2) p.system = mark;
            CHECK(kalm__take_prompt(ctx, where == 3 ? mark : text_of("q"), &job, &prompt, &err) == KALM_OK);
            CHECKF((size_t)has_token(prompt.ids, prompt.tokens, end) == want, "a mark in text %d of the prompt, flag %d", where, flag);
        }
    kalm_context_free(ctx);
}

/* Exactly at a limit is allowed, one more is not: rows of a document, tokens of a prompt, ids of the vocabulary. */
static void test_borders(void)
{
    kalm_config config = zero_config();
    kalm_context *big = context(NULL), *ctx;
    static int32_t ids[4096];
    kalm_params p = zero_params();
    kalm_ids some;
    kalm_doc *doc = NULL;
    kalm_score s;
    kalm_error err;
    size_t i, rows;
    config.max_doc_tokens = 40;
    config.max_query_tokens = 20;
    ctx = context(&config);
    rows = ctx->rows;
    for (i = 0; i < 4096; i++) ids[i] = (int32_t)(30 + i % 500);
    some.data = ids;
    p.ratio = 1;
    for (i = rows - 1; i <= rows + 1; i++) {
        some.count = i;
        CHECKF(kalm_encode_ids(big, &some, 1, &p, &doc, &err) == KALM_OK, "%s", err.text);
        if (i <= rows) CHECKF(kalm_rerank(ctx, text_of("q"), (const kalm_doc *const *)&doc, 1, NULL, &s, &err) == KALM_OK, "%s", err.text);
        else REFUSED(kalm_rerank(ctx, text_of("q"), (const kalm_doc *const *)&doc, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "rows");
        if (i != rows + 1) kalm_doc_free(doc);
    }
    kalm_doc_free(doc);
    some.count = 10;
    CHECK(kalm_encode_ids(ctx, &some, 1, &p, &doc, &err) == KALM_OK);
    for (i = ctx->max_prompt - 1; i <= ctx->max_prompt + 1; i++) {
        some.count = i;
        if (i <= ctx->max_prompt) CHECK(kalm_rerank_ids(ctx, some, (const kalm_doc *const *)&doc, 1, NULL, &s, &err) == KALM_OK);
        else REFUSED(kalm_rerank_ids(ctx, some, (const kalm_doc *const *)&doc, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "tokens");
    }
    some.count = 3;
    for (i = 0; i < 6; i++) {
        static const int32_t odd[6] = { 8191, 8192, 8193, -1, INT32_MAX, INT32_MIN };
        int fine = odd[i] == 8191;
        kalm_doc *made = NULL;
        ids[2] = odd[i];
        if (fine) CHECK(kalm_encode_ids(ctx, &some, 1, &p, &made, &err) == KALM_OK);
        else REFUSED(kalm_encode_ids(ctx, &some, 1, &p, &made, &err), KALM_BAD_ARGUMENT, "place 2");
        kalm_doc_free(made);
        if (fine) CHECK(kalm_rerank_ids(ctx, some, (const kalm_doc *const *)&doc, 1, NULL, &s, &err) == KALM_OK);
        else REFUSED(kalm_rerank_ids(ctx, some, (const kalm_doc *const *)&doc, 1, NULL, &s, &err), KALM_BAD_ARGUMENT, "place 2");
    }
    kalm_doc_free(doc);
    kalm_context_free(ctx);
    kalm_context_free(big);
}

/* Document and query cut at their limits or not: which of the two, and from which token on. */
static void test_cut(void)
{
    kalm_config config = zero_config();
    kalm_context *ctx;
    size_t n = 0, limit;
    kalm_text text = text_of(documents[5]);
    kalm_doc *doc = NULL;
    kalm_doc_info info;
    kalm_score s;
    kalm_error err;
    config.max_doc_tokens = 16;
    ctx = context(&config);
    CHECK(kalm_encode(ctx, &text, 1, NULL, &doc, &err) == KALM_OK);
    if (doc) {
        kalm_doc_get_info(doc, &info);
        CHECKF(info.tokens > 16 && info.tokens_used == 16 && info.rows == 4, "%u tokens, %u used, %u rows", (unsigned)info.tokens,
               (unsigned)info.tokens_used, (unsigned)info.rows);
        CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)&doc, 1, NULL, &s, &err) == KALM_OK &&
              s.cut == KALM_CUT_DOCUMENT);
        /* the limit is 16 tokens: 15, 16 and 17 of them */
        for (limit = info.tokens - 1; limit <= info.tokens + 1; limit++) {
            kalm_context *other;
            kalm_doc *made = NULL;
            config.max_doc_tokens = (uint32_t)limit;
            other = context(&config);
            CHECK(kalm_encode(other, &text, 1, NULL, &made, &err) == KALM_OK);
            kalm_doc_get_info(made, &info);
            CHECK(info.tokens_used == kalm__min(limit, info.tokens));
            CHECK(kalm_rerank(other, text_of(query_text), (const kalm_doc *const *)&made, 1, NULL, &s, &err) == KALM_OK);
            CHECK(s.cut == (limit < info.tokens ? KALM_CUT_DOCUMENT : 0));
            kalm_doc_free(made);
            kalm_context_free(other);
        }
    }
    CHECK(kalm_rerank_texts(ctx, text_of(query_text), &text, 1, NULL, &s, &err) == KALM_OK && s.cut == KALM_CUT_DOCUMENT);
    kalm_context_free(ctx);
    text = text_of("short");
    CHECK(kalm_tokenize(model, text_of(query_text), 0, NULL, 0, &n, &err) == KALM_OK && n > 2);
    for (limit = n - 1; limit <= n + 1; limit++) {
        kalm_score again, top;
        size_t found = 0;
        int32_t ids[64];
        char kept[512];
        uint32_t cut = limit < n ? KALM_CUT_QUERY : 0;
        config = zero_config();
        config.max_query_tokens = (uint32_t)limit;
        ctx = context(&config);
        CHECK(kalm_rerank_texts(ctx, text_of(query_text), &text, 1, NULL, &s, &err) == KALM_OK && s.cut == cut);
        if (doc) {
            CHECK(kalm_rerank(ctx, text_of(query_text), (const kalm_doc *const *)&doc, 1, NULL, &again, &err) == KALM_OK);
            CHECK(again.cut == (cut | KALM_CUT_DOCUMENT));
            CHECK(kalm_rerank_top(ctx, text_of(query_text), (const kalm_doc *const *)&doc, 1, 1, NULL, &top, &found, &err) == KALM_OK);
            CHECK(found == 1 && memcmp(&top, &again, sizeof top) == 0);
        }
        /* a query that is cut scores as its beginning does */
        CHECK(kalm_tokenize(model, text_of(query_text), 0, ids, limit, &n, &err) == KALM_OK);
        CHECK(kalm_detokenize(model, ids, kalm__min(limit, n), kept, sizeof kept - 1, &found, &err) == KALM_OK && found < sizeof kept);
        kept[found] = 0;
        CHECK(kalm_rerank_texts(ctx, text_of(kept), &text, 1, NULL, &again, &err) == KALM_OK);
        CHECK(again.margin == s.margin && again.cut == 0);
        kalm_context_free(ctx);
    }
    kalm_doc_free(doc);
}

/* A prompt of more tokens than prompts usually have room for together (KALM__PROMPT_ROWS): it goes alone, whatever the context. */
static void test_long_query(void)
{
    static char query[4000];
    const kalm_text texts[2] = { { "short", KALM_NUL }, { "a text editor", KALM_NUL } };
    kalm_config config = zero_config();
    kalm_score s[2], wider[2], alone;
    kalm_error err;
    size_t i, n = 0;
    for (i = 0; i < 1300; i++) memcpy(query + 3 * i, i % 7 ? " of" : " to", 3);
    CHECK(kalm_tokenize(model, text_of(query), 0, NULL, 0, &n, &err) == KALM_OK);
    if (!CHECKF(n > KALM__PROMPT_ROWS && n < 1500, "%u tokens", (unsigned)n)) return;
    for (i = 0; i < 2; i++) {
        kalm_context *ctx;
        config.max_query_tokens = i ? 2500 : 1500;
        ctx = context(&config);
        CHECKF(kalm_rerank_texts(ctx, text_of(query), texts, 2, NULL, i ? wider : s, &err) == KALM_OK, "%s", err.text);
        if (!i) CHECK(kalm_rerank_texts(ctx, text_of(query), &texts[1], 1, NULL, &alone, &err) == KALM_OK && alone.margin == s[1].margin && !alone.cut);
        kalm_context_free(ctx);
    }
    CHECK(!memcmp(s, wider, sizeof s));
    {                                  /* the last tokens of a context whose rows are no multiple of the 64 that share a row of angles */
        kalm_text text = text_of(query);
        kalm_doc *doc[2];
        size_t size[2];
        const void *bytes[2];
        for (i = 0; i < 2; i++) {
            kalm_context *ctx;
            config.max_doc_tokens = 544;
            config.max_query_tokens = i ? 512 : 32;
            ctx = context(&config);
            CHECK(i || ctx->rows == 544);
            CHECKF(kalm_encode(ctx, &text, 1, NULL, &doc[i], &err) == KALM_OK, "%s", err.text);
            bytes[i] = kalm_doc_bytes(doc[i], &size[i]);
            kalm_context_free(ctx);
        }
        CHECK(size[0] == size[1] && !memcmp(bytes[0], bytes[1], size[0]));
        kalm_doc_free(doc[0]);
        kalm_doc_free(doc[1]);
    }
}

/* What a context reads at most; more is refused, by kalm_context_bytes as well, with both numbers in the sentence. */
static void test_limits(void)
{
    kalm_config config = zero_config();
    kalm_context *ctx = NULL;
    kalm_error err;
    size_t bytes = 1;
    uint32_t most = model->file.shape.side[KALM__DECODER].max_positions, i;
    char number[32];
    ctx = context(NULL);               /* unless said otherwise, or the model reads less */
    CHECK(ctx->max_query == kalm__min(512, most) && ctx->max_doc == kalm__min(1024, model->file.shape.side[KALM__ENCODER].max_positions));
    CHECK(ctx->pool.wanted == kalm__min(kalm__cores(), KALM__MAX_THREADS));
    kalm_context_free(ctx);
    for (config.threads = 1; config.threads <= 3; config.threads++) {        /* as many as are asked for, the caller's own among them */
        ctx = context(&config);
        CHECK(ctx->pool.size == config.threads);
        kalm_context_free(ctx);
    }
    config = zero_config();
    ctx = NULL;
    sprintf(number, "reads %lu", (unsigned long)most);
    for (i = 0; i < 3; i++) {
        config.max_query_tokens = i == 0 ? UINT32_MAX : i == 1 ? UINT32_MAX - 511 : most + 1;
        REFUSED(kalm_context_new(model, &config, &ctx, &err), KALM_BAD_ARGUMENT, "max_query_tokens");
        CHECK(ctx == NULL && strstr(err.text, number));
        REFUSED(kalm_context_bytes(model, &config, &bytes, &err), KALM_BAD_ARGUMENT, number);
        CHECK(bytes == 0);
    }
    config.max_query_tokens = most;
    CHECKF(kalm_context_bytes(model, &config, &bytes, &err) == KALM_OK && bytes > 0, "%s", err.text);
    config = zero_config();
    most = model->file.shape.side[KALM__ENCODER].max_positions;
    config.max_doc_tokens = most + 1;
    REFUSED(kalm_context_new(model, &config, &ctx, &err), KALM_BAD_ARGUMENT, "max_doc_tokens");
    config.max_doc_tokens = most;
    CHECKF(kalm_context_bytes(model, &config, &bytes, &err) == KALM_OK && bytes > 0, "%s", err.text);
}

#endif
