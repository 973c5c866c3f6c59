package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"fastlz"

	"github.com/vmware/govmomi/simulator"
)

// nfcSession is one connection after authd. One goroutine reads requests and does writes, another sends answers.
type nfcSession struct {
	server *nfcServer
	host   *nfcHost
	grant  *simulator.NfcGrant
	raw    net.Conn
	conn   net.Conn
	in     *bufio.Reader

	files    map[uint64]*nfcHandle // the reading goroutine's own
	writes   map[uint32]*nfcWrite  // likewise
	last     uint64
	nextOp   uint32
	inFlight int64 // guarded by nfcServer.mu

	mu      sync.Mutex
	changed *sync.Cond
	answers []*nfcAnswer
	sending bool  // an answer is on its way
	broken  error // why the sender stopped
	closing bool
	sender  sync.WaitGroup
}

// nfcHandle is an open disk. Reads in flight keep its file open after a close.
type nfcHandle struct {
	file     *os.File
	capacity uint64
	write    bool
	readers  sync.WaitGroup
}

// nfcWrite is a long write of which not all fragments have come.
type nfcWrite struct {
	head     ioHead
	came     stretches
	reserved int64
	failed   uint32 // code of the answer, 0 while all is well
	kind     string
	value    string
}

func newNfcSession(s *nfcServer, h *nfcHost, grant *simulator.NfcGrant, raw, conn net.Conn) *nfcSession {
	session := &nfcSession{
		server: s, host: h, grant: grant, raw: raw, conn: conn, in: bufio.NewReaderSize(conn, 128<<10),
		files: map[uint64]*nfcHandle{}, writes: map[uint32]*nfcWrite{}, last: 0x1000 + uint64(s.intn(1<<20)),
	}
	session.changed = sync.NewCond(&session.mu)
	return session
}

// run answers nil only when the client ended the session as the protocol says.
func (n *nfcSession) run() error {
	if err := n.setUp(); err != nil {
		return err
	}
	if err := n.raw.SetDeadline(time.Time{}); err != nil {
		return err
	}
	n.sender.Add(1)
	go n.send()
	for {
		r, err := readRequest(n.in)
		if err == errPayload {
			return n.giveUp(r, err)
		}
		if err != nil {
			return first(n.brokenBy(), err)
		}
		done, err := n.take(r)
		if err != nil {
			return err
		}
		if done {
			break
		}
	}
	n.drain()
	_, err := n.classic(nfcComplete)
	return err
}

// end frees what the session held, however it ended.
func (n *nfcSession) end() {
	n.raw.Close()
	n.mu.Lock()
	n.closing = true
	n.changed.Broadcast()
	n.mu.Unlock()
	n.sender.Wait()
	n.mu.Lock()
	rest := n.answers
	n.answers = nil
	n.mu.Unlock()
	for _, a := range rest {
		n.settle(a)
		n.closeRead(a)
	}
	for handle := range n.files {
		n.closeFile(handle)
	}
	for _, w := range n.writes {
		n.server.release(n, w.reserved)
	}
}

func (n *nfcSession) brokenBy() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.broken
}

// setUp is the exchange of fixed messages: C43 C33 S36 C51 S51 C54 C55 C52 S52.
func (n *nfcSession) setUp() error {
	message, err := n.classic(nfcHandshake)
	if err != nil {
		return err
	}
	if text := bytes.TrimRight(message[4:], "\x00"); string(text) != "PlainText" {
		n.server.note("handshake says %q", text)
	}
	if _, err = n.classic(nfcParameters); err != nil {
		return err
	}
	if _, err = n.conn.Write(classic(nfcReply, 16, 1)); err != nil {
		return err
	}
	if message, err = n.classic(nfcVersion); err != nil {
		return err
	}
	offered := n.server.now().Version
	if asked := little.Uint32(message[4:]); asked != 11 {
		n.server.note("version %d asked for", asked)
	}
	if _, err = n.conn.Write(classic(nfcVersion, 4, offered)); err != nil {
		return err
	}
	if message, err = n.classic(nfcConnection); err != nil {
		return err
	}
	if err = n.names(little.Uint32(message[4:]), little.Uint32(message[8:])); err != nil {
		return err
	}
	if message, err = n.classic(nfcFeatures); err != nil {
		return err
	}
	if features := little.Uint32(message[4:]); features != 3 {
		n.server.note("features %d", features)
	}
	if _, err = n.classic(nfcOpenAio); err != nil {
		return err
	}
	_, err = n.conn.Write(classic(nfcOpenAio, 0, 0))
	return err
}

// names reads the client's name and the operation's, which follow their message without a frame.
func (n *nfcSession) names(client, operation uint32) error {
	if client > 1024 || operation > 1024 {
		return fmt.Errorf("names of %d and %d bytes", client, operation)
	}
	_, err := io.CopyN(io.Discard, n.in, int64(client)+int64(operation))
	return err
}

// classic reads a 264-byte message that must be of one type.
func (n *nfcSession) classic(kind uint32) ([]byte, error) {
	message := make([]byte, nfcClassicLength)
	if _, err := io.ReadFull(n.in, message); err != nil {
		return nil, fmt.Errorf("message %d: %w", kind, err)
	}
	if got := little.Uint32(message); got != kind {
		n.server.note("message %d in place of %d", got, kind)
		return nil, fmt.Errorf("message %d in place of %d", got, kind)
	}
	return message, nil
}

// take does one request and tells whether it closed the AIO session.
func (n *nfcSession) take(r *request) (done bool, err error) {
	if !simulator.Lab.HostIsThere(n.host.Moref) {
		return false, errors.New("the host went into maintenance mode")
	}
	if want, known := nfcPayloads[r.kind]; known && len(r.payload) != want {
		return false, n.giveUp(r, fmt.Errorf("type %d with a payload of %d bytes instead of %d", r.kind, len(r.payload), want))
	}
	if _, fragment := n.writes[r.op]; !fragment {
		if r.op != n.nextOp {
			n.server.note("operation id %d, expected %d", r.op, n.nextOp)
		}
		n.nextOp = r.op + 1
	}
	switch r.kind {
	case nfcOpenSession, nfcPool:
		n.answer(r, r.payload)
	case nfcSockets:
		sizes := make([]byte, 12)
		little.PutUint32(sizes, 256<<10)
		little.PutUint32(sizes[4:], 256<<10)
		n.answer(r, sizes)
	case nfcOpenFile:
		return false, n.openFile(r)
	case nfcIO:
		return false, n.io(r)
	case nfcCloseFile:
		n.server.calls.add(call{Method: "nfc-close", VM: n.grant.VMName})
		if !n.closeFile(little.Uint64(r.payload)) {
			n.refuse(r, codeRefused)
			break
		}
		n.answer(r, r.payload)
	case nfcCloseAio:
		n.answer(r, r.payload)
		return true, nil
	case nfcAllocated:
		// A question whose layout is not described: not held against who asks, who waits for an answer though.
		n.refuse(r, codeRefused)
	default:
		n.server.note("type %d", r.kind)
		n.refuse(r, codeRefused)
	}
	return false, nil
}

func (n *nfcSession) openFile(r *request) error {
	length, kind, flags := little.Uint32(r.payload), little.Uint32(r.payload[16:]), little.Uint32(r.payload[20:])
	if length > 4096 {
		return n.giveUp(r, fmt.Errorf("open of a path of %d bytes", length))
	}
	path := make([]byte, length)
	if _, err := io.ReadFull(n.in, path); err != nil {
		return err
	}
	if kind != 2 || (flags != nfcReadOnly && flags != nfcReadWrite) || bytes.IndexByte(path, 0) >= 0 {
		n.server.note("open of %q with type %d and flags %#x", path, kind, flags)
	}
	n.server.calls.add(call{Method: "nfc-open", This: n.host.Moref, VM: n.grant.VMName, Path: string(path)})
	switch kind, value := n.server.nfcFault("nfc-open", n.grant); kind {
	case "error":
		n.refuse(r, errorCode(value))
		return nil
	case "drop":
		return errors.New("dropped on demand")
	case "hang":
		time.Sleep(seconds(value))
	}
	handle, code := n.open(string(path), flags == nfcReadWrite)
	if code != 0 {
		n.refuse(r, code)
		return nil
	}
	reply := make([]byte, 60)
	n.last++
	n.files[n.last] = handle
	little.PutUint64(reply[8:], n.last)
	little.PutUint32(reply[16:], 2)
	little.PutUint32(reply[20:], flags)
	little.PutUint64(reply[28:], handle.capacity)
	little.PutUint32(reply[36:], 512)
	n.answer(r, reply)
	return nil
}

func (n *nfcSession) open(path string, write bool) (*nfcHandle, uint32) {
	if write && !n.grant.Write {
		return nil, codeReadOnlyTicket
	}
	file := simulator.Lab.NfcOpen(n.grant, path)
	if file == nil || file.Locked || (write && file.Frozen) {
		return nil, codeRefused
	}
	if !n.server.reserveDisk(n.host) {
		return nil, codeNoMemory
	}
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(file.Path, mode, 0)
	if err != nil {
		n.server.releaseDisk(n.host)
		return nil, codeRefused
	}
	return &nfcHandle{file: f, capacity: uint64(file.Capacity), write: write}, 0
}

func (n *nfcSession) closeFile(id uint64) bool {
	handle, ok := n.files[id]
	if !ok {
		return false
	}
	delete(n.files, id)
	n.server.releaseDisk(n.host)
	go func() {
		handle.readers.Wait()
		handle.file.Close()
	}()
	return true
}

func (n *nfcSession) io(r *request) error {
	head := parseIO(r.payload)
	switch head.verb {
	case 1:
		return n.read(r, head)
	case 0:
		return n.write(r, head)
	}
	return n.giveUp(r, fmt.Errorf("I/O with opcode %d", head.verb))
}

func (n *nfcSession) read(r *request, head ioHead) error {
	if head.dest != 0 || head.plain != head.total || head.extra != head.total || head.last != 0 || (head.compression != 0 && head.compression != nfcFastlz) {
		n.server.note("read with %+v", head)
	}
	n.server.calls.add(call{Method: "nfc-read", This: n.host.Moref, VM: n.grant.VMName, Range: fmt.Sprintf("%d+%d", head.offset, head.total)})
	kind, value := n.server.nfcFault("nfc-read", n.grant)
	switch kind {
	case "error":
		n.refuse(r, errorCode(value))
		return nil
	case "drop":
		return errors.New("dropped on demand")
	}
	handle, ok := n.files[head.handle]
	if !ok || head.total == 0 || head.offset > handle.capacity || uint64(head.total) > handle.capacity-head.offset {
		n.refuse(r, codeRefused)
		return nil
	}
	if !n.server.reserve(n, int64(head.total)) {
		n.refuse(r, codeNoMemory)
		return nil
	}
	n.queue(n.fragments(r, head, handle, kind, value)...)
	return nil
}

func errorCode(value string) uint32 {
	code, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return codeRefused // faultList.add has checked it
	}
	return uint32(code)
}

// write stores one fragment, and answers after the last of its operation.
func (n *nfcSession) write(r *request, head ioHead) error {
	if head.extra > nfcFragment || head.plain > nfcFragment || head.extra == 0 || head.plain == 0 {
		return n.giveUp(r, fmt.Errorf("write fragment %+v: empty or too long", head))
	}
	if head.last != 0 {
		n.server.note("write with %+v", head) // writes have no such field
	}
	data := make([]byte, head.extra)
	if _, err := io.ReadFull(n.in, data); err != nil {
		return err
	}
	n.server.pace.wait(len(data))
	w, ok := n.writes[r.op]
	if !ok {
		w = n.beginWrite(head)
		n.writes[r.op] = w
	}
	end := uint64(head.dest) + uint64(head.plain)
	if head.handle != w.head.handle || head.offset != w.head.offset || head.total != w.head.total ||
		end > uint64(head.total) || !w.came.add(uint64(head.dest), end) {
		return n.giveUp(r, fmt.Errorf("write fragment %+v after %+v: does not fit, or came before", head, w.head))
	}
	if w.kind == "drop" {
		return errors.New("dropped on demand")
	}
	if w.failed == 0 {
		w.failed = n.store(head, data)
	}
	if w.kind == "close-mid" && w.came.length()*2 >= uint64(w.head.total) {
		return errors.New("closed in mid-write on demand")
	}
	if w.came.length() < uint64(w.head.total) {
		return nil
	}
	return n.endWrite(r, w)
}

func (n *nfcSession) beginWrite(head ioHead) *nfcWrite {
	n.server.calls.add(call{Method: "nfc-write", This: n.host.Moref, VM: n.grant.VMName, Range: fmt.Sprintf("%d+%d", head.offset, head.total)})
	w := &nfcWrite{head: head}
	w.kind, w.value = n.server.nfcFault("nfc-write", n.grant)
	if n.server.reserve(n, int64(head.total)) {
		w.reserved = int64(head.total)
	} else {
		w.failed = codeNoMemory
	}
	return w
}

func (n *nfcSession) store(head ioHead, data []byte) uint32 {
	handle, ok := n.files[head.handle]
	if !ok || head.offset > handle.capacity || uint64(head.total) > handle.capacity-head.offset {
		return codeRefused
	}
	if !handle.write {
		return codeReadOnlyTicket
	}
	switch {
	case head.compression == nfcFastlz:
		plain, err := fastlz.Expand(data, int(head.plain))
		if err != nil {
			n.server.note("write fragment of %d bytes: %s", head.extra, err)
			return codeRefused
		}
		data = plain
	case head.compression != 0 || head.extra != head.plain:
		n.server.note("write with %+v", head)
		return codeRefused
	}
	if _, err := handle.file.WriteAt(data, int64(head.offset)+int64(head.dest)); err != nil {
		return codeRefused
	}
	return 0
}

func (n *nfcSession) endWrite(r *request, w *nfcWrite) error {
	delete(n.writes, r.op)
	n.server.release(n, w.reserved)
	switch w.kind {
	case "error":
		w.failed = errorCode(w.value)
	case "drop-after":
		return errors.New("the answer was lost on demand")
	}
	if w.failed != 0 {
		n.refuse(r, w.failed)
		return nil
	}
	reply := ioHead{offset: w.head.offset, total: w.head.total, plain: w.head.total}
	a := &nfcAnswer{frame: frameOf(nfcIO, r.op, reply.bytes(), nil), due: n.due()}
	if w.kind == "hang" || w.kind == "slow" {
		a.due = a.due.Add(seconds(w.value))
	}
	n.queue(a)
	return nil
}
