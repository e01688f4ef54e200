#!/bin/sh
# test_packages.sh BUILD - the files for package managers: all say the same version, a Meson project uses the library both ways as a
# subproject, and the others parse, where a parser is at hand. (.ci/packages builds the Debian packages.)
build=$1
passed=0 failed=0
case $build in /*) ;; *) build=$PWD/$build ;; esac
dir=$build/tmp/packages.$$
mkdir -p "$dir"
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; tail -n 20 "$dir/log"; fi
}
has() { command -v "$1" > /dev/null 2>&1 || { echo "$1 is not installed: left out"; false; }; }
version=$(awk '/^#define KALM_VERSION_/ { v = v (v == "" ? "" : ".") $3 } END { print v }' kalm_rerank.h)
plain=$(printf '%s' "$version" | sed 's/\./\\./g')
for line in "meson.build:version: '$plain'" "build.zig.zon:version = \"$plain\"" "packaging/vcpkg/kalm-rerank/vcpkg.json:\"version\": \"$plain\"" \
    "packaging/conanfile.py:version = \"$plain\"" "packaging/xmake.lua:set_version(\"$plain\")" "packaging/flake.nix:version = \"$plain\"" \
    "debian/changelog:^kalm-rerank ($plain) " "examples/wasm/package.json:\"version\": \"$plain\""; do
    expect "${line%%:*} has version $version" grep -q "${line#*:}" "${line%%:*}"
done
# the package of the shared library has the name of its soname
short=${version%.*}
expect "debian/control and the soname" grep -q "^Package: libkalm-rerank$short\$" debian/control
expect "debian/*.symbols and the soname" grep -q "^libkalm_rerank.so.$short libkalm-rerank$short " "debian/libkalm-rerank$short.symbols"
awk '/^KALM_API/ { all = "" } { all = all " " $0 } /^KALM_API.*\(|^ .*\(/ { if (match($0, /kalm_[a-z_0-9]+\(/) && /^KALM_API/) print substr($0, RSTART, RLENGTH - 1) }' \
    src/api.h | sort > "$dir/functions"
sed -n 's/^ \(kalm_[a-z_0-9]*\)@.*/\1/p' "debian/libkalm-rerank$short.symbols" | sort > "$dir/symbols"
expect "debian/*.symbols has all functions of the interface" diff "$dir/functions" "$dir/symbols"

# (KALM_NO_SIMD: what is asked is whether the files fit together.) A project with this one as a subproject, which compiles the header itself, and one that links the library
if has meson; then
    mkdir -p "$dir/app/subprojects"
    ln -s "$PWD" "$dir/app/subprojects/kalm_rerank"
    cp packaging/test/header.c packaging/test/library.c "$dir/app"
    cat > "$dir/app/meson.build" <<'END'
project('app', 'c', default_options: ['warning_level=3', 'werror=true'])
test('header', executable('header', 'header.c', dependencies: dependency('kalm_rerank', fallback: 'kalm_rerank')))
test('library', executable('library', 'library.c', dependencies: dependency('kalm_rerank-static', fallback: 'kalm_rerank')))
END
    expect "a subproject of Meson" env CC="${CC:-cc}" meson setup --wrap-mode=forcefallback --buildtype=plain -Dc_args=-DKALM_NO_SIMD "$dir/app/b" "$dir/app"
    expect "both ways" meson test -C "$dir/app/b"
    expect "nothing of ours is installed" sh -c "DESTDIR='$dir/root' meson install -C '$dir/app/b' && ! find '$dir/root' -name '*kalm*' | grep ."
    expect "by itself" env CC="${CC:-cc}" meson setup --buildtype=plain "$dir/own" .
    expect "the header and its pkg-config file" sh -c "DESTDIR='$dir/root' meson install --no-rebuild -C '$dir/own' &&
        cmp kalm_rerank.h '$dir/root/usr/local/include/kalm_rerank.h' && grep -q '^Version: $plain' '$dir/root/usr/local/share/pkgconfig/kalm_rerank.pc'"
fi
if has python3; then
    expect "the recipe for Conan parses" python3 -c "import ast; ast.parse(open('packaging/conanfile.py').read())"
    expect "the port for vcpkg parses" python3 -c "import json; json.load(open('packaging/vcpkg/kalm-rerank/vcpkg.json'))"
fi
if has luac5.4; then expect "xmake.lua parses" luac5.4 -p packaging/xmake.lua; fi
if has nix-instantiate; then expect "flake.nix parses" nix-instantiate --parse packaging/flake.nix; fi
if has zig; then expect "build.zig parses" zig ast-check build.zig; fi
# all that a package is made of is there
for file in $(sed -n 's/.*\.paths = \.{\(.*\)}.*/\1/p' build.zig.zon | tr -d '",'); do expect "build.zig.zon: $file" test -e "$file"; done
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
