// Guest operations: programs in the directory that plays the guest.
package simulator

import (
	"errors"
	"log"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// guestProcess is a program that was started in a guest; its exit code is known for five minutes.
type guestProcess struct {
	name, owner, line string
	start             time.Time
	end               *time.Time
	exit              int32
}

const processKept = 5 * time.Minute

// guestOf finds the VM of a guest operation and checks that Tools would carry it out for this account.
func guestOf(ref types.ManagedObjectReference, auth types.BaseGuestAuthentication) (*VirtualMachine, types.BaseMethodFault) {
	vm, ok := Map.Get(ref).(*VirtualMachine)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: ref}
	}
	b := Lab.behaviour(vm)
	var power types.VirtualMachinePowerState
	Map.WithLock(vm, func() { power = vm.Runtime.PowerState })
	switch {
	case power != types.VirtualMachinePowerStatePoweredOn:
		return nil, &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: power}
	case b.Tools == "absent":
		return nil, &types.ToolsUnavailable{}
	case !b.toolsRun():
		return nil, &types.GuestOperationsUnavailable{}
	case b.Operations == "off":
		return nil, &types.OperationDisabledByGuest{}
	}
	account, ok := auth.(*types.NamePasswordAuthentication)
	if !ok || account.Username != b.User || account.Password != b.Password {
		return nil, &types.InvalidGuestLogin{}
	}
	return vm, nil
}

// guestPath maps a path of the guest to this machine. There is no way out of the guest's directory but a
// link that a program in it has made.
func guestPath(vm *VirtualMachine, name string) (string, types.BaseMethodFault) {
	if !strings.HasPrefix(name, "/") {
		return "", &types.InvalidArgument{InvalidProperty: "path"}
	}
	clean := path.Clean(name)
	for _, denied := range Lab.behaviour(vm).Denied {
		if clean == denied || strings.HasPrefix(clean, strings.TrimSuffix(denied, "/")+"/") {
			return "", &types.GuestPermissionDenied{}
		}
	}
	dir, err := Lab.guestDir(vm)
	if err != nil {
		log.Printf("guest of %s: %s", vm.Name, err)
		return "", &types.GuestOperationsFault{}
	}
	return filepath.Join(dir, clean), nil
}

// guestFileFault says as vSphere does what this machine said of a file.
func guestFileFault(name string, err error) types.BaseMethodFault {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &types.FileNotFound{FileFault: types.FileFault{File: name}}
	case errors.Is(err, os.ErrExist):
		return &types.FileAlreadyExists{FileFault: types.FileFault{File: name}}
	case errors.Is(err, os.ErrPermission):
		return &types.GuestPermissionDenied{}
	}
	return &types.FileFault{File: name}
}

// guestCommand runs the program through a shell, as Tools for Linux do, with the guest's directory as its root.
func guestCommand(vm *VirtualMachine, program, arguments, workingDir string, env []string) (*exec.Cmd, error) {
	dir, err := Lab.guestDir(vm)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if workingDir == "" {
		workingDir = "/root"
	}
	command := exec.Command(self, "in-guest", dir, workingDir, `"`+program+`" `+arguments)
	command.Env = append([]string{"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "USER=root", "SHELL=/bin/sh"}, env...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		group := []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings, command.SysProcAttr.GidMappings = one, group
	}
	return command, nil
}

// RunInGuest is the other end of guestCommand: it makes the directory its root and becomes the program.
func RunInGuest(dir, workingDir, line string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	for _, name := range append([]string{"dev", "proc"}, programDirs...) {
		if !isDirectory(filepath.Join(dir, name)) {
			continue // a link, or nothing
		}
		if err := syscall.Mount("/"+name, filepath.Join(dir, name), "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return err
		}
	}
	if !isDirectory(filepath.Join(dir, "usr")) {
		return os.ErrNotExist
	}
	if err := syscall.Chroot(dir); err != nil {
		return err
	}
	if err := os.Chdir(workingDir); err != nil {
		return err
	}
	shell := "/bin/bash"
	if _, err := os.Stat(shell); err != nil {
		shell = "/bin/sh"
	}
	return syscall.Exec(shell, []string{shell, "-c", line}, os.Environ())
}

// StartProgramInGuest answers the process id of this machine.
func (m *GuestProcessManager) StartProgramInGuest(ctx *Context, req *types.StartProgramInGuest) soap.HasFault {
	pid, fault := startProgram(req)
	if fault != nil {
		return &methods.StartProgramInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.StartProgramInGuestBody{Res: &types.StartProgramInGuestResponse{Returnval: pid}}
}

func startProgram(req *types.StartProgramInGuest) (int64, types.BaseMethodFault) {
	vm, fault := guestOf(req.Vm, req.Auth)
	if fault != nil {
		return 0, fault
	}
	spec := req.Spec.GetGuestProgramSpec()
	if fault := checkProgram(vm, spec); fault != nil {
		return 0, fault
	}
	command, err := guestCommand(vm, spec.ProgramPath, spec.Arguments, spec.WorkingDirectory, spec.EnvVariables)
	if err != nil {
		return 0, guestFileFault(spec.ProgramPath, err)
	}
	b := Lab.behaviour(vm)
	process := &guestProcess{name: path.Base(spec.ProgramPath), owner: b.User, line: strings.TrimSpace(spec.ProgramPath + " " + spec.Arguments), start: time.Now().UTC()}
	if err := command.Start(); err != nil {
		log.Printf("start %s in %s: %s", spec.ProgramPath, vm.Name, err)
		return 0, &types.GuestOperationsFault{}
	}
	pid := int64(command.Process.Pid)
	Lab.mu.Lock()
	Lab.guest(vm.Self).processes[pid] = process
	Lab.mu.Unlock()
	Lab.note(vm, GuestEvent{Kind: "hook-start", Detail: process.line, Pid: pid})
	go awaitProcess(vm, command, process)
	return pid, nil
}

func awaitProcess(vm *VirtualMachine, command *exec.Cmd, process *guestProcess) {
	if err := command.Wait(); err != nil && command.ProcessState == nil {
		log.Printf("wait for %s: %s", process.line, err)
	}
	code := command.ProcessState.ExitCode()
	end := time.Now().UTC()
	Lab.note(vm, GuestEvent{Kind: "hook-end", Detail: process.line, Pid: int64(command.Process.Pid), ExitCode: &code})
	Lab.mu.Lock()
	process.end, process.exit = &end, int32(code)
	Lab.mu.Unlock()
}

// checkProgram refuses what Tools would before they start anything. Nothing runs in a Windows guest here.
func checkProgram(vm *VirtualMachine, spec *types.GuestProgramSpec) types.BaseMethodFault {
	missing := &types.FileNotFound{FileFault: types.FileFault{File: spec.ProgramPath}}
	if b := Lab.behaviour(vm); b.isWindows() {
		return missing
	}
	local, fault := guestPath(vm, spec.ProgramPath)
	if fault != nil {
		return fault
	}
	first := strings.Split(strings.TrimPrefix(path.Clean(spec.ProgramPath), "/"), "/")[0]
	if contains(programDirs, first) {
		local = path.Clean(spec.ProgramPath)
	}
	st, err := os.Stat(local)
	switch {
	case err != nil || st.IsDir():
		return missing
	case st.Mode()&0o111 == 0:
		return &types.GuestPermissionDenied{}
	case spec.WorkingDirectory == "":
		return nil
	}
	dir, fault := guestPath(vm, spec.WorkingDirectory)
	if fault == nil && !isDirectory(dir) {
		return &types.FileNotFound{FileFault: types.FileFault{File: spec.WorkingDirectory}}
	}
	return fault
}

// ListProcessesInGuestResponse has an exit code of 0 where upstream's leaves it out.
type ListProcessesInGuestResponse struct {
	Returnval []guestProcessInfo `xml:"returnval,omitempty"`
}

type guestProcessInfo struct {
	Name      string     `xml:"name"`
	Pid       int64      `xml:"pid"`
	Owner     string     `xml:"owner"`
	CmdLine   string     `xml:"cmdLine"`
	StartTime time.Time  `xml:"startTime"`
	EndTime   *time.Time `xml:"endTime"`
	ExitCode  *int32     `xml:"exitCode"`
}

type listProcessesBody struct {
	Res    *ListProcessesInGuestResponse
	Fault_ *soap.Fault
}

// Fault makes this a SOAP answer.
func (b *listProcessesBody) Fault() *soap.Fault { return b.Fault_ }

// ListProcessesInGuest knows what guest operations have started, and nothing else of the guest.
func (m *GuestProcessManager) ListProcessesInGuest(ctx *Context, req *types.ListProcessesInGuest) soap.HasFault {
	vm, fault := guestOf(req.Vm, req.Auth)
	if fault != nil {
		return &listProcessesBody{Fault_: Fault("", fault)}
	}
	answer := &ListProcessesInGuestResponse{}
	Lab.mu.Lock()
	defer Lab.mu.Unlock()
	g := Lab.guest(vm.Self)
	for pid, p := range g.processes {
		if p.end != nil && time.Since(*p.end) > processKept {
			delete(g.processes, pid)
			continue
		}
		if len(req.Pids) > 0 && !containsPid(req.Pids, pid) {
			continue
		}
		info := guestProcessInfo{Name: p.name, Pid: pid, Owner: p.owner, CmdLine: p.line, StartTime: p.start, EndTime: p.end}
		if p.end != nil {
			code := p.exit
			info.ExitCode = &code
		}
		answer.Returnval = append(answer.Returnval, info)
	}
	return &listProcessesBody{Res: answer}
}

func containsPid(pids []int64, pid int64) bool {
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

// TerminateProcessInGuest asks the program and all that it started to end, and makes them a second later.
func (m *GuestProcessManager) TerminateProcessInGuest(ctx *Context, req *types.TerminateProcessInGuest) soap.HasFault {
	vm, fault := guestOf(req.Vm, req.Auth)
	if fault != nil {
		return &methods.TerminateProcessInGuestBody{Fault_: Fault("", fault)}
	}
	Lab.mu.Lock()
	process := Lab.guest(vm.Self).processes[req.Pid]
	running := process != nil && process.end == nil
	Lab.mu.Unlock()
	if !running {
		return &methods.TerminateProcessInGuestBody{Fault_: Fault("", &types.GuestProcessNotFound{Pid: req.Pid})}
	}
	signalGroup(req.Pid, syscall.SIGTERM)
	time.AfterFunc(time.Second, func() {
		Lab.mu.Lock()
		defer Lab.mu.Unlock()
		if process.end == nil {
			signalGroup(req.Pid, syscall.SIGKILL)
		}
	})
	return &methods.TerminateProcessInGuestBody{Res: &types.TerminateProcessInGuestResponse{}}
}

func signalGroup(pid int64, signal syscall.Signal) {
	if err := syscall.Kill(-int(pid), signal); err != nil && err != syscall.ESRCH {
		log.Printf("signal process group %d: %s", pid, err)
	}
}

// killGuest ends every program of a guest whose VM changes its power.
func (l *labState) killGuest(vm *VirtualMachine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for pid, p := range l.guest(vm.Self).processes {
		if p.end == nil {
			signalGroup(pid, syscall.SIGKILL)
		}
	}
}

// KillGuests ends every program of every guest.
func (l *labState) KillGuests() {
	for _, e := range Map.All("VirtualMachine") {
		if vm, ok := e.(*VirtualMachine); ok {
			l.killGuest(vm)
		}
	}
}

// GuestAuthManager checks accounts; upstream has none.
type GuestAuthManager struct {
	mo.GuestAuthManager
}

// AddGuestManagers completes upstream's guest operations.
func (l *labState) AddGuestManagers() {
	manager := Map.Get(*Map.content().GuestOperationsManager).(*GuestOperationsManager)
	auth := &GuestAuthManager{}
	auth.Self = types.ManagedObjectReference{Type: "GuestAuthManager", Value: "guestOperationsAuthManager"}
	Map.Put(auth)
	manager.AuthManager = &auth.Self
}

// ValidateCredentialsInGuest answers nothing when the account is good.
func (m *GuestAuthManager) ValidateCredentialsInGuest(ctx *Context, req *types.ValidateCredentialsInGuest) soap.HasFault {
	if _, fault := guestOf(req.Vm, req.Auth); fault != nil {
		return &methods.ValidateCredentialsInGuestBody{Fault_: Fault("", fault)}
	}
	return &methods.ValidateCredentialsInGuestBody{Res: &types.ValidateCredentialsInGuestResponse{}}
}
