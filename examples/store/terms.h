/* terms.h - the terms of a text, as BM25 counts them, for kalm-eval and kalm-search. Terms are runs of letters and digits in lower
   case, without stemming; of scripts that write no spaces (Chinese, Japanese, Thai and their neighbours) every two characters
   that follow one another. Included behind command.h. */
#ifndef KALM_TERMS_H
#define KALM_TERMS_H

/* A term of `size` bytes, which stands at bytes [from, to) of the text. */
typedef void terms_call(void *user, const char *term, size_t size, size_t from, size_t to);

enum {
    TERMS_FOLD = 1,                    /* Latin letters without their accents: "Café" gives "cafe" */
    TERMS_LONGEST = 64                 /* bytes; a term is cut behind the character that reaches them, so it has three more at most */
};

/* Lucene's English stop words. */
static const char *const terms_stop_words[] = {
    "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of", "on", "or", "such",
    "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with", NULL
};

/* Scripts in which words are not parted by spaces. */
KALM__FN int terms__no_spaces(uint32_t c)
{
    return (c >= 0x0e00 && c < 0x1000) || (c >= 0x1780 && c < 0x1800) || (c >= 0x3040 && c < 0x3100)
        || (c >= 0x3400 && c < 0xa000)
        || (c >= 0xf900 && c < 0xfb00) || (c >= 0x20000 && c < 0x32000);
}

KALM__FN int terms__letter(uint32_t c)
{
    if (c < 0x80) return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    if (c < 0xc0) return c == 0xaa || c == 0xb5 || c == 0xba;
    return c != 0xd7 && c != 0xf7 && !(c >= 0x2000 && c < 0x2070) && !(c >= 0x20a0 && c < 0x20d0) && !(c >= 0x2190 && c < 0x2c00)
        && !(c >= 0x2e00 && c < 0x3040) && !(c >= 0xfe10 && c < 0xfe70) && !(c >= 0xff00 && c < 0xff10) && c != 0xfffd
        && c != 0x060c && c != 0x061b && c != 0x061f && c != 0x06d4 && c != 0x0964 && c != 0x0965;
}

KALM__FN uint32_t terms__lower(uint32_t c)
{
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    if ((c >= 0xc0 && c <= 0xde && c != 0xd7) || (c >= 0x391 && c <= 0x3a9) || (c >= 0x410 && c <= 0x42f)) return c + 32;
    if (c >= 0x400 && c <= 0x40f) return c + 80;
    if (c == 0x178) return 0xff;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e) || (c >= 0x4c1 && c <= 0x4ce)) return c + (c & 1);
    if ((c >= 0x100 && c <= 0x137) || (c >= 0x14a && c <= 0x177) || (c >= 0x1e00 && c <= 0x1e95) || (c >= 0x1ea0 && c <= 0x1eff)
        || (c >= 0x460 && c <= 0x481) || (c >= 0x48a && c <= 0x4bf) || (c >= 0x4d0 && c <= 0x4ff))
        return c | 1;
    return c;
}

/* The letter under an accent, for the lower-case letters of Latin-1 and Latin Extended-A that have one; 0 for an accent that
   stands by itself behind its letter; else c. */
KALM__FN uint32_t terms__fold(uint32_t c)
{
    static const char latin1[] = "aaaaaa.ceeeeiiii.nooooo.ouuuuy.y";            /* from U+00E0 on; '.' stays */
    static const char extended[] = 
        "aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii..jjkk.llllll..llnnnnnn...oooooo..rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzz.";
    if (c >= 0x300 && c < 0x370) return 0;
    if (c >= 0xe0 && c <= 0xff && latin1[c - 0xe0] != '.') return (uint32_t)latin1[c - 0xe0];
    if (c >= 0x100 && c < 0x180 && extended[c - 0x100] != '.') return (uint32_t)extended[c - 0x100];
    return c;
}

KALM__FN size_t terms__put_utf8(uint32_t c, char *to)
{
    if (c < 0x80) return to[0] = (char)c, 1;
    if (c < 0x800) return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000) {
        to[0] = (char)(0xe0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 63)), to[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    to[0] = (char)(0xf0 | c >> 18), to[1] = (char)(0x80 | (c >> 12 & 63));
    return to[2] = (char)(0x80 | (c >> 6 & 63)), to[3] = (char)(0x80 | (c & 63)), 4;
}

KALM__FN uint32_t terms__get_utf8(const char *p, size_t left, size_t *size)
{
    const unsigned char *b = (const unsigned char *)p;
    *size = kalm__json_utf8(b, left);
    switch (*size) {
    case 1: return b[0];
    case 2: return (uint32_t)(b[0] & 31) << 6 | (b[1] & 63);
    case 3: return (uint32_t)(b[0] & 15) << 12 | (uint32_t)(b[1] & 63) << 6 | (b[2] & 63);
    case 4: return (uint32_t)(b[0] & 7) << 18 | (uint32_t)(b[1] & 63) << 12 | (uint32_t)(b[2] & 63) << 6 | (b[3] & 63);
    default: *size = 1; return 0xfffd;
    }
}

/* Calls for each term of a text, in their order. flags: 0 or TERMS_FOLD. */
KALM__FN void terms_of(kalm_text t, int flags, terms_call *call, void *user)
{
    char word[TERMS_LONGEST + 8], pair[8];
    size_t i = 0, n = 0, size, last = 0, ahead, begun = 0, before = 0, at;
    while (i <= t.size) {
        unsigned char plain = i < t.size ? (unsigned char)t.data[i] : 0x80;
        uint32_t c;
        if (plain < 0x80 && terms__letter(plain)) {        /* most of most texts */
            if (!n) begun = i;
            if (n < TERMS_LONGEST) word[n++] = (char)(plain >= 'A' && plain <= 'Z' ? plain + 32 : plain);
            i++;
            last = 0;
            continue;
        }
        at = i;
        c = i < t.size ? terms__lower(terms__get_utf8(t.data + i, t.size - i, &size)) : ' ';
        if (i == t.size) size = 1;
        i += size;
        if (flags & TERMS_FOLD && c >= 0xe0) {
            c = terms__fold(c);
            if (!c) continue;          /* an accent: the word goes on */
        }
        if (terms__letter(c) && !terms__no_spaces(c)) {
            if (!n) begun = at;
            if (n < TERMS_LONGEST) n += terms__put_utf8(c, word + n);
            last = 0;
            continue;
        }
        if (n) call(user, word, n, begun, at);
        n = 0;
        if (!terms__letter(c)) {
            last = 0;
            continue;
        }
        size = terms__put_utf8(c, pair + last);
        if (last) {
            call(user, pair, last + size, before, i);
            memmove(pair, pair + last, size);
        } else if (i >= t.size || !terms__no_spaces(terms__get_utf8(t.data + i, t.size - i, &ahead))) call(user, pair, size, at, i);
        last = size;
        before = at;
    }
}

#endif
