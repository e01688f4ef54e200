#!/bin/sh
# dist.sh - what `make dist` does: build/kalm_rerank-VERSION.tar.gz, the sources, from which everything can be built and
# installed; and build/kalm_rerank-VERSION-data.tar.gz, unpacked in the same place: the tiny model and what the tests compare
# with. In a git checkout it packs what is committed, elsewhere (in an unpacked tarball) the files that are there.
set -eu
name=kalm_rerank-$VERSION
data='examples/tiny/model.safetensors examples/tiny/eval tests/golden tests/spm examples/wasm/page.png'
mkdir -p build
if [ "$(git rev-parse --show-toplevel 2>&1)" = "$PWD" ]; then
    without=
    for path in $data; do without="$without :(exclude)$path"; done
    git archive --prefix="$name/" -o "build/$name.tar.gz" HEAD -- . $without
    git archive --prefix="$name/" -o "build/$name-data.tar.gz" HEAD -- $data
else
    # No tar can rename all it packs in the same way, so it packs a folder of that name, made of links where they can be.
    rm -rf "build/$name"
    mkdir "build/$name"
    find . -path ./build -prune -o -type f -print | sed 's|^\./||' | while IFS= read -r file; do
        case $file in */*) mkdir -p "build/$name/${file%/*}" ;; esac
        ln "$file" "build/$name/$file" 2> build/dist.log || cp -p "$file" "build/$name/$file"
    done
    without=
    there=
    for path in $data; do
        without="$without --exclude=$name/$path"
        [ ! -e "$path" ] || there="$there $name/$path"
    done
    tar -czf "build/$name.tar.gz" -C build $without "$name"
    [ -z "$there" ] || tar -czf "build/$name-data.tar.gz" -C build $there
    rm -rf "build/$name" build/dist.log
fi
ls -l build/$name*.tar.gz
