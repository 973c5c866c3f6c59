# Makes root.raw of the image debianday2 in the current directory: debian's first disk a day later.
. "$HERE/images/disk.sh"
. "$HERE/images/chroot.sh"
. "$HERE/images/lived_in.sh"

trap leave EXIT
enter debian
mkdir -p mnt/srv/photos mnt/srv/logs
for n in $(seq 1 20); do noise "$n" $((20000 * n)) >"mnt/srv/photos/IMG_$n.jpg"; done
for n in $(seq 1 10); do log_lines "$n" 20000 >"mnt/srv/logs/access.$n.log"; done
in_chroot mnt apt-get update -qq
in_chroot mnt apt-get install -y -qq --no-install-recommends rsync git >/dev/null
leave
