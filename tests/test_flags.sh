#!/bin/sh
# test_flags.sh BUILD [all] - the compiler's flags for floating point. Where the compiler tells of a flag that gives up promises the
# header is refused; and with KALM_ALLOW_FAST_MATH, or under flags of which no compiler tells, a q8 model gives every margin to the
# bit, on every kernel set. `all` builds with each flag by itself (gcc and clang, three minutes); else clang, or gcc
# where it is missing, with -ffast-math, which is all of them together.
build=$1
dir=$build/tmp/flags.$$
mkdir -p "$dir"
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }

# The compiler ends at its first error, which must be the refusal: nothing is read beyond it.
refused() {
    if echo '#include "kalm_rerank.h"' | "$@" -Wfatal-errors -DKALM_RERANK_IMPLEMENTATION -I. -fsyntax-only -x c - > "$dir/log" 2>&1; then bad "not refused: $*"
    elif grep -q 'error.*\(kalm_rerank.h: compile without -f\|kalm__compile_without_fsingle\)' "$dir/log"; then ok
    else bad "refused in other words: $*"; head -n 3 "$dir/log"; fi
}

# What kalm-rerank, built as ever, says, on the best set, in the words of tests/targets.c.
${MAKE:-make} -s B="$build" "$build/kalm-rerank" "$build/tiny.kalm" > "$dir/log" 2>&1 || bad "$(cat "$dir/log")"
sets=$("$build/kalm-rerank" --version | sed -n 's/^kernels on this machine, best first: //p')
n=0
while IFS='	' read -r query documents; do
        printf '%s\n' "$documents" | tr '\t' '\n' |
        "$build/kalm-rerank" "$build/tiny.kalm" "$query" --max-doc-tokens 48 --json |
        sed -n "s/.*\"index\": \([0-9]*\),.*\"margin\": \([-0-9.e]*\),.*/margin $n \1 \2/p" | sort -k3n
    n=$((n + 1))
done < tests/targets.tsv > "$dir/want"
[ "$(wc -l < "$dir/want")" -ge 40 ] && ok || bad "hardly any margins"

same() {
    if ! "$@" -DKALM_ALLOW_FAST_MATH -std=c99 -I. tests/targets.c -o "$dir/ranks" -lm -lpthread > "$dir/log" 2>&1; then
        bad "$*"
        head -n 5 "$dir/log"
        return
    fi
    for set in $sets; do
        "$dir/ranks" rank "$build/tiny.kalm" tests/targets.tsv $set | sed "s/^margin $set /margin /" > "$dir/got"
        if cmp -s "$dir/want" "$dir/got"; then ok; else bad "$*: other margins on $set"; fi
    done
}

for cc in gcc clang; do
    command -v $cc > /dev/null 2>&1 || continue
    refused $cc -ffast-math
    refused $cc -Ofast
    refused $cc -ffinite-math-only
    if [ $cc = gcc ]; then             # clang says nothing of these
        refused $cc -funsafe-math-optimizations
        refused $cc -freciprocal-math
        refused $cc -fassociative-math -fno-signed-zeros -fno-trapping-math
        refused $cc -fsingle-precision-constant -DKALM_ALLOW_FAST_MATH
    fi
    # GCC with such flags gets this far by KALM_ALLOW_FAST_MATH alone
    if [ "$2" != all ]; then
        [ $cc = clang ] || command -v clang > /dev/null 2>&1 || same $cc -O1 -ffast-math
        [ $cc = gcc ] || same $cc -O1 -ffast-math
        continue
    fi
    same $cc -O2
    same $cc -O3 -march=native
    same $cc -O2 -ffp-contract=fast -mfma
    same $cc -O2 -funsafe-math-optimizations
    same $cc -O2 -fassociative-math -fno-signed-zeros -fno-trapping-math
    same $cc -O2 -freciprocal-math
    same $cc -O2 -ffinite-math-only
    same $cc -O2 -ffast-math
    [ $cc = clang ] || same $cc -O2 -ffast-math -mrecip
    [ $cc = gcc ] || same $cc -O2 -ffast-math -mrecip=all
    same $cc -Ofast -march=native
done

rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
