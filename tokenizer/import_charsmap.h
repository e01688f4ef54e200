/* import_charsmap.h - checks SentencePiece's normalisation rules, "precompiled_charsmap": a u32 with the size of a trie, the
   trie (a Darts double array: see kalm__rule_at in text.h), and the texts that its values point at, each ended by a NUL. */
#ifndef KALM__IMPORT_CHARSMAP_H
#define KALM__IMPORT_CHARSMAP_H

#include "import_symbols.h"

/* Where the children of the unit at `at` are: the child for byte c is at this place ^ c. */
KALM__FN uint32_t kalm__import_rule_base(const unsigned char *rules, uint32_t at)
{
    uint32_t unit = kalm__word(rules, at);
    return at ^ (unit >> 10 << ((unit & 512u) >> 6));
}

/* The bytes of the longest rule, or KALM__TOK_NONE: longer than the library follows one, or endless. A depth-first walk that
   visits each unit once; longest[at] is 1 + the longest way down from unit `at`, 0 before its visit. */
KALM__FN uint32_t kalm__import_longest_rule(const unsigned char *rules, uint32_t units, unsigned char *longest)
{
    uint32_t at[KALM__WALK_MOST + 1], base[KALM__WALK_MOST + 1], next[KALM__WALK_MOST + 1], depth = 0;
    at[0] = 0, base[0] = kalm__import_rule_base(rules, 0), next[0] = 1;
    longest[0] = 1;
    for (;;) {
        uint32_t child;
        if (next[depth] == 256) {
            if (!depth) return longest[0] - 1u;
            depth--;
            if (longest[at[depth + 1]] >= longest[at[depth]]) longest[at[depth]] = (unsigned char)(longest[at[depth + 1]] + 1);
            continue;
        }
        child = base[depth] ^ next[depth]++;
        if (child >= units || (kalm__word(rules, child) & 0x800000ffu) != next[depth] - 1) continue;
        if (longest[child] && longest[child] + depth <= KALM__WALK_MOST) {       /* seen, by another way: ends are shared */
            if (longest[child] >= longest[at[depth]]) longest[at[depth]] = (unsigned char)(longest[child] + 1);
            continue;
        }
        if (longest[child] || depth == KALM__WALK_MOST) return KALM__TOK_NONE;
        depth++;
        at[depth] = child, base[depth] = kalm__import_rule_base(rules, child), next[depth] = 1;
        longest[child] = 1;
    }
}

/* Take the rules in data[0 .. size), which stays where it is. No bytes: no rules. */
KALM__FN kalm_result kalm__import_charsmap(kalm__import *m, const unsigned char *data, size_t size)
{
    size_t trie = size >= 4 ? kalm__u32(data) : 0, i, begin = 0;
    unsigned char *longest;
    if (!size) return KALM_OK;
    if (size < 4 || trie > size - 4 || trie < 4 || trie % 4 || size - 4 == trie || data[size - 1])
        return kalm__fail(m->err, KALM_BAD_FILE, "%s: its precompiled_charsmap is damaged", m->name);
    longest = (unsigned char *)kalm__import_alloc(m, trie / 4);
    if (!longest) return KALM_NO_MEMORY;
    m->rules = data + 4;
    m->rules_size = trie;
    m->texts_size = size - 4 - trie;
    if (kalm__import_longest_rule(m->rules, (uint32_t)(trie / 4), longest) == KALM__TOK_NONE)
        return kalm__fail(m->err, KALM_BAD_FILE, "%s: a rule of its precompiled_charsmap replaces more than %d bytes", m->name,
                          KALM__WALK_MOST);
    for (i = 4 + trie; i < size; i++)
        if (!data[i]) begin = i + 1;
        else if (i - kalm__max(begin, 4 + trie) >= KALM__RULE_MOST)
            return kalm__fail(m->err, KALM_BAD_FILE, "%s: a rule of its precompiled_charsmap puts in more than %d bytes",
                              m->name, KALM__RULE_MOST);
    return KALM_OK;
}

#endif
