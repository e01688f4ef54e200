#!/bin/sh
# check_symbols.sh - what an object file with the implementation gives to the linker and asks of it: only kalm_ names
# out; nothing in that prints, ends the process, or reads the environment.
cc=${CC:-cc}
o=build/symbols.$$
mkdir -p build
printf '#define KALM_RERANK_IMPLEMENTATION\n#include "%s"\n' "$PWD/kalm_rerank.h" > $o.c
status=0
for flags in -O2 "-O0 -DKALM_NO_STDIO -DKALM_NO_THREADS" "-O2 -DKALM_RERANK_STATIC"; do
    $cc -std=c99 $flags -c -o $o.o $o.c || { rm -f $o.*; exit 1; }
    out=$(nm -g --defined-only $o.o | awk '{ print $3 }' | grep -v '^_*kalm_[a-z]')
    case $flags in
    *STATIC*) out=$(nm -g --defined-only $o.o | awk '{ print $3 }') ;;
    esac
    [ -z "$out" ] || { echo "symbols that leak ($flags):" $out; status=1; }
    data=$(nm $o.o | awk '$2 ~ /^[bBdDsSgGcC]$/ { print $3 }' | grep -v '^\.')
    # a table of pointers is constant all the same: position-independent code puts it where the loader fills it in
    data=$(nm -f sysv $o.o | awk -F'|' '{ gsub(/ /, "", $1); gsub(/ /, "", $3); gsub(/ /, "", $7) }
        $3 ~ /^[bBdD]$/ && $7 !~ /rel\.ro|\.rodata/ { print $1 }')
    [ -z "$data" ] || { echo "writable data ($flags):" $data; status=1; }
    in=$(nm -u $o.o | awk '{ print $2 }' | grep -xE '_*(v?f?printf|puts|fputs|putchar|perror|v?dprintf|write|exit|_exit|abort|quick_exit|getenv|secure_getenv|setlocale|signal|sigaction|__assert_fail|rand|srand|time|longjmp|strtok|stderr|stdout|.*printf_chk)')
    [ -z "$in" ] || { echo "calls that must not be ($flags):" $in; status=1; }
    case $flags in
    *NO_STDIO*) in=$(nm -u $o.o | awk '{ print $2 }' | grep -xE '_*(open|close|read|pread|mmap|munmap|fopen|fread|fclose|stat|fstat|pthread_.*)(64)?')
        [ -z "$in" ] || { echo "calls that must not be ($flags):" $in; status=1; } ;;
    esac
done
rm -f $o.c $o.o
[ $status -ne 0 ] || echo "symbols: ok"
exit $status
