// Keys of devices and files of disks.
package simulator

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/vim25/types"
)

// assignKeys replaces the client's temporary keys by those that vSphere derives from bus and unit.
func assignKeys(existing []types.BaseVirtualDevice, changes []types.BaseVirtualDeviceConfigSpec) {
	taken := map[int32]bool{}
	for _, d := range existing {
		taken[d.GetVirtualDevice().Key] = true
	}
	renamed := map[int32]int32{}
	forAdded(changes, func(d types.BaseVirtualDevice) {
		if base := controllerBase(d); base != 0 {
			c := d.(types.BaseVirtualController).GetVirtualController()
			for taken[base+c.BusNumber] {
				c.BusNumber++
			}
			old := c.Key
			c.Key = base + c.BusNumber
			taken[c.Key] = true
			renamed[old] = c.Key
		}
	})
	forAdded(changes, func(d types.BaseVirtualDevice) {
		v := d.GetVirtualDevice()
		if key, ok := renamed[v.ControllerKey]; ok {
			v.ControllerKey = key
		}
		if key := deviceKey(d); key != 0 {
			for taken[key] {
				key++
			}
			v.Key = key
			taken[key] = true
		}
		label(d)
	})
}

func forAdded(changes []types.BaseVirtualDeviceConfigSpec, visit func(types.BaseVirtualDevice)) {
	for _, change := range changes {
		spec := change.GetVirtualDeviceConfigSpec()
		if spec.Operation == types.VirtualDeviceConfigSpecOperationAdd && spec.Device != nil {
			visit(spec.Device)
		}
	}
}

func controllerBase(d types.BaseVirtualDevice) int32 {
	switch d.(type) {
	case types.BaseVirtualSCSIController:
		return 1000
	case types.BaseVirtualSATAController:
		return 15000
	case *types.VirtualNVMEController:
		return 31000
	}
	return 0
}

// deviceKey answers the key that vSphere would choose first, 0 to leave the device alone.
func deviceKey(d types.BaseVirtualDevice) int32 {
	v := d.GetVirtualDevice()
	if _, ok := d.(types.BaseVirtualEthernetCard); ok {
		return 4000
	}
	_, disk := d.(*types.VirtualDisk)
	if !disk || v.UnitNumber == nil {
		return 0
	}
	switch controller := v.ControllerKey; {
	case controller >= 31000:
		return 32000 + (controller-31000)*15 + *v.UnitNumber
	case controller >= 15000:
		return 16000 + (controller-15000)*30 + *v.UnitNumber
	case controller >= 1000:
		return 2000 + (controller-1000)*16 + *v.UnitNumber
	}
	return 3000 + *v.UnitNumber
}

func label(d types.BaseVirtualDevice) {
	v := d.GetVirtualDevice()
	if v.DeviceInfo != nil {
		return
	}
	switch d.(type) {
	case types.BaseVirtualSCSIController:
		v.DeviceInfo = &types.Description{Label: fmt.Sprintf("SCSI controller %d", v.Key-1000)}
	case *types.VirtualDisk:
		v.DeviceInfo = &types.Description{Label: fmt.Sprintf("Hard disk %d", v.Key%1000+1)}
	case types.BaseVirtualEthernetCard:
		v.DeviceInfo = &types.Description{Label: fmt.Sprintf("Network adapter %d", v.Key-3999)}
	}
}

// diskSpec hands the disk itself to the file creation below.
type diskSpec struct {
	types.VirtualDiskSpec
	disk *types.VirtualDisk
}

// diskFileSpec is called from a patched line of upstream's configureDevice.
func diskFileSpec(disk *types.VirtualDisk) types.BaseVirtualDiskSpec {
	if disk.CapacityInBytes == 0 {
		disk.CapacityInBytes = disk.CapacityInKB * 1024
	}
	disk.CapacityInKB = disk.CapacityInBytes / 1024
	switch b := disk.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		if b.Uuid == "" {
			b.Uuid = newDiskUUID()
		}
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		if b.Uuid == "" {
			b.Uuid = newDiskUUID()
		}
	}
	return &diskSpec{disk: disk}
}

func newDiskUUID() string {
	id := uuid.New()
	return fmt.Sprintf("6000c29%x-%x-%x-%x-%x", id[0]&0xf, id[1:3], id[3:5], id[5:7], id[7:13])
}

// vdmCreateVirtualDisk makes a sparse extent of the disk's size and its descriptor; upstream makes empty files.
func vdmCreateVirtualDisk(op types.VirtualDeviceConfigSpecFileOperation, req *types.CreateVirtualDisk_Task) types.BaseMethodFault {
	manager := Map.FileManager()
	descriptor, fault := manager.resolve(req.Datacenter, req.Name)
	if fault != nil {
		return fault
	}
	disk := diskOf(req)
	extent := extentFile(descriptor, isRaw(disk))
	_, err := os.Stat(descriptor)
	switch {
	case op == "" && err != nil:
		return manager.fault(req.Name, err, new(types.FileNotFound))
	case op == "":
		return extend(extent, disk.CapacityInBytes)
	case err == nil && op != types.VirtualDeviceConfigSpecFileOperationReplace:
		return manager.fault(req.Name, os.ErrExist, new(types.FileAlreadyExists))
	}
	text := Descriptor(filepath.Base(extent), disk.CapacityInBytes, backingUUID(disk), isThin(disk), isRaw(disk))
	if err := createDisk(descriptor, extent, text, disk.CapacityInBytes); err != nil {
		return manager.fault(req.Name, err, new(types.CannotCreateFile))
	}
	return nil
}

func diskOf(req *types.CreateVirtualDisk_Task) *types.VirtualDisk {
	switch spec := req.Spec.(type) {
	case *diskSpec:
		return spec.disk
	case *types.FileBackedVirtualDiskSpec:
		return &types.VirtualDisk{CapacityInBytes: spec.CapacityKb * 1024, CapacityInKB: spec.CapacityKb}
	}
	return &types.VirtualDisk{}
}

func createDisk(descriptor, extent, text string, capacity int64) error {
	// A disk on another datastore than its VM's has a directory there.
	if err := os.MkdirAll(filepath.Dir(extent), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(extent, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := f.Truncate(capacity); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.WriteFile(descriptor, []byte(text), 0o600)
}

// extend is what an edit of the capacity does to the extent; the extent of a delta does not exist.
func extend(extent string, capacity int64) types.BaseMethodFault {
	st, err := os.Stat(extent)
	if err != nil || st.Size() >= capacity {
		return nil
	}
	if err := os.Truncate(extent, capacity); err != nil {
		return &types.FileFault{File: extent}
	}
	return nil
}
