// A disk's chain: the files that its snapshots froze, and the leaf that the VM writes.
//
// The guest's bytes always stay in one flat file. Names like vm-000001.vmdk are kept as vSphere keeps them,
// and each reads as the whole disk at its point, as a read through NFC would: nobody here parses deltas.
package simulator

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

type chain struct {
	key    int32
	root   string // datastore path of the first descriptor
	leaf   string // datastore path of the descriptor that the VM writes to
	next   int    // number of the next delta
	points []point
	track  *tracker
}

// point is a file that a snapshot made read-only.
type point struct {
	file   string
	freeze *Freeze
}

// diskFile answers the file part of a disk's backing, nil when it has none.
func diskFile(disk *types.VirtualDisk) *types.VirtualDeviceFileBackingInfo {
	if b, ok := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return b.GetVirtualDeviceFileBackingInfo()
	}
	return nil
}

func rootFile(disk *types.VirtualDisk) string {
	switch b := disk.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		for b.Parent != nil {
			b = b.Parent
		}
		return b.FileName
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		for b.Parent != nil {
			b = b.Parent
		}
		return b.FileName
	}
	return ""
}

// isSnapshotted tells whether snapshots include the disk.
func isSnapshotted(disk *types.VirtualDisk) bool {
	switch b := disk.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return !strings.HasPrefix(b.DiskMode, "independent")
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		virtual := b.CompatibilityMode == string(types.VirtualDiskCompatibilityModeVirtualMode)
		return virtual && !strings.HasPrefix(b.DiskMode, "independent")
	}
	return false
}

func isRaw(disk *types.VirtualDisk) bool {
	_, raw := disk.Backing.(*types.VirtualDiskRawDiskMappingVer1BackingInfo)
	return raw
}

func virtualDisks(devices []types.BaseVirtualDevice) []*types.VirtualDisk {
	var disks []*types.VirtualDisk
	for _, d := range devices {
		if disk, ok := d.(*types.VirtualDisk); ok {
			disks = append(disks, disk)
		}
	}
	return disks
}

// chain answers the record of a disk, starting over when another disk took its key; the caller holds Lab.mu.
func (g *guest) chain(disk *types.VirtualDisk) *chain {
	root := rootFile(disk)
	c, ok := g.disks[disk.Key]
	if !ok || c.root != root {
		c = &chain{key: disk.Key, root: root, leaf: root, next: 1}
		g.disks[disk.Key] = c
	}
	return c
}

// grow makes the leaf a point of the snapshot and names a new leaf.
func (c *chain) grow(f *Freeze) {
	c.points = append(c.points, point{file: c.leaf, freeze: f})
	c.leaf = fmt.Sprintf("%s-%06d.vmdk", strings.TrimSuffix(c.root, ".vmdk"), c.next)
	c.next++
}

// merge drops a snapshot's point: its file takes in the file after it.
func (c *chain) merge(snapshot string) {
	for i, p := range c.points {
		if p.freeze.Snapshot != snapshot {
			continue
		}
		if i+1 < len(c.points) {
			c.points[i+1].file = p.file
		} else {
			c.leaf = p.file
		}
		c.points = append(c.points[:i:i], c.points[i+1:]...)
		if len(c.points) == 0 {
			c.next = 1 // ESXi takes the lowest number that no file has
		}
		return
	}
}

// backing describes the first n points' files with `file` on top of them, in the manner of `like`.
func (c *chain) backing(like types.BaseVirtualDeviceBackingInfo, n int, file, changeID string) types.BaseVirtualDeviceBackingInfo {
	files := []string{}
	for _, p := range c.points[:n] {
		files = append(files, p.file)
	}
	files = append(files, file)
	switch b := like.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		var top *types.VirtualDiskFlatVer2BackingInfo
		for _, name := range files {
			layer := *b
			layer.FileName, layer.Parent, layer.ChangeId = name, top, ""
			top = &layer
		}
		top.ChangeId = changeID
		return top
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		var top *types.VirtualDiskRawDiskMappingVer1BackingInfo
		for _, name := range files {
			layer := *b
			layer.FileName, layer.Parent, layer.ChangeId = name, top, ""
			top = &layer
		}
		top.ChangeId = changeID
		return top
	}
	return like
}

// extentFile names the data file of a descriptor.
func extentFile(descriptor string, raw bool) string {
	suffix := "-flat.vmdk"
	if raw {
		suffix = "-rdm.vmdk"
	}
	return strings.TrimSuffix(descriptor, ".vmdk") + suffix
}

// localPath maps a datastore path to this machine.
func localPath(vm *VirtualMachine, file string) (string, error) {
	p, fault := parseDatastorePath(file)
	if fault != nil {
		return "", fmt.Errorf("%s is not a datastore path", file)
	}
	dc := Map.getEntityDatacenter(vm)
	if dc == nil {
		return "", fmt.Errorf("%s is in no datacenter", vm.Name)
	}
	ds, ok := Map.FindByName(p.Datastore, dc.Datastore).(*Datastore)
	if !ok {
		return "", fmt.Errorf("no datastore %s", p.Datastore)
	}
	return filepath.Join(ds.Info.GetDatastoreInfo().Url, path.Clean("/"+p.Path)), nil
}

func livePath(vm *VirtualMachine, disk *types.VirtualDisk) (string, error) {
	return localPath(vm, extentFile(rootFile(disk), isRaw(disk)))
}
