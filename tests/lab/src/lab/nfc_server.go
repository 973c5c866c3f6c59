package main

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
)

// nfcSettings is what the control endpoint may change while the lab runs.
type nfcSettings struct {
	Version        uint32  `json:"version"`          // protocol version that is offered
	OpenDisks      int     `json:"open_disks"`       // per host
	MemoryBytes    int64   `json:"memory_bytes"`     // per host
	SessionBytes   int64   `json:"session_bytes"`    // requests in flight of one session
	Shuffle        bool    `json:"shuffle"`          // fragments of odd sizes in any order
	FastlzLevel    int     `json:"fastlz_level"`     // 1 or 2
	PemTickets     bool    `json:"pem_tickets"`      // tickets carry sslCertificate, as from 9.0
	RoundTripMs    float64 `json:"round_trip_ms"`    // every answer comes so much later
	BytesPerSecond int64   `json:"bytes_per_second"` // of all hosts together, 0 for no limit
}

const (
	// What an open disk takes of the host's memory before anything is in flight.
	nfcDiskBytes = 512 << 10
	// ESXi sends no larger pieces.
	nfcFragment = 64 << 10
)

// nfcServer is the NFC side of all hosts.
type nfcServer struct {
	hosts  []*nfcHost
	faults *faultList
	calls  *callLog
	pace   *pace

	mu       sync.Mutex
	settings nfcSettings
	tickets  map[string]*nfcTicket
	odd      []string // what clients sent that the protocol does not have
	random   *rand.Rand
}

// nfcTicket is good for one connection.
type nfcTicket struct {
	grant *simulator.NfcGrant
	used  bool
}

// nfcHost is one simulated ESXi host: its own address, certificate and budget.
type nfcHost struct {
	simulator.Host
	Address string `json:"address"`
	Pem     string `json:"pem"`
	Sha1    string `json:"sha1"` // as in tickets
	Sha256  string `json:"sha256"`

	identity *identity
	listener net.Listener
	usage    nfcUsage
	sessions map[*nfcSession]bool
}

// nfcUsage is guarded by nfcServer.mu.
type nfcUsage struct {
	Sessions    int   `json:"sessions"`
	OpenDisks   int   `json:"open_disks"`
	MemoryBytes int64 `json:"memory_bytes"`
	MostDisks   int   `json:"most_open_disks"`
	MostMemory  int64 `json:"most_memory_bytes"`
	Refused     int   `json:"refused"`   // opens and requests beyond the budget
	Abandoned   int   `json:"abandoned"` // sessions that ended without saying so
	Completed   int   `json:"completed"`
}

func newNfcServer(o options, faults *faultList, calls *callLog) (*nfcServer, error) {
	s := &nfcServer{
		faults: faults, calls: calls, pace: &pace{}, tickets: map[string]*nfcTicket{},
		settings: nfcSettings{Version: 11, OpenDisks: 50, MemoryBytes: 48 << 20, SessionBytes: 16 << 20, Shuffle: true, FastlzLevel: 1},
		random:   rand.New(rand.NewSource(o.nfcSeed)),
	}
	network := net.ParseIP(o.nfcNetwork).To4()
	if network == nil {
		return nil, fmt.Errorf("--nfc-network %q is no IPv4 address", o.nfcNetwork)
	}
	for i, host := range simulator.Lab.Hosts() {
		h, err := newNfcHost(o, host, net.IPv4(network[0], network[1], network[2], network[3]+byte(i+1)))
		if err != nil {
			return nil, err
		}
		s.hosts = append(s.hosts, h)
		go s.accept(h)
	}
	return s, nil
}

func newNfcHost(o options, host simulator.Host, ip net.IP) (*nfcHost, error) {
	dir := filepath.Join(o.state, "hosts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	id, err := makeIdentity(filepath.Join(dir, host.Moref+".pem"), host.Name, ip)
	if err != nil {
		return nil, err
	}
	der := id.certificate.Certificate[0]
	sum1, sum256 := sha1.Sum(der), sha256.Sum256(der)
	h := &nfcHost{
		Host: host, Pem: id.pem, Sha1: colons(sum1[:]), Sha256: hex.EncodeToString(sum256[:]),
		identity: id, sessions: map[*nfcSession]bool{},
	}
	if h.listener, err = net.Listen("tcp", fmt.Sprintf("%s:%d", ip, o.nfcPort)); err != nil {
		return nil, err
	}
	h.Address = h.listener.Addr().String()
	text, err := os.ReadFile(id.pem)
	if err != nil {
		return nil, err
	}
	simulator.Lab.PublishCertificate(host.Moref, text, h.Sha1)
	return h, nil
}

// colons writes a hash as VMware does.
func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}

func (s *nfcServer) close() {
	for _, h := range s.hosts {
		h.listener.Close()
		s.endSessions(h.Moref)
	}
}

func (s *nfcServer) host(moref string) *nfcHost {
	for _, h := range s.hosts {
		if h.Moref == moref {
			return h
		}
	}
	return nil
}

func (s *nfcServer) accept(h *nfcHost) {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return // closed
		}
		go s.serve(h, conn)
	}
}

// serve carries one connection from the banner to its end.
func (s *nfcServer) serve(h *nfcHost, raw net.Conn) {
	defer raw.Close()
	conn, grant, err := s.authenticate(h, raw)
	if err != nil {
		log.Printf("nfc %s: %s", h.Name, err)
		return
	}
	session := newNfcSession(s, h, grant, raw, conn)
	s.enter(session)
	err = session.run()
	s.leave(session, err)
	if err != nil {
		log.Printf("nfc %s: session on %s: %s", h.Name, grant.VMName, err)
	}
}

func (s *nfcServer) enter(session *nfcSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.host.sessions[session] = true
	session.host.usage.Sessions++
}

func (s *nfcServer) leave(session *nfcSession, err error) {
	session.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(session.host.sessions, session)
	session.host.usage.Sessions--
	if err == nil {
		session.host.usage.Completed++
	} else {
		session.host.usage.Abandoned++
	}
}

// endSessions is what losing a host does to its clients.
func (s *nfcServer) endSessions(moref string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := 0
	for _, h := range s.hosts {
		for session := range h.sessions {
			if h.Moref == moref {
				session.raw.Close()
				ended++
			}
		}
	}
	return ended
}

func (s *nfcServer) now() nfcSettings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

func (s *nfcServer) intn(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.Intn(n)
}

// note keeps what a client did that the protocol does not have; tests expect the list to be empty.
func (s *nfcServer) note(format string, args ...interface{}) {
	text := fmt.Sprintf(format, args...)
	log.Printf("nfc: odd: %s", text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.odd) < 100 {
		s.odd = append(s.odd, text)
	}
}

// reserveDisk takes an open disk from the host's budget.
func (s *nfcServer) reserveDisk(h *nfcHost) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.usage.OpenDisks >= s.settings.OpenDisks || h.usage.MemoryBytes+nfcDiskBytes > s.settings.MemoryBytes {
		h.usage.Refused++
		return false
	}
	h.usage.OpenDisks++
	if h.usage.OpenDisks > h.usage.MostDisks {
		h.usage.MostDisks = h.usage.OpenDisks
	}
	h.addMemory(nfcDiskBytes)
	return true
}

func (s *nfcServer) releaseDisk(h *nfcHost) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.usage.OpenDisks--
	h.addMemory(-nfcDiskBytes)
}

// reserve takes the memory of a request in flight from the host's and the session's budget.
func (s *nfcServer) reserve(session *nfcSession, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := session.host
	if session.inFlight+n > s.settings.SessionBytes || h.usage.MemoryBytes+n > s.settings.MemoryBytes {
		h.usage.Refused++
		return false
	}
	session.inFlight += n
	h.addMemory(n)
	return true
}

func (s *nfcServer) release(session *nfcSession, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	session.inFlight -= n
	session.host.addMemory(-n)
}

func (h *nfcHost) addMemory(n int64) {
	h.usage.MemoryBytes += n
	if h.usage.MemoryBytes > h.usage.MostMemory {
		h.usage.MostMemory = h.usage.MemoryBytes
	}
}

// nfcFault answers the fault that a step runs into, after its hang if that is what it is.
func (s *nfcServer) nfcFault(method string, grant *simulator.NfcGrant) (kind, value string) {
	moref, name := "", ""
	if grant != nil {
		moref, name = grant.VM, grant.VMName
	}
	f := s.faults.hit(method, moref, name)
	if f == nil {
		return "", ""
	}
	return f.split()
}

func seconds(value string) time.Duration {
	var n float64
	if _, err := fmt.Sscanf(value, "%g", &n); err != nil {
		return 0 // faultList.add has checked it
	}
	return time.Duration(n * float64(time.Second))
}
