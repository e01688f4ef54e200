/* ids.h - what the ways to cut a text into tokens (bpe.h, unigram.h) share: the array that the ids go to, the bound on the
   work for a text, and what becomes of a character that the vocabulary lacks. It knows no way of cutting. */
#ifndef KALM__IDS_H
#define KALM__IDS_H

#include "vocab.h"

/* A caller that may want to stop: `call` is asked on the calling thread while a long text is tokenised, at least once in
   64 KB of it; when it returns non-zero, tokenising ends with KALM_CANCELLED. */
typedef struct kalm__interrupt {
    int  (*call)(void *user);
    void  *user;
} kalm__interrupt;

/* docs/TOKENIZER.md: */
/* THE METER bounds the work for a text, whatever the tables say. A step is a unit of a trie or an entry of the pair table
   that was looked at, or a byte that was passed. A text of n bytes may take KALM__STEPS_BASE + KALM__STEPS_PER_BYTE * n
   steps. Real tokenizers take between 1 and 40 a byte; tables that ask for more than the limit are damaged, and the text is
   refused. So tokenising is linear in the text with any file, about half a second for a megabyte at the worst. */
/* end of docs/TOKENIZER.md */
/* They bound the work for a text, whatever the tables say. */
#define KALM__STEPS_BASE ((uint64_t)1 << 20)
#define KALM__STEPS_PER_BYTE ((uint64_t)512)
#define KALM__STEPS_BETWEEN ((uint64_t)1 << 16)  /* between two questions to the caller */

typedef struct kalm__meter {
    const kalm__interrupt *interrupt;  /* NULL: nobody is asked */
    uint64_t steps, pause, most;       /* taken; when kalm__meter_pause is due; allowed */
} kalm__meter;

KALM__FN void kalm__meter_begin(kalm__meter *m, const kalm__interrupt *interrupt, size_t bytes)
{
    m->interrupt = interrupt && interrupt->call ? interrupt : NULL;
    m->steps = 0;
    m->most = KALM__STEPS_BASE + KALM__STEPS_PER_BYTE * (uint64_t)bytes;       /* no text has 2^54 bytes */
    m->pause = KALM__STEPS_BETWEEN;
}

KALM__NOINLINE KALM__FN kalm_result kalm__meter_pause(kalm__meter *m, kalm_error *err)
{
    if (m->steps > m->most)
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's tables are damaged: a text takes more than %U steps", m->most);
    if (m->interrupt && m->interrupt->call(m->interrupt->user))
        return kalm__fail(err, KALM_CANCELLED, "cancelled while a text was tokenised");
    m->pause = m->steps + KALM__STEPS_BETWEEN;
    return KALM_OK;
}

/* After `steps` more steps: KALM_OK, or why the text is given up. */
KALM__INLINE kalm_result kalm__meter_add(kalm__meter *m, size_t steps, kalm_error *err)
{
    m->steps += steps;
    return KALM__LIKELY(m->steps < m->pause) ? KALM_OK : kalm__meter_pause(m, err);
}

/* The ids of one text on their way to the caller. */
typedef struct kalm__ids {
    const kalm__tokenizer *t;
    const kalm_allocator  *alloc;
    kalm_error            *err;
    int32_t               *ids;        /* the caller's: the first `capacity` ids are written */
    size_t                 capacity, count;      /* count: of all ids, written or not */
    int                    after_unknown;        /* the id before is the unknown token's, and a neighbour may join it */
    kalm__meter            meter;
} kalm__ids;

KALM__INLINE void kalm__ids_put(kalm__ids *o, uint32_t id)
{
    if (o->count < o->capacity) o->ids[o->count] = (int32_t)id;
    o->count++;
    o->after_unknown = 0;
}

/* Bytes of the character at p, which is well-formed. */
KALM__INLINE size_t kalm__char_bytes(const unsigned char *p)
{
    return *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
}

/* `wanted` bytes instead of old[0 .. size), of which the first `kept` stay; NULL: no memory. `local` is not the allocator's. */
KALM__NOINLINE KALM__FN void *kalm__grow(const kalm_allocator *alloc, kalm_error *err, void *old, const void *local,
                                         size_t size, size_t wanted, size_t kept)
{
    void *bigger = kalm__alloc(alloc, wanted);
    if (!bigger) {
        (void)kalm__fail(err, KALM_NO_MEMORY, "no memory to tokenise: %z bytes", wanted);
        return NULL;
    }
    memcpy(bigger, old, kept);
    if (old != local) kalm__release(alloc, old, size);
    return bigger;
}

/* A character (or word) that the vocabulary lacks becomes its bytes, where there are tokens for all of them, or the unknown
   token. A space of inner form (bpe.h) has the bytes of U+2581. */
KALM__FN void kalm__ids_unknown(kalm__ids *o, const unsigned char *text, size_t n)
{
    const kalm__tokenizer *t = o->t;
    int all = (t->flags & KALM__TOK_BYTES) != 0, joins = o->after_unknown && (t->flags & KALM__TOK_FUSE);
    size_t before = o->count, i, k;
    for (i = 0; all && i < n; i++) {
        int is_space = (t->flags & KALM__TOK_ESCAPE) && text[i] == ' ';
        for (k = is_space ? 3 : 1; all && k; k--) {
            uint32_t id = kalm__word(t->part[KALM__SEC_BYTES], is_space ? (unsigned char)"\x81\x96\xe2"[k - 1] : text[i]);
            all = id < t->tokens;
            if (all) kalm__ids_put(o, id);
        }
    }
    if (all) return;
    o->count = before;
    if (t->unknown != KALM__TOK_NONE && !joins) kalm__ids_put(o, t->unknown);
    o->after_unknown = 1;
}

#endif
