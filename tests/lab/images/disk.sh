# Functions that lay a directory out as a disk. Sourced, not run.

# disk_from_directory DIR IMAGE SIZE_MIB UUID: an MBR disk whose only partition holds DIR as ext4.
disk_from_directory() {
    local dir=$1 image=$2 mib=$3 uuid=$4
    rm -f "$image"
    truncate --size "${mib}M" "$image"
    # The uuid and the hash seed are fixed, so that the same files are laid out the same way.
    mkfs.ext4 -q -F -d "$dir" -U "$uuid" \
        -E "offset=1048576,hash_seed=$uuid,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0" \
        "$image" "$(((mib - 1) * 1024))k"
    printf 'label: dos\nlabel-id: 0x%s\nstart=2048, type=83, bootable\n' "${uuid:0:8}" |
        sfdisk --quiet --no-reread --no-tell-kernel --wipe-partitions never "$image" 2>&1 |
        { grep -v 'contains a ext4 signature' || true; } # which is what we put there
}

# noise SEED BYTES: bytes that no compressor shortens, the same for the same seed.
noise() {
    perl -e 'srand($ARGV[0]); my $n = $ARGV[1]; while ($n > 0) {
        my $b = pack("N*", map { int(rand(4294967296)) } 1 .. 4096); $b = substr($b, 0, $n) if length($b) > $n;
        print $b; $n -= length($b) }' "$1" "$2"
}

# log_lines SEED LINES: text like a web server's log.
log_lines() {
    perl -e 'srand($ARGV[0]); my @m = qw(GET GET GET POST HEAD); my @p = qw(/ /index.html /api/items /login /static/app.js /img/logo.png);
        for my $i (1 .. $ARGV[1]) { printf "10.%d.%d.%d - - [22/Nov/2026:%02d:%02d:%02d +0000] \"%s %s?id=%d HTTP/1.1\" %d %d\n",
            rand(4), rand(256), rand(256), $i / 3600 % 24, $i / 60 % 60, $i % 60, $m[rand @m], $p[rand @p], rand(100000), (200, 200, 200, 304, 404)[rand 5], rand(50000) }' "$1" "$2"
}

# copy_some FROM TO FILES MAX_BYTES_EACH BYTES: regular files of FROM in the order of their names, within the limits.
copy_some() {
    local from=$1 to files=$3 each=$4 bytes=$5
    mkdir -p "$2"
    to=$(realpath "$2") # cpio runs in FROM: a relative path would write there
    (cd "$from" && LC_ALL=C find . -xdev -type f -size "-${each}c" -printf '%s %p\n' | LC_ALL=C sort -k2 |
        awk -v files="$files" -v bytes="$bytes" 'n < files && total + $1 < bytes { n++; total += $1; sub(/^[0-9]+ /, ""); print }' |
        cpio --quiet --pass-through --make-directories --preserve-modification-time "$to")
}
