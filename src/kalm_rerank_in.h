/* kalm_rerank_in.h - the spine: the parts in teaching order, each from above what needs it, and nothing else.
   It is valid C: tests include it; `make header` expands it into kalm_rerank.h. */
#include "manual.h"
#include "api.h"

#if defined(__INTELLISENSE__) && !defined(KALM_RERANK_IMPLEMENTATION)
#define KALM_RERANK_IMPLEMENTATION     /* so that editors colour what follows */
#endif

/* ---- That was all a user needs to read. Below is the implementation. ---- */

#ifdef KALM_RERANK_IMPLEMENTATION
#ifndef KALM__IMPLEMENTED
#define KALM__IMPLEMENTED

/* The ground: compilers, errors, sizes, files, threads. */
#include "config.h"
#include "base.h"
#include "platform.h"
#include "format.h"
#include "../quantize/blocks.h"
#include "threads.h"

/* Matrix products, one table of functions for each instruction set. */
#include "cpu.h"
#include "kernels.h"
#include "embedding.h"
#include "kernels_scalar.h"
#include "kernel_sets.h"

#endif /* KALM__IMPLEMENTED */
#endif /* KALM_RERANK_IMPLEMENTATION */

#include "license.h"
