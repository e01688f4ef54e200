"""soak.py BUILD [SECONDS [SEED]] - kalm-server under mixed work for long: `make server-soak TIME=600`. Python's standard library alone.

Several clients at once send, in random order, what a server meets in its life: rankings in every wire form, of texts and of kept documents;
documents that are kept, replaced, listed and deleted; pages; requests that are wrong, too large, cut in the middle, sent slowly or left by
their client; bytes that are no HTTP. The log is moved away and opened anew meanwhile. What must hold:
  - every answer has the status that its request asks for
  - every score is that of kalm-rerank, and what a client keeps it reads again
  - every 100th request is one whose answer was kept at the beginning: the same bytes, but for ids and times
  - memory (RSS), the store and open descriptors do not grow after the first fifth of the time; when the clients have gone, no more descriptors are open
    than before they came
  - on SIGTERM, in the middle of the work, the server ends in order and its store holds what was answered"""
import http.client, json, os, random, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time

BUILD = sys.argv[1]
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 60
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
PATIENCE = int(os.environ.get("KALM_PATIENCE") or 1)
MODEL = BUILD + "/tiny.kalm"
DIR = tempfile.mkdtemp(prefix="server-soak.", dir=BUILD + "/tmp")
CLIENTS, KEYS, READ_TIMEOUT, DOCUMENTS = 8, 40, 2 * PATIENCE, 100      # at a time; ids of each client; seconds; of a request
QUERIES = ["an editor for images", "play chess against the computer", "encrypted backups", "a compiler for the C language"]
with open("examples/tiny/eval/corpus.jsonl") as f:
    TEXTS = list(dict.fromkeys(json.loads(line)["text"] for line in f))[:60]         # no two the same

lock = threading.Lock()
passed = failed = 0
counts = {}                            # kind of request: how many
stop = threading.Event()


def check(good, what):
    global passed, failed
    with lock:
        passed += bool(good)
        failed += not good
        if not good and failed <= 20:
            print("FAILED (seed %d): %s" % (SEED, what), flush=True)
    return good


def count(kind):
    with lock:
        counts[kind] = counts.get(kind, 0) + 1
        return sum(counts.values())


# ---- the server ----

server = subprocess.Popen([BUILD + "/kalm-server", MODEL, "--port", "0", "--store", DIR + "/kept.db", "--warm", "2", "--max-body", "1", "--max-documents",
                           str(DOCUMENTS), "--read-timeout", str(READ_TIMEOUT), "--log", DIR + "/log", "--drain", str(30 * PATIENCE)],
                          stderr=subprocess.PIPE)
address = server.stderr.readline().decode().split()[-1][7:].rpartition(":")
HOST, PORT = address[0], int(address[2])


def resident():
    with open("/proc/%d/status" % server.pid) as f:
        return int(re.search(r"VmRSS:\s*(\d+)", f.read()).group(1))


def descriptors():
    return len(os.listdir("/proc/%d/fd" % server.pid))


def stored():
    """kB of the store and its journal."""
    return sum(os.path.getsize(DIR + "/" + f) for f in os.listdir(DIR) if f.startswith("kept.db")) // 1024


def scores_of_rerank():
    """(query, text): score, as kalm-rerank says."""
    with open(DIR + "/texts.jsonl", "w") as f:
        for text in TEXTS:
            f.write(json.dumps({"text": text}) + "\n")
    known = {}
    for ratio in 4, 8:
        for query in QUERIES:
            out = subprocess.run([BUILD + "/kalm-rerank", MODEL, query, "--documents", DIR + "/texts.jsonl", "--ratio", str(ratio), "--json"],
                                 check=True, capture_output=True)
            for r in json.loads(out.stdout)["results"]:
                known[query, r["index"], ratio] = r["score"]
    return known


# ---- one client ----

class Client:
    def __init__(self, number):
        self.number, self.random, self.c = number, random.Random(SEED * 100 + number), None
        self.kept = {}                 # id: place in TEXTS, as the server has answered
        self.unsure = set()            # ids whose last change has no answer, which may be so at the end

    def ask(self, method, path, body=None, **headers):
        """Status and bytes. The connection stays, most of the time."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        for again in True, False:
            fresh = self.c is None
            if fresh:
                self.c = http.client.HTTPConnection(HOST, PORT, timeout=120 * PATIENCE)
            try:
                self.c.request(method, path, data, headers)
                r = self.c.getresponse()
                answer = r.status, r.read()
                if stop.is_set() and answer[0] == 503:             # "the server is ending" is as good as none
                    raise ConnectionError
                if self.random.random() < 0.1 or r.will_close:
                    self.drop()
                return answer
            except (OSError, http.client.HTTPException):
                self.drop()            # a connection that was idle may have been closed while the request was on its way
                if stop.is_set() or fresh or not again:
                    raise
        raise AssertionError

    def drop(self):
        if self.c:
            self.c.close()
        self.c = None

    def open(self):
        return socket.create_connection((HOST, PORT), timeout=60 * PATIENCE)

    # -- what a client may do; each returns after its own checks

    def some(self, most):
        return self.random.sample(range(len(TEXTS)), self.random.randint(1, most))

    def rank(self):
        r, query, which = self.random, self.random.choice(QUERIES), self.some(12)
        ratio = r.choice((4, 4, 8))
        form = r.choice(("/v1/rerank", "/v2/rerank", "/jina/rerank", "/voyage/rerank", "/rerank", "/score"))
        name = {"/rerank": "texts", "/score": "text_2"}.get(form, "documents")
        body = {"text_1" if form == "/score" else "query": query, name: [TEXTS[i] for i in which], "ratio": ratio}
        if r.random() < 0.2:
            body["deadline_ms"] = 100000
        if r.random() < 0.2 and form != "/score":
            body["return_text" if form == "/rerank" else "return_documents"] = True
        status, data = self.ask("POST", form, body)
        if not check(status == 200, "%s: %d %.200r" % (form, status, data)):
            return
        a = json.loads(data)
        a = a if isinstance(a, list) else a.get("results", a.get("data"))
        got = {x["index"]: x.get("relevance_score", x.get("score")) for x in a}
        check(got == {i: known[query, which[i], ratio] for i in range(len(which))}, "%s: scores %r of %r, %r" % (form, got, query, which))

    def keep(self):
        r = self.random
        which = {"c%d-%d" % (self.number, r.randrange(KEYS)): r.randrange(len(TEXTS)) for _ in range(r.randint(1, 5))}
        self.unsure |= set(which)
        if r.random() < 0.5:
            body = {"ids": list(which), "texts": [TEXTS[i] for i in which.values()], "metadata": [{"n": i} for i in which.values()]}
        else:
            body = {"documents": [{"id": k, "text": TEXTS[i]} for k, i in which.items()]}
        status, data = self.ask("POST", "/v1/documents", body)
        if check(status == 200, "documents are kept: %d %.200r" % (status, data)):
            said = {d["id"]: d["status"] for d in json.loads(data)["data"]}
            check(said == {k: "created" if k not in self.kept else "unchanged" if self.kept[k] == i else "replaced" for k, i in which.items()},
                  "what became of %r: %r" % (which, said))
            self.kept.update(which)
            self.unsure -= set(which)

    def delete(self):
        key = "c%d-%d" % (self.number, self.random.randrange(KEYS))
        self.unsure.add(key)
        if self.random.random() < 0.5:
            status, data = self.ask("DELETE", "/v1/documents/" + key)
            check(status == (200 if key in self.kept else 404), "deletion of %s: %d %.200r" % (key, status, data))
        else:
            status, data = self.ask("DELETE", "/v1/documents", {"ids": [key]})
            check(status in (200, 404) and (status == 200) == (key in self.kept), "deletion of %s: %d %.200r" % (key, status, data))
        self.kept.pop(key, None)
        self.unsure.discard(key)

    def get(self):
        key = "c%d-%d" % (self.number, self.random.randrange(KEYS))
        status, data = self.ask("GET", "/v1/documents/" + key)
        if key in self.kept:
            check(status == 200 and json.loads(data)["text"] == TEXTS[self.kept[key]], "%s: %d %.200r" % (key, status, data))
        else:
            check(status == 404, "%s, which is not kept: %d %.200r" % (key, status, data))

    def rank_kept(self):
        if not self.kept:
            return
        query, keys = self.random.choice(QUERIES), self.random.sample(sorted(self.kept), self.random.randint(1, min(10, len(self.kept))))
        status, data = self.ask("POST", "/v1/rerank", {"query": query, "document_ids": keys})
        if check(status == 200, "kept documents: %d %.200r" % (status, data)):
            got = {x["document_id"]: x["relevance_score"] for x in json.loads(data)["results"]}
            check(got == {k: known_kept[query, self.kept[k]] for k in keys}, "scores of kept documents: %r" % got)

    def page(self):
        path = self.random.choice(("/health", "/v1/models", "/info", "/metrics", "/v1/documents?limit=%d" % self.random.randint(1, 50)))
        method = self.random.choice(("GET", "GET", "HEAD")) if "documents" not in path else "GET"
        status, data = self.ask(method, path)
        check(status == 200 and (data or method == "HEAD"), "%s %s: %d %.200r" % (method, path, status, data))

    def wrong(self):
        ok = {"query": "a", "documents": ["b"]}
        method, path, body, headers, want = self.random.choice((
            ("POST", "/v1/rerank", b"{", {}, (400,)), ("POST", "/v1/rerank", b"[" * 5000, {}, (400,)), ("POST", "/rerank", {"texts": [1]}, {}, (422,)),
            ("POST", "/v1/rerank", dict(ok, ratio=0), {}, (400,)), ("POST", "/v1/rerank", {"query": "a", "documents": []}, {}, (400,)),
            ("POST", "/v1/rerank", {"query": "a", "documents": ["x"] * (DOCUMENTS + 1)}, {}, (400,)), ("POST", "/v1/rerank", b'{"query": "\xff"}', {}, (400,)),
            ("POST", "/v2/rerank", {"query": "a", "document_ids": ["nobody"]}, {}, (404,)), ("POST", "/v1/documents", {"ids": ["a"], "texts": []}, {}, (400,)),
            ("POST", "/v1/documents", {"documents": [{"id": "z", "text": "a\0"}]}, {}, (400,)), ("GET", "/v1/documents?limit=x", None, {}, (400,)),
            ("GET", "/nothing", None, {}, (404,)), ("PUT", "/v1/rerank", b"{}", {}, (405,)), ("DELETE", "/health", None, {}, (405,)),
            ("POST", "/v1/rerank", b"xx", {"Content_Encoding": "gzip"}, (415,)), ("POST", "/v1/rerank", ok, {"Origin": "http://evil.example"}, (403,)),
            ("POST", "/v1/rerank", b'{"query": "a", "documents": [' + b"[]," * 90000 + b'"b"]}', {}, (413,))))
        status, data = self.ask(method, path, body, **headers)
        check(status in want and json.loads(data), "%s %s %.80r: %d %.200r" % (method, path, body, status, data))

    def large(self):
        """More than a mebibyte, or said to be. The server answers, and may close before it has read all."""
        with self.open() as k:
            try:
                if self.random.random() < 0.5:
                    k.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n{")
                else:
                    k.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (3 << 19) + b"x" * (3 << 19))
                said = k.recv(100)
            except ConnectionError:
                said = b""
            check(said[:12] in (b"HTTP/1.1 413", b""), "a body that is too large: %r" % said)

    def request_bytes(self, documents=5):
        body = json.dumps({"query": QUERIES[0], "documents": [TEXTS[i] for i in self.some(documents)]}).encode()
        return b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def cut(self):
        """A client that goes away: within its request, or before the answer."""
        data = self.request_bytes(30)
        with self.open() as k:
            k.sendall(data[:self.random.choice((0, 10, 60, len(data) // 2, len(data) - 1, len(data), len(data)))])
            time.sleep(self.random.choice((0, 0, 0.001, 0.02)))
            if self.random.random() < 0.3:             # at once, with a reset
                k.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def slow(self):
        """Slowly, but in time; or too slowly, which is cut off. A request that comes with the answer to the one before unread."""
        kind = self.random.choice(("slow", "dawdle", "behind each other"))
        data = self.request_bytes()
        with self.open() as k:
            if kind == "behind each other":
                k.sendall(data * 3)
                time.sleep(0.05)
            else:
                pieces = 10 if kind == "slow" else 100
                try:
                    for i in range(pieces):
                        k.sendall(data[i * len(data) // pieces:(i + 1) * len(data) // pieces])
                        time.sleep(READ_TIMEOUT * (0.03 if kind == "slow" else 0.05))
                        if stop.is_set():
                            return
                except ConnectionError:
                    check(kind == "dawdle", "a slow client was cut off")
                    return
            try:
                said = k.recv(100)
            except ConnectionError:
                said = b""
            check(said.startswith(b"HTTP/1.1 200") if kind != "dawdle" else said[:12] in (b"", b"HTTP/1.1 408"), "%s: %r" % (kind, said))

    def noise(self):
        r = self.random
        with self.open() as k:
            k.sendall(r.choice((bytes(r.randrange(256) for _ in range(200)), b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                                b"POST /v1/rerank HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET /health HTTP/1.1\r\nX: " + b"a" * 40000)))

    def remembered(self):
        """A request whose answer is known to the byte."""
        request = self.random.choice(sorted(answers))
        got = strip(*self.ask(*json.loads(request)))
        check(got == answers[request], "%s: %.300r instead of %.300r" % (request[:100], got, answers[request]))

    def run(self):
        kinds = [(self.rank, 8), (self.keep, 4), (self.delete, 2), (self.get, 3), (self.rank_kept, 4), (self.page, 3), (self.wrong, 3), (self.large, 0.3),
                 (self.cut, 1), (self.slow, 0.3), (self.noise, 0.5)]
        while not stop.is_set():
            what = self.random.choices([k for k, _ in kinds], [n for _, n in kinds])[0]
            if count(what.__name__) % 100 == 0:
                count("remembered")
                what = self.remembered
            try:
                what()
            except (OSError, http.client.HTTPException) as e:
                check(stop.is_set(), "%s: %r" % (what.__name__, e))        # while the server ends connections are closed
            except Exception as e:
                check(False, "%s: %r" % (what.__name__, e))
        self.drop()


def strip(status, data):
    """An answer without what changes from one to the next."""
    return status, re.sub(rb'"(id|created|uptime_seconds|queue)": ("[0-9a-f-]{36}"|[0-9.e+-]+)', rb'"\1": 0', data)


# ---- the whole ----

def main():
    global known, known_kept, answers
    known = scores_of_rerank()
    first = Client(-1)
    # documents that nobody changes, by which the scores of kept ones are learned (their rows have 16 bits)
    for i in range(0, len(TEXTS), 20):
        check(first.ask("POST", "/v1/documents", {"ids": ["fixed-%d" % (i + k) for k in range(20)], "texts": TEXTS[i:i + 20]})[0] == 200, "fixed documents")
    known_kept, answers = {}, {}
    for query in QUERIES:
        ids = ["fixed-%d" % i for i in range(len(TEXTS))]
        out = subprocess.run([BUILD + "/kalm-rerank", MODEL, query, "--store", DIR + "/kept.db", "--keys", ",".join(ids), "--json"], check=True, capture_output=True)
        known_kept.update(((query, r["index"]), r["score"]) for r in json.loads(out.stdout)["results"])
        for path in "/v1/rerank", "/v2/rerank", "/jina/rerank", "/voyage/rerank", "/rerank":
            body = {"query": query, "texts" if path == "/rerank" else "documents": TEXTS[:7], "top_n": 5, "return_documents": True}
            answers[json.dumps(("POST", path, body))] = None
        answers[json.dumps(("POST", "/score", {"text_1": query, "text_2": TEXTS[7:12]}))] = None
        answers[json.dumps(("POST", "/v1/rerank", {"query": query, "document_ids": ids[3:9], "return_documents": True}))] = None
    for path in "/v1/documents/fixed-7", "/v1/models", "/info", "/health", "/v1/documents/nobody", "/nothing":
        answers[json.dumps(("GET", path))] = None
    for request in answers:
        answers[request] = strip(*first.ask(*json.loads(request)))
    first.drop()
    time.sleep(0.5)
    begin = descriptors()
    clients = [Client(n) for n in range(CLIENTS)]
    threads = [threading.Thread(target=c.run) for c in clients]
    began = time.time()
    for t in threads:
        t.start()
    samples, logs = [], 0
    said = began
    while time.time() - began < SECONDS and failed < 20 and server.poll() is None:
        time.sleep(min(1, SECONDS / 50))
        samples.append((time.time() - began, resident(), descriptors(), stored()))
        if os.path.getsize(DIR + "/log") > 4 << 20:
            os.replace(DIR + "/log", DIR + "/log.old")
            server.send_signal(signal.SIGHUP)
            logs += 1
            while not os.path.exists(DIR + "/log"):
                time.sleep(0.01)
        if time.time() - said >= 60:
            said = time.time()
            print("%5.0f s: %d requests, %d kB resident, %d descriptors, %d kB of store" % (said - began, sum(counts.values()), *samples[-1][1:]), flush=True)
    took = time.time() - began
    total = sum(counts.values())
    check(server.poll() is None, "the server ended")
    stop.set()
    for t in threads:
        t.join()
    end = time.time() + 60 * PATIENCE  # cut requests are found out when the time to send them is over
    while descriptors() > begin and time.time() < end:
        time.sleep(0.05)
    check(descriptors() <= begin, "%d open descriptors without clients, %d at the beginning" % (descriptors(), begin))
    stop.clear()                       # once more, and the server is told to end in the middle of it
    threads = [threading.Thread(target=c.run) for c in clients]
    for t in threads:
        t.start()
    time.sleep(0.5 * PATIENCE ** 0.5)
    stop.set()
    server.send_signal(signal.SIGTERM)
    for t in threads:
        t.join()
    status, error = server.wait(timeout=60 * PATIENCE), server.stderr.read()
    check((status, error) == (0, b""), "the end: status %d, %.500r" % (status, error))
    early = [s for s in samples if s[0] < took / 5] or samples[:1]
    late = [s for s in samples if s[0] >= took / 5] or samples[-1:]
    memory, files, disk = ((max(s[k] for s in early), max(s[k] for s in late)) for k in (1, 2, 3))
    print("%d requests in %.0f s (%s); the log was opened anew %d times" % (total, took, ", ".join("%d %s" % (n, k) for k, n in sorted(counts.items())), logs))
    print("resident at most %d kB in the first fifth of the time, %d kB afterwards; descriptors %d at the beginning, at most %d, %d; the store at most %d kB, %d kB"
          % (memory + (begin,) + files + disk))
    if total > 2000:
        check(memory[1] <= memory[0] * 1.1 + 4096, "memory grew from %d to %d kB" % memory)
        check(files[1] <= max(files[0], begin + 4 * CLIENTS), "open descriptors: %d, then %d" % files)
        check(disk[1] <= disk[0] * 1.1 + 4096, "the store grew from %d to %d kB, with the same documents" % disk)
        check(len(counts) == 12, "what was never asked: %r" % counts)
    out = subprocess.run([BUILD + "/kalm-index", MODEL, DIR + "/kept.db", "--verify"], capture_output=True, text=True)
    check(out.returncode == 0, "the store: " + out.stderr)
    import sqlite3
    db = sqlite3.connect(DIR + "/kept.db")
    there = dict(db.execute("SELECT key, text FROM documents WHERE key LIKE 'c%'"))
    db.close()
    for c in clients:
        mine = {k: v for k, v in there.items() if k.startswith("c%d-" % c.number) and k not in c.unsure}
        check(mine == {k: TEXTS[i] for k, i in c.kept.items() if k not in c.unsure}, "what the store has of client %d" % c.number)


try:
    main()
finally:
    if server.poll() is None:
        server.kill()
    shutil.rmtree(DIR, ignore_errors=True)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0)
