"""test_python.py SITE MODEL.kalm - the Python module, run by test_python.sh. SITE has the wheel, unpacked; CC is a C compiler."""

import ast
import base64
import copy
import csv
import ctypes
import glob
import hashlib
import math
import mmap
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(TOP, "examples", "python"))
import kalm_rerank  # noqa: E402
from kalm_rerank import CrossEncoder, Document, KalmArgumentError, KalmError, Reranker  # noqa: E402
from python_adapters import Adapters  # noqa: E402

SITE, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
(LIBRARY,) = glob.glob(os.path.join(SITE, "kalm_rerank", "*kalm_rerank.[sd][oyl]*"))
TEXTS = ["GIMP is an editor for pictures and photos.", "vi is a text editor.", "A game of chess.", "Grüße, 你好 😀", ""]
QUERY = "program to retouch photos"
LONG = ["a game of chess, number %d, played against the computer " % i * 20 for i in range(200)]     # half a second of work


def programs(text):
    """Run a Python program that finds the module and has MODEL; its standard output. It must end by itself and well."""
    head = "import sys; sys.path.insert(0, %r); from kalm_rerank import *; MODEL = %r; LONG = %r\n" % (sys.path[0], MODEL, LONG[:100])
    done = subprocess.run([sys.executable, "-W", "error", "-c", head + text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          env=dict(os.environ, KALM_RERANK_LIBRARY=LIBRARY))
    if done.returncode:
        raise AssertionError("status %d: %s" % (done.returncode, done.stdout.decode()))
    return done.stdout.decode()


def ranked_in_another_process(documents):
    with Reranker(MODEL, library=LIBRARY, threads=1) as model:
        return model.rank(QUERY, documents)[0]["corpus_id"]


class Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = Reranker(MODEL, library=LIBRARY, threads=2)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def margins(self, texts, query=QUERY, model=None, **options):
        return [float(m) for m in (model or self.model).predict([(query, t) for t in texts], raw=True, **options)]

    # ---- parts of a model ----

    def test_parts_of_a_model(self):
        texts = ["a chess program", "an image viewer"]
        docs = self.model.encode(texts)
        want = self.model.rank(QUERY, docs)
        with Reranker(MODEL.replace(".kalm", "-encoder.kalm"), library=LIBRARY, threads=1) as encoder:
            self.assertEqual([bytes(d) for d in encoder.encode(texts)], [bytes(d) for d in docs])
            with self.assertRaisesRegex(KalmError, "encoder alone") as caught:
                encoder.rank(QUERY, docs)
            self.assertEqual(caught.exception.name, "INCOMPLETE")
        with Reranker(MODEL.replace(".kalm", "-decoder.kalm"), library=LIBRARY, threads=1) as decoder:
            self.assertEqual(decoder.rank(QUERY, docs), want)
            for call in (lambda: decoder.encode(texts), lambda: decoder.rank(QUERY, texts)):
                with self.assertRaisesRegex(KalmError, "decoder alone"):
                    call()

    # ---- the binding is what kalm_rerank.h says ----

    def test_structs_are_those_of_the_header(self):
        inside = {"alloc": "allocator.alloc", "release": "allocator.release", "user": "allocator.user"}
        lines, want = [], []
        for name in ("error", "text", "config", "params", "model_info", "doc_info", "cache_info", "score"):
            struct = getattr(kalm_rerank, "_" + "".join(part.title() for part in name.split("_")))
            fields = [f for f in struct._fields_ if f[0] != "later"]
            for field, _ in fields:
                member = inside.get(field, field) if name == "config" else field
                lines.append("(int)offsetof(kalm_%s, %s), (int)sizeof ((kalm_%s *)0)->%s," % (name, member, name, member))
                want += [getattr(struct, field).offset, getattr(struct, field).size]
            lines.append("(int)sizeof(kalm_%s)," % name)
            later = struct.later.size if len(fields) < len(struct._fields_) else 0
            want.append(ctypes.sizeof(struct) - later)
        source = '#include "kalm_rerank.h"\n#include <stdio.h>\nstatic const int n[] = { %s };\n' \
                 'int main(void) { size_t i; for (i = 0; i < sizeof n / sizeof *n; i++) printf("%%d ", n[i]); return 0; }\n' % "\n".join(lines)
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "sizes")
            subprocess.run(os.environ.get("CC", "cc").split() + ["-I" + TOP, "-x", "c", "-", "-o", program], input=source.encode(), check=True)
            self.assertEqual([int(n) for n in subprocess.run([program], stdout=subprocess.PIPE, check=True).stdout.split()], want)

    def test_results_are_those_of_the_header(self):
        with open(os.path.join(TOP, "kalm_rerank.h"), encoding="utf-8") as file:
            enum = re.search(r"typedef enum kalm_result \{(.*?)\} kalm_result;", file.read(), re.S).group(1)
        self.assertEqual(re.findall(r"^\s*KALM_(\w+)", enum, re.M), kalm_rerank._RESULTS)

    def test_about(self):
        self.assertRegex(kalm_rerank.version(), r"^\d+\.\d+\.\d+$")
        self.assertEqual(Reranker.kernels()[-1], "scalar")
        self.assertEqual((self.model.name, self.model.weights, self.model.closed), ("tiny", "q8", False))
        self.assertGreaterEqual(self.model.max_tokens, 1024)
        self.assertGreater(self.model.working_memory, 100000)
        self.assertIn(self.model.name, repr(self.model))
        self.model.verify()

    def test_wheel(self):
        with open(os.path.join(TOP, "examples", "python", "kalm_rerank.py"), "rb") as file:
            source = file.read()
        with open(os.path.join(SITE, "kalm_rerank", "__init__.py"), "rb") as file:
            self.assertEqual(file.read(), source)
        (info,) = glob.glob(os.path.join(SITE, "kalm_rerank-*.dist-info"))
        self.assertIn("kalm_rerank-%s.dist" % kalm_rerank.version(), info)
        with open(os.path.join(info, "RECORD"), newline="") as file:
            rows = list(csv.reader(file))
        for path, digest, size in rows:
            with open(os.path.join(SITE, path), "rb") as file:
                data = file.read()
            if not path.endswith("RECORD"):
                self.assertEqual((digest, int(size)), ("sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode(), len(data)))
        self.assertEqual(len(rows), sum(len(files) for _, _, files in os.walk(SITE)))
        out = subprocess.run([sys.executable, "-c", "from kalm_rerank import *; print(Reranker(%r).rank('chess', ['photos', 'a game of chess'])[0]"
                              "['corpus_id'])" % MODEL], stdout=subprocess.PIPE, check=True, env={"PYTHONPATH": SITE, "PATH": os.environ["PATH"]})
        self.assertEqual(out.stdout.split(), [b"1"])

    def test_types_name_what_there_is(self):
        """kalm_rerank.pyi has every public name of the module, with the same parameters."""
        with open(os.path.join(TOP, "examples", "python", "kalm_rerank.pyi"), encoding="utf-8") as file:
            tree = ast.parse(file.read())
        stubs = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        self.assertLessEqual(set(kalm_rerank.__all__) - {"CrossEncoder"}, set(stubs))
        for name in ("Reranker", "Document"):
            methods = {node.name: node.args for node in stubs[name].body if isinstance(node, ast.FunctionDef)}
            cls = getattr(kalm_rerank, name)
            public = {n for n in vars(cls) if not n.startswith("_")}
            self.assertEqual({n for n in methods if not n.startswith("_")}, public)
            for method in public | {"__init__"} if name == "Reranker" else public:
                if isinstance(vars(cls)[method], property):
                    continue
                code, args = getattr(cls, method).__code__, methods[method]
                count = code.co_argcount + code.co_kwonlyargcount
                self.assertEqual([a.arg for a in args.args + args.kwonlyargs], list(code.co_varnames[:count]), method)

    # ---- ranking ----

    def test_rank(self):
        hits = self.model.rank(QUERY, TEXTS, return_documents=True)
        self.assertEqual(hits[0]["corpus_id"], 0)
        self.assertEqual(sorted(h["corpus_id"] for h in hits), list(range(len(TEXTS))))
        scores = [h["score"] for h in hits]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertTrue(all(0 <= s <= 1 for s in scores))
        self.assertEqual(hits[0]["text"], TEXTS[0])
        self.assertNotIn("text", self.model.rank(QUERY, TEXTS)[0])
        self.assertEqual(len(self.model.rank(QUERY, TEXTS, top_k=2)), 2)
        self.assertEqual([h["corpus_id"] for h in self.model.rank(QUERY, ["b", "a", "b", "a", "b"], top_k=4)],
                         [h["corpus_id"] for h in sorted(self.model.rank(QUERY, ["b", "a", "b", "a", "b"]), key=lambda h: (-h["score"], h["corpus_id"]))][:4])
        self.assertEqual(self.model.rank(QUERY, TEXTS, top_k=0), [])
        self.assertEqual(len(self.model.rank(QUERY, TEXTS, 99)), len(TEXTS))
        self.assertEqual(self.model.rank(QUERY, []), [])
        self.assertEqual(self.model.rank(QUERY, (t for t in TEXTS)), self.model.rank(QUERY, tuple(TEXTS)))
        self.assertEqual(self.model.rank(QUERY.encode(), [t.encode() for t in TEXTS]), self.model.rank(QUERY, TEXTS))
        self.assertIs(CrossEncoder, Reranker)

    def test_predict(self):
        pairs = [(QUERY, TEXTS[0]), ("chess", TEXTS[2]), [QUERY, TEXTS[1]]]
        scores = self.model.predict(pairs, batch_size=8, show_progress_bar=False, convert_to_numpy=False)
        self.assertIsInstance(scores, list)
        self.assertEqual(scores[0], self.model.predict(pairs[0]))
        self.assertEqual(scores[0], self.model.predict(tuple(t.encode() for t in pairs[0])))
        self.assertEqual(scores[2], {h["corpus_id"]: h["score"] for h in self.model.rank(QUERY, TEXTS)}[1])
        margins = self.model.predict(pairs, raw=True)
        for m, s in zip(margins, scores):
            self.assertAlmostEqual(s, 1 / (1 + math.exp(-m)), places=5)
        self.assertEqual(len(self.model.predict([])), 0)
        try:
            import numpy
        except ImportError:
            self.assertIsInstance(self.model.predict(pairs), list)
        else:
            found = self.model.predict(pairs)
            self.assertEqual((found.dtype, found.shape), (numpy.float32, (3,)))
            self.assertEqual(found.tolist(), scores)
            self.assertEqual(len(self.model.predict(numpy.array([[QUERY, TEXTS[0]], [QUERY, TEXTS[1]]]))), 2)

    def test_what_cross_encoder_takes(self):
        model = CrossEncoder(MODEL, num_labels=1, max_length=8, device="cpu")
        self.assertTrue(model.encode("word " * 50).cut)
        self.assertEqual(len(model.rank(QUERY, TEXTS, 2, True, 32, False, 0, None, False, True, False)), 2)
        self.assertEqual(len(model.predict([(QUERY, TEXTS[0])], 32, False, None, False, False, False, num_workers=2)), 1)
        with self.assertWarnsRegex(UserWarning, "cuda"):
            CrossEncoder(MODEL, device="cuda:0")
        with self.assertRaisesRegex(ValueError, "num_labels"):
            CrossEncoder(MODEL, num_labels=3)
        double = self.model.predict([(QUERY, t) for t in TEXTS], activation_fn=lambda margins: [2 * m for m in margins])
        self.assertEqual([float(m) for m in double], [2 * m for m in self.margins(TEXTS)])
        self.assertEqual(self.model.rank(QUERY, TEXTS, activation_fn=lambda m: m), self.model.rank(QUERY, TEXTS, raw=True))
        self.assertEqual(self.model.rank(QUERY, TEXTS, raw=True, activation_fn=lambda m: -m), self.model.rank(QUERY, TEXTS, raw=True))
        out = programs("model = Reranker(MODEL); model.rank('chess', LONG[:3], show_progress_bar=True)")
        self.assertIn("ranking", out)

    def test_documents(self):
        docs = self.model.encode(TEXTS, bits=32)
        self.assertTrue(all(isinstance(d, Document) for d in docs))
        again = [self.model.document(d.tobytes()) for d in docs]
        want = self.model.rank(QUERY, TEXTS, raw=True)
        self.assertEqual(self.model.rank(QUERY, docs, raw=True), want)
        self.assertEqual(self.model.rank(QUERY, again, raw=True), want)
        self.assertEqual(self.model.rank(QUERY, [again[0], TEXTS[1], docs[2], TEXTS[3], TEXTS[4]], raw=True), want)
        one = self.model.encode(TEXTS[0], ratio=2)
        self.assertEqual((one.ratio, one.bits, one.cut, one.width, one.tokens_used), (2, 16, False, 192, one.tokens))
        self.assertEqual(one.rows, -(-one.tokens // 2))
        self.assertEqual((len(bytes(one)), one.tobytes()), (len(one), bytes(one)))
        coarse = self.model.repool(one, 8)
        self.assertEqual((coarse.ratio, coarse.bits), (8, 16))
        self.assertEqual(self.model.repool(one, 8, 8).bits, 8)
        self.assertLess(len(coarse), len(one))

    def test_documents_in_memory_that_is_not_copied(self):
        doc = self.model.encode(TEXTS[0], ratio=1, bits=32)
        data, want = bytes(doc), self.model.rank(QUERY, [doc], raw=True)
        shifted = memoryview(b"x" + data)[1:]                          # not aligned to 4: copied
        scattered = memoryview(bytes(b for b in data for _ in "ab"))[::2]
        words, lines = memoryview(data).cast("I"), memoryview(data).cast("B", (2, len(data) // 2))     # whose len() is another
        for memory in (data, memoryview(data), words, lines, shifted, scattered, bytearray(data), memoryview(bytearray(data))):
            for options in ({}, {"copy": True}, {"copy": False}):
                self.assertEqual(self.model.rank(QUERY, [self.model.document(memory, **options)], raw=True), want)
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            inside = self.model.document(mapped)
            with self.assertRaises(BufferError):
                mapped.close()                                         # the document reads it
            self.assertEqual(self.model.rank(QUERY, [inside], raw=True), want)
            del inside
            mapped.close()
        written = bytearray(data)
        kept = self.model.document(written)
        written[:] = bytes(len(data))
        self.assertEqual(self.model.rank(QUERY, [kept], raw=True), want)
        with self.assertRaises(BufferError):
            held = self.model.document(written[:0] + data, copy=False), written.extend(b"x")      # written itself is free
            del held
            borrowed = bytearray(data)
            held = self.model.document(borrowed, copy=False)
            borrowed.extend(b"x")
        for bad in (b"", data[:-1], data + b"\0", data[:70], bytes(64)):
            with self.assertRaises(KalmError):
                self.model.document(bad)
        with self.assertRaises(TypeError):
            self.model.document("text")
        with self.assertRaises(TypeError):
            self.model.document(7)

    def test_copies(self):
        for refuse in (copy.copy, copy.deepcopy, pickle.dumps):
            with self.assertRaisesRegex(TypeError, "Reranker"):
                refuse(self.model)
        doc = self.model.encode(TEXTS[0])
        for other in (copy.copy(doc), copy.deepcopy([doc])[0], pickle.loads(pickle.dumps(doc))):
            self.assertEqual((bytes(other), len(other), repr(other), other.fingerprint), (bytes(doc), len(doc), repr(doc), doc.fingerprint))
            self.assertEqual(self.model.rank(QUERY, [other, other]), self.model.rank(QUERY, [doc, doc]))
            self.assertEqual(bytes(self.model.repool(other, 8)), bytes(self.model.repool(doc, 8)))
            self.assertEqual(bytes(pickle.loads(pickle.dumps(other))), bytes(doc))
        damaged = pickle.loads(pickle.dumps(doc).replace(bytes(doc), bytes(doc)[:-1] + b"\x7f"))
        with self.assertRaisesRegex(KalmError, "^the document is damaged"):
            self.model.rank(QUERY, [damaged])
        with self.assertRaisesRegex(KalmError, "^document 1: the document is damaged"):
            self.model.rank(QUERY, [doc, damaged])
        with self.assertRaisesRegex(KalmError, "^document 2: the document is damaged"):
            self.model.rank(QUERY, [doc, "a text", damaged, "a text"])
        with self.assertRaises(TypeError):
            Document()
        self.assertEqual(self.model.rank(QUERY, TEXTS)[0]["corpus_id"], 0)

    # ---- options: each of these fails when the binding drops it ----

    def test_options_of_a_call(self):
        plain = self.margins(TEXTS)
        for option in ({"instruction": "Find games."}, {"system": "You are a pirate."}, {"ratio": 1}):
            self.assertNotEqual(self.margins(TEXTS, **option), plain)
            with Reranker(MODEL, **option) as model:
                self.assertEqual(self.margins(TEXTS, model=model), self.margins(TEXTS, **option))
            ranked = {h["corpus_id"]: h["score"] for h in self.model.rank(QUERY, TEXTS, raw=True, **option)}
            self.assertEqual([ranked[i] for i in range(len(TEXTS))], self.margins(TEXTS, **option))
        self.assertEqual(self.margins(TEXTS, instruction=None, system=None, ratio=None), plain)
        self.assertNotEqual(self.margins(TEXTS, instruction=""), plain)
        with Reranker(MODEL, bits=8, ratio=2) as model:
            self.assertEqual((model.encode("text").bits, model.encode("text").ratio), (8, 2))
            self.assertEqual((model.encode("text", bits=32).bits, model.encode("text", ratio=3).ratio), (32, 3))
            model.bits, model.ratio = 16, 5
            self.assertEqual((model.encode("text").bits, model.encode("text").ratio), (16, 5))

    def test_parse_control(self):
        mark = "<end_of_turn>"
        with Reranker(MODEL, parse_control=True) as model:
            self.assertEqual(len(model.tokenize(mark)), 1)
            self.assertGreater(len(self.model.tokenize(mark)), 1)
            self.assertLess(model.encode(mark).tokens, self.model.encode(mark).tokens)
            self.assertNotEqual(self.margins(["a " + mark], model=model), self.margins(["a " + mark]))
            self.assertNotEqual(self.margins(TEXTS, query="a " + mark, model=model), self.margins(TEXTS, query="a " + mark))
            docs = self.model.encode(TEXTS, bits=32)
            self.assertNotEqual(self.margins(docs, query="a " + mark, model=model), self.margins(docs, query="a " + mark))
            model.parse_control = False
            self.assertEqual(self.margins(["a " + mark], model=model), self.margins(["a " + mark]))

    def test_options_of_a_model(self):
        with Reranker(MODEL, kernels="scalar", max_doc_tokens=8) as model:
            self.assertTrue(model.encode("word " * 50).cut)
            self.assertEqual([h["cut_document"] for h in model.rank(QUERY, ["word " * 50])], [True])
            self.assertEqual([h["cut_document"] for h in model.rank(QUERY, ["word"])], [False])
        with Reranker(MODEL, max_query_tokens=4) as model:
            self.assertEqual(self.margins(TEXTS, "one two three four five", model), self.margins(TEXTS, "one two three four six", model))
            cuts = [(h["cut_query"], h["cut_document"]) for h in model.rank("one two three four five", [TEXTS[0], "word " * 2000])]
            self.assertEqual(sorted(cuts), [(True, False), (True, True)])
            self.assertEqual([h["cut_query"] for h in model.rank("one", TEXTS[:1] + model.encode(TEXTS[:1]))], [False, False])
        sizes = []
        for threads in (1, 3):
            with Reranker(MODEL, threads=threads) as model:
                sizes.append(model.working_memory)
        self.assertLess(sizes[0], sizes[1])
        with Reranker(MODEL, cache_bytes=1 << 24) as model:
            docs = model.encode(TEXTS, bits=32)
            first = self.margins(docs, model=model)
            self.assertEqual(self.margins(docs, model=model), first)
            self.assertEqual(self.margins(docs), first)
            info = model.cache_info()
            self.assertEqual((info["hits"], info["misses"], info["documents"], info["limit"]), (5, 5, 5, 1 << 24))
        self.assertEqual(self.model.cache_info()["limit"], 0)
        taken = [info["bytes"]]
        for bits in (8, 4):            # smaller states: other scores, the same whether states are kept or not
            with Reranker(MODEL, cache_bytes=1 << 24, state_bits=bits) as kept, Reranker(MODEL, state_bits=bits) as plain:
                rounded = self.margins(docs, model=plain)
                self.assertNotEqual(rounded, first)
                self.assertEqual([self.margins(docs, model=kept) for _ in range(2)], [rounded] * 2)
                taken.append(kept.cache_info()["bytes"])
        self.assertEqual(taken, sorted(taken, reverse=True))
        with self.assertRaisesRegex(KalmError, "state_bits is 5"):
            Reranker(MODEL, state_bits=5)
        with tempfile.TemporaryDirectory() as folder:          # a model that is read outlives its file
            path = os.path.join(folder, "model.kalm")
            shutil.copy(MODEL, path)
            with Reranker(path, mmap=False) as model:
                open(path, "w").close()
                self.assertEqual(self.margins(TEXTS, model=model), self.margins(TEXTS))
        with self.assertRaises(KalmError):
            Reranker(MODEL, kernels="abacus")
        with self.assertRaises(OSError):
            Reranker(MODEL, library="/no/such/library.so")

    # ---- arguments ----

    def test_numbers_do_not_wrap(self):
        try:
            from numpy import bool_, float32, int64, uint8
            good, bad = [int64(2), uint8(2)], [bool_(True), float32(2)]
        except ImportError:
            good, bad = [], []
        bad += [2.5, 2.0, float("nan"), True, "2", b"2", [2], 2j]
        wide = [-1, -2 ** 31, 2 ** 32, 2 ** 32 + 2, 2 ** 33, 2 ** 64 + 2, -2 ** 64, 10 ** 6000]
        doc = self.model.encode("text", ratio=1)
        calls = {
            "encode ratio": lambda n: self.model.encode("text", ratio=n), "encode bits": lambda n: self.model.encode("text", bits=n),
            "rank ratio": lambda n: self.model.rank(QUERY, TEXTS, ratio=n), "rank nothing": lambda n: self.model.rank(QUERY, [], ratio=n),
            "predict ratio": lambda n: self.model.predict((QUERY, "text"), ratio=n),
            "predict nothing": lambda n: self.model.predict([], ratio=n), "repool ratio": lambda n: self.model.repool(doc, n),
            "repool bits": lambda n: self.model.repool(doc, 2, n), "detokenize": lambda n: self.model.detokenize([5, n]),
        }
        for name in ("ratio", "bits", "threads", "max_doc_tokens", "max_query_tokens", "max_length", "state_bits"):
            calls["Reranker " + name] = lambda n, name=name: Reranker(MODEL, **{name: n})
        for name, call in calls.items():
            for value in bad:
                with self.assertRaises(TypeError, msg="%s %r" % (name, value)):
                    call(value)
            for value in wide:
                with self.assertRaises((KalmArgumentError, ValueError), msg="%s %d bits" % (name, value.bit_length())) as refused:
                    call(value)
                self.assertEqual(refused.exception.code, 1)
        for value in [-1, 2 ** 64, 2 ** 70]:
            with self.assertRaises(ValueError):
                Reranker(MODEL, cache_bytes=value)
        for value in [-1, 2 ** 65]:
            with self.assertRaises(ValueError):
                self.model.rank(QUERY, TEXTS, top_k=value)
        with self.assertRaises(TypeError):
            self.model.rank(QUERY, TEXTS, top_k=1.5)
        for value in good + [None, 0, 2]:
            self.assertEqual(self.model.encode("text", ratio=value).ratio, 2 if value else 4)
            Reranker(MODEL, max_doc_tokens=value).close()
        self.assertEqual(self.model.encode("text", ratio=2 ** 32 - 1).ratio, 2 ** 32 - 1)
        with self.assertRaisesRegex(KalmError, "bits"):
            self.model.encode(TEXTS, bits=7)

    def test_lists_and_texts(self):
        for wrong in ("abc", b"abc", 5, None, {"a": 1}, {"a"}, self.model.encode("a")):
            with self.assertRaises(TypeError, msg=repr(wrong)):
                self.model.rank(QUERY, wrong)
            with self.assertRaises(TypeError, msg=repr(wrong)):
                self.model.predict(wrong)
        for wrong in ([5], [None], ["a", ["b"]], [TEXTS], [b"a", bytearray(b"a")]):
            with self.assertRaises(TypeError, msg=repr(wrong)):
                self.model.rank(QUERY, wrong)
            with self.assertRaises(TypeError, msg=repr(wrong)):
                self.model.encode(wrong)
        for wrong in (["a", "b", "c"], ["ab", "cd"][:1], [("a",)], [("a", "b", "c")], ["a", 5], [(5, "a")], [("a", None)], [{"a", "b"}, "ab"]):
            with self.assertRaises(TypeError, msg=repr(wrong)):
                self.model.predict(wrong)
        for wrong in (5, None, ["q"]):
            with self.assertRaises(TypeError):
                self.model.rank(wrong, TEXTS)
            with self.assertRaises(TypeError):
                self.model.tokenize(wrong)
        for option in ("instruction", "system"):
            with self.assertRaises(TypeError):
                self.model.rank(QUERY, TEXTS, **{option: 5})
            with self.assertRaises(TypeError):
                Reranker(MODEL, **{option: 5})
        with self.assertRaises(TypeError):
            self.model.rank(QUERY, TEXTS, progress=5)
        with self.assertRaises(TypeError):
            self.model.rank(QUERY, TEXTS, temperature=1)
        with self.assertRaises(TypeError):
            self.model.repool("text", 2)
        for wrong in ("abc", 5, [1.5], [None]):
            with self.assertRaises(TypeError):
                self.model.detokenize(wrong)
        with self.assertRaisesRegex(KalmError, "no-such-file") as missing:
            Reranker("no-such-file.kalm")
        self.assertEqual((missing.exception.code, missing.exception.name), (3, "CANNOT_READ"))
        with self.assertRaises(ValueError):
            Reranker(MODEL + "\0x")

    def test_tokenize(self):
        for text in TEXTS + ["a\0b", "  x", "x" * 1000, "word " * 40000]:
            self.assertEqual(self.model.detokenize(self.model.tokenize(text)), text)

    def test_rows_of_few_bits(self):
        margin = lambda doc: self.model.rank(QUERY, [doc], raw=True)[0]["score"]
        whole = self.model.encode(TEXTS[0], bits=32)
        for bits, most in ((4, .3), (3, .6), (2, 1.2)):
            doc = self.model.encode(TEXTS[0], bits=bits)
            self.assertEqual((doc.bits, len(doc)), (bits, 64 + doc.rows * (192 * bits // 8 + 1)))
            self.assertEqual((doc.transform != 0, whole.transform, doc.vocabulary), (True, 0, 0))
            self.assertEqual(margin(self.model.document(bytes(doc))), margin(doc))
            self.assertLess(abs(margin(doc) - margin(whole)), most)
            self.assertEqual(self.model.repool(whole, whole.ratio, bits).bits, bits)
            self.assertEqual(self.model.repool(doc, 8).bits, bits)
            for at, message in ((57, "transform"), (70, "damaged"), (36, "rows of|asks for"), (len(doc) - 1, "damaged")):
                hurt = bytearray(bytes(doc))
                hurt[at] ^= 1
                with self.assertRaisesRegex(KalmError, message):
                    self.model.document(bytes(hurt))
            with self.assertRaisesRegex(KalmError, "header asks for"):
                self.model.document(bytes(doc)[:-1])

    def test_subclasses_that_lie_about_their_length(self):
        class Bytes(bytes):
            def __len__(self):
                return 10**8

        class Text(str):
            def encode(self, *_):
                return Bytes(b"x")

            def __len__(self):
                return 10**8

        doc = self.model.encode("abc")
        want = self.model.rank("q", ["abc", doc])
        self.assertEqual(self.model.rank(Bytes(b"q"), [Bytes(b"abc"), doc]), want)
        self.assertEqual(self.model.rank(Text("q"), [Text("abc"), self.model.document(Bytes(doc.tobytes()))]), want)
        self.assertEqual(self.model.tokenize(Bytes(b"abc")), self.model.tokenize("abc"))

    def test_surrogates_are_those_of_browsers(self):
        for text, want in [("\ud800", "\ufffd"), ("\udc00\ud800", "\ufffd\ufffd"), ("a\ud800b\udfffc", "a\ufffdb\ufffdc"),
                           ("\ud83d\ude00", "\U0001f600"), ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"), ("\U0001f600\udbff", "\U0001f600\ufffd")]:
            self.assertEqual(self.model.tokenize(text), self.model.tokenize(want))
            self.assertEqual(bytes(self.model.encode(text)), bytes(self.model.encode(want)))
            self.assertEqual(self.model.rank(text, [text]), self.model.rank(want, [want]))

    # ---- callbacks, signals, threads, processes ----

    def test_progress(self):
        seen = []
        for documents in (TEXTS, self.model.encode(TEXTS)):
            self.model.rank(QUERY, documents, progress=lambda done, total: seen.append((done, total, threading.get_ident())))
        self.assertTrue(seen and all(0 <= d <= t for d, t, _ in seen))
        self.assertEqual({thread for _, _, thread in seen}, {threading.get_ident()})
        calls = [lambda p: self.model.rank(QUERY, TEXTS, progress=p), lambda p: self.model.encode(TEXTS, progress=p),
                 lambda p: self.model.predict([(QUERY, t) for t in TEXTS], progress=p)]

        def interrupt(done, total):
            raise KeyboardInterrupt

        def fail(done, total):
            return 1 // 0

        def nested(done, total):
            self.model.rank(QUERY, TEXTS)

        def closing(done, total):
            self.model.close()

        def check():
            for call in calls:
                with self.assertRaises(KalmError) as stopped:
                    call(lambda done, total: True)
                self.assertEqual((stopped.exception.code, stopped.exception.name), (8, "CANCELLED"))
                with self.assertRaises(KeyboardInterrupt):
                    call(interrupt)
                with self.assertRaises(ZeroDivisionError):
                    call(fail)
                for inside in (nested, closing):
                    with self.assertRaisesRegex(KalmError, "inside"):
                        call(inside)
            done.append(True)

        for run in (lambda: check(), lambda: self.in_threads([check])):
            done = []
            run()
            self.assertEqual(done, [True])
        self.assertEqual(self.model.rank(QUERY, TEXTS)[0]["corpus_id"], 0)

    @staticmethod
    def in_threads(functions):
        threads = [threading.Thread(target=f) for f in functions]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)

    def test_interrupts(self):
        """SIGINT ends every call at once, twenty times of twenty; so does the exception of a handler of the user's."""
        child = subprocess.Popen([sys.executable, "-W", "error", "-c", """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)       # a shell starts programs in the background with it ignored
sys.path.insert(0, %r)
from kalm_rerank import Reranker
model = Reranker(%r, threads=2)
texts = ["a game of chess, number %%d, played against the computer " %% i * 20 for i in range(1500)]
pairs = [("query %%d" %% (i %% 5), text) for i, text in enumerate(texts)]
long = texts[0] * 10000

class Mine(Exception):
    pass

def mine(number, frame):
    global heard
    heard += 1
    if heard == 2:
        raise Mine
    print("heard", flush=True)

def handled():
    global heard
    heard, before = 0, signal.signal(signal.SIGINT, mine)
    try:
        model.rank("chess", texts)
    except Mine:
        raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)

calls = {"rank": lambda: model.rank("chess", texts), "encode": lambda: model.encode(texts), "predict": lambda: model.predict(pairs),
         "tokenize": lambda: model.tokenize(long), "handled": handled,
         "progress": lambda: model.rank("chess", texts, progress=lambda done, total: None)}
for line in sys.stdin:
    try:
        print("go", flush=True)
        calls[line.strip()]()
        print("not interrupted", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
assert model.rank("chess", ["photos", "a game of chess"])[0]["corpus_id"] == 1
""" % (sys.path[0], MODEL)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ, KALM_RERANK_LIBRARY=LIBRARY))
        took = []
        for i in range(24):
            name = ("rank", "encode", "tokenize", "predict", "progress", "handled")[i % 6]
            child.stdin.write(name.encode() + b"\n")
            child.stdin.flush()
            self.assertEqual(child.stdout.readline(), b"go\n")
            time.sleep(0.01 + 0.007 * (i // 6))
            if name == "handled":              # the first of two raises nothing, and the work goes on
                child.send_signal(signal.SIGINT)
                self.assertEqual(child.stdout.readline(), b"heard\n")
            began = time.monotonic()
            child.send_signal(signal.SIGINT)
            self.assertEqual((name, child.stdout.readline()), (name, b"interrupted\n"))
            took.append(time.monotonic() - began)
        child.stdin.close()
        self.assertEqual((child.stdout.read(), child.wait(60)), (b"", 0))
        child.stdout.close()
        self.assertLess(sorted(took)[len(took) // 2], 0.1)
        self.assertLess(max(took), 1)          # the machine may have other things to do

    def test_threads(self):
        want, got = self.model.rank(QUERY, TEXTS), []
        self.in_threads([lambda: got.append(self.model.rank(QUERY, TEXTS))] * 4)
        self.assertEqual(got, [want] * 4)

    def test_close_waits_for_the_calls_at_work(self):
        data = bytes(self.model.encode(LONG[0], ratio=1))
        ids = self.model.tokenize(LONG[0] * 10)
        for call in [lambda m: m.rank(QUERY, LONG[:20]), lambda m: m.encode(LONG[:20]), lambda m: m.tokenize(LONG[0] * 10),
                     lambda m: m.predict([(t, t) for t in LONG[:20]]), lambda m: m.document(data), lambda m: m.detokenize(ids),
                     lambda m: m.repool(m.document(data), 4), lambda m: m.verify(), lambda m: m.cache_info(),
                     lambda m: m.rank(QUERY, LONG[:20], progress=lambda done, total: None)]:
            model, ends = Reranker(MODEL, threads=1), []

            def work():
                try:
                    while True:
                        call(model)
                except KalmError as e:
                    ends.append(str(e))

            threads = [threading.Thread(target=work) for _ in range(3)]
            for t in threads:
                t.start()
            time.sleep(0.02)
            model.close()
            model.close()
            for t in threads:
                t.join(60)
            self.assertEqual(ends, ["the model is closed"] * 3)
            self.assertIn("closed", repr(model))
            with self.assertRaisesRegex(KalmError, "closed"):
                call(model)
            with self.assertRaises(ValueError):
                model.rank(QUERY, TEXTS)

    def test_documents_outlive_the_model(self):
        model = Reranker(MODEL)
        doc, stored = model.encode("text"), model.document(bytes(model.encode("text")))
        model.close()
        del model
        self.assertEqual(bytes(doc), bytes(stored))
        self.assertEqual(self.model.rank(QUERY, [doc]), self.model.rank(QUERY, [self.model.encode("text")]))

    def test_ends_of_programs(self):
        """No end of a program hangs or crashes: whatever it is doing, and however it goes."""
        for end in ("", "sys.exit(0)", "del model", "model.close()", "model = None; import gc; gc.collect()"):
            programs("model = Reranker(MODEL); doc = model.encode('a'); model.rank('q', [doc])\n" + end)
        for daemon in (True, False):
            programs("""
import threading, time
model = Reranker(MODEL)
threading.Thread(target=lambda: model.rank('q', LONG), daemon=%r).start()
threading.Thread(target=lambda: model.tokenize('word ' * 300000), daemon=%r).start()
time.sleep(0.02)
""" % (daemon, daemon))
        programs("""
import os, signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
model = Reranker(MODEL)
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    model.rank('q', LONG * 20)
except KeyboardInterrupt:
    sys.exit(0)
sys.exit(1)
""")

    @unittest.skipUnless(hasattr(os, "fork"), "there is no fork here")
    def test_fork(self):
        """A child ranks, closes and ends, also when it was forked while another thread was at work."""
        for kind in ("import threading, time; threading.Thread(target=lambda: model.rank('q', LONG)).start(); time.sleep(0.03)", ""):
            out = programs("""
import os, signal, warnings
warnings.simplefilter("ignore")
model = Reranker(MODEL, threads=2)
doc = model.encode('a game of chess')
want = model.rank('chess', [doc, 'a photo'])
%s
for end in ('sys.exit(0)', 'model.close(); sys.exit(0)', 'model.close(); os._exit(0)', 'os._exit(0)', 'del model'):
    child = os.fork()
    if not child:
        signal.alarm(20)
        if end != 'del model': assert model.rank('chess', [doc, 'a photo']) == want and len(model.tokenize('chess'))
        exec(end)
        break
    assert os.waitpid(child, 0)[1] == 0, end
else:
    assert model.rank('chess', [doc, 'a photo']) == want
    print('done')
""" % kind)
            self.assertEqual(out, "done\n")
        children = []

        def forking(done, total):
            if not children:
                children.append(os.fork())
                if not children[0]:
                    signal.alarm(20)

        try:
            self.model.rank(QUERY, TEXTS, progress=forking)
        except KalmError as e:                 # the child, which the call does not go on in
            os._exit(0 if "forked" in str(e) and self.model.rank(QUERY, TEXTS)[0]["corpus_id"] == 0 else 1)
        self.assertEqual(os.waitpid(children[0], 0)[1], 0)

    def test_multiprocessing(self):
        for method in ("fork", "spawn"):
            if method in multiprocessing.get_all_start_methods():
                with multiprocessing.get_context(method).Pool(1) as pool:
                    self.assertEqual(pool.map(ranked_in_another_process, [TEXTS, self.model.encode(TEXTS)]), [0, 0])


if __name__ == "__main__":
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    with Reranker(MODEL, library=LIBRARY, threads=2) as Adapters.model:
        stop = bool(os.environ.get("KALM_TEST_STOP"))          # tests/mutate.sh asks only whether there is a failure
        result = unittest.TextTestRunner(verbosity=0, failfast=stop).run(unittest.TestSuite([load(Test), load(Adapters)]))
    bad = len(result.failures) + len(result.errors)
    print("%d passed, %d failed" % (result.testsRun - bad, bad))
    sys.exit(bad > 0)
