/* threads.h - a persistent pool that runs one function on every worker, and the loop that shares tasks among them.
   pthreads, Windows, none (KALM_NO_THREADS), or the user's own job system.

   Tasks are taken from a shared counter, so a worker that the system delays takes fewer. Waiting spins briefly, since
   the next job of a forward pass comes within microseconds, and then sleeps. */
#ifndef KALM__THREADS_H
#define KALM__THREADS_H

#include "base.h"
#include "platform.h"

/* What KALM__THREADS can be. */
#define KALM__THREADS_NONE 0
#define KALM__THREADS_POSIX 1
#define KALM__THREADS_WINDOWS 2

#ifndef KALM_NO_THREADS
#  if defined(_WIN32)
#    define KALM__THREADS KALM__THREADS_WINDOWS
#  elif defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
#    define KALM__THREADS KALM__THREADS_NONE
#  elif defined(__unix__) || defined(__APPLE__) || defined(__linux__)
#    define KALM__THREADS KALM__THREADS_POSIX
#    include <pthread.h>
#    include <sched.h>
#  else
#    define KALM__THREADS KALM__THREADS_NONE
#  endif
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

/* A job: `count` tasks, task(arg, i, worker) with worker < the pool's size; no two at once share a worker number. */
typedef void (*kalm__task)(void *arg, size_t i, unsigned worker);

typedef struct kalm__pool kalm__pool;

typedef struct kalm__worker {
    kalm__pool *pool;
    unsigned    index;
#if KALM__THREADS == KALM__THREADS_POSIX
    pthread_t   thread;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
    HANDLE      thread;
#endif
} kalm__worker;

struct kalm__pool {
    unsigned    size;                  /* workers, the calling thread (number 0) included */
    unsigned    started;               /* threads to join */
    void      (*parallel)(void *, size_t, void (*)(void *, size_t), void *);
    void       *parallel_user;
    kalm__task  task;
    void       *arg;
    size_t      count;
    kalm__worker *workers;             /* [size] */
    char        pad0[64];              /* the counters that all workers hammer on get cache lines of their own */
    volatile kalm__atomic left;        /* tasks that nobody has taken */
    char        pad1[64];
    volatile kalm__atomic unfinished;  /* tasks not done */
    char        pad2[64];
    volatile kalm__atomic sleepers;    /* workers asleep */
    volatile kalm__atomic stop;
#if KALM__THREADS == KALM__THREADS_POSIX
    pthread_mutex_t lock;
    pthread_cond_t  wake, done;
#elif KALM__THREADS == KALM__THREADS_WINDOWS
    CRITICAL_SECTION   lock;
    CONDITION_VARIABLE wake, done;
#endif
};

/* Take and do tasks until none is left; tells whether it finished the last one. A worker that wakes late finds `left`
   zero, or takes a task of the next job: having taken one it may read the job's fields, since the job cannot end
   before that task has. So nobody ever waits for a worker that has taken nothing. */
KALM__FN int kalm__pool_share(kalm__pool *p, unsigned worker)
{
    int last = 0;
    for (;;) {
        uint32_t left = kalm__atomic_get(&p->left);
        if (!left) return last;
        if (!kalm__atomic_swap(&p->left, left, left - 1)) continue;
        p->task(p->arg, p->count - left, worker);
        last = kalm__atomic_add(&p->unfinished, (uint32_t)-1) == 1;
    }
}

#if KALM__THREADS != KALM__THREADS_NONE

#if KALM__THREADS == KALM__THREADS_POSIX
KALM__INLINE void kalm__pool_lock(kalm__pool *p) { pthread_mutex_lock(&p->lock); }
KALM__INLINE void kalm__pool_unlock(kalm__pool *p) { pthread_mutex_unlock(&p->lock); }
#else
KALM__INLINE void kalm__pool_lock(kalm__pool *p) { EnterCriticalSection(&p->lock); }
KALM__INLINE void kalm__pool_unlock(kalm__pool *p) { LeaveCriticalSection(&p->lock); }
#endif

/* About 20 microseconds: longer than the gap between two jobs of one layer, shorter than anybody notices. Where a process is
   busy on one of two cores, two threads have 0.93 to 1.0 of what one has alone (Linux 6.18). Tried: a quarter of the spins for
   the caller (0.01 more of it), for workers too (a quarter lost where nothing else runs), yielding (0.03 to 0.1 lost). */
enum { KALM__SPINS = 2000 };

KALM__FN void kalm__pool_run_worker(kalm__worker *w)
{
    kalm__pool *p = w->pool;
    unsigned spins = 0;
    while (!kalm__atomic_get(&p->stop)) {
        if (kalm__atomic_get(&p->left)) {
            spins = 0;
            if (kalm__pool_share(p, w->index)) {
                kalm__pool_lock(p);    /* the caller may be between its check and its sleep */
#if KALM__THREADS == KALM__THREADS_POSIX
                pthread_cond_signal(&p->done);
#else
                WakeConditionVariable(&p->done);
#endif
                kalm__pool_unlock(p);
            }
        } else if (++spins < KALM__SPINS) {
            kalm__pause();
        } else {
            spins = 0;
            kalm__pool_lock(p);
            kalm__atomic_add(&p->sleepers, 1);
            while (!kalm__atomic_get(&p->left) && !kalm__atomic_get(&p->stop)) {
#if KALM__THREADS == KALM__THREADS_POSIX
                pthread_cond_wait(&p->wake, &p->lock);
#else
                SleepConditionVariableCS(&p->wake, &p->lock, INFINITE);
#endif
            }
            kalm__atomic_add(&p->sleepers, (uint32_t)-1);
            kalm__pool_unlock(p);
        }
    }
}

#if KALM__THREADS == KALM__THREADS_POSIX
KALM__FN void *kalm__pool_thread(void *arg)
{
    kalm__pool_run_worker((kalm__worker *)arg);
    return NULL;
}
#else
KALM__FN DWORD WINAPI kalm__pool_thread(LPVOID arg)
{
    kalm__pool_run_worker((kalm__worker *)arg);
    return 0;
}
#endif
#endif /* KALM__THREADS */

/* workers: [size], owned by the caller, alive until kalm__pool_stop. A thread that the system refuses is not missed:
   the pool is then smaller. */
KALM__FN void kalm__pool_start(kalm__pool *p, unsigned size, kalm__worker *workers, const kalm_config *config)
{
    memset(p, 0, sizeof *p);
    p->size = 1;
    p->workers = workers;
    if (config && config->parallel) {
        p->parallel = config->parallel;
        p->parallel_user = config->parallel_user;
        p->size = size;
        return;
    }
#if KALM__THREADS != KALM__THREADS_NONE
    if (size < 2) return;
#if KALM__THREADS == KALM__THREADS_POSIX
    if (pthread_mutex_init(&p->lock, NULL)) return;
    if (pthread_cond_init(&p->wake, NULL)) {
        pthread_mutex_destroy(&p->lock);
        return;
    }
    if (pthread_cond_init(&p->done, NULL)) {
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
        return;
    }
#else
    InitializeCriticalSection(&p->lock);
    InitializeConditionVariable(&p->wake);
    InitializeConditionVariable(&p->done);
#endif
    while (p->size < size) {
        kalm__worker *w = &workers[p->size];
        w->pool = p;
        w->index = p->size;
#if KALM__THREADS == KALM__THREADS_POSIX
        if (pthread_create(&w->thread, NULL, kalm__pool_thread, w)) break;
#else
        w->thread = CreateThread(NULL, 0, kalm__pool_thread, w, 0, NULL);
        if (!w->thread) break;
#endif
        p->size++;
    }
    p->started = 1;
#endif
}

KALM__FN void kalm__pool_stop(kalm__pool *p)
{
#if KALM__THREADS != KALM__THREADS_NONE
    unsigned i;
    if (!p->started) return;
    kalm__pool_lock(p);
    kalm__atomic_set(&p->stop, 1);
#if KALM__THREADS == KALM__THREADS_POSIX
    pthread_cond_broadcast(&p->wake);
    kalm__pool_unlock(p);
    for (i = 1; i < p->size; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
#else
    WakeAllConditionVariable(&p->wake);
    kalm__pool_unlock(p);
    for (i = 1; i < p->size; i++) {
        WaitForSingleObject(p->workers[i].thread, INFINITE);
        CloseHandle(p->workers[i].thread);
    }
    DeleteCriticalSection(&p->lock);
#endif
    p->started = 0;
#else
    (void)p;
#endif
}

KALM__FN void kalm__pool_user_task(void *arg, size_t i)
{
    (void)kalm__pool_share((kalm__pool *)arg, (unsigned)i);
}

/* Run task(arg, i, worker) for every i below count; returns when all are done. */
KALM__FN void kalm__parallel(kalm__pool *p, size_t count, kalm__task task, void *arg)
{
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
    kalm__atomic_set(&p->left, (uint32_t)count);
    if (p->parallel) {
        p->parallel(p->parallel_user, kalm__min(p->size, count), kalm__pool_user_task, p);
        return;
    }
#if KALM__THREADS != KALM__THREADS_NONE
    if (kalm__atomic_get(&p->sleepers)) {
        kalm__pool_lock(p);
#if KALM__THREADS == KALM__THREADS_POSIX
        pthread_cond_broadcast(&p->wake);
#else
        WakeAllConditionVariable(&p->wake);
#endif
        kalm__pool_unlock(p);
    }
    (void)kalm__pool_share(p, 0);
    {
        unsigned spins = 0;
        while (kalm__atomic_get(&p->unfinished)) {
            if (++spins < KALM__SPINS) {
                kalm__pause();
                continue;
            }
            kalm__pool_lock(p);
            while (kalm__atomic_get(&p->unfinished)) {
#if KALM__THREADS == KALM__THREADS_POSIX
                pthread_cond_wait(&p->done, &p->lock);
#else
                SleepConditionVariableCS(&p->done, &p->lock, INFINITE);
#endif
            }
            kalm__pool_unlock(p);
        }
    }
#endif
}

#endif
