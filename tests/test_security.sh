#!/bin/sh
# test_security.sh BUILD - SECURITY.md against the commands and the other tests: each row of its table of limits is tried here, or in the
# test that is named beside it, and its words must be those that were tried; which command opens connections, which runs programs.
build=$1 suite=security
. tests/command.sh
need_command kalm-index 'libsqlite3-dev is missing'
need_command kalm-search 'libjansson-dev is missing'
need_command kalm-server 'libmicrohttpd-dev or libjansson-dev is missing'
need_model
page=$root/SECURITY.md
rerank=$build/kalm-rerank index=$build/kalm-index search=$build/kalm-search eval=$build/kalm-eval server=$build/kalm-server

# row WORDS [TEST WORDS_OF_IT]: the table has these words; that file tries them
rows=0
row() {
    : > log
    rows=$((rows + 1))
    if grep -qF -e "| $1 |" "$page"; then ok; else bad "SECURITY.md has another limit than: $1"; fi
    shift
    while [ $# -gt 0 ]; do
        if grep -qF -e "$2" "$root/$1"; then ok; else bad "$1 does not try it: $2"; fi
        shift 2
    done
}

# ---- the limits ----
row 'model file | what the address space holds; 2^24 tokens in the vocabulary (2^20 in a tokenizer), 1024 layers a side, hidden size 65,536, MLP 262,144, 1024 heads of 1024, positions 2^28, strings 1 MiB' \
    tests/test_modelfile.c 'KALM__MAX_VOCABULARY + 1' tests/test_modelfile.c 'KALM__MAX_LAYERS + 1' tests/test_modelfile.c 'KALM__MAX_HIDDEN + 1' \
    tests/test_modelfile.c 'KALM__MAX_MLP + 1' tests/test_modelfile.c 'KALM__MAX_HEADS + 1' tests/test_modelfile.c 'KALM__MAX_HEAD_DIM + 2' \
    tests/test_modelfile.c 'KALM__MAX_POSITIONS + 1' tests/test_modelfile.c '(1 << 20) + 1' \
    src/format.h 'KALM__MAX_HIDDEN = 1 << 16, KALM__MAX_MLP = 1 << 18, KALM__MAX_HEADS = 1 << 10, KALM__MAX_HEAD_DIM = 1 << 10' \
    src/format.h 'KALM__MAX_LAYERS = 1 << 10, KALM__MAX_VOCABULARY = 1 << 24, KALM__MAX_POSITIONS = 1 << 28'
for id in 1048575 1048576; do
    printf '{"model": {"type": "BPE", "vocab": {"a": 0, "b": %s}, "merges": []}}' $id > tokenizer.json
    "$build/kalm-tokenize" tokenizer.json a > log 2>&1
    if [ $id -eq 1048576 ]; then says 'not a whole number below 1048576'; else silent 'below 1048576'; fi
done
row 'document | 2^32 - 1 tokens; what a context reads of it: `max_doc_tokens`, at most the model'"'"'s limit' tests/test_api.c 'c.max_doc_tokens = 2000000000u'
row 'query | `max_query_tokens`, at most what the decoder reads' tests/api_documents.h 'config.max_query_tokens = i == 0 ? UINT32_MAX'
row 'ratio | 2^32 - 1; the commands take up to 2^20' tests/api_documents.h 'p.ratio = UINT32_MAX'
for command in "$rerank $model chess chess" "$index $model ratio.db /dev/null" "$search $model ratio.db ." "$eval $model . " "$server $model --store ratio.db --port 70000"; do
    expect 2 $command --ratio 1048577
    expect 2 $command --ratio 0
done
expect 0 "$rerank" "$model" chess 'play chess' --ratio 1048576
row 'threads of a context | 256, of which the commands too use no more; `--threads` up to 4,096' tests/test_api.c 'test_many_threads();' src/threads.h 'KALM__MAX_THREADS 256u'
expect 0 "$rerank" "$model" chess 'play chess' --threads 4096
expect 2 "$rerank" "$model" chess 'play chess' --threads 4097
row 'documents in one ranking | `size_t`; of a store, 2^32 - 1' examples/store/store_rank.h 'if (r->count == UINT32_MAX) die('
row 'a line, a text or a file that is one text, read by the commands | 1 GiB; a line of `--calibrate` 1 MiB, all of it 256 MiB' \
    src/tools/reader_bytes.h 'READ_LONGEST ((size_t)1 << 30)' tests/test_reader.c 'test_longest();' tests/test_calibrate.c 'a text has at most 1048576' \
    src/tools/texts.h 'KALM__TEXTS_FILE = 1 << 28'
row 'nesting of JSON | a parser without recursion: bounded by memory; in requests to `kalm-server` and `kalm-search --mcp` 2,048' tests/server/check.py 'nested(2049)'
printf '{"id": 1, "method": "ping", "params": {"a": %s1%s}}\n' "$(printf '%2100s' '' | tr ' ' '[')" "$(printf '%2100s' '' | tr ' ' ']')" > deep.json
printf '{"_id": "a", "text": "chess", "metadata": {}}\n' > one.jsonl
mkdir docs
cp one.jsonl docs/
row '`kalm-search` | texts and pages of 16 MiB (`--max-size`), folders 128 deep, a line of `--mcp` 4 MiB; of a question the 64 rarest words are marked' \
    tests/test_search.sh 'a line of 4 MiB is a message, one byte more is not' examples/search/search_snippet.h 'enum { SEARCH_TERMS = 64 };'
deep=$(printf '%126s' '' | sed 's| |d/|g')     # below docs: 127 folders
mkdir -p "docs/${deep}e/f/g"
echo 'a passage about lighthouses' > "docs/${deep}e/lighthouse.txt"
echo 'a passage about windmills' > "docs/${deep}e/f/g/windmill.txt"
truncate -s 16777217 docs/large.txt
expect 3 "$search" "$model" docs.db docs
says 'large.txt: 16.0 MiB are more than --max-size'
says 'more than 128 folders deep'
"$search" docs.db 'lighthouses' --json > log 2>&1
says 'lighthouse.txt'
"$search" docs.db 'windmills' --json > log 2>&1
silent 'windmill.txt'
"$search" docs.db --mcp < deep.json > log 2>&1
says '"error":{"code":-32700'
row '`kalm-server` | a request: 16 MiB, 1,000 documents, 1,000,000 tokens, ten minutes; 1,000 requests that wait, 1,000 connections; half a minute for a client to send, and a second more for each 10 kB. Options set each (`--max-body` and so on)' \
    tests/server/check.py '"--max-body", "1", "--max-documents", "50", "--max-tokens", "3000", "--queue", "3", "--timeout", "%d" % PATIENCE, "--read-timeout", "%d" % PATIENCE' \
    examples/server/server_http.h 'HTTP_RATE = 10000'
"$server" --help > log 2>&1
tr -s '\n ' '  ' < log > help
for words in 'mebibytes of a request (default 16)' '(default 1000)' '(default 1000000)' '(default 600)' '(default 30)'; do
    if grep -qF -e "$words" help; then ok; else bad "kalm-server --help says no '$words'"; fi
done
row '32-bit targets | models and documents that fit the address space; sizes that do not fit are refused, not wrapped' Makefile 'm32: the tests as 32-bit programs'
equal $rows "$(sed -n '/^## Limits/,/^A context/p' "$page" | grep -c '^| [^w-]')" "rows of the table of limits"

# ---- what a command may do ----
# By what it asks of the C library; libraries that it is linked with are not looked at. The sanitizers bring wishes of their own.
case $build in
*sanitize* | *thread*) ;;
*)
    for tool in kalm-rerank kalm-quantize kalm-tokenize kalm-index kalm-search kalm-eval kalm-server; do
        nm -D --undefined-only "$build/$tool" | sed 's/.* U //; s/@.*//' > wishes
        net=$(grep -c -x -E 'socket|connect|bind|listen|accept4?|getaddrinfo' wishes)
        runs=$(grep -c -x -E 'exec[a-z]*|system|popen|fork|vfork|posix_spawnp?' wishes)
        case $tool in kalm-server) want='yes no' ;; kalm-eval) want='no yes' ;; *) want='no no' ;; esac
        equal "$([ "$net" -gt 0 ] && echo yes || echo no) $([ "$runs" -gt 0 ] && echo yes || echo no)" "$want" "$tool opens connections, runs programs"
    done ;;
esac
equal "$(grep -rhoE 'getenv\("[A-Z_]*"\)' "$root/examples" "$root/src/tools" "$root/quantize" "$root/tokenizer" --include='*.[ch]' | sort -u | tr '\n' ' ')" \
    'getenv("KALM_API_KEY") getenv("KALM_KERNELS") getenv("PATH") ' "what is read of the environment"
# the hash without a key: numbers of rows that are counted, ids of requests, and what store_same.h and the states' own checks stand behind
equal "$(cd "$root/examples" && grep -rlE '\<kalm__hash(er|_begin)?\>' . --include='*.[ch]' | sort | tr '\n' ' ')" \
    "./server/server_http.h ./server/server_queue.h ./store/store_fill.h ./store/store_states.h " "commands that call kalm__hash"
if grep -q 'Of the environment `KALM_KERNELS` is read, `KALM_API_KEY` by `kalm-server`, and `PATH` by `kalm-eval`' "$page"; then ok; else bad "SECURITY.md names another environment"; fi
# ---- a journal beside a stranger's store ----
echo 'play chess' > texts
expect 0 "$index" "$model" journal.db texts --format lines --quiet
for command in "$rerank $model chess --store journal.db" "$index journal.db --info" "$index $model journal.db texts --format lines" "$index other.db --merge journal.db" \
    "$search journal.db chess" "$search $model journal.db texts" "$server $model --store journal.db --port 0"; do
    echo precious > victim
    hostile_journal journal.db 16384
    # shellcheck disable=SC2086
    expect 1 $command
    says 'journal.db: the journal beside it names another file, which SQLite would delete'
    equal "$(cat victim)" precious "the file that a journal names, after $command"
    rm journal.db-journal
done
mkfifo journal.db-journal
expect 1 "$rerank" "$model" chess --store journal.db
says 'the journal beside it is no regular file'
rm journal.db-journal
expect 0 "$rerank" "$model" chess --store journal.db
finish
