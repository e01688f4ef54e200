/* test_platform.c - what the library asks of the operating system: a model file mapped or read, and how many cores there are.

   Model files: pipes, folders, devices, empty files and files of other kinds are refused with a sentence; a file that was read
   may change afterwards; a file that ends or fails while it is read is an error. Cores: a mask of allowed cores and the limits of
   control groups count. Linux; on other systems less of it runs. POSIX. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Reads that fall short, are interrupted or fail, as the next test wants. */
static long read_most, read_interrupts, read_fails_at = -1, read_ends_at = -1;
static ssize_t test_read(int fd, void *to, size_t n)
{
    off_t at = lseek(fd, 0, SEEK_CUR);
    if (read_interrupts > 0) {
        read_interrupts--;
        errno = EINTR;
        return -1;
    }
    if (read_ends_at >= 0 && at >= read_ends_at) return 0;
    if (read_fails_at >= 0 && at >= read_fails_at) {
        errno = EIO;
        return -1;
    }
    if (read_most > 0 && n > (size_t)read_most) n = (size_t)read_most;
    return read(fd, to, n);
}
#define read test_read

/* Where the files are that say what the control groups of this process allow: "" or a folder that stands for "/". */
static const char *groups_at = "";
static int test_open(const char *path, int flags)
{
    char other[512];
    if (strncmp(path, "/proc/", 6) && strncmp(path, "/sys/", 5)) return open(path, flags);
    return snprintf(other, sizeof other, "%s%s", groups_at, path) < (int)sizeof other ? open(other, flags) : -1;
}
#define open(path, flags) test_open(path, flags)

static size_t large;                   /* bytes that were asked for in large pages */
#ifdef __linux__
static int test_madvise(void *address, size_t size, int advice)
{
    (void)address;
    if (advice == 14) large += size;
    return 0;
}
#define madvise test_madvise
#endif

#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "command.h"
#include <sys/stat.h>

#define TMP TEST_BUILD "/tmp/platform"
#define TINY TEST_BUILD "/tiny.kalm"

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static size_t live;                    /* bytes that the allocator has given out */
static long calls, fail_at;            /* the allocation that fails; 0: none */
static void *count_alloc(void *user, size_t size)
{
    (void)user;
    if (++calls == fail_at) return NULL;
    live += size;
    return malloc(size);
}
static void count_release(void *user, void *p, size_t size)
{
    (void)user;
    live -= size;
    free(p);
}

static kalm_result open_model(const char *path, uint32_t load, kalm_model **m, kalm_error *err)
{
    kalm_config config;
    memset(&config, 0, sizeof config);
    config.load = load;
    config.allocator.alloc = count_alloc;
    config.allocator.release = count_release;
    return kalm_model_open(path, &config, m, err);
}

/* Both ways of opening refuse `path`, in these words, and keep nothing. */
static void refuse(const char *path, kalm_result code, const char *words)
{
    uint32_t load;
    for (load = KALM_LOAD_MAP; load <= KALM_LOAD_READ; load++) {
        kalm_model *m = (kalm_model *)(void *)&live;
        kalm_error err;
        kalm_result r = open_model(path, load, &m, &err);
        CHECKF(r == code && err.code == code && strstr(err.text, words), "%s: %d, %s", path, (int)r, err.text);
        CHECK(m == NULL && live == 0);
    }
}

static void test_refused(void)
{
    static const struct { const char *bytes; size_t size; const char *words; } table[] = {
        { "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n",
          0, "not a .kalm file but a Git LFS pointer, which stands for a file that was not fetched: run git lfs pull" },
        { "version https://git-lfs.", 0, "not a .kalm file but a Git LFS pointer" },
        { "version https://git", 0, "not a .kalm file: it does not begin with the KALM signature" },
        { "\n\n<!doctype HTML>", 0, "not a .kalm file but a web page" },
        { "{\"error\": \"no such model\"}", 0, "not a .kalm file but a JSON text" },
        { "\x28\0\0\0\0\0\0\0{\"__metadata__\":", 24, "not a .kalm file but a safetensors file: kalm-quantize makes" },
        { "\x80\2\0\0\0\0\0\0{\"a\":", 13, "not a .kalm file but a safetensors file: kalm-quantize makes" },
        { "GGUF\3\0\0\0", 8, "not a .kalm file but a GGUF file" },
        { "\x89KALM\n\x1a", 0, "not a .kalm file but a .kalm file that was damaged by a copy in text mode" },
        { "\x89KALM\r\n\x1a", 0, "not a .kalm file but the beginning of one: it was cut short" },
        { "SQLite format 3", 16, "not a .kalm file but an SQLite database" },
        { "version https://hawser.github.com/spec/v1\n", 0, "not a .kalm file but a Git LFS pointer" },
        { "/annex/objects/SHA256E-s1--x\n", 0, "not a .kalm file but a git-annex pointer" },
        { "PK\3\4archive/data.pkl", 0, "not a .kalm file but a ZIP archive" },
        { "\x1f\x8b\x08", 0, "not a .kalm file but a file packed with gzip" },
        { "\x28\xb5\x2f\xfd", 0, "not a .kalm file but a file packed with zstd" },
        { "\xfd" "7zXZ", 0, "not a .kalm file but a file packed with xz" },
        { "BZh91AY", 0, "not a .kalm file but a file packed with bzip2" },
        { "%PDF-1.7", 0, "not a .kalm file but a PDF" },
        { "\x80\2\x8a\n", 0, "not a .kalm file but a Python pickle" },
        { "\xef\xbb\xbf\r\n\t[{\"error\": 1}]", 0, "not a .kalm file but a JSON text" },
        { "<HEAD><TITLE>Not Found</TITLE></HEAD>", 0, "not a .kalm file but a web page" },
        { "<!-- nothing -->", 0, "not a .kalm file but a web page" },
        { "<HTML>", 0, "not a .kalm file but a web page" },
        { "<?XML version='1.0'?>", 0, "not a .kalm file but an XML text" },
        { "x", 1, "not a .kalm file: it does not begin with the KALM signature" }
    };
    size_t i, n;
    unsigned char *file, *zeros = (unsigned char *)calloc(1, 1 << 20);
    for (i = 0; i < sizeof table / sizeof *table; i++) {
        write_bytes(TMP "/bad.kalm", table[i].bytes, table[i].size ? table[i].size : strlen(table[i].bytes));
        refuse(TMP "/bad.kalm", KALM_BAD_FILE, table[i].words);
    }
    write_bytes(TMP "/bad.kalm", zeros, 1 << 20);
    refuse(TMP "/bad.kalm", KALM_BAD_FILE, "not a .kalm file but zeros, as of a download");
    free(zeros);
    write_bytes(TMP "/bad.kalm", "", 0);
    refuse(TMP "/bad.kalm", KALM_BAD_FILE, "bad.kalm: the file is empty");
    file = test_read_file(TINY, &n);
    if (!CHECK(file != NULL)) return;
    write_bytes(TMP "/bad.kalm", file, n - 1);
    refuse(TMP "/bad.kalm", KALM_BAD_FILE, ": the download or copy was cut short");
    write_bytes(TMP "/bad.kalm", file, n + 1);
    refuse(TMP "/bad.kalm", KALM_BAD_FILE, "the model file says it has");
    free(file);
    CHECK(!mkfifo(TMP "/pipe", 0666));
    refuse(TMP "/pipe", KALM_CANNOT_READ, "pipe: not a regular file");
    refuse(TMP, KALM_CANNOT_READ, "platform: a folder, not a file");
    refuse("/dev/null", KALM_CANNOT_READ, "/dev/null: not a regular file");
    refuse("/dev/zero", KALM_CANNOT_READ, "/dev/zero: not a regular file");
    refuse(TMP "/none", KALM_CANNOT_READ, "none: no such file");
    refuse(TMP "/pipe/x", KALM_CANNOT_READ, "pipe/x: cannot be opened");
    refuse("", KALM_CANNOT_READ, ": no such file");
    CHECK(!symlink("loop", TMP "/loop"));
    refuse(TMP "/loop", KALM_CANNOT_READ, "loop: cannot be opened");
}

static void test_load(void)
{
    static const char text[] = "a chess game";
    kalm_model *m[2] = { NULL, NULL };
    kalm_error err;
    size_t n, i, before;
    char words[80];
    unsigned char *file = test_read_file(TINY, &n);
    float margin[2];
    if (!CHECK(file != NULL)) return;
    write_bytes(TMP "/model.kalm", file, n);
    CHECK(open_model(TMP "/model.kalm", 2, &m[0], &err) == KALM_BAD_ARGUMENT && strstr(err.text, "load is 2") && !m[0]);
    large = 0;
    CHECK(!open_model(TMP "/model.kalm", KALM_LOAD_MAP, &m[0], &err) && live < n && large == 0);
    before = live;
    read_most = 1000;
    read_interrupts = 3;
    CHECKF(!open_model(TMP "/model.kalm", KALM_LOAD_READ, &m[1], &err) && live >= before + n, "%s", err.text);
    read_most = 0;
#ifdef KALM__MADVISE
    CHECKF(large > n - 200000 && large <= n + 64, "%zu of %zu bytes asked for in large pages", large, n);
#endif
    for (i = 0; i < 2 && m[i]; i++) {
        kalm_context *c;
        kalm_score score;
        kalm_text query, doc;
        query.data = "play chess", query.size = KALM_NUL;
        doc.data = text, doc.size = KALM_NUL;
        if (i) {                       /* the mapped one is done with: now the file goes away, even while it is in use */
            kalm_model_close(m[0]);
            CHECK(!truncate(TMP "/model.kalm", 0));
        }
        CHECK(!kalm_model_verify(m[i], &err));
        if (!CHECKF(!kalm_context_new(m[i], NULL, &c, &err), "%s", err.text)) continue;
        CHECK(!kalm_rerank_texts(c, query, &doc, 1, NULL, &score, &err));
        margin[i] = score.margin;
        kalm_context_free(c);
    }
    CHECK(!memcmp(&margin[0], &margin[1], sizeof margin[0]));
    kalm_model_close(m[1]);
    CHECK(live == 0);
    /* files that end early, or fail, while they are read */
    write_bytes(TMP "/model.kalm", file, n);
    read_most = 70000;
    read_ends_at = 70000;
    CHECK(open_model(TMP "/model.kalm", KALM_LOAD_READ, &m[0], &err) == KALM_CANNOT_READ && !m[0] && live == 0);
    sprintf(words, "model.kalm: ends at byte 70000, and had %lu when it was opened", (unsigned long)n);
    CHECKF(strstr(err.text, words) != NULL, "%s", err.text);
    read_ends_at = -1;
    read_fails_at = 0;
    CHECK(open_model(TMP "/model.kalm", KALM_LOAD_READ, &m[0], &err) == KALM_CANNOT_READ && !m[0] && live == 0);
    CHECKF(strstr(err.text, "model.kalm: the system cannot read it at byte 0") != NULL, "%s", err.text);
    read_fails_at = -1;
    read_most = 0;
    free(file);
}

/* Every allocation fails once, in either way of opening, up to a context that has ranked. */
static void test_no_memory(void)
{
    uint32_t load;
    for (load = KALM_LOAD_MAP; load <= KALM_LOAD_READ; load++) {
        long n;
        int done = 0;
        for (n = 1; !done && CHECK(n < 100); n++) {
            kalm_model *m = NULL;
            kalm_context *c = NULL;
            kalm_error err;
            kalm_config config;
            kalm_result r;
            memset(&config, 0, sizeof config);
            config.threads = 1;
            config.allocator.alloc = count_alloc;
            config.allocator.release = count_release;
            config.load = load;
            calls = 0;
            fail_at = n;
            r = kalm_model_open(TINY, &config, &m, &err);
            CHECK(!r == (m != NULL));
            if (!r) r = kalm_context_new(m, &config, &c, &err);
            CHECK(!r == (c != NULL));
            if (r) CHECKF(r == KALM_NO_MEMORY && strstr(err.text, "no memory"), "allocation %d: %d, %s", (int)n, (int)r, err.text);
            done = !r && calls < n;
            kalm_context_free(c);
            kalm_model_close(m);
            CHECKF(live == 0, "allocation %d: %d bytes are lost", (int)n, (int)live);
        }
        CHECK(n > (load == KALM_LOAD_READ ? 3 : 2));
    }
    fail_at = 0;
}

/* ---- cores --------------------------------------------------------------------------------------------------------- */

#if defined(__linux__)

/* A system with these control groups: the text of /proc/self/cgroup, then pairs of path and text. */
static void group_system(const char *cgroup, ...)
{
    va_list args;
    const char *path;
    CHECK(run("rm -rf " TMP "/root && mkdir -p " TMP "/root/proc/self") == 0);
    write_bytes(TMP "/root/proc/self/cgroup", cgroup, strlen(cgroup));
    va_start(args, cgroup);
    while ((path = va_arg(args, const char *)) != NULL) {
        const char *text = va_arg(args, const char *);
        char to[300];
        CHECK(run("mkdir -p \"$(dirname '" TMP "/root/sys/fs/cgroup/%s')\"", path) == 0);
        snprintf(to, sizeof to, TMP "/root/sys/fs/cgroup/%s", path);
        write_bytes(to, text, strlen(text));
    }
    va_end(args);
}

static void expect_group(unsigned cores, int line)
{
    unsigned is = kalm__group_cores(TMP "/root");
    CHECKF(is == cores, "line %d: %u cores, should be %u", line, is, cores);
}

static void test_groups(void)
{
    char long_path[1100];
    cpu_set_t mask;
    unsigned all;
    run("rm -rf " TMP "/root");
    expect_group(0, __LINE__);         /* no such files */
    group_system("0::/\n", "cpu.max", "200000 100000\n", NULL);
    expect_group(2, __LINE__);
    group_system("0::/\n", "cpu.max", "max 100000\n", NULL);
    expect_group(0, __LINE__);
    group_system("0::/\n", "cpu.max", "150000 100000\n", NULL);
    expect_group(2, __LINE__);         /* rounded up */
    group_system("0::/\n", "cpu.max", "1000 100000\n", NULL);
    expect_group(1, __LINE__);
    group_system("0::/a/b\n", "cpu.max", "700000 100000", "a/cpu.max", "300000 100000\n", "a/b/cpu.max", "max 100000\n", NULL);
    expect_group(3, __LINE__);         /* the least on the way up */
    group_system("0::/a/b\n", "a/b/cpu.max", "50000 10000\n", "a/cpu.max", "max 100000\n", NULL);
    expect_group(5, __LINE__);
    group_system("0::/host/path/that/is/not/here\n", "cpu.max", "400000 100000\n", NULL);
    expect_group(4, __LINE__);
    group_system("12:cpuset:/x\n4:cpu,cpuacct:/docker/abc\n0::/\n", "cpu/cpu.cfs_quota_us", "600000\n", "cpu/cpu.cfs_period_us", "100000\n", NULL);
    expect_group(6, __LINE__);         /* version 1, the host's path */
    group_system("4:cpuacct,cpu:/docker/abc\n", "cpu/docker/abc/cpu.cfs_quota_us", "250000\n", "cpu/docker/abc/cpu.cfs_period_us", "100000\n",
                 "cpu/cpu.cfs_quota_us", "-1\n", "cpu/cpu.cfs_period_us", "100000\n", NULL);
    expect_group(3, __LINE__);
    group_system("4:cpu:/\n", "cpu/cpu.cfs_quota_us", "-1\n", "cpu/cpu.cfs_period_us", "100000\n", NULL);
    expect_group(0, __LINE__);
    group_system("4:cpuset:/\n", "cpu/cpu.cfs_quota_us", "100000\n", "cpu/cpu.cfs_period_us", "100000\n", NULL);
    expect_group(0, __LINE__);         /* another controller */
    group_system("4:name=mycpu:/\n", "cpu/cpu.cfs_quota_us", "100000\n", "cpu/cpu.cfs_period_us", "100000\n", NULL);
    expect_group(0, __LINE__);
    group_system("4:cpu:/\n", "cpu/cpu.cfs_quota_us", "200000\n", NULL);
    expect_group(0, __LINE__);
    /* of the mask's cores and the group's the fewer; more than 65,535 are no limit */
    groups_at = "";
    all = kalm__allowed_cores();
    if (!sched_getaffinity(0, sizeof mask, &mask)) CHECKF(all == (unsigned)CPU_COUNT(&mask), "%u cores of the mask's %d", all, CPU_COUNT(&mask));
    groups_at = TMP "/root";
    group_system("0::/\n", "cpu.max", "100000 100000\n", NULL);
    CHECK(kalm__cores() == 1);
    group_system("0::/\n", "cpu.max", "6553500000 100000\n", NULL);
    expect_group(65535, __LINE__);
    CHECK(kalm__cores() == all);
    group_system("0::/\n", "cpu.max", "6553500001 100000\n", NULL);
    expect_group(0, __LINE__);
    CHECK(kalm__cores() == all);
    groups_at = "";
    /* what no kernel writes */
    group_system("0::/\n", "cpu.max", "", NULL);
    expect_group(0, __LINE__);
    group_system("0::/\n", "cpu.max", "200000", NULL);
    expect_group(0, __LINE__);
    group_system("0::/\n", "cpu.max", "200000 0\n", NULL);
    expect_group(0, __LINE__);
    group_system("0::/\n", "cpu.max", "99999999999999999999999999999 1\n", NULL);
    expect_group(0, __LINE__);
    group_system("0::/\n", "cpu.max", "junk\n\n 7 x7", NULL);
    expect_group(0, __LINE__);
    group_system("::::\n0\n:\n0:\n0:::/\n\n0::", "cpu.max", "300000 100000", NULL);
    expect_group(3, __LINE__);
    memset(long_path, 'x', sizeof long_path);
    memcpy(long_path, "0::/", 4);
    long_path[sizeof long_path - 1] = 0;
    group_system(long_path, "cpu.max", "300000 100000", NULL);
    expect_group(0, __LINE__);         /* too long to be looked for */
}

/* In a child, so that this process keeps its mask. */
static void test_mask(void)
{
    unsigned all = kalm__cores(), machine = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    pid_t child;
    int status = 0;
    CHECKF(all >= 1 && all <= machine, "%u cores of %u", all, machine);
    fflush(stdout);
    child = fork();
    if (!child) {
        cpu_set_t set, one;
        size_t i;
        if (sched_getaffinity(0, sizeof set, &set)) _exit(2);
        for (i = 0; i < CPU_SETSIZE - 1 && !CPU_ISSET(i, &set); i++) {}
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        if (sched_setaffinity(0, sizeof one, &one)) _exit(3);
        _exit(kalm__cores() == 1 ? 0 : 1);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    CHECKF(WIFEXITED(status) && WEXITSTATUS(status) == 0, "with a mask of one core: status %x", (unsigned)status);
}
#else
static void test_groups(void) {}
static void test_mask(void) { CHECK(kalm__cores() >= 1); }
#endif

/* ---- signals ------------------------------------------------------------------------------------------------------- */

/* A signal that is blocked after a context was made waits for sigwait (test_threads.c has the masks; there the library is
   compiled as strict C99, here with all names of the system). */
static void test_signals(void)
{
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_config config;
    kalm_error err;
    sigset_t user, pending;
    int n = 0;
    memset(&config, 0, sizeof config);
    config.threads = 3;
    CHECK(kalm_model_open(TINY, NULL, &model, &err) == KALM_OK);
    if (model && CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_OK)) {
        sigemptyset(&user);
        sigaddset(&user, SIGUSR1);
        sigprocmask(SIG_BLOCK, &user, NULL);
        kill(getpid(), SIGUSR1);
        usleep(2000);
        CHECK(!sigpending(&pending) && sigismember(&pending, SIGUSR1));
        CHECK(!sigwait(&user, &n) && n == SIGUSR1);
        sigprocmask(SIG_UNBLOCK, &user, NULL);
    }
    kalm_context_free(ctx);
    kalm_model_close(model);
}

/* ---- leave to use tiles (AMX) ---------------------------------------------------------------------------------------- */

#if defined(__linux__)
static int small_stack_is_allowed(void)
{
    static char room[8192];            /* SIGSTKSZ, as most programs have it: tiles do not fit */
    stack_t stack, none;
    int ok;
    memset(&stack, 0, sizeof stack);
    memset(&none, 0, sizeof none);
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    none.ss_flags = SS_DISABLE;
    ok = sigaltstack(&stack, NULL) == 0;
    sigaltstack(&none, NULL);
    return ok;
}

/* Linux gives leave for good, and then refuses alternate stacks for signals that programs of today have: only a context that
   runs the set asks for it. Must come before any such context. */
static void test_tiles(void)
{
    kalm_model *model = NULL;
    kalm_context *ctx = NULL;
    kalm_config config;
    kalm_error err;
    kalm_text text = { "a text", KALM_NUL };
    kalm_doc *doc = NULL, *coarser = NULL;
    size_t i;
    int has;
    if (!small_stack_is_allowed()) return;                  /* on machines whose AVX-512 is too large already */
    for (i = 0; kalm_kernels(i); i++) {}
    has = !strcmp(kalm_kernels(0), "amx");
    CHECKF(small_stack_is_allowed(), "naming the kernel sets");
    memset(&config, 0, sizeof config);
    config.threads = 1;
    config.kernels = kalm_kernels((size_t)has);
    CHECK(kalm_model_open(TINY, NULL, &model, &err) == KALM_OK);
    if (!model) return;
    CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_OK);
    CHECK(kalm_encode(ctx, &text, 1, NULL, &doc, &err) == KALM_OK);
    CHECK(kalm_doc_repool(model, doc, 8, 8, &coarser, &err) == KALM_OK);
    CHECKF(small_stack_is_allowed(), "a context of the set %s", config.kernels);
    kalm_doc_free(doc);
    kalm_doc_free(coarser);
    kalm_context_free(ctx);
    if (has) {
        static char room[8192];
        stack_t stack;
        memset(&stack, 0, sizeof stack);
        stack.ss_sp = room;
        stack.ss_size = sizeof room;
        CHECK(sigaltstack(&stack, NULL) == 0);
        config.kernels = "amx";
        CHECKF(kalm_context_new(model, &config, &ctx, &err) == KALM_NO_KERNELS, "amx beside a small stack: %s", err.text);
        config.kernels = NULL;
        CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_OK);
        if (ctx) CHECKF(strcmp(ctx->backend.kernels->name, "amx") != 0, "the system gave leave beside a small stack");
        kalm_context_free(ctx);
        stack.ss_flags = SS_DISABLE;
        CHECK(sigaltstack(&stack, NULL) == 0);
        CHECK(kalm_context_new(model, &config, &ctx, &err) == KALM_OK);
        if (ctx) CHECK(!strcmp(ctx->backend.kernels->name, "amx"));
        kalm_context_free(ctx);
    }
    kalm_model_close(model);
}
#else
static void test_tiles(void) {}
#endif

int main(void)
{
    test_tiles();
    CHECK(run("rm -rf " TMP " && mkdir -p " TMP) == 0);
    test_refused();
    test_load();
    test_no_memory();
    test_groups();
    test_mask();
    test_signals();
    CHECK(run("rm -rf " TMP) == 0);
    return test_end();
}
