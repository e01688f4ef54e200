/* test_modelfile.c - the borders of everything that a model file says about itself: an offset, a size or a number exactly at its
   limit opens, one beyond it is refused in a sentence that names it, and offsets so large that sums of them wrap are refused.
   Files are made from the bundled model's by changing one field and computing the checksums of the header anew. */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

static unsigned char *whole;           /* the model, as it is */
static unsigned char *bytes;           /* a copy to change, at a multiple of 64 */
static size_t size;

/* Of section `type`: its entry in the table of `bytes`, and what it says. */
static unsigned char *entry(uint32_t type)
{
    uint32_t i;
    for (i = 0; i < kalm__u32(bytes + 12); i++)
        if (kalm__u32(bytes + 64 + 32 * i) == type) return bytes + 64 + 32 * i;
    CHECKF(0, "no section %u", (unsigned)type);
    return bytes + 64;
}
static uint64_t begin(uint32_t type) { return kalm__u64(entry(type) + 8); }
static uint64_t length(uint32_t type) { return kalm__u64(entry(type) + 16); }

/* The entry of a tensor in TENSORS. */
static unsigned char *tensor(uint32_t kind, uint32_t layer)
{
    unsigned char *t = bytes + begin(KALM__SECTION_TENSORS), *end = t + length(KALM__SECTION_TENSORS);
    for (; t < end; t += 64)
        if (kalm__u32(t) == kind && kalm__u32(t + 4) == layer) return t;
    CHECKF(0, "no tensor %u", (unsigned)kind);
    return bytes;
}

static void fresh(void) { memcpy(bytes, whole, size); }

static void seal(void)
{
    uint32_t count = kalm__u32(bytes + 12);
    kalm__put_u64(bytes + 24, kalm__table_fingerprint(bytes + 64, count > 16 ? 16 : count));
    memset(bytes + 32, 0, 8);
    kalm__put_u64(bytes + 32, kalm__hash(bytes, 64 + 32 * (size_t)(count > 16 ? 16 : count)));
}

/* The file opens (words NULL), or is refused with these words. */
static void expect_at(int line, const char *words)
{
    kalm_model *m;
    kalm_error err;
    kalm_result r;
    seal();
    r = kalm_model_open_memory(bytes, size, NULL, &m, &err);
    if (words) CHECKF(r == KALM_BAD_FILE && !m && strstr(err.text, words), "line %d: %d, %s", line, (int)r, err.text);
    else CHECKF(!r, "line %d: %s", line, err.text);
    kalm_model_close(m);
    fresh();
}
#define OPENS() expect_at(__LINE__, NULL)
#define REFUSED(words) expect_at(__LINE__, words)

static void test_header(void)
{
    OPENS();
    kalm__put_u32(bytes + 12, 0);
    REFUSED("the model file's header speaks of 0 sections");
    kalm__put_u32(bytes + 12, 17);
    REFUSED("the model file's header speaks of 17 sections");
    kalm__put_u64(bytes + 16, size + 1);
    REFUSED("was cut short");
    kalm__put_u64(bytes + 16, size - 1);
    REFUSED("bytes, it has ");
    bytes[40] = 1;                     /* sealed: a part of another model (test_parts.c has the rest) that lacks nothing */
    REFUSED("says that it is a part of model 0000000000000001 and lacks parts 0, which cannot be");
    bytes[52] = 1;
    REFUSED("bytes 52 to 63 of the model file's header are not zero");
    {
        kalm_model *m;
        kalm_error err;
        unsigned i;
        for (i = 8; i < 64 + 6 * 32; i++) {        /* any bit of header and table; not sealed */
            bytes[i] ^= 1;
            CHECKF(kalm_model_open_memory(bytes, size, NULL, &m, &err) && !m, "byte %u may change", i);
            fresh();
        }
        for (i = 24; i < 32; i++) {                /* the fingerprint, with the header's checksum computed anew */
            bytes[i] ^= 1;
            memset(bytes + 32, 0, 8);
            kalm__put_u64(bytes + 32, kalm__hash(bytes, 64 + 32 * (size_t)kalm__u32(bytes + 12)));
            CHECKF(kalm_model_open_memory(bytes, size, NULL, &m, &err) == KALM_BAD_FILE && !m &&
                   strstr(err.text, "the model file's fingerprint does not match its sections"), "byte %u: %s", i, err.text);
            fresh();
        }
        CHECK(kalm_model_open_memory(bytes, 63, NULL, &m, &err) == KALM_BAD_FILE && strstr(err.text, "it was cut short"));
        CHECK(kalm_model_open_memory(bytes, 64, NULL, &m, &err) == KALM_BAD_FILE && strstr(err.text, "it has 64: "));
        kalm__put_u64(bytes + 16, 64 + 6 * 32 - 1);
        CHECK(kalm_model_open_memory(bytes, 64 + 6 * 32 - 1, NULL, &m, &err) == KALM_BAD_FILE && strstr(err.text, "speaks of 6"));
        fresh();
    }
}

static void test_sections(void)
{
    const uint64_t table_end = 64 + 6 * 32, strings = KALM__SECTION_STRINGS, rows = KALM__SECTION_ROWS;
    CHECK(begin(KALM__SECTION_SHAPE) == (table_end + 63) / 64 * 64);
    /* ROWS is the last in the file: its end is the file's */
    CHECK(begin(rows) + length(rows) == size);
    kalm__put_u64(entry(rows) + 16, length(rows) + 1);
    REFUSED("section 6 of the model file lies at byte");
    kalm__put_u64(entry(strings) + 8, size / 64 * 64 + 64);
    kalm__put_u64(entry(strings) + 16, 0);
    REFUSED("section 2 of the model file lies at byte");
    kalm__put_u64(entry(strings) + 8, begin(strings) + 32);
    kalm__put_u64(entry(strings) + 16, length(strings) - 32);
    REFUSED("section 2 of the model file lies at byte");
    kalm__put_u64(entry(strings) + 8, (uint64_t)0 - 64);
    kalm__put_u64(entry(strings) + 16, 128);       /* their sum is 64 */
    REFUSED("section 2 of the model file lies at byte 18446744073709551552 with 128 bytes");
    kalm__put_u64(entry(strings) + 16, (uint64_t)0 - begin(strings) + 64);
    REFUSED("section 2 of the model file lies at byte");
    kalm__put_u64(entry(KALM__SECTION_SHAPE) + 8, 192);        /* inside the table */
    REFUSED("section 1 of the model file lies at byte 192");
    kalm__put_u64(entry(strings) + 8, begin(KALM__SECTION_TENSORS) + (length(KALM__SECTION_TENSORS) - 1) / 64 * 64);
    REFUSED("sections 2 and 3 of the model file overlap");
    kalm__put_u64(entry(KALM__SECTION_TENSORS) + 16, length(KALM__SECTION_TENSORS) + 64);      /* into what follows it */
    REFUSED("overlap");
    kalm__put_u32(entry(KALM__SECTION_WEIGHTS), 7);
    REFUSED("section 4 of the model file has type 7, which is unknown or out of order");
    kalm__put_u32(entry(rows), 7);
    REFUSED("section 5 of the model file has type 7, which is unknown or out of order");
    kalm__put_u64(entry(rows) + 16, length(rows) - 1);
    REFUSED("the ROWS section has");
    kalm__put_u32(entry(KALM__SECTION_WEIGHTS), 4);
    REFUSED("section 4 of the model file has type 4");
    kalm__put_u32(entry(KALM__SECTION_SHAPE), 0);
    REFUSED("section 0 of the model file has type 0");
    kalm__put_u64(entry(KALM__SECTION_TENSORS) + 16, length(KALM__SECTION_TENSORS) - 1);
    REFUSED("no multiple of 64");
    kalm__put_u64(entry(KALM__SECTION_TENSORS) + 16, length(KALM__SECTION_TENSORS) - 64);
    REFUSED("is missing");
}

/* A tensor of the weights: its data, scales and sums.
   Long: a list of damaged entries and the sentence that each must get. */
static void test_tensors(void)
{
    const uint32_t q = KALM__KIND(KALM__ENCODER, KALM__T_Q);
    const uint64_t low = begin(KALM__SECTION_WEIGHTS), high = low + length(KALM__SECTION_WEIGHTS);
    const uint64_t wrap = (uint64_t)0 - 64;
    uint64_t data = kalm__u64(tensor(q, 0) + 32), rows = kalm__u32(tensor(q, 0) + 16), scales = (rows + 15) / 16 * 64;
    static const char outside[] = "the scales of tensor encoder.0.q lie outside the weights";
    unsigned at;
    CHECK(kalm__u32(tensor(q, 0) + 8) == KALM__Q8 && high % 64 == 0 && data % 64 == 0);
    kalm__put_u64(tensor(q, 0) + 24, low);
    OPENS();
    kalm__put_u64(tensor(q, 0) + 24, low - 64);
    REFUSED("tensor encoder.0.q lies at byte");
    kalm__put_u64(tensor(q, 0) + 24, high - data);
    OPENS();
    kalm__put_u64(tensor(q, 0) + 24, high - data + 64);
    REFUSED("tensor encoder.0.q lies at byte");
    kalm__put_u64(tensor(q, 0) + 24, high + 64);
    REFUSED("tensor encoder.0.q lies at byte");
    kalm__put_u64(tensor(q, 0) + 24, wrap);
    REFUSED("tensor encoder.0.q lies at byte 18446744073709551552");
    kalm__put_u64(tensor(q, 0) + 24, high - data - 32);
    REFUSED("tensor encoder.0.q lies at byte");
    for (at = 40; at <= 48; at += 8) {             /* scales, sums */
        kalm__put_u64(tensor(q, 0) + at, low);
        OPENS();
        kalm__put_u64(tensor(q, 0) + at, high - scales);
        OPENS();
        kalm__put_u64(tensor(q, 0) + at, low - 64);
        REFUSED(outside);
        kalm__put_u64(tensor(q, 0) + at, high - scales + 64);
        REFUSED(outside);
        kalm__put_u64(tensor(q, 0) + at, high);
        REFUSED(outside);
        kalm__put_u64(tensor(q, 0) + at, high + 64);
        REFUSED(outside);
        kalm__put_u64(tensor(q, 0) + at, wrap);
        REFUSED(outside);
        kalm__put_u64(tensor(q, 0) + at, 0);
        REFUSED(outside);
        kalm__put_u64(tensor(q, 0) + at, high - scales - 4);
        REFUSED(outside);
    }
    kalm__put_u64(tensor(q, 0) + 32, data + 64);
    REFUSED("tensor encoder.0.q has ");
    kalm__put_u64(tensor(q, 0) + 32, data - 64);
    REFUSED("tensor encoder.0.q has ");
    kalm__put_u32(tensor(q, 0) + 16, (uint32_t)rows + 1);
    REFUSED("tensor encoder.0.q is ");
    kalm__put_u32(tensor(q, 0) + 20, kalm__u32(tensor(q, 0) + 20) + 1);
    REFUSED("tensor encoder.0.q is ");
    kalm__put_u32(tensor(q, 0) + 12, 2);
    REFUSED("tensor encoder.0.q has type 3, rotation 2, which it cannot have");
    kalm__put_u32(tensor(q, 0) + 12, 0);
    REFUSED("layer 0 of the encoder mixes types or rotations among q, k, v or gate, up");
    kalm__put_u32(tensor(q, 0) + 8, KALM__TYPES);
    REFUSED("tensor encoder.0.q has type 5");
    kalm__put_u32(tensor(KALM__KIND(KALM__ENCODER, KALM__T_NORM), 0) + 8, KALM__F16);
    REFUSED("tensor encoder.norm has type 1");
    kalm__put_u32(tensor(KALM__KIND(KALM__ENCODER, KALM__T_NORM), 0) + 4, 1);
    REFUSED("which no model has");
    {                                              /* a layer behind the last; kinds behind the last */
        uint32_t last = KALM__KIND(KALM__DECODER, KALM__T_POST_MLP), layers = 4;
        kalm__put_u32(tensor(last, layers - 1) + 4, layers);
        REFUSED("the model file has a tensor of kind 44, layer 4, which no model has");
        kalm__put_u32(tensor(KALM__KIND(KALM__DECODER, KALM__T_HEAD), 0), KALM__KIND(KALM__DECODER, KALM__T_KINDS));
        REFUSED("the model file has a tensor of kind 49, layer 0, which no model has");
        kalm__put_u32(tensor(KALM__KIND(KALM__DECODER, KALM__T_HEAD), 0), 64);
        REFUSED("the model file has a tensor of kind 64, layer 0, which no model has");
    }
    kalm__put_u32(tensor(q, 1) + 4, 0);
    REFUSED("tensor encoder.0.q comes twice or out of order");
    for (at = 0; at < 2; at++) {                   /* q, k and v of a decoder's layer alike, but not as layer 0's: type, rotation */
        static const uint32_t matrices[] = { KALM__T_Q, KALM__T_K, KALM__T_V };
        unsigned i;
        for (i = 0; i < 3; i++) {
            unsigned char *t = tensor(KALM__KIND(KALM__DECODER, matrices[i]), 2);
            if (at) {
                kalm__put_u32(t + 12, 0);
            } else {                               /* q4 takes fewer bytes, so it lies where q8 did */
                kalm__tensor as;
                memset(&as, 0, sizeof as);
                as.type = KALM__Q4;
                as.rows = kalm__u32(t + 16);
                as.cols = kalm__u32(t + 20);
                kalm__put_u32(t + 8, KALM__Q4);
                kalm__put_u64(t + 32, kalm__tensor_bytes(&as));
            }
        }
        REFUSED("layer 2 of the decoder has keys of another type than layer 0");
    }
}

/* Each tensor in turn is not in the table: it is missing, by its name, unless the decoder can take the encoder's. */
static void test_missing(void)
{
    uint32_t count = (uint32_t)(length(KALM__SECTION_TENSORS) / 64), i, k;
    for (i = 0; i < count; i++) {
        unsigned char *t = bytes + begin(KALM__SECTION_TENSORS) + 64 * (size_t)i;
        uint32_t kind = kalm__u32(t);
        char name[32], words[64];
        sprintf(words, "tensor %s is missing", kalm__tensor_name(name, kind, kalm__u32(t + 4)));
        memmove(t, t + 64, 64 * (size_t)(count - 1 - i));
        for (k = 0; k < kalm__u32(bytes + 12); k++)
            if (kalm__u32(bytes + 64 + 32 * k) == KALM__SECTION_TENSORS) kalm__put_u64(bytes + 64 + 32 * k + 16, 64 * (uint64_t)(count - 1));
        if (kind % 32 == KALM__T_EOI || kind == KALM__KIND(KALM__DECODER, KALM__T_EMBED)) OPENS();
        else REFUSED(words);
    }
}

/* q, k and v are packed as one, and so are gate and up: none of them has a type or a rotation of its own. */
static void test_mixed(void)
{
    static const uint32_t matrices[] = { KALM__T_Q, KALM__T_K, KALM__T_V, KALM__T_GATE, KALM__T_UP };
    unsigned i, side;
    for (side = 0; side < 2; side++)
        for (i = 0; i < 5; i++) {
            unsigned char *t = tensor(KALM__KIND(side, matrices[i]), 1);
            kalm__tensor as;
            kalm__put_u32(t + 12, !kalm__u32(t + 12));
            REFUSED("mixes types or rotations among q, k, v or gate, up");
            memset(&as, 0, sizeof as);
            as.type = KALM__Q4;                    /* takes fewer bytes, so it lies where q8 did */
            as.rows = kalm__u32(t + 16);
            as.cols = kalm__u32(t + 20);
            kalm__put_u32(t + 8, KALM__Q4);
            kalm__put_u64(t + 32, kalm__tensor_bytes(&as));
            REFUSED("mixes types or rotations among q, k, v or gate, up");
        }
}

/* A field of SHAPE by its place in the lists of format.h: the model's, or side s's. */
static unsigned char *shape(unsigned field) { return bytes + begin(KALM__SECTION_SHAPE) + 4 * field; }
static unsigned char *of_side(unsigned s, unsigned field) { return shape(8 + 14 * s + field); }

static void test_shape(void)
{
    uint32_t vocabulary = kalm__u32(shape(1));
    unsigned s;
    CHECK(KALM__SHAPE_BYTES == 32 && KALM__SIDE_BYTES == 56);
    kalm__put_u32(shape(3), vocabulary - 1);
    OPENS();
    kalm__put_u32(shape(3), vocabulary);
    REFUSED("answer");
    kalm__put_u32(shape(4), vocabulary - 1);
    OPENS();
    kalm__put_u32(shape(4), vocabulary);
    REFUSED("answer");
    kalm__put_u32(shape(0), KALM__TYPES);
    REFUSED("beyond the limits");
    kalm__put_u32(shape(2), 0);
    REFUSED("beyond the limits");
    kalm__put_u32(shape(2), KALM__MAX_HIDDEN + 1);
    REFUSED("beyond the limits");
    kalm__put_u32(shape(2), KALM__MAX_HIDDEN);     /* possible, but its tensors are of other sizes; so below */
    REFUSED("numbers ask for");
    kalm__put_u32(shape(1), KALM__MAX_VOCABULARY + 1);
    REFUSED("beyond the limits");
    kalm__put_u32(shape(1), KALM__MAX_VOCABULARY);
    REFUSED("the model's shape asks for");
    for (s = 0; s < 2; s++) {
        static const struct { unsigned field; uint32_t value; } bad[] = {
            { 0, 0 }, { 0, KALM__MAX_LAYERS + 1 }, { 1, 0 }, { 1, KALM__MAX_MLP + 1 }, { 2, 0 }, { 2, KALM__MAX_HEADS + 1 }, { 3, 0 },
            { 3, 0xffffffffu }, { 4, 0 }, { 4, KALM__MAX_HEAD_DIM + 2 }, { 4, 33 }, { 5, 0 }, { 6, 0 },
            { 5, KALM__MAX_POSITIONS + 1 }, { 6, KALM__MAX_POSITIONS + 1 },
            { 7, 0xbf800000u }, { 7, 0x7fc00000u }, { 8, 0 }, { 8, 0x7f800000u }, { 9, 0 }, { 10, 0 }, { 11, 0x7fc00000u }, { 12, 0xbf800000u }
        };
        unsigned i;
        for (i = 0; i < sizeof bad / sizeof *bad; i++) {
            kalm__put_u32(of_side(s, bad[i].field), bad[i].value);
            REFUSED(bad[i].field < 5 ? "'s shape is impossible" : "'s window, norm_eps, query scalar or rotary settings are impossible");
        }
        for (i = 0; i < 2; i++) {
            kalm__put_u32(of_side(s, i ? 4 : 1), i ? KALM__MAX_HEAD_DIM : KALM__MAX_MLP);
            REFUSED("the model's shape asks for");
            kalm__put_u32(of_side(s, 5 + i), KALM__MAX_POSITIONS);
            OPENS();
        }
        CHECK(kalm__u32(of_side(s, 2)) == 3 && kalm__u32(of_side(s, 3)) == 1);
        kalm__put_u32(of_side(s, 3), 2);           /* two kv heads for three heads */
        REFUSED("shape is impossible: 4 layers, MLP 512, 3 heads, 2 kv heads, head_dim 64");
    }
    bytes[begin(KALM__SECTION_SHAPE) + length(KALM__SECTION_SHAPE) - 1] = 2;
    REFUSED("layer 3 of the decoder has attention type 2, known are 0 and 1");
    kalm__put_u64(entry(KALM__SECTION_SHAPE) + 16, length(KALM__SECTION_SHAPE) - 1);
    REFUSED("the SHAPE section has ");
    kalm__put_u64(entry(KALM__SECTION_SHAPE) + 16, length(KALM__SECTION_SHAPE) + 1);
    REFUSED("the SHAPE section has ");
}

static void test_strings(void)
{
    uint64_t n = length(KALM__SECTION_STRINGS);
    unsigned char *last = bytes + begin(KALM__SECTION_STRINGS) + 8 * (KALM__STRINGS - 1);
    CHECK(kalm__u32(last) + kalm__u32(last + 4) == n);
    kalm__put_u32(last + 4, kalm__u32(last + 4) + 1);
    REFUSED("string 7 of the model file lies outside its section");
    kalm__put_u32(last, (uint32_t)n);
    kalm__put_u32(last + 4, 0);
    OPENS();
    kalm__put_u32(last, (uint32_t)n + 1);
    kalm__put_u32(last + 4, 0);
    REFUSED("string 7 of the model file lies outside its section");
    kalm__put_u32(last, 0xffffffffu);
    kalm__put_u32(last + 4, 2);
    REFUSED("string 7 of the model file lies outside its section");
    kalm__put_u64(entry(KALM__SECTION_STRINGS) + 16, 8 * KALM__STRINGS - 1);
    REFUSED("the STRINGS section has 63 bytes, too few for its 8 entries");
    {                                  /* a string has 1 MiB at most */
        static unsigned char long_ones[2 << 20];
        kalm__file f;
        kalm_error err;
        memset(&f, 0, sizeof f);
        f.section[KALM__SECTION_STRINGS].data = long_ones;
        f.section[KALM__SECTION_STRINGS].size = sizeof long_ones;
        kalm__put_u32(long_ones + 16, 64), kalm__put_u32(long_ones + 20, 1 << 20);
        CHECK(!kalm__read_strings(&f, &err) && f.string[2].size == 1 << 20);
        kalm__put_u32(long_ones + 20, (1 << 20) + 1);
        CHECK(kalm__read_strings(&f, &err) == KALM_BAD_FILE && strstr(err.text, "string 2 of the model file"));
    }
}

/* Damage anywhere in a section opens or not, but is found by verifying; the first and the last byte count. */
static void test_verify(void)
{
    static const char *const names[] = { "", "SHAPE", "STRINGS", "TENSORS", "TOKENIZER", "WEIGHTS" };
    uint32_t type;
    int where;
    for (type = 1; type <= 5; type++)
        for (where = 0; where < 3; where++) {
            kalm__file f;
            kalm_error err;
            char words[80];
            uint64_t n = length(type);
            fresh();
            CHECK(!kalm__file_open(&f, bytes, size, &err) && !kalm__file_verify(&f, &err));
            bytes[begin(type) + (where == 0 ? 0 : where == 1 ? n / 2 : n - 1)] ^= 0x40;
            snprintf(words, sizeof words, "section %s of the model file is damaged: its checksum does not match", names[type]);
            CHECKF(kalm__file_verify(&f, &err) == KALM_BAD_FILE && !strcmp(err.text, words), "%s", err.text);
        }
    fresh();
}

/* Each side reads as many positions as it says, whatever the other does. */
static void test_positions(void)
{
    enum { MAX_POSITIONS = 6 };        /* its place in KALM__SIDE_FIELDS */
    static const struct { uint32_t positions[2], doc, query; const char *refused; } cases[] = {
        { { 100, 200 }, 100, 200, NULL }, { { 100, 200 }, 101, 100, "max_doc_tokens is 101, the model's encoder reads 100" },
        { { 200, 100 }, 200, 100, NULL }, { { 200, 100 }, 100, 101, "max_query_tokens is 101, the model's decoder reads 100" }
    };
    unsigned i;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        kalm_model *m = NULL;
        kalm_model_info info;
        kalm_context *c = NULL;
        kalm_config config;
        kalm_error err;
        kalm_result r;
        memset(&config, 0, sizeof config);
        config.threads = 1;
        config.max_doc_tokens = cases[i].doc;
        config.max_query_tokens = cases[i].query;
        kalm__put_u32(of_side(0, MAX_POSITIONS), cases[i].positions[0]);
        kalm__put_u32(of_side(1, MAX_POSITIONS), cases[i].positions[1]);
        seal();
        if (!CHECKF(!kalm_model_open_memory(bytes, size, NULL, &m, &err), "%s", err.text)) continue;
        kalm_model_get_info(m, &info);
        CHECK(m->file.shape.side[0].max_positions == cases[i].positions[0] && info.max_tokens == cases[i].positions[0]);
        r = kalm_context_new(m, &config, &c, &err);
        if (cases[i].refused) CHECKF(r == KALM_BAD_ARGUMENT && !strcmp(err.text, cases[i].refused), "case %u: %s", i, err.text);
        else CHECK(!r && c->max_prompt == cases[i].positions[1]);
        kalm_context_free(c);
        memset(&config, 0, sizeof config);         /* defaults are cut to what there is */
        config.threads = 1;
        CHECK(!kalm_context_new(m, &config, &c, &err) && c->max_doc == cases[i].positions[0] && c->max_query == cases[i].positions[1]);
        kalm_context_free(c);
        kalm_model_close(m);
        fresh();
    }
}

/* A row of a table whose type is none has no bytes, and is zeros. */
static void test_no_type(void)
{
    static const unsigned char row[64] = { 1, 2, 3 };
    float out[32];
    unsigned i;
    for (i = 0; i < 32; i++) out[i] = 5;
    CHECK(kalm__embedding_row_bytes(KALM__TYPES, 32) == 0 && kalm__embedding_row_bytes(0xffffffffu, 32) == 0);
    kalm__embedding_row(KALM__TYPES, row, 32, out);
    for (i = 0; i < 32; i++) CHECK(out[i] <= 0 && out[i] >= 0);
}

int main(void)
{
    unsigned char *block;
    whole = test_read_file(TEST_BUILD "/tiny.kalm", &size);
    if (!CHECK(whole != NULL)) return test_end();
    block = (unsigned char *)malloc(size + 63);
    bytes = kalm__align64(block);
    fresh();
    test_header();
    test_sections();
    test_tensors();
    test_missing();
    test_mixed();
    test_shape();
    test_positions();
    test_strings();
    test_verify();
    test_no_type();
    free(whole);
    free(block);
    return test_end();
}
