#!/bin/sh
# postgres.sh BUILD - the extension kalm in a real PostgreSQL server, which it starts (make postgres-test). It needs a server, so it
# is not one of the tests of make test, but a job of .ci/run: the same scores as kalm-rerank to the last bit, documents in columns, errors with
# their SQLSTATE, who may choose a model, cancelled statements, memory, parallel workers, dumps, encodings.
build=$1
passed=0 failed=0
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; }
equal() { if [ "$1" = "$2" ]; then ok; else bad "$3: '$1' instead of '$2'"; fi; }
. examples/postgres/server.sh
trap server_stop EXIT
if ! server_start "$build"; then
    echo "no server"
    echo "0 passed, 1 failed"
    exit 1
fi
dir=$server/test
mkdir "$dir"
db=test
model=$server/tiny.kalm
# ask STATEMENT...: unaligned rows of the database $db with the model chosen, or the error
ask() {
    for s; do set -- "$@" -c "$s"; shift; done
    sql -qAt -d "$db" -v VERBOSITY=verbose -c "LOAD 'kalm'" -c "SET kalm.model = '$model'" "$@" 2>&1
}
# says SQLSTATE WORDS STATEMENT...: the last statement fails with this state and these words
says() {
    state=$1 words=$2
    shift 2
    ask "$@" > "$dir/log"
    if grep -q -e "ERROR:  $state: .*$words" "$dir/log"; then ok; else bad "'$state: $words' is not said: $* ($(cat "$dir/log"))"; fi
}
sql -q -c "CREATE DATABASE test"
equal "$(ask 'CREATE EXTENSION kalm')" "" "CREATE EXTENSION"

# ---- the scores of kalm-rerank ----
sql -q -d test > "$dir/log" 2>&1 << END
CREATE TABLE notes (id text PRIMARY KEY, number serial, body text, words tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED, document bytea);
CREATE TEMP TABLE lines (line text);
\\copy lines FROM PROGRAM 'sed "s/[\\\\]/&&/g" examples/tiny/eval/corpus.jsonl'
INSERT INTO notes (id, body) SELECT line::json->>'_id', line::json->>'text' FROM lines;
SET kalm.model = '$model';
UPDATE notes SET document = kalm_encode(body, 4, 32) WHERE number <= 40;
END
equal "$(cat "$dir/log")" "" "making the table"
equal "$(ask 'SELECT count(*), count(document) FROM notes')" "3584|40" "encoded documents"
ask "SELECT json_build_object('id', id, 'text', body) FROM notes WHERE number <= 40 ORDER BY number" > "$dir/notes.jsonl"
"$build/kalm-rerank" "$build/tiny.kalm" "image viewer" --documents "$dir/notes.jsonl" --json |
    sed -n 's/.*"rank": \([0-9]*\),.*"id": "\([^"]*\)", "score": \([^,]*\), "margin": \([^,]*\),.*/\1|\2|\3|\4/p' > "$dir/want"
equal "$(wc -l < "$dir/want")" 40 "documents ranked by kalm-rerank"
sql -q -d test -c "CREATE TABLE want (rank int, id text, score float4, margin float4)" -c "\\copy want FROM '$dir/want' DELIMITER '|'"
for what in body document; do
    equal "$(ask "SELECT count(*) FROM kalm_rerank('image viewer', ARRAY(SELECT id FROM notes WHERE number <= 40 ORDER BY number),
        ARRAY(SELECT $what FROM notes WHERE number <= 40 ORDER BY number)) JOIN want USING (rank, id, score, margin)")" 40 "$what ranked as by kalm-rerank"
    equal "$(ask "SELECT count(*) FROM (SELECT id, kalm_score('image viewer', $what) AS score FROM notes WHERE number <= 40) s JOIN want USING (id, score)")" \
        40 "$what scored as by kalm-rerank"
done
equal "$(ask "SET kalm.threads = 3" "SET kalm.cache_size = '64MB'" "SELECT count(*) FROM kalm_rerank('image viewer', ARRAY(SELECT id FROM notes WHERE number <= 40 ORDER BY number),
    ARRAY(SELECT document FROM notes WHERE number <= 40 ORDER BY number)) JOIN want USING (rank, id, score, margin)")" 40 "three threads and a cache"
# with kalm.state_bits other margins, by the same bits with a cache and without; other numbers are refused
few="SELECT string_agg(margin::text, ',' ORDER BY id) FROM kalm_rerank('image viewer', ARRAY(SELECT id FROM notes WHERE number <= 40), ARRAY(SELECT document FROM notes WHERE number <= 40))"
equal "$(ask "SET kalm.state_bits = 4" "$few")" "$(ask "SET kalm.state_bits = 4" "SET kalm.cache_size = '64MB'" "$few" "$few" | tail -n 1)" "kalm.state_bits with a cache and without"
equal "$([ "$(ask "SET kalm.state_bits = 4" "$few")" = "$(ask "$few")" ] && echo same || echo other)" other "margins with kalm.state_bits"
equal "$(ask "SET kalm.state_bits = 4" "SET kalm.state_bits = 0" "$few")" "$(ask "$few")" "kalm.state_bits taken back"
says 22023 'kalm.state_bits": 5' "SET kalm.state_bits = 5"
with=$("$build/kalm-rerank" "$build/tiny.kalm" "image viewer" "a picture editor" --instruction 'Given a keyword, find packages.' --json | sed -n 's/.*"score": \([^,]*\),.*/\1/p')
equal "$(ask "SELECT kalm_score('image viewer', 'a picture editor', 'Given a keyword, find packages.')::float4 = '$with'::float4")" t "an instruction"

# ---- candidates by words, ranked, in one statement ----
equal "$(ask "WITH c AS MATERIALIZED (SELECT id, body FROM notes, to_tsquery('english', 'image | picture | photo | view | file') q WHERE words @@ q ORDER BY ts_rank(words, q) DESC LIMIT 200)
    SELECT count(*), min(rank), max(rank), count(DISTINCT r.id), bool_and(r.score = kalm_score('view pictures', c.body)), (SELECT count(*) FROM c)
    FROM kalm_rerank('view pictures', ARRAY(SELECT id FROM c), ARRAY(SELECT body FROM c), 10) r JOIN c USING (id)")" "10|1|10|10|t|200" "ts_rank, then kalm_rerank"
equal "$(ask "SELECT count(DISTINCT r.score) FROM (VALUES ('chess'), ('music')) v (query), kalm_rerank(v.query, ARRAY[1], ARRAY['a game of chess']) r")" 2 "queries out of a table"

# ---- ids of any type, arrays of any kind, NULLs ----
equal "$(ask "SELECT pg_typeof(id), id FROM kalm_rerank('q', ARRAY[5000000000], ARRAY['a'])")" "bigint|5000000000" "ids: bigint"
equal "$(ask "SELECT pg_typeof(id), id FROM kalm_rerank('q', ARRAY['2a9b2f6e-5f0e-4f0b-9d1a-000000000001'::uuid], ARRAY['a'])")" "uuid|2a9b2f6e-5f0e-4f0b-9d1a-000000000001" "ids: uuid"
equal "$(ask "SELECT id FROM kalm_rerank('q', ARRAY[ROW(1, 'x')], ARRAY['a'])")" "(1,x)" "ids: rows"
equal "$(ask "SELECT id, rank FROM kalm_rerank('chess', ARRAY['x', NULL, 'y'], ARRAY[NULL, 'chess', 'music'])")" "|1
y|2" "an id and a document that are NULL"
equal "$(ask "SELECT id FROM kalm_rerank('chess', '[5:6]={1,2}'::int[], '[-1:0]={music,chess}'::text[], 1)")" 2 "bounds of arrays"
equal "$(ask "SELECT count(*) FROM kalm_rerank('q', '{}'::int[], '{}'::text[])")" 0 "no candidates"
equal "$(ask "SELECT count(*) FROM kalm_rerank('q', '{}'::int[], '{}'::bytea[])")" 0 "no encoded candidates"
equal "$(ask "SELECT (SELECT count(*) FROM kalm_rerank(NULL, ARRAY[1], ARRAY['a'])) + (SELECT count(*) FROM kalm_rerank('q', NULL::int[], ARRAY['a'])) + (SELECT count(*) FROM kalm_rerank('q', ARRAY[1], NULL::text[]))")" 0 "NULL arguments"
equal "$(ask "SELECT kalm_score(NULL, 'a') IS NULL, kalm_score('q', NULL::text) IS NULL, kalm_score('q', NULL::bytea) IS NULL, kalm_encode(NULL) IS NULL")" "t|t|t|t" "NULL"
equal "$(ask "SELECT kalm_encode('a', NULL, NULL) = kalm_encode('a'), kalm_encode('a', 4, 16) = kalm_encode('a'), length(kalm_encode('a b c', 1, 8)) < length(kalm_encode('a b c', 1, 32))")" "t|t|t" "ratio and bits"
equal "$(ask "SELECT abs(kalm_score('chess', kalm_encode('a game of chess', 4, b)) - kalm_score('chess', 'a game of chess')) < 0.1, octet_length(kalm_encode('a game of chess', 1, b)) < octet_length(kalm_encode('a game of chess', 1, 8))
    FROM (VALUES (4), (3), (2)) v (b)" | sort -u)" "t|t" "rows of 4, 3 and 2 bits"
equal "$(ask "SELECT (kalm_rerank('q', ARRAY[1], ARRAY['a'])).cut, (kalm_rerank('q', ARRAY[1], ARRAY[repeat('word ', 3000)])).cut, (kalm_rerank(repeat('word ', 3000), ARRAY[1], ARRAY['a'])).cut")" "0|1|2" "cut; in the list of a SELECT"
equal "$(ask "SELECT kalm_score('q', '') > 0, kalm_score('', 'a') > 0")" "t|t" "empty texts"
# a document that is stored out of line and compressed, and one with a short header
equal "$(ask "CREATE TABLE big (body text, document bytea)" "INSERT INTO big SELECT t, kalm_encode(t, 4, 32) FROM (SELECT repeat('the same words again ', 150) || 'chess' AS t) s" \
    "SELECT octet_length(document) > 8192, pg_column_size(body) < octet_length(body), kalm_score('chess', document) = kalm_score('chess', body),
        (SELECT score FROM kalm_rerank('chess', ARRAY[1], ARRAY[document])) = kalm_score('chess', body) FROM big")" "t|t|t|t" "toasted documents"

# ---- errors ----
says 55000 "no model is chosen" "RESET kalm.model" "SELECT kalm_score('q', 'a')"
says 55000 "no model is chosen" "SELECT kalm_load(NULL)" "SELECT * FROM kalm_rerank('q', ARRAY[1], ARRAY['a'])"
says 58P01 "/no/such.kalm" "SET kalm.model = '/no/such.kalm'" "SELECT kalm_score('q', 'a')"
says 58030 "cannot use the model file \"/etc\"" "SELECT kalm_load('/etc')"
[ "$(id -u)" -ne 0 ] || { cp "$model" "$server/secret.kalm"; chmod 600 "$server/secret.kalm"; says 42501 "secret.kalm" "SELECT kalm_load('$server/secret.kalm')"; }
mkfifo -m 666 "$server/fifo"
says 58030 "fifo" "SELECT kalm_load('$server/fifo')"
head -c 100000 "$model" > "$server/short.kalm"
says F0000 "short.kalm" "SELECT kalm_load('$server/short.kalm')"
says F0000 "/etc/passwd" "SELECT kalm_load('/etc/passwd')"
says 22023 "kalm.model" "SET kalm.model = 'tiny.kalm'"
says 42602 "the path must be absolute" "SELECT kalm_load('tiny.kalm')"
says 22023 "kalm.threads" "SET kalm.threads = 0"
says 42602 "kalm.modell" "SET kalm.modell = 'x'"
says 22023 "ratio is 0" "SELECT kalm_encode('a', 0)"
says 22023 "bits is 12" "SELECT kalm_encode('a', 4, 12)"
says 22023 "bits is -8" "SELECT kalm_encode('a', 4, -8)"
says 22023 "k is 0" "SELECT * FROM kalm_rerank('q', ARRAY[1], ARRAY['a'], 0)"
says 2202E "2 ids and 1 documents" "SELECT * FROM kalm_rerank('q', ARRAY[1, 2], ARRAY['a'])"
says 2202E "ids must have one dimension" "SELECT * FROM kalm_rerank('q', ARRAY[[1], [2]], ARRAY['a', 'b'])"
says 2202E "documents must have one dimension" "SELECT * FROM kalm_rerank('q', ARRAY[1], ARRAY[['a']])"
says 22P03 "these 1 bytes are no encoded document" "SELECT kalm_score('q', '\\x61'::bytea)"
says 22P03 "these 0 bytes are no encoded document" "SELECT kalm_score('q', ''::bytea)"
says 22P03 "documents\[2\]: these 1 bytes" "SELECT * FROM kalm_rerank('q', ARRAY[1, 2, 3], ARRAY[NULL, '\\x61', kalm_encode('a')])"
says 22P03 "the document is damaged" "SELECT kalm_score('q', set_byte(document, 200, 255 - get_byte(document, 200))) FROM notes WHERE number <= 40"
# whichever byte is changed and wherever it is cut, the answer is an error of the right kind or a score
equal "$(ask "CREATE FUNCTION try(d bytea) RETURNS text LANGUAGE plpgsql AS
    'DECLARE s float8; BEGIN s := kalm_score(''q'', d); RETURN CASE WHEN s BETWEEN 0 AND 1 THEN ''score'' ELSE ''bad'' END;
     EXCEPTION WHEN OTHERS THEN RETURN CASE WHEN SQLSTATE IN (''22P03'', ''22023'', ''0A000'') THEN ''error'' ELSE SQLSTATE END; END'" \
    "WITH d AS (SELECT kalm_encode('a few words') AS d) SELECT t, count(*) > 0 FROM (
        SELECT try(set_byte(d, i, (get_byte(d, i) + b) % 256)) AS t FROM d, generate_series(0, length(d) - 1) i, (VALUES (1), (128)) v (b)
        UNION ALL SELECT try(substr(d, 1, i)) FROM d, generate_series(0, length(d) - 1) i) t GROUP BY t")" "error|t" "changed and cut documents"

# ---- who may choose the model ----
sql -q -d test << END
CREATE ROLE reader; CREATE ROLE guest;
GRANT pg_read_server_files TO reader;
GRANT SELECT ON notes TO guest, reader;
END
says 42501 "kalm_load" "SET ROLE guest" "SELECT kalm_load('$model')"
says 42501 "kalm.model" "SET ROLE guest" "SET kalm.model = '/etc/passwd'"
says 42501 "kalm.threads" "SET ROLE guest" "SET kalm.threads = 8"
says 42501 "reads files of the server" "GRANT EXECUTE ON FUNCTION kalm_load TO guest" "SET ROLE guest" "SELECT kalm_load('$model')"
equal "$(ask "SET ROLE guest" "SELECT kalm_score('chess', 'a game of chess') > 0")" t "everybody may use the model"
equal "$(ask "SET ROLE reader" "SELECT kalm_load('$model')")" tiny "who reads files may choose a model"
# a setting made before the extension is there has no effect
sql -q -c "ALTER ROLE guest LOGIN"
equal "$("$server_bin/psql" -X -qAt -h "$server/run" -U guest -d test -c "SET kalm.model = '$model'" -c "SELECT kalm_score('q', 'a')" 2>&1 | grep -c 'no model is chosen')" 1 "a stranger's setting"
# nor one that a stranger keeps with the role
"$server_bin/psql" -X -q -h "$server/run" -U guest -d test -c "ALTER ROLE guest SET kalm.model = '$model'" > "$dir/log" 2>&1
equal "$("$server_bin/psql" -X -qAt -h "$server/run" -U guest -d test -c "SELECT kalm_score('q', 'a')" 2>&1 | grep -c 'no model is chosen')" 1 "a stranger's setting of the role ($(cat "$dir/log"))"
equal "$("$server_bin/psql" -X -qAt -h "$server/run" -U guest -d test -c "SELECT kalm_score('q', 'a')" -c "SELECT kalm_load('$model')" 2>&1 | grep -c 'reads files of the server')" 1 "a stranger's kalm_load"
equal "$("$server_bin/psql" -X -qAt -h "$server/run" -U guest -d test -c "CREATE FUNCTION pg_temp.f(text) RETURNS text AS 'kalm', 'kalm_pg_load' LANGUAGE C" 2>&1 | grep -c 'permission denied')" 1 "a stranger's own declaration"
# but a superuser may let others
ask "GRANT SET ON PARAMETER kalm.model TO guest" "ALTER ROLE guest RESET kalm.model" > "$dir/log"
equal "$("$server_bin/psql" -X -qAt -h "$server/run" -U guest -d test -c "SET kalm.model = '$model'" -c "SELECT kalm_score('q', 'a') > 0" 2>&1)" t "GRANT SET ON PARAMETER"
equal "$(ask "BEGIN" "SELECT kalm_load('/etc/passwd')" "ROLLBACK" "SELECT kalm_score('chess', 'chess') > 0" | tail -n 1)" t "a model that cannot be loaded leaves the one before"
equal "$(ask "SET kalm.model = ''" "BEGIN" "SELECT kalm_load('$model')" "ROLLBACK" "SHOW kalm.model" | tr '\n' ,)" "tiny,," "kalm_load is undone with its transaction"

# ---- cancelled statements: 20 times each, by a timeout and by another session; then the session goes on, and memory is flat. A machine
# that is busy with other things may make a few of them late ----
cat > "$dir/cancel.sql" << 'END'
CREATE TEMP TABLE long AS SELECT i AS id, repeat('word ' || i || ' ', 300) AS body FROM generate_series(1, 300) i;
CREATE TEMP TABLE took (ms float8);
CREATE FUNCTION pg_temp.cancelled(sql text, deadline float8) RETURNS void LANGUAGE plpgsql AS $$
DECLARE began timestamptz := statement_timestamp();
BEGIN
    EXECUTE sql;
    RAISE 'it ended by itself: %', sql;
EXCEPTION WHEN query_canceled THEN
    INSERT INTO took VALUES (extract(epoch FROM clock_timestamp() - began) * 1000 - deadline);
END $$;
SELECT kalm_score('q', 'a') > 0 AS warm \gset
-- once uncounted: PL/pgSQL is loaded and the function compiled
SET statement_timeout = 200; SELECT pg_temp.cancelled('SELECT kalm_score(''q'', ''a''), pg_sleep(1)', 200); SET statement_timeout = 0;
TRUNCATE took;
SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'kalm' \gset
SELECT format('SET statement_timeout = %s; SELECT pg_temp.cancelled(%L, %s); SET statement_timeout = 0', 60 + i,
    (ARRAY['SELECT count(*) FROM kalm_rerank(''q'', ARRAY(SELECT id FROM long), ARRAY(SELECT body FROM long))',
           'SELECT sum(kalm_score(''q'', body)) FROM long', 'SELECT sum(length(kalm_encode(body))) FROM long',
           'SELECT kalm_score(repeat(''a query of many words '', 2000000), ''a'')'])[1 + i % 4], 60 + i) FROM generate_series(1, 20) i \gexec
SELECT 'timeout', count(*), count(*) FILTER (WHERE ms < 100) > 15, round(max(ms)::numeric, 1), (SELECT total_bytes - :total_bytes FROM pg_backend_memory_contexts WHERE name = 'kalm') < 1000000 FROM took;
SELECT kalm_score('chess', 'a game of chess') > 0;
END
sql -qAt -d test -c "SET kalm.model = '$model'" -f "$dir/cancel.sql" > "$dir/log" 2>&1
echo "statement_timeout: count, all but a few within 100 ms, the longest in ms, memory flat: $(grep timeout "$dir/log")"
case $(grep -v '^$' "$dir/log") in "timeout|20|t|"*"|t
t") ok ;; *) bad "statement_timeout: $(cat "$dir/log")" ;; esac

# a session asks for the other's end by pg_cancel_backend; both clocks are the server's
cat > "$dir/victim.sql" << 'END'
CREATE TEMP TABLE long AS SELECT i AS id, repeat('word ' || i || ' ', 300) AS body FROM generate_series(1, 300) i;
SELECT kalm_score('q', 'a') > 0 AS warm \gset
END
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    echo "SELECT 'round $i' FROM kalm_rerank('q', ARRAY(SELECT id FROM long), ARRAY(SELECT body FROM long), 1);"
    echo "SELECT 'ended', extract(epoch FROM clock_timestamp());"
done >> "$dir/victim.sql"
sql -qAt -d test -c "SET application_name = 'victim'" -c "SET kalm.model = '$model'" -f "$dir/victim.sql" > "$dir/victim" 2>&1 &
cat > "$dir/killer.sql" << 'END'
CREATE TEMP TABLE shot (query_start timestamptz);
CREATE FUNCTION pg_temp.shoot() RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE v record;
BEGIN
    FOR i IN 1..2000 LOOP              -- twenty seconds at most
        PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
        SELECT pid, query_start INTO v FROM pg_stat_activity WHERE application_name = 'victim' AND state = 'active'
            AND query LIKE '%round%' AND clock_timestamp() - query_start > '0.1 s'
            AND query_start NOT IN (SELECT shot.query_start FROM shot);
        IF FOUND THEN
            INSERT INTO shot VALUES (v.query_start);
            PERFORM pg_cancel_backend(v.pid);
            RETURN extract(epoch FROM clock_timestamp());
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
END
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    echo "SELECT pg_temp.shoot();"
done >> "$dir/killer.sql"
sql -qAt -d test -f "$dir/killer.sql" 2>&1 | grep -v '^$' > "$dir/asked"
wait $!
sed -n 's/^ended|//p' "$dir/victim" | paste -d ' ' - "$dir/asked" | awk '{ ms = ($1 - $2) * 1000; if (ms > most) most = ms; if (ms < 100 && ms > 0) n++ } END { printf "%d %.1f\n", n, most }' > "$dir/log"
echo "pg_cancel_backend: within 100 ms, the longest in ms: $(cat "$dir/log")"
case $(cat "$dir/log") in 20\ *|1[6-9]\ *) ok ;; *) bad "pg_cancel_backend: $(cat "$dir/victim" "$dir/asked")" ;; esac
equal "$(grep -c 'canceling statement due to user request' "$dir/victim")" 20 "cancelled statements"
# the same error where it is caught as where it is not; pg_terminate_backend ends the session and no other
ask "SELECT pg_terminate_backend(pg_backend_pid())" > "$dir/log"
sql -qAt -d test -c "SET application_name = 'victim'" -c "SET kalm.model = '$model'" -c "SET kalm.threads = 2" \
    -c "SELECT 'round' FROM kalm_rerank('q', ARRAY(SELECT number FROM notes), ARRAY(SELECT repeat(body, 9) FROM notes))" > "$dir/victim" 2>&1 &
sleep 1
equal "$(ask "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity WHERE application_name = 'victim'" "SELECT kalm_score('q', 'a') > 0" | tr '\n' ' ')" "t t " "pg_terminate_backend"
wait $!
grep -q "terminating connection" "$dir/victim" && ok || bad "terminated: $(cat "$dir/victim")"
# memory and the log of another kind of interrupt, in the middle of a computation: it goes on
sql -qAt -d test -c "SET application_name = 'victim'" -c "SET kalm.model = '$model'" \
    -c "SELECT count(*) FROM kalm_rerank('q', ARRAY(SELECT number FROM notes LIMIT 400), ARRAY(SELECT body FROM notes LIMIT 400))" > "$dir/victim" 2>&1 &
victim=$!
for i in $(seq 1 50); do
    ask "SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE application_name = 'victim' AND state = 'active'" > "$dir/log"
    ! grep -q 'kalm: [0-9]* total' "$server/run/log" || break
    sleep 0.1
done
wait $victim
equal "$(cat "$dir/victim")" 400 "an interrupt that cancels nothing"
grep -q 'kalm: [0-9]* total' "$server/run/log" && ok || bad "the log of memory does not name kalm"
# errors leave nothing behind
equal "$(ask "SELECT kalm_score('q', 'a') > 0" "CREATE TEMP TABLE was AS SELECT used_bytes FROM pg_backend_memory_contexts WHERE name = 'kalm'" \
    "DO \$\$ BEGIN FOR i IN 1..2000 LOOP BEGIN PERFORM kalm_rerank('q', ARRAY[1, 2], ARRAY[kalm_encode('a'), '\\x00']); EXCEPTION WHEN invalid_binary_representation THEN END; END LOOP; END \$\$" \
    "SELECT m.used_bytes - was.used_bytes < 1000 FROM pg_backend_memory_contexts m, was WHERE name = 'kalm'" | tr '\n' ' ')" "t t " "memory after 2000 errors"
equal "$(ask "SELECT kalm_score('q', 'a') > 0" "SELECT total_bytes AS full FROM pg_backend_memory_contexts WHERE name = 'kalm'" "SELECT kalm_load(NULL)" \
    "SELECT used_bytes < 20000 FROM pg_backend_memory_contexts WHERE name = 'kalm'" | tail -n 1)" t "memory of a model that was closed"

# ---- threads of the library never run a signal handler of the server; memory that is refused ----
ask "SET kalm.threads = 3" "SELECT kalm_score('q', 'a') > 0" "COPY (SELECT pg_backend_pid()) TO PROGRAM 'read p; cat /proc/\$p/task/*/status > $server/run/threads; chmod 644 $server/run/threads'" > "$dir/log"
equal "$(awk '/^SigBlk/ { n++; if (substr($2, 13, 4) == "feff") blocked++ } END { print n, blocked }' "$server/run/threads")" "3 2" "threads and their signals"
limit="COPY (SELECT pg_backend_pid()) TO PROGRAM 'read p; v=\$(sed -n \"s/VmSize:[^0-9]*\\([0-9]*\\).*/\\1/p\" /proc/\$p/status); prlimit --pid \$p --as=\$(( (v + 6500) * 1024 )):unlimited'"
free="COPY (SELECT pg_backend_pid()) TO PROGRAM 'read p; prlimit --pid \$p --as=unlimited'"
says 53200 "cannot use the model file" "SELECT kalm_score('q', 'a') > 0" "$limit" "SET kalm.threads = 2" "SELECT kalm_score('q', 'a')"
equal "$(ask "SELECT kalm_score('q', 'a') > 0" "$limit" "SET kalm.threads = 2" "SELECT kalm_score('q', 'a')" "$free" "SELECT kalm_score('q', 'a') > 0" | cut -c 1-13 | grep -v -e DETAIL -e LOCATION | tr '\n' ,)" "t,ERROR:  53200,t," "memory that is refused, then granted"

# ---- parallel workers: the same scores, computed elsewhere ----
mode=$(ask "SELECT CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'force_parallel_mode' ELSE 'debug_parallel_query' END")
parallel="SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2"
ask "CREATE TABLE many AS SELECT number, body FROM notes WHERE number <= 300" "ANALYZE many" > "$dir/log"
ask "$parallel" "EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT number, kalm_score('image viewer', body) FROM many" > "$dir/log"
grep -q 'Workers Launched: 2' "$dir/log" && ok || bad "no parallel plan: $(cat "$dir/log")"
one=$(ask "SET max_parallel_workers_per_gather = 0" "SELECT md5(string_agg(number || ' ' || s, ',' ORDER BY number)) FROM (SELECT number, kalm_score('image viewer', body) AS s FROM many OFFSET 0) t")
equal "$(ask "$parallel" "SELECT md5(string_agg(number || ' ' || s, ',' ORDER BY number)) FROM (SELECT number, kalm_score('image viewer', body) AS s FROM many OFFSET 0) t")" "$one" "scores of parallel workers"
equal "$(ask "RESET kalm.model" "SET ROLE reader" "SELECT kalm_load('$model')" "$parallel" "SET $mode = on" "SET parallel_leader_participation = off" \
    "SELECT count(kalm_score('q', body)) FROM notes WHERE number <= 30" | tail -n 1)" 30 "kalm_load by one who is no superuser, used by workers"
says 22P03 "these 1 bytes" "$parallel" "SET $mode = on" "SELECT kalm_score('q', '\\x61'::bytea) FROM notes"
says 57014 "statement timeout" "$parallel" "SET statement_timeout = 300" "SELECT sum(kalm_score('image viewer', repeat(body, 9))) FROM many"

# ---- the extension as an object of the database ----
echo "CREATE FUNCTION kalm_newer() RETURNS int LANGUAGE sql AS 'SELECT 1'" > "$server$server_share/extension/kalm--0.1--0.2.sql"
equal "$(ask "ALTER EXTENSION kalm UPDATE TO '0.2'" "SELECT extversion, kalm_newer(), kalm_score('q', 'a') > 0 FROM pg_extension WHERE extname = 'kalm'")" "0.2|1|t" "ALTER EXTENSION UPDATE"
equal "$(ask "CREATE SCHEMA ext" "ALTER EXTENSION kalm SET SCHEMA ext" "SELECT ext.kalm_score('q', 'a') > 0" "ALTER EXTENSION kalm SET SCHEMA public")" t "ALTER EXTENSION SET SCHEMA"
equal "$(ask "SELECT string_agg(p.proname || provolatile::text || proparallel::text, ' ' ORDER BY p.oid) FROM pg_proc p WHERE proname LIKE 'kalm\_%' AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c')")" \
    "kalm_loadvu kalm_encodess kalm_scoress kalm_scoress kalm_rerankss kalm_rerankss" "volatility and parallel safety"
says 42P17 "must be marked IMMUTABLE" "CREATE INDEX ON notes (kalm_encode(body))"
"$server_bin/pg_dump" -h "$server/run" -U postgres -Fc test > "$dir/dump" && sql -q -c "CREATE DATABASE restored" && as_server "$server_bin/pg_restore" -h "$server/run" -U postgres -d restored < "$dir/dump" > "$dir/log" 2>&1
equal "$(cat "$dir/log")" "" "pg_dump and pg_restore"
sum="SELECT count(*), md5(string_agg(document::text, ',' ORDER BY number)), sum(kalm_score('chess', document)) FROM notes WHERE document IS NOT NULL"
want=$(ask "$sum")
equal "$(db=restored ask "$sum")" "$want" "documents after pg_dump and pg_restore"
says 2BP01 "" "CREATE VIEW v AS SELECT kalm_score('q', 'a')" "DROP EXTENSION kalm"
equal "$(db=restored ask "DROP EXTENSION kalm" "SELECT count(*) FROM pg_proc WHERE proname IN ('kalm_load', 'kalm_encode', 'kalm_score', 'kalm_rerank')")" 0 "DROP EXTENSION"

# ---- encodings: texts are converted, or refused ----
want=$(ask "SELECT kalm_score(U&'caf\\00E9', U&'ein Caf\\00E9 f\\00FCr dich')")
for encoding in LATIN1 EUC_KR SQL_ASCII; do
    sql -q -c "CREATE DATABASE encoded ENCODING $encoding LOCALE 'C' TEMPLATE template0" -c "\\c encoded" -c "CREATE EXTENSION kalm"
    case $encoding in
    LATIN1) equal "$(db=encoded ask "SELECT kalm_score(E'caf\\351', E'ein Caf\\351 f\\374r dich')")" "$want" "LATIN1" ;;
    EUC_KR) equal "$(db=encoded ask "SET client_encoding = UTF8" "SELECT kalm_encode('\355\225\234\352\265\255')")" "$(ask "SELECT kalm_encode('\355\225\234\352\265\255')")" "EUC_KR" ;;
    SQL_ASCII)
        db=encoded says 22021 "invalid byte sequence" "SELECT kalm_score('q', E'caf\\351')"
        equal "$(db=encoded ask "SELECT kalm_score(E'caf\\303\\251', E'ein Caf\\303\\251 f\\303\\274r dich')")" "$want" "UTF-8 in SQL_ASCII" ;;
    esac
    sql -q -c "DROP DATABASE encoded"
done

# ---- the README shows what its demo prints ----
sql -q -c "CREATE DATABASE demo"
sql -d demo --set=model="$model" --file=examples/postgres/demo.sql > "$dir/demo" 2>&1
awk '/^prints$/ { on = 1; next } on && /^```$/ { if (inside) exit; inside = 1; next } inside' examples/postgres/README.md | cmp - "$dir/demo" && ok || bad "the README of the extension shows something else"
awk '/^```sql$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' examples/postgres/README.md | cmp - examples/postgres/demo.sql && ok || bad "the README of the extension shows another demo"

# ---- the server never crashed ----
equal "$(grep -c -e 'server process .* was terminated' -e PANIC "$server/run/log")" 0 "crashes"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
