// Snapshots that freeze content.
package simulator

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type snapshotSpec struct {
	name, description string
	quiesce           types.BaseVirtualMachineGuestQuiesceSpec
	age               time.Duration // createTime lies so far back
}

// CreateSnapshotTask is the method of vSphere before 6.5, without a quiesce spec.
func (vm *VirtualMachine) CreateSnapshotTask(ctx *Context, req *types.CreateSnapshot_Task) soap.HasFault {
	spec := snapshotSpec{name: req.Name, description: req.Description}
	if req.Quiesce {
		spec.quiesce = &types.VirtualMachineGuestQuiesceSpec{}
	}
	task, fault := vm.beginSnapshot(spec)
	if fault != nil {
		return &methods.CreateSnapshot_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: task}}
}

// CreateSnapshotExTask records the quiesce spec with the freezes that it leads to.
func (vm *VirtualMachine) CreateSnapshotExTask(ctx *Context, req *types.CreateSnapshotEx_Task) soap.HasFault {
	task, fault := vm.beginSnapshot(snapshotSpec{name: req.Name, description: req.Description, quiesce: req.QuiesceSpec})
	if fault != nil {
		return &methods.CreateSnapshotEx_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: task}}
}

func (vm *VirtualMachine) beginSnapshot(spec snapshotSpec) (types.ManagedObjectReference, types.BaseMethodFault) {
	return Lab.begin(vm, "createSnapshot", func(task *Task) (types.AnyType, types.BaseMethodFault) {
		return vm.takeSnapshot(task, spec)
	})
}

// takeSnapshot copies without holding the VM's lock, so that its properties stay readable meanwhile.
func (vm *VirtualMachine) takeSnapshot(task *Task, spec snapshotSpec) (types.AnyType, types.BaseMethodFault) {
	snapshot := &VirtualMachineSnapshot{}
	snapshot.Vm = vm.Self
	snapshot.Self = Map.newReference(snapshot)

	var disks []*types.VirtualDisk
	Map.WithLock(vm, func() {
		for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
			if isSnapshotted(disk) {
				disks = append(disks, disk)
			}
		}
	})
	quiesced, fault := vm.quiesce(task, spec)
	if fault != nil {
		return nil, fault
	}
	if !Lab.pause(task, Lab.tasksOf(vm).CreateSeconds) {
		quiesced.thaw(vm, task)
		return nil, &types.RequestCanceled{}
	}
	freezes, err := vm.freeze(snapshot.Self.Value, spec, disks)
	if err == nil {
		Lab.note(vm, GuestEvent{Kind: "snapshot", Detail: snapshot.Self.Value})
	}
	if fault := quiesced.thaw(vm, task); fault != nil || err != nil {
		forgetCopies(freezes)
		if fault != nil {
			return nil, fault
		}
		log.Printf("freeze %s: %s", vm.Name, err)
		return nil, &types.FileFault{File: vm.Config.Files.VmPathName}
	}
	Map.WithLock(vm, func() { err = vm.commitSnapshot(snapshot, spec, quiesced, freezes) })
	if err != nil {
		log.Printf("commit snapshot of %s: %s", vm.Name, err)
		return nil, &types.FileFault{File: vm.Config.Files.VmPathName}
	}
	return snapshot.Self, nil
}

// freeze stops every cooperating writer (flock on the live file) until all disks are copied, so that the
// copies are of one instant.
func (vm *VirtualMachine) freeze(snapshot string, spec snapshotSpec, disks []*types.VirtualDisk) (map[int32]*Freeze, error) {
	dir := filepath.Join(Lab.Dir, "frozen")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	live := map[int32]string{}
	for _, disk := range disks {
		path, err := livePath(vm, disk)
		if err != nil {
			return nil, err
		}
		stunned, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer stunned.Close()
		if err := syscall.Flock(int(stunned.Fd()), syscall.LOCK_EX); err != nil {
			return nil, err
		}
		live[disk.Key] = path
	}
	now := time.Now().UTC()
	defer func() { vm.logStun(time.Since(now)) }()
	freezes := map[int32]*Freeze{}
	for _, disk := range disks {
		f := &Freeze{
			Snapshot: snapshot, Name: spec.name, VM: vm.Self.Value, VMName: vm.Name, DiskKey: disk.Key,
			Path:     filepath.Join(dir, fmt.Sprintf("%s-%d.raw", snapshot, disk.Key)),
			Capacity: getDiskSize(disk), CreatedAt: now, Exists: true, Kept: true, Quiesce: spec.quiesce,
		}
		if err := CopySparse(live[disk.Key], f.Path); err != nil {
			return freezes, err
		}
		freezes[disk.Key] = f
	}
	return freezes, nil
}

// forgetCopies removes what a snapshot that failed has copied.
func forgetCopies(freezes map[int32]*Freeze) {
	for _, f := range freezes {
		if err := os.Remove(f.Path); err != nil {
			log.Printf("remove %s: %s", f.Path, err)
		}
	}
}

// commitSnapshot makes the snapshot visible; the caller holds the VM's lock.
func (vm *VirtualMachine) commitSnapshot(snapshot *VirtualMachineSnapshot, spec snapshotSpec, quiesced *quiesced, freezes map[int32]*Freeze) error {
	snapshot.Config = *vm.Config
	tracking := isTrue(vm.Config.ChangeTrackingEnabled)

	Lab.mu.Lock()
	g := Lab.guest(vm.Self)
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		c := g.chain(disk)
		if f := freezes[disk.Key]; f != nil {
			c.follow(tracking, f)
			f.File = c.leaf
			c.grow(f)
			Lab.freezes = append(Lab.freezes, f)
		}
	}
	snapshot.Config.Hardware.Device = g.devicesAt(vm.Config.Hardware.Device, snapshot.Self.Value)
	devices := g.devicesAt(vm.Config.Hardware.Device, "")
	Lab.mu.Unlock()

	Map.Put(snapshot)
	vm.setDevices(devices)
	if err := vm.writeDeltaDescriptors(freezes); err != nil {
		return err
	}
	vm.writeChainTexts()
	return vm.addToTree(snapshot, spec, quiesced)
}

// devicesAt copies the devices with disks as a snapshot saw them, or as they are now for "".
func (g *guest) devicesAt(devices []types.BaseVirtualDevice, snapshot string) []types.BaseVirtualDevice {
	copies := make([]types.BaseVirtualDevice, len(devices))
	for i, d := range devices {
		copies[i] = d
		disk, ok := d.(*types.VirtualDisk)
		if !ok {
			continue
		}
		c := g.chain(disk)
		at := *disk
		if snapshot == "" {
			at.Backing = c.backing(disk.Backing, len(c.points), c.leaf, "")
			copies[i] = &at
			continue
		}
		for n, p := range c.points {
			if p.freeze.Snapshot == snapshot {
				at.Backing = c.backing(disk.Backing, n, p.file, p.freeze.ChangeID)
				copies[i] = &at
			}
		}
	}
	return copies
}

func (vm *VirtualMachine) setDevices(devices []types.BaseVirtualDevice) {
	Map.Update(vm, []types.PropertyChange{{Name: "config.hardware.device", Val: devices}})
	vm.RefreshStorageInfo(internalContext, nil)
}

func (vm *VirtualMachine) writeDeltaDescriptors(freezes map[int32]*Freeze) error {
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		if freezes[disk.Key] == nil {
			continue
		}
		if err := writeDescriptor(vm, disk, diskFile(disk).FileName); err != nil {
			return err
		}
	}
	return nil
}

func (vm *VirtualMachine) addToTree(snapshot *VirtualMachineSnapshot, spec snapshotSpec, quiesced *quiesced) error {
	if vm.Snapshot == nil {
		vm.Snapshot = &types.VirtualMachineSnapshotInfo{}
	}
	id := atomic.AddInt32(&vm.sid, 1)
	manifest, err := quiesced.storeManifest(vm, id)
	if err != nil {
		return err
	}
	item := types.VirtualMachineSnapshotTree{
		Snapshot: snapshot.Self, Vm: vm.Self, Name: spec.name, Description: spec.description,
		Id: id, CreateTime: time.Now().UTC().Add(-spec.age), State: vm.Runtime.PowerState,
		Quiesced: quiesced.on, BackupManifest: manifest, ReplaySupported: types.NewBool(false),
	}
	roots := append([]types.VirtualMachineSnapshotTree{}, vm.Snapshot.RootSnapshotList...)
	current := vm.Snapshot.CurrentSnapshot
	if current == nil {
		roots = append(roots, item)
	} else {
		parent := findSnapshotInTree(roots, *current)
		parent.ChildSnapshotList = append(parent.ChildSnapshotList, item)
		if p, ok := Map.Get(*current).(*VirtualMachineSnapshot); ok {
			p.ChildSnapshot = append(p.ChildSnapshot, snapshot.Self)
		}
	}
	if fault := snapshot.createSnapshotFiles(); fault != nil {
		log.Printf("files of snapshot %s: %T", snapshot.Self.Value, fault)
	}
	Map.Update(vm, []types.PropertyChange{
		{Name: "snapshot.rootSnapshotList", Val: roots},
		{Name: "snapshot.currentSnapshot", Val: snapshot.Self},
		{Name: "rootSnapshot", Val: rootReferences(roots)},
	})
	return nil
}

func rootReferences(roots []types.VirtualMachineSnapshotTree) []types.ManagedObjectReference {
	refs := []types.ManagedObjectReference{}
	for _, r := range roots {
		refs = append(refs, r.Snapshot)
	}
	return refs
}
