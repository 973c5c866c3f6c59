package main

import (
	"encoding/json"
	"net/http"
	"sort"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// configurationIsAsSpecified reads what surrounds a VM.
func configurationIsAsSpecified(b *bench) error {
	vm, err := b.vm("DC0/vm/win")
	if err != nil {
		return err
	}
	p, err := b.properties(vm)
	if err != nil {
		return err
	}
	var eu, gold mo.ResourcePool
	if err := b.client.RetrieveOne(b.ctx, *p.ResourcePool, []string{"name", "parent"}, &eu); err != nil {
		return err
	}
	if err := b.client.RetrieveOne(b.ctx, *eu.Parent, []string{"name"}, &gold); err != nil {
		return err
	}
	names := map[int32]string{}
	for _, field := range p.AvailableField {
		names[field.Key] = field.Name
	}
	values := []string{}
	for _, value := range p.CustomValue {
		text := value.(*types.CustomFieldStringValue)
		values = append(values, names[text.Key]+"="+text.Value)
	}
	sort.Strings(values)
	cards := []string{}
	for _, d := range p.Config.Hardware.Device {
		switch backing := d.GetVirtualDevice().Backing.(type) {
		case *types.VirtualEthernetCardNetworkBackingInfo:
			cards = append(cards, backing.DeviceName)
		case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
			cards = append(cards, strings.Split(backing.Port.PortgroupKey, "-")[0])
		}
	}
	return first(
		expect("pools", gold.Name+"/"+eu.Name, "gold/eu"),
		expect("custom attributes", values, []string{"cost=7", "owner=sales & co"}),
		expect("cards", cards, []string{"VM Network", "dvportgroup"}),
		b.tagsAndPolicies(vm.Reference().Value, "/api", "/api/session", "/api/cis/tagging", "action", "", `{"vm_home":"p-gold","disks":[{"key":"2000","value":"p-gold"}]}`),
		b.tagsAndPolicies(vm.Reference().Value, "/rest", "/rest/com/vmware/cis/session", "/rest/com/vmware/cis/tagging", "~action", "id:", `{"value":{"vm_home":"p-gold","disks":[{"key":"2000","value":"p-gold"}]}}`),
	)
}

// tagsAndPolicies asks in one of the two dialects.
func (b *bench) tagsAndPolicies(vm, root, session, tagging, action, mark, policy string) error {
	ask := func(method, path, id, body string) (*answer, error) {
		request, err := http.NewRequest(method, b.URL+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		if id == "" {
			request.SetBasicAuth(b.BackupUser, b.BackupPassword)
		} else {
			request.Header.Set("vmware-api-session-id", id)
		}
		if body != "" {
			request.Header.Set("Content-Type", "application/json")
		}
		return b.ask(request)
	}
	bare := func(a *answer, into interface{}) error {
		var wrapped struct{ Value json.RawMessage }
		if json.Unmarshal(a.body, &wrapped) == nil && wrapped.Value != nil {
			return json.Unmarshal(wrapped.Value, into)
		}
		return json.Unmarshal(a.body, into)
	}
	made, err := ask("POST", session, "", "")
	if err != nil {
		return err
	}
	var id string
	if err := bare(made, &id); err != nil {
		return err
	}
	attached, err := ask("POST", tagging+"/tag-association?"+action+"=list-attached-tags", id, `{"object_id":{"type":"VirtualMachine","id":"`+vm+`"}}`)
	if err != nil {
		return err
	}
	var ids []string
	if err := bare(attached, &ids); err != nil {
		return err
	}
	found := []string{}
	for _, tag := range ids {
		got, err := ask("GET", tagging+"/tag/"+mark+tag, id, "")
		if err != nil {
			return err
		}
		var t struct {
			Name     string
			Category string `json:"category_id"`
		}
		if err := bare(got, &t); err != nil {
			return err
		}
		of, err := ask("GET", tagging+"/category/"+mark+t.Category, id, "")
		if err != nil {
			return err
		}
		var category struct{ Name string }
		if err := bare(of, &category); err != nil {
			return err
		}
		found = append(found, category.Name+":"+t.Name)
	}
	sort.Strings(found)
	told, err := ask("GET", root+"/vcenter/vm/"+vm+"/storage/policy", id, "")
	if err != nil {
		return err
	}
	ended, err := ask("DELETE", session, id, "")
	if err != nil {
		return err
	}
	late, err := ask("GET", tagging+"/tag", id, "")
	return first(err,
		expect("tags", found, []string{"backup:daily", "tier:gold"}),
		expect("policy", strings.TrimSpace(string(told.body)), policy),
		expect("ending the session", ended.status, 200), expect("after it", late.status, 401))
}
