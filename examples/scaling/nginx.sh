#!/bin/sh
# nginx.sh BUILD - recipe (c) of docs/SCALING.md on this machine: two kalm-servers behind nginx under load. One is killed in the middle,
# started again, and then ended in order; no request is lost that its client would send a second time, and in fact none has to be.
# From the top of the tree; needs nginx, python3 and what kalm-server needs.
build=${1:-build}
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "well: $*"; }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/kalm-nginx.XXXXXX") || exit 1
started=
trap 'kill -9 $started 2> /dev/null; [ ! -s "$dir/nginx.pid" ] || kill "$(cat "$dir/nginx.pid")" 2> /dev/null; rm -rf "$dir"' EXIT
nginx=$(PATH=$PATH:/usr/sbin:/sbin command -v nginx) || { echo "nginx is missing"; echo "0 passed, 1 failed"; exit 1; }

# serve NAME PORT: starts a server, sets $pid, and $port to where it listens (PORT 0: one that is free)
serve() {
    : > "$dir/$1.log"
    "$build/kalm-server" "$build/tiny.kalm" --port "$2" --threads 1 > "$dir/$1.log" 2>&1 &
    pid=$!
    started="$started $pid"
    port=
    for i in $(seq 1 100); do
        port=$(sed -n 's/.*"listening".*:\([0-9]*\)".*/\1/p' "$dir/$1.log")
        [ -z "$port" ] || return 0
        sleep 0.1
    done
    bad "kalm-server does not listen: $(cat "$dir/$1.log")"
}
serve first 0
first=$pid first_port=$port
serve second 0
second_port=$port
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
{ [ "$(id -u)" -ne 0 ] || echo "user $(id -un) $(id -gn);"
  sed "s|DIR|$dir|g; s|PORT|$port|; s|FIRST|$first_port|; s|SECOND|$second_port|" examples/scaling/nginx.conf; } > "$dir/nginx.conf"
"$nginx" -p "$dir" -c "$dir/nginx.conf" -e "$dir/nginx.log" || { bad "nginx does not start"; cat "$dir/nginx.log"; }

# Eight clients, each with one request after the other, of 6 documents; every answer is compared with the first one.
cat > "$dir/load.py" << 'END'
import http.client, json, os, sys, threading, time
port, stop = int(sys.argv[1]), sys.argv[2]           # until the file `stop` is there
texts = [json.loads(l)["text"] for l, _ in zip(open("examples/tiny/eval/corpus.jsonl", encoding="utf-8"), range(6))]
body = json.dumps({"query": "image viewer", "documents": texts})
def ask():
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        c.request("POST", "/v1/rerank", body, {"Content-Type": "application/json"})
        r = c.getresponse()
        data = r.read()
        if r.status != 200:
            raise OSError("status %d" % r.status)
        return json.loads(data)["results"]
    finally:
        c.close()
want, lock, counts = ask(), threading.Lock(), {"answered": 0, "repeated": 0, "lost": 0, "wrong": 0}
longest = 0.0
def client():
    global longest
    while not os.path.exists(stop):
        began, tries, got = time.time(), 0, None
        while got is None and tries < 2:             # a client that repeats once
            tries += 1
            try:
                got = ask()
            except (OSError, http.client.HTTPException):
                pass
        with lock:
            longest = max(longest, time.time() - began)
            counts["answered"] += got is not None
            counts["lost"] += got is None
            counts["wrong"] += got is not None and got != want
            counts["repeated"] += tries > 1
threads = [threading.Thread(target=client) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(*("%s %d," % c for c in counts.items()), "longest %.0f ms" % (longest * 1000))
END
timeout 120 python3 "$dir/load.py" "$port" "$dir/stop" > "$dir/load.log" 2>&1 &
load=$!
started="$started $load"
# requests that nginx has sent to this port so far; the last one it tried counts
served() { grep -c ":$1\$" "$dir/access.log"; }
# until PORT has served N requests, or half a minute
until_served() { for i in $(seq 1 300); do [ "$(served "$1")" -lt "$2" ] || break; sleep 0.1; done; }
until_served "$first_port" 10
until_served "$second_port" 10
both="$(served "$first_port") and $(served "$second_port")"
kill -9 "$first"
ok "one of two servers killed under load"
until_served "$second_port" $(($(served "$second_port") + 20))
gone=$(served "$first_port")
serve again "$first_port"
again=$pid
until_served "$first_port" $((gone + 10))
back=$(($(served "$first_port") - gone))
kill -TERM "$again"                    # an update: it answers what it has accepted, then ends
wait "$again" && ok "a server that is told to end does so in order" || bad "kalm-server after SIGTERM: $?"
until_served "$second_port" $(($(served "$second_port") + 10))
touch "$dir/stop"
wait "$load"
echo "$(cat "$dir/load.log"); $(grep -c , "$dir/access.log") repeated by nginx"
grep -q 'lost 0, wrong 0,' "$dir/load.log" && ok "no request was lost, and every answer had the same scores" || bad "requests: $(cat "$dir/load.log" "$dir/nginx.log")"
grep -q 'repeated 0,' "$dir/load.log" && ok "no client had to repeat a request: nginx did" || bad "clients repeated requests: $(cat "$dir/load.log")"
case "$both $back" in
"0 "*|*" 0 "*|*" 0") bad "work was not shared: $both, then $back" ;;
*) ok "both servers worked ($both requests), then one, then both again ($back by the new one)" ;;
esac
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
