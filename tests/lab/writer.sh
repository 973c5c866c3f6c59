#!/usr/bin/env bash
# Keeps changing blocks of a live disk until it is stopped: tests/lab/writer.sh FILE [flags of lab write]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if (($# == 0)); then
    echo "usage: $0 FILE [--rate BLOCKS_PER_SECOND] [--seed N] [--start BYTE] [--length BYTES] [--blocks N]" >&2
    exit 2
fi
file=$1
shift
"$here/build.sh"
exec "$here/build/lab" write --file "$file" "$@"
