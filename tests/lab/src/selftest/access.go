package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func sessionsEnd(b *bench) error {
	other, err := b.login(b.ctx)
	if err != nil {
		return err
	}
	third, err := b.login(b.ctx)
	if err != nil {
		return err
	}
	status := func() int {
		a, err := b.folder(other, "GET", "web/web.vmx", "", nil)
		if err != nil {
			return 0
		}
		return a.status
	}
	alive := status()
	jar := other.Client.Client.Jar.Cookies(other.URL())
	if err := other.Logout(b.ctx); err != nil {
		return err
	}
	other.Client.Client.Jar.SetCookies(other.URL(), jar) // the client forgets its cookie at logout
	afterLogout := status()
	_, errOther := methods.GetCurrentTime(b.ctx, other)
	_, errThird := methods.GetCurrentTime(b.ctx, third)
	if err := b.control("POST", "/sessions/expire", nil, nil); err != nil {
		return err
	}
	_, errExpired := methods.GetCurrentTime(b.ctx, third)
	again, err := b.login(b.ctx)
	if err != nil {
		return err
	}
	b.client = again
	return first(
		expect("folder with a session", alive, 200),
		expect("folder after logout", afterLogout, 401),
		expect("call after logout", faultName(errOther), "NotAuthenticated"),
		expect("call of another session", faultName(errThird), ""),
		expect("call after all sessions died", faultName(errExpired), "NotAuthenticated"),
		idleSessionEnds(b), passwordReads(b),
	)
}

func idleSessionEnds(b *bench) error {
	l, err := b.start("idle", "--idle", "400ms")
	if err != nil {
		return err
	}
	client, err := l.login(b.ctx)
	if err != nil {
		return err
	}
	for n := 0; n < 4; n++ {
		time.Sleep(200 * time.Millisecond)
		if _, err := methods.GetCurrentTime(b.ctx, client); err != nil {
			return fmt.Errorf("a session in use ended: %w", err)
		}
	}
	time.Sleep(600 * time.Millisecond)
	a, err := l.folder(client, "GET", "web/web.vmx", "", nil)
	if err != nil {
		return err
	}
	_, idle := methods.GetCurrentTime(b.ctx, client)
	return first(expect("folder after idling", a.status, 401), expect("call after idling", faultName(idle), "NotAuthenticated"), l.stop())
}

func passwordReads(b *bench) error {
	for password, want := range map[string]int{b.Password: 200, "wrong": 401} {
		request, err := http.NewRequest("GET", b.URL+"/folder/web/web.vmx?dcPath=DC0&dsName=lab-ds", nil)
		if err != nil {
			return err
		}
		request.SetBasicAuth(b.User, password)
		a, err := b.ask(request)
		if err := first(err, expect("basic authentication", a.status, want)); err != nil {
			return err
		}
	}
	return nil
}

func lockFollowsPower(b *bench) error {
	running, err := b.folder(b.client, "GET", "db/db-flat.vmdk", "bytes=0-511", nil)
	if err != nil {
		return err
	}
	if err := b.control("POST", "/vm/db/power-off", nil, nil); err != nil {
		return err
	}
	stopped, err := b.folder(b.client, "GET", "db/db-flat.vmdk", "bytes=0-511", nil)
	if err != nil {
		return err
	}
	head, err := b.folder(b.client, "HEAD", "db/db-flat.vmdk", "", nil)
	if err != nil {
		return err
	}
	if err := b.control("POST", "/vm/db/power-on", nil, nil); err != nil {
		return err
	}
	descriptor, err := b.folder(b.client, "GET", "db/db.vmdk", "", nil)
	if err != nil {
		return err
	}
	missing, err := b.folder(b.client, "GET", "db/none", "", nil)
	if err != nil {
		return err
	}
	return first(
		expect("running", running.status, 500),
		expect("its answer", strings.Contains(string(running.body), "locked"), true),
		expect("stopped", stopped.status, 206),
		expect("content range", stopped.header.Get("Content-Range"), "bytes 0-511/50331648"),
		expect("length of HEAD", head.header.Get("Content-Length"), "50331648"),
		expect("descriptor names its extent", strings.Contains(string(descriptor.body), `RW 98304 VMFS "db-flat.vmdk"`), true),
		expect("missing", missing.status, 404),
	)
}

// create makes a VM with one thin disk of 8 MiB, as a restore does.
func (b *bench) create(name string, folder *object.Folder) (*object.VirtualMachine, error) {
	finder := find.NewFinder(b.client.Client)
	pool, err := finder.ResourcePool(b.ctx, "/DC0/host/DC0_C0/Resources")
	if err != nil {
		return nil, err
	}
	unit, thin := int32(0), true
	add := func(d types.BaseVirtualDevice, file types.VirtualDeviceConfigSpecFileOperation) types.BaseVirtualDeviceConfigSpec {
		return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd, FileOperation: file, Device: d}
	}
	scsi := &types.ParaVirtualSCSIController{}
	scsi.Key, scsi.SharedBus = -1, types.VirtualSCSISharingNoSharing
	disk := &types.VirtualDisk{CapacityInKB: 8192}
	disk.Key, disk.ControllerKey, disk.UnitNumber = -2, -1, &unit
	disk.Backing = &types.VirtualDiskFlatVer2BackingInfo{
		VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: "[lab-ds]"}, DiskMode: "persistent", ThinProvisioned: &thin,
	}
	nic := &types.VirtualVmxnet3{}
	nic.Key, nic.Backing = -3, &types.VirtualEthernetCardNetworkBackingInfo{
		VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "VM Network"}}
	task, err := folder.CreateVM(b.ctx, types.VirtualMachineConfigSpec{
		Name: name, GuestId: "debian11_64Guest", NumCPUs: 2, MemoryMB: 512, Version: "vmx-19",
		Files:        &types.VirtualMachineFileInfo{VmPathName: "[lab-ds]"},
		DeviceChange: []types.BaseVirtualDeviceConfigSpec{add(scsi, ""), add(disk, types.VirtualDeviceConfigSpecFileOperationCreate), add(nic, "")},
	}, pool, nil)
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(b.ctx, nil)
	if err != nil {
		return nil, err
	}
	return object.NewVirtualMachine(b.client.Client, info.Result.(types.ManagedObjectReference)), nil
}

func (b *bench) root() (*object.Folder, error) {
	dc, err := find.NewFinder(b.client.Client).Datacenter(b.ctx, "DC0")
	if err != nil {
		return nil, err
	}
	folders, err := dc.Folders(b.ctx)
	if err != nil {
		return nil, err
	}
	return folders.VmFolder, nil
}

func vmIsMadeAndFilled(b *bench) error {
	folder, err := b.root()
	if err != nil {
		return err
	}
	vm, err := b.create("restored", folder)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.State, "ds/lab-ds/restored")
	flat := filepath.Join(dir, "restored-flat.vmdk")
	fresh, err := os.Stat(flat)
	if err != nil {
		return err
	}
	p, err := b.properties(vm)
	if err != nil {
		return err
	}
	// The middle is zeros, so the stored file has a hole there.
	content := make([]byte, 8<<20)
	if _, err := io.ReadFull(rand.Reader, content[:1<<20]); err != nil {
		return err
	}
	copy(content[8<<20-100:], "the end")
	put, err := b.folder(b.client, "PUT", "restored/restored-flat.vmdk", "", bytes.NewReader(content))
	if err != nil {
		return err
	}
	stored, err := os.Stat(flat)
	if err != nil {
		return err
	}
	read, err := b.folder(b.client, "GET", "restored/restored-flat.vmdk", "", nil)
	if err != nil {
		return err
	}
	nvram, err := b.folder(b.client, "PUT", "restored/restored.nvram", "", strings.NewReader("nvram"))
	if err != nil {
		return err
	}
	astray, err := b.folder(b.client, "PUT", "nowhere/file", "", strings.NewReader("x"))
	if err != nil {
		return err
	}
	err = first(
		expect("size when new", fresh.Size(), int64(8<<20)),
		expect("key of the disk", len(object.VirtualDeviceList(p.Config.Hardware.Device).Select(func(d types.BaseVirtualDevice) bool { return d.GetVirtualDevice().Key == 2000 })), 1),
		expect("PUT", put.status, 200), expect("PUT of nvram", nvram.status, 200),
		expect("PUT into no directory", astray.status, 404),
		expect("content comes back", bytes.Equal(read.body, content), true),
		expect("zeros take no room", stored.Sys().(*syscall.Stat_t).Blocks < 4096, true),
	)
	if err != nil {
		return err
	}
	return b.startedVMIsLocked(vm, dir, content)
}

func (b *bench) startedVMIsLocked(vm *object.VirtualMachine, dir string, content []byte) error {
	task, err := vm.PowerOn(b.ctx)
	if err != nil {
		return err
	}
	if err := task.Wait(b.ctx); err != nil {
		return err
	}
	put, err := b.folder(b.client, "PUT", "restored/restored-flat.vmdk", "", bytes.NewReader(content))
	if err != nil {
		return err
	}
	destroy := func() error {
		task, err := vm.Destroy(b.ctx)
		if err != nil {
			return err
		}
		return task.Wait(b.ctx)
	}
	running := faultName(destroy())
	if task, err = vm.PowerOff(b.ctx); err != nil {
		return err
	}
	if err := first(task.Wait(b.ctx), destroy()); err != nil {
		return err
	}
	_, err = os.Stat(dir)
	return first(
		expect("PUT to a running disk", put.status, 500),
		expect("destroying a running vm", running, "InvalidPowerState"),
		expect("files are gone", os.IsNotExist(err), true),
	)
}

func namesAreUniquePerFolder(b *bench) error {
	folder, err := b.root()
	if err != nil {
		return err
	}
	_, twice := b.create("web", folder)
	sub, err := folder.CreateFolder(b.ctx, "elsewhere")
	if err != nil {
		return err
	}
	vm, err := b.create("web", sub)
	if err != nil {
		return err
	}
	p, err := b.properties(vm)
	if err != nil {
		return err
	}
	task, err := vm.Destroy(b.ctx)
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(b.State, "ds/lab-ds/web/web-flat.vmdk"))
	return first(
		task.Wait(b.ctx), err,
		expect("the same name in the same folder", faultName(twice), "DuplicateName"),
		expect("vmx of the third web", p.Config.Files.VmPathName, "[lab-ds] web_2/web.vmx"),
	)
}

// labEndsWithParent starts a lab from a shell that then ends.
func labEndsWithParent(b *bench) error {
	state := filepath.Join(b.dir, "orphan")
	script := fmt.Sprintf(`%s --state %s --spec %s --die-with-parent >%s.out 2>&1 & echo $!; until grep -q url %s.out; do sleep 0.05; done`,
		b.binary, state, filepath.Join(b.dir, "spec.json"), state, state)
	out, err := exec.Command("bash", "-c", script).Output()
	if err != nil {
		return err
	}
	pid := strings.TrimSpace(string(out))
	gone := within(5*time.Second, func() bool {
		text, err := os.ReadFile("/proc/" + pid + "/cmdline")
		return err != nil || len(text) == 0
	})
	return expect("the orphan is gone", gone, true)
}
