#!/bin/sh
# test_docs.sh BUILD - what the pages of docs/ promise: a reader written from docs/FORMAT.md alone reads model files and documents of every
# kind of row, and refuses damaged ones; links between the pages lead somewhere.
build=$1
passed=0 failed=0
dir=$build/tmp/docs.$$
mkdir -p "$dir"
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; tail -n 5 "$dir/log"; fi
}
refuse() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then failed=$((failed + 1)); echo "FAILED: $what"; else passed=$((passed + 1)); fi
}
reads() { python3 tests/read_format.py "$@"; }

expect "FORMAT.md: model" reads model "$build/tiny.kalm"
tensors=$(reads model "$build/tiny.kalm" | grep -c '^tensor ')
expect "FORMAT.md: as many tensors as kalm-quantize --info counts" test "$tensors" -eq \
    "$("$build/kalm-quantize" --info "$build/tiny.kalm" | awk '$1 ~ /^(matrices|embedding|vectors)$/ { n += $3 } END { print n }')"
head -c 100 "$build/tiny.kalm" | sed 's/K/L/' > "$dir/bad"
tail -c +101 "$build/tiny.kalm" >> "$dir/bad"
refuse "a damaged model" reads model "$dir/bad"
printf 'a\tGIMP edits pictures and retouches photos, and much more than that.\n' > "$dir/one.tsv"
for bits in 32 16 8; do
    if [ -x "$build/kalm-index" ] && command -v sqlite3 > /dev/null; then
        expect "a store" "$build/kalm-index" "$build/tiny.kalm" "$dir/$bits.db" "$dir/one.tsv" --bits $bits --ratio 3 --quiet
        sqlite3 "$dir/$bits.db" "SELECT writefile('$dir/doc', document) FROM documents LIMIT 1" > /dev/null 2> "$dir/log"
        expect "FORMAT.md: document of $bits bits" reads document "$dir/doc"
        reads document "$dir/doc" | sed 's/.* mean //' >> "$dir/means"
        printf 'X' | dd of="$dir/doc" bs=1 seek=70 conv=notrunc 2> /dev/null
        refuse "a damaged document" reads document "$dir/doc"
    fi
done
# the mean of all numbers is the same whatever the bits, but for rounding
[ ! -s "$dir/means" ] || expect "the same rows at 32, 16 and 8 bits" awk 'NR == 1 { m = $1 } { d = $1 - m; if (d < 0) d = -d; if (d > 0.002) bad = 1 } END { exit bad || NR != 3 }' "$dir/means"

# README: its program compiles with the command that it names, and the ranking that it shows is the one that the demo prints
sed -n '/^```c$/,/^```$/p' README.md | sed '1d;$d' > "$dir/program.c"
expect "README: the first program" sh -c "grep -q KALM_RERANK_IMPLEMENTATION '$dir/program.c' && ${CC:-cc} -std=c99 -Wall -Wextra -Werror -I. -fsyntax-only '$dir/program.c'"
sh examples/demo.sh "$build" > "$dir/demo" 2>&1
sed -n '/^rank   score/,/^```$/p' README.md | sed '$d' > "$dir/shown"
expect "README: the demo" sh -c "test -s '$dir/shown' && grep -qF \"\$(tail -n 1 '$dir/shown')\" '$dir/demo' && test \$(grep -cFxf '$dir/shown' '$dir/demo') -ge 6"
expect "README: under 150 lines" sh -c 'test "$(wc -l < README.md)" -lt 150'
# the figures of README stand in the pages that say how they were taken
for figure in 1620 970 818 777 '4\.9' '1\.5' 0.7789 0.7760 0.6889; do
    expect "README: $figure is explained" sh -c "grep -q '$figure' README.md && grep -q '$figure' docs/SPEED.md docs/QUALITY.md"
done
# the tables of SCALING.md are what its script makes of the measured rates
sh examples/scaling/arithmetic.sh > "$dir/tables"
expect "SCALING.md: the arithmetic" sh -c "test -s '$dir/tables' && test \$(grep -cFxf '$dir/tables' docs/SCALING.md) -ge \$(grep -c . '$dir/tables')"
for page in README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md docs/*.md examples/*/README.md; do
    [ -f "$page" ] || continue
    for link in $(grep -o '](\([^)#: ]*\)[)#]' "$page" | sed 's/^](//; s/[)#]$//' | sort -u); do
        expect "$page: link to $link" test -e "$(dirname "$page")/$link"
    done
done
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
