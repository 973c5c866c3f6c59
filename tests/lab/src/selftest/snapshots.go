package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func hash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// snapshot takes one with CreateSnapshotEx_Task.
func (b *bench) snapshot(vm *object.VirtualMachine, name string, quiesce types.BaseVirtualMachineGuestQuiesceSpec) (types.ManagedObjectReference, error) {
	response, err := methods.CreateSnapshotEx_Task(b.ctx, b.client, &types.CreateSnapshotEx_Task{
		This: vm.Reference(), Name: name, Description: "selftest", QuiesceSpec: quiesce,
	})
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	info, err := object.NewTask(b.client.Client, response.Returnval).WaitForResult(b.ctx, nil)
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return info.Result.(types.ManagedObjectReference), nil
}

func (b *bench) removeSnapshot(ref types.ManagedObjectReference) error {
	yes := true
	response, err := methods.RemoveSnapshot_Task(b.ctx, b.client, &types.RemoveSnapshot_Task{This: ref, Consolidate: &yes})
	if err != nil {
		return err
	}
	return object.NewTask(b.client.Client, response.Returnval).Wait(b.ctx)
}

// startWriter answers a function that stops it.
func (b *bench) startWriter(file string, seed int) (func() error, error) {
	writer := exec.Command(b.binary, "write", "--file", file, "--rate", "2000", "--seed", strconv.Itoa(seed))
	if err := writer.Start(); err != nil {
		return nil, err
	}
	return func() error {
		if err := writer.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return writer.Wait()
	}, nil
}

var written = regexp.MustCompile(`lab write (\d+) at`)

// freezeIsOneInstant writes from a seed, and finds in the frozen disk what so many writes of that seed make.
func freezeIsOneInstant(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	live := filepath.Join(b.State, "ds/lab-ds/web/web-flat.vmdk")
	before, err := os.ReadFile(live)
	if err != nil {
		return err
	}
	stop, err := b.startWriter(live, 7)
	if err != nil {
		return err
	}
	time.Sleep(300 * time.Millisecond)
	snapshot, err := b.snapshot(vm, "under a writer", nil)
	if err != nil {
		return first(stop(), err)
	}
	read, err := b.folder(b.client, "GET", "web/web-flat.vmdk", "", nil)
	if err != nil {
		return first(stop(), err)
	}
	time.Sleep(200 * time.Millisecond)
	again, err := b.folder(b.client, "GET", "web/web-flat.vmdk", "", nil)
	if err := first(stop(), err); err != nil {
		return err
	}
	frozen, err := b.freezeOf(snapshot, 2000)
	if err != nil {
		return err
	}
	kept, err := os.ReadFile(frozen.Path)
	if err != nil {
		return err
	}
	now, err := os.ReadFile(live)
	if err != nil {
		return err
	}
	replayed, writes, err := b.replay(before, kept, 7)
	if err != nil {
		return err
	}
	return first(
		expect("the disk still changes", bytes.Equal(now, kept), false),
		expect("reading is the frozen copy", bytes.Equal(read.body, kept), true),
		expect("reading later is the same", bytes.Equal(again.body, kept), true),
		expect("some writes came before", writes > 100, true),
		expect("the frozen copy is one instant", bytes.Equal(replayed, kept), true),
		b.removeSnapshot(snapshot),
	)
}

// replay makes from the disk before all writes the disk after as many writes as the frozen one shows.
func (b *bench) replay(before, kept []byte, seed int) ([]byte, int, error) {
	writes := 0
	for _, match := range written.FindAllSubmatch(kept, -1) {
		if n, err := strconv.Atoi(string(match[1])); err == nil && n+1 > writes {
			writes = n + 1
		}
	}
	file := filepath.Join(b.dir, "replay.raw")
	if err := os.WriteFile(file, before, 0o644); err != nil {
		return nil, 0, err
	}
	if writes > 0 {
		args := []string{"write", "--file", file, "--rate", "1000000", "--seed", strconv.Itoa(seed), "--blocks", strconv.Itoa(writes)}
		if out, err := exec.Command(b.binary, args...).CombinedOutput(); err != nil {
			return nil, 0, fmt.Errorf("%w: %s", err, out)
		}
	}
	replayed, err := os.ReadFile(file)
	return replayed, writes, err
}

func quiesceNeedsTools(b *bench) error {
	for path, want := range map[string]bool{"DC0/vm/prod/eu/web": true, "DC0/vm/prod/db": false} {
		vm, err := b.vm(path)
		if err != nil {
			return err
		}
		ref, err := b.snapshot(vm, "quiesced", &types.VirtualMachineWindowsQuiesceSpec{
			VirtualMachineGuestQuiesceSpec: types.VirtualMachineGuestQuiesceSpec{Timeout: 5}, VssBackupContext: "ctx_auto",
		})
		if err != nil {
			return err
		}
		p, err := b.properties(vm)
		if err != nil {
			return err
		}
		root := p.Snapshot.RootSnapshotList[0]
		err = first(expect("quiesced of "+path, root.Quiesced, want), expect("snapshot", root.Snapshot, ref), b.removeSnapshot(ref))
		if err != nil {
			return err
		}
	}
	return nil
}

func snapshotsNameFiles(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	var foreign struct{ Snapshot string }
	if err := b.control("POST", "/vm/DC0%2Fvm%2Fprod%2Feu%2Fweb/snapshot", fields{"name": "foreign"}, &foreign); err != nil {
		return err
	}
	live := filepath.Join(b.State, "ds/lab-ds/web/web-flat.vmdk")
	if err := poke(live, 2<<20, "between the two"); err != nil {
		return err
	}
	ours, err := b.snapshot(vm, "ours", nil)
	if err != nil {
		return err
	}
	disks, err := b.snapshotDisks(ours)
	if err != nil {
		return err
	}
	_, independent := disks[2002]
	read, err := b.folder(b.client, "GET", extent(disks[2000].file), "bytes=2097152-2097166", nil)
	if err != nil {
		return err
	}
	base, err := b.folder(b.client, "GET", "web/web-flat.vmdk", "bytes=2097152-2097166", nil)
	if err != nil {
		return err
	}
	err = first(
		expect("file of the second snapshot", disks[2000].file, "[lab-ds] web/web-000001.vmdk"),
		expect("independent disk is listed", independent, true),
		expect("independent disk has a change id", disks[2002].changeID, ""),
		expect("content of ours", string(read.body), "between the two"),
		expect("content of the foreign one is older", string(base.body) != "between the two", true),
		b.removeSnapshot(types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: foreign.Snapshot}),
	)
	if err != nil {
		return err
	}
	merged, err := b.snapshotDisks(ours)
	if err != nil {
		return err
	}
	if err := first(expect("file after the merge", merged[2000].file, "[lab-ds] web/web.vmdk"), b.removeSnapshot(ours)); err != nil {
		return err
	}
	p, err := b.properties(vm)
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(b.State, "ds/lab-ds/web/web-000001.vmdk"))
	return first(expect("snapshot tree is gone", p.Snapshot == nil, true), expect("delta is gone", os.IsNotExist(err), true))
}

func poke(file string, offset int64, text string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte(text), offset)
	return err
}

func consolidationClears(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	consolidate := func() error {
		response, err := methods.ConsolidateVMDisks_Task(b.ctx, b.client, &types.ConsolidateVMDisks_Task{This: vm.Reference()})
		if err != nil {
			return err
		}
		return object.NewTask(b.client.Client, response.Returnval).Wait(b.ctx)
	}
	needed := func(want bool) error {
		p, err := b.properties(vm)
		if err != nil {
			return err
		}
		return expect("consolidationNeeded", *p.Runtime.ConsolidationNeeded, want)
	}
	if err := first(needed(false), b.control("POST", "/vm/db/consolidation-needed", fields{"needed": true, "stuck": true}, nil), needed(true)); err != nil {
		return err
	}
	return first(
		expect("stuck consolidation", faultName(consolidate()), "FileLocked"), needed(true),
		b.control("POST", "/vm/db/consolidation-needed", fields{"needed": true}, nil), consolidate(), needed(false),
	)
}

func snapshotTasksDoNotOverlap(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	// Holding the stun keeps the first task running.
	held, err := os.Open(filepath.Join(b.State, "ds/lab-ds/db/db-flat.vmdk"))
	if err != nil {
		return err
	}
	defer held.Close()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	running, err := vm.CreateSnapshot(b.ctx, "first", "", false, false)
	if err != nil {
		return err
	}
	_, err = vm.CreateSnapshot(b.ctx, "second", "", false, false)
	busy := faultName(err)
	p, err := b.properties(vm)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_UN); err != nil {
		return err
	}
	info, err := running.WaitForResult(b.ctx, nil)
	if err != nil {
		return err
	}
	return first(
		expect("second task", busy, "TaskInProgress"),
		expect("recent task", len(p.RecentTask) > 0 && p.RecentTask[len(p.RecentTask)-1] == running.Reference(), true),
		b.removeSnapshot(info.Result.(types.ManagedObjectReference)),
	)
}
