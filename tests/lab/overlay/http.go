// What the program's HTTP layer needs from inside the package.
package simulator

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// ErrNotFound means that no datacenter, datastore or path fits.
var ErrNotFound = errors.New("not found")

// File is what a path below /folder means at this moment.
type File struct {
	Path     string // on this machine
	VM       string // moref of the VM whose disk it is, "" for other files
	VMName   string
	Locked   bool // a running VM holds it
	Frozen   bool
	Writable bool // a PUT may replace it
}

// Resolve maps a datastore path to the content that a request gets now.
func (l *labState) Resolve(dcPath, dsName, name string) (*File, error) {
	ds, err := findDatastore(dcPath, dsName)
	if err != nil {
		return nil, err
	}
	rel := strings.TrimPrefix(path.Clean("/"+name), "/")
	local := filepath.Join(ds.Info.GetDatastoreInfo().Url, rel)
	if file := l.diskContent(fmt.Sprintf("[%s] %s", ds.Name, rel)); file != nil {
		if file.Path == "" {
			file.Path = local
		}
		return file, nil
	}
	return &File{Path: local, Writable: true}, nil
}

func findDatastore(dcPath, name string) (*Datastore, error) {
	for _, e := range Map.All("Datacenter") {
		dc, ok := e.(*Datacenter)
		if !ok || (dcPath != "" && strings.Trim(dcPath, "/") != inventoryPath(dc)) {
			continue
		}
		if ds, ok := Map.FindByName(name, dc.Datastore).(*Datastore); ok {
			return ds, nil
		}
	}
	return nil, ErrNotFound
}

// diskContent finds the disk whose extent the datastore path names, in points before leaves.
func (l *labState) diskContent(file string) *File {
	var leaf *File
	for _, e := range Map.All("VirtualMachine") {
		vm, ok := e.(*VirtualMachine)
		if !ok {
			continue
		}
		var point *File
		Map.WithLock(vm, func() {
			for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
				if p, held := l.contentOf(vm, disk, file); held != nil {
					leaf = held
				} else if p != nil {
					point = p
				}
			}
		})
		if point != nil {
			return point
		}
	}
	return leaf
}

func (l *labState) contentOf(vm *VirtualMachine, disk *types.VirtualDisk, file string) (point, leaf *File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if diskFile(disk) == nil || Proxies.isForeign(vm.Self, disk.Key) {
		return nil, nil
	}
	c := l.guest(vm.Self).chain(disk)
	raw := isRaw(disk)
	deltas := Mounts.hasDeltas(c.root)
	for _, p := range c.points {
		if deltas && p.file != c.root {
			continue // what its descriptor names is no flat file
		}
		if extentFile(p.file, raw) == file {
			return &File{Path: p.freeze.Path, VM: vm.Self.Value, VMName: vm.Name, Frozen: true}, nil
		}
	}
	if extentFile(c.leaf, raw) != file {
		return nil, nil
	}
	live, err := livePath(vm, disk)
	if err != nil {
		return nil, nil
	}
	off := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
	held, written := Proxies.holds(c.leaf)
	return nil, &File{
		Path: live, VM: vm.Self.Value, VMName: vm.Name, Locked: !off || written, Writable: off && len(c.points) == 0 && !held,
	}
}

// VMOf answers the VM that a call on an object concerns, "" for none.
func (l *labState) VMOf(ref types.ManagedObjectReference) (moref, name string) {
	if s, ok := Map.Get(ref).(*VirtualMachineSnapshot); ok {
		ref = s.Vm
	}
	if vm, ok := Map.Get(ref).(*VirtualMachine); ok {
		return vm.Self.Value, vm.Name
	}
	return "", ""
}

// SessionIsLive tells whether a cookie's session exists, ending it first when it was idle for too long.
func SessionIsLive(key string, idle time.Duration) bool {
	manager := Map.SessionManager()
	session, ok := manager.getSession(key)
	if !ok {
		return false
	}
	if idle > 0 && time.Since(session.LastActiveTime) > idle {
		manager.delSession(key)
		return false
	}
	return true
}

// EndSession ends one session, or all of them for "".
func EndSession(key string) int {
	manager := Map.SessionManager()
	sessionMutex.Lock()
	defer sessionMutex.Unlock()
	ended := 0
	for k := range manager.sessions {
		if key == "" || k == key {
			delete(manager.sessions, k)
			ended++
		}
	}
	return ended
}

// NewFault makes an empty fault of a vim25 type.
func NewFault(name string) (types.BaseMethodFault, error) {
	kind, ok := vim25MapType(name)
	if !ok {
		return nil, fmt.Errorf("no vim25 type %s", name)
	}
	fault, ok := reflect.New(kind).Interface().(types.BaseMethodFault)
	if !ok {
		return nil, fmt.Errorf("%s is not a fault", name)
	}
	return fault, nil
}

// WriteFault answers a SOAP call with a fault, in upstream's encoding.
func WriteFault(w http.ResponseWriter, message string, fault types.BaseMethodFault) error {
	body := struct{ Fault *soapFault }{&soapFault{Code: "ServerFaultCode", String: message}}
	body.Fault.Detail.Fault = &faultDetail{fault}
	return writeEnvelope(w, http.StatusInternalServerError, body)
}

// WriteFailedTask answers a _Task call with a task that has ended in an error.
func WriteFailedTask(w http.ResponseWriter, method string, entity types.ManagedObjectReference, fault types.BaseMethodFault) error {
	name := lcFirst(strings.TrimSuffix(method, vTaskSuffix))
	task := CreateTask(entity, name, func(*Task) (types.AnyType, types.BaseMethodFault) { return nil, fault })
	text := fmt.Sprintf(`<%sResponse xmlns="urn:vim25"><returnval type="Task">%s</returnval></%sResponse>`, method, task.Run().Value, method)
	return writeEnvelope(w, http.StatusOK, struct {
		Text string `xml:",innerxml"`
	}{text})
}

func writeEnvelope(w http.ResponseWriter, status int, body interface{}) error {
	var out bytes.Buffer
	out.WriteString(xml.Header)
	err := xml.NewEncoder(&out).Encode(&soapEnvelope{
		Enc: "http://schemas.xmlsoap.org/soap/encoding/", Env: "http://schemas.xmlsoap.org/soap/envelope/",
		XSD: "http://www.w3.org/2001/XMLSchema", XSI: "http://www.w3.org/2001/XMLSchema-instance", Body: body,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(status)
	_, err = w.Write(out.Bytes())
	return err
}

// ServiceVersions lists what a client may speak, newest first.
func (s *Service) ServiceVersions(w http.ResponseWriter, r *http.Request) {
	known := []string{"8.0.3.0", "8.0.2.0", "8.0.1.0", "8.0.0.0", "7.0.3.0", "7.0.0.0", "6.7.3", "6.7", "6.5", "6.0", "5.5"}
	for len(known) > 1 && known[0] != Lab.APIVersion {
		known = known[1:]
	}
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, "%s<namespaces version=\"1.0\">\n <namespace>\n  <name>urn:vim25</name>\n  <version>%s</version>\n  <priorVersions>\n", xml.Header, Lab.APIVersion)
	for _, prior := range known[1:] {
		fmt.Fprintf(w, "   <version>%s</version>\n", prior)
	}
	fmt.Fprint(w, "  </priorVersions>\n </namespace>\n</namespaces>\n")
}

// CallOf reads the method and the object of a SOAP request.
func CallOf(body []byte) (string, types.ManagedObjectReference, error) {
	var this types.ManagedObjectReference
	decoder := xml.NewDecoder(bytes.NewReader(body))
	method, inBody := "", false
	for {
		token, err := decoder.Token()
		if err != nil {
			return method, this, err
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
		case method == "" && inBody:
			method = start.Name.Local
		case method == "" && start.Name.Local == "Body":
			inBody = true
		case method != "":
			if start.Name.Local != "_this" {
				return method, this, nil
			}
			return method, this, decoder.DecodeElement(&this, &start)
		}
	}
}

var _ soap.HasFault = (*serverFaultBody)(nil)
