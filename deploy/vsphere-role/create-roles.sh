#!/usr/bin/env bash
# Creates the roles of this directory in a vCenter with govc (github.com/vmware/govmomi), or brings them
# up to date. GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD name an account that may edit roles.
set -euo pipefail
cd "$(dirname "$0")"

for list in backup restore hot-add guest; do
    role="stillwater-$list"
    mapfile -t privileges <"$list.txt"
    if govc role.ls "$role" >/dev/null 2>&1; then
        govc role.update "$role" "${privileges[@]}"
    else
        govc role.create "$role" "${privileges[@]}"
    fi
    echo "$role: ${#privileges[@]} privileges"
done
