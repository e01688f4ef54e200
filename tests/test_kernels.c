/* test_kernels.c - every kernel set that this machine can run against the scalar one, to the bit: random and adversarial
   weights and activations, all tails, cuts by rows and panels, each row alone, buffers that begin or end at an unreadable
   page, results written only where promised. Every register tile of every set must have run, with its buffers at the page behind
   them and at the one before them. Says in the log which sets ran. */
#include "guard.h"
#define KALM__EVEX_VNNI                /* see config.h */
#ifdef TEST_BUILD                      /* by make: the header, compiled apart */
#  define KALM_RERANK_IMPLEMENTATION
#  include "kalm_rerank.h"
#else                                  /* for another target: these parts alone */
#  include "../src/kernel_sets.h"
#endif
#include "../quantize/bf16.h"
#include "test.h"

enum { MOST_SETS = 8 };

/* The sets that are compared: all, or the one that test_amx.c names. They are looked for once: under a hypervisor each question to
   the processor takes microseconds, and here are a million of them. */
static const kalm__kernels *tested_set(size_t i)
{
    static const kalm__kernels *known[MOST_SETS + 1];
    size_t k;
    if (!known[0])
        for (k = 0; k < MOST_SETS; k++)
#ifdef TESTED_SET
            known[k] = k ? NULL : kalm__kernel_set(0, TESTED_SET, 1);
#else
            known[k] = kalm__kernel_set(k, NULL, 1);
#endif
    return known[i];
}

/* ---- which tiles ran ------------------------------------------------------------------------------------ */

enum { MOST_ROWS = 48, DIRECT, ONE_PANEL, TWO_PANELS, ARRAYS };
static unsigned char tile_ran[MOST_SETS][KALM__TYPES + 1][ARRAYS][MOST_ROWS];  /* 1: buffers end at a page, 2: they begin at one */
static const kalm__tiles *watched;     /* of the product at hand */
static size_t watched_set, watched_type;

static void tile_begins(int array, int rows, const kalm__tile_job *job)
{
    tile_ran[watched_set][watched_type][array][rows] |= (unsigned char)(guard_front ? 2 : 1);
    (array == DIRECT ? watched->direct_tiles : array == ONE_PANEL ? watched->one : watched->two)[rows](job);
}
#define WATCH(rows) \
    static void direct_##rows(const kalm__tile_job *job) { tile_begins(DIRECT, rows, job); } \
    static void one_##rows(const kalm__tile_job *job) { tile_begins(ONE_PANEL, rows, job); } \
    static void two_##rows(const kalm__tile_job *job) { tile_begins(TWO_PANELS, rows, job); }
#define EIGHT(each, t) each(t##0) each(t##1) each(t##2) each(t##3) each(t##4) each(t##5) each(t##6) each(t##7)
#define ALL_ROWS(each) EIGHT(each, 00) EIGHT(each, 01) EIGHT(each, 02) EIGHT(each, 03) EIGHT(each, 04) EIGHT(each, 05)  /* octal: 0 to 47 */
ALL_ROWS(WATCH)
#define NAME_DIRECT(rows) direct_##rows,
#define NAME_ONE(rows) one_##rows,
#define NAME_TWO(rows) two_##rows,
static const kalm__tile_fn direct_watch[] = { ALL_ROWS(NAME_DIRECT) }, one_watch[] = { ALL_ROWS(NAME_ONE) }, two_watch[] = { ALL_ROWS(NAME_TWO) };

/* kalm__matmul by a set whose tiles tell that they ran. */
static void watched_matmul(const kalm__kernels *set, const kalm__matmul_job *job)
{
    kalm__kernels k = *set;
    kalm__tiles t;
    size_t i;
    for (i = 0; tested_set(i) && tested_set(i) != set; i++) {}
    if (set->tiles[job->w->type] && tested_set(i) && i < MOST_SETS) {
        watched = set->tiles[job->w->type];
        watched_set = i, watched_type = job->w->type;
        t = *watched;
        t.direct_tiles = direct_watch, t.one = one_watch;
        if (t.two) t.two = two_watch;
        k.tiles[job->w->type] = &t;
    }
    kalm__matmul(&k, job);
#ifdef AMX_EMULATED_H
    CHECKF(!amx.configured, "a product left its tiles to the thread: signals and switches save them");
#endif
}

static size_t highest_tile(uint32_t type)
{
    size_t i, most = 0;
    for (i = 0; tested_set(i); i++)
        if (tested_set(i)->tiles[type]) most = kalm__max(most, tested_set(i)->tiles[type]->most);
    return most;
}

/* The driver takes direct tiles up to their height and the others above it; those of pairs of rows have an odd one only for a last row. */
static void check_tiles_ran(void)
{
    const kalm__kernels *set;
    size_t i, type, rows;
    int array;
    for (i = 0; (set = tested_set(i)) != NULL; i++) {
        CHECK(i < MOST_SETS);
        for (type = 0; type <= KALM__TYPES && i < MOST_SETS; type++) {
            const kalm__tiles *t = set->tiles[type];
            for (array = DIRECT; t && array < ARRAYS; array++)
                for (rows = 0; rows < t->most; rows++) {
                    if (array == DIRECT ? rows >= t->direct : rows < t->direct || (array == TWO_PANELS && !t->two)) continue;
                    CHECKF(tile_ran[i][type][array][rows] == 3, "%s, type %zu: the %s tile of %zu rows ran at %s", set->name, type,
                           array == DIRECT ? "direct" : array == ONE_PANEL ? "one-panel" : "two-panel", rows + 1,
                           tile_ran[i][type][array][rows] == 1 ? "the page behind alone" : tile_ran[i][type][array][rows] ? "the page before alone" : "no page");
                }
        }
    }
}

/* ---- what is multiplied -------------------------------------------------------------------------------- */

static const char *const type_names[] = { "f32", "f16", "bf16", "q8", "q4", "q16" };
enum { TYPES = KALM__Q16 + 1 };
static uint64_t state = 7;

enum { RANDOM, EXTREME, ZERO, ONE, KINDS };

typedef struct problem {
    uint32_t     type;
    size_t       rows, cols, outputs;
    kalm__matrix w;
    buffer       data, scale, sum, x;  /* x [rows][cols], its last float before the unreadable page */
} problem;

static int pick_byte(int kind)
{
    if (kind == EXTREME) return test_random(&state) & 1 ? 127 : -127;
    return kind == ZERO ? 0 : (int)(test_random(&state) % 255) - 127;
}

static problem make(uint32_t type, size_t rows, size_t cols, size_t outputs, int kind)
{
    problem p;
    size_t panels = (outputs + 15) / 16, bytes = kalm__panel_bytes(type, cols), i, j, k, cols32 = kalm__cols32(cols);
    p.type = type, p.rows = rows, p.cols = cols, p.outputs = outputs;
    p.data = take(panels * bytes, 64);
    p.scale = take(panels * 64, 4);
    p.sum = take(panels * 64, 4);
    p.x = take(rows * cols * 4, 4);
    memset(p.data.data, 0, panels * bytes);
    memset(&p.w, 0, sizeof p.w);
    p.w.type = type, p.w.rows = (uint32_t)outputs, p.w.cols = (uint32_t)cols;
    p.w.data = p.data.data;
    for (i = 0; i < panels; i++) {
        unsigned char *panel = p.data.data + i * bytes;
        int32_t sum[16] = {0};
        if (type == KALM__Q4) {
            unsigned char *m = panel + cols32 / 32 * 256;
            for (k = 0; k < cols32 / 32 * 256; k++)
                panel[k] = (unsigned char)(kind == EXTREME ? (test_random(&state) & 1 ? 0x0f : 0xf0) : (int)test_random(&state));
            for (k = 0; k < cols32 / 32 * 16; k++)
                m[k] = (unsigned char)(kind == EXTREME ? 64 : kind == ZERO ? 0 : (int)(test_random(&state) % 65));
        }
        for (k = 0; k < cols; k++)
            for (j = 0; j < 16; j++) {
                float f = kind == ZERO ? 0.0f : test_random_float(&state);
                uint16_t h = type == KALM__F16 ? kalm__to_f16(f) : kalm__to_bf16(f);
                if (16 * i + j >= outputs && type != KALM__Q4) continue;
                if (type == KALM__F32) memcpy(panel + (k * 16 + j) * 4, &f, 4);
                else if (type == KALM__Q8) panel[k / 4 * 64 + 4 * j + k % 4] = (unsigned char)pick_byte(kind);
                else if (type == KALM__Q16) {
                    int limit = kalm__int16_limit(cols);
                    int16_t w = (int16_t)(kind == EXTREME ? (f > 0 ? limit : -limit) : (int)(f * (float)limit));
                    memcpy(panel + k / 2 * 64 + 4 * j + k % 2 * 2, &w, 2);
                }
                else if (type != KALM__Q4) memcpy(panel + (k * 16 + j) * 2, &h, 2);
            }
        if (kalm__is_quantised(type)) {
            buffer flat = take(16 * cols32, 64);
            if (type == KALM__Q4) kalm__unpack_q4_scalar(panel, cols, flat.data);
            else memcpy(flat.data, panel, 16 * cols32);
            for (k = 0; k < 16 * cols32; k++) sum[k % 64 / 4] += (int8_t)flat.data[k];
            give(flat);
        }
        for (j = 0; j < 16; j++) {
            float f = 0.01f * (test_random_float(&state) + 1.5f);
            memcpy(p.scale.data + (16 * i + j) * 4, &f, 4);
            memcpy(p.sum.data + (16 * i + j) * 4, &sum[j], 4);
        }
    }
    p.w.scale = kalm__is_quantised(type) || type == KALM__Q16 ? (const float *)(const void *)p.scale.data : NULL;
    p.w.sum = kalm__is_quantised(type) ? (const int32_t *)(const void *)p.sum.data : NULL;
    for (i = 0; i < rows; i++) {
        float size = (float)ldexp(1.0, (int)(test_random(&state) % 40) - 20);
        int row_kind = kind == RANDOM && i % 8 == 5 ? ZERO : kind;
        if (i % 16 == 7) size = 1e-33f;                     /* under the bound below which a row counts as zero */
        if (i % 16 == 9) size = 1e30f;
        for (k = 0; k < cols; k++) {
            float f = size * test_random_float(&state);
            if (row_kind == EXTREME) f = test_random(&state) & 1 ? size : -size;
            if (row_kind == ZERO || (row_kind == ONE && k != i % cols)) f = test_random(&state) & 1 ? 0.0f : -0.0f;
            if (row_kind == RANDOM && i % 8 == 3)           /* halves of a step: ties */
                f = ((float)((int)(test_random(&state) % 509) - 254) * 0.5f) * (k ? 1.0f : 0.0f) + (k ? 0.0f : 127.0f);
            memcpy(p.x.data + (i * cols + k) * 4, &f, 4);
        }
    }
    return p;
}

static void unmake(problem p)
{
    give(p.data), give(p.scale), give(p.sum), give(p.x);
}

/* y [rows][outputs] by `set`, acts packed in pieces of `cut` rows, matmul in pieces of `cut` rows and `wide` panels; y is
   kept apart by `gap` floats a row, which must stay as they were. */
static buffer multiply(const kalm__kernels *set, const problem *p, size_t cut, size_t wide, size_t gap)
{
    size_t panels = (p->outputs + 15) / 16, stride = p->outputs + gap, r, at, i, n, bytes;
    buffer y = take(p->rows * p->outputs * 4, 4), acts, piece, scratch;
    kalm__matmul_job job;
    cut = kalm__round_up(cut, KALM__ACTS_STEP);
    acts = take(kalm__acts_bytes(set, p->type, p->rows, p->cols), 64);
    scratch = take(kalm__matmul_scratch(set, p->type, p->cols), 64);
    for (r = 0; r < p->rows; r += n) {
        n = kalm__min(cut, p->rows - r);
        kalm__pack(set, kalm__block_of(p->type, p->rows, p->cols, acts.data), r, n,
                   (const float *)(const void *)p->x.data + r * p->cols, p->cols);
    }
    for (r = 0; r < p->rows; r += n) {
        n = kalm__min(cut, p->rows - r);
        for (at = 0; at < panels; at += wide) {
            size_t some = kalm__min(wide, panels - at), valid = kalm__min(16 * some, p->outputs - 16 * at);
            bytes = ((n - 1) * stride + valid) * 4;
            piece = take(bytes, 4);
            job.w = &p->w, job.acts = acts.data, job.rows = p->rows, job.row0 = r, job.n = n, job.panel0 = at, job.panels = some;
            job.y = (float *)(void *)piece.data, job.stride = stride, job.scratch = scratch.data;
            job.next = at ? p->w.data : NULL;
            watched_matmul(set, &job);
            for (i = 0; i < bytes; i++)
                if (i / 4 % stride >= valid && piece.data[i] != 0xa5) {
                    CHECKF(0, "%s %s: wrote %zu floats behind %zu outputs", set->name, type_names[p->type],
                           i / 4 % stride - valid, valid);
                    break;
                }
            for (i = 0; i < n; i++)
                memcpy(y.data + ((r + i) * p->outputs + 16 * at) * 4, piece.data + i * stride * 4, valid * 4);
            give(piece);
        }
    }
    give(acts), give(scratch);
    return y;
}

/* Float types: the documented chain, with and without fused multiply-adds. */
static buffer chain(const problem *p, int fused)
{
    buffer y = take(p->rows * p->outputs * 4, 4);
    size_t r, k, n;
    for (n = 0; n < p->outputs; n++)
        for (r = 0; r < p->rows; r++) {
            const unsigned char *panel = p->data.data + n / 16 * kalm__panel_bytes(p->type, p->cols);
            float acc = 0.0f;
            for (k = 0; k < p->cols; k++) {
                const unsigned char *at = panel + (16 * k + n % 16) * (p->type == KALM__F32 ? 4 : 2);
                float v = p->type == KALM__F32 ? kalm__f32(at) : p->type == KALM__F16 ?
                          kalm__from_f16((uint16_t)kalm__u16(at)) : kalm__from_bf16((uint16_t)kalm__u16(at));
                float a = kalm__f32(p->x.data + (r * p->cols + k) * 4);
                volatile float product = a * v;
                acc = fused ? fmaf(a, v, acc) : acc + product;
                acc = kalm__rounded(acc);
            }
            memcpy(y.data + (r * p->outputs + n) * 4, &acc, 4);
        }
    return y;
}

/* NaN is NaN: which one is not promised. ARMv7's vectors flush subnormal numbers to zero, which is. */
static int same(const buffer a, const buffer b, size_t floats)
{
    size_t i;
    for (i = 0; i < floats; i++) {
        float u = kalm__f32(a.data + 4 * i), v = kalm__f32(b.data + 4 * i);
#if KALM__NEON && !KALM__NEON64
        if (u - v < 1e-37f && v - u < 1e-37f) continue;
#endif
        if (memcmp(a.data + 4 * i, b.data + 4 * i, 4) != 0 && !(u == v && u == 0.0f) && !(u != u && v != v)) return 0;
    }
    return 1;
}

/* The set that rounds activations to bf16: near the sums of what it rounds them to, each within what 24 bits lose. */
static int near_rounded(const problem *p, const buffer y)
{
    size_t r, k, n;
    for (n = 0; n < p->outputs; n++)
        for (r = 0; r < p->rows; r++) {
            const unsigned char *panel = p->data.data + n / 16 * kalm__panel_bytes(p->type, p->cols);
            double sum = 0, size = 0;
            for (k = 0; k < p->cols; k++) {
                double w = (double)kalm__from_bf16((uint16_t)kalm__u16(panel + (16 * k + n % 16) * 2));
                double product = w * (double)kalm__from_bf16(kalm__to_bf16(kalm__f32(p->x.data + (r * p->cols + k) * 4)));
                sum += product, size += fabs(product);
            }
            if (!(fabs((double)kalm__f32(y.data + (r * p->outputs + n) * 4) - sum) <= 2e-6 * size + 1e-37)) return 0;
        }
    return 1;
}

static void check_problem(uint32_t type, size_t rows, size_t cols, size_t outputs, int kind)
{
    problem p = make(type, rows, cols, outputs, kind);
    size_t i, floats = rows * outputs;
    const kalm__kernels *set;
    buffer want, plain;
    memset(&plain, 0, sizeof plain);
    if (kalm__is_quantised(type) || type == KALM__Q16) want = multiply(&kalm__kernels_scalar, &p, rows, (outputs + 15) / 16, 0);
    else want = chain(&p, 1), plain = chain(&p, 0);
    for (i = 0; (set = tested_set(i)) != NULL; i++) {
        buffer y = multiply(set, &p, rows, (outputs + 15) / 16, 0), cut = multiply(set, &p, 1, 1, 3);
        CHECKF(type == KALM__BF16 && !strcmp(set->name, "avx512bf16") ? near_rounded(&p, y)
               : same(y, want, floats) || (plain.data && same(y, plain, floats)),
               "%s %s: %zu rows, %zu inputs, %zu outputs, kind %d differs from the reference", set->name, type_names[type],
               rows, cols, outputs, kind);
        CHECKF(same(y, cut, floats), "%s %s: %zu rows, %zu inputs, %zu outputs, kind %d depends on the cuts", set->name,
               type_names[type], rows, cols, outputs, kind);
        give(cut);
        if (rows > 1) {                /* each row alone */
            size_t r;
            for (r = 0; r < rows; r += rows > 8 ? 5 : 1) {
                problem alone = p;
                buffer row, line;
                alone.rows = 1;
                alone.x = take(cols * 4, 4);
                memcpy(alone.x.data, p.x.data + r * cols * 4, cols * 4);
                row = multiply(set, &alone, 1, 3, 0);
                line = row;
                line.data = y.data + r * outputs * 4;
                CHECKF(memcmp(row.data, line.data, outputs * 4) == 0, "%s %s: row %zu of %zu (%zu inputs) depends on the others",
                       set->name, type_names[type], r, rows, cols);
                give(row), give(alone.x);
            }
        }
        give(y);
    }
    give(want);
    if (plain.data) give(plain);
    unmake(p);
}

/* Against doubles, so that the reference itself is known to multiply. */
static void check_scalar(void)
{
    static const size_t rows = 3, cols = 70, outputs = 21;
    uint32_t type;
    for (type = 0; type < TYPES; type++) {
        problem p = make(type, rows, cols, outputs, RANDOM);
        size_t r, n, k;
        buffer y, flat = take(2 * 16 * 96, 64);
        for (k = 0; k < rows * cols; k++) {
            float f = test_random_float(&state);
            memcpy(p.x.data + 4 * k, &f, 4);
        }
        y = multiply(&kalm__kernels_scalar, &p, rows, 2, 0);
        for (n = 0; n < 2 && type == KALM__Q4; n++)
            kalm__unpack_q4_scalar(p.data.data + n * kalm__q4_panel_bytes(cols), cols, flat.data + n * 16 * 96);
        for (r = 0; r < rows; r++)
            for (n = 0; n < outputs; n++) {
                double sum = 0, size = 0, bound;
                for (k = 0; k < cols; k++) {
                    const unsigned char *panel = p.data.data + n / 16 * kalm__panel_bytes(type, cols);
                    const unsigned char *half = panel + 2 * (16 * k + n % 16);
                    const unsigned char *q = type == KALM__Q4 ? flat.data + n / 16 * (16 * 96) : panel;
                    double v, a = (double)kalm__f32(p.x.data + (r * cols + k) * 4);
                    if (type == KALM__F32) v = (double)kalm__f32(panel + 4 * (16 * k + n % 16));
                    else if (type == KALM__F16) v = (double)kalm__from_f16((uint16_t)kalm__u16(half));
                    else if (type == KALM__BF16) v = (double)kalm__from_bf16((uint16_t)kalm__u16(half));
                    else if (type == KALM__Q16) {
                        int16_t word;
                        memcpy(&word, panel + k / 2 * 64 + n % 16 * 4 + k % 2 * 2, 2);
                        v = (double)word * (double)p.w.scale[n];
                    } else v = (double)(int8_t)q[k / 4 * 64 + n % 16 * 4 + k % 4] * (double)p.w.scale[n];
                    sum += a * v;
                    size += fabs(v);
                }
                bound = kalm__is_quantised(type) ? size * (0.51 / 127) : type == KALM__Q16 ? size * 1e-4 : size * 1e-5;
                CHECKF(fabs(sum - (double)kalm__f32(y.data + (r * outputs + n) * 4)) <= bound, "scalar %s: %g is not %g",
                       type_names[type], (double)kalm__f32(y.data + (r * outputs + n) * 4), sum);
            }
        give(y), give(flat);
        unmake(p);
    }
}

/* Sums at their largest: 10240 products of 127 * 127, all of one sign. */
static void check_largest(void)
{
    size_t cols = 10240, i;
    problem p = make(KALM__Q8, 5, cols, 32, EXTREME);
    const kalm__kernels *set;
    buffer want;
    int32_t sum = (int32_t)(cols * 127);
    memset(p.data.data, 127, 32 * cols);
    for (i = 0; i < 32; i++) memcpy(p.sum.data + 4 * i, &sum, 4);
    for (i = 0; i < 5 * cols; i++) {
        float f = i / cols % 2 ? -3.0f : 2.0f;
        memcpy(p.x.data + 4 * i, &f, 4);
    }
    want = multiply(&kalm__kernels_scalar, &p, 5, 2, 0);
    for (i = 0; (set = tested_set(i)) != NULL; i++) {
        buffer y = multiply(set, &p, 5, 2, 0);
        CHECKF(same(y, want, 5 * 32), "%s: the largest sums differ", set->name);
        give(y);
    }
    give(want);
    unmake(p);
}

/* NaN and infinity may spoil their own row and nothing else. */
static void check_not_numbers(void)
{
    uint32_t type;
    for (type = 0; type < TYPES; type++) {
        problem p = make(type, 14, 100, 40, RANDOM);
        size_t i, r;
        const kalm__kernels *set;
        for (i = 0; (set = tested_set(i)) != NULL; i++) {
            buffer before = multiply(set, &p, 14, 3, 0), after, kept = take(14 * 400, 4);
            memcpy(kept.data, p.x.data, 14 * 400);
            for (r = 2; r < 14; r += 5) {
                float f = r == 2 ? (float)NAN : r == 7 ? (float)INFINITY : -(float)INFINITY;
                memcpy(p.x.data + (r * 100 + 17 * r % 100) * 4, &f, 4);
                memcpy(p.x.data + (r * 100 + 99) * 4, &f, 4);
            }
            after = multiply(set, &p, 14, 3, 0);
            for (r = 0; r < 14; r++)
                if (r % 5 != 2)
                    CHECKF(memcmp(before.data + r * 160, after.data + r * 160, 160) == 0, "%s %s: NaN in another row changed row %zu",
                           set->name, type_names[type], r);
            memcpy(p.x.data, kept.data, 14 * 400);
            give(before), give(after), give(kept);
        }
        unmake(p);
    }
}

/* A range of the inputs of a larger matrix, by `stride`. */
static void check_stride(void)
{
    static const uint32_t types[] = { KALM__F32, KALM__F16, KALM__Q8 };
    size_t t, i, j, k, panel;
    for (t = 0; t < sizeof types / sizeof *types; t++) {
        uint32_t type = types[t];
        problem whole = make(type, 17, 160, 37, RANDOM), part = make(type, 17, 64, 37, RANDOM), inside = part;
        size_t line = type == KALM__Q8 ? 16 : type == KALM__F32 ? 64 : 32, big = kalm__panel_bytes(type, 160);
        const kalm__kernels *set;
        for (panel = 0; panel < 3; panel++)
            memcpy(part.data.data + panel * 64 * line, whole.data.data + panel * big + 32 * line, 64 * line);
        for (j = 0; j < 48 && type == KALM__Q8; j++) {
            int32_t sum = 0;
            for (k = 0; k < 64; k++) sum += (int8_t)part.data.data[j / 16 * 1024 + k / 4 * 64 + j % 16 * 4 + k % 4];
            memcpy(part.sum.data + 4 * j, &sum, 4);
        }
        inside.w.data = whole.data.data + 32 * line;
        inside.w.stride = big;
        for (i = 0; (set = tested_set(i)) != NULL; i++) {
            buffer want = multiply(set, &part, 17, 3, 0), got = multiply(set, &inside, 17, 3, 0);
            CHECKF(same(want, got, 17 * 37), "%s %s: a range of the inputs differs", set->name, type_names[type]);
            give(want), give(got);
        }
        unmake(whole), unmake(part);
    }
}

/* Wide rows: every set the same sums as integers, alone and beside others, whatever bytes or words it makes of them. */
static void check_split16(void)
{
    static const size_t cols[] = { 1, 31, 32, 33, 100, 224, 256 };
    size_t round, i, r, k, n;
    for (round = 0; round < 140; round++) {
        size_t rows = 1 + round % 70, wide = cols[round % 7], outputs = 1 + round * 7 % 64, panels = (outputs + 15) / 16, stride = 260;
        problem p = make(KALM__Q8, rows, wide, outputs, round % 5 == 4 ? EXTREME : RANDOM);
        buffer x = take(((rows - 1) * stride + wide) * 4, 4), inverse = take(rows * 4, 4);
        const kalm__kernels *set;
        for (r = 0; r < rows; r++) {
            float size = (float)ldexp(1.0, (int)(test_random(&state) % 40) - 20), by = (round % 7 == 3 ? 127.0f : (float)KALM__SPLIT16_MAX) / size;
            if (r % 9 == 8) by = 0.0f;
            memcpy(inverse.data + 4 * r, &by, 4);
            for (k = 0; k < wide; k++) {
                float f = round % 5 == 4 || k == 0 ? size : (0.5f + 0.5f * test_random_float(&state)) * size;
                if (round % 5 != 4 && k % 64 > 3) f /= 260.0f;         /* lines without high bytes */
                if (f > size) f = size;
                memcpy(x.data + (r * stride + k) * 4, &f, 4);
            }
        }
        for (i = 0; i < panels * 16; i++) {
            float one = 1.0f;
            int32_t zero = 0;
            memcpy(p.scale.data + 4 * i, &one, 4);
            memcpy(p.sum.data + 4 * i, &zero, 4);
        }
        for (i = 0; (set = tested_set(i)) != NULL; i++) {
            size_t bad = 0, wrote = 0;
            buffer acts = take(kalm__acts_bytes(set, KALM__Q8, rows, wide), 64);
            buffer scratch = take(kalm__matmul_scratch(set, KALM__Q8, wide), 64);
            kalm__block block = kalm__block_of(KALM__Q8, rows, wide, acts.data);
            buffer y = take(rows * outputs * 4, 4), z = take(rows * outputs * 4, 4), high = take(rows * KALM__SPLIT16_COLS, 1);
            kalm__pack_split16(set, block, high.data, (const float *)(void *)x.data, stride, (const float *)(void *)inverse.data);
            kalm__multiply_block(set, &p.w, &block, (float *)(void *)y.data, outputs, scratch.data);
            memset(z.data, 0, rows * outputs * 4);
            for (r = 0; r < rows && set->multiply_high; r++)
                wrote += (size_t)set->multiply_high(&p.w, high.data + r * KALM__SPLIT16_COLS, (float *)(void *)(z.data + r * outputs * 4));
            CHECKF(round % 7 != 3 || !wrote, "%s: high bytes where no activation has one", set->name);
            for (r = 0; r < rows; r++)
                for (n = 0; n < outputs; n++) {
                    double sum = 0;
                    float got = kalm__f32(z.data + (r * outputs + n) * 4) * 256.0f + kalm__f32(y.data + (r * outputs + n) * 4);
                    for (k = 0; k < wide; k++) {
                        volatile float w = kalm__f32(x.data + (r * stride + k) * 4) * kalm__f32(inverse.data + 4 * r);
                        sum += nearbyint((double)w) * (double)(int8_t)p.data.data[n / 16 * 16 * kalm__cols32(wide) + k / 4 * 64 + n % 16 * 4 + k % 4];
                    }
                    bad += got != (float)sum;
                }
            CHECKF(!bad, "%s: %zu of %zu wide rows x %zu outputs of %zu inputs are wrong", set->name, bad, rows, outputs, wide);
            give(acts), give(high), give(scratch), give(y), give(z);
        }
        give(x), give(inverse);
        unmake(p);
    }
}

int main(void)
{
    static const size_t cols[] = { 1, 3, 4, 31, 32, 33, 63, 64, 65, 100, 128, 352 };
    static const size_t outputs[] = { 1, 15, 16, 17, 32, 40, 64, 81 };
    size_t i, rows, round = 0;
    const kalm__kernels *set;
    uint32_t type;
    int kind;
    printf("kernel sets:");
    for (i = 0; (set = tested_set(i)) != NULL; i++) printf(" %s", set->name);
    printf("\n");
#ifdef TESTED_SET
    if (!tested_set(0)) return printf("%s: not on this machine, left out\n", TESTED_SET), test_end();
#endif
    CHECK(kalm__kernel_set(MOST_SETS, NULL, 1) == NULL);
    CHECK(kalm__kernel_set(0, "no such set", 1) == NULL);
    CHECK(kalm__kernel_set(0, NULL, 1) == kalm__kernel_set(0, NULL, 1));
    CHECK(!strcmp(kalm__kernel_set(0, "scalar", 1)->name, "scalar"));
    check_scalar();
    for (type = 0; type < TYPES; type++) {
        for (rows = 1; rows <= 50; rows += rows < 26 ? 1 : 6)
            for (kind = 0; kind < KINDS; kind++, round++)
                guard_front = (int)(round % 4 == 3), check_problem(type, rows, cols[round % 12], outputs[round / 3 % 8], kind);
        guard_front = 0;
        for (i = 0; i < 12; i++) check_problem(type, 1 + i % 5, cols[i], outputs[i % 8], RANDOM);
        /* tiles of more rows than that (amx): each, of one panel and of two, at both pages */
        for (rows = 1; highest_tile(type) > 26 && rows <= 96; rows++) guard_front = (int)(rows > 48), check_problem(type, (rows - 1) % 48 + 1, 64, 48, RANDOM);
        guard_front = 0;
        check_problem(type, 131, 96, 48, RANDOM);
        check_problem(type, 97, 40, 50, EXTREME);
    }
    check_largest();
    check_not_numbers();
    check_stride();
    check_split16();
    guard_front = 1;
    check_split16();
    check_tiles_ran();
#ifdef AMX_EMULATED_H
    CHECKF(amx_products > 4000, "only %lu products of tiles", amx_products);
#endif
    return test_end();
}
