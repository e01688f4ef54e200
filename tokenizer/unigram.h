/* unigram.h - SentencePiece's "unigram" and "word": a normalised text is cut into pieces of the vocabulary. It knows nothing
   of added tokens, normalisation or ill-formed text: text.h hands it stretches in inner form (bpe.h). Of all
   ways to cut a text the one with the largest sum of scores is found by Viterbi's algorithm, to SentencePiece's last bit. */
/* docs/TOKENIZER.md: */
/* UNIGRAM. Every piece has a score, a log-probability. Of all ways to cut the text into pieces we want the one with the
   largest sum of scores (Kudo 2018, "Subword Regularization"). Viterbi's algorithm finds it from left to right: best[p] is
   the best sum of a cut of the first p bytes; from each character on, the trie gives all pieces that begin there, and each
   may improve best[] at its end. A character that no piece covers alone may be an unknown token, with a score 10 below the
   worst piece's. Of equal sums the first found stays, which is the one whose last piece is longer.

   The sums are SentencePiece's to the bit, so that equals are equals here as well: its total is a float to which a score is
   added in double precision (a user-defined symbol's score, length * best - 0.1, has digits beyond a float's), or in single
   precision for an unknown character. Hugging Face's implementation (no KALM__TOK_SPM) sums doubles.

   CUTS. Where no piece that begins before a place ends behind it, every way passes that place: the best way there is final
   and goes out. Its sum is carried on, because rounding depends on it. So English is done word by word. For the same reason
   the sum is carried over a symbol that text.h has found before (kalm__unigram_pass).

   MEMORY. 512 places on the stack (6 KB); beyond, from the allocator: 12 bytes for each byte since the last cut, and as much
   again while it grows.

   WORD. The text is cut before each U+2581 (a space in inner form), and each word is a token or unknown. */
/* end of docs/TOKENIZER.md */
#ifndef KALM__UNIGRAM_H
#define KALM__UNIGRAM_H

#include "ids.h"

#define KALM__UNIGRAM_PLACES 512
#define KALM__UNIGRAM_WORST (-1e300)           /* below every sum of logarithms */
#define KALM__UNIGRAM_UNKNOWN (1u << 31)         /* of kalm__unigram.piece */
#define KALM__UNIGRAM_SIZE_AT 20

typedef struct kalm__unigram {
    kalm__ids *out;
    double    *best;                   /* [places] the best sum of a cut up to this place, which counts from the last cut */
    uint32_t  *piece;                  /* [places] the last piece of that cut: bits 0..19 id, 20..30 bytes; 0: no cut yet */
    size_t     places;
    double     sum;                    /* of all that went out */
    double     local_best[KALM__UNIGRAM_PLACES];
    uint32_t   local_piece[KALM__UNIGRAM_PLACES];
} kalm__unigram;

KALM__FN void kalm__unigram_begin(kalm__unigram *u, kalm__ids *out)
{
    u->out = out;
    u->best = u->local_best;
    u->piece = u->local_piece;
    u->places = KALM__UNIGRAM_PLACES;
    u->sum = 0;
}

KALM__FN void kalm__unigram_end(kalm__unigram *u)
{
    if (u->best == u->local_best) return;
    kalm__release(u->out->alloc, u->best, u->places * sizeof *u->best);
    kalm__release(u->out->alloc, u->piece, u->places * sizeof *u->piece);
}

/* Twice as many places, of which the first `kept` keep what they hold. */
KALM__NOINLINE KALM__FN kalm_result kalm__unigram_grow(kalm__unigram *u, size_t kept)
{
    size_t places = kalm__mul(u->places, 2);
    double *best = (double *)kalm__alloc(u->out->alloc, kalm__mul(places, sizeof *best));
    uint32_t *piece = best ? (uint32_t *)kalm__alloc(u->out->alloc, kalm__mul(places, sizeof *piece)) : NULL;
    if (!piece) {
        kalm__release(u->out->alloc, best, kalm__mul(places, sizeof *best));
        return kalm__fail(u->out->err, KALM_NO_MEMORY, "no memory to tokenise: %z bytes for a text without a cut",
                          kalm__mul(places, sizeof *best + sizeof *piece));
    }
    memcpy(best, u->best, kept * sizeof *best);
    memcpy(piece, u->piece, kept * sizeof *piece);
    kalm__unigram_end(u);
    u->best = best;
    u->piece = piece;
    u->places = places;
    return KALM_OK;
}

/* The best cut of text[0 .. n), all of it since the last cut, goes out. Each place knows the piece that ends there; they are
   turned round in place, so that each knows the piece that begins there. */
KALM__FN void kalm__unigram_flush(kalm__unigram *u, const unsigned char *text, size_t n)
{
    uint32_t *piece = u->piece, next = piece[n], size;
    size_t at = n;
    while (at) {
        uint32_t before;
        size = next >> KALM__UNIGRAM_SIZE_AT & 0x7ff;
        at -= kalm__min(size, at);     /* never more: a piece begins at a place of this stretch */
        before = piece[at];
        piece[at] = next;
        next = before;
    }
    while (at < n) {
        uint32_t one = piece[at];
        size = one >> KALM__UNIGRAM_SIZE_AT & 0x7ff;
        if (one & KALM__UNIGRAM_UNKNOWN) kalm__ids_unknown(u->out, text + at, size);
        else kalm__ids_put(u->out, one & 0xfffff);
        at += size;
    }
}

/* Token `id` goes out without having been looked for. */
KALM__FN void kalm__unigram_pass(kalm__unigram *u, uint32_t id)
{
    const kalm__tokenizer *t = u->out->t;
    if (id < t->tokens) u->sum = (double)(float)(kalm__score(t->part[KALM__SEC_SCORES], id) + u->sum);
}

/* Where a stretch is being worked on: `base` is the last cut, and places count from there. */
typedef struct kalm__unigram_place {
    const unsigned char *text;
    size_t n, base, pos, furthest;          /* furthest: the last place that is set up */
} kalm__unigram_place;

/* A piece that ends at place `end` brings the sum there to `sum`. No branch on which is better: nobody can predict that. */
KALM__INLINE void kalm__unigram_offer(double *best, uint32_t *last, size_t *furthest, size_t end, double sum,
                                      uint32_t piece, int spm)
{
    int better;
    while (*furthest < end) {
        best[++*furthest] = KALM__UNIGRAM_WORST;
        last[*furthest] = KALM__UNIGRAM_UNKNOWN | 1u << KALM__UNIGRAM_SIZE_AT;    /* stays only where scores are damaged */
    }
    better = sum > best[end];
    sum = spm ? (double)(float)sum : sum;
    best[end] = better ? sum : best[end];
    last[end] = better ? piece : last[end];
}

/* All pieces that begin at p->pos, and the unknown token if none of them is just the character there. Gives how furthest the walk
   went. words, spm: the flags, constants where this is called, so that each call has its own code. */
KALM__INLINE size_t kalm__unigram_extend(kalm__unigram *u, kalm__unigram_place *p, int words, int spm)
{
    const kalm__tokenizer *t = u->out->t;
    const unsigned char *trie = t->part[KALM__SEC_TRIE], *scores = t->part[KALM__SEC_SCORES], *at = p->text + p->pos;
    uint32_t node = kalm__u32(trie), units = t->trie_units, tokens = t->tokens;
    size_t place = p->pos - p->base, furthest = p->furthest, bytes = kalm__min(kalm__char_bytes(at), p->n - p->pos), i;
    size_t most = kalm__min((size_t)KALM__WALK_MOST, p->n - p->pos);
    double *best = u->best, here = best[place];
    uint32_t *last = u->piece;
    int alone = 0;
    for (i = 0; i < most;) {
        if (words && i && at[i] == ' ') break;
        node = kalm__trie_step(trie, units, node, at[i++]);
        if (node == KALM__TOK_NONE) break;
        if (node & 0x100) {
            uint32_t id = kalm__trie_value(trie, units, node) & 0xfffff;
            if (id >= tokens) continue;
            kalm__unigram_offer(best, last, &furthest, place + i, kalm__score(scores, id) + here,
                                id | (uint32_t)i << KALM__UNIGRAM_SIZE_AT, spm);
            alone |= i == bytes;
        }
    }
    if (!alone)
        kalm__unigram_offer(best, last, &furthest, place + bytes,
                            spm ? (double)((float)t->unknown_score + (float)here) : t->unknown_score + here,
                            KALM__UNIGRAM_UNKNOWN | (uint32_t)bytes << KALM__UNIGRAM_SIZE_AT, spm);
    p->furthest = furthest;
    p->pos += bytes;
    return i + 1;
}

/* Tokenise text[0 .. n), in inner form, on its own. */
KALM__FN kalm_result kalm__unigram_run(kalm__unigram *u, const unsigned char *text, size_t n)
{
    kalm__ids *o = u->out;
    int words = (o->t->flags & KALM__TOK_WORDS) != 0, spm = (o->t->flags & KALM__TOK_SPM) != 0;
    kalm__unigram_place p;
    kalm_result r;
    p.text = text, p.n = n, p.base = p.pos = p.furthest = 0;
    o->after_unknown = 0;
    u->best[0] = spm ? u->sum : 0;
    while (p.pos < n) {
        size_t steps;
        if (p.pos - p.base == p.furthest && p.furthest) {  /* no piece passes this place */
            u->best[0] = u->best[p.furthest];
            kalm__unigram_flush(u, text + p.base, p.furthest);
            p.base = p.pos;
            p.furthest = 0;
        }
        if (words && text[p.pos] == ' ') u->best[0] = 0, o->after_unknown = 0;   /* nor does one pass a space */
        while (u->places < p.pos - p.base + KALM__WALK_MOST + 1)
            if ((r = kalm__unigram_grow(u, p.furthest + 1)) != KALM_OK) return r;
        if (spm) steps = kalm__unigram_extend(u, &p, 0, 1);
        else steps = words ? kalm__unigram_extend(u, &p, 1, 0) : kalm__unigram_extend(u, &p, 0, 0);
        if ((r = kalm__meter_add(&o->meter, steps, o->err)) != KALM_OK) return r;
    }
    if (n) {
        u->sum = u->best[n - p.base];
        kalm__unigram_flush(u, text + p.base, n - p.base);
    }
    return KALM_OK;
}

/* The token that is all of text[0 .. n), or KALM__TOK_NONE. marks: tokens that users may not write are found too. */
KALM__FN uint32_t kalm__word_token(const kalm__tokenizer *t, const unsigned char *text, size_t n, int marks)
{
    const unsigned char *trie = t->part[KALM__SEC_TRIE];
    uint32_t node = kalm__u32(trie), value;
    size_t i;
    for (i = 0; i < n && node != KALM__TOK_NONE; i++) node = kalm__trie_step(trie, t->trie_units, node, text[i]);
    if (node == KALM__TOK_NONE || !(node & 0x100)) return KALM__TOK_NONE;
    value = kalm__trie_value(trie, t->trie_units, node);
    return (value & KALM__PIECE_MARK) && !marks ? KALM__TOK_NONE : value & 0xfffff;
}

/* The same as kalm__unigram_run for a vocabulary of words. Where spaces are not escaped, words begin at U+2581 all the same,
   as SentencePiece has it. */
KALM__FN kalm_result kalm__word_run(kalm__ids *o, const unsigned char *text, size_t n, int marks)
{
    const kalm__tokenizer *t = o->t;
    int escape = (t->flags & KALM__TOK_ESCAPE) != 0;
    size_t begin = 0, end;
    kalm_result r;
    o->after_unknown = 0;
    while (begin < n) {
        uint32_t id;
        for (end = begin + 1; end < n; end++)
            if (escape ? text[end] == ' ' : n - end >= 3 && !memcmp(text + end, "\xe2\x96\x81", 3)) break;
        id = kalm__word_token(t, text + begin, end - begin, marks);
        if (id < t->tokens) kalm__ids_put(o, id);
        else kalm__ids_unknown(o, text + begin, end - begin);
        if ((r = kalm__meter_add(&o->meter, end - begin, o->err)) != KALM_OK) return r;
        begin = end;
    }
    return KALM_OK;
}

#endif
