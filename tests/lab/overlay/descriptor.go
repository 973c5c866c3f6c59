// Disk descriptors and .vmx files, as far as anything reads them.
package simulator

import (
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
)

// Descriptor is the text of a .vmdk whose data lies in the file extent beside it.
func Descriptor(extent string, bytes int64, uuid string, thin, raw bool) string {
	kind, create := "VMFS", "vmfs"
	if raw {
		kind, create = "VMFSRDM", "vmfsRawDeviceMap"
	}
	sectors := bytes / 512
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08x\nparentCID=ffffffff\ncreateType=\"%s\"\n\n",
		crc32.ChecksumIEEE([]byte(extent+uuid)), create)
	fmt.Fprintf(&b, "# Extent description\nRW %d %s \"%s\"\n\n", sectors, kind, extent)
	fmt.Fprintf(&b, "# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"%d\"\n", sectors/(255*63))
	fmt.Fprintf(&b, "ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n")
	if thin {
		fmt.Fprintf(&b, "ddb.thinProvisioned = \"1\"\n")
	}
	fmt.Fprintf(&b, "ddb.uuid = \"%s\"\nddb.virtualHWVersion = \"19\"\n", uuid)
	return b.String()
}

func writeDescriptor(vm *VirtualMachine, disk *types.VirtualDisk, file string) error {
	local, err := localPath(vm, file)
	if err != nil {
		return err
	}
	raw := isRaw(disk)
	extent := filepath.Base(extentFile(local, raw))
	return os.WriteFile(local, []byte(Descriptor(extent, getDiskSize(disk), backingUUID(disk), isThin(disk), raw)), 0o600)
}

func isThin(disk *types.VirtualDisk) bool {
	b, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return ok && isTrue(b.ThinProvisioned)
}

func backingUUID(disk *types.VirtualDisk) string {
	switch b := disk.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return b.Uuid
	case *types.VirtualDiskRawDiskMappingVer1BackingInfo:
		return b.Uuid
	}
	return ""
}

// writeVmx describes the VM in its .vmx; upstream leaves that file empty.
func (vm *VirtualMachine) writeVmx() error {
	local, err := localPath(vm, vm.Config.Files.VmPathName)
	if err != nil {
		return err
	}
	var b strings.Builder
	line := func(key string, value interface{}) { fmt.Fprintf(&b, "%s = \"%v\"\n", key, value) }
	line(".encoding", "UTF-8")
	line("config.version", "8")
	line("virtualHW.version", strings.TrimPrefix(vm.Config.Version, "vmx-"))
	line("displayName", vm.Config.Name)
	line("guestOS", strings.TrimSuffix(vm.Config.GuestId, "Guest"))
	line("numvcpus", vm.Config.Hardware.NumCPU)
	line("memSize", vm.Config.Hardware.MemoryMB)
	line("firmware", vm.Config.Firmware)
	line("nvram", path.Base(vm.nvramFile()))
	line("uuid.bios", vm.Config.Uuid)
	line("vc.uuid", vm.Config.InstanceUuid)
	for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
		unit := int32(0)
		if disk.UnitNumber != nil {
			unit = *disk.UnitNumber
		}
		if file := diskFile(disk); file != nil {
			line(fmt.Sprintf("scsi%d:%d.fileName", disk.ControllerKey%1000, unit), path.Base(file.FileName))
		}
	}
	return os.WriteFile(local, []byte(b.String()), 0o600)
}

func (vm *VirtualMachine) nvramFile() string {
	return path.Join(path.Dir(vm.Config.Files.VmPathName), vm.Config.Name+".nvram")
}
