/* command_eval.c - kalm-eval as a function, see command_world.h. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
#define main fuzz_main_eval
#include "../../examples/eval/kalm_eval.c"
