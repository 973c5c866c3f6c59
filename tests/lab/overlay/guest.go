// How the guest of a VM behaves, and what was seen of it.
package simulator

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// GuestBehaviour is set by the spec and changed by the control endpoint.
type GuestBehaviour struct {
	Tools      string `json:"tools"`       // running, old, not-running, absent
	Family     string `json:"family"`      // linuxGuest, windowsGuest
	EnableUUID *bool  `json:"enable_uuid"` // disk.EnableUUID, which application quiescing of Windows needs

	FreezeScript     string  `json:"freeze_script"`      // ok, fails
	FreezeSeconds    float64 `json:"freeze_seconds"`     // until the guest is frozen
	HoldSeconds      float64 `json:"hold_seconds"`       // that it stays frozen, at least
	HoldLimitSeconds float64 `json:"hold_limit_seconds"` // frozen for longer: FilesystemQuiesceFault; 0 for no limit
	MinuteSeconds    float64 `json:"minute_seconds"`     // what a minute of a quiesce spec's timeout lasts here
	Downgrade        bool    `json:"downgrade"`          // does not quiesce, and says nothing

	Vss     string      `json:"vss"` // ok, failing, bcd-only, off
	Writers []VssWriter `json:"writers"`

	StunMicros int64 `json:"stun_us"` // what vmware.log tells of a stun; 0: how long it was

	User       string   `json:"user"`
	Password   string   `json:"password"`
	Denied     []string `json:"denied"`     // guest paths that the user may not touch
	Operations string   `json:"operations"` // on, off
	URLSeconds float64  `json:"url_seconds"`
}

// GuestReport is what the control endpoint tells of a guest.
type GuestReport struct {
	GuestBehaviour
	Dir string `json:"dir"` // plays its root directory
}

// GuestEvent is something that happened in or to a guest, in order.
type GuestEvent struct {
	Seq      int       `json:"seq"`
	At       time.Time `json:"at"`
	Kind     string    `json:"kind"` // hook-start, hook-end, script, frozen, freeze-failed, snapshot, thawed, removed
	Detail   string    `json:"detail,omitempty"`
	Pid      int64     `json:"pid,omitempty"`
	ExitCode *int      `json:"exit_code,omitempty"`
}

// DefaultGuest is a Linux guest in which everything works.
func DefaultGuest() GuestBehaviour {
	return GuestBehaviour{
		Tools: "running", Family: string(types.VirtualMachineGuestOsFamilyLinuxGuest), FreezeScript: "ok", Vss: "ok",
		Writers: defaultWriters(), MinuteSeconds: 60, User: "root", Password: "guest", Operations: "on", URLSeconds: 600,
	}
}

func (b *GuestBehaviour) check() error {
	fields := []struct {
		name, value string
		allowed     []string
	}{
		{"tools", b.Tools, []string{"running", "old", "not-running", "absent"}},
		{"family", b.Family, []string{"linuxGuest", "windowsGuest"}},
		{"freeze_script", b.FreezeScript, []string{"ok", "fails"}},
		{"vss", b.Vss, []string{"ok", "failing", "bcd-only", "off"}},
		{"operations", b.Operations, []string{"on", "off"}},
	}
	for _, f := range fields {
		if !contains(f.allowed, f.value) {
			return fmt.Errorf("%s is %q: give one of %s", f.name, f.value, strings.Join(f.allowed, ", "))
		}
	}
	return nil
}

func contains(list []string, value string) bool {
	for _, v := range list {
		if v == value {
			return true
		}
	}
	return false
}

func (b *GuestBehaviour) isWindows() bool {
	return b.Family == string(types.VirtualMachineGuestOsFamilyWindowsGuest)
}

func (b *GuestBehaviour) toolsRun() bool { return b.Tools == "running" || b.Tools == "old" }

// hasUUID is on for Windows unless it was set otherwise, as vSphere creates such VMs.
func (b *GuestBehaviour) hasUUID() bool {
	if b.EnableUUID != nil {
		return *b.EnableUUID
	}
	return b.isWindows()
}

// SetGuest changes the fields that the JSON has, nil for none, and shows them in the VM's properties.
func (l *labState) SetGuest(vm *VirtualMachine, change []byte) error {
	l.mu.Lock()
	g := l.guest(vm.Self)
	behaviour := g.behaviour
	l.mu.Unlock()
	if len(change) > 0 {
		decoder := json.NewDecoder(strings.NewReader(string(change)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&behaviour); err != nil {
			return fmt.Errorf("parse the guest: %w", err)
		}
	}
	if err := behaviour.check(); err != nil {
		return err
	}
	l.mu.Lock()
	g.behaviour = behaviour
	l.mu.Unlock()
	Map.WithLock(vm, func() {
		vm.publishTools()
		vm.publishUUID(behaviour.hasUUID())
	})
	return nil
}

func (l *labState) behaviour(vm *VirtualMachine) GuestBehaviour {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.guest(vm.Self).behaviour
}

func (vm *VirtualMachine) publishUUID(on bool) {
	extra := []types.BaseOptionValue{}
	for _, option := range vm.Config.ExtraConfig {
		if option.GetOptionValue().Key != "disk.EnableUUID" {
			extra = append(extra, option)
		}
	}
	if on {
		extra = append(extra, &types.OptionValue{Key: "disk.EnableUUID", Value: "TRUE"})
	}
	Map.Update(vm, []types.PropertyChange{{Name: "config.extraConfig", Val: extra}})
}

// Guest tells how the VM's guest behaves, and makes the directory that plays it.
func (l *labState) Guest(vm *VirtualMachine) (GuestReport, error) {
	dir, err := l.guestDir(vm)
	return GuestReport{GuestBehaviour: l.behaviour(vm), Dir: dir}, err
}

// GuestEvents lists what happened to a guest, oldest first.
func (l *labState) GuestEvents(vm *VirtualMachine) []GuestEvent {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]GuestEvent{}, l.guest(vm.Self).events...)
}

// ForgetGuestEvents begins a new list.
func (l *labState) ForgetGuestEvents(vm *VirtualMachine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guest(vm.Self).events = nil
}

func (l *labState) note(vm *VirtualMachine, event GuestEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guest(vm.Self)
	g.eventSeq++
	event.Seq, event.At = g.eventSeq, time.Now().UTC()
	g.events = append(g.events, event)
}

// guestDir makes the guest's root directory when it is first needed.
func (l *labState) guestDir(vm *VirtualMachine) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.guest(vm.Self)
	if g.dir != "" {
		return g.dir, nil
	}
	root := filepath.Join(l.Dir, "guests")
	dir := filepath.Join(root, freeDirectory(root, vm.Name))
	for _, name := range []string{"root", "home", "etc/vmware-tools/backupScripts.d", "opt", "srv", "run", "tmp", "var/log", "var/lib", "var/tmp", "dev", "proc"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky); err != nil {
		return "", err
	}
	account := "root:x:0:0:root:/root:/bin/sh\n"
	if err := os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte(account), 0o644); err != nil {
		return "", err
	}
	if err := linkPrograms(dir); err != nil {
		return "", err
	}
	g.dir = dir
	return dir, nil
}

// programDirs are this machine's, which the guest's programs see as their own.
var programDirs = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64"}

func linkPrograms(dir string) error {
	for _, name := range programDirs {
		target, err := os.Readlink("/" + name)
		switch {
		case err == nil:
			err = os.Symlink(target, filepath.Join(dir, name))
		case isDirectory("/" + name):
			err = os.Mkdir(filepath.Join(dir, name), 0o755)
		default:
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func isDirectory(path string) bool {
	st, err := os.Lstat(path)
	return err == nil && st.IsDir()
}

// logLine adds to vmware.log, which clients read through /folder.
func (vm *VirtualMachine) logLine(format string, values ...interface{}) {
	file, err := localPath(vm, vm.Config.Files.LogDirectory+"/vmware.log")
	if err != nil {
		log.Printf("log of %s: %s", vm.Name, err)
		return
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		log.Printf("log of %s: %s", vm.Name, err)
		return
	}
	defer f.Close()
	at := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	if _, err := fmt.Fprintf(f, "%s In(05) vcpu-0 - %s\n", at, fmt.Sprintf(format, values...)); err != nil {
		log.Printf("log of %s: %s", vm.Name, err)
	}
}

// logStun is what ESXi writes after each checkpoint.
func (vm *VirtualMachine) logStun(took time.Duration) {
	micros := took.Microseconds()
	if said := Lab.behaviour(vm).StunMicros; said > 0 {
		micros = said
	}
	vm.logLine("Checkpoint_Unstun: vm stopped for %d us", micros)
}
