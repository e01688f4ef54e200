#!/usr/bin/env python3
"""texts.py - texts and models by which docs/rows/rows.py measures, made of what a Debian machine has.

    python3 docs/rows/texts.py calibrate OUT.tsv            # 512 descriptions of installed packages that the collection lacks
    python3 docs/rows/texts.py manual FOLDER [LANGUAGE]     # a collection in BEIR's layout: manual pages, and the line that says what each is
    python3 docs/rows/texts.py massive CHECKPOINT OUT       # the checkpoint with massive channels, and the same answers

Packages and pages are taken in the order of a hash of their names, so that a machine with the same packages makes the same files; rows.py
writes down a checksum of each."""
import array
import glob
import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import sys

PAGES = 150             # at most, of a collection
MASSIVE = (17, 81, 140)             # channels
TIMES = 30.0


def by_hash(names):
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def calibrate(out):
    with open("examples/tiny/eval/corpus.jsonl", encoding="utf-8") as f:
        known = {json.loads(line)["_id"] for line in f}
    with open("/var/lib/dpkg/status", encoding="utf-8") as f:
        records = f.read().split("\n\n")
    found = {}
    for record in records:
        name = re.search(r"^Package: (.*)$", record, re.M)
        text = re.search(r"^Description(?:-en)?: (.*(?:\n .*)*)", record, re.M)
        if not name or not text or name[1] in known:
            continue
        first, *rest = text[1].split("\n")
        body = " ".join(line.strip() for line in rest if line.strip() != ".")
        if len(body) >= 150:
            found[name[1]] = (first.replace("\t", " "), body.replace("\t", " "))
    with open(out, "w", encoding="utf-8") as f:
        for name in by_hash(found)[:512]:
            f.write("%s\t%s\n" % found[name])
    print("%d descriptions" % min(512, len(found)))


def plain(line):
    """A line of roff without its marks."""
    line = re.sub(r"\\f(?:\[\w*\]|\(..|.)", "", line)
    line = re.sub(r"\\s[-+]?\d+|\\[&/|,%]", "", line)
    for mark, text in (("\\*(Aq", "'"), ("\\-", "-"), ("\\(bu", ""), ("\\(em", "-"), ("\\(aq", "'"), ("\\(dq", '"'), ("\\e", "\\"), ("\\ ", " "), ("\\~", " ")):
        line = line.replace(mark, text)
    return re.sub(r"\\\(..|\\\[\w+\]|\\\*\S", "", line)


def read_page(path):
    """What a manual page says it is, and its description."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        lines = f.read().decode("utf-8", "replace").split("\n")
    section, number, name, body = "", 0, [], []
    for line in lines:
        heading = re.match(r'\.S[Hh]\s+"?([^"]*)', line)
        if heading:
            number += 1
            section = plain(heading[1]).strip().upper()
            continue
        if line.startswith((".B ", ".I ", ".BR ", ".IR ", ".Nm", ".Nd")):
            line = re.sub(r"^\.\w+ ?", "", line).replace('"', "")
        if line.startswith((".", "'")) or not line.strip():
            continue
        if number == 1:
            name.append(plain(line))
        elif section in ("DESCRIPTION", "BESCHREIBUNG"):
            body.append(plain(line).strip())
    title = " ".join(name)
    title = title.split(" - ", 1)[1] if " - " in title else ""
    return " ".join(title.split()), " ".join(" ".join(body).split())[:1500]


def manual(folder, language):
    paths = {}
    for section in "18":
        for path in glob.glob("/usr/share/man/%s/man%s/*" % (language, section)):
            if not os.path.islink(path) and not os.path.basename(path).startswith("gcloud"):     # thousands of pages that differ by a word
                paths[os.path.basename(path)] = path
    os.makedirs(os.path.join(folder, "qrels"), exist_ok=True)
    count, seen = 0, set()
    with open(os.path.join(folder, "corpus.jsonl"), "w", encoding="utf-8") as corpus, \
            open(os.path.join(folder, "queries.jsonl"), "w", encoding="utf-8") as queries, \
            open(os.path.join(folder, "qrels", "test.tsv"), "w", encoding="utf-8") as qrels:
        qrels.write("query-id\tcorpus-id\tscore\n")
        for name in by_hash(paths):
            title, body = read_page(paths[name])
            if len(title) < 15 or len(body) < 200 or title in seen or body[:100] in seen:
                continue
            seen |= {title, body[:100]}
            corpus.write(json.dumps({"_id": "d%d" % count, "title": "", "text": body}, ensure_ascii=False) + "\n")
            queries.write(json.dumps({"_id": "q%d" % count, "text": title}, ensure_ascii=False) + "\n")
            qrels.write("q%d\td%d\t1\n" % (count, count))
            count += 1
            if count == PAGES:
                break
    print("%d manual pages" % count)


def massive(checkpoint, out):
    """Three channels of the encoder's last norm times 30; the columns of the decoder's queries, keys and values that read them by 30, and the
    decoder's own norm before these times 30 as well. So rows have massive channels, and every answer stays what it was but for rounding."""
    os.makedirs(out, exist_ok=True)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(os.path.join(checkpoint, name), out)
    with open(os.path.join(checkpoint, "model.safetensors"), "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        head = f.read(size)
        data = bytearray(f.read())
    tensors, changed = json.loads(head), 0
    for name, tensor in tensors.items():
        norm = name == "model.encoder.norm.weight" or re.match(r"model\.decoder\.layers\.\d+\.pre_self_attn_layernorm\.weight$", name)
        if not norm and not re.match(r"model\.decoder\.layers\.\d+\.self_attn\.[qkv]_proj\.weight$", name):
            continue
        begin, end = tensor["data_offsets"]
        numbers, width = array.array("H", bytes(data[begin:end])), tensor["shape"][-1]
        for at in range(len(numbers)):
            if at % width in MASSIVE:
                x = struct.unpack("<f", struct.pack("<I", numbers[at] << 16))[0]
                x = TIMES * (1 + x) - 1 if norm else x / TIMES
                bits = struct.unpack("<I", struct.pack("<f", x))[0]
                numbers[at] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16
        data[begin:end] = numbers.tobytes()
        changed += 1
    if changed < 5:
        sys.exit("texts.py: %s has other tensors than the bundled model" % checkpoint)
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", size) + head + data)
    print("%d tensors changed" % changed)


def main():
    arguments = sys.argv[1:]
    if arguments[:1] == ["calibrate"] and len(arguments) == 2:
        return calibrate(arguments[1])
    if arguments[:1] == ["manual"] and len(arguments) in (2, 3):
        return manual(arguments[1], arguments[2] if len(arguments) > 2 else "")
    if arguments[:1] == ["massive"] and len(arguments) == 3:
        return massive(arguments[1], arguments[2])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
