// What an operator or a bad day does to tasks, snapshots and datastores, on demand.
package simulator

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// TaskBehaviour is how long a VM's tasks take and what becomes of removals, until it is changed again.
type TaskBehaviour struct {
	CreateSeconds      float64 `json:"create_seconds"`
	RemoveSeconds      float64 `json:"remove_seconds"`
	ConsolidateSeconds float64 `json:"consolidate_seconds"`
	VanishSeconds      float64 `json:"vanish_seconds"` // a removal's task object is gone so long after it began; 0: it stays
	LeaveDeltas        bool    `json:"leave_deltas"`   // a removal takes the snapshot from the tree and leaves its files
}

// SetTasks changes how a VM's tasks behave.
func (l *labState) SetTasks(vm *VirtualMachine, behaviour TaskBehaviour) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guest(vm.Self).tasks = behaviour
}

func (l *labState) tasksOf(vm *VirtualMachine) TaskBehaviour {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guest(vm.Self).tasks
}

// vanish takes a task's object away while it runs, as a restart of vCenter does.
func (l *labState) vanish(vm *VirtualMachine, task *Task, seconds float64) {
	if seconds <= 0 {
		return
	}
	time.AfterFunc(time.Duration(seconds*float64(time.Second)), func() {
		Map.WithLock(vm, func() {
			recent := []types.ManagedObjectReference{}
			for _, ref := range vm.RecentTask {
				if ref != task.Self {
					recent = append(recent, ref)
				}
			}
			Map.Update(vm, []types.PropertyChange{{Name: "recentTask", Val: recent}})
		})
		Map.Remove(task.Self)
	})
}

// isStuck tells whether a consolidation fails, and counts those that are to fail.
func (g *guest) isStuck() bool {
	if g.stuckTimes > 0 {
		g.stuckTimes--
		return true
	}
	return g.stuck
}

// OrphanDeltas leaves a VM on delta files that no snapshot explains.
func (l *labState) OrphanDeltas(vm *VirtualMachine) error {
	moref, err := l.TakeSnapshot(vm, NewSnapshot{Name: "orphan"})
	if err != nil {
		return err
	}
	Map.WithLock(vm, func() {
		if s, ok := Map.Get(types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: moref}).(*VirtualMachineSnapshot); ok {
			vm.leaveFiles(moref)
			vm.dropFromTree(s)
		}
	})
	return nil
}

// NewSnapshot is one that no client of the lab asks for.
type NewSnapshot struct {
	Name        string  `json:"name"`
	Description string  `json:"description"`
	AgeSeconds  float64 `json:"age_seconds"` // createTime lies so far back
}

// AgeSnapshot moves the createTime of a snapshot back from now.
func (l *labState) AgeSnapshot(moref string, seconds float64) error {
	return changeSnapshot(moref, func(tree *types.VirtualMachineSnapshotTree) {
		tree.CreateTime = time.Now().UTC().Add(-time.Duration(seconds * float64(time.Second)))
	})
}

// DescribeSnapshot gives a snapshot another description, as RenameSnapshot does.
func (l *labState) DescribeSnapshot(moref, description string) error {
	return changeSnapshot(moref, func(tree *types.VirtualMachineSnapshotTree) { tree.Description = description })
}

func changeSnapshot(moref string, change func(*types.VirtualMachineSnapshotTree)) error {
	s, ok := Map.Get(types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: moref}).(*VirtualMachineSnapshot)
	if !ok {
		return fmt.Errorf("no snapshot %s", moref)
	}
	vm := Map.Get(s.Vm).(*VirtualMachine)
	Map.WithLock(vm, func() {
		roots := copyTree(vm.Snapshot.RootSnapshotList)
		change(findSnapshotInTree(roots, s.Self))
		Map.Update(vm, []types.PropertyChange{{Name: "snapshot.rootSnapshotList", Val: roots}})
	})
	return nil
}

func copyTree(tree []types.VirtualMachineSnapshotTree) []types.VirtualMachineSnapshotTree {
	copied := append([]types.VirtualMachineSnapshotTree{}, tree...)
	for i := range copied {
		copied[i].ChildSnapshotList = copyTree(copied[i].ChildSnapshotList)
	}
	return copied
}

// Space is what a datastore says that it has.
type Space struct {
	FreeBytes     *int64 `json:"free_bytes"`
	CapacityBytes *int64 `json:"capacity_bytes"`
}

const defaultFree, defaultCapacity = int64(1 << 40), int64(2 << 40)

// SetSpace sets what is given and answers both.
func (l *labState) SetSpace(name string, space Space) (Space, error) {
	ds, err := findDatastore("", name)
	if err != nil {
		return space, fmt.Errorf("no datastore %s", name)
	}
	l.mu.Lock()
	known := l.spaces[name]
	if space.FreeBytes != nil {
		known.FreeBytes = space.FreeBytes
	}
	if space.CapacityBytes != nil {
		known.CapacityBytes = space.CapacityBytes
	}
	l.spaces[name] = known
	l.mu.Unlock()
	Map.WithLock(ds, func() {
		ds.tellSpace()
		space = Space{&ds.Summary.FreeSpace, &ds.Summary.Capacity}
	})
	return space, nil
}

// stat tells the lab's figures in place of this machine's disk, which guards of free space would stumble over.
func (ds *Datastore) stat() error {
	if err := ds.upstreamStat(); err != nil {
		return err
	}
	ds.tellSpace()
	return nil
}

func (ds *Datastore) tellSpace() {
	Lab.mu.Lock()
	space := Lab.spaces[ds.Name]
	Lab.mu.Unlock()
	free, capacity := defaultFree, defaultCapacity
	if space.FreeBytes != nil {
		free = *space.FreeBytes
	}
	if space.CapacityBytes != nil {
		capacity = *space.CapacityBytes
	}
	info := ds.Info.GetDatastoreInfo()
	info.FreeSpace = free
	Map.Update(ds, []types.PropertyChange{
		{Name: "summary.freeSpace", Val: free}, {Name: "summary.capacity", Val: capacity}, {Name: "info", Val: ds.Info},
	})
}
