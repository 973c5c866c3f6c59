package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const proxySpec = `{"vms":[
 {"name":"web","disks":[{"file":"%[1]s"},{"file":"%[2]s"}],"cbt":true},
 {"name":"cold","disks":[{"file":"%[2]s"}],"power":"off"},
 {"name":"proxy","proxy":true,"disks":[{"mib":16}]},
 {"name":"other","proxy":true,"disks":[{"mib":16}]}]}`

type guestDisk struct {
	Key      int32
	Name     string
	Device   string
	File     string
	Shown    bool
	Deleted  bool
	Foreign  bool
	Write    bool
	Capacity int64
}

type guest struct {
	Name, UUID, Sys, Dev         string
	Moref                        string
	Disks                        []guestDisk
	Attached, Detached, Surprise int
}

type guestState struct {
	Guests    []guest
	Destroyed []string
}

func (b *bench) proxyLab(name string) (*bench, error) {
	return b.another(name, fmt.Sprintf(proxySpec, filepath.Join(b.images, "small-root.raw"), filepath.Join(b.images, "small-data.raw")))
}

func (b *bench) guest(name string) (*guest, error) {
	var s guestState
	if err := b.control("GET", "/guests", nil, &s); err != nil {
		return nil, err
	}
	for _, g := range s.Guests {
		if g.Name == name {
			return &g, nil
		}
	}
	return nil, fmt.Errorf("no guest %s", name)
}

func change(op types.VirtualDeviceConfigSpecOperation, file types.VirtualDeviceConfigSpecFileOperation, d types.BaseVirtualDevice) types.BaseVirtualDeviceConfigSpec {
	return &types.VirtualDeviceConfigSpec{Operation: op, FileOperation: file, Device: d}
}

func attach(key, controller, unit int32, file, mode string) types.BaseVirtualDeviceConfigSpec {
	disk := &types.VirtualDisk{CapacityInKB: 4} // a lie that must not matter
	disk.Key, disk.ControllerKey = key, controller
	if unit >= 0 {
		disk.UnitNumber = &unit
	}
	disk.Backing = &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: file}, DiskMode: mode,
	}
	return change("add", "", disk)
}

func pvscsi(key, bus int32) types.BaseVirtualDeviceConfigSpec {
	c := &types.ParaVirtualSCSIController{}
	c.Key, c.BusNumber, c.SharedBus = key, bus, types.VirtualSCSISharingNoSharing
	return change("add", "", c)
}

func detach(key int32, file types.VirtualDeviceConfigSpecFileOperation) types.BaseVirtualDeviceConfigSpec {
	disk := &types.VirtualDisk{}
	disk.Key = key
	return change("remove", file, disk)
}

func (b *bench) reconfigure(vm *object.VirtualMachine, changes ...types.BaseVirtualDeviceConfigSpec) error {
	task, err := vm.Reconfigure(b.ctx, types.VirtualMachineConfigSpec{DeviceChange: changes})
	if err != nil {
		return err
	}
	return task.Wait(b.ctx)
}

// attached finds what a proxy has of a file.
func (b *bench) attached(vm *object.VirtualMachine, file string) (*types.VirtualDisk, types.BaseVirtualSCSIController, error) {
	p, err := b.properties(vm)
	if err != nil {
		return nil, nil, err
	}
	devices := object.VirtualDeviceList(p.Config.Hardware.Device)
	for _, d := range devices {
		disk, ok := d.(*types.VirtualDisk)
		if ok && disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName == file {
			return disk, devices.FindByKey(disk.ControllerKey).(types.BaseVirtualSCSIController), nil
		}
	}
	return nil, nil, fmt.Errorf("%s is not attached", file)
}

// blockDevice goes the way of a guest: the slot's PCI address, the host below it, the unit, the block device.
func blockDevice(g *guest, disk *types.VirtualDisk, controller types.BaseVirtualSCSIController) (name string, host, bus int, err error) {
	c := controller.GetVirtualSCSIController()
	slot, ok := c.SlotInfo.(*types.VirtualDevicePciBusSlotInfo)
	if !ok {
		return "", 0, 0, fmt.Errorf("the controller has no slot")
	}
	address, err := os.ReadFile(fmt.Sprintf("%s/bus/pci/slots/%d/address", g.Sys, slot.PciSlotNumber))
	if err != nil {
		return "", 0, 0, err
	}
	hosts, err := os.ReadDir(filepath.Join(g.Sys, "class/scsi_host"))
	if err != nil {
		return "", 0, 0, err
	}
	host = -1
	for _, h := range hosts {
		real, err := filepath.EvalSymlinks(filepath.Join(g.Sys, "class/scsi_host", h.Name()))
		if err == nil && strings.Contains(real, "/"+strings.TrimSpace(string(address))+".0/") {
			fmt.Sscanf(h.Name(), "host%d", &host)
		}
	}
	blocks, err := os.ReadDir(fmt.Sprintf("%s/class/scsi_device/%d:0:%d:0/device/block", g.Sys, host, *disk.UnitNumber))
	if err != nil || len(blocks) != 1 {
		return "", host, 0, fmt.Errorf("unit %d of host%d: %d block devices, %w", *disk.UnitNumber, host, len(blocks), err)
	}
	return blocks[0].Name(), host, int(c.BusNumber), nil
}

// readDirect reads a whole block device past the page cache.
func readDirect(path string, length int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := make([]byte, length+4096)
	skip := 4096 - int(uintptr(unsafe.Pointer(&raw[0]))%4096)
	aligned := raw[skip : skip+length]
	for at := 0; at < length; {
		end := at + 1<<20
		if end > length {
			end = length
		}
		n, err := f.ReadAt(aligned[at:end], int64(at))
		if err != nil {
			return nil, fmt.Errorf("at %d: %w", at, err)
		}
		at += n
	}
	return aligned, nil
}

func proxyReads(main *bench) error {
	b, err := main.proxyLab("hotadd")
	if err != nil {
		return err
	}
	defer b.stop()
	web, err := b.vm("DC0/vm/web")
	if err != nil {
		return err
	}
	proxy, err := b.vm("DC0/vm/proxy")
	if err != nil {
		return err
	}
	snapshot, err := b.snapshot(web, "hotadd", nil)
	if err != nil {
		return err
	}
	if err := poke(filepath.Join(b.State, "ds/lab-ds/web/web-flat.vmdk"), 5<<20, "after the freeze"); err != nil {
		return err
	}
	if err := b.guestIsTheProxy(proxy); err != nil {
		return err
	}
	if err := b.reconfigure(proxy, pvscsi(-10, 1), attach(-1, -10, 3, "[lab-ds] web/web.vmdk", "independent_nonpersistent"),
		attach(-2, -10, -1, "[lab-ds] web/web_1.vmdk", "independent_nonpersistent")); err != nil {
		return err
	}
	keys := []int32{}
	for i, file := range []string{"[lab-ds] web/web.vmdk", "[lab-ds] web/web_1.vmdk"} {
		key, err := b.readsAsFrozen(proxy, file, snapshot, int32(2000+i))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return first(b.heldSnapshotStays(web, snapshot), b.detachedIsWhole(web, proxy, keys))
}

func (b *bench) guestIsTheProxy(proxy *object.VirtualMachine) error {
	g, err := b.guest("proxy")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(g.Sys, "class/dmi/id/product_uuid"))
	if err != nil {
		return err
	}
	printed, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(printed) != 16 {
		return fmt.Errorf("product_uuid %q", text)
	}
	p := printed
	swapped := []byte{p[3], p[2], p[1], p[0], p[5], p[4], p[7], p[6]}
	swapped = append(swapped, p[8:]...)
	config, err := b.properties(proxy)
	if err != nil {
		return err
	}
	var machines []struct {
		Name, UUID string
		Proxy      bool
	}
	if err := b.control("GET", "/vms", nil, &machines); err != nil {
		return err
	}
	for _, m := range machines {
		if m.Name == "proxy" && (!m.Proxy || m.UUID != config.Config.Uuid) {
			return fmt.Errorf("GET /vms says %+v", m)
		}
	}
	return first(
		expect("uuid of the firmware", hex.EncodeToString(swapped), strings.ReplaceAll(config.Config.Uuid, "-", "")),
		expect("uuid told", g.UUID, config.Config.Uuid), expect("its own disk", len(g.Disks), 1),
	)
}

func (b *bench) readsAsFrozen(proxy *object.VirtualMachine, file string, snapshot types.ManagedObjectReference, key int32) (int32, error) {
	g, err := b.guest("proxy")
	if err != nil {
		return 0, err
	}
	frozen, err := b.freezeOf(snapshot, key)
	if err != nil {
		return 0, err
	}
	content, err := os.ReadFile(frozen.Path)
	if err != nil {
		return 0, err
	}
	disk, controller, err := b.attached(proxy, file)
	if err != nil {
		return 0, err
	}
	name, host, bus, err := blockDevice(g, disk, controller)
	if err != nil {
		return 0, err
	}
	got, err := readDirect(filepath.Join(g.Dev, name), len(content))
	if err != nil {
		return 0, err
	}
	size, err := os.ReadFile(filepath.Join(g.Sys, "block", name, "size"))
	if err != nil {
		return 0, err
	}
	page, err := os.ReadFile(filepath.Join(g.Sys, "block", name, "device/vpd_pg83"))
	if err != nil {
		return 0, err
	}
	uuid := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Uuid
	writing := writeBlock(filepath.Join(g.Dev, name))
	return disk.Key, first(
		expect("content", bytes.Equal(got, content), true), expect("size", strings.TrimSpace(string(size)), fmt.Sprint(len(content)/512)),
		expect("capacity in the configuration", disk.CapacityInBytes, int64(len(content))), expect("the host's number is the bus's", host == bus, false),
		expect("page 0x83", strings.EqualFold(hex.EncodeToString(page[8:]), strings.ReplaceAll(uuid, "-", "")), true),
		expect("it cannot be written", writing != nil, true),
	)
}

// writeBlock fails on a read-only device: some kernels refuse the opening and some the writing.
func writeBlock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_SYNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(make([]byte, 4096), 0)
	return err
}

// heldSnapshotStays finds what vSphere does: the snapshot is gone from the tree, its files are not.
func (b *bench) heldSnapshotStays(web *object.VirtualMachine, snapshot types.ManagedObjectReference) error {
	removed := faultName(b.removeSnapshot(snapshot))
	p, err := b.properties(web)
	if err != nil {
		return err
	}
	stuck := faultName(b.consolidate(web))
	var pruned struct{ Deleted []string }
	return first(
		expect("removal", removed, "FileLocked"), expect("tree is empty", p.Snapshot == nil, true),
		expect("consolidation is needed", *p.Runtime.ConsolidationNeeded, true), expect("consolidation", stuck, "FileLocked"),
		expect("the vm is on its delta", strings.Contains(diskFiles(p), "web-000001.vmdk"), true),
		b.control("POST", "/frozen/prune", nil, &pruned), expect("held copies are not pruned", len(pruned.Deleted), 0),
	)
}

func (b *bench) consolidate(vm *object.VirtualMachine) error {
	response, err := methods.ConsolidateVMDisks_Task(b.ctx, b.client, &types.ConsolidateVMDisks_Task{This: vm.Reference()})
	if err != nil {
		return err
	}
	return object.NewTask(b.client.Client, response.Returnval).Wait(b.ctx)
}

func diskFiles(p *mo.VirtualMachine) string {
	files := []string{}
	for _, d := range p.Config.Hardware.Device {
		if disk, ok := d.(*types.VirtualDisk); ok {
			files = append(files, disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).FileName)
		}
	}
	return strings.Join(files, " ")
}

func (b *bench) detachedIsWhole(web, proxy *object.VirtualMachine, keys []int32) error {
	g, err := b.guest("proxy")
	if err != nil {
		return err
	}
	deleted := g.Disks[1]
	if err := os.WriteFile(filepath.Join(g.Sys, "block", deleted.Name, "device/delete"), []byte("1"), 0); err != nil {
		return err
	}
	gone := within(2*time.Second, func() bool {
		_, err := os.Lstat(filepath.Join(g.Sys, "block", deleted.Name))
		return os.IsNotExist(err)
	})
	if err := b.reconfigure(proxy, detach(keys[0], ""), detach(keys[1], "")); err != nil {
		return err
	}
	if g, err = b.guest("proxy"); err != nil {
		return err
	}
	_, missing := os.Stat(filepath.Join(b.State, "ds/lab-ds/web/web.vmdk"))
	err = first(expect("the device went when it was told to", gone, true), missing, expect("disks of the proxy", len(g.Disks), 1),
		expect("attached and detached", []int{g.Attached, g.Detached, g.Surprise}, []int{2, 2, 1}), b.consolidate(web))
	if err != nil {
		return err
	}
	p, err := b.properties(web)
	if err != nil {
		return err
	}
	blocks, err := os.ReadDir(filepath.Join(g.Sys, "block"))
	return first(err, expect("consolidation is needed", *p.Runtime.ConsolidationNeeded, false), expect("files", diskFiles(p), "[lab-ds] web/web.vmdk [lab-ds] web/web_1.vmdk"),
		expect("block devices", len(blocks), 1))
}

func proxyWrites(main *bench) error {
	b, err := main.proxyLab("hotadd-write")
	if err != nil {
		return err
	}
	defer b.stop()
	proxy, err := b.vm("DC0/vm/proxy")
	if err != nil {
		return err
	}
	other, err := b.vm("DC0/vm/other")
	if err != nil {
		return err
	}
	web, err := b.vm("DC0/vm/web")
	if err != nil {
		return err
	}
	const cold = "[lab-ds] cold/cold.vmdk"
	if err := b.reconfigure(proxy, attach(-1, 1000, 1, cold, "persistent")); err != nil {
		return err
	}
	again := faultName(b.reconfigure(other, attach(-1, 1000, 1, cold, "independent_nonpersistent")))
	running := faultName(b.reconfigure(other, attach(-1, 1000, 1, "[lab-ds] web/web.vmdk", "independent_nonpersistent")))
	missing := faultName(b.reconfigure(other, attach(-1, 1000, 1, "[lab-ds] web/none.vmdk", "independent_nonpersistent")))
	g, err := b.guest("proxy")
	if err != nil {
		return err
	}
	disk, controller, err := b.attached(proxy, cold)
	if err != nil {
		return err
	}
	name, _, _, err := blockDevice(g, disk, controller)
	if err != nil {
		return err
	}
	device, err := os.OpenFile(filepath.Join(g.Dev, name), os.O_RDWR|syscall.O_SYNC, 0)
	if err != nil {
		return err
	}
	block := bytes.Repeat([]byte("restored"), 512)
	_, err = device.WriteAt(block, 7<<20)
	if err := first(err, device.Close()); err != nil {
		return err
	}
	locked, err := b.folder(b.client, "GET", "cold/cold-flat.vmdk", "bytes=0-511", nil)
	if err != nil {
		return err
	}
	started := b.control("POST", "/vm/cold/power-on", nil, nil)
	if err := b.reconfigure(proxy, detach(disk.Key, "")); err != nil {
		return err
	}
	live, err := os.ReadFile(filepath.Join(b.State, "ds/lab-ds/cold/cold-flat.vmdk"))
	if err != nil {
		return err
	}
	snapshot, err := b.snapshot(web, "frozen", nil)
	if err != nil {
		return err
	}
	frozen := faultName(b.reconfigure(other, attach(-1, 1000, 1, "[lab-ds] web/web.vmdk", "persistent")))
	return first(
		expect("a second proxy", again, "FileLocked"), expect("a running disk", running, "FileLocked"), expect("no file", missing, "FileNotFound"),
		expect("writing a frozen disk", frozen, "FileLocked"), expect("folder", locked.status, 500), expect("the vm does not start", started != nil, true),
		expect("what was written", bytes.Equal(live[7<<20:7<<20+4096], block), true), b.control("POST", "/vm/cold/power-on", nil, nil), b.removeSnapshot(snapshot),
	)
}

func proxyRefuses(main *bench) error {
	b, err := main.proxyLab("hotadd-refuse")
	if err != nil {
		return err
	}
	defer b.stop()
	proxy, err := b.vm("DC0/vm/proxy")
	if err != nil {
		return err
	}
	const cold, mode = "[lab-ds] cold/cold.vmdk", "independent_nonpersistent"
	for what, changes := range map[string][]types.BaseVirtualDeviceConfigSpec{
		"the controller's own unit":        {attach(-1, 1000, 7, cold, mode)},
		"unit 16":                          {attach(-1, 1000, 16, cold, mode)},
		"a taken unit":                     {attach(-1, 1000, 0, cold, mode)},
		"no such controller":               {attach(-1, 1001, 1, cold, mode)},
		"a fifth controller":               {pvscsi(-10, 1), pvscsi(-11, 2), pvscsi(-12, 3), pvscsi(-13, 4), attach(-1, -13, 1, cold, mode)},
		"removing what is not there":       {detach(2015, "")},
		"removing a controller with disks": {change("remove", "", &types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 1000}}}})},
	} {
		if err := expect(what, faultName(b.reconfigure(proxy, changes...)), "InvalidDeviceSpec"); err != nil {
			return err
		}
	}
	if err := expect("twice in one", faultName(b.reconfigure(proxy, attach(-1, 1000, 1, cold, mode), attach(-2, 1000, 2, cold, mode))), "FileLocked"); err != nil {
		return err
	}
	if err := b.control("POST", "/guests", fields{"reconfigure_ms": 400}, nil); err != nil {
		return err
	}
	task, err := proxy.Reconfigure(b.ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{attach(-1, 1000, 1, cold, mode)}})
	if err != nil {
		return err
	}
	_, second := proxy.Reconfigure(b.ctx, types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{detach(2000, "")}})
	g, err := b.guest("proxy")
	return first(err, expect("a second reconfigure", faultName(second), "TaskInProgress"), expect("devices come with the end of the task", len(g.Disks), 1), task.Wait(b.ctx))
}

func proxyDestroys(main *bench) error {
	b, err := main.proxyLab("hotadd-destroy")
	if err != nil {
		return err
	}
	defer b.stop()
	proxy, err := b.vm("DC0/vm/proxy")
	if err != nil {
		return err
	}
	const cold = "[lab-ds] cold/cold.vmdk"
	if err := b.reconfigure(proxy, attach(-1, 1000, 1, cold, "independent_nonpersistent")); err != nil {
		return err
	}
	if err := b.reconfigure(proxy, detach(2001, "destroy")); err != nil {
		return err
	}
	var s guestState
	if err := b.control("GET", "/guests", nil, &s); err != nil {
		return err
	}
	_, descriptor := os.Stat(filepath.Join(b.State, "ds/lab-ds/cold/cold.vmdk"))
	_, flat := os.Stat(filepath.Join(b.State, "ds/lab-ds/cold/cold-flat.vmdk"))
	return first(expect("destroyed", s.Destroyed, []string{cold}), expect("descriptor is gone", os.IsNotExist(descriptor), true), expect("data is gone", os.IsNotExist(flat), true))
}

func devicesAppear(main *bench) error {
	b, err := main.proxyLab("hotadd-late")
	if err != nil {
		return err
	}
	defer b.stop()
	proxy, err := b.vm("DC0/vm/proxy")
	if err != nil {
		return err
	}
	g, err := b.guest("proxy")
	if err != nil {
		return err
	}
	there := func() bool {
		_, err := os.Stat(filepath.Join(g.Sys, "block/sdb"))
		return err == nil
	}
	const cold, mode = "[lab-ds] cold/cold.vmdk", "independent_nonpersistent"
	if err := b.control("POST", "/guests", fields{"appear_after_ms": 300}, nil); err != nil {
		return err
	}
	if err := b.reconfigure(proxy, attach(-1, 1000, 1, cold, mode)); err != nil {
		return err
	}
	early, late := there(), within(2*time.Second, there)
	if err := first(b.reconfigure(proxy, detach(2001, "")), b.control("POST", "/guests", fields{"appear_after_ms": 0, "needs_scan": true}, nil),
		b.reconfigure(proxy, attach(-1, 1000, 1, cold, mode))); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	unasked := there()
	if err := os.WriteFile(filepath.Join(g.Sys, "class/scsi_host/host32/scan"), []byte("- - -\n"), 0); err != nil {
		return err
	}
	return first(expect("at once", early, false), expect("in its time", late, true), expect("unasked", unasked, false), expect("when looked for", within(2*time.Second, there), true))
}

// loopsGo finds no loop device of a lab that was told to end, and none of one that was killed.
func loopsGo(main *bench) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		b, err := main.proxyLab("hotadd-" + signal.String())
		if err != nil {
			return err
		}
		loops := func() int {
			out, err := exec.Command("losetup", "--list", "--noheadings", "--output", "BACK-FILE").Output()
			if err != nil {
				return -1
			}
			return strings.Count(string(out), b.State+"/")
		}
		before := loops()
		if err := b.process.Process.Signal(signal); err != nil {
			return err
		}
		ended := b.process.Wait()
		gone := within(3*time.Second, func() bool { return loops() == 0 })
		err = first(expect("loop devices of the two proxies' own disks", before, 2), expect("gone after "+signal.String(), gone, true),
			expect("ended cleanly", ended == nil, signal == syscall.SIGTERM))
		if err != nil {
			return err
		}
	}
	return nil
}
