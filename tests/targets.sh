#!/bin/sh
# targets.sh BUILD [NAME...] - the one header on every target: built without a warning by its cross compiler, run (under
# an emulator where this machine cannot), and compared with the scalar set of the machine that builds: integer sums must
# be equal, margins of the tiny model the same (q8, to the bit) or near (f32), its order the same, documents of 4, 3 and 2 bits the same
# bytes. The first program, golden cases and kernel tests run there too, and the
# commands: what a target's kalm-quantize writes must be the same bytes. NAMEs are those of the first column of the list
# below, or "switches"; default: all. Leaves the table for docs/TARGETS.md in BUILD/targets/table.md and ends with "N passed, N failed".
#
# A target whose tools are missing is a failure: with KALM_TARGETS_OPTIONAL=1 it is named and left out.
build=$1
shift
dir=$build/targets
mkdir -p "$dir"
passed=0 failed=0
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wdouble-promotion -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror"
export WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml=' WINEPREFIX="${WINEPREFIX:-$PWD/$dir/wine}"
case $WINEPREFIX in /*) ;; *) WINEPREFIX=$PWD/$WINEPREFIX ;; esac

# name | what to call it | compiler and its flags | what runs the programs. One binary serves all lines of a compiler.
list() {
    cat <<'END'
x86-64|x86-64|gcc|
i386|i386 with SSE2|i686-linux-gnu-gcc -msse2 -mfpmath=sse|
i386-x87|i386, x87 floats|i686-linux-gnu-gcc|
aarch64|AArch64, all extensions|aarch64-linux-gnu-gcc|qemu-aarch64-static -cpu max
aarch64-a72|AArch64, Cortex-A72 (Raspberry Pi 4)|aarch64-linux-gnu-gcc|qemu-aarch64-static -cpu cortex-a72
armv7-neon|ARMv7 with NEON|arm-linux-gnueabihf-gcc -mfpu=neon|qemu-arm-static -cpu cortex-a15
armv7|ARMv7 without NEON|arm-linux-gnueabihf-gcc -mfpu=vfpv3-d16|qemu-arm-static -cpu cortex-a9
riscv64|RISC-V 64|riscv64-linux-gnu-gcc|qemu-riscv64-static
riscv64-v128|RISC-V 64 with vectors of 128 bits|clang-16 --target=riscv64-linux-gnu -march=rv64gcv|qemu-riscv64-static -cpu rv64,v=true,vext_spec=v1.0,vlen=128
riscv64-v512|RISC-V 64 with vectors of 512 bits|clang-16 --target=riscv64-linux-gnu -march=rv64gcv|qemu-riscv64-static -cpu rv64,v=true,vext_spec=v1.0,vlen=512
s390x|s390x, big-endian|s390x-linux-gnu-gcc -fexcess-precision=fast|qemu-s390x-static
windows|Windows, x86-64|x86_64-w64-mingw32-gcc -D__USE_MINGW_ANSI_STDIO=1|wine
END
}

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $name: $*"; }
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then ok; else bad "$what: $*"; head -n 20 "$dir/log"; return 1; fi
}
# on FILE PROGRAM ARG...: runs PROGRAM on the target within $seconds and leaves what it prints in FILE, without carriage
# returns. Into a file first, never through a pipe: wine's servers inherit the pipe and may keep it open for as long as they like.
# $folder is where it works.
seconds=600 folder=.
on() {
    into=$1
    shift
    (cd "$folder" && exec timeout -k 10 "$seconds" $run "$@") > "$into.raw" 2> "$dir/errors"
    status=$?
    [ $status -ne 124 ] && [ $status -ne 137 ] || bad "no end within $seconds s: $*"
    tr -d '\r' < "$into.raw" > "$into"
    rm -f "$into.raw"
    return $status
}

# Wine sets up a folder when it is first used; servers that do not get ready then are ended, and it begins again.
wine_ready() {
    for attempt in 1 2 3; do
        timeout -k 10 120 wine wineboot -i > "$dir/wineboot" 2>&1 < /dev/null && return
        echo "wine was not ready within 120 s (attempt $attempt)"
        timeout 20 wineserver -k
    done
}

# What the others are compared with: the scalar set here, float operations one by one.
reference() {
    name=reference
    expect "the commands" ${MAKE:-make} -s B="$build" SHARE=yes "$build/kalm-quantize" "$build/kalm-rerank" "$build/first" || return 1
    for w in f32 q8; do
        expect "tiny model, $w" "$build/kalm-quantize" examples/tiny "$dir/$w.kalm" --weights $w || return 1
    done
    expect "tiny model, plain" "$build/kalm-quantize" examples/tiny "$dir/plain.kalm" --weights q8 --no-rows || return 1
    expect build ${CC:-cc} -std=c99 -O2 $warn -I"$build/parts" tests/targets.c "$build/library.o" -o "$dir/reference" -lm -lpthread || return 1
    "$dir/reference" sums > "$dir/reference.sums"
    for w in f32 q8; do "$dir/reference" rank "$dir/$w.kalm" tests/targets.tsv scalar > "$dir/reference.$w" || return 1; done
    "$dir/reference" rows "$dir/q8.kalm" tests/targets.tsv scalar > "$dir/reference.rows" || return 1
    grep scalar "$dir/reference.sums" > "$dir/reference.scalar"
    "$build/first" "$dir/q8.kalm" > "$dir/reference.first" || return 1
    # the first program beside a library that is compiled apart
    sed '/define KALM_RERANK_IMPLEMENTATION/d' examples/first.c > "$dir/first.c" || return 1
    # for a target that takes half a minute for a query
    head -n 2 tests/targets.tsv > "$dir/few.tsv"
    awk '$3 < 2' "$dir/reference.f32" > "$dir/reference.few"
}

# compare FILE WEIGHTS: prints the largest difference of a margin; fails on another order of any query's documents
compare() {
    awk '
    NR == FNR { want[$3, $4] = $5; n[$3]++; next }
    { got[$2, $3, $4] = $5; seen[$2, $3]++; sets[$2] = 1; queries[$3] = 1; d = $5 - want[$3, $4]; if (d < 0) d = -d; if (d > most) most = d }
    END {
        for (q in n) if (!(q in queries)) bad++          # the best set ranks them all
        for (s in sets) for (q in n) {
            if (!((s, q) in seen)) continue
            if (seen[s, q] != n[q]) bad++
            for (i = 0; i < n[q]; i++) for (k = 0; k < n[q]; k++)
                if (want[q, i] > want[q, k] && !(got[s, q, i] > got[s, q, k])) bad++
        }
        printf "%.1e\n", most
        exit bad > 0
    }' "$dir/reference.$2" "$1"
}

# The three switches that remove code, in all eight combinations: the same ranking from a model in memory.
all_switches() {
    name=switches
    for stdio in "" -DKALM_NO_STDIO; do for threads in "" -DKALM_NO_THREADS; do for simd in "" -DKALM_NO_SIMD; do
        expect "build $stdio $threads $simd" ${CC:-cc} -std=c99 -O1 $warn $stdio $threads $simd -I. tests/targets.c -o "$dir/switches" \
            -lm $([ -n "$threads" ] || echo -lpthread) || continue
        "$dir/switches" rank "$dir/f32.kalm" tests/targets.tsv > "$dir/switches.f32"
        if most=$(compare "$dir/switches.f32" f32) && awk -v m="$most" 'BEGIN { exit !(m + 0 <= 1e-3) }'; then ok; else bad "ranking with $stdio $threads $simd"; fi
    done; done; done
    echo "switches: all eight combinations"
}

one_target() {
    name=$1 title=$2 cc=$3 run=$4
    exe=; lib="-lm -lpthread"; static=-static
    case $cc in *mingw*) exe=.exe lib= ;; gcc) static= cc=${CC:-gcc} ;; esac
    for tool in ${cc%% *} ${run%% *}; do
        command -v "$tool" > /dev/null 2>&1 && continue
        if [ -n "$KALM_TARGETS_OPTIONAL" ]; then echo "left out: $name ($tool is not installed)"; else bad "$tool is not installed"; fi
        return
    done
    bin=$dir/$(echo "$cc" | tr -c 'a-z0-9A-Z_\n' '-')
    started=$(date +%s)
    if [ ! -e "$bin.done" ] || [ -n "$(find src tokenizer quantize examples/kalm_rerank.c examples/first.c src/tools tests/golden.c tests/targets.c tests/test_*.c -newer "$bin.done" -print 2> /dev/null | head -n 1)" ]; then
        rm -f "$bin.done"
        flags="$static -std=c99 -O2 $warn"
        # With RISC-V's vectors the compiler may make none by itself: qemu 7.2 dies of some (decode_save_opc); the kernels are
        # intrinsics. The switches stand behind -O2, which turns the vectorizer of clang 16 on again.
        case $run in *,v=true*) flags="$flags -fno-vectorize -fno-slp-vectorize" ;; esac
        # The library twice: as a user compiles it, for the first program, and with its private functions for the linker to see, for all
        # the others, which read a header without the functions' bodies (as in the Makefile).
        expect "library" $cc $flags -I. -DKALM_RERANK_IMPLEMENTATION -x c -c kalm_rerank.h -o "$bin-library.o" || return
        expect "first.c" $cc $flags -I. "$dir/first.c" "$bin-library.o" -o "$bin-first$exe" $lib || return
        flags="$flags -I$build/parts"
        shared="$flags -D_FILE_OFFSET_BITS=64 -DKALM__EVEX_VNNI -Wno-missing-prototypes -ffp-contract=off
            -DKALM__FN=extern -DKALM_RERANK_IMPLEMENTATION -x c -c src/kalm_rerank_in.h"
        expect "shared library" $cc $shared -o "$bin-shared.o" || return
        # MinGW's fmaf rounds twice; what the kernel tests compare needs the instruction
        fma= tested=$bin-shared.o
        [ -z "$exe" ] || fma=-mfma tested=$bin-fma.o
        [ -z "$fma" ] || expect "shared library with fma" $cc $shared $fma -o "$tested" || return
        expect "targets.c" $cc $flags tests/targets.c "$bin-shared.o" -o "$bin-targets$exe" $lib || return
        flags="$flags -DTEST_BUILD=\"$build\""
        for test in $tests; do expect "$test.c" $cc $flags $fma tests/$test.c "$tested" -o "$bin-$test$exe" $lib || return; done
        expect "golden.c" $cc $flags tests/golden.c "$bin-shared.o" -o "$bin-golden$exe" $lib || return
        expect "kalm-rerank" $cc $flags examples/kalm_rerank.c "$bin-shared.o" -o "$bin-kalm-rerank$exe" $lib || return
        expect "kalm-quantize" $cc $flags quantize/kalm_quantize.c "$bin-shared.o" -o "$bin-kalm-quantize$exe" $lib || return
        touch "$bin.done"
    fi
    out=$dir/$name
    [ "$run" != wine ] || wine_ready
    on "$out.info" "$bin-targets$exe" info
    info=$(cat "$out.info")
    case $info in info*) ok ;; *) bad "does not run"; return ;; esac
    sets=$(echo "$info" | cut -d' ' -f4- | sed 's/ /, /g')
    kib=$(size "$bin-library.o" 2> /dev/null | awk 'NR == 2 { print int(($1 + 1023) / 1024) }')
    sizes=${cc%%-gcc*}-size            # of a compiler for many targets that of the target's tools
    case $cc in *--target=*) sizes=${cc#*--target=} sizes=${sizes%% *}-size ;; esac
    [ -n "$kib" ] || kib=$("$sizes" "$bin-library.o" | awk 'NR == 2 { print int(($1 + 1023) / 1024) }')

    # integer sums: the same on every set of every target
    on "$out.sums" "$bin-targets$exe" sums
    if [ -s "$out.sums" ] && awk 'NR == FNR { want[$3] = $4; next } $4 != want[$3] { bad = 1 } END { exit bad }' "$dir/reference.scalar" "$out.sums"
    then ok; sums=equal; else bad "integer sums"; sums=DIFFERENT; cat "$out.sums"; fi

    # every kernel set of the target against its scalar set, to the bit; kernels read the file's bytes in place, so a
    # big-endian machine has nothing to test here
    for test in $tests; do
        case $info in *" big "*) ok; continue ;; esac
        folder=$dir
        on "$out.$test" "$(case $bin in /*) ;; *) printf '%s/' "$PWD" ;; esac)$bin-$test$exe"
        folder=.
        log=$(tail -n 1 "$out.$test")
        case $log in *", 0 failed") ok ;; *) bad "$test: $log" ;; esac
    done

    case $info in
    *" big "*)
        if on "$out.refused" "$bin-targets$exe" refuse "$dir/q8.kalm" && [ -s "$out.refused" ]; then ok; echo "$name: $(cat "$out.refused")"; else bad "the model is not refused"; fi
        row="refuses the model file | | | |"
        ;;
    *)
        on "$out.first" "$bin-first$exe" "$dir/q8.kalm"
        if cmp -s "$out.first" "$dir/reference.first"; then ok; else bad "the first program"; cat "$out.first"; fi
        margins=
        for w in f32 q8; do
            queries=tests/targets.tsv like=$w
            # qemu adds floats ten times slower with vectors of 128 bits than with those of 512 (its own code mixes AVX and SSE then);
            # the programs are the same, and 512 has all the queries
            [ "$name $w" != "riscv64-v128 f32" ] || queries=$dir/few.tsv like=few
            on "$out.$w" "$bin-targets$exe" rank "$dir/$w.kalm" "$queries"
            if most=$(compare "$out.$w" $like); then ok; else bad "$w: another order"; fi
            limit=1e-3                 # products of float weights are fused with their sums where the target can
            [ $w = f32 ] || limit=0    # quantised ones give the same bits on every target
            if awk -v m="$most" -v l="$limit" 'BEGIN { exit !(m != "" && m + 0 <= l + 0) }'; then ok; else bad "$w: a margin differs by $most"; fi
            margins="$margins $most |"
        done
        # documents of 4, 3 and 2 bits: the same bytes and margins on every set
        on "$out.rows" "$bin-targets$exe" rows "$dir/q8.kalm" tests/targets.tsv
        if awk 'NR == FNR { want[$3, $4] = $5 " " $6; n++; next } want[$3, $4] != $5 " " $6 { bad = 1 } { seen[$2]++ }
                END { for (s in seen) { sets++; bad += seen[s] != n } exit bad || !n || !sets }' "$dir/reference.rows" "$out.rows"
        then ok; else bad "documents of few bits"; cat "$out.rows"; fi
        # golden cases: float32 and int8 on the best set; the converter that golden.c starts is this machine's where it can
        converter=$build/kalm-quantize
        [ -z "$exe" ] || converter=$bin-kalm-quantize.exe
        on "$out.golden" "$bin-golden$exe" -q "$converter" -k "${sets%%,*}" -w f32,q8 $golden
        log=$(tail -n 1 "$out.golden")
        golden_result=${log%% *}
        case $log in *" passed, 0 failed") ok ;; *) bad "golden: $log"; golden_result=FAILED ;; esac
        # the commands: the same model file, the same ranking as here
        # fitting rows of 4 to 2 bits takes minutes under an emulator: two targets show that it leaves the same bytes
        rows=--no-rows like=plain
        case $name in i386|aarch64) rows= like=q8 ;; esac
        expect "its kalm-quantize" on "$out.said" "$bin-kalm-quantize$exe" examples/tiny "$out.kalm" --weights q8 $rows &&
            case $name in
            i386-x87) expect "a whole model file" "$build/kalm-quantize" --verify "$out.kalm" ;;    # 80-bit floats round otherwise
            *) expect "the same bytes" cmp "$out.kalm" "$dir/$like.kalm" ;;
            esac
        rm -f "$out.kalm"
        ranks() { grep -o '"rank": [0-9]*, "index": [0-9]*'; }
        "$build/kalm-rerank" "$dir/f32.kalm" "retouch photos" "GIMP edits pictures" "vi is an editor" "chess game" --json | ranks > "$out.want"
        on "$out.said" "$bin-kalm-rerank$exe" "$dir/f32.kalm" "retouch photos" "GIMP edits pictures" "vi is an editor" "chess game" --json
        ranks < "$out.said" > "$out.got"
        if [ -s "$out.got" ]; then expect "its kalm-rerank" cmp "$out.want" "$out.got"; else bad "its kalm-rerank says nothing"; fi
        # a path and texts beyond ASCII
        cp "$dir/q8.kalm" "$dir/größe 你.kalm"
        on "$out.got" "$bin-kalm-rerank$exe" "$dir/größe 你.kalm" "Zürich 你好" "Grüße aus Zürich" "你好 😀" --json
        rm -f "$dir/größe 你.kalm"
        if grep -q '"text": "Grüße aus Zürich"' "$out.got" && grep -q '"text": "你好 😀"' "$out.got"; then ok; else bad "UTF-8 arguments"; fi
        row="same |$margins $golden_result |"
        ;;
    esac
    echo "| $title | $($cc -dumpversion | sed "s/\\..*//; s/^/$(case $cc in clang*) echo clang ;; *) echo gcc ;; esac) /; s/-win32//") | $sets | $kib KiB | $sums | $row" >> "$dir/table.md"
    echo "$name: $sets; $row $(($(date +%s) - started)) s"
}

golden=tests/golden/nested-f32 tests="test_kernels test_ops test_attention test_codecs"
mkdir -p "$build/tmp"
{
    echo "| target | compiler | kernel sets | library | integer sums | order | margins, f32 | margins, q8 | golden values |"
    echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
} > "$dir/table.md"
if reference; then
    case " $* " in "  "|*" switches "*) all_switches ;; esac
    list > "$dir/list"
    while IFS='|' read -r name title cc run; do
        case " $* " in "  ") ;; *" $name "*) ;; *) continue ;; esac
        one_target "$name" "$title" "$cc" "$run" < /dev/null
    done < "$dir/list"
fi
cat "$dir/table.md"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
