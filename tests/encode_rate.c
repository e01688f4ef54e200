/* encode_rate.c MODEL FILE.jsonl BATCH [THREADS] - how fast kalm_encode alone encodes the texts of a file, BATCH in a call: what kalm-index
   and kalm-search are measured against (tests/search_speed.sh). Prints the wall time and the processor time of the calls, and
   how many texts and tokens there were. */
#include "../src/tools/command.h"
#include <sys/resource.h>

static double processor_time(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

int main(int argc, char **argv)
{
    cmd_texts texts;
    kalm_config config;
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_doc **docs;
    kalm_doc_info info;
    kalm_error err;
    size_t i, k, n, batch, tokens = 0;
    double wall, processor;
    cmd_name = "encode_rate";
    if (argc < 4) die_usage("MODEL FILE.jsonl BATCH [THREADS]");
    memset(&texts, 0, sizeof texts);
    memset(&config, 0, sizeof config);
    cmd_read_texts(&texts, argv[2], READ_JSON, 1);
    batch = cmd_number("BATCH", argv[3], 1, 1u << 20);
    if (argc > 4) config.threads = cmd_number("THREADS", argv[4], 1, 4096);
    if (kalm_model_open(argv[1], NULL, &model, &err) || kalm_context_new(model, &config, &ctx, &err)) return cmd_failed(&err);
    docs = (kalm_doc **)cmd_alloc(batch * sizeof(kalm_doc *));
    wall = kalm__now();
    processor = processor_time();
    for (i = 0; i < texts.count; i += n) {
        n = kalm__min(batch, texts.count - i);
        if (kalm_encode(ctx, texts.text + i, n, NULL, docs, &err)) return cmd_failed(&err);
        for (k = 0; k < n; k++) {
            kalm_doc_get_info(docs[k], &info);
            tokens += info.tokens_used;
            kalm_doc_free(docs[k]);
        }
    }
    printf("%.3f %.3f %lu %lu\n", kalm__now() - wall, processor_time() - processor, (unsigned long)texts.count, (unsigned long)tokens);
    kalm_context_free(ctx);
    kalm_model_close(model);
    free((void *)docs);
    return 0;
}
