#!/bin/sh
# run.sh BUILD - makes a small database and asks it through the client of client.mjs; npm ci comes first.
build=$1
dir=$build/tmp/mcp.$$
mkdir -p "$dir/docs"
printf '# The chess engine\n\nStockfish is a strong chess engine that analyses positions.\n' > "$dir/docs/chess.md"
cp README.md "$dir/docs"
"$build/kalm-search" "$build/tiny.kalm" "$dir/db" "$dir/docs" --quiet || exit 1
node "$(dirname "$0")/client.mjs" "$build/kalm-search" "$dir/db"
status=$?
rm -rf "$dir"
exit $status
