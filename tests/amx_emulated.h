/* amx_emulated.h - the tile instructions that src/kernels_amx.h uses, in C, as Intel's manual of the instruction set defines them
   ("Intel AMX instruction set reference"): included before the library, it makes the set "amx" run wherever avx512vnni does. What a
   processor would fault at ends the test: shapes that do not fit, a tile that is not configured, a configuration that is not valid. */
#ifndef AMX_EMULATED_H
#define AMX_EMULATED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* a processor has them for each thread */
static __thread struct {
    int      configured;
    unsigned rows[8], bytes[8];        /* of a row */
    uint8_t  tile[8][16][64];
} amx;
static unsigned long amx_products;     /* that a test made: none would mean that it tested nothing */

static inline void amx_must(int good, const char *what)
{
    if (good) return;
    printf("FAILED: a processor faults: %s\n", what);
    exit(1);
}

static inline void amx_config(const unsigned char *p)
{
    unsigned t, i;
    amx_must(p[0] == 1 && p[1] == 0, "palette 1, from row 0");
    for (i = 2; i < 16; i++) amx_must(p[i] == 0, "reserved bytes of a configuration");
    for (i = 32; i < 48; i++) amx_must(p[i] == 0, "there are 8 tiles: bytes of a row");
    for (i = 56; i < 64; i++) amx_must(p[i] == 0, "there are 8 tiles: rows");
    for (t = 0; t < 8; t++) {
        amx.bytes[t] = (unsigned)(p[16 + 2 * t] | p[17 + 2 * t] << 8);
        amx.rows[t] = p[48 + t];
        amx_must(amx.bytes[t] <= 64 && amx.rows[t] <= 16 && !amx.bytes[t] == !amx.rows[t], "a tile has 16 rows of 64 bytes at most");
    }
    memset(amx.tile, 0, sizeof amx.tile);
    amx.configured = 1;
}

static inline void amx_release(void)
{
    memset(&amx, 0, sizeof amx);
}

static inline void amx_ready(unsigned t) { amx_must(amx.configured && amx.rows[t] > 0, "a tile that is not configured"); }

static inline void amx_zero(unsigned t)
{
    amx_ready(t);
    memset(amx.tile[t], 0, sizeof amx.tile[t]);
}

static inline void amx_load(unsigned t, const void *from, size_t step)
{
    unsigned r;
    amx_ready(t);
    memset(amx.tile[t], 0, sizeof amx.tile[t]);
    for (r = 0; r < amx.rows[t]; r++) memcpy(amx.tile[t][r], (const unsigned char *)from + r * step, amx.bytes[t]);
}

static inline void amx_store(unsigned t, void *to, size_t step)
{
    unsigned r;
    amx_ready(t);
    for (r = 0; r < amx.rows[t]; r++) memcpy((unsigned char *)to + r * step, amx.tile[t][r], amx.bytes[t]);
}

/* TDPBUSD sum, left, right: left's bytes are unsigned, right's have signs; sums wrap. */
static inline void amx_dot(unsigned sum, unsigned left, unsigned right)
{
    unsigned m, n, k, i;
    amx_ready(sum), amx_ready(left), amx_ready(right);
    amx_must(sum != left && sum != right && left != right, "three different tiles");
    amx_must(amx.rows[sum] == amx.rows[left] && amx.bytes[sum] == amx.bytes[right] && amx.bytes[left] / 4 == amx.rows[right]
             && amx.bytes[sum] % 4 == 0 && amx.bytes[left] % 4 == 0, "shapes of a product");
    amx_products++;
    for (m = 0; m < amx.rows[sum]; m++)
        for (k = 0; k < amx.bytes[left] / 4; k++)
            for (n = 0; n < amx.bytes[sum] / 4; n++) {
                int32_t add = 0;
                uint32_t was;
                for (i = 0; i < 4; i++) add += (int32_t)amx.tile[left][m][4 * k + i] * (int8_t)amx.tile[right][k][4 * n + i];
                memcpy(&was, amx.tile[sum][m] + 4 * n, 4);
                was += (uint32_t)add;
                memcpy(amx.tile[sum][m] + 4 * n, &was, 4);
            }
}

#define KALM__TILE_CONFIG(p) amx_config(*(p))
#define KALM__TILE_RELEASE() amx_release()
#define KALM__TILE_LOAD(t, p) amx_load(t, p, 64);
#define KALM__TILE_STORE(t, p) amx_store(t, p, 64);
#define KALM__TILE_ZERO(t) amx_zero(t);
#define KALM__TILE_DOT(t) amx_dot(t, 6, 7);

#endif
