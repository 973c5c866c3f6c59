#!/usr/bin/env bash
# Tries the lab's promises against a running lab: tests/lab/selftest.sh [--only WORDS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/images" "$scratch/run"

"$here/build.sh"
GO111MODULE=off GOFLAGS='' GOPATH=$here:/usr/share/gocode GOMAXPROCS=1 go build -p 1 -o "$here/build/selftest" selftest
"$here/images.sh" small "$scratch/images" >/dev/null
"$here/build/selftest" --lab "$here/build/lab" --images "$scratch/images" --golden "$here/golden/nfc.txt" --dir "$scratch/run" "$@"
