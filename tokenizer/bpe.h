/* bpe.h - byte-pair encoding (BPE) of one stretch of text, in time linear in its length. Added tokens, normalisation and text
   that is not valid UTF-8 are dealt with in text.h, which calls this part with stretches in "inner form".

   INNER FORM is valid UTF-8. Where the vocabulary writes spaces as U+2581, the inner form has plain spaces in their place (the
   tables do as well), so that a text without a literal U+2581 is its own inner form and need not be copied.

   Tokens are taken from left to right, the longest first, each of them "stable" beside the one before: merging the text of the two
   alone gives these two. That this leaves what the definition of BPE does, which merges pairs by rank, is shown in
   docs/TOKENIZER.md. */
/* docs/TOKENIZER.md: */
/* THE DEFINITION of BPE: every character is a symbol. Of all pairs of neighbours that the merge table knows, the one of lowest
   rank is merged into one symbol (the leftmost among equals), until no pair can be merged. The symbols that remain are the
   tokens; call them E(text). Done literally, this needs a priority queue and visits each character many times. Two facts give
   a faster way:

   1. Let E(text) = t1 t2 ... tn. Then for any i <= j, the text of ti ... tj alone gives ti ... tj. Reason: no merge crossed the
      borders of that span, so inside it the same merges happen in the same order when it stands alone.
   2. If each pair of neighbours is stable, E(text of ti and ti+1) = ti ti+1, then the whole text gives t1 ... tn. Reason: suppose
      some merge crosses a border, and look at the first one that does, between ti and ti+1. Up to then both tokens were built as
      they are built alone, and the merge was the best of the whole text, hence the best of the two: it would also have happened
      in E(text of ti and ti+1).

   So E(text) is the only way to cut the text into tokens such that all neighbours are stable, and the same holds for each prefix
   of the text that ends at such a cut. This gives a search from left to right: at each position take the longest token that
   matches the text there and is stable beside the token before it. Where no token is, the position cannot be a border of tokens:
   it is marked dead, and the token before is replaced by a shorter one. Because the way to a position is unique, a dead position
   need not be tried again, and each position is the start of a search at most once.

   STABLE NEIGHBOURS. Both tokens are taken apart step by step, always undoing the merge that was made last (the one of higher
   rank; of equal ranks the right token's, because the left token's was made first). At each step two symbols face each other
   across the border. If the table merges that pair at a lower rank than the merge just undone, by which one of the two became a
   part of its token, then the pair would have merged first, and the neighbours are not stable. This needs ranks that never fall
   from the inside of a token to its outside. For the few "irregular" tokens where they do, which the table marks, the two texts
   are merged by the definition.

   CUTS. The table `joins` says for each pair of bytes whether some token contains them side by side, the second byte beginning a
   character. Where it says no, no merge can reach across: everything before is final and is written out. English text is thus
   handled word by word, and the memory below is bounded by the longest stretch without such a cut.

   RUNS OF SPACES. If the vocabulary has tokens for 2 ... N spaces, the converter proves from the merges (import_compile.h) that
   these are formed before any other merge involves their spaces, N at a time from the left. Such runs are then counted, not
   searched.

   MEMORY. On the stack: 512 pending tokens, dead marks for 4096 bytes, 254 candidate ends: 4 KB. Beyond that from the allocator,
   4 bytes for each pending token and one bit for each byte of the stretch, and only for stretches without a cut. */
/* end of docs/TOKENIZER.md */
#ifndef KALM__BPE_H
#define KALM__BPE_H

#include "ids.h"

#define KALM__BPE_PENDING 512
#define KALM__BPE_DEAD 512             /* bytes of marks */
#define KALM__BPE_IRREGULAR 0xffffffu

typedef struct kalm__bpe {
    kalm__ids     *out;
    uint32_t      *pending;            /* [depth] tokens since the last cut; a shorter one may still take the place of the last */
    size_t         depth, pending_size;          /* tokens in `pending`, and how many it has room for */
    unsigned char *dead;               /* bit i is 1: no token ends i bytes after the last cut */
    size_t         dead_size;                    /* bytes */
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

/* Write the id of a symbol that merging has produced. Three cases are not simply a token's id: a character that is no token
   becomes byte tokens or the unknown token; a piece that SentencePiece marks as unused is split into the two symbols that it was
   merged from, and so on. A symbol is split only if the lengths of its two parts add up to its own. So a hostile table cannot
   make this run long: there are fewer than 2 * 255 parts, and the stack never holds more than 255. */
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

/* The tokens that are prefixes of a text, the shortest first. */
typedef struct kalm__bpe_found {
    uint32_t node[KALM__WALK_MOST];    /* where the walk through the trie stood */
    unsigned char size[KALM__WALK_MOST];         /* bytes */
} kalm__bpe_found;

/* Find the tokens that are prefixes of text[0 .. n); returns how many there are. *steps grows by the number of units of the trie
   that were looked at. */
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

/* The rank of merging two symbols, KALM__TOK_NONE if they do not merge. */
KALM__FN uint32_t kalm__bpe_rank_of(const kalm__tokenizer *t, const uint32_t *two, size_t *steps)
{
    return two[0] >= t->symbols || two[1] >= t->symbols ? KALM__TOK_NONE : kalm__pair_rank(t, two[0], two[1], steps);
}

/* Are two neighbouring tokens stable (see above)? This version merges their text by the definition; it is for irregular tokens.
   text[0 .. left) is the first token, the next `right` bytes are the second; a token has at most 255 bytes. The answer is no as
   soon as a merge crosses the border. */
KALM__NOINLINE KALM__FN int kalm__bpe_tolerates_slowly(const kalm__tokenizer *t, const unsigned char *text, size_t left,
                                                       size_t right, size_t *steps)
{
    const unsigned char *trie = t->part[KALM__SEC_TRIE];
    uint32_t symbol[512], rank[512];   /* rank[i]: of merging symbols i and i + 1 */
    unsigned char size[512];
    size_t n = 0, at = 0, i, best, border, all = left + right, bytes;
    while (at < all && n < 512) {
        bytes = kalm__min(kalm__char_bytes(text + at), all - at);
        symbol[n] = kalm__trie_find(trie, t->trie_units, text + at, bytes);
        size[n++] = (unsigned char)bytes;
        at += bytes;
    }
    for (i = 0; i + 1 < n; i++) rank[i] = kalm__bpe_rank_of(t, symbol + i, steps);
    for (; n > 1; n--) {
        *steps += n / 4 + all;
        for (i = best = 0; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == KALM__TOK_NONE) break;
        for (i = border = 0; i <= best; i++) border += size[i];
        if (border == left) return 0;
        /* the merged symbol is found by its text */
        bytes = (size_t)size[best] + size[best + 1];
        symbol[best] = kalm__trie_find(trie, t->trie_units, text + border - size[best], bytes);
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

/* The same for tokens a and b in general: undo their merges one after the other and compare ranks across the border. */
KALM__FN int kalm__bpe_tolerates(const kalm__tokenizer *t, uint32_t a, uint32_t b, const unsigned char *text, size_t left,
                                 size_t right, size_t *steps)
{
    const unsigned char *splits = t->part[KALM__SEC_SPLITS];
    uint64_t split_a = kalm__u64(splits + 8 * (size_t)a), split_b = kalm__u64(splits + 8 * (size_t)b);
    uint32_t limit = KALM__TOK_NONE, rank_a = (uint32_t)(split_a >> 40), rank_b = (uint32_t)(split_b >> 40);
    unsigned guard;
    if (rank_a == KALM__BPE_IRREGULAR || rank_b == KALM__BPE_IRREGULAR)
        return kalm__bpe_tolerates_slowly(t, text, left, right, steps);
    for (guard = 0; guard < 512; guard++) {      /* tokens of a sound table come apart in at most 2 * 254 steps */
        if (kalm__pair_rank(t, a, b, steps) < limit) return 0;
        if (rank_a > rank_b) {
            limit = rank_a;
            a = (uint32_t)(split_a >> 20 & 0xfffff);
            if (a >= t->symbols) return 0;
            split_a = kalm__u64(splits + 8 * (size_t)a);
            rank_a = (uint32_t)(split_a >> 40);
        } else {
            if (!rank_b) return 1;     /* both are single characters now */
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
    size_t bytes = kalm__mul(e->pending_size, sizeof *e->pending);
    void *bigger = kalm__grow(e->out->alloc, e->out->err, e->pending, e->local_pending, bytes, kalm__mul(bytes, 2), bytes);
    if (!bigger) return KALM_NO_MEMORY;
    e->pending = (uint32_t *)bigger;
    e->pending_size *= 2;
    return KALM_OK;
}

/* Mark the position `at` bytes after the last cut as dead. room: bytes from the last cut to the end of the stretch. */
KALM__NOINLINE KALM__FN kalm_result kalm__bpe_mark_dead(kalm__bpe *e, size_t at, size_t room)
{
    if (at / 8 >= e->dead_size) {
        size_t wanted = room / 8 + 1;
        void *bigger = kalm__grow(e->out->alloc, e->out->err, e->dead, e->local_dead, e->dead_size, wanted, e->dead_size);
        if (!bigger) return KALM_NO_MEMORY;
        e->dead = (unsigned char *)bigger;
        memset(e->dead + e->dead_size, 0, wanted - e->dead_size);
        e->dead_size = wanted;
    }
    e->dead[at / 8] = (unsigned char)(e->dead[at / 8] | 1u << (at & 7));
    e->any_dead = 1;
    return KALM_OK;
}

/* The pending tokens are final: write their ids. Their text begins at `text` and has n bytes. */
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

/* Tokenise text[0 .. n), which is in inner form, without regard to what stands before or after it. */
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
            for (; run > 1; run -= size) {       /* a single space that remains belongs to the next word */
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
            if (!found) {              /* no token fits here: mark the position, and replace the token before by a shorter one */
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
