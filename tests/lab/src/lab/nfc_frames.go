package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Messages of NFC. Everything is little-endian.

const (
	nfcClassicLength = 264

	nfcHandshake  = 43
	nfcParameters = 33
	nfcReply      = 36
	nfcVersion    = 51
	nfcConnection = 54
	nfcFeatures   = 55
	nfcOpenAio    = 52
	nfcComplete   = 4

	nfcMagic       = 0xA100DA7A
	nfcHeader      = 16
	nfcMaxPayload  = 4096
	nfcError       = 1
	nfcOpenSession = 2
	nfcSockets     = 9
	nfcPool        = 22
	nfcOpenFile    = 4
	nfcIO          = 7
	nfcAllocated   = 13
	nfcCloseFile   = 5
	nfcCloseAio    = 3

	nfcReadOnly  = 0x1e
	nfcReadWrite = 0x1a
	nfcFastlz    = 2
)

// Codes in error frames. Of these the protocol's description has only readOnlyTicket.
const (
	codeRefused        = 0x01
	codeNoMemory       = 0x05
	codeReadOnlyTicket = 0x0b
)

// nfcPayloads has the length of each request's payload.
var nfcPayloads = map[uint32]int{
	nfcOpenSession: 16, nfcSockets: 12, nfcPool: 4, nfcOpenFile: 60, nfcIO: 44, nfcCloseFile: 8, nfcCloseAio: 4,
}

var little = binary.LittleEndian

// classic makes a 264-byte message with one word in it.
func classic(kind uint32, at int, value uint32) []byte {
	b := make([]byte, nfcClassicLength)
	little.PutUint32(b, kind)
	if at > 0 {
		little.PutUint32(b[at:], value)
	}
	return b
}

// frameOf makes an AIO message; the extra is outside of the size.
func frameOf(kind, op uint32, payload, extra []byte) []byte {
	b := make([]byte, 0, nfcHeader+len(payload)+len(extra))
	b = b[:nfcHeader]
	little.PutUint32(b, nfcMagic)
	little.PutUint32(b[4:], kind)
	little.PutUint32(b[8:], uint32(len(payload)))
	little.PutUint32(b[12:], op)
	return append(append(b, payload...), extra...)
}

// request is an AIO message of a client, without its extra.
type request struct {
	kind, op uint32
	payload  []byte
}

// errPayload comes with a request that is without its payload: that is longer than any.
var errPayload = errors.New("a payload that is longer than any")

func readRequest(from io.Reader) (*request, error) {
	var header [nfcHeader]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return nil, err
	}
	if magic := little.Uint32(header[:]); magic != nfcMagic {
		return nil, fmt.Errorf("frame with magic %08x", magic)
	}
	size := little.Uint32(header[8:])
	r := &request{kind: little.Uint32(header[4:]), op: little.Uint32(header[12:])}
	if size > nfcMaxPayload {
		return r, errPayload
	}
	r.payload = make([]byte, size)
	_, err := io.ReadFull(from, r.payload)
	return r, err
}

func errorPayload(code uint32) []byte {
	b := make([]byte, 16)
	little.PutUint32(b, code)
	return b
}

// ioHead is the payload of an I/O message: a request's, a fragment's or an answer's.
type ioHead struct {
	handle                    uint64
	verb, compression         uint32 // verb 1 reads, 0 writes
	offset                    uint64
	total, dest, plain, extra uint32
	last                      uint32
}

func parseIO(b []byte) ioHead {
	return ioHead{
		handle: little.Uint64(b), verb: little.Uint32(b[8:]), compression: little.Uint32(b[12:]), offset: little.Uint64(b[16:]),
		total: little.Uint32(b[24:]), dest: little.Uint32(b[28:]), plain: little.Uint32(b[32:]), extra: little.Uint32(b[36:]), last: little.Uint32(b[40:]),
	}
}

func (h ioHead) bytes() []byte {
	b := make([]byte, 44)
	little.PutUint64(b, h.handle)
	little.PutUint32(b[8:], h.verb)
	little.PutUint32(b[12:], h.compression)
	little.PutUint64(b[16:], h.offset)
	for i, v := range []uint32{h.total, h.dest, h.plain, h.extra, h.last} {
		little.PutUint32(b[24+4*i:], v)
	}
	return b
}
