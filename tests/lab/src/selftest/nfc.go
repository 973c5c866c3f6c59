package main

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fastlz"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

const readOnly, readWrite = 0x1e, 0x1a

// nfcHost is a host in GET /nfc.
type nfcHost struct {
	Moref, Address, Pem, Sha1 string
	Usage                     struct {
		Sessions    int
		OpenDisks   int   `json:"open_disks"`
		MostDisks   int   `json:"most_open_disks"`
		MemoryBytes int64 `json:"memory_bytes"`
		Refused     int
		Abandoned   int
	}
}

type nfcState struct {
	Hosts []nfcHost
	Odd   []string
}

func (b *bench) nfcState() (*nfcState, error) {
	var s nfcState
	return &s, b.control("GET", "/nfc", nil, &s)
}

// frozenDb makes a snapshot of db and answers it with the frozen bytes of its first disk.
func (b *bench) frozenDb(name string) (ref types.ManagedObjectReference, moref, file string, content []byte, err error) {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return
	}
	moref = vm.Reference().Value
	if ref, err = b.snapshot(vm, name, nil); err != nil {
		return
	}
	disks, err := b.snapshotDisks(ref)
	if err != nil {
		return
	}
	frozen, err := b.freezeOf(ref, 2000)
	if err != nil {
		return
	}
	content, err = os.ReadFile(frozen.Path)
	return ref, moref, disks[2000].file, content, err
}

func nfcTicketsAreRight(b *bench) error {
	vm, err := b.vm("DC0/vm/prod/db")
	if err != nil {
		return err
	}
	moref := vm.Reference().Value
	t, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
	if err != nil {
		return err
	}
	state, err := b.nfcState()
	if err != nil {
		return err
	}
	version, err := b.nfcCall(b.client, "NfcGetServerNfcLibVersion", "")
	if err != nil {
		return err
	}
	_, noDisk := b.ticket(b.client, "NfcRandomAccessOpenReadonly", moref, 2999, "")
	_, noVM := b.ticket(b.client, "NfcGetVmFiles", "vm-999999", 0, "")
	other, err := b.login(b.ctx)
	if err != nil {
		return err
	}
	jar := other.Client.Client.Jar.Cookies(other.URL())
	if err := other.Logout(b.ctx); err != nil {
		return err
	}
	other.Client.Client.Jar.SetCookies(other.URL(), jar)
	_, dead := b.ticket(other, "NfcGetVmFiles", moref, 0, "")
	var p mo.VirtualMachine
	if err := vm.Properties(b.ctx, vm.Reference(), []string{"runtime.host"}, &p); err != nil {
		return err
	}
	home, away := state.Hosts[0], state.Hosts[1]
	if home.Moref != p.Runtime.Host.Value {
		home, away = away, home
	}
	elsewhere, err := b.ticket(b.client, "NfcRandomAccessOpenReadonly", moref, 2000, `<hostForAccess type="HostSystem">`+away.Moref+`</hostForAccess>`)
	if err != nil {
		return err
	}
	return first(
		expect("address", t.Host+":"+t.Port, home.Address), expect("thumbprint", t.SslThumbprint, home.Sha1),
		expect("its length", len(t.SslThumbprint), 59), expect("service", t.Service, "vpxa-nfc"),
		expect("version", strings.Contains(version, ">11<"), true),
		expect("the other host", elsewhere.Host+":"+elsewhere.Port, away.Address),
		expect("unknown disk", strings.Contains(noDisk.Error(), "InvalidArgument"), true),
		expect("unknown vm", strings.Contains(noVM.Error(), "ManagedObjectNotFound"), true),
		expect("no session", strings.Contains(dead.Error(), "NotAuthenticated"), true),
		b.hostShowsCertificate(home), b.ticketsCarryPem(moref, home),
	)
}

// hostShowsCertificate reads the properties as they come: each byte of config.certificate is an element.
func (b *bench) hostShowsCertificate(h nfcHost) error {
	text, err := b.sdkCall(b.client, "RetrievePropertiesEx", "PropertyCollector", "propertyCollector",
		`<specSet><propSet><type>HostSystem</type><pathSet>config.certificate</pathSet><pathSet>summary.config.sslThumbprint</pathSet></propSet>`+
			`<objectSet><obj type="HostSystem">`+h.Moref+`</obj></objectSet></specSet><options/>`)
	if err != nil {
		return err
	}
	var got []byte
	for _, match := range regexp.MustCompile(`<byte>(-?[0-9]+)</byte>`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseInt(match[1], 10, 8)
		if err != nil {
			return err
		}
		got = append(got, byte(n))
	}
	file, err := os.ReadFile(h.Pem)
	return first(err, expect("thumbprint in vcenter", strings.Contains(text, h.Sha1), true), expect("certificate in vcenter", bytes.Equal(got, file), true))
}

func (b *bench) ticketsCarryPem(moref string, h nfcHost) error {
	if err := b.control("POST", "/nfc", fields{"pem_tickets": true}, nil); err != nil {
		return err
	}
	t, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
	if err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(t.SslCertificate))
	return first(b.control("POST", "/nfc", fields{"pem_tickets": false}, nil),
		expect("thumbprint", t.SslThumbprint, ""), expect("a certificate", block != nil && block.Type == "CERTIFICATE", true))
}

// nfcReadsAreExact reads a frozen disk under a writer in every manner.
func nfcReadsAreExact(b *bench) error {
	if err := b.control("DELETE", "/nfc", nil, nil); err != nil {
		return err
	}
	ref, moref, file, content, err := b.frozenDb("nfc")
	if err != nil {
		return err
	}
	live := filepath.Join(b.State, "ds/lab-ds/db/db-flat.vmdk")
	before, err := os.ReadFile(live)
	if err != nil {
		return err
	}
	if err := poke(live, 3<<20, "written after the freeze"); err != nil {
		return err
	}
	var all seen
	for _, mode := range []struct {
		method      string
		compression uint32
		level       int
		disk        int
	}{{"NfcGetVmFiles", 0, 1, 0}, {"NfcRandomAccessOpenReadonly", 2, 1, 2000}, {"NfcRandomAccessOpenReadonly", 2, 2, 2000}} {
		if err := b.control("POST", "/nfc", fields{"fastlz_level": mode.level}, nil); err != nil {
			return err
		}
		t, err := b.ticket(b.client, mode.method, moref, mode.disk, "")
		if err != nil {
			return err
		}
		t.polite = mode.level == 2
		c, err := t.dial()
		if err != nil {
			return err
		}
		handle, capacity, err := c.open(file, readOnly)
		if err != nil {
			return err
		}
		got, s, err := c.readAll(handle, 0, len(content), 1<<20, 8, mode.compression)
		if err != nil {
			return err
		}
		all.fragments, all.disordered, all.odd, all.packed = all.fragments+s.fragments, all.disordered+s.disordered, all.odd+s.odd, all.packed+s.packed
		err = first(expect("capacity", capacity, uint64(len(content))), expect("content", bytes.Equal(got, content), true),
			expect("packed", s.packed > 0, mode.compression == 2), c.closeFile(handle), c.bye())
		if err != nil {
			return fmt.Errorf("%+v: %w", mode, err)
		}
		if _, err := t.dial(); err == nil {
			return errors.New("a ticket was good for two connections")
		}
	}
	state, err := b.nfcState()
	if err != nil {
		return err
	}
	var calls struct{ Count map[string]int }
	if err := b.control("GET", "/calls", nil, &calls); err != nil {
		return err
	}
	return first(
		expect("opens counted", calls.Count["nfc-open"] >= 3, true), expect("reads counted", calls.Count["nfc-read"] >= 3*len(content)>>20, true),
		expect("fragments out of order", all.disordered > all.fragments/4, true), expect("of odd sizes", all.odd > all.fragments/10, true),
		expect("oddities", len(state.Odd), 0), b.control("POST", "/nfc", fields{"fastlz_level": 1}, nil),
		os.WriteFile(live, before, 0), b.removeSnapshot(ref),
	)
}

func nfcRefuses(b *bench) error {
	ref, moref, file, _, err := b.frozenDb("refusals")
	if err != nil {
		return err
	}
	t, err := b.ticket(b.client, "NfcRandomAccessOpenReadonly", moref, 2000, "")
	if err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	_, _, leaf := c.open("[lab-ds] db/db-000001.vmdk", readOnly)
	_, _, write := c.open(file, readWrite)
	_, _, foreign := c.open("[lab-ds] web/web.vmdk", readOnly)
	handle, capacity, err := c.open(file, readOnly)
	if err != nil {
		return err
	}
	_, _, beyond := c.readAll(handle, capacity-512, 1024, 1024, 1, 0)
	wrote := c.write(handle, 0, make([]byte, 512), 0)
	err = first(expect("running leaf", leaf, nfcRefusal(1)), expect("writing by a read ticket", write, nfcRefusal(0xb)),
		expect("another vm's disk", foreign, nfcRefusal(1)), expect("beyond the end", beyond, nfcRefusal(1)),
		expect("writing to a disk opened for reading", wrote, nfcRefusal(0xb)), c.closeFile(handle), c.bye())
	if err != nil {
		return err
	}
	wt, err := b.ticket(b.client, "NfcRandomAccessOpenDisk", moref, 2000, "")
	if err != nil {
		return err
	}
	if c, err = wt.dial(); err != nil {
		return err
	}
	_, _, frozen := c.open(file, readWrite)
	_, _, running := c.open("[lab-ds] db/db-000001.vmdk", readWrite)
	return first(expect("writing to a frozen disk", frozen, nfcRefusal(1)), expect("writing to a running disk", running, nfcRefusal(1)), c.bye(), b.removeSnapshot(ref))
}

// nfcWritesArrive restores a disk: long writes, packed and not.
func nfcWritesArrive(b *bench) error {
	folder, err := b.root()
	if err != nil {
		return err
	}
	vm, err := b.create("nfc-restored", folder)
	if err != nil {
		return err
	}
	t, err := b.ticket(b.client, "NfcRandomAccessOpenDisk", vm.Reference().Value, 2000, "")
	if err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	handle, capacity, err := c.open("[lab-ds] nfc-restored/nfc-restored.vmdk", readWrite)
	if err != nil {
		return err
	}
	content := make([]byte, 8<<20)
	random := rand.New(rand.NewSource(5))
	random.Read(content[:1<<20])
	copy(content[2<<20:], bytes.Repeat([]byte("packs well "), 100000))
	for n, at := 0, 0; at < len(content); n++ {
		end := at + 300000 + 512*random.Intn(2000)
		if end > len(content) {
			end = len(content)
		}
		if err := c.write(handle, uint64(at), content[at:end], n%3); err != nil {
			return err
		}
		at = end
	}
	back, _, err := c.readAll(handle, 0, len(content), 700000, 3, 2)
	if err != nil {
		return err
	}
	stored, err := os.ReadFile(filepath.Join(b.State, "ds/lab-ds/nfc-restored/nfc-restored-flat.vmdk"))
	if err != nil {
		return err
	}
	task, err := vm.Destroy(b.ctx)
	if err != nil {
		return err
	}
	return first(expect("capacity", capacity, uint64(8<<20)), expect("content read back", bytes.Equal(back, content), true),
		expect("content stored", bytes.Equal(stored, content), true), c.closeFile(handle), c.bye(), task.Wait(b.ctx))
}

// fastlzIsFastlz holds the packer against blocks written out by hand from the format's description.
func fastlzIsFastlz(*bench) error {
	for text, want := range map[string]string{
		"02616263":                   "abc",                            // three literals
		"006120" + "00":              "aaaa",                           // one literal, a match of 3 at distance 1
		"0061e00000":                 "aaaaaaaaaa",                     // a long match of 9
		"2061e00000":                 "aaaaaaaaaa",                     // the same on level 2
		"2061e0ff0a00":               strings.Repeat("a", 1+9+255+10),  // level 2 goes on after 255
		"026162634002" + "00" + "78": "abc" + "abca" + "x",             // a match of 4 at distance 3, a literal
		"0061e0ff00":                 strings.Repeat("a", 1+264),       // the longest match of level 1
		"2061e0fffe00":               strings.Repeat("a", 1+9+255+254), // just below a third byte
		"2061e0ffff0000":             strings.Repeat("a", 1+9+255+255), // zero ends the count
		"1f" + hex.EncodeToString(bytes.Repeat([]byte("q"), 32)): strings.Repeat("q", 32),
	} {
		block, err := hex.DecodeString(text)
		if err != nil {
			return err
		}
		plain, err := fastlz.Expand(block, len(want))
		if err := first(err, expect(text, string(plain), want)); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	random := rand.New(rand.NewSource(1))
	for n := 0; n < 400; n++ {
		plain := make([]byte, 16+random.Intn(70000))
		for at := 0; at < len(plain); {
			run := 1 + random.Intn(2000)
			if random.Intn(2) == 0 && at > 0 {
				from := random.Intn(at)
				at += copy(plain[at:], plain[from:])
				continue
			}
			if at+run > len(plain) {
				run = len(plain) - at
			}
			random.Read(plain[at : at+run])
			at += run
		}
		for level := 1; level <= 2; level++ {
			packed := fastlz.Compress(plain, level)
			if packed == nil {
				continue
			}
			got, err := fastlz.Expand(packed, len(plain))
			if err := first(err, expect("unpacked", bytes.Equal(got, plain), true), expect("level", int(packed[0]>>5), level-1)); err != nil {
				return fmt.Errorf("block %d level %d: %w", n, level, err)
			}
		}
	}
	return nil
}

// nfcFaultsStrike looks at each way in which a host fails its clients.
func nfcFaultsStrike(b *bench) error {
	// Every piece differs from every other, and all can be packed.
	live := filepath.Join(b.State, "ds/lab-ds/db/db-flat.vmdk")
	before, err := os.ReadFile(live)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for n := 0; lines.Len() < 4<<20; n++ {
		fmt.Fprintf(&lines, "this is line %d of many\n", n)
	}
	if err := poke(live, 4<<20, lines.String()); err != nil {
		return err
	}
	ref, moref, file, content, err := b.frozenDb("nfc faults")
	if err != nil {
		return err
	}
	try := func(method, kind string) error {
		if err := b.fault(fields{"method": method, "kind": kind}); err != nil {
			return fmt.Errorf("not taken: %w", err)
		}
		t, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
		if err != nil {
			return err
		}
		c, err := t.dial()
		if err != nil {
			return err
		}
		defer c.raw.Close()
		handle, _, err := c.open(file, readOnly)
		if err != nil {
			return err
		}
		if err := c.raw.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		compression := uint32(0)
		if kind == "corrupt" {
			compression = 2
		}
		got, _, err := c.readAll(handle, 4<<20, 4<<20, 4<<20, 1, compression)
		if err == nil && !bytes.Equal(got, content[4<<20:8<<20]) {
			return errors.New("wrong bytes")
		}
		return err
	}
	for _, c := range [][3]string{
		{"NfcGetVmFiles", "lost-ticket", "530"}, {"nfc-connect", "wrong-certificate", "wrong certificate"},
		{"nfc-connect", "wrong-inner-certificate", "wrong certificate"}, {"nfc-connect", "drop", "EOF"},
		{"nfc-open", "error:5", "nfc error 0x5"}, {"nfc-open", "drop", "EOF"}, {"nfc-read", "error:0x2a", "nfc error 0x2a"},
		{"nfc-read", "drop", "EOF"}, {"nfc-read", "close-mid", "EOF"}, {"nfc-read", "wrong-total", errHeader.Error()},
		{"nfc-read", "wrong-dest", errHeader.Error()}, {"nfc-read", "wrong-offset", errHeader.Error()}, {"nfc-read", "short", errHeader.Error()},
		{"nfc-read", "lost-fragment", "timeout"}, {"nfc-read", "hang:3", "timeout"}, {"nfc-read", "slow:0.3", "timeout"},
		{"nfc-read", "twice", "wrong bytes"}, {"nfc-read", "corrupt", "FastLZ"}, {"nfc-read", "slow:0.001", ""},
	} {
		err := try(c[0], c[1])
		if c[2] == "" && err == nil {
			continue
		}
		if err == nil || c[2] == "" || !strings.Contains(err.Error(), c[2]) {
			return fmt.Errorf("%s %s: %v", c[0], c[1], err)
		}
	}
	for _, f := range []fields{{"method": "nfc-reed", "kind": "drop"}, {"method": "nfc-open", "kind": "short"},
		{"method": "nfc-read", "kind": "slow:x"}, {"method": "CurrentTime", "kind": "lost-ticket"}} {
		if b.fault(f) == nil {
			return fmt.Errorf("%v was taken", f)
		}
	}
	return first(b.nfcWritesFail(), b.nfcHostLeaves(moref, file), b.control("DELETE", "/faults", nil, nil),
		b.removeSnapshot(ref), os.WriteFile(live, before, 0))
}

// nfcWritesFail looks at a new disk's bytes after each fault.
func (b *bench) nfcWritesFail() error {
	folder, err := b.root()
	if err != nil {
		return err
	}
	vm, err := b.create("nfc-faults", folder)
	if err != nil {
		return err
	}
	flat := filepath.Join(b.State, "ds/lab-ds/nfc-faults/nfc-faults-flat.vmdk")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 16 fragments
	for _, f := range []struct {
		kind, want  string
		least, most int
	}{{"error:7", "nfc error 0x7", len(data), len(data)}, {"drop", "EOF", 0, 0}, {"close-mid", "EOF", len(data) / 2, len(data) / 2}, {"drop-after", "EOF", len(data), len(data)}} {
		if err := first(os.Truncate(flat, 0), os.Truncate(flat, 8<<20), b.fault(fields{"method": "nfc-write", "kind": f.kind})); err != nil {
			return err
		}
		t, err := b.ticket(b.client, "NfcRandomAccessOpenDisk", vm.Reference().Value, 2000, "")
		if err != nil {
			return err
		}
		c, err := t.dial()
		if err != nil {
			return err
		}
		handle, _, err := c.open("[lab-ds] nfc-faults/nfc-faults.vmdk", readWrite)
		if err != nil {
			return err
		}
		wrote := c.write(handle, 0, data, 0)
		c.raw.Close()
		stored, err := os.ReadFile(flat)
		if err != nil {
			return err
		}
		n := len(bytes.TrimRight(stored, "\x00"))
		if wrote == nil || n < f.least || n > f.most {
			return fmt.Errorf("%s: %v, %d bytes stored", f.kind, wrote, n)
		}
	}
	task, err := vm.Destroy(b.ctx)
	return first(err, task.Wait(b.ctx))
}

// nfcHostLeaves finds a session ended by maintenance, and the next ticket on the other host.
func (b *bench) nfcHostLeaves(moref, file string) error {
	t, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
	if err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	handle, _, err := c.open(file, readOnly)
	if err != nil {
		return err
	}
	state, err := b.nfcState()
	if err != nil {
		return err
	}
	home := state.Hosts[0]
	if home.Address != t.Host+":"+t.Port {
		home = state.Hosts[1]
	}
	var ended struct{ Ended int }
	if err := b.control("POST", "/hosts/"+home.Moref+"/maintenance", fields{"on": true}, &ended); err != nil {
		return err
	}
	_, _, lost := c.readAll(handle, 0, 4096, 4096, 1, 0)
	next, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
	if err != nil {
		return err
	}
	if c, err = next.dial(); err != nil {
		return err
	}
	again, _, err := c.open(file, readOnly)
	return first(err, expect("ended", ended.Ended, 1), expect("reading failed", lost != nil, true),
		expect("the next ticket is for another host", next.Host != t.Host, true), c.closeFile(again), c.bye(),
		b.control("POST", "/hosts/"+home.Moref+"/maintenance", fields{"on": false}, nil))
}

// nfcBudgetsHold opens more disks and asks for more memory than a host has.
func nfcBudgetsHold(b *bench) error {
	ref, moref, file, content, err := b.frozenDb("nfc budgets")
	if err != nil {
		return err
	}
	if err := first(b.control("DELETE", "/nfc", nil, nil), b.control("POST", "/nfc", fields{"open_disks": 2, "session_bytes": 2 << 20}, nil)); err != nil {
		return err
	}
	t, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
	if err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	one, _, err := c.open(file, readOnly)
	if err != nil {
		return err
	}
	two, _, err := c.open(file, readOnly)
	if err != nil {
		return err
	}
	_, _, third := c.open(file, readOnly)
	if err := c.closeFile(two); err != nil {
		return err
	}
	two, _, again := c.open(file, readOnly)
	_, _, large := c.readAll(one, 0, 3<<20, 3<<20, 1, 0)
	got, _, err := c.readAll(one, 0, 8<<20, 1<<20, 2, 0)
	if err != nil {
		return err
	}
	state, err := b.nfcState()
	if err != nil {
		return err
	}
	most, refused, disks := 0, 0, 0
	for _, h := range state.Hosts {
		most, refused, disks = most+h.Usage.MostDisks, refused+h.Usage.Refused, disks+h.Usage.OpenDisks
	}
	err = first(expect("third disk", third, nfcRefusal(5)), expect("after a close", again, nil), expect("too large a read", large, nfcRefusal(5)),
		expect("reads within the budget", bytes.Equal(got, content[:8<<20]), true),
		expect("most disks", most, 2), expect("open disks", disks, 2), expect("refused", refused, 2), c.closeFile(one), c.closeFile(two), c.bye())
	if err != nil {
		return err
	}
	freed := within(2*time.Second, func() bool {
		state, err := b.nfcState()
		return err == nil && state.Hosts[0].Usage.MemoryBytes+state.Hosts[1].Usage.MemoryBytes == 0 && state.Hosts[0].Usage.Sessions+state.Hosts[1].Usage.Sessions == 0
	})
	return first(expect("memory is given back", freed, true), b.control("POST", "/nfc", fields{"open_disks": 50, "session_bytes": 16 << 20}, nil),
		b.nfcIsSlow(moref, file), b.removeSnapshot(ref))
}

// nfcIsSlow finds a round trip and a limit of bandwidth, of which the first is hidden by requests in flight.
func (b *bench) nfcIsSlow(moref, file string) error {
	t, err := b.ticket(b.client, "NfcGetVmFiles", moref, 0, "")
	if err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	handle, _, err := c.open(file, readOnly)
	if err != nil {
		return err
	}
	took := func(depth int) time.Duration {
		start := time.Now()
		if _, _, failed := c.readAll(handle, 0, 2<<20, 64<<10, depth, 0); failed != nil {
			err = failed
		}
		return time.Since(start)
	}
	if err := b.control("POST", "/nfc", fields{"round_trip_ms": 20}, nil); err != nil {
		return err
	}
	single, deep := took(1), took(16)
	if err := b.control("POST", "/nfc", fields{"round_trip_ms": 0, "bytes_per_second": 4 << 20}, nil); err != nil {
		return err
	}
	paced := took(4)
	return first(err, b.control("POST", "/nfc", fields{"bytes_per_second": 0}, nil),
		expect("32 reads one after the other take 32 round trips", single > 600*time.Millisecond, true),
		expect("sixteen in flight hide them", deep < single/4, true),
		expect("2 MiB at 4 MiB/s take half a second", paced > 400*time.Millisecond && paced < 3*time.Second, true), c.closeFile(handle), c.bye())
}
