# Functions to run a real PostgreSQL in a chroot. Sourced, not run; needs chroot.sh.

pg_bin=/usr/lib/postgresql/15/bin
pg_data=/var/lib/postgresql/15/main

as_postgres() {
    local root=$1
    shift
    in_chroot "$root" runuser -u postgres -- "$@"
}

# make_database ROOT SCALE: a cluster with pgbench's tables, 15 MB for each unit of scale.
make_database() {
    in_chroot "$1" pg_dropcluster 15 main 2>/dev/null || true
    in_chroot "$1" pg_createcluster --locale=C --datadir="$pg_data" 15 main >/dev/null
    start_database "$1"
    as_postgres "$1" "$pg_bin/pgbench" --initialize --quiet --scale "$2" postgres 2>/dev/null
    stop_database "$1"
}

start_database() {
    in_chroot "$1" install -d -o postgres -g postgres -m 2775 /run/postgresql
    as_postgres "$1" "$pg_bin/pg_ctl" start --wait --silent --pgdata="$pg_data" --log=/tmp/postgres.log \
        --options="-c config_file=/etc/postgresql/15/main/postgresql.conf"
}

stop_database() {
    as_postgres "$1" "$pg_bin/pg_ctl" stop --wait --silent --mode=fast --pgdata="$pg_data"
}

# day_of_work ROOT TRANSACTIONS: rows changed all over the tables, one client, the same ones for the same number.
day_of_work() {
    start_database "$1"
    as_postgres "$1" "$pg_bin/pgbench" --no-vacuum --random-seed=1 --transactions "$2" postgres >/dev/null 2>&1
    stop_database "$1"
}
