# What follows is the same in every guest. Each act may be asked for again, and each AFTER hook runs
# once whoever asks first: whoever removes `held` is the one who releases. Removing a directory needs no
# room on a full disk.

now() { date +%s; }

boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null; }

# Programs get a group of their own, so that what they start ends with them.
group=
command -v setsid >/dev/null 2>&1 && group=setsid

end_group() {
    kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null
}

nap() { sleep 0.1 2>/dev/null || sleep 1; }

# Runs hook $1 to its end; the file $1 tells how it ended and what it printed.
run() {
    number=$1
    out=/dev/null
    if mkfifo "$dir/$number.pipe" 2>/dev/null; then
        out=$dir/$number.pipe
        {
            # What is printed is there at once, and whoever prints more than that is not ended for it.
            (
                ulimit -c 0
                ulimit -f "$limit"
                exec cat >"$dir/$number.out"
            )
            cat >/dev/null
            : >"$dir/$number.read"
        } <"$out" 2>/dev/null &
    fi
    started=$(now)
    hook "$number"
    child=$!
    echo "$child" >"$dir/running"
    # Released while the hook was being started: whoever did that may not have seen it.
    [ "$releasing" ] || [ -d "$dir/held" ] || end_group KILL "$child"
    $group sh -c 'sleep "$1"; : >"$2"; kill -s TERM -- "-$3" || kill -s TERM "$3"
        sleep 2; kill -s KILL -- "-$3" || kill -s KILL "$3"' \
        timer "$timeout" "$dir/$number.late" "$child" </dev/null >/dev/null 2>&1 &
    timer=$!
    wait "$child"
    code=$?
    ended=$(now)
    rm -f "$dir/running"
    how=code
    [ "$releasing" ] || [ -d "$dir/held" ] || how=released
    if [ -e "$dir/$number.late" ]; then
        how=late
        end_group KILL "$child"
    fi
    end_group KILL "$timer"
    # A daemon that the hook left may keep the pipe for ever.
    naps=0
    while [ "$out" != /dev/null ] && [ ! -e "$dir/$number.read" ] && [ "$naps" -lt 10 ]; do
        nap
        naps=$((naps + 1))
    done
    {
        echo "$how $code $started $ended"
        cat "$dir/$number.out" 2>/dev/null
    } >"$dir/$number.tmp"
    mv "$dir/$number.tmp" "$dir/$number"
}

# Prepares, and starts the watchdog.
begin() {
    if mkdir "$dir" 2>/dev/null; then
        mkdir "$dir/held" "$dir/owed" || exit 6
        boot >"$dir/boot"
        $group sh "$0" watch </dev/null >/dev/null 2>&1 &
        echo "$!" >"$dir/watch" && : >"$dir/ready" || exit 6
    fi
    naps=0
    until [ -e "$dir/ready" ]; do
        [ "$naps" -lt 50 ] || exit 6
        nap
        naps=$((naps + 1))
    done
}

watch() {
    sleep "$budget"
    release watchdog
    # For whoever comes to look at what was done.
    sleep 3600
    rm -rf "$dir" "$0"
}

# Runs hook $1 unless that was asked for before, and stays until it has ended.
once() {
    [ -d "$dir/held" ] || exit 4
    if mkdir "$dir/$1.begun" 2>/dev/null; then
        run "$1"
        return
    fi
    [ -d "$dir/$1.begun" ] || exit 6
    until [ -e "$dir/$1" ]; do
        [ -d "$dir" ] || exit 5
        nap
    done
}

# Runs the AFTER hooks unless somebody else does, and stays until they have ended.
release() {
    [ -d "$dir" ] || exit 5
    if [ -e "$dir/boot" ] && [ "$(cat "$dir/boot")" != "$(boot)" ]; then
        # What held the guest went with its restart, and process numbers are other programs' now.
        rm -rf "$dir" "$0"
        exit 7
    fi
    if rmdir "$dir/held" 2>/dev/null; then
        releasing=1
        echo "$1 $(now)" >"$dir/by"
        if child=$(cat "$dir/running" 2>/dev/null) && [ "$child" ]; then
            end_group TERM "$child"
            naps=0
            while [ -e "$dir/running" ] && [ "$naps" -lt 20 ]; do
                nap
                naps=$((naps + 1))
            done
            [ ! -e "$dir/running" ] || end_group KILL "$child"
        fi
        for number in $after; do
            run "$number"
        done
        rmdir "$dir/owed"
        return
    fi
    while [ -d "$dir/owed" ]; do
        nap
    done
}

sweep() {
    watch=$(cat "$dir/watch" 2>/dev/null)
    [ ! "$watch" ] || [ "$(cat "$dir/boot")" != "$(boot)" ] || end_group KILL "$watch"
    rm -rf "$dir" "$0"
}

releasing=
act=$1
case $act in
begin | watch | sweep) "$act" ;;
once | release) "$act" "$2" ;;
held) [ -d "$dir/held" ] || exit 4 ;;
*) exit 64 ;;
esac
exit 0
