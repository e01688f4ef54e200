/* test_calibrate.c - kalm-quantize --calibrate: its sums and factors against the plainest ones, weights that are closer where
   the inputs are known, the same file from any number of threads and any kernel set, what it refuses, and the bundled model,
   whose margins must come closer to those of f32. Runs commands of the same build. POSIX. */
#include "../src/tools/files.h"         /* before all else, see there */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../quantize/calibrate.h"
#include "../quantize/compensate.h"
#include "../quantize/gradient.h"
#include "../quantize/moments.h"
#include "../src/tools/texts.h"
#include "command.h"

#define TMP TEST_BUILD "/tmp/calibrate"
#define QUANTIZE TEST_BUILD "/kalm-quantize"
#define RANDOM TEST_BUILD "/kalm-random-checkpoint"
#define BASE TMP "/base"
#define TINY "examples/tiny"

static int small_build(void)
{
    static const char *const slow[4] = { "sanitize", "thread", "debug", "coverage" };
    size_t i;
    for (i = 0; i < 4; i++)
        if (strstr(TEST_BUILD, slow[i])) return 1;
    return 0;
}

/* ---- moments ------------------------------------------------------------------------------------------------------- */

/* Row i of the test's inputs [cols]: few directions, one channel far above the others, a little noise. */
static void input_row(float *x, size_t cols, size_t i)
{
    static float wave[512], slow[512];
    static size_t known;
    uint64_t state = i * 7919 + 1;
    float a = test_random_float(&state), b = test_random_float(&state);
    size_t k;
    if (cols > 512) abort();
    for (; known < cols; known++) {
        wave[known] = (float)cos((double)known);
        slow[known] = (float)sin(0.1 * (double)known);
    }
    for (k = 0; k < cols; k++) {
        x[k] = a * wave[k] + b * slow[k] + 0.2f * test_random_float(&state);
        if (k == 37) x[k] *= 30.0f;
    }
}

typedef struct bench {
    kalm__pool    pool;
    kalm__worker  workers[4];
    kalm__backend backend;
    kalm__moment_work work;
} bench;

static void bench_begin(bench *b, const char *kernels, unsigned threads, size_t cols)
{
    memset(b, 0, sizeof *b);
    kalm__pool_start(&b->pool, threads, b->workers, NULL);
    b->backend.kernels = kalm__kernel_set(0, kernels, 1);
    b->backend.ops = b->backend.kernels->ops;
    b->backend.pool = &b->pool;
    if (kalm__moment_work_begin(&b->work, &b->backend, cols, NULL)) exit(1);
}

static void bench_end(bench *b)
{
    kalm__moment_work_end(&b->work);
    kalm__pool_stop(&b->pool);
}

static void add_row(bench *b, kalm__moments *m, const float *x)
{
    memcpy(m->rows + m->fill * m->cols, x, m->cols * sizeof *x);
    if (++m->fill == KALM__MOMENT_ROWS) kalm__moments_flush(m, &b->work);
}

static void gather(bench *b, kalm__moments *m, size_t cols, size_t rows)
{
    float *x = (float *)malloc(cols * sizeof *x);
    size_t i;
    kalm__moments_clear(m, cols);
    for (i = 0; i < rows; i++) {
        input_row(x, cols, i);
        add_row(b, m, x);
    }
    kalm__moments_flush(m, &b->work);
    free(x);
}

/* H [cols][cols] of the same rows. */
static double *plain_moments(size_t cols, size_t rows)
{
    double *h = (double *)calloc(cols * cols, sizeof *h), *wide = (double *)malloc(cols * sizeof *wide);
    float *x = (float *)malloc(cols * sizeof *x);
    size_t i, j, k;
    for (k = 0; k < rows; k++) {
        input_row(x, cols, k);
        for (i = 0; i < cols; i++) wide[i] = (double)x[i];
        for (i = 0; i < cols; i++) {
            double *to = h + i * cols, by = wide[i];
            for (j = 0; j <= i; j++) to[j] += by * wide[j];
        }
    }
    for (i = 0; i < cols; i++)
        for (j = i + 1; j < cols; j++) h[i * cols + j] = h[j * cols + i];
    free(wide);
    free(x);
    return h;
}

static void test_moments(size_t cols, size_t block, size_t rows)
{
    double *h = plain_moments(cols, rows), worst = 0, mean = 0, *copy;
    kalm__moments m;
    bench b;
    size_t i, j, k, room;
    const char *name;
    bench_begin(&b, NULL, 1, cols);
    if (!CHECK(!kalm__moments_begin(&m, cols, block, NULL))) return;
    gather(&b, &m, cols, rows);
    for (i = 0; i < cols; i++) mean += h[i * cols + i] / (double)cols;
    for (i = 0; i < cols; i++) {
        size_t first = kalm__moment_first(&m, i);
        CHECK(first == i / block * block);
        for (j = first; j <= i; j++) {
            double unit = sqrt(h[i * cols + i] * h[j * cols + j]);
            worst = fmax(worst, fabs(kalm__moment_row(&m, i)[j - first] - h[i * cols + j]) / unit);
        }
    }
    CHECKF(worst < 1e-3, "%d inputs in blocks of %d: a moment is off by %g", (int)cols, (int)block, worst);

    /* the same bits from any set and any number of threads, before and after the factors are taken */
    room = kalm__moments_room(cols, block);
    copy = (double *)malloc(2 * room * sizeof *copy);
    memcpy(copy, m.h, room * sizeof *copy);
    kalm__moments_factor(&m, &b.pool, 0.01);
    memcpy(copy + room, m.h, room * sizeof *copy);
    for (i = 0; (name = kalm_kernels(i)) != NULL; i++) {
        kalm__moments other;
        bench c;
        bench_begin(&c, name, 1 + (unsigned)i % 4, cols);
        CHECK(!kalm__moments_begin(&other, cols, block, NULL));
        gather(&c, &other, cols, rows);
        CHECKF(!memcmp(other.h, copy, room * sizeof *copy), "%s: moments differ from those of %s", name, kalm_kernels(0));
        kalm__moments_factor(&other, &c.pool, 0.01);
        CHECKF(other.usable && !memcmp(other.h, copy + room, room * sizeof *copy), "%s: factors differ", name);
        kalm__moments_end(&other);
        bench_end(&c);
    }

    /* (I + U) D (I + U)^T is what was factored */
    worst = 0;
    for (i = 0; i < cols; i++) {
        size_t first = kalm__moment_first(&m, i), end = kalm__min(first + block, cols);
        for (j = first; j <= i; j++) {
            double sum = 0, want = copy[kalm__moment_row(&m, i) - m.h + (ptrdiff_t)(j - first)] + (i == j ? 0.01 * mean : 0);
            for (k = i; k < end; k++) {
                const double *u = kalm__moment_row(&m, k);
                sum += (k == i ? 1.0 : u[i - first]) * u[k - first] * (k == j ? 1.0 : u[j - first]);
            }
            worst = fmax(worst, fabs(sum - want) / mean);
        }
    }
    CHECKF(m.usable && worst < 1e-4, "%d inputs in blocks of %d: the factors are off by %g", (int)cols, (int)block, worst);
    kalm__moments_end(&m);
    bench_end(&b);
    free(copy);
    free(h);
}

/* What has no factors says so, and takes no harm. */
static void test_useless(void)
{
    static const float bad[3] = { 0.0f, 1e38f, 3.4e38f };
    kalm__moments m;
    bench b;
    float x[64];
    size_t i, k, row;
    bench_begin(&b, NULL, 1, 64);
    if (!CHECK(!kalm__moments_begin(&m, 64, 64, NULL))) return;
    for (i = 0; i < 5; i++) {
        kalm__moments_clear(&m, 64);
        for (row = 0; row < 3; row++) {
            for (k = 0; k < 64; k++) x[k] = i < 3 ? bad[i] * (float)(k % 3) : (float)k;
            if (i == 3) x[5] = (float)strtod("nan", NULL);
            if (i == 4) x[5] = (float)strtod("inf", NULL);
            add_row(&b, &m, x);
        }
        kalm__moments_flush(&m, &b.work);
        kalm__moments_factor(&m, &b.pool, 0.01);
        if (i == 0) CHECK(!m.usable);  /* the others may be, with whatever is in them: see test_compensated */
    }
    kalm__moments_end(&m);
    bench_end(&b);
}

/* ---- panels -------------------------------------------------------------------------------------------------------- */

static float decode(uint32_t type, const unsigned char *panel, const float *scale, size_t cols, size_t n, size_t k)
{
    unsigned byte, nibble;
    if (type == KALM__Q8) {
        byte = panel[k / 4 * 64 + n * 4 + k % 4];
        return scale[n] * (float)(byte < 128 ? (int)byte : (int)byte - 256);
    }
    byte = panel[k / 32 * 256 + k % 16 / 4 * 64 + n * 4 + k % 4];
    nibble = k % 32 < 16 ? byte & 15 : byte >> 4;
    return scale[n] * (float)kalm__q4_value(nibble, panel[kalm__cols32(cols) / 32 * 256 + k / 32 * 16 + n]);
}

typedef struct panel_error { double out, weights; } panel_error;

/* Code rows [16][cols32] with or without moments; what changes in outputs of inputs with moments h, and in the weights. */
static panel_error panel_errors(uint32_t type, const float *rows, size_t cols, const kalm__moments *m, const double *h)
{
    size_t cols32 = kalm__cols32(cols), n, i, j;
    unsigned char *panel = (unsigned char *)malloc(kalm__panel_bytes(type, cols));
    void *scratch = malloc(kalm__compensate_scratch(cols));
    double *d = (double *)malloc(cols * sizeof *d);
    float scale[16];
    int32_t sum[16];
    kalm__loss loss;
    panel_error e = { 0, 0 };
    if (m) kalm__compensate_panel(type, rows, cols, m, panel, scale, sum, &loss, scratch);
    else kalm__encode_panel(type, rows, cols, panel, scale, sum, &loss, scratch);
    for (n = 0; n < 16; n++) {
        for (i = 0; i < cols; i++) {
            d[i] = (double)rows[n * cols32 + i] - (double)decode(type, panel, scale, cols, n, i);
            e.weights += d[i] * d[i];
        }
        for (i = 0; h && i < cols; i++)
            for (j = 0; j < cols; j++) e.out += d[i] * h[i * cols32 + j] * d[j];
    }
    CHECKF(fabs(loss.change - e.weights) <= 1e-3 * e.weights + 1e-12, "%s: the panel's error is %g, it says %g",
           kalm__type_name(type), e.weights, loss.change);
    free(panel);
    free(scratch);
    free(d);
    return e;
}

/* most: of the error without moments that is left with them */
static void test_compensated(size_t cols, size_t block, double most)
{
    static const uint32_t types[2] = { KALM__Q8, KALM__Q4 };
    size_t cols32 = kalm__cols32(cols), i, k;
    double *h = plain_moments(cols32, 2000);
    float *rows = (float *)calloc(16 * cols32, sizeof *rows);
    uint64_t state = 3;
    kalm__moments m;
    bench b;
    bench_begin(&b, NULL, 1, cols32);
    if (!CHECK(!kalm__moments_begin(&m, cols32, block, NULL))) return;
    gather(&b, &m, cols32, 2000);
    kalm__moments_factor(&m, &b.pool, 0.01);
    for (i = 0; i < 15; i++)           /* the last row is zeros, and so is a group of the first */
        for (k = i ? 0 : 32; k < cols; k++) {
            rows[i * cols32 + k] = test_random_float(&state) + test_random_float(&state);
            rows[i * cols32 + k] *= (float)(i + 1);
        }
    for (i = 0; i < 2; i++) {
        panel_error without = panel_errors(types[i], rows, cols, NULL, h), with = panel_errors(types[i], rows, cols, &m, h);
        CHECKF(with.out < most * without.out, "%s, %d inputs in blocks of %d: the outputs' error is %g with moments, %g without",
               kalm__type_name(types[i]), (int)cols, (int)block, with.out, without.out);
        CHECKF(with.weights < 3 * without.weights, "%s: the weights' error is %g, %g without", kalm__type_name(types[i]),
               with.weights, without.weights);
    }
    /* moments with nonsense in them and the largest weights that there may be: any bytes will do */
    for (k = 0; k < m.room; k++) m.h[k] = k % 3 ? 1e300 : strtod("nan", NULL);
    for (k = 0; k < 16 * cols32; k++) rows[k] = k % 2 ? 1e15f : -1e-30f;
    for (i = 0; i < 2; i++) {
        unsigned char *panel = (unsigned char *)malloc(kalm__panel_bytes(types[i], cols));
        void *scratch = malloc(kalm__compensate_scratch(cols));
        float scale[16];
        int32_t sum[16];
        kalm__loss loss;
        kalm__compensate_panel(types[i], rows, cols, &m, panel, scale, sum, &loss, scratch);
        for (k = 0; k < 16; k++) CHECK(scale[k] > 0 && scale[k] < 1e15f);
        free(panel);
        free(scratch);
    }
    kalm__moments_end(&m);
    bench_end(&b);
    free(rows);
    free(h);
}

/* ---- by hand --------------------------------------------------------------------------------------------------------- */

/* Factors without any feedback, of 64 inputs: U = 0, D = 1. */
static void plain_factors(kalm__moments *m, size_t block)
{
    size_t i;
    CHECK(!kalm__moments_begin(m, 64, block, NULL));
    kalm__moments_clear(m, 64);
    m->usable = 1;
    for (i = 0; i < 64; i++) kalm__moment_row(m, i)[i - kalm__moment_first(m, i)] = 1;
}
static void set_u(kalm__moments *m, size_t j, size_t i, double u) { kalm__moment_row(m, i)[j - kalm__moment_first(m, i)] = u; }

/* A row whose scale is 1, since its largest weight is 127. What an input is rounded to depends on the errors w - v of the inputs
   before it, times U:
     w0 = 0.4                                    -> 0,   error  0.4
     w1 = 10.4 + 0.5 * 0.4        = 10.6         -> 11,  error -0.6   (10 without feedback, or with its sign turned)
     w2 = 3.75 + 0.5 * -0.6       = 3.45         -> 3,   error  0.75  (4 if the error were that of 10.6, -0.4)
     w32 = 5.2 - 1 * 0.75         = 4.45         -> 4,   error  1.2   (the next group; 5 or 6 otherwise)
     w33 = 0.3 + 1 * 0.75 + 0.5 * 1.2 = 1.65     -> 2                 (1 without either) */
static void test_by_hand(void)
{
    static const struct { size_t at; float w; int q[2]; } row[] = {    /* q: as above, and with inputs in two blocks of 32 */
        { 0, 0.4f, { 0, 0 } }, { 1, 10.4f, { 11, 11 } }, { 2, 3.75f, { 3, 3 } }, { 32, 5.2f, { 4, 5 } }, { 33, 0.3f, { 2, 0 } },
        { 63, 127.0f, { 127, 127 } }, { 3, 0.0f, { 0, 0 } }, { 31, 0.0f, { 0, 0 } }, { 62, 0.0f, { 0, 0 } }
    };
    float rows[16 * 64], scale[16];
    unsigned char panel[16 * 64];
    int32_t sum[16];
    kalm__loss loss;
    size_t i, blocks;
    unsigned j;
    void *scratch = malloc(kalm__compensate_scratch(64));
    for (blocks = 0; blocks < 2; blocks++) {
        kalm__moments m;
        plain_factors(&m, blocks ? 32 : 64);
        set_u(&m, 0, 1, 0.5);
        set_u(&m, 1, 2, 0.5);
        if (!blocks) {
            set_u(&m, 2, 32, -1);
            set_u(&m, 2, 33, 1);
        }
        set_u(&m, 32, 33, 0.5);
        memset(rows, 0, sizeof rows);
        for (j = 0; j < 16; j += 5)
            for (i = 0; i < sizeof row / sizeof *row; i++) rows[j * 64 + row[i].at] = row[i].w;
        kalm__compensate_panel(KALM__Q8, rows, 64, &m, panel, scale, sum, &loss, scratch);
        for (j = 0; j < 16; j++) {
            int32_t total = 0;
            CHECKF(scale[j] == (j % 5 ? 0.0f : 1.0f), "row %u has scale %g", j, (double)scale[j]);
            for (i = 0; i < 64; i++) total += (signed char)panel[i / 4 * 64 + j * 4 + i % 4];
            CHECK(total == sum[j]);
            for (i = 0; i < sizeof row / sizeof *row; i++) {
                int is = (signed char)panel[row[i].at / 4 * 64 + j * 4 + row[i].at % 4];
                int should = j % 5 ? 0 : row[i].q[blocks];
                /* with two blocks: 33 has 0.3 + 0.5 * (5.2 - 5) = 0.4 */
                CHECKF(is == should, "row %u, input %d: %d, by hand %d", j, (int)row[i].at, is, should);
            }
        }
        kalm__moments_end(&m);
    }
    free(scratch);
}

/* q4: of the multipliers that are tried, the one with the least sum of D e^2, e taken from what is asked for with feedback. */
static void test_multiplier(void)
{
    uint64_t state = 11;
    unsigned round, differs = 0;
    for (round = 0; round < 200; round++) {
        kalm__group p;
        int8_t nibble[32];
        float error[32], scale = 0.02f, least = 0, plain = 0;
        unsigned m, best = 0, best_plain = 0, is, from;
        size_t i, j;
        for (i = 0; i < 32; i++) {
            p.w[i] = test_random_float(&state);
            p.t[i] = p.w[i] + 0.05f * test_random_float(&state);
            p.d[i] = i % 8 ? 0.01f : 4.0f;
            for (j = 0; j < i; j++) p.u[i][j] = 0.3f * test_random_float(&state);
        }
        from = (unsigned)(kalm__q4_step(p.t) / scale * 64.0f + 0.5f);
        for (m = from - 1; m <= from + 1; m++) {
            float e[32], loss = 0, all = 0;
            if (m < 1 || m > 64) continue;
            for (i = 0; i < 32; i++) {             /* the definition, with a search for the nearest level */
                float t = p.t[i], least_d = 1e9f, v = 0;
                unsigned n;
                for (j = 0; j < i; j++) t += e[j] * p.u[i][j];
                for (n = 0; n < 16; n++) {
                    float level = scale * (float)kalm__q4_value(n, m), d = fabsf(t - level);
                    if (d < least_d) least_d = d, v = level;
                }
                e[i] = p.w[i] - v;
                loss += p.d[i] * (t - v) * (t - v);
                all += (t - v) * (t - v);
            }
            if (!best || loss < least) best = m, least = loss;
            if (!best_plain || all < plain) best_plain = m, plain = all;
        }
        is = kalm__group_search(&p, scale, nibble, error);
        differs += best != best_plain;
        CHECKF(is == best, "group %u: multiplier %u, by the definition %u", round, is, best);
        for (i = 0; i < 32; i++)
            CHECK(error[i] == p.w[i] - scale * (float)kalm__q4_value((unsigned)nibble[i], is));
    }
    CHECKF(differs > 20, "D matters to %u groups only", differs);
}

/* A panel of q4: the multiplier of each group is the one that its own inputs' D chooses. */
static void test_panel_multipliers(void)
{
    float rows[16 * 64], scale[16], error[32];
    unsigned char panel[16 * 64];
    int32_t sum[16];
    int8_t nibble[32];
    uint64_t state = 12;
    unsigned round, differs = 0;
    size_t i, g, r;
    void *scratch = malloc(kalm__compensate_scratch(64));
    CHECK(kalm__q4_panel_bytes(64) <= sizeof panel);
    for (round = 0; round < 8; round++) {
        kalm__moments m;
        kalm__loss loss;
        plain_factors(&m, 64);
        for (i = 0; i < 64; i++) set_u(&m, i, i, i % 8 ? 0.01 : 4.0);          /* the diagonal is D */
        for (i = 0; i < 16 * 64; i++) rows[i] = test_random_float(&state);
        kalm__compensate_panel(KALM__Q4, rows, 64, &m, panel, scale, sum, &loss, scratch);
        for (g = 0; g < 2; g++)
            for (r = 0; r < 16; r++) {
                unsigned is = kalm__q4_panel_multipliers(panel, 64)[g * 16 + r], should;
                kalm__group p;
                memset(&p, 0, sizeof p);
                memcpy(p.w, rows + r * 64 + g * 32, sizeof p.w);
                memcpy(p.t, p.w, sizeof p.t);
                for (i = 0; i < 32; i++) p.d[i] = 1.0f;
                differs += kalm__group_search(&p, scale[r], nibble, error) != is;
                for (i = 0; i < 32; i++) p.d[i] = i % 8 ? 0.01f : 4.0f;
                should = kalm__group_search(&p, scale[r], nibble, error);
                CHECKF(is == should, "row %d, group %d: multiplier %u instead of %u", (int)r, (int)g, is, should);
            }
        kalm__moments_end(&m);
    }
    CHECKF(differs > 20, "D matters to %u groups only", differs);
    free(scratch);
}

/* How much rows count: 10 prompts of 100 tokens, 50 of them the same, are 550 rows; 275 document rows weigh three times that. */
static void test_weights(void)
{
    CHECK(kalm__document_weight(1000, 10, 50, 275) == 6.0);
    CHECK(kalm__document_weight(1000, 10, 0, 3000) == 1.0);
    CHECK(kalm__document_weight(7, 1, 3, 21) == 1.0);
    CHECK(kalm__prompt_root(0, 2, 4) == 0.5f && kalm__prompt_root(1, 2, 4) == 0.5f && kalm__prompt_root(2, 2, 4) == 1.0f);
    CHECK(kalm__prompt_root(0, 0, 4) == 1.0f && kalm__prompt_root(0, 1, 1) == 1.0f);
}

/* ---- texts --------------------------------------------------------------------------------------------------------- */

static void write_text(const char *path, const char *text) { write_bytes(path, text, strlen(text)); }

#define TWELVE "some text of fourteen words that is longer than a query which"

static int text_is(kalm_text t, const char *s) { return t.size == strlen(s) && !memcmp(t.data, s, t.size); }

static void test_texts(void)
{
    const char *path = TMP "/texts.txt";
    kalm__texts t;
    kalm_error err;
    FILE *f;
    size_t i, n;
    write_text(path, "\xef\xbb\xbfone two.  three\r\n\n  \t \nwhat?\ta\tb\r\n\t" TWELVE " has only twelve of them\nlast");
    CHECK(!kalm__texts_read(&t, path, &err));
    if (CHECK(t.count == 4)) {
        CHECK(text_is(t.text[0], "one two.  three") && text_is(t.query[0], "one two."));
        CHECK(text_is(t.text[1], "a\tb") && text_is(t.query[1], "what?"));
        CHECK(text_is(t.query[2], TWELVE));
        CHECK(text_is(t.text[3], "last") && text_is(t.query[3], TWELVE));
    }
    kalm__texts_end(&t);
    write_text(path, "{\"text\": \"a \\u00e9\", \"query\": \"q\\n\", \"title\": \"T\", \"more\": [1]}\n"
                     "{\"_id\": 3, \"text\": \"b\", \"title\": \"\"}\n");
    CHECK(!kalm__texts_read(&t, path, &err));
    if (CHECK(t.count == 2)) {
        CHECK(text_is(t.text[0], "T a \xc3\xa9") && text_is(t.query[0], "q\n"));
        CHECK(text_is(t.text[1], "b") && text_is(t.query[1], "T a \xc3\xa9"));
    }
    kalm__texts_end(&t);
    f = fopen(path, "wb");             /* more than are taken, and no words to count */
    for (i = 0; f && i < 1000; i++) {
        fprintf(f, "%03d", (int)i);
        for (n = 0; !i && n < 60; n++) fputs("\xe4\xb8\x80", f);
        fputc('\n', f);
    }
    if (f) fclose(f);
    CHECK(!kalm__texts_read(&t, path, &err));
    if (CHECK(t.count == KALM__TEXTS_MOST)) {
        CHECK(t.query[0].size == KALM__QUERY_BYTES);           /* three digits, 39 characters of three bytes */
        CHECK(text_is(t.text[1], "003") && text_is(t.text[255], "996"));
    }
    kalm__texts_end(&t);
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

static void refuse(const char *file, const char *arguments, int status, const char *words)
{
    int is = run(QUANTIZE " " BASE " " TMP "/out.kalm --quiet --calibrate %s%s", file, arguments);
    CHECKF(is == status && strstr(said, words) && strchr(said, '\n') == said + strlen(said) - 1,
           "status %d, expected %d and: %s\n  it said: %s", is, status, words, said);
    CHECKF(!kalm__file_exists(TMP "/out.kalm"), "a refusal left a file: %s", words);
}

#define BAD TMP "/bad.txt"
#define SMALLEST RANDOM " hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=8192 --quiet " BASE
#define CALIBRATE QUANTIZE " " BASE " --quiet " TMP
#define FEW TMP "/few"

static void test_refusals(void)
{
    static const struct { const char *text, *words; } table[] = {
        { "", BAD " has no text in it" },
        { "\n \r\n\t\n", BAD " has no text in it" },
        { "fine\nb\xc3(\n", BAD ", line 2: byte 2 is not UTF-8" },
        { "fine\n\xed\xa0\x80\n", BAD ", line 2: byte 1 is not UTF-8" },
        { "fine\nquery\t \n", BAD ", line 2 has a query and no text" },
        { "\n{\"text\": \"a\"}\nplain\n", BAD ", line 3, column 1: a value must stand here" },
        { "{\"text\": \"a\"}\n{\"text\": 3}\n", BAD ", line 2: an object with a string \"text\" must stand here" },
        { "{\"text\": \"a\"}\n[1]\n", BAD ", line 2: an object with a string \"text\" must stand here" },
        { "{\"text\": \" \"}\n", BAD ", line 1 has a query and no text" }
    };
    size_t i, n = (1 << 20) + 1;
    char *line = (char *)malloc(n + 4);
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        write_text(BAD, table[i].text);
        refuse(BAD, "", 1, table[i].words);
    }
    if (!CHECK(line != NULL)) return;
    memcpy(line, "ok\n", 3);
    memset(line + 3, 'x', n);
    write_bytes(BAD, line, n + 3);
    refuse(BAD, "", 1, BAD ", line 2 has 1048577 bytes; a text has at most 1048576");
    write_bytes(BAD, line, n + 2);
    CHECKF(run(QUANTIZE " " BASE " " TMP "/long.kalm --weights q4 --calibrate " BAD) == 0, "a line of a megabyte: %s", said);
    CHECKF(strstr(said, "long.kalm: rows of 4, 3 and 2 bits are fitted to built-in texts: 2 texts are too few, 64 are enough"), "%s", said);
    free(line);
    refuse(TMP "/missing.txt", "", 1, "missing.txt: No such file or directory");
    refuse(TMP, "", 1, TMP);
    write_text(BAD, "one\ntwo\n");
    refuse(BAD, " --weights f16 --no-rows", 2, "--calibrate is for --weights q8 or q4");
    refuse(BAD, " --tokenizer none --yes-id 4 --no-id 9", 1, "has no tokenizer to read the texts with: --calibrate needs one");
    CHECK(run(RANDOM " hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=64 --quiet " FEW) == 0);
    CHECK(run("cp " TINY "/tokenizer.json " FEW) == 0);
    CHECK(run(QUANTIZE " " FEW " " TMP "/out.kalm --quiet --yes-id 4 --no-id 9 --calibrate " BAD) == 1);
    CHECKF(strstr(said, "; the vocabulary has 64") != NULL, "%s", said);
    CHECK(run(QUANTIZE " " BASE " " TMP "/out.kalm --calibrate") == 2);
}

#define SOME TMP "/some.txt"
#define FEWER TMP "/fewer.txt"         /* all but one of SOME's 64: too few to fit rows to */

/* The same file from three threads of every kernel set, or of the best alone, as TMP/one.kalm. */
static void same_from(int all, const char *options, const char *texts)
{
    const char *name;
    size_t i;
    for (i = 0; (name = kalm_kernels(i)) != NULL && (all || !i); i++) {
        CHECKF(run("KALM_KERNELS=%s " CALIBRATE "/three.kalm %s --threads 3 --calibrate %s", name, options, texts) == 0, "%s", said);
        CHECKF(same_file(TMP "/one.kalm", TMP "/three.kalm"), "%s: another file from three threads of %s", options, name);
    }
}

/* The same file whoever makes it, for shapes of every kind. Fitting rows to texts costs a hundred times what rounding weights does:
   512 gradients, of which each shape takes the 50 of the built-in texts, once, beside q8 or q4. The smallest model has them all at the
   end, where texts change rows. */
static void test_shapes(void)
{
    static const char *const shapes[] = {
        "hidden=72 mlp=40 layers=1 decoder_layers=2 decoder_mlp=136 heads=4 kv_heads=2 decoder_heads=1 decoder_kv_heads=1 "
            "head_dim=48 decoder_head_dim=64 window=6 --dtype f16 --nested --vision --massive --shard-size 1",
        "hidden=64 mlp=96 layers=2 heads=2 kv_heads=1 head_dim=32 window=8 full_every=2",
        "hidden=40 mlp=72 layers=3 decoder_layers=1 heads=3 kv_heads=3 head_dim=18 window=5 --dtype f32 --untied "
            "--decoder-table own"
    };
    size_t i, k;
    write_text(SOME, "Compilers turn source code into programs.\n"
                     "what is a compiler\tA compiler turns source code into programs. It reads one language and writes another.\n"
                     "Editors change texts.\n\n"
                     "image viewer\tA small viewer for pictures of many formats\n");
    for (k = 0; k < 4; k++) CHECK(run("cat " SOME " " SOME " > " SOME ".twice && mv " SOME ".twice " SOME) == 0);    /* 64 */
    CHECK(run("grep . " SOME " | head -n 63 > " FEWER) == 0);
    for (i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        CHECKF(run("rm -rf " BASE " && " RANDOM " vocabulary=8192 %s --quiet " BASE, shapes[i]) == 0, "%s", said);
        CHECK(run("cp " TINY "/tokenizer.json " BASE) == 0);
        for (k = 0; k < 2; k++) {
            char o[64];
            int rows = k == i % 2;
            const char *texts = rows ? FEWER : SOME;
            snprintf(o, sizeof o, "--weights %s%s", k ? "q4" : "q8", rows ? "" : " --no-rows");
            CHECKF(run(CALIBRATE "/one.kalm %s --threads 1 --calibrate %s", o, texts) == 0, "%s: %s", shapes[i], said);
            CHECKF(run(QUANTIZE " --verify " TMP "/one.kalm") == 0, "%s %s: %s", shapes[i], o, said);
            /* from every set the largest without rows, the one with the oddest sizes with them */
            same_from(i == 0 ? !rows : i == 2 && rows, o, texts);
            if (rows) continue;
            CHECK(run(CALIBRATE "/plain.kalm %s", o) == 0);
            CHECKF(!same_file(TMP "/one.kalm", TMP "/plain.kalm"), "%s %s: the texts change nothing", shapes[i], o);
        }
    }
    CHECK(run(CALIBRATE "/one.kalm --weights q4 --no-rows --calibrate " SOME) == 0);
    write_text(SOME, "{\"text\": \"Compilers turn source code into programs.\"}\n"
                     "{\"query\": \"what is a compiler\", \"text\": \"A compiler turns source code into programs. It reads one "
                     "language and writes another.\"}\n"
                     "{\"text\": \"Editors change texts.\"}\n"
                     "{\"query\": \"image viewer\", \"title\": \"A small viewer\", \"text\": "
                     "\"for pictures of many formats\"}\n");
    for (k = 0; k < 4; k++) CHECK(run("cat " SOME " " SOME " > " SOME ".twice && mv " SOME ".twice " SOME) == 0);
    CHECK(run(CALIBRATE "/three.kalm --weights q4 --no-rows --calibrate " SOME) == 0);
    CHECK(same_file(TMP "/one.kalm", TMP "/three.kalm"));

    /* f32 weights: texts are for rows alone, and fewer than 64 are as good as none */
    CHECK(run("rm -rf " BASE " && " SMALLEST) == 0);
    CHECK(run("cp " TINY "/tokenizer.json " BASE) == 0);
    CHECK(run(CALIBRATE "/plain.kalm --weights f32") == 0);
    CHECK(run(CALIBRATE "/one.kalm --weights f32 --threads 1 --calibrate " SOME) == 0);
    CHECKF(!same_file(TMP "/one.kalm", TMP "/plain.kalm"), "64 texts change no rows");
    same_from(0, "--weights f32", SOME);
    CHECK(run("head -n 63 " SOME " > " SOME ".63 && mv " SOME ".63 " SOME) == 0);
    CHECK(run(CALIBRATE "/one.kalm --weights f32 --calibrate " SOME) == 0);
    CHECKF(same_file(TMP "/one.kalm", TMP "/plain.kalm"), "63 texts change rows");
}

/* ---- the bundled model ----------------------------------------------------------------------------------------------- */

/* The corpus without the candidates of the queries before `query`, or `most` of it, to SOME: what is measured on has not been
   seen. */
static int other_documents(const char *query, int most)
{
    size_t n, m;
    char *run_file = (char *)test_read_file(TINY "/eval/bm25.run", &n), *line, *end;
    char *corpus = (char *)test_read_file(TINY "/eval/corpus.jsonl", &m), *seen = run_file ? strstr(run_file, query) : NULL;
    FILE *f = fopen(SOME, "wb");
    int count = 0;
    if (!CHECK(seen && corpus && f)) exit(1);
    *seen = 0;                         /* of the run the lines of the queries before stay */
    for (line = corpus; *line && count < most; line = end + 1) {
        char key[200], *id = strstr(line, "\"_id\": \"") + 8;
        end = strchr(line, '\n');
        snprintf(key, sizeof key, " %.*s ", (int)(strchr(id, '"') - id), id);
        if (strstr(run_file, key)) continue;
        fwrite(line, 1, (size_t)(end - line) + 1, f);
        count++;
    }
    fclose(f);
    free(run_file);
    free(corpus);
    return count;
}

/* The number behind the n-th `key` of what was said. */
static double number_after(const char *key, int n)
{
    const char *at = said;
    while (n-- && (at = strstr(at, key)) != NULL) at += strlen(key);
    return at ? strtod(at, NULL) : -1;
}

static void test_tiny(void)
{
    double plain, known;
    int most = small_build() ? 32 : 100000, count = other_documents("t013 ", most);
    CHECKF(count == most || (count > 2000 && count < 3584), "%d documents", count);
    CHECK(run(QUANTIZE " " TINY " " TMP "/f32.kalm --quiet --no-rows --weights f32") == 0);
    CHECK(run(QUANTIZE " " TINY " " TMP "/plain.kalm --quiet --no-rows --weights q4") == 0);
    CHECKF(run(QUANTIZE " " TINY " " TMP "/known.kalm --quiet --no-rows --weights q4 --calibrate " SOME) == 0, "%s", said);
    /* kalm-eval keeps what it read until it ends */
    CHECKF(run("ASAN_OPTIONS=detect_leaks=0 " TEST_BUILD "/kalm-eval " TMP "/f32.kalm " TINY "/eval --queries 12 --depth %d "
               "--compare " TMP "/plain.kalm --compare " TMP "/known.kalm --json", small_build() ? 3 : 20) == 0, "%s", said);
    plain = number_after("\"mean_margin_change\": ", 1);
    known = number_after("\"mean_margin_change\": ", 2);
    printf("12 queries, q4: margins change by %.4f, calibrated on %d texts by %.4f\n", plain,
           small_build() ? most : KALM__TEXTS_MOST, known);
    CHECKF(plain > 0 && known > 0 && known < 0.8 * plain, "margins change by %g without texts, by %g with", plain, known);
}

/* Room for the gradients of one pair: of sizes that no size_t can say none is taken, and none wraps to a small one. */
static void test_room(void)
{
    kalm__gradient_room r;
    kalm__side s;
    memset(&s, 0, sizeof s);
    s.heads = s.kv_heads = s.head_dim = 16;
    s.mlp = 64;
    CHECK(kalm__gradient_take(&r, &s, 32, 3, 5));
    r.turn[3 * 16 - 1] = 1, r.p[16 * 3 * (3 + 5) - 1] = 1;             /* the first and the last number */
    free(r.block);
    CHECK(!kalm__gradient_take(&r, &s, 32, 1, SIZE_MAX / 16));         /* 16 heads, and the kv heads' width, times the rows */
    CHECK(!kalm__gradient_take(&r, &s, SIZE_MAX / 2 + 1, 2, 5));
    CHECK(!kalm__gradient_take(&r, &s, 32, 1, SIZE_MAX));
    s.kv_heads = s.head_dim = 1;
    s.heads = 1u << 31;
    CHECK(!kalm__gradient_take(&r, &s, 32, 1, SIZE_MAX / s.heads));
}

int main(void)
{
    CHECK(run("rm -rf " TMP " && mkdir -p " TMP) == 0);
    test_moments(64, 10240, 300);
    test_moments(96, 64, 100);
    test_moments(416, 192, 700);
    test_useless();
    test_room();
    test_compensated(256, 10240, 0.5);
    test_compensated(200, 128, 0.7);
    test_by_hand();
    test_multiplier();
    test_panel_multipliers();
    test_weights();
    test_texts();
    CHECK(run(SMALLEST) == 0);
    CHECK(run("cp " TINY "/tokenizer.json " BASE) == 0);
    test_refusals();
    test_shapes();
    test_tiny();
    CHECK(run("rm -rf " TMP) == 0);
    return test_end();
}
