package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
)

func faultsStrike(b *bench) error {
	if err := b.control("DELETE", "/faults", nil, nil); err != nil {
		return err
	}
	return first(callsFail(b), tasksFail(b), answersGetLost(b), callsHang(b), sessionsDie(b), faultsCount(b), badFaultsAreRefused(b))
}

func callsFail(b *bench) error {
	ask := func() string { _, err := methods.GetCurrentTime(b.ctx, b.client); return faultName(err) }
	err := first(
		b.fault(fields{"method": "CurrentTime", "kind": "fault:NoPermission", "after": 1, "times": 2}),
		expect("let pass", ask(), ""), expect("struck", ask(), "NoPermission"), expect("struck again", ask(), "NoPermission"),
		expect("over", ask(), ""),
		b.fault(fields{"method": "CurrentTime", "kind": "http-503"}),
	)
	if err != nil {
		return err
	}
	unavailable := ask()
	if err := b.fault(fields{"method": "CurrentTime", "kind": "drop"}); err != nil {
		return err
	}
	return first(expect("503", strings.Contains(unavailable, "503"), true), expect("dropped", strings.Contains(ask(), "EOF"), true))
}

func tasksFail(b *bench) error {
	web, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	db, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	if err := b.fault(fields{"method": "CreateSnapshotEx_Task", "kind": "task-error:ApplicationQuiesceFault", "vm": "web"}); err != nil {
		return err
	}
	spared, err := b.snapshot(db, "spared", nil)
	if err != nil {
		return err
	}
	_, err = b.snapshot(web, "struck", nil)
	return first(expect("struck task", faultName(err), "ApplicationQuiesceFault"), b.removeSnapshot(spared))
}

// answersGetLost finds that the call was carried out.
func answersGetLost(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	if err := b.fault(fields{"method": "CreateSnapshotEx_Task", "kind": "drop-after"}); err != nil {
		return err
	}
	if _, err := b.snapshot(vm, "lost", nil); err == nil {
		return fmt.Errorf("the answer was not lost")
	}
	var p mo.VirtualMachine
	made := within(5*time.Second, func() bool {
		err := vm.Properties(b.ctx, vm.Reference(), []string{"snapshot"}, &p)
		return err == nil && p.Snapshot != nil
	})
	if err := expect("the snapshot was made", made, true); err != nil {
		return err
	}
	return b.removeSnapshot(p.Snapshot.RootSnapshotList[0].Snapshot)
}

func callsHang(b *bench) error {
	if err := b.fault(fields{"method": "CurrentTime", "kind": "hang:30"}); err != nil {
		return err
	}
	hurried, cancel := context.WithTimeout(b.ctx, 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := methods.GetCurrentTime(hurried, b.client)
	return first(expect("the call failed", err != nil, true), expect("at the client's limit", time.Since(start) < 5*time.Second, true))
}

func sessionsDie(b *bench) error {
	if err := b.fault(fields{"method": "folder-get", "kind": "expire-session"}); err != nil {
		return err
	}
	a, err := b.folder(b.client, "GET", "web/web.vmx", "", nil)
	if err != nil {
		return err
	}
	_, dead := methods.GetCurrentTime(b.ctx, b.client)
	again, err := b.login(b.ctx)
	b.client = again
	return first(err, expect("folder", a.status, 401), expect("call", faultName(dead), "NotAuthenticated"))
}

func faultsCount(b *bench) error {
	var list []struct {
		Method, Kind string
		Hits         int
	}
	if err := b.control("GET", "/faults", nil, &list); err != nil {
		return err
	}
	var calls struct {
		Count map[string]int
		Last  []struct{ Method, VM, Path, Range string }
	}
	if err := b.control("GET", "/calls?last=3", nil, &calls); err != nil {
		return err
	}
	if err := b.control("DELETE", "/faults", nil, nil); err != nil {
		return err
	}
	return first(expect("hits of the first", list[0].Hits, 2), expect("calls told", len(calls.Last), 3), expect("calls counted", calls.Count["CurrentTime"] > 5, true))
}

func badFaultsAreRefused(b *bench) error {
	for _, f := range []fields{
		{"method": "CurrentTime", "kind": "fault:NoSuchThing"}, {"method": "CurrentTime", "kind": "task-error:FileFault"},
		{"method": "CurrentTime", "kind": "explode"}, {"kind": "drop"}, {"method": "CurrentTime", "kind": "hang:x"}, {"methd": "x"},
	} {
		if b.fault(f) == nil {
			return fmt.Errorf("%v was taken", f)
		}
	}
	return nil
}

// readsLie looks at each way in which a GET goes wrong, on the frozen disk of a running VM.
func readsLie(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	snapshot, err := b.snapshot(vm, "lies", nil)
	if err != nil {
		return err
	}
	honest, err := b.folder(b.client, "GET", "db/db-flat.vmdk", "bytes=1048576-1114111", nil)
	if err != nil {
		return err
	}
	lie := func(kind string) (*answer, error) {
		if err := b.fault(fields{"method": "folder-get", "kind": kind, "vm": "db"}); err != nil {
			return nil, err
		}
		return b.folder(b.client, "GET", "db/db-flat.vmdk", "bytes=1048576-1114111", nil)
	}
	whole, err := lie("status-200")
	if err != nil {
		return err
	}
	moved, err := lie("wrong-range")
	if err != nil {
		return err
	}
	cut, short := lie("short")
	unavailable, err := lie("http-503")
	if err != nil {
		return err
	}
	_, dropped := lie("drop")
	return first(
		expect("honest", honest.status, 206), expect("honest bytes", len(honest.body), 65536),
		expect("status-200", whole.status, 200), expect("status-200 bytes", len(whole.body), 50331648),
		expect("wrong-range", moved.status, 206),
		expect("wrong-range says so", moved.header.Get("Content-Range"), "bytes 1052672-1118207/50331648"),
		expect("wrong-range sends other bytes", bytes.Equal(moved.body, whole.body[1052672:1118208]), true),
		expect("short fails", short != nil, true), expect("short bytes", len(cut.body), 32768),
		expect("503", unavailable.status, 503), expect("drop fails", dropped != nil, true),
		readsSlowDown(b), b.removeSnapshot(snapshot),
	)
}

func readsSlowDown(b *bench) error {
	if err := b.control("POST", "/delay", fields{"folder_bytes_per_second": 1 << 20}, nil); err != nil {
		return err
	}
	start := time.Now()
	_, err := b.folder(b.client, "GET", "db/db-flat.vmdk", "bytes=0-524287", nil)
	took := time.Since(start)
	return first(err, b.control("POST", "/delay", fields{"folder_bytes_per_second": 0}, nil),
		expect("half a MiB at 1 MiB/s takes half a second", took > 400*time.Millisecond && took < 3*time.Second, true))
}
