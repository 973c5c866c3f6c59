# Makes root.raw of the image server in the current directory: a Debian with software, a database of 1 GiB and files,
# about 4 GiB of content on a disk of 8 GiB. What benchmarks protect.
. "$HERE/images/disk.sh"
. "$HERE/images/chroot.sh"
. "$HERE/images/database.sh"

uuid=5e12e200-0000-4000-8000-000000000001
packages=systemd-sysv,udev,procps,ca-certificates,postgresql
software="build-essential git nginx-light redis-server python3-scipy python3-pandas openjdk-17-jdk-headless clang-14"

bootstrap() {
    mkdir -p "$CACHE/debs"
    debootstrap --variant=minbase --include="$packages" --cache-dir="$CACHE/debs" bookworm root "$(mirror)"
}

# The downloaded archives stay, as they do on many a server: nothing compresses them.
install_software() {
    cp /etc/resolv.conf root/etc/resolv.conf
    printf 'deb %s bookworm main\n' "$(mirror)" >root/etc/apt/sources.list
    printf 'APT::Keep-Downloaded-Packages "true";\n' >root/etc/apt/apt.conf.d/90keep
    in_chroot root apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    in_chroot root apt-get install -y -qq --no-install-recommends $software >/dev/null
}

files() {
    mkdir -p root/srv/photos root/srv/logs
    for n in $(seq 1 80); do noise "$n" $((60000 * n)) >"root/srv/photos/IMG_$n.jpg"; done
    for n in $(seq 1 60); do log_lines "$n" 40000 >"root/srv/logs/access.$n.log"; done
}

trap 'unmount_chroot root' EXIT
bootstrap
mount_chroot root
install_software
make_database root 60
unmount_chroot root
files
disk_from_directory root root.raw 8192 "$uuid"
