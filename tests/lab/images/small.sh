# Makes root.raw and data.raw of the image small in the current directory.
. "$HERE/images/disk.sh"

root_files() {
    copy_some /usr/bin root/usr/bin 120 1500000 24000000
    copy_some /usr/lib/x86_64-linux-gnu root/usr/lib 60 2000000 12000000
    copy_some /usr/share root/usr/share 1800 200000 9000000
    mkdir -p root/var/log/web root/srv/photos root/home/user
    for day in 1 2 3 4 5 6; do log_lines "$day" 6000 >"root/var/log/web/access.$day.log"; done
    for n in $(seq 1 20); do noise "$n" $((20000 * n)) >"root/srv/photos/IMG_$n.jpg"; done
    for n in $(seq 1 200); do echo "note $n" >"root/home/user/note-$n.txt"; done
    truncate --size 3M root/srv/preallocated
    ln -s ../usr/share root/srv/share
    : >root/home/user/empty
    head -c 5000000 root/var/log/web/access.1.log >root/srv/again-1.log
    cp root/srv/again-1.log root/srv/again-2.log
}

# A real cluster where PostgreSQL is installed, otherwise files that look like tables' heaps.
data_files() {
    local bin
    mkdir -p data/lib
    bin=$(find /usr/lib/postgresql -name initdb -printf '%h\n' 2>/dev/null | sort -V | tail -1)
    if [[ -n $bin ]]; then real_cluster "$bin"; else heap_files; fi
    for n in $(seq 1 50); do log_lines "$n" 100 >"data/lib/archive-$n.log"; done
}

# PostgreSQL refuses to run as root.
real_cluster() {
    local bin=$1 user=()
    mkdir -p data/pgsql
    if ((EUID == 0)); then
        chown nobody data/pgsql
        user=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
    fi
    "${user[@]}" "$bin/initdb" --pgdata data/pgsql/main --wal-segsize=1 --no-sync --auth=trust --username=postgres --locale=C >initdb.log 2>&1
    printf '%s\n' 'create table item (id int primary key, name text, price numeric, note text)' \
        "insert into item select n, 'item ' || n, n * 1.17, md5(n::text) || md5((n + 1)::text) from generate_series(1, 40000) n" \
        'checkpoint' |
        "${user[@]}" "$bin/postgres" --single -D "$PWD/data/pgsql/main" postgres >postgres.log 2>&1
    rm -f data/pgsql/main/postmaster.pid
}

heap_files() {
    local n
    mkdir -p data/pgsql/main/base/5 data/pgsql/main/pg_wal
    echo 15 >data/pgsql/main/PG_VERSION
    for n in $(seq 1 60); do
        { log_lines "$n" 1500; noise "$n" 60000; } | head -c $((8192 * 24)) >"data/pgsql/main/base/5/$((16384 + n))"
    done
    noise 99 2000000 >data/pgsql/main/pg_wal/000000010000000000000001
}

root_files
data_files
disk_from_directory root root.raw 96 5a11e000-0000-4000-8000-000000000001
disk_from_directory data data.raw 48 5a11e000-0000-4000-8000-000000000002
