#!/bin/sh
# test_eval.sh BUILD - kalm-eval as a command: its measures are those of trec_eval (compared with tables of trec_eval's output in
# tests/eval, and with the program itself where the variable TREC_EVAL names it); it reads test collections as they are published,
# and what is odd about them is told and changes no figure.
build=$1 suite=eval
. tests/command.sh
need_command kalm-eval 'it was not built'
eval=$build/kalm-eval

# ---- measures: each figure of each query, as trec_eval prints it ----
measures="-m num_ret,num_rel,num_rel_ret,map,recip_rank,ndcg -m ndcg_cut.1,3,5,7,10,20,100 -m map_cut.5,10,100
    -m recall.1,3,5,10,20,100 -m P.1,3,5,10,20,100 -m success.1,3,5,10"
for qrels in "$root"/tests/eval/*.qrels; do
    name=${qrels%.qrels}
    table() {
        "$eval" --measure "$qrels" "$name.run" $measures $1 2> notes | LC_ALL=C sort > ours
        if [ "$(wc -l < ours)" -ge 30 ]; then ok; else bad "$name $1: too few lines"; fi
        if diff ours "$name$2.trec_eval" > log; then ok; else bad "$name.run $1: not what trec_eval says"; fi
        [ -n "$TREC_EVAL" ] || return 0
        "$TREC_EVAL" $1 $(echo $measures | sed 's/num_ret,num_rel,num_rel_ret,map,recip_rank,ndcg/num_ret -m num_rel -m num_rel_ret -m map -m recip_rank -m ndcg/') \
            "$qrels" "$name.run" | LC_ALL=C sort > theirs
        same ours theirs
    }
    table -q ""
    table -c .c
    table "-l 2" .l2
    table "-M 7" .M7
done

# the number of queries is one of the whole run, not of a query
"$eval" --measure "$root"/tests/eval/graded.qrels "$root"/tests/eval/graded.run -m num_q,map -q > r1 2> log
equal "$(grep -c ^num_q r1)" 1 "lines with num_q"
equal "$(awk '$1 == "num_q" { print $2, $3 }' r1)" "all $(grep -c '^map' r1 | awk '{ print $1 - 1 }')" "num_q"

# ---- test collections as they are published: every layout, packed or not, gives the same figures ----
need_model
export ASAN_OPTIONS=detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}      # a command keeps what it read until it ends
rank() { expect 0 "$eval" "$model" "$@"; }
figures() { grep -E "own order|^ratio" log | sed 's/  *[0-9]* *[0-9]*$//' > "$1"; }
corpus() {
    printf '%s\n' '{"_id": "1", "title": "", "text": "a chess program that plays against people"}' \
        '{"_id": "2", "title": "Photos", "text": "an image viewer"}' '{"_id": "3", "title": "", "text": "a compiler for the C language"}' \
        '{"_id": "4", "title": "", "text": "a text editor"}' '{"_id": "5", "title": "", "text": "plays music and films"}'
}
queries() { printf '%s\n' '{"_id": "7", "text": "play chess against the computer"}' '{"_id": "8", "text": "look at photos"}'; }
run_lines() { for q in 7 8; do for d in 1 2 3 4 5; do echo "$q Q0 $d 0 $((10 - d)) x"; done; done; }
mkdir -p clean/qrels
corpus > clean/corpus.jsonl
queries > clean/queries.jsonl
run_lines > clean/bm25.run
printf 'query-id\tcorpus-id\tscore\n7\t1\t2\n7\t5\t1\n8\t2\t1\n8\t9\t1\n8\t3\t0\n' > clean/qrels/test.tsv
rank clean
says "BEIR layout"
says "document judged relevant is not in the corpus"
figures right
if [ -s right ]; then ok; else bad "no figures"; fi

rank clean --queries 1
says "1 queries with 5 candidates"

# a run as MS MARCO has it, worked by hand: query 7 finds its document at rank 2, query 8 at rank 1. A grade's fraction is dropped, -0.5 is 0,
# and what stands on the first line of judgements is a mistake on a later one
printf '7\t3\t1\n7\t1\t2\n8\t2\t1\n' > marco.run
printf 'query-id\tcorpus-id\tscore\n7\t1\t2\n7\t5\t-0.5\nquery-id\tcorpus-id\tscore\n8\t2\t1\n8\t3\t0\n' > odd.tsv
"$eval" --measure odd.tsv marco.run -m MRR@10 > r1 2> log
equal "$(awk '{ print $3 }' r1)" 0.7500 "MRR of a run as MS MARCO has it"
says "odd.tsv, line 3: the grade has a fraction"
says "odd.tsv, line 4: the grade is no number"
equal "$(grep -c 'below zero' log)" 0 "grades of 0 that are below zero"

# a chart: well-formed, a curve for each row type, a point for each ratio, and the table's own figures
expect 0 "$eval" "$model" clean --bits 32,8,2 --ratio 2,8 --chart chart.svg
if [ "$(grep -c '^<g stroke' chart.svg)" = 3 ] && [ "$(grep -o '<circle' chart.svg | wc -l)" = 6 ]; then ok; else bad "the chart has other curves"; fi
if python3 -c 'import sys, xml.dom.minidom as m; m.parse("chart.svg")' > log2 2>&1; then ok; else bad "the chart is no XML"; fi
if [ "$(sed -n 's/^ratio \([0-9]*\) *\([0-9.]*\) .*/\1 \2/p' log)" = "$(grep -o 'ratio [0-9]*: [0-9]* bytes, [0-9.]*' chart.svg \
    | sed 's/ratio \([0-9]*\): .*, /\1 /')" ]; then ok; else bad "the chart has other figures than the table"; fi
expect 1 "$eval" "$model" clean --chart nowhere/chart.svg
says nowhere/chart.svg
expect 2 "$eval" "$model" --tables out clean --chart chart.svg
rank clean

# everything at once that real files do: CRLF, a mark at the beginning, NaN, half a surrogate pair, integer ids, null and missing
# titles, documents and queries twice, lines that are no JSON, unjudged queries, doubled judgements and candidates
mkdir -p messy/qrels
{
    printf '\357\273\277 {"_id": 1, "title": null, "text": "a chess program that plays against people", "metadata": {"x": NaN}}\r\n'
    printf '{"_id": 2, "title": "Photos", "text": "an image viewer", "metadata": "\\ud83d"}\r\n\r\nnot JSON\r\n[1, 2]\r\n'
    printf '{"_id": 4, "text": "something else"}\r\n{"_id": 3, "text": "a compiler for the C language", "y": -Infinity}\r\n'
    printf '{"_id": 4, "text": "a text editor", "m": "\\udc00 \\ud83d\\ude00"}\r\n{"_id": 5, "text": "plays music and films"}\r\n{"text": "no id"}'
} > messy/corpus.jsonl
printf '\357\273\277{"_id": 7, "text": "play chess against the computer"}\r\n{"_id": 6, "text": "unjudged"}\r\n{"_id": 8, "text": "look at photos"}' > messy/queries.jsonl
printf '\357\273\2777\t1\t2\r\n7\t5\t1\r\n7\t5\t1\r\n8\t2\t1\r\n8\t9\t1\r\n8\t3\t-1\r\n8\tx\r\n8\t4\tzero\r\n8\tz\t0\r\n' > messy/qrels/test.tsv
{ printf '\357\273\277'; run_lines; echo "7 Q0 1 1 0.5 x"; echo "99 Q0 1 1 9 x"; echo "7 Q0 4 1 nan x"; echo "7 Q0"; } | sed 's/$/\r/' > messy/bm25.run
rank messy
for note in "not quite JSON" "not JSON; it is left out" "a JSON array" "no id" "with this id was there before" "query has no judgement" \
    "judged again for its query, with the same grade" "grade is below zero" "grade is no number" "query, document and grade should" \
    "stands twice for its query" "not among those judged" "score is no number" "Q0, document, rank and score should"; do says "$note"; done
says "messy/corpus.jsonl: a document judged relevant is not"        # 9, and not z, whose grade is 0
figures messy.figures
same right messy.figures

rank messy --first bm25        # whose second pass meets the bad lines again
says "first stage: BM25"

# BM25: a term that most documents have still counts for a document, the shorter one goes first, and of equal ones the last id
mkdir -p common/qrels equal/qrels
printf '%s\n' '{"_id": "1", "text": "chess"}' '{"_id": "2", "text": "chess tea tea tea tea"}' '{"_id": "3", "text": "tea"}' > common/corpus.jsonl
printf '%s\n' '{"_id": "7", "text": "chess"}' > common/queries.jsonl
printf 'query-id\tcorpus-id\tscore\n7\t1\t1\n' > common/qrels/test.tsv
printf '%s\n' '{"_id": "4", "text": "go"}' '{"_id": "5", "text": "go"}' '{"_id": "6", "text": "tea"}' > equal/corpus.jsonl
printf '%s\n' '{"_id": "8", "text": "go"}' > equal/queries.jsonl
printf 'query-id\tcorpus-id\tscore\n8\t5\t1\n' > equal/qrels/test.tsv
for collection in common equal; do
    rank $collection --first bm25 --depth 1
    says "own order: nDCG@10 1.0000, MRR@10 1.0000"
done
rank common --first bm25 --depth 2
says "own order: nDCG@10 1.0000, MRR@10 1.0000"

# the same documents and judgements as MIRACL, LMEB and TREC have them
mkdir -p miracl-v1.0-xx/topics miracl-v1.0-xx/qrels miracl-corpus-v1.0-xx
printf '7\tplay chess against the computer\n8\tlook at photos\n' > miracl-v1.0-xx/topics/topics.miracl-v1.0-xx-dev.tsv
printf '7\t0\t1\t2\n7\t0\t5\t1\n8\t0\t2\t1\n8\t0\t9\t1\n8\t0\t3\t0\n' > miracl-v1.0-xx/qrels/qrels.miracl-v1.0-xx-dev.tsv
corpus | sed 's/_id/docid/' | head -n 2 > miracl-corpus-v1.0-xx/docs-0.jsonl
corpus | sed 's/_id/docid/' | tail -n 3 > miracl-corpus-v1.0-xx/docs-1.jsonl
run_lines > miracl-v1.0-xx/candidates.run
packed=1
if ldd "$eval" 2> /dev/null | grep -q libz; then gzip miracl-corpus-v1.0-xx/docs-0.jsonl; else packed=0; fi
if ldd "$eval" 2> /dev/null | grep -q libzstd && zstd --version > /dev/null 2>&1; then zstd -q --rm miracl-corpus-v1.0-xx/docs-1.jsonl; else packed=0; fi
[ $packed -eq 1 ] || echo "without zlib, libzstd or zstd: packed files are not tried"
rank miracl-v1.0-xx --instruction "Given a query, retrieve documents that answer the query."
says "MIRACL layout"
figures miracl.figures
rank clean --instruction "Given a query, retrieve documents that answer the query."
figures right.same
same right.same miracl.figures
mkdir -p trec
printf '<top>\n<num> Number: 7\n<title> play chess against\nthe computer\n<desc> Description:\nx\n</top>\n\n<top>\n<num> Number: 8 </num>\n<title>look at photos</title>\n</top>\n' > trec/topics.txt
sed -n '2,$p' clean/qrels/test.tsv | awk '{ print $1, 0, $2, $3 }' > trec/qrels.txt
printf '{"7": {"1": 9, "2": 8, "3": 7, "4": 6, "5": 5}, "8": {"1": 9, "2": 8.0, "3": 7, "4": 6, "5": 5e0}, "99": {"1": 1}}' > run.json
awk -F'"' '{ print $4 "\t" ($8 == "" ? "" : $8 " ") $12 }' clean/corpus.jsonl > trec/collection.tsv
rank trec --run run.json
says "TREC layout"
figures trec.figures
same right trec.figures
# what json.dump of Python writes of a document without a score, or of a text that was cut: the others count
printf '{"7": {"1": 9, "2": 8, "3": 7, "4": 6, "5": 5, "x": NaN},\n "8": {"1": 9, "2": 8.0, "3": 7, "4": 6, "5": 5e0, "\\ud83d": -Infinity}}' > nan.json
rank trec --run nan.json
says "nan.json: the run is not quite JSON"
says "score of a document is no number"
figures trec.figures
same right trec.figures
printf '{"7": {"1": NaN},\n "8": [1}' > nan.json
expect 1 "$eval" "$model" trec --run nan.json
says "nan.json:2:9: "
# of three columns the last is a rank; scores would be ranked the wrong way round, so lines that have them are left out
printf '7\t1\t2\n7\t5\t1\n7\t2\t0.5\n7\t3\t1e9\n7\t4\t-3\n' > ranks.run
expect 0 "$eval" --measure trec/qrels.txt ranks.run -m num_ret
says "ranks.run, line 3 and 2 more: the last of three columns is a rank"
equal "$(awk '/^num_ret/ { print $3 }' log)" 2 "documents with a rank"
printf '7\t1\t0.2\n7\t5\t0.1\n' > ranks.run
expect 1 "$eval" --measure trec/qrels.txt ranks.run -m num_ret
says "ranks.run, line 1 and 1 more: the last of three columns is a rank"
says "ranks.run has no document for any judged query"
printf 'a,b,c\n' > none.qrels
expect 1 "$eval" --measure none.qrels ranks.run
says "query, document and grade should stand here"
says "none.qrels has no judgement that can be read"
# topics as XML has them, and without an end
printf '<topics task="x">\n<topic number="7">\n<query>play chess against the computer</query>\n</topic>\n<topic number="8"> <title>look at photos\n' > trec/topics.txt
rank trec --run run.json
figures trec.figures
same right trec.figures
# the query's own document
mkdir -p own/arguana/qrels && corpus > own/arguana/corpus.jsonl && run_lines | sed 's/^7/1/; s/^8/2/' > own/arguana/bm25.run
queries | sed 's/"7"/"1"/; s/"8"/"2"/' > own/arguana/queries.jsonl
printf '1\t5\t1\n2\t3\t1\n' > own/arguana/qrels/test.tsv
rank own/arguana
says "id of its query"
says "2 queries with 8 candidates"
mkdir -p Dialogue/Set/one Dialogue/Set/two
corpus | sed 's/"_id"/"_id": "wrong", "id"/' > Dialogue/Set/corpus.jsonl
printf '{"id": "a_7_x", "text": "play chess against the computer"}\n' > Dialogue/Set/one/queries.jsonl
printf 'a_7_x\t1\t1\na_7_x\t5\t1\n' > Dialogue/Set/one/qrels.tsv
printf '{"id": "a_8", "text": "look at photos"}\n' > Dialogue/Set/two/queries.jsonl
printf 'a_8\t2\t1\n' > Dialogue/Set/two/qrels.tsv
printf '{"scene_id": "a_7", "candidate_doc_ids": ["1", "3", "5"]}\n{"scene_id": "a_8", "candidate_doc_ids": ["2", "4"]}\n' > Dialogue/Set/candidates.jsonl
rank Dialogue/Set/one -m R_cap@10
says "Set/one: LMEB layout"
says "1 queries with 3 candidates"
# a text without a title begins with a space in LMEB's code, and in BEIR's without it
mkdir -p spaced/qrels && corpus | sed 's/"text": "/& /' > spaced/corpus.jsonl && sed 's/a_7_x/7/' Dialogue/Set/one/queries.jsonl > spaced/queries.jsonl
printf '7\t1\t1\n7\t5\t1\n' > spaced/qrels/test.tsv && run_lines | grep '^7 Q0 [135]' > spaced/bm25.run
for c in Dialogue/Set/one spaced clean; do
    rank $c --queries 1 --instruction "Find it." --save-run run
    awk '$3 != 2 && $3 != 4 { print $3, $5 }' run | sort > ${c##*/}.margins
done
same one.margins spaced.margins
if cmp -s spaced.margins clean.margins; then bad "a space in front changes no margin"; else ok; fi
rank Dialogue/Set/two
says "1 queries with 2 candidates"

# ---- what ends a run: files that are no text at all ----
mkdir -p broken/qrels && cp clean/queries.jsonl clean/bm25.run broken && cp clean/qrels/test.tsv broken/qrels
corpus | iconv -t UTF-16 > broken/corpus.jsonl 2> /dev/null || printf '\377\376{\000' > broken/corpus.jsonl
expect 1 "$eval" "$model" broken
says "UTF-16"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n' > broken/corpus.jsonl
expect 1 "$eval" "$model" broken
says "Git LFS pointer"
printf '[{"_id": "1", "text": "x"}, {"_id": "2", "text": "x"}]' > broken/corpus.jsonl
expect 1 "$eval" "$model" broken
says "a JSON array is no JSON Lines"
{ echo "["; corpus | sed '$!s/$/,/'; echo "]"; } > broken/corpus.jsonl
rank broken
figures array.figures
same right array.figures
if [ $packed -eq 1 ]; then
    { corpus; head -c 200000 /dev/urandom | od -c; } | gzip | head -c 100000 > broken/corpus.jsonl
    expect 1 "$eval" "$model" broken
    says "cut off"
fi
expect 1 "$eval" "$model" no/such/folder
says "is no folder"
expect 2 "$eval" "$model" clean -m nDCG@0
expect 2 "$eval" "$model" clean -m P
says "no measure"

# ---- the first stage: BM25 finds what the words say; worked by hand for one query ----
rank clean --first bm25
says "BM25 (k1 0.9, b 0.4) of the corpus"
# query 7 is "play chess against the computer": document 1 has chess and against; 5 has none of its words ("plays" is not "play"),
# so it is not found. Query 8 finds document 2 by "photos", its title. nDCG@10 of the two: 2 / (2 + 1 / log2(3)), 1 / (1 + 1 / log2(3))
grep -q "own order: nDCG@10 0.6867, MRR@10 1.0000, Success@1 1.0000, Recall@10 0.5000" log && ok || bad "BM25's own figures"
rank clean --save-run saved.run
"$eval" --measure clean/qrels/test.tsv saved.run -m nDCG@10,MRR@10,Success@1,Recall@10 2> /dev/null | awk '{ printf "%s ", $3 }' > ours
grep "^ratio" log | awk '{ printf "%s %s %s %s ", $3, $4, $5, $6 }' > theirs
same ours theirs
# ---- what smaller decoder states change ----
rank clean --compare-run saved.run
grep -q "0.000000$" log && ok || bad "a run beside itself ($(cat log))"
for bits in 8 4; do
    rank clean --state-bits $bits --compare-run saved.run
    awk 'NF > 5 && $1 == "ratio" && $NF > 0 && $NF < .2 { seen = 1 } END { exit !seen }' log && ok || bad "--state-bits $bits changes margins a little ($(cat log))"
done
"$eval" "$model" clean --state-bits 5 > log 2>&1; [ $? = 2 ] && grep -q "must be one of 8|4" log && ok || bad "--state-bits 5"

# ---- tables: made in one piece, in shards, or through kills, they are the same bytes, and nothing is scored twice ----
mkdir -p data && cp -r clean data/small && cp -r "$root/examples/tiny/eval" data/debian && cp -r Dialogue data/Dialogue
options="--ratio 1,2,4,32 --bits 16,8 --queries 3 --depth 12 --rounds 500 --threads 1"
tables() { "$eval" --tables "$@" data "$model" $options; }
expect 0 tables whole
for f in quality.md quality.csv quality.json cost.md cost.csv charts/quality_bytes_BEIR.gp charts/quality_time_BEIR.gp; do
    if [ -s "whole/$f" ]; then ok; else bad "whole/$f is not there"; fi
done
for words in "## BEIR: 2 test collections" "## LMEB: 2 test collections" "published, arXiv 2606.22807 v3" "tiny q8, best 10 at ratio 32, then ratio 1, 16 bits"; do
    if grep -q "$words" whole/quality.md; then ok; else bad "the tables lack '$words'"; fi
done
if command -v gnuplot > /dev/null; then for c in bytes time cascade; do if grep -q "</svg>" whole/charts/quality_${c}_BEIR.svg; then ok; else bad "no chart $c"; fi; done; fi
# the figures are those of the model alone, which --measure agrees with
expect 0 "$eval" "$model" data/debian --ratio 1,2 --bits 16 --queries 3 --depth 12
direct=$(awk '/^ratio 1/ { print $3 }' log)
table=$(awk -F, '/"debian","tiny",q8,default,1,16,0,0,nDCG@10/ { printf "%.4f", $12 }' whole/quality.csv)
if [ "$direct" = "$table" ]; then ok; else bad "ratio 1: '$table' in the tables, '$direct' alone"; fi
# again: nothing is left to do, and the tables are the same
cp -r whole again
expect 0 tables again
if grep -q "[1-9][0-9]* documents encoded\|[1-9][0-9]* pairs scored" log; then bad "something was done twice"; else ok; fi
same whole/quality.json again/quality.json
# a journal of before, whose texts have hashes of 16 digits, counts as well
cp -r whole old
python3 "$root/tests/old_journal.py" data/small/corpus.jsonl data/small/queries.jsonl old/margins/small,*.journal
if grep -q '"text": "[0-9a-f]*"' old/margins/small,*.journal && ! grep -q '"text": "[0-9a-f]\{17\}' old/margins/small,*.journal; then ok; else bad "the journal is no old one"; fi
expect 0 tables old
if grep -q "[1-9][0-9]* documents encoded\|[1-9][0-9]* pairs scored" log; then bad "what an old journal has was done again"; else ok; fi
same whole/quality.json old/quality.json
# two texts with that hash (found by trying, 2^32 of them), as whoever publishes a collection can have them: the one has no margins of the other
mkdir -p forged/qrels && cp clean/queries.jsonl clean/bm25.run forged && cp clean/qrels/test.tsv forged/qrels
for text in hmdhomjahfpbladb cpikeomchibaldjd; do
    corpus | sed "s/a text editor/$text/" > forged/corpus.jsonl
    for out in kept fresh; do expect 0 "$eval" --tables $out forged "$model" --ratio 1 --bits 16 --rounds 100 --threads 1; done
    grep -h -o '"query": "7".*"docs.*"margins": [^]]*' kept/margins/*.journal | tail -n 1 | sed 's/"seconds": [0-9.]*//' > ours
    grep -h -o '"query": "7".*"docs.*"margins": [^]]*' fresh/margins/*.journal | tail -n 1 | sed 's/"seconds": [0-9.]*//' > theirs
    if [ -s ours ]; then ok; else bad "no margins of $text"; fi
    same ours theirs
    python3 "$root/tests/old_journal.py" forged/corpus.jsonl forged/queries.jsonl fresh/margins/*.journal
    grep -h -o '"text": "[^"]*"' fresh/margins/*.journal | sort -u > hashes.$text
    rm -rf fresh
done
same hashes.hmdhomjahfpbladb hashes.cpikeomchibaldjd
# killed at random moments
tries=0
while [ $tries -lt 12 ]; do
    tries=$((tries + 1))
    "$eval" --tables killed data "$model" $options --memory 1 > log 2>&1 &
    child=$!
    sleep 0.$(awk -v s="$tries$child" 'BEGIN { srand(s); printf "%02d", 3 + rand() * 60 }')
    if kill -9 $child 2> /dev/null; then wait $child 2> /dev/null; else wait $child && break; fi
done 2> /dev/null
expect 0 tables killed
for f in quality.md quality.csv quality.json; do same whole/$f killed/$f; done
twice=$(cat killed/margins/*.journal | awk -F'"query": ' '/"ranked"/ { print FILENAME $2 }' | sed 's/"seconds": [0-9.]*//; s/"margins".*//' | sort | uniq -d | wc -l)
if [ "$twice" -eq 0 ]; then ok; else bad "$twice calls were done twice"; fi
echo "($tries runs until one was not killed)"
# killed between the opening of a journal and its first line, or within it
mkdir -p begun/margins
for j in killed/margins/debian*.journal; do : > "begun/margins/${j##*/}"; done
for j in killed/margins/small*.journal; do head -c 60 "$j" > "begun/margins/${j##*/}"; done
expect 0 tables begun
for f in quality.md quality.csv quality.json; do same whole/$f begun/$f; done
# a line cut off, two others damaged, of which one says what the journal is of: computed again
for j in killed/margins/debian*.journal; do
    head -c -30 "$j" | sed '1s/debian/demian/; 5s/0\./1./' > torn && mv torn "$j"
done
expect 0 tables killed
says "damaged or cut off"
same whole/quality.json killed/quality.json
# shards
for i in 1 2 3; do expect 0 tables shard.$i --shard $i/3; done
for i in 1 2; do equal "$(sed -n 's/.*"ranked", "query": "\([^"]*\)".*/\1/p' shard.$i/margins/small*.journal | sort -u)" $((6 + i)) "queries of shard $i"; done
expect 0 "$eval" --merge merged shard.1 shard.2 shard.3 --rounds 500
for f in quality.md quality.csv quality.json; do same whole/$f merged/$f; done
expect 1 "$eval" --merge merged shard.1
says "merge into a new folder"
# a model's name is a stranger's: it does not become a command of the program that draws
expect 0 "$build/kalm-quantize" "$root/examples/tiny" evil.kalm --no-rows --quiet --name '`touch pwned`";system("touch pwned");'"'"'.system("touch pwned")#'
expect 0 "$eval" --tables evil data/debian evil.kalm --ratio 1,2 --queries 2 --depth 3 --rounds 100
if grep -q "title '_touch pwned_" evil/charts/quality_bytes_BEIR.gp; then ok; else bad "the chart lacks the model's name"; fi
if grep "title" evil/charts/*.gp | sed "s/.*title '\([^']*\)'.*/\1/" | grep -q '[^A-Za-z0-9 _.,:+()/-]'; then bad "words of a model are words of gnuplot"; else ok; fi
if [ -z "$(find . -name 'pwned*')" ]; then ok; else bad "what stands in a model's name was run"; fi
# nor does a name, or that of a folder, steer a terminal
expect 0 "$build/kalm-quantize" "$root/examples/tiny" evil.kalm --no-rows --quiet --name "$(printf 'a\033[31mb')"
folder=$(printf 'c\033[32md')
mkdir -p "$folder" && cp -r clean/. "$folder"
expect 0 "$eval" evil.kalm "$folder"
says '^a?\[31mb q8'
says '^c?\[32md: BEIR layout'
if grep -q "$(printf '\033')" log; then bad "control characters in what is printed"; else ok; fi
expect 2 "$eval" --tables x data "$model" --shard 4/3
expect 2 "$eval" --tables x data
expect 0 "$eval" --tables both data/Dialogue "$model" --both --instruction "Find what helps." --rounds 200
if grep -q "With and without instructions" both/quality.md; then ok; else bad "no comparison of instructions"; fi
# a journal under the name of another job, as two may have one hash: its margins are not taken
set -- both/margins/*.journal
cp "$1" "$2"
expect 1 "$eval" --tables both data/Dialogue "$model" --both --instruction "Find what helps." --rounds 200
says "$2 is the journal of another job than its name says"

# ---- the cost of a query by the length of passages ----
case $build in *sanitize*|*thread*|*debug*|*coverage*) longest=64 ;; *) longest=128 ;; esac
expect 0 "$eval" --cost cost "$model" --ratio 1,8 --longest $longest --threads 1
if grep -q "^64,8,[0-9.]*,[0-9.]*,[0-9.]*,[0-9.]*,[0-9.]*$" cost/cost_curve.csv; then ok; else bad "no cost curve"; fi
expect 2 "$eval" --cost cost

# ---- half a model is refused at the start, in all ways ----
for half in encoder decoder; do
    expect 0 "$build/kalm-quantize" "$model" $half.kalm --side $half --quiet
    for run in "$half.kalm clean" "$model clean --compare $half.kalm" "--tables halves clean $half.kalm" "--cost halves $half.kalm"; do
        # shellcheck disable=SC2086  # a list of words
        expect 1 "$eval" $run
        says "^kalm-eval: $half.kalm holds the $half alone: an evaluation"
    done
done

# ---- memory does not grow with the corpus: 200,000 passages (40 MB) within 16 MB more than five need ----
peak() {
    "$@" > log 2>&1 &
    child=$!
    most=0
    while [ -e /proc/$child/status ]; do
        now=$(awk '/VmHWM/ { print $2 }' /proc/$child/status 2> /dev/null)
        [ -n "$now" ] && [ "$now" -gt $most ] && most=$now
        sleep 0.02
    done
    wait $child || bad "status $?: $*"
    echo $most
}
case $build in
*sanitize*|*thread*|*debug*|*coverage*) ;;
*)
    if [ -r /proc/self/status ]; then
        mkdir -p many/qrels && cp clean/queries.jsonl many && cp clean/qrels/test.tsv many/qrels
        { corpus; awk 'BEGIN { for (i = 10; i < 200000; i++) {
            printf "{\"_id\": \"p%d\", \"title\": \"\", \"text\": \"", i
            for (w = 0; w < 20; w++) printf "w%d ", (i * 31 + w * 977) % 5003
            print "and the words of photos and of chess\"}" } }'; } > many/corpus.jsonl
        few=$(peak "$eval" "$model" clean --first bm25 --depth 3 --threads 1)
        lots=$(peak "$eval" "$model" many --first bm25 --depth 3 --threads 1)
        if [ "$lots" -gt 0 ] && [ "$lots" -lt $((few + 16384)) ]; then ok; else bad "$lots kB for 200,000 passages, $few for five"; fi
    fi
    ;;
esac

finish
