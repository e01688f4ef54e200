/* vocab.h - the tokenizer as a model file carries it, and the view that reads it in place.
   We call those bytes "the blob". Opening one parses, hashes and copies nothing, and takes a few microseconds: tokenising
   reads the tables where they lie. The converter (import.h) makes blobs. This part knows the tables and no algorithm. */
/* docs/FORMAT.md: */
/* THE BLOB. Little-endian, without pointers, readable at any alignment (a multiple of 64 is fastest). Version 1 holds a
   tokenizer of byte-pair merges (BPE, and SentencePiece's "char", which is BPE without merges). Version 2 adds
   SentencePiece's "unigram" and "word"; libraries that know version 1 alone refuse it by its number.

       0   8  "KALMTOK1" or "KALMTOK2"
       8   8  size of the blob in bytes
      16   4  T, the number of tokens: ids are 0 .. T-1, T is at most 2^20
      20   4  S, the number of symbols of merging: the T tokens, and after them the characters, and in a vocabulary that was cut
              the parts of tokens, that merges use although they are no tokens; T <= S <= 2^20. Version 2: S = T
      24   4  flags, KALM__TOK_... below
      28   4  id of the unknown token, or 0xffffffff
      32   4  the longest run of spaces that is one token, where the run rule of bpe.h holds; else 0
      36   4  log2 of the number of buckets of the pair table, 8 .. 24; version 2: 0
      40   4  KALM__MODEL_...; version 1: 0 (BPE)
      44   4  with KALM__TOK_DENORMAL: the unit of `rules` at which those of a denormalizer begin; else 0
      48   8  version 2: the score of an unknown character, a double; else 0
      56   4  with KALM__TOK_DENORMAL: where the texts of its rules begin in `texts`; else 0
      60   4  zero
      64 320  twenty pairs of u64: offset from the blob's start and size in bytes of each section
     384   .  the sections, each at a multiple of 64, zeros between them

     section   element, count        what
      0 starts   u32 x T+1           where each token's text begins in `pool`; it ends where the next one begins
      1 pool     bytes               the texts of the tokens, UTF-8 as published; of a byte token that one byte
      2 kinds    u8 x T              KALM__KIND_...
      3 trie     u32 x units         BPE: the tokens that merging can produce, by their text in inner form (see bpe.h).
                                     Version 2: the pieces that a text may be cut into; the value is the id |
                                     KALM__PIECE_MARK, in a vocabulary of words, where users may not write it;
                                     of unigram | code << 25 (unigram.h, WHOLE PIECES)
      9 added    u32 x units         the added tokens; value: id | class << 24 (KALM__CLASS_...)
                                     | 1 << 26: not in text to be normalised | 1 << 27: only there
     10 first    u8 x 256            1: an added token begins with this byte
     12 bytes    u32 x 256           the token of each byte, or 0xffffffff
     14 rules    u32 x units         SentencePiece's charsmap: a Darts double array of the texts to be replaced ...
     15 texts    bytes               ... whose values are offsets of NUL-terminated texts here; the last byte is NUL
     17 unknown  bytes               what an unknown token decodes to under SentencePiece's rules

     for BPE; empty in version 2:
      4 lengths  u8 x S              bytes of a symbol's inner form; 0: merging never produces it
      5 splits   u64 x S             bits 0..19 left part, 20..39 right part, 40..63 1 + rank of the merge that makes the
                                     symbol; rank field 0: a character; 0xffffff: ranks fall on the way ("irregular")
      6 buckets  u32 x 2^b+1         where each bucket begins in the two sections below
      7 pairs    u32 x P             merges: what is left of the pair's hash (below) when the bucket is known
      8 ranks    u32 x P             1 + rank of the merge
     11 joins    bits, 256 x 256     bit 256 * a + b: byte a can stand before byte b inside a token of the trie, a ending
                                     a character and b beginning one. Where the bit is 0 a text may be cut
     13 runs     u32 x longest + 1   the token of a run of so many spaces (0 and 1 unused)
     16 filter   u32 x 2^b           for each bucket the pairs that may be in it: a pair sets bits r & 31 and r >> 5 & 31,
                                     r being what is stored of its hash

     for unigram; empty otherwise:
     18 scores   f64 x T             the score of each piece, larger is better
     19 cuts     bits, 256 x 256     as `joins`, of pieces; a file may lack it, and no piece of such a file is whole

   A TRIE is a double array of u32 units. Unit: bits 0..7 label, bit 8 "a token ends here", bits 9..30 base; with bit 31 set
   it is no node but a value in bits 0..30. The root is unit 0; the child of a node for byte c is unit base ^ c if its
   label is c and its bit 31 clear; the value of a node with bit 8 is unit base ^ 0. No text holds a NUL.

   THE PAIR TABLE: key = left << 20 | right, hash = key * 0x9e3779b97f4a7c15 mod 2^40, which is one-to-one. Its upper b bits
   are the bucket, the others are stored: equal means equal, there are no false hits. A bucket holds at most
   KALM__BUCKET_MOST pairs. Most pairs that are asked for are not there, and the filter (512 KB for Gemma, which a
   second-level cache holds) says so for 95 of 100 of them.

   LIMITS. Nothing is checked entry by entry when a blob is opened, which takes microseconds. A damaged or hostile blob can
   make the ids wrong, and nothing else: the places and sizes of the sections are checked when it is opened, every index is
   compared with its count where it is used, a walk through a trie ends after KALM__WALK_MOST bytes, a bucket after
   KALM__BUCKET_MOST pairs, a token's text has at most KALM__TOKEN_MOST bytes, and the meter of ids.h bounds the steps that
   a text may take. The converter makes no file that exceeds these limits. */
/* end of docs/FORMAT.md */
#ifndef KALM__VOCAB_H
#define KALM__VOCAB_H

#include "../src/base.h"

enum {                                 /* flags */
    KALM__TOK_ESCAPE    = 1,           /* a space and U+2581 are the same to the vocabulary */
    KALM__TOK_SPM       = 2,           /* SentencePiece's rules: normalise the whole text, then match the added tokens */
    KALM__TOK_BYTES     = 4,           /* a character the vocabulary lacks becomes its bytes */
    KALM__TOK_FUSE      = 8,           /* neighbouring unknown characters become one unknown token */
    KALM__TOK_PREFIX    = 16,          /* a space goes before each stretch between added tokens (SPM: the text) */
    KALM__TOK_UNLESS    = 32,          /* ... unless one is there */
    KALM__TOK_FIRST     = 64,          /* ... and only where the stretch begins the text */
    KALM__TOK_TRIM      = 128,         /* leading and trailing spaces go, runs of spaces become one */
    KALM__TOK_SUFFIX    = 256,         /* SPM: the added space goes last instead */
    KALM__TOK_UNUSED    = 512,         /* some tokens are made by merging and split again (KALM__KIND_UNUSED) */
    KALM__TOK_STRIP     = 1024,        /* decoding takes one leading space away */
    KALM__TOK_FORM_AT   = 12,          /* two bits, with KALM__TOK_NORMAL: 0 NFC, 1 NFKC, 2 NFD, 3 NFKD */
    KALM__TOK_NORMAL    = 16384,       /* a Unicode normal form is asked for (needs KALM_UTF8PROC) */
    KALM__TOK_DENORMAL  = 1 << 20,     /* SPM: decoded text goes through rules of its own */
    KALM__TOK_KNOWN     = 32767 | KALM__TOK_DENORMAL,      /* in version 1 */
    KALM__TOK_WORDS     = 32768,       /* unigram: each word, with the space before it, is segmented alone */
    KALM__TOK_WHITE     = 1 << 16,     /* words are what any white space separates */
    KALM__TOK_COLLAPSE  = 1 << 17,     /* runs of spaces become one space */
    KALM__TOK_TRIM_LEFT = 1 << 18,     /* leading white space goes */
    KALM__TOK_TRIM_RIGHT = 1 << 19,    /* trailing white space goes */
    KALM__TOK_KNOWN2    = (1 << 21) - 1          /* in version 2 */
};

enum { KALM__MODEL_BPE, KALM__MODEL_UNIGRAM, KALM__MODEL_WORD, KALM__MODELS };

enum {
    KALM__KIND_TEXT, KALM__KIND_BYTE, KALM__KIND_CONTROL, KALM__KIND_UNKNOWN, KALM__KIND_UNUSED, KALM__KIND_NONE,
    KALM__KIND_LEFT = 8,               /* added to the others, in version 2 alone: the token takes the white space to its */
    KALM__KIND_RIGHT = 16              /* left or right */
};

enum {                                 /* when an added token is found in a text */
    KALM__CLASS_TEXT,                  /* always: runs of white space, tags of HTML, user-defined words              */
    KALM__CLASS_CONTROL,               /* in the template, and in users' texts with KALM_PARSE_CONTROL               */
    KALM__CLASS_TEMPLATE               /* in the template alone: control symbols of SentencePiece                    */
};

#define KALM__TOK_NONE 0xffffffffu
#define KALM__WALK_MOST 254            /* bytes of a token that merging makes, of an added token, of what a rule replaces */
#define KALM__RULE_MOST 1024           /* bytes that a rule of the charsmap puts in their place */
#define KALM__TOKEN_MOST 4096          /* bytes of any token's text */
#define KALM__PIECE_MARK (1u << 24)    /* of a trie's value in version 2 */
#define KALM__WHOLE_AT 25              /* in the same value: six bits */
#define KALM__BUCKET_MOST 48           /* pairs in a bucket; 4 on average, and 20 are rare */
#define KALM__TOK_HEADER 384
#define KALM__TOK_SECTIONS 20

enum {
    KALM__SEC_STARTS, KALM__SEC_POOL, KALM__SEC_KINDS, KALM__SEC_TRIE, KALM__SEC_LENGTHS, KALM__SEC_SPLITS,
    KALM__SEC_BUCKETS, KALM__SEC_PAIRS, KALM__SEC_RANKS, KALM__SEC_ADDED, KALM__SEC_FIRST, KALM__SEC_JOINS,
    KALM__SEC_BYTES, KALM__SEC_RUNS, KALM__SEC_RULES, KALM__SEC_TEXTS, KALM__SEC_FILTER,
    KALM__SEC_UNKNOWN, KALM__SEC_SCORES, KALM__SEC_CUTS
};

/* A view into a blob, which must stay where it is. Read-only after opening: any thread may use it. */
typedef struct kalm__tokenizer {
    unsigned char plain[256];          /* 1: no added token begins with this ASCII byte, and no rule begins with it and another
                                          (or the end of the text) */
    const unsigned char *part[KALM__TOK_SECTIONS];
    size_t   size[KALM__TOK_SECTIONS];           /* bytes */
    uint32_t tokens, symbols, flags, unknown, longest_run, bucket_bits, model;
    double   unknown_score;
    uint32_t trie_units, added_units, rule_units, denormal_texts, pairs;
} kalm__tokenizer;

/* One number of a section of u32; the caller has compared i with the count. */
KALM__INLINE uint32_t kalm__word(const unsigned char *section, size_t i) { return kalm__u32(section + 4 * i); }

/* A double of a section; the caller has compared i with the count. */
KALM__INLINE double kalm__score(const unsigned char *section, size_t i)
{
    uint64_t bits = kalm__u64(section + 8 * i);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

/* The header's numbers. `size` is how many bytes there are. */
KALM__FN kalm_result kalm__tokenizer_header(kalm__tokenizer *t, const unsigned char *b, size_t size, kalm_error *err)
{
    int second;
    if (size < KALM__TOK_HEADER || memcmp(b, "KALMTOK", 7))
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer section is no tokenizer of this library");
    if (b[7] != '1' && b[7] != '2')
        return kalm__fail(err, KALM_BAD_VERSION, "the tokenizer is of version %c, this library reads 1 and 2",
                          b[7] > 32 && b[7] < 127 ? b[7] : '?');
    if (kalm__u64(b + 8) > size)
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer should have %U bytes and has %z", kalm__u64(b + 8), size);
    second = b[7] == '2';
    t->tokens = kalm__u32(b + 16);
    t->symbols = kalm__u32(b + 20);
    t->flags = kalm__u32(b + 24);
    t->unknown = kalm__u32(b + 28);
    t->longest_run = kalm__u32(b + 32);
    t->bucket_bits = kalm__u32(b + 36);
    t->rule_units = kalm__u32(b + 44);
    t->denormal_texts = kalm__u32(b + 56);
    if (second) {
        t->model = kalm__u32(b + 40);
        t->unknown_score = kalm__score(b + 48, 0);
    }
    if (!t->tokens || t->tokens > t->symbols || t->symbols > 1u << 20 || (second && t->symbols != t->tokens))
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer says it has %u tokens and %u symbols", t->tokens, t->symbols);
    if (t->flags & ~(uint32_t)(second ? KALM__TOK_KNOWN2 : KALM__TOK_KNOWN))
        return kalm__fail(err, KALM_BAD_VERSION, "the tokenizer asks for something this version does not know (flags %u)",
                          t->flags);
    if ((second ? t->bucket_bits || t->longest_run || !t->model : t->bucket_bits < 8 || t->bucket_bits > 24)
        || t->longest_run > 255 || t->model >= KALM__MODELS || (t->unknown != KALM__TOK_NONE && t->unknown >= t->tokens)
        || !(t->unknown_score - t->unknown_score >= 0))      /* infinities and NaN fail this */
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's header holds numbers that cannot be");
    return KALM_OK;
}

/* Where the sections lie, and that each has the size that the header asks for. `size` is that of the blob. */
KALM__FN kalm_result kalm__tokenizer_sections(kalm__tokenizer *t, const unsigned char *b, size_t size, kalm_error *err)
{
    static const char names[KALM__TOK_SECTIONS][8] = {
        "starts", "pool", "kinds", "trie", "lengths", "splits", "buckets", "pairs", "ranks", "added", "first", "joins",
        "bytes", "runs", "rules", "texts", "filter", "unknown", "scores", "cuts"
    };
    uint64_t want[KALM__TOK_SECTIONS], bpe = t->model == KALM__MODEL_BPE;
    unsigned i;
    for (i = 0; i < KALM__TOK_SECTIONS; i++) {
        uint64_t at = kalm__u64(b + 64 + 16 * i), bytes = kalm__u64(b + 72 + 16 * i);
        if (at > size || bytes > size - at || bytes > 0xffffffffu)
            return kalm__fail(err, KALM_BAD_FILE, "section %u of the tokenizer: %U bytes at byte %U, the tokenizer has %z", i,
                              bytes, at, size);
        t->part[i] = b + (size_t)at;
        t->size[i] = (size_t)bytes;
        want[i] = bytes;
    }
    want[KALM__SEC_STARTS] = 4 * ((uint64_t)t->tokens + 1);
    want[KALM__SEC_KINDS] = t->tokens;
    want[KALM__SEC_TRIE] &= ~(uint64_t)3;
    want[KALM__SEC_LENGTHS] = bpe * t->symbols;
    want[KALM__SEC_SPLITS] = bpe * 8 * t->symbols;
    want[KALM__SEC_BUCKETS] = bpe * 4 * (((uint64_t)1 << t->bucket_bits) + 1);
    want[KALM__SEC_FILTER] = bpe * ((uint64_t)4 << t->bucket_bits);
    want[KALM__SEC_PAIRS] &= bpe ? ~(uint64_t)3 : 0;
    want[KALM__SEC_RANKS] = t->size[KALM__SEC_PAIRS];
    want[KALM__SEC_ADDED] &= ~(uint64_t)3;
    want[KALM__SEC_FIRST] = 256;
    want[KALM__SEC_JOINS] = bpe * 8192;
    want[KALM__SEC_BYTES] = 1024;
    want[KALM__SEC_RUNS] = t->longest_run ? 4 * ((uint64_t)t->longest_run + 1) : 0;
    want[KALM__SEC_RULES] &= ~(uint64_t)3;
    want[KALM__SEC_SCORES] = t->model == KALM__MODEL_UNIGRAM ? 8 * (uint64_t)t->tokens : 0;
    want[KALM__SEC_CUTS] = t->model == KALM__MODEL_UNIGRAM && t->size[KALM__SEC_CUTS] ? 8192 : 0;
    for (i = 0; i < KALM__TOK_SECTIONS; i++)
        if (t->size[i] != want[i])
            return kalm__fail(err, KALM_BAD_FILE, "section %s of the tokenizer has %z bytes instead of %U", names[i],
                              t->size[i], want[i]);
    return KALM_OK;
}

/* Fill t->plain, from what is open. */
KALM__FN void kalm__tokenizer_plain(kalm__tokenizer *t)
{
    const unsigned char *rules = t->part[KALM__SEC_RULES];
    uint32_t unit = t->rule_units ? kalm__u32(rules) : 0, root = unit >> 10 << ((unit & 512u) >> 6), c, next;
    for (c = 0; c < 128; c++) {
        uint32_t at = root ^ c;
        t->plain[c] = !t->part[KALM__SEC_FIRST][c];
        if (at >= t->rule_units) continue;
        unit = kalm__word(rules, at);
        if ((unit & 0x800000ffu) != c) continue;           /* no rule begins with c */
        if (unit & 256u) t->plain[c] = 0;                  /* one is c alone */
        at ^= unit >> 10 << ((unit & 512u) >> 6);
        for (next = 1; next < 128; next++)
            if ((at ^ next) < t->rule_units && (kalm__word(rules, at ^ next) & 0x800000ffu) == next) t->plain[c] = 0;
    }
}

/* Look at a blob of at most `size` bytes, which must stay where it is while *t is used. */
KALM__FN kalm_result kalm__tokenizer_open(kalm__tokenizer *t, const void *blob, size_t size, kalm_error *err)
{
    const unsigned char *b = (const unsigned char *)blob;
    kalm_result r;
    memset(t, 0, sizeof *t);
    r = kalm__tokenizer_header(t, b, size, err);
    if (!r) r = kalm__tokenizer_sections(t, b, (size_t)kalm__u64(b + 8), err);
    if (r) return r;
    t->trie_units = (uint32_t)(t->size[KALM__SEC_TRIE] / 4);
    t->added_units = (uint32_t)(t->size[KALM__SEC_ADDED] / 4);
    if (!(t->flags & KALM__TOK_DENORMAL)) t->rule_units = (uint32_t)(t->size[KALM__SEC_RULES] / 4);
    else if (t->rule_units > t->size[KALM__SEC_RULES] / 4 || t->denormal_texts >= t->size[KALM__SEC_TEXTS])
        return kalm__fail(err, KALM_BAD_FILE, "the tokenizer's denormalizer is damaged");
    t->pairs = (uint32_t)(t->size[KALM__SEC_PAIRS] / 4);
    if (!t->trie_units || !t->added_units)
        return kalm__fail(err, KALM_BAD_FILE, "a trie of the tokenizer is empty");
    if (t->size[KALM__SEC_UNKNOWN] > KALM__TOKEN_MOST)
        return kalm__fail(err, KALM_BAD_FILE, "the text of the tokenizer's unknown token has %z bytes, allowed are %d",
                          t->size[KALM__SEC_UNKNOWN], KALM__TOKEN_MOST);
    if (t->size[KALM__SEC_RULES] && (!t->size[KALM__SEC_TEXTS] || t->part[KALM__SEC_TEXTS][t->size[KALM__SEC_TEXTS] - 1]))
        return kalm__fail(err, KALM_BAD_FILE, "the normalisation texts of the tokenizer have no end");
#if !defined(KALM_UTF8PROC)
    if (t->flags & KALM__TOK_NORMAL)
        return kalm__fail(err, KALM_BAD_VERSION,
                          "the tokenizer needs Unicode normal forms: compile with KALM_UTF8PROC and link utf8proc");
#endif
    kalm__tokenizer_plain(t);
    return KALM_OK;
}

/* The bytes of a token as the vocabulary has it (a byte token: that byte); data NULL for an id it lacks. */
KALM__FN kalm_text kalm__token_bytes(const kalm__tokenizer *t, int32_t id)
{
    kalm_text r;
    uint32_t from, to;
    r.data = NULL;
    r.size = 0;
    if (id < 0 || (uint32_t)id >= t->tokens || t->part[KALM__SEC_KINDS][id] == KALM__KIND_NONE) return r;
    from = kalm__word(t->part[KALM__SEC_STARTS], (size_t)id);
    to = kalm__word(t->part[KALM__SEC_STARTS], (size_t)id + 1);
    if (from > to || to > t->size[KALM__SEC_POOL] || to - from > KALM__TOKEN_MOST) return r;
    r.data = (const char *)t->part[KALM__SEC_POOL] + from;
    r.size = to - from;
    return r;
}

/* Rank + 1 of the merge of two symbols, or KALM__TOK_NONE. *steps grows by the entries that were looked at. */
KALM__INLINE uint32_t kalm__pair_rank(const kalm__tokenizer *t, uint32_t left, uint32_t right, size_t *steps)
{
    uint64_t hash = (((uint64_t)left << 20 | right) * (uint64_t)KALM__HASH_A) & 0xffffffffffu;
    uint32_t shift = 40 - t->bucket_bits, rest = (uint32_t)(hash & (((uint64_t)1 << shift) - 1));
    size_t at = (size_t)(hash >> shift);
    uint32_t filter = kalm__word(t->part[KALM__SEC_FILTER], at), i, end;
    const unsigned char *bucket, *pairs;
    ++*steps;
    if (!(filter >> (rest & 31) & filter >> (rest >> 5 & 31) & 1)) return KALM__TOK_NONE;
    bucket = t->part[KALM__SEC_BUCKETS] + 4 * at;
    pairs = t->part[KALM__SEC_PAIRS];
    i = kalm__u32(bucket);
    end = kalm__u32(bucket + 4);
    if (end > t->pairs || i > end) return KALM__TOK_NONE;
    if (end - i > KALM__BUCKET_MOST) end = i + KALM__BUCKET_MOST;
    *steps += end - i;
    for (; i < end; i++)
        if (kalm__word(pairs, i) == rest) return kalm__word(t->part[KALM__SEC_RANKS], i);
    return KALM__TOK_NONE;
}

/* The child of a trie's node for byte c, or KALM__TOK_NONE. */
KALM__INLINE uint32_t kalm__trie_step(const unsigned char *trie, uint32_t units, uint32_t node, unsigned c)
{
    uint32_t at = (node >> 9 & 0x3fffffu) ^ c, unit;
    if (at >= units) return KALM__TOK_NONE;
    unit = kalm__word(trie, at);
    return (unit & 0x800000ffu) == c ? unit : KALM__TOK_NONE;
}
KALM__INLINE uint32_t kalm__trie_value(const unsigned char *trie, uint32_t units, uint32_t node)
{
    uint32_t at = node >> 9 & 0x3fffffu;
    return at < units ? kalm__word(trie, at) & 0x7fffffffu : 0x7fffffffu;
}
/* The value of exactly text[0 .. n) in a trie, or KALM__TOK_NONE. */
KALM__FN uint32_t kalm__trie_find(const unsigned char *trie, uint32_t units, const void *text, size_t n)
{
    const unsigned char *c = (const unsigned char *)text;
    uint32_t node = kalm__u32(trie);
    for (; n && node != KALM__TOK_NONE; n--) node = kalm__trie_step(trie, units, node, *c++);
    return node != KALM__TOK_NONE && (node & 0x100) ? kalm__trie_value(trie, units, node) : KALM__TOK_NONE;
}

#endif
