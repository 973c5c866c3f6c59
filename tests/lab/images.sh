#!/usr/bin/env bash
# Makes disk images of real guests: tests/lab/images.sh NAME [OUT_DIR]
#
#   small     small-root.raw (96 MiB), small-data.raw (48 MiB): MBR, ext4, no boot loader; made in seconds
#   debian    debian-root.raw (4 GiB), debian-data.raw (2 GiB): boots; PostgreSQL lives on the second disk; needs root
#   sibling   sibling-root.raw (4 GiB): a clone of debian's first disk with other software on it; needs root
#   debianday2  debianday2-root.raw (4 GiB): debian's first disk a day later; needs root
#   server    server-root.raw (8 GiB): software, a database and files, for benchmarks; needs root
#   day2      day2-root.raw (8 GiB): the server a day later; needs root
#   clone     clone-root.raw (8 GiB): a clone of the server with other software and another database; needs root
#
# Images are kept in tests/lab/build/images and made again only when they are missing there.
# Copies them to OUT_DIR, if one is given, and prints the paths of the copies, or else of the images.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/build/images
. "$here/images/disk.sh"

usage() {
    echo "usage: $0 small|debian|sibling|debianday2|server|day2|clone [OUT_DIR]" >&2
    exit 2
}

install_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            missing+=("$package")
    done
    ((${#missing[@]} == 0)) && return
    if ((EUID != 0)); then
        echo "not root: run  sudo apt-get install ${missing[*]}  and try again" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_root() {
    ((EUID == 0)) && return
    echo "the image $1 is made in a chroot: run this as root" >&2
    exit 1
}

# Runs the maker of an image in a scratch directory, unless the cache has the image.
make_image() {
    local name=$1 scratch
    exec 8>"$cache/.lock-$name"
    flock 8
    [[ -e $cache/$name-root.raw ]] && return
    scratch=$(mktemp -d "$cache/.$name.XXXXXX")
    # shellcheck disable=SC2064  # the path of now
    trap "rm -rf '$scratch'" EXIT
    chmod 755 "$scratch"
    (cd "$scratch" && SCRATCH=$scratch CACHE=$cache HERE=$here bash -euo pipefail "$here/images/$name.sh") >&2
    # The root image moves last: its presence says that the image is complete.
    [[ ! -e $scratch/data.raw ]] || mv "$scratch/data.raw" "$cache/$name-data.raw"
    mv "$scratch/root.raw" "$cache/$name-root.raw"
    rm -rf "$scratch"
    trap - EXIT
}

(($# == 1 || $# == 2)) || usage
name=$1 destination=${2:-}
mkdir -p "$cache" ${destination:+"$destination"}
case $name in
small) install_packages e2fsprogs fdisk perl cpio ;;
debian | sibling | debianday2 | server | day2 | clone)
    need_root "$name"
    install_packages e2fsprogs fdisk perl cpio debootstrap
    case $name in
    sibling | debianday2) make_image debian ;;
    day2 | clone) make_image server ;;
    esac
    ;;
*) usage ;;
esac
make_image "$name"
for image in "$cache/$name"-*.raw; do
    [[ -n $destination ]] || { echo "$image"; continue; }
    copy=$destination/$(basename "$image")
    cp --reflink=auto --sparse=always "$image" "$copy"
    echo "$copy"
done
