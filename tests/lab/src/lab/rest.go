package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	_ "github.com/vmware/govmomi/vapi/simulator" // answers /rest: tags
)

const restHeader = "vmware-api-session-id"

// restSessions knows whose the sessions of the REST interface are; upstream takes any name.
type restSessions struct {
	mu    sync.Mutex
	users map[string]string
}

func isRest(path string) bool { return strings.HasPrefix(path, "/rest/") }

// serveRest checks accounts and privileges before upstream's tags.
func (v *vcenter) serveRest(w http.ResponseWriter, r *http.Request) {
	method := "rest-" + strings.ToLower(r.Method)
	v.calls.add(call{Method: method, Path: r.URL.Path, Session: short(r.Header.Get(restHeader))})
	if f := v.faults.hit(method, "", ""); f != nil && !f.interrupt(w, r) {
		return
	}
	if missing := v.permitRest(r); missing != "" {
		refuse(w, r, "permission denied: "+missing, http.StatusForbidden)
		return
	}
	if v.servePolicy(w, r) || v.serveAllPolicies(w, r) {
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/cis/session") || r.Method != http.MethodPost || r.URL.RawQuery != "" {
		v.inner.ServeHTTP(w, r)
		return
	}
	user, password, ok := r.BasicAuth()
	if !ok || !v.isAccount(user, password) {
		refuse(w, r, "not logged in", http.StatusUnauthorized)
		return
	}
	answer := httptest.NewRecorder()
	v.inner.ServeHTTP(answer, r)
	var session struct{ Value string }
	if json.Unmarshal(answer.Body.Bytes(), &session) == nil && session.Value != "" {
		v.rest.mu.Lock()
		v.rest.users[session.Value] = user
		v.rest.mu.Unlock()
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	// The client that went away is told nothing.
	_, _ = w.Write(answer.Body.Bytes())
}

func (v *vcenter) restUser(r *http.Request) string {
	id := r.Header.Get(restHeader)
	if cookie, err := r.Cookie(restHeader); id == "" && err == nil {
		id = cookie.Value
	}
	v.rest.mu.Lock()
	defer v.rest.mu.Unlock()
	return v.rest.users[id]
}
