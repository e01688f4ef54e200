/* fuzz.c - runs the fuzz targets of tests/fuzz/. Three ways to build it:

   plain     fuzz                                 a short bout of every target, the same each time: a part of make test
             fuzz NAME [ROUNDS [SEED]]            longer, of one target; 0 rounds: until it is stopped
             fuzz NAME FILE...                    runs files once, as they are: what a fuzzer found
             fuzz --list | --seeds FOLDER         names; seeds and dictionaries, a folder and a NAME.dict for each target
   clang -fsanitize=fuzzer -DFUZZ_LIBFUZZER       libFuzzer; the target is the end of the program's name behind "fuzz-", or
                                                  KALM_FUZZ=NAME
   afl-clang-fast -DFUZZ_AFL                      AFL++ in persistent mode; KALM_FUZZ=NAME. Checksums are mended before a run, since
                                                  AFL++ changes bytes alone

   KALM_FUZZ_SET=NAME takes one kernel set for all; without, the input chooses. Sanitizers see the most: make fuzz. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "../src/tools/files.h"
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "../src/tools/json.h"
#include "../tokenizer/import.h"
#include "../quantize/checkpoint.h"

#include "fuzz/fuzz.h"
#include "fuzz/model_bytes.h"
#include "fuzz/fuzz_model.h"
#include "fuzz/fuzz_engine.h"
#include "fuzz/fuzz_tokenizers.h"
#include "fuzz/fuzz_checkpoint.h"
#if defined(FUZZ_COMMANDS)             /* link tests/fuzz/command_*.c as well */
#  include "fuzz/fuzz_commands.h"
#  include "fuzz/fuzz_part.h"
#  include "fuzz/fuzz_convert.h"
#  include "fuzz/fuzz_eval.h"
#  include "fuzz/fuzz_states.h"
#  if defined(FUZZ_SEARCH)
#    include "fuzz/fuzz_search.h"
#  endif
#endif

#include <errno.h>
#include <time.h>
#include <sys/stat.h>

static const fuzz_target *const targets[] = {
    &fuzz_model_target, &fuzz_document_target, &fuzz_repool_target, &fuzz_state_target, &fuzz_calls_target,
    &fuzz_tokenizer_json_target, &fuzz_tokenizer_model_target, &fuzz_safetensors_target, &fuzz_index_target, &fuzz_config_target,
#if defined(FUZZ_COMMANDS)
    &fuzz_corpus_target, &fuzz_documents_target, &fuzz_store_target, &fuzz_runs_target, &fuzz_collection_target,
    &fuzz_journal_target, &fuzz_part_target, &fuzz_convert_target, &fuzz_states_target
#endif
#if defined(FUZZ_COMMANDS) && defined(FUZZ_SERVER)
    , &fuzz_request_target, &fuzz_kept_target
#endif
#if defined(FUZZ_COMMANDS) && defined(FUZZ_SEARCH)
    , &fuzz_texts_target, &fuzz_folder_target, &fuzz_mcp_target, &fuzz_searched_target
#endif
};
enum { TARGETS = sizeof targets / sizeof *targets };

FUZZ_FN const fuzz_target *target_named(const char *name)
{
    size_t i;
    for (i = 0; name && i < TARGETS; i++)
        if (strcmp(targets[i]->name, name) == 0) return targets[i];
    fprintf(stderr, "fuzz: there is no target %s; there are", name ? name : "without a name");
    for (i = 0; i < TARGETS; i++) fprintf(stderr, " %s", targets[i]->name);
    fputc('\n', stderr);
    exit(2);
}

/* One to four changes. */
FUZZ_FN size_t target_change(const fuzz_target *t, uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    size_t times = 1 + fuzz_below(random, 4);
    while (times--)
        size = t->change && fuzz_below(random, 8) ? t->change(p, size, room, random) : fuzz_change_bytes(p, size, room, t->words, random);
    if (t->mend && fuzz_below(random, 32)) t->mend(p, size);
    return size;
}

/* ---- seeds ---------------------------------------------------------------------------------------------------------------- */

static fuzz_bytes seed[64];
static char *seed_name[64];
static size_t seeds;

FUZZ_FN void take_seed(const char *name, const void *data, size_t size)
{
    char *copy = (char *)malloc(strlen(name) + 1);
    if (seeds == 64 || !copy) abort();
    seed_name[seeds] = strcpy(copy, name);
    memset(&seed[seeds], 0, sizeof *seed);
    memcpy(fuzz_grow(&seed[seeds++], size), data, size);
}

FUZZ_FN void forget_seeds(void)
{
    size_t i;
    for (i = 0; i < 64; i++) {
        free(seed[i].data);
        free(seed_name[i]);
        seed_name[i] = NULL;
    }
    memset(seed, 0, sizeof seed);
    seeds = 0;
}

FUZZ_FN void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[512];
    FILE *f;
    if (mkdir(folder, 0777) && errno != EEXIST) perror(folder), exit(1);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "wb");
    if (!f || (size && fwrite(data, size, 1, f) != 1) || fclose(f)) perror(path), exit(1);
}

/* FOLDER/NAME/... and FOLDER/NAME.dict, as both fuzzers read them. */
FUZZ_FN void write_seeds(const char *folder)
{
    size_t i, k, n;
    char name[512];
    if (mkdir(folder, 0777) && errno != EEXIST) perror(folder), exit(1);
    for (i = 0; i < TARGETS; i++) {
        const char *const *w = targets[i]->words;
        fuzz_bytes text;
        targets[i]->seeds(take_seed);
        snprintf(name, sizeof name, "%s/%s", folder, targets[i]->name);
        for (k = 0; k < seeds; k++) write_file(name, seed_name[k], seed[k].data, seed[k].size);
        memset(&text, 0, sizeof text);
        for (; w && *w; w++) {
            *fuzz_grow(&text, 1) = '"';
            for (n = 0; (*w)[n]; n++) {
                char hex[8];
                snprintf(hex, sizeof hex, "\\x%02X", (unsigned)(unsigned char)(*w)[n]);
                memcpy(fuzz_grow(&text, 4), hex, 4);
            }
            memcpy(fuzz_grow(&text, 2), "\"\n", 2);
        }
        snprintf(name, sizeof name, "%s.dict", targets[i]->name);
        write_file(folder, name, text.data, text.size);
        free(text.data);
        forget_seeds();
    }
}

/* ---- entrances ------------------------------------------------------------------------------------------------------------- */

#if defined(FUZZ_LIBFUZZER)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned start);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

static const fuzz_target *chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("KALM_FUZZ"), *program = (*argv)[0], *last = strrchr(program, '/');
    if (*argc == 3 && strcmp((*argv)[1], "--seeds") == 0) {
        write_seeds((*argv)[2]);
        exit(0);
    }
    if (*argc == 2 && strcmp((*argv)[1], "--list") == 0) {
        size_t i;
        for (i = 0; i < TARGETS; i++) puts(targets[i]->name);
        exit(0);
    }
    if (!name && !strncmp(last ? last + 1 : program, "fuzz-", 5)) name = (last ? last + 1 : program) + 5;
    chosen = target_named(name);
    return 0;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= chosen->most) chosen->one(data, size);
    return 0;
}
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned start)
{
    uint64_t random = start;
    if (room > chosen->most) room = chosen->most;
    if (size > room) size = room;
    if (fuzz_below(&random, 3) == 0) {
        size = LLVMFuzzerMutate(data, size, room);
        if (chosen->mend) chosen->mend(data, size);
        return size;
    }
    size = target_change(chosen, data, size, room, &random);
    return size ? size : 1;
}

#else

FUZZ_FN uint8_t *read_input(FILE *f, size_t *size)
{
    fuzz_bytes b;
    size_t n = 1;
    memset(&b, 0, sizeof b);
    while (n) {
        uint8_t *p = fuzz_grow(&b, 1 << 16);
        n = fread(p, 1, 1 << 16, f);
        b.size -= (1 << 16) - n;
    }
    *size = b.size;
    return b.data;
}

/* What was running, for whoever finds the process gone: FUZZ_KEEP=FILE keeps each input before it runs. */
FUZZ_FN void keep_input(const uint8_t *data, size_t size)
{
    const char *path = getenv("KALM_FUZZ_KEEP");
    FILE *f = path && *path ? fopen(path, "wb") : NULL;
    if (!f) return;
    fwrite(data, 1, size, f);
    fclose(f);
}

/* Seeds as they are, then changes of seeds and of what came of them. Returns the processor time of the slowest input. */
FUZZ_FN double bout(const fuzz_target *t, unsigned long rounds, uint64_t random)
{
    uint8_t *p = (uint8_t *)malloc(t->most);
    unsigned long round;
    size_t size;
    double slowest = 0;
    if (!p) abort();
    t->seeds(take_seed);
    if (seeds > 48) abort();
    for (round = 0; !rounds || round < seeds + rounds; round++) {
        const fuzz_bytes *from = round < seeds ? &seed[round] : &seed[fuzz_below(&random, fuzz_below(&random, 4) ? seeds : 64)];
        clock_t begun;
        double took;
        size = from->size < t->most ? from->size : t->most;
        if (size) memcpy(p, from->data, size);
        if (round >= seeds) size = target_change(t, p, size, t->most, &random);
        keep_input(p, size);
        begun = clock();
        t->one(p, size);
        took = (double)(clock() - begun) / CLOCKS_PER_SEC;
        if (took > slowest) slowest = took;
        FUZZ_CHECK(took < 10, "%g seconds for an input of %lu bytes", took, (unsigned long)size);
        if (round >= seeds && fuzz_below(&random, 16) == 0) {              /* go on from here */
            fuzz_bytes *to = &seed[seeds + fuzz_below(&random, 64 - seeds)];
            to->size = 0;
            memcpy(fuzz_grow(to, size ? size : 1), p, size ? size : 1);
        }
    }
    free(p);
    forget_seeds();
    return slowest;
}

#if defined(FUZZ_AFL)
__AFL_FUZZ_INIT()
static int run_afl(void)
{
    const fuzz_target *t = target_named(getenv("KALM_FUZZ"));
    unsigned char *shared;
    __AFL_INIT();
    shared = __AFL_FUZZ_TESTCASE_BUF;
    while (__AFL_LOOP(10000)) {
        size_t size = (size_t)__AFL_FUZZ_TESTCASE_LEN;
        uint8_t *p = fuzz_exact(shared, size);
        if (t->mend) t->mend(p, size);
        if (size <= t->most) t->one(p, size);
        free(p);
    }
    return 0;
}
#endif

int main(int argc, char **argv)
{
    const fuzz_target *t;
    int i;
#if defined(FUZZ_AFL)
    if (argc == 1) return run_afl();
#endif
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (i = 0; i < TARGETS; i++) puts(targets[i]->name);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        write_seeds(argv[2]);
        return 0;
    }
    if (argc == 1) {                   /* a broken promise aborts, which run.sh counts as a failure */
        for (i = 0; i < TARGETS; i++) {
            double slowest = bout(targets[i], targets[i]->rounds, 1);
            printf("%-16s %5u inputs, the slowest took %.0f ms\n", targets[i]->name, targets[i]->rounds, 1e3 * slowest);
            fflush(stdout);
        }
        printf("%d passed, 0 failed\n", TARGETS);
        return 0;
    }
    t = target_named(argv[1]);
    if (argc == 2 || strspn(argv[2], "0123456789") == strlen(argv[2])) {
        unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : t->rounds * 10;
        double slowest = bout(t, rounds, argc > 3 ? strtoul(argv[3], NULL, 10) : 1);
        printf("%s: %lu inputs, the slowest took %.0f ms\n", t->name, rounds, 1e3 * slowest);
        return 0;
    }
    for (i = 2; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        size_t size;
        uint8_t *p;
        if (!f) return perror(argv[i]), 1;
        p = read_input(f, &size);
        fclose(f);
        printf("%s: %s, %lu bytes\n", t->name, argv[i], (unsigned long)size);
        fflush(stdout);
        t->one(p, size);
        free(p);
    }
    return 0;
}
#endif
