package main

import (
	"errors"
	"fastlz"
	"io"
	"log"
	"time"
)

// nfcAnswer is a frame to send: one that is ready, or a fragment of a read.
type nfcAnswer struct {
	frame []byte
	due   time.Time

	read   *nfcRead
	dest   uint32
	length uint32
}

// nfcRead is a read in flight; the sending goroutine's own once it is queued.
type nfcRead struct {
	op    uint32
	head  ioHead
	file  *nfcHandle
	kind  string // of the fault that strikes it
	sent  uint32
	count int // fragments not sent yet
	first *nfcAnswer
}

func (n *nfcSession) due() time.Time {
	return time.Now().Add(time.Duration(n.server.now().RoundTripMs * float64(time.Millisecond)))
}

func (n *nfcSession) answer(r *request, payload []byte) {
	n.queue(&nfcAnswer{frame: frameOf(r.kind, r.op, payload, nil), due: n.due()})
}

func (n *nfcSession) refuse(r *request, code uint32) {
	n.queue(&nfcAnswer{frame: frameOf(nfcError, r.op, errorPayload(code), nil), due: n.due()})
}

// giveUp says that a request cannot be carried out and that nothing after it can be understood; the session
// ends by the error that comes back.
func (n *nfcSession) giveUp(r *request, why error) error {
	n.server.note("%s", why)
	n.refuse(r, codeRefused)
	if err := n.raw.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	n.drain()
	n.linger()
	return why
}

// linger lets a client take in what was said last: bytes of its own that nobody has read would cut that off.
func (n *nfcSession) linger() {
	half, ok := n.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || n.raw.SetReadDeadline(time.Now().Add(time.Second)) != nil {
		return
	}
	if _, err := io.Copy(io.Discard, n.raw); err != nil {
		log.Printf("nfc: the end of %s: %s", n.grant.VMName, err)
	}
}

func (n *nfcSession) queue(answers ...*nfcAnswer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers = append(n.answers, answers...)
	n.changed.Broadcast()
}

// fragments cuts a read into the pieces of its answer, none above 64 KiB.
func (n *nfcSession) fragments(r *request, head ioHead, file *nfcHandle, kind, value string) []*nfcAnswer {
	read := &nfcRead{op: r.op, head: head, file: file, kind: kind}
	settings, due := n.server.now(), n.due()
	if kind == "hang" {
		due = due.Add(seconds(value))
	}
	var list []*nfcAnswer
	for dest := uint32(0); dest < head.total; {
		length := uint32(nfcFragment)
		if settings.Shuffle && kind != "twice" && n.server.intn(2) == 0 {
			length = uint32(1 + n.server.intn(nfcFragment))
		}
		if rest := head.total - dest; length > rest {
			length = rest
		}
		if kind == "slow" {
			due = due.Add(seconds(value))
		}
		list = append(list, &nfcAnswer{read: read, dest: dest, length: length, due: due})
		dest += length
	}
	read.count = len(list)
	file.readers.Add(1)
	return list
}

// send gives out answers until the session ends.
func (n *nfcSession) send() {
	defer n.sender.Done()
	buffer := make([]byte, nfcFragment)
	for {
		a := n.next()
		if a == nil {
			return
		}
		n.settle(a)
		err := n.transmit(a, buffer)
		n.closeRead(a)
		n.mu.Lock()
		n.sending, n.broken = false, err
		n.mu.Unlock()
		if err != nil {
			n.raw.Close() // wakes the reading goroutine
			return
		}
	}
}

// next waits for an answer that is due and takes any of those, nil when the session ends.
func (n *nfcSession) next() *nfcAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if n.closing {
			return nil
		}
		if at, wait := n.pick(); at >= 0 {
			a := n.answers[at]
			n.answers = append(n.answers[:at], n.answers[at+1:]...)
			n.sending = true
			return a
		} else if wait > 0 {
			timer := time.AfterFunc(wait, n.wake)
			n.changed.Wait()
			timer.Stop()
		} else {
			n.changed.Wait()
		}
	}
}

// wake takes the lock so that it does not come before the wait that it ends.
func (n *nfcSession) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed.Broadcast()
}

// pick chooses among the oldest answers that are due; without any it tells how long the first one takes.
func (n *nfcSession) pick() (at int, wait time.Duration) {
	now, due, soonest := time.Now(), []int{}, time.Time{}
	most := 1
	if n.server.now().Shuffle {
		most = 32
	}
	for i, a := range n.answers {
		if !a.due.After(now) {
			if due = append(due, i); len(due) == most {
				break
			}
		} else if soonest.IsZero() || a.due.Before(soonest) {
			soonest = a.due
		}
	}
	switch {
	case len(due) == 1:
		return due[0], 0
	case len(due) > 1:
		return due[n.server.intn(len(due))], 0
	case soonest.IsZero():
		return -1, 0
	}
	return -1, soonest.Sub(now)
}

// drain waits until everything has been sent.
func (n *nfcSession) drain() {
	for {
		n.mu.Lock()
		empty := len(n.answers) == 0 && !n.sending || n.broken != nil
		n.mu.Unlock()
		if empty {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// settle gives a read's memory back with its last fragment, before that is sent: the client may ask for more as
// soon as it has come.
func (n *nfcSession) settle(a *nfcAnswer) {
	if a.read == nil {
		return
	}
	a.read.count--
	if a.read.count == 0 {
		n.server.release(n, int64(a.read.head.total))
	}
}

func (n *nfcSession) closeRead(a *nfcAnswer) {
	if a.read != nil && a.read.count == 0 {
		a.read.file.readers.Done()
	}
}

func (n *nfcSession) transmit(a *nfcAnswer, buffer []byte) error {
	if a.frame != nil {
		_, err := n.conn.Write(a.frame)
		return err
	}
	read, dest := a.read, a.dest
	if read.kind == "lost-fragment" && read.sent == 0 {
		read.sent, read.kind = a.length, ""
		return nil
	}
	if read.kind == "twice" && read.first != nil && read.first.length == a.length {
		dest, read.kind = read.first.dest, ""
	}
	if read.first == nil {
		read.first = a
	}
	data := buffer[:a.length]
	if _, err := read.file.file.ReadAt(data, int64(read.head.offset)+int64(dest)); err != nil {
		log.Printf("nfc: read %s: %s", read.file.file.Name(), err)
		_, err := n.conn.Write(frameOf(nfcError, read.op, errorPayload(codeRefused), nil))
		return err
	}
	n.server.pace.wait(len(data))
	read.sent += a.length
	frame := n.fragment(read, dest, data)
	if read.kind == "close-mid" && read.sent*2 >= read.head.total {
		_, err := n.conn.Write(frame[:len(frame)/2])
		return first(err, errors.New("closed in mid-read on demand"))
	}
	_, err := n.conn.Write(frame)
	return err
}

// fragment makes the frame of a piece, with what a fault makes wrong in it.
func (n *nfcSession) fragment(read *nfcRead, dest uint32, data []byte) []byte {
	head := ioHead{verb: 1, offset: read.head.offset, total: read.head.total, dest: dest, plain: uint32(len(data))}
	if read.head.compression == nfcFastlz {
		if packed := fastlz.Compress(data, n.server.now().FastlzLevel); packed != nil {
			data, head.compression = packed, nfcFastlz
		}
	}
	switch read.kind {
	case "wrong-total":
		head.total++
	case "wrong-dest":
		head.dest = read.head.total - 1
		if head.plain == 1 {
			head.dest++
		}
	case "wrong-offset":
		head.offset += 512
	case "short":
		data = data[:len(data)/2]
	case "corrupt":
		if head.compression == nfcFastlz {
			data = append([]byte{0xff}, data[1:]...)
		}
	}
	if read.kind != "close-mid" && read.kind != "twice" {
		read.kind = ""
	}
	head.extra = uint32(len(data))
	return frameOf(nfcIO, read.op, head.bytes(), data)
}
