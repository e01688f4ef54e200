/* one.c - the header alone, with its implementation, and a look at what it offers without a model. */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include <stdio.h>

int main(void)
{
    static const union { char bytes[64]; double align; } junk = { "this is no model" };
    kalm_model *model = NULL;
    kalm_score scores[3];
    kalm_error err;
    size_t i;
    if (kalm_version() != (KALM_VERSION_MAJOR << 16 | KALM_VERSION_MINOR << 8 | KALM_VERSION_PATCH)) return 1;
    for (i = 0; kalm_kernels(i); i++) printf("%s ", kalm_kernels(i));
    if (!i || strcmp(kalm_kernels(i - 1), "scalar") != 0) return 2;
    if (kalm_model_open_memory(&junk, sizeof junk, NULL, &model, &err) == KALM_OK || model || !err.text[0]) return 3;
#ifndef KALM_NO_STDIO
    if (kalm_model_open("/nonexistent/model.kalm", NULL, &model, &err) != KALM_CANNOT_READ || model) return 4;
#endif
    memset(scores, 0, sizeof scores);
    scores[1].index = 1, scores[1].margin = 2;
    scores[2].index = 2, scores[2].margin = -1;
    kalm_sort(scores, 3);
    if (scores[0].index != 1 || scores[1].index != 0 || scores[2].index != 2) return 5;
    kalm_model_close(NULL);
    kalm_context_free(NULL);
    kalm_doc_free(NULL);
    puts("ok");
    return 0;
}
