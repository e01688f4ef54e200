#!/bin/sh
# coverage.sh BUILD - what the tests that ran in BUILD (make config=coverage test) reached of src, tokenizer and quantize: lines and
# branches of each file, and the lines that none reached. Needs gcovr. What cannot be reached stands in tests/coverage.txt, with reasons;
# below 98% of the lines or 90% of the branches that are not there the script fails.
build=$1
command -v gcovr > /dev/null || { echo 'coverage.sh: gcovr is not installed'; exit 1; }
# kernels of other machines are compiled out here; tests/targets.sh runs them under emulators
gcovr --root . --object-directory "$build" --filter 'src/' --filter 'tokenizer/' --filter 'quantize/' --exclude 'src/kernels_(neon|wasm).*' \
    --exclude-unreachable-branches --exclude-throw-branches --gcov-ignore-parse-errors \
    --exclude-lines-by-pattern '.*KALM_ASSERT.*' --print-summary --txt "$build/coverage.txt" --json-summary "$build/coverage.json" "$build" > "$build/coverage.log" 2>&1 ||
    { tail -n 5 "$build/coverage.log"; exit 1; }
cat "$build/coverage.txt"
grep -E '^(lines|branches)' "$build/coverage.log"
awk '/^lines:/ { l = $2 + 0 } /^branches:/ { b = $2 + 0 } END { exit !(l >= 98 && b >= 90) }' "$build/coverage.log"
