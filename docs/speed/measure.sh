#!/bin/sh
# measure.sh BUILD COMMIT WHAT... - measures again what docs/speed/WHAT.json holds, and writes the pages: bench, cost (what a query
# costs, one thread), load (kalm-server), search and search_nano (kalm-search), store (a million rows
# of few bits), wasm (the WebAssembly modules that examples/wasm/build.sh made), bounds (models of ARM cores). `make speed-figures` is bench;
# SPEED="bench cost" and others. Nothing else should run meanwhile. Other engines: tests/peers/README.md.
set -eu
build=$1 commit=$2
shift 2
here=docs/speed
out=$build/tmp/speed
mkdir -p "$out"
collect() { python3 $here/figures.py collect "$1" "$2" "$here/$3.json" "$4" "$commit"; }
for what in "$@"; do
    case $what in
    bench)
        # shellcheck disable=SC2086 # BENCH is options
        "$build/kalm-bench" --json "$out/bench.json" --commit "$commit" ${BENCH:-} "$build"/bench/nano-q8.kalm "$build"/bench/nano-q4.kalm "$build"/bench/nano-f32.kalm
        cp "$out/bench.json" $here/bench.json ;;
    cost)
        "$build/kalm-eval" --cost "$out/cost" "$build/bench/nano-q8.kalm" --ratio 1,4,32 --longest 2048 --threads 1
        collect cost "$out/cost/cost_curve.csv" cost 'kalm-eval --cost build/cost build/bench/nano-q8.kalm --ratio 1,4,32 --longest 2048 --threads 1' ;;
    load)
        ${MAKE:-make} -s load > "$out/load.txt"
        collect load "$out/load.txt" load 'make load' ;;
    search)
        ${MAKE:-make} -s search-speed > "$out/search.txt"
        collect search "$out/search.txt" search 'make search-speed' ;;
    search_nano)
        ${MAKE:-make} -s search-speed SEARCH='5000 nano 1' > "$out/search_nano.txt"
        collect search "$out/search_nano.txt" search_nano 'make search-speed SEARCH="5000 nano 1"' ;;
    store)
        ${MAKE:-make} few-bit-store > "$out/store.txt" || { tail -n 20 "$out/store.txt"; exit 1; }
        cp "$build/store.json" $here/store.json ;;
    wasm)
        ${MAKE:-make} -s wasm-speed > "$out/wasm.txt"
        collect wasm "$out/wasm.txt" wasm 'make wasm-speed' ;;
    bounds)
        python3 tests/loop_bounds.py "$build" "$commit"
        cp "$build/bounds.json" $here/bounds.json ;;
    *)
        echo "measure.sh: no figures called $what: bench, cost, load, search, search_nano, store, wasm, bounds" >&2
        exit 2 ;;
    esac
done
python3 $here/figures.py make
