#!/bin/bash
# cover.sh [FILES [TARGET...]] - what the fuzz targets reach: runs each of them once over its seeds and what was found so far, with a program
# that counts (make fuzz-cover), and prints how many lines and branches of FILES (default: all) were reached by any of them; of FILES that
# are named also the lines that were not. Needs llvm-profdata and llvm-cov (Debian: llvm).
#   FUZZER=build/fuzz/cover/fuzz  CORPUS=build/fuzz/corpus  SEEDS=tests/fuzz/seeds
set -u
files=${1:-}
[ $# -gt 0 ] && shift
fuzzer=${FUZZER:-build/fuzz/cover/fuzz} corpus=${CORPUS:-build/fuzz/corpus} seeds=${SEEDS:-tests/fuzz/seeds}
out=$(dirname "$fuzzer")/profiles
mkdir -p "$out"
KALM_FUZZ_FOLDER=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" kalm-fuzz.XXXXXX) || exit 1
export KALM_FUZZ_FOLDER
trap 'rm -rf "$KALM_FUZZ_FOLDER"' EXIT
export LLVM_PROFILE_FILE=/dev/null     # of the calls that run no input
"$fuzzer" --seeds "$corpus/seeds" || exit 1
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $("$fuzzer" --list)
fi
for target; do
    given=("$KALM_FUZZ_FOLDER/found.$target")          # where it would write: not into what was found
    mkdir -p "${given[0]}"
    for folder in "$corpus/$target" "$corpus/seeds/$target" "$seeds/$target"; do [ -d "$folder" ] && given+=("$folder"); done
    LLVM_PROFILE_FILE=$out/$target.profraw KALM_FUZZ=$target "$fuzzer" -runs=1 -print_funcs=0 -artifact_prefix="$out/$target-" "${given[@]}" > "$out/$target.log" 2>&1 ||
        { echo "$target ended with status $?:"; tail -n 20 "$out/$target.log"; }
done
profiles=("${@/%/.profraw}")
llvm-profdata merge -sparse "${profiles[@]/#/$out/}" -o "$out/all.profdata" || exit 1
# shellcheck disable=SC2086
llvm-cov report "$fuzzer" -instr-profile="$out/all.profdata" $files 2> /dev/null
[ -n "$files" ] || exit 0
# a line with code: number | how often | text
# shellcheck disable=SC2086
llvm-cov show "$fuzzer" -instr-profile="$out/all.profdata" $files 2> /dev/null |
    awk -F '|' '/^\// { print } NF > 2 && $2 ~ /^ *0$/ { printf "%6d  %s\n", $1, substr($0, length($1) + length($2) + 3) }'
