/* import_compile.h - writes the blob of vocab.h from a vocabulary that is read and completed (import_symbols.h). */
#ifndef KALM__IMPORT_COMPILE_H
#define KALM__IMPORT_COMPILE_H

#include "import_merges.h"
#include "import_trie.h"
#include "import_whole.h"

/* The sections on their way into the blob: size 0 where one is empty. Numbers are little-endian already. */
typedef struct kalm__import_parts {
    const void *data[KALM__TOK_SECTIONS];
    size_t      size[KALM__TOK_SECTIONS];
    uint32_t    bucket_bits;
    unsigned char first[256], joins[8192];       /* joins: for BPE section joins, for unigram cuts */
    uint32_t    bytes[256], run[256];
} kalm__import_parts;

KALM__FN void kalm__import_part(kalm__import_parts *p, unsigned section, const void *data, size_t size)
{
    p->data[section] = data;
    p->size[section] = size;
}

/* Numbers to little-endian bytes, in their own place. */
KALM__FN void kalm__import_words(kalm__import_parts *p, unsigned section, uint32_t *word, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) kalm__put_u32(word + i, word[i]);
    kalm__import_part(p, section, word, 4 * n);
}

/* The inner form of every symbol. */
KALM__FN kalm_result kalm__import_inner(kalm__import *m)
{
    uint32_t i;
    for (i = 0; i < m->symbols; i++) {
        kalm__import_symbol *s = m->symbol + i;
        char *inner;
        size_t k = 0, n = 0;
        s->inner = s->text;
        if (!(m->flags & KALM__TOK_ESCAPE) || (!s->merges && !s->added && !s->piece) || !s->text.size) continue;
        for (k = 0; k < s->text.size && s->text.data[k] != ' ' && !kalm__import_is_space(s->text.data + k, s->text.size - k);)
            k++;
        if (k == s->text.size) continue;
        if (memchr(s->text.data, ' ', s->text.size)) s->merges = s->piece = 0;   /* no text has a space any more */
        inner = (char *)kalm__import_alloc(m, s->text.size);
        if (!inner) return KALM_NO_MEMORY;
        for (k = 0; k < s->text.size;)
            if (kalm__import_is_space(s->text.data + k, s->text.size - k)) {
                inner[n++] = ' ';
                k += 3;
            } else inner[n++] = s->text.data[k++];
        s->inner.data = inner;
        s->inner.size = n;
    }
    return KALM_OK;
}

/* ---- tables by token ------------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__import_tokens(kalm__import *m, kalm__import_parts *p)
{
    uint32_t *starts = (uint32_t *)kalm__import_alloc(m, ((size_t)m->tokens + 1) * 4), i, k;
    unsigned char *pool, *kinds = starts ? (unsigned char *)kalm__import_alloc(m, m->tokens) : NULL;
    size_t pool_size = 0, at = 0;
    for (i = 0; i < m->tokens; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        if (s->text.size > KALM__TOKEN_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u is longer than %d bytes", m->name, i, KALM__TOKEN_MOST);
        pool_size += s->kind == KALM__KIND_BYTE ? 1 : s->text.size;
    }
    if (pool_size > 0x7fffffffu) return kalm__fail(m->err, KALM_BAD_FILE, "%s: the vocabulary is too large", m->name);
    pool = kinds ? (unsigned char *)kalm__import_alloc(m, pool_size + 1) : NULL;
    if (!pool) return KALM_NO_MEMORY;
    for (i = 0; i < m->tokens; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        starts[i] = (uint32_t)at;
        kinds[i] = s->kind;
        if (s->kind == KALM__KIND_BYTE) {
            for (k = 0; k < 256 && m->bytes[k] != i; k++) {}
            pool[at++] = (unsigned char)k;
        } else if (s->text.size) {
            memcpy(pool + at, s->text.data, s->text.size);
            at += s->text.size;
        }
    }
    starts[i] = (uint32_t)at;
    kalm__import_words(p, KALM__SEC_STARTS, starts, (size_t)m->tokens + 1);
    kalm__import_part(p, KALM__SEC_POOL, pool, at);
    kalm__import_part(p, KALM__SEC_KINDS, kinds, m->tokens);
    return KALM_OK;
}

/* ---- tries ----------------------------------------------------------------------------------------------------------- */

/* Sorts the keys, refuses two that are equal, and makes their trie, of little-endian units. `what` names the texts. */
KALM__FN kalm_result kalm__import_sorted_trie(kalm__import *m, kalm__import_parts *p, unsigned section, const char *what,
                                              kalm__import_key *key, size_t keys, kalm__import_trie *trie)
{
    size_t i;
    qsort(key, keys, sizeof *key, kalm__import_key_order);
    for (i = 1; i < keys; i++)
        if (!kalm__import_key_order(key + i - 1, key + i))
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: the %s %u and %u are the same text, \"%q\"", m->name, what,
                              key[i - 1].value & 0xfffff, key[i].value & 0xfffff, key[i].text.data, key[i].text.size);
    if (!kalm__import_trie_make(m, key, keys, trie)) return m->err->code;
    kalm__import_words(p, section, trie->unit, trie->count);
    return KALM_OK;
}

/* The tokens that a text may be cut into, by inner form; for BPE also which bytes stand beside each other in one. */
KALM__FN kalm_result kalm__import_token_trie(kalm__import *m, kalm__import_parts *p, kalm__import_key *key)
{
    kalm__import_trie trie;
    size_t keys = 0, k;
    uint32_t i;
    kalm_result r;
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        int bpe = m->model == KALM__MODEL_BPE;
        if (bpe ? !s->reachable || (m->longest_run && kalm__import_run_of(s->inner) > 1) : !s->piece) continue;
        if (memchr(s->inner.data, 0, s->inner.size))
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u holds a NUL", m->name, i);
        if (m->model == KALM__MODEL_UNIGRAM && s->inner.size > KALM__WALK_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u, \"%q\", is longer than %d bytes", m->name, i,
                              s->text.data, s->text.size, KALM__WALK_MOST);
        key[keys].text = s->inner;
        key[keys++].value = i | (s->piece == 2 ? KALM__PIECE_MARK : 0);
        for (k = 1; bpe && k < s->inner.size; k++) {
            unsigned a = (unsigned char)s->inner.data[k - 1], b = (unsigned char)s->inner.data[k];
            unsigned char *join = p->joins + 32 * a + b / 8;
            if ((b & 0xc0) != 0x80) *join = (unsigned char)(*join | 1u << (b & 7));
        }
    }
    if (m->model == KALM__MODEL_BPE) kalm__import_part(p, KALM__SEC_JOINS, p->joins, sizeof p->joins);
    r = kalm__import_sorted_trie(m, p, KALM__SEC_TRIE, "tokens", key, keys, &trie);
    if (r || m->model != KALM__MODEL_UNIGRAM) return r;
    kalm__import_whole(m, trie.unit, trie.count, p->joins);
    kalm__import_part(p, KALM__SEC_CUTS, p->joins, sizeof p->joins);
    return KALM_OK;
}

/* The added tokens: as published, or by SentencePiece's rules in inner form as well. In a unigram model a symbol of the
   user's is found by its score, in a model of words as a word; the trie keeps normalisation away from it. */
KALM__FN kalm_result kalm__import_added_trie(kalm__import *m, kalm__import_parts *p, kalm__import_key *key)
{
    kalm__import_trie trie;
    size_t keys = 0;
    uint32_t i;
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        int spm = (m->flags & KALM__TOK_SPM) != 0, differs = spm && s->inner.data != s->text.data;
        int spaces = s->text.size && memchr(s->text.data, ' ', s->text.size);
        uint32_t value = i | (s->added - 1u) << 24;
        int only_raw = spm && s->added - 1u != KALM__CLASS_TEMPLATE
                       && (m->model == KALM__MODEL_WORD
                           || (m->model == KALM__MODEL_UNIGRAM && s->added - 1u == KALM__CLASS_TEXT));
        if (!s->added || !s->text.size) continue;
        if (memchr(s->text.data, 0, s->text.size))
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: added token %u holds a NUL", m->name, i);
        if (s->text.size > KALM__WALK_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: added token %u is longer than %d bytes", m->name, i, KALM__WALK_MOST);
        key[keys].text = s->text;
        key[keys++].value = value | (differs || only_raw ? 1u << 27 : 0u);
        p->first[(unsigned char)s->text.data[0]] = 1;
        if (differs && !spaces && !only_raw) {   /* U+2581 was a space before; a space itself is never left */
            key[keys].text = s->inner;
            key[keys++].value = value | 1u << 26;
            p->first[(unsigned char)s->inner.data[0]] = 1;
        }
    }
    kalm__import_part(p, KALM__SEC_FIRST, p->first, sizeof p->first);
    return kalm__import_sorted_trie(m, p, KALM__SEC_ADDED, "added tokens", key, keys, &trie);
}

/* ---- merges ---------------------------------------------------------------------------------------------------------- */

KALM__FN uint64_t kalm__import_pair_hash(const kalm__import_merge *a)
{
    return (((uint64_t)a->left << 20 | a->right) * (uint64_t)KALM__HASH_A) & 0xffffffffffu;
}

/* A merge that can happen, which the pair table must hold. */
KALM__FN int kalm__import_lives(const kalm__import *m, const kalm__import_merge *a)
{
    return m->symbol[a->left].reachable && m->symbol[a->right].reachable && m->symbol[a->made].reachable;
}

/* How many pairs each of 2^bits buckets has, and at `most` the fullest. */
KALM__FN uint32_t *kalm__import_fill(kalm__import *m, uint32_t bits, uint32_t *most)
{
    uint32_t *count = (uint32_t *)kalm__import_alloc(m, ((size_t)1 << bits) * sizeof *count);
    size_t i;
    *most = 0;
    for (i = 0; count && i < m->merges; i++)
        if (kalm__import_lives(m, m->merge + i)) {
            uint32_t n = ++count[kalm__import_pair_hash(m->merge + i) >> (40 - bits)];
            if (n > *most) *most = n;
        }
    return count;
}

/* The pair table: four pairs to a bucket, and more buckets where one has too many. */
KALM__FN kalm_result kalm__import_pair_table(kalm__import *m, kalm__import_parts *p)
{
    uint32_t *fill, *buckets, *filter, *pair, *rank, bits = 8, most;
    size_t i, pairs = 0;
    while (bits < 24 && ((size_t)4 << bits) < m->merges) bits++;
    for (;; bits++) {
        if (bits > 24)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: too many merges share a hash; no tokenizer that was trained has such",
                              m->name);
        fill = kalm__import_fill(m, bits, &most);
        if (!fill) return KALM_NO_MEMORY;
        if (most <= KALM__BUCKET_MOST) break;
    }
    buckets = (uint32_t *)kalm__import_alloc(m, (((size_t)1 << bits) + 1) * 4);
    filter = buckets ? (uint32_t *)kalm__import_alloc(m, ((size_t)1 << bits) * 4) : NULL;
    pair = filter ? (uint32_t *)kalm__import_alloc(m, m->merges * 4) : NULL;
    rank = pair ? (uint32_t *)kalm__import_alloc(m, m->merges * 4) : NULL;
    if (!rank) return KALM_NO_MEMORY;
    for (i = 0; i < (size_t)1 << bits; i++) {
        buckets[i + 1] = buckets[i] + fill[i];
        fill[i] = buckets[i];
    }
    for (i = 0; i < m->merges; i++) {
        uint64_t h = kalm__import_pair_hash(m->merge + i);
        size_t bucket = (size_t)(h >> (40 - bits));
        uint32_t rest = (uint32_t)(h & (((uint64_t)1 << (40 - bits)) - 1));
        if (!kalm__import_lives(m, m->merge + i)) continue;
        filter[bucket] |= 1u << (rest & 31) | 1u << (rest >> 5 & 31);
        pair[fill[bucket]] = rest;
        rank[fill[bucket]++] = m->merge[i].rank + 1;
        pairs++;
    }
    p->bucket_bits = bits;
    kalm__import_words(p, KALM__SEC_BUCKETS, buckets, ((size_t)1 << bits) + 1);
    kalm__import_words(p, KALM__SEC_FILTER, filter, (size_t)1 << bits);
    kalm__import_words(p, KALM__SEC_PAIRS, pair, pairs);
    kalm__import_words(p, KALM__SEC_RANKS, rank, pairs);
    return KALM_OK;
}

/* How each symbol comes apart, and runs of spaces. */
KALM__FN kalm_result kalm__import_splits(kalm__import *m, kalm__import_parts *p)
{
    unsigned char *lengths = (unsigned char *)kalm__import_alloc(m, m->symbols);
    unsigned char *splits = lengths ? (unsigned char *)kalm__import_alloc(m, 8 * (size_t)m->symbols) : NULL;
    uint32_t i;
    if (!splits) return KALM_NO_MEMORY;
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        if (!s->reachable) continue;
        lengths[i] = (unsigned char)s->inner.size;
        kalm__put_u64(splits + 8 * (size_t)i, (uint64_t)s->left | (uint64_t)s->right << 20
                                                  | (uint64_t)(s->irregular ? 0xffffffu : s->rank) << 40);
    }
    for (i = 2; i <= m->longest_run; i++) p->run[i] = m->run[i];
    kalm__import_part(p, KALM__SEC_LENGTHS, lengths, m->symbols);
    kalm__import_part(p, KALM__SEC_SPLITS, splits, 8 * (size_t)m->symbols);
    if (m->longest_run) kalm__import_words(p, KALM__SEC_RUNS, p->run, (size_t)m->longest_run + 1);
    return KALM_OK;
}

/* ---- the rest -------------------------------------------------------------------------------------------------------- */

KALM__FN uint64_t kalm__import_double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

KALM__FN kalm_result kalm__import_scores(kalm__import *m, kalm__import_parts *p)
{
    unsigned char *scores = (unsigned char *)kalm__import_alloc(m, 8 * (size_t)m->tokens);
    uint32_t i;
    if (!scores) return KALM_NO_MEMORY;
    for (i = 0; i < m->tokens; i++) kalm__put_u64(scores + 8 * (size_t)i, kalm__import_double_bits(m->symbol[i].score));
    kalm__import_part(p, KALM__SEC_SCORES, scores, 8 * (size_t)m->tokens);
    return KALM_OK;
}

/* Header and sections into one block of the caller's. */
KALM__FN kalm_result kalm__import_blob(kalm__import *m, const kalm__import_parts *p, unsigned char **blob, size_t *blob_size)
{
    size_t total = KALM__TOK_HEADER, at = KALM__TOK_HEADER;
    int second = m->model != KALM__MODEL_BPE;
    unsigned char *out;
    unsigned i;
    for (i = 0; i < KALM__TOK_SECTIONS; i++) total = kalm__add(total, kalm__round_up(p->size[i], 64));
    out = (unsigned char *)kalm__alloc(&m->alloc, total);
    if (!out) return kalm__fail(m->err, KALM_NO_MEMORY, "no memory for a tokenizer of %z bytes", total);
    memset(out, 0, total);
    memcpy(out, second ? "KALMTOK2" : "KALMTOK1", 8);
    kalm__put_u64(out + 8, total);
    kalm__put_u32(out + 16, m->tokens);
    kalm__put_u32(out + 20, m->symbols);
    kalm__put_u32(out + 24, m->flags);
    kalm__put_u32(out + 28, m->unknown);
    kalm__put_u32(out + 32, m->longest_run);
    kalm__put_u32(out + 36, p->bucket_bits);
    kalm__put_u32(out + 40, m->model);
    kalm__put_u32(out + 44, m->denormal_unit);
    if (second) kalm__put_u64(out + 48, kalm__import_double_bits(m->unknown_score));
    kalm__put_u32(out + 56, m->denormal_texts);
    for (i = 0; i < KALM__TOK_SECTIONS; i++) {
        kalm__put_u64(out + 64 + 16 * i, p->size[i] ? at : KALM__TOK_HEADER);
        kalm__put_u64(out + 72 + 16 * i, p->size[i]);
        if (p->size[i]) memcpy(out + at, p->data[i], p->size[i]);
        at += kalm__round_up(p->size[i], 64);
    }
    *blob = out;
    *blob_size = total;
    return KALM_OK;
}

KALM__FN kalm_result kalm__import_compile(kalm__import *m, unsigned char **blob, size_t *blob_size)
{
    kalm__import_parts *p = (kalm__import_parts *)kalm__import_alloc(m, sizeof *p);
    kalm__import_key *key;
    kalm_result r;
    if (!p) return KALM_NO_MEMORY;
    if (!m->tokens) return kalm__fail(m->err, KALM_BAD_FILE, "%s: the vocabulary is empty", m->name);
    if (m->crowded)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s: too many tokens share a hash; no tokenizer that was trained has such",
                          m->name);
    r = kalm__import_inner(m);
    if (!r && m->model == KALM__MODEL_BPE) r = kalm__import_merges(m);
    if (r) return r;
    key = (kalm__import_key *)kalm__import_alloc(m, kalm__mul(2 * (size_t)m->symbols + 1, sizeof *key));
    if (!key) return KALM_NO_MEMORY;
    r = kalm__import_token_trie(m, p, key);
    if (!r) r = kalm__import_added_trie(m, p, key);
    if (!r) r = kalm__import_tokens(m, p);
    if (!r && m->model == KALM__MODEL_BPE) r = kalm__import_splits(m, p);
    if (!r && m->model == KALM__MODEL_BPE) r = kalm__import_pair_table(m, p);
    if (!r && m->model == KALM__MODEL_UNIGRAM) r = kalm__import_scores(m, p);
    if (r) return r;
    memcpy(p->bytes, m->bytes, sizeof p->bytes);
    kalm__import_words(p, KALM__SEC_BYTES, p->bytes, 256);
    kalm__import_part(p, KALM__SEC_RULES, m->rules, m->rules_size);
    kalm__import_part(p, KALM__SEC_TEXTS, m->texts, m->texts_size);
    kalm__import_part(p, KALM__SEC_UNKNOWN, m->unknown_text.data, m->unknown_text.size);
    return kalm__import_blob(m, p, blob, blob_size);
}

#endif
