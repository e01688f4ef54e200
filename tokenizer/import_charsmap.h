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

#define KALM__RULE_ON_THE_WAY 255      /* a unit that the walk below has entered and not left */

/* The bytes of the longest rule, or KALM__TOK_NONE: longer than the library follows one, or endless. A depth-first walk that
   visits each unit once; longest[at] is 0 before its visit, and 1 + the longest way down from it afterwards. */
KALM__FN uint32_t kalm__import_longest_rule(const unsigned char *rules, uint32_t units, unsigned char *longest)
{
    uint32_t at[KALM__WALK_MOST + 1], base[KALM__WALK_MOST + 1], next[KALM__WALK_MOST + 1], best[KALM__WALK_MOST + 1];
    uint32_t depth = 0, child = 0;     /* best: bytes of the longest way down that is known */
    for (;;) {
        at[depth] = child, base[depth] = kalm__import_rule_base(rules, child), next[depth] = 1, best[depth] = 0;
        longest[child] = KALM__RULE_ON_THE_WAY;
        for (;;) {                     /* to the next child that nobody has visited, up again where there is none */
            uint32_t down = 0;
            if (next[depth] == 256) {
                if (!depth) return best[0];
                down = best[depth] + 1;
                longest[at[depth--]] = (unsigned char)down;
            } else {
                child = base[depth] ^ next[depth]++;
                if (child >= units || (kalm__word(rules, child) & 0x800000ffu) != next[depth] - 1) continue;
                down = longest[child]; /* another way may have been here: ends are shared */
                if (!down) break;
            }
            if (down == KALM__RULE_ON_THE_WAY || depth + down > KALM__WALK_MOST) return KALM__TOK_NONE;
            if (down > best[depth]) best[depth] = down;
        }
        if (++depth > KALM__WALK_MOST) return KALM__TOK_NONE;
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
    m->texts = m->rules + trie;
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

/* The rules of a denormalizer go behind those of the charsmap that is read already, and their texts behind its texts. */
KALM__FN kalm_result kalm__import_denormalizer(kalm__import *m, const unsigned char *data, size_t size)
{
    const unsigned char *rules = m->rules, *texts = m->texts;
    size_t rules_size = m->rules_size, texts_size = m->texts_size;
    unsigned char *both;
    kalm_result r = kalm__import_charsmap(m, data, size);
    if (r || !size) return r;
    both = (unsigned char *)kalm__import_alloc(m, kalm__add(kalm__add(rules_size, texts_size), size));
    if (!both) return KALM_NO_MEMORY;
    if (rules_size) memcpy(both, rules, rules_size);
    memcpy(both + rules_size, m->rules, m->rules_size);
    m->rules = both;
    both += m->rules_size += rules_size;
    if (texts_size) memcpy(both, texts, texts_size);
    memcpy(both + texts_size, m->texts, m->texts_size);
    m->texts = both;
    m->texts_size += texts_size;
    m->denormal_unit = (uint32_t)(rules_size / 4);
    m->denormal_texts = (uint32_t)texts_size;
    m->flags |= KALM__TOK_DENORMAL;
    return KALM_OK;
}

#endif
