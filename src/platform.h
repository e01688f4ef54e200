/* platform.h - what the operating system gives: a file mapped read-only, the number of cores. The only part that knows
   POSIX and Windows files. Without KALM_NO_STDIO a system with neither gets plain fopen and a copy in memory. */
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

/* A read-only view of a file. `mapped` tells how to give it back. */
typedef struct kalm__mapping {
    const unsigned char *data;         /* NULL when empty */
    size_t               size;
    int                  mapped;       /* 1: by the system; 0: a block of `block` bytes from the allocator */
    void                *block;
    size_t               block_size;
} kalm__mapping;

#ifndef KALM_NO_STDIO

#if KALM__MMAP
#  include <errno.h>
#  include <fcntl.h>
#  include <sys/mman.h>
#  include <sys/stat.h>

KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, const kalm_allocator *alloc, kalm_error *err)
{
    struct stat st;
    int fd, flags = O_RDONLY;
    void *p;
    (void)alloc;
    memset(m, 0, sizeof *m);
#  ifdef O_CLOEXEC
    flags |= O_CLOEXEC;
#  endif
    /* a FIFO or a terminal must not make the caller wait */
#  ifdef O_NONBLOCK
    flags |= O_NONBLOCK;
#  endif
    fd = open(path, flags);
    if (fd < 0)
        return kalm__fail(err, KALM_CANNOT_READ, "%q: %s", path, strlen(path),
                          errno == ENOENT ? "no such file" : errno == EACCES ? "permission denied" : "cannot be opened");
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return kalm__fail(err, KALM_CANNOT_READ, "%q: not a regular file", path, strlen(path));
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size > SIZE_MAX) {
        close(fd);
        return st.st_size <= 0 ? kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty", path, strlen(path))
                               : kalm__fail(err, KALM_CANNOT_READ, "%q: %U bytes do not fit the address space", path,
                                            strlen(path), (uint64_t)st.st_size);
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        return kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot map %U bytes", path, strlen(path),
                          (uint64_t)st.st_size);
    m->data = (const unsigned char *)p;
    m->size = (size_t)st.st_size;
    m->mapped = 1;
    return KALM_OK;
}

KALM__FN void kalm__unmap_file(kalm__mapping *m, const kalm_allocator *alloc)
{
    (void)alloc;
    if (m->data) {
        union { const void *in; void *out; } p;
        p.in = m->data;
        munmap(p.out, m->size);
    }
    m->data = NULL;
}

#elif defined(_WIN32)

KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, const kalm_allocator *alloc, kalm_error *err)
{
    int wide = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    WCHAR *name;
    HANDLE file, map;
    LARGE_INTEGER size;
    void *p;
    memset(m, 0, sizeof *m);
    if (wide <= 0) return kalm__fail(err, KALM_CANNOT_READ, "the path %q is not UTF-8", path, strlen(path));
    name = (WCHAR *)kalm__alloc(alloc, (size_t)wide * sizeof *name);
    if (!name) return kalm__fail(err, KALM_NO_MEMORY, "no memory for a path of %d characters", wide);
    MultiByteToWideChar(CP_UTF8, 0, path, -1, name, wide);
    /* shared with writers, as elsewhere: the converter opens what it has just written */
    file = CreateFileW(name, GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING,
                       FILE_ATTRIBUTE_NORMAL, NULL);
    kalm__release(alloc, name, (size_t)wide * sizeof *name);
    if (file == INVALID_HANDLE_VALUE) {
        DWORD e = GetLastError();
        return kalm__fail(err, KALM_CANNOT_READ, "%q: %s", path, strlen(path),
                          e == ERROR_FILE_NOT_FOUND || e == ERROR_PATH_NOT_FOUND ? "no such file"
                          : e == ERROR_ACCESS_DENIED ? "permission denied" : "cannot be opened");
    }
    if (!GetFileSizeEx(file, &size) || size.QuadPart <= 0 || (uint64_t)size.QuadPart > SIZE_MAX) {
        CloseHandle(file);
        return kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty or too large to map", path, strlen(path));
    }
    map = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    CloseHandle(file);
    p = map ? MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0) : NULL;
    if (map) CloseHandle(map);
    if (!p)
        return kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot map %U bytes", path, strlen(path),
                          (uint64_t)size.QuadPart);
    m->data = (const unsigned char *)p;
    m->size = (size_t)size.QuadPart;
    m->mapped = 1;
    return KALM_OK;
}

KALM__FN void kalm__unmap_file(kalm__mapping *m, const kalm_allocator *alloc)
{
    (void)alloc;
    if (m->data) UnmapViewOfFile(m->data);
    m->data = NULL;
}

#else
#  include <stdio.h>

KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, const kalm_allocator *alloc, kalm_error *err)
{
    FILE *f = fopen(path, "rb");
    long size;
    unsigned char *data;
    memset(m, 0, sizeof *m);
    if (!f) return kalm__fail(err, KALM_CANNOT_READ, "%q: cannot be opened", path, strlen(path));
    if (fseek(f, 0, SEEK_END) || (size = ftell(f)) <= 0 || fseek(f, 0, SEEK_SET)) {
        fclose(f);
        return kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty or cannot be measured", path, strlen(path));
    }
    m->block_size = (size_t)size + 63;
    m->block = kalm__alloc(alloc, m->block_size);
    if (!m->block) {
        fclose(f);
        return kalm__fail(err, KALM_NO_MEMORY, "no memory for the %z bytes of %q", (size_t)size, path, strlen(path));
    }
    data = kalm__align64(m->block);
    if (fread(data, 1, (size_t)size, f) != (size_t)size) {
        fclose(f);
        kalm__release(alloc, m->block, m->block_size);
        memset(m, 0, sizeof *m);
        return kalm__fail(err, KALM_CANNOT_READ, "%q: cannot be read to its end", path, strlen(path));
    }
    fclose(f);
    m->data = data;
    m->size = (size_t)size;
    return KALM_OK;
}

KALM__FN void kalm__unmap_file(kalm__mapping *m, const kalm_allocator *alloc)
{
    kalm__release(alloc, m->block, m->block_size);
    m->data = NULL;
}
#endif
#endif /* KALM_NO_STDIO */

/* A hint, which the system may ignore: that large pages would serve this memory well. (The weights get none: that they will be
   read soon changed nothing measurable, cold from a disk of 40 MB a second and of 2 GB a second, and the pages of a file
   are not the caller's to choose.) Advice 14 is Linux's MADV_HUGEPAGE; strict C99 hides the name, and the prototype with it. */
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

/* Cores this process may run on, at least 1. */
KALM__FN unsigned kalm__cores(void)
{
#if defined(_WIN32)
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return info.dwNumberOfProcessors ? (unsigned)info.dwNumberOfProcessors : 1;
#elif (defined(__unix__) || defined(__APPLE__) || defined(__linux__)) && defined(_SC_NPROCESSORS_ONLN)
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
#else
    return 1;
#endif
}

#endif
