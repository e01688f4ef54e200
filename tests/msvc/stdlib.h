/* stdlib.h - see windows.h here */
#ifndef STUB_STDLIB_H
#define STUB_STDLIB_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
void *malloc(size_t size);
void free(void *p);
#ifdef __cplusplus
}
#endif
#endif
