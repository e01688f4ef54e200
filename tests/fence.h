/* fence.h - the default allocator of the tests' library (tests/fence.c). The Makefile includes this before everything else, so it
   includes nothing: a system header would be read before the file that is compiled has said which functions it wants of it. */
#ifndef TEST_FENCE_H
#define TEST_FENCE_H

extern void *fence_malloc(__SIZE_TYPE__ size);
extern void fence_free(void *ptr);
#define KALM_MALLOC(size) fence_malloc(size)
#define KALM_FREE(ptr) fence_free(ptr)

#endif
