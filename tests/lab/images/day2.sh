# Makes root.raw of the image day2 in the current directory: the server a day later. Rows changed all over the database,
# logs went on, a few packages and photos are new.
. "$HERE/images/disk.sh"
. "$HERE/images/chroot.sh"
. "$HERE/images/database.sh"
. "$HERE/images/lived_in.sh"

new_files() {
    for n in $(seq 201 220); do noise "$n" $((20000 * (n - 190))) >"mnt/srv/photos/IMG_$n.jpg"; done
    for n in 58 59 60; do log_lines "$((n + 100))" 20000 >>"mnt/srv/logs/access.$n.log"; done
    rm -f mnt/srv/logs/access.1.log
    in_chroot mnt apt-get update -qq
    in_chroot mnt apt-get install -y -qq --no-install-recommends vim-tiny sqlite3 rsync >/dev/null
}

trap leave EXIT
enter server
day_of_work mnt 6000
new_files
leave
