package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// fault is one thing that goes wrong on demand.
type fault struct {
	ID     int    `json:"id"`
	Method string `json:"method"` // SOAP method, folder-get, folder-head, folder-put, or * for all
	Kind   string `json:"kind"`
	After  int    `json:"after"` // matching calls to let pass first
	Times  int    `json:"times"` // calls to hit: 0 means 1, -1 means all
	VM     string `json:"vm"`    // name or moref, "" for any
	Hits   int    `json:"hits"`
	passed int
}

type faultList struct {
	mu   sync.Mutex
	list []*fault
	last int
}

var plainKinds = map[string]bool{
	"drop": true, "drop-after": true, "expire-session": true, "status-200": true, "short": true, "wrong-range": true,
}

func (l *faultList) add(f fault) (int, error) {
	kind, value := f.split()
	switch {
	case f.Method == "":
		return 0, fmt.Errorf("give a method")
	case kind == "fault" || kind == "task-error":
		if _, err := simulator.NewFault(value); err != nil {
			return 0, err
		}
		if kind == "task-error" && !strings.HasSuffix(f.Method, "_Task") {
			return 0, fmt.Errorf("%s makes no task", f.Method)
		}
	case nfcKind(f.Method, kind):
		return l.addNfc(f)
	case kind == "hang" || kind == "http":
		if n, err := strconv.ParseFloat(value, 64); err != nil || n < 0 {
			return 0, fmt.Errorf("%s needs a number", kind)
		}
	case !plainKinds[f.Kind]:
		return 0, fmt.Errorf("unknown kind %q", f.Kind)
	}
	return l.put(f), nil
}

func (l *faultList) put(f fault) int {
	if f.Times == 0 {
		f.Times = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	f.ID, f.Hits = l.last, 0
	l.list = append(l.list, &f)
	return f.ID
}

// hit answers the fault that a call runs into.
func (l *faultList) hit(method, moref, name string) *fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.list {
		if (f.Method != method && f.Method != "*") || (f.VM != "" && f.VM != moref && f.VM != name) {
			continue
		}
		if f.Times >= 0 && f.Hits >= f.Times {
			continue
		}
		if f.passed < f.After {
			f.passed++
			continue
		}
		f.Hits++
		return f
	}
	return nil
}

func (l *faultList) all() []fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []fault{}
	for _, f := range l.list {
		list = append(list, *f)
	}
	return list
}

func (l *faultList) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = nil
}

// split parts "fault:FileFault", "hang:2" and "http-503" into kind and value.
func (f *fault) split() (kind, value string) {
	if strings.HasPrefix(f.Kind, "http-") {
		return "http", strings.TrimPrefix(f.Kind, "http-")
	}
	parts := strings.SplitN(f.Kind, ":", 2)
	if len(parts) == 2 {
		return parts[0], parts[1]
	}
	return f.Kind, ""
}

// vim makes the fault to answer with; what must not be empty in it names the object of the call.
func (f *fault) vim(name string, this types.ManagedObjectReference) types.BaseMethodFault {
	made, err := simulator.NewFault(name)
	if err != nil {
		return &types.SystemError{Reason: err.Error()} // add has checked the name
	}
	switch v := made.(type) {
	case *types.NoPermission:
		v.Object, v.PrivilegeId = this, "System.Read"
	case *types.NotAuthenticated:
		v.Object, v.PrivilegeId = this, "System.View"
	case *types.ManagedObjectNotFound:
		v.Obj = this
	}
	return made
}

// interrupt does what is the same for every protocol, and tells whether the call goes on.
func (f *fault) interrupt(w http.ResponseWriter, r *http.Request) bool {
	kind, value := f.split()
	switch kind {
	case "drop":
		panic(http.ErrAbortHandler)
	case "http":
		status, _ := strconv.Atoi(value)
		refuse(w, r, "injected by the lab", status)
		return false
	case "hang":
		seconds, _ := strconv.ParseFloat(value, 64)
		select {
		case <-time.After(time.Duration(seconds * float64(time.Second))):
			return true
		case <-r.Context().Done():
			return false
		}
	}
	return true
}
