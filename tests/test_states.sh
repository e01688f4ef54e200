#!/bin/sh
# test_states.sh BUILD - kalm-index --states and kalm-rerank --store: scores are the same bits with the file of states, without it, and
# with any that is stale, foreign, damaged or half made; and where it is of use it is used.
build=$1 suite=states
. tests/command.sh
need_command kalm-index 'libsqlite3-dev is missing'
need_model
index=$build/kalm-index
rerank="env ASAN_OPTIONS=detect_leaks=0 $build/kalm-rerank"   # it ends with the texts in its hands
head -n 40 "$root/examples/tiny/eval/corpus.jsonl" > corpus.jsonl
expect 0 "$index" "$model" s.db corpus.jsonl --quiet
key() { sqlite3 s.db "SELECT key FROM documents WHERE number = $1"; }

# ranked WARM [OPTIONS]: as without states, to the bit, and so many documents from states ("-": there is no file)
ranked() {
    warm=$1
    shift
    : "${plain:=plain}"          # PLAIN.json has the ranking without states
    $rerank "$model" 'image viewer' --store s.db --json "$@" > out.json 2> log
    equal $? 0 "the status of a ranking ($*)"
    equal "$(sed -n '1s/.*"warm": \([0-9]*\),.*/\1/p' out.json)" "${warm#-}" "documents ranked from states ($*)"
    sed '1s/"warm": [0-9]*, //' out.json > scores.json
    same "$plain.json" scores.json
}
$rerank "$model" 'image viewer' --store s.db --json > plain.json
$rerank "$model" 'image viewer' --store s.db --json --state-bits 8 > rounded.json
$rerank "$model" 'image viewer' --store s.db --json --instruction 'Find images' > other.json
$rerank "$model" 'image viewer' --store s.db --json --ratio 8 > coarse.json
ranked -

# ---- made, used, gone on with ----
expect 0 "$index" "$model" s.db --states 12
says '^12 states in .*: 12 made, 0 were there already$'
equal "$(ls s.db*)" "$(printf 's.db\ns.db.states')" 'files of a store with states'
equal "$(sqlite3 s.db.states 'SELECT group_concat(number) FROM states')" 1,2,3,4,5,6,7,8,9,10,11,12 'whose states are kept'
ranked 12
equal "$(cat log)" '' 'what a ranking from states says'
ranked 12 --threads 3
$rerank "$model" 'image viewer' --store s.db --json --keys "$(key 3),$(key 30)" > out.json
equal "$(sed -n '1s/.*"warm": \([0-9]*\),.*/\1/p' out.json)" 1 'of two documents the one that has a state'
expect 0 $rerank "$model" 'image viewer' --store s.db --time --top-k 1
says '^12 of them from kept states$'
plain=coarse; ranked 0 --ratio 8; plain=plain
expect 0 "$index" "$model" s.db --states 20
says '20 made, 0\|8 made, 12 were there already'
expect 0 "$index" "$model" s.db --states 5
says '^5 states in .*: 0 made, 5 were there already; 15 dropped'
ranked 5
expect 0 "$index" "$model" s.db --states all
says '^40 states .*35 made, 5 were there'
ranked 40
small=$(wc -c < s.db.states)
expect 0 "$index" "$model" s.db --states 4 --quiet
equal "$(cat log)" '' '--quiet'
if [ "$(wc -c < s.db.states)" -lt $((small / 3)) ]; then ok; else bad 'dropped states keep their bytes'; fi

# ---- which documents are asked for most ----
{
    key 7; key 9; key 7
    printf 'q1 Q0 %s 1 0.5 tag\nq2 Q0 %s 1 0.5\n\n' "$(key 21)" "$(key 21)"
    printf 'q3\t%s\t1\n' "$(key 21)"
    printf 'no such key\nq1 Q0 nobody 1 0.5 tag\n'
} > asked.txt
expect 0 "$index" "$model" s.db --states 2 --asked asked.txt
says '2 lines of asked.txt name no document'
equal "$(sqlite3 s.db.states 'SELECT group_concat(number) FROM states')" 7,21 'the two that are asked for most'
ranked 2
expect 0 "$index" "$model" s.db --states all --asked asked.txt
equal "$(sqlite3 s.db.states 'SELECT group_concat(number) FROM states')" 7,9,21 'all that are asked for'
echo nobody > asked.txt
expect 1 "$index" "$model" s.db --states 2 --asked asked.txt
says 'names no document'
for not in /nowhere . s.db; do
    expect 1 "$index" "$model" s.db --states 2 --asked $not
done
ranked 3

# ---- another instruction, other state_bits ----
plain=other; ranked 0 --instruction 'Find images'; plain=plain
says 'is not used: its states are for another instruction'
expect 0 "$index" "$model" s.db --states 6 --instruction 'Find images'
says 'they are replaced'
plain=other; ranked 6 --instruction 'Find images'; plain=plain
ranked 0
says 'is not used: its states are for another instruction'
sqlite3 s.db.states "UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'system') WHERE name = 'instruction'"
cp s.db.states lies.states              # whoever lies about the instruction is found by the states themselves
expect 0 "$index" "$model" s.db --states 6 --state-bits 8
ranked 0
says 'is not used: its states were made with --state-bits 8'
plain=rounded; ranked 6 --state-bits 8
if cmp -s plain.json rounded.json; then bad 'rounded states change no score'; else ok; fi
rm s.db.states
ranked - --state-bits 8
plain=plain

# ---- another system text, and a document of more rows than a context has by default ----
$rerank "$model" 'image viewer' --store s.db --json --system 'You judge.' > judged.json
expect 0 "$index" "$model" s.db --states 6 --quiet
plain=judged; ranked 0 --system 'You judge.'; plain=plain
says 'is not used: its states are for another instruction'
expect 0 "$index" "$model" s.db --states 6 --system 'You judge.'
says 'they are replaced'
plain=judged; ranked 6 --system 'You judge.'; plain=plain
rm s.db.states
awk 'BEGIN { printf "{\"_id\": \"long\", \"text\": \""; for (i = 0; i < 1100; i++) printf "view "; print "\"}" }' > long.jsonl
expect 0 "$index" "$model" long.db long.jsonl --max-doc-tokens 2000 --ratio 1 --quiet
equal "$(sqlite3 long.db 'SELECT tokens_used > 1024 FROM documents')" 1 'a long document'
expect 0 "$index" "$model" long.db --states all
says '^1 states in .*: 1 made'
$rerank "$model" 'image viewer' --store long.db --json > out.json
equal "$(sed -n '1s/.*"warm": \([0-9]*\),.*/\1/p' out.json)" 1 'a long document from its state'

# ---- a changed document ----
expect 0 "$index" "$model" s.db --states all --quiet
cp s.db old.db; cp s.db.states old.states
last=$(key 40)
printf '{"_id": "%s", "text": "A viewer for images of every kind."}\n' "$last" > changed.jsonl
expect 0 "$index" "$model" s.db changed.jsonl --quiet
equal "$(key 40)" "$last" 'the key of row 40'
mv s.db.states away; $rerank "$model" 'image viewer' --store s.db --json > changed.json; mv away s.db.states
plain=changed; ranked 39
says ' 1 states are not used'
expect 0 "$index" "$model" s.db --states all
says '1 made, 39 were there already'
ranked 40
expect 0 "$index" s.db --delete "$last"
expect 0 "$index" "$model" s.db --states all
says '39 were there already; 1 dropped'
plain=plain
mv old.db s.db; cp old.states s.db.states

# ---- windows ----
expect 0 "$index" "$model" w.db corpus.jsonl --split 40 --overlap 8 --quiet
$rerank "$model" 'image viewer' --store w.db --json > w.json
expect 0 "$index" "$model" w.db --states 10 --quiet
equal "$(sqlite3 w.db.states 'SELECT count(*) FROM states')" "$(sqlite3 w.db 'SELECT count(*) FROM documents WHERE key IN (SELECT key FROM documents WHERE window = 0 ORDER BY number LIMIT 10)')" 'states of windows'
$rerank "$model" 'image viewer' --store w.db --json | sed '1s/"warm": [0-9]*, //' > scores.json
same w.json scores.json

# ---- another model, a part of one, float weights on another instruction set ----
expect 0 "$build/kalm-quantize" "$root/examples/tiny" f32.kalm --weights f32 --no-rows
expect 0 "$index" f32.kalm f.db corpus.jsonl --quiet
$rerank f32.kalm 'image viewer' --store f.db --json > f32.json
expect 0 "$index" f32.kalm f.db --states 9 --quiet
$rerank f32.kalm 'image viewer' --store f.db --json | sed '1s/"warm": 9, //' > scores.json
same f32.json scores.json
if ! "$build/kalm-rerank" --version | grep -q 'first: scalar$'; then
    $rerank f32.kalm 'image viewer' --store f.db --json --kernels scalar > out.json 2> log
    says 'another instruction set'
    mv f.db.states away; $rerank f32.kalm 'image viewer' --store f.db --json --kernels scalar > f32.json; mv away f.db.states
    sed '1s/"warm": 0, //' out.json > scores.json
    same f32.json scores.json
    ranked 40 --kernels scalar
fi
cp f.db.states s.db.states
ranked 0
says 'is not used: its states are of another model'
expect 1 "$index" f32.kalm s.db --states 1
cp old.states s.db.states
expect 0 "$build/kalm-quantize" "$model" decoder.kalm --side decoder
expect 0 "$build/kalm-quantize" "$model" encoder.kalm --side encoder
$rerank decoder.kalm 'image viewer' --store s.db --json | sed '1s/"warm": 40, //' > scores.json
same plain.json scores.json
expect 1 "$index" encoder.kalm s.db --states 3
says 'holds no decoder'
rm s.db.states
expect 0 "$index" decoder.kalm s.db --states all --quiet
ranked 40

# ---- damaged, foreign, hostile ----
# refused SQL SENTENCE: after this change nothing of the file is used
refused() {
    cp old.states s.db.states
    sqlite3 s.db.states "$1" || bad "sqlite3: $1"
    ranked 0
    says "$2"
}
refused "CREATE TRIGGER t AFTER DELETE ON states BEGIN DELETE FROM meta; END" 'other tables than'
refused "CREATE VIEW v AS SELECT * FROM states" 'other tables than'
refused "CREATE INDEX i ON states (document)" 'other tables than'
refused "ALTER TABLE states ADD COLUMN more" 'other tables than'
refused "ALTER TABLE states RENAME TO s; CREATE VIEW states AS SELECT * FROM s" 'other tables than'
refused "DROP TABLE states" 'its tables are not there'
refused "PRAGMA user_version = 2" 'another version'
refused "PRAGMA application_id = 7" 'it is no file of states'
refused "DELETE FROM meta WHERE name = 'system'" 'meta is not whole'
refused "UPDATE meta SET value = 3 WHERE name = 'state_bits'" 'meta is not whole'
refused "UPDATE meta SET value = x'00' WHERE name = 'instruction'" 'meta is not whole'
refused "UPDATE meta SET value = CAST(x'61ff' AS TEXT) WHERE name = 'kernels'" 'meta is not whole'
for name in fingerprint kernels; do
    refused "UPDATE meta SET value = hex(zeroblob(5000)) WHERE name = '$name'" 'meta is not whole'
done
refused "UPDATE meta SET value = '0123456789abcdef' WHERE name = 'fingerprint'" 'of another model'
refused "UPDATE states SET state = zeroblob(0)" 'row 1 is not used: the state has 0 bytes, its document asks for [1-9]'
refused "UPDATE states SET state = zeroblob(100)" 'row 1 is not used: the state has 100 bytes'
refused "UPDATE states SET state = zeroblob(length(state))" 'row 1 is not used: these [0-9]* bytes are no stored state'
refused "UPDATE states SET document = printf('%.*c', 17, '0')" 'it has longer hashes than'
refused "UPDATE states SET state = 'text'" 'row 1 is not used: the state is no blob'
refused "UPDATE states SET document = 7" ' 40 states are not used'
cp old.states s.db.states
sqlite3 s.db.states "UPDATE states SET state = substr(state, 1, 300) || x'55' || substr(state, 302) WHERE number = 4;
    UPDATE states SET (document, state) = (SELECT document, state FROM states WHERE number = 9) WHERE number = 8;
    UPDATE states SET state = (SELECT state FROM states WHERE number = 9) WHERE number = 7;
    UPDATE states SET state = state || x'00' WHERE number = 6"
ranked 36
says 'row 4 is not used'
says ' 1 states are not used'
expect 0 "$index" "$model" s.db --states all
says '4 made, 36 were there already'
ranked 40
cp lies.states s.db.states
sqlite3 s.db.states "UPDATE meta SET value = (SELECT value FROM old.meta WHERE name = 'instruction') WHERE name = 'instruction'" -cmd "ATTACH 'old.states' AS old"
ranked 0
says 'for another instruction$'

for what in 'printf junk' 'head -c 50000 old.states' 'cat s.db' 'printf ""' 'head -c 100000 /dev/urandom'; do
    eval "$what" > s.db.states
    ranked 0
    says 'is not used'
done
rm s.db.states
mkdir s.db.states
ranked 0
says 'no regular file'
expect 1 "$index" "$model" s.db --states 3
expect 1 "$index" s.db --states 0
rmdir s.db.states
mkfifo s.db.states
ranked 0
says 'no regular file'
rm s.db.states
cp w.db s.db.states
expect 1 "$index" "$model" s.db --states 3
says 'no file of states; nothing was changed'
expect 1 "$index" s.db --states 0
says 'it was not deleted'
cmp -s w.db s.db.states || bad 'a store was taken for a file of states'
# a length that no document asks for is refused before the bytes are read, which would be too many, or of row 4 cannot be
cp old.states s.db.states
sqlite3 s.db.states "UPDATE states SET state = zeroblob(500000000) WHERE number = 1"
ranked 39
says 'row 1 is not used: the state has 500000000 bytes'
cp old.states s.db.states
sqlite3 s.db.states "UPDATE states SET state = CAST(state || zeroblob(200000) AS BLOB) WHERE number = 4"
page=$(sqlite3 s.db.states "SELECT pageno FROM dbstat WHERE name = 'states' AND pagetype = 'overflow' ORDER BY substr(path, -6) DESC LIMIT 1 OFFSET 1" 2> /dev/null)
if [ -n "$page" ]; then                # this sqlite3 tells where the pages of a row are: the last but one names no page that there is
    printf '\377\377\377\377' | dd of=s.db.states bs=1 seek=$(((page - 1) * 16384)) conv=notrunc 2> /dev/null
    equal "$(sqlite3 s.db.states 'SELECT length(state) > 0 FROM states WHERE number = 4; SELECT hex(state) > 0 FROM states WHERE number = 4' 2> /dev/null)" 1 'bytes that cannot be read'
    ranked 39
    says 'row 4 is not used: the state has [0-9]* bytes, its document asks for'
fi
# a journal that names a file of the user's, which SQLite would delete, and one that SQLite would wait for
cp old.states s.db.states
echo precious > victim
hostile_journal s.db.states 16384
ranked 0
says 'is not used: the journal beside it names another file'
expect 1 "$index" "$model" s.db --states 3
says 'names another file'
equal "$(cat victim)" precious 'the file that a journal names'
rm s.db.states-journal
mkfifo s.db.states-journal
ranked 0
says 'the journal beside it is no regular file'
rm s.db.states-journal
ranked 40
# bytes at random places: whatever is read is right
seed=${KALM_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
size=$(wc -c < old.states)
n=0
while [ $n -lt 20 ]; do
    n=$((n + 1))
    cp old.states s.db.states
    at=$(awk -v seed=$((seed + n)) -v size="$size" 'BEGIN { srand(seed); printf "%d", rand() * (rand() < .5 ? size : 20000) }')
    head -c $((n % 3 * 40 + 1)) /dev/urandom | dd of=s.db.states bs=1 seek="$at" conv=notrunc 2> /dev/null
    $rerank "$model" 'image viewer' --store s.db --json 2> log | sed '1s/"warm": [0-9]*, //' > scores.json
    if cmp -s plain.json scores.json; then ok; else bad "bytes at $at changed the ranking (seed $seed)"; fi
done
rm s.db.states

# ---- killed, and a full disk ----
n=0
while [ $n -lt 8 ]; do
    n=$((n + 1))
    "$index" "$model" s.db --states all --quiet --threads 1 --state-bits $((n / 5 * 8)) 2> log &
    pid=$!
    sleep "$(awk -v seed=$((seed + n)) 'BEGIN { srand(seed); printf "%.3f", .01 + rand() * .25 }')"
    kill -9 $pid 2> /dev/null
    wait $pid 2> /dev/null
    $rerank "$model" 'image viewer' --store s.db --json 2> log | sed '1s/"warm": [0-9]*, //' > scores.json
    same plain.json scores.json
    [ -s s.db.states ] || continue
    equal "$(sqlite3 s.db.states 'PRAGMA integrity_check' 2>&1)" ok "the file after kill $n of seed $seed"
done
expect 0 "$index" "$model" s.db --states all
ranked 40
equal "$(ls s.db*)" "$(printf 's.db\ns.db.states')" 'files after kills'
expect 0 "$index" s.db --states 0
equal "$(ls s.db*)" s.db 'files after --states 0'
expect 0 "$index" s.db --states 0
(ulimit -f 600; "$index" "$model" s.db --states all > log 2>&1)
equal $? 1 'the status of a full disk'
ranked "$(sqlite3 s.db.states 'SELECT count(*) FROM states')"
expect 0 "$index" "$model" s.db --states all
ranked 40

# ---- a store and its states within the folder that it indexes are no texts of it ----
mkdir folder
echo 'A viewer for pictures' > folder/a.txt
expect 0 "$index" "$model" folder/s.db folder --quiet
expect 0 "$index" "$model" folder/s.db --states all --quiet
expect 0 "$index" "$model" folder/s.db folder
says '^0 documents encoded; 1 were there already'

# ---- a store without documents has no states ----
: > none.jsonl
expect 0 "$index" "$model" none.db none.jsonl --quiet
expect 0 "$index" "$model" none.db --states all
says '^0 states in'

# ---- wrong usage ----
for wrong in '--states x' '--states -1' '--states 5 --info' '--asked asked.txt' '--state-bits 8' '--instruction x' '--states 5 --state-bits 5' 'more --states 5'; do
    expect 2 "$index" "$model" s.db $wrong
done
expect 2 "$index" s.db --states 5
expect 2 "$index" "$model" s.db --states ''
expect 2 $rerank "$model" q --store s.db --state-bits 5
finish
