#!/bin/sh
# search_speed.sh BUILD [DOCUMENTS [MODEL [ROUNDS]]] - the figures of docs/SEARCH.md: makes short documents (default 100,000) out of sentences
# of the bundled collection; then, in turns, the rate of kalm_encode alone, of kalm-index and of kalm-search on these texts; then
# the time of questions to the database. MODEL: default the bundled one; "nano": Nano's shape with random weights and the bundled
# tokenizer. Rates on a machine that does other work as well say little: the processor time beside them says more.
set -eu
build=$1 count=${2:-100000} model=${3:-$1/tiny.kalm} rounds=${4:-3}
dir=$build/search-speed
mkdir -p "$dir"
printf '%s, %s cores, load %s\n' "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(nproc)" "$(cut -d' ' -f1 /proc/loadavg)"
if [ "$model" = nano ]; then
    model=$dir/nano.kalm
    [ -s "$model" ] || {
        "$build/kalm-random-checkpoint" nano "vocabulary=$(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' examples/tiny/config.json | head -n 1)" "$dir/checkpoint" --quiet
        "$build/kalm-quantize" "$dir/checkpoint" "$model" --weights q8 --tokenizer examples/tiny/tokenizer.json --name 'Nano-shaped, random' --quiet
        rm -rf "$dir/checkpoint"
    }
fi
texts=$dir/texts-$count.jsonl
[ -s "$texts" ] || python3 - "$count" > "$texts" <<'END'
import json, random, re, sys
random.seed(1)
sentences = []
for line in open("examples/tiny/eval/corpus.jsonl", encoding="utf-8"):
    sentences += [s for s in re.split(r"(?<=[.!?])\s+|\n", json.loads(line)["text"]) if 40 < len(s) < 160]
for i in range(int(sys.argv[1])):
    print(json.dumps({"_id": "d%d" % i, "text": " ".join(random.sample(sentences, 2))}))
END
"${CC:-cc}" -std=c99 -O2 -Isrc/parts tests/encode_rate.c -o "$dir/encode_rate" -lm -lpthread
# took COMMAND...: wall and processor seconds of a command
took() { python3 -c 'import os, resource, subprocess, sys, time
t = time.time(); subprocess.run(sys.argv[1:], check=True); r = resource.getrusage(resource.RUSAGE_CHILDREN)
print("%.3f %.3f" % (time.time() - t, r.ru_utime + r.ru_stime))' "$@"; }
round=0
: > "$dir/times"
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    rm -f "$dir"/index.db* "$dir"/search.db*
    echo "encode $("$dir/encode_rate" "$model" "$texts" 256)" >> "$dir/times"
    echo "index $(took "$build/kalm-index" "$model" "$dir/index.db" "$texts" --batch 256 --quiet)" >> "$dir/times"
    echo "search $(took "$build/kalm-search" "$model" "$dir/search.db" "$texts" --quiet)" >> "$dir/times"
done
python3 - "$count" "$dir/times" <<'END'
import sys
count, best = int(sys.argv[1]), {}
for line in open(sys.argv[2]):
    name, wall, cpu = line.split()[:3]
    w, c = best.get(name, (1e9, 1e9))
    best[name] = min(w, float(wall)), min(c, float(cpu))
for name, (wall, cpu) in best.items():
    print("%-12s %8.1f s  %8.0f documents/s  %5.1f%%   processor %8.1f s  %5.1f%%" % ({"encode": "kalm_encode", "index": "kalm-index", "search": "kalm-search"}[name],
          wall, count / wall, 100 * best["encode"][0] / wall, cpu, 100 * best["encode"][1] / cpu))
END
head -n 40 examples/tiny/eval/queries.jsonl | python3 -c 'import json, sys
for line in sys.stdin: print(json.loads(line)["text"])' > "$dir/questions"
for i in 1 2 3; do cat "$dir/questions"; done | "$build/kalm-search" "$dir/search.db" - --json --cache "${CACHE:-2000}" > "$dir/answers"
python3 - "$dir/answers" <<'END'
import json, statistics, sys
d, at, a = json.JSONDecoder(), 0, []
text = open(sys.argv[1]).read()
while at < len(text):
    one, at = d.raw_decode(text, at)
    at += 1
    a.append(one)
n = len(a) // 3
for what, part in (("first time", a[:n]), ("warm", [min((a[i + n], a[i + 2 * n]), key=lambda x: x["milliseconds"]["all"]) for i in range(n)])):
    ms = {k: [x["milliseconds"][k] for x in part] for k in ("words", "reading", "model", "all")}
    print("question, %-10s  median %6.1f ms (words %.1f, reading %.1f, model %.1f), slowest %6.1f ms; %.0f candidates of %d passages" % (what,
          *(statistics.median(ms[k]) for k in ("all", "words", "reading", "model")), max(ms["all"]), statistics.mean(x["candidates"] for x in part), part[0]["passages"]))
END
