#!/bin/sh
# demo.sh BUILD - what `make demo` shows: the bundled tiny model ranks real text.
build=${1:-build}
run() {
    printf '\n$ kalm-rerank tiny.kalm "%s" --documents examples/demo.txt --top-k 5\n' "$1"
    "$build/kalm-rerank" "$build/tiny.kalm" "$1" --documents examples/demo.txt --top-k 5 || exit 1
}
run "program to retouch photos"
run "play chess against the computer"
run "backup files to another machine"
