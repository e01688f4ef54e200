/* cpu.h - what this machine can run. Asks the processor and, where registers must be saved by it, the system: on x86
   CPUID and XCR0 both (feature bits alone crash on systems that mask AVX-512), on ARM the system. Says nothing about
   which set is best (kernel_sets.h). */
#ifndef KALM__CPU_H
#define KALM__CPU_H

#include "base.h"

#if KALM__X86
#  if defined(_MSC_VER)
#    include <intrin.h>
#  else
#    include <cpuid.h>
#  endif
#elif KALM__NEON
#  if defined(__linux__) || defined(__ANDROID__)
#    include <sys/auxv.h>
#  elif defined(__APPLE__)
#    include <sys/types.h>
#    include <sys/sysctl.h>
#  elif defined(_WIN32)
#    ifndef WIN32_LEAN_AND_MEAN
#      define WIN32_LEAN_AND_MEAN
#    endif
#    ifndef NOMINMAX
#      define NOMINMAX
#    endif
#    include <windows.h>
#  endif
#endif

/* Bits of kalm__cpu_features(). */
enum {
    KALM__CPU_AVX2       = 1,          /* with FMA and F16C: every AVX2 machine but one early VIA has them     */
    KALM__CPU_AVXVNNI    = 2,          /* vpdpbusd on ymm, VEX encoded                                         */
    KALM__CPU_AVX512VNNI = 4,          /* with F, BW, DQ, VL                                                   */
    KALM__CPU_AMX        = 8,          /* tiles and int8; on Linux the process must still ask for them         */
    KALM__CPU_NEON       = 16,
    KALM__CPU_DOTPROD    = 32,
    KALM__CPU_I8MM       = 64,
    KALM__CPU_AVX512BF16 = 128
};

#if KALM__X86
KALM__FN void kalm__cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
#  if defined(_MSC_VER)
    int v[4];
    __cpuidex(v, (int)leaf, (int)sub);
    r[0] = (uint32_t)v[0], r[1] = (uint32_t)v[1], r[2] = (uint32_t)v[2], r[3] = (uint32_t)v[3];
#  else
    __cpuid_count(leaf, sub, r[0], r[1], r[2], r[3]);
#  endif
}

/* Low word of XCR0: which registers the system saves. Only valid when CPUID says OSXSAVE. */
KALM__FN uint32_t kalm__xcr0(void)
{
#  if defined(_MSC_VER) && !defined(__clang__)
    return (uint32_t)_xgetbv(0);
#  else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
#  endif
}

KALM__FN unsigned kalm__cpu_features(void)
{
    uint32_t r[4], leaf1, leaf7b, leaf7c, leaf7d, saved, leaves;
    unsigned found = 0;
    kalm__cpuid(0, 0, r);
    leaves = r[0];
    if (leaves < 7) return 0;
    kalm__cpuid(1, 0, r);
    leaf1 = r[2];
    if (!(leaf1 >> 27 & 1)) return 0;                       /* OSXSAVE */
    saved = kalm__xcr0();
    kalm__cpuid(7, 0, r);
    leaf7b = r[1], leaf7c = r[2], leaf7d = r[3];
    if ((saved & 0x06) == 0x06 && (leaf1 >> 28 & 1) && (leaf1 >> 12 & 1) && (leaf1 >> 29 & 1) && (leaf7b >> 5 & 1)) {
        uint32_t leaf71a = 0;
        if (r[0] >= 1) {                                    /* subleaves */
            kalm__cpuid(7, 1, r);
            leaf71a = r[0];
        }
        found |= KALM__CPU_AVX2;                            /* AVX, FMA, F16C, AVX2; xmm and ymm saved */
        if (leaf71a >> 4 & 1) found |= KALM__CPU_AVXVNNI;
        /* F 16, DQ 17, BW 30, VL 31; VNNI 11; opmask, upper zmm and zmm 16..31 saved */
        if ((saved & 0xe6) == 0xe6 && (leaf7b & 0xc0030000u) == 0xc0030000u && (leaf7c >> 11 & 1)) {
            found |= KALM__CPU_AVX512VNNI;
            if (leaf71a >> 5 & 1) found |= KALM__CPU_AVX512BF16;
#  if defined(KALM__EVEX_VNNI) && defined(__GNUC__)
            found |= KALM__CPU_AVXVNNI;
#  endif
            if ((saved & 0x60000u) == 0x60000u && (leaf7d >> 24 & 3) == 3) found |= KALM__CPU_AMX;
        }
    }
    return found;
}
#elif KALM__NEON64
#  if defined(__APPLE__)
KALM__FN int kalm__sysctl_flag(const char *name)
{
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value;
}
#  endif
KALM__FN unsigned kalm__cpu_features(void)
{
    unsigned found = KALM__CPU_NEON;
#  if defined(__linux__) || defined(__ANDROID__)
    /* the kernel's HWCAP_ASIMDDP and HWCAP2_I8MM; by number, since old headers lack the names */
    if (getauxval(16) >> 20 & 1) found |= KALM__CPU_DOTPROD;
    if ((found & KALM__CPU_DOTPROD) && (getauxval(26) >> 13 & 1)) found |= KALM__CPU_I8MM;
#  elif defined(__APPLE__)
    if (kalm__sysctl_flag("hw.optional.arm.FEAT_DotProd")) found |= KALM__CPU_DOTPROD;
    if ((found & KALM__CPU_DOTPROD) && kalm__sysctl_flag("hw.optional.arm.FEAT_I8MM")) found |= KALM__CPU_I8MM;
#  elif defined(_WIN32)
    /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE, PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE */
    if (IsProcessorFeaturePresent(43)) found |= KALM__CPU_DOTPROD;
    if ((found & KALM__CPU_DOTPROD) && IsProcessorFeaturePresent(66)) found |= KALM__CPU_I8MM;
#  else                                /* no way to ask: what the compiler was told to assume */
#    if defined(__ARM_FEATURE_DOTPROD)
    found |= KALM__CPU_DOTPROD;
#    endif
#    if defined(__ARM_FEATURE_DOTPROD) && defined(__ARM_FEATURE_MATMUL_INT8)
    found |= KALM__CPU_I8MM;
#    endif
#  endif
    return found;
}
#elif KALM__NEON
KALM__FN unsigned kalm__cpu_features(void) { return KALM__CPU_NEON; }   /* compiled for it, so it is there */
#else
KALM__FN unsigned kalm__cpu_features(void) { return 0; }
#endif

#endif
