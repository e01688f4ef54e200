/* guard.h - buffers between two unreadable pages, for tests of code that must not touch a byte beside them. They end just before
   the second page, or, with guard_front set, begin just behind the first. Systems without mmap get plain memory.
   Included before anything else: it asks for mmap's MAP_ANONYMOUS under -std=c99. */
#ifndef TEST_GUARD_H
#define TEST_GUARD_H

#ifndef _DEFAULT_SOURCE
#  define _DEFAULT_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__unix__) || defined(__APPLE__)
#  if !defined(__EMSCRIPTEN__)
#    include <sys/mman.h>
#    include <unistd.h>
#    define GUARD 1
#  endif
#endif

typedef struct buffer {
    unsigned char *data, *block;
    size_t         block_size;
} buffer;

static int guard_front;

/* `size` bytes at a multiple of `align`, which a page is, filled with 0xa5: the last of them just before an unreadable page (up to
   align - 1 bytes off), or the first just behind one. */
static buffer take(size_t size, size_t align)
{
    buffer b;
#ifdef GUARD
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + align + page - 1) / page * page;
    b.block_size = whole + 2 * page;
    b.block = (unsigned char *)mmap(NULL, b.block_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.block == MAP_FAILED || mprotect(b.block, page, PROT_NONE) || mprotect(b.block + page + whole, page, PROT_NONE)) {
        fprintf(stderr, "no memory\n");
        exit(EXIT_FAILURE);
    }
    b.data = b.block + page + (guard_front ? 0 : (whole - size) / align * align);
#else
    b.block_size = size + align;
    b.block = (unsigned char *)malloc(b.block_size);
    if (!b.block) {
        fprintf(stderr, "no memory\n");
        exit(EXIT_FAILURE);
    }
    b.data = b.block + (align - (uintptr_t)b.block % align) % align;
#endif
    memset(b.data, 0xa5, size);
    return b;
}

static void give(buffer b)
{
#ifdef GUARD
    munmap(b.block, b.block_size);
#else
    free(b.block);
#endif
}

#endif
