/* spm_model.h - the SentencePiece models of tests/spm, for the tests that read them. */
#ifndef SPM_MODEL_H
#define SPM_MODEL_H

#include "test.h"

/* n as a number of protocol buffers; returns its bytes. */
static size_t spm_put_length(unsigned char *p, size_t n)
{
    size_t k = 0;
    for (; n > 127; n >>= 7) p[k++] = (unsigned char)(n & 127) | 128;
    p[k++] = (unsigned char)n;
    return k;
}

/* tests/spm/NAME.model as spm_train wrote it: with its charsmap, which is kept apart. The caller frees it. */
static unsigned char *spm_model(const char *name, size_t *size)
{
    char path[256];
    size_t map_size = 0, model_size, n;
    unsigned char *map = NULL, *model, *all, inner[16];
    snprintf(path, sizeof path, "tests/spm/%s.model", name);
    model = test_read_file(path, &model_size);
    if (!CHECKF(model != NULL, "%s", path)) return NULL;
    if (strstr(name, "nfkc")) map = test_read_file("tests/spm/nmt_nfkc.charsmap", &map_size);
    all = (unsigned char *)malloc(model_size + map_size + 32);
    memcpy(all, model, *size = model_size);
    if (map) {
        inner[0] = 2 << 3 | 2;
        n = 1 + spm_put_length(inner + 1, map_size);
        all[(*size)++] = 3 << 3 | 2;
        *size += spm_put_length(all + *size, n + map_size);
        memcpy(all + *size, inner, n);
        memcpy(all + *size + n, map, map_size);
        *size += n + map_size;
    }
    free(model);
    free(map);
    return all;
}

#endif
