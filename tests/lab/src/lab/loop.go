package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// Loop devices, by the kernel's interface. Each clears itself when nobody has it open, so the lab's own handle
// is what keeps it: however the lab ends, its devices go, and no other's are ever touched.

const (
	loopGetFree   = 0x4C82
	loopConfigure = 0x4C0A
	loopSetStatus = 0x4C04

	loopReadOnly  = 1
	loopAutoclear = 4
)

// loopInfo is struct loop_info64.
type loopInfo struct {
	Device, Inode, Rdevice, Offset, SizeLimit uint64
	Number, EncryptType, EncryptKeySize       uint32
	Flags                                     uint32
	FileName, CryptName                       [64]byte
	EncryptKey                                [32]byte
	Init                                      [2]uint64
}

// loopConfig is struct loop_config.
type loopConfig struct {
	Fd, BlockSize uint32
	Info          loopInfo
	Reserved      [8]uint64
}

// loopDevice is one that the lab made.
type loopDevice struct {
	path         string
	major, minor uint32
	handle       *os.File
}

// attachLoop makes a block device of a file.
func attachLoop(file string, write bool) (*loopDevice, error) {
	mode, flags := os.O_RDONLY, uint32(loopAutoclear|loopReadOnly)
	if write {
		mode, flags = os.O_RDWR, loopAutoclear
	}
	backing, err := os.OpenFile(file, mode, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no loop devices, which need root: %w", err)
	}
	defer control.Close()
	for tries := 0; tries < 200; tries++ {
		device, err := freeLoop(control, mode, backing, flags)
		if errors.Is(err, syscall.EBUSY) {
			continue // somebody else took it in between
		}
		return device, err
	}
	return nil, errors.New("others take every loop device")
}

func freeLoop(control *os.File, mode int, backing *os.File, flags uint32) (*loopDevice, error) {
	number, _, errno := syscall.Syscall(syscall.SYS_IOCTL, control.Fd(), loopGetFree, 0)
	if errno != 0 {
		return nil, errno
	}
	path := fmt.Sprintf("/dev/loop%d", number)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		if err := syscall.Mknod(path, syscall.S_IFBLK|0o600, int(7<<8|number)); err != nil && !errors.Is(err, syscall.EEXIST) {
			return nil, err
		}
	}
	handle, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	config := loopConfig{Fd: uint32(backing.Fd()), Info: loopInfo{Flags: flags}}
	copy(config.Info.FileName[:63], backing.Name())
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, handle.Fd(), loopConfigure, uintptr(unsafe.Pointer(&config))); errno != 0 {
		handle.Close()
		return nil, errno
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(handle.Fd()), &st); err != nil {
		handle.Close()
		return nil, err
	}
	major, minor := uint32(st.Rdev>>8)&0xfff, uint32(st.Rdev&0xff)|uint32(st.Rdev>>12)&0xfff00
	return &loopDevice{path: path, major: major, minor: minor, handle: handle}, nil
}

// detach lets go of the device; it is free once its last reader has closed it.
func (d *loopDevice) detach() error { return d.handle.Close() }

// cut lets the device end after so many bytes, also for those who have it open: what lies behind is gone.
func (d *loopDevice) cut(bytes uint64) error {
	info := loopInfo{SizeLimit: bytes, Flags: loopAutoclear}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.handle.Fd(), loopSetStatus, uintptr(unsafe.Pointer(&info))); errno != 0 {
		return fmt.Errorf("cut %s: %w", d.path, errno)
	}
	return nil
}
