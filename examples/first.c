/* first.c - the first program: rank two passages.
   cc -O2 -I. examples/first.c -o first -lm -lpthread && ./first build/tiny.kalm */
#include <stdio.h>
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"

int main(int argc, char **argv)
{
    kalm_text query = { "What is the capital of China?", KALM_NUL };
    kalm_text texts[2] = { { "Gravity attracts bodies toward one another.", KALM_NUL },
                           { "The capital of China is Beijing.", KALM_NUL } };
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_score scores[2];
    kalm_error err;
    int i;
    if (kalm_model_open(argc > 1 ? argv[1] : "nano.kalm", NULL, &model, &err)
        || kalm_context_new(model, NULL, &ctx, &err)
        || kalm_rerank_texts(ctx, query, texts, 2, NULL, scores, &err)) return fprintf(stderr, "%s\n", err.text), 1;
    kalm_sort(scores, 2);
    for (i = 0; i < 2; i++) printf("%.3f  %s\n", (double)scores[i].score, texts[scores[i].index].data);
    kalm_context_free(ctx);
    kalm_model_close(model);
    return 0;
}
