#!/bin/sh
# make_tables.sh TREC_EVAL - writes NAME.trec_eval for every NAME.qrels and NAME.run beside it: what NIST's program (version
# 9.0.8, public; github.com/usnistgov/trec_eval) prints for them. tests/test_eval.sh compares kalm-eval with these tables, and
# with the program itself when TREC_EVAL names it.
#
# NAME.trec_eval    each query and the mean;  NAME.c: the mean where judged queries without results count 0 (-c);  NAME.l2: relevant from grade 2;
# NAME.M7: the first seven documents of each query.
measures="-m num_ret -m num_rel -m num_rel_ret -m map -m recip_rank -m ndcg -m ndcg_cut.1,3,5,7,10,20,100 -m map_cut.5,10,100
    -m recall.1,3,5,10,20,100 -m P.1,3,5,10,20,100 -m success.1,3,5,10"
cd "$(dirname "$0")" || exit 1
for qrels in *.qrels; do
    name=${qrels%.qrels}
    "$1" -q $measures "$qrels" "$name.run" | LC_ALL=C sort > "$name.trec_eval"
    "$1" -c $measures "$qrels" "$name.run" | LC_ALL=C sort > "$name.c.trec_eval"
    "$1" -l 2 $measures "$qrels" "$name.run" | LC_ALL=C sort > "$name.l2.trec_eval"
    "$1" -M 7 $measures "$qrels" "$name.run" | LC_ALL=C sort > "$name.M7.trec_eval"
done
