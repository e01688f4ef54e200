#!/bin/sh
# test_python.sh BUILD - examples/python: makes the wheel as pip would, of the header as it lies here, and tests kalm_rerank.py with
# the shared library that is in it. PYTHON=python3.13 tests with another interpreter than python3.
build=$1
if ! command -v python3 > /dev/null 2>&1; then
    echo "python3 is not installed: left out"
    echo "0 passed, 0 failed"
    exit 0
fi
tmp=$build/tmp/python
CC=${CC:-cc}
CFLAGS="${CFLAGS:-} -O1"           # behind the wheel's own -O2: compiled in two thirds of the time
PYTHONDONTWRITEBYTECODE=1
export CC CFLAGS PYTHONDONTWRITEBYTECODE
rm -rf "$tmp"
mkdir -p "$tmp/site" &&
    wheel=$(PYTHONPATH=examples/python python3 -c 'import backend, sys; print(backend.build_wheel(sys.argv[1]))' "$tmp") &&
    python3 -m zipfile -e "$tmp/$wheel" "$tmp/site" &&
    { cp "$build/tiny.kalm" "$tmp/tiny.kalm" 2> /dev/null || "$build/kalm-quantize" examples/tiny "$tmp/tiny.kalm" > /dev/null 2>&1; } &&
    "$build/kalm-quantize" "$tmp/tiny.kalm" "$tmp/tiny-encoder.kalm" --side encoder --quiet &&
    "$build/kalm-quantize" "$tmp/tiny.kalm" "$tmp/tiny-decoder.kalm" --side decoder --quiet &&
    "${PYTHON:-python3}" -W error tests/test_python.py "$tmp/site" "$tmp/tiny.kalm" 2>&1
status=$?
rm -rf "$tmp"
exit $status
