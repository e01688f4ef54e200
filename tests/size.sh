#!/bin/sh
# size.sh BUILD - what the header costs: its bytes, the CPU seconds that compiling the first program takes (cc -O2), the bytes of
# code and constants in the object, and the parts that source and object come from. A table; no judge.
build=${1:-build}
dir=$build/tmp/size.$$
AWK=${AWK:-awk}
cc=${CC:-cc}
mkdir -p "$dir"
printf '#define KALM_RERANK_IMPLEMENTATION\n#include "kalm_rerank.h"\n' > "$dir/unit.c"

# the seconds of user and system time that a command takes
seconds() {
    ("$@"; times) | $AWK '
    function of(time,    m) { split(time, m, /[ms]/); return 60 * m[1] + m[2] }
    END { printf "%.1f\n", of($1) + of($2) }'
}
compile=$(seconds "$cc" -O2 -I. -c examples/first.c -o "$dir/first.o")
plain=$(seconds "$cc" -O2 -I. -DKALM_NO_SIMD -c examples/first.c -o "$dir/plain.o")
"$cc" -O2 -g -I. -c "$dir/unit.c" -o "$dir/unit.o" || exit 1

# symbols with their sizes and the lines that they come from
nm -S -l "$dir/unit.o" | $AWK '
    $3 ~ /^[tTrRdD]$/ && match($0, /kalm_rerank\.h:[0-9]+$/) { print substr($0, RSTART + 14), $2, $3 }' > "$dir/symbols"
$AWK -v compile="$compile" -v plain="$plain" '
    function hex(text,    i, n) {
        for (i = 1; i <= length(text); i++) n = 16 * n + index("0123456789abcdef", substr(text, i, 1)) - 1
        return n
    }
    FNR == NR {
        if (/^\/\* ---- begin /) { part = $4; order[++parts] = part }
        if (/^\/\* ---- more of /) part = $5
        if (part == "") { part = "kalm_rerank_in.h"; order[++parts] = part }
        of[FNR] = part
        source[part] += length($0) + 1
        all += length($0) + 1
        next
    }
    {
        part = of[$1]
        if ($3 ~ /[tT]/) code[part] += hex($2)
        else constants[part] += hex($2)
        seen[part] = 1
    }
    END {
        printf "%9s %8s %10s  %s\n", "source", "code", "constants", "part"
        for (i = 1; i <= parts; i++) {
            part = order[i]
            if (printed[part]++) continue
            printf "%9d %8d %10d  %s\n", source[part], code[part], constants[part], part
            codes += code[part]
            consts += constants[part]
        }
        printf "%9d %8d %10d  in all\n", all, codes, consts
        printf "compiling examples/first.c with -O2: %s CPU seconds; with KALM_NO_SIMD %s\n", compile, plain
    }' kalm_rerank.h "$dir/symbols"
rm -rf "$dir"
