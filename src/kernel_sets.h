/* kernel_sets.h - the kernel sets in this build, best first, and the choice among them: by what the machine can run, or
   by name. The choice is a pointer to a constant table that the context holds; nothing global is written. */
#ifndef KALM__KERNEL_SETS_H
#define KALM__KERNEL_SETS_H

#include "cpu.h"
#include "kernels.h"
#include "kernels_scalar.h"
#include "kernels_avx2.h"
#include "kernels_avx512.h"
#include "kernels_avx512bf16.h"
#include "kernels_amx.h"
#include "kernels_neon.h"
#include "kernels_rvv.h"
#include "kernels_wasm.h"
#include "kernels_wasm_relaxed.h"

typedef struct kalm__set_entry {
    unsigned             needs;        /* KALM__CPU_ bits */
    const kalm__kernels *kernels;
} kalm__set_entry;

static const kalm__set_entry kalm__set_table[] = {
#if KALM__HAVE_AMX
    { KALM__CPU_AMX, &kalm__kernels_amx },
#endif
#if KALM__HAVE_AVX512
    { KALM__CPU_AVX512VNNI, &kalm__kernels_avx512vnni },
#endif
#if KALM__HAVE_AVX512BF16
    { KALM__CPU_AVX512VNNI | KALM__CPU_AVX512BF16, &kalm__kernels_avx512bf16 },   /* by name alone, see there */
#endif
#if KALM__HAVE_AVXVNNI
    { KALM__CPU_AVX2 | KALM__CPU_AVXVNNI, &kalm__kernels_avxvnni },
#endif
#if KALM__X86
    { KALM__CPU_AVX2, &kalm__kernels_avx2 },
#endif
#if KALM__NEON
#  if KALM__HAVE_DOT && KALM__HAVE_MM
    { KALM__CPU_DOTPROD | KALM__CPU_I8MM, &kalm__kernels_i8mm },
#  endif
#  if KALM__HAVE_DOT
    { KALM__CPU_DOTPROD, &kalm__kernels_dotprod },
#  endif
    { KALM__CPU_NEON, &kalm__kernels_neon },
#endif
#if KALM__RVV
    { KALM__CPU_RVV, &kalm__kernels_rvv },
#endif
#if KALM__WASM_RELAXED
    { KALM__CPU_SDOT, &kalm__kernels_wasmdot },
    { KALM__CPU_VNNI8, &kalm__kernels_wasmvnni8 },
    { KALM__CPU_VNNI, &kalm__kernels_wasmvnni },
    { 0, &kalm__kernels_wasmfma },
#endif
#if KALM__WASM
    { 0, &kalm__kernels_wasm },
#endif
    { 0, &kalm__kernels_scalar }
};

/* The i-th set that this machine can run, best first, "scalar" last, of those of that name (NULL: of all); NULL behind it. use: it
   is to run, so the system is asked for leave where it must be. */
KALM__FN const kalm__kernels *kalm__kernel_set(size_t i, const char *name, int use)
{
    unsigned have = kalm__cpu_features();
    size_t at;
    for (at = 0; at < sizeof kalm__set_table / sizeof kalm__set_table[0]; at++) {
        const kalm__set_entry *e = &kalm__set_table[at];
        if (e->needs & ~have || (name && strcmp(name, e->kernels->name) != 0)) continue;
#if KALM__X86
        if (use && e->needs & KALM__CPU_AMX && !kalm__may_use_tiles()) continue;
#endif
        if (i-- == 0) return e->kernels;
    }
    (void)use;
    return NULL;
}

#endif
