/* config.h - compilers, attributes, hooks and build switches. The one place for compiler extensions. */
#ifndef KALM__CONFIG_H
#define KALM__CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <stdarg.h>
#include <math.h>

/* Flags that let a compiler change what float operations give. Every operation that a result depends on is fenced (below), so
   none of them changes a result with q8 or q4 weights (tests/test_flags.sh). They are refused nevertheless where a compiler
   tells: the manual says what is lost. */
#if !defined(KALM_ALLOW_FAST_MATH)
#  if defined(__FAST_MATH__) || defined(_M_FP_FAST)
#    error "kalm_rerank.h: compile without -ffast-math (/fp:fast), or define KALM_ALLOW_FAST_MATH (see manual)"
#  elif defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#    error "kalm_rerank.h: compile without -fassociative-math, -freciprocal-math, or define KALM_ALLOW_FAST_MATH (see manual)"
#  elif defined(__FINITE_MATH_ONLY__)
#    if __FINITE_MATH_ONLY__
#      error "kalm_rerank.h: compile without -ffinite-math-only, or define KALM_ALLOW_FAST_MATH (see manual)"
#    endif
#  endif
#endif
/* no macro tells of this flag, which makes constants such as ln 2 floats */
typedef char kalm__compile_without_fsingle_precision_constant[sizeof 1.0 == sizeof(double) ? 1 : -1];

#if defined(KALM_MALLOC) != defined(KALM_FREE)
#  error "kalm_rerank.h: define both KALM_MALLOC and KALM_FREE, or neither"
#endif
#ifndef KALM_MALLOC
#  include <stdlib.h>
#  define KALM_MALLOC(size) malloc(size)
#  define KALM_FREE(ptr) free(ptr)
#endif

#ifndef KALM_ASSERT
#  ifdef KALM_DEBUG
#    include <assert.h>
#    define KALM_ASSERT(x) assert(x)
#  else
#    define KALM_ASSERT(x) ((void)0)
#  endif
#endif

/* Private functions: static, and silent when a build switch leaves them unused. (clang-cl defines no __GNUC__.) The Makefile
   gives KALM__FN, to compile the library once for many programs, and KALM__INLINE, to count its branches. */
#if defined(__GNUC__) || defined(__clang__)
#  ifndef KALM__FN
#    define KALM__FN static __attribute__((__unused__))
#  endif
#  define KALM__SMALL_FN static __inline__ __attribute__((__unused__))
#  ifndef KALM__INLINE
#    define KALM__INLINE static __inline__ __attribute__((__unused__, __always_inline__))
#  endif
#  define KALM__NOINLINE __attribute__((__noinline__))
#  define KALM__RESTRICT __restrict__
#  define KALM__ALIGNED(n) __attribute__((__aligned__(n)))
#  define KALM__LIKELY(x) __builtin_expect(!!(x), 1)
#  define KALM__PREFETCH(p) __builtin_prefetch(p)
#else
#  define KALM__FN static
#  define KALM__LIKELY(x) (x)
#  define KALM__PREFETCH(p) ((void)(p))
#  if defined(_MSC_VER)
#    define KALM__SMALL_FN static __inline
#    define KALM__INLINE static __forceinline
#    define KALM__NOINLINE __declspec(noinline)
#    define KALM__RESTRICT __restrict
#    define KALM__ALIGNED(n) __declspec(align(n))
#  else
#    define KALM__SMALL_FN static
#    define KALM__INLINE static
#    define KALM__NOINLINE
#    define KALM__RESTRICT
#    define KALM__ALIGNED(n)
#  endif
#endif

/* An empty statement that claims to change the float or double v, so that the compiler rounds it here, and can neither fuse a
   product with a sum (as GCC does unless told not to) nor fold it with other operations (as -fassociative-math allows). The
   letter is the kind of register that holds floats; without one, or where floats are computed wider (x87), a store and a load do. KALM__FENCE_AFTER(v, w) claims
   that the change depends on w as well, so that what is done with v stays beside w, in a loop too.
   KALM__FENCE_V does the same to a vector. */
#if defined(__FLT_EVAL_METHOD__)
#  if __FLT_EVAL_METHOD__ != 0
#    define KALM__WIDE_FLOATS 1
#  endif
#endif
#ifndef KALM__WIDE_FLOATS
#  define KALM__WIDE_FLOATS 0
#endif
#if defined(__GNUC__) && !KALM__WIDE_FLOATS
#  if defined(__x86_64__) || defined(__i386__)
#    define KALM__FENCE(v) __asm__("" : "+x"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+x"(v) : "x"(w))
#  elif defined(__aarch64__)
#    define KALM__FENCE(v) __asm__("" : "+w"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+w"(v) : "w"(w))
#  elif (defined(__riscv) && defined(__riscv_flen)) || defined(__s390x__) || defined(__powerpc64__) || \
       defined(__loongarch_hard_float)
#    define KALM__FENCE(v) __asm__("" : "+f"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+f"(v) : "f"(w))
#  elif defined(__wasm__)
#    define KALM__FENCE(v) __asm__("" : "+r"(v))
#    define KALM__FENCE_AFTER(v, w) __asm__("" : "+r"(v) : "r"(w))
#  endif
#elif defined(_MSC_VER) && !defined(__clang__) && !KALM__WIDE_FLOATS
#  define KALM__FENCE(v) ((void)0)     /* /fp:precise, the default, neither fuses nor folds; /fp:fast is refused above */
#  define KALM__FENCE_AFTER(v, w) ((void)0)
#endif
#if !defined(__GNUC__)
#  define KALM__FENCE_V(v) ((void)0)
#elif defined(__x86_64__) || defined(__i386__)
#  define KALM__FENCE_V(v) __asm__("" : "+v"(v))
#elif defined(__wasm__)
#  define KALM__FENCE_V(v) __asm__("" : "+r"(v))
#else
#  define KALM__FENCE_V(v) __asm__("" : "+w"(v))
#endif

/* Which families of kernels this compiler and target can build. Each function carries its own target attribute, so
   no -m flag is needed; what the machine can run is decided by cpu.h at run time. */
#ifndef KALM_NO_SIMD
#  if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#    define KALM__X86 1
#    define KALM__TARGET(features) __attribute__((__target__(features)))
#    if defined(__clang__)
#      if __clang_major__ >= 12
#        define KALM__HAVE_AVXVNNI 1
#      endif
#      if __clang_major__ >= 8
#        define KALM__HAVE_AVX512 1
#      endif
#      if __clang_major__ >= 9 && defined(__GNUC__)
#        define KALM__HAVE_AVX512BF16 1
#      endif
#    else
#      if __GNUC__ >= 12
#        define KALM__HAVE_AVXVNNI 1
#      endif
#      if __GNUC__ >= 9
#        define KALM__HAVE_AVX512 1
#      endif
#      if __GNUC__ >= 10
#        define KALM__HAVE_AVX512BF16 1
#      endif
#    endif
#  elif (defined(_M_X64) || defined(_M_IX86)) && defined(_MSC_VER)
#    define KALM__X86 1
#    define KALM__TARGET(features)
#    if _MSC_VER >= 1930
#      define KALM__HAVE_AVXVNNI 1
#    endif
#    if _MSC_VER >= 1920
#      define KALM__HAVE_AVX512 1
#    endif
#  endif
#  if (defined(__aarch64__) || defined(_M_ARM64)) && !defined(__ARM_BIG_ENDIAN)
#    define KALM__NEON 1
#    define KALM__NEON64 1
#  elif defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#    define KALM__NEON 1
#  endif
#  if defined(__riscv_v) && defined(__riscv_v_intrinsic) && !defined(KALM__RVV)
#    define KALM__RVV 1
#  endif
#  if defined(__wasm_simd128__)
#    define KALM__WASM 1
#    if defined(__wasm_relaxed_simd__) && __clang_major__ >= 16         /* earlier ones speak a draft */
#      define KALM__WASM_RELAXED 1
#    endif
#  endif
#endif
/* How the set avxvnni encodes its instructions. Tests define KALM__EVEX_VNNI, so that processors that have only AVX-512's form
   of them (Ice Lake, Zen 4) run the set as well. */
#ifdef KALM__EVEX_VNNI
#  define KALM__VEX "%{evex%} "
#else
#  define KALM__VEX "%{vex%} "
#endif
#ifndef KALM__X86
#  define KALM__X86 0
#endif
#ifndef KALM__HAVE_AVXVNNI
#  define KALM__HAVE_AVXVNNI 0
#endif
#ifndef KALM__HAVE_AVX512
#  define KALM__HAVE_AVX512 0
#endif
#ifndef KALM__HAVE_AVX512BF16
#  define KALM__HAVE_AVX512BF16 0
#endif
/* AMX, which only Linux is asked for (cpu.h) */
#if KALM__HAVE_AVX512 && defined(__linux__) && defined(__LP64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#  define KALM__HAVE_AMX 1
#else
#  define KALM__HAVE_AMX 0
#endif
#ifndef KALM__NEON
#  define KALM__NEON 0
#endif
#ifndef KALM__NEON64
#  define KALM__NEON64 0
#endif
#ifndef KALM__RVV
#  define KALM__RVV 0
#endif
#ifndef KALM__WASM
#  define KALM__WASM 0
#endif
#ifndef KALM__WASM_RELAXED
#  define KALM__WASM_RELAXED 0
#endif

/* clang 18 to 20 have a feature of its own for the wide registers of AVX-512. "avx512f" implies it, unless the build has turned it
   off for the rest of the program, as Zig does for every feature that a processor need not have. */
#if defined(__clang__) && !defined(__apple_build_version__) && __clang_major__ >= 18 && __clang_major__ <= 20
#  define KALM__AVX512F "evex512,avx512f"
#else
#  define KALM__AVX512F "avx512f"
#endif

#if defined(__BYTE_ORDER__) && defined(__ORDER_BIG_ENDIAN__)
#  if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#    define KALM__BIG_ENDIAN 1
#  endif
#endif
#ifndef KALM__BIG_ENDIAN
#  define KALM__BIG_ENDIAN 0
#endif

/* As Microsoft's compiler, clang leaves most of immintrin.h out where the build has no -mavx. */
#if KALM__X86 && defined(__clang__) && defined(_MSC_VER)
#  include <immintrin.h>
#  include <pmmintrin.h>
#  include <tmmintrin.h>
#  include <smmintrin.h>
#  include <avxintrin.h>
#  include <avx2intrin.h>
#  include <f16cintrin.h>
#  include <fmaintrin.h>
#  include <avxvnniintrin.h>
#  include <avx512fintrin.h>
#  include <avx512vlintrin.h>
#  include <avx512bwintrin.h>
#  include <avx512dqintrin.h>
#  include <avx512vlbwintrin.h>
#  include <avx512vldqintrin.h>
#  include <avx512vnniintrin.h>
#  include <avx512vlvnniintrin.h>
#endif

/* Windows: files, threads, and on ARM what the processor can do. Without the macros min and max, which break C++, and
   without the parts of <windows.h> that programs seldom want; the two words are taken back, for they are not ours. A program that
   wants all of <windows.h> includes it before this header. */
#if defined(_WIN32)
#  ifndef NOMINMAX
#    define NOMINMAX
#    define KALM__OWN_NOMINMAX
#  endif
#  ifndef WIN32_LEAN_AND_MEAN
#    define WIN32_LEAN_AND_MEAN
#    define KALM__OWN_LEAN
#  endif
#  include <windows.h>
#  ifdef KALM__OWN_NOMINMAX
#    undef NOMINMAX
#  endif
#  ifdef KALM__OWN_LEAN
#    undef WIN32_LEAN_AND_MEAN
#  endif
#endif

/* C99 has no _Static_assert: an array of negative length stops the compiler instead. */
#define KALM__ASSERT_SIZE(name, condition) typedef char kalm__assert_##name[(condition) ? 1 : -1]

#endif
