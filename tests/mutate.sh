#!/bin/bash
# mutate.sh [-j JOBS] [-f LIST] [-r FIRST-LAST] [-n SAMPLE] [-s SEED] [-b BUILD] [PATTERN...] - puts one mistake at a time into a copy of
# the tree and runs the tests that should notice it: what no test notices wants a test. Mistakes are lines of LIST, tests/mutations.tsv:
#     file TAB text that stands once in the file TAB what it becomes TAB tests, separated by spaces [TAB why it may survive]
# PATTERN: only mistakes whose line matches it. -r: only those from the FIRST to the LAST of the list. -n: that many of them, chosen by
# SEED. -l: only looks whether each text still stands once. Ends with "N passed, N failed": caught, or alive without a reason.
# The tests of a line are tried in their order, and each is built when its turn comes: name the one that is known to notice first. Only
# what a test runs is built with the mistake; the model that programs open is the right one, unless the mistake is in what makes it.
# A test that ends with status 77 says what it lacks on this machine.
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=$(nproc) mistakes=tests/mutations.tsv range='' sample=0 seed=1 build=$PWD/build/mutate list=
while getopts j:f:r:n:s:b:l o; do
    case $o in j) jobs=$OPTARG ;; f) mistakes=$OPTARG ;; r) range=$OPTARG ;; n) sample=$OPTARG ;; s) seed=$OPTARG ;; b) build=$OPTARG ;; l) list=1 ;; *) exit 2 ;; esac
done
shift $((OPTIND - 1))
mkdir -p "$build"
chosen=$build/chosen
grep -v '^#' "$mistakes" | grep . > "$build/all"
[ -z "$range" ] || sed -i "$(echo "$range" | tr - ,)!d" "$build/all"
if [ $# -eq 0 ]; then cp "$build/all" "$chosen"; else
    : > "$chosen"
    for p; do grep -- "$p" "$build/all" >> "$chosen"; done
fi
if [ "$sample" -gt 0 ]; then
    awk -v n="$sample" -v seed="$seed" 'BEGIN { srand(seed) } { print rand() "\t" $0 }' "$chosen" | sort -n | head -n "$sample" | cut -f2- > "$chosen.some"
    mv "$chosen.some" "$chosen"
fi

# The text must stand exactly once, or the mistake is not the one that was meant.
stale=0
while IFS=$'\037' read -r file old new tests why; do
    n=$(grep -cF -- "$old" "$file" 2> /dev/null)
    [ "$n" = 1 ] || { echo "stands ${n:-0} times in $file: $old"; stale=$((stale + 1)); }
done < <(tr '\t' '\037' < "$chosen")
if [ -n "$list" ]; then
    echo "$(($(wc -l < "$chosen") - stale)) passed, $stale failed"
    [ $stale -eq 0 ]
    exit
fi

# A tree of its own for each job. Where that does not build before there is a mistake in it, nothing would be said by a build that fails.
tree() {
    mkdir -p "$1"
    tar cf - --exclude=./build --exclude=./.git . | tar xf - -C "$1"
    # shellcheck disable=SC2046
    (cd "$1" && make -s build/library.o build/tiny.kalm $(cut -f 4 "$chosen" | grep -q '\.sh' && echo all) CFLAGS="-O1 -w") > "$1.log" 2>&1 ||
        { echo "the tree itself does not build: $1.log"; touch "$build/broken"; }
    cp -a "$1/build" "$1/right"
}

# wanted FILE TEST...: what make builds with a mistake in FILE: the tests that are programs, the commands that a test is about, and the
# model where FILE is a part of what makes it
wanted() {
    local file=$1 test
    shift
    case $file in quantize/* | tokenizer/import* | src/format.h | src/blocks.h | src/exact.h | src/embedding.h | src/tools/*)
        echo build/kalm-quantize build/tiny.kalm ;;
    esac
    for test; do
        case $test in
        *.sh) echo all ;;
        *)
            echo "build/tests/$test"
            grep -o '/kalm-[a-z-]*' "tests/$test.c" | sort -u | sed 's|^|build|' | grep -Fx "$(sed -n 's/.*tool_if,\(kalm-[a-z-]*\),.*/build\/\1/p' Makefile)"
            ;;
        esac
    done
}

# one LINE-NUMBER: tries it in a tree that no other job uses
one() {
    local number=$1 file old new tests why slot=0 dir log test caught=
    # (`read` would take two tabs for one: what a text becomes may be nothing)
    IFS=$'\037' read -r file old new tests why < <(sed -n "${number}p" "$chosen" | tr '\t' '\037')
    while ! mkdir "$build/lock.$slot" 2> /dev/null; do slot=$(((slot + 1) % (jobs + 1))); done
    dir=$build/tree.$slot log=$build/log.$number
    [ -e "$dir/Makefile" ] || tree "$dir"
    [ ! -e "$build/broken" ] || { rmdir "$build/lock.$slot"; return; }
    cp -p "$dir/$file" "$dir/kept"
    cp -p "$dir/kalm_rerank.h" "$dir/kept.header"
    OLD=$old NEW=$new awk 'BEGIN { old = ENVIRON["OLD"]; new = ENVIRON["NEW"] }
        !done && (at = index($0, old)) { $0 = substr($0, 1, at - 1) new substr($0, at + length(old)); done = 1 } { print }' "$dir/kept" > "$dir/$file"
    (
        cd "$dir" || exit 1
        export KALM_TEST_STOP=1 KALM_KEPT=$dir         # the first failure ends a test; a module of WebAssembly is made once
        rm -rf build                       # what the right tree built, so that make builds anew what the mistake is in and no more
        cp -a right build
        for test in $tests; do
            # a mistake that does not compile is caught as well
            # shellcheck disable=SC2046
            timeout 600 make -s $(wanted "$file" "$test") CFLAGS="-O1 -w" || exit 3
            case $test in
            *.sh) timeout 300 sh "tests/$test" build ;;
            *) timeout 300 "build/tests/$test" ;;
            esac
            case $? in
            0) ;;
            77) exit 5 ;;
            124) echo "caught by $test, which did not end within 300 seconds"; exit 4 ;;
            *) echo "caught by $test"; exit 4 ;;
            esac
        done
    ) > "$log" 2>&1 < /dev/null
    case $? in
    3) caught="does not build" ;;
    4) caught=$(tail -n 1 "$log") ;;
    5) why="not tried: $(tail -n 1 "$log")" ;;
    esac
    mv "$dir/kept" "$dir/$file"
    mv "$dir/kept.header" "$dir/kalm_rerank.h"
    rmdir "$build/lock.$slot"
    if [ -n "$caught" ]; then printf 'caught\t%s\t%s\t%s\n' "$file" "$old" "$caught"
    elif [ -n "$why" ]; then printf 'allowed\t%s\t%s\t%s\n' "$file" "$old" "$why"
    else printf 'ALIVE\t%s\t%s -> %s\n' "$file" "$old" "$new"; fi
}
export -f one tree wanted
export build chosen jobs
rm -rf "$build"/lock.* "$build"/log.* "$build"/tree.* "$build/broken"
seq "$(wc -l < "$chosen")" | xargs -P "$jobs" -I{} bash -c 'one {}' | tee "$build/result"
[ ! -e "$build/broken" ] || { cat "$build"/tree.*.log; echo "0 passed, 1 failed"; exit 1; }
awk -F'\t' -v stale="$stale" '$1 == "caught" { c++ } $1 == "allowed" { a++ } $1 == "ALIVE" { l++ }
    END { printf "%d caught, %d alive for a reason, %d alive, %d that stand no more\n", c, a, l, stale; printf "%d passed, %d failed\n", c + a, l + stale; exit l + stale > 0 }' "$build/result"
