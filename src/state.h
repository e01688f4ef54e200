/* state.h - what the decoder computed for a document and a prompt's beginning, kept for the next query: keys and values of
   the document's rows in every layer, and of the prompt's first tokens (everything before the query), which depend on the
   document and the instruction alone. Reusing them is exact: a row's result depends on nothing beside it.
   A cache of least recent use, limited in bytes, owned by one context. Knows nothing of how states are computed. */
#ifndef KALM__STATE_H
#define KALM__STATE_H

#include "base.h"

typedef struct kalm__state kalm__state;
struct kalm__state {
    kalm__state *chain;                /* next in the bucket */
    kalm__state *newer, *older;
    uint64_t     doc, prefix;          /* checksum of the document's bytes; hash of the prompt's first tokens */
    size_t       block;                /* bytes, this struct included */
    int          pinned;               /* in use by the call at hand */
    int          fresh;                /* not computed yet */
    unsigned char *data;               /* aligned to 64 */
};

enum { KALM__STATE_BUCKETS = 256 };
typedef struct kalm__cache {
    kalm__state *bucket[KALM__STATE_BUCKETS];
    kalm__state *newest, *oldest;
    size_t       limit, bytes, count;
    uint64_t     hits, misses, dropped;
} kalm__cache;

KALM__INLINE kalm__state **kalm__state_bucket(kalm__cache *c, uint64_t doc, uint64_t prefix)
{
    return &c->bucket[(doc ^ prefix * (uint64_t)KALM__HASH_A) >> 56];
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
    kalm__state **at = kalm__state_bucket(c, s->doc, s->prefix);
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

/* The state, pinned, or NULL. */
KALM__FN kalm__state *kalm__state_find(kalm__cache *c, uint64_t doc, uint64_t prefix)
{
    kalm__state *s;
    for (s = *kalm__state_bucket(c, doc, prefix); s; s = s->chain)
        if (s->doc == doc && s->prefix == prefix) {
            kalm__state_unlink(c, s);
            kalm__state_make_newest(c, s);
            s->pinned++;
            return s;
        }
    return NULL;
}

/* A new state with `size` bytes of data, pinned and fresh; NULL when the limit or the allocator does not grant it. Drops
   the states least recently used to make room. */
KALM__FN kalm__state *kalm__state_new(kalm__cache *c, const kalm_allocator *alloc, uint64_t doc, uint64_t prefix, size_t size)
{
    size_t block = kalm__add(kalm__round_up(sizeof(kalm__state), 64) + 64, size);
    kalm__state *s = c->oldest, **at;
    if (block > c->limit) return NULL;
    while (c->bytes > c->limit - block) {
        while (s && s->pinned) s = s->newer;
        if (!s) return NULL;
        {
            kalm__state *next = s->newer;
            kalm__state_drop(c, alloc, s);
            c->dropped++;
            s = next;
        }
    }
    s = (kalm__state *)kalm__alloc(alloc, block);
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->doc = doc;
    s->prefix = prefix;
    s->block = block;
    s->pinned = 1;
    s->fresh = 1;
    s->data = kalm__align64((unsigned char *)s + sizeof *s);
    memset(s->data, 0, size);          /* what lies between keys is written out with them */
    at = kalm__state_bucket(c, doc, prefix);
    s->chain = *at;
    *at = s;
    kalm__state_make_newest(c, s);
    c->bytes += block;
    c->count++;
    return s;
}

/* ---- as bytes: what kalm_state_save writes -------------------------------------------------------------------------

   HEADER, 64 bytes, little-endian; the data follow as they lie in memory (see attention.h)
      0  4  "KSTA"      4  4  version, 2       8  8  fingerprint of the model
     16  8  checksum of the document          24  8  hash of the prompt's first tokens
     32  4  how many those are                36  4  rows of the document
     40  8  size of the data                  48  8  kalm__hash of all bytes with this field zero      56  8  zero */
#define KALM__STATE_HEADER 64u
#define KALM__STATE_VERSION 2u

KALM__FN void kalm__state_header(unsigned char *p, uint64_t fingerprint, uint64_t doc, uint64_t prefix, uint32_t tokens,
                                 uint32_t rows, uint64_t size)
{
    memset(p, 0, KALM__STATE_HEADER);
    memcpy(p, "KSTA", 4);
    kalm__put_u32(p + 4, KALM__STATE_VERSION);
    kalm__put_u64(p + 8, fingerprint);
    kalm__put_u64(p + 16, doc);
    kalm__put_u64(p + 24, prefix);
    kalm__put_u32(p + 32, tokens);
    kalm__put_u32(p + 36, rows);
    kalm__put_u64(p + 40, size);
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
