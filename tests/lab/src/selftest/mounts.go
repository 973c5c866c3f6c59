package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const mountSpec = `{"datastores":["flat",{"name":"nas","type":"NFS","remote_host":"filer","remote_path":"/vol/nas","deltas":"real"}],
 "vms":[{"name":"web","disks":[{"file":"%[1]s"}],"datastore":"flat"},{"name":"db","disks":[{"file":"%[1]s"}],"datastore":"nas"}]}`

func (b *bench) mount(datastore string) (string, error) {
	var m struct{ Path string }
	return m.Path, b.control("POST", "/mounts", fields{"datastore": datastore}, &m)
}

// whole reads a disk by its descriptor, as far as that says that it is one flat file.
func whole(dir, descriptor string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(dir, descriptor))
	if err != nil {
		return nil, err
	}
	match := regexp.MustCompile(`RW (\d+) VMFS "(.*)"`).FindStringSubmatch(string(text))
	if match == nil || !strings.Contains(string(text), `createType="vmfs"`) || !strings.Contains(string(text), "parentCID=ffffffff") {
		return nil, fmt.Errorf("%s is not flat: %s", descriptor, text)
	}
	content, err := os.ReadFile(filepath.Join(dir, match[2]))
	return content, first(err, expect("sectors of "+descriptor, match[1], fmt.Sprint(len(content)/512)))
}

func mountsShowFrozen(main *bench) error {
	b, err := main.another("mounts", fmt.Sprintf(mountSpec, filepath.Join(main.images, "small-data.raw")))
	if err != nil {
		return err
	}
	defer b.stop()
	vm, err := b.vm("DC0/vm/web")
	if err != nil {
		return err
	}
	root, err := b.mount("flat")
	if err != nil {
		return err
	}
	_, unknown := b.mount("none")
	dir, live := filepath.Join(root, "web"), filepath.Join(b.State, "ds/flat/web/web-flat.vmdk")
	isLive := func() bool { return sameFile(filepath.Join(dir, "web-flat.vmdk"), live) }
	before := isLive()
	var snapshots []types.ManagedObjectReference
	var contents [][]byte
	for _, name := range []string{"first", "second"} {
		if err := poke(live, 2<<20, name); err != nil {
			return err
		}
		ref, err := b.snapshot(vm, name, nil)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(live)
		if err != nil {
			return err
		}
		snapshots, contents = append(snapshots, ref), append(contents, content)
	}
	if err := poke(live, 2<<20, "later"); err != nil {
		return err
	}
	for i, descriptor := range []string{"web.vmdk", "web-000001.vmdk"} {
		got, err := whole(dir, descriptor)
		if err := first(err, expect(descriptor, bytes.Equal(got, contents[i]), true)); err != nil {
			return err
		}
	}
	if err := b.removeSnapshot(snapshots[0]); err != nil {
		return err
	}
	merged, err := whole(dir, "web.vmdk")
	if err != nil {
		return err
	}
	_, child := os.Stat(filepath.Join(dir, "web-000001.vmdk"))
	vmx, err := os.Stat(filepath.Join(dir, "web.vmx"))
	return first(err, expect("unknown datastore is refused", unknown != nil, true), expect("live without a snapshot", before, true),
		expect("merged", bytes.Equal(merged, contents[1]), true), expect("the child is gone", os.IsNotExist(child), true), expect("vmx", vmx != nil, true),
		b.removeSnapshot(snapshots[1]), expect("live again", isLive(), true))
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func childrenAreDeltas(main *bench) error {
	b, err := main.another("deltas", fmt.Sprintf(mountSpec, filepath.Join(main.images, "small-data.raw")))
	if err != nil {
		return err
	}
	defer b.stop()
	vm, err := b.vm("DC0/vm/db")
	if err != nil {
		return err
	}
	root, err := b.mount("nas")
	if err != nil {
		return err
	}
	dir := filepath.Join(root, "db")
	var snapshots []types.ManagedObjectReference
	for _, name := range []string{"first", "second", "third"} {
		ref, err := b.snapshot(vm, name, nil)
		if err != nil {
			return err
		}
		snapshots = append(snapshots, ref)
	}
	frozen, err := b.freezeOf(snapshots[0], 2000)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(frozen.Path)
	if err != nil {
		return err
	}
	base, err := whole(dir, "db.vmdk")
	if err := first(err, expect("base", bytes.Equal(base, content), true), chainHolds(dir, "db.vmdk", "db-000001.vmdk", "db-000002.vmdk", "db-000003.vmdk")); err != nil {
		return err
	}
	if err := b.removeSnapshot(snapshots[1]); err != nil {
		return err
	}
	if err := chainHolds(dir, "db.vmdk", "db-000001.vmdk", "db-000003.vmdk"); err != nil {
		return err
	}
	header, err := os.ReadFile(filepath.Join(dir, "db-000001-delta.vmdk"))
	if err != nil {
		return err
	}
	_, flat := os.Stat(filepath.Join(dir, "db-000001-flat.vmdk"))
	b.Datastore = "nas"
	descriptor, err := b.folder(b.client, "GET", "db/db-000001.vmdk", "", nil)
	if err != nil {
		return err
	}
	child, err := b.folder(b.client, "GET", "db/db-000001-flat.vmdk", "", nil)
	if err != nil {
		return err
	}
	return first(expect("delta", string(header[:4]), "COWD"), expect("no flat child", os.IsNotExist(flat), true),
		expect("descriptor over https", strings.Contains(string(descriptor.body), "vmfsSparse"), true), expect("flat child over https", child.status, 404), b.isNfs())
}

// chainHolds follows the CIDs from the base up.
func chainHolds(dir string, files ...string) error {
	value := func(text, key string) string {
		match := regexp.MustCompile(`(?m)^` + key + `="?([^"\n]*)"?$`).FindStringSubmatch(text)
		if match == nil {
			return ""
		}
		return match[1]
	}
	above := "ffffffff"
	for i, file := range files {
		raw, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		text := string(raw)
		if err := expect("parent of "+file, value(text, "parentCID"), above); err != nil {
			return err
		}
		if i > 0 {
			if err := first(expect("type of "+file, value(text, "createType"), "vmfsSparse"), expect("its parent", value(text, "parentFileNameHint"), files[i-1])); err != nil {
				return err
			}
		}
		above = value(text, "CID")
	}
	return nil
}

func (b *bench) isNfs() error {
	ds, err := find.NewFinder(b.client.Client).Datastore(b.ctx, "/DC0/datastore/nas")
	if err != nil {
		return err
	}
	var p mo.Datastore
	if err := b.client.RetrieveOne(b.ctx, ds.Reference(), []string{"summary.type", "info"}, &p); err != nil {
		return err
	}
	info, ok := p.Info.(*types.NasDatastoreInfo)
	return first(expect("type", p.Summary.Type, "NFS"), expect("export", ok && info.Nas.RemoteHost == "filer" && info.Nas.RemotePath == "/vol/nas", true))
}
