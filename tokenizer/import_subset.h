/* import_subset.h - makes a smaller vocabulary of a whole one: from the blob of vocab.h the blob of those tokens that given scripts or
   given texts can need, and which token of the whole each of them was. Tokens that stay keep their order and get new ids, 0, 1, ...
   without gaps, so that the rows of an embedding table can be cut with them. Knows nothing of model files. For the converter; no
   part of kalm_rerank.h.

   WHAT HOLDS. Of a symbol that merging makes, its two parts stay as well, and so on down to characters; where no text needs such
   a part as a token it stays as a symbol alone, behind the tokens, and has no row in the table (vocab.h). A text that such a
   symbol would be left of is taken apart there, to tokens. Then:

   A text is tokenised as before if and only if all tokens that the whole vocabulary makes of it have stayed tokens.
     By merging (bpe.h): what is merged on the way to a token lies inside the token and happens there as it would if the token's text
     stood alone, so it is among the parts that stay. Each step merges the pair of lowest rank. Of the pairs that the whole
     vocabulary has, the smaller one has some, and among them the one that the whole one merges next; so both take the same step.
     By scores (unigram.h): the best way to cut the text is still there, and no way has become better. An unknown character could
     make a new way, so of each piece that stays, the pieces that are its single characters stay.
   A text whose characters all belong to the scripts that were asked for is tokenised as before.
     What is made of such a text on the way holds no other character, and every symbol and piece of such characters stays. Rules of
     a charsmap may put in characters of other scripts (U+337F becomes four of Han): those that a text of the scripts can bring
     about count as asked for.
   Any other text falls to smaller pieces and in the end to characters, to bytes, or to the unknown token.

   What always stays: added tokens (the marks of the prompt, runs of white space, tags), byte tokens, the unknown token, control
   tokens, the characters of ASCII, tokens of ASCII without a letter (every text has its commas and numbers), and pieces that
   SentencePiece calls unused, because what they preempt shows nowhere. Where only texts were given, added tokens that are called
   <unused0> and so on go: nobody has trained them, and Gemma has 6241. (A text with such a name in it, read with
   KALM_PARSE_CONTROL, is then read otherwise.)
   Merges that are no symbol's last step are left out: they never happen. */
#ifndef KALM__IMPORT_SUBSET_H
#define KALM__IMPORT_SUBSET_H

#include "import_compile.h"
#include "scripts.h"
#include "text.h"
#include <stdio.h>

#define KALM__SUBSET_CODES 0x110000u

enum { KALM__SUBSET_SYMBOL = 1, KALM__SUBSET_TOKEN = 2 };

typedef struct kalm__subset {
    const kalm__tokenizer *t;          /* the whole vocabulary; borrowed */
    kalm__import   m;                  /* its symbols: their texts, roles, and how each is made; and the memory of all this */
    unsigned char *keep;               /* [symbols]: KALM__SUBSET_TOKEN for those that stay, _SYMBOL where as a part of one; else 0 */
    uint32_t       kept;               /* how many tokens stay */
    uint64_t      *used;               /* [tokens]: how often each stands in the texts */
    unsigned char *allowed;            /* bit c: character c may stand in a text of the scripts, or what a rule makes of one */
    uint32_t      *ids;                /* [tokens]: the whole's id of each token that stays, in ascending order */
    uint32_t       tokens;             /* how many stay; 0 before kalm__subset_finish */
    int32_t       *buffer;             /* [room]: ids of a text */
    size_t         room;
} kalm__subset;

KALM__FN kalm_result kalm__subset_damaged(kalm__subset *c, uint32_t s)
{
    return kalm__fail(c->m.err, KALM_BAD_FILE, "%s: its tables contradict each other about token %u, so it cannot be cut",
                      c->m.name, s);
}

/* The value of text[0 .. n) in a trie of the blob, or KALM__TOK_NONE. */
KALM__FN uint32_t kalm__subset_find(const unsigned char *trie, uint32_t units, const char *text, size_t n)
{
    return n && n <= KALM__TOKEN_MOST ? kalm__trie_find(trie, units, text, n) : KALM__TOK_NONE;
}

/* The inner form (bpe.h) of a text of at most KALM__TOKEN_MOST bytes: into `room` where it is not the text itself. */
KALM__FN kalm_text kalm__subset_inner(const kalm__tokenizer *t, kalm_text text, char *room)
{
    kalm_text inner = text;
    size_t i = 0, n = 0;
    if (!(t->flags & KALM__TOK_ESCAPE)) return text;
    while (i < text.size)
        if (kalm__import_is_space(text.data + i, text.size - i)) {
            room[n++] = ' ';
            i += 3;
        } else room[n++] = text.data[i++];
    inner.data = room;
    inner.size = n;
    return inner;
}

/* ---- the whole vocabulary, from its blob --------------------------------------------------------------------------------- */

KALM__FN char *kalm__subset_copy(kalm__subset *c, const char *data, size_t size)
{
    char *to = (char *)kalm__import_alloc(&c->m, size + 1);
    if (to) memcpy(to, data, size);
    return to;
}

/* Token i of the vocabulary: its text and role. */
KALM__FN kalm_result kalm__subset_token(kalm__subset *c, uint32_t i)
{
    const kalm__tokenizer *t = c->t;
    kalm__import_symbol *s = c->m.symbol + i;
    char room[KALM__TOKEN_MOST], name[8];
    uint32_t value;
    kalm_text inner;
    s->kind = t->part[KALM__SEC_KINDS][i];
    s->text = kalm__token_bytes(t, (int32_t)i);
    if (s->kind == KALM__KIND_NONE) return KALM_OK;
    if (!s->text.data) return kalm__subset_damaged(c, i);
    if (s->kind == KALM__KIND_BYTE) {  /* in a vocabulary of words its name may be a word */
        if (s->text.size != 1) return kalm__subset_damaged(c, i);
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)(unsigned char)s->text.data[0]);
        s->text.data = kalm__subset_copy(c, name, 6);
        s->text.size = 6;
        if (!s->text.data) return KALM_NO_MEMORY;
    }
    if (t->model == KALM__MODEL_UNIGRAM) s->score = kalm__score(t->part[KALM__SEC_SCORES], i);
    value = kalm__subset_find(t->part[KALM__SEC_ADDED], t->added_units, s->text.data, s->text.size);
    if (value != KALM__TOK_NONE && (value & 0xffffffu) == i) s->added = (uint8_t)(1 + (value >> 24 & 3));
    if (s->added > 1 + KALM__CLASS_TEMPLATE) return kalm__subset_damaged(c, i);
    if (t->model == KALM__MODEL_BPE) {
        s->merges = t->part[KALM__SEC_LENGTHS][i] != 0;
        if (s->merges && kalm__subset_inner(t, s->text, room).size != t->part[KALM__SEC_LENGTHS][i]) return kalm__subset_damaged(c, i);
        return KALM_OK;
    }
    inner = kalm__subset_inner(t, s->text, room);
    value = kalm__subset_find(t->part[KALM__SEC_TRIE], t->trie_units, inner.data, inner.size);
    if (value != KALM__TOK_NONE && (value & 0xfffffu) == i) s->piece = value & KALM__PIECE_MARK ? 2 : 1;
    return KALM_OK;
}

/* The text of a symbol above the tokens whose parts have theirs. */
KALM__FN kalm_result kalm__subset_join(kalm__subset *c, uint32_t s)
{
    const kalm__tokenizer *t = c->t;
    uint64_t split = kalm__u64(t->part[KALM__SEC_SPLITS] + 8 * (size_t)s);
    uint32_t left = (uint32_t)(split & 0xfffff), right = (uint32_t)(split >> 20 & 0xfffff);
    kalm_text a, b;
    char *text;
    if (!(split >> 40) || left >= t->symbols || right >= t->symbols) return KALM_OK;
    a = c->m.symbol[left].text, b = c->m.symbol[right].text;
    if (!a.size || !b.size || a.size + b.size > 3 * 255) return KALM_OK;
    text = (char *)kalm__import_alloc(&c->m, a.size + b.size);
    if (!text) return KALM_NO_MEMORY;
    memcpy(text, a.data, a.size);
    memcpy(text + a.size, b.data, b.size);
    c->m.symbol[s].text.data = text;
    c->m.symbol[s].text.size = a.size + b.size;
    return KALM_OK;
}

/* The symbols above the tokens: characters, whose texts only the trie has, and what is made on the way to tokens. */
KALM__FN kalm_result kalm__subset_characters(kalm__subset *c)
{
    const kalm__tokenizer *t = c->t;
    const unsigned char *lengths = t->part[KALM__SEC_LENGTHS];
    uint32_t code, s;
    unsigned length;
    char text[4], room[KALM__TOKEN_MOST];
    for (code = 1; t->symbols > t->tokens && code < KALM__SUBSET_CODES; code++) {
        size_t n = kalm__json_put_utf8(text, code);
        if (code >= 0xd800 && code < 0xe000) continue;
        s = kalm__subset_find(t->part[KALM__SEC_TRIE], t->trie_units, text, n);
        if (s == KALM__TOK_NONE || s < t->tokens || s >= t->symbols) continue;
        if (code == ' ' && (t->flags & KALM__TOK_ESCAPE)) memcpy(text, "\xe2\x96\x81", n = 3);
        c->m.symbol[s].text.data = kalm__subset_copy(c, text, n);
        c->m.symbol[s].text.size = n;
        if (!c->m.symbol[s].text.data) return KALM_NO_MEMORY;
    }
    for (length = 2; t->symbols > t->tokens && length < 256; length++)       /* parts are shorter, so they have theirs by then */
        for (s = t->tokens; s < t->symbols; s++)
            if (lengths[s] == length && !c->m.symbol[s].text.size && kalm__subset_join(c, s)) return KALM_NO_MEMORY;
    for (s = t->tokens; s < t->symbols; s++) {
        kalm__import_symbol *symbol = c->m.symbol + s;
        symbol->kind = KALM__KIND_NONE;
        symbol->merges = symbol->text.size && lengths[s];
        if (symbol->merges && kalm__subset_inner(t, symbol->text, room).size != lengths[s]) return kalm__subset_damaged(c, s);
    }
    return KALM_OK;
}

/* How each symbol of merging is made: parts that are symbols, shorter than it, and a merge that the table has. */
KALM__FN kalm_result kalm__subset_parts(kalm__subset *c)
{
    const kalm__tokenizer *t = c->t;
    const unsigned char *lengths = t->part[KALM__SEC_LENGTHS];
    uint32_t i;
    for (i = 0; i < t->symbols; i++) {
        kalm__import_symbol *s = c->m.symbol + i;
        uint64_t split = kalm__u64(t->part[KALM__SEC_SPLITS] + 8 * (size_t)i);
        size_t steps = 0;
        s->leaf = s->merges && kalm__import_one_char(s->text);
        if (!s->merges || s->leaf) continue;
        s->left = (uint32_t)(split & 0xfffff);
        s->right = (uint32_t)(split >> 20 & 0xfffff);
        if (s->left >= t->symbols || s->right >= t->symbols || !c->m.symbol[s->left].merges || !c->m.symbol[s->right].merges
            || (unsigned)lengths[s->left] + lengths[s->right] != lengths[i]) return kalm__subset_damaged(c, i);
        s->rank = kalm__pair_rank(t, s->left, s->right, &steps);
        if (!s->rank || s->rank == KALM__TOK_NONE) return kalm__subset_damaged(c, i);
    }
    return KALM_OK;
}

/* A symbol stays, and all parts of it down to characters: as symbols, where they are not more already. */
KALM__FN void kalm__subset_need(kalm__subset *c, uint32_t symbol)
{
    uint32_t stack[2 * 256], depth = 0;          /* the parts of a symbol are shorter than it, and it has at most 255 bytes */
    stack[depth++] = symbol;
    while (depth) {
        uint32_t i = stack[--depth];
        const kalm__import_symbol *s = c->m.symbol + i;
        if (!c->keep[i]) c->keep[i] = KALM__SUBSET_SYMBOL;
        else if (i != symbol) continue;
        if (!s->merges || s->leaf) continue;
        stack[depth++] = s->right;
        stack[depth++] = s->left;
    }
}

/* A token stays, with all that it needs; a symbol above the tokens as what it is. */
KALM__FN void kalm__subset_keep(kalm__subset *c, uint32_t i)
{
    const kalm__tokenizer *t = c->t;
    const kalm__import_symbol *s = c->m.symbol + i;
    char room[KALM__TOKEN_MOST];
    kalm_text inner;
    size_t at, n;
    if (c->keep[i] == KALM__SUBSET_TOKEN) return;
    kalm__subset_need(c, i);
    if (i >= t->tokens) return;
    c->keep[i] = KALM__SUBSET_TOKEN;
    c->kept++;
    if (!s->piece || t->model != KALM__MODEL_UNIGRAM) return;
    inner = kalm__subset_inner(t, s->text, room);
    for (at = 0; at < inner.size; at += n) {
        uint32_t one;
        n = kalm__min(kalm__char_bytes((const unsigned char *)inner.data + at), inner.size - at);
        one = kalm__subset_find(t->part[KALM__SEC_TRIE], t->trie_units, inner.data + at, n);
        if (one == KALM__TOK_NONE || (one &= 0xfffffu) >= t->tokens || c->keep[one] == KALM__SUBSET_TOKEN) continue;
        c->keep[one] = KALM__SUBSET_TOKEN;
        c->kept++;
    }
}

/* Is this the name of a token that a vocabulary keeps in reserve: <unused> and a number? */
KALM__FN int kalm__subset_reserve(kalm_text t)
{
    size_t i;
    if (t.size < 9 || memcmp(t.data, "<unused", 7) || t.data[t.size - 1] != '>') return 0;
    for (i = 7; i + 1 < t.size && t.data[i] >= '0' && t.data[i] <= '9'; i++) {}
    return i + 1 == t.size;
}

/* One character of ASCII, or several that are no letters? */
KALM__FN int kalm__subset_plain(kalm_text inner)
{
    size_t i;
    for (i = 0; i < inner.size; i++) {
        unsigned c = (unsigned char)inner.data[i];
        if (c >= 128 || (inner.size > 1 && (c | 32) >= 'a' && (c | 32) <= 'z')) return 0;
    }
    return inner.size != 0;
}

/* What stays whatever is asked for. */
KALM__FN void kalm__subset_always(kalm__subset *c)
{
    const kalm__tokenizer *t = c->t;
    char room[KALM__TOKEN_MOST];
    uint32_t i;
    for (i = 0; i < t->symbols; i++) {
        const kalm__import_symbol *s = c->m.symbol + i;
        unsigned kind = s->kind & 7u;
        int reserve = s->added && kalm__subset_reserve(s->text);
        if (i < t->tokens && ((s->added && !reserve) || kind == KALM__KIND_BYTE || kind == KALM__KIND_CONTROL || kind == KALM__KIND_UNKNOWN
                              || kind == KALM__KIND_UNUSED)) kalm__subset_keep(c, i);
        if ((!s->merges && !s->piece) || !s->text.size) continue;
        if (kalm__subset_plain(kalm__subset_inner(t, s->text, room))) kalm__subset_keep(c, i);
    }
    for (i = 0; i < 256; i++)
        if (c->m.bytes[i] < t->tokens) kalm__subset_keep(c, c->m.bytes[i]);
    if (t->unknown != KALM__TOK_NONE) kalm__subset_keep(c, t->unknown);
}

KALM__FN void kalm__subset_end(kalm__subset *c)
{
    kalm__release(&c->m.alloc, c->buffer, c->room * sizeof *c->buffer);
    kalm__import_end(&c->m);
}

/* Begin with tokenizer t, which is open and stays so; `name` is for errors. kalm__subset_end is due even after a failure. */
KALM__FN kalm_result kalm__subset_begin(kalm__subset *c, const kalm__tokenizer *t, const char *name, const kalm_allocator *alloc,
                                     kalm_error *err)
{
    kalm__import *m = &c->m;
    uint32_t i;
    kalm_result r = KALM_OK;
    memset(c, 0, sizeof *c);
    c->t = t;
    kalm__import_begin(m, name, alloc, err);
    m->tokens = t->tokens;
    m->symbols = t->symbols;
    m->symbol = (kalm__import_symbol *)kalm__import_alloc(m, kalm__mul(t->symbols, sizeof *m->symbol));
    c->keep = m->symbol ? (unsigned char *)kalm__import_alloc(m, t->symbols) : NULL;
    c->used = c->keep ? (uint64_t *)kalm__import_alloc(m, kalm__mul(t->tokens, sizeof *c->used)) : NULL;
    c->allowed = c->used ? (unsigned char *)kalm__import_alloc(m, KALM__SUBSET_CODES / 8) : NULL;
    if (!c->allowed) return KALM_NO_MEMORY;
    for (i = 0; i < 256; i++) m->bytes[i] = kalm__word(t->part[KALM__SEC_BYTES], i);
    for (i = 0; i < t->tokens && !r; i++) r = kalm__subset_token(c, i);
    if (!r && t->model == KALM__MODEL_BPE) r = kalm__subset_characters(c);
    if (!r && t->model == KALM__MODEL_BPE) r = kalm__subset_parts(c);
    if (!r) kalm__subset_always(c);
    return r;
}

/* ---- by scripts ---------------------------------------------------------------------------------------------------------- */

KALM__FN int kalm__subset_is_allowed(const kalm__subset *c, uint32_t code)
{
    return code < KALM__SUBSET_CODES && (c->allowed[code / 8] >> (code & 7) & 1);
}
KALM__FN void kalm__subset_allow(unsigned char *allowed, uint32_t code)
{
    allowed[code / 8] = (unsigned char)(allowed[code / 8] | 1u << (code & 7));
}

/* The code point at text[*at .. n), which is well-formed, and *at behind it; KALM__TOK_NONE where it is not. */
KALM__FN uint32_t kalm__subset_code(const char *text, size_t n, size_t *at)
{
    const unsigned char *p = (const unsigned char *)text + *at;
    size_t k = kalm__import_char(text + *at, n - *at);
    *at += k ? k : 1;
    switch (k) {
    case 1: return p[0];
    case 2: return (p[0] & 31u) << 6 | (p[1] & 63u);
    case 3: return (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
    case 4: return (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    default: return KALM__TOK_NONE;
    }
}

KALM__FN int kalm__subset_all_allowed(const kalm__subset *c, const char *text, size_t n)
{
    size_t at = 0;
    while (at < n)
        if (!kalm__subset_is_allowed(c, kalm__subset_code(text, n, &at))) return 0;
    return 1;
}

/* All rules of the charsmap below a unit whose text is path[0 .. depth): what they put in, where all that they replace is
   allowed, goes to `more`. *budget bounds the walk, for the tables are a stranger's. */
KALM__FN int kalm__subset_rules(const kalm__subset *c, uint32_t at, char *path, size_t depth, unsigned char *more, size_t *budget)
{
    const kalm__tokenizer *t = c->t;
    const unsigned char *rules = t->part[KALM__SEC_RULES];
    uint32_t b;
    for (b = 1; b < 256; b++) {
        uint32_t next = at ^ b, unit;
        if (!*budget) return 0;
        --*budget;
        if (next >= t->rule_units) continue;
        unit = kalm__word(rules, next);
        if ((unit & 0x800000ffu) != b) continue;
        path[depth] = (char)b;
        next ^= unit >> 10 << ((unit & 512u) >> 6);
        if ((unit & 256u) && next < t->rule_units && kalm__subset_all_allowed(c, path, depth + 1)) {
            uint32_t value = kalm__word(rules, next) & 0x7fffffffu;
            const char *with = (const char *)t->part[KALM__SEC_TEXTS] + value;
            size_t n = value < t->size[KALM__SEC_TEXTS] ? kalm__rule_bytes(t, with) : SIZE_MAX, i = 0;
            if (n == SIZE_MAX) return 0;
            while (i < n) {
                uint32_t code = kalm__subset_code(with, n, &i);
                if (code < KALM__SUBSET_CODES) kalm__subset_allow(more, code);
            }
        }
        if (depth + 1 < KALM__WALK_MOST && !kalm__subset_rules(c, next, path, depth + 1, more, budget)) return 0;
    }
    return 1;
}

/* Every token stays that a text of these scripts can need. script[i] is 1 for those that are asked for, by the numbers of
   scripts.h; ascii: of the characters of ASCII alone. Characters that all scripts share (Common, Inherited) belong to each. */
KALM__FN kalm_result kalm__subset_scripts(kalm__subset *c, const unsigned char *script, int ascii)
{
    const kalm__tokenizer *t = c->t;
    unsigned char *more = (unsigned char *)kalm__import_alloc(&c->m, KALM__SUBSET_CODES / 8);
    char path[KALM__WALK_MOST + 1], room[KALM__TOKEN_MOST];
    size_t budget = (size_t)1 << 28, range = 0;
    uint32_t i, any = 0;
    if (!more) return KALM_NO_MEMORY;
    if (t->flags & KALM__TOK_NORMAL)
        return kalm__fail(c->m.err, KALM_BAD_ARGUMENT, "%s: it brings texts into a Unicode normal form, whose characters may be of "
                          "other scripts: its vocabulary can be cut by texts, not by scripts", c->m.name);
    for (i = 0; i < KALM__SCRIPTS; i++) any |= script[i];
    for (i = 1; i < KALM__SUBSET_CODES; i++) {
        uint32_t of = kalm__script_next(&range, i);
        if ((ascii && i < 128) || (any && (script[of] || of == KALM__SCRIPT_COMMON || of == KALM__SCRIPT_INHERITED)))
            kalm__subset_allow(c->allowed, i);
    }
    memcpy(more, c->allowed, KALM__SUBSET_CODES / 8);
    if (t->rule_units) {
        uint32_t unit = kalm__u32(t->part[KALM__SEC_RULES]);
        if (!kalm__subset_rules(c, unit >> 10 << ((unit & 512u) >> 6), path, 0, more, &budget))
            return kalm__fail(c->m.err, KALM_BAD_FILE, "%s: its charsmap is damaged", c->m.name);
    }
    kalm__subset_allow(more, 0xfffd);     /* what ill-formed text becomes */
    memcpy(c->allowed, more, KALM__SUBSET_CODES / 8);
    for (i = 0; i < t->symbols; i++) {
        const kalm__import_symbol *s = c->m.symbol + i;
        kalm_text inner;
        if (s->added) kalm__subset_keep(c, i);
        if ((!s->merges && !s->piece) || c->keep[i] == KALM__SUBSET_TOKEN) continue;
        inner = kalm__subset_inner(t, s->text, room);
        if (inner.size && kalm__subset_all_allowed(c, inner.data, inner.size)) kalm__subset_keep(c, i);
    }
    return KALM_OK;
}

/* ---- by texts ------------------------------------------------------------------------------------------------------------ */

/* The ids of pieces as a model reads them, in c->buffer. */
KALM__FN kalm_result kalm__subset_tokenize(kalm__subset *c, const kalm__tokenizer *t, const kalm__piece *pieces, size_t n, size_t *count)
{
    kalm_result r = kalm__tokenize_pieces(t, &c->m.alloc, NULL, pieces, n, 0, c->buffer, c->room, count, c->m.err);
    if (r || *count <= c->room) return r;
    kalm__release(&c->m.alloc, c->buffer, c->room * sizeof *c->buffer);
    c->room = kalm__mul(*count, 2);
    c->buffer = (int32_t *)kalm__alloc(&c->m.alloc, kalm__mul(c->room, sizeof *c->buffer));
    if (!c->buffer) {
        c->room = 0;
        return kalm__fail(c->m.err, KALM_NO_MEMORY, "no memory for the %z tokens of a text", *count);
    }
    return kalm__tokenize_pieces(t, &c->m.alloc, NULL, pieces, n, 0, c->buffer, c->room, count, c->m.err);
}

/* The tokens that pieces become when they are tokenised as one text are counted: kalm__subset_used keeps them. */
KALM__FN kalm_result kalm__subset_text(kalm__subset *c, const kalm__piece *pieces, size_t n)
{
    size_t count, i;
    kalm_result r = kalm__subset_tokenize(c, c->t, pieces, n, &count);
    for (i = 0; !r && i < count; i++)
        if (c->buffer[i] >= 0 && (uint32_t)c->buffer[i] < c->t->tokens) c->used[c->buffer[i]]++;
    return r;
}

typedef struct kalm__subset_use { uint64_t times; uint32_t token; } kalm__subset_use;

KALM__FN int kalm__subset_use_order(const void *a, const void *b)
{
    const kalm__subset_use *x = (const kalm__subset_use *)a, *y = (const kalm__subset_use *)b;
    return x->times > y->times ? -1 : x->times < y->times ? 1 : x->token < y->token ? -1 : x->token > y->token;
}

/* What the texts need stays: all of it, or what they need most often, up to `most` tokens in all (0: no limit). */
KALM__FN kalm_result kalm__subset_used(kalm__subset *c, uint32_t most)
{
    kalm__subset_use *use = (kalm__subset_use *)kalm__import_alloc(&c->m, kalm__mul(c->t->tokens, sizeof *use));
    uint32_t i, n = 0;
    if (!use) return KALM_NO_MEMORY;
    for (i = 0; i < c->t->tokens; i++)
        if (c->used[i]) use[n].times = c->used[i], use[n++].token = i;
    qsort(use, n, sizeof *use, kalm__subset_use_order);
    for (i = 0; i < n && (!most || c->kept < most); i++) kalm__subset_keep(c, use[i].token);
    return KALM_OK;
}

/* *same: does `small`, which kalm__subset_finish has made, tokenise the pieces as the whole vocabulary does? */
KALM__FN kalm_result kalm__subset_same(kalm__subset *c, const kalm__tokenizer *small, const kalm__piece *pieces, size_t n, int *same)
{
    int32_t *before;
    size_t count, now = 0, i;
    kalm_result r = kalm__subset_tokenize(c, c->t, pieces, n, &count);
    *same = 0;
    if (r) return r;
    before = (int32_t *)kalm__alloc(&c->m.alloc, kalm__mul(count + 1, sizeof *before));
    if (!before) return kalm__fail(c->m.err, KALM_NO_MEMORY, "no memory for the %z tokens of a text", count);
    if (count) memcpy(before, c->buffer, count * sizeof *before);
    r = kalm__subset_tokenize(c, small, pieces, n, &now);
    for (i = 0; !r && i < count && now == count; i++)
        if ((uint32_t)c->buffer[i] >= c->tokens || c->ids[c->buffer[i]] != (uint32_t)before[i]) break;
    *same = !r && now == count && i == count;
    kalm__release(&c->m.alloc, before, kalm__mul(count + 1, sizeof *before));
    return r;
}

/* ---- the smaller vocabulary ---------------------------------------------------------------------------------------------- */

/* The symbols that stay, with their new ids, into *to; place [symbols] is the new id of each. */
KALM__FN kalm_result kalm__subset_symbols(kalm__subset *c, kalm__import *to, const uint32_t *place)
{
    const kalm__tokenizer *t = c->t;
    uint32_t i;
    to->symbol = (kalm__import_symbol *)kalm__import_alloc(to, kalm__mul(to->symbols, sizeof *to->symbol));
    to->merge = to->symbol ? (kalm__import_merge *)kalm__import_alloc(to, kalm__mul(to->symbols, sizeof *to->merge)) : NULL;
    if (!to->merge || !kalm__import_index(to, to->symbols)) return KALM_NO_MEMORY;
    for (i = 0; i < t->symbols; i++) {
        kalm__import_symbol *s = to->symbol + place[i];
        if (!c->keep[i]) continue;
        *s = c->m.symbol[i];
        if (c->keep[i] != KALM__SUBSET_TOKEN) s->kind = KALM__KIND_NONE;
        s->left = s->right = s->rank = 0;
        if (!s->merges) continue;
        kalm__import_enter(to, place[i]);
        if (s->leaf) continue;
        to->merge[to->merges].left = place[c->m.symbol[i].left];
        to->merge[to->merges].right = place[c->m.symbol[i].right];
        to->merge[to->merges].made = place[i];
        to->merge[to->merges++].rank = c->m.symbol[i].rank - 1;
    }
    for (i = 0; i < 256; i++) to->bytes[i] = c->m.bytes[i] < t->tokens ? place[c->m.bytes[i]] : KALM__TOK_NONE;
    to->unknown = t->unknown == KALM__TOK_NONE ? KALM__TOK_NONE : place[t->unknown];
    to->model = t->model;
    to->flags = t->flags;
    to->unknown_score = t->unknown_score;
    to->unknown_text.data = (const char *)t->part[KALM__SEC_UNKNOWN];
    to->unknown_text.size = t->size[KALM__SEC_UNKNOWN];
    to->rules = t->part[KALM__SEC_RULES];
    to->rules_size = t->size[KALM__SEC_RULES];
    to->texts = t->part[KALM__SEC_TEXTS];
    to->texts_size = t->size[KALM__SEC_TEXTS];
    if (t->flags & KALM__TOK_DENORMAL) to->denormal_unit = t->rule_units, to->denormal_texts = t->denormal_texts;
    return KALM_OK;
}

/* The blob of what stays: *blob is from the allocator, *size bytes, and the caller's to release. Fills c->ids and c->tokens. What
   the writer works out anew about each symbol must be what it was. */
KALM__FN kalm_result kalm__subset_finish(kalm__subset *c, unsigned char **blob, size_t *size)
{
    kalm__import to;
    uint32_t *place = (uint32_t *)kalm__import_alloc(&c->m, kalm__mul(c->t->symbols, sizeof *place)), i, n = 0;
    kalm_result r;
    *blob = NULL;
    *size = 0;
    c->ids = place ? (uint32_t *)kalm__import_alloc(&c->m, kalm__mul(c->t->tokens, sizeof *c->ids)) : NULL;
    if (!c->ids) return KALM_NO_MEMORY;
    kalm__import_begin(&to, c->m.name, &c->m.alloc, c->m.err);
    for (i = 0; i < c->t->tokens; i++) {
        if (c->keep[i] != KALM__SUBSET_TOKEN) continue;
        c->ids[c->tokens++] = i;
        place[i] = n++;
    }
    for (i = 0; i < c->t->symbols; i++)
        if (c->keep[i] == KALM__SUBSET_SYMBOL) place[i] = n++;
    to.tokens = c->tokens;
    to.symbols = n;
    r = kalm__subset_symbols(c, &to, place);
    if (!r) r = kalm__import_compile(&to, blob, size);
    for (i = 0; i < c->t->symbols && !r; i++) {
        const kalm__import_symbol *was = c->m.symbol + i, *is = to.symbol + place[i];
        if (!c->keep[i] || !was->merges) continue;
        if (!is->reachable || (!was->leaf && (is->rank != was->rank || is->left != place[was->left] || is->right != place[was->right])))
            r = kalm__subset_damaged(c, i);
    }
    if (r) {
        kalm__release(&c->m.alloc, *blob, *size);
        *blob = NULL;
        *size = 0;
    }
    kalm__import_end(&to);
    return r;
}

#endif
