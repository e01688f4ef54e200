/* bench_open.h - for kalm-bench: from the path of a model to the score of its first document, with the file in the system's page
   cache and, on Linux, without. Behind encoding and decoding of bench.c. */
#ifndef BENCH_OPEN_H
#define BENCH_OPEN_H

#if defined(__linux__)
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <unistd.h>
#endif

/* Seconds from the path to the score of a document of 64 tokens; *opened: of them until kalm_model_open returned. */
static double first_score(const char *path, unsigned threads, double *opened)
{
    int32_t ids[64 + PROMPT];
    kalm_config config;
    kalm_model *model;
    kalm_context *ctx;
    kalm_doc *doc;
    kalm_ids text, prompt;
    kalm_score score;
    kalm_error err;
    double t = bench__now();
    memset(&config, 0, sizeof config);
    config.threads = threads;
    config.kernels = opt.kernels;
    config.load = opt.load;
    check(kalm_model_open(path, &config, &model, &err), &err);
    *opened = bench__now() - t;
    random_ids(model, ids, 64 + PROMPT, 5);
    check(kalm_context_new(model, &config, &ctx, &err), &err);
    text.data = ids;
    text.count = 64;
    prompt.data = ids + 64;
    prompt.count = PROMPT;
    check(kalm_encode_ids(ctx, &text, 1, NULL, &doc, &err), &err);
    check(kalm_rerank_ids(ctx, prompt, (const kalm_doc *const *)&doc, 1, NULL, &score, &err), &err);
    t = bench__now() - t;
    kalm_doc_free(doc);
    kalm_context_free(ctx);
    kalm_model_close(model);
    return t;
}

#if defined(__linux__)
/* Take a file out of the page cache; 0: the system keeps it (a file system in memory, another program that maps it). */
static int forget_file(const char *path)
{
    int fd = open(path, O_RDONLY), gone = 0;
    off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    long page = sysconf(_SC_PAGESIZE);
    if (size > 0 && !fsync(fd) && !posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) {
        size_t pages = ((size_t)size + (size_t)page - 1) / (size_t)page, left = 0, i;
        unsigned char *in = (unsigned char *)malloc(pages);
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (in && p != MAP_FAILED && !mincore(p, (size_t)size, in)) {
            for (i = 0; i < pages; i++) left += in[i] & 1;
            gone = left * 100 < pages;
        }
        if (p != MAP_FAILED) munmap(p, (size_t)size);
        free(in);
    }
    if (fd >= 0) close(fd);
    return gone;
}

/* Seconds to read a file from its begin to its end, as cat does. */
static double read_file(const char *path)
{
    enum { PIECE = 128 * 1024 };
    static char piece[PIECE];
    double t = bench__now();
    int fd = open(path, O_RDONLY);
    while (read(fd, piece, PIECE) > 0) {}
    t = bench__now() - t;
    if (fd >= 0) close(fd);
    return t;
}

/* The file from disk, in turns with reading all of it in a row: that is what could be reached where every byte is needed. */
static void bench_open_cold(const char *path)
{
    unsigned k;
    if (!wanted("open_first_score_cold")) return;
    for (k = 0; k < opt.counts; k++) {
        double best = 1e30, reading = 1e30, opened, t;
        char note[128];
        figure f;
        int round;
        for (round = 0; round < (opt.quick ? 2 : 6); round++) {
            if (!forget_file(path)) return;
            t = read_file(path);
            if (t < reading) reading = t;
            if (!forget_file(path)) return;
            t = first_score(path, opt.threads[k], &opened);
            if (t < best) best = t;
        }
        memset(&f, 0, sizeof f);
        f.threads = opt.threads[k];
        f.value = 1e3 * best;
        f.unit = "ms";
        f.ratio = reading / best;
        snprintf(note, sizeof note, "the file read in a row: %.0f ms", 1e3 * reading);
        add_figure("open_first_score_cold", &f, note);
    }
}
#endif

static void bench_open(const char *path)
{
    unsigned k;
    for (k = 0; k < opt.counts && wanted("open_first_score"); k++) {
        double best = 1e30, first = 0, best_open = 0;
        char note[128];
        int round;
        for (round = 0; round < (opt.quick ? 4 : 12); round++) {
            double opened, t = first_score(path, opt.threads[k], &opened);
            if (!round) first = t;
            if (t < best) best = t, best_open = opened;
        }
        snprintf(note, sizeof note, "%.2f ms of it opening; the first time %.1f ms", 1e3 * best_open, 1e3 * first);
        report("open_first_score", opt.threads[k], 1e3 * best, "ms", note);
    }
#if defined(__linux__)
    bench_open_cold(path);
#endif
}

#endif
