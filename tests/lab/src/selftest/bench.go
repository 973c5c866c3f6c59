package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// lab is one running lab.
type lab struct {
	URL, Control   string
	CaPem          string `json:"ca_pem"`
	Sha256         string
	User           string
	Password       string
	BackupUser     string `json:"backup_user"`
	BackupPassword string `json:"backup_password"`
	Datacenter     string
	Datastore      string
	State          string
	process        *exec.Cmd
}

// bench is a lab with a logged-in client, for the checks to share.
type bench struct {
	*lab
	binary, dir, images, golden string
	ctx                         context.Context
	client                      *govmomi.Client
	seed                        int
}

const spec = `{"datastores":["lab-ds","second"],"vms":[
 {"name":"web","folder":"prod/eu","disks":[{"file":"%[1]s"},{"file":"%[2]s"},{"mib":16,"mode":"independent_persistent"}],"cbt":true,"annotation":"front"},
 {"name":"web","disks":[{"file":"%[2]s"}],"power":"off","tools":"absent"},
 {"name":"db","folder":"prod","disks":[{"file":"%[2]s"},{"file":"%[2]s","rdm":"physical"}],"tools":"absent","cbt":true},
 {"name":"big","disks":[{"mib":40960,"thin":true}],"cbt":true},
 {"name":"win","guest_id":"windows2019srv_64Guest","disks":[{"mib":8}],"cbt":true,
  "pool":"gold/eu","networks":["VM Network","DC0_DVPG0"],"custom":{"owner":"sales & co","cost":"7"},"tags":["tier:gold","backup:daily"],"policy":"p-gold"},
 {"name":"diskless","power":"off"}]}`

func newBench(binary, images, dir string) (*bench, error) {
	text := fmt.Sprintf(spec, filepath.Join(images, "small-root.raw"), filepath.Join(images, "small-data.raw"))
	if err := os.WriteFile(filepath.Join(dir, "spec.json"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	b := &bench{binary: binary, dir: dir, images: images, ctx: context.Background()}
	var err error
	if b.lab, err = b.start("main", "--max-areas", "7", "--page-bytes", "4194304"); err != nil {
		return nil, err
	}
	b.client, err = b.lab.login(b.ctx)
	return b, err
}

func (b *bench) start(name string, args ...string) (*lab, error) {
	return b.startWith("spec.json", name, args...)
}

// another starts a lab of its own spec and logs in.
func (b *bench) another(name, spec string, args ...string) (*bench, error) {
	if err := os.WriteFile(filepath.Join(b.dir, name+".json"), []byte(spec), 0o644); err != nil {
		return nil, err
	}
	l, err := b.startWith(name+".json", name, args...)
	if err != nil {
		return nil, err
	}
	other := &bench{lab: l, binary: b.binary, dir: b.dir, images: b.images, ctx: b.ctx}
	other.client, err = l.login(b.ctx)
	return other, err
}

func (b *bench) startWith(spec, name string, args ...string) (*lab, error) {
	args = append([]string{"--state", filepath.Join(b.dir, name), "--spec", filepath.Join(b.dir, spec), "--die-with-parent"}, args...)
	command := exec.Command(b.binary, args...)
	log, err := os.Create(filepath.Join(b.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	command.Stderr = log
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the lab said nothing, see %s: %w", log.Name(), err)
	}
	l := &lab{process: command}
	return l, json.Unmarshal(line, l)
}

func (l *lab) stop() error {
	if err := l.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return l.process.Wait()
}

func (b *bench) close() error { return b.stop() }

func (l *lab) login(ctx context.Context) (*govmomi.Client, error) {
	u, err := url.Parse(l.URL + "/sdk")
	if err != nil {
		return nil, err
	}
	transport := soap.NewClient(u, false)
	if err := transport.SetRootCAs(l.CaPem); err != nil {
		return nil, err
	}
	vim, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return nil, err
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	return client, client.Login(ctx, url.UserPassword(l.User, l.Password))
}

// control calls the control endpoint.
func (l *lab) control(method, path string, body, into interface{}) error {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, l.Control+path, &text)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s %s: %s %s", method, path, response.Status, message)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

type fields map[string]interface{}

func (l *lab) fault(f fields) error { return l.control("POST", "/faults", f, nil) }

// https trusts the lab's certificate only.
func (l *lab) https() (*http.Client, error) {
	text, err := os.ReadFile(l.CaPem)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", l.CaPem)
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true,
	}}, nil
}

// answer is what a /folder request got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// folder asks for a file of the first datastore with the session of a client.
func (l *lab) folder(client *govmomi.Client, method, name, bytesRange string, body io.Reader) (*answer, error) {
	query := url.Values{"dcPath": {l.Datacenter}, "dsName": {l.Datastore}}
	request, err := http.NewRequest(method, l.URL+"/folder/"+(&url.URL{Path: name}).EscapedPath()+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	if bytesRange != "" {
		request.Header.Set("Range", bytesRange)
	}
	for _, cookie := range client.Client.Client.Jar.Cookies(client.URL()) {
		request.AddCookie(cookie)
	}
	return l.ask(request)
}

func (l *lab) ask(request *http.Request) (*answer, error) {
	https, err := l.https()
	if err != nil {
		return nil, err
	}
	response, err := https.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return &answer{response.StatusCode, response.Header, content}, err
}

// vm finds a VM by its inventory path.
func (b *bench) vm(path string) (*object.VirtualMachine, error) {
	ref, err := object.NewSearchIndex(b.client.Client).FindByInventoryPath(b.ctx, path)
	if err != nil {
		return nil, err
	}
	vm, ok := ref.(*object.VirtualMachine)
	if !ok {
		return nil, fmt.Errorf("%s is %v and no VM", path, ref)
	}
	return vm, nil
}

func (b *bench) properties(vm *object.VirtualMachine) (*mo.VirtualMachine, error) {
	var p mo.VirtualMachine
	return &p, vm.Properties(b.ctx, vm.Reference(), nil, &p)
}

// frozenDisk is a disk in snapshot.config.
type frozenDisk struct {
	key      int32
	file     string
	changeID string
	capacity int64
}

func (b *bench) snapshotDisks(ref types.ManagedObjectReference) (map[int32]frozenDisk, error) {
	var s mo.VirtualMachineSnapshot
	if err := b.client.RetrieveOne(b.ctx, ref, []string{"config"}, &s); err != nil {
		return nil, err
	}
	disks := map[int32]frozenDisk{}
	for _, d := range s.Config.Hardware.Device {
		disk, ok := d.(*types.VirtualDisk)
		if !ok {
			continue
		}
		if flat, ok := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
			disks[disk.Key] = frozenDisk{disk.Key, flat.FileName, flat.ChangeId, disk.CapacityInBytes}
		}
	}
	return disks, nil
}

// freeze is an entry of GET /frozen.
type freeze struct {
	Snapshot, VM, Path string
	DiskKey            int32  `json:"disk_key"`
	ChangeID           string `json:"change_id"`
	Exists, Kept       bool
}

func (l *lab) freezes() ([]freeze, error) {
	var list []freeze
	return list, l.control("GET", "/frozen", nil, &list)
}

func (l *lab) freezeOf(snapshot types.ManagedObjectReference, key int32) (*freeze, error) {
	var list []freeze
	if err := l.control("GET", "/frozen", nil, &list); err != nil {
		return nil, err
	}
	for _, f := range list {
		if f.Snapshot == snapshot.Value && f.DiskKey == key {
			return &f, nil
		}
	}
	return nil, fmt.Errorf("no freeze of %s disk %d", snapshot.Value, key)
}

// extent is the path in the datastore of a descriptor's flat file.
func extent(descriptor string) string {
	name := descriptor[strings.Index(descriptor, "] ")+2:]
	return strings.TrimSuffix(name, ".vmdk") + "-flat.vmdk"
}

// faultName answers the vim25 type in an error, "" when there is none.
func faultName(err error) string {
	type taskError interface{ Fault() types.BaseMethodFault }
	switch e := err.(type) {
	case nil:
		return ""
	case taskError:
		return typeName(e.Fault())
	}
	if soap.IsSoapFault(err) {
		return typeName(soap.ToSoapFault(err).VimFault())
	}
	return err.Error()
}

func typeName(v interface{}) string {
	t := reflect.TypeOf(v)
	for t != nil && t.Kind() == reflect.Ptr {
		t = t.Elem()
	}
	if t == nil {
		return "nothing"
	}
	return t.Name()
}

func expect(what string, got, want interface{}) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s is %v, not %v", what, got, want)
	}
	return nil
}

// first answers the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func within(limit time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if holds() {
			return true
		}
	}
	return holds()
}
