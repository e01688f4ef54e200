/* import.h - from a published tokenizer to the blob of vocab.h: reads tokenizer.json (Hugging Face) and tokenizer.model
   (SentencePiece), refuses what this library does not tokenise exactly, works out what the runtime must not have to work
   out: which tokens merging can produce, how each comes apart, where texts may be cut, how runs of spaces behave.
   For the converter and the tools; no part of kalm_rerank.h. Both files are bytes from strangers: every length is checked.

   MEMORY: about eight times the vocabulary's own bytes while it works, 130 MB for Gemma's tokenizer.json of 33 MB. */
#ifndef KALM__IMPORT_H
#define KALM__IMPORT_H

#include "vocab.h"
#include "../src/tools/json.h"

#define KALM__IMPORT_RANKS 0xfffffdu   /* ranks a split can hold, without the irregular mark */

typedef struct kalm__import_symbol {
    kalm_text text;                    /* as published */
    kalm_text inner;
    uint8_t   kind;                    /* KALM__KIND_... */
    uint8_t   added;                   /* 0: no added token, else 1 + KALM__CLASS_... */
    uint8_t   merges;                  /* may be a symbol of merging */
    uint8_t   leaf;                    /* is one character */
    uint8_t   reachable;               /* merging its text gives it */
    uint8_t   irregular;
    uint32_t  left, right, rank;       /* how it is made; rank + 1, 0: a character */
    float     score;
} kalm__import_symbol;

typedef struct kalm__import_merge {
    uint32_t left, right, made, rank;
} kalm__import_merge;

typedef struct kalm__import_block {
    struct kalm__import_block *next;
    size_t size;
} kalm__import_block;

typedef struct kalm__import {
    kalm_allocator       alloc;
    kalm_error          *err;
    const char          *name;
    kalm__import_block  *blocks;       /* everything below; given back at the end, all at once */
    kalm__import_symbol *symbol;
    uint32_t             tokens, symbols;
    kalm__import_merge  *merge;
    size_t               merges;
    uint32_t            *by_text;      /* open addressing: 1 + symbol */
    size_t               by_text_mask;
    uint32_t            *by_pair;      /* open addressing: 1 + merge */
    size_t               by_pair_mask;
    uint32_t             flags, unknown, longest_run, bytes[256];
    uint32_t             run[256];
    kalm_text            unknown_text;
    const unsigned char *rules;
    size_t               rules_size, texts_size; /* the texts follow the rules */
} kalm__import;

KALM__FN void *kalm__import_alloc(kalm__import *m, size_t size)
{
    size_t whole = kalm__add(size, 64);
    kalm__import_block *b = (kalm__import_block *)kalm__alloc(&m->alloc, whole);
    if (!b) {
        (void)kalm__fail(m->err, KALM_NO_MEMORY, "no memory to read %s: %z bytes", m->name, whole);
        return NULL;
    }
    b->next = m->blocks;
    b->size = whole;
    m->blocks = b;
    memset((char *)b + 64, 0, size);
    return (char *)b + 64;
}

/* ---- texts ----------------------------------------------------------------------------------------------------- */

KALM__FN uint64_t kalm__import_hash(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    size_t i;
    for (i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

KALM__FN int kalm__import_index(kalm__import *m, size_t count)
{
    size_t size = 1024;
    while (size < kalm__mul(count, 2)) size *= 2;
    m->by_text = (uint32_t *)kalm__import_alloc(m, size * sizeof *m->by_text);
    m->by_text_mask = size - 1;
    return m->by_text != NULL;
}

/* The symbol of a text; the two halves as one. KALM__TOK_NONE: none. */
KALM__FN uint32_t kalm__import_find2(const kalm__import *m, kalm_text a, kalm_text b)
{
    char local[512], *both = local;
    uint32_t found = KALM__TOK_NONE;
    size_t i, n = a.size + b.size;
    if (n > sizeof local) return KALM__TOK_NONE;
    if (a.size) memcpy(both, a.data, a.size);
    if (b.size) memcpy(both + a.size, b.data, b.size);
    for (i = (size_t)kalm__import_hash(both, n) & m->by_text_mask; m->by_text[i]; i = (i + 1) & m->by_text_mask) {
        kalm_text t = m->symbol[m->by_text[i] - 1].text;
        if (t.size == n && !memcmp(t.data, both, n)) {
            found = m->by_text[i] - 1;
            break;
        }
    }
    return found;
}
KALM__FN uint32_t kalm__import_find(const kalm__import *m, kalm_text a)
{
    size_t i;
    for (i = (size_t)kalm__import_hash(a.data, a.size) & m->by_text_mask; m->by_text[i]; i = (i + 1) & m->by_text_mask) {
        kalm_text t = m->symbol[m->by_text[i] - 1].text;
        if (t.size == a.size && !memcmp(t.data, a.data, a.size)) return m->by_text[i] - 1;
    }
    return KALM__TOK_NONE;
}
KALM__FN void kalm__import_enter(kalm__import *m, uint32_t s)
{
    kalm_text t = m->symbol[s].text;
    size_t i = (size_t)kalm__import_hash(t.data, t.size) & m->by_text_mask;
    while (m->by_text[i]) i = (i + 1) & m->by_text_mask;
    m->by_text[i] = s + 1;
}

KALM__FN size_t kalm__import_char(const char *s, size_t n)
{
    size_t k = n ? kalm__json_utf8((const unsigned char *)s, n) : 0;
    return k;
}
KALM__FN int kalm__import_one_char(kalm_text t) { return t.size && kalm__import_char(t.data, t.size) == t.size; }
KALM__FN int kalm__import_is_space(const char *s, size_t n)
{
    return n >= 3 && !memcmp(s, "\xe2\x96\x81", 3);
}

/* Is this added token a mark of the prompt, which no user may write? Runs of white space and tags of HTML are not, nor is
   any word that does not look like a mark: <x>, [x]. */
KALM__FN int kalm__import_is_mark(kalm_text t)
{
    static const char tags[] =
        " a abbr address article aside audio b bbox blockquote body br button caption center cite code col colgroup dd del "
        "details dfn div dl dt em embed fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i "
        "iframe img input ins kbd label legend li link main map math meta nav object ol optgroup option p param picture pre "
        "q s samp script section select small source span strike strong style sub summary sup svg table tbody td template "
        "textarea tfoot th thead time title tr track tt u ul var video wbr ";
    size_t i;
    if (t.size < 3 || !((t.data[0] == '<' && t.data[t.size - 1] == '>') || (t.data[0] == '[' && t.data[t.size - 1] == ']')))
        return 0;
    if (t.data[0] == '<') {
        const char *word = t.data + 1;
        size_t n = t.size - 2;
        if (n && *word == '/') word++, n--;
        if (n && word[n - 1] == '/') n--;
        for (i = 0; n && i + n + 2 <= sizeof tags - 1; i++)
            if (tags[i] == ' ' && !memcmp(tags + i + 1, word, n) && tags[i + 1 + n] == ' ') return 0;
    }
    return 1;
}

/* ---- tries ----------------------------------------------------------------------------------------------------- */

typedef struct kalm__import_key {
    kalm_text text;
    uint32_t  value;
} kalm__import_key;

/* qsort knows no context, so the keys carry all they need. */
KALM__FN int kalm__import_key_order(const void *a, const void *b)
{
    const kalm__import_key *x = (const kalm__import_key *)a, *y = (const kalm__import_key *)b;
    int c = memcmp(x->text.data, y->text.data, kalm__min(x->text.size, y->text.size));
    return c ? c : x->text.size < y->text.size ? -1 : x->text.size > y->text.size;
}

typedef struct kalm__import_trie {
    uint32_t *unit, *next, *before;    /* next, before: the free units as a ring through unit 0 (never free) */
    uint8_t  *state;                   /* bit 0: taken, bit 1: is some node's base */
    uint32_t  count, capacity;
} kalm__import_trie;

#define KALM__TRIE_UNITS (1u << 22)
#define KALM__TRIE_OPEN 64u            /* blocks of 256 units in which room is still looked for */

KALM__FN void kalm__import_trie_take(kalm__import_trie *w, uint32_t at)
{
    w->next[w->before[at]] = w->next[at];
    w->before[w->next[at]] = w->before[at];
    w->state[at] |= 1;
}

KALM__FN int kalm__import_trie_block(kalm__import *m, kalm__import_trie *w)
{
    uint32_t i, old = w->count;
    if (old + 256 > w->capacity) {
        uint32_t wanted = old ? old * 2 : 4096;
        kalm__import_trie v;
        if (old + 256 > KALM__TRIE_UNITS) {
            (void)kalm__fail(m->err, KALM_BAD_FILE, "%s: the vocabulary is too large", m->name);
            return 0;
        }
        v.unit = (uint32_t *)kalm__import_alloc(m, (size_t)wanted * 4);
        v.next = v.unit ? (uint32_t *)kalm__import_alloc(m, (size_t)wanted * 4) : NULL;
        v.before = v.next ? (uint32_t *)kalm__import_alloc(m, (size_t)wanted * 4) : NULL;
        v.state = v.before ? (uint8_t *)kalm__import_alloc(m, wanted) : NULL;
        if (!v.state) return 0;
        if (old) {
            memcpy(v.unit, w->unit, (size_t)old * 4);
            memcpy(v.next, w->next, (size_t)old * 4);
            memcpy(v.before, w->before, (size_t)old * 4);
            memcpy(v.state, w->state, old);
        }
        v.count = old;
        v.capacity = wanted;
        *w = v;
    }
    if (old >= KALM__TRIE_OPEN * 256)  /* the oldest open block is closed: what is free there stays free for ever */
        for (i = old - KALM__TRIE_OPEN * 256; i < old - KALM__TRIE_OPEN * 256 + 256; i++)
            if (!(w->state[i] & 1)) kalm__import_trie_take(w, i);
    for (i = old; i < old + 256; i++) {
        w->unit[i] = 0x80000000u;      /* no node */
        if (!i) {                      /* the root, and the ring's knot; a base of 0 would make it a child for NUL */
            w->state[0] = 3;
            w->next[0] = w->before[0] = 0;
            continue;
        }
        w->before[i] = w->before[0];
        w->next[i] = 0;
        w->next[w->before[0]] = i;
        w->before[0] = i;
    }
    w->count = old + 256;
    return 1;
}

/* A base at which all labels find a free unit. */
KALM__FN uint32_t kalm__import_trie_base(kalm__import *m, kalm__import_trie *w, const uint8_t *label, unsigned labels)
{
    for (;;) {
        uint32_t at = w->next[0];
        for (; at; at = w->next[at]) {
            uint32_t base = at ^ label[0];
            unsigned k;
            if (w->state[base] & 2) continue;
            for (k = 1; k < labels && !(w->state[base ^ label[k]] & 1); k++) {}
            if (k == labels) return base;
        }
        if (!kalm__import_trie_block(m, w)) return KALM__TOK_NONE;
    }
}

typedef struct kalm__import_range {
    uint32_t node, depth;              /* the node's unit; its children are told apart by byte `depth` of their keys */
    size_t   from, to;                 /* keys */
} kalm__import_range;

/* The double array of sorted, distinct keys without NUL. */
KALM__FN int kalm__import_trie_make(kalm__import *m, const kalm__import_key *key, size_t n, kalm__import_trie *w)
{
    kalm__import_range *level = (kalm__import_range *)kalm__import_alloc(m, kalm__mul(n + 1, sizeof *level));
    kalm__import_range *next = level ? (kalm__import_range *)kalm__import_alloc(m, kalm__mul(n + 1, sizeof *next)) : NULL;
    size_t width = 1, wider, w_at;
    memset(w, 0, sizeof *w);
    if (!next || !kalm__import_trie_block(m, w)) return 0;
    w->unit[0] = 0;
    level[0].node = level[0].depth = 0, level[0].from = 0, level[0].to = n;
    if (!n) width = 0;
    /* Level by level: what every walk passes lies close together. A range holds a key at least, so a level n of them. */
    for (; width; width = wider) {
        kalm__import_range *swap = level;
        for (w_at = wider = 0; w_at < width; w_at++) {
            kalm__import_range r = level[w_at];
            uint8_t label[257];
            size_t begin[258], i = r.from;
            unsigned labels = 0, k;
            uint32_t base;
            int ends = key[i].text.size == r.depth;
            if (ends) {
                label[labels] = 0;
                begin[labels++] = i++;
            }
            while (i < r.to) {
                uint8_t c = (uint8_t)key[i].text.data[r.depth];
                label[labels] = c;
                begin[labels++] = i;
                while (i < r.to && (uint8_t)key[i].text.data[r.depth] == c) i++;
            }
            begin[labels] = r.to;
            base = kalm__import_trie_base(m, w, label, labels);
            if (base == KALM__TOK_NONE) return 0;
            w->state[base] |= 2;
            w->unit[r.node] = (w->unit[r.node] & 0xff) | (ends ? 0x100u : 0u) | base << 9;
            for (k = 0; k < labels; k++) {
                uint32_t at = base ^ label[k];
                kalm__import_trie_take(w, at);
                w->unit[at] = !k && ends ? 0x80000000u | key[begin[0]].value : label[k];
                if (!k && ends) continue;
                next[wider].node = at;
                next[wider].depth = r.depth + 1;
                next[wider].from = begin[k];
                next[wider++].to = begin[k + 1];
            }
        }
        level = next;
        next = swap;
    }
    return 1;
}

/* ---- merging by the definition ----------------------------------------------------------------------------------- */

KALM__FN int kalm__import_pairs(kalm__import *m)
{
    size_t size = 1024, i, k, kept = 0;
    while (size < kalm__mul(m->merges, 2)) size *= 2;
    m->by_pair = (uint32_t *)kalm__import_alloc(m, size * sizeof *m->by_pair);
    if (!m->by_pair) return 0;
    m->by_pair_mask = size - 1;
    for (i = 0; i < m->merges; i++) {
        kalm__import_merge *a = m->merge + i, *b;
        uint64_t h = ((uint64_t)a->left << 20 | a->right) * (uint64_t)KALM__HASH_A;
        for (k = (size_t)(h >> 30) & m->by_pair_mask; m->by_pair[k]; k = (k + 1) & m->by_pair_mask) {
            b = m->merge + m->by_pair[k] - 1;
            if (b->left == a->left && b->right == a->right) break;
        }
        if (m->by_pair[k]) m->merge[m->by_pair[k] - 1] = *a;     /* twice in the file: the last one counts */
        else {
            m->merge[kept] = *a;
            m->by_pair[k] = (uint32_t)++kept;
        }
    }
    m->merges = kept;
    return 1;
}
KALM__FN const kalm__import_merge *kalm__import_pair(const kalm__import *m, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 20 | right) * (uint64_t)KALM__HASH_A;
    size_t k;
    for (k = (size_t)(h >> 30) & m->by_pair_mask; m->by_pair[k]; k = (k + 1) & m->by_pair_mask) {
        const kalm__import_merge *a = m->merge + m->by_pair[k] - 1;
        if (a->left == left && a->right == right) return a;
    }
    return NULL;
}

/* Merge the text of symbol s; does it become s? Notes the last merge and whether ranks fell on the way. */
KALM__FN void kalm__import_derive(kalm__import *m, uint32_t s)
{
    const kalm__import_merge *pair[256];
    uint32_t part[256], highest = 0;
    kalm_text t = m->symbol[s].text;
    size_t n = 0, at, i, best;
    for (at = 0; at < t.size; n++) {
        kalm_text one;
        one.data = t.data + at;
        one.size = kalm__import_char(one.data, t.size - at);
        if (!one.size || n == 256) return;
        part[n] = kalm__import_find(m, one);
        if (part[n] == KALM__TOK_NONE || !m->symbol[part[n]].leaf) return;
        at += one.size;
    }
    for (i = 0; i + 1 < n; i++) pair[i] = kalm__import_pair(m, part[i], part[i + 1]);
    while (n > 1) {
        const kalm__import_merge *low = NULL;
        best = 0;
        for (i = 0; i + 1 < n; i++)
            if (pair[i] && (!low || pair[i]->rank < low->rank)) {
                low = pair[i];
                best = i;
            }
        if (!low) return;
        if (low->rank < highest) m->symbol[s].irregular = 1;
        highest = low->rank;
        part[best] = low->made;
        if (n == 2 && low->made == s) {
            m->symbol[s].left = low->left;
            m->symbol[s].right = low->right;
            m->symbol[s].rank = low->rank + 1;
            m->symbol[s].reachable = 1;
        }
        for (i = best + 1; i + 1 < n; i++) {
            part[i] = part[i + 1];
            pair[i] = pair[i + 1];
        }
        n--;
        if (best + 1 < n) pair[best] = kalm__import_pair(m, part[best], part[best + 1]);
        if (best) pair[best - 1] = kalm__import_pair(m, part[best - 1], part[best]);
    }
}

/* How many spaces a text is, if nothing else. */
KALM__FN size_t kalm__import_run_of(kalm_text inner)
{
    size_t i;
    for (i = 0; i < inner.size && inner.data[i] == ' '; i++) {}
    return i == inner.size ? i : 0;
}

/* The run rule of bpe.h holds if
   1. tokens for 2 .. N spaces exist, and (j, 1) ranks below (1, 1) for 1 < j < N: a run that has begun to grow goes on
      growing before another begins;
   2. (N, j) is no merge for any j: at N it stops;
   3. no other token that merging makes has two spaces in a row, or a space at its end: nothing sees a part of a run;
   4. every other merge of a symbol that ends with a space on the left, or begins with one on the right, ranks above (1, 1):
      runs are made before. */
KALM__FN void kalm__import_runs(kalm__import *m)
{
    uint32_t one = KALM__TOK_NONE, i, longest = 0;
    const kalm__import_merge *first;
    size_t k;
    for (i = 0; i < 256; i++) m->run[i] = KALM__TOK_NONE;
    m->longest_run = 0;
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        size_t run;
        if (!s->reachable) continue;
        run = kalm__import_run_of(s->inner);
        if (run) {
            if (run == 1) one = i;
            m->run[run] = i;
            if (run > longest) longest = (uint32_t)run;
            continue;
        }
        if (s->inner.data[s->inner.size - 1] == ' ') return;
        for (k = 0; k + 1 < s->inner.size; k++)
            if (s->inner.data[k] == ' ' && s->inner.data[k + 1] == ' ') return;
    }
    if (one == KALM__TOK_NONE || longest < 2) return;
    first = kalm__import_pair(m, one, one);
    if (!first) return;
    for (i = 2; i <= longest; i++) {
        const kalm__import_merge *grow;
        if (m->run[i] == KALM__TOK_NONE || m->run[i] >= m->tokens || kalm__import_pair(m, m->run[longest], m->run[i])) return;
        grow = i < longest ? kalm__import_pair(m, m->run[i], one) : NULL;
        if (i < longest && (!grow || grow->rank >= first->rank || grow->made != m->run[i + 1])) return;
    }
    if (kalm__import_pair(m, m->run[longest], one)) return;
    for (k = 0; k < m->merges; k++) {
        const kalm__import_merge *a = m->merge + k;
        const kalm__import_symbol *l = m->symbol + a->left, *r = m->symbol + a->right;
        if (!l->reachable || !r->reachable || kalm__import_run_of(m->symbol[a->made].inner)) continue;
        if ((l->inner.data[l->inner.size - 1] == ' ' || r->inner.data[0] == ' ') && a->rank <= first->rank) return;
    }
    m->longest_run = longest;
}

/* ---- the blob ------------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__import_inner(kalm__import *m)
{
    uint32_t i;
    for (i = 0; i < m->symbols; i++) {
        kalm__import_symbol *s = m->symbol + i;
        char *inner;
        size_t k = 0, n = 0;
        s->inner = s->text;
        if (!(m->flags & KALM__TOK_ESCAPE) || (!s->merges && !s->added) || !s->text.size) continue;
        for (k = 0; k < s->text.size && s->text.data[k] != ' ' && !kalm__import_is_space(s->text.data + k, s->text.size - k);)
            k++;
        if (k == s->text.size) continue;
        if (memchr(s->text.data, ' ', s->text.size)) s->merges = 0;  /* no text has a space any more: never found */
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

KALM__FN void kalm__import_section(unsigned char *blob, size_t *at, unsigned section, const void *data, size_t size)
{
    kalm__put_u64(blob + 64 + 16 * section, *at);
    kalm__put_u64(blob + 72 + 16 * section, size);
    if (size) memcpy(blob + *at, data, size);
    *at += kalm__round_up(size, 64);
}

/* Numbers to little-endian bytes, in their own place. */
KALM__FN void kalm__import_words(uint32_t *word, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++) kalm__put_u32(word + i, word[i]);
}

KALM__FN uint64_t kalm__import_pair_hash(const kalm__import_merge *a)
{
    return (((uint64_t)a->left << 20 | a->right) * (uint64_t)KALM__HASH_A) & 0xffffffffffu;
}

/* A merge that can happen, which the pair table must hold. */
KALM__FN int kalm__import_lives(const kalm__import *m, const kalm__import_merge *a)
{
    return m->symbol[a->left].reachable && m->symbol[a->right].reachable && m->symbol[a->made].reachable;
}

/* How many pairs the fullest of 2^bits buckets has, at least 1; 0: no memory. */
KALM__FN size_t kalm__import_fullest(kalm__import *m, uint32_t bits)
{
    uint32_t *count = (uint32_t *)kalm__import_alloc(m, ((size_t)1 << bits) * sizeof *count);
    size_t i, most = 1;
    if (!count) return 0;
    for (i = 0; i < m->merges; i++)
        if (kalm__import_lives(m, m->merge + i))
            most = kalm__max(most, ++count[kalm__import_pair_hash(m->merge + i) >> (40 - bits)]);
    return most;
}

KALM__FN kalm_result kalm__import_compile(kalm__import *m, unsigned char **blob, size_t *blob_size)
{
    kalm__import_key *key;
    kalm__import_trie trie, added;
    size_t keys = 0, i, k, total, at, pool_size = 0, pairs = 0;
    uint32_t *starts, *buckets, *filter, *pair, *rank, *fill, bits = 8;
    unsigned char *pool, *kinds, *lengths, *splits, first[256], joins[8192], *out;
    uint32_t bytes[256], run[256];
    kalm_result r;
    if (!m->tokens) return kalm__fail(m->err, KALM_BAD_FILE, "%s: the vocabulary is empty", m->name);
    r = kalm__import_inner(m);
    if (r) return r;
    /* which symbols there are, and how they come about */
    for (i = 0; i < m->symbols; i++) {
        kalm__import_symbol *s = m->symbol + i;
        s->leaf = s->merges && kalm__import_one_char(s->text);
        if (!s->merges) continue;
        if (memchr(s->text.data, 0, s->text.size)) {
            if (!s->leaf || !(m->flags & KALM__TOK_BYTES))
                return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u holds a NUL", m->name, (unsigned)i);
            m->bytes[0] = (uint32_t)i;           /* found by the fallback: no trie has a NUL */
            s->merges = s->leaf = 0;
        }
        if (s->leaf) s->reachable = 1;
    }
    for (i = k = 0; i < m->merges; i++) {        /* merges of what cannot be a symbol never happen */
        const kalm__import_merge *a = m->merge + i;
        if (m->symbol[a->left].merges && m->symbol[a->right].merges && m->symbol[a->made].merges) m->merge[k++] = *a;
    }
    m->merges = k;
    if (!kalm__import_pairs(m)) return KALM_NO_MEMORY;
    for (i = 0; i < m->merges; i++) {
        kalm__import_symbol *s = m->symbol + m->merge[i].made;
        if (s->reachable || s->leaf) continue;
        if (s->inner.size > KALM__WALK_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u, \"%q\", is longer than %d bytes", m->name,
                              m->merge[i].made, s->text.data, s->text.size, KALM__WALK_MOST);
        s->irregular = 0;
        kalm__import_derive(m, m->merge[i].made);
    }
    kalm__import_runs(m);
    /* the trie of tokens, and the joins in it */
    key = (kalm__import_key *)kalm__import_alloc(m, kalm__mul(2 * (size_t)m->symbols + 1, sizeof *key));
    if (!key) return KALM_NO_MEMORY;
    memset(joins, 0, sizeof joins);
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        if (!s->reachable || (m->longest_run && kalm__import_run_of(s->inner) > 1)) continue;
        key[keys].text = s->inner;
        key[keys++].value = (uint32_t)i;
        for (k = 1; k < s->inner.size; k++) {
            unsigned a = (unsigned char)s->inner.data[k - 1], b = (unsigned char)s->inner.data[k];
            if ((b & 0xc0) != 0x80) joins[32 * a + b / 8] = (unsigned char)(joins[32 * a + b / 8] | 1u << (b & 7));
        }
    }
    qsort(key, keys, sizeof *key, kalm__import_key_order);
    for (i = 1; i < keys; i++)
        if (!kalm__import_key_order(key + i - 1, key + i))
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: tokens %u and %u are the same text", m->name, key[i - 1].value,
                              key[i].value);
    if (!kalm__import_trie_make(m, key, keys, &trie)) return m->err ? m->err->code : KALM_NO_MEMORY;
    /* the trie of added tokens: as published, or by SentencePiece's rules in inner form as well */
    memset(first, 0, sizeof first);
    keys = 0;
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        int differs = (m->flags & KALM__TOK_SPM) && s->inner.data != s->text.data;
        int spaces = s->text.size && memchr(s->text.data, ' ', s->text.size);
        if (!s->added || !s->text.size) continue;
        if (memchr(s->text.data, 0, s->text.size))
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: added token %u holds a NUL", m->name, (unsigned)i);
        if (s->text.size > KALM__WALK_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: added token %u is longer than %d bytes", m->name, (unsigned)i,
                              KALM__WALK_MOST);
        key[keys].text = s->text;
        key[keys++].value = (uint32_t)i | (s->added - 1u) << 24 | (differs ? 1u << 27 : 0u);
        first[(unsigned char)s->text.data[0]] = 1;
        if (differs && !spaces) {      /* U+2581 was a space before; a space itself is never left */
            key[keys].text = s->inner;
            key[keys++].value = (uint32_t)i | (s->added - 1u) << 24 | 1u << 26;
            first[(unsigned char)s->inner.data[0]] = 1;
        }
    }
    qsort(key, keys, sizeof *key, kalm__import_key_order);
    for (i = 1; i < keys; i++)
        if (!kalm__import_key_order(key + i - 1, key + i))
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: the added token \"%q\" is there twice", m->name, key[i].text.data,
                              key[i].text.size);
    if (!kalm__import_trie_make(m, key, keys, &added)) return m->err ? m->err->code : KALM_NO_MEMORY;
    /* tables by token and by symbol */
    for (i = 0; i < m->tokens; i++)
        if (m->symbol[i].text.size > KALM__TOKEN_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u is longer than %d bytes", m->name, (unsigned)i,
                              KALM__TOKEN_MOST);
    for (i = 0; i < m->tokens; i++) pool_size += m->symbol[i].kind == KALM__KIND_BYTE ? 1 : m->symbol[i].text.size;
    if (pool_size > 0x7fffffffu) return kalm__fail(m->err, KALM_BAD_FILE, "%s: the vocabulary is too large", m->name);
    starts = (uint32_t *)kalm__import_alloc(m, ((size_t)m->tokens + 1) * 4);
    pool = starts ? (unsigned char *)kalm__import_alloc(m, pool_size + 1) : NULL;
    kinds = pool ? (unsigned char *)kalm__import_alloc(m, m->tokens) : NULL;
    lengths = kinds ? (unsigned char *)kalm__import_alloc(m, m->symbols) : NULL;
    splits = lengths ? (unsigned char *)kalm__import_alloc(m, 8 * (size_t)m->symbols) : NULL;
    if (!splits) return KALM_NO_MEMORY;
    for (i = at = 0; i < m->tokens; i++) {
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
    pool_size = at;
    for (i = 0; i < m->symbols; i++) {
        const kalm__import_symbol *s = m->symbol + i;
        if (!s->reachable) continue;
        lengths[i] = (unsigned char)s->inner.size;
        kalm__put_u64(splits + 8 * i, (uint64_t)s->left | (uint64_t)s->right << 20
                                          | (uint64_t)(s->irregular ? 0xffffffu : s->rank) << 40);
    }
    /* the pair table: four pairs to a bucket, and more buckets where one has too many */
    while (bits < 24 && ((size_t)4 << bits) < m->merges) bits++;
    for (;; bits++) {
        size_t most = kalm__import_fullest(m, bits);
        if (!most) return KALM_NO_MEMORY;
        if (most <= KALM__BUCKET_MOST) break;
        if (bits == 24) return kalm__fail(m->err, KALM_BAD_FILE, "%s: %z merges have the same hash", m->name, most);
    }
    buckets = (uint32_t *)kalm__import_alloc(m, (((size_t)1 << bits) + 1) * 4);
    fill = buckets ? (uint32_t *)kalm__import_alloc(m, ((size_t)1 << bits) * 4) : NULL;
    filter = fill ? (uint32_t *)kalm__import_alloc(m, ((size_t)1 << bits) * 4) : NULL;
    pair = filter ? (uint32_t *)kalm__import_alloc(m, m->merges * 4) : NULL;
    rank = pair ? (uint32_t *)kalm__import_alloc(m, m->merges * 4) : NULL;
    if (!rank) return KALM_NO_MEMORY;
    for (k = 0; k < 2; k++) {
        if (k) {
            for (i = 0; i < (size_t)1 << bits; i++) {
                buckets[i + 1] = buckets[i] + fill[i];
                fill[i] = buckets[i];
            }
        }
        for (i = 0; i < m->merges; i++) {
            const kalm__import_merge *a = m->merge + i;
            uint64_t h = kalm__import_pair_hash(a);
            size_t bucket = (size_t)(h >> (40 - bits));
            if (!kalm__import_lives(m, a)) continue;
            if (k) {
                uint32_t rest = (uint32_t)(h & (((uint64_t)1 << (40 - bits)) - 1));
                filter[bucket] |= 1u << (rest & 31) | 1u << (rest >> 5 & 31);
                pair[fill[bucket]] = rest;
                rank[fill[bucket]] = a->rank + 1;
                pairs++;
            }
            fill[bucket]++;
        }
    }
    for (i = 0; i < 256; i++) {
        bytes[i] = m->bytes[i];
        run[i] = i >= 2 && i <= m->longest_run ? m->run[i] : 0;
    }
    kalm__import_words(starts, (size_t)m->tokens + 1);
    kalm__import_words(buckets, ((size_t)1 << bits) + 1);
    kalm__import_words(filter, (size_t)1 << bits);
    kalm__import_words(pair, pairs);
    kalm__import_words(rank, pairs);
    kalm__import_words(trie.unit, trie.count);
    kalm__import_words(added.unit, added.count);
    kalm__import_words(bytes, 256);
    kalm__import_words(run, 256);
    total = KALM__TOK_HEADER;
#define KALM__ROUND(n) total += kalm__round_up((n), 64)
    KALM__ROUND(((size_t)m->tokens + 1) * 4), KALM__ROUND(pool_size), KALM__ROUND((size_t)m->tokens);
    KALM__ROUND((size_t)trie.count * 4), KALM__ROUND((size_t)m->symbols), KALM__ROUND((size_t)m->symbols * 8);
    KALM__ROUND((((size_t)1 << bits) + 1) * 4), KALM__ROUND(pairs * 4), KALM__ROUND(pairs * 4);
    KALM__ROUND((size_t)added.count * 4), KALM__ROUND((size_t)256), KALM__ROUND((size_t)8192), KALM__ROUND((size_t)1024);
    KALM__ROUND(m->longest_run ? ((size_t)m->longest_run + 1) * 4 : 0), KALM__ROUND(m->rules_size);
    KALM__ROUND(((size_t)1 << bits) * 4), KALM__ROUND(m->texts_size), KALM__ROUND(m->unknown_text.size);
#undef KALM__ROUND
    out = (unsigned char *)kalm__alloc(&m->alloc, total);
    if (!out) return kalm__fail(m->err, KALM_NO_MEMORY, "no memory for a tokenizer of %z bytes", total);
    memset(out, 0, total);
    memcpy(out, "KALMTOK1", 8);
    kalm__put_u64(out + 8, total);
    kalm__put_u32(out + 16, m->tokens);
    kalm__put_u32(out + 20, m->symbols);
    kalm__put_u32(out + 24, m->flags);
    kalm__put_u32(out + 28, m->unknown);
    kalm__put_u32(out + 32, m->longest_run);
    kalm__put_u32(out + 36, bits);
    at = KALM__TOK_HEADER;
    for (i = 0; i < KALM__TOK_SECTIONS; i++) kalm__put_u64(out + 64 + 16 * i, KALM__TOK_HEADER);
    kalm__import_section(out, &at, KALM__SEC_STARTS, starts, ((size_t)m->tokens + 1) * 4);
    kalm__import_section(out, &at, KALM__SEC_POOL, pool, pool_size);
    kalm__import_section(out, &at, KALM__SEC_KINDS, kinds, m->tokens);
    kalm__import_section(out, &at, KALM__SEC_TRIE, trie.unit, (size_t)trie.count * 4);
    kalm__import_section(out, &at, KALM__SEC_LENGTHS, lengths, m->symbols);
    kalm__import_section(out, &at, KALM__SEC_SPLITS, splits, (size_t)m->symbols * 8);
    kalm__import_section(out, &at, KALM__SEC_BUCKETS, buckets, (((size_t)1 << bits) + 1) * 4);
    kalm__import_section(out, &at, KALM__SEC_PAIRS, pair, pairs * 4);
    kalm__import_section(out, &at, KALM__SEC_RANKS, rank, pairs * 4);
    kalm__import_section(out, &at, KALM__SEC_ADDED, added.unit, (size_t)added.count * 4);
    kalm__import_section(out, &at, KALM__SEC_FIRST, first, 256);
    kalm__import_section(out, &at, KALM__SEC_JOINS, joins, sizeof joins);
    kalm__import_section(out, &at, KALM__SEC_BYTES, bytes, 1024);
    kalm__import_section(out, &at, KALM__SEC_RUNS, run, m->longest_run ? ((size_t)m->longest_run + 1) * 4 : 0);
    kalm__import_section(out, &at, KALM__SEC_RULES, m->rules, m->rules_size);
    kalm__import_section(out, &at, KALM__SEC_TEXTS, m->rules ? m->rules + m->rules_size : NULL, m->texts_size);
    kalm__import_section(out, &at, KALM__SEC_FILTER, filter, ((size_t)1 << bits) * 4);
    kalm__import_section(out, &at, KALM__SEC_UNKNOWN, m->unknown_text.data, m->unknown_text.size);
    *blob = out;
    *blob_size = total;
    return KALM_OK;
}

/* <0x00> .. <0xFF>: the byte, or -1. */
KALM__FN int kalm__import_byte(kalm_text t)
{
    int v = 0, i;
    if (t.size != 6 || memcmp(t.data, "<0x", 3) || t.data[5] != '>') return -1;
    for (i = 3; i < 5; i++) {
        char c = t.data[i];
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

KALM__FN void kalm__import_begin(kalm__import *m, const char *name, const kalm_allocator *alloc, kalm_error *err)
{
    unsigned i;
    memset(m, 0, sizeof *m);
    m->alloc = *alloc;
    m->err = err;
    m->name = name;
    m->unknown = KALM__TOK_NONE;
    for (i = 0; i < 256; i++) m->bytes[i] = KALM__TOK_NONE;
}
KALM__FN void kalm__import_end(kalm__import *m)
{
    while (m->blocks) {
        kalm__import_block *b = m->blocks;
        m->blocks = b->next;
        kalm__release(&m->alloc, b, b->size);
    }
}

/* ---- tokenizer.json --------------------------------------------------------------------------------------------- */

KALM__FN kalm_result kalm__import_refuse(const kalm__import *m, const kalm__json *j, uint32_t node, const char *what)
{
    return kalm__json_fail_node(j, node, m->err, what);
}

/* A member that is there and not null. */
KALM__FN uint32_t kalm__import_member(const kalm__json *j, uint32_t i, const char *key)
{
    uint32_t v = kalm__json_get(j, i, key);
    return v && kalm__json_type(j, v) != KALM__JSON_NULL ? v : 0;
}
KALM__FN int kalm__import_true(const kalm__json *j, uint32_t i, const char *key)
{
    return kalm__json_type(j, kalm__json_get(j, i, key)) == KALM__JSON_TRUE && kalm__json_get(j, i, key);
}

/* {"type": "Replace", "pattern": {"String": from}, "content": to} */
KALM__FN int kalm__import_replaces(const kalm__json *j, uint32_t i, const char *from, const char *to)
{
    return kalm__json_is(j, kalm__json_get(j, i, "type"), "Replace")
        && kalm__json_is(j, kalm__json_get(j, kalm__json_get(j, i, "pattern"), "String"), from)
        && kalm__json_is(j, kalm__json_get(j, i, "content"), to);
}

KALM__FN kalm_result kalm__import_normalizer(kalm__import *m, const kalm__json *j, uint32_t i)
{
    uint32_t list, at, type = kalm__json_get(j, i, "type");
    static const char forms[4][5] = { "NFC", "NFKC", "NFD", "NFKD" };
    uint32_t f;
    if (kalm__json_is(j, type, "Sequence")) {
        list = kalm__json_get(j, i, "normalizers");
        if (!list || kalm__json_type(j, list) != KALM__JSON_ARRAY)
            return kalm__import_refuse(m, j, i, "a sequence of normalizers has none");
        for (at = list + 1; at < j->nodes[list].next; at = j->nodes[at].next) {
            kalm_result r;
            if (kalm__json_is(j, kalm__json_get(j, at, "type"), "Sequence"))
                return kalm__import_refuse(m, j, at, "a normalizer is a sequence inside a sequence");
            r = kalm__import_normalizer(m, j, at);
            if (r) return r;
        }
        return KALM_OK;
    }
    if (kalm__import_replaces(j, i, " ", "\xe2\x96\x81")) {
        m->flags |= KALM__TOK_ESCAPE;
        return KALM_OK;
    }
    if (kalm__json_is(j, type, "Prepend") && kalm__json_is(j, kalm__json_get(j, i, "prepend"), "\xe2\x96\x81")
        && !(m->flags & (KALM__TOK_ESCAPE | KALM__TOK_PREFIX))) {
        m->flags |= KALM__TOK_PREFIX;
        return KALM_OK;
    }
    for (f = 0; f < 4; f++)
        if (kalm__json_is(j, type, forms[f])) {
            if (m->flags & (KALM__TOK_NORMAL | KALM__TOK_ESCAPE | KALM__TOK_PREFIX))
                return kalm__import_refuse(m, j, i, "a Unicode normal form must be the first normalizer, and the only one");
            m->flags |= KALM__TOK_NORMAL | f << KALM__TOK_FORM_AT;
            return KALM_OK;
        }
    return kalm__import_refuse(m, j, i, "this normalizer is none that the library knows");
}

KALM__FN kalm_result kalm__import_pre_tokenizer(kalm__import *m, const kalm__json *j, uint32_t i)
{
    uint32_t type = kalm__json_get(j, i, "type");
    if (kalm__json_is(j, type, "Split") && (m->flags & KALM__TOK_ESCAPE)
        && kalm__json_is(j, kalm__json_get(j, kalm__json_get(j, i, "pattern"), "String"), " "))
        return KALM_OK;                /* never matches: the normalizer has left no space */
    if (kalm__json_is(j, type, "Metaspace") && kalm__json_is(j, kalm__json_get(j, i, "replacement"), "\xe2\x96\x81")
        && kalm__json_type(j, kalm__json_get(j, i, "split")) == KALM__JSON_FALSE) {
        uint32_t scheme = kalm__json_get(j, i, "prepend_scheme");
        if (m->flags & KALM__TOK_PREFIX) return kalm__import_refuse(m, j, i, "two parts of it put a space first");
        m->flags |= KALM__TOK_ESCAPE;
        if (kalm__json_is(j, scheme, "always")) m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS;
        else if (kalm__json_is(j, scheme, "first")) m->flags |= KALM__TOK_PREFIX | KALM__TOK_UNLESS | KALM__TOK_FIRST;
        else if (!kalm__json_is(j, scheme, "never"))
            return kalm__import_refuse(m, j, i, "a Metaspace has no prepend_scheme that the library knows");
        return KALM_OK;
    }
    return kalm__import_refuse(m, j, i, "this pre-tokenizer is none that the library knows (it reads those of SentencePiece "
                                        "kind, which leave the text whole)");
}

KALM__FN kalm_result kalm__import_decoder(kalm__import *m, const kalm__json *j, uint32_t i)
{
    uint32_t list, at, type = kalm__json_get(j, i, "type");
    if (kalm__json_is(j, type, "Sequence")) {
        list = kalm__json_get(j, i, "decoders");
        if (!list || kalm__json_type(j, list) != KALM__JSON_ARRAY)
            return kalm__import_refuse(m, j, i, "a sequence of decoders has none");
        for (at = list + 1; at < j->nodes[list].next; at = j->nodes[at].next) {
            uint32_t t = kalm__json_get(j, at, "type");
            uint64_t n;
            if (kalm__import_replaces(j, at, "\xe2\x96\x81", " ") || kalm__json_is(j, t, "ByteFallback")
                || kalm__json_is(j, t, "Fuse")) continue;
            if (kalm__json_is(j, t, "Strip") && kalm__json_is(j, kalm__json_get(j, at, "content"), " ")
                && kalm__json_uint(j, kalm__json_get(j, at, "start"), &n) && n == 1
                && kalm__json_uint(j, kalm__json_get(j, at, "stop"), &n) && n == 0) {
                m->flags |= KALM__TOK_STRIP;
                continue;
            }
            return kalm__import_refuse(m, j, at, "this decoder is none that the library knows");
        }
        return KALM_OK;
    }
    if (kalm__json_is(j, type, "Metaspace")) {
        if (m->flags & KALM__TOK_PREFIX) m->flags |= KALM__TOK_STRIP;
        return KALM_OK;
    }
    return kalm__import_refuse(m, j, i, "this decoder is none that the library knows");
}

KALM__FN kalm_result kalm__import_json(kalm__import *m, const kalm__json *j)
{
    uint32_t model = kalm__json_get(j, 0, "model"), vocab, merges, added, node, at, most = 0, i;
    uint64_t id;
    kalm_result r;
    int on;
    if (kalm__json_type(j, 0) != KALM__JSON_OBJECT || !model || kalm__json_type(j, model) != KALM__JSON_OBJECT)
        return kalm__import_refuse(m, j, 0, "this is no tokenizer.json: it has no \"model\"");
    vocab = kalm__json_get(j, model, "vocab");
    merges = kalm__json_get(j, model, "merges");
    node = kalm__json_get(j, model, "type");
    if (node && !kalm__json_is(j, node, "BPE"))
        return kalm__import_refuse(m, j, node, "the model is not BPE; Unigram, WordPiece and WordLevel are not supported");
    if (!vocab || kalm__json_type(j, vocab) != KALM__JSON_OBJECT || !merges
        || kalm__json_type(j, merges) != KALM__JSON_ARRAY)
        return kalm__import_refuse(m, j, model, "the model has no vocab and merges, so it is not BPE");
    node = kalm__import_member(j, model, "dropout");
    if (node) {
        double p;
        if (!kalm__json_double(j, node, &p) || p > 0) return kalm__import_refuse(m, j, node, "a BPE dropout is not supported");
    }
    if ((node = kalm__import_member(j, model, "continuing_subword_prefix")) != 0 && !kalm__json_is(j, node, ""))
        return kalm__import_refuse(m, j, node, "a continuing_subword_prefix is not supported");
    if ((node = kalm__import_member(j, model, "end_of_word_suffix")) != 0 && !kalm__json_is(j, node, ""))
        return kalm__import_refuse(m, j, node, "an end_of_word_suffix is not supported");
    if (kalm__import_true(j, model, "ignore_merges"))
        return kalm__import_refuse(m, j, kalm__json_get(j, model, "ignore_merges"), "ignore_merges is not supported");
    if (kalm__import_true(j, model, "byte_fallback")) m->flags |= KALM__TOK_BYTES;
    if (kalm__import_true(j, model, "fuse_unk")) m->flags |= KALM__TOK_FUSE;
    if ((node = kalm__import_member(j, 0, "normalizer")) != 0 && (r = kalm__import_normalizer(m, j, node)) != KALM_OK) return r;
    if ((m->flags & KALM__TOK_PREFIX) && !(m->flags & KALM__TOK_ESCAPE))
        return kalm__import_refuse(m, j, node, "a prefix of U+2581 without spaces written so is not supported");
    if ((node = kalm__import_member(j, 0, "pre_tokenizer")) != 0 && (r = kalm__import_pre_tokenizer(m, j, node)) != KALM_OK)
        return r;
    if ((node = kalm__import_member(j, 0, "decoder")) != 0 && (r = kalm__import_decoder(m, j, node)) != KALM_OK) return r;

    /* tokens: the vocabulary's and the added ones */
    added = kalm__import_member(j, 0, "added_tokens");
    if (added && kalm__json_type(j, added) != KALM__JSON_ARRAY)
        return kalm__import_refuse(m, j, added, "added_tokens is no array");
    for (at = vocab + 1; at < j->nodes[vocab].next; at = j->nodes[at + 1].next) {
        if (!kalm__json_uint(j, at + 1, &id) || id >= 1u << 20)
            return kalm__import_refuse(m, j, at + 1, "a token's id is not a whole number below 1048576");
        if (id > most) most = (uint32_t)id;
    }
    if (added)
        for (at = added + 1; at < j->nodes[added].next; at = j->nodes[at].next) {
            if (!kalm__json_uint(j, kalm__json_get(j, at, "id"), &id) || id >= 1u << 20)
                return kalm__import_refuse(m, j, at, "an added token's id is not a whole number below 1048576");
            if (id > most) most = (uint32_t)id;
        }
    m->tokens = m->symbols = most + 1;
    m->symbol = (kalm__import_symbol *)kalm__import_alloc(m, kalm__mul(m->symbols, sizeof *m->symbol));
    if (!m->symbol || !kalm__import_index(m, m->symbols)) return KALM_NO_MEMORY;
    for (i = 0; i < m->symbols; i++) m->symbol[i].kind = KALM__KIND_NONE;
    for (at = vocab + 1; at < j->nodes[vocab].next; at = j->nodes[at + 1].next) {
        kalm__import_symbol *s;
        int byte;
        (void)kalm__json_uint(j, at + 1, &id);
        s = m->symbol + id;
        if (s->kind != KALM__KIND_NONE) return kalm__import_refuse(m, j, at + 1, "two tokens have this id");
        s->text = kalm__json_text(j, at);
        if (kalm__import_find(m, s->text) != KALM__TOK_NONE)
            return kalm__import_refuse(m, j, at, "this token is there twice");
        byte = m->flags & KALM__TOK_BYTES ? kalm__import_byte(s->text) : -1;
        s->kind = byte >= 0 ? KALM__KIND_BYTE : KALM__KIND_TEXT;
        s->merges = byte < 0 && s->text.size;
        if (byte >= 0) m->bytes[byte] = (uint32_t)id;
        kalm__import_enter(m, (uint32_t)id);
    }
    for (at = added ? added + 1 : 0; added && at < j->nodes[added].next; at = j->nodes[at].next) {
        uint32_t content = kalm__json_get(j, at, "content"), known;
        kalm_text text = kalm__json_text(j, content);
        kalm__import_symbol *s;
        (void)kalm__json_uint(j, kalm__json_get(j, at, "id"), &id);
        if (!content || kalm__json_type(j, content) != KALM__JSON_STRING)
            return kalm__import_refuse(m, j, at, "an added token has no content");
        if (!text.size) continue;
        if (kalm__import_true(j, at, "lstrip") || kalm__import_true(j, at, "rstrip") || kalm__import_true(j, at, "single_word"))
            return kalm__import_refuse(m, j, at, "an added token with lstrip, rstrip or single_word is not supported");
        if (kalm__import_true(j, at, "normalized")) {
            size_t k;
            for (k = 0; k < text.size; k++)
                if (text.data[k] == ' ' || (unsigned char)text.data[k] >= 0x80)
                    return kalm__import_refuse(m, j, at, "an added token that is normalized must be of ASCII without spaces");
        }
        s = m->symbol + id;
        known = kalm__import_find(m, text);
        if (known != KALM__TOK_NONE ? known != id : s->kind != KALM__KIND_NONE)
            return kalm__import_refuse(m, j, at, "an added token and the vocabulary disagree about this id");
        if (s->kind == KALM__KIND_NONE) {
            s->text = text;
            s->kind = KALM__KIND_TEXT;
            kalm__import_enter(m, (uint32_t)id);
        }
        on = kalm__import_true(j, at, "special") || kalm__import_is_mark(text);
        s->added = (uint8_t)(1 + (on ? KALM__CLASS_CONTROL : KALM__CLASS_TEXT));
        if (on) s->merges = 0;         /* a mark must not come about by merging what a user wrote */
    }
    node = kalm__import_member(j, model, "unk_token");
    if (node) {
        m->unknown = kalm__import_find(m, kalm__json_text(j, node));
        if (m->unknown == KALM__TOK_NONE) return kalm__import_refuse(m, j, node, "the unknown token is not in the vocabulary");
    }
    for (i = 0; i < 256 && m->bytes[i] != KALM__TOK_NONE; i++) {}
    if (m->unknown == KALM__TOK_NONE && (i < 256 || !(m->flags & KALM__TOK_BYTES)))
        return kalm__import_refuse(m, j, model, "it has neither all byte tokens nor an unknown token");

    m->merge = (kalm__import_merge *)kalm__import_alloc(m, kalm__mul(j->nodes[merges].size, sizeof *m->merge));
    if (!m->merge) return KALM_NO_MEMORY;
    if (j->nodes[merges].size > KALM__IMPORT_RANKS) return kalm__import_refuse(m, j, merges, "there are too many merges");
    for (at = merges + 1; at < j->nodes[merges].next; at = j->nodes[at].next) {
        kalm__import_merge *a = m->merge + m->merges;
        kalm_text left, right;
        if (kalm__json_type(j, at) == KALM__JSON_STRING) {
            const char *space;
            left = kalm__json_text(j, at);
            space = (const char *)memchr(left.data, ' ', left.size);
            if (!space || memchr(space + 1, ' ', left.size - (size_t)(space + 1 - left.data)))
                return kalm__import_refuse(m, j, at, "a merge is not two tokens with a space between them");
            right.data = space + 1;
            right.size = left.size - (size_t)(right.data - left.data);
            left.size = (size_t)(space - left.data);
        } else {
            if (kalm__json_type(j, at) != KALM__JSON_ARRAY || j->nodes[at].size != 2
                || kalm__json_type(j, at + 1) != KALM__JSON_STRING
                || kalm__json_type(j, j->nodes[at + 1].next) != KALM__JSON_STRING)
                return kalm__import_refuse(m, j, at, "a merge is not an array of two tokens");
            left = kalm__json_text(j, at + 1);
            right = kalm__json_text(j, j->nodes[at + 1].next);
        }
        if (!left.size || !right.size) return kalm__import_refuse(m, j, at, "a merge has an empty side");
        a->left = kalm__import_find(m, left);
        a->right = kalm__import_find(m, right);
        a->made = kalm__import_find2(m, left, right);
        a->rank = (uint32_t)m->merges++;
        if (a->left == KALM__TOK_NONE || a->right == KALM__TOK_NONE || a->made == KALM__TOK_NONE)
            return kalm__import_refuse(m, j, at, "a merge joins or makes what is no token");
        if (m->symbol[a->left].kind == KALM__KIND_BYTE || m->symbol[a->right].kind == KALM__KIND_BYTE)
            return kalm__import_refuse(m, j, at, "a merge of byte tokens is not supported");
    }
    return KALM_OK;
}

/* ---- tokenizer.model ------------------------------------------------------------------------------------------- */

typedef struct kalm__proto {
    const unsigned char *at, *end;
    uint64_t field, value;             /* value: of a varint, or the bits of a fixed number */
    kalm_text bytes;                   /* of a length-delimited field */
    unsigned wire;
} kalm__proto;

KALM__FN int kalm__proto_varint(kalm__proto *p, uint64_t *value)
{
    unsigned shift = 0;
    *value = 0;
    while (p->at < p->end && shift < 64) {
        unsigned c = *p->at++;
        *value |= (uint64_t)(c & 127) << shift;
        if (!(c & 128)) return 1;
        shift += 7;
    }
    return 0;
}

/* The next field: 1, 0 at the end, -1 when it is damaged. */
KALM__FN int kalm__proto_next(kalm__proto *p)
{
    uint64_t tag;
    if (p->at == p->end) return 0;
    if (!kalm__proto_varint(p, &tag) || !(tag >> 3)) return -1;
    p->field = tag >> 3;
    p->wire = (unsigned)tag & 7;
    p->value = 0;
    p->bytes.data = NULL;
    p->bytes.size = 0;
    switch (p->wire) {
    case 0: return kalm__proto_varint(p, &p->value) ? 1 : -1;
    case 1:
        if (p->end - p->at < 8) return -1;
        p->value = kalm__u64(p->at);
        p->at += 8;
        return 1;
    case 2:
        if (!kalm__proto_varint(p, &p->value) || p->value > (uint64_t)(p->end - p->at)) return -1;
        p->bytes.data = (const char *)p->at;
        p->bytes.size = (size_t)p->value;
        p->at += p->bytes.size;
        return 1;
    case 5:
        if (p->end - p->at < 4) return -1;
        p->value = kalm__u32(p->at);
        p->at += 4;
        return 1;
    default: return -1;
    }
}
KALM__FN void kalm__proto_begin(kalm__proto *p, const char *data, size_t size)
{
    memset(p, 0, sizeof *p);
    p->at = (const unsigned char *)data;
    p->end = p->at + size;
}

KALM__FN int kalm__import_score_order(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x > y ? -1 : x < y;         /* the best first */
}

/* Gemma's own tokenizer.model is meant to be read by Hugging Face's rules (its pieces 0 .. 3 are found in raw text). */
KALM__FN int kalm__import_is_gemma(const kalm__import *m, const unsigned char *types)
{
    static const char *const begin[4] = { "<pad>", "<eos>", "<bos>", "<unk>" };
    static const struct { uint32_t id; const char *text; } more[3] = {
        { 105, "<start_of_turn>" }, { 106, "<end_of_turn>" }, { 255999, "<start_of_image>" }
    };
    unsigned i;
    if (m->tokens < 262144 || types[105] != 4) return 0;
    for (i = 0; i < 4; i++)
        if (m->symbol[i].text.size != 5 || memcmp(m->symbol[i].text.data, begin[i], 5)) return 0;
    for (i = 0; i < 3; i++)
        if (m->symbol[more[i].id].text.size != strlen(more[i].text)
            || memcmp(m->symbol[more[i].id].text.data, more[i].text, strlen(more[i].text))) return 0;
    return 1;
}

/* White space only, two or more of the same character: what Hugging Face's form of Gemma's file makes by merging. */
KALM__FN size_t kalm__import_white_run(kalm_text t)
{
    size_t unit = kalm__import_is_space(t.data, t.size) ? 3 : t.size && (t.data[0] == '\n' || t.data[0] == '\t') ? 1 : 0, i;
    if (!unit || t.size % unit || t.size == unit) return 0;
    for (i = unit; i < t.size; i += unit)
        if (memcmp(t.data, t.data + i, unit)) return 0;
    return t.size / unit;
}

KALM__FN kalm_result kalm__import_proto(kalm__import *m, const char *data, size_t size)
{
    kalm__proto p, q;
    uint64_t model_type = 1;
    int r, prefix = 1, trim = 1, escape = 1, suffix = 0, byte_fallback = 0, gemma;
    kalm_text charsmap, denormal, surface;
    unsigned char *types;
    float *scores;
    size_t pieces = 0, splits = 0, distinct, i;
    uint32_t s, symbols;
    static const unsigned char kinds[7] = {
        KALM__KIND_NONE, KALM__KIND_TEXT, KALM__KIND_UNKNOWN, KALM__KIND_CONTROL, KALM__KIND_TEXT, KALM__KIND_UNUSED,
        KALM__KIND_BYTE
    };
    charsmap.data = denormal.data = NULL;
    charsmap.size = denormal.size = 0;
    surface.data = " \xe2\x81\x87 ";   /* spaces around U+2047 */
    surface.size = 5;
    kalm__proto_begin(&p, data, size);
    while ((r = kalm__proto_next(&p)) > 0)
        if (p.field == 1 && p.wire == 2) pieces++;
    if (r < 0)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s is no tokenizer: no JSON, and as protobuf damaged at byte %z", m->name,
                          (size_t)(p.at - (const unsigned char *)data));
    if (!pieces) return kalm__fail(m->err, KALM_BAD_FILE, "%s is no tokenizer: it has no pieces", m->name);
    if (pieces > 1u << 20) return kalm__fail(m->err, KALM_BAD_FILE, "%s: %z pieces are too many", m->name, pieces);
    m->tokens = (uint32_t)pieces;
    m->symbol = (kalm__import_symbol *)kalm__import_alloc(m, kalm__mul(pieces * 2, sizeof *m->symbol));
    types = m->symbol ? (unsigned char *)kalm__import_alloc(m, pieces) : NULL;
    scores = types ? (float *)kalm__import_alloc(m, pieces * sizeof *scores) : NULL;
    if (!scores || !kalm__import_index(m, pieces * 2)) return KALM_NO_MEMORY;
    kalm__proto_begin(&p, data, size);
    s = 0;
    while (kalm__proto_next(&p) > 0) {
        if (p.wire != 2) continue;
        kalm__proto_begin(&q, p.bytes.data, p.bytes.size);
        if (p.field == 1) {
            uint64_t type = 1;
            kalm__import_symbol *piece = m->symbol + s;
            while ((r = kalm__proto_next(&q)) > 0) {
                if (q.field == 1 && q.wire == 2) piece->text = q.bytes;
                if (q.field == 2 && q.wire == 5) {
                    uint32_t word = (uint32_t)q.value;
                    memcpy(&piece->score, &word, 4);
                }
                if (q.field == 3 && q.wire == 0) type = q.value;
            }
            if (r < 0 || type < 1 || type > 6 || !(piece->score - piece->score >= 0))
                return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u is damaged", m->name, s);
            for (i = 0; i < piece->text.size;) {
                size_t k = kalm__import_char(piece->text.data + i, piece->text.size - i);
                if (!k) return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u is not UTF-8", m->name, s);
                i += k;
            }
            types[s] = (unsigned char)type;
            piece->kind = kinds[type];
            if (type == 6) {
                r = kalm__import_byte(piece->text);
                if (r < 0) return kalm__fail(m->err, KALM_BAD_FILE, "%s: byte piece %u is \"%q\"", m->name, s,
                                             piece->text.data, piece->text.size);
                m->bytes[r] = s;
            } else if (type == 2) m->unknown = s;
            s++;
        } else if (p.field == 2) {
            while ((r = kalm__proto_next(&q)) > 0) {
                if (q.field == 3 && q.wire == 0) model_type = q.value;
                if (q.field == 24 && q.wire == 0) suffix = q.value != 0;
                if (q.field == 35 && q.wire == 0) byte_fallback = q.value != 0;
                if (q.field == 44 && q.wire == 2) surface = q.bytes;
            }
            if (r < 0) return kalm__fail(m->err, KALM_BAD_FILE, "%s: its trainer_spec is damaged", m->name);
        } else if (p.field == 3 || p.field == 5) {
            while ((r = kalm__proto_next(&q)) > 0) {
                if (q.field == 2 && q.wire == 2) *(p.field == 3 ? &charsmap : &denormal) = q.bytes;
                if (p.field != 3 || q.wire != 0) continue;
                if (q.field == 3) prefix = q.value != 0;
                if (q.field == 4) trim = q.value != 0;
                if (q.field == 5) escape = q.value != 0;
            }
            if (r < 0) return kalm__fail(m->err, KALM_BAD_FILE, "%s: its normalizer_spec is damaged", m->name);
        }
    }
    if (model_type != 2)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s is a SentencePiece model of type %s; only BPE is supported", m->name,
                          model_type == 1 ? "unigram" : model_type == 3 ? "word" : model_type == 4 ? "char" : "unknown");
    if (denormal.size) return kalm__fail(m->err, KALM_BAD_FILE, "%s: a denormalizer is not supported", m->name);
    if (charsmap.size) {
        size_t trie = charsmap.size >= 4 ? kalm__u32(charsmap.data) : 0;
        if (charsmap.size < 4 || trie > charsmap.size - 4 || trie < 4 || trie % 4 || charsmap.size - 4 == trie
            || charsmap.data[charsmap.size - 1])
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: its precompiled_charsmap is damaged", m->name);
        m->rules = (const unsigned char *)charsmap.data + 4;
        m->rules_size = trie;
        m->texts_size = charsmap.size - 4 - trie;
    }
    gemma = escape && !prefix && !trim && !suffix && byte_fallback && !charsmap.size && kalm__import_is_gemma(m, types);
    m->flags = KALM__TOK_FUSE;
    if (escape) m->flags |= KALM__TOK_ESCAPE;
    if (byte_fallback) m->flags |= KALM__TOK_BYTES;
    if (!gemma) {
        m->flags |= KALM__TOK_SPM;
        if (prefix) m->flags |= KALM__TOK_PREFIX;
        if (trim) m->flags |= KALM__TOK_TRIM;
        if (suffix) m->flags |= KALM__TOK_SUFFIX;
    }
    m->unknown_text = surface;
    if (m->unknown == KALM__TOK_NONE) return kalm__fail(m->err, KALM_BAD_FILE, "%s has no unknown piece", m->name);

    /* symbols: normal and unused pieces, and single characters of theirs that are no such pieces */
    for (s = 0; s < m->tokens; s++) {
        kalm__import_symbol *piece = m->symbol + s;
        int word = types[s] == 1 || types[s] == 5;
        if (types[s] == 5) m->flags |= KALM__TOK_UNUSED;
        if (types[s] == 4)
            piece->added = (uint8_t)(1 + (kalm__import_is_mark(piece->text) ? KALM__CLASS_CONTROL : KALM__CLASS_TEXT));
        if (types[s] == 3 || (gemma && types[s] == 2)) piece->added = (uint8_t)(1 + (gemma ? KALM__CLASS_CONTROL
                                                                                          : KALM__CLASS_TEMPLATE));
        if (gemma) {
            if (types[s] == 3 || types[s] == 2) piece->kind = KALM__KIND_TEXT;
            if (types[s] == 4 && kalm__import_white_run(piece->text)) word = 1;
        }
        if (!piece->text.size) word = 0;
        piece->merges = (uint8_t)word;
        if (!word) continue;
        if (kalm__import_find(m, piece->text) != KALM__TOK_NONE)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: piece %u is there twice", m->name, s);
        kalm__import_enter(m, s);
    }
    symbols = m->tokens;
    for (s = 0; s < m->tokens; s++) {
        const kalm__import_symbol *piece = m->symbol + s;
        if (!piece->merges) continue;
        for (i = 0; i < piece->text.size;) {
            kalm_text one;
            one.data = piece->text.data + i;
            one.size = kalm__import_char(one.data, piece->text.size - i);
            i += one.size;
            if (i < piece->text.size) splits++;
            if (kalm__import_find(m, one) != KALM__TOK_NONE) continue;
            if (symbols == 2 * m->tokens || symbols == 1u << 20)
                return kalm__fail(m->err, KALM_BAD_FILE, "%s: too many characters are no pieces", m->name);
            m->symbol[symbols].text = one;
            m->symbol[symbols].kind = KALM__KIND_NONE;
            m->symbol[symbols].merges = 1;
            kalm__import_enter(m, symbols++);
        }
    }
    m->symbols = symbols;

    /* every split of a piece into two symbols is a merge; equal scores are equal ranks */
    m->merge = (kalm__import_merge *)kalm__import_alloc(m, kalm__mul(splits, sizeof *m->merge));
    if (!m->merge) return KALM_NO_MEMORY;
    for (s = 0, distinct = 0; s < m->tokens; s++)
        if (m->symbol[s].merges) {
            if (gemma && kalm__import_white_run(m->symbol[s].text))  /* longest first, before all others */
                m->symbol[s].score = 1e6f + (float)m->symbol[s].text.size;
            scores[distinct++] = m->symbol[s].score;
        }
    qsort(scores, distinct, sizeof *scores, kalm__import_score_order);
    for (i = 1, pieces = distinct ? 1 : 0; i < distinct; i++)
        if (scores[i] < scores[pieces - 1]) scores[pieces++] = scores[i];
    for (s = 0; s < m->tokens; s++) {
        const kalm__import_symbol *piece = m->symbol + s;
        size_t low = 0, high = pieces;
        if (!piece->merges) continue;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (scores[middle] > piece->score) low = middle + 1;
            else high = middle;
        }
        for (i = 0; i < piece->text.size;) {
            kalm_text left, right;
            uint32_t a, b;
            i += kalm__import_char(piece->text.data + i, piece->text.size - i);
            left.data = piece->text.data;
            left.size = i;
            right.data = left.data + i;
            right.size = piece->text.size - i;
            if (!right.size) break;
            a = kalm__import_find(m, left);
            b = a != KALM__TOK_NONE ? kalm__import_find(m, right) : KALM__TOK_NONE;
            if (b == KALM__TOK_NONE) continue;
            m->merge[m->merges].left = a;
            m->merge[m->merges].right = b;
            m->merge[m->merges].made = s;
            m->merge[m->merges++].rank = (uint32_t)low;
        }
    }
    return KALM_OK;
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

/* The blob of a tokenizer.json or tokenizer.model, told apart by their first byte. *blob is from `alloc`, *blob_size bytes,
   and the caller's to release. `name` is for errors. */
KALM__FN kalm_result kalm__import_tokenizer(const char *name, const void *data, size_t size, const kalm_allocator *alloc,
                                            unsigned char **blob, size_t *blob_size, kalm_error *err)
{
    const char *text = size ? (const char *)data : "";       /* NULL has no place 0 to count from */
    kalm__import m;
    kalm__json j;
    kalm_error own;
    kalm_result r;
    size_t i = 0;
    if (!err) err = &own;
    kalm__no_error(err);
    *blob = NULL;
    *blob_size = 0;
    kalm__import_begin(&m, name, alloc, err);
    kalm__json_begin(&j, alloc);
    while (i < size && (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')) i++;
    if (i < size && text[i] == '{' && (i == 0 || text[0] != '\n' || size < 2 || text[1] != '{')) {
        r = kalm__json_parse(&j, name, text, size, err);
        if (r == KALM_OK) r = kalm__import_json(&m, &j);
    } else r = kalm__import_proto(&m, text, size);
    if (r == KALM_OK) r = kalm__import_compile(&m, blob, blob_size);
    kalm__json_end(&j);
    kalm__import_end(&m);
    return r;
}

#endif
