/* unit_a.c, unit_b.c - two files of one program: declarations alone in b, and there the header twice; with
   -DKALM_RERANK_STATIC each has a copy of its own. */
#ifdef KALM_RERANK_STATIC
#  define KALM_RERANK_IMPLEMENTATION
#endif
#include "kalm_rerank.h"
#ifndef KALM_RERANK_IMPLEMENTATION
#  define KALM_RERANK_IMPLEMENTATION
#endif
#include "kalm_rerank.h"
#include "kalm_rerank.h"

#ifdef __cplusplus
extern "C"
#endif
uint32_t other_unit(void);

int main(void) { return kalm_version() == other_unit() && kalm_kernels(0) ? 0 : 1; }
