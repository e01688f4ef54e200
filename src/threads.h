/* threads.h - a pool of worker threads that lives as long as its context, and kalm__parallel, which runs the tasks of one
   job on all of them. Built on pthreads, Windows threads, no threads at all (KALM_NO_THREADS), or the user's own job system.

   One job at a time: the calling thread publishes it, works on it as worker number 0, and returns when every task is done.
   Workers take tasks from a shared counter. A worker without a task first spins for some microseconds, because the next job of a
   forward pass comes soon, and then sleeps.

   Busy neighbours. Where another process wants a worker's core, the system takes it away for some milliseconds, most likely in
   the middle of a task, and all others wait for that task. So a worker offers its core every other millisecond, between two
   tasks, when nobody waits for it; where nobody wants the core, that takes less than a microsecond. The calling thread does not,
   because everybody waits for the next job. docs/SPEED.md has figures.

   Stopping. The calling thread asks the caller of the library between jobs, whenever they have added up to some milliseconds,
   whether to go on. Once the answer is no, no job is run any more, and the layer at hand ends at once with numbers that mean
   nothing and are thrown away.

   Threads and fork. A child process gets a copy of the pool but none of its threads. A pool therefore remembers the process that
   started it. In another one it never touches the copied lock and condition variables, which may be in the middle of an
   operation: kalm__pool_stop forgets the threads, and kalm__parallel starts new ones. No pthread_atfork: a handler could not be
   taken back when the library is unloaded.

   Threads and signals. Workers block them: a signal is for the program's own threads, of which one may wait for it (sigwait).
   Open stay those that an instruction of the worker itself raises, and a profiler's. */
#ifndef KALM__THREADS_H
#define KALM__THREADS_H

#include "base.h"
#include "platform.h"
#include "cores.h"

/* What KALM__THREADS can be. */
#define KALM__THREADS_NONE 0
#define KALM__THREADS_POSIX 1
#define KALM__THREADS_WINDOWS 2
#define KALM__PTHREADS (KALM__THREADS == KALM__THREADS_POSIX)

#if defined(KALM_NO_THREADS) || (defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__))
#  define KALM__THREADS KALM__THREADS_NONE
#elif defined(_WIN32)
#  define KALM__THREADS KALM__THREADS_WINDOWS
#elif defined(__unix__) || defined(__APPLE__) || defined(__linux__)
#  define KALM__THREADS KALM__THREADS_POSIX
#  include <pthread.h>
#  include <sched.h>
#  include <signal.h>
#  include <time.h>
#else
#  define KALM__THREADS KALM__THREADS_NONE
#endif

#define KALM__MAX_THREADS 256u

/* ---- atomics: sequentially consistent, on 32 bits, which every target has without a library ---------------------- */

#if defined(__GNUC__)
typedef uint32_t kalm__atomic;
KALM__INLINE uint32_t kalm__atomic_get(const volatile kalm__atomic *a) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }
KALM__INLINE void kalm__atomic_set(volatile kalm__atomic *a, uint32_t v) { __atomic_store_n(a, v, __ATOMIC_SEQ_CST); }
KALM__INLINE uint32_t kalm__atomic_add(volatile kalm__atomic *a, uint32_t v)
{
    return __atomic_fetch_add(a, v, __ATOMIC_SEQ_CST);
}
/* a = v if it was `was`; tells whether */
KALM__INLINE int kalm__atomic_swap(volatile kalm__atomic *a, uint32_t was, uint32_t v)
{
    return __atomic_compare_exchange_n(a, &was, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#elif defined(_MSC_VER)
#  include <intrin.h>
typedef long kalm__atomic;
KALM__INLINE uint32_t kalm__atomic_get(const volatile kalm__atomic *a)
{
    return (uint32_t)_InterlockedOr((volatile long *)a, 0);
}
KALM__INLINE void kalm__atomic_set(volatile kalm__atomic *a, uint32_t v) { _InterlockedExchange(a, (long)v); }
KALM__INLINE uint32_t kalm__atomic_add(volatile kalm__atomic *a, uint32_t v)
{
    return (uint32_t)_InterlockedExchangeAdd(a, (long)v);
}
KALM__INLINE int kalm__atomic_swap(volatile kalm__atomic *a, uint32_t was, uint32_t v)
{
    return _InterlockedCompareExchange(a, (long)v, (long)was) == (long)was;
}
#else
typedef uint32_t kalm__atomic;         /* no atomics known: no threads either (below) */
KALM__INLINE uint32_t kalm__atomic_get(const volatile kalm__atomic *a) { return *a; }
KALM__INLINE void kalm__atomic_set(volatile kalm__atomic *a, uint32_t v) { *a = v; }
KALM__INLINE uint32_t kalm__atomic_add(volatile kalm__atomic *a, uint32_t v) { uint32_t old = *a; *a += v; return old; }
KALM__INLINE int kalm__atomic_swap(volatile kalm__atomic *a, uint32_t was, uint32_t v)
{
    if (*a != was) return 0;
    *a = v;
    return 1;
}
#  undef KALM__THREADS
#  define KALM__THREADS KALM__THREADS_NONE
#endif

KALM__INLINE void kalm__pause(void)
{
#if KALM__X86 && defined(__GNUC__)
    __builtin_ia32_pause();
#elif KALM__X86
    _mm_pause();
#elif KALM__NEON64 && defined(__GNUC__)
    __asm__ volatile("yield");
#endif
}

/* Tests set these: how often a waiting thread looks again before it sleeps, and code to run at the places where the order of
   two threads matters (see tests/test_threads.c). */
#ifndef KALM__SPINS
/* About 20 microseconds: longer than the gap between two jobs of one layer, shorter than anybody notices. With a quarter of
   the spins an idle machine is a quarter slower. */
#  define KALM__SPINS 2000
#endif
#ifndef KALM__TURN
/* Microseconds after which a worker offers its core. A little more than a system's time slice would make the offer come too late,
   and the slices of Linux end at the first tick of its clock, of 1 to 4 ms, behind 1.4 to 3 ms. */
#  define KALM__TURN 1500u
#endif
#ifndef KALM__RACE
#  define KALM__RACE()
#endif

/* One task of a job: called once for every i below the job's count. worker is below the pool's size, and no two tasks that run
   at the same time have the same. */
typedef void (*kalm__task)(void *arg, size_t i, unsigned worker);

typedef struct kalm__pool kalm__pool;

/* Multiplications between two questions whether to go on: a millisecond of one core with fast kernels. */
#ifndef KALM__ASK_AFTER
#  define KALM__ASK_AFTER ((uint64_t)1 << 27)
#endif

typedef struct kalm__worker {
    kalm__pool *pool;
    unsigned    index;
#if KALM__PTHREADS
    pthread_t   thread;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
    HANDLE      thread;
#endif
} kalm__worker;

struct kalm__pool {
    unsigned    size;                  /* workers, the calling thread (number 0) included */
    unsigned    wanted;                /* workers asked for */
    int         started;               /* lock, condition variables and threads exist */
    unsigned    jobs;                  /* run so far; wraps */
    void      (*parallel)(void *, size_t, void (*)(void *, size_t), void *);
    void       *parallel_user;         /* the user's job system; NULL: threads of our own */
    int       (*ask)(void *ask_user);  /* non-zero: stop; NULL: nobody is asked */
    void       *ask_user;
    uint64_t    work;                  /* multiplications announced since the last question, see kalm__pool_announce */
    int         stopped;               /* the answer was to stop */
    kalm__task  task;                  /* the job at hand */
    void       *arg;
    size_t      count;
    kalm__worker *workers;             /* [wanted] */
    char        pad0[64];              /* counters that all workers change have cache lines of their own */
    volatile kalm__atomic left;        /* tasks that nobody has taken */
    char        pad1[64];
    volatile kalm__atomic unfinished;  /* tasks that are not done */
    char        pad2[64];
    volatile kalm__atomic sleepers;    /* workers asleep, or about to be */
    volatile kalm__atomic stop;        /* 1: workers shall end */
    volatile kalm__atomic core;        /* which the caller was on when it last woke the workers */
#if KALM__PTHREADS
    long        process;               /* which started the threads */
    pthread_mutex_t lock;
    pthread_cond_t  wake, done;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
    CRITICAL_SECTION   lock;
    CONDITION_VARIABLE wake, done;
#endif
};

/* ---- turns and places ---------------------------------------------------------------------------------------------- */

#if KALM__PTHREADS && !defined(CLOCK_MONOTONIC) && defined(__linux__)
#  define KALM__MONOTONIC 1            /* strict C99 hides the name, and the prototype with it */
extern int clock_gettime(int clock, struct timespec *t);
#elif KALM__PTHREADS && defined(CLOCK_MONOTONIC)
#  define KALM__MONOTONIC CLOCK_MONOTONIC
#endif

/* Microseconds from some moment on; wraps. Always 0 where no clock is known: then no turn ends. */
KALM__FN uint32_t kalm__microseconds(void)
{
#if defined(KALM__MONOTONIC)
    struct timespec t;
    memset(&t, 0, sizeof t);
    if (clock_gettime(KALM__MONOTONIC, &t)) return 0;
    return (uint32_t)t.tv_sec * 1000000u + (uint32_t)t.tv_nsec / 1000u;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
    LARGE_INTEGER now, second;
    if (!QueryPerformanceFrequency(&second) || !QueryPerformanceCounter(&now)) return 0;
    return (uint32_t)(now.QuadPart / second.QuadPart) * 1000000u +
           (uint32_t)(now.QuadPart % second.QuadPart * 1000000 / second.QuadPart);
#else
    return 0;
#endif
}

/* Linux likes to wake a worker on the core of the caller, even if another core is idle or has only a neighbour on it: the two
   would then take turns on one core for the rest of the call. A worker that finds itself there moves once. */
#if KALM__PTHREADS && defined(__linux__) && !defined(__EMSCRIPTEN__)
#  define KALM__MOVES 1
#  if !defined(CPU_SETSIZE)            /* strict C99 hides the prototypes */
extern int sched_getcpu(void);
extern int sched_setaffinity(int pid, size_t size, const void *mask);
#  endif
#else
#  define KALM__MOVES 0
#endif

/* The core that the calling thread is on; UINT32_MAX where the system does not tell. */
KALM__FN uint32_t kalm__this_core(void)
{
#if KALM__MOVES
    return (uint32_t)sched_getcpu();
#else
    return UINT32_MAX;
#endif
}

/* The calling thread moves to another core than `core`, where it is allowed at least `size` of them. Its mask of allowed cores is
   afterwards what it was. */
KALM__FN void kalm__leave_core(uint32_t core, unsigned size)
{
#if KALM__MOVES
    unsigned char mask[KALM__MASK_BYTES];
    void *bytes = mask;
    unsigned bit = 1u << core % 8, count;
    if (core >= 8 * sizeof mask) return;
    count = kalm__core_mask(mask);
    if (count < 2 || count < size || !(mask[core / 8] & bit)) return;
    for (count = 0; count < 2; count++) {
        mask[core / 8] = (unsigned char)(mask[core / 8] ^ bit);
        (void)sched_setaffinity(0, sizeof mask, (KALM__CPU_MASK *)bytes);
    }
#else
    (void)core, (void)size;
#endif
}

/* Whose turn began at *since offers the core if it has had it for long. */
KALM__FN void kalm__offer_core(uint32_t *since)
{
    if (kalm__microseconds() - *since < KALM__TURN) return;
#if KALM__PTHREADS
    sched_yield();
#elif KALM__THREADS == KALM__THREADS_WINDOWS
    SwitchToThread();
#endif
    *since = kalm__microseconds();
}

/* Take and do tasks until none is left. Returns 1 if it finished the job's last task. since: when the worker's turn began; NULL:
   it offers its core to nobody.

   A worker that wakes late finds `left` zero, or takes a task of the next job instead. It reads task, arg and count only after
   it has taken a task: from then on they cannot change, because the job cannot end before that task is done. So the caller
   never has to wait for a worker that has taken nothing. */
KALM__FN int kalm__pool_share(kalm__pool *p, unsigned worker, uint32_t *since)
{
    int last = 0;
    for (;;) {
        uint32_t left;
        if (since && !last) kalm__offer_core(since);
        left = kalm__atomic_get(&p->left);
        if (!left) return last;
        if (!kalm__atomic_swap(&p->left, left, left - 1)) continue;
        p->task(p->arg, p->count - left, worker);
        last = kalm__atomic_add(&p->unfinished, (uint32_t)-1) == 1;
    }
}

#if KALM__THREADS != KALM__THREADS_NONE

#if KALM__PTHREADS
#  define KALM__THREAD_FN KALM__FN void *
#  define KALM__THREAD_DONE NULL
KALM__INLINE void kalm__pool_lock(kalm__pool *p) { pthread_mutex_lock(&p->lock); }
KALM__INLINE void kalm__pool_unlock(kalm__pool *p) { pthread_mutex_unlock(&p->lock); }
KALM__INLINE void kalm__pool_wait(kalm__pool *p, pthread_cond_t *until) { pthread_cond_wait(until, &p->lock); }
KALM__INLINE void kalm__pool_tell(pthread_cond_t *waiting) { pthread_cond_broadcast(waiting); }
#  if defined(__EMSCRIPTEN__)          /* knows no signals */
#  elif defined(SIG_BLOCK) && defined(SIGPROF)
typedef sigset_t kalm__signals;
#    define KALM__BLOCK SIG_BLOCK
#    define KALM__SETMASK SIG_SETMASK
#    if defined(__GLIBC__) && !defined(_BITS_SIGTHREAD_H)          /* POSIX of before 1995 hides this one */
extern int pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
#    endif
#  elif defined(__linux__)             /* strict C99 hides all but the numbers */
typedef struct { unsigned long words[16]; } kalm__signals;
#    define KALM__BLOCK 0               /* MIPS refuses it: no mask there */
#    define KALM__SETMASK 2
extern int sigfillset(kalm__signals *set), sigdelset(kalm__signals *set, int signal);
extern int pthread_sigmask(int how, const kalm__signals *set, kalm__signals *before);
#  endif
#else
#  define KALM__THREAD_FN KALM__FN DWORD WINAPI
#  define KALM__THREAD_DONE 0
KALM__INLINE void kalm__pool_lock(kalm__pool *p) { EnterCriticalSection(&p->lock); }
KALM__INLINE void kalm__pool_unlock(kalm__pool *p) { LeaveCriticalSection(&p->lock); }
KALM__INLINE void kalm__pool_wait(kalm__pool *p, CONDITION_VARIABLE *until) { SleepConditionVariableCS(until, &p->lock, INFINITE); }
KALM__INLINE void kalm__pool_tell(CONDITION_VARIABLE *waiting) { WakeAllConditionVariable(waiting); }
#endif

/* What a worker thread does until the pool stops. */
KALM__THREAD_FN kalm__pool_thread(void *arg)
{
    kalm__worker *w = (kalm__worker *)arg;
    kalm__pool *p = w->pool;
    unsigned spins = 0;
    uint32_t since = kalm__microseconds(), core;
    while (!kalm__atomic_get(&p->stop)) {
        if (kalm__atomic_get(&p->left)) {
            spins = 0;
            if (kalm__pool_share(p, w->index, &since)) {
                KALM__RACE();
                /* Signalled under the lock: the caller looks at `unfinished` and falls asleep under it, so the signal cannot
                   come between the two and be lost. */
                kalm__pool_lock(p);
                kalm__pool_tell(&p->done);
                kalm__pool_unlock(p);
            }
        } else if (++spins < KALM__SPINS) {
            kalm__pause();
        } else {
            /* First say "asleep", then look once more for a task. The caller does the reverse, publishing tasks and then looking
               for sleepers, so at least one of the two notices the other. */
            spins = 0;
            kalm__pool_lock(p);
            KALM__RACE();
            kalm__atomic_add(&p->sleepers, 1);
            while (!kalm__atomic_get(&p->left) && !kalm__atomic_get(&p->stop)) {
                KALM__RACE();
                kalm__pool_wait(p, &p->wake);
            }
            kalm__atomic_add(&p->sleepers, (uint32_t)-1);
            kalm__pool_unlock(p);
            since = kalm__microseconds();
            core = kalm__atomic_get(&p->core);
            if (kalm__this_core() == core) kalm__leave_core(core, p->size);
        }
    }
    return KALM__THREAD_DONE;
}

/* Start threads until there are p->wanted workers, or the system refuses one: the pool is then smaller. */
KALM__FN void kalm__pool_start_threads(kalm__pool *p)
{
#ifdef KALM__BLOCK
    static const unsigned char kept[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF };
    kalm__signals mask, before;
    size_t i;
    int masked;
#endif
    p->size = 1;
    p->started = 0;
    kalm__atomic_set(&p->sleepers, 0);
    kalm__atomic_set(&p->stop, 0);
    if (p->wanted < 2) return;
#if KALM__PTHREADS
    p->process = (long)getpid();
    if (pthread_mutex_init(&p->lock, NULL)) return;
    if (!pthread_cond_init(&p->wake, NULL)) {
        if (!pthread_cond_init(&p->done, NULL)) p->started = 1;
        else pthread_cond_destroy(&p->wake);
    }
    if (!p->started) {
        pthread_mutex_destroy(&p->lock);
        return;
    }
#else
    InitializeCriticalSection(&p->lock);
    InitializeConditionVariable(&p->wake);
    InitializeConditionVariable(&p->done);
    p->started = 1;
#endif
#ifdef KALM__BLOCK
    sigfillset(&mask);
    for (i = 0; i < sizeof kept; i++) sigdelset(&mask, kept[i]);
    masked = !pthread_sigmask(KALM__BLOCK, &mask, &before);
#endif
    while (p->size < p->wanted) {
        kalm__worker *w = &p->workers[p->size];
        w->pool = p;
        w->index = p->size;
#if KALM__PTHREADS
        if (pthread_create(&w->thread, NULL, kalm__pool_thread, w)) break;
#else
        w->thread = CreateThread(NULL, 0, kalm__pool_thread, w, 0, NULL);
        if (!w->thread) break;
#endif
        p->size++;
    }
#ifdef KALM__BLOCK
    if (masked) pthread_sigmask(KALM__SETMASK, &before, NULL);
#endif
}
#endif

/* workers: [size], owned by the caller, alive until kalm__pool_stop. The pool may be smaller than `size`: without threads, or
   where the system refuses to start one. p->size tells; results are the same. */
KALM__FN void kalm__pool_start(kalm__pool *p, unsigned size, kalm__worker *workers, const kalm_config *config)
{
    memset(p, 0, sizeof *p);
    p->size = 1;
    p->wanted = size;
    p->workers = workers;
    if (config && config->parallel) {
        p->parallel = config->parallel;
        p->parallel_user = config->parallel_user;
        p->size = size;
        return;
    }
#if KALM__THREADS != KALM__THREADS_NONE
    kalm__pool_start_threads(p);
#endif
}

/* End the threads and wait for them. In a child process there is nothing to wait for. May be called twice. */
KALM__FN void kalm__pool_stop(kalm__pool *p)
{
#if KALM__THREADS != KALM__THREADS_NONE
    unsigned i;
    if (!p->started) return;
    p->started = 0;
#if KALM__PTHREADS
    if (p->process != (long)getpid()) return;
#endif
    kalm__pool_lock(p);
    kalm__atomic_set(&p->stop, 1);
    kalm__pool_tell(&p->wake);
    kalm__pool_unlock(p);
#if KALM__PTHREADS
    for (i = 1; i < p->size; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
#else
    for (i = 1; i < p->size; i++) {
        WaitForSingleObject(p->workers[i].thread, INFINITE);
        CloseHandle(p->workers[i].thread);
    }
    DeleteCriticalSection(&p->lock);
#endif
#else
    (void)p;
#endif
}

/* From here on `ask` is asked now and then whether to go on; NULL: nobody is. */
KALM__FN void kalm__pool_watch(kalm__pool *p, int (*ask)(void *ask_user), void *ask_user)
{
    p->ask = ask;
    p->ask_user = ask_user;
    p->work = 0;
    p->stopped = 0;
}

/* The next job takes about so many multiplications. Small jobs need not say it. */
KALM__INLINE void kalm__pool_announce(kalm__pool *p, size_t rows, size_t each) { p->work += (uint64_t)rows * each; }

/* Is the next job to be run? */
KALM__FN int kalm__pool_goes_on(kalm__pool *p)
{
    if (p->ask && !p->stopped && p->work >= KALM__ASK_AFTER) {
        p->work = 0;
        p->stopped = p->ask(p->ask_user) != 0;
    }
    return !p->stopped;
}

/* A task of the user's job system: one of our workers. */
KALM__FN void kalm__pool_user_task(void *arg, size_t i)
{
    (void)kalm__pool_share((kalm__pool *)arg, (unsigned)i, NULL);
}

/* Run task(arg, i, worker) for every i below count, which is less than 2^31; returns when all are done. Runs none when the
   pool was stopped. */
KALM__FN void kalm__parallel(kalm__pool *p, size_t count, kalm__task task, void *arg)
{
    if (!kalm__pool_goes_on(p)) return;
    if (p->size < 2 || count < 2) {
        size_t i;
        for (i = 0; i < count; i++) task(arg, i, 0);
        return;
    }
    KALM_ASSERT(count < 0x7fffffff);
    p->task = task;
    p->arg = arg;
    p->count = count;
    kalm__atomic_set(&p->unfinished, (uint32_t)count);
    KALM__RACE();
    kalm__atomic_set(&p->left, (uint32_t)count);   /* last: from here on workers take tasks */
    if (p->parallel) {
        p->parallel(p->parallel_user, kalm__min(p->size, count), kalm__pool_user_task, p);
        return;
    }
#if KALM__THREADS != KALM__THREADS_NONE
    KALM__RACE();
#if KALM__PTHREADS
    /* Is this still the process that has the threads? Asked where it costs nothing beside waking, since only there the lock is
       taken, and now and then besides: without its threads a pool gives right results, but slowly. The system has freed the
       memory of the old ones. */
    if ((kalm__atomic_get(&p->sleepers) || ++p->jobs % 64 == 0) && p->process != (long)getpid()) kalm__pool_start_threads(p);
#endif
    if (kalm__atomic_get(&p->sleepers)) {
        kalm__atomic_set(&p->core, kalm__this_core());
        kalm__pool_lock(p);
        kalm__pool_tell(&p->wake);
        kalm__pool_unlock(p);
    }
    (void)kalm__pool_share(p, 0, NULL);
    {
        unsigned spins = 0;
        while (kalm__atomic_get(&p->unfinished)) {
            if (++spins < KALM__SPINS) {
                kalm__pause();
                continue;
            }
            kalm__pool_lock(p);
            while (kalm__atomic_get(&p->unfinished)) {
                KALM__RACE();
                kalm__pool_wait(p, &p->done);
            }
            kalm__pool_unlock(p);
        }
    }
#endif
}

#endif
