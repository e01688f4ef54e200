/* import_symbols.h - the vocabulary while the converter works on it: its symbols, found by text, and the memory for all of
   it. Filled by import_json.h or import_model.h, completed by import_merges.h, written by import_compile.h. */
#ifndef KALM__IMPORT_SYMBOLS_H
#define KALM__IMPORT_SYMBOLS_H

#include "vocab.h"
#include "../src/tools/json.h"

#define KALM__IMPORT_RANKS 0xfffffdu   /* ranks that a split can hold, without the mark "irregular" */
#define KALM__IMPORT_PROBES 1024u      /* entries of a hash table that are looked at for one text or pair; 50 are rare */

typedef struct kalm__import_symbol {
    kalm_text text;                    /* as published */
    kalm_text inner;                   /* with U+2581 as a space, where the vocabulary escapes spaces */
    uint8_t   kind;                    /* KALM__KIND_... */
    uint8_t   added;                   /* 0: no added token, else 1 + KALM__CLASS_... */
    uint8_t   merges;                  /* may be a symbol of merging */
    uint8_t   leaf;                    /* is one character */
    uint8_t   reachable;               /* merging its text gives it */
    uint8_t   irregular;               /* merging it goes back to a lower rank on the way (bpe.h) */
    uint8_t   derived;                 /* merging its text was tried */
    uint8_t   piece;                   /* unigram, word: a text may be cut into it; 2: where no user wrote it (a mark) */
    uint32_t  left, right, rank;       /* how it is made; rank + 1, 0: a character */
    double    score;
} kalm__import_symbol;

typedef struct kalm__import_merge {
    uint32_t left, right, made, rank;
} kalm__import_merge;

typedef struct kalm__import_block {
    struct kalm__import_block *next;
    size_t size;
} kalm__import_block;

typedef struct kalm__import {
    kalm_allocator       alloc;
    kalm_error          *err;
    const char          *name;
    kalm__import_block  *blocks;       /* everything below; given back at the end, all at once */
    kalm__import_symbol *symbol;
    uint32_t             tokens, symbols;
    kalm__import_merge  *merge;
    size_t               merges;
    uint32_t            *by_text;      /* open addressing: 1 + symbol */
    size_t               by_text_mask;
    uint32_t            *by_pair;      /* open addressing: 1 + merge */
    size_t               by_pair_mask;
    uint32_t             model;        /* KALM__MODEL_... */
    double               unknown_score;
    int                  crowded;      /* a hash table was too crowded around a text or pair: damaged or hostile */
    uint32_t             flags, unknown, longest_run, bytes[256];
    uint32_t             run[256];
    kalm_text            unknown_text;
    const unsigned char *rules, *texts;          /* of the charsmap, and behind them those of a denormalizer */
    size_t               rules_size, texts_size;
    uint32_t             denormal_unit, denormal_texts;    /* where these begin, with KALM__TOK_DENORMAL */
} kalm__import;

/* Zeroed memory that lives until kalm__import_end; NULL: the error is filled. */
KALM__FN void *kalm__import_alloc(kalm__import *m, size_t size)
{
    size_t whole = kalm__add(size, 64);
    kalm__import_block *b = (kalm__import_block *)kalm__alloc(&m->alloc, whole);
    if (!b) {
        (void)kalm__fail(m->err, KALM_NO_MEMORY, "no memory to read %s: %z bytes", m->name, whole);
        return NULL;
    }
    b->next = m->blocks;
    b->size = whole;
    m->blocks = b;
    memset((char *)b + 64, 0, size);
    return (char *)b + 64;
}

KALM__FN void kalm__import_begin(kalm__import *m, const char *name, const kalm_allocator *alloc, kalm_error *err)
{
    unsigned i;
    memset(m, 0, sizeof *m);
    m->alloc = *alloc;
    m->err = err;
    m->name = name;
    m->unknown = KALM__TOK_NONE;
    for (i = 0; i < 256; i++) m->bytes[i] = KALM__TOK_NONE;
}
KALM__FN void kalm__import_end(kalm__import *m)
{
    while (m->blocks) {
        kalm__import_block *b = m->blocks;
        m->blocks = b->next;
        kalm__release(&m->alloc, b, b->size);
    }
}

/* ---- found by text --------------------------------------------------------------------------------------------------- */

KALM__FN uint64_t kalm__import_hash(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

KALM__FN int kalm__import_index(kalm__import *m, size_t count)
{
    size_t size = 1024;
    while (size < kalm__mul(count, 2)) size *= 2;
    m->by_text = (uint32_t *)kalm__import_alloc(m, size * sizeof *m->by_text);
    m->by_text_mask = size - 1;
    return m->by_text != NULL;
}

/* Where a text is in the hash table, or where it would go; KALM__TOK_NONE: the table is too crowded there. */
KALM__FN size_t kalm__import_place(const kalm__import *m, const char *data, size_t size)
{
    size_t i = (size_t)kalm__import_hash(data, size), probes;
    for (probes = 0; probes < KALM__IMPORT_PROBES; probes++, i++) {
        uint32_t s = m->by_text[i & m->by_text_mask];
        kalm_text t;
        if (!s) return i & m->by_text_mask;
        t = m->symbol[s - 1].text;
        if (t.size == size && (!size || !memcmp(t.data, data, size))) return i & m->by_text_mask;
    }
    return KALM__TOK_NONE;
}

/* The symbol of a text, or KALM__TOK_NONE. */
KALM__FN uint32_t kalm__import_find(const kalm__import *m, kalm_text a)
{
    size_t at = kalm__import_place(m, a.data, a.size);
    return at == KALM__TOK_NONE || !m->by_text[at] ? KALM__TOK_NONE : m->by_text[at] - 1;
}

/* The symbol of two texts, one behind the other, or KALM__TOK_NONE. */
KALM__FN uint32_t kalm__import_find2(const kalm__import *m, kalm_text a, kalm_text b)
{
    char both[512];
    kalm_text t;
    t.data = both;
    t.size = kalm__add(a.size, b.size);
    if (t.size > sizeof both) return KALM__TOK_NONE;
    if (a.size) memcpy(both, a.data, a.size);
    if (b.size) memcpy(both + a.size, b.data, b.size);
    return kalm__import_find(m, t);
}

KALM__FN void kalm__import_enter(kalm__import *m, uint32_t s)
{
    size_t at = kalm__import_place(m, m->symbol[s].text.data, m->symbol[s].text.size);
    if (at == KALM__TOK_NONE) m->crowded = 1;
    else m->by_text[at] = s + 1;
}

/* ---- what a text is ---------------------------------------------------------------------------------------------------- */

/* Bytes of the character at s; 0: none, or ill-formed. */
KALM__FN size_t kalm__import_char(const char *s, size_t n)
{
    return n ? kalm__json_utf8((const unsigned char *)s, n) : 0;
}
KALM__FN int kalm__import_one_char(kalm_text t) { return t.size && kalm__import_char(t.data, t.size) == t.size; }
KALM__FN int kalm__import_is_space(const char *s, size_t n)
{
    return n >= 3 && !memcmp(s, "\xe2\x96\x81", 3);
}

/* Is this added token a mark of the prompt, which no user may write? Runs of white space and tags of HTML are not, nor is
   any word that does not look like a mark: <x>, [x]. */
KALM__FN int kalm__import_is_mark(kalm_text t)
{
    static const char tags[] =
        " a abbr address article aside audio b bbox blockquote body br button caption center cite code col colgroup dd del "
        "details dfn div dl dt em embed fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i "
        "iframe img input ins kbd label legend li link main map math meta nav object ol optgroup option p param picture pre "
        "q s samp script section select small source span strike strong style sub summary sup svg table tbody td template "
        "textarea tfoot th thead time title tr track tt u ul var video wbr ";
    size_t i;
    if (t.size < 3 || !((t.data[0] == '<' && t.data[t.size - 1] == '>') || (t.data[0] == '[' && t.data[t.size - 1] == ']')))
        return 0;
    if (t.data[0] == '<') {
        const char *word = t.data + 1;
        size_t n = t.size - 2;
        if (n && *word == '/') word++, n--;
        if (n && word[n - 1] == '/') n--;
        for (i = 0; n && i + n + 2 <= sizeof tags - 1; i++)
            if (tags[i] == ' ' && !memcmp(tags + i + 1, word, n) && tags[i + 1 + n] == ' ') return 0;
    }
    return 1;
}

/* <0x00> .. <0xFF>: the byte, or -1. */
KALM__FN int kalm__import_byte(kalm_text t)
{
    int v = 0, i;
    if (t.size != 6 || memcmp(t.data, "<0x", 3) || t.data[5] != '>') return -1;
    for (i = 3; i < 5; i++) {
        char c = t.data[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

#endif
