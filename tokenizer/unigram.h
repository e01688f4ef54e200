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

   WHOLE PIECES. Two thirds of the words of a text are pieces themselves, and nearly always such a piece beats every way to
   cut it into smaller ones. Which pieces do is worked out by the converter (import_whole.h): it finds the best sum of the
   other ways, and how far the piece is ahead. Sums are rounded by more the larger the carried sum is, so the piece is certain
   to win while that sum is below a limit: 2^code, with the code beside the id in the trie. Where a piece may end a word is in
   section `cuts`: bit 256 * a + b says that some piece holds byte a, the end of a character, before byte b. Between bytes
   that no piece holds so every way has a cut. From a cut we therefore follow the trie once, to the first end of a piece that
   is a cut as well. If the carried sum is below that piece's limit, it goes out, and its score is added, without a search.

   MEMORY. 384 places on the stack (6 KB); beyond, from the allocator: 16 bytes for each byte since the last cut, and as much
   again while it grows.

   WORD. The text is cut before each U+2581 (a space in inner form), and each word is a token or unknown. */
/* end of docs/TOKENIZER.md */
#ifndef KALM__UNIGRAM_H
#define KALM__UNIGRAM_H

#include "ids.h"

#define KALM__UNIGRAM_PLACES 384
#define KALM__UNIGRAM_WORST (-1e300)   /* below every sum of logarithms */
#define KALM__UNIGRAM_UNKNOWN (1u << 31)         /* of kalm__unigram_place.piece */
#define KALM__UNIGRAM_SIZE_AT 20

typedef struct kalm__unigram_place {
    double   best;                     /* the largest sum of a cut of the text up to here */
    uint32_t piece;                    /* the last piece of that cut: bits 0..19 id, 20..30 bytes */
} kalm__unigram_place;

typedef struct kalm__unigram {
    kalm__ids           *out;
    kalm__unigram_place *place;        /* [places] place i is i bytes behind the last cut; place[0].best carries the sum */
    size_t               places;
    double               sum;          /* of all that went out before this stretch */
    kalm__unigram_place  local[KALM__UNIGRAM_PLACES];
} kalm__unigram;

KALM__FN void kalm__unigram_begin(kalm__unigram *u, kalm__ids *out)
{
    u->out = out;
    u->place = u->local;
    u->places = KALM__UNIGRAM_PLACES;
    u->sum = 0;
}

KALM__FN void kalm__unigram_end(kalm__unigram *u)
{
    if (u->place != u->local) kalm__release(u->out->alloc, u->place, u->places * sizeof *u->place);
}

/* The best cut of text[0 .. n) goes out, all of it since the last cut. Each place knows the piece that ends there; they are
   turned round in place, so that each knows the piece that begins there. */
KALM__FN void kalm__unigram_flush(kalm__unigram *u, const unsigned char *text, size_t n)
{
    kalm__unigram_place *place = u->place;
    uint32_t piece = place[n].piece, before;
    size_t at = n, size;
    while (at) {
        size = piece >> KALM__UNIGRAM_SIZE_AT & 0x7ff;
        at -= kalm__min(size, at);     /* never more: a piece begins at a place of this stretch */
        before = place[at].piece;
        place[at].piece = piece;
        piece = before;
    }
    for (; at < n; at += size) {
        piece = place[at].piece;
        size = piece >> KALM__UNIGRAM_SIZE_AT & 0x7ff;
        if (piece & KALM__UNIGRAM_UNKNOWN) kalm__ids_unknown(u->out, text + at, size);
        else kalm__ids_put(u->out, piece & 0xfffff);
    }
}

/* Token `id` goes out without having been looked for. */
KALM__FN void kalm__unigram_pass(kalm__unigram *u, uint32_t id)
{
    const kalm__tokenizer *t = u->out->t;
    if (id < t->tokens) u->sum = (double)(float)(kalm__score(t->part[KALM__SEC_SCORES], id) + u->sum);
}

/* A piece that ends at place `end` makes `sum` there. Without a branch on which is better, which nobody can predict. */
KALM__INLINE void kalm__unigram_offer(kalm__unigram_place *place, size_t *furthest, size_t end, double sum, uint32_t piece,
                                      int spm)
{
    int better;
    while (*furthest < end) {
        place[++*furthest].best = KALM__UNIGRAM_WORST;
        place[*furthest].piece = KALM__UNIGRAM_UNKNOWN | 1u << KALM__UNIGRAM_SIZE_AT;  /* stays where scores are damaged */
    }
    place += end;
    better = sum > place->best;
    sum = spm ? (double)(float)sum : sum;
    place->best = better ? sum : place->best;
    place->piece = better ? piece : place->piece;
}

/* From the cut at text[0] to the next, *took bytes on: at each character all pieces that begin there, and the unknown token if
   none is just the character. words, spm: flags, constant at each call, so that each has its own code. */
KALM__INLINE kalm_result kalm__unigram_search(kalm__unigram *u, const unsigned char *text, size_t n, int words, int spm,
                                              size_t *took)
{
    const kalm__tokenizer *t = u->out->t;
    const unsigned char *trie = t->part[KALM__SEC_TRIE], *scores = t->part[KALM__SEC_SCORES];
    uint32_t units = t->trie_units, tokens = t->tokens;
    kalm__unigram_place *place = u->place;
    size_t at = 0, furthest = 0;
    kalm_result r;
    do {
        size_t bytes = kalm__min(kalm__char_bytes(text + at), n - at), most = kalm__min((size_t)KALM__WALK_MOST, n - at), i;
        uint32_t node = kalm__u32(trie);
        int alone = 0;
        double here;
        if (u->places < at + KALM__WALK_MOST + 1) {
            size_t size = kalm__mul(u->places, sizeof *place);
            place = (kalm__unigram_place *)kalm__grow(u->out->alloc, u->out->err, place, u->local, size,
                                                      kalm__mul(size, 2), (furthest + 1) * sizeof *place);
            if (!place) return KALM_NO_MEMORY;
            u->place = place;
            u->places *= 2;
        }
        here = place[at].best;
        for (i = 0; i < most && !(words && i && text[at + i] == ' ');) {
            node = kalm__trie_step(trie, units, node, text[at + i++]);
            if (node == KALM__TOK_NONE) break;
            if (node & 0x100) {
                uint32_t id = kalm__trie_value(trie, units, node) & 0xfffff;
                if (id >= tokens) continue;
                kalm__unigram_offer(place, &furthest, at + i, kalm__score(scores, id) + here,
                                    id | (uint32_t)i << KALM__UNIGRAM_SIZE_AT, spm);
                alone |= i == bytes;
            }
        }
        if (!alone)
            kalm__unigram_offer(place, &furthest, at + bytes,
                                spm ? (double)((float)t->unknown_score + (float)here) : t->unknown_score + here,
                                KALM__UNIGRAM_UNKNOWN | (uint32_t)bytes << KALM__UNIGRAM_SIZE_AT, spm);
        at += bytes;
        if ((r = kalm__meter_add(&u->out->meter, i + 1, u->out->err)) != KALM_OK) return r;
    } while (at < furthest);
    place->best = place[at].best;
    kalm__unigram_flush(u, text, at);
    *took = at;
    return KALM_OK;
}

/* The piece that is all of text[0 .. n) up to the next cut goes out if it must be the best way: its bytes, or 0. */
KALM__INLINE size_t kalm__unigram_whole(kalm__unigram *u, const unsigned char *text, size_t n, int spm)
{
    const kalm__tokenizer *t = u->out->t;
    const unsigned char *trie = t->part[KALM__SEC_TRIE], *cuts = t->part[KALM__SEC_CUTS];
    uint32_t node = kalm__u32(trie), units = t->trie_units, id, code;
    size_t i = 0, most = kalm__min((size_t)KALM__WALK_MOST, n);
    uint64_t carried;                  /* the bits of the sum */
    double sum;
    do {
        if (i == most) return 0;
        node = kalm__trie_step(trie, units, node, text[i++]);
        if (node == KALM__TOK_NONE) return 0;
    } while (!(node & 0x100) || (i < n && cuts[32u * text[i - 1] + text[i] / 8] >> (text[i] & 7) & 1));
    id = kalm__trie_value(trie, units, node);
    code = id >> KALM__WHOLE_AT & 63;
    id &= 0xfffff;
    memcpy(&carried, &u->place->best, 8);
    if (!code || (carried >> 52 & 0x7ff) >= 1023 + code || id >= t->tokens) return 0;    /* its exponent: |sum| < 2^code */
    sum = kalm__score(t->part[KALM__SEC_SCORES], id) + u->place->best;
    u->place->best = spm ? (double)(float)sum : sum;
    kalm__ids_put(u->out, id);
    return i;
}

/* Tokenise text[0 .. n), in inner form, on its own. */
KALM__FN kalm_result kalm__unigram_run(kalm__unigram *u, const unsigned char *text, size_t n)
{
    kalm__ids *o = u->out;
    int words = (o->t->flags & KALM__TOK_WORDS) != 0, spm = (o->t->flags & KALM__TOK_SPM) != 0;
    int known = o->t->size[KALM__SEC_CUTS] != 0;
    size_t pos, took;
    kalm_result r;
    o->after_unknown = 0;
    u->place->best = spm ? u->sum : 0;
    for (pos = 0; pos < n; pos += took) {        /* from cut to cut */
        const unsigned char *at = text + pos;
        size_t left = n - pos;
        if (words && *at == ' ') u->place->best = 0, o->after_unknown = 0;
        took = known ? kalm__unigram_whole(u, at, left, spm) : 0;
        if (took) r = kalm__meter_add(&o->meter, took, o->err);
        else if (spm) r = kalm__unigram_search(u, at, left, 0, 1, &took);
        else r = words ? kalm__unigram_search(u, at, left, 1, 0, &took) : kalm__unigram_search(u, at, left, 0, 0, &took);
        if (r) return r;
    }
    u->sum = u->place->best;
    return KALM_OK;
}

/* The token that is all of text[0 .. n), or KALM__TOK_NONE. marks: tokens that users may not write are found too. */
KALM__FN uint32_t kalm__word_token(const kalm__tokenizer *t, const unsigned char *text, size_t n, int marks)
{
    uint32_t value = kalm__trie_find(t->part[KALM__SEC_TRIE], t->trie_units, text, n);
    return value == KALM__TOK_NONE || ((value & KALM__PIECE_MARK) && !marks) ? KALM__TOK_NONE : value & 0xfffff;
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
