/* bench.c - kalm-bench: how close this machine's kernels, encoder and decoder come to what its silicon can do. Every
   figure is the best of several repetitions, each followed by its yardstick (the register peak of the instruction set, or
   the rate at which the same bytes are read) on the same threads of the same process, since machines drift.

   make bench runs it on a Nano-shaped model with random weights; any .kalm file will do. Where a multiply-add counts, it
   counts two operations. Operations of the decoder are those that are run: what documents share is counted once. */
#ifndef _DEFAULT_SOURCE
#  define _DEFAULT_SOURCE              /* clock_gettime, getrusage, getloadavg under -std=c99 */
#endif
#include "../src/tools/files.h"        /* before all else, see there */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../src/tools/options.h"
#include "bench_figures.h"
#include "bench_kernels.h"
#include "bench_tokenizer.h"
#if defined(__unix__) || defined(__APPLE__)
#  include <sys/resource.h>
#  define HAVE_USAGE 1
#endif

typedef struct options {
    const char *kernels, *only, *json, *commit, *tokenizer, *model[8];
    int         models, quick, longer, shapes, csv, compare;
    uint32_t    load;
    unsigned    threads[2], counts;    /* 1, or 1 and another */
} options;

static options opt;
static double begun, time_limit;

static void add_model(cmd_args *a, const char *name, const char *value)
{
    (void)a, (void)name;
    if (opt.models == (int)(sizeof opt.model / sizeof opt.model[0])) die_usage("more than %d models", opt.models);
    opt.model[opt.models++] = value;
}

static const cmd_option table[] = {
    CMD_HEADING("Options"),
    CMD_CALL("--model", "FILE", add_model, "the same as MODEL.kalm"),
    CMD_TEXT("--tokenizer", "FILE", options, tokenizer, "the model whose tokenizer is measured; default: the first one"),
    CMD_NUMBER("--threads", "N", options, threads[1], 1, KALM__MAX_THREADS, "measure 1 and N threads; default 2 where there are as "
               "many cores"),
    CMD_TEXT("--kernels", "NAME", options, kernels, "the set of kernels to measure; default: the best of this machine"),
    CMD_BITS("--read", options, load, KALM_LOAD_READ, "measure with models that are read into memory, in large pages, not mapped"),
    CMD_TEXT("--only", "NAME", options, only, "only the figures whose names begin so (also: kernels, tokenizer)"),
    CMD_FLAG("--quick", options, quick, "less than 40 seconds where nothing else runs: fewer repetitions, documents and large "
             "shapes"),
    CMD_FLAG("--long", options, longer, "also encode_8192 and encode_32768"),
    CMD_FLAG("--shapes", options, shapes, "every shape of the matmul figures, not the worst alone"),
    CMD_FLAG("--csv", options, csv, "the table as CSV"),
    CMD_TEXT("--json", "FILE", options, json, "where the figures go; default build/bench.json"),
    CMD_TEXT("--commit", "NAME", options, commit, "what the file says was measured"),
    CMD_FLAG("--compare", options, compare, "measure nothing: compare two files of --json, the older one first; status 1 where a "
             "figure is worse by more than the noise of both runs")
};

static const cmd_program program = {
    "kalm-bench",
    "[options] [MODEL.kalm ...]",
    "Measure how close this machine comes to what its silicon can do: matrix products, encoding, ranking.\n"
    "The first model gets all figures, the others encode_512 each; without any only the matmuls are measured.",
    table, sizeof table / sizeof *table,
    "With --compare two files are given in place of models: kalm-bench --compare old.json new.json\n"
    "Exit status: 0 done, 1 failed (one line on standard error says why) or worse, 2 wrong usage.",
    NULL
};

static void check(kalm_result r, const kalm_error *err)
{
    if (r) die("%s", err->text);
}

static int wanted(const char *name)
{
    return !opt.only || !strncmp(name, opt.only, strlen(opt.only));
}

/* ---- yardsticks of 64-bit ARM, beside those of x86 in bench_kernels.h ---------------------------------- */

#if KALM__NEON64 && defined(__GNUC__)
#  define ARM_12(M) M("4") M("5") M("6") M("7") M("8") M("9") M("10") M("11") M("12") M("13") M("14") M("15")
#  define ARM_CLOBBERS "v0", "v1", "v2", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", \
    "v16", "v17", "v18", "v19", "v20", "v21", "cc", "memory"
#  define ARM_ZERO(A) "movi v" A ".16b, #0\n\t"
/* smmla and sdot v[A].4s, v0.16b, v1.16b, as numbers: assemblers differ in how they are asked to know them */
#  define ARM_I8MM(A) ".inst 0x4e81a400 + " A "\n\t"
#  define ARM_DOT(A) ".inst 0x4e819400 + " A "\n\t"
#  define ARM_FMA(A) "fmla v" A ".4s, v0.4s, v1.4s\n\t"
#  define ARM_WORDS(A, T) "smull v" T ".8h, v0.8b, v1.8b\n\tsmlal2 v" T ".8h, v0.16b, v1.16b\n\t" \
    "sadalp v" A ".4s, v" T ".8h\n\t"
#  define ARM_PEAK(name, body, macs) \
static double name(long n) \
{ \
    double made = (macs) * (double)n; \
    __asm__ volatile("ldp q0, q1, [%1]\n\t" ARM_12(ARM_ZERO) "1:\n\t" body "subs %0, %0, #1\n\tb.ne 1b" \
                     : "+r"(n) : "r"(bench__sources()) : ARM_CLOBBERS); \
    return made; \
}
#  if KALM__HAVE_MM
ARM_PEAK(arm_peak_i8mm, ARM_12(ARM_I8MM), 12.0 * 32.0)
#  endif
#  if KALM__HAVE_DOT
ARM_PEAK(arm_peak_dot, ARM_12(ARM_DOT), 12.0 * 16.0)
#  endif
ARM_PEAK(arm_peak_fma, ARM_12(ARM_FMA), 12.0 * 4.0)
ARM_PEAK(arm_peak_words, ARM_WORDS("4", "16") ARM_WORDS("5", "17") ARM_WORDS("6", "18") ARM_WORDS("7", "19")
         ARM_WORDS("8", "20") ARM_WORDS("9", "21"), 6.0 * 16.0)
#endif

/* bench_peak, and ARM's. */
static bench__peak_fn peak_of(const char *set, uint32_t type, const char **name)
{
    bench__peak_fn peak = bench_peak(set, type, name);
#if KALM__NEON64 && defined(__GNUC__)
    if (strcmp(set, "scalar") != 0) {
        *name = kalm__is_quantised(type) ? "smull+smlal2+sadalp" : "fmla";
        peak = kalm__is_quantised(type) ? arm_peak_words : arm_peak_fma;
    }
#  if KALM__HAVE_DOT
    if (!strcmp(set, "dotprod") && kalm__is_quantised(type)) *name = "sdot", peak = arm_peak_dot;
#  endif
#  if KALM__HAVE_MM
    if (!strcmp(set, "i8mm") && kalm__is_quantised(type)) *name = "smmla", peak = arm_peak_i8mm;
#  endif
#endif
    return peak;
}

/* ---- measuring ----------------------------------------------------------------------------------------- */

enum { PARTS = 4 };

/* One thing to time, and its yardstick: a register peak, or reading the `bytes` bytes that would come next, as cold. */
typedef struct job {
    void         (*run)(void *arg);
    void          *arg;
    double         work;               /* of one run: operations, or bytes */
    kalm__pool    *pool;               /* where the yardstick runs */
    bench__peak_fn peak;
    const unsigned char *read;         /* [copies][bytes], of which a run takes one and the yardstick the next */
    size_t         bytes, copies, *copy;
    /* results */
    double         best, best_peak, made;   /* seconds; operations or bytes a second; of one task of the yardstick. Of reads
                                               not the best but the mean: the best would be of what a cache still held */
    double         reading, running;   /* seconds in all, where read */
    double         first;              /* seconds of the first run */
    double         processor;          /* seconds of processor time of the best run; on one thread, else 0 */
    double         part[PARTS], part_peak[PARTS];      /* best time and best yardstick of every PARTSth round: what the figure
                                          would have been with fewer rounds */
    long           turns;
    int            repeat;
} job;

enum { SLICES = 8, READ_SLICE = 64 * 1024 };
static volatile uint64_t sink;

static void peak_task(void *arg, size_t i, unsigned worker)
{
    const job *j = (const job *)arg;
    (void)i, (void)worker;
    (void)j->peak(j->turns);
}

static void read_task(void *arg, size_t i, unsigned worker)
{
    const job *j = (const job *)arg;
    size_t at = i * READ_SLICE, size = kalm__min(READ_SLICE, j->bytes - at);
    (void)worker;
    sink = bench__read(j->read + *j->copy * j->bytes + at, size / 64 * 64);
}

/* Work a second of the yardstick: short, so that some meet no neighbour. */
static double yardstick(job *j)
{
    size_t tasks = j->read ? (j->bytes + READ_SLICE - 1) / READ_SLICE : SLICES * j->pool->size;
    double t = bench__now(), work = j->read ? (double)j->bytes : (double)tasks * j->made;
    kalm__parallel(j->pool, tasks, j->read ? read_task : peak_task, j);
    t = work / (bench__now() - t + 1e-9);
    if (j->read) {
        *j->copy = (*j->copy + 1) % j->copies;
        j->reading += work / t;
    }
    if (t > j->best_peak) j->best_peak = t;
    return t;
}

/* All jobs in turn, for about `seconds` and at least `least` times. Runs shorter than 2 ms are repeated to that. */
static void measure(job *jobs, size_t count, double seconds, int least)
{
    double start = bench__now(), t;
    size_t i;
    int round, k;
    if (opt.quick) seconds *= 0.2, least = least > 2 ? 2 : least;
    if (start - begun > time_limit) seconds = 0, least = 1;
    for (i = 0; i < count; i++) {
        job *j = &jobs[i];
        t = bench__now();
        j->run(j->arg);
        j->first = bench__now() - t;
        j->best = j->first;            /* the first one warms up; it counts only if it is the fastest */
        j->repeat = (int)(0.002 / (j->first + 1e-9)) + 1;
        j->best_peak = j->processor = 0;
        if (j->read) j->repeat = 1;
        if (j->peak) {
            j->turns = 2000;
            t = bench__now();
            (void)j->peak(j->turns);
            j->turns = (long)(0.00015 * (double)j->turns / (bench__now() - t + 1e-9)) + 100;
            j->made = 2 * j->peak(j->turns);
        }
        if (j->peak || j->read) (void)yardstick(j);
    }
    if (bench__now() - start > 4 * seconds + 8) least = 0;             /* a slow machine: the first run is all */
    for (i = 0; i < count; i++) {
        jobs[i].reading = jobs[i].running = 0;
        for (k = 0; k < PARTS; k++) jobs[i].part[k] = jobs[i].part_peak[k] = 0;
    }
    start = bench__now();
    for (round = 0; round < least || (least && bench__now() - start < seconds); round++)
        for (i = 0; i < count; i++) {
            job *j = &jobs[i];
            double *part = &j->part[round % PARTS], *part_peak = &j->part_peak[round % PARTS];
            clock_t used = clock();
            t = bench__now();
            for (k = 0; k < j->repeat; k++) j->run(j->arg);
            t = (bench__now() - t) / j->repeat;
            j->running += t;
            if (t < j->best) j->best = t;
            if (*part <= 0 || t < *part) *part = t;
            t = (double)(clock() - used) / CLOCKS_PER_SEC / j->repeat;
            if (j->pool->size == 1 && (j->processor <= 0 || t < j->processor)) j->processor = t;
            t = j->peak || j->read ? yardstick(j) : 1;
            if (t > *part_peak) *part_peak = t;
        }
    for (i = 0; i < count && round; i++)
        if (jobs[i].read) {
            jobs[i].best = jobs[i].running / round;
            jobs[i].best_peak = (double)jobs[i].bytes * round / jobs[i].reading;
        }
}

static double rate(const job *j) { return j->work / j->best; }
static double ratio(const job *j) { return j->best_peak > 0 ? rate(j) / j->best_peak : 0; }

/* How far the figure may be off: half of what it differs between parts of the rounds, as a share; 0 if there was one part. */
static double noise(const job *j)
{
    double least = 0, most = 0;
    int k;
    for (k = 0; k < PARTS && j->part[k] > 0 && j->part_peak[k] > 0; k++) {
        double r = 1 / (j->part[k] * j->part_peak[k]);
        if (!k || r < least) least = r;
        if (!k || r > most) most = r;
    }
    return k > 1 ? (most - least) / (most + least) : 0;
}

/* A figure with its yardstick. */
static void report_job(const char *name, unsigned threads, double value, const char *unit, const job *j, const char *note)
{
    figure f;
    if (!wanted(name)) return;
    memset(&f, 0, sizeof f);
    f.threads = threads;
    f.value = value;
    f.unit = unit;
    f.ratio = ratio(j);
    f.noise = noise(j);
    if (!strcmp(unit, "GOPS") || !strcmp(unit, "GB/s")) f.peak = j->best_peak * 1e-9;
    add_figure(name, &f, note);
}

/* A figure without one. */
static void report(const char *name, unsigned threads, double value, const char *unit, const char *note)
{
    figure f;
    if (!wanted(name)) return;
    memset(&f, 0, sizeof f);
    f.threads = threads;
    f.value = value;
    f.unit = unit;
    add_figure(name, &f, note);
}

/* The same of bench_kernels.h, on one thread. */
static void report_kernels(const char *name, const bench_result *r, const char *note)
{
    figure f;
    if (!wanted(name)) return;
    memset(&f, 0, sizeof f);
    f.threads = 1;
    f.value = r->gops;
    f.unit = "GOPS";
    f.peak = r->peak;
    f.ratio = r->ratio;
    add_figure(name, &f, note);
}

/* Behind a note: the ratio if only the time counts that the system gave us, which tells of neighbours. */
static void by_processor(const job *j, char *note, size_t size)
{
    size_t n = strlen(note);
    if (!j->read && j->processor > 0 && j->best_peak > 0)
        snprintf(note + n, size - n, "%s%.1f%% by processor time", n ? "; " : "",
                 100 * j->work / j->processor / j->best_peak);
}

/* ---- threads ------------------------------------------------------------------------------------------- */

static kalm__pool pools[2];
static kalm__worker workers[2][KALM__MAX_THREADS];

static void start_pools(void)
{
    unsigned i;
    kalm_config config;
    for (i = 0; i < opt.counts; i++) {
        memset(&config, 0, sizeof config);
        config.threads = opt.threads[i];
        kalm__pool_start(&pools[i], opt.threads[i], workers[i], &config);
    }
}

static void stop_pools(void)
{
    unsigned i;
    for (i = 0; i < opt.counts; i++) kalm__pool_stop(&pools[i]);
}

/* ---- matmuls ------------------------------------------------------------------------------------------- */

/* y = x W^T as the engine does it: rows quantised and packed, then chunk after chunk of rows, cut into tiles for the
   threads. A matrix whose results are passing leaves each tile in the scratch memory, as gate and up do. */
typedef struct product {
    const kalm__kernels *set;
    kalm__pool    *pool;
    kalm__matrix   w;
    bench_shape    shape;
    size_t         rows, chunk, row0, scratch_size, copies, bytes;
    size_t        *copy;               /* which copy of the weights comes next, on however many threads */
    kalm__cut      cut;
    unsigned char *data, *acts, *scratch;
    float         *x, *y;
} product;

static void product_pack(void *arg, size_t i, unsigned worker)
{
    const product *p = (const product *)arg;
    size_t step = KALM__ROW_STEP, first = i * step;
    (void)worker;
    kalm__pack(p->set, kalm__block_of(p->w.type, p->rows, p->shape.inputs, p->acts), first, kalm__min(step, p->rows - first),
               p->x + first * p->shape.inputs, p->shape.inputs);
}

static void product_task(void *arg, size_t i, unsigned worker)
{
    const product *p = (const product *)arg;
    size_t row, stride = kalm__round_up(p->shape.outputs, 16), next = (i + p->pool->size) * p->cut.panel_step;
    unsigned char *scratch = p->scratch + worker * p->scratch_size;
    void *tile = scratch;
    float *y = (float *)tile;
    kalm__matmul_job part;
    kalm__share at = kalm__share_of(&p->cut, i);
    row = p->row0 + at.row;
    if (p->shape.passing) stride = KALM__TILE_PANELS * 16;
    else y = p->y + row * stride + at.panel * 16;
    part.w = &p->w, part.acts = p->acts, part.rows = p->rows, part.row0 = row, part.n = at.n;
    part.panel0 = at.panel, part.panels = at.panels;
    part.y = y, part.stride = stride, part.scratch = scratch + kalm__geglu_scratch();
    part.next = next < p->cut.panels ? (const unsigned char *)p->w.data + next * kalm__panel_stride(&p->w) : NULL;
    kalm__matmul(p->set, &part);
}

static void product_run(void *arg)
{
    product *p = (product *)arg;
    size_t step = KALM__ROW_STEP, n, pieces;
    p->w.data = p->data + *p->copy * p->bytes;
    *p->copy = (*p->copy + 1) % p->copies;
    kalm__parallel(p->pool, (p->rows + step - 1) / step, product_pack, p);
    for (p->row0 = 0; p->row0 < p->rows; p->row0 += n) {
        n = kalm__even_chunk(p->chunk, p->rows - p->row0);
        pieces = kalm__plan_cut(&p->cut, n, ((size_t)p->shape.outputs + 15) / 16, p->pool->size, 0, p->shape.passing);
        kalm__parallel(p->pool, pieces, product_task, p);
    }
}

static uint64_t random_bits(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Irregular weights: q8 in -127..127, floats of about 0.01. */
static void fill_weights(unsigned char *data, size_t bytes, uint32_t type)
{
    uint64_t state = 88172645463325252u, v;
    size_t i;
    for (i = 0; i + 8 <= bytes; i += 8) {
        v = random_bits(&state);
        if (type == KALM__F32) v = (v & 0x807fffff807fffffu) | 0x3c0000003c000000u;
        else if (type == KALM__BF16) v = (v & 0x807f807f807f807fu) | 0x3c003c003c003c00u;
        else if (type == KALM__Q8) v |= 0x0101010101010101u;
        else v &= 0x3f3f3f3f3f3f3f3fu;
        memcpy(data + i, &v, 8);
    }
}

/* `reads`: few rows, measured against reading the weights, of which there are more than the caches hold: a pass through a
   model meets none of them there. Otherwise at least the 6 MB of one layer of Nano are gone through.
   Long: one figure after the other, each with the way it is printed. */
static void bench_matmuls(const char *name, const char *set_name, const char *peak_set, uint32_t type, size_t rows,
                          int reads)
{
    const kalm__kernels *set = kalm__kernel_set(0, set_name ? set_name : opt.kernels, 1);
    size_t circle = reads ? (size_t)256 << 20 : (size_t)6 << 20, most = 0, most_rows = 0, most_y = 0, i, k;
    size_t sizes[BENCH_SHAPES];
    void *blocks[6];
    unsigned char *data, *scales;
    double worst[2] = { 1e30, 1e30 };
    job kept[2];
    size_t worst_shape[2] = { 0, 0 }, skipped = 0, copy;
    double seconds = 0;                /* an operation takes */
    const char *peak_name = "";
    bench__peak_fn peak;
    void *place;
    if (!wanted(name) || !set || (set_name && strcmp(set->name, set_name))) return;
    peak = reads ? NULL : peak_of(peak_set ? peak_set : set->name, type, &peak_name);
#if KALM__X86
    if (reads && !(kalm__cpu_features() & KALM__CPU_AVX2)) return;     /* bench__read needs it */
#endif
    for (i = 0; i < BENCH_SHAPES; i++) {
        const bench_shape *s = &bench_shapes[i];
        size_t bytes = kalm__panel_bytes(type, s->inputs) * (((size_t)s->outputs + 15) / 16);
        sizes[i] = (circle + bytes - 1) / bytes * bytes;
        most = kalm__max(most, sizes[i]);
        most_rows = kalm__max(most_rows, s->inputs);
        if (!s->passing) most_y = kalm__max(most_y, kalm__round_up(s->outputs, 16));
    }
    data = bench__alloc(&blocks[0], most);
    fill_weights(data, most, type);
    scales = bench__alloc(&blocks[1], 24576 * 8);
    place = scales;
    for (i = 0; i < 24576; i++) ((float *)place)[i] = 0.01f;           /* the sums behind them stay 0 */
    place = bench__alloc(&blocks[2], rows * most_rows * 4);
    for (i = 0; i < rows * most_rows; i++) ((float *)place)[i] = (float)((i * 2654435761u >> 16 & 255)) / 128.0f - 1.0f;
    memset(kept, 0, sizeof kept);
    for (i = 0; i < BENCH_SHAPES; i++) {
        product p[2];
        job jobs[2];
        if (seconds * 2.0 * (double)rows * bench_shapes[i].outputs * bench_shapes[i].inputs > (opt.quick ? 0.1 : 3.0)) {
            skipped++;
            continue;
        }
        memset(p, 0, sizeof p);
        memset(jobs, 0, sizeof jobs);
        copy = 0;
        for (k = 0; k < opt.counts; k++) {
            void *sums = scales + 24576 * 4, *scale = scales;
            p[k].set = set;
            p[k].pool = &pools[k];
            p[k].shape = bench_shapes[i];
            p[k].rows = rows;
            p[k].chunk = KALM__CHUNK / KALM__ACTS_STEP * KALM__ACTS_STEP;
            p[k].bytes = kalm__panel_bytes(type, p[k].shape.inputs) * (((size_t)p[k].shape.outputs + 15) / 16);
            p[k].copies = sizes[i] / p[k].bytes;
            p[k].copy = &copy;
            p[k].data = data;
            p[k].x = (float *)place;
            p[k].w.type = type;
            p[k].w.rows = p[k].shape.outputs;
            p[k].w.cols = p[k].shape.inputs;
            if (kalm__is_quantised(type)) p[k].w.scale = (const float *)scale, p[k].w.sum = (const int32_t *)sums;
            if (k == 0) {
                void *y = bench__alloc(&blocks[3], rows * most_y * 4);
                p[0].y = (float *)y;
                p[0].acts = bench__alloc(&blocks[4], kalm__acts_bytes(set, type, rows, p[0].shape.inputs));
            }
            p[k].y = p[0].y;
            p[k].acts = p[0].acts;
            p[k].scratch_size = kalm__geglu_scratch();
            p[k].scratch_size += kalm__round_up(kalm__matmul_scratch(set, type, p[k].shape.inputs), 4096);
            if (k == 0) p[0].scratch = bench__alloc(&blocks[5], p[0].scratch_size * opt.threads[opt.counts - 1]);
            p[k].scratch = p[0].scratch;
            jobs[k].run = product_run;
            jobs[k].arg = &p[k];
            jobs[k].pool = &pools[k];
            jobs[k].work = reads ? (double)p[k].bytes : 2.0 * (double)rows * p[k].shape.outputs * p[k].shape.inputs;
            jobs[k].peak = peak;
            if (reads) jobs[k].read = data, jobs[k].bytes = p[k].bytes, jobs[k].copies = p[k].copies, jobs[k].copy = &copy;
        }
        measure(jobs, opt.counts, 0.2 * opt.counts, 3);
        seconds = jobs[0].best / (2.0 * (double)rows * bench_shapes[i].outputs * bench_shapes[i].inputs);
        for (k = 0; k < opt.counts; k++) {
            double r = peak || reads ? ratio(&jobs[k]) : rate(&jobs[k]) * 1e-12;
            char label[64] = "";
            if (r < worst[k]) {
                worst[k] = r;
                worst_shape[k] = i;
                kept[k] = jobs[k];
            }
            snprintf(label, sizeof label, "%s.%s", name, bench_shapes[i].name);
            if (opt.shapes)
                report_job(label, opt.threads[k], rate(&jobs[k]) * 1e-9, reads ? "GB/s" : "GOPS", &jobs[k], "");
        }
        for (k = 3; k < 6; k++) free(blocks[k]);
    }
    for (k = 0; k < opt.counts; k++) {
        char note[160];
        snprintf(note, sizeof note, "worst shape %s; %s", bench_shapes[worst_shape[k]].name,
                 reads ? "weights read, to reading as many bytes" : peak ? peak_name : "no yardstick here");
        if (skipped)
            snprintf(note + strlen(note), sizeof note - strlen(note), "; %u shapes left out: too slow here",
                     (unsigned)skipped);
        by_processor(&kept[k], note, sizeof note);
        report_job(name, opt.threads[k], rate(&kept[k]) * 1e-9, reads ? "GB/s" : "GOPS", &kept[k], note);
    }
    for (k = 0; k < 3; k++) free(blocks[k]);
}

/* Each set of kernels on the shapes of one layer of Nano, on one thread, beside the scalar set. */
static void bench_sets(void)
{
    static const uint32_t types[3] = { KALM__Q8, KALM__Q4, KALM__F32 };
    static const char *const type_names[3] = { "q8", "q4", "f32" };
    double scalar[3][4];
    size_t t, s, i, sets = 0;
    if (!wanted("kernels") || (!opt.only && (opt.quick || bench__now() - begun > time_limit))) return;
    heading("kernels, one thread");
    while (kalm__kernel_set(sets, NULL, 1)) sets++;
    for (i = sets; i-- > 0;) {         /* scalar is the last */
        const kalm__kernels *set = kalm__kernel_set(i, NULL, 1);
        for (t = 0; t < 3; t++)
            for (s = 0; s < 4; s++) {
                bench_result r = bench_matmul(set, types[t], i + 1 == sets ? 32 : 512, bench_shapes[s], KALM__CHUNK,
                                              KALM__TILE_PANELS, 1, i + 1 == sets ? 1 : opt.quick ? 4 : 12);
                char name[64], note[64];
                if (i + 1 == sets) scalar[t][s] = r.gops;
                snprintf(name, sizeof name, "kernels_%s_%s.%s", set->name, type_names[t], bench_shapes[s].name);
                snprintf(note, sizeof note, "%.1f x scalar", r.gops / scalar[t][s]);
                report_kernels(name, &r, note);
            }
    }
}

/* ---- models -------------------------------------------------------------------------------------------- */

/* An allocator that knows how much was held at once. */
typedef struct held { size_t now, most; } held;

static void *held_alloc(void *user, size_t size)
{
    held *h = (held *)user;
    void *p = malloc(size);
    if (p) h->now += size;
    if (h->now > h->most) h->most = h->now;
    return p;
}

static void held_release(void *user, void *ptr, size_t size)
{
    held *h = (held *)user;
    if (ptr) h->now -= size;
    free(ptr);
}

static kalm_context *new_context(const kalm_model *model, unsigned threads, uint32_t tokens, size_t cache, held *h)
{
    kalm_config config;
    kalm_context *ctx;
    kalm_error err;
    memset(&config, 0, sizeof config);
    config.threads = threads;
    config.kernels = opt.kernels;
    config.max_doc_tokens = tokens;
    config.cache_bytes = cache;
    if (h) {
        h->now = h->most = 0;
        config.allocator.alloc = held_alloc;
        config.allocator.release = held_release;
        config.allocator.user = h;
    }
    check(kalm_context_new(model, &config, &ctx, &err), &err);
    return ctx;
}

static void random_ids(const kalm_model *model, int32_t *ids, size_t count, uint64_t seed)
{
    size_t i;
    for (i = 0; i < count; i++)
        ids[i] = (int32_t)(random_bits(&seed) >> 16 & 0x7fffffff) % (int32_t)model->file.shape.vocabulary;
}

/* Multiply-adds x 2 of one token through matrices first..last of a layer. */
static double matrix_ops(const kalm_model *model, int side, uint32_t layer, int first, int last)
{
    double ops = 0;
    int i;
    for (i = first; i <= last; i++) {
        const kalm__matrix *m = &model->file.stack[side].layers[layer].matrix[i];
        ops += 2.0 * m->rows * m->cols;
    }
    return ops;
}

/* Scores and their sums over values: each query and key it sees, all heads. */
static double key_ops(const kalm_model *model, int side)
{
    const kalm__side *s = &model->file.stack[side].shape;
    return 4.0 * s->heads * s->head_dim;
}

static double encode_ops(const kalm_model *model, size_t tokens)
{
    const kalm__stack *s = &model->file.stack[KALM__ENCODER];
    double ops = 0;
    size_t i, left = (size_t)(s->shape.window + 1) / 2 - 1, right = s->shape.window / 2;
    uint32_t l;
    for (l = 0; l < s->shape.layers; l++) {
        double keys = 0;
        if (s->layers[l].full) keys = (double)tokens * (double)tokens;
        for (i = 0; i < tokens && !s->layers[l].full; i++)
            keys += (double)(kalm__min(tokens, i + right + 1) - (i > left ? i - left : 0));
        ops += (double)tokens * matrix_ops(model, KALM__ENCODER, l, KALM__T_Q, KALM__T_DOWN);
        ops += keys * key_ops(model, KALM__ENCODER);
    }
    return ops;
}

/* A document of `rows` rows, tokens [first, tokens) of the prompt; cross: its keys and values are computed as well. */
static double decode_ops(const kalm_model *model, size_t first, size_t tokens, size_t rows, int cross)
{
    const kalm__stack *s = &model->file.stack[KALM__DECODER];
    double ops = 0, n = (double)(tokens - first);
    size_t i;
    uint32_t l;
    for (l = 0; l < s->shape.layers; l++) {
        int last = l + 1 == s->shape.layers;
        double keys = 0, kv = matrix_ops(model, KALM__DECODER, l, KALM__T_K, KALM__T_V);
        double q = matrix_ops(model, KALM__DECODER, l, KALM__T_Q, KALM__T_Q);
        double rest = matrix_ops(model, KALM__DECODER, l, KALM__T_O, KALM__T_DOWN);
        for (i = last ? tokens - 1 : first; i < tokens; i++)
            keys += (double)rows + (double)(s->layers[l].full ? i + 1 : kalm__min(i + 1, s->shape.window));
        ops += (last ? 1 : n) * rest + keys * key_ops(model, KALM__DECODER);
        if (l > 0) ops += n * kv + (last ? 1 : n) * q;                 /* layer 0's are shared by all documents */
        if (cross) ops += (double)rows * kv;
    }
    return ops;
}

typedef struct encoding {
    kalm_context *ctx;
    kalm_ids      text[64];
    size_t        count;
} encoding;

static void encode_run(void *arg)
{
    encoding *e = (encoding *)arg;
    kalm_doc *docs[64];
    kalm_error err;
    size_t i;
    check(kalm_encode_ids(e->ctx, e->text, e->count, NULL, docs, &err), &err);
    for (i = 0; i < e->count; i++) kalm_doc_free(docs[i]);
}

static bench__peak_fn model_peak(const kalm_model *model, const kalm_context *ctx, const char **name)
{
    return peak_of(ctx->backend.kernels->name, model->file.stack[KALM__ENCODER].layers[0].matrix[KALM__T_O].type, name);
}

/* `count` texts of `tokens` tokens in one call */
static void bench_encode(const kalm_model *model, const char *name, size_t tokens, size_t count, double seconds)
{
    job jobs[2];
    encoding e[2];
    int32_t *ids;
    size_t k, i;
    const char *peak_name = "";
    char note[128], other[64];
    if (!wanted(name) || tokens > model->file.shape.side[KALM__ENCODER].max_positions) return;
    ids = (int32_t *)malloc(tokens * count * sizeof *ids);
    if (!ids) die("no memory");
    random_ids(model, ids, tokens * count, 7);
    memset(jobs, 0, sizeof jobs);
    for (k = 0; k < opt.counts; k++) {
        e[k].ctx = new_context(model, opt.threads[k], (uint32_t)kalm__max(tokens, kalm__min(1024,
                               model->file.shape.side[KALM__ENCODER].max_positions)), 0, NULL);
        e[k].count = count;
        for (i = 0; i < count; i++) e[k].text[i].data = ids + i * tokens, e[k].text[i].count = tokens;
        jobs[k].run = encode_run;
        jobs[k].arg = &e[k];
        jobs[k].pool = &pools[k];
        jobs[k].work = encode_ops(model, tokens) * (double)count;
        jobs[k].peak = model_peak(model, e[k].ctx, &peak_name);
    }
    if (tokens <= 1024) measure(jobs, opt.counts, seconds, 3);
    else measure(jobs + opt.counts - 1, 1, 0, 1);      /* minutes: once, on all threads */
    for (k = tokens <= 1024 ? 0 : opt.counts - 1; k < opt.counts; k++) {
        double speed = (double)tokens * (double)count / jobs[k].best;
        snprintf(note, sizeof note, "%.0f tokens/s, %.2f ms", speed, 1e3 * jobs[k].best);
        by_processor(&jobs[k], note, sizeof note);
        report_job(name, opt.threads[k], rate(&jobs[k]) * 1e-9, "GOPS", &jobs[k], note);
        snprintf(other, sizeof other, "%s_tokens", name);
        report(other, opt.threads[k], speed, "tokens/s", "");
    }
    if (opt.counts == 2 && tokens <= 1024) {
        snprintf(other, sizeof other, "%s_scaling", name);
        snprintf(note, sizeof note, "from 1 to %u threads; the yardstick's %.3f", opt.threads[1],
                 jobs[0].best_peak > 0 ? jobs[1].best_peak / jobs[0].best_peak : 0.0);
        report(other, opt.threads[1], jobs[0].best / jobs[1].best, "x", note);
    }
    for (k = 0; k < opt.counts; k++) kalm_context_free(e[k].ctx);
    free(ids);
}

/* ---- beside a neighbour ---------------------------------------------------------------------------------- */

#if defined(__linux__) && KALM__THREADS == KALM__THREADS_POSIX
/* A thread that keeps one core busy and wants nothing of memory. The process is held on as many cores as it measures threads, the
   neighbour on the last of them. */
typedef struct neighbour {
    pthread_t     thread;
    unsigned char all[1024], ours[1024], its[1024];                    /* masks of cores */
    volatile int  stop;
} neighbour;

#  if !defined(CPU_SETSIZE)
extern int sched_setaffinity(int pid, size_t size, const void *mask);
#  endif

static void *neighbour_run(void *arg)
{
    neighbour *n = (neighbour *)arg;
    const void *its = n->its;
    (void)sched_setaffinity(0, sizeof n->its, its);
    while (!n->stop) sink++;
    return NULL;
}

/* 0 where there are not so many cores, or the system says no */
static int neighbour_begin(neighbour *n, unsigned cores)
{
    unsigned found = 0, i;
    void *all = n->all, *ours = n->ours;
    memset(n, 0, sizeof *n);
    if (sched_getaffinity(0, sizeof n->all, all) < 0) return 0;
    for (i = 0; i < 8 * sizeof n->all && found < cores; i++)
        if (n->all[i / 8] >> i % 8 & 1) {
            n->ours[i / 8] |= (unsigned char)(1 << i % 8);
            if (++found == cores) n->its[i / 8] = (unsigned char)(1 << i % 8);
        }
    return found == cores && !sched_setaffinity(0, sizeof n->ours, ours);
}

static void neighbour_end(neighbour *n)
{
    void *all = n->all;
    (void)sched_setaffinity(0, sizeof n->all, all);
}

/* What two threads win over one where something else keeps one of the two cores busy; fair shares would give 1.33 to 1.5. Here it is
   the whole time that counts, not the best one: being held up is what is measured. */
static void bench_neighbour(const kalm_model *model, size_t tokens, double seconds)
{
    encoding e[2];
    neighbour n;
    double spent[2] = { 0, 0 }, quiet[2] = { 1e30, 1e30 }, start, t;
    unsigned rounds = 0, k, i;
    char note[160];
    int32_t *ids;
    if (!wanted("encode_512_neighbour") || opt.counts < 2) return;
    if (!neighbour_begin(&n, opt.threads[1])) return;
    ids = (int32_t *)malloc(tokens * sizeof *ids);
    if (!ids) die("no memory");
    random_ids(model, ids, tokens, 7);
    for (k = 0; k < 2; k++) {
        e[k].ctx = new_context(model, opt.threads[k], 0, 0, NULL);     /* its threads inherit the mask */
        e[k].count = 1;
        e[k].text[0].data = ids;
        e[k].text[0].count = tokens;
        encode_run(&e[k]);
    }
    if (opt.quick) seconds *= 0.2;
    for (i = 0; i < 3; i++)
        for (k = 0; k < 2; k++) {
            t = bench__now();
            encode_run(&e[k]);
            t = bench__now() - t;
            if (t < quiet[k]) quiet[k] = t;
        }
    if (pthread_create(&n.thread, NULL, neighbour_run, &n)) die("no thread for the neighbour");
    start = bench__now();
    for (rounds = 0; !rounds || bench__now() - start < seconds; rounds++)
        for (k = 0; k < 2; k++) {      /* a tenth of a second each, in which the system finds where to run what */
            double begin = bench__now();
            unsigned runs = 0;
            do {
                encode_run(&e[k]);
                runs++;
            } while (bench__now() - begin < 0.1);
            spent[k] += (bench__now() - begin) / runs;
        }
    n.stop = 1;
    pthread_join(n.thread, NULL);
    neighbour_end(&n);
    for (k = 0; k < 2; k++) {
        spent[k] /= rounds;
        kalm_context_free(e[k].ctx);
    }
    snprintf(note, sizeof note, "%u threads to 1, one of %u cores kept busy by a neighbour; %.0f and %.0f tokens/s (%.2f x without it)",
             opt.threads[1], opt.threads[1], (double)tokens / spent[1], (double)tokens / spent[0], quiet[0] / quiet[1]);
    report("encode_512_neighbour", opt.threads[1], spent[0] / spent[1], "x", note);
    free(ids);
}
#else
static void bench_neighbour(const kalm_model *model, size_t tokens, double seconds)
{
    (void)model, (void)tokens, (void)seconds;
}
#endif

typedef struct decoding {
    kalm_context *ctx;
    kalm_ids      prompt;
    kalm_doc    **docs;
    size_t        count;
    kalm_params   params;
    kalm_score   *scores;
} decoding;

static void decode_run(void *arg)
{
    decoding *d = (decoding *)arg;
    kalm_error err;
    check(kalm_rerank_ids(d->ctx, d->prompt, (const kalm_doc *const *)d->docs, d->count, &d->params, d->scores, &err),
          &err);
}

/* A document of random rows, made without the encoder: the decoder takes the same time. */
static kalm_doc *random_doc(const kalm_model *model, size_t tokens, uint32_t ratio_of, uint64_t seed)
{
    kalm_doc_info info;
    unsigned char *rows;
    kalm_doc *doc;
    float x[16384];
    size_t i, k, bytes;
    memset(&info, 0, sizeof info);
    info.tokens = info.tokens_used = (uint32_t)tokens;
    info.ratio = ratio_of;
    info.rows = (uint32_t)((tokens - 1) / ratio_of + 1);
    info.width = model->file.shape.hidden_size;
    info.bits = 16;
    info.fingerprint = model->file.fingerprint;
    doc = kalm__doc_new(&model->alloc, &info, &rows);
    if (!doc || info.width > 16384) die("no memory for a document");
    bytes = kalm__doc_row_bytes(info.width, info.bits);
    for (i = 0; i < info.rows; i++) {
        for (k = 0; k < info.width; k++) x[k] = (float)(random_bits(&seed) >> 40) * 2.0e-7f - 1.7f;
        kalm__doc_write_row(rows + i * bytes, x, info.width, info.bits);
    }
    kalm__doc_seal(doc, rows);
    return doc;
}

/* the prompt: 50 tokens that come again, a query of 20, and 5 that close it */
enum { DOCS = 100, PROMPT = 75, PREFIX = 50, PASSAGE = 256, RATIO = 4, PASSAGE_ROWS = PASSAGE / RATIO, JOINT = 3 };

/* 100 documents in one call; then what a query costs a document, with nothing, the documents' keys, and the prompt's
   beginning as well kept from the query before.
   Long: the figures of the three ways to keep documents are ratios of runs that take turns in one measurement. */
static void bench_decode(const kalm_model *model)
{
    static const char *const names[3] = { "online_plain", "online_cross_kept", "online_prefix_kept" };
    static const uint32_t prefixes[3] = { 0, 1, PREFIX };      /* of one token: nearly all kept is the documents' */
    kalm_doc *docs[DOCS];
    int32_t ids[PROMPT + JOINT * (PASSAGE + PROMPT)], *more = ids + PROMPT;
    kalm_score scores[5][DOCS];
    size_t count = opt.quick ? 10 : DOCS, k, i, runs = opt.counts - 1;
    job jobs[4];
    decoding d[3];
    encoding e;
    held h[4];
    char note[200];
    const char *peak_name = "";
    int rerank = wanted("rerank_100x75") || wanted("rerank_100x75_scaling");
    int online = !opt.only || !strncmp(opt.only, "online", 6) || wanted("online");
    if (!rerank && !online) return;
    random_ids(model, ids, sizeof ids / sizeof ids[0], 11);
    for (i = 0; i < count; i++) docs[i] = random_doc(model, PASSAGE, RATIO, 1000 + i);
    memset(d, 0, sizeof d);
    for (k = 0; k < 3; k++) {
        d[k].prompt.data = ids;
        d[k].prompt.count = PROMPT;
        d[k].docs = docs;
        d[k].count = count;
        d[k].scores = scores[k];
        d[k].params.prefix_tokens = prefixes[k];
    }

    if (rerank) {
        memset(jobs, 0, sizeof jobs);
        for (k = 0; k < opt.counts; k++) {
            d[k].ctx = new_context(model, opt.threads[k], 0, 0, NULL);
            d[k].params.prefix_tokens = 0;
            jobs[k].run = decode_run;
            jobs[k].arg = &d[k];
            jobs[k].pool = &pools[k];
            jobs[k].work = decode_ops(model, 0, PROMPT, PASSAGE_ROWS, 1) * (double)count;
            jobs[k].peak = model_peak(model, d[k].ctx, &peak_name);
        }
        measure(jobs, opt.counts, 6, 2);
        for (k = 0; k < opt.counts; k++) {
            snprintf(note, sizeof note, "%.3f s for %u documents, %.0f rows/s%s", jobs[k].best, (unsigned)count,
                     (double)count * PROMPT / jobs[k].best, count < DOCS ? " (quick: fewer of them)" : "");
            by_processor(&jobs[k], note, sizeof note);
            report_job("rerank_100x75", opt.threads[k], rate(&jobs[k]) * 1e-9, "GOPS", &jobs[k], note);
            kalm_context_free(d[k].ctx);
            d[k].params.prefix_tokens = prefixes[k];
        }
        if (opt.counts == 2) {
            snprintf(note, sizeof note, "from 1 to %u threads; the yardstick's %.3f", opt.threads[1],
                     jobs[0].best_peak > 0 ? jobs[1].best_peak / jobs[0].best_peak : 0.0);
            report("rerank_100x75_scaling", opt.threads[1], jobs[0].best / jobs[1].best, "x", note);
        }
    }

    if (online) {
        unsigned threads = opt.threads[runs];
        kalm_cache_info info;
        memset(jobs, 0, sizeof jobs);
        for (k = 0; k < 4; k++) {
            jobs[k].pool = &pools[runs];
            jobs[k].run = k < 3 ? decode_run : encode_run;
            jobs[k].arg = &e;
            if (k < 3) jobs[k].arg = &d[k];
        }
        for (k = 0; k < 3; k++) {
            d[k].ctx = new_context(model, threads, 0, k ? SIZE_MAX / 2 : 0, &h[k]);
            jobs[k].work = decode_ops(model, prefixes[k], PROMPT, PASSAGE_ROWS, k == 0) * (double)count;
            jobs[k].peak = model_peak(model, d[k].ctx, &peak_name);
        }
        e.ctx = new_context(model, threads, 0, 0, &h[3]);
        e.count = JOINT;
        for (i = 0; i < JOINT; i++) e.text[i].data = more + i * (PASSAGE + PROMPT), e.text[i].count = PASSAGE + PROMPT;
        jobs[3].work = JOINT * encode_ops(model, PASSAGE + PROMPT);
        jobs[3].peak = jobs[0].peak;
        measure(jobs, 4, 5, 2);
        for (k = 0; k < 3; k++) {
            size_t bytes = 0;
            kalm_context_get_cache(d[k].ctx, &info);
            if (info.documents) bytes = info.bytes / info.documents;
            snprintf(note, sizeof note, "%u rows a document%s, %.1f MB kept for it, %.0f MB of memory at most",
                     PROMPT - prefixes[k], k ? "" : " and 64 of its own", (double)bytes * 1e-6, (double)h[k].most * 1e-6);
            report_job(names[k], threads, 1e3 * jobs[k].best / (double)count, "ms/doc", &jobs[k], note);
            snprintf(note, sizeof note, "%s_bytes", names[k]);
            report(note, threads, (double)bytes, "bytes/doc", "");
            snprintf(note, sizeof note, "%s_memory", names[k]);
            report(note, threads, (double)h[k].most, "bytes", "");
            snprintf(note, sizeof note, "%s_first", names[k]);
            report(note, threads, 1e3 * jobs[k].first / (double)count, "ms/doc",
                   k ? "the query that fills the cache" : "");
            if (memcmp(scores[0], scores[k], count * sizeof scores[0][0])) die("scores differ with a cache: %s", names[k]);
        }
        snprintf(note, sizeof note, "estimated: %u + %u tokens through the encoder; %.0f MB of memory at most", PASSAGE,
                 PROMPT, (double)h[3].most * 1e-6);
        report_job("online_joint", threads, 1e3 * jobs[3].best / JOINT, "ms/doc", &jobs[3], note);
        report("online_gain", threads, jobs[0].best / jobs[2].best, "x", "plain to prefix kept; goal 3");
        report("online_gain_joint", threads, jobs[3].best / JOINT * (double)count / jobs[2].best, "x",
               "joint reading to prefix kept; goal 10");
        for (k = 0; k < 3; k++) kalm_context_free(d[k].ctx);
        kalm_context_free(e.ctx);
    }
    for (i = 0; i < count; i++) kalm_doc_free(docs[i]);
}

#include "bench_rows.h"                /* what they run is above */
#include "bench_open.h"

static void bench_memory(const kalm_model *model)
{
    unsigned k;
    for (k = 0; k < opt.counts; k++) {
        kalm_config config;
        kalm_error err;
        size_t bytes;
        memset(&config, 0, sizeof config);
        config.threads = opt.threads[k];
        config.kernels = opt.kernels;
        check(kalm_context_bytes(model, &config, &bytes, &err), &err);
        report("context_bytes", opt.threads[k], (double)bytes, "bytes", "a context for 1024-token documents");
    }
}

static void bench_rss(void)
{
#ifdef HAVE_USAGE
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u)) return;
#  if defined(__APPLE__)
    u.ru_maxrss /= 1024;
#  endif
    report("peak_rss", opt.threads[opt.counts - 1], (double)u.ru_maxrss * 1024.0, "bytes",
           "until here, after encoding: mapped weights that were read included");
#endif
}

static void bench_doc_bytes(const kalm_model *model)
{
    static const uint32_t bits[6] = { 32, 16, 8, 4, 3, 2 };
    uint32_t r, k;
    char name[64];
    for (r = 1; r <= 32; r *= 2)
        for (k = 0; k < 6; k++) {
            snprintf(name, sizeof name, "doc_bytes_r%u_%ubit", r, bits[k]);
            report(name, 1, (double)KALM__DOC_HEADER + (double)((PASSAGE + r - 1) / r) *
                   (double)kalm__doc_row_bytes(model->file.shape.hidden_size, bits[k]), "bytes", "");
        }
}

static kalm_model *open_model(const char *path)
{
    kalm_model *model;
    kalm_config config;
    kalm_error err;
    memset(&config, 0, sizeof config);
    config.load = opt.load;
    check(kalm_model_open(path, &config, &model, &err), &err);
    return model;
}

static void bench_models(void)
{
    kalm_model *model;
    kalm_model_info info;
    int m;
    char name[64];
    if (!opt.models) return;
    heading("model");
    bench_open(opt.model[0]);
    model = open_model(opt.model[0]);
    bench_memory(model);
    bench_encode(model, "encode_32", 32, 1, 0.5);
    bench_encode(model, "encode_32x32", 32, 32, 1.5);
    bench_encode(model, "encode_128", 128, 1, 1.5);
    bench_encode(model, "encode_512", 512, 1, 4);
    bench_encode(model, "encode_1024", 1024, 1, 5);
    bench_neighbour(model, 512, 4);
    bench_rss();
    bench_decode(model);
    bench_few_bits(model);
    if (opt.longer) {
        bench_encode(model, "encode_8192", 8192, 1, 0);
        bench_encode(model, "encode_32768", 32768, 1, 0);
    }
    kalm_model_close(model);
    for (m = 1; m < opt.models; m++) {
        model = open_model(opt.model[m]);
        kalm_model_get_info(model, &info);
        snprintf(name, sizeof name, "encode_512_%s", info.weights);
        bench_encode(model, name, 512, 1, 2.5);
        kalm_model_close(model);
    }
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

/* How many programs ran beside this one: averages over 1, 5 and 15 minutes. */
static void read_load(char *text, size_t size)
{
    snprintf(text, size, "unknown");
#ifdef HAVE_USAGE
    {
        double load[3];
        if (getloadavg(load, 3) == 3) snprintf(text, size, "%.2f %.2f %.2f", load[0], load[1], load[2]);
    }
#endif
}

/* What the file says of this run: the command as it was given, the day, the load at its start. */
static void note_run(int argc, char **argv)
{
    size_t n = 0;
    int i;
    time_t now = time(NULL);
    struct tm *day = gmtime(&now);
    for (i = 0; i < argc && n < sizeof figures.command; i++)
        n += (size_t)snprintf(figures.command + n, sizeof figures.command - n, "%s%s", i ? " " : "", i ? argv[i] : program.name);
    if (!day || !strftime(figures.date, sizeof figures.date, "%Y-%m-%d", day)) snprintf(figures.date, sizeof figures.date, "unknown");
    read_load(figures.load, sizeof figures.load);
}

static void print_machine(void)
{
    FILE *f = fopen("/proc/cpuinfo", "rb");
    char line[512], machine[96] = "unknown", *s;
    size_t i;
    int m;
    while (f && fgets(line, sizeof line, f))
        if ((!strncmp(line, "model name", 10) || !strncmp(line, "Hardware", 8)) && (s = strchr(line, ':')) != NULL) {
            snprintf(machine, sizeof machine, "%s", s + 2);
            machine[strcspn(machine, "\n")] = 0;
            break;
        }
    if (f) fclose(f);
    if (opt.kernels && !kalm__kernel_set(0, opt.kernels, 0)) die("%s: no set of kernels of this machine", opt.kernels);
    snprintf(figures.machine, sizeof figures.machine, "%.90s, %u cores, %s kernels", machine, kalm__cores(), opt.kernels ? opt.kernels : kalm_kernels(0));
    snprintf(figures.commit, sizeof figures.commit, "%s", opt.commit);
    if (figures_csv) return;
    printf("machine: %s\ncores: %u; kernel sets:", machine, kalm__cores());
    for (i = 0; kalm_kernels(i); i++) printf(" %s", kalm_kernels(i));
    if (opt.kernels) printf("; measured: %s", opt.kernels);
    printf("\nthreads:");
    for (i = 0; i < opt.counts; i++) printf(" %u", opt.threads[i]);
    putchar('\n');
    for (m = 0; m < opt.models; m++) {
        kalm_model *model = open_model(opt.model[m]);
        kalm_model_info info;
        kalm_model_get_info(model, &info);
        printf("model: %s (%s), %s weights, %u layers a side of width %u, %.0f MB\n", opt.model[m],
               info.name ? info.name : "", info.weights ? info.weights : "", info.layers, info.width,
               (double)info.bytes * 1e-6);
        kalm_model_close(model);
    }
#if KALM__X86
    if (kalm__cpu_features() & KALM__CPU_AVX2)                         /* bench__read needs it */
#endif
        printf("reading, one thread: %.0f GB/s from 1 MB, %.0f from 16 MB, %.0f from 128 MB\n",
               bench_read_rate(1 << 20, 30), bench_read_rate(1 << 24, 6), bench_read_rate(1 << 27, 2));
    printf("load at the start: %s\n", figures.load);
}

static void read_options(int argc, char **argv)
{
    cmd_args a;
    size_t i;
    opt.json = "build/bench.json";
    opt.commit = "unknown commit";
    opt.threads[0] = 1;
    opt.threads[1] = kalm__cores() > 1 ? 2 : 1;
    cmd_parse(&a, &program, &opt, argc, argv);
    for (i = 0; i < a.words; i++) add_model(&a, "MODEL", a.word[i]);
    cmd_args_end(&a);
    opt.counts = opt.threads[1] > 1 ? 2 : 1;
}

int main(int argc, char **argv)
{
    char load[32];
    kalm__utf8_arguments(&argc, &argv);
    cmd_name = program.name;
    note_run(argc, argv);
    read_options(argc, argv);
    if (opt.compare) {
        if (opt.models != 2) die_usage("--compare takes two files of figures, the older one first");
        return compare_figures(opt.model[0], opt.model[1]) ? EXIT_FAILED : EXIT_OK;
    }
    begun = bench__now();
    time_limit = opt.quick ? 8 : 110;
    figures_csv = opt.csv;
    if (figures_csv) puts("name,threads,value,unit,peak,ratio,note");
    print_machine();
    start_pools();
    bench_models();                    /* before the matmuls, whose buffers would count as memory of the model */
    if (opt.models) {
        kalm_model *model = open_model(opt.model[0]);
        heading("document of 256 tokens");
        bench_doc_bytes(model);
        kalm_model_close(model);
    }
    heading("matmul");
    bench_matmuls("matmul_q8_512", NULL, NULL, KALM__Q8, 512, 0);
    bench_matmuls("matmul_q8_128", NULL, NULL, KALM__Q8, 128, 0);
    bench_matmuls("matmul_q8_16", NULL, NULL, KALM__Q8, 16, 0);
    bench_matmuls("matmul_q8_1", NULL, NULL, KALM__Q8, 1, 1);
    bench_matmuls("matmul_q4_512", NULL, NULL, KALM__Q4, 512, 0);
    bench_matmuls("matmul_avxvnni_512", "avxvnni", NULL, KALM__Q8, 512, 0);
    bench_matmuls("matmul_avx2_512", "avx2", "maddubs", KALM__Q8, 512, 0);
    if (!opt.quick || opt.only) bench_matmuls("matmul_avx2_512_words", "avx2", NULL, KALM__Q8, 512, 0);
    bench_matmuls("matmul_f32_512", NULL, NULL, KALM__F32, 512, 0);
    bench_matmuls("matmul_bf16_512", "avx512bf16", NULL, KALM__BF16, 512, 0);
    bench_sets();
    stop_pools();
    if (!opt.csv && wanted("tokenizer") && (opt.tokenizer || opt.models)) {
        kalm_model *model = open_model(opt.tokenizer ? opt.tokenizer : opt.model[0]);
        if (model->file.has_tokenizer && (!opt.quick || opt.only)) {
            putchar('\n');
            bench_tokenizer(&model->file.tokenizer, stdout);
        }
        kalm_model_close(model);
    }
    write_figures(opt.json);
    if (!opt.csv) {
        putchar('\n');
        read_load(load, sizeof load);
        printf("load at the end: %s\n%.0f seconds; %u figures in %s\n", load, bench__now() - begun, (unsigned)figures.count, opt.json);
    }
    return EXIT_SUCCESS;
}
