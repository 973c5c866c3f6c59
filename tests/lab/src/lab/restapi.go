package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const restSession = "/rest/com/vmware/cis/session"

// serveAPI is the newer dialect of the same interface, since 7.0 U2: other paths, bare answers.
func (v *vcenter) serveAPI(w http.ResponseWriter, r *http.Request) {
	old, ok := olderPath(r.URL.Path)
	if !ok || !v.hasAPI() {
		refuse(w, r, "not found", http.StatusNotFound)
		return
	}
	older := r.Clone(r.Context())
	older.URL.Path, older.URL.RawPath = old, ""
	if strings.HasPrefix(older.URL.RawQuery, "action=") {
		older.URL.RawQuery = "~" + older.URL.RawQuery
	}
	answer := httptest.NewRecorder()
	v.serveRest(answer, older)
	for name, values := range answer.Header() {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	body, status := answer.Body.Bytes(), answer.Code
	var wrapped struct{ Value json.RawMessage }
	if json.Unmarshal(body, &wrapped) == nil && wrapped.Value != nil {
		body = wrapped.Value
	}
	if r.URL.Path == "/api/session" && r.Method == http.MethodPost && status == http.StatusOK {
		status = http.StatusCreated
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is told nothing
}

func (v *vcenter) hasAPI() bool {
	return strings.HasPrefix(v.apiVersion, "7.0.3") || v.apiVersion >= "8"
}

func olderPath(path string) (string, bool) {
	for newer, older := range map[string]string{
		"/api/session": restSession, "/api/cis/tagging/": "/rest/com/vmware/cis/tagging/", "/api/vcenter/vm/": "/rest/vcenter/vm/",
		"/api/vcenter/storage/": "/rest/vcenter/storage/",
	} {
		if !strings.HasPrefix(path, newer) {
			continue
		}
		rest := strings.TrimPrefix(path, newer)
		if kind := strings.SplitN(rest, "/", 2); len(kind) == 2 && strings.HasSuffix(newer, "tagging/") {
			rest = kind[0] + "/id:" + kind[1] // the older dialect marks ids
		}
		return older + rest, true
	}
	return "", false
}

// servePolicy answers /rest/vcenter/vm/VM/storage/policy, and tells whether that was asked.
func (v *vcenter) servePolicy(w http.ResponseWriter, r *http.Request) bool {
	moref := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/rest/vcenter/vm/"), "/storage/policy")
	if r.Method != http.MethodGet || "/rest/vcenter/vm/"+moref+"/storage/policy" != r.URL.Path {
		return false
	}
	if v.restUser(r) == "" {
		refuse(w, r, "not logged in", http.StatusUnauthorized)
		return true
	}
	type entry struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	var told struct {
		Value struct {
			Home  string  `json:"vm_home,omitempty"`
			Disks []entry `json:"disks"`
		} `json:"value"`
	}
	told.Value.Disks = []entry{}
	policies := simulator.Lab.PoliciesOf(moref)
	told.Value.Home = policies.Home
	for key, policy := range policies.Disks {
		told.Value.Disks = append(told.Value.Disks, entry{key, policy})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told) // a client that went away is told nothing
	return true
}

// serveAllPolicies answers /rest/vcenter/storage/policies, and tells whether that was asked: those of the spec are there.
func (v *vcenter) serveAllPolicies(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodGet || r.URL.Path != "/rest/vcenter/storage/policies" {
		return false
	}
	if v.restUser(r) == "" {
		refuse(w, r, "not logged in", http.StatusUnauthorized)
		return true
	}
	type policy struct {
		Policy string `json:"policy"`
		Name   string `json:"name"`
	}
	told := struct {
		Value []policy `json:"value"`
	}{Value: []policy{}}
	seen := map[string]bool{}
	for _, vm := range v.spec.VMs {
		if vm.Policy != "" && !seen[vm.Policy] {
			seen[vm.Policy] = true
			told.Value = append(told.Value, policy{vm.Policy, vm.Policy})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(told) // a client that went away is told nothing
	return true
}

// attachTags makes the tags of the spec and forgets the calls that it took.
func (v *vcenter) attachTags(address string) error {
	ctx := context.Background()
	var manager *tags.Manager
	for _, vm := range v.spec.VMs {
		for _, tag := range vm.Tags {
			if manager == nil {
				var err error
				if manager, err = v.tagManager(ctx, address); err != nil {
					return err
				}
			}
			if err := attachTag(ctx, manager, tag, vm.moref); err != nil {
				return err
			}
		}
	}
	if manager != nil {
		v.calls.clear()
	}
	return nil
}

func (v *vcenter) tagManager(ctx context.Context, address string) (*tags.Manager, error) {
	u, err := url.Parse(address + "/sdk")
	if err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(ctx, soap.NewClient(u, true)) // it is our own certificate
	if err != nil {
		return nil, err
	}
	session := rest.NewClient(client)
	return tags.NewManager(session), session.Login(ctx, v.user)
}

func attachTag(ctx context.Context, manager *tags.Manager, tag, vm string) error {
	parts := strings.SplitN(tag, ":", 2)
	category, err := manager.GetCategory(ctx, parts[0])
	if err != nil {
		made := &tags.Category{Name: parts[0], Cardinality: "MULTIPLE", AssociableTypes: []string{"VirtualMachine"}}
		if _, err = manager.CreateCategory(ctx, made); err != nil {
			return err
		}
		if category, err = manager.GetCategory(ctx, parts[0]); err != nil {
			return err
		}
	}
	id := ""
	if known, err := manager.GetTagForCategory(ctx, parts[1], parts[0]); err == nil {
		id = known.ID
	} else if id, err = manager.CreateTag(ctx, &tags.Tag{Name: parts[1], CategoryID: category.ID}); err != nil {
		return err
	}
	return manager.AttachTag(ctx, id, types.ManagedObjectReference{Type: "VirtualMachine", Value: vm})
}
