/* sha256.h - SHA-256 (FIPS 180-4): a hash for what is kept where no key can be. Nobody knows two texts that have one. */
#ifndef KALM__SHA256_H
#define KALM__SHA256_H

#include "../base.h"

enum { KALM__SHA256_BYTES = 32 };

typedef struct kalm__sha256 {
    uint32_t      state[8];
    uint64_t      size;                /* bytes so far */
    unsigned char block[64];           /* size % 64 of them wait */
} kalm__sha256;

KALM__INLINE uint32_t kalm__sha_turned(uint32_t x, int by) { return x >> by | x << (32 - by); }

/* FIPS 180-4, 6.2.2. The constants are the beginnings of the cube roots of the first 64 primes. */
KALM__FN void kalm__sha256_block(uint32_t state[8], const unsigned char *p)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2
    };
    uint32_t w[64], v[8], one, two;
    size_t i;
    for (i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (; i < 64; i++) {
        one = kalm__sha_turned(w[i - 15], 7) ^ kalm__sha_turned(w[i - 15], 18) ^ w[i - 15] >> 3;
        two = kalm__sha_turned(w[i - 2], 17) ^ kalm__sha_turned(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + one + w[i - 7] + two;
    }
    memcpy(v, state, sizeof v);
    for (i = 0; i < 64; i++) {
        one = v[7] + (kalm__sha_turned(v[4], 6) ^ kalm__sha_turned(v[4], 11) ^ kalm__sha_turned(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
        two = (kalm__sha_turned(v[0], 2) ^ kalm__sha_turned(v[0], 13) ^ kalm__sha_turned(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += one;
        v[0] = one + two;
    }
    for (i = 0; i < 8; i++) state[i] += v[i];
}

KALM__FN void kalm__sha256_begin(kalm__sha256 *h)
{
    /* the beginnings of the square roots of the first eight primes */
    static const uint32_t begin[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    memcpy(h->state, begin, sizeof begin);
    h->size = 0;
}

KALM__FN void kalm__sha256_add(kalm__sha256 *h, const void *data, size_t size)
{
    const unsigned char *p = (const unsigned char *)data;
    while (size) {
        size_t held = (size_t)(h->size % 64), n = kalm__min(size, 64 - held);
        if (n == 64) kalm__sha256_block(h->state, p);
        else {
            memcpy(h->block + held, p, n);
            if (held + n == 64) kalm__sha256_block(h->state, h->block);
        }
        h->size += n;
        p += n;
        size -= n;
    }
}

KALM__FN void kalm__sha256_end(kalm__sha256 *h, unsigned char sum[KALM__SHA256_BYTES])
{
    static const unsigned char pad[64] = { 0x80 };
    unsigned char bits[8];
    uint64_t size = h->size * 8;
    int i;
    for (i = 0; i < 8; i++) bits[i] = (unsigned char)(size >> (56 - 8 * i));
    kalm__sha256_add(h, pad, 1 + (size_t)((119 - h->size % 64) % 64));
    kalm__sha256_add(h, bits, 8);
    for (i = 0; i < KALM__SHA256_BYTES; i++) sum[i] = (unsigned char)(h->state[i / 4] >> (24 - 8 * (i % 4)));
}

KALM__FN void kalm__sha256_of(const void *data, size_t size, unsigned char sum[KALM__SHA256_BYTES])
{
    kalm__sha256 h;
    kalm__sha256_begin(&h);
    kalm__sha256_add(&h, data, size);
    kalm__sha256_end(&h, sum);
}

#endif
