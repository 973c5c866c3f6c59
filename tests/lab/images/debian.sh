# Makes root.raw and data.raw of the image debian in the current directory: Debian 12 that boots from a BIOS,
# with PostgreSQL's data on the second disk.
. "$HERE/images/disk.sh"
. "$HERE/images/chroot.sh"

root_uuid=deb12000-0000-4000-8000-000000000001
data_uuid=deb12000-0000-4000-8000-000000000002
packages=linux-image-cloud-amd64,systemd-sysv,udev,dbus,grub-pc-bin,initramfs-tools,iproute2,procps,less,vim-tiny,ca-certificates,python3-minimal,sqlite3,postgresql

bootstrap() {
    mkdir -p "$CACHE/debs"
    debootstrap --variant=minbase --include="$packages" --cache-dir="$CACHE/debs" bookworm root "$(mirror)"
}

configure() {
    echo lab-debian >root/etc/hostname
    printf '127.0.0.1 localhost lab-debian\n' >root/etc/hosts
    printf 'UUID=%s / ext4 defaults 0 1\nUUID=%s /srv/data ext4 defaults,nofail,x-systemd.device-timeout=20s 0 2\n' \
        "$root_uuid" "$data_uuid" >root/etc/fstab
    in_chroot root chpasswd <<<'root:lab'
    # In a chroot initramfs-tools cannot see what the machine needs.
    printf 'virtio_blk\nvirtio_pci\nvmw_pvscsi\next4\n' >>root/etc/initramfs-tools/modules
    in_chroot root update-initramfs -u -k all >/dev/null
    install -D -m 755 "$HERE/images/guest-check.sh" root/usr/local/sbin/guest-check
    install -D -m 644 "$HERE/images/guest-check.service" root/etc/systemd/system/guest-check.service
    in_chroot root systemctl enable guest-check.service 2>/dev/null
    # The mount is nofail, so that the first disk boots alone; then nothing else orders the database behind it.
    mkdir -p root/etc/systemd/system/postgresql@.service.d
    printf '[Unit]\nRequiresMountsFor=/srv/data\n' >root/etc/systemd/system/postgresql@.service.d/data.conf
}

# Puts the database where the second disk will be mounted, and fills it.
database() {
    mkdir -p root/srv/data data
    in_chroot root pg_dropcluster 15 main 2>/dev/null || true
    mkdir -p root/srv/data/postgresql
    in_chroot root chown postgres:postgres /srv/data/postgresql
    in_chroot root pg_createcluster --locale=C --datadir=/srv/data/postgresql/15/main 15 main >/dev/null
    printf '%s\n' 'create table account (id int primary key, owner text, balance numeric, note text)' \
        "insert into account select n, 'owner ' || n, 1000, repeat(md5(n::text), 4) from generate_series(1, 200000) n" \
        'checkpoint' |
        in_chroot root runuser -u postgres -- /usr/lib/postgresql/15/bin/postgres --single \
            -D /srv/data/postgresql/15/main -c config_file=/etc/postgresql/15/main/postgresql.conf postgres >/dev/null
    rm -f root/srv/data/postgresql/15/main/postmaster.pid
    mv root/srv/data/* data/
}

data_files() {
    copy_some root/usr/share data/share 4000 400000 60000000
    mkdir -p data/photos data/logs
    for n in $(seq 1 60); do noise "$n" $((50000 * n)) >"data/photos/IMG_$n.jpg"; done
    for n in $(seq 1 40); do log_lines "$n" 8000 >"data/logs/access.$n.log"; done
}

# GRUB without an installer: boot.img in the MBR loads core.img from the sectors behind it.
boot_loader() {
    local kernel=root/boot/grub
    mkdir -p "$kernel"
    cat >"$kernel/grub.cfg" <<CONFIG
serial --unit=0 --speed=115200
terminal_output serial console
linux /vmlinuz root=UUID=$root_uuid ro console=tty0 console=ttyS0,115200 net.ifnames=0
initrd /initrd.img
boot
CONFIG
    in_chroot root grub-mkimage --format=i386-pc --output=/boot/grub/core.img --prefix='(hd0,msdos1)/boot/grub' \
        biosdisk part_msdos ext2 normal linux configfile serial terminal
    cp root/usr/lib/grub/i386-pc/boot.img "$kernel/core.img" .
}

write_boot_loader() {
    dd if=boot.img of=root.raw bs=1 count=440 conv=notrunc status=none
    dd if=core.img of=root.raw bs=512 seek=1 conv=notrunc status=none
}

trap 'unmount_chroot root' EXIT
bootstrap
mount_chroot root
configure
database
boot_loader
in_chroot root apt-get clean
unmount_chroot root
data_files
disk_from_directory root root.raw 4096 "$root_uuid"
write_boot_loader
disk_from_directory data data.raw 2048 "$data_uuid"
