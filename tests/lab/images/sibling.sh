# Makes root.raw of the image sibling in the current directory: debian's first disk, cloned and lived in.
. "$HERE/images/chroot.sh"

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

leave() {
    mountpoint -q mnt || return 0
    unmount_chroot mnt
    umount mnt
}

cp --reflink=auto --sparse=always "$CACHE/debian-root.raw" root.raw
mkdir mnt
trap leave EXIT
mount -o loop,offset=1048576 root.raw mnt
mount_chroot mnt
cp /etc/resolv.conf mnt/etc/resolv.conf
printf 'deb %s bookworm main\n' "$(mirror)" >mnt/etc/apt/sources.list
other_software
uninstall_database
leave
