#!/bin/sh
# static.sh BUILD [TOOL...] - the whole source read by four programs that look for faults: gcc -fanalyzer, clang --analyze, clang-tidy
# (.clang-tidy says which checks) and cppcheck. A finding is a failure unless tests/static.tsv has it with a reason:
#     tool TAB file TAB check TAB words of the source line TAB reason
# A line there that no finding needs is named too. Tools: gcc analyze tidy cppcheck; default: all.
# Each source is read once: the library as a unit of its own, its private functions extern so that all of them are looked at, and the
# commands with a header that only declares them (BUILD/parts, as the commands are built). clang --analyze follows paths through the
# functions of a header only when it is told to; without that it would look at main and little else.
# UNITS='library examples/eval/kalm_eval.c': these alone. DEFINES: what the Makefile compiles the commands with.
# A finding that has no reason is a failure where the program's version is the one that the list was made with (its lines #version);
# with another version, whose checks are others, such findings are printed and do not fail. What keeps a tool from reading a unit fails always.
# gcc -fanalyzer follows paths through all calls and may not come to an end, so a unit has SECONDS_MOST of processor time and KILOBYTES_MOST
# of memory; one that takes more is named and fails. What makes it end: in commands calls are summed up (-fanalyzer-call-summaries) and
# three states of a place are looked at, not eight (kalm-search: 4 s, where it took over a minute and did not end); the library is read
# without its SIMD sets, whose unrolled tiles are the loops of plain C again. Summaries forget what a function wrote through a pointer, so
# that gcc takes results for uninitialised: that check is off for commands; clang --analyze has it, and valgrind in the tests.
build=$1
shift
[ $# -gt 0 ] || set -- cppcheck tidy analyze gcc
dir=$build/tmp/static.$$
mkdir -p "$dir"
commands='quantize/kalm_quantize.c quantize/random_checkpoint.c tokenizer/tokenize.c examples/kalm_rerank.c examples/eval/kalm_eval.c
    examples/index/kalm_index.c examples/search/kalm_search.c examples/server/kalm_server.c examples/sqlite/kalm_sqlite.c
    examples/first.c examples/arena.c'
units=${UNITS:-library $commands}
failed=0 passed=0
SECONDS_MOST=${SECONDS_MOST:-120} KILOBYTES_MOST=${KILOBYTES_MOST:-8000000}

# flags_of UNIT: how it is compiled; the file comes last. C headers of other libraries stand under -I or -isystem.
flags_of() {
    if [ "$1" = library ]; then
        utf8proc=
        case $DEFINES in *HAVE_UTF8PROC*) utf8proc=-DKALM_UTF8PROC ;; esac
        echo "-std=c99 -D_FILE_OFFSET_BITS=64 -DKALM__FN=extern -DKALM_RERANK_IMPLEMENTATION $utf8proc -x c src/kalm_rerank_in.h"
    else echo "-std=c99 -I$build/parts $DEFINES $1"
    fi
}

# What a tool says of a unit, in its own words. One that does not come to its end says so in a line that no reason matches.
read_unit() {
    tool=$1 unit=$2
    set -- $(flags_of "$unit")
    case $tool in
    gcc)
        how='-fanalyzer-call-summaries --param=analyzer-max-enodes-per-program-point=3 --param=analyzer-bb-explosion-factor=2
            -Wno-analyzer-use-of-uninitialized-value'
        [ "$unit" != library ] || how=-DKALM_NO_SIMD
        (ulimit -t "$SECONDS_MOST" && ulimit -v "$KILOBYTES_MOST" && exec ${GCC:-gcc} -O1 -fanalyzer $how "$@" -c -o "$dir/a.o") 2>&1 ;;
    analyze) ${CLANG:-clang} --analyze -Xclang -analyzer-opt-analyze-headers -Xclang -analyzer-output=text -o "$dir/a.plist" "$@" 2>&1 ;;
    tidy)
        for last; do :; done
        ${CLANG_TIDY:-clang-tidy} --quiet "$last" -- "$@" 2> /dev/null ;;
    cppcheck)
        # it knows no other options, and takes a path from the next word
        last=
        for word; do
            case $word in -D* | -I*) last="$last $word" ;; esac
        done
        while [ $# -gt 1 ]; do shift; done
        cppcheck --quiet --enable=warning,portability --std=c99 --language=c $last --max-configs=1 --suppress=missingIncludeSystem \
            --template='{file}:{line}	{id}	{message}' "$1" 2>&1 ;;
    esac || echo "$unit:0:0: error: $tool ended with status $?"
}

# findings of one tool as "path<TAB>line<TAB>check<TAB>message<TAB>source line", each once
findings() {
    for unit in $units; do
        read_unit "$1" "$unit"
    done > "$dir/said"
    {
        # what kept a tool from reading a unit counts as a finding
        sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: \(fatal \)\{0,1\}error: \(.*\)$/\1\terror\t\3/p; s/^cppcheck: error/cppcheck:0\terror\t&/p' "$dir/said"
        case $1 in
        gcc) sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: warning: \(.*\) \[.*-Wanalyzer-\([a-z-]*\).*\]$/\1\t\3\t\2/p' "$dir/said" ;;
        analyze | tidy) sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: warning: \(.*\) \[\([a-zA-Z0-9.,-]*\)\]$/\1\t\3\t\2/p' "$dir/said" ;;
        cppcheck) grep '	' "$dir/said" ;;
        esac
    } | grep -v '^/usr/' | sort -u | while IFS='	' read -r place check message; do
        file=${place%:*} line=${place##*:}
        path=$(realpath --relative-to=. "$file" 2> /dev/null || echo "$file")
        printf '%s\t%s\t%s\t%s\t%s\n' "$path" "$line" "$check" "$message" "$(sed -n "${line}p" "$path" 2> /dev/null | tr '\t' ' ')"
    done | sort -u
}

# The first two numbers of a program's version, and of the one that the list was made with.
version_of() { "$1" --version | sed -n 's/^[^0-9]*[^0-9.]\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p' | head -n 1; }
version_of_list() { sed -n "s/^#version	$1	//p" tests/static.tsv; }

: > "$dir/used"
for tool; do
    case $tool in gcc) program=${GCC:-gcc} ;; analyze) program=${CLANG:-clang} ;; tidy) program=${CLANG_TIDY:-clang-tidy} ;; *) program=cppcheck ;; esac
    command -v "$program" > /dev/null || { echo "$tool: $program is not installed"; failed=$((failed + 1)); continue; }
    findings "$tool" > "$dir/$tool"
    awk -F '\t' -v tool="$tool" -v used="$dir/used" '
        FNR == NR { if ($0 !~ /^#/ && NF >= 5 && $1 == tool) { n++; file[n] = $2; check[n] = $3; words[n] = $4 } next }
        {
            known = 0
            for (i = 1; i <= n; i++)
                if ($1 == file[i] && index($3, check[i]) && (words[i] == "*" || index($5, words[i]))) { known = 1; print tool "\t" file[i] "\t" check[i] "\t" words[i] >> used; break }
            if (!known) printf "%s:%s: %s [%s]\n    %s\n", $1, $2, $4, $3, $5
        }' tests/static.tsv "$dir/$tool" > "$dir/new"
    new=$(grep -c '^[^ ]' "$dir/new") unread=$(grep -c '^[^ ].* \[error\]$' "$dir/new")
    cat "$dir/new"
    # user and system time of the children so far
    times > "$dir/times"
    echo "$tool: $(wc -l < "$dir/$tool") findings, $new of them without a reason; processor time of all so far $(sed -n '2s/ .*//p' "$dir/times")"
    version=$(version_of "$program")
    if [ "$version" != "$(version_of_list "$tool")" ] && [ "$new" -gt 0 ]; then
        echo "$tool: this is version $version, the reasons are for $(version_of_list "$tool"): only units that could not be read count"
        new=$unread
    fi
    if [ "$new" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    [ -n "$UNITS" ] || awk -F '\t' -v tool="$tool" 'FNR == NR { seen[$0] = 1; next } $0 !~ /^#/ && NF >= 5 && $1 == tool && !(($1 "\t" $2 "\t" $3 "\t" $4) in seen) {
        print "tests/static.tsv: no finding needs " $1 " " $2 " " $3 " " $4 " any more" }' "$dir/used" tests/static.tsv
done
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
