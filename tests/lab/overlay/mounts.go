// Datastores as a machine sees them that has mounted them itself.
//
// The files in a datastore's own directory are the lab's: a disk's flat file is always the live one. A mount
// shows beside it what vSphere's files say: a base that a snapshot froze does not change, and above it stand
// children. All files of a mount are hard links or texts, so reading them needs nothing from the lab.
package simulator

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/types"
)

// Mounts is what the lab knows of datastores beyond their directories.
var Mounts = &mountState{deltas: map[string]bool{}, mounted: map[string]string{}}

type mountState struct {
	updating sync.Mutex // taken first, for a whole update

	mu      sync.Mutex
	deltas  map[string]bool
	mounted map[string]string // directory by datastore
}

// DatastoreKind is what a spec says of a datastore.
type DatastoreKind struct {
	Name       string
	Type       string // summary.type, "" leaves upstream's
	RemoteHost string // of an NFS export
	RemotePath string
	Deltas     bool // children of snapshots are deltas, not whole disks
}

// SetKind makes a datastore what the spec says.
func (m *mountState) SetKind(kind DatastoreKind) error {
	ds, err := findDatastore("", kind.Name)
	if err != nil {
		return fmt.Errorf("datastore %s: %w", kind.Name, err)
	}
	m.mu.Lock()
	m.deltas[kind.Name] = kind.Deltas
	m.mu.Unlock()
	Map.WithLock(ds, func() {
		if kind.Type != "" {
			ds.Summary.Type = kind.Type
		}
		if kind.Type == "NFS" {
			ds.Info = &types.NasDatastoreInfo{
				DatastoreInfo: *ds.Info.GetDatastoreInfo(),
				Nas: &types.HostNasVolume{
					HostFileSystemVolume: types.HostFileSystemVolume{Type: kind.Type, Name: kind.Name, Capacity: ds.Summary.Capacity},
					RemoteHost:           kind.RemoteHost, RemotePath: kind.RemotePath,
				},
			}
		}
	})
	return nil
}

func (m *mountState) hasDeltas(file string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.deltas[datastoreOf(file)]
}

func datastoreOf(file string) string {
	p, fault := parseDatastorePath(file)
	if fault != nil {
		return ""
	}
	return p.Datastore
}

// Mount makes a directory that shows a datastore from now on.
func (m *mountState) Mount(name string) (string, error) {
	if _, err := findDatastore("", name); err != nil {
		return "", fmt.Errorf("datastore %s: %w", name, err)
	}
	dir := filepath.Join(Lab.Dir, "mounts", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	m.mu.Lock()
	m.mounted[name] = dir
	m.mu.Unlock()
	return dir, m.update(name)
}

// refresh brings all mounts up to date; a task calls it before its end is told.
func (m *mountState) refresh() {
	m.mu.Lock()
	names := []string{}
	for name := range m.mounted {
		names = append(names, name)
	}
	m.mu.Unlock()
	for _, name := range names {
		if err := m.update(name); err != nil {
			log.Printf("mount of %s: %s", name, err)
		}
	}
}

// shown is one file of a mount: a link to another, or a text.
type shown struct {
	link string
	text []byte
}

func (m *mountState) update(name string) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	ds, err := findDatastore("", name)
	if err != nil {
		return err
	}
	root := ds.Info.GetDatastoreInfo().Url
	files, hidden := chainFiles(name)
	err = filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return ignoreMissing(err)
		}
		rel, err := filepath.Rel(root, file)
		if _, chained := files[rel]; !chained && !hidden[rel] {
			files[rel] = shown{link: file}
		}
		return err
	})
	if err != nil {
		return err
	}
	m.mu.Lock()
	dir := m.mounted[name]
	m.mu.Unlock()
	return showFiles(dir, files)
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// chainFiles answers the files of all disks on a datastore, and the names that must not be shown otherwise.
func chainFiles(name string) (map[string]shown, map[string]bool) {
	files, hidden := map[string]shown{}, map[string]bool{}
	for _, e := range Map.All("VirtualMachine") {
		vm, ok := e.(*VirtualMachine)
		if !ok {
			continue
		}
		Map.WithLock(vm, func() {
			for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
				if diskFile(disk) == nil || isRaw(disk) || Proxies.isForeign(vm.Self, disk.Key) || datastoreOf(rootFile(disk)) != name {
					continue
				}
				addChain(vm, disk, files, hidden)
			}
		})
	}
	return files, hidden
}

// addChain shows the points of a disk with their frozen content and its leaf with the live one; where children
// are deltas only the base has a flat file.
func addChain(vm *VirtualMachine, disk *types.VirtualDisk, files map[string]shown, hidden map[string]bool) {
	live, err := livePath(vm, disk)
	if err != nil {
		return
	}
	for file, text := range chainTexts(vm, disk) {
		files[inDatastore(file)] = shown{text: []byte(text)}
	}
	deltas := Mounts.hasDeltas(rootFile(disk))
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	c := Lab.guest(vm.Self).chain(disk)
	hidden[inDatastore(extentFile(c.root, false))] = true
	add := func(file, content string) {
		if deltas && file != c.root {
			files[inDatastore(deltaFile(file))] = shown{text: deltaHeader(getDiskSize(disk))}
			return
		}
		files[inDatastore(extentFile(file, false))] = shown{link: content}
	}
	for _, p := range c.points {
		add(p.file, p.freeze.Path)
	}
	add(c.leaf, live)
}

func inDatastore(file string) string {
	p, fault := parseDatastorePath(file)
	if fault != nil {
		return file
	}
	return path.Clean(p.Path)
}

func deltaFile(descriptor string) string {
	return strings.TrimSuffix(descriptor, ".vmdk") + "-delta.vmdk"
}

// deltaHeader begins as a vmfsSparse extent does. Nothing follows: who reads on has not understood what it is.
func deltaHeader(capacity int64) []byte {
	header := make([]byte, 2048)
	copy(header, "COWD")
	for i, v := range []uint32{1, 3, uint32(capacity / 512), 1, 4, uint32(capacity / 512 / 4096)} {
		header[4+4*i], header[5+4*i], header[6+4*i], header[7+4*i] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
	return header
}

// chainTexts answers the descriptors of a disk's points and leaf as they belong together.
func chainTexts(vm *VirtualMachine, disk *types.VirtualDisk) map[string]string {
	deltas := Mounts.hasDeltas(rootFile(disk))
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	c := Lab.guest(vm.Self).chain(disk)
	texts, parent, parentExtent := map[string]string{}, "", ""
	add := func(file string, capacity int64) {
		extent := path.Base(inDatastore(extentFile(file, false)))
		if deltas && file != c.root {
			texts[file] = deltaDescriptor(file, parent, parentExtent, capacity, backingUUID(disk))
			extent = path.Base(inDatastore(deltaFile(file)))
		} else {
			texts[file] = Descriptor(extent, capacity, backingUUID(disk), isThin(disk), false)
		}
		parent, parentExtent = file, extent
	}
	for _, p := range c.points {
		add(p.file, p.freeze.Capacity)
	}
	add(c.leaf, getDiskSize(disk))
	return texts
}

// contentID is the CID of a descriptor, by which its child names it.
func contentID(extent, uuid string) uint32 { return crc32.ChecksumIEEE([]byte(extent + uuid)) }

func deltaDescriptor(file, parent, parentExtent string, capacity int64, uuid string) string {
	extent := path.Base(inDatastore(deltaFile(file)))
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=%08x\nisNativeSnapshot=\"no\"\ncreateType=\"vmfsSparse\"\n",
		contentID(extent, uuid), contentID(parentExtent, uuid))
	fmt.Fprintf(&b, "parentFileNameHint=\"%s\"\n\n# Extent description\nRW %d VMFSSPARSE \"%s\"\n\n", path.Base(inDatastore(parent)), capacity/512, extent)
	fmt.Fprintf(&b, "# The Disk Data Base\n#DDB\n\nddb.longContentID = \"%032x\"\n", contentID(extent, uuid))
	return b.String()
}

// writeChainTexts brings a disk's descriptors in the datastore's own directory up to date.
func (vm *VirtualMachine) writeChainTexts() {
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		if diskFile(disk) == nil || isRaw(disk) || Proxies.isForeign(vm.Self, disk.Key) || !Mounts.hasDeltas(rootFile(disk)) {
			continue
		}
		for file, text := range chainTexts(vm, disk) {
			local, err := localPath(vm, file)
			if err == nil {
				err = os.WriteFile(local, []byte(text), 0o600)
			}
			if err != nil {
				log.Printf("write %s: %s", file, err)
			}
		}
	}
}

// showFiles makes a directory hold these files and no others, each as it was or as it is to be at any moment.
func showFiles(dir string, files map[string]shown) error {
	for name, file := range files {
		if err := showFile(filepath.Join(dir, name), file); err != nil {
			return err
		}
	}
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return ignoreMissing(err)
		}
		rel, err := filepath.Rel(dir, file)
		if _, wanted := files[rel]; wanted || err != nil {
			return err
		}
		return os.Remove(file)
	})
}

func showFile(name string, file shown) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	fresh := name + ".fresh"
	if file.link == "" {
		if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, file.text) {
			return nil
		}
		if err := os.WriteFile(fresh, file.text, 0o644); err != nil {
			return err
		}
		return os.Rename(fresh, name)
	}
	target, err := os.Stat(file.link)
	if err != nil {
		return ignoreMissing(err) // it went in the meantime; so will its name at the next update
	}
	if old, err := os.Stat(name); err == nil && os.SameFile(old, target) {
		return nil
	}
	if err := os.Link(file.link, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, name)
}
