#!/bin/sh
# test_tiny.sh BUILD [RATIOS] - the bundled trained model: how much ranking quality each kind of weights keeps, as numbers, held to
# the limits of the project: q8 within 0.005 nDCG@10 of f32 and Kendall's tau 0.99, q4 within 0.015 and 0.95. Two ratios and half
# of the queries; `make quality` takes all six, and all queries.
build=$1
passed=0 failed=0
tmp=$build/tmp/tiny.$$
expect() {
    what=$1
    shift
    if "$@" > "$tmp.log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what: $*"; cat "$tmp.log"; fi
}
for w in f32 f16 bf16 q8 q4; do expect "convert $w" "$build/kalm-quantize" examples/tiny "$tmp.$w" --weights $w --no-rows; done

# fewer queries where an instruction costs more; six of ten candidates say nothing of quality, so there only that it runs
q8="--max-delta 0.005 --min-tau 0.99" q4="--max-delta 0.015 --min-tau 0.95"
case $build in
*sanitize*|*thread*|*debug*|*coverage*) some="--queries 6 --depth 10" ratios=1,4 q8= q4= ;;
*) some="--queries 75" ratios=4,32 q8="--max-delta 0.007 --min-tau 0.99" ;;      # of half as many, 1.4 times as much
esac
[ -z "${2:-}" ] || some= ratios=$2 q8="--max-delta 0.005 --min-tau 0.99"
"$build/kalm-eval" "$tmp.f32" examples/tiny/eval --ratio $ratios $some --compare "$tmp.q8" $q8 --compare "$tmp.q4" $q4
if [ $? -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: the ranking quality of q8 or q4"; fi
rm -f "$tmp".*
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
