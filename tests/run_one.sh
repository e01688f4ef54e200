#!/bin/sh
# run_one.sh BUILD RESULTS TEST - run one test (a program, or a script that gets BUILD) for run.sh. The test's last line must be
# "N passed, N failed"; one that ends without it, or with a status that does not fit, counts as one failure.
build=$1 results=$2 t=$3
name=${t##*/}
log=$results/$name.log
# A report of ThreadSanitizer in any process of the test, also in one whose output or status nobody looks at, is a failure.
export TSAN_OPTIONS="log_path=$results/$name.tsan${TSAN_OPTIONS:+ $TSAN_OPTIONS}"
# Suites keep files under fixed names in BUILD/tmp: a second run in the same tree waits for the first one's run of the same suite.
# Where there is no flock, nothing waits. What a suite starts does not inherit the lock.
exec 9> "$build/tmp/$name.lock"
if command -v flock > /dev/null 2>&1 && ! flock -n 9; then
    echo "$name: another run in $build has it; this one waits"
    flock 9
fi
case $t in
# commands keep what they read until they end; that the library gives everything back is for the programs to test
*.sh) ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS} sh "$t" "$build" > "$log" 2>&1 < /dev/null 9>&- ;;
*) "$t" > "$log" 2>&1 < /dev/null 9>&- ;;
esac
status=$?
cat "$log".tsan.* >> "$log" 2> /dev/null && echo '0 passed, 1 failed' >> "$log"
# the second line of `times`: user and system time of the children that have ended
times > "$log.times"
cpu=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += t[1] * 60 + t[2] } printf "%.1f", sum }' "$log.times")
why=
last=$(tail -n 1 "$log")
case $last in
*[0-9]" passed, "[0-9]*" failed") passed=${last%% *} failed=${last#*, } failed=${failed%% *} ;;
*) passed=0 failed=1 why="ended without a count (status $status)" ;;
esac
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1 why="ended with status $status"; fi
printf '%s %s %s %s\n' "$passed" "$failed" "${cpu:-0}" "$name" > "$results/$name.count"
{
    if [ "$failed" -ne 0 ] || [ -n "${V:-}" ]; then cat "$log"; fi
    printf '%-22s %7s passed, %s failed %8s s%s\n' "$name" "$passed" "$failed" "${cpu:-0}" "${why:+   $why}"
} > "$log.shown"
cat "$log.shown"
