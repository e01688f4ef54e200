#!/bin/sh
# arm_loops.sh BUILD - what the inner loops of the 64-bit ARM kernels are made of, counted from compiled code, since no such
# processor is at hand to time them: of the vector instructions other than loads, how many multiply and accumulate, and of all
# instructions. A loop is the run of code between a backward branch and where it goes; of a function's the one with most
# multiply-accumulates counts. In every loop of dotprod and i8mm it must be 90% of the vector instructions. Ends with
# "N passed, N failed".
build=$1
dir=$build/targets
mkdir -p "$dir"
passed=0 failed=0
printf '#define KALM_RERANK_IMPLEMENTATION\n#include "kalm_rerank.h"\n' > "$dir/arm_loops.c"
for cc in 'aarch64-linux-gnu-gcc' 'clang --target=aarch64-linux-gnu'; do
    if ! $cc -O2 -I. -c "$dir/arm_loops.c" -o "$dir/arm_loops.o"; then
        failed=$((failed + 8))
        continue
    fi
    printf '%s\n%-26s %6s %6s %6s %6s  %s\n' "$cc" 'inner loop' all loads vector mul-acc 'of vector, of all'
    aarch64-linux-gnu-objdump -d --no-show-raw-insn "$dir/arm_loops.o" | awk '
        function tell(    i, j, all, load, vec, mac, best, line) {
            best = 0
            for (i = 1; i <= n; i++) {
                if (op[i] !~ /^(b\.|cbn?z|tbn?z)/ || to[i] == "" || !(to[i] in at) || at[to[i]] > i) continue
                all = load = vec = mac = 0
                for (j = at[to[i]]; j <= i; j++) {
                    all++
                    if (op[j] ~ /^(ld|st|prfm)/) load += op[j] ~ /^ld/
                    else if (arg[j] ~ /(^|[ ,{])[vqsdh][0-9]+/) {
                        vec++
                        mac += op[j] ~ /^(sdot|smmla|smull2?|smlal2?|sadalp|fmla)$/
                    }
                }
                if (mac > best) {
                    best = mac
                    line = sprintf("%-26s %6d %6d %6d %6d  %5.1f%%  %5.1f%%", name, all, load, vec, mac, 100 * mac / vec, 100 * mac / all)
                }
            }
            if (best) print line
        }
        /^[0-9a-f]+ <.*>:$/ {
            if (wanted) tell()
            name = $2; gsub(/[<>:]/, "", name); sub(/\.(constprop|isra|part).*/, "", name)
            wanted = name ~ /^kalm__(q8|int16|f32)_[0-9]x1_(dot|i8mm|neon)$/
            n = 0
            split("", at)
            next
        }
        wanted && /^ +[0-9a-f]+:/ {
            n++
            key = $1; sub(/:/, "", key)
            at[key] = n
            op[n] = $2
            arg[n] = $0; sub(/^ +[0-9a-f]+:\t[^\t]*\t?/, "", arg[n])
            to[n] = ""
            if ($2 ~ /^(b\.|cb)/) to[n] = $2 ~ /^cb/ ? $4 : $3
        }
        END { if (wanted) tell() }' | tee "$dir/arm_loops.txt"
    good=$(awk '$1 ~ /_(dot|i8mm)$/ && $6 + 0 >= 90' "$dir/arm_loops.txt" | wc -l)
    passed=$((passed + good))
    failed=$((failed + 8 - good))      # sdot has tiles of 1 to 6 rows, smmla of 2 and 3 pairs
done
printf '%s passed, %s failed\n' $passed $failed
[ $failed -eq 0 ]
