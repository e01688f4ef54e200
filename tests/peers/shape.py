"""shape.py - the peers' models: files of the shape of KaLM-Reranker-V1-Nano's encoder with random weights, in the formats of
llama.cpp (GGUF, Q8_0 weights) and of ONNX Runtime (dynamically quantised int8). Only speed can be measured with them. Nothing but
Python's own library is needed: both formats are simple enough to be written by hand."""
import math
import random
import struct

HIDDEN, MLP, LAYERS, HEADS, HEAD_DIM, WINDOW, VOCABULARY = 640, 2048, 18, 4, 256, 512, 1024
POSITIONS = 1024
MATRICES = {                           # name: inputs, outputs; one head of keys and values
    "q": (HIDDEN, HEADS * HEAD_DIM), "k": (HIDDEN, HEAD_DIM), "v": (HIDDEN, HEAD_DIM), "o": (HEADS * HEAD_DIM, HIDDEN),
    "gate": (HIDDEN, MLP), "up": (HIDDEN, MLP), "down": (MLP, HIDDEN),
}


def random_page():
    rng = random.Random(1)
    return bytes((rng.randrange(255) - 127) & 255 for _ in range(1 << 16))


PAGE = random_page()


def fill(page, count):
    """count bytes, a page of them over and over: speed does not depend on which they are."""
    return (page * (count // len(page) + 1))[:count]


# ---- GGUF ---------------------------------------------------------------------------------------------------------------

def gguf_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(key, value):
    if isinstance(value, str):
        return gguf_text(key) + struct.pack("<I", 8) + gguf_text(value)
    if isinstance(value, float):
        return gguf_text(key) + struct.pack("<If", 6, value)
    return gguf_text(key) + struct.pack("<II", 4, value)


def write_gguf(path):
    """Architecture gemma3, the decoder-only sister of T5Gemma 2: the same layers, causal attention."""
    values = {
        "general.architecture": "gemma3", "general.name": "Nano-shaped, random",
        "gemma3.context_length": POSITIONS, "gemma3.embedding_length": HIDDEN, "gemma3.block_count": LAYERS,
        "gemma3.feed_forward_length": MLP, "gemma3.attention.head_count": HEADS, "gemma3.attention.head_count_kv": 1,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6, "gemma3.attention.key_length": HEAD_DIM,
        "gemma3.attention.value_length": HEAD_DIM, "gemma3.attention.sliding_window": WINDOW,
        "gemma3.rope.freq_base": 1000000.0, "gemma3.vocab_size": VOCABULARY, "tokenizer.ggml.model": "no_vocab",
    }
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    norms = {"attn_norm": HIDDEN, "attn_q_norm": HEAD_DIM, "attn_k_norm": HEAD_DIM, "post_attention_norm": HIDDEN,
             "ffn_norm": HIDDEN, "post_ffw_norm": HIDDEN}
    tensors = [("token_embd.weight", (HIDDEN, VOCABULARY)), ("output_norm.weight", (HIDDEN,))]
    for layer in range(LAYERS):
        tensors += [("blk.%d.%s.weight" % (layer, names[n]), MATRICES[n]) for n in MATRICES]
        tensors += [("blk.%d.%s.weight" % (layer, n), (norms[n],)) for n in norms]
    # Q8_0: blocks of 32 bytes, a half-precision scale before each
    scale = struct.pack("<e", 0.0005)
    blocks = b"".join(scale + PAGE[i:i + 32] for i in range(0, len(PAGE), 32))
    infos, data, at = b"", [], 0
    for name, dims in tensors:
        count = math.prod(dims)
        if len(dims) == 1:             # float32
            kind, body = 0, struct.pack("<f", 1.0) * count
        else:
            kind, body = 8, fill(blocks, count // 32 * 34)
        infos += gguf_text(name) + struct.pack("<I", len(dims)) + struct.pack("<%dQ" % len(dims), *dims)
        infos += struct.pack("<IQ", kind, at)
        body += bytes(-len(body) % 32)
        data.append(body)
        at += len(body)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(gguf_value(k, v) for k, v in values.items()) + infos
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32))
        for body in data:
            f.write(body)


# ---- ONNX: protocol buffers ---------------------------------------------------------------------------------------------

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


FLOAT, INT8, INT64 = 1, 3, 7


class Graph:
    """Nodes and constants of a graph, in order."""
    def __init__(self):
        self.body, self.count = [], 0

    def node(self, op, inputs, domain="", **attributes):
        self.count += 1
        out = "t%d" % self.count
        body = b"".join(field(1, i) for i in inputs) + field(2, out) + field(4, op)
        for name, value in attributes.items():
            a = field(1, name)
            if isinstance(value, float):
                a += field(2, value) + field(20, 1)
            elif isinstance(value, int):
                a += field(3, value) + field(20, 2)
            else:
                a += b"".join(field(8, i) for i in value) + field(20, 7)
            body += field(5, a)
        self.body.append(field(1, body + (field(7, domain) if domain else b"")))
        return out

    def constant(self, kind, dims, raw):
        self.count += 1
        name = "c%d" % self.count
        self.body.append(field(5, b"".join(field(1, d) for d in dims) + field(2, kind) + field(8, name) + field(9, raw)))
        return name

    def floats(self, dims, numbers):
        return self.constant(FLOAT, dims, struct.pack("<%df" % len(numbers), *numbers))

    def shape(self, *dims):
        return self.constant(INT64, [len(dims)], struct.pack("<%dq" % len(dims), *dims))


def port(number, name, dims):
    shape = b"".join(field(1, field(2, d) if isinstance(d, str) else field(1, d)) for d in dims)
    return field(number, field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, shape))))


def write_onnx(path):
    """x [n][HIDDEN], the rows of one passage, to the same shape: ONNX Runtime's own fused operations wherever it has one. The window
    of attention is left out, so every token attends to all: up to 256 tokens that is the same work."""
    g, ms = Graph(), "com.microsoft"
    angles = [p / 10000.0 ** (2.0 * i / HEAD_DIM) for p in range(POSITIONS) for i in range(HEAD_DIM // 2)]
    cosines = g.floats([POSITIONS, HEAD_DIM // 2], [math.cos(a) for a in angles])
    sines = g.floats([POSITIONS, HEAD_DIM // 2], [math.sin(a) for a in angles])
    start = g.shape(0)
    gains = {n: g.floats([n], [1.0] * n) for n in (HIDDEN, HEAD_DIM)}
    scale = g.floats([1], [HEAD_DIM ** -0.5])
    heads = {1: g.shape(1, -1, 1, HEAD_DIM), HEADS: g.shape(1, -1, HEADS, HEAD_DIM)}
    joined = g.shape(-1, HEADS * HEAD_DIM)

    def norm(x, width):
        return g.node("SimplifiedLayerNormalization", [x, gains[width]], axis=-1, epsilon=1e-6)

    def times(x, what):
        inputs, outputs = MATRICES[what]
        w = g.constant(INT8, [inputs, outputs], fill(PAGE, inputs * outputs))
        return g.node("DynamicQuantizeMatMul", [x, w, g.floats([outputs], [0.0005] * outputs)], ms)

    def split(x, count):               # [n][count * HEAD_DIM] to [1][count][n][HEAD_DIM]
        return g.node("Transpose", [g.node("Reshape", [x, heads[count]])], perm=[0, 2, 1, 3])

    def rotary(x):
        return g.node("RotaryEmbedding", [x, start, cosines, sines], ms, interleaved=0)

    x = "x"
    for _ in range(LAYERS):
        a = norm(x, HIDDEN)
        q = g.node("Mul", [rotary(norm(split(times(a, "q"), HEADS), HEAD_DIM)), scale])
        k = rotary(norm(split(times(a, "k"), 1), HEAD_DIM))
        v = split(times(a, "v"), 1)
        p = g.node("Softmax", [g.node("MatMul", [q, g.node("Transpose", [k], perm=[0, 1, 3, 2])])], axis=-1)
        a = g.node("Reshape", [g.node("Transpose", [g.node("MatMul", [p, v])], perm=[0, 2, 1, 3]), joined])
        x = g.node("Add", [x, norm(times(a, "o"), HIDDEN)])
        a = norm(x, HIDDEN)
        h = g.node("Mul", [g.node("FastGelu", [times(a, "gate")], ms), times(a, "up")])
        x = g.node("Add", [x, norm(times(h, "down"), HIDDEN)])
    graph = b"".join(g.body) + field(2, "encoder") + port(11, "x", ["n", HIDDEN]) + port(12, x, ["n", HIDDEN])
    with open(path, "wb") as f:
        f.write(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17)) + field(8, field(1, ms) + field(2, 1)))
