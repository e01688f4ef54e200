"""check.py BUILD - tests of kalm-server; see test_server.sh. Python's standard library alone."""
import http.client, json, os, random, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time

BUILD = sys.argv[1]
MODEL = BUILD + "/tiny.kalm"
SLOW = any(w in BUILD for w in ("sanitize", "thread", "debug", "coverage"))
DIR = tempfile.mkdtemp(prefix="server.", dir=BUILD + "/tmp")
passed = failed = 0


def check(good, what):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print("FAILED:", what, flush=True)
    return good


def equal(a, b, what):
    return check(a == b, "%s: %.600r instead of %.600r" % (what, a, b))


class Server:
    """A kalm-server of its own, on a port that is free."""

    def __init__(self, *args, env=None, model=MODEL):
        self.log = []
        e = dict(os.environ, **(env or {}))
        e.pop("KALM_API_KEY", None) if not env else None
        self.process = subprocess.Popen([BUILD + "/kalm-server", model, "--port", "0", *args], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=e)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start: " + self.process.stderr.read().decode())
        self.log.append(line)
        self.host, _, self.port = json.loads(line)["url"][7:].rpartition(":")
        self.port = int(self.port)
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def raw(self, method, path, body=None, headers=None, timeout=120):
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
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
        code = self.process.wait(timeout=60)
        self.reader.join(timeout=10)
        if want is not None:
            equal(code, want, "exit status of the server: " + self.process.stderr.read().decode()[:500])
        self.process.stdout.close()
        self.process.stderr.close()
        return code


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
    many = [t * 8 for t in TEXTS[:600]]
    began = time.time()
    status, a = s.ask("/v1/rerank", {"query": QUERY, "documents": many, "deadline_ms": 250, "return_margin": True})
    took = time.time() - began
    done = [r for r in a["results"] if r.get("scored", True)]
    check(status == 200 and 0 < a["scored"] < 600 and len(done) == a["scored"], "a deadline in the middle: %d of 600" % a["scored"])
    check(all(r["margin"] is None for r in a["results"][len(done):]) and [r["margin"] for r in done] == sorted((r["margin"] for r in done), reverse=True),
          "what is scored comes first, ranked")
    check(took < (20 if SLOW else 1.2), "the answer came after %.2f s" % took)
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
    # texts of all kinds
    odd = ["", " ", "a\0b", "\ud83d cut within an emoji", "\U0001f600", "中文", "<end_of_turn>", "x" * 5000]
    body = json.dumps({"query": "q \udc00", "documents": odd}).encode()
    status, _, data = s.raw("POST", "/v1/rerank", body)
    equal(status, 200, "odd texts")
    a = {r["index"]: r["relevance_score"] for r in json.loads(data)["results"]}
    same = s.ask("/v1/rerank", {"query": "q \ufffd", "documents": [t.replace("\ud83d", "\ufffd") for t in odd]})[1]["results"]
    equal(a, {r["index"]: r["relevance_score"] for r in same}, "half an emoji is U+FFFD")


def test_errors(s):
    bad = [b"", b"{", b"[]", b"null", b'"text"', b"{}", b'{"query": 1, "documents": ["a"]}', b'{"query": "a"}', b'{"query": "a", "documents": []}',
           b'{"query": "a", "documents": "b"}', b'{"query": "a", "documents": [1]}', b'{"query": "a", "documents": [{"title": "b"}]}',
           b'{"query": "a", "documents": ["b"], "top_n": -1}', b'{"query": "a", "documents": ["b"], "top_n": "1"}',
           b'{"query": "a", "documents": ["b"], "ratio": 0}', b'{"query": "a", "documents": ["b"], "ratio": 2.5}',
           b'{"query": "a", "documents": ["b"], "instruction": 1}', b'{"query": "a", "documents": ["b"], "return_documents": "yes"}',
           b'{"query": "a", "documents": ["b"], "deadline_ms": -1}', b'{"query": "a", "documents": [{"x": 1}], "rank_fields": ["y"]}',
           b'{"query": "a", "documents": [{"x": 1}], "rank_fields": [1]}', b'{"query": "a", "documents": ["\xff"]}', b"[" * 100000,
           b'{"query": "a", "documents": ["b"], "document_ids": ["c"]}', b'{"query": "a", "documents": ["b"]} more',
           b'{"query": "a", "documents": [' + b"[]," * 90000 + b'"b"]}']
    for body in bad:
        status, _, data = s.raw("POST", "/v1/rerank", body)
        try:
            a = json.loads(data)
        except ValueError:
            a = {}
        check(400 <= status < 500 and a.get("message") and a.get("detail", a["message"]) == a["message"],
              "%.80r: %d %.200r" % (body, status, data))
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
    for path in ("/health", "/v1/models", "/models", "/info"):
        equal(s.ask(path)[0], 200, path)
    equal(s.ask("/v1/models")[1]["data"][0]["id"], "tiny", "the model's name")


def test_metrics(s):
    for line in s.raw("GET", "/metrics")[2].decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            check(name.startswith("kalm_") and float(value) >= 0, "a line of /metrics: " + line)
    check(s.metric("documents_total") > 100 and s.metric("tokens_total") > 1000 and s.metric("request_seconds_count") > 20, "counts grow")


def main():
    if not os.path.exists(MODEL):
        subprocess.run([BUILD + "/kalm-quantize", "examples/tiny", MODEL, "--quiet"], check=True)
    s = Server()
    test_forms(s)
    test_extensions(s)
    test_errors(s)
    test_metrics(s)
    s.end()
    for line in s.log:
        try:
            a = json.loads(line)
        except ValueError:
            a = None
        check(isinstance(a, dict) and "time" in a, "a line of the log: %r" % line)
        check(QUERY not in line.decode() and DOCS[0][:20] not in line.decode(), "texts are in the log")


try:
    main()
finally:
    shutil.rmtree(DIR, ignore_errors=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
