// Changed block tracking.
package simulator

import (
	"crypto/rand"
	"fmt"
	"log"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// tracker is one life of a disk's tracking; a new uuid makes all older change ids worthless.
type tracker struct {
	uuid    string
	freezes []*Freeze      // freezes[n] has change id uuid/n+1
	steps   map[int][]area // steps[n]: what changed between freezes n-1 and n

	base      *Freeze         // what a revert brought back since the last freeze
	bases     map[int]*Freeze // bases[n]: step n compares with this in place of freeze n-1
	blindFrom int64           // changes from here on are not tracked, 0 for none
}

func newTracker() *tracker {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // the system has no randomness: nothing here can work
	}
	hex := func(part []byte) string { return strings.TrimSpace(fmt.Sprintf("% x", part)) }
	return &tracker{uuid: hex(b[:8]) + "-" + hex(b[8:]), steps: map[int][]area{}, bases: map[int]*Freeze{}}
}

// follow gives a freeze its change id; tracking takes effect at a snapshot, as on ESXi.
func (c *chain) follow(tracking bool, f *Freeze) {
	if !tracking {
		c.track = nil
		return
	}
	if c.track == nil {
		c.track = newTracker()
	}
	if c.track.base != nil {
		c.track.bases[len(c.track.freezes)], c.track.base = c.track.base, nil
	}
	c.track.freezes = append(c.track.freezes, f)
	f.ChangeID = fmt.Sprintf("%s/%d", c.track.uuid, len(c.track.freezes))
}

// step answers what changed from freeze n-1 to freeze n, computing it once.
func (t *tracker) step(n int) ([]area, error) {
	if done, ok := t.steps[n]; ok {
		return done, nil
	}
	before := t.freezes[n-1]
	if base := t.bases[n]; base != nil {
		before = base
	}
	areas, err := changed(before.Path, t.freezes[n].Path)
	if err == nil {
		t.steps[n] = areas
	}
	return areas, err
}

// between unites the steps after freeze `from` up to freeze `to`.
func (t *tracker) between(from, to int) ([]area, error) {
	var all []area
	for n := from + 1; n <= to; n++ {
		areas, err := t.step(n)
		if err != nil {
			return nil, err
		}
		all = unite(all, areas)
	}
	return all, nil
}

// position finds the freeze of a change id, -1 when the id belongs to no freeze of this life.
func (t *tracker) position(id string) int {
	cut := strings.LastIndex(id, "/")
	if t == nil || cut < 0 || id[:cut] != t.uuid {
		return -1
	}
	n, err := strconv.Atoi(id[cut+1:])
	if err != nil || n < 1 || n > len(t.freezes) {
		return -1
	}
	return n - 1
}

// ResetTracking makes every change id of the VM worthless.
func (l *labState) ResetTracking(vm types.ManagedObjectReference) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.guest(vm).disks {
		c.track = nil
	}
}

// QueryChangedDiskAreas answers one page of changed areas.
func (vm *VirtualMachine) QueryChangedDiskAreas(ctx *Context, req *types.QueryChangedDiskAreas) soap.HasFault {
	page, fault := vm.changedAreas(req)
	if fault != nil {
		return &methods.QueryChangedDiskAreasBody{Fault_: Fault("", fault)}
	}
	return &methods.QueryChangedDiskAreasBody{Res: &types.QueryChangedDiskAreasResponse{Returnval: *page}}
}

func (vm *VirtualMachine) changedAreas(req *types.QueryChangedDiskAreas) (*types.DiskChangeInfo, types.BaseMethodFault) {
	if req.Snapshot == nil {
		// vSphere allows it for powered-off VMs; nothing of ours asks so.
		return nil, &types.InvalidArgument{InvalidProperty: "snapshot"}
	}
	if _, ok := Map.Get(*req.Snapshot).(*VirtualMachineSnapshot); !ok {
		return nil, &types.ManagedObjectNotFound{Obj: *req.Snapshot}
	}
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	c, f := Lab.guest(vm.Self).frozenDisk(req.DeviceKey, req.Snapshot.Value)
	if f == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
	}
	if req.StartOffset < 0 || req.StartOffset >= f.Capacity {
		return nil, &types.InvalidArgument{InvalidProperty: "startOffset"}
	}
	areas, fault := c.changedSince(req.ChangeId, f)
	if fault != nil {
		return nil, fault
	}
	return Lab.guest(vm.Self).answer(req.DeviceKey, f, req.ChangeId, req.StartOffset, areas)
}

func (g *guest) frozenDisk(key int32, snapshot string) (*chain, *Freeze) {
	if c, ok := g.disks[key]; ok {
		for _, p := range c.points {
			if p.freeze.Snapshot == snapshot {
				return c, p.freeze
			}
		}
	}
	return nil, nil
}

func (c *chain) changedSince(id string, f *Freeze) ([]area, types.BaseMethodFault) {
	if f.ChangeID == "" {
		return nil, &types.FileFault{File: f.File} // tracking was off at the snapshot
	}
	if id == "*" {
		return orFileFault(f)(f.remembered(id, func() ([]area, error) { return allocated(f.Path) }))
	}
	if !strings.Contains(id, "/") {
		return nil, &types.InvalidArgument{InvalidProperty: "changeId"}
	}
	from, to := c.track.position(id), c.track.position(f.ChangeID)
	if from < 0 || to < 0 || from > to {
		return nil, &types.FileFault{File: f.File}
	}
	return orFileFault(f)(f.remembered(id, func() ([]area, error) {
		areas, err := c.track.between(from, to)
		return c.track.blind(areas), err
	}))
}

// remembered computes a map once for all of its pages.
func (f *Freeze) remembered(id string, compute func() ([]area, error)) ([]area, error) {
	if areas, ok := f.maps[id]; ok {
		return areas, nil
	}
	areas, err := compute()
	if err == nil {
		if f.maps == nil {
			f.maps = map[string][]area{}
		}
		f.maps[id] = areas
	}
	return areas, err
}

func orFileFault(f *Freeze) func([]area, error) ([]area, types.BaseMethodFault) {
	return func(areas []area, err error) ([]area, types.BaseMethodFault) {
		if err != nil {
			log.Printf("changed areas of %s: %s", f.Path, err)
			return nil, &types.FileFault{File: f.File}
		}
		return areas, nil
	}
}

// pageOf cuts the answer that starts at an offset. A page without areas is legal and is not the end.
func pageOf(areas []area, start, capacity int64, most int, span int64) *types.DiskChangeInfo {
	end := min64(capacity, start+span)
	page := &types.DiskChangeInfo{StartOffset: start}
	for _, a := range areas {
		from, to := a.start, min64(a.end, end)
		if from < start {
			from = start
		}
		if from >= to {
			continue
		}
		if len(page.ChangedArea) == most {
			end = from
			break
		}
		page.ChangedArea = append(page.ChangedArea, types.DiskChangeExtent{Start: from, Length: to - from})
	}
	page.Length = end - start
	return page
}
