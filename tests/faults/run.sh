#!/bin/sh
# run.sh BUILD [STEP] - the commands on a system that fails (preload.c): every STEP-th call of each kind fails in turn, alone and with
# all that follow; STEP 1, what make faults does, is every call. After each run:
#   - the command ended by itself: with its right output, or with a status of failure and a sentence; a signal is a fault. What answers requests may
#     answer one with an error instead
#   - no temporary file is left
#   - a store is whole, as kalm-index --verify has it, or was never begun; and the same command without faults completes it
# And it is killed before every STEP-th call; then too the next run completes what was begun, and nothing is left of the killed one.
# KALM_KILLS=N: what writes is also killed N times at random moments, every other time twice before the next run may complete it.
# KALM_SEED says which moments; KINDS=moment: nothing but these.
# FAULTS_OF='search server': these scenes alone; KINDS='malloc kill': these kinds of calls alone. STEP 0: nothing fails, each scene runs
# once; make valgrind does that, with UNDER='valgrind ...' before each command.
top=$(cd "$(dirname "$0")/../.." && pwd)
made_in=$(cd "$1" && pwd)
step=${2:-1}
dir=$made_in/tmp/faults.$$
mkdir -p "$dir/bin"
cd "$dir" || exit 1
# copies of the commands, so that a build beside this one changes nothing between a run and the next, which are compared
build=$dir/bin
for command in random-checkpoint quantize index rerank eval search server; do
    [ ! -x "$made_in/kalm-$command" ] || cp "$made_in/kalm-$command" bin/ || exit 1
done
passed=0 failed=0 runs=0
seed=${KALM_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
${CC:-cc} -O1 -shared -fPIC -o preload.so "${SOURCE:-$top/tests/faults/preload.c}" -ldl || { echo '0 passed, 1 failed'; exit 1; }

bad() {
    failed=$((failed + 1))
    [ $failed -gt 20 ] || { echo "FAILED: $fault: $command: $*"; head -n 3 err; }
}
good() { passed=$((passed + 1)); }

# ---- inputs: small, so that there are few calls ----
"$build/kalm-random-checkpoint" hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=8192 --quiet checkpoint &&
cp "$top/examples/tiny/tokenizer.model" checkpoint/ &&
"$build/kalm-quantize" checkpoint right.kalm --weights q8 --quiet || { echo '0 passed, 1 failed'; exit 1; }
cat > corpus.jsonl << 'END'
{"_id": "a", "title": "one", "text": "play chess against the computer"}
{"_id": "b", "text": "an image viewer that also edits photos, and a longer text than the others so that there are windows of it"}
{"_id": "c", "text": "backups of files, compressed and encrypted"}
END
mkdir eval
cp corpus.jsonl eval/corpus.jsonl
echo '{"_id": "q1", "text": "chess"}' > eval/queries.jsonl
mkdir eval/qrels
printf 'query-id\tcorpus-id\tscore\nq1\ta\t1\nq1\tb\t0\n' > eval/qrels/test.tsv
printf 'q1 Q0 a 1 2.5 t\nq1 Q0 b 2 2 t\nq1 Q0 c 3 1 t\n' > eval/bm25.run
mkdir -p Dialogue/Set/one                    # as LMEB has it: candidates come by scenes
sed 's/"_id"/"id"/' corpus.jsonl > Dialogue/Set/corpus.jsonl
echo '{"id": "a_7_x", "text": "chess"}' > Dialogue/Set/one/queries.jsonl
printf 'a_7_x\ta\t1\n' > Dialogue/Set/one/qrels.tsv
printf '{"scene_id": "a_%s", "candidate_doc_ids": ["a", "%s"]}\n' 7 b 7 c > Dialogue/Set/candidates.jsonl
mkdir docs mails collections
cp -r eval collections/small
printf '# Chess\n\nplay chess against the computer\n' > docs/a.md
printf '<title>Photos</title><p>an image viewer that also edits photos\n' > docs/b.html
printf '{"_id": "one", "text": "backups of files"}\n{"text": "encrypted archives"}\n' > docs/c.jsonl
printf 'Subject: holidays\n\nthe lighthouse is closed\n' > mails/d.eml
touch -d 2020-01-01 docs/* mails/*            # their times say that they have not changed since
printf '%s\n' '{"id": 1, "method": "tools/list"}' '{"id": 2, "method": "tools/call", "params": {"name": "search", "arguments": {"query": "chess files"}}}' '{"id": 3, "method": "ping"}' > lines

head -n 1 corpus.jsonl > corpus.1.jsonl
tail -n 2 corpus.jsonl > corpus.2.jsonl
for i in 1 2; do "$build/kalm-index" right.kalm right.part$i.db corpus.$i.jsonl --split 12 --overlap 2 --quiet || { echo '0 passed, 1 failed'; exit 1; }; done
rm corpus.?.jsonl

dump() { sqlite3 "$1" 'SELECT number, key, window, windows, start, hash, tokens, tokens_used, title, text, metadata, hex(document) FROM documents ORDER BY number; SELECT * FROM meta' 2>&1; }

dump_states() { sqlite3 "$1" 'SELECT number, document, hex(state) FROM states ORDER BY number; SELECT * FROM meta; PRAGMA integrity_check' 2>&1; }

# The hashes of files have a key of their own in every database.
dump_search() { sqlite3 "$1" "SELECT key, window, windows, start, hash, title, text, metadata, hex(document) FROM documents ORDER BY key, window; SELECT hex(path), size, hash <> '0000000000000000', documents, note FROM search_files ORDER BY path; CREATE VIRTUAL TABLE temp.v USING fts5vocab(main, search_words, row); SELECT * FROM v ORDER BY term" 2>&1; }

# What each command is, what is left of an earlier run, and whether its output is right. `command` names it.
prepare() {
    rm -rf out.kalm* store.db* out.txt tables made
    case $command in
    rank_store | states) cp right.db store.db ;;
    rank_states) cp right.db store.db; cp right.states store.db.states ;;
    ask | mcp) cp right.search.db store.db ;;
    merge) cp right.part1.db store.db ;;
    esac
}
run() (                            # a command that never ends, or that writes for ever, is ended by a signal
    ulimit -t $((60 * ${KALM_PATIENCE:-1}))
    ulimit -f 2097152
    case $command in
    quantize) $UNDER "$build/kalm-quantize" checkpoint out.kalm --weights q8 --quiet ;;
    cut) $UNDER "$build/kalm-quantize" right.kalm out.kalm --side decoder --vocabulary ascii,corpus.jsonl --held-out eval/corpus.jsonl --quiet ;;
    calibrate) $UNDER "$build/kalm-quantize" checkpoint out.kalm --weights q4 --calibrate corpus.jsonl --threads 2 --quiet ;;
    checkpoint) $UNDER "$build/kalm-random-checkpoint" hidden=32 mlp=48 layers=1 heads=2 kv_heads=1 head_dim=16 window=4 vocabulary=16000 --shard-size 1 --quiet made ;;
    index) $UNDER "$build/kalm-index" right.kalm store.db corpus.jsonl --threads 2 --batch 1 --split 12 --overlap 2 --quiet ;;
    merge) $UNDER "$build/kalm-index" store.db --merge right.part2.db --quiet ;;
    rank) $UNDER "$build/kalm-rerank" right.kalm chess --documents corpus.jsonl --threads 2 --json > out.txt ;;
    rank_store | rank_states) $UNDER "$build/kalm-rerank" right.kalm chess --store store.db --threads 1 > out.txt ;;
    states) $UNDER "$build/kalm-index" right.kalm store.db --states all --threads 1 --quiet ;;
    eval) $UNDER "$build/kalm-eval" right.kalm eval --threads 1 > out.txt ;;
    scenes) $UNDER "$build/kalm-eval" right.kalm Dialogue/Set/one --threads 1 > out.txt ;;
    tables) PATH=/nowhere $UNDER "$build/kalm-eval" --tables tables collections right.kalm --ratio 4,8 --bits 16 --rounds 100 --threads 1 > out.txt ;;
    search) $UNDER "$build/kalm-search" right.kalm store.db docs --threads 1 --batch 1 --quiet ;;
    mail) $UNDER "$build/kalm-search" right.kalm store.db docs mails --threads 1 --batch 1 --quiet ;;
    ask) $UNDER "$build/kalm-search" store.db 'chess photos' --threads 1 --json > out.txt ;;
    mcp) $UNDER "$build/kalm-search" store.db --mcp --threads 1 --quiet < lines > out.txt ;;
    server) served ;;
    esac
)
# kalm-server and its client, to which alone nothing happens; KALM_FAULT and the others reach the server.
served() {
    (
        FAULT=$KALM_FAULT COUNT=$KALM_FAULT_COUNT PRELOAD=$LD_PRELOAD
        unset KALM_FAULT KALM_FAULT_COUNT LD_PRELOAD
        exec python3 -I -S "$top/tests/faults/client.py" "$FAULT" "$COUNT" "$PRELOAD" "${right:-right.server}" $UNDER "$build/kalm-server" right.kalm --port 0 --store store.db --bits 32 --threads 1 > out.txt
    )
}
# What a person or a program is told of a failure that the command lives with.
is_explained() {
    case $command in
    mcp) grep -q '"isError":true\|"error":{' out.txt ;;
    server) grep -q '^5[0-9][0-9] {\|^closed' out.txt ;;               # client.py compares the other lines
    *) return 1 ;;
    esac
}
is_right() {
    case $command in
    quantize) cmp -s out.kalm right.kalm ;;
    cut | calibrate) cmp -s out.kalm right.$command ;;
    checkpoint) diff -r made right.made > /dev/null 2>&1 ;;
    index | merge) dump store.db | cmp -s - right.dump ;;
    states) cmp -s store.db right.db && dump_states store.db.states | cmp -s - right.states.dump ;;
    rank_states) cmp -s out.txt right.rank_store ;;                    # with states or without
    eval | scenes) timeless out.txt | cmp -s - right.$command ;;
    tables) cmp -s tables/quality.json right.tables ;;
    search | mail) dump_search store.db | cmp -s - right.$command ;;
    ask) sed '/"milliseconds"/s/"milliseconds".*//' out.txt | cmp -s - right.ask ;;
    *) cmp -s out.txt right.$command ;;
    esac
}
# The first lines in which the output of a command that goes on differs from the right one.
difference() {
    case $command in
    index | merge) dump store.db | diff right.dump - ;;
    states) dump_states store.db.states | diff right.states.dump - ;;
    search | mail) dump_search store.db | diff "right.$command" - ;;
    tables) diff right.tables tables/quality.json ;;
    esac | cut -c 1-300 | head -n 3
}
# Commands that go on where they were stopped.
goes_on() { case $command in index | merge | states | search | mail | tables) return 0 ;; *) return 1 ;; esac; }
timeless() { sed 's/ encoded in.*//; /^ratio/s/ *[0-9.]*$//' "$1"; }
# Nothing but what the command is for. Journals beside a store are SQLite's, which takes them in when it is opened again; after a
# success there is none, unless the system fails for good ("+") when all is done.
# (No program is started that has nothing to say: this is looked at after every run.)
left_over() {
    for at in tables made; do [ ! -d $at ] || find $at -name '*.new' -o -name '*.tmp-*'; done
    [ "$1" != 0 ] || [ ! -d tables ] || find tables -name '*.spool'        # after a failure the next run takes it away
    for at in *; do
        case $at in
        bin | preload.so | checkpoint | right.* | corpus.jsonl | eval | Dialogue | docs | mails | collections | lines) ;;
        store.db | store.db.states | out.kalm | out.txt | tables | made | err | count) ;;
        store.db-journal | store.db-wal | store.db-shm | store.db.states-journal | store.db.states-wal | store.db.states-shm)
            [ "$1" != 0 ] || [ "$after" != '' ] || echo "$at" ;;
        *) echo "$at" ;;
        esac
    done
}

check() {
    if [ $status -ge 126 ] && ! { [ $status -eq 137 ] && [ "$kind" = kill ]; }; then bad "ended by a signal, status $status"; return; fi
    if [ $status -eq 0 ] && ! is_right && ! is_explained; then bad 'succeeded with another output'; return; fi
    case $how in
    # no failures: what was cut short or interrupted is tried again
    :short | :EINTR) [ "$kind" = write ] && [ "$how" = :short ] || { is_right && [ $status -eq 0 ]; } || { bad "status $status: it was only $how"; return; } ;;
    esac
    if [ $status -ne 0 ] && [ $status -ne 137 ] && [ ! -s err ]; then bad "status $status without a word"; return; fi
    if [ $status -ne 137 ] && [ -n "$(left_over $status)" ]; then bad "left behind: $(left_over $status)"; return; fi
    if [ $status -ne 0 ] && { [ "$command" = index ] || [ "$command" = merge ] || [ "$command" = search ] || [ "$command" = mail ] || [ "$command" = server ]; }; then
        if [ -s store.db ] && ! "$build/kalm-index" right.kalm store.db --verify > verify.txt 2>&1 && ! grep -q 'no store yet' verify.txt; then
            mv verify.txt err
            bad 'the store is damaged'
            return
        fi
        rm -f verify.txt
    fi
    # whatever became of the states, ranking with them is ranking without them
    if [ "$command" = states ] && [ $status -ne 0 ] && { ! command=rank_states run > /dev/null 2> err || ! command=rank_states is_right; }; then
        bad 'half made states change the ranking'
        return
    fi
    if [ $status -eq 137 ] || { [ $status -ne 0 ] && goes_on; }; then
        right=
        [ "$command" != server ] || right=none             # its store has documents by now: other answers are right
        run > /dev/null 2> err || { right=; bad 'the next run fails'; return; }
        right=
        [ "$command" = server ] || is_right || { difference > err; bad 'the next run gives another output'; return; }
        [ -z "$(left_over 0)" ] || { bad "the next run leaves behind: $(left_over 0)"; return; }
    fi
    good
}

# every KIND HOW: each call of the kind in turn
every() {
    kind=$1 how=$2 n=1
    case " ${KINDS:-$kind} " in *" $kind "*) ;; *) return ;; esac
    prepare
    rm -f count
    KALM_FAULT="$kind:1000000000" KALM_FAULT_COUNT=$dir/count LD_PRELOAD=$dir/preload.so; export KALM_FAULT KALM_FAULT_COUNT LD_PRELOAD
    run > /dev/null 2> err
    status=$?
    unset KALM_FAULT KALM_FAULT_COUNT LD_PRELOAD
    fault="$kind, none fails"
    [ $status -eq 0 ] && is_right || { bad "status $status"; return; }
    calls=$(cat count 2> /dev/null || echo 0)
    counted="$counted${counted:+, }$calls $kind$how"
    stride=$step
    [ "$kind" = sqlite ] && stride=$((step * ((calls + 99) / 100)))    # SQLite tries its own; these are for what we make of its answers
    [ "$kind" = thread ] && stride=1
    [ "$step" -eq 0 ] || [ "$kind$command" != mallocask ] || stride=1    # a second for all, and a passage must not go missing
    n=$((1 + (calls > stride ? stride / 2 : 0))) first=0
    # always: what is taken before anything is read, such as the name of a model
    [ "$step" -eq 0 ] || [ "$kind$command" != mallocquantize ] || n=1 first=8
    while [ "$n" -le "$calls" ]; do
        for after in '' '+'; do
            case $kind$after$how in 'kill+' | *'+:EINTR' | 'socket+'*) continue ;; esac
            fault=$kind:$n$after$how
            prepare
            KALM_FAULT=$fault LD_PRELOAD=$dir/preload.so; export KALM_FAULT LD_PRELOAD
            run > /dev/null 2> err
            status=$?
            unset KALM_FAULT LD_PRELOAD
            runs=$((runs + 1))
            check
        done
        n=$((n < first ? n + 1 : n + stride))
    done
}

# KALM_KILLS times: killed at a moment between its start and a little after its end, as long as it takes here
timeout=$(command -v timeout)         # a scene has no PATH
now() { date +%s%N | cut -c 1-13; }
kills() {
    kind=kill how= after= n=0 hits=0 span=100000
    case " ${KINDS:-moment} " in *' moment '*) ;; *) return ;; esac
    for twice in 1 2 3; do             # the least of three: a busy machine takes longer now and then
        prepare
        began_at=$(now)
        run > /dev/null 2> err
        took=$(($(now) - began_at))
        [ $took -ge $span ] || span=$took
    done
    while [ $n -lt "${KALM_KILLS:-0}" ]; do
        n=$((n + 1))
        prepare
        for twice in $([ $((n % 2)) -eq 0 ] || echo 1) 0; do
            moment=$(awk -v seed=$((seed + 2 * n + twice)) -v span=$span 'BEGIN { srand(seed); rand(); printf "%.4f", rand() * span / 900 }')
            fault="killed $n of seed $seed after $moment s"
            UNDER="$timeout --foreground -s KILL $moment" run > /dev/null 2> err
            status=$?
            [ $status -ne 124 ] || status=0    # it had ended by itself just then; is_right looks at what it made
            [ $status -ne 137 ] || hits=$((hits + 1))
        done
        runs=$((runs + 1))
        check
    done
    counted="$counted${counted:+, }$hits kills within $span ms"
}

commands='quantize index merge rank rank_store states rank_states eval scenes tables'
[ ! -x "$build/kalm-search" ] || commands="$commands search mail ask mcp"
[ ! -x "$build/kalm-server" ] || commands="$commands server"
for command in ${FAULTS_OF:-$commands}; do
    began=$(date +%s) counted=
    prepare
    run > /dev/null 2> err || { fault=none; bad 'fails by itself'; [ "$step" -gt 0 ] || cat err; continue; }
    [ "$step" -gt 0 ] || good
    case $command in
    quantize) ;;
    cut | calibrate) cp out.kalm right.$command ;;
    checkpoint) cp -r made right.made ;;
    merge) is_right || { fault=none; bad 'is not what one run encodes'; continue; } ;;
    index) dump store.db > right.dump; cp store.db right.db ;;
    states) dump_states store.db.states > right.states.dump; cp store.db.states right.states ;;
    rank_states) ;;
    eval | scenes) timeless out.txt > right.$command ;;
    tables) cp tables/quality.json right.tables ;;
    search | mail) dump_search store.db > right.$command; cp store.db right.search.db ;;
    ask) sed '/"milliseconds"/s/"milliseconds".*//' out.txt > right.ask ;;
    *) cp out.txt "right.$command" ;;
    esac
    if [ "$step" -eq 0 ]; then echo "$command: $(($(date +%s) - began)) s"; continue; fi
    before=$runs
    every malloc ''
    every sqlite ''
    every read :EIO
    every read :short
    every read :EINTR
    every open ''
    every folder ''
    every map ''
    case $command in
    tables) every write :ENOSPC; every flush ''; every rename ''; every kill '' ;;
    quantize | cut | calibrate | checkpoint | index | merge | states | search | mail | server) every write :ENOSPC; every write :EIO; every write :short; every write :EINTR; every sync ''; every rename ''; every kill '' ;;
    esac
    case $command in quantize | cut | calibrate | checkpoint | index | merge | states | search | mail | tables) kills ;; esac
    case $command in calibrate | index | rank | server) every thread '' ;; esac
    case $command in server | mcp) every socket :short; every socket :EINTR ;; esac
    echo "$command: $((runs - before)) runs, $(($(date +%s) - began)) s; calls: $counted"
    # standard output is stdio's: a full disk
    case $command in
    rank | rank_store | eval)
        fault='/dev/full' kind=full
        (cd "$dir" && case $command in
            rank) "$build/kalm-rerank" right.kalm chess --documents corpus.jsonl ;;
            rank_store) cp right.db store.db; "$build/kalm-rerank" right.kalm chess --store store.db ;;
            eval) "$build/kalm-eval" right.kalm eval ;;
        esac > /dev/full 2> err)
        if [ $? -eq 1 ] && [ -s err ]; then good; else bad 'a full disk under standard output goes unnoticed'; fi ;;
    esac
done
cd "$made_in" && rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
