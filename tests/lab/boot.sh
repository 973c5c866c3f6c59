#!/usr/bin/env bash
# Boots a disk image in qemu without changing it, and succeeds when the guest reaches a login on its serial port:
#   tests/lab/boot.sh IMAGE [DATA_IMAGE]
# Prints what the guest says about its data. BOOT_TIMEOUT is in seconds, BOOT_LOG keeps the console.
# Where /dev/kvm is there it still emulates: nested KVM hangs on some machines.
set -euo pipefail

if (($# < 1 || $# > 2)); then
    echo "usage: $0 IMAGE [DATA_IMAGE]" >&2
    exit 2
fi
if ! command -v qemu-system-x86_64 >/dev/null; then
    if ((EUID != 0)); then
        echo "not root: run  sudo apt-get install qemu-system-x86  and try again" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86 seabios >/dev/null
fi

drives=()
for image in "$@"; do
    drives+=(-drive "file=$image,format=raw,if=virtio,snapshot=on")
done
limit=${BOOT_TIMEOUT:-600}
console=${BOOT_LOG:-$(mktemp)}
: >"$console"
qemu-system-x86_64 -accel tcg,thread=multi -machine pc -cpu max -smp 2 -m 1024 -nodefaults -no-reboot \
    -display none -serial "file:$console" "${drives[@]}" &
qemu=$!
trap 'kill "$qemu" 2>/dev/null || true; wait "$qemu" 2>/dev/null || true; [[ -n ${BOOT_LOG:-} ]] || rm -f "$console"' EXIT

# reached TEXT: waits until the console shows it.
reached() {
    until grep -aqE "$1" "$console"; do
        if ((SECONDS > limit)) || ! kill -0 "$qemu" 2>/dev/null; then
            echo "the guest did not show '$1' within $limit seconds; its console ends with:" >&2
            tail -n 20 "$console" >&2
            return 1
        fi
        sleep 1
    done
}
reached 'login:'
echo "login after $SECONDS seconds"
reached 'guest-check: done'
grep -ao 'guest-check: .*' "$console" | tr -d '\r'
