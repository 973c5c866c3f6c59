// What the control endpoint asks and does.
package simulator

import (
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// Machine describes one VM.
type Machine struct {
	Name      string     `json:"name"`
	Path      string     `json:"path"`
	Moref     string     `json:"moref"`
	UUID      string     `json:"uuid"` // of its firmware
	Proxy     bool       `json:"proxy"`
	Power     string     `json:"power"`
	Cbt       bool       `json:"cbt"`
	Vmx       string     `json:"vmx"`
	Nvram     string     `json:"nvram"`
	Disks     []Disk     `json:"disks"`
	Snapshots []Snapshot `json:"snapshots"`
}

// Disk describes one disk of a VM as it is now.
type Disk struct {
	Key      int32  `json:"key"`
	File     string `json:"file"` // datastore path in the VM's configuration
	LiveFile string `json:"live_file"`
	Capacity int64  `json:"capacity"`
	Mode     string `json:"mode"`
	Rdm      string `json:"rdm"`
	UUID     string `json:"uuid"`
}

// Snapshot describes one that exists now.
type Snapshot struct {
	Moref       string    `json:"moref"`
	VM          string    `json:"vm"`
	VMName      string    `json:"vm_name"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	CreatedAt   time.Time `json:"created_at"`
	Quiesced    bool      `json:"quiesced"`
}

// Machines lists all VMs by path.
func (l *labState) Machines() []Machine {
	machines := []Machine{}
	for _, e := range Map.All("VirtualMachine") {
		vm, ok := e.(*VirtualMachine)
		if !ok {
			continue
		}
		Map.WithLock(vm, func() { machines = append(machines, vm.describe()) })
	}
	sort.Slice(machines, func(i, j int) bool { return machines[i].Path < machines[j].Path })
	return machines
}

func (vm *VirtualMachine) describe() Machine {
	m := Machine{
		Name: vm.Name, Path: inventoryPath(vm), Moref: vm.Self.Value, Power: "off", UUID: vm.Config.Uuid, Proxy: Proxies.IsProxy(vm.Self.Value),
		Cbt: isTrue(vm.Config.ChangeTrackingEnabled), Vmx: vm.Config.Files.VmPathName, Nvram: vm.nvramFile(),
		Disks: []Disk{}, Snapshots: []Snapshot{},
	}
	if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		m.Power = "on"
	}
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		m.Disks = append(m.Disks, describeDisk(vm, disk))
	}
	if vm.Snapshot != nil {
		m.Snapshots = describeTree(vm, vm.Snapshot.RootSnapshotList)
	}
	return m
}

func describeDisk(vm *VirtualMachine, disk *types.VirtualDisk) Disk {
	live, err := livePath(vm, disk)
	if err != nil {
		live = ""
	}
	d := Disk{Key: disk.Key, LiveFile: live, Capacity: getDiskSize(disk), Rdm: "absent", UUID: backingUUID(disk)}
	switch b := disk.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		d.File, d.Mode = b.FileName, b.DiskMode
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		d.File, d.Mode, d.Rdm = b.FileName, b.DiskMode, strings.TrimSuffix(b.CompatibilityMode, "Mode")
	}
	return d
}

func describeTree(vm *VirtualMachine, tree []types.VirtualMachineSnapshotTree) []Snapshot {
	list := []Snapshot{}
	for _, node := range tree {
		list = append(list, Snapshot{
			Moref: node.Snapshot.Value, VM: vm.Self.Value, VMName: vm.Name, Name: node.Name,
			Description: node.Description, CreatedAt: node.CreateTime, Quiesced: node.Quiesced,
		})
		list = append(list, describeTree(vm, node.ChildSnapshotList)...)
	}
	return list
}

// inventoryPath is what SearchIndex.FindByInventoryPath takes.
func inventoryPath(e mo.Entity) string {
	path := entityName(e)
	for parent := e.Entity().Parent; parent != nil; {
		up, ok := Map.Get(*parent).(mo.Entity)
		if !ok || up.Entity().Parent == nil {
			break
		}
		path = entityName(up) + "/" + path
		parent = up.Entity().Parent
	}
	return path
}

// FindMachine takes a name, an inventory path or a moref.
func (l *labState) FindMachine(name string) (*VirtualMachine, error) {
	var found []*VirtualMachine
	for _, e := range Map.All("VirtualMachine") {
		vm, ok := e.(*VirtualMachine)
		if ok && (vm.Self.Value == name || vm.Name == name || inventoryPath(vm) == name) {
			found = append(found, vm)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no VM %s", name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("several VMs are named %s: give the inventory path or moref", name)
}

// Freezes lists every freeze ever made, oldest first.
func (l *labState) Freezes() []Freeze {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]Freeze, 0, len(l.freezes))
	for _, f := range l.freezes {
		list = append(list, *f)
	}
	return list
}

// Prune deletes the copies of freezes whose snapshots are gone, save the newest of each tracked disk, with
// which the next snapshot is compared. Changed areas between pruned freezes stay known.
func (l *labState) Prune() ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	newest, err := l.settleTrackers()
	if err != nil {
		return nil, err
	}
	deleted := []string{}
	for _, f := range l.freezes {
		if f.Exists || !f.Kept || newest[f] || l.isPoint(f) {
			continue
		}
		if err := os.Remove(f.Path); err != nil {
			return deleted, err
		}
		f.Kept = false
		deleted = append(deleted, f.Path)
	}
	return deleted, nil
}

// isPoint tells whether a disk's chain still has a freeze, as it does after a removal that could not merge.
func (l *labState) isPoint(f *Freeze) bool {
	for _, g := range l.guests {
		for _, c := range g.disks {
			for _, p := range c.points {
				if p.freeze == f {
					return true
				}
			}
		}
	}
	return false
}

// settleTrackers computes every step while both copies of it exist, and answers the newest freezes.
func (l *labState) settleTrackers() (map[*Freeze]bool, error) {
	newest := map[*Freeze]bool{}
	for _, g := range l.guests {
		for _, c := range g.disks {
			if c.track == nil {
				continue
			}
			last := len(c.track.freezes) - 1
			newest[c.track.freezes[last]] = true
			if c.track.base != nil {
				newest[c.track.base] = true
			}
			for n := 1; n <= last; n++ {
				if _, err := c.track.step(n); err != nil {
					return nil, err
				}
			}
		}
	}
	return newest, nil
}

// SetPower switches a VM as an operator would.
func (l *labState) SetPower(vm *VirtualMachine, on bool) error {
	var ref types.ManagedObjectReference
	Map.WithLock(vm, func() {
		if on {
			ref = vm.PowerOnVMTask(internalContext, &types.PowerOnVM_Task{This: vm.Self}).(*methods.PowerOnVM_TaskBody).Res.Returnval
		} else {
			ref = vm.PowerOffVMTask(internalContext, &types.PowerOffVM_Task{This: vm.Self}).(*methods.PowerOffVM_TaskBody).Res.Returnval
		}
	})
	return taskError(ref)
}

// TakeSnapshot makes a snapshot that no client of the lab asked for, after the VM's running task.
func (l *labState) TakeSnapshot(vm *VirtualMachine, made NewSnapshot) (string, error) {
	for {
		ref, fault := vm.beginSnapshot(snapshotSpec{name: made.Name, description: made.Description, age: time.Duration(made.AgeSeconds * float64(time.Second))})
		if fault == nil {
			if err := awaitTask(ref); err != nil {
				return "", err
			}
			result, _ := Map.Get(ref).(*Task).Info.Result.(types.ManagedObjectReference)
			return result.Value, nil
		}
		if _, busy := fault.(*types.TaskInProgress); !busy {
			return "", fmt.Errorf("%T", fault)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func awaitTask(ref types.ManagedObjectReference) error {
	for {
		task, ok := Map.Get(ref).(*Task)
		if !ok {
			return errors.New("the task is gone")
		}
		var state types.TaskInfoState
		Map.WithLock(task, func() { state = task.Info.State })
		if state == types.TaskInfoStateSuccess || state == types.TaskInfoStateError {
			return taskError(ref)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func taskError(ref types.ManagedObjectReference) error {
	task, ok := Map.Get(ref).(*Task)
	if ok && task.Info.Error != nil {
		return fmt.Errorf("%T", task.Info.Error.Fault)
	}
	return nil
}

// SetConsolidation sets runtime.consolidationNeeded; a stuck VM's consolidation fails with FileLocked, always or so many times.
func (l *labState) SetConsolidation(vm *VirtualMachine, needed, stuck bool, times int) {
	l.mu.Lock()
	l.guest(vm.Self).stuck, l.guest(vm.Self).stuckTimes = stuck, times
	l.mu.Unlock()
	vm.setConsolidationNeeded(needed)
}

// MachineOf answers the VM of a reference, which exists.
func (l *labState) MachineOf(ref types.ManagedObjectReference) *VirtualMachine {
	return Map.Get(ref).(*VirtualMachine)
}
