# Makes root.raw of the image sibling in the current directory: debian's first disk, cloned and lived in.
. "$HERE/images/chroot.sh"
. "$HERE/images/lived_in.sh"

uninstall_database() {
    in_chroot mnt apt-get purge -y -qq 'postgresql*' >/dev/null
    sed -i '/\/srv\/data/d' mnt/etc/fstab
}

other_software() {
    in_chroot mnt apt-get update -qq
    in_chroot mnt apt-get install -y -qq --no-install-recommends nginx-light git redis-server >/dev/null
    in_chroot mnt apt-get clean
    echo lab-sibling >mnt/etc/hostname
}

trap leave EXIT
enter debian
other_software
uninstall_database
leave
