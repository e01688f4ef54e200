#!/bin/sh
# test_run.sh BUILD - the runner of the tests (run.sh, run_one.sh): what it counts, what it takes for a failure, and that two runs in
# one tree do not run the same suite at the same time.
build=$1
passed=0 failed=0
dir=$build/tmp/run.$$
mkdir -p "$dir/build/tmp" || exit 1
dir=$(cd "$dir" && pwd)
trap 'rm -rf "$dir"' EXIT
# suite NAME LINE...: a test that is a program
suite() {
    name=$dir/build/$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" > "$name"
    chmod +x "$name"
}
# shown WHAT PATTERN: the last run printed it
shown() {
    if grep -q "$2" "$dir/out"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; cat "$dir/out"; fi
}
run() { sh tests/run.sh "$dir/build" 2 "$@" > "$dir/out" 2>&1; }
suite good 'echo "7 passed, 0 failed"'
suite bad 'echo "a word about it"' 'echo "3 passed, 2 failed"' 'exit 1'
suite mute 'echo "7 passed"'
suite status 'echo "5 passed, 0 failed"' 'exit 3'
suite crashed 'echo "5 passed, 0 failed"' 'kill -SEGV $$'
run "$dir/build/good" && shown "a good run" '^7 passed, 0 failed$'
if run "$dir/build/good" "$dir/build/bad" "$dir/build/mute" "$dir/build/status" "$dir/build/crashed"; then failed=$((failed + 1)); echo "FAILED: a bad run ends well"; else passed=$((passed + 1)); fi
shown "the sum" '^15 passed, 5 failed$'
shown "which suites" '^failed: bad crashed mute status$'
shown "the words of a suite that fails" '^a word about it$'
shown "a suite without a count" '^mute .*ended without a count (status 0)$'
shown "a status that does not fit the count" '^status .*ended with status 3$'
shown "a suite that crashes" '^crashed .* 1 failed .*ended .*status 139)*$'
if command -v flock > /dev/null 2>&1; then
    suite alone "if ! mkdir '$dir/here'; then echo '0 passed, 1 failed'; exit 1; fi" 'sleep 0.4' "rmdir '$dir/here'" 'echo "1 passed, 0 failed"'
    sh tests/run.sh "$dir/build" 1 "$dir/build/alone" > "$dir/first" 2>&1 &
    first=$!
    sh tests/run.sh "$dir/build" 1 "$dir/build/alone" > "$dir/second" 2>&1
    second=$?
    wait $first
    first=$?
    cat "$dir/first" "$dir/second" > "$dir/out"
    if [ $first -eq 0 ] && [ $second -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: two runs at a time"; cat "$dir/out"; fi
    shown "the one that waits says so" '^alone: another run in .* has it; this one waits$'
fi
printf '%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ]
