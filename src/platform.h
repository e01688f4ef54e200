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

/* Tell the system that large pages would serve this memory well; it may ignore that. Only for working memory: for the weights,
   advice to read ahead changed nothing measurable (cold, from disks of 40 MB and of 2 GB a second), and the pages of a mapped
   file are not ours to choose. Advice 14 is Linux's MADV_HUGEPAGE; strict C99 hides the name, and the prototype with it. */
#if defined(__linux__) && KALM__MMAP
#  if !defined(KALM_NO_STDIO)
#    if !defined(MADV_NORMAL)
extern int madvise(void *address, size_t length, int advice);
#    endif
#    define KALM__MADVISE 1
#  endif
#endif
KALM__FN void kalm__prefer_large_pages(void *data, size_t size)
{
#ifdef KALM__MADVISE
    uintptr_t page = 4096, first = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + size) / page * page;
    if (end > first) (void)madvise((void *)first, end - first, 14);
#else
    (void)data, (void)size;
#endif
}

#endif
