/* fuzz.h - what all fuzz targets share. A target is one reader of foreign bytes: a function that takes any bytes and aborts
   when a promise is broken, seeds to start from, a dictionary, and, where random bytes would not get past the door, a way to
   change an input by its structure and to mend its checksums afterwards. tests/fuzz.c runs the targets: with a loop of its own,
   under libFuzzer and under AFL++.

   Which reader of foreign bytes is reached by which target:

   model files, their tokenizer and rows of 4, 3 and 2 bits   model, calls
   documents, other ratios of them, decoder states            document, repool, state, calls
   tokenizer.json, tokenizer.model                            tokenizer_json, tokenizer_model
   safetensors, its index, config.json                        safetensors, index, config; convert (a whole checkpoint)
   JSON, TSV, lines and whole files (src/tools/reader.h)      corpus, documents, texts
   stores; those of kalm-search with their index of words     store, kept; searched
   runs, judgements, test collections, also packed            runs, collection
   requests to kalm-server: path, headers, body               request
   HTML, Markdown, mail, files of a folder, lines of --mcp    texts, folder, mcp
   what kalm-eval --tables keeps: journals, questions, spool  journal
   lists of kalm-quantize --vocabulary; models to be split    part
   states beside a store (kalm-index --states)                states

   What reads no foreign bytes and has no target: server_queue.h (its texts are those of request, what is computed of them is calls'),
   server_log.h (request and kept look at the lines), search_watch.h (of what the kernel tells it compares names; the files are folder's).
   quantize/rows.h, gradient.h and eigen.h compute from the numbers of a checkpoint, of which reading has refused those that are not
   finite; a checkpoint that is wide enough for them takes half a minute an input.
*/
#ifndef FUZZ_H
#define FUZZ_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void fuzz_taker(const char *name, const void *data, size_t size);

typedef struct fuzz_target {
    const char *name;
    size_t      most;                  /* bytes of an input */
    unsigned    rounds;                /* of a short bout: about a fifth of a second of an optimised build */
    void      (*one)(const uint8_t *data, size_t size);
    size_t    (*change)(uint8_t *data, size_t size, size_t room, uint64_t *random);   /* the new size; NULL: as bytes alone */
    void      (*mend)(uint8_t *data, size_t size);                                    /* NULL: nothing to mend */
    void      (*seeds)(fuzz_taker *take);
    const char *const *words;          /* of the dictionary, a NULL behind the last; NULL: none */
} fuzz_target;

/* Promises. A broken one ends the process, which is what a fuzzer looks for. */
#define FUZZ_CHECK(x, ...)                                              \
    do {                                                                \
        if (!(x)) fuzz_broken(__FILE__, __LINE__, #x, __VA_ARGS__);     \
    } while (0)

#if defined(__GNUC__)
__attribute__((noreturn, unused, format(printf, 4, 5)))
#endif
static void fuzz_broken(const char *file, int line, const char *what, const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fprintf(stderr, "%s:%d: broken promise: %s: ", file, line, what);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

#if defined(__GNUC__)
#  define FUZZ_FN static __attribute__((unused))
#else
#  define FUZZ_FN static
#endif

/* splitmix64 */
FUZZ_FN uint64_t fuzz_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
FUZZ_FN size_t fuzz_below(uint64_t *state, size_t n) { return n ? (size_t)(fuzz_random(state) % n) : 0; }

/* A number at which something changes, or one beside it. */
FUZZ_FN uint64_t fuzz_edge(uint64_t *state)
{
    static const uint64_t edge[] = {
        0, 1, 2, 3, 4, 8, 15, 16, 31, 32, 63, 64, 65, 127, 128, 255, 256, 257, 1000, 1023, 1024, 4095, 4096, 0x7fff, 0x8000, 0xffff,
        0x10000, 0xfffff, 0x100000, 0xffffff, 0x1000000, 0x7fffffff, 0x80000000u, 0xfffffffeu, 0xffffffffu, 0x100000000u,
        0x7fffffffffffffffu, 0x8000000000000000u, 0xffffffffffffffc0u, 0xfffffffffffffffeu, 0xffffffffffffffffu
    };
    uint64_t v = edge[fuzz_below(state, sizeof edge / sizeof *edge)];
    switch (fuzz_below(state, 4)) {
    case 0: return v + fuzz_below(state, 3) - 1;
    case 1: return fuzz_random(state) >> fuzz_below(state, 64);
    default: return v;
    }
}
/* The bits of a float at which something changes. */
FUZZ_FN uint32_t fuzz_edge_float(uint64_t *state)
{
    static const uint32_t edge[] = {
        0, 0x80000000u, 1, 0x007fffff, 0x00800000, 0x0d800000 /* 2^-100 */, 0x3f800000, 0xbf800000u, 0x43480000 /* 200 */, 0x477fe000,
        0x7f7fffff, 0xff7fffffu, 0x7f800000, 0xff800000u, 0x7fc00000, 0xffc00001u, 0x7f800001, 0x5f000000, 0x2f800000
    };
    return edge[fuzz_below(state, sizeof edge / sizeof *edge)];
}

FUZZ_FN void fuzz_put(uint8_t *p, unsigned bytes, uint64_t v)
{
    for (; bytes; bytes--, v >>= 8) *p++ = (uint8_t)v;
}
FUZZ_FN uint64_t fuzz_get(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    while (bytes) v = v << 8 | p[--bytes];
    return v;
}

/* A copy of exactly `size` bytes, so that a sanitizer sees a read of one byte too far. */
FUZZ_FN uint8_t *fuzz_exact(const void *data, size_t size)
{
    uint8_t *p = (uint8_t *)malloc(size ? size : 1);
    if (!p) abort();
    if (size) memcpy(p, data, size);
    return p;
}

/* The input, eaten from its front. */
typedef struct fuzz_input {
    const uint8_t *at, *end;
} fuzz_input;
FUZZ_FN uint8_t fuzz_byte(fuzz_input *in) { return in->at < in->end ? *in->at++ : 0; }
FUZZ_FN uint32_t fuzz_word(fuzz_input *in)
{
    uint32_t v = fuzz_byte(in);
    v |= (uint32_t)fuzz_byte(in) << 8;
    v |= (uint32_t)fuzz_byte(in) << 16;
    return v | (uint32_t)fuzz_byte(in) << 24;
}

/* A small change that knows nothing of the format. words may be NULL. */
FUZZ_FN size_t fuzz_change_bytes(uint8_t *p, size_t size, size_t room, const char *const *words, uint64_t *state)
{
    size_t at = fuzz_below(state, size + 1), len = 1 + fuzz_below(state, fuzz_below(state, 4) ? 8 : 200), n = 0;
    static const char digits[] = "0123456789-+.eE,:[]{}\"\\ \t\n\r";
    if (words) while (words[n]) n++;
    if (len > size - at) len = size - at;
    switch (fuzz_below(state, 10)) {
    case 0: if (at < size) p[at] = (uint8_t)fuzz_random(state); return size;
    case 1: if (at < size) p[at] = (uint8_t)(p[at] ^ 1u << fuzz_below(state, 8)); return size;
    case 2: {
        unsigned bytes = 1u << fuzz_below(state, 4);
        if (size >= bytes) fuzz_put(p + fuzz_below(state, size - bytes + 1), bytes, fuzz_edge(state));
        return size;
    }
    case 3:                            /* a stretch goes */
        memmove(p + at, p + at + len, size - at - len);
        return size - len;
    case 4:                            /* a stretch comes twice */
        if (len > room - size) return size;
        memmove(p + at + len, p + at, size - at);
        return size + len;
    case 5:                            /* a stretch moves */
        if (len) memmove(p + fuzz_below(state, size - len + 1), p + at, len);
        return size;
    case 6: return fuzz_below(state, 4) ? size : at;
    case 7:                            /* a mark of some syntax */
        if (at < size) p[at] = (uint8_t)digits[fuzz_below(state, sizeof digits - 1)];
        return size;
    case 8:                            /* the next digit becomes another */
        while (at < size && !(p[at] >= '0' && p[at] <= '9')) at++;
        if (at < size) p[at] = (uint8_t)('0' + fuzz_below(state, 10));
        return size;
    default: {                         /* a word, inserted or instead of what is there */
        const char *w = n ? words[fuzz_below(state, n)] : "\xff";
        size_t k = strlen(w);
        if (fuzz_below(state, 2)) {
            if (k > size - at) return size;
            memcpy(p + at, w, k);
            return size;
        }
        if (k > room - size) return size;
        memmove(p + at + k, p + at, size - at);
        memcpy(p + at, w, k);
        return size + k;
    }
    }
}

/* The next word of a JSON-like text from p[at] on: a string with its quotes, or letters and digits. Returns its size, 0 at the end. */
FUZZ_FN size_t fuzz_next_word(const uint8_t *p, size_t size, size_t *at)
{
    static const char marks[] = "+-._";
    size_t i = *at, from;
    while (i < size && p[i] != '"' && !(p[i] >= '0' && p[i] <= '9') && !((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z')) i++;
    *at = from = i;
    if (i == size) return 0;
    if (p[i] == '"') {
        for (i++; i < size && p[i] != '"'; i++)
            if (p[i] == '\\') i++;
        return (i < size ? i + 1 : size) - from;
    }
    while (i < size && ((p[i] >= '0' && p[i] <= '9') || ((p[i] | 32) >= 'a' && (p[i] | 32) <= 'z') || strchr(marks, p[i] ? p[i] : 1))) i++;
    return i - from;
}

/* A word of the text in the place of another: members under other names, values where others are asked for, names that stand twice. */
FUZZ_FN size_t fuzz_change_words(uint8_t *p, size_t size, size_t room, uint64_t *state)
{
    size_t at = fuzz_below(state, size), from = fuzz_below(state, size), k = fuzz_next_word(p, size, &at), n = fuzz_next_word(p, size, &from);
    uint8_t word[256];
    if (!k || !n || n > sizeof word || size - k + n > room) return size;
    memcpy(word, p + from, n);
    memmove(p + at + n, p + at + k, size - at - k);
    memcpy(p + at, word, n);
    return size - k + n;
}

/* ---- kernel sets --------------------------------------------------------------------------------------------------- */

/* The set for an input: KALM_FUZZ_SET where it is given, else one that the input chooses, so that all are tried. The caller
   passes kalm_kernels, since each command brings a library of its own. */
FUZZ_FN const char *fuzz_set(const char *(*kernels)(size_t i), const uint8_t *data, size_t size)
{
    const char *wish = getenv("KALM_FUZZ_SET");
    size_t sets = 0, i;
    uint32_t sum = 0;
    while (kernels(sets)) sets++;
    if (wish && *wish) {               /* a set that cannot run here would refuse every context, and nothing would be tried */
        for (i = 0; i < sets; i++)
            if (!strcmp(kernels(i), wish)) return wish;
        fprintf(stderr, "fuzz: kernel set %s cannot run on this machine\n", wish);
        exit(2);
    }
    for (i = 0; i < size; i += 1 + i / 64) sum = sum * 31 + data[i];
    return kernels(sum % sets);
}

#endif
