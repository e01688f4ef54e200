"""client.py FAULT COUNT PRELOAD SERVER... - starts kalm-server on a system that fails (preload.c), keeps documents in it, asks it, ends it, and
prints its answers, a line each, without what changes from run to run. Ends with the server's status (128 + N after signal N), or with 126 where
a promise is broken: an answer is HTTP and JSON, or the connection is closed; what was answered with 200 is in the store."""
import http.client, json, os, signal, sqlite3, subprocess, sys

fault, count, preload, *command = sys.argv[1:]
env = dict(os.environ)
for name, value in ("KALM_FAULT", fault), ("KALM_FAULT_COUNT", count), ("LD_PRELOAD", preload):
    if value:
        env[name] = value
server = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
kept = {}


def broken(what):
    print("client.py: broken promise:", what, file=sys.stderr)
    server.kill()
    sys.exit(126)


def ask(method, path, body=None):
    """Status and JSON; None where the server is gone or closed the connection."""
    c = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        c.request(method, path, json.dumps(body) if body else None)
        r = c.getresponse()
        status, data = r.status, r.read()
    except TimeoutError:
        broken("no answer within a minute to %s %s" % (method, path))
    except (OSError, http.client.HTTPException):
        print("closed")
        return None
    finally:
        c.close()
    try:
        value = json.loads(data)
    except ValueError:
        broken("%d with %r" % (status, data[:200]))
    for volatile in "id", "created", "meta", "usage":
        if isinstance(value, dict) and volatile in value and status == 200:
            del value[volatile]
    print(status, json.dumps(value, sort_keys=True))
    return status


line = server.stdout.readline()
if line:
    host, _, port = json.loads(line)["url"][7:].rpartition(":")
    for key, text in ("a", "play chess"), ("b", "edit photos"), ("a", "play chess against a computer"):
        if ask("POST", "/v1/documents", {"ids": [key, key + "2"], "texts": [text, text + "!"]}) == 200:
            kept[key], kept[key + "2"] = text, text + "!"
    ask("POST", "/v1/rerank", {"query": "chess", "document_ids": ["a", "b"]})
    ask("POST", "/v1/rerank", {"query": "chess", "documents": ["photos", "chess"]})
    if ask("DELETE", "/v1/documents/b2") == 200:
        kept.pop("b2", None)
    else:
        kept.pop("b2", None)                                   # deleted or not, nobody knows
    server.send_signal(signal.SIGTERM)
try:
    status = server.wait(timeout=60)
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
