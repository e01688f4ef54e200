#!/bin/sh
# test_sqlite.sh BUILD - the extension kalm.so in the sqlite3 shell and in Python's sqlite3: the same scores as kalm-rerank to the
# last digit, documents in columns, errors by name, what a stranger's schema may not do, interrupts, and nothing left behind.
build=$1
passed=0 failed=0
if ! pkg-config --exists sqlite3 2> /dev/null || ! command -v sqlite3 > /dev/null; then
    echo "sqlite3 or libsqlite3-dev is missing"
    echo "0 passed, 1 failed"
    exit 1
fi
case $build in */sanitize|*/thread) echo "an extension cannot bring a sanitizer into sqlite3: left out"; echo "0 passed, 0 failed"; exit 0 ;; esac
dir=$build/tmp/sqlite.$$
mkdir -p "$dir"
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
equal() { if [ "$1" = "$2" ]; then ok; else bad "$3: '$1' instead of '$2'"; fi; }
# The extension in a folder of its own, compiled in two thirds of the time, beside links to the rest
mkdir -p "$dir/made"
for file in "$build"/kalm-* "$build/tiny.kalm"; do ln -s "$(realpath "$file")" "$dir/made/"; done
build=$dir/made
if make -s "$build/kalm.so" B="$build" OPT_release=-O1 > "$dir/log" 2>&1; then ok; else bad "make sqlite"; cat "$dir/log"; fi
db=$dir/notes.db
# sql STATEMENT...: the output of the shell with the extension and the model
sql() { sqlite3 -cmd ".load $build/kalm" -cmd "SELECT kalm_load('$build/tiny.kalm')" "$db" "$@" 2>&1 | sed 1d; }
# says WORDS STATEMENT...: the statement fails with these words
says() {
    words=$1
    shift
    sqlite3 -cmd ".load $build/kalm" -cmd "SELECT kalm_load('$build/tiny.kalm')" "$db" "$@" > "$dir/log" 2>&1
    if grep -q -i -e "error.*$words" "$dir/log"; then ok; else bad "'$words' is not said: $* ($(cat "$dir/log"))"; fi
}
sql "CREATE TABLE notes (id TEXT, text TEXT, document BLOB);
     INSERT INTO notes (id, text) SELECT json_extract(value, '\$._id'), json_extract(value, '\$.text')
     FROM json_each('[' || replace(trim(CAST(readfile('examples/tiny/eval/corpus.jsonl') AS TEXT), char(10)), char(10), ',') || ']') LIMIT 40;
     UPDATE notes SET document = kalm_encode(text, 4, 32)" > "$dir/log"
equal "$(cat "$dir/log")" "" "making the table"
equal "$(sql 'SELECT count(*) FROM notes WHERE length(document) > 100')" 40 "encoded documents"

# ---- the scores of kalm-rerank ----
sqlite3 "$db" "SELECT json_object('id', id, 'text', text) FROM notes ORDER BY rowid" > "$dir/notes.jsonl"
"$build/kalm-rerank" "$build/tiny.kalm" "image viewer" --documents "$dir/notes.jsonl" --json |
    sed -n 's/.*"rank": \([0-9]*\),.*"id": "\([^"]*\)", "score": \([^,]*\), "margin": \([^,]*\),.*/\1|\2|\3|\4/p' > "$dir/want"
ranking="printf('%.9g', score), printf('%.9g', margin)"
sql "SELECT rank, id, $ranking FROM kalm_rerank('image viewer', 'SELECT id, text FROM notes', NULL)" > "$dir/texts"
sql "SELECT rank, id, $ranking FROM kalm_rerank('image viewer', 'SELECT id, document FROM notes', NULL)" > "$dir/documents"
equal "$(wc -l < "$dir/want")" 40 "documents ranked by kalm-rerank"
cmp "$dir/want" "$dir/texts" && ok || bad "texts in SQL are ranked otherwise than by kalm-rerank"
cmp "$dir/want" "$dir/documents" && ok || bad "documents in SQL are ranked otherwise than by kalm-rerank"
for order in "rank" "rank DESC" "score DESC, rank" "id"; do        # best first is what they come in, and no other order is taken for it
    sql "SELECT rank, id, $ranking FROM kalm_rerank('image viewer', 'SELECT id, document FROM notes', NULL) ORDER BY $order" > "$dir/ordered"
    case $order in rank\ DESC) tac "$dir/want" ;; id) LC_ALL=C sort -t '|' -k 2,2 "$dir/want" ;; *) cat "$dir/want" ;; esac | cmp - "$dir/ordered" && ok || bad "ORDER BY $order"
done
sql "SELECT rank, id, $ranking FROM kalm_rerank('image viewer', 'SELECT id, CASE WHEN rowid % 3 THEN text ELSE document END FROM notes', 7)" > "$dir/mixed"
head -n 7 "$dir/want" | cmp - "$dir/mixed" && ok || bad "texts and documents mixed, the best 7"
equal "$(sql "SELECT max(abs(s.score - kalm_score('image viewer', n.document))), max(abs(s.score - kalm_score('image viewer', n.text)))
    FROM kalm_rerank('image viewer', 'SELECT rowid, text FROM notes', NULL) s JOIN notes n ON n.rowid = s.id")" "0.0|0.0" "kalm_score"
equal "$(sql "SELECT count(DISTINCT q.score) FROM (VALUES ('a'), ('b')) v, kalm_rerank(v.column1, 'SELECT id, text FROM notes', 1) q")" 2 "queries out of a table"
equal "$(sql "SELECT printf('%.9g', kalm_score('image viewer', 'a picture editor', 'Given a keyword, find packages.'))")" \
    "$("$build/kalm-rerank" "$build/tiny.kalm" "image viewer" "a picture editor" --instruction 'Given a keyword, find packages.' --json | sed -n 's/.*"score": \([^,]*\),.*/\1/p')" "an instruction"
equal "$(sql "SELECT typeof(id), rank FROM kalm_rerank('q', 'SELECT 5, ''a'' UNION ALL SELECT x''00'', ''b'' UNION ALL SELECT NULL, ''c'' UNION ALL SELECT 1, NULL', NULL) ORDER BY typeof(id)" | cut -d '|' -f 1 | tr '\n' ' ')" \
    "blob integer null " "types of ids; a document that is NULL"
equal "$(sql "SELECT count(*) FROM kalm_rerank('q', 'SELECT 1, 2 WHERE 0', 3)")" 0 "no rows"
equal "$(sql "SELECT s.score = kalm_score('image viewer', 'a picture editor', 'Given a keyword, find packages.'), s.score = kalm_score('image viewer', 'a picture editor')
    FROM kalm_rerank('image viewer', 'SELECT 1, ''a picture editor''', 1, 'Given a keyword, find packages.') s")" "1|0" "an instruction for the table"
# cut: 1 the document, 2 the query, 3 both
long="replace(printf('%02000d', 0), '0', 'word ')"
equal "$(sql "SELECT (SELECT cut FROM kalm_rerank('q', 'SELECT 1, ''a''', 1)), (SELECT cut FROM kalm_rerank('q', 'SELECT 1, ' || quote($long), 1)),
    (SELECT cut FROM kalm_rerank($long, 'SELECT 1, ''a''', 1)), (SELECT cut FROM kalm_rerank($long, 'SELECT 1, ' || quote($long), 1))")" "0|1|2|3" "what was cut"
equal "$(sql "SELECT kalm_score(NULL, 'a') IS NULL, kalm_score('q', NULL) IS NULL, kalm_encode(NULL) IS NULL")" "1|1|1" "NULL"
for bits in 4 3 2; do
    equal "$(sql "SELECT length(d) = 64 + (length(d) - 64) / (192 * $bits / 8 + 1) * (192 * $bits / 8 + 1), kalm_score('text', d) = kalm_score('text', kalm_encode('a short text', 1, $bits)) FROM (SELECT kalm_encode('a short text', 1, $bits) AS d)")" "1|1" "rows of $bits bits"
done
equal "$(sql "SELECT length(kalm_encode('a short text', 1, 8)) < length(kalm_encode('a short text', 1, 32))")" 1 "bits"
equal "$(sql "SELECT DISTINCT cut FROM kalm_rerank('q', 'SELECT 1, ''short''', 1) UNION ALL SELECT cut FROM kalm_rerank('q', 'SELECT 1, replace(hex(zeroblob(4000)), ''0'', ''word '')', 1)" | tr '\n' ' ')" "0 1 " "cut"
# a store of kalm-index is a database like any other
if [ -x "$build/kalm-index" ]; then
    "$build/kalm-index" "$build/tiny.kalm" "$dir/store.db" "$dir/notes.jsonl" --bits 32 --quiet
    db=$dir/store.db
    sql "SELECT rank, id, $ranking FROM kalm_rerank('image viewer', 'SELECT key, document FROM documents', NULL)" > "$dir/store"
    cmp "$dir/want" "$dir/store" && ok || bad "documents of a store"
    db=$dir/notes.db
fi

# the README shows what its demo prints
sh examples/sqlite/demo.sh "$build" > "$dir/demo" 2>&1
awk '/^prints$/ { on = 1; next } on && /^```$/ { if (inside) exit; inside = 1; next } inside' examples/sqlite/README.md | cmp - "$dir/demo" && ok || bad "the README of the extension shows something else"
awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 } inside' examples/sqlite/README.md > "$dir/shown"
sed -n '/<< END/,/^END$/p' examples/sqlite/demo.sh | sed '1d;$d;s/\$build/build/g' | cmp - "$dir/shown" && ok || bad "the README of the extension shows another demo"

# ---- parts of a model ----
for side in encoder decoder; do "$build/kalm-quantize" "$build/tiny.kalm" "$dir/$side.kalm" --side $side --quiet; done
equal "$(sql "SELECT kalm_load('$dir/encoder.kalm')" "SELECT count(*) FROM notes WHERE kalm_encode(text, 4, 32) = document" | tail -n 1)" 40 "documents of the encoder alone"
sql "SELECT kalm_load('$dir/decoder.kalm')" "SELECT rank, id, $ranking FROM kalm_rerank('image viewer', 'SELECT id, document FROM notes', NULL)" | sed 1d > "$dir/decoder"
cmp "$dir/want" "$dir/decoder" && ok || bad "the decoder alone ranks otherwise"
says "encoder alone" "SELECT kalm_load('$dir/encoder.kalm')" "SELECT kalm_score('q', document) FROM notes"
says "decoder alone" "SELECT kalm_load('$dir/decoder.kalm')" "SELECT kalm_encode('a')"
says "decoder alone" "SELECT kalm_load('$dir/decoder.kalm')" "SELECT * FROM kalm_rerank('q', 'SELECT id, text FROM notes', NULL)"

# ---- errors have words ----
says "no model is loaded" "SELECT kalm_load(NULL)" "SELECT kalm_score('q', 'a')"
says "no model is loaded" "SELECT kalm_load(NULL)" "SELECT * FROM kalm_rerank('q', 'SELECT 1, 2', 1)"
says "no/such.kalm" "SELECT kalm_load('no/such.kalm')"
says "README.md: not a .kalm file" "SELECT kalm_load('README.md')"
says "ratio must be a whole number from 1" "SELECT kalm_encode('a', 0)"
says "ratio must be a whole number from 1" "SELECT kalm_encode('a', 2.5)"
says "ratio must be a whole number from 1 to 1048576" "SELECT kalm_encode('a', 4294967297)"
says "bits must be a whole number from 1 to 32" "SELECT kalm_encode('a', 4, 4294967304)"
says "bits" "SELECT kalm_encode('a', 4, 12)"
says "the text is a BLOB" "SELECT kalm_encode(x'61')"
says "these 1 bytes are no encoded document" "SELECT kalm_score('q', x'61')"
says "the document is damaged" "SELECT kalm_score('q', CAST(substr(document, 1, 200) || zeroblob(9) || substr(document, 210) AS BLOB)) FROM notes"
says "kalm_rerank: there is no sql" "SELECT * FROM kalm_rerank('q')"
says "kalm_rerank: there is no query" "SELECT * FROM kalm_rerank"
says "kalm_rerank: k must be a whole number from 1" "SELECT * FROM kalm_rerank('q', 'SELECT 1, 2', 0)"
says "kalm_rerank: k must be a whole number from 1" "SELECT * FROM kalm_rerank('q', 'SELECT 1, 2', 'two')"
says "kalm_rerank: no such table: nowhere" "SELECT * FROM kalm_rerank('q', 'SELECT id, text FROM nowhere', 1)"
says "kalm_rerank: the SQL must be a SELECT" "SELECT * FROM kalm_rerank('q', 'SELECT 1', 1)"
sql "CREATE TABLE own (s); INSERT INTO own VALUES ('SELECT 1, ''a'''), ('SELECT id, ''b'' FROM kalm_rerank(''q'', (SELECT s FROM own WHERE rowid = 1), 1)'),
    ('SELECT id, ''c'' FROM kalm_rerank(''q'', (SELECT s FROM own WHERE rowid = 2), 1)'), ('SELECT 1, ''x'' FROM kalm_rerank(''q'', (SELECT s FROM own WHERE rowid = 4), 3)')"
equal "$(sql "SELECT id FROM kalm_rerank('q', (SELECT s FROM own WHERE rowid = 3), 1)")" 1 "a ranking of a ranking of a ranking"
says "more than 4 rankings, each in the SQL of another" "SELECT * FROM kalm_rerank('q', (SELECT s FROM own WHERE rowid = 4), 3)"
says "kalm_rerank: the SQL must be a SELECT" "SELECT * FROM kalm_rerank('q', 'DELETE FROM notes RETURNING id, text', 1)"
says "kalm_rerank: the SQL is more than one" "SELECT * FROM kalm_rerank('q', 'SELECT 1, 2; DELETE FROM notes', 1)"
says "kalm_rerank: the SQL is empty" "SELECT * FROM kalm_rerank('q', ' -- nothing', 1)"
says "kalm_rerank: these 1 bytes" "SELECT * FROM kalm_rerank('q', 'SELECT 1, x''61''', 1)"
equal "$(sql 'SELECT count(*) FROM notes')" 40 "rows after all that"

# ---- a stranger's schema may not run SQL, open files, or use the model ----
sqlite3 "$db" "CREATE VIEW v1 AS SELECT * FROM kalm_rerank('q', 'SELECT 1, 2', 1)" "CREATE VIEW v2 AS SELECT kalm_load('README.md')" \
    "CREATE VIEW v3 AS SELECT kalm_score('q', 'a')"
says "unsafe use of virtual table" "SELECT * FROM v1"
says "unsafe use of kalm_load" "SELECT * FROM v2"
says "unsafe use of kalm_score" "PRAGMA trusted_schema = OFF" "SELECT * FROM v3"
sqlite3 "$db" "DROP VIEW v1" "DROP VIEW v2" "DROP VIEW v3"

# ---- Python: parameters, rows, interrupts, many connections ----
python=
for p in python3 /usr/bin/python3; do
    $p -c 'import sqlite3; sqlite3.connect(":memory:").enable_load_extension(True)' 2> /dev/null && { python=$p; break; }
done
if [ -n "$python" ]; then
    cat > "$dir/test.py" <<'END'
import sqlite3, sys, threading, time
build, path = sys.argv[1:]
def connect(file=path):
    c = sqlite3.connect(file, check_same_thread=False)
    c.enable_load_extension(True)
    c.load_extension(build + "/kalm")
    c.enable_load_extension(False)
    assert c.execute("SELECT kalm_load(?)", (build + "/tiny.kalm",)).fetchone() == ("tiny",)
    return c
c = connect()
rows = c.execute("SELECT id, score, rank FROM kalm_rerank(?, ?, ?)", ("image viewer", "SELECT id, document FROM notes", 5)).fetchall()
assert [r[2] for r in rows] == [1, 2, 3, 4, 5] and all(0 < r[1] < 1 for r in rows), rows
blob, = c.execute("SELECT kalm_encode(?)", ("h\u00e9 \U0001f600",)).fetchone()
assert isinstance(blob, bytes) and c.execute("SELECT kalm_score('q', ?)", (blob,)).fetchone()[0] > 0
# a thousand long texts take seconds: an interrupt ends them at once
c.execute("CREATE TEMP TABLE long AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) SELECT i AS id, "
          "replace(hex(zeroblob(300)), '0', 'word ' || i || ' ') AS text FROM n")
for how in ("interrupt", "handler"):
    done = []
    def work():
        try:
            c.execute("SELECT * FROM kalm_rerank('q', 'SELECT id, text FROM long', 1)").fetchall()
            done.append("ended")
        except sqlite3.OperationalError as e:
            done.append(str(e))
    began = time.time()
    if how == "handler":
        c.set_progress_handler(lambda: time.time() - began > 0.5, 1)
    t = threading.Thread(target=work)
    t.start()
    time.sleep(0.5)
    asked = time.time()
    if how == "interrupt":
        c.interrupt()
    t.join()
    took = time.time() - asked
    assert done and "interrupt" in done[0], done
    assert took < 1, took              # a tenth of that where nothing else runs
c.set_progress_handler(None, 1)
assert c.execute("SELECT count(*) FROM kalm_rerank('q', 'SELECT id, text FROM notes', 3)").fetchone() == (3,)
c.close()
# connections apart, at the same time, give the same
def rank(out):
    d = connect()
    out.append(d.execute("SELECT group_concat(id || score) FROM kalm_rerank('chess', 'SELECT id, text FROM notes', NULL)").fetchone())
    d.close()
outs, threads = [], []
for i in range(3):
    threads.append(threading.Thread(target=rank, args=(outs,)))
    threads[-1].start()
for t in threads:
    t.join()
assert len(outs) == 3 and len(set(outs)) == 1, outs
for i in range(50):                    # nothing is left behind
    connect(":memory:").close()
    if i == 10: before = int(open("/proc/self/statm").read().split()[1])
after = int(open("/proc/self/statm").read().split()[1])
assert after < before + 2000, (before, after)      # pages: 8 MB
END
    if "$python" "$dir/test.py" "$build" "$db" > "$dir/log" 2>&1; then ok; else bad "Python"; cat "$dir/log"; fi
else
    echo "no Python here may load extensions: left out"
fi
rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
