// Proxies: VMs that attach other VMs' disks to read and write them.
package simulator

import (
	"fmt"
	"log"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const (
	scsiUnits       = 16
	scsiReserved    = 7 // the controller's own
	scsiControllers = 4
)

// pciSlots is the order in which VMware gives them: the first controller, the first network card, the rest.
var pciSlots = []int32{160, 192, 224, 256, 1184, 1216, 1248, 1280, 2208, 2240}

// Proxies is what the lab knows of them. Its lock is taken last.
var Proxies = &proxyState{guests: map[string]bool{}, attached: map[string]map[int32]*attachment{}}

type proxyState struct {
	// Changed is told a proxy's devices after each change; it plays the guest.
	Changed func(ProxyDevices) error

	mu        sync.Mutex
	takes     time.Duration // of a reconfigure, at least
	guests    map[string]bool
	attached  map[string]map[int32]*attachment // by VM and device key
	destroyed []string
}

// attachment is a file that a proxy holds and that existed before.
type attachment struct {
	file  string // datastore path of the descriptor
	path  string // its bytes on this machine
	write bool
}

// ProxyDevices is what a proxy's firmware shows.
type ProxyDevices struct {
	VM, Name, UUID string
	Controllers    []ProxyController
	Disks          []ProxyDisk
}

// ProxyController is a SCSI controller.
type ProxyController struct {
	Key, Bus, Slot int32
}

// ProxyDisk is a disk with what its bytes are.
type ProxyDisk struct {
	Key        int32  `json:"key"`
	Controller int32  `json:"controller"`
	Unit       int32  `json:"unit"`
	File       string `json:"file"`
	Path       string `json:"path"`
	Write      bool   `json:"write"`
	Foreign    bool   `json:"foreign"` // was there before it was attached
	Capacity   int64  `json:"capacity"`
	UUID       string `json:"uuid"`
	Mode       string `json:"mode"`
}

// MakeProxy gives a VM what a proxy has, and shows its devices.
func (p *proxyState) MakeProxy(ref types.ManagedObjectReference) error {
	vm, ok := Map.Get(ref).(*VirtualMachine)
	if !ok {
		return fmt.Errorf("no VM %s", ref.Value)
	}
	p.mu.Lock()
	p.guests[ref.Value] = true
	p.mu.Unlock()
	var devices ProxyDevices
	Map.WithLock(vm, func() {
		giveSlots(vm.Config.Hardware.Device, vm.Config.Hardware.Device)
		devices = p.devicesOf(vm)
	})
	return p.Changed(devices)
}

// SetDelay sets how long a reconfigure of a proxy takes at least.
func (p *proxyState) SetDelay(takes time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes = takes
}

func (p *proxyState) delay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takes
}

// Destroyed lists the files that proxies had destroyed when they removed disks.
func (p *proxyState) Destroyed() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.destroyed...)
}

// IsProxy tells whether a VM attaches disks.
func (p *proxyState) IsProxy(vm string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.guests[vm]
}

// giveSlots gives `fresh` devices PCI slots that nothing in `all` has.
func giveSlots(all, fresh []types.BaseVirtualDevice) {
	taken := map[int32]bool{}
	for _, d := range all {
		if slot := slotOf(d); slot >= 0 {
			taken[slot] = true
		}
	}
	for _, d := range fresh {
		_, scsi := d.(types.BaseVirtualSCSIController)
		_, nic := d.(types.BaseVirtualEthernetCard)
		if (!scsi && !nic) || slotOf(d) >= 0 {
			continue
		}
		for _, slot := range pciSlots {
			if !taken[slot] {
				taken[slot] = true
				d.GetVirtualDevice().SlotInfo = &types.VirtualDevicePciBusSlotInfo{PciSlotNumber: slot}
				break
			}
		}
	}
}

func slotOf(d types.BaseVirtualDevice) int32 {
	if info, ok := d.GetVirtualDevice().SlotInfo.(*types.VirtualDevicePciBusSlotInfo); ok {
		return info.PciSlotNumber
	}
	return -1
}

// devicesOf describes a proxy's devices; the caller holds the VM's lock.
func (p *proxyState) devicesOf(vm *VirtualMachine) ProxyDevices {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := ProxyDevices{VM: vm.Self.Value, Name: vm.Name, UUID: vm.Config.Uuid}
	for _, d := range vm.Config.Hardware.Device {
		if c, ok := d.(types.BaseVirtualSCSIController); ok {
			v := c.GetVirtualSCSIController()
			all.Controllers = append(all.Controllers, ProxyController{Key: v.Key, Bus: v.BusNumber, Slot: slotOf(d)})
		}
	}
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok || disk.UnitNumber == nil {
			continue
		}
		shown := ProxyDisk{
			Key: disk.Key, Controller: disk.ControllerKey, Unit: *disk.UnitNumber, File: flat.FileName,
			Capacity: getDiskSize(disk), UUID: flat.Uuid, Mode: flat.DiskMode,
		}
		if a := p.attached[vm.Self.Value][disk.Key]; a != nil {
			shown.Path, shown.Write, shown.Foreign = a.path, a.write, true
		} else if live, err := livePath(vm, disk); err == nil {
			shown.Path, shown.Write = live, true
		}
		all.Disks = append(all.Disks, shown)
	}
	return all
}

// isForeign tells whether a VM has a disk only attached.
func (p *proxyState) isForeign(vm types.ManagedObjectReference, key int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attached[vm.Value][key] != nil
}

// holds tells whether any proxy has a file attached, and whether for writing.
func (p *proxyState) holds(file string) (any, write bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, disks := range p.attached {
		for _, a := range disks {
			if a.file == file {
				any, write = true, write || a.write
			}
		}
	}
	return any, write
}

// reconfigureProxy runs in the background, so that a second one meets it.
func (vm *VirtualMachine) reconfigureProxy(req *types.ReconfigVM_Task) soap.HasFault {
	task, fault := Lab.begin(vm, "reconfigVm", func(*Task) (types.AnyType, types.BaseMethodFault) {
		time.Sleep(Proxies.delay())
		attaches, fault := vm.planAttaches(req.Spec.DeviceChange)
		if fault != nil {
			return nil, fault
		}
		var devices ProxyDevices
		Map.WithLock(vm, func() {
			if fault = vm.applyToProxy(&req.Spec, attaches); fault == nil {
				devices = Proxies.devicesOf(vm)
			}
		})
		if fault != nil {
			return nil, fault
		}
		if err := Proxies.Changed(devices); err != nil {
			log.Printf("devices of %s: %s", vm.Name, err)
			return nil, &types.GenericVmConfigFault{Reason: err.Error()}
		}
		return nil, nil
	})
	if fault != nil {
		return &methods.ReconfigVM_TaskBody{Fault_: Fault("", fault)}
	}
	return &methods.ReconfigVM_TaskBody{Res: &types.ReconfigVM_TaskResponse{Returnval: task}}
}

// applyToProxy checks the whole spec before anything of it happens.
func (vm *VirtualMachine) applyToProxy(spec *types.VirtualMachineConfigSpec, attaches map[*types.VirtualDisk]*attachment) types.BaseMethodFault {
	if fault := vm.planRemovals(spec.DeviceChange); fault != nil {
		return fault
	}
	if fault := vm.planPlaces(spec.DeviceChange); fault != nil {
		return fault
	}
	assignKeys(vm.Config.Hardware.Device, spec.DeviceChange)
	fresh := []types.BaseVirtualDevice{}
	forAdded(spec.DeviceChange, func(d types.BaseVirtualDevice) { fresh = append(fresh, d) })
	giveSlots(vm.Config.Hardware.Device, fresh)
	if fault := vm.configure(spec); fault != nil {
		return fault
	}
	Proxies.record(vm, attaches, spec.DeviceChange)
	if err := vm.writeVmx(); err != nil {
		log.Printf("write vmx of %s: %s", vm.Name, err)
	}
	return nil
}

func badDevice(index int, property string) types.BaseMethodFault {
	return &types.InvalidDeviceSpec{InvalidVmConfig: types.InvalidVmConfig{Property: property}, DeviceIndex: int32(index)}
}

// planAttaches finds the bytes of each existing file that is to be attached. It locks other VMs, one after the
// other, so the caller must hold none.
func (vm *VirtualMachine) planAttaches(changes []types.BaseVirtualDeviceConfigSpec) (map[*types.VirtualDisk]*attachment, types.BaseMethodFault) {
	if fault := checkBackings(Map.getEntityDatacenter(vm), changes); fault != nil {
		return nil, fault
	}
	plans, files := map[*types.VirtualDisk]*attachment{}, map[string]bool{}
	for i, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		disk, ok := spec.Device.(*types.VirtualDisk)
		if !ok || spec.Operation != types.VirtualDeviceConfigSpecOperationAdd || spec.FileOperation != "" {
			continue
		}
		flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		if !ok {
			return nil, badDevice(i, "backing")
		}
		p, fault := parseDatastorePath(flat.FileName)
		if fault != nil || p.Path == "" {
			return nil, badDevice(i, "backing.fileName")
		}
		p.Path = path.Clean(p.Path)
		flat.FileName = p.String()
		plan, capacity, uuid, fault := vm.planAttach(flat)
		if fault != nil {
			return nil, fault
		}
		if files[flat.FileName] {
			return nil, fileLocked(flat.FileName)
		}
		files[flat.FileName] = true
		// What the file is counts, not what the client says of it.
		disk.CapacityInBytes, disk.CapacityInKB, flat.Uuid = capacity, capacity/1024, uuid
		plans[disk] = plan
	}
	return plans, nil
}

func fileLocked(file string) types.BaseMethodFault {
	return &types.FileLocked{FileFault: types.FileFault{File: file}}
}

// planAttach lets a disk be read that nothing writes, and be written that nothing else has.
func (vm *VirtualMachine) planAttach(flat *types.VirtualDiskFlatVer2BackingInfo) (*attachment, int64, string, types.BaseMethodFault) {
	write := flat.DiskMode != "independent_nonpersistent" && flat.DiskMode != "nonpersistent"
	held, written := Proxies.holds(flat.FileName)
	if written || (write && held) || Proxies.hasAttached(vm.Self.Value, flat.FileName) {
		return nil, 0, "", fileLocked(flat.FileName)
	}
	owned := Lab.findOwned(flat.FileName)
	if owned != nil {
		if owned.busy || (write && !owned.whole) {
			return nil, 0, "", fileLocked(flat.FileName)
		}
		return &attachment{file: flat.FileName, path: owned.path, write: write}, owned.capacity, owned.uuid, nil
	}
	// No VM has it: a file that lies on the datastore.
	local, err := localPath(vm, flat.FileName)
	if err != nil {
		return nil, 0, "", &types.InvalidDatastorePath{DatastorePath: flat.FileName}
	}
	text, err := os.ReadFile(local)
	st, missing := os.Stat(extentFile(local, false))
	if err != nil || missing != nil {
		return nil, 0, "", &types.FileNotFound{FileFault: types.FileFault{File: flat.FileName}}
	}
	return &attachment{file: flat.FileName, path: extentFile(local, false), write: write}, st.Size(), descriptorUUID(string(text)), nil
}

func descriptorUUID(text string) string {
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "ddb.uuid = ") {
			return strings.Trim(strings.TrimPrefix(line, "ddb.uuid = "), `"`)
		}
	}
	return newDiskUUID()
}

// owned is a file that is part of a VM's disk.
type owned struct {
	path     string
	capacity int64
	uuid     string
	busy     bool // the VM runs and writes it
	whole    bool // no snapshot stands on it or below it
}

// findOwned finds the VM whose chain has a file.
func (l *labState) findOwned(file string) *owned {
	var found *owned
	for _, e := range Map.All("VirtualMachine") {
		vm, ok := e.(*VirtualMachine)
		if !ok || found != nil {
			continue
		}
		Map.WithLock(vm, func() { found = l.ownedBy(vm, file) })
	}
	return found
}

func (l *labState) ownedBy(vm *VirtualMachine, file string) *owned {
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		if diskFile(disk) == nil || Proxies.isForeign(vm.Self, disk.Key) {
			continue
		}
		if o := l.ownedDisk(vm, disk, file); o != nil {
			return o
		}
	}
	return nil
}

func (l *labState) ownedDisk(vm *VirtualMachine, disk *types.VirtualDisk, file string) *owned {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.guest(vm.Self).chain(disk)
	for _, p := range c.points {
		if p.file == file {
			return &owned{path: p.freeze.Path, capacity: p.freeze.Capacity, uuid: backingUUID(disk)}
		}
	}
	live, err := livePath(vm, disk)
	if c.leaf != file || err != nil {
		return nil
	}
	off := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
	return &owned{path: live, capacity: getDiskSize(disk), uuid: backingUUID(disk), busy: !off, whole: len(c.points) == 0}
}

func (p *proxyState) hasAttached(vm, file string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.attached[vm] {
		if a.file == file {
			return true
		}
	}
	return false
}

// planRemovals puts the server's devices in place of what the client says of them.
func (vm *VirtualMachine) planRemovals(changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	for i, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation != types.VirtualDeviceConfigSpecOperationRemove {
			continue
		}
		key := spec.Device.GetVirtualDevice().Key
		var known types.BaseVirtualDevice
		children := 0
		for _, d := range vm.Config.Hardware.Device {
			v := d.GetVirtualDevice()
			if v.Key == key {
				known = d
			}
			if v.ControllerKey == key {
				children++
			}
		}
		if known == nil {
			return badDevice(i, "device.key")
		}
		if _, scsi := known.(types.BaseVirtualSCSIController); scsi && children > 0 {
			return badDevice(i, "device.key")
		}
		spec.Device = known
	}
	return nil
}

// planPlaces gives disks without a unit number the lowest free one, and refuses places that there are not.
func (vm *VirtualMachine) planPlaces(changes []types.BaseVirtualDeviceConfigSpec) types.BaseMethodFault {
	taken, controllers := map[int32]map[int32]bool{}, 0
	place := func(d types.BaseVirtualDevice) {
		if _, scsi := d.(types.BaseVirtualSCSIController); scsi {
			taken[d.GetVirtualDevice().Key] = map[int32]bool{scsiReserved: true}
			controllers++
		}
	}
	removed := map[int32]bool{}
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		switch spec.Operation {
		case types.VirtualDeviceConfigSpecOperationRemove:
			removed[spec.Device.GetVirtualDevice().Key] = true
		case types.VirtualDeviceConfigSpecOperationAdd:
			place(spec.Device)
		}
	}
	for _, d := range vm.Config.Hardware.Device {
		if !removed[d.GetVirtualDevice().Key] {
			place(d)
		}
	}
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		if units := taken[disk.ControllerKey]; units != nil && disk.UnitNumber != nil && !removed[disk.Key] {
			units[*disk.UnitNumber] = true
		}
	}
	for i, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		disk, ok := spec.Device.(*types.VirtualDisk)
		if !ok || spec.Operation != types.VirtualDeviceConfigSpecOperationAdd {
			continue
		}
		units := taken[disk.ControllerKey]
		if units == nil || controllers > scsiControllers {
			return badDevice(i, "controllerKey")
		}
		if disk.UnitNumber == nil {
			free := int32(0)
			for units[free] {
				free++
			}
			disk.UnitNumber = &free
		}
		if unit := *disk.UnitNumber; unit < 0 || unit >= scsiUnits || units[unit] {
			return badDevice(i, "unitNumber")
		}
		units[*disk.UnitNumber] = true
	}
	if controllers > scsiControllers {
		return badDevice(0, "controllerKey")
	}
	return nil
}

// record keeps what is attached after a spec was carried out.
func (p *proxyState) record(vm *VirtualMachine, attaches map[*types.VirtualDisk]*attachment, changes []types.BaseVirtualDeviceConfigSpec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	disks := p.attached[vm.Self.Value]
	if disks == nil {
		disks = map[int32]*attachment{}
		p.attached[vm.Self.Value] = disks
	}
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation != types.VirtualDeviceConfigSpecOperationRemove {
			continue
		}
		delete(disks, spec.Device.GetVirtualDevice().Key)
		if disk, ok := spec.Device.(*types.VirtualDisk); ok && spec.FileOperation == types.VirtualDeviceConfigSpecFileOperationDestroy {
			p.destroyed = append(p.destroyed, diskFile(disk).FileName)
		}
	}
	for disk, a := range attaches {
		disks[disk.Key] = a
	}
}

// heldBy names a file that keeps a snapshot's removal from merging: its own, or the one that it takes in.
func (vm *VirtualMachine) heldBy(snapshot string) string {
	Lab.mu.Lock()
	files := []string{}
	for _, c := range Lab.guest(vm.Self).disks {
		for i, p := range c.points {
			if p.freeze.Snapshot != snapshot {
				continue
			}
			next := c.leaf
			if i+1 < len(c.points) {
				next = c.points[i+1].file
			}
			files = append(files, p.file, next)
		}
	}
	Lab.mu.Unlock()
	for _, file := range files {
		if held, _ := Proxies.holds(file); held {
			return file
		}
	}
	return ""
}

// leaveFiles is a removal that could not merge: the snapshot goes, its files stay.
func (vm *VirtualMachine) leaveFiles(snapshot string) {
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	for _, f := range Lab.freezes {
		if f.Snapshot == snapshot {
			f.Exists = false
		}
	}
}

// leftOver lists the snapshots that are gone and whose files are not.
func (vm *VirtualMachine) leftOver() []string {
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	seen, list := map[string]bool{}, []string{}
	for _, c := range Lab.guest(vm.Self).disks {
		for _, p := range c.points {
			if id := p.freeze.Snapshot; !p.freeze.Exists && !seen[id] {
				seen[id] = true
				list = append(list, id)
			}
		}
	}
	return list
}

// mergeLeftOver does what a removal had to leave, unless a file is still held.
func (vm *VirtualMachine) mergeLeftOver() types.BaseMethodFault {
	for _, snapshot := range vm.leftOver() {
		if file := vm.heldBy(snapshot); file != "" {
			return fileLocked(file)
		}
		Map.WithLock(vm, func() { vm.mergeFiles(snapshot) })
	}
	return nil
}

// isAttachedForWriting tells whether a proxy writes one of the VM's disks, which then cannot start.
func (vm *VirtualMachine) isAttachedForWriting() string {
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		if file := diskFile(disk); file != nil && !Proxies.isForeign(vm.Self, disk.Key) {
			if _, write := Proxies.holds(file.FileName); write {
				return file.FileName
			}
		}
	}
	return ""
}
