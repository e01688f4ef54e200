/* test_threads.c - the worker pool: no task is lost or done twice, no wake-up is lost, a forked child has threads of its own, a
   system that refuses threads changes no score, and signals stay with the program's own threads.

   Lost wake-ups need two threads to meet within nanoseconds. So here waiting threads hardly spin (KALM__SPINS), and at every
   place where the order of two threads matters one of them is now and then held up (KALM__RACE). Run by `make thread` as well,
   under ThreadSanitizer. POSIX. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "hooks.h"                     /* before <pthread.h> */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
#include "test.h"
#include <sys/wait.h>

#ifndef TEST_BUILD
#  define TEST_BUILD "build"
#endif

enum { MOST = 8 };                     /* threads of a pool here */

static kalm__worker workers[MOST];
static uint32_t dice = 1;              /* how often threads were held up; wraps */

/* One time in 16 a thread sleeps for some microseconds: longer than the others need to pass it. */
static void hold_up(void)
{
    uint32_t n = __atomic_fetch_add(&dice, 1, __ATOMIC_RELAXED) * 2654435761u >> 16;
    struct timespec t;
    if (n % 16 == 0) {
        t.tv_sec = 0;
        t.tv_nsec = (long)(n >> 4 & 63) * 1000;
        nanosleep(&t, NULL);
    } else if (n % 4 == 0) sched_yield();
}

static void nap(long milliseconds)
{
    struct timespec t;
    t.tv_sec = 0;
    t.tv_nsec = milliseconds * 1000000;
    nanosleep(&t, NULL);
}

static void on_alarm(int number)
{
    static const char text[] = "a thread waits for ever\n0 passed, 1 failed\n";
    (void)number;
    if (write(1, text, sizeof text - 1) < 0) _exit(3);
    _exit(2);
}

/* ---- every task once ----------------------------------------------------------------------------------------------- */

typedef struct job {
    unsigned char done[300];           /* plain bytes: each belongs to one task */
    unsigned      busy[MOST];          /* tasks that run with this worker number: 0 or 1 */
    unsigned      twice;               /* atomic */
} job;

static void mark(void *arg, size_t i, unsigned worker)
{
    job *j = (job *)arg;
    if (__atomic_fetch_add(&j->busy[worker], 1, __ATOMIC_RELAXED)) __atomic_fetch_add(&j->twice, 1, __ATOMIC_RELAXED);
    j->done[i]++;
    if (i % 7 == 3) hold_up();
    __atomic_fetch_sub(&j->busy[worker], 1, __ATOMIC_RELAXED);
}

static void test_tasks(unsigned size, unsigned spins, unsigned jobs)
{
    kalm__pool pool;
    uint64_t random = size * 1000 + spins;
    unsigned n, wrong = 0;
    size_t i;
    test_spins = spins;
    kalm__pool_start(&pool, size, workers, NULL);
    CHECK(pool.size == size);
    for (n = 0; n < jobs; n++) {
        job j;
        size_t count = (size_t)(test_random(&random) % (n % 5 ? 2 * size + 1 : sizeof j.done));
        memset(&j, 0, sizeof j);
        kalm__parallel(&pool, count, mark, &j);
        for (i = 0; i < sizeof j.done; i++) wrong += j.done[i] != (i < count);
        wrong += j.twice;
        if (n % 50 == 0) nap(1);       /* all asleep */
    }
    CHECKF(!wrong, "%u workers, %u spins: %u tasks were not done once", size, spins, wrong);
    kalm__pool_stop(&pool);
    kalm__pool_stop(&pool);
}

/* ---- every worker wakes -------------------------------------------------------------------------------------------- */

/* Tasks that all wait for each other: they end only if as many threads as tasks come. */
static void meet(void *arg, size_t i, unsigned worker)
{
    unsigned *here = (unsigned *)arg, *missing = here + 1, size = here[2], round;
    time_t end = time(NULL) + 20;
    struct timespec t;
    (void)i, (void)worker;
    t.tv_sec = 0;
    t.tv_nsec = 20000;
    __atomic_fetch_add(here, 1, __ATOMIC_SEQ_CST);
    for (round = 0; __atomic_load_n(here, __ATOMIC_SEQ_CST) < size && time(NULL) < end; round++)
        if (round < 50) kalm__pause();
        else nanosleep(&t, NULL);
    if (__atomic_load_n(here, __ATOMIC_SEQ_CST) < size) __atomic_fetch_add(missing, 1, __ATOMIC_SEQ_CST);
}

/* Do all workers of the pool come to a job? */
static int all_come(kalm__pool *pool)
{
    unsigned state[3] = { 0, 0, 0 };
    state[2] = pool->size;
    kalm__parallel(pool, pool->size, meet, state);
    return !state[1];
}

static void test_waking(unsigned size, unsigned spins, unsigned jobs)
{
    kalm__pool pool;
    unsigned n, lost = 0;
    test_spins = spins;
    kalm__pool_start(&pool, size, workers, NULL);
    for (n = 0; n < jobs && !lost; n++) lost += !all_come(&pool);
    CHECKF(!lost, "%u workers, %u spins: one of them was not woken for job %u", size, spins, n);
    kalm__pool_stop(&pool);
}

/* Pools that end at once, while their workers still come or fall asleep. */
static void test_stopping(void)
{
    unsigned i;
    for (i = 0; i < 60; i++) {
        kalm__pool pool;
        job j;
        memset(&j, 0, sizeof j);
        test_spins = 1 + i % 3;
        kalm__pool_start(&pool, 4, workers, NULL);
        if (i % 2) kalm__parallel(&pool, 5, mark, &j);
        kalm__pool_stop(&pool);
    }
}

/* ---- busy neighbours ----------------------------------------------------------------------------------------------- */

/* A thread that leaves its core is on another one, if it may; and which cores it is allowed stays as it was. */
static void *leave(void *arg)
{
    unsigned *moved = (unsigned *)arg, allowed = kalm__allowed_cores(), i;
    unsigned char before[1024], after[1024];
    void *was = before, *is = after;
    memset(before, 0, sizeof before);
    memset(after, 0, sizeof after);
    CHECK(sched_getaffinity(0, sizeof before, was) >= 0);
    for (i = 0; i < 20; i++) {
        uint32_t core = kalm__this_core();
        kalm__leave_core(core, i % 2 ? 2 : allowed + 1);
        if (i % 2) *moved += kalm__this_core() != core;
    }
    kalm__leave_core(8192, 1);
    kalm__leave_core(UINT32_MAX, 1);
    CHECK(sched_getaffinity(0, sizeof after, is) >= 0);
    CHECKF(!memcmp(before, after, sizeof before), "leaving a core has changed the mask of allowed ones");
    return NULL;
}

static void test_moves(void)
{
    pthread_t t;
    unsigned moved = 0;
    uint32_t since, now = kalm__microseconds();
    int started = KALM__MOVES && !pthread_create(&t, NULL, leave, &moved);
    if (started) pthread_join(t, NULL);            /* its checks and ours count in the same place */
    if (KALM__MOVES && CHECK(started) && kalm__allowed_cores() > 1)
        CHECKF(moved >= 10 - 3, "only %u of 10 times the thread left its core", moved);
    nap(5);
    CHECKF(kalm__microseconds() - now >= 4000, "5 ms later the clock says %u microseconds", (unsigned)(kalm__microseconds() - now));
    test_turn = 1000000000;            /* a turn that is not over stays as it is, one that is over begins anew */
    since = now;
    kalm__offer_core(&since);
    CHECK(since == now);
    test_turn = 4000;
    kalm__offer_core(&since);
    CHECK(since != now);
    test_turn = 1500;
}

/* ---- refused threads ----------------------------------------------------------------------------------------------- */

static const kalm_text query = { "play chess", KALM_NUL };
static const kalm_text texts[4] = {
    { "a chess game", KALM_NUL }, { "photos of a garden", KALM_NUL }, { "a program that plays the game of chess with you", KALM_NUL },
    { "an editor for audio files with many effects, and for tags of music in several formats", KALM_NUL }
};

static kalm_model *model;

/* margins [4] */
static int rank(kalm_context *c, float *margins)
{
    kalm_score scores[4];
    kalm_error err;
    unsigned i;
    if (!CHECKF(!kalm_rerank_texts(c, query, texts, 4, NULL, scores, &err), "%s", err.text)) return 0;
    for (i = 0; i < 4; i++) margins[i] = scores[i].margin;
    return 1;
}

static kalm_context *new_context(unsigned threads)
{
    kalm_config config;
    kalm_context *c = NULL;
    kalm_error err;
    memset(&config, 0, sizeof config);
    config.threads = threads;
    CHECKF(!kalm_context_new(model, &config, &c, &err), "%s", err.text);
    return c;
}

static void test_refused(const float *right)
{
    int granted;
    for (granted = 0; granted < 4; granted++) {
        kalm_context *c;
        float margins[4];
        test_threads_granted = granted;
        c = new_context(4);
        test_threads_granted = TEST_ALL_THREADS;
        if (!c) continue;
        CHECKF(c->pool.size == 1 + (unsigned)granted, "%d threads granted: %u workers", granted, c->pool.size);
        CHECKF(rank(c, margins) && !memcmp(margins, right, sizeof margins), "%d threads granted: other scores", granted);
        kalm_context_free(c);
    }
}

/* ---- signals ------------------------------------------------------------------------------------------------------- */

/* What a worker must have open: what its own instructions raise, which ends the process where it is blocked, and profilers' ticks. */
static const int open_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF };
enum { OPEN_SIGNALS = sizeof open_signals / sizeof *open_signals };

typedef struct masks {
    unsigned meeting[3];               /* see meet */
    sigset_t of[MOST];                 /* of each worker */
} masks;

static void look_at_mask(void *arg, size_t i, unsigned worker)
{
    masks *m = (masks *)arg;
    meet(m->meeting, i, worker);       /* so that each worker has one task */
    pthread_sigmask(SIG_BLOCK, NULL, &m->of[worker]);
}

/* A pool of a thread that blocks `blocked` (0: nothing): which signals its workers block, and that the thread blocks what it did. */
static void test_masks(int blocked, int granted)
{
    kalm__pool pool;
    masks m;
    sigset_t set, before, after;
    unsigned w;
    int i, s;
    memset(&m, 0, sizeof m);
    sigemptyset(&set);
    if (blocked) sigaddset(&set, blocked);
    pthread_sigmask(SIG_SETMASK, &set, &before);
    test_threads_granted = granted;
    kalm__pool_start(&pool, 4, workers, NULL);
    test_threads_granted = TEST_ALL_THREADS;
    pthread_sigmask(SIG_SETMASK, &before, &after);
    for (i = 0, s = 1; s < 32; s++) if (sigismember(&after, s) != (s == blocked)) i = s;
    CHECKF(!i, "signal %d: the caller's mask was changed", i);
    m.meeting[2] = pool.size;
    kalm__parallel(&pool, pool.size, look_at_mask, &m);
    CHECK(pool.size == (granted < 3 ? 1u + (unsigned)granted : 4u) && !m.meeting[1]);
    for (w = 1; w < pool.size; w++) {
        static const int closed[] = { SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD, SIGTSTP, SIGWINCH };
        int wrong = 0;                 /* one of the signals */
        for (i = 0; i < OPEN_SIGNALS; i++)
            if (sigismember(&m.of[w], open_signals[i]) != (open_signals[i] == blocked)) wrong = open_signals[i];
        for (i = 0; i < (int)(sizeof closed / sizeof *closed); i++)
            if (!sigismember(&m.of[w], closed[i])) wrong = closed[i];
        CHECKF(!wrong, "worker %u: signal %d", w, wrong);
    }
    kalm__pool_stop(&pool);
}

static pthread_t host_thread;
static int in_host, elsewhere, host_ends;              /* atomic */

static void on_user(int number)
{
    (void)number;
    if (pthread_equal(pthread_self(), host_thread)) __atomic_fetch_add(&in_host, 1, __ATOMIC_SEQ_CST);
    else __atomic_fetch_add(&elsewhere, 1, __ATOMIC_SEQ_CST);
}

/* How many signals came to a handler, wherever. */
static int taken(void) { return __atomic_load_n(&in_host, __ATOMIC_SEQ_CST) + __atomic_load_n(&elsewhere, __ATOMIC_SEQ_CST); }

/* A thread of the program that alone has the signal open. */
static void *host(void *arg)
{
    sigset_t *user = (sigset_t *)arg;
    pthread_sigmask(SIG_UNBLOCK, user, NULL);
    while (!__atomic_load_n(&host_ends, __ATOMIC_SEQ_CST)) nap(1);
    return NULL;
}

/* The context is there first; then the program blocks a signal in order to wait for it, or so that one thread of its own gets it.
   The kernel gives a signal of the process to any thread that has it open: none of them may be a worker. */
static void test_signals(void)
{
    kalm_context *c = new_context(4);
    struct sigaction a, was;
    sigset_t user, pending;
    int i, n, got = 0, started;
    if (!c) return;
    memset(&a, 0, sizeof a);
    a.sa_handler = on_user;
    sigaction(SIGUSR1, &a, &was);
    sigemptyset(&user);
    sigaddset(&user, SIGUSR1);
    host_thread = pthread_self();
    pthread_sigmask(SIG_BLOCK, &user, NULL);
    for (i = 0; i < 10; i++) {
        kill(getpid(), SIGUSR1);
        nap(2);                        /* a worker that has it open would take it */
        if (!sigpending(&pending) && sigismember(&pending, SIGUSR1)) got += !sigwait(&user, &n) && n == SIGUSR1;
    }
    CHECKF(got == 10 && !taken(), "sigwait got %d signals of 10, workers %d", got, taken());
    __atomic_store_n(&elsewhere, 0, __ATOMIC_SEQ_CST);
    started = CHECK(!pthread_create(&host_thread, NULL, host, &user));
    for (i = 0; started && i < 40; i++) {
        int so_far = taken();
        kill(getpid(), SIGUSR1);
        for (n = 0; taken() == so_far && n < 20000; n++) nap(1);
    }
    n = __atomic_load_n(&in_host, __ATOMIC_SEQ_CST);
    CHECKF(n == 40 && taken() == 40, "the program's thread had %d signals of 40, workers %d", n, taken() - n);
    __atomic_store_n(&host_ends, 1, __ATOMIC_SEQ_CST);
    if (started) pthread_join(host_thread, NULL);
    pthread_sigmask(SIG_UNBLOCK, &user, NULL);
    sigaction(SIGUSR1, &was, NULL);
    kalm_context_free(c);
}

/* ---- fork ---------------------------------------------------------------------------------------------------------- */

/* Waits for a child; its exit status, or -1 if a signal ended it. */
static int child_status(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The child finds the copied lock held, as it is when the parent forks while a worker has it. */
static void test_fork_pool(int asleep, int locked, int refuse)
{
    kalm__pool pool;
    job j;
    pid_t child;
    memset(&j, 0, sizeof j);
    test_spins = asleep ? 1 : 1000000000;
    kalm__pool_start(&pool, 3, workers, NULL);
    kalm__parallel(&pool, 100, mark, &j);
    nap(20);
    if (locked) kalm__pool_lock(&pool);
    child = fork();
    test_spins = 100;
    if (!child) {
        unsigned i, n, wrong = 0;
        alarm(20);
        if (refuse) test_threads_granted = 0;
        for (n = 0; n < 130; n++) {    /* a pool that was not asleep asks at every 64th job */
            memset(&j, 0, sizeof j);
            kalm__parallel(&pool, 100, mark, &j);
            for (i = 0; i < 100; i++) wrong += j.done[i] != 1;
        }
        if (pool.size != (refuse ? 1u : 3u) || !all_come(&pool)) wrong++;
        kalm__pool_stop(&pool);
        _exit(wrong ? 1 : 0);
    }
    CHECKF(child_status(child) == 0, "a child with the pool of its parent%s%s%s", asleep ? ", asleep" : "",
           locked ? ", its lock held" : "", refuse ? ", without threads" : "");
    child = fork();
    if (!child) {                      /* does nothing but end */
        alarm(20);
        kalm__pool_stop(&pool);
        kalm__pool_stop(&pool);
        _exit(0);
    }
    CHECKF(child_status(child) == 0, "a child that only stops the pool%s%s", asleep ? ", asleep" : "", locked ? ", its lock held" : "");
    if (locked) kalm__pool_unlock(&pool);
    test_spins = 1;
    CHECK(all_come(&pool));            /* the parent's threads know nothing of it */
    kalm__pool_stop(&pool);
}

/* Whole contexts: the child ranks and frees, and so does its own child; the parent goes on. */
static void test_fork_context(const float *right)
{
    unsigned i;
    kalm_context *c = new_context(3);
    if (!c) return;
    test_spins = 20;
    for (i = 0; i < 30; i++) {
        float margins[4];
        pid_t child;
        if (i) CHECK(rank(c, margins) && !memcmp(margins, right, sizeof margins));
        if (i % 3 == 0) nap(2);
        child = fork();
        if (!child) {
            int good = 1;
            alarm(20);
            if (i % 2) good = rank(c, margins) && !memcmp(margins, right, sizeof margins);
            if (i % 5 == 0) {
                pid_t second = fork();
                if (!second) {
                    alarm(20);
                    good = rank(c, margins) && !memcmp(margins, right, sizeof margins);
                    kalm_context_free(c);
                    kalm_model_close(model);
                    _exit(good ? 0 : 1);
                }
                good &= child_status(second) == 0;
            }
            kalm_context_free(c);
            kalm_model_close(model);
            _exit(good ? 0 : 1);
        }
        CHECKF(child_status(child) == 0, "child %u hung or had other scores", i);
    }
    kalm_context_free(c);
}

/* A thread of the program that ranks on a context of its own until it is told to end. */
typedef struct ranking {
    kalm_context *c;
    const float  *right;
    int           ends;                /* atomic, as the others */
    unsigned      calls, wrong;
} ranking;

static void *keep_ranking(void *arg)
{
    ranking *k = (ranking *)arg;
    while (!__atomic_load_n(&k->ends, __ATOMIC_SEQ_CST)) {
        kalm_score scores[4];
        kalm_error err;
        unsigned i, wrong = kalm_rerank_texts(k->c, query, texts, 4, NULL, scores, &err) != KALM_OK;
        for (i = 0; i < 4 && !wrong; i++) wrong = scores[i].margin < k->right[i] || scores[i].margin > k->right[i];
        k->wrong += wrong;
        __atomic_fetch_add(&k->calls, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

/* While another thread is inside kalm_rerank_texts, this one forks. A child may end in three ways: it runs another program, whose
   signals are then as this thread had them; it ranks, on a context of its own or on one that nobody used; it only frees, what the
   other thread was using as well. The alarm ends a child that hangs. */
static void test_fork_busy(const float *right)
{
    ranking k;
    pthread_t t;
    unsigned i;
    int started;
    kalm_context *idle = new_context(3);
    memset(&k, 0, sizeof k);
    k.c = new_context(3);
    k.right = right;
    test_spins = 20;
    started = idle && k.c && CHECK(!pthread_create(&t, NULL, keep_ranking, &k));
    while (started && !__atomic_load_n(&k.calls, __ATOMIC_SEQ_CST)) nap(1);
    for (i = 0; started && i < 40; i++) {
        pid_t child;
        int status = 0;
        struct timespec moment;
        moment.tv_sec = 0;
        moment.tv_nsec = (long)(i * 2654435761u >> 12);        /* up to a millisecond: anywhere in a call */
        nanosleep(&moment, NULL);
        child = fork();
        if (!child) {
            float margins[4];
            int good = 1;
            alarm(20);
            if (i % 4 == 0) {
                execl("/bin/sh", "sh", "-c", i % 8 ? "exit 7" : "kill -USR1 $$; exit 8", (char *)NULL);
                _exit(9);
            }
            if (i % 4 < 3) {
                kalm_context *c = i % 4 == 1 ? new_context(3) : idle;
                good = c && rank(c, margins) && !memcmp(margins, right, 4 * sizeof *right);
                if (c != idle) kalm_context_free(c);
            }
            kalm_context_free(k.c);
            kalm_context_free(idle);
            kalm_model_close(model);
            _exit(good ? 0 : 1);
        }
        while (waitpid(child, &status, 0) < 0) {}
        if (i % 8 == 0) CHECKF(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1, "a program run by child %u: status %x", i, (unsigned)status);
        else CHECKF(WIFEXITED(status) && WEXITSTATUS(status) == (i % 4 ? 0 : 7), "child %u of a busy process: status %x", i, (unsigned)status);
    }
    __atomic_store_n(&k.ends, 1, __ATOMIC_SEQ_CST);
    if (started) pthread_join(t, NULL);
    CHECKF(k.calls && !k.wrong, "%u of %u calls beside the forks went wrong", k.wrong, k.calls);
    kalm_context_free(k.c);
    kalm_context_free(idle);
}

int main(void)
{
    float right[4];
    kalm_error err;
    kalm_context *c;
    unsigned size;
    test_race = hold_up;
    test_spins = 1;
    signal(SIGALRM, on_alarm);
    alarm(TSAN ? 600 : 100);
    for (size = 2; size <= 5; size += size - 1) {    /* 2, 3, 5 */
        test_tasks(size, 1, 400);
        test_turn = 0;                 /* the core is offered between any two tasks */
        test_tasks(size, 30, 400);
        test_waking(size, 1, 100);
        test_waking(size, 20, 100);
        test_turn = 1500;
    }
    test_moves();
    test_stopping();
    test_masks(0, TEST_ALL_THREADS);
    test_masks(SIGPROF, TEST_ALL_THREADS);
    test_masks(SIGUSR1, 1);
    test_spins = 2000;
    if (CHECKF(!kalm_model_open(TEST_BUILD "/tiny.kalm", NULL, &model, &err), "%s", err.text)) {
        c = new_context(1);
        if (c && rank(c, right)) {
            test_refused(right);
            test_signals();
            if (!TSAN) {               /* which does not follow threads into children */
                int k;
                for (k = 0; k < 8; k++) test_fork_pool(k & 1, k & 2, k & 4);
                test_fork_context(right);
                test_fork_busy(right);
            }
        }
        kalm_context_free(c);
        kalm_model_close(model);
    }
    return test_end();
}
