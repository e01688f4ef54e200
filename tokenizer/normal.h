/* normal.h - normalisation: a text, or a stretch of one, into inner form (bpe.h says what that is). Ill-formed UTF-8, literal
   U+2581, Unicode normal forms, rules of a charsmap, and what Hugging Face's Unigram tokenizers do with white space. What
   SentencePiece does with a whole text is in text.h, because user-defined symbols take part in it. */
#ifndef KALM__NORMAL_H
#define KALM__NORMAL_H

#include "ids.h"
#if defined(KALM_UTF8PROC)
#  include <utf8proc.h>
#endif

#define KALM__LOCAL_TEXT 1024
#define KALM__GROWTH_STEPS 8           /* a byte that a rule puts in costs so many steps, so that no file makes a text more
                                          than 64 times as long; NFKC makes one at most 11 times as long */

/* A buffer that is on the stack while it is short. */
typedef struct kalm__buffer {
    const kalm_allocator *alloc;
    unsigned char        *data;
    size_t                size, room;
    unsigned char         local[KALM__LOCAL_TEXT];
} kalm__buffer;

KALM__FN void kalm__buffer_begin(kalm__buffer *b, const kalm_allocator *alloc)
{
    b->alloc = alloc;
    b->data = b->local;
    b->size = 0;
    b->room = sizeof b->local;
}
KALM__FN void kalm__buffer_end(kalm__buffer *b)
{
    if (b->data != b->local) kalm__release(b->alloc, b->data, b->room);
}
/* Room for `more` bytes behind what is there. */
KALM__FN kalm_result kalm__buffer_room(kalm__buffer *b, size_t more, kalm_error *err)
{
    size_t wanted = kalm__add(b->size, more);
    void *bigger;
    if (wanted <= b->room) return KALM_OK;
    wanted = kalm__max(wanted, kalm__add(b->room, b->room / 2));
    bigger = kalm__grow(b->alloc, err, b->data, b->local, b->room, wanted, b->size);
    if (!bigger) return KALM_NO_MEMORY;
    b->data = (unsigned char *)bigger;
    b->room = wanted;
    return KALM_OK;
}

/* ---- UTF-8 --------------------------------------------------------------------------------------------------- */

/* Length of the character at p, 1 .. 4, or minus the length of the maximal ill-formed part. n > 0. */
KALM__INLINE int kalm__utf8(const unsigned char *p, size_t n)
{
    unsigned c = p[0], low = 0x80, high = 0xbf;
    int need, i;
    if (c < 0x80) return 1;
    if (c < 0xc2 || c > 0xf4) return -1;
    if (c < 0xe0) need = 2;
    else if (c < 0xf0) {
        need = 3;
        if (c == 0xe0) low = 0xa0;
        else if (c == 0xed) high = 0x9f;
    } else {
        need = 4;
        if (c == 0xf0) low = 0x90;
        else if (c == 0xf4) high = 0x8f;
    }
    for (i = 1; i < need; i++) {
        if ((size_t)i >= n || p[i] < low || p[i] > high) return -i;
        low = 0x80, high = 0xbf;
    }
    return need;
}

KALM__INLINE int kalm__is_escaped_space(const unsigned char *p, size_t n)
{
    return n >= 3 && p[0] == 0xe2 && p[1] == 0x96 && p[2] == 0x81;
}

/* Bytes behind what is there, every U+2581 as a space where the vocabulary escapes spaces. */
KALM__FN kalm_result kalm__put_inner(kalm__buffer *out, const unsigned char *bytes, size_t n, int escape, kalm_error *err)
{
    kalm_result r = kalm__buffer_room(out, n, err);
    size_t k;
    if (r) return r;
    if (!escape || !memchr(bytes, 0xe2, n)) {
        memcpy(out->data + out->size, bytes, n);
        out->size += n;
        return KALM_OK;
    }
    for (k = 0; k < n;)
        if (kalm__is_escaped_space(bytes + k, n - k)) {
            out->data[out->size++] = ' ';
            k += 3;
        } else out->data[out->size++] = bytes[k++];
    return KALM_OK;
}

/* ---- rules ------------------------------------------------------------------------------------------------------ */

/* The longest rule of the charsmap at text[0 .. n): how many bytes it replaces, and its text. *steps grows by the units
   of the trie that were looked at. */
KALM__FN size_t kalm__rule_at(const kalm__tokenizer *t, const unsigned char *text, size_t n, const char **with, size_t *steps)
{
    const unsigned char *rules = t->part[KALM__SEC_RULES];
    uint32_t at = 0, unit;
    size_t i, found = 0;
    if (!t->rule_units) return 0;
    unit = kalm__u32(rules);
    at ^= unit >> 10 << ((unit & 512u) >> 6);
    if (n > KALM__WALK_MOST) n = KALM__WALK_MOST;
    for (i = 0; i < n; i++) {
        at ^= text[i];
        if (at >= t->rule_units) break;
        unit = kalm__word(rules, at);
        if ((unit & 0x800000ffu) != text[i]) break;
        at ^= unit >> 10 << ((unit & 512u) >> 6);
        if (unit & 256u) {
            uint32_t value = at < t->rule_units ? kalm__word(rules, at) & 0x7fffffffu : KALM__TOK_NONE;
            if (value < t->size[KALM__SEC_TEXTS]) {
                *with = (const char *)t->part[KALM__SEC_TEXTS] + value;
                found = i + 1;
            }
        }
    }
    *steps += i;
    return found;
}

/* Text that a rule puts in, which begins at `with` in the texts: its bytes, or SIZE_MAX where it has no end. */
KALM__FN size_t kalm__rule_bytes(const kalm__tokenizer *t, const char *with)
{
    size_t left = t->size[KALM__SEC_TEXTS] - (size_t)((const unsigned char *)(const void *)with - t->part[KALM__SEC_TEXTS]);
    const void *end = memchr(with, 0, kalm__min(left, (size_t)KALM__RULE_MOST + 1));
    return end ? (size_t)((const char *)end - with) : SIZE_MAX;
}

/* ---- Hugging Face ---------------------------------------------------------------------------------------------- */

/* The code point of the character at p, whose bytes go to *bytes; 0 where it has four or is ill-formed. n > 0. */
KALM__FN unsigned kalm__code_at(const unsigned char *p, size_t n, int *bytes)
{
    *bytes = kalm__utf8(p, n);
    return *bytes == 1 ? *p : *bytes == 2 ? (*p & 31u) << 6 | (p[1] & 63u)
         : *bytes == 3 ? (*p & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u) : 0;
}

/* Bytes of the white space character (Unicode's property White_Space) at p; 0: none. n > 0. */
KALM__FN unsigned kalm__white_bytes(const unsigned char *p, size_t n)
{
    int bytes;
    unsigned c = kalm__code_at(p, n, &bytes);
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a)
        || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000 ? (unsigned)bytes : 0;
}

/* Does a mark of two or three bytes that joins the character before it begin at p? */
KALM__FN int kalm__joins_before(const unsigned char *p, size_t n)
{
    static const unsigned short ranges[][2] = {
        { 0x300, 0x36f }, { 0x483, 0x489 }, { 0x591, 0x5bd }, { 0x5bf, 0x5bf }, { 0x5c1, 0x5c2 }, { 0x5c4, 0x5c5 },
        { 0x5c7, 0x5c7 }, { 0x610, 0x61a }, { 0x64b, 0x65f }, { 0x670, 0x670 }, { 0x6d6, 0x6dc }, { 0x6df, 0x6e4 }, { 0x6e7, 0x6e8 },
        { 0x6ea, 0x6ed },
        { 0x711, 0x711 }, { 0x730, 0x74a }, { 0x7a6, 0x7b0 }, { 0x7eb, 0x7f3 }, { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff },
        { 0x200c, 0x200d }, { 0x20d0, 0x20f0 }, { 0x302a, 0x302f }, { 0x3099, 0x309a }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f }
    };
    int bytes;
    unsigned c = kalm__code_at(p, n, &bytes), i;
    for (i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i][0] && c <= ranges[i][1]) return 1;
    return 0;
}

/* The part of text[0 .. n) that Hugging Face's "Precompiled" normalizer replaces as a whole: how many bytes, and by what. It
   looks at a grapheme of fewer than six bytes, and takes the shortest rule that begins there for all of it; else at one
   character. Graphemes are a character and the marks behind it, and CR LF. */
KALM__FN kalm_result kalm__precompiled_at(const kalm__tokenizer *t, const unsigned char *text, size_t n, size_t *took,
                                          const unsigned char **with, size_t *size, size_t *steps, kalm_error *err)
{
    int k = kalm__utf8(text, n);
    size_t whole, one, found = 0, tries;
    const char *rule = NULL;
    *with = text;
    *took = *size = (size_t)(k < 0 ? -k : k);
    if (k < 0) {
        *with = (const unsigned char *)"\xef\xbf\xbd";
        *size = 3;
        return KALM_OK;
    }
    if (!t->rule_units) return KALM_OK;
    one = whole = (size_t)k;
    if (*text == '\r' && n > 1 && text[1] == '\n') whole = 2;
    else while (whole < n && whole < 6 && kalm__joins_before(text + whole, n - whole)) whole += kalm__char_bytes(text + whole);
    for (tries = 0; tries < 2 && !found; tries++) {
        size_t most = tries ? one : whole, i;
        if (most >= 6) continue;
        for (i = 1; i <= most && !found; i++) found = kalm__rule_at(t, text, i, &rule, steps) == i ? most : 0;
        if (whole == one) break;
    }
    if (!found) return KALM_OK;
    *took = found;
    *with = (const unsigned char *)(const void *)rule;
    *size = kalm__rule_bytes(t, rule);
    if (*size == SIZE_MAX) return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's rules are damaged: one has no end");
    *steps += KALM__GROWTH_STEPS * *size;
    return KALM_OK;
}

#if defined(KALM_UTF8PROC)
/* What the buffer holds, well-formed, into a Unicode normal form. */
KALM__FN kalm_result kalm__normal_form(const kalm__tokenizer *t, kalm__buffer *out, kalm_error *err)
{
    static const int forms[4] = {
        UTF8PROC_STABLE | UTF8PROC_COMPOSE, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT
    };
    utf8proc_uint8_t *made = NULL;
    utf8proc_ssize_t size = utf8proc_map(out->data, (utf8proc_ssize_t)out->size, &made,
                                         (utf8proc_option_t)forms[t->flags >> KALM__TOK_FORM_AT & 3]);
    kalm_result r;
    if (size < 0) return kalm__fail(err, KALM_NO_MEMORY, "utf8proc could not normalise a text of %z bytes", out->size);
    r = kalm__buffer_room(out, (size_t)size, err);
    if (r == KALM_OK) memcpy(out->data, made, out->size = (size_t)size);
    free(made);                        /* utf8proc takes it from malloc */
    return r;
}
#endif

/* One stretch between added tokens into inner form, by Hugging Face's rules: the charsmap, then white space, then the prefix,
   then a normal form. out: empty. */
KALM__FN kalm_result kalm__stretch(const kalm__tokenizer *t, const unsigned char *text, size_t n, int first, kalm__buffer *out,
                                   kalm__meter *meter, kalm_error *err)
{
    int white = (t->flags & KALM__TOK_WHITE) != 0, collapse = (t->flags & KALM__TOK_COLLAPSE) != 0, space = 0;
    int prefix = (t->flags & KALM__TOK_PREFIX) && (first || !(t->flags & KALM__TOK_FIRST));
    int unless = (t->flags & KALM__TOK_UNLESS) != 0, left = (t->flags & KALM__TOK_TRIM_LEFT) != 0;
    size_t i = 0, kept = 0;            /* kept: where the last that is no white space ends */
    kalm_result r = KALM_OK;
    while (i < n) {
        const unsigned char *with;
        size_t took, size, steps = 1, k, bytes;
        r = kalm__precompiled_at(t, text + i, n - i, &took, &with, &size, &steps, err);
        if (!r) r = kalm__meter_add(meter, steps, err);
        if (!r) r = kalm__buffer_room(out, kalm__mul(size + 1, 2), err);
        if (r) return r;
        i += took;
        for (k = 0; k < size; k += bytes) {
            const unsigned char *p = with + k;
            unsigned gap = kalm__white_bytes(p, size - k);
            int escaped = kalm__is_escaped_space(p, size - k), spaced = escaped || *p == ' ';
            bytes = gap ? gap : kalm__min(kalm__char_bytes(p), size - k);
            if (gap && white) {        /* separates words, whatever it is */
                space = 1;
                continue;
            }
            if (gap && left && !out->size) continue;
            if (*p == ' ' && collapse && space) continue;
            if (out->size ? white && space && !spaced : prefix && !(unless && spaced)) out->data[out->size++] = ' ';
            space = *p == ' ';
            if (escaped && (t->flags & KALM__TOK_ESCAPE)) out->data[out->size++] = ' ';
            else {
                memcpy(out->data + out->size, p, bytes);
                out->size += bytes;
            }
            if (!gap) kept = out->size;
        }
    }
    if (t->flags & KALM__TOK_TRIM_RIGHT) out->size = kept;
#if defined(KALM_UTF8PROC)
    if (t->flags & KALM__TOK_NORMAL) r = kalm__normal_form(t, out, err);
#endif
    return r;
}

#endif
