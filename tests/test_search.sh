#!/bin/sh
# test_search.sh BUILD - kalm-search: all formats in, a re-run that reads only what changed, questions of every kind, kills, strangers'
# files and databases.
build=$1 suite=search
. tests/command.sh
need_command kalm-search 'libsqlite3-dev or libjansson-dev is missing'
search=$build/kalm-search index=$build/kalm-index
export ASAN_OPTIONS=detect_leaks=0                 # GMime and libxml2 keep what they made once
# The first result of a question is the document whose key ends in this.
finds() { # DB QUESTION KEY
    "$search" "$1" "$2" --json --limit 1 > log 2>&1
    got=$(python3 -c 'import json,sys; r = json.load(open("log"))["results"]; print(r[0]["key"] if r else "nothing")' 2>&1)
    case $got in *"$3") ok ;; *) bad "'$2' finds $got instead of $3" ;; esac
}
# Everything but times and numbers: two ways to one state must end in the same.
dump() { sqlite3 "$1" "SELECT key, window, windows, start, hash, hex(title), hex(text), metadata, hex(document) FROM documents ORDER BY key, window; SELECT hex(path), size, hash <> '0000000000000000', documents, note FROM search_files ORDER BY path"; }
# The words are those of the documents: FTS5's own check needs the contents, so every word of a new database must be in the old one.
words() { sqlite3 "$1" "CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, search_words, row); SELECT * FROM v"; }
patience=$((20 * ${KALM_PATIENCE:-1}))              # seconds, for what must not take for ever
need_model

# ---- every format ----
mkdir -p docs/deep docs/.hidden docs/mail/cur docs/mail/new docs/mail/tmp
printf '%s\n' '# The chess engine' '' 'Stockfish is a strong chess engine that analyses positions.' '' '## Use' '' 'It needs a graphical interface.' > docs/chess.md
printf '%s\n' '---' 'title: "Backups at night"' '---' 'BorgBackup stores deduplicated, compressed and encrypted backups of files.' > docs/deep/backup.markdown
printf 'Vim is an improved version of the editor vi: multi level undo, syntax highlighting.\n' > docs/vim.txt
printf '<!doctype html><html><head><title>Video &amp; sound</title><style>p { color: red }</style></head><body><script>secret()</script><p>FFmpeg converts, records and streams audio<br>and video.<ul><li>fast<li>free</ul></body></html>' > docs/page.html
printf '%s\n' '{"_id": "pasta", "title": "Cooking", "text": "Boil the pasta in salted water for nine minutes.", "url": "https://example.org"}' \
    '{"_id": "rice", "text": "Rinse rice until the water is clear."}' 'no JSON' '{"text": "A record without a key about gardening and tomatoes."}' > docs/food.jsonl
printf '[{"id": 1, "text": "Wasserkocher mit Temperaturregler"}, {"id": 2, "text": "Fahrradpumpe"}]' > docs/things.json
printf '{"name": "package", "version": "1.0"}' > docs/package.json
cat > docs/box <<'END'
From alice@example.org Mon Jan  1 00:00:00 2024
From: Alice <alice@example.org>
To: Bob <bob@example.org>
Subject: =?utf-8?Q?Caf=C3=A9_on_Monday?=
Date: Mon, 1 Jan 2024 10:00:00 +0000
Message-ID: <one@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="x"

--x
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Let us meet at the caf=E9 to talk about the satellite launch.
--x
Content-Type: text/plain
Content-Disposition: attachment; filename=a.txt

attachedsecret
--x--

From carol@example.org Mon Jan  2 00:00:00 2024
From: Carol <carol@example.org>
Subject: Budget

>From now on the zebra budget is zero.

END
printf 'From: Dave <dave@example.org>\nSubject: Holidays\nMessage-ID: <h@example.org>\nMIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\n<p>The <b>lighthouse</b> is closed in winter.</p>\n' > 'docs/mail/cur/1.a:2,S'
cp 'docs/mail/cur/1.a:2,S' docs/mail/tmp/2
printf 'hidden words: xylophone\n' > docs/.hidden/x.txt
printf '\377\376M\000o\000t\000o\000r\000b\000o\000a\000t\000' > docs/utf16.txt
printf 'text \000 with a NUL' > docs/nul.txt
printf 'caf\351 in Latin-1' > docs/latin.txt
printf '\177ELF' > docs/program
printf '\n' > docs/blank.txt
: > docs/empty.txt
expect 3 "$search" "$model" all.db docs
says 'docs/food.jsonl:3: '
says 'docs/nul.txt: the text, byte 5: no text (a NUL)'
says 'docs/latin.txt: '
says 'docs/program: is a program'
says '^15 files: 0 as they were, 15 read; 14 documents encoded'
expect 0 "$index" "$model" all.db --verify
says '^14 documents in 14 rows are whole'
finds all.db 'chess engine' docs/chess.md
finds all.db 'encrypted backup' docs/deep/backup.markdown
finds all.db 'editor with undo' docs/vim.txt
finds all.db 'convert video' docs/page.html
finds all.db 'how long does pasta boil' docs/food.jsonl/pasta
finds all.db 'tomatoes' docs/food.jsonl/4
# smaller decoder states: other margins, the same ones from a state that was kept
margins() { "$search" all.db "$@" --json | sed -n 's/.*"margin": \([^,]*\),.*/\1/p'; }
margins tomatoes > exact
margins tomatoes --state-bits 4 > small
printf 'tomatoes\ntomatoes\n' | "$search" all.db - --json --state-bits 4 | sed -n 's/.*"margin": \([^,]*\),.*/\1/p' > kept
cat small small | cmp -s - kept && ! cmp -s exact small && [ -s exact ] && ok || bad "--state-bits 4 ($(cat exact small kept | tr '\n' ' '))"
expect 2 "$search" all.db tomatoes --state-bits 5
finds all.db 'Fahrradpumpe' docs/things.json/2
finds all.db 'package 1.0' docs/package.json
mkdir tables
printf 'id,text,price\nkettle,"Kettle, 1.7 litres",19\n,"Bicycle pump",9\n' > tables/things.csv
printf 'year,rain\n1999,low\n' > tables/rain.csv                # no column is a text: it stands as it is
expect 0 "$search" "$model" tables.db tables
says '^2 files: 0 as they were, 2 read; 3 documents encoded'
finds tables.db 'kettle of 1.7 litres' tables/things.csv/kettle
finds tables.db 'bicycle pump' tables/things.csv/3
finds tables.db 'rain low' tables/rain.csv
finds all.db 'satellites' docs/box/one@example.org
finds all.db 'CAFE' docs/box/one@example.org
finds all.db 'motorboat' docs/utf16.txt
finds all.db 'when is the lighthouse closed' 'docs/mail/cur/1.a:2,S'
expect 0 "$search" all.db 'zebra budget' --json
says '"from": "Carol <carol@example.org>"'
for word in xylophone attachedsecret secret; do
    expect 0 "$search" all.db $word
    says 'no passage has a word of the question'
done
expect 0 "$search" all.db 'satellite launch'
says '1  0\.[0-9]*  docs/box one@example.org  Café on Monday'
says 'talk about the \*\*satellite\*\* \*\*launch\*\*'
says '1 of 1 candidates among 14 passages; words .* ms in all'
expect 0 "$search" all.db 'satellite launch' --mark bold
says "$(printf 'the \033\\[1msatellite\033\\[0m')"
expect 0 "$search" all.db pasta --json
python3 - > seen 2>&1 <<'END'
import json
a = json.load(open("log"))
r = a["results"][0]
assert r["path"].endswith("docs/food.jsonl") and r["id"] == "pasta" and r["title"] == "Cooking", r
assert [r["snippet"][i:k] for i, k in r["highlights"]] == ["pasta"], r
assert r["metadata"] == {"url": "https://example.org"} and r["passage"] == 0 and r["passages"] == 1, r
assert 0 < r["score"] < 1 and r["bm25_rank"] == 1 and a["milliseconds"]["all"] > 0, a
END
equal "$(cat seen)" "" "JSON of an answer"
expect 0 "$search" all.db --info
says "^model  *$model (tiny"
says "^source  *$dir/docs"
says '^files  *15, 5 of them without text'
says '^rows  *of 4 tokens each (ratio), 16 bits a number'
# a database that cannot be made is not begun
expect 0 "$build/kalm-quantize" "$root/examples/tiny" no-rows.kalm --no-rows --quiet
for make in "$search no-rows.kalm" "$index no-rows.kalm"; do
    expect 1 $make never.db docs/food.jsonl --bits 2; says ' 2 bits'
    equal "$(ls never.db* 2> /dev/null)" "" "what is left of a database that was refused: $make"
done

# ---- a re-run reads only what changed ----
touch -d '1 hour ago' docs/* docs/deep/* docs/mail/cur/*
expect 0 "$search" all.db --update
says '^15 files: 15 as they were; 0 documents encoded$'
dump all.db > before
printf '%s\n' '{"_id": "pasta", "title": "Cooking", "text": "Boil the pasta in salted water for nine minutes.", "url": "https://example.com"}' '{"_id": "soup", "text": "Soup of lentils and carrots."}' > docs/food.jsonl
mv docs/vim.txt docs/deep/editor.txt
rm docs/page.html
printf 'Bees make honey from nectar.\n' > docs/bees.txt
expect 0 "$search" all.db --update
says '^15 files: 12 as they were, 2 read, 1 renamed; 2 documents encoded .*; 1 were there already; 3 are gone'
finds all.db 'editor' docs/deep/editor.txt
finds all.db 'lentils' docs/food.jsonl/soup
expect 0 "$search" all.db 'convert audio' ; says 'no passage has a word'
expect 0 "$search" all.db 'rinse rice' ; says 'no passage has a word'
expect 0 "$search" all.db 'vim.txt' --json ; silent 'docs/vim.txt'
expect 0 "$search" all.db pasta --json ; says 'example.com'
says '"cut_document": false, "cut_query": false'
expect 0 "$search" all.db "pasta $(yes word | head -n 800 | tr '\n' ' ')" --json ; says '"cut": true, "cut_document": false, "cut_query": true'
expect 0 "$index" all.db --verify
# a file of the same size has other bytes: with a new time, with its old time where that is of the last two seconds, or under a new name
# where one of that size is gone; and a file of the same time has another size
mkdir glance
for name in one two six; do echo "first $name" > glance/$name.txt; done
echo 'short' > glance/time.txt
touch -d '1 hour ago' glance/*
touch -d 'next hour' glance/two.txt
touch -r glance/two.txt later
expect 0 "$search" "$model" glance.db glance
echo 'mango one' > glance/one.txt
echo 'lemon two' > glance/two.txt; touch -r later glance/two.txt
rm glance/six.txt; echo 'grape six' > glance/ten.txt
echo 'a longer quince' > glance/time.txt; touch -r docs/vim.txt glance/time.txt 2> /dev/null || touch -d '1 hour ago' glance/time.txt
sqlite3 glance.db "UPDATE search_files SET modified = $(stat -c %Y glance/time.txt)000000000 WHERE CAST(path AS TEXT) LIKE '%time.txt'"
touch -d "@$(stat -c %Y glance/time.txt)" glance/time.txt
expect 0 "$search" glance.db --update
finds glance.db mango glance/one.txt
finds glance.db lemon glance/two.txt
finds glance.db grape glance/ten.txt
finds glance.db quince glance/time.txt
for word in first short; do expect 0 "$search" glance.db $word; says 'no passage has a word'; done
# a key that comes twice in one file: the same text is one document, another text is left out by name
printf '%s\n' '{"_id": "a", "text": "one plum"}' '{"_id": "a", "text": "one plum"}' '{"_id": "a", "text": "another plum"}' > twice.jsonl
expect 3 "$search" "$model" twice.db twice.jsonl
says "twice.jsonl:3: the key 'a' came before with another text"
expect 0 "$search" twice.db plum; says 'one \*\*plum'; silent another
# two keys, two texts and two files with one kalm__hash, which strangers can make: none passes for the other
pair() { python3 "$root/tests/same_hash.py" "$@" > pair; one=$(head -n 1 pair) other=$(tail -n 1 pair); }
mkdir forged
pair "$dir/forged/keys.jsonl/one" "$dir/forged/keys.jsonl/other"
printf '{"_id": "%s", "text": "the same medlar"}\n{"_id": "%s", "text": "the same medlar"}\n' "${one##*/}" "${other##*/}" > forged/keys.jsonl
pair 'one apricot.' 'other damson.'
printf '{"_id": "a", "text": "%s"}\n' "$one" > forged/texts.jsonl
printf '%s' "$one" > forged/touched.txt
printf 'From a Mon Jan  1 00:00:00 2024\nFrom: a\n\n%s\n\nFrom b Mon Jan  1 00:00:00 2024\nFrom: b\n\n%s\n\n' "$one" "$other" > forged/messages.mbox
printf "%s" "$one" > forged/gone.txt
touch -d '1 hour ago' forged/*
expect 0 "$search" "$model" forged.db forged
in_forged() { sqlite3 forged.db "SELECT count(*) FROM documents WHERE key LIKE '%/forged/$1' AND text LIKE '%$2%'"; }
equal "$(in_forged 'keys.jsonl/%' medlar)" 2 "documents of two keys"
equal "$(in_forged 'messages.mbox/%' apricot) $(in_forged 'messages.mbox/%' damson)" "1 1" "messages without an id"
printf '{"_id": "a", "text": "%s"}\n' "$other" > forged/texts.jsonl
printf '%s' "$other" > forged/touched.txt
mv forged/gone.txt forged/new.txt && printf '%s' "$other" > forged/new.txt
touch -d '30 minutes ago' forged/*
expect 0 "$search" forged.db --update
for of in texts.jsonl/a touched.txt new.txt; do equal "$(in_forged $of apricot) $(in_forged $of damson)" "0 1" "what $of says now"; done
equal "$(in_forged 'messages.mbox/%' '')" 2 "messages that were there"
touch -d '10 minutes ago' forged/*
expect 0 "$search" forged.db --update
says '^5 files: 5 as they were; 0 documents encoded'
# a database of before has no key, and its hashes of files none: it gets one, files are read again and nothing is encoded again, but for the
# message whose id was made with the key
sqlite3 forged.db "DELETE FROM meta WHERE name = 'search_key'"
touch -d '5 minutes ago' forged/*
expect 0 "$search" forged.db --update
says '^5 files: 0 as they were, 5 read; 1 documents encoded .*; 6 were there already; 1 are gone$'
expect 0 "$search" forged.db 'medlar'
for key in 0123 0123456789abcdef0123456789abcdeg 0123456789abcdef0123456789abcdef0; do
    sqlite3 forged.db "UPDATE meta SET value = '$key' WHERE name = 'search_key'"
    expect 1 "$search" forged.db --update
    says 'search_key in its table meta is none'
done
# records of a file that was renamed are those of the new name, and so are their words
mkdir moved
printf '%s\n' '{"_id": "a", "text": "first nectarine"}' '{"_id": "b", "title": "Two", "text": "second nectarine"}' > moved/old.jsonl
touch -d '1 hour ago' moved/old.jsonl
expect 0 "$search" "$model" moved.db moved
mv moved/old.jsonl moved/new.jsonl
expect 0 "$search" moved.db --update; says '1 renamed; 0 documents'
expect 0 "$search" "$model" moved2.db moved
for db in moved moved2; do { dump $db.db; words $db.db; } > $db.all; done
same moved.all moved2.all
# the same as a database that is made now
"$search" "$model" new.db docs > log 2>&1
dump all.db > one; dump new.db > two
if cmp -s one two; then ok; else bad "a database that was updated differs from a new one"; diff one two | cut -c 1-200 | head -n 5; fi
words all.db > one; words new.db > two
if cmp -s one two; then ok; else bad "its words differ from those of a new one"; diff one two | head -n 5; fi

# ---- the Model Context Protocol: whatever a peer sends, the server answers and goes on ----
cat > peer.py <<'END'
import json, signal, subprocess, sys
signal.alarm(120)                      # an answer that never comes
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def send(x): p.stdin.write(x if isinstance(x, bytes) else (json.dumps(x) + "\n").encode()); p.stdin.flush()
def take(): return json.loads(p.stdout.readline())
def call(method, id=1, **params): send({"jsonrpc": "2.0", "id": id, "method": method, "params": params}); return take()
def search(**arguments): return call("tools/call", "s", name="search", arguments=arguments)
for version, gets in (("2025-06-18",) * 2, ("2024-11-05",) * 2, ("1999-01-01", "2025-11-25")):
    assert call("initialize", protocolVersion=version, capabilities={}, clientInfo={"name": "t", "version": "1"})["result"]["protocolVersion"] == gets
assert call("initialize")["result"]["serverInfo"]["name"] == "kalm-search"
send({"jsonrpc": "2.0", "method": "notifications/initialized"})
assert call("ping", "x") == {"jsonrpc": "2.0", "id": "x", "result": {}}
tool, = call("tools/list")["result"]["tools"]
assert tool["name"] == "search" and tool["inputSchema"]["required"] == ["query"]
r = search(query="satellite launch", limit=1)
assert r["id"] == "s" and r["result"]["structuredContent"]["results"][0]["id"] == "one@example.org", r
assert "satellite launch" in r["result"]["content"][0]["text"] and not r["result"]["isError"]
assert r["result"]["structuredContent"]["cut_query"] is False and "beginning alone" not in r["result"]["content"][0]["text"]
r = search(query="satellite launch " + "word " * 800, limit=1)["result"]       # longer than what the model reads of a question
assert r["structuredContent"]["cut_query"] is True and "The question is long: the model read its beginning alone." in r["content"][0]["text"], r
# wrong lines: one error each, and the next message is answered
bad = [b"garbage\n", b"{\n", b"\xff\xfe\n", b"[]\n", b"7\n", b'"x"\n', b"null\n", b"{}\n", b'{"id": null, "method": "ping"}\n', b'{"id": [], "method": "ping"}\n',
       b'{"id": 1.5, "method": "ping"}\n', b"[" * 100000 + b"\n", b'{"a":' * 5000 + b"\n", b'{"id": 1, "method": 5}\n', b'{"id": 1, "method": "none"}\n',
       b'{"id": 1, "method": "ping", "params": [1]}\n', b'{"id": 1, "method": "tools/call"}\n', b'{"id": 1, "method": "tools/call", "params": {"name": "rm"}}\n',
       b"x" * (5 << 20) + b"\n", b'{"id": 99999999999999999999999, "method": "ping"}\n', b'{"id": 1, "method": "ping"} {"id": 2}\n', b"\0\n", b"#\n", b" ##\r\n"]
for line in bad:
    send(line)
    r = take()
    assert r["error"]["code"] in (-32700, -32600, -32601, -32602), (line[:50], r)
    assert call("ping", 5)["id"] == 5
send(b'{"id": 1, "method": "ping", "method": "none"}\n')
assert "a member stands there twice" in take()["error"]["message"]
# no answer: notifications, answers to what was never asked, empty lines
for line in (b"\n", b"  \r\n", b'{"method": "none"}\n', b'{"jsonrpc": "2.0", "id": 1, "result": {}}\n', b'{"method": "notifications/cancelled", "params": {"requestId": 12}}\n',
             b'{"method": "notifications/cancelled"}\n', b'{"method": "notifications/cancelled", "params": {"requestId": {}}}\n', b'[{"method": "x"}]\n'):
    send(line)
    assert call("ping", 6)["id"] == 6
# a line of 4 MiB is a message, one byte more is not, and what is behind its first 4 MiB is no message either
ping = lambda size: b'{"id": 8, "method": "ping"' + b" " * (size - 27) + b"}\n"
send(ping(4 << 20))
assert take()["id"] == 8
for line in (ping((4 << 20) + 1), b" " * (5 << 20) + ping(27)):
    send(line)
    assert "4 MiB" in take()["error"]["message"]
    assert call("ping", 9)["id"] == 9
assert not search(query="a", limit=50)["result"]["isError"] and not search(query="a", limit=1)["result"]["isError"]
for wrong in ({}, {"query": None}, {"query": ""}, {"query": " \n"}, {"query": "a", "limit": 0}, {"query": "a", "limit": 51}, {"query": "a", "limit": "1"}, {"query": ["a"]}):
    assert search(**wrong)["result"]["isError"], wrong
send([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "x"}, 5])
r = take()
assert len(r) == 2 and r[0]["id"] == 1 and r[1]["error"]["code"] == -32600
# many at once: every one is answered, in order
for i in range(20): send({"jsonrpc": "2.0", "id": i, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "pasta %d" % i}}})
assert [take()["id"] for i in range(20)] == list(range(20))
for q in ('"', "a AND OR", "NEAR(x, 3)", "words : a", "x" * 1000000, "\u0000pasta", "\u4e2d\u6587", "';--", "*", "pasta*"): assert not search(query=q)["result"]["isError"], q
# a question that is cancelled while it is worked on gets no answer; the cancellation of another changes nothing. Both lines come at once,
# so that the second is there before the first is done.
def ask(id): return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "chess pasta zebra"}}}
def cancel(id, method="notifications/cancelled"): return {"jsonrpc": "2.0", "method": method, "params": {"requestId": id, "reason": "enough"}}
for id in (41, "forty"):
    send("".join(json.dumps(x) + "\n" for x in (ask(id), cancel(id))).encode())
    assert call("ping", 42)["id"] == 42, "the answer to a question that was cancelled"
for other in (cancel(43), cancel("44"), cancel([44]), cancel(44, "notifications/progress")):
    send("".join(json.dumps(x) + "\n" for x in (ask(44), other)).encode())
    assert take()["result"]["structuredContent"]["results"], other
# the last line needs no end
p.stdin.write(b'{"id": 77, "method": "ping"}'); p.stdin.close()
assert take()["id"] == 77 and p.stdout.read() == b"" and p.wait() == 0
END
expect 0 python3 peer.py "$search" all.db --mcp
# also a line that is too long and has no end gets an answer
head -c 5000000 /dev/zero | tr '\0' x | "$search" all.db --mcp > log 2>&1; says 'longer than 4 MiB'

# ---- other commands leave it alone ----
expect 1 "$index" "$model" all.db docs/food.jsonl
says 'made by kalm-search, which alone writes to it'
expect 1 "$index" all.db --delete x
says 'made by kalm-search'
expect 0 "$build/kalm-rerank" "$model" 'chess' --store all.db --top-k 1 --json
says 'chess.md'
printf '{"_id": "a", "text": "b"}\n' > one.jsonl
"$index" "$model" plain.db one.jsonl --quiet
expect 1 "$search" plain.db question
says 'made by kalm-index'
expect 1 "$search" "$model" plain.db docs
says 'made by kalm-index'

# ---- names and folders of every kind ----
mkdir -p odd/sub
ln -s . odd/loop; ln -s ../.. odd/up; ln -s /etc/passwd odd/link.txt; ln -s ../docs odd/docs
mkfifo odd/pipe
printf 'A name with a newline about walnuts.\n' > 'odd/new
line.txt'
printf 'Hazelnuts.\n' > "$(printf 'odd/bad\377name.txt')"
printf 'Chestnuts.\n' > "odd/sub/a file with 'quotes' \"and\" % * [x].txt"
printf '\033[2J\033[31mAlmonds \342\200\256turned.\n' > "$(printf 'odd/esc\033[31m.txt')"
printf 'root' > odd/-n
expect 0 "$search" "$model" odd.db odd
says '^5 files: 0 as they were, 5 read; 5 documents encoded'
finds odd.db walnuts 'odd/new
line.txt'
finds odd.db hazelnut 'odd/bad%FFname.txt'
equal "$(sqlite3 odd.db "SELECT substr(key, 1, 2) FROM documents WHERE key LIKE '%25name.txt' OR key LIKE '%name.txt'")" // "a key of a name that is no UTF-8"
finds odd.db chestnut "[x].txt"
expect 0 "$search" odd.db almond
equal "$(tr -d '\n -~' < log | od -An -c | tr -d ' \n')" "" "bytes of a terminal's commands in an answer"
printf 'Other hazelnuts.\n' > 'odd/bad%FFname.txt'
expect 0 "$search" odd.db --update
expect 0 "$search" odd.db hazelnuts; says '^ 2 '
expect 0 "$index" odd.db --verify
# names that differ have keys that differ, whatever bytes and percent signs they have
mkdir percent
i=0
for name in '\377%%FE' '\377\376' '\376%%25' '\376%%' '%%FF' '\377'; do
    i=$((i + 1))
    echo "walnut number$i" > "$(printf "percent/$name.txt")"
done
expect 0 "$search" "$model" percent.db percent
equal "$(sqlite3 percent.db "SELECT count(*) FROM documents")" $i "documents of names with percent signs"
# a file becomes a folder, and a folder a file: the keys of the one are not the other's
printf '{"_id": "b", "text": "first quince"}\n' > odd/a.jsonl
expect 0 "$search" odd.db --update
rm odd/a.jsonl; mkdir odd/a.jsonl; printf 'second quince\n' > odd/a.jsonl/b
expect 0 "$search" odd.db --update
expect 0 "$search" odd.db quince; says 'second \*\*quince'; silent first
rm -r odd/a.jsonl; printf '{"_id": "b", "text": "third quince"}\n' > odd/a.jsonl
expect 0 "$search" odd.db --update
expect 0 "$search" odd.db quince; says 'third \*\*quince'; silent second
# a file that is another kind by its new name is read again: a title is Markdown's alone
printf '# Plums\n\nA text of plums.\n' > odd/p.md
expect 0 "$search" odd.db --update
mv odd/p.md odd/p.txt
expect 0 "$search" odd.db --update
equal "$(sqlite3 odd.db "SELECT title FROM documents WHERE key LIKE '%/p.txt'")" '' 'the title of a plain text'
# what is said of a file is cut between characters, so that the next run can read it; a note that was cut within one is read too
python3 -c 'k = "\u4e2d" * 60; [print("{\"_id\": \"%s\", \"text\": \"%s\"}" % (k, t)) for t in ("first pear", "second pear")]' > odd/keys.jsonl
expect 3 "$search" odd.db --update; says 'came before with another text'
touch -d '1 hour ago' odd/keys.jsonl
expect 0 "$search" odd.db --update
equal "$(sqlite3 odd.db "SELECT length(CAST(note AS BLOB)) FROM search_files WHERE CAST(path AS TEXT) LIKE '%/keys.jsonl'")" 126 'bytes of a note'
sqlite3 odd.db "UPDATE search_files SET modified = 0, note = CAST(x'61e4b8' AS TEXT) WHERE CAST(path AS TEXT) LIKE '%/keys.jsonl'"
expect 0 "$search" odd.db --update
rm odd/keys.jsonl
expect 0 "$search" odd.db --update
# a source that is gone keeps its documents until it is forgotten
mv odd away
expect 0 "$search" odd.db --update
says 'is not there any more; its documents stay'
expect 0 "$search" odd.db quince; says 'third'
mv away odd
expect 0 "$search" "$model" odd.db docs/bees.txt odd/sub
expect 0 "$search" odd.db --forget "$dir/odd"
expect 0 "$search" odd.db --info; says "$dir/odd/sub"; says 'docs/bees.txt'; says '^documents  2 in 2 passages'
expect 1 "$search" odd.db --forget nowhere; says 'has no source nowhere'
expect 0 "$index" odd.db --verify
# a folder whose name only begins like that of a source is not below it; of a page only what is shown is text
mkdir sib sibling
echo 'a plum in the first folder' > sib/one.txt
echo 'a medlar in the other folder' > sibling/two.txt
{
    echo '<html><body><p>a damson is shown</p>'
    for tag in template noscript svg math iframe object canvas script style; do echo "<$tag>hidden $tag</$tag>"; done
    echo '<p>and a sloe</p></body></html>'
} > sib/page.html
{
    printf 'Subject: both\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary="b"\n\n'
    printf -- '--b\nContent-Type: text/plain\n\na bullace in plain text\n\n--b\nContent-Type: text/html\n\n<p>a bullace in HTML</p>\n\n--b--\n'
} > sib/both.eml
printf '#greengage is a mark\n####### too many\n###### A heading ######\n# another\n' > sib/titles.md
expect 0 "$search" "$model" sib.db sib sibling
equal "$(sqlite3 sib.db "SELECT count(*) FROM documents")" 5 'documents of two folders'
equal "$(sqlite3 sib.db "SELECT title FROM documents WHERE key LIKE '%titles.md'")" 'A heading' 'the first heading'
equal "$(sqlite3 sib.db "SELECT text FROM documents WHERE key LIKE '%both.eml%'")" 'a bullace in plain text' 'a message in two forms'
equal "$(sqlite3 sib.db "SELECT replace(text, char(10), '|') FROM documents WHERE key LIKE '%page.html'")" 'a damson is shown||and a sloe' 'what a page shows'
expect 0 "$search" sib.db --forget sibling
equal "$(sqlite3 sib.db "SELECT group_concat(key LIKE '%/sib/%') FROM documents")" '1,1,1,1' 'a folder that is forgotten beside one whose name it begins with'
# titles of more than 300 bytes: a page's is cut between characters, a heading of Markdown that long is none, a record's is whole
mkdir headings
python3 - <<'END'
for n in 298, 299, 300:
    open("headings/p%d.html" % n, "w").write("<html><title>%s\u00e9x</title><p>of a page</p></html>" % ("a" * n))
for n in 300, 301:
    open("headings/m%d.md" % n, "w").write("# %s\n\nof a text\n" % ("a" * n))
open("headings/r.jsonl", "w").write('{"_id": "r", "title": "%s", "text": "of a record"}\n' % ("a" * 999))
END
expect 0 "$search" "$model" headings.db headings
equal "$(sqlite3 headings.db "SELECT length(CAST(title AS BLOB)) FROM documents WHERE window = 0 ORDER BY key" | tr '\n' ' ')" '300 0 300 299 300 999 ' 'bytes of long titles'
expect 0 "$index" "$model" record.db headings/r.jsonl
equal "$(sqlite3 record.db "SELECT length(title) FROM documents")" 999 'the title of a record'
# long texts become passages that end where sentences do, and the passage with the answer is found
python3 -c 'print("\n\n".join("Paragraph %d tells of the number %d. It has a second sentence, so that it is longer." % (i, i * i) for i in range(400)))' > long.txt
expect 0 "$search" "$model" long.db long.txt --split 100 --overlap 10
finds long.db 'paragraph 321' long.txt
expect 0 "$search" long.db '103041'; says '\*\*103041\*\*'; says '(passage [0-9]* of [0-9]*)'
"$search" long.db 'paragraph number sentence' --json > log 2>&1
equal "$(python3 -c 'import json; print(len(json.load(open("log"))["results"]))')" 1 "results of one document that was split"
expect 0 "$index" long.db --verify
equal "$(sqlite3 long.db "SELECT count(*) FROM documents WHERE window < windows - 1 AND rtrim(text, char(10)) NOT LIKE '%.'")" 0 "passages that do not end with a sentence"
python3 -c 'print(" ".join("Sentence %d tells of the number %d." % (i, i * i) for i in range(200)))' > line.txt
expect 0 "$search" "$model" line.db line.txt --split 100 --overlap 10
equal "$(sqlite3 line.db "SELECT count(*) > 9, sum(window < windows - 1 AND rtrim(text) NOT LIKE '%.') FROM documents")" '1|0' "passages of one line that do not end with a sentence"
expect 1 "$search" "$model" long.db long.txt --split 50; says 'was made with --split 100, not 50'
# words: lower case and without accents, as Python's tables have it; two characters at a time where no spaces are written
python3 - <<'END'
import json, unicodedata
own = {"\xf8": "o", "\u0111": "d", "\u0127": "h", "\u0131": "i", "\u0142": "l", "\u0167": "t"}    # letters whose stroke is no accent to Unicode
texts, terms = [], set()
for c in map(chr, [*range(0xc0, 0x131), *range(0x132, 0x17f), *range(0x391, 0x3a2), *range(0x3a3, 0x3aa), *range(0x400, 0x430), *range(0x460, 0x482),
                   *range(0x48a, 0x4c0), *range(0x4c1, 0x500), *range(0x1e00, 0x1e96), *range(0x1ea0, 0x1f00)]):
    if c in "\xd7\xf7\u0149": continue
    low = c.lower()
    base = unicodedata.normalize("NFD", low)[0]
    low = own.get(low) or (base if base < "\x80" and c < "\u0180" else low)
    texts.append("w%s%05d" % (c, ord(c)))
    terms.add("w%s%05d" % (low, ord(c)))
texts += ["we\u0301n00001", "\u4e2d\u6587\u5b57", "\u6f22", "a\u5b57b"]
terms |= {"wen00001", "\u4e2d\u6587", "\u6587\u5b57", "\u6f22", "\u5b57", "\u4e16\u754c", "\u754c\u548c", "\u548c\u5e73", "\u5e73\u4e16"}
for first, last in ((0xe00, 0xfff), (0x1780, 0x17ff), (0x3040, 0x30ff), (0x3400, 0x9fff), (0xf900, 0xfaff), (0x20000, 0x31fff)):
    some = chr(first) + chr((first + last) // 2) + chr(last)
    texts.append(some)
    terms |= {some[:2], some[1:]}
open("words.jsonl", "w").write("".join(json.dumps({"text": t}) + "\n" for t in texts))
open("two", "w").write("".join(sorted(t + "\n" for t in terms)))
# a snippet is whole characters of the text, and what it marks are words of the question
open("snippets.jsonl", "w").write("".join(json.dumps({"_id": i, "text": t}) + "\n" for i, t in (
    *(("end%d" % n, "kiwi " + "a" * n + "\xe9" * 210) for n in (0, 1)), *(("begin%d" % n, "a" * n + "\xe9" * 210 + " kiwi") for n in (0, 1)), ("late", "Word after word. " * 60 + "Here is a kiwi at last."),
    ("pairs", "\u4e16\u754c\u548c\u5e73\u4e16\u754c"), ("most", "guava " * 6 + "Words between them. " * 30 + "A guava and a papaya. " + "Words behind. " * 30),
    ("first", "lychee here. " + "Words between them. " * 30 + "lychee there."), ("plural", "two kumquats, one kumquat"), ("blank", "\n \n durian alone \n\n"))))
END
expect 0 "$search" "$model" words.db words.jsonl snippets.jsonl --split 1000 # so that each is one passage
words words.db | cut -d'|' -f1 | LC_ALL=C grep -a -e '^w.*[0-9][0-9][0-9][0-9][0-9]$' -e '^[^ -~][^ -~]*$' | LC_ALL=C sort > one
LC_ALL=C sort two > three
same one three
for q in kiwi 世界和平 'guava papaya' lychee kumquats; do "$search" words.db "$q" --json > "log.$q" 2>&1; done
python3 - > log 2>&1 <<'END'
import json
texts = {r["_id"]: r["text"] for r in map(json.loads, open("snippets.jsonl"))}
found = json.load(open("log.kiwi"))["results"]
assert sorted(r["id"] for r in found) == ["begin0", "begin1", "end0", "end1", "late"], found
for r in found:
    assert r["snippet"] in texts[r["id"]] and [r["snippet"][i:k] for i, k in r["highlights"]] == ["kiwi"], r
assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True), found
pairs = json.load(open("log.世界和平"))["results"][0]
assert (pairs["id"], pairs["highlights"]) == ("pairs", [[0, 4], [4, 6]]), pairs
# shown is where most of the question's words are, not where one stands often; of two such places the first
shown = {q: json.load(open("log." + q))["results"][0] for q in ("guava papaya", "lychee", "kumquats")}
assert "A guava and a papaya." in shown["guava papaya"]["snippet"], shown
assert shown["lychee"]["snippet"].startswith("lychee here. Words") and shown["lychee"]["highlights"] == [[0, 6]], shown
assert shown["kumquats"]["highlights"] == [[4, 12], [18, 25]], shown
END
equal "$(cat log)" "" "snippets"
expect 0 "$search" words.db durian --mark none; says '^    durian alone$'   # what is left out around it is white space alone
# stop words are left out beside others, and asked for where there is nothing else
printf '%s\n' '{"_id": "hamlet", "text": "To be, or not to be, that is the question."}' '{"_id": "fig", "text": "The fig tree."}' '{"text": "The oak is the tree of the year."}' > stop.jsonl
expect 0 "$search" "$model" stop.db stop.jsonl
finds stop.db 'to be or not to be' stop.jsonl/hamlet
expect 0 "$search" stop.db 'what is the fig'; says '1 of 1 candidates among 3 passages'
expect 0 "$search" stop.db 'fig oak'; says '2 of 2 candidates among 3 passages'          # any of the words makes a candidate
# of a question of more words than are looked at, the rarest count
python3 - <<'END' > rarest.jsonl
common = " ".join("x%d" % i for i in range(70))
print('{"_id": "a", "text": "%s"}\n{"_id": "b", "text": "%s y"}\n{"_id": "c", "text": "a wombat"}' % (common, common))
END
expect 0 "$search" "$model" rarest.db rarest.jsonl
expect 0 "$search" rarest.db "$(seq -f x%g 0 69 | tr '\n' ' ') wombat"; says '3 of 3 candidates among 3 passages'
# pages and messages without an end
python3 - <<'END'
open("deep.html", "w").write("<html><body>" + "<div>" * 100000 + "x")
open("nested.eml", "w").write("Subject: parcel\nMIME-Version: 1.0\n" + "".join('Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (i, i) for i in range(5000)))
open("wrapped.eml", "w").write("Subject: wrapped\n" + "Content-Type: message/rfc822\n\n" * 20000)
open("half.mbox", "w").write("From a Mon Jan 1 00:00:00 2024\nSubject: half\nContent-Type: text/plain; charset=none\nContent-Transfer-Encoding: base64\n\n####")
END
expect 3 timeout $patience "$search" "$model" deep.db deep.html nested.eml wrapped.eml half.mbox
says 'deep.html: its elements lie too deep'
finds deep.db parcel nested.eml

# ---- questions of every kind reach FTS5 as words ----
for q in '"' "'" '*' 'NEAR(a, b)' 'chess AND' 'OR OR' 'NOT chess' '(' 'words : chess' '^chess' '{words} : x' 'search_words' "x'); DROP TABLE documents; --" '-' '--' \
    'chess -engine' '中文' 'กรุงเทพ' '😀' 'to be or not to be' 'the' "$(printf 'bad \377 bytes')" "$(printf 'chess\tengine\n')"; do
    expect 0 "$search" all.db -- "$q" < /dev/null
    silent 'syntax error'
done
head -c 1000000 /dev/zero | tr '\0' x > long.q
(printf 'chess '; cat long.q; echo) | expect 0 "$search" all.db -; says chess.md
python3 -c 'print(" ".join("word%d" % i for i in range(100000)), "chess")' | expect 0 timeout $patience "$search" all.db - --json
printf 'chess engine\n\nencrypted backup\n' | "$search" all.db - > log 2>&1
equal $? 0 "questions from standard input"; says chess.md; says backup.markdown
# --read: the model's file may be cut short between two questions (a map of it would end the command with SIGBUS)
cp "$model" read.kalm
rm -f asks
mkfifo asks
: > log                                # that of the command before has the answer too
"$search" all.db - --model read.kalm --read < asks > log 2>&1 &
pid=$! n=0
exec 3> asks
echo 'chess engine' >&3
until grep -q chess.md log || [ $n -ge 600 ]; do sleep 0.1; n=$((n + 1)); done
: > read.kalm
echo 'encrypted backup' >&3
exec 3>&-
wait $pid
equal $? 0 "a model that is cut short under --read"; says backup.markdown
rm -f read.kalm asks
for wrong in '' 'all.db' 'all.db --update x' 'all.db --mcp x' 'all.db x --watch' "$model" "$model all.db" "$model $model x" 'all.db x --limit 0' 'all.db x --bits 7' 'all.db --update --info'; do
    expect 2 "$search" $wrong
done
expect 2 "$search" all.db ''
expect 1 "$search" none.db question; says 'there is no store none.db'
expect 1 "$search" docs question; says 'is a folder'
expect 1 "$search" docs/vim.txt question
expect 1 "$search" "$model" new2.db nowhere; says 'cannot read nowhere'
equal "$(ls new2.db 2> /dev/null)" "" "a database of nothing"
# the model has moved
cp all.db moved.db
sqlite3 moved.db "UPDATE meta SET value = '/nowhere/m.kalm' WHERE name = 'search_model'"
expect 1 "$search" moved.db chess; says 'is not at /nowhere/m.kalm any more: --model FILE says where it is now'
expect 0 "$search" moved.db chess --model "$model"
# a model in a folder whose name is no UTF-8: the database cannot remember it, and can be asked all the same
odd=$(printf 'model\377')
mkdir -p "$odd" && cp "$model" "$odd/m.kalm" && printf 'A text editor.\n' > editor.txt
expect 0 "$search" "$odd/m.kalm" model.db editor.txt
expect 1 "$search" model.db editor; says 'model.db does not say where its model is: --model FILE does'
expect 0 "$search" model.db editor --model "$odd/m.kalm"
expect 0 "$search" model.db --update --model "$odd/m.kalm"

# ---- strangers' databases ----
# hostile NAME SQL WHAT-IT-SAYS
hostile() {
    cp all.db strange.db
    sqlite3 strange.db "$2" > log 2>&1 || bad "$1: sqlite3 failed"
    expect 1 "$search" strange.db chess; says "$3"
    expect 1 "$search" strange.db --update; says "$3"
}
hostile trigger "CREATE TRIGGER t AFTER INSERT ON search_files BEGIN DELETE FROM documents; END" "has a trigger 't', which kalm-index did not make"
hostile view "CREATE VIEW v AS SELECT 1" "has a view 'v'"
hostile index "CREATE INDEX i ON search_files (hash)" "has an index 'i'"
hostile table "CREATE VIRTUAL TABLE w USING fts5(x)" "has a table"
hostile rank "PRAGMA writable_schema=ON; UPDATE sqlite_master SET sql = replace(sql, 'ascii', 'porter') WHERE name = 'search_words'" 'search_words is not as kalm-search makes it'
hostile files "DROP TABLE search_files; CREATE TABLE search_files (path, x AS (abs(path)))" 'search_files is not as kalm-search makes it'
hostile lacking "DROP TABLE search_sources" 'lacks some of the tables'
hostile words "UPDATE meta SET value = '99' WHERE name = 'search_words'" 'its index of words is of version 99'
hostile model "UPDATE meta SET value = x'00' WHERE name = 'search_model'" 'no text'
# a list of 2^25 segments, for which SQLite would ask for 400 MB before it sees that the block is short
hostile segments "UPDATE search_words_data SET block = x'00000000010100009080800001010101' WHERE id = 10" 'out of memory, or the file is damaged'
hostile fingerprint "UPDATE meta SET value = '0123456789abcdef' WHERE name = 'fingerprint'" 'holds documents of the model'
expect 3 "$search" "$model" strange2.db docs --bits 2
expect 0 "$search" strange2.db chess
cp strange2.db strange.db
sqlite3 strange.db "UPDATE meta SET value = '0123456789abcdef' WHERE name = 'transform'"
for use in "$search strange.db chess" "$search strange.db --update"; do
    expect 1 $use; says 'holds rows of 2 bits that were made with transform 0123456789abcdef'
done
cp all.db strange.db
sqlite3 strange.db "UPDATE search_sources SET path = CAST('relative' AS BLOB)"
expect 1 "$search" strange.db --update; says 'a path in its table search_sources is none'
sqlite3 strange.db "UPDATE search_sources SET path = x'2f61002f62'"
expect 1 "$search" strange.db --update; says 'a path in its table search_sources is none'
for path in 72656c6174697665 2f61002f62 ''; do
    rm -f strange.db*
    cp all.db strange.db
    sqlite3 strange.db "DELETE FROM search_files; INSERT INTO search_files VALUES (x'$path', 0, 0, '0123456789abcdef', 0, '')"
    expect 1 "$search" strange.db --update; says 'a path in its table search_files is none'
    expect 1 "$search" strange.db --forget docs; says 'a path in its table search_files is none'
done
cp all.db strange.db
# damaged rows are left out of an answer and counted; words of rows that are none as well
cp all.db strange.db
sqlite3 strange.db "UPDATE documents SET document = x'00' WHERE key LIKE '%chess.md'"
expect 0 "$search" strange.db 'chess engine'; says 'passages are damaged'; silent 'chess.md'
sqlite3 strange.db "UPDATE documents SET text = CAST(x'ff' AS TEXT) WHERE key LIKE '%backup.markdown'"
expect 0 "$search" strange.db 'encrypted backups'; says 'passages are damaged'
sqlite3 strange.db "DELETE FROM documents WHERE key LIKE '%tomatoes%' OR text LIKE '%lentils%'"
expect 0 "$search" strange.db lentils; says 'passages are damaged'
for wrong in "window = windows" "windows = 0" "start = -1" "key = ''" "metadata = '[]'"; do
    cp all.db strange.db
    sqlite3 strange.db "UPDATE documents SET $wrong WHERE key LIKE '%chess.md'"
    expect 0 "$search" strange.db 'chess engine'; says 'passages are damaged'; silent 'chess.md'
done
cp all.db strange.db
sqlite3 strange.db "UPDATE meta SET value = (name <> 'overlap') * 2 WHERE name IN ('max_doc_tokens', 'split', 'overlap')"
expect 0 "$search" strange.db 'chess engine'; says 'passages are damaged'; silent 'chess.md'
# bytes changed anywhere: an answer or a sentence, never a signal
python3 - "$search" <<'END' > log 2>&1
import os, random, subprocess, sys
random.seed(int.from_bytes(open("/dev/urandom", "rb").read(4), "little"))
whole = open("all.db", "rb").read()
for i in range(24):
    b = bytearray(whole)
    for k in range(random.choice((1, 20, 400))): b[random.randrange(100, len(b))] = random.randrange(256)
    open("strange.db", "wb").write(b[:random.choice((len(b), len(b), random.randrange(len(b))))])
    for args in (["chess engine that analyses"], ["--update"]):
        r = subprocess.run([sys.argv[1], "strange.db"] + args, capture_output=True, timeout=20 * int(os.environ.get("KALM_PATIENCE") or 1))
        if r.returncode not in (0, 1, 3) or (r.returncode == 1 and not r.stderr):
            open("strange-%d.db" % i, "wb").write(b)
            print("status", r.returncode, args, r.stderr)
END
equal "$(cat log)" "" "damaged databases"

# ---- killed at random moments, the files changing meanwhile ----
mkdir many
seed=${KALM_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
head -n 120 "$root/examples/tiny/eval/corpus.jsonl" > many/some.jsonl
python3 - <<'END'
import json
for i, line in enumerate(open("many/some.jsonl")):
    if i < 60: open("many/%d.txt" % i, "w").write(json.loads(line)["text"] or "nothing")
END
k=0
while [ $k -lt 8 ]; do
    k=$((k + 1))
    "$search" "$model" killed.db many --batch 4 --quiet 2> log &
    pid=$!
    sleep "$(awk -v seed=$((seed + k)) 'BEGIN { srand(seed); printf "%.3f", rand() * 0.25 }')"
    kill -9 $pid 2> /dev/null
    wait $pid 2> /dev/null
    # what is there has its words, and can be asked
    if [ -s killed.db ] && [ -n "$(sqlite3 killed.db "SELECT 1 FROM sqlite_master WHERE name = 'search_words'" 2> /dev/null)" ]; then
        equal "$(sqlite3 killed.db "SELECT count(*) FROM documents WHERE number NOT IN (SELECT id FROM search_words_docsize)")" 0 "kill $k of seed $seed: passages without words"
        equal "$(sqlite3 killed.db "SELECT count(*) FROM documents d WHERE NOT EXISTS (SELECT 1 FROM search_files WHERE CAST(path AS TEXT) = d.key OR CAST(path AS TEXT) || '/' = substr(d.key, 1, length(path) + 1))")" 0 "kill $k of seed $seed: documents of no file"
        equal "$(sqlite3 killed.db "SELECT count(*) FROM search_files f WHERE hash <> '0000000000000000' AND documents > (SELECT count(DISTINCT key) FROM documents d WHERE d.key = CAST(path AS TEXT) OR CAST(path AS TEXT) || '/' = substr(d.key, 1, length(path) + 1))")" 0 "kill $k of seed $seed: files that are noted before all their documents are in"
        expect 0 "$search" killed.db package
    fi
    echo "round $k" > many/changing.txt
    mv "many/$k.txt" "many/moved-$k.txt"
    rm -f "many/4$k.txt"
done
expect 0 "$search" "$model" killed.db many
expect 0 "$index" killed.db --verify
"$search" "$model" fresh.db many --quiet > log 2>&1
sqlite3 killed.db "UPDATE search_files SET modified = 0"
dump killed.db > one; dump fresh.db > two
if cmp -s one two; then ok; else bad "a database after kills differs from a new one (seed $seed)"; diff one two | cut -c 1-200 | head -n 5; fi
words killed.db > one; words fresh.db > two
if cmp -s one two; then ok; else bad "its words differ from those of a new one (seed $seed)"; fi

# ---- a text that can no longer be split ----
# This tokenizer knows no letters but small ones, so its tokens do not spell others. What the database had of such a file is not kept.
expect 0 "$build/kalm-random-checkpoint" hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=64 --quiet letters
python3 - > letters/tokenizer.json <<'END'
import json
tokens = ["<unk>", "<bos>", "<eos>", "yes", "no", "ye", "\u2581"] + [chr(c) for c in range(97, 123)]
print(json.dumps({"added_tokens": [{"id": 1, "content": "<bos>", "special": True}, {"id": 2, "content": "<eos>", "special": True}],
                  "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
                  "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "vocab": {t: i for i, t in enumerate(tokens)},
                            "merges": ["y e", "ye s", "n o"]}}))
END
expect 0 "$build/kalm-quantize" letters letters.kalm --weights q8 --quiet
mkdir unspelt
printf '{"_id": "x", "text": "small letters"}\n{"_id": "y", "text": "and others"}\n' > unspelt/a.jsonl
echo 'only small letters' > unspelt/b.txt
touch -d 2020-01-01 unspelt/*
expect 0 "$search" letters.kalm unspelt.db unspelt --split 20 --overlap 3
printf '{"_id": "x", "text": "NOW CAPITAL LETTERS and many others"}\n{"_id": "y", "text": "and others"}\n{"_id": "x", "text": "small again"}\n' > unspelt/a.jsonl
echo 'NOW CAPITAL LETTERS and many others' > unspelt/b.txt
touch -d 2020-01-02 unspelt/*
expect 3 "$search" unspelt.db --update
says 'a.jsonl:1: cannot be split: its tokens do not spell the text'
says 'b.txt: cannot be split: its tokens do not spell the text'
expect 3 "$search" letters.kalm unspelt_new.db unspelt --split 20 --overlap 3
dump unspelt.db > one; dump unspelt_new.db > two
if cmp -s one two; then ok; else bad 'after an update the database has a text that its file has no more'; fi
equal "$(sqlite3 unspelt.db "SELECT group_concat(text, ', ') FROM documents")" 'and others, small again' 'the texts that are left'

# ---- watching ----
mkdir watched
echo 'one apple' > watched/a.txt
"$search" "$model" watched/db watched --watch > log 2>&1 &
pid=$!
# until ANSWER QUESTION: the database says so within twenty seconds
until_says() {
    t=0
    while [ $t -lt 200 ]; do
        "$search" watched/db "$2" > answer 2>&1
        if grep -q "$1" answer; then ok; return; fi
        sleep 0.1
        t=$((t + 1))
    done
    bad "watching: '$2' does not find '$1'"
}
until_says a.txt apple
mkdir watched/new; echo 'two pears' > watched/new/b.txt
until_says new/b.txt pears
mv watched/new watched/old; rm watched/a.txt
until_says old/b.txt pears
until_says 'no passage has a word' apple
kill -TERM $pid
wait $pid
equal $? 130 "status of a watch that was ended"

finish
