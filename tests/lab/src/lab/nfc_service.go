package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// nfcServiceName is the service that tickets name.
const nfcServiceName = "vpxa-nfc"

// serveNfcService answers the calls of vCenter's NfcService. A ticket that is not kept is unknown to its host.
func (v *vcenter) serveNfcService(w http.ResponseWriter, r *http.Request, method string, this types.ManagedObjectReference, body []byte, keep bool) {
	if err := v.answerNfcService(w, r, method, this, body, keep); err != nil {
		log.Printf("answer %s: %s", method, err)
	}
}

func (v *vcenter) answerNfcService(w http.ResponseWriter, r *http.Request, method string, this types.ManagedObjectReference, body []byte, keep bool) error {
	if !simulator.SessionIsLive(sessionOf(r), v.idle) {
		return simulator.WriteFault(w, "The session is not authenticated.", simulator.NotAuthenticated(this))
	}
	grant, fault := simulator.Lab.GrantNfc(method, this, body)
	if fault != nil {
		return simulator.WriteFault(w, "no ticket", fault)
	}
	if method == "NfcGetServerNfcLibVersion" {
		return simulator.WriteResult(w, method, "", fmt.Sprint(v.nfc.now().Version))
	}
	text, err := v.nfc.ticket(grant, keep)
	if err != nil {
		return err
	}
	return simulator.WriteResult(w, method, ` xsi:type="HostServiceTicket"`, text)
}

// ticket answers the fields of a HostServiceTicket.
func (s *nfcServer) ticket(grant *simulator.NfcGrant, keep bool) (string, error) {
	h := s.host(grant.Host)
	if h == nil {
		return "", fmt.Errorf("no host %s", grant.Host)
	}
	address, port, err := net.SplitHostPort(h.Address)
	if err != nil {
		return "", err
	}
	trust := "<sslThumbprint>" + h.Sha1 + "</sslThumbprint>"
	if s.now().PemTickets {
		pem, err := os.ReadFile(h.Pem)
		if err != nil {
			return "", err
		}
		var escaped strings.Builder
		if err := xml.EscapeText(&escaped, pem); err != nil {
			return "", err
		}
		trust = "<sslCertificate>" + escaped.String() + "</sslCertificate>"
	}
	session, err := s.issue(grant, keep)
	return fmt.Sprintf("<host>%s</host><port>%s</port>%s<service>%s</service><serviceVersion>1.1</serviceVersion><sessionId>%s</sessionId>",
		address, port, trust, nfcServiceName, session), err
}

// issue makes the secret of a ticket; one that is not kept is good for nothing.
func (s *nfcServer) issue(grant *simulator.NfcGrant, keep bool) (string, error) {
	var id [26]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	session := hex.EncodeToString(id[:])
	if keep {
		s.mu.Lock()
		s.tickets[session] = &nfcTicket{grant: grant}
		s.mu.Unlock()
	}
	return session, nil
}

// nfcState is GET /nfc.
type nfcState struct {
	Settings nfcSettings    `json:"settings"`
	Hosts    []nfcHostState `json:"hosts"`
	Odd      []string       `json:"odd"`
	Unused   int            `json:"unused_tickets"`
}

type nfcHostState struct {
	nfcHost
	Maintenance bool     `json:"maintenance"`
	Usage       nfcUsage `json:"usage"`
}

func (s *nfcServer) state() nfcState {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := nfcState{Settings: s.settings, Odd: append([]string{}, s.odd...), Hosts: []nfcHostState{}}
	for _, h := range s.hosts {
		state.Hosts = append(state.Hosts, nfcHostState{nfcHost: *h, Maintenance: !simulator.Lab.HostIsThere(h.Moref), Usage: h.usage})
	}
	for _, ticket := range s.tickets {
		if !ticket.used {
			state.Unused++
		}
	}
	return state
}

// reset starts the counters anew; what is open stays counted.
func (s *nfcServer) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.odd = nil
	for _, h := range s.hosts {
		u := &h.usage
		u.MostDisks, u.MostMemory, u.Refused, u.Abandoned, u.Completed = u.OpenDisks, u.MemoryBytes, 0, 0, 0
	}
}

// control adds GET, POST and DELETE /nfc and POST /hosts/MOREF/maintenance.
func (s *nfcServer) control(answer func(string, string, func(*http.Request) (interface{}, error)), mux *http.ServeMux) {
	mux.HandleFunc("/nfc", func(w http.ResponseWriter, r *http.Request) { reply(w, r, s.serveControl) })
	answer("/hosts/", http.MethodPost, s.setMaintenance)
}

func (s *nfcServer) serveControl(r *http.Request) (interface{}, error) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodDelete:
		s.reset()
	case http.MethodPost:
		settings := s.now()
		decoder := json.NewDecoder(r.Body)
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&settings); err != nil {
			return nil, fmt.Errorf("parse the body: %w", err)
		}
		if settings.FastlzLevel != 1 && settings.FastlzLevel != 2 {
			return nil, fmt.Errorf("fastlz_level is 1 or 2")
		}
		s.mu.Lock()
		s.settings = settings
		s.mu.Unlock()
		s.pace.set(settings.BytesPerSecond)
	default:
		return nil, fmt.Errorf("not a method of /nfc")
	}
	return s.state(), nil
}

// setMaintenance takes POST /hosts/MOREF/maintenance.
func (s *nfcServer) setMaintenance(r *http.Request) (interface{}, error) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/hosts/"), "/")
	if len(parts) != 2 || parts[1] != "maintenance" {
		return nil, fmt.Errorf("use POST /hosts/MOREF/maintenance")
	}
	body := struct {
		On bool `json:"on"`
	}{On: true}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	if err := simulator.Lab.SetMaintenance(parts[0], body.On); err != nil {
		return nil, err
	}
	ended := 0
	if body.On {
		ended = s.endSessions(parts[0])
	}
	return map[string]int{"ended": ended}, nil
}
