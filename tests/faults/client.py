"""client.py FAULT COUNT PRELOAD RIGHT SERVER... - starts kalm-server on a system that fails (preload.c), keeps documents in it, asks it, ends it,
and prints its answers, a line each, without what changes from run to run. RIGHT has those lines of a run without faults; where there is no
such file nothing is compared. Ends with the server's status (128 + N after signal N), or with 126 where a promise is broken:
  - an answer is HTTP and whole JSON, or the connection is closed
  - an answer is the right one, or an error of the server (5xx): never another answer with 200, and nobody is told that he asked wrongly.
    After a request of documents that failed, what the store has may differ
  - what was answered with 200 is in the store"""
import http.client, json, os, select, signal, sqlite3, subprocess, sys

PATIENCE = int(os.environ.get("KALM_PATIENCE") or 1)       # under valgrind more
fault, count, preload, right, *command = sys.argv[1:]
env = dict(os.environ)
for name, value in ("KALM_FAULT", fault), ("KALM_FAULT_COUNT", count), ("LD_PRELOAD", preload):
    if value:
        env[name] = value
server = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
expected = open(right).read().splitlines() if os.path.exists(right) else None
lines = []
kept = {}
sure = True                            # every change of the store was answered with 200


def broken(what):
    print("client.py: broken promise:", what, file=sys.stderr)
    server.kill()
    sys.exit(126)


def ask(method, path, body=None, of_store=False):
    """The status, or None where the server is gone or closed the connection."""
    c = http.client.HTTPConnection(host, int(port), timeout=60 * PATIENCE)
    status, said = None, "closed"
    try:
        c.request(method, path, json.dumps(body) if body else None)
        r = c.getresponse()
        data = r.read()
        status = r.status
    except TimeoutError:
        broken("no answer within a minute to %s %s" % (method, path))
    except (OSError, http.client.HTTPException):
        pass
    finally:
        c.close()
    if status and path == "/metrics" and status == 200:
        text = data.decode()
        if not text.endswith("} 1\n"):
            broken("half a page of metrics: %r" % text[-100:])
        said = "200 " + " ".join(line.split()[0] for line in text.splitlines() if line[0] != "#" and not line.startswith("kalm_requests_total"))
    elif status:
        try:
            value = json.loads(data)
        except ValueError:
            broken("%s %s: %d with %r" % (method, path, status, data[:200]))
        for volatile in "id", "created", "uptime_seconds":
            if isinstance(value, dict) and status == 200 and (volatile != "id" or method == "POST"):
                value.pop(volatile, None)
        said = "%d %s" % (status, json.dumps(value, sort_keys=True))
    lines.append(said)
    print(said)
    if expected and status and status < 500 and (sure or not of_store) and said != expected[len(lines) - 1]:
        broken("%s %s: %s" % (method, path, said[:300]))
    return status


def keep(method, path, body=None):
    global sure
    if ask(method, path, body, True) == 200:
        return True
    sure = False
    return False


# the first line of its log says where it listens
if not select.select([server.stdout], [], [], 60 * PATIENCE)[0]:
    broken("the server neither listens nor ends")
line = server.stdout.readline()
if line:
    host, _, port = json.loads(line)["url"][7:].rpartition(":")
    for key, text in ("a", "play chess"), ("b", "edit photos"), ("a", "play chess against a computer"):
        if keep("POST", "/v1/documents", {"ids": [key, key + "2"], "texts": [text, text + "!"], "metadata": [{"year": 2020}, {}]}):
            kept[key], kept[key + "2"] = text, text + "!"
    keep("POST", "/v1/documents", {"documents": [{"id": "long", "title": "many words", "text": "one word after the other, " * 30}]})
    ask("POST", "/v1/rerank", {"query": "chess", "document_ids": ["a", "b"], "return_documents": True}, True)
    ask("POST", "/v1/rerank", {"query": "chess", "document_ids": ["a", "b"], "ratio": 8}, True)
    # strings of 14 bytes: with their quotes as long as jansson's first buffer, so that the last quote makes it grow
    ask("POST", "/v1/rerank", {"query": "chess players!", "documents": ["photos", "chess"], "max_tokens_per_doc": 2})
    # an answer of more than a few blocks
    ask("POST", "/v2/rerank", {"query": "chess", "documents": [{"text": "photo \u00e9 " * 1000, "more": ["x"] * 50}, {"text": "chess"}], "return_documents": True})
    ask("POST", "/score", {"text_1": "chess", "text_2": ["chess", "photos"]})
    ask("GET", "/v1/documents/long", None, True)
    ask("GET", "/v1/documents?limit=2", None, True)
    ask("GET", "/health")
    ask("GET", "/metrics")
    keep("DELETE", "/v1/documents/b2")
    kept.pop("b2", None)               # deleted or not: where the answer was lost nobody knows
    server.send_signal(signal.SIGTERM)
try:
    status = server.wait(timeout=60 * PATIENCE)
except subprocess.TimeoutExpired:
    broken("the server does not end")
sys.stdout.flush()
if kept:
    db = sqlite3.connect("store.db")
    there = dict(db.execute("SELECT key, text FROM documents"))
    for key, text in kept.items():
        # an answer that was lost on its way may have stored a newer text
        if there.get(key) not in (text, "play chess against a computer", "play chess against a computer!"):
            broken("%s was kept, and the store has %r" % (key, there.get(key)))
    db.close()
sys.exit(status if status >= 0 else 128 - status)
