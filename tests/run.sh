#!/bin/sh
# run.sh BUILD TEST... - run each test (a program, or a script that gets BUILD), show what it says, add up the closing
# lines "N passed, N failed". A test that ends without one, or with a status that does not fit, counts as one failure.
build=$1
shift
passed=0 failed=0 programs=0
log=$build/tmp/test.$$
for t in "$@"; do
    printf '== %s\n' "$t"
    started=$(date +%s)
    case $t in
    # commands keep what they read until they end; that the library gives everything back is the programs' business
    *.sh) ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} sh "$t" "$build" > "$log" 2>&1 ;;
    *) "$t" > "$log" 2>&1 ;;
    esac
    status=$?
    cat "$log"
    last=$(tail -n 1 "$log")
    case $last in
    *[0-9]" passed, "[0-9]*" failed") p=${last%% *} f=${last#*, } f=${f%% *} ;;
    *) p=0 f=1; echo "$t: ended without a count (status $status)" ;;
    esac
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; echo "$t: ended with status $status"; fi
    [ "$f" -eq 0 ] || bad="$bad $t"
    passed=$((passed + p)) failed=$((failed + f)) programs=$((programs + 1))
    seconds=$(($(date +%s) - started))
    [ "$seconds" -lt 5 ] || echo "   ($seconds s)"
done
rm -f "$log"
echo "== $programs test programs in $build"
[ -z "$bad" ] || echo "failed:$bad"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
