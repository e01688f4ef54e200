/* unit_b.c - see unit_a.c */
#ifdef KALM_RERANK_STATIC
#  define KALM_RERANK_IMPLEMENTATION
#endif
#include "kalm_rerank.h"
#include "kalm_rerank.h"

#ifdef __cplusplus
extern "C" {
#endif
uint32_t other_unit(void);
#ifdef __cplusplus
}
#endif

uint32_t other_unit(void) { return kalm_version(); }
