#!/bin/sh
# test_faults.sh BUILD - a sample of make faults: the commands on a system that fails, see tests/faults/run.sh, and three kills of each
# that writes at random moments (make test KALM_KILLS=50 for more). The library's own allocations fail one by one in test_api.c.
KALM_KILLS=${KALM_KILLS:-3} exec sh tests/faults/run.sh "$1" 97
