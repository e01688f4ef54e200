/* cpu.h - what this machine can run. Asks the processor and, where registers must be saved by it, the system: on x86
   CPUID and XCR0 both (feature bits alone crash on systems that mask AVX-512), on ARM the system; and what WebAssembly's
   relaxed dot product is on this engine, by trying it. Says nothing about which set is best (kernel_sets.h). */
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
#  endif
#elif KALM__WASM_RELAXED
#  include <wasm_simd128.h>
#elif KALM__RVV && defined(__linux__)
#  include <sys/auxv.h>
#endif

/* Bits of kalm__cpu_features(). */
enum {
    KALM__CPU_AVX2       = 1,          /* with FMA and F16C: every AVX2 machine but one early VIA has them     */
    KALM__CPU_AVXVNNI    = 2,          /* vpdpbusd on ymm, VEX encoded                                         */
    KALM__CPU_AVX512VNNI = 4,          /* with F, BW, DQ, VL                                                   */
    KALM__CPU_NEON       = 16,
    KALM__CPU_DOTPROD    = 32,
    KALM__CPU_I8MM       = 64,
    KALM__CPU_AVX512BF16 = 128,
    KALM__CPU_RVV        = 8,          /* RISC-V's vectors, 1.0                                                */
    KALM__CPU_SDOT       = 256,        /* WebAssembly's relaxed_dot is that of ARM: sdot, or smull             */
    KALM__CPU_VNNI       = 512,        /* it is vpdpbusd                                                       */
    KALM__CPU_VNNI8      = 1024,       /* it is vpdpbssd                                                       */
    KALM__CPU_AMX        = 2048        /* AMX-INT8, with what AVX512VNNI stands for; see kalm__may_use_tiles   */
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

/* The low 32 bits of XCR0: which registers the system saves. Only valid when CPUID says OSXSAVE. */
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

#  if KALM__HAVE_AMX
KALM__FN long kalm__arch_prctl(long code, uintptr_t arg)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(158L), "D"(code), "S"(arg) : "rcx", "r11", "memory");
    return r;
}
#  endif

/* Linux must be asked, ARCH_REQ_XCOMP_PERM(XTILEDATA), by whoever will use tiles and by nobody else: the answer is for the whole
   process and for good. No, where a thread's alternate stack for signals cannot hold tiles; after a yes none may be set that cannot. */
KALM__FN int kalm__may_use_tiles(void)
{
#  if KALM__HAVE_AMX && !defined(KALM__TILE_DOT)
    return kalm__arch_prctl(0x1023, 18) == 0;
#  else
    return 1;
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
#  if defined(KALM__TILE_DOT)          /* tests */
            found |= KALM__CPU_AMX;
#  elif KALM__HAVE_AMX
            uint64_t known = 0;        /* ARCH_GET_XCOMP_SUPP */
            if ((leaf7d >> 24 & 3) == 3 && (saved & 0x60000) == 0x60000 && kalm__arch_prctl(0x1021, (uintptr_t)&known) == 0 && known >> 18 & 1)
                found |= KALM__CPU_AMX;
#  endif
            if (leaf71a >> 5 & 1) found |= KALM__CPU_AVX512BF16;
#  if defined(KALM__EVEX_VNNI) && defined(__GNUC__)
            found |= KALM__CPU_AVXVNNI;
#  endif
        }
    }
    (void)leaf7d;
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
#elif KALM__RVV
KALM__FN unsigned kalm__cpu_features(void)
{
#  if defined(__linux__)
    return getauxval(16) >> ('V' - 'A') & 1 ? KALM__CPU_RVV : 0;        /* AT_HWCAP has a bit for each letter */
#  else
    return KALM__CPU_RVV;              /* compiled for it */
#  endif
}
#elif KALM__NEON
KALM__FN unsigned kalm__cpu_features(void) { return KALM__CPU_NEON; }   /* compiled for it, so it is there */
#elif KALM__WASM_RELAXED
/* acc + a . b, four products of bytes in each dword, of a with its sign; what the sign of b is, and whether pairs of products
   saturate in 16 bits, the standard leaves to the engine. clang's header has names for relaxed instructions from 17 on. */
KALM__INLINE v128_t kalm__relaxed_dot(v128_t acc, v128_t a, v128_t b)
{
#  if defined(KALM__SIGNED_DOT) || defined(KALM__UNSIGNED_DOT)         /* tests: sdot, vpdpbusd */
#    if defined(KALM__SIGNED_DOT)
    v128_t low = wasm_i16x8_extend_low_i8x16(b), high = wasm_i16x8_extend_high_i8x16(b);
#    else
    v128_t low = wasm_u16x8_extend_low_u8x16(b), high = wasm_u16x8_extend_high_u8x16(b);
#    endif
    low = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(a), low);
    high = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(a), high);
    acc = wasm_i32x4_add(acc, wasm_i32x4_shuffle(low, high, 0, 2, 4, 6));
    return wasm_i32x4_add(acc, wasm_i32x4_shuffle(low, high, 1, 3, 5, 7));
#  elif __clang_major__ >= 17
    return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(a, b, acc);
#  else
    return (v128_t)__builtin_wasm_relaxed_dot_i8x16_i7x16_add_s_i32x4((__i8x16)a, (__i8x16)b, (__i32x4)acc);
#  endif
}

/* WebAssembly does not tell its processor, so two products are tried. Sums of pairs that 16 bits cannot hold tell vpdpbusd from
   pmaddubsw, which saturates them; a negative byte tells sdot from both. Whether a signed product is ARM's or x86's, the sign of
   a NaN that the processor makes says: x86 sets it. Only speed depends on these answers (kernels_wasm_relaxed.h checks what it
   computes). */
KALM__FN unsigned kalm__cpu_features(void)
{
#  if defined(KALM__ALL_DOTS)          /* tests */
    return KALM__CPU_SDOT | KALM__CPU_VNNI | KALM__CPU_VNNI8;
#  else
    volatile float zero = 0.0f;
    float nan = zero / zero;
    uint32_t bits;
    v128_t acc = wasm_i32x4_splat((int)zero), w = wasm_i8x16_splat(127);
    int negative = wasm_i32x4_extract_lane(kalm__relaxed_dot(acc, w, wasm_i8x16_splat(-127)), 0);
    int large = wasm_i32x4_extract_lane(kalm__relaxed_dot(acc, w, wasm_i8x16_splat(-1)), 0);
    memcpy(&bits, &nan, 4);
    if (negative == -4 * 127 * 127) return bits >> 31 ? KALM__CPU_VNNI8 : KALM__CPU_SDOT;
    return large == 4 * 127 * 255 ? KALM__CPU_VNNI : 0;
#  endif
}
#else
KALM__FN unsigned kalm__cpu_features(void) { return 0; }
#endif

#endif
