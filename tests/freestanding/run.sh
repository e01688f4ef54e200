#!/bin/sh
# run.sh BUILD - the library without an operating system: examples/arena.c, unchanged, on an emulated Cortex-M7 board with
# 16 MiB of memory, newlib, no heap. First the library alone is compiled as freestanding C and what it leaves to the
# linker is listed: memory and string functions, mathematics, nothing else.
build=$1
dir=$build/targets
mkdir -p "$dir"
passed=0 failed=0
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wdouble-promotion -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror"
switches="-DKALM_NO_STDIO -DKALM_NO_THREADS -DKALM_MALLOC(n)=((void)(n),(void*)0) -DKALM_FREE(p)=((void)(p))"
m7="-mcpu=cortex-m7 -mthumb -mfloat-abi=hard -mfpu=fpv5-sp-d16"
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; head -n 20 "$dir/log"; fi
}
for cc in "${CC:-cc}" "arm-none-eabi-gcc $m7"; do
    command -v "${cc%% *}" > /dev/null 2>&1 || { [ -n "$KALM_TARGETS_OPTIONAL" ] || expect "$cc is installed" false; continue; }
    nm=nm
    case $cc in arm*) nm=arm-none-eabi-nm ;; esac
    expect "freestanding, ${cc%% *}" $cc -std=c99 -O2 -ffreestanding $warn $switches -DKALM_RERANK_IMPLEMENTATION -x c -c kalm_rerank.h -o "$dir/freestanding.o"
    # besides the C library: the compiler's own helpers, __aeabi_ and __gnu
    needs=$($nm -u "$dir/freestanding.o" | awk '{ print $NF }' | grep -v -E '^(__aeabi_|__gnu_|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail)' | sort | tr '\n' ' ')
    echo "${cc%% *}: leaves to the linker: $needs"
    case $cc in arm*) ;; *) continue ;; esac           # a system's compiler lets the library ask for the number of cores
    for name in $needs; do
        case $name in
        memchr|memcmp|memcpy|memmove|memset|strcmp|strlen|strncmp|cos|sin|pow|sqrt|expf|fabsf|floorf|fmaf|sqrtf|tanhf) ;;
        *) expect "no need of $name" false ;;
        esac
    done
done
if command -v arm-none-eabi-gcc > /dev/null 2>&1 && command -v qemu-system-arm > /dev/null 2>&1; then
    [ -s "$dir/q8.kalm" ] || "$build/kalm-quantize" examples/tiny "$dir/q8.kalm" --weights q8 > /dev/null 2>&1
    expect "the board's program" arm-none-eabi-gcc -std=c99 -O2 $m7 --specs=rdimon.specs $warn \
        "-DMODEL_BYTES=(6u << 20)" -I. examples/arena.c tests/freestanding/start.c -T tests/freestanding/mps2.ld -o "$dir/arena-m7.elf" -lm
    expect "the same program here" ${CC:-cc} -std=c99 -O2 $warn -I. examples/arena.c -o "$dir/arena" -lm
    "$dir/arena" "$dir/q8.kalm" "program to retouch photos" "GIMP edits pictures" "vi edits text" > "$dir/arena.want"
    timeout 300 qemu-system-arm -M mps2-an500 -display none -monitor none -serial none -kernel "$dir/arena-m7.elf" \
        -semihosting-config "enable=on,target=native,arg=arena,arg=$dir/q8.kalm,arg='program to retouch photos',arg='GIMP edits pictures',arg='vi edits text'" \
        > "$dir/arena.got" 2>&1 < /dev/null
    cat "$dir/arena.got"
    expect "the same ranking" sh -c "grep '^[0-9]* [01]\\.' '$dir/arena.want' > '$dir/want' && grep '^[0-9]* [01]\\.' '$dir/arena.got' | cmp - '$dir/want'"
elif [ -z "$KALM_TARGETS_OPTIONAL" ]; then
    expect "arm-none-eabi-gcc and qemu-system-arm are installed" false
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
