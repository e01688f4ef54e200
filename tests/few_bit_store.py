#!/usr/bin/env python3
"""few_bit_store.py - a store of rows of 4 and 2 bits a number: filled, opened, ranked from, and damaged on purpose. Every damage must be
found by kalm-index --verify (--again where the bytes are some document's) or refused with a sentence where the document is used; no
command may crash; what is not damaged keeps its scores.

    python3 tests/few_bit_store.py BUILD [ROWS] [--json FILE]     # ROWS: 3000 in make test, a million in make few-bit-store

Prints what it measured, and ends with "N passed, N failed". --json leaves the figures as docs/speed has them."""
import datetime
import json
import os
import random
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

MASK = (1 << 64) - 1
QUERY = "play chess against the computer"
passed = failed = 0
figures = []


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED: %s" % what)
    return good


def hash64(data):
    """kalm__hash of src/base.h"""
    a, b = 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f
    lanes = [(i + 1) * a & MASK for i in range(8)]
    padded = data + b"\0" * (-len(data) % 64)
    for i, (word,) in enumerate(struct.iter_unpack("<Q", padded)):
        x = (lanes[i % 8] ^ word) * a & MASK
        lanes[i % 8] = x ^ x >> 29
    total = len(data) * b & MASK
    for lane in lanes:
        x = (total ^ lane) * a & MASK
        total = (x ^ x >> 29) * b & MASK
    return total ^ total >> 32


def sealed(data):
    """A document whose checksum is right again (src/documents.h)."""
    data = bytearray(data)
    data[40:48] = bytes(8)
    data[40:48] = struct.pack("<Q", hash64(bytes(data)))
    return bytes(data)


class Ran:
    """A command that has ended: status, output, seconds by the clock and of the processor, megabytes that it held at most."""
    def __init__(self, *words):
        with tempfile.TemporaryFile("w+b") as out:
            begun = time.monotonic()
            program = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            done, self.memory = 0, 0
            while not done:            # getrusage would count what this process held when it became the command
                try:
                    with open("/proc/%d/status" % program.pid, encoding="latin-1") as f:
                        held = re.search(r"VmHWM:\s*(\d+)", f.read())
                    self.memory = int(held[1]) / 1024 if held else self.memory
                except OSError:
                    pass
                time.sleep(min(.02, .001 + (time.monotonic() - begun) / 50))
                done, status, used = os.wait4(program.pid, os.WNOHANG)
            program.returncode = status        # it must not be waited for again
            self.seconds = time.monotonic() - begun
            self.processor = used.ru_utime + used.ru_stime
            self.signal, self.status = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, os.WEXITSTATUS(status)
            out.seek(0)
            self.text = out.read().decode("utf-8", "replace")
        check(self.signal == 0 and self.status in (0, 1), "signal %d, status %d: %s\n%s" % (self.signal, self.status, " ".join(words), self.text[-500:]))

    def refuses(self, words=""):
        """One sentence, and what it must say."""
        return self.status == 1 and 10 < len(self.text) and re.search(words, self.text) is not None


class Store:
    """A store and what it answers while it is whole."""
    def __init__(self, build, folder, bits, rows):
        self.index, self.rerank, self.model = (os.path.join(build, name) for name in ("kalm-index", "kalm-rerank", "tiny.kalm"))
        self.bits, self.folder, self.path = bits, folder, os.path.join(folder, "store%d.db" % bits)
        made = Ran(self.index, self.model, self.path, os.path.join(folder, "texts.jsonl"), "--ratio", "1", "--bits", str(bits), "--quiet")
        check(made.status == 0, made.text)
        with sqlite3.connect(self.path) as db:
            self.keys = [key for (key,) in db.execute("SELECT key FROM documents ORDER BY number")]
            self.rows, = db.execute("SELECT sum(tokens_used) FROM documents").fetchone()
        check(self.rows >= rows, "%d rows instead of %d" % (self.rows, rows))
        self.sample = random.sample(self.keys, min(100, len(self.keys)))
        self.want = self.margins(self.path, self.sample)
        check(len(self.want) == len(self.sample), "the sample cannot be ranked")
        for name, value, unit in (("rows", self.rows, "rows"), ("documents", len(self.keys), "documents"), ("fill", made.seconds, "s"),
                                  ("fill_processor", made.processor, "s"), ("fill_memory", made.memory, "MB"),
                                  ("file", os.path.getsize(self.path) / 1e6, "MB")):
            self.figure(name, value, unit)

    def figure(self, name, value, unit):
        figures.append({"name": "bits%d_%s" % (self.bits, name), "threads": os.cpu_count(), "value": round(value, 4), "unit": unit})
        print("%d bits: %-20s %12.3f %s" % (self.bits, name, value, unit), flush=True)

    def verify(self, path, *more):
        return Ran(self.index, self.model, path, "--verify", *more)

    def rank(self, path, keys):
        names = os.path.join(self.folder, "names")
        with open(names, "w", encoding="utf-8") as f:
            f.write("".join(key + "\n" for key in keys))
        return Ran(self.rerank, self.model, QUERY, "--store", path, "--candidates", names, "--json")

    def margins(self, path, keys):
        ran = self.rank(path, keys)
        return {x["id"]: x["margin"] for x in json.loads(ran.text)["results"]} if ran.status == 0 else {}

    def measure(self):
        checked, model = Ran(self.index, self.path, "--verify"), self.verify(self.path)
        check(checked.status == 0 and model.status == 0, checked.text + model.text)
        self.figure("verify", checked.seconds, "s")
        times = sorted((self.rank(self.path, random.sample(self.keys, len(self.sample))) for _ in range(5)), key=lambda x: x.seconds)
        self.figure("rank_100", 1000 * times[2].seconds, "ms")
        self.figure("rank_100_processor", 1000 * times[2].processor, "ms")
        self.figure("rank_100_memory", times[2].memory, "MB")
        one = sorted((self.rank(self.path, self.sample[:1]) for _ in range(5)), key=lambda x: x.seconds)
        self.figure("rank_1", 1000 * one[2].seconds, "ms")
        whole = Ran(self.rerank, self.model, QUERY, "--store", self.path, "--top-k", "10", "--json")
        check(whole.status == 0 and len(json.loads(whole.text)["results"]) == 10, "ranking all of the store")
        self.figure("rank_all", whole.seconds, "s")
        self.figure("rank_all_memory", whole.memory, "MB")

    # ---- damage ----

    def copy(self):
        path = os.path.join(self.folder, "damaged.db")
        shutil.copyfile(self.path, path)
        return path

    def change(self, changes):
        """A copy in which the documents of some keys are replaced: key -> what its bytes become. Keys are changed one after the other."""
        path = self.copy()
        db = sqlite3.connect(path)
        with db:
            for key, to in changes.items():
                old, = db.execute("SELECT document FROM documents WHERE key = ?", (key,)).fetchone()
                db.execute("UPDATE documents SET document = ? WHERE key = ?", (to(bytes(old)), key))
        db.close()
        return path

    def others(self, path, keys, what):
        """Undamaged documents keep their scores."""
        rest = [key for key in self.sample if key not in keys][:40]
        got = self.margins(path, rest)
        check(got == {key: self.want[key] for key in rest}, "%d bits, %s: others have other scores" % (self.bits, what))

    def named(self, what, changes, words="", used=None):
        """Damage that --verify names for each key and no other, and that whoever ranks the document is told."""
        path, keys = self.change(changes), set(changes)
        ran = self.verify(path)
        said = set(re.findall(r"row \d+, '([^']*)': ", ran.text))
        check(ran.refuses(words) and said == keys, "%d bits, %s: --verify says\n%s" % (self.bits, what, ran.text[-600:]))
        check(Ran(self.index, path, "--verify").status == 1, "%d bits, %s: --verify without a model" % (self.bits, what))
        for key in list(keys)[:3]:
            ran = self.rank(path, [key])
            check(ran.refuses(used or words), "%d bits, %s: ranking it says %d\n%s" % (self.bits, what, ran.status, ran.text[-300:]))
        self.others(path, keys, what)

    def damage(self):
        some = random.sample(self.sample, 20)
        flip = lambda data: (lambda at: data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1:])(random.randrange(len(data)))
        self.named("a bit", {key: flip for key in some})
        self.named("a bit of the rows", {key: lambda data: data[:70] + bytes([data[70] ^ 4]) + data[71:] for key in some[:4]}, "checksum")
        self.named("cut off", {key: lambda data: data[:random.randrange(len(data))] for key in some[:8]})
        self.named("longer", {some[0]: lambda data: data + b"x", some[1]: lambda data: bytes(1 << 20), some[2]: lambda data: b""})
        self.named("no blob", {some[0]: lambda data: "text", some[1]: lambda data: 17}, "another type than a blob")
        field = lambda at, size, value: lambda data: sealed(data[:at] + struct.pack("<Q", value & MASK)[:size] + data[at + size:])
        self.named("another model", {key: field(8, 8, 12345) for key in some[:3]}, "model")
        self.named("another transform", {key: field(56, 8, 12345) for key in some[:3]}, "transform")
        self.named("no transform", {some[0]: field(56, 8, 0)}, "transform 0000")
        self.named("other bits", {some[0]: field(36, 4, 6 - self.bits), some[1]: field(36, 4, 3), some[2]: field(36, 4, 7)})
        self.named("other rows", {some[0]: field(28, 4, 0xffffffff), some[1]: field(28, 4, 0), some[2]: field(24, 4, 2)})
        self.named("other width", {some[0]: field(32, 4, 193), some[1]: field(32, 4, 0xffffffff)})
        row = 64 + 192 * self.bits // 8 + 1
        self.named("a row that none is", {some[0]: lambda data: sealed(data[:row] + b"\0" + data[row + 1:])}, "row 1 .*not finite")
        with sqlite3.connect(self.path) as db:
            long = {}
            for key, tokens in db.execute("SELECT key, tokens_used FROM documents"):
                long.setdefault(tokens, []).append(key)
            document = lambda key: bytes(db.execute("SELECT document FROM documents WHERE key = ?", (key,)).fetchone()[0])
            lengths = sorted(long)
            one, two = long[lengths[0]][0], long[lengths[-1]][0]
            first, second = document(one), document(two)
            self.swapped(one, two, first, second)
            alike = next(keys for keys in long.values() if len(keys) > 1)[:2]
            whole = {alike[0]: document(alike[1]), alike[1]: document(alike[0])}
        self.whole_but_wrong(whole)
        self.meta()
        self.file()

    def swapped(self, one, two, first, second):
        path = self.change({one: lambda data: second, two: lambda data: first})
        ran = self.verify(path)
        check(ran.refuses("its tokens are not those") and set(re.findall(r"row \d+, '([^']*)': ", ran.text)) == {one, two},
              "%d bits, changed places: --verify says\n%s" % (self.bits, ran.text[-600:]))
        self.others(path, {one, two}, "changed places")

    def whole_but_wrong(self, changes):
        """Bytes that are some document's: places changed with one of the same length, and rows out of nowhere. They rank, and --again finds
        them."""
        forged = [key for key in self.sample if key not in changes][:4]
        changes = {key: lambda data, to=to: to for key, to in changes.items()}
        for key in forged:
            changes[key] = lambda data: sealed(data[:64] + bytes(random.randrange(1, 256) for _ in data[64:]))
        path = self.change(changes)
        check(len(self.margins(path, list(changes))) == len(changes), "%d bits: forged rows do not rank" % self.bits)
        self.others(path, changes, "forged")
        if self.rows > 100000 and self.bits == 4:
            return                     # it encodes all of the store again: once is enough
        ran = self.verify(path, "--again")
        check(ran.refuses("not what its text gives") and set(re.findall(r"row \d+, '([^']*)': ", ran.text)) == set(changes),
              "%d bits, forged: --again says\n%s" % (self.bits, ran.text[-600:]))
        self.figure("again", ran.seconds, "s")

    def meta(self):
        for change, words in (("value = '0123456789abcdef' WHERE name = 'fingerprint'", "model|fingerprint"),
                              ("value = '0123456789abcdef' WHERE name = 'transform'", "transform"),
                              ("value = %d WHERE name = 'bits'" % (6 - self.bits), "bits"), ("value = 7 WHERE name = 'bits'", "bits"),
                              ("value = 2 WHERE name = 'ratio'", "ratio"), ("value = 191 WHERE name = 'width'", "")):
            path = self.copy()
            db = sqlite3.connect(path)
            with db:
                db.execute("UPDATE meta SET " + change)
            db.close()
            check(self.verify(path).refuses(words), "%d bits, meta %s: --verify" % (self.bits, change))
            ran = self.rank(path, self.sample[:5])
            check(ran.refuses(words), "%d bits, meta %s: ranking says %s" % (self.bits, change, ran.text[-300:]))

    def unharmed(self, path, what):
        """Of a store damaged anywhere: it is refused, or the scores are what they were."""
        found = self.verify(path)
        ran = self.rank(path, self.sample[:20])
        if ran.status == 0:
            got = {x["id"]: x["margin"] for x in json.loads(ran.text)["results"]}
            check(found.status == 1 or got == {key: self.want[key] for key in self.sample[:20]}, "%d bits, %s: not found, other scores" % (self.bits, what))
            check(all(self.want.get(key) == margin for key, margin in got.items()), "%d bits, %s: other scores" % (self.bits, what))
        else:
            check(ran.refuses() and found.status == 1, "%d bits, %s: ranking says %s; --verify %d" % (self.bits, what, ran.text[-300:], found.status))

    def file(self):
        size = os.path.getsize(self.path)
        for at in (0, 50, 4096, size // 10, size // 2, size - 4096, size - 1):
            path = self.copy()
            os.truncate(path, at)
            found = self.verify(path).status == 1 or at == size - 1            # SQLite takes the last byte for 0, which it may have been
            check(found, "%d bits, cut at %d: --verify" % (self.bits, at))
            self.unharmed(path, "cut at %d" % at)
        for i in range(12):
            path = self.copy()
            with open(path, "r+b") as f:
                for _ in range(1 if i < 6 else 30):
                    at = random.randrange(size)
                    f.seek(at)
                    old = f.read(1)
                    f.seek(at)
                    f.write(bytes([old[0] ^ 1 << random.randrange(8)]))
            self.unharmed(path, "bits of the file, %d" % i)


def make_texts(path, rows):
    """Texts of more than so many tokens: descriptions of packages, each time begun at another word."""
    with open("examples/tiny/eval/corpus.jsonl", encoding="utf-8") as f:
        texts = [json.loads(line)["text"].split() for line in f]
    with open(path, "w", encoding="utf-8") as f:
        for i in range(rows // 66 + 1):
            words, turn = texts[i % len(texts)], 11 * (i // len(texts))
            turn %= len(words) or 1
            f.write(json.dumps({"_id": "d%d" % i, "text": " ".join(words[turn:] + words[:turn])}) + "\n")


def main():
    arguments = sys.argv[1:]
    out = arguments[arguments.index("--json") + 1] if "--json" in arguments else None
    if out:
        del arguments[arguments.index("--json"):][:2]
    build, rows = arguments[0], int(arguments[1]) if len(arguments) > 1 else 3000
    folder = tempfile.mkdtemp(dir=os.path.join(build, "tmp"))
    seed = random.randrange(1 << 30)
    print("seed %d" % seed)
    random.seed(seed)
    try:
        make_texts(os.path.join(folder, "texts.jsonl"), rows)
        for bits in (4, 2):
            store = Store(build, folder, bits, rows)
            store.measure()
            store.damage()
            os.remove(store.path)
    finally:
        shutil.rmtree(folder)
    if out:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            name = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
        head = {"machine": "%s, %d cores" % (name[1] if name else "unknown", os.cpu_count()), "load": "%.2f" % os.getloadavg()[0],
                "commit": subprocess.run(["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout.strip(),
                "date": datetime.date.today().isoformat(), "flags": "those of the Makefile", "command": "make few-bit-store"}
        with open(out, "w", encoding="utf-8") as f:
            f.write("{\n%s,\n \"figures\": [\n%s\n ]\n}\n" % (",\n".join(" %s: %s" % (json.dumps(k), json.dumps(v)) for k, v in head.items()),
                                                              ",\n".join("  " + json.dumps(x) for x in figures)))
    print("%d passed, %d failed" % (passed, failed))
    return failed > 0 or not passed


if __name__ == "__main__":
    sys.exit(main())
