/* command.h - for tests that run commands of their build: the folder, running, and files given and taken. POSIX; include
   test.h and <sys/wait.h> behind the feature macros that the test needs. */
#ifndef KALM_TEST_COMMAND_H
#define KALM_TEST_COMMAND_H

#include "test.h"
#include <sys/wait.h>

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

static char said[1 << 20];             /* by the last command, on both streams */

/* Run a command of the shell; its exit status, or 256 + the signal that ended it. */
TEST__FN TEST__PRINTF(1, 2) int run(const char *format, ...)
{
    char command[4096];
    size_t n;
    int status;
    FILE *f;
    va_list args;
    va_start(args, format);
    n = (size_t)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (!CHECK(n + 6 < sizeof command)) return -1;
    memcpy(command + n, " 2>&1", 6);
    fflush(stdout);
    f = popen(command, "r");
    if (!CHECKF(f != NULL, "cannot be started: %s", command)) return -1;
    n = fread(said, 1, sizeof said - 1, f);
    said[n] = 0;
    status = pclose(f);
    return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

TEST__FN void write_bytes(const char *path, const void *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!CHECKF(f != NULL, "cannot write %s", path)) return;
    CHECK(fwrite(data, 1, size, f) == size);
    CHECK(!fclose(f));
}

TEST__FN int same_file(const char *a, const char *b)
{
    size_t n, m;
    unsigned char *x = test_read_file(a, &n), *y = test_read_file(b, &m);
    int same = x && y && n == m && !memcmp(x, y, n);
    free(x);
    free(y);
    return same;
}

#endif
