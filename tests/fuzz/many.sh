#!/bin/bash
# many.sh [CORES [SECONDS [TARGET...]]] - runs the fuzz targets with libFuzzer, each for SECONDS, CORES of them at a time, and where
# there are more cores than targets several workers on one corpus. A worker that crashes starts again until its time is up. Prints a
# line for each target: inputs run, places of the program covered, size of the corpus, crashes; ends with status 1 if there were any.
#   FUZZER=build/fuzz/fuzz    the program, made by make fuzz-static; it needs the C library and nothing else
#   CORPUS=build/fuzz/corpus  what was found; it grows from run to run. Seeds come from the program itself and from SEEDS
#   SEEDS=tests/fuzz/seeds    files of people and of former crashes, a folder for each target
#   SET=avx2                  one kernel set for all; without, each input chooses
#   RSS=2048 TIMEOUT=25       megabytes and seconds that one input may take
#   SEED=1                    the same random numbers each time (libFuzzer's -seed); without, each run draws others
#   SHOW=40                   lines of a crash's log that are printed, so that what a remote machine printed is enough to run it again
#   SLICE=600                 a worker begins anew after so many seconds, so that a machine that goes down takes no more of the record with it
#   RECORD=build/fuzz/record.tsv  grows by a line for each time that a worker ran libFuzzer: date, target, seconds, seconds of the processor,
#                             inputs, places covered, crashes (0 or 1), the commit that the program was built from, the kernel set.
#                             make fuzz-record adds them up (record.awk). A stopped run (Ctrl-C, SIGTERM) is recorded as far as it came.
set -u
cores=${1:-$(nproc)} seconds=${2:-60}
[ $# -gt 2 ] && shift 2 || set --
fuzzer=${FUZZER:-build/fuzz/fuzz} corpus=${CORPUS:-build/fuzz/corpus} seeds=${SEEDS:-tests/fuzz/seeds}
logs=$corpus/logs
mkdir -p "$logs" "$corpus/crashes"
rm -f "$logs"/*.log
KALM_FUZZ_FOLDER=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" kalm-fuzz.XXXXXX) || exit 1
export KALM_FUZZ_FOLDER
record=${RECORD:-$(dirname "$fuzzer")/record.tsv} commit=$(cat "$(dirname "$fuzzer")/commit" 2> /dev/null || echo unknown)
trap 'rm -rf "$KALM_FUZZ_FOLDER"' EXIT
# the workers' fuzzers end, their lines are written, then the folder goes
stop() {
    local job
    trap '' INT TERM
    for job in $(jobs -rp); do kill -TERM "$job"; done
    wait
    exit 130
}
trap stop INT TERM
"$fuzzer" --seeds "$corpus/seeds" || exit 1
if [ $# -eq 0 ]; then
    # shellcheck disable=SC2046
    set -- $("$fuzzer" --list)
fi
export KALM_FUZZ_SET=${SET:-}
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:${ASAN_OPTIONS:-}
export UBSAN_OPTIONS=print_stacktrace=1:${UBSAN_OPTIONS:-}

# processor FILE: the seconds of it that a shell's programs had used when it wrote `times` to FILE
processor() {
    awk 'END { for (i = 1; i <= 2; i++) { split($i, part, /[ms]/); sum += 60 * part[1] + part[2] } printf "%.2f", sum }' "$1"
}

# worker TARGET NUMBER
worker() {
    local target=$1 number=$2 end=$((SECONDS + seconds)) left dict=() bad=0 tries=0 seed=() log fuzzing='' stopped='' begun used status crashed clock
    trap 'stopped=yes; [ -z "$fuzzing" ] || kill -TERM "$fuzzing"' INT TERM
    clock=$logs/$target.$number.times
    [ -s "$corpus/seeds/$target.dict" ] && dict=("-dict=$corpus/seeds/$target.dict")
    mkdir -p "$corpus/$target"
    while left=$((end - SECONDS)) && [ "$left" -gt 0 ] && [ "$bad" -lt 50 ] && [ -z "$stopped" ]; do
        tries=$((tries + 1))
        [ "$left" -le "${SLICE:-600}" ] || left=${SLICE:-600}
        [ -z "${SEED:-}" ] || seed=("-seed=$((SEED * 10000 + number * 100 + tries))")
        log=$logs/$target.$number.$tries.log begun=$SECONDS
        times > "$clock"
        used=$(processor "$clock")
        # shellcheck disable=SC2046
        KALM_FUZZ=$target "$fuzzer" -max_total_time="$left" -timeout="${TIMEOUT:-25}" -rss_limit_mb="${RSS:-2048}" -print_final_stats=1 -print_funcs=0 \
            -reload=1 -len_control=0 -max_len=131072 -artifact_prefix="$corpus/crashes/$target-" "${seed[@]}" "${dict[@]}" "$corpus/$target" "$corpus/seeds/$target" \
            $([ -d "$seeds/$target" ] && echo "$seeds/$target") > "$log" 2>&1 &
        fuzzing=$!
        wait "$fuzzing"
        status=$?
        [ -z "$stopped" ] || wait "$fuzzing"                           # the first wait ended with the signal
        [ "$status" -ne 72 ] || stopped=yes                            # libFuzzer's own status when it was interrupted
        [ -z "$stopped" ] || status=0
        [ "$status" -eq 0 ] && crashed=0 || crashed=1
        bad=$((bad + crashed))
        times > "$clock"
        printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%Y-%m-%dT%H:%M:%S)" "$target" $((SECONDS - begun)) \
            "$(awk -v from="$used" -v to="$(processor "$clock")" 'BEGIN { printf "%.2f", to - from }')" "$(inputs "$log")" "$(covered "$log")" "$crashed" \
            "$commit" "${SET:-any}" >> "$record"
    done
}

# inputs LOG..., covered LOG...: what libFuzzer said of a run
inputs() { sed -n 's/^stat::number_of_executed_units: *//p' "$@" | awk '{ n += $1 } END { printf "%d", n }'; }
covered() { grep -ho 'cov: [0-9]*' "$@" | awk '$2 > m { m = $2 } END { printf "%d", m }'; }

# as many workers for each target as there are cores, the first targets get what is left over
count=$# each=$((cores / count)) over=$((cores % count)) i=0
[ "$each" -gt 0 ] || each=1 over=0
for target; do
    workers=$each
    [ "$i" -lt "$over" ] && workers=$((workers + 1))
    i=$((i + 1))
    for number in $(seq "$workers"); do
        while [ "$(jobs -rp | wc -l)" -ge "$cores" ]; do wait -n; done
        worker "$target" "$number" &
    done
done
wait

# explain TARGET: of each run that ended badly the end of its log, and of each input that was left its bytes
explain() {
    local log input
    for log in "$logs/$1".*.log; do
        grep -q '^Done ' "$log" && continue
        printf -- '--- %s, the last lines of %s:\n' "$1" "$log"
        tail -n "${SHOW:-40}" "$log" | cut -c1-400
    done
    for input in "$corpus/crashes/$1"-*; do
        [ -f "$input" ] || continue
        case $input in *-slow-unit-*) continue ;; esac
        printf -- '--- %s: %s bytes' "$input" "$(wc -c < "$input")"
        if [ "$(wc -c < "$input")" -lt 4096 ]; then
            printf ', in base64 (base64 -d > FILE; KALM_FUZZ=%s %s FILE):\n' "$1" "$fuzzer"
            base64 "$input"
        else printf ', too long to print\n'; fi
    done
}

bad=0
for target; do
    runs=$(inputs "$logs/$target".*.log)
    cover=$(covered "$logs/$target".*.log)
    crashes=$(find "$corpus/crashes" -name "$target-*" ! -name '*-slow-unit-*' | wc -l)      # slow is told in the log; TIMEOUT is the limit
    runs_ended=$(grep -l '^Done ' "$logs/$target".*.log | wc -l)
    [ "$crashes" -eq 0 ] && [ "$runs_ended" -gt 0 ] || bad=1
    printf '%-16s %12s inputs  %6s covered  %5s in the corpus  %s crashes\n' "$target" "$runs" "$cover" \
        "$(find "$corpus/$target" -type f | wc -l)" "$crashes"
    if [ "$crashes" -gt 0 ] || [ "$runs_ended" -eq 0 ]; then explain "$target"; fi
done
[ $bad -eq 0 ] || echo "crashes are in $corpus/crashes, what was said of them in $logs; run one again: KALM_FUZZ=TARGET $fuzzer FILE"
exit $bad
