#!/bin/sh
# binding.sh BUILD - what examples/wasm/kalm.mjs makes of its arguments, on one module of WebAssembly alone, for tests/mutate.sh: the whole
# is .ci/wasm. Needs emscripten and node.
set -eu
. tests/wasm/module.sh
for weights in '' -f32; do
    [ -e dist/tiny$weights.kalm ] || "$build/kalm-quantize" "$OLDPWD/examples/tiny" dist/tiny$weights.kalm --name tiny ${weights:+--weights f32} --quiet
done
KALM_BUILDS=simd exec node --test --test-name-pattern='^(the ranking of native|documents: stored|tokens|odd calls|numbers do|lone|every option|progress|cancelled|calls at the same|freed)' \
    test/api.test.mjs
