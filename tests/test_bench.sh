#!/bin/sh
# test_bench.sh BUILD - kalm-bench --compare on files written by hand, and one figure measured and read back. No speed is asserted.
build=$1
dir=$build/tmp/bench
rm -rf "$dir" && mkdir -p "$dir"
passed=0 failed=0
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; head -n 5 "$dir/log"; fi
}
# status CODE COMMAND...: prints to $dir/out and $dir/err
status() {
    want=$1
    shift
    "$@" > "$dir/out" 2> "$dir/err"
    got=$?
    expect "status $want of $*" test "$got" -eq "$want"
}
# file NAME MACHINE [NAME VALUE UNIT RATIO NOISE]...
file() {
    name=$1 machine=$2 comma=
    shift 2
    printf '{"machine": "%s", "commit": "%s", "figures": [' "$machine" "$name"
    while [ $# -gt 0 ]; do
        printf '%s\n{"name": "%s", "threads": 1, "value": %s, "unit": "%s", "peak": null, "ratio": %s, "noise": %s}' "$comma" "$1" "$2" "$3" "$4" "$5"
        shift 5
        comma=,
    done > "$dir/list"
    { cat "$dir/list"; printf ']}\n'; }
}
compare() { "$build/kalm-bench" --compare "$dir/$1" "$dir/$2"; }
line() { grep -q "^$1 .*$2\$" "$dir/out"; }

file old m a 100 GOPS 0.80 0.01  b 100 GOPS 0.80 0.01  c 100 GOPS 0.80 0.01  d 10 ms/doc 0.50 0.01  e 1000 bytes null null  f 9 tokens/s null null  g 1 GOPS 0.5 0.1 > "$dir/old"
# a worse by more than the noise, b better, c within it, d's time is longer but its ratio the same, e larger, f decides nothing
file new m a 100 GOPS 0.77 0.01  b 100 GOPS 0.83 0.01  c 100 GOPS 0.79 0.01  d 20 ms/doc 0.50 0.01  e 1010 bytes null null  f 3 tokens/s null null  h 1 GOPS 0.5 0.1 > "$dir/new"
status 1 compare old new
for want in 'a WORSE' 'b better' 'c %  ' 'd %  ' 'e WORSE' 'f %  '; do expect "compared: $want" line "${want%% *}" "${want#* }"; done
expect 'the count' grep -q '^2 worse, 1 better, 2 alike within the noise; 2 stand in one of the files only$' "$dir/out"
status 0 compare old old
status 1 compare new old
expect 'b turned round' line b WORSE
# another machine: values without a yardstick are not compared
file new n f 3 tokens/s null null  a 50 GOPS 0.80 0.01 > "$dir/other"
status 0 compare old other
expect 'two machines, said' grep -q '^These are two machines' "$dir/out"
expect 'no rate of another machine' test -z "$(sed -n '/^f /p' "$dir/out")"
# what is no such file
printf '[1, 2' > "$dir/cut"
printf '[]' > "$dir/list"
: > "$dir/empty"
printf '{"figures": [{"name": "x", "threads": -1}]}' > "$dir/bad"
for wrong in cut list empty bad missing; do
    status 1 compare old $wrong
    expect "one sentence that names $wrong" grep -q "^kalm-bench: .*$wrong" "$dir/err"
done
status 2 "$build/kalm-bench" --compare "$dir/old"
# measured, written, read back
status 0 "$build/kalm-bench" --quick --only matmul_q8_16 --threads 1 --json "$dir/measured" --commit 'a "name"'
expect 'the commit' grep -q '"commit": "a \\"name\\""' "$dir/measured"
status 0 compare measured measured
expect 'a figure came through' grep -q '^matmul_q8_16 ' "$dir/out"
# another set of kernels than the best
status 0 "$build/kalm-bench" --quick --kernels scalar --only open --threads 1 --json "$dir/scalar" "$build/tiny.kalm"
expect 'the set that was measured' grep -q '"machine": ".*, scalar kernels"' "$dir/scalar"
status 1 "$build/kalm-bench" --quick --kernels nope --only open --json "$dir/nope"
expect 'one sentence that names the set' grep -q '^kalm-bench: nope: no set of kernels of this machine$' "$dir/err"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
