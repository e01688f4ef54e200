/* fence.c - memory for the library that the tests are linked with (KALM_MALLOC, KALM_FREE). What a plain run would not notice ends
   the test: a block that was written in front of or behind, one that is given back twice or was never handed out, one that is still
   there at the end. Fresh memory is full of 0xa5, so whoever forgets to clear it does not find zeros by luck; memory that was given
   back is full of 0x5a. make sanitize sees more, and takes ten times as long. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fence.h"

enum { FENCE = 64, TELLS = 16 };       /* bytes of a fence; the first of the front one hold size and mark */
#define ALIVE ((size_t)0x600df00d)
#define GIVEN_BACK ((size_t)0xdeadb10c)

static volatile size_t blocks;         /* that are there */

static void fail(const char *what, size_t size)
{
    fflush(stdout);
    fprintf(stderr, "FAILED: fence.c: a block of %lu bytes %s\n", (unsigned long)size, what);
    fflush(stderr);
    abort();
}

void *fence_malloc(size_t size)
{
    unsigned char *block = size > (size_t)-1 - 2 * FENCE ? NULL : (unsigned char *)malloc(size + 2 * FENCE);
    size_t tell[2];
    if (!block) return NULL;
    tell[0] = size;
    tell[1] = ALIVE;
    memset(block, 0xfe, FENCE);
    memcpy(block, tell, sizeof tell);
    memset(block + FENCE, 0xa5, size);
    memset(block + FENCE + size, 0xfe, FENCE);
    __sync_fetch_and_add(&blocks, 1);
    return block + FENCE;
}

void fence_free(void *ptr)
{
    unsigned char *block = (unsigned char *)ptr - FENCE;
    size_t tell[2], i;
    if (!ptr) return;
    memcpy(tell, block, sizeof tell);
    if (tell[1] == GIVEN_BACK) fail("is given back twice", tell[0]);
    if (tell[1] != ALIVE) fail("is no block, or was written in front of", 0);
    for (i = TELLS; i < FENCE; i++)
        if (block[i] != 0xfe) fail("was written in front of", tell[0]);
    for (i = 0; i < FENCE; i++)
        if (block[FENCE + tell[0] + i] != 0xfe) fail("was written behind", tell[0]);
    tell[1] = GIVEN_BACK;
    memcpy(block, tell, sizeof tell);
    memset(block + FENCE, 0x5a, tell[0]);
    __sync_fetch_and_sub(&blocks, 1);
    free(block);
}

/* At the end of the program. A child that ends by _exit does not come here. */
__attribute__((destructor)) static void fence_end(void)
{
    if (!blocks) return;
    fflush(stdout);
    fprintf(stderr, "FAILED: fence.c: %lu blocks of the library were never given back\n", (unsigned long)blocks);
    fflush(stderr);
    _Exit(EXIT_FAILURE);
}
