/* fuzz_safetensors.c - hostile checkpoints: config.json, headers of safetensors and indexes from strangers are refused with
   a sentence or understood, and what is understood lies inside its file.

     fuzz_safetensors [ROUNDS [SEED]]    mutate small checkpoints of the random generator; needs a sanitizer to see the most
     with -DKALM_FUZZER and -fsanitize=fuzzer: LLVMFuzzerTestOneInput (first byte: 0 header, 1 config, 2 index) */
#include "../src/tools/files.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../quantize/checkpoint.h"
#include "test.h"

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

/* Property: a header that is accepted has tensors that cover the data, apart from each other, named once. */
static int header(const char *text, size_t size, uint64_t file_size)
{
    kalm__st st;
    kalm_error err;
    kalm_result r;
    size_t i;
    char *exact = (char *)malloc(size ? size : 1);         /* so that a sanitizer sees one byte too far */
    kalm__st_begin(&st);
    kalm__no_error(&err);
    if (!exact) return 0;
    if (size) memcpy(exact, text, size);
    r = kalm__st_add_shard(&st, "", "model.safetensors", 17, &err);
    if (!r) r = kalm__st_header(&st, 0, "model.safetensors", exact, size, file_size, &err);
    if (!r) r = kalm__st_sort(&st, &err);
    CHECK(r ? err.text[0] != 0 && err.code == r : 1);
    if (!r) {
        uint64_t covered = 0;
        for (i = 0; i < st.count; i++) {
            const kalm__st_tensor *t = &st.tensors[i];
            CHECK(t->begin >= 8 + size && t->begin <= file_size && t->size <= file_size - t->begin && t->dims <= KALM__MAX_DIMS);
            CHECK(kalm__st_find(&st, t->name, t->name_size) == t);
            CHECK(!i || kalm__st_compare(t - 1, t->name, t->name_size) < 0);
            covered += t->size;
        }
        CHECK(covered == file_size - 8 - size);
    }
    kalm__st_end(&st);
    free(exact);
    return r == KALM_OK;
}

/* Property: a config that is accepted gives a shape whose products are small enough to compute with. */
static int config(const char *text, size_t size)
{
    kalm__checkpoint c;
    kalm_error err;
    kalm_result r;
    char *exact = (char *)malloc(size ? size : 1);
    kalm__checkpoint_begin(&c);
    kalm__no_error(&err);
    if (!exact) return 0;
    if (size) memcpy(exact, text, size);
    r = kalm__config_read(&c, exact, size, &err);
    CHECK(r ? err.text[0] != 0 && err.code == r : 1);
    if (!r) {
        unsigned i, k;
        for (i = 0; i < 2; i++) {
            const kalm__side *s = &c.shape.side[i];
            CHECK(s->layers >= 1 && s->layers <= KALM__MAX_LAYERS && s->mlp <= KALM__MAX_MLP && s->heads % s->kv_heads == 0
                  && s->head_dim % 2 == 0 && s->head_dim <= KALM__MAX_HEAD_DIM && s->window >= 1);
            for (k = 0; k < s->layers; k++) CHECK(s->full[k] <= 1);
        }
        CHECK(c.shape.hidden_size >= 1 && c.shape.hidden_size <= KALM__MAX_HIDDEN && c.shape.vocabulary <= KALM__MAX_VOCABULARY);
        r = kalm__checkpoint_tensors(&c, &err);            /* of an empty directory */
        CHECK(r == KALM_BAD_FILE && strstr(err.text, "is missing"));
        r = KALM_OK;
    }
    kalm__checkpoint_end(&c);
    free(exact);
    return r == KALM_OK;
}

/* An index names files that are not there, so it never ends well; it must end. */
static void index_(const char *text, size_t size)
{
    kalm__st st;
    kalm_error err;
    char *exact = (char *)malloc(size ? size : 1);
    if (!exact) return;
    if (size) memcpy(exact, text, size);
    kalm__st_begin(&st);
    kalm__no_error(&err);
    if (kalm__st_read_index(&st, TEST_BUILD "/nowhere", exact, size, &err)) CHECK(err.text[0] != 0);
    kalm__st_end(&st);
    free(exact);
}

#ifdef KALM_FUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    if (!size) return 0;
    if (data[0] == 0) header(text, size - 1, 8 + (size - 1) + 4096);
    else if (data[0] == 1) config(text, size - 1);
    else index_(text, size - 1);
    if (test__failed) abort();
    return 0;
}
#else

/* Change a text a little: bytes, digits, doubled and dropped stretches, and words that mean something here. Returns the
   new size; room for 4096 more. */
static size_t mutate(char *text, size_t n, uint64_t *state)
{
    static const char *const words[] = { "null", "true", "{}", "[]", "-1", "0", "18446744073709551615", "18446744073709551616", "1e999",
                                         "4294967296", "\"\"", "\"\\u0000\"", ",", ":", "\"dtype\":\"F64\"", "\"full_attention\"", "1" };
    unsigned times = 1 + (unsigned)(test_random(state) % 4);
    while (times-- && n > 8) {
        size_t at = (size_t)(test_random(state) % n), len = 1 + (size_t)(test_random(state) % 40), k;
        const char *w = words[test_random(state) % (sizeof words / sizeof *words)];
        if (len > n - at) len = n - at;
        switch (test_random(state) % 6) {
        case 0: text[at] = (char)test_random(state); break;
        case 1:                        /* another digit, somewhere behind */
            while (at < n && !(text[at] >= '0' && text[at] <= '9')) at++;
            if (at < n) text[at] = (char)('0' + test_random(state) % 10);
            break;
        case 2:
            memmove(text + at, text + at + len, n - at - len);
            n -= len;
            break;
        case 3:
            memmove(text + at + len, text + at, n - at);
            n += len;
            break;
        case 4:                        /* a value becomes a word */
            while (at < n && text[at] != ':' && text[at] != '[' && text[at] != ',') at++;
            if (at >= n) break;
            at++;
            for (k = at; k < n && text[k] != ',' && text[k] != '}' && text[k] != ']'; k++) {}
            memmove(text + at + strlen(w), text + k, n - k);
            memcpy(text + at, w, strlen(w));
            n = n - (k - at) + strlen(w);
            break;
        default: n = at; break;
        }
    }
    return n;
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000, i, good[2] = { 0, 0 };
    uint64_t state = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    static const char index_text[] = "{\"metadata\": {}, \"weight_map\": {\"a.b\": \"model-1.safetensors\", \"c\": \"model-2.safetensors\"}}";
    size_t file_size, config_size, n;
    unsigned char *file, *json;
    char *text;
    /* sizes small enough that most mutations hit something */
    if (!CHECK(!system("rm -rf " TEST_BUILD "/tmp/fuzz_st && " TEST_BUILD "/kalm-random-checkpoint hidden=8 mlp=8 layers=1 heads=1 "
                       "kv_heads=1 head_dim=8 window=2 vocabulary=8 --quiet " TEST_BUILD "/tmp/fuzz_st")))
        return test_end();
    file = test_read_file(TEST_BUILD "/tmp/fuzz_st/model.safetensors", &file_size);
    json = test_read_file(TEST_BUILD "/tmp/fuzz_st/config.json", &config_size);
    if (!CHECK(file && json)) return test_end();
    n = (size_t)kalm__u64(file);
    text = (char *)malloc(n + config_size + 8192);
    if (!CHECK(text != NULL)) return test_end();
    CHECK(header((const char *)file + 8, n, file_size));
    CHECK(config((const char *)json, config_size));
    for (i = 0; i < rounds; i++) {
        size_t m;
        memcpy(text, file + 8, n);
        m = mutate(text, n, &state);
        good[0] += (unsigned long)header(text, m, 8 + m + (file_size - 8 - n));
        memcpy(text, json, config_size);
        m = mutate(text, config_size, &state);
        good[1] += (unsigned long)config(text, m);
        memcpy(text, index_text, sizeof index_text - 1);
        m = mutate(text, sizeof index_text - 1, &state);
        index_(text, m);
    }
    printf("%lu rounds: %lu headers and %lu configs were still good\n", rounds, good[0], good[1]);
    CHECK(rounds < 1000 || (good[0] && good[1] && good[0] < rounds && good[1] < rounds));
    free(file);
    free(json);
    free(text);
    CHECK(!system("rm -rf " TEST_BUILD "/tmp/fuzz_st"));
    return test_end();
}
#endif
