#!/bin/sh
# test_docs.sh BUILD - what the pages of docs/ promise: a reader written from docs/FORMAT.md alone reads model files and documents of every
# kind of row, and refuses damaged ones; commands that pages show do what they say; links, files, make targets and options are there.
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
# the figures of README's table of quality stand in the page that says how they were taken
for figure in 0.7789 0.7760 0.6889; do
    expect "README: $figure is explained" sh -c "grep -q '$figure' README.md && grep -q '$figure' docs/QUALITY.md"
done
# every speed of the pages comes from docs/speed, and what does not is found
speeds=$dir/speeds
mkdir -p "$speeds"
cp -R ./*.md docs examples "$speeds"
expect "speeds: the pages say what docs/speed has" python3 docs/speed/figures.py check "$speeds"
# spoilt FILE SED-SCRIPT WHAT IT SAYS: a page or file of figures changed
spoilt() {
    cp "$speeds/$1" "$dir/was"
    sed "$2" "$dir/was" > "$speeds/$1"
    refuse "speeds: $2 changes $1" cmp -s "$dir/was" "$speeds/$1"
    refuse "speeds: $1 with $2" python3 docs/speed/figures.py check "$speeds"
    cp "$dir/log" "$dir/said"
    expect "speeds: $1 with $2 says why" grep -q "$3" "$dir/said"
    cp "$dir/was" "$speeds/$1"
}
spoilt docs/SEARCH.md '$s/$/ It takes 12 ms./' 'docs/SEARCH.md:[0-9]*: a speed without a source (12 ms)'
spoilt README.md 's/^A query over 100 kept.* takes /&1/' 'README.md does not say what docs/speed has'
spoilt docs/speed/bench.json 's/\("encode_512_tokens", "threads": 1, "value": \)/\19/' 'docs/SPEED.md does not say'
spoilt docs/speed/bench.json 's/"encode_512_tokens"/"encode_513_tokens"/' 'bench.json has no figure encode_512_tokens/1'
spoilt docs/speed/load.json '/"commit"/d' 'load.json does not say its commit'
spoilt docs/speed/other.tsv 's/13.35 s/13.36 s/' "does not say 'encoded in 13.36 s'"
# the tables of ROWS.md are what docs/rows has
expect "rows: the page says what docs/rows has" python3 docs/rows/rows.py check "$speeds"
sed 's/"bits": 2, \(.*\)"mean": /"bits": 2, \1"mean": 1/' docs/rows/rows.json > "$speeds/docs/rows/rows.json"
refuse "rows: another figure" python3 docs/rows/rows.py check "$speeds"
cp docs/rows/rows.json "$speeds/docs/rows/rows.json"
sed '$s/$/ More./' docs/ROWS.md > "$speeds/docs/ROWS.md"
refuse "rows: another page" python3 docs/rows/rows.py check "$speeds"
# the tables of SCALING.md are what its script makes of the measured rates
sh examples/scaling/arithmetic.sh > "$dir/tables"
expect "SCALING.md: the arithmetic" sh -c "test -s '$dir/tables' && test \$(grep -cFxf '$dir/tables' docs/SCALING.md) -ge \$(grep -c . '$dir/tables')"
# Commands that pages show are run as they stand, in a folder that has what they name, or tests/doc_commands.tsv says which test
# runs the like: page, how the command begins, file, and what stands in it.
work=$dir/work
mkdir -p "$work/docs"
case $build in /*) ln -s "$build" "$work/build" ;; *) ln -s "$PWD/$build" "$work/build" ;; esac
ln -s "$PWD/examples" "$PWD/tests" "$work"
ln -s "$PWD/examples/tiny" "$work/KaLM-Reranker-V1-Nano"
cp "$build/tiny.kalm" "$work/tiny.kalm"
head -n 20 examples/tiny/eval/corpus.jsonl | tee "$work/corpus.jsonl" "$work/texts.jsonl" > "$work/packages.jsonl"
echo 'GNU Chess is a chess playing program.' > "$work/docs/chess.txt"
pages=$(ls README.md CONTRIBUTING.md SECURITY.md docs/*.md examples/*/README.md | grep -vE 'FORMAT|TOKENIZER|MAP')
${AWK:-awk} -f tests/doc_commands.awk $pages > "$dir/commands"
tab=$(printf '\t')
while IFS=$tab read -r page begins file text; do
    expect "tests/doc_commands.tsv: $page shows $begins" grep -qF -- "$page$tab$begins" "$dir/commands"
    expect "$page: $begins is tested by $file" grep -qF -- "$text" "$file"
    printf '%s\t%s\n' "$page" "$begins" >> "$dir/elsewhere"
done < tests/doc_commands.tsv
expect "pages show commands" test "$(wc -l < "$dir/commands")" -ge 30
while IFS=$tab read -r page command; do
    ${AWK:-awk} -v line="$page$tab$command" 'index(line, $0) == 1 { found = 1 } END { exit !found }' "$dir/elsewhere" && continue
    grep -qxF -- "$command" "$dir/ran" 2> /dev/null && continue
    echo "$command" >> "$dir/ran"
    tool=${command%% *}
    case $tool in build/*) [ -x "$work/$tool" ] || continue ;; esac
    expect "$page: $command" sh -c "cd '$work' && $command"
done < "$dir/commands"
# make targets, files and options of the commands that pages name are there
for target in $(grep -oh '`make [a-z0-9-]*' $pages | sed 's/`make //' | sort -u); do
    [ "$target" = build ] || expect "pages name: make $target" grep -qE "^([a-z0-9-]+ )*$target( [a-z0-9-]+)*:|^\\\$\\(B\\)/$target:" Makefile tests/nets.mk
done
for file in $(grep -ohE '`(tests|examples|src|docs|quantize|tokenizer|packaging|\.ci)/[A-Za-z0-9_./-]+' $pages | tr -d '`' | grep -v NAME | sort -u); do
    expect "pages name: $file" test -e "$file"
done
for tool in "$build"/kalm-*; do case $tool in *.d) ;; *) "$tool" --help 2> /dev/null ;; esac done | grep -oE -- '--[a-z0-9-]+' | sort -u > "$dir/known"
# (of pkg-config, vcpkg and examples/tiny/train.py)
printf '%s\n' --cflags --libs --overlay-ports --minutes --webpack >> "$dir/known"
if [ -x "$build/kalm-search" ] && [ -x "$build/kalm-server" ] && [ -x "$build/kalm-bench" ]; then
    for option in $(grep -oh '`[^`]*`' $pages | grep -E '^`--|kalm-' | grep -oE -- '(^|[^a-z-])--[a-z][a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+' | sort -u); do
        expect "pages name: $option" grep -qxF -- "$option" "$dir/known"
    done
fi
# what EVALUATION.md shows of --measure is what the command prints
if [ -x "$build/kalm-eval" ]; then
    "$build/kalm-eval" --measure tests/eval/graded.qrels tests/eval/graded.run -m ndcg_cut.5,10 -m map > "$dir/measured" 2> /dev/null
    expect "EVALUATION.md: figures of --measure" sh -c "test -s '$dir/measured' && test \$(grep -cFxf '$dir/measured' docs/EVALUATION.md) -eq \$(wc -l < '$dir/measured')"
fi
for page in README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md docs/*.md examples/*/README.md; do
    [ -f "$page" ] || continue
    for link in $(grep -o '](\([^)#: ]*\)[)#]' "$page" | sed 's/^](//; s/[)#]$//' | sort -u); do
        expect "$page: link to $link" test -e "$(dirname "$page")/$link"
    done
done
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
