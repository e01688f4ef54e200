#!/bin/sh
# build-native.sh [TARGET...] - the native addon of the npm package, into prebuilds/PLATFORM-ARCH/, for the machines named, default this
# one:
#
#   linux-x64 linux-arm64              for the GNU C library, no newer than 2.28, which node 18 wants too
#   linux-x64-musl linux-arm64-musl    for Alpine and others with musl
#   darwin-x64 darwin-arm64 freebsd-x64 and so on: this machine's own, or CC and LDFLAGS say how
#
# Needs a C compiler (CC; cross compilers have their Debian names) and the headers of Node-API: in the folder NODE_API, in
# node_modules where `npm ci` put them, or else the package node-api-headers is fetched, of the version in package.json. An addon leaves
# the functions of Node-API open; node has them.
set -eu
cd "$(dirname "$0")"
NODE_API=${NODE_API:-node_modules/node-api-headers/include}
if [ ! -e "$NODE_API/node_api.h" ]; then
    version=$(sed -n 's/.*"node-api-headers": "\(.*\)".*/\1/p' package.json)
    NODE_API=dist/node-api-headers/include
    if [ ! -e "$NODE_API/node_api.h" ]; then
        mkdir -p dist/node-api-headers
        file=$(cd dist && npm pack --silent "node-api-headers@$version")
        tar xzf "dist/$file" -C dist/node-api-headers --strip-components=1
        rm "dist/$file"
    fi
fi

here() {
    arch=$(uname -m)
    case $arch in x86_64 | amd64) arch=x64 ;; aarch64) arch=arm64 ;; esac
    system=$(uname -s | tr '[:upper:]' '[:lower:]')
    if [ "$system" = linux ] && ls /lib/ld-musl-* > /dev/null 2>&1 && ! ls /lib*/ld-linux-* > /dev/null 2>&1; then arch=$arch-musl; fi
    echo "$system-$arch"
}
flags='-std=gnu99 -O2 -fPIC -fvisibility=hidden -Wall -Wextra -Werror'

addon() {
    this=$(here)
    platform=${1%-musl} library='' link='-shared -s' extra=''
    case $1 in
    linux-*-musl) library=.musl ;;
    linux-*) library=.glibc extra='-include old_glibc.h' ;;
    darwin-*) link='-shared -undefined dynamic_lookup' ;;
    esac
    case $1 in
    "$this") compiler=cc ;;
    linux-x64) compiler=x86_64-linux-gnu-gcc ;;
    linux-arm64) compiler=aarch64-linux-gnu-gcc ;;
    linux-x64-musl) compiler=musl-gcc ;;
    linux-arm64-musl) compiler=aarch64-linux-musl-gcc ;;
    *) compiler=cc ;;
    esac
    to=prebuilds/$platform
    mkdir -p "$to"
    # shellcheck disable=SC2086  # lists of words
    ${CC:-$compiler} $extra $flags -I../.. -isystem "$NODE_API" ${CFLAGS:-} $link kalm_node.c -o "$to/kalm-rerank$library.node" \
        ${LDFLAGS:-} -lm -lpthread
    ls -l "$to/kalm-rerank$library.node"
}
[ $# -gt 0 ] || set -- "$(here)"
for target; do addon "$target"; done
