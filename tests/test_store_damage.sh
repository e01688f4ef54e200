#!/bin/sh
# test_store_damage.sh BUILD - stores of rows of 4 and 2 bits, small ones, damaged on purpose: few_bit_store.py says how. A million rows
# are make few-bit-store.
if ! command -v python3 > /dev/null 2>&1; then
    echo "python3 is not installed: left out"
    echo "0 passed, 0 failed"
    exit 0
fi
if [ ! -x "$1/kalm-index" ]; then
    echo "there is no kalm-index: libsqlite3-dev is missing"
    echo "0 passed, 1 failed"
    exit 1
fi
mkdir -p "$1/tmp"
[ -e "$1/tiny.kalm" ] || "$1/kalm-quantize" examples/tiny "$1/tiny.kalm" --quiet
exec python3 tests/few_bit_store.py "$1" 3000
