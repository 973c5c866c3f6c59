// Removing snapshots, going back to them, and consolidation.
package simulator

import (
	"log"
	"os"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// RemoveSnapshotTask merges the snapshot's files; the frozen copies stay until they are pruned.
func (v *VirtualMachineSnapshot) RemoveSnapshotTask(ctx *Context, req *types.RemoveSnapshot_Task) soap.HasFault {
	vm := Map.Get(v.Vm).(*VirtualMachine)
	task, fault := Lab.begin(vm, "removeSnapshot", func(task *Task) (types.AnyType, types.BaseMethodFault) {
		vm.slowRemoval(task)
		var fault types.BaseMethodFault
		Map.WithLock(vm, func() { fault = vm.dropSnapshots(v.subtree(vm, req.RemoveChildren)) })
		return nil, fault
	})
	if fault != nil {
		return &methods.RemoveSnapshot_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: task}}
}

// RemoveAllSnapshotsTask leaves the VM without any.
func (vm *VirtualMachine) RemoveAllSnapshotsTask(ctx *Context, req *types.RemoveAllSnapshots_Task) soap.HasFault {
	task, fault := Lab.begin(vm, "removeAllSnapshots", func(task *Task) (types.AnyType, types.BaseMethodFault) {
		vm.slowRemoval(task)
		var fault types.BaseMethodFault
		Map.WithLock(vm, func() {
			if vm.Snapshot != nil {
				fault = vm.dropSnapshots(allSnapshotsInTree(vm.Snapshot.RootSnapshotList))
			}
		})
		return nil, fault
	})
	if fault != nil {
		return &methods.RemoveAllSnapshots_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: task}}
}

// slowRemoval lasts as long as it was asked to. Nobody can cancel it.
func (vm *VirtualMachine) slowRemoval(task *Task) {
	b := Lab.tasksOf(vm)
	Lab.vanish(vm, task, b.VanishSeconds)
	Lab.pause(task, b.RemoveSeconds)
}

// subtree lists the snapshot and, when asked, all below it.
func (v *VirtualMachineSnapshot) subtree(vm *VirtualMachine, children bool) []types.ManagedObjectReference {
	if children && vm.Snapshot != nil {
		if node := findSnapshotInTree(vm.Snapshot.RootSnapshotList, v.Self); node != nil {
			return allSnapshotsInTree([]types.VirtualMachineSnapshotTree{*node})
		}
	}
	return []types.ManagedObjectReference{v.Self}
}

// dropSnapshots works from the youngest to the oldest; the caller holds the VM's lock. All of them go from the
// tree, but the files of those that a proxy holds stay until a consolidation.
func (vm *VirtualMachine) dropSnapshots(refs []types.ManagedObjectReference) types.BaseMethodFault {
	var fault types.BaseMethodFault
	for i := len(refs) - 1; i >= 0; i-- {
		if snapshot, ok := Map.Get(refs[i]).(*VirtualMachineSnapshot); ok {
			if file := vm.dropSnapshot(snapshot); file != "" {
				fault = fileLocked(file)
			}
		}
	}
	return fault
}

// dropSnapshot names the file that kept its files from being merged.
func (vm *VirtualMachine) dropSnapshot(snapshot *VirtualMachineSnapshot) string {
	started, held := time.Now(), vm.heldBy(snapshot.Self.Value)
	if held == "" && !Lab.tasksOf(vm).LeaveDeltas {
		vm.mergeFiles(snapshot.Self.Value)
	} else {
		vm.leaveFiles(snapshot.Self.Value)
		Map.Update(vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: true}})
	}
	snapshot.removeSnapshotFiles(internalContext)
	if node := findSnapshotInTree(vm.Snapshot.RootSnapshotList, snapshot.Self); node != nil {
		vm.dropManifest(node.BackupManifest)
	}
	vm.logStun(time.Since(started))
	Lab.note(vm, GuestEvent{Kind: "removed", Detail: snapshot.Self.Value})

	vm.dropFromTree(snapshot)
	return held
}

func (vm *VirtualMachine) dropFromTree(snapshot *VirtualMachineSnapshot) {
	roots := []types.VirtualMachineSnapshotTree{}
	current := vm.Snapshot.CurrentSnapshot
	parent := findParentSnapshotInTree(vm.Snapshot.RootSnapshotList, snapshot.Self)
	if current != nil && *current == snapshot.Self {
		current = parent
	}
	roots = append(roots, removeSnapshotInTree(vm.Snapshot.RootSnapshotList, snapshot.Self, false)...)
	if len(roots) == 0 {
		Map.Update(vm, []types.PropertyChange{{Name: "snapshot", Val: nil}})
	} else {
		Map.Update(vm, []types.PropertyChange{{Name: "snapshot", Val: types.VirtualMachineSnapshotInfo{
			CurrentSnapshot: current, RootSnapshotList: roots,
		}}})
	}
	Map.Update(vm, []types.PropertyChange{{Name: "rootSnapshot", Val: rootReferences(roots)}})
	Map.Remove(snapshot.Self)
}

// mergeFiles renames files as a merge does, in the VM and in the snapshots that remain.
func (vm *VirtualMachine) mergeFiles(removed string) {
	before := descriptorFiles(vm)
	Lab.mu.Lock()
	g := Lab.guest(vm.Self)
	for _, c := range g.disks {
		c.merge(removed)
	}
	for _, f := range Lab.freezes {
		if f.Snapshot == removed {
			f.Exists = false
		}
	}
	devices := g.devicesAt(vm.Config.Hardware.Device, "")
	remaining := map[*VirtualMachineSnapshot][]types.BaseVirtualDevice{}
	for _, ref := range vm.snapshotsInTree() {
		if s, ok := Map.Get(ref).(*VirtualMachineSnapshot); ok && ref.Value != removed {
			remaining[s] = g.devicesAt(s.Config.Hardware.Device, ref.Value)
		}
	}
	Lab.mu.Unlock()

	vm.setDevices(devices)
	for s, d := range remaining {
		Map.Update(s, []types.PropertyChange{{Name: "config.hardware.device", Val: d}})
	}
	removeDescriptors(vm, before, descriptorFiles(vm))
	vm.writeChainTexts()
}

func (vm *VirtualMachine) snapshotsInTree() []types.ManagedObjectReference {
	if vm.Snapshot == nil {
		return nil
	}
	return allSnapshotsInTree(vm.Snapshot.RootSnapshotList)
}

// descriptorFiles lists every descriptor that the VM's chains use.
func descriptorFiles(vm *VirtualMachine) map[string]bool {
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	files := map[string]bool{}
	for _, c := range Lab.guest(vm.Self).disks {
		files[c.root], files[c.leaf] = true, true
		for _, p := range c.points {
			files[p.file] = true
		}
	}
	return files
}

func removeDescriptors(vm *VirtualMachine, before, after map[string]bool) {
	for file := range before {
		if after[file] {
			continue
		}
		local, err := localPath(vm, file)
		if err == nil {
			err = os.Remove(local)
		}
		if err != nil {
			log.Printf("remove %s: %s", file, err)
		}
	}
}

// RevertToSnapshotTask puts the frozen content back. Tracking starts over: what changed since is unknown.
func (v *VirtualMachineSnapshot) RevertToSnapshotTask(ctx *Context, req *types.RevertToSnapshot_Task) soap.HasFault {
	task, fault := Map.Get(v.Vm).(*VirtualMachine).beginRevert(v.Self, false)
	if fault != nil {
		return &methods.RevertToSnapshot_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: task}}
}

func (vm *VirtualMachine) beginRevert(snapshot types.ManagedObjectReference, keepTracking bool) (types.ManagedObjectReference, types.BaseMethodFault) {
	return Lab.begin(vm, "revertToSnapshot", func(*Task) (types.AnyType, types.BaseMethodFault) {
		if err := vm.putBack(snapshot.Value); err != nil {
			log.Printf("revert %s: %s", vm.Name, err)
			return nil, &types.FileFault{File: vm.Config.Files.VmPathName}
		}
		if keepTracking {
			Lab.mu.Lock()
			Lab.guest(vm.Self).rebase(snapshot.Value)
			Lab.mu.Unlock()
		} else {
			Lab.ResetTracking(vm.Self)
		}
		Map.WithLock(vm, func() {
			Map.Update(vm, []types.PropertyChange{{Name: "snapshot.currentSnapshot", Val: snapshot}})
		})
		return nil, nil
	})
}

func (vm *VirtualMachine) putBack(snapshot string) error {
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		live, err := livePath(vm, disk)
		if err != nil {
			return err
		}
		for _, f := range Lab.Freezes() {
			if f.Snapshot == snapshot && f.DiskKey == disk.Key {
				if err := CopySparse(f.Path, live); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ConsolidateVMDisksTask clears consolidationNeeded, unless the control endpoint made the VM stuck.
func (vm *VirtualMachine) ConsolidateVMDisksTask(ctx *Context, req *types.ConsolidateVMDisks_Task) soap.HasFault {
	task, fault := Lab.begin(vm, "consolidateVMDisks", func(task *Task) (types.AnyType, types.BaseMethodFault) {
		Lab.pause(task, Lab.tasksOf(vm).ConsolidateSeconds)
		Lab.mu.Lock()
		stuck := Lab.guest(vm.Self).isStuck()
		Lab.mu.Unlock()
		if stuck {
			return nil, &types.FileLocked{FileFault: types.FileFault{File: vm.Config.Files.VmPathName}}
		}
		if fault := vm.mergeLeftOver(); fault != nil {
			return nil, fault
		}
		vm.setConsolidationNeeded(false)
		return nil, nil
	})
	if fault != nil {
		return &methods.ConsolidateVMDisks_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: task}}
}

func (vm *VirtualMachine) setConsolidationNeeded(needed bool) {
	Map.WithLock(vm, func() {
		Map.Update(vm, []types.PropertyChange{{Name: "runtime.consolidationNeeded", Val: needed}})
	})
}
