# Functions to work in a chroot. Sourced, not run.

# The mirror that this machine's apt uses.
mirror() {
    local site
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -1)
    echo "${site:-http://deb.debian.org/debian}"
}

mount_chroot() {
    mount -t proc proc "$1/proc"
    mount --bind /dev "$1/dev"
    # Keeps package scripts from starting services.
    printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
    chmod 755 "$1/usr/sbin/policy-rc.d"
}

unmount_chroot() {
    rm -f "$1/usr/sbin/policy-rc.d"
    if mountpoint -q "$1/dev"; then umount "$1/dev"; fi
    if mountpoint -q "$1/proc"; then umount "$1/proc"; fi
}

in_chroot() {
    local root=$1
    shift
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive HOME=/root chroot "$root" "$@"
}
