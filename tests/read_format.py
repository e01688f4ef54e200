#!/usr/bin/env python3
"""read_format.py - a reader of model files and documents, written from docs/FORMAT.md alone: what the page says must be enough.

    read_format.py model FILE.kalm      checks every hash, prints the shape, the strings and the tensors
    read_format.py document FILE        checks a document's bytes and prints its header and the mean of its rows
"""
import struct
import sys

MASK = (1 << 64) - 1
A, B = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F
TYPES = ["f32", "f16", "bf16", "q8", "q4"]
SHAPE = "weights vocabulary hidden_size yes_id no_id eoi_id softcap reserved".split()
SIDE = ("layers mlp heads kv_heads head_dim window max_positions norm_eps query_scalar theta_sliding factor_sliding "
        "theta_full factor_full reserved").split()
FLOATS = {"softcap", "norm_eps", "query_scalar", "theta_sliding", "factor_sliding", "theta_full", "factor_full"}
STRINGS = "name document begin instruct query end system instruction".split()
KINDS = ("q k v o gate up down q_norm k_norm pre_attention_norm post_attention_norm pre_mlp_norm post_mlp_norm "
         "norm embed eoi head").split()


def mix(lane, number):
    lane = (lane ^ number) * A & MASK
    return lane ^ lane >> 29


def checksum(data):
    """The 64-bit hash of the page; slow, so for small pieces."""
    lanes = [(i + 1) * A & MASK for i in range(8)]
    padded = data + bytes(-len(data) % 64)
    for block in range(0, len(padded), 64):
        for i, number in enumerate(struct.unpack_from("<8Q", padded, block)):
            lanes[i] = mix(lanes[i], number)
    total = len(data) * B & MASK
    for lane in lanes:
        total = mix(total, lane) * B & MASK
    return total ^ total >> 32


def need(truth, text):
    if not truth:
        sys.exit("read_format: " + text)


def fields(data, at, names):
    out = {}
    for name in names:
        out[name] = struct.unpack_from("<f" if name in FLOATS else "<I", data, at)[0]
        at += 4
    return out, at


def model(data):
    need(data[:8] == b"\x89KALM\r\n\x1a", "no magic")
    version, count, size, _fingerprint, header_hash = struct.unpack_from("<IIQQQ", data, 8)
    need(version in (1, 2) and size == len(data), "version or size")
    front = bytearray(data[:64 + 32 * count])
    front[32:40] = bytes(8)
    need(checksum(bytes(front)) == header_hash, "hash of header and section table")
    sections = {}
    for i in range(count):
        kind, _zero, offset, length, wanted = struct.unpack_from("<IIQQQ", data, 64 + 32 * i)
        need(offset % 64 == 0 and offset + length <= size, "place of section %d" % kind)
        sections[kind] = data[offset:offset + length]
        if length < 1 << 20:               # the weights would take minutes in this language
            need(checksum(sections[kind]) == wanted, "hash of section %d" % kind)
    shape, at = fields(sections[1], 0, SHAPE)
    sides = []
    for _side in range(2):
        one, at = fields(sections[1], at, SIDE)
        sides.append(one)
    full = sections[1][at:at + sides[0]["layers"] + sides[1]["layers"]]
    print("weights", TYPES[shape["weights"]], "hidden", shape["hidden_size"], "vocabulary", shape["vocabulary"])
    for name, side in zip(("encoder", "decoder"), sides):
        print(name, "layers", side["layers"], "heads", side["heads"], "kv", side["kv_heads"], "head_dim", side["head_dim"])
    print("full", "".join(str(b) for b in full))
    for i, name in enumerate(STRINGS):
        offset, length = struct.unpack_from("<II", sections[2], 8 * i)
        print("string", name, repr(sections[2][offset:offset + length].decode("utf-8")))
    for i in range(len(sections[3]) // 64):
        kind, layer, kind_of, _rotated, rows, cols, offset, length = struct.unpack_from("<6IQQ", sections[3], 64 * i)
        need(offset % 64 == 0 and offset + length <= size, "place of a tensor")
        name = ("encoder.", "decoder.")[kind // 32] + ("%d." % layer if kind % 32 < 13 else "") + KINDS[kind % 32]
        print("tensor", name, TYPES[kind_of], rows, cols)


def half(two):
    return struct.unpack("<e", two)[0]


def document(data):
    need(data[:4] == b"KDOC", "no document")
    version, _model = struct.unpack_from("<IQ", data, 4)
    tokens, used, ratio, rows, width, bits, wanted = struct.unpack_from("<6IQ", data, 16)
    need(version == (2 if bits < 8 else 1) and rows == -(-used // ratio), "version or rows")
    need(checksum(data[:40] + bytes(8) + data[48:]) == wanted, "checksum")
    groups = -(-width // 64)
    row_bytes = {32: 4 * width, 16: 2 * width, 8: 2 * groups + width}.get(bits) or -(-width * bits // 8) + 1
    need(len(data) == 64 + rows * row_bytes, "size")
    if bits < 8:                           # to read these takes the model file
        need(all(data[64 + r * row_bytes] for r in range(rows)), "a row of no numbers")
        print("tokens", tokens, "ratio", ratio, "rows", rows, "width", width, "bits", bits, "transform %016x" % struct.unpack_from("<Q", data, 56))
        return
    total = 0.0
    for r in range(rows):
        row = data[64 + r * row_bytes:64 + (r + 1) * row_bytes]
        if bits == 32:
            values = struct.unpack("<%df" % width, row)
        elif bits == 16:
            values = struct.unpack("<%de" % width, row)
        else:
            numbers = struct.unpack_from("<%db" % width, row, 2 * groups)
            values = [half(row[2 * (i // 64):2 * (i // 64) + 2]) * q for i, q in enumerate(numbers)]
        total += sum(values)
    print("tokens", tokens, "ratio", ratio, "rows", rows, "width", width, "bits", bits, "mean %.4f" % (total / rows / width))


if __name__ == "__main__":
    need(len(sys.argv) == 3 and sys.argv[1] in ("model", "document"), __doc__)
    with open(sys.argv[2], "rb") as f:
        (model if sys.argv[1] == "model" else document)(f.read())
