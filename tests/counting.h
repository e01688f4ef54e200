/* counting.h - an allocator for tests that counts what it has given out, and fails at a call of the test's choice. */
#ifndef TEST_COUNTING_H
#define TEST_COUNTING_H

#include "kalm_rerank.h"
#include <stdlib.h>

static size_t live_bytes, live_most;   /* given out now, and at most so far */
static long calls_left = -1;           /* calls that still succeed; -1: all */

static void *counting_alloc(void *user, size_t size)
{
    (void)user;
    if (calls_left == 0) return NULL;
    if (calls_left > 0) calls_left--;
    live_bytes += size;
    if (live_bytes > live_most) live_most = live_bytes;
    return malloc(size);
}

static void counting_release(void *user, void *p, size_t size)
{
    (void)user;
    live_bytes -= size;
    free(p);
}

static kalm_allocator counting(void)
{
    kalm_allocator a;
    a.alloc = counting_alloc, a.release = counting_release, a.user = NULL;
    return a;
}

#endif
