#!/bin/sh
# run.sh BUILD JOBS TEST... - run the tests, JOBS at once, and print one line for each: its name, what it counted, and the CPU
# seconds that it took. What a test prints is shown only where it fails (V=1: always). Ends with "N passed, N failed".
build=$1 jobs=$2
shift 2
unset MAKEFLAGS MFLAGS MAKEOVERRIDES       # a test that calls make means a plain one, not make B=... as this was started
# A python3 that is a script which looks for one (pyenv's) takes longer than most of what it is called for.
python=$(python3 -c 'import sys; print(sys.executable)' 2> /dev/null) && [ -x "$python" ] && PATH=${python%/*}:$PATH && export PATH
results=$build/tmp/results.$$
mkdir -p "$results"
trap 'rm -rf "$results"' EXIT
# The long ones first, so that no core is idle at the end: LONGEST names them in that order.
for t in "$@"; do
    order=9
    n=1
    for long in ${LONGEST:-}; do
        case $t in */"$long"|*/"$long".sh) order=$n ;; esac
        n=$((n + 1))
    done
    printf '%s %s\n' "$order" "$t"
done | sort -n | cut -d' ' -f2 | xargs -n 1 -P "$jobs" sh tests/run_one.sh "$build" "$results"
cat "$results"/*.count | awk -v build="$build" '
    { passed += $1; failed += $2; cpu += $3; suites++; if ($2) bad = bad " " $4 }
    END {
        printf "%d suites in %s, %.0f CPU seconds\n", suites, build, cpu
        if (bad != "") print "failed:" bad
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0
    }'
