// What the lab knows of its VMs and datastores beyond upstream's inventory.
//
// The files of this directory are compiled into govmomi's package simulator with `go build -overlay`:
// methods added to upstream's types are found by its SOAP dispatcher through reflection.
package simulator

import (
	"fmt"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// Lab is the one lab of this process.
var Lab = &labState{guests: map[string]*guest{}}

// LabSettings is what the program decides before the first VM exists.
type LabSettings struct {
	Dir        string // holds frozen copies and LUNs
	MaxAreas   int    // changed areas in one answer
	PageBytes  int64  // disk bytes that one answer covers
	APIVersion string
}

type labState struct {
	LabSettings

	mu      sync.Mutex // guards everything below and every guest
	guests  map[string]*guest
	freezes []*Freeze
	pages   map[string]*resultPage
	cancels map[string]chan struct{} // of tasks that may be cancelled
	urls    map[string]*guestTransfer

	spaces   map[string]Space      // by datastore
	policies map[string]VMPolicies // by VM

	backupPassword string // of BackupUser, set before the first call
}

// guest is one VM. Its disks are added when they are first looked at.
type guest struct {
	stuck   bool // consolidation fails while this is set
	tasks   TaskBehaviour
	running *types.ManagedObjectReference
	disks   map[int32]*chain

	oddities map[int32]*MapOddity
	omitted  []Omission

	stuckTimes int // consolidations that are still to fail

	behaviour GuestBehaviour
	dir       string // plays its root directory
	events    []GuestEvent
	eventSeq  int
	processes map[int64]*guestProcess
}

// Freeze is the content that one snapshot gave one disk. It outlives the snapshot.
type Freeze struct {
	Snapshot  string                                   `json:"snapshot"`
	Name      string                                   `json:"name"`
	VM        string                                   `json:"vm"`
	VMName    string                                   `json:"vm_name"`
	DiskKey   int32                                    `json:"disk_key"`
	File      string                                   `json:"file"` // datastore path in snapshot.config when it was made
	Path      string                                   `json:"path"` // frozen copy on this machine
	ChangeID  string                                   `json:"change_id"`
	Capacity  int64                                    `json:"capacity"`
	CreatedAt time.Time                                `json:"created_at"`
	Exists    bool                                     `json:"exists"` // the snapshot
	Kept      bool                                     `json:"kept"`   // the frozen copy
	Quiesce   types.BaseVirtualMachineGuestQuiesceSpec `json:"quiesce,omitempty"`

	maps map[string][]area // changed areas by the id they are asked with: all pages of a map are cut from one
}

func (l *labState) Configure(settings LabSettings) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.LabSettings = settings
	l.spaces = map[string]Space{}
	l.policies = map[string]VMPolicies{}
	l.pages, l.cancels, l.urls = map[string]*resultPage{}, map[string]chan struct{}{}, map[string]*guestTransfer{}
}

// guest answers the record of a VM; the caller holds l.mu.
func (l *labState) guest(vm types.ManagedObjectReference) *guest {
	g, ok := l.guests[vm.Value]
	if !ok {
		g = &guest{disks: map[int32]*chain{}, oddities: map[int32]*MapOddity{}, behaviour: DefaultGuest(), processes: map[int64]*guestProcess{}}
		l.guests[vm.Value] = g
	}
	return g
}

func (l *labState) toolsRun(vm *VirtualMachine) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guest(vm.Self).behaviour.toolsRun() && vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
}

func (l *labState) forget(vm types.ManagedObjectReference) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guests, vm.Value)
	for _, f := range l.freezes {
		if f.VM == vm.Value {
			f.Exists = false
		}
	}
}

// begin starts a task on a VM in the background, as vCenter does; a VM has one such task at a time.
func (l *labState) begin(vm *VirtualMachine, name string, run func(*Task) (types.AnyType, types.BaseMethodFault)) (types.ManagedObjectReference, types.BaseMethodFault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guest(vm.Self)
	if g.running != nil {
		return types.ManagedObjectReference{}, &types.TaskInProgress{Task: *g.running}
	}
	task := CreateTask(vm, name, run)
	task.Info.EntityName = vm.Name
	g.running = &task.Self
	if name == "createSnapshot" {
		task.Info.Cancelable = true
		l.cancels[task.Self.Value] = make(chan struct{})
	}
	go func() {
		task.runInBackground(vm)
		l.mu.Lock()
		g.running = nil
		delete(l.cancels, task.Self.Value)
		l.mu.Unlock()
	}()
	return task.Self, nil
}

func (t *Task) runInBackground(vm *VirtualMachine) {
	Map.WithLock(vm, func() {
		recent := append([]types.ManagedObjectReference{}, vm.RecentTask...)
		recent = append(recent, t.Self)
		if len(recent) > 5 {
			recent = recent[len(recent)-5:]
		}
		Map.Update(vm, []types.PropertyChange{{Name: "recentTask", Val: recent}})
	})
	t.update(types.PropertyChange{Name: "info.startTime", Val: time.Now()},
		types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateRunning})
	result, fault := t.Execute(t)
	Mounts.refresh()
	if fault != nil {
		t.update(types.PropertyChange{Name: "info.completeTime", Val: time.Now()},
			types.PropertyChange{Name: "info.error", Val: types.LocalizedMethodFault{Fault: fault, LocalizedMessage: fmt.Sprintf("%T", fault)}},
			types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateError})
		return
	}
	t.update(types.PropertyChange{Name: "info.completeTime", Val: time.Now()},
		types.PropertyChange{Name: "info.result", Val: result},
		types.PropertyChange{Name: "info.state", Val: types.TaskInfoStateSuccess})
}

// update holds the task's lock, which the property collector takes to read it.
func (t *Task) update(changes ...types.PropertyChange) {
	Map.WithLock(t, func() { Map.Update(t, changes) })
}
