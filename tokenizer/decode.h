/* decode.h - from token ids to text. Hugging Face's rules: special tokens kept, no clean-up, a run of byte tokens is one
   unit (its text if well-formed, else U+FFFD for each of its bytes), ids out of range leave no trace. SentencePiece's rules
   (KALM__TOK_SPM): control tokens vanish, the prefix is taken off again, a run of bytes gives its valid characters and
   U+FFFD for each other byte, ids out of range are errors. No memory is needed. */
#ifndef KALM__DECODE_H
#define KALM__DECODE_H

#include "text.h"

typedef struct kalm__text_out {
    char  *text;
    size_t capacity, size;             /* size: of the whole, written or not */
} kalm__text_out;

KALM__FN void kalm__out(kalm__text_out *o, const char *s, size_t n)
{
    if (o->size < o->capacity) memcpy(o->text + o->size, s, kalm__min(n, o->capacity - o->size));
    o->size = kalm__add(o->size, n);   /* SIZE_MAX where the whole has no size */
}

/* The byte of a byte token, or -1. */
KALM__FN int kalm__token_byte(const kalm__tokenizer *t, int32_t id)
{
    kalm_text s;
    if (id < 0 || (uint32_t)id >= t->tokens || t->part[KALM__SEC_KINDS][id] != KALM__KIND_BYTE) return -1;
    s = kalm__token_bytes(t, id);
    return s.size == 1 ? (unsigned char)s.data[0] : -1;
}

/* A walk over the bytes of a run of byte tokens. Ids that the vocabulary lacks are passed over. */
typedef struct kalm__byte_run {
    const int32_t *ids;
    size_t         at, end;
} kalm__byte_run;

KALM__FN int kalm__byte_run_next(const kalm__tokenizer *t, kalm__byte_run *run)
{
    while (run->at < run->end) {
        int value = kalm__token_byte(t, run->ids[run->at++]);
        if (value >= 0) return value;
    }
    return -1;
}

/* The next well-formed character of the run into `bytes`: its length; 0: the next byte begins none; -1: the end. */
KALM__FN int kalm__byte_run_char(const kalm__tokenizer *t, const kalm__byte_run *run, unsigned char *bytes)
{
    kalm__byte_run ahead = *run;
    size_t n = 0;
    int k;
    while (n < 4) {
        int b = kalm__byte_run_next(t, &ahead);
        if (b < 0) break;
        bytes[n++] = (unsigned char)b;
    }
    if (!n) return -1;
    k = kalm__utf8(bytes, n);
    return k < 0 ? 0 : k;
}

/* ids[from .. to) holds byte tokens and ids that the vocabulary lacks, nothing else. */
KALM__FN void kalm__decode_bytes(const kalm__tokenizer *t, const int32_t *ids, size_t from, size_t to, kalm__text_out *o)
{
    kalm__byte_run run;
    unsigned char bytes[4];
    int k, i, whole = 1;
    run.ids = ids, run.at = from, run.end = to;
    if (!(t->flags & KALM__TOK_SPM)) {
        while (whole && (k = kalm__byte_run_char(t, &run, bytes)) >= 0) {
            whole = k > 0;
            for (i = 0; i < k; i++) (void)kalm__byte_run_next(t, &run);
        }
        run.at = from;
    }
    while ((k = kalm__byte_run_char(t, &run, bytes)) >= 0) {
        if (k && whole) kalm__out(o, (const char *)bytes, (size_t)k);
        else {
            kalm__out(o, "\xef\xbf\xbd", 3);
            k = 1;
        }
        for (i = 0; i < k; i++) (void)kalm__byte_run_next(t, &run);
    }
}

KALM__FN kalm_result kalm__detokenize(const kalm__tokenizer *t, const int32_t *ids, size_t count, char *text,
                                      size_t capacity, size_t *size, kalm_error *err)
{
    const unsigned char *kinds = t->part[KALM__SEC_KINDS];
    int spm = (t->flags & KALM__TOK_SPM) != 0, escape = spm || (t->flags & KALM__TOK_ESCAPE) != 0, at_start = 1, took = 0;
    int strip = (t->flags & KALM__TOK_STRIP) != 0;
    kalm__text_out o;
    size_t i = 0, k;
    o.text = text, o.capacity = capacity, o.size = 0;
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
            if (took || o.size) at_start = 0;
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
    *size = o.size;
    return KALM_OK;
}

#endif
