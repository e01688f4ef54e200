/* mapping.h - a model file made visible as bytes in memory: mapped by the system, or read into memory of the allocator. The only
   part of the library that opens model files. POSIX and Windows do either; a system with neither gets fopen and reads.

   Mapping costs nothing: pages come from the disk when they are first used, and processes share them. But the file must stay as it
   is: if it is cut short, or a network file system loses it, the next look at a lost page ends the process (SIGBUS; a structured
   exception on Windows). Reading (KALM_LOAD_READ) takes time and memory, and is independent of the file from then on. */
#ifndef KALM__MAPPING_H
#define KALM__MAPPING_H

#include "base.h"
#include "platform.h"

/* A read-only view of a file, and how to give it back. */
typedef struct kalm__mapping {
    const unsigned char *data;         /* at a multiple of 64 bytes; NULL when empty */
    size_t               size;
    int                  mapped;       /* 1: by the system; 0: in a block of `block_size` bytes from the allocator */
    void                *block;
    size_t               block_size;
} kalm__mapping;

#ifndef KALM_NO_STDIO

/* Memory for `size` bytes of a file, which has `size` > 0; returns where they go, or NULL and *r set. */
KALM__FN unsigned char *kalm__mapping_block(kalm__mapping *m, uint64_t size, const char *path, const kalm_allocator *alloc,
                                            kalm_result *r, kalm_error *err)
{
    m->block_size = size > SIZE_MAX - 64 ? SIZE_MAX : (size_t)size + 63;
    m->block = kalm__alloc(alloc, m->block_size);
    if (!m->block) {
        *r = kalm__fail(err, KALM_NO_MEMORY, "no memory for the %U bytes of %q", size, path, strlen(path));
        return NULL;
    }
    kalm__advise(m->block, m->block_size, KALM__LARGE_PAGES);
    m->data = kalm__align64(m->block);
    m->size = (size_t)size;
    return kalm__align64(m->block);
}

/* A file that ends or fails while it is read: the memory is given back. */
KALM__FN kalm_result kalm__mapping_failed(kalm__mapping *m, size_t at, int failed, const char *path, const kalm_allocator *alloc,
                                          kalm_error *err)
{
    size_t size = m->size;
    kalm__release(alloc, m->block, m->block_size);
    memset(m, 0, sizeof *m);
    if (failed) return kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot read it at byte %z", path, strlen(path), at);
    return kalm__fail(err, KALM_CANNOT_READ, "%q: ends at byte %z, and had %z when it was opened", path, strlen(path), at, size);
}

#if KALM__MMAP || defined(_WIN32)

/* Bytes from an open file: how many, of at most `size`; 0 at its end, -1 where the system fails. */
#  if KALM__MMAP
typedef int kalm__open_file;
KALM__FN long kalm__read_some(int fd, unsigned char *to, size_t size)
{
    ssize_t n;
    do n = read(fd, to, size);
    while (n < 0 && errno == EINTR);
    return (long)n;
}
#  else
typedef HANDLE kalm__open_file;
KALM__FN long kalm__read_some(HANDLE file, unsigned char *to, size_t size)
{
    DWORD n = 0;
    return ReadFile(file, to, (DWORD)size, &n, NULL) ? (long)n : -1;
}
#  endif

/* All bytes of an open file into memory. */
KALM__FN kalm_result kalm__read_file(kalm__mapping *m, kalm__open_file file, uint64_t size, const char *path,
                                     const kalm_allocator *alloc, kalm_error *err)
{
    size_t at = 0;
    kalm_result r = KALM_OK;
    unsigned char *data = kalm__mapping_block(m, size, path, alloc, &r, err);
    while (data && at < m->size) {
        long n = kalm__read_some(file, data + at, kalm__min(m->size - at, (size_t)1 << 26));
        if (n <= 0) return kalm__mapping_failed(m, at, n < 0, path, alloc, err);
        at += (size_t)n;
    }
    return r;
}
#else
#  include <stdio.h>
#endif

/* load: KALM_LOAD_MAP or KALM_LOAD_READ. To be given back with kalm__unmap_file; on failure there is nothing to give back. */
#if KALM__MMAP
KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, uint32_t load, const kalm_allocator *alloc,
                                    kalm_error *err)
{
    struct stat st;
    int fd, flags = O_RDONLY | O_NONBLOCK;         /* a FIFO or a terminal must not make the caller wait */
    kalm_result r = KALM_OK;
    void *p;
    memset(m, 0, sizeof *m);
#  ifdef O_CLOEXEC
    flags |= O_CLOEXEC;
#  endif
    fd = open(path, flags);
    if (fd < 0)
        return kalm__fail(err, KALM_CANNOT_READ, "%q: %s", path, strlen(path),
                          errno == ENOENT ? "no such file" : errno == EACCES ? "permission denied" : "cannot be opened");
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        r = kalm__fail(err, KALM_CANNOT_READ, S_ISDIR(st.st_mode) ? "%q: a folder, not a file" : "%q: not a regular file", path,
                       strlen(path));
    else if (st.st_size <= 0) r = kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty", path, strlen(path));
    else if ((uint64_t)st.st_size > SIZE_MAX)
        r = kalm__fail(err, KALM_CANNOT_READ, "%q: %U bytes do not fit the address space", path, strlen(path),
                       (uint64_t)st.st_size);
    else if (load == KALM_LOAD_READ) r = kalm__read_file(m, fd, (uint64_t)st.st_size, path, alloc, err);
    else if ((p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) != MAP_FAILED) {
        m->block = p;
        m->data = (const unsigned char *)p;
        m->size = (size_t)st.st_size;
        m->mapped = 1;
    } else if (errno == ENODEV)        /* a file system that cannot map */
        r = kalm__read_file(m, fd, (uint64_t)st.st_size, path, alloc, err);
    else
        r = kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot map %U bytes", path, strlen(path), (uint64_t)st.st_size);
    close(fd);
    return r;
}

#elif defined(_WIN32)
KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, uint32_t load, const kalm_allocator *alloc,
                                    kalm_error *err)
{
    int wide = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    WCHAR *name;
    HANDLE file;
    LARGE_INTEGER size;
    kalm_result r = KALM_OK;
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
    if (GetFileType(file) != FILE_TYPE_DISK) r = kalm__fail(err, KALM_CANNOT_READ, "%q: not a regular file", path, strlen(path));
    else if (!GetFileSizeEx(file, &size) || size.QuadPart <= 0 || (uint64_t)size.QuadPart > SIZE_MAX)
        r = kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty or too large to map", path, strlen(path));
    else if (load == KALM_LOAD_READ) r = kalm__read_file(m, file, (uint64_t)size.QuadPart, path, alloc, err);
    else {
        HANDLE map = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
        m->data = map ? (const unsigned char *)MapViewOfFile(map, FILE_MAP_READ, 0, 0, 0) : NULL;
        if (map) CloseHandle(map);
        if (m->data) {
            m->size = (size_t)size.QuadPart;
            m->mapped = 1;
        } else
            r = kalm__fail(err, KALM_CANNOT_READ, "%q: the system cannot map %U bytes", path, strlen(path), (uint64_t)size.QuadPart);
    }
    CloseHandle(file);
    return r;
}

#else
KALM__FN kalm_result kalm__map_file(kalm__mapping *m, const char *path, uint32_t load, const kalm_allocator *alloc,
                                    kalm_error *err)
{
    FILE *f = fopen(path, "rb");
    long size;
    size_t n;
    unsigned char *data;
    kalm_result r = KALM_OK;
    (void)load;                        /* there is only one way here */
    memset(m, 0, sizeof *m);
    if (!f) return kalm__fail(err, KALM_CANNOT_READ, "%q: cannot be opened", path, strlen(path));
    if (fseek(f, 0, SEEK_END) || (size = ftell(f)) <= 0 || fseek(f, 0, SEEK_SET)) {
        fclose(f);
        return kalm__fail(err, KALM_BAD_FILE, "%q: the file is empty or cannot be measured", path, strlen(path));
    }
    data = kalm__mapping_block(m, (uint64_t)size, path, alloc, &r, err);
    n = data ? fread(data, 1, (size_t)size, f) : 0;
    if (data && n != (size_t)size) r = kalm__mapping_failed(m, n, ferror(f), path, alloc, err);
    fclose(f);
    return r;
}
#endif

KALM__FN void kalm__unmap_file(kalm__mapping *m, const kalm_allocator *alloc)
{
#if KALM__MMAP
    if (m->mapped) {
        munmap(m->block, m->size);
        m->block = NULL;
    }
#elif defined(_WIN32)
    if (m->mapped) UnmapViewOfFile(m->data);
#endif
    kalm__release(alloc, m->block, m->block_size);
    memset(m, 0, sizeof *m);
}
#endif /* KALM_NO_STDIO */

#endif
