#!/bin/sh
# Runs in the guest after it has booted and says on the console whether its data is in order.
out=/dev/ttyS0
disk() {
    mountpoint -q /srv/data || { echo "guest-check: no data disk" >$out; return 1; }
}
database() {
    n=0
    while [ $n -lt 40 ]; do
        rows=$(runuser -u postgres -- psql -At -c 'select count(*) || chr(32) || sum(balance) from account' 2>/dev/null) && break
        n=$((n + 1))
        sleep 1
    done
    echo "guest-check: database ${rows:-does not answer}" >$out
}
disk && database
echo "guest-check: done on $(hostname)" >$out
