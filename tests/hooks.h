/* hooks.h - constants of the library that a test sets at run time, and what a system may refuse. The library of the tests (header.o,
   see the Makefile) is compiled with this before the header, and so is a test that includes it; everything has its usual value until
   a test gives it another. It includes nothing, for the reason given in fence.h. Both the library and the test define what is weak
   here; the linker keeps one. */
#ifndef TEST_HOOKS_H
#define TEST_HOOKS_H

extern unsigned long long test_ask_after;
__attribute__((__weak__)) unsigned long long test_ask_after = 1ull << 27;
#define KALM__ASK_AFTER test_ask_after

/* threads.h: how often a waiting thread looks again, when it offers its core, and what runs where the order of two threads matters */
extern volatile unsigned test_spins, test_turn;
extern void (*test_race)(void);
__attribute__((__weak__)) volatile unsigned test_spins = 2000, test_turn = 1500;
__attribute__((__weak__)) void (*test_race)(void) = 0;
#define KALM__SPINS test_spins
#define KALM__TURN test_turn
#define KALM__RACE() (test_race ? test_race() : (void)0)

/* Threads that the system still grants. <pthread.h>, which comes later, declares test_pthread_create where it would declare
   pthread_create. The definition is here under another name, since a thread's types are not known yet; the linker sees the first. */
#define TEST_ALL_THREADS (1 << 30)
extern int test_threads_granted;
__attribute__((__weak__)) int test_threads_granted = TEST_ALL_THREADS;
#define TEST_TEXT_OF(x) #x
#define TEST_TEXT(x) TEST_TEXT_OF(x)
#define TEST_SYMBOL(name) __asm__(TEST_TEXT(__USER_LABEL_PREFIX__) name)
extern int test_create(void *thread, const void *how, void *(*run)(void *), void *arg) TEST_SYMBOL("test_pthread_create");
extern int test_system_create(void *thread, const void *how, void *(*run)(void *), void *arg) TEST_SYMBOL("pthread_create");
__attribute__((__weak__)) int test_create(void *thread, const void *how, void *(*run)(void *), void *arg)
{
    if (test_threads_granted < 1) return 11;           /* EAGAIN of Linux */
    if (test_threads_granted < TEST_ALL_THREADS) test_threads_granted--;
    return test_system_create(thread, how, run, arg);
}
#define pthread_create test_pthread_create

#endif
