/* test_rows.c - rows of 4, 3 and 2 bits: what is written is read; every kernel set leaves the same bytes and reads the same numbers;
   bytes that come from strangers; documents and models that do not belong together. On a section ROWS made by hand, and on the
   bundled tiny model. */
#include "guard.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"
#include "rows_bytes.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

enum { MOST = 200, ROWS = 40 };
static unsigned char section_room[1 << 18], *section;
static void *work_room;

static float number(uint64_t *state) { return (float)rows_draw(state, 20001) / 10000.0f - 1.0f; }

static int open_section(kalm__rowcode *c, uint32_t width, uint64_t seed)
{
    kalm_error err;
    section = kalm__align64(section_room);
    if (!CHECK(kalm__rows_places(width).size <= sizeof section_room - 64)) return 0;
    rows_bytes(section, width, seed);
    return CHECKF(kalm__rowcode_open(c, section, kalm__rows_places(width).size, 77, width, &err) == KALM_OK, "%s", err.text);
}

static kalm__row_work work_for(const kalm__kernels *k, size_t width)
{
    kalm__row_work w;
    size_t size = kalm__row_work_plan(&w, NULL, k, width);
    free(work_room);
    work_room = malloc(size + 64);
    kalm__row_work_plan(&w, kalm__align64(work_room), k, width);
    return w;
}

/* ---- the coder ---------------------------------------------------------------------------------------------------------- */

/* The levels of a row, read bit by bit by their definition (docs/FORMAT.md). Returns the step. */
static float read_levels(const kalm__rowcode *c, unsigned b, unsigned r, const unsigned char *bytes, size_t size, int32_t *levels)
{
    const uint8_t *classes = c->classes + (b * KALM__ROWS_RATIOS + r) * (size_t)c->width;
    uint64_t x = (uint64_t)bytes[0] << 16 | (uint64_t)bytes[1] << 8 | bytes[2];
    size_t at = 3;
    unsigned state = 0;
    uint32_t i, j;
#define REFILL while (x < 1u << 16 && at < size) x = x << 8 | bytes[at++]
#define TAKE(v, n) uint32_t v = (uint32_t)(x & ((1u << (n)) - 1)); x >>= (n); REFILL
    for (i = 0; i < c->count[b][r]; i++) {
        unsigned shift = classes[i] >> 5, symbol = 15;
        const uint16_t *start = c->start + ((classes[i] & 31u) * 2 + (state & 1)) * 16;
        uint32_t slot = (uint32_t)(x & 4095), next;
        int32_t h;
        while (slot < start[symbol]) symbol--;
        next = symbol < 15 ? start[symbol + 1] : 4096;
        x = (next - start[symbol]) * (x >> 12) + slot - start[symbol];
        REFILL;
        h = (int32_t)symbol - 7;
        if (symbol == 15) {
            TAKE(n, 4);
            TAKE(negative, 1);
            TAKE(rest, n);
            h = 7 + (int32_t)(1u << n | rest);
            if (negative) h = -h;
        }
        levels[i] = h;
        if (shift) {
            TAKE(low, shift);
            levels[i] = (int32_t)low + h * (1 << shift) - (1 << (shift - 1));
        }
        state = kalm__trellis[state][(uint32_t)levels[i] & 1];
    }
    for (j = 0; j < 40 && x >= 2 * KALM__ROWS_STEPS; j++) x >>= 1;
    CHECK(x >= KALM__ROWS_STEPS);
    return kalm__row_step(c, b, r, (uint32_t)x - KALM__ROWS_STEPS);
}

/* Levels come back as they were written, whatever the class, with small numbers and large, and the budget is kept. */
static void test_levels(void)
{
    static const uint32_t widths[4] = { 16, 33, 192, MOST };
    kalm__rowcode c;
    float y[MOST], back[MOST];
    unsigned char bytes[MOST], beside[8];
    uint64_t state = 5;
    unsigned i, b, r, round;
    for (i = 0; i < 4; i++) {
        kalm__row_work w;
        if (!open_section(&c, widths[i], i)) return;
        w = work_for(kalm__kernel_set(0, NULL, 1), c.width);
        for (round = 0; round < 12; round++)
            for (b = 0; b < 3; b++)
                for (r = 0; r < 6; r++) {
                    static const float sizes[12] = { 1, 0, .001f, 1000, 1, 1, 1e6f, 1, 30000, 1e20f, 3e38f, 1e-38f };
                    kalm__row_coding q;
                    buffer exact;
                    int32_t levels[MOST];
                    double error, all;
                    float step;
                    uint32_t k, s, bad = 0;
                    unsigned state_now = 0;
                    for (k = 0; k < c.width; k++) y[k] = number(&state) * sizes[round] * (round == 7 && k == 3 ? 1e5f : 1);
                    memset(bytes, 0xee, sizeof bytes);
                    kalm__row_begin(&q, &c, kalm__kernel_set(0, NULL, 1)->ops, &w, b, r, y, 1);
                    kalm__row_search(&q);
                    s = kalm__row_finish(&q, 0, bytes);
                    memset(beside, 0xee, sizeof beside);
                    CHECK(!memcmp(bytes + q.size, beside, kalm__min(8, sizeof bytes - q.size)));
                    if (!CHECK(bytes[0] != 0 && s < KALM__ROWS_STEPS)) continue;
                    step = read_levels(&c, b, r, bytes, q.size, levels);
                    CHECK(step == kalm__row_step(&c, b, r, s));
                    exact = take(q.size, 1);       /* nothing behind the row is read */
                    memcpy(exact.data, bytes, q.size);
                    kalm__row_read(&c, b, r, exact.data, q.size, back);
                    give(exact);
                    for (k = 0, error = all = 0; k < c.width; k++) {
                        float want = k < q.count ? kalm__times((float)kalm__level_steps(state_now & 1, levels[k]), step) : 0.0f;
                        if (k < q.count) {
                            bad += q.row[0].fit[k] != kalm__row_place(levels[k], state_now);
                            state_now = kalm__trellis[state_now][(uint32_t)levels[k] & 1];
                            error += ((double)y[k] - (double)want) * ((double)y[k] - (double)want);
                            all += (double)y[k] * (double)y[k];
                        }
                        bad += memcmp(&want, &back[k], sizeof want) != 0;
                    }
                    CHECKF(error <= all * 1.0001, "width %u, %u bits, round %u: the error is larger than the row", c.width, 4 - b, round);
                    CHECKF(!bad, "width %u, %u bits, ratio class %u, round %u: %u numbers differ", c.width, 4 - b, r, round, bad);
                }
    }
}

/* More bits leave less error; of ordinary rows little is left out. */
static void test_error(void)
{
    kalm__rowcode c;
    kalm__row_work w;
    float y[MOST], back[MOST];
    unsigned char bytes[MOST];
    double error[3] = { 0, 0, 0 }, all = 0;
    uint64_t state = 9;
    unsigned b, round;
    uint32_t k;
    if (!open_section(&c, 192, 1)) return;
    memset(section + kalm__rows_places(192).classes, 9, 18 * 192);         /* all classes alike, no component left out */
    for (b = 0; b < 3; b++) c.count[b][0] = 192;
    w = work_for(kalm__kernel_set(0, NULL, 1), c.width);
    for (round = 0; round < 60; round++) {
        for (k = 0; k < c.width; k++) y[k] = number(&state) + number(&state);
        for (k = 0; k < c.width; k++) all += (double)y[k] * (double)y[k];
        for (b = 0; b < 3; b++) {
            kalm__row_code(&c, kalm__kernel_set(0, NULL, 1)->ops, &w, b, 0, y, 1, bytes);
            kalm__row_read(&c, b, 0, bytes, kalm__coded_row_bytes(192, 4 - b), back);
            for (k = 0; k < c.width; k++) error[b] += (double)(y[k] - back[k]) * (double)(y[k] - back[k]);
        }
    }
    CHECKF(error[0] / all < .02 && error[1] / all < .06 && error[2] / all < .5, "%.3f %.3f %.3f", error[0] / all, error[1] / all,
           error[2] / all);
    CHECK(error[0] * 2 < error[1] && error[1] * 2 < error[2]);
}

/* A row is written alike alone and among others, in whatever lane, whatever the others are. */
static void test_together(void)
{
    kalm__rowcode c;
    kalm__row_work w;
    static float y[16 * MOST];
    unsigned char bytes[16 * MOST], alone[MOST];
    const kalm__kernels *k;
    uint64_t state = 3;
    size_t size, i, n;
    unsigned set;
    if (!open_section(&c, 192, 4)) return;
    for (set = 0; (k = kalm__kernel_set(set, NULL, 1)) != NULL; set++) {
        w = work_for(k, c.width);
        for (n = 1; n <= 16; n++) {
            unsigned b = (unsigned)n % 3;
            size = kalm__coded_row_bytes(c.width, 4 - b);
            for (i = 0; i < n * c.width; i++) y[i] = number(&state) * (i / c.width % 5 == 4 ? 1e4f : i / c.width % 3 ? 1.0f : .01f);
            kalm__row_code(&c, k->ops, &w, b, 2, y, n, bytes);
            for (i = 0; i < n; i++) {
                kalm__row_code(&c, k->ops, &w, b, 2, y + i * c.width, 1, alone);
                CHECKF(!memcmp(alone, bytes + i * size, size), "%s: row %zu of %zu differs from the same row alone", k->name, i, n);
            }
        }
    }
}

/* Of all sequences of levels that a short row can have, ops->trellis finds one that costs least, by costs that are computed here. */
static double least_cost(const float *rate, const float *y, float unit, size_t n, unsigned state)
{
    double best = 1e30;
    int32_t level;
    if (!n) return 0;
    for (level = -6; level <= 6; level++) {
        const float *r = rate + (state & 1) * 4;
        double v = (double)(*y * unit), l = abs(level) / 2.0, cost;
        double off = fabs(v) - (level ? l - (state & 1) * .25 : 0);
        if (level < 0 ? v > 0 : level > 0 && v < 0) continue;
        cost = off * off + (double)r[3] + (level ? (double)r[2] + (double)r[1] * l + (double)r[0] * l * l : 0);
        cost += least_cost(rate, y + 1, unit, n - 1, kalm__trellis[state][(uint32_t)level & 1]);
        if (cost < best) best = cost;
    }
    return best;
}

static void test_trellis(void)
{
    enum { N = 5 };
    kalm__rowcode c;
    uint64_t state = 8;
    unsigned round, set;
    const kalm__kernels *k;
    if (!open_section(&c, 192, 2)) return;
    for (round = 0; round < 24; round++) {
        float rate[256 * 8], y[N * KALM__TRELLIS], unit[KALM__TRELLIS], cost[8][KALM__TRELLIS], first[8][KALM__TRELLIS];
        int16_t floors[N * KALM__TRELLIS], from[N * KALM__TRELLIS], first_from[N * KALM__TRELLIS];
        uint8_t classes[N];
        unsigned i, j;
        memset(classes, (int)(round % 16), sizeof classes);
        for (i = 0; i < 2; i++) kalm__row_rate(rate + round % 16 * 8 + i * 4, c.cost + (round % 16 * 2 + i) * 16, 0);
        for (i = 0; i < N * KALM__TRELLIS; i++) y[i] = number(&state);
        for (i = 0; i < KALM__TRELLIS; i++) unit[i] = .5f + (float)i / 16;
        for (set = 0; (k = kalm__kernel_set(set, NULL, 1)) != NULL; set++) {
            k->ops->trellis(cost[0], floors, from, y, unit, rate, classes, N, KALM__TRELLIS);
            if (!set) memcpy(first, cost, sizeof first), memcpy(first_from, from, sizeof first_from);
            CHECKF(!memcmp(first, cost, sizeof first) && !memcmp(first_from, from, sizeof first_from), "%s: another way than the first set's", k->name);
        }
        for (j = 0; j < KALM__TRELLIS; j += 5) {
            double found = 1e30, want;
            float row[N];
            for (i = 0; i < N; i++) row[i] = y[i * KALM__TRELLIS + j], CHECK(floors[i * KALM__TRELLIS + j] == (int)floor((double)(4 * row[i] * unit[j])));
            for (i = 0; i < 8; i++) found = (double)cost[i][j] < found ? (double)cost[i][j] : found;
            want = least_cost(rate + round % 16 * 8, row, unit[j], N, 0);
            CHECKF(fabs(found - want) < 1e-4, "class %u, row %u: cost %.6f, the least is %.6f", round % 16, j, found, want);
        }
    }
}

/* A document in memory of `rows` rows at `bits`, made by one kernel set. */
static uint64_t make_rows(const kalm__rowcode *c, const kalm__kernels *k, unsigned char *out, uint32_t bits, uint32_t ratio, uint64_t seed)
{
    static float x[ROWS * MOST];
    kalm__row_work w = work_for(k, c->width);
    size_t i;
    for (i = 0; i < ROWS * c->width; i++) x[i] = 3 * number(&seed);
    kalm__doc_write_rows(c, k, &w, out, x, ROWS, bits, ratio);
    return kalm__hash(out, ROWS * kalm__coded_row_bytes(c->width, bits));
}

/* Every set writes the same bytes, which are pinned, and reads the same numbers, a row alone as among others. */
static void test_sets(void)
{
    static const struct { uint32_t width, bits, ratio; uint64_t bytes, numbers; } pinned[4] = {
        { 192, 4, 1, 0xfae7c771a7ec8ea4u, 0x7170176259a094abu }, { 192, 2, 4, 0x78a138bb2336a036u, 0x3826c083f6798b67u },
        { 100, 3, 32, 0x747755b38d040d88u, 0x6c4a68f6fc2601e9u }, { 16, 2, 7, 0x79ca51b2a5be89dau, 0xce2357e573df12fcu }
    };
    static unsigned char file[KALM__DOC_HEADER + ROWS * MOST];
    static float all[ROWS * MOST], one[MOST];
    const kalm__kernels *k;
    unsigned i, set;
    for (i = 0; i < 4; i++)
        for (set = 0; (k = kalm__kernel_set(set, NULL, 1)) != NULL; set++) {
            kalm__rowcode c;
            kalm__row_work w;
            kalm_doc doc;
            uint64_t bytes, numbers;
            unsigned row;
            if (!open_section(&c, pinned[i].width, 3)) return;
            bytes = make_rows(&c, k, file + KALM__DOC_HEADER, pinned[i].bits, pinned[i].ratio, 21);
            memset(&doc, 0, sizeof doc);
            doc.bytes = file;
            doc.info.width = pinned[i].width;
            doc.info.bits = pinned[i].bits;
            doc.info.ratio = pinned[i].ratio;
            doc.info.rows = ROWS;
            w = work_for(k, c.width);
            kalm__doc_read_rows(&c, k, &w, &doc, 0, ROWS, all);
            numbers = kalm__hash(all, ROWS * c.width * sizeof *all);
            CHECKF(bytes == pinned[i].bytes && numbers == pinned[i].numbers, "%s, case %u: 0x%016llxu, 0x%016llxu", k->name, i,
                   (unsigned long long)bytes, (unsigned long long)numbers);
            for (row = 0; row < ROWS; row += 7) {
                kalm__doc_read_rows(&c, k, &w, &doc, row, 1, one);
                CHECKF(!memcmp(one, all + row * c.width, c.width * sizeof *one), "%s: row %u alone is another", k->name, row);
            }
        }
}

/* Any bytes are rows: of finite numbers, read within their bounds. */
static void test_any_bytes(void)
{
    kalm__rowcode c;
    static float y[MOST];
    uint64_t state = 1;
    unsigned round, k, bad = 0;
    if (!open_section(&c, 192, 2)) return;
    for (round = 0; round < 3000; round++) {
        uint32_t bits = 2 + round % 3;
        size_t size = kalm__coded_row_bytes(192, bits), i;
        unsigned char *exact = (unsigned char *)malloc(size);      /* for the sanitizer */
        for (i = 0; i < size; i++) exact[i] = (unsigned char)(round % 5 == 4 ? 255 : round % 5 == 3 ? 0 : rows_draw(&state, 256));
        kalm__row_read(&c, 4 - bits, round % 6, exact, size, y);
        for (k = 0; k < 192; k++) bad += !kalm__is_finite(y[k]);
        free(exact);
    }
    CHECK(!bad);
}

/* Numbers that are none are marked, and the rows beside them are as ever. */
static void test_not_finite(void)
{
    static unsigned char good[ROWS * MOST], bad[ROWS * MOST];
    static float x[ROWS * MOST];
    kalm__rowcode c;
    kalm__row_work w;
    const kalm__kernels *k = kalm__kernel_set(0, NULL, 1);
    kalm_doc_info info;
    size_t size = kalm__coded_row_bytes(192, 3), i;
    uint64_t state = 4;
    if (!open_section(&c, 192, 2)) return;
    w = work_for(k, 192);
    for (i = 0; i < ROWS * 192; i++) x[i] = number(&state);
    kalm__doc_write_rows(&c, k, &w, good, x, ROWS, 3, 1);
    state = 4;
    for (i = 0; i < ROWS * 192; i++) x[i] = number(&state);
    x[17 * 192 + 5] = (float)INFINITY;
    x[30 * 192] = (float)NAN;
    kalm__doc_write_rows(&c, k, &w, bad, x, ROWS, 3, 1);
    memset(&info, 0, sizeof info);
    info.rows = ROWS;
    info.width = 192;
    info.bits = 3;
    CHECK(kalm__doc_overflow(good, &info) == ROWS && kalm__doc_overflow(bad, &info) == 17);
    for (i = 0; i < ROWS; i++)
        CHECKF(i == 17 || i == 30 ? bad[i * size] == 0 : !memcmp(good + i * size, bad + i * size, size), "row %u", (unsigned)i);
}

/* What a section is refused for. */
static void test_sections(void)
{
    static const struct { unsigned at; uint32_t value; kalm_result want; const char *word; } fault[] = {
        { 0, 1, KALM_BAD_VERSION, "version 1" }, { 4, 191, KALM_BAD_FILE, "191" }, { 8, 9, KALM_BAD_FILE, "9 heavy" },
        { 16, 0, KALM_BAD_FILE, "step" }, { 16, 0x7fc00000u, KALM_BAD_FILE, "step" }, { 16, 0x551184e7u /* 1e13 */, KALM_BAD_FILE, "step" },
        { 260, 0x00200020u /* a symbol of no width */, KALM_BAD_FILE, "class 0" }, { 84, 0xbf800000u, KALM_BAD_FILE, "2 bits" },
        { 88, 193, KALM_BAD_FILE, "count" }, { 256, 1, KALM_BAD_FILE, "class 0" }, { 260, 0x00010001u, KALM_BAD_FILE, "class 0" },
        { 2300, 0xffffffffu, KALM_BAD_FILE, "class 31" }, { 160, 0x80000000u, KALM_OK, "" }, { 2304, 769, KALM_BAD_FILE, "class 0" },
        { 4350, 768, KALM_OK, "" }, { 4352, 0xffffffffu, KALM_OK, "" } };
    kalm__rowcode c;
    kalm_error err;
    unsigned i;
    size_t size = kalm__rows_places(192).size;
    for (i = 0; i < sizeof fault / sizeof *fault; i++) {
        kalm_result r;
        if (!open_section(&c, 192, 2)) return;
        kalm__put_u32(section + fault[i].at, fault[i].value);
        kalm__no_error(&err);
        r = kalm__rowcode_open(&c, section, size, 77, 192, &err);
        CHECKF(r == fault[i].want && strstr(err.text, fault[i].word), "fault %u: %d, %s", i, (int)r, err.text);
        if (r) CHECK(!c.fingerprint);
        if (!r) {                      /* what is only odd leads nowhere */
            static float y[MOST];
            unsigned char bytes[MOST];
            kalm__row_work w = work_for(kalm__kernel_set(0, NULL, 1), 192);
            unsigned k;
            for (k = 0; k < 192; k++) y[k] = (float)k - 96.0f;
            kalm__row_code(&c, kalm__kernel_set(0, NULL, 1)->ops, &w, 2, 0, y, 1, bytes);
            kalm__row_read(&c, 2, 0, bytes, kalm__coded_row_bytes(192, 2), y);
        }
    }
    /* the last symbol has at least one of 4096: its interval begins at 4095 or before */
    for (i = 4095; i <= 4096; i++) {
        if (!open_section(&c, 192, 2)) return;
        kalm__put_u32(section + 284, (kalm__u32(section + 284) & 0xffff) | i << 16);
        CHECK(kalm__rowcode_open(&c, section, size, 77, 192, &err) == (i == 4096 ? KALM_BAD_FILE : KALM_OK));
    }
    if (!open_section(&c, 192, 2)) return;
    CHECK(kalm__rowcode_open(&c, section, size - 1, 77, 192, &err) == KALM_BAD_FILE);
    CHECK(kalm__rowcode_open(&c, section, size + 1, 77, 192, &err) == KALM_BAD_FILE);
    CHECK(kalm__rowcode_open(&c, section, 0, 77, 192, &err) == KALM_BAD_FILE);
    CHECK(kalm__rowcode_open(&c, section, size, 77, 8, &err) == KALM_BAD_FILE && strstr(err.text, "16 are the fewest"));
    /* rows of 65,536 numbers: of the 17 GB that they ask for, the low 32 bits, which a size_t may not take for all of them */
    CHECK(kalm__rowcode_open(&c, section, (uint32_t)(1184000 + 262144 + 2 * 2097152 + 2 * (262144 + ((uint64_t)1 << 33))), 77, 65536,
                             &err) == KALM_BAD_FILE && strstr(err.text, "ask for"));
}

/* A section whose costs are false says that rows fit which do not, or, where they are steep, that numbers beyond all levels take more
   bits than an integer holds: what is written stays within its bytes, and is some row. */
static void test_false_costs(int steep)
{
    static const float sizes[4] = { 1, .01f, 3e38f, 1e6f };
    kalm__rowcode c;
    float y[192];
    unsigned char bytes[2 * MOST], beside[MOST];
    uint64_t state = 8;
    unsigned b, round, k, bad = 0;
    kalm__rows_layout l = kalm__rows_places(192);
    if (!open_section(&c, 192, 2)) return;
    memset(section + l.cost, 0, l.classes - l.cost);
    for (k = 0; steep && k < KALM__ROWS_CLASSES * 2; k++)
        section[l.cost + k * 32 + 9] = section[l.cost + k * 32 + 21] = 3;      /* levels -3 and 3: 768, the dearest that may be */
    memset(beside, 0xee, sizeof beside);
    for (b = 0; b < 3; b++)
        for (round = 0; round < 40; round++) {
            kalm__row_work w = work_for(kalm__kernel_set(0, NULL, 1), 192);
            size_t size = kalm__coded_row_bytes(192, 4 - b);
            for (k = 0; k < 192; k++) y[k] = number(&state) * sizes[round % 4];
            memset(bytes, 0xee, sizeof bytes);
            kalm__row_code(&c, kalm__kernel_set(0, NULL, 1)->ops, &w, b, round % 6, y, 1, bytes);
            CHECKF(bytes[0] && !memcmp(bytes + size, beside, sizeof beside), "%u bits, round %u: bytes behind the row", 4 - b, round);
            kalm__row_read(&c, b, round % 6, bytes, size, y);
            for (k = 0; k < 192; k++) bad += !kalm__is_finite(y[k]);
        }
    CHECK(!bad);
}

/* A section by whose probabilities not even a row of zeros fits: 12 bits each. What is written is the row that says least, of its
   bytes alone, and its numbers are finite. */
static void test_nothing_fits(void)
{
    kalm__rowcode c;
    kalm_error err;
    float y[192];
    unsigned char bytes[2 * MOST], beside[MOST];
    uint64_t state = 3;
    unsigned b, i, k, bad = 0;
    if (!open_section(&c, 192, 2)) return;
    for (i = 0; i < KALM__ROWS_CLASSES * 2; i++)
        for (k = 0; k < KALM__ROWS_SYMBOLS; k++) {         /* every symbol but the last has one of 4096 */
            section[KALM__ROWS_TABLES + 2 * (i * KALM__ROWS_SYMBOLS + k)] = (unsigned char)k;
            section[KALM__ROWS_TABLES + 2 * (i * KALM__ROWS_SYMBOLS + k) + 1] = 0;
        }
    if (!CHECKF(!kalm__rowcode_open(&c, section, kalm__rows_places(192).size, 77, 192, &err), "%s", err.text)) return;
    memset(beside, 0xee, sizeof beside);
    for (b = 0; b < 3; b++) {
        kalm__row_work w = work_for(kalm__kernel_set(0, NULL, 1), 192);
        size_t size = kalm__coded_row_bytes(192, 4 - b), n;
        for (k = 0; k < 192; k++) y[k] = number(&state);
        memset(bytes, 0xee, sizeof bytes);
        kalm__row_code(&c, kalm__kernel_set(0, NULL, 1)->ops, &w, b, 2, y, 1, bytes);
        for (n = 1; n < size; n++) bad += bytes[n] != 0;
        CHECKF(bytes[0] == 1 && !bad && !memcmp(bytes + size, beside, sizeof beside), "%u bits: %u bytes are another", 4 - b, bad);
        kalm__row_read(&c, b, 2, bytes, size, y);
        for (k = 0; k < 192; k++) bad += !kalm__is_finite(y[k]);
        CHECK(!bad);
    }
}

/* ---- documents ------------------------------------------------------------------------------------------------------------ */

static kalm_text words(const char *s)
{
    kalm_text t;
    t.data = s;
    t.size = KALM_NUL;
    return t;
}

static const char *const texts[3] = {
    "GNU Chess is a chess playing program. It can play against a human or against itself, and reads books of openings.",
    "FFmpeg converts, records and streams audio and video in nearly every format that exists.", "x"
};

/* Long: the life of a document of coded rows, from encoding to ranking, each step on what the one before left. */
static void test_documents(const char *path)
{
    kalm_model *model = NULL, *plain = NULL;
    kalm_context *ctx = NULL, *without = NULL;
    kalm_model_info about;
    kalm_error err;
    uint32_t bits;
    size_t size = 0;
    unsigned char *file = test_read_file(path, &size), *kept, *block;
    float exact[3] = { 0, 0, 0 };
    if (!CHECK(file != NULL)) return;
    block = (unsigned char *)malloc(size + 64);
    if (!CHECKF(!kalm_model_open(path, NULL, &model, &err) && !kalm_context_new(model, NULL, &ctx, &err), "%s", err.text)) return;
    kalm_model_get_info(model, &about);
    CHECK(about.transform != 0);
    /* the same model without the section: its last entry taken out of the table */
    kept = kalm__align64(block);
    memcpy(kept, file, size);
    {
        uint32_t count = kalm__u32(kept + 12) - 1;
        CHECK(kalm__u32(kept + 64 + 32 * count) == KALM__SECTION_ROWS);
        size = (size_t)kalm__u64(kept + 64 + 32 * count + 8);
        memset(kept + 64 + 32 * count, 0, 32);
        kalm__put_u32(kept + 12, count);
        kalm__put_u64(kept + 16, size);
        kalm__put_u64(kept + 32, 0);
        kalm__put_u64(kept + 32, kalm__hash(kept, 64 + 32 * count));
    }
    if (!CHECKF(!kalm_model_open_memory(kept, size, NULL, &plain, &err) && !kalm_context_new(plain, NULL, &without, &err), "%s", err.text)) return;
    for (bits = 32; bits >= 2; bits = bits > 4 ? bits / 2 : bits - 1) {
        kalm_params p;
        kalm_text t[3];
        kalm_doc *docs[3] = { NULL, NULL, NULL }, *other = NULL, *again = NULL;
        kalm_score s[3], alone;
        kalm_doc_info info;
        const unsigned char *bytes;
        unsigned char *mine;
        size_t n = 0, i;
        for (i = 0; i < 3; i++) t[i] = words(texts[i]);
        memset(&p, 0, sizeof p);
        p.bits = bits;
        if (!CHECKF(!kalm_encode(ctx, t, 3, &p, docs, &err), "%s", err.text)) continue;
        CHECKF(!kalm_rerank(ctx, words("play chess against the computer"), (const kalm_doc *const *)docs, 3, NULL, s, &err), "%s", err.text);
        for (i = 0; i < 3; i++) {
            static const float allowed[7] = { 0, 0, 1.2f, .6f, .3f, 0, 0 };
            if (bits == 32) exact[i] = s[i].margin;
            CHECKF(fabsf(s[i].margin - exact[i]) <= (bits > 4 ? .1f : allowed[bits]), "%u bits: %g instead of %g", bits, (double)s[i].margin,
                   (double)exact[i]);
            CHECK(!kalm_rerank(ctx, words("play chess against the computer"), (const kalm_doc *const *)&docs[i], 1, NULL, &alone, &err));
            CHECKF(alone.margin == s[i].margin, "%u bits: alone %g, together %g", bits, (double)alone.margin, (double)s[i].margin);
        }
        kalm_doc_get_info(docs[0], &info);
        bytes = (const unsigned char *)kalm_doc_bytes(docs[0], &n);
        CHECK(info.bits == bits && info.transform == (bits < 8 ? about.transform : 0));
        CHECK(n == 64 + info.rows * (bits > 8 ? info.width * bits / 8 : bits == 8 ? info.width + 2 * ((info.width + 63) / 64) : (info.width * bits + 7) / 8 + 1));
        CHECK(kalm__u32(bytes + 4) == (bits < 8 ? 2u : 1u));
        CHECK(!kalm_encode(ctx, t, 1, &p, &again, &err) && !memcmp(bytes, kalm_doc_bytes(again, &n), n));
        kalm_doc_free(again);
        {                              /* of 33 to 50 rows: two or three at a time are 16, the last are fewer */
            static const char many[] = "play chess play chess play chess play chess play chess play chess play chess play chess play chess play "
                "chess play chess play chess play chess play chess play chess play chess play chess play chess play chess play chess";
            kalm_params fine = p;
            kalm_text whole = words(many);
            kalm_doc *opened = NULL;
            fine.ratio = 1;
            fine.bits = 16;
            CHECKF(!kalm_encode(ctx, &whole, 1, &fine, &again, &err) && !kalm_doc_repool(model, again, 1, bits, &other, &err), "%s", err.text);
            kalm_doc_get_info(other, &info);
            CHECKF(info.rows > 32 && info.rows < 48 && info.bits == bits, "%u rows", info.rows);
            CHECKF(!kalm_doc_open(model, kalm_doc_bytes(other, &n), 64 + info.rows * kalm__doc_row_bytes(info.width, bits), 0, &opened, &err), "%s", err.text);
            kalm_doc_free(opened);
            kalm_doc_free(other);
            kalm_doc_free(again);
            other = again = NULL;
        }
        kalm_doc_get_info(docs[0], &info);
        bytes = (const unsigned char *)kalm_doc_bytes(docs[0], &n);
        /* coarser, and of other bits */
        CHECKF(!kalm_doc_repool(model, docs[0], 8, 0, &other, &err), "%s", err.text);
        kalm_doc_get_info(other, &info);
        CHECK(info.bits == bits && info.ratio == 8 && info.transform == (bits < 8 ? about.transform : 0));
        kalm_doc_free(other);
        CHECKF(!kalm_doc_repool(model, docs[0], 4, 2, &other, &err), "%s", err.text);
        kalm_doc_get_info(other, &info);
        CHECK(info.bits == 2 && info.transform == about.transform);
        kalm_doc_free(other);
        CHECKF(!kalm_doc_repool(model, docs[0], 4, 32, &other, &err), "%s", err.text);
        kalm_doc_get_info(other, &info);
        CHECK(info.bits == 32 && !info.transform);
        CHECK(!kalm_rerank(ctx, words("play chess against the computer"), (const kalm_doc *const *)&other, 1, NULL, &alone, &err));
        CHECKF(alone.margin == s[0].margin, "%u bits: as 32 bits %g, %g", bits, (double)alone.margin, (double)s[0].margin);
        kalm_doc_free(other);
        other = NULL;
        /* a model without the section */
        if (bits < 8) {
            CHECK(kalm_encode(without, t, 1, &p, &other, &err) == KALM_BAD_ARGUMENT && !other && strstr(err.text, "kalm-quantize"));
            CHECK(kalm_doc_open(plain, bytes, n, 0, &other, &err) == KALM_MISMATCH && !other && strstr(err.text, "kalm-quantize"));
            CHECK(kalm_rerank(without, words("q"), (const kalm_doc *const *)docs, 3, NULL, s, &err) == KALM_MISMATCH && strstr(err.text, "transform"));
            CHECK(kalm_doc_repool(plain, docs[0], 8, 16, &other, &err) == KALM_MISMATCH && !other && strstr(err.text, "without --no-rows"));
            CHECK(kalm_rerank_texts(without, words("q"), t, 1, &p, s, &err) == KALM_BAD_ARGUMENT && strstr(err.text, "kalm-quantize"));
            /* another transform; a damaged document; a mark that says: no number */
            mine = (unsigned char *)malloc(n);
            memcpy(mine, bytes, n);
            mine[58] ^= 1;
            kalm__put_u64(mine + 40, kalm__doc_checksum(mine, n));
            CHECK(kalm_doc_open(model, mine, n, 0, &other, &err) == KALM_MISMATCH && strstr(err.text, "transform"));
            memset(mine + 56, 0, 8);
            kalm__put_u64(mine + 40, kalm__doc_checksum(mine, n));
            CHECK(kalm_doc_open(model, mine, n, 0, &other, &err) == KALM_BAD_FILE && strstr(err.text, "version 2"));
            memcpy(mine, bytes, n);
            kalm__put_u32(mine + 4, 1);
            kalm__put_u64(mine + 40, kalm__doc_checksum(mine, n));
            CHECK(kalm_doc_open(model, mine, n, 0, &other, &err) == KALM_BAD_FILE);
            memcpy(mine, bytes, n);
            mine[64] = 0;
            kalm__put_u64(mine + 40, kalm__doc_checksum(mine, n));
            CHECK(kalm_doc_open(model, mine, n, 0, &other, &err) == KALM_BAD_FILE && strstr(err.text, "row 0"));
            for (i = 64; i < n; i += 5) {          /* any other change is another row: a score, or an overflow, by name */
                memcpy(mine, bytes, n);
                mine[i] = (unsigned char)(mine[i] * 7 + 13 + !mine[i]);
                if (!mine[64]) mine[64] = 1;
                kalm__put_u64(mine + 40, kalm__doc_checksum(mine, n));
                if (kalm_doc_open(model, mine, n, KALM_BORROW, &other, &err)) {
                    CHECKF(strstr(err.text, "is not finite"), "%s", err.text);
                    continue;
                }
                if (kalm_rerank(ctx, words("q"), (const kalm_doc *const *)&other, 1, NULL, s, &err)) CHECK(err.code == KALM_OVERFLOW);
                else CHECK(s[0].margin - s[0].margin == 0);
                memset(mine + 64, 0, n - 64);      /* changed behind the library's back: a meaningless score, and no worse */
                kalm_rerank(ctx, words("q"), (const kalm_doc *const *)&other, 1, NULL, s, &err);
                kalm_doc_free(other);
            }
            free(mine);
        } else {
            CHECKF(!kalm_doc_open(plain, bytes, n, 0, &other, &err), "%s", err.text);
            kalm_doc_free(other);
        }
        for (i = 0; i < 3; i++) kalm_doc_free(docs[i]);
    }
    kalm_context_free(ctx);
    kalm_context_free(without);
    kalm_model_close(model);
    kalm_model_close(plain);
    free(file);
    free(block);
}

int main(void)
{
    test_levels();
    test_error();
    test_together();
    test_trellis();
    test_sets();
    test_any_bytes();
    test_not_finite();
    test_sections();
    test_false_costs(0);
    test_false_costs(1);
    test_nothing_fits();
    test_documents(TEST_BUILD "/tiny.kalm");
    free(work_room);
    return test_end();
}
