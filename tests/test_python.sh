#!/bin/sh
# test_python.sh BUILD - examples/python/kalm_rerank.py over a shared library made of the header as it lies here.
build=$1
if ! command -v python3 > /dev/null 2>&1; then
    echo "python3 is not installed: left out"
    echo "0 passed, 0 failed"
    exit 0
fi
lib=$build/tmp/libkalm_rerank.so
CC=${CC:-cc}
export CC
$CC -O2 -shared -fPIC -DKALM_RERANK_IMPLEMENTATION -x c kalm_rerank.h -o "$lib" -lm -lpthread &&
    "$build/kalm-quantize" examples/tiny "$build/tmp/python.kalm" --weights q8 > /dev/null 2>&1 &&
    PYTHONDONTWRITEBYTECODE=1 python3 -W error tests/test_python.py "$lib" "$build/tmp/python.kalm" 2>&1
status=$?
rm -f "$build/tmp/python.kalm" "$lib"
exit $status
