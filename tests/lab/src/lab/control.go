package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
)

// controlHandler is the tests' side door: plain HTTP and JSON on loopback.
func controlHandler(v *vcenter) http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern, method string, serve func(*http.Request) (interface{}, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != method {
				http.Error(w, "not a method of "+pattern, http.StatusMethodNotAllowed)
				return
			}
			reply(w, r, serve)
		})
	}
	answer("/vms", "GET", func(*http.Request) (interface{}, error) { return simulator.Lab.Machines(), nil })
	answer("/snapshots", "GET", func(*http.Request) (interface{}, error) { return snapshots(), nil })
	answer("/frozen", "GET", func(*http.Request) (interface{}, error) { return simulator.Lab.Freezes(), nil })
	answer("/frozen/prune", "POST", prune)
	answer("/sessions/expire", "POST", func(*http.Request) (interface{}, error) {
		return map[string]int{"expired": simulator.EndSession("")}, nil
	})
	answer("/delay", "POST", v.setDelay)
	answer("/mounts", "POST", mount)
	mux.HandleFunc("/calls", func(w http.ResponseWriter, r *http.Request) { reply(w, r, v.serveCalls) })
	mux.HandleFunc("/faults", func(w http.ResponseWriter, r *http.Request) { reply(w, r, v.serveFaults) })
	v.nfc.control(answer, mux)
	mux.HandleFunc("/guests", func(w http.ResponseWriter, r *http.Request) { reply(w, r, v.guests.serveControl) })
	answer("/guests/cut", "POST", v.guests.cutDisks)
	answer("/snapshots/age", "POST", ageSnapshot)
	answer("/snapshots/describe", "POST", describeSnapshot)
	mux.HandleFunc("/datastore/", func(w http.ResponseWriter, r *http.Request) { reply(w, r, setSpace) })
	mux.HandleFunc("/role", func(w http.ResponseWriter, r *http.Request) { reply(w, r, serveRole) })
	mux.HandleFunc("/vm/", func(w http.ResponseWriter, r *http.Request) { reply(w, r, serveMachine) })
	return mux
}

func reply(w http.ResponseWriter, r *http.Request, serve func(*http.Request) (interface{}, error)) {
	value, err := serve(r)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		value = map[string]string{"error": err.Error()}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	_ = encoder.Encode(value) // the client has gone: nobody to tell
}

// parseBody reads a JSON body, which may be absent.
func parseBody(r *http.Request, into interface{}) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil && err != io.EOF {
		return fmt.Errorf("parse the body: %w", err)
	}
	return nil
}

func snapshots() []simulator.Snapshot {
	list := []simulator.Snapshot{}
	for _, m := range simulator.Lab.Machines() {
		list = append(list, m.Snapshots...)
	}
	return list
}

func ageSnapshot(r *http.Request) (interface{}, error) {
	var body struct {
		Snapshot   string  `json:"snapshot"`
		AgeSeconds float64 `json:"age_seconds"`
	}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	return struct{}{}, simulator.Lab.AgeSnapshot(body.Snapshot, body.AgeSeconds)
}

func describeSnapshot(r *http.Request) (interface{}, error) {
	var body struct{ Snapshot, Description string }
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	return struct{}{}, simulator.Lab.DescribeSnapshot(body.Snapshot, body.Description)
}

// setSpace is POST /datastore/NAME.
func setSpace(r *http.Request) (interface{}, error) {
	var body simulator.Space
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	if r.Method != http.MethodPost {
		return nil, fmt.Errorf("use POST /datastore/NAME")
	}
	return simulator.Lab.SetSpace(strings.TrimPrefix(r.URL.Path, "/datastore/"), body)
}

func prune(*http.Request) (interface{}, error) {
	deleted, err := simulator.Lab.Prune()
	return map[string][]string{"deleted": deleted}, err
}

// mount answers a directory that shows a datastore as a machine sees it that has mounted it.
func mount(r *http.Request) (interface{}, error) {
	var body struct {
		Datastore string `json:"datastore"`
	}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	path, err := simulator.Mounts.Mount(body.Datastore)
	return map[string]string{"path": path}, err
}

func (v *vcenter) setDelay(r *http.Request) (interface{}, error) {
	var body struct {
		FolderBytesPerSecond int64 `json:"folder_bytes_per_second"`
	}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	v.pace.set(body.FolderBytesPerSecond)
	return body, nil
}

func (v *vcenter) serveCalls(r *http.Request) (interface{}, error) {
	if r.Method == http.MethodDelete {
		v.calls.clear()
		return struct{}{}, nil
	}
	most := 100
	if text := r.URL.Query().Get("last"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("last: %w", err)
		}
		most = n
	}
	count, last := v.calls.report(most)
	return map[string]interface{}{"count": count, "last": last}, nil
}

func (v *vcenter) serveFaults(r *http.Request) (interface{}, error) {
	switch r.Method {
	case http.MethodGet:
		return v.faults.all(), nil
	case http.MethodDelete:
		v.faults.clear()
		return struct{}{}, nil
	case http.MethodPost:
		var f fault
		if err := parseBody(r, &f); err != nil {
			return nil, err
		}
		id, err := v.faults.add(f)
		return map[string]int{"id": id}, err
	}
	return nil, fmt.Errorf("not a method of /faults")
}
