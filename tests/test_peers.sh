#!/bin/sh
# test_peers.sh BUILD - tests/peers/peers.py with engines that only pretend: turns, disturbed ones, files, failures. No speed is
# asserted. Needs python3.
build=$1
dir=$build/tmp/peers
command -v python3 > /dev/null || { echo 'test_peers: no python3, left out'; echo '0 passed, 0 failed'; exit 0; }
rm -rf "$dir" && mkdir -p "$dir/bin"
passed=0 failed=0
expect() {
    what=$1
    shift
    if "$@" > "$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; head -n 5 "$dir/log"; fi
}
# kalm-bench: the yardstick of its third call is low
cat > "$dir/kalm-bench" <<'END'
#!/bin/sh
n=$(($(cat "$0.calls" 2> /dev/null || echo 0) + 1))
echo $n > "$0.calls"
peak=100
[ $n -ne 3 ] || peak=90
while [ "$1" != --json ]; do shift; done
printf '{"figures": [{"name": "encode_128", "threads": 1, "peak": %s}, {"name": "encode_128_tokens", "threads": 1, "value": %s}]}' $peak $((1000 + n)) > "$2"
END
# llama-bench reads the head of its model
cat > "$dir/llama-bench" <<'END'
#!/bin/sh
[ "$1" != --help ] || { echo '  -m, --model'; exit 1; }
[ "$(head -c 4 "$2")" = GGUF ] || { echo 'not GGUF' >&2; exit 1; }
[ "$(wc -c < "$2")" -gt 100000000 ] || exit 1
echo 'a line before'
echo '[{"build_commit": "abc", "samples_ts": [10.5, 12.5]}]'
END
cat > "$dir/bin/node" <<'END'
#!/bin/sh
[ "$2" = modules ] && [ "$(wc -c < "$3")" -gt 100000000 ] && [ "$4 $5" = '128 1' ] || { echo 'wrong arguments' >&2; exit 1; }
echo '{"tokens_per_second": 20, "version": "1.2.3"}'
END
# CTranslate2's package and a model of it
mkdir -p "$dir/library/ctranslate2" "$dir/ct2"
cat > "$dir/library/ctranslate2/__init__.py" <<'END'
__version__ = "4.5.6"


class Translator:
    def __init__(self, path, device, compute_type, inter_threads, intra_threads):
        assert (device, compute_type, inter_threads, intra_threads) == ("cpu", "int8", 1, 1)
        if path.endswith("broken"):
            raise RuntimeError("Unsupported model binary version")

    def score_batch(self, source, target):
        assert len(source) == len(target) == 1 and len(source[0]) == 128 and len(target[0]) == 1
        assert all(word.startswith("word") for word in source[0] + target[0])
END
python3 -c 'import json; print(json.dumps(["word%d" % i for i in range(3000)]))' > "$dir/ct2/shared_vocabulary.json"
cp -r "$dir/ct2" "$dir/broken"
chmod +x "$dir/kalm-bench" "$dir/llama-bench" "$dir/bin/node"
peers() { PATH=$dir/bin:$PATH python3 tests/peers/peers.py --kalm-bench "$dir/kalm-bench" --model m --out "$dir/out" "$@" > "$dir/text" 2> "$dir/err"; }
PATH=$PWD/$dir/bin:$PATH
expect 'a run' peers --tokens 128 --threads 1 --rounds 2 --llama-bench "$dir/llama-bench" --onnxruntime modules --commit here
expect 'figures' python3 - "$dir/out/peers.json" <<'END'
import json
import sys
r = json.load(open(sys.argv[1]))
f = {x["engine"]: x for x in r["figures"]}
assert r["turns"] == 8 and r["dropped"] == 2, (r["turns"], r["dropped"])
assert [e["version"] for e in r["engines"]] == ["here", "abc", "1.2.3"], r["engines"]
assert f["llama.cpp, Q8_0"]["best"] == 12.5 and f["llama.cpp, Q8_0"]["turns"] == 2
assert f["ONNX Runtime, dynamic int8"]["best"] == 20 and f["ONNX Runtime, dynamic int8"]["turns"] == 1
assert f["kalm_rerank.h, q8"]["best"] == 1006, f
END
expect 'the text' grep -q '2 of 8 turns left out' "$dir/out/peers.txt"
command -v gnuplot > /dev/null && expect 'a chart' grep -q '<svg' "$dir/out/peers.svg"
expect 'a run of CTranslate2' peers --tokens 128 --threads 1 --rounds 1 --ctranslate2 "$dir/ct2" --ctranslate2-library "$dir/library"
expect 'its version' grep -q '^CTranslate2, int8  *4.5.6$' "$dir/out/peers.txt"
# what goes wrong is said in one line
status() {
    want=$1
    shift
    peers "$@"
    got=$?
    expect "status $want of $*" test "$got" -eq "$want"
}
status 1 --tokens 128 --threads 1 --rounds 1 --llama-bench "$dir/missing"
expect 'a missing peer is named' grep -q "^peers.py: $dir/missing: " "$dir/err"
printf '#!/bin/sh\n[ "$1" != --help ] || exit 0\necho loading >&2\necho "no such model" >&2\nexit 3\n' > "$dir/failing" && chmod +x "$dir/failing"
status 1 --tokens 128 --threads 1 --rounds 1 --llama-bench "$dir/failing"
expect 'a failing peer is quoted' grep -qx "peers.py: $dir/failing: status 3: no such model" "$dir/err"
refused() {
    says=$1
    shift
    status 1 --tokens 128 --threads 1 --rounds 1 "$@"
    expect "CTranslate2: $says" grep -q "ctranslate2_rate.py: .*$says" "$dir/err"
    expect "CTranslate2: $says, in one line" test "$(wc -l < "$dir/err")" -eq 1
}
refused 'has no vocabulary' --ctranslate2 "$dir/bin" --ctranslate2-library "$dir/library"
refused 'no package ctranslate2 in' --ctranslate2 "$dir/ct2" --ctranslate2-library "$dir/ct2"
refused 'Unsupported model binary' --ctranslate2 "$dir/broken" --ctranslate2-library "$dir/library"
status 2 --tokens 128
status 2 --tokens 100 --llama-bench "$dir/llama-bench"
status 2 --tokens many --llama-bench "$dir/llama-bench"
status 2 --rounds 0 --llama-bench "$dir/llama-bench"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
