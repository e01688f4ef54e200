/* command_eval.c - kalm-eval as a function, see command_world.h. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
/* Libraries that unpack have memory and files of their own. */
#ifdef HAVE_ZLIB
#  include <zlib.h>
static void end_gz(void *f) { gzclose((gzFile)f); }
static gzFile open_gz(const char *path, const char *mode) { return (gzFile)fuzz_keep(gzopen(path, mode), end_gz); }
#  undef gzopen                        /* zlib's own name for files of any size */
#  define gzopen(path, mode) open_gz(path, mode)
#  define gzclose(f) gzclose((gzFile)fuzz_forget(f))
#endif
#ifdef HAVE_ZSTD
#  include <zstd.h>
static void end_zstd(void *stream) { ZSTD_freeDStream((ZSTD_DStream *)stream); }
#  define ZSTD_createDStream() ((ZSTD_DStream *)fuzz_keep(ZSTD_createDStream(), end_zstd))
#  define ZSTD_freeDStream(stream) ZSTD_freeDStream((ZSTD_DStream *)fuzz_forget(stream))
#endif
#define fork() ((pid_t)-1)                         /* no gnuplot */
#define main fuzz_main_eval
#include "../../examples/eval/kalm_eval.c"

uint64_t fuzz_eval_hash(const void *data, size_t size) { return ev_plain_hash(data, size); }

/* SPOOL MODEL OUT [ID TEXT]...: a sound spool of these documents. */
int fuzz_main_spool(int argc, char **argv)
{
    ev_journal w;
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_params params;
    kalm_config config;
    kalm_error err;
    FILE *f;
    int i;
    memset(&w, 0, sizeof w);
    memset(&params, 0, sizeof params);
    memset(&config, 0, sizeof config);
    if (argc < 3 || !(f = fopen(argv[2], "wb"))) die("no spool");
    config.threads = 1;
    params.ratio = 1;
    params.bits = 32;
    ev_check(kalm_model_open(argv[1], NULL, &model, &err), &err);
    ev_check(kalm_context_new(model, &config, &ctx, &err), &err);
    for (i = 3; i + 1 < argc; i += 2) {
        kalm_text text = kalm__text(argv[i + 1]);
        kalm_doc *doc = NULL;
        const void *bytes;
        size_t size;
        ev_sum sum;
        ev_check(kalm_encode(ctx, &text, 1, &params, &doc, &err), &err);
        bytes = kalm_doc_bytes(doc, &size);
        kalm__sha256_of(text.data, text.size, sum);
        ev__spool_put(&w, f, kalm__text(argv[i]), sum, 0.25, bytes, size);
        kalm_doc_free(doc);
    }
    fclose(f);
    kalm_context_free(ctx);
    kalm_model_close(model);
    return 0;
}
