#!/bin/sh
# arithmetic.sh [TOKENS [RATE [MS [WARM]]]] - the tables of docs/SCALING.md: bytes, cores and time for many passages of TOKENS tokens, from what
# one thread was measured to do with a model of Nano's shape: RATE tokens encoded a second, MS milliseconds to rank a kept document,
# WARM where the decoder's state is kept too. The defaults come from docs/speed/bench.json (a document's milliseconds on two threads count
# twice); put in those that `make bench` prints on your machine.
bench=$(dirname "$0")/../../docs/speed/bench.json
figure() { sed -n "s/.*\"name\": \"$1\", \"threads\": $2, \"value\": \([0-9.e+]*\),.*/\1/p" "$bench"; }
cores() { figure "$1" 2 | awk '{ printf "%.0f", 2 * $1 }'; }
exec awk -v tokens="${1:-128}" -v rate="${2:-$(figure encode_128_tokens 1)}" -v ms="${3:-$(cores online_plain)}" \
    -v warm="${4:-$(cores online_prefix_kept)}" '
function ceil(x) { return x == int(x) ? x : int(x) + 1 }
# bytes of a document: docs/FORMAT.md
function bytes(width, ratio, bits) {
    row = bits >= 16 ? width * bits / 8 : bits == 8 ? ceil(width / 64) * 2 + width : ceil(width * bits / 8) + 1
    return 64 + ceil(tokens / ratio) * row
}
# a size in three digits or so; 1 kB is 1000 bytes
function size(b) { return three(b, "B kB MB GB TB PB") }
function three(b, names,    i, u) {
    split(names, u, " ")
    for (i = 1; b >= 999.5; i++) b /= 1000
    return sprintf(b < 9.95 ? "%.1f %s" : "%.0f %s", b, u[i])
}
function time(h) { return h < 1 / 60 ? "under a minute" : h < 1.5 ? sprintf("%.0f minutes", h * 60) : h < 48 ? sprintf("%.0f hours", h) : h < 24 * 365 ? sprintf("%.0f days", h / 24) : sprintf("%.1f years", h / 24 / 365) }
BEGIN {
    models = split("Nano Small Large", model, " ")
    split("640 1152 2560", width, " ")
    split("100 698 3209", million, " ")     # parameters beside the embedding table, which time goes with
    split("18 26 136", keys, " ")           # decoder layers times kv heads, which a state goes with
    ratios = split("1 2 4 8 16 32", ratio, " ")
    types = split("32 16 8 4 3 2", bits, " ")
    counts = split("1e6 1e8 1e10", count, " ")
    split("1 M,100 M,10 B", called, ",")

    head = "ratio |"
    for (t = 1; t <= types; t++) head = head " " bits[t] " bits |"
    rule = "---: |"
    for (t = 1; t <= types; t++) rule = rule " ---: |"
    printf "Bytes of one passage of %d tokens:\n\n| model | %s\n| --- | %s", tokens, head, rule
    for (m = 1; m <= models; m++) for (r = 1; r <= ratios; r++) {
        printf "\n| %s | %d |", model[m], ratio[r]
        for (t = 1; t <= types; t++) printf " %s |", size(bytes(width[m], ratio[r], bits[t]))
    }
    printf "\n\nBytes of all passages, Nano (Small: 1.8 times, Large: 4 times as many):\n\n| passages | %s\n| --- | %s", head, rule
    for (n = 1; n <= counts; n++) for (r = 1; r <= ratios; r++) {
        printf "\n| %s | %d |", called[n], ratio[r]
        for (t = 1; t <= types; t++) printf " %s |", size(count[n] * bytes(width[1], ratio[r], bits[t]))
    }
    printf "\n\nTime to encode them once, at any ratio (%d tokens a second on one core):\n\n", rate
    printf "| model | passages | core hours | one machine of 32 cores | 100 machines of 32 cores |\n| --- | ---: | ---: | ---: | ---: |"
    for (m = 1; m <= models; m++) for (n = 1; n <= counts; n++) {
        h = count[n] * tokens / rate / 3600 * million[m] / million[1]
        printf "\n| %s | %s | %s | %s | %s |", model[m], called[n], h < 999.5 ? sprintf("%.0f", h) : three(h, "x k M G"), time(h / 32), time(h / 3200)
    }

    # a state holds keys and values of the rows and of the prompt up to the query; 1.8 MB were measured for 64 rows and 50 tokens
    printf "\n\nOne query over 100 candidates, whatever the number of passages (%d ms a document from its rows, %d with its state kept, on one core):\n\n", ms, warm
    printf "| model | core seconds | on 16 cores | queries a second of 32 cores | bytes read at ratio 4, 16 bits | with states kept: core seconds | state of one document |\n"
    printf "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for (m = 1; m <= models; m++) {
        s = 100 * ms / 1000 * million[m] / million[1]
        w = 100 * warm / 1000 * million[m] / million[1]
        printf "\n| %s | %.1f | %.2f s | %.1f | %s | %.1f | %s |", model[m], s, s / 16, 32 / s, size(100 * bytes(width[m], 4, 16)), w, size(1.8e6 * (ceil(tokens / 4) + 50) / 114 * keys[m] / keys[1])
    }
    printf "\n"
}'
