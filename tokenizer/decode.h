/* decode.h - token ids back to text. A tokenizer follows one of two sets of rules. */
/* docs/TOKENIZER.md: */
/* Those of Hugging Face: special tokens are written like others; nothing is cleaned up; consecutive byte tokens are decoded
   together, and if their bytes are not valid UTF-8 as a whole, each of them becomes U+FFFD; ids that the vocabulary lacks are
   skipped.

   Those of SentencePiece (KALM__TOK_SPM): control tokens are left out; the space that encoding has put before the text is removed
   again; of consecutive byte tokens the valid characters are kept and each other byte becomes U+FFFD; an id that the vocabulary
   lacks is an error. What comes out of that goes through the rules of a denormalizer, where the model has one: at each place
   the longest rule that fits there replaces what it fits, at most KALM__WALK_MOST bytes, so that much is held back.

   Nothing is allocated. */
/* end of docs/TOKENIZER.md */
#ifndef KALM__DECODE_H
#define KALM__DECODE_H

#include "text.h"

/* Text of which the first `capacity` bytes are written, and all are counted. */
typedef struct kalm__text_out {
    char  *text;
    size_t capacity, size;             /* size: of the whole text, also of what was not written */
    const kalm__tokenizer *rules;      /* of a denormalizer, or NULL */
    size_t held;                       /* bytes in `ahead` */
    int    begun;                      /* some text came */
    unsigned char ahead[4 * KALM__WALK_MOST];
} kalm__text_out;

KALM__FN void kalm__out_write(kalm__text_out *o, const void *s, size_t n)
{
    if (o->size < o->capacity) memcpy(o->text + o->size, s, kalm__min(n, o->capacity - o->size));
    o->size = kalm__add(o->size, n);   /* SIZE_MAX if it is too large for a size_t */
}

/* What is held goes out by the rules, up to its last `keep` bytes. */
KALM__FN void kalm__out_denormalized(kalm__text_out *o, size_t keep)
{
    size_t i, take, size, steps = 0;
    for (i = 0; i + keep < o->held; i += take) {
        const unsigned char *at = o->ahead + i;
        const char *with = NULL;
        take = kalm__rule_at(o->rules, at, o->held - i, &with, &steps);
        size = take ? kalm__rule_bytes(o->rules, with) : SIZE_MAX;
        if (size == SIZE_MAX) {        /* none fits, or it is damaged */
            int c = kalm__utf8(at, o->held - i);
            take = size = (size_t)(c < 0 ? -c : c);
            with = (const char *)at;
            if (c < 0) with = "\xef\xbf\xbd", size = 3;
        }
        kalm__out_write(o, with, size);
    }
    memmove(o->ahead, o->ahead + i, o->held -= i);
}

KALM__FN void kalm__out(kalm__text_out *o, const char *s, size_t n)
{
    o->begun |= n > 0;
    if (!o->rules) kalm__out_write(o, s, n);
    else
        while (n) {
            size_t some = kalm__min(n, sizeof o->ahead - o->held);
            memcpy(o->ahead + o->held, s, some);
            o->held += some, s += some, n -= some;
            if (o->held == sizeof o->ahead) kalm__out_denormalized(o, KALM__WALK_MOST + 3);      /* a rule, or a character */
        }
}

/* The byte that a byte token stands for; -1 if the id is not one of a byte token. */
KALM__FN int kalm__token_byte(const kalm__tokenizer *t, int32_t id)
{
    kalm_text s;
    if (id < 0 || (uint32_t)id >= t->tokens || t->part[KALM__SEC_KINDS][id] != KALM__KIND_BYTE) return -1;
    s = kalm__token_bytes(t, id);
    return s.size == 1 ? (unsigned char)s.data[0] : -1;
}

/* Write the text of ids[from .. to), all of which are byte tokens or ids that the vocabulary lacks. By Hugging Face's rules a
   first pass asks whether all of it is UTF-8. */
KALM__FN void kalm__decode_bytes(const kalm__tokenizer *t, const int32_t *ids, size_t from, size_t to, kalm__text_out *o)
{
    unsigned char bytes[4];
    int pass, whole = 1, k;
    for (pass = (t->flags & KALM__TOK_SPM) != 0; pass < 2; pass++) {
        size_t i = from, n = 0;
        for (;;) {
            for (; n < 4 && i < to; i++)
                if ((k = kalm__token_byte(t, ids[i])) >= 0) bytes[n++] = (unsigned char)k;
            if (!n) break;
            k = kalm__utf8(bytes, n);
            if (!pass && k < 0) whole = 0;
            if (k > 0 && whole) {
                if (pass) kalm__out(o, (const char *)bytes, (size_t)k);
            } else {
                if (pass) kalm__out(o, "\xef\xbf\xbd", 3);
                k = 1;
            }
            n -= (size_t)k;
            memmove(bytes, bytes + k, n);
        }
    }
}

/* kalm_detokenize of api.h, for a tokenizer. */
KALM__FN kalm_result kalm__detokenize(const kalm__tokenizer *t, const int32_t *ids, size_t count, char *text,
                                      size_t capacity, size_t *size, kalm_error *err)
{
    const unsigned char *kinds = t->part[KALM__SEC_KINDS];
    int spm = (t->flags & KALM__TOK_SPM) != 0, escape = spm || (t->flags & KALM__TOK_ESCAPE) != 0, at_start = 1, took = 0;
    int strip = (t->flags & KALM__TOK_STRIP) != 0;
    kalm__text_out o;
    kalm__tokenizer denormalizer;
    size_t i = 0, k;
    o.text = text, o.capacity = capacity, o.size = o.held = 0;
    o.begun = 0;
    o.rules = NULL;
    if (t->flags & KALM__TOK_DENORMAL) {
        o.rules = &denormalizer;
        denormalizer = *t;
        denormalizer.part[KALM__SEC_RULES] += 4 * (size_t)t->rule_units;
        denormalizer.rule_units = (uint32_t)(t->size[KALM__SEC_RULES] / 4) - t->rule_units;
        denormalizer.part[KALM__SEC_TEXTS] += t->denormal_texts;
        denormalizer.size[KALM__SEC_TEXTS] -= t->denormal_texts;
    }
    while (i < count) {
        int32_t id = ids[i];
        kalm_text s;
        if (kalm__token_byte(t, id) >= 0) {
            size_t from = i;
            while (i < count && (kalm__token_byte(t, ids[i]) >= 0 || (!spm && !kalm__token_bytes(t, ids[i]).data))) i++;
            kalm__decode_bytes(t, ids, from, i, &o);
            strip = 0;
            continue;
        }
        i++;
        s = kalm__token_bytes(t, id);
        if (!s.data) {
            if (spm) return kalm__fail(err, KALM_BAD_ARGUMENT, "token id %d is not in the vocabulary of %u", (int)id,
                                       t->tokens);
            continue;
        }
        if (spm) {
            if (took || o.begun) at_start = 0;
            took = 0;
            if (kinds[id] == KALM__KIND_CONTROL) continue;
            if (kinds[id] == KALM__KIND_UNKNOWN) {
                kalm__out(&o, (const char *)t->part[KALM__SEC_UNKNOWN], t->size[KALM__SEC_UNKNOWN]);
                continue;
            }
            if (at_start && (t->flags & (KALM__TOK_PREFIX | KALM__TOK_TRIM))
                && kalm__is_escaped_space((const unsigned char *)s.data, s.size)) {
                s.data += 3;
                s.size -= 3;
                took = !(t->flags & KALM__TOK_TRIM);
            }
        }
        for (k = 0; k < s.size;) {
            size_t from = k;
            while (k < s.size && !(escape && kalm__is_escaped_space((const unsigned char *)s.data + k, s.size - k))) k++;
            if (k > from) {
                size_t skip = strip && s.data[from] == ' ';
                kalm__out(&o, s.data + from + skip, k - from - skip);
                strip = 0;
            }
            if (k < s.size) {
                if (!strip) kalm__out(&o, " ", 1);
                strip = 0;
                k += 3;
            }
        }
    }
    if (o.rules) kalm__out_denormalized(&o, 0);
    *size = o.size;
    return KALM_OK;
}

#endif
