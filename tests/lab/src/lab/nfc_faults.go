package main

import (
	"fmt"
	"strconv"
	"strings"
)

// nfcKinds has what may strike each step of NFC, besides `hang:SECONDS` and `drop` that strike them all.
var nfcKinds = map[string][]string{
	"nfc-connect": {"wrong-certificate", "wrong-inner-certificate"},
	"nfc-open":    {"error"},
	"nfc-read":    {"error", "close-mid", "slow", "wrong-total", "wrong-dest", "wrong-offset", "short", "corrupt", "twice", "lost-fragment"},
	"nfc-write":   {"error", "close-mid", "slow", "drop-after"},
}

// nfcKind tells whether addNfc judges a fault.
func nfcKind(method, kind string) bool {
	return strings.HasPrefix(method, "nfc-") || kind == "lost-ticket"
}

func (l *faultList) addNfc(f fault) (int, error) {
	kind, value := f.split()
	if kind == "lost-ticket" {
		if !strings.HasPrefix(f.Method, "Nfc") {
			return 0, fmt.Errorf("%s makes no ticket", f.Method)
		}
		return l.put(f), nil
	}
	kinds, ok := nfcKinds[f.Method]
	if !ok {
		return 0, fmt.Errorf("no step %s", f.Method)
	}
	known := kind == "hang" || kind == "drop"
	for _, k := range kinds {
		known = known || k == kind
	}
	if !known {
		return 0, fmt.Errorf("unknown kind %q of %s", f.Kind, f.Method)
	}
	var err error
	switch kind {
	case "error":
		_, err = strconv.ParseUint(value, 0, 32)
	case "hang", "slow":
		_, err = strconv.ParseFloat(value, 64)
	}
	if err != nil {
		return 0, fmt.Errorf("%s needs a number", kind)
	}
	return l.put(f), nil
}
