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

# the last words of a suite
finish() {
    cd "$root" && rm -rf "$dir"
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
    exit
}
mkdir -p "$dir" && cd "$dir" || exit 1
