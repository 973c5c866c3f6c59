#!/usr/bin/env bash
# Serves one disk by NFC for a client that somebody else wrote, until ctrl-c: tests/lab/nfc.sh [--image FILE | --mib N]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/build.sh"
exec "$here/build/lab" nfc "$@"
