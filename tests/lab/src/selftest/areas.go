package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

const block = 4096

// areas walks all pages of QueryChangedDiskAreas, checking each.
type areas struct {
	list         []types.DiskChangeExtent
	pages, empty int
}

func (b *bench) areas(vm *object.VirtualMachine, snapshot types.ManagedObjectReference, disk frozenDisk, since string) (*areas, error) {
	all := &areas{}
	for offset := int64(0); offset < disk.capacity; {
		response, err := methods.QueryChangedDiskAreas(b.ctx, b.client, &types.QueryChangedDiskAreas{
			This: vm.Reference(), Snapshot: &snapshot, DeviceKey: disk.key, StartOffset: offset, ChangeId: since,
		})
		if err != nil {
			return nil, err
		}
		page := response.Returnval
		if page.StartOffset != offset || page.Length <= 0 || page.Length > 4194304 || len(page.ChangedArea) > 7 {
			return nil, fmt.Errorf("bad page at %d: from %d, length %d, %d areas", offset, page.StartOffset, page.Length, len(page.ChangedArea))
		}
		for _, a := range page.ChangedArea {
			if a.Start < page.StartOffset || a.Start+a.Length > page.StartOffset+page.Length {
				return nil, fmt.Errorf("area %d+%d lies outside of its page", a.Start, a.Length)
			}
		}
		if len(page.ChangedArea) == 0 {
			all.empty++
		}
		all.list = append(all.list, page.ChangedArea...)
		all.pages++
		offset = page.StartOffset + page.Length
	}
	return all, nil
}

// cover tells how many bytes of differing blocks the areas miss, and how many they have in all.
func (a *areas) cover(before, after []byte) (missed, differing, listed int64) {
	inside := make([]bool, len(after)/block+1)
	for _, x := range a.list {
		listed += x.Length
		for at := x.Start / block; at*block < x.Start+x.Length; at++ {
			inside[at] = true
		}
	}
	for at := 0; at*block < len(after); at++ {
		end := (at + 1) * block
		if end > len(after) {
			end = len(after)
		}
		if !bytes.Equal(before[at*block:end], after[at*block:end]) {
			differing += block
			if !inside[at] {
				missed += block
			}
		}
	}
	return missed, differing, listed
}

// changedAreasCover compares three snapshots by areas and by content.
func changedAreasCover(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	var ids []string
	var contents [][]byte
	var last types.ManagedObjectReference
	var disk frozenDisk
	for n := 0; n < 3; n++ {
		if n > 0 {
			if err := b.scatter(n); err != nil {
				return err
			}
			if err := b.removeSnapshot(last); err != nil {
				return err
			}
		}
		if last, err = b.snapshot(vm, fmt.Sprintf("areas %d", n), nil); err != nil {
			return err
		}
		disks, err := b.snapshotDisks(last)
		if err != nil {
			return err
		}
		disk = disks[2000]
		frozen, err := b.freezeOf(last, 2000)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(frozen.Path)
		if err != nil {
			return err
		}
		ids, contents = append(ids, disk.changeID), append(contents, content)
	}
	if err := first(b.compareAreas(vm, last, disk, ids, contents), b.control("POST", "/frozen/prune", nil, nil)); err != nil {
		return err
	}
	// Pruned copies are gone, what changed between them is still known.
	return first(b.compareAreas(vm, last, disk, ids, contents), b.refusals(vm, last, disk), b.removeSnapshot(last))
}

func (b *bench) scatter(seed int) error {
	args := []string{"write", "--file", filepath.Join(b.State, "ds/lab-ds/web/web-flat.vmdk"), "--rate", "1000000",
		"--seed", fmt.Sprint(100 + seed), "--blocks", "60", "--start", "8388608", "--length", "33554432"}
	if out, err := exec.Command(b.binary, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (b *bench) compareAreas(vm *object.VirtualMachine, last types.ManagedObjectReference, disk frozenDisk, ids []string, contents [][]byte) error {
	newest := contents[len(contents)-1]
	for n, since := range append([]string{"*"}, ids...) {
		before := make([]byte, len(newest))
		if n > 0 {
			before = contents[n-1]
		}
		found, err := b.areas(vm, last, disk, since)
		if err != nil {
			return err
		}
		missed, differing, listed := found.cover(before, newest)
		changing := n > 0 && n < len(ids)
		err = first(
			expect("bytes missed since "+since, missed, int64(0)),
			expect("something differs since "+since, differing > 0, n < len(ids)),
			expect("something is listed since "+since, listed > 0, n < len(ids)),
			expect("several pages", found.pages > 20, true),
		)
		if changing {
			// A tracked block is 64 KiB, so each 4 KiB that changed may list sixteen times as much.
			err = first(err, expect("empty pages", found.empty > 0, true), expect("little is listed", listed <= 16*differing, true))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refusals asks what vSphere refuses.
func (b *bench) refusals(vm *object.VirtualMachine, snapshot types.ManagedObjectReference, disk frozenDisk) error {
	ask := func(key int32, offset int64, since string) string {
		_, err := methods.QueryChangedDiskAreas(b.ctx, b.client, &types.QueryChangedDiskAreas{
			This: vm.Reference(), Snapshot: &snapshot, DeviceKey: key, StartOffset: offset, ChangeId: since})
		return faultName(err)
	}
	ahead := disk.changeID[:strings.LastIndex(disk.changeID, "/")] + "/999"
	return first(
		expect("offset at the end", ask(2000, disk.capacity, disk.changeID), "InvalidArgument"),
		expect("unknown disk", ask(2099, 0, "*"), "InvalidArgument"),
		expect("independent disk", ask(2002, 0, "*"), "InvalidArgument"),
		expect("malformed id", ask(2000, 0, "nonsense"), "InvalidArgument"),
		expect("id of the future", ask(2000, 0, ahead), "FileFault"),
		expect("id of another disk", ask(2000, 0, "52 de c0 d9 b9 43 9d 10-61 d5 4c 1b e9 7b 65 63/1"), "FileFault"),
	)
}

// foreignChangeIdsFail resets tracking and turns it on where it was off.
func foreignChangeIdsFail(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	old, err := b.changeIDOf(vm)
	if err != nil {
		return err
	}
	if err := b.control("POST", "/vm/db/reset-tracking", nil, nil); err != nil {
		return err
	}
	renewed, err := b.changeIDOf(vm)
	if err != nil {
		return err
	}
	life := func(id string) string { return id[:strings.LastIndex(id, "/")] }
	if life(old) == life(renewed) {
		return fmt.Errorf("reset-tracking kept the uuid %s", life(old))
	}
	if err := b.setTracking(vm, false); err != nil {
		return err
	}
	off, err := b.changeIDOf(vm)
	if err := first(err, expect("change id without tracking", off, ""), b.setTracking(vm, true)); err != nil {
		return err
	}
	snapshot, err := b.snapshot(vm, "after", nil)
	if err != nil {
		return err
	}
	disks, err := b.snapshotDisks(snapshot)
	if err != nil {
		return err
	}
	_, err = b.areas(vm, snapshot, disks[2000], old)
	return first(
		expect("tracked again", disks[2000].changeID != "", true),
		expect("physical mapping is not frozen", len(disks), 1),
		expect("asked with the old id", faultName(err), "FileFault"), b.removeSnapshot(snapshot))
}

func (b *bench) changeIDOf(vm *object.VirtualMachine) (string, error) {
	snapshot, err := b.snapshot(vm, "for its change id", nil)
	if err != nil {
		return "", err
	}
	disks, err := b.snapshotDisks(snapshot)
	if err != nil {
		return "", err
	}
	return disks[2000].changeID, b.removeSnapshot(snapshot)
}

func (b *bench) setTracking(vm *object.VirtualMachine, on bool) error {
	task, err := vm.Reconfigure(b.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: &on})
	if err != nil {
		return err
	}
	return task.Wait(b.ctx)
}
