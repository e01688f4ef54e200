/* decode.h - token ids back to text. A tokenizer follows one of two sets of rules. */
/* docs/TOKENIZER.md: */
/* Those of Hugging Face: special tokens are written like others; nothing is cleaned up; consecutive byte tokens are decoded
   together, and if their bytes are not valid UTF-8 as a whole, each of them becomes U+FFFD; ids that the vocabulary lacks are
   skipped.

   Those of SentencePiece (KALM__TOK_SPM): control tokens are left out; the space that encoding has put before the text is removed
   again; of consecutive byte tokens the valid characters are kept and each other byte becomes U+FFFD; an id that the vocabulary
   lacks is an error.

   Nothing is allocated. */
/* end of docs/TOKENIZER.md */
#ifndef KALM__DECODE_H
#define KALM__DECODE_H

#include "text.h"

/* Text of which the first `capacity` bytes are written, and all are counted. */
typedef struct kalm__text_out {
    char  *text;
    size_t capacity, size;             /* size: of the whole text, also of what was not written */
} kalm__text_out;

KALM__FN void kalm__out(kalm__text_out *o, const char *s, size_t n)
{
    if (o->size < o->capacity) memcpy(o->text + o->size, s, kalm__min(n, o->capacity - o->size));
    o->size = kalm__add(o->size, n);   /* SIZE_MAX if it is too large for a size_t */
}

/* The byte that a byte token stands for; -1 if the id is not one of a byte token. */
KALM__FN int kalm__token_byte(const kalm__tokenizer *t, int32_t id)
{
    kalm_text s;
    if (id < 0 || (uint32_t)id >= t->tokens || t->part[KALM__SEC_KINDS][id] != KALM__KIND_BYTE) return -1;
    s = kalm__token_bytes(t, id);
    return s.size == 1 ? (unsigned char)s.data[0] : -1;
}

/* Iterates over the bytes of ids[at .. end), which are byte tokens, and ids that the vocabulary lacks, which are skipped. */
typedef struct kalm__byte_run {
    const int32_t *ids;
    size_t         at, end;
} kalm__byte_run;

/* The next byte; -1 at the end. */
KALM__FN int kalm__byte_run_next(const kalm__tokenizer *t, kalm__byte_run *run)
{
    while (run->at < run->end) {
        int value = kalm__token_byte(t, run->ids[run->at++]);
        if (value >= 0) return value;
    }
    return -1;
}

/* Look at the next character without moving on: its bytes go to bytes[0 .. 4), its length is returned. 0: the next bytes are not
   valid UTF-8. -1: the end. */
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

/* Write the text of ids[from .. to), all of which are byte tokens or ids that the vocabulary lacks. */
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

/* kalm_detokenize of api.h, for a tokenizer. */
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
