"""test_python.py LIBRARY MODEL.kalm - the Python module against the commands' own engine: run by test_python.sh."""

import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "python"))
import kalm_rerank  # noqa: E402
from kalm_rerank import CrossEncoder, Document, KalmError, Reranker  # noqa: E402

LIBRARY, MODEL = os.path.abspath(sys.argv[1]), sys.argv[2]
TEXTS = ["GIMP is an editor for pictures and photos.", "vi is a text editor.", "A game of chess.", "Grüße, 你好 😀", ""]
QUERY = "program to retouch photos"


class Test(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = Reranker(MODEL, library=LIBRARY, threads=2)

    @classmethod
    def tearDownClass(cls):
        cls.model.close()

    def test_about(self):
        self.assertRegex(kalm_rerank.version(), r"^\d+\.\d+\.\d+$")
        self.assertEqual(Reranker.kernels()[-1], "scalar")
        self.assertTrue(self.model.name and self.model.weights)
        self.assertGreater(self.model.working_memory, 100000)
        self.assertIn(self.model.name, repr(self.model))

    def test_rank(self):
        hits = self.model.rank(QUERY, TEXTS, return_documents=True)
        self.assertEqual(hits[0]["corpus_id"], 0)
        self.assertEqual(sorted(h["corpus_id"] for h in hits), list(range(len(TEXTS))))
        scores = [h["score"] for h in hits]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertTrue(all(0 <= s <= 1 for s in scores))
        self.assertEqual(hits[0]["text"], TEXTS[0])
        self.assertEqual(len(self.model.rank(QUERY, TEXTS, top_k=2)), 2)
        self.assertEqual(self.model.rank(QUERY, []), [])
        self.assertIs(CrossEncoder, Reranker)

    def test_predict(self):
        pairs = [(QUERY, TEXTS[0]), ("chess", TEXTS[2]), (QUERY, TEXTS[1])]
        scores = self.model.predict(pairs, batch_size=8, show_progress_bar=False)
        self.assertEqual(scores[0], self.model.predict(pairs[0]))
        self.assertEqual(scores[2], {h["corpus_id"]: h["score"] for h in self.model.rank(QUERY, TEXTS)}[1])
        margins = self.model.predict(pairs, raw=True)
        for m, s in zip(margins, scores):
            self.assertAlmostEqual(s, 1 / (1 + 2.718281828459045 ** -m), places=5)

    def test_documents(self):
        docs = self.model.encode(TEXTS, bits=32)
        self.assertTrue(all(isinstance(d, Document) for d in docs))
        again = [self.model.document(d.tobytes()) for d in docs]
        want = self.model.rank(QUERY, TEXTS, raw=True)
        self.assertEqual(self.model.rank(QUERY, docs, raw=True), want)
        self.assertEqual(self.model.rank(QUERY, again, raw=True), want)
        self.assertEqual(self.model.rank(QUERY, [again[0], TEXTS[1], docs[2], TEXTS[3], TEXTS[4]], raw=True), want)
        one = self.model.encode(TEXTS[0], ratio=2)
        self.assertEqual((one.ratio, one.bits, one.cut), (2, 16, False))
        self.assertEqual(one.rows, -(-one.tokens // 2))
        self.assertEqual(len(one.tobytes()), len(one))
        coarse = self.model.repool(one, 8)
        self.assertEqual(coarse.ratio, 8)
        self.assertLess(len(coarse), len(one))

    def test_options(self):
        other = self.model.predict((QUERY, TEXTS[0]), raw=True, instruction="Find games.")
        self.assertNotEqual(other, self.model.predict((QUERY, TEXTS[0]), raw=True))
        with Reranker(MODEL, ratio=1, kernels="scalar", max_doc_tokens=8, instruction="Find games.") as m:
            self.assertTrue(m.encode("word " * 50).cut)
            self.assertEqual(m.encode(TEXTS[1]).ratio, 1)
        with self.assertRaisesRegex(KalmError, "closed"):
            m.rank(QUERY, TEXTS)
        m.close()

    def test_tokenize(self):
        for text in TEXTS + ["a\0b", "  x"]:
            self.assertEqual(self.model.detokenize(self.model.tokenize(text)), text)
        self.assertEqual(self.model.detokenize(self.model.tokenize("x" * 1000)), "x" * 1000)

    def test_progress(self):
        seen = []
        self.model.rank(QUERY, TEXTS, progress=lambda done, total: seen.append((done, total)))
        self.assertTrue(seen and all(0 <= d <= t for d, t in seen))
        with self.assertRaises(KalmError) as stopped:
            self.model.rank(QUERY, TEXTS, progress=lambda done, total: True)
        self.assertEqual(stopped.exception.code, 8)

        def interrupt(done, total):
            raise KeyboardInterrupt
        with self.assertRaises(KeyboardInterrupt):
            self.model.encode(TEXTS, progress=interrupt)
        self.assertEqual(self.model.rank(QUERY, TEXTS)[0]["corpus_id"], 0)

    def test_errors(self):
        with self.assertRaisesRegex(KalmError, "no-such-file"):
            Reranker("no-such-file.kalm")
        with self.assertRaises(KalmError):
            Reranker(MODEL, kernels="abacus")
        with self.assertRaises(KalmError):
            self.model.document(b"not a document")
        with self.assertRaises(TypeError):
            self.model.rank(QUERY, [5])
        with self.assertRaises(TypeError):
            self.model.rank(5, TEXTS)
        with self.assertRaises(KalmError):
            self.model.encode(TEXTS, bits=7)
        self.assertTrue(self.model.encode("\ud800 unpaired").tokens)

    def test_threads(self):
        want, got = self.model.rank(QUERY, TEXTS), []
        threads = [threading.Thread(target=lambda: got.append(self.model.rank(QUERY, TEXTS))) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(got, [want] * 4)

    def test_documents_outlive_the_model(self):
        m = Reranker(MODEL)
        doc = m.encode("text")
        m.close()
        self.assertTrue(doc.tobytes())


result = unittest.TextTestRunner(verbosity=0).run(unittest.defaultTestLoader.loadTestsFromTestCase(Test))
bad = len(result.failures) + len(result.errors)
print("%d passed, %d failed" % (result.testsRun - bad, bad))
sys.exit(bad > 0)
