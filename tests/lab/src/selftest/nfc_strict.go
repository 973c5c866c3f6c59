package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
)

// writable is a new VM's first disk, to be opened for writing.
type writable struct {
	vm   *object.VirtualMachine
	path string
	flat string
}

func (b *bench) writable(name string) (*writable, error) {
	folder, err := b.root()
	if err != nil {
		return nil, err
	}
	vm, err := b.create(name, folder)
	return &writable{vm, "[lab-ds] " + name + "/" + name + ".vmdk", filepath.Join(b.State, "ds/lab-ds", name, name+"-flat.vmdk")}, err
}

func (w *writable) open(b *bench, nameless bool) (*nfc, uint64, error) {
	t, err := b.ticket(b.client, "NfcRandomAccessOpenDisk", w.vm.Reference().Value, 2000, "")
	if err != nil {
		return nil, 0, err
	}
	t.nameless = nameless
	c, err := t.dial()
	if err != nil {
		return nil, 0, err
	}
	handle, _, err := c.open(w.path, readWrite)
	return c, handle, err
}

func (w *writable) destroy(b *bench) error {
	task, err := w.vm.Destroy(b.ctx)
	if err != nil {
		return err
	}
	return task.Wait(b.ctx)
}

// writePayload has the numbers of one fragment: total, dest, plain, extra and what stands behind them.
func writePayload(handle, opcode uint64, numbers [5]uint32) []byte {
	payload := make([]byte, 44)
	le.PutUint64(payload, handle)
	le.PutUint64(payload[8:], opcode)
	for i, v := range numbers {
		le.PutUint32(payload[24+4*i:], v)
	}
	return payload
}

// nfcIsLenient has no names, a number where writes have no field, fragments in no order, and asks for a hint.
func nfcIsLenient(b *bench) error {
	w, err := b.writable("nfc-lenient")
	if err != nil {
		return err
	}
	if err := b.control("DELETE", "/nfc", nil, nil); err != nil {
		return err
	}
	c, handle, err := w.open(b, true)
	if err != nil {
		return err
	}
	_, refusal := c.exchange(13, make([]byte, 24), nil)
	hinted, err := b.nfcState()
	if err != nil {
		return err
	}
	op := c.op
	c.op++
	for _, at := range []uint32{1024, 0, 1536, 512} {
		piece := bytes.Repeat([]byte{byte('a' + at/512)}, 512)
		if err := c.sendAs(op, 7, writePayload(handle, 0, [5]uint32{2048, at, 512, 512, 9}), piece); err != nil {
			return err
		}
	}
	kind, got, _, _, err := c.receive()
	if err != nil {
		return err
	}
	stored, err := os.ReadFile(w.flat)
	if err != nil {
		return err
	}
	state, err := b.nfcState()
	if err != nil {
		return err
	}
	want := strings.Repeat("a", 512) + strings.Repeat("b", 512) + strings.Repeat("c", 512) + strings.Repeat("d", 512)
	return first(expect("the hint", fmt.Sprint(refusal), fmt.Sprint(nfcRefusal(1))), expect("type", kind, uint32(7)), expect("operation", got, op), expect("stored", string(stored[:2048]), want),
		expect("names and hint are not odd", len(hinted.Odd), 0), expect("the number is, in each of four", len(state.Odd), 4),
		c.closeFile(handle), c.bye(), w.destroy(b), b.control("DELETE", "/nfc", nil, nil))
}

// nfcSaysWhatDoesNotFit wants an error frame with the request's number, and then the end.
func nfcSaysWhatDoesNotFit(b *bench) error {
	w, err := b.writable("nfc-strict")
	if err != nil {
		return err
	}
	long, some := make([]byte, 65537), bytes.Repeat([]byte("x"), 512)
	type frame struct {
		kind           uint32
		payload, extra []byte
	}
	for name, frames := range map[string]func(handle uint64) []frame{
		"a part twice": func(h uint64) []frame {
			part := frame{7, writePayload(h, 0, [5]uint32{1024, 0, 512, 512, 0}), some}
			return []frame{part, part}
		},
		"a part that overlaps": func(h uint64) []frame {
			return []frame{{7, writePayload(h, 0, [5]uint32{1536, 512, 512, 512, 0}), some}, {7, writePayload(h, 0, [5]uint32{1536, 256, 512, 512, 0}), some}}
		},
		"a part beyond the end": func(h uint64) []frame {
			return []frame{{7, writePayload(h, 0, [5]uint32{1024, 768, 512, 512, 0}), some}}
		},
		"a part of another write": func(h uint64) []frame {
			return []frame{{7, writePayload(h, 0, [5]uint32{1024, 0, 512, 512, 0}), some}, {7, writePayload(h, 0, [5]uint32{1025, 512, 512, 512, 0}), some}}
		},
		"an empty part": func(h uint64) []frame { return []frame{{7, writePayload(h, 0, [5]uint32{1024, 0, 0, 0, 0}), nil}} },
		"a part too long": func(h uint64) []frame {
			return []frame{{7, writePayload(h, 0, [5]uint32{131072, 0, 65537, 65537, 0}), long}}
		},
		"neither read nor write": func(h uint64) []frame { return []frame{{7, writePayload(h, 3, [5]uint32{512, 0, 512, 512, 0}), some}} },
		"a payload too short":    func(uint64) []frame { return []frame{{5, make([]byte, 4), nil}} },
		"a payload too long":     func(uint64) []frame { return []frame{{22, make([]byte, 5000), nil}} },
		"a path too long": func(uint64) []frame {
			payload := make([]byte, 60)
			le.PutUint32(payload, 4097)
			return []frame{{4, payload, make([]byte, 4097)}}
		},
	} {
		if err := os.Truncate(w.flat, 0); err != nil {
			return err
		}
		if err := first(os.Truncate(w.flat, 8<<20), b.control("DELETE", "/nfc", nil, nil)); err != nil {
			return err
		}
		c, handle, err := w.open(b, false)
		if err != nil {
			return err
		}
		op := c.op
		for _, f := range frames(handle) {
			if err := c.sendAs(op, f.kind, f.payload, f.extra); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		kind, got, payload, _, err := c.receive()
		if err != nil {
			return fmt.Errorf("%s: no error frame: %w", name, err)
		}
		if err := first(expect("type", kind, uint32(1)), expect("operation", got, op), expect("code", le.Uint32(payload), uint32(1))); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_, _, _, _, ended := c.receive()
		state, err := b.nfcState()
		if err := first(err, expect("the end", ended == io.EOF || ended == io.ErrUnexpectedEOF, true), expect("oddities", len(state.Odd), 1), c.raw.Close()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return first(w.destroy(b), b.control("DELETE", "/nfc", nil, nil))
}
