/* kalm_rerank.c - the header as a library of its own, for build systems that want a source file: meson.build, build.zig, xmake and
   Conan compile this. */
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
