#!/bin/sh
# test_faults.sh BUILD - a sample of make faults: the commands on a system that fails, see tests/faults/run.sh. The library's own
# allocations fail one by one in test_api.c.
exec sh tests/faults/run.sh "$1" 97
