/* bench_tokenizer.h - speed of a tokenizer, for kalm-bench: bench_tokenizer(&model->file.tokenizer, stdout).
   Texts are made of the vocabulary's own tokens, drawn as a language draws words (the n-th about 1/n often), so any model
   can be measured without files; then the worst that is known. Processor time, the best of three, one thread. */
#ifndef BENCH_TOKENIZER_H
#define BENCH_TOKENIZER_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_TOKENIZER_BYTES ((size_t)2000000)

/* 0: no text of this kind. `kind`: 0 all scripts, 1 ASCII, 2 letters beyond U+0E00 without spaces. */
static size_t bench_tokenizer_text(const kalm__tokenizer *t, int kind, char *text)
{
    uint32_t *list = (uint32_t *)malloc(t->tokens * sizeof *list), count = 0, i;
    uint64_t state = 1;
    size_t n = 0;
    if (!list) return 0;
    for (i = 0; i < t->tokens; i++) {
        kalm_text s = kalm__token_bytes(t, (int32_t)i);
        int ascii = 1, far = s.size > 0;
        size_t k;
        if (t->model == KALM__MODEL_BPE
            && (!t->part[KALM__SEC_LENGTHS][i] || !kalm__u64(t->part[KALM__SEC_SPLITS] + 8 * (size_t)i))) continue;
        for (k = s.size > 3 && !memcmp(s.data, "\xe2\x96\x81", 3) ? 3 : 0; k < s.size; k++) {
            ascii &= (unsigned char)s.data[k] < 0x80;
            far &= (unsigned char)s.data[k] >= 0x80 && ((unsigned char)s.data[k] & 0xc0) != 0xc0 ? 1 : (unsigned char)s.data[k] >= 0xe0;
        }
        far &= memcmp(s.data, "\xe2\x96\x81", kalm__min(3, s.size)) != 0;
        if (kind == 0 || (kind == 1 && ascii) || (kind == 2 && far && !ascii)) list[count++] = i;
    }
    while (count > 50 && n + 512 < BENCH_TOKENIZER_BYTES) {
        kalm_text s;
        double u, rank;
        size_t k;
        state = state * 6364136223846793005u + 1442695040888963407u;
        u = (double)(state >> 33) / 2147483648.0;
        rank = exp(u * log((double)count)) - 1;
        s = kalm__token_bytes(t, (int32_t)list[(uint32_t)rank % count]);
        for (k = 0; k < s.size;)
            if (s.size - k >= 3 && !memcmp(s.data + k, "\xe2\x96\x81", 3)) text[n++] = ' ', k += 3;
            else text[n++] = s.data[k++];
        if (kind < 2 && state >> 59 == 0) text[n++] = '\n';
    }
    free(list);
    return n;
}

static double bench_tokenizer_time(const kalm__tokenizer *t, const char *text, size_t size, size_t *count)
{
    kalm_allocator a;
    kalm_error err;
    kalm_text s;
    double best = 1e9;
    int ok, again;
    a = kalm__allocator(NULL, &ok);
    s.data = text, s.size = size;
    for (again = 0; again < 3; again++) {
        clock_t begun = clock();
        double took;
        if (kalm__tokenize(t, &a, NULL, s, 0, NULL, 0, count, &err)) return 0;
        took = (double)(clock() - begun) / CLOCKS_PER_SEC;
        if (took < best) best = took;
    }
    return best > 1e-6 ? best : 1e-6;
}

static void bench_tokenizer(const kalm__tokenizer *t, FILE *out)
{
    static const char *const kinds[3] = { "all scripts", "ASCII", "without spaces" };
    static const char *const units[] = { " ", "a", "ab", "=", "\n", "<", "> ", "\xe3\x81\x82", "\xf0\x9f\xa7\xbf", NULL };
    char *text = (char *)malloc(BENCH_TOKENIZER_BYTES), name[64];
    uint64_t state = 7;
    size_t n, count, i;
    int kind;
    if (!text) return;
    fprintf(out, "%-28s %8s %10s %10s\n", "tokenizer", "MB/s", "bytes/id", "ns/id");
    for (kind = 0; kind < 13; kind++) {
        double s;
        n = 0;
        if (kind < 3) {
            snprintf(name, sizeof name, "%s", kinds[kind]);
            n = bench_tokenizer_text(t, kind, text);
        } else if (kind < 12) {
            const char *unit = units[kind - 3];
            snprintf(name, sizeof name, "2 MB of U+%04X%s", *unit == '\n' ? 10u : (unsigned)(unsigned char)*unit < 0x80 ? (unsigned)(unsigned char)*unit :
                     kind == 10 ? 0x3042u : 0x1f9ffu, strlen(unit) == 2 ? " and another" : "");
            while (n + strlen(unit) <= BENCH_TOKENIZER_BYTES) {
                memcpy(text + n, unit, strlen(unit));
                n += strlen(unit);
            }
        } else {
            snprintf(name, sizeof name, "2 MB of random letters");
            for (i = 0; i < BENCH_TOKENIZER_BYTES; i++) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                text[n++] = (char)('a' + (state >> 33) % 26);
            }
        }
        if (!n) continue;
        s = bench_tokenizer_time(t, text, n, &count);
        fprintf(out, "%-28s %8.1f %10.2f %10.1f\n", name, (double)n / 1e6 / s, (double)n / (double)(count ? count : 1),
                s * 1e9 / (double)(count ? count : 1));
    }
    free(text);
}

#endif
