#!/bin/sh
# run.sh BUILD NODE [NODE_ARM] - test_kernels and test_ops as WebAssembly, with SIMD and with relaxed SIMD, in node (21 or later;
# NODE_ARM: one for ARM, under qemu). Needs clang 16 with wasm-ld, wasi-libc and compiler-rt for wasm32. What relaxed SIMD leaves
# to the engine is tried in every form: as it is here, in both of V8's compilers; as those of other machines have it, from plain
# SIMD; and as something else than the sets take it for. Ends with "N passed, N failed".
set -u
build=$1/wasm node=$2 arm=${3:-}
clang=${RELAXED_CLANG:-clang-16}
here=$(dirname "$0")
libc=/usr/lib/wasm32-wasi
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wdouble-promotion -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror"
passed=0 failed=0
export NODE_NO_WARNINGS=1
mkdir -p "$build"

# Compiled, then linked by hand: the driver would hand the module to an installed wasm-opt, which may be too old for it.
program() {
    test=$1 name=$2
    shift 2
    runtime=$($clang --target=wasm32-wasi -print-libgcc-file-name)
    $clang --target=wasm32-wasi -std=c99 -O2 $warn -msimd128 "$@" -c "$here/../$test.c" -o "$build/$name.o" &&
        "${clang%clang*}wasm-ld${clang##*clang}" --stack-first -z stack-size=1048576 "$libc/crt1-command.o" "$build/$name.o" \
            -L"$libc" -lc -lm "$runtime" -o "$build/$name.wasm" && return
    failed=$((failed + 1))
    echo "FAILED: $name does not compile"
    return 1
}

# what to say, sets that must be there, command
expect() {
    what=$1 sets=$2
    shift 2
    if log=$("$@" 2>&1); then
        case $log in
        *"$sets"*) passed=$((passed + 1)); printf '%-50s %s\n' "$what" "$(echo "$log" | tail -n 1)"; return ;;
        esac
    fi
    failed=$((failed + 1))
    echo "FAILED: $what: $*"
    echo "$log" | tail -n 20
}
both() {
    what=$1 sets=$2 file=$3
    expect "$what" "$sets" "$node" --liftoff-only "$here/wasi.mjs" "$build/$file.wasm"
    expect "$what, optimised" "$sets" "$node" --no-liftoff "$here/wasi.mjs" "$build/$file.wasm"
}

for test in test_kernels test_ops; do
    program $test $test-simd && expect "$test, SIMD" " wasm" "$node" "$here/wasi.mjs" "$build/$test-simd.wasm"
    program $test $test-relaxed -mrelaxed-simd && both "$test, relaxed SIMD" " wasm" $test-relaxed
done
all="kernel sets: wasmdot wasmvnni8 wasmvnni wasmfma wasm scalar"
program test_kernels lies -mrelaxed-simd -DKALM__ALL_DOTS && both "test_kernels, not what the sets think" "$all" lies
program test_kernels signed -mrelaxed-simd -DKALM__ALL_DOTS -DKALM__SIGNED_DOT && both "test_kernels, as sdot" "$all" signed
program test_kernels unsigned -mrelaxed-simd -DKALM__ALL_DOTS -DKALM__UNSIGNED_DOT && both "test_kernels, as vpdpbusd" "$all" unsigned
if [ -n "$arm" ]; then
    export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
    for tier in --wasm-dynamic-tiering --liftoff-only --no-liftoff; do
        expect "test_kernels on ARM, $tier" "kernel sets: wasmdot wasmfma wasm scalar" \
            qemu-aarch64-static -cpu max "$arm" $tier "$here/wasi.mjs" "$build/test_kernels-relaxed.wasm"
    done
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
