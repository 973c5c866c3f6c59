#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks. Does nothing when all is there.
#
#   tests/setup.sh         to build, test and run the demo
#   tests/setup.sh lint    what `make lint` needs beyond that
#   tests/setup.sh crash   what `make crash` needs beyond that
#   tests/setup.sh boot    what `make boot` needs beyond that
#   tests/setup.sh bench   the peers that `make bench` measures
set -euo pipefail

packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    echo "installing ${missing[*]}"
    if ((EUID != 0)); then
        echo "not root: run  sudo apt-get install ${missing[*]}  and try again" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

tool() {
    command -v "$1" >/dev/null && return
    echo "installing $2"
    cargo install --locked --quiet "$2"
}

command -v cargo >/dev/null || { echo "install Rust 1.95 or newer first: https://rustup.rs" >&2; exit 1; }

if [[ "${1:-}" == lint ]]; then
    # A debug build of cargo-deny is quick to make and checks just as well.
    command -v cargo-deny >/dev/null || cargo install --locked --quiet --debug cargo-deny
    command -v buf >/dev/null || { packages nodejs npm; npm install --global --silent @bufbuild/buf@1.75.0; }
elif [[ "${1:-}" == crash ]]; then
    packages qemu-utils fuse3 e2fsprogs xfsprogs mount util-linux
elif [[ "${1:-}" == boot ]]; then
    packages qemu-system-x86 seabios
elif [[ "${1:-}" == bench ]]; then
    packages restic borgbackup time diffutils fuse3
else
    packages build-essential cmake qemu-utils nbdkit libnbd-bin e2fsprogs fdisk golang-go \
        golang-github-vmware-govmomi-dev golang-github-google-uuid-dev debootstrap \
        faketime iproute2 xfsprogs btrfs-progs ntfs-3g dosfstools mtools lvm2 mount util-linux attr acl unzip python3
    tool cargo-nextest cargo-nextest
    # Repositories under test take no backup below their reserve, which is at least 2 % of this file system.
    free_mib=$(df --output=avail --block-size=1M . | tail -1)
    size_mib=$(df --output=size --block-size=1M . | tail -1)
    want_mib=$((size_mib / 50 + 16384))
    ((free_mib > want_mib)) ||
        echo "warning: $free_mib MiB are free here; tests fail for want of room below about $want_mib MiB" >&2
fi
