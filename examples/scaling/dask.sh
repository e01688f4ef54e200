#!/bin/sh
# dask.sh BUILD [CORPUS.jsonl] - recipe (a) of docs/SCALING.md on this machine: a Dask scheduler and two worker processes encode a corpus
# with encode.py, one worker is killed in the middle, and the result is compared with that of one process. From the top of the tree,
# after make shared; needs Debian's python3-distributed.
build=${1:-build}
corpus=${2:-examples/tiny/eval/corpus.jsonl}
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "well: $*"; }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
python=python3
$python -c 'import distributed' 2> /dev/null || python=/usr/bin/python3
dir=$(mktemp -d "${TMPDIR:-/tmp}/kalm-dask.XXXXXX") || exit 1
started=
trap 'kill -9 $started 2> /dev/null; rm -rf "$dir"' EXIT
PYTHONPATH=$PWD/examples/scaling:$PWD/examples/python KALM_RERANK_LIBRARY=$PWD/$build/libkalm_rerank.so
export PYTHONPATH KALM_RERANK_LIBRARY

# The cluster. On real machines: dask-scheduler on one, dask-worker tcp://THAT:8786 --nthreads CORES on the others.
$python -m distributed.cli.dask_scheduler --host 127.0.0.1 --port 0 --no-dashboard --scheduler-file "$dir/scheduler.json" > "$dir/scheduler.log" 2>&1 &
started=$!
worker() {
    $python -m distributed.cli.dask_worker --scheduler-file "$dir/scheduler.json" --nthreads 1 --no-nanny --no-dashboard --name "$1" \
        --local-directory "$dir/$1" > "$dir/$1.log" 2>&1 &
    started="$started $!"
}
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -s "$dir/scheduler.json" ] || sleep 0.5; done
worker one
worker two
victim=$!
address=$(sed -n 's/.*"address": "\(tcp:[^"]*\)".*/\1/p' "$dir/scheduler.json" | head -n 1)

$python examples/scaling/encode.py "$build/tiny.kalm" "$corpus" "$dir/cluster" --part 50 --scheduler "$address" > "$dir/client.log" 2>&1 &
client=$!
started="$started $client"
# when the second worker has finished some parts and is at work on another
for i in $(seq 1 600); do
    [ "$(grep -c '^part ' "$dir/client.log")" -ge 6 ] && ls "$dir"/cluster/*."$victim".tmp > /dev/null 2>&1 && break
    kill -0 $client 2> /dev/null || break
    sleep 0.05
done
before=$(grep -c '^part ' "$dir/client.log")
kill -9 "$victim"
wait "$client" && ok "the run ends: $(tail -n 1 "$dir/client.log")" || { bad "encode.py on the cluster"; cat "$dir"/*.log; }
parts=$(grep -c '^part ' "$dir/client.log")
[ "$before" -ge 6 ] && [ "$before" -lt "$parts" ] && ok "a worker was killed after part $before of $parts" || bad "the worker was killed after part $before of $parts"
ls "$dir"/cluster/*.tmp > /dev/null 2>&1 && bad "files of the dead worker are left" || ok "nothing of the dead worker is left"

$python examples/scaling/encode.py "$build/tiny.kalm" "$corpus" "$dir/alone" --part 50 > "$dir/alone.log" 2>&1 || { bad "encode.py alone"; cat "$dir/alone.log"; }
if diff -r "$dir/cluster" "$dir/alone" > "$dir/diff" && [ "$(ls "$dir/alone" | wc -l)" -eq $((2 * parts + 1)) ]; then
    ok "the same bytes as one process: $(cat "$dir"/alone/*.docs | wc -c) bytes, sha256 $(cat "$dir"/alone/*.docs | sha256sum | cut -c 1-16)"
else bad "the cluster made other bytes than one process"; cat "$dir/diff"; fi

# a run goes on where it was stopped, and a folder of other options is refused
rm "$dir/alone/00003.tsv" "$dir/alone/00007.docs" "$dir/alone/00007.tsv"
$python examples/scaling/encode.py "$build/tiny.kalm" "$corpus" "$dir/alone" --part 50 2> /dev/null | grep -q '^100 documents' && diff -r "$dir/cluster" "$dir/alone" > /dev/null \
    && ok "two missing parts are made again, and no other" || bad "a run that goes on"
$python examples/scaling/encode.py "$build/tiny.kalm" "$corpus" "$dir/alone" --part 50 --bits 8 2>&1 | grep -q 'another model, corpus or option' \
    && ok "a folder of other options is refused" || bad "a folder of other options is taken"
# a line that is no JSON is named, on the cluster too
printf '{"_id": "a", "text": "b"}\n{"_id": "c"}\n' > "$dir/bad.jsonl"
for where in "" "--scheduler $address"; do
    $python examples/scaling/encode.py "$build/tiny.kalm" "$dir/bad.jsonl" "$dir/bad$where" $where 2>&1 | tail -n 1 | grep -q 'line 2 of the corpus has no key or no text' \
        && ok "a bad line is named${where:+, on the cluster}" || bad "a bad line is not named $where"
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
