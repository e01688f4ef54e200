#!/bin/sh
# test_index.sh BUILD [KILLS] - kalm-index and the store: all readers, killed at random moments (20 times; make test
# KALM_KILLS=50 for more), appending, merging, changed texts, bad input, strangers' stores, a full disk, damage, and
# --store ranking as texts do.
kills=${2:-${KALM_KILLS:-20}}
build=$1 suite=index
. tests/command.sh
need_command kalm-index 'libsqlite3-dev is missing'
index=$build/kalm-index
rerank="env ASAN_OPTIONS=detect_leaks=0 $build/kalm-rerank"   # it ends with the texts in its hands
# What must be the same however it came about: everything but numbers.
dump() { sqlite3 "$1" "SELECT key, window, windows, start, hash, tokens, tokens_used, hex(title), hex(text), metadata, hex(document) FROM documents ORDER BY key, window"; }
count() { sqlite3 "$1" "SELECT count(*) FROM documents WHERE window = 0"; }

need_model
case $build in *sanitize*|*thread*|*debug*|*coverage*) texts=60 ;; *) texts=400 ;; esac
head -n $texts "$root/examples/tiny/eval/corpus.jsonl" > corpus.jsonl
head -n 20 corpus.jsonl > first.jsonl

# ---- an undisturbed run, and the same once more ----
expect 0 "$index" "$model" whole.db corpus.jsonl
says "^$texts documents encoded"
equal "$(count whole.db)" $texts "documents"
dump whole.db > whole.dump
expect 0 "$index" "$model" whole.db corpus.jsonl
says "^0 documents encoded; $texts were there already"
dump whole.db > again.dump
same whole.dump again.dump
equal "$(ls whole.db*)" whole.db "files of a store"
expect 0 "$index" whole.db --verify
expect 0 "$index" "$model" whole.db --verify
says "^$texts documents in $texts rows are whole"
expect 0 "$index" whole.db --info
says "^documents  *$texts"
expect 0 "$index" "$model" other-batch.db corpus.jsonl --batch 7 --threads 1
dump other-batch.db > again.dump
same whole.dump again.dump

# ---- killed at random moments ----
# Threads of awk's random numbers: each run of the test takes others, and says which.
seed=${KALM_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
# How long a run takes here, in thousandths of a second: moments lie between the start and that.
now() { date +%s%N | cut -c 1-13; }
started=$(now)
"$index" "$model" timed.db corpus.jsonl --batch 4 --quiet
span=$(($(now) - started))
dump timed.db > again.dump
same whole.dump again.dump
n=0 tries=0 round=0
rm -f killed.db*
while [ $n -lt "$kills" ] && [ $tries -lt $((kills * 5)) ]; do
    tries=$((tries + 1))
    "$index" "$model" killed.db corpus.jsonl --batch 4 --quiet 2> log &
    pid=$!
    sleep "$(awk -v seed=$((seed + tries)) -v span=$span 'BEGIN { srand(seed); printf "%.3f", rand() * span / 2500 }')"
    if kill -9 $pid 2> /dev/null; then n=$((n + 1)); fi
    wait $pid 2> /dev/null
    [ -s killed.db ] || continue
    # what is there is whole, in order, and a beginning of what shall be
    if [ "$(sqlite3 killed.db "PRAGMA integrity_check" 2>&1)" != ok ]; then bad "kill $n of seed $seed: the store is damaged"; fi
    if [ -n "$(sqlite3 killed.db "SELECT name FROM sqlite_master WHERE name = 'documents'")" ]; then
        there=$(sqlite3 killed.db "ATTACH 'whole.db' AS whole; SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM
            documents d JOIN whole.documents w USING (number, key, window, hash, document)), (SELECT coalesce(max(number), 0) FROM documents)")
        case $there in
        "${there%%|*}|${there%%|*}|${there%%|*}") ok ;;
        *) bad "kill $n of seed $seed: rows, equal rows, last number: $there" ;;
        esac
        if [ "${there%%|*}" -eq $texts ]; then   # done: kill the next round
            dump killed.db > again.dump
            same whole.dump again.dump
            rm -f killed.db*
            round=$((round + 1))
        fi
    fi
done
equal $n "$kills" "kills (seed $seed)"
# what a killed command left can be ranked as it is
"$index" "$model" killed.db first.jsonl --quiet
"$index" "$model" killed.db corpus.jsonl --batch 4 --quiet 2> log &
pid=$!
sleep "$(awk -v span=$span 'BEGIN { printf "%.3f", span / 3000 }')"
$rerank "$model" query --store killed.db --top-k 1 > log 2>&1
equal $? 0 "ranking while kalm-index writes"
kill -9 $pid 2> /dev/null
wait $pid 2> /dev/null
$rerank "$model" query --store killed.db --top-k 1 > log 2>&1
equal $? 0 "ranking after a kill"
expect 0 "$index" "$model" killed.db corpus.jsonl --batch 4
dump killed.db > again.dump
same whole.dump again.dump
expect 0 "$index" "$model" killed.db --verify
equal "$(ls killed.db*)" killed.db "files of a store after kills"
echo "killed $n times in $((round + 1)) rounds, seed $seed, $span ms a run"

# ---- killed while texts are split, replaced and merged ----
# What is there after a kill: no text lacks windows, and every row is one of these stores.
after_kill() {
    store=$1
    shift
    [ -s "$store" ] || { ok; return; }
    if [ "$(sqlite3 "$store" "PRAGMA integrity_check" 2>&1)" != ok ]; then bad "$what: the store is damaged"; return; fi
    [ -n "$(sqlite3 "$store" "SELECT name FROM sqlite_master WHERE name = 'documents'")" ] || { ok; return; }
    equal "$(sqlite3 "$store" "SELECT count(*) FROM (SELECT windows FROM documents GROUP BY key HAVING count(*) <> windows OR count(DISTINCT hash) <> 1)")" 0 "$what: texts without all their windows"
    dump "$store" > there.dump
    cat "$@" | sort > allowed.dump
    equal "$(sort there.dump | comm -23 - allowed.dump | wc -l)" 0 "$what: rows that nobody made"
}
# kill_and_finish NAME TIMES THOUSANDTHS STORE "ALLOWED..." COMMAND...: killed that often within that time, then run to its end
kill_and_finish() {
    what=$1 times=$2 within=$3 target=$4 allowed=$5
    shift 5
    k=0
    while [ $k -lt "$times" ]; do
        k=$((k + 1))
        "$@" 2> log &
        pid=$!
        sleep "$(awk -v seed=$((seed * 31 + k)) -v within=$within 'BEGIN { srand(seed); printf "%.3f", rand() * within / 1000 }')"
        kill -9 $pid 2> /dev/null
        wait $pid 2> /dev/null
        after_kill "$target" $allowed
    done
    expect 0 "$@"
    expect 0 "$index" "$target" --verify
    dump "$target" > again.dump
}
head -n 80 corpus.jsonl > eighty.jsonl
expect 0 "$index" "$model" split80.db eighty.jsonl --split 30 --overlap 5
dump split80.db > split80.dump
kill_and_finish "killed while splitting" 6 $((span / 2)) killed-split.db split80.dump \
    "$index" "$model" killed-split.db eighty.jsonl --split 30 --overlap 5 --batch 3 --quiet
same split80.dump again.dump
sed 's/"text": "/"text": "Changed. /' eighty.jsonl > changed80.jsonl
expect 0 "$index" "$model" changed80.db changed80.jsonl --split 30 --overlap 5
dump changed80.db > changed80.dump
cp split80.db killed-changed.db
kill_and_finish "killed while replacing" 6 $((span / 2)) killed-changed.db "split80.dump changed80.dump" \
    "$index" "$model" killed-changed.db changed80.jsonl --batch 3 --quiet
same changed80.dump again.dump
kill_and_finish "killed while merging" 6 60 killed-merge.db split80.dump "$index" killed-merge.db --merge split80.db --quiet
same split80.dump again.dump
cp killed-merge.db killed-delete.db
sqlite3 split80.db "SELECT DISTINCT key FROM documents" | sed 's/^/--delete=/' > keys
sort split80.dump > all.dump
k=0
while [ $k -lt 4 ]; do             # all or none
    k=$((k + 1))
    rm -f killed-delete.db*
    cp split80.db killed-delete.db
    "$index" killed-delete.db $(cat keys) 2> log &
    pid=$!
    sleep 0.0$k
    kill -9 $pid 2> /dev/null
    wait $pid 2> /dev/null
    left=$(sqlite3 killed-delete.db "SELECT count(*) FROM documents")
    if [ "$left" -eq 0 ] || [ "$left" -eq "$(wc -l < all.dump)" ]; then ok; else bad "$left rows are left of a deletion that was killed"; fi
done

# ---- a changed title is a changed text, changed metadata is not ----
printf '%s\n' '{"_id": "t", "title": "One", "text": "the same text"}' > title.jsonl
expect 0 "$index" "$model" title.db title.jsonl
dump title.db > title1.dump
printf '%s\n' '{"_id": "t", "title": "Two", "text": "the same text"}' > title.jsonl
expect 1 "$index" "$model" title.db title.jsonl --changed stop
says "the store has another text of the key 't'"
expect 0 "$index" "$model" title.db title.jsonl
says "^1 documents encoded.*; 1 of them replace another text"
equal "$(sqlite3 title.db "SELECT title FROM documents")" Two "the title that changed"
dump title.db > title2.dump
expect 0 "$index" "$model" title2.db title.jsonl
dump title2.db > again.dump
same title2.dump again.dump
if cmp -s title1.dump title2.dump; then bad "a changed title changes nothing"; else ok; fi
# the border between title and text counts
printf '%s\n' '{"_id": "t", "title": "Two the", "text": "same text"}' > title.jsonl
expect 0 "$index" "$model" title.db title.jsonl
says "1 of them replace another text"
printf '%s\n' '{"_id": "t", "title": "", "text": "Two the same text"}' > title.jsonl
expect 0 "$index" "$model" title.db title.jsonl
says "1 of them replace another text"

# ---- interrupted politely ----
"$index" "$model" polite.db corpus.jsonl --batch 4 --quiet 2> log &
pid=$!
sleep "$(awk -v span=$span 'BEGIN { printf "%.3f", span / 3000 }')"
kill -TERM $pid 2> /dev/null
wait $pid
case $? in
130) says "goes on from there\|interrupted" ;;
0) ok ;;                               # it was faster
*) bad "status after SIGTERM" ;;
esac
expect 0 "$index" "$model" polite.db corpus.jsonl
dump polite.db > again.dump
same whole.dump again.dump

# ---- two at once ----
"$index" "$model" both.db corpus.jsonl --batch 4 --quiet 2> log1 &
pid=$!
sleep 0.1
"$index" "$model" both.db corpus.jsonl --batch 8 --quiet 2> log
equal $? 0 "status of the second of two"
wait $pid
equal $? 0 "status of the first of two"
dump both.db > again.dump
same whole.dump again.dump

# ---- append and merge ----
sed -n '15,40p' corpus.jsonl > second.jsonl
head -n 40 corpus.jsonl > forty.jsonl
expect 0 "$index" "$model" forty.db forty.jsonl
dump forty.db > forty.dump
expect 0 "$index" "$model" append.db first.jsonl
expect 0 "$index" "$model" append.db second.jsonl
says "^20 documents encoded.*; 6 were there already"
dump append.db > again.dump
same forty.dump again.dump
expect 0 "$index" "$model" shard1.db first.jsonl
expect 0 "$index" "$model" shard2.db second.jsonl
expect 0 "$index" merged.db --merge shard1.db shard2.db
dump merged.db > again.dump
same forty.dump again.dump
expect 0 "$index" merged.db --merge shard1.db --merge shard2.db
says "^0 rows added"
dump merged.db > again.dump
same forty.dump again.dump
expect 0 "$index" "$model" merged.db --verify
expect 0 "$index" "$model" ratio8.db first.jsonl --ratio 8
expect 1 "$index" shard1.db --merge ratio8.db
says "shard1.db has ratio 4, ratio8.db has 8"
expect 0 "$index" "$model" bits8.db first.jsonl --bits 8
expect 1 "$index" shard1.db --merge bits8.db
says "shard1.db has bits 16, bits8.db has 8"
expect 1 "$index" shard1.db --merge missing.db
says "there is no store missing.db"
[ ! -e missing.db ] && ok || bad "missing.db was made"

# what --verify would refuse in the store that it comes to is not merged
head -n 4 corpus.jsonl > four.jsonl
expect 0 "$index" "$model" split4.db four.jsonl --split 12 --overlap 2
for sql in "UPDATE documents SET tokens = tokens + 1 WHERE number = 2" "UPDATE documents SET text = text || 'x' WHERE number = 2" \
    "UPDATE documents SET key = 'z' WHERE number = 2" "UPDATE documents SET start = start + 1 WHERE number = 2" "DELETE FROM documents WHERE window = 0 AND number = 1" \
    "UPDATE documents SET windows = windows + 1 WHERE number = 2" "DELETE FROM documents WHERE number = (SELECT max(number) FROM documents)"; do
    cp split4.db bent.db
    sqlite3 bent.db "$sql"
    rm -f into.db
    expect 1 "$index" into.db --merge bent.db
    says "kalm-index: bent.db: "
    expect 1 "$index" bent.db --verify
done
cp split4.db bent.db
sqlite3 bent.db "UPDATE documents SET number = number + 1000 WHERE number > (SELECT max(number) FROM documents WHERE key = (SELECT key FROM documents WHERE number = 1));
    UPDATE documents SET windows = windows + 1 WHERE key = (SELECT key FROM documents WHERE number = 1);
    INSERT INTO documents SELECT windows, key, windows - 1, windows, start, hash, tokens, tokens_used, title, text, metadata, document FROM documents WHERE number = 1"
expect 1 "$index" split4.db --merge bent.db
says "split4.db and bent.db have different texts of the key"
expect 0 "$index" "$model" split4.db --verify
expect 0 "$index" "$model" overlap3.db four.jsonl --split 12 --overlap 3
expect 1 "$index" overlap3.db --merge split4.db
says "overlap3.db has overlap 3, split4.db has 2"

# ---- a changed text ----
sed 's/"text": "/"text": "Changed. /' first.jsonl | head -n 3 > changed.jsonl
expect 1 "$index" "$model" append.db changed.jsonl --changed stop
says "changed.jsonl:1: the store has another text of the key 'elpa-a'"
expect 0 "$index" "$model" append.db changed.jsonl --changed keep
says "^0 documents encoded; 3 have changed and were kept"
dump append.db > again.dump
same forty.dump again.dump
expect 0 "$index" "$model" append.db changed.jsonl
says "^3 documents encoded.*; 3 of them replace another text"
equal "$(count append.db)" 40 "documents after a change"
equal "$(sqlite3 append.db "SELECT count(*) FROM documents WHERE text LIKE 'Changed. %'")" 3 "changed texts"
expect 1 "$index" append.db --merge shard1.db
says "different texts of the key"
expect 0 "$index" "$model" append.db forty.jsonl
dump append.db > again.dump
same forty.dump again.dump
sed 's/^{/{"url": "u", /' first.jsonl | head -n 2 > meta.jsonl
expect 0 "$index" "$model" append.db meta.jsonl
says "^0 documents encoded; 2 were there already, 2 of them with new metadata"
equal "$(sqlite3 append.db "SELECT json_extract(metadata, '\$.url') FROM documents WHERE key = 'a56'")" u "new metadata"

# ---- two keys, and two texts, with one kalm__hash (of tests/same_hash.py): none passes for the other ----
one='key.one.........................................................' other='key.other...........................................suka~r!1,rX4'
printf '{"_id": "%s", "text": "the same words"}\n{"_id": "%s", "text": "the same words"}\n' "$one" "$other" > keys.jsonl
expect 0 "$index" "$model" keys.db keys.jsonl
says "^2 documents encoded"
expect 0 "$index" "$model" keys.db keys.jsonl
says "^0 documents encoded; 2 were there already"
begun='nine words of text are enough for two small windows, and the rest of it, which is a little longer than it need be, is '
dots='......................................................................'
one="${begun}one $dots" other="${begun}other ........................................................ajdaAda.6Vh2"
for split in 0 12; do
    rm -f ./text*.db
    for which in one other; do
        eval "text=\$$which"
        printf '{"_id": "a", "text": "%s"}\n' "$text" > text.jsonl
        expect 0 "$index" "$model" text-$which.db text.jsonl --split $split
        expect 0 "$index" "$model" text.db text.jsonl --split $split
        says "^1 documents encoded"
        expect 0 "$index" "$model" text.db text.jsonl --split $split
        says "^0 documents encoded.*; 1 were there already"
        equal "$("$index" text.db --export a)" "{\"_id\": \"a\", \"text\": \"$text\"}" "what the store has of the $which text"
    done
    equal "$(sqlite3 text-one.db "SELECT hash FROM documents LIMIT 1")" "$(sqlite3 text-other.db "SELECT hash FROM documents LIMIT 1")" "the hash of two texts"
    expect 1 "$index" text-one.db --merge text-other.db
    says "different texts of the key 'a'; nothing of text-other.db was added"
    expect 0 "$index" text.db --merge text-other.db
done
if [ "$(sqlite3 text.db "SELECT count(*) FROM documents")" -gt 2 ]; then ok; else bad "the text has no windows"; fi
expect 1 "$index" "$model" text-one.db text.jsonl --changed stop
says "the store has another text of the key 'a'"
printf '{"_id": "a", "text": "%s"}\n{"_id": "a", "text": "%s"}\n' "$one" "$other" > twice.jsonl
expect 3 "$index" "$model" twice.db twice.jsonl
says "twice.jsonl:2: the key 'a' came before with another text"
for title in "$one" "$other"; do
    printf '{"_id": "a", "title": "%s", "text": "x"}\n' "$title" > title.jsonl
    expect 0 "$index" "$model" titles.db title.jsonl
    says "^1 documents encoded"
done
printf '{"_id": "a", "title": "%s", "text": ""}\n' "$one" > text.jsonl       # of the same bytes, on the other side of the bound
expect 0 "$index" "$model" text-one.db text.jsonl --changed keep
says "1 have changed"

# ---- delete and export ----
expect 1 "$index" merged.db --delete a56 --delete nothing
says "no document 'nothing'; nothing was deleted"
expect 0 "$index" merged.db --delete a56
equal "$(count merged.db)" 39 "documents after deleting"
expect 1 "$index" merged.db --export a56
expect 0 "$index" "$model" merged.db forty.jsonl
says "^1 documents encoded"
dump merged.db > again.dump
same forty.dump again.dump
for key in $(sqlite3 forty.db "SELECT key FROM documents ORDER BY number"); do "$index" forty.db --export "$key"; done > exported.jsonl
expect 0 "$index" "$model" exported.db exported.jsonl
dump exported.db > again.dump
same forty.dump again.dump
"$index" forty.db --export a56 --bytes > a56.bytes
equal "$(od -An -tx1 -v a56.bytes | tr -d ' \n' | tr a-f A-F)" "$(sqlite3 forty.db "SELECT hex(document) FROM documents WHERE key = 'a56'")" "bytes"

# ---- readers: the same three documents in every format ----
printf '%s\n' '{"_id": "a", "text": "The first text.", "title": "", "year": 1999, "tags": ["x", {"y": null}]}' '' \
    '{"id": 7, "text": "Der zweite, sch\u00f6n lang \ud83d\ude00", "title": "Two"}' '{"_id": "c", "text": "third\u2028text"}' > d.jsonl
printf 'a\tThe first text.\r\n7\tTwo Der zweite, sch\303\266n lang \360\237\230\200\nc\tthird\342\200\250text' > d.tsv
printf '\357\273\277text\ttitle\t_id\tyear\nThe first text.\t\ta\t1999\nDer zweite, sch\303\266n lang \360\237\230\200\tTwo\t7\t2000\nthird\342\200\250text\t\tc\t\n' > named.tsv
cut -f 2 d.tsv > d.txt
mkdir -p folder/sub folder/.hidden
printf 'The first text.' > folder/a
printf 'Two Der zweite, sch\303\266n lang \360\237\230\200' > folder/sub/7.txt
printf 'third\342\200\250text' > folder/c.md
echo hidden > folder/.hidden/x
documents() { sqlite3 "$1" "SELECT tokens, hex(document) FROM documents ORDER BY number"; }
expect 0 "$index" "$model" r1.db d.jsonl
says "^3 documents encoded"
documents r1.db > r1
equal "$(sqlite3 r1.db "SELECT key || '=' || title || '=' || metadata FROM documents ORDER BY number" | tr '\n' ' ')" \
    'a=={"year":1999,"tags":["x",{"y":null}]} 7=Two={} c=={} ' "keys, titles, metadata"
expect 0 "$index" "$model" r2.db d.tsv
documents r2.db > r2
same r1 r2
expect 0 "$index" "$model" r3.db named.tsv
documents r3.db > r2
same r1 r2
equal "$(sqlite3 r3.db "SELECT key || '=' || title || '=' || metadata FROM documents ORDER BY number" | tr '\n' ' ')" \
    'a=={"year":"1999"} 7=Two={"year":"2000"} c=={"year":""} ' "keys, titles, metadata"
expect 0 "$index" "$model" r4.db d.txt --format lines
# as the help, README and docs/DOCUMENTS.md say: one document here, one in each line for kalm-rerank and --format lines
expect 0 "$index" "$model" plain.db d.txt
equal "$(count plain.db)|$(count r4.db)|$($rerank "$model" x --documents d.txt --json | grep -c '"rank"')" "1|$(count r4.db)|$(count r4.db)" "plain text"
documents r4.db > r2
same r1 r2
equal "$(sqlite3 r4.db "SELECT key FROM documents ORDER BY number" | tr '\n' ' ')" 'd.txt:1 d.txt:2 d.txt:3 ' "keys of lines"
expect 0 "$index" "$model" r5.db folder
equal "$(sqlite3 r5.db "SELECT key FROM documents ORDER BY number" | tr '\n' ' ')" 'a c.md sub/7.txt ' "keys of files"
documents r5.db | sort > r2
sort r1 > r3
same r3 r2
expect 0 "$index" "$model" r6.db folder/a folder/sub/7.txt folder/c.md
documents r6.db > r2
same r1 r2
"$index" "$model" r7.db < d.jsonl > log 2>&1
equal $? 0 "standard input, JSON Lines"
documents r7.db > r2
same r1 r2
cat d.tsv | "$index" "$model" r8.db - > log 2>&1
equal $? 0 "standard input, TSV"
documents r8.db > r2
same r1 r2
# another store, with windows: encoded again, and the same as from the first
expect 0 "$index" "$model" r10.db forty.db --ratio 2 --split 40 --overlap 10
expect 0 "$index" "$model" r11.db r10.db
says "^40 documents encoded"
dump r11.db > again.dump
same forty.dump again.dump
expect 0 "$index" "$model" r9.db folder --format lines
equal "$(count r9.db)" 3 "lines of a folder"
expect 1 "$index" "$model" no.db missing.jsonl
says "cannot read missing.jsonl"
[ ! -e no.db ] && ok || bad "no.db was made"
echo 'no tab here' | "$index" "$model" no.db > log 2>&1
equal $? 1 "a first line of no format"
says "say --format"

# forms that are not one object a line, and encodings
printf '[\n  {"_id": "a", "text": "one"},\n  {"_id": 7, "text": "two"}\n]\n' > array.json
expect 0 "$index" "$model" r12.db array.json
equal "$(sqlite3 r12.db "SELECT key FROM documents ORDER BY number" | tr '\n' ' ')" 'a 7 ' "keys of an array"
if command -v iconv > /dev/null; then
    iconv -f UTF-8 -t UTF-16 d.jsonl > u16.jsonl
    expect 0 "$index" "$model" r13.db u16.jsonl
    documents r13.db > r2
    same r1 r2
    iconv -f UTF-8 -t UTF-16BE d.tsv > u16.tsv
    expect 0 "$index" "$model" r14.db u16.tsv
    documents r14.db > r2
    same r1 r2
fi
# "id" beside "_id" is metadata, and comes back
echo '{"id": 5, "_id": "k", "text": "one", "x": null}' > both.jsonl
expect 0 "$index" "$model" r15.db both.jsonl
equal "$(sqlite3 r15.db "SELECT key || '=' || metadata FROM documents")" 'k={"id":5,"x":null}' "id beside _id"
expect 0 "$index" r15.db --export k
says '^{"_id": "k", "text": "one", "id":5,"x":null}$'
printf 'docid\tcontents\nk\tone\n' > named2.tsv
expect 0 "$index" "$model" r16.db named2.tsv
equal "$(sqlite3 r16.db "SELECT key || '=' || text FROM documents")" 'k=one' "columns by other names"
# CSV: the same texts as those of d.tsv; where no column is a key it is FILE:LINE, and a row may go over lines
printf '_id,title,text,year\r\na,,The first text.,1999\r\n7,Two,"Der zweite, sch\303\266n lang \360\237\230\200",2000\r\nc,,"third\342\200\250text",\r\n' > named.csv
expect 0 "$index" "$model" r20.db named.csv
documents r20.db > r2
same r1 r2
equal "$(sqlite3 r20.db "SELECT key || '=' || title || '=' || metadata FROM documents ORDER BY number" | tr '\n' ' ')" \
    'a=={"year":"1999"} 7=Two={"year":"2000"} c=={"year":""} ' "keys, titles, metadata of CSV"
printf 'text,n\none,1\n"two\n""2""",2\nthree,3\n' > unnamed.csv
expect 0 "$index" "$model" r21.db unnamed.csv
equal "$(sqlite3 r21.db "SELECT key || '=' || replace(text, char(10), '/') || json_extract(metadata, '\$.n') FROM documents ORDER BY number" | tr '\n' ' ')" \
    'unnamed.csv:2=one1 unnamed.csv:3=two/"2"2 unnamed.csv:5=three3 ' "CSV without a key"
printf '<!DOCTYPE html>\n<p>one</p>\n' > page.html
expect 3 "$index" "$model" r22.db - < page.html
says "^standard input: is a page of HTML"
printf 'id\turl\twords\nk\tu\tone\n' > named3.tsv
expect 3 "$index" "$model" r17.db named3.tsv
says "^named3.tsv:1: the first line names columns, but none of them is the text"
# the store in its own folder is no input, nor is what SQLite keeps beside it
mkdir self
echo one > self/a
expect 0 "$index" "$model" self/s.db self
: > self/s.db-journal
expect 0 "$index" "$model" self/s.db self
says "^0 documents encoded; 1 were there already$"
expect 0 "$index" "$model" ./self/../self/s.db self
equal "$(sqlite3 self/s.db "SELECT key FROM documents" | tr '\n' ' ')" 'a ' "keys of a folder with the store in it"
expect 2 "$index" "$model" self/s.db ./self/s.db
says "is named both as input and as the store"
expect 2 "$index" "$model" self/s.db ""
says "the name of an input is empty"
# a folder of which nothing can be read, since its paths become too long: no file is left to be sorted
deep=deep long=$(printf '%0250d' 0)
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do deep=$deep/$long; done
mkdir -p "$deep"
expect 3 "$index" "$model" deep.db deep
says 'cannot be looked at: File name too long$'
rm -r deep
gzip -c d.jsonl > d.jsonl.gz
cp d.jsonl.gz zipped.jsonl
expect 3 "$index" "$model" r18.db zipped.jsonl d.jsonl
says "^zipped.jsonl: is compressed by gzip"
equal "$(count r18.db)" 3 "documents beside a compressed file"
if [ "$(id -u)" -ne 0 ]; then
    mkdir self/closed
    echo two > self/secret
    chmod 0 self/closed self/secret
    expect 3 "$index" "$model" self/s.db self
    says "^self/closed: the folder cannot be read"
    says "^self/secret: Permission denied"
    chmod 700 self/closed self/secret
fi

# ---- bad input ----
printf '%s\n' '{"_id": "a", "text": "one"}' '{"_id": "b", "text": }' '{"text": "no id"}' '{"_id": "c"}' '["d"]' \
    '{"_id": "", "text": "x"}' '{"_id": "e", "text": ""}' '{"_id": "a", "text": "other"}' '{"_id": "a", "text": "one"}' \
    '{"_id": "f", "text": "\u0000"}' '{"_id": "g", "text": 5}' '{"_id": "z", "text": "last"}' > bad.jsonl
expect 3 "$index" "$model" bad.db bad.jsonl
says "^bad.jsonl:2: column 22: "
says "^bad.jsonl:3: .*_id"
says "^bad.jsonl:4: .*text"
says "^bad.jsonl:5: an object"
says "^bad.jsonl:6: the key is empty"
says "^bad.jsonl:7: the text is empty"
says "^bad.jsonl:8: the key 'a' came before with another text"
says "^bad.jsonl:10: byte 0 of the text is NUL"
says "^bad.jsonl:11: "
says "2 documents encoded.*; 1 were there already; 9 pieces of bad input"
equal "$(sqlite3 bad.db "SELECT key FROM documents ORDER BY number" | tr '\n' ' ')" 'a z ' "what was good"
expect 1 "$index" "$model" strict.db bad.jsonl --strict
says "^bad.jsonl:2: "
equal "$(count strict.db)" 1 "what stood before the bad line"
printf 'a\tone\nb\ttwo\tthree\nc\t\377\n' > bad.tsv
expect 3 "$index" "$model" bad.db bad.tsv
says "^bad.tsv:2: 3 columns"
says "^bad.tsv:3: byte 0 of the text is not UTF-8"
printf 'x\0y' > folder/binary
expect 3 "$index" "$model" r5.db folder
says "^folder/binary: byte 1 of the text is NUL"
rm folder/binary

# ---- a model of any name: the store that is made with it can be read ----
for name in "$(printf 'two\nlines \033[31m')" "$(printf '%.0s\303\251' $(seq 100))" "x$(printf '%.0s\303\251' $(seq 100))"; do
    rm -f name.db*
    expect 0 "$build/kalm-quantize" "$root/examples/tiny" name.kalm --name "$name" --no-rows --quiet
    expect 0 "$index" name.kalm name.db forty.jsonl --quiet
    expect 0 "$index" name.kalm name.db --verify
    expect 0 $rerank name.kalm query --store name.db
    expect 0 "$index" name.db --info
    if grep -q "$(printf '\033')" log; then bad "a control character of a name"; else ok; fi
done
expect 2 "$index" name.kalm name.db --states 1 --instruction "$(printf '\377')"
says "the instruction is not UTF-8"

# ---- another model, another setting, no store ----
expect 0 "$build/kalm-quantize" "$root/examples/tiny" other.kalm --weights f32 --name tiny-f32 --no-rows
expect 1 "$index" other.kalm forty.db forty.jsonl
says "forty.db holds documents of the model tiny (q8, fingerprint [0-9a-f]*), other.kalm is tiny-f32 (f32, fingerprint [0-9a-f]*)"
expect 1 $rerank other.kalm query --store forty.db
says "forty.db holds documents of the model tiny "
expect 1 "$index" "$model" forty.db forty.jsonl --ratio 8
says "forty.db was made with --ratio 4, not 8"
expect 1 "$index" "$model" forty.db forty.jsonl --bits 32
says "forty.db was made with --bits 16, not 32"
expect 1 "$index" "$model" forty.db forty.jsonl --max-doc-tokens 77
says "forty.db was made with --max-doc-tokens 1024, not 77"
expect 0 "$index" "$model" forty.db forty.jsonl --ratio 4 --bits 16
expect 1 "$index" forty.db --merge other.kalm
# ---- rows of 2 bits: of one model file, not of another with the same weights ----
# A small random model, since fitting takes seconds with the bundled one; 64 texts are the fewest that rows are fitted to.
expect 0 "$build/kalm-random-checkpoint" hidden=64 mlp=96 layers=2 heads=2 kv_heads=1 head_dim=32 window=8 vocabulary=8192 --quiet fit
cp "$root/examples/tiny/tokenizer.json" fit/
cat forty.jsonl forty.jsonl | head -n 64 | sed 's/\("text": "[^"\\]\{1,60\}\).*/\1"}/' > few.jsonl
fitted() { expect 0 "$build/kalm-quantize" fit "$@" --weights f32 --name fit --quiet; }
fitted plain.kalm
fitted fitted.kalm --calibrate few.jsonl
fitted norows.kalm --no-rows
head -n 10 forty.jsonl > ten.jsonl
sed -n '11,20p' forty.jsonl > next.jsonl
expect 0 "$index" plain.kalm two.db ten.jsonl --bits 2
expect 0 "$index" two.db --info
says "^transform  *[0-9a-f]\{16\}$"
expect 0 "$index" plain.kalm two.db next.jsonl
expect 0 "$index" plain.kalm two.db --verify
expect 0 $rerank plain.kalm query --store two.db
for wrong in fitted norows; do
    expect 1 "$index" $wrong.kalm two.db corpus.jsonl
    says "two.db holds rows of 2 bits that were made with transform [0-9a-f]*, $wrong.kalm has"
    expect 1 $rerank $wrong.kalm query --store two.db
    says "$wrong.kalm has"
    expect 1 "$index" $wrong.kalm two.db --verify
    says "$wrong.kalm has"
done
equal "$(count two.db)" 20 "documents of rows of 2 bits"
expect 1 "$index" norows.kalm three.db ten.jsonl --bits 3
says "rows of 3 bits need a model file with the section ROWS"
expect 0 "$index" fitted.kalm fitted.db next.jsonl --bits 2
expect 1 "$index" two.db --merge fitted.db
says "two.db holds rows that were made with transform [0-9a-f]*, fitted.db those of"
expect 0 "$index" plain.kalm same.db corpus.jsonl --bits 2
expect 0 "$index" two.db --merge same.db
expect 0 "$index" plain.kalm two.db --verify
# a document with another transform inside of the store, and a store that says nothing of its own
sqlite3 two.db "ATTACH 'fitted.db' AS f; UPDATE documents SET document = (SELECT f.documents.document FROM f.documents WHERE f.documents.key = main.documents.key) WHERE key IN (SELECT key FROM f.documents)"
expect 1 "$index" two.db --verify
says "its rows were made with transform [0-9a-f]*, those of the store with"
rm -f into.db
expect 1 "$index" into.db --merge two.db
says "its rows were made with transform"
expect 1 $rerank plain.kalm query --store two.db
says "made with transform"
for change in "DELETE FROM meta WHERE name = 'transform'" "UPDATE meta SET value = 'x' WHERE name = 'transform'" "UPDATE meta SET value = 16 WHERE name = 'bits'" \
    "UPDATE meta SET value = 5 WHERE name = 'transform'"; do
    cp same.db hurt.db
    sqlite3 hurt.db "$change"
    for use in "$index hurt.db --info" "$index plain.kalm hurt.db first.jsonl" "$rerank plain.kalm query --store hurt.db"; do
        expect 1 $use
        says "transform in its table meta is"
    done
done
expect 1 "$index" "$model" corpus.jsonl forty.jsonl
says "not a database"
expect 2 "$index" "$model" forty.db forty.db
sqlite3 foreign.db "CREATE TABLE t (a)"
expect 1 "$index" "$model" foreign.db forty.jsonl
says "foreign.db is a database, but no store of kalm-index"
cp forty.db future.db
sqlite3 future.db "PRAGMA user_version = 2"
expect 1 "$index" "$model" future.db forty.jsonl
says "future.db is a store of version 2, this program reads 1"
expect 2 "$index" "$model"
for bits in 9 0 33 -4 x ''; do
    expect 2 "$index" "$model" x.db --bits "$bits" forty.jsonl
    says "--bits must be one of 32|16|8|4|3|2, not '$bits'"
done
expect 2 "$index" "$model" x.db --split 5 --overlap 5 forty.jsonl

# ---- strangers' stores: refused by name, at once, by every command that reads one ----
# hostile SAYS SQL...: forty.db after the statements is refused with those words, whatever is asked of it
hostile() {
    words=$1
    shift
    rm -f hostile.db
    cp forty.db hostile.db
    for sql in "$@"; do sqlite3 hostile.db "$sql" > /dev/null 2> log || bad "sqlite3: $sql"; done
    for use in "$index hostile.db --info" "$index hostile.db --verify" "$index hostile.db --delete a56" "$index hostile.db --export a56" \
        "$index into.db --merge hostile.db" "$index hostile.db --merge shard1.db" "$rerank $model query --store hostile.db" \
        "$index $model hostile.db forty.jsonl" "$index $model from.db hostile.db"; do
        rm -f into.db from.db
        timeout 20 $use > log 2>&1
        got=$?
        if [ $got -eq 1 ] && grep -q -e "^kalm-[a-z]*: hostile.db.*$words" log; then ok; else bad "status $got, '$words' is not said: $use"; fi
    done
}
# hostile_row SAYS SQL: the same for a row that only those see who read it: some say so, none does as if nothing were
hostile_row() {
    words=$1
    rm -f hostile.db
    cp forty.db hostile.db
    sqlite3 hostile.db "$2" > /dev/null 2> log || bad "sqlite3: $2"
    for use in "$index hostile.db --verify" "$index into.db --merge hostile.db"; do
        rm -f into.db
        timeout 20 $use > log 2>&1
        got=$?
        if [ $got -eq 1 ] && grep -q -e "hostile.db: row .*$words" log; then ok; else bad "status $got, '$words' is not said: $use"; fi
    done
    timeout 20 $rerank "$model" query --store hostile.db > log 2>&1
    [ $? -le 1 ] && ok || bad "ranking: $2"
}
endless='WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x'
hostile "its table meta: windows would not go on\|overlap in its table meta is 10, and split 10" "UPDATE meta SET value = 10 WHERE name IN ('split', 'overlap')"
hostile "overlap in its table meta is 6, and split 5" "UPDATE meta SET value = 5 WHERE name = 'split'" "UPDATE meta SET value = 6 WHERE name = 'overlap'"
hostile "overlap in its table meta is no whole number" "UPDATE meta SET value = 3 WHERE name = 'split'" "UPDATE meta SET value = 4294967290 WHERE name = 'overlap'"
hostile "overlap in its table meta is 4, and split 0" "UPDATE meta SET value = 4 WHERE name = 'overlap'"
hostile "split in its table meta is 2000, more than max_doc_tokens" "UPDATE meta SET value = 2000 WHERE name = 'split'"
for name in width ratio max_doc_tokens bits; do
    for value in 0 -1 4294967297 9223372036854775807 1.5 "'4'" "x'04'" 1e300; do
        hostile "$name in its table meta is no whole number" "UPDATE meta SET value = $value WHERE name = '$name'"
        [ $name = width ] || break     # the kinds of values once, the names each
    done
done
hostile "bits in its table meta is not" "UPDATE meta SET value = 12 WHERE name = 'bits'"
hostile "its table meta is not whole" "DELETE FROM meta WHERE name = 'ratio'"
hostile "the fingerprint in its table meta is none" "UPDATE meta SET value = '0123456789ABCDEF' WHERE name = 'fingerprint'"
hostile "fingerprint in its table meta is too long" "UPDATE meta SET value = '0123456789abcdef0' WHERE name = 'fingerprint'"
hostile "model in its table meta has a control character" "UPDATE meta SET value = 'a' || char(27) || '[31m' WHERE name = 'model'"
hostile "model in its table meta is no text" "UPDATE meta SET value = x'ff' WHERE name = 'model'"
hostile "model in its table meta is too long or no UTF-8" "UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE name = 'model'"
hostile "its number is 0, which is not from 1" "UPDATE documents SET number = 0 WHERE number = 1"
hostile "its number is -5, which is not from 1" "UPDATE documents SET number = -5 WHERE number = 1"
hostile "its number is 9223372036854775807" "UPDATE documents SET number = 9223372036854775807 WHERE number = 40"
hostile "has a table 'd0'\|has a view 'documents'" "ALTER TABLE documents RENAME TO d0" "CREATE VIEW documents AS $endless AS number, 'k' || x AS key, 0 AS window, 1 AS windows,
    0 AS start, 'h' AS hash, 3 AS tokens, 3 AS tokens_used, '' AS title, 't' AS text, '{}' AS metadata, x'00' AS document FROM c"
hostile "has a view 'v'" "CREATE VIEW v AS $endless FROM c"
hostile "has a trigger 't'" "CREATE TRIGGER t AFTER INSERT ON documents BEGIN DELETE FROM documents; END"
hostile "has a trigger 't'" "CREATE TRIGGER t BEFORE DELETE ON documents BEGIN SELECT RAISE(IGNORE); END"
hostile "has an index 'i'" "CREATE INDEX i ON documents (title)"
hostile "has a table 'more'" "CREATE TABLE more (a)"
hostile "has a table 'f'" "CREATE VIRTUAL TABLE f USING fts5(a)"
hostile "its table documents is not as kalm-index makes it" "ALTER TABLE documents ADD COLUMN extra"
hostile "its table documents is not as kalm-index makes it" "ALTER TABLE documents ADD COLUMN made GENERATED ALWAYS AS (length(text)) VIRTUAL"
hostile "its table documents is not as kalm-index makes it" "ALTER TABLE documents RENAME COLUMN title TO heading"
hostile "its table documents is not as kalm-index makes it" "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, 'title       TEXT', 'title TEXT COLLATE NOCASE') WHERE name = 'documents'"
# what is written as ours is, and read by SQLite in another way: code behind a quoted "--", types that have swallowed the next words
for change in "'TEXT NOT NULL,         -- unique', 'TEXT \"--\" CHECK (length(zeroblob(1000000000)) > 0)' || char(10) || 'NOT NULL, -- unique'" \
    "'TEXT NOT NULL,         -- unique', 'TEXT \"--\" COLLATE NOCASE' || char(10) || 'NOT NULL, -- unique'" "'TEXT NOT NULL,         -- JSON', 'TEXTNOTNULL, -- JSON'" \
    "'INTEGER PRIMARY KEY,', 'INTEGERPRIMARYKEY,'" "'title ', '\"title--' || char(10) || '\"'"; do
    hostile "its table documents is not as kalm-index makes it\|malformed" "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = replace(sql, $change) WHERE name = 'documents'"
done
hostile "its tables are not there" "DROP TABLE documents"
hostile_row "its key is no text" "UPDATE documents SET key = CAST('a56' AS BLOB) WHERE number = 2"
hostile_row "its key is empty" "UPDATE documents SET key = '' WHERE number = 2"
hostile_row "its title is not UTF-8\|byte 0 of its title is not UTF-8" "UPDATE documents SET title = CAST(x'ff' AS TEXT) WHERE number = 2"
hostile_row "byte 1 of its text is NUL" "UPDATE documents SET text = 'a' || char(0) || 'b' WHERE number = 2"
hostile_row "the document is damaged: it is kept as another type" "UPDATE documents SET document = 'text' WHERE number = 2"
hostile_row "are no encoded document" "UPDATE documents SET document = x'' WHERE number = 2"
hostile_row "its hash is none" "UPDATE documents SET hash = upper(hash) || 'X' WHERE number = 2"
hostile_row "its window is 1, which is not from 0 to 0" "UPDATE documents SET window = 1 WHERE number = 2"
hostile_row "its windows is 0, which is not" "UPDATE documents SET windows = 0 WHERE number = 2"
hostile_row "a window, in a store of texts that are not split" "UPDATE documents SET windows = 2 WHERE number = 2"
hostile_row "its start is -1" "UPDATE documents SET start = -1 WHERE number = 2"
hostile_row "its tokens_used is 4000000000" "UPDATE documents SET tokens_used = 4000000000 WHERE number = 2"
hostile_row "its tokens is no whole number" "UPDATE documents SET tokens = 'many' WHERE number = 2"
hostile_row "its metadata is no JSON object" "UPDATE documents SET metadata = '{\"a\": 1}, \"score\": 5' WHERE number = 2"
for metadata in '[]' 12 '""'; do
    hostile_row "its metadata is no JSON object" "UPDATE documents SET metadata = '$metadata' WHERE number = 2"
done
hostile "lacks some of the tables of kalm-search" "CREATE TABLE search_sources (path BLOB PRIMARY KEY NOT NULL) WITHOUT ROWID"
rm -f hostile.db
cp forty.db hostile.db
sqlite3 hostile.db "ANALYZE"
expect 0 "$index" hostile.db --info
printf '%s' "" > empty.db
expect 1 "$index" empty.db --info
says "empty.db is empty: no store yet"
expect 2 "$index" "" --info
says "the name of the store is empty"
expect 2 "$index" "$model" "" forty.jsonl
says "the name of the store is empty"
expect 0 "$index" "$model" :memory: first.jsonl
[ -s :memory: ] && ok || bad ":memory: is no file"
mkfifo pipe.db
expect 1 timeout 5 "$index" pipe.db --info
says "pipe.db is no regular file"
expect 1 timeout 5 $rerank "$model" query --store pipe.db
says "pipe.db is no regular file"
expect 1 "$index" "$model" folder.db/ forty.jsonl
expect 1 "$index" . --info
says "is a folder, no store"

# ---- signals end every command within a tenth of a second (here half a second, machines are loaded) ----
# signalled COMMAND...: after 0.2 s of it
signalled() {
    "$@" > log 2>&1 &
    pid=$!
    sleep 0.2
    before=$(now)
    kill -TERM $pid 2> /dev/null
    wait $pid
    got=$?
    took=$(($(now) - before))
    # 143: it had not begun
    if [ $got -eq 130 ] || [ $got -eq 143 ] || [ $got -eq 0 ]; then ok; else bad "status $got after SIGTERM: $*"; fi
    if [ $took -lt 500 ]; then ok; else bad "$took ms from SIGTERM to the end: $*"; fi
}
sqlite3 forty.db "SELECT 1" > /dev/null
cp forty.db locked.db
(sleep 3 | sqlite3 -cmd "BEGIN EXCLUSIVE" locked.db) &
locker=$!
sleep 0.3
signalled "$index" locked.db --info
signalled "$index" locked.db --delete a56
signalled "$index" "$model" locked.db corpus.jsonl
signalled "$index" locked.db --merge shard1.db
kill $locker 2> /dev/null
wait $locker 2> /dev/null
for use in "$index $model waiting.db -" "$rerank $model query"; do
    sleep 2 > pipe.db &
    signalled sh -c "exec $use < pipe.db"
done

# ---- damage is found ----
cp forty.db damaged.db
sqlite3 damaged.db "UPDATE documents SET document = substr(document, 1, 100) || x'ffff' || substr(document, 103) WHERE key = 'a56'"
expect 1 "$index" "$model" damaged.db --verify
says "row 2, 'a56': the document is damaged"
expect 1 "$index" damaged.db --verify
says "row 2, 'a56': the document is damaged"
expect 1 $rerank "$model" query --store damaged.db
says "row 2: the document is damaged"
# documents of the same length that changed places are whole: only --again finds them, at 2 bits as at 16
for bits in 2 16; do
    rm -f swapped.db
    printf 'x\tthe chess game\ny\tthe photo game\nz\tthe sound game\n' > three.tsv
    expect 0 "$index" "$model" swapped.db three.tsv --bits $bits --ratio 1
    expect 0 "$index" "$model" swapped.db --verify --again
    sqlite3 swapped.db "CREATE TEMP TABLE t AS SELECT * FROM documents; UPDATE documents SET document = (SELECT document FROM t WHERE t.number = 3 - documents.number) WHERE number < 3"
    expect 0 "$index" "$model" swapped.db --verify
    expect 1 "$index" "$model" swapped.db --verify --again
    says "row 1, 'x': its document is not what its text gives"
    says "row 2, 'y': its document is not what its text gives"
    says "2 of the 3 rows of swapped.db are damaged"
done
expect 2 "$index" swapped.db --verify --again
expect 2 "$index" "$model" swapped.db --again
cp forty.db damaged.db
sqlite3 damaged.db "UPDATE documents SET text = text || '.' WHERE key = 'a56'"
expect 1 "$index" "$model" damaged.db --verify
says "row 2, 'a56': its text is not what was encoded"

# ---- no room ----
(ulimit -f 400; exec "$index" "$model" full.db corpus.jsonl --batch 4) > log 2>&1
equal "$?" 1 "status when the file must not grow"
says "full.db: "
expect 0 "$index" "$model" full.db --verify
expect 0 "$index" "$model" full.db corpus.jsonl
dump full.db > again.dump
same whole.dump again.dump

# ---- windows ----
expect 0 "$index" "$model" split.db forty.jsonl --split 40 --overlap 10
says "^40 documents encoded as [0-9]* windows"
expect 0 "$index" "$model" split.db --verify --again
expect 0 "$index" "$model" split.db forty.jsonl --split 40 --overlap 10
says "^0 documents encoded"
expect 1 "$index" "$model" split.db forty.jsonl --split 40 --overlap 20
says "split.db was made with --overlap 10, not 20"
for key in $(sqlite3 split.db "SELECT DISTINCT key FROM documents ORDER BY number"); do "$index" split.db --export "$key"; done > again.jsonl
same exported.jsonl again.jsonl
equal "$(sqlite3 split.db "SELECT count(*) FROM documents WHERE tokens > 50")" 0 "windows of more tokens than asked for"
equal "$(sqlite3 split.db "SELECT count(*) FROM documents a JOIN documents b ON a.key = b.key AND b.window = a.window + 1 WHERE b.start >= a.start + length(CAST(a.text AS BLOB))")" 0 "windows that do not overlap"
printf '%s\n' '{"_id": "u", "title": "Zeichen", "text": "\u4f60\u597d\u4e16\u754c \ud83d\ude00\ud83d\ude01\ud83d\ude02 \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22   \u2581  \t\u0416\u0416\n\n\u00e9t\u00e9 \ud83d\ude80\ud83d\ude80"}' > odd.jsonl
for n in 1 2 3 5; do
    expect 0 "$index" "$model" odd$n.db odd.jsonl --split $n
    expect 0 "$index" "$model" odd$n.db --verify
    "$index" odd$n.db --export u > "odd$n.jsonl"
    expect 0 "$index" "$model" odd.db "odd$n.jsonl"
done
equal "$(count odd.db)" 1 "odd text, exported from windows"
equal "$(sqlite3 odd.db "SELECT count(DISTINCT hash) FROM documents")" 1 "odd text"
# rows of one text that disagree about how many windows it has, or of which one is missing
for wrong in "UPDATE documents SET windows = 2 WHERE number = (SELECT min(number) FROM documents WHERE window = 1 AND windows > 2)" \
    "UPDATE documents SET windows = windows + 1 WHERE number = (SELECT min(number) FROM documents WHERE window = 1)" \
    "DELETE FROM documents WHERE number = (SELECT min(number) FROM documents WHERE window = 1 AND windows > 2)"; do
    cp split.db wrong.db
    sqlite3 wrong.db "$wrong"
    expect 1 $rerank "$model" "sound library" --store wrong.db
    says 'its windows do not follow each other'
done
# a changed text loses its old windows
sed 's/"text": "/"text": "Short"}/; s/}.*/}/' first.jsonl | head -n 3 > short.jsonl
dump split.db > split.dump
expect 0 "$index" "$model" split.db short.jsonl
says "3 of them replace another text"
equal "$(sqlite3 split.db "SELECT count(*) FROM documents WHERE text = 'Short'")" 3 "short texts"
expect 0 "$index" "$model" split.db --verify
expect 0 "$index" "$model" split.db forty.jsonl
dump split.db > again.dump
same split.dump again.dump
# the best window's score is that of the document
$rerank "$model" "sound library" --store split.db --json > split.json
sqlite3 split.db "SELECT json_object('_id', key || ' ' || window, 'title', title, 'text', text) FROM documents ORDER BY number" > windows.jsonl
expect 0 "$index" "$model" windows.db windows.jsonl --max-doc-tokens 1024
$rerank "$model" "sound library" --store windows.db --json > windows.json
sed -n 's/.*"id": "\([^"]*\)".*"margin": \([^,]*\),.*/\1 \2/p' split.json | sort > r1
sed -n 's/.*"id": "\([^ "]*\) [0-9]*".*"margin": \([^,]*\),.*/\1 \2/p' windows.json | sort -s -k 1,1 | awk '$1 != last { print; last = $1 }' | sort > r2
same r1 r2
sed -n 's/.*"id": "\([^"]*\)", "window": \([0-9]*\),.*/\1 \2/p' split.json | head -n 1 > r1
sed -n 's/.*"id": "\([^"]*\)".*/\1/p' windows.json | head -n 1 > r2
same r1 r2

# ---- rows that do not belong, or are not all there ----
# the documents of a store are as its meta says, in ratio, bits and tokens
for change in "ratio 8" "bits 8" "max_doc_tokens 5"; do
    cp forty.db wrong.db
    sqlite3 wrong.db "UPDATE meta SET value = ${change#* } WHERE name = '${change% *}'"
    expect 1 $rerank "$model" query --store wrong.db
    says "wrong.db: row 1: its ratio, bits or tokens are not those of the store"
done
expect 1 "$index" "$model" none.db four.jsonl --split 20 --max-doc-tokens 19
says "split is 20, documents have at most 19 tokens"
expect 0 "$index" "$model" none.db four.jsonl --split 20 --max-doc-tokens 20
# the last window of the last text, and of one that is named; a window that begins behind the end of the one before
expect 0 "$index" "$model" tail.db four.jsonl --split 12 --overlap 2
tail=$(sqlite3 tail.db "SELECT key FROM documents WHERE windows > 1 ORDER BY number DESC LIMIT 1")
cp tail.db wrong.db
sqlite3 wrong.db "DELETE FROM documents WHERE number = (SELECT max(number) FROM documents)"
expect 1 $rerank "$model" query --store wrong.db
says "wrong.db: the last text lacks windows"
cp tail.db wrong.db
last=$(sqlite3 wrong.db "DELETE FROM documents WHERE key > '$tail'; DELETE FROM documents WHERE key = '$tail' AND window = windows - 1; SELECT max(key) FROM documents")
equal "$last" "$tail" "the text that comes last"
expect 1 "$index" wrong.db --verify
says "wrong.db: the last text lacks windows"
says "1 of the [0-9]* rows of wrong.db are damaged"
cp tail.db wrong.db
sqlite3 wrong.db "DELETE FROM documents WHERE key = '$tail' AND window = windows - 1"
expect 1 $rerank "$model" query --store wrong.db --keys "$tail"
says "wrong.db: '$tail' lacks a window"
expect 1 "$index" wrong.db --export "$tail"
says "wrong.db: '$tail' lacks a window"
cp tail.db wrong.db
sqlite3 wrong.db "UPDATE documents SET start = 100000 WHERE key = '$tail' AND window = 1"
expect 1 "$index" wrong.db --verify
says "'$tail': its windows do not follow each other"
expect 1 "$index" wrong.db --export "$tail"
# a title stands before the text that is shown, as it does where texts are ranked themselves
printf '%s\n' '{"_id": "t", "title": "A title", "text": "and its text"}' '{"_id": "u", "text": "a text alone"}' > titled.jsonl
expect 0 "$index" "$model" titled.db titled.jsonl --bits 32
$rerank "$model" "its text" --documents titled.jsonl > r1
$rerank "$model" "its text" --store titled.db > r2
same r1 r2
equal "$(grep -c 'A title and its text' r2)" 1 "a title before its text"
# texts that were cut are cut again by --again, and there may be more than it encodes at a time
head -n 70 corpus.jsonl > seventy.jsonl
if [ $texts -lt 70 ]; then
    sed 's/"_id": "/&again-/' seventy.jsonl > again.jsonl
    cat again.jsonl >> seventy.jsonl
fi
expect 0 "$index" "$model" cut.db seventy.jsonl --max-doc-tokens 9
equal "$(sqlite3 cut.db "SELECT count(*) > 64 AND sum(tokens > tokens_used) > 64 FROM documents")" 1 "texts that were cut"
expect 0 "$index" "$model" cut.db --verify --again
sqlite3 cut.db "UPDATE documents SET document = (SELECT document FROM documents WHERE number = 1) WHERE number IN (66, 67)"
expect 1 "$index" "$model" cut.db --verify --again
says "^cut.db: row 66, .*its \(document is not what its text gives\|tokens are not\)"
# a store whose texts are kept as UTF-16
{ echo "PRAGMA encoding = 'UTF-16';"; sqlite3 forty.db .dump; echo "PRAGMA application_id = $((0x4b414c4d)); PRAGMA user_version = 1;"; } > utf16.sql
rm -f utf16.db
sqlite3 utf16.db < utf16.sql
expect 1 "$index" utf16.db --info
says "utf16.db: its texts are not kept as UTF-8"

# ---- ranked as texts are ----
expect 0 "$index" "$model" exact.db forty.jsonl --bits 32
$rerank "$model" "image viewer" --documents forty.jsonl --json > r1
$rerank "$model" "image viewer" --store exact.db --json > r2
same r1 r2
equal "$(grep -c '"rank"' r1)" 40 "documents ranked"
$rerank "$model" "image viewer" --documents forty.jsonl --top-k 3 > r1
$rerank "$model" "image viewer" --store exact.db --top-k 3 > r2
same r1 r2
expect 0 "$index" "$model" fine.db forty.jsonl --bits 32 --ratio 1
$rerank "$model" "image viewer" --documents forty.jsonl --ratio 1 --json > r1
$rerank "$model" "image viewer" --store fine.db --json > r2
same r1 r2
# re-pooled: the same but for rounding
$rerank "$model" "image viewer" --documents forty.jsonl --ratio 8 --json > r1
$rerank "$model" "image viewer" --store fine.db --ratio 8 --json > r2
for r in r1 r2; do sed -n 's/.*"id": "\([^"]*\)".*"margin": \([^,]*\),.*/\1 \2/p' $r | sort > $r.margins; done
join r1.margins r2.margins > both
equal "$(awk '{ d = $2 - $3; if (d < 0) d = -d; if (d > most) most = d } END { print NR, (most < 0.02) }' both)" "40 1" "re-pooled margins"
expect 1 $rerank "$model" query --store exact.db --ratio 6
says "exact.db keeps documents at ratio 4: --ratio 6 is no multiple of that"
$rerank "$model" "image viewer" --store exact.db --keys a56,elpa-a --json > log 2>&1
equal "$(grep -c '"rank"' log)" 2 "documents by key"
printf 'elpa-a\n\n \t\na56\n\n' | $rerank "$model" "image viewer" --store exact.db --candidates - --json > log 2>&1
equal "$(grep -c '"rank"' log)" 2 "documents by list"
expect 1 $rerank "$model" query --store exact.db --keys a56,nothing
says "exact.db has no document 'nothing'"
expect 1 $rerank "$model" query --store missing.db
[ ! -e missing.db ] && ok || bad "missing.db was made"
expect 2 $rerank "$model" query text --store exact.db

finish
