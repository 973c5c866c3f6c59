package main

import (
	"net/http"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// permitSoap answers NoPermission to a call that the caller's role does not allow.
func (v *vcenter) permitSoap(w http.ResponseWriter, r *http.Request, method string, this types.ManagedObjectReference, body []byte) bool {
	if !v.enforce {
		return true
	}
	user := simulator.UserOf(sessionOf(r))
	if user == "" {
		return true // upstream refuses what needs a session
	}
	missing := simulator.Lab.Missing(user, simulator.Lab.NeedsOf(method, this, body))
	if missing == nil {
		return true
	}
	fault := &types.NoPermission{Object: missing.Object, PrivilegeId: missing.Privilege}
	if err := simulator.WriteFault(w, "Permission to perform this operation was denied.", fault); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	return false
}

// permitFolder tells which privilege a request of a datastore's file lacks, "" for none.
func (v *vcenter) permitFolder(r *http.Request) string {
	if !v.enforce {
		return ""
	}
	query := r.URL.Query()
	ds := simulator.Lab.DatastoreNamed(query.Get("dcPath"), query.Get("dsName"))
	needs := []simulator.Need{{Privilege: "Datastore.Browse", Object: ds}, {Privilege: "Datastore.FileManagement", Object: ds}}
	if missing := simulator.Lab.Missing(v.userOf(r), needs); missing != nil {
		return missing.Privilege
	}
	return ""
}

// userOf reads who asks from the session's cookie or from Basic authentication.
func (v *vcenter) userOf(r *http.Request) string {
	if session := sessionOf(r); session != "" {
		return simulator.UserOf(session)
	}
	user, _, _ := r.BasicAuth()
	return user
}

// permitRest is about tags: they are read with System.Read and attached with a privilege of their own.
func (v *vcenter) permitRest(r *http.Request) string {
	if !v.enforce || strings.HasSuffix(r.URL.Path, "/cis/session") {
		return ""
	}
	action := r.URL.Query().Get("~action")
	privilege := "System.Read"
	switch {
	case action == "attach" || action == "detach":
		privilege = "InventoryService.Tagging.AttachTag"
	case action == "" && r.Method == http.MethodPost && strings.Contains(r.URL.Path, "category"):
		privilege = "InventoryService.Tagging.CreateCategory"
	case action == "" && r.Method == http.MethodPost:
		privilege = "InventoryService.Tagging.CreateTag"
	}
	needs := []simulator.Need{{Privilege: privilege, Object: simulator.Lab.RootFolder()}}
	if missing := simulator.Lab.Missing(v.restUser(r), needs); missing != nil {
		return missing.Privilege
	}
	return ""
}

// serveRole is GET and POST /role.
func serveRole(r *http.Request) (interface{}, error) {
	if r.Method == http.MethodPost {
		var body struct {
			Privileges []string `json:"privileges"`
			Without    []string `json:"without"`
		}
		if err := parseBody(r, &body); err != nil {
			return nil, err
		}
		if err := simulator.Lab.SetRole(body.Privileges, body.Without); err != nil {
			return nil, err
		}
	}
	return map[string]interface{}{"user": simulator.BackupUser, "privileges": simulator.Lab.Role()}, nil
}
