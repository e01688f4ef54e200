# server.sh - a PostgreSQL server of its own with the extension kalm in it, for demos and tests; source it from the top of the tree.
# Nothing of the system changes: the extension is installed into a copy of the server's folders (links, but for the programs), since
# PostgreSQL finds its folders from the place of its program. The server listens on a socket in its folder alone, and runs as an
# unprivileged user.
#
#   server_start BUILD     makes $server, the folder, and starts the server with build/tiny.kalm at $server/tiny.kalm
#   sql [PSQL OPTION...]   psql as its superuser
#   server_stop            stops it and removes the folder

PG_CONFIG=${PG_CONFIG:-pg_config}

# Runs a command as the user that the server runs as: PostgreSQL refuses to be root.
as_server() {
    if [ "$(id -u)" -ne 0 ]; then "$@"
    else runuser -u "$(id -un postgres 2> /dev/null || echo nobody)" -- "$@"; fi
}

server_start() {
    server_bin=$($PG_CONFIG --bindir) server_lib=$($PG_CONFIG --pkglibdir) server_share=$($PG_CONFIG --sharedir)
    server=$(mktemp -d "${TMPDIR:-/tmp}/kalm-postgres.XXXXXX") || return 1
    chmod 755 "$server"
    mkdir -p "$server$server_bin" "$server$server_lib" "$server$server_share" "$server/run"
    cp "$server_bin/postgres" "$server_bin/initdb" "$server_bin/pg_ctl" "$server$server_bin" || return 1
    cp -rs "$server_lib/." "$server$server_lib"
    cp -rs "$server_share/." "$server$server_share"
    make -s postgres-install DESTDIR="$server" B="$1" PG_CONFIG="$PG_CONFIG" || return 1
    cp "$1/tiny.kalm" "$server/tiny.kalm" || return 1
    [ "$(id -u)" -ne 0 ] || chown "$(as_server id -un)" "$server/run"
    as_server "$server$server_bin/initdb" --pgdata="$server/run/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
        --no-sync > "$server/initdb.log" 2>&1 || { cat "$server/initdb.log"; return 1; }
    as_server sh -c "cat >> '$server/run/data/postgresql.conf'" << END
listen_addresses = ''
unix_socket_directories = '$server/run'
fsync = off
log_min_messages = warning
END
    as_server "$server$server_bin/pg_ctl" --pgdata="$server/run/data" --log="$server/run/log" --wait --silent start || { cat "$server/run/log"; return 1; }
}

sql() { "$server_bin/psql" --no-psqlrc --host="$server/run" --username=postgres "$@"; }

server_stop() {
    [ -n "${server:-}" ] || return 0
    as_server "$server$server_bin/pg_ctl" --pgdata="$server/run/data" --mode=immediate --silent stop
    rm -rf "$server"
    server=
}
