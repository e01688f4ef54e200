/* header.c - the same program, with the implementation in itself. */
#define KALM_RERANK_IMPLEMENTATION
#include "library.c"
