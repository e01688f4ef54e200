/* command_quantize.c - kalm-quantize as a function, see command_world.h. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
#define main fuzz_main_quantize
#include "../../quantize/kalm_quantize.c"
