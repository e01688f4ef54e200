/* hooks.h - an allocator for -DKALM_MALLOC=my_malloc -DKALM_FREE=my_free */
#include <stdlib.h>
static void *my_malloc(size_t size) { return malloc(size); }
static void my_free(void *p) { free(p); }
