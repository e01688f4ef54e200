#!/bin/sh
# binding.sh BUILD - what examples/wasm/kalm.mjs makes of its arguments, on one module of WebAssembly alone, for tests/mutate.sh: the whole
# is .ci/wasm. Needs emscripten and node. It works in a copy of examples/wasm in KALM_KEPT (or BUILD), where the module stays.
set -eu
build=$(cd "$1" && pwd)
for command in emcc node; do
    command -v $command > /dev/null || { echo "$command is not installed"; exit 77; }
done
tree=${KALM_KEPT:-$build}/binding
mkdir -p "$tree/examples/wasm/dist"
cp kalm_rerank.h LICENSE "$tree"
cp -r examples/wasm/*.* examples/wasm/test "$tree/examples/wasm"
cp examples/demo.txt "$tree/examples"
ln -sfn "$build" "$tree/build"
cd "$tree/examples/wasm"
[ -e dist/kalm_rerank-simd.wasm ] || ONLY=simd sh build.sh > dist/log 2>&1 || { cat dist/log; exit 1; }
for weights in '' -f32; do
    [ -e dist/tiny$weights.kalm ] || "$build/kalm-quantize" "$OLDPWD/examples/tiny" dist/tiny$weights.kalm --name tiny ${weights:+--weights f32} --quiet
done
KALM_BUILDS=simd exec node --test --test-name-pattern='^(the ranking of native|documents: stored|tokens|odd calls|numbers do|lone|every option|progress|cancelled|calls at the same|freed)' \
    test/api.test.mjs
