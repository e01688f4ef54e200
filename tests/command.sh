# command.sh - what tests of commands in shell share, to be sourced after setting $build and $suite, from the top of the repository:
#     build=$1 suite=index; . tests/command.sh; need_command kalm-index 'libsqlite3-dev is missing'
# Afterwards the working directory is $dir, an empty folder of this run, $root is the repository, and $build an absolute path.
passed=0 failed=0
root=$PWD
case $build in /*) ;; *) build=$root/$build ;; esac
dir=$build/tmp/$suite.$$
model=$build/tiny.kalm

# need_command NAME WHY: a suite whose command was not built fails
need_command() {
    [ -x "$build/$1" ] && return 0
    echo "there is no $1: $2"
    echo "0 passed, 1 failed"
    exit 1
}
# the bundled model, which `make test` has made already
need_model() {
    [ -e "$model" ] && return 0
    expect 0 "$build/kalm-quantize" "$root/examples/tiny" tiny.kalm
    model=$dir/tiny.kalm
}

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    echo "FAILED: $*"
    [ ! -s log ] || head -n 5 log
    [ -z "${KALM_TEST_STOP:-}" ] || finish         # tests/mutate.sh asks only whether there is a failure
}
# expect STATUS COMMAND...: its output in log
expect() {
    want=$1
    shift
    "$@" > log 2>&1
    got=$?
    if [ "$got" -eq "$want" ]; then ok; else bad "status $got instead of $want: $*"; fi
}
says() { if grep -q -e "$1" log; then ok; else bad "nothing says '$1'"; fi; }
silent() { if grep -q -e "$1" log; then bad "something says '$1'"; else ok; fi; }
same() { if cmp -s "$1" "$2"; then ok; else bad "$1 and $2 differ"; diff "$1" "$2" | head -n 5; fi; }
equal() { if [ "$1" = "$2" ]; then ok; else bad "$3: '$1' instead of '$2'"; fi; }

# four bytes of each number, the highest first, for printf %b
big_endian() { for word; do printf '\\0%03o\\0%03o\\0%03o\\0%03o' $((word >> 24)) $((word >> 16 & 255)) $((word >> 8 & 255)) $((word & 255)); done; }
# hostile_journal DATABASE PAGE_SIZE: a journal beside the database that names the file `victim`, as if that were of the same transaction
hostile_journal() {
    {
        printf '\331\325\005\371\040\241\143\327%b' "$(big_endian 0 1234 $(($(wc -c < "$1") / $2)) 512 "$2")"     # no records
        head -c 484 /dev/zero
        printf '%bvictim%b\331\325\005\371\040\241\143\327' "$(big_endian $((1073741824 / $2 + 1)))" "$(big_endian 6 652)"  # 652: the sum of its bytes
    } > "$1-journal"
}

# the last words of a suite
finish() {
    cd "$root" && rm -rf "$dir"
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
    exit
}
mkdir -p "$dir" && cd "$dir" || exit 1
