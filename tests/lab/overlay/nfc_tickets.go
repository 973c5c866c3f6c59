// What a ticket for a host's NFC server is for: a VM, its disks and the host that can reach them.
//
// NfcService is not in the public WSDL, so upstream's types do not have it: the program's HTTP layer takes its
// calls and asks here what the inventory says to them.
package simulator

import (
	"bytes"
	"fmt"
	"net/http"
	"sort"
	"strings"

	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// NfcService is the managed object on vCenter.
const NfcService = "nfcService"

// NfcGrant is what a ticket lets its bearer do.
type NfcGrant struct {
	VM     string `json:"vm"`
	VMName string `json:"vm_name"`
	Disk   int32  `json:"disk"` // device key, 0 for every disk of the VM
	Write  bool   `json:"write"`
	Host   string `json:"host"` // moref of the host whose server takes the ticket
}

type nfcCall struct {
	VM            *types.ManagedObjectReference `xml:"vm"`
	DiskDeviceKey *int32                        `xml:"diskDeviceKey"`
	HostForAccess *types.ManagedObjectReference `xml:"hostForAccess"`
}

// IsNfcMethod tells whether NfcService has the method.
func IsNfcMethod(method string) bool {
	switch method {
	case "NfcGetVmFiles", "NfcRandomAccessOpenReadonly", "NfcRandomAccessOpenDisk", "NfcGetServerNfcLibVersion":
		return true
	}
	return false
}

// GrantNfc answers what a call of NfcService allows. For NfcGetServerNfcLibVersion that is only a host.
func (l *labState) GrantNfc(method string, this types.ManagedObjectReference, body []byte) (*NfcGrant, types.BaseMethodFault) {
	if this.Value != NfcService {
		return nil, &types.ManagedObjectNotFound{Obj: this}
	}
	call, err := nfcArguments(body)
	if err != nil {
		return nil, &types.InvalidArgument{InvalidProperty: "body"}
	}
	if method == "NfcGetServerNfcLibVersion" {
		host, fault := hostForNfc(nil, call.HostForAccess)
		return &NfcGrant{Host: host}, fault
	}
	if call.VM == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "vm"}
	}
	vm, ok := Map.Get(*call.VM).(*VirtualMachine)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: *call.VM}
	}
	grant := &NfcGrant{VM: vm.Self.Value, VMName: vm.Name, Write: method == "NfcRandomAccessOpenDisk"}
	var fault types.BaseMethodFault
	if method != "NfcGetVmFiles" {
		if grant.Disk, fault = diskForNfc(vm, call.DiskDeviceKey); fault != nil {
			return nil, fault
		}
	}
	grant.Host, fault = hostForNfc(vm, call.HostForAccess)
	return grant, fault
}

func nfcArguments(body []byte) (*nfcCall, error) {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		start, ok := token.(xml.StartElement)
		if ok && strings.HasPrefix(start.Name.Local, "Nfc") {
			call := &nfcCall{}
			return call, decoder.DecodeElement(call, &start)
		}
	}
}

// NfcVM answers the VM that a call of NfcService names.
func NfcVM(body []byte) types.ManagedObjectReference {
	call, err := nfcArguments(body)
	if err != nil || call.VM == nil {
		return types.ManagedObjectReference{}
	}
	return *call.VM
}

func diskForNfc(vm *VirtualMachine, key *int32) (int32, types.BaseMethodFault) {
	found := false
	Map.WithLock(vm, func() {
		for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
			found = found || (key != nil && disk.Key == *key)
		}
	})
	if !found {
		return 0, &types.InvalidArgument{InvalidProperty: "diskDeviceKey"}
	}
	return *key, nil
}

// hostForNfc takes the host that was asked for, else the VM's own, else any that is not in maintenance.
func hostForNfc(vm *VirtualMachine, asked *types.ManagedObjectReference) (string, types.BaseMethodFault) {
	if asked != nil && asked.Value != "" {
		if _, ok := Map.Get(*asked).(*HostSystem); !ok {
			return "", &types.ManagedObjectNotFound{Obj: *asked}
		}
		if !Lab.HostIsThere(asked.Value) {
			return "", &types.InvalidState{}
		}
		return asked.Value, nil
	}
	if vm != nil && vm.Runtime.Host != nil && Lab.HostIsThere(vm.Runtime.Host.Value) {
		return vm.Runtime.Host.Value, nil
	}
	for _, host := range Lab.Hosts() {
		if Lab.HostIsThere(host.Moref) {
			return host.Moref, nil
		}
	}
	return "", &types.InvalidState{}
}

// Host names one simulated ESXi host.
type Host struct {
	Moref string `json:"moref"`
	Name  string `json:"name"`
}

// Hosts lists all hosts by moref.
func (l *labState) Hosts() []Host {
	list := []Host{}
	for _, e := range Map.All("HostSystem") {
		if host, ok := e.(*HostSystem); ok {
			list = append(list, Host{Moref: host.Self.Value, Name: host.Name})
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Moref < list[j].Moref })
	return list
}

func hostSystem(moref string) (*HostSystem, bool) {
	host, ok := Map.Get(types.ManagedObjectReference{Type: "HostSystem", Value: moref}).(*HostSystem)
	return host, ok
}

// HostIsThere tells whether a host is not in maintenance mode.
func (l *labState) HostIsThere(moref string) bool {
	host, ok := hostSystem(moref)
	if !ok {
		return false
	}
	there := false
	Map.WithLock(host, func() { there = !host.Runtime.InMaintenanceMode })
	return there
}

// SetMaintenance lets a host come and go.
func (l *labState) SetMaintenance(moref string, on bool) error {
	host, ok := hostSystem(moref)
	if !ok {
		return fmt.Errorf("no host %s", moref)
	}
	Map.WithLock(host, func() {
		Map.Update(host, []types.PropertyChange{{Name: "runtime.inMaintenanceMode", Val: on}})
	})
	return nil
}

// PublishCertificate records a host's certificate where vCenter shows it.
func (l *labState) PublishCertificate(moref string, pem []byte, thumbprint string) {
	if host, ok := hostSystem(moref); ok {
		Map.WithLock(host, func() {
			host.Config.Certificate = pem
			host.Summary.Config.SslThumbprint = thumbprint
		})
	}
}

// NfcFile is what a datastore path means to the bearer of a ticket.
type NfcFile struct {
	Path     string
	Capacity int64
	Frozen   bool // a snapshot made it read-only
	Locked   bool // a running VM or an attached proxy holds it
}

// NfcOpen finds the disk whose descriptor the path names, nil when the ticket has none such.
func (l *labState) NfcOpen(grant *NfcGrant, name string) *NfcFile {
	vm, ok := Map.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: grant.VM}).(*VirtualMachine)
	p, fault := parseDatastorePath(name)
	if !ok || fault != nil {
		return nil
	}
	var found *NfcFile
	Map.WithLock(vm, func() {
		for _, disk := range virtualDisks(vm.Config.Hardware.Device) {
			if (grant.Disk == 0 || grant.Disk == disk.Key) && diskFile(disk) != nil && found == nil && !Proxies.isForeign(vm.Self, disk.Key) {
				found = l.nfcFile(vm, disk, p.String())
			}
		}
	})
	return found
}

func (l *labState) nfcFile(vm *VirtualMachine, disk *types.VirtualDisk, name string) *NfcFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.guest(vm.Self).chain(disk)
	for _, p := range c.points {
		if p.file == name {
			return &NfcFile{Path: p.freeze.Path, Capacity: p.freeze.Capacity, Frozen: true}
		}
	}
	live, err := livePath(vm, disk)
	if c.leaf != name || err != nil {
		return nil
	}
	off := vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff
	_, written := Proxies.holds(c.leaf)
	return &NfcFile{Path: live, Capacity: getDiskSize(disk), Locked: !off || written}
}

// WriteResult answers a call that upstream does not know, with the inner XML of its result.
func WriteResult(w http.ResponseWriter, method, attributes, inner string) error {
	text := fmt.Sprintf(`<%sResponse xmlns="urn:vim25"><returnval%s>%s</returnval></%sResponse>`, method, attributes, inner, method)
	return writeEnvelope(w, http.StatusOK, struct {
		Text string `xml:",innerxml"`
	}{text})
}

// NotAuthenticated is the fault of a call without a session.
func NotAuthenticated(this types.ManagedObjectReference) types.BaseMethodFault {
	return &types.NotAuthenticated{NoPermission: types.NoPermission{Object: this, PrivilegeId: "System.View"}}
}
