# Makes root.raw of the image clone in the current directory: the server cloned before its database had rows, with
# other software and a database of its own.
. "$HERE/images/disk.sh"
. "$HERE/images/chroot.sh"
. "$HERE/images/database.sh"
. "$HERE/images/lived_in.sh"

other_software() {
    in_chroot mnt apt-get purge -y -qq redis-server >/dev/null
    in_chroot mnt apt-get autoremove -y -qq >/dev/null
    in_chroot mnt apt-get update -qq
    in_chroot mnt apt-get install -y -qq --no-install-recommends php-cli mariadb-server-core ruby >/dev/null
    for n in $(seq 301 340); do noise "$n" $((50000 * (n - 300))) >"mnt/srv/photos/IMG_$n.jpg"; done
}

trap leave EXIT
enter server
make_database mnt 40
other_software
leave
