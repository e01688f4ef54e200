#!/bin/sh
# check.sh BUILD - the library as Microsoft's compiler sees it, where that is not at hand: clang with the target and the
# predefined names of clang-cl, then with those of cl.exe (whose own intrinsics need no target attributes, hence -march),
# on the stubs of this folder instead of Windows' headers. Objects are made, since inlining errors come that late.
build=$1
passed=0 failed=0
clang=${CLANG:-clang}
log=$build/tmp/msvc.$$
mkdir -p "$build/tmp"
for dialect in "-x c -std=c11" "-x c++ -std=c++14" "-x c++ -std=c++20"; do
    for as in "" "-U__clang__ -march=sapphirerapids -Wno-unused-function" "-DKALM_NO_SIMD -DKALM_NO_STDIO -DKALM_NO_THREADS"; do
        if $clang --target=x86_64-pc-windows-msvc -fms-compatibility-version=19.30 -fms-extensions -ffreestanding -isystem tests/msvc \
            -O1 -Wall -Wextra -Wshadow -Wconversion -Werror $as -DKALM_RERANK_IMPLEMENTATION $dialect -c kalm_rerank.h -o "$log.obj" > "$log" 2>&1
        then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $dialect $as"; head -n 20 "$log"; fi
    done
done
rm -f "$log" "$log.obj"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
