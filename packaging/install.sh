#!/bin/sh
# install.sh BUILD PREFIX TOOL... - what `make install` does: the header, a pkg-config file, a CMake package, the commands
# and a manual page of each, under $DESTDIR$PREFIX. Header and packages say nothing of the machine, so they lie in share.
set -e
build=$1 prefix=$2
shift 2
case $prefix in /*) ;; *) echo "PREFIX must begin with a slash, not $prefix" >&2; exit 1 ;; esac
to=${DESTDIR-}$prefix
version=$(awk '/^#define KALM_VERSION_/ { v = v (v == "" ? "" : ".") $3 } END { print v }' kalm_rerank.h)
mkdir -p "$to/bin" "$to/include" "$to/share/pkgconfig" "$to/share/cmake/kalm_rerank" "$to/share/man/man1"
put() { sed -e "s|@PREFIX@|$prefix|g" -e "s|@VERSION@|$version|g" "$1" > "$2" && chmod 644 "$2"; }
put kalm_rerank.h "$to/include/kalm_rerank.h"
put packaging/kalm_rerank.pc.in "$to/share/pkgconfig/kalm_rerank.pc"
put packaging/kalm_rerank-config.cmake "$to/share/cmake/kalm_rerank/kalm_rerank-config.cmake"
put packaging/kalm_rerank-config-version.cmake.in "$to/share/cmake/kalm_rerank/kalm_rerank-config-version.cmake"
for tool in "$@"; do
    cp "$build/$tool" "$to/bin/$tool"
    chmod 755 "$to/bin/$tool"
    "$build/$tool" --help | awk -v name="$tool" -v version="$version" -f packaging/man.awk > "$build/tmp/$tool.1"
    put "$build/tmp/$tool.1" "$to/share/man/man1/$tool.1"
    rm -f "$build/tmp/$tool.1"
done
echo "installed kalm_rerank $version under $to"
