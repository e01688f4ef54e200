#!/bin/sh
# install.sh BUILD PREFIX TOOL... - what `make install` does: the header, the commands with their manual pages, the shared
# library, the Python module, pkg-config files and a CMake package, under $DESTDIR$PREFIX. LIBDIR (PREFIX/lib) and PYTHONDIR
# (PREFIX/share/kalm_rerank/python) say where library and module go. Nothing that was built is run, so the install may be
# for another machine; everything is looked for before anything is written.
set -eu
build=$1 prefix=$2
shift 2
case $prefix in /*) ;; *) echo "PREFIX must begin with a slash, not $prefix" >&2; exit 1 ;; esac
libdir=${LIBDIR:-$prefix/lib} python=${PYTHONDIR:-$prefix/share/kalm_rerank/python} root=${DESTDIR-}
for dir in "$libdir" "$python"; do
    case $dir in /*) ;; *) echo "LIBDIR and PYTHONDIR must begin with a slash, not $dir" >&2; exit 1 ;; esac
done
version=$(awk '/^#define KALM_VERSION_/ { v = v (v == "" ? "" : ".") $3 } END { print v }' kalm_rerank.h)
library=libkalm_rerank.so
for tool in "$@"; do set -- "$@" "$build/$tool" "packaging/man/$tool.1"; shift; done
for file in "$@" kalm_rerank.h "$build/$library" examples/python/kalm_rerank.py packaging/kalm_rerank.pc.in \
    packaging/kalm_rerank-shared.pc.in packaging/kalm_rerank-config.cmake packaging/kalm_rerank-config-version.cmake.in; do
    [ -s "$file" ] || { echo "there is no $file: nothing was installed" >&2; exit 1; }
done

# A text that stands for itself in the replacement of sed.
plain() { printf '%s' "$1" | sed -e 's/[\\&|]/\\&/g'; }
put() {
    sed -e "s|@PREFIX@|$(plain "$prefix")|g" -e "s|@LIBDIR@|$(plain "$libdir")|g" -e "s|@VERSION@|$version|g" "$1" > "$2"
    chmod 644 "$2"
}
copy() {                               # FILE TO MODE: a new file takes the old one's place, which may be running
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
}
to=$root$prefix
mkdir -p "$to/bin" "$to/include" "$to/share/pkgconfig" "$to/share/cmake/kalm_rerank" "$to/share/man/man1" \
    "$root$libdir/pkgconfig" "$root$python"
copy kalm_rerank.h "$to/include/kalm_rerank.h" 644
put packaging/kalm_rerank.pc.in "$to/share/pkgconfig/kalm_rerank.pc"
put packaging/kalm_rerank-shared.pc.in "$root$libdir/pkgconfig/kalm_rerank-shared.pc"
put packaging/kalm_rerank-config.cmake "$to/share/cmake/kalm_rerank/kalm_rerank-config.cmake"
put packaging/kalm_rerank-config-version.cmake.in "$to/share/cmake/kalm_rerank/kalm_rerank-config-version.cmake"
copy "$build/$library" "$root$libdir/$library.$version" 755
ln -sf "$library.$version" "$root$libdir/$library.${version%.*}"       # the name that programs ask for at their start
ln -sf "$library.${version%.*}" "$root$libdir/$library"                # the name that linkers look for
copy examples/python/kalm_rerank.py "$root$python/kalm_rerank.py" 644
# The module looks for the library beside itself first. The way there goes up from $python and down to $libdir, so that it
# holds in $DESTDIR as well.
up=$(printf '%s' "$python" | awk '{ n = gsub(/\/+[^\/]+/, "../"); print $0 }')
ln -sf "${up%/}$libdir/$library.$version" "$root$python/$library"
for file in "$@"; do
    case $file in
    *.1) copy "$file" "$to/share/man/man1/${file##*/}" 644 ;;
    *) copy "$file" "$to/bin/${file##*/}" 755 ;;
    esac
done
echo "installed kalm_rerank $version under $to"
