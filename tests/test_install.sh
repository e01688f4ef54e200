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
expect "install" sh -c "DESTDIR='$root' sh packaging/install.sh '$build' /usr kalm-rerank kalm-quantize"
for f in bin/kalm-rerank bin/kalm-quantize include/kalm_rerank.h share/man/man1/kalm-rerank.1 share/pkgconfig/kalm_rerank.pc; do
    expect "$f" test -s "$root/usr/$f"
done
expect "the header as it is" cmp kalm_rerank.h "$root/usr/include/kalm_rerank.h"
expect "the command runs" "$root/usr/bin/kalm-rerank" --version
expect "no relative prefix" sh -c "! sh packaging/install.sh '$build' relative"
if command -v man > /dev/null 2>&1 && command -v groff > /dev/null 2>&1; then
    expect "manual" sh -c "LC_ALL=C MANROFFOPT=-ww man --warnings -l '$root/usr/share/man/man1/kalm-rerank.1' 2>&1 > '$dir/man' | (! grep .) && grep -q -- --ratio '$dir/man'"
fi

cat > "$dir/main.c" <<'END'
#define KALM_RERANK_IMPLEMENTATION
#include "kalm_rerank.h"
int main(void) { return kalm_version() && kalm_kernels(0) ? 0 : 1; }
END
if command -v pkg-config > /dev/null 2>&1; then
    expect "pkg-config" sh -c "cd '$dir' && PKG_CONFIG_PATH='$root/usr/share/pkgconfig' PKG_CONFIG_SYSROOT_DIR='$root' pkg-config --exists --print-errors 'kalm_rerank >= 0.1' &&
        export PKG_CONFIG_PATH='$root/usr/share/pkgconfig' PKG_CONFIG_SYSROOT_DIR='$root' PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 &&
        ${CC:-cc} -O1 main.c \$(pkg-config --cflags --libs kalm_rerank) -o by-pkg-config && ./by-pkg-config"
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
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
