/* cores.h - how many threads a context starts when it is not told: as many as this process may use at the same time. That is not
   the machine's number of cores where

     - a mask of allowed cores is set (taskset, cpusets, SetProcessAffinityMask);
     - a control group limits processor time, as containers do (docker --cpus): Linux tells the limit in files, cpu.max of
       version 2 or cpu.cfs_quota_us of version 1. More threads than that would be stopped until the next
       period, and each job would wait for them.

   A limit of 1.5 cores counts as 2. The files are not read with KALM_NO_STDIO. Nothing is read from the environment. */
#ifndef KALM__CORES_H
#define KALM__CORES_H

#include "base.h"
#include "platform.h"

#if defined(__linux__) && !defined(__EMSCRIPTEN__)
#  include <sched.h>
#  if defined(CPU_SETSIZE)
#    define KALM__CPU_MASK cpu_set_t
#  else                                /* strict C99 hides type and prototype */
#    define KALM__CPU_MASK void
extern int sched_getaffinity(int pid, size_t size, void *mask);
#  endif
#  define KALM__MASK_BYTES 1024        /* 8192 cores */

/* The cores that the calling thread is allowed, a bit each. Returns how many; 0 where the system does not tell. */
KALM__FN unsigned kalm__core_mask(unsigned char mask[KALM__MASK_BYTES])
{
    void *bytes = mask;
    unsigned count = 0, i;
    memset(mask, 0, KALM__MASK_BYTES);
    if (sched_getaffinity(0, KALM__MASK_BYTES, (KALM__CPU_MASK *)bytes) < 0) return 0;
    for (i = 0; i < KALM__MASK_BYTES; i++) {
        unsigned b = mask[i];
        for (; b; b &= b - 1) count++;
    }
    return count;
}

/* How many, without the mask. */
KALM__FN unsigned kalm__allowed_cores(void)
{
    unsigned char mask[KALM__MASK_BYTES];
    return kalm__core_mask(mask);
}

#  if KALM__MMAP && !defined(KALM_NO_STDIO)

/* The beginning of a small text file: at most `room` - 1 bytes, and a NUL. 0 where it cannot be read. */
KALM__FN int kalm__read_text(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY);
    size_t at = 0;
    text[0] = 0;
    if (fd < 0) return 0;
    while (at < room - 1) {
        ssize_t n = read(fd, text + at, room - 1 - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += (size_t)n;
    }
    close(fd);
    text[at] = 0;
    return at > 0;
}

/* A number at *text, which is moved behind it and a space; negative ones ("-1": no limit) and words count as 0. */
KALM__FN uint64_t kalm__read_number(const char **text)
{
    uint64_t v = 0;
    for (; **text >= '0' && **text <= '9'; ++*text)
        if (v < (uint64_t)1 << 50) v = v * 10 + (uint64_t)(**text - '0');
    while (**text && **text != ' ' && **text != '\n') {
        v = 0;
        ++*text;
    }
    while (**text == ' ') ++*text;
    return v;
}

/* What one control group allows, in cores; 0: no limit. folder: a path that ends in no '/'; version 1 or 2. */
KALM__FN unsigned kalm__group_limit(const char *folder, int version)
{
    char path[1200], text[64];
    const char *at = text;
    uint64_t quota, period;
    kalm__writer w;
    int part;
    for (quota = period = 0, part = 0; part < 2; part++) {
        const char *name = version == 2 ? "/cpu.max" : part ? "/cpu.cfs_period_us" : "/cpu.cfs_quota_us";
        w.at = path;
        w.room = sizeof path - 1;
        kalm__put_word(&w, folder);
        kalm__put_word(&w, name);
        *w.at = 0;
        if (!w.room || (!(version == 2 && part) && !kalm__read_text(path, text, sizeof text))) return 0;
        if (version == 1) at = text;
        if (part) period = kalm__read_number(&at);
        else quota = kalm__read_number(&at);
    }
    if (!quota || !period) return 0;
    quota = (quota + period - 1) / period;
    return quota < 1u << 16 ? (unsigned)quota : 0;
}

/* The least that the group of this process and the groups around it allow, in cores; 0: no limit. root: "" (tests have a folder
   that stands for "/"). */
KALM__FN unsigned kalm__group_cores(const char *root)
{
    char text[4096], path[1024];
    const char *line, *next, *mount;
    kalm__writer w;
    unsigned least = 0;
    w.at = path;
    w.room = sizeof path - 1;
    kalm__put_word(&w, root);
    kalm__put_word(&w, "/proc/self/cgroup");
    *w.at = 0;
    if (!kalm__read_text(path, text, sizeof text)) return 0;
    /* lines "0::/path" (version 2) and "4:cpu,cpuacct:/path" (version 1) */
    for (line = text; *line; line = next) {
        const char *end = strchr(line, '\n'), *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        size_t base, n, i;
        int version = 0;
        if (!end) end = line + strlen(line);
        next = *end ? end + 1 : end;
        if (!group || group > end) continue;
        names++;
        if (names == group) version = 2;
        for (i = 0; names + i + 3 <= group; i++)
            if ((!i || names[i - 1] == ',') && !memcmp(names + i, "cpu", 3) && (names + i + 3 == group || names[i + 3] == ','))
                version = 1;
        if (!version) continue;
        mount = version == 2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
        w.at = path;
        w.room = sizeof path - 1;
        kalm__put_word(&w, root);
        kalm__put_word(&w, mount);
        base = (size_t)(w.at - path);
        group++;
        if (group + 1 < end) while (group < end) kalm__put(&w, *group++);
        if (!w.room) continue;
        /* upwards; in a container the path may be the host's, and only the topmost folder is there */
        for (n = (size_t)(w.at - path);; ) {
            unsigned limit;
            path[n] = 0;
            limit = kalm__group_limit(path, version);
            if (limit && (!least || limit < least)) least = limit;
            if (n <= base) break;
            while (n > base && path[--n] != '/') {}
        }
    }
    return least;
}
#  endif
#endif

/* At least 1. */
KALM__FN unsigned kalm__cores(void)
{
#if defined(_WIN32)
    SYSTEM_INFO info;
    DWORD_PTR mask = 0, machine;
    unsigned count = 0;
    GetSystemInfo(&info);
    if (GetProcessAffinityMask(GetCurrentProcess(), &mask, &machine))
        for (; mask; mask &= mask - 1) count++;    /* 0 where the process spans groups of 64 cores */
    if (!count) count = (unsigned)info.dwNumberOfProcessors;
    return count ? count : 1;
#else
    unsigned count = 0;
#  if defined(__linux__) && !defined(__EMSCRIPTEN__)
    count = kalm__allowed_cores();
#  endif
#  if (defined(__unix__) || defined(__APPLE__) || defined(__linux__)) && defined(_SC_NPROCESSORS_ONLN)
    if (!count) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        count = n > 0 ? (unsigned)n : 1;
    }
#  endif
#  if defined(__linux__) && KALM__MMAP && !defined(KALM_NO_STDIO)
    {
        unsigned limit = count > 1 ? kalm__group_cores("") : 0;
        if (limit && limit < count) count = limit;
    }
#  endif
    return count ? count : 1;
#endif
}

#endif
