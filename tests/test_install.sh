#!/bin/sh
# test_install.sh BUILD - make install into an empty folder, then programs that find the header there: by pkg-config, by
# CMake's find_package, and by add_subdirectory of this folder; and make dist, whose archive must build by itself.
build=$1
passed=0 failed=0
case $build in /*) ;; *) build=$PWD/$build ;; esac
dir=$build/tmp/install.$$
mkdir -p "$dir"
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; tail -n 20 "$dir/log"; fi
}
root=$dir/root
tools="kalm-rerank kalm-quantize kalm-tokenize"
library=libkalm_rerank.so
soname=$library.$(awk '/^#define KALM_VERSION_MAJOR/ { m = $3 } /^#define KALM_VERSION_MINOR/ { n = $3 } END { print m "." n }' kalm_rerank.h)
version=$(awk '/^#define KALM_VERSION_/ { v = v (v == "" ? "" : ".") $3 } END { print v }' kalm_rerank.h)
expect "the shared library" make -s shared
expect "install" sh -c "DESTDIR='$root' sh packaging/install.sh '$build' /usr $tools"
for f in bin/kalm-rerank bin/kalm-quantize include/kalm_rerank.h share/man/man1/kalm-rerank.1 share/pkgconfig/kalm_rerank.pc \
    lib/$library lib/$soname lib/$library.$version lib/pkgconfig/kalm_rerank-shared.pc share/kalm_rerank/python/kalm_rerank.py \
    share/kalm_rerank/python/$library; do
    expect "$f" test -s "$root/usr/$f"
done
expect "the header as it is" cmp kalm_rerank.h "$root/usr/include/kalm_rerank.h"
expect "the command runs" "$root/usr/bin/kalm-rerank" --version
expect "no relative prefix" sh -c "! sh packaging/install.sh '$build' relative"
# a prefix with everything in it that shells, make and sed care for
odd="$dir/odd/Program Files & co|%s\\n 'x'/kalm"
expect "make install with an odd prefix" make -s install PREFIX="$odd" DESTDIR=
for f in bin/kalm-rerank include/kalm_rerank.h share/man/man1/kalm-bench.1 lib/$soname; do expect "odd prefix: $f" test -s "$odd/$f"; done
expect "odd prefix: nothing beside it" test "$(ls "$dir/odd")" = "Program Files & co|%s\\n 'x'"
expect "odd prefix: the package says where it is" grep -qF "prefix=$odd" "$odd/share/pkgconfig/kalm_rerank.pc"
expect "the same again, over the old one" make -s install PREFIX="$odd" DESTDIR=
# a file is missing: nothing is written
expect "half an install is none" sh -c "! DESTDIR='$dir/none' sh packaging/install.sh '$build' /usr kalm-rerank kalm-nothing && ! test -e '$dir/none'"
# an install runs nothing that was built: it may be for another machine
mkdir -p "$dir/foreign"
for f in $tools $library; do printf 'no program of this machine\n' > "$dir/foreign/$f"; done
expect "an install for another machine" sh -c "DESTDIR='$dir/cross' sh packaging/install.sh '$dir/foreign' /usr $tools && cmp '$dir/foreign/kalm-rerank' '$dir/cross/usr/bin/kalm-rerank'"
# manual pages: up to date, with a name, a date and no warnings
expect "manual pages say what --help says (make man)" sh packaging/man.sh check "$build" kalm-rerank kalm-quantize kalm-tokenize kalm-eval \
    kalm-bench kalm-random-checkpoint $([ ! -x "$build/kalm-index" ] || echo kalm-index) $([ ! -x "$build/kalm-search" ] || echo kalm-search) \
    $([ ! -x "$build/kalm-server" ] || echo kalm-server)
for page in packaging/man/*.1; do
    tool=${page##*/}
    expect "$page has a date" grep -q '^\.TH KALM-[A-Z-]* 1 "20[0-9][0-9]-[01][0-9]-[0-3][0-9]"' "$page"
    expect "$page has a name" sh -c "sed -n 2,3p '$page' | tr '\n' ' ' | sed 's/[\\]//g' | grep -q '^.SH NAME ${tool%.1} - [a-z].*[a-z] \$'"
    if command -v man > /dev/null 2>&1 && command -v groff > /dev/null 2>&1; then
        expect "$page" sh -c "LC_ALL=C MANROFFOPT=-ww man --warnings -l '$page' 2>&1 > '$dir/man' | (! grep .) && grep -q -- --help '$dir/man'"
    fi
done
# the shared library has its name and nothing but the interface; Python finds it
if command -v readelf > /dev/null 2>&1; then
    expect "soname" sh -c "readelf -d '$root/usr/lib/$library' | grep -q 'soname: \[$soname\]'"
    readelf -W --dyn-syms "$root/usr/lib/$library" | awk '$5 == "GLOBAL" && $7 != "UND" { print $8 }' | sort > "$dir/exported"
    sed -n 's/^ \(kalm_[a-z_0-9]*\)@.*/\1/p' debian/libkalm-rerank*.symbols | sort > "$dir/interface"
    expect "nothing but the interface is exported" sh -c "[ -s '$dir/interface' ] && diff '$dir/interface' '$dir/exported'"
    # the commands are hardened (see the Makefile): position-independent, tables read-only, stack guarded, C library checked
    hard="$tools kalm-eval kalm-random-checkpoint"
    for tool in kalm-index kalm-search kalm-server; do [ ! -x "$build/$tool" ] || hard="$hard $tool"; done
    for tool in $hard; do
        expect "$tool is position-independent" sh -c "readelf -h '$build/$tool' | grep -q 'Type: *DYN'"
        expect "$tool binds at its start" sh -c "readelf -d '$build/$tool' | grep -q 'BIND_NOW\|FLAGS.*NOW'"
        expect "$tool has read-only tables" sh -c "readelf -l '$build/$tool' | grep -q GNU_RELRO"
        expect "$tool has no stack that runs" sh -c "readelf -lW '$build/$tool' | grep GNU_STACK | grep -q 'RW '"
        expect "$tool guards its stack" sh -c "readelf -sW '$build/$tool' | grep -q __stack_chk_fail"
        expect "$tool checks what it prints" sh -c "readelf -sW '$build/$tool' | grep -q '__[a-z]*printf_chk'"
    done
else
    echo "readelf is not installed: left out"
fi
if command -v python3 > /dev/null 2>&1; then
    expect "the module finds the library" sh -c "cd '$dir' && PYTHONPATH='$root/usr/share/kalm_rerank/python' python3 -B -c 'import kalm_rerank; assert kalm_rerank.version() == \"$version\"'"
fi

# without the kernels of this machine, which take most of the compiler's time and find no header
cat > "$dir/main.c" <<'END'
#define KALM_NO_SIMD
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
int main(void) { return kalm_version() && kalm_kernels(0) ? 0 : 1; }
END
if command -v pkg-config > /dev/null 2>&1; then
    expect "pkg-config" sh -c "cd '$dir' && PKG_CONFIG_PATH='$root/usr/share/pkgconfig' PKG_CONFIG_SYSROOT_DIR='$root' pkg-config --exists --print-errors 'kalm_rerank >= 0.1' &&
        export PKG_CONFIG_PATH='$root/usr/share/pkgconfig' PKG_CONFIG_SYSROOT_DIR='$root' PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 &&
        ${CC:-cc} main.c \$(pkg-config --cflags --libs kalm_rerank) -o by-pkg-config && ./by-pkg-config"
else
    echo "pkg-config is not installed: left out"
fi
if command -v cmake > /dev/null 2>&1; then
    mkdir "$dir/app" "$dir/sub"
    cp "$dir/main.c" "$dir/app"
    cat > "$dir/app/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.10)
project(app C)
if(KALM_SUBDIRECTORY)
    add_subdirectory(${KALM_SUBDIRECTORY} kalm_rerank)
else()
    find_package(kalm_rerank 0.1 REQUIRED)
endif()
add_executable(app main.c)
target_link_libraries(app PRIVATE kalm_rerank::kalm_rerank)
END
    here=$PWD
    configure="cmake -DCMAKE_C_COMPILER=${CC:-cc} -DCMAKE_BUILD_TYPE=Debug"
    expect "find_package" sh -c "$configure -S '$dir/app' -B '$dir/app/b' -DCMAKE_PREFIX_PATH='$root/usr' && cmake --build '$dir/app/b' && '$dir/app/b/app'"
    expect "another version is refused" sh -c "sed 's/rerank 0.1 /rerank 0.99 /' '$dir/app/CMakeLists.txt' > '$dir/sub/CMakeLists.txt' &&
        ! $configure -S '$dir/sub' -B '$dir/sub/b' -DCMAKE_PREFIX_PATH='$root/usr'"
    expect "add_subdirectory" sh -c "$configure -S '$dir/app' -B '$dir/app/s' -DKALM_SUBDIRECTORY='$here' && cmake --build '$dir/app/s' && '$dir/app/s/app'"
    expect "install by CMake" sh -c "$configure -S . -B '$dir/own' -DCMAKE_INSTALL_PREFIX='$dir/own-root' && cmake --install '$dir/own' &&
        cmp kalm_rerank.h '$dir/own-root/include/kalm_rerank.h' && rm -rf '$dir/app/b' &&
        $configure -S '$dir/app' -B '$dir/app/b' -DCMAKE_PREFIX_PATH='$dir/own-root'"
else
    echo "cmake is not installed: left out"
fi
# pkg-config for the shared library
if command -v pkg-config > /dev/null 2>&1; then
    cat > "$dir/shared.c" <<'END'
#include "kalm_rerank.h"
int main(void) { return kalm_version() && kalm_kernels(0) ? 0 : 1; }
END
    expect "pkg-config for the shared library" sh -c "cd '$dir' && export PKG_CONFIG_PATH='$root/usr/lib/pkgconfig' PKG_CONFIG_SYSROOT_DIR='$root' PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 &&
        ${CC:-cc} shared.c \$(pkg-config --cflags --libs kalm_rerank-shared) -o by-shared && LD_LIBRARY_PATH='$root/usr/lib' ./by-shared"
fi

# ---- make dist: small, and what comes out builds, installs and makes the same again ----
if [ "$(git rev-parse --show-toplevel 2>&1)" = "$PWD" ]; then
    expect "make dist" make -s dist
    name=kalm_rerank-$version
    expect "the archive is small" test "$(wc -c < "build/$name.tar.gz")" -lt 2500000
    mkdir "$dir/dist"
    expect "unpack" tar -xzf "build/$name.tar.gz" -C "$dir/dist"
    expect "the archive has this header" sh -c "git diff --quiet HEAD -- kalm_rerank.h && cmp kalm_rerank.h '$dir/dist/$name/kalm_rerank.h' || ! git diff --quiet HEAD -- kalm_rerank.h"
    expect "it builds by itself" make -s -C "$dir/dist/$name" config=debug build/debug/kalm-tokenize CC="${CC:-cc}" CFLAGS=-DKALM_NO_SIMD
    expect "make dist from the archive" make -s -C "$dir/dist/$name" dist
    mkdir "$dir/again"
    expect "unpack it" tar -xzf "$dir/dist/$name/build/$name.tar.gz" -C "$dir/again"
    rm -rf "$dir/dist/$name/build"
    expect "the same files" diff -r "$dir/dist/$name" "$dir/again/$name"
    expect "the data fills it up" sh -c "tar -xzf 'build/$name-data.tar.gz' -C '$dir/again' && test -s '$dir/again/$name/examples/tiny/model.safetensors'"
fi
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
