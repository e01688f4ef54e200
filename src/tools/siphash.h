/* siphash.h - SipHash (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): a hash of 64 bits with a key. Whoever does not know
   the key cannot make two texts that have one hash, as anybody can with kalm__hash. The key is of secret.h. */
#ifndef KALM__SIPHASH_H
#define KALM__SIPHASH_H

#include "../base.h"

KALM__INLINE uint64_t kalm__sip_turned(uint64_t x, int by) { return x << by | x >> (64 - by); }

KALM__INLINE void kalm__sip_rounds(uint64_t v[4], int rounds)
{
    while (rounds--) {
        v[0] += v[1], v[1] = kalm__sip_turned(v[1], 13), v[1] ^= v[0], v[0] = kalm__sip_turned(v[0], 32);
        v[2] += v[3], v[3] = kalm__sip_turned(v[3], 16), v[3] ^= v[2];
        v[0] += v[3], v[3] = kalm__sip_turned(v[3], 21), v[3] ^= v[0];
        v[2] += v[1], v[1] = kalm__sip_turned(v[1], 17), v[1] ^= v[2], v[2] = kalm__sip_turned(v[2], 32);
    }
}

/* SipHash-each-last: so many rounds for each word of 8 bytes, and at the end. */
KALM__INLINE uint64_t kalm__sip(const uint64_t key[2], const void *data, size_t size, int each, int last)
{
    const unsigned char *p = (const unsigned char *)data;
    uint64_t v[4], word;
    size_t i, k;
    v[0] = key[0] ^ 0x736f6d6570736575u;
    v[1] = key[1] ^ 0x646f72616e646f6du;
    v[2] = key[0] ^ 0x6c7967656e657261u;
    v[3] = key[1] ^ 0x7465646279746573u;
    for (i = 0; i + 8 <= size; i += 8) {
        word = kalm__u64(p + i);
        v[3] ^= word;
        kalm__sip_rounds(v, each);
        v[0] ^= word;
    }
    word = (uint64_t)size << 56;
    for (k = i; k < size; k++) word |= (uint64_t)p[k] << (8 * (k - i));
    v[3] ^= word;
    kalm__sip_rounds(v, each);
    v[0] ^= word;
    v[2] ^= 0xff;
    kalm__sip_rounds(v, last);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

KALM__FN uint64_t kalm__siphash(const uint64_t key[2], const void *data, size_t size) { return kalm__sip(key, data, size, 2, 4); }

/* Of two texts, which are each hashed for themselves, so that no byte of one passes for a byte of the other. */
KALM__FN uint64_t kalm__siphash_both(const uint64_t key[2], kalm_text a, kalm_text b)
{
    unsigned char both[16];
    kalm__put_u64(both, kalm__siphash(key, a.data, a.size));
    kalm__put_u64(both + 8, kalm__siphash(key, b.data, b.size));
    return kalm__siphash(key, both, sizeof both);
}

#endif
