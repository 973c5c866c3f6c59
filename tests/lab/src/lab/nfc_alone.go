package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// aloneName is the VM, its disk and its directory.
const aloneName = "disk"

// serveAlone is a lab for a client of NFC that somebody else wrote: one stopped VM with one disk, and all that
// the client needs, with tickets, on standard output.
func serveAlone(args []string) error {
	var image string
	var mib int64
	o := parseWith(args, func(flags *flag.FlagSet) {
		flags.StringVar(&image, "image", "", "raw image that the disk begins as; it is copied")
		flags.Int64Var(&mib, "mib", 64, "size of the empty disk, without --image")
	})
	if o.state == "" {
		dir, err := os.MkdirTemp("", "lab-nfc-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.state = filepath.Join(dir, "state")
		o.spec = filepath.Join(dir, "spec.json")
	} else {
		o.spec = filepath.Clean(o.state) + ".spec.json"
	}
	if err := writeAloneSpec(o.spec, image, mib); err != nil {
		return err
	}
	return serve(o, tellAlone)
}

func writeAloneSpec(file, image string, mib int64) error {
	disk := map[string]interface{}{"mib": mib}
	if image != "" {
		path, err := filepath.Abs(image)
		if err != nil {
			return err
		}
		disk = map[string]interface{}{"file": path}
	}
	vm := map[string]interface{}{"name": aloneName, "power": "off", "disks": []interface{}{disk}}
	text, err := json.Marshal(map[string]interface{}{"vms": []interface{}{vm}})
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// tellAlone prints what the client needs, a word and its value on each line, and gives more tickets when asked
// for on standard input.
func tellAlone(v *vcenter, r ready) error {
	machines := simulator.Lab.Machines()
	if len(machines) != 1 || len(machines[0].Disks) != 1 {
		return fmt.Errorf("%d vms instead of one with one disk", len(machines))
	}
	vm, disk := machines[0], machines[0].Disks[0]
	grant, err := aloneGrant(vm.Moref, false)
	if err != nil {
		return err
	}
	h := v.nfc.host(grant.Host)
	address, port, err := net.SplitHostPort(h.Address)
	if err != nil {
		return err
	}
	for _, line := range [][2]string{
		{"host", address}, {"port", port}, {"thumbprint", h.Sha1}, {"sha256", h.Sha256}, {"certificate", h.Pem}, {"service", nfcServiceName},
		{"path", disk.File}, {"bytes", fmt.Sprint(disk.Capacity)}, {"file", disk.LiveFile},
		{"vcenter", r.URL}, {"user", r.User}, {"password", r.Password}, {"vcenter-certificate", r.CaPem}, {"vm", vm.Moref}, {"disk", fmt.Sprint(disk.Key)},
		{"control", r.Control},
	} {
		fmt.Printf("%s %s\n", line[0], line[1])
	}
	for _, kind := range []string{"read", "write"} {
		if err := printTicket(v, vm.Moref, kind); err != nil {
			return err
		}
	}
	go moreTickets(v, vm.Moref, os.Stdin)
	return nil
}

func moreTickets(v *vcenter, moref string, from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		if err := printTicket(v, moref, strings.TrimSpace(lines.Text())); err != nil {
			fmt.Fprintf(os.Stderr, "lab: %s\n", err)
		}
	}
}

func printTicket(v *vcenter, moref, kind string) error {
	if kind != "read" && kind != "write" {
		return fmt.Errorf("%q: say read or write for one more ticket", kind)
	}
	grant, err := aloneGrant(moref, kind == "write")
	if err != nil {
		return err
	}
	session, err := v.nfc.issue(grant, true)
	if err == nil {
		fmt.Printf("%s %s\n", kind, session)
	}
	return err
}

// aloneGrant asks the inventory as a call of NfcService does.
func aloneGrant(moref string, write bool) (*simulator.NfcGrant, error) {
	method := "NfcRandomAccessOpenReadonly"
	if write {
		method = "NfcRandomAccessOpenDisk"
	}
	body := fmt.Sprintf("<%[1]s><vm type=\"VirtualMachine\">%[2]s</vm><diskDeviceKey>2000</diskDeviceKey></%[1]s>", method, moref)
	service := types.ManagedObjectReference{Type: "NfcService", Value: simulator.NfcService}
	grant, fault := simulator.Lab.GrantNfc(method, service, []byte(body))
	if fault != nil {
		return nil, fmt.Errorf("%s: %T", method, fault)
	}
	return grant, nil
}
