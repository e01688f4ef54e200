#!/bin/sh
# native.sh BUILD - the native addon of the npm package, built for this machine alone and tested in what it makes of its arguments, for
# tests/mutate.sh: the whole is .ci/node. Needs node with the headers of Node-API (Debian: libnode-dev) and emscripten, whose module of
# WebAssembly is what the addon is compared with.
set -eu
[ -e /usr/include/node/node_api.h ] || { echo "there is no /usr/include/node/node_api.h"; exit 77; }
. tests/wasm/module.sh
[ -e dist/tiny.kalm ] || "$build/kalm-quantize" "$OLDPWD/examples/tiny" dist/tiny.kalm --name tiny --quiet
NODE_API=/usr/include/node CFLAGS=-O1 sh build-native.sh > dist/log.native 2>&1 || { cat dist/log.native; exit 1; }
exec node --test --test-name-pattern='^(it is the default|more documents|cancelled within|during work|in the middle|bytes that change|names that|mapped|several at once|the addon itself)' \
    test/native.test.mjs
