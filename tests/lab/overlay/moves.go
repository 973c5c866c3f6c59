// What operators and hosts do to disks between two backups: growing them, going back, moving them.
package simulator

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Grow adds bytes to a disk. A forgetful host, as vSphere 8.0 U2 was, does not grow its change tracking with it.
func (l *labState) Grow(vm *VirtualMachine, key int32, bytes int64, forget bool) (int64, error) {
	if bytes <= 0 || bytes%512 != 0 {
		return 0, fmt.Errorf("bytes is %d: give a multiple of 512 above 0", bytes)
	}
	var capacity int64
	var err error
	Map.WithLock(vm, func() { capacity, err = l.grow(vm, key, bytes, forget) })
	return capacity, err
}

func (l *labState) grow(vm *VirtualMachine, key int32, bytes int64, forget bool) (int64, error) {
	disk, err := vm.disk(key)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	c := l.guest(vm.Self).chain(disk)
	deltas := len(c.points)
	l.mu.Unlock()
	if deltas > 0 {
		return 0, fmt.Errorf("disk %d of %s has snapshots: vSphere does not grow it", key, vm.Name)
	}
	live, err := livePath(vm, disk)
	if err != nil {
		return 0, err
	}
	before := getDiskSize(disk)
	grown := *disk
	grown.CapacityInBytes = before + bytes
	grown.CapacityInKB = grown.CapacityInBytes / 1024
	if err := os.Truncate(live, grown.CapacityInBytes); err != nil {
		return 0, err
	}
	if err := writeDescriptor(vm, &grown, rootFile(&grown)); err != nil {
		return 0, err
	}
	l.mu.Lock()
	if forget && c.track != nil && (c.track.blindFrom == 0 || before < c.track.blindFrom) {
		c.track.blindFrom = before
	}
	l.mu.Unlock()
	vm.setDevices(vm.replaceDisk(&grown))
	return grown.CapacityInBytes, nil
}

func (vm *VirtualMachine) disk(key int32) (*types.VirtualDisk, error) {
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		if disk.Key == key {
			return disk, nil
		}
	}
	return nil, fmt.Errorf("%s has no disk %d", vm.Name, key)
}

func (vm *VirtualMachine) replaceDisk(disk *types.VirtualDisk) []types.BaseVirtualDevice {
	devices := append([]types.BaseVirtualDevice{}, vm.Config.Hardware.Device...)
	for i, d := range devices {
		if d.GetVirtualDevice().Key == disk.Key {
			devices[i] = disk
		}
	}
	return devices
}

// blind leaves out what a forgetful host does not know to be changed.
func (t *tracker) blind(areas []area) []area {
	if t == nil || t.blindFrom == 0 {
		return areas
	}
	var seen []area
	for _, a := range areas {
		if a.start < t.blindFrom {
			seen = append(seen, area{a.start, min64(a.end, t.blindFrom)})
		}
	}
	return seen
}

// Revert goes back to a snapshot of the VM, given by name or moref. keepTracking is the silent fault of old
// hosts: change ids stay good, and what differs between the last backup and the snapshot is not told.
func (l *labState) Revert(vm *VirtualMachine, snapshot string, keepTracking bool) error {
	var found []types.ManagedObjectReference
	Map.WithLock(vm, func() {
		if vm.Snapshot == nil {
			return
		}
		for _, s := range describeTree(vm, vm.Snapshot.RootSnapshotList) {
			if s.Moref == snapshot || s.Name == snapshot {
				found = append(found, types.ManagedObjectReference{Type: "VirtualMachineSnapshot", Value: s.Moref})
			}
		}
	})
	if len(found) != 1 {
		return fmt.Errorf("%d snapshots of %s fit %q", len(found), vm.Name, snapshot)
	}
	task, fault := vm.beginRevert(found[0], keepTracking)
	if fault != nil {
		return fmt.Errorf("%T", fault)
	}
	return awaitTask(task)
}

// rebase makes the next step compare with the content that a revert brought back; the caller holds Lab.mu.
func (g *guest) rebase(snapshot string) {
	for _, c := range g.disks {
		for _, p := range c.points {
			if c.track != nil && p.freeze.Snapshot == snapshot {
				c.track.base = p.freeze
			}
		}
	}
}

// StorageVmotion moves the VM's directory to a datastore. Disks get new file names when base is not "", and
// keep their uuids and their content; old hosts lost change tracking over it.
func (l *labState) StorageVmotion(vm *VirtualMachine, datastore, base string, resetTracking bool) error {
	var err error
	Map.WithLock(vm, func() { err = l.moveFiles(vm, datastore, base) })
	if err == nil && resetTracking {
		l.ResetTracking(vm.Self)
	}
	return err
}

func (l *labState) moveFiles(vm *VirtualMachine, datastore, base string) error {
	if vm.Snapshot != nil {
		return fmt.Errorf("%s has snapshots: remove them before it is moved", vm.Name)
	}
	dc := Map.getEntityDatacenter(vm)
	ds, ok := Map.FindByName(datastore, dc.Datastore).(*Datastore)
	if !ok {
		return fmt.Errorf("no datastore %s", datastore)
	}
	from, err := localPath(vm, path.Dir(vm.Config.Files.VmPathName))
	if err != nil {
		return err
	}
	root := ds.Info.GetDatastoreInfo().Url
	dir := freeDirectory(root, vm.Name)
	if err := os.Rename(from, filepath.Join(root, dir)); err != nil {
		return err
	}
	return l.rehome(vm, ds, dir, base)
}

// rehome tells the VM's configuration and chains where its files are now.
func (l *labState) rehome(vm *VirtualMachine, ds *Datastore, dir, base string) error {
	old := path.Dir(vm.Config.Files.VmPathName)
	home := fmt.Sprintf("[%s] %s", ds.Name, dir)
	move := func(file string) string {
		if file == old || strings.HasPrefix(file, old+"/") {
			return home + strings.TrimPrefix(file, old)
		}
		return file
	}
	files := vm.Config.Files
	files.VmPathName, files.SnapshotDirectory = move(files.VmPathName), move(files.SnapshotDirectory)
	files.SuspendDirectory, files.LogDirectory = move(files.SuspendDirectory), move(files.LogDirectory)
	devices := append([]types.BaseVirtualDevice{}, vm.Config.Hardware.Device...)
	var moved []*types.VirtualDisk
	for i, d := range devices {
		disk, ok := d.(*types.VirtualDisk)
		if !ok || move(rootFile(disk)) == rootFile(disk) {
			continue
		}
		at, err := l.rename(vm, disk, ds, move(rootFile(disk)), base)
		if err != nil {
			return err
		}
		devices[i], moved = at, append(moved, at)
	}
	Map.Update(vm, []types.PropertyChange{
		{Name: "config.files", Val: files},
		{Name: "summary.config.vmPathName", Val: files.VmPathName},
	})
	vm.changeDatastore(ds)
	vm.setDevices(devices)
	logFile, err := localPath(vm, files.LogDirectory+"/vmware.log")
	if err != nil {
		return err
	}
	vm.log = logFile
	for _, disk := range moved {
		if err := writeDescriptor(vm, disk, rootFile(disk)); err != nil {
			return err
		}
	}
	return vm.writeVmx()
}

// diskNumber is what tells the files of a VM's disks apart.
var diskNumber = regexp.MustCompile(`(_[0-9]+)?\.vmdk$`)

// rename answers the disk as it is at its new place, with its files renamed to begin with base.
func (l *labState) rename(vm *VirtualMachine, disk *types.VirtualDisk, ds *Datastore, file, base string) (*types.VirtualDisk, error) {
	named := file
	if base != "" {
		named = path.Join(path.Dir(file), base+diskNumber.FindString(path.Base(file)))
		for _, pair := range [][2]string{{file, named}, {extentFile(file, isRaw(disk)), extentFile(named, isRaw(disk))}} {
			from, err := localPath(vm, pair[0])
			if err != nil {
				return nil, err
			}
			if err := os.Rename(from, filepath.Join(filepath.Dir(from), path.Base(pair[1]))); err != nil {
				return nil, err
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.guest(vm.Self).chain(disk)
	if len(c.points) > 0 {
		return nil, fmt.Errorf("disk %d of %s still has deltas: consolidate it before it is moved", disk.Key, vm.Name)
	}
	c.root, c.leaf = named, named
	at := *disk
	at.Backing = c.backing(disk.Backing, 0, named, "")
	if file := diskFile(&at); file != nil {
		file.Datastore = &ds.Self
	}
	return &at, nil
}

func (vm *VirtualMachine) changeDatastore(ds *Datastore) {
	for _, ref := range vm.Datastore {
		if old, ok := Map.Get(ref).(*Datastore); ok && old != ds {
			Map.RemoveReference(old, &old.Vm, vm.Self)
		}
	}
	Map.AddReference(ds, &ds.Vm, vm.Self)
	Map.Update(vm, []types.PropertyChange{{Name: "datastore", Val: []types.ManagedObjectReference{ds.Self}}})
}

// SwitchHost moves a running VM to another host, as DRS does: its files and tasks stay. Answers the new host.
func (l *labState) SwitchHost(vm *VirtualMachine) (string, error) {
	for _, e := range Map.All("HostSystem") {
		host, ok := e.(*HostSystem)
		if !ok || vm.Runtime.Host == nil || host.Self == *vm.Runtime.Host || !l.HostIsThere(host.Self.Value) {
			continue
		}
		if old, ok := Map.Get(*vm.Runtime.Host).(*HostSystem); ok {
			Map.RemoveReference(old, &old.Vm, vm.Self)
		}
		Map.AppendReference(host, &host.Vm, vm.Self)
		Map.WithLock(vm, func() {
			Map.Update(vm, []types.PropertyChange{{Name: "runtime.host", Val: &host.Self}, {Name: "summary.runtime.host", Val: &host.Self}})
		})
		return host.Self.Value, nil
	}
	return "", fmt.Errorf("no other host for %s", vm.Name)
}
