#!/bin/sh
# load.sh BUILD [SECONDS] - the figures of docs/SERVER.md, in one run: what kalm-server costs over the library, 1, 8 and 64 clients, 500
# connections for SECONDS (default 60), and kept documents with a model of Nano's shape. `make load`; it takes some minutes.
set -eu
build=$1 seconds=${2:-60}
dir=$build/tmp/load.$$
mkdir -p "$dir"
trap 'kill $pid 2> /dev/null || :; rm -rf "$dir"' EXIT
# serve MODEL OPTIONS...: $url and $pid
serve() {
    "$build/kalm-server" "$@" --port 0 --log "$dir/log" 2> "$dir/says" &
    pid=$!
    until grep -q http "$dir/says"; do sleep 0.1; done
    url=$(sed -n 's/.*\(http.*\)/\1/p' "$dir/says")
}
end() { kill $pid; wait $pid || :; }
printf '%s, %s cores, load %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(cut -d' ' -f1 /proc/loadavg)"
serve "$build/tiny.kalm"
echo 'tiny model, q8:'
"$build/kalm-load" "$build/tiny.kalm" "$url" --documents 100 --rounds 40
"$build/kalm-load" "$build/tiny.kalm" "$url" --documents 1 --words 8 --rounds 300
for clients in 1 8 64; do "$build/kalm-load" "$build/tiny.kalm" "$url" --clients $clients --seconds 8; done
"$build/kalm-load" "$build/tiny.kalm" "$url" --documents 1 --clients 500 --seconds "$seconds"
end
nano=$build/bench/nano-q8-tokenizer.kalm
echo "a model of Nano's shape, q8, 100 kept documents of 256 tokens:"
serve "$nano" --store "$dir/kept.db" --warm 400
"$build/kalm-load" "$nano" "$url" --documents 100 --words 160 --rounds 8 --kept 400
end
