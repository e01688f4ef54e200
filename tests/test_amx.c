/* test_amx.c - the set "amx" against the scalar one, by all that test_kernels.c does, with the tile instructions in C: for machines
   without AMX, which is all that were at hand. It needs AVX-512 VNNI, which the rest of the set is written in. */
#include "guard.h"
#include "amx_emulated.h"
#undef TEST_BUILD                      /* the parts of the kernels alone */
#define TESTED_SET "amx"
#include "test_kernels.c"
