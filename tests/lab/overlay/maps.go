// Maps of changed areas that are odd or that lie, as hosts have been seen to answer them.
package simulator

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/vmware/govmomi/vim25/types"
)

// Range is a part of a disk in bytes.
type Range struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
}

// MapOddity says what is wrong with a disk's maps until it is taken away again.
type MapOddity struct {
	OmitFraction  float64 `json:"omit_fraction"`  // of the tracked blocks that changed, chosen by the seed
	OmitRanges    []Range `json:"omit_ranges"`    // changes within them are not told
	OmitAllocated bool    `json:"omit_allocated"` // "*" omits too
	Seed          int64   `json:"seed"`

	Overlap     bool   `json:"overlap"`      // areas come twice, and their halves again
	Unsorted    bool   `json:"unsorted"`     // each page runs backwards
	BeyondEnd   bool   `json:"beyond_end"`   // the last page has one area across the end and one behind it
	EmptyPages  bool   `json:"empty_pages"`  // every gap between two areas is a page of its own
	ShiftOffset int64  `json:"shift_offset"` // added to the startOffset of each answer
	RefuseStar  bool   `json:"refuse_star"`  // "*" gets FileFault
	StopAt      *int64 `json:"stop_at"`      // the page before it ends there, and none follows
	StopWith    string `json:"stop_with"`    // what the next one answers: a vim25 fault (FileFault), or length-0
}

// Omission is a lie that was told: real changes that an answer left out.
type Omission struct {
	Snapshot string  `json:"snapshot"`
	DiskKey  int32   `json:"disk_key"`
	Since    string  `json:"since"`
	Bytes    int64   `json:"bytes"`
	Areas    []Range `json:"areas"`
}

// MapReport is what the control endpoint tells of a VM's maps.
type MapReport struct {
	Oddities map[int32]*MapOddity `json:"oddities"`
	Omitted  []Omission           `json:"omitted"`
}

// SetMapOddity takes key 0 for all disks of the VM, and nil to be honest again.
func (l *labState) SetMapOddity(vm *VirtualMachine, key int32, odd *MapOddity) error {
	if odd != nil {
		if err := odd.fill(); err != nil {
			return err
		}
	}
	found := false
	var keys []int32
	Map.WithLock(vm, func() {
		for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
			keys = append(keys, disk.Key)
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guest(vm.Self)
	for _, k := range keys {
		if key != 0 && key != k {
			continue
		}
		found = true
		if odd == nil {
			delete(g.oddities, k)
		} else {
			g.oddities[k] = odd
		}
	}
	if !found {
		return fmt.Errorf("%s has no disk %d", vm.Name, key)
	}
	return nil
}

// Maps tells what is wrong with the VM's maps and which lies were told.
func (l *labState) Maps(vm *VirtualMachine) MapReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guest(vm.Self)
	report := MapReport{Oddities: map[int32]*MapOddity{}, Omitted: append([]Omission{}, g.omitted...)}
	for key, odd := range g.oddities {
		report.Oddities[key] = odd
	}
	return report
}

func (o *MapOddity) fill() error {
	if o.OmitFraction < 0 || o.OmitFraction > 1 {
		return fmt.Errorf("omit_fraction is %v: give 0 to 1", o.OmitFraction)
	}
	if o.StopWith == "" {
		o.StopWith = "FileFault"
	}
	if o.StopWith != "length-0" {
		if _, err := NewFault(o.StopWith); err != nil {
			return err
		}
	}
	return nil
}

// omit splits areas into those that are told and those that are not, by tracked blocks.
func (o *MapOddity) omit(areas []area) (told, omitted []area) {
	for _, a := range areas {
		for start := a.start; start < a.end; {
			end := min64(start-start%trackedBlock+trackedBlock, a.end)
			if o.omits(start, end) {
				omitted = addArea(omitted, area{start, end})
			} else {
				told = addArea(told, area{start, end})
			}
			start = end
		}
	}
	return told, omitted
}

func (o *MapOddity) omits(start, end int64) bool {
	for _, r := range o.OmitRanges {
		if start < r.Start+r.Length && r.Start < end {
			return true
		}
	}
	if o.OmitFraction == 0 {
		return false
	}
	h := fnv.New64a()
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], uint64(o.Seed))
	binary.LittleEndian.PutUint64(b[8:], uint64(start/trackedBlock))
	h.Write(b[:])
	// FNV mixes its last bytes badly into the high bits: multiply once more.
	return float64(h.Sum64()*0x9e3779b97f4a7c15>>11)/float64(1<<53) < o.OmitFraction
}

// answer makes the page of an honest or an odd disk; the caller holds Lab.mu.
func (g *guest) answer(key int32, f *Freeze, since string, start int64, areas []area) (*types.DiskChangeInfo, types.BaseMethodFault) {
	odd := g.oddities[key]
	if odd == nil {
		return pageOf(areas, start, f.Capacity, Lab.MaxAreas, Lab.PageBytes), nil
	}
	if since == "*" && odd.RefuseStar {
		return nil, &types.FileFault{File: f.File}
	}
	if since != "*" || odd.OmitAllocated {
		var omitted []area
		areas, omitted = odd.omit(areas)
		g.recordOmission(key, f, since, omitted)
	}
	return odd.page(areas, start, f)
}

func (g *guest) recordOmission(key int32, f *Freeze, since string, omitted []area) {
	if len(omitted) == 0 {
		return
	}
	for _, o := range g.omitted {
		if o.Snapshot == f.Snapshot && o.DiskKey == key && o.Since == since {
			return // an earlier page of the same map
		}
	}
	lie := Omission{Snapshot: f.Snapshot, DiskKey: key, Since: since}
	for _, a := range omitted {
		lie.Bytes += a.end - a.start
		lie.Areas = append(lie.Areas, Range{a.start, a.end - a.start})
	}
	g.omitted = append(g.omitted, lie)
}

func (o *MapOddity) page(areas []area, start int64, f *Freeze) (*types.DiskChangeInfo, types.BaseMethodFault) {
	span := Lab.PageBytes
	if o.StopAt != nil {
		if start >= *o.StopAt {
			return o.stop(start, f)
		}
		span = min64(span, *o.StopAt-start)
	}
	if o.EmptyPages {
		if gap := gapAt(areas, start); gap > 0 {
			areas, span = nil, min64(span, gap)
		}
	}
	page := pageOf(areas, start, f.Capacity, Lab.MaxAreas, span)
	if o.Overlap {
		page.ChangedArea = overlapping(page.ChangedArea)
	}
	if o.BeyondEnd && page.StartOffset+page.Length == f.Capacity {
		page.ChangedArea = append(page.ChangedArea,
			types.DiskChangeExtent{Start: f.Capacity - 512, Length: 1 << 20},
			types.DiskChangeExtent{Start: f.Capacity + 1<<20, Length: trackedBlock})
	}
	if o.Unsorted {
		for i, j := 0, len(page.ChangedArea)-1; i < j; i, j = i+1, j-1 {
			page.ChangedArea[i], page.ChangedArea[j] = page.ChangedArea[j], page.ChangedArea[i]
		}
	}
	page.StartOffset += o.ShiftOffset
	return page, nil
}

func (o *MapOddity) stop(start int64, f *Freeze) (*types.DiskChangeInfo, types.BaseMethodFault) {
	if o.StopWith == "length-0" {
		return &types.DiskChangeInfo{StartOffset: start}, nil
	}
	if o.StopWith == "FileFault" {
		return nil, &types.FileFault{File: f.File}
	}
	fault, err := NewFault(o.StopWith)
	if err != nil {
		return nil, &types.SystemError{Reason: err.Error()} // fill has checked the name
	}
	return nil, fault
}

// gapAt tells how many bytes from start on lie before the next area, 0 within an area and behind the last.
func gapAt(areas []area, start int64) int64 {
	for _, a := range areas {
		if a.end > start {
			if a.start > start {
				return a.start - start
			}
			return 0
		}
	}
	return 0
}

func overlapping(areas []types.DiskChangeExtent) []types.DiskChangeExtent {
	var all []types.DiskChangeExtent
	for _, a := range areas {
		half := a.Length / 1024 * 512
		all = append(all, a, types.DiskChangeExtent{Start: a.Start + half, Length: a.Length - half}, a)
	}
	return all
}
