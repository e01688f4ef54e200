#!/bin/sh
# build.sh - everything the page and the npm package need: into dist/ six WebAssembly modules (plain, SIMD or relaxed SIMD,
# with threads or without) and the tiny model, into prebuilds/ the native addon for this machine and for those that a cross
# compiler is installed for. Needs emcc (3.1.6 or later), make and a C compiler.
# With ONLY=simd (or plain, relaxed, simd-threads, plain-threads, relaxed-threads, native, model) that one alone.
#
# Relaxed SIMD needs clang 16: emcc's own, or RELAXED_CLANG (clang-16) beside an older emcc; without either these two modules
# are left out, and kalm.mjs does without.
set -eu
cd "$(dirname "$0")"
EMCC=${EMCC:-emcc}
RELAXED_CLANG=${RELAXED_CLANG:-clang-16}
mkdir -p dist
# The scripts of the threads are CommonJS for Node, also in a folder of modules that dist/ is copied to.
echo '{ "type": "commonjs" }' > dist/package.json
# where Debian keeps a module that its emcc wants and a node from elsewhere does not see
export NODE_PATH="${NODE_PATH:+$NODE_PATH:}/usr/share/nodejs"

flags='-std=gnu99 -O3 -Wall -Wextra -Werror -I../..'
# Memory grows to 4 GiB. The library asks for less than 16 KB of stack.
link='-O2 -s ALLOW_MEMORY_GROWTH=1 -s MAXIMUM_MEMORY=4GB -s TOTAL_STACK=262144 -s INITIAL_MEMORY=1048576 -s ERROR_ON_UNDEFINED_SYMBOLS=0
      -s WARN_ON_UNDEFINED_SYMBOLS=0'

wanted() { [ -z "${ONLY:-}" ] || [ "$ONLY" = "$1" ]; }

# One thread: a module of two imports that kalm.mjs instantiates itself. Arguments: object, output, flags.
link_alone() { $EMCC $link $3 -s STANDALONE_WASM=1 --no-entry "$1" -o "$2.wasm"; }

# pthreads: with the script of Emscripten that starts the workers. The line behind it is for import() in browsers.
link_threads() {
    echo 'globalThis.KalmThreads = KalmThreads' > "$2.post.js"
    $EMCC $link $3 -Wno-pthreads-mem-growth --no-entry "$1" --js-library threads.js \
        -s MODULARIZE=1 -s EXPORT_NAME=KalmThreads -s ENVIRONMENT=web,worker,node -s FILESYSTEM=0 \
        -s 'PTHREAD_POOL_SIZE=Module["kalmThreads"]' -s PTHREAD_POOL_SIZE_STRICT=2 -s DEFAULT_PTHREAD_STACK_SIZE=262144 \
        -s 'EXPORTED_RUNTIME_METHODS=["PThread"]' --extern-post-js "$2.post.js" -o "$2.js"
    rm "$2.post.js"
}

# name, how to link, flags
module() {
    wanted "$1" || return 0
    $EMCC $flags $3 -c kalm_wasm.c -o "dist/$1.o"
    "$2" "dist/$1.o" "dist/kalm_rerank-$1" "$3"
    [ -z "${1##simd*}" ] || rm "dist/$1.o"                # these are wanted again
}

# The same with relaxed SIMD. The wasm-opt of an emcc whose clang is too old would not understand the module: then the command
# that emcc gives to the linker, as it says with -v, is given to it once more with the object of the other clang, and the
# script is that of the module with plain SIMD.
relaxed() {
    wanted "$1" || return 0
    if [ "$(major "$EMCC")" -ge 16 ]; then
        module "$1" "$2" "$3 -mrelaxed-simd"
        return
    fi
    $RELAXED_CLANG $($EMCC --cflags) $flags $3 -mrelaxed-simd -c kalm_wasm.c -o "dist/$1.o"
    if [ -e "dist/simd${1#relaxed}.o" ]; then cp "dist/simd${1#relaxed}.o" dist/like.o; else $EMCC $flags $3 -c kalm_wasm.c -o dist/like.o; fi
    linker=$("$2" dist/like.o dist/like "$3 -v" 2>&1 | grep 'wasm-ld.* -o dist/like\.wasm ')
    eval "$(printf '%s' "$linker" | sed "s:dist/like\.wasm:dist/kalm_rerank-$1.wasm:; s:dist/like\.o:dist/$1.o:")"
    for script in .js .worker.js; do
        [ ! -e "dist/like$script" ] || sed "s:like\.:kalm_rerank-$1.:g" "dist/like$script" > "dist/kalm_rerank-$1$script"
    done
    rm dist/like.* "dist/$1.o"
}
major() { $1 -dM -E -x c /dev/null | sed -n 's/#define __clang_major__ //p'; }

module plain link_alone ''
module simd link_alone '-msimd128'
module plain-threads link_threads '-pthread'
module simd-threads link_threads '-msimd128 -pthread'
if [ "$(major "$EMCC")" -ge 16 ] || { command -v "$RELAXED_CLANG" > /dev/null && [ "$(major "$RELAXED_CLANG")" -ge 16 ]; }; then
    relaxed relaxed link_alone '-msimd128'
    relaxed relaxed-threads link_threads '-msimd128 -pthread'
else
    rm -f dist/kalm_rerank-relaxed*    # of another day
    echo "no relaxed SIMD: neither $EMCC nor $RELAXED_CLANG is clang 16 or later"
fi
rm -f dist/simd.o dist/simd-threads.o

cp ../../LICENSE LICENSE
cp kalm.d.mts kalm.d.cts               # the same types, for programs that use require()
sed 's:\./kalm\.mjs:./kalm.cjs:' worker.d.mts > worker.d.cts

if wanted native; then
    others=
    for pair in x86_64:linux-x64:x86_64-linux-gnu-gcc aarch64:linux-arm64:aarch64-linux-gnu-gcc none:linux-arm64-musl:aarch64-linux-musl-gcc; do
        if [ "${pair%%:*}" != "$(uname -m)" ] && command -v "${pair##*:}" > /dev/null; then
            target=${pair#*:}
            others="$others ${target%:*}"
        fi
    done
    if [ "$(uname -m)" = x86_64 ] && command -v musl-gcc > /dev/null; then others="$others linux-x64-musl"; fi
    sh build-native.sh                 # this machine's
    # shellcheck disable=SC2086  # a list of words
    [ -z "$others" ] || sh build-native.sh $others
fi

if wanted model; then
    make -s -C ../.. build/kalm-quantize
    ../../build/kalm-quantize ../tiny dist/tiny.kalm --name tiny --quiet
    ../../build/kalm-quantize ../tiny dist/tiny-f32.kalm --name tiny --weights f32 --quiet
    # parts of it, for tests alone
    for side in encoder decoder; do ../../build/kalm-quantize dist/tiny.kalm dist/tiny-$side.kalm --side $side --quiet; done
    ../../build/kalm-quantize dist/tiny-decoder.kalm dist/tiny-query.kalm --vocabulary ../demo.txt --quiet
fi
# which modules there are, so that the page asks for no other
printf '[%s]\n' "$(ls dist/kalm_rerank-*.wasm 2> /dev/null | sed 's:.*kalm_rerank-\(.*\)\.wasm:"\1":' | paste -sd, -)" > dist/builds.json
ls -l dist
