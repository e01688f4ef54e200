#!/bin/sh
# static.sh BUILD [TOOL...] - the whole source read by four programs that look for faults: gcc -fanalyzer, clang --analyze, clang-tidy
# (.clang-tidy says which checks) and cppcheck. A finding is a failure unless tests/static.tsv has it with a reason:
#     tool TAB file TAB check TAB words of the source line TAB reason
# A line there that no finding needs is named too. Tools: gcc analyze tidy cppcheck; default: all that are installed.
build=$1
shift
[ $# -gt 0 ] || set -- gcc analyze tidy cppcheck
dir=$build/tmp/static.$$
mkdir -p "$dir"
# every source that is compiled into a command; the header is in each
sources='examples/kalm_rerank.c examples/index/kalm_index.c examples/search/kalm_search.c examples/server/kalm_server.c examples/eval/kalm_eval.c quantize/kalm_quantize.c quantize/random_checkpoint.c tokenizer/tokenize.c'
defines="-Isrc/parts $(pkg-config --exists sqlite3 2> /dev/null && echo -DHAVE_SQLITE3) $(pkg-config --exists libxml-2.0 2> /dev/null && echo -DHAVE_LIBXML2 && pkg-config --cflags libxml-2.0) $(pkg-config --exists gmime-3.0 2> /dev/null && echo -DHAVE_GMIME && pkg-config --cflags gmime-3.0)"
flags="-std=c99 $defines"
failed=0 passed=0

# findings of one tool as "file:line<TAB>check<TAB>message", each once
findings() {
    case $1 in
    # one pass over the header and the converter is enough: the analyser takes minutes
    gcc) for s in quantize/kalm_quantize.c examples/index/kalm_index.c; do ${GCC:-gcc} $flags -O1 -fanalyzer -c "$s" -o "$dir/a.o" 2>&1; done |
        sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: warning: \(.*\) \[.*-Wanalyzer-\([a-z-]*\).*\]$/\1\t\3\t\2/p' ;;
    analyze) for s in $sources; do ${CLANG:-clang} --analyze $flags -Xclang -analyzer-output=text "$s" -o "$dir/a.plist" 2>&1; done |
        sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: warning: \(.*\) \[\([a-zA-Z0-9.]*\)\]$/\1\t\3\t\2/p' ;;
    tidy) for s in $sources; do ${CLANG_TIDY:-clang-tidy} --quiet "$s" -- $flags 2> /dev/null; done |
        sed -n 's/^\([^ ]*:[0-9]*\):[0-9]*: warning: \(.*\) \[\([a-z0-9.,-]*\)\]$/\1\t\3\t\2/p' ;;
    cppcheck) for s in $sources; do cppcheck --quiet --enable=warning,portability --std=c99 $(printf "%s " $defines | sed "s|-pthread||g") --max-configs=1 --suppress=missingIncludeSystem \
        --template='{file}:{line}	{id}	{message}' "$s" 2>&1; done | sed 's/^cppcheck: error/cppcheck:0\terror\t&/' | grep '	' ;;
    esac | while IFS='	' read -r place check message; do
        file=${place%:*} line=${place##*:}
        path=$(realpath --relative-to=. "$file" 2> /dev/null || echo "$file")
        printf '%s\t%s\t%s\t%s\t%s\n' "$path" "$line" "$check" "$message" "$(sed -n "${line}p" "$path" 2> /dev/null | tr '\t' ' ')"
    done | sort -u
}

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
    new=$(grep -c '^[^ ]' "$dir/new")
    cat "$dir/new"
    echo "$tool: $(wc -l < "$dir/$tool") findings, $new of them without a reason"
    if [ "$new" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    awk -F '\t' -v tool="$tool" 'FNR == NR { seen[$0] = 1; next } $0 !~ /^#/ && NF >= 5 && $1 == tool && !(($1 "\t" $2 "\t" $3 "\t" $4) in seen) {
        print "tests/static.tsv: no finding needs " $1 " " $2 " " $3 " any more" }' "$dir/used" tests/static.tsv
done
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
