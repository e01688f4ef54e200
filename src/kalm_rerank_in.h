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

/* gcc's own intrinsics warn about their insides where they are used: their undefined vectors (its bug 105593), and without
   optimisation, when they are macros, their mask constants. C's casts are old style to C++. */
#ifdef __GNUC__
#pragma GCC diagnostic push
#ifdef __cplusplus
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#ifndef __OPTIMIZE__
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif
#endif
#endif

/* The ground: compilers, errors, sizes, files, threads. */
#include "config.h"
#include "base.h"
#include "exact.h"
#include "platform.h"
#include "mapping.h"
#include "cores.h"
#include "recognise.h"
#include "format.h"
#include "blocks.h"
#include "threads.h"

/* Text to tokens and back. */
#include "../tokenizer/vocab.h"
#include "../tokenizer/ids.h"
#include "../tokenizer/normal.h"
#include "../tokenizer/bpe.h"
#include "../tokenizer/unigram.h"
#include "../tokenizer/text.h"
#include "../tokenizer/decode.h"

/* Matrix products and the float work between them: one constant table for each instruction set. */
#include "cpu.h"
#include "kernels.h"
#include "ops.h"
#include "embedding.h"
#include "kernels_scalar.h"
#include "kernels_tiles.h"
#include "kernels_avx2.h"
#include "kernels_avx512.h"
#include "kernels_avx512bf16.h"
#include "kernels_amx.h"
#include "kernels_neon.h"
#include "kernels_rvv.h"
#include "kernels_wasm.h"
#include "kernels_wasm_relaxed.h"
#include "kernel_sets.h"
#include "rowcode.h"

/* Products among threads, and attention. */
#include "matmul.h"
#include "rotary.h"
#include "keys.h"
#include "attention.h"

/* The network: from an open file to rows and margins. */
#include "modelfile.h"
#include "model.h"
#include "state.h"
#include "context.h"
#include "layer.h"
#include "documents.h"
#include "encoder.h"
#include "decoder.h"
#include "scoring.h"
#include "rerank.h"
#include "public.h"
#include "public_rerank.h"

#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif

#endif /* KALM__IMPLEMENTED */
#endif /* KALM_RERANK_IMPLEMENTATION */

#include "license.h"
