#!/usr/bin/env python3
"""old_journal.py CORPUS QUERIES JOURNAL... - gives the lines of journals of kalm-eval --tables the "text" that they had before it was a SHA-256: a hash
of 16 digits (ev_plain_hash). CORPUS and QUERIES are lines of JSON with "_id", "text" and maybe "title"."""
import json
import struct
import sys

MASK = 2**64 - 1


def sip13(data, key=(0x6b616c6d2d657661, 0x6c2d6a6f75726e61)):
    """SipHash-1-3"""
    v = [key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573]

    def step(a, b, by, last):
        v[a] = v[a] + v[b] & MASK
        v[b] = (v[b] << by | v[b] >> 64 - by) & MASK ^ v[a]
        if last:
            v[a] = (v[a] << 32 | v[a] >> 32) & MASK

    def rounds(n):
        for _ in range(n):
            step(0, 1, 13, 1), step(2, 3, 16, 0), step(0, 3, 21, 0), step(2, 1, 17, 1)

    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(1)
        v[0] ^= word
    v[2] ^= 255
    rounds(3)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def texts(path):
    for line in open(path, encoding="utf-8"):
        record = json.loads(line)
        yield record["_id"], " ".join(filter(None, (record.get("title"), record["text"]))).encode()


docs, queries = dict(texts(sys.argv[1])), dict(texts(sys.argv[2]))
for path in sys.argv[3:]:
    lines = []
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")[17:]
        record = json.loads(line)
        if "text" in record:
            words = [sip13(queries[record["query"]] if record["t"] == "ranked" else b"")] + [sip13(docs[i]) for i in record["docs"]]
            line = line.replace(record["text"], "%016x" % sip13(b"".join(struct.pack("<Q", w) for w in words)))
        lines.append("%016x %s\n" % (sip13(line.encode()), line))
    open(path, "w", encoding="utf-8").write("".join(lines))
