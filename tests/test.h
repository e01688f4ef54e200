/* test.h - the whole harness: CHECK counts, a failure prints its place, test_end() prints "N passed, N failed" as the
   last line and gives main its exit status. Not a framework: a test is a C program.

     #include "test.h"
     int main(void)
     {
         CHECK(1 + 1 == 2);
         CHECKF(x < 3, "case %d: x is %g", i, x);         the message is printed when the check fails
         return test_end();
     }

   CHECK and CHECKF give back whether it held, so `if (!CHECK(p != NULL)) return;` reads well. Counters belong to the
   main thread: a thread reports through its own result. With KALM_TEST_STOP in the environment the first failure ends the
   program: tests/mutate.sh asks only whether there is one. */
#ifndef KALM_TEST_H
#define KALM_TEST_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Under ThreadSanitizer, which takes ten times as long and looks at threads: */
#if defined(__SANITIZE_THREAD__)
#  define TSAN 1
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
#    define TSAN 1
#  endif
#endif
#ifndef TSAN
#  define TSAN 0
#endif

#if defined(__GNUC__)
#  define TEST__FN static __attribute__((unused))
#  if defined(__MINGW32__)             /* whose printf attribute knows the letters of another C library */
#    define TEST__PRINTF(a, b)
#  else
#    define TEST__PRINTF(a, b) __attribute__((format(printf, a, b)))
#  endif
#else
#  define TEST__FN static
#  define TEST__PRINTF(a, b)
#endif

static unsigned long test__passed, test__failed;

#define CHECK(x) test__check(!!(x), __FILE__, __LINE__, "%s", #x)
#define CHECKF(x, ...) test__check(!!(x), __FILE__, __LINE__, __VA_ARGS__)

TEST__FN int test_end(void)
{
    fflush(stderr);
    printf("%lu passed, %lu failed\n", test__passed, test__failed);
    return test__failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

TEST__FN TEST__PRINTF(4, 5) int test__check(int ok, const char *file, int line, const char *format, ...)
{
    va_list args;
    if (ok) {
        test__passed++;
        return 1;
    }
    /* After 50 the picture is clear; the count goes on. */
    if (test__failed++ < 50) {
        fflush(stdout);
        fprintf(stderr, "%s:%d: FAILED: ", file, line);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
    }
    if (getenv("KALM_TEST_STOP")) exit(test_end());
    return 0;
}

/* A reproducible stream of numbers (splitmix64); start *state anywhere. */
TEST__FN uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Uniform in [-1, 1). */
TEST__FN float test_random_float(uint64_t *state)
{
    return (float)(test_random(state) >> 40) / 8388608.0f - 1.0f;
}

/* A whole file, NUL behind it, or NULL; the caller frees it. */
TEST__FN unsigned char *test_read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    unsigned char *data = NULL;
    long n = -1;
    if (f && fseek(f, 0, SEEK_END) == 0) n = ftell(f);
    if (f && n >= 0 && fseek(f, 0, SEEK_SET) == 0) data = (unsigned char *)malloc((size_t)n + 1);
    if (data && fread(data, 1, (size_t)n, f) != (size_t)n) {
        free(data);
        data = NULL;
    }
    if (data) {
        data[n] = 0;
        if (size) *size = (size_t)n;
    }
    if (f) fclose(f);
    return data;
}

#endif
