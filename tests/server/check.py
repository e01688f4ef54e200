"""check.py BUILD - tests of kalm-server; see test_server.sh. Python's standard library alone."""
import http.client, json, os, random, re, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from same_hash import same_hash

BUILD = sys.argv[1]
MODEL = BUILD + "/tiny.kalm"
SLOW = any(w in BUILD for w in ("sanitize", "thread", "debug", "coverage"))   # there is less work in the test
PATIENCE = int(os.environ.get("KALM_PATIENCE") or 1)                           # every deadline, here and of the server, times this (see Makefile)
DIR = tempfile.mkdtemp(prefix="server.", dir=BUILD + "/tmp")
passed = failed = 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED:", what, flush=True)
        if os.environ.get("KALM_TEST_STOP"):           # tests/mutate.sh asks only whether there is a failure
            print("%d passed, %d failed" % (passed, failed), flush=True)
            for server in Server.all:
                server.process.kill()
            shutil.rmtree(DIR, ignore_errors=True)
            os._exit(1)
    return good


def equal(a, b, what):
    return check(a == b, "%s: %.600r instead of %.600r" % (what, a, b))


class Server:
    """A kalm-server of its own, on a port that is free."""
    all = []

    def __init__(self, *args, env=None, model=MODEL):
        self.log = []
        e = dict(os.environ, **(env or {}))
        e.pop("KALM_API_KEY", None) if not env else None
        self.process = subprocess.Popen([BUILD + "/kalm-server", model, "--port", "0", *args], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=e)
        Server.all.append(self)
        if "--log" in args and args[args.index("--log") + 1] != "-":
            line = self.process.stderr.readline()
            line = json.dumps({"time": "", "url": line.decode().split()[-1]}).encode() if line else line
        else:
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start: " + self.process.stderr.read().decode())
        self.log.append(line)
        self.host, _, self.port = json.loads(line)["url"][7:].rpartition(":")
        self.port = int(self.port)
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def raw(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection(self.host, self.port, timeout=120 * PATIENCE)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            c.request(method, path, data, headers or {})
            r = c.getresponse()
            return r.status, dict((k.lower(), v) for k, v in r.getheaders()), r.read()
        finally:
            c.close()

    def ask(self, path, body=None, method=None, **headers):
        """Status and JSON."""
        status, _, data = self.raw(method or ("GET" if body is None else "POST"), path, body,
                                   {k.replace("_", "-"): v for k, v in headers.items()})
        return status, json.loads(data) if data else None

    def metric(self, name):
        for line in self.raw("GET", "/metrics")[2].decode().splitlines():
            if line.split(" ")[0] == "kalm_" + name:
                return float(line.split(" ")[1])
        return None

    def end(self, number=signal.SIGTERM, want=0):
        self.process.send_signal(number)
        code = self.process.wait(timeout=60 * PATIENCE)
        self.reader.join(timeout=10 * PATIENCE)
        if want is not None:
            equal(code, want, "exit status of the server: " + self.process.stderr.read().decode()[:500])
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def until(true, seconds):
    """Wait for what must come about, for at most so many seconds; has it?"""
    end = time.time() + seconds * PATIENCE
    while not true():
        if time.time() > end:
            return False
        time.sleep(0.02)
    return True


def rerank(query, texts, *options):
    """What kalm-rerank says: {index: (score, margin)}."""
    path = DIR + "/texts.jsonl"
    with open(path, "w") as f:
        for t in texts:
            f.write(json.dumps({"text": t}) + "\n")
    out = subprocess.run([BUILD + "/kalm-rerank", MODEL, query, "--documents", path, "--json", *options], check=True, capture_output=True)
    return {r["index"]: (r["score"], r["margin"]) for r in json.loads(out.stdout)["results"]}


CORPUS = []
with open("examples/tiny/eval/corpus.jsonl") as f:
    for line in f:
        CORPUS.append(json.loads(line))
TEXTS = [d["text"] for d in CORPUS]
DOCS = TEXTS[:7]
QUERY = "an editor for images"


def order(scores):
    return sorted(scores, key=lambda i: (-scores[i][1], i))


# ---- forms ----

def test_forms(s):
    want = rerank(QUERY, DOCS)
    best = order(want)

    def right(name, results, n, score="relevance_score"):
        equal([r["index"] for r in results], best[:n], name + ": order")
        equal([r[score] for r in results], [want[i][0] for i in best[:n]], name + ": scores are those of kalm-rerank")

    base = {"query": QUERY, "documents": DOCS}
    for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/v1/v2/rerank", "//v1//rerank/", "/v1/v1/rerank",
                 "/api/v1/rerank", "/cohere/v2/rerank", "/jina/v1/rerank"):
        status, a = s.ask(path, base)
        if equal(status, 200, path):
            right(path, a["results"], 7)
    # Cohere 1 and 2
    status, a = s.ask("/v1/rerank", dict(base, model="rerank-english-v3.0", top_n=3, return_documents=True))
    equal(sorted(a), ["id", "meta", "results"], "Cohere's answer")
    equal(a["meta"]["api_version"]["version"], "1", "Cohere's version")
    right("cohere 1", a["results"], 3)
    equal([sorted(r) for r in a["results"]], [["document", "index", "relevance_score"]] * 3, "Cohere's results")
    equal(a["results"][0]["document"], {"text": DOCS[best[0]]}, "Cohere's document")
    status, a = s.ask("/v2/rerank", dict(base, model="rerank-v3.5", top_n=2))
    equal((sorted(a), a["meta"]["api_version"]["version"]), (["id", "meta", "results"], "2"), "Cohere's second answer")
    equal([sorted(r) for r in a["results"]], [["index", "relevance_score"]] * 2, "its results")
    objects = [{"text": t, "id": i, "more": [1, None]} for i, t in enumerate(DOCS)]
    status, a = s.ask("/v1/rerank", dict(base, documents=objects, return_documents=True), User_Agent="cohere-ai/7")
    equal(a["results"][0]["document"], objects[best[0]], "documents come back as they were sent")
    right("objects", a["results"], 7)
    # what was cut, in every form: a query of 800 words, two documents of 2,000
    long, far = "word " * 800, "text " * 2000
    for path in ("/v1/rerank", "/v2/rerank", "/jina/rerank", "/voyage/rerank", "/rerank", "/score"):
        for query, texts in ((long, [far, "a", far]), (long, ["a"]), ("a", [far]), ("a", ["a"])):
            given = {"text_1": query, "text_2": texts} if path == "/score" else {"query": query, "texts" if path == "/rerank" else "documents": texts}
            status, headers, _ = s.raw("POST", path, given)
            equal((status, headers.get("x-cut-query"), headers.get("x-cut-documents")),
                  (200, "1" if query is long else None, str(texts.count(far)) if far in texts else None), "cut texts at " + path)
    # rank_fields: the values, one behind the other
    fields = [{"a": t[:20], "b": i, "c": t[20:], "text": "not this"} for i, t in enumerate(DOCS)]
    status, a = s.ask("/v1/rerank", dict(base, documents=fields, rank_fields=["a", "b", "missing", "c"]))
    other = rerank(QUERY, ["%s %d %s" % (d["a"], d["b"], d["c"]) for d in fields])
    equal({r["index"]: r["relevance_score"] for r in a["results"]}, {i: v[0] for i, v in other.items()}, "rank_fields")
    # Jina, llama-server
    status, a = s.ask("/v1/rerank", dict(base, model="jina-reranker-v2-base-multilingual", top_n=2))
    equal(sorted(a), ["model", "object", "results", "usage"], "Jina's answer")
    equal(a["model"], "jina-reranker-v2-base-multilingual", "Jina's model")
    equal(a["results"][0]["document"], {"text": DOCS[best[0]]}, "Jina shows documents unless told otherwise")
    status, a = s.ask("/v1/rerank", dict(base, model="jina-reranker-v2-base-multilingual", return_documents=False))
    check("document" not in a["results"][0], "Jina's return_documents false")
    status, a = s.ask("/v1/rerank", dict(base, model="something.gguf"))
    equal(sorted(a), ["id", "meta", "model", "object", "results", "usage"], "the answer for everybody")
    check(a["usage"]["total_tokens"] > 100 and a["usage"]["prompt_tokens"] > 100, "usage counts tokens")
    # text-embeddings-inference
    status, a = s.ask("/rerank", {"query": QUERY, "texts": DOCS})
    equal([sorted(r) for r in a], [["index", "score"]] * 7, "TEI's answer")
    right("tei", a, 7, "score")
    status, a = s.ask("/rerank", {"query": QUERY, "texts": DOCS, "raw_scores": True, "return_text": True, "truncate": True})
    equal([(r["index"], r["score"], r["text"]) for r in a], [(i, want[i][1], DOCS[i]) for i in best], "TEI's raw scores and texts")
    # Voyage
    status, a = s.ask("/v1/rerank", dict(base, model="rerank-2.5", top_k=2, return_documents=True))
    equal(sorted(a), ["data", "model", "object", "usage"], "Voyage's answer")
    right("voyage", a["data"], 2)
    equal(a["data"][0]["document"], DOCS[best[0]], "Voyage's document")
    for more in ({"model": "rerank-2.5-lite"}, {"truncation": True}, {"top_k": 0}):
        status, a = s.ask("/v1/rerank", dict(base, **more))
        check(status == 200 and len(a["data"]) == 7, "Voyage is told by %r" % more)
    status, a = s.ask("/v1/rerank", dict(base, model="mine"), User_Agent="voyageai/0.4.0")
    check("data" in a, "Voyage is told by its client")
    status, a = s.ask("/voyage/v1/rerank", dict(base, model="mine"))
    check("data" in a, "Voyage is told by the path")
    # vLLM's score
    status, a = s.ask("/score", {"model": "m", "text_1": QUERY, "text_2": DOCS})
    equal(sorted(a), ["created", "data", "id", "model", "object", "usage"], "vLLM's answer")
    equal([(d["index"], d["object"], d["score"]) for d in a["data"]], [(i, "score", want[i][0]) for i in range(7)], "vLLM's scores")
    status, a = s.ask("/v1/score", {"text_1": [QUERY, "a game"], "text_2": DOCS[:2]})
    equal([d["score"] for d in a["data"]], [want[0][0], rerank("a game", [DOCS[1]])[0][0]], "pairs")
    for one in ({"text_1": QUERY, "text_2": DOCS[3]}, {"text_1": [QUERY], "text_2": [DOCS[3]]}, {"data_1": QUERY, "data_2": [DOCS[3]]},
                {"queries": QUERY, "documents": [DOCS[3]]}):
        equal([d["score"] for d in s.ask("/score", one)[1]["data"]], [want[3][0]], "one pair")
    for top in ("top_n", "top_k"):
        equal([d["index"] for d in s.ask("/score", {"text_1": QUERY, "text_2": DOCS, top: 2})[1]["data"]], list(range(7)), "vLLM's scores have no " + top)
    # how many
    for top, n in ((0, 7), (3.0, 3), (100, 7), (None, 7)):
        equal(len(s.ask("/v1/rerank", dict(base, top_n=top))[1]["results"]), n, "top_n %r" % top)
    equal(len(s.ask("/v1/rerank", dict(base, topN=2, returnDocuments=True))[1]["results"]), 2, "names as JavaScript writes them")


def test_extensions(s):
    base = {"query": QUERY, "documents": DOCS}
    for more, options in (({"instruction": "Find a game."}, ("--instruction", "Find a game.")), ({"system": "Be strict."}, ("--system", "Be strict.")),
                          ({"ratio": 1}, ("--ratio", "1")), ({"ratio": 16, "instruction": "Find."}, ("--ratio", "16", "--instruction", "Find."))):
        want = rerank(QUERY, DOCS, *options)
        for body in (dict(base, **more), {"query": QUERY, "texts": DOCS, **more}):
            a = s.ask("/rerank", dict(body, return_margin=True))[1]
            a = a if isinstance(a, list) else a["results"]
            equal({r["index"]: r["margin"] for r in a}, {i: v[1] for i, v in want.items()}, "%r" % more)
    # nothing is done by now: all marked, in their order, and still an answer
    status, a = s.ask("/v1/rerank", dict(base, deadline_ms=0))
    equal((status, a["complete"], a["scored"]), (200, False, 0), "deadline_ms 0")
    equal([(r["index"], r["scored"]) for r in a["results"]], [(i, False) for i in range(7)], "documents that were not scored are marked")
    status, a = s.ask("/v1/rerank", dict(base, deadline_ms=60000))
    equal((a["complete"], a["scored"], "scored" in a["results"][0]), (True, 7, False), "a deadline that is kept")
    count = 60 if SLOW else 600
    many = [t * 8 for t in TEXTS[:count]]
    for wait in (250, 1000, 4000, 16000):          # a machine that does much else may score nothing in the first
        began = time.time()
        status, a = s.ask("/v1/rerank", {"query": QUERY, "documents": many, "deadline_ms": wait, "return_margin": True})
        took = time.time() - began
        if a["scored"]:
            break
    done = [r for r in a["results"] if r.get("scored", True)]
    check(status == 200 and 0 < a["scored"] < count + SLOW and len(done) == a["scored"], "a deadline in the middle: %d of %d" % (a["scored"], count))
    check(all(r["margin"] is None for r in a["results"][len(done):]) and [r["margin"] for r in done] == sorted((r["margin"] for r in done), reverse=True),
          "what is scored comes first, ranked")
    check(took < wait / 1000 + 2 * PATIENCE, "the answer came after %.2f s" % took)
    some = sorted(done, key=lambda r: r["index"])[:5]
    alone = rerank(QUERY, [many[r["index"]] for r in some])
    equal([r["margin"] for r in some], [alone[i][1] for i in range(len(some))], "scores at a deadline are whole")
    # long texts
    long = DOCS[0] * 40
    status, a = s.ask("/v1/rerank", {"query": QUERY, "documents": [long, DOCS[1]], "return_margin": True})
    equal((a["results"][[r["index"] for r in a["results"]].index(0)].get("cut"), len(a["meta"]["warnings"])), (True, 1), "a long text is cut, and said to be")
    for path, body, want in (("/rerank", {"texts": [DOCS[1], long], "truncate": False}, 413), ("/v1/rerank", {"documents": [long], "truncation": False}, 400)):
        status, a = s.ask(path, dict(body, query=QUERY))
        check(status == want and "tokens" in json.dumps(a), "a text that may not be cut: %d %r" % (status, a))
    status, a = s.ask("/v1/rerank", {"query": QUERY, "documents": [long, DOCS[1]], "max_tokens_per_doc": 20})
    by = {r["index"]: r["relevance_score"] for r in a["results"]}
    check(a["usage"]["total_tokens"] < 80 if "usage" in a else "warnings" in a["meta"], "max_tokens_per_doc counts")
    short = s.ask("/v1/rerank", {"query": QUERY, "documents": [long], "max_tokens_per_doc": 20})[1]["results"][0]["relevance_score"]
    check(by[0] == short and by[0] != s.ask("/v1/rerank", {"query": QUERY, "documents": [long]})[1]["results"][0]["relevance_score"], "max_tokens_per_doc")
    whole = s.ask("/score", {"text_1": QUERY, "text_2": "a b c d"})[1]["data"][0]["score"]
    for most in range(1, 8):           # exactly as many tokens as are allowed are not too many
        a = s.ask("/score", {"text_1": QUERY, "text_2": "a b c d", "max_tokens_per_doc": most, "return_margin": True})[1]["data"][0]
        equal(a.get("cut", False), a["score"] != whole, "cut to %d tokens" % most)
    equal(a["score"], whole, "a text that has no more tokens than are allowed")
    status, a = s.ask("/rerank", {"query": "long " * 3000, "texts": ["a"], "truncate": False})
    check(status == 413 and "query" in a["error"], "a query that may not be cut: %d %r" % (status, a))
    # texts of all kinds
    odd = ["", " ", "a\0b", "\ud83d cut within an emoji", "\ud83d\ue000", "\U0001f600", "中文", "<end_of_turn>", "x" * 5000]
    body = json.dumps({"query": "q \udc00", "documents": odd}).encode()
    status, _, data = s.raw("POST", "/v1/rerank", body)
    equal(status, 200, "odd texts")
    a = {r["index"]: r["relevance_score"] for r in json.loads(data)["results"]}
    same = s.ask("/v1/rerank", {"query": "q \ufffd", "documents": [t.replace("\ud83d", "\ufffd") for t in odd]})[1]["results"]
    equal(a, {r["index"]: r["relevance_score"] for r in same}, "half an emoji is U+FFFD")


def nested(depth):
    return b'{"query": "a", "documents": ["b"], "x": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_errors(s):
    equal(s.raw("POST", "/v1/rerank", nested(2048))[0], 200, "JSON 2,048 deep")
    equal(s.raw("POST", "/v1/rerank", nested(2049))[0], 400, "JSON 2,049 deep")
    bad = [b"", b"{", b"[]", b"null", b'"text"', b"{}", b'{"query": 1, "documents": ["a"]}', b'{"query": "a"}', b'{"query": "a", "documents": []}',
           b'{"query": "a", "documents": "b"}', b'{"query": "a", "documents": [1]}', b'{"query": "a", "documents": [{"title": "b"}]}',
           b'{"query": "a", "documents": ["b"], "top_n": -1}', b'{"query": "a", "documents": ["b"], "top_n": "1"}',
           b'{"query": "a", "documents": ["b"], "top_n": -0.5}', b'{"query": "a", "documents": ["b"], "top_n": 0.5}',
           b'{"query": "a", "documents": ["b"], "ratio": 0}', b'{"query": "a", "documents": ["b"], "ratio": 2.5}',
           b'{"query": "a", "documents": ["b"], "instruction": 1}', b'{"query": "a", "documents": ["b"], "return_documents": "yes"}',
           b'{"query": "a", "documents": ["b"], "deadline_ms": -1}', b'{"query": "a", "documents": ["b"], "deadline_ms": 1e10}',
           b'{"query": "a", "documents": [{"x": 1}], "rank_fields": ["y"]}',
           b'{"query": "a", "documents": [{"x": 1}], "rank_fields": [1]}',
           json.dumps({"query": "a", "documents": [{"f0": "b"}], "rank_fields": ["f%d" % i for i in range(65)]}).encode(),
           b'{"query": "a", "documents": [{"x": 1}], "rank_fields": ["x", "x"]}', b'{"query": "a", "documents": ["\xff"]}', b"[" * 100000,
           b'{"query": "a", "documents": ["b"], "query": "c"}', b'{"query": "a", "documents": [{"text": "b", "text": "c"}]}',
           b'{"query": "a", "documents": ["b"], "document_ids": ["c"]}', b'{"query": "a", "documents": ["b"]} more',
           b'{"query": "a", "documents": [' + b"[]," * 60000 + b'"b"]}']
    for body in bad:
        status, _, data = s.raw("POST", "/v1/rerank", body)
        try:
            a = json.loads(data)
        except ValueError:
            a = {}
        check(400 <= status < 500 and a.get("message") and a.get("detail", a["message"]) == a["message"],
              "%.80r: %d %.200r" % (body, status, data))
    for name in (b"query", b"a" * 60, b"x" * 119 + b"\xc3\xa9y", b'\\u0061\\"'):       # jansson names no more than 20 bytes
        data = s.raw("POST", "/v1/rerank", b'{"query": "a", "documents": ["b"],\n"' + name + b'": "c", "' + name + b'": "d"}')[2]
        shown = name[:119 if len(name) > 120 else 120].decode()
        check('"%s" stands there twice' % shown in json.loads(data)["message"] and "line 2" in json.loads(data)["message"], "%r: %r" % (name, data))
    base = {"query": "a", "documents": ["b", "c", "d"]}        # two names of one thing: the same by both, or nobody knows which
    for path, one, other in (("/v1/rerank", {"top_n": 1}, {"topN": 2}), ("/v1/rerank", {"top_n": 1}, {"top_k": 2}), ("/v1/rerank", {"topN": 1}, {"topK": 2}),
                             ("/v1/rerank", {"truncate": True}, {"truncation": False}), ("/v1/rerank", {"return_documents": True}, {"return_text": False}),
                             ("/v1/rerank", {"returnDocuments": True}, {"return_documents": False}), ("/rerank", {}, {"texts": ["b"]}),
                             ("/v1/rerank", {"max_tokens_per_doc": 5}, {"maxTokensPerDoc": 6}), ("/voyage/v1/rerank", {}, {"texts": ["b"]}),
                             ("/score", {"text_1": "a"}, {"data_1": "b"}), ("/score", {"text_2": "a", "text_1": "a"}, {"data_2": "b"}),
                             ("/score", {"text_1": "b"}, {}), ("/score", {"items": ["a"]}, {})):
        status, a = s.ask(path, {**base, **one, **other})
        words = json.dumps(a)
        check(400 <= status < 500 and "nobody can know which is meant" in words and all(name in words for name in {**one, **other} if name.islower() and len({**one, **other}) == 2),
              "%s %s %s: %s %.200r" % (path, one, other, status, a))
        if one and other and "/score" != path:
            status, a = s.ask(path, {**base, **one, **dict.fromkeys(other, next(iter(one.values())))})
            check(status == 200, "%s under both names: %s %.200r" % (one, status, a))
            equal(s.ask(path, {**base, **one, **dict.fromkeys(other)})[0], 200, "the other name is null")
    equal(s.raw("POST", "/v1/rerank", bad[-1])[0], 413, "more JSON values than a request has")
    shapes = (("/v2/rerank", {}, {"documents": ["a"]}, 400, ["message"]), ("/v1/rerank", {"User-Agent": "cohere-ai/8"}, {"documents": ["a"]}, 400, ["message"]),
              ("/v1/rerank", {}, {"model": "jina-x", "documents": ["a"]}, 422, ["detail"]), ("/rerank", {}, {"texts": []}, 422, ["error", "error_type"]),
              ("/rerank", {}, {"texts": ["a"]}, 422, ["error", "error_type"]), ("/v1/rerank", {"X-Fern-SDK-Name": "voyageai"}, {"documents": ["a"]}, 400, ["detail"]),
              ("/score", {}, {"text_1": "a"}, 400, ["error"]), ("/score", {}, {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 400, ["error"]))
    for path, headers, body, want, keys in shapes:
        status, _, data = s.raw("POST", path, body, headers)
        equal((status, sorted(json.loads(data))), (want, keys), "error of %s %r" % (path, body))
    for method, path, want in (("GET", "/v1/rerank", 405), ("PUT", "/v1/rerank", 405), ("POST", "/health", 405), ("GET", "/nothing", 404),
                               ("POST", "/v1/chat/completions", 404), ("GET", "/", 404), ("GET", "/v1/rerank/x", 404), ("DELETE", "/metrics", 405)):
        status, headers, data = s.raw(method, path, b"{}" if method in ("POST", "PUT") else None)
        check(status == want and json.loads(data)["message"] and (want != 405 or headers.get("allow")), "%s %s: %d" % (method, path, status))
    equal(s.raw("POST", "/v1/rerank", b"xx", {"Content-Encoding": "gzip"})[0], 415, "compressed bodies")
    equal(s.ask("/v1/documents")[0], 404, "documents without a store")
    equal(s.ask("/v1/rerank", {"query": "a", "document_ids": ["x"]})[0], 404, "document_ids without a store")
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        equal(s.raw("POST", "/v1/rerank", {"query": "a", "documents": ["b"]}, headers)[0], 403, "a page of another site")
    for host, want in (("evil.example:8080", 403), ("localhost.evil.example", 403), ("evil.example:127.0.0.1", 403), ("[::1].evil.example", 403),
                       ("127.0.0.1.evil.example", 403), ("a" * 300, 403), ("localhost", 200), ("LocalHost:1", 200), ("127.0.0.1:8080", 200),
                       ("[::1]:8080", 200), ("192.168.7.9", 200)):
        for path in ("/health", "/v1/models"):
            equal(s.raw("GET", path, None, {"Host": host})[0], want, "a page whose name stands for this machine: Host: %s" % host)
    # a request that says twice how long its body is: what follows is not taken for another request
    for lengths in (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Content-Length: 5\r\nContent-Length: 80", b"content-length: 5\r\nContent-Length: 5"):
        with socket.create_connection((s.host, s.port), timeout=60 * PATIENCE) as k:
            k.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\n" + lengths + b"\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = b""
            try:
                while (more := k.recv(4096)):
                    got += more
            except ConnectionResetError:
                pass
        check(got.startswith(b"HTTP/1.1 400 ") and got.count(b"HTTP/1.1") == 1 and b"more than once" in got, "%r: %r" % (lengths, got[:300]))
    # a body in chunks, and a connection that goes on after errors
    c = http.client.HTTPConnection(s.host, s.port)
    for i in range(3):
        c.request("POST", "/v1/rerank", b"{")
        r = c.getresponse()
        equal((r.status, bool(r.read())), (400, True), "an error on a connection that stays")
        c.request("POST", "/v1/rerank", iter([b'{"query": "a", ', b'"documents": ["b"]}']), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        r = c.getresponse()
        equal((r.status, bool(r.read())), (200, True), "a body in chunks")
    c.close()
    equal(s.raw("HEAD", "/health")[0], 200, "HEAD")
    for method in ("POS", "T", "GETT"):
        equal(s.raw(method, "/v1/rerank")[0], 405, "the method " + method)
    equal(s.raw("POST", "/v1/rerank", b'\xef\xbb\xbf{"query": "a", "documents": ["b"]}')[0], 200, "a byte order mark")
    check("query" in s.ask("/v2/rerank", {"query": "long " * 3000, "documents": ["a"]})[1]["meta"]["warnings"][0], "a query that is cut")
    for path in ("/health", "/v1/models", "/models", "/info"):
        equal(s.ask(path)[0], 200, path)
    equal(s.ask("/v1/models")[1]["data"][0]["id"], "tiny", "the model's name")


def test_metrics(s):
    for line in s.raw("GET", "/metrics")[2].decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            check(name.startswith("kalm_") and float(value) >= 0, "a line of /metrics: " + line)
    # each answer is in the bucket of its time: their borders enclose the sum
    lines = [l.split(" ") for l in s.raw("GET", "/metrics")[2].decode().splitlines() if l.startswith("kalm_request_seconds_bucket")]
    border = [0.0] + [float(l[0].split('"')[1]) for l in lines]
    below = [0] + [int(l[1]) for l in lines]
    counts = [b - a for a, b in zip(below, below[1:])]
    total = s.metric("request_seconds_sum")
    check(min(counts) >= 0 and sum(n * low for n, low in zip(counts, border)) <= total <= sum(n * high for n, high in zip(counts, border[1:]) if n),
          "%r s in buckets %r" % (total, dict(zip(border[1:], counts))))
    check(until(lambda: s.metric("body_bytes") == 0, 10), "bodies of requests that are answered are given back: %r bytes are held" % s.metric("body_bytes"))
    check(s.metric("documents_total") > 100 and s.metric("tokens_total") > 1000 and s.metric("request_seconds_count") > 20, "counts grow")
    # a model whose name ends the label it stands in
    with open(MODEL, "rb") as f:
        model = f.read()
    name = s.ask("/info")[1]["model_id"]
    strange = ('"\\\\"} 7' + name)[:len(name)]
    at, size = [struct.unpack_from("<QQ", model, e + 8) for e in range(64, 64 + 32 * struct.unpack_from("<I", model, 12)[0], 32) if model[e] == 2][0]
    strings = model[at:at + size]      # the section STRINGS
    check(strings.count(name.encode()) == 1 and '"' in strange, "the model's name stands once among its strings: " + name)
    with open(DIR + "/strange.kalm", "wb") as f:
        f.write(model[:at] + strings.replace(name.encode(), strange.encode()) + model[at + size:])
    t = Server("--read", model=DIR + "/strange.kalm")
    equal(t.ask("/info")[1]["model_id"], strange, "a strange name")
    label = strange.replace("\\", "\\\\").replace('"', '\\"')
    check(any(l.startswith('kalm_model_info{name="%s",weights=' % label) for l in t.raw("GET", "/metrics")[2].decode().splitlines()), "a strange name in /metrics")
    os.truncate(DIR + "/strange.kalm", 0)                  # a map of it would end the server with SIGBUS
    request = {"query": "play chess", "documents": ["a game of chess", "a text editor"]}
    equal(t.ask("/rerank", request)[1]["results"], s.ask("/rerank", request)[1]["results"], "--read: the model's file is cut short")
    t.end()


# ---- kept documents ----

def index(*args, want=0):
    r = subprocess.run([BUILD + "/kalm-index", *args], capture_output=True, text=True)
    equal(r.returncode, want, "kalm-index %r: %s" % (args, r.stderr))
    return r.stdout


def from_store(store, query, keys, *options):
    out = subprocess.run([BUILD + "/kalm-rerank", MODEL, query, "--store", store, "--keys", ",".join(keys), "--json", *options], check=True,
                         capture_output=True)
    return [(r["index"], r["score"]) for r in json.loads(out.stdout)["results"]]


def test_kept():
    store = DIR + "/kept.db"
    s = Server("--store", store, "--warm", "64")
    docs = [{"id": d["_id"], "title": d.get("title", ""), "text": d["text"], "metadata": {"n": i, "s": "\u00e9"}} for i, d in enumerate(CORPUS[:40])]
    status, a = s.ask("/v1/documents", {"documents": docs})
    equal((status, [d["status"] for d in a["data"]]), (200, ["created"] * 40), "new documents")
    status, a = s.ask("/v1/documents", {"documents": docs[:3] + [dict(docs[3], text="another text"), {"id": "new", "text": ""}]})
    equal([d["status"] for d in a["data"]], ["unchanged"] * 3 + ["replaced", "created"], "documents that are there")
    docs[3]["text"] = "another text"
    for i, text in enumerate(same_hash(b"one text", b"other text")):       # a hash is not what tells that a text is unchanged
        for want in ("replaced" if i else "created", "unchanged"):
            status, a = s.ask("/v1/documents", {"documents": [{"id": "forged", "text": text.decode()}]})
            equal((status, a["data"][0]["status"]), (200, want), "texts with one hash")
        equal(s.ask("/v1/documents/forged")[1]["text"], text.decode(), "which of two texts with one hash is kept")
    s.ask("/v1/documents/forged", method="DELETE")
    keys = [d["id"] for d in docs]
    for options, more in (((), {}), (("--ratio", "8"), {"ratio": 8}), (("--instruction", "Find a game."), {"instruction": "Find a game."})):
        want = from_store(store, QUERY, keys, *options)
        for again in range(2):         # the second time from warm states
            status, a = s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys, **more})
            equal([(r["index"], r["relevance_score"]) for r in a["results"]], want, "kept documents are ranked as by kalm-rerank, %r, %d" % (options, again))
    equal([r["document_id"] for r in a["results"]], [keys[i] for i, _ in want], "ids of results")
    check(s.metric("cache_hits_total") >= 40 and s.metric("cache_bytes") > 0, "states stay warm")
    # the same from a corpus that kalm-index encodes, and while the server runs
    with open(DIR + "/corpus.jsonl", "w") as f:
        for d in docs:
            f.write(json.dumps({"_id": d["id"], "title": d["title"], "text": d["text"], **d["metadata"]}) + "\n")
    index(MODEL, DIR + "/other.db", DIR + "/corpus.jsonl", "--quiet")
    dump = "SELECT key, hash, tokens, tokens_used, title, text, hex(document) FROM documents WHERE key <> 'new' ORDER BY key"
    sql = lambda path, q: subprocess.run(["sqlite3", path, q], capture_output=True, text=True, check=True).stdout
    equal(sql(store, dump), sql(DIR + "/other.db", dump), "rows as kalm-index makes them")
    equal(json.loads(sql(store, "SELECT metadata FROM documents WHERE key = '%s'" % keys[0])), {"n": 0, "s": "\u00e9"}, "metadata")
    with open(DIR + "/more.jsonl", "w") as f:
        f.write(json.dumps({"_id": "by-index", "text": TEXTS[50]}) + "\n")
    index(MODEL, store, DIR + "/more.jsonl", "--quiet")
    equal(s.ask("/v1/documents/by-index")[1]["text"], TEXTS[50], "what kalm-index added")
    equal(s.ask("/v1/rerank", {"query": QUERY, "document_ids": ["by-index"]})[1]["results"][0]["relevance_score"], rerank_bits16(TEXTS[50], store), "its score")
    # one, many, gone
    status, a = s.ask("/v1/documents/" + keys[1])
    equal((a["id"], a["text"], a["metadata"], a["windows"]), (keys[1], docs[1]["text"], docs[1]["metadata"], 1), "one document")
    seen, after = [], 0
    while True:
        status, a = s.ask("/v1/documents?limit=7&after=%d" % after)
        seen += [d["id"] for d in a["data"]]
        after = a["last"]
        if not a["has_more"]:
            break
    equal(sorted(seen), sorted(keys + ["new", "by-index"]), "the list, a part at a time")
    for limit, more in ((len(seen) - 1, True), (len(seen), False), (len(seen) + 1, False)):
        equal(s.ask("/v1/documents?limit=%d" % limit)[1]["has_more"], more, "%d of %d ids, and more" % (limit, len(seen)))
    equal(s.ask("/v1/documents/nobody")[1]["error"]["type"], "not_found_error", "the type of an error")
    # of a long text the beginning alone is read: that is said where it is added, and where it is asked for
    status, a = s.ask("/v1/documents", {"ids": ["long", "short"], "texts": [DOCS[0] * 40, DOCS[1]]})
    equal((status, [d.get("cut") for d in a["data"]]), (200, [True, None]), "a long text is added, and said to be cut")
    equal([s.ask("/v1/documents/" + k)[1]["cut"] for k in ("long", "short")], [True, False], "the kept document says that it was cut")
    equal(s.ask("/v1/documents", {"ids": ["long", "short"]}, method="DELETE")[0], 200, "delete both")
    status, a = s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys[:3], "return_documents": True})
    equal({r["document_id"]: r["document"]["text"] for r in a["results"]},
          {d["id"]: (d["title"] + " " if d["title"] else "") + d["text"] for d in docs[:3]}, "texts of kept documents")
    for method in ("GET", "DELETE"):   # an id with a NUL in it is not the one before the NUL
        equal(s.ask("/v1/documents/" + keys[1] + "%00x", method=method)[0], 404, method + " of an id with NUL")
    equal(s.ask("/v1/documents/" + keys[1], method="DELETE")[1]["data"], [{"id": keys[1], "deleted": True}], "delete one")
    equal(s.ask("/v1/documents/" + keys[1], method="DELETE")[0], 404, "delete it again")
    equal(s.ask("/v1/documents/" + keys[1])[0], 404, "it is gone")
    equal(s.ask("/v1/documents", {"ids": [keys[2], "nobody"]}, method="DELETE")[1]["data"],
          [{"id": keys[2], "deleted": True}, {"id": "nobody", "deleted": False}], "delete some")
    status, a = s.ask("/v2/rerank", {"query": QUERY, "document_ids": [keys[0], keys[1]]})
    check(status == 404 and keys[1] in a["message"], "an id that is not there is named")
    weird = "a/b ?%&#\u00e9\U0001f600"
    equal(s.ask("/v1/documents", {"ids": [weird], "texts": ["a strange id"], "metadata": [None]})[0], 200, "a strange id")
    from urllib.parse import quote
    equal(s.ask("/v1/documents/" + quote(weird, safe=""))[1]["id"], weird, "it is found")
    for body in ({"documents": []}, {"documents": [{"id": "", "text": "a"}]}, {"documents": [{"id": 1, "text": "a"}]}, {"documents": [{"id": "x"}]},
                 {"documents": [{"id": "x", "text": "a\0b"}]}, {"documents": [{"id": "x\0y", "text": "a"}]}, {"ids": ["a"], "texts": []},
                 {"documents": [{"id": "x", "text": "a"}, {"id": "x", "text": "b"}]}, {"documents": [{"id": "x", "text": "a", "metadata": 1}]},
                 {"ids": ["a"], "texts": ["b"], "metadata": [{}, {}]}, {"documents": ["a"]}, {}):
        check(s.ask("/v1/documents", body)[0] == 400, "refused: %r" % body)
    equal(s.ask("/v1/documents/x")[0], 404, "nothing of a request that was refused")
    equal([s.ask("/v1/documents?limit=" + n)[0] for n in ("x", "0", "1", "1000", "1001", "-1", "")], [400, 400, 200, 200, 400, 400, 400], "limit")
    status, a = s.ask("/v2/rerank", {"query": QUERY, "document_ids": keys[:1], "ratio": 6})
    check(status == 400 and "multiple" in a["message"], "a ratio that is no multiple of the store's: %d %r" % (status, a))
    # somebody else holds the store for long: 503, and nothing else stops
    lock = subprocess.Popen(["sqlite3", store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def locks(statement):              # and waits until it is done
        lock.stdin.write(statement + ";\nSELECT 1;\n")
        lock.stdin.flush()
        lock.stdout.readline()
    locks("BEGIN IMMEDIATE")
    t = threading.Thread(target=lambda: equal(s.raw("POST", "/v1/documents", {"ids": ["late"], "texts": ["b"]})[0], 503, "a locked store"))
    t.start()
    equal(s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys[:1]})[0], 200, "ranking from a locked store")
    t.join()
    # a text that is there when it is looked up, and gone when its metadata is to be written: nobody is told that it is kept
    locks("DELETE FROM documents WHERE key = 'by-index'")
    t = threading.Thread(target=lambda: got.append(s.ask("/v1/documents", {"ids": ["by-index"], "texts": [TEXTS[50]]})))
    got = []
    t.start()
    time.sleep(min(0.5 * PATIENCE, 4)) # until it was looked up; SQLite waits five seconds for the lock
    lock.stdin.write("COMMIT;\n")
    lock.stdin.close()
    lock.wait()
    lock.stdout.close()
    t.join()
    check(got[0][0] == 503 and "somebody else" in got[0][1]["message"], "a text that went away meanwhile: %r" % got)
    s.end()
    index(MODEL, store, "--verify")
    equal(sorted(f for f in os.listdir(DIR) if f.startswith("kept.db")), ["kept.db"], "one file at the end")
    test_splits()
    test_warm()
    test_rounded()
    test_half()
    test_damage()
    # what only reads
    s = Server("--store", store, "--read-only")
    equal(s.ask("/v1/documents", {"ids": ["a"], "texts": ["b"]})[0], 403, "a store that is only read")
    equal(s.ask("/v1/documents/new")[0], 200, "it is read")
    s.end()
    # rows of 2 bits: kept, ranked as the library does, and refused where the store's transform is another
    two = DIR + "/two.db"
    s = Server("--store", two, "--bits", "2")
    equal(s.ask("/v1/documents", {"ids": ["a", "b"], "texts": TEXTS[:2]})[0], 200, "documents of 2 bits")
    equal(len(s.ask("/v1/rerank", {"query": QUERY, "document_ids": ["a", "b"]})[1]["results"]), 2, "they are ranked")
    s.end()
    index(MODEL, two, "--verify")
    subprocess.run(["sqlite3", two, "UPDATE meta SET value = '0123456789abcdef' WHERE name = 'transform'"], check=True)
    for args, why in ((["--store", two], "made with transform 0123456789abcdef"), (["--store", two, "--read-only"], "made with transform"),
                      (["--store", DIR], "folder"), (["--store", MODEL], "database"), (["--store", store, "--ratio", "4", "--bits", "7"], "bits"),
                      (["--store", store, "--bits", "8"], "was made with --bits 16"), (["--bits", "8"], "for --store"),
                      (["--host", "nowhere.invalid"], "nowhere"), (["--prot", "1"], "did you mean"), (["--api-key-file", os.devnull], "key")):
        r = subprocess.run([BUILD + "/kalm-server", MODEL, "--port", "0", *args], capture_output=True, text=True, timeout=60 * PATIENCE)
        check(r.returncode in (1, 2) and why in r.stderr and r.stderr.count("\n") == 1, "%r: %d %r" % (args, r.returncode, r.stderr))


def rerank_bits16(text, store):
    return from_store(store, QUERY, ["by-index"])[0][1]


def test_warm():
    """A full cache keeps what is asked for most: a request for many rare documents does not drive it out."""
    s = Server("--store", DIR + "/other.db", "--read-only", "--warm", "1")
    keys = [d["_id"] for d in CORPUS[:40]]
    ask = lambda ids: equal(s.ask("/v1/rerank", {"query": QUERY, "document_ids": ids})[0], 200, "kept documents")
    for _ in range(8):
        ask(keys[:5])
    for key in keys[5:]:
        ask([key])
    limit = s.metric("cache_limit_bytes")
    check(limit == 1 << 20 and s.metric("cache_bytes") <= limit and s.metric("cache_states") < 40, "the cache is within its limit")
    before = s.metric("cache_hits_total")
    ask(keys[:5])
    equal(s.metric("cache_hits_total") - before, 5, "what everybody asks for is warm after a request for many others")
    s.end()


def test_rounded():
    """With --state-bits a kept document has one score, warm or not, and another than without."""
    keys = [d["_id"] for d in CORPUS[:8]]
    def scores(*options):
        s = Server("--store", DIR + "/other.db", "--read-only", *options)
        got = [[r["relevance_score"] for r in s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys})[1]["results"]] for _ in range(2)]
        s.end()
        return got
    exact, cold, warm = scores(), scores("--state-bits", "4", "--warm", "0"), scores("--state-bits", "4")
    check(cold == warm and cold[0] == cold[1] and exact[0] != cold[0], "--state-bits: %r, %r, %r" % (exact, cold, warm))


def test_half():
    """A model file that has the decoder alone ranks what is kept."""
    half = DIR + "/decoder.kalm"
    subprocess.run([BUILD + "/kalm-quantize", MODEL, half, "--side", "decoder", "--quiet"], check=True)
    store = DIR + "/other.db"
    s = Server("--store", store, "--read-only", model=half)
    keys = [d["_id"] for d in CORPUS[:10]]
    a = s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys})[1]
    equal([(r["index"], r["relevance_score"]) for r in a["results"]], from_store(store, QUERY, keys), "ranking with the decoder alone")
    status, a = s.ask("/v2/rerank", {"query": QUERY, "documents": DOCS})
    check(status == 501 and "decoder alone" in a["message"], "texts with the decoder alone: %d %r" % (status, a))
    s.end()


def test_damage():
    """A store that is damaged under the server, and a disk that is full: errors, and the server goes on."""
    import resource
    store = DIR + "/damage.db"
    index(MODEL, store, DIR + "/corpus.jsonl", "--quiet")
    keys = [d["_id"] for d in CORPUS[:6]]
    s = Server("--store", store)
    for what in ("document = 'x'", "document = substr(document, 1, 50)", "document = zeroblob(200)", "window = 'a'", "text = x'ff'", "metadata = '['", "title = 1"):
        subprocess.run(["sqlite3", store, "CREATE TABLE IF NOT EXISTS t AS SELECT * FROM documents; UPDATE documents SET %s WHERE key = '%s'" % (what, keys[1])], check=True)
        for path, body in (("/v1/rerank", {"query": QUERY, "document_ids": keys, "return_documents": True}), ("/v1/documents/" + keys[1], None)):
            status, a = s.ask(path, body)
            check(status in (200, 500), "%s: %d %r" % (what, status, a))
        check(s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys[2:]})[0] == 200, "the others, after " + what)
        subprocess.run(["sqlite3", store, "DELETE FROM documents; INSERT INTO documents SELECT * FROM t; DROP TABLE t"], check=True)
    equal(s.ask("/v1/rerank", {"query": QUERY, "document_ids": keys})[0], 200, "whole again")
    s.end()
    full = DIR + "/full.db"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400000, old[1]))
    s = Server("--store", full, "--log", "-")
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    kept = []
    for i in range(60):
        ids = ["%d-%d" % (i, k) for k in range(4)]
        status, a = s.ask("/v1/documents", {"ids": ids, "texts": TEXTS[i * 4:i * 4 + 4]})
        if status == 200:
            kept += ids
        else:
            check(status in (500, 507) and a["message"], "a full disk: %d %r" % (status, a))
            break
    check(status != 200 and len(kept) > 4, "the disk was full after %d documents" % len(kept))
    equal(s.ask("/v1/rerank", {"query": QUERY, "document_ids": kept})[0], 200, "ranking on a full disk")
    s.end()
    s = Server("--store", full)
    equal([s.ask("/v1/documents/" + k)[0] for k in kept], [200] * len(kept), "what was answered with success on a full disk")
    s.end()


def test_fuzz(s):
    """Requests that are bent at random: an answer or an error, never anything else."""
    seed = int(os.environ.get("KALM_SEED", random.randrange(1 << 30)))
    r = random.Random(seed)
    values = [None, True, -1, 0, 1, 2.5, 1e300, 2**63, "", "a", "\0", [], {}, ["a"], [["a"]], [None], [1], {"text": "a"}, [{"text": "a"}], [{}], "x" * 1000]
    names = ["query", "documents", "texts", "text_1", "text_2", "top_n", "top_k", "model", "return_documents", "rank_fields", "ratio", "instruction", "system",
             "deadline_ms", "return_margin", "max_tokens_per_doc", "document_ids", "ids", "raw_scores", "truncate", "truncation", "metadata"]
    paths = ["/v1/rerank", "/v2/rerank", "/rerank", "/score", "/v1/documents", "/jina/rerank", "/voyage/rerank"]
    c = http.client.HTTPConnection(s.host, s.port, timeout=60 * PATIENCE)
    for n in range(400 if SLOW else 1000):
        body = {"query": "a", r.choice(["documents", "texts", "document_ids", "text_2"]): ["b", "c"]}
        for _ in range(r.randrange(4)):
            body[r.choice(names)] = r.choice(values)
        data = bytearray(json.dumps(body).encode())
        for _ in range(r.choice((0, 0, 1, 3))):
            data[r.randrange(len(data))] = r.randrange(256)
        path = r.choice(paths)
        c.request(r.choice(("POST", "POST", "POST", "DELETE")), path, bytes(data))
        a = c.getresponse()
        text = a.read()
        try:
            good = 200 <= a.status < 600 and a.status not in (500, 503) and json.loads(text) is not None
        except ValueError:
            good = False
        if not good:
            check(False, "seed %d: %s %r: %d %r" % (seed, path, bytes(data), a.status, text[:300]))
    check(s.process.poll() is None, "the server lives, seed %d" % seed)
    # bytes that are no HTTP
    for n in range(60):
        k = socket.create_connection((s.host, s.port))
        k.sendall(bytes(r.randrange(256) for _ in range(r.randrange(200))) if n % 2 else
                  b"POST /v1/rerank HTTP/1.1\r\nHost: a\r\n" + r.choice((b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 9",
                  b"Transfer-Encoding: chunked\r\n\r\nzz", b"Transfer-Encoding: chunked\r\nContent-Length: 3", b"X: " + b"a" * 40000)) + b"\r\n\r\n{}")
        k.close()
    equal(s.raw("GET", "/health")[0], 200, "health after noise")


def test_splits():
    """A store of texts in windows: the best one counts."""
    store = DIR + "/split.db"
    long = {"_id": "long", "text": " ".join(TEXTS[60:64])}
    with open(DIR + "/long.jsonl", "w") as f:
        f.write(json.dumps(long) + "\n")
    index(MODEL, store, DIR + "/long.jsonl", "--split", "64", "--overlap", "16", "--quiet")
    s = Server("--store", store)
    second = " ".join(TEXTS[70:73])
    equal(s.ask("/v1/documents", {"ids": ["second", "short"], "texts": [second, "a few words"]})[0], 200, "long texts")
    want = from_store(store, QUERY, ["long", "second", "short"])
    a = s.ask("/v1/rerank", {"query": QUERY, "document_ids": ["long", "second", "short"]})[1]
    equal([(r["index"], r["relevance_score"]) for r in a["results"]], want, "windows")
    a = s.ask("/v1/documents/second")[1]
    check(a["text"] == second and a["windows"] > 1, "windows are put together")
    s.end()
    index(MODEL, store, "--verify")


def test_kill():
    """kill -9 while documents are added: what was answered with success is there."""
    store = DIR + "/killed.db"
    said = {}
    rounds = 3 if SLOW else 8
    for n in range(rounds):
        s = Server("--store", store)

        def add(who, answered):
            i = 0
            while True:
                i += 1
                ids = ["%d-%d-%d-%d" % (n, who, i, k) for k in range(3)] + ["shared-%d" % who]
                texts = [random.choice(TEXTS)[:80] for _ in ids]
                try:
                    if s.raw("POST", "/v1/documents", {"ids": ids, "texts": texts})[0] == 200:
                        answered.update(zip(ids, texts))
                    else:
                        return
                except (OSError, http.client.HTTPException):
                    return
                last[who] = dict(zip(ids, texts))

        last = {}
        answers = [{} for _ in range(4)]
        threads = [threading.Thread(target=add, args=(w, answers[w])) for w in range(4)]
        for t in threads:
            t.start()
        time.sleep(random.uniform(0.05, 0.4) * PATIENCE ** 0.5)
        s.process.kill()
        s.process.wait()
        for t in threads:
            t.join()
        for a in answers:
            said.update(a)
        s.process.stdout.close()
        s.process.stderr.close()
    s = Server("--store", store)
    missing = 0
    for key, text in said.items():
        status, a = s.ask("/v1/documents/" + key)
        # a shared key may have a newer text of a request whose answer was killed
        missing += status != 200 or (a["text"] != text and not key.startswith("shared"))
    check(missing == 0 and len(said) > 20, "%d of %d documents are lost after kill -9" % (missing, len(said)))
    s.end()
    index(MODEL, store, "--verify")
    rows = subprocess.run(["sqlite3", store, "SELECT count(*) FROM documents WHERE key NOT LIKE 'shared%'"], capture_output=True, text=True).stdout
    check(int(rows) % 3 == 0, "a request is stored whole or not at all: %s rows" % rows.strip())


# ---- many at a time ----

LONG = [t * 4 for t in TEXTS[:30 if SLOW else 250]]


def test_together(s):
    """Requests that meet share batches, and have the scores that they have alone."""
    asked = [({"query": "query %d" % i, "documents": TEXTS[i * 5:i * 5 + 1 + i % 5], **({"ratio": 8} if i % 7 == 3 else {})}) for i in range(24)]
    alone = [s.ask("/v1/rerank", a)[1]["results"] for a in asked]
    got = [None] * len(asked)
    before = s.metric("encode_batches_shared_total")

    def one(i):
        for _ in range(3):
            got[i] = s.ask("/v1/rerank", asked[i])[1]["results"]
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(asked))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(got, alone, "scores in common batches")
    check(s.metric("encode_batches_shared_total") > before, "batches were shared")


def test_fair(s):
    """A short request is not stuck behind a long one, and one whose client hangs up goes away."""
    long = http.client.HTTPConnection(s.host, s.port)
    long.request("POST", "/v1/rerank", json.dumps({"query": QUERY, "documents": (LONG * 4)[:1000]}).encode())
    until(lambda: s.metric("queue_requests") >= 1, 10)
    times = []
    for _ in range(3):
        at = time.time()
        equal(s.ask("/v1/rerank", {"query": QUERY, "documents": DOCS[:2]})[0], 200, "a short request")
        times.append(time.time() - at)
    check(s.metric("queue_requests") >= 1, "the long request ended before the short ones, %r" % times)
    long.close()
    # a deadline that comes while a slice of another job is at work
    long = http.client.HTTPConnection(s.host, s.port)
    long.request("POST", "/v1/rerank", json.dumps({"query": QUERY, "documents": LONG}).encode())
    until(lambda: s.metric("queue_requests") >= 1, 10)
    at = time.time()
    status, a = s.ask("/v1/rerank", {"query": QUERY, "documents": DOCS, "deadline_ms": 30})
    equal((status, len(a["results"])), (200, 7), "a deadline beside a long request")
    check(time.time() - at < PATIENCE, "it is answered after %.3f s" % (time.time() - at))
    long.close()
    # hang up: the queue is empty again long before the work would be done
    before = s.metric("documents_total")
    hangs = []
    for _ in range(4):
        c = http.client.HTTPConnection(s.host, s.port)
        c.request("POST", "/v1/rerank", json.dumps({"query": QUERY, "documents": LONG}).encode())
        hangs.append(c)
    check(until(lambda: s.metric("queue_requests") >= 4, 10), "they wait")
    for c in hangs:
        c.close()
    check(until(lambda: s.metric("queue_requests") == 0, 5) and s.metric("documents_total") - before < 4 * len(LONG), "clients that hung up leave the queue: %d documents"
          % (s.metric("documents_total") - before))
    check(s.metric("hung_up_total") >= 4, "they are counted")


def test_limits():
    with open(DIR + "/keys", "w") as f:
        f.write("first-key\n\nsecond-key\n")
    s = Server("--max-body", "1", "--max-documents", "50", "--max-tokens", "3000", "--queue", "3", "--timeout", "%d" % PATIENCE, "--read-timeout", "%d" % PATIENCE,
               "--api-key-file", DIR + "/keys", "--connections", "40", "--allow-origin", "https://a.example")
    key = {"Authorization": "Bearer second-key"}
    ok = {"query": "q", "documents": ["a"]}
    equal(s.raw("POST", "/v1/rerank", ok, key)[0], 200, "with a key")
    equal(s.raw("POST", "/v1/rerank", ok, {"authorization": "bearer first-key"})[0], 200, "with the other key")
    for bad in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer second-ke"}, {"Authorization": "Bearer second-keyy"},
                {"Authorization": "second-key"}, {"Authorization": "Bearer wrong-key"}):
        status, headers, data = s.raw("POST", "/v2/rerank", ok, bad)
        check(status == 401 and sorted(json.loads(data)) == ["message"] and headers["www-authenticate"] == "Bearer", "no key: %r %d" % (bad, status))
    equal(s.raw("GET", "/metrics")[0], 401, "metrics want the key")
    equal(s.raw("GET", "/health")[0], 200, "health does not")
    ask = lambda path, body: (lambda r: (r[0], json.loads(r[2])))(s.raw("POST", path, body, key))
    for path, name, want in (("/v2/rerank", "documents", 400), ("/rerank", "texts", 413), ("/jina/rerank", "documents", 422)):
        status, a = ask(path, {"query": "q", name: ["a"] * 51})
        check(status == want and "50" in json.dumps(a), "too many documents: %d" % status)
        status, a = ask(path, {"query": "q", name: [TEXTS[0]] * 50})
        check(status == want and "3000" in json.dumps(a), "too many tokens: %d %r" % (status, a))
    equal([ask("/v2/rerank", {"query": "q", "documents": ["a"] * n})[0] for n in (49, 50)], [200, 200], "as many documents as are allowed")
    equal(ask("/v2/rerank", {"query": "q", "documents": ["a b " * 5000]})[0], 200, "a text counts as many tokens as are read of it")
    status, a = ask("/v2/rerank", {"query": "a " * 4000, "documents": ["a"]})
    check(status == 400 and "3000" in json.dumps(a), "a query of too many tokens: %d %r" % (status, a))
    for _ in range(5):
        equal(ask("/v1/rerank", {"query": "q", "documents": ["a b " * 300000]})[0], 413, "a body that is too large")
    c = socket.create_connection((s.host, s.port))
    c.sendall(b"POST /v2/rerank HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer first-key\r\nContent-Length: 99999999999\r\n\r\n{")
    check(c.recv(1000).startswith(b"HTTP/1.1 413 "), "a body that nobody would read")
    c.close()
    c = socket.create_connection((s.host, s.port))
    c.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer no\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n")
    check(c.recv(1000).startswith(b"HTTP/1.1 401 "), "a client that waits for leave to send")
    c.close()
    c = http.client.HTTPConnection(s.host, s.port)
    c.request("POST", "/v1/rerank", iter([b"x" * 100000] * 15), encode_chunked=True, headers=dict(key, **{"Transfer-Encoding": "chunked"}))
    equal(c.getresponse().status, 413, "in chunks")
    c.close()
    # what is too large is read to its end up to eight times the limit, so that the client sees the answer; beyond that nobody reads on
    mib = b" " * (1 << 20)
    c = http.client.HTTPConnection(s.host, s.port, timeout=60 * PATIENCE)
    c.request("POST", "/v1/rerank", iter([mib] * 8), encode_chunked=True, headers=dict(key, **{"Transfer-Encoding": "chunked"}))
    equal(c.getresponse().status, 413, "eight times the limit in chunks")
    c.close()
    c = http.client.HTTPConnection(s.host, s.port, timeout=60 * PATIENCE)
    c.connect()
    c.auto_open = 0                                        # what one connection sends is counted anew for each request
    body, statuses = json.dumps(ok).encode() + b" " * 1000000, []
    for _ in range(10):
        try:
            c.request("POST", "/v1/rerank", body, key)
            r = c.getresponse()
            r.read()
            statuses.append(r.status)
        except (OSError, http.client.HTTPException) as e:
            statuses.append(type(e).__name__)
            break
    equal(statuses, [200] * 10, "ten large requests on one connection")
    c.close()
    equal(s.raw("POST", "/v1/rerank", mib * 8, key)[0], 413, "eight times the limit, said before")
    c = socket.create_connection((s.host, s.port))
    c.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer first-key\r\nContent-Length: %d\r\n\r\n{" % (len(mib) * 8 + 1))
    check(c.recv(1000).startswith(b"HTTP/1.1 413 "), "a byte more than eight times the limit is refused before it is sent")
    c.close()
    c = socket.create_connection((s.host, s.port))
    c.settimeout(20 * PATIENCE)
    c.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer first-key\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = 0
    try:
        while sent < 100:
            c.sendall(b"100000\r\n" + mib + b"\r\n")
            sent += 1
    except OSError as e:
        check(not isinstance(e, TimeoutError), "a client that sends for ever is cut off, not kept waiting")
    check(8 <= sent < 100, "a client that sends for ever is cut off: after %d MiB" % sent)
    c.close()
    equal(s.raw("POST", "/v1/rerank", ok, key)[0], 200, "after bodies that were too large")
    # pages of the allowed origin
    status, headers, _ = s.raw("OPTIONS", "/v1/rerank", None, {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"})
    equal((status, headers.get("access-control-allow-origin"), headers.get("allow")), (204, "https://a.example", "POST"), "a page asks whether it may")
    equal(s.raw("POST", "/v1/rerank", ok, dict(key, Origin="https://b.example"))[0], 403, "another page may not")
    # dawdlers: headers, a body, nothing at all; the server answers others meanwhile, and they are cut off
    slow = []
    # (the body is one that five bytes a second do not fill, however patient the test is)
    for start in (b"", b"POST /v1/rerank HTTP/1.1\r\nHost: a\r\nX-", b"POST /v1/rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n{"):
        for _ in range(5):
            c = socket.create_connection((s.host, s.port))
            c.sendall(start)
            slow.append(c)
    began = time.time()
    while time.time() - began < PATIENCE + 0.6:
        for c in slow[5:]:
            try:
                c.send(b"a")
            except OSError:
                pass
        equal(s.raw("GET", "/health")[0], 200, "health beside dawdlers")
        time.sleep(0.2)
    cut = 0
    for c in slow:
        c.settimeout(2 * PATIENCE)
        try:
            cut += c.recv(100)[:12] in (b"", b"HTTP/1.1 408")
        except OSError as e:
            cut += not isinstance(e, TimeoutError)
        c.close()
    equal(cut, 15, "dawdlers are cut off")
    s.end()
    # a full queue, and the time limit
    # of which the requests below are far, wherever they run
    s = Server("--queue", "3", "--timeout", "%d" % PATIENCE, "--max-documents", "100000", "--max-tokens", "1000000000")
    answers = []

    def long():
        status, headers, data = s.raw("POST", "/v2/rerank", {"query": QUERY, "documents": LONG[:150] * (5 * max(PATIENCE, 4) if SLOW else 4 * PATIENCE)})
        answers.append((status, headers.get("retry-after"), sorted(json.loads(data))))
    threads = [threading.Thread(target=long) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    statuses = sorted(a[0] for a in answers)
    equal((statuses.count(503) >= (1 if SLOW else 4), set(statuses) <= {200, 503, 504}), (True, True), "a full queue: %r" % statuses)
    check(all(a[1] and int(a[1]) >= 1 and a[2] == ["message"] for a in answers if a[0] == 503), "Retry-After")
    check(504 in statuses, "the time limit: %r" % statuses)
    check(all(a[1] == "1" for a in answers if a[0] == 503), "when to ask again: %r" % answers)
    check(until(lambda: s.raw("POST", "/v1/rerank", ok)[0] == 200, 5), "it answers afterwards")
    s.end()
    # when to ask again grows with what waits: 100 requests, a slice of 0.2 s for 8 of them, are 2.5 s, said as 3
    s = Server("--queue", "100", "--timeout", "600", "--read-timeout", "600")
    body = json.dumps({"query": QUERY, "documents": LONG[:150]}).encode()
    waiting = [socket.create_connection((s.host, s.port)) for _ in range(100)]
    for c in waiting:
        c.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    check(until(lambda: s.metric("queue_requests") == 100, 20), "100 requests wait: %r" % s.metric("queue_requests"))
    status, headers, _ = s.raw("POST", "/v1/rerank", ok)
    equal((status, headers.get("retry-after")), (503, "3"), "when to ask again where 100 wait")
    for c in waiting:
        c.close()
    s.end()


def test_end_busy():
    """SIGTERM while connections come and go: the server ends in order. (libmicrohttpd 0.9.75 ended the program at times where it listened itself.)"""
    for _ in range(2 if SLOW else 6):
        s = Server()
        stop = False

        def come_and_go():
            while not stop:
                try:
                    with socket.create_connection((s.host, s.port), timeout=5 * PATIENCE) as k:
                        k.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                        while k.recv(4096):
                            pass
                except OSError:
                    pass
        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for t in threads:
            t.start()
        time.sleep(random.uniform(0.02, 0.1))
        s.process.send_signal(signal.SIGTERM)
        status = s.process.wait(timeout=60 * PATIENCE)
        stop = True
        for t in threads:
            t.join()
        equal((status, s.process.stderr.read()), (0, b""), "SIGTERM among connections")
        s.process.stdout.close()
        s.process.stderr.close()


def test_end():
    """SIGTERM: what was accepted is answered."""
    s = Server("--log", DIR + "/log", "--drain", "%d" % (30 * PATIENCE))
    got = []
    many = (LONG * 8)[:600]           # still at work when the signal comes, also where nothing else runs
    ask = threading.Thread(target=lambda: got.append(s.raw("POST", "/v1/rerank", {"query": QUERY, "documents": many})))
    idle = http.client.HTTPConnection(s.host, s.port)
    idle.request("GET", "/health")
    idle.getresponse().read()
    ask.start()
    until(lambda: s.metric("queue_requests") >= 1, 10)
    s.process.send_signal(signal.SIGTERM)
    until(lambda: "draining" in open(DIR + "/log").read(), 10)
    try:
        idle.request("GET", "/health")
        a = idle.getresponse()
        equal((a.status, a.getheader("retry-after")), (503, "1"), "health of a server that ends")
    except (OSError, http.client.HTTPException):
        check(True, "closed")
    try:
        socket.create_connection((s.host, s.port), timeout=2 * PATIENCE).close()
        check(False, "a server that ends takes connections")
    except OSError:
        check(True, "")
    ask.join()
    equal((got[0][0], len(json.loads(got[0][2])["results"]) == len(many), got[0][1].get("connection", "").lower()), (200, True, "close"), "the accepted request")
    equal(s.process.wait(timeout=60 * PATIENCE), 0, "exit status")
    s.process.stdout.close()
    s.process.stderr.close()
    with open(DIR + "/log") as f:
        lines = [json.loads(line) for line in f]
    equal([a["event"] for a in lines if "event" in a], ["listening", "draining", "ended"], "events of the log")
    check(any(a.get("status") == 200 and a.get("documents") == len(many) and a["computed_ms"] > 0 for a in lines), "the request in the log")
    # a log that is moved away and opened anew
    s = Server("--log", DIR + "/log2", "--log-text")
    s.ask("/v1/rerank", {"query": QUERY, "documents": ["a"]})
    until(lambda: QUERY in open(DIR + "/log2").read(), 10)
    os.rename(DIR + "/log2", DIR + "/log2.1")
    s.process.send_signal(signal.SIGHUP)
    until(lambda: os.path.exists(DIR + "/log2"), 10)
    s.ask("/v1/rerank", {"query": "after", "documents": ["a"]})
    s.end()
    check(QUERY in open(DIR + "/log2.1").read() and "after" in open(DIR + "/log2").read(), "SIGHUP opens the log anew")


ONE_SERVER = (test_forms, test_extensions, test_errors, test_metrics, test_together, test_fuzz, test_fair)
OWN_SERVERS = (test_kept, test_kill, test_limits, test_end_busy, test_end)


def wanted(part):
    """KALM_PARTS="together end" runs these alone: make thread, where a request takes seconds."""
    names = os.environ.get("KALM_PARTS", "").split()
    return not names or part.__name__[len("test_"):] in names


def main():
    if not os.path.exists(MODEL):
        subprocess.run([BUILD + "/kalm-quantize", "examples/tiny", MODEL, "--quiet"], check=True)
    random.seed()
    s = Server("--store", DIR + "/empty.db", "--log", "-")
    s.end(signal.SIGINT)
    s = Server()
    for part in ONE_SERVER:
        if wanted(part):
            part(s)
    s.end()
    for part in OWN_SERVERS:
        if wanted(part):
            part()
    for line in s.log:
        try:
            a = json.loads(line)
        except ValueError:
            a = None
        check(isinstance(a, dict) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", a["time"]), "a line of the log: %r" % line)
        check(QUERY not in line.decode() and DOCS[0][:20] not in line.decode(), "texts are in the log")


try:
    main()
finally:
    shutil.rmtree(DIR, ignore_errors=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
