// Quiescing a guest before a snapshot, and thawing it after.
package simulator

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// quiesced is a guest that stands still; the zero value is one that was not asked to or could not.
type quiesced struct {
	on       bool
	since    time.Time
	manifest []byte // for backupManifest, nil for none
	name     string // of its file, without the VM's name and the snapshot's number
	thaws    []string
}

// quiesce freezes the guest, if it was asked for and Tools run, or says why it could not. Without running Tools
// vSphere takes the snapshot all the same and says nothing.
func (vm *VirtualMachine) quiesce(task *Task, spec snapshotSpec) (*quiesced, types.BaseMethodFault) {
	b := Lab.behaviour(vm)
	if spec.quiesce == nil || !Lab.toolsRun(vm) || b.Downgrade {
		return &quiesced{}, nil
	}
	q := &quiesced{on: true}
	if fault := q.runScripts(vm, b); fault != nil {
		return nil, fault
	}
	wait, timedOut := freezeTime(b, spec.quiesce)
	if !Lab.pause(task, wait) {
		q.undo(vm, "cancelled")
		return nil, &types.RequestCanceled{}
	}
	if timedOut {
		q.undo(vm, "timeout")
		return nil, &types.ApplicationQuiesceFault{}
	}
	if fault := q.describe(vm, b, spec.quiesce); fault != nil {
		q.undo(vm, "writers failed")
		return nil, fault
	}
	q.since = time.Now()
	Lab.note(vm, GuestEvent{Kind: "frozen"})
	return q, nil
}

// freezeTime bounds the guest's time by the timeout of the quiesce spec, which is in minutes.
func freezeTime(b GuestBehaviour, spec types.BaseVirtualMachineGuestQuiesceSpec) (float64, bool) {
	limit := float64(spec.GetVirtualMachineGuestQuiesceSpec().Timeout) * b.MinuteSeconds
	if limit > 0 && b.FreezeSeconds > limit {
		return limit, true
	}
	return b.FreezeSeconds, false
}

// describe decides what the guest reports of its quiescing.
func (q *quiesced) describe(vm *VirtualMachine, b GuestBehaviour, spec types.BaseVirtualMachineGuestQuiesceSpec) types.BaseMethodFault {
	if !b.isWindows() {
		if b.Tools != "old" { // which know no manifest
			q.manifest, q.name = linuxManifest(), "quiesce_manifest%d.xml"
		}
		return nil
	}
	if b.Vss == "off" {
		return nil // the sync driver alone leaves no manifest
	}
	request := vssRequest(spec)
	writers := b.Writers
	able := b.hasUUID() && b.Tools != "old" && b.Vss != "bcd-only" && request.VssBackupContext != "ctx_file_share_backup"
	if able && b.Vss == "failing" {
		if request.VssBackupContext != "ctx_auto" {
			return &types.ApplicationQuiesceFault{}
		}
		able = false
	}
	if !able {
		writers = nil
	}
	archive, err := vssArchive(request, writers)
	if err != nil {
		log.Printf("vss manifest of %s: %s", vm.Name, err)
		return &types.ApplicationQuiesceFault{}
	}
	q.manifest, q.name = archive, "vss_manifests%d.zip"
	return nil
}

// vssRequest is what Tools ask of VSS, with their defaults where the client says nothing.
func vssRequest(spec types.BaseVirtualMachineGuestQuiesceSpec) types.VirtualMachineWindowsQuiesceSpec {
	request := types.VirtualMachineWindowsQuiesceSpec{}
	if w, ok := spec.(*types.VirtualMachineWindowsQuiesceSpec); ok {
		request = *w
	}
	if request.VssBackupContext == "" {
		request.VssBackupContext = "ctx_backup"
	}
	if request.VssBackupType == 0 {
		request.VssBackupType = vssCopy
	}
	return request
}

// runScripts runs the guest's own freeze scripts as Tools do, in ascending order.
func (q *quiesced) runScripts(vm *VirtualMachine, b GuestBehaviour) types.BaseMethodFault {
	if b.FreezeScript == "fails" {
		Lab.note(vm, GuestEvent{Kind: "freeze-failed", Detail: "freeze script"})
		return &types.ApplicationQuiesceFault{}
	}
	if b.isWindows() {
		return nil
	}
	dir, err := Lab.guestDir(vm)
	if err != nil {
		log.Printf("guest of %s: %s", vm.Name, err)
		return &types.ApplicationQuiesceFault{}
	}
	entries, err := os.ReadDir(filepath.Join(dir, scriptDir))
	if err != nil {
		return nil // without that directory there is nothing to run
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		q.thaws = append(q.thaws, entry.Name())
		if !runScript(vm, entry.Name(), "freeze") {
			q.undo(vm, entry.Name())
			return &types.ApplicationQuiesceFault{}
		}
	}
	return nil
}

const scriptDir = "etc/vmware-tools/backupScripts.d"

func runScript(vm *VirtualMachine, name, phase string) bool {
	command, err := guestCommand(vm, "/"+scriptDir+"/"+name, phase, "/", nil)
	if err == nil {
		err = command.Run()
	}
	code := 0
	if err != nil {
		code = 1
		if command != nil && command.ProcessState != nil {
			code = command.ProcessState.ExitCode()
		}
	}
	Lab.note(vm, GuestEvent{Kind: "script", Detail: name + " " + phase, ExitCode: &code})
	return err == nil
}

// undo is what Tools do after a freeze that failed: the scripts that ran hear of it, the last one first.
func (q *quiesced) undo(vm *VirtualMachine, reason string) {
	Lab.note(vm, GuestEvent{Kind: "freeze-failed", Detail: reason})
	q.runThaws(vm, "freezeFail")
}

func (q *quiesced) runThaws(vm *VirtualMachine, phase string) {
	for i := len(q.thaws) - 1; i >= 0; i-- {
		runScript(vm, q.thaws[i], phase)
	}
	q.thaws = nil
}

// thaw lets the guest go on, and tells whether it was held for too long.
func (q *quiesced) thaw(vm *VirtualMachine, task *Task) types.BaseMethodFault {
	if !q.on {
		return nil
	}
	b := Lab.behaviour(vm)
	wait, tooLong := b.HoldSeconds-time.Since(q.since).Seconds(), false
	if limit := b.HoldLimitSeconds; limit > 0 && b.HoldSeconds > limit {
		wait, tooLong = limit-time.Since(q.since).Seconds(), true
	}
	went := Lab.pause(task, wait)
	Lab.note(vm, GuestEvent{Kind: "thawed", Detail: fmt.Sprintf("after %d ms", time.Since(q.since).Milliseconds())})
	q.runThaws(vm, "thaw")
	switch {
	case !went:
		return &types.RequestCanceled{}
	case tooLong:
		return &types.FilesystemQuiesceFault{}
	}
	return nil
}

// storeManifest puts the guest's report beside the snapshot and answers its name there.
func (q *quiesced) storeManifest(vm *VirtualMachine, id int32) (string, error) {
	if q.manifest == nil {
		return "", nil
	}
	name := vm.Name + "-" + fmt.Sprintf(q.name, id)
	file, err := localPath(vm, vm.Config.Files.SnapshotDirectory+"/"+name)
	if err != nil {
		return "", err
	}
	return name, os.WriteFile(file, q.manifest, 0o600)
}

func (vm *VirtualMachine) dropManifest(name string) {
	if name == "" {
		return
	}
	file, err := localPath(vm, vm.Config.Files.SnapshotDirectory+"/"+name)
	if err == nil {
		err = os.Remove(file)
	}
	if err != nil {
		log.Printf("remove manifest %s: %s", name, err)
	}
}
