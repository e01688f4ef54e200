/* import_trie.h - makes the tries of vocab.h: double arrays of sorted texts. */
#ifndef KALM__IMPORT_TRIE_H
#define KALM__IMPORT_TRIE_H

#include "import_symbols.h"

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

#endif
