"""kalm_rerank.py - rerank texts from Python. One file over the C library by ctypes; nothing to build but the library
(`make shared`, which gives build/libkalm_rerank.so) and nothing to install.

    from kalm_rerank import Reranker

    model = Reranker("nano.kalm")
    for hit in model.rank("What is the capital of China?", ["The capital of China is Beijing.", "Gravity attracts."]):
        print(hit["corpus_id"], hit["score"])

rank() and predict() take and return what those of sentence-transformers' CrossEncoder do. What that class cannot: encode
documents once, keep their bytes, and score them against any number of queries:

    docs = model.encode(texts)                          # list of Document
    open("docs.bin", "wb").write(docs[0].tobytes())
    doc = model.document(open("docs.bin", "rb").read())
    model.rank("a query", [doc, docs[1], "a plain text"])

Scores are P(yes), from 0 to 1; with raw=True they are margins, the difference of the two logits. A Reranker may be used
from several threads: its calls take turns. Errors of the library are KalmError, with its sentence.
"""

import ctypes
import ctypes.util
import os
import sys
import threading

__all__ = ["Reranker", "CrossEncoder", "Document", "KalmError", "version"]


class KalmError(RuntimeError):
    """A call that failed: `code` is the kalm_result, the text one sentence."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


# ---- the C side: structs as in kalm_rerank.h -------------------------------------------------------------------------

_BAD_ARGUMENT, _CANCELLED = 1, 8
_NUL = ctypes.c_size_t(-1).value
_PARSE_CONTROL = 2
_PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)


class _Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 248)]


class _Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class _Config(ctypes.Structure):
    _fields_ = [("alloc", ctypes.c_void_p), ("release", ctypes.c_void_p), ("user", ctypes.c_void_p),
                ("threads", ctypes.c_uint32), ("parallel", ctypes.c_void_p), ("parallel_user", ctypes.c_void_p),
                ("max_doc_tokens", ctypes.c_uint32), ("max_query_tokens", ctypes.c_uint32),
                ("cache_bytes", ctypes.c_size_t), ("kernels", ctypes.c_char_p)]


class _Params(ctypes.Structure):
    _fields_ = [("ratio", ctypes.c_uint32), ("bits", ctypes.c_uint32), ("flags", ctypes.c_uint32),
                ("system", _Text), ("instruction", _Text), ("progress", _PROGRESS), ("progress_user", ctypes.c_void_p),
                ("on_score", ctypes.c_void_p), ("on_score_user", ctypes.c_void_p), ("prefix_tokens", ctypes.c_uint32),
                ("coarse_ratio", ctypes.c_uint32), ("coarse_keep", ctypes.c_uint32)]


class _ModelInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("weights", ctypes.c_char_p), ("vocabulary", ctypes.c_uint32),
                ("layers", ctypes.c_uint32), ("width", ctypes.c_uint32), ("max_tokens", ctypes.c_uint32),
                ("has_tokenizer", ctypes.c_int), ("yes_id", ctypes.c_int32), ("no_id", ctypes.c_int32),
                ("bytes", ctypes.c_uint64), ("fingerprint", ctypes.c_uint64)]


class _DocInfo(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_uint32), ("tokens_used", ctypes.c_uint32), ("rows", ctypes.c_uint32),
                ("ratio", ctypes.c_uint32), ("width", ctypes.c_uint32), ("bits", ctypes.c_uint32),
                ("fingerprint", ctypes.c_uint64)]


class _Score(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint32), ("cut", ctypes.c_uint32), ("margin", ctypes.c_float), ("score", ctypes.c_float)]


def _functions(lib):
    p, u32, size, error = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_size_t, ctypes.POINTER(_Error)
    pointer, params, scores = ctypes.POINTER(p), ctypes.POINTER(_Params), ctypes.POINTER(_Score)
    config, sizes, ids = ctypes.POINTER(_Config), ctypes.POINTER(size), ctypes.POINTER(ctypes.c_int32)
    for name, result, arguments in [
        ("kalm_version", u32, []),
        ("kalm_kernels", ctypes.c_char_p, [size]),
        ("kalm_model_open", ctypes.c_int, [ctypes.c_char_p, config, pointer, error]),
        ("kalm_model_close", None, [p]),
        ("kalm_model_get_info", None, [p, ctypes.POINTER(_ModelInfo)]),
        ("kalm_model_verify", ctypes.c_int, [p, error]),
        ("kalm_tokenize", ctypes.c_int, [p, _Text, u32, ids, size, sizes, error]),
        ("kalm_detokenize", ctypes.c_int, [p, ids, size, p, size, sizes, error]),
        ("kalm_context_new", ctypes.c_int, [p, config, pointer, error]),
        ("kalm_context_bytes", ctypes.c_int, [p, config, sizes, error]),
        ("kalm_context_free", None, [p]),
        ("kalm_encode", ctypes.c_int, [p, ctypes.POINTER(_Text), size, params, pointer, error]),
        ("kalm_doc_bytes", p, [p, sizes]),
        ("kalm_doc_open", ctypes.c_int, [p, ctypes.c_char_p, size, u32, pointer, error]),
        ("kalm_doc_repool", ctypes.c_int, [p, p, u32, u32, pointer, error]),
        ("kalm_doc_get_info", None, [p, ctypes.POINTER(_DocInfo)]),
        ("kalm_doc_free", None, [p]),
        ("kalm_rerank", ctypes.c_int, [p, _Text, pointer, size, params, scores, error]),
        ("kalm_rerank_texts", ctypes.c_int, [p, _Text, ctypes.POINTER(_Text), size, params, scores, error]),
    ]:
        function = getattr(lib, name)
        function.restype = result
        function.argtypes = arguments
    return lib


_lib = None


def _library(path=None):
    """The C library: `path`, else $KALM_RERANK_LIBRARY, else beside this file, in build/, or where the system has it."""
    global _lib
    if _lib is not None and path is None:
        return _lib
    name = {"darwin": "libkalm_rerank.dylib", "win32": "kalm_rerank.dll"}.get(sys.platform, "libkalm_rerank.so")
    here = os.path.dirname(os.path.abspath(__file__))
    tried = [path or os.environ.get("KALM_RERANK_LIBRARY")]
    if not tried[0]:
        tried = [os.path.join(here, name), os.path.join(here, "..", "..", "build", name),
                 ctypes.util.find_library("kalm_rerank")]
    for file in tried:
        if file and (os.path.exists(file) or os.path.dirname(file) == ""):
            _lib = _functions(ctypes.CDLL(file))
            return _lib
    raise OSError("there is no %s: `make shared` builds it, KALM_RERANK_LIBRARY names it" % name)


def version():
    """The library's version, "0.1.0"."""
    v = _library().kalm_version()
    return "%d.%d.%d" % (v >> 16, v >> 8 & 255, v & 255)


def _text(value):
    """None is the library's default; a str goes over as UTF-8, unpaired surrogates as U+FFFD."""
    if value is None:
        return _Text(None, 0)
    if not isinstance(value, (str, bytes)):
        raise TypeError("a text must be str, not %s" % type(value).__name__)
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return _Text(data, len(data))


# ---- documents -----------------------------------------------------------------------------------------------------------

class Document:
    """An encoded text. Lives on when its Reranker is closed."""

    def __init__(self, lib, pointer):
        self._lib, self._pointer = lib, pointer

    def __del__(self):
        if getattr(self, "_pointer", None):
            self._lib.kalm_doc_free(self._pointer)
            self._pointer = None

    def _info(self):
        info = _DocInfo()
        self._lib.kalm_doc_get_info(self._pointer, ctypes.byref(info))
        return info

    tokens = property(lambda self: self._info().tokens, doc="tokens of the text")
    rows = property(lambda self: self._info().rows, doc="rows of numbers that stand for it")
    ratio = property(lambda self: self._info().ratio, doc="tokens pooled into a row")
    bits = property(lambda self: self._info().bits, doc="kept of each number")
    cut = property(lambda self: self._info().tokens_used < self._info().tokens, doc="only the beginning was read")

    def tobytes(self):
        """What to store; Reranker.document() opens it again."""
        size = ctypes.c_size_t()
        data = self._lib.kalm_doc_bytes(self._pointer, ctypes.byref(size))
        return ctypes.string_at(data, size.value)

    def __len__(self):
        size = ctypes.c_size_t()
        self._lib.kalm_doc_bytes(self._pointer, ctypes.byref(size))
        return size.value

    def __repr__(self):
        return "<Document: %d tokens in %d rows, %d bytes>" % (self.tokens, self.rows, len(self))


# ---- the model ------------------------------------------------------------------------------------------------------------

class Reranker:
    """A model file and the working memory to use it.

    path: a .kalm file. max_doc_tokens, max_query_tokens: longer texts are cut (defaults 1024 and 512). threads: default
    one per core. ratio: document tokens pooled into one row, default 4. bits: kept of each number of an encoded document,
    32, 16 (default) or 8. instruction, system: sentences of the prompt, default the model's own. parse_control: marks
    like <end_of_turn> in texts act on the prompt. kernels: an instruction set by name. library: path of the C library."""

    def __init__(self, path, *, max_doc_tokens=0, max_query_tokens=0, threads=0, ratio=0, bits=0, instruction=None,
                 system=None, parse_control=False, cache_bytes=0, kernels=None, library=None):
        self._model = self._context = None
        self._lib = _library(library)
        self._lock = threading.Lock()
        self.ratio, self.bits, self.instruction, self.system = ratio, bits, instruction, system
        self.parse_control = parse_control
        config = _Config(threads=threads, max_doc_tokens=max_doc_tokens, max_query_tokens=max_query_tokens,
                         cache_bytes=cache_bytes, kernels=kernels.encode() if kernels else None)
        model, context, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        name = os.fspath(path)
        if isinstance(name, str):
            name = name.encode("utf-8") if sys.platform == "win32" else os.fsencode(name)
        self._call("kalm_model_open", name, None, ctypes.byref(model))
        self._model = model
        self._call("kalm_context_bytes", model, ctypes.byref(config), ctypes.byref(size))
        self.working_memory = size.value
        self._call("kalm_context_new", model, ctypes.byref(config), ctypes.byref(context))
        self._context = context
        self._info = _ModelInfo()
        self._lib.kalm_model_get_info(model, ctypes.byref(self._info))

    name = property(lambda self: self._info.name.decode("utf-8", "replace"))
    weights = property(lambda self: self._info.weights.decode())
    max_tokens = property(lambda self: self._info.max_tokens)

    @staticmethod
    def kernels():
        """Instruction sets that this machine can run, best first."""
        names, lib = [], _library()
        while lib.kalm_kernels(len(names)):
            names.append(lib.kalm_kernels(len(names)).decode())
        return names

    def close(self):
        """Give everything back; documents live on. `with Reranker(...) as model:` does it at the end."""
        if getattr(self, "_context", None):
            self._lib.kalm_context_free(self._context)
        if getattr(self, "_model", None):
            self._lib.kalm_model_close(self._model)
        self._context = self._model = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()

    # One call with an error record behind its arguments.
    def _call(self, function, *arguments):
        error = _Error()
        if getattr(self._lib, function)(*arguments, ctypes.byref(error)):
            raise KalmError(error.code, error.text.decode("utf-8", "replace"))

    # A call that works: takes turns, can be stopped by `progress` or Ctrl-C.
    def _job(self, function, arguments, results, progress=None, ratio=None, instruction=None, system=None, bits=None):
        caught = []

        def step(_, done, total):
            try:
                return 1 if progress is not None and progress(done, total) else 0
            except BaseException as e:     # KeyboardInterrupt too: raised below, when the library has returned
                caught.append(e)
                return 1

        params = _Params(ratio=self.ratio if ratio is None else ratio, bits=self.bits if bits is None else bits,
                         flags=_PARSE_CONTROL if self.parse_control else 0,
                         system=_text(self.system if system is None else system),
                         instruction=_text(self.instruction if instruction is None else instruction),
                         progress=_PROGRESS(step))
        with self._lock:
            if not self._context:
                raise KalmError(_BAD_ARGUMENT, "the model is closed")
            try:
                self._call(function, self._context, *arguments, ctypes.byref(params), results)
            except KalmError as e:
                if caught and e.code == _CANCELLED:
                    raise caught[0] from None
                raise

    @staticmethod
    def _texts(texts):
        array = (_Text * len(texts))()
        for i, text in enumerate(texts):
            array[i] = _text(text if text is not None else "")
        return array

    def encode(self, texts, *, ratio=None, bits=None, progress=None):
        """Documents of texts, a list; of one str, one Document. progress(done, total) is told, and stops by True."""
        one = isinstance(texts, (str, bytes))
        texts = [texts] if one else list(texts)
        pointers = (ctypes.c_void_p * len(texts))()
        self._job("kalm_encode", (self._texts(texts), len(texts)), pointers, progress, ratio=ratio, bits=bits)
        docs = [Document(self._lib, p) for p in pointers]
        return docs[0] if one else docs

    def document(self, data):
        """A Document from stored bytes, checked; the model must be the one that made it."""
        pointer = ctypes.c_void_p()
        self._call("kalm_doc_open", self._model, bytes(data), len(data), 0, ctypes.byref(pointer))
        return Document(self._lib, pointer.value)

    def repool(self, doc, ratio, bits=0):
        """The Document at a coarser ratio, a multiple of its own, without encoding again."""
        pointer = ctypes.c_void_p()
        self._call("kalm_doc_repool", self._model, doc._pointer, ratio, bits, ctypes.byref(pointer))
        return Document(self._lib, pointer.value)

    def _score(self, query, documents, options):
        """[(margin, score, cut)] for texts and Documents in any mixture."""
        results = [None] * len(documents)
        texts = [i for i, d in enumerate(documents) if not isinstance(d, Document)]
        docs = [i for i, d in enumerate(documents) if isinstance(d, Document)]
        for mine, function in ((texts, "kalm_rerank_texts"), (docs, "kalm_rerank")):
            if not mine:
                continue
            scores = (_Score * len(mine))()
            if mine is texts:
                array = self._texts([documents[i] for i in mine])
            else:
                array = (ctypes.c_void_p * len(mine))(*[documents[i]._pointer for i in mine])
            self._job(function, (_text(query), array, len(mine)), scores, **options)
            for s in scores:
                results[mine[s.index]] = (s.margin, s.score, bool(s.cut))
        return results

    def rank(self, query, documents, top_k=None, return_documents=False, *, raw=False, batch_size=None,
             show_progress_bar=None, **options):
        """Best first: [{"corpus_id": index in documents, "score": P(yes)}], with "text" when return_documents is set.
        documents: str or Document. raw: margins. Options: ratio, instruction, system, progress.
        batch_size and show_progress_bar are taken and do nothing."""
        documents = list(documents)
        scored = self._score(query, documents, options)
        order = sorted(range(len(documents)), key=lambda i: (-scored[i][0], i))
        hits = []
        for i in order[:top_k]:
            hit = {"corpus_id": i, "score": scored[i][0 if raw else 1]}
            if return_documents:
                hit["text"] = documents[i]
            hits.append(hit)
        return hits

    def predict(self, sentences, *, raw=False, convert_to_numpy=False, show_progress_bar=None, batch_size=None, **options):
        """P(yes) of each (query, document) pair, or of one pair; pairs of one query are scored together. A list of
        floats, a numpy array with convert_to_numpy. batch_size and show_progress_bar are taken and do nothing."""
        pairs = list(sentences)
        one = len(pairs) == 2 and isinstance(pairs[0], str) and isinstance(pairs[1], (str, Document))
        if one:
            pairs = [tuple(pairs)]
        queries = {}
        for i, (query, _) in enumerate(pairs):
            queries.setdefault(query, []).append(i)
        out = [0.0] * len(pairs)
        for query, where in queries.items():
            for i, result in zip(where, self._score(query, [pairs[i][1] for i in where], options)):
                out[i] = result[0 if raw else 1]
        if one:
            return out[0]
        if convert_to_numpy:
            import numpy
            return numpy.array(out, dtype=numpy.float32)
        return out

    def tokenize(self, text):
        """Token ids of a text alone."""
        count, t = ctypes.c_size_t(), _text(text)
        flags = _PARSE_CONTROL if self.parse_control else 0
        room = t.size + 8
        while True:
            ids = (ctypes.c_int32 * room)()
            self._call("kalm_tokenize", self._model, t, flags, ids, room, ctypes.byref(count))
            if count.value <= room:
                return list(ids[:count.value])
            room = count.value

    def detokenize(self, ids):
        """The text of token ids."""
        size, array = ctypes.c_size_t(), (ctypes.c_int32 * len(ids))(*ids)
        self._call("kalm_detokenize", self._model, array, len(ids), None, 0, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value + 1)
        self._call("kalm_detokenize", self._model, array, len(ids), text, size.value, ctypes.byref(size))
        return text.raw[:size.value].decode("utf-8", "replace")

    def __repr__(self):
        return "<Reranker %s, %s>" % (self.name, self.weights) if self._model else "<Reranker, closed>"


CrossEncoder = Reranker


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: kalm_rerank.py MODEL.kalm QUERY DOCUMENT...")
    for found in Reranker(sys.argv[1]).rank(sys.argv[2], sys.argv[3:], return_documents=True):
        print("%.4f  %s" % (found["score"], found["text"]))
