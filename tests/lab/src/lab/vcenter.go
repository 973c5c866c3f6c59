package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

const sessionCookie = "vmware_soap_session"

// vcenter is the simulator behind the lab's own HTTP layer.
type vcenter struct {
	model  *simulator.Model
	server *simulator.Server
	inner  http.Handler
	idle   time.Duration
	user   *url.Userinfo
	faults *faultList
	calls  *callLog
	pace   *pace
	nfc    *nfcServer
	guests *guests
	rest   restSessions

	spec       *labSpec
	apiVersion string

	enforce bool   // privileges, once the inventory is there
	backup  string // password of the second account
}

func newVCenter(o options, spec *labSpec, id *identity) (*vcenter, error) {
	log.SetOutput(io.Discard) // upstream logs every call while the inventory is made
	simulator.Lab.Configure(simulator.LabSettings{
		Dir: o.state, MaxAreas: o.maxAreas, PageBytes: o.pageBytes, APIVersion: o.apiVersion,
	})
	model := simulator.VPX()
	model.Machine, model.Datastore, model.Host, model.ClusterHost, model.Portgroup = 0, 0, 0, 2, 1
	model.ServiceContent.About.Version = strings.Join(strings.Split(o.apiVersion+".0", ".")[:3], ".")
	model.ServiceContent.About.ApiVersion = o.apiVersion
	model.ServiceContent.About.Build = "24022515"
	model.ServiceContent.About.FullName = "VMware vCenter Server " + model.ServiceContent.About.Version + " build-24022515 (lab)"
	if err := model.Create(); err != nil {
		return nil, err
	}
	simulator.Lab.AddGuestManagers()
	simulator.Lab.SetUpBackupUser(o.backupPassword)
	guests := newGuests(o.state)
	if err := fillInventory(model.Service, o.state, spec); err != nil {
		guests.close()
		return nil, err
	}
	log.SetOutput(os.Stderr)
	user := url.UserPassword(o.user, o.password)
	model.Service.Listen = &url.URL{Host: o.listen, User: user}
	model.Service.RegisterEndpoints = true // tags
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{id.certificate}, MinVersion: tls.VersionTLS12}
	v := &vcenter{model: model, idle: o.idle, user: user, faults: &faultList{}, calls: newCallLog(), pace: &pace{}, guests: guests,
		spec: spec, apiVersion: o.apiVersion, rest: restSessions{users: map[string]string{}}, backup: o.backupPassword}
	var err error
	v.nfc, err = newNfcServer(o, v.faults, v.calls)
	return v, err
}

// start answers the base URL.
func (v *vcenter) start() string {
	v.server = v.model.Service.NewServer()
	v.inner = v.server.Config.Handler
	v.server.Config.Handler = v
	return v.server.URL.Scheme + "://" + v.server.URL.Host
}

func (v *vcenter) close() {
	// Clients keep connections open; waiting for them would keep the lab alive.
	v.server.Config.Close()
	simulator.Lab.KillGuests()
	v.nfc.close()
	v.guests.close()
	v.model.Remove()
}

func (v *vcenter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		err := recover()
		if err == nil || err == http.ErrAbortHandler {
			if err != nil {
				panic(err)
			}
			return
		}
		log.Printf("panic in %s %s: %v\n%s", r.Method, r.URL.Path, err, debug.Stack())
		if err := simulator.WriteFault(w, "the lab panicked", &types.SystemError{Reason: "panic"}); err != nil {
			log.Printf("answer a panic: %s", err)
		}
	}()
	switch {
	case strings.HasPrefix(r.URL.Path, "/folder/"):
		v.serveFolder(w, r)
	case strings.HasPrefix(r.URL.Path, "/api/"):
		v.serveAPI(w, r)
	case isRest(r.URL.Path):
		v.serveRest(w, r)
	case r.URL.Path == simulator.GuestFilePath:
		v.serveGuestFile(w, r)
	case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/sdk"):
		v.serveSoap(w, r)
	default:
		v.inner.ServeHTTP(w, r)
	}
}

func (v *vcenter) serveSoap(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	method, this, err := simulator.CallOf(body)
	if err != nil {
		http.Error(w, "not a SOAP request: "+err.Error(), http.StatusBadRequest)
		return
	}
	moref, name := simulator.Lab.VMOf(this)
	if simulator.IsNfcMethod(method) {
		moref, name = simulator.Lab.VMOf(simulator.NfcVM(body))
	}
	session := sessionOf(r)
	v.calls.add(call{Method: method, This: this.Value, VM: name, Session: short(session)})
	simulator.SessionIsLive(session, v.idle) // ends it when it was idle too long

	r.Body = io.NopCloser(bytes.NewReader(body))
	serve := func(w http.ResponseWriter) { v.inner.ServeHTTP(quoteCookies{w}, r) }
	f := v.faults.hit(method, moref, name)
	if simulator.IsNfcMethod(method) {
		keep := f == nil || f.Kind != "lost-ticket"
		serve = func(w http.ResponseWriter) { v.serveNfcService(w, r, method, this, body, keep) }
	}
	pass := func(w http.ResponseWriter) {
		if v.permitSoap(w, r, method, this, body) {
			serve(w)
		}
	}
	if f != nil {
		v.failSoap(w, r, f, method, this, pass)
		return
	}
	pass(w)
}

// serveGuestFile moves a file of a guest: https://vcenter/guestFile?id=VM&token=TOKEN
func (v *vcenter) serveGuestFile(w http.ResponseWriter, r *http.Request) {
	method := "guest-" + strings.ToLower(r.Method)
	moref, name := simulator.Lab.GuestTransferVM(r)
	v.calls.add(call{Method: method, VM: name})
	if f := v.faults.hit(method, moref, name); f != nil && !f.interrupt(w, r) {
		return
	}
	simulator.Lab.ServeGuestFile(w, r)
}

// failSoap does to one call what a fault says.
func (v *vcenter) failSoap(w http.ResponseWriter, r *http.Request, f *fault, method string, this types.ManagedObjectReference, pass func(http.ResponseWriter)) {
	var err error
	switch kind, value := f.split(); kind {
	case "fault":
		err = simulator.WriteFault(w, "injected by the lab", f.vim(value, this))
	case "task-error":
		err = simulator.WriteFailedTask(w, method, this, f.vim(value, this))
	case "drop-after":
		pass(&discard{header: http.Header{}})
		panic(http.ErrAbortHandler)
	case "expire-session":
		simulator.EndSession(sessionOf(r))
		pass(w)
	default:
		if f.interrupt(w, r) {
			pass(w)
		}
	}
	if err != nil {
		log.Printf("inject %s into %s: %s", f.Kind, method, err)
	}
}

// sessionOf reads the session's key from a cookie, with or without quotes.
func sessionOf(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return strings.Trim(c.Value, `"`)
}

func short(session string) string {
	if len(session) > 8 {
		return session[:8]
	}
	return session
}

// quoteCookies sends the session cookie as vCenter does, its value within quotes.
type quoteCookies struct{ http.ResponseWriter }

func (q quoteCookies) WriteHeader(status int) {
	cookies := q.Header()["Set-Cookie"]
	for i, c := range cookies {
		if value := strings.TrimPrefix(c, sessionCookie+"="); value != c {
			key := strings.Split(value, ";")[0]
			cookies[i] = sessionCookie + `="` + strings.Trim(key, `"`) + `"; Path=/; HttpOnly; Secure`
		}
	}
	if q.Header().Get("Content-Type") == "" {
		q.Header().Set("Content-Type", "text/xml; charset=utf-8")
	}
	q.ResponseWriter.WriteHeader(status)
}

// discard carries a call out and loses the answer.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
