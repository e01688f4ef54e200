#!/bin/sh
# test_fuzz_record.sh BUILD - what tests/fuzz/many.sh keeps of the time that fuzz targets ran, and the table of it, with a program in the
# fuzzer's place: a run that ends well, one that crashes and starts again, one that is stopped by a signal, and a record that was cut.
build=$1 suite=fuzz_record
. tests/command.sh
mkdir fuzz
unset SEED SET SLICE RECORD CORPUS SEEDS MAKEFLAGS
cat > fuzz/fuzz <<'END'
#!/bin/sh
# says what libFuzzer says, as far as many.sh reads it
case ${1:-} in
--list) printf '%s\n' well bad; exit ;;
--seeds) mkdir -p "$2/well" "$2/bad" "$2/long"; exit ;;
esac
echo "$*" >> "$FUZZ_CALLS"
for word; do
    case $word in
    -artifact_prefix=*) found=${word#*=}crash-1 ;;
    -max_total_time=*) seconds=${word#*=} ;;
    esac
done
case $KALM_FUZZ in
well)
    echo '#10 DONE cov: 7 ft: 9'
    i=0
    while [ $i -lt 40000 ]; do i=$((i + 1)); done
    sleep "$seconds"
    echo 'Done 10 runs'
    echo 'stat::number_of_executed_units: 10' ;;
bad)
    echo '#3 NEW cov: 5 ft: 9'
    echo 'stat::number_of_executed_units: 3'
    [ ! -e "$found" ] || { sleep "$seconds"; echo 'Done 3 runs'; exit; }
    echo input > "$found"
    exit 77 ;;
long)
    trap 'kill $!; echo "stat::number_of_executed_units: 4"; exit 72' TERM
    sleep 20 &
    : > long
    wait ;;
esac
END
chmod +x fuzz/fuzz
echo 0123abc+ > fuzz/commit
export FUZZER=fuzz/fuzz CORPUS=corpus FUZZ_CALLS=calls
many() { bash "$root/tests/fuzz/many.sh" "$@"; }
table() { awk -f "$root/tests/fuzz/record.awk" "$@"; }
# field N TARGET: of the table, of a target's line
field() { awk -v n="$1" -v target="$2" '$1 == target { print $n }' log; }

expect 0 many 1 1 well
says '^well  *10 inputs  *7 covered .* 0 crashes$'
equal "$(wc -l < fuzz/record.tsv)" 1 'lines of the record'
equal "$(cut -f 2,5- fuzz/record.tsv | tr '\t' ' ')" 'well 10 7 0 0123abc+ any' 'the line'
case $(cut -f 3,4 fuzz/record.tsv | tr '\t' ' ') in [12]' '0.0[1-9] | [12]' '0.[1-9]?) ok ;; *) bad "seconds, of the processor: $(cut -f 3,4 fuzz/record.tsv)" ;; esac
expect 1 many 2 2                      # both targets; `bad` crashes once and is started again
says '^bad  *6 inputs  *5 covered .* 1 crashes$'
says 'KALM_FUZZ=bad'                   # how to run the crash again
expect 0 env SET=avx2 SLICE=1 bash "$root/tests/fuzz/many.sh" 1 3 well
says '^well  *[23]0 inputs'
case $(grep -c 'avx2$' fuzz/record.tsv) in [23]) ok ;; *) bad 'no line for each slice' ;; esac
expect 0 env SEED=3 bash "$root/tests/fuzz/many.sh" 1 1 well
equal "$(tail -n 1 calls | grep -c -e '-seed=30101 ')" 1 'the seed'

# stopped: the fuzzer is ended, its line is written, and many.sh leaves
bash "$root/tests/fuzz/many.sh" 1 30 long > log 2>&1 &
stopped=$!
tries=0
until [ -e long ] || [ $tries -ge $((50 * ${KALM_PATIENCE:-1})) ]; do sleep 0.1; tries=$((tries + 1)); done
kill -TERM $stopped
wait $stopped
equal $? 130 'status of a stopped run'
equal "$(tail -n 1 fuzz/record.tsv | cut -f 2,5-7 | tr '\t' ' ')" 'long 4 0 0' 'the line of a stopped run'

printf '2026-01-01T00:00:00\twell\t86' >> fuzz/record.tsv
expect 0 table fuzz/record.tsv
says '^1 lines are not of'
equal "$(field 6 bad)" 1 'crashes of bad'
says '^bad .* last crash at 0123abc+$'
says '^well .* 1 to 0123abc+, any,avx2$'
head -n 1 fuzz/record.tsv | sed 's/\twell\t[0-9]*/\twell\t7200/; s/0123abc+/fedcba9/; s/\t10\t/\t5000000000\t/' > other.tsv
# (how long each really ran is the machine's business)
sed 's/\tbad\t[0-9]*/\tbad\t2/; s/\tlong\t[0-9]*/\tlong\t1/' fuzz/record.tsv > first.tsv
expect 0 table first.tsv other.tsv
says '^well .* 2 to fedcba9, any,avx2$'
says ' 50000000'                       # more inputs than 32 bits hold
case $(field 2 well) in 2:00:*) ok ;; *) bad "two hours more: $(field 2 well)" ;; esac
equal "$(awk '$2 ~ /:/ { print $1 }' log | tr '\n' ' ')" 'long bad well all ' 'least time first'
expect 0 table /dev/null
says '^all  *0:00:00'
finish
