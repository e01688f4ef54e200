#!/bin/sh
# check_parts.sh FLAG... - every part compiles alone, and the spine and the header compile, with no warning.
status=0
n=0
for part in src/*.h src/tools/*.h tokenizer/*.h quantize/*.h; do
    [ -f "$part" ] || continue
    case $part in
    *_template.h|*/manual.h|*/license.h) continue ;;          # no C of their own
    esac
    for define in "" -DKALM_RERANK_IMPLEMENTATION; do
        case $define$part in -D*kalm_rerank_in.h|[!-]*) ;; *) continue ;; esac
        # A file that includes the part, so that "#pragma once in main file" and its like do not come up.
        printf '#include "%s"\n' "$PWD/$part" > "build/part.$$.c"
        "${CC:-cc}" -std=c99 -O1 -Isrc/parts "$@" -Werror $define -fsyntax-only "build/part.$$.c" || { echo "$part does not compile alone"; status=1; }
        n=$((n + 1))
    done
done
rm -f "build/part.$$.c"
[ $status -ne 0 ] || echo "parts: $n compile alone"
exit $status
