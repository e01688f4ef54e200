"""kalm_rerank.py - rerank texts from Python: one file over the C library, by ctypes.

There is nothing to install: `make shared` builds build/libkalm_rerank.so, and this file finds it there. `pip wheel .` in
this folder makes a wheel that has both.

    from kalm_rerank import Reranker

    model = Reranker("nano.kalm")
    for hit in model.rank("What is the capital of China?", ["The capital of China is Beijing.", "Gravity attracts."]):
        print(hit["corpus_id"], hit["score"])

rank() and predict() take and return what those of sentence-transformers' CrossEncoder do. What that class cannot do:
encode documents once, keep their bytes, and score them against any number of queries:

    docs = model.encode(texts)                          # a list of Document
    open("docs.bin", "wb").write(docs[0].tobytes())
    doc = model.document(open("docs.bin", "rb").read())
    model.rank("a query", [doc, docs[1], "a plain text"])

Scores are P(yes), from 0 to 1. With raw=True they are margins: the logit of "yes" minus the logit of "no".

Errors. The library's errors are KalmError, whose text is one sentence; an argument out of range is KalmArgumentError,
which is also a ValueError; an argument of the wrong type is TypeError.

Texts. A text is a str, or bytes in UTF-8. A lone surrogate in a str is read as U+FFFD, one for each, as browsers do it.

Threads. Any thread may call a Reranker at any time. Calls that compute (rank, predict, encode) take turns; the others run
beside them. close() waits for the calls at work; later calls raise KalmError. So do close() and calls that compute from
inside `progress`: the model waits for it to return.

Ctrl-C. On the main thread the library works in a helper thread while the main thread waits, so that signal handlers run
at once: KeyboardInterrupt, or whatever else your own handler raises, leaves the call within 100 ms. The computation
itself stops a few milliseconds later.

Processes. After os.fork the child has a working model: it shares the weights and makes its own working memory and threads
at its first call. A Reranker cannot be copied or pickled; a Document can, and costs its bytes.
"""

import _thread
import atexit
import ctypes
import ctypes.util
import operator
import os
import queue
import re
import struct
import sys
import threading
import time
import warnings
import weakref

__all__ = ["Reranker", "CrossEncoder", "Document", "KalmError", "KalmArgumentError", "version"]


class KalmError(RuntimeError):
    """A call that failed. `code` is the number of the kalm_result, `name` its name ("BAD_FILE"), the text one sentence."""

    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code

    def __str__(self):
        return self.args[1]

    name = property(lambda self: _RESULTS[self.code] if self.code < len(_RESULTS) else "UNKNOWN")


class KalmArgumentError(KalmError, ValueError):
    """An argument that no call can use: out of range, or given to a model that is closed."""


# ---- the C library: its structs as kalm_rerank.h declares them --------------------------------------------------------

_RESULTS = ["OK", "BAD_ARGUMENT", "NO_MEMORY", "CANNOT_READ", "BAD_FILE", "BAD_VERSION", "MISMATCH", "NO_KERNELS", "CANCELLED",
            "OVERFLOW", "INCOMPLETE"]
_BAD_ARGUMENT, _BAD_FILE, _CANCELLED = 1, 4, 8
_BORROW, _PARSE_CONTROL = 1, 2
_CUT_DOCUMENT, _CUT_QUERY = 1, 2
_LOAD_MAP, _LOAD_READ = 0, 1
_UINT32_MAX = 0xffffffff
_SIZE_MAX = ctypes.c_size_t(-1).value
_PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)

# Later versions of the library append fields to the structs, and zero is the default of each: this is room for them.
_LATER = ("later", ctypes.c_uint64 * 16)


class _Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("text", ctypes.c_char * 248)]


class _Text(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


class _Config(ctypes.Structure):
    _fields_ = [("alloc", ctypes.c_void_p), ("release", ctypes.c_void_p), ("user", ctypes.c_void_p),
                ("threads", ctypes.c_uint32), ("parallel", ctypes.c_void_p), ("parallel_user", ctypes.c_void_p),
                ("max_doc_tokens", ctypes.c_uint32), ("max_query_tokens", ctypes.c_uint32),
                ("cache_bytes", ctypes.c_size_t), ("kernels", ctypes.c_char_p), ("load", ctypes.c_uint32), ("state_bits", ctypes.c_uint32),
                _LATER]


class _Params(ctypes.Structure):
    _fields_ = [("ratio", ctypes.c_uint32), ("bits", ctypes.c_uint32), ("flags", ctypes.c_uint32),
                ("system", _Text), ("instruction", _Text), ("progress", _PROGRESS), ("progress_user", ctypes.c_void_p),
                ("on_score", ctypes.c_void_p), ("on_score_user", ctypes.c_void_p), ("prefix_tokens", ctypes.c_uint32),
                ("coarse_ratio", ctypes.c_uint32), ("coarse_keep", ctypes.c_uint32), _LATER]


class _ModelInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("weights", ctypes.c_char_p), ("vocabulary", ctypes.c_uint32),
                ("layers", ctypes.c_uint32), ("width", ctypes.c_uint32), ("max_tokens", ctypes.c_uint32),
                ("has_tokenizer", ctypes.c_int), ("yes_id", ctypes.c_int32), ("no_id", ctypes.c_int32),
                ("bytes", ctypes.c_uint64), ("fingerprint", ctypes.c_uint64), ("cut_vocabulary", ctypes.c_uint64),
                ("has_encoder", ctypes.c_int), ("has_decoder", ctypes.c_int), ("transform", ctypes.c_uint64), _LATER]


class _DocInfo(ctypes.Structure):
    _fields_ = [("tokens", ctypes.c_uint32), ("tokens_used", ctypes.c_uint32), ("rows", ctypes.c_uint32),
                ("ratio", ctypes.c_uint32), ("width", ctypes.c_uint32), ("bits", ctypes.c_uint32),
                ("fingerprint", ctypes.c_uint64), ("vocabulary", ctypes.c_uint64), ("transform", ctypes.c_uint64), _LATER]


class _CacheInfo(ctypes.Structure):
    _fields_ = [("hits", ctypes.c_uint64), ("misses", ctypes.c_uint64), ("dropped", ctypes.c_uint64),
                ("documents", ctypes.c_size_t), ("bytes", ctypes.c_size_t), ("limit", ctypes.c_size_t), _LATER]


class _Score(ctypes.Structure):
    _fields_ = [("index", ctypes.c_uint32), ("cut", ctypes.c_uint32), ("margin", ctypes.c_float), ("score", ctypes.c_float)]


def _functions(lib):
    """`lib` with the types of the functions that this file calls."""
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
        ("kalm_context_get_cache", None, [p, ctypes.POINTER(_CacheInfo)]),
        ("kalm_context_free", None, [p]),
        ("kalm_encode", ctypes.c_int, [p, ctypes.POINTER(_Text), size, params, pointer, error]),
        ("kalm_doc_bytes", p, [p, sizes]),
        ("kalm_doc_open", ctypes.c_int, [p, p, size, u32, pointer, error]),
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
            _lib = _functions(ctypes.CDLL(os.fspath(file)))
            return _lib
    raise OSError("there is no %s: `make shared` builds it, KALM_RERANK_LIBRARY names it" % name)


def version():
    """The library's version, "0.1.0"."""
    v = _library().kalm_version()
    return "%d.%d.%d" % (v >> 16, v >> 8 & 255, v & 255)


# `function(*arguments, error record)`; its error becomes an exception.
def _check(function, *arguments):
    error = _Error()
    code = function(*arguments, ctypes.byref(error))
    if code:
        kind = KalmArgumentError if code == _BAD_ARGUMENT else KalmError
        raise kind(code, error.text.decode("utf-8", "replace"))


# ---- arguments: checked here, because ctypes would let numbers wrap ----------------------------------------------------

def _number(name, value, most=_UINT32_MAX, default=0):
    """`value` as an integer from 0 to `most`. None stands for the default, if there is one."""
    if value is None and default is not None:
        return default
    try:
        if type(value).__name__ in ("bool", "bool_"):      # Python's and numpy's
            raise TypeError
        number = operator.index(value)                     # integers of numpy too; no floats, NaN or strings
    except TypeError:
        raise TypeError("%s must be an integer, not %s" % (name, type(value).__name__)) from None
    if not 0 <= number <= most:
        shown = "%d" % number if number.bit_length() <= 128 else "a number of %d bits" % number.bit_length()
        raise KalmArgumentError(_BAD_ARGUMENT, "%s is %s: it must be from 0 to %d" % (name, shown, most))
    return number


def _encoded(value, what="a text"):
    """The UTF-8 of a text. As in browsers, two surrogates that make a pair are its character, a lone one is U+FFFD."""
    if isinstance(value, bytes):
        return bytes.__getitem__(value, slice(None))       # of a subclass, whose own __len__ may lie, the bytes alone
    if not isinstance(value, str):
        raise TypeError("%s must be str, not %s" % (what, type(value).__name__))
    try:
        return str.encode(value, "utf-8")
    except UnicodeEncodeError:
        return str.encode(value, "utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode("utf-8")


def _text(value, what="a text"):
    """A kalm_text; of None the one that stands for the default."""
    if value is None:
        return _Text(None, 0)
    data = _encoded(value, what)
    return _Text(data, len(data))


def _texts(texts):
    """An array of kalm_text, which keeps the bytes alive."""
    array = (_Text * len(texts))()
    for i, text in enumerate(texts):
        data = _encoded(text, "text %d" % i)
        array[i].data = data
        array[i].size = len(data)
    return array


def _listed(name, value):
    """`value` as a list; what is iterable but no list of documents is refused."""
    no_list = isinstance(value, (str, bytes, bytearray, memoryview, dict, set, frozenset))
    if no_list or hasattr(value, "iloc") and hasattr(value, "columns"):        # the latter: a DataFrame of pandas
        raise TypeError("%s must be a list, not %s" % (name, type(value).__name__))
    try:
        return list(value)
    except TypeError:
        raise TypeError("%s must be a list, not %s" % (name, type(value).__name__)) from None


# ---- the engine: who may be inside the C library, and when -------------------------------------------------------------

_POLL = 0.05           # seconds between two looks at what does not wake a waiting thread
_GRACE = 0.03          # seconds that an interrupted call waits for the library to stop; then the helper thread is left to it
_LONG_TEXT = 1 << 16   # bytes: a shorter text is tokenized in less than 10 ms

_engines = weakref.WeakSet()
_left = set()          # jobs of helper threads that nobody waits for any more


class _Job:
    """A call of the library that may take long: start() runs work(job), which gives the library job.callback.

    On the main thread the work is done in a helper thread, elsewhere (where Python runs no signal handlers) in the calling
    one. `progress`, the user's function, is always called in the calling thread.

    The helper is a bare thread: a threading.Thread runs Python code on the main thread when it is forgotten, and there an
    interrupt would be printed and lost."""

    def __init__(self, work, progress=None, stoppable=True):
        on_main_thread = threading.current_thread() is threading.main_thread()
        self.work, self.progress, self.has_helper = work, progress, on_main_thread
        self.stoppable = stoppable
        self.cancelled = self.ended = False
        self.result = self.error = None
        self.process = os.getpid()
        self.steps, self.answers = queue.SimpleQueue(), queue.SimpleQueue()    # (done, total), and None at the end; 0 or 1
        # Without `progress` and signals nobody can stop the work: then the library need not ask Python after every layer.
        self.callback = _PROGRESS(self._step) if stoppable and (on_main_thread or progress) else _PROGRESS()

    live = property(lambda self: not (self.cancelled or self.ended))

    def start(self):
        """The result of `work`, or its exception."""
        try:
            if self.has_helper:
                try:
                    _thread.start_new_thread(self._run, ())
                except RuntimeError:   # the system, or an interpreter that is ending, has no thread for us
                    self.has_helper = False
            if self.has_helper:
                self._wait()
            else:
                self._run()
        except BaseException:          # KeyboardInterrupt, or what `progress` raised
            self.cancelled = True
            self._leave()
            raise
        finally:
            self.cancelled = True      # whatever becomes of the lines above
        error, self.error, self.callback = self.error, None, None
        if error is not None:
            raise error
        return self.result

    def _run(self):
        try:
            self.result = self.work(self)
        except BaseException as e:
            self.error = self.error or e
        self.work = None               # and what it holds
        self.ended = True
        _left.discard(self)
        self.steps.put(None)

    # What the library calls after every layer; non-zero stops it. In the helper thread it asks the calling one.
    def _step(self, _, done, total):
        try:
            if self.cancelled or self.progress is None:
                return int(self.cancelled)
            if not self.has_helper:
                return int(bool(self.progress(done, total)))
            self.steps.put((done, total))
            while not self.cancelled:
                try:
                    return self.answers.get(timeout=_POLL)
                except queue.Empty:
                    pass
        except BaseException as e:     # ctypes would print it and go on
            self.error = e
        return 1

    # In the calling thread, until the helper has ended. A waiting thread wakes for signals, and runs their handlers.
    def _wait(self):
        while True:
            try:
                step = self.steps.get(timeout=_POLL)
            except queue.Empty:
                if os.getpid() == self.process:
                    continue
                raise KalmError(_CANCELLED, "the process was forked inside this call, which the parent alone goes on with") \
                    from None
            if step is None:
                return
            answer = int(bool(self.progress(*step)))
            if os.getpid() == self.process:
                self.answers.put(answer)

    # Give a helper that can be stopped a little time for it, then go on without it.
    def _leave(self):
        self.answers.put(1)            # if it waits for one
        if not self.stoppable or os.getpid() != self.process:
            return
        _left.add(self)
        until = time.monotonic() + _GRACE
        while not self.ended and time.monotonic() < until:
            time.sleep(0.001)
        if self.ended:
            _left.discard(self)


@atexit.register
def _finish():
    """At the end of the program: wait for cancelled work, which ends with its layer, before the interpreter goes away."""
    until = time.monotonic() + 5
    while _left and time.monotonic() < until:
        time.sleep(0.002)


class _Engine:
    """A kalm_model and a kalm_context. `inside` has an entry for each call that uses them, so that close() frees nothing that
    is in use. The context is used by one thread at a time: the one that holds `turn`."""

    def __init__(self, lib, path, config):
        self.lib, self.path, self.config = lib, path, config
        self.model = self.context = None
        self.closed = False
        self._renew()
        _Job(self._open, stoppable=False).start()

    def _open(self, job):
        model, size = ctypes.c_void_p(), ctypes.c_size_t()
        _check(self.lib.kalm_model_open, self.path, ctypes.byref(self.config), ctypes.byref(model))
        self.model = model
        _check(self.lib.kalm_context_bytes, model, ctypes.byref(self.config), ctypes.byref(size))
        self.bytes = size.value
        self._need_context()
        _engines.add(self)

    def _renew(self):
        """The state of an engine that nobody uses. In a forked child the old locks may be held by threads that the child does
        not have, and the old context needs threads that it does not have: the next call makes a new one."""
        self.inside = {}               # one object for each use -> its thread
        self.jobs = {}                 # thread -> the job that it waits for or works at
        self.turn, self.freeing, self.left = threading.Lock(), threading.Lock(), threading.Event()
        self.context = None

    def _need_context(self):
        if not self.context:
            context = ctypes.c_void_p()
            _check(self.lib.kalm_context_new, self.model, ctypes.byref(self.config), ctypes.byref(context))
            self.context = context

    def use(self, work):
        """work(), while nobody can close the engine."""
        token = object()
        try:
            self.inside[token] = threading.get_ident()
            self._need_open()          # after the entry is made: close() does it the other way round
            return work()
        finally:
            self.inside.pop(token, None)
            if self.closed:
                self.left.set()

    def compute(self, work, progress=None):
        """work(context, callback) when it is this call's turn; signals and `progress` can stop it."""
        if progress is not None and not callable(progress):
            raise TypeError("progress must be a function of (done, total), not %s" % type(progress).__name__)
        self._refuse_nested()

        def in_turn(job):
            with self.turn:
                thread = threading.get_ident()
                self.jobs[thread] = job
                try:
                    self._need_open()
                    if job.cancelled:
                        return None
                    self._need_context()
                    return work(self.context, job.callback)
                finally:
                    self.jobs.pop(thread, None)

        job = _Job(lambda job: self.use(lambda: in_turn(job)), progress)
        if progress is not None:
            self.jobs[threading.get_ident()] = job
        try:
            return job.start()
        finally:
            if progress is not None:
                self.jobs.pop(threading.get_ident(), None)

    def _need_open(self):
        if self.closed:
            raise KalmArgumentError(_BAD_ARGUMENT, "the model is closed")

    def _refuse_nested(self):
        job = self.jobs.get(threading.get_ident())
        if job is not None and job.live:
            raise KalmArgumentError(_BAD_ARGUMENT, "the model was called inside its own progress function, which it waits for")

    def close(self, wait=True):
        """Free everything when the last use has ended. Without `wait`: now, or never if it is in use."""
        self._refuse_nested()
        self.closed = True
        me = threading.get_ident()     # an entry of this thread's own was left behind by an interrupt
        while any(thread != me for thread in list(self.inside.values())):
            if not wait:
                return
            self.left.wait(_POLL)
            self.left.clear()
        with self.freeing:
            context, self.context = self.context, None
            model, self.model = self.model, None
            if context:
                self.lib.kalm_context_free(context)
            if model:
                self.lib.kalm_model_close(model)

    def __del__(self):
        if not sys.is_finalizing():    # else the system takes it all back, and threads may still be at work
            self.close(wait=False)


def _renew_engines():
    _left.clear()
    for engine in list(_engines):
        engine._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_engines)


# ---- documents ---------------------------------------------------------------------------------------------------------

class _Buffer(ctypes.Structure):
    """Python's Py_buffer: the memory of an object, which stays where it is until PyBuffer_Release."""

    _fields_ = [("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
                ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p),
                ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p)]


def _aligned(view):
    """Whether the library can read the memory where it lies: in one piece, at an address that 4 divides."""
    buffer = _Buffer()
    try:
        ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    except (AttributeError, BufferError):      # an interpreter without Py_buffer; memory in pieces
        return False
    aligned = buffer.buf is not None and buffer.buf % 4 == 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return aligned


class Document:
    """An encoded text: `rows` rows of `width` numbers of `bits` bits, each row standing for `ratio` tokens. It is its bytes, and
    cannot be changed; it can be copied, pickled, and used by any number of threads and Rerankers of the same model file.

    Reranker.encode() makes it of a text, Reranker.document() of its bytes."""

    __slots__ = ("_data", "__weakref__")

    def __init__(self):
        raise TypeError("a Document is made by Reranker.encode() or Reranker.document()")

    # The header of the bytes, as src/format.h draws it.
    def _field(self, form, at):
        return struct.unpack_from(form, self._data, at)[0]

    fingerprint = property(lambda self: self._field("<Q", 8), doc="of the model that made it, an integer of 64 bits")
    tokens = property(lambda self: self._field("<I", 16), doc="tokens of the text, its prefix included")
    tokens_used = property(lambda self: self._field("<I", 20), doc="tokens that were read: fewer when the text was cut")
    ratio = property(lambda self: self._field("<I", 24), doc="tokens pooled into one row")
    rows = property(lambda self: self._field("<I", 28), doc="rows of numbers: tokens_used / ratio, rounded up")
    width = property(lambda self: self._field("<I", 32), doc="numbers in a row")
    bits = property(lambda self: self._field("<I", 36), doc="bits kept of each number: 32, 16, 8, 4, 3 or 2")
    vocabulary = property(lambda self: self._field("<Q", 48),
                          doc="0: the text was read with the model's whole vocabulary; else with one that was cut, an integer of 64 bits")
    transform = property(lambda self: self._field("<Q", 56),
                         doc="of rows of 4, 3 and 2 bits: that of the model file, an integer of 64 bits; else 0")
    cut = property(lambda self: self.tokens_used < self.tokens, doc="True: only the beginning of the text was read")

    def tobytes(self):
        """The bytes to store; Reranker.document() opens them again."""
        return bytes(self._data)

    __bytes__ = tobytes

    def __len__(self):
        """The number of bytes."""
        return len(self._data)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return _document, (self.tobytes(),)

    def __repr__(self):
        return "<Document: %d tokens in %d rows, %d bytes>" % (self.tokens, self.rows, len(self))


def _document(data):
    """The Document that is `data`: bytes, or a memoryview that _aligned() allows. Every call that uses it checks it."""
    if len(data) < 64:
        raise KalmError(_BAD_FILE, "these %d bytes are no encoded document" % len(data))
    doc = Document.__new__(Document)
    doc._data = data
    return doc


class _Handles:
    """`with _Handles(lib, model, documents) as array:` has a kalm_doc for each, which reads the Document's own memory."""

    def __init__(self, lib, model, documents):
        self.lib, self.model, self.documents = lib, model, documents

    def __enter__(self):
        self.array = (ctypes.c_void_p * len(self.documents))()
        self.buffers = []
        self.made = 0
        try:
            for i, doc in enumerate(self.documents):
                pointer = ctypes.c_void_p()
                try:
                    _check(self.lib.kalm_doc_open, self.model, self._address(doc._data), len(doc._data), _BORROW,
                           ctypes.byref(pointer))
                except KalmError as e:
                    raise type(e)(e.code, str(e) if len(self.documents) == 1 else "document %d: %s" % (i, e)) from None
                self.array[i] = pointer
                self.made += 1
        except BaseException:
            self.__exit__()
            raise
        return self.array

    def _address(self, data):
        if isinstance(data, bytes):
            return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p)
        buffer = _Buffer()
        ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(data), ctypes.byref(buffer), 0)
        self.buffers.append(buffer)
        return buffer.buf

    def __exit__(self, *_):
        for i in range(self.made):
            self.lib.kalm_doc_free(self.array[i])
        for buffer in self.buffers:
            ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


# ---- progress bars -----------------------------------------------------------------------------------------------------

class _Bar:
    """show_progress_bar=True: tqdm's bar where tqdm is installed, else a line on standard error."""

    def __init__(self, what):
        self.what, self.shown = what, 0
        try:
            from tqdm.auto import tqdm
            self.bar = tqdm(total=100, desc=what, unit="%")
        except ImportError:
            self.bar = None

    def show(self, part):
        """part: from 0 to 1. It begins anew with every query."""
        percent = int(100 * part)
        if percent == self.shown:
            return
        if self.bar is not None:
            self.bar.update(percent - self.shown)
        else:
            sys.stderr.write("\r%s %3d %%" % (self.what, percent))
            sys.stderr.flush()
        self.shown = percent

    def close(self):
        if self.bar is not None:
            self.bar.close()
        else:
            sys.stderr.write("\n")


# ---- the model ---------------------------------------------------------------------------------------------------------

def _cuts(cut):
    """(the document was cut, the query was cut) of kalm_score.cut"""
    return bool(cut & _CUT_DOCUMENT), bool(cut & _CUT_QUERY)


def _numpy():
    try:
        import numpy
        return numpy
    except ImportError:
        return None


class Reranker:
    """A model file, and the working memory and threads to use it.

    path: a .kalm file.
    max_doc_tokens, max_query_tokens: longer texts are cut, and the results say so. Default 1024 and 512.
    threads: default one for each core; at most 256 are used.
    ratio: document tokens pooled into one row. Default 4.
    bits: kept of each number of an encoded document: 32, 16, 8, 4, 3 or 2. Default 16.
    instruction, system: sentences of the prompt. Default None: the model's own.
    parse_control: marks like <end_of_turn> in texts act on the prompt. Default False: they are plain characters.
    cache_bytes: memory for what the decoder computes of a document before it reads the query, so that the next query with
        the same instruction costs less. Default 0.
    state_bits: 8 or 4: what cache_bytes keeps takes two thirds or half of the bytes, and scores change a little. Default 0: exact.
    kernels: a kernel set by name, one of Reranker.kernels(). Default the best.
    mmap: True, the default: the file is mapped, and must stay as it is while the model is open. False: it is read into memory,
        for files that others write to and for network file systems.
    library: the path of the C library.

    Those of CrossEncoder: max_length is max_doc_tokens under another name; device can be "cpu" and nothing else (others get
    a warning); activation_fn is applied to the margins in place of the sigmoid; num_labels can be 1.

    The attributes ratio, bits, instruction, system and parse_control may be changed between calls."""

    def __init__(self, path, *, max_doc_tokens=0, max_query_tokens=0, threads=0, ratio=0, bits=0, instruction=None,
                 system=None, parse_control=False, cache_bytes=0, state_bits=0, kernels=None, mmap=True, library=None, max_length=None,
                 device=None, activation_fn=None, num_labels=None):
        self._lib = _library(library)
        self.ratio, self.bits, self.instruction, self.system = ratio, bits, instruction, system
        self.parse_control, self.activation_fn = parse_control, activation_fn
        if device is not None and not str(device).startswith("cpu"):
            warnings.warn("device %r is ignored: this library computes on the CPU" % str(device), stacklevel=2)
        if _number("num_labels", num_labels, default=1) != 1:
            raise KalmArgumentError(_BAD_ARGUMENT, "num_labels must be 1: the model has one score")
        if kernels is not None and (not isinstance(kernels, str) or "\0" in kernels):
            raise TypeError("kernels must be a name, a str")
        self._params()                 # ratio, bits and texts are what they must be
        config = _Config(threads=_number("threads", threads),
                         max_doc_tokens=_number("max_doc_tokens", max_doc_tokens) or _number("max_length", max_length),
                         max_query_tokens=_number("max_query_tokens", max_query_tokens),
                         cache_bytes=_number("cache_bytes", cache_bytes, _SIZE_MAX),
                         state_bits=_number("state_bits", state_bits),
                         kernels=_encoded(kernels) if kernels else None, load=_LOAD_MAP if mmap else _LOAD_READ)
        name = os.fspath(path)
        if isinstance(name, str):
            name = name.encode("utf-8") if sys.platform == "win32" else os.fsencode(name)
        if b"\0" in name:
            raise ValueError("the path has a NUL in it")
        self._engine = _Engine(self._lib, name, config)
        info = _ModelInfo()
        self._lib.kalm_model_get_info(self._engine.model, ctypes.byref(info))
        self._about = (info.name.decode("utf-8", "replace"), info.weights.decode(), info.max_tokens)

    name = property(lambda self: self._about[0], doc="the model's name, as its file has it")
    weights = property(lambda self: self._about[1], doc='"f32", "f16", "bf16", "q8" or "q4"')
    max_tokens = property(lambda self: self._about[2], doc="tokens of the longest passage that the model can read")
    working_memory = property(lambda self: self._engine.bytes, doc="bytes of the context, which lives until close()")
    closed = property(lambda self: self._engine.closed)

    @staticmethod
    def kernels():
        """Kernel sets that this machine can run, best first."""
        names, lib = [], _library()
        while lib.kalm_kernels(len(names)):
            names.append(lib.kalm_kernels(len(names)).decode())
        return names

    def close(self):
        """Give everything back once the calls at work have ended; later calls raise KalmError. Documents live on.
        `with Reranker(...) as model:` does it at the end."""
        self._engine.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __copy__(self):
        raise TypeError("a Reranker cannot be copied: it may be shared, by threads too, or opened again")

    def __deepcopy__(self, memo):
        self.__copy__()

    def __reduce_ex__(self, protocol):
        raise TypeError("a Reranker cannot be pickled: open the model again in the other process")

    def verify(self):
        """Read the whole file and compare every section with its checksum; a damaged one is a KalmError."""
        self._long(lambda: _check(self._lib.kalm_model_verify, self._engine.model))

    def cache_info(self):
        """What cache_bytes did so far: a dict of hits, misses and dropped (documents), documents, bytes and limit (now)."""
        info = _CacheInfo()
        self._engine.compute(lambda context, _: self._lib.kalm_context_get_cache(context, ctypes.byref(info)))
        return {name: getattr(info, name) for name, _ in _CacheInfo._fields_ if name != "later"}

    # A long call that needs no context.
    def _long(self, work):
        self._engine._need_open()
        return _Job(lambda job: self._engine.use(work), stoppable=False).start()

    def _flags(self):
        return _PARSE_CONTROL if self.parse_control else 0

    def _params(self, ratio=None, instruction=None, system=None, bits=None):
        return _Params(ratio=_number("ratio", self.ratio if ratio is None else ratio),
                       bits=_number("bits", self.bits if bits is None else bits), flags=self._flags(),
                       system=_text(self.system if system is None else system, "system"),
                       instruction=_text(self.instruction if instruction is None else instruction, "instruction"))

    def encode(self, texts, *, ratio=None, bits=None, progress=None, show_progress_bar=None):
        """Documents of texts: a list gives a list, one str one Document. progress(done, total) is called after every layer;
        if it returns something true the call ends in a KalmError named CANCELLED."""
        one = isinstance(texts, (str, bytes))
        texts = [texts] if one else _listed("texts", texts)
        array, params = _texts(texts), self._params(ratio=ratio, bits=bits)

        def work(context, callback):
            pointers = (ctypes.c_void_p * len(texts))()
            params.progress = callback
            _check(self._lib.kalm_encode, context, array, len(texts), ctypes.byref(params), pointers)
            return [self._taken(pointer) for pointer in pointers]

        docs = self._shown("encoding", show_progress_bar, progress, lambda step: self._engine.compute(work, step))
        return docs[0] if one else docs

    # The Document of a kalm_doc, which is freed.
    def _taken(self, pointer):
        size = ctypes.c_size_t()
        data = self._lib.kalm_doc_bytes(pointer, ctypes.byref(size))
        doc = _document(ctypes.string_at(data, size.value))
        self._lib.kalm_doc_free(pointer)
        return doc

    def document(self, data, *, copy=None):
        """A Document of stored bytes, checked; the model must be the one that made it.

        data: bytes, memoryview, mmap, numpy array, or anything else with memory in one piece. copy: None copies what can be
        written to and reads the rest where it lies; True always copies; False does not, and then the memory must not change
        while the Document lives."""
        try:
            view = memoryview(data)
        except TypeError:
            raise TypeError("a document is bytes, not %s" % type(data).__name__) from None
        if copy is None:
            copy = not view.readonly
        if type(data) is bytes and not copy:
            view = data
        elif copy or not _aligned(view):
            view = view.tobytes()
        elif view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        doc = _document(view)

        def work():
            with _Handles(self._lib, self._engine.model, [doc]):
                return doc

        return self._engine.use(work)

    def repool(self, doc, ratio, bits=0):
        """The Document at a coarser ratio, a multiple of its own, without encoding again. bits: 32, 16, 8, 4, 3, 2, or 0 for its own."""
        ratio, bits = _number("ratio", ratio), _number("bits", bits)
        if not isinstance(doc, Document):
            raise TypeError("a document must be a Document, not %s" % type(doc).__name__)

        def work():
            pointer = ctypes.c_void_p()
            with _Handles(self._lib, self._engine.model, [doc]) as docs:
                _check(self._lib.kalm_doc_repool, self._engine.model, docs[0], ratio, bits, ctypes.byref(pointer))
            return self._taken(pointer)

        return self._engine.use(work)

    # [(margin, score, cut)] of texts and Documents in any mixture. `done` and `total` of `step` count one call of the library.
    def _score(self, query, documents, step, options):
        results = [None] * len(documents)
        params, asked = self._params(**options), _text(_encoded(query, "the query"))
        texts = [i for i, d in enumerate(documents) if not isinstance(d, Document)]
        docs = [i for i, d in enumerate(documents) if isinstance(d, Document)]
        for mine, function in ((texts, self._lib.kalm_rerank_texts), (docs, self._lib.kalm_rerank)):
            if not mine:
                continue
            held = [documents[i] for i in mine]        # what the library reads must live while it does
            given = _texts(held) if mine is texts else _Handles(self._lib, self._engine.model, held)

            def work(context, callback, function=function, given=given, count=len(held)):
                scores = (_Score * count)()
                params.progress = callback
                if isinstance(given, _Handles):
                    with given as array:
                        _check(function, context, asked, array, count, ctypes.byref(params), scores)
                else:
                    _check(function, context, asked, given, count, ctypes.byref(params), scores)
                return scores

            try:
                scores = self._engine.compute(work, step)
            except KalmError as e:     # which counts among those of this call
                raise type(e)(e.code, re.sub(r"\b(document|text) (\d+)\b",
                                             lambda m: "%s %d" % (m[1], dict(enumerate(mine)).get(int(m[2]), int(m[2]))),
                                             str(e), count=1)) from None
            for s in scores:
                results[mine[s.index]] = (s.margin, s.score, s.cut)
        return results

    # run(step), where step(done, total) tells both the caller's `progress` and the bar.
    @staticmethod
    def _shown(what, show, progress, run):
        if not show:
            return run(progress)
        bar = _Bar(what)

        def step(done, total):
            bar.show(done / max(total, 1))
            return progress(done, total) if progress is not None else False

        try:
            return run(step)
        finally:
            bar.close()

    # What `activation_fn` makes of margins; without it P(yes), or with raw=True the margins themselves.
    def _activated(self, results, raw, activation_fn):
        activation_fn = activation_fn or self.activation_fn
        if activation_fn is None or raw:
            return [result[0 if raw else 1] for result in results]
        margins, numpy = [result[0] for result in results], _numpy()
        if hasattr(activation_fn, "forward"):          # a module of torch
            import torch
            return [float(value) for value in activation_fn(torch.tensor(margins))]
        return [float(value) for value in activation_fn(margins if numpy is None else numpy.array(margins, numpy.float32))]

    def rank(self, query, documents, top_k=None, return_documents=False, batch_size=None, show_progress_bar=None, num_workers=0,
             activation_fn=None, apply_softmax=False, convert_to_numpy=True, convert_to_tensor=False, *, raw=False, ratio=None,
             instruction=None, system=None, progress=None):
        """The documents, best first: a list of dicts with

            "corpus_id"      index in `documents`
            "score"          P(yes), from 0 to 1; with raw=True the margin; what activation_fn makes of the margin
            "cut_document"   True: only the beginning of the document was read
            "cut_query"      True: only the beginning of the query was read
            "text"           the document, with return_documents=True

        documents: a list whose elements are str or Document. top_k: how many to return, default all.
        ratio, instruction, system: for this call in place of the Reranker's. progress(done, total) is called after every
        layer; if it returns something true the call ends in a KalmError named CANCELLED.
        batch_size, num_workers, apply_softmax, convert_to_numpy and convert_to_tensor are CrossEncoder's and change nothing
        here: the library makes its own batches, and one score has no softmax."""
        documents = _listed("documents", documents)
        most = len(documents) if top_k is None else _number("top_k", top_k, _SIZE_MAX)
        options = {"ratio": ratio, "instruction": instruction, "system": system}
        results = self._shown("ranking", show_progress_bar, progress, lambda step: self._score(query, documents, step, options))
        scores = self._activated(results, raw, activation_fn)
        hits = []
        for i in sorted(range(len(documents)), key=lambda i: (-results[i][0], i))[:most]:
            hit = {"corpus_id": i, "score": scores[i]}
            hit["cut_document"], hit["cut_query"] = _cuts(results[i][2])
            if return_documents:
                hit["text"] = documents[i]
            hits.append(hit)
        return hits

    def predict(self, sentences, batch_size=None, show_progress_bar=None, activation_fn=None, apply_softmax=False,
                convert_to_numpy=True, convert_to_tensor=False, num_workers=0, *, raw=False, ratio=None, instruction=None,
                system=None, progress=None):
        """P(yes) of each (query, document) pair; pairs of one query are scored together.

        sentences: a list of n pairs (query, str or Document), or one pair. Returns a numpy array of float32 of shape [n] where
        numpy is installed and convert_to_numpy is not False, with convert_to_tensor=True a tensor of torch, else a list of
        float. One pair gives one number: an element of these.
        raw, activation_fn: as in rank(), with the other options."""
        pairs = _listed("sentences", sentences)
        one = bool(pairs) and isinstance(pairs[0], (str, bytes))
        if one:
            pairs = [pairs]
        queries = {}
        for i, pair in enumerate(pairs):
            if isinstance(pair, (str, bytes, dict, Document)) or not hasattr(pair, "__len__") or len(pair) != 2:
                raise TypeError("pair %d must be a query and a document" % i)
            queries.setdefault(_encoded(pair[0], "the query of pair %d" % i), []).append(i)
        options = {"ratio": ratio, "instruction": instruction, "system": system}
        self._params(**options)        # are what they must be, also when there are no pairs
        results = [None] * len(pairs)

        def run(step):
            for query, mine in queries.items():
                for i, result in zip(mine, self._score(query, [pairs[i][1] for i in mine], step, options)):
                    results[i] = result

        self._shown("scoring", show_progress_bar, progress, run)
        out = self._activated(results, raw, activation_fn)
        numpy = _numpy() if convert_to_numpy else None
        if convert_to_tensor:
            import torch
            out = torch.tensor(out, dtype=torch.float32)
        elif numpy is not None:
            out = numpy.array(out, dtype=numpy.float32)
        return out[0] if one else out

    def tokenize(self, text):
        """Token ids of a text alone, a list of int. No begin mark is added."""
        data, flags = _text(_encoded(text)), self._flags()

        def work():
            count, room = ctypes.c_size_t(), data.size + 8
            while True:
                ids = (ctypes.c_int32 * room)()
                _check(self._lib.kalm_tokenize, self._engine.model, data, flags, ids, room, ctypes.byref(count))
                if count.value <= room:
                    return ids, count.value
                room = count.value

        ids, count = self._engine.use(work) if data.size < _LONG_TEXT else self._long(work)
        out = []
        for at in range(0, count, _LONG_TEXT):         # in pieces, between which Ctrl-C is heard
            out += ids[at:min(at + _LONG_TEXT, count)]
        return out

    def detokenize(self, ids):
        """The text of token ids, a list of integers."""
        if isinstance(ids, (str, bytes)):
            raise TypeError("token ids must be a list of integers, not %s" % type(ids).__name__)
        values = [_number("a token id", i, 0x7fffffff, None) for i in ids]
        array = (ctypes.c_int32 * len(values))(*values)

        def work():
            size = ctypes.c_size_t()
            _check(self._lib.kalm_detokenize, self._engine.model, array, len(values), None, 0, ctypes.byref(size))
            text = ctypes.create_string_buffer(size.value + 1)
            _check(self._lib.kalm_detokenize, self._engine.model, array, len(values), text, size.value, ctypes.byref(size))
            return text.raw[:size.value].decode("utf-8", "replace")

        return self._engine.use(work) if len(values) < _LONG_TEXT else self._long(work)

    def __repr__(self):
        return "<Reranker, closed>" if self.closed else "<Reranker %s, %s>" % (self.name, self.weights)


CrossEncoder = Reranker


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: kalm_rerank.py MODEL.kalm QUERY DOCUMENT...")
    for found in Reranker(sys.argv[1]).rank(sys.argv[2], sys.argv[3:], return_documents=True):
        print("%.4f  %s" % (found["score"], found["text"]))
