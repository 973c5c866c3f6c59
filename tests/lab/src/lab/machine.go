package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
)

// action is what the control endpoint does to one VM.
type action func(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error)

// actions are keyed by "METHOD name".
var actions = map[string]action{
	"POST power-on":             setPower(true),
	"POST power-off":            setPower(false),
	"POST reset-tracking":       resetTracking,
	"POST consolidation-needed": setConsolidation,
	"POST snapshot":             takeSnapshot,
	"POST map":                  setMap,
	"GET map":                   getMap,
	"DELETE map":                clearMap,
	"POST grow":                 grow,
	"POST revert":               revert,
	"POST storage-vmotion":      storageVmotion,
	"POST tasks":                setTasks,
	"POST switch-host":          switchHost,
	"POST guest":                setGuest,
	"GET guest":                 getGuest,
	"GET guest/events":          guestEvents,
	"DELETE guest/events":       forgetGuestEvents,
}

// serveMachine takes METHOD /vm/NAME/ACTION. A slash within NAME, an inventory path, is written %2F.
func serveMachine(r *http.Request) (interface{}, error) {
	parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/vm/"), "/")
	name, err := url.PathUnescape(parts[0])
	if err != nil {
		return nil, err
	}
	vm, err := simulator.Lab.FindMachine(name)
	if err != nil {
		return nil, err
	}
	if len(parts) == 4 && parts[1] == "disks" && parts[3] == "touch" && r.Method == http.MethodPost {
		return touch(r, vm, parts[2])
	}
	act, ok := actions[r.Method+" "+strings.Join(parts[1:], "/")]
	if !ok {
		return nil, fmt.Errorf("no action %s %s", r.Method, r.URL.Path)
	}
	return act(r, vm)
}

func setPower(on bool) action {
	return func(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
		return struct{}{}, simulator.Lab.SetPower(vm, on)
	}
}

func resetTracking(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	simulator.Lab.ResetTracking(vm.Self)
	return struct{}{}, nil
}

func setConsolidation(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	body := struct {
		Needed bool `json:"needed"`
		Stuck  bool `json:"stuck"`
		Times  int  `json:"stuck_times"`
		Deltas bool `json:"deltas"`
	}{Needed: true}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	if body.Deltas {
		if err := simulator.Lab.OrphanDeltas(vm); err != nil {
			return nil, err
		}
	}
	simulator.Lab.SetConsolidation(vm, body.Needed, body.Stuck, body.Times)
	return body, nil
}

func takeSnapshot(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	body := simulator.NewSnapshot{Name: "foreign", Description: "made by the lab"}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	moref, err := simulator.Lab.TakeSnapshot(vm, body)
	return map[string]string{"snapshot": moref}, err
}

func setTasks(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	var body simulator.TaskBehaviour
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	simulator.Lab.SetTasks(vm, body)
	return body, nil
}

func setMap(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	var body struct {
		Key int32 `json:"key"`
		simulator.MapOddity
	}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	return body, simulator.Lab.SetMapOddity(vm, body.Key, &body.MapOddity)
}

func getMap(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	return simulator.Lab.Maps(vm), nil
}

func clearMap(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	return struct{}{}, simulator.Lab.SetMapOddity(vm, 0, nil)
}

func grow(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	body := struct {
		Key    int32 `json:"key"`
		Bytes  int64 `json:"bytes"`
		Forget bool  `json:"forget"`
	}{Key: 2000}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	capacity, err := simulator.Lab.Grow(vm, body.Key, body.Bytes, body.Forget)
	return map[string]int64{"capacity": capacity}, err
}

func revert(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	var body struct {
		Snapshot     string `json:"snapshot"`
		KeepTracking bool   `json:"keep_tracking"`
	}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	return struct{}{}, simulator.Lab.Revert(vm, body.Snapshot, body.KeepTracking)
}

func storageVmotion(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	var body struct {
		Datastore     string `json:"datastore"`
		Base          string `json:"base"`
		ResetTracking bool   `json:"reset_tracking"`
	}
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	return struct{}{}, simulator.Lab.StorageVmotion(vm, body.Datastore, body.Base, body.ResetTracking)
}

func switchHost(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	host, err := simulator.Lab.SwitchHost(vm)
	return map[string]string{"host": host}, err
}

func setGuest(r *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	change, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if err := simulator.Lab.SetGuest(vm, change); err != nil {
		return nil, err
	}
	return getGuest(r, vm)
}

func getGuest(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	return simulator.Lab.Guest(vm)
}

func guestEvents(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	return simulator.Lab.GuestEvents(vm), nil
}

func forgetGuestEvents(_ *http.Request, vm *simulator.VirtualMachine) (interface{}, error) {
	simulator.Lab.ForgetGuestEvents(vm)
	return struct{}{}, nil
}

func touch(r *http.Request, vm *simulator.VirtualMachine, key string) (interface{}, error) {
	n, err := strconv.ParseInt(key, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is no device key", key)
	}
	var body simulator.Touch
	if err := parseBody(r, &body); err != nil {
		return nil, err
	}
	return simulator.Lab.Touch(vm, int32(n), body)
}
