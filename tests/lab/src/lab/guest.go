package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
)

// guests plays the Linux in every proxy: what appears in /sys and /dev when vCenter changes the VM's devices.
type guests struct {
	state string

	mu       sync.Mutex
	settings guestSettings
	machines map[string]*guest
	closed   chan struct{}
}

type guestSettings struct {
	AppearAfterMs int  `json:"appear_after_ms"` // from the end of the task to the device's appearance
	NeedsScan     bool `json:"needs_scan"`      // devices appear only when the guest looks for them
	ReconfigureMs int  `json:"reconfigure_ms"`  // how long the task takes
}

// guest is one proxy from within.
type guest struct {
	Name  string       `json:"name"`
	VM    string       `json:"moref"`
	UUID  string       `json:"uuid"` // of its firmware, as in config.uuid
	Sys   string       `json:"sys"`
	Dev   string       `json:"dev"`
	Hosts []*scsiHost  `json:"hosts"`
	Disks []*guestDisk `json:"disks"`

	Attached int `json:"attached"` // foreign disks so far
	Detached int `json:"detached"`
	Surprise int `json:"surprise"` // of these, without the guest having deleted the device before

	tree  sysfs
	hosts map[int32]*scsiHost // by controller key
	disks map[int32]*guestDisk
}

// guestDisk is a disk, which the guest may not see (yet, or any more).
type guestDisk struct {
	simulator.ProxyDisk
	Name    string `json:"name"` // sdb
	Device  string `json:"device"`
	Shown   bool   `json:"shown"`
	Deleted bool   `json:"deleted"`

	loop    *loopDevice
	appears time.Time
}

const guestPoll = 20 * time.Millisecond

func newGuests(state string) *guests {
	g := &guests{state: state, machines: map[string]*guest{}, closed: make(chan struct{})}
	simulator.Proxies.Changed = g.change
	go g.watch()
	return g
}

func (g *guests) close() {
	close(g.closed)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.machines {
		for _, d := range m.disks {
			if err := d.loop.detach(); err != nil {
				log.Printf("detach %s: %s", d.loop.path, err)
			}
		}
		m.disks = nil
	}
}

// change follows a proxy's devices.
func (g *guests) change(devices simulator.ProxyDevices) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	m, err := g.machine(devices)
	if err != nil {
		return err
	}
	return first(m.removeDisks(devices.Disks), m.changeHosts(devices.Controllers), g.addDisks(m, devices.Disks))
}

func (g *guests) machine(devices simulator.ProxyDevices) (*guest, error) {
	if m, ok := g.machines[devices.VM]; ok {
		return m, nil
	}
	root := filepath.Join(g.state, "guests", devices.Name)
	if _, err := os.Stat(root); err == nil {
		return nil, fmt.Errorf("two proxies have the name %s", devices.Name)
	}
	m := &guest{
		Name: devices.Name, VM: devices.VM, UUID: devices.UUID, tree: sysfs{root: root},
		Sys: filepath.Join(root, "sys"), Dev: filepath.Join(root, "dev"), hosts: map[int32]*scsiHost{}, disks: map[int32]*guestDisk{},
	}
	for _, dir := range []string{"sys/block", "sys/class/block", "sys/class/scsi_device", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return nil, err
		}
	}
	if err := m.tree.firmware(devices.UUID); err != nil {
		return nil, err
	}
	// The chipset's own controller comes before all others, on the bus that has no slots.
	for number := 0; number < 2; number++ {
		if err := m.tree.addHost(&scsiHost{Number: number, Slot: 7 + int32(number), Bus: -1}, "ata_piix"); err != nil {
			return nil, err
		}
	}
	g.machines[devices.VM] = m
	return m, nil
}

// changeHosts numbers new controllers from the last to the first: their order says nothing in a real guest either.
func (m *guest) changeHosts(controllers []simulator.ProxyController) error {
	there := map[int32]bool{}
	for i := len(controllers) - 1; i >= 0; i-- {
		c := controllers[i]
		there[c.Key] = true
		if m.hosts[c.Key] != nil {
			continue
		}
		number := 32
		for _, h := range m.hosts {
			if h.Number >= number {
				number = h.Number + 1
			}
		}
		h := &scsiHost{Number: number, Slot: c.Slot, Bus: c.Bus}
		if err := m.tree.addHost(h, "vmw_pvscsi"); err != nil {
			return err
		}
		m.hosts[c.Key] = h
	}
	for key, h := range m.hosts {
		if !there[key] {
			if err := m.tree.removeHost(h); err != nil {
				return err
			}
			delete(m.hosts, key)
		}
	}
	return nil
}

func (m *guest) removeDisks(disks []simulator.ProxyDisk) error {
	there := map[int32]string{}
	for _, d := range disks {
		there[d.Key] = d.File
	}
	for key, d := range m.disks {
		if there[key] == d.File {
			continue
		}
		if d.Foreign {
			m.Detached++
		}
		if d.Shown {
			if d.Foreign {
				m.Surprise++
			}
			if err := m.hide(d); err != nil {
				return err
			}
		}
		delete(m.disks, key)
		if err := d.loop.detach(); err != nil {
			return err
		}
	}
	return nil
}

func (g *guests) addDisks(m *guest, disks []simulator.ProxyDisk) error {
	for _, shown := range disks {
		if m.disks[shown.Key] != nil || m.hosts[shown.Controller] == nil {
			continue
		}
		loop, err := attachLoop(shown.Path, shown.Write)
		if err != nil {
			return fmt.Errorf("attach %s: %w", shown.Path, err)
		}
		d := &guestDisk{ProxyDisk: shown, Name: m.freeName(), Device: loop.path, loop: loop}
		d.appears = time.Now().Add(time.Duration(g.settings.AppearAfterMs) * time.Millisecond)
		m.disks[shown.Key] = d
		if shown.Foreign {
			m.Attached++
		}
		if g.settings.AppearAfterMs == 0 && !g.settings.NeedsScan {
			if err := m.show(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *guest) freeName() string {
	taken := map[string]bool{}
	for _, d := range m.disks {
		taken[d.Name] = true
	}
	for n := 0; ; n++ {
		name := "sd" + string(rune('a'+n%26))
		if n >= 26 {
			name = "sd" + string(rune('a'+n/26-1)) + string(rune('a'+n%26))
		}
		if !taken[name] {
			return name
		}
	}
}

func (m *guest) show(d *guestDisk) error {
	d.Shown, d.Deleted = true, false
	return m.tree.addDisk(m.hosts[d.Controller], d)
}

func (m *guest) hide(d *guestDisk) error {
	d.Shown = false
	return m.tree.removeDisk(m.hosts[d.Controller], d)
}

// watch notices what the guest writes into the tree, and lets devices appear in their time.
func (g *guests) watch() {
	ticker := time.NewTicker(guestPoll)
	defer ticker.Stop()
	for {
		select {
		case <-g.closed:
			return
		case <-ticker.C:
		}
		g.mu.Lock()
		for _, m := range g.machines {
			if err := g.look(m); err != nil {
				log.Printf("guest of %s: %s", m.Name, err)
			}
		}
		g.mu.Unlock()
	}
}

func (g *guests) look(m *guest) error {
	for key, h := range m.hosts {
		if !wasWritten(h.scanFile()) {
			continue
		}
		if err := os.Truncate(h.scanFile(), 0); err != nil {
			return err
		}
		for _, d := range m.disks {
			if d.Controller == key && !d.Shown {
				if err := m.show(d); err != nil {
					return err
				}
			}
		}
	}
	for _, d := range m.disks {
		h := m.hosts[d.Controller]
		switch {
		case d.Shown && wasWritten(filepath.Join(h.device(d.Unit), "delete")):
			d.Deleted = true
			if err := m.hide(d); err != nil {
				return err
			}
		case !d.Shown && !d.Deleted && !g.settings.NeedsScan && time.Now().After(d.appears):
			if err := m.show(d); err != nil {
				return err
			}
		}
	}
	return nil
}

func wasWritten(file string) bool {
	st, err := os.Stat(file)
	return err == nil && st.Size() > 0
}

// all describes every guest.
func (g *guests) all() []*guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := []*guest{}
	for _, m := range g.machines {
		shown := *m
		shown.Hosts, shown.Disks = []*scsiHost{}, []*guestDisk{}
		for _, h := range m.hosts {
			h := *h
			shown.Hosts = append(shown.Hosts, &h)
		}
		for _, d := range m.disks {
			d := *d
			shown.Disks = append(shown.Disks, &d)
		}
		sort.Slice(shown.Hosts, func(i, j int) bool { return shown.Hosts[i].Number < shown.Hosts[j].Number })
		sort.Slice(shown.Disks, func(i, j int) bool { return shown.Disks[i].Key < shown.Disks[j].Key })
		list = append(list, &shown)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}

// cutDisks is POST /guests/cut: what proxies have attached ends after so many bytes from now on.
func (g *guests) cutDisks(r *http.Request) (interface{}, error) {
	var body struct{ Bytes uint64 }
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	cut := 0
	for _, m := range g.machines {
		for _, d := range m.disks {
			if !d.Foreign {
				continue
			}
			if err := d.loop.cut(body.Bytes); err != nil {
				return nil, err
			}
			cut++
		}
	}
	return map[string]int{"cut": cut}, nil
}

// serveControl is GET and POST /guests.
func (g *guests) serveControl(r *http.Request) (interface{}, error) {
	if r.Method == http.MethodPost {
		g.mu.Lock()
		settings := g.settings
		g.mu.Unlock()
		if err := parseBody(r, &settings); err != nil {
			return nil, err
		}
		g.mu.Lock()
		g.settings = settings
		g.mu.Unlock()
		simulator.Proxies.SetDelay(time.Duration(settings.ReconfigureMs) * time.Millisecond)
	} else if r.Method != http.MethodGet {
		return nil, fmt.Errorf("not a method of /guests")
	}
	all := g.all()
	g.mu.Lock()
	defer g.mu.Unlock()
	return map[string]interface{}{"guests": all, "settings": g.settings, "destroyed": simulator.Proxies.Destroyed()}, nil
}
