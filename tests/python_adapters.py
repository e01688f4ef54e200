"""python_adapters.py - what examples/python has beside the module itself: the adapters and the source distribution. A part of
test_python.py, which is told where wheel and model are.

LangChain, LlamaIndex and Haystack are not in Debian: the adapters run on stand-ins that have the signatures which those packages
publish, and nothing else."""

import ast
import asyncio
import dataclasses
import enum
import glob
import importlib.util
import os
import pickle
import subprocess
import sys
import tarfile
import tempfile
import types
import unittest

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "python")
SITE, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
TEXTS = ["GIMP is an editor for pictures and photos.", "vi is a text editor.", "A game of chess.", "Grüße, 你好 😀", ""]
QUERY = "program to retouch photos"


def adapter(name, **modules):
    """The adapter's module, where `modules` stand in for the packages that it imports."""
    for path, names in modules.items():
        path = path.replace("__", ".")
        for end in [i for i, c in enumerate(path + ".") if c == "."]:
            sys.modules.setdefault(path[:end], types.ModuleType(path[:end]))
        vars(sys.modules[path]).update(names)
    spec = importlib.util.spec_from_file_location("adapter_" + name, os.path.join(HERE, "adapters", name + ".py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module    # as an import does: pickle looks there
    spec.loader.exec_module(module)
    return module


class Model:
    """What the adapters need of pydantic's BaseModel: fields by annotation, others are refused."""

    def __init__(self, **fields):
        names = {}
        for cls in reversed(type(self).__mro__):
            names.update(dict.fromkeys(vars(cls).get("__annotations__", {})))
        for name in names:
            if name not in fields and not hasattr(type(self), name):
                raise ValueError("%s is missing" % name)
        for name, value in fields.items():
            if name not in names:
                raise ValueError("there is no field %s" % name)
            setattr(self, name, value)


class Adapters(unittest.TestCase):
    model = None                       # test_python.py's

    def setUp(self):
        self.want = self.model.rank(QUERY, TEXTS)

    def test_langchain(self):
        @dataclasses.dataclass
        class Document:
            page_content: str
            metadata: dict = dataclasses.field(default_factory=dict)
            id: str = None

        module = adapter("langchain", langchain_core__documents={"BaseDocumentCompressor": Model, "Document": Document})
        given = [Document(text, {"source": i}, "id %d" % i) for i, text in enumerate(TEXTS)]
        got = module.KalmCompressor(reranker=self.model, top_n=3).compress_documents(given, QUERY)
        self.assertEqual([(d.page_content, d.metadata, d.id) for d in got],
                         [(TEXTS[h["corpus_id"]], {"source": h["corpus_id"], "relevance_score": h["score"]}, "id %d" % h["corpus_id"])
                          for h in self.want[:3]])
        self.assertEqual([d.metadata for d in given], [{"source": i} for i in range(len(TEXTS))])
        self.assertEqual(module.KalmCompressor(reranker=self.model).compress_documents([], QUERY), [])
        least = self.want[1]["score"]
        self.assertEqual(len(module.KalmCompressor(reranker=self.model, min_score=least).compress_documents(given, QUERY)), 2)
        other = module.KalmCompressor(reranker=self.model, instruction="Find games.").compress_documents(given, QUERY)
        self.assertNotEqual(other[0].metadata["relevance_score"], self.want[0]["score"])

    def test_llamaindex(self):
        class Postprocessor(Model):
            def postprocess_nodes(self, nodes, query_bundle=None, query_str=None):
                return self._postprocess_nodes(nodes, types.SimpleNamespace(query_str=query_str) if query_str is not None else query_bundle)

        MetadataMode = enum.Enum("MetadataMode", "ALL EMBED LLM NONE")

        class Node:
            def __init__(self, text):
                self.text = text

            def get_content(self, metadata_mode=MetadataMode.NONE):
                return "title: chess\n" + self.text if metadata_mode == MetadataMode.EMBED and "chess" in self.text else self.text

        @dataclasses.dataclass
        class NodeWithScore:
            node: Node
            score: float = None

        module = adapter("llamaindex", llama_index__core__postprocessor__types={"BaseNodePostprocessor": Postprocessor},
                         llama_index__core__schema={"MetadataMode": MetadataMode, "NodeWithScore": NodeWithScore, "QueryBundle": object})
        nodes = [NodeWithScore(Node(text), 0.5) for text in TEXTS]
        want = self.model.rank(QUERY, [one.node.get_content(MetadataMode.EMBED) for one in nodes])
        got = module.KalmPostprocessor(reranker=self.model, top_n=4).postprocess_nodes(nodes, query_str=QUERY)
        self.assertEqual([(one.node.text, one.score) for one in got], [(TEXTS[h["corpus_id"]], h["score"]) for h in want[:4]])
        self.assertEqual({one.score for one in nodes}, {0.5})
        self.assertEqual(module.KalmPostprocessor(reranker=self.model).postprocess_nodes([], query_str=QUERY), [])
        self.assertEqual(module.KalmPostprocessor.class_name(), "KalmPostprocessor")
        with self.assertRaises(ValueError):
            module.KalmPostprocessor(reranker=self.model).postprocess_nodes(nodes)

    def test_haystack(self):
        def component(cls):
            return cls

        component.output_types = lambda **types: lambda run: run

        @dataclasses.dataclass
        class Document:
            content: str = None
            meta: dict = dataclasses.field(default_factory=dict)
            score: float = None
            id: str = "id"

        def default_to_dict(thing, **parameters):
            return {"type": type(thing).__name__, "init_parameters": parameters}

        def default_from_dict(cls, data):
            return cls(**data["init_parameters"])

        module = adapter("haystack", haystack={"Document": Document, "component": component, "default_to_dict": default_to_dict,
                                               "default_from_dict": default_from_dict})
        ranker = module.KalmRanker(model=MODEL, top_k=3)
        ranker._reranker = self.model
        given = [Document(text, {"title": "number %d" % i}) for i, text in enumerate(TEXTS)]
        got = ranker.run(query=QUERY, documents=given)["documents"]
        self.assertEqual([(d.content, d.score) for d in got], [(TEXTS[h["corpus_id"]], h["score"]) for h in self.want[:3]])
        self.assertEqual({d.score for d in given}, {None})
        self.assertEqual(len(ranker.run(query=QUERY, documents=given, top_k=1)["documents"]), 1)
        self.assertEqual(ranker.run(query=QUERY, documents=[]), {"documents": []})
        self.assertEqual(len(ranker.run(query=QUERY, documents=given, score_threshold=self.want[0]["score"])["documents"]), 1)
        titled = module.KalmRanker.from_dict(module.KalmRanker(model=MODEL, meta_fields_to_embed=["title"]).to_dict())
        self.assertEqual((titled.model, titled.meta_fields_to_embed, titled.top_k), (MODEL, ["title"], 10))
        titled._reranker = self.model
        want = self.model.rank(QUERY, ["number %d\n%s" % (i, text) for i, text in enumerate(TEXTS)])
        self.assertEqual([d.score for d in titled.run(QUERY, given)["documents"]], [h["score"] for h in want])
        for wrong in (lambda: module.KalmRanker(model=MODEL, top_k=0), lambda: ranker.run(QUERY, given, top_k=-1)):
            with self.assertRaises(ValueError):
                wrong()

    def test_rerankers(self):
        module = adapter("rerankers")
        ranker = module.Reranker(self.model)
        results = ranker.rank(QUERY, TEXTS, doc_ids=list("abcde"), metadata=[{"page": i} for i in range(5)])
        self.assertEqual([(r.doc_id, r.text, r.score, r.rank, r.page, r.document.metadata["page"]) for r in results],
                         [("abcde"[h["corpus_id"]], TEXTS[h["corpus_id"]], h["score"], i + 1, h["corpus_id"], h["corpus_id"])
                          for i, h in enumerate(self.want)])
        self.assertEqual((results.results_count(), len(results), results.query, results.has_scores), (5, 5, QUERY, True))
        self.assertEqual([r.rank for r in results.top_k(2)], [1, 2])
        self.assertEqual(results.get_score_by_docid("a"), results.get_result_by_docid("a").score)
        self.assertIsNone(results.get_score_by_docid("z"))
        self.assertEqual(results[0].doc_id, "abcde"[self.want[0]["corpus_id"]])
        self.assertEqual(pickle.loads(pickle.dumps(results))[0].text, results[0].text)
        with self.assertRaises(AttributeError):
            results[0].nothing
        self.assertEqual([r.doc_id for r in ranker.rank(QUERY, [module.Document(t, i) for i, t in enumerate(TEXTS)])],
                         [h["corpus_id"] for h in self.want])
        self.assertEqual(ranker.rank(QUERY, "one text").results_count(), 1)
        self.assertEqual(ranker.score(QUERY, TEXTS[0]), next(h["score"] for h in self.want if h["corpus_id"] == 0))
        self.assertEqual([r.score for r in asyncio.run(ranker.rank_async(QUERY, TEXTS))], [h["score"] for h in self.want])
        with self.assertRaises(ValueError):
            ranker.rank(QUERY, TEXTS, doc_ids=[1])
        with self.assertRaises(TypeError):
            module.Reranker(self.model, threads=2)

    def test_flashrank(self):
        module = adapter("rerankers")
        passages = [{"id": i, "text": text, "meta": {"page": i}} for i, text in enumerate(TEXTS)]
        got = module.Ranker(self.model).rerank(module.RerankRequest(query=QUERY, passages=passages))
        self.assertEqual([(p["id"], p["score"], p["meta"]) for p in got],
                         [(h["corpus_id"], h["score"], {"page": h["corpus_id"]}) for h in self.want])
        self.assertNotIn("score", passages[0])
        self.assertEqual(module.Ranker(self.model).rerank(module.RerankRequest(QUERY)), [])
        with self.assertRaises(ValueError):
            module.Ranker(self.model).rerank(module.RerankRequest())

    def test_wheel_has_them(self):
        code = ("from kalm_rerank.rerankers import Reranker; import importlib.util as u; print(Reranker(%r, threads=1).rank('chess', "
                "['photos', 'a game of chess'])[0].doc_id, all(u.find_spec('kalm_rerank.' + n) for n in ('langchain', 'llamaindex', 'haystack')))")
        out = subprocess.run([sys.executable, "-W", "error", "-c", code % MODEL], stdout=subprocess.PIPE, check=True,
                             env={"PYTHONPATH": SITE, "PATH": os.environ["PATH"]})
        self.assertEqual(out.stdout.split(), [b"1", b"True"])

    def test_source_distribution(self):
        """It builds the same wheel in a folder of its own, from what is in it alone."""
        with tempfile.TemporaryDirectory() as folder:
            build = "import sys; sys.path.insert(0, %r); import backend; print(backend.%s(%r))"

            def run(where, what):
                out = subprocess.run([sys.executable, "-B", "-W", "error", "-c", build % (where, what, folder)], stdout=subprocess.PIPE,
                                     check=True, cwd=folder, env=dict(os.environ, CFLAGS="-O0 -DKALM_NO_SIMD"))
                return os.path.join(folder, out.stdout.decode().strip())

            with tarfile.open(run(os.path.abspath(HERE), "build_sdist")) as archive:
                names = archive.getnames()
                safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                for member in archive.getmembers():
                    self.assertTrue(member.isfile() and ".." not in member.name and not member.name.startswith("/"), member.name)
                    archive.extract(member, folder, **safe)
            (top,) = {name.split("/")[0] for name in names}
            self.assertLessEqual({top + "/" + name for name in ("PKG-INFO", "pyproject.toml", "LICENSE", "kalm_rerank.h", "adapters/haystack.py")},
                                 set(names))
            wheel = run(os.path.join(folder, top), "build_wheel")
            names = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], stdout=subprocess.PIPE, check=True).stdout.decode()
            (info,) = glob.glob(os.path.join(SITE, "*.dist-info"))
            with open(os.path.join(info, "RECORD"), encoding="utf-8") as file:
                for row in file:
                    self.assertIn(row.split(",")[0], names)

    def test_syntax_of_python_3_8(self):
        for path in glob.glob(os.path.join(HERE, "**", "*.py*"), recursive=True):
            if path.endswith((".py", ".pyi")):
                with open(path, encoding="utf-8") as file:
                    ast.parse(file.read(), path, feature_version=(3, 8))
