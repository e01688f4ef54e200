#!/bin/sh
# build.sh - everything the page and the npm package need, into dist/: four WebAssembly modules (SIMD or plain, with
# threads or without) and the tiny model. Needs emcc (3.1.6 or later) and, for the tiny model, make and a C compiler.
# With ONLY=simd (or plain, simd-threads, plain-threads, model) that one alone.
set -eu
cd "$(dirname "$0")"
EMCC=${EMCC:-emcc}
mkdir -p dist
# where Debian keeps a module that its emcc wants and a node from elsewhere does not see
export NODE_PATH="${NODE_PATH:+$NODE_PATH:}/usr/share/nodejs"

flags='-std=gnu99 -O3 -Wall -Wextra -Werror -I../..'
# Memory grows to 4 GiB. The library asks for less than 16 KB of stack.
link='-O2 -s ALLOW_MEMORY_GROWTH=1 -s MAXIMUM_MEMORY=4GB -s TOTAL_STACK=262144 -s INITIAL_MEMORY=1048576 -s ERROR_ON_UNDEFINED_SYMBOLS=0
      -s WARN_ON_UNDEFINED_SYMBOLS=0'

wanted() { [ -z "${ONLY:-}" ] || [ "$ONLY" = "$1" ]; }

# One thread: a module of two imports that kalm.mjs instantiates itself.
alone() {
    wanted "$1" || return 0
    $EMCC $flags $2 -c kalm_wasm.c -o "dist/$1.o"
    $EMCC $link $2 -s STANDALONE_WASM=1 --no-entry "dist/$1.o" -o "dist/kalm_rerank-$1.wasm"
    rm "dist/$1.o"
}

# pthreads: with the script of Emscripten that starts the workers. The last line is for import() in browsers.
threads() {
    wanted "$1" || return 0
    $EMCC $flags $2 -pthread -c kalm_wasm.c -o "dist/$1.o"
    echo 'globalThis.KalmThreads = KalmThreads' > "dist/$1.post.js"
    $EMCC $link $2 -pthread -Wno-pthreads-mem-growth --no-entry "dist/$1.o" --js-library threads.js \
        -s MODULARIZE=1 -s EXPORT_NAME=KalmThreads -s ENVIRONMENT=web,worker,node -s FILESYSTEM=0 \
        -s 'PTHREAD_POOL_SIZE=Module["kalmThreads"]' -s PTHREAD_POOL_SIZE_STRICT=2 -s DEFAULT_PTHREAD_STACK_SIZE=262144 \
        -s 'EXPORTED_RUNTIME_METHODS=["PThread"]' --extern-post-js "dist/$1.post.js" -o "dist/kalm_rerank-$1.js"
    rm "dist/$1.o" "dist/$1.post.js"
}

alone plain ''
alone simd '-msimd128'
threads plain-threads ''
threads simd-threads '-msimd128'

cp ../../LICENSE LICENSE

if wanted model; then
    make -s -C ../.. build/kalm-quantize
    ../../build/kalm-quantize ../tiny dist/tiny.kalm --name tiny --quiet
    ../../build/kalm-quantize ../tiny dist/tiny-f32.kalm --name tiny --weights f32 --quiet
fi
ls -l dist
