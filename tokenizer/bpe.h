/* bpe.h - byte-pair merging of one stretch of text in time linear in its length. It knows nothing of added tokens,
   normalisation or ill-formed text: text.h hands it stretches in "inner form".

   INNER FORM. Well-formed UTF-8 in which, when the vocabulary escapes spaces, every U+2581 is written as a space (and so
   are those in the tables). A document without a literal U+2581 is its own inner form: nothing is copied.

   WHAT IS COMPUTED. The definition: every character is a symbol; the adjacent pair of lowest rank is merged, the leftmost
   of equals, until no pair can be. Call the result E(text). Doing that needs a queue and touches each character many
   times. Two facts replace it:

   1. If E(text) = t1 .. tn then E of the text of ti .. tj is ti .. tj. No merge crossed the borders of the span, so what
      happened inside is what happens to the span alone.
   2. If E(ti ti+1) = ti ti+1 for all i then E(t1 .. tn) = t1 .. tn. Look at the first merge that crosses a border, that of
      ti and ti+1: until then the two changed as they do alone, and it was the first choice of the whole text, hence of
      the two: it would happen in E(ti ti+1) also.

   So E(text) is the one way to cut the text into tokens of which all neighbours tolerate each other, and of each prefix
   there is one way as well. We take the longest token that fits and is tolerated; where none is, the place is marked dead
   (no second visit: the way there is unique) and the token before is taken shorter. Every place is a start at most once.

   WHO TOLERATES WHOM. Both tokens are taken apart again, the latest merge first (rank order; of equal ranks the left
   token's merge came first). The two symbols that face each other at the border would have merged if their pair's rank is
   below that of the merge that takes one of them away. This needs ranks that do not fall inside a token; for the few
   "irregular" tokens where they do (marked in the table), the two texts are merged by the definition.

   CUTS. Where the bytes a, b at a border of characters stand in no token like that (`joins`), no merge crosses, and what
   is before is final. So English is done word by word, and the memory below is bounded by the longest stretch without
   such a place.

   RUNS OF SPACES. When the vocabulary has tokens for 2 .. N spaces, the converter proves from the merges (import.h) that
   they are made before any other merge sees their spaces, N at a time from the left; then they are counted, not searched.

   MEMORY. On the stack: 512 pending tokens, dead marks for 4096 bytes, 254 places a token may end: 4 KB. Beyond, from the
   allocator: 4 bytes for each pending token and 1/8 byte for each byte of the stretch, only as long as there is no cut. */
#ifndef KALM__BPE_H
#define KALM__BPE_H

#include "ids.h"

#define KALM__BPE_PENDING 512
#define KALM__BPE_DEAD 512             /* bytes of marks */
#define KALM__BPE_IRREGULAR 0xffffffu

typedef struct kalm__bpe {
    kalm__ids     *out;
    uint32_t      *pending;            /* tokens since the last cut that may still change */
    size_t         depth, pending_size;
    unsigned char *dead;               /* bit i: the place i bytes behind the last cut is no border of a token */
    size_t         dead_size;
    int            any_dead;
    uint32_t       local_pending[KALM__BPE_PENDING];
    unsigned char  local_dead[KALM__BPE_DEAD];
} kalm__bpe;

KALM__FN void kalm__bpe_begin(kalm__bpe *e, kalm__ids *out)
{
    e->out = out;
    e->depth = 0;
    e->any_dead = 0;
    e->pending = e->local_pending;
    e->pending_size = KALM__BPE_PENDING;
    e->dead = e->local_dead;
    e->dead_size = KALM__BPE_DEAD;
    memset(e->local_dead, 0, sizeof e->local_dead);
}

KALM__FN void kalm__bpe_end(kalm__bpe *e)
{
    if (e->pending != e->local_pending) kalm__release(e->out->alloc, e->pending, e->pending_size * sizeof *e->pending);
    if (e->dead != e->local_dead) kalm__release(e->out->alloc, e->dead, e->dead_size);
}

/* A symbol that merging has produced becomes ids. Nearly always it is one already; else it is a character that is no
   token, or one of SentencePiece's unused pieces, which is taken apart again. A symbol is taken apart only where its parts
   have its length together: then there are fewer than 2 * 255 of them, and the stack never holds more than 255. */
KALM__FN void kalm__bpe_emit_rare(kalm__bpe *e, uint32_t symbol, const unsigned char *text, size_t n)
{
    const kalm__tokenizer *t = e->out->t;
    const unsigned char *lengths = t->part[KALM__SEC_LENGTHS];
    uint32_t stack[256];
    size_t depth = 0, taken = 0;
    stack[depth++] = symbol;
    while (depth) {
        uint32_t s = stack[--depth], left, right;
        uint64_t split;
        size_t size;
        if (s >= t->symbols) continue;
        size = lengths[s];
        split = kalm__u64(t->part[KALM__SEC_SPLITS] + 8 * (size_t)s);
        left = (uint32_t)(split & 0xfffff);
        right = (uint32_t)(split >> 20 & 0xfffff);
        if (s < t->tokens && t->part[KALM__SEC_KINDS][s] != KALM__KIND_UNUSED) {
            kalm__ids_put(e->out, s);
        } else if (split >> 40 && left < t->symbols && right < t->symbols && lengths[left] && lengths[right]
                   && (size_t)lengths[left] + lengths[right] == size && depth + 2 <= 256) {
            stack[depth++] = right;
            stack[depth++] = left;
            continue;
        } else if (s < t->tokens) {
            kalm__ids_put(e->out, s);
        } else if (taken < n) kalm__ids_unknown(e->out, text + taken, kalm__min(size, n - taken));
        taken += size;
    }
}

KALM__INLINE void kalm__bpe_emit(kalm__bpe *e, uint32_t symbol, const unsigned char *text, size_t n)
{
    if (KALM__LIKELY(symbol < e->out->t->tokens && !(e->out->t->flags & KALM__TOK_UNUSED))) {
        kalm__ids_put(e->out, symbol);
    } else kalm__bpe_emit_rare(e, symbol, text, n);
}

/* The tokens that text[0 .. n) begins with, the shortest first. */
typedef struct kalm__bpe_found {
    uint32_t node[KALM__WALK_MOST];
    unsigned char size[KALM__WALK_MOST];         /* bytes */
} kalm__bpe_found;

/* Finds them; how many. *steps grows by the units of the trie that were looked at. */
KALM__INLINE size_t kalm__bpe_find(const kalm__tokenizer *t, const unsigned char *text, size_t n, kalm__bpe_found *f,
                                   size_t *steps)
{
    const unsigned char *trie = t->part[KALM__SEC_TRIE];
    uint32_t node = kalm__u32(trie), units = t->trie_units;
    size_t i = 0, count = 0;
    if (n > KALM__WALK_MOST) n = KALM__WALK_MOST;
    while (i < n) {
        node = kalm__trie_step(trie, units, node, text[i++]);
        if (node == KALM__TOK_NONE) break;
        if (node & 0x100) {
            f->node[count] = node;
            f->size[count++] = (unsigned char)i;
        }
    }
    *steps += i + 1;
    return count;
}

/* The symbol that is all of text[0 .. n), or KALM__TOK_NONE. */
KALM__FN uint32_t kalm__bpe_exactly(const kalm__tokenizer *t, const unsigned char *text, size_t n)
{
    const unsigned char *trie = t->part[KALM__SEC_TRIE];
    uint32_t node = kalm__u32(trie), id;
    size_t i;
    for (i = 0; i < n && node != KALM__TOK_NONE; i++) node = kalm__trie_step(trie, t->trie_units, node, text[i]);
    if (node == KALM__TOK_NONE || !(node & 0x100)) return KALM__TOK_NONE;
    id = kalm__trie_value(trie, t->trie_units, node);
    return id < t->symbols ? id : KALM__TOK_NONE;
}

KALM__FN uint32_t kalm__bpe_rank_of(const kalm__tokenizer *t, const uint32_t *two, size_t *steps)
{
    return two[0] >= t->symbols || two[1] >= t->symbols ? KALM__TOK_NONE : kalm__pair_rank(t, two[0], two[1], steps);
}

/* Does the text of two tokens stay the two tokens? By the definition, for the irregular ones. A token's inner form has
   at most 255 bytes. */
KALM__NOINLINE KALM__FN int kalm__bpe_tolerates_slowly(const kalm__tokenizer *t, const unsigned char *text, size_t left,
                                                       size_t right, size_t *steps)
{
    uint32_t symbol[512], rank[512];   /* rank[i]: of merging symbols i and i + 1 */
    unsigned char size[512];
    size_t n = 0, at = 0, i, best, border;
    while (at < left + right && n < 512) {
        size_t bytes = kalm__char_bytes(text + at);
        symbol[n] = kalm__bpe_exactly(t, text + at, bytes);
        size[n++] = (unsigned char)bytes;
        at += bytes;
    }
    for (i = 0; i + 1 < n; i++) rank[i] = kalm__bpe_rank_of(t, symbol + i, steps);
    for (; n > 1; n--) {
        size_t bytes;
        *steps += n / 4 + left + right;
        for (i = best = 0; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == KALM__TOK_NONE) break;
        for (i = border = 0; i <= best; i++) border += size[i];
        if (border == left) return 0;
        /* The symbol that a merge makes is found by its text. */
        bytes = (size_t)size[best] + size[best + 1];
        symbol[best] = kalm__bpe_exactly(t, text + border - size[best], bytes);
        size[best] = (unsigned char)bytes;
        for (i = best + 1; i + 1 < n; i++) {
            symbol[i] = symbol[i + 1];
            size[i] = size[i + 1];
            rank[i] = rank[i + 1];
        }
        if (best) rank[best - 1] = kalm__bpe_rank_of(t, symbol + best - 1, steps);
        if (best + 2 < n) rank[best] = kalm__bpe_rank_of(t, symbol + best, steps);
    }
    return 1;
}

/* The same for two tokens that end and begin at text + left. */
KALM__FN int kalm__bpe_tolerates(const kalm__tokenizer *t, uint32_t a, uint32_t b, const unsigned char *text, size_t left,
                                 size_t right, size_t *steps)
{
    const unsigned char *splits = t->part[KALM__SEC_SPLITS];
    uint64_t split_a = kalm__u64(splits + 8 * (size_t)a), split_b = kalm__u64(splits + 8 * (size_t)b);
    uint32_t limit = KALM__TOK_NONE, rank_a = (uint32_t)(split_a >> 40), rank_b = (uint32_t)(split_b >> 40);
    unsigned guard;
    if (rank_a == KALM__BPE_IRREGULAR || rank_b == KALM__BPE_IRREGULAR)
        return kalm__bpe_tolerates_slowly(t, text, left, right, steps);
    for (guard = 0; guard < 512; guard++) {      /* honest tokens come apart in at most 2 x 254 steps */
        if (kalm__pair_rank(t, a, b, steps) < limit) return 0;
        if (rank_a > rank_b) {
            limit = rank_a;
            a = (uint32_t)(split_a >> 20 & 0xfffff);
            if (a >= t->symbols) return 0;
            split_a = kalm__u64(splits + 8 * (size_t)a);
            rank_a = (uint32_t)(split_a >> 40);
        } else {
            if (!rank_b) return 1;     /* both are characters */
            limit = rank_b + 1;
            b = (uint32_t)(split_b & 0xfffff);
            if (b >= t->symbols) return 0;
            split_b = kalm__u64(splits + 8 * (size_t)b);
            rank_b = (uint32_t)(split_b >> 40);
        }
    }
    return 0;
}

KALM__NOINLINE KALM__FN kalm_result kalm__bpe_push_grow(kalm__bpe *e)
{
    size_t wanted = kalm__mul(e->pending_size, 2);
    uint32_t *bigger = (uint32_t *)kalm__alloc(e->out->alloc, kalm__mul(wanted, sizeof *bigger));
    if (!bigger) return kalm__fail(e->out->err, KALM_NO_MEMORY, "no memory to tokenise: %z bytes for a text without a cut",
                                   kalm__mul(wanted, sizeof *bigger));
    memcpy(bigger, e->pending, e->depth * sizeof *bigger);
    if (e->pending != e->local_pending) kalm__release(e->out->alloc, e->pending, e->pending_size * sizeof *bigger);
    e->pending = bigger;
    e->pending_size = wanted;
    return KALM_OK;
}

/* Mark place `at` behind the last cut; `room` is how far the stretch goes. */
KALM__NOINLINE KALM__FN kalm_result kalm__bpe_mark_dead(kalm__bpe *e, size_t at, size_t room)
{
    if (at / 8 >= e->dead_size) {
        size_t wanted = room / 8 + 1;
        unsigned char *bigger = (unsigned char *)kalm__alloc(e->out->alloc, wanted);
        if (!bigger) return kalm__fail(e->out->err, KALM_NO_MEMORY, "no memory to tokenise: %z bytes for a text without a cut",
                                       wanted);
        memcpy(bigger, e->dead, e->dead_size);
        memset(bigger + e->dead_size, 0, wanted - e->dead_size);
        if (e->dead != e->local_dead) kalm__release(e->out->alloc, e->dead, e->dead_size);
        e->dead = bigger;
        e->dead_size = wanted;
    }
    e->dead[at / 8] = (unsigned char)(e->dead[at / 8] | 1u << (at & 7));
    e->any_dead = 1;
    return KALM_OK;
}

/* All that is pending is final: it begins at text and ends before text + n. */
KALM__FN void kalm__bpe_flush(kalm__bpe *e, const unsigned char *text, size_t n)
{
    size_t i, at = 0;
    for (i = 0; i < e->depth; i++) {
        size_t size = e->out->t->part[KALM__SEC_LENGTHS][e->pending[i]];
        kalm__bpe_emit(e, e->pending[i], text + kalm__min(at, n), n - kalm__min(at, n));
        at += size;
    }
    e->depth = 0;
    if (e->any_dead) {
        memset(e->dead, 0, kalm__min(e->dead_size, n / 8 + 1));
        e->any_dead = 0;
    }
}

/* Tokenise text[0 .. n), in inner form, on its own. */
KALM__FN kalm_result kalm__bpe_run(kalm__bpe *e, const unsigned char *text, size_t n)
{
    const kalm__tokenizer *t = e->out->t;
    const unsigned char *joins = t->part[KALM__SEC_JOINS], *lengths = t->part[KALM__SEC_LENGTHS];
    const unsigned char *trie = t->part[KALM__SEC_TRIE];
    kalm__bpe_found f;
    size_t base = 0, pos = 0, steps = 0, size, found;
    uint32_t id, previous = KALM__TOK_NONE;
    kalm_result r;
    e->out->after_unknown = 0;
    while (pos < n) {
        if (t->longest_run && text[pos] == ' ' && pos + 1 < n && text[pos + 1] == ' ') {
            size_t run = 2;
            kalm__bpe_flush(e, text + base, pos - base);
            while (pos + run < n && text[pos + run] == ' ') run++;
            for (; run > 1; run -= size) {       /* a single space that is left begins the next word */
                size = kalm__min(run, t->longest_run);
                id = kalm__word(t->part[KALM__SEC_RUNS], size);
                if (size < 2 || id >= t->tokens)
                    return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's runs are damaged");
                if ((r = kalm__meter_add(&e->out->meter, size, e->out->err)) != KALM_OK) return r;
                kalm__ids_put(e->out, id);
                pos += size;
            }
            base = pos;
            previous = KALM__TOK_NONE;
            continue;
        }
        found = kalm__bpe_find(t, text + pos, n - pos, &f, &steps);
        if ((r = kalm__meter_add(&e->out->meter, steps, e->out->err)) != KALM_OK) return r;
        steps = 0;
        if (!found) {
            kalm__bpe_flush(e, text + base, pos - base);
            size = kalm__min(kalm__char_bytes(text + pos), n - pos);
            kalm__ids_unknown(e->out, text + pos, size);
            base = pos += size;
            previous = KALM__TOK_NONE;
            continue;
        }
        for (;;) {
            size_t end, place;
            if (!found) {              /* nothing fits here: never again this place, and the token before shorter */
                if (!e->depth) return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's merges contradict its tokens");
                r = kalm__bpe_mark_dead(e, pos - base, n - base);
                if (r) return r;
                size = lengths[e->pending[--e->depth]];
                pos -= size;
                previous = e->depth ? e->pending[e->depth - 1] : KALM__TOK_NONE;
                found = kalm__bpe_find(t, text + pos, size - 1, &f, &steps);
                if ((r = kalm__meter_add(&e->out->meter, steps, e->out->err)) != KALM_OK) return r;
                steps = 0;
                continue;
            }
            size = f.size[--found];
            id = kalm__trie_value(trie, t->trie_units, f.node[found]);
            if (id >= t->symbols) return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's trie is damaged");
            end = pos + size;
            place = end - base;
            if (e->any_dead && place / 8 < e->dead_size && (e->dead[place / 8] >> (place & 7) & 1)) continue;
            if (previous != KALM__TOK_NONE
                && !kalm__bpe_tolerates(t, previous, id, text + pos - lengths[previous], lengths[previous], size, &steps))
                continue;
            if (end == n || !(joins[32u * text[end - 1] + text[end] / 8] >> (text[end] & 7) & 1)) {
                if (e->depth || e->any_dead) kalm__bpe_flush(e, text + base, place);
                kalm__bpe_emit(e, id, text + pos, size);
                base = end;
                previous = KALM__TOK_NONE;
            } else {
                if (size != lengths[id]) return kalm__fail(e->out->err, KALM_BAD_FILE, "the tokenizer's lengths are damaged");
                if (e->depth == e->pending_size && (r = kalm__bpe_push_grow(e)) != KALM_OK) return r;
                e->pending[e->depth++] = previous = id;
            }
            pos = end;
            break;
        }
    }
    return KALM_OK;
}

#endif
