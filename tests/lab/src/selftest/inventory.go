package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func identityIsTrusted(b *bench) error {
	text, err := os.ReadFile(b.CaPem)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s is no PEM", b.CaPem)
	}
	sum := sha256.Sum256(block.Bytes)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	request, err := http.NewRequest("GET", b.URL+"/sdk/vimServiceVersions.xml", nil)
	if err != nil {
		return err
	}
	answer, err := b.ask(request) // trusts the file alone
	if err != nil {
		return err
	}
	return first(
		expect("fingerprint", b.Sha256, hex.EncodeToString(sum[:])),
		certificate.VerifyHostname("127.0.0.1"), certificate.VerifyHostname("localhost"),
		expect("status", answer.status, 200),
		expect("versions name 8.0.3.0", strings.Contains(string(answer.body), "<version>8.0.3.0</version>"), true),
	)
}

func inventoryIsAsSpecified(b *bench) error {
	inner, err := b.vm("DC0/vm/prod/eu/web")
	if err != nil {
		return err
	}
	outer, err := b.vm("DC0/vm/web")
	if err != nil {
		return err
	}
	p, err := b.properties(inner)
	if err != nil {
		return err
	}
	q, err := b.properties(outer)
	if err != nil {
		return err
	}
	empty, err := b.vm("DC0/vm/diskless")
	if err != nil {
		return err
	}
	devices, err := empty.Device(b.ctx)
	if err != nil {
		return err
	}
	kinds := map[string]int{}
	for _, d := range p.Config.Hardware.Device {
		kinds[typeName(d)]++
	}
	nvram, err := b.folder(b.client, "GET", "web/web.nvram", "", nil)
	if err != nil {
		return err
	}
	return first(
		expect("same names", p.Name, q.Name),
		expect("bios uuids differ", p.Config.Uuid != q.Config.Uuid, true),
		expect("instance uuids differ", p.Config.InstanceUuid != q.Config.InstanceUuid, true),
		expect("vmx of the second web", q.Config.Files.VmPathName, "[lab-ds] web_1/web.vmx"),
		expect("pvscsi", kinds["ParaVirtualSCSIController"], 1),
		expect("vmxnet3", kinds["VirtualVmxnet3"], 1),
		expect("disks", kinds["VirtualDisk"], 3),
		expect("disks of diskless", len(devices.SelectByType((*types.VirtualDisk)(nil))), 0),
		expect("annotation", p.Config.Annotation, "front"),
		expect("tracking", *p.Config.ChangeTrackingEnabled, true),
		expect("tools", p.Guest.ToolsRunningStatus, "guestToolsRunning"),
		expect("power", p.Runtime.PowerState, types.VirtualMachinePowerStatePoweredOn),
		expect("power of the second", q.Runtime.PowerState, types.VirtualMachinePowerStatePoweredOff),
		expect("nvram size", len(nvram.body), 8684),
	)
}

// propertiesPage reads all VMs by two, and finds the token spent afterwards.
func propertiesPage(b *bench) error {
	manager := view.NewManager(b.client.Client)
	container, err := manager.CreateContainerView(b.ctx, b.client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return err
	}
	defer container.Destroy(b.ctx)
	skip, path := true, "view"
	request := types.RetrievePropertiesEx{
		This: property.DefaultCollector(b.client.Client).Reference(),
		SpecSet: []types.PropertyFilterSpec{{
			PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name"}}},
			ObjectSet: []types.ObjectSpec{{Obj: container.Reference(), Skip: &skip, SelectSet: []types.BaseSelectionSpec{
				&types.TraversalSpec{Type: "ContainerView", Path: path},
			}}},
		}},
		Options: types.RetrieveOptions{MaxObjects: 2},
	}
	response, err := methods.RetrievePropertiesEx(b.ctx, b.client, &request)
	if err != nil {
		return err
	}
	page, token := response.Returnval, ""
	pages, seen := 1, len(page.Objects)
	for page.Token != "" {
		if len(page.Objects) > 2 {
			return fmt.Errorf("a page of %d objects", len(page.Objects))
		}
		token = page.Token
		next, err := methods.ContinueRetrievePropertiesEx(b.ctx, b.client, &types.ContinueRetrievePropertiesEx{This: request.This, Token: token})
		if err != nil {
			return err
		}
		page = &next.Returnval
		pages, seen = pages+1, seen+len(page.Objects)
	}
	_, err = methods.ContinueRetrievePropertiesEx(b.ctx, b.client, &types.ContinueRetrievePropertiesEx{This: request.This, Token: token})
	return first(expect("objects", seen, 6), expect("pages", pages, 3), expect("a spent token", faultName(err), "InvalidArgument"))
}
