/* platform.h - the operating system's own headers, included here for the parts that need them (mapping.h, cores.h, threads.h),
   and a hint about pages of memory. */
#ifndef KALM__PLATFORM_H
#define KALM__PLATFORM_H

#include "base.h"

#if !defined(_WIN32) && (defined(__unix__) || defined(__APPLE__) || defined(__linux__))
#  if !defined(__EMSCRIPTEN__)
#    define KALM__MMAP 1
#  endif
#  include <unistd.h>
#endif
#ifndef KALM__MMAP
#  define KALM__MMAP 0
#endif
#if KALM__MMAP && !defined(KALM_NO_STDIO)
#  include <errno.h>
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <sys/stat.h>
#endif

/* Tell the system how memory will be used; it may ignore that. Large pages are for memory of our own. The rows of a mapped
   embedding table are read at random: the system would read up to megabytes around each. What is wanted soon it begins to read.
   Strict C99 hides Linux's names. */
enum { KALM__AT_RANDOM = 1, KALM__SOON = 3, KALM__LARGE_PAGES = 14 };
#if defined(__linux__) && KALM__MMAP && !defined(KALM_NO_STDIO)
#  if !defined(MADV_NORMAL)
extern int madvise(void *address, size_t length, int advice);
#  endif
#  define KALM__MADVISE 1
#endif
KALM__FN void kalm__advise(const void *data, size_t size, int advice)
{
#ifdef KALM__MADVISE
    uintptr_t page = 65536, rest = advice == KALM__SOON ? 0 : page - 1;      /* pages that it touches, or those inside */
    uintptr_t first = ((uintptr_t)data + rest) / page * page, end = ((uintptr_t)data + size + page - 1 - rest) / page * page;
    if (end > first) (void)madvise((void *)first, end - first, advice);
#else
    (void)data, (void)size, (void)advice;
#endif
}

#endif
