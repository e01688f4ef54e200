#!/usr/bin/env python3
"""encode.py - encode a corpus in parts, on one machine or on a Dask cluster, with the same bytes as result.

    encode.py MODEL CORPUS.jsonl OUT                          this process alone
    encode.py MODEL CORPUS.jsonl OUT --scheduler tcp://HOST:8786     on the workers of a cluster

Workers import this file and kalm_rerank.py: have examples/scaling and examples/python in their PYTHONPATH, and the library where
kalm_rerank.py finds it. dask.sh is a cluster of two workers to try it with.

CORPUS has one JSON object a line, with a key ("_id" or "id") and a text ("text", and perhaps "title", which goes before it). OUT
is a folder, and gets for every 1000 lines (--part) two files:

    00000.docs      the encoded documents, one behind the other, each padded to 4 bytes, so that a mapped file opens without copying
    00000.tsv       for each: key, where it begins in the other file, its size

and manifest.json, which says what made them. Model, corpus and OUT must be seen by all workers under the same path (a network
file system, or an object store mounted as one); texts and documents then never pass the scheduler.

What may fail. A worker that dies loses the part at hand, and Dask gives it to another; a part appears under its name when it is
whole, and encoding it twice gives the same bytes. If everything stops, the same command goes on with the parts that are missing.
A folder of another model, corpus or option is refused. A part that kills three workers stops the run, and is named.
"""

import argparse
import hashlib
import json
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

_models = {}                           # of this process: path -> Reranker; a worker opens its model once


def model_of(path):
    from kalm_rerank import Reranker

    if path not in _models:
        _models[path] = Reranker(path, threads=1)
    return _models[path]


def text_of(line, number):
    """Key and text of one line of the corpus."""
    try:
        entry = json.loads(line)
        key, text, title = entry["_id"] if "_id" in entry else entry["id"], entry["text"], entry.get("title") or ""
        if not isinstance(text, str) or not isinstance(title, str) or not isinstance(key, (str, int)):
            raise TypeError("key and text must be strings")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError("line %d of the corpus has no key or no text: %s" % (number, e)) from None
    if any(c in str(key) for c in "\t\n\r"):
        raise ValueError("line %d of the corpus: the key has a tab or an end of line in it" % number)
    return str(key), (title + " " + text if title else text)


def encode_part(work, part):
    """Encode one part of the corpus into its two files; how many documents and bytes that made. Runs on a worker."""
    number, offset, lines = part
    name = os.path.join(work["out"], "%05d" % number)
    if os.path.exists(name + ".tsv"):  # it is the later of the two
        return number, 0, 0
    with open(work["corpus"], "rb") as f:
        f.seek(offset)
        entries = [text_of(f.readline(), number * work["part"] + i + 1) for i in range(lines)]
    mine = ".%s.%d.tmp" % (socket.gethostname(), os.getpid())
    at = 0
    with open(name + ".docs" + mine, "wb") as data, open(name + ".tsv" + mine, "w", encoding="utf-8") as index:
        for first in range(0, lines, 256):           # so that memory does not grow with the part
            some = entries[first:first + 256]
            docs = model_of(work["model"]).encode([text for _, text in some], ratio=work["ratio"], bits=work["bits"])
            for (key, _), doc in zip(some, docs):
                body = doc.tobytes()
                index.write("%s\t%d\t%d\n" % (key, at, len(body)))
                data.write(body + bytes(-len(body) % 4))
                at += len(body) + -len(body) % 4
        for f in (data, index):
            f.flush()
            os.fsync(f.fileno())
    os.replace(name + ".docs" + mine, name + ".docs")
    os.replace(name + ".tsv" + mine, name + ".tsv")
    return number, lines, at


def parts_of(corpus, size):
    """(number, offset, lines) for each part, and the corpus's SHA-256."""
    parts, offset, lines, begin, digest = [], 0, 0, 0, hashlib.sha256()
    with open(corpus, "rb") as f:
        for line in f:
            digest.update(line)
            offset += len(line)
            lines += 1
            if lines == size:
                parts.append((len(parts), begin, lines))
                begin, lines = offset, 0
    if lines:
        parts.append((len(parts), begin, lines))
    return parts, digest.hexdigest()


def check_manifest(out, manifest):
    """The folder is new, or of the same run."""
    path = os.path.join(out, "manifest.json")
    os.makedirs(out, exist_ok=True)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            if json.load(f) != manifest:
                sys.exit("encode.py: %s is of another model, corpus or option" % out)
        return
    if os.listdir(out):
        sys.exit("encode.py: %s has files in it, and no manifest.json" % out)
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        json.dump(manifest, f, indent=1, sort_keys=True)
    os.replace(path + ".tmp", path)


def encode_on_cluster(address, work, parts):
    from distributed import Client, KilledWorker, as_completed
    import encode                      # this file under the name by which workers know it

    with Client(address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)
        # the part is the key, so that a failure names it
        tasks = [client.submit(encode.encode_part, work, p, key="part-%05d" % p[0], pure=False) for p in parts]
        for task in as_completed(tasks):
            try:
                yield task.result()
            except KilledWorker as e:
                raise RuntimeError("a part ends the workers that work on it: %s" % e) from None


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model")
    p.add_argument("corpus")
    p.add_argument("out")
    p.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster that does the work")
    p.add_argument("--part", type=int, default=1000, metavar="N", help="documents in one part (default 1000)")
    p.add_argument("--ratio", type=int, default=4)
    p.add_argument("--bits", type=int, default=16, choices=(32, 16, 8, 4, 3, 2))
    a = p.parse_args()
    if a.part < 1 or a.ratio < 1:
        p.error("--part and --ratio are 1 or more")
    work = {"model": os.path.abspath(a.model), "corpus": os.path.abspath(a.corpus), "out": os.path.abspath(a.out),
            "part": a.part, "ratio": a.ratio, "bits": a.bits}
    try:
        parts, digest = parts_of(work["corpus"], a.part)
        check_manifest(a.out, {"model": "%016x" % model_of(work["model"]).encode("").fingerprint, "corpus": digest, "part": a.part,
                               "parts": len(parts), "ratio": a.ratio, "bits": a.bits})
        done = encode_on_cluster(a.scheduler, work, parts) if a.scheduler else (encode_part(work, p) for p in parts)
        documents = size = 0
        for count, (number, n, made) in enumerate(done, 1):
            documents, size = documents + n, size + made
            print("part %d, %d of %d" % (number, count, len(parts)), file=sys.stderr, flush=True)
    except (OSError, ValueError, RuntimeError) as e:
        sys.exit("encode.py: %s" % e)
    for name in os.listdir(a.out):     # of workers that died
        if name.endswith(".tmp"):
            os.remove(os.path.join(a.out, name))
    print("%d documents, %d bytes; %d parts in %s" % (documents, size, len(parts), a.out))


if __name__ == "__main__":
    main()
