package main

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// step is two snapshots of web with changes between them; the second still exists.
type step struct {
	vm            *object.VirtualMachine
	snapshot      types.ManagedObjectReference
	disk          frozenDisk
	since         string
	before, after []byte
}

// takeStep freezes, runs `between` and freezes again.
func (b *bench) takeStep(path string, between func() error) (*step, error) {
	s := &step{}
	var err error
	if s.vm, err = b.vm(path); err != nil {
		return nil, err
	}
	for n := 0; n < 2; n++ {
		if n > 0 {
			if err := b.removeSnapshot(s.snapshot); err != nil {
				return nil, err
			}
			if err := between(); err != nil {
				return nil, err
			}
		}
		s.since, s.before = s.disk.changeID, s.after
		if s.snapshot, err = b.snapshot(s.vm, fmt.Sprintf("step %d", n), nil); err != nil {
			return nil, err
		}
		disks, err := b.snapshotDisks(s.snapshot)
		if err != nil {
			return nil, err
		}
		s.disk = disks[2000]
		frozen, err := b.freezeOf(s.snapshot, 2000)
		if err != nil {
			return nil, err
		}
		if s.after, err = os.ReadFile(frozen.Path); err != nil {
			return nil, err
		}
	}
	if grown := len(s.after) - len(s.before); grown > 0 {
		s.before = append(s.before, make([]byte, grown)...)
	}
	return s, nil
}

// rawPages walks the map without judging it, until it ends, stands still or fails.
func (b *bench) rawPages(s *step, since string) ([]types.DiskChangeInfo, error) {
	var pages []types.DiskChangeInfo
	for offset := int64(0); offset < s.disk.capacity; {
		response, err := methods.QueryChangedDiskAreas(b.ctx, b.client, &types.QueryChangedDiskAreas{
			This: s.vm.Reference(), Snapshot: &s.snapshot, DeviceKey: s.disk.key, StartOffset: offset, ChangeId: since,
		})
		if err != nil {
			return pages, err
		}
		pages = append(pages, response.Returnval)
		if response.Returnval.Length == 0 {
			return pages, nil
		}
		offset += response.Returnval.Length
	}
	return pages, nil
}

type touched struct{ Granules, Bytes int64 }

func (l *lab) touch(vm string, key int, body fields) (touched, error) {
	var done touched
	return done, l.control("POST", fmt.Sprintf("/vm/%s/disks/%d/touch", vm, key), body, &done)
}

const web = "DC0%2Fvm%2Fprod%2Feu%2Fweb"

// webStep touches with a new seed each time: the same touch again would change nothing.
func (b *bench) webStep() (*step, error) {
	b.seed++
	return b.takeStep("DC0/vm/prod/eu/web", func() error {
		_, err := b.touch(web, 2000, fields{"fraction": 0.05, "seed": b.seed})
		return err
	})
}

// mapsLie asks a lab that omits changes and compares with what it says of its lies.
func mapsLie(b *bench) error {
	s, err := b.webStep()
	if err != nil {
		return err
	}
	honest, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
	if err != nil {
		return err
	}
	missed, differing, _ := honest.cover(s.before, s.after)
	var report struct {
		Omitted []struct {
			Snapshot, Since string
			Bytes           int64
			Areas           []struct{ Start, Length int64 }
		}
	}
	err = first(
		expect("bytes that an honest map misses", missed, int64(0)),
		b.control("POST", "/vm/"+web+"/map", fields{"key": 2000, "omit_fraction": 0.5, "seed": 3}, nil),
	)
	if err != nil {
		return err
	}
	lying, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
	if err != nil {
		return err
	}
	again, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
	if err != nil {
		return err
	}
	missed, _, _ = lying.cover(s.before, s.after)
	star, err := b.areas(s.vm, s.snapshot, s.disk, "*")
	if err != nil {
		return err
	}
	missedStar, _, _ := star.cover(make([]byte, len(s.after)), s.after)
	err = first(
		b.control("GET", "/vm/"+web+"/map", nil, &report),
		expect("the lie is the same again", again, lying),
		expect("a part is missed", missed > differing/5 && missed < differing*4/5, true),
		expect("bytes that * misses", missedStar, int64(0)),
		expect("lies told", len(report.Omitted), 1),
	)
	if err != nil {
		return err
	}
	lie := report.Omitted[0]
	told := &areas{}
	for _, a := range lie.Areas {
		told.list = append(told.list, types.DiskChangeExtent{Start: a.Start, Length: a.Length})
	}
	told.list = append(told.list, lying.list...)
	missed, _, _ = told.cover(s.before, s.after)
	at := honest.list[0]
	err = first(
		expect("snapshot of the lie", lie.Snapshot, s.snapshot.Value),
		expect("id of the lie", lie.Since, s.since),
		expect("missed by map and lie together", missed, int64(0)),
		b.control("POST", "/vm/"+web+"/map", fields{"omit_ranges": []fields{{"start": at.Start, "length": 1}}}, nil),
	)
	if err != nil {
		return err
	}
	ranged, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
	if err != nil {
		return err
	}
	missed, _, _ = ranged.cover(s.before, s.after)
	err = first(
		expect("a range is missed", missed > 0 && missed <= 65536, true),
		b.control("DELETE", "/vm/"+web+"/map", nil, nil),
	)
	if err != nil {
		return err
	}
	honest, err = b.areas(s.vm, s.snapshot, s.disk, s.since)
	if err != nil {
		return err
	}
	missed, _, _ = honest.cover(s.before, s.after)
	return first(expect("missed when it is honest again", missed, int64(0)), b.removeSnapshot(s.snapshot))
}

// mapsAreOdd asks for every shape that clients have stumbled over.
func mapsAreOdd(b *bench) error {
	s, err := b.webStep()
	if err != nil {
		return err
	}
	odd := func(body fields, since string, holds func([]types.DiskChangeInfo, error) error) error {
		if err := b.control("POST", "/vm/"+web+"/map", body, nil); err != nil {
			return err
		}
		pages, err := b.rawPages(s, since)
		if err := holds(pages, err); err != nil {
			return fmt.Errorf("%v: %w", body, err)
		}
		return b.control("DELETE", "/vm/"+web+"/map", nil, nil)
	}
	last := func(pages []types.DiskChangeInfo) types.DiskChangeInfo { return pages[len(pages)-1] }
	err = first(
		odd(fields{"stop_at": 20 << 20}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			return first(expect("fault", faultName(err), "FileFault"), expect("end", last(pages).StartOffset+last(pages).Length, int64(20<<20)))
		}),
		odd(fields{"stop_at": 20 << 20, "stop_with": "SystemError"}, "*", func(pages []types.DiskChangeInfo, err error) error {
			return first(expect("fault", faultName(err), "SystemError"), expect("pages", len(pages) > 1, true))
		}),
		odd(fields{"stop_at": 20 << 20, "stop_with": "length-0"}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			return first(err, expect("end", last(pages).StartOffset, int64(20<<20)), expect("length", last(pages).Length, int64(0)))
		}),
		odd(fields{"empty_pages": true}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			empty := 0
			for _, p := range pages[1 : len(pages)-1] {
				if len(p.ChangedArea) == 0 {
					empty++
				}
			}
			return first(err, expect("empty pages in the middle", empty > 10, true), expect("end", last(pages).StartOffset+last(pages).Length, s.disk.capacity))
		}),
		odd(fields{"overlap": true}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			overlaps := 0
			for _, p := range pages {
				for i := 1; i < len(p.ChangedArea); i++ {
					if p.ChangedArea[i].Start < p.ChangedArea[i-1].Start+p.ChangedArea[i-1].Length {
						overlaps++
					}
				}
			}
			return first(err, expect("areas overlap", overlaps > 10, true))
		}),
		odd(fields{"unsorted": true}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			backwards := 0
			for _, p := range pages {
				for i := 1; i < len(p.ChangedArea); i++ {
					if p.ChangedArea[i].Start < p.ChangedArea[i-1].Start {
						backwards++
					}
				}
			}
			return first(err, expect("areas run backwards", backwards > 10, true))
		}),
		odd(fields{"beyond_end": true}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			behind := 0
			for _, a := range last(pages).ChangedArea {
				if a.Start+a.Length > s.disk.capacity {
					behind++
				}
			}
			return first(err, expect("areas across and behind the end", behind, 2))
		}),
		odd(fields{"shift_offset": 65536}, s.since, func(pages []types.DiskChangeInfo, err error) error {
			return first(err, expect("first page", pages[0].StartOffset, int64(65536)))
		}),
		odd(fields{"refuse_star": true}, "*", func(pages []types.DiskChangeInfo, err error) error {
			return expect("fault", faultName(err), "FileFault")
		}),
		odd(fields{"refuse_star": true}, s.since, func(pages []types.DiskChangeInfo, err error) error { return err }),
	)
	return first(err, b.removeSnapshot(s.snapshot))
}

// disksGrow tries a host that tracks a grown disk and one that forgets to.
func disksGrow(b *bench) error {
	for _, forget := range []bool{false, true} {
		var from int64
		s, err := b.takeStep("DC0/vm/prod/eu/web", func() error {
			var grown struct{ Capacity int64 }
			if err := b.control("POST", "/vm/"+web+"/grow", fields{"bytes": 4 << 20, "forget": forget}, &grown); err != nil {
				return err
			}
			from = grown.Capacity - 4<<20
			_, err := b.touch(web, 2000, fields{"fraction": 0.5, "start": from, "seed": from})
			return err
		})
		if err != nil {
			return err
		}
		found, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
		if err != nil {
			return err
		}
		missed, differing, _ := found.cover(s.before, s.after)
		refused := b.control("POST", "/vm/"+web+"/grow", fields{"bytes": 512}, nil)
		err = first(
			expect("capacity", s.disk.capacity, from+4<<20),
			expect("something differs", differing > 0, true),
			expect("all of it is missed", missed == differing, forget),
			expect("something is missed", missed > 0, forget),
			expect("growing with a snapshot is refused", refused != nil, true),
			b.removeSnapshot(s.snapshot),
			b.control("POST", "/vm/"+web+"/reset-tracking", nil, nil),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// revertsLoseTracking goes back on a good host and on one that keeps its change ids.
func revertsLoseTracking(b *bench) error {
	for n, keep := range []bool{false, true} {
		vm, err := b.vm("DC0/vm/prod/eu/web")
		if err != nil {
			return err
		}
		old, err := b.snapshot(vm, "old", nil)
		if err != nil {
			return err
		}
		wanted, err := b.freezeOf(old, 2000)
		if err != nil {
			return err
		}
		if _, err := b.touch(web, 2000, fields{"fraction": 0.02, "seed": 100 + n}); err != nil {
			return err
		}
		s, err := b.takeStep("DC0/vm/prod/eu/web", func() error {
			if err := b.control("POST", "/vm/"+web+"/revert", fields{"snapshot": "old", "keep_tracking": keep}, nil); err != nil {
				return err
			}
			_, err := b.touch(web, 2000, fields{"fraction": 0.01, "seed": 200 + n})
			return err
		})
		if err != nil {
			return err
		}
		reverted, err := os.ReadFile(wanted.Path)
		if err != nil {
			return err
		}
		found, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
		err = first(
			expect("the old id", faultName(err), map[bool]string{false: "FileFault", true: ""}[keep]),
			expect("went back and changed", bytes.Equal(reverted, s.after), false),
			b.removeSnapshot(s.snapshot), b.removeSnapshot(old),
		)
		if err != nil {
			return err
		}
		if keep {
			missed, _, _ := found.cover(s.before, s.after)
			since, _, _ := found.cover(reverted, s.after)
			if err := first(expect("the revert is missed", missed > 0, true), expect("missed since the revert", since, int64(0))); err != nil {
				return err
			}
		}
	}
	return nil
}

// vmotionKeepsUUIDs moves db to the second datastore and renames its disks.
func vmotionKeepsUUIDs(b *bench) error {
	var before, after []struct {
		Name  string
		Disks []struct {
			UUID, File string
			LiveFile   string `json:"live_file"`
		}
	}
	db := func(list []struct {
		Name  string
		Disks []struct {
			UUID, File string
			LiveFile   string `json:"live_file"`
		}
	}) int {
		for i, m := range list {
			if m.Name == "db" {
				return i
			}
		}
		return -1
	}
	if err := b.control("GET", "/vms", nil, &before); err != nil {
		return err
	}
	s, err := b.takeStep("DC0/vm/prod/db", func() error {
		_, err := b.touch("db", 2000, fields{"fraction": 0.01})
		return first(err, b.control("POST", "/vm/db/storage-vmotion", fields{"datastore": "second", "base": "moved"}, nil))
	})
	if err != nil {
		return err
	}
	found, err := b.areas(s.vm, s.snapshot, s.disk, s.since)
	if err != nil {
		return err
	}
	missed, _, listed := found.cover(s.before, s.after)
	if err := first(b.removeSnapshot(s.snapshot), b.control("GET", "/vms", nil, &after)); err != nil {
		return err
	}
	p, err := b.properties(s.vm)
	if err != nil {
		return err
	}
	was, is := before[db(before)].Disks[0], after[db(after)].Disks[0]
	_, gone := os.Stat(was.LiveFile)
	_, there := os.Stat(is.LiveFile)
	return first(
		there,
		expect("the old file is gone", os.IsNotExist(gone), true),
		expect("file", is.File, "[second] db/moved.vmdk"),
		expect("frozen file", s.disk.file, "[second] db/moved.vmdk"),
		expect("uuid", is.UUID, was.UUID),
		expect("configuration", p.Config.Files.VmPathName, "[second] db/db.vmx"),
		expect("summary", p.Summary.Config.VmPathName, "[second] db/db.vmx"),
		expect("datastores", len(p.Datastore), 1),
		expect("missed", missed, int64(0)), expect("something is listed", listed > 0, true),
		b.control("POST", "/vm/db/storage-vmotion", fields{"datastore": "lab-ds", "base": "db"}, nil),
	)
}

// bigDisksAreCheap freezes a sparse disk of 40 GiB after every hundredth granule was written.
func bigDisksAreCheap(b *bench) error {
	big, err := b.start("big")
	if err != nil {
		return err
	}
	client, err := big.login(b.ctx)
	if err != nil {
		return err
	}
	x := &bench{lab: big, binary: b.binary, dir: b.dir, ctx: b.ctx, client: client}
	vm, err := x.vm("DC0/vm/big")
	if err != nil {
		return err
	}
	var since string
	for n := 1; n <= 3; n++ {
		done, err := x.touch("big", 2000, fields{"granule_bytes": 65536, "fraction": 0.01, "seed": n, "write_bytes": 4096})
		if err != nil {
			return err
		}
		start := time.Now()
		snapshot, err := x.snapshot(vm, "big", nil)
		if err != nil {
			return err
		}
		frozen := time.Since(start)
		disks, err := x.snapshotDisks(snapshot)
		if err != nil {
			return err
		}
		start = time.Now()
		listed := int64(0)
		if since != "" {
			pages, err := x.rawPages(&step{vm: vm, snapshot: snapshot, disk: disks[2000]}, since)
			if err != nil {
				return err
			}
			for _, p := range pages {
				for _, a := range p.ChangedArea {
					listed += a.Length
				}
			}
		}
		since = disks[2000].changeID
		if err := first(
			expect("granules", done.Granules, int64(6554)), expect("bytes", done.Bytes, int64(6554*4096)),
			expect(fmt.Sprintf("frozen in time (%s)", frozen), frozen < 60*time.Second, true),
			expect(fmt.Sprintf("mapped in time (%s)", time.Since(start)), time.Since(start) < 60*time.Second, true),
			expect("bytes in the map", listed == 6554*65536, n > 1),
			x.removeSnapshot(snapshot), x.control("POST", "/frozen/prune", nil, nil),
		); err != nil {
			return err
		}
		fmt.Printf("       40 GiB: frozen in %.2f s, mapped in %.2f s\n", frozen.Seconds(), time.Since(start).Seconds())
	}
	return big.stop()
}
