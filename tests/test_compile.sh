#!/bin/sh
# test_compile.sh BUILD - compile-only tests of the generated header: languages, compilers, units, switches, refusals.
# No warning anywhere. Compilers: those that the machine has among cc's, gcc, clang and their C++ sides.
build=$1
dir=$build/tmp/compile.$$
mkdir -p "$dir"
passed=0 failed=0
warn="-Wall -Wextra -Wpedantic -Wshadow -Wconversion"
warn_c="$warn -Wcast-qual -Wdouble-promotion -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes"
src=tests/compile

# expect 0|1 WHAT COMMAND...: the command succeeds without a word (0), or fails (1)
expect() {
    want=$1 what=$2
    shift 2
    "$@" > "$dir/log" 2>&1
    got=$?
    [ $got -eq 0 ] || got=1
    if [ $got -eq "$want" ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED: $what: $*"
    head -n 20 "$dir/log"
}

compilers() {
    for c in "$@"; do
        command -v "$c" > /dev/null 2>&1 || continue
        real=$("$c" --version 2>/dev/null | head -n 1 | sed 's/^[^ ]*[gc][c+][c+]* //')    # cc is often gcc by another name
        case $seen in *"|$real|"*) continue ;; esac
        seen="$seen|$real|"
        printf '%s\n' "$c"
    done
}
ccs=$(seen=; compilers ${CC:-cc} gcc clang)
cxxs=$(seen=; compilers ${CXX:-c++} g++ clang++)
echo "compilers:" $ccs $cxxs

# Each thing is compiled once, and no further than what is asked needs: nothing is optimised here, since every other test is built with -O2
# and golden with -O3, warnings being errors. The kernels of the machine, two thirds of the code, are compiled to the end where they could
# make a difference: not where the question is which unit has a function, or which switch leaves one out. Switches that have nothing to do
# with each other are asked for by one call of the compiler.
first=$(echo "$ccs" | head -n 1)

# the calls that the manual shows, as a program would copy them: gcc from 14 on takes a wrong pointer for an error
{
    echo '#include "kalm_rerank.h"'
    echo 'int recipe(kalm_context *ctx, kalm_model *model, kalm_text query, const kalm_text *texts, kalm_doc **docs, size_t n, const void *bytes,'
    echo '           size_t size, kalm_score *scores, size_t i);'
    echo 'int recipe(kalm_context *ctx, kalm_model *model, kalm_text query, const kalm_text *texts, kalm_doc **docs, size_t n, const void *bytes,'
    echo '           size_t size, kalm_score *scores, size_t i)'
    echo '{ kalm_error err;'
    sed -n '1,/^#define KALM_RERANK_H/s/^    \(once  \|at start\|each query\) *\(kalm_[a-z_]*(.*);\).*/\2/p' kalm_rerank.h
    echo 'return (int)err.code; }'
} > "$dir/recipe.c"
expect 0 "the manual shows three calls" [ "$(grep -c '^kalm_' "$dir/recipe.c")" = 3 ]
for cc in $ccs; do expect 0 "$cc: the manual's calls" $cc -std=c99 $warn -Werror -I. -fsyntax-only "$dir/recipe.c"; done
for cxx in $cxxs; do expect 0 "$cxx: the manual's calls" $cxx -x c++ $warn -Werror -I. -fsyntax-only "$dir/recipe.c"; done

for cc in $ccs; do
    # one copy without threads, whose program needs no library of them; and each unit with a copy of its own, which for the first compiler are
    # of two kinds: with kernels and nothing else, and without kernels
    for static in "" -DKALM_RERANK_STATIC; do
        removed="-DKALM_NO_SIMD -DKALM_NO_THREADS" lib=
        [ -z "$static" ] || removed=-DKALM_NO_SIMD lib=-lpthread
        [ "$cc$static" != "$first-DKALM_RERANK_STATIC" ] || removed="-DKALM_NO_STDIO -DKALM_NO_THREADS"
        expect 0 "$cc unit a $static" $cc -O0 -std=c99 $static $removed $warn_c -Werror -I. -c $src/unit_a.c -o "$dir/two_a.o"
        expect 0 "$cc unit b $static" $cc -O0 -std=c99 $static -DKALM_NO_SIMD $warn_c -Werror -I. -c $src/unit_b.c -o "$dir/two_b.o"
        expect 0 "$cc two units $static" $cc "$dir/two_a.o" "$dir/two_b.o" -o "$dir/two" -lm $lib
        expect 0 "$cc two units $static run" "$dir/two"
    done
done
for cxx in $cxxs; do
    for std in c++14 c++17 c++20; do           # a host may want no casts of C
        expect 0 "$cxx $std" $cxx -x c++ -std=$std $warn -Wold-style-cast -Werror -I. -fsyntax-only $src/one.c
    done
    # the first with all kernels, which are linked with a unit of C below as well
    simd=$([ "$cxx" = "$(echo "$cxxs" | head -n 1)" ] || echo -DKALM_NO_SIMD)
    expect 0 "$cxx unit" $cxx -x c++ -O0 -std=c++11 $simd $warn -Werror -I. -c $src/unit_a.c -o "$dir/a.$cxx.o"
    expect 0 "$cxx second unit" $cxx -x c++ -O0 -std=c++11 $warn -Werror -I. -c $src/unit_b.c -o "$dir/b.$cxx.o"
    expect 0 "$cxx two units" $cxx "$dir/a.$cxx.o" "$dir/b.$cxx.o" -o "$dir/two" -lm -lpthread
    expect 0 "$cxx two units run" "$dir/two"
done

# C and C++ in one program
cxx=$(echo "$cxxs" | head -n 1)
if [ -n "$cxx" ]; then
    expect 0 "C side" $first -std=c99 -I. -c $src/unit_b.c -o "$dir/b.o"
    expect 0 "C and C++" $cxx "$dir/a.$cxx.o" "$dir/b.o" -o "$dir/ab" -lm -lpthread
    expect 0 "C and C++ run" "$dir/ab"
fi

# The three switches that remove code, in all combinations, each with kernels under a standard of its own (c99 without any is golden too, and
# without input and output or threads: unit a above). Without kernels they are linked and run (no threads alone: unit a; no kernels alone:
# own allocator).
for stdio in "" -DKALM_NO_STDIO; do
    for threads in "" -DKALM_NO_THREADS; do
        for simd in "" -DKALM_NO_SIMD; do
            lib=
            [ -n "$threads" ] || lib=-lpthread
            case $stdio$threads$simd in
            -DKALM_NO_STDIO) std=c11 ;; -DKALM_NO_THREADS) std="c17 -funsigned-char" ;; -DKALM_NO_STDIO-DKALM_NO_THREADS) std=gnu99 ;; *) std=c99 ;;
            esac
            for cc in $ccs; do
                [ "$cc" != "$first" ] || [ -z "$simd" ] || [ -z "$stdio" ] || continue
                expect 0 "$cc $std $stdio $threads $simd" $cc -std=$std $stdio $threads $simd $warn_c -Werror -I. -fsyntax-only $src/one.c
            done
            [ -n "$simd" ] && [ -n "$stdio" ] || continue
            expect 0 "$stdio $threads $simd" $first -O0 -std=c99 $stdio $threads $simd $warn_c -Werror -I. $src/one.c -o "$dir/one" -lm $lib
            expect 0 "$stdio $threads $simd runs" "$dir/one"
        done
    done
done

# hooks, and what is refused
cc=$first
expect 0 "own allocator" $cc -O0 -std=c99 $warn_c -Werror -I. -DKALM_NO_SIMD -DKALM_MALLOC=my_malloc -DKALM_FREE=my_free -include $src/hooks.h $src/one.c -o "$dir/one" -lm -lpthread
expect 0 "own allocator runs" "$dir/one"
expect 0 "KALM_DEBUG, hidden, fast math allowed" $cc -std=c99 -DKALM_DEBUG "-DKALM_API=__attribute__((visibility(\"hidden\")))" \
    -ffast-math -DKALM_ALLOW_FAST_MATH $warn_c -Werror -I. -fsyntax-only $src/one.c
expect 1 "one hook of two" $cc -std=c99 -I. -DKALM_MALLOC=malloc -Wfatal-errors -fsyntax-only $src/one.c
expect 1 "fast math" $cc -std=c99 -I. -ffast-math -Wfatal-errors -fsyntax-only $src/one.c

# copied alone into an empty folder
mkdir "$dir/alone"
cp kalm_rerank.h "$dir/alone/" && cp examples/first.c "$dir/alone/x.c"
expect 0 "alone" sh -c "cd '$dir/alone' && $cc -fsyntax-only x.c"

rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
