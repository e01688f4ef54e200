/* state.h - what the decoder computed for a document and for the prompt's tokens before the query, kept for the next query:
   keys and values of the document's rows and of those tokens, in every layer. They depend on the document and the instruction
   alone, so going on from a state gives the same bits as computing everything again. This part is the cache that holds states:
   it drops the least recently used, is limited in bytes, and belongs to one context.

   A checksum can be forged (base.h), so it chooses a bucket, no more: then everything that a state's size and content depend on
   is compared, the document's bytes and the prompt's tokens included. Each state has its own copy of both. */
#ifndef KALM__STATE_H
#define KALM__STATE_H

#include "base.h"

/* What a state is found by: all that its size and content depend on, beside the model and the kernel set, which belong to the
   context as the cache does. The bits and the ratio of a document stand in its bytes. */
typedef struct kalm__state_key {
    const unsigned char *doc;          /* the document's bytes, header and rows */
    size_t         doc_size;
    const int32_t *prefix;             /* the prompt's first tokens */
    size_t         tokens;             /* how many those are */
    uint32_t       rows;               /* of the document, as they were checked when it was opened: the bytes of a borrowed
                                          document may have changed since */
    size_t         size;               /* bytes of the state's data */
    uint64_t       doc_sum, prefix_sum;   /* checksums of both: for the bucket */
} kalm__state_key;

typedef struct kalm__state kalm__state;
struct kalm__state {
    kalm__state *chain;                /* next in the bucket */
    kalm__state *newer, *older;
    kalm__state_key key;               /* doc and prefix point to copies in this block */
    size_t       block;                /* bytes, this struct and the copies included */
    int          pinned;               /* how many times the call at hand uses it */
    int          fresh;                /* KALM__STATE_...: what its data are */
    unsigned char *data;               /* [key.size], aligned to 64 */
};
enum { KALM__STATE_COMPUTED, KALM__STATE_FRESH, KALM__STATE_UNDER_WAY };     /* values of `fresh` */

enum {
    KALM__STATE_BUCKETS = 256,
    KALM__STATE_TWINS = 4              /* states kept with the same two checksums: more than one is forgery, and comparing their
                                          bytes takes time */
};
typedef struct kalm__cache {
    kalm__state *bucket[KALM__STATE_BUCKETS];
    kalm__state *newest, *oldest;
    size_t       limit, bytes, count;
    uint64_t     hits, misses, dropped;
} kalm__cache;

KALM__INLINE kalm__state **kalm__state_bucket(kalm__cache *c, const kalm__state_key *key)
{
    return &c->bucket[(key->doc_sum ^ key->prefix_sum * (uint64_t)KALM__HASH_A) >> 56];
}

KALM__FN void kalm__state_unlink(kalm__cache *c, kalm__state *s)
{
    if (s->newer) s->newer->older = s->older;
    else c->newest = s->older;
    if (s->older) s->older->newer = s->newer;
    else c->oldest = s->newer;
}
KALM__FN void kalm__state_make_newest(kalm__cache *c, kalm__state *s)
{
    s->newer = NULL;
    s->older = c->newest;
    if (c->newest) c->newest->newer = s;
    else c->oldest = s;
    c->newest = s;
}

KALM__FN void kalm__state_drop(kalm__cache *c, const kalm_allocator *alloc, kalm__state *s)
{
    kalm__state **at = kalm__state_bucket(c, &s->key);
    while (*at != s) at = &(*at)->chain;
    *at = s->chain;
    kalm__state_unlink(c, s);
    c->bytes -= s->block;
    c->count--;
    kalm__release(alloc, s, s->block);
}

KALM__FN void kalm__cache_clear(kalm__cache *c, const kalm_allocator *alloc)
{
    while (c->newest) kalm__state_drop(c, alloc, c->newest);
}

KALM__INLINE int kalm__state_twin(const kalm__state_key *a, const kalm__state_key *b)
{
    return a->doc_sum == b->doc_sum && a->prefix_sum == b->prefix_sum;
}
KALM__FN int kalm__state_fits(const kalm__state_key *a, const kalm__state_key *b)
{
    return kalm__state_twin(a, b) && a->size == b->size && a->rows == b->rows && a->tokens == b->tokens &&
           a->doc_size == b->doc_size && memcmp(a->prefix, b->prefix, a->tokens * sizeof *a->prefix) == 0 &&
           memcmp(a->doc, b->doc, a->doc_size) == 0;
}

/* The state, pinned, or NULL. */
KALM__FN kalm__state *kalm__state_find(kalm__cache *c, const kalm__state_key *key)
{
    kalm__state *s = *kalm__state_bucket(c, key);
    while (s && !kalm__state_fits(&s->key, key)) s = s->chain;
    if (!s) return NULL;
    kalm__state_unlink(c, s);
    kalm__state_make_newest(c, s);
    s->pinned++;
    return s;
}

/* Room for one more state with the checksums of `key`: drops the oldest of those that have them when there are too many.
   Returns 0 when these are all pinned. */
KALM__FN int kalm__state_limit_twins(kalm__cache *c, const kalm_allocator *alloc, const kalm__state_key *key)
{
    kalm__state *s, *oldest = NULL;    /* a bucket's chain begins with the state that was made last */
    size_t count = 0;
    for (s = *kalm__state_bucket(c, key); s; s = s->chain) {
        if (!kalm__state_twin(&s->key, key)) continue;
        count++;
        if (!s->pinned) oldest = s;
    }
    if (count < KALM__STATE_TWINS) return 1;
    if (!oldest) return 0;
    kalm__state_drop(c, alloc, oldest);
    c->dropped++;
    return 1;
}

/* A new state with key->size bytes of data, pinned and fresh; NULL when the limit or the allocator does not grant it. Drops
   the states least recently used to make room. */
KALM__FN kalm__state *kalm__state_new(kalm__cache *c, const kalm_allocator *alloc, const kalm__state_key *key)
{
    size_t own = kalm__add(kalm__round_up(sizeof(kalm__state), 64), 64), prefix = kalm__mul(key->tokens, sizeof *key->prefix);
    size_t data = kalm__round_up(key->size, 64);
    size_t block = kalm__add(kalm__add(own, data), kalm__add(prefix, key->doc_size));
    kalm__state *s, **at;
    int32_t *tokens;
    unsigned char *doc;
    if (block > c->limit || !kalm__state_limit_twins(c, alloc, key)) return NULL;
    for (s = c->oldest; c->bytes > c->limit - block;) {
        kalm__state *next;
        while (s && s->pinned) s = s->newer;
        if (!s) return NULL;
        next = s->newer;
        kalm__state_drop(c, alloc, s);
        c->dropped++;
        s = next;
    }
    s = (kalm__state *)kalm__alloc(alloc, block);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->data = kalm__align64((unsigned char *)s + sizeof *s);
    tokens = (int32_t *)(void *)(s->data + data);
    doc = s->data + data + prefix;
    memset(s->data, 0, key->size);     /* what lies between keys is written out with them */
    memcpy(tokens, key->prefix, prefix);
    memcpy(doc, key->doc, key->doc_size);
    s->key = *key;
    s->key.prefix = tokens;
    s->key.doc = doc;
    s->block = block;
    s->pinned = 1;
    s->fresh = KALM__STATE_FRESH;
    at = kalm__state_bucket(c, &s->key);
    s->chain = *at;
    *at = s;
    kalm__state_make_newest(c, s);
    c->bytes += block;
    c->count++;
    return s;
}

/* The call at hand is done with it. What it was to compute and did not is dropped. */
KALM__FN void kalm__state_unpin(kalm__cache *c, const kalm_allocator *alloc, kalm__state *s)
{
    s->pinned--;
    if (s->fresh && !s->pinned) kalm__state_drop(c, alloc, s);
}

/* ---- as bytes: what kalm_state_save writes ------------------------------------------------------------------------- */

/* docs/FORMAT.md: */
/* HEADER of a state, 64 bytes, little-endian. The data follow: for each layer keys and values of the document's rows, then those
   of the prompt's first tokens, as they lie in memory or, with state_bits, packed (keys.h). The checksums are against mistakes:
   a state with a forged header passes for that of another document of as many rows, and gives wrong scores, nothing worse
      0  4  "KSTA"      4  4  version: 2; 3 with state_bits      8  8  fingerprint of the model
     16  8  checksum of the document          24  8  hash of the prompt's first tokens
     32  4  how many those are                36  4  rows of the document
     40  8  size of the data                  48  8  kalm__hash of all bytes with this field zero      56  8  state_bits: 0, 8 or 4 */
/* end of docs/FORMAT.md */
#define KALM__STATE_HEADER 64u
#define KALM__STATE_VERSION 2u

KALM__FN void kalm__state_header(unsigned char *p, uint64_t fingerprint, const kalm__state_key *key, uint32_t bits)
{
    memset(p, 0, KALM__STATE_HEADER);
    memcpy(p, "KSTA", 4);
    kalm__put_u32(p + 4, KALM__STATE_VERSION + (bits != 0));
    kalm__put_u64(p + 8, fingerprint);
    kalm__put_u64(p + 16, key->doc_sum);
    kalm__put_u64(p + 24, key->prefix_sum);
    kalm__put_u32(p + 32, (uint32_t)key->tokens);
    kalm__put_u32(p + 36, key->rows);
    kalm__put_u64(p + 40, key->size);
    kalm__put_u64(p + 56, bits);
}

KALM__FN uint64_t kalm__state_checksum(const unsigned char *p, const void *data, size_t size)
{
    unsigned char head[KALM__STATE_HEADER];
    kalm__hasher h;
    memcpy(head, p, sizeof head);
    memset(head + 48, 0, 8);
    kalm__hash_begin(&h);
    kalm__hash_add(&h, head, sizeof head);
    kalm__hash_add(&h, data, size);
    return kalm__hash_end(&h);
}

#endif
