#!/bin/sh
# Makes a database at the first start, then becomes PostgreSQL. The variables are those of the image that most people
# use: POSTGRES_PASSWORD, and if wanted POSTGRES_USER and PGDATA.
set -eu
export PATH="/usr/lib/postgresql/15/bin:/usr/bin:/bin" LC_ALL=C.UTF-8
: "${POSTGRES_PASSWORD:?is not set}" "${POSTGRES_USER:=postgres}" "${PGDATA:=/var/lib/postgresql/data}"
export PGDATA

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s' "$POSTGRES_PASSWORD" >"$password"
    initdb --username="$POSTGRES_USER" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 --no-sync
    rm "$password"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
fi
# On SIGTERM it would wait until all clients have gone. The image's stop signal is SIGINT, on which it sends them away.
exec postgres -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off "$@"
