#!/bin/sh
# module.sh - what binding.sh and native.sh begin with, sourced with "$1" the build: a copy of examples/wasm in KALM_KEPT (or BUILD), where
# they then are, with the module of WebAssembly, which stays.
build=$(cd "$1" && pwd)
for command in emcc node; do
    command -v $command > /dev/null || { echo "$command is not installed"; exit 77; }
done
tree=${KALM_KEPT:-$build}/$(basename "$0" .sh)
mkdir -p "$tree/examples/wasm/dist"
cp kalm_rerank.h LICENSE "$tree"
cp -r examples/wasm/*.* examples/wasm/test "$tree/examples/wasm"
cp examples/demo.txt "$tree/examples"
ln -sfn "$build" "$tree/build"
cd "$tree/examples/wasm" || exit 1
[ -e dist/kalm_rerank-simd.wasm ] || ONLY=simd sh build.sh > dist/log 2>&1 || { cat dist/log; exit 1; }
