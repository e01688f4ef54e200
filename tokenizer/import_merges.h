/* import_merges.h - what the runtime must not have to work out about merges: which tokens merging can produce, how each comes
   apart again, and whether runs of spaces can be counted (bpe.h says what for). */
#ifndef KALM__IMPORT_MERGES_H
#define KALM__IMPORT_MERGES_H

#include "import_symbols.h"

/* Where a pair is in the hash table, or where it would go; KALM__TOK_NONE: the table is too crowded there. */
KALM__FN size_t kalm__import_pair_place(const kalm__import *m, uint32_t left, uint32_t right)
{
    size_t i = (size_t)((((uint64_t)left << 20 | right) * (uint64_t)KALM__HASH_A) >> 30), probes;
    for (probes = 0; probes < KALM__IMPORT_PROBES; probes++, i++) {
        uint32_t at = m->by_pair[i & m->by_pair_mask];
        if (!at || (m->merge[at - 1].left == left && m->merge[at - 1].right == right)) return i & m->by_pair_mask;
    }
    return KALM__TOK_NONE;
}

/* The merge of two symbols; NULL: there is none. */
KALM__FN const kalm__import_merge *kalm__import_pair(const kalm__import *m, uint32_t left, uint32_t right)
{
    size_t at = kalm__import_pair_place(m, left, right);
    return at == KALM__TOK_NONE || !m->by_pair[at] ? NULL : m->merge + m->by_pair[at] - 1;
}

/* Make the hash table of pairs. A pair that is there twice counts once, with its last rank. */
KALM__FN kalm_result kalm__import_pairs(kalm__import *m)
{
    size_t size = 1024, i, kept = 0;
    while (size < kalm__mul(m->merges, 2)) size *= 2;
    m->by_pair = (uint32_t *)kalm__import_alloc(m, size * sizeof *m->by_pair);
    if (!m->by_pair) return KALM_NO_MEMORY;
    m->by_pair_mask = size - 1;
    for (i = 0; i < m->merges; i++) {
        size_t at = kalm__import_pair_place(m, m->merge[i].left, m->merge[i].right);
        if (at == KALM__TOK_NONE)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: too many merges share a hash; no tokenizer that was trained has "
                              "such", m->name);
        if (m->by_pair[at]) m->merge[m->by_pair[at] - 1] = m->merge[i];
        else {
            m->merge[kept] = m->merge[i];
            m->by_pair[at] = (uint32_t)++kept;
        }
    }
    m->merges = kept;
    return KALM_OK;
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

/* All of it: which symbols can be produced, and how. */
KALM__FN kalm_result kalm__import_merges(kalm__import *m)
{
    size_t i, k;
    kalm_result r;
    for (i = 0; i < m->symbols; i++) {
        kalm__import_symbol *s = m->symbol + i;
        s->leaf = s->merges && kalm__import_one_char(s->text);
        if (!s->merges) continue;
        if (memchr(s->text.data, 0, s->text.size)) {
            if (!s->leaf || !(m->flags & KALM__TOK_BYTES))
                return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u holds a NUL", m->name, (unsigned)i);
            m->bytes[0] = (uint32_t)i;           /* found by the fallback to bytes: no trie has a NUL */
            s->merges = s->leaf = 0;
        }
        if (s->leaf) s->reachable = 1;
    }
    for (i = k = 0; i < m->merges; i++) {        /* merges of what cannot be a symbol never happen */
        const kalm__import_merge *a = m->merge + i;
        if (m->symbol[a->left].merges && m->symbol[a->right].merges && m->symbol[a->made].merges) m->merge[k++] = *a;
    }
    m->merges = k;
    r = kalm__import_pairs(m);
    if (r) return r;
    for (i = 0; i < m->merges; i++) {
        kalm__import_symbol *s = m->symbol + m->merge[i].made;
        if (s->derived || s->leaf) continue;
        if (s->inner.size > KALM__WALK_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: token %u, \"%q\", is longer than %d bytes", m->name,
                              m->merge[i].made, s->text.data, s->text.size, KALM__WALK_MOST);
        s->derived = 1;
        kalm__import_derive(m, m->merge[i].made);
    }
    kalm__import_runs(m);
    return KALM_OK;
}

#endif
