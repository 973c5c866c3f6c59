package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

const datacenter = "DC0"

// inventory fills the simulator from the spec, speaking its API within the process.
type inventory struct {
	ctx     context.Context
	client  *vim25.Client
	state   string
	pool    *object.ResourcePool
	folders *object.DatacenterFolders
	finder  *find.Finder
}

func fillInventory(service *simulator.Service, state string, spec *labSpec) error {
	ctx := context.Background()
	client, err := vim25.NewClient(ctx, service)
	if err != nil {
		return err
	}
	finder := find.NewFinder(client)
	dc, err := finder.Datacenter(ctx, datacenter)
	if err != nil {
		return err
	}
	finder.SetDatacenter(dc)
	inv := &inventory{ctx: ctx, client: client, state: state, finder: finder}
	if inv.folders, err = dc.Folders(ctx); err != nil {
		return err
	}
	if inv.pool, err = finder.ResourcePool(ctx, datacenter+"_C0/Resources"); err != nil {
		return err
	}
	for _, d := range spec.Datastores {
		kind := simulator.DatastoreKind{
			Name: d.Name, Type: d.Type, RemoteHost: d.RemoteHost, RemotePath: d.RemotePath, Deltas: d.Deltas == "real",
		}
		if err := first(inv.mount(finder, d.Name), simulator.Mounts.SetKind(kind)); err != nil {
			return fmt.Errorf("mount datastore %s: %w", d.Name, err)
		}
	}
	for i := range spec.VMs {
		if err := inv.add(&spec.VMs[i]); err != nil {
			return fmt.Errorf("add vm %s: %w", spec.VMs[i].Name, err)
		}
	}
	return nil
}

func (inv *inventory) dir(datastore string) string {
	return filepath.Join(inv.state, "ds", datastore)
}

func (inv *inventory) mount(finder *find.Finder, name string) error {
	if err := os.MkdirAll(inv.dir(name), 0o755); err != nil {
		return err
	}
	hosts, err := finder.HostSystemList(inv.ctx, "*")
	if err != nil {
		return err
	}
	for _, host := range hosts {
		system, err := host.ConfigManager().DatastoreSystem(inv.ctx)
		if err != nil {
			return err
		}
		if _, err := system.CreateLocalDatastore(inv.ctx, name, inv.dir(name)); err != nil {
			return err
		}
	}
	return nil
}

func (inv *inventory) add(v *vmSpec) error {
	folder, err := inv.folder(v.Folder)
	if err != nil {
		return err
	}
	home := freeName(inv.dir(v.Datastore), v.Name)
	if err := os.Mkdir(filepath.Join(inv.dir(v.Datastore), home), 0o755); err != nil {
		return err
	}
	devices, err := inv.devices(v, home)
	if err != nil {
		return err
	}
	config := types.VirtualMachineConfigSpec{
		Name: v.Name, Annotation: v.Annotation, GuestId: v.GuestID, Version: "vmx-19", Firmware: v.Firmware,
		NumCPUs: v.Cpus, NumCoresPerSocket: 1, MemoryMB: v.MemoryMB, ChangeTrackingEnabled: types.NewBool(v.Cbt),
		Files: &types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[%s] %s/%s.vmx", v.Datastore, home, v.Name)},
	}
	if config.DeviceChange, err = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd); err != nil {
		return err
	}
	for _, change := range config.DeviceChange {
		change.GetVirtualDeviceConfigSpec().FileOperation = "" // the files are there already
	}
	pool, err := inv.resourcePool(v.Pool)
	if err != nil {
		return err
	}
	task, err := folder.CreateVM(inv.ctx, config, pool, nil)
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(inv.ctx, nil)
	if err != nil {
		return err
	}
	nvram := filepath.Join(inv.dir(v.Datastore), home, v.Name+".nvram")
	if err := os.WriteFile(nvram, nvramOf(v.Folder+"/"+v.Name), 0o600); err != nil {
		return err
	}
	return inv.finish(v, info.Result.(types.ManagedObjectReference))
}

func (inv *inventory) finish(v *vmSpec, ref types.ManagedObjectReference) error {
	if err := simulator.Lab.SetGuest(simulator.Lab.MachineOf(ref), v.Guest); err != nil {
		return err
	}
	if v.Proxy {
		if err := simulator.Proxies.MakeProxy(ref); err != nil {
			return err
		}
	}
	if err := inv.attributes(v, ref); err != nil {
		return err
	}
	v.moref = ref.Value
	if v.Policy != "" {
		simulator.Lab.SetPolicies(ref.Value, v.Policy, len(v.Disks))
	}
	if v.Power == "off" {
		return nil
	}
	task, err := object.NewVirtualMachine(inv.client, ref).PowerOn(inv.ctx)
	if err != nil {
		return err
	}
	return task.Wait(inv.ctx)
}

// folder finds or makes a folder below the datacenter's vm folder.
func (inv *inventory) folder(names string) (*object.Folder, error) {
	at := inv.folders.VmFolder
	index := object.NewSearchIndex(inv.client)
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == '/' }) {
		child, err := index.FindChild(inv.ctx, at, name)
		if err != nil {
			return nil, err
		}
		if existing, ok := child.(*object.Folder); ok {
			at = existing
			continue
		}
		if at, err = at.CreateFolder(inv.ctx, name); err != nil {
			return nil, err
		}
	}
	return at, nil
}

func (inv *inventory) devices(v *vmSpec, home string) (object.VirtualDeviceList, error) {
	var devices object.VirtualDeviceList
	scsi, err := devices.CreateSCSIController("pvscsi")
	if err != nil {
		return nil, err
	}
	controller := scsi.(types.BaseVirtualController)
	controller.GetVirtualController().Key = 1000
	devices = append(devices, scsi)
	for i := range v.Disks {
		disk, err := inv.disk(v, i, home)
		if err != nil {
			return nil, fmt.Errorf("disk %d: %w", i, err)
		}
		devices.AssignController(disk, controller)
		devices = append(devices, disk)
	}
	for i, name := range v.Networks {
		nic, err := inv.card(name)
		if err != nil {
			return nil, fmt.Errorf("network %s: %w", name, err)
		}
		nic.GetVirtualDevice().Key = int32(-200 - i)
		devices = append(devices, nic)
	}
	return devices, nil
}

// card is on a standard network or on a port group of the distributed switch.
func (inv *inventory) card(name string) (types.BaseVirtualDevice, error) {
	network, err := inv.finder.Network(inv.ctx, name)
	if err != nil {
		return nil, err
	}
	backing, err := network.EthernetCardBackingInfo(inv.ctx)
	if err != nil {
		return nil, err
	}
	return object.VirtualDeviceList{}.CreateEthernetCard("vmxnet3", backing)
}

// resourcePool finds or makes a pool below the cluster's.
func (inv *inventory) resourcePool(names string) (*object.ResourcePool, error) {
	at := inv.pool
	index := object.NewSearchIndex(inv.client)
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == '/' }) {
		child, err := index.FindChild(inv.ctx, at, name)
		if err != nil {
			return nil, err
		}
		if existing, ok := child.(*object.ResourcePool); ok {
			at = existing
			continue
		}
		if at, err = at.Create(inv.ctx, name, types.DefaultResourceConfigSpec()); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// attributes sets custom attributes, defining those that are new.
func (inv *inventory) attributes(v *vmSpec, ref types.ManagedObjectReference) error {
	if len(v.Custom) == 0 {
		return nil
	}
	manager, err := object.GetCustomFieldsManager(inv.client)
	if err != nil {
		return err
	}
	names := []string{}
	for name := range v.Custom {
		names = append(names, name)
	}
	sort.Strings(names) // keys are given in this order
	for _, name := range names {
		key, err := manager.FindKey(inv.ctx, name)
		if err == object.ErrKeyNameNotFound {
			var made *types.CustomFieldDef
			if made, err = manager.Add(inv.ctx, name, "VirtualMachine", nil, nil); err == nil {
				key = made.Key
			}
		}
		if err != nil {
			return err
		}
		if err := manager.Set(inv.ctx, ref, key, v.Custom[name]); err != nil {
			return err
		}
	}
	return nil
}

func (inv *inventory) disk(v *vmSpec, index int, home string) (*types.VirtualDisk, error) {
	spec := v.Disks[index]
	name := v.Name
	if index > 0 {
		name = fmt.Sprintf("%s_%d", v.Name, index)
	}
	extent := name + "-flat.vmdk"
	if spec.Rdm != "absent" {
		extent = name + "-rdm.vmdk"
	}
	dir := filepath.Join(inv.dir(v.Datastore), home)
	live := filepath.Join(dir, extent)
	if err := take(spec, live); err != nil {
		return nil, err
	}
	st, err := os.Stat(live)
	if err != nil {
		return nil, err
	}
	if st.Size()%512 != 0 {
		return nil, fmt.Errorf("%s is not a multiple of 512 bytes", spec.File)
	}
	uuid := diskUUID(path.Join(v.Datastore, home, name))
	text := simulator.Descriptor(extent, st.Size(), uuid, spec.Thin, spec.Rdm != "absent")
	if err := os.WriteFile(filepath.Join(dir, name+".vmdk"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	file := fmt.Sprintf("[%s] %s/%s.vmdk", v.Datastore, home, name)
	return &types.VirtualDisk{
		VirtualDevice:   types.VirtualDevice{Key: int32(-100 - index), Backing: backing(spec, file, uuid)},
		CapacityInBytes: st.Size(), CapacityInKB: st.Size() / 1024,
	}, nil
}

// take makes the image the live file. A copy shares blocks with the image where the file system can.
func take(spec diskSpec, live string) error {
	switch {
	case spec.MiB > 0:
		if err := os.WriteFile(live, nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(live, spec.MiB<<20)
	case spec.Take == "link":
		return os.Link(spec.File, live)
	case spec.Take == "move":
		return os.Rename(spec.File, live)
	}
	return simulator.CopySparse(spec.File, live)
}

func backing(spec diskSpec, file, uuid string) types.BaseVirtualDeviceBackingInfo {
	info := types.VirtualDeviceFileBackingInfo{FileName: file}
	if spec.Rdm == "absent" {
		return &types.VirtualDiskFlatVer2BackingInfo{
			VirtualDeviceFileBackingInfo: info, DiskMode: spec.Mode, Uuid: uuid, ThinProvisioned: types.NewBool(spec.Thin),
		}
	}
	return &types.VirtualDiskRawDiskMappingVer1BackingInfo{
		VirtualDeviceFileBackingInfo: info, DiskMode: spec.Mode, Uuid: uuid,
		CompatibilityMode: spec.Rdm + "Mode", LunUuid: uuid, DeviceName: "vml." + uuid,
	}
}

// diskUUID looks like the uuids that VMware gives disks.
func diskUUID(seed string) string {
	h := sha256.Sum256([]byte(seed))
	return fmt.Sprintf("6000C29%X-%X-%X-%X-%X", h[0]&0xf, h[1:3], h[3:5], h[5:7], h[7:13])
}

// nvramOf gives each VM its own bytes, of the usual size.
func nvramOf(seed string) []byte {
	content := []byte("MRVN\x01\x00\x00\x00")
	block := sha256.Sum256([]byte(seed))
	for len(content) < 8684 {
		content = append(content, block[:]...)
		block = sha256.Sum256(block[:])
	}
	return content[:8684]
}

func freeName(dir, name string) string {
	free := name
	for n := 1; ; n++ {
		if _, err := os.Lstat(filepath.Join(dir, free)); os.IsNotExist(err) {
			return free
		}
		free = fmt.Sprintf("%s_%d", name, n)
	}
}
