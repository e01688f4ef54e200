/* command_eval.c - kalm-eval as a function, see command_world.h. */
#define _FILE_OFFSET_BITS 64
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "command_world.h"
/* Libraries that unpack have memory and files of their own. */
#ifdef HAVE_ZLIB
#  include <zlib.h>
static void end_gz(void *f) { gzclose((gzFile)f); }
static gzFile open_gz(const char *path, const char *mode) { return (gzFile)fuzz_keep(gzopen(path, mode), end_gz); }
#  undef gzopen                        /* zlib's own name for files of any size */
#  define gzopen(path, mode) open_gz(path, mode)
#  define gzclose(f) gzclose((gzFile)fuzz_forget(f))
#endif
#ifdef HAVE_ZSTD
#  include <zstd.h>
static void end_zstd(void *stream) { ZSTD_freeDStream((ZSTD_DStream *)stream); }
#  define ZSTD_createDStream() ((ZSTD_DStream *)fuzz_keep(ZSTD_createDStream(), end_zstd))
#  define ZSTD_freeDStream(stream) ZSTD_freeDStream((ZSTD_DStream *)fuzz_forget(stream))
#endif
#define main fuzz_main_eval
#include "../../examples/eval/kalm_eval.c"
