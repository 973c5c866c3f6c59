package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func (b *bench) beginRemoval(ref types.ManagedObjectReference) (*object.Task, error) {
	response, err := methods.RemoveSnapshot_Task(b.ctx, b.client, &types.RemoveSnapshot_Task{This: ref})
	if err != nil {
		return nil, err
	}
	return object.NewTask(b.client.Client, response.Returnval), nil
}

// removalsGoAsAsked makes one slow, lets a task object vanish, and leaves deltas that a consolidation takes in.
func removalsGoAsAsked(b *bench) error {
	vm, err := b.vm("DC0/vm/win")
	if err != nil {
		return err
	}
	return first(b.slowRemoval(vm), b.vanishingRemoval(vm), b.deltasStay(vm), b.control("POST", "/vm/win/tasks", fields{}, nil))
}

func (b *bench) slowRemoval(vm *object.VirtualMachine) error {
	snapshot, err := b.snapshot(vm, "slow", nil)
	if err := first(err, b.control("POST", "/vm/win/tasks", fields{"remove_seconds": 0.5}, nil)); err != nil {
		return err
	}
	start := time.Now()
	task, err := b.beginRemoval(snapshot)
	if err != nil {
		return err
	}
	var info mo.Task
	p, err := b.properties(vm)
	if err := first(err, b.client.RetrieveOne(b.ctx, task.Reference(), []string{"info"}, &info)); err != nil {
		return err
	}
	recent := p.RecentTask[len(p.RecentTask)-1]
	cancelled := task.Cancel(b.ctx)
	err = task.Wait(b.ctx)
	return first(err,
		expect("newest task of the VM", recent, task.Reference()),
		expect("its description", info.Info.DescriptionId, "VirtualMachine.removeSnapshot"),
		expect("its state", info.Info.State, types.TaskInfoStateRunning),
		expect("cancelable", info.Info.Cancelable, false),
		expect("cancelling", faultName(cancelled), "NotSupported"),
		expect("it was slow", time.Since(start) > 400*time.Millisecond, true))
}

func (b *bench) vanishingRemoval(vm *object.VirtualMachine) error {
	snapshot, err := b.snapshot(vm, "vanishing", nil)
	if err := first(err, b.control("POST", "/vm/win/tasks", fields{"remove_seconds": 0.4, "vanish_seconds": 0.1}, nil)); err != nil {
		return err
	}
	task, err := b.beginRemoval(snapshot)
	if err != nil {
		return err
	}
	var info mo.Task
	gone := within(5*time.Second, func() bool {
		err := b.client.RetrieveOne(b.ctx, task.Reference(), []string{"info"}, &info)
		return faultName(err) == "ManagedObjectNotFound"
	})
	still, err := b.tree(vm)
	if err != nil {
		return fmt.Errorf("the snapshot went with its task: %w", err)
	}
	removed := within(5*time.Second, func() bool {
		p, err := b.properties(vm)
		return err == nil && p.Snapshot == nil
	})
	return first(expect("the task is gone", gone, true), expect("snapshot", still.Snapshot, snapshot), expect("removed all the same", removed, true))
}

// deltasStay leaves files by a removal and by order, and repairs them after some tries.
func (b *bench) deltasStay(vm *object.VirtualMachine) error {
	snapshot, err := b.snapshot(vm, "left", nil)
	if err := first(err, b.control("POST", "/vm/win/tasks", fields{"leave_deltas": true}, nil), b.removeSnapshot(snapshot)); err != nil {
		return err
	}
	if err := b.leafIs(vm, "[lab-ds] win/win-000001.vmdk", true); err != nil {
		return err
	}
	if err := first(b.control("POST", "/vm/win/tasks", fields{}, nil), b.consolidates(vm, ""), b.leafIs(vm, "[lab-ds] win/win.vmdk", false)); err != nil {
		return err
	}
	return first(
		b.control("POST", "/vm/win/consolidation-needed", fields{"needed": true, "deltas": true, "stuck_times": 2}, nil),
		b.leafIs(vm, "[lab-ds] win/win-000001.vmdk", true),
		b.consolidates(vm, "FileLocked"), b.consolidates(vm, "FileLocked"), b.leafIs(vm, "[lab-ds] win/win-000001.vmdk", true),
		b.consolidates(vm, ""), b.leafIs(vm, "[lab-ds] win/win.vmdk", false))
}

// leafIs looks at the file that the VM writes, with no snapshot in its tree.
func (b *bench) leafIs(vm *object.VirtualMachine, file string, needed bool) error {
	p, err := b.properties(vm)
	if err != nil {
		return err
	}
	disks := object.VirtualDeviceList(p.Config.Hardware.Device).SelectByType((*types.VirtualDisk)(nil))
	backing := disks[0].GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return first(
		expect("snapshots", p.Snapshot == nil, true), expect("file", backing.FileName, file),
		expect("has a parent", backing.Parent != nil, strings.Contains(file, "-0000")),
		expect("consolidation needed", *p.Runtime.ConsolidationNeeded, needed))
}

func (b *bench) consolidates(vm *object.VirtualMachine, fault string) error {
	response, err := methods.ConsolidateVMDisks_Task(b.ctx, b.client, &types.ConsolidateVMDisks_Task{This: vm.Reference()})
	if err != nil {
		return err
	}
	return expect("consolidation", faultName(object.NewTask(b.client.Client, response.Returnval).Wait(b.ctx)), fault)
}

// snapshotsAreOld plays one that somebody else forgot, and lets ours grow old.
func snapshotsAreOld(b *bench) error {
	vm, err := b.vm("DC0/vm/win")
	if err != nil {
		return err
	}
	var made struct{ Snapshot string }
	if err := b.control("POST", "/vm/win/snapshot", fields{"name": "before the upgrade", "description": "do not touch", "age_seconds": 86400}, &made); err != nil {
		return err
	}
	tree, err := b.tree(vm)
	if err != nil {
		return err
	}
	age := time.Since(tree.CreateTime)
	ref := tree.Snapshot
	if err := first(
		expect("moref", ref.Value, made.Snapshot), expect("description", tree.Description, "do not touch"),
		expect("age", age > 23*time.Hour && age < 25*time.Hour, true),
		b.control("POST", "/snapshots/age", fields{"snapshot": made.Snapshot, "age_seconds": 1200}, nil),
	); err != nil {
		return err
	}
	if tree, err = b.tree(vm); err != nil {
		return err
	}
	age = time.Since(tree.CreateTime)
	return first(expect("age after it was set", age > 19*time.Minute && age < 21*time.Minute, true), b.removeSnapshot(ref))
}

// spaceIsSet reads what a datastore says before and after.
func spaceIsSet(b *bench) error {
	read := func() (*mo.Datastore, error) {
		ref, err := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, "DC0/datastore/second")
		if err != nil {
			return nil, err
		}
		var ds mo.Datastore
		return &ds, b.client.RetrieveOne(b.ctx, ref.Reference(), []string{"summary", "info"}, &ds)
	}
	before, err := read()
	if err := first(err, b.control("POST", "/datastore/second", fields{"free_bytes": 12345678, "capacity_bytes": 1 << 30}, nil)); err != nil {
		return err
	}
	after, err := read()
	return first(err,
		expect("plenty at first", before.Summary.FreeSpace >= 1<<39, true),
		expect("free", after.Summary.FreeSpace, int64(12345678)), expect("free in info", after.Info.GetDatastoreInfo().FreeSpace, int64(12345678)),
		expect("capacity", after.Summary.Capacity, int64(1<<30)))
}

// hostsSwitch moves a running VM to the other host and back, whatever it is doing.
func hostsSwitch(b *bench) error {
	vm, err := b.vm("DC0/vm/win")
	if err != nil {
		return err
	}
	var hosts []string
	for i := 0; i < 3; i++ {
		p, err := b.properties(vm)
		if err != nil {
			return err
		}
		hosts = append(hosts, p.Runtime.Host.Value)
		if err := b.control("POST", "/vm/win/switch-host", fields{}, nil); err != nil {
			return err
		}
	}
	return first(expect("it moved", hosts[0] != hosts[1], true), expect("and back", hosts[2], hosts[0]))
}
