package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sysfs is a directory that looks as /sys does on Linux in a VM, as far as disks and their controllers go.
type sysfs struct {
	root string // holds sys and dev
}

func (s sysfs) sys(parts ...string) string {
	return filepath.Join(append([]string{s.root, "sys"}, parts...)...)
}

func (s sysfs) dev(parts ...string) string {
	return filepath.Join(append([]string{s.root, "dev"}, parts...)...)
}

// put writes attributes, each with the newline that the kernel gives them.
func put(dir string, attributes map[string]string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, value := range attributes {
		if value != "" {
			value += "\n"
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// link makes a relative symbolic link, as all of sysfs are.
func link(target, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	relative, err := filepath.Rel(filepath.Dir(name), target)
	if err != nil {
		return err
	}
	return os.Symlink(relative, name)
}

// pciPath answers the bridge and the function that VMware's slot number means: bits 0-4 are the device below
// bits 5-9, a bridge that the firmware puts at 00:15 and up, and bits 10-12 the bridge's function.
func pciPath(slot int32) (bridge, function string) {
	device, number, part := slot&31, slot>>5&31, slot>>10&7
	if number == 0 {
		return "", fmt.Sprintf("0000:00:%02x.0", device)
	}
	bus := 3 + 8*(number-5) + part
	return fmt.Sprintf("0000:00:%02x.%d", 0x10+number, part), fmt.Sprintf("0000:%02x:%02x.0", bus, device)
}

// firmware shows the VM's uuid as SMBIOS 2.6 does: its first three fields are little-endian.
func (s sysfs) firmware(uuid string) error {
	raw, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(raw) != 16 {
		return fmt.Errorf("%q is no uuid", uuid)
	}
	serial := fmt.Sprintf("VMware-% x-% x", raw[:8], raw[8:])
	raw[0], raw[1], raw[2], raw[3], raw[4], raw[5], raw[6], raw[7] = raw[3], raw[2], raw[1], raw[0], raw[5], raw[4], raw[7], raw[6]
	product := fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
	dir := s.sys("devices/virtual/dmi/id")
	if err := put(dir, map[string]string{
		"product_uuid": product, "product_serial": serial, "sys_vendor": "VMware, Inc.", "product_name": "VMware20,1",
	}); err != nil {
		return err
	}
	return link(dir, s.sys("class/dmi/id"))
}

// scsiHost is a controller as the guest's kernel numbers it.
type scsiHost struct {
	Number int   `json:"host"`
	Slot   int32 `json:"slot"`
	Bus    int32 `json:"bus"` // in vSphere's configuration, which the guest does not see
	dir    string
}

func (s sysfs) addHost(h *scsiHost, driver string) error {
	bridge, function := pciPath(h.Slot)
	pci := s.sys("devices/pci0000:00", bridge, function)
	h.dir = filepath.Join(pci, fmt.Sprintf("host%d", h.Number))
	name := fmt.Sprintf("host%d", h.Number)
	class := filepath.Join(h.dir, "scsi_host", name)
	if err := put(class, map[string]string{"scan": "", "proc_name": driver, "state": "running"}); err != nil {
		return err
	}
	return first(
		put(pci, map[string]string{"vendor": "0x15ad", "device": "0x07c0", "class": "0x010700"}),
		put(s.sys("bus/pci/slots", fmt.Sprint(h.Slot)), map[string]string{"address": strings.TrimSuffix(function, ".0")}),
		link(h.dir, filepath.Join(class, "device")),
		link(class, s.sys("class/scsi_host", name)),
		link(h.dir, s.sys("bus/scsi/devices", name)),
		link(pci, s.sys("bus/pci/devices", function)),
	)
}

func (s sysfs) removeHost(h *scsiHost) error {
	_, function := pciPath(h.Slot)
	name := fmt.Sprintf("host%d", h.Number)
	return first(
		os.Remove(s.sys("class/scsi_host", name)), os.Remove(s.sys("bus/scsi/devices", name)), os.Remove(s.sys("bus/pci/devices", function)),
		os.RemoveAll(s.sys("bus/pci/slots", fmt.Sprint(h.Slot))), os.RemoveAll(filepath.Dir(h.dir)),
	)
}

// scanFile is where the guest asks for its devices to be looked for.
func (h *scsiHost) scanFile() string {
	return filepath.Join(h.dir, "scsi_host", fmt.Sprintf("host%d", h.Number), "scan")
}

// address is H:C:T:L; VMware's controllers have the unit as the target.
func (h *scsiHost) address(unit int32) string { return fmt.Sprintf("%d:0:%d:0", h.Number, unit) }

func (h *scsiHost) device(unit int32) string {
	return filepath.Join(h.dir, fmt.Sprintf("target%d:0:%d", h.Number, unit), h.address(unit))
}

func (s sysfs) addDisk(h *scsiHost, d *guestDisk) error {
	address, device := h.address(d.Unit), h.device(d.Unit)
	block := filepath.Join(device, "block", d.Name)
	class := filepath.Join(device, "scsi_device", address)
	number := fmt.Sprintf("%d:%d", d.loop.major, d.loop.minor)
	id, page := naa(d.UUID)
	// The block device comes last: a reader who sees it finds the rest.
	if err := first(
		put(device, map[string]string{
			"delete": "", "rescan": "", "vendor": "VMware  ", "model": "Virtual disk    ", "type": "0", "state": "running", "wwid": "naa." + id,
		}),
		os.WriteFile(filepath.Join(device, "vpd_pg83"), page, 0o444),
		os.MkdirAll(class, 0o755),
		link(device, filepath.Join(class, "device")),
		link(class, s.sys("class/scsi_device", address)),
		link(device, s.sys("bus/scsi/devices", address)),
	); err != nil {
		return err
	}
	ready := block + ".making"
	if err := first(
		put(filepath.Join(ready, "queue"), map[string]string{"logical_block_size": "512", "physical_block_size": "512", "rotational": "0"}),
		put(ready, map[string]string{"size": fmt.Sprint(d.Capacity / 512), "ro": "0", "removable": "0", "dev": number}),
		os.MkdirAll(s.dev("disk/by-id"), 0o755),
	); err != nil {
		return err
	}
	return first(
		os.Symlink(d.loop.path, s.dev(d.Name)),
		s.nameByID(id, d.Name),
		os.Rename(ready, block),
		link(device, filepath.Join(block, "device")),
		link(block, s.sys("block", d.Name)), link(block, s.sys("class/block", d.Name)),
	)
}

// nameByID lets the later of two disks with one identity have the name, as udev does.
func (s sysfs) nameByID(id, disk string) error {
	name := s.dev("disk/by-id", "wwn-0x"+id)
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink("../../"+disk, name)
}

func pointsTo(name, target string) bool {
	got, err := os.Readlink(name)
	return err == nil && got == target
}

func (s sysfs) removeDisk(h *scsiHost, d *guestDisk) error {
	address := h.address(d.Unit)
	id, _ := naa(d.UUID)
	if name := s.dev("disk/by-id", "wwn-0x"+id); pointsTo(name, "../../"+d.Name) {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return first(
		os.Remove(s.dev(d.Name)),
		os.Remove(s.sys("block", d.Name)), os.Remove(s.sys("class/block", d.Name)),
		os.Remove(s.sys("class/scsi_device", address)), os.Remove(s.sys("bus/scsi/devices", address)),
		os.RemoveAll(filepath.Dir(h.device(d.Unit))),
	)
}

// naa is a disk's identity as with disk.EnableUUID, and the page 0x83 that carries it.
func naa(uuid string) (string, []byte) {
	id := strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(uuid))
	raw, err := hex.DecodeString(id)
	if err != nil {
		return id, nil
	}
	page := append([]byte{0, 0x83, 0, byte(4 + len(raw)), 0x01, 0x03, 0, byte(len(raw))}, raw...)
	return id, page
}
