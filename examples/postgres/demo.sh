#!/bin/sh
# demo.sh BUILD - what README.md shows: demo.sql on a server of its own, which is gone afterwards. From the top of the tree.
. examples/postgres/server.sh
trap server_stop EXIT
server_start "${1:-build}" || exit 1
sql --set=model="$server/tiny.kalm" --set=ON_ERROR_STOP=1 --file=examples/postgres/demo.sql
