#!/bin/sh
# postgres.sh BUILD - recipe (b) of docs/SCALING.md on this machine: two PostgreSQL servers, each with a half of the corpus; sessions beside
# each other encode it, one of them is killed and the rest finishes; each server ranks what it stores, and the merged best ten are
# those of one server that has everything. From the top of the tree; needs what examples/postgres needs.
build=${1:-build}
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "well: $*"; }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
equal() { if [ "$1" = "$2" ]; then ok "$3"; else bad "$3: '$1' instead of '$2'"; fi; }
. examples/postgres/server.sh
first='' second=''
trap 'for server in $first $second; do server_stop; done' EXIT
server_start "$build" && first=$server && server_start "$build" && second=$server || { echo "0 passed, 1 failed"; exit 1; }
on() { server=$1; shift; sql -qAt "$@"; }

# The corpus, spread by a hash of the key as Citus does it; `whole` on the first server has everything.
cat > "$first/schema.sql" << 'END'
CREATE EXTENSION kalm;
CREATE TABLE passages (id text PRIMARY KEY, body text NOT NULL, words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED, document bytea);
CREATE INDEX ON passages USING gin (words);
-- numbers do not compress
ALTER TABLE passages ALTER document SET STORAGE EXTERNAL;
CREATE TEMP TABLE lines (line text);
\copy lines FROM PROGRAM 'sed "s/[\\]/&&/g" examples/tiny/eval/corpus.jsonl'
INSERT INTO passages SELECT line::json->>'_id', line::json->>'text' FROM lines WHERE :condition;
-- what is not encoded yet, found without reading the table
CREATE INDEX todo ON passages (id) WHERE document IS NULL;
-- Encodes and commits 32 passages at a time; any number of sessions may run it at the same time, and any of them may be killed.
CREATE PROCEDURE encode_all() LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
    LOOP
        UPDATE passages SET document = kalm_encode(body)
            WHERE id IN (SELECT id FROM passages WHERE document IS NULL ORDER BY id LIMIT 32 FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS n = ROW_COUNT;
        EXIT WHEN n = 0;
        COMMIT;
    END LOOP;
END $$;
END
for server in $first $second; do
    sql -q -c "LOAD 'kalm'" -c "ALTER SYSTEM SET kalm.model = '$server/tiny.kalm'" -c "SELECT pg_reload_conf()" > /dev/null
    sql -q -c "CREATE DATABASE half"
done
on "$first" -c "CREATE DATABASE whole"
on "$first" -d half -v condition="abs(hashtext(line::json->>'_id')) % 2 = 0" -f "$first/schema.sql"
on "$second" -d half -v condition="abs(hashtext(line::json->>'_id')) % 2 = 1" -f "$first/schema.sql"
on "$first" -d whole -v condition=true -f "$first/schema.sql"

# Two sessions on each server; one is ended in the middle, and loses at most 32 passages of work.
began=$(date +%s%N)
on "$first" -d half -c "SET application_name = 'victim'" -c "CALL encode_all()" > "$first/victim.log" 2>&1 &
jobs=$!
on "$first" -d half -c "CALL encode_all()" & jobs="$jobs $!"
on "$second" -d half -c "CALL encode_all()" & jobs="$jobs $!"
on "$second" -d half -c "CALL encode_all()" & jobs="$jobs $!"
for i in $(seq 1 200); do
    [ "$(on "$first" -d half -c "SELECT count(document) > 100 FROM passages")" = t ] && break
    sleep 0.1
done
on "$first" -d half -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'" > /dev/null
wait $jobs
grep -q terminat "$first/victim.log" && ok "a session was killed while it encoded" || bad "no session was killed: $(cat "$first/victim.log")"
counts="$(on "$first" -d half -c "SELECT count(*), count(document) FROM passages") $(on "$second" -d half -c "SELECT count(*), count(document) FROM passages")"
case $counts in
*[0-9]) equal "$(echo "$counts" | tr '| ' '\n\n' | awk '{ n[NR] = $1 } END { print (n[1] == n[2] && n[3] == n[4]), n[1] + n[3] }')" "1 3584" "the others encoded everything: $counts, $((($(date +%s%N) - began) / 1000000)) ms" ;;
*) bad "counts: $counts" ;;
esac
on "$first" -d whole -c "CALL encode_all()"
sum="SELECT id || ' ' || md5(document) FROM passages"
{ on "$first" -d half -c "$sum"; on "$second" -d half -c "$sum"; } | sort > "$first/halves"
on "$first" -d whole -c "$sum" | sort | cmp - "$first/halves" && ok "the same bytes on both servers as on one" || bad "documents differ"

# A query goes to every server, each ranks its own candidates, and what travels is ten lines. Scores of different servers compare, since
# a document's score is the same bits everywhere.
while read -r words question; do
    query="WITH c AS MATERIALIZED (SELECT id, document FROM passages, to_tsquery('english', '$words') q WHERE words @@ q ORDER BY ts_rank(words, q) DESC, id LIMIT 200)
        SELECT r.margin, r.id FROM kalm_rerank('$question', ARRAY(SELECT id FROM c), ARRAY(SELECT document FROM c), 10) r"
    { on "$first" -d half -c "$query"; on "$second" -d half -c "$query"; } | sort -t '|' -k 1,1gr -k 2 | head -n 10 > "$first/merged"
    # all that the servers looked at together: up to 200 of each half
    on "$first" -d whole -c "WITH c AS MATERIALIZED (SELECT id, document FROM (SELECT id, document, row_number() OVER (PARTITION BY abs(hashtext(id)) % 2 ORDER BY ts_rank(words, q) DESC, id) AS n
        FROM passages, to_tsquery('english', '$words') q WHERE words @@ q) t WHERE n <= 200)
        SELECT r.margin, r.id FROM kalm_rerank('$question', ARRAY(SELECT id FROM c), ARRAY(SELECT document FROM c)) r" | sort -t '|' -k 1,1gr -k 2 | head -n 10 > "$first/one"
    cmp "$first/merged" "$first/one" && [ "$(wc -l < "$first/one")" -eq 10 ] && ok "the best ten of two servers are those of one: $question" || bad "two servers rank otherwise: $question"
done << 'END'
chess|game|play play chess against the computer
image|view|picture|photo view pictures
mail|server|client read mail in a terminal
END
[ -z "${TIMES:-}" ] || on "$first" -d whole -c "\\timing on" -c "$query" | tail -n 1
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
