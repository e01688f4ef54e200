#!/bin/sh
# man.sh BUILD TOOL... - packaging/man/TOOL.1 from what `TOOL --help` prints; check BUILD TOOL...: do they say the same? The date of
# a page is the day when its words last changed.
set -eu
check=
if [ "$1" = check ]; then check=1; shift; fi
build=$1 old=0
shift
mkdir -p packaging/man "$build/tmp"
for tool in "$@"; do
    page=packaging/man/$tool.1 new=$build/tmp/$tool.1
    "$build/$tool" --help > "$new.help"
    version=$("$build/$tool" --version | sed -n '1s/.* //p')
    awk -v name="$tool" -v version="$version" -v date="$(date -u +%Y-%m-%d)" -f packaging/man.awk "$new.help" > "$new"
    if [ -f "$page" ] && [ "$(sed 1d "$page")" = "$(sed 1d "$new")" ]; then :
    elif [ -n "$check" ]; then echo "$page is not what $tool --help says: make man"; old=1
    else cp "$new" "$page"
    fi
    rm -f "$new" "$new.help"
done
exit $old
