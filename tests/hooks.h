/* hooks.h - constants of the library that a test sets at run time. The library of the tests (header.o, see the Makefile) is compiled
   with this before the header, and so is a test that includes it; each constant has its usual value until a test gives it another.
   It includes nothing, for the reason given in fence.h. */
#ifndef TEST_HOOKS_H
#define TEST_HOOKS_H

/* Both the library and the test define it; the linker keeps one. */
extern unsigned long long test_ask_after;
__attribute__((__weak__)) unsigned long long test_ask_after = 1ull << 27;
#define KALM__ASK_AFTER test_ask_after

#endif
