#!/bin/sh
# state_speed.sh BUILD [ROUNDS] - the figures of docs/DOCUMENTS.md: 20 documents of about 264 tokens in a store of a model of Nano's shape
# (q8, random weights, the bundled tokenizer); then a ranking of them in a new process, in turns with decoder states from
# kalm-index --states and without. Processor seconds of one thread, the fewest of all rounds, and bytes of the file.
set -eu
build=$1 rounds=${2:-5}
dir=$build/state-speed
mkdir -p "$dir"
[ -s "$dir/nano.kalm" ] || {
    "$build/kalm-random-checkpoint" nano "vocabulary=$(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' examples/tiny/config.json | head -n 1)" "$dir/checkpoint" --quiet
    "$build/kalm-quantize" "$dir/checkpoint" "$dir/nano.kalm" --weights q8 --tokenizer examples/tiny/tokenizer.json --name 'Nano-shaped, random' --quiet
    rm -rf "$dir/checkpoint"
}
python3 - "$build" "$dir" "$rounds" <<'END'
import json, os, resource, subprocess, sys
build, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = folder + "/store.db"
states = store + ".states"


def took(*command):
    """Processor seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


texts = [json.loads(line)["text"] for line in open("examples/tiny/eval/corpus.jsonl", encoding="utf-8")]
with open(folder + "/texts.jsonl", "w", encoding="utf-8") as f:
    for i in range(20):
        f.write(json.dumps({"_id": "d%d" % i, "text": " ".join(texts[8 * i:8 * i + 8])[:1080]}) + "\n")
for name in (store, states):
    if os.path.exists(name):
        os.remove(name)
model = folder + "/nano.kalm"
subprocess.run([build + "/kalm-index", model, store, folder + "/texts.jsonl", "--quiet"], check=True)
for bits in ("0", "8", "4"):
    made = took(build + "/kalm-index", model, store, "--states", "20", "--state-bits", bits, "--threads", "1", "--quiet")
    ask = [build + "/kalm-rerank", model, "which program shows the pages of a comic book", "--store", store, "--threads", "1", "--json"]
    ask += ["--state-bits", bits] if bits != "0" else []
    warm, cold = [], []
    for i in range(rounds):
        warm.append(took(*ask))
        os.rename(states, states + ".away")
        cold.append(took(*ask))
        os.rename(states + ".away", states)
    print("state_bits %s: made in %.2f s, %d bytes; ranked from states in %.3f s, without in %.3f s" %
          (bits, made, os.path.getsize(states), min(warm), min(cold)))
END
