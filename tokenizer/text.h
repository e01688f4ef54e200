/* text.h - from a text to token ids, the whole way: added tokens and who may write them, SentencePiece's normalisation of a
   whole text, and the stretches between, which normal.h brings into inner form and bpe.h or unigram.h cuts into tokens. */
/* docs/TOKENIZER.md: */
/* HUGGING FACE'S RULES (the default). Added tokens are found in the text as it came, leftmost first, and of those that start
   at one place the longest. Each stretch between them is normalised and cut alone.
   SENTENCEPIECE'S RULES (KALM__TOK_SPM). The whole text is normalised first, where user-defined symbols stay as they are.
   Then BPE and char cut at those symbols, unigram finds them by their scores, and word takes whole words only.

   ILL-FORMED UTF-8 becomes U+FFFD, one for each maximal subpart (Unicode 15, section 3.9; what browsers and Python do).

   TEXT IS TEXT. A text comes in pieces; each is trusted (the template) or not (a document, a query). In what is not trusted,
   added tokens of class CONTROL ("<end_of_turn>") are not looked for, so they become plain characters; neither is such a
   token found where it would only arise from both sides of a border between pieces. Other added tokens ("\n\n", "<b>") are
   found anywhere, across borders too. With KALM_PARSE_CONTROL a text is treated as if it were all trusted, except that
   control symbols of SentencePiece (class TEMPLATE) stay the template's.

   MEMORY. A copy of a text that came in several pieces, or is normalised, or of a stretch that holds ill-formed bytes or a
   literal U+2581: at most 3 bytes for one (64 where a charsmap replaces), and two and a half times that while the copy grows, from
   the allocator if beyond 1 KB. Up to 12 KB of stack. A short text without such a stretch allocates nothing. */
/* end of docs/TOKENIZER.md */
#ifndef KALM__TEXT_H
#define KALM__TEXT_H

#include "normal.h"
#include "bpe.h"
#include "unigram.h"

typedef struct kalm__piece {
    kalm_text text;
    int       trusted;
} kalm__piece;

/* Stretches of equal trust, the last one ends the text. */
typedef struct kalm__zone {
    size_t end;
    int    trusted;
} kalm__zone;

#define KALM__LOCAL_ZONES 16

/* ---- added tokens -------------------------------------------------------------------------------------------- */

/* The longest added token at text[at] that may stand there; *id and its length, or 0. raw: the text is not normalised
   yet; by SentencePiece's rules a token with U+2581 has one form for before and one for after that. *steps grows by the
   units of the trie that were looked at. */
KALM__FN size_t kalm__added_at(const kalm__tokenizer *t, const unsigned char *text, size_t at, size_t n,
                               const kalm__zone *zone, int parse, int raw, uint32_t *id, size_t *steps)
{
    const unsigned char *trie = t->part[KALM__SEC_ADDED];
    uint32_t node = kalm__u32(trie), units = t->added_units;
    size_t i, found = 0;
    if (n - at > KALM__WALK_MOST) n = at + KALM__WALK_MOST;
    for (i = at; i < n; i++) {
        node = kalm__trie_step(trie, units, node, text[i]);
        if (node == KALM__TOK_NONE) break;
        if (node & 0x100) {
            uint32_t value = kalm__trie_value(trie, units, node), kind = value >> 24 & 3;
            int inside = zone->trusted && i < zone->end;
            if ((value & 0xffffffu) < t->tokens && !(value >> (raw ? 26 : 27) & 1)
                && (kind == KALM__CLASS_TEXT || inside || (kind == KALM__CLASS_CONTROL && parse))) {
                found = i + 1 - at;
                *id = value & 0xffffffu;
            }
        }
    }
    *steps += i - at;
    return found;
}

/* ---- normalisation -------------------------------------------------------------------------------------------- */

/* How many bytes at text[0 .. n) SentencePiece's rules leave as they are: ASCII with single spaces in it, where neither a
   rule nor an added token begins. The text ends at `whole`, not before n. `space`: a space stands before. */
KALM__FN size_t kalm__plain_bytes(const kalm__tokenizer *t, const unsigned char *text, size_t n, size_t whole, int space)
{
    int trim = (t->flags & KALM__TOK_TRIM) != 0;
    size_t i;
    if (n > KALM__STEPS_BETWEEN) n = (size_t)KALM__STEPS_BETWEEN;
    for (i = 0; i < n && t->plain[text[i]]; i++) {
        int is_space = text[i] == ' ';
        if (is_space & space & trim) break;
        space = is_space;
    }
    if (i && i < whole && text[i] >= 0x80) i--;      /* a rule may begin with the byte before, and this one */
    return i;
}

/* One part of a text that normalisation treats as a whole. */
typedef struct kalm__normal_part {
    size_t               take, size;   /* bytes of the text; bytes that stand for them ... */
    const unsigned char *with;         /* ... and which */
} kalm__normal_part;

/* The part at text[i]: an added token, else what a rule replaces, else a character. *steps grows by the work. */
KALM__FN kalm_result kalm__normal_part_at(const kalm__tokenizer *t, const unsigned char *text, size_t i, size_t n,
                                          const kalm__zone *zone, int parse, kalm__normal_part *part, size_t *steps,
                                          kalm_error *err)
{
    const char *with = NULL;
    uint32_t id;
    int c;
    part->with = text + i;
    part->take = part->size = t->part[KALM__SEC_FIRST][text[i]] ? kalm__added_at(t, text, i, n, zone, parse, 1, &id, steps) : 0;
    if (part->take) return KALM_OK;
    part->take = kalm__rule_at(t, text + i, n - i, &with, steps);
    if (part->take) {
        part->with = (const unsigned char *)(const void *)with;
        part->size = kalm__rule_bytes(t, with);
        if (part->size == SIZE_MAX)
            return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's rules are damaged: one has no end");
        *steps += KALM__GROWTH_STEPS * part->size;
        return KALM_OK;
    }
    c = kalm__utf8(text + i, n - i);
    part->take = part->size = (size_t)(c < 0 ? -c : c);
    if (c < 0) {
        part->with = (const unsigned char *)"\xef\xbf\xbd";
        part->size = 3;
        return KALM_OK;
    }
    for (;;) {                         /* and all that follow which are left as they are */
        size_t at = i + part->take;
        if (at >= kalm__min(zone->end, n) || text[at] < 0x80 || *steps > 4096 || t->part[KALM__SEC_FIRST][text[at]]) break;
        if (kalm__rule_at(t, text + at, n - at, &with, steps) || (c = kalm__utf8(text + at, n - at)) < 0) break;
        part->size = part->take += (size_t)c;
        *steps += (size_t)c;
    }
    return KALM_OK;
}

/* The whole text by SentencePiece's rules into inner form; the ends of the zones move along. */
KALM__FN kalm_result kalm__normalize_spm(const kalm__tokenizer *t, const unsigned char *text, size_t n, kalm__zone *zones,
                                         size_t zone_count, int parse, kalm__buffer *out, kalm__meter *meter,
                                         kalm_error *err)
{
    int escape = (t->flags & KALM__TOK_ESCAPE) != 0, trim = (t->flags & KALM__TOK_TRIM) != 0;
    int prefix = (t->flags & KALM__TOK_PREFIX) != 0, suffix = (t->flags & KALM__TOK_SUFFIX) != 0;
    int begun = 0, after_space = trim;
    size_t i = 0, z = 0;
    kalm_result r;
    while (i < n) {
        kalm__normal_part part;
        size_t steps = 1;
        while (z + 1 < zone_count && i >= zones[z].end) zones[z++].end = out->size;
        part.with = text + i;
        part.take = part.size = begun ? kalm__plain_bytes(t, text + i, kalm__min(zones[z].end, n) - i, n - i, after_space) : 0;
        steps += part.take;
        if (!part.take && (r = kalm__normal_part_at(t, text, i, n, zones + z, parse, &part, &steps, err)) != KALM_OK) return r;
        if ((r = kalm__meter_add(meter, steps, err)) != KALM_OK) return r;
        i += part.take;
        if (!begun) {                  /* spaces before the first other thing go without a trace */
            if (trim && part.size == 1 && *part.with == ' ') continue;
            begun = 1;
            if (prefix && !suffix && (r = kalm__put_inner(out, (const unsigned char *)" ", 1, 0, err)) != KALM_OK) return r;
        }
        while (after_space && part.size && *part.with == ' ') part.with++, part.size--;
        if (!part.size) continue;
        after_space = trim && part.with[part.size - 1] == ' ';
        if ((r = kalm__put_inner(out, part.with, part.size, escape, err)) != KALM_OK) return r;
    }
    if (begun) {
        while (trim && out->size && out->data[out->size - 1] == ' ') out->size--;
        if (prefix && suffix && (r = kalm__put_inner(out, (const unsigned char *)" ", 1, 0, err)) != KALM_OK) return r;
    }
    for (; z < zone_count; z++) zones[z].end = out->size;
    while (z--) zones[z].end = kalm__min(zones[z].end, out->size);
    return KALM_OK;
}

/* ---- the whole way --------------------------------------------------------------------------------------------- */

/* What cuts a stretch into tokens, by the kind of vocabulary. */
typedef struct kalm__cutter {
    kalm__ids out;
    int       parse;                   /* KALM_PARSE_CONTROL */
    union {
        kalm__bpe     bpe;
        kalm__unigram unigram;
    } by;
} kalm__cutter;

KALM__FN void kalm__cutter_begin(kalm__cutter *c, const kalm__tokenizer *t, const kalm_allocator *alloc, int32_t *ids,
                                 size_t capacity, int parse, kalm_error *err)
{
    c->out.t = t, c->out.alloc = alloc, c->out.err = err, c->out.ids = ids, c->out.capacity = capacity;
    c->out.count = 0;
    c->out.after_unknown = 0;
    c->parse = parse;
    if (t->model == KALM__MODEL_BPE) kalm__bpe_begin(&c->by.bpe, &c->out);
    if (t->model == KALM__MODEL_UNIGRAM) kalm__unigram_begin(&c->by.unigram, &c->out);
}

KALM__FN void kalm__cutter_end(kalm__cutter *c)
{
    if (c->out.t->model == KALM__MODEL_BPE) kalm__bpe_end(&c->by.bpe);
    if (c->out.t->model == KALM__MODEL_UNIGRAM) kalm__unigram_end(&c->by.unigram);
}

KALM__FN kalm_result kalm__cut_stretch(kalm__cutter *c, const unsigned char *inner, size_t n)
{
    if (c->out.t->model == KALM__MODEL_BPE) return kalm__bpe_run(&c->by.bpe, inner, n);
    if (c->out.t->model == KALM__MODEL_UNIGRAM) return kalm__unigram_run(&c->by.unigram, inner, n);
    return kalm__word_run(&c->out, inner, n, c->parse);
}

/* A stretch that holds no added token. plain: it is its own inner form. */
KALM__FN kalm_result kalm__tokenize_stretch(kalm__cutter *c, const unsigned char *text, size_t n, int plain, int first)
{
    kalm__buffer inner;
    kalm_result r;
    if (!n) return KALM_OK;
    if (plain) return kalm__cut_stretch(c, text, n);
    kalm__buffer_begin(&inner, c->out.alloc);
    r = kalm__stretch(c->out.t, text, n, first, &inner, &c->out.meter, c->out.err);
    if (r == KALM_OK) r = kalm__cut_stretch(c, inner.data, inner.size);
    kalm__buffer_end(&inner);
    return r;
}

/* Added token `id` stands at text[pos], *size bytes; what is before it since `start` ends at *end. Some tokens of Hugging
   Face's take the white space to their left or right as well. */
KALM__FN void kalm__added_spaces(const kalm__tokenizer *t, uint32_t id, const unsigned char *text, size_t start, size_t *end,
                                 size_t pos, size_t n, size_t *size)
{
    unsigned kind = t->part[KALM__SEC_KINDS][id], bytes;
    if (kind & KALM__KIND_LEFT)
        while (*end > start) {
            size_t back = *end - 1;
            while (back > start && *end - back < 3 && (text[back] & 0xc0) == 0x80) back--;
            bytes = kalm__white_bytes(text + back, *end - back);
            if (bytes != *end - back) break;
            *end = back;
        }
    if (kind & KALM__KIND_RIGHT)
        while (pos + *size < n && (bytes = kalm__white_bytes(text + pos + *size, n - pos - *size)) != 0) *size += bytes;
}

/* text[0 .. n) in its zones; by SentencePiece's rules it is normalised already. */
KALM__FN kalm_result kalm__tokenize_zones(kalm__cutter *c, const unsigned char *text, size_t n, const kalm__zone *zone)
{
    const kalm__tokenizer *t = c->out.t;
    const unsigned char *begins = t->part[KALM__SEC_FIRST];
    int escape = (t->flags & KALM__TOK_ESCAPE) != 0, normalized = (t->flags & KALM__TOK_SPM) != 0;
    int changes = !normalized && ((t->flags & KALM__TOK_PREFIX) || t->model != KALM__MODEL_BPE), plain = !changes;
    size_t pos = 0, start = 0, steps = 0;
    kalm_result r;
    while (pos < n) {
        unsigned value = text[pos];
        if (begins[value]) {
            size_t size;
            uint32_t id = 0;
            while (pos >= zone->end) zone++;     /* the last zone ends at n */
            size = kalm__added_at(t, text, pos, n, zone, c->parse, 0, &id, &steps);
            if ((r = kalm__meter_add(&c->out.meter, steps, c->out.err)) != KALM_OK) return r;
            steps = 0;
            if (size) {
                size_t end = pos;
                if (t->model != KALM__MODEL_BPE) kalm__added_spaces(t, id, text, start, &end, pos, n, &size);
                r = kalm__tokenize_stretch(c, text + start, end - start, plain, start == 0);
                if (r) return r;
                if (t->model == KALM__MODEL_UNIGRAM && normalized) kalm__unigram_pass(&c->by.unigram, id);
                kalm__ids_put(&c->out, id);
                start = pos += size;
                plain = !changes;
                continue;
            }
        }
        if (value < 0x80) pos++;
        else {
            int k = kalm__utf8(text + pos, n - pos);
            if (!normalized && (k < 0 || (t->flags & KALM__TOK_NORMAL)
                                || (escape && kalm__is_escaped_space(text + pos, n - pos)))) plain = 0;
            pos += (size_t)(k < 0 ? -k : k);
        }
    }
    return kalm__tokenize_stretch(c, text + start, n - start, plain, start == 0);
}

/* The ids of pieces that are tokenised as one text: merges and added tokens cross their borders. Writes the first
   `capacity` ids and sets *count to how many there are. `interrupt` is asked while a long text is tokenised (bpe.h); NULL:
   nobody is. */
KALM__FN kalm_result kalm__tokenize_pieces(const kalm__tokenizer *t, const kalm_allocator *alloc,
                                           const kalm__interrupt *interrupt, const kalm__piece *pieces, size_t n,
                                           uint32_t flags, int32_t *ids, size_t capacity, size_t *count, kalm_error *err)
{
    kalm__cutter c;
    kalm__buffer whole, inner;
    kalm__zone local_zones[KALM__LOCAL_ZONES], *zones = local_zones;
    size_t zone_count = 0, total = 0, i;
    int parse = (flags & KALM_PARSE_CONTROL) != 0;
    const unsigned char *text = NULL;
    kalm_result r = KALM_OK;
    *count = 0;
    if (n > KALM__LOCAL_ZONES) {
        zones = (kalm__zone *)kalm__alloc(alloc, kalm__mul(n, sizeof *zones));
        if (!zones) return kalm__fail(err, KALM_NO_MEMORY, "no memory to tokenise %z pieces of text", n);
    }
    kalm__buffer_begin(&whole, alloc);
    kalm__buffer_begin(&inner, alloc);
    for (i = 0; i < n; i++) total = kalm__add(total, kalm__resolve(pieces[i].text).size);
    if (n > 1) r = kalm__buffer_room(&whole, total, err);
    for (i = 0; i < n && r == KALM_OK; i++) {
        kalm_text one = kalm__resolve(pieces[i].text);
        if (!one.size) continue;
        if (n > 1) memcpy(whole.data + whole.size, one.data, one.size);
        else text = (const unsigned char *)one.data;
        whole.size += one.size;
        if (zone_count && !zones[zone_count - 1].trusted == !pieces[i].trusted) zone_count--;
        zones[zone_count].trusted = pieces[i].trusted;
        zones[zone_count++].end = whole.size;
    }
    if (n > 1) text = whole.data;
    if (r == KALM_OK && total) {
        kalm__cutter_begin(&c, t, alloc, ids, capacity, parse, err);
        kalm__meter_begin(&c.out.meter, interrupt, total);
        if (t->flags & KALM__TOK_SPM) {
            r = kalm__normalize_spm(t, text, total, zones, zone_count, parse, &inner, &c.out.meter, err);
            text = inner.data;
            total = inner.size;
        }
        if (r == KALM_OK) r = kalm__tokenize_zones(&c, text, total, zones);
        if (r == KALM_OK) *count = c.out.count;
        kalm__cutter_end(&c);
    }
    kalm__buffer_end(&inner);
    kalm__buffer_end(&whole);
    if (zones != local_zones) kalm__release(alloc, zones, n * sizeof *zones);
    return r;
}

/* The ids of one text of a user. */
KALM__FN kalm_result kalm__tokenize(const kalm__tokenizer *t, const kalm_allocator *alloc, const kalm__interrupt *interrupt,
                                    kalm_text text, uint32_t flags, int32_t *ids, size_t capacity, size_t *count,
                                    kalm_error *err)
{
    kalm__piece piece;
    piece.text = text;
    piece.trusted = 0;
    return kalm__tokenize_pieces(t, alloc, interrupt, &piece, 1, flags, ids, capacity, count, err);
}

#endif
