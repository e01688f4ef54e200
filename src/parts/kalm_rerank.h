/* kalm_rerank.h, made of the parts in place: programs that say #include "kalm_rerank.h" are built on the parts with
   -Isrc/parts and on the generated header with -I. (the Makefile does both). */
#include "../kalm_rerank_in.h"
