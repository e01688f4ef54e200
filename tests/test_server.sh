#!/bin/sh
# test_server.sh BUILD - kalm-server, asked over real sockets by tests/server/check.py: every wire form, kept documents, limits, kill -9,
# clients that hang up or dawdle, the end in order. The real clients from npm are the CI job `clients` (tests/server/clients.mjs).
build=$1
if ! [ -x "$build/kalm-server" ]; then
    echo "there is no kalm-server: libmicrohttpd-dev, libjansson-dev or libsqlite3-dev is missing"
    echo "0 passed, 1 failed"
    exit 1
fi
exec python3 tests/server/check.py "$build"
