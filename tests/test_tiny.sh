#!/bin/sh
# test_tiny.sh BUILD [RATIOS] - the bundled trained model: how much ranking quality each kind of weights keeps, as numbers, held to
# the limits of the project: q8 within 0.005 nDCG@10 of f32 and Kendall's tau 0.99, q4 within 0.015 and 0.95. Two ratios and a quarter
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
q8="--max-delta 0.005 --min-tau 0.99" q4="--max-delta 0.015 --min-tau 0.95" margins=
case $build in
*sanitize*|*thread*|*debug*|*coverage*) some="--queries 6 --depth 10" ratios=1,4 q8= q4= ;;
# of a quarter of the queries nDCG says half as much, so its limits are twice as wide; the margins of these 4000 pairs say more, since
# each counts: mean changes of q8 and q4, at ratios 4 and 32, may be 7% above what they are today
*) some="--queries 40" ratios=4,32 q8="--max-delta 0.0097 --min-tau 0.99" q4="--max-delta 0.029 --min-tau 0.95"
   margins="0.0182 0.0235 0.121 0.165" ;;
esac
[ -z "${2:-}" ] || some= ratios=$2 q8="--max-delta 0.005 --min-tau 0.99" q4="--max-delta 0.015 --min-tau 0.95" margins=
"$build/kalm-eval" "$tmp.f32" examples/tiny/eval --ratio $ratios $some --compare "$tmp.q8" $q8 --compare "$tmp.q4" $q4 > "$tmp.table"
if [ $? -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: the ranking quality of q8 or q4"; fi
cat "$tmp.table"
if [ -n "$margins" ]; then
    # the last column of the four rows that compare
    awk '$1 == "ratio" && NF == 12 { print $NF }' "$tmp.table" | tr '\n' ' ' > "$tmp.means"
    expect "mean changes of margins, $(cat "$tmp.means"), are under $margins" awk -v most="$margins" '
        { n = split(most, m, " "); if (NF != n) exit 1; for (i = 1; i <= n; i++) if (!($i > 0 && $i <= m[i])) exit 1 }' "$tmp.means"
fi
rm -f "$tmp".*
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
