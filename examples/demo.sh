#!/bin/sh
# demo.sh BUILD - what `make demo` shows: the bundled tiny model ranks real text. Each command stands above its answer, as it can be
# pasted into a shell.
build=${1:-build}
run() {
    printf '\n%s/kalm-rerank %s/tiny.kalm "%s" --documents examples/demo.txt --top-k 5\n' "$build" "$build" "$1"
    "$build/kalm-rerank" "$build/tiny.kalm" "$1" --documents examples/demo.txt --top-k 5 || exit 1
}
run "program to retouch photos"
run "play chess against the computer"
run "backup files to another machine"
