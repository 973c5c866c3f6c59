package main

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

type guestEvent struct {
	Kind, Detail string
	Pid          int64
	ExitCode     *int `json:"exit_code"`
}

func (l *lab) guestEvents(vm string) ([]guestEvent, error) {
	var list []guestEvent
	return list, l.control("GET", "/vm/"+vm+"/guest/events", nil, &list)
}

func kinds(events []guestEvent) []string {
	list := []string{}
	for _, e := range events {
		list = append(list, e.Kind)
	}
	return list
}

// tree answers the only snapshot of a VM.
func (b *bench) tree(vm *object.VirtualMachine) (*types.VirtualMachineSnapshotTree, error) {
	p, err := b.properties(vm)
	if err != nil {
		return nil, err
	}
	if p.Snapshot == nil || len(p.Snapshot.RootSnapshotList) != 1 {
		return nil, fmt.Errorf("%s has not one snapshot", vm.Reference().Value)
	}
	return &p.Snapshot.RootSnapshotList[0], nil
}

// quiescing is one try with one guest.
type quiescing struct {
	name     string
	vm       string
	guest    fields
	spec     types.BaseVirtualMachineGuestQuiesceSpec
	fault    string
	quiesced bool
	manifest []string // files of the archive, or the end of its name
}

func windowsSpec(context string) types.BaseVirtualMachineGuestQuiesceSpec {
	return &types.VirtualMachineWindowsQuiesceSpec{VssBackupContext: context, VssBackupType: 5}
}

// quiescingGoesAsTheGuestDoes plays every guest that the ladder must get right.
func quiescingGoesAsTheGuestDoes(b *bench) error {
	plain := &types.VirtualMachineGuestQuiesceSpec{Timeout: 5}
	full := []string{"backup.xml", "writer0.xml", "writer1.xml", "writer2.xml"}
	cases := []quiescing{
		{"linux", "web", fields{}, plain, "", true, []string{"quiesce_manifest"}},
		{"old tools", "web", fields{"tools": "old"}, plain, "", true, nil},
		{"tools do not run", "web", fields{"tools": "not-running"}, plain, "", false, nil},
		{"no tools", "web", fields{"tools": "absent"}, plain, "", false, nil},
		{"silent downgrade", "web", fields{"downgrade": true}, plain, "", false, nil},
		{"script fails", "web", fields{"freeze_script": "fails"}, plain, "ApplicationQuiesceFault", false, nil},
		{"frozen too long", "web", fields{"hold_seconds": 9, "hold_limit_seconds": 0.2}, plain, "FilesystemQuiesceFault", false, nil},
		{"timeout", "web", fields{"freeze_seconds": 9, "minute_seconds": 0.04}, plain, "ApplicationQuiesceFault", false, nil},
		{"vss", "win", fields{}, windowsSpec("ctx_auto"), "", true, full},
		{"vss without a context", "win", fields{}, plain, "", true, full},
		{"vss for files", "win", fields{}, windowsSpec("ctx_file_share_backup"), "", true, full[:1]},
		{"vss fails", "win", fields{"vss": "failing"}, windowsSpec("ctx_backup"), "ApplicationQuiesceFault", false, nil},
		{"vss falls back", "win", fields{"vss": "failing"}, windowsSpec("ctx_auto"), "", true, full[:1]},
		{"vss without uuids", "win", fields{"enable_uuid": false}, windowsSpec("ctx_backup"), "", true, full[:1]},
		{"sync driver", "win", fields{"vss": "off"}, windowsSpec("ctx_backup"), "", true, nil},
		{failedWriter, "win", fields{"writers": []fields{{"name": "A & B", "id": "w", "state": "failed", "components": []string{"store"}}}},
			windowsSpec("ctx_backup"), "", true, full[:2]},
	}
	for _, c := range cases {
		if err := b.tryQuiescing(c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return b.cancelQuiescing()
}

var restored = fields{
	"tools": "running", "downgrade": false, "freeze_script": "ok", "freeze_seconds": 0, "hold_seconds": 0, "hold_limit_seconds": 0,
	"minute_seconds": 60, "vss": "ok", "enable_uuid": nil, "denied": nil, "operations": "on", "stun_us": 0,
}

func (b *bench) tryQuiescing(c quiescing) error {
	name, path := map[string]string{"web": web, "win": "win"}[c.vm], map[string]string{"web": "DC0/vm/prod/eu/web", "win": "DC0/vm/win"}[c.vm]
	vm, err := b.vm(path)
	if err != nil {
		return err
	}
	if err := first(b.control("POST", "/vm/"+name+"/guest", restored, nil), b.control("POST", "/vm/"+name+"/guest", c.guest, nil)); err != nil {
		return err
	}
	snapshot, err := b.snapshot(vm, c.name, c.spec)
	if err := expect("fault", faultName(err), c.fault); err != nil || c.fault != "" {
		return first(err, b.control("POST", "/vm/"+name+"/guest", restored, nil))
	}
	tree, err := b.tree(vm)
	if err != nil {
		return err
	}
	err = first(
		expect("quiesced", tree.Quiesced, c.quiesced),
		expect("a manifest", tree.BackupManifest != "", len(c.manifest) > 0),
		b.checkManifest(c, tree.BackupManifest),
		b.removeSnapshot(snapshot), b.control("POST", "/vm/"+name+"/guest", restored, nil),
	)
	if err != nil || tree.BackupManifest == "" {
		return err
	}
	gone, err := b.folder(b.client, "GET", c.vm+"/"+tree.BackupManifest, "", nil)
	return first(err, expect("the manifest without its snapshot", gone.status, 404))
}

const failedWriter = "a writer that failed"

func (b *bench) checkManifest(c quiescing, name string) error {
	if len(c.manifest) == 0 {
		return nil
	}
	read, err := b.folder(b.client, "GET", c.vm+"/"+name, "", nil)
	if err := first(err, expect("status of "+name, read.status, 200)); err != nil {
		return err
	}
	if !strings.HasSuffix(name, ".zip") {
		return expect("a Linux manifest", bytes.Contains(read.body, []byte("<providerName>")), strings.Contains(name, c.manifest[0]))
	}
	archive, err := zip.NewReader(bytes.NewReader(read.body), int64(len(read.body)))
	if err != nil {
		return err
	}
	files := []string{}
	for _, f := range archive.File {
		files = append(files, f.Name)
	}
	content, err := archive.File[0].Open()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(content)
	return first(err, expect("files", files, c.manifest), expect("a failed writer", strings.Contains(string(text), `backupSucceeded="no"`), c.name == failedWriter), expect("writers in the components document",
		strings.Count(string(text), "<WRITER_COMPONENTS"), len(c.manifest)-1))
}

// cancelQuiescing gives up a snapshot whose guest does not come to rest.
func (b *bench) cancelQuiescing() error {
	vm, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	if err := b.control("POST", "/vm/"+web+"/guest", fields{"freeze_seconds": 30}, nil); err != nil {
		return err
	}
	response, err := methods.CreateSnapshotEx_Task(b.ctx, b.client, &types.CreateSnapshotEx_Task{
		This: vm.Reference(), Name: "cancelled", QuiesceSpec: &types.VirtualMachineGuestQuiesceSpec{}})
	if err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	task := object.NewTask(b.client.Client, response.Returnval)
	if err := task.Cancel(b.ctx); err != nil {
		return err
	}
	_, err = task.WaitForResult(b.ctx, nil)
	return first(expect("fault", faultName(err), "RequestCanceled"), b.control("POST", "/vm/"+web+"/guest", restored, nil))
}

// scriptsRunAroundTheFreeze puts scripts of Tools into the guest and looks at the order of events and at the log.
func scriptsRunAroundTheFreeze(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	var guest struct{ Dir string }
	if err := b.control("POST", "/vm/"+web+"/guest", fields{"stun_us": 123456}, &guest); err != nil {
		return err
	}
	dir := filepath.Join(guest.Dir, "etc/vmware-tools/backupScripts.d")
	script := "#!/bin/sh\necho \"$(basename $0) $1\" >>/var/log/order\n"
	for _, name := range []string{"10-first", "20-second"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			return err
		}
	}
	if err := b.control("DELETE", "/vm/"+web+"/guest/events", nil, nil); err != nil {
		return err
	}
	snapshot, err := b.snapshot(vm, "scripts", &types.VirtualMachineGuestQuiesceSpec{})
	if err != nil {
		return err
	}
	events, err := b.guestEvents(web)
	if err != nil {
		return err
	}
	order, err := os.ReadFile(filepath.Join(guest.Dir, "var/log/order"))
	if err != nil {
		return err
	}
	if err := first(
		expect("order of scripts", string(order), "10-first freeze\n20-second freeze\n20-second thaw\n10-first thaw\n"),
		expect("events", kinds(events), []string{"script", "script", "frozen", "snapshot", "thawed", "script", "script"}),
		b.removeSnapshot(snapshot), os.Remove(filepath.Join(guest.Dir, "var/log/order")),
		os.WriteFile(filepath.Join(dir, "20-second"), []byte(script+"[ $1 != freeze ]\n"), 0o755),
	); err != nil {
		return err
	}
	_, failed := b.snapshot(vm, "scripts", &types.VirtualMachineGuestQuiesceSpec{})
	order, err = os.ReadFile(filepath.Join(guest.Dir, "var/log/order"))
	if err != nil {
		return err
	}
	text, err := b.folder(b.client, "GET", "web/vmware.log", "", nil)
	return first(err,
		expect("a script that fails", faultName(failed), "ApplicationQuiesceFault"),
		expect("order when it fails", string(order), "10-first freeze\n20-second freeze\n20-second freezeFail\n10-first freezeFail\n"),
		expect("vmware.log tells the stun", bytes.Contains(text.body, []byte("Checkpoint_Unstun: vm stopped for 123456 us\n")), true),
		os.Remove(filepath.Join(dir, "10-first")), os.Remove(filepath.Join(dir, "20-second")),
		b.control("POST", "/vm/"+web+"/guest", restored, nil),
	)
}

// operator does guest operations on one VM.
type operator struct {
	*bench
	vm            types.ManagedObjectReference
	auth          *types.NamePasswordAuthentication
	process, file types.ManagedObjectReference
}

func (b *bench) operator(path string) (*operator, error) {
	vm, err := b.vm(path)
	if err != nil {
		return nil, err
	}
	var manager mo.GuestOperationsManager
	if err := b.client.RetrieveOne(b.ctx, *b.client.ServiceContent.GuestOperationsManager, nil, &manager); err != nil {
		return nil, err
	}
	auth := &types.NamePasswordAuthentication{Username: "root", Password: "guest"}
	return &operator{b, vm.Reference(), auth, *manager.ProcessManager, *manager.FileManager}, nil
}

func (o *operator) start(program, arguments string) (int64, error) {
	response, err := methods.StartProgramInGuest(o.ctx, o.client, &types.StartProgramInGuest{
		This: o.process, Vm: o.vm, Auth: o.auth, Spec: &types.GuestProgramSpec{ProgramPath: program, Arguments: arguments, EnvVariables: []string{"COLOUR=blue"}}})
	if err != nil {
		return 0, err
	}
	return response.Returnval, nil
}

func (o *operator) wait(pid int64) (int32, error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		response, err := methods.ListProcessesInGuest(o.ctx, o.client, &types.ListProcessesInGuest{This: o.process, Vm: o.vm, Auth: o.auth, Pids: []int64{pid}})
		if err != nil {
			return 0, err
		}
		if len(response.Returnval) == 1 && response.Returnval[0].EndTime != nil {
			return response.Returnval[0].ExitCode, nil
		}
	}
	return 0, fmt.Errorf("process %d does not end", pid)
}

func (o *operator) transfer(method, address string, body []byte) (*answer, error) {
	request, err := http.NewRequest(method, strings.Replace(address, "*", "127.0.0.1", 1), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return o.ask(request)
}

func (o *operator) push(name string, content []byte, mode int64, overwrite bool) (string, error) {
	response, err := methods.InitiateFileTransferToGuest(o.ctx, o.client, &types.InitiateFileTransferToGuest{
		This: o.file, Vm: o.vm, Auth: o.auth, GuestFilePath: name, FileSize: int64(len(content)), Overwrite: overwrite,
		FileAttributes: &types.GuestPosixFileAttributes{Permissions: mode}})
	if err != nil {
		return "", err
	}
	sent, err := o.transfer("PUT", response.Returnval, content)
	return response.Returnval, first(err, expect("status of a PUT", sent.status, 200))
}

func (o *operator) pull(name string) (string, []byte, error) {
	response, err := methods.InitiateFileTransferFromGuest(o.ctx, o.client, &types.InitiateFileTransferFromGuest{This: o.file, Vm: o.vm, Auth: o.auth, GuestFilePath: name})
	if err != nil {
		return "", nil, err
	}
	got, err := o.transfer("GET", response.Returnval.Url, nil)
	return response.Returnval.Url, got.body, first(err, expect("status of a GET", got.status, 200), expect("size", response.Returnval.Size, int64(len(got.body))))
}

// guestsRunPrograms pushes a script, runs it, and fetches what it wrote.
func guestsRunPrograms(b *bench) error {
	o, err := b.operator("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	made, err := methods.CreateTemporaryFileInGuest(b.ctx, b.client, &types.CreateTemporaryFileInGuest{This: o.file, Vm: o.vm, Auth: o.auth, Prefix: "hook", Suffix: ".sh"})
	if err != nil {
		return err
	}
	name := made.Returnval
	used, err := o.push(name, []byte("#!/bin/sh\necho $1 $COLOUR $(pwd) $0; exit 7\n"), 0o700, true)
	if err != nil {
		return err
	}
	pid, err := o.start(name, "before >/tmp/out 2>&1")
	if err != nil {
		return err
	}
	code, err := o.wait(pid)
	if err != nil {
		return err
	}
	address, output, err := o.pull("/tmp/out")
	if err != nil {
		return err
	}
	again, err := o.transfer("GET", address, nil)
	if err != nil {
		return err
	}
	late, err := o.transfer("PUT", used, []byte("x"))
	if err != nil {
		return err
	}
	zero, err := o.start("/bin/true", "")
	if err != nil {
		return err
	}
	zeroCode, err := o.wait(zero)
	return first(err,
		expect("exit code", code, int32(7)), expect("output", string(output), "before blue /root "+name+"\n"),
		expect("an address used twice", again.status, 404), expect("an upload used twice", late.status, 404),
		expect("exit code of true", zeroCode, int32(0)), b.exitCodeIsTold(o, zero), b.guestRefusals(o), b.longProgramsEnd(o), b.hooksSurroundTheFreeze(o),
	)
}

// exitCodeIsTold looks at the text of the answer: 0 must be there and not be left out.
func (b *bench) exitCodeIsTold(o *operator, pid int64) error {
	body := fmt.Sprintf(`<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body><ListProcessesInGuest xmlns="urn:vim25"><_this type="GuestProcessManager">%s</_this><vm type="VirtualMachine">%s</vm><auth xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="NamePasswordAuthentication"><interactiveSession>false</interactiveSession><username>root</username><password>guest</password></auth><pids>%d</pids></ListProcessesInGuest></Body></Envelope>`,
		o.process.Value, o.vm.Value, pid)
	request, err := http.NewRequest("POST", b.URL+"/sdk", strings.NewReader(body))
	if err != nil {
		return err
	}
	for _, cookie := range b.client.Client.Client.Jar.Cookies(b.client.URL()) {
		request.AddCookie(cookie)
	}
	got, err := b.ask(request)
	return first(err, expect("exit code in "+string(got.body), bytes.Contains(got.body, []byte("<exitCode>0</exitCode>")), true))
}

// guestRefusals asks what a guest refuses.
func (b *bench) guestRefusals(o *operator) error {
	start := func(guest fields, auth *types.NamePasswordAuthentication, program string) string {
		if err := b.control("POST", "/vm/"+web+"/guest", guest, nil); err != nil {
			return err.Error()
		}
		p := *o
		p.auth = auth
		_, err := p.start(program, "")
		if err := b.control("POST", "/vm/"+web+"/guest", restored, nil); err != nil {
			return err.Error()
		}
		return faultName(err)
	}
	_, exists := o.push("/tmp/out", nil, 0, false)
	_, _, missing := o.pull("/tmp/nothing")
	wrong := &types.NamePasswordAuthentication{Username: "root", Password: "wrong"}
	return first(
		expect("wrong password", start(fields{}, wrong, "/bin/true"), "InvalidGuestLogin"),
		expect("no tools", start(fields{"tools": "absent"}, o.auth, "/bin/true"), "ToolsUnavailable"),
		expect("tools do not run", start(fields{"tools": "not-running"}, o.auth, "/bin/true"), "GuestOperationsUnavailable"),
		expect("operations off", start(fields{"operations": "off"}, o.auth, "/bin/true"), "OperationDisabledByGuest"),
		expect("denied", start(fields{"denied": []string{"/opt"}}, o.auth, "/opt/x"), "GuestPermissionDenied"),
		expect("missing program", start(fields{}, o.auth, "/bin/nonsense"), "FileNotFound"),
		expect("a file that exists", faultName(exists), "FileAlreadyExists"),
		expect("a missing file", faultName(missing), "FileNotFound"),
	)
}

func (b *bench) longProgramsEnd(o *operator) error {
	pid, err := o.start("/bin/sleep", "60")
	if err != nil {
		return err
	}
	_, err = methods.TerminateProcessInGuest(b.ctx, b.client, &types.TerminateProcessInGuest{This: o.process, Vm: o.vm, Auth: o.auth, Pid: pid})
	if err != nil {
		return err
	}
	_, err = o.wait(pid)
	if err != nil {
		return err
	}
	_, err = methods.TerminateProcessInGuest(b.ctx, b.client, &types.TerminateProcessInGuest{This: o.process, Vm: o.vm, Auth: o.auth, Pid: pid})
	return expect("ending it twice", faultName(err), "GuestProcessNotFound")
}

// hooksSurroundTheFreeze is the order that a backup with hooks must have.
func (b *bench) hooksSurroundTheFreeze(o *operator) error {
	if err := b.control("DELETE", "/vm/"+web+"/guest/events", nil, nil); err != nil {
		return err
	}
	run := func() error {
		pid, err := o.start("/bin/true", "")
		if err != nil {
			return err
		}
		_, err = o.wait(pid)
		return err
	}
	if err := run(); err != nil {
		return err
	}
	snapshot, err := b.snapshot(object.NewVirtualMachine(b.client.Client, o.vm), "hooks", &types.VirtualMachineGuestQuiesceSpec{})
	if err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	events, err := b.guestEvents(web)
	return first(err, expect("events", kinds(events),
		[]string{"hook-start", "hook-end", "frozen", "snapshot", "thawed", "hook-start", "hook-end"}), b.removeSnapshot(snapshot))
}
