#!/bin/sh
# test_peers.sh BUILD - tests/peers/peers.py with engines that only pretend: turns, disturbed ones, files, failures. No speed is
# asserted. Needs python3, and python3-numpy for CTranslate2's model.
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
# CTranslate2's package needs numpy, so does making its model
numpy=
for p in python3 /usr/bin/python3; do "$p" -c 'import numpy' 2> /dev/null && numpy=$p && break; done
# its package here: what its description of a model is given is checked, and that every product has its shape
mkdir -p "$dir/library/ctranslate2" "$dir/broken/ctranslate2"
cat > "$dir/library/ctranslate2/__init__.py" <<'END'
import os
from types import SimpleNamespace as Any

__version__ = "4.5.6"


class TransformerEncoderSpec(Any):
    def __init__(self, **kind):
        assert (kind["num_layers"], kind["num_heads"], kind["num_heads_kv"], kind["head_dim"]) == (18, 4, 1, 256)
        self.embeddings, self.layer_norm = [Any()], Any()
        self.layer = [Any(self_attention=Any(linear=[Any(), Any()], q_norm=Any(), k_norm=Any()), input_layer_norm=Any(), post_attention_layer_norm=Any(),
                          pre_feedforward_layer_norm=Any(), post_feedforward_layer_norm=Any(), ffn=Any(linear_0=Any(), linear_0_noact=Any(), linear_1=Any()))
                      for _ in range(kind["num_layers"])]


class TransformerEncoderModelSpec:
    def __init__(self, encoder):
        self.encoder, self.config = encoder, Any()

    def register_vocabulary(self, tokens):
        assert len(set(tokens)) == self.encoder.embeddings[0].weight.shape[0] == 1024

    def validate(self):
        for layer in self.encoder.layer:
            a, f = layer.self_attention, layer.ffn
            shapes = [w.weight.shape for w in (a.linear[0], a.linear[1], f.linear_0, f.linear_0_noact, f.linear_1)]
            assert shapes == [(1536, 640), (640, 1024), (2048, 640), (2048, 640), (640, 2048)], shapes
        assert [i for i, layer in enumerate(self.encoder.layer) if layer.self_attention.sliding_window == 0] == [5, 11, 17]

    def optimize(self, kind):
        assert kind == "int8"

    def save(self, folder):
        with open(os.path.join(folder, "model.bin"), "w") as f:
            f.write("made")


class Encoder:
    def __init__(self, path, device, compute_type, inter_threads, intra_threads):
        assert (device, compute_type, inter_threads, intra_threads) == ("cpu", "int8", 1, 1)
        assert os.path.exists(os.path.join(path, "model.bin"))

    def forward_batch(self, passages):
        assert len(passages) == 1 and len(passages[0]) == 128 and 0 < min(passages[0]) and max(passages[0]) < 1024


specs = Any(TransformerEncoderSpec=TransformerEncoderSpec, TransformerEncoderModelSpec=TransformerEncoderModelSpec, Activation=Any(GELUTanh=1))
END
sed 's/^__version__.*/__version__ = "4.0.0"/; s/^    def optimize.*/&\n        raise ValueError("no int8 here")/' "$dir/library/ctranslate2/__init__.py" > "$dir/broken/ctranslate2/__init__.py"
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
if [ -n "$numpy" ]; then
    expect 'a run of CTranslate2' peers --tokens 128 --threads 1 --rounds 1 --ctranslate2 "$dir/library" --ctranslate2-python "$numpy"
    expect 'its version' grep -q '^CTranslate2, int8  *4.5.6$' "$dir/out/peers.txt"
else echo 'test_peers: no Python with numpy, CTranslate2 left out'; fi
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
refused 'no package ctranslate2 in' --ctranslate2 "$dir/bin"
[ -z "$numpy" ] || refused 'CTranslate2 4.0.0: no int8 here' --ctranslate2 "$dir/broken" --ctranslate2-python "$numpy"
status 2 --tokens 128
status 2 --tokens 100 --llama-bench "$dir/llama-bench"
status 2 --tokens many --llama-bench "$dir/llama-bench"
status 2 --rounds 0 --llama-bench "$dir/llama-bench"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
