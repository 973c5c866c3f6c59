package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type labSpec struct {
	Datastores []datastoreSpec `json:"datastores"`
	VMs        []vmSpec        `json:"vms"`
}

type vmSpec struct {
	Name       string     `json:"name"`
	Folder     string     `json:"folder"`
	Datastore  string     `json:"datastore"`
	Disks      []diskSpec `json:"disks"`
	Power      string     `json:"power"`
	Tools      string     `json:"tools"`
	Annotation string     `json:"annotation"`
	GuestID    string     `json:"guest_id"`
	Firmware   string     `json:"firmware"`
	Cpus       int32      `json:"cpus"`
	MemoryMB   int64      `json:"memory_mb"`
	Cbt        bool       `json:"cbt"`
	Proxy      bool       `json:"proxy"` // attaches other VMs' disks; the lab plays its guest

	Guest json.RawMessage `json:"guest"` // fields of simulator.GuestBehaviour

	Pool     string            `json:"pool"`     // path below Resources
	Networks []string          `json:"networks"` // one card for each
	Custom   map[string]string `json:"custom"`   // custom attributes
	Tags     []string          `json:"tags"`     // CATEGORY:NAME
	Policy   string            `json:"policy"`   // id of the storage policy of the VM and its disks

	moref string // once it exists
}

type diskSpec struct {
	File string `json:"file"`
	MiB  int64  `json:"mib"` // an empty disk of this size, instead of a file
	Take string `json:"take"`
	Mode string `json:"mode"`
	Rdm  string `json:"rdm"`
	Thin bool   `json:"thin"`
}

func readSpec(file string) (*labSpec, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read --spec: %w", err)
	}
	defer f.Close()
	var spec labSpec
	decoder := json.NewDecoder(f)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	if len(spec.Datastores) == 0 {
		spec.Datastores = []datastoreSpec{{Name: "lab-ds"}}
	}
	for i := range spec.VMs {
		if err := spec.VMs[i].fill(&spec); err != nil {
			return nil, fmt.Errorf("vm %d of %s: %w", i+1, file, err)
		}
	}
	return &spec, nil
}

// fill sets what the spec leaves out and refuses what it has wrong.
func (v *vmSpec) fill(spec *labSpec) error {
	if v.Name == "" || strings.ContainsAny(v.Name, "/\\%") {
		return fmt.Errorf("%q is no name", v.Name)
	}
	setDefault(&v.Datastore, spec.Datastores[0].Name)
	setDefault(&v.Power, "on")
	setDefault(&v.Tools, "running")
	setDefault(&v.GuestID, "debian11_64Guest")
	setDefault(&v.Firmware, "bios")
	if v.Cpus == 0 {
		v.Cpus = 2
	}
	if len(v.Networks) == 0 {
		v.Networks = []string{"VM Network"}
	}
	for _, tag := range v.Tags {
		if strings.Count(tag, ":") != 1 {
			return fmt.Errorf("tag %q is not CATEGORY:NAME", tag)
		}
	}
	if v.MemoryMB == 0 {
		v.MemoryMB = 2048
	}
	for i := range v.Disks {
		d := &v.Disks[i]
		setDefault(&d.Take, "copy")
		setDefault(&d.Mode, "persistent")
		setDefault(&d.Rdm, "absent")
		if (d.File == "") == (d.MiB <= 0) {
			return fmt.Errorf("disk %d: give either file or mib", i)
		}
		if err := oneOf("rdm", d.Rdm, "absent", "physical", "virtual"); err != nil {
			return err
		}
		if err := oneOf("take", d.Take, "copy", "link", "move"); err != nil {
			return err
		}
		if err := oneOf("mode", d.Mode, "persistent", "independent_persistent", "independent_nonpersistent"); err != nil {
			return err
		}
	}
	if err := oneOf("power", v.Power, "on", "off"); err != nil {
		return err
	}
	return v.fillGuest()
}

// fillGuest puts before what the spec says of the guest what follows from the rest of it.
func (v *vmSpec) fillGuest() error {
	if err := oneOf("tools", v.Tools, "running", "old", "not-running", "absent"); err != nil {
		return err
	}
	guest := map[string]interface{}{"tools": v.Tools}
	if strings.HasPrefix(v.GuestID, "win") {
		guest["family"] = "windowsGuest"
	}
	if len(v.Guest) > 0 {
		if err := json.Unmarshal(v.Guest, &guest); err != nil {
			return fmt.Errorf("guest: %w", err)
		}
	}
	text, err := json.Marshal(guest)
	v.Guest = text
	return err
}

// datastoreSpec may be written as its name alone.
type datastoreSpec struct {
	Name       string `json:"name"`
	Type       string `json:"type"` // VMFS, NFS, vsan, OTHER
	RemoteHost string `json:"remote_host"`
	RemotePath string `json:"remote_path"`
	Deltas     string `json:"deltas"` // flat: children read as whole disks; real: they are deltas
}

// UnmarshalJSON also takes a string.
func (d *datastoreSpec) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &d.Name) == nil {
		return nil
	}
	type plain datastoreSpec
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode((*plain)(d)); err != nil {
		return err
	}
	setDefault(&d.Deltas, "flat")
	if d.Name == "" {
		return fmt.Errorf("a datastore has no name")
	}
	return oneOf("deltas", d.Deltas, "flat", "real")
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func oneOf(field, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return fmt.Errorf("%s is %q: give one of %s", field, value, strings.Join(allowed, ", "))
}
