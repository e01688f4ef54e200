#!/bin/sh
# test_eval.sh BUILD - kalm-eval as a command: its measures are those of trec_eval (compared with tables of trec_eval's output in
# tests/eval, and with the program itself where the variable TREC_EVAL names it).
build=$1
root=$PWD
case $build in /*) ;; *) build=$root/$build ;; esac
dir=$build/tmp/eval.$$
eval=$build/kalm-eval
passed=0 failed=0
mkdir -p "$dir" && cd "$dir" || exit 1
ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; [ ! -s log ] || head -n 5 log; }
# expect STATUS COMMAND...: its output in log
expect() {
    want=$1
    shift
    "$@" > log 2>&1
    got=$?
    if [ "$got" -eq "$want" ]; then ok; else bad "status $got instead of $want: $*"; fi
}
says() { if grep -q -e "$1" log; then ok; else bad "nothing says '$1'"; fi; }
same() { if cmp -s "$1" "$2"; then ok; else bad "$1 and $2 differ"; diff "$1" "$2" | head -n 5; fi; }

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

cd "$root" && rm -rf "$dir"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
