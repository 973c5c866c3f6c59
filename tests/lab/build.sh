#!/usr/bin/env bash
# Builds tests/lab/build/lab: VMware's simulator from Debian's govmomi source, with overlay/ compiled into it.
# Does nothing when the binary is newer than every source.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/build
upstream=/usr/share/gocode/src/github.com/vmware/govmomi/simulator

install_packages() {
    local missing=()
    for package in golang-go golang-github-vmware-govmomi-dev golang-github-google-uuid-dev; do
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

is_current() {
    [[ -x $out/lab && -z $(find "$here/build.sh" "$here/overlay" "$here/src/lab" "$here/src/fastlz" -newer "$out/lab" -print -quit) ]]
}

# Applies overlay/patches to copies of upstream files. Each line must hit exactly once: a different
# upstream is noticed here and not as strange behaviour later.
patch_upstream() {
    local file old new count
    rm -rf "$out/patched"
    mkdir -p "$out/patched"
    while IFS=$'\t' read -r file old new; do
        [[ -z $file || $file == '#'* ]] && continue
        [[ -f $out/patched/$file ]] || cp "$upstream/$file" "$out/patched/$file"
        count=$(grep -cF -- "$old" "$out/patched/$file" || true)
        if [[ $count != 1 ]]; then
            echo "patch of $file hits $count times instead of once: $old" >&2
            exit 1
        fi
        OLD=$old NEW=$new perl -pi -e 's/\Q$ENV{OLD}\E/$ENV{NEW}/' "$out/patched/$file"
    done <"$here/overlay/patches"
}

write_overlay() {
    local separator='' file
    printf '{"Replace":{'
    for file in "$here"/overlay/*.go; do
        printf '%s"%s":"%s"' "$separator" "$upstream/zz_lab_$(basename "$file")" "$file"
        separator=,
    done
    for file in "$out"/patched/*.go; do
        printf '%s"%s":"%s"' "$separator" "$upstream/$(basename "$file")" "$file"
    done
    printf '}}\n'
}

mkdir -p "$out"
exec 9>"$out/.lock"
flock 9
is_current && exit
install_packages
patch_upstream
write_overlay >"$out/overlay.json"
GO111MODULE=off GOFLAGS='' GOPATH=$here:/usr/share/gocode GOMAXPROCS=1 \
    go build -p 1 -overlay "$out/overlay.json" -o "$out/lab.new" lab
mv "$out/lab.new" "$out/lab"
