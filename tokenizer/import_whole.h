/* import_whole.h - for unigram: which pieces are certainly the best cut of their own text, whatever stands before it, and where
   a text may be cut at all (unigram.h, WHOLE PIECES). What is not certain is left to the runtime's own search. */
#ifndef KALM__IMPORT_WHOLE_H
#define KALM__IMPORT_WHOLE_H

#include <float.h>
#include "import_symbols.h"

#define KALM__WHOLE_MOST 48u           /* bytes of a piece that is looked at; the work for a piece is their square */

KALM__FN double kalm__import_larger(double a, double b) { return a > b ? a : b; }

/* Can a text hold the piece at all? Where words are segmented alone, no piece has a space behind its first byte. */
KALM__FN int kalm__import_is_used(const kalm__import *m, const kalm__import_symbol *s)
{
    return s->piece && !((m->flags & KALM__TOK_WORDS) && s->inner.size > 1 && memchr(s->inner.data + 1, ' ', s->inner.size - 1));
}

/* Bit 256 * a + b of joins: byte a stands before byte b inside a piece, a ending a character and b beginning one. */
KALM__FN void kalm__import_piece_joins(const kalm__import *m, unsigned char *joins)
{
    uint32_t i;
    size_t k;
    for (i = 0; i < m->symbols; i++)
        for (k = 1; kalm__import_is_used(m, m->symbol + i) && k < m->symbol[i].inner.size; k++) {
            unsigned a = (unsigned char)m->symbol[i].inner.data[k - 1], b = (unsigned char)m->symbol[i].inner.data[k];
            if ((b & 0xc0) != 0x80) joins[32 * a + b / 8] = (unsigned char)(joins[32 * a + b / 8] | 1u << (b & 7));
        }
}

/* The largest sum of scores of a cut of piece `self` into other pieces and unknown characters; -DBL_MAX: there is none. */
KALM__FN double kalm__import_rival(const kalm__import *m, const unsigned char *trie, uint32_t units, uint32_t self)
{
    const unsigned char *text = (const unsigned char *)m->symbol[self].inner.data;
    size_t n = m->symbol[self].inner.size, at, i;
    double best[KALM__WHOLE_MOST + 5];
    for (i = 0; i < sizeof best / sizeof *best; i++) best[i] = -DBL_MAX;
    best[0] = 0;
    for (at = 0; at < n; at++) {
        uint32_t node = kalm__u32(trie);
        size_t bytes = text[at] < 0x80 ? 1 : text[at] < 0xe0 ? 2 : text[at] < 0xf0 ? 3 : 4;
        int alone = 0;
        if (best[at] <= -DBL_MAX) continue;      /* inside a character */
        for (i = at; i < n && (node = kalm__trie_step(trie, units, node, text[i])) != KALM__TOK_NONE; i++) {
            uint32_t id = node & 0x100 ? kalm__trie_value(trie, units, node) & 0xfffff : KALM__TOK_NONE;
            if (id == KALM__TOK_NONE) continue;
            alone |= i + 1 == at + bytes;
            if (id != self) best[i + 1] = kalm__import_larger(best[i + 1], best[at] + m->symbol[id].score);
        }
        if (!alone) best[at + bytes] = kalm__import_larger(best[at + bytes], best[at] + m->unknown_score);
    }
    return best[n];
}

/* The code of piece `self`: the sum that is carried up to it may be anything below 2^code in absolute value; 0: nothing is
   certain. A sum of k scores that begins at S, of which each has at most the absolute value W, is rounded k times and each
   time by at most u * (|S| + k * W). So the piece wins, rounded as well, where it is ahead by more than the k + 1 roundings
   of its own sum and of its rival's. k is at most the bytes. */
KALM__FN uint32_t kalm__import_whole_code(const kalm__import *m, const unsigned char *trie, uint32_t units, uint32_t self, double largest)
{
    double k = (double)m->symbol[self].inner.size, rival, sum, limit = 1;
    double u = m->flags & KALM__TOK_SPM ? (double)FLT_EPSILON : DBL_EPSILON;         /* twice what one rounding can change */
    uint32_t code = 0;
    if (!kalm__import_is_used(m, m->symbol + self) || m->symbol[self].inner.size > KALM__WHOLE_MOST) return 0;
    rival = kalm__import_rival(m, trie, units, self);
    sum = (m->symbol[self].score - rival) / ((k + 1) * u) - k * largest;
    while (code < 63 && limit * 2 <= sum) limit *= 2, code++;
    return code;
}

/* Both for the trie at `unit`, which is little-endian and whose values it changes. joins: 8192 bytes of zeros. */
KALM__FN void kalm__import_whole(const kalm__import *m, uint32_t *unit, uint32_t units, unsigned char *joins)
{
    const unsigned char *trie = (const unsigned char *)(const void *)unit;
    double largest = m->unknown_score < 0 ? -m->unknown_score : m->unknown_score;
    uint32_t i, node;
    size_t k;
    kalm__import_piece_joins(m, joins);
    for (i = 0; i < m->tokens; i++)
        if (m->symbol[i].piece) largest = kalm__import_larger(largest, m->symbol[i].score < 0 ? -m->symbol[i].score : m->symbol[i].score);
    for (i = 0; i < m->tokens; i++) {
        if (!m->symbol[i].piece) continue;
        for (node = kalm__u32(trie), k = 0; k < m->symbol[i].inner.size && node != KALM__TOK_NONE; k++)
            node = kalm__trie_step(trie, units, node, (unsigned char)m->symbol[i].inner.data[k]);
        if (node == KALM__TOK_NONE) continue;
        kalm__put_u32(unit + (node >> 9 & 0x3fffffu), kalm__trie_value(trie, units, node) | 0x80000000u
                      | kalm__import_whole_code(m, trie, units, i, largest) << KALM__WHOLE_AT);
    }
}

#endif
