# Functions that let a made image live on. Sourced, not run; needs chroot.sh.

# enter IMAGE: copies an image to root.raw and mounts its partition at mnt, ready for chroot.
enter() {
    cp --reflink=auto --sparse=always "$CACHE/$1-root.raw" root.raw
    mkdir mnt
    mount -o loop,offset=1048576 root.raw mnt
    mount_chroot mnt
    cp /etc/resolv.conf mnt/etc/resolv.conf
    printf 'deb %s bookworm main\n' "$(mirror)" >mnt/etc/apt/sources.list
}

leave() {
    mountpoint -q mnt || return 0
    unmount_chroot mnt
    umount mnt
}
