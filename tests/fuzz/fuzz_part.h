/* fuzz_part.h - target "part": what kalm-quantize makes of a model file that a stranger wrote (--side), and of lists of texts for
   --vocabulary and --held-out. A part that it writes passes --verify, and is itself when the same part is taken out of it again. */
#ifndef FUZZ_PART_H
#define FUZZ_PART_H

#include "fuzz_commands.h"
#include "fuzz_model.h"

/* Byte 0: the side. Byte 1: 1 a model follows, 0 a list; from bit 1 on what --vocabulary names. Byte 2: --tokens, 0: none. */
enum { FUZZ_PART_HEAD = 3 };

FUZZ_FN int fuzz_same_files(const char *a, const char *b)
{
    FILE *f = fopen(a, "rb"), *g = fopen(b, "rb");
    int x = 0, y = 0;
    while (f && g && x == y && x != EOF) x = getc(f), y = getc(g);
    if (f) fclose(f);
    if (g) fclose(g);
    return f && g && x == y;
}

static void fuzz_part_one(const uint8_t *data, size_t size)
{
    static const char *const sides[4] = { "both", "decoder", "encoder", "decoder" };
    static const char *const scripts[4] = { "", "ascii,", "latin,greek,", "Han," };
    const char *side, *model, *input, *out;
    char what[200], tokens[8];
    int is_model, cut, status;
    if (size < FUZZ_PART_HEAD) return;
    fuzz_enter();
    is_model = data[1] & 1;
    cut = !is_model || data[1] & 8;
    side = sides[data[0] % 4];
    model = fuzz_path("m.kalm");
    input = fuzz_path("input");
    out = fuzz_path("part.kalm");
    fuzz_write(input, data + FUZZ_PART_HEAD, size - FUZZ_PART_HEAD);
    if (is_model) model = input;
    snprintf(what, sizeof what, "%s%s", scripts[data[1] / 2 % 4], is_model ? "ascii" : input);
    snprintf(tokens, sizeof tokens, "%u", (unsigned)data[2]);
    fuzz_remove("part.kalm");
    status = fuzz_command(fuzz_main_quantize, model, out, "--quiet", "--threads", "1", "--side", side, cut ? "--vocabulary" : NULL, what,
                          is_model ? NULL : "--held-out", input, data[2] ? "--tokens" : NULL, tokens, NULL);
    fuzz_check_command(status);
    if (status) {
        FUZZ_CHECK(access(out, F_OK), "%s", "a part was left behind by a failure");
        return;
    }
    status = fuzz_command(fuzz_main_quantize, "--verify", out, NULL);
    FUZZ_CHECK(!status, "what was written does not pass --verify: %s", fuzz_command_said());
    status = fuzz_command(fuzz_main_quantize, "--info", out, NULL);
    FUZZ_CHECK(!status, "what was written has no --info: %s", fuzz_command_said());
    if (!strcmp(side, "both")) fuzz_check_command(fuzz_command(fuzz_main_rerank, out, "ab", "b", "aba", "--threads", "1", NULL));
    else {
        const char *again = fuzz_path("again.kalm");
        fuzz_remove("again.kalm");
        status = fuzz_command(fuzz_main_quantize, out, again, "--quiet", "--threads", "1", "--side", side, NULL);
        FUZZ_CHECK(!status, "the part of a part is refused: %s", fuzz_command_said());
        FUZZ_CHECK(fuzz_same_files(out, again), "%s", "the part of a part has other bytes");
    }
}

static void fuzz_part_mend(uint8_t *p, size_t size)
{
    if (size > FUZZ_PART_HEAD && p[1] & 1) fuzz_mend_model(p + FUZZ_PART_HEAD, size - FUZZ_PART_HEAD);
}
static size_t fuzz_part_change(uint8_t *p, size_t size, size_t room, uint64_t *random)
{
    if (size < FUZZ_PART_HEAD || fuzz_below(random, 12) == 0) {
        if (size) p[fuzz_below(random, kalm__min(size, FUZZ_PART_HEAD))] ^= (uint8_t)(fuzz_random(random) & 0xfe);
        return size;
    }
    if (p[1] & 1) return FUZZ_PART_HEAD + fuzz_change_model(p + FUZZ_PART_HEAD, size - FUZZ_PART_HEAD, room - FUZZ_PART_HEAD, random);
    return fuzz_change_behind(p, size, room, FUZZ_PART_HEAD, random);
}

static void fuzz_part_seeds(fuzz_taker *take)
{
    unsigned i;
    FUZZ_TAKE("lines", "\0\0\0ab aba b\nyes\n");
    FUZZ_TAKE("query-tab-text", "\1\2\24ab\tab aba\nb\tb\xc3\xa9\xff\n");
    FUZZ_TAKE("records", "\2\4\0{\"query\": \"ab\", \"title\": \"b\", \"text\": \"aba <b> <eot>\"}\n{\"text\": \"\\u00e9\"}\n");
    FUZZ_TAKE("few", "\0\0\3aaaa\n");
    FUZZ_TAKE("nothing", "\0\2\0\n\n");
    for (i = 0; i < FUZZ_SHAPES; i++) {
        fuzz_shape s = fuzz_some_shape(i);
        size_t size;
        uint8_t *model = fuzz_model_bytes(&s, i + 1, &size), *p = (uint8_t *)malloc(size + FUZZ_PART_HEAD);
        char name[16];
        if (!p) abort();
        p[0] = (uint8_t)(s.lacks & KALM__LACKS_DECODER ? 2 : 1 + i % 2);
        p[1] = (uint8_t)(i % 4 == 3 ? 9 : 1);
        p[2] = 0;
        memcpy(p + FUZZ_PART_HEAD, model, size);
        sprintf(name, "shape-%u", i);
        take(name, p, size + FUZZ_PART_HEAD);
        free(model);
        free(p);
    }
}
static const fuzz_target fuzz_part_target = { "part", 1 << 17, 40, fuzz_part_one, fuzz_part_change, fuzz_part_mend, fuzz_part_seeds, fuzz_json_words };

#endif
